"""Messages, tools and tool choices as rows hold them: in columns and in batch files."""

from __future__ import annotations

import json
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from batchcall.base.records import Tool
from batchcall.requests.prompt import RowError
from batchcall.requests.requests import tools_of
from batchcall.requests.row_parts import as_json, messages_as_sent, read_choice
from request_making import (
    COLUMNS,
    QUESTION,
    as_sent,
    build,
    builder,
    from_body,
    from_columns,
    function,
    job_tool,
)


def refusal(row: dict[str, Any], **says: Any) -> str:
    ready = builder(**says)
    with pytest.raises(RowError) as refused:
        ready.build(row)
    return str(refused.value)


def nested(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


# Columns.


@pytest.mark.parametrize("text", ["What is up?", "[Note] call me", "{}", "[", '{"role": "user"}', " \n"])
def test_plain_words_in_the_messages_column_are_one_user_message(text: str) -> None:
    assert from_columns({"messages": text}).messages == [{"role": "user", "content": text}]


@pytest.mark.parametrize("before", ["", " \n", "\ufeff", "\ufeff "])
def test_messages_as_json_text_are_messages_whatever_stands_before_them(before: str) -> None:
    assert from_columns({"messages": before + json.dumps(QUESTION)}).messages == QUESTION
    with pytest.raises(RowError):
        from_columns({"messages": before + json.dumps(QUESTION)[:-3]})


def test_the_system_message_of_the_job_leads_messages_that_have_none() -> None:
    own = [{"role": "developer", "content": "mine"}, *QUESTION]

    assert from_columns({"lang": "C"}, system="In {{ lang }}.").messages == [
        {"role": "system", "content": "In C."},
        *QUESTION,
    ]
    assert from_columns({"messages": own}, system="theirs").messages == own
    assert from_body({"model": "m", "messages": QUESTION}, system="theirs").messages[1:] == QUESTION


def test_what_arrow_fills_in_is_left_out_again() -> None:
    row = {
        "messages": [
            {"role": "user", "content": "Hi", "tool_calls": None, "name": None},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "x": None}}]},
        ],
        "tools": [function(strict=None, description=float("nan"))],
    }

    request = from_columns(row)

    assert request.messages == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
    ]
    assert request.shape.tools[0].written == function()


def test_json_text_is_sent_as_it_is_written() -> None:
    messages = [{"role": "user", "content": "Hi", "name": None, "n": 2**70}]
    tools = [function(strict=None, default=2**70)]

    request = from_columns({"messages": json.dumps(messages), "tools": json.dumps(tools)})

    assert request.messages == messages
    assert request.shape.tools[0].written == tools[0]


def test_a_null_that_says_something_in_a_schema_stays() -> None:
    schema = {"type": "object", "properties": {"a": {"default": None, "enum": ["x", None], "title": None}}}

    request = from_columns({"tools": [function(parameters=schema)]})

    assert request.shape.tools[0].parameters == {
        "type": "object",
        "properties": {"a": {"default": None, "enum": ["x", None]}},
    }


def test_values_that_json_has_no_word_for_become_text() -> None:
    messages = [{"role": "user", "content": b"Hi", "on": date(2024, 5, 1), "n": Decimal("1.10"), "pairs": (1, [2])}]

    assert from_columns({"messages": messages}).messages == [
        {"role": "user", "content": "Hi", "on": "2024-05-01", "n": "1.10", "pairs": [1, [2]]}
    ]


@pytest.mark.parametrize(
    "written",
    [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
        {"function": {"name": "f", "parameters": {"type": "object"}}},
        {"type": "function", "name": "f", "parameters": {"type": "object"}},
        {"name": "f", "parameters": {"type": "object"}},
        {"name": "f", "input_schema": {"type": "object"}},
        {"type": "custom", "name": "f", "input_schema": {"type": "object"}},
    ],
)
def test_tools_are_read_in_every_form_they_come_in(written: dict[str, Any]) -> None:
    for column in ([written], written, json.dumps([written]), json.dumps(written).encode()):
        assert from_columns({"tools": column}).shape.tools == (job_tool(),)


def test_a_function_without_parameters_takes_none() -> None:
    (tool,) = from_columns({"tools": [{"name": "now"}]}).shape.tools

    assert tool == Tool("now", {}, {"type": "function", "function": {"name": "now"}})


def test_a_row_that_says_nothing_of_tools_has_those_of_the_job() -> None:
    for nothing in (None, "", "null", float("nan")):
        assert from_columns({"tools": nothing}, tools=(job_tool(),)).shape.tools == (job_tool(),)
    assert from_columns({"tools": []}, tools=(job_tool(),), tool_choice="required").shape.tools == ()


def test_without_tools_there_is_nothing_to_choose() -> None:
    assert from_columns({"tools": "[]", "choice": "required"}).shape.tool_choice is None
    assert from_columns({"tools": None}, tool_choice="required").shape.tool_choice is None


@pytest.mark.parametrize("choice", ["f", '"f"', {"name": "f"}, '{"type": "function", "function": {"name": "f"}}'])
def test_a_row_can_force_one_of_its_tools(choice: Any) -> None:
    request = from_columns({"tools": [function()], "choice": choice}, tool_choice="auto")

    assert request.shape.tool_choice == {"type": "function", "function": {"name": "f"}}


def test_the_prompt_may_be_a_template_where_the_tools_are_a_column() -> None:
    ready = builder(prompt="{{ text }}", columns={"tools": "tools"}, tool_choice="required")

    request = ready.build({"text": "Hi", "tools": [function()]})

    assert ready.columns == frozenset({"text", "tools"})
    assert as_sent(request) == {"model": "m", "messages": QUESTION, "tools": [function()], "tool_choice": "required"}


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({}, "column 'messages' is missing in this row"),
        ({"messages": None}, "column 'messages': messages must be a list, not null"),
        ({"messages": 5}, "column 'messages': messages must be a list, not a number"),
        ({"messages": []}, "column 'messages': there are no messages"),
        ({"messages": "[1, 2]"}, "column 'messages': message 1 must be an object, not a number"),
        ({"messages": [{"content": "x"}]}, "column 'messages': message 1 has no role"),
        ({"messages": '[{"role": "user", "content": "cut'}, "column 'messages': not JSON: "),
        ({"messages": b"\xff"}, "column 'messages': bytes that are not valid UTF-8"),
        ({"messages": '[{"role": "user", "content": NaN}]'}, "column 'messages': not JSON: NaN"),
        ({"messages": '[{"role": "user", "content": 1e999}]'}, "column 'messages': not JSON: 1e999"),
        ({"messages": '[{"x": ' + "[" * 5000 + "]" * 5000 + "}]"}, "column 'messages': nested deeper than 100"),
        (
            {"messages": '[{"role": "user", "content": ' + "[" * 150 + "]" * 150 + "}]"},
            "column 'messages': nested deeper than 100",
        ),
        ({"messages": [{"role": "user", "content": nested(150)}]}, "column 'messages': nested deeper than 100"),
        ({"messages": [{"role": "user", "content": b"\xff"}]}, "column 'messages': bytes that are not valid UTF-8"),
        ({"messages": QUESTION, "tools": nested(5000)}, "nested "),
        ({"messages": QUESTION, "tools": "[{"}, "column 'tools': not JSON: "),
        ({"messages": QUESTION, "tools": 5}, "column 'tools': tools must be a list, not a number"),
        ({"messages": QUESTION, "tools": ["f"]}, "column 'tools': tool 1 must be an object, not a string"),
        ({"messages": QUESTION, "tools": [function(), {}]}, "column 'tools': tool 2 has no name"),
        ({"messages": QUESTION, "tools": [{"function": 1}]}, "column 'tools': tool 1: `function` must be an object"),
        (
            {"messages": QUESTION, "tools": [function(parameters=[])]},
            "tool 1: parameters must be an object, not a list",
        ),
        ({"messages": QUESTION, "tools": [{"type": "web_search"}]}, "tool 1 is of type 'web_search'"),
        ({"messages": QUESTION, "tools": [function(), function()]}, "column 'tools': two tools are called 'f'"),
        (
            {"messages": QUESTION, "tools": [function()], "choice": "g"},
            "'g' must be called, but is not one of the tools",
        ),
        ({"messages": QUESTION, "tools": [function()], "choice": 5}, "column 'choice': a tool choice must be"),
    ],
)
def test_a_row_that_makes_no_request_says_why(row: dict[str, Any], what: str) -> None:
    assert what in refusal(row, columns=COLUMNS)


# Batch files.


def test_a_batch_body_is_the_request() -> None:
    body = {
        "model": "gpt-4o",
        "stop": ["x"],
        "messages": QUESTION,
        "tools": [function()],
        "seed": 7,
        "tool_choice": "auto",
    }

    for written in (body, json.dumps(body), json.dumps(body).encode()):
        request = from_body(written, model=None)
        assert as_sent(request) == body
        assert list(request.shape.parameters) == ["stop", "seed"]


def test_what_a_batch_body_does_not_say_the_job_may() -> None:
    says = {"model": "m", "parameters": {"temperature": 0, "seed": 1}, "tools": (job_tool(),), "tool_choice": "f"}

    request = from_body({"messages": QUESTION, "seed": 7}, **says)

    assert as_sent(request) == {
        "model": "m",
        "messages": QUESTION,
        "tools": [function()],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "seed": 7,
        "temperature": 0,
    }


def test_legacy_functions_are_sent_once_and_read_as_tools() -> None:
    functions = [{"name": "f", "parameters": {"type": "object"}}]
    body = {"model": "m", "messages": QUESTION, "functions": functions, "function_call": {"name": "f"}}

    request = from_body(body, tools=(job_tool("g"),), tool_choice="g")

    assert as_sent(request) == body
    assert request.shape.tools == ()
    assert tools_of(request) == (job_tool(),)
    assert tools_of(from_columns({"tools": [function()]})) == (job_tool(),)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({}, "body: is missing"),
        ({"body": []}, "body: is not an object"),
        ({"body": "[]"}, "body: is not an object"),
        ({"body": "{"}, "body: not JSON: "),
        ({"body": {"model": "m"}}, "body.messages: is missing"),
        ({"body": {"model": "m", "messages": "Hi"}}, "body.messages: messages must be a list, not a string"),
        ({"body": {"messages": QUESTION}}, "body.model: is missing"),
        ({"body": {"model": 4, "messages": QUESTION}}, "body.model: is not a string"),
        ({"body": {"model": "m", "messages": QUESTION, "tools": [{}]}}, "body.tools: tool 1 has no name"),
        ({"body": {"model": "m", "messages": QUESTION, "functions": 5}}, "body.functions: tools must be a list"),
        ({"body": {"model": "m", "messages": QUESTION}, "method": "GET"}, "method: 'GET' is not POST"),
        ({"body": {"model": "m", "messages": QUESTION}, "url": "/v1/embeddings"}, "url: '/v1/embeddings' does not end"),
    ],
)
def test_a_batch_row_that_makes_no_request_says_why(row: dict[str, Any], what: str) -> None:
    assert what in refusal(row, model=None)


@pytest.mark.parametrize("url", ["/v1/chat/completions", "/chat/completions/", "https://elsewhere/v1/chat/completions"])
def test_a_batch_row_does_not_say_where_it_goes(url: str) -> None:
    body = {"model": "m", "messages": QUESTION}

    assert as_sent(build({"url": url, "method": "post", "body": body})) == body


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (date(2024, 5, 1), "2024-05-01"),
        (datetime(2024, 5, 1, 14, 30), "2024-05-01T14:30:00"),
        (time(14, 30), "14:30:00"),
        (Decimal("1.50"), "1.50"),
        (b"ab", "ab"),
    ],
)
def test_what_json_has_no_type_for_is_text_as_usual_elsewhere(moment: Any, text: str) -> None:
    assert as_json({"at": [moment]}, "column 'x'") == {"at": [text]}


@pytest.mark.parametrize("written", [" auto\n", b"auto", "auto", '"auto"'])
def test_a_word_for_the_choice_of_tools_may_stand_in_spaces_bytes_and_quotes(written: Any) -> None:
    assert read_choice(written, "column 'x'") == "auto"


def test_what_is_quoted_in_a_refusal_is_cut_at_its_end_alone() -> None:
    with pytest.raises(RowError) as refused:
        from_columns({"messages": QUESTION, "tools": [function(), function()]})
    assert str(refused.value).endswith("two tools are called 'f'")
    assert refusal({"body": {"model": "m", "messages": QUESTION}, "method": "G" * 200}) == (
        "method: '" + "G" * 79 + " is not POST"
    )


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("f", {"type": "function", "function": {"name": "f"}}),
        ({"name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "tool", "name": "f", "more": 1}, {"type": "tool", "name": "f", "more": 1}),
        ({"name": 5}, {"name": 5}),
        ("required", "required"),
        ("", None),
    ],
)
def test_a_choice_that_is_flat_or_a_name_becomes_the_object_that_forces_the_tool(written: Any, read: Any) -> None:
    assert read_choice(written, "column 'x'") == read


def test_a_call_that_is_no_object_is_sent_as_it_is_where_tools_have_other_names() -> None:
    sent = messages_as_sent([{"role": "assistant", "function_call": "a"}, {"role": "tool", "name": "a"}], {"a": "b"})

    assert sent == [{"role": "assistant", "function_call": "a"}, {"role": "tool", "name": "b"}]


def test_nulls_of_a_body_that_is_json_text_are_sent_and_those_of_a_nested_one_are_not() -> None:
    body = {"messages": QUESTION, "stop": None, "seed": 1}

    assert "stop" in from_body(json.dumps(body)).shape.parameters
    assert "stop" not in from_body(body).shape.parameters
