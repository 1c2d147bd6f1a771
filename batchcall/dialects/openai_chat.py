"""The chat-completions protocol of OpenAI, as OpenAI, its relays and the local servers speak it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import orjson

from batchcall.dialects.auth import auth_headers
from batchcall.dialects.careful import Form, decode_with_care
from batchcall.dialects.jsontext import as_json_text
from batchcall.dialects.reask import follow_up
from batchcall.dialects.responses_reply import has_response_events, response_reply_in
from batchcall.dialects.sse import assemble, has_chunks
from batchcall.dialects.strict_schema import strict_tool_faults
from batchcall.dialects.usage import read_usage
from batchcall.records import (
    Failure,
    HttpRequest,
    HttpResponse,
    Json,
    RawCall,
    Reply,
    Request,
    Shape,
)

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
            reply = reply_from(orjson.loads(response.body))
        except (ValueError, RecursionError):
            reply = None
        if reply is None or any(call.is_object for call in reply.calls):  # orjson made floats of big integers
            return decode_with_care(response, _FORM, now_s=now_s)
        return reply

    def reask(self, request: Request, reply: Reply, problem: str) -> Request:
        """The follow-up that shows the model its own answer and what was wrong with it."""
        return follow_up(request, reply, problem)

    def faults(self, shape: Shape) -> list[str]:
        """What OpenAI refuses of tools that say `strict`; see `Dialect.faults`.

        All else is sent as it is written: relays and local servers take more than OpenAI documents.
        """
        return strict_tool_faults(shape)


def reply_from(document: Json) -> Reply | None:
    """The completion that a document holds; None where it holds none."""
    if not isinstance(document, dict):
        return None
    choices: Any = document.get("choices")
    if not isinstance(choices, list) or not (answers := [choice for choice in choices if _is_answer(choice)]):
        return None
    messages = [_message_of(choice) for choice in answers]
    calls = tuple([call for message in messages for call in _calls_in(message)])
    content = _first_text(messages, "content")
    refusal = _first_text(messages, "refusal") or None  # relays send "" where nothing was refused
    if document.get("error") and not (calls or content or refusal):
        return None  # an error beside an empty message
    return Reply(
        calls=calls,
        content=content,
        refusal=refusal,
        finish_reason=_string(answers[0].get("finish_reason")),
        model=_string(document.get("model")),
        response_id=_string(document.get("id")),
        system_fingerprint=_string(document.get("system_fingerprint")),
        usage=read_usage(document.get("usage") or answers[0].get("usage")),
    )


def as_json_bytes(value: Any) -> bytes:
    """The value as JSON, whatever is in it: integers beyond 64 bits, lone surrogates and dates too."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":"), default=str).encode()


@lru_cache(maxsize=64)  # one entry in most jobs; rows that bring their own tools come and go
def _around_messages(shape: Shape) -> tuple[bytes, bytes]:
    """What stands before and behind the messages in every body of this shape."""
    rest: dict[str, Any] = {}
    if shape.tools:
        rest["tools"] = [tool.written for tool in shape.tools]
    if shape.tool_choice is not None:
        rest["tool_choice"] = shape.tool_choice
    rest.update(shape.parameters)
    head = b'{"model":' + as_json_bytes(shape.model) + b',"messages":'
    return head, (b"," + as_json_bytes(rest)[1:]) if rest else b"}"


def _is_answer(choice: Any) -> bool:
    if not isinstance(choice, dict) or choice.get("finish_reason") == "error" or choice.get("error"):
        return False  # OpenRouter: the upstream broke off in the middle
    return isinstance(choice.get("message"), dict) or choice.get("finish_reason") == "content_filter"


def _message_of(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    message = choice.get("message")
    return message if isinstance(message, dict) else {}


def _calls_in(message: Mapping[str, Any]) -> list[RawCall]:
    written = message.get("tool_calls")
    if written:
        several = written if isinstance(written, list) else [written]
        calls = [call for each in several if (call := _tool_call(each))]
        if calls:
            return calls
    legacy = _call(message.get("function_call"), None)
    return [legacy] if legacy else []


def _tool_call(written: Any) -> RawCall | None:
    if not isinstance(written, dict):
        return None
    id_ = _string(written.get("id")) or None
    custom = written.get("custom")
    if isinstance(custom, dict):
        return _call({"name": custom.get("name"), "arguments": custom.get("input")}, id_)
    return _call(written.get("function", written), id_)


def _call(function: Any, id_: str | None) -> RawCall | None:
    """A call; None for an empty husk, which some relays send in every message."""
    if not isinstance(function, dict):
        return None
    name, arguments = function.get("name"), function.get("arguments")
    if not name and not arguments:
        return None
    name = _string(name) or ""
    if isinstance(arguments, str):
        return RawCall(name, arguments, id_)
    if arguments is None:
        return RawCall(name, "", id_)
    return RawCall(name, as_json_text(arguments), id_, is_object=isinstance(arguments, dict))


def _first_text(messages: list[Mapping[str, Any]], part: str) -> str | None:
    for message in messages:
        if (text := _text_of(message, part)) is not None:
            return text
    return None


def _text_of(message: Mapping[str, Any], part: str) -> str | None:
    content = message.get(part)
    if isinstance(content, str):
        return content
    parts = message.get("content")  # a list of parts may hold text and refusal
    if not isinstance(parts, list):
        return None
    wanted = "text" if part == "content" else part
    texts = [each.get(wanted) for each in parts if isinstance(each, dict)]
    found = [text for text in texts if isinstance(text, str)]
    return "".join(found) if found else None


def _string(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def chat_reply_in(documents: list[Json]) -> Reply | None:
    """The completion that the documents of a body hold, whole or in chunks; None where they hold none."""
    for document in documents:
        if reply := reply_from(document):
            return reply
    return reply_from(assemble(documents))


def _reply_in(documents: list[Json], is_stream: bool) -> Reply | None:
    """The answer, also where a relay passes on that of the Responses protocol as it is."""
    reply = chat_reply_in(documents)
    if reply is None and (reply := response_reply_in(documents)):
        return replace(reply, repairs=("other_protocol",))
    return reply


def _has_pieces(documents: list[Json]) -> bool:
    return has_chunks(documents) or has_response_events(documents)


_FORM = Form(_reply_in, _has_pieces, "the answer has no choices")
