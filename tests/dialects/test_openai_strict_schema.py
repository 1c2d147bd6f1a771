"""Strict schemas: the documented rules, each broken one named by its path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking_responses import CHAT, RESPONSES, SCHEMA, STRICT, ask, tool
from batchcall.base.records import Json
from batchcall.dialects.openai.strict_schema import MAX_PROPERTIES, MAX_VALUES, schema_faults


@pytest.mark.parametrize("dialect", [RESPONSES, CHAT], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("more", [{}, {"strict": False}, {"strict": None}])
def test_a_tool_that_is_not_strict_may_have_any_schema(dialect: Any, more: dict[str, Any]) -> None:
    loose = {"type": "object", "allOf": [{"type": "object"}], "properties": {"a": {"type": "object"}}}

    assert dialect.faults(ask(tools=(tool(schema=loose, **more),)).shape) == []


def at_a(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = at_a(schema)
    return schema


def many(count: int) -> dict[str, Any]:
    names = [f"p{number}" for number in range(count)]
    properties = {name: {"type": "string"} for name in names}
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


EMPTY = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (SCHEMA, "s.additionalProperties: must be false"),
        ({**STRICT, "additionalProperties": True}, "s.additionalProperties: must be false"),
        ({**STRICT, "required": []}, "s.required: lacks city"),
        ({**STRICT, "type": "array"}, "s.type: the root"),
        ({}, "s.type: the root"),
        ({"anyOf": [EMPTY]}, "s: a strict schema has no anyOf at its root"),
        (at_a({"type": "object", "properties": {}}), "s.properties.a.additionalProperties: must be false"),
        (at_a({"type": ["object", "null"]}), "s.properties.a.additionalProperties: must be false"),
        (at_a({"type": "array", "items": {"type": "object"}}), "s.properties.a.items.additionalProperties: must"),
        (at_a({"anyOf": [{"type": "null"}, {"type": "object"}]}), "s.properties.a.anyOf.1.additionalProperties: must"),
        ({**STRICT, "$defs": {"B": {"type": "object"}}}, "s.$defs.B.additionalProperties: must be false"),
        (at_a({"allOf": [{"type": "string"}]}), "s.properties.a.allOf: a strict schema has no allOf"),
        (at_a({"oneOf": [{"type": "string"}]}), "s.properties.a.oneOf: a strict schema has no oneOf; use anyOf"),
        (at_a({"not": {"type": "null"}}), "s.properties.a.not: "),
        (at_a({"type": "array", "items": {"type": "string"}, "uniqueItems": True}), "s.properties.a.uniqueItems: "),
        ({**STRICT, "patternProperties": {}}, "s.patternProperties: "),
        ({**STRICT, "dependentRequired": {}}, "s.dependentRequired: "),
        (nested(11), f"s{'.properties.a' * 10}: is nested 11 levels deep"),
        (
            at_a({"type": "array", "items": [{"allOf": []}]}),
            "s.properties.a.items.0.allOf: a strict schema has no allOf",
        ),
        (many(MAX_PROPERTIES + 1), "s: has 5,001 properties; a strict schema has 5,000 at most"),
        (at_a({"enum": list(range(MAX_VALUES + 1))}), "s: has 1,001 enum values"),
        (at_a({"const": "x" * 120_000}), "s: has 120,001 characters in its names and values"),
        (at_a({"enum": [f"{number:0100}" for number in range(251)]}), "s.properties.a.enum: beyond 250 values"),
    ],
    ids=lambda part: part[:40] if isinstance(part, str) else "",
)
def test_a_strict_schema_that_breaks_a_documented_rule_is_named_with_its_path(schema: Json, fault: str) -> None:
    (told,) = schema_faults(schema, "s")

    assert told.startswith(fault)


@pytest.mark.parametrize(
    "schema",
    [
        STRICT,
        EMPTY,
        None,
        nested(10),
        many(200),
        at_a({"anyOf": [{"type": "string", "pattern": "^a", "format": "date"}, {"type": "null"}]}),
        at_a({"type": "array", "items": {"$ref": "#/$defs/B"}, "minItems": 1, "maxItems": 3})
        | {"$defs": {"B": STRICT}},
        at_a({"$ref": "#"}),
        at_a({"type": "number", "minimum": 0, "multipleOf": 2, "description": "even", "title": "A"}),
    ],
)
def test_a_strict_schema_that_keeps_the_rules_has_no_fault(schema: Json) -> None:
    assert schema_faults(schema, "s") == []


schemas = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "string", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "anyOf", "required", "enum", "const", "$defs", "a"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(schema=schemas)
def test_any_schema_can_be_judged(schema: Any) -> None:
    assert all(isinstance(fault, str) for fault in schema_faults(schema, "s"))
