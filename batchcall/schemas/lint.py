"""Mistakes in the schemas of a job's tools: what no arguments can satisfy, and what looks like a keyword but is not.

Exact rather than complete: what it calls impossible is impossible. It checks a job's own tools once, and no row's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeGuard
from urllib.parse import unquote

from batchcall.base import Json, Tool, close_to
from batchcall.schemas.field_types import shortened
from batchcall.schemas.walk import (
    ALL_KINDS,
    LISTED_SCHEMAS,
    NAMED_SCHEMAS,
    ONE_SCHEMA,
    WHOLE,
    Kinds,
    as_dict,
    as_list,
    has_inner_id,
    kinds_of,
    pointer,
    resolve,
    types_in,
    walk,
)

__all__ = ["Findings", "lint_tools"]

MAX_SHOWN = 10  # doubts about one tool
_SHOWN = 80  # characters of a name
_SHOWN_NAMES = 3
_NEAR = 0.75  # "enmu" is near to "enum"


class Findings(NamedTuple):
    """Each is "tool: path: what"."""

    faults: tuple[str, ...]  # no arguments can be valid
    doubts: tuple[str, ...]  # allowed, but probably a mistake


def lint_tools(tools: Sequence[Tool]) -> Findings:
    """What is wrong with the schemas of tools, although each may well compile."""
    faults: list[str] = []
    doubts: list[str] = []
    for tool in tools:
        impossible = dict.fromkeys(_impossible(tool.parameters))
        odd = [what for what in _odd(tool.parameters) if what not in impossible]
        if len(odd) > MAX_SHOWN:
            odd[MAX_SHOWN:] = [f"… and {len(odd) - MAX_SHOWN} more"]
        faults += [f"{tool.name}: {what}" for what in impossible]
        doubts += [f"{tool.name}: {what}" for what in odd]
    return Findings(tuple(faults), tuple(doubts))


_Schema = Mapping[str, Json]


class _Place(NamedTuple):
    """A schema, and of what kinds the values are that it has to do with."""

    path: str
    schema: _Schema
    kinds: Kinds


class _Clash(NamedTuple):
    """What cannot be met at once."""

    what: str  # "path: what"
    kinds: Kinds  # none of these is valid


def _impossible(root: _Schema) -> Iterator[str]:
    """Why no arguments are valid; nothing where some may be."""
    # A clash is a fault only in a place that every value must satisfy, and only when no kind of value escapes it. All
    # others are doubts: below anyOf, or in an optional property, some arguments may still be valid.
    for place in _needed(root):
        if place.schema.get("not") in ({}, True):  # zod writes z.never() so
            yield f"{place.path}: no value is valid"
        clashes = list(_clashes(place))
        if place.kinds and clashes and place.kinds <= frozenset[str]().union(*(clash.kinds for clash in clashes)):
            yield from (clash.what for clash in clashes)


def _needed(root: _Schema) -> Iterator[_Place]:
    """The schemas that a value of each arguments must satisfy: they themselves, and what is required in them."""
    follows = not has_inner_id(root)
    waiting: list[tuple[str, Json, Kinds]] = [("", dict(root), frozenset({"object"}))]
    seen: set[int] = set()
    while waiting:
        path, schema, kinds = waiting.pop()
        schema = _NEVER if schema is False else schema
        if not isinstance(schema, dict) or id(schema) in seen or schema.get("nullable") is True:
            continue
        seen.add(id(schema))
        if "$ref" in schema:  # what stands beside it counts in the later drafts only
            ref = schema["$ref"]
            if follows and isinstance(ref, str):
                waiting.append((unquote(ref.removeprefix("#")), resolve(dict(root), ref), kinds))
            continue
        place = _Place(path, schema, kinds & _kinds_of(schema))
        yield place
        waiting += [(f"{path}/allOf/{i}", one, place.kinds) for i, one in enumerate(as_list(schema.get("allOf")))]
        if place.kinds == {"object"}:
            properties = as_dict(schema.get("properties"))
            required = [name for name in _required(schema) if name in properties]
            waiting += [(path + pointer(("properties", name)), properties[name], ALL_KINDS) for name in required]


_NEVER: dict[str, Json] = {"not": {}}


def _odd(root: _Schema) -> Iterator[str]:
    """What is probably a mistake, in all places that are schemas."""
    places = [_Place(pointer(place.path), place.schema, _kinds_of(place.schema)) for place in walk(root)]
    declared = frozenset(name for place in places for name in as_dict(place.schema.get("properties")))
    for place in places:
        yield from _misspelt(place)
        yield from (clash.what for clash in _clashes(place))
        # Names that are declared nowhere, and near to one that is. With other properties forbidden, it is a clash.
        if not place.schema.get("patternProperties") and place.schema.get("additionalProperties") is not False:
            properties = tuple(as_dict(place.schema.get("properties")))
            for name in _required(place.schema):
                near = None if name in declared else _near(name, properties)
                if near is not None:
                    yield f"{place.path}/required: {shortened(name, _SHOWN)}: no such property{_meant(near)}"


def _kinds_of(schema: _Schema) -> Kinds:
    """What `type` allows: all kinds where it is missing, or has a name that is read as another."""
    kinds = types_in(schema)
    if not kinds or not kinds <= ALL_KINDS:
        return ALL_KINDS
    return kinds | {"integer"} if "number" in kinds else kinds


# What cannot be met


def _clashes(place: _Place) -> Iterator[_Clash]:
    schema = place.schema
    for keyword, values in (("enum", schema.get("enum")), ("const", [schema["const"]] if "const" in schema else None)):
        if not isinstance(values, list):
            continue
        if not values:
            yield _Clash(f"{place.path}/{keyword}: is empty: no value is valid", ALL_KINDS)
        elif not any(place.kinds & kinds_of(value) for value in values):
            written = shortened(schema.get("type", "object"), _SHOWN)
            what = f"none of its values is of the type {written}: no value is valid"
            yield _Clash(f"{place.path}/{keyword}: {what}", ALL_KINDS)
    for low, high, kinds, is_open in _RANGES:
        least, most = schema.get(low), schema.get(high)
        if not (place.kinds & kinds and _is_number(least) and _is_number(most)):
            continue
        if least > most or (is_open and least == most):
            how = "is not below" if is_open else "is above"
            yield _Clash(f"{place.path}/{low}: {least} {how} {high}, {most}: no value is valid", kinds)
    # What is required and forbidden at once.
    if "object" in place.kinds and schema.get("additionalProperties") is False and not schema.get("patternProperties"):
        properties = as_dict(schema.get("properties"))
        absent = [name for name in _required(schema) if name not in properties]
        if absent:
            names = ", ".join(shortened(name, _SHOWN) for name in absent[:_SHOWN_NAMES])
            more = ", …" if len(absent) > _SHOWN_NAMES else ""
            what = f"{names}{more}: no such property, and additionalProperties is false: no value is valid"
            meant = _meant(_near(absent[0], tuple(properties)))
            yield _Clash(f"{place.path}/required: {what}{meant}", frozenset({"object"}))


_RANGES = (
    ("minLength", "maxLength", frozenset({"string"}), False),
    ("minItems", "maxItems", frozenset({"array"}), False),
    ("minProperties", "maxProperties", frozenset({"object"}), False),
    ("minimum", "maximum", WHOLE, False),
    ("exclusiveMinimum", "maximum", WHOLE, True),
    ("minimum", "exclusiveMaximum", WHOLE, True),
    ("exclusiveMinimum", "exclusiveMaximum", WHOLE, True),
)


def _is_number(value: Json) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _required(schema: _Schema) -> list[str]:
    return [name for name in as_list(schema.get("required")) if isinstance(name, str)]


# What looks like a word of JSON Schema


def _misspelt(place: _Place) -> Iterator[str]:
    for keyword in place.schema:
        near = None if keyword in _KNOWN or keyword.startswith("x-") else _near(keyword, _CHECKED)
        if near is not None:
            yield f"{place.path}{pointer([keyword])}: not a keyword of JSON Schema{_meant(near)}"
    written = place.schema.get("format")
    if isinstance(written, str) and written not in _FORMATS_OF_OTHERS:
        near = _near(written, _FORMATS)
        if near not in (None, written):
            yield f"{place.path}/format: {shortened(written, _SHOWN)}: not a known format{_meant(near)}"


def _meant(near: str | None) -> str:
    return f"; did you mean {shortened(near, _SHOWN)[1:-1]}?" if near is not None else ""


@lru_cache(maxsize=1024)
def _near(written: str, words: tuple[str, ...]) -> str | None:
    """The one of the words that was meant. A word and more is a word of its own: `requiredIf`, `description_de`."""
    plain = {_plain(word): word for word in words}
    for near in close_to(_plain(written), plain, at_least=_NEAR):
        if not (_plain(written).startswith(near) and len(_plain(written)) > len(near) + 1):
            return plain[near]
    return None


def _plain(word: str) -> str:
    return word.replace("_", "").lower()


# A typo in these changes what is valid, or what the model reads.
_CHECKED = (
    *("$defs", "$ref", "additionalProperties", "allOf", "anyOf", "const", "contains", "definitions", "dependencies"),
    *("dependentRequired", "dependentSchemas", "description", "enum", "exclusiveMaximum", "exclusiveMinimum", "format"),
    *("items", "maxContains", "maxItems", "maxLength", "maxProperties", "maximum", "minContains", "minItems"),
    *("minLength", "minProperties", "minimum", "multipleOf", "oneOf", "pattern", "patternProperties", "prefixItems"),
    *("properties", "propertyNames", "required", "type", "unevaluatedItems", "unevaluatedProperties", "uniqueItems"),
)
# Of other drafts, of OpenAPI and of others' dialects, as far as they may be near to those.
_KNOWN = frozenset(
    {
        *_CHECKED,
        *(*ONE_SCHEMA, *LISTED_SCHEMAS, *NAMED_SCHEMAS),
        *("title", "default", "examples", "deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType"),
        *("$schema", "$id", "$anchor", "$comment", "$vocabulary", "$dynamicRef", "$dynamicAnchor", "$recursiveRef"),
        *("$recursiveAnchor", "id", "extends", "disallow", "divisibleBy"),
        *("nullable", "discriminator", "xml", "externalDocs", "example", "propertyOrdering", "propertyOrder"),
        *("formatMinimum", "formatMaximum", "formatExclusiveMinimum", "formatExclusiveMaximum", "patternRequired"),
        *("markdownDescription", "enumDescriptions", "contentType"),
    }
)
_FORMATS = (
    *("date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6", "iri"),
    *("iri-reference", "json-pointer", "regex", "relative-json-pointer", "time", "uri", "uri-reference"),
    *("uri-template", "uuid"),
)
_FORMATS_OF_OTHERS = frozenset(
    {"host-name", "iso-date-time", "local-date-time", *(f"uuid{version}" for version in range(1, 9))}
)
