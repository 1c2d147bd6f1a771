"""Golden answers of every dialect, spoilt by chance: whatever they become, none is an exception. See `scripts/fuzz`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchcall.base.records import Failure, FailureKind, HttpResponse, Reply
from batchcall.dialects import DIALECTS
from batchcall.dialects.jsontext import MAX_DOCUMENTS
from mutating import TOOLBOX, check_in_every_dialect, goldens, spoilt


def test_there_are_golden_answers_to_spoil() -> None:
    assert len(DIALECTS) == 4
    assert len(goldens()) >= 400


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1))
def test_no_answer_however_spoilt_is_an_exception(seed: int) -> None:
    check_in_every_dialect(spoilt(random.Random(seed)))


@pytest.mark.parametrize("protocol", DIALECTS)
@pytest.mark.parametrize("piece", [b"{}", b"data: {}\n\n", b"data: [DONE]\n\n"])
def test_an_answer_in_more_pieces_than_any_has_is_given_up(piece: bytes, protocol: str) -> None:
    read = DIALECTS[protocol].decode(HttpResponse(200, {}, piece * (MAX_DOCUMENTS + 1)), now_s=0)

    assert isinstance(read, Failure)
    assert (read.kind, read.message) == (FailureKind.UNDIGESTED, "HTTP 200: the answer is in more than 200,000 pieces")


@pytest.mark.parametrize("protocol", ["openai-chat", "openai-responses"])
def test_arguments_in_tens_of_thousands_of_pieces_are_put_together(protocol: str) -> None:
    pieces = ['{"a": "', *["x" * 100] * 30_000, '"}']
    events = EVENTS[protocol](pieces)
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()

    read = DIALECTS[protocol].decode(HttpResponse(200, {}, body), now_s=0)

    assert isinstance(read, Reply)
    assert [(call.name, call.arguments) for call in read.calls] == [("f", "".join(pieces))]


def chat_events(pieces: list[str]) -> list[object]:
    calls = [{"index": 0, "function": {"name": "f", "arguments": piece}} for piece in pieces]
    deltas = [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None} for call in calls]
    return [{"choices": [choice]} for choice in [*deltas, {"index": 0, "delta": {}, "finish_reason": "stop"}]]


def response_events(pieces: list[str]) -> list[object]:
    kind = "response.function_call_arguments.delta"
    deltas = [{"type": kind, "output_index": 0, "name": "f", "delta": piece} for piece in pieces]
    response = {"object": "response", "status": "completed", "output": []}
    return [*deltas, {"type": "response.completed", "response": response}]


ARGUMENTS = '{"n": 1, "in": {"a": ":", "a": "b"}}'
WITH_OBJECTS = {
    "openai-chat": '{"choices": [{"message": {"tool_calls": [{"name": "f", "arguments": ARGS}]}}]}',
    "openai-responses": """{"status": "completed", "output": [
        {"type": "function_call", "name": "f", "arguments": ARGS}
    ]}""",
    "anthropic": '{"stop_reason": "tool_use", "content": [{"type": "tool_use", "name": "f", "input": ARGS}]}',
    "gemini": """{"candidates": [
        {"content": {"parts": [{"functionCall": {"name": "f", "args": ARGS}}]}, "finishReason": "STOP"}
    ]}""",
}


STREAMED = {  # an event a line
    "openai-chat": """{"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": ARGS}}]}}]}
        {"choices": [{"delta": {}, "finish_reason": "stop"}]}""",
    "openai-responses": """
        {"type": "response.output_item.done", "item": {"type": "function_call", "name": "f", "arguments": ARGS}}
        {"type": "response.completed", "response": {"status": "completed", "output": []}}""",
    "anthropic": """{"type": "message_start", "message": {}}
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "f", "input": ARGS}}
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": PIECE}}
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}""",
    "gemini": WITH_OBJECTS["gemini"].replace("\n", ""),
}


@pytest.mark.parametrize("spoken", DIALECTS)
@pytest.mark.parametrize("protocol", DIALECTS)
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("is_text", [False, True])
def test_a_key_that_is_twice_in_arguments_is_recorded_however_they_come(
    spoken: str, protocol: str, is_stream: bool, is_text: bool
) -> None:
    def is_noted(arguments: str, behind: str = "") -> bool:
        inner = json.dumps(arguments)
        whole, piece = ("{}", inner) if is_text and "PIECE" in form else (inner if is_text else arguments, '""')
        body = form.replace("ARGS", whole).replace("PIECE", piece) + behind
        read = DIALECTS[protocol].decode(HttpResponse(200, {}, body.encode()), now_s=0)
        assert isinstance(read, Reply)
        reading = TOOLBOX.read(read, repair=True, coerce=False, max_tokens=None)
        assert reading.arguments == json.loads(arguments)
        return "duplicate_key" in read.repairs + reading.repairs

    form = (
        "".join(f"data: {line}\n\n" for line in STREAMED[spoken].strip().split("\n"))
        if is_stream
        else WITH_OBJECTS[spoken]
    )

    assert is_noted(ARGUMENTS)
    assert is_noted(ARGUMENTS, behind="" if is_stream else "</s>")
    assert not is_noted('{"n": 1, "in": {"a": ":"}}')


@pytest.mark.parametrize("protocol", ["openai-chat", "openai-responses", "anthropic"])
@pytest.mark.parametrize("step", [1, 4])
def test_a_stream_whose_pieces_repeat_all_that_came_before_is_read_by_its_last(protocol: str, step: int) -> None:
    arguments = '{"n": 1, "in": {"a": "{\\"b", "c": [{}]}}'
    pieces = [arguments[:end] for end in (*range(1, len(arguments), step), len(arguments))]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in EVENTS[protocol](pieces)).encode()

    read = DIALECTS[protocol].decode(HttpResponse(200, {}, body), now_s=0)

    assert isinstance(read, Reply)
    reading = TOOLBOX.read(read, repair=True, coerce=False, max_tokens=None)
    assert (reading.arguments, reading.repairs) == (json.loads(arguments), ("snapshots",))


def anthropic_events(pieces: list[str]) -> list[object]:
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return [
        {"type": "message_start", "message": {}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "f", "input": {}}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    ]


EVENTS: dict[str, Callable[[list[str]], list[object]]] = {
    "openai-chat": chat_events,
    "openai-responses": response_events,
    "anthropic": anthropic_events,
}
