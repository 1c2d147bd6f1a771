"""What the gemini dialect makes of messages: turns, parts, calls and their results."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from asking_gemini import GEMINI, HELLO, encoded, quoted
from batchcall.base.records import Json, Request, Shape
from batchcall.dialects.gemini.contents import _function_response

PIXEL = "iVBORw0KGgo="


def test_turns_of_one_role_are_merged() -> None:
    messages: list[Json] = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
        {"role": "model", "content": "d"},
        {"role": "user", "content": "e"},
    ]

    assert encoded(Shape("m"), messages)["contents"] == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}, {"text": "d"}]},
        {"role": "user", "parts": [{"text": "e"}]},
    ]


def test_a_request_that_is_all_system_asks_with_it() -> None:
    body = encoded(Shape("m"), [{"role": "system", "content": "Say hi."}])

    assert body == {"contents": [{"role": "user", "parts": [{"text": "Say hi."}]}]}


def test_contents_in_geminis_own_form_pass_as_written() -> None:
    contents: list[Json] = [
        {"role": "user", "parts": [{"text": "a"}, {"fileData": {"fileUri": "gs://b/c.pdf"}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "QUJD"}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"a": 1}}}]},
    ]

    assert encoded(Shape("gemini-3-pro"), contents)["contents"] == contents


def test_a_content_without_a_role_is_the_users() -> None:
    contents = encoded(Shape("m"), [{"role": "", "parts": [{"text": "a"}]}])["contents"]

    assert contents == [{"role": "user", "parts": [{"text": "a"}]}]


PARTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "text", "text": "a"}, {"text": "a"}),
    ({"type": "refusal", "refusal": "no"}, {"text": "no"}),
    (
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
    ),
    (
        {"type": "image_url", "image_url": f"data:IMAGE/PNG;charset=x;base64,{PIXEL}"},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
    ),
    (
        {"type": "image_url", "image_url": {"url": "data:text/plain,a%20b"}},
        {"inlineData": {"mimeType": "text/plain", "data": base64.b64encode(b"a b").decode()}},
    ),
    (
        {"type": "image_url", "image_url": {"url": f"DATA:image/png;base64,{PIXEL}"}},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
    ),
    (
        {"type": "image_url", "image_url": {"url": "data:,x"}},
        {"inlineData": {"mimeType": "text/plain", "data": "eA=="}},
    ),
    (
        {"type": "image_url", "image_url": {"url": "https://x.example/a.JPG?size=1"}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.example/a.JPG?size=1"}},
    ),
    ({"type": "image_url", "image_url": {"url": "gs://b/c"}}, {"fileData": {"fileUri": "gs://b/c"}}),
    (
        {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "mp3"}},
        {"inlineData": {"mimeType": "audio/mp3", "data": PIXEL}},
    ),
    (
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PIXEL}", "filename": "a.pdf"}},
        {"inlineData": {"mimeType": "application/pdf", "data": PIXEL}},
    ),
    (
        {"type": "file", "file": {"file_data": PIXEL, "filename": "a.csv"}},
        {"inlineData": {"mimeType": "text/csv", "data": PIXEL}},
    ),
    (
        {"type": "file", "file": {"file_id": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
    ),
    (
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
    ),
]


@pytest.mark.parametrize(("written", "said"), PARTS, ids=[json.dumps(one)[:60] for one, _ in PARTS])
def test_a_part_is_said_in_geminis_words(written: dict[str, Any], said: dict[str, Any]) -> None:
    contents = encoded(Shape("m"), [{"role": "user", "content": [written, {"type": "text", "text": "?"}]}])["contents"]

    assert contents == [{"role": "user", "parts": [said, {"text": "?"}]}]


def test_calls_and_their_results_are_one_turn_each() -> None:
    messages: list[Json] = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [quoted("f", '{"a":1}', "c1"), quoted("g", "", "c2")]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"ok":true}'},
        {"role": "tool", "tool_call_id": "c2", "content": "sunny"},
        {"role": "user", "content": "And?"},
    ]

    assert encoded(Shape("m"), messages)["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
                {"functionCall": {"id": "c2", "name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "f", "response": {"ok": True}}},
                {"functionResponse": {"id": "c2", "name": "g", "response": {"output": "sunny"}}},
                {"text": "And?"},
            ],
        },
    ]


def test_a_legacy_call_and_its_result() -> None:
    messages: list[Json] = [
        *HELLO,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "[1, 2]"},
    ]

    assert encoded(Shape("m"), messages)["contents"][1:] == [
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "[1, 2]"}}}]},
    ]


@pytest.mark.parametrize(
    ("content", "response"),
    [
        (None, {}),
        ("", {}),
        ("{broken", {"output": "{broken"}),
        ("5", {"output": "5"}),
        ([{"type": "text", "text": '{"a":'}, {"type": "text", "text": "1}"}], {"a": 1}),
    ],
)
def test_a_result_is_an_object(content: Json, response: dict[str, Any]) -> None:
    contents = encoded(Shape("m"), [*HELLO, {"role": "tool", "name": "f", "content": content}])["contents"]

    assert contents[0]["parts"][1]["functionResponse"] == {"name": "f", "response": response}


def test_an_image_that_a_function_gave_back_stays_with_its_result() -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    messages: list[Json] = [*HELLO, {"role": "tool", "name": "f", "content": [{"type": "text", "text": "x"}, image]}]

    result = encoded(Shape("m"), messages)["contents"][0]["parts"][1]["functionResponse"]

    assert result["response"] == {"output": "x"}
    assert result["parts"] == [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}]


def test_arguments_beyond_64_bits_are_quoted_exactly() -> None:
    messages: list[Json] = [
        *HELLO,
        {"role": "assistant", "tool_calls": [quoted("f", '{"n":123456789012345678901}', "c")]},
    ]

    body = GEMINI.encode(Request(Shape("m"), messages)).body

    assert b'"args": {"n": 123456789012345678901}' in body or b'"args":{"n":123456789012345678901}' in body


def test_arguments_that_are_not_an_object_are_put_into_one() -> None:
    messages: list[Json] = [*HELLO, {"role": "assistant", "tool_calls": [quoted("f", '{"n":', "c")]}]

    assert encoded(Shape("m"), messages)["contents"][1]["parts"][0]["functionCall"]["args"] == {"arguments": '{"n":'}


def test_newer_models_get_their_calls_with_a_signature() -> None:
    messages: list[Json] = [
        *HELLO,
        {"role": "assistant", "tool_calls": [quoted("f", "{}", "a"), quoted("f", "{}", "b")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {
            "role": "assistant",
            "tool_calls": [{**quoted("f", "{}", "c"), "extra_content": {"google": {"thought_signature": "QUJD"}}}],
        },
    ]

    signatures = {
        model: [
            part.get("thoughtSignature")
            for content in encoded(Shape(model), messages)["contents"]
            for part in content["parts"]
            if "functionCall" in part
        ]
        for model in ("gemini-2.5-pro", "gemini-3-pro-preview", "gemini-pro-latest")
    }

    assert signatures == {
        "gemini-2.5-pro": [None, None, "QUJD"],
        "gemini-3-pro-preview": ["skip_thought_signature_validator", None, "QUJD"],
        "gemini-pro-latest": ["skip_thought_signature_validator", None, "QUJD"],
    }


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user"},
        {"role": "user", "content": ""},
        {"role": "user", "content": []},
        {"role": "user", "content": [5, None, {"type": "image_url"}, {"type": "file", "file": {}}]},
        {"role": "user", "content": {"a": 1}},
        {"role": "user", "content": 2**70},
        {"role": "user", "content": "\ud83d"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,\ud83d"}}]},
        {"role": "assistant", "tool_calls": [5, {"function": 5}, {}]},
        {"role": "assistant", "tool_calls": "x", "function_call": 5},
        {"role": "tool"},
        {"role": "narrator", "content": "x"},
        {"role": 5, "parts": "x"},
        "no message",
        None,
    ],
    ids=repr,
)
def test_odd_messages_are_sent_all_the_same(message: Any) -> None:
    json.loads(GEMINI.encode(Request(Shape("gemini-3-pro"), [message])).body)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ({"tool_call_id": "c", "name": "own"}, "asked"),
        ({"tool_call_id": "other", "name": "own"}, "own"),
        ({"tool_call_id": "other"}, "other"),
        ({"tool_call_id": ["c"], "name": "own"}, "own"),
        ({"name": "own"}, "own"),
        ({}, "unknown"),
    ],
)
def test_a_result_has_the_name_of_its_call_or_its_own_or_its_id(message: dict[str, Any], name: str) -> None:
    assert _function_response(message, {"c": "asked"})["functionResponse"]["name"] == name
