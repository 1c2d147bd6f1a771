"""The Responses protocol of OpenAI: the same job as `openai-chat` says, in the words of POST /responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from batchcall.base import Failure, HttpRequest, HttpResponse, Json, Reply, Request, Shape
from batchcall.dialects.auth import auth_headers
from batchcall.dialects.jsontext import as_json_bytes, parse_plain
from batchcall.dialects.openai.responses_input import as_input
from batchcall.dialects.openai.responses_reply import response_reply
from batchcall.dialects.openai.strict_schema import strict_tool_faults
from batchcall.dialects.reask import follow_up
from batchcall.dialects.tolerant_decode import decode_with_care, is_nothing

PATH = "/responses"


class OpenAIResponses:
    """`openai-responses`: POST /responses."""

    name = "openai-responses"

    def headers(self, *, auth: str | None, key: str | None) -> dict[str, str]:
        """The headers that every request carries; see `Dialect.headers`."""
        constant = {"Content-Type": "application/json", "Accept": "application/json"}
        return constant | auth_headers(auth or "bearer", key)

    def encode(self, request: Request) -> HttpRequest:
        """The request as it is posted: all but the messages is encoded once for the whole job."""
        head, tail = _around_input(request.shape)
        return HttpRequest(PATH, head + as_json_bytes(as_input(request.messages)) + tail)

    def decode(self, response: HttpResponse, *, now_s: float) -> Reply | Failure:
        """What an answer means; see `Dialect.decode`. The body decides, whatever status and content type say."""
        try:
            reply = response_reply(parse_plain(response.body))
        except (ValueError, RecursionError):
            reply = None
        # An object as arguments: orjson made floats of big integers.
        if reply is None or is_nothing(reply) or any(call.is_object for call in reply.calls):
            return decode_with_care(response, self.name, now_s=now_s)
        return reply

    def reask(self, request: Request, reply: Reply, problem: str) -> Request:
        """The follow-up that shows the model its own answer and what was wrong with it."""
        return follow_up(request, reply, problem)

    def faults(self, shape: Shape) -> list[str]:
        """What this API has no parameter for or refuses; see `Dialect.faults`."""
        unsaid = [
            f"request.{name}: {_ABSENT[name].why}"
            for name, value in shape.parameters.items()
            if name in _ABSENT and not _is_neutral(name, value)
        ]
        caps = [name for name in _CAPS if _is_below(shape.parameters.get(name), _LEAST_CAP)]
        short = [f"request.{name}: the Responses API takes {_LEAST_CAP} or more; ask for that much" for name in caps]
        return [*unsaid, *short, *strict_tool_faults(shape)]


class _Absent(NamedTuple):
    """A parameter that the Responses API does not have."""

    why: str  # and what to do
    neutral: tuple[Json, ...] = ()  # values that say no more than its absence, as null does


_NO_SUCH = "the Responses API has no such parameter; remove it"
_ABSENT: Mapping[str, _Absent] = {
    "audio": _Absent("the Responses API answers in text alone; remove it"),
    "background": _Absent("nobody would come back for the answer; remove it", (False,)),
    "frequency_penalty": _Absent(_NO_SUCH, (0,)),
    "input": _Absent("the input is made of the messages; remove it"),
    "logit_bias": _Absent(_NO_SUCH, ({},)),
    "modalities": _Absent("the Responses API answers in text alone; remove it", ([], ["text"])),
    "n": _Absent("the Responses API gives one answer to a request; remove it", (1,)),
    "prediction": _Absent(_NO_SUCH),
    "presence_penalty": _Absent(_NO_SUCH, (0,)),
    "seed": _Absent(_NO_SUCH),
    "stop": _Absent(_NO_SUCH, ([], "")),
    "web_search_options": _Absent("the Responses API searches with a tool of its own; remove it"),
}
_CAPS = ("max_output_tokens", "max_completion_tokens", "max_tokens")  # the first that is there counts
_LEAST_CAP = 16  # documented


def _is_neutral(name: str, value: Json) -> bool:
    return value is None or value in _ABSENT[name].neutral


def _is_below(value: Json, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value < least


@lru_cache(maxsize=64)  # one entry in most jobs; rows that bring their own tools come and go
def _around_input(shape: Shape) -> tuple[bytes, bytes]:
    """What stands before and behind the input in every body of this shape."""
    head = b'{"model":' + as_json_bytes(shape.model) + b',"input":'
    return head, b"," + as_json_bytes(_rest_of(shape))[1:]


def _rest_of(shape: Shape) -> dict[str, Any]:
    """All of the body but model and input."""
    parameters = shape.parameters
    rest: dict[str, Any] = {}
    tools = [tool.written for tool in shape.tools] or _as_list(parameters.get("functions"))
    if tools:
        rest["tools"] = [_as_flat_tool(tool) for tool in tools]
    choice = shape.tool_choice if shape.tool_choice is not None else parameters.get("function_call")
    if choice is not None:
        rest["tool_choice"] = _as_flat_choice(choice)
    for name, value in parameters.items():
        _WAYS.get(name, _as_it_is)(rest, name, value)
    cap = next((parameters[name] for name in _CAPS if parameters.get(name) is not None), None)
    if cap is not None:
        rest[_CAPS[0]] = cap
    # The API keeps every answer for 30 days unless told not to, and chat completions keeps none. Rows are a company's
    # data and are never asked for there again, so nothing stays behind that the job does not ask for.
    if rest.get("store") is None:
        rest["store"] = False
    return rest


def _as_list(written: Json) -> list[Json]:
    return written if isinstance(written, list) else []


def _as_flat_tool(tool: Any) -> Any:
    """A function without the shell that chat completions puts around it.

    `strict` is always said: chat completions takes its absence for false, the Responses API for true.
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
        flat["tools"] = [_as_flat_choice(tool) for tool in _as_list(flat.get("tools"))]
    return flat


# How each parameter of chat completions is said. All others are the API's own, or have the same name in both.

_Way = Callable[[dict[str, Any], str, Json], None]


def _as_it_is(rest: dict[str, Any], name: str, value: Json) -> None:
    """In its own words; what stands in an object joins what other parameters have put there, and wins."""
    if isinstance(value, dict) and isinstance(rest.get(name), dict):
        value = {**rest[name], **value}
    elif isinstance(value, list) and isinstance(rest.get(name), list):
        value = [*value, *[each for each in rest[name] if each not in value]]
    rest[name] = value


def _left_out(rest: dict[str, Any], name: str, value: Json) -> None:
    """It is said otherwise."""


def _unless_neutral(rest: dict[str, Any], name: str, value: Json) -> None:
    """As it is, where a row's own body says something by it: the endpoint refuses that row, and tells why."""
    if not _is_neutral(name, value):
        rest[name] = value


def _as_format(rest: dict[str, Any], name: str, value: Json) -> None:
    if not isinstance(value, dict):
        return
    schema = value.get("json_schema")
    shell = {part: inner for part, inner in value.items() if part != "json_schema"}
    _put_beneath(rest, "text", "format", {**shell, **schema} if isinstance(schema, dict) else shell)


def _as_effort(rest: dict[str, Any], name: str, value: Json) -> None:
    _put_beneath(rest, "reasoning", "effort", value)


def _as_verbosity(rest: dict[str, Any], name: str, value: Json) -> None:
    _put_beneath(rest, "text", "verbosity", value)


def _put_beneath(rest: dict[str, Any], name: str, part: str, value: Json) -> None:
    around = rest.get(name)
    if value is not None:
        rest[name] = {part: value, **(around if isinstance(around, dict) else {})}


def _as_inclusion(rest: dict[str, Any], name: str, value: Json) -> None:
    if value is True:
        _as_it_is(rest, "include", ["message.output_text.logprobs"])


def _as_stream_options(rest: dict[str, Any], name: str, value: Json) -> None:
    """The usage comes with every stream here, and need not be asked for."""
    written = value if isinstance(value, dict) else {}
    options = {part: inner for part, inner in written.items() if part != "include_usage"}
    if options:
        rest[name] = options


_WAYS: Mapping[str, _Way] = {
    **dict.fromkeys(_ABSENT, _unless_neutral),
    **dict.fromkeys(("input", "functions", "function_call", *_CAPS), _left_out),
    "response_format": _as_format,
    "reasoning_effort": _as_effort,
    "verbosity": _as_verbosity,
    "logprobs": _as_inclusion,
    "stream_options": _as_stream_options,
}
