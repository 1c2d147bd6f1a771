"""From what is known of a row to its next step, with no loop, clock or network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace
from scripted_endpoint import question

from batchcall.answers.arguments import ToolResult
from batchcall.answers.read import ParsedAttempt
from batchcall.base.records import Attempt, Failure, FailureKind, Reply, Status
from batchcall.engine.row_retry import RowRetry, Rules, Send, Stay
from batchcall.pacing.retry import RetryPolicy

RULES = Rules(RetryPolicy(max_attempts=4, first_s=8.0), reasks=1)


@dataclass
class Around:
    """Endpoints as a test says they are."""

    living: Sequence[Any] = ()
    is_down: bool = False
    last_good_s: float = 0.0


@dataclass(eq=False)
class An:
    """An endpoint as a test says it is."""

    is_held: bool = False
    is_down: bool = False
    takes_no_try: bool = False


def an_endpoint(**state: bool) -> Any:
    return An(**state)


ONE = an_endpoint()
UP = Around((ONE,), last_good_s=9.0)
ATTEMPT = Attempt(
    row=0,
    number=1,
    request_hash="h",
    response=None,
    failure=None,
    sent_at_s=0.0,
    latency_s=1.0,
    wait_s=0.0,
    endpoint="e",
)


def failed(kind: FailureKind) -> ParsedAttempt:
    return ParsedAttempt(ATTEMPT, failure=Failure(kind, "it failed"))


def replied(status: Status) -> ParsedAttempt:
    return ParsedAttempt(ATTEMPT, reply=Reply(), result=ToolResult(status, None, None, None, (), ()))


@dataclass
class Course:
    """A row that went through these attempts in this run."""

    reads: Sequence[ParsedAttempt] = ()
    endpoint: Any = field(default_factory=lambda: ONE)
    around: Around = field(default_factory=lambda: UP)

    def row(self) -> RowRetry:
        row = RowRetry(question(0), [], 0, 0)
        for read in self.reads:
            row.goes_out(5.0)
            row.came(read, self.endpoint, self.around, takes_no_try=self.endpoint.takes_no_try)
        return row

    def next(self, *, may_doubt: bool = True) -> Send | Stay:
        return self.row().next_step(RULES, self.around, may_doubt=may_doubt, roll=0.5)


BUSY, LOST = failed(FailureKind.OVERLOADED), failed(FailureKind.DISCONNECTED)
INVALID, VALID = replied(Status.INVALID_ARGUMENTS), replied(Status.OK)


@pytest.mark.parametrize(
    ("says", "reads", "step"),
    [
        ("a new row is sent at once", [], Send(0.0)),
        ("a valid reply ends it", [VALID], Stay.ENDED),
        ("an invalid reply is asked about once, as the job says", [INVALID], Send(0.0)),
        ("and not twice", [INVALID, INVALID], Stay.ENDED),
        ("a failure is waited for, by the dice", [BUSY], Send(4.0)),
        ("longer after each", [BUSY, BUSY], Send(8.0)),
        ("as often as the job says", [BUSY] * 4, Stay.ENDED),
        ("what may be billed is sent again, and counted", [LOST], Send(4.0, is_doubtful=True)),
        ("twice at most", [LOST] * 3, Stay.ENDED),
        ("a failure of the row itself ends it", [failed(FailureKind.REJECTED)], Stay.ENDED),
        ("a failure after an invalid reply is waited for too", [INVALID, BUSY], Send(8.0)),
    ],
)
def test_the_next_step_follows_from_what_came(says: str, reads: list[ParsedAttempt], step: Send | Stay) -> None:
    assert Course(reads).next() == step, says


def test_what_may_be_billed_is_not_sent_again_once_the_jobs_share_is_used_up() -> None:
    assert Course([LOST]).next(may_doubt=False) is Stay.ENDED
    assert Course([BUSY]).next(may_doubt=False) == Send(4.0)  # this was refused, not billed


def test_a_row_waits_for_no_endpoint_while_another_can_be_asked() -> None:
    other = an_endpoint()

    assert Course([BUSY], around=dataclasses.replace(UP, living=(ONE, other))).next() == Send(0.0)
    assert Course([BUSY], around=dataclasses.replace(UP, living=(ONE, an_endpoint(is_held=True)))).next() == Send(4.0)
    assert Course([BUSY, BUSY], around=dataclasses.replace(UP, living=(ONE, other))).next() == Send(
        8.0
    )  # each was asked


def test_a_failure_that_took_no_try_is_neither_counted_nor_waited_for() -> None:
    course = Course([BUSY, BUSY], endpoint=an_endpoint(takes_no_try=True))

    assert (course.row().tries, course.row().probes) == (0, 2)
    assert course.next() == Send(0.0)


def test_a_row_that_only_found_its_endpoint_down_three_times_lets_another_try() -> None:
    down = an_endpoint(is_down=True, takes_no_try=True)
    around = Around((down,), is_down=True)

    assert Course([BUSY] * 2, down, around).next() == Send(0.0)
    assert Course([BUSY] * 3, down, around).next() is Stay.SET_ASIDE
    row = Course([BUSY] * 3, down, around).row()
    row.is_final = True
    assert row.next_step(RULES, around, may_doubt=True, roll=0.5) == Send(0.0)


def test_a_row_that_failed_while_nothing_else_was_answered_is_set_aside_instead_of_ended() -> None:
    quiet, answered = Around((ONE,), last_good_s=5.0), Around((ONE,), last_good_s=5.1)
    lost = [LOST] * 3

    assert Course(lost, around=quiet).next() is Stay.SET_ASIDE
    assert Course(lost, around=answered).next() is Stay.ENDED
    row = Course(lost, around=quiet).row()
    row.is_final = True
    assert row.next_step(RULES, quiet, may_doubt=True, roll=0.5) is Stay.ENDED


def test_a_wrong_key_counts_as_a_try_only_where_no_other_endpoint_is_left_to_ask() -> None:
    wrong = [failed(FailureKind.BAD_KEY)]

    assert Course(wrong, around=dataclasses.replace(UP, living=(ONE, an_endpoint()))).row().tries == 0
    assert Course(wrong).row().tries == 1


def test_a_reply_makes_every_endpoint_askable_again() -> None:
    assert Course([BUSY, INVALID]).row().failed_at == ()
    assert Course([BUSY]).row().failed_at == (ONE,)


def test_a_row_of_an_earlier_run_goes_on_where_it_was() -> None:
    before = replace(question(0), attempts=(ATTEMPT,))

    def step(read: ParsedAttempt, **more: Any) -> Send | Stay:
        row = RowRetry(replace(before, **more), [read], 1, int(read.is_ambiguous))
        return row.next_step(RULES, UP, may_doubt=False, roll=0.5)

    assert step(BUSY) == Send(0.0)  # its wait is over
    assert step(LOST) == Send(0.0)  # counted by the run that sent it
    assert step(failed(FailureKind.BAD_KEY)) == Send(0.0)
    assert step(VALID) is Stay.ENDED
    assert step(INVALID) == Send(0.0)
    assert step(BUSY, is_ended=True) is Stay.ENDED
