"""What an answer of Gemini's generateContent says, whole or streamed, whoever sends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from batchcall.base import Json, RawCall, Reply
from batchcall.dialects.jsontext import as_json_text, string_or_none
from batchcall.dialects.usage import read_usage_metadata

Document = dict[str, Any]


def gemini_reply_from(document: Json, *, as_text: Callable[[Json], str] = as_json_text) -> Reply | None:
    """The answer that a whole GenerateContentResponse holds; None where it holds none.

    `as_text` writes the arguments of calls, which come as objects.
    """
    if not isinstance(document, dict):
        return None
    answers = [candidate for candidate in _candidates(document) if _is_complete(candidate)]
    if not answers:
        return None
    calls = tuple([call for candidate in answers for call in _calls_in(candidate, as_text)])
    content = next((text for candidate in answers if (text := _text_of(candidate)) is not None), None)
    if document.get("error") and not (calls or content):
        return None  # an error beside an empty answer
    finish_reason = string_or_none(answers[0].get("finishReason"))
    if not calls and content is None and finish_reason in _TOLD_IN_MESSAGE:
        content = string_or_none(answers[0].get("finishMessage"))
    return Reply(
        calls=calls,
        content=content,
        finish_reason=finish_reason,
        model=string_or_none(document.get("modelVersion")),
        response_id=string_or_none(document.get("responseId")),
        usage=read_usage_metadata(document.get("usageMetadata")),
    )


# Answers

# Where the model's own words stand that could not be read as a call.
_TOLD_IN_MESSAGE = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"})


def _candidates(document: Document) -> list[Document]:
    written = document.get("candidates")
    return [one for one in written if isinstance(one, dict)] if isinstance(written, list) else []


def _is_complete(candidate: Document) -> bool:
    """Whether it came to its end, which the model has not, says Google, where there is no reason. A filter may leave
    nothing but the reason."""
    reason = candidate.get("finishReason")
    return isinstance(reason, str) and reason != ""


def _parts(candidate: Document) -> Iterator[Document]:
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, dict) and part.get("thought") is not True:
            yield part


def _calls_in(candidate: Document, as_text: Callable[[Json], str]) -> list[RawCall]:
    return [call for part in _parts(candidate) if (call := _call(part.get("functionCall"), as_text)) is not None]


def _call(written: Any, as_text: Callable[[Json], str]) -> RawCall | None:
    """A call. That its arguments are an object is as it should be here, so it is nothing to be mended."""
    if not isinstance(written, dict):
        return None
    name, arguments = string_or_none(written.get("name")) or "", _arguments_in(written)
    if not name and not arguments:
        return None
    is_missing = arguments is None or arguments == ""
    return RawCall(name, "" if is_missing else as_text(arguments), string_or_none(written.get("id")) or None)


def _arguments_in(written: Document) -> Json:
    """The arguments. Those that come in pieces are not put together here, and never pass for a call without any."""
    args: Json = written.get("args")
    pieces: Json = written.get("partialArgs")
    if not args and (pieces or written.get("willContinue") is True):
        return pieces or []
    return args


def _text_of(candidate: Document) -> str | None:
    texts = [text for part in _parts(candidate) if isinstance(text := part.get("text"), str)]
    return "".join(texts) if texts else None


# Streams: of events, or one list of all chunks


def gemini_reply_in(documents: list[Json], is_stream: bool) -> Reply | None:
    """The answer that the documents of a body hold, whole or in chunks; None where they hold none that has ended."""
    chunks = [chunk for chunk in _flat(documents) if isinstance(chunk, dict)]
    if not is_stream and documents and (reply := gemini_reply_from(documents[0])):
        return reply
    return gemini_reply_from(_joined(chunks))


def _flat(documents: list[Json]) -> list[Json]:
    return [chunk for document in documents for chunk in (document if isinstance(document, list) else [document])]


def _joined(chunks: list[Document]) -> Json:
    """One answer of its chunks, as the endpoint would have sent it without a stream.

    None where the first candidate never came to its finishReason: it was cut off.
    """
    joined: Document = {}
    candidates: dict[int, Document] = {}
    for chunk in chunks:
        joined.update({name: chunk[name] for name in _SAID_ONCE if chunk.get(name)})
        for position, candidate in enumerate(_candidates(chunk)):
            index = candidate.get("index")
            _go_on(candidates.setdefault(index if isinstance(index, int) else position, {}), candidate)
    if not candidates or not _is_complete(candidates[min(candidates)]):
        return None
    joined["candidates"] = [candidates[index] for index in sorted(candidates)]
    return joined


_NO_REASON = "FINISH_REASON_UNSPECIFIED"  # what a relay that leaves no field out writes into every chunk but the last
_SAID_ONCE = ("usageMetadata", "modelVersion", "responseId", "error")  # the last that says anything


def _go_on(candidate: Document, more: Document) -> None:
    candidate.setdefault("content", {"parts": []})["parts"].extend(_parts(more))
    for name in ("finishReason", "finishMessage"):
        if more.get(name) and more[name] != _NO_REASON:
            candidate[name] = more[name]


def has_gemini_chunks(documents: list[Json]) -> bool:
    """Whether the documents are pieces of an answer: in a list, or before the one that ends it."""
    first = documents[0] if documents else None
    if isinstance(first, list):
        return any(isinstance(chunk, dict) and "candidates" in chunk for chunk in first)
    return isinstance(first, dict) and bool(_candidates(first)) and not _is_final(first)


def _is_final(document: Document) -> bool:
    return any(_is_complete(candidate) for candidate in _candidates(document))
