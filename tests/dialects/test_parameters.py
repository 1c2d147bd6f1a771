"""How parameters are said in the words of another protocol: one table for all."""

from __future__ import annotations

from typing import Any

import pytest

from batchcall.base.records import Shape
from batchcall.dialects.parameters import DROPPED, Parameter, max_tokens_of, parameter_faults, put_parameters

TABLE = {
    "renamed": Parameter("other"),
    "nested": Parameter("around.inner"),
    "second": Parameter("around.inner"),
    "listed": Parameter("words"),
    "translated": Parameter(say=lambda value, shape: {"around.kind": f"{shape.model} {value}"} if value else None),
    "neutral": Parameter(neutral=(None, 1), fault="there is none; remove it"),
    "even": Parameter(fault=lambda value, shape: "is odd; add 1" if value % 2 else None),
    "dropped": DROPPED,
}


def body_of(parameters: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    put_parameters(body, Shape("m", parameters=parameters), TABLE, lambda name: Parameter())
    return body


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"renamed": 1}, {"other": 1}),
        ({"nested": 1}, {"around": {"inner": 1}}),
        ({"translated": "x"}, {"around": {"kind": "m x"}}),
        ({"translated": 0}, {"translated": 0}),
        ({"dropped": 1, "neutral": 1, "unknown": None}, {}),
        ({"neutral": 2, "unknown": 3}, {"neutral": 2, "unknown": 3}),
    ],
    ids=str,
)
def test_a_row_renames_nests_translates_or_drops(parameters: dict[str, Any], expected: dict[str, Any]) -> None:
    assert body_of(parameters) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"nested": 1, "around": {"inner": 2, "more": 3}}, {"around": {"inner": 2, "more": 3}}),
        ({"around": {"more": 3}, "nested": 1}, {"around": {"more": 3, "inner": 1}}),
        ({"nested": 1, "around": "whole"}, {"around": "whole"}),
        ({"listed": ["a", "b"], "words": ["b", "c"]}, {"words": ["b", "c", "a"]}),
    ],
    ids=str,
)
def test_the_protocols_own_words_win_wherever_they_stand(parameters: dict[str, Any], expected: dict[str, Any]) -> None:
    backwards = dict(reversed(parameters.items()))

    assert body_of(parameters) == body_of(backwards) == expected


def test_of_two_that_say_the_same_the_first_row_of_the_table_wins() -> None:
    assert body_of({"second": 2, "nested": 1}) == {"around": {"inner": 1}}


def test_what_is_written_in_a_job_is_not_changed() -> None:
    parameters = {"around": {"more": {}}, "nested": 1}

    body_of(parameters)

    assert parameters == {"around": {"more": {}}, "nested": 1}


def test_a_fault_names_the_key_and_is_left_out_where_the_value_can_be_said() -> None:
    shape = Shape("m", parameters={"neutral": 2, "even": 3, "unknown": 4})
    fine = Shape("m", parameters={"neutral": 1, "even": 4, "dropped": 5})

    assert list(parameter_faults(shape, TABLE, lambda name: Parameter())) == [
        "request.neutral: there is none; remove it",
        "request.even: is odd; add 1",
    ]
    assert list(parameter_faults(fine, TABLE, lambda name: Parameter())) == []


@pytest.mark.parametrize(
    ("parameters", "cap"),
    [
        ({}, None),
        ({"max_completion_tokens": 10}, 10),
        ({"generation_config": {"max_output_tokens": 10}}, 10),
        ({"options": {"num_predict": 8}}, 8),
        ({"n_predict": 10}, 10),
        ({"max_new_tokens": 10}, 10),
        ({"options": "none", "parameters": {"max_new_tokens": 6}}, 6),
        # Of two, one counts.
        ({"max_tokens": 7, "max_output_tokens": 9}, 9),
        ({"max_tokens": 7, "generationConfig": {"maxOutputTokens": 8}}, 8),
        ({"max_tokens": 7, "options": {"num_predict": 8}}, 7),
        # What is not a cap leaves the next one.
        ({"max_tokens": None, "max_completion_tokens": 10}, 10),
        ({"max_tokens": 0, "n_predict": 5}, 5),
        ({"n_predict": -1}, None),
        ({"generationConfig": {"maxOutputTokens": True}}, None),
        ({"generationConfig": 5}, None),
    ],
)
def test_the_cap_on_an_answer_is_found_wherever_servers_have_it(parameters: dict[str, Any], cap: int | None) -> None:
    assert max_tokens_of(Shape("m", (), None, parameters)) == cap


@pytest.mark.parametrize(
    ("written", "cap"),
    [
        (1, 1),
        (0, None),
        (-1, None),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (10.0, 10),
        (2.9, 2),
        (True, None),
        ("64", 64),
        ("999999999", 999_999_999),
        ("1000000000", None),
        ("many", None),
    ],
)
def test_a_cap_is_a_number_from_one_on(written: Any, cap: int | None) -> None:
    assert max_tokens_of(Shape("m", parameters={"max_tokens": written})) == cap
