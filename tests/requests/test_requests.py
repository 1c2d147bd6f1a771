"""Requests from rows: every way a job can say where their parts come from, and the identity of what is sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.base.records import Request, Shape, Tool
from batchcall.requests.prompt import RowError, TemplateError
from batchcall.requests.requests import (
    RequestBuilder,
    make_builder,
    request_hash,
    sent_to,
    tools_of,
)
from batchcall.requests.row_parts import names_as_sent, sent_name

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "tests/dialects/examples").glob("*.request.json"))
NOTHING: dict[str, Any] = {
    "model": "m",
    "system": None,
    "prompt": None,
    "messages": None,
    "columns": None,
    "tool_choice": None,
    "parameters": {},
    "tools": (),
}
QUESTION = [{"role": "user", "content": "Hi"}]
COLUMNS = {"messages": "messages", "tools": "tools", "tool_choice": "choice"}
PLAIN = {"role": "user", "content": "{{ text }}"}


def builder(**says: Any) -> RequestBuilder:
    return make_builder(**{**NOTHING, **says})


def build(row: dict[str, Any], **says: Any) -> Request:
    return builder(**says).build(row)


def from_columns(row: dict[str, Any], **says: Any) -> Request:
    return build({"messages": QUESTION, **row}, columns=COLUMNS, **says)


def from_body(body: Any, **says: Any) -> Request:
    return build({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}, **says)


def refusal(row: dict[str, Any], **says: Any) -> str:
    ready = builder(**says)
    with pytest.raises(RowError) as refused:
        ready.build(row)
    return str(refused.value)


def function(name: str = "f", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}, **more}}


def nested(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


def job_tool(name: str = "f") -> Tool:
    return Tool(name, {"type": "object"}, function(name))


def as_sent(request: Request) -> dict[str, Any]:
    """The body that a request stands for, in the order in which it says it."""
    shape = request.shape
    body: dict[str, Any] = {"model": shape.model, "messages": request.messages}
    if shape.tools:
        body["tools"] = [tool.written for tool in shape.tools]
    if shape.tool_choice is not None:
        body["tool_choice"] = shape.tool_choice
    return {**body, **shape.parameters}


# Every way to the same request.


def by_templates(example: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    row = {f"text{place}": message["content"] for place, message in enumerate(example["messages"])}
    messages = [
        {"role": message["role"], "content": f"{{{{ text{place} }}}}"}
        for place, message in enumerate(example["messages"])
    ]
    return row, {"messages": messages, **job_part_of(example)}


def by_prompt(example: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    *system, last = example["messages"]
    says = {"system": system[0]["content"] if system else None, "prompt": "{{ text }}"}
    return {"text": last["content"]}, {**says, **job_part_of(example)}


def by_columns(example: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    row = {"messages": example["messages"], "tools": example["tools"], "choice": example.get("tool_choice")}
    return row, {"columns": COLUMNS, "model": example["model"]}


def by_columns_of_text(example: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    row, says = by_columns(example)
    return {name: json.dumps(part) if part is not None else None for name, part in row.items()}, says


def by_columns_of_parquet(example: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    row, says = by_columns(example)
    table = pa.Table.from_pylist([row, {"messages": [{"role": "user", "content": "x", "name": "y"}], "tools": []}])
    return table.to_pylist()[0], says


def by_body(example: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": example}, {"model": None}


def by_body_text(example: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"custom_id": "1", "body": json.dumps(example)}, {"model": None}


def job_part_of(example: dict[str, Any]) -> dict[str, Any]:
    tools = [
        Tool(written["function"]["name"], written["function"]["parameters"], written) for written in example["tools"]
    ]
    return {"model": example["model"], "tools": tuple(tools), "tool_choice": example.get("tool_choice")}


WAYS = [by_prompt, by_templates, by_columns, by_columns_of_text, by_columns_of_parquet, by_body, by_body_text]
CONVERSATIONS = {"winfull", "yunwu"}  # of four messages, which no single prompt makes
CASES = [
    pytest.param(path, way, id=f"{name}-{way.__name__}")
    for path in EXAMPLES
    for way in WAYS
    if (name := path.name.partition(".")[0]) not in CONVERSATIONS or way is not by_prompt
]


@pytest.mark.parametrize(("path", "way"), CASES)
def test_every_documented_request_comes_from_a_row(path: Path, way: Any) -> None:
    example = json.loads(path.read_text(encoding="utf-8"))
    row, says = way(example)

    request = build(row, **says)

    assert as_sent(request) == example
    assert request_hash("openai-chat", request) == request_hash("openai-chat", build(*by_body(example)[:1], model=None))


def test_there_are_examples_of_all_five_endpoints() -> None:
    assert len(EXAMPLES) == 5


# Templates.


def test_a_prompt_follows_the_system_message() -> None:
    ready = builder(system="You read {{ kind }}.", prompt="Read: {{ text }}", parameters={"temperature": 0})

    request = ready.build({"text": "2 apples", "kind": "receipts"})

    assert ready.columns == frozenset({"text", "kind"})
    assert ready.shape is request.shape
    assert as_sent(request) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "You read receipts."},
            {"role": "user", "content": "Read: 2 apples"},
        ],
        "temperature": 0,
    }


def test_messages_pass_through_but_for_the_templates_in_their_content() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": {"b": "{{ text }}"}}'}}]
    picture = {"type": "image_url", "image_url": {"url": "{{ url }}", "detail": "low"}}
    messages = [
        {"role": "system", "content": "{{ 'constant' }}"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "{{ answer }}"},
        {"role": "user", "content": [{"type": "text", "text": "{{ text }}"}, picture]},
    ]

    ready = builder(messages=messages)

    filled = {"type": "image_url", "image_url": {"url": "u", "detail": "low"}}
    assert ready.columns == frozenset({"answer", "text", "url"})
    assert ready.build({"answer": 4, "text": "t", "url": "u"}).messages == [
        {"role": "system", "content": "constant"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "4"},
        {"role": "user", "content": [{"type": "text", "text": "t"}, filled]},
    ]


def test_a_template_over_the_whole_row_needs_every_column() -> None:
    assert builder(prompt="{{ row | tojson }}").columns is None
    assert builder(system="{{ row | tojson }}", columns=COLUMNS).columns is None
    assert builder(system="{{ row | tojson }}").columns is None


@pytest.mark.parametrize(
    ("says", "what"),
    [
        ({"prompt": "{{ text"}, "request.prompt: line 1: "),
        ({"system": "{{ text", "prompt": "x"}, "request.system: line 1: "),
        ({"system": "{{ 1 / 0 }}", "prompt": "x"}, "request.system: line 1: division by zero"),
        ({"messages": [PLAIN, {"role": "user", "content": "{{"}]}, "request.messages[1].content: line 1: "),
        ({"messages": [{"content": "x"}]}, "request.messages[0].role: is missing"),
        ({"messages": []}, "request.messages: is empty"),
        ({"messages": [PLAIN], "prompt": "x"}, "request.messages: "),
        ({"prompt": "x", "model": None}, "request.model: is missing"),
        ({"columns": {"tools": "t"}}, "request.columns.messages: is missing"),
        ({"columns": {"messages": "m"}, "prompt": "x"}, "request.columns.messages: "),
        ({"columns": {"messages": "m", "model": "x"}}, "request.columns.model: "),
        (
            {"prompt": "x", "tools": (job_tool(),), "tool_choice": "g"},
            "request.tool_choice: 'g' is not one of the tools",
        ),
        ({"prompt": "x", "tool_choice": ["f"]}, "request.tool_choice: "),
    ],
)
def test_a_fault_of_the_job_names_its_key(says: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match="request") as refused:
        builder(**says)

    assert str(refused.value).startswith(what)
    assert isinstance(refused.value, TemplateError) is ("line" in what)


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("required", "required"),
        ("f", {"type": "function", "function": {"name": "f"}}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_the_tool_choice_of_a_job_is_a_word_or_one_of_its_tools(choice: Any, sent: Any) -> None:
    assert build({}, prompt="x", tools=(job_tool(),), tool_choice=choice).shape.tool_choice == sent


# Columns.


@pytest.mark.parametrize("text", ["What is up?", "[Note] call me", "{}", "[", '{"role": "user"}', " \n"])
def test_plain_words_in_the_messages_column_are_one_user_message(text: str) -> None:
    assert from_columns({"messages": text}).messages == [{"role": "user", "content": text}]


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
        ({"messages": None}, "column 'messages': messages are a list, not null"),
        ({"messages": 5}, "column 'messages': messages are a list, not a number"),
        ({"messages": []}, "column 'messages': there are no messages"),
        ({"messages": "[1, 2]"}, "column 'messages': message 1 is a number, not an object"),
        ({"messages": [{"content": "x"}]}, "column 'messages': message 1 has no role"),
        ({"messages": '[{"role": "user", "content": "cut'}, "column 'messages': not JSON: "),
        ({"messages": b"\xff"}, "column 'messages': bytes that are not valid UTF-8"),
        ({"messages": '[{"role": "user", "content": NaN}]'}, "column 'messages': not JSON: NaN"),
        ({"messages": '[{"role": "user", "content": 1e999}]'}, "column 'messages': not JSON: 1e999"),
        ({"messages": '[{"x": ' + "[" * 5000 + "]" * 5000 + "}]"}, "nested deeper than 100"),
        ({"messages": '[{"role": "user", "content": ' + "[" * 150 + "]" * 150 + "}]"}, "nested deeper than 100"),
        ({"messages": [{"role": "user", "content": nested(150)}]}, "column 'messages': nested deeper than 100"),
        ({"messages": [{"role": "user", "content": b"\xff"}]}, "column 'messages': bytes that are not valid UTF-8"),
        ({"messages": QUESTION, "tools": nested(5000)}, "nested "),
        ({"messages": QUESTION, "tools": "[{"}, "column 'tools': not JSON: "),
        ({"messages": QUESTION, "tools": 5}, "column 'tools': tools are a list, not a number"),
        ({"messages": QUESTION, "tools": ["f"]}, "column 'tools': tool 1 is a text, not an object"),
        ({"messages": QUESTION, "tools": [function(), {}]}, "column 'tools': tool 2 has no name"),
        ({"messages": QUESTION, "tools": [{"function": 1}]}, "column 'tools': tool 1: `function` is a number"),
        ({"messages": QUESTION, "tools": [function(parameters=[])]}, "tool 1: parameters are a list, not an object"),
        ({"messages": QUESTION, "tools": [{"type": "web_search"}]}, "tool 1 is of type 'web_search'"),
        ({"messages": QUESTION, "tools": [function(), function()]}, "column 'tools': two tools are called 'f'"),
        (
            {"messages": QUESTION, "tools": [function()], "choice": "g"},
            "'g' must be called, but is not one of the tools",
        ),
        ({"messages": QUESTION, "tools": [function()], "choice": 5}, "column 'choice': a tool choice is"),
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
        ({"body": {"model": "m", "messages": "Hi"}}, "body.messages: messages are a list, not a text"),
        ({"body": {"messages": QUESTION}}, "body.model: is missing"),
        ({"body": {"model": 4, "messages": QUESTION}}, "body.model: is not a text"),
        ({"body": {"model": "m", "messages": QUESTION, "tools": [{}]}}, "body.tools: tool 1 has no name"),
        ({"body": {"model": "m", "messages": QUESTION, "functions": 5}}, "body.functions: tools are a list"),
        ({"body": {"model": "m", "messages": QUESTION}, "method": "GET"}, "method: 'GET' is not POST"),
        ({"body": {"model": "m", "messages": QUESTION}, "url": "/v1/embeddings"}, "url: '/v1/embeddings' is not"),
    ],
)
def test_a_batch_row_that_makes_no_request_says_why(row: dict[str, Any], what: str) -> None:
    assert what in refusal(row, model=None)


@pytest.mark.parametrize("url", ["/v1/chat/completions", "/chat/completions/", "https://elsewhere/v1/chat/completions"])
def test_a_batch_row_does_not_say_where_it_goes(url: str) -> None:
    body = {"model": "m", "messages": QUESTION}

    assert as_sent(build({"url": url, "method": "post", "body": body})) == body


# Names.


def test_names_that_openai_does_not_allow_are_sent_as_others_and_found_again() -> None:
    names = ["math.factorial", "math_factorial", "math/factorial", "größe", "x" * 70, "x" * 80, "ok-1_A"]
    sent = ["math_factorial_2", "math_factorial", "math_factorial_3", "gr__e", "x" * 64, "x" * 62 + "_2", "ok-1_A"]

    tools = from_columns({"tools": [function(name) for name in names]}).shape.tools

    assert [tool.name for tool in tools] == names
    assert [sent_name(tool) for tool in tools] == sent
    assert names_as_sent(tools) == dict(zip(sent, names, strict=True))


@pytest.mark.parametrize("written", ["math.sin", {"type": "function", "function": {"name": "math.sin"}}])
def test_a_choice_and_earlier_calls_go_by_the_name_that_is_sent(written: Any) -> None:
    said: list[Any] = [
        *QUESTION,
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "math.sin", "arguments": "{}"}}]},
        {"role": "assistant", "function_call": {"name": "math.sin", "arguments": "{}"}},
        {"role": "tool", "tool_call_id": "1", "name": "math.sin", "content": "math.sin"},
    ]
    tools = [function("math.sin")]

    request = from_columns({"messages": said, "tools": tools, "choice": written})

    assert request.messages == json.loads(json.dumps(said).replace('"name": "math.sin"', '"name": "math_sin"'))
    assert request.shape.tool_choice == {"type": "function", "function": {"name": "math_sin"}}
    assert said[1]["tool_calls"] == [{"id": "1", "function": {"name": "math.sin", "arguments": "{}"}}]


def test_tools_of_the_job_and_of_a_body_are_renamed_alike() -> None:
    tool = job_tool("math.sin")

    by_job = build({"text": "Hi"}, prompt="{{ text }}", tools=(tool,), tool_choice="math.sin")
    by_its_body = from_body(
        {
            "messages": QUESTION,
            "tools": [tool.written],
            "tool_choice": {"type": "function", "function": {"name": "math.sin"}},
        }
    )

    assert as_sent(by_job) == as_sent(by_its_body)
    assert sent_name(by_job.shape.tools[0]) == "math_sin"


def test_an_endpoint_that_takes_any_name_is_asked_with_the_tools_own() -> None:
    said: list[Any] = [
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "天气", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "name": "天气", "content": "____"},
    ]
    tools = [function("天气"), function("时间"), function("plain"), function("x" * 90)]
    request = from_columns({"messages": said, "tools": tools, "choice": "天气"})

    own = sent_to(request.shape, model=None, takes_any_name=True).with_messages(request.messages)
    strict = sent_to(request.shape, model="theirs", takes_any_name=False).with_messages(request.messages)

    assert [tool.written["function"]["name"] for tool in own.shape.tools] == ["天气", "时间", "plain", "x" * 90]
    assert own.messages == said
    assert own.shape.tool_choice == {"type": "function", "function": {"name": "天气"}}
    assert strict.messages == request.messages
    assert strict.shape.model == "theirs"
    assert [tool.written["function"]["name"] for tool in strict.shape.tools] == ["__", "___2", "plain", "x" * 64]


def test_the_identity_of_a_request_is_the_same_wherever_it_goes_and_tells_names_apart() -> None:
    def identity(name: str) -> str:
        return request_hash("openai-chat", from_columns({"messages": QUESTION, "tools": [function(name)]}))

    assert identity("天气") != identity("时间") != identity("__")
    assert identity("math.sin") == identity("math_sin")  # as it always was, so that outputs keep their answers


# Shapes and identity.


@pytest.mark.parametrize("as_column", [json.dumps, lambda tools: [dict(tool) for tool in tools]])
def test_rows_with_equal_tools_share_a_shape(as_column: Any) -> None:
    ready = builder(columns=COLUMNS)
    rows = [{"messages": QUESTION, "tools": as_column([function(name)])} for name in "aabab"]

    shapes = [ready.build(row).shape for row in rows]

    assert ready.shape is None
    assert [shape is shapes[0] for shape in shapes] == [True, True, False, True, False]
    assert shapes[2] is shapes[4]


def test_many_different_tools_in_a_row_are_no_matter_either() -> None:
    ready = builder(columns=COLUMNS)
    tools = [function(f"f{number}", description="x" * 1000) for number in range(500)]

    requests = [ready.build({"messages": QUESTION, "tools": [*tools, function(f"g{number}")]}) for number in range(50)]

    assert [request.shape.tools[-1].name for request in requests] == [f"g{number}" for number in range(50)]


def test_bodies_that_differ_in_their_messages_alone_share_a_shape() -> None:
    ready = builder()
    bodies = [{"model": "m", "messages": [{"role": "user", "content": text}], "seed": 1} for text in "ab"]

    first, second = (ready.build({"body": body}) for body in bodies)

    assert first.shape is second.shape


def test_more_tool_lists_than_are_held_make_no_difference() -> None:
    ready = builder(columns=COLUMNS)

    for number in range(2000):
        request = ready.build({"messages": QUESTION, "tools": [function(f"f{number}")]})
        assert request.shape.tools[0].name == f"f{number}"


def test_tools_that_differ_in_their_types_alone_do_not_share_a_shape() -> None:
    ready = builder(columns=COLUMNS)
    values = [1, True, 1.0, "1", 2**70, 2**70 + 1, "\ud83d", "\ud83e"]

    shapes = [ready.build({"messages": QUESTION, "tools": [function(x=value)]}).shape for value in values]
    written: list[Any] = [tool.written["function"] for shape in shapes for tool in shape.tools]

    assert [function["x"] for function in written] == values
    assert len({request_hash("p", Request(shape, [])) for shape in shapes}) == len(values)


PARAMETERS: dict[str, Any] = {"temperature": 0.1, "n": 1, "on": date(2024, 5, 1)}  # a date from a TOML file
SHAPE = Shape("gpt-4o", (job_tool(),), "required", PARAMETERS)
GOLDEN = [
    ("openai-chat", Request(Shape("m"), [{"role": "user", "content": "Hi"}]), "f59b20a74664f214e67ec319db31ae58"),
    (
        "openai-chat",
        Request(Shape("m"), [{"role": "user", "content": 'é\n"\ud83d\u2028🙂'}]),
        "4d9ced669ecad56f974dde694164a73a",
    ),
    (
        "anthropic",
        Request(SHAPE, [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]),
        "9f0a9ae5bf0351954dabebf05917d6c6",
    ),
]


@pytest.mark.parametrize(("protocol", "request_", "_"), GOLDEN)
def test_the_identity_is_a_digest_of_canonical_json(protocol: str, request_: Request, _: str) -> None:
    shape = request_.shape
    said = {
        "protocol": protocol,
        "model": shape.model,
        "tools": [tool.written for tool in shape.tools],
        "tool_choice": shape.tool_choice,
        "parameters": shape.parameters,
    }

    lines = [json.dumps(part, sort_keys=True, separators=(",", ":"), default=str) for part in (said, request_.messages)]

    assert request_hash(protocol, request_) == blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


@pytest.mark.parametrize(("protocol", "request_", "expected"), GOLDEN)
def test_the_identity_of_a_request_never_changes(protocol: str, request_: Request, expected: str) -> None:
    assert request_hash(protocol, request_) == expected


def test_the_identity_is_the_same_in_every_process() -> None:
    program = (
        "from batchcall.requests.requests import request_hash; from batchcall.base.records import Request, Shape;"
        "print(request_hash('openai-chat', Request(Shape('m'), [{'role': 'user', 'content': 'Hi'}])))"
    )

    hashes = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, cwd=ROOT
        ).stdout.decode()
        for seed in ("1", "2")
    }

    assert hashes == {GOLDEN[0][2] + "\n"}


def test_whatever_is_sent_counts() -> None:
    values: list[Any] = [0, 0.0, -0.0, False, None, "", "0", [], {}, [0], 2**70]
    shapes = [
        Shape("m"),
        Shape("n"),
        Shape("m", (job_tool("f"),)),
        Shape("m", (job_tool("g"),)),
        Shape("m", (job_tool("f"), job_tool("g"))),
        Shape("m", (job_tool("g"), job_tool("f"))),
        Shape("m", tool_choice="auto"),
        *(Shape("m", parameters={"x": value}) for value in values),
    ]
    messages: list[Any] = [
        [],
        [{"role": "user", "content": "a"}],
        [{"role": "user", "content": "A"}],
        [{"role": "system", "content": "a"}],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": ["a"]}],
        [{"role": "user", "content": "a", "name": "b"}],
        [{"role": "user", "content": "a"}, {"role": "user", "content": "a"}],
        [{"role": "user", "content": 'a"},{"content":"a'}],
    ]
    requests = [*(Request(shape, []) for shape in shapes), *(Request(shapes[0], some) for some in messages[1:])]

    hashes = [request_hash(protocol, request) for protocol in ("openai-chat", "gemini") for request in requests]

    assert len(set(hashes)) == len(hashes)
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in hashes)


def test_the_order_of_keys_does_not_count() -> None:
    one = Request(
        Shape("m", parameters={"a": 1, "b": {"c": 1, "d": 2}}), [{"role": "user", "content": "x", "name": "y"}]
    )
    other = Request(
        Shape("m", parameters={"b": {"d": 2, "c": 1}, "a": 1}), [{"name": "y", "content": "x", "role": "user"}]
    )

    assert request_hash("p", one) == request_hash("p", other)
    assert request_hash("p", Request(one.shape, [{"content": "x", "role": "y"}])) == request_hash(
        "p", Request(one.shape, [{"role": "y", "content": "x"}])
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["f", "math.sin", "math_sin", ""]) | st.text(max_size=3)
FUNCTIONS = st.fixed_dictionaries({}, optional={"name": NAMES | JSON, "parameters": JSON, "description": JSON})
WRAPPED = st.fixed_dictionaries({}, optional={"type": st.just("function") | JSON, "function": FUNCTIONS | JSON})
TOOLS = st.lists(WRAPPED | FUNCTIONS, max_size=3)
CALLS = st.lists(st.fixed_dictionaries({}, optional={"id": JSON, "function": FUNCTIONS | JSON}), max_size=2)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "system"])},
        optional={"content": JSON, "name": NAMES, "tool_calls": CALLS | JSON, "function_call": FUNCTIONS | JSON},
    ),
    max_size=3,
)
CHOICES = st.sampled_from(["auto", "required", "f", "math.sin", '{"name": "f"}']) | JSON


def or_text(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | values.map(json.dumps) | JSON


BODIES = st.fixed_dictionaries(
    {},
    optional={
        "model": st.just("m") | JSON,
        "messages": MESSAGES | JSON,
        "tools": TOOLS | JSON,
        "functions": TOOLS | JSON,
        "tool_choice": CHOICES,
        "x": JSON,
    },
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "messages": or_text(MESSAGES),
        "tools": or_text(TOOLS),
        "choice": CHOICES,
        "body": or_text(BODIES),
        "text": JSON,
        "url": st.just("/v1/chat/completions") | JSON,
        "method": st.just("POST") | JSON,
    },
)
BUILDERS = [
    builder(columns=COLUMNS),
    builder(columns=COLUMNS, tools=(job_tool("math.sin"),), tool_choice="math.sin", system="{{ text }}"),
    builder(),
    builder(tools=(job_tool("math.sin"),), tool_choice="required", parameters={"x": 1}),
    builder(prompt="{{ text }}", system="{{ row | tojson }}"),
    builder(messages=[PLAIN, {"role": "user", "content": [{"type": "text", "text": "{{ text | upper }}"}]}]),
]


@given(ROWS)
def test_any_row_makes_a_request_or_says_why_not(row: dict[str, Any]) -> None:
    for ready in BUILDERS:
        made = request_or_refusal(ready, row)

        if isinstance(made, RowError):
            assert str(made)
        else:
            assert len(request_hash("openai-chat", made)) == 32
            assert isinstance(tools_of(made), tuple)
            assert json.dumps(as_sent(made), allow_nan=False)


def request_or_refusal(ready: RequestBuilder, row: dict[str, Any]) -> Request | RowError:
    try:
        return ready.build(row)
    except RowError as error:
        return error
