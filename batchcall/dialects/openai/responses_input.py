"""Messages of chat completions as the input items of the Responses API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from batchcall.base import Json
from batchcall.dialects.jsontext import as_json_text

Item = dict[str, Json]
# How the result of each call is called, by the call's id. Older messages leave the ids out and keep the order.
Unanswered = dict[str, str]


def as_input(messages: list[Json]) -> list[Json]:
    """The input items that say what the messages say. What is an item already stays as it is written.

    Most messages are a role and a text, which is an item too. A participant's `name` has no place here.
    """
    if all(map(_is_plain, messages)):
        return messages
    unanswered: Unanswered = {}
    items: list[Json] = []
    for position, message in enumerate(messages):
        items += _items_of(message, position, unanswered)
    return items


def _is_plain(message: Json) -> bool:
    return (
        type(message) is dict
        and len(message) == 2
        and type(message.get("content")) is str
        and message.get("role") in _PLAIN_ROLES
    )


_PLAIN_ROLES = ("user", "system", "assistant", "developer")


def _items_of(message: Json, position: int, unanswered: Unanswered) -> list[Json]:
    if not isinstance(message, dict):
        return [message]
    # An item of the Responses API already: what chat completions says has a role and no type.
    if "type" in message and ("role" not in message or message["type"] == "message"):
        return [message]
    role = message.get("role")
    if role in ("tool", "function"):
        return [_as_output(message, unanswered)]
    if role != "assistant":
        return [{"role": role, "content": _as_parts(message.get("content"))}]
    text = _text_of(message)
    calls = _calls_of(message, position, unanswered)
    # A call may come without a word, but a message never does. The words go as one text: the API takes the parts of an
    # earlier answer only with the id that it gave them.
    return [{"role": "assistant", "content": text}, *calls] if text or not calls else calls


def _as_output(message: Item, unanswered: Unanswered) -> Json:
    """What a tool answered."""
    id_ = message.get("tool_call_id")
    if not isinstance(id_, str) or not id_:
        id_ = next(iter(unanswered), None)
    kind = unanswered.pop(id_, _FUNCTION_OUTPUT) if id_ else _FUNCTION_OUTPUT
    return {"type": kind, "call_id": id_, "output": _as_parts(message.get("content"))}


_FUNCTION_OUTPUT = "function_call_output"


def _as_parts(content: Json) -> Json:
    if isinstance(content, list):
        return [_as_part(part) for part in content]
    return "" if content is None else content


def _as_part(part: Json) -> Json:
    if isinstance(part, str):
        return {"type": "input_text", "text": part}
    kind = part.get("type") if isinstance(part, dict) else None
    write = _PARTS.get(kind) if isinstance(kind, str) else None
    return write(part) if write and isinstance(part, dict) else part


def _as_image_part(part: Item) -> Item:
    image = part.get("image_url")
    told: dict[str, Any] = {"url": image} if isinstance(image, str) else dict(image) if isinstance(image, dict) else {}
    rest = {name: value for name, value in part.items() if name not in ("type", "image_url")}
    return {**rest, "type": "input_image", "image_url": told.get("url"), "detail": told.get("detail") or "auto"}


def _as_file_part(part: Item) -> Item:
    file = part.get("file")
    rest = {name: value for name, value in part.items() if name not in ("type", "file")}
    return {**rest, "type": "input_file", **(file if isinstance(file, dict) else {})}


# A part of another type, input_audio for one, has the same form in both or is the API's own.
_PARTS: Mapping[str, Callable[[Item], Item]] = {
    "text": lambda part: {**part, "type": "input_text"},
    "image_url": _as_image_part,
    "file": _as_file_part,
}


def _text_of(message: Item) -> str:
    """What the assistant said or refused to say."""
    content = message.get("content")
    if isinstance(content, str):
        said = content
    else:
        parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
        said = "".join(text for part in parts if isinstance(text := part.get("text", part.get("refusal")), str))
    refusal = message.get("refusal")
    return said or (refusal if isinstance(refusal, str) else "")


def _calls_of(message: Item, position: int, unanswered: Unanswered) -> list[Json]:
    written = message.get("tool_calls")
    calls = [call for call in written if isinstance(call, dict)] if isinstance(written, list) else []
    if not calls and isinstance(legacy := message.get("function_call"), dict):
        calls = [{"function": legacy}]
    items: list[Json] = []
    for number, call in enumerate(calls):
        id_ = call.get("id")
        items.append(_as_call(call, id_ if isinstance(id_, str) and id_ else f"call_{position}_{number}", unanswered))
    return items


def _as_call(call: Item, id_: str, unanswered: Unanswered) -> Item:
    if isinstance(custom := call.get("custom"), dict):
        unanswered[id_] = "custom_tool_call_output"
        return {"type": "custom_tool_call", "call_id": id_, "name": custom.get("name"), "input": custom.get("input")}
    unanswered[id_] = _FUNCTION_OUTPUT
    # Never with an `id`: the API would look for the answer that it belongs to, and for the reasoning before it.
    told = call.get("function")
    function: Item = told if isinstance(told, dict) else {}
    return {
        "type": "function_call",
        "call_id": id_,
        "name": function.get("name"),
        "arguments": _as_text(function.get("arguments")),
    }


def _as_text(arguments: Json) -> str:
    """The arguments of an earlier call, which data sets also keep as the object that they are."""
    if isinstance(arguments, str):
        return arguments or "{}"
    return "{}" if arguments is None else as_json_text(arguments)
