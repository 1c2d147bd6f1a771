"""What a chat completion says, whole or streamed, whoever sends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from batchcall.base import Json, RawCall, Reply
from batchcall.dialects.jsontext import as_json_text, objects_in, string_or_none
from batchcall.dialects.sse import assemble, choices_in
from batchcall.dialects.usage import read_usage


def chat_reply_in(documents: list[Json], is_stream: bool) -> Reply | None:
    """The completion that the documents of a body hold, whole or in chunks; None where they hold none."""
    if not is_stream and not any(map(_brings_more, documents)):
        return next(filter(None, map(chat_reply_from, documents)), None) or chat_reply_from(assemble(documents))
    # Perplexity repeats in each chunk, as a message, what has been said so far. So a message is the answer only where
    # it has ended, and what the chunks say comes before what one of them repeats.
    ended = [(one, reply) for one in documents if (reply := chat_reply_from(one)) and reply.finish_reason]
    whole = (reply for one, reply in ended if not _brings_more(one))
    said = next((reply for reply in whole if reply.calls or reply.content or reply.refusal), None)
    return said or chat_reply_from(assemble(documents)) or next((reply for _, reply in ended), None)


def _brings_more(document: Json) -> bool:
    """Whether a document is a chunk that adds something to its answer."""
    return any(bool(choice.get("delta")) for choice in choices_in(document))


def chat_reply_from(document: Json) -> Reply | None:
    """The completion that a document holds; None where it holds none."""
    if not isinstance(document, dict):
        return None
    answers = [choice for choice in objects_in(document.get("choices")) if _is_answer(choice)]
    if not answers:
        return None
    messages = [message for choice in answers if isinstance(message := choice.get("message"), dict)]
    calls = tuple([call for message in messages for call in _calls_in(message)])
    content, refusal = _texts_in(messages)
    if document.get("error") and not (calls or content or refusal):
        return None  # an error beside an empty message
    return Reply(
        calls=calls,
        content=content,
        refusal=refusal or None,  # relays send "" where nothing was refused
        finish_reason=string_or_none(answers[0].get("finish_reason")),
        model=string_or_none(document.get("model")),
        response_id=string_or_none(document.get("id")),
        system_fingerprint=string_or_none(document.get("system_fingerprint")),
        usage=read_usage(document.get("usage") or answers[0].get("usage")),
    )


def broken_off_by(document: Json) -> str | None:
    """The finish reason by which an endpoint says that it gave an answer up in the middle; None where none does."""
    return next((reason for reason in map(_finish_of, choices_in(document)) if reason.lower() in _BROKEN_OFF), None)


# OpenRouter and Mistral; DeepSeek; Zhipu; SGLang and vLLM. Nothing but the endpoint's own trouble, so asked for again.
_BROKEN_OFF = frozenset({"error", "insufficient_system_resource", "network_error", "abort", "aborted"})
# Azure and Google leave the message out where a filter has taken it.
_FILTERS = ("content_filter", "function_call_filter")


def _is_answer(choice: Mapping[str, Any]) -> bool:
    reason = _finish_of(choice)
    if choice.get("error") or reason.lower() in _BROKEN_OFF:
        return False
    return isinstance(choice.get("message"), dict) or reason.startswith(_FILTERS)


def _finish_of(choice: Mapping[str, Any]) -> str:
    return string_or_none(choice.get("finish_reason")) or ""


# OpenAI documents a list of calls with a function each, or with a custom tool, whose input is any text. Met as well:
# one call that is not in a list, a function without the shell around it, and the `function_call` of before.
def _calls_in(message: Mapping[str, Any]) -> list[RawCall]:
    written = message.get("tool_calls")
    calls: list[RawCall] = []
    for each in written if isinstance(written, list) else [written]:
        if not isinstance(each, dict):
            continue
        function, custom = each.get("function", each), each.get("custom")
        if isinstance(custom, dict):
            function = {"name": custom.get("name"), "arguments": custom.get("input")}
        call = call_from(function, string_or_none(each.get("id")) or None)
        before = calls[-1] if calls else None
        if call and before and not call.name and not before.arguments and call.id in (None, before.id):
            # A relay that put a stream together left the name in one call and its arguments in the next.
            calls[-1] = replace(before, arguments=call.arguments, is_object=call.is_object)
        elif call:
            calls.append(call)
    if calls:
        return calls
    legacy = call_from(message.get("function_call"), None)
    return [legacy] if legacy else []


def call_from(function: Any, id_: str | None) -> RawCall | None:
    """A call of a name and arguments; None for an empty husk, which some relays send in every message."""
    if not isinstance(function, dict):
        return None
    name, arguments = function.get("name"), function.get("arguments")
    if not name and not arguments:
        return None
    name = string_or_none(name) or ""
    if isinstance(arguments, str) or arguments is None:
        return RawCall(name, arguments or "", id_)
    return RawCall(name, as_json_text(arguments), id_, is_object=isinstance(arguments, dict))


def _texts_in(messages: list[dict[str, Any]]) -> tuple[str | None, str | None]:
    """The content, and the words of a refusal, each of the first message that has one."""
    content = refusal = None
    for message in messages:
        written, refused = message.get("content"), message.get("refusal")
        if content is None and isinstance(written, str):
            content = written
        if refusal is None and isinstance(refused, str):
            refusal = refused
        if parts := objects_in(written):  # which may hold both, each under its own name
            content = _joined(parts, "text") if content is None else content
            refusal = _joined(parts, "refusal") if refusal is None else refusal
    return content, refusal


def _joined(parts: list[dict[str, Any]], name: str) -> str | None:
    texts = [text for part in parts if isinstance(text := part.get(name), str)]
    return "".join(texts) if texts else None
