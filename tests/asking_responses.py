"""Requests to the responses protocol in tests, held against the vendor's description, and its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from batchcall.base.records import Failure, HttpResponse, Json, Reply, Request, Shape, Tool
from batchcall.dialects import DIALECTS
from documents import faults_of

GOLDEN = Path(__file__).parent / "dialects/openai_responses"
RESPONSES = DIALECTS["openai-responses"]
CHAT = DIALECTS["openai-chat"]

SCHEMA: dict[str, Json] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STRICT: dict[str, Json] = {**SCHEMA, "additionalProperties": False}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}
CALLED = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city":"Paris"}'}


def tool(name: str = "get_weather", schema: Any = None, **more: Any) -> Tool:
    parameters = SCHEMA if schema is None else schema
    written = {"type": "function", "function": {"name": name, "parameters": parameters, **more}}
    return Tool(name, parameters, written)


def ask(*messages: Any, tools: tuple[Tool, ...] = (), tool_choice: Json = None, **parameters: Any) -> Request:
    return Request(Shape("gpt-5.4", tools, tool_choice, parameters), list(messages) or [user("Hi")])


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def body_of(request: Request, protocol: str = "openai-responses") -> dict[str, Any]:
    """What is sent, once it is found to be right by the vendor's document."""
    body: dict[str, Any] = json.loads(DIALECTS[protocol].encode(request).body)
    assert faults_of(protocol, body) == []
    return body


def sent(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(RESPONSES.encode(request).body)
    return body


def decode(body: bytes, status: int = 200) -> Reply | Failure:
    return RESPONSES.decode(HttpResponse(status, {}, body), now_s=0.0)
