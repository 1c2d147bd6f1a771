"""Pools over real connections: processes that die, are throttled, refuse keys, speak other protocols."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from batchcall import (
    ExitCode,
    JobError,
    ResumeError,
    RunOptions,
    check_job,
    load_job,
    revalidate_job,
    run_job,
    verify_output,
)
from batchcall.job.endpoint import takes_any_name
from batchcall.job.model import request_identity, spoken_by
from batchcall.sandbox.process import SandboxProcess, Settings, open_sandbox
from running import TOOL, edit, results, some_rows, write_job, write_rows


def write_pool(folder: Path, endpoints: str, **more: object) -> Path:
    job = write_job(folder, **more)  # type: ignore[arg-type]
    edit(job, '[endpoint]\nurl = "sandbox"\n', endpoints)
    return job


def endpoint(url: str, **keys: object) -> str:
    written = "".join(f"{name} = {value!r}\n".replace("'", '"') for name, value in keys.items())
    return f'[[endpoint]]\nurl = "{url}"\n{written}\n'


@pytest.mark.alone  # it holds the rate of the two that live
async def test_one_dies_one_is_throttled_one_is_good_and_every_row_is_in(tmp_path: Path) -> None:
    async with (
        open_sandbox(Settings(latency_s=0.05)) as dying,
        open_sandbox(Settings(latency_s=0.05, requests_per_minute=300)) as throttled,
        open_sandbox(Settings(latency_s=0.05, requests_per_minute=1_800)) as good,
    ):
        endpoints = [
            endpoint(dying.url, requests_per_minute=1_800),
            endpoint(throttled.url),
            endpoint(good.url, requests_per_minute=1_800),
        ]
        job = write_pool(tmp_path, "".join(endpoints), rows=500, part_rows=1_000)
        began_s = time.monotonic()
        running = asyncio.create_task(run_job(job))
        await asyncio.sleep(3.0)
        os.kill(dying.pid, signal.SIGKILL)
        died_s = time.monotonic() - began_s

        summary = await running

        took_s = time.monotonic() - began_s
        refused = [(await one.ledger())["statuses"].get("429", 0) for one in (throttled, good)]
    by_endpoint = Counter(row["endpoint"] for row in results(tmp_path / "out"))
    assert summary.exit_code == ExitCode.OK
    assert Counter(row["status"] for row in results(tmp_path / "out")) == {"ok": 500}
    assert set(by_endpoint) == {dying.url, throttled.url, good.url}
    assert sum(refused) <= 10
    assert took_s <= (500 - 30 * died_s) / (30 + 5) * 1.1 + died_s + 1.0  # and a second to start and to publish
    assert verify_output(tmp_path / "out").is_proven


async def test_a_wrong_key_leaves_the_pool_after_one_request_and_the_job_ends_when_no_key_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOD_KEY", "good-key-of-the-pool")
    monkeypatch.setenv("BAD_KEY", "bad-key-of-the-pool")
    said: list[str] = []
    async with open_sandbox(Settings()) as good, open_sandbox(Settings(faults={"bad_key": 1.0})) as bad:
        pool = endpoint(bad.url, api_key="env:BAD_KEY") + endpoint(good.url, api_key="env:GOOD_KEY")
        job = write_pool(tmp_path, pool, rows=40)

        summary = await run_job(job, say=said.append)

        assert summary.exit_code == ExitCode.OK
        assert {row["endpoint"] for row in results(tmp_path / "out")} == {good.url}
        assert (await bad.ledger())["statuses"] == {"401": 1}
        assert [note for note in said if bad.url in note and "does not accept the key" in note]
        assert summary.as_json()["this_run"]["endpoints"][1] == {
            "endpoint": good.url, "requests": 40, "answered": 40, "left": None,
        }  # fmt: skip

        edit(job, f'"{good.url}"', f'"{bad.url}"')
        edit(job, "env:BAD_KEY", "env:OTHER_KEY")
        monkeypatch.setenv("OTHER_KEY", "another-bad-key")
        write_rows(tmp_path / "rows.jsonl", [{"id": "new", "text": "new"}])
        refused = await run_job(job)
    assert refused.exit_code == ExitCode.ENDPOINT_REFUSES
    assert refused.rows_here == 0
    assert "no endpoint is left" in refused.reason


async def test_several_keys_of_one_endpoint_are_each_asked_at_their_own_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_A", "first-key-of-the-pool")
    monkeypatch.setenv("KEY_B", "second-key-of-the-pool")
    async with open_sandbox(Settings()) as sandbox:
        keys = endpoint(sandbox.url, api_key=["env:KEY_A", "env:KEY_B"], requests_per_minute=600)
        job = write_pool(tmp_path, keys, rows=60)
        began_s = time.monotonic()

        await run_job(job)

        took_s = time.monotonic() - began_s
    assert Counter(row["endpoint"] for row in results(tmp_path / "out")) == pytest.approx(
        {f"{sandbox.url}#1": 30, f"{sandbox.url}#2": 30}, abs=4
    )
    assert took_s >= 0.9 * 60 / 20  # two accounts of ten a second


PROTOCOLS = ("openai-chat", "openai-responses", "anthropic", "gemini")


def url_of(sandbox: SandboxProcess, protocol: str) -> str:
    return sandbox.url.replace("/v1", "/v1beta") if protocol == "gemini" else sandbox.url


async def test_a_key_that_another_endpoint_of_the_pool_tells_back_is_nowhere_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"KEY_A": "first-key-of-the-pool", "KEY_B": "second-key-of-the-pool"}
    for name, key in keys.items():
        monkeypatch.setenv(name, key)

    async def tell_all(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"error": {"message": f"no: {' '.join(keys.values())}"}}, status=400)

    async with TestServer(_app(tell_all), host="127.0.0.1") as server:
        members = endpoint(f"{server.make_url('/v1')}", api_key=list(keys)).replace('"KEY', '"env:KEY')
        summary = await run_job(write_pool(tmp_path, members, limits='max_failed = "100%"'))

    assert {row["endpoint"][-2:] for row in results(tmp_path / "out")} == {"#1", "#2"}
    assert {row["error"] for row in results(tmp_path / "out")} == {"HTTP 400: no: *** ***"}
    assert "key-of-the-pool" not in f"{summary.as_json()}"


def _app(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    return app


async def test_endpoints_of_all_protocols_and_of_other_models_give_the_same_columns_and_are_read_again(
    tmp_path: Path,
) -> None:
    async with open_sandbox(Settings()) as sandbox:
        pool = "".join(
            endpoint(url_of(sandbox, protocol), protocol=protocol, model=f"model-{protocol}", requests_per_minute=600)
            for protocol in PROTOCOLS
        )
        prices = "".join(
            f'[prices."model-{protocol}"]\nprompt = {place + 1}\ncompletion = 0\n'
            for place, protocol in enumerate(PROTOCOLS)
        )
        job = write_pool(tmp_path, pool, rows=40, part_rows=10, more=prices, limits="max_cost = 5.0")

        summary = await run_job(job)

    rows = results(tmp_path / "out")
    assert summary.exit_code == ExitCode.OK
    assert {row["model"] for row in rows} == {f"model-{protocol}" for protocol in PROTOCOLS}
    assert len({row["request_hash"] for row in rows}) == 40
    for row in rows:
        per_million = PROTOCOLS.index(row["model"].removeprefix("model-")) + 1
        assert row["cost"] == pytest.approx(row["prompt_tokens"] * per_million / 1e6)
        assert row["repairs"] == []
    assert verify_output(tmp_path / "out").is_proven
    raw = pq.read_table(tmp_path / "out" / "_batchcall" / "answers" / "part-000000.answers").to_pylist()
    assert {row["protocol"] for row in raw} == set(PROTOCOLS)

    edit(tmp_path / "tool.json", '"maximum": 130', '"maximum": 131')
    anew = revalidate_job(load_job(job))
    assert (anew.rows, anew.changed) == (40, 0)
    again = results(tmp_path / "out")
    assert [(row["arguments"], row["cost"], row["repairs"]) for row in again] == [
        (row["arguments"], row["cost"], row["repairs"]) for row in rows
    ]


async def test_another_key_or_host_in_the_pool_asks_nothing_again_and_another_model_is_another_job(
    tmp_path: Path,
) -> None:
    async with open_sandbox(Settings()) as first, open_sandbox(Settings()) as second:
        job = write_pool(tmp_path, endpoint(first.url), rows=20)
        await run_job(job)
        edit(job, endpoint(first.url), endpoint(first.url) + endpoint(second.url))

        grown = await run_job(job)

        assert (grown.exit_code, grown.requests) == (ExitCode.OK, 0)
        edit(job, endpoint(second.url), endpoint(second.url, model="another-model"))
        with pytest.raises(Exception, match="holds 20 rows of another job") as refused:
            await run_job(job)
        assert "another-model" in str(refused.value)
        kept = await run_job(job, RunOptions(on_change="keep"))
        assert (kept.exit_code, kept.requests) == (ExitCode.OK, 0)


@pytest.mark.parametrize("key", ["endpoint.1.model", "endpoint.1.protocol", "request.model"])
async def test_a_typo_in_an_endpoint_that_brought_no_answer_is_corrected_without_asking_anything_again(
    tmp_path: Path, key: str
) -> None:
    async with open_sandbox(Settings()) as good, open_sandbox(Settings()) as other:
        typo = endpoint("http://127.0.0.1:9/v1", model="typo")
        corrected = {
            "endpoint.1.model": endpoint(other.url, model="right"),
            "endpoint.1.protocol": endpoint(other.url, model="typo", protocol="anthropic"),
            "request.model": endpoint(other.url),
        }
        job = write_pool(tmp_path, endpoint(good.url) + typo, rows=60)
        await run_job(job, RunOptions(limit=12))
        edit(job, typo, corrected[key])

        report = check_job(job)
        summary = await run_job(job)
        proof = verify_output(tmp_path / "out")

        assert (report.refusals, report.left) == ([], 48)
        assert (summary.exit_code, summary.requests) == (ExitCode.OK, 48)
        assert proof.is_proven, proof.faults


async def test_an_endpoint_that_brought_answers_is_protected_and_the_key_that_changed_is_named(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as first, open_sandbox(Settings()) as second:
        job = write_pool(tmp_path, endpoint(first.url) + endpoint(second.url, model="theirs"), rows=60)
        await run_job(job)
        edit(job, "theirs", "another")

        with pytest.raises(ResumeError, match=r'endpoint\.1\.model: "theirs" -> "another"') as refused:
            await run_job(job)

    assert {row["endpoint"] for row in results(tmp_path / "out")} == {first.url, second.url}
    assert "protocol:" not in str(refused.value)


def test_check_names_the_members_and_adds_up_their_rates(tmp_path: Path) -> None:
    pool = endpoint("https://a.example/v1", requests_per_minute=60, concurrency=1_000) + endpoint(
        "https://b.example/v1", requests_per_minute=120, model="their-model", concurrency="auto"
    )
    report = check_job(load_job(write_pool(tmp_path, pool, rows=180)))

    assert report.seconds == pytest.approx(60.0)
    assert report.endpoints == [
        "https://a.example/v1 (openai-chat, test-model)",
        "https://b.example/v1 (openai-chat, their-model)",
    ]


def test_what_one_protocol_of_a_pool_cannot_say_is_refused(tmp_path: Path) -> None:
    pool = endpoint("https://a.example/v1") + endpoint("https://b.example/v1", protocol="openai-responses")
    job = load_job(write_pool(tmp_path, pool, request="seed = 7"))

    with pytest.raises(JobError, match="openai-responses cannot express") as refused:
        check_job(job)

    assert "request.seed" in str(refused.value.faults)


async def test_an_endpoint_asks_for_its_own_model_whatever_the_rows_of_a_batch_file_say(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as first, open_sandbox(Settings()) as second:
        members = endpoint(first.url, model="theirs", requests_per_minute=600)
        members += endpoint(second.url, requests_per_minute=600)
        job = write_pool(tmp_path, members, rows=0, more='[prices."theirs"]\nprompt = 1\ncompletion = 0\n')
        edit(job, 'model = "test-model"\nprompt = "Who is this?\\n{{ text }}"\n', "")
        body = {"model": "the-rows-own", "messages": [{"role": "user", "content": "Who is Ada, aged 36?"}]}
        write_rows(tmp_path / "rows.jsonl", [{"custom_id": str(row), "body": body} for row in range(20)])

        summary = await run_job(job)

        assert summary.exit_code == ExitCode.OK
        rows = results(tmp_path / "out")
        assert {(row["endpoint"], row["model"]) for row in rows} == {
            (first.url, "theirs"),
            (second.url, "the-rows-own"),
        }
        assert all((row["cost"] is not None) == (row["model"] == "theirs") for row in rows)


@pytest.mark.parametrize("members", ["one", "two"])
def test_another_model_of_an_endpoint_is_another_job_for_a_batch_file_too(tmp_path: Path, members: str) -> None:
    pool = endpoint("https://a.example/v1", model="theirs")
    pool += endpoint("https://b.example/v1", model="theirs") if members == "two" else ""
    job = write_pool(tmp_path, pool)
    edit(job, 'model = "test-model"\nprompt = "Who is this?\\n{{ text }}"\n', "")
    before = request_identity(load_job(job))
    hashed_before = spoken_by(load_job(job))
    edit(job, '"theirs"', '"another"')

    assert request_identity(load_job(job)) != before
    assert spoken_by(load_job(job)) != hashed_before


def test_a_fault_names_the_place_in_the_job_file_where_an_endpoint_before_it_has_several_keys(tmp_path: Path) -> None:
    pool = endpoint("https://a.example/v1", api_key=["env:KEY_A", "env:KEY_B"]) + endpoint(
        "https://b.example/v1", api_key="no-reference"
    )

    with pytest.raises(JobError) as refused:
        load_job(write_pool(tmp_path, pool))

    assert [fault.partition(":")[0] for fault in refused.value.faults] == ["endpoint.1.api_key"]


async def test_a_tools_name_goes_out_as_it_is_and_mapped_only_where_the_endpoint_is_strict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, set[tuple[str, str]]] = {}

    async def answer(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        name = body["tools"][0]["function"]["name"]
        asked.setdefault(str(request.host).partition(":")[0], set()).add(
            (name, body["tool_choice"]["function"]["name"])
        )
        call = {"id": "c", "type": "function", "function": {"name": name, "arguments": '{"name": "Ada", "age": 36}'}}
        return web.json_response({"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "stop"}]})

    monkeypatch.setattr("batchcall.job.endpoint._STRICT_NAME_HOSTS", ("localhost",))
    tool = {"type": "function", "function": {**TOOL["function"], "name": "记录 人"}}
    async with TestServer(_app(answer), host="127.0.0.1") as server:
        local = f"http://localhost:{server.port}/v1"
        job = write_pool(tmp_path, endpoint(f"{server.make_url('/v1')}"), rows=4, tool=tool)
        assert check_job(job).warnings == []
        await run_job(job)
        edit(job, "[[endpoint]]", f'[[endpoint]]\nurl = "{local}"\n[[endpoint]]')
        mixed = await run_job(job)
        write_rows(tmp_path / "rows.jsonl", some_rows(30))
        await run_job(job)
        checked = check_job(job)

    assert mixed.requests == 0  # one more host asks nothing again
    assert asked == {"127.0.0.1": {("记录 人", "记录 人")}, "localhost": {("____", "____")}}
    assert {(row["status"], row["tool"]) for row in results(tmp_path / "out")} == {("ok", "记录 人")}
    assert {call["name"] for row in results(tmp_path / "out") for call in row["calls"]} == {"记录 人", "____"}
    (warning,) = checked.warnings
    assert "记录 人 as ____" in warning
    assert local in warning


@pytest.mark.parametrize(
    ("url", "takes_any"),
    [
        ("https://api.openai.com/v1", False),
        ("https://EU.api.openai.com/v1", False),
        ("https://mine.openai.azure.com/openai/v1", False),
        ("https://mine.services.ai.azure.com/openai/v1", False),
        ("https://api.anthropic.com/v1", False),
        ("https://generativelanguage.googleapis.com/v1beta", False),
        ("https://api.deepseek.com/v1", True),
        ("https://api.openai.com.example/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("sandbox", True),
    ],
)
def test_who_is_strict_about_names_is_known_by_the_host(url: str, takes_any: bool) -> None:
    assert takes_any_name(url) is takes_any
