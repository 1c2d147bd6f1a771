"""What an answer means, the same way for every protocol: at once where it is a plain completion, else with care."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import orjson
from msgspec.structs import replace

from batchcall.base import NO_USAGE, Failure, FailureKind, HttpResponse, Json, Reply
from batchcall.dialects.anthropic.reply import assemble_message, has_events, message_reply_from
from batchcall.dialects.failures import Answer, read_failure
from batchcall.dialects.gemini.reply import gemini_reply_from, gemini_reply_in, has_gemini_chunks
from batchcall.dialects.jsontext import (
    TOO_DEEP,
    Body,
    Undigested,
    check_count,
    has_duplicate_keys,
    may_have_lost_digits,
    may_hold_surrogates,
    objects_in,
    parse_documents,
    unpack,
    without_lone_surrogates,
)
from batchcall.dialects.openai.chat_reply import broken_off_by, chat_reply_from, chat_reply_in
from batchcall.dialects.openai.responses_reply import assemble_events, has_response_events, response_reply
from batchcall.dialects.sse import begins_as_stream, has_chunks, is_event_stream, read_events


class Form(NamedTuple):
    """What a protocol knows of its own answers."""

    mark: str  # a name that stands at the top of its answers, and of no other protocol's
    reply_from: Callable[[Json], Reply | None]  # of the one document of a plain answer
    reply_in: Callable[[list[Json], bool], Reply | None]  # of the documents of a body, and whether they were a stream
    has_chunks: Callable[[list[Json]], bool]  # whether any document is a piece of a streamed answer
    nothing: str  # the message for an answer with nothing in it
    takes_objects: bool  # whether the arguments of calls are objects, rather than JSON in a string


def _whole_or_streamed(
    reply_from: Callable[[Json], Reply | None],
    assemble: Callable[[list[Json]], Json],
    documents: list[Json],
    is_stream: bool,
) -> Reply | None:
    """The first document that is an answer, else the one that the events among them make."""
    return next(filter(None, map(reply_from, documents)), None) or reply_from(assemble(documents))


# fmt: off
FORMS: Mapping[str, Form] = {
    "openai-chat": Form(
        "choices", chat_reply_from, chat_reply_in, has_chunks, "the answer has no choices", False),
    "openai-responses": Form(
        "output", response_reply, partial(_whole_or_streamed, response_reply, assemble_events),
        has_response_events, "the answer has no output that is finished", False),
    "anthropic": Form(
        "stop_reason", message_reply_from, partial(_whole_or_streamed, message_reply_from, assemble_message),
        has_events, "the answer has no content", True),
    "gemini": Form(
        "candidates", partial(gemini_reply_from, as_text=lambda value: orjson.dumps(value).decode()),
        gemini_reply_in, has_gemini_chunks, "the answer has no candidates", True),
}
# fmt: on


# Nearly every answer is one plain document, and orjson reads it at a small part of the price. It is read with care
# where it may say something else then: nothing was found in it, or orjson may have read the arguments of a call
# wrongly.
def decode(response: HttpResponse, protocol: str, *, now_s: float) -> Reply | Failure:
    """What an answer means; see `Dialect.decode`. The body decides, whatever status and content type say."""
    if begins_as_stream(response.body):
        return decode_with_care(response, protocol, now_s=now_s)
    form = FORMS[protocol]
    try:
        document = orjson.loads(response.body)
        reply = form.reply_from(document)
    except (ValueError, TypeError, RecursionError):  # TypeError: arguments that nest deeper than orjson writes
        reply = None
    if reply is None or (_lacks_something(reply, response, document, form) if reply.calls else is_nothing(reply)):
        return decode_with_care(response, protocol, now_s=now_s)
    return reply


def _lacks_something(reply: Reply, response: HttpResponse, document: Json, form: Form) -> bool:
    """Whether arguments came as an object that may have been read too simply: orjson makes floats of integers beyond
    64 bits, without a word, and keeps one value of a key that is there twice."""
    if not form.takes_objects:
        return True in [call.is_object for call in reply.calls]
    return True in [may_have_lost_digits(call.arguments) for call in reply.calls] or has_duplicate_keys(
        [response.body], [document]
    )


def decode_with_care(response: HttpResponse, protocol: str, *, now_s: float) -> Reply | Failure:
    """What an answer means, however oddly it was sent. Never raises; see `Dialect.decode`."""
    reply = None
    try:
        body = _read_body(response.body)
        reply = _reply_in(body, protocol)
        if reply and not is_nothing(reply):
            return replace(reply, repairs=body.repairs + reply.repairs)
    except Undigested as error:
        body = Body([], "", undigested=str(error))
    except RecursionError:
        body = Body([], "", undigested=TOO_DEEP)
    # An answer is one under any status, so what is left is a failure. Under a status of success nothing else may say
    # why, so it is said here; under any other, what can be read of the error does.
    is_success = 200 <= response.status < 300
    if is_success and (response.is_cut or body.is_cut):
        return too_large(response)
    if is_success and body.undigested:
        return _lost(FailureKind.UNDIGESTED, response, body.undigested)
    saying = ""
    if is_success:
        saying = _saying(body, FORMS[protocol].nothing) if reply is None else _EMPTY
    answer = Answer(response.status, response.headers, body.documents, body.text, saying)
    return read_failure(answer, now_s=now_s)


# Relays (new-api, pollinations, llmgateway) answer 200 with "stop" and no content when the model behind them gave them
# nothing. It cost nothing, so the row is tried again, as it is without choices. But a model may have nothing to say:
#
# - It takes a token to say so. So one that counted tokens has answered.
# - Where nothing was counted at all, a missing id shows that no model made the answer.
# - An answer that a filter or a limit has emptied says so by its reason, and is an answer.
def is_nothing(reply: Reply) -> bool:
    """Whether an answer has nothing in it and took nothing: the relay got none from the model behind it."""
    if reply.calls or reply.refusal or (reply.content or "").strip():
        return False
    if (reply.finish_reason or "").lower() not in _PLAIN_ENDS:
        return False
    usage = reply.usage
    if usage.completion_tokens is None and usage.total_tokens is not None:  # Gemini leaves a zero out
        return usage.total_tokens == usage.prompt_tokens
    return usage.completion_tokens == 0 or (usage == NO_USAGE and not reply.response_id)


_EMPTY = "the answer is empty: no text, no call, not one token"
# What an answer ends with that came to its end, in all protocols.
_PLAIN_ENDS = frozenset({"", "stop", "end_turn", "completed", "tool_calls", "tool_use", "eos", "eos_token"})


# Where the answer is, in this order:
#
# 1. In the form of the protocol asked.
# 2. Nowhere, where the protocol's own mark shows that the answer is its own and not finished.
# 3. In the form of another protocol, which some relays pass on as it is.
# 4. In a relay's own envelope: [answer], {"code": 200, "msg": "ok", "data": answer}. It is paid for: asking again
#    would cost the same and give the same.
#
# The last two are noted, since whoever reads the raw answers will meet them there.
def _reply_in(body: Body, protocol: str) -> Reply | None:
    asked = FORMS[protocol]
    if reply := asked.reply_in(body.documents, body.is_stream):
        return _noted(reply, body, protocol)
    if any(asked.mark in document for document in objects_in(body.documents)):
        return None
    for spoken, form in FORMS.items():
        if reply := form.reply_in(body.documents, body.is_stream):
            return _noted(reply, body, spoken, "other_protocol")
    if len(body.documents) == 1:
        envelope, inside = body.documents[0], list[Json]()
        if isinstance(envelope, list) and len(envelope) == 1:
            inside = envelope
        elif isinstance(envelope, dict) and not envelope.get("error"):
            inside = [envelope.get(name) for name in ("data", "result", "response", "body")]
        if reply := asked.reply_in(inside, False):
            return _noted(reply, body, protocol, "wrapped_answer")
    return None


def _noted(reply: Reply, body: Body, spoken: str, *notes: str) -> Reply:
    """The answer with these notes, and with one more where a key appears twice.

    Only arguments that are an object are looked at here: those in a string are checked where they are decoded.
    """
    has_objects = any(call.is_object or FORMS[spoken].takes_objects for call in reply.calls)
    if has_objects and has_duplicate_keys([piece.encode(errors="replace") for piece in body.pieces], body.documents):
        notes += ("duplicate_key",)
    return replace(reply, repairs=reply.repairs + notes) if notes else reply


def _has_chunks(documents: list[Json]) -> bool:
    return any(form.has_chunks(documents) for form in FORMS.values())


def _read_body(received: bytes) -> Body:
    text, repairs, is_cut = unpack(received)
    is_stream = is_event_stream(text)
    if is_stream:
        pieces: list[str] = []
        for event in read_events(text):
            pieces.append(event)
            check_count(len(pieces))
        # What stands behind the first event that says it is done is the same stream once more.
        ended = next((place for place, event in enumerate(pieces) if event.strip() == "[DONE]"), len(pieces))
        documents = [document for event in pieces[:ended] for document in parse_documents(event)[0]]
        if documents:
            pieces = pieces[:ended]
        else:  # or the answer, where nothing stands before it
            documents = [document for event in pieces for document in parse_documents(event)[0]]
    else:
        pieces = [text]
        documents, leftover = parse_documents(text)
        repairs += ("several_documents",) if len(documents) > 1 and not _has_chunks(documents) else ()
        repairs += ("trailing_text",) if documents and leftover else ()
    if any(map(may_hold_surrogates, pieces)):
        whole: list[Json] = [without_lone_surrogates(document) for document in documents]
        repairs += ("lone_surrogate",) if whole != documents else ()
        documents = whole
    return Body(documents, text, repairs, is_cut=is_cut, is_stream=is_stream, pieces=tuple(pieces))


def _saying(body: Body, nothing: str) -> str:
    """The message for a body that has no error object in it."""
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
    """The failure of an answer that is longer than the cap on all answers."""
    return _lost(FailureKind.TOO_LARGE, response, "is longer than 16 MiB; its start is kept")


def _lost(kind: FailureKind, response: HttpResponse, why: str) -> Failure:
    return Failure(kind, f"HTTP {response.status}: the answer {why}", http_status=response.status)
