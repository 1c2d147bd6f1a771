"""The vendors' own clients as oracles of what is sent: for the same call they post the same body to the same path.

The call is written twice: once as a job writes it, in the chat-completions form, and once per vendor as its
documentation teaches it to users of its client.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from answering import serving
from batchcall.base.records import Request, Shape, Tool
from batchcall.dialects import DIALECTS
from batchcall.http.transport import open_transport
from batchcall.job.sections import PROTOCOLS

Body = dict[str, Any]
Call = Callable[[str], None]  # made by an SDK against the endpoint at this root

SCHEMA: Body = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
    "required": ["city"],
}
CLOSED: Body = {**SCHEMA, "additionalProperties": False}
FUNCTION: Body = {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA}
TOOL = Tool("get_weather", SCHEMA, {"type": "function", "function": FUNCTION})
CALLED: Body = {"name": "get_weather", "arguments": '{"city":"Paris"}'}
PIXEL = "iVBORw0KGgo="
CAP = {"max_completion_tokens": 100}

# As a job says it

REQUESTS: Mapping[str, Request] = {
    "a forced tool": Request(
        Shape("m-1", (TOOL,), {"type": "function", "function": {"name": "get_weather"}}, {"temperature": 0.5, **CAP}),
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather in Paris?"}],
    ),
    "a tool's result": Request(
        Shape("m-1", (TOOL,), "required", CAP),
        [
            {"role": "user", "content": "Weather in Paris?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": CALLED}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "18 °C"},
        ],
    ),
    "an image": Request(
        Shape("m-1", parameters=CAP),
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
                ],
            }
        ],
    ),
    "JSON, streamed": Request(
        Shape(
            "m-1",
            parameters={
                **CAP,
                "stream": True,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "place", "schema": CLOSED, "strict": True},
                },
            },
        ),
        [{"role": "user", "content": "Paris"}],
    ),
}

# As each vendor's users say it


def openai_client(root: str) -> Any:
    openai = pytest.importorskip("openai", reason="the openai package is not installed")
    return openai.OpenAI(base_url=f"{root}/v1", api_key="k-1", max_retries=0)


def chat(**call: Any) -> Call:
    def ask(root: str) -> None:
        with openai_client(root) as client:
            client.chat.completions.create(model="m-1", max_completion_tokens=100, **call)

    return ask


def responses(**call: Any) -> Call:
    def ask(root: str) -> None:
        with openai_client(root) as client:
            client.responses.create(model="m-1", max_output_tokens=100, store=False, **call)

    return ask


def anthropic(**call: Any) -> Call:
    def ask(root: str) -> None:
        sdk = pytest.importorskip("anthropic", reason="the anthropic package is not installed")
        with sdk.Anthropic(base_url=root, api_key="k-1", max_retries=0) as client:
            client.messages.create(model="m-1", max_tokens=100, **call)

    return ask


def gemini(make: Callable[[Any], tuple[Any, Body]], *, is_stream: bool = False) -> Call:
    """`make` is given the SDK's types, and gives the contents and the configuration."""

    def ask(root: str) -> None:
        genai = pytest.importorskip("google.genai", reason="the google-genai package is not installed")
        contents, config = make(genai.types)
        client = genai.Client(api_key="k-1", vertexai=False, http_options={"base_url": root, "api_version": "v1beta"})
        asked = {"model": "m-1", "contents": contents, "config": {"max_output_tokens": 100, **config}}
        if is_stream:
            list(client.models.generate_content_stream(**asked))
        else:
            client.models.generate_content(**asked)
        client.close()

    return ask


FLAT = {"type": "function", **FUNCTION, "strict": False}
CLAUDE = {"name": "get_weather", "description": "The weather.", "input_schema": SCHEMA}
DECLARED = [{"function_declarations": [{**FUNCTION, "parameters_json_schema": SCHEMA}]}]
del DECLARED[0]["function_declarations"][0]["parameters"]

SDK_CALLS: Mapping[str, Mapping[str, Call]] = {
    "a forced tool": {
        "openai-chat": chat(
            messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather in Paris?"}],
            tools=[{"type": "function", "function": FUNCTION}],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
            temperature=0.5,
        ),
        "openai-responses": responses(
            input=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather in Paris?"}],
            tools=[FLAT],
            tool_choice={"type": "function", "name": "get_weather"},
            temperature=0.5,
        ),
        "anthropic": anthropic(
            system="Be brief.",
            messages=[{"role": "user", "content": "Weather in Paris?"}],
            tools=[CLAUDE],
            tool_choice={"type": "tool", "name": "get_weather"},
            extra_body={"temperature": 0.5},  # for models before those that think of it themselves
        ),
        "gemini": gemini(
            lambda types: (
                "Weather in Paris?",
                {
                    "system_instruction": "Be brief.",
                    "tools": DECLARED,
                    "tool_config": {
                        "function_calling_config": {"mode": "ANY", "allowed_function_names": ["get_weather"]}
                    },
                    "temperature": 0.5,
                },
            )
        ),
    },
    "a tool's result": {
        "openai-chat": chat(
            messages=[
                {"role": "user", "content": "Weather in Paris?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "call_1", "type": "function", "function": CALLED}],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "18 °C"},
            ],
            tools=[{"type": "function", "function": FUNCTION}],
            tool_choice="required",
        ),
        "openai-responses": responses(
            input=[
                {"role": "user", "content": "Weather in Paris?"},
                {"type": "function_call", "call_id": "call_1", **CALLED},
                {"type": "function_call_output", "call_id": "call_1", "output": "18 °C"},
            ],
            tools=[FLAT],
            tool_choice="required",
        ),
        "anthropic": anthropic(
            messages=[
                {"role": "user", "content": "Weather in Paris?"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Paris"}}
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "18 °C"}],
                },
            ],
            tools=[CLAUDE],
            tool_choice={"type": "any"},
        ),
        "gemini": gemini(
            lambda types: (
                [
                    types.Content(role="user", parts=[types.Part(text="Weather in Paris?")]),
                    types.Content(
                        role="model",
                        parts=[
                            types.Part(
                                function_call=types.FunctionCall(
                                    id="call_1", name="get_weather", args={"city": "Paris"}
                                )
                            )
                        ],
                    ),
                    types.Content(
                        role="user",
                        parts=[
                            types.Part(
                                function_response=types.FunctionResponse(
                                    id="call_1", name="get_weather", response={"output": "18 °C"}
                                )
                            )
                        ],
                    ),
                ],
                {"tools": DECLARED, "tool_config": {"function_calling_config": {"mode": "ANY"}}},
            )
        ),
    },
    "an image": {
        "openai-chat": chat(
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
                    ],
                }
            ]
        ),
        "openai-responses": responses(
            input=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What is this?"},
                        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
                    ],
                }
            ]
        ),
        "anthropic": anthropic(
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                    ],
                }
            ]
        ),
        "gemini": gemini(
            lambda types: (
                ["What is this?", types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")],
                {},
            )
        ),
    },
    "JSON, streamed": {
        "openai-chat": chat(
            messages=[{"role": "user", "content": "Paris"}],
            stream=True,
            stream_options={"include_usage": True},  # else a stream tells none, so we always ask
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "place", "schema": CLOSED, "strict": True},
            },
        ),
        "openai-responses": responses(
            input=[{"role": "user", "content": "Paris"}],
            stream=True,
            text={"format": {"type": "json_schema", "name": "place", "schema": CLOSED, "strict": True}},
        ),
        "anthropic": anthropic(
            messages=[{"role": "user", "content": "Paris"}],
            stream=True,
            output_config={"format": {"type": "json_schema", "schema": CLOSED}},
        ),
        "gemini": gemini(
            lambda types: (
                "Paris",
                {"response_mime_type": "application/json", "response_json_schema": CLOSED},
            ),
            is_stream=True,
        ),
    },
}

# What differs and says the same. Nothing else may.


def as_google_documents(body: Body) -> Body:
    """google-genai says that the system's instruction is the user's, a role that is not read, and writes some names in
    snake case, which Google takes as well."""
    named = _in_camel_case(body)
    told = named.get("systemInstruction")
    return {**named, "systemInstruction": {"parts": told["parts"]}} if told else named


SNAKE_CASE = {"parameters_json_schema": "parametersJsonSchema", "mime_type": "mimeType"}


def _in_camel_case(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_camel_case(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {SNAKE_CASE.get(name, name): _in_camel_case(inner) for name, inner in value.items()}


NORMAL: Mapping[str, Callable[[Body], Body]] = {"gemini": as_google_documents}
HEADERS: Mapping[str, Body] = {
    "openai-chat": {"authorization": "Bearer k-1"},
    "openai-responses": {"authorization": "Bearer k-1"},
    # The client of 2026 says Authorization and a version of its own; the API's documents, and relays, the older ones.
    "anthropic": {"x-api-key": "k-1", "anthropic-version": "2023-06-01"},
    "gemini": {"x-goog-api-key": "k-1"},
}
BASES = {"openai-chat": "/v1", "openai-responses": "/v1", "anthropic": "/v1", "gemini": "/v1beta"}


class Posted(NamedTuple):
    """What came over the wire."""

    target: str  # path and query
    headers: dict[str, str]
    body: Body


@contextlib.asynccontextmanager
async def recorder(posted: list[Posted]) -> AsyncIterator[str]:
    """Keeps what is posted, and refuses it."""

    async def handle(request: web.BaseRequest) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        posted.append(Posted(request.path_qs, headers, await request.json()))
        return web.json_response({"error": {"message": "no", "type": "invalid_request_error"}}, status=400)

    async with serving(handle) as url:
        yield url


async def post(root: str, protocol: str, request: Request) -> None:
    dialect = DIALECTS[protocol]
    headers = dialect.headers(auth=None, key="k-1")
    async with open_transport(root + BASES[protocol], headers=headers, timeout_s=5.0, concurrency=1) as transport:
        await transport.post(dialect.encode(request))


def call_by_sdk(call: Call, root: str) -> None:
    """The recorder refuses, which each client says in an exception of its own."""
    with pytest.raises(Exception, match="400"):
        call(root)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", REQUESTS)
async def test_the_same_call_leaves_as_the_vendors_client_sends_it(case: str, protocol: str) -> None:
    posted: list[Posted] = []
    async with recorder(posted) as root:
        await asyncio.to_thread(call_by_sdk, SDK_CALLS[case][protocol], root)
        await post(root, protocol, REQUESTS[case])

    theirs, ours = posted
    normal = NORMAL.get(protocol, lambda body: body)
    assert ours.target == theirs.target
    assert normal(ours.body) == normal(theirs.body)
    assert ours.headers["content-type"] == theirs.headers["content-type"] == "application/json"
    assert {name: ours.headers.get(name) for name in HEADERS[protocol]} == HEADERS[protocol]
    assert theirs.headers.get("authorization", theirs.headers.get("x-goog-api-key")) in ("Bearer k-1", "k-1")
