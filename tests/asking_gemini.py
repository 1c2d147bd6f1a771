"""Requests to Gemini in tests, held against the vendor's description, and its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson

from batchcall.base.records import Failure, HttpResponse, Json, Reply, Request, Shape, Tool
from batchcall.dialects import DIALECTS
from documents import faults_of

GOLDEN = sorted((Path(__file__).parent / "dialects/gemini").glob("*.json"))
GEMINI = DIALECTS["gemini"]
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city"],
    "additionalProperties": False,
}
HELLO: list[Json] = [{"role": "user", "content": "Hello"}]


def quoted(name: str, arguments: Any, id_: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def encoded(shape: Shape, messages: list[Json] = HELLO) -> Any:
    """The body as it is sent, held against the vendor's description where that is at hand."""
    body = orjson.loads(GEMINI.encode(Request(shape, messages)).body)
    assert faults_of("gemini", body) == []
    return body


def tool(name: str, parameters: dict[str, Any]) -> Tool:
    function = {"name": name, "description": "What it does.", "parameters": parameters}
    return Tool(name, parameters, {"type": "function", "function": function})


def decode(document: Any) -> Reply | Failure:
    return GEMINI.decode(HttpResponse(200, {}, json.dumps(document).encode()), now_s=0.0)
