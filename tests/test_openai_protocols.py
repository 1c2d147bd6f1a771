"""OpenAI's two protocols, at OpenAI and at Azure: the same job, another protocol, the same columns."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from answering import serving
from batchcall import run_job
from batchcall.base.errors import JobError
from batchcall.commands.check import check_job
from batchcall.job.endpoint import request_url
from batchcall.job.model import load_job
from running import TOOL, batchcall, results, write_job

PERSON = '{"name":"Ada","age":36}'
COUNTS = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
ANSWERS: dict[str, Any] = {
    "/chat/completions": {
        "id": "x",
        "model": "m",
        "choices": [
            {
                "message": {
                    "content": None,
                    "tool_calls": [{"id": "call_1", "function": {"name": "record_person", "arguments": PERSON}}],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": COUNTS,
    },
    "/responses": {
        "id": "x",
        "object": "response",
        "status": "completed",
        "model": "m",
        "output": [{"type": "function_call", "call_id": "call_1", "name": "record_person", "arguments": PERSON}],
        "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12},
    },
}


@contextlib.asynccontextmanager
async def endpoint(asked: list[web.BaseRequest]) -> AsyncIterator[str]:
    """Answers in the protocol that the path belongs to."""

    async def handle(request: web.BaseRequest) -> web.Response:
        asked.append(request)
        await request.read()
        return web.json_response(next(answer for path, answer in ANSWERS.items() if request.path.endswith(path)))

    async with serving(handle) as url:
        yield url


async def test_another_protocol_gives_the_same_columns(tmp_path: Path) -> None:
    outputs = []
    async with endpoint([]) as url:
        for protocol in ("openai-chat", "openai-responses"):
            job = write_job(tmp_path / protocol, url=f"{url}/v1", endpoint=f'protocol = "{protocol}"', rows=3)
            await run_job(job)
            outputs.append(results(job.parent / "out"))

    apart = {"finish_reason", "request_hash", "finished_at", "latency_s", "wait_s"}
    chat, responses = ([{k: row[k] for k in row.keys() - apart} for row in rows] for rows in outputs)
    assert chat == responses
    assert [row["status"] for row in responses] == ["ok"] * 3
    assert {row["finish_reason"] for row in outputs[1]} == {"completed"}


# What a protocol cannot say

STRICT = {"type": "function", "function": {**TOOL["function"], "strict": True}}
UNSPEAKABLE = 'seed = 7\nn = 2\nlogit_bias = { "50256" = -100 }'


async def test_all_that_a_protocol_cannot_say_is_reported_before_anything_is_sent(tmp_path: Path) -> None:
    asked: list[web.BaseRequest] = []
    async with endpoint(asked) as url:
        protocol = 'protocol = "openai-responses"'
        job = load_job(write_job(tmp_path, url=f"{url}/v1", endpoint=protocol, request=UNSPEAKABLE, tool=STRICT))
        with pytest.raises(JobError) as of_check:
            check_job(job)
        with pytest.raises(JobError) as of_run:
            await run_job(job)

    assert of_check.value.faults == of_run.value.faults
    told = [fault.partition(": ")[0] for fault in of_run.value.faults]
    assert told[:3] == ["request.seed", "request.n", "request.logit_bias"]
    assert "tool.record_person.parameters.additionalProperties" in told
    assert "tool.record_person.parameters.properties.address.required" in told
    assert asked == []
    assert not (tmp_path / "out").exists()


def test_chat_completions_refuse_nothing_but_a_strict_tool_that_is_not(tmp_path: Path) -> None:
    said = write_job(tmp_path / "said", request=UNSPEAKABLE)
    strict = write_job(tmp_path / "strict", tool=STRICT)

    assert check_job(load_job(said)).first_request is not None
    with pytest.raises(JobError) as refused:
        check_job(load_job(strict))
    assert all(fault.startswith("tool.record_person.parameters.") for fault in refused.value.faults)


def test_the_command_lists_what_cannot_be_said_and_ends_with_2(tmp_path: Path) -> None:
    job = write_job(
        tmp_path, url="https://api.example.invalid/v1", endpoint='protocol = "openai-responses"', request=UNSPEAKABLE
    )

    refused = batchcall("check", job)

    assert refused.returncode == 2
    assert "request.seed: the Responses API does not accept this parameter; remove it" in refused.stderr
    assert "request.logit_bias" in refused.stderr


def test_rows_that_bring_everything_themselves_are_the_endpoints_to_judge(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    row = {"custom_id": "1", "body": {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "seed": 7}}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    job.write_text(
        '[input]\npath = "rows.jsonl"\n[output]\npath = "out"\n'
        '[endpoint]\nurl = "https://h/v1"\nprotocol = "openai-responses"\n'
    )

    shown = check_job(load_job(job)).first_request

    assert shown is not None
    assert shown["url"] == "https://h/v1/responses"
    assert shown["body"]["seed"] == 7


def test_a_row_may_bring_input_items_as_its_messages(tmp_path: Path) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "function_call", "call_id": "c", "name": "record_person", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "done"},
    ]
    job = tmp_path / "job.toml"
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": json.dumps(items)}))
    job.write_text(
        '[input]\npath = "rows.jsonl"\n[output]\npath = "out"\n'
        '[request]\nmodel = "m"\ncolumns = { messages = "messages" }\n'
        '[endpoint]\nurl = "https://h/v1"\nprotocol = "openai-responses"\n'
    )

    shown = check_job(load_job(job)).first_request

    assert shown is not None
    assert shown["body"]["input"] == items


# URLs

DEPLOYMENT = "https://acme.openai.azure.com/openai/deployments/gpt-4o?api-version=2024-10-21"


@pytest.mark.parametrize(
    ("url", "protocol", "expected"),
    [
        (
            DEPLOYMENT,
            "openai-chat",
            "https://acme.openai.azure.com/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        ),
        (
            DEPLOYMENT.replace("?", "/?"),
            "openai-chat",
            "https://acme.openai.azure.com/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://acme.openai.azure.com/openai/v1/",
            "openai-chat",
            "https://acme.openai.azure.com/openai/v1/chat/completions",
        ),
        (
            "https://acme.openai.azure.com/openai/v1",
            "openai-responses",
            "https://acme.openai.azure.com/openai/v1/responses",
        ),
        (
            "https://acme.openai.azure.com/openai?api-version=2025-04-01-preview",
            "openai-responses",
            "https://acme.openai.azure.com/openai/responses?api-version=2025-04-01-preview",
        ),
        (
            "https://acme.services.ai.azure.com/openai/v1",
            "openai-responses",
            "https://acme.services.ai.azure.com/openai/v1/responses",
        ),
        (
            "https://acme.cognitiveservices.azure.com/openai/v1?api-version=preview",
            "openai-responses",
            "https://acme.cognitiveservices.azure.com/openai/v1/responses?api-version=preview",
        ),
    ],
)
def test_azures_urls_are_taken_as_they_are_pasted(
    tmp_path: Path, url: str, protocol: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "canary-1")
    written = f'protocol = "{protocol}"\napi_key = "env:TEST_KEY"'

    shown = check_job(load_job(write_job(tmp_path, url=url, endpoint=written))).first_request

    assert shown is not None
    assert shown["url"] == expected
    assert shown["headers"]["api-key"] == "***"
    assert "Authorization" not in shown["headers"]


@pytest.mark.parametrize(
    ("url", "auth", "header"),
    [
        (DEPLOYMENT, 'auth = "bearer"', "Authorization"),
        (DEPLOYMENT, 'auth = "header:Ocp-Apim-Subscription-Key"', "Ocp-Apim-Subscription-Key"),
        ("https://gateway.example.com/openai/v1", 'auth = "api-key"', "api-key"),
        ("https://api.openai.com/v1", "", "Authorization"),
        ("https://acme.openai.azure.com.example.net/openai/v1", "", "Authorization"),
        ("https://example.net/.openai.azure.com/v1", "", "Authorization"),
    ],
)
def test_what_the_job_says_of_the_key_counts_and_the_host_alone_decides_else(
    tmp_path: Path, url: str, auth: str, header: str
) -> None:
    written = f'api_key = "env:TEST_KEY"\n{auth}'

    shown = check_job(load_job(write_job(tmp_path, url=url, endpoint=written))).first_request

    assert shown is not None
    assert "***" in shown["headers"][header]
    assert ("api-key" in shown["headers"]) == (header == "api-key")


@pytest.mark.parametrize(
    ("url", "protocol", "told"),
    [
        ("https://api.openai.com/v1/responses", "openai-responses", "leave out /responses"),
        ("https://api.openai.com/v1/responses/", "openai-chat", "leave out /responses"),
        (DEPLOYMENT.replace("?", "/chat/completions?"), "openai-chat", "leave out /chat/completions"),
        (DEPLOYMENT, "openai-responses", "under /openai/v1"),
    ],
)
def test_a_url_that_cannot_be_meant_is_a_fault(tmp_path: Path, url: str, protocol: str, told: str) -> None:
    with pytest.raises(JobError) as refused:
        load_job(write_job(tmp_path, url=url, endpoint=f'protocol = "{protocol}"'))

    (fault,) = refused.value.faults
    assert fault.startswith("endpoint.url: ")
    assert told in fault


async def test_a_deployments_query_and_key_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "canary-1")
    asked: list[web.BaseRequest] = []
    async with endpoint(asked) as url:
        deployment = f"{url}/openai/deployments/gpt-4o?api-version=2024-10-21"
        job = write_job(tmp_path, url=deployment, endpoint='auth = "api-key"\napi_key = "env:TEST_KEY"', rows=1)
        summary = await run_job(job)

    assert summary.exit_code == 0
    assert asked[0].path_qs == "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    assert asked[0].headers["api-key"] == "canary-1"
    assert "Authorization" not in asked[0].headers
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"canary-1" not in written


@pytest.mark.parametrize(
    ("url", "path", "expected"),
    [
        ("https://h/v1", "/responses", "https://h/v1/responses"),
        ("https://h/v1/#top", "/responses", "https://h/v1/responses"),
        ("https://h", "/responses", "https://h/responses"),
        ("https://h/a%2Fb?x=1&y=%20", "/c", "https://h/a%2Fb/c?x=1&y=%20"),
        ("https://h/v1?x=1", "/models/m:stream?alt=sse", "https://h/v1/models/m:stream?x=1&alt=sse"),
        ("https://h/v1", "/models/m:stream?alt=sse", "https://h/v1/models/m:stream?alt=sse"),
    ],
)
def test_the_path_goes_before_the_query(url: str, path: str, expected: str) -> None:
    assert request_url(url, path) == expected
