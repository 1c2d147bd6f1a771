"""Requests in Anthropic's Messages API. They arrive in the words of chat completions and leave in Anthropic's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from batchcall.base import HttpRequest, Json, Request, Shape
from batchcall.dialects.anthropic.schema import draft_faults
from batchcall.dialects.anthropic.turns import as_turns
from batchcall.dialects.chat_form import choice_of, tools_of
from batchcall.dialects.jsontext import as_json_bytes, objects_in, value_at
from batchcall.dialects.parameters import DROPPED, Parameter, Table, parameter_faults, put_parameters, refused, unless

VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 4096  # the API requires a cap; the largest that every model since Claude 3 allows


def encode_messages(request: Request) -> HttpRequest:
    """POST /messages. All but the messages is encoded once for the whole job."""
    turns, system = as_turns(request.messages, request.shape.parameters.get("system"))
    behind = b',"system":' + as_json_bytes(system) if system else b""
    return HttpRequest("/messages", _before_turns(request.shape) + as_json_bytes(turns) + behind + b"}")


def messages_faults(shape: Shape) -> list[str]:
    """What of this shape Anthropic does not take; see `Dialect.faults`."""
    return [
        *parameter_faults(shape, _TABLE),
        *_faults_of_the_whole(shape),
        *_tool_faults(shape),
    ]


@lru_cache(maxsize=64)  # one entry in most jobs; rows that bring their own tools come and go
def _before_turns(shape: Shape) -> bytes:
    body: dict[str, Any] = {"model": shape.model}
    if tools := objects_in(tools_of(shape)):
        body["tools"] = [_tool(tool) for tool in tools]
        if choice := _choice_of(shape):
            body["tool_choice"] = choice
    put_parameters(body, shape, _TABLE)
    body.setdefault("max_tokens", default_cap(shape))
    return as_json_bytes(body)[:-1] + b',"messages":'


def default_cap(shape: Shape) -> int:
    """The cap on an answer's length that is sent where the request names none."""
    budget = value_at(shape.parameters.get("thinking"), "budget_tokens")
    return DEFAULT_MAX_TOKENS + (budget if isinstance(budget, int) else 0)  # thoughts count, and have to fit in


# Parameters


def _stop(value: Json, shape: Shape) -> Mapping[str, Json] | None:
    listed: Json = [value] if isinstance(value, str) else value
    return {"stop_sequences": listed} if isinstance(listed, list) else None


def _effort(value: Json, shape: Shape) -> Mapping[str, Json] | None:
    if value == "none":
        return {"thinking.type": "disabled"}
    return {"output_config.effort": value} if value in _EFFORTS else None


def _format(value: Json, shape: Shape) -> Mapping[str, Json] | None:
    schema = value_at(value, "json_schema", "schema")
    return {"output_config.format": {"type": "json_schema", "schema": schema}} if schema else None


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_STOP_FAULT = unless(
    lambda stop, _: all(
        isinstance(each, str) and each.strip() for each in (stop if isinstance(stop, list) else [stop])
    ),
    "Anthropic does not accept stop sequences of blanks only; remove them",
)

_TABLE: Table = {
    "max_completion_tokens": Parameter("max_tokens"),
    "max_tokens": Parameter("max_tokens"),  # behind its younger name, which wins
    "stop": Parameter(say=_stop, fault=_STOP_FAULT),
    "stop_sequences": Parameter("stop_sequences", fault=_STOP_FAULT),  # joined where both are written
    "user": Parameter("metadata.user_id"),
    "safety_identifier": Parameter("metadata.user_id"),
    "reasoning_effort": Parameter(
        say=_effort, fault=unless(_effort, f"Anthropic accepts none, {', '.join(_EFFORTS)}; choose one of these")
    ),
    "response_format": Parameter(
        say=_format,
        neutral=(None, {"type": "text"}),
        fault=unless(_format, "Anthropic has no JSON mode without a schema; give a tool, or a json_schema"),
    ),
    # In the body already, or without effect on the answer: usage comes with every stream, caches are marked in the
    # content, `functions` and `function_call` are old names of tools and tool_choice.
    **dict.fromkeys(("functions", "function_call", "parallel_tool_calls", "system"), DROPPED),
    **dict.fromkeys(("stream_options", "prompt_cache_key", "prompt_cache_retention"), DROPPED),
    # Anthropic has these too, but refuses some values of other vendors.
    "temperature": Parameter(
        fault=unless(
            lambda value, _: _is_number(value, 0, 1), "Anthropic accepts 0 to 1; choose a number in this range"
        )
    ),
    "metadata": Parameter(
        fault=unless(
            lambda value, _: isinstance(value, dict) and value.keys() <= {"user_id"},
            "Anthropic accepts only user_id in it; remove the rest",
        )
    ),
    "service_tier": Parameter(
        fault=unless(
            lambda value, _: value not in ("default", "flex", "scale", "priority"),
            'Anthropic accepts "auto" and "standard_only"; choose one of these',
        )
    ),
    **refused("Anthropic gives one answer per request; remove it", "n"),
    **refused(
        "Anthropic does not accept this parameter; remove it",
        *("best_of", "logprobs", "top_logprobs", "logit_bias", "presence_penalty", "frequency_penalty", "store"),
        *("modalities", "verbosity", "seed", "audio", "prediction", "web_search_options"),
    ),
}


# Tools


def _tool(written: Mapping[str, Json]) -> Json:
    """The tool in Anthropic's form. What stands beside the function passes on, as a mark for the cache does."""
    function = written.get("function")
    said = {**written, **function} if isinstance(function, dict) else dict(written)
    if said.keys().isdisjoint(_SCHEMAS) and said.get("type", "function") != "function":
        return said  # one that Anthropic runs itself
    tool: dict[str, Json] = {"name": said.get("name")}
    if said.get("description"):
        tool["description"] = said["description"]
    schema = said.get("input_schema", said.get("parameters"))  # which has to say that the arguments are an object
    usable = schema if isinstance(schema, dict) and schema else None
    tool["input_schema"] = {**usable, "type": "object"} if usable else {"type": "object", "properties": {}}
    if said.get("strict") is True:
        tool["strict"] = True
    return tool | {name: part for name, part in said.items() if name not in _PARTS_OF_TOOL}


_SCHEMAS = frozenset({"parameters", "input_schema"})
_PARTS_OF_TOOL = frozenset({"type", "function", "name", "description", "parameters", "input_schema", "strict"})


def _choice_of(shape: Shape) -> dict[str, Json] | None:
    """The choice among the tools in Anthropic's form; None where nothing is said about it."""
    written = choice_of(shape)
    choice: dict[str, Json] | None = None
    if isinstance(written, str):
        choice = {"type": _CHOICES[written]} if written in _CHOICES else {"type": "tool", "name": written}
    elif isinstance(written, dict):
        choice = written  # Anthropic's own form; what has neither passes as written, for `_faults_of_the_whole`
        named = written.get("function", written.get("custom", written))
        if written.get("type") not in _OWN_CHOICES and isinstance(named, dict) and "name" in named:
            choice = {"type": "tool", "name": named["name"]}
    if shape.parameters.get("parallel_tool_calls") is False and choice != {"type": "none"}:
        return {"type": "auto", **(choice or {}), "disable_parallel_tool_use": True}
    return choice


_CHOICES: Mapping[str, str] = {"auto": "auto", "required": "any", "any": "any", "none": "none"}
_OWN_CHOICES = ("auto", "any", "tool", "none")


# What each part can say, and all together cannot


def _faults_of_the_whole(shape: Shape) -> Iterator[str]:
    choice = _choice_of(shape)
    if choice and choice.get("type") not in _OWN_CHOICES:
        yield 'request.tool_choice: Anthropic accepts "auto", "required", "none" and the name of one tool; choose one'
    if not thinks(shape):
        return
    # Anthropic documents what does not go together with extended thinking: a forced call, another temperature than 1,
    # top_k, and a top_p below 0.95.
    if tools_of(shape) and choice and choice.get("type") in ("any", "tool"):
        yield 'request.tool_choice: Anthropic forces no call while it thinks; write "auto" or remove request.thinking'
    if shape.parameters.get("temperature") not in (None, 1):
        yield "request.temperature: Anthropic accepts only 1 while it thinks; remove it, or request.thinking"
    if shape.parameters.get("top_k") is not None:
        yield "request.top_k: Anthropic does not accept it while it thinks; remove it, or request.thinking"
    if not _is_number(top_p := shape.parameters.get("top_p"), 0.95, 1) and top_p is not None:
        yield "request.top_p: Anthropic accepts 0.95 to 1 while it thinks; remove it, or request.thinking"


def thinks(shape: Shape) -> bool:
    """Whether thoughts are asked for in the way that has rules of its own for the rest of the request."""
    return bool(value_at(shape.parameters.get("thinking"), "type") == "enabled")


def _tool_faults(shape: Shape) -> Iterator[str]:
    for tool in shape.tools:
        if tool.parameters.get("type", "object") not in _OBJECT_TYPES:
            yield f"tool.{tool.name}.parameters.type: Anthropic accepts objects only; put the value into a property"
        for name in ("anyOf", "oneOf", "allOf"):
            if name in tool.parameters:
                yield f"tool.{tool.name}.parameters.{name}: Anthropic accepts none at the top; put it into a property"
        named = tool.parameters.get("properties")
        for name in named if isinstance(named, dict) else ():
            if not _PROPERTY.fullmatch(name):
                yield f"tool.{tool.name}.parameters.properties.{name}: {_PROPERTY_FAULT}"
        yield from draft_faults(tool.parameters, f"tool.{tool.name}.parameters")


_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")  # those at the top: it does not look at the names of others
_PROPERTY_FAULT = "Anthropic accepts names of 1 to 64 ASCII letters, digits, _, . and - there; rename the property"
_OBJECT_TYPES = ("object", "dict", ["object"], ["object", "null"], ["null", "object"])
