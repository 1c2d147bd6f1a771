"""All of a request but its messages, in Gemini's words, and what of it Gemini has no words for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchcall.base import Json, Shape
from batchcall.dialects.gemini.schema import say_schema

Fragment = dict[str, Json]


@dataclass(slots=True)
class Settings:
    """What every request of a shape says, as keys of Gemini's body."""

    shape: Shape
    body: Fragment = field(default_factory=dict)
    generation: Fragment = field(default_factory=dict)  # goes into generationConfig
    faults: list[str] = field(default_factory=list)

    def fault(self, where: str, told: str) -> None:
        self.faults.append(f"{where}: {told}")


def settings_of(shape: Shape) -> Settings:
    """A shape in Gemini's words. What it has no words for is named in `faults`, and sent as written."""
    said = Settings(shape)
    _say_tools(said)
    _say_choice(said, shape.tool_choice or shape.parameters.get("function_call"))
    for name, value in shape.parameters.items():
        if value is not None:
            _say_parameter(said, name, value)
    if said.generation:
        said.body["generationConfig"] = said.generation
    for name, value in shape.parameters.items():  # last, as what is written in Gemini's own words wins
        if name in _NATIVE and value is not None:
            own = _NATIVE[name]
            said.body[own] = _merged(said.body.get(own), value if own == "labels" else _in_camel_case(value))
    _check_whole(said)
    return said


def version_of(model: str) -> float | None:
    """2.5 of "gemini-2.5-flash"; None of names that tell none, such as "gemini-flash-latest"."""
    found = _VERSION.search(model)
    return float(found[1]) if found else None


def wants_signatures(model: str) -> bool:
    """Whether the model refuses its own calls without a thought signature: so it is from 3 on, and
    those that are called the latest are newer."""
    version = version_of(model)
    return version >= 3 if version is not None else "gemini-" in model


_VERSION = re.compile(r"\bgemini-(\d+(?:\.\d+)?)")

# Tools


def _say_tools(said: Settings) -> None:
    functions = said.shape.parameters.get("functions")
    written: list[Any] = [tool.written for tool in said.shape.tools] or (
        functions if isinstance(functions, list) else []
    )
    declarations: list[Json] = [_declaration(said, one, f"tool[{place}]") for place, one in enumerate(written)]
    if declarations:
        said.body["tools"] = [{"functionDeclarations": declarations}]


def _declaration(said: Settings, written: Any, where: str) -> Json:
    function: Json = written.get("function", written) if isinstance(written, dict) else written
    if not isinstance(function, dict):
        return function
    name = function.get("name")
    if isinstance(name, str) and not _TOOL_NAME.fullmatch(name):
        said.fault(f"{where}.name", f"{name!r} must begin with a letter or _, for Gemini; rename the tool")
    parameters, faults = say_schema(function.get("parameters"), f"{where}.parameters")
    said.faults += faults
    declaration: Fragment = {"name": name}
    if function.get("description"):
        declaration["description"] = function["description"]
    if not _is_nothing(parameters):
        declaration["parametersJsonSchema"] = parameters
    return declaration


_TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")


def _is_nothing(parameters: Json) -> bool:
    """Whether a function takes no arguments: Gemini wants no schema then, and has refused empty ones."""
    if not isinstance(parameters, dict):
        return parameters is None
    return not parameters or (parameters.get("properties") == {} and not parameters.get("additionalProperties"))


def _say_choice(said: Settings, choice: Json) -> None:
    if choice is None or (choice in ("auto", "none") and "tools" not in said.body):
        return
    config = _calling_config(choice)
    if config is None:
        said.fault("request.tool_choice", f"Gemini has none like {choice!r:.80}; use auto, required, none or a name")
    else:
        said.body["toolConfig"] = {"functionCallingConfig": config}


def _calling_config(choice: Json) -> Fragment | None:
    if isinstance(choice, str):
        return {"mode": _MODES[choice]} if choice in _MODES else {"mode": "ANY", "allowedFunctionNames": [choice]}
    if not isinstance(choice, dict):
        return None
    if (name := _name_in(choice)) is not None:
        return {"mode": "ANY", "allowedFunctionNames": [name]}
    allowed = choice.get("allowed_tools", choice)
    tools = allowed.get("tools") if isinstance(allowed, dict) else None
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


def _say_parameter(said: Settings, name: str, value: Json) -> None:
    if name in _SAID_ELSEWHERE or name in _NATIVE:
        return
    if name in _RENAMED:
        said.generation[_RENAMED[name]] = value
    elif name in _TRANSLATED:
        _TRANSLATED[name](said, value)
    elif value not in _NEUTRAL.get(name, ()):
        said.fault(f"request.{name}", _ADVICE.get(name, _advice(name)))
        said.body[name] = value


def _advice(name: str) -> str:
    if (own := _camel(name)) in _GENERATION:
        return f"Gemini has it in generationConfig; write it as request.generationConfig.{own}"
    return "Gemini has no such parameter; remove it"


def _cap(said: Settings, value: Json) -> None:
    """`max_tokens`, the old name of what `max_completion_tokens` says."""
    said.generation.setdefault("maxOutputTokens", value)


def _stop(said: Settings, value: Json) -> None:
    texts: list[Json] = value if isinstance(value, list) else [value]
    if len(texts) > _MOST_STOPS:
        said.fault("request.stop", f"Gemini takes {_MOST_STOPS} texts at most; remove some")
    if texts:
        said.generation["stopSequences"] = texts


def _seed(said: Settings, value: Json) -> None:
    if isinstance(value, int) and not -(2**31) <= value < 2**31:
        said.fault("request.seed", "Gemini's is a number of 32 bits; take a smaller one")
    said.generation["seed"] = value


def _modalities(said: Settings, value: Json) -> None:
    if value != ["text"]:
        kinds = value if isinstance(value, list) else [value]
        said.generation["responseModalities"] = [kind.upper() if isinstance(kind, str) else kind for kind in kinds]


def _response_format(said: Settings, value: Json) -> None:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return
    if kind not in ("json_object", "json_schema") or not isinstance(value, dict):
        said.fault("request.response_format", "Gemini has no such format; use text, json_object or json_schema")
        return
    said.generation["responseMimeType"] = "application/json"
    named = value.get("json_schema")
    if isinstance(named, dict) and isinstance(named.get("schema"), dict):
        schema, faults = say_schema(named["schema"], "request.response_format.json_schema.schema")
        said.generation["responseJsonSchema"] = schema
        said.faults += faults


def _effort(said: Settings, value: Json) -> None:
    """As Google translates it on its own chat-completions surface: a level from Gemini 3 on, a budget before."""
    model, version = said.shape.model, version_of(said.shape.model)
    by_level = wants_signatures(model)  # they came together
    words = _LEVELS if by_level else _BUDGETS
    if not by_level and (version is None or version < _FIRST_THINKING):
        if value != "none":
            said.fault("request.reasoning_effort", f"{model} does not think; remove it")
    elif not isinstance(value, str) or value not in words or (value == "none" and "-pro" in model):
        known = ", ".join(word for word in words if not (word == "none" and "-pro" in model))
        said.fault("request.reasoning_effort", f"{model} has no effort {value!r:.40}; use one of {known}")
    else:
        said.generation["thinkingConfig"] = {"thinkingLevel" if by_level else "thinkingBudget": words[value]}


_MOST_STOPS = 5
_FIRST_THINKING = 2.5
_LEVELS: Mapping[str, str] = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_BUDGETS: Mapping[str, int] = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}

_RENAMED: Mapping[str, str] = {
    "max_completion_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "n": "candidateCount",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
_TRANSLATED: Mapping[str, Callable[[Settings, Json], None]] = {
    "max_tokens": _cap,
    "stop": _stop,
    "seed": _seed,
    "modalities": _modalities,
    "response_format": _response_format,
    "reasoning_effort": _effort,
}
# In the path; with every stream in any case; among the tools, which old batch files call functions.
_SAID_ELSEWHERE = frozenset({"stream", "stream_options", "functions", "function_call"})

# Values that ask for what Gemini does anyway, of parameters that it does not have.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "logit_bias": ({},),
    "metadata": ({},),
    "parallel_tool_calls": (True,),
    "prompt_cache_key": ("",),
    "safety_identifier": ("",),
    "service_tier": ("auto", "default"),
    "user": ("",),
    "verbosity": ("medium",),
}
_ADVICE: Mapping[str, str] = {
    "parallel_tool_calls": "Gemini cannot be held to one call; remove it, the first call counts in any case",
    "service_tier": "Gemini has tiers of its own; write request.serviceTier",
    "web_search_options": "Gemini has another search; remove it",
    "contents": "the messages are the contents; write them as request.messages",
    "model": "the model stands in the path; write request.model",
}

# Gemini's own keys, which pass as written.

_OWN_KEYS = ("cachedContent", "generationConfig", "labels", "safetySettings", "serviceTier", "systemInstruction",
             "toolConfig")  # fmt: skip
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


# Google reads both spellings, but not both of one key. `service_tier` is another vendor's word for other tiers.
_NATIVE: Mapping[str, str] = {
    **{name: name for name in (*_OWN_KEYS, "store")},
    **{_snake(name): name for name in _OWN_KEYS if name != "serviceTier"},
}


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


# What each part can say, and all together cannot


def _check_whole(said: Settings) -> None:
    for where, told in _clashes(said):
        said.fault(where, told)


def _clashes(said: Settings) -> Iterator[tuple[str, str]]:
    generation, version = said.body.get("generationConfig"), version_of(said.shape.model)
    is_json = isinstance(generation, dict) and generation.get("responseMimeType") == "application/json"
    if is_json and said.body.get("tools") and version is not None and version < 3:
        yield (
            "request.response_format",
            f"{said.shape.model} takes no format together with tools; remove it, the tool's schema says it",
        )
    config = said.body.get("toolConfig")
    calling = config.get("functionCallingConfig") if isinstance(config, dict) else None
    if isinstance(calling, dict) and calling.get("streamFunctionCallArguments"):
        yield (
            "request.toolConfig.functionCallingConfig.streamFunctionCallArguments",
            "arguments in pieces are not read here; remove it",
        )
