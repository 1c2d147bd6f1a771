"""Joins the pieces of a stream before they are parsed: a run of deltas that say the same but for a piece of text.

The same for every protocol, and text work only: a delta costs a fraction of one JSON parse. Whatever does not have the
plain shape of a delta stays as it came. The joined run means what its deltas mean one by one:
`tests/dialects/test_deltas.py` holds that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from batchcall.base import Json
from batchcall.dialects.jsontext import value_at

_SHORTEST_RUN = 4  # deltas; to make a template costs as much as to parse a hundred
_MOST_AT_ONCE = 1024  # deltas whose text is checked in one search, in which no other thread runs
_LONGEST_REST = 256  # events until the next template is tried, where the last ones were of no use


# A pattern is made of two events that follow each other: what they have in common, with a gap for the piece of text.
# Whatever matches it is the same delta with another text, so the texts are joined and the JSON is parsed once. The
# first event of a run stays as it is: it alone may say where the others belong, by an id or a name.
#
# A pattern that matches few events was not worth its price. The next one is tried after 2, 4, 8 … events then, so a
# stream whose events all differ costs little more than without.
def join_deltas(stream: str) -> Iterator[str]:
    """The events of a stream whose lines end in newlines, each as its lines. In the place of a run of deltas stand its
    first, and one more with the text of all the others."""
    template: _Template | None = None
    number, rest, try_at = 0, 1, 0
    event, place = _event_at(stream, 0)
    while event or place < len(stream):
        yield event
        number += 1
        is_like = template is not None and template.looks.fullmatch(event + _BETWEEN) is not None
        if not is_like:
            template = _template_of(event, _event_at(stream, place)[0]) if number >= try_at else None
        pieces, last = _run_of(template, stream, place) if template is not None else ([], None)
        if is_like or number >= try_at:
            rest = 1 if len(pieces) >= _SHORTEST_RUN else min(2 * rest, _LONGEST_REST)
            try_at = number + rest
        if last is not None:
            start, begin, end, place_behind = last
            # LiteLLM in front of Claude begins with an empty object that the next piece replaces: it is not a piece of
            # a text, so joining it would change what is said.
            if "{}" not in pieces and "".join(pieces[:3]) not in ("", "{}"):
                yield stream[start:begin] + "".join(pieces) + stream[end : place_behind - len(_BETWEEN)]
            else:
                yield from stream[place : place_behind - len(_BETWEEN)].split(_BETWEEN)
            place = place_behind
        event, place = _event_at(stream, place)


_BETWEEN = "\n\n"


def _event_at(stream: str, place: int) -> tuple[str, int]:
    """The event that begins there, and where the next begins."""
    end = stream.find(_BETWEEN, place)
    return (stream[place:end], end + len(_BETWEEN)) if end >= 0 else (stream[place:], len(stream))


class _Template(NamedTuple):
    """What deltas look like."""

    looks: re.Pattern[str]  # of one; its only group is the piece of text
    around: tuple[str, str] | None  # what stands before and behind the piece, where nothing else may differ


_Last = tuple[int, int, int, int]  # of the last delta of a run: where it begins, its piece begins and ends, and it ends


def _run_of(template: _Template, stream: str, place: int) -> tuple[list[str], _Last | None]:
    """The pieces of the deltas from a place on, up to what does not match, and where the last one is."""
    pieces: list[str] = []
    last: _Last | None = None
    most = _SHORTEST_RUN
    # Where all around the pieces is the same, it is compared as a whole, and many pieces are checked at once. They are
    # few at first, since a piece that is none throws away what came with it.
    while template.around and (some := _some_between(*template.around, stream, place, most)):
        if _PIECES.fullmatch('"' + '""'.join(some[0]) + '"') is None:
            break
        pieces += some[0]
        last = some[1]
        place, most = last[-1], min(4 * most, _MOST_AT_ONCE)
    found: re.Match[str] | None = None
    take, match = pieces.append, template.looks.match
    while (one := match(stream, place)) is not None:
        take(one[1])
        place, found = one.end(), one
    return pieces, last if found is None else (found.start(), *found.span(1), found.end())


def _some_between(before: str, behind: str, stream: str, place: int, most: int) -> tuple[list[str], _Last] | None:
    """At most so many texts that stand between these two, over and over from a place on, and where the last one is."""
    if not stream.startswith(before, place):
        return None
    pieces: list[str] = []
    between = behind + before
    from_end, to_next = len(_BETWEEN) - len(behind), len(between)
    begin = place + len(before)
    take, find, goes_on = pieces.append, stream.find, stream.startswith
    for _ in range(most):
        end = find("\n", begin) + from_end  # a delta is one line, from its piece on
        if end < begin or not goes_on(between, end):
            break
        take(stream[begin:end])
        begin = end + to_next
    if not pieces:
        return None
    place_behind = begin - len(before)
    end = place_behind - len(behind)
    begin = end - len(pieces[-1])
    return pieces, (begin - len(before), begin, end, place_behind)


# Two deltas are compared token by token. They may differ in the piece of text, in counts that only the last delta needs
# to say, and in padding. With any other difference they are not one text in pieces.
def _template_of(event: str, following: str) -> _Template | None:
    """What the next deltas look like by two of them; None where they are no deltas, or differ in more than they may."""
    left, right = _ONE_DOCUMENT.fullmatch(event), _ONE_DOCUMENT.fullmatch(following)
    if not left or not right or left[1] != right[1]:
        return None
    path = _place_in(left[2])
    if path is None or _place_in(right[2]) != path:
        return None
    tokens, others = list(_TOKEN.finditer(left[2])), _TOKEN.findall(right[2])
    if len(tokens) != len(others):
        return None
    patterns: list[str] = []
    key, around, is_counted = "", None, False
    for token, other in zip(tokens, others, strict=True):
        written, pattern = token[0], re.escape(token[0])
        if token[2] and key == path[-1]:
            pattern = _PIECE
            around = left[1] + left[2][: token.start(2)], left[2][token.end(2) :] + _BETWEEN
        elif written != other[0]:
            if written.startswith('"') and key == _PADDING:
                pattern = f'"{_CHARACTERS}"'
            elif written.isdigit() and _COUNTED.fullmatch(key):
                pattern = "(?:0|[1-9][0-9]{0,14})"
            else:
                return None
            is_counted = True
        patterns.append(pattern)
        key = token[3] if token[3] is not None else key if written.isspace() else ""
    if patterns.count(_PIECE) != 1:
        return None
    looks = re.compile(re.escape(left[1]) + "".join(patterns) + _BETWEEN)
    return _Template(looks, None if is_counted else around)


# Lines that say nothing, and one line of JSON.
_ONE_DOCUMENT = re.compile(r"((?:(?:event|id|retry)?:[^\n]*\n)*data: ?)(\{[^\n]*\})")
_STRING_BODY = r'[^"\\]*(?:\\.[^"\\]*)*'
# All of a token, a text's own words, and a key's.
_TOKEN = re.compile(rf'("({_STRING_BODY})"(?!\s*:)|"({_STRING_BODY})"\s*:|[0-9]+(?![0-9.eE+-])|[^"0-9]+|.)', re.DOTALL)
# Text without control characters, and without halves of surrogate pairs, which must not meet another half.
_CHARACTERS = r'[^"\\\x00-\x1f]*'
_PIECE = (
    rf'"({_CHARACTERS}(?:\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{{4}}'
    rf"|u[dD][89abAB][0-9a-fA-F]{{2}}\\u[dD][c-fC-F][0-9a-fA-F]{{2}}){_CHARACTERS})*)\""
)
_PIECES = re.compile(rf"(?:{_PIECE})*+")
_COUNTED = re.compile(r"created|sequence_number|\w+_tokens|\w*[tT]okenCount")  # may differ: the last one counts
_PADDING = "obfuscation"  # OpenAI's, against those who watch the length of packets


_Path = tuple[int | str, ...]


# What a plain delta is in each protocol: of chat completions, one choice with one text or one piece of arguments; of
# Anthropic, a content_block_delta with its text, thinking or partial_json; of the Responses API, any event "….delta"
# with a text; of Gemini, one candidate with one text, since its arguments come whole. Whatever ends an answer, names a
# function or holds two things is not a plain delta: it has to be read by itself.
def _place_in(written: str) -> _Path | None:
    """The path of the one piece of text that a delta brings; None where a document is more than such a delta."""
    try:
        document: Json = orjson.loads(written)
    except ValueError:
        return None
    if not isinstance(document, dict) or document.get("error"):
        return None
    shapes = [find for mark, find in _SHAPES.items() if mark in document]
    return shapes[0](document) if len(shapes) == 1 else None


def _in_chat(document: Mapping[str, Any]) -> _Path | None:
    choice = _only(document["choices"])
    delta = choice.get("delta")
    if not isinstance(delta, dict) or any(choice.get(name) for name in ("finish_reason", "message", "error")):
        return None
    said = {name: value for name, value in delta.items() if value and name != "role"}
    if len(said) != 1:
        return None
    ((name, value),) = said.items()
    if isinstance(value, str):
        return ("choices", 0, "delta", name)
    if name == "function_call" and _brings_arguments(value):
        return ("choices", 0, "delta", name, "arguments")
    call = _only(value) if name == "tool_calls" else {}
    if not _brings_arguments(call.get("function")) or call.get("custom"):
        return None
    return ("choices", 0, "delta", name, 0, "function", "arguments")


def _brings_arguments(function: Any) -> bool:
    """Whether a fragment goes on with a call. One that names the function may begin another."""
    if not isinstance(function, dict) or function.get("name"):
        return False
    return isinstance(arguments := function.get("arguments"), str) and arguments != ""


def _in_event(document: Mapping[str, Any]) -> _Path | None:
    """Anthropic's deltas, and those of the Responses API."""
    kind, delta = document["type"], document.get("delta")
    if isinstance(delta, dict) and kind == "content_block_delta":
        said = [name for name, value in delta.items() if value and name != "type"]
        return ("delta", said[0]) if len(said) == 1 and isinstance(delta[said[0]], str) else None
    is_piece = isinstance(kind, str) and kind.endswith(".delta") and isinstance(delta, str) and delta != ""
    return ("delta",) if is_piece else None


def _in_gemini(document: Mapping[str, Any]) -> _Path | None:
    candidate = _only(document["candidates"])
    part = _only(value_at(candidate, "content", "parts"))
    is_plain = isinstance(part.get("text"), str) and part["text"] and part.keys() <= {"text", "thought"}
    return ("candidates", 0, "content", "parts", 0, "text") if is_plain and not candidate.get("finishReason") else None


def _only(listed: Any) -> Mapping[str, Any]:
    """The object in a list of one; an empty one where there is none, or more."""
    only = listed[0] if isinstance(listed, list) and len(listed) == 1 else None
    return only if isinstance(only, dict) else {}


_SHAPES: Mapping[str, Callable[[Mapping[str, Any]], _Path | None]] = {
    "choices": _in_chat,
    "type": _in_event,
    "candidates": _in_gemini,
}
