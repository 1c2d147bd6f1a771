"""The one way through a JSON Schema: which keywords hold schemas, what stands in a schema, where references lead.

What is not of the right shape is passed over, so callers need not check first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

from batchcall.base import Json

# Keywords that hold one schema; a list of them; and schemas by name. `items` is a list up to draft 2019-09.
ONE_SCHEMA = (
    "additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not",
    "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
LISTED_SCHEMAS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
HOLDS_VALUES = ("const", "default", "enum", "example", "examples")  # their values are not schemas
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_UNNAMED = frozenset((*ONE_SCHEMA, *LISTED_SCHEMAS))

Kinds = frozenset[str]  # of values, by the names that `type` has for them
WHOLE: Kinds = frozenset(("integer", "number"))
_KINDS: Mapping[type, Kinds] = {
    type(None): frozenset(("null",)),
    bool: frozenset(("boolean",)),
    int: WHOLE,
    float: frozenset(("number",)),
    str: frozenset(("string",)),
    list: frozenset(("array",)),
    dict: frozenset(("object",)),
}
ALL_KINDS: Kinds = frozenset().union(*_KINDS.values())

Steps = tuple[str, ...]  # of a JSON pointer, not escaped: ("properties", "total"), ("anyOf", "0")


class SchemaError(ValueError):
    """A schema that cannot be used. `path` is a JSON pointer into it, `what` a sentence without a full stop."""

    def __init__(self, path: str, what: str, *, tool: str | None = None) -> None:
        whose = f"tool {tool!r}, " if tool is not None else ""
        super().__init__(f"{whose}{path or 'schema'}: {what}")
        self.path = path
        self.what = what


class Place(NamedTuple):
    """A schema within a document."""

    schema: Mapping[str, Json]
    path: Steps  # from the root
    around: Place | None  # the schema that it stands in; None for the root


def walk(root: Mapping[str, Json], keywords: Iterable[str] | None = None) -> Iterator[Place]:
    """The schema and all in it, in the order of the document. References are not followed: what they lead to stands
    somewhere in the document, and is met there. `keywords`: as for `within`."""
    # Without recursion: schemas of users nest deeper than Python's stack.
    waiting: list[tuple[Json, Steps, Place | None]] = [(dict(root), (), None)]
    while waiting:
        schema, path, around = waiting.pop()
        if isinstance(schema, dict):
            place = Place(schema, path, around)
            yield place
            waiting += reversed([(inner, path + steps, place) for steps, inner in within(schema, keywords)])


def within(schema: Mapping[str, Json], keywords: Iterable[str] | None = None) -> Iterator[tuple[Steps, Json]]:
    """What stands directly in a schema where schemas belong, true and false included, with the steps that lead there.

    `keywords`: only below these, in their order; else below all that hold schemas, in the order of the schema.
    """
    for keyword in schema if keywords is None else keywords:
        inner = schema.get(keyword)
        if keyword in NAMED_SCHEMAS:
            if isinstance(inner, dict):
                yield from (((keyword, name), one) for name, one in inner.items())
        elif keyword in _UNNAMED and isinstance(inner, list):
            yield from (((keyword, str(number)), one) for number, one in enumerate(inner))
        elif keyword in _UNNAMED and keyword in schema:
            yield (keyword,), inner


def as_dict(value: Json) -> dict[str, Json]:
    """The object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    """The list; an empty one for anything else."""
    return value if isinstance(value, list) else []


def kinds_of(value: Json) -> Kinds:
    """The names of types that a value has: 1 is an integer and a number, and so is 1.0."""
    return WHOLE if isinstance(value, float) and value.is_integer() else _KINDS[type(value)]


def types_in(schema: Mapping[str, Json]) -> Kinds:
    """The names in `type`; none where there is no such keyword."""
    written = schema.get("type")
    return frozenset(one for one in (written if isinstance(written, list) else [written]) if isinstance(one, str))


def dicts_in(document: Json) -> Iterator[dict[str, Json]]:
    """All objects in it, whether they are schemas or values."""
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def has_unevaluated(document: Json) -> bool:
    """Whether it matters for a verdict which members of a value a schema has looked at."""
    return any("unevaluatedProperties" in node or "unevaluatedItems" in node for node in dicts_in(document))


def escaped(step: str) -> str:
    """As a step of a JSON pointer."""
    return step.replace("~", "~0").replace("/", "~1")


def pointer(steps: Iterable[str | int]) -> str:
    """The JSON pointer of these steps; empty for none."""
    return "".join([f"/{escaped(str(step))}" for step in steps])


def resolve(document: dict[str, Json], ref: str) -> Json:
    """What a local reference ("#", "#/…") points at; None where there is nothing, or where it goes by a name."""
    if ref == "#":
        return document
    if not ref.startswith("#/"):
        return None
    found: Json = document
    for step in unquote(ref[2:]).split("/"):
        # In this order (RFC 6901, section 4): the other way round, ~01 would become a slash.
        key = step.replace("~1", "/").replace("~0", "~")
        # The length first: of thousands of digits Python makes no integer.
        if isinstance(found, list) and key.isdecimal() and len(key) < 10 and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, dict) and key in found:
            found = found[key]
        else:
            return None
    return found


def has_inner_id(document: Mapping[str, Json]) -> bool:
    """Whether a part of the document has an address of its own, so that "#/…" may not mean the whole document."""
    return any(isinstance(node.get("$id"), str) for node in dicts_in(list(document.values())))


REST = "\x00"  # the member that stands for all which no name leads to


class Part(NamedTuple):
    """A schema that another one applies."""

    steps: Steps  # that lead from the other one to it; none: by reference
    member: str | None  # of a value, that it is for; `REST`: of any; None: it is for the same value
    schema: Json


# Keywords that apply schemas, and to which members. Definitions apply nothing: references lead to them.
_MEMBERS: Mapping[str, str | None] = {
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")),
    **dict.fromkeys(("properties", "patternProperties", "additionalProperties", "unevaluatedProperties"), REST),
    **dict.fromkeys(("propertyNames", "prefixItems", "items", "additionalItems", "contains", "unevaluatedItems"), REST),
}


class References(msgspec.Struct):
    """What the references of a document lead to."""

    document: dict[str, Json]
    _parts: dict[int, tuple[Part, ...]] = {}  # by identity of the schema
    _roots: dict[int, Json] = {}  # of schemas below an $id of their own, by identity
    _anchors: dict[tuple[int, str], Json] = {}  # by identity of the root, and name

    def __post_init__(self) -> None:
        if not has_inner_id(self.document) and not any(next(_anchors_of(one), None) for one in dicts_in(self.document)):
            return  # as nearly all: every reference is a path from the root
        waiting: list[tuple[Json, Json]] = [(self.document, self.document)]
        while waiting:
            node, root = waiting.pop()
            if isinstance(node, dict):
                own = node.get("$id")
                if isinstance(own, str) and not own.startswith("#"):
                    root = node
                self._roots[id(node)] = root
                for name in _anchors_of(node):
                    self._anchors.setdefault((id(root), name), node)
                waiting += [(one, root) for word, one in node.items() if word not in HOLDS_VALUES]
            elif isinstance(node, list):
                waiting += [(one, root) for one in node]

    def parts_of(self, schema: dict[str, Json]) -> tuple[Part, ...]:
        """The schemas that one applies to a value or its members, those that it refers to included."""
        if id(schema) in self._parts:
            return self._parts[id(schema)]
        parts = []
        for keyword, written in schema.items():
            if keyword in REFERENCES:
                parts.append(Part((), None, self.target(schema, written)))
            for steps, inner in within(schema, (keyword,)) if keyword in _MEMBERS else ():
                member = _MEMBERS[keyword]
                if keyword == "properties":
                    member = steps[1]
                elif keyword in ("items", "prefixItems") and len(steps) == 2:  # of one element each
                    member = f"{REST}{steps[1]}"
                if not isinstance(inner, list):  # of `dependencies`: names
                    parts.append(Part(steps, member, inner))
        self._parts[id(schema)] = tuple(parts)
        return self._parts[id(schema)]

    def forget_parts(self) -> None:
        """The document has changed."""
        self._parts.clear()

    def target(self, schema: dict[str, Json], ref: Json) -> Json:
        """None where the reference leads nowhere."""
        if not isinstance(ref, str):
            return None
        root = self._roots.get(id(schema), self.document)
        if ref == "#" or ref.startswith("#/"):
            return resolve(root, ref) if isinstance(root, dict) else None
        return self._anchors.get((id(root), ref.removeprefix("#")))


def _anchors_of(node: dict[str, Json]) -> Iterator[str]:
    # Up to draft 7 a name is written as an $id (draft 4: id) that begins with #; later it has a keyword of its own.
    for word in ("$anchor", "$dynamicAnchor"):
        if isinstance(name := node.get(word), str):
            yield name
    for word in ("$id", "id"):
        if isinstance(name := node.get(word), str) and name.startswith("#"):
            yield name[1:]
