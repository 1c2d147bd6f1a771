"""What the anthropic dialect promises about answers: what they come to, and how they are followed up."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from asking_claude import CLAUDE, TOOL, USER, decode, message, sent, use
from batchcall.answers.arguments import Toolbox
from batchcall.base.records import Failure, FailureKind, HttpResponse, RawCall, Reply, Request, Shape, Status, Tool

# Answers and what they come to


def read(document: Any, *, tool: Tool = TOOL, repair: bool = True) -> Any:
    reply = decode(orjson.dumps(document))
    assert isinstance(reply, Reply)
    return Toolbox.of([tool]).read(reply, repair=repair, coerce=False, max_tokens=None)


@pytest.mark.parametrize("repair", [True, False])
def test_an_input_that_is_an_object_is_not_a_repair(repair: bool) -> None:
    reading = read(message([use({"city": "Paris"})]), repair=repair)

    assert (reading.status, reading.arguments, reading.repairs) == (Status.OK, {"city": "Paris"}, ())


def test_an_input_that_is_text_is_repaired_and_recorded() -> None:
    reading = read(message([use('{"city": "Paris"}')]))

    assert (reading.status, reading.arguments, reading.repairs) == (Status.OK, {"city": "Paris"}, ("double_encoded",))


def test_the_empty_input_of_a_cut_answer_never_passes_for_a_call_without_arguments() -> None:
    free = Tool("f", {}, {"type": "function", "function": {"name": "f"}})

    reading = read(message([use({})], "max_tokens"), tool=free)

    assert (reading.status, reading.arguments) == (Status.TRUNCATED, None)


@pytest.mark.parametrize(
    ("stop_reason", "status", "words"),
    [
        ("max_tokens", Status.TRUNCATED, "token limit"),
        ("model_context_window_exceeded", Status.TRUNCATED, "context window"),
        ("pause_turn", Status.TRUNCATED, "paused"),
        ("refusal", Status.REFUSED, "refused"),
        ("end_turn", Status.NO_CALL, "in text"),
    ],
)
def test_the_vendors_words_for_an_end_are_understood(stop_reason: str, status: Status, words: str) -> None:
    reading = read(message([{"type": "text", "text": "Hm."}], stop_reason))

    assert reading.status is status
    assert words in (reading.error or "")


def test_integers_of_any_size_are_exact_to_the_end() -> None:
    numbers: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}}
    tool = Tool("f", numbers, {"type": "function", "function": {"name": "f", "parameters": numbers}})
    body = json.dumps(message([use({"n": 123456789012345678901234567890})])).encode()

    reply = decode(body)

    assert isinstance(reply, Reply)
    assert Toolbox.of([tool]).read(reply, repair=True, coerce=False, max_tokens=None).arguments == {
        "n": 123456789012345678901234567890
    }


@pytest.mark.parametrize("limit", ["requests", "tokens", "input-tokens", "output-tokens"])
def test_the_headers_of_anthropics_limits_are_read(limit: str) -> None:
    headers = {f"anthropic-ratelimit-{limit}-remaining": "0", f"anthropic-ratelimit-{limit}-reset": "7"}

    failure = CLAUDE.decode(HttpResponse(429, headers, b'{"error": {"message": "Slow down"}}'), now_s=0.0)

    assert isinstance(failure, Failure)
    assert failure.retry_after_s == 7.0


def test_a_body_beyond_the_cap_is_too_large() -> None:
    answer = CLAUDE.decode(HttpResponse(200, {}, b'{"type":"message","content":[{"ty', is_cut=True), now_s=0.0)

    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.TOO_LARGE


def test_a_stream_of_many_pieces_takes_no_more_than_linear_time() -> None:
    piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "abcdefgh"}}
    line = b"data: " + orjson.dumps(piece) + b"\n\n"
    end = b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n'

    answer = decode(line * 50_000 + end)

    assert isinstance(answer, Reply)
    assert len(answer.content or "") == 400_000


# Follow-ups

ASKED = Request(Shape("m", (TOOL,)), [USER])
PROBLEM = "at /city: 5 is not a string"


def test_a_follow_up_answers_the_call_in_anthropics_blocks() -> None:
    reply = decode(orjson.dumps(message([{"type": "text", "text": "Let me see."}, use({"city": 5})])))
    assert isinstance(reply, Reply)

    again = CLAUDE.reask(ASKED, reply, PROBLEM)

    said, told = sent(again.messages, again.shape)["messages"][1:]
    assert said == {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"city": 5}},
        ],
    }
    assert told["role"] == "user"
    assert told["content"][0]["tool_use_id"] == "toolu_1"
    assert told["content"][0]["content"].startswith(PROBLEM)


def test_a_follow_up_to_text_is_text() -> None:
    again = CLAUDE.reask(ASKED, Reply(content="Sunny."), "no function was called")

    assert [turn["role"] for turn in sent(again.messages)["messages"]] == ["user", "assistant", "user"]


def test_where_it_thinks_a_call_is_quoted_as_text_for_its_thoughts_are_gone() -> None:
    asked = Request(Shape("m", (TOOL,), "auto", {"thinking": {"type": "enabled", "budget_tokens": 1024}}), [USER])

    again: list[Any] = CLAUDE.reask(asked, Reply(calls=(RawCall("f", '{"city":5}', "toolu_1"),)), PROBLEM).messages

    assert again[1] == {"role": "assistant", "content": 'f({"city":5})'}
    assert again[2]["role"] == "user"
