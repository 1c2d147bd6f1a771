"""What an answer of Anthropic's Messages API says, whole or streamed, whoever sends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchcall.base import Json, RawCall, Reply
from batchcall.dialects.jsontext import as_json_text, objects_in, string_or_none, type_of
from batchcall.dialects.usage import read_usage

Event = dict[str, Json]


def message_reply_from(document: Json) -> Reply | None:
    """The answer that a document holds; None where it holds none."""
    if not isinstance(document, dict):
        return None
    blocks = _blocks_of(document)
    if blocks is None or (not blocks and document.get("stop_reason") == "tool_use"):  # a call that is not there
        return None
    calls = tuple([call for block in blocks if block.get("type") == "tool_use" and (call := _call(block))])
    # One text with citations comes in many blocks. Thinking is none of it.
    texts = [text for block in blocks if block.get("type") == "text" and isinstance(text := block.get("text"), str)]
    content = "".join(texts) if texts else None
    if document.get("error") and not (calls or content):
        return None  # an error beside an empty message
    details = document.get("stop_details")
    refusal = None
    if not content and isinstance(details, dict):
        refusal = string_or_none(details.get("explanation")) or None
    return Reply(
        calls=calls,
        content=content,
        refusal=refusal,
        finish_reason=string_or_none(document.get("stop_reason")),
        model=string_or_none(document.get("model")),
        response_id=string_or_none(document.get("id")),
        usage=read_usage(document.get("usage")),
    )


def assemble_message(documents: list[Json]) -> Event | None:
    """One message from its events, as the endpoint would have sent it without a stream.

    None where there are no events, or its stop_reason never came: it was cut off.
    """
    stream = _Stream()
    for document in documents:
        if isinstance(document, dict) and (take := _TAKES.get(type_of(document))):
            take(stream, document)
    if not string_or_none(stream.message.get("stop_reason")):
        return None
    content: list[Json] = [block.as_block() for block in stream.blocks]
    return {**stream.message, "type": "message", "usage": stream.usage, "content": content}


def has_events(documents: list[Json]) -> bool:
    """Whether any of the documents is a piece of a streamed answer."""
    return any(type_of(document) in _EVENTS for document in documents)


def _blocks_of(document: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The content of a message; None where the document is no message, or one with nothing in it and no end."""
    has_ended = bool(string_or_none(document.get("stop_reason")))
    if document.get("type") != "message" and not has_ended:
        return None
    content = document.get("content")
    if isinstance(content, str):  # as a request may write it
        content = [{"type": "text", "text": content}]
    blocks: list[Mapping[str, Any]] = [*objects_in(content)]
    return blocks if has_ended or any(block.get("type") in ("text", "tool_use") for block in blocks) else None


def _call(block: Mapping[str, Any]) -> RawCall | None:
    """A call; None for an empty husk. An object is what the protocol has; a string in its place reads as encoded
    twice."""
    name = string_or_none(block.get("name")) or ""
    arguments = block.get("partial_json")  # of a stream
    if not isinstance(arguments, str) or not arguments.strip():
        written = block.get("input")
        arguments = "" if written is None else as_json_text(written)
    return RawCall(name, arguments, string_or_none(block.get("id")) or None) if name or arguments else None


# Streams


@dataclass(slots=True)
class _Block:
    start: Event
    texts: list[str] = field(default_factory=list)
    jsons: list[str] = field(default_factory=list)

    def as_block(self) -> Event:
        """The block with what its deltas brought. The text of an input stays as it came: it may be cut."""
        block = {**self.start, "partial_json": "".join(self.jsons)}
        if self.texts:
            block["text"] = "".join([string_or_none(self.start.get("text")) or "", *self.texts])
        return block


@dataclass(slots=True)
class _Stream:
    message: Event = field(default_factory=dict)
    usage: Event = field(default_factory=dict)
    blocks: list[_Block] = field(default_factory=list)
    by_index: dict[int, _Block] = field(default_factory=dict)  # the block that a delta's index continues


def _begin(stream: _Stream, event: Event) -> None:
    """A second beginning is that of another try, by a relay: what came before it is void."""
    message = event.get("message")
    stream.message = {**message, "stop_reason": None} if isinstance(message, dict) else {}
    stream.usage = {}
    stream.blocks, stream.by_index = [], {}
    _count(stream, stream.message)


def _begin_block(stream: _Stream, event: Event) -> _Block:
    start, index = event.get("content_block"), event.get("index")
    block = _Block(start if isinstance(start, dict) else {})
    stream.blocks.append(block)
    stream.by_index[index if isinstance(index, int) else -1] = block
    return block


def _extend_block(stream: _Stream, event: Event) -> None:
    delta, index = event.get("delta"), event.get("index")
    if not isinstance(delta, dict) or (kind := type_of(delta)) not in _BLOCK_OF_DELTA:
        return  # thinking, its signature, citations
    block = stream.by_index.get(index if isinstance(index, int) else -1)
    if block is None:
        block = _begin_block(stream, {**event, "content_block": {"type": _BLOCK_OF_DELTA[kind]}})
    for pieces, name in ((block.texts, "text"), (block.jsons, "partial_json")):
        if isinstance(piece := delta.get(name), str):
            pieces.append(piece)


def _end(stream: _Stream, event: Event) -> None:
    delta = event.get("delta")
    if isinstance(delta, dict):
        stream.message.update({name: said for name, said in delta.items() if said is not None and name in _SAID_LATE})
    _count(stream, event)


def _count(stream: _Stream, around: Event) -> None:
    """The counts so far: they grow, and a relay that does not know one says 0 or null."""
    usage = around.get("usage")
    if isinstance(usage, dict):
        stream.usage.update({name: count for name, count in usage.items() if count or name not in stream.usage})


_TAKES: Mapping[str, Callable[[_Stream, Event], object]] = {
    "message_start": _begin,
    "content_block_start": _begin_block,
    "content_block_delta": _extend_block,
    "message_delta": _end,
}
_EVENTS = frozenset({*_TAKES, "content_block_stop", "message_stop"})
_BLOCK_OF_DELTA: Mapping[str, str] = {"text_delta": "text", "input_json_delta": "tool_use"}
_SAID_LATE = frozenset({"stop_reason", "stop_sequence", "stop_details"})
