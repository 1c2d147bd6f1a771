"""No answer may cost more than a second, in verdict, explanation and repair: work is known before it is done.

What is counted here is timed by `scripts/fuzz work`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcall.answers.arguments import Toolbox
from batchcall.base.records import RawCall, Reply, Status, Tool
from batchcall.schemas.judge import Judge
from batchcall.schemas.schema import CompiledSchema, compile_schema
from batchcall.schemas.walk import References
from batchcall.schemas.work import (
    UNITS,
    Bound,
    Effort,
    TooMuchWork,
    bound_of,
    pattern_cost,
    pattern_places,
    size_of,
)
from schema_making import compared, deep, differing, hostile, random_schema, random_value

REF = {"$ref": "#/$defs/expr"}


def binary(name: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"op": {"const": name}, "left": REF, "right": REF},
        "required": ["op", "left", "right"],
        **more,
    }


def arithmetic(word: str = "anyOf") -> dict[str, Any]:
    alternatives = [binary("plus"), binary("minus"), binary("times"), {"type": "number"}]
    return {"type": "object", "properties": {"it": REF}, "$defs": {"expr": {word: alternatives}}}


def minus(depth: int, leaf: Any) -> dict[str, Any]:
    value = leaf
    for _ in range(depth):
        value = {"op": "minus", "left": value, "right": 1}
    return {"it": value}


def units(schema: CompiledSchema, value: Any, *, explained: bool = True) -> float:
    """What an answer costs, of what it may cost."""
    effort = Effort()
    try:
        if not schema.is_valid(value, effort=effort) and explained:
            schema.explain(value, effort=effort)
    except TooMuchWork:
        pass
    return UNITS - effort.units


@pytest.mark.parametrize("word", ["anyOf", "oneOf"])
@pytest.mark.parametrize("depth", [1, 8, 12, 30, 66])
def test_a_wrong_leaf_deep_in_a_recursive_union_is_explained_where_it_is(word: str, depth: int) -> None:
    schema = compile_schema(arithmetic(word))

    assert not schema.is_valid(minus(depth, "one"))
    told = schema.explain(minus(depth, "one"))

    place = "/it" + "/left" * depth
    assert told.startswith(place[:200])
    if len(place) < 200:
        assert told == f'{place}: "one" is not of type "object" and "one" is not of type "number"'
    assert schema.is_valid(minus(depth, 1))


def test_the_work_of_an_explanation_grows_with_the_depth_and_not_with_its_power() -> None:
    schema = compile_schema(arithmetic())

    spent = [units(schema, minus(depth, "one")) for depth in (10, 20, 40)]

    assert spent[1] < 2.2 * spent[0]
    assert spent[2] < 2.2 * spent[1] < UNITS / 10


def test_without_the_budget_the_validators_own_errors_grow_with_the_power_of_the_depth() -> None:
    """The control: what the walk replaces."""
    validator = jsonschema_rs.validator_for(arithmetic())

    def errors(error: Any) -> int:
        branches = getattr(error.kind, "context", [])
        return 1 + sum(errors(inner) for branch in branches for inner in branch)

    counts = [sum(map(errors, validator.iter_errors(minus(depth, "one")))) for depth in (2, 4, 6)]

    assert counts[1] > 5 * counts[0]
    assert counts[2] > 5 * counts[1]


@pytest.mark.parametrize("name", hostile())
def test_no_hostile_schema_makes_an_answer_cost_more_than_an_answer_may(name: str) -> None:
    schema, values = hostile()[name]
    compiled = compile_schema(schema)

    for value in values:
        assert units(compiled, value) <= UNITS


@pytest.mark.parametrize("name", [name for name in hostile() if name.startswith("ladder")])
def test_what_the_validator_would_apply_too_often_is_walked_with_the_same_verdict(name: str) -> None:
    schema, values = hostile()[name]
    compiled = compile_schema(schema)

    assert compiled.bound.of(100) > UNITS  # the control: the validator is not called for these
    assert [compiled.is_valid(value) for value in values[:2]] == [True, False]


def test_the_bound_of_an_everyday_schema_leaves_room_for_large_answers() -> None:
    line = {"type": "object", "properties": {f"column_{i}": {"type": ["string", "null"]} for i in range(40)}}
    variants = [{**line, "properties": {**line["properties"], "kind": {"const": kind}}} for kind in "abcdefgh"]
    schema = compile_schema(
        {"properties": {"lines": {"type": "array", "items": {"anyOf": [{"$ref": f"#/$defs/{k}"} for k in "abcdefgh"]}}},
         "$defs": dict(zip("abcdefgh", variants, strict=True))}
    )  # fmt: skip

    assert schema.bound.of(300_000) < UNITS


def test_an_answer_that_cannot_be_checked_says_so_and_is_never_ok() -> None:
    places = 30
    pattern = f"^[ab]*a[ab]{{{places}}}c[ab]*a[ab]{{{places}}}$"
    toolbox = Toolbox.of([Tool("record", {"properties": {"x": {"pattern": pattern}}}, {})])

    def read(text: str) -> Any:
        call = RawCall("record", json.dumps({"x": text}), id="c")
        reply = Reply((call,), finish_reason="tool_calls")
        return toolbox.read(reply, repair=True, coerce=True, max_tokens=None)

    assert read("ab").status is Status.INVALID_ARGUMENTS
    long = read("ab" * 200_000)
    assert long.status is Status.INVALID_ARGUMENTS
    assert "too long" in long.error


def test_all_calls_of_an_answer_share_what_it_may_cost() -> None:
    schema = arithmetic()
    toolbox = Toolbox.of([Tool("record", schema, {})])
    wrong = json.dumps(minus(60, "one"))
    calls = tuple(RawCall("record", wrong, id=f"c{i}") for i in range(300))
    reply = Reply(calls, finish_reason="tool_calls")

    reading = toolbox.read(reply, repair=True, coerce=True, max_tokens=None)

    told = [call.error or "" for call in reading.calls]
    assert all(told)
    assert told[0].startswith("/it/left")
    assert "too long" in told[-1]


LONG = {"pattern": "a" * 40}  # 200 units a character
TWO = {"allOf": [{}, {}]}  # 3 units a part
A_TO_B_TO_A = {
    "a": {"properties": {"x": {"$ref": "#/$defs/b"}}},
    "b": {"properties": {"x": {"$ref": "#/$defs/a"}}},
}


@pytest.mark.parametrize(
    ("schema", "bound"),
    [
        ({}, (1, 0)),
        ({"type": "string"}, (1, 0)),
        ({"enum": [1, "a", {}, []]}, (9, 0)),  # lists and objects compare slowly
        ({"const": {"a": 1}}, (5, 0)),
        ({"const": [1, [2]]}, (5, 0)),
        ({"dependentRequired": {"a": ["b", "c"], "d": ["e"], "f": 5}}, (4, 0)),
        ({"pattern": "abc"}, (1, 0.3)),
        (LONG, (1, 200)),
        ({"patternProperties": {"a": {}, "b": {}}}, (3, 0.6)),
        ({"format": "date"}, (1, 0.5)),
        ({"format": "date", "pattern": "abc"}, (1, 0.8)),
        (TWO, (3, 0)),
        ({"anyOf": [TWO, True, LONG]}, (6, 200)),
        # A member gets what the schema of its name does, and of those for any; so the dearest name counts.
        ({"properties": {"a": {}, "b": TWO}}, (3, 0)),
        ({"properties": {"a": LONG, "b": TWO}}, (3, 200)),
        ({"properties": {"a": TWO}, "additionalProperties": {"format": "date"}}, (4, 0.5)),
        ({"allOf": [{"properties": {"a": TWO}}, {"properties": {"a": TWO}}]}, (6, 0)),
        ({"allOf": [{"properties": {"a": TWO}}, {"properties": {"b": TWO}}]}, (3, 0)),
        ({"items": TWO}, (3, 0)),
        ({"prefixItems": [{}, TWO], "items": {}}, (4, 0)),
        # What is evaluated is found out again behind the verdict, at each level of schemas for one value.
        ({"unevaluatedProperties": False, "properties": {"a": {}}}, (4, 0)),
        ({"unevaluatedProperties": False, "allOf": [{}]}, (4, 0)),
        ({"unevaluatedProperties": False, "allOf": [True]}, (4, 0)),
        ({"unevaluatedProperties": False, "allOf": [{"allOf": [{}]}]}, (9, 0)),
        ({"unevaluatedItems": {}, "items": {}}, (4, 0)),
        # References multiply, unless they lead back: then their cost is added for each level that they reach.
        ({"anyOf": [{"$ref": "#/$defs/d"}] * 2, "$defs": {"d": TWO}}, (9, 0)),
        ({"properties": {"a": {"$ref": "#"}}}, (6, 0)),
        ({"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}}, (6, 0)),
        ({"properties": {"a": {"properties": {"b": {"$ref": "#"}}}}}, (8, 0)),
        ({"allOf": [{"properties": {"a": {"$ref": "#"}}}]}, (6, 0)),
        ({"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": A_TO_B_TO_A}, (11, 0)),
    ],
)
def test_the_work_of_a_schema_is_that_of_its_parts(schema: dict[str, Any], bound: tuple[float, float]) -> None:
    assert bound_of(schema, References(schema)) == Bound(*bound)


def test_the_work_of_branches_that_branch_again_stays_a_number() -> None:
    steps = {f"d{level}": {"allOf": [{"items": {"$ref": f"#/$defs/d{level + 1}"}}] * 2} for level in range(60)}
    schema = {"$ref": "#/$defs/d0", "$defs": {**steps, "d60": LONG}}

    assert bound_of(schema, References(schema)) == (10**15, 10**15)


@pytest.mark.parametrize(
    ("schema", "value", "length", "spent"),
    [
        ({"format": "date"}, {"ab": "xyz"}, 100, 150),  # by the length of the text: 1.5 a character
        ({"format": "date"}, {"ab": "xyz"}, None, 10.5),  # counted: 2 parts cost 3 each to count, and 1; 5 characters
        ({"uniqueItems": True}, [1, 2], 100, 12),
    ],
)
def test_a_value_costs_what_the_bound_of_its_schema_says(
    schema: dict[str, Any], value: Any, length: int | None, spent: float
) -> None:
    effort = Effort()

    assert compile_schema(schema).is_valid(value, effort=effort, length=length)

    assert UNITS - effort.units == spent


def test_a_text_too_long_for_the_bound_is_counted_and_judged_all_the_same() -> None:
    effort = Effort(1_000)

    assert compile_schema({}).is_valid([1, 2], effort=effort, length=1_001)

    assert effort.units == 1_000 - 3 * 3 - 3


def test_work_that_is_just_what_is_left_is_done_and_no_more() -> None:
    effort = Effort(10)

    assert (effort.can(10), effort.can(11)) == (True, False)
    with pytest.raises(TooMuchWork):
        effort.spend(11)
    effort.spend(10)
    assert effort.units == 0


# Of the walk: 500 units a schema and value, one for each member or half a unit a character, 50 for a look.
@pytest.mark.parametrize(
    ("schema", "value", "spent"),
    [
        ({}, 1, 501),
        ({}, "x" * 10, 506),
        ({}, [1, 2, 3], 504),
        ({}, {"a": 1, "b": 2}, 503),
        ({"pattern": "x"}, "x" * 10, 509),
        ({"pattern": "x" * 40}, "x" * 40, 501 + 40 * 200.5),
        # `enum` and `const`: half a unit for each character of theirs, two for each part of the value.
        ({"enum": ["x"]}, "x", 510),
        ({"const": {"a": "y" * 16}}, {"a": "y" * 16}, 530),
        ({"const": {"a": [1]}}, {"a": [1]}, 525.5),
        ({"uniqueItems": True}, [1, 2], 553),  # 5 for each part to count, 20 to compare
        ({"uniqueItems": True}, ["x" * 16, [1, 2]], 643),
        ({"uniqueItems": False}, [1, 1], 503),
        ({"dependentRequired": {"a": ["b"], "c": ["d"]}}, {}, 505),
        ({"dependencies": {"a": ["b"]}}, {}, 503),
        ({"allOf": [{}, True]}, 1, 501 + 2 * 50 + 501),
        ({"allOf": [TWO, TWO]}, 1, 501 + (50 + 501 + 2 * 551) * 2),
        ({"anyOf": [{}, {}]}, 1, 501 + 551),
        ({"anyOf": [{}, {}], "unevaluatedProperties": False}, {}, 501 + 2 * 551),
        ({"oneOf": [False, {}]}, 1, 501 + 50 + 551),
        ({"not": {"type": "string"}}, 1, 501 + 551),
        ({"if": {}}, 1, 501),
        ({"if": {}, "then": {}}, 1, 501 + 2 * 551),
        ({"if": {"type": "string"}, "else": {}}, 1, 501 + 2 * 551),
        ({"properties": {"a": {}}}, {"a": 1, "b": 1}, 503 + 551),
        ({"additionalProperties": {}}, {"a": 1, "b": 2}, 503 + 40 + 2 * 551),
        ({"patternProperties": {"a": {}}}, {"a": 1, "b": 1}, 503 + 2 * 101 + 551),
        ({"patternProperties": {"a": {}, "a" * 40: {}}}, {"a": 1}, 502 + 20 + 81 + 4_075 + 551),
        ({"propertyNames": {}}, {"abc": 1}, 502 + 552.5),
        ({"items": {}}, [1, 1], 503 + 551 + 50),  # equal parts are looked at once
        ({"items": {}}, [1, 2], 503 + 2 * 551),
        ({"contains": {}}, [1, 2], 503 + 2 * 551),
        ({"$ref": "#/$defs/a", "$defs": {"a": {}}}, 1, 501 + 551),
        ({"dependentSchemas": {"a": {}}}, {"a": 1}, 502 + 552),
    ],
)
def test_every_step_of_the_walk_is_counted(schema: dict[str, Any], value: Any, spent: float) -> None:
    rules = compile_schema(schema).rules

    for _ in range(2):  # what was compiled for the first value costs the second as much
        effort = Effort()
        assert not Judge(rules, effort, explains=False).verdict(value).faults
        assert UNITS - effort.units == spent


def test_the_first_fault_ends_a_walk_that_explains_nothing() -> None:
    schema = compile_schema({"type": "string", "allOf": [{"type": "string"}, {"minimum": 2}]})

    def walked(*, explains: bool) -> tuple[int, float]:
        effort = Effort()
        faults = Judge(schema.rules, effort, explains=explains).verdict(1).faults
        return len(faults), UNITS - effort.units

    assert walked(explains=False) == (1, 501)
    assert walked(explains=True) == (3, 3 * 501 + 2 * 50 + 3 * 500)  # and 500 to word a fault


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("", 0),
        ("abc", 3),
        (r"^\d{4}-\d{2}$", 7),
        ("[a-z]{3}", 3),
        ("(ab{2}){3}", 9),
        ("a|b", 2),
        (r"\p{L}+", 1),
        ("a{2,}", 2),
        ("ab{0}", 2),
        ("ab{1}", 2),
        ("a)b{2}", 3),
        ("(ab)(cd){2}", 6),
        ("[]a]b", 2),
        ("[^]a]b", 2),
        (r"[\]a]b", 2),
        (r"\[a\]", 3),
        ("a?b*c+^$", 3),
        ("a{99999999}", 9_999_999),
        ("(a{1000000}){1000000}{1000000}", 10**15),
    ],
)
def test_the_places_of_a_pattern_are_counted_as_often_as_they_are_repeated(pattern: str, places: int) -> None:
    assert pattern_places(pattern) == places


def test_patterns_that_cannot_look_far_are_cheap() -> None:
    cheap = (
        r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$",
        r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        r"^\S+$",
    )
    dear = ("[ab]*a[ab]{20}c", "^[ab]*a[ab]{20}c$", "(x{30}|y{30})z")

    assert all(pattern_cost(pattern) < 1 for pattern in cheap)
    assert all(pattern_cost(pattern) > 100 for pattern in dear)


def test_a_property_of_unicode_has_as_many_places_as_is_said() -> None:
    assert pattern_places(r"\p{L}{2}[\pN\d]a", of_property=100) == 301


PAST_THE_TABLES = "a" * 13


@pytest.mark.parametrize(
    ("pattern", "cost"),
    [
        ("a" * 12, 0.3),  # few places
        ("a" * 13, 150),
        ("a" * 30, 150),
        ("a" * 31, 155),
        *[
            (f"^{PAST_THE_TABLES}{end}", 0.3)
            for end in ("", "?", "{2,3}", "{2}", "(a|b)", "[*+|]", r"\*\+\|", "((a|b)c)")
        ],
        *[(f"^{PAST_THE_TABLES}{end}", 150) for end in ("*", "+", "{2,}", "|b", "(a|b)|c", "((a|b)c)*", "(a+)")],
    ],
)
def test_a_pattern_is_dear_where_it_has_many_places_and_may_look_far(pattern: str, cost: float) -> None:
    assert pattern_cost(pattern) == cost


@pytest.mark.parametrize(
    ("value", "is_long"),
    [(2**63 - 1, False), (2**63, True), (-(2**63), False), (-(2**63) - 1, True), (2.0**70, False), ("9" * 30, False)],
)
def test_a_number_is_long_beyond_64_bits(value: Any, is_long: bool) -> None:
    assert [size_of(one).has_long_number for one in (value, [value], {"a": [value]})] == [is_long] * 3


def test_the_size_of_a_value_counts_parts_texts_and_names() -> None:
    size = size_of({"ab": [1, "xyz", {"c": 2**64}], "d": None})

    assert size == (7, 3, 4, True)


def test_numbers_beyond_64_bits_are_compared_in_linear_work() -> None:
    schema = compile_schema({"properties": {"x": {"uniqueItems": True}}})
    numbers = [10**30 + i for i in range(4_000)]  # half a minute in the validator

    assert schema.is_valid({"x": numbers})
    assert not schema.is_valid({"x": [*numbers, 10**30]})
    assert not schema.is_valid({"x": [{"a": 1, "b": 10**30}, {"b": 10**30, "a": 1.0}]})


def test_the_length_of_names_is_no_work_for_comparing_elements() -> None:
    schema = compile_schema({"properties": {"x": {"uniqueItems": True}}})
    named = {"n" * 9_000_000: 1}

    assert schema.is_valid({"x": [named, 10**20]})
    assert not schema.is_valid({"x": [named, named, 10**20]})
    assert schema.explain({"x": [named, named]}).endswith("has non-unique elements")


def test_a_value_too_large_to_compare_is_not_walked_to_its_end() -> None:
    seen = 0

    class Counted(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            nonlocal seen
            seen += len(self)
            return super().__iter__()

    rules = compile_schema({"uniqueItems": True}).rules

    with pytest.raises(TooMuchWork):
        Judge(rules, Effort(100_000), explains=False).verdict([Counted([1] * 1_000) for _ in range(1_000)])

    assert seen < 50_000


# The walk and the validator


def verdicts(schema: dict[str, Any], values: Iterator[Any]) -> None:
    compiled = compile_schema(schema)
    for value in values:
        verdict = compiled.is_valid(value)
        for explains in (False, True):
            walked = Judge(compiled.rules, Effort(), explains=explains).verdict(value)
            assert (not walked.faults) is verdict, (schema, value, walked.faults)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_the_walk_and_the_validator_give_one_verdict(seed: int) -> None:
    dice = random.Random(seed)
    schema = random_schema(dice)

    verdicts(schema, (random_value(dice, schema) for _ in range(5)))


@pytest.mark.parametrize("draft", ["2019-09", "2020-12"])
def test_what_contains_has_found_is_evaluated_to_both(draft: str) -> None:
    named = {"$schema": f"https://json-schema.org/draft/{draft}/schema"}
    schema = {**named, "contains": {"type": "integer"}, "unevaluatedItems": {"type": "string"}}

    assert compile_schema(schema).is_valid([1, "a"])
    verdicts(schema, iter([[1, "a"], [1, True]]))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 30), st.sampled_from([1, "s", None, {}, [1], True]))
def test_recursive_schemas_with_wrong_leaves_stay_within_the_work_of_an_answer(
    seed: int, depth: int, leaf: Any
) -> None:
    dice = random.Random(seed)
    schema = random_schema(dice, recursive=True)
    value = deep(dice, depth, leaf)

    verdicts(schema, iter([value]))  # raises TooMuchWork where one verdict takes more than an answer may


class Prepared(dict[str, Any]):
    """A value that counts how often it is asked for a name."""

    times = 0

    def __contains__(self, name: object) -> bool:
        self.times += 1
        return super().__contains__(name)


@pytest.mark.parametrize("word", ["properties", "dependentSchemas", "dependencies"])
def test_a_small_value_is_not_asked_for_each_name_of_a_large_schema(word: str) -> None:
    compiled = compile_schema({word: {f"p{place}": {"minProperties": 2} for place in range(1_000)}})
    value = Prepared(p7={}, other=1)

    faults = Judge(compiled.rules, Effort(), explains=True).verdict(value).faults

    assert [fault.path for fault in faults] == ([("p7",)] if word == "properties" else [])
    assert value.times == 0


def test_names_that_depend_on_others_are_work_for_each_value() -> None:
    def work(names: int) -> float:
        effort = Effort()
        compiled = compile_schema({"items": {"dependentRequired": {f"p{place}": ["q"] for place in range(names)}}})
        Judge(compiled.rules, effort, explains=False).verdict([{} for _ in range(1_000)])
        return UNITS - effort.units

    assert work(1_000) - work(1) >= 1_000 * 1_000


def test_verdicts_are_those_of_an_independent_validator() -> None:
    """A slice of what `scripts/fuzz verdicts` does a million times."""
    dice = random.Random(10)

    counted = compared(dice, schemas=400, values=10)

    assert counted.answers >= 3_000
    assert counted.valid > counted.answers / 10
    assert counted.differing == []


def test_a_verdict_that_differs_is_noticed() -> None:
    """The control: a draft that lacks a keyword says yes where the other says no."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "properties": {"x": {"const": 1}}}

    assert differing(schema, {"x": 2}, verdict=True)
    assert not differing(schema, {"x": 2}, verdict=False)
