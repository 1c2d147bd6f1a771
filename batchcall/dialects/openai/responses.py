"""Requests in the Responses protocol of OpenAI: the same job as in `openai-chat`, in the words of POST /responses."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from batchcall.base import HttpRequest, Json, Request, Shape
from batchcall.dialects.chat_form import choice_of, tools_of
from batchcall.dialects.jsontext import as_json_bytes, as_list
from batchcall.dialects.openai.responses_input import as_input
from batchcall.dialects.openai.strict_schema import strict_tool_faults
from batchcall.dialects.parameters import DROPPED, Parameter, Table, parameter_faults, put_parameters, refused


def encode_responses(request: Request) -> HttpRequest:
    """POST /responses. All but the messages is encoded once for the whole job."""
    head, tail = _around_input(request.shape)
    return HttpRequest("/responses", head + as_json_bytes(as_input(request.messages)) + tail)


def responses_faults(shape: Shape) -> list[str]:
    """What this API has no parameter for or refuses; see `Dialect.faults`."""
    return [*parameter_faults(shape, _TABLE, _others), *strict_tool_faults(shape)]


@lru_cache(maxsize=64)  # one entry in most jobs; rows that bring their own tools come and go
def _around_input(shape: Shape) -> tuple[bytes, bytes]:
    """What stands before and behind the input in every body of this shape."""
    rest: dict[str, Any] = {}
    if tools := tools_of(shape):
        rest["tools"] = [_as_flat_tool(tool) for tool in tools]
    if (choice := choice_of(shape)) is not None:
        rest["tool_choice"] = _as_flat_choice(choice)
    put_parameters(rest, shape, _TABLE, _others)
    # The API keeps every answer for 30 days unless the request says no, and chat completions keeps none. Rows are a
    # company's data and are never read there again, so nothing stays behind that the job does not ask for.
    if rest.get("store") is None:
        rest["store"] = False
    head = b'{"model":' + as_json_bytes(shape.model) + b',"input":'
    return head, b"," + as_json_bytes(rest)[1:]


def _as_flat_tool(tool: Any) -> Any:
    """A function without the shell that chat completions puts around it.

    `strict` is always written: chat completions takes its absence for false, the Responses API for true.
    """
    if not isinstance(tool, dict):
        return tool
    function = tool.get("function")
    if function is None and tool.get("type", "function") == "function":
        function = tool
    if not isinstance(function, dict):
        return tool
    shell = {name: value for name, value in tool.items() if name != "function"}
    flat = {"type": "function", **shell, **function}
    empty: dict[str, Json] = {"type": "object", "properties": {}}
    return {**flat, "parameters": flat.get("parameters") or empty, "strict": bool(flat.get("strict"))}


def _as_flat_choice(choice: Json) -> Json:
    if not isinstance(choice, dict):
        return choice
    kind = choice.get("type", "function")
    named = choice.get(kind, choice) if isinstance(kind, str) else choice
    if not isinstance(named, dict):
        return choice
    flat = {"type": kind, **{name: value for name, value in named.items() if name != "type"}}
    if kind == "allowed_tools":
        flat["tools"] = [_as_flat_choice(tool) for tool in as_list(flat.get("tools"))]
    return flat


def _format(value: Json, shape: Shape) -> dict[str, Json]:
    if not isinstance(value, dict):
        return {}
    schema = value.get("json_schema")
    shell = {part: inner for part, inner in value.items() if part != "json_schema"}
    return {"text.format": {**shell, **schema} if isinstance(schema, dict) else shell}


# The usage comes with every stream here, and is not asked for.
def _stream_options(value: Json, shape: Shape) -> dict[str, Json]:
    written = value if isinstance(value, dict) else {}
    options: Json = {part: inner for part, inner in written.items() if part != "include_usage"}
    return {"stream_options": options} if options else {}


def _cap_fault(value: Json, shape: Shape) -> str | None:
    is_short = isinstance(value, int) and not isinstance(value, bool) and value < _LEAST_CAP
    return f"the Responses API accepts {_LEAST_CAP} or more; choose such a number" if is_short else None


_LEAST_CAP = 16  # documented

# By OpenAI's reference of POST /responses: what has another name there is renamed or nested, and what the Responses
# API lacks is a fault of the job unless it asks for what happens anyway. To leave a parameter out silently would answer
# another question than the one that was asked.
_TABLE: Table = {
    "max_output_tokens": Parameter(fault=_cap_fault),
    "max_completion_tokens": Parameter("max_output_tokens", fault=_cap_fault),
    "max_tokens": Parameter("max_output_tokens", fault=_cap_fault),
    "response_format": Parameter(say=_format),
    "reasoning_effort": Parameter("reasoning.effort"),
    "verbosity": Parameter("text.verbosity"),
    "logprobs": Parameter(say=lambda value, _: {"include": ["message.output_text.logprobs"]} if value is True else {}),
    "stream_options": Parameter(say=_stream_options),
    **dict.fromkeys(("functions", "function_call"), DROPPED),  # old names of tools and tool_choice
    "input": DROPPED._replace(fault="the input is made of the messages; remove it"),
    **refused("the Responses API answers in text only; remove it", "audio", "modalities"),
    **refused("batchcall does not come back for the answer; remove it", "background"),
    **refused("the Responses API gives one answer to a request; remove it", "n"),
    **refused("the Responses API searches with a tool of its own; remove it", "web_search_options"),
    **refused(
        "the Responses API does not accept this parameter; remove it",
        *("frequency_penalty", "logit_bias", "prediction", "presence_penalty", "seed", "stop"),
    ),
}


def _others(name: str) -> Parameter:
    return _AS_WRITTEN


_AS_WRITTEN = Parameter(neutral=())  # null too: it is a value of this API's
