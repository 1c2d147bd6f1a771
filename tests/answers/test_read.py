"""From raw answers to a row's outcome: which answer decides, what adds up, and what is a failure whatever it says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from batchcall.answers.arguments import Toolbox
from batchcall.answers.read import AnswerParser, Ended, ParsedAttempt, Prepared, bad_row, size_of, unread
from batchcall.base.records import (
    NO_USAGE,
    Attempt,
    Failure,
    FailureKind,
    HttpResponse,
    Outcome,
    Request,
    Row,
    Shape,
    Status,
    Tool,
    Usage,
)
from batchcall.dialects import DIALECTS
from batchcall.pacing.price import cost_of

PARAMETERS: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}}
TOOLS = (Tool("f", PARAMETERS, {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}),)
MESSAGES = [{"role": "user", "content": "Hi"}]
ASKED = Prepared(Row(3, {}, "in.jsonl:4"), Request(Shape("m", TOOLS), MESSAGES), "h", Toolbox.of(TOOLS))
PARSER = AnswerParser(
    dialect=DIALECTS["openai-chat"],
    repair=True,
    coerce=False,
    pricing=lambda model, usage: cost_of(usage, prompt=1.0, completion=1.0) if model == "m" else None,
)
TIMED_OUT = Failure(FailureKind.TIMED_OUT, "no answer within 60 s")


def answered(arguments: str = '{"n": 1}', *, tokens: int = 1_000_000, status: int = 200, **said: Any) -> HttpResponse:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    choice = {"message": {"role": "assistant", "content": None, "tool_calls": [call]}, "finish_reason": "stop"}
    body = {"id": "r", "model": "m-1", "choices": [choice], "usage": {"prompt_tokens": tokens, "completion_tokens": 0}}
    return HttpResponse(status, {}, json.dumps({**body, **said}).encode())


def attempt(number: int, response: HttpResponse | None, failure: Failure | None = None, **changed: Any) -> Attempt:
    one = Attempt(3, number, "h", response, failure, 100.0 * number, 0.5, 2.0, f"endpoint {number}")
    return replace(one, **changed)


def outcome(*attempts: Attempt, asked: Prepared = ASKED, parser: AnswerParser = PARSER) -> Outcome:
    return parser.outcome(asked, [parser.read(one, asked) for one in attempts])


def test_an_answer_fills_every_column() -> None:
    ended = outcome(attempt(1, answered(system_fingerprint="fp")))

    assert (ended.row, ended.status, ended.error, ended.tool) == (3, Status.OK, None, "f")
    assert (ended.finish_reason, ended.model, ended.response_id, ended.system_fingerprint) == ("stop", "m-1", "r", "fp")
    assert (ended.attempts, ended.latency_s, ended.wait_s, ended.http_status) == (1, 0.5, 2.0, 200)
    assert (ended.endpoint, ended.request_hash, ended.finished_at_s) == ("endpoint 1", "h", 100.5)
    assert (ended.usage.prompt_tokens, ended.cost) == (1_000_000, 1.0)


def test_the_last_answer_decides_and_the_tokens_of_every_attempt_are_paid() -> None:
    ended = outcome(
        attempt(1, answered("{}", tokens=1_000_000)),
        attempt(2, answered('{"n": 2}', tokens=2_000_000)),
        attempt(3, None, TIMED_OUT),
    )

    assert (ended.status, ended.arguments) == (Status.OK, {"n": 2})
    assert (ended.endpoint, ended.attempts, ended.http_status) == ("endpoint 2", 3, None)
    assert (ended.usage.prompt_tokens, ended.cost) == (3_000_000, 3.0)


def test_where_no_answer_came_the_last_failure_decides() -> None:
    ended = outcome(attempt(1, None, TIMED_OUT), attempt(2, None))

    assert ended.status is Status(FailureKind.DISCONNECTED.rule.status)
    assert ended.error == "the request was sent, but nothing is known about its answer"
    assert (ended.usage, ended.cost) == (NO_USAGE, None)


@pytest.mark.parametrize(("cost", "total"), [(0.25, 1.25), (None, 1.0)])
def test_what_an_earlier_run_paid_for_the_row_is_added(cost: float | None, total: float) -> None:
    before = Outcome(3, Status.TIMED_OUT, usage=Usage(5, 0), cost=cost, repairs=("impossible_count",))

    ended = outcome(attempt(4, answered()), asked=replace(ASKED, before=before))

    assert (ended.usage.prompt_tokens, ended.cost) == (1_000_005, total)
    assert ended.repairs == ("impossible_count",)


def test_an_attempt_is_priced_by_the_model_that_was_asked() -> None:
    assert outcome(attempt(1, answered())).cost == 1.0
    assert outcome(attempt(1, answered(), model="other")).cost is None


def test_a_failure_of_the_transport_counts_whatever_came_with_it() -> None:
    read = PARSER.read(attempt(1, answered(), TIMED_OUT), ASKED)

    assert (read.failure, read.reply, read.is_ambiguous, read.ends_nothing) == (TIMED_OUT, None, True, False)
    assert read.usage == NO_USAGE


def test_a_failure_of_the_job_does_not_end_the_row_and_may_have_cost_tokens() -> None:
    read = ParsedAttempt(attempt(1, None), failure=Failure(FailureKind.BAD_KEY, "401", usage=Usage(7, 1)))

    assert (read.ends_nothing, read.is_ambiguous, read.usage) == (True, False, Usage(7, 1))
    ok = PARSER.read(attempt(1, answered(tokens=9)), ASKED)
    assert (ok.ends_nothing, ok.is_ambiguous, ok.usage.prompt_tokens) == (False, False, 9)
    assert ParsedAttempt(attempt(1, None)).usage == NO_USAGE


@pytest.mark.parametrize(("status", "is_too_large"), [(199, False), (200, True), (299, True), (300, False)])
def test_a_good_answer_that_was_cut_is_too_large(status: int, is_too_large: bool) -> None:
    read = PARSER.read(attempt(1, replace(answered(status=status), is_cut=True)), ASKED)

    assert (read.failure is not None and read.failure.kind is FailureKind.TOO_LARGE) is is_too_large


@pytest.mark.parametrize(("status", "is_http"), [(99, False), (100, True), (200, True), (599, True), (600, False)])
def test_an_answer_with_a_status_that_http_does_not_know_is_not_trusted(status: int, is_http: bool) -> None:
    read = PARSER.read(attempt(1, answered(status=status)), ASKED)

    assert (read.failure is not None and "is not a valid HTTP status" in read.failure.message) is not is_http


def test_an_answer_is_read_in_the_protocol_that_was_spoken() -> None:
    gemini = {"candidates": [{"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP"}]}
    parser = replace(PARSER, dialects={"gemini": DIALECTS["gemini"]})
    response = HttpResponse(200, {}, json.dumps(gemini).encode())

    assert outcome(attempt(1, response, protocol="gemini"), parser=parser).content == "ok"
    assert outcome(attempt(1, answered(), protocol="unknown"), parser=parser).status is Status.OK


def test_a_fault_of_ours_keeps_the_answer_and_ends_no_run() -> None:
    class Broken:
        name = "openai-chat"

        def decode(self, response: HttpResponse, *, now_s: float) -> None:
            raise RecursionError

    read = replace(PARSER, dialect=Broken()).read(attempt(1, answered()), ASKED)  # type: ignore[arg-type]  # broken

    assert read.failure is not None
    assert (read.failure.kind, read.failure.http_status) == (FailureKind.UNDIGESTED, 200)
    assert read.failure.message == ("batchcall cannot read this answer (RecursionError); it is kept, please report it")
    by_hand = unread(attempt(1, None), "a process died").failure
    assert by_hand is not None
    assert (by_hand.message, by_hand.http_status) == (
        "batchcall cannot read this answer: a process died; it is kept, please report it", None)  # fmt: skip


def test_a_row_without_a_request_costs_nothing_now_and_keeps_what_it_cost() -> None:
    before = Outcome(3, Status.TIMED_OUT, attempts=2, usage=Usage(5, 1), cost=0.5)

    fresh, again = (bad_row(ASKED.row, "no name", now_s=9.0, before=one) for one in (None, before))

    assert (fresh.row, fresh.status, fresh.error) == (3, Status.BAD_ROW, "in.jsonl:4: no name")
    assert (fresh.attempts, fresh.usage, fresh.cost, fresh.finished_at_s) == (0, NO_USAGE, None, 9.0)
    assert (again.attempts, again.usage, again.cost) == (2, Usage(5, 1), 0.5)


@pytest.mark.parametrize("odd", [1, 2**70, "\ud83d", 0.5])
def test_a_row_is_as_large_as_its_messages_are_written_and_twice_its_answers(odd: Any) -> None:
    messages = [{"role": "user", "content": ["abc", odd, None, {"text": "de" * 500}]}]
    attempts = (attempt(1, HttpResponse(200, {}, b"x" * 50)), attempt(2, None))

    prepared = replace(ASKED, request=Request(ASKED.request.shape, messages), attempts=attempts)

    assert prepared.size == pytest.approx(len(json.dumps(messages)) + 100, abs=15)
    assert size_of(Ended(ASKED.row, bad_row(ASKED.row, "", now_s=0.0), attempts)) == 100


LOST = [attempt(number, None, TIMED_OUT) for number in (1, 2, 3)]
REFUSED = attempt(2, None, Failure(FailureKind.RATE_LIMITED, "slow down"))


@pytest.mark.parametrize(
    ("attempts", "most", "says_why"),
    [
        (LOST[:1], 4, True),
        (LOST[:2], 4, True),
        (LOST[:1], 1, False),  # all that it may have
        (LOST[:2], 2, False),
        (LOST, 4, False),  # what may be billed is sent again twice at most, whatever the other rows have used
        ([LOST[0], REFUSED], 4, False),  # this was not billed
    ],
)
def test_a_row_that_ends_with_attempts_left_says_that_the_allowance_of_all_rows_is_used_up(
    attempts: list[Attempt], most: int, says_why: bool
) -> None:
    ended = outcome(*attempts, parser=replace(PARSER, attempts=most))

    assert ended.error is not None
    assert (f"not sent again although limits.attempts is {most}" in ended.error) is says_why
    assert ended.status in (Status.TIMED_OUT, Status.OVERLOADED)
