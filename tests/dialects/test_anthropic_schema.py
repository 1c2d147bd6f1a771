"""Schemas that Anthropic refuses: each is a fault of the job, named by its path."""

from __future__ import annotations

from typing import Any

import pytest

from asking_claude import CLAUDE, TOOL
from batchcall.base.records import Shape, Tool


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "array"}, "tool.g.parameters.type"),
        ({"anyOf": [{"type": "object"}]}, "tool.g.parameters.anyOf"),
        ({"type": "object", "allOf": [{}]}, "tool.g.parameters.allOf"),
        ({"type": "object", "properties": {"city": {}, "Straße": {}}}, "tool.g.parameters.properties.Straße"),
        ({"properties": {"filter[id]": {}}}, "tool.g.parameters.properties.filter[id]"),
        ({"properties": {"a" * 65: {}}}, "tool.g.parameters.properties." + "a" * 65),
    ],
)
def test_a_schema_that_anthropic_refuses_is_a_fault(schema: dict[str, Any], path: str) -> None:
    tool = Tool("g", schema, {"type": "function", "function": {"name": "g", "parameters": schema}})

    (found,) = CLAUDE.faults(Shape("m", (TOOL, tool)))

    assert found.startswith(f"{path}: Anthropic accepts ")


OLDER: list[tuple[dict[str, Any], str]] = [
    ({"items": [{"type": "number"}, {"type": "number"}]}, "items"),
    ({"minimum": 0, "exclusiveMinimum": True}, "exclusiveMinimum"),
    ({"maximum": 9, "exclusiveMaximum": False}, "exclusiveMaximum"),
    ({"type": "string", "required": True}, "required"),
    ({"type": "dict"}, "type"),
    ({"type": ["float", "null"]}, "type"),
]


@pytest.mark.parametrize(("schema", "path"), OLDER)
def test_words_of_older_drafts_are_faults_wherever_they_stand(schema: dict[str, Any], path: str) -> None:
    places: dict[str, Any] = {
        "properties.p": {"properties": {"p": schema}},
        "properties.p.items": {"properties": {"p": {"type": "array", "items": schema}}},
        "properties.p.anyOf.1": {"properties": {"p": {"anyOf": [{"type": "null"}, schema]}}},
        "$defs.D": {"properties": {"p": {"$ref": "#/$defs/D"}}, "$defs": {"D": schema}},
    }
    for place, parameters in places.items():
        (found,) = CLAUDE.faults(Shape("m", (Tool("g", parameters, {"name": "g", "parameters": parameters}),)))

        assert found.startswith(f"tool.g.parameters.{place}.{path}: ")


def test_what_stands_in_values_is_not_a_schema() -> None:
    values: list[Any] = [{"type": "dict"}, {"items": [1]}]
    inner = {"type": "object", "default": values[0], "enum": values, "examples": values, "const": values[1]}
    schema: Any = {"type": "dict", "properties": {"type": inner, "items": inner, "required": inner}}

    assert CLAUDE.faults(Shape("m", (Tool("g", schema, {"name": "g", "parameters": schema}),))) == []


def test_names_of_properties_further_down_are_as_free_as_anthropic_leaves_them() -> None:
    schema: Any = {"properties": {"a.b-C_1": {"type": "object", "properties": {"名": {}, "first name": {}}}}}

    assert CLAUDE.faults(Shape("m", (Tool("g", schema, {"name": "g", "parameters": schema}),))) == []
