"""Reads an answer of OpenAI's Responses API: its output items, or the events that it was streamed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from batchcall.base import Json, RawCall, Reply
from batchcall.dialects.jsontext import objects_in, string_or_none, type_of, value_at
from batchcall.dialects.openai.chat_reply import call_from
from batchcall.dialects.usage import read_usage

Chunk = dict[str, Json]


def response_reply(document: Json) -> Reply | None:
    """The response that a document holds; None where it holds none, or one that has failed or not ended."""
    if not isinstance(document, dict) or not ("output" in document or document.get("object") == "response"):
        return None
    status = string_or_none(document.get("status"))
    if status in _NO_ANSWER:
        return None
    reason = string_or_none(value_at(document, "incomplete_details", "reason")) or status
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
    return any(type_of(document).startswith("response.") for document in documents)


# OpenAI documents that the last event of a stream holds the whole response, and most relays send it so. Where they
# leave the output out, it is made of the events before. Each item of it has three of them: "added" as it begins, a
# "delta" for each piece, "done" with all of it. Any of these may be missing, so any of them makes an item.
def assemble_events(documents: list[Json]) -> Chunk | None:
    """The response as its last event has it; None without such an event: the stream was cut off."""
    ends = [document for document in documents if type_of(document) in _LAST_EVENTS]
    response = ends[-1].get("response") if ends and isinstance(ends[-1], dict) else None
    if not isinstance(response, dict):
        return None
    if _items_in(response):
        return response
    items: dict[Any, _Item] = {}
    for event in documents:
        kind, _, step = type_of(event).rpartition(".")
        if not isinstance(event, dict) or (kind != _ITEM_EVENT and kind not in _PIECE_EVENTS):
            continue
        index = event.get("output_index")
        item = items.setdefault(index if isinstance(index, int) else string_or_none(event.get("item_id")), _Item())
        if kind == _ITEM_EVENT:
            if isinstance(written := event.get("item"), dict):
                item.written, item.is_whole = dict(written), step == "done"
            continue
        type_, part = _PIECE_EVENTS[kind]
        if type_ == "message":
            item.written = {"type": type_, **item.written}
            place = event.get("content_index")
            pieces = item.parts.setdefault((place if isinstance(place, int) else 0, part), [])
        else:
            item.written = {"type": type_, "name": event.get("name"), "id": event.get("item_id"), **item.written}
            pieces = item.calls.setdefault(part, [])
        if isinstance(said := event.get("delta" if step == "delta" else part), str):
            if step != "delta":  # the last event of a part repeats all of it
                pieces.clear()
            pieces.append(said)
    # In the order of their index; those without one behind, by their id.
    in_order = sorted(items, key=lambda key: (False, key) if isinstance(key, int) else (True, key or ""))
    return {**response, "output": [items[key].as_written() for key in in_order]}


_COMPLETED = "completed"
_CUT = "incomplete"
_NO_ANSWER = ("failed", "cancelled", "queued", "in_progress")  # any other status ends it, and relays leave it out
_LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.done"})


def _items_in(document: Mapping[str, Any]) -> list[Chunk]:
    """The output items; none where this is not a response: DashScope has an object of that name."""
    items = objects_in(document.get("output"))
    return items if all(isinstance(item.get("type") or item.get("role"), str) for item in items) else []


_TORN_IF_INCOMPLETE = ("function_call", "custom_tool_call", "message", None)
_CALL_PARTS: Mapping[Any, str] = {"function_call": "arguments", "custom_tool_call": "input"}


def _call_in(item: Chunk) -> RawCall | None:
    """The call that an item is; None for other items, and for an empty husk."""
    part = _CALL_PARTS.get(string_or_none(item.get("type")))
    if part is None:
        return None
    # `call_id` is what a result has to name. A relay that translates may have the item's own id alone.
    id_ = string_or_none(item.get("call_id")) or string_or_none(item.get("id")) or None
    return call_from({"name": string_or_none(item.get("name")), "arguments": item.get(part)}, id_)


def _said(items: list[Chunk], part: str) -> str | None:
    """The `text` or the `refusal` of all messages, joined; None where no message has one."""
    found: list[str] = []
    for content in [item.get("content") for item in items if (item.get("type") or "message") == "message"]:
        if isinstance(content, str):
            found += [content] if part == "text" else []
        else:
            found += [text for each in objects_in(content) if isinstance(text := each.get(part), str)]
    return "".join(found) if found else None


class _Item(msgspec.Struct):
    """An output item as far as the events have brought it."""

    written: Chunk = {}
    is_whole: bool = False
    # What came in pieces: a call's "arguments" or "input", and parts by place in the content and what they are.
    calls: dict[str, list[str]] = {}
    parts: dict[tuple[int, str], list[str]] = {}

    def as_written(self) -> Chunk:
        if self.is_whole:
            return self.written
        content: list[Json] = [{part: "".join(pieces)} for (_, part), pieces in sorted(self.parts.items())]
        calls = {part: "".join(pieces) for part, pieces in self.calls.items()}
        return {**self.written, **calls, **({"content": content} if content else {})}


# The item type that an event belongs to, and the part of it that the event brings.
_PIECE_EVENTS: Mapping[str, tuple[str, str]] = {
    "response.function_call_arguments": ("function_call", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input"),
    "response.output_text": ("message", "text"),
    "response.refusal": ("message", "refusal"),
}
_ITEM_EVENT = "response.output_item"
