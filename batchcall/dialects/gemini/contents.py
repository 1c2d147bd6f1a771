"""Messages in Gemini's words: contents of parts, by `user` and `model` in turn, and apart from them the system's.

Messages that are contents already (they have `parts`) pass as written, and so do parts that are Gemini's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from batchcall.base import Json
from batchcall.dialects.chat_form import RESULT_ROLES, SYSTEM_ROLES, read_data_url, url_of
from batchcall.dialects.jsontext import Undigested, objects_in, parse_documents, value_at

Part = dict[str, Json]

# What Google documents for calls that its model did not make: from 3 on, one without a signature is refused.
UNSIGNED = "skip_thought_signature_validator"


class Conversation(msgspec.Struct):
    """The parts of a request that differ from row to row."""

    contents: list[Json] = []
    system: list[Json] = []  # parts


# Gemini has two roles that take turns, parts in place of messages, the system's words apart, and the result of a call
# by the function's name, where chat completions has an id. So names are kept by id on the way, and turns of one role
# joined.
def as_conversation(messages: list[Json], *, is_signed: bool) -> Conversation:
    """The conversation that messages in the chat-completions form make.

    With `is_signed`, calls in the model's turns carry a thought signature: their own, else Google's stand-in.
    What cannot be translated passes as written: the endpoint then refuses this row, and says why.
    """
    said = Conversation()
    names: dict[str, str] = {}  # of functions, by the id of their call
    for message in messages:
        if isinstance(message, dict):
            _add(said, message, names, is_signed=is_signed)
        else:
            said.contents.append(message)
    if not said.contents and said.system:  # Gemini answers no system instruction alone
        return Conversation([{"role": "user", "parts": said.system}])
    return said


def text_parts(content: Json) -> list[Json]:
    """The parts of a system instruction, however it is written: text, parts, or a content of parts."""
    if isinstance(content, dict):
        return text_parts(content["parts"]) if "parts" in content else [_part(content)]
    if isinstance(content, list):
        return [_part(each) for each in content]
    return [{"text": content}]


def _add(said: Conversation, message: Part, names: dict[str, str], *, is_signed: bool) -> None:
    role = message.get("role")
    if role in SYSTEM_ROLES:
        said.system += text_parts(message["parts"] if "parts" in message else message.get("content"))
    elif isinstance(parts := message.get("parts"), list):
        _add_turn(said, _ROLES.get(str(role), role) or "user", parts)
    elif role in RESULT_ROLES:
        _add_turn(said, "user", [_function_response(message, names)])
    else:
        calls = _calls_of(message, names, is_signed=is_signed)
        content, refusal = message.get("content"), message.get("refusal")
        if content is not None and content != "":
            parts = text_parts(content)
        elif isinstance(refusal, str) and refusal:  # where a model refused, its words stand there alone
            parts = [{"text": refusal}]
        else:
            parts = [] if calls else [{"text": ""}]  # a turn has a part
        _add_turn(said, _ROLES.get(str(role), role), [*parts, *calls])


_ROLES: Mapping[str, str] = {"assistant": "model", "model": "model", "user": "user"}


def _add_turn(said: Conversation, role: Json, parts: list[Json]) -> None:
    """Add the parts as a turn, or at the end of the last one: Gemini wants the results of all calls in one turn."""
    last = said.contents[-1] if said.contents else None
    if isinstance(last, dict) and last["role"] == role:
        before = last["parts"]
        assert isinstance(before, list)
        last["parts"] = [*before, *parts]
    else:
        said.contents.append({"role": role, "parts": parts})


# Parts


def _part(written: Json) -> Json:
    if not isinstance(written, dict):
        return {"text": written} if isinstance(written, str) else written
    translate = _PARTS.get(str(written.get("type")))
    return (translate(written) or written) if translate else written


def _text(written: Part) -> Part | None:
    text = written.get("text", written.get("refusal"))
    return {"text": text} if isinstance(text, str) else None


def _image(written: Part) -> Part | None:
    url = url_of(written.get("image_url", written.get("video_url")))
    return None if url is None else _media(url)


def _audio(written: Part) -> Part | None:
    data, kind = (value_at(written, "input_audio", name) for name in ("data", "format"))
    if not isinstance(data, str):
        return None
    return _media(data) if _is_url(data) else _inline(f"audio/{kind or 'wav'}", data)


def _file(written: Part) -> Part | None:
    data, id_, name = (value_at(written, "file", name) for name in ("file_data", "file_id", "filename"))
    if isinstance(data, str):
        return _media(data) if _is_url(data) else _inline(_mime_type(str(name)) or "application/pdf", data)
    return {"fileData": {"fileUri": id_}} if isinstance(id_, str) else None


_PARTS: Mapping[str, Callable[[Part], Part | None]] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "refusal": _text,
    "image_url": _image,
    "input_image": _image,
    "video_url": _image,
    "input_audio": _audio,
    "file": _file,
}


def _is_url(text: str) -> bool:
    return text[:8].lower().startswith(("data:", "https://", "http://", "gs://"))  # of any case, as all schemes are


def _media(url: str) -> Part:
    """The bytes of a data URL, or where they are."""
    if embedded := read_data_url(url):
        return _inline(*embedded)
    mime_type = _mime_type(url.partition("?")[0].partition("#")[0])
    return {"fileData": {**({"mimeType": mime_type} if mime_type else {}), "fileUri": url}}


def _inline(mime_type: str, data: str) -> Part:
    return {"inlineData": {"mimeType": mime_type, "data": data}}


def _mime_type(path: str) -> str | None:
    return _MIME_TYPES.get(path.rpartition(".")[2].lower())


_MIME_TYPES: Mapping[str, str] = {
    **{kind: f"image/{kind}" for kind in ("png", "jpeg", "webp", "heic", "heif", "gif")},
    **{kind: f"audio/{kind}" for kind in ("wav", "mp3", "aiff", "aac", "ogg", "flac")},
    **{kind: f"video/{kind}" for kind in ("mp4", "mpeg", "webm", "wmv")},
    "jpg": "image/jpeg",
    "mov": "video/quicktime",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "html": "text/html",
    "csv": "text/csv",
    "json": "application/json",
}


# Calls and their results


def _calls_of(message: Part, names: dict[str, str], *, is_signed: bool) -> list[Json]:
    """The calls that a message quotes, as parts; `names` learns which function each id calls."""
    written = [(call, call.get("function", call)) for call in objects_in(message.get("tool_calls"))]
    if isinstance(legacy := message.get("function_call"), dict):
        written.append(({}, legacy))
    calls: list[Part] = []
    for call, inner in written:
        function = inner if isinstance(inner, dict) else call
        name, id_ = function.get("name"), call.get("id")
        quoted: Part = {"name": name, "args": _as_object(function.get("arguments"), otherwise="arguments")}
        if isinstance(id_, str) and id_:
            names[id_] = str(name)
            quoted = {"id": id_, **quoted}
        # Google's own chat-completions surface puts the signature of a call into its `extra_content`.
        signature = value_at(call, "extra_content", "google", "thought_signature")
        calls.append({"functionCall": quoted, **({"thoughtSignature": signature} if signature else {})})
    if is_signed and calls and not any("thoughtSignature" in call for call in calls):
        calls[0]["thoughtSignature"] = UNSIGNED  # of calls made at once, only the first has one
    return list(calls)


def _function_response(message: Part, names: dict[str, str]) -> Part:
    id_ = message.get("tool_call_id")
    name = (names.get(id_) if isinstance(id_, str) else None) or message.get("name") or id_
    text, media = _result(message.get("content"))
    return {
        "functionResponse": {
            **({"id": id_} if isinstance(id_, str) and id_ in names else {}),
            "name": name or "unknown",
            "response": _as_object(text, otherwise="output"),
            **({"parts": media} if media else {}),
        }
    }


def _result(content: Json) -> tuple[Json, list[Json]]:
    """What a function gave back: its text, and the parts that are images or files."""
    if not isinstance(content, list):
        return content, []
    parts = objects_in([_part(part) for part in content])
    texts = [text for part in parts if isinstance(text := part.get("text"), str)]
    return "".join(texts), [part for part in parts if "inlineData" in part or "fileData" in part]


def _as_object(value: Json, *, otherwise: str) -> dict[str, Json]:
    """The value as the object that Gemini wants; what is not one is put into one under the name `otherwise`."""
    if isinstance(value, str):
        if not value.strip():
            return {}
        documents, leftover = list[Json](), ""
        if value.lstrip().startswith("{"):
            with suppress(Undigested):
                documents, leftover = parse_documents(value)
        only = documents[0] if len(documents) == 1 and not leftover else None
        return only if isinstance(only, dict) else {otherwise: value}
    if value is None:
        return {}
    return value if isinstance(value, dict) else {otherwise: value}
