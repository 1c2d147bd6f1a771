"""When a failed request is sent again, kind by kind from the table of failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.base.records import Failure, FailureKind, Money, Scope
from batchcall.pacing.retry import RetryPolicy

POLICY = RetryPolicy(max_attempts=6)
RETRYABLE = [kind for kind in FailureKind if kind.rule.scope is Scope.RETRY]
OF_ROW = [kind for kind in FailureKind if kind.rule.scope is Scope.ROW]
OF_JOB = [kind for kind in FailureKind if kind.rule.scope is Scope.JOB]
AMBIGUOUS = [kind for kind in RETRYABLE if kind.rule.money is Money.AMBIGUOUS]
NOT_BILLED = [kind for kind in RETRYABLE if kind.rule.money is not Money.AMBIGUOUS]
SLOWING = [kind for kind in RETRYABLE if kind.rule.slows and kind is not FailureKind.TOO_MANY_OPEN]


def failure(kind: FailureKind, *, retry_after_s: float | None = None) -> Failure:
    return Failure(kind, "it failed", retry_after_s=retry_after_s)


@pytest.mark.parametrize("kind", OF_ROW, ids=lambda kind: kind.label)
def test_what_is_the_rows_own_fault_is_never_sent_again(kind: FailureKind) -> None:
    assert POLICY.decide(failure(kind), attempt=1, ambiguous=0, roll=0.5) is None


@pytest.mark.parametrize("kind", OF_JOB, ids=lambda kind: kind.label)
def test_what_is_the_jobs_fault_and_did_not_end_it_is_tried_again(kind: FailureKind) -> None:
    assert POLICY.decide(failure(kind), attempt=1, ambiguous=0, roll=0.5) is not None
    assert POLICY.decide(failure(kind), attempt=6, ambiguous=0, roll=0.5) is None


@pytest.mark.parametrize("kind", NOT_BILLED, ids=lambda kind: kind.label)
def test_what_was_not_billed_is_tried_until_the_attempts_are_used_up(kind: FailureKind) -> None:
    decisions = [POLICY.decide(failure(kind), attempt=attempt, ambiguous=2, roll=0.5) for attempt in range(1, 8)]

    assert [wait_s is not None for wait_s in decisions] == [True] * 5 + [False] * 2


@pytest.mark.parametrize("kind", AMBIGUOUS, ids=lambda kind: kind.label)
def test_what_may_have_been_billed_is_tried_at_most_twice_more(kind: FailureKind) -> None:
    decisions = [POLICY.decide(failure(kind), attempt=count, ambiguous=count, roll=0.5) for count in range(1, 5)]

    assert [wait_s is not None for wait_s in decisions] == [True, True, False, False]


@pytest.mark.parametrize("attempts", [1, 2])
def test_fewer_attempts_bind_before_the_rule_of_ambiguous_ones(attempts: int) -> None:
    policy = RetryPolicy(max_attempts=attempts)

    assert policy.decide(failure(FailureKind.TIMED_OUT), attempt=attempts, ambiguous=1, roll=0.5) is None


@given(attempt=st.integers(1, 5000), roll=st.floats(0, 1, exclude_max=True))
def test_without_advice_the_wait_is_spread_over_a_doubling_range(attempt: int, roll: float) -> None:
    policy = RetryPolicy(max_attempts=10_000, first_s=1.0, longest_s=60.0)

    wait_s = policy.decide(failure(FailureKind.UNCONNECTED), attempt=attempt, ambiguous=0, roll=roll)

    assert wait_s == pytest.approx(roll * min(60.0, 2.0 ** min(attempt - 1, 30)))


@pytest.mark.parametrize(("roll", "wait_s"), [(0.0, 20.0), (0.5, 21.0), (0.999999, 22.0)])
def test_a_wait_the_server_asks_for_is_kept_and_spread_by_a_tenth(roll: float, wait_s: float) -> None:
    asked = failure(FailureKind.SERVER_ERROR, retry_after_s=20.0)

    assert POLICY.decide(asked, attempt=1, ambiguous=1, roll=roll) == pytest.approx(wait_s, abs=1e-4)


def test_being_told_to_wait_for_nothing_is_no_advice() -> None:
    told = failure(FailureKind.RATE_LIMITED, retry_after_s=0.0)

    assert POLICY.decide(told, attempt=3, ambiguous=0, roll=0.5) == 2.0


def test_a_row_that_finds_every_place_taken_waits_for_one_whatever_it_is_told() -> None:
    crowded = failure(FailureKind.TOO_MANY_OPEN, retry_after_s=60.0)

    assert POLICY.decide(crowded, attempt=3, ambiguous=0, roll=0.5) == 0.25


@pytest.mark.parametrize("kind", SLOWING, ids=lambda kind: kind.label)
def test_a_wait_asked_of_everybody_is_waited_at_the_gate_and_not_by_the_row(kind: FailureKind) -> None:
    asked = failure(kind, retry_after_s=30.0)

    wait_s = POLICY.decide(asked, attempt=1, ambiguous=0, roll=0.999)

    assert wait_s is not None
    assert wait_s <= 0.1
