"""The same question in each vendor's protocol, and the sandbox in the test's own process to put it to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from batchcall.sandbox.process import Settings
from batchcall.sandbox.server import run_server
from running import TOOL

FUNCTION = TOOL["function"]
TEXT = "Name: Ada\nAge: 36"
Body = dict[str, Any]


@dataclass(frozen=True)
class Vendor:
    """One protocol: a request in it, and where an answer has what."""

    path: str
    plain: Body  # a question without tools
    tools: Body  # what offers the tool, and forces it
    cap: Callable[[int], Body]  # at most so many tokens
    key: Callable[[str], dict[str, str]]
    calls: Callable[[Body], list[tuple[str, Any]]]  # name and arguments, decoded where they are text
    said: Callable[[Body], str | None]
    finish: Callable[[Body], Any]
    tokens: Callable[[Body], tuple[int, int]]  # of the prompt with what was cached, and of the answer with reasoning
    again: Callable[[Body], Body]  # the request again with the answer and its tool's result
    stream: Body | None = None  # None: another path
    stream_path: str = ""

    @property
    def asked(self) -> Body:
        return {**self.plain, **self.tools}


def chat_again(answer: Body) -> Body:
    said = answer["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "call again"} for call in said.get("tool_calls") or ()
    ]
    return {**VENDORS["chat"].asked, "messages": [*VENDORS["chat"].plain["messages"], said, *results]}


def responses_again(answer: Body) -> Body:
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "call again"}
        for item in answer["output"]
        if item["type"] == "function_call"
    ]
    asked = {"role": "user", "content": TEXT}
    return {**VENDORS["responses"].asked, "input": [asked, *answer["output"], *results]}


def anthropic_again(answer: Body) -> Body:
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "call again", "is_error": True}
        for block in answer["content"]
        if block["type"] == "tool_use"
    ]
    turns = [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": results}]
    return {**VENDORS["anthropic"].asked, "messages": [*VENDORS["anthropic"].plain["messages"], *turns]}


def gemini_again(answer: Body) -> Body:
    said = answer["candidates"][0]["content"]
    results = [
        {"functionResponse": {"name": part["functionCall"]["name"], "response": {"error": "call again"}}}
        for part in said["parts"]
    ]
    turns = [said, {"role": "user", "parts": results}]
    return {**VENDORS["gemini"].asked, "contents": [*VENDORS["gemini"].plain["contents"], *turns]}


def chat_calls(answer: Body) -> list[tuple[str, Any]]:
    calls = answer["choices"][0]["message"].get("tool_calls") or ()
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


def gemini_parts(answer: Body) -> list[Body]:
    return (answer["candidates"][0].get("content") or {}).get("parts") or []


CHAT = Vendor(
    path="/v1/chat/completions",
    plain={"model": "m", "messages": [{"role": "user", "content": TEXT}]},
    tools={"tools": [TOOL], "tool_choice": "required"},
    cap=lambda tokens: {"max_completion_tokens": tokens},
    key=lambda key: {"Authorization": f"Bearer {key}"},
    calls=chat_calls,
    said=lambda answer: answer["choices"][0]["message"]["content"],
    finish=lambda answer: answer["choices"][0]["finish_reason"],
    tokens=lambda answer: (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]),
    again=chat_again,
    stream={"stream": True, "stream_options": {"include_usage": True}},
)
VENDORS: Mapping[str, Vendor] = {
    "chat": CHAT,
    "azure": Vendor(
        **{
            **CHAT.__dict__,
            "path": "/openai/deployments/m/chat/completions?api-version=2024-10-21",
            "key": lambda key: {"api-key": key},
        }
    ),
    "responses": Vendor(
        path="/v1/responses",
        plain={"model": "m", "input": TEXT},
        tools={"tools": [{"type": "function", **FUNCTION, "strict": False}], "tool_choice": "required"},
        cap=lambda tokens: {"max_output_tokens": tokens},
        key=lambda key: {"Authorization": f"Bearer {key}"},
        calls=lambda answer: [
            (item["name"], json.loads(item["arguments"]))
            for item in answer["output"]
            if item["type"] == "function_call"
        ],
        said=lambda answer: next(
            (item["content"][0].get("text") for item in answer["output"] if item["type"] == "message"), None
        ),
        finish=lambda answer: (answer["status"], answer["incomplete_details"]),
        tokens=lambda answer: (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]),
        again=responses_again,
        stream={"stream": True},
    ),
    "anthropic": Vendor(
        path="/v1/messages",
        plain={"model": "m", "max_tokens": 1_000, "messages": [{"role": "user", "content": TEXT}]},
        tools={
            "tools": [{"name": FUNCTION["name"], "input_schema": FUNCTION["parameters"]}],
            "tool_choice": {"type": "any"},
        },
        cap=lambda tokens: {"max_tokens": tokens},
        key=lambda key: {"x-api-key": key},
        calls=lambda answer: [
            (block["name"], block["input"]) for block in answer["content"] if block["type"] == "tool_use"
        ],
        said=lambda answer: next((block["text"] for block in answer["content"] if block["type"] == "text"), None),
        finish=lambda answer: answer["stop_reason"],
        tokens=lambda answer: (
            answer["usage"]["input_tokens"] + answer["usage"]["cache_read_input_tokens"],
            answer["usage"]["output_tokens"],
        ),
        again=anthropic_again,
        stream={"stream": True},
    ),
    "gemini": Vendor(
        path="/v1beta/models/m:generateContent",
        plain={"contents": [{"role": "user", "parts": [{"text": TEXT}]}]},
        tools={
            "tools": [
                {
                    "functionDeclarations": [
                        {"name": FUNCTION["name"], "parametersJsonSchema": FUNCTION["parameters"]},
                    ]
                }
            ],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        },
        cap=lambda tokens: {"generationConfig": {"maxOutputTokens": tokens}},
        key=lambda key: {"x-goog-api-key": key},
        calls=lambda answer: [
            (part["functionCall"]["name"], part["functionCall"]["args"])
            for part in gemini_parts(answer)
            if "functionCall" in part
        ],
        said=lambda answer: next((part["text"] for part in gemini_parts(answer) if "text" in part), None),
        finish=lambda answer: answer["candidates"][0]["finishReason"],
        tokens=lambda answer: (
            answer["usageMetadata"]["promptTokenCount"],
            answer["usageMetadata"]["candidatesTokenCount"] + answer["usageMetadata"].get("thoughtsTokenCount", 0),
        ),
        again=gemini_again,
        stream_path="/v1beta/models/m:streamGenerateContent?alt=sse",
    ),
}


@dataclass(frozen=True)
class Got:
    """What came back, undecoded."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(root: str, path: str, request: Any, **headers: str) -> Got:
    """One POST that decodes nothing and follows nothing. `root` has no path."""
    headers = {"anthropic-version": "2023-06-01", **headers}  # the others do not look at it
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(root + path, data=body, headers=headers, allow_redirects=False) as response,
    ):
        named = {name.lower(): value for name, value in response.headers.items()}
        return Got(response.status, named, await response.read())


async def ledger_of(root: str) -> Body:
    async with aiohttp.ClientSession() as session, session.get(f"{root}/sandbox/ledger") as response:
        told: Body = await response.json()
        return told


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[str]:
    """The endpoint in this very process, to save the time of starting another. Gives its URL up to /v1."""
    stop, told = asyncio.Event(), asyncio.get_running_loop().create_future()
    running = asyncio.create_task(run_server(settings, ready=told.set_result, stop=stop))
    try:
        yield await told
    finally:
        stop.set()
        await running


@contextlib.asynccontextmanager
async def rooted(settings: Settings) -> AsyncIterator[str]:
    """As `serving`; gives the URL without a path."""
    async with serving(settings) as url:
        yield url.removesuffix("/v1")
