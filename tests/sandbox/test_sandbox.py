"""The embedded endpoint over loopback: what it answers, how it goes wrong, what it bills, when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from batchcall.answers.arguments import Toolbox
from batchcall.base.errors import BatchcallError, JobError
from batchcall.base.records import Failure, FailureKind, HttpResponse, Status, Tool
from batchcall.dialects import DIALECTS
from batchcall.pipeline.run import run_job
from batchcall.sandbox.faults import FAULTS
from batchcall.sandbox.process import SandboxProcess, Settings, open_sandbox
from batchcall.sandbox.settings import describe_faults, parse_faults
from forked import really_launched
from running import TOOL, write_job
from vendors import serving

PARAMETERS = TOOL["function"]["parameters"]
TOOLBOX = Toolbox.of([Tool("record_person", PARAMETERS, TOOL)])
REQUEST: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Name: Ada\nAge: 36"}],
    "tools": [TOOL],
    "tool_choice": "required",
}


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def post(url: str, request: Any = None, **headers: str) -> Got:
    """One POST that decodes nothing and follows nothing."""
    body = request if isinstance(request, bytes) else json.dumps(REQUEST if request is None else request).encode()
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(f"{url}/chat/completions", data=body, headers=headers, allow_redirects=False) as response,
    ):
        named = {name.lower(): value for name, value in response.headers.items()}
        return Got(response.status, named, await response.read())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plain() -> AsyncIterator[SandboxProcess]:
    async with open_sandbox(Settings()) as sandbox:
        yield sandbox


@pytest.mark.asyncio(loop_scope="module")
async def test_it_calls_the_tool_with_arguments_that_the_schema_allows(plain: SandboxProcess) -> None:
    got = await post(plain.url)

    reply = DIALECTS["openai-chat"].decode(HttpResponse(200, {}, got.body), now_s=0.0)
    assert not isinstance(reply, Failure)
    reading = TOOLBOX.read(reply, repair=False, coerce=False, max_tokens=None)
    assert (reading.status, reading.tool) == (Status.OK, "record_person")
    assert isinstance(reading.arguments, dict)
    assert (reading.arguments["name"], reading.arguments["age"]) == ("Ada", 36)
    assert got.json["model"] == "m"
    usage = got.json["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 50


@pytest.mark.asyncio(loop_scope="module")
async def test_the_same_request_gets_the_same_answer_under_a_new_id(plain: SandboxProcess) -> None:
    first, second = (await post(plain.url)).json, (await post(plain.url)).json

    assert first.pop("id") != second.pop("id")
    assert first == second


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"tool_choice": "none"}, ("stop", False, True)),
        ({"tool_choice": "auto"}, ("tool_calls", True, False)),
        ({"tool_choice": {"type": "function", "function": {"name": "record_person"}}}, ("tool_calls", True, False)),
        ({"tools": None, "tool_choice": None}, ("stop", False, True)),
        ({"max_tokens": 3}, ("length", True, False)),
    ],
)
async def test_what_is_asked_for_is_what_comes(plain: SandboxProcess, change: Any, expected: Any) -> None:
    asked = {key: value for key, value in {**REQUEST, **change}.items() if value is not None}

    choice = (await post(plain.url, asked)).json["choices"][0]

    message = choice["message"]
    assert (choice["finish_reason"], bool(message.get("tool_calls")), bool(message.get("content"))) == expected


@pytest.mark.asyncio(loop_scope="module")
async def test_legacy_functions_get_a_legacy_call_and_n_gets_n_choices(plain: SandboxProcess) -> None:
    legacy = {key: REQUEST[key] for key in ("model", "messages")} | {"functions": [TOOL["function"]], "n": 3}

    choices = (await post(plain.url, legacy)).json["choices"]

    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert {choice["finish_reason"] for choice in choices} == {"function_call"}
    assert choices[0]["message"]["function_call"]["name"] == "record_person"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_json_schema_response_format_gets_json(plain: SandboxProcess) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    asked = {key: REQUEST[key] for key in ("model", "messages")}
    asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema}}

    content = (await post(plain.url, asked)).json["choices"][0]["message"]["content"]

    assert isinstance(json.loads(content)["city"], str)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_stream_says_the_same_as_an_answer_in_one_piece(plain: SandboxProcess) -> None:
    whole = await post(plain.url)
    streamed = await post(plain.url, {**REQUEST, "stream": True, "stream_options": {"include_usage": True}})

    dialect = DIALECTS["openai-chat"]
    one = dialect.decode(HttpResponse(200, {}, whole.body), now_s=0.0)
    other = dialect.decode(HttpResponse(200, {}, streamed.body), now_s=0.0)

    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert not isinstance(one, Failure)
    assert not isinstance(other, Failure)
    assert [call.name for call in other.calls] == [call.name for call in one.calls]
    assert other.usage.prompt_tokens is not None


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"model": "m"}', b'{"messages": [{"role": "user"}]}', b'{"model": "m", "messages": []}']
)
async def test_a_request_that_is_none_gets_400_in_the_envelope(plain: SandboxProcess, body: bytes) -> None:
    got = await post(plain.url, body)

    assert got.status == 400
    assert got.json["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "header", [{"Authorization": "Bearer k1"}, {"x-api-key": "k1"}, {"x-goog-api-key": "k1"}, {"api-key": "k1"}]
)
async def test_only_the_right_key_is_served_and_a_wrong_one_is_not_billed(header: dict[str, str]) -> None:
    async with open_sandbox(Settings(api_key="k1")) as sandbox:
        good = await post(sandbox.url, None, **header)
        bad = await post(sandbox.url, None, Authorization="Bearer k2")
        ledger = await sandbox.ledger()

    assert (good.status, bad.status) == (200, 401)
    assert bad.json["error"]["code"] == "invalid_api_key"
    assert (ledger["requests"], ledger["billed"], ledger["statuses"]) == (2, 1, {"200": 1, "401": 1})
    assert ledger["billed_tokens"] == good.json["usage"]["total_tokens"]


async def test_limits_are_kept_and_reported_as_they_are() -> None:
    async with open_sandbox(Settings(requests_per_minute=5)) as sandbox:
        got = [await post(sandbox.url) for _ in range(7)]

    assert [one.status for one in got] == [200] * 5 + [429] * 2
    assert [one.headers["x-ratelimit-remaining-requests"] for one in got[:5]] == ["4", "3", "2", "1", "0"]
    assert got[0].headers["x-ratelimit-limit-requests"] == "5"
    assert 1 <= int(got[5].headers["retry-after"]) <= 12
    assert got[5].json["error"]["code"] == "rate_limit_exceeded"


READ: dict[str, Any] = {  # what batchcall makes of each fault, where it is not a good answer
    "rate_limited": FailureKind.RATE_LIMITED,
    "rate_limited_bare": FailureKind.RATE_LIMITED,
    "relay_saturated": FailureKind.RATE_LIMITED,
    "quota": FailureKind.NO_QUOTA,
    "relay_quota": FailureKind.NO_QUOTA,
    "bad_key": FailureKind.BAD_KEY,
    "echoes_bad_key": FailureKind.BAD_KEY,
    "echoes_key": FailureKind.REJECTED,
    "unknown_model": FailureKind.UNKNOWN_MODEL,
    "no_channel": FailureKind.UNKNOWN_MODEL,
    "overloaded": FailureKind.OVERLOADED,
    "overloaded_529": FailureKind.OVERLOADED,
    "loading_model": FailureKind.OVERLOADED,
    "channel_failed": FailureKind.RELAY_ERROR,
    "cloudflare_1015": FailureKind.RATE_LIMITED,
    "redirect": FailureKind.REDIRECTED,
    "context_length": FailureKind.REJECTED,
    "content_filter": FailureKind.FILTERED,
    "sensitive_words": FailureKind.FILTERED,
    "invalid_request_500": FailureKind.REJECTED,
    "unprocessable": FailureKind.REJECTED,
    "server_error": FailureKind.SERVER_ERROR,
    "bad_gateway": FailureKind.SERVER_ERROR,
    "gateway_timeout": FailureKind.SERVER_ERROR,
    "html_200": FailureKind.UNREADABLE,
    "error_in_200": FailureKind.SERVER_ERROR,
    "choices_null": FailureKind.UNREADABLE,
    "choices_empty": FailureKind.UNREADABLE,
    "choices_missing": FailureKind.UNREADABLE,
    "nan": Status.BAD_JSON,
    "deep_json": Status.BAD_JSON,
    "invalid_schema_arguments": Status.INVALID_ARGUMENTS,
    "arguments_empty": Status.BAD_JSON,
    "arguments_null": Status.BAD_JSON,
    "truncated": Status.TRUNCATED,
    "unknown_tool": Status.UNKNOWN_TOOL,
    "no_call": Status.NO_CALL,
    "refusal": Status.REFUSED,
}
BROKEN_OFF = {"disconnect_before", "disconnect_mid_body"}
WITHOUT_END = {"hang"}


@pytest.mark.parametrize("name", sorted(set(FAULTS) - BROKEN_OFF - WITHOUT_END))
async def test_a_fault_is_what_its_name_says(name: str) -> None:
    async with serving(Settings(faults={name: 1.0})) as url:
        got = await post(url)

    headers = {key: value for key, value in got.headers.items() if key != "content-encoding"}
    body = gzip.decompress(got.body) if got.body[:2] == b"\x1f\x8b" else got.body  # as the transport does
    read = DIALECTS["openai-chat"].decode(HttpResponse(got.status, headers, body), now_s=0.0)
    if isinstance(read, Failure):
        assert read.kind is READ.get(name)
    else:
        reading = TOOLBOX.read(read, repair=True, coerce=False, max_tokens=None)
        assert reading.status is READ.get(name, Status.OK)


@pytest.mark.parametrize("name", sorted(BROKEN_OFF))
async def test_a_connection_that_breaks_off_breaks_off(name: str) -> None:
    async with serving(Settings(faults={name: 1.0})) as url:
        with pytest.raises(aiohttp.ClientError):
            await post(url)


async def test_what_breaks_off_midway_was_billed_and_what_was_refused_was_not() -> None:
    async with open_sandbox(Settings(faults={"disconnect_mid_body": 1.0})) as sandbox:
        with contextlib.suppress(aiohttp.ClientError):
            await post(sandbox.url)
        billed = (await sandbox.ledger())["billed"]
    async with open_sandbox(Settings(faults={"overloaded": 1.0})) as sandbox:
        await post(sandbox.url)
        refused = (await sandbox.ledger())["billed"]

    assert (billed, refused) == (1, 0)


async def test_a_share_of_requests_goes_wrong_and_a_retry_may_not() -> None:
    async with open_sandbox(Settings(faults={"overloaded": 0.5})) as sandbox:
        asked = [{**REQUEST, "user": str(number)} for number in range(60)]
        first = [(await post(sandbox.url, one)).status for one in asked]
        again = [(await post(sandbox.url, one)).status for one in asked]

    assert 15 <= first.count(503) <= 45
    assert any(a == 503 and b == 200 for a, b in zip(first, again, strict=True))


async def test_modules_that_lie_in_the_folder_where_it_is_started_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "random", "aiohttp", "batchcall"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of that name, from wherever the data is from')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("batchcall.sandbox.process._launched", really_launched)

    async with open_sandbox(Settings()) as sandbox:
        assert (await post(sandbox.url)).status == 200


async def test_a_python_that_cannot_be_run_is_reported_as_that_and_not_as_a_fault_of_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(tmp_path)
    monkeypatch.setattr("batchcall.sandbox.process._launched", really_launched)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "tool.json"))

    with pytest.raises(BatchcallError) as refused:
        await run_job(job)

    assert str(refused.value) == (
        f"the embedded endpoint cannot be started with {tmp_path / 'tool.json'}: Permission denied"
    )
    assert "Python" in refused.value.hint


async def test_it_ends_when_the_one_who_started_it_is_gone() -> None:
    words = [sys.executable, "-m", "batchcall.sandbox", "{}"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: ASYNC220  # a moment
    assert process.stdin is not None
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    assert told["pid"] == process.pid

    process.stdin.close()  # what the kernel does when the parent is killed

    assert await asyncio.to_thread(process.wait, 10) == 0
    process.stdout.close()


async def test_without_a_pipe_on_stdin_it_serves_until_a_signal_comes() -> None:
    words = [sys.executable, "-m", "batchcall.sandbox", "{}"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)  # noqa: ASYNC220  # as cron
    assert process.stdout is not None
    told = json.loads(process.stdout.readline() or b"{}")

    try:
        assert (await post(told["url"])).status == 200
    finally:
        process.terminate()

    assert await asyncio.to_thread(process.wait, 10) == 0
    process.stdout.close()


async def test_it_listens_on_this_machine_only(plain_url: str) -> None:
    assert plain_url.startswith("http://127.0.0.1:")


@pytest_asyncio.fixture
async def plain_url(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.setattr("batchcall.sandbox.process._launched", really_launched)
    async with open_sandbox(Settings()) as sandbox:
        assert sandbox.pid != os.getpid()
        yield sandbox.url


def test_a_fault_nobody_knows_is_refused_with_a_suggestion() -> None:
    with pytest.raises(JobError) as refused:
        Settings(faults={"rate_limitd": 0.1})

    assert "rate_limited" in refused.value.hint
    with pytest.raises(JobError):
        parse_faults(["no_call=often"])
    assert all(name in describe_faults() for name in FAULTS)
