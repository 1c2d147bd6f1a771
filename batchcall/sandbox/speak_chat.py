"""Chat-completions, as OpenAI and its relays speak it, and as Azure does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from batchcall.sandbox.completion import CREATED, Asked, Body, Call, Choice, Completion, Finish, Function, pieces
from batchcall.sandbox.limits import Standing, duration
from batchcall.sandbox.protocol import (
    JSON,
    Address,
    Answer,
    BadRequest,
    Field,
    Kind,
    Protocol,
    Trouble,
    as_event,
    fields,
    kind_of,
    mistyped_field,
)

_FIELDS = fields(
    model="string", messages="array", tools="array", functions="array", tool_choice="string|object",
    temperature="number", top_p="number", max_tokens="integer", max_completion_tokens="integer", n="integer",
    stream="boolean", stream_options="object", response_format="object", stop="string|array", seed="integer",
    reasoning_effort="string", parallel_tool_calls="boolean", presence_penalty="number", frequency_penalty="number",
)  # fmt: skip
_NOT_THINKING = (None, "none", "minimal")


def read(body: Any, address: Address) -> Asked:
    """The request. Relays pass on fields that OpenAI does not know, so these are let through."""
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    model = address.model or body.get("model")
    if not isinstance(model, str):
        raise BadRequest("you must provide a model parameter", "model")
    check_types(body, _FIELDS)
    messages = body.get("messages")
    if not messages or not all(isinstance(one, dict) for one in messages):
        raise BadRequest("messages must be a list of at least one message", "messages")
    _check_results(messages)
    functions, is_legacy = _functions(body)
    wanted = body.get("response_format") or {}
    described = wanted.get("json_schema")
    options = body.get("stream_options") or {}
    count = body.get("n")
    return Asked(
        model=model,
        text=_text_of(messages),
        functions=functions,
        is_legacy=is_legacy,
        is_json=wanted.get("type") in ("json_object", "json_schema"),
        schema=described.get("schema") if isinstance(described, dict) else None,
        count=count if count and 1 <= count <= 16 else 1,
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        is_thinking=body.get("reasoning_effort") not in _NOT_THINKING,
        is_stream=bool(body.get("stream")),
        tells_usage=bool(options.get("include_usage")),
        has_result=messages[-1].get("role") in ("tool", "function"),
        body=body,
    )


def check_types(body: Body, known: dict[str, Field]) -> None:
    """Raises BadRequest as OpenAI words it."""
    if (name := mistyped_field(body, known)) is not None:
        expected, got = known[name].expected, kind_of(body[name])
        raise BadRequest(
            f"Invalid type for '{name}': expected {_an(expected)}, but got {_an(got)} instead.", name, "invalid_type"
        )


def _an(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aio" else f"a {noun}"


def _check_results(messages: list[Body]) -> None:
    """Every call of an assistant is followed by its result, and every result follows a call."""
    open_ids: set[Any] = set()
    for place, message in enumerate(messages):
        if message.get("role") == "tool":
            if message.get("tool_call_id") not in open_ids:
                raise BadRequest(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                    "'tool_calls'.",
                    f"messages.[{place}].role",
                )
            open_ids.discard(message.get("tool_call_id"))
            continue
        _check_all_answered(open_ids)
        calls = message.get("tool_calls")
        open_ids = {call.get("id") for call in calls if isinstance(call, dict)} if isinstance(calls, list) else set()
    _check_all_answered(open_ids)


def _check_all_answered(open_ids: set[Any]) -> None:
    if open_ids:
        raise BadRequest(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. The following tool_call_ids did not have response messages: "
            + ", ".join(map(str, open_ids)),
            "messages",
        )


def _text_of(messages: list[Body]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
            return str(content or "")
    return ""


def _functions(body: Body) -> tuple[Sequence[Function], bool]:
    """The functions that may be called, and whether the request offers them in the legacy way."""
    tools = [tool.get("function") for tool in body.get("tools") or () if isinstance(tool, dict)]
    offered, choice, is_legacy = tools, body.get("tool_choice"), False
    if not tools and body.get("functions"):
        offered, choice, is_legacy = body["functions"], body.get("function_call"), True
    functions = [
        Function(str(function.get("name", "")), function.get("parameters"))
        for function in offered
        if isinstance(function, dict)
    ]
    if choice == "none" or not functions:
        return (), is_legacy
    return allowed(functions, choice), is_legacy


def allowed(functions: list[Function], choice: Any) -> list[Function]:
    """Those that a choice by name leaves. Raises BadRequest where it leaves none."""
    if not isinstance(choice, dict):
        return functions
    listed = choice.get("allowed_tools", choice)
    several = listed.get("tools") if isinstance(listed, dict) else None
    names = [_named(one) for one in several] if isinstance(several, list) else [_named(choice)]
    left = [function for function in functions if function.name in names]
    if not left:
        raise BadRequest(f"tool_choice names {names[0]!r}, which is none of the tools", "tool_choice")
    return left


def _named(choice: Any) -> Any:
    inner = choice.get("function", choice) if isinstance(choice, dict) else None
    return inner.get("name") if isinstance(inner, dict) else None


def render(completion: Completion) -> Body:
    """The completion in OpenAI's form."""
    usage = completion.usage
    return {
        "id": f"chatcmpl-{completion.id}",
        "object": "chat.completion",
        "created": CREATED,
        "model": completion.model,
        "choices": [
            {
                "index": place,
                "message": _message(choice, is_legacy=completion.is_legacy),
                "logprobs": None,
                "finish_reason": _finish_reason(choice.finish, is_legacy=completion.is_legacy),
            }
            for place, choice in enumerate(completion.choices)
        ],
        "usage": {
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "total_tokens": usage.total,
            "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
        },
        "system_fingerprint": "fp_sandbox",
    }


_FINISH = {Finish.STOP: "stop", Finish.CALLS: "tool_calls", Finish.LENGTH: "length", Finish.REFUSAL: "stop"}


def _finish_reason(finish: Finish, *, is_legacy: bool) -> str:
    return "function_call" if is_legacy and finish is Finish.CALLS else _FINISH[finish]


def _message(choice: Choice, *, is_legacy: bool) -> Body:
    message: Body = {"role": "assistant", "content": choice.content, "refusal": choice.refusal}
    if choice.calls and is_legacy:
        message["function_call"] = _function(choice.calls[0])
    elif choice.calls:
        message["tool_calls"] = [
            {"id": f"call_{call.id}", "type": "function", "function": _function(call)} for call in choice.calls
        ]
    return message


def _function(call: Call) -> Body:
    return {"name": call.name, "arguments": call.arguments}


def stream(document: Body, completion: Completion) -> bytes:
    """The completion as server-sent events, the way OpenAI cuts it up."""
    frame = {key: document[key] for key in ("id", "created", "model", "system_fingerprint")}
    frame["object"] = "chat.completion.chunk"
    events = []
    for choice in document["choices"]:
        for delta in _deltas(choice["message"]):
            events.append({**frame, "choices": [{"index": choice["index"], "delta": delta, "finish_reason": None}]})
        events.append(
            {**frame, "choices": [{"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}]}
        )
    if completion.asked.tells_usage and "usage" in document:
        events.append({**frame, "choices": [], "usage": document["usage"]})
    return b"".join(map(as_event, events)) + b"data: [DONE]\n\n"


def _deltas(message: Body) -> list[Body]:
    deltas: list[Body] = [{"role": "assistant", "content": None}]
    for place, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        opening = {**call, "index": place, "function": {"name": function["name"], "arguments": ""}}
        deltas.append({"tool_calls": [opening]})
        deltas += [
            {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}
            for piece in _argument_pieces(function["arguments"])
        ]
    if message.get("function_call"):
        call = message["function_call"]
        deltas.append({"function_call": {"name": call["name"], "arguments": ""}})
        deltas += [{"function_call": {"arguments": piece}} for piece in _argument_pieces(call["arguments"])]
    deltas += [{"content": piece} for piece in pieces(message.get("content") or "")]
    deltas += [{"refusal": piece} for piece in pieces(message.get("refusal") or "")]
    return deltas


def _argument_pieces(arguments: Any) -> list[Any]:
    return pieces(arguments) if isinstance(arguments, str) else [arguments]


def envelope(message: str, kind: str | None, code: Any = None, param: str | None = None) -> Body:
    """OpenAI's error envelope."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


_REFUSALS: dict[Kind, tuple[int, str, str | None, str]] = {  # status, type, code, message
    Kind.RATE_LIMITED: (429, "requests", "rate_limit_exceeded", "Rate limit reached for requests"),
    Kind.QUOTA: (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota"),
    Kind.BAD_KEY: (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    Kind.UNKNOWN_MODEL: (404, "invalid_request_error", "model_not_found", "The model does not exist"),
    Kind.OVERLOADED: (503, "server_error", None, "The engine is currently overloaded"),
    Kind.CONTEXT_LENGTH: (
        400, "invalid_request_error", "context_length_exceeded", "This model's maximum context length is 8192 tokens",
    ),
    Kind.FILTERED: (400, "invalid_request_error", "content_filter", "The response was filtered"),
    Kind.REJECTED: (400, "invalid_request_error", None, "The request is invalid"),
    Kind.SERVER_ERROR: (500, "server_error", None, "The server had an error"),
}  # fmt: skip


def refuse(trouble: Trouble) -> Answer:
    """The refusal in OpenAI's words, with the time to wait in its headers."""
    status, type_, code, message = _REFUSALS[trouble.kind]
    body = envelope(trouble.message or message, type_, trouble.code or code, trouble.param)
    return Answer(status, orjson.dumps(body), {**JSON, **waiting(trouble)})


def waiting(trouble: Trouble) -> dict[str, str]:
    """Retry-After in both of OpenAI's units."""
    if trouble.wait_s is None:
        return {}
    return {
        "Retry-After": str(math.ceil(trouble.wait_s)),
        "retry-after-ms": str(math.ceil(trouble.wait_s * 1000)),
    }


def relayed(message: str, kind: str, code: Any) -> Body:
    """As new-api says it, to all but Anthropic's clients."""
    return envelope(message, kind, code)


def limit_headers(standings: Sequence[Standing], now_s: float) -> dict[str, str]:
    """x-ratelimit-*"""
    headers = {}
    for one in standings:
        headers[f"x-ratelimit-limit-{one.name}"] = str(one.per_minute)
        headers[f"x-ratelimit-remaining-{one.name}"] = str(one.left)
        headers[f"x-ratelimit-reset-{one.name}"] = duration(one.full_in_s)
    return headers


CHAT = Protocol(
    name="openai-chat",
    keys=("Authorization", "x-api-key", "x-goog-api-key", "api-key"),  # relays take whichever comes
    read=read,
    render=render,
    stream=stream,
    refuse=refuse,
    relayed=relayed,
    limit_headers=limit_headers,
    answers="choices",
    usage="usage",
)


def _read_azure(body: Any, address: Address) -> Asked:
    if not address.query.get("api-version"):
        raise BadRequest("Missing required query parameter: api-version", None, "MissingApiVersionParameter")
    return read(body, address)


_AZURE_REFUSALS: dict[Kind, tuple[int, str, str]] = {  # status, code, message
    Kind.RATE_LIMITED: (
        429, "429", "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded call rate "
        "limit of your current OpenAI S0 pricing tier.",
    ),
    Kind.BAD_KEY: (401, "401", "Access denied due to invalid subscription key or wrong API endpoint."),
    Kind.UNKNOWN_MODEL: (404, "DeploymentNotFound", "The API deployment for this resource does not exist."),
}  # fmt: skip
_AZURE_FILTERED = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"violence": {"filtered": True, "severity": "medium"}},
        },
    }
}


def _refuse_azure(trouble: Trouble) -> Answer:
    """Azure's gateway has an envelope of its own; what comes from behind it is OpenAI's."""
    if trouble.kind is Kind.FILTERED:
        return Answer(400, orjson.dumps(_AZURE_FILTERED))
    if trouble.kind not in _AZURE_REFUSALS:
        return refuse(trouble)
    status, code, message = _AZURE_REFUSALS[trouble.kind]
    body = {"error": {"code": code, "message": trouble.message or message}}
    return Answer(status, orjson.dumps(body), {**JSON, **waiting(trouble)})


def _azure_limit_headers(standings: Sequence[Standing], now_s: float) -> dict[str, str]:
    headers = limit_headers(standings, now_s)
    return {name: value for name, value in headers.items() if "-reset-" not in name}


AZURE = replace(
    CHAT,
    name="azure",
    keys=("api-key", "Authorization"),
    read=_read_azure,
    refuse=_refuse_azure,
    limit_headers=_azure_limit_headers,
)
