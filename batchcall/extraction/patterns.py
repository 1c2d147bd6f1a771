"""Patterns that cannot be matched in linear time, left out of a schema so that it accepts all that it accepted."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache

import jsonschema_rs

from batchcall.extraction.schema_work import References, dicts_in
from batchcall.records import Json

_Places = dict[int, tuple[str, dict[str, Json]]]  # path and schema, by identity of the schema
_WHY = "left out of the check: the engine that matches in linear time does not know it"


def leave_patterns_out(document: dict[str, Json], references: References) -> list[str]:
    """Take out of the document what the linear engine does not know; "path: what" of each.

    Without a pattern a schema accepts more. Where another schema turns that round (`not`, `if`, `oneOf`,
    `maxContains`), that is left out or loosened, too: nothing is refused that the whole schema accepts.
    """
    if not any(_is_beyond(pattern) for pattern in patterns_in(document)):
        return []
    places = _places(document, references)
    notes: list[str] = []
    unsure: set[int] = set()
    for path, schema in places.values():
        told = [*_without_pattern(path, schema), *_without_named_patterns(path, schema)]
        if told:
            unsure.add(id(schema))
            notes += told
    if unsure:
        unsure = _with_all_around(unsure, places, references)
        for _, schema in places.values():
            _loosen(schema, unsure)
    references.forget_parts()
    return notes


def patterns_in(document: dict[str, Json]) -> set[str]:
    found: set[str] = set()
    for node in dicts_in(document):
        named = node.get("patternProperties")
        found |= named.keys() if isinstance(named, dict) else set()
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
            waiting += [
                (_target_path(schema) if part.way is None else f"{path}/{part.way}", part.schema)
                for part in references.parts_of(schema)
            ]
    return found


def _target_path(schema: dict[str, Json]) -> str:
    ref = schema.get("$ref")
    return ref[1:] if isinstance(ref, str) and ref.startswith("#/") else ""


def _without_pattern(path: str, schema: dict[str, Json]) -> Iterator[str]:
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and _is_beyond(pattern):
        del schema["pattern"]
        yield f"{path}/pattern: {_WHY}"


def _without_named_patterns(path: str, schema: dict[str, Json]) -> Iterator[str]:
    """Any name may match the pattern, so every name counts as one that the schema knows."""
    named = schema.get("patternProperties")
    beyond = [pattern for pattern in named if _is_beyond(pattern)] if isinstance(named, dict) else []
    if not isinstance(named, dict) or not beyond:
        return
    kept: dict[str, Json] = {pattern: one for pattern, one in named.items() if pattern not in beyond}
    schema["patternProperties"] = {"": True} | kept
    for word in ("additionalProperties", "unevaluatedProperties"):
        schema.pop(word, None)
    yield f"{path}/patternProperties: {_WHY}"


@lru_cache(maxsize=4096)
def _is_beyond(pattern: str) -> bool:
    """Whether a pattern is sound and yet none for the linear engine."""
    if _compiles(pattern, jsonschema_rs.RegexOptions()):
        return False
    if _compiles(pattern, jsonschema_rs.FancyRegexOptions()):
        return True
    try:
        re.compile(_NAMED_GROUP.sub("(?P<", _NAMED_REFERENCE.sub(r"(?P=\1)", _PLAIN_HYPHEN.sub(r"\1\-", pattern))))
    except (re.error, RecursionError, OverflowError):
        return False
    return True


# As JavaScript writes them; Python has words of its own.
_NAMED_GROUP = re.compile(r"\(\?<(?=\w)")
_NAMED_REFERENCE = re.compile(r"\\k<(\w+)>")
_PLAIN_HYPHEN = re.compile(r"(\\[wWdDsS])-(?=[^\]])")  # [\w-.]: without its flag u, JavaScript reads a hyphen there


def _compiles(pattern: str, options: jsonschema_rs.RegexOptions | jsonschema_rs.FancyRegexOptions) -> bool:
    try:
        jsonschema_rs.validator_for({"pattern": pattern}, pattern_options=options)
    except (jsonschema_rs.ValidationError, ValueError):
        return False
    return True


def _with_all_around(unsure: set[int], places: _Places, references: References) -> set[int]:
    """These schemas, and all whose verdict hangs on one of them."""
    around: dict[int, list[int]] = defaultdict(list)
    for _, schema in places.values():
        for part in references.parts_of(schema):
            around[id(part.schema)].append(id(schema))
    found, waiting = set(unsure), list(unsure)
    while waiting:
        new = [one for one in around[waiting.pop()] if one not in found]
        found.update(new)
        waiting += new
    return found


def _loosen(schema: dict[str, Json], unsure: set[int]) -> None:
    if id(schema.get("not")) in unsure:
        del schema["not"]
    if id(schema.get("if")) in unsure:
        for word in ("if", "then", "else"):
            schema.pop(word, None)
    if id(schema.get("contains")) in unsure:
        schema.pop("maxContains", None)
    listed = schema.get("oneOf")
    if isinstance(listed, list) and any(id(one) in unsure for one in listed):
        del schema["oneOf"]
        also = schema.get("allOf")
        schema["allOf"] = [*(also if isinstance(also, list) else []), {"anyOf": listed}]
