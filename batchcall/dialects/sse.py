"""Reassembles a streamed completion: from server-sent events, or from one JSON document a line, to one document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

from batchcall.base import Json
from batchcall.dialects.deltas import join_deltas
from batchcall.dialects.jsontext import objects_in

Chunk = dict[str, Json]


def begins_as_stream(body: bytes) -> bool:
    """Whether a body can only be server-sent events, so that it need not be tried as JSON, which copies it."""
    return body.startswith((b"data:", b"event:", b"id:", b"retry:", b":"))


def is_event_stream(text: str) -> bool:
    """Whether a text looks like server-sent events. The content type is no evidence either way."""
    return _STARTS_AS_STREAM.match(text) is not None


# The standard's lines of a field, with what else is met in streams: no space behind "data:", a document a line without
# any "data:", no blank line between events, and lines that end as in Windows or on old Macs.
def read_events(text: str) -> Iterator[str]:
    """What each event carries, usually one JSON document; "[DONE]" is an event too and proves nothing. A run of deltas
    that differ in their piece of text only is one event: see `join_deltas`."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    for block in join_deltas(text):
        if block.startswith("data: ") and "\n" not in block:
            yield block[6:]
            continue
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
        if not isinstance(chunk, dict):
            continue
        for name in _SAID_ONCE:
            if chunk.get(name):  # the last one that says anything: usage comes late, sometimes growing
                completion[name] = chunk[name]
        listed = chunk.get("choices")
        for position, written in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(written, dict):
                index = written.get("index")
                choices.setdefault(index if isinstance(index, int) else position, _Choice()).extend(written)
                if isinstance(written.get("usage"), dict):  # Moonshot counts inside the choice
                    completion.setdefault("usage", written["usage"])
    if choices[min(choices)].finish_reason is None:
        return None
    completion["choices"] = [choices[index].as_choice(index) for index in sorted(choices)]
    return completion


def has_chunks(documents: list[Json]) -> bool:
    """Whether any of the documents is a piece of a streamed completion."""
    return any(isinstance(choice.get("delta"), dict) for document in documents for choice in choices_in(document))


def choices_in(document: Json) -> list[Chunk]:
    """The choices of a completion or of a chunk; none where it is neither."""
    return objects_in(document.get("choices")) if isinstance(document, dict) else []


class _Call(msgspec.Struct):
    id: Json = None
    name: str | None = None
    pieces: list[str] = []  # of the arguments
    value: Json = None  # arguments that did not come as a text
    looks: int = 0  # how often all of the pieces were put together to see whether they are whole

    def as_function(self) -> Chunk:
        arguments: Json = "".join(self.pieces) if self.pieces else self.value
        named: Chunk = {"name": self.name} if self.name is not None else {}
        return named if arguments is None else {**named, "arguments": arguments}

    def extend(self, fragment: Json) -> None:
        """Take what a fragment says about the function."""
        if not isinstance(fragment, dict):
            return
        name, arguments = fragment.get("name"), fragment.get("arguments")
        if isinstance(name, str) and name != self.name:  # some repeat the whole name in every fragment
            self.name = (self.name or "") + name
        if not isinstance(arguments, str):
            if arguments is not None:
                self.pieces, self.value = [], arguments
        elif arguments or not (self.pieces or self.value is not None):
            # LiteLLM in front of Claude begins with the empty input of its first event.
            if self.pieces in ([""], ["{}"]):
                self.pieces.clear()
            self.pieces.append(arguments)

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


class _Choice(msgspec.Struct):
    content: list[str] = []
    refusal: list[str] = []
    calls: list[_Call] = []
    by_index: dict[Any, _Call] = {}  # the call that a fragment's index continues
    by_id: dict[Any, _Call] = {}  # the last call of each id
    legacy_call: _Call | None = None
    finish_reason: str | None = None

    def extend(self, written: Chunk) -> None:
        """Take what a chunk says about this choice."""
        delta = written.get("delta")
        if isinstance(delta, dict):
            self.content.extend(_texts(delta.get("content")))
            self.refusal.extend(_texts(delta.get("refusal")))
            for fragment in objects_in(delta.get("tool_calls")):
                self.extend_call(fragment)
            if isinstance(delta.get("function_call"), dict):
                self.legacy_call = self.legacy_call or _Call()
                self.legacy_call.extend(delta["function_call"])
        finish_reason = written.get("finish_reason")
        if isinstance(finish_reason, str) and finish_reason:
            self.finish_reason = finish_reason

    def extend_call(self, fragment: Chunk) -> None:
        """Take a fragment of a call: it goes on with one, or begins another."""
        key = fragment.get("index")
        if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < _INDEX_DIGITS:  # some quote it
            key = int(key)
        elif not isinstance(key, (int, str)):
            key = None
        call = self.call_of(fragment, key)
        if call is None:
            call = _Call()
            self.calls.append(call)
        self.by_index[key] = call
        call.id = call.id or fragment.get("id")
        if isinstance(call.id, (str, int)):
            self.by_id[call.id] = call
        call.extend(fragment.get("function"))
        custom = fragment.get("custom")
        if isinstance(custom, dict):
            call.extend({"name": custom.get("name"), "arguments": custom.get("input")})

    # OpenAI gives each call an index, an id and a name in its first fragment, and only the index in the others. Relays
    # break each of these rules, so the call is looked for in this order:
    #
    # 1. By the index, unless the fragment's id is that of another call.
    # 2. By the id, since some count the index up in the middle of a call (LocalAI). Others have one id for all calls of
    #    an answer: so not where the fragment has another name, or begins an object behind one that has begun.
    # 3. The last call, where the index is new and nothing else is: no id, no other name, no start of an object. Some
    #    relays count the index up with each piece.
    #
    # What was found so may still be another call with the same index:
    #
    # 4. With another id and a name: relays in front of Gemini send index 0 for all. Without a name the id is made up
    #    for each fragment, and the index is the better sign, where there is one.
    # 5. With a name, but neither index nor id: whole calls, one behind the other.
    # 6. With a name and the start of an object behind a call that is whole: Google itself sends index 0 for all, and no
    #    id; others send a call twice, with its id, and `as_choice` leaves one of them.
    def call_of(self, fragment: Chunk, key: int | str | None) -> _Call | None:
        """The call that a fragment goes on with; None where it begins another."""
        id_, function = fragment.get("id"), fragment.get("function") or fragment.get("custom")
        name, arguments = (function.get("name"), function.get("arguments")) if isinstance(function, dict) else ("", "")
        is_opening = arguments.lstrip().startswith("{") if isinstance(arguments, str) else isinstance(arguments, dict)

        call = self.by_index.get(key)
        if call is None or id_ != call.id:
            other = self.by_id.get(id_) if id_ and isinstance(id_, (str, int)) else None
            if other and (name or other.name) == other.name and not (is_opening and other.is_begun()):
                call = other
        if call is None and self.calls and not id_:
            last = self.calls[-1]
            is_next = not is_opening if last.is_begun() else not name
            call = last if is_next and (name or last.name) == last.name else None

        if call is None:
            return None
        if id_ and call.id and id_ != call.id:
            return None if name or key is None else call
        if not name:
            return call
        if key is None and not id_:
            return None if call.has_arguments() else call
        is_another = is_opening and (call.is_begun() or not id_) and call.is_whole()
        return None if is_another else call

    def as_choice(self, index: int) -> Chunk:
        calls: dict[Any, Json] = {}  # without those that repeat another to the letter, its id included
        for place, call in enumerate(self.calls):
            function = call.as_function()
            key = (call.id, function.get("name"), function.get("arguments"))
            is_text = all(isinstance(one, str) for one in key)
            calls.setdefault(key if is_text and call.id else place, {"id": call.id, "function": function})
        message: Chunk = {
            "content": "".join(self.content) if self.content else None,
            "refusal": "".join(self.refusal) or None,
            "tool_calls": list(calls.values()),
            "function_call": self.legacy_call.as_function() if self.legacy_call else None,
        }
        return {"index": index, "message": message, "finish_reason": self.finish_reason}


_STARTS_AS_STREAM = re.compile(r"\s*(?:data|event|id|retry)?:")
_FIELD = re.compile(r"(?:event|id|retry)?:")
_MOST_LOOKS = 64  # at the arguments of a call: one that is begun again and again would cost the square of its length
_INDEX_DIGITS = 10
_SAID_ONCE = ("id", "object", "created", "model", "system_fingerprint", "usage")


def _texts(content: Json) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [text for part in objects_in(content) if isinstance(text := part.get("text"), str)]
