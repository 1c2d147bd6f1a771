"""What type a column gets from a schema, and what becomes of a value that it cannot hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.schemas.field_types import (
    FieldType,
    ListOf,
    Scalar,
    StructOf,
    _joined,
    converter,
    field_type,
    is_plain,
    restorer,
)
from batchcall.schemas.schema import compile_schema

STRING, INT64, FLOAT64, BOOL, JSON = Scalar.STRING, Scalar.INT64, Scalar.FLOAT64, Scalar.BOOL, Scalar.JSON
DEFINITIONS = {
    "Name": {"type": "string"},
    "Shop": {"type": "object", "properties": {"name": {"$ref": "#/$defs/Name"}}},
    "Node": {"type": "object", "properties": {"value": {"type": "integer"}, "next": {"$ref": "#/$defs/Node"}}},
}
SHOP = StructOf((("name", STRING),))


def type_of(field: dict[str, Any] | bool) -> FieldType:
    document: dict[str, Any] = {"type": "object", "properties": {"field": field}, "$defs": DEFINITIONS}
    whole = field_type(compile_schema(document).document)
    assert isinstance(whole, StructOf)
    return dict(whole.fields)["field"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, STRING),
        ({"type": "string", "format": "date-time"}, STRING),
        ({"type": "integer"}, INT64),
        ({"type": "number"}, FLOAT64),
        ({"type": "boolean"}, BOOL),
        ({"type": "array", "items": {"type": "string"}}, ListOf(STRING)),
        ({"type": "array", "items": {"type": "object"}}, ListOf(JSON)),
        ({"type": "array"}, JSON),
        ({"type": "array", "items": {}}, JSON),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, StructOf((("a", INT64),))),
        ({"type": "object"}, JSON),
        ({"type": "object", "properties": {}}, JSON),
        ({"type": "object", "additionalProperties": {"type": "string"}}, JSON),
        ({"properties": {"a": {"type": "integer"}}}, StructOf((("a", INT64),))),
        ({"enum": ["a", "b"]}, STRING),
        ({"enum": ["a", None]}, STRING),
        ({"enum": [1, 2]}, INT64),
        ({"enum": [1, 2.5]}, FLOAT64),
        ({"enum": [True, False]}, BOOL),
        ({"enum": ["a", 1]}, JSON),
        ({"enum": [2**63]}, JSON),
        ({"type": "string", "enum": ["a", 1]}, STRING),
        ({"const": "a"}, STRING),
        ({"const": {"a": 1}}, JSON),
        ({"type": ["string", "null"]}, STRING),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, INT64),
        ({"oneOf": [{"$ref": "#/$defs/Shop"}, {"type": "null"}]}, SHOP),
        ({"type": "integer", "nullable": True}, INT64),
        ({"type": ["integer", "number"]}, FLOAT64),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, FLOAT64),
        ({"type": ["string", "integer"]}, JSON),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, JSON),
        ({"anyOf": [{"type": "string"}, {}]}, JSON),
        ({"type": "null"}, JSON),
        ({}, JSON),
        (True, JSON),
        (False, JSON),
        ({"$ref": "#/$defs/Shop"}, SHOP),
        ({"$ref": "#/$defs/Shop", "description": "where"}, SHOP),
        ({"allOf": [{"$ref": "#/$defs/Shop"}], "description": "where"}, SHOP),
        ({"type": "object", "allOf": [{"$ref": "#/$defs/Shop"}]}, SHOP),
        (
            {"allOf": [{"$ref": "#/$defs/Shop"}, {"properties": {"open": {"type": "boolean"}}}]},
            StructOf((("name", STRING), ("open", BOOL))),
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}]},
            StructOf((("a", STRING),)),
        ),
        (
            {
                "type": "object",
                "properties": {"a": {}},
                "oneOf": [{"properties": {"b": {}}}, {"properties": {"c": {}}}],
            },
            JSON,
        ),
        ({"type": "integer", "maximum": 2**64}, JSON),
        ({"type": "integer", "enum": [1, 2**63]}, JSON),
        ({"type": "integer", "enum": [-(2**63), 2**63 - 1]}, INT64),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, INT64),
        ({"type": "integer", "maximum": 2**63}, JSON),
        ({"type": "integer", "exclusiveMinimum": -(2**63) - 1}, INT64),
        ({"type": "integer", "exclusiveMinimum": -(2**63) - 2}, JSON),
        ({"type": "integer", "exclusiveMaximum": 2**63 + 1}, JSON),
        ({"type": "integer", "const": -(2**63) - 1}, JSON),
        ({"type": "integer", "minimum": -(2**63) - 1}, JSON),
        ({"type": "integer", "exclusiveMaximum": 2**63}, INT64),
        ({"type": "integer", "minimum": 0, "maximum": 2**63 - 1}, INT64),
        ({"type": "array", "prefixItems": [{"type": "number"}] * 2, "maxItems": 2}, ListOf(FLOAT64)),
        ({"type": "array", "prefixItems": [{"type": "number"}] * 2, "items": False}, ListOf(FLOAT64)),
        ({"type": "array", "prefixItems": [{"type": "number"}] * 2}, JSON),
        ({"type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}], "items": False}, JSON),
    ],
)
def test_the_type_of_a_column_follows_from_the_schema(schema: dict[str, Any] | bool, expected: FieldType) -> None:
    assert type_of(schema) == expected


def test_a_definition_that_comes_back_on_itself_is_json_from_there() -> None:
    assert type_of({"$ref": "#/$defs/Node"}) == StructOf((("value", INT64), ("next", JSON)))


def test_a_schema_that_contains_itself_is_json_where_it_does() -> None:
    whole = field_type({"properties": {"name": {"type": "string"}, "parts": {"type": "array", "items": {"$ref": "#"}}}})

    assert whole == StructOf((("name", STRING), ("parts", ListOf(JSON))))


def test_names_that_differ_only_in_case_stay_two_fields() -> None:
    whole = field_type({"properties": {"id": {"type": "string"}, "ID": {"type": "integer"}}})

    assert whole == StructOf((("id", STRING), ("ID", INT64)))


def test_what_is_nested_deeper_than_thirty_is_json() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(40):
        schema = {"type": "object", "properties": {"in": schema}}

    kind, depth = field_type(schema), 0
    while isinstance(kind, StructOf):
        kind, depth = kind.fields[0][1], depth + 1

    assert (kind, depth) == (JSON, 31)


@pytest.mark.parametrize("word", ["items", "prefixItems"])
def test_lists_in_lists_deeper_than_thirty_are_json(word: str) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(40):
        schema = {"type": "array", word: [schema] if word == "prefixItems" else schema, "maxItems": 1}

    kind, depth = field_type(schema), 0
    while isinstance(kind, ListOf):
        kind, depth = kind.element, depth + 1

    assert (kind, depth) == (JSON, 31)


def test_many_fields_beside_each_other_keep_their_types() -> None:
    fields = {f"f{number}": {"allOf": [{"type": "string"}]} for number in range(1_000)}

    assert field_type({"properties": fields}) == StructOf(tuple((name, STRING) for name in fields))


def test_a_definition_may_stand_in_many_fields() -> None:
    fields = {f"f{number}": {"$ref": "#/$defs/d"} for number in range(9)}

    assert field_type({"properties": fields, "$defs": {"d": {"type": "string"}}}) == StructOf(
        tuple((name, STRING) for name in fields)
    )


def test_shared_definitions_do_not_unfold_into_millions_of_fields() -> None:
    both = {
        f"d{i}": {"properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}, "b": {"$ref": f"#/$defs/d{i + 1}"}}}
        for i in range(25)
    }
    document: dict[str, Any] = {"$ref": "#/$defs/d0", "$defs": {**both, "d25": {"type": "string"}}}

    kind = field_type(document)

    assert str(kind).count("Scalar") < 10_000


def test_references_behind_references_in_every_field_are_json_from_where_there_are_too_many() -> None:
    links = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(3_000)}
    nested = {f"d{i}": {"properties": {"in": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(0, 3_000, 90)}

    kind = field_type({"$ref": "#/$defs/d0", "$defs": {**links, **nested, "d3000": {"type": "string"}}})

    assert kind == StructOf((("in", StructOf((("in", JSON),))),))


def test_what_stands_beside_a_reference_counts_only_in_drafts_where_it_does() -> None:
    old: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$ref": "#/definitions/a",
        "type": "string",
    }

    assert field_type({**old, "definitions": {"a": {"type": "integer"}}}) == INT64


def test_references_of_a_document_with_addresses_of_its_own_are_not_guessed() -> None:
    inner: dict[str, Any] = {
        "$id": "http://localhost/inner",
        "properties": {"b": {"$ref": "#/properties/c"}, "c": {"type": "string"}},
    }

    kind = field_type({"properties": {"a": inner, "c": {"type": "integer"}}})

    assert kind == StructOf((("a", StructOf((("b", JSON), ("c", STRING)))), ("c", INT64)))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (INT64, 1.0, 1),
        (INT64, 2**63 - 1, 2**63 - 1),
        (FLOAT64, 3, 3.0),
        (FLOAT64, 2**60, float(2**60)),
        (JSON, {"b": 10**30, "a": [1.5, None]}, '{"a":[1.5,null],"b":' + str(10**30) + "}"),
        (JSON, None, None),
        (StructOf((("a", INT64), ("b", STRING))), {"a": 1, "zz": 2}, {"a": 1, "b": None}),
        (ListOf(FLOAT64), [1, None, 2.5], [1.0, None, 2.5]),
    ],
)
def test_a_value_is_converted_without_loss(kind: FieldType, value: Any, expected: Any) -> None:
    notes: list[str] = []

    converted = converter(kind)(value, notes)

    assert (converted, notes) == (expected, [])
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (INT64, 2**63),
        (INT64, 1e30),
        (INT64, 1.5),
        (INT64, True),
        (FLOAT64, 2**53 + 1),
        (FLOAT64, 10**400),
        (FLOAT64, "1"),
        (STRING, 5),
        (BOOL, 1),
        (ListOf(STRING), "ab"),
        (SHOP, []),
    ],
)
def test_what_does_not_fit_is_null_and_told(kind: FieldType, value: Any) -> None:
    notes: list[str] = []

    converted = converter(StructOf((("total", kind),)))({"total": value}, notes)

    assert converted == {"total": None}
    assert len(notes) == 1
    assert notes[0].startswith("/total: ")
    assert notes[0].endswith("it is in `calls`")
    assert len(notes[0]) < 160


@pytest.mark.parametrize("kind", [JSON, ListOf(JSON), StructOf((("a", ListOf(StructOf((("b", JSON),)))),))])
def test_only_json_text_keeps_a_type_from_being_plain(kind: FieldType) -> None:
    assert not is_plain(kind)
    assert is_plain(StructOf((("a", ListOf(INT64)), ("b", STRING))))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_json_text_read_and_written_again_is_the_same_text(value: Any) -> None:
    kind = StructOf((("a", ListOf(JSON)),))
    written = converter(kind)({"a": [value]}, [])

    assert converter(kind)(restorer(kind)(written), []) == written


@pytest.mark.parametrize(
    ("names", "path"),
    [
        (["a", "b/c"], "/a/b~1c"),
        (["a;\x1b"], "/a\\u003b\\u001b"),
        (["x" * 79], "/" + "x" * 79),
        (["x" * 200], "/" + "x" * 78 + "…"),
        (["x" * 50, "y" * 28], "/" + "x" * 50 + "/" + "y" * 28),
        (["x" * 50, "y" * 29], "/" + "x" * 50 + "/" + "y" * 27 + "…"),
    ],
)
def test_the_path_of_a_member_is_a_pointer_of_at_most_eighty_characters(names: list[str], path: str) -> None:
    joined = ""
    for name in names:
        joined = _joined(joined, name)

    assert joined == path
