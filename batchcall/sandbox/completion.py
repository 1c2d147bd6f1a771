"""An OpenAI chat completion for a request: a pure function of the request's body and a seed."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from batchcall.extraction.schema import CompiledSchema, SchemaError, compile_schema
from batchcall.sandbox.generate import Source, conforming

Body = dict[str, Any]

_CREATED = 1_700_000_000  # always the same, as everything else here
_SCHEMAS_HELD = 4_096


class BadRequest(Exception):
    """The request is not one; said with status 400 in OpenAI's envelope."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(slots=True)
class Answerer:
    """Answers requests. The same body and seed give the same answer, but for the id, which is new each time."""

    seed: int = 0
    _schemas: OrderedDict[bytes, CompiledSchema | None] = field(default_factory=OrderedDict)

    def answer(self, request: Body, digest: bytes, number: int) -> Body:
        """The completion. Raises BadRequest."""
        _check(request)
        text = _text_of(request["messages"])
        digest = hashlib.blake2b(digest, digest_size=16, salt=self.seed.to_bytes(8, "big", signed=True)).digest()
        count = request.get("n")
        choices = [
            self._choice(request, digest + bytes([place]), text, place)
            for place in range(count if isinstance(count, int) and 1 <= count <= 16 else 1)
        ]
        return {
            "id": f"chatcmpl-{digest[:8].hex()}{number:x}",
            "object": "chat.completion",
            "created": _CREATED,
            "model": request["model"],
            "choices": choices,
            "usage": _usage(request, choices, text),
            "system_fingerprint": "fp_sandbox",
        }

    def _choice(self, request: Body, digest: bytes, text: str, place: int) -> Body:
        message, reason, told = self._message(request, digest, text)
        cap = request.get("max_completion_tokens") or request.get("max_tokens")
        if isinstance(cap, int) and cap > 0 and _tokens(told) > cap:
            _cut(message, cap * 4)
            reason = "length"
        return {"index": place, "message": message, "logprobs": None, "finish_reason": reason}

    def _message(self, request: Body, digest: bytes, text: str) -> tuple[Body, str, str]:
        function, is_legacy = _function_to_call(request, digest)
        if function is None:
            content = self._content(request, digest, text)
            return {"role": "assistant", "content": content, "refusal": None}, "stop", content
        schema = self._compiled(function.get("parameters"))
        made = conforming(schema, digest, text) if schema is not None else {}
        arguments = orjson.dumps(made, option=orjson.OPT_NON_STR_KEYS).decode()
        call = {"name": function.get("name", ""), "arguments": arguments}
        if is_legacy:
            return {"role": "assistant", "content": None, "function_call": call}, "function_call", arguments
        calls = [{"id": f"call_{digest[:12].hex()}", "type": "function", "function": call}]
        return {"role": "assistant", "content": None, "tool_calls": calls, "refusal": None}, "tool_calls", arguments

    def _content(self, request: Body, digest: bytes, text: str) -> str:
        wanted = request.get("response_format")
        if isinstance(wanted, dict) and wanted.get("type") in ("json_object", "json_schema"):
            described = wanted.get("json_schema")
            schema = self._compiled(described.get("schema") if isinstance(described, dict) else None)
            return orjson.dumps(conforming(schema, digest, text) if schema else {"answer": "yes"}).decode()
        source = Source(digest, text)
        return "This is what it says: " + " ".join(source.words[: 5 + digest[0] % 20]) + "."

    def _compiled(self, parameters: Any) -> CompiledSchema | None:
        """The schema, compiled once; None for one that cannot be used, whose arguments are then `{}`."""
        if not isinstance(parameters, dict):
            return None
        key = hashlib.blake2b(orjson.dumps(parameters), digest_size=16).digest()
        if key not in self._schemas:
            try:
                self._schemas[key] = compile_schema(parameters)
            except SchemaError:
                self._schemas[key] = None
            if len(self._schemas) > _SCHEMAS_HELD:
                self._schemas.popitem(last=False)
        return self._schemas[key]


def _check(request: Any) -> None:
    if not isinstance(request, dict):
        raise BadRequest("the body must be a JSON object")
    if not isinstance(request.get("model"), str):
        raise BadRequest("you must provide a model parameter", "model")
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise BadRequest("messages must be a list of at least one message", "messages")


def _text_of(messages: list[Body]) -> str:
    """What the user said last, where the facts are."""
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
            return str(content or "")
    return ""


def _function_to_call(request: Body, digest: bytes) -> tuple[Body | None, bool]:
    """The function that is called, and whether the request asks in the legacy way."""
    tools = [tool.get("function") for tool in request.get("tools") or () if isinstance(tool, dict)]
    offered, choice, is_legacy = tools, request.get("tool_choice"), False
    if not tools and request.get("functions"):
        offered, choice, is_legacy = request["functions"], request.get("function_call"), True
    functions: list[Body] = [function for function in offered if isinstance(function, dict)]
    if choice == "none" or not functions:
        return None, is_legacy
    if isinstance(choice, dict):
        wanted = choice.get("function", choice)
        name = wanted.get("name") if isinstance(wanted, dict) else None
        named = [function for function in functions if function.get("name") == name]
        if not named:
            raise BadRequest(f"tool_choice names {name!r}, which is none of the tools", "tool_choice")
        return named[0], is_legacy
    return functions[digest[0] % len(functions)], is_legacy


def _tokens(text: str) -> int:
    return max(1, (len(text) + 3) // 4)


def _usage(request: Body, choices: list[Body], text: str) -> Body:
    """Plausible: about four characters a token, all of the request counted."""
    prompt = 8 + len(orjson.dumps([request["messages"], request.get("tools"), request.get("functions")])) // 4
    completion = sum(_tokens(_said(choice["message"])) for choice in choices)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": prompt // 2 if prompt > 1_024 else 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _said(message: Mapping[str, Any]) -> str:
    calls = [call["function"] for call in message.get("tool_calls") or ()] or [message.get("function_call")]
    return (message.get("content") or "") + "".join(call["name"] + call["arguments"] for call in calls if call)


def _cut(message: Body, characters: int) -> None:
    """As if the tokens had run out."""
    for call in [one["function"] for one in message.get("tool_calls") or ()] or [message.get("function_call")]:
        if call:
            call["arguments"] = call["arguments"][: max(1, min(characters, len(call["arguments"]) - 1))]
    if message.get("content"):
        message["content"] = message["content"][:characters]


def as_stream(completion: Body, *, with_usage: bool) -> bytes:
    """The completion as server-sent events, the way OpenAI cuts it up."""
    frame = {key: completion[key] for key in ("id", "created", "model", "system_fingerprint")}
    frame["object"] = "chat.completion.chunk"
    events = []
    for choice in completion["choices"]:
        for delta in _deltas(choice["message"]):
            events.append({**frame, "choices": [{"index": choice["index"], "delta": delta, "finish_reason": None}]})
        events.append(
            {**frame, "choices": [{"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}]}
        )
    if with_usage:
        events.append({**frame, "choices": [], "usage": completion["usage"]})
    return b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events) + b"data: [DONE]\n\n"


def _deltas(message: Body) -> list[Body]:
    deltas: list[Body] = [{"role": "assistant", "content": None}]
    for place, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        opening = {**call, "index": place, "function": {"name": function["name"], "arguments": ""}}
        deltas.append({"tool_calls": [opening]})
        deltas += [
            {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}
            for piece in _pieces(function["arguments"])
        ]
    if message.get("function_call"):
        call = message["function_call"]
        deltas.append({"function_call": {"name": call["name"], "arguments": ""}})
        deltas += [{"function_call": {"arguments": piece}} for piece in _pieces(call["arguments"])]
    deltas += [{"content": piece} for piece in _pieces(message.get("content") or "")]
    deltas += [{"refusal": piece} for piece in _pieces(message.get("refusal") or "")]
    return deltas


def _pieces(text: str) -> list[str]:
    return [text[start : start + 12] for start in range(0, len(text), 12)]
