"""Patterns, rewritten for the engine that matches in linear time. Those that it does not know are left out of a
schema, in such a way that it still accepts all that it accepted. Patterns should be ECMA 262; many are Python's or
PCRE's.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from functools import lru_cache

import jsonschema_rs

from batchcall.base import Json
from batchcall.schemas.walk import References, as_dict, as_list, dicts_in, pointer

_Places = dict[int, tuple[str, dict[str, Json]]]  # path and schema, by identity of the schema
_WHY = "not checked: the regular expression engine, which works in linear time, does not support it"


def leave_patterns_out(document: dict[str, Json], references: References) -> list[str]:
    """Write each pattern as the linear engine reads it, and take out what it does not know; "path: what" of each.

    Without a pattern a schema accepts more. Where another schema reverses that (`not`, `if`, `oneOf`,
    `maxContains`), that is left out or loosened, too: nothing is refused that the whole schema accepts.
    """
    # Three cases for each pattern: the engine takes it as it is; it means the same in other words; or it needs an
    # engine that backtracks, which one answer of a model could keep busy for hours. Only the last is left out.
    if all(_reading(pattern) == pattern for pattern in patterns_in(document)):
        return []
    places = _places(document, references)
    notes: list[str] = []
    unsure: set[int] = set()
    for path, schema in places.values():
        left_out = []
        if isinstance(pattern := schema.get("pattern"), str):
            if (reading := _reading(pattern)) is not None:
                schema["pattern"] = reading
            else:
                del schema["pattern"]
                left_out.append(f"{path}/pattern: {_WHY}")
        if isinstance(named := schema.get("patternProperties"), dict):
            readings = {pattern: _reading(pattern) for pattern in named}
            kept: dict[str, Json] = {reading: named[one] for one, reading in readings.items() if reading is not None}
            schema["patternProperties"] = kept
            if len(kept) < len(named):
                # Any name may match a pattern that is left out. The empty pattern matches every name, so none is
                # unexpected: neither `additionalProperties` nor `unevaluatedProperties` is asked about it.
                schema["patternProperties"] = {"": {}} | kept  # draft 4 has no `true`
                left_out.append(f"{path}/patternProperties: {_WHY}")
        if left_out:
            unsure.add(id(schema))
            notes += left_out
    # A schema is unsure when its verdict may be wrong in one direction: valid, though the whole schema says invalid. So
    # is each schema around it, up to the root; whatever negates or counts the verdict of an unsure one is loosened.
    if unsure:
        around: dict[int, list[int]] = defaultdict(list)
        for _, schema in places.values():
            for part in references.parts_of(schema):
                around[id(part.schema)].append(id(schema))
        waiting = list(unsure)
        while waiting:
            new = [one for one in around[waiting.pop()] if one not in unsure]
            unsure.update(new)
            waiting += new
        for _, schema in places.values():
            _loosen(schema, unsure)
    references.forget_parts()
    return notes


def patterns_in(document: dict[str, Json]) -> set[str]:
    found: set[str] = set()
    for node in dicts_in(document):
        found |= as_dict(node.get("patternProperties")).keys()
        if isinstance(pattern := node.get("pattern"), str):
            found.add(pattern)
    return found


def _places(document: dict[str, Json], references: References) -> _Places:
    found: _Places = {}
    waiting: list[tuple[str, Json]] = [("", document)]
    while waiting:
        path, schema = waiting.pop()
        if isinstance(schema, dict) and id(schema) not in found:
            found[id(schema)] = (path, schema)
            ref = schema.get("$ref")
            target = ref[1:] if isinstance(ref, str) and ref.startswith("#/") else ""
            parts = references.parts_of(schema)
            waiting += [(path + pointer(part.steps) if part.steps else target, part.schema) for part in parts]
    return found


@lru_cache(maxsize=4096)
def _reading(pattern: str) -> str | None:
    """The pattern in words that mean the same to the linear engine; None where there are none, or where the meaning is
    not clear. What is not a pattern in any language stays as it is, to be refused."""
    written = _translated(pattern)
    if written is None:
        return None
    for reading in (written, _GROUP_NAME.sub("(", written)):  # names that stand twice
        if _compiles(reading, jsonschema_rs.RegexOptions()):
            return reading
    skeleton = _ESCAPE.sub("a", _GROUP_NAME.sub("(", written))  # of escapes that are known elsewhere
    if any(_compiles(one, jsonschema_rs.FancyRegexOptions()) for one in (written, skeleton)):
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return pattern
    return None


_GROUP_NAME = re.compile(r"(?<!\\)\(\?P?<\w+>")
_ESCAPE = re.compile(r"\\(?:[pPN]\{[^}]*\}|.)", re.DOTALL)


def _translated(pattern: str) -> str | None:
    """What the engine would refuse or misread, in words of its own; None where JavaScript and Python differ in what it
    means, or it takes an engine that knows the flag `s`."""
    begins = _DOT_ALL.match(pattern)
    dot, place = (_ANY, begins.end()) if begins else (".", 0)
    words = [f"(?{begins[1]}{begins[2]})" if begins and begins[1] + begins[2] else ""]
    in_class, before = False, ""
    while found := _WORD.match(pattern, place):
        word, place = found[0], found.end()
        if found["high"]:
            word = chr(0x10000 + ((int(found["high"], 16) & 0x3FF) << 10 | int(found["low"], 16) & 0x3FF))
        elif found["empty"] and not in_class and (place == len(pattern) or pattern[place] in "*+?{)|$"):
            if "]" in pattern[place:]:
                return None  # to Python all up to there is one class
            word = _ANY if found["empty"] == "[^]" else _NONE
        elif found["empty"]:  # a bracket that closes its class, or stands first in one
            word = "\\" + word if in_class else word
            in_class = not in_class
        elif in_class and word in _SET_WORDS:
            word = "\\" + word
        elif found["dot_all"] and not in_class:
            return None
        elif word in _MISREAD:
            word = _MISREAD[word]
        elif word == "\\b" and in_class:
            word = "\\x08"
        elif word == "." and not in_class:
            word = dot
        elif word == "{" and not in_class and not _BRACES.match(pattern, place):
            word = "\\{"
        elif word == "-" and in_class and pattern[place : place + 1] != "]" and before not in ("[", "[^"):
            word = "\\-" if _IS_CLASS.match(before) or _IS_CLASS.match(pattern, place) else "-"
        else:
            in_class = word != "]" if in_class else word in ("[", "[^")
        words.append(word)
        before = found[0]
    return "".join(words)


_ANY, _NONE = r"[\s\S]", r"[^\s\S]"
_MISREAD = {r"\<": "<", r"\>": ">", r"\0": r"\x00"}  # `\<` is the start of a word to the engine
_SET_WORDS = {"[", "[^", "&", "~"}  # in a class: of nested classes and of `&&` and `~~`, which are the engine's own
_DOT_ALL = re.compile(r"\(\?([imux]*)s([imux]*)\)")
_BRACES = re.compile(r"\d+(?:,\d*)?\}|,\d*\}")  # of a repetition; `{,3}` is one to Python alone
_IS_CLASS = re.compile(r"\\[wWdDsSpP]")
_WORD = re.compile(
    r"\\u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|\\[pPuxNkg]\{[^}]*\}|\\0(?=\d)\d*|\\.|(?P<empty>\[\^?\])|\[\^?|(?P<dot_all>\(\?[a-z]*s[a-z]*[-:)])|.",
    re.DOTALL,
)


def _compiles(pattern: str, options: jsonschema_rs.RegexOptions | jsonschema_rs.FancyRegexOptions) -> bool:
    try:
        jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=options)
    except (jsonschema_rs.ValidationError, ValueError):
        return False
    return True


def _loosen(schema: dict[str, Json], unsure: set[int]) -> None:
    if id(schema.get("not")) in unsure:
        del schema["not"]
    if id(schema.get("if")) in unsure:
        for word in ("if", "then", "else"):
            schema.pop(word, None)
    if id(schema.get("contains")) in unsure:
        schema.pop("maxContains", None)
    # More branches may be valid than in the whole schema, so "exactly one" becomes "at least one".
    listed = as_list(schema.get("oneOf"))
    if any(id(one) in unsure for one in listed):
        del schema["oneOf"]
        schema["allOf"] = [*as_list(schema.get("allOf")), {"anyOf": listed}]
