"""Keys taken out of whatever an endpoint, a proxy or a library says, at one place, before it is stored or shown."""

from __future__ import annotations

import base64
import json
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from html.entities import html5
from urllib.parse import quote

HIDDEN = "***"

_SHORTEST_SECRET = 8  # characters; "EMPTY" or "none", as local servers like it, is a word of the answers
_SHORTEST_FORM = 8  # characters of a form; the stable part of a short key in base64 could be anything
_JSON_IN_JSON = 4  # a relay's error quotes that of its upstream, which quotes a body

# One character of ASCII as JSON, a URL or HTML may write it, and each of them once more within the same. The
# repetitions have bounds: an answer may be megabytes of backslashes.
_ESCAPED = re.compile(
    rb"\\(?<!\\\\)\\{0,15}u00([2-7][0-9a-fA-F])"
    rb"|%(?:25){0,3}([2-7][0-9a-fA-F])"
    rb"|&(?:amp;){0,3}(?:#[xX]0{0,8}([2-7][0-9a-fA-F]);?|#0{0,8}([0-9]{2,3})(?![0-9]);?|([A-Za-z]{2,8});)"
)
_ESCAPES = (b"\\u00", b"%", b"&")  # one of them is in whatever is escaped
_NAMED = {name[:-1].encode(): meant.encode() for name, meant in html5.items() if meant.isascii() and name[-1] == ";"}

# What looks like a key, whoever's it is: relays echo the one of the channel behind them.
_KEY_LIKE = re.compile(
    rb"(?<![A-Za-z0-9_-])(?:sk|pk|rk|gsk|xai|key)-[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic and most relays
    rb"|(?<![A-Za-z0-9_-])(?:gsk_|r8_|hf_)[A-Za-z0-9]{16,}"
    rb"|(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{30,}"  # Google
    rb"|(?i:(?<=bearer )|(?<=basic ))[A-Za-z0-9._~+/-]{16,}=*"
    rb"|(?i:(?<=[?&]key=)|(?<=api_key=)|(?<=api-key=)|(?<=apikey=))[A-Za-z0-9._~%-]{8,}"
    rb"|(?<=://)[^\s/:@\"'<>]{1,200}:[^\s/@\"'<>]{1,200}(?=@)"  # user and password in a URL
)


class Redactor:
    """Replaces secrets by `***`: in their own form and in those in which an echo may carry them."""

    __slots__ = ("_forms", "_secrets")

    def __init__(self, secrets: Iterable[str]) -> None:
        """Secrets of fewer than 8 characters are left alone: they would mutilate answers."""
        kept = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        forms = {form for secret in kept for form in _forms_of(secret)}
        # The longest first, so that no remainder of a form stays behind a shorter one.
        self._forms = tuple(sorted((form.encode() for form in forms), key=len, reverse=True))
        self._secrets = sorted((secret.encode() for secret in kept), key=len, reverse=True)

    def hide_secrets(self, body: bytes) -> bytes:
        """Without the endpoint's own key. For answers: what a model says must stay as it is otherwise."""
        for form in self._forms:
            if form in body:
                body = body.replace(form, HIDDEN.encode())
        if self._secrets and any(mark in body for mark in _ESCAPES) and _ESCAPED.search(body):
            plain = _ESCAPED.sub(_character, body)
            if any(secret in plain for secret in self._secrets):
                return self._without_escaped(body)
        return body

    def _without_escaped(self, body: bytes) -> bytes:
        """Every JSON writer escapes other characters than its neighbour, so each of a secret may be as it is or not."""
        text = _Unescaped(body)
        spans = sorted(span for secret in self._secrets for span in text.spans_of(secret))
        pieces, at = [], 0
        for start, end in spans:
            if start >= at:
                pieces += [body[at:start], HIDDEN.encode()]
            at = max(at, end)
        return b"".join([*pieces, body[at:]])

    def hide_all(self, body: bytes) -> bytes:
        """Without the endpoint's own key and whatever looks like one. For errors and messages."""
        return _KEY_LIKE.sub(HIDDEN.encode(), self.hide_secrets(body))

    def hide_in_text(self, text: str) -> str:
        """`hide_all` for text."""
        return self.hide_all(text.encode("utf-8", "replace")).decode("utf-8", "replace")


class _Unescaped:
    """A body with its escapes read, which still knows where each of its characters stands in the body."""

    def __init__(self, body: bytes) -> None:
        plain, at = bytearray(), 0
        self._places = array("q", [0])  # in the plain text, where a stretch of the body begins that is as long here
        self._begins = array("q", [0])  # and there
        for found in _ESCAPED.finditer(body):
            plain += body[at : found.start()]
            self._mark(len(plain), found.start())
            plain += _character(found)
            at = found.end()
            self._mark(len(plain), at)
        self._plain = bytes(plain + body[at:])

    def _mark(self, place: int, begin: int) -> None:
        self._places.append(place)
        self._begins.append(begin)

    def spans_of(self, secret: bytes) -> Iterator[tuple[int, int]]:
        """Where it begins and ends in the body."""
        place = self._plain.find(secret)
        while place >= 0:
            yield self._in_body(place), self._in_body(place + len(secret))
            place = self._plain.find(secret, place + len(secret))

    def _in_body(self, place: int) -> int:
        stretch = bisect_right(self._places, place) - 1
        return self._begins[stretch] + place - self._places[stretch]


def _character(escaped: re.Match[bytes]) -> bytes:
    in_json, in_url, hexadecimal, decimal, named = escaped.groups()
    if named is not None:
        return _NAMED.get(named, escaped[0])
    number = int(decimal) if decimal is not None else int(in_json or in_url or hexadecimal, 16)
    return bytes((number,)) if number < 128 else escaped[0]


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
        for offset in range(3):
            form = _within_base64(encode(b"\0" * offset + secret.encode()).decode(), offset)
            if len(form) >= _SHORTEST_FORM:
                yield form


def _within_base64(encoded: str, offset: int) -> str:
    """The characters that depend on the secret alone, not on what stands before or after it."""
    start = (0, 2, 3)[offset]
    padding = encoded.count("=")
    return encoded[start : len(encoded) - (padding + 1 if padding else 0)]
