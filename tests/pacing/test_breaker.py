"""When an endpoint counts as down, who tries whether it still is, and when."""

from __future__ import annotations

import pytest

from batchcall.base.records import Failure, FailureKind
from batchcall.pacing.breaker import Breaker, is_of_endpoint


def failure(kind: FailureKind = FailureKind.SERVER_ERROR, *, retry_after_s: float | None = None) -> Failure:
    return Failure(kind, "HTTP 500", retry_after_s=retry_after_s)


def worked() -> Breaker:
    breaker = Breaker()
    breaker.answered(1.0)
    return breaker


def test_an_endpoint_that_never_worked_is_down_at_its_first_failure() -> None:
    breaker = Breaker()

    breaker.failed(0, failure(), 1.0, 2.0)

    assert (breaker.is_open, breaker.has_worked) == (True, False)
    assert (breaker.failing_since_s, breaker.next_probe_s) == (2.0, 4.0)


@pytest.mark.parametrize(
    ("kind", "rows", "needed"),
    [
        (FailureKind.UNCONNECTED, 1, 3),  # never the row's fault
        (FailureKind.SERVER_ERROR, 2, 10),
        (FailureKind.SERVER_ERROR, 10, 10),
        (FailureKind.SERVER_ERROR, 1, 100),  # one row's own fault, until the retries are used up
    ],
)
def test_how_many_failures_in_a_row_make_an_outage(kind: FailureKind, rows: int, needed: int) -> None:
    breaker, number = worked(), 0

    while not breaker.is_open:
        number += 1
        breaker.failed(number % rows, failure(kind), 2.0, 3.0 + number)

    assert number == needed
    assert breaker.failing_since_s == 4.0  # the first of them


def test_an_answer_restarts_the_count() -> None:
    breaker = worked()

    for row in range(9):
        breaker.failed(row, failure(), 2.0, 3.0)
    breaker.answered(4.0)
    for row in range(9):
        breaker.failed(row, failure(), 5.0, 6.0)

    assert not breaker.is_open
    assert (breaker.failing_since_s, breaker.last_good_s) == (6.0, 4.0)
    breaker.answered(2.5)
    assert breaker.last_good_s == 4.0


def test_a_hundred_retries_are_free_and_each_ten_answers_allow_one_more() -> None:
    breaker, failed = worked(), 0

    while not breaker.is_open:
        for _ in range(5):
            breaker.answered(1.0)
        breaker.failed(0, failure(), 2.0, 3.0)
        failed += 1

    assert failed == 199  # each costs one, and five answers bring half of one, up to the hundred
    breaker.answered(4.0)
    for _ in range(20):
        assert not breaker.is_open
        breaker.failed(0, failure(), 5.0, 6.0)
    assert not breaker.is_open  # after an outage twenty are free, and a tenth
    breaker.failed(0, failure(), 5.0, 6.0)
    assert breaker.is_open


def test_an_outage_of_many_in_a_row_leaves_the_free_retries_as_they_were() -> None:
    breaker = worked()
    for row in range(10):
        breaker.failed(row, failure(), 2.0, 3.0)
    assert breaker.is_open
    breaker.answered(9.0)

    failures = 0
    while not breaker.is_open:
        failures += 1
        breaker.failed(failures, failure(), 10.0, 11.0)
        if not breaker.is_open:
            breaker.answered(12.0)

    assert failures == 100  # 90 are left, and each answer allows a tenth more


def test_after_an_outage_is_over_the_waits_of_the_next_begin_short() -> None:
    breaker = worked()
    for outage_s in (100.0, 200.0):
        for row in range(10):
            breaker.failed(row, failure(), outage_s, outage_s + 1)
        waits = []
        for _ in range(3):
            probe_s = breaker.next_probe_s
            breaker.failed(0, failure(), probe_s, probe_s)
            waits.append(breaker.next_probe_s - probe_s)
        assert waits == [4.0, 8.0, 16.0]
        breaker.answered(breaker.next_probe_s)
        assert not breaker.is_open


def test_probes_come_ever_more_seldom_and_requests_from_before_the_outage_are_none() -> None:
    breaker, waits = Breaker(), []
    breaker.failed(0, failure(), 1.0, 10.0)

    breaker.failed(1, failure(), 9.9, 11.0)
    assert breaker.next_probe_s == 12.0
    for _ in range(5):
        now_s = breaker.next_probe_s
        breaker.failed(1, failure(), now_s, now_s)
        waits.append(breaker.next_probe_s - now_s)

    assert waits == [4.0, 8.0, 16.0, 30.0, 30.0]
    breaker.failed(1, failure(retry_after_s=90.0), 10.0, 200.0)  # the server knows better
    assert breaker.next_probe_s == 290.0
    assert breaker.last_failure == failure(retry_after_s=90.0)


def test_a_server_that_says_how_long_is_waited_for_from_the_start() -> None:
    breaker = Breaker()

    breaker.failed(0, failure(retry_after_s=20.0), 1.0, 2.0)

    assert breaker.next_probe_s == 22.0


def test_only_an_answer_to_what_was_sent_since_ends_an_outage_and_the_next_waits_are_short_again() -> None:
    breaker = worked()
    for number in range(3):
        breaker.failed(number, failure(FailureKind.UNCONNECTED), 9.0, 10.0)
    breaker.failed(0, failure(), 12.0, 12.0)

    breaker.answered(9.9)
    assert breaker.is_open
    breaker.answered(10.0)
    assert not breaker.is_open
    assert breaker.failing_since_s is None
    for number in range(3):
        breaker.failed(number, failure(FailureKind.UNCONNECTED), 20.0, 20.0)
    assert breaker.next_probe_s == 22.0


def test_the_answer_to_a_request_from_before_is_news_where_nothing_had_ever_worked() -> None:
    breaker = Breaker()
    breaker.failed(0, failure(), 1.0, 2.0)

    breaker.answered(1.5)

    assert not breaker.is_open


def test_after_a_row_that_was_given_up_one_more_row_is_enough() -> None:
    breaker = worked()
    breaker.failed(0, failure(), 2.0, 3.0)
    breaker.gave_up()

    breaker.failed(1, failure(), 2.0, 4.0)

    assert breaker.is_open


@pytest.mark.parametrize("kind", [FailureKind.RATE_LIMITED, FailureKind.UNREADABLE, FailureKind.NO_DESCRIPTORS])
def test_what_shows_an_endpoint_at_work_or_is_our_own_fault_makes_no_outage(kind: FailureKind) -> None:
    assert not is_of_endpoint(failure(kind))
    assert is_of_endpoint(failure())
