"""What the openai-responses dialect promises about requests: the same job as in chat completions, in other words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking_responses import CALL, CHAT, RESPONSES, SCHEMA, STRICT, ask, body_of, sent, tool, user
from batchcall.base.errors import JobError
from batchcall.base.records import Json, Request, Shape, Tool
from batchcall.dialects import DIALECTS
from documents import documented, faults_of

# Every kind of request, in both protocols

ANSWERED = [
    user("Weather?"),
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "18 °C"},
]
PARTS: list[Json] = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}},
    {"type": "file", "file": {"file_id": "file-1"}},
]
JSON_FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "schema": STRICT, "strict": True}}
REQUESTS: dict[str, Request] = {
    "plain": ask({"role": "system", "content": "Be short."}, user("Hi")),
    "developer": ask({"role": "developer", "content": "Be short."}, user("Hi")),
    "tool": ask(tools=(tool(),), tool_choice={"type": "function", "function": {"name": "get_weather"}}),
    "strict tool": ask(tools=(tool(schema=STRICT, strict=True, description="The weather."),), tool_choice="required"),
    "tool without parameters": ask(
        tools=(Tool("now", {}, {"type": "function", "function": {"name": "now"}}),), tool_choice="auto"
    ),
    "answered call": ask(*ANSWERED, tools=(tool(),), tool_choice="none"),
    "words and a call": ask(user("Weather?"), {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}),
    "parts": ask(user(PARTS)),
    "system in parts": ask({"role": "system", "content": [{"type": "text", "text": "Be short."}]}, user("Hi")),
    "assistant in parts": ask(user("Hi"), {"role": "assistant", "content": [{"type": "text", "text": "Ho"}]}),
    "tool in parts": ask(
        *ANSWERED[:2], {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "18"}]}
    ),
    "refusal": ask(user("Hi"), {"role": "assistant", "content": None, "refusal": "No."}, user("Please.")),
    "older function call": ask(
        user("Weather?"),
        {"role": "assistant", "content": None, "function_call": CALL["function"]},
        {"role": "function", "name": "get_weather", "content": "18"},
    ),
    "sampling": ask(temperature=0, top_p=0.5, parallel_tool_calls=False, max_tokens=64),
    "reasoning": ask(reasoning_effort="low", verbosity="low", max_completion_tokens=64),
    "JSON": ask(response_format=JSON_FORMAT),
    "any JSON": ask(response_format={"type": "json_object"}),
    "who asks": ask(metadata={"team": "data"}, user="u", safety_identifier="s", service_tier="flex", store=True),
    "logprobs": ask(logprobs=True, top_logprobs=3),
    "stream": ask(stream=True, stream_options={"include_usage": True}),
    "neutral": ask(n=1, stop=None, seed=None, presence_penalty=0, frequency_penalty=0.0, logit_bias={}),
    "several tools": ask(
        tools=(tool(), tool("get_time")),
        tool_choice={
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required",
                "tools": [{"type": "function", "function": {"name": "get_time"}}],
            },
        },
    ),
}


@pytest.mark.parametrize("protocol", ["openai-chat", "openai-responses"])
@pytest.mark.parametrize("name", REQUESTS)
def test_the_vendors_description_allows_what_is_sent(name: str, protocol: str) -> None:
    assert DIALECTS[protocol].faults(REQUESTS[name].shape) == []
    assert body_of(REQUESTS[name], protocol)["model"] == "gpt-5.4"


@documented
@pytest.mark.parametrize(
    "wrong",
    [
        {"input": [{"role": "tool", "content": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": {"url": "x"}}]}]},
        {"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]},
        {"tools": [tool().written]},
        {"tools": [{"type": "function", "name": "f", "parameters": {}}]},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"max_output_tokens": 15},
        {"text": {"format": JSON_FORMAT}},
    ],
    ids=str,
)
def test_the_check_by_the_vendors_description_finds_what_is_wrong(wrong: dict[str, Any]) -> None:
    assert faults_of("openai-responses", {"model": "m", "input": "x", **wrong})


# What is sent, word by word


def test_nothing_is_kept_at_the_vendor_unless_the_job_asks_for_it() -> None:
    assert RESPONSES.encode(ask(user("Hi"))).body == (
        b'{"model":"gpt-5.4","input":[{"role":"user","content":"Hi"}],"store":false}'
    )
    assert sent(ask(store=True))["store"] is True
    assert sent(ask(store=None))["store"] is False


def test_a_request_goes_to_the_path_of_responses() -> None:
    assert RESPONSES.encode(ask()).path == "/responses"


def test_a_tool_means_the_same_as_in_chat_completions() -> None:
    body = sent(ask(tools=(tool(), tool("f", STRICT, strict=True), tool("g", strict=None))))

    assert body["tools"][0] == {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": False}
    assert [one["strict"] for one in body["tools"]] == [False, True, False]


def test_a_tool_in_any_other_form_is_sent_as_written() -> None:
    search = {"type": "web_search"}

    assert sent(ask(tools=(Tool("x", {}, search),)))["tools"] == [search]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", "auto"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "name": "f"}),
        ({"type": "function", "name": "f"}, {"type": "function", "name": "f"}),
        ({"type": "custom", "custom": {"name": "f"}}, {"type": "custom", "name": "f"}),
        ({"type": "web_search"}, {"type": "web_search"}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "name": "f"}]}},
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        ),
    ],
    ids=str,
)
def test_a_choice_is_said_without_its_shell(choice: Json, expected: Json) -> None:
    assert sent(ask(tools=(tool(),), tool_choice=choice))["tool_choice"] == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"max_tokens": 64}, {"max_output_tokens": 64}),
        ({"max_completion_tokens": 64, "max_tokens": 32}, {"max_output_tokens": 64}),
        ({"max_tokens": 32, "max_output_tokens": 64, "max_completion_tokens": 16}, {"max_output_tokens": 64}),
        ({"max_tokens": None}, {}),
        ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        (
            {"reasoning": {"summary": "auto"}, "reasoning_effort": "low"},
            {"reasoning": {"effort": "low", "summary": "auto"}},
        ),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, {"reasoning": {"effort": "high"}}),
        ({"response_format": {"type": "text"}}, {"text": {"format": {"type": "text"}}}),
        (
            {"response_format": JSON_FORMAT, "verbosity": "low"},
            {
                "text": {
                    "format": {"type": "json_schema", "name": "city", "schema": STRICT, "strict": True},
                    "verbosity": "low",
                }
            },
        ),
        ({"logprobs": True, "top_logprobs": 2}, {"include": ["message.output_text.logprobs"], "top_logprobs": 2}),
        (
            {"logprobs": True, "include": ["reasoning.encrypted_content"]},
            {"include": ["reasoning.encrypted_content", "message.output_text.logprobs"]},
        ),
        ({"logprobs": False}, {}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
        ({"stream_options": {"include_obfuscation": False}}, {"stream_options": {"include_obfuscation": False}}),
        ({"instructions": "Be short.", "top_k": 5}, {"instructions": "Be short.", "top_k": 5}),
        ({"n": 1, "stop": [], "logit_bias": {}, "presence_penalty": 0.0, "modalities": ["text"]}, {}),
        ({"function_call": {"name": "f"}}, {"tool_choice": {"type": "function", "name": "f"}}),
        (
            {"functions": [{"name": "f", "parameters": SCHEMA}]},
            {"tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}]},
        ),
    ],
    ids=str,
)
def test_a_parameter_is_said_in_the_words_of_responses(parameters: dict[str, Any], expected: dict[str, Any]) -> None:
    body = sent(ask(**parameters))

    assert {name: body[name] for name in body if name not in ("model", "input", "store")} == expected


def test_what_a_rows_own_body_says_is_left_to_the_endpoint_to_refuse() -> None:
    assert sent(ask(seed=7))["seed"] == 7
    assert sent(ask(input="x"))["input"] == [user("Hi")]


NAMES = [
    "response_format",
    "reasoning_effort",
    "reasoning",
    "text",
    "verbosity",
    "logprobs",
    "include",
    "stream_options",
    "max_tokens",
    "n",
    "stop",
    "functions",
    "function_call",
    "json_schema",
    "type",
    "function",
    "name",
    "parameters",
    "strict",
    "allowed_tools",
    "tools",
    "effort",
]
parameters = st.dictionaries(
    st.sampled_from(NAMES),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.sampled_from(["function", "allowed_tools", "json_schema"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
        max_leaves=10,
    ),
    max_size=5,
)


@given(said=parameters, written=parameters, choice=parameters)
def test_whatever_a_rows_body_says_can_be_encoded(said: Any, written: Any, choice: Any) -> None:
    shape = Shape("m", (Tool("f", {}, written),), choice or None, said)

    assert isinstance(json.loads(RESPONSES.encode(Request(shape, [user("Hi")])).body), dict)
    assert isinstance(RESPONSES.faults(shape) + CHAT.faults(shape), list)


# Headers


@pytest.mark.parametrize("dialect", [RESPONSES, CHAT], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (None, {"Authorization": "Bearer sk-1"}),
        ("api-key", {"api-key": "sk-1"}),
        ("header:api-key", {"api-key": "sk-1"}),
        ("none", {}),
    ],
)
def test_a_key_travels_in_the_header_that_the_job_asks_for(dialect: Any, auth: str, expected: dict[str, str]) -> None:
    constant = {"Content-Type": "application/json", "Accept": "application/json"}

    assert dialect.headers(auth=auth, key="sk-1") == constant | expected
    assert dialect.headers(auth=auth, key=None) == constant


def test_an_unknown_way_to_authenticate_is_an_error_of_the_job() -> None:
    with pytest.raises(JobError, match=r"endpoint\.auth"):
        RESPONSES.headers(auth="basic", key="k")


# Faults


@pytest.mark.parametrize(
    "parameters",
    [
        {"stop": ["a"]},
        {"seed": 7},
        {"n": 2},
        {"presence_penalty": 0.5},
        {"frequency_penalty": -1},
        {"logit_bias": {"50256": -100}},
        {"prediction": {"type": "content", "content": "x"}},
        {"modalities": ["text", "audio"]},
        {"web_search_options": {}},
        {"background": True},
        {"input": "x"},
        {"max_tokens": 15},
        {"max_output_tokens": 1},
    ],
    ids=str,
)
def test_what_responses_cannot_say_is_named_with_its_key(parameters: dict[str, Any]) -> None:
    (fault,) = RESPONSES.faults(ask(**parameters).shape)

    assert fault.startswith(f"request.{next(iter(parameters))}: ")
    assert CHAT.faults(ask(**parameters).shape) == []


def test_all_faults_are_reported_at_once() -> None:
    shape = ask(seed=7, n=2, tools=(tool(strict=True),)).shape

    paths = [fault.partition(": ")[0] for fault in RESPONSES.faults(shape)]

    assert paths == ["request.seed", "request.n", "tool.get_weather.parameters.additionalProperties"]
