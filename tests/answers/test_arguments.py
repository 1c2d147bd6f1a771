"""From a reply to checked arguments: every status that a reply can end with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.answers.arguments import Toolbox, ToolResult
from batchcall.answers.repair import without_copies
from batchcall.base.records import RawCall, Reply, Status, Tool, ToolCall, Usage
from batchcall.requests.row_parts import sent_name, with_sent_names
from batchcall.schemas.field_types import Scalar, StructOf
from batchcall.schemas.walk import SchemaError
from batchcall.schemas.work import Effort

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "price": {"type": "number"}},
    "required": ["name"],
}


def tool(name: str = "record", schema: Any = SCHEMA) -> Tool:
    return Tool(name, schema, {})


RECORD = Toolbox.of([tool()])
NO_TOOLS = Toolbox.of([])


def call(arguments: Any = None, name: str = "record", *, is_object: bool = False) -> RawCall:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {"name": "Ada"})
    return RawCall(name, text, "call_1", is_object)


def read(
    *calls: RawCall,
    toolbox: Toolbox = RECORD,
    repair: bool = True,
    coerce: bool = False,
    max_tokens: int | None = None,
    **reply: Any,
) -> ToolResult:
    answer = Reply(calls=calls, **{"finish_reason": "tool_calls", **reply})
    return toolbox.read(answer, repair=repair, coerce=coerce, max_tokens=max_tokens)


def test_a_valid_call_is_ok() -> None:
    reading = read(call('{"name": "Ada", "price": 12345678901234567890123}'))

    assert reading == ToolResult(
        status=Status.OK,
        error=None,
        tool="record",
        arguments={"name": "Ada", "price": 12345678901234567890123},
        calls=(ToolCall("call_1", "record", '{"name": "Ada", "price": 12345678901234567890123}', None),),
        repairs=(),
    )


@pytest.mark.parametrize("reason", ["stop", "function_call", "end_turn", "STOP", None, "something new"])
def test_a_call_that_arrives_with_any_other_finish_is_fine(reason: str | None) -> None:
    assert read(call(), finish_reason=reason).status is Status.OK


def test_arguments_that_break_the_schema_are_told_with_their_place() -> None:
    reading = read(call({"name": "Ada", "price": "x"}))

    assert reading.status is Status.INVALID_ARGUMENTS
    assert reading.error == '/price: "x" is not of type "number"'
    assert reading.calls[0].error == reading.error
    assert reading.arguments is None
    assert reading.tool == "record"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [("[]", "an array"), ("5", "a number"), ("true", "a boolean"), ('"x"', "a string"), ("null", "null")],
)
def test_arguments_that_are_no_object_are_invalid(arguments: str, what: str) -> None:
    reading = read(call(arguments))

    assert reading.status is Status.INVALID_ARGUMENTS
    assert reading.error == f"the arguments must be an object, not {what}"


@pytest.mark.parametrize(
    "arguments", ['{"name": ', "", "oops", '{"name": NaN}', "[" * 500 + "]" * 500, '{"name": "\\ud83d']
)
def test_arguments_that_are_no_json_are_bad_json(arguments: str) -> None:
    reading = read(call(arguments))

    assert reading.status is Status.BAD_JSON
    assert reading.error is not None
    assert reading.calls[0].arguments == arguments


def test_a_call_of_no_tool_is_unknown() -> None:
    reading = read(call(name="recrod"))

    assert reading.status is Status.UNKNOWN_TOOL
    assert reading.error == '"recrod" is not one of the tools of the request: record'
    assert reading.tool == "recrod"


def test_another_spelling_of_a_tool_is_recorded_and_the_call_kept_as_received() -> None:
    reading = read(call(name="functions.Record"))

    assert (reading.status, reading.tool, reading.repairs) == (Status.OK, "record", ("tool_name",))
    assert reading.calls[0].name == "functions.Record"


@pytest.mark.parametrize("repair", [True, False])
@pytest.mark.parametrize("own", ["math.area", "面积", "wie groß"])
def test_a_tool_is_called_by_its_own_name_or_by_the_one_that_strict_endpoints_know(own: str, repair: bool) -> None:
    sent = with_sent_names((Tool(own, SCHEMA, {"type": "function", "function": {"name": own}}),))
    names = {own, sent_name(sent[0])}

    readings = [read(call(name=name), toolbox=Toolbox.of(sent), repair=repair) for name in names]

    assert len(names) == 2
    assert [(one.status, one.tool, one.repairs) for one in readings] == [(Status.OK, own, ())] * 2


def test_without_repair_a_tool_has_to_be_spelled_exactly() -> None:
    assert read(call(name="Record"), repair=False).status is Status.UNKNOWN_TOOL


def test_an_answer_in_text_is_no_call() -> None:
    reading = read(content="Hello! How can I help?", finish_reason="stop")

    assert reading.status is Status.NO_CALL
    assert reading.error is not None
    assert "Hello!" in reading.error


def test_an_answer_with_nothing_in_it_is_no_call() -> None:
    assert read(content=None).status is Status.NO_CALL
    assert read(content="").status is Status.NO_CALL


def test_text_is_the_answer_where_the_request_has_no_tools() -> None:
    reading = read(toolbox=NO_TOOLS, content="Paris", finish_reason="stop")

    assert reading == ToolResult(Status.OK, None, None, None, (), ())


def test_a_call_where_the_request_has_no_tools_is_unknown() -> None:
    assert read(call(), toolbox=NO_TOOLS).status is Status.UNKNOWN_TOOL


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ({"refusal": "I will not.", "finish_reason": "stop"}, Status.REFUSED),
        ({"finish_reason": "refusal"}, Status.REFUSED),
        ({"finish_reason": "content_filter"}, Status.FILTERED),
        ({"finish_reason": "SAFETY"}, Status.FILTERED),
        ({"finish_reason": "length"}, Status.TRUNCATED),
        ({"finish_reason": "max_tokens"}, Status.TRUNCATED),
        ({"finish_reason": "MAX_TOKENS"}, Status.TRUNCATED),
        ({"finish_reason": "max_output_tokens"}, Status.TRUNCATED),
        ({"finish_reason": "MALFORMED_FUNCTION_CALL"}, Status.BAD_JSON),
        ({"finish_reason": "malformed_function_call"}, Status.BAD_JSON),
        ({"finish_reason": "function_call_filter: MALFORMED_FUNCTION_CALL"}, Status.BAD_JSON),
        ({"finish_reason": "function_call_filter: UNEXPECTED_TOOL_CALL"}, Status.UNKNOWN_TOOL),
        ({"finish_reason": "content_filter: PROHIBITED_CONTENT"}, Status.FILTERED),
        ({"finish_reason": "content_filter: SOMETHING_NEW"}, Status.FILTERED),
        ({"finish_reason": "LENGTH"}, Status.TRUNCATED),
    ],
)
@pytest.mark.parametrize("toolbox", [RECORD, NO_TOOLS])
def test_an_ending_decides_whatever_else_came(reply: dict[str, Any], status: Status, toolbox: Toolbox) -> None:
    for calls in ((), (call(),)):
        reading = read(*calls, toolbox=toolbox, **{"content": "x", **reply})

        assert reading.status is status
        assert reading.error
        assert reading.arguments is None
        assert len(reading.calls) == len(calls)


def test_a_refusal_is_told_in_the_models_words_cut_short() -> None:
    reading = read(refusal="No. " * 500)

    assert reading.error is not None
    assert reading.error.startswith('the model refused: "No. No.')
    assert len(reading.error) < 250


@pytest.mark.parametrize("arguments", ['{"name": "Ad', "", '```json\n{"name": "Ada"}\n```'])
def test_unreadable_arguments_at_the_token_limit_were_cut_off_whatever_the_finish(arguments: str) -> None:
    reading = read(call(arguments), max_tokens=40, usage=Usage(completion_tokens=40))

    assert reading.status is Status.TRUNCATED
    assert reading.repairs == ()


def test_silence_at_the_token_limit_was_cut_off() -> None:
    reading = read(content=None, finish_reason="stop", max_tokens=40, usage=Usage(completion_tokens=41))

    assert reading.status is Status.TRUNCATED


def test_a_readable_call_at_the_token_limit_is_taken() -> None:
    assert read(call(), max_tokens=40, usage=Usage(completion_tokens=40)).status is Status.OK


def test_below_the_token_limit_unreadable_is_bad_json() -> None:
    reading = read(call('{"name": "Ad'), max_tokens=40, usage=Usage(completion_tokens=39))

    assert reading.status is Status.BAD_JSON


@pytest.mark.parametrize("max_tokens", [0, 40])
def test_an_answer_that_does_not_say_its_tokens_was_not_cut_off_by_their_limit(max_tokens: int) -> None:
    reading = read(call('{"name": "Ad'), max_tokens=max_tokens, usage=Usage())

    assert reading.status is Status.BAD_JSON


def test_a_repair_is_recorded_and_the_arguments_kept_as_received() -> None:
    reading = read(call('{"name": "Ada",}'))

    assert (reading.status, reading.arguments, reading.repairs) == (Status.OK, {"name": "Ada"}, ("trailing_comma",))
    assert reading.calls == (ToolCall("call_1", "record", '{"name": "Ada",}', None),)


def test_without_repair_nothing_is_mended() -> None:
    assert read(call('{"name": "Ada",}'), repair=False).status is Status.BAD_JSON
    assert read(call(is_object=True), repair=False).status is Status.BAD_JSON


def test_arguments_given_as_an_object_are_recorded() -> None:
    reading = read(call(is_object=True))

    assert (reading.status, reading.repairs) == (Status.OK, ("arguments_object",))


def test_coercion_happens_only_where_it_is_wanted() -> None:
    wrong = call({"name": "Ada", "price": "1.5"})

    assert read(wrong).status is Status.INVALID_ARGUMENTS
    assert read(wrong, coerce=True).arguments == {"name": "Ada", "price": 1.5}


def test_of_several_calls_the_first_decides_and_each_has_its_own_error() -> None:
    good, bad = call({"name": "Ada"}), call({"name": 5})

    first_good, first_bad = read(good, bad), read(bad, good)

    assert (first_good.status, first_good.error, first_good.arguments) == (Status.OK, None, {"name": "Ada"})
    assert [one.error for one in first_good.calls] == [None, '/name: 5 is not of type "string"']
    assert (first_bad.status, first_bad.arguments) == (Status.INVALID_ARGUMENTS, None)
    assert [one.error for one in first_bad.calls] == ['/name: 5 is not of type "string"', None]


def test_repairs_of_all_calls_are_told_once() -> None:
    reading = read(call('{"name": "a",}'), call('{"name": "b",}'), call('{"name": "c"} ok'))

    assert reading.repairs == ("trailing_comma", "trailing_text")


def test_calls_of_an_answer_that_was_cut_off_are_listed_as_far_as_they_came() -> None:
    reading = read(call(), call('{"name": "Ad'), finish_reason="length")

    assert [one.error for one in reading.calls] == [None, "the answer was cut off by its token limit"]


def test_the_column_is_typed_where_there_is_exactly_one_tool() -> None:
    typed = StructOf((("name", Scalar.STRING), ("price", Scalar.FLOAT64)))

    assert RECORD.arguments_type == typed
    assert Toolbox.of([tool("a"), tool("b")]).arguments_type is None
    assert Toolbox.of([tool(schema={"type": "object"})]).arguments_type is None
    assert NO_TOOLS.arguments_type is None


def test_rewrites_are_told_with_their_tool() -> None:
    toolbox = Toolbox.of([tool("a", {"type": "dict"}), tool("b")])

    assert toolbox.rewrites == ('a: /type: "dict" read as "object"',)


def test_a_tool_that_cannot_be_used_is_named() -> None:
    with pytest.raises(SchemaError, match=r"tool 'b', /properties/x/type"):
        Toolbox.of([tool("a"), tool("b", {"properties": {"x": {"type": "nonsense"}}})])
    with pytest.raises(SchemaError, match=r"tool 'a'.*two tools"):
        Toolbox.of([tool("a"), tool("a")])


texts = st.text() | st.text(alphabet='{}[]",:\\u d83e`name') | st.just('{"name": "\ud83d"}')


@given(
    st.lists(st.tuples(st.sampled_from(["record", "Record", "\ud83d", "x"]), texts), max_size=3), texts, st.booleans()
)
def test_no_reply_makes_the_reading_raise(calls: list[tuple[str, str]], content: str, repair: bool) -> None:
    reading = read(*(RawCall(*one) for one in calls), content=content, refusal=None, repair=repair, coerce=repair)

    assert (reading.status is Status.OK) == (reading.error is None)
    assert [one.arguments for one in reading.calls] == [arguments for _, arguments in calls]


BROKEN = [{"pattern": "("}, {"patternProperties": {"(": {}}}, {"$ref": "#/x"}]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_fault_in_an_if_that_decides_nothing_does_not_end_the_reading(broken: dict[str, Any]) -> None:
    schema = {"if": broken, "required": ["name"], "x": {"properties": 5}}

    reading = read(call({"other": 1}), toolbox=Toolbox.of([tool(schema=schema)]))

    assert (reading.status, reading.error) == (Status.INVALID_ARGUMENTS, '"name" is a required property')


@pytest.mark.parametrize("broken", BROKEN)
def test_a_fault_in_an_if_is_found_before_any_reading_where_it_matters_what_was_evaluated(
    broken: dict[str, Any],
) -> None:
    elsewhere = {"properties": {"y": {"unevaluatedProperties": False}}}

    with pytest.raises(SchemaError):
        Toolbox.of([tool(schema={"if": broken, "x": {"properties": 5}, **elsewhere})])


LOOSE = Toolbox.of([tool(schema={**SCHEMA, "required": []})])
TAKES_NOTHING = Toolbox.of([tool(schema={"type": "object", "properties": {}, "additionalProperties": False})])


@pytest.mark.parametrize("empty", ["{}", " { } ", "", " ", "null", '""', '"{}"', "{}{}", "```json\n{}\n```"])
@pytest.mark.parametrize("toolbox", [LOOSE, RECORD])
def test_an_empty_record_at_a_used_up_token_limit_is_truncated(empty: str, toolbox: Toolbox) -> None:
    at_limit = Usage(completion_tokens=64)

    assert read(call(empty), toolbox=toolbox, max_tokens=64, usage=at_limit).status is Status.TRUNCATED
    assert read(call(empty), toolbox=LOOSE, max_tokens=65, usage=at_limit).status is Status.OK
    assert read(call(empty), toolbox=LOOSE, max_tokens=None, usage=at_limit).status is Status.OK


def test_an_answer_whose_length_is_known_by_the_total_only_is_at_its_limit_too() -> None:
    usage = Usage(prompt_tokens=6, total_tokens=70)

    assert read(call("{}"), toolbox=LOOSE, max_tokens=64, usage=usage).status is Status.TRUNCATED
    assert read(call("{}"), toolbox=LOOSE, max_tokens=65, usage=usage).status is Status.OK


def test_whole_arguments_at_exactly_the_limit_are_ok() -> None:
    assert read(call(), max_tokens=64, usage=Usage(completion_tokens=64)).status is Status.OK


def test_a_tool_that_takes_nothing_is_complete_with_nothing() -> None:
    full = Usage(completion_tokens=64)

    assert read(call("{}"), toolbox=TAKES_NOTHING, max_tokens=64, usage=full).status is Status.OK


@pytest.mark.parametrize(("total", "status"), [(70, Status.TRUNCATED), (20, Status.OK)])
def test_reasoning_that_is_counted_beside_the_answer_fills_the_limit_too(total: int, status: Status) -> None:
    usage = Usage(prompt_tokens=6, completion_tokens=14, total_tokens=total, reasoning_tokens=50)

    assert read(call("{}"), toolbox=LOOSE, max_tokens=64, usage=usage).status is status


@pytest.mark.parametrize("repair", [True, False])
def test_a_key_that_stands_there_twice_is_recorded_and_the_last_value_counts(repair: bool) -> None:
    reading = read(call('{"name": "Ada", "name": "Bea"}'), repair=repair)

    assert (reading.status, reading.arguments) == (Status.OK, {"name": "Bea"})
    assert reading.repairs == ("duplicate_key",)


def test_a_key_twice_in_mended_arguments_is_recorded_with_what_mended_them() -> None:
    assert read(call('{"name": "Ada", "name": "Bea",}')).repairs == ("trailing_comma", "duplicate_key")


def test_a_call_that_was_sent_twice_is_one() -> None:
    reading = read(call('{"name": "Ada"}'), call('{ "name":"Ada" }'))

    assert [one.arguments for one in reading.calls] == ['{"name": "Ada"}']
    assert reading.repairs == ("repeated_call",)


@pytest.mark.parametrize("blank", ["", " ", "{}"])
def test_a_call_whose_beginning_was_sent_as_a_call_of_its_own_is_one(blank: str) -> None:
    reading = read(RawCall("record", blank, "call_1"), call('{"name": "Ada"}'))

    assert (reading.status, reading.arguments) == (Status.OK, {"name": "Ada"})
    assert reading.repairs == ("repeated_call",)


@pytest.mark.parametrize(
    "other",
    [
        RawCall("record", '{"name": "Bea"}', "call_1"),
        RawCall("record", '{"name": "Ada"}', "call_2"),
        RawCall("record", '{"name": "Ada"}', None),
    ],
)
def test_calls_that_may_be_two_stay_two(other: RawCall) -> None:
    reading = read(call('{"name": "Ada"}'), other)

    assert len(reading.calls) == 2
    assert reading.repairs == ()


def test_calls_without_an_id_may_be_equal_on_purpose() -> None:
    assert len(read(RawCall("record", '{"name": "Ada"}'), RawCall("record", '{"name": "Ada"}')).calls) == 2


def test_an_answer_that_was_cut_off_is_not_read_with_its_backslashes_kept() -> None:
    cut = call(r'{"name": "\d"}')

    assert read(cut, max_tokens=9, usage=Usage(completion_tokens=9)).status is Status.TRUNCATED
    assert read(cut, finish_reason="length").repairs == ()
    assert read(cut).repairs == ("invalid_escape",)


@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_call_without_arguments_is_called_empty_and_not_broken_json(blank: str) -> None:
    reading = read(call(blank), repair=False)

    assert (reading.status, reading.error) == (Status.BAD_JSON, "the arguments are empty")


def test_arguments_that_are_broken_json_say_where() -> None:
    error = read(call("{x}"), repair=False).error or ""

    assert error.startswith("the arguments are not JSON: ")
    assert "empty" not in error


def test_of_calls_that_all_say_nothing_one_stays() -> None:
    reading = read(RawCall("record", "{}", "c"), RawCall("record", "{}", "c"), toolbox=LOOSE)

    assert [one.arguments for one in reading.calls] == ["{}"]


def test_copies_are_compared_as_json_while_there_is_work_left_for_it_and_then_as_text() -> None:
    calls = [RawCall("record", text, "c") for text in ('{"a":1}', '{"a": 1}', '{"a":1}')]
    effort = Effort(15)

    assert [one.arguments for one in without_copies(calls, Effort())] == ['{"a":1}']
    assert len(without_copies(calls, Effort(3))) == 2
    assert len(without_copies(calls[:2], effort)) == 1
    assert effort.units == 0  # a unit for each character
    assert len(without_copies([RawCall("record", '{"a":1}', id_) for id_ in ("c", "d", None, None)], Effort(0))) == 4


def test_the_tools_are_listed_by_the_names_that_the_job_has() -> None:
    toolbox = Toolbox.of([tool("math.factorial"), tool("查询天气")])

    reading = read(call(name="other"), toolbox=toolbox)

    assert reading.error == '"other" is not one of the tools of the request: math.factorial, 查询天气'


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (0, "it has none"),
        (1, "f0"),
        (5, "f0, f1, f2, f3, f4"),
        (6, "f0, f1, f2, f3, f4, …"),
        (9, "f0, f1, f2, f3, f4, …"),
    ],
)
def test_where_no_tool_is_meant_the_first_five_are_named(count: int, names: str) -> None:
    toolbox = Toolbox.of([tool(f"f{number}") for number in range(count)])

    reading = read(call(name="other"), toolbox=toolbox)

    assert (reading.status, reading.error) == (
        Status.UNKNOWN_TOOL,
        f'"other" is not one of the tools of the request: {names}',
    )
