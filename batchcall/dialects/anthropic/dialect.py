"""The Messages API of Anthropic. Requests arrive in the words of chat completions and leave in Anthropic's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from batchcall.base import Failure, HttpRequest, HttpResponse, Json, Reply, Request, Shape
from batchcall.dialects.anthropic.reply import message_reply_from
from batchcall.dialects.anthropic.schema import draft_faults
from batchcall.dialects.anthropic.turns import as_turns
from batchcall.dialects.auth import auth_headers
from batchcall.dialects.jsontext import as_json_bytes, has_duplicate_keys, may_have_lost_digits, parse_plain
from batchcall.dialects.reask import follow_up
from batchcall.dialects.tolerant_decode import decode_with_care, is_nothing

PATH = "/messages"
VERSION = "2023-06-01"
DEFAULT_MAX_TOKENS = 4096  # the API wants a cap; the largest that every model since Claude 3 allows


class Anthropic:
    """`anthropic`: POST /messages."""

    name = "anthropic"

    def headers(self, *, auth: str | None, key: str | None) -> dict[str, str]:
        """The headers that every request carries; see `Dialect.headers`."""
        constant = {"Content-Type": "application/json", "Accept": "application/json", "anthropic-version": VERSION}
        return constant | auth_headers(auth or "x-api-key", key)

    def encode(self, request: Request) -> HttpRequest:
        """The request as it is posted: all but what is said is encoded once for the whole job."""
        frame = _frame(request.shape)
        turns, system = as_turns(request.messages, frame.system)
        told = b',"system":' + as_json_bytes(system) if system else b""
        return HttpRequest(PATH, frame.head + as_json_bytes(turns) + told + b"}")

    def decode(self, response: HttpResponse, *, now_s: float) -> Reply | Failure:
        """What an answer means; see `Dialect.decode`. The body decides, whatever status and content type say."""
        try:
            document = parse_plain(response.body)
            reply = message_reply_from(document)
        except (ValueError, RecursionError):
            reply = None
        if (
            reply is None
            or is_nothing(reply)
            or any(may_have_lost_digits(call.arguments) for call in reply.calls)
            or (reply.calls and has_duplicate_keys([response.body.decode(errors="replace")], [document]))
        ):
            return decode_with_care(response, self.name, now_s=now_s)
        return reply

    def reask(self, request: Request, reply: Reply, problem: str) -> Request:
        """The follow-up that shows the model its own answer and what was wrong with it. Where Anthropic thinks, it
        wants the thoughts that led to a call back with it, signature and all; they are in no `Reply`."""
        return follow_up(request, reply, problem, as_text=_thinks(request.shape))

    def faults(self, shape: Shape) -> list[str]:
        """What of this shape Anthropic does not take; see `Dialect.faults`."""
        return [fault for find in _FINDERS for fault in find(shape)]


# Requests


class _Frame(NamedTuple):
    """What all requests of a shape have in common."""

    head: bytes  # the body up to the turns
    system: Json  # what the shape says itself, in Anthropic's own parameter


@lru_cache(maxsize=64)  # one entry in most jobs; rows that bring their own tools come and go
def _frame(shape: Shape) -> _Frame:
    body: dict[str, Any] = {"model": shape.model, "max_tokens": _max_tokens(shape)}
    tools = _tools_of(shape)
    if tools:
        body["tools"] = tools
        if choice := _choice_of(shape):
            body["tool_choice"] = choice
    for name, value in shape.parameters.items():
        if name not in _SAID_ELSEWHERE and not _is_neutral(name, value):
            _add(body, _translated(name, value))
    return _Frame(as_json_bytes(body)[:-1] + b',"messages":', shape.parameters.get("system"))


def _max_tokens(shape: Shape) -> Json:
    for name in ("max_completion_tokens", "max_tokens"):
        if shape.parameters.get(name) is not None:
            return shape.parameters[name]
    return default_cap(shape)


def default_cap(shape: Shape) -> int:
    """The cap on an answer's length that is sent where the request names none."""
    thinking = shape.parameters.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return DEFAULT_MAX_TOKENS + (budget if isinstance(budget, int) else 0)  # thoughts count, and have to fit in


def _add(body: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Take `more` into the body, beside what another word for the same has brought."""
    for name, value in more.items():
        before = body.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            body[name] = {**before, **value}
        elif isinstance(before, list) and isinstance(value, list):
            body[name] = before + value
        else:
            body[name] = value


def _translated(name: str, value: Json) -> Mapping[str, Json]:
    """The parameter in Anthropic's words; as it is written where it is Anthropic's own, or nobody's."""
    translate = _TRANSLATED.get(name)
    return (translate(value) if translate else None) or {name: value}


def _is_neutral(name: str, value: Json) -> bool:
    """Whether it asks for nothing but what happens anyway."""
    return value is None or value in _NEUTRAL.get(name, ())


def _stop(value: Json) -> Mapping[str, Json] | None:
    listed: Json = [value] if isinstance(value, str) else value
    return {"stop_sequences": listed} if isinstance(listed, list) else None


def _user(value: Json) -> Mapping[str, Json]:
    return {"metadata": {"user_id": value}}


def _effort(value: Json) -> Mapping[str, Json] | None:
    if value == "none":
        return {"thinking": {"type": "disabled"}}
    return {"output_config": {"effort": value}} if value in _EFFORTS else None


def _format(value: Json) -> Mapping[str, Json] | None:
    wanted = value.get("json_schema") if isinstance(value, dict) else None
    schema = wanted.get("schema") if isinstance(wanted, dict) else None
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}} if schema else None


_TRANSLATED: Mapping[str, Callable[[Json], Mapping[str, Json] | None]] = {
    "stop": _stop,
    "user": _user,
    "safety_identifier": _user,
    "reasoning_effort": _effort,
    "response_format": _format,
}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")

# In the body already, or without a say in the answer: usage comes with every stream, caches are marked in the content.
_SAID_ELSEWHERE = frozenset(
    {
        "max_tokens",
        "max_completion_tokens",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "system",
        "stream_options",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)
_NEUTRAL: Mapping[str, tuple[Json, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "store": (False,),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "response_format": ({"type": "text"},),
}


# Tools


def _tools_of(shape: Shape) -> list[Json]:
    if shape.tools:
        return [_tool(tool.written) for tool in shape.tools]
    legacy = shape.parameters.get("functions")
    return [_tool(function) for function in legacy if isinstance(function, dict)] if isinstance(legacy, list) else []


def _tool(written: Mapping[str, Json]) -> Json:
    """The tool in Anthropic's form. What stands beside the function passes on, as a mark for the cache does."""
    function = written.get("function")
    told = {**written, **function} if isinstance(function, dict) else dict(written)
    if told.keys().isdisjoint(_SCHEMAS) and told.get("type", "function") != "function":
        return told  # one that Anthropic runs itself
    tool: dict[str, Json] = {"name": told.get("name")}
    if told.get("description"):
        tool["description"] = told["description"]
    tool["input_schema"] = _input_schema(told.get("input_schema", told.get("parameters")))
    if told.get("strict") is True:
        tool["strict"] = True
    return tool | {name: part for name, part in told.items() if name not in _PARTS_OF_TOOL}


_SCHEMAS = frozenset({"parameters", "input_schema"})
_PARTS_OF_TOOL = frozenset({"type", "function", "name", "description", "parameters", "input_schema", "strict"})


def _input_schema(written: Json) -> Json:
    """The schema of the arguments, which has to say that they are an object."""
    schema = written if isinstance(written, dict) else {}
    return {**schema, "type": "object"} if schema else {"type": "object", "properties": {}}


def _choice_of(shape: Shape) -> dict[str, Json] | None:
    """What is said of the choice among the tools; None where nothing is."""
    written = shape.tool_choice if shape.tool_choice is not None else shape.parameters.get("function_call")
    choice = _choice(written)
    if shape.parameters.get("parallel_tool_calls") is False and choice != {"type": "none"}:
        return {"type": "auto", **(choice or {}), "disable_parallel_tool_use": True}
    return choice


def _choice(written: Json) -> dict[str, Json] | None:
    """The choice of a tool in Anthropic's form; None where nothing is said."""
    if isinstance(written, str):
        return {"type": _CHOICES[written]} if written in _CHOICES else {"type": "tool", "name": written}
    if not isinstance(written, dict):
        return None
    if written.get("type") in _OWN_CHOICES:
        return written
    named = written.get("function", written.get("custom", written))
    return {"type": "tool", "name": named["name"]} if isinstance(named, dict) and "name" in named else written


_CHOICES: Mapping[str, str] = {"auto": "auto", "required": "any", "any": "any", "none": "none"}
_OWN_CHOICES = ("auto", "any", "tool", "none")


# Faults


def _inexpressible(shape: Shape) -> Iterator[str]:
    for name, value in shape.parameters.items():
        if name in _INEXPRESSIBLE and not _is_neutral(name, value):
            yield f"request.{name}: Anthropic {_INEXPRESSIBLE[name]}; remove it"


_INEXPRESSIBLE: Mapping[str, str] = {
    "n": "gives one answer a request",
    **dict.fromkeys(
        (
            "best_of",
            "logprobs",
            "top_logprobs",
            "logit_bias",
            "presence_penalty",
            "frequency_penalty",
            "seed",
            "store",
            "modalities",
            "audio",
            "prediction",
            "verbosity",
            "web_search_options",
        ),
        "has no such parameter",
    ),
}


def _unusable_values(shape: Shape) -> Iterator[str]:
    for name, (is_usable, told) in _USABLE.items():
        value = shape.parameters.get(name)
        if not _is_neutral(name, value) and not is_usable(value):
            yield f"request.{name}: {told}"


def _has_words(stop: Json) -> bool:
    listed = stop if isinstance(stop, list) else [stop]
    return all(isinstance(each, str) and each.strip() for each in listed)


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


_USABLE: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (
        lambda value: _is_number(value, 0, 1),
        "Anthropic takes 0 to 1; choose one of these",
    ),
    "stop": (_has_words, "Anthropic takes no stop sequence of blanks only; remove those"),
    "stop_sequences": (_has_words, "Anthropic takes no stop sequence of blanks only; remove those"),
    "response_format": (
        lambda value: _format(value) is not None,
        "Anthropic has no JSON mode without a schema; give a tool, or a json_schema",
    ),
    "reasoning_effort": (
        lambda value: _effort(value) is not None,
        f"Anthropic knows none and {', '.join(_EFFORTS)}; choose one of these",
    ),
    "metadata": (
        lambda value: isinstance(value, dict) and value.keys() <= {"user_id"},
        "Anthropic takes nothing but user_id in it; remove the rest",
    ),
    "service_tier": (
        lambda value: value not in ("default", "flex", "scale", "priority"),
        'Anthropic knows "auto" and "standard_only"; choose one of these',
    ),
}


def _unusable_beside_thinking(shape: Shape) -> Iterator[str]:
    if not _thinks(shape):
        return
    choice = _choice_of(shape) if _tools_of(shape) else None
    if choice and choice.get("type") in ("any", "tool"):
        yield 'request.tool_choice: Anthropic forces no call while it thinks; write "auto", or remove request.thinking'
    if shape.parameters.get("temperature") not in (None, 1):
        yield "request.temperature: Anthropic takes only 1 while it thinks; remove it, or request.thinking"
    if shape.parameters.get("top_k") is not None:
        yield "request.top_k: Anthropic does not take it while it thinks; remove it, or request.thinking"
    if not _is_number(top_p := shape.parameters.get("top_p"), 0.95, 1) and top_p is not None:
        yield "request.top_p: Anthropic takes 0.95 to 1 while it thinks; remove it, or request.thinking"


def _thinks(shape: Shape) -> bool:
    """Whether thoughts are asked for in the way that has rules of its own for the rest of the request."""
    thinking = shape.parameters.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") == "enabled"


def _unusable_choice(shape: Shape) -> Iterator[str]:
    choice = _choice_of(shape)
    if choice and choice.get("type") not in _OWN_CHOICES:
        yield 'request.tool_choice: Anthropic knows "auto", "required", "none" and the name of one tool; choose one'


def _unusable_tools(shape: Shape) -> Iterator[str]:
    for tool in shape.tools:
        if tool.parameters.get("type", "object") not in _OBJECT_TYPES:
            yield f"tool.{tool.name}.parameters.type: Anthropic takes objects only; put the value into a property"
        for name in ("anyOf", "oneOf", "allOf"):
            if name in tool.parameters:
                yield f"tool.{tool.name}.parameters.{name}: Anthropic takes none at the top; put it into a property"
        named = tool.parameters.get("properties")
        for name in named if isinstance(named, dict) else ():
            if not _PROPERTY.fullmatch(name):
                yield f"tool.{tool.name}.parameters.properties.{name}: {_PROPERTY_TOLD}"
        yield from draft_faults(tool.parameters, f"tool.{tool.name}.parameters")


_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")  # those at the top: it does not look at the names of others
_PROPERTY_TOLD = "Anthropic takes names of 1 to 64 ASCII letters, digits, _, . and - there; rename the property"
_OBJECT_TYPES = ("object", "dict", ["object"], ["object", "null"], ["null", "object"])

_FINDERS: tuple[Callable[[Shape], Iterator[str]], ...] = (
    _inexpressible,
    _unusable_values,
    _unusable_choice,
    _unusable_beside_thinking,
    _unusable_tools,
)
