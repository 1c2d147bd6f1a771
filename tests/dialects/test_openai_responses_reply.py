"""What the openai-responses dialect promises about answers: the same columns as from chat completions."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from asking_responses import CALL, CALLED, CHAT, GOLDEN, RESPONSES, ask, body_of, decode, tool, user
from batchcall.answers.arguments import Toolbox
from batchcall.base.records import Failure, HttpResponse, RawCall, Reply, Status

CHAT_GOLDEN = Path(__file__).parent / "openai_chat"


# Follow-ups


def test_the_follow_up_of_a_wrong_call_is_one_that_the_vendor_allows() -> None:
    reply = Reply(calls=(RawCall("get_weather", '{"city":5}', "call_9"), RawCall("get_weather", "{}")), content="Hm.")

    body = body_of(RESPONSES.reask(ask(user("Weather?"), tools=(tool(),)), reply, "at /city: 5 is no string"))

    said, first, second, told, _ = body["input"][1:]
    assert said == {"role": "assistant", "content": "Hm."}
    assert first == {
        "type": "function_call",
        "call_id": "call_9",
        "name": "get_weather",
        "arguments": '{"city":5}',
    }
    assert told["type"] == "function_call_output"
    assert told["call_id"] == "call_9"
    assert told["output"].startswith("at /city: 5 is no string")
    assert second["call_id"] != "call_9"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("documented-*.json")), ids=lambda path: path.stem)
def test_a_documented_answer_can_be_followed_up(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    if "reply" not in case["expect"]:
        pytest.skip("it is no answer")
    body = case["response"]["body"]
    raw = body.encode() if isinstance(body, str) else orjson.dumps(body)
    reply = RESPONSES.decode(HttpResponse(200, {}, raw), now_s=0.0)
    assert isinstance(reply, Reply)

    assert body_of(RESPONSES.reask(ask(user("Hi")), reply, "no function was called"))


# The same columns


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"status": "completed"}, Status.OK),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, Status.TRUNCATED),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, Status.FILTERED),
        ({"status": "incomplete"}, Status.TRUNCATED),
    ],
    ids=str,
)
def test_the_ending_of_a_response_decides_the_rows_status(answer: dict[str, Any], status: Status) -> None:
    reply = decode(orjson.dumps({"output": [CALLED], **answer}))

    assert isinstance(reply, Reply)
    assert TOOLBOX.read(reply, repair=True, coerce=False, max_tokens=None).status is status


def test_a_call_means_the_same_in_both_protocols() -> None:
    chat = {"choices": [{"message": {"tool_calls": [{**CALL}]}, "finish_reason": "tool_calls"}]}

    answers = [
        decode(orjson.dumps({"output": [CALLED], "status": "completed"})),
        CHAT.decode(HttpResponse(200, {}, orjson.dumps(chat)), now_s=0.0),
    ]

    readings = [TOOLBOX.read(answer, repair=True, coerce=False, max_tokens=None) for answer in answers]
    assert readings[0] == readings[1]


TOOLBOX = Toolbox.of((tool(),))


def test_an_answer_that_a_relay_sends_in_the_other_protocol_says_so() -> None:
    reply = CHAT.decode(HttpResponse(200, {}, orjson.dumps({"output": [CALLED], "status": "completed"})), now_s=0.0)

    assert isinstance(reply, Reply)
    assert reply.repairs == ("other_protocol",)


# Failures


@pytest.mark.parametrize("path", sorted(CHAT_GOLDEN.glob("[0-9]*.json")), ids=lambda path: path.stem)
def test_a_failure_means_the_same_in_both_protocols(path: Path) -> None:
    written = json.loads(path.read_text(encoding="utf-8"))["response"]
    body = written.get("body", "")
    raw = base64.b64decode(written["body_base64"]) if "body_base64" in written else as_bytes(body)
    response = HttpResponse(written["status"], written.get("headers", {}), raw)

    assert RESPONSES.decode(response, now_s=0.0) == CHAT.decode(response, now_s=0.0)


def as_bytes(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def test_azures_minus_one_in_a_header_is_not_looked_at() -> None:
    headers = {"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "-1"}

    failure = RESPONSES.decode(HttpResponse(429, headers, b'{"error": {"message": "Slow down"}}'), now_s=0.0)

    assert isinstance(failure, Failure)
    assert failure.retry_after_s is None
