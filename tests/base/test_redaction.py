"""Keys in whatever form an echo may carry them, and what must stay as it is."""

from __future__ import annotations

import base64
import html
import json
import string
import time
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from batchcall.answers.read import AnswerParser, ParsedAttempt
from batchcall.base.records import Attempt, HttpResponse
from batchcall.base.redaction import _WINDOW, Redactor
from batchcall.dialects import DIALECTS

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
    assume(secret[-1] != "&")  # "&amp;" begins with the letter itself: the key is hidden, and "amp;" stays
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


PLAIN_KEY = "sk-proj-A/b+c=d_0123456789"  # without what JSON escapes


def _digits(separator: str, *, upper: bool = False) -> str:
    digits = separator.join(f"{byte:02x}" for byte in PLAIN_KEY.encode())
    return digits.upper() if upper else digits


WIDE_AND_HEX = {
    "hex": _digits(""),
    "hex, upper case": _digits("", upper=True),
    "a dump": _digits(" "),
    "a fingerprint": _digits(":", upper=True),
    "escapes of a language": "\\x" + _digits("\\x"),
    "the same in JSON": json.dumps("\\x" + _digits("\\x")),
    "an array": "0x" + _digits(", 0x"),
    "UTF-16 that was taken for text": "\0".join(PLAIN_KEY),
    "the same in JSON ": json.dumps("\0".join(PLAIN_KEY)),
    "in another order, too": "\0" + "\0".join(PLAIN_KEY) + "\0",
}


@pytest.mark.parametrize("form", WIDE_AND_HEX.values(), ids=WIDE_AND_HEX.keys())
def test_the_key_is_hidden_in_hex_and_in_characters_of_two_bytes(form: str) -> None:
    hidden = Redactor([PLAIN_KEY]).hide_secrets(f'{{"error": "wrong {form} here"}}'.encode())

    assert b"***" in hidden
    assert hidden.endswith(b' here"}')
    assert b"9" not in hidden


PIECE = "before sk-proj-0123456789abcdef behind"
SPLIT_KEY = "sk-proj-0123456789abcdef"
USAGE = {"prompt_tokens": 1, "completion_tokens": 1}


def sse(*documents: object) -> bytes:
    return b"".join(b"data: " + json.dumps(document).encode() + b"\n\n" for document in documents)


def _delta(**delta: object) -> object:
    return {"id": "r", "model": "m", "choices": [{"index": 0, "delta": delta}]}


def _call(index: int, arguments: str, **more: object) -> object:
    return {"index": index, "function": {"arguments": arguments, **more}}


def chat_content(pieces: list[str]) -> bytes:
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return sse(*[_delta(content=piece) for piece in pieces], end)


def chat_calls_in_turns(pieces: list[str]) -> bytes:
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    start = _delta(tool_calls=[{"id": f"c{n}", **_call(n, '{"a": "', name="f")} for n in (0, 1)])
    turns = [_delta(tool_calls=[_call(0, piece), _call(1, "x")]) for piece in pieces]
    by_turns = [_delta(tool_calls=[call]) for turn in turns for call in turn["choices"][0]["delta"]["tool_calls"]]
    close = [_delta(tool_calls=[_call(n, '"}')]) for n in (0, 1)]
    return sse(start, *by_turns, *close, end)


def chat_parts(pieces: list[str]) -> bytes:
    message = {"content": [{"type": "text", "text": piece} for piece in pieces]}
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()


def anthropic_stream(pieces: list[str]) -> bytes:
    block = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    deltas = [
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": piece}}
        for piece in ['{"a": "', *pieces, '"}']
    ]
    return sse(
        {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage": {}}},
        {"type": "content_block_start", "index": 1, "content_block": block},
        *deltas,
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}},
        {"type": "message_stop"},
    )


def responses_stream(pieces: list[str]) -> bytes:
    item = {"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": ""}
    deltas = [
        {"type": "response.function_call_arguments.delta", "item_id": "i", "output_index": 0, "delta": piece}
        for piece in ['{"a": "', *pieces, '"}']
    ]
    done = {"id": "r", "status": "completed", "output": []}
    return sse(
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        *deltas,
        {"type": "response.completed", "response": done},
    )


def gemini_stream(pieces: list[str]) -> bytes:
    parts = [{"candidates": [{"content": {"parts": [{"text": piece}]}}]} for piece in pieces]
    return sse(*parts, {"candidates": [{"finishReason": "STOP"}]})


STREAMS = {
    "content": ("openai-chat", chat_content),
    "two calls in turns": ("openai-chat", chat_calls_in_turns),
    "a content in parts": ("openai-chat", chat_parts),
    "anthropic": ("anthropic", anthropic_stream),
    "responses": ("openai-responses", responses_stream),
    "gemini": ("gemini", gemini_stream),
}


def read_with(redactor: Redactor | None, protocol: str, body: bytes) -> ParsedAttempt:
    reader = AnswerParser(DIALECTS[protocol], True, False, lambda model, usage: None, redactor=redactor)
    return reader.skim(Attempt(0, 1, "h", HttpResponse(200, {}, body), None, 1.0, 0.5, 0.0, "e"))


def said_by(read: ParsedAttempt) -> str:
    assert read.reply is not None
    return "\n".join([read.reply.content or "", *(call.arguments for call in read.reply.calls)])


@pytest.mark.parametrize("size", [1, 5, 13, 100])
@pytest.mark.parametrize("name", STREAMS)
def test_a_key_that_is_spread_over_the_pieces_of_an_answer_is_taken_out(name: str, size: int) -> None:
    protocol, stream_of = STREAMS[name]
    body = stream_of([PIECE[start : start + size] for start in range(0, len(PIECE), size)])
    body = Redactor([SPLIT_KEY]).hide_secrets(body)  # as the transport does, which sees no piece for the whole

    clean = read_with(Redactor([SPLIT_KEY]), protocol, body)

    assert "before *** behind" in said_by(clean)
    assert clean.attempt.response is not None
    assert said_by(read_with(None, protocol, clean.attempt.response.body)) == said_by(clean)  # as it is kept
    if size < len(SPLIT_KEY):
        assert SPLIT_KEY in said_by(read_with(None, protocol, body))  # the control: nothing else takes it out


@pytest.mark.parametrize("name", STREAMS)
def test_an_answer_in_pieces_without_the_key_stays_as_it_is(name: str) -> None:
    protocol, stream_of = STREAMS[name]
    body = stream_of([PIECE[:12], PIECE[13:]])

    read = read_with(Redactor([SPLIT_KEY]), protocol, body)

    assert read.attempt.response is not None
    assert read.attempt.response.body is body


@given(st.lists(st.sampled_from(["a", "ab", "0123", SPLIT_KEY[:9], SPLIT_KEY[9:], SPLIT_KEY, "\\", '"']), max_size=12))
def test_what_is_cut_out_of_pieces_leaves_the_rest(pieces: list[str]) -> None:
    cleaned = Redactor([SPLIT_KEY]).hide_in_pieces(chat_content(pieces))

    documents = [json.loads(line[6:]) for line in cleaned.splitlines() if line]
    said = "".join(document["choices"][0]["delta"].get("content", "") for document in documents)
    assert said == "".join(pieces).replace(SPLIT_KEY, "***")
