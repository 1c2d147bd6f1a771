"""Messages of chat completions as the input items of the Responses API."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from batchcall.base import Json
from batchcall.dialects.jsontext import as_json_text, objects_in, value_at

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
        # An item of the Responses API already: what chat completions has is a role and no type.
        if not isinstance(message, dict) or (
            "type" in message and ("role" not in message or message["type"] == "message")
        ):
            items.append(message)
            continue
        role = message.get("role")
        if role in ("tool", "function"):
            id_ = message.get("tool_call_id")
            if not isinstance(id_, str) or not id_:
                id_ = next(iter(unanswered), None)
            kind = unanswered.pop(id_, _FUNCTION_OUTPUT) if id_ else _FUNCTION_OUTPUT
            items.append({"type": kind, "call_id": id_, "output": _as_parts(message.get("content"))})
        elif role != "assistant":
            items.append({"role": role, "content": _as_parts(message.get("content"))})
        else:
            # A call may come without a word, but a message never does. The words go as one text: the API takes the
            # parts of an earlier answer only with the id that it gave them.
            text, calls = _text_of(message), _calls_of(message, position, unanswered)
            items += [{"role": "assistant", "content": text}, *calls] if text or not calls else calls
    return items


def _is_plain(message: Json) -> bool:
    return (
        type(message) is dict
        and len(message) == 2
        and type(message.get("content")) is str
        and message.get("role") in _PLAIN_ROLES
    )


_PLAIN_ROLES = ("user", "system", "assistant", "developer")


_FUNCTION_OUTPUT = "function_call_output"


def _as_parts(content: Json) -> Json:
    if not isinstance(content, list):
        return "" if content is None else content
    parts: list[Json] = []
    for part in content:
        write = _PARTS.get(str(part.get("type"))) if isinstance(part, dict) else None
        text: Json = {"type": "input_text", "text": part} if isinstance(part, str) else part
        parts.append(write(part) if write and isinstance(part, dict) else text)
    return parts


def _as_image_part(part: Item) -> Item:
    image = part.get("image_url")
    written: Item = {"url": image} if isinstance(image, str) else image if isinstance(image, dict) else {}
    rest = {name: value for name, value in part.items() if name not in ("type", "image_url")}
    return {**rest, "type": "input_image", "image_url": written.get("url"), "detail": written.get("detail") or "auto"}


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
    """What the assistant said, else the words with which it refused."""
    content = message.get("content")
    if isinstance(content, str):
        said = content
    else:
        texts = [part.get("text", part.get("refusal")) for part in objects_in(content)]
        said = "".join(text for text in texts if isinstance(text, str))
    refusal = message.get("refusal")
    return said or (refusal if isinstance(refusal, str) else "")


def _calls_of(message: Item, position: int, unanswered: Unanswered) -> list[Json]:
    calls = objects_in(message.get("tool_calls"))
    if not calls and isinstance(legacy := message.get("function_call"), dict):
        calls = [{"function": legacy}]
    items: list[Json] = []
    for number, call in enumerate(calls):
        id_ = call.get("id")
        if not isinstance(id_, str) or not id_:
            id_ = f"call_{position}_{number}"
        # Never with an `id`: the API would look for the answer that it belongs to, and for the reasoning before it.
        if isinstance(custom := call.get("custom"), dict):
            unanswered[id_] = "custom_tool_call_output"
            said = {"name": custom.get("name"), "input": custom.get("input")}
            items.append({"type": "custom_tool_call", "call_id": id_, **said})
            continue
        unanswered[id_] = _FUNCTION_OUTPUT
        name, arguments = (value_at(call, "function", part) for part in ("name", "arguments"))
        if not isinstance(arguments, str):  # data sets also keep them as the object that they are
            arguments = "{}" if arguments is None else as_json_text(arguments)
        items.append({"type": "function_call", "call_id": id_, "name": name, "arguments": arguments or "{}"})
    return items
