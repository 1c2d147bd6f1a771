"""The chat-completions protocol of OpenAI, as OpenAI, its relays and the local servers speak it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from batchcall.base import Failure, HttpRequest, HttpResponse, Reply, Request, Shape
from batchcall.dialects.auth import auth_headers
from batchcall.dialects.jsontext import as_json_bytes, parse_plain
from batchcall.dialects.openai.chat_reply import chat_reply_from
from batchcall.dialects.openai.strict_schema import strict_tool_faults
from batchcall.dialects.reask import follow_up
from batchcall.dialects.tolerant_decode import decode_with_care, is_nothing

PATH = "/chat/completions"


class OpenAIChat:
    """`openai-chat`: POST /chat/completions."""

    name = "openai-chat"

    def headers(self, *, auth: str | None, key: str | None) -> dict[str, str]:
        """The headers that every request carries; see `Dialect.headers`."""
        constant = {"Content-Type": "application/json", "Accept": "application/json"}
        return constant | auth_headers(auth or "bearer", key)

    def encode(self, request: Request) -> HttpRequest:
        """The request as it is posted: all but the messages is encoded once for the whole job."""
        head, tail = _around_messages(request.shape)
        return HttpRequest(PATH, head + as_json_bytes(request.messages) + tail)

    def decode(self, response: HttpResponse, *, now_s: float) -> Reply | Failure:
        """What an answer means; see `Dialect.decode`. The body decides, whatever status and content type say."""
        try:
            reply = chat_reply_from(parse_plain(response.body))
        except (ValueError, RecursionError):
            reply = None
        # An object as arguments: orjson made floats of big integers.
        if reply is None or is_nothing(reply) or any(call.is_object for call in reply.calls):
            return decode_with_care(response, self.name, now_s=now_s)
        return reply

    def reask(self, request: Request, reply: Reply, problem: str) -> Request:
        """The follow-up that shows the model its own answer and what was wrong with it."""
        return follow_up(request, reply, problem)

    def faults(self, shape: Shape) -> list[str]:
        """What OpenAI refuses of tools that say `strict`; see `Dialect.faults`.

        All else is sent as it is written: relays and local servers take more than OpenAI documents.
        """
        return strict_tool_faults(shape)


@lru_cache(maxsize=64)  # one entry in most jobs; rows that bring their own tools come and go
def _around_messages(shape: Shape) -> tuple[bytes, bytes]:
    """What stands before and behind the messages in every body of this shape."""
    rest: dict[str, Any] = {}
    if shape.tools:
        rest["tools"] = [tool.written for tool in shape.tools]
    if shape.tool_choice is not None:
        rest["tool_choice"] = shape.tool_choice
    rest.update(shape.parameters)
    if rest.get("stream") is True:  # else a stream tells no usage, and nobody knows what it cost
        rest.setdefault("stream_options", {"include_usage": True})
    if rest.get("stream_options") == {}:  # the way to say none at all, for an endpoint that refuses the key
        del rest["stream_options"]
    head = b'{"model":' + as_json_bytes(shape.model) + b',"messages":'
    return head, (b"," + as_json_bytes(rest)[1:]) if rest else b"}"
