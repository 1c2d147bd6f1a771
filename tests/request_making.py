"""Requests from rows in tests: a builder of a job that says only what a test is about, and a prompt alone."""

from __future__ import annotations

from typing import Any

import pytest

from batchcall.base.records import Request, Tool
from batchcall.requests.prompt import RowError, Template, compile_template
from batchcall.requests.requests import RequestBuilder, RequestHash, make_builder

NOTHING: dict[str, Any] = {
    "model": "m",
    "system": None,
    "prompt": None,
    "messages": None,
    "columns": None,
    "tool_choice": None,
    "parameters": {},
    "tools": (),
}
QUESTION = [{"role": "user", "content": "Hi"}]
COLUMNS = {"messages": "messages", "tools": "tools", "tool_choice": "choice"}


def builder(**says: Any) -> RequestBuilder:
    return make_builder(**{**NOTHING, **says})


def build(row: dict[str, Any], **says: Any) -> Request:
    return builder(**says).build(row)


def from_columns(row: dict[str, Any], **says: Any) -> Request:
    return build({"messages": QUESTION, **row}, columns=COLUMNS, **says)


def from_body(body: Any, **says: Any) -> Request:
    return build({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}, **says)


def request_hash(protocol: str, request: Request) -> str:
    return RequestHash(protocol).of(request)


def function(name: str = "f", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}, **more}}


def job_tool(name: str = "f") -> Tool:
    return Tool(name, {"type": "object"}, function(name))


def as_sent(request: Request) -> dict[str, Any]:
    """The body that a request stands for, in the order in which it says it."""
    shape = request.shape
    body: dict[str, Any] = {"model": shape.model, "messages": request.messages}
    if shape.tools:
        body["tools"] = [tool.written for tool in shape.tools]
    if shape.tool_choice is not None:
        body["tool_choice"] = shape.tool_choice
    return {**body, **shape.parameters}


def template(text: str) -> Template:
    return compile_template(text, key="request.prompt")


def render(text: str, /, **values: Any) -> str:
    return template(text).render(values)


def refusal(text: str, /, **values: Any) -> str:
    with pytest.raises(RowError) as refused:
        render(text, **values)
    return str(refused.value)
