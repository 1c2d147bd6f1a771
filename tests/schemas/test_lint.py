"""Slips in tool schemas: what can never be valid is found, what can is left alone, words are doubted as such only."""

from __future__ import annotations

from typing import Any

import pytest

from batchcall.base.records import Tool
from batchcall.schemas.lint import MAX_SHOWN, Findings, lint_tools
from batchcall.schemas.schema import compile_schema

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
TEXT = {"type": "string"}


def findings(parameters: dict[str, Any]) -> Findings:
    return lint_tools([Tool("record", parameters, {})])


def needing(schema: Any, **more: Any) -> dict[str, Any]:
    """Arguments of which one must satisfy the schema."""
    return {"type": "object", "properties": {"a": schema}, "required": ["a"], **more}


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (
            needing(TEXT, required=["a", "seveRity"], additionalProperties=False),
            '/required: "seveRity": no such property, and additionalProperties is false: no value is valid',
        ),
        (
            needing(TEXT, required=["a", "x1", "x2", "x3"], additionalProperties=False),
            '/required: "x1", "x2", "x3": no such property, and additionalProperties is false: no value is valid',
        ),
        (
            needing(TEXT, required=["a", "x1", "x2", "x3", "x4"], additionalProperties=False),
            '/required: "x1", "x2", "x3", …: no such property, and additionalProperties is false: no value is valid',
        ),
        (needing({"enum": []}), "/properties/a/enum: is empty: no value is valid"),
        (needing(False), "/properties/a: no value is valid"),
        (needing({"not": {}}), "/properties/a: no value is valid"),
        (needing({"allOf": [TEXT, False]}), "/properties/a/allOf/1: no value is valid"),
        ({"$defs": {"never": False}, **needing({"$ref": "#/$defs/never"})}, "/$defs/never: no value is valid"),
        (
            needing({"type": "string", "enum": [1, None]}),
            '/properties/a/enum: none of its values is of the type "string": no value is valid',
        ),
        (
            needing({"type": ["integer", "null"], "const": 1.5}),
            '/properties/a/const: none of its values is of the type ["integer","null"]: no value is valid',
        ),
        (
            needing({"type": "integer", "minimum": 5, "maximum": 1}),
            "/properties/a/minimum: 5 is above maximum, 1: no value is valid",
        ),
        (
            needing({"type": "number", "exclusiveMinimum": 5, "maximum": 5}),
            "/properties/a/exclusiveMinimum: 5 is not below maximum, 5: no value is valid",
        ),
        (
            needing({"type": "string", "minLength": 2, "maxLength": 1}),
            "/properties/a/minLength: 2 is above maxLength, 1: no value is valid",
        ),
        (
            needing({"type": "array", "minItems": 2, "maxItems": 1}),
            "/properties/a/minItems: 2 is above maxItems, 1: no value is valid",
        ),
        ({"minProperties": 2, "maxProperties": 1}, "/minProperties: 2 is above maxProperties, 1: no value is valid"),
        (
            needing(needing({"enum": []})),
            "/properties/a/properties/a/enum: is empty: no value is valid",
        ),
        (
            needing({"$ref": "#/$defs/b"}, **{"$defs": {"b": {"enum": []}}}),
            "/$defs/b/enum: is empty: no value is valid",
        ),
        ({"allOf": [needing({"enum": []})]}, "/allOf/0/properties/a/enum: is empty: no value is valid"),
    ],
)
def test_what_no_arguments_can_satisfy_is_a_fault_with_its_path(written: dict[str, Any], told: str) -> None:
    found = findings(written)

    assert found.faults == (f"record: {told}",)
    assert found.doubts == ()


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ({"properties": {"a": {"enum": []}}}, {}),
        (needing({"anyOf": [{"enum": []}, TEXT]}), {"a": "x"}),
        (needing({"items": {"enum": []}}), {"a": []}),
        (needing({"minLength": 2, "maxLength": 1}), {"a": 1}),
        (needing({"type": ["string", "null"], "minLength": 2, "maxLength": 1}), {"a": None}),
        (needing({"type": "string", "minLength": 2, "maxLength": 1, "nullable": True}), {"a": None}),
        (needing(needing(TEXT, required=["b"], additionalProperties=False, type=["object", "null"])), {"a": None}),
        (
            {
                "$schema": DRAFT_7,
                "definitions": {"b": {}},
                **needing({"$ref": "#/definitions/b", "enum": []}),
            },
            {"a": 1},
        ),
    ],
)
def test_what_some_arguments_avoid_is_a_slip_and_no_fault(written: dict[str, Any], arguments: Any) -> None:
    found = findings(written)

    assert compile_schema(written).is_valid(arguments)
    assert found.faults == ()
    assert len(found.doubts) == 1


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        (needing({"type": "integer", "enum": [1.0]}), {"a": 1}),
        (needing({"type": "number", "const": 1}), {"a": 1}),
        (needing({"type": "int", "enum": [1]}), {"a": 1}),
        (needing({"type": "integer", "minimum": 5, "maximum": 5}), {"a": 5}),
        (needing({"type": "integer", "minimum": 5, "maximum": 6, "exclusiveMinimum": True}), {"a": 6}),
        (needing({"type": "string", "minimum": 5, "maximum": 1}), {"a": "x"}),
        (needing(TEXT, required=["a", "x-b"], patternProperties={"^x-": {}}, additionalProperties=False), None),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": {}, "b": {}}}, {"b": 1}),
        ({"properties": {"a1": TEXT}, "allOf": [{"properties": {"a2": {}}, "required": ["a1"]}]}, {"a1": "x"}),
        ({"not": {"required": ["b"]}}, {}),
        ({"properties": {"a": False, "b": {"not": {}}}}, {"c": 1}),
        (needing({"anyOf": [False, TEXT]}), {"a": "x"}),
    ],
)
def test_what_only_looks_contradictory_is_left_alone(written: dict[str, Any], arguments: Any) -> None:
    assert compile_schema(written).is_valid(arguments or {"a": "x", "x-b": 1})
    assert findings(written) == ((), ())


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"propertes": {}}, "/propertes: not a keyword of JSON Schema; did you mean properties?"),
        ({"requierd": []}, "/requierd: not a keyword of JSON Schema; did you mean required?"),
        (
            {"aditionalProperties": False},
            "/aditionalProperties: not a keyword of JSON Schema; did you mean additionalProperties?",
        ),
        ({"one_of": []}, "/one_of: not a keyword of JSON Schema; did you mean oneOf?"),
        (needing({"enmu": ["x"]}), "/properties/a/enmu: not a keyword of JSON Schema; did you mean enum?"),
        (
            {"$defs": {"a/b": {"items": {"Type": "string"}}}},
            "/$defs/a~1b/items/Type: not a keyword of JSON Schema; did you mean type?",
        ),
        (
            needing({"type": "string", "format": "dat"}),
            '/properties/a/format: "dat": not a known format; did you mean date?',
        ),
        (
            needing({"type": "string", "format": "datetime"}),
            '/properties/a/format: "datetime": not a known format; did you mean date-time?',
        ),
        (
            {"properties": {"severity": TEXT}, "required": ["serverity"]},
            '/required: "serverity": no such property; did you mean severity?',
        ),
    ],
)
def test_what_is_near_to_a_word_of_json_schema_is_a_slip_with_what_was_meant(
    written: dict[str, Any], told: str
) -> None:
    assert findings(written) == ((), (f"record: {told}",))


def test_a_property_that_can_only_be_misspelt_is_named_with_what_was_meant() -> None:
    found = findings(needing(TEXT, properties={"severity": TEXT}, required=["serverity"], additionalProperties=False))

    assert found.faults[0].endswith("did you mean severity?")


def test_names_of_properties_and_values_are_no_keywords() -> None:
    odd = {"propertes": {}, "typ": {}, "enmu": {}, "requierd": {}}
    schema = {
        "properties": {**odd, "properties": {"type": "object"}},
        "patternProperties": {"patern": {}},
        "$defs": {"item": {}},
        "dependentSchemas": {"typ": {}},
        "dependencies": {"enmu": ["typ"]},
        "default": odd,
        "examples": [odd],
        "example": odd,
        "enum": [odd],
        "const": odd,
    }

    assert findings(schema) == ((), ())


def test_words_of_other_drafts_and_of_vendors_are_left_alone() -> None:
    words = (
        *("$comment", "$id", "$schema", "id", "title", "default", "deprecated", "readOnly", "writeOnly", "contentType"),
        *("nullable", "example", "discriminator", "xml", "externalDocs", "divisibleBy", "extends", "disallow"),
        *("propertyOrdering", "enumNames", "enumDescriptions", "markdownDescription", "errorMessage", "description_de"),
        *("requiredIf", "typeName", "x-enums", "x_display", "note", "notes", "comment", "label", "unit", "options"),
        *("optional", "hidden", "order", "group", "widget", "min", "max", "ui", "meta", "value", "values", "name"),
    )
    formats = (
        *("int32", "int64", "float", "double", "byte", "binary", "password", "uuid4", "url", "enum", "time-local"),
        *("file-path", "json-string", "color", "phone", "ipvanyaddress", "google-datetime", "currency", "host-name"),
    )

    assert findings(dict.fromkeys(words)) == ((), ())
    assert findings({"properties": {name: {"format": name} for name in formats}}) == ((), ())


def test_of_many_doubts_the_first_are_shown() -> None:
    found = findings({"properties": {f"p{number}": {"typ": "string"} for number in range(50)}})

    assert len(found.doubts) == MAX_SHOWN + 1
    assert found.doubts[-1] == "record: … and 40 more"


@pytest.mark.parametrize("depth", [1, 900])
def test_whatever_stands_in_a_schema_is_looked_at_without_a_traceback(depth: int) -> None:
    deep: Any = {
        "enum": "no",
        "required": "no",
        "properties": [],
        "allOf": {"a": 5},
        "$ref": 5,
        "type": [5],
        "items": 1,
    }
    for _ in range(depth):
        deep = {"properties": {"a": deep}, "required": ["a", 5], "allOf": [True, None]}

    assert findings(deep) == ((), ())
