"""Anthropic's Messages protocol."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from batchcall.sandbox.completion import (
    Asked,
    Body,
    Call,
    Choice,
    Completion,
    Finish,
    Function,
    as_object,
    finished_part,
    pieces,
)
from batchcall.sandbox.limits import Standing
from batchcall.sandbox.protocol import (
    JSON,
    Address,
    Answer,
    BadRequest,
    Kind,
    Protocol,
    Trouble,
    as_event,
    fields,
    missing_field,
    mistyped_field,
    unknown_field,
)

_FIELDS = fields(
    model="string!", messages="array!", max_tokens="integer!", system="string|array", metadata="object",
    stop_sequences="array", stream="boolean", temperature="number", top_k="integer", top_p="number", tools="array",
    tool_choice="object", thinking="object", service_tier="string", container="any", context_management="object",
    mcp_servers="array", output_config="object", output_format="object", cache_control="object", speed="string",
    inference_geo="string", diagnostics="any",
)  # fmt: skip
_TYPE_NAMES = {  # as pydantic says it
    "string": "a valid string",
    "array": "a valid list",
    "integer": "a valid integer",
    "number": "a valid number",
    "boolean": "a valid boolean",
    "object": "an object",
}
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_THINKING = ("enabled", "adaptive")


def read(body: Any, address: Address) -> Asked:
    """The request, as strictly as Anthropic reads it."""
    if not isinstance(body, dict):
        raise BadRequest("Input should be an object")
    _check_fields(body)
    messages: list[Body] = body["messages"]
    _check_messages(messages)
    functions, choice = _functions(body), body.get("tool_choice") or {}
    thinking = (body.get("thinking") or {}).get("type")
    if thinking == "enabled" and choice.get("type") in ("any", "tool"):
        raise BadRequest("Thinking may not be enabled when tool_choice forces tool use.")
    wanted = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    return Asked(
        model=body["model"],
        text=_text_of(messages),
        functions=_allowed(functions, choice),
        is_json=wanted.get("type") == "json_schema",
        schema=wanted.get("schema"),
        max_tokens=body["max_tokens"],
        is_thinking=thinking in _THINKING,
        is_stream=bool(body.get("stream")),
        has_result=bool(_blocks(messages[-1], "tool_result")),
        body=body,
    )


def _check_fields(body: Body) -> None:
    if (name := missing_field(body, _FIELDS)) is not None:
        raise BadRequest(f"{name}: Field required")
    if (name := unknown_field(body, _FIELDS)) is not None:
        raise BadRequest(f"{name}: Extra inputs are not permitted")
    if (name := mistyped_field(body, _FIELDS)) is not None:
        raise BadRequest(f"{name}: Input should be {_TYPE_NAMES[_FIELDS[name].expected.partition(' ')[0]]}")
    if body["max_tokens"] < 1:
        raise BadRequest("max_tokens: must be greater than or equal to 1")
    if not 0 <= (body.get("temperature") or 0) <= 1:
        raise BadRequest("temperature: range: 0..1")
    if not body["messages"]:
        raise BadRequest("messages: at least one message is required")


def _check_messages(messages: list[Body]) -> None:
    called: set[Any] = set()
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            raise BadRequest(f"messages.{place}: Input should be an object")
        _check_message(message, place, is_last=place == len(messages) - 1)
        answered = {block.get("tool_use_id") for block in _blocks(message, "tool_result")}
        if stray := answered - called:
            raise BadRequest(
                f"messages.{place}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {stray.pop()}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if left := called - answered:
            raise BadRequest(
                f"messages.{place - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(map(str, left))}. Each `tool_use` block must have a corresponding `tool_result` block in "
                "the next message."
            )
        called = {block.get("id") for block in _blocks(message, "tool_use")}
    if called:
        raise BadRequest(
            f"messages.{len(messages) - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(map(str, called))}."
        )


def _check_message(message: Body, place: int, *, is_last: bool) -> None:
    role, content = message.get("role"), message.get("content")
    if role == "system":
        raise BadRequest(
            'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, not "system" '
            "as an input message role."
        )
    if role not in ("user", "assistant"):
        raise BadRequest(f"messages.{place}.role: Input should be 'user' or 'assistant'")
    if not isinstance(content, str | list):
        raise BadRequest(f"messages.{place}.content: Input should be a valid list")
    if not content and not (is_last and role == "assistant"):
        raise BadRequest(
            f"messages.{place}: all messages must have non-empty content except for the optional final assistant "
            "message"
        )
    for number, block in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise BadRequest(f"messages.{place}.content.{number}.type: Field required")
        if block["type"] == "tool_use" and not isinstance(block.get("input"), dict):
            raise BadRequest(f"messages.{place}.content.{number}.tool_use.input: Input should be a valid dictionary")
        if block["type"] == "text" and not block.get("text"):
            raise BadRequest(f"messages.{place}.content.{number}: text content blocks must be non-empty")


def _blocks(message: Body, type_: str) -> list[Body]:
    content = message.get("content")
    return [block for block in content if block.get("type") == type_] if isinstance(content, list) else []


def _text_of(messages: list[Body]) -> str:
    """What the user said last in words of his own, a tool's result apart."""
    for message in reversed(messages):
        if message["role"] != "user":
            continue
        content = message["content"]
        texts = [content] if isinstance(content, str) else [str(block["text"]) for block in _blocks(message, "text")]
        if texts:
            return "\n".join(texts)
    return ""


def _functions(body: Body) -> list[Function]:
    functions = []
    for place, tool in enumerate(body.get("tools") or ()):
        if not isinstance(tool, dict):
            raise BadRequest(f"tools.{place}: Input should be an object")
        if tool.get("type", "custom") not in ("custom", None):
            continue  # the vendor's own tools are never called here
        name, schema = tool.get("name"), tool.get("input_schema")
        if not isinstance(name, str):
            raise BadRequest(f"tools.{place}.custom.name: Field required")
        if not _TOOL_NAME.fullmatch(name):
            raise BadRequest(f"tools.{place}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if not isinstance(schema, dict):
            raise BadRequest(f"tools.{place}.custom.input_schema: Field required")
        if schema.get("type") != "object":
            raise BadRequest(f"tools.{place}.custom.input_schema.type: Input should be 'object'")
        if not all(map(_PROPERTY.fullmatch, schema.get("properties") or ())):
            raise BadRequest(
                f"tools.{place}.custom.input_schema.properties: Property keys should match pattern "
                "'^[a-zA-Z0-9_.-]{1,64}$'"
            )
        functions.append(Function(name, schema))
    return functions


def _allowed(functions: list[Function], choice: Body) -> Sequence[Function]:
    if not choice:
        return functions
    type_ = choice.get("type")
    if type_ not in ("auto", "any", "tool", "none"):
        raise BadRequest(
            f"tool_choice: Input tag '{type_}' found using 'type' does not match any of the expected tags: 'any', "
            "'auto', 'none', 'tool'"
        )
    if not functions:
        raise BadRequest("tool_choice: tool_choice may only be specified while providing tools.")
    if type_ == "none":
        return ()
    if type_ != "tool":
        return functions
    named = [function for function in functions if function.name == choice.get("name")]
    if not named:
        raise BadRequest(f"Tool '{choice.get('name')}' not found in provided tools")
    return named


_STOP = {
    Finish.STOP: "end_turn",
    Finish.CALLS: "tool_use",
    Finish.LENGTH: "max_tokens",
    Finish.REFUSAL: "refusal",
}


def render(completion: Completion) -> Body:
    """The message. `input_tokens` are those that no cache had; thinking is part of `output_tokens`."""
    choice, usage = completion.choices[0], completion.usage
    return {
        "id": f"msg_{completion.id}",
        "type": "message",
        "role": "assistant",
        "model": completion.model,
        "content": _content(completion, choice),
        "stop_reason": _STOP[choice.finish],
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage.prompt - usage.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached,
            "output_tokens": usage.completion,
            "service_tier": "standard",
        },
    }


def _content(completion: Completion, choice: Choice) -> list[Body]:
    """A refusal has no block: its stop reason says it."""
    blocks: list[Body] = []
    if completion.thought:
        signature = f"sandbox{completion.id}=="
        blocks.append({"type": "thinking", "thinking": completion.thought, "signature": signature})
    if choice.content:
        blocks.append({"type": "text", "text": choice.content})
    for call in choice.calls:
        blocks.append({"type": "tool_use", "id": f"toolu_{call.id}", "name": call.name, "input": _input(call, choice)})
    return blocks


def _input(call: Call, choice: Choice) -> Any:
    return finished_part(call.arguments) if choice.finish is Finish.LENGTH else as_object(call.arguments)


def stream(document: Body, completion: Completion) -> bytes:
    """The message as its events; a call's input comes as text, cut where the tokens ran out."""
    usage = document.get("usage")
    begun = {**document, "content": [], "stop_reason": None}
    if isinstance(usage, dict):
        begun["usage"] = {**usage, "output_tokens": 1}
    events: list[Body] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    arguments = iter([call.arguments for call in completion.choices[0].calls])
    for place, block in enumerate(document["content"]):
        events += _block_events(block, place, next(arguments) if block["type"] == "tool_use" else None)
    ended = {"type": "message_delta", "delta": {key: document[key] for key in ("stop_reason", "stop_sequence")}}
    if isinstance(usage, dict):
        ended["usage"] = {key: value for key, value in usage.items() if key != "service_tier"}
    events += [ended, {"type": "message_stop"}]
    return b"".join(as_event(event, named=True) for event in events)


def _block_events(block: Body, place: int, arguments: Any) -> Iterator[Body]:
    empty: dict[str, Body] = {
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
        "tool_use": {"input": {}},
    }
    started = {**block, **empty[block["type"]]}
    yield {"type": "content_block_start", "index": place, "content_block": started}
    for delta in _deltas(block, arguments):
        yield {"type": "content_block_delta", "index": place, "delta": delta}
    yield {"type": "content_block_stop", "index": place}


def _deltas(block: Body, arguments: Any) -> list[Body]:
    if block["type"] == "tool_use":
        written = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        return [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(written)]]
    if block["type"] == "text":
        return [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
    thought = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
    return [*thought, {"type": "signature_delta", "signature": block["signature"]}]


_REFUSALS: dict[Kind, tuple[int, str, str]] = {  # status, type, message
    Kind.RATE_LIMITED: (
        429, "rate_limit_error", "This request would exceed your organization's rate limit of requests per minute",
    ),
    Kind.QUOTA: (
        400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API. Please go to Plans "
        "& Billing to upgrade or purchase credits.",
    ),
    Kind.BAD_KEY: (401, "authentication_error", "invalid x-api-key"),
    Kind.UNKNOWN_MODEL: (404, "not_found_error", "model: no-such-model"),
    Kind.OVERLOADED: (529, "overloaded_error", "Overloaded"),
    Kind.CONTEXT_LENGTH: (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
    Kind.FILTERED: (400, "invalid_request_error", "Output blocked by content filtering policy"),
    Kind.REJECTED: (400, "invalid_request_error", "The request is invalid"),
    Kind.SERVER_ERROR: (500, "api_error", "Internal server error"),
}  # fmt: skip


def refuse(trouble: Trouble) -> Answer:
    """The refusal in Anthropic's words."""
    status, type_, message = _REFUSALS[trouble.kind]
    body = relayed(trouble.message or message, type_, None)
    waiting = {"retry-after": str(math.ceil(trouble.wait_s))} if trouble.wait_s is not None else {}
    return Answer(status, orjson.dumps(body), {**JSON, **waiting})


def relayed(message: str, kind: str, code: Any) -> Body:
    """Anthropic's envelope, which has no place for new-api's code."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def limit_headers(standings: Sequence[Standing], now_s: float) -> dict[str, str]:
    """anthropic-ratelimit-*, the resets as times of day."""
    headers = {}
    for one in standings:
        reset = datetime.fromtimestamp(math.ceil(now_s + one.full_in_s), UTC)
        headers[f"anthropic-ratelimit-{one.name}-limit"] = str(one.per_minute)
        headers[f"anthropic-ratelimit-{one.name}-remaining"] = str(one.left)
        headers[f"anthropic-ratelimit-{one.name}-reset"] = reset.strftime("%Y-%m-%dT%H:%M:%SZ")
    return headers


ANTHROPIC = Protocol(
    name="anthropic",
    keys=("x-api-key", "Authorization"),  # the second for OAuth tokens
    read=read,
    render=render,
    stream=stream,
    refuse=refuse,
    relayed=relayed,
    limit_headers=limit_headers,
    answers="content",
    usage="usage",
    needed=("anthropic-version",),
    nearest={
        "arguments_object": "double_encoded",  # `input` is an object already; a text instead is what goes wrong here
        "legacy_function_call": "",  # there is no older form
        "unprocessable": "context_length",  # 422 is unknown here; another 400 that is this request's own fault
        "overloaded_529": "overloaded",  # its own status
    },
)
