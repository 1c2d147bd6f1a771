"""What the gemini dialect promises about answers: the status they come to, and how they are followed up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asking_gemini import GEMINI, GOLDEN, HELLO, WEATHER, decode, encoded, tool
from batchcall.answers.arguments import Toolbox
from batchcall.base.records import RawCall, Reply, Request, Shape, Status
from documents import documented, faults_by

# From an answer to a status


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("STOP", Status.OK),
        ("OTHER", Status.OK),
        ("MAX_TOKENS", Status.TRUNCATED),
        ("SAFETY", Status.FILTERED),
        ("RECITATION", Status.FILTERED),
        ("LANGUAGE", Status.FILTERED),
        ("BLOCKLIST", Status.FILTERED),
        ("PROHIBITED_CONTENT", Status.FILTERED),
        ("SPII", Status.FILTERED),
        ("IMAGE_SAFETY", Status.FILTERED),
        ("IMAGE_PROHIBITED_CONTENT", Status.FILTERED),
        ("MALFORMED_FUNCTION_CALL", Status.BAD_JSON),
        ("UNEXPECTED_TOOL_CALL", Status.UNKNOWN_TOOL),
    ],
)
def test_the_reason_decides_the_status(reason: str, status: Status) -> None:
    toolbox = Toolbox.of([tool("get_weather", WEATHER)])
    part = {"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}}
    reply = decode({"candidates": [{"content": {"parts": [part]}, "finishReason": reason}]})
    assert isinstance(reply, Reply)

    reading = toolbox.read(reply, repair=True, coerce=False, max_tokens=None)

    assert reading.status is status
    assert bool(reading.error) is (status is not Status.OK)
    assert reading.arguments == ({"city": "Paris"} if status is Status.OK else None)


@pytest.mark.parametrize("repair", [True, False])
def test_arguments_that_are_an_object_need_no_repair(repair: bool) -> None:
    toolbox = Toolbox.of([tool("get_weather", WEATHER)])
    part = {"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}}
    reply = decode({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]})
    assert isinstance(reply, Reply)

    reading = toolbox.read(reply, repair=repair, coerce=False, max_tokens=None)

    assert (reading.status, reading.repairs) == (Status.OK, ())


def test_arguments_in_pieces_never_pass_for_a_call_without_any() -> None:
    toolbox = Toolbox.of([tool("now", {"type": "object", "properties": {"zone": {"type": "string"}}})])
    pieces: Any = [{"jsonPath": "$.zone", "stringValue": "UTC"}]
    for said in ({"willContinue": True}, {"willContinue": True, "args": {}}, {"partialArgs": pieces}):
        written: Any = {"name": "now", **said}
        reply = decode({"candidates": [{"content": {"parts": [{"functionCall": written}]}, "finishReason": "STOP"}]})
        assert isinstance(reply, Reply)

        reading = toolbox.read(reply, repair=True, coerce=True, max_tokens=None)

        assert reading.status is Status.INVALID_ARGUMENTS
        assert reading.arguments is None


def test_arguments_that_are_a_text_are_repaired_and_that_is_recorded() -> None:
    toolbox = Toolbox.of([tool("get_weather", WEATHER)])
    part = {"functionCall": {"name": "get_weather", "args": '{"city": "Paris"}'}}
    reply = decode({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]})
    assert isinstance(reply, Reply)

    reading = toolbox.read(reply, repair=True, coerce=False, max_tokens=None)

    assert (reading.arguments, reading.repairs) == ({"city": "Paris"}, ("double_encoded",))


# Follow-ups


def test_a_follow_up_quotes_the_call_and_answers_it_with_the_problem() -> None:
    shape = Shape("gemini-3-pro", (tool("get_weather", WEATHER),))
    reply = Reply(calls=(RawCall("get_weather", '{"city":5}', "fc-1"),), content="Let me see.")

    again = GEMINI.reask(Request(shape, HELLO), reply, "at /city: 5 is no string")

    assert again.shape is shape
    said, told = encoded(shape, again.messages)["contents"][1:]
    assert said == {
        "role": "model",
        "parts": [
            {"text": "Let me see."},
            {
                "functionCall": {"id": "fc-1", "name": "get_weather", "args": {"city": 5}},
                "thoughtSignature": "skip_thought_signature_validator",
            },
        ],
    }
    (answer,) = told["parts"]
    assert answer["functionResponse"]["name"] == "get_weather"
    assert answer["functionResponse"]["id"] == "fc-1"
    assert answer["functionResponse"]["response"]["output"].startswith("at /city: 5 is no string")


def test_an_answer_in_text_is_followed_up_as_text() -> None:
    again = GEMINI.reask(Request(Shape("m"), HELLO), Reply(content="Sunny."), "no function was called")

    assert [content["role"] for content in encoded(Shape("m"), again.messages)["contents"]] == ["user", "model", "user"]


# The vendor's own description


@documented
def test_every_whole_answer_of_ours_is_one_that_the_vendor_describes() -> None:
    """The goldens named for what Google documents hold to its description, so that they are no inventions of ours."""
    described = [path for path in GOLDEN if path.stem in ("call-plain", "call-several", "text-plain", "usage-thinking")]

    for path in described:
        answer = json.loads(path.read_text(encoding="utf-8"))["response"]["body"]
        assert faults_by("gemini", "GenerateContentResponse", answer) == []
    assert len(described) == 4
