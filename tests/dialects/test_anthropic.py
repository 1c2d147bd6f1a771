"""What the anthropic dialect promises about requests, streams, follow-ups, faults, and answers of any kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.answers.arguments import Toolbox
from batchcall.base.records import (
    Failure,
    FailureKind,
    HttpResponse,
    RawCall,
    Reply,
    Request,
    Shape,
    Status,
    Tool,
    Usage,
)
from batchcall.dialects import DIALECTS
from batchcall.dialects.anthropic.request import DEFAULT_MAX_TOKENS
from batchcall.dialects.failures import HEADERS_READ
from documents import documented, faults_of

CLAUDE = DIALECTS["anthropic"]
GOLDEN = sorted((Path(__file__).parent / "anthropic").glob("*.json"))

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
TOOL = Tool("f", SCHEMA, {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}})
USER: dict[str, Any] = {"role": "user", "content": "Weather?"}


# The vendor's own schema of a request


def sent(messages: list[Any], shape: Shape | None = None, *, is_documented: bool = True) -> dict[str, Any]:
    """The body of a request, which passes the vendor's schema."""
    http = CLAUDE.encode(Request(shape or Shape("m"), messages))
    body: dict[str, Any] = json.loads(http.body)
    assert http.path == "/messages"
    if is_documented:
        assert faults_of("anthropic", body) == []
    return body


def sent_with(*, is_documented: bool = True, **parameters: Any) -> dict[str, Any]:
    """The body of a request with these parameters."""
    return sent([USER], Shape("m", parameters=parameters), is_documented=is_documented)


@documented
def test_the_vendors_schema_refuses_what_it_should() -> None:
    assert faults_of("anthropic", {"model": "m", "messages": [USER]})
    assert faults_of("anthropic", {"model": "m", "max_tokens": 1, "messages": [USER], "logit_bias": {}})


# Headers


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (None, {"x-api-key": "sk-1"}),
        ("x-api-key", {"x-api-key": "sk-1"}),
        ("bearer", {"Authorization": "Bearer sk-1"}),
        ("none", {}),
        ("header:api-key", {"api-key": "sk-1"}),
    ],
)
def test_a_key_travels_in_the_header_the_job_asks_for(auth: str | None, expected: dict[str, str]) -> None:
    assert CLAUDE.headers(auth=auth, key="sk-1") == CONSTANT_HEADERS | expected


def test_the_version_is_sent_without_a_key_too() -> None:
    assert CLAUDE.headers(auth=None, key=None) == CONSTANT_HEADERS


CONSTANT_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "anthropic-version": "2023-06-01",
}


# Messages


def test_a_plain_request_says_what_the_api_needs_and_no_more() -> None:
    body = CLAUDE.encode(Request(Shape("m"), [USER])).body

    assert body == b'{"model":"m","max_tokens":4096,"messages":[{"role":"user","content":"Weather?"}]}'


def test_system_and_developer_texts_stand_apart_from_the_turns() -> None:
    body = sent([{"role": "system", "content": "A."}, USER, {"role": "developer", "content": "B."}])

    assert body["system"] == "A.\n\nB."
    assert body["messages"] == [USER]


def test_a_system_text_in_blocks_keeps_its_marks() -> None:
    marked = {"type": "text", "text": "A.", "cache_control": {"type": "ephemeral"}}

    body = sent([{"role": "system", "content": [marked]}, {"role": "system", "content": "B."}, USER])

    assert body["system"] == [marked, {"type": "text", "text": "B."}]


def test_the_own_system_parameter_stands_before_system_messages() -> None:
    body = sent([{"role": "system", "content": "B."}, USER], Shape("m", parameters={"system": "A."}))

    assert body["system"] == "A.\n\nB."
    assert sent_with(system=[{"type": "text", "text": "A."}])["system"] == [{"type": "text", "text": "A."}]


def test_where_nobody_else_speaks_the_system_text_is_the_users() -> None:
    body = sent([{"role": "system", "content": "Say hi."}])

    assert body["messages"] == [{"role": "user", "content": "Say hi."}]
    assert "system" not in body


def test_consecutive_turns_of_a_role_are_one() -> None:
    body = sent(
        [
            {"role": "user", "content": "A"},
            {"role": "user", "content": ""},
            {"role": "user", "content": [{"type": "text", "text": "B"}]},
            {"role": "assistant", "content": "C"},
            {"role": "user", "content": "D"},
        ]
    )

    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
        {"role": "assistant", "content": "C"},
        {"role": "user", "content": "D"},
    ]


def test_the_messages_of_the_row_are_left_alone() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "A"}]}, {"role": "user", "content": "B"}]
    before = json.loads(json.dumps(messages))

    sent(messages)

    assert messages == before


def test_calls_and_their_results_become_blocks() -> None:
    body = sent(
        [
            USER,
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [call_of("call_1", '{"city":"Paris"}'), call_of("call_2", "")],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "21 °C"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "rain"}]},
            {"role": "user", "content": "And now?"},
        ]
    )

    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "call_1", "name": "f", "input": {"city": "Paris"}},
                {"type": "tool_use", "id": "call_2", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "21 °C"},
                {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "rain"}]},
                {"type": "text", "text": "And now?"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("arguments", "input_"),
    [
        ("{}", {}),
        ("  ", {}),
        ("null", {}),
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ("[1]", {"arguments": [1]}),
        ('{"a":', {"arguments": '{"a":'}),
        ('{"a":123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        ("[" * 100_000, {"arguments": "[" * 100_000}),
    ],
    ids=["empty", "blank", "null", "none", "object", "list", "torn", "long integer", "deep"],
)
def test_arguments_become_an_object_whatever_they_are(arguments: Any, input_: Any) -> None:
    messages = [USER, {"role": "assistant", "content": None, "tool_calls": [call_of("call_1", arguments)]}]

    assert sent(messages)["messages"][1]["content"][0]["input"] == input_


def test_ids_are_written_in_the_letters_that_are_allowed() -> None:
    messages = [
        USER,
        {"role": "assistant", "tool_calls": [call_of("functions.f:0", "{}")]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": ""},
    ]

    said, told = sent(messages)["messages"][1:]

    assert said["content"][0]["id"] == told["content"][0]["tool_use_id"] == "functions_f_0"
    assert "content" not in told["content"][0]


def test_legacy_function_calls_are_calls() -> None:
    said, told = sent(
        [
            USER,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
            {"role": "function", "name": "f", "content": "1"},
        ]
    )["messages"][1:]

    assert said["content"] == [{"type": "tool_use", "id": "call_f", "name": "f", "input": {"a": 1}}]
    assert told["content"] == [{"type": "tool_result", "tool_use_id": "call_f", "content": "1"}]


def test_an_assistant_that_said_nothing_has_no_turn() -> None:
    assert sent([USER, {"role": "assistant", "content": None}, USER])["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}] * 2}
    ]


def test_an_assistant_that_refused_keeps_its_words() -> None:
    refused = {"role": "assistant", "content": None, "refusal": "I cannot say."}

    assert sent([USER, refused, USER])["messages"][1:] == [{"role": "assistant", "content": "I cannot say."}, USER]


PNG = "iVBORw0KGgo="
MARK: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
WITH_URL = {"type": "image", "source": {"type": "url", "url": "https://e.com/a"}}
CITED = {"type": "document", "source": {"type": "url", "url": "https://e.com/a"}, "citations": {"enabled": True}}


@pytest.mark.parametrize(
    ("part", "block", "is_documented"),
    [
        ({"type": "text", "text": "A"}, {"type": "text", "text": "A"}, True),
        ("A", {"type": "text", "text": "A"}, True),
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            True,
        ),
        (
            {"type": "image_url", "image_url": f"data:image/jpg;base64,{PNG[:4]}\n{PNG[4:]}"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG}},
            True,
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png,%89PNG%0D%0A%1A%0A"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            True,
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://e.com/a"}},
            WITH_URL,
            True,
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
                "title": "a.pdf",
            },
            True,
        ),
        (
            {"type": "file", "file": {"file_data": "JVBE"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}},
            True,
        ),
        (
            {"type": "file", "file": {"file_data": "data:text/plain;base64,SGk="}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}},
            True,
        ),
        (
            {"type": "file", "file": {"file_id": "file_1"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
            True,
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://e.com/a"}, **MARK},
            {**WITH_URL, **MARK},
            True,
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": PNG}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": PNG}},
            True,
        ),
        (CITED, CITED, True),
        ({"type": "input_audio", "input_audio": {}}, {"type": "input_audio", "input_audio": {}}, False),
        ({"type": "image_url"}, {"type": "image_url"}, False),
        ({"type": "file", "file": {}}, {"type": "file", "file": {}}, False),
    ],
)  # fmt: skip
def test_a_part_of_a_message_becomes_a_block(part: Any, block: Any, is_documented: bool) -> None:
    """What is in no form that Anthropic knows passes as it is written, for the endpoint to refuse."""
    body = sent([{"role": "user", "content": [part]}], is_documented=is_documented)

    assert body["messages"] == [{"role": "user", "content": [block]}]


def test_turns_in_anthropics_own_form_pass_as_they_are_written() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"city": "P"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True}]},
    ]

    assert sent(messages)["messages"] == messages


def call_of(id_: str, arguments: Any) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "f", "arguments": arguments}}


# Tools


def test_a_tool_leaves_in_anthropics_form() -> None:
    tools = sent([USER], Shape("m", (TOOL,)))["tools"]

    assert tools == [{"name": "f", "description": "d", "input_schema": SCHEMA}]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"function": {"name": "f", "strict": True, "parameters": SCHEMA}}, {"input_schema": SCHEMA, "strict": True}),
        ({"function": {"name": "f", "strict": False, "parameters": SCHEMA}}, {"input_schema": SCHEMA}),
        ({"function": {"name": "f"}}, {"input_schema": {"type": "object", "properties": {}}}),
        ({"function": {"name": "f", "parameters": {}}}, {"input_schema": {"type": "object", "properties": {}}}),
        (
            {"function": {"name": "f", "parameters": {"properties": {"a": {}}}}},
            {"input_schema": {"properties": {"a": {}}, "type": "object"}},
        ),
        ({"function": {"name": "f", "parameters": {"type": "dict"}}}, {"input_schema": {"type": "object"}}),
        (
            {"type": "function", "function": {"name": "f", "parameters": SCHEMA}, **MARK},
            {"input_schema": SCHEMA, **MARK},
        ),
        ({"name": "f", "input_schema": SCHEMA}, {"input_schema": SCHEMA}),
        ({"type": "custom", "name": "f", "input_schema": SCHEMA}, {"input_schema": SCHEMA}),
        ({"type": "function", "name": "f", "parameters": SCHEMA}, {"input_schema": SCHEMA}),
        ({"type": "web_search_20250305", "name": "f"}, {"type": "web_search_20250305"}),
    ],
)  # fmt: skip
def test_a_tool_may_be_written_in_many_ways(written: dict[str, Any], expected: dict[str, Any]) -> None:
    body = sent([USER], Shape("m", (Tool("f", {}, written),)))

    assert body["tools"] == [{"name": "f", **expected}]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        ({"type": "any", "disable_parallel_tool_use": True}, {"type": "any", "disable_parallel_tool_use": True}),
        ({"type": "tool", "name": "f"}, {"type": "tool", "name": "f"}),
        ("f", {"type": "tool", "name": "f"}),
    ],
)
def test_a_tool_choice_is_said_in_anthropics_words(choice: Any, expected: Any) -> None:
    assert sent([USER], Shape("m", (TOOL,), choice))["tool_choice"] == expected


def test_no_call_at_all_can_be_asked_for() -> None:
    body = sent([USER], Shape("m", (TOOL,), "none", {"parallel_tool_calls": False}))

    assert body["tool_choice"] == {"type": "none"}


def test_nothing_is_said_of_a_choice_where_nothing_was_or_there_are_no_tools() -> None:
    assert "tool_choice" not in sent([USER], Shape("m", (TOOL,)))
    assert "tool_choice" not in sent([USER], Shape("m", (), "auto"))


@pytest.mark.parametrize(("choice", "kind"), [(None, "auto"), ("required", "any")])
def test_one_call_at_a_time_is_part_of_the_choice(choice: Any, kind: str) -> None:
    body = sent([USER], Shape("m", (TOOL,), choice, {"parallel_tool_calls": False}))

    assert body["tool_choice"] == {"type": kind, "disable_parallel_tool_use": True}
    assert "tool_choice" not in sent([USER], Shape("m", (TOOL,), None, {"parallel_tool_calls": True}))


def test_legacy_functions_are_tools() -> None:
    body = sent_with(functions=[{"name": "f", "parameters": SCHEMA}], function_call={"name": "f"})

    assert body["tools"] == [{"name": "f", "input_schema": SCHEMA}]
    assert body["tool_choice"] == {"type": "tool", "name": "f"}
    assert not body.keys() & {"functions", "function_call"}


# Parameters


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 8, "max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": None}, {"max_tokens": DEFAULT_MAX_TOKENS}),
        ({"stop": "a"}, {"stop_sequences": ["a"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"stop": "a", "stop_sequences": ["b"]}, {"stop_sequences": ["a", "b"]}),
        ({"temperature": 0, "top_p": 0.5, "top_k": 3}, {"temperature": 0, "top_p": 0.5, "top_k": 3}),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"safety_identifier": "u"}, {"metadata": {"user_id": "u"}}),
        ({"metadata": {"user_id": "u"}}, {"metadata": {"user_id": "u"}}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
        ({"n": 1, "logprobs": False, "logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0.0}, {}),
        ({"seed": None, "response_format": {"type": "text"}, "prompt_cache_key": "k", "store": False}, {}),
    ],
)
def test_parameters_leave_in_anthropics_words(parameters: dict[str, Any], expected: dict[str, Any]) -> None:
    body = sent_with(**parameters)

    assert body == {"model": "m", "max_tokens": DEFAULT_MAX_TOKENS, "messages": [USER], **expected}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": DEFAULT_MAX_TOKENS + 2000},
        ),
        ({"reasoning_effort": "low"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (
            {
                "reasoning_effort": "high",
                "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
            },
            {"output_config": {"effort": "high", "format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        ({"service_tier": "standard_only"}, {"service_tier": "standard_only"}),
        ({"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral"}}),
        ({"not_invented_yet": [1]}, {"not_invented_yet": [1]}),
        ({"logit_bias": {"1": 2}}, {"logit_bias": {"1": 2}}),  # for the endpoint to refuse: never silently left out
    ],
)
def test_parameters_that_the_schema_does_not_know_yet(parameters: dict[str, Any], expected: dict[str, Any]) -> None:
    body = sent_with(is_documented=False, **parameters)

    assert body == {"model": "m", "max_tokens": DEFAULT_MAX_TOKENS, "messages": [USER], **expected}


def test_two_shapes_that_say_the_same_are_not_mixed_up() -> None:
    first, second = Shape("m", parameters={"top_k": 1}), Shape("m", parameters={"top_k": 2})

    assert [sent([USER], shape)["top_k"] for shape in (first, second, first)] == [1, 2, 1]


def test_integers_beyond_64_bits_are_sent_all_the_same() -> None:
    assert sent_with(is_documented=False, top_k=2**70)["top_k"] == 2**70


# Faults


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"logit_bias": {"1": 2}}, "request.logit_bias: Anthropic does not take this parameter; remove it"),
        ({"n": 2}, "request.n: Anthropic gives one answer a request; remove it"),
        ({"seed": 7}, "request.seed: "),
        ({"logprobs": True}, "request.logprobs: "),
        ({"presence_penalty": 0.5}, "request.presence_penalty: "),
        ({"frequency_penalty": 0.5}, "request.frequency_penalty: "),
        ({"temperature": 1.5}, "request.temperature: Anthropic takes 0 to 1; "),
        ({"temperature": "hot"}, "request.temperature: "),
        ({"stop": "\n"}, "request.stop: "),
        ({"stop": ["a", " "]}, "request.stop: "),
        ({"response_format": {"type": "json_object"}}, "request.response_format: "),
        ({"reasoning_effort": "minimal"}, "request.reasoning_effort: "),
        ({"metadata": {"team": "a"}}, "request.metadata: "),
        ({"service_tier": "flex"}, "request.service_tier: "),
    ],
)
def test_what_anthropic_cannot_do_is_a_fault_that_says_what_to_do(parameters: dict[str, Any], fault: str) -> None:
    (found,) = CLAUDE.faults(Shape("m", parameters=parameters))

    assert found.startswith(fault)
    assert "; " in found


def test_every_fault_is_told_at_once() -> None:
    faults = CLAUDE.faults(Shape("m", parameters={"seed": 7, "temperature": 2, "n": 3}))

    assert [fault.split(":")[0] for fault in faults] == ["request.seed", "request.temperature", "request.n"]


@pytest.mark.parametrize("parameters", [{}, {"temperature": 1}, {"n": 1}, {"seed": None}, {"stop": ["END"]}])
def test_what_anthropic_can_do_is_no_fault(parameters: dict[str, Any]) -> None:
    assert CLAUDE.faults(Shape("m", (TOOL,), "required", parameters)) == []


def test_a_call_cannot_be_forced_while_it_thinks() -> None:
    thinking: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "temperature": 0, "top_k": 3}
    thinking["top_p"] = 0.9

    paths = [fault.split(":")[0] for fault in CLAUDE.faults(Shape("m", (TOOL,), "required", thinking))]

    assert paths == ["request.tool_choice", "request.temperature", "request.top_k", "request.top_p"]
    assert CLAUDE.faults(Shape("m", (TOOL,), "auto", {"thinking": {"type": "enabled"}, "top_p": 0.95})) == []
    assert CLAUDE.faults(Shape("m", (TOOL,), "auto", {"top_p": 0.9})) == []


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

    assert found.startswith(f"{path}: Anthropic takes ")


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


def test_what_stands_in_values_is_no_schema() -> None:
    values: list[Any] = [{"type": "dict"}, {"items": [1]}]
    inner = {"type": "object", "default": values[0], "enum": values, "examples": values, "const": values[1]}
    schema: Any = {"type": "dict", "properties": {"type": inner, "items": inner, "required": inner}}

    assert CLAUDE.faults(Shape("m", (Tool("g", schema, {"name": "g", "parameters": schema}),))) == []


def test_names_of_properties_further_down_are_as_free_as_anthropic_leaves_them() -> None:
    schema: Any = {"properties": {"a.b-C_1": {"type": "object", "properties": {"名": {}, "first name": {}}}}}

    assert CLAUDE.faults(Shape("m", (Tool("g", schema, {"name": "g", "parameters": schema}),))) == []


def test_a_choice_among_some_tools_is_a_fault() -> None:
    choice: dict[str, Any] = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}

    (found,) = CLAUDE.faults(Shape("m", (TOOL,), choice))

    assert found.startswith("request.tool_choice: ")


def test_openai_chat_can_say_everything() -> None:
    assert DIALECTS["openai-chat"].faults(Shape("m", (TOOL,), "auto", {"logit_bias": {"1": 2}, "n": 3})) == []


# Answers and what they come to


def message(content: list[Any], stop_reason: str = "tool_use", **more: Any) -> dict[str, Any]:
    counts = {"input_tokens": 3, "output_tokens": 4}
    ends = {"stop_reason": stop_reason, "stop_sequence": None}
    whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content}
    return {**whole, **ends, "usage": counts, **more}


def use(input_: Any, name: str = "f") -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": input_}


def read(document: Any, *, tool: Tool = TOOL, repair: bool = True) -> Any:
    reply = decode(orjson.dumps(document))
    assert isinstance(reply, Reply)
    return Toolbox.of([tool]).read(reply, repair=repair, coerce=False, max_tokens=None)


@pytest.mark.parametrize("repair", [True, False])
def test_an_input_that_is_an_object_is_no_repair(repair: bool) -> None:
    reading = read(message([use({"city": "Paris"})]), repair=repair)

    assert (reading.status, reading.arguments, reading.repairs) == (Status.OK, {"city": "Paris"}, ())


def test_an_input_that_is_text_is_mended_and_recorded() -> None:
    reading = read(message([use('{"city": "Paris"}')]))

    assert (reading.status, reading.arguments, reading.repairs) == (Status.OK, {"city": "Paris"}, ("double_encoded",))


def test_the_empty_input_of_a_cut_answer_never_passes_for_a_call_without_arguments() -> None:
    free = Tool("f", {}, {"type": "function", "function": {"name": "f"}})

    reading = read(message([use({})], "max_tokens"), tool=free)

    assert (reading.status, reading.arguments) == (Status.TRUNCATED, None)


@pytest.mark.parametrize(
    ("stop_reason", "status", "words"),
    [
        ("max_tokens", Status.TRUNCATED, "token limit"),
        ("model_context_window_exceeded", Status.TRUNCATED, "context window"),
        ("pause_turn", Status.TRUNCATED, "paused"),
        ("refusal", Status.REFUSED, "refused"),
        ("end_turn", Status.NO_CALL, "in text"),
    ],
)
def test_the_vendors_words_for_an_end_are_understood(stop_reason: str, status: Status, words: str) -> None:
    reading = read(message([{"type": "text", "text": "Hm."}], stop_reason))

    assert reading.status is status
    assert words in (reading.error or "")


def test_integers_of_any_size_are_exact_to_the_end() -> None:
    numbers: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}}
    tool = Tool("f", numbers, {"type": "function", "function": {"name": "f", "parameters": numbers}})
    body = json.dumps(message([use({"n": 123456789012345678901234567890})])).encode()

    reply = decode(body)

    assert isinstance(reply, Reply)
    assert Toolbox.of([tool]).read(reply, repair=True, coerce=False, max_tokens=None).arguments == {
        "n": 123456789012345678901234567890
    }


def test_the_headers_of_anthropics_limits_are_read() -> None:
    assert {"anthropic-ratelimit-requests-reset", "anthropic-ratelimit-input-tokens-remaining"} <= HEADERS_READ


def test_a_body_beyond_the_cap_is_too_large() -> None:
    answer = CLAUDE.decode(HttpResponse(200, {}, b'{"type":"message","content":[{"ty', is_cut=True), now_s=0.0)

    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.TOO_LARGE


def test_a_stream_of_many_pieces_takes_no_more_than_linear_time() -> None:
    piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "abcdefgh"}}
    line = b"data: " + orjson.dumps(piece) + b"\n\n"
    end = b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n'

    answer = decode(line * 50_000 + end)

    assert isinstance(answer, Reply)
    assert len(answer.content or "") == 400_000


# Follow-ups

ASKED = Request(Shape("m", (TOOL,)), [USER])
PROBLEM = "at /city: 5 is not a string"


def test_a_follow_up_answers_the_call_in_anthropics_blocks() -> None:
    reply = decode(orjson.dumps(message([{"type": "text", "text": "Let me see."}, use({"city": 5})])))
    assert isinstance(reply, Reply)

    again = CLAUDE.reask(ASKED, reply, PROBLEM)

    said, told = sent(again.messages, again.shape)["messages"][1:]
    assert said == {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"city": 5}},
        ],
    }
    assert told["role"] == "user"
    assert told["content"][0]["tool_use_id"] == "toolu_1"
    assert told["content"][0]["content"].startswith(PROBLEM)


def test_a_follow_up_to_text_is_text() -> None:
    again = CLAUDE.reask(ASKED, Reply(content="Sunny."), "no function was called")

    assert [turn["role"] for turn in sent(again.messages)["messages"]] == ["user", "assistant", "user"]


def test_where_it_thinks_a_call_is_quoted_as_text_for_its_thoughts_are_gone() -> None:
    asked = Request(Shape("m", (TOOL,), "auto", {"thinking": {"type": "enabled", "budget_tokens": 1024}}), [USER])

    again: list[Any] = CLAUDE.reask(asked, Reply(calls=(RawCall("f", '{"city":5}', "toolu_1"),)), PROBLEM).messages

    assert again[1] == {"role": "assistant", "content": 'f({"city":5})'}
    assert again[2]["role"] == "user"


# Anything at all


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
# fmt: off
NAMES = [
    "id", "type", "role", "model", "content", "stop_reason", "stop_details", "explanation", "usage", "input_tokens",
    "cache_read_input_tokens", "output_tokens", "error", "message", "text", "name", "input", "partial_json", "index",
    "delta", "content_block", "choices", "tool_calls", "tool_call_id", "function", "function_call", "arguments",
    "image_url", "url", "file", "file_data", "file_id", "source", "refusal", "cache_control",
]
WORDS = [
    "message", "assistant", "user", "system", "tool", "function", "text", "tool_use", "message_start",
    "content_block_start", "content_block_delta", "message_delta", "text_delta", "input_json_delta", "error",
    "image_url", "file", "data:image/png;base64,AA", "data:,", "data:text/plain;base64,A", "tool_result",
]
# fmt: on
likely_values = st.recursive(
    json_values | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=25,
)
statuses = st.sampled_from([200, 204, 302, 400, 401, 402, 403, 404, 413, 429, 500, 503, 529, 99, 700])
moments = st.sampled_from(["0", "", "2024-05-01T12:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00"])
headers = st.dictionaries(st.sampled_from(sorted(HEADERS_READ)), moments | st.text(max_size=12))
bodies = st.binary(max_size=300) | likely_values.map(lambda value: json.dumps(value).encode())


@given(body=bodies, status=statuses, headers=headers)
def test_any_bytes_are_an_answer(body: bytes, status: int, headers: dict[str, str]) -> None:
    check_sane(CLAUDE.decode(HttpResponse(status, headers, body), now_s=0.0))


@given(content=likely_values, stop=likely_values, usage=likely_values)
def test_any_message_is_an_answer(content: Any, stop: Any, usage: Any) -> None:
    check_sane(
        decode(json.dumps({"type": "message", "content": content, "stop_reason": stop, "usage": usage}).encode())
    )


@given(events=st.lists(likely_values, max_size=6), prefix=st.sampled_from([b"data: ", b"data:", b"", b": "]))
def test_any_stream_is_an_answer(events: list[Any], prefix: bytes) -> None:
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}

    check_sane(decode(b"".join(prefix + json.dumps(event).encode() + b"\n\n" for event in [*events, end])))


@given(path=st.sampled_from(GOLDEN), data=st.data())
def test_any_damaged_answer_is_an_answer(path: Path, data: st.DataObject) -> None:
    written = json.loads(path.read_text(encoding="utf-8"))["response"].get("body", "")
    whole = written.encode() if isinstance(written, str) else json.dumps(written).encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    noise = data.draw(st.binary(max_size=6) | st.sampled_from([b"\xef\xbb\xbf", b"\x1f\x8b", b"\\ud800", b"[" * 200]))

    check_sane(decode(whole[:start] + noise + whole[end:]))


@given(
    messages=st.lists(st.dictionaries(st.sampled_from(NAMES), likely_values, max_size=5) | likely_values, max_size=4)
)
def test_any_messages_make_a_request(messages: list[Any]) -> None:
    body = json.loads(CLAUDE.encode(Request(Shape("m"), messages)).body)

    assert isinstance(body["messages"], list)


@given(
    parameters=st.dictionaries(
        st.sampled_from(["stop", "user", "metadata", "thinking", "max_tokens", "temperature", "reasoning_effort",
                         "response_format", "functions", "function_call", "n", "service_tier", "system", "logit_bias"]),
        likely_values,
    ),
    choice=likely_values,
    written=st.dictionaries(st.sampled_from([*NAMES, "parameters", "input_schema", "strict"]), likely_values),
)  # fmt: skip
def test_any_shape_makes_a_request_and_a_list_of_faults(parameters: Any, choice: Any, written: Any) -> None:
    shape = Shape("m", (Tool("f", {}, written),), choice, parameters)

    assert json.loads(CLAUDE.encode(Request(shape, [USER])).body)["model"] == "m"
    assert all(fault.startswith(("request.", "tool.")) for fault in CLAUDE.faults(shape))


texts = st.text(max_size=30).filter(lambda text: text.strip() != "")
inputs = st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.text(max_size=8), min_size=1, max_size=3)
blocks = st.lists(
    texts.map(lambda text: {"type": "text", "text": text})
    | st.builds(lambda input_, name: use(input_, name), inputs, st.sampled_from(["f", "g"])),
    min_size=1,
    max_size=4,
)


@given(content=blocks, data=st.data(), space=st.sampled_from(["", " "]), end=st.sampled_from(["\n\n", "\r\n\r\n"]))
def test_a_stream_means_what_the_whole_answer_would(
    content: list[Any], data: st.DataObject, space: str, end: str
) -> None:
    whole = message(content, "end_turn")

    streamed = decode(as_stream(whole, lambda text: data.draw(pieces(text)), space, end))

    assert streamed == decode(orjson.dumps(whole))


@given(content=blocks, data=st.data())
def test_a_stream_cut_anywhere_before_its_end_is_no_answer(content: list[Any], data: st.DataObject) -> None:
    stream = as_stream(message(content, "end_turn"), lambda text: [text], " ", "\n\n")

    answer = decode(stream[: data.draw(st.integers(0, stream.index(b'"message_delta"')))])

    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.UNREADABLE


def as_stream(whole: dict[str, Any], cut: Callable[[str], list[str]], space: str, end: str) -> bytes:
    """The events of a message, its texts in pieces."""
    usage = {"input_tokens": whole["usage"]["input_tokens"], "output_tokens": 1}
    events = [{"type": "message_start", "message": {**whole, "content": [], "stop_reason": None, "usage": usage}}]
    for index, block in enumerate(whole["content"]):
        events += block_events(index, block, cut)
    last = {"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"]}, "usage": {"output_tokens": 4}}
    events += [last, {"type": "message_stop"}]
    lines = [f"event: {event['type']}\ndata:{space}{orjson.dumps(event).decode()}{end}" for event in events]
    return "".join(lines).encode()


def block_events(index: int, block: dict[str, Any], cut: Callable[[str], list[str]]) -> list[dict[str, Any]]:
    if block["type"] == "text":
        begun = {**block, "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in cut(block["text"])]
    else:
        begun = {**block, "input": {}}
        text = orjson.dumps(block["input"]).decode()
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in cut(text)]
    return [
        {"type": "content_block_start", "index": index, "content_block": begun},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def pieces(text: str) -> st.SearchStrategy[list[str]]:
    cuts = st.lists(st.integers(0, len(text)), max_size=4).map(lambda cuts: [0, *sorted(cuts), len(text)])
    return cuts.map(lambda cuts: [text[start:end] for start, end in pairwise(cuts)])


def check_sane(answer: Reply | Failure) -> None:
    if isinstance(answer, Failure):
        assert 0 < len(answer.message) <= 300
        assert answer.message.isprintable()
        assert answer.retry_after_s is None or 0 <= answer.retry_after_s <= 900
        return
    assert isinstance(answer.usage, Usage)
    said = [answer.content, answer.refusal, answer.model, answer.response_id, answer.finish_reason]
    said += [text for call in answer.calls for text in (call.name, call.arguments, call.id)]
    for text in filter(None, said):
        text.encode()  # a lone surrogate would keep the part from being written
    assert not any(call.is_object for call in answer.calls if not answer.repairs)


def decode(body: bytes, *, status: int = 200) -> Reply | Failure:
    return CLAUDE.decode(HttpResponse(status, {}, body), now_s=0.0)
