"""The walk through a schema: each word by itself, what counts as evaluated, and what faults are called."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchcall.schemas.field_types import shortened
from batchcall.schemas.judge import Fault, Judge, _excerpt, _shown, cut_message, sentences
from batchcall.schemas.schema import compile_schema
from batchcall.schemas.work import Effort

A, B = {"a": 1}, {"a": 1, "b": 2}
NUMBER = {"type": "number"}
A_IS_NUMBER = {"properties": {"a": NUMBER}}
ONLY = {"unevaluatedProperties": False}
NO_MORE = {"unevaluatedItems": False}
B_UNEXPECTED = "Unevaluated properties are not allowed ('b' was unexpected)"


def faults_of(schema: dict[str, Any], value: Any) -> list[str]:
    compiled = compile_schema(schema)
    walked = Judge(compiled.rules, Effort(), explains=True).verdict(value).faults
    assert (not walked) is compiled.is_valid(value)
    return ["/".join(["", *map(str, fault.path)]) + " " + fault.message for fault in walked]


@pytest.mark.parametrize(
    ("schema", "valid", "invalid", "faults"),
    [
        ({**A_IS_NUMBER, **ONLY}, A, B, [B_UNEXPECTED]),
        ({"patternProperties": {"^a": NUMBER}, **ONLY}, A, B, [B_UNEXPECTED]),
        ({"allOf": [A_IS_NUMBER], **ONLY}, A, B, [B_UNEXPECTED]),
        ({"anyOf": [{"required": ["a"]}, A_IS_NUMBER], **ONLY}, A, B, [B_UNEXPECTED]),  # all branches count
        ({"oneOf": [A_IS_NUMBER, False], **ONLY}, A, B, [B_UNEXPECTED]),
        ({"if": A_IS_NUMBER, **ONLY}, A, B, [B_UNEXPECTED]),
        ({"if": {"required": ["a"]}, "then": A_IS_NUMBER, **ONLY}, A, B, [B_UNEXPECTED]),
        ({"if": {"required": ["z"]}, "else": A_IS_NUMBER, **ONLY}, A, B, [B_UNEXPECTED]),
        ({"dependentSchemas": {"a": A_IS_NUMBER}, **ONLY}, A, B, [B_UNEXPECTED]),
        ({"$ref": "#/$defs/d", "$defs": {"d": A_IS_NUMBER}, **ONLY}, A, B, [B_UNEXPECTED]),
        ({**A_IS_NUMBER, "unevaluatedProperties": NUMBER}, B, {"b": "x"}, [B_UNEXPECTED]),
        ({"prefixItems": [NUMBER], **NO_MORE}, [1], [1, 2], ["Unevaluated items are not allowed (1 item)"]),
        ({"prefixItems": [NUMBER], **NO_MORE}, [], [1, 2, 3], ["Unevaluated items are not allowed (2 items)"]),
        (
            {"allOf": [{"prefixItems": [NUMBER]}], **NO_MORE},
            [1],
            [1, 2],
            ["Unevaluated items are not allowed (1 item)"],
        ),
        ({"contains": NUMBER, **NO_MORE}, [1, 2], [1, "x"], ["Unevaluated items are not allowed (1 item)"]),
        ({"unevaluatedItems": NUMBER}, [1], [1, "x"], ["Unevaluated items are not allowed (1 item)"]),
    ],
)
def test_members_are_unexpected_unless_another_word_has_looked_at_them(
    schema: dict[str, Any], valid: Any, invalid: Any, faults: list[str]
) -> None:
    assert faults_of(schema, valid) == []
    assert [fault.lstrip() for fault in faults_of(schema, invalid)] == faults


def test_what_a_failing_branch_has_looked_at_does_not_count() -> None:
    schema = {"anyOf": [{**A_IS_NUMBER, "required": ["z"]}, {"properties": {"b": {}}}], **ONLY}

    assert faults_of(schema, {"b": 1}) == []
    assert faults_of(schema, A) == [" Unevaluated properties are not allowed ('a' was unexpected)"]


@pytest.mark.parametrize(
    ("schema", "valid", "invalid", "path"),
    [
        (A_IS_NUMBER, A, {"a": "x"}, "/a"),
        ({"patternProperties": {"^a": NUMBER}}, {"b": "x"}, {"ab": "x"}, "/ab"),
        ({**A_IS_NUMBER, "additionalProperties": NUMBER}, B, {"a": 1, "b": "x"}, "/b"),
        ({"propertyNames": {"maxLength": 1}}, A, {"long": 1}, ""),
        ({"items": NUMBER}, [1, 2], [1, "x"], "/1"),
        ({"prefixItems": [NUMBER], "items": {"type": "string"}}, [1, "x"], [1, 2], "/1"),
        (NUMBER, 1, "x", ""),
        ({"enum": [1, {"a": 2}]}, {"a": 2}, {"a": 3}, ""),
        ({"const": [1]}, [1], [2], ""),
        ({"uniqueItems": True}, [1, True, "1"], [1, 1.0], ""),
        ({"uniqueItems": True}, [{"a": 1}, {"a": [1]}], [{"a": [1]}, {"a": [1.0]}], ""),
        ({"additionalProperties": False, "properties": {"a": False}}, {}, {"b": 1}, ""),
        ({"required": ["a"]}, A, {}, ""),
        ({"contains": NUMBER}, ["x", 1], ["x"], ""),
        ({"contains": NUMBER, "minContains": 2}, [1, 2], [1, "x"], ""),
        ({"contains": NUMBER, "minContains": 0}, [], None, ""),
        ({"contains": NUMBER, "maxContains": 1}, [1, "x"], [1, 2], ""),
        ({"allOf": [NUMBER, {"minimum": 3}]}, 3, 2, ""),
        ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, 3, 2, ""),
        ({"oneOf": [NUMBER, {"minimum": 3}]}, 2, 3, ""),
        ({"not": NUMBER}, "x", 1, ""),
        ({"if": NUMBER, "then": {"minimum": 3}, "else": {"maxLength": 1}}, 3, "xx", ""),
        ({"if": NUMBER, "then": {"minimum": 3}, "else": {"maxLength": 1}}, "x", 2, ""),
        ({"dependentSchemas": {"a": {"required": ["b"]}}}, B, A, ""),
        ({"dependentRequired": {"a": ["b"]}}, B, A, ""),
        ({"dependencies": {"a": ["b"]}}, B, A, ""),
        ({"dependencies": {"a": {"required": ["b"]}}}, B, A, ""),
        ({"$ref": "#/$defs/d", "$defs": {"d": NUMBER}}, 1, "x", ""),
    ],
)
def test_each_word_judges_and_its_fault_has_the_place_of_the_value(
    schema: dict[str, Any], valid: Any, invalid: Any, path: str
) -> None:
    assert faults_of(schema, valid) == []
    if invalid is not None:
        assert [fault.partition(" ")[0] for fault in faults_of(schema, invalid)] == [path]


def test_of_a_value_with_a_million_parts_few_are_looked_at_to_show_it() -> None:
    assert len(_excerpt([1] * 1_000_000, [80])) <= 80
    assert len(_excerpt([{"a": [1]}] * 1_000, [80])) <= 80 // 3 + 1
    assert len(_excerpt({str(number): number for number in range(1_000)}, [80])) <= 80


@given(
    st.recursive(
        st.integers(-9, 9) | st.booleans() | st.text(max_size=200),
        lambda one: st.lists(one) | st.dictionaries(st.text(max_size=90), one),
    )
)
@example([1] * 100)
@example([[]] * 100)
@example({str(number): [] for number in range(100)})
def test_what_is_shown_of_a_value_is_the_beginning_of_its_text(value: Any) -> None:
    assert _shown(value) == shortened(value, 80)


def test_of_many_faults_one_more_is_looked_for_than_is_reported() -> None:
    rules = compile_schema({"items": {"type": "string"}}).rules

    faults = Judge(rules, Effort(), explains=True).verdict(list(range(9))).faults

    assert [fault.path for fault in faults] == [(0,), (1,), (2,), (3,)]


def test_a_message_has_one_line_of_240_characters() -> None:
    assert cut_message("x" * 240) == "x" * 240
    assert cut_message("x" * 241) == "x" * 239 + "…"
    assert cut_message("first\nsecond") == "first"


def test_faults_are_listed_once_each_with_their_places() -> None:
    faults = [Fault(("a", 0), "no"), Fault(("a", 0), "no"), Fault((), "never"), Fault(("b",), "no")]

    assert sentences(faults, 3) == "/a/0: no; never; /b: no"
    assert sentences(faults, 2) == "/a/0: no; never; …"


DRAFTS = {
    "4": "http://json-schema.org/draft-04/schema#",
    "6": "http://json-schema.org/draft-06/schema#",
    "7": "http://json-schema.org/draft-07/schema#",
    "2019": "https://json-schema.org/draft/2019-09/schema",
    "2020": "https://json-schema.org/draft/2020-12/schema",
}


@pytest.mark.parametrize(
    ("schema", "value", "invalid_in"),
    [
        ({"minContains": 2, "contains": NUMBER}, [1], "2019 2020"),
        ({"maxContains": 1, "contains": NUMBER}, [1, 2], "2019 2020"),
        ({"contains": NUMBER}, ["x"], "6 7 2019 2020"),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "6 7 2019 2020"),
        ({"const": 1}, 2, "6 7 2019 2020"),
        ({"if": NUMBER, "then": False}, 1, "7 2019 2020"),
        ({"dependentSchemas": {"a": {"required": ["b"]}}}, A, "2019 2020"),
        ({"dependentRequired": {"a": ["b"]}}, A, "2019 2020"),
        ({"prefixItems": [NUMBER]}, ["x"], "2020"),
        ({"items": [NUMBER]}, ["x"], "4 6 7 2019"),
        ({"items": [NUMBER], "additionalItems": NUMBER}, [1, "x"], "4 6 7 2019"),
        ({"additionalItems": NUMBER}, ["x"], ""),
        ({"unevaluatedProperties": False}, A, "2019 2020"),
        ({"unevaluatedItems": False}, [1], "2019 2020"),
        ({"$ref": "#/definitions/d", "type": "string", "definitions": {"d": {"minimum": 0}}}, 1, "2019 2020"),
    ],
)
def test_a_word_counts_in_the_drafts_that_have_it(schema: dict[str, Any], value: Any, invalid_in: str) -> None:
    refused = []
    for name, draft in DRAFTS.items():
        if name == "2020" and isinstance(schema.get("items"), list):
            continue
        compiled = compile_schema({"$schema": draft, **schema})
        is_valid = compiled.is_valid(value)
        for explains in (False, True):
            assert (not Judge(compiled.rules, Effort(), explains=explains).verdict(value).faults) is is_valid
        refused += [] if is_valid else [name]

    assert " ".join(refused) == invalid_in
