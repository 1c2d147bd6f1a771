"""Generated arguments conform to the schema, are the same for the same request, and draw on the text."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcall.sandbox.generate import conforming
from batchcall.schemas.schema import compile_schema

SCALARS = st.one_of(
    st.builds(
        lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span},
        st.integers(-50, 50), st.integers(0, 9),
    ),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low}, st.integers(-5, 5)),
    st.builds(lambda step: {"type": "integer", "multipleOf": step}, st.integers(1, 7)),
    st.builds(
        lambda low, span: {"type": "string", "minLength": low, "maxLength": low + span},
        st.integers(0, 9), st.integers(0, 9),
    ),
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"type": ["string", "null"]},
            {"enum": ["a", 1, None]},
            {"const": {"x": 1}},
            {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,5}$"},
            {"type": "string", "format": "date"},
            {"type": "string", "format": "email"},
            {"type": "string", "format": "uuid"},
            {"type": "string", "format": "date-time"},
            {"type": "string", "format": "uri"},
        ]
    ),
)  # fmt: skip


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(["name", "age", "items", "total", "city", "e_mail"])
    return st.one_of(
        st.builds(
            lambda properties, rest: {
                "type": "object",
                "properties": properties,
                "required": sorted(properties)[: len(properties) // 2 + 1],
                "additionalProperties": rest,
            },
            st.dictionaries(names, inner, min_size=1, max_size=4),
            st.booleans(),
        ),
        st.builds(
            lambda item, least: {"type": "array", "items": item, "minItems": least, "maxItems": least + 2},
            inner,
            st.integers(0, 3),
        ),
        st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner),
        st.builds(lambda one: {"allOf": [one, {"description": "the same"}]}, inner),
    )


SCHEMAS = st.builds(
    lambda properties: {"type": "object", "properties": properties, "required": sorted(properties)},
    st.dictionaries(st.sampled_from("abcdef"), st.recursive(SCALARS, nested, max_leaves=8), min_size=1, max_size=4),
)


@settings(max_examples=300, deadline=None)
@given(schema=SCHEMAS, digest=st.binary(min_size=4, max_size=4), text=st.text(max_size=200))
def test_what_is_made_conforms_to_the_schema(schema: dict[str, Any], digest: bytes, text: str) -> None:
    made = conforming(compile_schema(schema), digest, text)

    # By a validator of its own, and through JSON, as a client would see it.
    jsonschema_rs.validate(schema, json.loads(json.dumps(made)))


@given(schema=SCHEMAS, digest=st.binary(min_size=4, max_size=4))
@settings(max_examples=50, deadline=None)
def test_the_same_request_gets_the_same_arguments(schema: dict[str, Any], digest: bytes) -> None:
    compiled = compile_schema(schema)

    assert conforming(compiled, digest, "a text") == conforming(compiled, digest, "a text")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "dict", "properties": {"a": {"type": "float"}, "b": {"type": "any"}}, "required": ["a", "b"]},
        {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
        {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 5}, "uniqueItems": True, "minItems": 4},
        {"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "minItems": 2, "items": False},
        {"type": "object", "minProperties": 3, "additionalProperties": {"type": "integer"}},
        {"oneOf": [{"type": "integer"}, {"type": "number", "multipleOf": 5}]},
        {"type": "string", "not": {"enum": ["a"]}},
        {"type": "object", "properties": {"a": {}}, "dependentRequired": {"a": ["b"]}, "required": ["a"]},
        {"type": "array", "contains": {"const": 7}, "items": {"type": "integer"}},
        {"type": "string", "pattern": "^(red|green|blue)(-[a-f0-9]{4})?$"},
    ],
    ids=lambda schema: json.dumps(schema)[:40],
)
def test_the_less_common_keywords_are_met_too(schema: dict[str, Any]) -> None:
    compiled = compile_schema(schema)

    assert all(compiled.is_valid(conforming(compiled, bytes([number]), "some text 12")) for number in range(30))


def test_fields_are_filled_from_the_text_where_it_names_them() -> None:
    schema = {
        "type": "object",
        "properties": {"subject": {"type": "string"}, "from_name": {"type": "string"}, "total": {"type": "number"}},
        "required": ["subject", "from_name", "total"],
    }
    text = "From name: Ada Lovelace\nSubject: Engines\nTotal: 12.50\n"

    made = conforming(compile_schema(schema), b"1234", text)

    assert made == {"subject": "Engines", "from_name": "Ada Lovelace", "total": 12.5}


def test_an_address_and_a_date_come_from_the_text() -> None:
    schema = {
        "type": "object",
        "properties": {"to": {"type": "string", "format": "email"}, "day": {"type": "string", "format": "date"}},
        "required": ["to", "day"],
    }

    made = conforming(compile_schema(schema), b"1234", "write to ada@engines.org before 1843-09-05")

    assert made == {"to": "ada@engines.org", "day": "1843-09-05"}


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        ({"type": "integer"}, "Year: 1843", 1843),
        ({"type": "number"}, "Year: 2500.75", 2500.75),
        ({"type": "integer"}, "Year: -40", -40),
        ({"type": "integer", "minimum": 1_000}, "Year: 98765", 98765),
    ],
)
def test_only_the_schema_bounds_the_numbers_taken_from_the_text(schema: Any, text: str, expected: float) -> None:
    whole = {"type": "object", "properties": {"year": schema}, "required": ["year"]}

    assert conforming(compile_schema(whole), b"1234", text) == {"year": expected}
