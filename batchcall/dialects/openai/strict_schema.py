"""What OpenAI refuses of the schema of a tool that says `strict`: the documented rules of structured outputs.

https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from batchcall.base import Json, Shape
from batchcall.dialects.jsontext import objects_in
from batchcall.schemas import Place, walk

MAX_PROPERTIES = 5_000  # of all objects together
MAX_NESTING = 10  # levels of objects
MAX_CHARACTERS = 120_000  # of all names of properties and definitions, enum and const values together
MAX_VALUES = 1_000  # of all enums together
LONG_ENUM = 250  # values of one enum from which
MAX_ENUM_CHARACTERS = 15_000  # of its texts count

_SCHEMA = Mapping[str, Any]
_REFUSED = frozenset(
    {
        *("allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas"),
        *("patternProperties", "unevaluatedProperties", "propertyNames", "minProperties", "maxProperties"),
        *("unevaluatedItems", "contains", "minContains", "maxContains", "uniqueItems"),
    }
)
_HOLD_SCHEMAS = ("properties", "$defs", "definitions", "items", "anyOf")
_INSTEAD: Mapping[str, str] = {"oneOf": "use anyOf"}


# OpenAI would refuse every row with such a tool, each for itself. So these are faults of the job, found before the
# first request is sent. Only tools that say `strict` are held to them: relays and local servers take more than OpenAI.
def strict_tool_faults(shape: Shape) -> list[str]:
    """What is wrong with the tools that are strict: the path in the tool, the rule and what to do."""
    functions = objects_in([tool.written.get("function") for tool in shape.tools])
    return [
        fault
        for function in functions
        if function.get("strict") is True
        for fault in schema_faults(function.get("parameters"), f"tool.{function.get('name')}.parameters")
    ]


def schema_faults(schema: Json, where: str) -> list[str]:
    """What the rules refuse of a schema, each with its path, which begins with `where`."""
    if not isinstance(schema, dict):
        return []
    # What stands below a refused keyword is not looked at: it has to go anyway.
    places = list(walk(schema, _HOLD_SCHEMAS))
    root: list[str] = []
    if "anyOf" in schema:
        root = [f"{where}: a strict schema has no anyOf at its root; put it into a property"]
    elif schema.get("type") != "object":
        root = [f'{where}.type: the root of a strict schema is an object; write type = "object"']
    return [
        *root,
        *[fault for place in places for fault in _place_faults(place.schema, _path(where, place))],
        *_size_faults(places, where),
    ]


def _place_faults(schema: _SCHEMA, path: str) -> Iterator[str]:
    for keyword in schema:
        if keyword in _REFUSED:
            todo = _INSTEAD.get(keyword, "remove it")
            yield f"{path}.{keyword}: a strict schema has no {keyword}; {todo}, or set strict = false"
    if not _is_object(schema):
        return
    if schema.get("additionalProperties") is not False:
        yield f"{path}.additionalProperties: must be false in every object of a strict schema; add it"
    required = schema.get("required")
    listed = required if isinstance(required, list) else []
    missing = [name for name in _names(schema, "properties") if name not in listed]
    if missing:
        names = ", ".join(missing)
        yield f"{path}.required: lacks {names}; a strict schema requires every property (an optional one may be null)"


def _size_faults(places: list[Place], where: str) -> Iterator[str]:
    enums = [(place, values) for place in places if isinstance(values := place.schema.get("enum"), list)]
    values = [value for _, some in enums for value in some]
    names = [name for place in places for name in _names(place.schema, "properties")]
    definitions = [name for place in places for word in ("$defs", "definitions") for name in _names(place.schema, word)]
    constants = [place.schema.get("const") for place in places]
    all_texts = [*names, *definitions, *values, *constants]
    for count, most, what in (
        (len(names), MAX_PROPERTIES, "properties"),
        (len(values), MAX_VALUES, "enum values"),
        (_characters(all_texts), MAX_CHARACTERS, "characters in its names and values"),
    ):
        if count > most:
            yield f"{where}: has {count:,} {what}; a strict schema has {most:,} at most"
    yield from _nesting_faults(places, where)
    for at, some in enums:
        if len(some) > LONG_ENUM and _characters(some) > MAX_ENUM_CHARACTERS:
            limit = f"its texts have {MAX_ENUM_CHARACTERS:,} characters at most"
            yield f"{_path(where, at)}.enum: beyond {LONG_ENUM} values, {limit}"


def _nesting_faults(places: list[Place], where: str) -> Iterator[str]:
    """Levels are those of objects. A definition is at the level of what defines it, and so are the alternatives of an
    object: they are that object."""
    levels: dict[tuple[str, ...], int] = {}
    for place in places:
        around = place.around
        if around is None:
            levels[()] = 1
            continue
        keyword = place.path[len(around.path)]
        is_same = keyword in ("$defs", "definitions") or (keyword == "anyOf" and _is_object(around.schema))
        levels[place.path] = levels[around.path] + (not is_same and _is_object(place.schema))
    deepest = max(places, key=lambda place: levels[place.path])
    if (level := levels[deepest.path]) > MAX_NESTING:
        yield f"{_path(where, deepest)}: is nested {level} levels deep; a strict schema has {MAX_NESTING} at most"


def _path(where: str, place: Place) -> str:
    return ".".join((where, *place.path))


def _is_object(schema: _SCHEMA) -> bool:
    kind = schema.get("type")
    return (
        kind == "object" or (isinstance(kind, list) and "object" in kind) or (kind is None and "properties" in schema)
    )


def _names(schema: _SCHEMA, group: str) -> list[str]:
    inner = schema.get(group)
    return list(inner) if isinstance(inner, dict) else []


def _characters(values: list[Any]) -> int:
    return sum(len(value) for value in values if isinstance(value, str))
