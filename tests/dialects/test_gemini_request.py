"""What the gemini dialect promises about requests: parameters, tools, headers, and what cannot be said."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from asking_gemini import GEMINI, HELLO, WEATHER, encoded, tool
from batchcall.base.errors import JobError
from batchcall.base.records import Json, Request, Shape, Tool
from batchcall.dialects import DIALECTS
from documents import documented, faults_of


def test_the_smallest_request_says_nothing_but_its_text() -> None:
    http = GEMINI.encode(Request(Shape("gemini-2.5-flash"), HELLO))

    assert http.path == "/models/gemini-2.5-flash:generateContent"
    assert http.body == b'{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}'


def test_a_whole_request_is_said_in_geminis_words() -> None:
    shape = Shape(
        "gemini-2.5-flash",
        (tool("get_weather", WEATHER),),
        {"type": "function", "function": {"name": "get_weather"}},
        {"temperature": 0, "max_tokens": 100, "top_p": 0.5, "stop": "END", "seed": 7},
    )

    body = encoded(shape, [{"role": "system", "content": "Be brief."}, *HELLO])

    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "get_weather", "description": "What it does.", "parametersJsonSchema": WEATHER}
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}},
        "generationConfig": {
            "temperature": 0,
            "maxOutputTokens": 100,
            "topP": 0.5,
            "stopSequences": ["END"],
            "seed": 7,
        },
    }


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-flash", "/models/gemini-2.5-flash:generateContent"),
        ("models/gemini-2.5-flash", "/models/gemini-2.5-flash:generateContent"),
        ("tunedModels/mine-1", "/tunedModels/mine-1:generateContent"),
        ("google/gemini-2.5-pro", "/models/google%2Fgemini-2.5-pro:generateContent"),
        ("../../v1/secrets?x=1#y", "/models/..%2F..%2Fv1%2Fsecrets%3Fx%3D1%23y:generateContent"),
        ("models/../x", "/models/..%2Fx:generateContent"),
        ("models/", "/models/models%2F:generateContent"),
        ("模型", "/models/%E6%A8%A1%E5%9E%8B:generateContent"),
    ],
)
def test_a_model_names_a_place_and_nothing_beside_it(model: str, path: str) -> None:
    assert GEMINI.encode(Request(Shape(model), HELLO)).path == path


def test_a_stream_has_a_path_of_its_own_and_the_same_body() -> None:
    plain, streamed = (
        GEMINI.encode(Request(Shape("m", parameters=parameters), HELLO))
        for parameters in ({}, {"stream": True, "stream_options": {"include_usage": True}})
    )

    assert streamed.path == "/models/m:streamGenerateContent?alt=sse"
    assert streamed.body == plain.body


PARAMETERS: list[tuple[dict[str, Json], dict[str, Any]]] = [
    ({"max_completion_tokens": 5}, {"maxOutputTokens": 5}),
    ({"max_completion_tokens": 5, "max_tokens": 9}, {"maxOutputTokens": 5}),
    ({"max_tokens": 9, "max_completion_tokens": 5}, {"maxOutputTokens": 5}),
    ({"top_k": 40}, {"topK": 40}),
    ({"stop": ["a", "b"]}, {"stopSequences": ["a", "b"]}),
    ({"n": 2}, {"candidateCount": 2}),
    ({"presence_penalty": 0.1, "frequency_penalty": -0.1}, {"presencePenalty": 0.1, "frequencyPenalty": -0.1}),
    ({"logprobs": True, "top_logprobs": 3}, {"responseLogprobs": True, "logprobs": 3}),
    ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": WEATHER}}},
        {"responseMimeType": "application/json", "responseJsonSchema": WEATHER},
    ),
    ({"reasoning_effort": "low"}, {"thinkingConfig": {"thinkingBudget": 1024}}),
    ({"reasoning_effort": "none"}, {"thinkingConfig": {"thinkingBudget": 0}}),
    ({"modalities": ["text", "image"]}, {"responseModalities": ["TEXT", "IMAGE"]}),
    ({"generationConfig": {"topK": 3}, "top_k": 40, "seed": 1}, {"topK": 3, "seed": 1}),
    ({"generation_config": {"max_output_tokens": 3}, "max_tokens": 40}, {"maxOutputTokens": 3}),
    (
        {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}, "reasoning_effort": "high"},
        {"thinkingConfig": {"thinkingBudget": 24576, "includeThoughts": True}},
    ),
    (
        {"generation_config": {"response_json_schema": {"properties": {"a_b": {"type": "string"}}}}},
        {"responseJsonSchema": {"properties": {"a_b": {"type": "string"}}}},
    ),
]


@pytest.mark.parametrize(("parameters", "expected"), PARAMETERS, ids=[json.dumps(one) for one, _ in PARAMETERS])
def test_a_parameter_is_said_in_generation_config(parameters: dict[str, Json], expected: dict[str, Any]) -> None:
    shape = Shape("gemini-2.5-flash", parameters=parameters)

    assert encoded(shape)["generationConfig"] == expected
    assert GEMINI.faults(shape) == []


NEUTRAL: list[dict[str, Json]] = [
    {"logit_bias": {}},
    {"user": ""},
    {"parallel_tool_calls": True},
    {"service_tier": "auto"},
    {"stream_options": {"include_usage": True}},
    {"stream": False},
    {"response_format": {"type": "text"}},
    {"modalities": ["text"]},
    {"stop": []},
    {"temperature": None},
    {"unknown": None},
    {"verbosity": "medium"},
]


@pytest.mark.parametrize("parameters", NEUTRAL, ids=json.dumps)
def test_what_asks_for_nothing_is_not_sent(parameters: dict[str, Json]) -> None:
    shape = Shape("gemini-2.5-flash", parameters=parameters)

    assert list(encoded(shape)) == ["contents"]
    assert GEMINI.faults(shape) == []


def test_geminis_own_keys_pass_as_written() -> None:
    own: dict[str, Any] = {
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "cachedContent": "cachedContents/abc",
        "store": False,
    }

    body = encoded(Shape("m", parameters=own))

    assert {name: body[name] for name in own} == own


@pytest.mark.parametrize(
    "written", ["Own.", {"parts": [{"text": "Own."}]}, {"role": "user", "parts": [{"text": "Own."}]}]
)
@pytest.mark.parametrize("name", ["systemInstruction", "system_instruction"])
def test_the_jobs_own_system_instruction_stands_before_that_of_the_messages(name: str, written: Json) -> None:
    shape = Shape("m", parameters={name: written})

    alone = encoded(shape)
    both = encoded(shape, [{"role": "developer", "content": "More."}, *HELLO])

    assert alone["systemInstruction"] == {"parts": [{"text": "Own."}]}
    assert both["systemInstruction"] == {"parts": [{"text": "Own."}, {"text": "More."}]}


CHOICES: list[tuple[Json, dict[str, Any]]] = [
    ("auto", {"mode": "AUTO"}),
    ("required", {"mode": "ANY"}),
    ("none", {"mode": "NONE"}),
    ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ({"type": "function", "name": "f"}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    (
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
        },
        {"mode": "ANY", "allowedFunctionNames": ["f"]},
    ),
    (
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
    ),
]


@pytest.mark.parametrize(("choice", "expected"), CHOICES, ids=[json.dumps(one) for one, _ in CHOICES])
def test_a_tool_choice_is_a_mode_and_names(choice: Json, expected: dict[str, Any]) -> None:
    body = encoded(Shape("m", (tool("f", WEATHER), tool("g", WEATHER)), choice))

    assert body["toolConfig"] == {"functionCallingConfig": expected}


def test_the_jobs_own_tool_config_joins_the_choice() -> None:
    shape = Shape(
        "m",
        (tool("f", WEATHER),),
        "required",
        {"tool_config": {"function_calling_config": {"allowed_function_names": ["f"]}}},
    )

    config = encoded(shape)["toolConfig"]["functionCallingConfig"]

    assert config == {"mode": "ANY", "allowedFunctionNames": ["f"]}


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_without_tools_there_is_nothing_to_choose(choice: str) -> None:
    assert "toolConfig" not in encoded(Shape("m", tool_choice=choice))


def test_the_functions_of_old_batch_files_are_tools() -> None:
    parameters: dict[str, Json] = {
        "function_call": {"name": "f"},
        "functions": [{"name": "f", "description": "d", "parameters": WEATHER}],
    }

    body = encoded(Shape("m", parameters=parameters))

    assert body["tools"][0]["functionDeclarations"] == [
        {"name": "f", "description": "d", "parametersJsonSchema": WEATHER}
    ]
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["f"]}


@pytest.mark.parametrize("parameters", [{}, {"type": "object", "properties": {}}, None])
def test_a_function_without_parameters_has_no_schema(parameters: Any) -> None:
    written = {"type": "function", "function": {"name": "now", "parameters": parameters, "strict": True}}

    body = encoded(Shape("m", (Tool("now", parameters or {}, written),)))

    assert body["tools"] == [{"functionDeclarations": [{"name": "now"}]}]


def test_two_shapes_that_say_the_same_are_not_mixed_up() -> None:
    first, second = Shape("m", parameters={"seed": 1}), Shape("m", parameters={"seed": 2})

    seeds = [encoded(shape)["generationConfig"]["seed"] for shape in (first, second, first)]

    assert seeds == [1, 2, 1]


# What cannot be said

FAULTS: list[tuple[str, dict[str, Json], str]] = [
    ("m", {"logit_bias": {"50256": -100}}, "request.logit_bias: Gemini does not accept this parameter; remove it"),
    ("m", {"user": "u-1"}, "request.user: Gemini does not accept this parameter; remove it"),
    ("m", {"parallel_tool_calls": False}, "request.parallel_tool_calls: "),
    ("m", {"service_tier": "flex"}, "request.service_tier: Gemini has tiers of its own"),
    ("m", {"metadata": {"a": "b"}}, "request.metadata: "),
    ("m", {"guided_json": {}}, "request.guided_json: Gemini does not accept this parameter"),
    ("m", {"topK": 5}, "request.topK: Gemini has it in generationConfig; write it as request.generationConfig.topK"),
    ("m", {"thinking_config": {}}, "request.thinking_config: Gemini has it in generationConfig"),
    ("m", {"contents": []}, "request.contents: "),
    ("m", {"stop": ["1", "2", "3", "4", "5", "6"]}, "request.stop: Gemini accepts at most 5 strings"),
    ("m", {"seed": 2**31}, "request.seed: "),
    ("m", {"response_format": {"type": "grammar"}}, "request.response_format: "),
    (
        "m",
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}},
        "request.response_format.json_schema.schema/not: ",
    ),
    ("gemini-3-pro-preview", {"reasoning_effort": "none"}, "request.reasoning_effort: gemini-3-pro-preview has no"),
    ("gemini-2.5-pro", {"reasoning_effort": "none"}, "request.reasoning_effort: gemini-2.5-pro has no effort"),
    ("gemini-2.0-flash", {"reasoning_effort": "low"}, "request.reasoning_effort: gemini-2.0-flash does not think"),
    (
        "m",
        {"toolConfig": {"functionCallingConfig": {"streamFunctionCallArguments": True}}},
        "request.toolConfig.functionCallingConfig.streamFunctionCallArguments: ",
    ),
]


@pytest.mark.parametrize(("model", "parameters", "fault"), FAULTS, ids=[json.dumps(one)[:60] for _, one, _ in FAULTS])
def test_a_parameter_that_cannot_be_said_is_named_with_what_to_do(
    model: str, parameters: dict[str, Json], fault: str
) -> None:
    faults = GEMINI.faults(Shape(model, parameters=parameters))

    assert len(faults) == 1
    assert faults[0].startswith(fault)
    assert "; " in faults[0]


def test_a_name_that_gemini_refuses_is_a_fault() -> None:
    faults = GEMINI.faults(Shape("m", (tool("f", WEATHER), tool("1st", WEATHER))))

    assert faults == ["tool[1].name: '1st' must begin with a letter or _, for Gemini; rename the tool"]


def test_a_choice_of_another_kind_is_a_fault() -> None:
    faults = GEMINI.faults(Shape("m", (tool("f", WEATHER),), {"type": "custom"}))

    assert len(faults) == 1
    assert faults[0].startswith("request.tool_choice: ")


@pytest.mark.parametrize(("model", "expected"), [("gemini-2.5-flash", 1), ("gemini-3-flash-preview", 0)])
def test_a_format_beside_tools_is_a_fault_for_models_that_refuse_both(model: str, expected: int) -> None:
    shape = Shape(model, (tool("f", WEATHER),), parameters={"response_format": {"type": "json_object"}})

    assert len(GEMINI.faults(shape)) == expected


def test_what_cannot_be_said_is_not_dropped_unsaid() -> None:
    http = GEMINI.encode(Request(Shape("m", parameters={"logit_bias": {"1": 2}}), HELLO))

    assert orjson.loads(http.body)["logit_bias"] == {"1": 2}


def test_chat_completions_can_say_everything() -> None:
    assert DIALECTS["openai-chat"].faults(Shape("m", parameters={"logit_bias": {"1": 2}, "anything": 1})) == []


@pytest.mark.parametrize(
    ("model", "level"),
    [("gemini-3-pro-preview", "HIGH"), ("gemini-3.1-flash-lite", "HIGH"), ("gemini-flash-latest", "HIGH")],
)
def test_newer_models_think_by_level(model: str, level: str) -> None:
    shape = Shape(model, parameters={"reasoning_effort": "high"})

    assert encoded(shape)["generationConfig"] == {"thinkingConfig": {"thinkingLevel": level}}


# Headers


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (None, {"x-goog-api-key": "k-1"}),
        ("x-goog-api-key", {"x-goog-api-key": "k-1"}),
        ("bearer", {"Authorization": "Bearer k-1"}),
        ("none", {}),
        ("header:X-Own", {"X-Own": "k-1"}),
    ],
)
def test_a_key_travels_in_a_header(auth: str | None, expected: dict[str, str]) -> None:
    headers = GEMINI.headers(auth=auth, key="k-1")

    assert headers == {"Content-Type": "application/json", "Accept": "application/json", **expected}


def test_an_unknown_way_to_authenticate_is_an_error_of_the_job() -> None:
    with pytest.raises(JobError, match=r"endpoint\.auth"):
        GEMINI.headers(auth="query", key="k-1")


# The vendor's own description


@documented
def test_the_vendors_description_is_at_hand_where_it_should_be() -> None:
    assert faults_of("gemini", {"contents": [], "temperature": 0})
