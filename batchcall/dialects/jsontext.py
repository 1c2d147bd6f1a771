"""Reads JSON the way endpoints really send it: mislabelled, repeated, too deep, with numbers that do not fit.

The usual body never comes here: one `orjson.loads` has read it.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import orjson

from batchcall.base import Json

MAX_DEPTH = 128  # the parsers below recurse; a completion nests about ten levels
MAX_INFLATED_BYTES = 16 * 1024 * 1024
MAX_DOCUMENTS = 200_000  # of a body; a stream of 16 MiB has some 100,000 chunks, and each costs microseconds
TOO_DEEP = "nests too deep to be read"
GZIP_MAGIC = b"\x1f\x8b"  # how bodies begin that are packed, whatever their headers say
ZLIB_MAGICS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


class Body(msgspec.Struct, frozen=True):
    """What a body says, whatever its headers call it."""

    documents: list[Json]  # the JSON documents in it, in order
    text: str
    repairs: tuple[str, ...] = ()  # what had to be repaired to read it
    is_cut: bool = False  # it inflates to more than the cap
    undigested: str = ""  # why nothing of it was read: the end of a sentence about the answer
    is_stream: bool = False  # it was a stream of server-sent events
    pieces: tuple[str, ...] = ()  # what the documents were read from: the events of a stream, else the whole text


def unpack(body: bytes) -> tuple[str, tuple[str, ...], bool]:
    """The body as text, what had to be repaired for that, and whether it inflates to more than the cap."""
    is_inflated = is_cut = False
    if body.startswith((GZIP_MAGIC, *ZLIB_MAGICS)):
        inflating = zlib.decompressobj(_EITHER_FORMAT)
        with suppress(zlib.error):  # not packed after all: then it is read as it stands
            body, is_inflated = inflating.decompress(body, MAX_INFLATED_BYTES), True
            is_cut = not inflating.eof and len(body) >= MAX_INFLATED_BYTES
    text, repairs = _as_text(body)
    return text, ("gzip_body", *repairs) if is_inflated else repairs, is_cut


# The standard library's decoder: it keeps integers of any size, takes NaN, lets raw line breaks through, and stops
# behind a document, of which some servers send two. It recurses, so the depth is counted before.
def parse_documents(text: str, decoder: json.JSONDecoder | None = None) -> tuple[list[Json], str]:
    """The JSON documents at the start of a text, one after the other, and what is left over behind them.

    Integers are exact whatever their size. Raises Undigested.
    """
    if _depth_exceeds(text, MAX_DEPTH):
        raise Undigested(TOO_DEEP)
    documents: list[Json] = []
    position = _after_blanks(text, 0)
    while position < len(text):
        try:
            document, end = (decoder or _DECODER).raw_decode(text, position)
        except ValueError:
            break
        except RecursionError:
            raise Undigested(TOO_DEEP) from None
        if not isinstance(document, (dict, list, str)):  # "404 page not found" is a sentence, not a number
            break
        documents.append(document)
        check_count(len(documents))
        position = _after_blanks(text, end)
    return documents, text[position:]


class Undigested(Exception):
    """JSON that nests deeper than MAX_DEPTH, or is in more documents than MAX_DOCUMENTS."""


def check_count(documents: int) -> None:
    """Raises Undigested for more documents than any answer has."""
    if documents > MAX_DOCUMENTS:
        raise Undigested(f"is in more than {MAX_DOCUMENTS:,} pieces")


def without_lone_surrogates(value: Json) -> Json:
    """The same value with U+FFFD for every half of a surrogate pair, which no Parquet file can hold."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_SURROGATE.sub("\ufffd", name): without_lone_surrogates(item) for name, item in value.items()}
    return value


def may_hold_surrogates(text: str) -> bool:
    """Whether a JSON text writes any half of a surrogate pair as an escape, alone or not."""
    return "\\u" in text and _SURROGATE_ESCAPE.search(text) is not None


def may_have_lost_digits(text: str) -> bool:
    """Whether a JSON text holds a float of the size that orjson makes of integers beyond 64 bits."""
    return _HUGE_FLOAT.search(text) is not None


def has_duplicate_keys(texts: Sequence[bytes], documents: list[Json]) -> bool:
    """Whether an object in these texts has a key twice, so that `documents`, read from them, lack what stood first.

    Each member has a colon, and one that is lost takes its colon along: counting is all that most texts need.
    """
    found: list[int] = []

    def compare(members: list[tuple[str, Json]]) -> Json:
        found.append(len(members) - len({key for key, _ in members}))
        return {}

    try:
        colons = sum([text.count(b":") for text in texts])
        is_escaped = True in [text.find(b"\\u003") >= 0 for text in texts]  # a colon may be written as an escape
        if not is_escaped and colons == sum([as_json_bytes(document).count(b":") for document in documents]):
            return False
        comparing = json.JSONDecoder(object_pairs_hook=compare, parse_int=str, parse_float=str, strict=False)
        for text in texts:
            parse_documents(text.decode(errors="replace"), comparing)
    except (ValueError, RecursionError, Undigested):
        return False
    return any(found)


def string_or_none(value: Any) -> str | None:
    """What should be a name or an id; some endpoints give a number."""
    if value is None or type(value) is str:
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def value_at(document: Any, *names: str) -> Any:
    """What stands under these names in objects within each other; None where a name is missing, or not an object."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def as_list(value: Any) -> list[Any]:
    """What should be a list; an empty one where it is not."""
    return value if isinstance(value, list) else []


def objects_in(value: Any) -> list[dict[str, Any]]:
    """The objects in what should be a list of them; none where it is not a list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def type_of(document: Any) -> str:
    """The type that a document gives itself, as events do; empty where it gives none."""
    kind = document.get("type") if isinstance(document, dict) else None
    return kind if isinstance(kind, str) else ""


def as_json_text(value: Json) -> str:
    """The value as JSON text. NaN and infinities stay what they are: they are for the reader to refuse."""
    return _encode(value)


def as_json_bytes(value: Any) -> bytes:
    """The value as JSON, whatever is in it: integers beyond 64 bits, lone surrogates and dates too."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":"), default=str).encode()


_BLANKS = re.compile(r"[\s\x00\ufeff]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_HUGE_FLOAT = re.compile(r"\d[eE]\+?\d")  # 1e16 and more are written with an exponent
_BRACKET = re.compile(r"[\[\]{}]")
_SCANNED_AT_ONCE = 1 << 20  # characters
_EITHER_FORMAT = zlib.MAX_WBITS | 32
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def _as_text(body: bytes) -> tuple[str, tuple[str, ...]]:
    start = body.lstrip()[:3]
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return body.lstrip()[len(mark) :].decode(encoding, "replace"), ("byte_order_mark",)
    try:
        return body.decode(), ()
    except UnicodeDecodeError:
        return body.decode(errors="replace"), ("invalid_utf8",)


def _depth_exceeds(text: str, limit: int) -> bool:
    """Whether brackets stand within each other more than `limit` times.

    By steps that each take milliseconds, whatever the text: this runs in a thread beside the event loop, and one search
    through 16 MiB would hold the interpreter for that long.
    """
    if text.count("[") + text.count("{") <= limit:
        return False
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])  # of strings
    depth = 0
    for start in range(0, len(outside), _SCANNED_AT_ONCE):
        for bracket in _BRACKET.findall(outside, start, start + _SCANNED_AT_ONCE):
            depth += 1 if bracket in "[{" else -1
            if depth > limit:
                return True
    return False


def _after_blanks(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return blanks.end() if blanks else position


def _int_or_infinity(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:  # beyond the 4,300 digits that CPython converts; nobody counts that far
        return float(digits)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# Raw control characters inside strings are let through: some servers do not escape a newline.
_DECODER = json.JSONDecoder(parse_int=_int_or_infinity, strict=False)
