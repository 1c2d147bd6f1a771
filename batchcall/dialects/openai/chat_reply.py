"""What a chat completion says, whole or streamed, whoever sends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from batchcall.base import Json, RawCall, Reply
from batchcall.dialects.jsontext import as_json_text, string_or_none
from batchcall.dialects.sse import assemble
from batchcall.dialects.usage import read_usage


def chat_reply_in(documents: list[Json], is_stream: bool = False) -> Reply | None:
    """The completion that the documents of a body hold, whole or in chunks; None where they hold none."""
    if is_stream or any(map(_tells_more, documents)):
        return _streamed_reply(documents)
    for document in documents:
        if reply := chat_reply_from(document):
            return reply
    return chat_reply_from(assemble(documents))


def _streamed_reply(documents: list[Json]) -> Reply | None:
    """What a stream says. In Perplexity's, each chunk repeats as a message what has been told so far: a message is the
    answer only where it has ended, and what the chunks tell comes before what one of them repeats."""
    ended = [one for one in documents if (reply := chat_reply_from(one)) and reply.finish_reason]
    whole = (chat_reply_from(one) for one in ended if not _tells_more(one))
    said = next((reply for reply in whole if reply and (reply.calls or reply.content or reply.refusal)), None)
    return said or chat_reply_from(assemble(documents)) or next(map(chat_reply_from, ended), None)


def _tells_more(document: Json) -> bool:
    """Whether a document is a chunk that adds something to its answer."""
    choices = document.get("choices") if isinstance(document, dict) else None
    listed = choices if isinstance(choices, list) else []
    return any(isinstance(choice, dict) and bool(choice.get("delta")) for choice in listed)


def chat_reply_from(document: Json) -> Reply | None:
    """The completion that a document holds; None where it holds none."""
    if not isinstance(document, dict):
        return None
    choices: Any = document.get("choices")
    if not isinstance(choices, list) or not (answers := [choice for choice in choices if _is_answer(choice)]):
        return None
    written = [choice.get("message") for choice in answers]
    messages: list[Mapping[str, Any]] = [each if isinstance(each, dict) else {} for each in written]
    calls = tuple([call for message in messages for call in _calls_in(message)])
    content = _first_text(messages, "content")
    refusal = _first_text(messages, "refusal") or None  # relays send "" where nothing was refused
    if document.get("error") and not (calls or content or refusal):
        return None  # an error beside an empty message
    return Reply(
        calls=calls,
        content=content,
        refusal=refusal,
        finish_reason=string_or_none(answers[0].get("finish_reason")),
        model=string_or_none(document.get("model")),
        response_id=string_or_none(document.get("id")),
        system_fingerprint=string_or_none(document.get("system_fingerprint")),
        usage=read_usage(document.get("usage") or answers[0].get("usage")),
    )


def broken_off_by(document: Json) -> str | None:
    """The finish reason by which an endpoint says that it gave an answer up in the middle; None where none does."""
    choices = document.get("choices") if isinstance(document, dict) else None
    reasons = (
        [_finish_of(choice) for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    )
    return next((reason for reason in reasons if reason.lower() in _BROKEN_OFF), None)


# OpenRouter and Mistral; DeepSeek; Zhipu; SGLang and vLLM. Nothing but the endpoint's own trouble, so asked for again.
_BROKEN_OFF = frozenset({"error", "insufficient_system_resource", "network_error", "abort", "aborted"})
# Azure and Google leave the message out where a filter has taken it.
_FILTERS = ("content_filter", "function_call_filter")


def _is_answer(choice: Any) -> bool:
    if not isinstance(choice, dict) or choice.get("error"):
        return False
    reason = _finish_of(choice)
    if reason.lower() in _BROKEN_OFF:
        return False
    return isinstance(choice.get("message"), dict) or reason.startswith(_FILTERS)


def _finish_of(choice: Mapping[str, Any]) -> str:
    return string_or_none(choice.get("finish_reason")) or ""


def _calls_in(message: Mapping[str, Any]) -> list[RawCall]:
    written = message.get("tool_calls")
    if written:
        several = written if isinstance(written, list) else [written]
        calls = [call for each in several if (call := _tool_call(each))]
        if calls:
            return _joined(calls)
    legacy = _call(message.get("function_call"), None)
    return [legacy] if legacy else []


def _joined(calls: list[RawCall]) -> list[RawCall]:
    """The calls, where relays that put a stream together left a name in one and its arguments in the next."""
    joined: list[RawCall] = []
    for call in calls:
        before = joined[-1] if joined else None
        if before and not call.name and not before.arguments and call.id in (None, before.id):
            joined[-1] = replace(before, arguments=call.arguments, is_object=call.is_object)
        else:
            joined.append(call)
    return joined


def _tool_call(written: Any) -> RawCall | None:
    if not isinstance(written, dict):
        return None
    id_ = string_or_none(written.get("id")) or None
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
    name = string_or_none(name) or ""
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
