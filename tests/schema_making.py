"""Schemas and values made by dice, and those that were made to be dear."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hypothesis import strategies as st
from jsonschema.validators import validator_for

from batchcall.schemas.schema import compile_schema
from batchcall.schemas.walk import (
    HOLDS_VALUES,
    LISTED_SCHEMAS,
    NAMED_SCHEMAS,
    ONE_SCHEMA,
    REFERENCES,
    References,
    SchemaError,
    dicts_in,
)

DRAFTS = (
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
)
NAMES = ("x", "y", "z", "op")
TEXTS = ("", "a", "ab", "abc", "x1", "zoë")
NUMBERS = (0, 1, -1, 2, 3, 10, 0.5, 1.0, -2.5, 100)


def random_schema(dice: random.Random, *, recursive: bool | None = None) -> dict[str, Any]:
    """A whole document in one of three drafts, its definitions free to name each other, though not for the same value:
    what a reference means that leads back to itself at once is not defined."""
    while leads_round(made := _document(dice, recursive)):
        pass
    return made


def leads_round(document: dict[str, Any]) -> bool:
    references = References(document)
    is_done: dict[int, bool] = {}

    def visit(schema: Any) -> bool:
        if not isinstance(schema, dict) or id(schema) in is_done:
            return isinstance(schema, dict) and not is_done[id(schema)]
        is_done[id(schema)] = False
        found = any(visit(part.schema) for part in references.parts_of(schema) if part.member is None)
        is_done[id(schema)] = True
        return found

    return any(visit(node) for node in dicts_in(document))


def _document(dice: random.Random, recursive: bool | None) -> dict[str, Any]:
    names = [f"d{i}" for i in range(dice.randint(1, 3))]
    making = _Making(dice, names if recursive is not False else [])
    draft = dice.choice(DRAFTS)
    word = "definitions" if "draft-07" in draft else "$defs"
    making.prefix = f"#/{word}/"
    making.is_old = "draft-07" in draft
    making.is_2020 = "2020" in draft
    document = making.schema(2)
    document = document if isinstance(document, dict) else {}
    if making.is_old and "$ref" in document:
        document = {"allOf": [document]}
    return {"$schema": draft, **document, word: {name: making.definition(dice.randint(1, 2)) for name in names}}


class _Making:
    def __init__(self, dice: random.Random, refs: list[str]) -> None:
        self.dice = dice
        self.refs = refs
        self.prefix = "#/$defs/"
        self.is_old = False
        self.is_2020 = True

    def definition(self, depth: int) -> Any:
        made = self.schema(depth)
        # A definition that is nothing but a reference may lead round for ever.
        return made if not isinstance(made, dict) or "$ref" not in made else {"properties": {"x": made}}

    def schema(self, depth: int) -> Any:
        if self.dice.random() < 0.06:
            return self.dice.random() < 0.7
        if self.refs and self.dice.random() < 0.25:
            return {"$ref": self.prefix + self.dice.choice(self.refs)}
        made: dict[str, Any] = {}
        for _ in range(self.dice.randint(1, 3)):
            made |= self.leaf() if depth <= 0 or self.dice.random() < 0.35 else self.applicator(depth - 1)
        return made

    def leaf(self) -> dict[str, Any]:
        dice = self.dice
        kinds = ["string", "integer", "number", "boolean", "null", "array", "object"]
        choices: list[Callable[[], dict[str, Any]]] = [
            lambda: {"type": dice.choice(kinds)}, lambda: {"type": dice.sample(kinds, 2)},
            lambda: {"type": dice.choice(["object", "array"])},
            lambda: {"enum": dice.sample([*TEXTS, 1, 2.0, None, True, [], {"x": 1}], 3)},
            lambda: {"const": dice.choice([1, "a", None, [1]])},
            lambda: {"minimum": dice.choice(NUMBERS)}, lambda: {"exclusiveMaximum": dice.choice(NUMBERS)},
            lambda: {"multipleOf": dice.choice([2, 0.5])},
            lambda: {"minLength": dice.randint(0, 2)}, lambda: {"maxLength": dice.randint(0, 3)},
            lambda: {"pattern": dice.choice(["^a", "b$", "[0-9]"])},
            lambda: {"minItems": dice.randint(0, 2)}, lambda: {"maxItems": dice.randint(0, 3)},
            lambda: {"uniqueItems": True},
            lambda: {"required": dice.sample(NAMES, dice.randint(0, 2))}, lambda: {"minProperties": dice.randint(0, 2)},
            lambda: {"maxProperties": dice.randint(0, 3)},
        ]  # fmt: skip
        return dice.choice(choices)()

    def applicator(self, depth: int) -> dict[str, Any]:
        dice = self.dice

        def some(least: int = 1) -> list[Any]:
            return [self.schema(depth) for _ in range(dice.randint(least, 3))]

        def named(names: tuple[str, ...]) -> dict[str, Any]:
            return {name: self.schema(depth) for name in dice.sample(names, dice.randint(1, 2))}

        choices: list[Callable[[], dict[str, Any]]] = [
            lambda: {"allOf": some()}, lambda: {"anyOf": some()}, lambda: {"oneOf": some()},
            lambda: {"not": self.schema(depth)},
            lambda: {"properties": named(NAMES)},
            lambda: {"properties": named(NAMES), "required": dice.sample(NAMES, 1)},
            lambda: {"patternProperties": named(("^x", "y", "[a-p]"))},
            lambda: {"additionalProperties": self.schema(depth)},
            lambda: {"properties": named(NAMES), "additionalProperties": False},
            lambda: {"propertyNames": self.schema(0)},
            lambda: {"items": self.schema(depth)}, lambda: {"contains": self.schema(depth)},
            lambda: {"if": self.schema(depth), "then": self.schema(depth), "else": self.schema(depth)},
        ]  # fmt: skip
        if self.is_old:
            choices += [
                lambda: {"dependencies": {dice.choice(NAMES): dice.choice([self.schema(depth), ["x"]])}},
                lambda: {"items": some(), "additionalItems": self.schema(depth)},
            ]
        else:
            choices += [
                lambda: {"dependentSchemas": named(NAMES)}, lambda: {"dependentRequired": {"x": ["y"]}},
                lambda: {"unevaluatedProperties": dice.choice([False, self.schema(depth)]), "anyOf": some()},
                lambda: {"unevaluatedItems": dice.choice([False, self.schema(depth)]), "allOf": some()},
                lambda: {"contains": self.schema(depth), "minContains": dice.randint(0, 2), "maxContains": 2},
                lambda: {"prefixItems" if self.is_2020 else "items": some()},
            ]  # fmt: skip
        return dice.choice(choices)()


_KEYWORDS = (
    *ONE_SCHEMA, *LISTED_SCHEMAS, *NAMED_SCHEMAS, *HOLDS_VALUES, *REFERENCES, "type", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "format", "minItems",
    "maxItems", "minProperties", "maxProperties", "minContains", "maxContains", "required", "dependentRequired",
    "uniqueItems", "nullable", "$schema", "$id", "id", "$anchor", "$dynamicAnchor", "title", "components",
)  # fmt: skip
_ODD_TEXTS = ("", "STRING", " any ", "(", "a{99999}", "\x00", "\ud800", "#", "#/", "#x", "#/x", "#/allOf/0", *DRAFTS)
_ODD_NUMBERS = (0, -1, 1.5, 2.0, 1e308, float("inf"), float("nan"), 10**30, -(10**30))
_ODD_LEAVES = st.sampled_from((None, True, False, *_ODD_TEXTS, *_ODD_NUMBERS, f"#/allOf/{'9' * 5_000}"))


def _odd_around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keyword = st.sampled_from((*_KEYWORDS, *NAMES))
    return st.lists(inner, max_size=3) | st.dictionaries(keyword, inner, max_size=3)


# Any JSON under any keyword; mostly not a schema.
_ODD_VALUES = st.recursive(_ODD_LEAVES, _odd_around, max_leaves=6)
ODD_SCHEMAS = st.dictionaries(st.sampled_from(_KEYWORDS), _ODD_VALUES, max_size=4)


def random_value(dice: random.Random, schema: Any, depth: int = 4) -> Any:
    """A value that looks into the schema for what it wants, and now and then does otherwise."""
    if depth > 0 and isinstance(schema, dict) and dice.random() < 0.8:
        made = _meant(dice, schema, depth)
        if made is not None:
            return made
    kind = dice.randint(0, 9 if depth > 0 else 6)
    if kind < 2:
        return dice.choice(TEXTS)
    if kind < 5:
        return dice.choice(NUMBERS)
    if kind < 7:
        return dice.choice([None, True, False])
    if kind < 8:
        return [random_value(dice, {}, depth - 2) for _ in range(dice.randint(0, 3))]
    return {dice.choice(NAMES): random_value(dice, {}, depth - 2) for _ in range(dice.randint(0, 3))}


def _meant(dice: random.Random, schema: dict[str, Any], depth: int) -> Any:
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return dice.choice(schema["enum"])
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema and dice.random() < 0.6:
            return random_value(dice, dice.choice(schema[word]), depth - 1)
    if any(word in schema for word in ("properties", "required", "patternProperties")):
        names = {*schema.get("properties", {}), *schema.get("required", [])}
        made = {
            name: random_value(dice, schema.get("properties", {}).get(name, {}), depth - 1) for name in sorted(names)
        }
        if dice.random() < 0.3:
            made[dice.choice(NAMES)] = random_value(dice, {}, depth - 2)
        return made
    items = schema.get("items", schema.get("contains"))
    if isinstance(items, dict):
        return [random_value(dice, items, depth - 1) for _ in range(dice.randint(0, 3))]
    listed = schema.get("prefixItems", items)
    if isinstance(listed, list):
        return [random_value(dice, one, depth - 1) for one in listed]
    return None


def deep(dice: random.Random, depth: int, leaf: Any, *, most: int = 2_000) -> Any:
    """A leaf within `depth` objects and lists, some of which hold the same value twice: at most `most` times in all."""
    value, leaves = leaf, 1
    for _ in range(depth):
        shape = dice.randrange(5 if leaves * 2 <= most else 4)
        leaves *= 2 if shape == 4 else 1
        value = [{"x": value}, {"x": value, "y": 1}, {"x": value, "op": "a"}, [value], {"y": value, "x": value}][shape]
    return value if isinstance(value, dict) else {"x": value}


@cache
def hostile() -> dict[str, tuple[dict[str, Any], list[Any]]]:
    """By name: a schema, and values that are dear to check, to explain or to repair; first a valid one."""
    made: dict[str, tuple[dict[str, Any], list[Any]]] = {}
    for word in ("allOf", "anyOf", "oneOf"):
        values = [_nested(29, 1), _nested(29, "s")]
        made[f"ladder {word}"] = (
            _ladder(word, 28),
            values if word != "oneOf" else [_nested(29, True), _nested(29, "s")],
        )
        made[f"bomb {word}"] = (_bomb(word, 14), [{"x": [1] * 10_000}, {"x": [1] * 100_000 + ["s"]}, {"x": "s"}])
        made[f"unevaluated {word}"] = (_unevaluated(word, 40), [{"a": 1}, {"b": "s"}, {"b": 1}])
        made[f"clique {word}"] = (_clique(word, 20), [_nested(10, 1), _nested(10, "s"), _nested(60, "s")])
    ref = {"$ref": "#/$defs/d"}
    both = [
        {"properties": {"x": ref}, "required": ["n"]},
        {"properties": {"x": ref}, "required": ["m"]},
        {"type": "integer"},
    ]
    made["required behind properties"] = (
        {"properties": {"x": ref}, "$defs": {"d": {"anyOf": both}}}, [{"x": 1}, _nested(24, "s"), _nested(150, "s")]
    )  # fmt: skip
    either = {"if": {"properties": {"x": ref}}, "then": {"properties": {"x": ref}}, "else": {"required": ["x"]}}
    made["if"] = ({"properties": {"x": ref}, "$defs": {"d": either}}, [_nested(150, 1), _nested(150, "s")])
    made["objects in an enum"] = (
        {"properties": {"x": {"items": {"enum": [{"a": i} for i in range(6_000)]}}}},
        [{"x": [{"a": 5_999}]}, {"x": [{"a": 5_999}] * 10_000}, {"x": [{"a": -1}] * 10_000}],
    )
    names = {f"^p{i}.*z": {"type": "integer"} for i in range(1_000)}
    made["patterns of names"] = (
        {"properties": {"x": {"items": {"patternProperties": names, "additionalProperties": False}}}},
        [{"x": []}, {"x": [{f"p{i}z": 0 for i in range(100)}] * 1_000}],
    )
    made["unique long numbers"] = (
        {"properties": {"x": {"uniqueItems": True}}},
        [{"x": [10**30 + i for i in range(20_000)]}],
    )
    made["many patterns"] = (
        {"properties": {"x": {"anyOf": [{"pattern": f"[ab]*a[ab]{{20}}c{i}"} for i in range(100)]}}},
        [{"x": "ab" * 30_000}],
    )
    made["many errors"] = ({"properties": {"x": {"items": {"type": "string"}}}}, [{"x": []}, {"x": [1] * 1_000_000}])
    return made


def _nested(depth: int, leaf: Any) -> dict[str, Any]:
    value = leaf
    for _ in range(depth):
        value = {"x": value}
    return value if isinstance(value, dict) else {"x": value}


def _ladder(word: str, steps: int) -> dict[str, Any]:
    """Each definition names the next one twice, for the same part of the value."""
    defs: dict[str, Any] = {f"d{steps}": {"type": ["integer", "boolean"]}}
    for step in range(steps):
        member = {"properties": {"x": {"$ref": f"#/$defs/d{step + 1}"}}}
        other = {"maxProperties": 0} if word == "oneOf" else {}
        defs[f"d{step}"] = {word: [{**member, **other}, {**member, "minProperties": 1}]}
    return {"properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": defs}


def _bomb(word: str, steps: int) -> dict[str, Any]:
    """Each definition is the next one twice."""
    twice = {f"d{i}": {word: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(steps)}
    return {
        "properties": {"x": {"items": {"$ref": "#/$defs/d0"}}},
        "$defs": {**twice, f"d{steps}": {"type": "integer"}},
    }


def _unevaluated(word: str, levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"properties": {"a": {}}}
    for _ in range(levels):
        schema = {word: [schema, {"minProperties": 1}], "unevaluatedProperties": {"type": "integer"}}
    return schema


def _clique(word: str, size: int) -> dict[str, Any]:
    """Definitions that all name all."""

    def member(k: int) -> dict[str, Any]:
        return {"type": "object", "properties": {"x": {"$ref": f"#/$defs/d{k}"}}, "minProperties": k % 3}

    made = {f"d{i}": {word: [{"type": "integer"}, *(member(k) for k in range(size))]} for i in range(size)}
    return {"properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": made}


# Verdicts, held against an independent validator


@dataclass(slots=True)
class Compared:
    answers: int = 0
    valid: int = 0
    excepted: int = 0
    differing: list[tuple[dict[str, Any], Any, bool]] = field(default_factory=list)


def compared(dice: random.Random, *, schemas: int, values: int) -> Compared:
    """As many random schemas, each with values that fit or do not, judged by both."""
    counted = Compared()
    for _ in range(schemas):
        schema = random_schema(dice)
        try:
            compiled = compile_schema(schema)
        except SchemaError:
            continue
        if any(excepts(schema) for excepts in EXCEPTIONS):
            counted.excepted += values
            continue
        other = validator_for(schema)(schema)
        for _ in range(values):
            value = random_value(dice, schema)
            try:
                expected = other.is_valid(value)
            except TypeError:  # up to 2019-09 it asks for the length of `items: true`
                counted.excepted += 1
                continue
            verdict = compiled.is_valid(value)
            counted.answers += 1
            counted.valid += verdict
            if verdict != expected:
                counted.differing.append((schema, value, verdict))
    return counted


def differing(schema: dict[str, Any], value: Any, *, verdict: bool) -> bool:
    """Whether the independent validator says otherwise."""
    return bool(validator_for(schema)(schema).is_valid(value)) is not verdict


def _has_unevaluated_properties_in_2019(schema: dict[str, Any]) -> bool:
    """Draft 2019-09 counts as evaluated what `additionalProperties` has looked at, a schema or not (section 9.3.2.4),
    and so does the official suite ("with adjacent non-bool additionalProperties"). The other one takes the keywords in
    that schema for names of properties; the same for `unevaluatedProperties` within another schema."""
    nodes = list(dicts_in(schema)) if "2019-09" in schema["$schema"] else []
    return any("unevaluatedProperties" in node for node in nodes) and any(
        isinstance(node.get(word), dict) for node in nodes for word in ("additionalProperties", "unevaluatedProperties")
    )


# Where the two may differ, with the reason.
EXCEPTIONS = (_has_unevaluated_properties_in_2019,)
