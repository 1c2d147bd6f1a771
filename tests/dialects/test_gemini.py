"""What the gemini dialect promises about requests, what cannot be said, follow-ups, and answers of any kind."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from answering import serving
from batchcall import run_job
from batchcall.answers.arguments import Toolbox
from batchcall.answers.read import max_tokens_of
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
from documents import documented, faults_by, faults_of
from running import TOOL, results, write_rows

GOLDEN = sorted((Path(__file__).parent / "gemini").glob("*.json"))
GEMINI = DIALECTS["gemini"]
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city"],
    "additionalProperties": False,
}
HELLO: list[Json] = [{"role": "user", "content": "Hello"}]
PIXEL = "iVBORw0KGgo="


# Requests


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


# Schemas

SCHEMAS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}, {"type": "object"}),
    ({"properties": {"a": {"const": "x"}}}, {"properties": {"a": {"enum": ["x"]}}}),
    ({"properties": {"a": True}}, {"properties": {"a": {}}}),
    ({"properties": {"a": {"allOf": [{"type": "string"}]}}}, {"properties": {"a": {"anyOf": [{"type": "string"}]}}}),
    (
        {"properties": {"a": {"items": [{"type": "string"}]}}},
        {"properties": {"a": {"prefixItems": [{"type": "string"}]}}},
    ),
    (
        {"properties": {"a": {"$ref": "#/definitions/A"}}, "definitions": {"A": {"type": "string"}}},
        {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "string"}}},
    ),
    (
        {"properties": {"a": {"$ref": "#/$defs/A", "description": "d"}}, "$defs": {"A": {"type": "string"}}},
        {
            "properties": {"a": {"description": "d", "anyOf": [{"$ref": "#/$defs/A"}]}},
            "$defs": {"A": {"type": "string"}},
        },
    ),
    ({"additionalProperties": {"const": 1}}, {"additionalProperties": {"enum": [1]}}),
    ({"properties": {"const": {"type": "string"}}}, {"properties": {"const": {"type": "string"}}}),
]


@pytest.mark.parametrize(("written", "said"), SCHEMAS, ids=[json.dumps(one)[:60] for one, _ in SCHEMAS])
def test_a_schema_is_said_in_words_that_gemini_knows(written: dict[str, Any], said: dict[str, Any]) -> None:
    shape = Shape("m", (tool("f", written),))

    (declaration,) = encoded(shape)["tools"][0]["functionDeclarations"]

    assert declaration["parametersJsonSchema"] == said
    assert GEMINI.faults(shape) == []


def test_what_only_narrows_a_value_is_sent_as_written() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"], "pattern": "^x", "minLength": 1, "format": "date", "default": None},
            "b": {"type": "array", "items": {"type": "integer", "multipleOf": 2}, "uniqueItems": True, "maxItems": 3},
            "c": {"oneOf": [{"type": "string"}, {"type": "boolean"}]},
        },
        "required": ["a"],
        "additionalProperties": False,
    }
    shape = Shape("m", (tool("f", schema),))

    assert encoded(shape)["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == schema
    assert GEMINI.faults(shape) == []


def test_a_schema_within_itself_below_an_optional_property_is_fine() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}, "v": {"type": "string"}}, "required": ["v"]}
    schema = {"properties": {"list": {"$ref": "#/$defs/N"}}, "required": ["list"], "$defs": {"N": node}}

    assert GEMINI.faults(Shape("m", (tool("f", schema),))) == []


# What cannot be said

TREE = {
    "properties": {"root": {"$ref": "#/$defs/N"}},
    "$defs": {"N": {"properties": {"kids": {"items": {"$ref": "#/$defs/N"}}}, "required": ["kids"]}},
}
SCHEMA_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"properties": {"a": {"not": {"type": "string"}}}}, "tool[0].parameters/properties/a/not: Gemini has no `not`"),
    ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, "tool[0].parameters/if: "),
    ({"properties": {"a": {"items": {"allOf": [{}, {}]}}}}, "tool[0].parameters/properties/a/items/allOf: "),
    ({"properties": {"a": {"anyOf": [{}, {"contains": {}}]}}}, "tool[0].parameters/properties/a/anyOf/1/contains: "),
    ({"properties": {"a": {"anyOf": [{}], "allOf": [{}]}}}, "tool[0].parameters/properties/a/allOf: Gemini takes one"),
    ({"properties": {"a": {"allOf": [{}, {}], "anyOf": [{}]}}}, "tool[0].parameters/properties/a/allOf: Gemini takes"),
    (
        {"properties": {"a": {"$ref": "#/$defs/A", "anyOf": [{"type": "string"}]}}, "$defs": {"A": {}}},
        "tool[0].parameters/properties/a/$ref: Gemini takes one of anyOf, $ref, allOf; merge them",
    ),
    (
        {"properties": {"a": {"allOf": [{"title": "T"}], "$ref": "#/$defs/A"}}, "$defs": {"A": {}}},
        "tool[0].parameters/properties/a/allOf: Gemini takes one of anyOf, $ref, allOf; merge them",
    ),
    ({"patternProperties": {"^a": {}}}, "tool[0].parameters/patternProperties: "),
    ({"$defs": {"A": {"propertyNames": {}}}}, "tool[0].parameters/$defs/A/propertyNames: "),
    ({"properties": {"a": False}}, "tool[0].parameters/properties/a: "),
    ({"properties": {"a": {"$ref": "#/properties/b"}}}, "tool[0].parameters/properties/a/$ref: Gemini follows"),
    ({"properties": {"a": {"$ref": "https://x.example/y"}}}, "tool[0].parameters/properties/a/$ref: Gemini follows"),
    (TREE, "tool[0].parameters/$defs/N/properties/kids/items/$ref: Gemini takes a schema within itself only"),
    ({"items": {"$ref": "#"}}, "tool[0].parameters/items/$ref: Gemini takes a schema within itself only"),
]


@pytest.mark.parametrize(("schema", "fault"), SCHEMA_FAULTS, ids=[json.dumps(one)[:60] for one, _ in SCHEMA_FAULTS])
def test_a_schema_that_cannot_be_said_is_named_with_its_place(schema: dict[str, Any], fault: str) -> None:
    faults = GEMINI.faults(Shape("m", (tool("f", schema),)))

    assert len(faults) == 1
    assert faults[0].startswith(fault)


def test_no_part_of_a_schema_that_cannot_be_said_is_left_out() -> None:
    schema: dict[str, Any] = {"allOf": [{"properties": {"a": {}}}], "anyOf": [{"required": ["a"]}]}

    (declaration,) = encoded(Shape("m", (tool("f", schema),)))["tools"][0]["functionDeclarations"]

    assert declaration["parametersJsonSchema"] == schema


FAULTS: list[tuple[str, dict[str, Json], str]] = [
    ("m", {"logit_bias": {"50256": -100}}, "request.logit_bias: Gemini does not take this parameter; remove it"),
    ("m", {"user": "u-1"}, "request.user: Gemini does not take this parameter; remove it"),
    ("m", {"parallel_tool_calls": False}, "request.parallel_tool_calls: "),
    ("m", {"service_tier": "flex"}, "request.service_tier: Gemini has tiers of its own"),
    ("m", {"metadata": {"a": "b"}}, "request.metadata: "),
    ("m", {"guided_json": {}}, "request.guided_json: Gemini does not take this parameter"),
    ("m", {"topK": 5}, "request.topK: Gemini has it in generationConfig; write it as request.generationConfig.topK"),
    ("m", {"thinking_config": {}}, "request.thinking_config: Gemini has it in generationConfig"),
    ("m", {"contents": []}, "request.contents: "),
    ("m", {"stop": ["1", "2", "3", "4", "5", "6"]}, "request.stop: Gemini takes 5 texts at most"),
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


# Messages


def test_turns_of_one_role_are_merged() -> None:
    messages: list[Json] = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
        {"role": "model", "content": "d"},
        {"role": "user", "content": "e"},
    ]

    assert encoded(Shape("m"), messages)["contents"] == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}, {"text": "d"}]},
        {"role": "user", "parts": [{"text": "e"}]},
    ]


def test_a_request_that_is_all_system_asks_with_it() -> None:
    body = encoded(Shape("m"), [{"role": "system", "content": "Say hi."}])

    assert body == {"contents": [{"role": "user", "parts": [{"text": "Say hi."}]}]}


def test_contents_in_geminis_own_form_pass_as_written() -> None:
    contents: list[Json] = [
        {"role": "user", "parts": [{"text": "a"}, {"fileData": {"fileUri": "gs://b/c.pdf"}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "QUJD"}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"a": 1}}}]},
    ]

    assert encoded(Shape("gemini-3-pro"), contents)["contents"] == contents


def test_a_content_without_a_role_is_the_users() -> None:
    contents = encoded(Shape("m"), [{"role": "", "parts": [{"text": "a"}]}])["contents"]

    assert contents == [{"role": "user", "parts": [{"text": "a"}]}]


PARTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "text", "text": "a"}, {"text": "a"}),
    ({"type": "refusal", "refusal": "no"}, {"text": "no"}),
    (
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
    ),
    (
        {"type": "image_url", "image_url": f"data:IMAGE/PNG;charset=x;base64,{PIXEL}"},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
    ),
    (
        {"type": "image_url", "image_url": {"url": "data:text/plain,a%20b"}},
        {"inlineData": {"mimeType": "text/plain", "data": base64.b64encode(b"a b").decode()}},
    ),
    (
        {"type": "image_url", "image_url": {"url": f"DATA:image/png;base64,{PIXEL}"}},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
    ),
    (
        {"type": "image_url", "image_url": {"url": "data:,x"}},
        {"inlineData": {"mimeType": "text/plain", "data": "eA=="}},
    ),
    (
        {"type": "image_url", "image_url": {"url": "https://x.example/a.JPG?size=1"}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.example/a.JPG?size=1"}},
    ),
    ({"type": "image_url", "image_url": {"url": "gs://b/c"}}, {"fileData": {"fileUri": "gs://b/c"}}),
    (
        {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "mp3"}},
        {"inlineData": {"mimeType": "audio/mp3", "data": PIXEL}},
    ),
    (
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PIXEL}", "filename": "a.pdf"}},
        {"inlineData": {"mimeType": "application/pdf", "data": PIXEL}},
    ),
    (
        {"type": "file", "file": {"file_data": PIXEL, "filename": "a.csv"}},
        {"inlineData": {"mimeType": "text/csv", "data": PIXEL}},
    ),
    (
        {"type": "file", "file": {"file_id": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
    ),
    (
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
    ),
]


@pytest.mark.parametrize(("written", "said"), PARTS, ids=[json.dumps(one)[:60] for one, _ in PARTS])
def test_a_part_is_said_in_geminis_words(written: dict[str, Any], said: dict[str, Any]) -> None:
    contents = encoded(Shape("m"), [{"role": "user", "content": [written, {"type": "text", "text": "?"}]}])["contents"]

    assert contents == [{"role": "user", "parts": [said, {"text": "?"}]}]


def quoted(name: str, arguments: Any, id_: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_calls_and_their_results_are_one_turn_each() -> None:
    messages: list[Json] = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [quoted("f", '{"a":1}', "c1"), quoted("g", "", "c2")]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"ok":true}'},
        {"role": "tool", "tool_call_id": "c2", "content": "sunny"},
        {"role": "user", "content": "And?"},
    ]

    assert encoded(Shape("m"), messages)["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
                {"functionCall": {"id": "c2", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "f", "response": {"ok": True}}},
                {"functionResponse": {"id": "c2", "name": "g", "response": {"output": "sunny"}}},
                {"text": "And?"},
            ],
        },
    ]


def test_a_legacy_call_and_its_result() -> None:
    messages: list[Json] = [
        *HELLO,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "[1, 2]"},
    ]

    assert encoded(Shape("m"), messages)["contents"][1:] == [
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "[1, 2]"}}}]},
    ]


@pytest.mark.parametrize(
    ("content", "response"),
    [
        (None, {}),
        ("", {}),
        ("{broken", {"output": "{broken"}),
        ("5", {"output": "5"}),
        ([{"type": "text", "text": '{"a":'}, {"type": "text", "text": "1}"}], {"a": 1}),
    ],
)
def test_a_result_is_an_object(content: Json, response: dict[str, Any]) -> None:
    contents = encoded(Shape("m"), [*HELLO, {"role": "tool", "name": "f", "content": content}])["contents"]

    assert contents[0]["parts"][1]["functionResponse"] == {"name": "f", "response": response}


def test_an_image_that_a_function_gave_back_stays_with_its_result() -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    messages: list[Json] = [*HELLO, {"role": "tool", "name": "f", "content": [{"type": "text", "text": "x"}, image]}]

    result = encoded(Shape("m"), messages)["contents"][0]["parts"][1]["functionResponse"]

    assert result["response"] == {"output": "x"}
    assert result["parts"] == [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}]


def test_arguments_beyond_64_bits_are_quoted_exactly() -> None:
    messages: list[Json] = [
        *HELLO,
        {"role": "assistant", "tool_calls": [quoted("f", '{"n":123456789012345678901}', "c")]},
    ]

    body = GEMINI.encode(Request(Shape("m"), messages)).body

    assert b'"args": {"n": 123456789012345678901}' in body or b'"args":{"n":123456789012345678901}' in body


def test_arguments_that_are_no_object_are_put_into_one() -> None:
    messages: list[Json] = [*HELLO, {"role": "assistant", "tool_calls": [quoted("f", '{"n":', "c")]}]

    assert encoded(Shape("m"), messages)["contents"][1]["parts"][0]["functionCall"]["args"] == {"arguments": '{"n":'}


def test_newer_models_get_their_calls_with_a_signature() -> None:
    messages: list[Json] = [
        *HELLO,
        {"role": "assistant", "tool_calls": [quoted("f", "{}", "a"), quoted("f", "{}", "b")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {
            "role": "assistant",
            "tool_calls": [{**quoted("f", "{}", "c"), "extra_content": {"google": {"thought_signature": "QUJD"}}}],
        },
    ]

    signatures = {
        model: [
            part.get("thoughtSignature")
            for content in encoded(Shape(model), messages)["contents"]
            for part in content["parts"]
            if "functionCall" in part
        ]
        for model in ("gemini-2.5-pro", "gemini-3-pro-preview", "gemini-pro-latest")
    }

    assert signatures == {
        "gemini-2.5-pro": [None, None, "QUJD"],
        "gemini-3-pro-preview": ["skip_thought_signature_validator", None, "QUJD"],
        "gemini-pro-latest": ["skip_thought_signature_validator", None, "QUJD"],
    }


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user"},
        {"role": "user", "content": ""},
        {"role": "user", "content": []},
        {"role": "user", "content": [5, None, {"type": "image_url"}, {"type": "file", "file": {}}]},
        {"role": "user", "content": {"a": 1}},
        {"role": "user", "content": 2**70},
        {"role": "user", "content": "\ud83d"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,\ud83d"}}]},
        {"role": "assistant", "tool_calls": [5, {"function": 5}, {}]},
        {"role": "assistant", "tool_calls": "x", "function_call": 5},
        {"role": "tool"},
        {"role": "narrator", "content": "x"},
        {"role": 5, "parts": "x"},
        "no message",
        None,
    ],
    ids=repr,
)
def test_odd_messages_are_sent_all_the_same(message: Any) -> None:
    json.loads(GEMINI.encode(Request(Shape("gemini-3-pro"), [message])).body)


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


# From an answer to a status


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("STOP", Status.OK),
        ("OTHER", Status.OK),
        ("MAX_TOKENS", Status.TRUNCATED),
        ("SAFETY", Status.FILTERED),
        ("RECITATION", Status.FILTERED),
        ("LANGUAGE", Status.FILTERED),
        ("BLOCKLIST", Status.FILTERED),
        ("PROHIBITED_CONTENT", Status.FILTERED),
        ("SPII", Status.FILTERED),
        ("IMAGE_SAFETY", Status.FILTERED),
        ("IMAGE_PROHIBITED_CONTENT", Status.FILTERED),
        ("MALFORMED_FUNCTION_CALL", Status.BAD_JSON),
        ("UNEXPECTED_TOOL_CALL", Status.UNKNOWN_TOOL),
    ],
)
def test_the_reason_decides_the_status(reason: str, status: Status) -> None:
    toolbox = Toolbox.of([tool("get_weather", WEATHER)])
    part = {"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}}
    reply = decode({"candidates": [{"content": {"parts": [part]}, "finishReason": reason}]})
    assert isinstance(reply, Reply)

    reading = toolbox.read(reply, repair=True, coerce=False, max_tokens=None)

    assert reading.status is status
    assert bool(reading.error) is (status is not Status.OK)
    assert reading.arguments == ({"city": "Paris"} if status is Status.OK else None)


@pytest.mark.parametrize("repair", [True, False])
def test_arguments_that_are_an_object_need_no_mending(repair: bool) -> None:
    toolbox = Toolbox.of([tool("get_weather", WEATHER)])
    part = {"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}}
    reply = decode({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]})
    assert isinstance(reply, Reply)

    reading = toolbox.read(reply, repair=repair, coerce=False, max_tokens=None)

    assert (reading.status, reading.repairs) == (Status.OK, ())


def test_arguments_in_pieces_never_pass_for_a_call_without_any() -> None:
    toolbox = Toolbox.of([tool("now", {"type": "object", "properties": {"zone": {"type": "string"}}})])
    pieces: Any = [{"jsonPath": "$.zone", "stringValue": "UTC"}]
    for said in ({"willContinue": True}, {"willContinue": True, "args": {}}, {"partialArgs": pieces}):
        written: Any = {"name": "now", **said}
        reply = decode({"candidates": [{"content": {"parts": [{"functionCall": written}]}, "finishReason": "STOP"}]})
        assert isinstance(reply, Reply)

        reading = toolbox.read(reply, repair=True, coerce=True, max_tokens=None)

        assert reading.status is Status.INVALID_ARGUMENTS
        assert reading.arguments is None


def test_arguments_that_are_a_text_are_mended_and_that_is_recorded() -> None:
    toolbox = Toolbox.of([tool("get_weather", WEATHER)])
    part = {"functionCall": {"name": "get_weather", "args": '{"city": "Paris"}'}}
    reply = decode({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]})
    assert isinstance(reply, Reply)

    reading = toolbox.read(reply, repair=True, coerce=False, max_tokens=None)

    assert (reading.arguments, reading.repairs) == ({"city": "Paris"}, ("double_encoded",))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"max_tokens": 5}, 5),
        ({"generationConfig": {"maxOutputTokens": 7}, "max_tokens": 5}, 7),
        ({"generationConfig": {"maxOutputTokens": True}}, None),
        ({"generationConfig": 5}, None),
    ],
)
def test_the_cap_on_an_answer_is_known_in_geminis_words_too(parameters: dict[str, Json], expected: int | None) -> None:
    assert max_tokens_of(Shape("m", parameters=parameters)) == expected


# Follow-ups


def test_a_follow_up_quotes_the_call_and_answers_it_with_the_problem() -> None:
    shape = Shape("gemini-3-pro", (tool("get_weather", WEATHER),))
    reply = Reply(calls=(RawCall("get_weather", '{"city":5}', "fc-1"),), content="Let me see.")

    again = GEMINI.reask(Request(shape, HELLO), reply, "at /city: 5 is no string")

    assert again.shape is shape
    said, told = encoded(shape, again.messages)["contents"][1:]
    assert said == {
        "role": "model",
        "parts": [
            {"text": "Let me see."},
            {
                "functionCall": {"id": "fc-1", "name": "get_weather", "args": {"city": 5}},
                "thoughtSignature": "skip_thought_signature_validator",
            },
        ],
    }
    (answer,) = told["parts"]
    assert answer["functionResponse"]["name"] == "get_weather"
    assert answer["functionResponse"]["id"] == "fc-1"
    assert answer["functionResponse"]["response"]["output"].startswith("at /city: 5 is no string")


def test_an_answer_in_text_is_followed_up_as_text() -> None:
    again = GEMINI.reask(Request(Shape("m"), HELLO), Reply(content="Sunny."), "no function was called")

    assert [content["role"] for content in encoded(Shape("m"), again.messages)["contents"]] == ["user", "model", "user"]


# Any answer at all

# fmt: off
NAMES = [
    "candidates", "content", "parts", "role", "text", "functionCall", "name", "args", "id", "thought", "index",
    "finishReason", "finishMessage", "usageMetadata", "promptTokenCount", "totalTokenCount", "modelVersion",
    "responseId", "promptFeedback", "blockReason", "error", "code", "status", "message", "details", "retryDelay",
    "violations", "quotaId", "reason", "choices", "delta",
]
# fmt: on
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["STOP", "38s"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)
statuses = st.sampled_from([200, 204, 307, 400, 401, 403, 404, 429, 499, 500, 503, 504])


@given(document=json_values, status=statuses, is_event=st.booleans())
def test_any_json_is_an_answer(document: Any, status: int, is_event: bool) -> None:
    body = json.dumps(document).encode()

    check_sane(GEMINI.decode(HttpResponse(status, {}, b"data: " + body if is_event else body), now_s=0.0))


@given(part=json_values, reason=json_values, usage=json_values)
def test_any_part_is_an_answer(part: Any, reason: Any, usage: Any) -> None:
    candidate = {"content": {"parts": [part, {"functionCall": part}]}, "finishReason": reason}

    check_sane(decode({"candidates": [candidate], "usageMetadata": usage}))


@given(path=st.sampled_from(GOLDEN), data=st.data())
def test_any_mutated_answer_is_an_answer(path: Path, data: st.DataObject) -> None:
    written = json.loads(path.read_text(encoding="utf-8"))["response"]
    document = written.get("body", "")
    if isinstance(document, dict | list):
        place = data.draw(st.sampled_from(places(document)))
        document = json.dumps(replaced(document, place, data.draw(json_values)))
    whole = base64.b64decode(written["body_base64"]) if "body_base64" in written else document.encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 20)))
    noise = data.draw(st.binary(max_size=6) | st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\\ud800", b"[" * 200]))

    check_sane(GEMINI.decode(HttpResponse(written["status"], {}, whole[:start] + noise + whole[end:]), now_s=0.0))


@given(texts=st.lists(st.text(max_size=5), min_size=1, max_size=6), form=st.sampled_from(["events", "list"]))
def test_a_stream_means_what_the_whole_answer_would_and_cut_off_is_none(texts: list[str], form: str) -> None:
    said = [{"content": {"parts": [{"text": text}]}, "index": 0} for text in texts]
    chunks = [{"responseId": "r", "candidates": [one]} for one in said]
    ended = [*chunks, {"candidates": [{"finishReason": "STOP", "index": 0}]}]

    whole, cut = (GEMINI.decode(HttpResponse(200, {}, as_stream(some, form)), now_s=0.0) for some in (ended, chunks))

    assert isinstance(whole, Reply)
    assert whole.content == "".join(texts)
    assert isinstance(cut, Failure)
    assert cut.kind is FailureKind.UNREADABLE


@given(
    messages=st.lists(json_values, max_size=4), parameters=st.dictionaries(st.text(max_size=5), json_values, max_size=3)
)
def test_any_messages_and_parameters_make_a_request(messages: Any, parameters: Any) -> None:
    GEMINI.encode(Request(Shape("gemini-3-pro", parameters=parameters), messages))
    GEMINI.faults(Shape("gemini-3-pro", parameters=parameters))


SCHEMA_WORDS = [
    "properties",
    "$defs",
    "definitions",
    "items",
    "anyOf",
    "allOf",
    "required",
    "$ref",
    "const",
    "not",
    "type",
]
schemas = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["#", "#/$defs/a", "#/definitions/type", "a", "type"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SCHEMA_WORDS, "a"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(schema=st.dictionaries(st.sampled_from(SCHEMA_WORDS), schemas, max_size=5))
def test_any_schema_can_be_looked_at(schema: Any) -> None:
    shape = Shape("m", (tool("f", schema),))

    assert all(fault.startswith("tool[0].parameters") for fault in GEMINI.faults(shape))
    GEMINI.encode(Request(shape, HELLO))


@pytest.mark.parametrize(
    "body",
    [
        b'{"candidates":[' + b'{"content":{"parts":[{"text":"a"}]}},' * 100_000 + b"]}",
        b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\n\n' * 50_000,
        b"[" + b"[{}]," * 100_000 + b"{}]",
        b"1" * 1_000_000,
    ],
    ids=["candidates", "chunks", "lists", "digits"],
)
def test_a_hostile_body_takes_no_more_than_linear_time(body: bytes) -> None:
    assert isinstance(GEMINI.decode(HttpResponse(200, {}, body), now_s=0.0), Failure)


# A job that changes nothing but its protocol

ARGUMENTS = {"name": "Ada", "age": 36, "languages": ["en"], "address": {"city": "London", "zip": None}}
ANSWERS: dict[str, Any] = {
    "openai-chat": {
        "id": "r-1",
        "model": "m-1",
        "choices": [
            {
                "message": {"tool_calls": [quoted("record_person", json.dumps(ARGUMENTS), "c-1")]},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    },
    "gemini": {
        "responseId": "r-1",
        "modelVersion": "m-1",
        "candidates": [
            {
                "content": {"parts": [{"functionCall": {"id": "c-1", "name": "record_person", "args": ARGUMENTS}}]},
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
    },
}


async def test_the_same_job_gives_the_same_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "k-123456")
    folders = {protocol: new_folder(tmp_path / protocol) for protocol in ANSWERS}
    rows = {protocol: await ran(folder, protocol, {}) for protocol, folder in folders.items()}

    (chat, _), (gemini, (asked,)) = rows["openai-chat"], rows["gemini"]
    varying = {"finish_reason", "request_hash", "endpoint", "latency_s", "wait_s", "finished_at", "calls"}
    assert {k: v for k, v in gemini.items() if k not in varying} == {k: v for k, v in chat.items() if k not in varying}
    assert gemini["status"] == "ok"
    assert gemini["arguments"] == ARGUMENTS
    assert gemini["repairs"] == []
    assert asked.path_qs == "/v1beta/models/gemini-2.5-flash:generateContent"
    assert asked.headers["x-goog-api-key"] == "k-123456"
    assert "Authorization" not in asked.headers


async def test_a_streaming_job_asks_for_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "k-123456")

    row, (asked,) = await ran(tmp_path, "gemini", {"stream": True}, query="?tenant=a")

    assert asked.path_qs == "/v1beta/models/gemini-2.5-flash:streamGenerateContent?tenant=a&alt=sse"
    assert row["status"] == "ok"


async def ran(
    folder: Path, protocol: str, request: dict[str, Any], query: str = ""
) -> tuple[dict[str, Any], list[Any]]:
    """The one row of a job in that protocol, and what its endpoint was asked."""
    asked: list[Any] = []
    write_rows(folder / "rows.jsonl", [{"text": "Ada, 36"}])
    (folder / "tool.json").write_text(json.dumps(TOOL))
    more = "\n".join(f"{name} = {json.dumps(value)}" for name, value in request.items())
    async with endpoint(ANSWERS[protocol], asked) as url:
        (folder / "job.toml").write_text(
            f'[input]\npath = "rows.jsonl"\n[endpoint]\nurl = "{url}{query}"\nprotocol = "{protocol}"\n'
            f'api_key = "env:SOME_KEY"\n[request]\nmodel = "gemini-2.5-flash"\nprompt = "{{{{ text }}}}"\n'
            f'temperature = 0\nmax_tokens = 500\n{more}\n[[tool]]\nfile = "tool.json"\n[output]\npath = "out"\n'
        )
        await run_job(folder / "job.toml")
    (row,) = results(folder / "out")
    return row, asked


def new_folder(path: Path) -> Path:
    path.mkdir()
    return path


@contextlib.asynccontextmanager
async def endpoint(answer: Any, asked: list[Any]) -> AsyncIterator[str]:
    async def handle(request: web.BaseRequest) -> web.Response:
        asked.append(request)
        body = orjson.dumps(answer)
        if "alt=sse" in request.path_qs:
            return web.Response(body=b"data: " + body + b"\r\n\r\n", content_type="text/event-stream")
        return web.Response(body=body, content_type="application/json")

    async with serving(handle) as url:
        yield f"{url}/v1beta"


# The vendor's own description


@documented
def test_every_whole_answer_of_ours_is_one_that_the_vendor_describes() -> None:
    """The goldens named for what Google documents hold to its description, so that they are no inventions of ours."""
    described = [path for path in GOLDEN if path.stem in ("call-plain", "call-several", "text-plain", "usage-thinking")]

    for path in described:
        answer = json.loads(path.read_text(encoding="utf-8"))["response"]["body"]
        assert faults_by("gemini", "GenerateContentResponse", answer) == []
    assert len(described) == 4


@documented
def test_the_vendors_description_is_at_hand_where_it_should_be() -> None:
    assert faults_of("gemini", {"contents": [], "temperature": 0})


def encoded(shape: Shape, messages: list[Json] = HELLO) -> Any:
    """The body as it is sent, held against the vendor's description where that is at hand."""
    body = orjson.loads(GEMINI.encode(Request(shape, messages)).body)
    assert faults_of("gemini", body) == []
    return body


def tool(name: str, parameters: dict[str, Any]) -> Tool:
    function = {"name": name, "description": "What it does.", "parameters": parameters}
    return Tool(name, parameters, {"type": "function", "function": function})


def decode(document: Any) -> Reply | Failure:
    return GEMINI.decode(HttpResponse(200, {}, json.dumps(document).encode()), now_s=0.0)


def as_stream(chunks: list[Any], form: str) -> bytes:
    if form == "list":
        return json.dumps(chunks).encode()
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)


def places(document: Any) -> list[tuple[Any, ...]]:
    """The path of every value in a document."""
    entries = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [(), *((key, *rest) for key, inner in entries for rest in places(inner))]


def replaced(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    key, *rest = place
    entries: Any = dict(document) if isinstance(document, dict) else list(document)
    entries[key] = replaced(document[key], tuple(rest), value)
    return entries


def check_sane(answer: Reply | Failure) -> None:
    if isinstance(answer, Failure):
        assert 0 < len(answer.message) <= 300
        assert answer.message.isprintable()
        assert answer.retry_after_s is None or 0 <= answer.retry_after_s <= 900
        return
    texts = [answer.content, answer.model, answer.response_id, answer.finish_reason]
    texts += [text for call in answer.calls for text in (call.name, call.arguments, call.id)]
    for text in filter(None, texts):
        text.encode()  # a lone surrogate would keep the part from being written
