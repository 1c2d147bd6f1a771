"""Reassembles a streamed completion: from server-sent events, or from one JSON document a line, to one document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from batchcall.base import Json
from batchcall.dialects.deltas import join_deltas

Chunk = dict[str, Json]


def is_event_stream(text: str) -> bool:
    """Whether a text looks like server-sent events. The content type is no evidence either way."""
    return _STARTS_AS_STREAM.match(text) is not None


def read_events(text: str) -> Iterator[str]:
    """What each event carries, usually one JSON document; "[DONE]" is an event too and proves nothing. A run of deltas
    that differ in their piece of text only is one event: see `join_deltas`."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    for block in join_deltas(text):
        if block.startswith("data: ") and "\n" not in block:
            yield block[6:]
        else:
            yield from _events_in(block)


def _events_in(block: str) -> Iterator[str]:
    lines: list[str] = []
    is_bare = False  # an error stands between the events without its "data:", on one line or, Google's, on many
    for line in block.split("\n"):  # str.splitlines would also split at U+2028, which JSON strings may hold
        if line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
            is_bare = False
        elif line.lstrip().startswith("{") or (is_bare and line.strip() and not _FIELD.match(line)):
            lines.append(line)
            is_bare = True
        elif not line.strip() and lines:
            yield "\n".join(lines)
            lines, is_bare = [], False
    if lines:
        yield "\n".join(lines)


def assemble(documents: list[Json]) -> Chunk | None:
    """One completion from its chunks, as the endpoint would have sent it without a stream.

    None where there are no chunks, or the first choice never came to its finish_reason: it was cut off.
    """
    if not has_chunks(documents):
        return None
    completion: Chunk = {}
    choices: dict[int, _Choice] = {}
    for chunk in documents:
        if isinstance(chunk, dict):
            _add_chunk(completion, choices, chunk)
    if choices[min(choices)].finish_reason is None:
        return None
    completion["choices"] = [choices[index].as_choice(index) for index in sorted(choices)]
    return completion


def has_chunks(documents: list[Json]) -> bool:
    """Whether any of the documents is a piece of a streamed completion."""
    return any(
        isinstance(choice, dict) and isinstance(choice.get("delta"), dict)
        for document in documents
        if isinstance(document, dict)
        for choice in _listed(document.get("choices"))
    )


@dataclass(slots=True)
class _Call:
    id: Json = None
    name: str | None = None
    pieces: list[str] = field(default_factory=list)  # of the arguments
    value: Json = None  # arguments that did not come as a text
    looks: int = 0  # how often all of the pieces were put together to see whether they are whole

    def as_function(self) -> Chunk:
        arguments: Json = "".join(self.pieces) if self.pieces else self.value
        told: Chunk = {"name": self.name} if self.name is not None else {}
        return told if arguments is None else {**told, "arguments": arguments}

    def extend(self, fragment: Json) -> None:
        """Take what a fragment says of the function."""
        if not isinstance(fragment, dict):
            return
        name, arguments = fragment.get("name"), fragment.get("arguments")
        if isinstance(name, str) and name != self.name:  # some repeat the whole name in every fragment
            self.name = (self.name or "") + name
        if isinstance(arguments, str):
            self._continue(arguments)
        elif arguments is not None:
            self.pieces, self.value = [], arguments

    def _continue(self, more: str) -> None:
        if not more and (self.pieces or self.value is not None):
            return
        if self.pieces in ([""], ["{}"]):  # relays in front of Claude begin with the empty input of its first event
            self.pieces.clear()
        self.pieces.append(more)

    def has_arguments(self) -> bool:
        return any(self.pieces) or bool(self.value)

    def is_begun(self) -> bool:
        """Whether it has arguments that are more than the empty object with which some relays begin."""
        return self.has_arguments() and self.pieces != ["{}"]

    def is_whole(self) -> bool:
        """Whether its arguments are an object that nothing can follow."""
        if not self.pieces or not self.pieces[-1].rstrip().endswith("}"):
            return isinstance(self.value, dict)
        if self.looks >= _MOST_LOOKS:
            return False
        self.looks += 1
        try:
            return isinstance(orjson.loads("".join(self.pieces)), dict)
        except ValueError:
            return False


@dataclass(slots=True)
class _Choice:
    content: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    by_index: dict[Any, _Call] = field(default_factory=dict)  # the call that a fragment's index continues
    by_id: dict[Any, _Call] = field(default_factory=dict)  # the last call of each id
    legacy_call: _Call | None = None
    finish_reason: str | None = None

    def as_choice(self, index: int) -> Chunk:
        message: Chunk = {
            "content": "".join(self.content) if self.content else None,
            "refusal": "".join(self.refusal) or None,
            "tool_calls": _different([{"id": call.id, "function": call.as_function()} for call in self.calls]),
            "function_call": self.legacy_call.as_function() if self.legacy_call else None,
        }
        return {"index": index, "message": message, "finish_reason": self.finish_reason}


_STARTS_AS_STREAM = re.compile(r"\s*(?:data|event|id|retry)?:")
_FIELD = re.compile(r"(?:event|id|retry)?:")
_MOST_LOOKS = 64  # at the arguments of a call: one that is begun again and again would cost the square of its length
_INDEX_DIGITS = 10
_SAID_ONCE = ("id", "object", "created", "model", "system_fingerprint", "usage")


def _add_chunk(completion: Chunk, choices: dict[int, _Choice], chunk: Chunk) -> None:
    for name in _SAID_ONCE:
        if chunk.get(name):  # the last one that says anything: usage comes late, sometimes growing
            completion[name] = chunk[name]
    for position, written in enumerate(_listed(chunk.get("choices"))):
        if not isinstance(written, dict):
            continue
        index = written.get("index")
        key = index if isinstance(index, int) else position
        _add_choice(choices.setdefault(key, _Choice()), written)
        if isinstance(written.get("usage"), dict):  # Moonshot counts inside the choice
            completion.setdefault("usage", written["usage"])


def _add_choice(choice: _Choice, written: Chunk) -> None:
    delta = written.get("delta")
    if isinstance(delta, dict):
        choice.content.extend(_texts(delta.get("content")))
        choice.refusal.extend(_texts(delta.get("refusal")))
        for fragment in _listed(delta.get("tool_calls")):
            _add_call_fragment(choice, fragment)
        if isinstance(delta.get("function_call"), dict):
            choice.legacy_call = choice.legacy_call or _Call()
            choice.legacy_call.extend(delta["function_call"])
    finish_reason = written.get("finish_reason")
    if isinstance(finish_reason, str) and finish_reason:
        choice.finish_reason = finish_reason


# Which call a fragment belongs to. OpenAI gives each call an index, an id and a name in its first fragment, and only
# the index in the others. Relays break each of these rules, so the cases are:
#
# - a known index: that call, unless the fragment's id is that of another call which it can go on with;
# - a new index, with neither an id nor another name, and no start of an object: it goes on with the last call, since
#   some relays count the index up with each piece;
# - a known index, or none, with another id and a name: another call, since relays in front of Gemini send index 0 for
#   all. Another id without a name is made up for the fragment, where there is an index to go by;
# - a name and the start of an object behind a call that is whole: another call, whatever the index says.
def _add_call_fragment(choice: _Choice, fragment: Json) -> None:
    if not isinstance(fragment, dict):
        return
    key = fragment.get("index")
    if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < _INDEX_DIGITS:  # some write it as text
        key = int(key)
    elif not isinstance(key, (int, str)):
        key = None
    call = choice.by_index.get(key)
    if call is None or fragment.get("id") != call.id:
        call = _by_id(choice, fragment) or call
    if call is None and choice.calls and _goes_on(choice.calls[-1], fragment):
        call = choice.calls[-1]
    if call is None or _begins_another(call, fragment, has_index=key is not None):
        call = _Call()
        choice.calls.append(call)
    choice.by_index[key] = call
    call.id = call.id or fragment.get("id")
    if isinstance(call.id, (str, int)):
        choice.by_id[call.id] = call
    call.extend(fragment.get("function"))
    custom = fragment.get("custom")
    if isinstance(custom, dict):
        call.extend({"name": custom.get("name"), "arguments": custom.get("input")})


def _by_id(choice: _Choice, fragment: Chunk) -> _Call | None:
    """The call of the fragment's id, where the fragment can go on with it: some count the index up in the middle of
    a call, others have one id for all calls of an answer."""
    id_, function = fragment.get("id"), _function_of(fragment)
    call = choice.by_id.get(id_) if id_ and isinstance(id_, (str, int)) else None
    if call is None or (function.get("name") or call.name) != call.name:
        return None
    return None if call.is_begun() and _opens_object(function.get("arguments")) else call


def _goes_on(call: _Call, fragment: Chunk) -> bool:
    """Whether a fragment at a new index still continues the last call: it brings neither an id nor another
    function's name, and its text is not where another call begins. Some relays count the index up with each piece."""
    function = _function_of(fragment)
    if fragment.get("id") or (function.get("name") or call.name) != call.name:
        return False
    return not _opens_object(function.get("arguments")) if call.is_begun() else not function.get("name")


def _different(calls: list[Any]) -> list[Json]:
    """The calls without those that repeat another to the letter, its id included."""
    told: dict[Any, Json] = {}
    for place, call in enumerate(calls):
        function = call["function"]
        key = (call["id"], function.get("name"), function.get("arguments"))
        is_text = all(isinstance(one, str) for one in key)
        told.setdefault(key if is_text and key[0] else place, call)
    return list(told.values())


def _begins_another(call: _Call, fragment: Chunk, *, has_index: bool) -> bool:
    """Whether a fragment starts a call of its own although its index, or the lack of one, says it goes on."""
    id_, function = fragment.get("id"), _function_of(fragment)
    is_named = bool(function.get("name"))
    if id_ and call.id and id_ != call.id:  # relays in front of Gemini send index 0 for every call
        return is_named or not has_index  # some make up an id for every fragment
    if not is_named:
        return False
    if not has_index and not id_:
        return call.has_arguments()
    # Google itself: index 0 for all, and no id. Others send a call twice, with its id.
    return _opens_object(function.get("arguments")) and (call.is_begun() or not id_) and call.is_whole()


def _function_of(fragment: Chunk) -> Chunk:
    told = fragment.get("function") or fragment.get("custom")
    return told if isinstance(told, dict) else {}


def _opens_object(arguments: Json) -> bool:
    return arguments.lstrip().startswith("{") if isinstance(arguments, str) else isinstance(arguments, dict)


def _texts(content: Json) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = [part.get("text") for part in _listed(content) if isinstance(part, dict)]
    return [text for text in parts if isinstance(text, str)]


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
