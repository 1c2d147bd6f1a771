"""The walk through a JSON Schema: which schemas it meets, in what order, and where."""

from __future__ import annotations

from typing import Any

import pytest

from batchcall.schemas.walk import REST, References, walk, within

DEEP = 5_000


def paths(schema: dict[str, Any], *keywords: str) -> list[str]:
    return ["/".join(place.path) for place in walk(schema, keywords or None)]


def test_every_schema_is_met_in_the_order_of_the_document() -> None:
    schema = {
        "properties": {"b": {"items": {"type": "string"}}, "a/c": {}},
        "anyOf": [{"not": {}}, {}],
        "$defs": {"d": {"if": {}, "then": {}}},
    }

    assert paths(schema) == [
        *("", "properties/b", "properties/b/items", "properties/a/c", "anyOf/0", "anyOf/0/not", "anyOf/1"),
        *("$defs/d", "$defs/d/if", "$defs/d/then"),
    ]


def test_values_names_and_what_has_the_wrong_shape_are_no_schemas() -> None:
    schema = {"enum": [{}], "default": {"items": {}}, "dependencies": {"a": ["b"]}, "items": True, "properties": [{}]}

    assert paths(schema) == [""]


def test_with_keywords_only_what_stands_below_them_is_met_and_in_their_order() -> None:
    schema = {"not": {}, "items": {"not": {}}, "properties": {"a": {}}}

    assert paths(schema, "properties", "items") == ["", "properties/a", "items"]


def test_a_place_knows_the_schema_that_it_stands_in() -> None:
    *_, inner = walk({"properties": {"a": {"items": {}}}})

    assert inner.around is not None
    assert inner.path[len(inner.around.path) :] == ("items",)


def test_a_schema_deeper_than_the_stack_is_walked() -> None:
    schema: dict[str, Any] = {}
    for _ in range(DEEP):
        schema = {"not": schema}

    assert sum(1 for _ in walk(schema)) == DEEP + 1


def test_true_and_false_stand_in_a_schema_too() -> None:
    assert list(within({"items": False, "title": "t", "oneOf": [True]})) == [
        (("items",), False),
        (("oneOf", "0"), True),
    ]


def test_a_schema_applies_its_members_and_what_it_refers_to_but_no_definition() -> None:
    schema = {"$ref": "#/$defs/d", "properties": {"a": {}}, "$defs": {"d": {"type": "object"}}}

    parts = References(schema).parts_of(schema)

    assert [(part.steps, part.member, part.schema) for part in parts] == [
        ((), None, {"type": "object"}),
        (("properties", "a"), "a", {}),
    ]


def test_each_place_of_a_list_and_the_rest_behind_them_have_schemas_of_their_own() -> None:
    schema = {"prefixItems": [{"type": "string"}], "items": {"type": "number"}}

    parts = References(schema).parts_of(schema)

    assert [(part.steps, part.member) for part in parts] == [(("prefixItems", "0"), f"{REST}0"), (("items",), REST)]


@pytest.mark.parametrize(
    ("schema", "ref"),
    [
        ({"$defs": {"d": {"$anchor": "name"}}}, "#name"),
        ({"$defs": {"d": {"$dynamicAnchor": "name"}}}, "#name"),
        ({"$defs": {"d": {"$id": "#name"}}}, "#name"),
        ({"$defs": {"d": {"id": "#name"}}}, "#name"),
        ({"$defs": {"d": {}}}, "#/$defs/d"),
    ],
)
def test_a_reference_leads_to_a_place_or_to_a_name(schema: dict[str, Any], ref: str) -> None:
    references = References(schema)

    assert references.target(schema, ref) is schema["$defs"]["d"]
    assert references.target(schema, ref + "x") is None
    assert references.target(schema, None) is None
    assert references.target(schema, "#") is schema


def test_a_name_and_a_path_are_of_the_nearest_schema_with_an_address() -> None:
    inner = {"$anchor": "name", "$defs": {"here": {}}}
    schema = {"$anchor": "name", "$defs": {"own": {"$id": "https://a.example/b", "allOf": [inner], "$defs": {"x": {}}}}}
    references, own = References(schema), schema["$defs"]["own"]

    assert references.target(schema, "#name") is schema
    assert references.target(inner, "#name") is inner
    assert references.target(inner, "#/$defs/x") is own["$defs"]["x"]
    assert references.target(schema, "#/$defs/x") is None


def test_of_two_schemas_of_one_name_the_last_is_meant_and_none_of_a_value() -> None:
    schema = {"allOf": [{"$anchor": "a"}, {"$anchor": "a"}], "const": {"$anchor": "b"}}
    references = References(schema)

    assert references.target(schema, "#a") in schema["allOf"]
    assert references.target(schema, "#b") is None
