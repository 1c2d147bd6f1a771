"""What an answer of Anthropic's Messages API says, whole or streamed, whoever sends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from batchcall.base import Json, RawCall, Reply
from batchcall.dialects.jsontext import as_json_text, objects_in, string_or_none, type_of, value_at
from batchcall.dialects.usage import read_usage

Event = dict[str, Json]


def message_reply_from(document: Json) -> Reply | None:
    """The answer that a document holds; None where it holds none."""
    if not isinstance(document, dict):
        return None
    blocks = _blocks_of(document)
    # A call that is announced and not there: the relay lost it, and an empty answer would hide that.
    if blocks is None or (not blocks and document.get("stop_reason") == "tool_use"):
        return None
    calls = tuple([call for block in blocks if block.get("type") == "tool_use" and (call := _call(block))])
    # One text with citations comes in many blocks. Thinking is not part of it, nor is what Anthropic's own tools did
    # (server_tool_use): neither was asked for.
    texts = [text for block in blocks if block.get("type") == "text" and isinstance(text := block.get("text"), str)]
    content = "".join(texts) if texts else None
    if document.get("error") and not (calls or content):
        return None  # an error beside an empty message
    # Anthropic explains a refusal beside an empty content. Where there are words, they are the answer up to the
    # refusal.
    refusal = None if content else string_or_none(value_at(document, "stop_details", "explanation")) or None
    return Reply(
        calls=calls,
        content=content,
        refusal=refusal,
        finish_reason=string_or_none(document.get("stop_reason")),
        model=string_or_none(document.get("model")),
        response_id=string_or_none(document.get("id")),
        usage=read_usage(document.get("usage")),
    )


# Anthropic documents a message_start, for each block a content_block_start with its deltas, and a message_delta with
# the stop_reason and the counts. What relays make of it, and how it is read:
#
# - A second message_start is that of another try: what came before it is void.
# - A stop_reason comes late. One in message_start, null as documented, says nothing, so a stream without a
#   message_delta was cut off. message_stop proves nothing: it follows a broken answer, too.
# - A delta without its beginning begins a block of its kind.
# - Two blocks of the same index: deltas go on with the later one.
# - Deltas of thinking, its signature and citations are not part of what is read.
def assemble_message(documents: list[Json]) -> Event | None:
    """One message from its events, as the endpoint would have sent it without a stream.

    None where there are no events, or its stop_reason never came: it was cut off.
    """
    message: Event = {}
    usage: Event = {}
    blocks: list[_Block] = []
    by_index: dict[int, _Block] = {}  # the block that a delta's index continues
    for event in documents:
        kind = type_of(event)
        if not isinstance(event, dict) or kind not in _EVENTS:
            continue
        index, delta = event.get("index"), event.get("delta")
        key = index if isinstance(index, int) else -1
        if kind == "message_start":
            started = event.get("message")
            message = {**started, "stop_reason": None} if isinstance(started, dict) else {}
            usage, blocks, by_index = {}, [], {}
            _add_counts(usage, message)
        elif kind == "content_block_start":
            start = event.get("content_block")
            blocks.append(_Block(start if isinstance(start, dict) else {}))
            by_index[key] = blocks[-1]
        elif kind == "content_block_delta" and isinstance(delta, dict) and type_of(delta) in _BLOCK_OF_DELTA:
            if key not in by_index:
                blocks.append(_Block({"type": _BLOCK_OF_DELTA[type_of(delta)]}))
                by_index[key] = blocks[-1]
            for pieces, name in ((by_index[key].texts, "text"), (by_index[key].jsons, "partial_json")):
                if isinstance(piece := delta.get(name), str):
                    pieces.append(piece)
        elif kind == "message_delta":
            if isinstance(delta, dict):
                message.update({name: delta[name] for name in _SAID_LATE if delta.get(name) is not None})
            _add_counts(usage, event)
    if not string_or_none(message.get("stop_reason")):
        return None
    content: list[Json] = [block.as_block() for block in blocks]
    return {**message, "type": "message", "usage": usage, "content": content}


def _add_counts(usage: Event, around: Event) -> None:
    """Take the counts so far: they grow, and a relay that does not know one says 0 or null."""
    if isinstance(counts := around.get("usage"), dict):
        usage.update({name: count for name, count in counts.items() if count or name not in usage})


def has_events(documents: list[Json]) -> bool:
    """Whether any of the documents is a piece of a streamed answer."""
    return any(type_of(document) in _EVENTS for document in documents)


def _blocks_of(document: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The content of a message; None where the document is not a message, or one with nothing in it and no end."""
    has_ended = bool(string_or_none(document.get("stop_reason")))
    if document.get("type") != "message" and not has_ended:
        return None
    content = document.get("content")
    if isinstance(content, str):  # as a request may write it
        content = [{"type": "text", "text": content}]
    blocks = objects_in(content)
    return blocks if has_ended or any(block.get("type") in ("text", "tool_use") for block in blocks) else None


def _call(block: Mapping[str, Any]) -> RawCall | None:
    """A call; None for an empty husk.

    The protocol has an object. A string in its place reads as encoded twice, which the ladder repairs and records.
    """
    name = string_or_none(block.get("name")) or ""
    arguments = block.get("partial_json")  # of a stream
    if not isinstance(arguments, str) or not arguments.strip():
        written = block.get("input")
        arguments = "" if written is None else as_json_text(written)
    return RawCall(name, arguments, string_or_none(block.get("id")) or None) if name or arguments else None


# Streams


class _Block(msgspec.Struct):
    start: Event
    texts: list[str] = []
    jsons: list[str] = []

    def as_block(self) -> Event:
        """The block with what its deltas brought. The text of an input stays as it came: it may be cut."""
        block = {**self.start, "partial_json": "".join(self.jsons)}
        if self.texts:
            block["text"] = "".join([string_or_none(self.start.get("text")) or "", *self.texts])
        return block


_EVENTS = frozenset(
    {
        *("message_start", "message_delta", "message_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
    }
)
_BLOCK_OF_DELTA: Mapping[str, str] = {"text_delta": "text", "input_json_delta": "tool_use"}
_SAID_LATE = ("stop_reason", "stop_sequence", "stop_details")
