"""Keys taken out of whatever an endpoint, a proxy or a library says, at one place, before it is stored or shown."""

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
_LONGEST_CHARACTER = 128  # bytes of one character, escaped as `_anyhow` knows it
_MARKS = (b"\\u00", b"%", b"&")  # one of them is in whatever is escaped
_NAMES: dict[str, list[str]] = {}  # of ASCII characters in HTML; some have two
for _name, _meant in html5.items():
    if _meant.isascii() and _name[-1] == ";":
        _NAMES.setdefault(_meant, []).append(_name)

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

    __slots__ = ("_escaped", "_forms", "_longest_escaped")

    def __init__(self, secrets: Iterable[str]) -> None:
        """Secrets of fewer than 8 characters are left alone: they would mutilate answers."""
        kept = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        forms = {form for secret in kept for form in _forms_of(secret)}
        # The longest first, so that no remainder of a form stays behind a shorter one.
        self._forms = tuple(sorted((form.encode() for form in forms), key=len, reverse=True))
        anyhow = [b"".join(map(_anyhow, secret)) for secret in sorted(kept, key=len, reverse=True)]
        self._escaped = re.compile(b"|".join(anyhow)) if anyhow else None
        self._longest_escaped = _LONGEST_CHARACTER * max(map(len, kept), default=0)

    def hide_secrets(self, body: bytes) -> bytes:
        """Without the endpoint's own key. For answers: what a model says must stay as it is otherwise."""
        for form in self._forms:
            if form in body:
                body = body.replace(form, HIDDEN.encode())
        # Every JSON writer escapes other characters than its neighbour, so each of a secret may be as it is or not.
        if self._escaped is not None and any(mark in body for mark in _MARKS):
            body = self._without_escaped(self._escaped, body)
        return body

    def _without_escaped(self, escaped: re.Pattern[bytes], body: bytes) -> bytes:
        """Searched a window at a time: the pattern takes seconds for a long body, and nothing else runs meanwhile."""
        pieces: list[bytes] = []
        done = place = 0
        while place < len(body):
            found = escaped.search(body, place, place + _WINDOW + self._longest_escaped)
            if found is None or found.start() >= place + _WINDOW:
                place += _WINDOW
                continue
            pieces += [body[done : found.start()], HIDDEN.encode()]
            done = place = found.end()
        return b"".join((*pieces, body[done:])) if pieces else body

    def hide_all(self, body: bytes) -> bytes:
        """Without the endpoint's own key and whatever looks like one. For errors and messages."""
        return _KEY_LIKE.sub(HIDDEN.encode(), self.hide_secrets(body))

    def hide_in_text(self, text: str) -> str:
        """`hide_all` for text."""
        return self.hide_all(text.encode("utf-8", "replace")).decode("utf-8", "replace")


def _anyhow(character: str) -> bytes:
    """A pattern of a character as JSON, a URL or HTML may write it, and each of them once more within the same. The
    repetitions have bounds, and no two ways begin alike for long: an answer may be megabytes of backslashes."""
    plain = re.escape(character.encode())
    if not character.isascii():
        return plain
    code = b"(?i:%02x)" % ord(character)
    entities = [b"#[xX]0{0,8}%s;?" % code, b"#0{0,8}%d(?![0-9]);?" % ord(character)]
    entities += [re.escape(name.encode()) for name in _NAMES.get(character, ())]
    escaped = b"\\\\{1,16}u00%s|%%(?:25){0,3}%s|&(?:amp;){0,3}(?:%s)" % (code, code, b"|".join(entities))
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
        for offset in range(3):
            form = _within_base64(encode(b"\0" * offset + secret.encode()).decode(), offset)
            if len(form) >= _SHORTEST_FORM:
                yield form


def _within_base64(encoded: str, offset: int) -> str:
    """The characters that depend on the secret alone, not on what stands before or after it."""
    start = (0, 2, 3)[offset]
    padding = encoded.count("=")
    return encoded[start : len(encoded) - (padding + 1 if padding else 0)]
