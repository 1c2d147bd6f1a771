"""The ladder that repairs arguments which do not pass as they stand, guided by their schema; what helped is recorded.

Nothing is invented: a cut text is never closed, a value is only read in another way, and what comes out must pass the
schema, or nothing is changed at all.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from batchcall.base import Json, RawCall, is_deeper, late_regex
from batchcall.schemas import (
    ALL_KINDS,
    WHOLE,
    CompiledTool,
    Effort,
    Kinds,
    TooMuchWork,
    json_text,
    kinds_of,
    pattern_cost,
    pattern_matcher,
    plain_numbers,
    resolve,
    types_in,
    without_surrogates,
)

MAX_DEPTH = 200  # of arguments; JSON readers give up near 1,000 with a RecursionError
_MAX_ENCODINGS = 3  # how many times a text may be JSON in a string
_UNITS_A_PART = 300  # of a value that is looked at one by one: 6 µs
_UNITS_A_CHARACTER = 3  # of a text that a step looks through: 60 ns
_UNITS_A_MARK = 50  # of those characters that a step looks at one by one


class Repaired(NamedTuple):
    """Arguments that pass their schema, and the names of the steps it took, in order."""

    arguments: dict[str, Json]
    steps: tuple[str, ...]


class NotJson(ValueError):
    """A text that is not JSON we can hold: malformed, NaN, a number out of range, nested too deep."""


# The ladder has four parts. Each is tried only where the arguments do not pass as the parts before left them.
#
# 1. The text. What is JSON as it stands is only decoded: null counts as {}, and a string is decoded once more, since
#    arguments are an object. What is not JSON goes through `_TEXT_STEPS`.
# 2. Wrappers, {"arguments": {...}}: what is inside must pass as a whole.
# 3. Objects and lists that came as strings, where the schema has no place for a string.
# 4. Scalars of another type, where no digit is lost. Last, since only `coerce` allows it: what passes without is kept.
#
# All parts share one `Effort`, since a model may write megabytes against a schema that costs seconds to check. When it
# is spent, the arguments stay as they are, and the row says why they do not pass.
def repair_arguments(
    call: RawCall, tool: CompiledTool, *, repair: bool, coerce: bool, effort: Effort | None = None
) -> Repaired | None:
    """Read the arguments of a call in another way, so that they pass. None when no way helps, or `effort` is spent.

    `coerce` allows lossless changes of scalars ("5" → 5), `repair` everything else.
    """
    if call.is_object and not repair:
        return None
    work = effort or Effort()
    length = len(call.arguments)

    def passes(value: Json) -> bool:
        return isinstance(value, dict) and tool.schema.is_valid(value, effort=work, length=length)

    steps = ["arguments_object"] if call.is_object else []
    try:
        value = _read_repaired(call.arguments, steps, work) if repair else read_json(call.arguments)
        if repair and not passes(value):
            value = _unwrapped(value, tool, passes, steps)
        wanted = {"nested_string": repair, "coerced": coerce}
        for name, change_in in _VALUE_STEPS.items():
            if wanted[name] and not passes(value):
                work.spend(length * _UNITS_A_CHARACTER)
                change = change_in(call.arguments, steps)
                changed = _Walk(tool.schema.document, change, work).changed(value, [tool.schema.document])
                steps += [name] if changed is not value else []
                value = changed
        if not isinstance(value, dict) or not passes(value) or is_deeper(value, MAX_DEPTH):
            return None
    except (NotJson, TooMuchWork):
        return None
    return Repaired(value, tuple(dict.fromkeys(steps)))


# Relays that put a stream together send one call twice, in full or first without its arguments. The id says which calls
# may be one: calls without an id, or with one that no other call has, are all kept, even where they are equal. A model
# may well ask for the same thing twice.
def without_copies(calls: Sequence[RawCall], effort: Effort) -> list[RawCall]:
    """The calls without those that are an earlier one, sent again: the same id, the same name, equal arguments."""
    ids = Counter(call.id for call in calls)
    blank = [call.arguments.strip() in ("", "{}") for call in calls]
    said = {(call.id, call.name) for call, is_blank in zip(calls, blank, strict=True) if not is_blank}
    kept: dict[Any, RawCall] = {}
    for place, call in enumerate(calls):
        if not call.id or ids[call.id] == 1:
            kept[place] = call
        elif not (blank[place] and (call.id, call.name) in said):
            arguments = call.arguments
            # Compared as JSON where there is time for it, since a relay may write the copy with other white space.
            with suppress(NotJson, UnicodeEncodeError, TooMuchWork):
                effort.spend(len(arguments))
                arguments = json_text(plain_numbers(read_json(arguments), below=_EXACT_BELOW))
            kept.setdefault((call.id, call.name, arguments), call)
    return list(kept.values())


# msgspec and not orjson, which reads an integer of 20 digits as a float, silently; and not the standard library, which
# takes NaN and halves of surrogate pairs that no Parquet file can hold.
def read_json(text: str) -> Json:
    """Decode JSON, integers of any length exact. Raises NotJson."""
    try:
        decoded: Json = _decode(text)
    except RecursionError:
        raise NotJson(_TOO_DEEP) from None
    except (UnicodeEncodeError, msgspec.MsgspecError) as error:
        # msgspec calls half a surrogate pair "truncated input", which would send people looking for a cut answer.
        is_half = len(text) <= _MAX_EXPLAINED and _replace_surrogates(text) != text
        raise NotJson("half a surrogate pair in a string" if is_half else str(error)) from None
    # A short text cannot be nested too deep, and most are short: counting would cost as much as decoding.
    if len(text) > MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH and is_deeper(decoded, MAX_DEPTH):
        raise NotJson(_TOO_DEEP)
    return decoded


_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_MAX_EXPLAINED = 100_000  # characters: what is wrong with a longer text is said in the decoder's words
_decode = msgspec.json.Decoder().decode


def _nesting(text: str) -> Iterator[tuple[int, int]]:
    """(brackets open, position behind it) after each bracket that stands outside of strings."""
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in _STEP:
            depth += _STEP[token[0]]
            yield depth, token.end()


_STRING = r'"(?:[^"\\]|\\.)*+"?'  # an unclosed string runs to the end, so that no text takes quadratic time
_TOKEN = late_regex(rf"{_STRING}|[\[\]{{}}]", re.DOTALL)
_STEP: Mapping[str, int] = {"[": 1, "{": 1, "]": -1, "}": -1}


def _read_repaired(text: str, steps: list[str], effort: Effort) -> Json:
    """Decode a text by the ladder. Arguments are an object, so a string is always JSON in a string. Raises NotJson."""
    for _ in range(_MAX_ENCODINGS):
        text, value = _read_text(text, steps, effort)
        if value is None:
            steps.append("empty_arguments")
            return {}
        if not isinstance(value, str):
            steps += ["duplicate_key"] if has_duplicate_keys(text, value, effort) else []
            return value
        steps.append("double_encoded")
        text = value
    raise NotJson(f"encoded more than {_MAX_ENCODINGS} times")


def _read_text(text: str, steps: list[str], effort: Effort) -> tuple[str, Json]:
    """The value, and the text that it was read from."""
    try:
        return text, read_json(text)
    except NotJson as error:
        last = error
    for name, step in _TEXT_STEPS.items():
        effort.spend(_units_of(text))
        changed = step(text)
        if changed == text:
            continue
        text = changed
        steps.append(name)
        try:
            return text, read_json(text)
        except NotJson as error:
            last = error
    raise last


def has_duplicate_keys(text: str, value: Json, effort: Effort | None = None) -> bool:
    """Whether an object in this text has a key twice, so that `value`, decoded from it, lacks what stood there first.

    Each member has a colon, and a member that is lost takes its colon along. Counting is all that most texts need.
    """
    colons = text.count(":")
    if colons == 0 or (isinstance(value, dict) and colons == len(value)):
        return False
    if "\\u003" not in text and colons == _encode(value).count(b":"):  # a colon may be written as an escape
        return False
    effort = effort or Effort()
    if not effort.can(_units_of(text)):
        return False  # it would only be noted
    effort.spend(_units_of(text))
    found: list[int] = []

    def compare(members: list[tuple[str, Json]]) -> None:
        found.append(len(members) - len({key for key, _ in members}))

    json.loads(text, object_pairs_hook=compare, parse_int=str, parse_float=str)
    return any(found)


_encode = msgspec.json.Encoder().encode


def _units_of(text: str) -> int:
    """What looking through a text costs."""
    return len(text) * _UNITS_A_CHARACTER + sum(map(text.count, _MARKS)) * _UNITS_A_MARK


_MARKS = '"\\[]{},\n\r\t\0'


def _replace_surrogates(text: str) -> str:
    return _ESCAPE.sub(lambda escape: "\\ufffd" if escape["half"] else escape[0], without_surrogates(text))


_ESCAPE = late_regex(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def _open_fence(text: str) -> str:
    opened = _FENCE.match(text)
    return text[opened.end() :].rstrip().removesuffix("```") if opened else text


_FENCE = late_regex(r"\s*```[\w-]*")


def _keep_one_copy(text: str) -> str:
    """The same object several times, one behind the other, with nothing but blanks or commas between: one of them.
    Empty objects beside it do not count."""
    copies: list[str] = []
    start = 0
    for depth, end in _nesting(text):
        if depth == 0:
            copies.append(text[start:end].strip(_BETWEEN_COPIES))
            start = end
    if len(copies) < 2 or text[start:].strip(_BETWEEN_COPIES) or not copies[0].startswith("{"):
        return text
    said = [copy for copy in copies if not _EMPTY_OBJECT.fullmatch(copy)] or copies
    try:
        return said[0] if len(set(said)) == 1 or _are_equal([read_json(copy) for copy in said]) else text
    except NotJson:
        return text


_EXACT_BELOW = 2**53  # a float from there on may stand for several integers
_BETWEEN_COPIES = " \t\r\n,"
_EMPTY_OBJECT = late_regex(r"\{\s*\}")


def _are_equal(values: list[Json]) -> bool:
    """Whether all say the same in JSON: white space, the order of keys, escapes and 1.0 for 1 do not count."""
    try:
        return len({json_text(plain_numbers(value, below=_EXACT_BELOW)) for value in values}) == 1
    except (UnicodeEncodeError, RecursionError):
        return False


def _keep_last_snapshot(text: str) -> str:
    """A stream whose every piece repeats all that came before, joined as if they were deltas: the last piece."""
    pieces, place = [], 0
    while found := _SNAPSHOT.match(text, place):
        pieces.append(found[1])
        place = found.end()
    last = text[place:]
    if not pieces or not all(later.startswith(piece) for piece, later in pairwise([*pieces, last])):
        return text
    # Deltas join to the start of one JSON text, even where they were cut off: what may be such a start is left alone.
    try:
        read_json(text)
        return text
    except NotJson as fault:
        if str(fault) == _CUT:
            return text
    try:
        return last if isinstance(read_json(last), dict) else text
    except NotJson:
        return text


_CUT = "Input data was truncated"  # in msgspec's words
_SNAPSHOT = late_regex(r"(\{[^{]*(?:\{[^{]*)*?)(?=\1)")  # with another behind it that begins with all of it


def _drop_trailing_text(text: str) -> str:
    if not text.lstrip().startswith(("{", "[")):
        return text
    end = next((position for depth, position in _nesting(text) if depth == 0), len(text))
    # More JSON behind it is not prose: two answers in one, and nobody can say which of them is meant.
    behind = text[end:].lstrip()
    is_json = behind.startswith(("{", "[")) or _MEMBER.search(behind) is not None
    return text if is_json or not behind else text[:end]


# A member of another object, behind whatever it stands (a comma, a fence, a tag), or of ours, closed too early.
_MEMBER = late_regex(rf"[{{,]\s*+{_STRING}\s*+:")
_TRAILING_COMMA = late_regex(rf"(?P<string>{_STRING})|,(?=\s*+[\]}}])", re.DOTALL)


# Two readings exist where a `\u` has too few digits: a character that lost some, or a path. And where the same string
# holds an escape that JSON knows: beside `\alpha`, `\beta` may stand for itself, though JSON reads a backspace there;
# behind `C:\data`, so may `\new`.
def _keep_backslashes(text: str) -> str:
    """A backslash that begins no escape stands for itself, as in `\\d` or `C:\\data`; not where two readings exist."""
    for found in _IN_STRINGS.finditer(text):
        string = found[0]
        rest = _JSON_ESCAPE.sub("", string)
        if _NO_ESCAPE.search(rest):
            escapes = {escape[0][:2] for escape in _ANY_ESCAPE.finditer(string)}
            is_path = escapes & {"\\n", "\\r", "\\t"} and _WINDOWS_PATH.search(string)
            if is_path or escapes & {"\\b", "\\f"} or _SHORT_UNICODE.search(rest):
                return text

    def keep(escape: re.Match[str]) -> str:
        return escape[0] if _JSON_ESCAPE.fullmatch(escape[0]) else f"\\{escape[0]}"

    return _IN_STRINGS.sub(lambda string: _ANY_ESCAPE.sub(keep, string[0]), text)


def _escape_controls(text: str) -> str:
    """A line break, a tab or the like that stands in a string as it is: JSON wants it escaped (RFC 8259, section 7)."""

    def escape(found: re.Match[str]) -> str:
        return f"\\u{ord(found['raw']):04x}" if found["raw"] else found[0]

    return _IN_STRINGS.sub(lambda string: _CONTROL.sub(escape, string[0]), text)


_JSON_ESCAPE = late_regex(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_ANY_ESCAPE = late_regex(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)
_NO_ESCAPE = late_regex(r"\\.", re.DOTALL)  # in what is left without escapes
_SHORT_UNICODE = late_regex(r"\\u[0-9a-fA-F]")
_WINDOWS_PATH = late_regex(r"(?<![A-Za-z])[A-Za-z]:\\")
_IN_STRINGS = late_regex(_STRING, re.DOTALL)
_CONTROL = late_regex(r"\\.|(?P<raw>[\x00-\x1f])", re.DOTALL)

# Repairs of text that is not JSON, in the order in which they are tried. Each step takes the text that the step before
# left, and returns it unchanged, unrecorded, unless exactly one reading exists. Of two different JSON texts none is cut
# off: nothing shows which one is meant. The cases and their order:
#
# - lone_surrogate, half of an emoji, `\ud83d`: no Parquet file can hold it. First, since msgspec calls it "truncated
#   input", and other steps look for that.
# - code_fence, ```json around the object. Before what looks at the start of the text.
# - repeated_arguments: the same object two or three times (codex-lb, when it does not stream), or behind the empty one
#   with which relays in front of Claude begin. With the snapshots before trailing text, which leaves JSON behind JSON
#   alone.
# - snapshots: a relay sends all that the model has said so far in each chunk, and the chunks were joined as deltas.
# - trailing_text: "</tool_call>", or a sentence to the user. Before what changes the inside: prose may hold commas and
#   backslashes of its own.
# - trailing_comma, and control_character: a line break within a string, which the model did not escape.
# - invalid_escape: `\d` of a regular expression, `D:\archive`, `\$`. Last: to keep a backslash is a guess at what the
#   model meant, so all that is certain comes first.
_TEXT_STEPS: Mapping[str, Callable[[str], str]] = {
    "empty_arguments": lambda text: text if text.strip() else "{}",
    "lone_surrogate": _replace_surrogates,
    "code_fence": _open_fence,
    "repeated_arguments": _keep_one_copy,
    "snapshots": _keep_last_snapshot,
    "trailing_text": _drop_trailing_text,
    "trailing_comma": lambda text: _TRAILING_COMMA.sub(lambda found: found["string"] or "", text),
    "control_character": _escape_controls,
    "invalid_escape": _keep_backslashes,
}


# Claude puts the whole record under "$PARAMETER_NAME", other models under "arguments" or "parameters", and some write
# the whole call, with its name. Looked for only in what does not pass as it stands: where the schema requires nothing,
# a wrapper does pass, and stays.
def _unwrapped(value: Json, tool: CompiledTool, passes: Callable[[Json], bool], steps: list[str]) -> Json:
    """The record within wrappers that the schema does not know; the value itself where what they hold does not pass."""
    named = tool.schema.document.get("properties")
    inner, taken = value, ["unwrapped"]
    for _ in range(_MAX_WRAPPERS):
        inner = _content_of(inner, tool.name, taken)
        # With a property of the schema's own: one that requires nothing would take any object for its record.
        is_record = isinstance(inner, dict) and (not isinstance(named, dict) or not named.keys().isdisjoint(inner))
        if inner and is_record and passes(inner):
            steps += taken
            return inner
    return value


def _content_of(value: Json, tool_name: str, steps: list[str]) -> Json:
    """What a wrapper holds; None where it is not a wrapper, or holds several things."""
    if isinstance(value, str):
        try:
            return _read_inner(value, steps)
        except NotJson:
            return None
    if isinstance(value, list):
        return value[0] if value and _are_equal(value) else None
    if not isinstance(value, dict):
        return None
    own = _wrapper_name(tool_name)
    names = {*_WRAPPERS, own, *(f"{own}{part}" for part in _WRAPPERS)}  # a tool "record": also "record_input"
    rest = {_wrapper_name(name): inner for name, inner in value.items()}
    inside = [rest.pop(name) for name in tuple(rest) if name in names and isinstance(rest[name], dict | list)]
    if not inside:
        is_text = {name for name, inner in rest.items() if isinstance(inner, str) and inner.lstrip().startswith("{")}
        inside = [rest.pop(name) for name in tuple(rest) if name in names and name in is_text]
    # Beside it may stand what belongs to a call: its type, its id, and the tool's name. Anything else, another tool's
    # name too, leaves open what was meant.
    is_of_call = all(
        isinstance(inner, str) and (name in _CALL_MARKS or (name in _CALL_NAMES and _wrapper_name(inner) == own))
        for name, inner in rest.items()
    )
    return inside[0] if len(inside) == 1 and len(value) == 1 + len(rest) and is_of_call else None


def _read_inner(text: str, steps: list[str]) -> Json:
    """Decode what stood in a string. Raises NotJson."""
    value = read_json(text)
    steps += ["duplicate_key"] if has_duplicate_keys(text, value) else []
    return value


def _wrapper_name(name: str) -> str:
    return _NO_LETTER.sub("", name).casefold()


_MAX_WRAPPERS = 5
_NO_LETTER = late_regex(r"[\W\d_]+")
# Names without case, digits and signs. Not what may mean something: an "example", an "error", a "previous" record.
_WRAPPERS = frozenset(
    {
        *("", "parametername", "parametervalue", "parameter", "parameters", "param", "params", "properties", "root"),
        *("arg", "args", "argument", "arguments", "kwargs", "input", "inputs", "actioninput"),
        *("json", "object", "value"),
        *("toolinput", "toolargs", "toolarguments", "toolparameters", "toolcall", "toolcalls", "function"),
        *("functionargs", "functionarguments", "functionparameters", "functioncall", "data", "output", "result"),
        *("response", "request", "payload", "body", "content"),
    }
)
_CALL_MARKS = frozenset(("type", "id", "callid", "toolcallid"))
_CALL_NAMES = frozenset(("name", "function", "functionname", "tool", "toolname", "action", "recipientname"))

_Change = Callable[[Json, Kinds], Json]
_CONTAINERS: Kinds = frozenset(("array", "object"))


def _decode_nested(value: Json, kinds: Kinds, steps: list[str]) -> Json:
    """An object or array that came as a string, where the schema has no place for a string."""
    decoded, taken = value, list[str]()
    for _ in range(_MAX_ENCODINGS):
        if not isinstance(decoded, str) or not kinds & _CONTAINERS:
            break
        try:
            decoded = _read_inner(decoded, taken)
        except NotJson:
            return value
    if not isinstance(decoded, dict | list) or not kinds_of(decoded) & kinds:
        return value
    steps += taken
    return decoded


def _coercion(text: str) -> _Change:
    """Makes a scalar what the schema wants, where not a digit is lost. `text` is what the arguments were read from."""
    spellings: dict[float, set[str]] = {}
    for digits in _NUMBER.findall(text):
        if not digits.lstrip("-").isdecimal():
            spellings.setdefault(float(digits), set()).add(digits)

    def coerce(value: Json, kinds: Kinds) -> Json:
        if isinstance(value, str):
            return _from_string(value, kinds)
        # 1.10 may be a version, and 1.1 is another one: the text says which was written, where it wrote only one.
        if "string" in kinds and isinstance(value, float):
            written = spellings.get(value, set())
            return next(iter(written)) if len(written) == 1 else value
        return json_text(value) if "string" in kinds and isinstance(value, bool | int) else value

    return coerce


def _from_string(text: str, kinds: Kinds) -> Json:
    if text in _WORDS and kinds_of(_WORDS[text]) & kinds:
        return _WORDS[text]
    if not kinds & WHOLE or not _NUMBER.fullmatch(text):
        return text
    try:
        number = read_json(text)
        is_exact = isinstance(number, int) or Decimal(text) == Decimal(repr(number))
    except (NotJson, InvalidOperation):  # the latter: an exponent beyond what a Decimal counts
        return text
    return number if is_exact and kinds_of(number) & kinds else text


_WORDS: Mapping[str, Json] = {"true": True, "True": True, "false": False, "False": False, "null": None}
_NUMBER = late_regex(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

# What each does depends on the text that the arguments came as.
_VALUE_STEPS: Mapping[str, Callable[[str, list[str]], _Change]] = {
    "nested_string": lambda text, steps: lambda value, kinds: _decode_nested(value, kinds, steps),
    "coerced": lambda text, steps: _coercion(text),
}


_Places = dict[int, Json]  # schemas by their identity


class _Walk:
    """Goes through a value and its schema side by side, and changes what is of no kind that its place allows."""

    # Which schemas apply to a member is not known before the whole value has been checked: each alternative may say
    # something else about it. So the walk keeps all that may apply, and changes a value only where none of them has a
    # place for its kind. A wrong guess costs nothing, since the result must pass the whole schema.

    def __init__(self, document: dict[str, Json], change: _Change, effort: Effort) -> None:
        self.document = document
        self.change = change
        self.known: dict[int, Kinds] = {}  # by identity of the schema
        self.patterns: dict[str, Callable[[str], bool]] = {}
        self.effort = effort

    def changed(self, value: Json, places: list[Json], depth: int = 0) -> Json:
        """The value with all changes; the same object where there is none.

        `places` are the schemas that may apply here; what one of them allows is left alone.
        """
        self.effort.spend(_UNITS_A_PART)
        if not places or depth > MAX_DEPTH:
            return value
        kinds: Kinds = frozenset().union(*(self._kinds(place) for place in places))
        if not kinds_of(value) & kinds:
            value = self.change(value, kinds)
        if isinstance(value, dict | list) and not self.effort.can(len(value) * 2 * _UNITS_A_PART):
            return value
        if isinstance(value, dict):
            walked = {key: self.changed(one, self._below(places, key), depth + 1) for key, one in value.items()}
            return walked if any(walked[key] is not value[key] for key in value) else value
        if isinstance(value, list):
            listed = [self.changed(one, self._below(places, index), depth + 1) for index, one in enumerate(value)]
            return listed if any(new is not old for new, old in zip(listed, value, strict=True)) else value
        return value

    def _kinds(self, schema: Json) -> Kinds:
        """The kinds of values a schema may accept."""
        if not isinstance(schema, dict):
            return ALL_KINDS if schema is not False else frozenset()
        if id(schema) in self.known:
            return self.known[id(schema)]
        self.known[id(schema)] = ALL_KINDS  # while it is looked at: a reference may lead back here

        # Only what all of its words allow at once.
        kinds = types_in(schema) or ALL_KINDS
        if "number" in kinds:
            kinds |= {"integer"}
        if isinstance(listed := schema.get("enum"), list):
            kinds &= frozenset().union(*(kinds_of(value) for value in listed))
        if "const" in schema:
            kinds &= kinds_of(schema["const"])
        for part in self._always(schema):
            kinds &= self._kinds(part)
        for keyword in ("anyOf", "oneOf"):
            if isinstance(listed := schema.get(keyword), list):
                kinds &= frozenset().union(*(self._kinds(one) for one in listed))
        self.known[id(schema)] = kinds
        return kinds

    def _always(self, schema: dict[str, Json]) -> Iterator[Json]:
        if isinstance(ref := schema.get("$ref"), str):
            yield resolve(self.document, ref)
        if isinstance(listed := schema.get("allOf"), list):
            yield from list(listed)

    def _below(self, places: list[Json], key: str | int) -> list[Json]:
        """The schemas that may apply to a member of a value."""
        known: dict[int, _Places] = {}
        return list({id(one): one for place in places for one in self._members(place, key, known).values()}.values())

    def _members(self, schema: Json, key: str | int, known: dict[int, _Places]) -> _Places:
        """The schemas of one member, by a schema and all that it refers to; none where it may be anything."""
        if not isinstance(schema, dict):
            return {}
        if id(schema) not in known:
            self.effort.spend(_UNITS_A_PART)
            known[id(schema)] = {}  # while it is looked at: a reference may lead back here
            said = {id(one): one for one in self._own_members(schema, key)}
            for part in self._always(schema):
                said |= self._members(part, key, known)
            holder = "object" if isinstance(key, str) else "array"
            for keyword in ("anyOf", "oneOf"):
                listed = schema.get(keyword)
                if not isinstance(listed, list):
                    continue
                choices = [self._members(one, key, known) for one in listed if holder in self._kinds(one)]
                if said or all(choices):  # else one of them leaves the member free
                    said = {name: one for places in (said, *choices) for name, one in places.items()}
            known[id(schema)] = said
        return known[id(schema)]

    def _own_members(self, schema: dict[str, Json], key: str | int) -> list[Json]:
        if isinstance(key, int):  # draft 2020-12 has prefixItems, then items; older ones a list of items, then the rest
            word, rest = ("prefixItems", "items") if "prefixItems" in schema else ("items", "additionalItems")
            first = schema.get(word)
            if not isinstance(first, list):
                return [first] if word in schema else []
            return [first[key]] if key < len(first) else [schema[rest]] if rest in schema else []
        named, patterns = schema.get("properties"), schema.get("patternProperties")
        said = [named[key]] if isinstance(named, dict) and key in named else []
        for pattern, one in patterns.items() if isinstance(patterns, dict) else ():
            if pattern not in self.patterns:
                self.patterns[pattern] = pattern_matcher(pattern)
            self.effort.spend(len(key) * pattern_cost(pattern))
            said += [one] if self.patterns[pattern](key) else []
        return said or ([schema["additionalProperties"]] if "additionalProperties" in schema else [])


def match_tool(name: str, own_names: Mapping[str, str]) -> str | None:
    """The one tool that is meant by a name in another spelling; None where none or several are.

    The spelling may differ by a prefix, case, spaces, or a control token of the model behind it. It may also be the
    tool's own name where another was sent. `own_names` are by the names that were sent.
    """
    wanted = _normalised(name)
    found = [sent for sent, own in own_names.items() if wanted in (_normalised(sent), _normalised(own))]
    return found[0] if len(found) == 1 else None


def _normalised(name: str) -> str:
    spelled = "".join(name.partition(_TOKEN_START)[0].split()).casefold()
    for prefix in _PREFIXES:
        spelled = spelled.removeprefix(prefix)
    return spelled


_PREFIXES = ("functions.", "default_api.")  # OpenAI's and Gemini's models add them now and then
_TOKEN_START = "<|"  # vLLM does not remove those of gpt-oss: "record<|channel|>commentary"
