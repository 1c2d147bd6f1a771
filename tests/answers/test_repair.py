"""The repair ladder: what it mends and records, and what it must leave alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.answers.repair import (
    NotJson,
    Repaired,
    _keep_last_snapshot,
    _units_of,
    has_duplicate_keys,
    match_tool,
    read_json,
    repair_arguments,
)
from batchcall.base.records import RawCall, Tool
from batchcall.schemas.schema import compile_tool
from batchcall.schemas.work import UNITS, Effort

RECEIPT = {
    "type": "object",
    "properties": {
        "shop": {"type": "string"},
        "total": {"type": "number"},
        "count": {"type": "integer"},
        "paid": {"type": "boolean"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
        "owner": {"anyOf": [{"$ref": "#/$defs/Owner"}, {"type": "null"}]},
        "either": {"type": ["string", "object"]},
        "loose": {},
    },
    "additionalProperties": False,
    "$defs": {
        "Item": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "tags": {"type": "array"}},
            "required": ["name"],
        },
        "Owner": {"allOf": [{"type": "object"}, {"required": ["name"]}], "properties": {"id": {"type": "integer"}}},
    },
}


def repaired(
    arguments: str, *, repair: bool = True, coerce: bool = False, schema: Any = RECEIPT, is_object: bool = False
) -> Repaired | None:
    tool = compile_tool(Tool("record", schema, {}))
    return repair_arguments(RawCall("record", arguments, is_object=is_object), tool, repair=repair, coerce=coerce)


@pytest.mark.parametrize(
    ("arguments", "expected", "steps"),
    [
        ("", {}, ("empty_arguments",)),
        (" \n", {}, ("empty_arguments",)),
        ("null", {}, ("empty_arguments",)),
        ('""', {}, ("double_encoded", "empty_arguments")),
        (json.dumps('{"shop": "a"}'), {"shop": "a"}, ("double_encoded",)),
        (json.dumps(json.dumps('{"shop": "a"}')), {"shop": "a"}, ("double_encoded",)),
        ('```json\n{"shop": "a"}\n```', {"shop": "a"}, ("code_fence",)),
        ('```\n{"shop": "a"}```', {"shop": "a"}, ("code_fence",)),
        ('```json\n{"shop": "```"}\n```', {"shop": "```"}, ("code_fence",)),
        ('```json\n{"shop": "a",}\n``` That is all.', {"shop": "a"}, ("code_fence", "trailing_text", "trailing_comma")),
        ('{"shop": "a"} I hope this helps :-}', {"shop": "a"}, ("trailing_text",)),
        ('{"shop": "a"} as in [1], with {name} left out', {"shop": "a"}, ("trailing_text",)),
        ('{"shop": "a}\\"{"}</tool_call>', {"shop": 'a}"{'}, ("trailing_text",)),
        (
            '{"shop": "a,]", "items": [{"name": "b",},],}',
            {"shop": "a,]", "items": [{"name": "b"}]},
            ("trailing_comma",),
        ),
        ('{\n"shop": "a\n\tb\\\\\n\\"c"}', {"shop": 'a\n\tb\\\n"c'}, ("control_character",)),
        ('```json\n{"shop": "a\nb",}\n```', {"shop": "a\nb"}, ("code_fence", "trailing_comma", "control_character")),
        ('{"shop": "a\\ud83d"}', {"shop": "a\ufffd"}, ("lone_surrogate",)),
        ('{"shop": "a\ud83d"}', {"shop": "a\ufffd"}, ("lone_surrogate",)),
        ('{"shop": "\\\\ud83d \\ud83d\\ude00 \\ude00"}', {"shop": "\\ud83d \U0001f600 \ufffd"}, ("lone_surrogate",)),
        ('{"items": "[{\\"name\\": \\"b\\"}]"}', {"items": [{"name": "b"}]}, ("nested_string",)),
        ('{"items": ["{\\"name\\": \\"b\\"}"]}', {"items": [{"name": "b"}]}, ("nested_string",)),
        ('{"owner": "{\\"name\\": 1}"}', {"owner": {"name": 1}}, ("nested_string",)),
        (
            json.dumps({"items": json.dumps([json.dumps({"name": "[1]", "tags": "[1]"})])}),
            {"items": [{"name": "[1]", "tags": [1]}]},
            ("nested_string",),
        ),
    ],
)
def test_a_step_that_helps_is_taken_and_recorded(arguments: str, expected: Any, steps: tuple[str, ...]) -> None:
    assert repaired(arguments) == Repaired(expected, steps)


def test_arguments_given_as_an_object_are_accepted_and_recorded() -> None:
    assert repaired('{"shop": "a"}', is_object=True) == Repaired({"shop": "a"}, ("arguments_object",))


@pytest.mark.parametrize("arguments", ["", '"{}"', "```{}```", "{,}", "{} x"])
def test_nothing_is_mended_where_the_job_forbids_it(arguments: str) -> None:
    assert repaired(arguments, repair=False) is None
    assert repaired("{}", repair=False, is_object=True) is None


@pytest.mark.parametrize(
    "arguments",
    [
        '{"shop": "a',
        '{"shop": "a"',
        '{"items": [{"name": "b"}',
        '{"items": [{"name": "b"},',
        '```json\n{"shop": "a"',
        '{"shop": "a", "total": 12.',
        '{"shop": "a\n',
        json.dumps('{"shop": "a'),
    ],
)
def test_what_was_cut_off_is_never_completed(arguments: str) -> None:
    assert repaired(arguments) is None


@pytest.mark.parametrize(
    "arguments",
    [
        '{"shop": "a"}{"shop": "b"}',  # which of them?
        '{"shop": "a"}, {"shop": "b"}',
        '{"shop": "a"}\n---\n{ "shop": "b"}',
        '```json\n{"shop": "a"}\n```\nor\n```json\n{"shop": "b"}\n```',
        '{"shop": "a"}</tool_call><tool_call>{"shop": "b',
        '{"shop": "a"}, "total": 5}',  # closed too early: what is behind was meant too
        '{"items": [{"name": "b"}]}, "shop": "a"}',
        '{"total": NaN}',
        '{"total": Infinity}',
        '{"total": 1e999}',
        "[]",
        "5",
        "I cannot do that.",
        "{'shop': 'a'}",
        '{"shop": "a\\\nb"}',  # a backslash before a line break: is the line joined, or is the break meant?
        '{"shop": 5}',
        '{"count": "5"}',
        '{"items": "[{\\"name\\": 5}]"}',  # decoded, it does not pass either
    ],
)
def test_what_no_step_makes_valid_stays_as_it_was(arguments: str) -> None:
    assert repaired(arguments) is None


def test_a_field_that_may_be_a_string_is_never_decoded() -> None:
    arguments = {"either": '{"a": 1}', "loose": "[1]", "shop": "[1]", "items": '[{"name": "{}"}]'}

    found = repaired(json.dumps(arguments))

    assert found is not None
    assert found.arguments == {**arguments, "items": [{"name": "{}"}]}


OBJECT = {"type": "object"}


@pytest.mark.parametrize(
    "schema",
    [
        {"patternProperties": {"^may_": {}}, "additionalProperties": OBJECT},
        {"patternProperties": {"^may_": {"type": "string"}}, "additionalProperties": OBJECT},
        {"properties": {"nested": OBJECT}, "patternProperties": {"^other_": OBJECT}},
        {"properties": {"nested": OBJECT}, "anyOf": [{"properties": {"may_be": OBJECT}}, {"required": ["nested"]}]},
    ],
)
def test_a_field_that_may_be_a_string_for_its_name_or_by_one_alternative_is_never_decoded(schema: Any) -> None:
    found = repaired('{"nested": "{}", "may_be": "{}"}', schema=schema)

    assert found == Repaired({"nested": {}, "may_be": "{}"}, ("nested_string",))


@pytest.mark.parametrize(
    "schema",
    [
        {"patternProperties": {"^nes": {"type": "array", "items": OBJECT}}},
        {"anyOf": [{"type": "null"}, {"properties": {"nested": {"type": "array", "items": OBJECT}}}]},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "properties": {"nested": {"type": "array", "items": [OBJECT], "additionalItems": OBJECT}},
        },
    ],
)
def test_what_is_nested_is_decoded_wherever_the_schema_says_what_it_is(schema: Any) -> None:
    found = repaired('{"nested": ["{}", "{}"]}', schema=schema)

    assert found == Repaired({"nested": [{}, {}]}, ("nested_string",))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"count": "5"}, {"count": 5}),
        ({"count": "-12345678901234567890123"}, {"count": -12345678901234567890123}),
        ({"total": "5.0"}, {"total": 5.0}),
        ({"total": "5"}, {"total": 5}),
        ({"paid": "true"}, {"paid": True}),
        ({"paid": "False"}, {"paid": False}),
        ({"shop": 5}, {"shop": "5"}),
        ({"shop": 5.5}, {"shop": "5.5"}),
        ({"shop": True}, {"shop": "true"}),
        ({"owner": "null"}, {"owner": None}),
        ({"items": [{"name": 1}]}, {"items": [{"name": "1"}]}),
    ],
)
def test_scalars_are_coerced_without_loss_where_the_job_allows_it(arguments: Any, expected: Any) -> None:
    text = json.dumps(arguments)

    assert repaired(text, coerce=True) == Repaired(expected, ("coerced",))
    assert repaired(text, coerce=True, repair=False) == Repaired(expected, ("coerced",))
    assert repaired(text) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": "05"},
        {"count": "5.5"},
        {"count": " 5"},
        {"count": "5 EUR"},
        {"count": ""},
        {"total": "1,5"},
        {"total": "0.12345678901234567890123"},
        {"total": "NaN"},
        {"total": "1e999"},
        {"total": "1e-9999999999999999999"},
        {"paid": 1},
        {"paid": "yes"},
        {"shop": None},
        {"shop": ["a"]},
        {"count": True},
    ],
)
def test_nothing_is_coerced_that_would_lose_or_guess(arguments: Any) -> None:
    assert repaired(json.dumps(arguments), coerce=True) is None


@pytest.mark.parametrize("written", ["1.10", "12345678901234567.25", "1e2", "-0.0", "100000000000000000000.0"])
def test_a_number_becomes_the_string_that_was_written(written: str) -> None:
    found = repaired(f'{{"items": "[{{\\"name\\": {written}}}]"}}', coerce=True)

    assert found == Repaired({"items": [{"name": written}]}, ("nested_string", "coerced"))


def test_a_number_that_was_written_in_two_ways_is_not_coerced() -> None:
    assert repaired('{"shop": 1.10, "items": [{"name": 1.1}]}', coerce=True) is None
    assert repaired('{"shop": 1.0, "count": 1}', coerce=True) == Repaired({"shop": "1.0", "count": 1}, ("coerced",))


def test_numbers_of_an_enum_are_coerced_too() -> None:
    schema = {"properties": {"rate": {"enum": [0.5, 1.5, None]}}}

    assert repaired('{"rate": "1.50"}', coerce=True, schema=schema) == Repaired({"rate": 1.5}, ("coerced",))
    assert repaired('{"rate": "2.5"}', coerce=True, schema=schema) is None


def test_the_number_of_a_const_is_coerced_too() -> None:
    schema = {"properties": {"version": {"const": 2}}}

    assert repaired('{"version": "2"}', coerce=True, schema=schema) == Repaired({"version": 2}, ("coerced",))
    assert repaired('{"version": "3"}', coerce=True, schema=schema) is None


def test_a_schema_that_leads_back_to_itself_for_the_same_value_still_says_what_a_member_is() -> None:
    count = {"properties": {"count": {"$ref": "#/$defs/d"}}}
    itself = {"d": {"type": "integer", "allOf": [{"$ref": "#/$defs/d"}]}}
    loop = {"properties": {"count": {"type": "integer"}}, "allOf": [{"$ref": "#"}]}
    expected = Repaired({"count": 7}, ("coerced",))

    assert repaired('{"count": "7"}', coerce=True, schema={**count, "$defs": itself}) == expected
    assert repaired('{"count": "7"}', coerce=True, schema=loop) == expected


def test_what_is_valid_already_is_left_alone_beside_what_is_coerced() -> None:
    found = repaired('{"shop": "5", "count": "5", "loose": "5"}', coerce=True)

    assert found is not None
    assert found.arguments == {"shop": "5", "count": 5, "loose": "5"}


def test_integers_of_any_length_stay_exact() -> None:
    assert read_json('{"id": 123456789012345678901234567890}') == {"id": 123456789012345678901234567890}


@pytest.mark.parametrize(
    "text", ["[" * 201 + "]" * 201, '{"a":' * 100_000, "[" * 1_000_000, "1" * 5_000, "NaN", "\ud83d"]
)
def test_what_cannot_be_held_is_no_json(text: str) -> None:
    with pytest.raises(NotJson):
        read_json(text)


def test_brackets_within_strings_do_not_count_as_depth() -> None:
    text = json.dumps({"code": "[" * 10_000 + '"\\'})

    assert read_json(text) == {"code": "[" * 10_000 + '"\\'}


def test_what_decoding_would_nest_too_deep_is_not_mended() -> None:
    inner = "[" * 199 + "]" * 199
    schema = {"properties": {"a": {"items": {"type": "array"}, "type": "array"}}}

    assert repaired(json.dumps({"a": [inner[3:-3]]}), schema=schema) is not None
    assert repaired(json.dumps({"a": [inner]}), schema=schema) is None


@pytest.mark.parametrize(
    ("called", "meant"),
    [
        ("record", "record"),
        ("functions.record", "record"),
        ("default_api.record", "record"),
        ("Record", "record"),
        (" record ", "record"),
        ("record<|channel|>commentary", "record"),
        ("functions.record <|constrain|>json", "record"),
        ("<|channel|>record", None),
        ("lookUp", "lookup"),
        ("math.area", "math.area"),
        ("area", None),
        ("recor", None),
        ("get_X", None),
        ("", None),
    ],
)
def test_a_tool_is_found_under_another_spelling_only_when_it_is_the_only_one(called: str, meant: str | None) -> None:
    names = ["record", "lookup", "math.area", "get_x", "GET_x"]

    assert match_tool(called, {name: name for name in names}) == meant


@pytest.mark.parametrize(
    ("called", "meant"),
    [
        ("math.area", "math_area_2"),
        ("functions.Math.area", "math_area_2"),
        ("math_area", "math_area"),
        ("functions.f", None),  # f behind a prefix, or the tool of that name
    ],
)
def test_a_tool_is_found_under_its_own_name_where_another_was_sent(called: str, meant: str | None) -> None:
    own_names = {"math_area_2": "math.area", "math_area": "math_area", "functions_f": "functions.f", "f": "f"}

    assert match_tool(called, own_names) == meant


@pytest.mark.parametrize(
    "hostile",
    [
        '{"a": "' + '\\"' * 100_000,
        '"' * 100_000,
        "{" + ", " * 100_000,
        "```" * 100_000,
        "\\" * 100_000,
        "{x} y" + '{"' * 100_000,
        "{x} y" + ', "' * 100_000,
        "{" * 100_000,
        '{"a":' * 100_000,
        "{a{b" * 50_000 + "c",
    ],
)
def test_the_ladder_takes_linear_time_on_hostile_text(hostile: str) -> None:
    assert repaired(hostile, coerce=True) is None  # minutes, were it quadratic


def test_of_a_vast_value_only_so_much_is_looked_at_one_by_one() -> None:
    schema = {"properties": {"a": {"type": "array", "items": {"type": "string"}}, "b": {"type": "array"}}}

    assert repaired(json.dumps({"a": [1] * 1_000_000}), coerce=True, schema=schema) is None  # a minute, were all of it
    assert repaired(json.dumps({"b": json.dumps([1] * 300_000)}), schema=schema) is not None
    assert repaired(json.dumps({"a": ["x"] * 10_000, "b": "[]"}), schema=schema) is not None
    assert repaired("[" * 100_000 + '{"a": []}\n' * 10_000, schema=schema) is None


@given(st.text() | st.text(alphabet='{}[]",:\\ `jsonu d83e1.\n'))
def test_no_text_makes_the_ladder_raise(text: str) -> None:
    found = repaired(text, coerce=True)

    assert found is None or isinstance(found.arguments, dict)


rows = st.fixed_dictionaries(
    {},
    optional={
        "shop": st.text(),
        "total": st.floats(allow_nan=False, allow_infinity=False),
        "count": st.integers(),
        "items": st.lists(
            st.fixed_dictionaries({"name": st.text(), "tags": st.lists(st.text(), max_size=2)}), max_size=3
        ),
    },
)


@given(rows)
def test_mending_gives_back_what_was_wrapped(arguments: dict[str, Any]) -> None:
    nested = {key: json.dumps(value) if isinstance(value, list) else value for key, value in arguments.items()}
    text = f"```json\n{json.dumps(json.dumps(nested))}\n```"

    found = repaired(text)

    assert found is not None
    assert found.arguments == arguments


@given(rows, st.integers(1, 200))
def test_a_prefix_is_never_taken_for_the_whole(arguments: dict[str, Any], cut: int) -> None:
    text = json.dumps(arguments)

    assert repaired(text[:-cut].rstrip() or "{") is None


def snapshots(text: str, lengths: list[int]) -> str:
    return "".join(text[:length] for length in lengths) + text


@pytest.mark.parametrize(
    "text", ['{"shop": "Fig"}', '{"shop": "a {b} \\"{", "total": 2}', '{"owner": {"id": 1, "name": 2}, "items": []}']
)
@pytest.mark.parametrize("step", [1, 4, 9])
def test_of_a_stream_that_repeats_all_that_came_before_the_last_piece_counts(text: str, step: int) -> None:
    lengths = list(range(1, len(text), step))

    assert repaired(snapshots(text, lengths)) == Repaired(json.loads(text), ("snapshots",))
    assert repaired(snapshots(text, [*lengths, len(text)])) == Repaired(json.loads(text), ("snapshots",))
    assert repaired(snapshots(text, lengths)[:-1]) is None


@pytest.mark.parametrize(
    "arguments",
    [
        '{"loose":{"loose":1}',  # may be cut: what stood in `loose` is not the whole
        '{"shop": "Fig{"shop": "Fog"}',  # another one
        '{"shop": "Fig"{"shop": "Fig"',
    ],
)
def test_what_may_be_something_else_is_no_snapshot(arguments: str) -> None:
    assert repaired(arguments) is None


braces = st.recursive(
    st.integers() | st.text(alphabet='{}":a\\ '),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='{":a', max_size=2), inner, max_size=3)
    ),
)


@given(st.dictionaries(st.text(alphabet='{":a', max_size=2), braces, min_size=1), st.integers(0, 60))
def test_deltas_are_never_taken_for_snapshots(arguments: dict[str, Any], cut: int) -> None:
    text = json.dumps(arguments)

    so_far = text[: max(len(text) - cut, 1)]
    assert _keep_last_snapshot(so_far) == so_far


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"shop": "Fig"}{"shop": "Fig"}', {"shop": "Fig"}),
        ('{"shop": "Fig"}\n\n{"shop": "Fig"} {"shop": "Fig"}', {"shop": "Fig"}),
        ('{"shop": "Fig", "count": 2}{"count":2,"shop":"F\\u0069g"}', {"shop": "Fig", "count": 2}),
        ('{"items": [{"name": "}{"}]}{"items": [{"name": "}{"}]}', {"items": [{"name": "}{"}]}),
        ('```json\n{"shop": "Fig"}{"shop": "Fig"}\n```', {"shop": "Fig"}),
        ("{}{}", {}),
        ('{"count": 2}{"count": 2.0}{"count": 2e0}', {"count": 2}),
        ('{"shop": "Fig"},\n{"shop": "Fig"}', {"shop": "Fig"}),
        ('{}{"shop": "Fig"}', {"shop": "Fig"}),
        ('{"shop": "Fig"} { }', {"shop": "Fig"}),
    ],
)
def test_equal_copies_of_the_arguments_are_one(arguments: str, expected: Any) -> None:
    found = repaired(arguments)

    assert found is not None
    assert (found.arguments, found.steps[-1]) == (expected, "repeated_arguments")


@pytest.mark.parametrize(
    "arguments",
    [
        '{"shop": "Fig"}{"shop": "Fog"}',
        '{"total": 1}{"total": 1.5}{"total": 1}',
        '{"shop": "1"}{"shop": 1}',
        "{}{}{",
        '{"shop": "Fig"}{"shop": "Fig"}{"shop',
        '{"shop": "Fig"} and {"shop": "Fig"}',
        '{"paid": true}{"paid": 1}',
    ],
)
def test_copies_that_differ_leave_open_which_is_meant(arguments: str) -> None:
    assert repaired(arguments) is None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"\d+ \s*", r"\d+ \s*"),
        (r"D:\archive\x", r"D:\archive\x"),
        (r"costs \$7", r"costs \$7"),
        (r"it\'s snake\_case", r"it\'s snake\_case"),
        (r"\x41 \users", r"\x41 \users"),
        (r"C:\\already\\right \d", r"C:\already\right \d"),
        (r"one\ntwo \$3", "one\ntwo \\$3"),
        (r"\u00e9 \- \"q\"", 'é \\- "q"'),
    ],
)
def test_a_backslash_that_begins_no_escape_stands_for_itself(written: str, read: str) -> None:
    assert repaired(f'{{"shop": "{written}"}}') == Repaired({"shop": read}, ("invalid_escape",))


@pytest.mark.parametrize(
    "written",
    [
        r"\u12",  # a character that lost its digits
        r"\alpha \beta",  # a backspace and "eta", says JSON
        r"C:\data\new",  # a line break and "ew", says JSON
        r"C:\data\\",  # fine, but the quote is missing
    ],
)
def test_a_backslash_with_two_readings_is_left_alone(written: str) -> None:
    quote = "" if written.endswith("\\\\") else '"'

    assert repaired(f'{{"shop": "{written}{quote}}}') is None


def test_escapes_that_json_knows_are_read_as_json_says() -> None:
    assert read_json(r'{"shop": "C:\new\table"}') == {"shop": "C:\new\table"}


@pytest.mark.parametrize(
    "arguments",
    [
        '{"shop": "a", "shop": "b"}',
        '{"shop": "a", "shop": "a"}',
        '{"owner": {"id": 1, "id": 2}}',
        '{"items": [{"name": "a", "name": "b"}]}',
        r'{"shop": "x", "sh\u006fp": "\u003a", "loose": ":"}',
        '{"shop": "12:30", "shop": "12:45", "loose": {"a": ":"}}',
    ],
)
def test_a_key_that_stands_there_twice_is_noticed(arguments: str) -> None:
    assert has_duplicate_keys(arguments, read_json(arguments))


@given(
    st.recursive(
        st.none() | st.integers() | st.text(alphabet=':{}[]," \\a\u00e9', max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet=':"a\\', max_size=3), inner),
        max_leaves=12,
    ),
    st.booleans(),
)
def test_without_a_key_twice_none_is_noticed(value: Any, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii)

    assert not has_duplicate_keys(text, read_json(text))


CLOSED = {
    "type": "object",
    "properties": {"shop": {"type": "string"}, "total": {"type": "number"}},
    "required": ["shop"],
}


@pytest.mark.parametrize(
    "arguments",
    [
        '{"$PARAMETER_NAME": {"shop": "Fig"}}',
        '{"parameters": {"shop": "Fig"}}',
        '{"record": {"shop": "Fig"}}',
        '{"arguments": "{\\"shop\\": \\"Fig\\"}"}',
        '{"name": "record", "arguments": {"shop": "Fig"}}',
        '{"tool_input": {"shop": "Fig"}}',
        '{"Record": {"shop": "Fig"}}',
        '{"record_input": {"shop": "Fig"}}',
        '{"arg0": {"shop": "Fig"}}',
        '{"data": {"shop": "Fig"}}',
        '{"arguments": {"arguments": {"shop": "Fig"}}}',
        '[{"shop": "Fig"}]',
        '[{"shop": "Fig"}, {"shop": "Fig"}]',
        '{"action": "record", "action_input": {"shop": "Fig"}}',
        '{"type": "function", "name": "record", "parameters": {"shop": "Fig"}}',
        '{"function": "record", "arguments": "{\\"shop\\": \\"Fig\\"}"}',
        '{"tool_calls": [{"id": "c", "function": {"name": "record", "arguments": {"shop": "Fig"}}}]}',
    ],
)
def test_a_record_in_a_wrapper_is_taken_out_where_only_that_passes(arguments: str) -> None:
    assert repaired(arguments, schema=CLOSED) == Repaired({"shop": "Fig"}, ("unwrapped",))


@pytest.mark.parametrize(
    ("arguments", "schema", "steps"),
    [
        ('{"arguments": "{\\"shop\\": 1, \\"shop\\": \\"Fig\\"}"}', CLOSED, ("unwrapped", "duplicate_key")),
        (
            '{"shop": "{\\"a\\": 1, \\"a\\": 2}"}',
            {"properties": {"shop": {"type": "object"}}},
            ("duplicate_key", "nested_string"),
        ),
    ],
)
def test_a_key_twice_in_what_stood_in_a_string_is_recorded(arguments: str, schema: Any, steps: tuple[str, ...]) -> None:
    found = repaired(arguments, schema=schema)

    assert found is not None
    assert found.steps == steps


@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        ('{"arguments": {"total": 5}}', CLOSED),  # what is in it does not pass either
        ('{"example": {"shop": "Fig"}}', CLOSED),  # not a wrapper's name: it may be something else
        ('{"arguments": {"shop": "Fig"}, "input": {"shop": "Fog"}}', CLOSED),
        ('{"Args": {"shop": "Fig"}, "args": {"shop": "Fog"}}', CLOSED),
        ('[{"shop": "Fig"}, {"shop": "Fog"}]', CLOSED),
        ('{"name": "refund", "arguments": {"shop": "Fig"}}', CLOSED),  # another tool's
        ('{"error": {"shop": "Fig"}}', CLOSED),
        ('[{"path": "$.shop"}]', {**CLOSED, "required": []}),  # nothing of what the tool takes
        ('{"arguments": {}}', {**CLOSED, "required": [], "additionalProperties": False}),
    ],
)
def test_a_wrapper_whose_content_is_in_doubt_stays(arguments: str, schema: Any) -> None:
    assert repaired(arguments, schema=schema) is None


def test_looking_through_a_text_costs_its_characters_and_more_for_each_mark() -> None:
    assert _units_of("abc") == 3 * 3
    assert _units_of('{"a": 1}') == 8 * 3 + 4 * 50


def test_whether_a_key_stands_twice_is_asked_where_there_is_work_left_for_it() -> None:
    text = '{"a": 1, "a": 2}'
    units = _units_of(text)

    for left, is_noticed, spent in ((units - 1, False, 0), (units, True, units)):
        effort = Effort(left)
        assert has_duplicate_keys(text, {"a": 2}, effort) is is_noticed
        assert left - effort.units == spent


def test_lists_in_strings_in_lists_deeper_than_the_stack_are_left_alone() -> None:
    lists = {"$ref": "#/$defs/lists"}
    schema = {"properties": {"a": lists}, "$defs": {"lists": {"type": "array", "items": lists}}}
    value: Any = []
    for _ in range(12):
        for _ in range(150):
            value = [value]
        value = json.dumps(value)

    assert repaired(json.dumps({"a": value}), schema=schema) is None


@pytest.mark.parametrize(
    ("arguments", "coerce", "units"),
    [
        ("", False, 0),
        ("null", False, 84),
        ('{"shop":"a"}', False, 252),
        ('{"shop":"a"} x', False, 2_346),
        ('```json\n{"shop":"a"}\n```', False, 1_920),
        ('"{\\"shop\\":\\"a\\"}"', False, 378),
        ('{"arguments":{"shop":"a"}}', False, 728),
        ('{"items":"[]"}', False, 1_236),
        ('{"count":"5"}', True, 2_242),
        ('{"count":"5"}', False, 1_212),
        ('{"paid":"true","total":"1.5"}', True, 3_986),
        ('{"shop":1}', False, 1_140),
        ('{"shop":"a","shop":"b"}', False, 1_102),
        ('{"shop":"a","shop":"b"} x', False, 4_894),
        ('{"items":"[{\\"name\\":\\"n\\",\\"tags\\":\\"[]\\"}]"}', False, 4_404),
        ('{"loose":[1,2,3],"items":"[]"}', False, 4_020),
        ("{shop", False, 585),
    ],
)
def test_what_a_repair_costs_is_counted_and_the_same_in_every_run(arguments: str, coerce: bool, units: int) -> None:
    effort = Effort()

    repair_arguments(
        RawCall("record", arguments),
        compile_tool(Tool("record", RECEIPT, {})),
        repair=True,
        coerce=coerce,
        effort=effort,
    )

    assert UNITS - effort.units == units


def test_patterns_for_names_are_paid_for_by_the_length_of_the_name() -> None:
    patterns = {"patternProperties": {"x" * 40: {"type": "array"}}, "additionalProperties": {"type": "string"}}

    def units(name: str) -> float:
        effort = Effort()
        tool = compile_tool(Tool("record", {"properties": {"a": patterns}}, {}))
        call = RawCall("record", json.dumps({"a": {name: 1}}))
        assert repair_arguments(call, tool, repair=True, coerce=True, effort=effort) is not None
        return UNITS - effort.units

    assert units("y" * 30) - units("y" * 20) > 10 * 200


@pytest.mark.parametrize(("length", "is_explained"), [(100_000, True), (100_001, False)])
def test_half_a_surrogate_pair_is_named_in_a_text_that_is_not_too_long(length: int, is_explained: bool) -> None:
    text = '"\\ud800' + "x" * (length - 8) + '"'
    assert len(text) == length

    with pytest.raises(NotJson) as refused:
        read_json(text)

    assert ("half a surrogate pair" in str(refused.value)) is is_explained


def test_a_text_is_json_in_a_string_twice_at_most() -> None:
    once = json.dumps('{"shop": "a"}')
    twice = json.dumps(once)

    assert repaired(once) == repaired(twice) == Repaired({"shop": "a"}, ("double_encoded",))
    assert repaired(json.dumps(twice)) is None


@pytest.mark.parametrize("text", ['{"a": {"b": 1}}', '{"a": ":"}', "[]", '{"a": 1, "b": [{"a": 1}]}'])
def test_where_no_colon_is_missing_no_work_is_done_to_find_a_key_twice(text: str) -> None:
    assert not has_duplicate_keys(text, read_json(text), effort := Effort(1_000))
    assert effort.units == 1_000
