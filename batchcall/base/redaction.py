"""Takes keys out of all that an endpoint, a proxy or a library sends, at one place, before it is stored or shown."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from html.entities import html5
from urllib.parse import quote

HIDDEN = "***"

_SHORTEST_SECRET = 8  # characters; "EMPTY" or "none", as local servers like it, is a word of the answers
_SHORTEST_FORM = 8  # characters of a form; the stable part of a short key in base64 could be anything
_JSON_IN_JSON = 4  # a relay's error quotes that of its upstream, which quotes a body

_WINDOW = 1 << 18  # bytes that are searched at once
_LONGEST_CHARACTER = 160  # bytes of one character, escaped (`_anyhow`) or in hex, and what parts it from the next
# One of these is in whatever is escaped: a mark, and how it goes on where it writes a character of ASCII.
_ESCAPES = (
    (b"\\u00", re.compile(rb"\\u00[0-7]")),
    (b"%", re.compile(rb"%[0-7]")),
    (b"&", re.compile(rb"&[#A-Za-z]")),
    (b"\0", re.compile(rb"\0")),
)
_ZERO = rb"(?:\0|\\{1,16}u0000)?+"  # behind each character of UTF-16 that was taken for text
_BETWEEN_HEX = rb"(?:,? ?0[xX]|[ :,_-]|\\{1,16}x)?+"
_NAMES: dict[str, list[str]] = {}  # of ASCII characters in HTML; some have two
for _name, _meant in html5.items():
    if _meant.isascii() and _name[-1] == ";":
        _NAMES.setdefault(_meant, []).append(_name)

# A text that a reader of the answer may put together from several: the deltas of a stream, the parts of a content.
_PIECE = re.compile(
    rb'"(?!(?:id|object|model|type|role|index|created|finish_reason|system_fingerprint|status|item_id|event)")'
    rb'([A-Za-z_]{1,40})"\s*+:\s*+"((?:[^"\\]|\\.)*+)"',
    re.DOTALL,
)
_INDEX = re.compile(rb'index"\s*+:\s*+(\d+)')

# What looks like a key, ours or not: relays echo the key of the channel behind them.
_KEY_LIKE = re.compile(
    rb"(?<![A-Za-z0-9_-])(?:sk|pk|rk|gsk|xai|key)-[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic and most relays
    rb"|(?<![A-Za-z0-9_-])(?:gsk_|r8_|hf_)[A-Za-z0-9]{16,}"
    rb"|(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{30,}"  # Google
    rb"|(?i:(?<=bearer )|(?<=basic ))[A-Za-z0-9._~+/-]{16,}=*"
    rb"|(?i:(?<=[?&]key=)|(?<=api_key=)|(?<=api-key=)|(?<=apikey=))[A-Za-z0-9._~%-]{8,}"
    rb"|(?<=://)[^\s/:@\"'<>]{1,200}:[^\s/@\"'<>]{1,200}(?=@)"  # user and password in a URL
)


# How an echo may carry a key, and what finding it costs:
#
# - as it is, in a URL, in JSON within JSON, in base64 of whatever stood around it: a few fixed forms, each found by a
#   plain search of the bytes;
# - escaped character by character. Every writer escapes other characters than its neighbour, so that is a pattern with
#   all ways for each character. A body without any mark of escaping is not searched;
# - in hex, with or without separators: a pattern, for bodies that have the digits of its first byte;
# - cut into pieces, as in the deltas of a stream: only who puts them together has the key. So these are looked for once
#   an answer was read and holds one.
#
# All but the last are hidden before an answer reaches the journal.


class Redactor:
    """Replaces secrets by `***`: in their own form and in those in which an echo may carry them."""

    __slots__ = ("_escaped", "_forms", "_hex_starts", "_in_hex", "_longest_escaped")

    def __init__(self, secrets: Iterable[str]) -> None:
        """Secrets of fewer than 8 characters are left alone: they would mutilate answers."""
        kept = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        forms = {form for secret in kept for form in _forms_of(secret)}
        # The longest first, so that no remainder of a form stays behind a shorter one.
        self._forms = tuple(sorted((form.encode() for form in forms), key=len, reverse=True))
        longest_first = sorted(kept, key=len, reverse=True)
        self._escaped = _any_of(_ZERO.join(map(_anyhow, secret)) for secret in longest_first)
        self._hex_starts = {digits for secret in kept for digits in _both_cases(f"{secret.encode()[0]:02x}")}
        self._in_hex = _any_of(
            _BETWEEN_HEX.join(b"(?:%s)" % b"|".join(_both_cases(f"{byte:02x}")) for byte in secret.encode())
            for secret in longest_first
        )
        self._longest_escaped = _LONGEST_CHARACTER * max(map(len, kept), default=0)

    def hide_secrets(self, body: bytes) -> bytes:
        """Without the endpoint's own key. For answers: what a model says must stay as it is otherwise."""
        for form in self._forms:
            if body.find(form) >= 0:  # `in` takes three times as long: it raises and drops an exception first
                body = body.replace(form, HIDDEN.encode())
        if self._escaped is not None and _has_escapes(body):
            body = self._without(self._escaped, body)
        if self._in_hex is not None and True in [body.find(start) >= 0 for start in self._hex_starts]:
            body = self._without(self._in_hex, body)
        return body

    def _without(self, pattern: re.Pattern[bytes], body: bytes) -> bytes:
        # A window at a time: the pattern takes seconds for a long body, and no other thread runs within one search.
        pieces: list[bytes] = []
        done = place = 0
        while place < len(body):
            found = pattern.search(body, place, place + _WINDOW + self._longest_escaped)
            if found is None or found.start() >= place + _WINDOW:
                place += _WINDOW
                continue
            pieces += [body[done : found.start()], HIDDEN.encode()]
            done = place = found.end()
        return b"".join((*pieces, body[done:])) if pieces else body

    def is_in(self, texts: Iterable[str | None]) -> bool:
        """Whether a secret stands in one of these texts, in whatever form."""
        whole = "\n".join(filter(None, texts)).encode("utf-8", "replace")
        return self.hide_secrets(whole) is not whole

    def hide_all(self, body: bytes) -> bytes:
        """Without the endpoint's own key and whatever looks like one. For errors and messages."""
        return _KEY_LIKE.sub(HIDDEN.encode(), self.hide_secrets(body))

    def hide_in_text(self, text: str) -> str:
        """`hide_all` for text."""
        return self.hide_all(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def hide_in_pieces(self, body: bytes) -> bytes:
        """Without a secret that is spread over texts which belong together: nobody who assembles the answer has it.
        Some 10 µs a piece, so for answers that are known to hold one."""
        for is_by_index in (False, True):
            cuts: list[tuple[int, int, bytes]] = []
            for pieces in _joined_pieces(body, is_by_index=is_by_index):
                cuts += _cuts(pieces, self._places_in(b"".join([piece[2] for piece in pieces])))
            kept, done = [], 0
            for start, end, instead in sorted(cuts):
                kept += [body[done:start], instead]
                done = end
            body = b"".join((*kept, body[done:]))
        return body

    def _places_in(self, text: bytes) -> list[tuple[int, int]]:
        """Where in a text a secret stands, in whatever form; without overlaps, in order."""
        places = [found.span() for form in self._forms if form in text for found in re.finditer(re.escape(form), text)]
        for pattern in filter(None, (self._escaped, self._in_hex)):
            places += [found.span() for found in pattern.finditer(text)]
        joined: list[tuple[int, int]] = []
        for start, end in sorted(places):
            if joined and start < joined[-1][1]:
                joined[-1] = joined[-1][0], max(end, joined[-1][1])
            else:
                joined.append((start, end))
        return joined


def _has_escapes(body: bytes) -> bool:
    """Whether a character of ASCII may be escaped somewhere. A body of more than a window is taken to have some."""
    return any(body.find(mark) >= 0 and (len(body) > _WINDOW or escape.search(body)) for mark, escape in _ESCAPES)


_Pieces = list[re.Match[bytes]]


def _joined_pieces(body: bytes, *, is_by_index: bool) -> Iterable[_Pieces]:
    """The texts that belong together: by name, where there is one call or one content; by name and index, where several
    calls or choices take turns, one document a line."""
    found: dict[tuple[bytes, ...], _Pieces] = {}
    start = 0
    for document in body.splitlines(keepends=True) if is_by_index else [body]:
        index = tuple(_INDEX.findall(document)) if is_by_index else ()
        for piece in _PIECE.finditer(body, start, start + len(document)):
            found.setdefault((piece[1], *index), []).append(piece)
        start += len(document)
    return found.values()


def _cuts(pieces: _Pieces, places: list[tuple[int, int]]) -> Iterator[tuple[int, int, bytes]]:
    """(from, to, instead) in the body, for these places in the pieces put together: one mark for each secret."""
    begin = 0
    for piece in pieces:
        end = begin + len(piece[2])
        for start, stop in places:
            if start < end and stop > begin:
                instead = HIDDEN.encode() if start >= begin else b""
                offset = piece.start(2) - begin
                yield offset + max(start, begin), offset + min(stop, end), instead
        begin = end


def _any_of(patterns: Iterator[bytes]) -> re.Pattern[bytes] | None:
    joined = b"|".join(patterns)
    return re.compile(joined) if joined else None


def _both_cases(digits: str) -> list[bytes]:
    return sorted({digits.encode(), digits.upper().encode()})


def _anyhow(character: str) -> bytes:
    """A pattern of a character as JSON, a URL or HTML may write it, and each of them once more within the same. The
    repetitions have bounds, and no two ways begin alike for long: an answer may be megabytes of backslashes."""
    plain = re.escape(character.encode())
    if not character.isascii():
        return plain
    code = b"(?i:%02x)" % ord(character)
    entities = [b"#[xX]0{0,8}%s;?" % code, b"#0{0,8}%d(?![0-9]);?" % ord(character)]
    entities += [re.escape(name.encode()) for name in _NAMES.get(character, ())]
    # The first backslash stands apart: only a pattern whose every way begins with one character skips to these.
    escaped = b"\\\\\\\\{0,15}u00%s|%%(?:25){0,3}%s|&(?:amp;){0,3}(?:%s)" % (code, code, b"|".join(entities))
    return b"(?:%s|%s)" % (escaped, plain)  # plain last: an ampersand is how its own escape begins


def _forms_of(secret: str) -> Iterator[str]:
    """The secret as it is, in a URL, in JSON, and within base64 of anything around it."""
    yield secret
    yield quote(secret, safe="")
    yield quote(secret, safe="").lower()
    in_json = secret
    for _ in range(_JSON_IN_JSON):
        in_json = json.dumps(in_json)[1:-1]
        yield in_json
        yield in_json.replace("/", "\\/")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # Three bytes make four characters, so a text has three forms, by where it begins. The characters at both ends
        # depend on their neighbours, too, and are left out.
        for offset in range(3):
            encoded = encode(b"\0" * offset + secret.encode()).decode()
            padding = encoded.count("=")
            form = encoded[(0, 2, 3)[offset] : len(encoded) - (padding + 1 if padding else 0)]
            if len(form) >= _SHORTEST_FORM:
                yield form
