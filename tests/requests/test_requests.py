"""Requests from rows: every way a job can say where their parts come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.base.records import Request, Tool
from batchcall.requests.prompt import RowError, TemplateError
from batchcall.requests.requests import RequestBuilder, tools_of
from request_making import (
    COLUMNS,
    as_sent,
    build,
    builder,
    job_tool,
    request_hash,
)

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "tests/dialects/examples").glob("*.request.json"))
PLAIN = {"role": "user", "content": "{{ text }}"}


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
        ({"messages": [PLAIN, {"role": "user", "content": "{{"}]}, "request.messages.1.content: line 1: "),
        ({"messages": [{"content": "x"}]}, "request.messages.0.role: is missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "{{"}]}]},
            "request.messages.0.content.0.text: line 1: ",
        ),
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


# Whatever a row holds.

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
