"""One row's life, in virtual time: what is sent, when, how often, and what everybody learns from it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace
from scripted_endpoint import (
    BAD_KEY,
    BUSY,
    REFUSED,
    TIMED_OUT,
    UNCONNECTED,
    Answer,
    MemoryRecorder,
    ScriptedTransport,
    completion,
    live,
    question,
    refusal,
)

from batchcall.answers.arguments import Toolbox
from batchcall.answers.read import Prepared
from batchcall.base.errors import ExitCode, OutputError
from batchcall.base.records import (
    Attempt,
    Failure,
    HttpResponse,
    Reply,
    Status,
)
from batchcall.dialects import DIALECTS
from batchcall.engine.feed import Backlog
from batchcall.http.beside import LONG_BODY
from batchcall.pacing.budget import Budget
from batchcall.pacing.health import Verdict


def test_an_answer_is_on_disk_before_the_row_ends_and_after_it_was_announced() -> None:
    run = live(ScriptedTransport([completion()]))

    assert run.recorder.events == [("send", 0), ("answered", 0)]
    assert run.only.outcome.status is Status.OK
    assert run.only.outcome.arguments == {"n": 1}
    assert [attempt.number for attempt in run.only.attempts] == [1]


def test_a_throttled_row_waits_as_long_as_the_server_asks() -> None:
    run = live(ScriptedTransport([BUSY, completion()]))

    first, second = (at for at, _ in run.transport.sent)
    assert 7 <= second - first - 1.0 <= 7 * 1.1 + 0.1  # one second for the first answer
    assert run.only.outcome.attempts == 2
    assert run.only.outcome.wait_s is not None
    assert run.only.outcome.wait_s >= 7


def test_a_throttled_row_makes_everybody_wait() -> None:
    def busy_once(text: str, times: int) -> Answer:
        return BUSY if text == "row 0" and times == 1 else completion()

    run = live(ScriptedTransport(busy_once), [question(row) for row in range(6)])

    assert all(at >= 1_000 + 7 for at, _ in run.transport.sent[1:])
    assert {one.outcome.status for one in run.ended} == {Status.OK}


def one_row_fails(failure: Answer) -> Callable[[str, int], Answer]:
    """Row 3 fails whenever it is asked, all others are answered: it is that row's own doing."""
    return lambda text, times: failure if text == "row 3" else completion()


def test_what_was_not_billed_is_tried_as_often_as_the_job_allows() -> None:
    run = live(ScriptedTransport(one_row_fails(REFUSED)), [question(row) for row in range(60)], attempts=4)

    assert run.ended[3].outcome.status is Status.OVERLOADED
    assert run.ended[3].outcome.attempts == 4
    assert ("gave up", 3) in run.recorder.events
    assert run.engine.steering.traffic.possibly_paid_twice == {}


def test_what_may_be_billed_is_tried_twice_more_at_most_and_counted() -> None:
    run = live(ScriptedTransport(one_row_fails(TIMED_OUT)), [question(row) for row in range(60)], attempts=6)

    assert run.ended[3].outcome.status is Status.TIMED_OUT
    assert run.ended[3].outcome.attempts == 3
    assert run.engine.steering.traffic.possibly_paid_twice == {"timed_out": 2}
    assert len(run.ended) == 60


def test_a_row_that_fails_by_itself_blocks_nobody_even_with_one_worker() -> None:
    run = live(ScriptedTransport(one_row_fails(REFUSED)), [question(row) for row in range(9)], concurrency=1)

    assert [one.outcome.status for one in run.ended].count(Status.OK) == 8
    assert run.ended[3].outcome.status is Status.OVERLOADED


@pytest.mark.parametrize("failure", ["unconnected", "timed_out", "refused"])
@pytest.mark.parametrize("concurrency", [1, 4, 16])
@pytest.mark.parametrize("down", [(0.0, 25.0), (30.0, 3_600.0)])
def test_an_outage_fails_no_row_and_raises_no_storm(failure: str, concurrency: int, down: tuple[float, float]) -> None:
    failing = {"unconnected": UNCONNECTED, "timed_out": TIMED_OUT, "refused": REFUSED}[failure]

    def down_for_a_while(text: str, times: int) -> Answer:
        at_s = asyncio.get_running_loop().time() - 1_000 - 1.0  # when it was sent
        return failing if down[0] <= at_s < down[1] else completion()

    transport = ScriptedTransport(down_for_a_while)
    rows = 100 * concurrency
    run = live(transport, [question(row) for row in range(rows)], concurrency=concurrency, max_outage_s=3_700.0)

    assert run.engine.stopped is None
    assert [one.outcome.status for one in run.ended] == [Status.OK] * rows
    assert len(transport.sent) - rows <= concurrency + (down[1] - down[0]) / 30 + 12


def test_an_endpoint_that_is_down_from_the_start_costs_few_calls_and_marks_no_row() -> None:
    run = live(ScriptedTransport(lambda text, times: UNCONNECTED), [question(row) for row in range(50)], attempts=2)

    assert run.ended == []
    assert len(run.transport.sent) <= 8
    assert isinstance(run.engine.stopped, Verdict)
    assert run.engine.stopped.exit_code is ExitCode.STOPPED_EARLY
    assert "no connection" in run.engine.stopped.reason
    assert run.seconds < 60


def test_an_outage_longer_than_anybody_waits_stops_the_run_and_marks_no_row() -> None:
    def goes_down(text: str, times: int) -> Answer:
        return REFUSED if asyncio.get_running_loop().time() > 1_050 else completion()

    run = live(ScriptedTransport(goes_down), [question(row) for row in range(500)], max_outage_s=600.0)

    assert {one.outcome.status for one in run.ended} == {Status.OK}
    assert isinstance(run.engine.stopped, Verdict)
    assert "down for 10 min" in run.engine.stopped.reason
    assert 600 <= run.seconds - 50 <= 640


def test_requests_that_may_be_billed_are_sent_again_for_a_share_of_the_job_only() -> None:
    def times_out_half_the_time(text: str, times: int) -> Answer:
        return TIMED_OUT if times < 3 and int(text.split()[1]) % 2 else completion()

    run = live(ScriptedTransport(times_out_half_the_time), [question(row) for row in range(600)], concurrency=16)

    assert run.engine.steering.traffic.in_doubt <= 100 + 0.1 * run.engine.steering.traffic.answered + 16
    assert len(run.ended) == 600


def test_an_answer_that_was_paid_for_is_never_bought_again_of_its_own() -> None:
    run = live(ScriptedTransport([completion('{"n": "no number"}')]))

    assert run.only.outcome.status is Status.INVALID_ARGUMENTS
    assert len(run.transport.sent) == 1


def test_a_reask_quotes_the_call_and_the_fault_and_adds_up_the_tokens() -> None:
    run = live(ScriptedTransport([completion('{"n": "x"}'), completion('{"n": 2}')]), reasks=1)

    messages = run.transport.sent[1][1]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == '{"n": "x"}'
    assert "/n" in messages[2]["content"]
    assert run.only.outcome.status is Status.OK
    assert run.only.outcome.usage.total_tokens == 30


def test_a_reask_that_gets_no_answer_leaves_the_row_with_the_answer_it_has() -> None:
    run = live(ScriptedTransport([completion('{"n": "x"}'), *[TIMED_OUT] * 3]), reasks=1)

    assert run.only.outcome.status is Status.INVALID_ARGUMENTS
    assert run.only.outcome.calls[0].arguments == '{"n": "x"}'
    assert run.only.outcome.usage.total_tokens == 15


def test_a_bad_key_costs_one_request_and_marks_no_row() -> None:
    run = live(ScriptedTransport(lambda text, times: BAD_KEY), [question(row) for row in range(50)])

    assert run.ended == []
    assert len(run.transport.sent) == 1
    assert isinstance(run.engine.stopped, Verdict)
    assert run.engine.stopped.exit_code is ExitCode.ENDPOINT_REFUSES


def test_a_relay_that_has_worked_may_refuse_a_row_now_and_then() -> None:
    def refuses_once(text: str, times: int) -> Answer:
        return BAD_KEY if text == "row 3" and times == 1 else completion()

    run = live(ScriptedTransport(refuses_once), [question(row) for row in range(8)])

    assert [one.outcome.status for one in run.ended] == [Status.OK] * 8
    assert run.ended[3].outcome.attempts == 2


def test_row_1_goes_alone_then_8_then_all() -> None:
    run = live(
        ScriptedTransport(lambda text, times: completion()), [question(row) for row in range(100)], concurrency=32
    )

    times = [at for at, _ in run.transport.sent]
    assert sum(at == times[0] for at in times) == 1
    assert sum(at == times[1] for at in times) == 8
    assert run.transport.most_in_flight == 32
    assert len(run.ended) == 100


def test_a_stop_drains_what_is_in_flight_and_sends_nothing_more() -> None:
    transport = ScriptedTransport(lambda text, times: completion(), latency_s=10.0)
    run = live(transport, [question(row) for row in range(100)], stop_after_s=12.0)

    assert len(run.ended) == len(run.transport.sent) == 5  # the first, and the four in flight when it came
    assert run.seconds == pytest.approx(20.0)


def test_a_row_that_waits_for_a_retry_stays_unmarked_when_the_run_stops() -> None:
    def one_is_refused(text: str, times: int) -> Answer:
        return refusal(503, "overloaded", **{"retry-after": "600"}) if text == "row 1" else completion()

    run = live(ScriptedTransport(one_is_refused), [question(row) for row in range(2)], stop_after_s=30.0)

    assert [one.row.index for one in run.ended] == [0]
    assert run.seconds == pytest.approx(30.0)
    assert ("gave up", 1) not in run.recorder.events


def test_a_full_disk_stops_the_sending_and_loses_nothing_in_flight() -> None:
    recorder = MemoryRecorder()

    def fills_up(text: str, times: int) -> Answer:
        recorder.is_full = text == "row 6"
        return completion()

    run = live(ScriptedTransport(fills_up), [question(row) for row in range(40)], recorder=recorder)

    assert isinstance(run.engine.stopped, OutputError)
    assert len(run.ended) == len(run.transport.sent) < 40


def test_a_spent_budget_lets_only_what_is_in_flight_go_beyond() -> None:
    transport = ScriptedTransport(lambda text, times: completion())
    run = live(transport, [question(row) for row in range(100)], budget=Budget(max_tokens=150))

    assert 10 <= len(run.ended) < 10 + 4
    assert isinstance(run.engine.stopped, Verdict)
    assert "max_tokens_total" in run.engine.stopped.reason


@pytest.mark.parametrize(
    ("budget", "usage", "limit"),
    [
        (Budget(max_tokens=1_000), {"prompt_tokens": 2**41}, "max_tokens_total"),  # left out, so nothing is told
        (Budget(max_cost=1.0), {"total_tokens": 15}, "max_cost"),  # of no kind that has a price
    ],
)
def test_answers_that_do_not_say_what_a_budget_counts_leave_it_blind(
    budget: Budget, usage: dict[str, int], limit: str
) -> None:
    transport = ScriptedTransport(lambda text, times: completion(**usage))
    run = live(transport, [question(row) for row in range(60)], budget=budget)

    assert 20 <= len(run.ended) < 30
    assert isinstance(run.engine.stopped, Verdict)
    assert run.engine.stopped.reason.startswith(f"limits.{limit} cannot be enforced: 20 answers")


def test_a_budget_that_is_spent_already_sends_nothing() -> None:
    run = live(ScriptedTransport([]), budget=Budget(max_cost=1.0, cost=1.0))

    assert run.transport.sent == []
    assert run.ended == []


def attempt(number: int, answer: Answer) -> Attempt:
    is_response = isinstance(answer, HttpResponse)
    return Attempt(
        row=0,
        number=number,
        request_hash="hash0",
        response=answer if isinstance(answer, HttpResponse) else None,
        failure=None if is_response else answer,  # type: ignore[arg-type]  # mypy does not follow the flag
        sent_at_s=1.0,
        latency_s=1.0,
        wait_s=0.0,
        endpoint="e",
    )


def test_an_answer_of_an_earlier_run_ends_the_row_without_a_request() -> None:
    run = live(ScriptedTransport([]), [replace(question(0), attempts=(attempt(1, completion()),), sent=1)])

    assert run.only.outcome.status is Status.OK
    assert run.transport.sent == []


def test_a_failure_of_an_earlier_run_is_gone_on_from_without_a_wait() -> None:
    asked = replace(question(0), attempts=(attempt(1, BUSY),), sent=1)
    run = live(ScriptedTransport([completion()]), [asked])

    assert run.transport.sent[0][0] == pytest.approx(1_000.0)
    assert run.only.outcome.attempts == 2


def test_an_outage_takes_no_attempts_of_the_next_run() -> None:
    before = (attempt(1, UNCONNECTED), attempt(2, UNCONNECTED))
    run = live(
        ScriptedTransport([UNCONNECTED, completion()]), [replace(question(0), attempts=before, sent=2)], attempts=2
    )

    assert run.only.outcome.status is Status.OK
    assert run.only.outcome.attempts == 4


def test_a_bad_key_of_an_earlier_run_counts_for_nothing_now() -> None:
    asked = replace(question(0), attempts=(attempt(1, BAD_KEY),), sent=1)
    run = live(ScriptedTransport([completion()]), [asked], attempts=1)

    assert run.only.outcome.status is Status.OK


def test_a_row_that_was_given_up_stays_so() -> None:
    asked = replace(question(0), attempts=(attempt(1, TIMED_OUT),), sent=1, is_ended=True)
    run = live(ScriptedTransport([]), [asked])

    assert run.only.outcome.status is Status.TIMED_OUT
    assert run.transport.sent == []


def test_a_fault_in_our_reading_ends_the_row_and_keeps_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Toolbox, "read", broken)
    run = live(ScriptedTransport([completion()]))

    assert run.only.outcome.status is Status.BAD_RESPONSE
    assert "ZeroDivisionError" in (run.only.outcome.error or "")
    assert len(run.transport.sent) == 1
    assert run.recorder.events == [("send", 0), ("answered", 0)]


LONG = HttpResponse(200, {}, completion().body + b" " * LONG_BODY)


def test_rows_that_have_long_answers_already_are_taken_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backlog.__init__, "__defaults__", (4 * len(LONG.body),))
    recorder, held = MemoryRecorder(), []

    def prepare(question: Prepared) -> Prepared:
        taken = 1 + len(held)
        held.append(taken - sum(event == "has read" for event, _ in recorder.events))
        return replace(question, attempts=(attempt(1, LONG),), sent=1)

    questions = [question(row) for row in range(20)]
    run = live(ScriptedTransport([]), questions, concurrency=20, recorder=recorder, prepare=prepare, patience_s=30)

    assert len(run.ended) == len(held) == 20
    assert max(held) <= 3


@dataclass
class SlowToRead:
    """A dialect that reads an answer only once the loop has turned meanwhile; it gives up after real seconds."""

    turn: threading.Event = field(default_factory=threading.Event)
    has_turned: list[bool] = field(default_factory=list)
    patience_s: float = 20.0

    def decode(self, response: HttpResponse, *, now_s: float) -> Reply | Failure:
        self.has_turned.append(self.turn.wait(self.patience_s))
        return DIALECTS["openai-chat"].decode(response, now_s=now_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(DIALECTS["openai-chat"], name)


class TurningRecorder(MemoryRecorder):
    """Lets the dialect go on once the loop has turned after an answer came."""

    slow: SlowToRead

    def answered(self, attempt: Attempt, written: bytes | None = None) -> None:
        super().answered(attempt, written)
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, self.slow.turn.set)


def test_the_loop_goes_on_while_a_long_answer_is_read() -> None:
    recorder, slow = TurningRecorder(), SlowToRead()
    recorder.slow = slow

    run = live(ScriptedTransport([LONG]), recorder=recorder, dialect=slow, patience_s=30)  # type: ignore[arg-type]

    assert slow.has_turned == [True]
    assert run.recorder.events == [("send", 0), ("answered", 0), ("begins to read", 0), ("has read", 0)]
    assert run.only.outcome.status is Status.OK


def test_the_loop_waits_for_a_short_answer_so_nothing_comes_between_its_record_and_its_reading() -> None:
    recorder, slow = TurningRecorder(), SlowToRead(patience_s=0.01)
    recorder.slow = slow

    live(ScriptedTransport([completion()]), recorder=recorder, dialect=slow)  # type: ignore[arg-type]

    assert slow.has_turned == [False]


def test_a_stop_lets_an_answer_that_is_being_read_end_its_row() -> None:
    recorder, slow = TurningRecorder(), SlowToRead()
    recorder.slow = slow
    transport = ScriptedTransport(lambda text, times: LONG)

    slowly: dict[str, Any] = {"recorder": recorder, "dialect": slow, "patience_s": 30}
    run = live(transport, [question(0), question(1)], concurrency=1, stop_after_s=1.0, **slowly)

    assert [one.outcome.status for one in run.ended] == [Status.OK]
    assert isinstance(run.engine.stopped, Verdict)


def test_a_reading_without_end_ends_its_row_and_not_the_run() -> None:
    slow = SlowToRead(patience_s=2.0)

    def long_once(text: str, times: int) -> Answer:
        return LONG if text == "row 0" else completion()

    transport = ScriptedTransport(long_once)
    live_rows = live(transport, [question(0)], dialect=slow)  # type: ignore[arg-type]  # the clock jumps over the limit

    assert live_rows.only.outcome.status is Status.BAD_RESPONSE
    assert "more than 60 s to read" in (live_rows.only.outcome.error or "")
    assert live_rows.only.attempts[0].response is not None
    slow.turn.set()


def test_a_cut_answer_is_not_decoded_at_all() -> None:
    run = live(ScriptedTransport([replace(LONG, is_cut=True)]), dialect=None, patience_s=30)  # type: ignore[arg-type]

    assert run.only.outcome.status is Status.BAD_RESPONSE
    assert run.only.outcome.error == "HTTP 200: the answer is longer than 16 MiB; its start is kept"
