"""The generateContent protocol of Google's Gemini API, under a URL that ends in /v1beta."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

import orjson

from batchcall.base import Failure, HttpRequest, HttpResponse, Json, Reply, Request, Shape
from batchcall.dialects.auth import auth_headers
from batchcall.dialects.gemini.contents import as_conversation, text_parts
from batchcall.dialects.gemini.reply import gemini_reply_from
from batchcall.dialects.gemini.settings import settings_of, wants_signatures
from batchcall.dialects.jsontext import as_json_bytes, has_duplicate_keys, may_have_lost_digits, parse_plain
from batchcall.dialects.reask import follow_up
from batchcall.dialects.tolerant_decode import decode_with_care, is_nothing


class Gemini:
    """`gemini`: POST /models/{model}:generateContent."""

    name = "gemini"

    def headers(self, *, auth: str | None, key: str | None) -> dict[str, str]:
        """The headers that every request carries; see `Dialect.headers`. Never `?key=`: URLs end up in logs."""
        constant = {"Content-Type": "application/json", "Accept": "application/json"}
        return constant | auth_headers(auth or "x-goog-api-key", key)

    def encode(self, request: Request) -> HttpRequest:
        """The request as it is posted: all but the messages is encoded once for the whole job."""
        constant = _constant(request.shape)
        said = as_conversation(request.messages, is_signed=constant.wants_signatures)
        body = b'{"contents":' + as_json_bytes(said.contents)
        if system := [*constant.system, *said.system]:
            body += b',"systemInstruction":' + as_json_bytes({"parts": system})
        return HttpRequest(constant.path, body + constant.tail)

    def decode(self, response: HttpResponse, *, now_s: float) -> Reply | Failure:
        """What an answer means; see `Dialect.decode`. The body decides, whatever status and content type say."""
        try:
            document = parse_plain(response.body)
            reply = gemini_reply_from(document, as_text=_as_text_at_once)
        except (ValueError, TypeError, RecursionError):  # TypeError: arguments that nest deeper than orjson writes
            reply = None
        if (
            reply is None
            or is_nothing(reply)
            or any(may_have_lost_digits(call.arguments) for call in reply.calls)
            or (reply.calls and has_duplicate_keys([response.body.decode(errors="replace")], [document]))
        ):
            return decode_with_care(response, self.name, now_s=now_s)
        return reply

    def reask(self, request: Request, reply: Reply, problem: str) -> Request:
        """The follow-up that shows the model its own answer and what was wrong with it."""
        return follow_up(request, reply, problem)

    def faults(self, shape: Shape) -> list[str]:
        """What of a shape Gemini cannot be told; see `Dialect.faults`."""
        return settings_of(shape).faults


def _as_text_at_once(value: Json) -> str:
    return orjson.dumps(value).decode()


# Requests


class _Constant(NamedTuple):
    """What all requests of a shape have in common."""

    path: str
    tail: bytes  # what stands behind contents and system instruction
    system: list[Json]  # parts of the job's own `systemInstruction`, which stand before those of the messages
    wants_signatures: bool


@lru_cache(maxsize=64)  # one entry in most jobs; rows that bring their own tools come and go
def _constant(shape: Shape) -> _Constant:
    body = settings_of(shape).body
    system = body.pop("systemInstruction", None)
    return _Constant(
        path=_path(shape),
        tail=b"," + as_json_bytes(body)[1:] if body else b"}",
        system=text_parts(system) if system else [],
        wants_signatures=wants_signatures(shape.model),
    )


def _path(shape: Shape) -> str:
    collection, _, name = shape.model.partition("/")
    if collection not in _COLLECTIONS or not name:
        collection, name = "models", shape.model
    method = "streamGenerateContent?alt=sse" if shape.parameters.get("stream") is True else "generateContent"
    return f"/{collection}/{quote(name, safe='')}:{method}"


_COLLECTIONS = ("models", "tunedModels")
