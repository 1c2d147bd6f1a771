"""What the anthropic dialect promises about requests: headers, tools, parameters, and what cannot be said."""

from __future__ import annotations

from typing import Any

import pytest

from asking_claude import CLAUDE, MARK, SCHEMA, TOOL, USER, sent, sent_with
from batchcall.base.records import Shape, Tool
from batchcall.dialects import DIALECTS
from batchcall.dialects.anthropic.request import DEFAULT_MAX_TOKENS
from documents import documented, faults_of

# The vendor's own schema of a request


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
        ({"logit_bias": {"1": 2}}, "request.logit_bias: Anthropic does not accept this parameter; remove it"),
        ({"n": 2}, "request.n: Anthropic gives one answer per request; remove it"),
        ({"seed": 7}, "request.seed: "),
        ({"logprobs": True}, "request.logprobs: "),
        ({"presence_penalty": 0.5}, "request.presence_penalty: "),
        ({"frequency_penalty": 0.5}, "request.frequency_penalty: "),
        ({"temperature": 1.5}, "request.temperature: Anthropic accepts 0 to 1; "),
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


def test_every_fault_is_reported_at_once() -> None:
    faults = CLAUDE.faults(Shape("m", parameters={"seed": 7, "temperature": 2, "n": 3}))

    assert [fault.split(":")[0] for fault in faults] == ["request.seed", "request.temperature", "request.n"]


@pytest.mark.parametrize("parameters", [{}, {"temperature": 1}, {"n": 1}, {"seed": None}, {"stop": ["END"]}])
def test_what_anthropic_can_do_is_not_a_fault(parameters: dict[str, Any]) -> None:
    assert CLAUDE.faults(Shape("m", (TOOL,), "required", parameters)) == []


def test_a_call_cannot_be_forced_while_it_thinks() -> None:
    thinking: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "temperature": 0, "top_k": 3}
    thinking["top_p"] = 0.9

    paths = [fault.split(":")[0] for fault in CLAUDE.faults(Shape("m", (TOOL,), "required", thinking))]

    assert paths == ["request.tool_choice", "request.temperature", "request.top_k", "request.top_p"]
    assert CLAUDE.faults(Shape("m", (TOOL,), "auto", {"thinking": {"type": "enabled"}, "top_p": 0.95})) == []
    assert CLAUDE.faults(Shape("m", (TOOL,), "auto", {"top_p": 0.9})) == []


def test_a_choice_among_some_tools_is_a_fault() -> None:
    choice: dict[str, Any] = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}

    (found,) = CLAUDE.faults(Shape("m", (TOOL,), choice))

    assert found.startswith("request.tool_choice: ")


def test_openai_chat_can_say_everything() -> None:
    assert DIALECTS["openai-chat"].faults(Shape("m", (TOOL,), "auto", {"logit_bias": {"1": 2}, "n": 3})) == []
