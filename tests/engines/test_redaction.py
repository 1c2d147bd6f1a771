"""Keys in whatever form an echo may carry them, and what must stay as it is."""

from __future__ import annotations

import base64
import html
import json
import string
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.engines.redaction import _WINDOW, Redactor

KEY = 'sk-proj-A/b+c=d é"q\\w0123456789'
OTHERS_KEYS = [
    "sk-abcdefghijklmnop1234",
    "sk-ant-api03-abcdefghijklmnop",
    "gsk_abcdefghijklmnop1234",
    "hf_abcdefghijklmnop1234",
    "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
]

FORMS = {
    "plain": KEY,
    "in a URL": quote(KEY, safe=""),
    "in a URL, lower case": quote(KEY, safe="").lower(),
    "in JSON": json.dumps(KEY),
    "in JSON, slashes escaped": json.dumps(KEY).replace("/", "\\/"),
    "in base64": base64.b64encode(KEY.encode()).decode(),
    "in URL-safe base64": base64.urlsafe_b64encode(KEY.encode()).decode(),
    "as Basic auth": base64.b64encode(f"user:{KEY}".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("words", ["{}", '{{"error": "wrong key {}, go away"}}'])
def test_the_key_is_hidden_in_every_form(form: str, words: str) -> None:
    redactor = Redactor([KEY])

    for hidden in (redactor.hide_secrets(words.format(form).encode()), redactor.hide_all(words.format(form).encode())):
        assert b"***" in hidden
        assert b"0123456789" not in hidden
        assert base64.b64encode(KEY.encode())[4:-4] not in hidden


def _in_json(letter: str) -> str:
    return f"\\u{ord(letter):04x}"


ESCAPES = {
    "itself": str,
    "json": _in_json,
    "json, upper case": lambda letter: f"\\u{ord(letter):04X}",
    "json in json": lambda letter: json.dumps(_in_json(letter))[1:-1],
    "url": lambda letter: f"%{ord(letter):02X}",
    "url, lower case": lambda letter: f"%{ord(letter):02x}",
    "url in url": lambda letter: f"%25{ord(letter):02X}",
    "html": lambda letter: f"&#{ord(letter)};",
    "html, hexadecimal": lambda letter: f"&#x{ord(letter):X};",
    "html in html": lambda letter: f"&amp;#{ord(letter)};",
    "html by name": html.escape,
}


@given(
    secret=st.text(string.ascii_letters + string.digits + "+/=-_.~<>&'", min_size=8, max_size=60),
    ways=st.lists(st.sampled_from(list(ESCAPES)), min_size=1, max_size=9),
    before=st.sampled_from(["", "bad ", "%zz &amp; \\u00e4 ", "%41\\u0041&lt;"]),
)
def test_a_key_is_hidden_whichever_of_its_characters_are_escaped(secret: str, ways: list[str], before: str) -> None:
    escaped = "".join(ESCAPES[ways[place % len(ways)]](letter) for place, letter in enumerate(secret))

    hidden = Redactor([secret]).hide_secrets(f"{before}{escaped} end".encode())

    assert hidden == f"{before}*** end".encode()


def test_what_frameworks_make_of_a_key_is_hidden() -> None:
    redactor = Redactor(["relay+Key/with=sp&ec<ial>0123"])

    for told in (
        rb"relay\u002BKey/with=sp\u0026ec\u003Cial\u003E0123",  # .NET
        rb"relay+Key/with=sp\u0026ec\u003cial\u003e0123",  # Go
        b"relay%2bKey%2fwith%3dsp%26ec%3cial%3e0123",  # .NET in a URL
        b"relay%2BKey/with%3Dsp%26ec%3Cial%3E0123",  # Python in a URL
        b"relay+Key/with=sp&amp;ec&lt;ial&gt;0123",
    ):
        assert redactor.hide_secrets(b"bad key: " + told) == b"bad key: ***"


@pytest.mark.parametrize("escape", [b"\\", b"%25", b"%", b"&amp;", b"&#00000000", rb"\u0073", b"&#"])
def test_an_answer_full_of_escapes_is_searched_in_linear_time(escape: bytes) -> None:
    body = escape * (1_000_000 // len(escape)) + rb"\u0073%73"
    began_s = time.process_time()

    assert Redactor([KEY]).hide_secrets(body) is body
    assert time.process_time() - began_s < 10


@given(
    secret=st.text(string.ascii_letters + string.digits + "+/=-_.~ %é", min_size=12, max_size=60),
    before=st.binary(max_size=7),
    after=st.binary(max_size=7),
)
def test_base64_of_anything_around_the_key_does_not_carry_it_through(secret: str, before: bytes, after: bytes) -> None:
    carried = base64.b64encode(before + secret.encode() + after)

    hidden = Redactor([secret]).hide_secrets(carried)

    assert b"***" in hidden
    assert len(hidden) <= len(before) * 4 // 3 + len(after) * 4 // 3 + 3 + 12


@given(st.text(min_size=8), st.text(max_size=30), st.text(max_size=30))
def test_text_never_keeps_the_key(secret: str, before: str, after: str) -> None:
    hidden = Redactor([secret]).hide_in_text(before + secret + after)

    assert secret not in hidden or secret in f"{before}***{after}"


@pytest.mark.parametrize("key", OTHERS_KEYS)
@pytest.mark.parametrize("words", ["{}", 'Incorrect API key provided: "{}".', "a,{},b"])
def test_whatever_looks_like_a_key_is_hidden_in_errors(key: str, words: str) -> None:
    hidden = Redactor([]).hide_in_text(words.format(key))

    assert key[8:] not in hidden
    assert hidden == words.format("***")


@pytest.mark.parametrize(
    ("said", "hidden"),
    [
        ("Authorization: Bearer abcdefghijklmnop.1234", "Authorization: Bearer ***"),
        ("got header Basic dXNlcjpwYXNzd29yZDEyMw==", "got header Basic ***"),
        ("POST /v1/x?key=abcdefgh12345&alt=json", "POST /v1/x?key=***&alt=json"),
        ("proxy http://me:hunter2@proxy:3128 is down", "proxy http://***@proxy:3128 is down"),
    ],
)
def test_headers_and_urls_with_a_key_are_hidden_in_errors(said: str, hidden: str) -> None:
    assert Redactor([]).hide_in_text(said) == hidden


@pytest.mark.parametrize(
    "words",
    [
        "the task-force met; a risk-adjusted-return-on-capital of 7 %",
        "model gpt-4o-mini-2024-07-18 and request req_0123456789abcdef",
        '{"error":{"message":"Rate limit reached for requests","type":"requests","code":"rate_limit_exceeded"}}',
        "https://platform.openai.com/account/api-keys",
        "12:30:59 user@example.com wrote",
    ],
)
def test_ordinary_words_stay_as_they_are(words: str) -> None:
    assert Redactor([KEY]).hide_in_text(words) == words


def test_an_answer_keeps_what_merely_looks_like_a_key() -> None:
    answer = b'{"arguments":"{\\"found\\": \\"sk-abcdefghijklmnop1234\\"}"}'

    assert Redactor([KEY]).hide_secrets(answer) is answer


@pytest.mark.parametrize("key", ["", "EMPTY", "none", "sk-1"])
def test_a_key_as_short_as_a_word_is_left_alone(key: str) -> None:
    answer = b'{"status": "none", "list": "EMPTY", "unit": "sk-1"}'

    assert Redactor([key]).hide_secrets(answer) == answer


def test_a_secret_in_json_that_is_quoted_in_json_is_taken_out() -> None:
    told = 'my"secret\\key+of/mine'
    redactor = Redactor([told])

    for _ in range(4):
        told = json.dumps({"error": told})

        assert b"secret" not in redactor.hide_secrets(told.encode())
        assert b"key+of" not in redactor.hide_secrets(told.encode())


@pytest.mark.parametrize("at", [0, 1, _WINDOW - 40, _WINDOW - 9, _WINDOW - 1, _WINDOW, 2 * _WINDOW - 5])
def test_an_escaped_secret_is_found_wherever_the_search_begins_its_next_window(at: int) -> None:
    secret = "sk-window/seven-eight"
    escaped = "".join(f"\\u00{ord(one):02x}" for one in secret).encode()
    body = b"%" + b"a" * at + escaped + b"b" * _WINDOW

    assert Redactor([secret]).hide_secrets(body) == b"%" + b"a" * at + b"***" + b"b" * _WINDOW
