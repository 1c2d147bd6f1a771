"""What the anthropic dialect makes of messages: turns, blocks, calls and their results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asking_claude import CLAUDE, MARK, USER, sent, sent_with
from batchcall.base.records import Request, Shape


def test_a_plain_request_says_what_the_api_needs_and_no_more() -> None:
    body = CLAUDE.encode(Request(Shape("m"), [USER])).body

    assert body == b'{"model":"m","max_tokens":4096,"messages":[{"role":"user","content":"Weather?"}]}'


def test_system_and_developer_texts_stand_apart_from_the_turns() -> None:
    body = sent([{"role": "system", "content": "A."}, USER, {"role": "developer", "content": "B."}])

    assert body["system"] == "A.\n\nB."
    assert body["messages"] == [USER]


def test_a_system_text_in_blocks_keeps_its_marks() -> None:
    marked = {"type": "text", "text": "A.", "cache_control": {"type": "ephemeral"}}

    body = sent([{"role": "system", "content": [marked]}, {"role": "system", "content": "B."}, USER])

    assert body["system"] == [marked, {"type": "text", "text": "B."}]


def test_the_own_system_parameter_stands_before_system_messages() -> None:
    body = sent([{"role": "system", "content": "B."}, USER], Shape("m", parameters={"system": "A."}))

    assert body["system"] == "A.\n\nB."
    assert sent_with(system=[{"type": "text", "text": "A."}])["system"] == [{"type": "text", "text": "A."}]


def test_where_nobody_else_speaks_the_system_text_is_the_users() -> None:
    body = sent([{"role": "system", "content": "Say hi."}])

    assert body["messages"] == [{"role": "user", "content": "Say hi."}]
    assert "system" not in body


def test_consecutive_turns_of_a_role_are_one() -> None:
    body = sent(
        [
            {"role": "user", "content": "A"},
            {"role": "user", "content": ""},
            {"role": "user", "content": [{"type": "text", "text": "B"}]},
            {"role": "assistant", "content": "C"},
            {"role": "user", "content": "D"},
        ]
    )

    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
        {"role": "assistant", "content": "C"},
        {"role": "user", "content": "D"},
    ]


def test_the_messages_of_the_row_are_left_alone() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "A"}]}, {"role": "user", "content": "B"}]
    before = json.loads(json.dumps(messages))

    sent(messages)

    assert messages == before


def test_calls_and_their_results_become_blocks() -> None:
    body = sent(
        [
            USER,
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [call_of("call_1", '{"city":"Paris"}'), call_of("call_2", "")],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "21 °C"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "rain"}]},
            {"role": "user", "content": "And now?"},
        ]
    )

    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "call_1", "name": "f", "input": {"city": "Paris"}},
                {"type": "tool_use", "id": "call_2", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "21 °C"},
                {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "rain"}]},
                {"type": "text", "text": "And now?"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("arguments", "input_"),
    [
        ("{}", {}),
        ("  ", {}),
        ("null", {}),
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ("[1]", {"arguments": [1]}),
        ('{"a":', {"arguments": '{"a":'}),
        ('{"a":123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        ("[" * 100_000, {"arguments": "[" * 100_000}),
    ],
    ids=["empty", "blank", "null", "none", "object", "list", "torn", "long integer", "deep"],
)
def test_arguments_become_an_object_whatever_they_are(arguments: Any, input_: Any) -> None:
    messages = [USER, {"role": "assistant", "content": None, "tool_calls": [call_of("call_1", arguments)]}]

    assert sent(messages)["messages"][1]["content"][0]["input"] == input_


def test_ids_are_written_in_the_letters_that_are_allowed() -> None:
    messages = [
        USER,
        {"role": "assistant", "tool_calls": [call_of("functions.f:0", "{}")]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": ""},
    ]

    said, told = sent(messages)["messages"][1:]

    assert said["content"][0]["id"] == told["content"][0]["tool_use_id"] == "functions_f_0"
    assert "content" not in told["content"][0]


def test_legacy_function_calls_are_calls() -> None:
    said, told = sent(
        [
            USER,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
            {"role": "function", "name": "f", "content": "1"},
        ]
    )["messages"][1:]

    assert said["content"] == [{"type": "tool_use", "id": "call_f", "name": "f", "input": {"a": 1}}]
    assert told["content"] == [{"type": "tool_result", "tool_use_id": "call_f", "content": "1"}]


def test_an_assistant_that_said_nothing_has_no_turn() -> None:
    assert sent([USER, {"role": "assistant", "content": None}, USER])["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}] * 2}
    ]


def test_an_assistant_that_refused_keeps_its_words() -> None:
    refused = {"role": "assistant", "content": None, "refusal": "I cannot say."}

    assert sent([USER, refused, USER])["messages"][1:] == [{"role": "assistant", "content": "I cannot say."}, USER]


PNG = "iVBORw0KGgo="
WITH_URL = {"type": "image", "source": {"type": "url", "url": "https://e.com/a"}}
CITED = {"type": "document", "source": {"type": "url", "url": "https://e.com/a"}, "citations": {"enabled": True}}


@pytest.mark.parametrize(
    ("part", "block", "is_documented"),
    [
        ({"type": "text", "text": "A"}, {"type": "text", "text": "A"}, True),
        ("A", {"type": "text", "text": "A"}, True),
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            True,
        ),
        (
            {"type": "image_url", "image_url": f"data:image/jpg;base64,{PNG[:4]}\n{PNG[4:]}"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG}},
            True,
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png,%89PNG%0D%0A%1A%0A"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            True,
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://e.com/a"}},
            WITH_URL,
            True,
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
                "title": "a.pdf",
            },
            True,
        ),
        (
            {"type": "file", "file": {"file_data": "JVBE"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}},
            True,
        ),
        (
            {"type": "file", "file": {"file_data": "data:text/plain;base64,SGk="}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}},
            True,
        ),
        (
            {"type": "file", "file": {"file_data": "data:,Hi%20\ud83d"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi ?"}},
            True,
        ),
        (
            {"type": "file", "file": {"file_id": "file_1"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
            True,
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://e.com/a"}, **MARK},
            {**WITH_URL, **MARK},
            True,
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": PNG}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": PNG}},
            True,
        ),
        (CITED, CITED, True),
        ({"type": "input_audio", "input_audio": {}}, {"type": "input_audio", "input_audio": {}}, False),
        ({"type": "image_url"}, {"type": "image_url"}, False),
        ({"type": "file", "file": {}}, {"type": "file", "file": {}}, False),
    ],
)  # fmt: skip
def test_a_part_of_a_message_becomes_a_block(part: Any, block: Any, is_documented: bool) -> None:
    """What is in no form that Anthropic knows passes as it is written, for the endpoint to refuse."""
    body = sent([{"role": "user", "content": [part]}], is_documented=is_documented)

    assert body["messages"] == [{"role": "user", "content": [block]}]


def test_turns_in_anthropics_own_form_pass_as_they_are_written() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"city": "P"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True}]},
    ]

    assert sent(messages)["messages"] == messages


def call_of(id_: str, arguments: Any) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "f", "arguments": arguments}}
