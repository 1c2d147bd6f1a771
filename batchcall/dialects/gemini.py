"""The generateContent protocol of Google's Gemini API, under a URL that ends in /v1beta."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from batchcall.dialects.auth import auth_headers
from batchcall.dialects.careful import Form, decode_with_care
from batchcall.dialects.gemini_contents import as_conversation, text_parts
from batchcall.dialects.gemini_settings import settings_of, wants_signatures
from batchcall.dialects.jsontext import as_json_text
from batchcall.dialects.openai_chat import as_json_bytes
from batchcall.dialects.openai_chat import reply_from as chat_reply_from
from batchcall.dialects.reask import follow_up
from batchcall.dialects.sse import assemble
from batchcall.dialects.sse import has_chunks as has_chat_chunks
from batchcall.dialects.usage import read_usage_metadata
from batchcall.records import Failure, HttpRequest, HttpResponse, Json, RawCall, Reply, Request, Shape

Document = dict[str, Any]


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
            reply = reply_from(orjson.loads(response.body), as_text=_as_text_at_once)
        except (ValueError, TypeError, RecursionError):  # TypeError: arguments that nest deeper than orjson writes
            reply = None
        if reply is None or any(_LARGE.search(call.arguments) for call in reply.calls):
            return decode_with_care(response, _FORM, now_s=now_s)
        return reply

    def reask(self, request: Request, reply: Reply, problem: str) -> Request:
        """The follow-up that shows the model its own answer and what was wrong with it."""
        return follow_up(request, reply, problem)

    def faults(self, shape: Shape) -> list[str]:
        """What of a shape Gemini cannot be told; see `Dialect.faults`."""
        return settings_of(shape).faults


def reply_from(document: Json, *, as_text: Callable[[Json], str] = as_json_text) -> Reply | None:
    """The answer that a whole GenerateContentResponse holds; None where it holds none.

    `as_text` writes the arguments of calls, which come as objects.
    """
    if not isinstance(document, dict):
        return None
    answers = [candidate for candidate in _candidates(document) if _is_complete(candidate)]
    if not answers:
        return None
    calls = tuple([call for candidate in answers for call in _calls_in(candidate, as_text)])
    content = next((text for candidate in answers if (text := _text_of(candidate)) is not None), None)
    if document.get("error") and not (calls or content):
        return None  # an error beside an empty answer
    finish_reason = _string(answers[0].get("finishReason"))
    if not calls and content is None and finish_reason in _TOLD_IN_MESSAGE:
        content = _string(answers[0].get("finishMessage"))
    return Reply(
        calls=calls,
        content=content,
        finish_reason=finish_reason,
        model=_string(document.get("modelVersion")),
        response_id=_string(document.get("responseId")),
        usage=read_usage_metadata(document.get("usageMetadata")),
    )


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

# Answers

_LARGE = re.compile(r"\de\+?\d")  # a float of 1e16 or more, which orjson may have made of a big integer
# Where the model's own words stand that could not be read as a call.
_TOLD_IN_MESSAGE = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"})


def _as_text_at_once(value: Json) -> str:
    return orjson.dumps(value).decode()


def _candidates(document: Document) -> list[Document]:
    written = document.get("candidates")
    return [one for one in written if isinstance(one, dict)] if isinstance(written, list) else []


def _is_complete(candidate: Document) -> bool:
    """Whether it came to its end, which the model has not, says Google, where there is no reason. A filter may leave
    nothing but the reason."""
    reason = candidate.get("finishReason")
    return isinstance(reason, str) and reason != ""


def _parts(candidate: Document) -> Iterator[Document]:
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, dict) and part.get("thought") is not True:
            yield part


def _calls_in(candidate: Document, as_text: Callable[[Json], str]) -> list[RawCall]:
    return [call for part in _parts(candidate) if (call := _call(part.get("functionCall"), as_text)) is not None]


def _call(written: Any, as_text: Callable[[Json], str]) -> RawCall | None:
    """A call. That its arguments are an object is as it should be here, so it is nothing to be mended."""
    if not isinstance(written, dict):
        return None
    name, arguments = _string(written.get("name")) or "", written.get("args")
    if not name and not arguments:
        return None
    is_missing = arguments is None or arguments == ""
    return RawCall(name, "" if is_missing else as_text(arguments), _string(written.get("id")) or None)


def _text_of(candidate: Document) -> str | None:
    texts = [text for part in _parts(candidate) if isinstance(text := part.get("text"), str)]
    return "".join(texts) if texts else None


def _string(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


# Streams: of events, or one list of all chunks


def _reply_in(documents: list[Json], is_stream: bool) -> Reply | None:
    chunks = [chunk for chunk in _flat(documents) if isinstance(chunk, dict)]
    if not is_stream and documents and (reply := reply_from(documents[0])):
        return reply
    return reply_from(_joined(chunks)) or _chat_reply_in(chunks)


def _flat(documents: list[Json]) -> list[Json]:
    return [chunk for document in documents for chunk in (document if isinstance(document, list) else [document])]


def _joined(chunks: list[Document]) -> Json:
    """One answer of its chunks, as the endpoint would have sent it without a stream.

    None where the first candidate never came to its finishReason: it was cut off.
    """
    joined: Document = {}
    candidates: dict[int, Document] = {}
    for chunk in chunks:
        joined.update({name: chunk[name] for name in _SAID_ONCE if chunk.get(name)})
        for position, candidate in enumerate(_candidates(chunk)):
            index = candidate.get("index")
            _go_on(candidates.setdefault(index if isinstance(index, int) else position, {}), candidate)
    if not candidates or not _is_complete(candidates[min(candidates)]):
        return None
    joined["candidates"] = [candidates[index] for index in sorted(candidates)]
    return joined


_SAID_ONCE = ("usageMetadata", "modelVersion", "responseId", "error")  # the last that says anything


def _go_on(candidate: Document, more: Document) -> None:
    candidate.setdefault("content", {"parts": []})["parts"].extend(_parts(more))
    for name in ("finishReason", "finishMessage"):
        if more.get(name):
            candidate[name] = more[name]


def _chat_reply_in(documents: list[Document]) -> Reply | None:
    """The answer of a relay that speaks chat completions after all; None where it is both or neither."""
    if any("candidates" in document for document in documents):
        return None
    several: list[Json] = [*documents]
    reply = next(filter(None, map(chat_reply_from, several)), None) or chat_reply_from(assemble(several))
    return replace(reply, repairs=("other_protocol",)) if reply else None


def _has_chunks(documents: list[Json]) -> bool:
    """Whether the documents are pieces of an answer: in a list, or before the one that ends it."""
    if has_chat_chunks(documents):
        return True
    first = documents[0] if documents else None
    if isinstance(first, list):
        return any(isinstance(chunk, dict) and "candidates" in chunk for chunk in first)
    return isinstance(first, dict) and bool(_candidates(first)) and not _is_final(first)


def _is_final(document: Document) -> bool:
    return any(_is_complete(candidate) for candidate in _candidates(document))


_FORM = Form(_reply_in, _has_chunks, "the answer has no candidates")
