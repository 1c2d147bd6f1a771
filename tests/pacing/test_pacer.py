"""What follows from what an endpoint answers: in flight, rates, pauses, and when it counts as down."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from batchcall.base.errors import ExitCode
from batchcall.base.records import Failure, FailureKind, Quota, RateLimits
from batchcall.pacing.pacer import Orders, Pacer


def failed(kind: FailureKind, *, retry_after_s: float | None = None, code: str | None = None) -> Failure:
    return Failure(kind, "HTTP 4xx: no", http_status=429, retry_after_s=retry_after_s, code=code)


def answer(pacer: Pacer, now_s: float, *, times: int = 1) -> None:
    for _ in range(times):
        pacer.sent(now_s - 1)
        pacer.answered(now_s - 1, now_s, in_flight=1, work=1.0)


def fail(pacer: Pacer, failure: Failure, now_s: float, *, row: int = 0, roll: float = 0.0) -> Orders:
    pacer.sent(now_s - 0.1)
    is_judged = failure.kind is not FailureKind.REJECTED
    pacer.failed(row, failure, sent_at_s=now_s - 0.1, now_s=now_s, roll=roll, is_judged=is_judged)
    return pacer.orders(now_s)


def test_row_one_goes_alone_then_eight_and_all_within_a_second_once_eight_are_answered() -> None:
    pacer, allowed = Pacer(concurrency=64), []

    for moment in range(9):
        allowed.append(pacer.orders(moment / 10).in_flight)
        answer(pacer, moment / 10)

    assert allowed == [1, *[8] * 8]
    assert [pacer.orders(0.8 + later_s)[2::2] for later_s in (0.0, 0.05, 0.1)] == [
        (16, pytest.approx(0.85)), (32, pytest.approx(0.9)), (64, None)]  # fmt: skip


def test_who_was_refused_once_goes_on_with_two_more_for_each_reply() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0)
    crowd(pacer, fit=8, of=9, kind=FailureKind.RATE_LIMITED)
    pacer.open_limit.forget()

    answer(pacer, 5.0)

    assert pacer.orders(5.0).in_flight == 12


def test_an_endpoint_that_takes_its_time_is_not_waited_for() -> None:
    slow, dead = Pacer(concurrency=20), Pacer(concurrency=20)
    for pacer in (slow, dead):
        pacer.sent(100.0)

    assert [slow.orders(at_s)[2::2] for at_s in (100, 109.9, 110, 120, 130, 140)] == [
        (1, 110), (1, 110), (2, 120), (4, 130), (8, None), (8, None)]  # fmt: skip
    slow.answered(100.0, 140.0, in_flight=8, work=1.0)
    assert [slow.orders(at_s)[2::2] for at_s in (140, 150, 160)] == [(8, 150), (16, 160), (20, None)]
    assert fail(dead, failed(FailureKind.TIMED_OUT), 160.0).in_flight == 1


def test_with_a_known_rate_the_ramp_ends_after_eight() -> None:
    pacer = Pacer(concurrency=64, requests_per_minute=60)
    answer(pacer, 1.0, times=9)

    assert pacer.orders(1.0).in_flight == 64


def test_a_filtered_first_row_ends_the_canary_and_a_rejected_one_does_not() -> None:
    filtered, rejected = Pacer(concurrency=64), Pacer(concurrency=64)

    assert fail(filtered, failed(FailureKind.FILTERED), 1.0).in_flight == 8
    assert fail(rejected, failed(FailureKind.REJECTED), 1.0).in_flight == 1


def test_limits_in_headers_count_unless_the_job_gives_its_own() -> None:
    told, own = Pacer(), Pacer(requests_per_minute=100, tokens_per_minute=1_000)
    for pacer in (told, own):
        pacer.saw_limits(RateLimits(600, 90_000), 1.0)

    assert told.orders(1.0)[:2] == (600, 90_000)
    assert own.orders(1.0)[:2] == (100, 1_000)


def test_a_retry_after_is_a_pause_for_everybody_and_up_to_a_tenth_longer() -> None:
    assert fail(Pacer(), failed(FailureKind.RATE_LIMITED, retry_after_s=20), 100.0).not_before_s == 120.0
    assert fail(Pacer(), failed(FailureKind.RATE_LIMITED, retry_after_s=20), 100.0, roll=0.5).not_before_s == 121.0


def test_one_overload_is_one_cut_however_many_answers_tell_of_it() -> None:
    pacer = Pacer(concurrency=64)
    for moment in range(100):
        pacer.sent(moment / 10)
        pacer.answered(moment / 10, moment / 10 + 0.05, in_flight=1, work=1.0)
    for _ in range(10):
        pacer.sent(10.0)
    for number in range(10):
        pacer.failed(number, failed(FailureKind.RATE_LIMITED), sent_at_s=10.0, now_s=10.1, roll=0.0)

    per_minute = pacer.orders(10.1).requests_per_minute

    assert per_minute is not None
    assert 500 <= per_minute <= 800  # about what was admitted, ten a second; ten cuts would leave next to nothing


def test_a_5xx_cuts_no_rate() -> None:
    pacer = Pacer(concurrency=64, requests_per_minute=600)
    answer(pacer, 1.0, times=20)

    for row in range(5):
        orders = fail(pacer, failed(FailureKind.SERVER_ERROR), 2.0, row=row)

    assert orders.requests_per_minute == 600
    assert not pacer.is_down


def test_ten_failures_of_more_than_one_row_open_the_breaker_and_one_answer_closes_it() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0, times=20)

    for row in range(10):
        orders = fail(pacer, failed(FailureKind.SERVER_ERROR), 2.0, row=row)
    assert pacer.is_down
    assert (orders.in_flight, orders.not_before_s) == (1, 4.0)

    pacer.sent(4.0)
    pacer.answered(4.0, 5.0, in_flight=1, work=1.0)
    assert not pacer.is_down
    assert pacer.orders(5.0).in_flight == 8


def test_failures_of_one_row_alone_do_not_make_an_outage() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0, times=20)

    for _ in range(30):
        fail(pacer, failed(FailureKind.SERVER_ERROR), 2.0, row=7)

    assert not pacer.is_down


def test_probes_come_ever_more_seldom_but_never_later_than_30_s() -> None:
    pacer, now_s, waits = Pacer(max_outage_s=3_600), 0.0, []

    for _ in range(7):
        orders = fail(pacer, failed(FailureKind.UNCONNECTED), now_s)
        waits.append(orders.not_before_s - now_s)
        now_s = orders.not_before_s + 0.2

    assert waits == pytest.approx([2, 4, 8, 16, 30, 30, 30])


@pytest.mark.parametrize(("worked", "most_s"), [(False, 30), (True, 1_800)])
def test_an_endpoint_that_never_worked_is_waited_for_less_long(worked: bool, most_s: float) -> None:
    pacer = Pacer()
    if worked:
        answer(pacer, 0.0)
    for row in range(10):
        fail(pacer, failed(FailureKind.UNCONNECTED), 1.0, row=row)

    assert pacer.verdict(most_s) is None
    assert pacer.verdict(1.0 + most_s) is not None


def crowd(
    pacer: Pacer, *, fit: int, of: int = 8, kind: FailureKind = FailureKind.TOO_MANY_OPEN, at_s: float = 2.0
) -> None:
    """So many are sent together, of which the first fit and the others are refused."""
    for _ in range(of):
        pacer.sent(at_s)
    for row in range(of - fit):
        pacer.failed(row, failed(kind, retry_after_s=None), sent_at_s=at_s, now_s=at_s + 0.1, roll=0.0)
    for _ in range(fit):
        pacer.answered(at_s, at_s + 1.0, in_flight=of, work=1.0)


@pytest.mark.parametrize("kind", [FailureKind.TOO_MANY_OPEN, FailureKind.RATE_LIMITED, FailureKind.OVERLOADED])
@pytest.mark.parametrize("concurrency", [None, 64])
def test_a_relay_that_counts_what_is_in_flight_narrows_the_window_and_not_the_rate(
    concurrency: int | None, kind: FailureKind
) -> None:
    pacer = Pacer(concurrency=concurrency)
    answer(pacer, 1.0)

    crowd(pacer, fit=3, kind=kind)

    assert (pacer.orders(3.0).in_flight, pacer.orders(3.0).requests_per_minute) == (3, None)
    answer(pacer, 4.0, times=9)
    assert pacer.bound_by == "open"


def test_the_number_that_an_endpoint_names_is_kept_from_then_on() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0, times=9)

    pacer.saw_limits(RateLimits(open_at_once=5), 2.0)

    assert pacer.orders(2.0).in_flight == 5


def test_one_more_is_tried_now_and_then_and_kept_where_it_fits() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0)
    crowd(pacer, fit=2)

    for second in range(10, 60):
        crowd(pacer, fit=pacer.orders(second).in_flight, of=pacer.orders(second).in_flight, at_s=second)

    assert pacer.orders(60.0).in_flight > 4


def test_a_suspicion_that_was_wrong_is_dropped_and_the_rate_is_learnt() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0)
    crowd(pacer, fit=4, kind=FailureKind.RATE_LIMITED)
    assert pacer.orders(3.0).in_flight == 4

    for second in range(10, 14):
        crowd(pacer, fit=4, of=4, at_s=second)
        crowd(pacer, fit=0, of=1, kind=FailureKind.RATE_LIMITED, at_s=second + 0.5)

    assert pacer.orders(14.0).requests_per_minute is not None
    assert pacer.open_limit.most is None


def test_refused_alone_it_is_for_the_breaker_to_judge() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0)

    for row in range(12):
        fail(pacer, failed(FailureKind.TOO_MANY_OPEN), 10.0 + row, row=row)

    assert pacer.is_down


@pytest.mark.parametrize(("again", "is_over"), [(120.0, True), (110.0, False)])
def test_a_quota_that_a_short_pause_does_not_refill_ends_the_run(again: float, is_over: bool) -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0, times=9)
    spent = replace(failed(FailureKind.RATE_LIMITED, retry_after_s=12), quota=Quota(5_000.0, is_stated=False))

    for row in range(3):  # that were in flight
        orders = fail(pacer, spent, 100.0, row=row)
    assert (orders.in_flight, orders.not_before_s, pacer.verdict(100.0)) == (1, 112.0, None)
    assert pacer.is_down  # it takes none of a row's tries
    fail(pacer, spent, again)

    verdict = pacer.verdict(again)
    assert (verdict is not None) is is_over
    if verdict is not None:
        assert (verdict.exit_code, verdict.quota) == (ExitCode.STOPPED_EARLY, spent.quota)


def test_what_was_in_flight_when_a_quota_was_used_up_prolongs_no_pause() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0, times=9)
    spent = replace(failed(FailureKind.RATE_LIMITED, retry_after_s=12), quota=Quota(5_000.0))
    fail(pacer, spent, 100.0)
    fail(pacer, spent, 110.0)

    fail(pacer, spent, 113.0)

    assert pacer.verdict(113.0) is not None


def test_a_refusal_from_before_the_last_overload_makes_room_for_none() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0, times=20)
    refusal = failed(FailureKind.RATE_LIMITED)
    pacer.open_limit._suspicions = 0  # it is the rate
    for _ in range(4):
        pacer.sent(9.0)
    pacer.failed(0, refusal, sent_at_s=9.0, now_s=10.0, roll=0.0)
    pacer.sent(10.5)
    pacer.failed(1, refusal, sent_at_s=10.5, now_s=10.6, roll=0.0)
    assert pacer.orders(11.0).in_flight == 4  # one beside the three that are on their way
    pacer.sent(11.0)

    pacer.failed(2, refusal, sent_at_s=9.0, now_s=11.1, roll=0.0)

    assert pacer.orders(11.1).in_flight == 3


def test_a_used_up_quota_without_a_pause_is_tried_once_more() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0, times=9)
    spent = replace(failed(FailureKind.RATE_LIMITED), quota=Quota(5_000.0))
    fail(pacer, spent, 100.0)

    fail(pacer, spent, 100.05)  # was in flight
    assert pacer.verdict(100.05) is None
    fail(pacer, spent, 100.2)
    assert pacer.verdict(100.2) is not None


def test_a_quota_that_a_short_pause_refills_is_no_reason_to_stop() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0, times=9)
    spent = replace(failed(FailureKind.RATE_LIMITED, retry_after_s=12), quota=Quota(5_000.0))

    for second in range(100, 400, 50):
        fail(pacer, spent, second)
        answer(pacer, second + 14.0)
        assert pacer.verdict(second + 14.0) is None

    assert pacer.orders(400.0).in_flight > 8


def test_what_the_server_tells_of_its_queue_decides_the_window() -> None:
    pacer = Pacer()
    answer(pacer, 1.0, times=9)

    pacer.saw_queue(running=30, waiting=60, now_s=2.0)
    assert pacer.orders(2.0).in_flight == 35
    pacer.saw_queue(running=35, waiting=0, now_s=4.0)
    assert pacer.orders(4.0).in_flight == 70


def refused_twice(pacer: Pacer) -> None:
    """Two in a row at 10.1 s and 10.3 s, with four others on their way since 10.0 s."""
    answer(pacer, 1.0, times=300)  # late enough for a refusal to be one for the rate
    for _ in range(5):
        pacer.sent(10.0)
    pacer.failed(0, failed(FailureKind.RATE_LIMITED), sent_at_s=10.0, now_s=10.1, roll=0.0)
    pacer.sent(10.2)
    pacer.failed(1, failed(FailureKind.RATE_LIMITED), sent_at_s=10.2, now_s=10.3, roll=0.0)


def test_refused_again_and_again_one_at_a_time_tries_beside_those_that_are_on_their_way() -> None:
    pacer, allowed = Pacer(concurrency=64), []
    refused_twice(pacer)
    assert pacer.is_down

    allowed.append(pacer.orders(10.3).in_flight)
    for row in range(3):
        pacer.failed(row, failed(FailureKind.UNREADABLE), sent_at_s=10.0, now_s=10.4, roll=0.0)
        allowed.append(pacer.orders(10.4).in_flight)
    pacer.sent(10.9)
    pacer.failed(9, failed(FailureKind.UNREADABLE), sent_at_s=10.9, now_s=11.0, roll=0.0)
    allowed.append(pacer.orders(11.0).in_flight)

    assert allowed == [5, 4, 3, 2, 2]


@pytest.mark.parametrize(("retry_after_s", "until_s"), [(None, 10.8), (7.0, 17.3)])
def test_a_second_refusal_pauses_twice_as_long_as_the_first_or_as_the_server_says(
    retry_after_s: float | None, until_s: float
) -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0, times=300)
    fail(pacer, failed(FailureKind.RATE_LIMITED), 10.0)
    assert pacer.orders(10.0).not_before_s == 10.25

    fail(pacer, failed(FailureKind.RATE_LIMITED, retry_after_s=retry_after_s), 10.3)

    assert pacer.orders(10.3).not_before_s == pytest.approx(until_s)


def test_a_process_without_descriptors_keeps_as_many_in_flight_as_it_has_and_stops_when_it_has_none() -> None:
    pacer = Pacer()
    answer(pacer, 1.0, times=9)
    for _ in range(5):
        pacer.sent(2.0)

    pacer.failed(0, failed(FailureKind.NO_DESCRIPTORS), sent_at_s=2.0, now_s=2.1, roll=0.0)
    assert (pacer.most_in_flight, pacer.orders(2.1).in_flight) == (4, 4)
    for _ in range(4):
        pacer.answered(2.0, 3.0, in_flight=4, work=1.0)

    for _ in range(5):
        assert pacer.verdict(4.0) is None
        fail(pacer, failed(FailureKind.NO_DESCRIPTORS), 4.0)
    assert pacer.most_in_flight == 1
    verdict = pacer.verdict(4.0)
    assert verdict is not None
    assert "no file descriptor left" in verdict.reason
    answer(pacer, 5.0)
    assert pacer.verdict(5.0) is None


@pytest.mark.parametrize(
    ("share", "per_minute"),
    [(0.0, 1_100.0), (0.5, 1_100.0), (0.88, 1_030.0), (0.98, 1_000.0), (1.5, 844.0), (2.5, 700.0)],
)
def test_what_came_in_the_last_minute_steers_how_many_tokens_are_let_in(share: float, per_minute: float) -> None:
    pacer = Pacer(tokens_per_minute=1_000)
    assert pacer.orders(10.0).tokens_per_minute == 1_000

    pacer.used(round(share * 1_000), 10.0)

    assert pacer.orders(10.0).tokens_per_minute == pytest.approx(per_minute)
    assert (pacer.orders(10.0).not_before_s > 10.0) is (share > 0.995)


def test_tokens_are_not_counted_where_nothing_limits_them() -> None:
    pacer = Pacer()

    pacer.used(500, 1.0)
    pacer.saw_limits(RateLimits(tokens_per_minute=1_000), 2.0)

    assert pacer.orders(2.0).tokens_per_minute == 1_000


def test_headers_are_worth_reading_once_a_second() -> None:
    pacer = Pacer()
    assert pacer.wants_limits(0.0)

    pacer.saw_limits(RateLimits(), 5.0)

    assert [pacer.wants_limits(at_s) for at_s in (5.0, 5.9, 6.0)] == [False, False, True]


def test_what_binds_is_the_ramp_then_what_the_endpoint_takes_then_the_job() -> None:
    pacer, small = Pacer(concurrency=64), Pacer(concurrency=8)
    answer(pacer, 1.0, times=8)

    assert (pacer.bound_by, pacer.is_ramping, small.bound_by) == ("ramp", True, "concurrency")
    answer(pacer, 1.0)
    assert (pacer.bound_by, pacer.is_ramping) == ("concurrency", False)
    pacer.saw_limits(RateLimits(open_at_once=64), 2.0)
    assert pacer.bound_by == "concurrency"
    pacer.saw_limits(RateLimits(open_at_once=63), 2.0)
    assert pacer.bound_by == "open"


def test_only_the_window_bounds_what_is_sent_until_a_limit_is_known() -> None:
    assert not Pacer(concurrency=64).needs_window
    assert not Pacer(requests_per_minute=60).needs_window
    pacer = Pacer()
    assert pacer.needs_window
    answer(pacer, 9.5, times=300)
    assert pacer.orders(9.5).in_flight < 512

    fail(pacer, failed(FailureKind.RATE_LIMITED), 10.0)
    answer(pacer, 11.0)

    assert not pacer.needs_window
    assert pacer.orders(12.0).in_flight == 512


def test_time_outs_narrow_the_window_and_the_ramp_of_auto_is_eight() -> None:
    pacer = Pacer()
    answer(pacer, 1.0, times=2)
    assert pacer.orders(1.0)[2::2] == (8, None)
    answer(pacer, 1.0, times=7)

    fail(pacer, failed(FailureKind.SERVER_ERROR), 2.0)
    assert pacer.orders(2.0).in_flight == 8
    fail(pacer, failed(FailureKind.TIMED_OUT), 2.0)
    assert pacer.orders(2.0).in_flight == 5


def test_an_outage_shorter_than_the_next_probe_is_asked_about_at_its_end() -> None:
    pacer = Pacer(max_outage_s=3.0)

    orders = fail(pacer, failed(FailureKind.UNCONNECTED, retry_after_s=60.0), 10.0)

    assert orders.not_before_s == 13.0
    assert pacer.verdict(12.9) is None
    verdict = pacer.verdict(13.0)
    assert verdict is not None
    assert verdict.reason == "the endpoint has been down for 3 s (HTTP 4xx: no)"


@pytest.mark.parametrize(("most_s", "words"), [(119.0, "119 s"), (120.0, "2 min"), (600.0, "10 min")])
def test_how_long_an_outage_lasted_is_said_in_seconds_or_minutes(most_s: float, words: str) -> None:
    pacer = Pacer(max_outage_s=most_s)
    fail(pacer, failed(FailureKind.UNCONNECTED), 10.0)

    verdict = pacer.verdict(10.0 + most_s)

    assert verdict is not None
    assert f"down for {words} (" in verdict.reason


def test_a_place_that_is_missing_pauses_all_for_a_moment_unless_the_limit_is_named() -> None:
    named, suspected = Pacer(concurrency=64), Pacer(concurrency=64)
    for pacer, kind in ((named, FailureKind.TOO_MANY_OPEN), (suspected, FailureKind.RATE_LIMITED)):
        answer(pacer, 1.0)
        crowd(pacer, fit=3, kind=kind)
        assert pacer.is_beyond_open

    assert named.orders(3.0).not_before_s == 0.0
    assert suspected.orders(3.0).not_before_s == pytest.approx(2.1 + 0.25)
    fail(named, failed(FailureKind.FILTERED), 9.0)
    assert not named.is_beyond_open


@pytest.mark.parametrize(
    ("retry_after_s", "roll", "until_s"), [(None, 0.0, 11.0), (None, 0.5, 11.05), (4.0, 0.5, 14.2)]
)
def test_an_overload_pauses_for_a_second_or_as_the_server_says_and_up_to_a_tenth_longer(
    retry_after_s: float | None, roll: float, until_s: float
) -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0, times=20)
    pacer.open_limit.forget()

    orders = fail(pacer, failed(FailureKind.OVERLOADED, retry_after_s=retry_after_s), 10.0, roll=roll)

    assert orders.not_before_s == pytest.approx(until_s)


def test_the_ramp_counts_from_the_first_reply() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0)
    answer(pacer, 5.0)

    assert [pacer.orders(at_s)[2::2] for at_s in (10.9, 11.0)] == [(8, 11.0), (16, 21.0)]


def test_after_an_outage_eight_replies_are_waited_for_again() -> None:
    pacer = Pacer(concurrency=64)
    answer(pacer, 1.0, times=20)
    for row in range(10):
        fail(pacer, failed(FailureKind.SERVER_ERROR), 2.0, row=row)

    allowed = []
    for _ in range(9):
        answer(pacer, 10.0)
        allowed.append(pacer.orders(10.0).in_flight)

    assert allowed == [8] * 8 + [16]


@pytest.mark.parametrize("concurrency", [1, 9, 32, None])
@pytest.mark.parametrize("seed", range(25))
def test_orders_that_stand_are_those_that_would_be_found_again(concurrency: int | None, seed: int) -> None:
    dice, now_s, open_at_s = random.Random(seed), 100.0, list[float]()
    pacer, control = (Pacer(concurrency=concurrency, most_auto=8) for _ in range(2))
    failures, stood = list(FailureKind), 0

    for number in range(400):
        now_s += dice.choice([0.0, 0.01, 0.01, 0.3, 2.0])
        share = seed / 500 if number % 100 < 80 else seed / 30
        control._standing = None
        stood += pacer._standing is not None
        assert pacer.orders(now_s) == control.orders(now_s)
        roll, kind, chance = dice.random(), dice.choice(failures), dice.random()
        for one in (pacer, control):
            one.sent(now_s)
        open_at_s.append(now_s)
        if chance < 0.02:
            limits = RateLimits(*dice.choices([None, None, 600.0], k=2), dice.choice([None, None, 7]))
            for one in (pacer, control):
                one.saw_limits(limits, now_s)
        if chance < 0.9:
            sent_at_s = open_at_s.pop(dice.randrange(len(open_at_s)))
            is_failed = roll < share
            failure, work = Failure(kind, "no", retry_after_s=dice.choice([None, 0.5])), 100 * dice.random()
            for one in (pacer, control):
                if is_failed:
                    one.failed(seed, failure, sent_at_s=sent_at_s, now_s=now_s, roll=roll)
                else:
                    one.answered(sent_at_s, now_s, in_flight=8, work=work)
                    one.used(20 * number, now_s)

    assert stood or seed or concurrency is None  # without failures they do
