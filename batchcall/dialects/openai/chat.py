"""Requests in the chat-completions protocol of OpenAI, as OpenAI, its relays and the local servers speak it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from batchcall.base import HttpRequest, Request, Shape
from batchcall.dialects.jsontext import as_json_bytes


def encode_chat(request: Request) -> HttpRequest:
    """POST /chat/completions. All but the messages is encoded once for the whole job."""
    head, tail = _around_messages(request.shape)
    return HttpRequest("/chat/completions", head + as_json_bytes(request.messages) + tail)


@lru_cache(maxsize=64)  # one entry in most jobs; rows that bring their own tools come and go
def _around_messages(shape: Shape) -> tuple[bytes, bytes]:
    """What stands before and behind the messages in every body of this shape.

    All parameters are sent as they are written: relays and local servers take more than OpenAI documents.
    """
    rest: dict[str, Any] = {}
    if shape.tools:
        rest["tools"] = [tool.written for tool in shape.tools]
    if shape.tool_choice is not None:
        rest["tool_choice"] = shape.tool_choice
    rest.update(shape.parameters)
    # Without this a stream counts no tokens, and nobody knows what it cost. Some endpoints refuse the key: an empty one
    # in the job file sends none.
    if rest.get("stream") is True:
        rest.setdefault("stream_options", {"include_usage": True})
    if rest.get("stream_options") == {}:
        del rest["stream_options"]
    head = b'{"model":' + as_json_bytes(shape.model) + b',"messages":'
    return head, (b"," + as_json_bytes(rest)[1:]) if rest else b"}"
