"""What the gemini dialect promises about schemas: those that are said, and those that cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking_gemini import GEMINI, HELLO, encoded, tool
from batchcall.base.records import Request, Shape

SCHEMAS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}, {"type": "object"}),
    ({"properties": {"a": {"const": "x"}}}, {"properties": {"a": {"enum": ["x"]}}}),
    ({"properties": {"a": True}}, {"properties": {"a": {}}}),
    ({"properties": {"a": {"allOf": [{"type": "string"}]}}}, {"properties": {"a": {"anyOf": [{"type": "string"}]}}}),
    (
        {"properties": {"a": {"items": [{"type": "string"}]}}},
        {"properties": {"a": {"prefixItems": [{"type": "string"}]}}},
    ),
    (
        {"properties": {"a": {"$ref": "#/definitions/A"}}, "definitions": {"A": {"type": "string"}}},
        {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "string"}}},
    ),
    (
        {"properties": {"a": {"$ref": "#/$defs/A", "description": "d"}}, "$defs": {"A": {"type": "string"}}},
        {
            "properties": {"a": {"description": "d", "anyOf": [{"$ref": "#/$defs/A"}]}},
            "$defs": {"A": {"type": "string"}},
        },
    ),
    ({"additionalProperties": {"const": 1}}, {"additionalProperties": {"enum": [1]}}),
    ({"properties": {"const": {"type": "string"}}}, {"properties": {"const": {"type": "string"}}}),
]


@pytest.mark.parametrize(("written", "said"), SCHEMAS, ids=[json.dumps(one)[:60] for one, _ in SCHEMAS])
def test_a_schema_is_said_in_words_that_gemini_knows(written: dict[str, Any], said: dict[str, Any]) -> None:
    shape = Shape("m", (tool("f", written),))

    (declaration,) = encoded(shape)["tools"][0]["functionDeclarations"]

    assert declaration["parametersJsonSchema"] == said
    assert GEMINI.faults(shape) == []


def test_what_only_narrows_a_value_is_sent_as_written() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"], "pattern": "^x", "minLength": 1, "format": "date", "default": None},
            "b": {"type": "array", "items": {"type": "integer", "multipleOf": 2}, "uniqueItems": True, "maxItems": 3},
            "c": {"oneOf": [{"type": "string"}, {"type": "boolean"}]},
        },
        "required": ["a"],
        "additionalProperties": False,
    }
    shape = Shape("m", (tool("f", schema),))

    assert encoded(shape)["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == schema
    assert GEMINI.faults(shape) == []


def test_a_schema_within_itself_below_an_optional_property_is_fine() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}, "v": {"type": "string"}}, "required": ["v"]}
    schema = {"properties": {"list": {"$ref": "#/$defs/N"}}, "required": ["list"], "$defs": {"N": node}}

    assert GEMINI.faults(Shape("m", (tool("f", schema),))) == []


# What cannot be said

TREE = {
    "properties": {"root": {"$ref": "#/$defs/N"}},
    "$defs": {"N": {"properties": {"kids": {"items": {"$ref": "#/$defs/N"}}}, "required": ["kids"]}},
}
SCHEMA_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"properties": {"a": {"not": {"type": "string"}}}}, "tool[0].parameters/properties/a/not: Gemini has no `not`"),
    ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, "tool[0].parameters/if: "),
    ({"properties": {"a": {"items": {"allOf": [{}, {}]}}}}, "tool[0].parameters/properties/a/items/allOf: "),
    ({"properties": {"a": {"anyOf": [{}, {"contains": {}}]}}}, "tool[0].parameters/properties/a/anyOf/1/contains: "),
    (
        {"properties": {"a": {"anyOf": [{}], "allOf": [{}]}}},
        "tool[0].parameters/properties/a/allOf: Gemini accepts one",
    ),
    (
        {"properties": {"a": {"allOf": [{}, {}], "anyOf": [{}]}}},
        "tool[0].parameters/properties/a/allOf: Gemini accepts",
    ),
    (
        {"properties": {"a": {"$ref": "#/$defs/A", "anyOf": [{"type": "string"}]}}, "$defs": {"A": {}}},
        "tool[0].parameters/properties/a/$ref: Gemini accepts one of anyOf, $ref, allOf; merge them",
    ),
    (
        {"properties": {"a": {"allOf": [{"title": "T"}], "$ref": "#/$defs/A"}}, "$defs": {"A": {}}},
        "tool[0].parameters/properties/a/allOf: Gemini accepts one of anyOf, $ref, allOf; merge them",
    ),
    ({"patternProperties": {"^a": {}}}, "tool[0].parameters/patternProperties: "),
    ({"$defs": {"A": {"propertyNames": {}}}}, "tool[0].parameters/$defs/A/propertyNames: "),
    ({"properties": {"a": False}}, "tool[0].parameters/properties/a: "),
    ({"properties": {"a": {"$ref": "#/properties/b"}}}, "tool[0].parameters/properties/a/$ref: Gemini follows"),
    ({"properties": {"a": {"$ref": "https://x.example/y"}}}, "tool[0].parameters/properties/a/$ref: Gemini follows"),
    (TREE, "tool[0].parameters/$defs/N/properties/kids/items/$ref: Gemini accepts a schema within itself only"),
    ({"items": {"$ref": "#"}}, "tool[0].parameters/items/$ref: Gemini accepts a schema within itself only"),
]


@pytest.mark.parametrize(("schema", "fault"), SCHEMA_FAULTS, ids=[json.dumps(one)[:60] for one, _ in SCHEMA_FAULTS])
def test_a_schema_that_cannot_be_said_is_named_with_its_place(schema: dict[str, Any], fault: str) -> None:
    faults = GEMINI.faults(Shape("m", (tool("f", schema),)))

    assert len(faults) == 1
    assert faults[0].startswith(fault)


def test_no_part_of_a_schema_that_cannot_be_said_is_left_out() -> None:
    schema: dict[str, Any] = {"allOf": [{"properties": {"a": {}}}], "anyOf": [{"required": ["a"]}]}

    (declaration,) = encoded(Shape("m", (tool("f", schema),)))["tools"][0]["functionDeclarations"]

    assert declaration["parametersJsonSchema"] == schema


# Any schema

SCHEMA_WORDS = [
    "properties",
    "$defs",
    "definitions",
    "items",
    "anyOf",
    "allOf",
    "required",
    "$ref",
    "const",
    "not",
    "type",
]
schemas = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["#", "#/$defs/a", "#/definitions/type", "a", "type"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SCHEMA_WORDS, "a"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(schema=st.dictionaries(st.sampled_from(SCHEMA_WORDS), schemas, max_size=5))
def test_any_schema_can_be_looked_at(schema: Any) -> None:
    shape = Shape("m", (tool("f", schema),))

    assert all(fault.startswith("tool[0].parameters") for fault in GEMINI.faults(shape))
    GEMINI.encode(Request(shape, HELLO))
