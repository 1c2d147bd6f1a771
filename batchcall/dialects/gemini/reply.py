"""What an answer of Gemini's generateContent says, whole or streamed, whoever sends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from batchcall.base import Json, RawCall, Reply
from batchcall.dialects.jsontext import as_json_text, objects_in, string_or_none, value_at
from batchcall.dialects.usage import read_usage

Document = dict[str, Any]


def gemini_reply_from(document: Json, *, as_text: Callable[[Json], str] = as_json_text) -> Reply | None:
    """The answer that a whole GenerateContentResponse holds; None where it holds none.

    `as_text` writes the arguments of calls, which come as objects.
    """
    if not isinstance(document, dict):
        return None
    answers = [candidate for candidate in objects_in(document.get("candidates")) if _is_complete(candidate)]
    if not answers:
        return None
    parts = [list(_parts(candidate)) for candidate in answers]
    calls = tuple([call for some in parts for part in some if (call := _call(part.get("functionCall"), as_text))])
    texts = [[text for part in some if isinstance(text := part.get("text"), str)] for some in parts]
    content = next(("".join(some) for some in texts if some), None)
    if document.get("error") and not (calls or content):
        return None  # an error beside an empty answer
    finish_reason = string_or_none(answers[0].get("finishReason"))
    if not calls and content is None and finish_reason in _ENDS_WITH_WORDS:
        content = string_or_none(answers[0].get("finishMessage"))
    return Reply(
        calls=calls,
        content=content,
        finish_reason=finish_reason,
        model=string_or_none(document.get("modelVersion")),
        response_id=string_or_none(document.get("responseId")),
        usage=read_usage(document.get("usageMetadata")),
    )


# Answers

# With these the model's own words, which Google could not read as a call, stand in the finishMessage.
_ENDS_WITH_WORDS = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"})


def _is_complete(candidate: Document) -> bool:
    """Whether it came to its end. Google documents that without a reason the model has not stopped generating.

    A filter may leave nothing but the reason.
    """
    reason = candidate.get("finishReason")
    return isinstance(reason, str) and reason != ""


def _parts(candidate: Document) -> Iterator[Document]:
    for part in objects_in(value_at(candidate, "content", "parts")):
        if part.get("thought") is not True:
            yield part


def _call(written: Any, as_text: Callable[[Json], str]) -> RawCall | None:
    """A call. Its arguments are an object in this protocol, so that is not recorded as a repair."""
    if not isinstance(written, dict):
        return None
    name, arguments = string_or_none(written.get("name")) or "", written.get("args")
    if not arguments and (written.get("partialArgs") or written.get("willContinue") is True):
        # Arguments in pieces (streamFunctionCallArguments) are not put together here. They must never pass for a call
        # without arguments, so they are given as the list that they are, which no schema accepts.
        arguments = written.get("partialArgs") or []
    if not name and not arguments:
        return None
    is_missing = arguments is None or arguments == ""
    return RawCall(name, "" if is_missing else as_text(arguments), string_or_none(written.get("id")) or None)


# Streams: of events, or one list of all chunks


# Each chunk is a GenerateContentResponse by itself, with the parts that are new. So parts are put behind each other,
# and of all else the last chunk that says anything counts: usage grows, the finishReason comes last.
def gemini_reply_in(documents: list[Json], is_stream: bool) -> Reply | None:
    """The answer that the documents of a body hold, whole or in chunks.

    None where they hold none, or the first candidate never came to its finishReason: it was cut off.
    """
    if not is_stream and documents and (reply := gemini_reply_from(documents[0])):
        return reply
    joined: Document = {}
    candidates: dict[int, Document] = {}
    for chunk in objects_in([each for one in documents for each in (one if isinstance(one, list) else [one])]):
        joined.update({name: chunk[name] for name in _SAID_ONCE if chunk.get(name)})
        for position, candidate in enumerate(objects_in(chunk.get("candidates"))):
            index = candidate.get("index")
            so_far = candidates.setdefault(index if isinstance(index, int) else position, {"content": {"parts": []}})
            so_far["content"]["parts"].extend(_parts(candidate))
            for name in ("finishReason", "finishMessage"):
                if candidate.get(name) and candidate[name] != _NO_REASON:
                    so_far[name] = candidate[name]
    if not candidates or not _is_complete(candidates[min(candidates)]):
        return None
    joined["candidates"] = [candidates[index] for index in sorted(candidates)]
    return gemini_reply_from(joined)


_NO_REASON = "FINISH_REASON_UNSPECIFIED"  # what a relay that leaves no field out writes into every chunk but the last
_SAID_ONCE = ("usageMetadata", "modelVersion", "responseId", "error")  # the last that says anything


def has_gemini_chunks(documents: list[Json]) -> bool:
    """Whether the documents are pieces of an answer: in a list, or before the one that ends it."""
    first = documents[0] if documents else None
    if isinstance(first, list):
        return any(isinstance(chunk, dict) and "candidates" in chunk for chunk in first)
    candidates = objects_in(value_at(first, "candidates"))
    return bool(candidates) and not any(map(_is_complete, candidates))
