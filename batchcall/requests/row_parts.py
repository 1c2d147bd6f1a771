"""Parts of a request that come from the row: messages, tools, tool choice, a whole body.

JSON text is taken as it is written. In nested columns a null is an absent key, since Arrow's structs all have every
key; so is a NaN, which is the null of pandas.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, time
from typing import Any

from batchcall.base import Json, Tool, is_deeper
from batchcall.requests.prompt import RowError

MAX_DEPTH = 100  # encoders recurse; what people write nests about ten levels
CHOICE_WORDS = frozenset({"auto", "required", "none"})
_LONGEST_NAME = 64
_ALLOWED_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_NULL_MEANS = frozenset({"const", "default"})  # in a JSON Schema
_SHOWN = 80  # characters of a value in an error
_LOOKS_LIKE_MESSAGES = re.compile(r'\s*\[\s*\{\s*"')


def read_messages(value: Any, where: str) -> list[Json]:
    """Messages as a row has them: nested, as JSON text, or one user message in plain words. Raises RowError."""
    if not isinstance(value, str | bytes):
        return checked_messages(without_nulls_in_messages(value, where), where)
    # A text is a JSON list of messages, or plain words, as "[Note] call me" is. What begins like messages and is not
    # JSON was cut short somewhere: it is refused, since otherwise it would be paid for as a question.
    text = read_text(value, where)
    json_text = text.removeprefix("\ufeff")
    listed = None
    if json_text.lstrip().startswith("["):
        try:
            listed = parse_json(json_text, where)
        except RowError:
            if _LOOKS_LIKE_MESSAGES.match(json_text):
                raise
    return checked_messages(listed, where) if isinstance(listed, list) else [{"role": "user", "content": text}]


def read_text(value: str | bytes, where: str) -> str:
    """Text, which some writers of Parquet call binary. Raises RowError."""
    try:
        return value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError as error:
        raise RowError(f"{where}: bytes that are not valid UTF-8") from error


def parse_json(text: str, where: str) -> Json:
    """The value of a JSON text, integers exact. Raises RowError."""
    try:
        value: Json = _DECODER.decode(text.removeprefix("\ufeff"))
        # Looking at the depth costs more than counting brackets, and a text with few of them cannot be deep.
        if text.count("[") + text.count("{") > MAX_DEPTH and is_deeper(value, MAX_DEPTH):
            raise RecursionError
    except json.JSONDecodeError as error:
        raise RowError(f"{where}: not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise RowError(f"{where}: {_TOO_DEEP}") from error
    except ValueError as error:
        raise RowError(f"{where}: not JSON: {_cut(str(error))}") from error
    return value


def checked_messages(messages: Any, where: str) -> list[Json]:
    """The same messages. Raises RowError when there are none, or one of them is not a message."""
    if not isinstance(messages, list):
        raise RowError(f"{where}: messages must be a list, not {_kind(messages)}")
    if not messages:
        raise RowError(f"{where}: there are no messages")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            raise RowError(f"{where}: message {number} must be an object, not {_kind(message)}")
        # An input item of the Responses API, a call for one, may have a type instead.
        if not isinstance(message.get("role"), str) and not isinstance(message.get("type"), str):
            raise RowError(f"{where}: message {number} has no role")
    return messages


def without_nulls_in_messages(messages: Any, where: str) -> Any:
    """Nested messages as JSON. A content that is null stays: an assistant that only calls has it so."""
    if isinstance(messages, Mapping):
        messages = [messages]
    if not isinstance(messages, list | tuple):
        return messages
    return [
        {str(name): as_json(part, where) for name, part in message.items() if name == "content" or not _is_null(part)}
        if isinstance(message, Mapping)
        else as_json(message, where)
        for message in messages
    ]


def as_json(value: Any, where: str) -> Json:
    """A nested value as JSON, without the keys that are null. Raises RowError."""
    try:
        return _as_json(value, MAX_DEPTH)
    except UnicodeDecodeError as error:
        raise RowError(f"{where}: bytes that are not valid UTF-8") from error
    except ValueError as error:
        raise RowError(f"{where}: {error}") from error


def _as_json(value: Any, levels: int) -> Json:
    # The order is that of frequency: most values in a nested column are texts.
    if value is None or isinstance(value, str | int):
        return value
    if levels == 0:
        raise ValueError(_TOO_DEEP)
    if isinstance(value, Mapping):
        return {
            str(name): _as_json(inner, levels - 1)
            for name, inner in value.items()
            if name in _NULL_MEANS or not _is_null(inner)
        }
    if isinstance(value, list | tuple):
        return [_as_json(inner, levels - 1) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | time):
        return value.isoformat()
    return value.decode() if isinstance(value, bytes) else str(value)  # decimals, durations, UUIDs


def _is_null(value: Any) -> bool:
    return value is None or (type(value) is float and not math.isfinite(value))


def read_tools(value: Any, where: str) -> tuple[Tool, ...] | None:
    """Tools as a row has them: nested or as JSON text; tool objects, bare or legacy functions, Anthropic's tools.

    None where the row has nothing about tools; none at all for an empty list. Raises RowError.
    """
    if isinstance(value, str | bytes):
        text = read_text(value, where)
        written = parse_json(text, where) if text.strip() else None
    else:
        written = as_json(value, where)
    if written is None:
        return None
    listed = [written] if isinstance(written, dict) else written
    if not isinstance(listed, list):
        raise RowError(f"{where}: tools must be a list, not {_kind(listed)}")
    tools = tuple(_tool(one, f"{where}: tool {number}") for number, one in enumerate(listed, 1))
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RowError(f"{where}: two tools are called {_cut(repr(twice))}")
    return tools


def _tool(written: Json, where: str) -> Tool:
    if not isinstance(written, dict):
        raise RowError(f"{where} must be an object, not {_kind(written)}")
    # Four forms: {"type": "function", "function": {…}}; the same without the type; the function alone, with or without
    # it, as of the Responses API; and Anthropic's, whose schema is `input_schema`. All become the first.
    kind = written.get("type")
    if kind in (None, "custom") and "input_schema" in written:  # Anthropic's form
        named = {name: part for name, part in written.items() if name not in ("type", "input_schema")}
        written = {**named, "parameters": written["input_schema"]}
    elif kind not in (None, "function"):
        raise RowError(f"{where} is of type {_cut(repr(kind))}; only functions can be called")
    function = written.get("function", written)
    if not isinstance(function, dict):
        raise RowError(f"{where}: `function` must be an object, not {_kind(function)}")
    if function is written:
        function = {name: part for name, part in written.items() if name != "type"}
        written = {"type": "function", "function": function}
    elif "type" not in written:
        written = {"type": "function", **written}
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not name.strip():
        raise RowError(f"{where} has no name")
    if parameters is not None and not isinstance(parameters, dict):
        raise RowError(f"{where}: parameters must be an object, not {_kind(parameters)}")
    return Tool(name, parameters or {}, written)  # no parameters: a function that takes none


def sent_name(tool: Tool) -> str:
    """What a tool is called at endpoints that allow ASCII letters, digits, _ and - only: its name, or one like it."""
    return _function_named_in(tool.written) or tool.name


def names_as_sent(tools: Sequence[Tool]) -> dict[str, str]:
    """The tools' own names by those that strict endpoints know."""
    return {sent_name(tool): tool.name for tool in tools}


def with_sent_names(tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """The same tools, written so that they can be sent: `math.factorial` goes out as `math_factorial`.

    `Tool.name` stays the user's own. The names depend on nothing but the names and their order.
    """
    # Names that are allowed keep their own, wherever they stand: a number is only added to those that are changed
    # anyway.
    taken = {tool.name for tool in tools if _ALLOWED_NAME.fullmatch(tool.name)}
    sent = []
    for tool in tools:
        name = tool.name
        if not _ALLOWED_NAME.fullmatch(name):
            wanted, number = _NOT_IN_NAME.sub("_", name), 1
            name = wanted[:_LONGEST_NAME]
            while name in taken:
                number += 1
                name = f"{wanted[: _LONGEST_NAME - len(str(number)) - 1]}_{number}"
            taken.add(name)
        sent.append(_renamed(tool, name))
    return tuple(sent)


def with_own_names(tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """The same tools, written by the user's own names, for endpoints that take any."""
    return tuple(_renamed(tool, tool.name) for tool in tools)


def _renamed(tool: Tool, name: str) -> Tool:
    function = tool.written.get("function")
    if not isinstance(function, dict) or function.get("name") == name:
        return tool
    return Tool(tool.name, tool.parameters, {**tool.written, "function": {**function, "name": name}})


def read_choice(value: Any, where: str) -> Json:
    """A tool choice as a row or a job has it: a word, a tool's name, an object, or JSON text of one of them.

    A name becomes the object that forces the tool. None where there is no choice. Raises RowError.
    """
    choice = as_json(read_text(value, where).strip() if isinstance(value, str | bytes) else value, where)
    if isinstance(choice, str) and choice.startswith(("{", '"')):
        choice = parse_json(choice, where)
    if not choice:
        return None
    if isinstance(choice, str):
        return choice if choice in CHOICE_WORDS else _forcing(choice)
    if not isinstance(choice, dict):
        raise RowError(f"{where}: a tool choice must be a word, a tool's name or an object, not {_kind(choice)}")
    # Flat forms: {"name": …} of the legacy function_call, {"type": …, "name": …} of Anthropic and the Responses API.
    name = choice.get("name")
    return _forcing(name) if isinstance(name, str) and choice.keys() <= {"name", "type"} else choice


def _forcing(name: str) -> dict[str, Json]:
    return {"type": "function", "function": {"name": name}}


def forced_tool(choice: Json) -> str | None:
    """Name of the tool that a choice forces; None for any other choice."""
    return _function_named_in(choice)


def _function_named_in(written: Any) -> str | None:
    function = written.get("function") if isinstance(written, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def choice_as_sent(choice: Json, renames: Mapping[str, str]) -> Json:
    """The choice, or a call in a message, by the name under which its tool is sent."""
    if not isinstance(choice, dict) or "function" not in choice:
        return choice
    return {**choice, "function": _named_as_sent(choice["function"], renames)}


def messages_as_sent(messages: list[Json], renames: Mapping[str, str]) -> list[Json]:
    """The messages with the calls in them by the names under which the tools are sent."""
    # OpenAI's three places of a name: the calls of an assistant, its legacy single call, and the answer to a call.
    sent: list[Json] = []
    for message in messages:
        if not isinstance(message, dict):
            sent.append(message)
            continue
        renamed = dict(message)
        if isinstance(calls := message.get("tool_calls"), list):
            renamed["tool_calls"] = [choice_as_sent(call, renames) for call in calls]
        if "function_call" in message:
            renamed["function_call"] = _named_as_sent(message["function_call"], renames)
        sent.append(_named_as_sent(renamed, renames) if message.get("role") in ("tool", "function") else renamed)
    return sent


def _named_as_sent(named: Json, renames: Mapping[str, str]) -> Json:
    name = named.get("name") if isinstance(named, dict) else None
    if not isinstance(named, dict) or not isinstance(name, str) or name not in renames:
        return named
    return {**named, "name": renames[name]}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value)) or type(value).__name__


_KINDS: Mapping[type, str] = {
    **{dict: "an object", list: "a list", str: "a string", type(None): "null", bool: "a boolean"},
    **dict.fromkeys((int, float), "a number"),
}


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isfinite(value):
        return value
    raise ValueError(f"{_cut(digits)} is too large for a number")


def _refuse_constant(word: str) -> Json:
    raise ValueError(f"{word} is not JSON")


_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)
