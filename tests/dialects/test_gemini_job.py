"""A job that changes nothing but its protocol, to gemini."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from answering import serving
from asking_gemini import quoted
from batchcall import run_job
from running import TOOL, results, write_rows

ARGUMENTS = {"name": "Ada", "age": 36, "languages": ["en"], "address": {"city": "London", "zip": None}}
ANSWERS: dict[str, Any] = {
    "openai-chat": {
        "id": "r-1",
        "model": "m-1",
        "choices": [
            {
                "message": {"tool_calls": [quoted("record_person", json.dumps(ARGUMENTS), "c-1")]},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    },
    "gemini": {
        "responseId": "r-1",
        "modelVersion": "m-1",
        "candidates": [
            {
                "content": {"parts": [{"functionCall": {"id": "c-1", "name": "record_person", "args": ARGUMENTS}}]},
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
    },
}


async def test_the_same_job_gives_the_same_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "k-123456")
    folders = {protocol: new_folder(tmp_path / protocol) for protocol in ANSWERS}
    rows = {protocol: await ran(folder, protocol, {}) for protocol, folder in folders.items()}

    (chat, _), (gemini, (asked,)) = rows["openai-chat"], rows["gemini"]
    varying = {"finish_reason", "request_hash", "endpoint", "latency_s", "wait_s", "finished_at", "calls"}
    assert {k: v for k, v in gemini.items() if k not in varying} == {k: v for k, v in chat.items() if k not in varying}
    assert gemini["status"] == "ok"
    assert gemini["arguments"] == ARGUMENTS
    assert gemini["repairs"] == []
    assert asked.path_qs == "/v1beta/models/gemini-2.5-flash:generateContent"
    assert asked.headers["x-goog-api-key"] == "k-123456"
    assert "Authorization" not in asked.headers


async def test_a_streaming_job_asks_for_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "k-123456")

    row, (asked,) = await ran(tmp_path, "gemini", {"stream": True}, query="?tenant=a")

    assert asked.path_qs == "/v1beta/models/gemini-2.5-flash:streamGenerateContent?tenant=a&alt=sse"
    assert row["status"] == "ok"


async def ran(
    folder: Path, protocol: str, request: dict[str, Any], query: str = ""
) -> tuple[dict[str, Any], list[Any]]:
    """The one row of a job in that protocol, and what its endpoint was asked."""
    asked: list[Any] = []
    write_rows(folder / "rows.jsonl", [{"text": "Ada, 36"}])
    (folder / "tool.json").write_text(json.dumps(TOOL))
    more = "\n".join(f"{name} = {json.dumps(value)}" for name, value in request.items())
    async with endpoint(ANSWERS[protocol], asked) as url:
        (folder / "job.toml").write_text(
            f'[input]\npath = "rows.jsonl"\n[endpoint]\nurl = "{url}{query}"\nprotocol = "{protocol}"\n'
            f'api_key = "env:SOME_KEY"\n[request]\nmodel = "gemini-2.5-flash"\nprompt = "{{{{ text }}}}"\n'
            f'temperature = 0\nmax_tokens = 500\n{more}\n[[tool]]\nfile = "tool.json"\n[output]\npath = "out"\n'
        )
        await run_job(folder / "job.toml")
    (row,) = results(folder / "out")
    return row, asked


def new_folder(path: Path) -> Path:
    path.mkdir()
    return path


@contextlib.asynccontextmanager
async def endpoint(answer: Any, asked: list[Any]) -> AsyncIterator[str]:
    async def handle(request: web.BaseRequest) -> web.Response:
        asked.append(request)
        body = orjson.dumps(answer)
        if "alt=sse" in request.path_qs:
            return web.Response(body=b"data: " + body + b"\r\n\r\n", content_type="text/event-stream")
        return web.Response(body=body, content_type="application/json")

    async with serving(handle) as url:
        yield f"{url}/v1beta"
