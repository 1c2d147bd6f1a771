"""Finds the error object in an answer, wherever the endpoint put it, and the words in it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import orjson

from batchcall.base import Json
from batchcall.dialects.jsontext import as_list, objects_in, value_at

MAX_CODE = 100  # characters
MAX_UNWRAPPING = 3  # gateways put another's error into their own as text


class Complaint(msgspec.Struct, frozen=True):
    """What an endpoint says went wrong."""

    message: str = ""
    codes: tuple[str, ...] = ()  # code, type, status, reasons: as written, the first is the most telling
    status: int | None = None  # an HTTP status that the body gives as its code
    details: list[Any] = []  # google.rpc details
    quota_ids: tuple[str, ...] = ()  # of the quotas that google.rpc.QuotaFailure says were met
    is_blocked_prompt: bool = False

    @property
    def code(self) -> str | None:
        """The code to show: a name rather than a number."""
        if self.codes:
            return one_line(self.codes[0], MAX_CODE)
        return str(self.status) if self.status else None


def find_complaint(documents: list[Json]) -> Complaint | None:
    """The first error that any of the documents holds."""
    return next((found for document in documents if (found := _complaint_in(document, 0))), None)


def markup_title(text: str) -> str:
    """The title of an HTML page, or its first heading; empty where the text is not a page."""
    if not text.lstrip().startswith("<"):
        return ""
    found = _TITLE.search(text[:20_000]) or _HEADING.search(text[:20_000])
    return html.unescape(_TAG.sub(" ", found[1])).strip() if found else "an HTML page"


def one_line(text: str, limit: int) -> str:
    """The text without line breaks, control, escape and bidi characters, cut at `limit` characters."""
    start = text.lstrip()[: 4 * limit]
    line = " ".join("".join(each if each.isprintable() else " " for each in start).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{0,500})", re.I)
_HEADING = re.compile(r"<h1[^>]{0,200}>(.{0,500}?)</h1>", re.I | re.S)
_TAG = re.compile(r"<[^>]{0,200}>")
_NO_CODE = frozenset({"", "none", "null", "nil", "<nil>", "error", "unknown_error"})
_CODE_NAMES = ("code", "type", "status", "error_code", "error_type", "reason")
_MESSAGE_NAMES = ("message", "msg", "error_msg", "error_message", "detail", "description")


def _complaint_in(document: Json, unwrapped: int) -> Complaint | None:
    """The error of one document; None where it has none. `unwrapped` counts the documents around it."""
    if isinstance(document, list):  # Gemini puts its errors into a list, the first or, in a stream, the last in it
        if unwrapped >= MAX_UNWRAPPING:
            return None
        ends = (*document[:1], *document[:0:-1][:1])
        return next(filter(None, (_complaint_in(end, unwrapped + 1) for end in ends)), None)
    if isinstance(document, str):
        return _from_object({"message": document}, unwrapped)
    if not isinstance(document, dict):
        return None
    reason = value_at(document, "promptFeedback", "blockReason")  # Gemini's, under a success
    if isinstance(reason, str) and reason:
        return Complaint(f"the prompt was blocked: {reason}", codes=(reason,), is_blocked_prompt=True)
    source = next(_sources(document), None)
    if isinstance(source, str):  # only a sentence, {"error": "model not found"}; its code may stand beside it
        beside = {name: document.get(name) for name in _CODE_NAMES}
        return _from_object({**beside, "message": source}, unwrapped)
    return _from_object(source, unwrapped) if source else None


# By whom, in this order: OpenAI and most others, also within a relay's own `error`; the Responses API's failed
# response; Cloudflare's `errors` and FastAPI's `detail`, a list or not; OpenRouter's error of a choice; MiniMax's
# `base_resp`; and an error without any envelope. The last only where nothing else is there, since an answer may have a
# `message` too.
def _sources(document: dict[str, Json]) -> Iterator[dict[str, Json] | str]:
    """The errors in a document, as objects or sentences, wherever endpoints put them."""
    error = document.get("error")
    if isinstance(error, dict) and isinstance(error.get("error"), dict):
        error = error["error"]
    if error and isinstance(error, (dict, str)):
        yield error
    # Of the event that ends a failed stream of the Responses API.
    if isinstance(inner := value_at(document, "response", "error"), dict):
        yield inner
    for several in (document.get("errors"), document.get("detail")):
        first = several[0] if isinstance(several, list) and several else several
        if first and isinstance(first, (dict, str)):
            yield first
    for choice in objects_in(document.get("choices")):
        if isinstance(choice.get("error"), dict):
            yield choice["error"]
    if code := value_at(document, "base_resp", "status_code"):
        yield {"code": code, "message": value_at(document, "base_resp", "status_msg")}
    if "choices" not in document and any(isinstance(document.get(name), str) for name in _MESSAGE_NAMES):
        yield document


def _from_object(said: dict[str, Json], unwrapped: int) -> Complaint:
    written = (said.get(name) for name in _MESSAGE_NAMES)
    message = next((text for text in written if isinstance(text, str) and text.strip()), "")
    inner = Complaint(message)  # or another's error, where the message holds one as text
    if unwrapped < MAX_UNWRAPPING and message.lstrip().startswith(("{", "[")):
        with suppress(ValueError):
            inner = _complaint_in(orjson.loads(message), unwrapped + 1) or inner
    details = as_list(said.get("details"))
    # OpenRouter gives a moderated prompt and a bad key the same status; only `metadata` shows which it was. Azure's
    # `innererror` holds the code of its filter.
    reasons = [detail.get("reason") for detail in objects_in(details)]
    beside = [value_at(said, "innererror", "code"), value_at(said, "metadata", "error_type"), *reasons]
    # Anthropic's type says "rate_limit_error" for money that is spent, too; the code in its `details` does not.
    first = _as_code(value_at(said, "details", "error_code"))
    names = [name for value in (*map(said.get, _CODE_NAMES), *beside) if (name := _as_code(value))]
    codes = [name for name in (first, *names) if name and not _is_status(name)]
    status = next((int(name) for name in names if _is_status(name)), None)
    violations = [each for detail in objects_in(details) for each in objects_in(detail.get("violations"))]
    quota_ids = tuple(str(each.get("quotaId", "")) for each in violations)
    return Complaint(
        message=inner.message,
        codes=tuple(dict.fromkeys((*codes, *inner.codes))),
        status=status or inner.status,
        details=details or inner.details,
        quota_ids=quota_ids or inner.quota_ids,
        is_blocked_prompt=value_at(said, "metadata", "flagged_input") is not None or inner.is_blocked_prompt,
    )


def _as_code(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return ""
    text = value.strip() if isinstance(value, str) else str(value) if abs(value) < 10**9 else ""
    return "" if text.lower() in _NO_CODE or len(text) > MAX_CODE else text


def _is_status(name: str) -> bool:
    return len(name) == 3 and name.isascii() and name.isdigit() and 400 <= int(name) < 600
