"""Requests to Claude in tests, held against the vendor's description, and its answers."""

from __future__ import annotations

import json
from typing import Any

from batchcall.base.records import Failure, HttpResponse, Reply, Request, Shape, Tool
from batchcall.dialects import DIALECTS
from documents import faults_of

CLAUDE = DIALECTS["anthropic"]

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
TOOL = Tool("f", SCHEMA, {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}})
USER: dict[str, Any] = {"role": "user", "content": "Weather?"}
MARK: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}


def sent(messages: list[Any], shape: Shape | None = None, *, is_documented: bool = True) -> dict[str, Any]:
    """The body of a request, which passes the vendor's schema."""
    http = CLAUDE.encode(Request(shape or Shape("m"), messages))
    body: dict[str, Any] = json.loads(http.body)
    assert http.path == "/messages"
    if is_documented:
        assert faults_of("anthropic", body) == []
    return body


def sent_with(*, is_documented: bool = True, **parameters: Any) -> dict[str, Any]:
    """The body of a request with these parameters."""
    return sent([USER], Shape("m", parameters=parameters), is_documented=is_documented)


def message(content: list[Any], stop_reason: str = "tool_use", **more: Any) -> dict[str, Any]:
    counts = {"input_tokens": 3, "output_tokens": 4}
    ends = {"stop_reason": stop_reason, "stop_sequence": None}
    whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content}
    return {**whole, **ends, "usage": counts, **more}


def use(input_: Any, name: str = "f") -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": input_}


def decode(body: bytes, *, status: int = 200) -> Reply | Failure:
    return CLAUDE.decode(HttpResponse(status, {}, body), now_s=0.0)
