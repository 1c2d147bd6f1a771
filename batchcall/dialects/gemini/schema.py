"""JSON Schema as Gemini reads it: what says the same in its words is rewritten, what it cannot say is named.

Google's fields for it (`parametersJsonSchema`, `responseJsonSchema`) take the whole of JSON Schema. Of the keywords
that its models are not held to, those that only narrow a value (`pattern`, `minLength`, `uniqueItems` …) are sent as
they are: every answer is checked here in any case. Those that say which data belongs there would be lost: faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from batchcall.base import Json
from batchcall.schemas import within

Schema = dict[str, Json]


class Said(NamedTuple):
    """A schema in Gemini's words."""

    schema: Json
    faults: list[str]  # "path: what, and what to do", in the order of the schema


def say_schema(schema: Json, where: str) -> Said:
    """The schema as it is sent. `where` is its path in the job, for the faults."""
    # `definitions` move to where they stand today; references to them are rewritten on the way.
    if isinstance(schema, dict) and isinstance(old := schema.get("definitions"), dict):
        now = schema.get("$defs")
        rest = {name: part for name, part in schema.items() if name not in ("definitions", "$defs")}
        schema = {**rest, "$defs": {**old, **(now if isinstance(now, dict) else {})}}
    walk = _Walk()
    said = walk.said(schema, where)
    if isinstance(said, dict):
        said.pop("$schema", None)
        walk.faults += _Loops(said).faults(where)
    return Said(said, walk.faults)


UNSAYABLE: Mapping[str, str] = {
    "not": "Gemini has no `not`; list what is allowed instead",
    "if": "Gemini has no conditions; give the cases as anyOf",
    "patternProperties": "Gemini has no patterns of names; name the properties, or take additionalProperties",
    "propertyNames": "Gemini has no rule for names; name the properties",
    "dependentSchemas": "Gemini has no conditions; give the cases as anyOf",
    "dependentRequired": "Gemini has no conditions; give the cases as anyOf",
    "dependencies": "Gemini has no conditions; give the cases as anyOf",
    "contains": "Gemini has no `contains`; say it in the description",
    "$dynamicRef": "Gemini follows $ref only; use it",
    "$recursiveRef": "Gemini follows $ref only; use it",
}
_DEFS = "#/$defs/"
_OLD_DEFS = "#/definitions/"


# What says the same in Gemini's words, keyword by keyword: a list of `items` becomes `prefixItems`, an `allOf` of one
# an `anyOf`, a `const` an `enum` of one. A second one of those that become an anyOf has no place left, so it is a fault
# and not left out.
class _Walk(msgspec.Struct):
    faults: list[str] = []

    def said(self, node: Json, where: str) -> Json:
        if node is True:
            return {}
        if node is False:
            self.faults.append(f"{where}: Gemini has no schema that nothing fits; leave it out")
        if not isinstance(node, dict):
            return node
        said: Schema = {}
        too_many = [name for name in _BECOMES_ANY_OF if name in node][1:]
        for name, value in node.items():
            if name in UNSAYABLE:
                self.faults.append(f"{where}/{name}: {UNSAYABLE[name]}")
            say = _Walk.crowded if name in too_many else _KEYWORDS.get(name)
            said.update(say(self, name, value, f"{where}/{name}") if say else {name: value})
        # A reference stands alone in Gemini's schemas; what stood beside it goes around it.
        if "$ref" in said and "anyOf" not in said and not all(name.startswith("$") for name in said):
            only: Json = [{"$ref": said.pop("$ref")}]
            said["anyOf"] = only
        return said

    def one(self, name: str, value: Json, where: str) -> Schema:
        return {name: self.said(value, where)}

    def each(self, name: str, value: Json, where: str) -> Schema:
        if not isinstance(value, list):
            return {name: value}
        return {name: [self.said(one, f"{where}/{place}") for place, one in enumerate(value)]}

    def by_name(self, name: str, value: Json, where: str) -> Schema:
        if not isinstance(value, dict):
            return {name: value}
        return {name: {own: self.said(one, f"{where}/{own}") for own, one in value.items()}}

    def items(self, name: str, value: Json, where: str) -> Schema:
        """A list of schemas is what drafts before 2020 called `prefixItems`."""
        return self.each("prefixItems", value, where) if isinstance(value, list) else self.one(name, value, where)

    def additional(self, name: str, value: Json, where: str) -> Schema:
        return {name: value} if isinstance(value, bool) else self.one(name, value, where)

    def all_of(self, name: str, value: Json, where: str) -> Schema:
        """One schema that must fit is one of one that may."""
        if isinstance(value, list) and len(value) == 1:
            return self.each("anyOf", value, where)
        self.faults.append(f"{where}: Gemini has no allOf; merge its schemas into one")
        return {name: value}

    def crowded(self, name: str, value: Json, where: str) -> Schema:
        """What would become an anyOf, where another stands already."""
        self.faults.append(f"{where}: Gemini accepts one of {', '.join(_BECOMES_ANY_OF)}; merge them into one")
        return self.ref(name, value, where) if name == "$ref" else self.each(name, value, where)

    def const(self, name: str, value: Json, where: str) -> Schema:
        is_listable = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        return {"enum": [value]} if is_listable else {name: value}

    def ref(self, name: str, value: Json, where: str) -> Schema:
        if not isinstance(value, str):
            return {name: value}
        if value.startswith(_OLD_DEFS):
            value = _DEFS + value.removeprefix(_OLD_DEFS)
        if value != "#" and not (value.startswith(_DEFS) and "/" not in value.removeprefix(_DEFS)):
            self.faults.append(f"{where}: Gemini follows references to {_DEFS}NAME only; move the schema there")
        return {name: value}


_KEYWORDS: Mapping[str, Callable[[_Walk, str, Json, str], Schema]] = {
    **dict.fromkeys(("properties", "$defs"), _Walk.by_name),
    **dict.fromkeys(("anyOf", "oneOf", "prefixItems"), _Walk.each),
    "items": _Walk.items,
    "additionalProperties": _Walk.additional,
    "allOf": _Walk.all_of,
    "const": _Walk.const,
    "$ref": _Walk.ref,
}
_BECOMES_ANY_OF = ("anyOf", "$ref", "allOf")  # a $ref with something beside it, an allOf of one


class _Loops:
    """Finds schemas that contain themselves without a way out: Gemini unrolls them, and so wants one."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._seen: set[tuple[str, frozenset[str]]] = set()

    def faults(self, where: str) -> list[str]:
        rule = "Gemini accepts a schema within itself only below a property that is not required; make one optional"
        return list(dict.fromkeys(f"{where}{place}: {rule}" for place in self._loops(self._root, "", frozenset({"#"}))))

    def _loops(self, node: Json, place: str, around: frozenset[str]) -> Iterator[str]:
        """`around` are the schemas that this one stands in, up to the last property that may be missing."""
        if not isinstance(node, dict):
            return
        target = node.get("$ref")
        if isinstance(target, str) and target in around:
            yield f"{place}/$ref"
        elif isinstance(target, str) and (target, around) not in self._seen:
            self._seen.add((target, around))
            name, defs = target.removeprefix(_DEFS), self._root.get("$defs")
            inner = self._root if target == "#" else defs.get(name) if isinstance(defs, dict) else None
            yield from self._loops(inner, "" if target == "#" else f"/$defs/{name}", around | {target})
        required = node.get("required")
        for steps, inner in within(node, _UNROLLED):
            may_lack = steps[0] == "properties" and not (isinstance(required, list) and steps[1] in required)
            yield from self._loops(inner, "/".join((place, *steps)), frozenset() if may_lack else around)


_UNROLLED = ("properties", "items", "additionalProperties", "anyOf", "oneOf", "prefixItems")
