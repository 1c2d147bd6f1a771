"""What the openai-responses dialect promises: the same job as for chat completions, said in the vendor's own words."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.answers.arguments import Toolbox
from batchcall.base.errors import JobError
from batchcall.base.records import (
    Failure,
    FailureKind,
    HttpResponse,
    Json,
    RawCall,
    Reply,
    Request,
    Shape,
    Status,
    Tool,
)
from batchcall.dialects import DIALECTS
from batchcall.dialects.failures import HEADERS_READ
from batchcall.dialects.openai.strict_schema import MAX_PROPERTIES, MAX_VALUES, schema_faults
from documents import documented, faults_of

GOLDEN = Path(__file__).parent / "openai_responses"
CHAT_GOLDEN = Path(__file__).parent / "openai_chat"
RESPONSES = DIALECTS["openai-responses"]
CHAT = DIALECTS["openai-chat"]

SCHEMA: dict[str, Json] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STRICT: dict[str, Json] = {**SCHEMA, "additionalProperties": False}


def tool(name: str = "get_weather", schema: Any = None, **more: Any) -> Tool:
    parameters = SCHEMA if schema is None else schema
    written = {"type": "function", "function": {"name": name, "parameters": parameters, **more}}
    return Tool(name, parameters, written)


def ask(*messages: Any, tools: tuple[Tool, ...] = (), tool_choice: Json = None, **parameters: Any) -> Request:
    return Request(Shape("gpt-5.4", tools, tool_choice, parameters), list(messages) or [user("Hi")])


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def body_of(request: Request, protocol: str = "openai-responses") -> dict[str, Any]:
    """What is sent, once it is found to be right by the vendor's document."""
    body: dict[str, Any] = json.loads(DIALECTS[protocol].encode(request).body)
    assert faults_of(protocol, body) == []
    return body


# Every kind of request, in both protocols

CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}
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


def test_the_follow_up_of_a_wrong_call_is_one_that_the_vendor_allows() -> None:
    reply = Reply(calls=(RawCall("get_weather", '{"city":5}', "call_9"), RawCall("get_weather", "{}")), content="Hm.")

    body = body_of(RESPONSES.reask(ask(user("Weather?"), tools=(tool(),)), reply, "at /city: 5 is no string"))

    said, first, second, told, _ = body["input"][1:]
    assert said == {"role": "assistant", "content": "Hm."}
    assert first == {
        "type": "function_call",
        "call_id": "call_9",
        "name": "get_weather",
        "arguments": '{"city":5}',
    }
    assert told["type"] == "function_call_output"
    assert told["call_id"] == "call_9"
    assert told["output"].startswith("at /city: 5 is no string")
    assert second["call_id"] != "call_9"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("documented-*.json")), ids=lambda path: path.stem)
def test_a_documented_answer_can_be_followed_up(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    if "reply" not in case["expect"]:
        pytest.skip("it is no answer")
    body = case["response"]["body"]
    raw = body.encode() if isinstance(body, str) else orjson.dumps(body)
    reply = RESPONSES.decode(HttpResponse(200, {}, raw), now_s=0.0)
    assert isinstance(reply, Reply)

    assert body_of(RESPONSES.reask(ask(user("Hi")), reply, "no function was called"))


# What is sent, word by word


def sent(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(RESPONSES.encode(request).body)
    return body


def input_of(*messages: Any) -> list[Any]:
    items: list[Any] = sent(ask(*messages))["input"]
    return items


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


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "a"}, {"type": "input_text", "text": "a"}),
        ("a", {"type": "input_text", "text": "a"}),
        (
            {"type": "image_url", "image_url": "https://x/a.png"},
            {"type": "input_image", "image_url": "https://x/a.png", "detail": "auto"},
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, {"type": "input_file", "file_id": "file-1"}),
        (
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        ),
        ({"type": "input_text", "text": "a"}, {"type": "input_text", "text": "a"}),
        (
            {"type": "input_image", "file_id": "file-1", "detail": "high"},
            {"type": "input_image", "file_id": "file-1", "detail": "high"},
        ),
    ],
    ids=str,
)
def test_a_part_becomes_an_input_of_its_kind(part: Json, expected: Json) -> None:
    assert input_of(user([part])) == [{"role": "user", "content": [expected]}]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"city":"Paris"}', '{"city":"Paris"}'),
        ({"city": "Köln"}, '{"city":"Köln"}'),
        ({}, "{}"),
        ("", "{}"),
        (None, "{}"),
    ],
)
def test_the_arguments_of_an_earlier_call_are_sent_as_the_text_that_the_vendor_wants(arguments: Any, text: str) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}

    body = body_of(ask(user("Weather?"), {"role": "assistant", "content": None, "tool_calls": [call]}))

    assert body["input"][1]["arguments"] == text


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
    ],
    ids=lambda item: item.get("type", "message"),
)
def test_what_is_an_input_item_already_is_sent_as_written(item: dict[str, Any]) -> None:
    assert input_of(item, user("Hi")) == [item, user("Hi")]


def test_calls_and_their_results_find_each_other_without_ids() -> None:
    first, second = ({"function": {"name": name, "arguments": "{}"}} for name in "fg")

    items = input_of(
        user("x"),
        {"role": "assistant", "content": None, "tool_calls": [first, second]},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "function_call": {"name": "f", "arguments": ""}},
        {"role": "function", "name": "f", "content": "3"},
    )

    calls = [item["call_id"] for item in items if item.get("type") == "function_call"]
    assert len(set(calls)) == 3
    assert [item["call_id"] for item in items if item.get("type") == "function_call_output"] == calls
    assert items[-2]["arguments"] == "{}"


def test_the_result_of_a_custom_tool_is_one_of_its_kind() -> None:
    call = {"id": "c", "type": "custom", "custom": {"name": "run", "input": "1"}}

    items = input_of({"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "2"})

    assert items == [
        {"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "1"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "2"},
    ]


def test_a_participants_name_is_left_out_as_it_has_no_place_there() -> None:
    assert input_of({**user("Hi"), "name": "Ada"}) == [user("Hi")]


def test_values_that_orjson_cannot_write_are_sent_all_the_same() -> None:
    body = sent(ask(user("\ud83d"), odd=2**70))

    assert (body["odd"], body["input"][0]["content"]) == (2**70, "\ud83d")


messages = st.lists(
    st.dictionaries(
        st.sampled_from(["role", "content", "tool_calls", "function_call", "tool_call_id", "type", "refusal"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.sampled_from(["tool", "assistant", "user", "text", "f"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["type", "text", "function", "name", "arguments", "id", "custom", "file", "image_url"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=10,
        ),
        max_size=4,
    ),
    max_size=4,
)


@given(written=messages)
def test_whatever_a_row_brings_as_messages_can_be_encoded(written: list[Any]) -> None:
    assert isinstance(json.loads(RESPONSES.encode(Request(Shape("m"), written)).body)["input"], list)


@given(written=messages)
def test_encoding_leaves_the_messages_alone(written: list[Any]) -> None:
    before = json.dumps(written)

    RESPONSES.encode(Request(Shape("m"), written))

    assert json.dumps(written) == before


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


def test_all_faults_are_told_at_once() -> None:
    shape = ask(seed=7, n=2, tools=(tool(strict=True),)).shape

    paths = [fault.partition(": ")[0] for fault in RESPONSES.faults(shape)]

    assert paths == ["request.seed", "request.n", "tool.get_weather.parameters.additionalProperties"]


@pytest.mark.parametrize("dialect", [RESPONSES, CHAT], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("more", [{}, {"strict": False}, {"strict": None}])
def test_a_tool_that_is_not_strict_may_have_any_schema(dialect: Any, more: dict[str, Any]) -> None:
    loose = {"type": "object", "allOf": [{"type": "object"}], "properties": {"a": {"type": "object"}}}

    assert dialect.faults(ask(tools=(tool(schema=loose, **more),)).shape) == []


def at_a(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = at_a(schema)
    return schema


def many(count: int) -> dict[str, Any]:
    names = [f"p{number}" for number in range(count)]
    properties = {name: {"type": "string"} for name in names}
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


EMPTY = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (SCHEMA, "s.additionalProperties: must be false"),
        ({**STRICT, "additionalProperties": True}, "s.additionalProperties: must be false"),
        ({**STRICT, "required": []}, "s.required: lacks city"),
        ({**STRICT, "type": "array"}, "s.type: the root"),
        ({}, "s.type: the root"),
        ({"anyOf": [EMPTY]}, "s: a strict schema has no anyOf at its root"),
        (at_a({"type": "object", "properties": {}}), "s.properties.a.additionalProperties: must be false"),
        (at_a({"type": ["object", "null"]}), "s.properties.a.additionalProperties: must be false"),
        (at_a({"type": "array", "items": {"type": "object"}}), "s.properties.a.items.additionalProperties: must"),
        (at_a({"anyOf": [{"type": "null"}, {"type": "object"}]}), "s.properties.a.anyOf.1.additionalProperties: must"),
        ({**STRICT, "$defs": {"B": {"type": "object"}}}, "s.$defs.B.additionalProperties: must be false"),
        (at_a({"allOf": [{"type": "string"}]}), "s.properties.a.allOf: a strict schema has no allOf"),
        (at_a({"oneOf": [{"type": "string"}]}), "s.properties.a.oneOf: a strict schema has no oneOf; say anyOf"),
        (at_a({"not": {"type": "null"}}), "s.properties.a.not: "),
        (at_a({"type": "array", "items": {"type": "string"}, "uniqueItems": True}), "s.properties.a.uniqueItems: "),
        ({**STRICT, "patternProperties": {}}, "s.patternProperties: "),
        ({**STRICT, "dependentRequired": {}}, "s.dependentRequired: "),
        (nested(11), f"s{'.properties.a' * 10}: is nested 11 levels deep"),
        (
            at_a({"type": "array", "items": [{"allOf": []}]}),
            "s.properties.a.items.0.allOf: a strict schema has no allOf",
        ),
        (many(MAX_PROPERTIES + 1), "s: has 5,001 properties; a strict schema has 5,000 at most"),
        (at_a({"enum": list(range(MAX_VALUES + 1))}), "s: has 1,001 enum values"),
        (at_a({"const": "x" * 120_000}), "s: has 120,001 characters in its names and values"),
        (at_a({"enum": [f"{number:0100}" for number in range(251)]}), "s.properties.a.enum: beyond 250 values"),
    ],
    ids=lambda part: part[:40] if isinstance(part, str) else "",
)
def test_a_strict_schema_that_breaks_a_documented_rule_is_named_with_its_path(schema: Json, fault: str) -> None:
    (told,) = schema_faults(schema, "s")

    assert told.startswith(fault)


@pytest.mark.parametrize(
    "schema",
    [
        STRICT,
        EMPTY,
        None,
        nested(10),
        many(200),
        at_a({"anyOf": [{"type": "string", "pattern": "^a", "format": "date"}, {"type": "null"}]}),
        at_a({"type": "array", "items": {"$ref": "#/$defs/B"}, "minItems": 1, "maxItems": 3})
        | {"$defs": {"B": STRICT}},
        at_a({"$ref": "#"}),
        at_a({"type": "number", "minimum": 0, "multipleOf": 2, "description": "even", "title": "A"}),
    ],
)
def test_a_strict_schema_that_keeps_the_rules_has_no_fault(schema: Json) -> None:
    assert schema_faults(schema, "s") == []


schemas = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "string", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "anyOf", "required", "enum", "const", "$defs", "a"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(schema=schemas)
def test_any_schema_can_be_judged(schema: Any) -> None:
    assert all(isinstance(fault, str) for fault in schema_faults(schema, "s"))


# The same columns


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"status": "completed"}, Status.OK),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, Status.TRUNCATED),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, Status.FILTERED),
        ({"status": "incomplete"}, Status.TRUNCATED),
    ],
    ids=str,
)
def test_the_ending_of_a_response_decides_the_rows_status(answer: dict[str, Any], status: Status) -> None:
    reply = decode(orjson.dumps({"output": [CALLED], **answer}))

    assert isinstance(reply, Reply)
    assert TOOLBOX.read(reply, repair=True, coerce=False, max_tokens=None).status is status


def test_a_call_means_the_same_in_both_protocols() -> None:
    chat = {"choices": [{"message": {"tool_calls": [{**CALL}]}, "finish_reason": "tool_calls"}]}

    answers = [
        decode(orjson.dumps({"output": [CALLED], "status": "completed"})),
        CHAT.decode(HttpResponse(200, {}, orjson.dumps(chat)), now_s=0.0),
    ]

    readings = [TOOLBOX.read(answer, repair=True, coerce=False, max_tokens=None) for answer in answers]
    assert readings[0] == readings[1]


CALLED = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city":"Paris"}'}
TOOLBOX = Toolbox.of((tool(),))


def test_an_answer_that_a_relay_sends_in_the_other_protocol_says_so() -> None:
    reply = CHAT.decode(HttpResponse(200, {}, orjson.dumps({"output": [CALLED], "status": "completed"})), now_s=0.0)

    assert isinstance(reply, Reply)
    assert reply.repairs == ("other_protocol",)


# Failures


@pytest.mark.parametrize("path", sorted(CHAT_GOLDEN.glob("[0-9]*.json")), ids=lambda path: path.stem)
def test_a_failure_means_the_same_in_both_protocols(path: Path) -> None:
    written = json.loads(path.read_text(encoding="utf-8"))["response"]
    body = written.get("body", "")
    raw = base64.b64decode(written["body_base64"]) if "body_base64" in written else as_bytes(body)
    response = HttpResponse(written["status"], written.get("headers", {}), raw)

    assert RESPONSES.decode(response, now_s=0.0) == CHAT.decode(response, now_s=0.0)


def as_bytes(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


# Any answer at all


def decode(body: bytes, status: int = 200) -> Reply | Failure:
    return RESPONSES.decode(HttpResponse(status, {}, body), now_s=0.0)


WHOLE = [path.read_bytes() for path in sorted(GOLDEN.glob("*.json"))]
DOCUMENTS = [case["response"]["body"] for case in map(json.loads, WHOLE) if "body" in case["response"]]
STREAMS = [body for body in DOCUMENTS if isinstance(body, str) and "response." in body]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """The document with one value in it replaced, doubled or gone."""
    if not isinstance(document, dict | list) or not document or draw(st.integers(0, 4)) == 0:
        return draw(json_values)
    copy = document.copy()
    places = list(copy) if isinstance(copy, dict) else list(range(len(copy)))
    place = draw(st.sampled_from(places))
    way = draw(st.sampled_from(["within", "gone", "list", "twice"]))
    if way == "gone":
        del copy[place]
    elif way == "list":
        copy[place] = [copy[place]]
    elif way == "twice" and isinstance(copy, list):
        copy.insert(place, copy[place])
    else:
        copy[place] = draw(mutated(copy[place]))
    return copy


@given(data=st.data(), status=st.sampled_from([200, 400, 401, 429, 500, 503]))
def test_any_mutated_answer_is_an_answer(data: st.DataObject, status: int) -> None:
    whole = data.draw(st.sampled_from([body for body in DOCUMENTS if isinstance(body, dict)]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole = data.draw(mutated(whole))

    check_sane(decode(json.dumps(whole).encode(), status))
    check_sane(CHAT.decode(HttpResponse(status, {}, json.dumps(whole).encode()), now_s=0.0))


@given(data=st.data())
def test_any_mutated_stream_is_an_answer(data: st.DataObject) -> None:
    stream = data.draw(st.sampled_from(STREAMS))
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {") and line[-1] == "}"]
    events = data.draw(st.permutations(events)) if data.draw(st.booleans()) else data.draw(mutated(events))
    written = events if isinstance(events, list) else [events]

    check_sane(decode("".join(f"data: {json.dumps(event)}\n\n" for event in written).encode()))


@given(data=st.data())
def test_a_stream_cut_anywhere_is_no_answer(data: st.DataObject) -> None:
    case = json.loads((GOLDEN / "stream-output-left-out.json").read_bytes())
    stream: str = case["response"]["body"]
    end = data.draw(st.integers(0, stream.index('"type": "response.completed"')))

    answer = decode(stream[:end].encode())

    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.UNREADABLE


@given(arguments=st.text(max_size=40), text=st.text(max_size=40), data=st.data())
def test_a_stream_means_what_the_whole_answer_would(arguments: str, text: str, data: st.DataObject) -> None:
    call = {**CALLED, "arguments": arguments}
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    whole = {"id": "r", "model": "m", "status": "completed", "output": [call, message]}
    deltas = [
        *[delta("function_call_arguments", 0, piece) for piece in data.draw(pieces(arguments))],
        *[delta("output_text", 1, piece) | {"content_index": 0} for piece in data.draw(pieces(text))],
    ]
    added: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "output_index": 0, "item": {**call, "arguments": ""}},
        {"type": "response.output_item.added", "output_index": 1, "item": {**message, "content": []}},
    ]
    last = {"type": "response.completed", "response": {**whole, "output": data.draw(st.sampled_from([[], None]))}}

    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in [*added, *deltas, last])

    assert decode(stream.encode()) == decode(json.dumps(whole).encode())


def delta(kind: str, index: int, piece: str) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": piece}


def pieces(text: str) -> st.SearchStrategy[list[str]]:
    cuts = st.lists(st.integers(0, len(text)), max_size=3).map(lambda cuts: [0, *sorted(cuts), len(text)])
    return cuts.map(lambda cuts: [text[start:end] for start, end in pairwise(cuts)])


@pytest.mark.parametrize(
    "body",
    [b"data: {\n" * 20_000, b'data: {"type":"response.output_text.delta","delta":"a"}\n\n' * 5_000, b"[" * 500_000],
    ids=["open", "deltas", "brackets"],
)
def test_a_hostile_body_is_read_in_time(body: bytes) -> None:
    assert isinstance(decode(body), Failure)


def test_azures_minus_one_in_a_header_is_not_looked_at() -> None:
    assert not any(name.startswith("x-ratelimit-") for name in HEADERS_READ)


def check_sane(answer: Reply | Failure) -> None:
    if isinstance(answer, Failure):
        assert 0 < len(answer.message) <= 300
        assert answer.message.isprintable()
        assert answer.retry_after_s is None or 0 <= answer.retry_after_s <= 900
        return
    texts = [answer.content, answer.refusal, answer.model, answer.response_id, answer.finish_reason]
    texts += [text for call in answer.calls for text in (call.name, call.arguments, call.id)]
    for text in filter(None, texts):
        text.encode()  # a lone surrogate would keep the part from being written
