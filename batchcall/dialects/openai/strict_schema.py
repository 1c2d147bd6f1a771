"""What OpenAI refuses of the schema of a tool that says `strict`: the documented rules of structured outputs.

https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from batchcall.base import Json, Shape

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
_INSTEAD: Mapping[str, str] = {"oneOf": "say anyOf"}


def strict_tool_faults(shape: Shape) -> list[str]:
    """What is wrong with the tools that are strict: the path in the tool, the rule and what to do."""
    return [fault for tool in shape.tools for fault in _faults_of(tool.written)]


def schema_faults(schema: Json, where: str) -> list[str]:
    """What the rules refuse of a schema, each with its path, which begins with `where`."""
    if not isinstance(schema, dict):
        return []
    places = list(_places(schema, where, 1))
    return [
        *_root_faults(schema, where),
        *[fault for place in places for fault in _place_faults(place)],
        *_size_faults(places, where),
    ]


def _faults_of(tool: Mapping[str, Any]) -> list[str]:
    function = tool.get("function")
    if not isinstance(function, dict) or function.get("strict") is not True:
        return []
    return schema_faults(function.get("parameters"), f"tool.{function.get('name')}.parameters")


class _Place(NamedTuple):
    """A schema within the schema."""

    schema: _SCHEMA
    path: str
    level: int  # of objects around it, itself included


def _places(schema: _SCHEMA, path: str, level: int) -> Iterator[_Place]:
    """The schema and all in it. A reference is not followed: what it refers to is met where it is defined."""
    yield _Place(schema, path, level)
    for group in ("properties", "$defs", "definitions"):
        for name, inner in _named(schema, group):
            deeper = group == "properties" and _is_object(inner)
            yield from _places(inner, f"{path}.{group}.{name}", level + deeper)
    items = schema.get("items")
    if isinstance(items, dict):
        yield from _places(items, f"{path}.items", level + _is_object(items))
    choices = schema.get("anyOf")
    for number, inner in enumerate(choices if isinstance(choices, list) else []):
        if isinstance(inner, dict):
            deeper = _is_object(inner) and not _is_object(schema)
            yield from _places(inner, f"{path}.anyOf.{number}", level + deeper)


def _root_faults(schema: _SCHEMA, where: str) -> Iterator[str]:
    if "anyOf" in schema:
        yield f"{where}: a strict schema has no anyOf at its root; put it into a property"
    elif schema.get("type") != "object":
        yield f'{where}.type: the root of a strict schema is an object; say type = "object"'


def _place_faults(place: _Place) -> Iterator[str]:
    for keyword in place.schema:
        if keyword in _REFUSED:
            todo = _INSTEAD.get(keyword, "remove it")
            yield f"{place.path}.{keyword}: a strict schema has no {keyword}; {todo}, or say strict = false"
    if not _is_object(place.schema):
        return
    if place.schema.get("additionalProperties") is not False:
        yield f"{place.path}.additionalProperties: must be false in every object of a strict schema; say so"
    required = place.schema.get("required")
    listed = required if isinstance(required, list) else []
    missing = [name for name, _ in _entries(place.schema, "properties") if name not in listed]
    if missing:
        names = ", ".join(missing)
        yield f"{place.path}.required: lacks {names}; a strict schema requires all (what may lack may be null)"


def _size_faults(places: list[_Place], where: str) -> Iterator[str]:
    enums = [(place.path, values) for place in places if isinstance(values := place.schema.get("enum"), list)]
    values = [value for _, some in enums for value in some]
    names = _names(places, "properties")
    constants = [place.schema.get("const") for place in places]
    all_texts = [*names, *_names(places, "$defs"), *_names(places, "definitions"), *values, *constants]
    for count, most, what in (
        (len(names), MAX_PROPERTIES, "properties"),
        (len(values), MAX_VALUES, "enum values"),
        (_characters(all_texts), MAX_CHARACTERS, "characters in its names and values"),
    ):
        if count > most:
            yield f"{where}: has {count:,} {what}; a strict schema has {most:,} at most"
    deepest = max(places, key=lambda place: place.level)
    if deepest.level > MAX_NESTING:
        yield f"{deepest.path}: is nested {deepest.level} levels deep; a strict schema has {MAX_NESTING} at most"
    for path, some in enums:
        if len(some) > LONG_ENUM and _characters(some) > MAX_ENUM_CHARACTERS:
            yield f"{path}.enum: beyond {LONG_ENUM} values, its texts have {MAX_ENUM_CHARACTERS:,} characters at most"


def _names(places: list[_Place], group: str) -> list[str]:
    return [name for place in places for name, _ in _entries(place.schema, group)]


def _is_object(schema: _SCHEMA) -> bool:
    kind = schema.get("type")
    return (
        kind == "object" or (isinstance(kind, list) and "object" in kind) or (kind is None and "properties" in schema)
    )


def _named(schema: _SCHEMA, group: str) -> list[tuple[str, _SCHEMA]]:
    return [(name, inner) for name, inner in _entries(schema, group) if isinstance(inner, dict)]


def _entries(schema: _SCHEMA, group: str) -> list[tuple[str, Any]]:
    inner = schema.get(group)
    return list(inner.items()) if isinstance(inner, dict) else []


def _characters(values: list[Any]) -> int:
    return sum(len(value) for value in values if isinstance(value, str))
