"""A job that changes its protocol to anthropic and nothing else: the same columns, from another vendor's answer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from answering import serving
from batchcall import run_job
from running import results, write_rows

JOB = """
[input]
path = "rows.jsonl"
[endpoint]
url = "{url}"
protocol = "{protocol}"
api_key = "env:SOME_KEY"
[request]
model = "m"
system = "You read receipts."
prompt = "Receipt: {{{{ text }}}}"
temperature = 0
[[tool]]
name = "record"
parameters = {{ type = "object", properties = {{ total = {{ type = "integer" }} }}, required = ["total"] }}
[validate]
reask = 1
[output]
path = "{protocol}"
"""
ARGUMENTS: list[dict[str, Any]] = [{"total": "much"}, {"total": 2**62 + 1}]  # the second answers being asked again


def as_completion(arguments: dict[str, Any]) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "record", "arguments": json.dumps(arguments)}}
    return {
        "id": "answer_1",
        "model": "m-1",
        "choices": [{"message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def as_message(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "answer_1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [{"type": "tool_use", "id": "call_1", "name": "record", "input": arguments}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 4, "cache_read_input_tokens": 6, "output_tokens": 5},
    }


@contextlib.asynccontextmanager
async def endpoint(answers: list[dict[str, Any]], asked: list[tuple[str, Any, Any]]) -> AsyncIterator[str]:
    """Gives each answer once, in order, and keeps what it was asked."""

    async def handle(request: web.BaseRequest) -> web.Response:
        asked.append((request.path, request.headers, await request.json()))
        return web.json_response(answers[len(asked) - 1])

    async with serving(handle) as url:
        yield f"{url}/v1"


async def test_the_protocol_changes_and_the_columns_do_not(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SOME_KEY", "k-1")
    write_rows(tmp_path / "rows.jsonl", [{"text": "2 coffees"}])
    asked: dict[str, list[tuple[str, Any, Any]]] = {}
    rows = {}
    for protocol, form in (("openai-chat", as_completion), ("anthropic", as_message)):
        async with endpoint([form(arguments) for arguments in ARGUMENTS], asked.setdefault(protocol, [])) as url:
            (tmp_path / "job.toml").write_text(JOB.format(url=url, protocol=protocol))
            await run_job(tmp_path / "job.toml")
        (rows[protocol],) = results(tmp_path / protocol)

    chat, claude = rows["openai-chat"], rows["anthropic"]
    assert (claude["status"], claude["arguments"], claude["repairs"]) == ("ok", {"total": 2**62 + 1}, [])
    same = set(chat) - {"calls", "finish_reason", "cached_tokens", "latency_s", "wait_s", "endpoint", "request_hash"}
    assert {name for name in same if chat[name] != claude[name]} <= {"finished_at"}
    assert (claude["finish_reason"], claude["cached_tokens"], claude["attempts"]) == ("tool_use", 12, 2)

    (path, headers, first), (_, _, again) = asked["anthropic"]
    assert path == "/v1/messages"
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("k-1", "2023-06-01")
    assert "Authorization" not in headers
    assert first["system"] == "You read receipts."
    assert first["tool_choice"] == {"type": "tool", "name": "record"}
    assert [turn["role"] for turn in again["messages"]] == ["user", "assistant", "user"]
