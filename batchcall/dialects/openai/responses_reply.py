"""Reads an answer of OpenAI's Responses API: its output items, or the events that it was streamed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchcall.base import Json, RawCall, Reply
from batchcall.dialects.jsontext import as_json_text, string_or_none
from batchcall.dialects.usage import read_usage

Chunk = dict[str, Json]


def response_reply_in(documents: list[Json], is_stream: bool = False) -> Reply | None:
    """The response that the documents of a body hold, whole or in events; None where they hold none that has ended."""
    for document in documents:
        if reply := response_reply(document):
            return reply
    return response_reply(assemble_events(documents))


def response_reply(document: Json) -> Reply | None:
    """The response that a document is; None where it is none, has failed, or has not ended."""
    if not isinstance(document, dict) or not ("output" in document or document.get("object") == "response"):
        return None
    status = string_or_none(document.get("status"))
    if status in _NO_ANSWER:
        return None
    details = document.get("incomplete_details")
    why_incomplete = string_or_none(details.get("reason")) if isinstance(details, dict) else None
    reason = why_incomplete or status
    items = _items_in(document)
    # There may be nothing in it although it was paid for: all tokens went into reasoning, say.
    if not items and status != _CUT and reason == status:
        return None
    if reason == _COMPLETED and any(
        item.get("type") in _TORN_IF_INCOMPLETE and item.get("status") == _CUT for item in items
    ):
        reason = _CUT  # an item says that it was cut off although the response says that it is complete
    calls = tuple([call for item in items if (call := _call_in(item))])
    content, refusal = _said(items, "text"), _said(items, "refusal") or None
    if document.get("error") and not (calls or content or refusal):
        return None
    return Reply(
        calls=calls,
        content=content,
        refusal=refusal,
        finish_reason=reason,
        model=string_or_none(document.get("model")),
        response_id=string_or_none(document.get("id")),
        system_fingerprint=string_or_none(document.get("system_fingerprint")),
        usage=read_usage(document.get("usage")),
    )


def has_response_events(documents: list[Json]) -> bool:
    """Whether any of the documents is an event of a streamed response."""
    return any(_event_name(document).startswith("response.") for document in documents)


def assemble_events(documents: list[Json]) -> Chunk | None:
    """The response as its last event tells it; None without such an event: the stream was cut off.

    Most repeat the whole output in the last event. For those that do not, it is made of the events before.
    """
    ends = [document for document in documents if _event_name(document) in _LAST_EVENTS]
    response = ends[-1].get("response") if ends and isinstance(ends[-1], dict) else None
    if not isinstance(response, dict):
        return None
    if _items_in(response):
        return response
    pieces: dict[Any, _Item] = {}
    for event in documents:
        if isinstance(event, dict):
            _add_event(pieces, event)
    # In the order of their index; those without one behind, by their id.
    in_order = sorted(pieces, key=lambda key: (False, key) if isinstance(key, int) else (True, key or ""))
    return {**response, "output": [pieces[key].as_written() for key in in_order]}


_COMPLETED = "completed"
_CUT = "incomplete"
_NO_ANSWER = ("failed", "cancelled", "queued", "in_progress")  # any other status ends it, and relays leave it out
_LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.done"})


def _items_in(document: Mapping[str, Any]) -> list[Chunk]:
    """The output items; none where this is no response: DashScope has an object of that name."""
    output = document.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    return items if all(isinstance(item.get("type") or item.get("role"), str) for item in items) else []


_TORN_IF_INCOMPLETE = ("function_call", "custom_tool_call", "message", None)
_CALL_PARTS: Mapping[Any, str] = {"function_call": "arguments", "custom_tool_call": "input"}


def _call_in(item: Chunk) -> RawCall | None:
    """The call that an item is; None for other items, and for an empty husk."""
    part = _CALL_PARTS.get(string_or_none(item.get("type")))
    if part is None:
        return None
    name, arguments = string_or_none(item.get("name")) or "", item.get(part)
    id_ = string_or_none(item.get("call_id")) or string_or_none(item.get("id")) or None
    if not name and not arguments:
        return None
    if isinstance(arguments, str) or arguments is None:
        return RawCall(name, arguments or "", id_)
    return RawCall(name, as_json_text(arguments), id_, is_object=isinstance(arguments, dict))


def _said(items: list[Chunk], part: str) -> str | None:
    """What all messages say of `text` or `refusal`, put together; None where none says any."""
    found: list[str] = []
    for content in [item.get("content") for item in items if (item.get("type") or "message") == "message"]:
        if isinstance(content, str):
            found += [content] if part == "text" else []
        elif isinstance(content, list):
            found += [text for each in content if isinstance(each, dict) and isinstance(text := each.get(part), str)]
    return "".join(found) if found else None


@dataclass(slots=True)
class _Item:
    """An output item as far as the events have told it."""

    written: Chunk = field(default_factory=dict)
    is_whole: bool = False
    # What came in pieces: a call's "arguments" or "input", and parts by place in the content and what they are.
    calls: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[tuple[int, str], list[str]] = field(default_factory=dict)

    def as_written(self) -> Chunk:
        if self.is_whole:
            return self.written
        content: list[Json] = [{part: "".join(pieces)} for (_, part), pieces in sorted(self.parts.items())]
        told: Chunk = {"content": content} if content else {}
        return {**self.written, **{part: "".join(pieces) for part, pieces in self.calls.items()}, **told}


# Which item type an event belongs to, and which part of it it tells.
_CALL_EVENTS: Mapping[str, tuple[str, str]] = {
    "response.function_call_arguments": ("function_call", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input"),
}
_TEXT_EVENTS: Mapping[str, tuple[str, str]] = {
    "response.output_text": ("text", "text"),
    "response.refusal": ("refusal", "refusal"),
}


def _add_event(pieces: dict[Any, _Item], event: Chunk) -> None:
    kind, _, step = _event_name(event).rpartition(".")
    if kind not in _CALL_EVENTS and kind not in _TEXT_EVENTS and kind != "response.output_item":
        return
    index = event.get("output_index")
    item = pieces.setdefault(index if isinstance(index, int) else string_or_none(event.get("item_id")), _Item())
    if kind == "response.output_item":
        if isinstance(written := event.get("item"), dict):
            item.written, item.is_whole = dict(written), step == "done"
    elif kind in _CALL_EVENTS:
        type_, part = _CALL_EVENTS[kind]
        item.written = {"type": type_, "name": event.get("name"), "id": event.get("item_id"), **item.written}
        _grow(item.calls.setdefault(part, []), event, part, step)
    else:
        part, told = _TEXT_EVENTS[kind]
        item.written = {"type": "message", **item.written}
        place = event.get("content_index")
        key = (place if isinstance(place, int) else 0, part)
        _grow(item.parts.setdefault(key, []), event, told, step)


def _grow(pieces: list[str], event: Chunk, whole: str, step: str) -> None:
    """Take the event's piece; the last event of a part repeats all of it."""
    said = event.get("delta" if step == "delta" else whole)
    if not isinstance(said, str):
        return
    if step != "delta":
        pieces.clear()
    pieces.append(said)


def _event_name(document: Json) -> str:
    name = document.get("type") if isinstance(document, dict) else None
    return name if isinstance(name, str) else ""
