"""Requests in the generateContent protocol of Google's Gemini API, under a URL that ends in /v1beta."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

from batchcall.base import HttpRequest, Json, Request, Shape
from batchcall.dialects.chat_form import choice_of, tools_of
from batchcall.dialects.gemini.contents import as_conversation, text_parts
from batchcall.dialects.gemini.schema import say_schema
from batchcall.dialects.jsontext import as_json_bytes, value_at
from batchcall.dialects.parameters import DROPPED, Parameter, parameter_faults, put, put_parameters, refused, unless

Fragment = dict[str, Json]


def encode_gemini(request: Request) -> HttpRequest:
    """POST /models/{model}:generateContent. All but the messages is encoded once for the whole job."""
    constant = _constant(request.shape)
    said = as_conversation(request.messages, is_signed=constant.wants_signatures)
    body = b'{"contents":' + as_json_bytes(said.contents)
    if system := [*constant.system, *said.system]:
        body += b',"systemInstruction":' + as_json_bytes({"parts": system})
    return HttpRequest(constant.path, body + constant.tail)


def gemini_faults(shape: Shape) -> list[str]:
    """What of a shape Gemini cannot say; see `Dialect.faults`."""
    return [
        *_tool_faults(shape),
        *parameter_faults(shape, _TABLE, _others),
        *_format_of(shape.parameters.get("response_format")).faults,
        *_faults_of_the_whole(shape, _body_of(shape)),
    ]


class _Constant(NamedTuple):
    """What all requests of a shape have in common."""

    path: str
    tail: bytes  # what stands behind contents and system instruction
    system: list[Json]  # parts of the job's own `systemInstruction`, which stand before those of the messages
    wants_signatures: bool


@lru_cache(maxsize=64)  # one entry in most jobs; rows that bring their own tools come and go
def _constant(shape: Shape) -> _Constant:
    body = _body_of(shape)
    system = body.pop("systemInstruction", None)
    return _Constant(
        path=_path(shape),
        tail=b"," + as_json_bytes(body)[1:] if body else b"}",
        system=text_parts(system) if system else [],
        wants_signatures=wants_signatures(shape.model),
    )


def _path(shape: Shape) -> str:
    collection, _, name = shape.model.partition("/")
    if collection not in _COLLECTIONS or not name:
        collection, name = "models", shape.model
    method = "streamGenerateContent?alt=sse" if shape.parameters.get("stream") is True else "generateContent"
    return f"/{collection}/{quote(name, safe='')}:{method}"


_COLLECTIONS = ("models", "tunedModels")


def _body_of(shape: Shape) -> dict[str, Any]:
    """All but the messages, as keys of Gemini's body."""
    body: dict[str, Any] = {}
    functions: list[Json] = []
    for function in _functions_of(shape):
        if not isinstance(function, dict):
            functions.append(function)
            continue
        declaration: Fragment = {"name": function.get("name")}
        if function.get("description"):
            declaration["description"] = function["description"]
        parameters, _ = say_schema(function.get("parameters"), "")
        # Gemini wants no schema for a function without arguments, and has refused empty ones.
        if isinstance(parameters, dict):
            is_empty = parameters.get("properties") == {} and not parameters.get("additionalProperties")
            parameters = None if is_empty else parameters or None
        if parameters is not None:
            declaration["parametersJsonSchema"] = parameters
        functions.append(declaration)
    if functions:
        body["tools"] = [{"functionDeclarations": functions}]
    put_parameters(body, shape, _TABLE, _others)
    choice = choice_of(shape)
    if choice is not None and (choice not in ("auto", "none") or "tools" in body):
        for name, value in (_calling_config(choice) or {}).items():
            put(body, f"toolConfig.functionCallingConfig.{name}", value)
    return body


def version_of(model: str) -> float | None:
    """2.5 of "gemini-2.5-flash"; None of names without one, such as "gemini-flash-latest"."""
    found = _VERSION.search(model)
    return float(found[1]) if found else None


def wants_signatures(model: str) -> bool:
    """Whether the model refuses its own calls without a thought signature: from 3 on, and those called "latest"."""
    version = version_of(model)
    return version >= 3 if version is not None else "gemini-" in model


_VERSION = re.compile(r"\bgemini-(\d+(?:\.\d+)?)")

# Tools


def _functions_of(shape: Shape) -> list[Json]:
    return [one.get("function", one) if isinstance(one, dict) else one for one in tools_of(shape)]


def _tool_faults(shape: Shape) -> Iterator[str]:
    for place, function in enumerate(_functions_of(shape)):
        if isinstance(function, dict):
            name = function.get("name")
            if isinstance(name, str) and not _TOOL_NAME.fullmatch(name):
                yield f"tool[{place}].name: {name!r} must begin with a letter or _, for Gemini; rename the tool"
            yield from say_schema(function.get("parameters"), f"tool[{place}].parameters").faults


_TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")


def _calling_config(choice: Json) -> Fragment | None:
    if isinstance(choice, str):
        return {"mode": _MODES[choice]} if choice in _MODES else {"mode": "ANY", "allowedFunctionNames": [choice]}
    if not isinstance(choice, dict):
        return None
    if (name := _name_in(choice)) is not None:
        return {"mode": "ANY", "allowedFunctionNames": [name]}
    allowed = choice.get("allowed_tools", choice)
    tools = value_at(allowed, "tools")
    if not isinstance(allowed, dict) or not isinstance(tools, list):
        return None
    names: list[Json] = [_name_in(tool) for tool in tools if isinstance(tool, dict)]
    # AUTO takes no names; VALIDATED is AUTO among those that are named.
    return {"mode": "ANY" if allowed.get("mode") == "required" else "VALIDATED", "allowedFunctionNames": names}


_MODES: Mapping[str, str] = {"auto": "AUTO", "required": "ANY", "none": "NONE"}


def _name_in(choice: Fragment) -> str | None:
    function = choice.get("function", choice)
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


# Parameters


def _stop(value: Json, shape: Shape) -> Fragment:
    texts: list[Json] = value if isinstance(value, list) else [value]
    return {"generationConfig.stopSequences": texts} if texts else {}


def _modalities(value: Json, shape: Shape) -> Fragment:
    kinds = value if isinstance(value, list) else [value]
    written: list[Json] = [kind.upper() if isinstance(kind, str) else kind for kind in kinds]
    return {"generationConfig.responseModalities": written}


class _Format(NamedTuple):
    """A response_format in Gemini's words."""

    said: Fragment
    faults: list[str]


def _format_of(value: Json) -> _Format:
    kind = value_at(value, "type")
    if value is None or kind == "text":
        return _Format({}, [])
    if kind not in ("json_object", "json_schema"):
        where = "request.response_format"
        return _Format({}, [f"{where}: Gemini does not know this format; use text, json_object or json_schema"])
    said: Fragment = {"generationConfig.responseMimeType": "application/json"}
    written = value_at(value, "json_schema", "schema")
    if not isinstance(written, dict):
        return _Format(said, [])
    schema, faults = say_schema(written, "request.response_format.json_schema.schema")
    return _Format({**said, "generationConfig.responseJsonSchema": schema}, faults)


def _efforts_of(model: str) -> tuple[str, Mapping[str, Json]]:
    """The path of an effort in the body, and the value for each word; no path for a model that does not think."""
    # As Google documents the translation on its own chat-completions surface: a level from Gemini 3 on, a budget
    # before. A model called Pro always thinks, so it has no "none".
    version = version_of(model)
    if wants_signatures(model):  # they came together
        place, words = "thinkingLevel", _LEVELS
    elif version is None or version < _FIRST_THINKING:
        return "", {}
    else:
        place, words = "thinkingBudget", _BUDGETS
    can_rest = "-pro" not in model
    known = {word: value for word, value in words.items() if can_rest or word != "none"}
    return f"generationConfig.thinkingConfig.{place}", known


def _effort(value: Json, shape: Shape) -> Fragment:
    path, words = _efforts_of(shape.model)
    return {path: words[value]} if isinstance(value, str) and value in words else {}


def _effort_fault(value: Json, shape: Shape) -> str | None:
    path, words = _efforts_of(shape.model)
    if not path:
        return None if value == "none" else f"{shape.model} does not think; remove it"
    if isinstance(value, str) and value in words:
        return None
    return f"{shape.model} has no effort {value!r:.40}; use one of {', '.join(words)}"


_FIRST_THINKING = 2.5
_LEVELS: Mapping[str, Json] = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_BUDGETS: Mapping[str, Json] = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}


_MOST_STOPS = 5
_STOP_FAULT = unless(
    lambda value, _: not isinstance(value, list) or len(value) <= _MOST_STOPS,
    f"Gemini accepts at most {_MOST_STOPS} strings; remove some",
)
_SEED_FAULT = unless(
    lambda value, _: not isinstance(value, int) or -(2**31) <= value < 2**31,
    "Gemini accepts a number of 32 bits; choose a smaller one",
)

_GENERATION = frozenset(
    {
        *("candidateCount", "enableEnhancedCivicAnswers", "frequencyPenalty", "imageConfig", "logprobs"),
        *("maxOutputTokens", "mediaResolution", "presencePenalty", "responseJsonSchema", "responseLogprobs"),
        *("responseMimeType", "responseModalities", "responseSchema", "seed", "speechConfig", "stopSequences"),
        *("temperature", "thinkingConfig", "topK", "topP"),
    }
)


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", name)


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda letter: letter[1].upper(), name)


def _own(name: str) -> Parameter:
    """A key of Gemini's own. Google reads both spellings, but not both of one key."""

    def say(value: Json, shape: Shape) -> Fragment:
        both = [shape.parameters.get(_snake(name)), shape.parameters.get(name)]
        snake, camel = [_in_camel_case(written) for written in both]
        return {name: snake if camel is None else _merged(snake, camel)}

    return Parameter(say=say)


def _in_camel_case(value: Json) -> Json:
    """The value with its keys as we write them; schemas, whose keys are the user's, are left alone."""
    if isinstance(value, list):
        return [_in_camel_case(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    named = {_camel(name): inner for name, inner in value.items()}
    return {name: inner if name.endswith("Schema") else _in_camel_case(inner) for name, inner in named.items()}


def _merged(ours: Json, own: Json) -> Json:
    """Both, key by key; what is written in Gemini's own words wins."""
    if not isinstance(ours, dict) or not isinstance(own, dict):
        return own
    return {**ours, **{name: _merged(ours.get(name), inner) for name, inner in own.items()}}


_NO_SUCH = "Gemini does not accept this parameter; remove it"
_OWN_KEYS = ("cachedContent", "generationConfig", "safetySettings", "serviceTier", "systemInstruction", "toolConfig")

_TABLE: Mapping[str, Parameter] = {
    **{name: _own(name) for name in (*_OWN_KEYS, "store")},
    # `service_tier` is another vendor's word for other tiers.
    **{_snake(name): _own(name) for name in _OWN_KEYS if name != "serviceTier"},
    "labels": Parameter(),  # whose keys are the user's
    "max_completion_tokens": Parameter("generationConfig.maxOutputTokens"),
    "max_tokens": Parameter("generationConfig.maxOutputTokens"),
    "temperature": Parameter("generationConfig.temperature"),
    "top_p": Parameter("generationConfig.topP"),
    "top_k": Parameter("generationConfig.topK"),
    "n": Parameter("generationConfig.candidateCount"),
    "presence_penalty": Parameter("generationConfig.presencePenalty"),
    "frequency_penalty": Parameter("generationConfig.frequencyPenalty"),
    "logprobs": Parameter("generationConfig.responseLogprobs"),
    "top_logprobs": Parameter("generationConfig.logprobs"),
    "seed": Parameter("generationConfig.seed", fault=_SEED_FAULT),
    "stop": Parameter(say=_stop, fault=_STOP_FAULT),
    "modalities": Parameter(say=_modalities, neutral=(None, ["text"])),
    "response_format": Parameter(say=lambda value, _: _format_of(value).said),
    "reasoning_effort": Parameter(say=_effort, fault=_effort_fault),
    # In the path; with every stream in any case; old names of tools and tool_choice.
    **dict.fromkeys(("stream", "stream_options", "functions", "function_call"), DROPPED),
    **refused(_NO_SUCH, "logit_bias", "metadata", "prompt_cache_key", "safety_identifier", "user", "verbosity"),
    **refused(
        "Gemini cannot be limited to one call; remove it: the first call counts in any case", "parallel_tool_calls"
    ),
    "service_tier": Parameter(
        neutral=(None, "auto", "default"), fault="Gemini has tiers of its own; write request.serviceTier"
    ),
    **refused("Gemini has another search; remove it", "web_search_options"),
    **refused("the messages are the contents; write them as request.messages", "contents"),
    **refused("the model stands in the path; write request.model", "model"),
}


def _others(name: str) -> Parameter:
    if (own := _camel(name)) in _GENERATION:
        return Parameter(fault=f"Gemini has it in generationConfig; write it as request.generationConfig.{own}")
    return Parameter(fault=_NO_SUCH)


# What each part can say, and all together cannot


def _faults_of_the_whole(shape: Shape, body: Mapping[str, Any]) -> Iterator[str]:
    choice = choice_of(shape)
    if choice is not None and _calling_config(choice) is None:
        yield f"request.tool_choice: Gemini has no choice like {choice!r:.80}; use auto, required, none or a name"
    version = version_of(shape.model)
    is_json = value_at(body, "generationConfig", "responseMimeType") == "application/json"
    if is_json and body.get("tools") and version is not None and version < 3:
        yield (
            f"request.response_format: {shape.model} takes no format together with tools; "
            "remove it, the tool's schema says it"
        )
    if value_at(body, "toolConfig", "functionCallingConfig", "streamFunctionCallArguments"):
        yield (
            "request.toolConfig.functionCallingConfig.streamFunctionCallArguments: "
            "arguments in pieces are not read here; remove it"
        )
