"""Messages in the chat-completions form as the turns of Anthropic's Messages API. Never raises, whatever is in them.

What is in Anthropic's own form already passes as it is written; so does what neither form has, for the endpoint to
refuse.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from batchcall.base import Json
from batchcall.dialects.chat_form import RESULT_ROLES, SYSTEM_ROLES, read_data_url, url_of
from batchcall.dialects.jsontext import as_json_text, objects_in, type_of, value_at

Block = dict[str, Json]


# Anthropic wants turns of user and assistant that alternate, the results of calls at the start of the user's turn, and
# the system text apart. Chat completions has a message for each, in any order, so messages of one role are joined.
def as_turns(messages: list[Json], system: Json = None) -> tuple[list[Json], Json]:
    """The turns, consecutive ones of a role in one, and the system text, which stands behind `system`.

    The system text is None where there is none. Where there is nothing else, it becomes the turn of the user.
    """
    turns: list[dict[str, Any]] = []
    instructions: list[Json] = [system] if system else []
    for message in messages:
        said = message if isinstance(message, dict) else {"role": "user", "content": message}
        role = said.get("role")
        if role in SYSTEM_ROLES:
            instructions.append(_parts(said.get("content")))
        else:
            _add_turn(turns, "user" if role in RESULT_ROLES else role, _content_of(said))
    # One text where all are texts; blocks where one has a form of its own, such as a mark for the cache.
    if all(isinstance(one, str) for one in instructions):
        joined: Json = "\n\n".join(str(one) for one in instructions if one) or None
    else:
        joined = [block for one in instructions for block in _blocks(one)] or None
    if not turns and joined:
        return [{"role": "user", "content": joined}], None
    return list(turns), joined


def _add_turn(turns: list[dict[str, Any]], role: Json, content: Json) -> None:
    if role == "assistant" and not content:  # Anthropic refuses an empty turn, and it says nothing
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] = _blocks(turns[-1]["content"]) + _blocks(content)
    else:
        turns.append({"role": role, "content": content})


def _blocks(content: Json) -> list[Json]:
    """The content in blocks. A text of blanks only is left out: Anthropic refuses it."""
    listed = content if isinstance(content, list) else [_text(content)] if isinstance(content, str) else []
    return [block for block in listed if not _is_blank(block)]


def _is_blank(block: Json) -> bool:
    if not isinstance(block, dict) or block.get("type") != "text":
        return False
    text = block.get("text")
    return isinstance(text, str) and not text.strip()


def _content_of(message: Mapping[str, Any]) -> Json:
    content = message.get("content") or message.get("refusal")  # where a model refused, its words stand there alone
    if message.get("role") in RESULT_ROLES:
        return [_result(message)]
    calls = _calls_in(message)
    return [*_blocks(_parts(content)), *calls] if calls else _parts(content)


def _parts(content: Json) -> Json:
    """The content of a message: a text as it is, a list part by part."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return [_part(part) for part in content]
    return "" if content is None else as_json_text(content)


def _part(part: Json) -> Json:
    if isinstance(part, str):
        return _text(part)
    translate = _PARTS.get(type_of(part))
    if translate is None or not isinstance(part, dict) or (block := translate(part)) is None:
        return part
    return {**block, "cache_control": part["cache_control"]} if "cache_control" in part else block


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


# Calls and their results


def _calls_in(message: Mapping[str, Any]) -> list[Json]:
    calls = objects_in(message.get("tool_calls"))
    if not calls and isinstance(legacy := message.get("function_call"), dict):
        return [_use(legacy, f"call_{legacy.get('name')}")]
    return [_use(call.get("function"), call.get("id")) for call in calls]


def _use(function: Any, id_: Any) -> Json:
    arguments: Json = value_at(function, "arguments")
    # The input has to be an object. What is not one stands in one, for the model to see.
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):
            arguments = json.loads(arguments) if arguments.strip() else {}
    if not isinstance(arguments, dict):
        arguments = {} if arguments is None else {"arguments": arguments}
    return {"type": "tool_use", "id": _id(id_), "name": value_at(function, "name"), "input": arguments}


def _result(message: Mapping[str, Any]) -> Json:
    legacy = f"call_{message.get('name')}" if message.get("role") == "function" else None
    result: Block = {"type": "tool_result", "tool_use_id": _id(legacy or message.get("tool_call_id"))}
    content = _parts(message.get("content"))
    return {**result, "content": content} if content else result


def _id(written: Any) -> str:
    """The id of a call in the letters that Anthropic allows."""
    return _NOT_IN_ID.sub("_", str(written or "")) or "call"


_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")


# Images and files


def _image(part: Block) -> Block | None:
    url = url_of(part.get("image_url"))
    if url is None:
        return None
    return _embedded(url) or {"type": "image", "source": {"type": "url", "url": url}}


def _file(part: Block) -> Block | None:
    inside, id_, name = (value_at(part, "file", name) for name in ("file_data", "file_id", "filename"))
    block: Block | None = None
    if isinstance(inside, str):
        source: Json = {"type": "base64", "media_type": "application/pdf", "data": inside}  # of a bare base64 text
        block = _embedded(inside) or {"type": "document", "source": source}
    elif isinstance(id_, str):
        block = {"type": "document", "source": {"type": "file", "file_id": id_}}
    if block is not None and block["type"] == "document" and isinstance(name, str):
        block["title"] = name
    return block


def _embedded(url: str) -> Block | None:
    """The block of a data URL; None for any other URL."""
    if (embedded := read_data_url(url)) is None:
        return None
    media_type, inside = embedded
    source: Block = {"type": "base64", "media_type": media_type, "data": "".join(inside.split())}
    if media_type == "text/plain":  # goes as a text
        source["type"] = "text"
        with suppress(ValueError):
            source["data"] = base64.b64decode(inside).decode(errors="replace")
    elif media_type == "image/jpg":
        source["media_type"] = "image/jpeg"
    return {"type": "image" if media_type.startswith("image/") else "document", "source": source}


def _said(part: Block) -> Block | None:
    text = part.get("refusal", part.get("text"))
    return _text(text) if isinstance(text, str) else None


_PARTS: Mapping[str, Callable[[Block], Block | None]] = {
    "image_url": _image,
    "file": _file,
    "refusal": _said,
    "input_text": _said,
    "output_text": _said,
}
