"""Tool schemas: mended as found in the wild with every rewrite told, limited, local, and compiled in linear time."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings

from batchcall.base.records import Tool
from batchcall.schemas.field_types import Scalar, StructOf, field_type
from batchcall.schemas.schema import CompiledSchema, compile_schema, compile_tool
from batchcall.schemas.walk import SchemaError
from schema_making import ODD_SCHEMAS

DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def object_with(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def tool_with(parameters: Any) -> Tool:
    return Tool("record", parameters, {})


@pytest.mark.parametrize(
    ("written", "good", "bad"),
    [
        ("dict", {}, []),
        ("HashMap", {}, "x"),
        ("float", 1.5, "1.5"),
        ("double", 1, None),
        ("int", 3, 3.5),
        ("long", 3, "3"),
        ("str", "x", 1),
        ("String", "x", None),
        ("list", [], {}),
        ("tuple", [1, "x"], "x"),
        ("ArrayList", [], "x"),
        ("bool", True, 1),
    ],
)
def test_types_of_other_languages_are_read_as_what_they_mean(written: str, good: Any, bad: Any) -> None:
    schema = compile_schema(object_with(field={"type": written}))

    assert schema.is_valid({"field": good})
    assert not schema.is_valid({"field": bad})
    assert [rewrite.split(":")[0] for rewrite in schema.rewrites] == ["/properties/field/type"]
    assert isinstance(schema.document["properties"]["field"]["type"], str)


@pytest.mark.parametrize("written", ["any", "Any", ["string", "any"]])
def test_any_type_is_no_type_at_all(written: Any) -> None:
    schema = compile_schema(object_with(field={"type": written}))

    assert schema.is_valid({"field": "x"})
    assert schema.is_valid({"field": [None]})
    assert "any type" in schema.rewrites[0]


def test_required_inside_a_property_moves_to_the_object() -> None:
    schema = compile_schema(
        {
            "type": "object",
            "properties": {"a": {"type": "string", "required": True}, "b": {"required": False}, "c": {}},
            "required": ["c"],
        }
    )

    assert schema.document["required"] == ["c", "a"]
    assert not schema.is_valid({"c": 1})
    assert schema.is_valid({"c": 1, "a": "x"})
    assert len(schema.rewrites) == 2


def test_a_required_property_is_not_looked_for_in_the_whole_list_of_names() -> None:
    class Names(list[Any]):
        def __contains__(self, name: object) -> bool:
            raise AssertionError("thousands of names, each looked for among thousands, take the square of that")

    properties = {name: {"required": True} for name in "abc"}

    assert compile_schema({"properties": properties, "required": Names("b")}).document["required"] == ["b", "a", "c"]


@pytest.mark.parametrize(
    "nullable",
    [
        {"type": "string", "nullable": True},
        {"enum": ["x"], "nullable": True},
        {"type": "string", "enum": ["x"], "nullable": True},
        {"type": "string", "const": "x", "nullable": True},
        {"$ref": "#/$defs/text", "nullable": True},
        {"anyOf": [{"const": "x"}, {"const": "y"}], "nullable": True},
    ],
)
def test_nullable_becomes_a_union_with_null(nullable: dict[str, Any]) -> None:
    schema = compile_schema(object_with(field=nullable) | {"$defs": {"text": {"type": "string"}}})

    assert schema.is_valid({"field": None})
    assert schema.is_valid({"field": "x"})
    assert not schema.is_valid({"field": 5})
    assert schema.rewrites == ("/properties/field/nullable: read as a union with null",)


def test_nullable_false_changes_nothing() -> None:
    schema = compile_schema(object_with(field={"type": "string", "nullable": False}))

    assert not schema.is_valid({"field": None})


def test_a_tuple_in_the_old_form_is_read_as_one_where_no_draft_is_named() -> None:
    old = {"type": "array", "items": [{"type": "string"}, {"type": "integer"}], "additionalItems": False}

    schema = compile_schema(object_with(pair=old))

    assert schema.is_valid({"pair": ["x", 1]})
    assert not schema.is_valid({"pair": [1, "x"]})
    assert not schema.is_valid({"pair": ["x", 1, 2]})
    assert len(schema.rewrites) == 2


def test_a_tuple_in_the_old_form_stands_as_it_is_in_the_draft_that_has_it() -> None:
    old = {"type": "array", "items": [{"type": "string"}]}

    schema = compile_schema({"$schema": DRAFT_7, **object_with(pair=old)})

    assert not schema.is_valid({"pair": [1]})
    assert schema.rewrites == ()


def test_boolean_bounds_of_openapi_keep_their_meaning() -> None:
    schema = compile_schema(object_with(field={"type": "number", "minimum": 0, "exclusiveMinimum": True}))

    assert not schema.is_valid({"field": 0})
    assert schema.is_valid({"field": 0.1})


def test_null_keywords_of_a_dumped_model_are_left_out() -> None:
    schema = compile_schema(
        object_with(field={"type": "string", "description": None, "enum": ["x", None], "default": None})
    )

    assert schema.is_valid({"field": "x"})
    assert schema.rewrites == ("/properties/field/description: null left out",)


def test_what_looks_like_a_keyword_but_is_a_name_or_a_value_is_not_touched() -> None:
    written = object_with(
        type={"type": "string"},
        nullable={"type": "boolean"},
        required={"type": "boolean"},
        field={"enum": [{"type": "dict", "nullable": True, "$ref": "http://localhost/x"}]},
    )

    schema = compile_schema(written)

    assert schema.document == written
    assert schema.rewrites == ()


@pytest.mark.parametrize("place", ["components/schemas", "$defs/v1", "x-models", "anyOf/0/shared/0"])
def test_what_a_reference_leads_to_is_mended_wherever_it_stands(place: str) -> None:
    pet = {"type": "object", "properties": {"name": {"type": "str", "nullable": True}}, "required": ["name"]}
    document: Any = {"Pet/Dog": pet}
    for step in reversed(place.split("/")):
        document = [document] if step.isdecimal() else {step: document}
    document |= {"type": "object", "properties": {"pet": {"$ref": f"#/{place}/Pet~1Dog"}}}

    schema = compile_schema(document)

    assert schema.is_valid({"pet": {"name": None}})
    assert not schema.is_valid({"pet": {"name": 5}})
    assert schema.rewrites[-1] == f"/{place}/Pet~1Dog/properties/name/nullable: read as a union with null"


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("收据", "收据"),
        ("Größe", "Größe"),
        ("Partial<Order>", "Partial<Order>"),
        ("Page[int]", "Page[int]"),
        ("Page%5Bint%5D", "Page[int]"),
        ("A | B", "A | B"),
        ("50%", "50%"),
        ("a~1b^c", "a/b^c"),
    ],
)
def test_a_reference_is_followed_as_generators_write_it(ref: str, name: str) -> None:
    written = {"properties": {"n": {"$ref": f"#/$defs/{ref}"}}, "$defs": {name: {"type": "integer"}}}

    schema = compile_schema(written)

    assert schema.is_valid({"n": 1})
    assert not schema.is_valid({"n": "one"})
    assert "integer" in schema.explain({"n": "one"})
    assert field_type(schema.document) == StructOf((("n", Scalar.INT64),))


def test_the_schema_of_the_user_is_never_changed() -> None:
    inner = {"type": "dict", "nullable": True, "required": True}
    written = object_with(field=inner)

    compile_schema(written)

    assert inner == {"type": "dict", "nullable": True, "required": True}


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        (["not an object"], ""),
        (object_with(a={"type": "nonsense"}), "/properties/a/type"),
        (object_with(a={"minLength": -1}), "/properties/a/minLength"),
        (object_with(a={"pattern": "["}), "/properties/a/pattern"),
        (object_with(a={"$ref": "http://localhost:1/x.json"}), "/properties/a/$ref"),
        (object_with(a={"$ref": "file:///etc/passwd"}), "/properties/a/$ref"),
        (object_with(a={"$ref": "other.json#/x"}), "/properties/a/$ref"),
        (object_with(a={"$ref": "#/$defs/missing"}), ""),
        ({"$schema": "http://localhost:1/own", "type": "object"}, ""),
        ({"properties": []}, "/properties"),
        (object_with(a={"default": object()}), "/properties/a/default"),
        (object_with(a={"enum": ["\ud83d"]}), ""),
        ({"enum": ["x" * 1_000_001]}, ""),
        ({"enum": list(range(20_001))}, ""),
        ({"type": ["STRING", {}]}, "/type"),
        ({"type": ["STRING", ["INT"]]}, "/type"),
        ({"minimum": -(10**5_000)}, ""),
        ({"allOf": [{"$ref": f"#/allOf/{'9' * 5_000}"}]}, ""),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_its_place(schema: Any, path: str) -> None:
    with pytest.raises(SchemaError) as refused:
        compile_schema(schema)

    assert refused.value.path == path
    assert refused.value.what in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("pattern", [r"\p{L}" * 301, "a{1000}" * 301])
def test_patterns_that_are_too_large_are_refused_with_how_they_were_counted(pattern: str) -> None:
    with pytest.raises(SchemaError) as refused:
        compile_schema({"pattern": pattern})

    assert refused.value.what == (
        "its patterns are too large: more than 300,000 characters, counting a character as often as it is repeated, "
        r"\p{…} as 1,000"
    )


@settings(max_examples=300)
@given(ODD_SCHEMAS)
def test_whatever_stands_in_a_schema_it_can_be_used_or_is_refused(schema: Any) -> None:
    with contextlib.suppress(SchemaError):
        compile_tool(tool_with(schema))


def test_a_schema_nested_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(101):
        schema = {"not": schema}

    with pytest.raises(SchemaError, match="deeper than 100"):
        compile_schema(schema)


def test_definitions_that_unfold_without_end_are_refused() -> None:
    definitions = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
    bomb: dict[str, Any] = {"$ref": "#/$defs/d0", "$defs": {**definitions, "d40": {"type": "object"}}}

    with pytest.raises(SchemaError, match="checks"):
        compile_schema(bomb)
    assert compile_schema({"$defs": bomb["$defs"]}).is_valid({})  # of definitions that nothing refers to


@pytest.mark.parametrize("is_told_last_first", [False, True])
def test_references_that_lead_on_and_on_are_refused(is_told_last_first: bool) -> None:
    links = [(f"d{i}", {"$ref": f"#/$defs/d{i + 1}"}) for i in range(400)]  # Python would run out of its stack
    chain = {**dict(reversed(links) if is_told_last_first else links), "d400": {"type": "string"}}

    with pytest.raises(SchemaError, match="a chain of more than"):
        compile_schema({**object_with(field={"$ref": "#/$defs/d0"}), "$defs": chain})


def test_recursion_is_no_bomb() -> None:
    schema = compile_schema(object_with(children={"type": "array", "items": {"$ref": "#"}}))

    assert schema.is_valid({"children": [{"children": []}]})
    assert not schema.is_valid({"children": [{"children": "x"}]})


def test_a_pattern_takes_linear_time() -> None:
    schema = compile_schema(object_with(field={"pattern": "^(a+)+$"}))

    assert not schema.is_valid({"field": "a" * 50_000 + "b"})  # forever where the engine goes back and forth


@pytest.mark.parametrize("draft", [{}, {"$schema": DRAFT_7}])
def test_formats_are_checked_in_every_draft(draft: dict[str, str]) -> None:
    schema = compile_schema(draft | object_with(day={"type": "string", "format": "date"}))

    assert schema.is_valid({"day": "2024-02-29"})
    assert not schema.is_valid({"day": "yesterday"})


def test_formats_that_nobody_knows_accept_everything() -> None:
    schema = compile_schema(object_with(count={"type": "integer", "format": "int32"}))

    assert schema.is_valid({"count": 2**40})


def test_a_tool_whose_arguments_are_no_object_is_refused_by_name() -> None:
    with pytest.raises(SchemaError, match="'record', /type: arguments must be an object"):
        compile_tool(tool_with({"type": "array"}))


def test_a_tool_without_parameters_takes_any_object() -> None:
    tool = compile_tool(tool_with({}))

    assert tool.schema.is_valid({"x": 1})


@pytest.fixture
def receipt() -> CompiledSchema:
    price = {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}
    return compile_schema(
        object_with(items={"type": "array", "items": price}, **{"a/b": {"type": "string"}}) | {"required": ["items"]}
    )


def test_an_error_names_the_place_by_a_json_pointer(receipt: CompiledSchema) -> None:
    told = receipt.explain({"items": [{"price": "x"}, {}], "a/b": 5})

    assert set(told.split("; ")) == {
        '/a~1b: 5 is not of type "string"',
        '/items/0/price: "x" is not of type "number"',
        '/items/1: "price" is a required property',
    }


def test_long_values_are_cut_in_errors(receipt: CompiledSchema) -> None:
    told = receipt.explain({"items": [{"price": "x" * 5_000}]})

    assert told.endswith('… is not of type "number"')
    assert len(told) < 150


def test_at_most_three_errors_are_told(receipt: CompiledSchema) -> None:
    told = receipt.explain({"items": [{}, {}, {}, {}, {}]})

    assert told.count("required property") == 3
    assert told.endswith("; …")


def test_an_answer_that_is_wrong_a_million_times_is_explained_by_the_first_places() -> None:
    texts = {"type": "array", "items": {"type": "string"}}
    schema = compile_schema(object_with(a=texts, b={"anyOf": [texts, {"type": "null"}]}))

    told = schema.explain({"a": [1] * 1_000_000})
    told_of_union = schema.explain({"b": [1] * 1_000_000})

    assert told == "; ".join(f'/a/{place}: 1 is not of type "string"' for place in range(3)) + "; …"
    assert told_of_union == '/b/0: 1 is not of type "string"'


def test_of_a_union_the_alternative_that_got_furthest_is_told() -> None:
    schema = compile_schema(object_with(shop={"anyOf": [object_with(name={"type": "string"}), {"type": "null"}]}))

    assert schema.explain({"shop": {"name": 5}}) == '/shop/name: 5 is not of type "string"'
    assert schema.explain({"shop": 5}) == '/shop: 5 is not of type "object" and 5 is not of type "null"'
