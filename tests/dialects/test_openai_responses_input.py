"""What the openai-responses dialect makes of messages: input items, parts, calls and their results."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking_responses import RESPONSES, ask, body_of, sent, user
from batchcall.base.records import Json, Request, Shape


def input_of(*messages: Any) -> list[Any]:
    items: list[Any] = sent(ask(*messages))["input"]
    return items


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "a"}, {"type": "input_text", "text": "a"}),
        ("a", {"type": "input_text", "text": "a"}),
        (
            {"type": "image_url", "image_url": "https://x/a.png"},
            {"type": "input_image", "image_url": "https://x/a.png", "detail": "auto"},
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, {"type": "input_file", "file_id": "file-1"}),
        (
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        ),
        ({"type": "input_text", "text": "a"}, {"type": "input_text", "text": "a"}),
        (
            {"type": "input_image", "file_id": "file-1", "detail": "high"},
            {"type": "input_image", "file_id": "file-1", "detail": "high"},
        ),
    ],
    ids=str,
)
def test_a_part_becomes_an_input_of_its_kind(part: Json, expected: Json) -> None:
    assert input_of(user([part])) == [{"role": "user", "content": [expected]}]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"city":"Paris"}', '{"city":"Paris"}'),
        ({"city": "Köln"}, '{"city":"Köln"}'),
        ({}, "{}"),
        ("", "{}"),
        (None, "{}"),
    ],
)
def test_the_arguments_of_an_earlier_call_are_sent_as_the_text_that_the_vendor_wants(arguments: Any, text: str) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}

    body = body_of(ask(user("Weather?"), {"role": "assistant", "content": None, "tool_calls": [call]}))

    assert body["input"][1]["arguments"] == text


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
    ],
    ids=lambda item: item.get("type", "message"),
)
def test_what_is_an_input_item_already_is_sent_as_written(item: dict[str, Any]) -> None:
    assert input_of(item, user("Hi")) == [item, user("Hi")]


def test_calls_and_their_results_find_each_other_without_ids() -> None:
    first, second = ({"function": {"name": name, "arguments": "{}"}} for name in "fg")

    items = input_of(
        user("x"),
        {"role": "assistant", "content": None, "tool_calls": [first, second]},
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "function_call": {"name": "f", "arguments": ""}},
        {"role": "function", "name": "f", "content": "3"},
    )

    calls = [item["call_id"] for item in items if item.get("type") == "function_call"]
    assert len(set(calls)) == 3
    assert [item["call_id"] for item in items if item.get("type") == "function_call_output"] == calls
    assert items[-2]["arguments"] == "{}"


def test_the_result_of_a_custom_tool_is_one_of_its_kind() -> None:
    call = {"id": "c", "type": "custom", "custom": {"name": "run", "input": "1"}}

    items = input_of({"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "2"})

    assert items == [
        {"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "1"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "2"},
    ]


def test_a_participants_name_is_left_out_as_it_has_no_place_there() -> None:
    assert input_of({**user("Hi"), "name": "Ada"}) == [user("Hi")]


def test_values_that_orjson_cannot_write_are_sent_all_the_same() -> None:
    body = sent(ask(user("\ud83d"), odd=2**70))

    assert (body["odd"], body["input"][0]["content"]) == (2**70, "\ud83d")


messages = st.lists(
    st.dictionaries(
        st.sampled_from(["role", "content", "tool_calls", "function_call", "tool_call_id", "type", "refusal"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.sampled_from(["tool", "assistant", "user", "text", "f"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["type", "text", "function", "name", "arguments", "id", "custom", "file", "image_url"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=10,
        ),
        max_size=4,
    ),
    max_size=4,
)


@given(written=messages)
def test_whatever_a_row_brings_as_messages_can_be_encoded(written: list[Any]) -> None:
    assert isinstance(json.loads(RESPONSES.encode(Request(Shape("m"), written)).body)["input"], list)


@given(written=messages)
def test_encoding_leaves_the_messages_alone(written: list[Any]) -> None:
    before = json.dumps(written)

    RESPONSES.encode(Request(Shape("m"), written))

    assert json.dumps(written) == before


def test_what_an_assistant_said_in_parts_is_one_text_and_a_refusal_only_where_it_said_nothing() -> None:
    parts = [{"type": "text", "text": "Ho, "}, {"type": "refusal", "refusal": "no."}, {"type": "text", "text": 5}]

    said = [
        input_of({"role": "assistant", **message})[-1]["content"]
        for message in (
            {"content": parts},
            {"content": "Hi", "refusal": "No."},
            {"content": None, "refusal": "No."},
            {"content": [], "refusal": "No."},
        )
    ]

    assert said == ["Ho, no.", "Hi", "No.", "No."]
