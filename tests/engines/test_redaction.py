"""Keys in whatever form an echo may carry them, and what must stay as it is."""

from __future__ import annotations

import base64
import json
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.engines.redaction import Redactor

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
