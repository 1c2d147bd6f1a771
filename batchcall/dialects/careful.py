"""Reads the one answer in many thousands that is not a plain completion: the same way for every protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from batchcall.dialects.anthropic_reply import has_events, message_reply_in
from batchcall.dialects.chat_reply import broken_off_by, chat_reply_in
from batchcall.dialects.failures import Answer, read_failure
from batchcall.dialects.gemini_reply import gemini_reply_in, has_gemini_chunks
from batchcall.dialects.jsontext import (
    TOO_DEEP,
    Body,
    Undigested,
    check_count,
    may_hold_surrogates,
    parse_documents,
    unpack,
    without_lone_surrogates,
)
from batchcall.dialects.responses_reply import has_response_events, response_reply_in
from batchcall.dialects.sse import has_chunks, is_event_stream, read_events
from batchcall.records import Failure, FailureKind, HttpResponse, Json, Reply


class Form(NamedTuple):
    """What a protocol knows of its own answers."""

    mark: str  # a name that stands at the top of its answers, and of no other protocol's
    reply_in: Callable[[list[Json], bool], Reply | None]  # of the documents of a body, and whether they were a stream
    has_chunks: Callable[[list[Json]], bool]  # whether any document is a piece of a streamed answer
    nothing: str  # what to tell of an answer with nothing in it


FORMS: Mapping[str, Form] = {
    "openai-chat": Form("choices", chat_reply_in, has_chunks, "the answer has no choices"),
    "openai-responses": Form(
        "output", response_reply_in, has_response_events, "the answer has no output that is finished"
    ),
    "anthropic": Form("stop_reason", message_reply_in, has_events, "the answer has no content"),
    "gemini": Form("candidates", gemini_reply_in, has_gemini_chunks, "the answer has no candidates"),
}


def decode_with_care(response: HttpResponse, protocol: str, *, now_s: float) -> Reply | Failure:
    """What an answer means, however oddly it was sent. Never raises; see `Dialect.decode`."""
    try:
        body = _read_body(response.body)
        if reply := _reply_in(body, protocol):
            return replace(reply, repairs=body.repairs + reply.repairs)
    except Undigested as error:
        body = Body([], "", undigested=str(error))
    except RecursionError:
        body = Body([], "", undigested=TOO_DEEP)
    is_success = 200 <= response.status < 300
    if is_success and (response.is_cut or body.is_cut):
        return too_large(response)
    if is_success and body.undigested:
        return _lost(FailureKind.UNDIGESTED, response, body.undigested)
    saying = _saying(body, FORMS[protocol].nothing) if is_success else ""
    answer = Answer(response.status, response.headers, body.documents, body.text, saying)
    return read_failure(answer, now_s=now_s)


def _reply_in(body: Body, protocol: str) -> Reply | None:
    """The answer in the body, also where a relay passes on that of another protocol as it is."""
    asked = FORMS[protocol]
    if reply := asked.reply_in(body.documents, body.is_stream):
        return reply
    if any(asked.mark in document for document in body.documents if isinstance(document, dict)):
        return None  # it is the protocol's own, and not finished
    for form in FORMS.values():
        if reply := form.reply_in(body.documents, body.is_stream):
            return replace(reply, repairs=("other_protocol", *reply.repairs))
    return None


def _has_chunks(documents: list[Json]) -> bool:
    return any(form.has_chunks(documents) for form in FORMS.values())


def _read_body(received: bytes) -> Body:
    text, mends, is_cut = unpack(received)
    is_stream = is_event_stream(text)
    if is_stream:
        documents = _streamed(text)
    else:
        documents, leftover = parse_documents(text)
        mends += _mends_of(documents, leftover)
    if may_hold_surrogates(text):
        whole: list[Json] = [without_lone_surrogates(document) for document in documents]
        mends += ("lone_surrogate",) if whole != documents else ()
        documents = whole
    return Body(documents, text, mends, is_cut=is_cut, is_stream=is_stream)


def _streamed(text: str) -> list[Json]:
    """The documents of the events. What stands behind the first that says it is done is the same stream once more."""
    events: list[str] = []
    for event in read_events(text):
        events.append(event)
        check_count(len(events))
    ended = next((place for place, event in enumerate(events) if event.strip() == "[DONE]"), len(events))
    before = [document for event in events[:ended] for document in parse_documents(event)[0]]
    return before or [document for event in events for document in parse_documents(event)[0]]


def _mends_of(documents: list[Json], leftover: str) -> tuple[str, ...]:
    several = ("several_documents",) if len(documents) > 1 and not _has_chunks(documents) else ()
    trailing = ("trailing_text",) if documents and leftover else ()
    return several + trailing


def _saying(body: Body, nothing: str) -> str:
    """What to tell of a body that has no error object in it."""
    if reason := next(filter(None, map(broken_off_by, body.documents)), None):
        return f'the endpoint broke the answer off (finish_reason "{reason}")'
    if body.is_stream or _has_chunks(body.documents):
        return "the stream ended before the answer did"
    if body.documents:
        return nothing
    if body.text.lstrip().startswith(("{", "[")):
        return "the answer is cut short or not JSON"
    return ""


def too_large(response: HttpResponse) -> Failure:
    """What an answer comes to that was longer than what is read of any."""
    return _lost(FailureKind.TOO_LARGE, response, "is longer than 16 MiB; its start is kept")


def _lost(kind: FailureKind, response: HttpResponse, why: str) -> Failure:
    return Failure(kind, f"HTTP {response.status}: the answer {why}", http_status=response.status)
