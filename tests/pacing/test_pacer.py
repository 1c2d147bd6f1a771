"""What follows from what an endpoint answers: in flight, rates, pauses, and when it counts as down."""

from __future__ import annotations

import pytest

from batchcall.pacing.deaths import Deaths
from batchcall.pacing.pacer import Orders, Pacer
from batchcall.pacing.queue import read_queue
from batchcall.records import Failure, FailureKind, RateLimits


def failed(kind: FailureKind, *, retry_after_s: float | None = None, code: str | None = None) -> Failure:
    return Failure(kind, "HTTP 4xx: no", http_status=429, retry_after_s=retry_after_s, code=code)


def answer(pacer: Pacer, now_s: float, *, times: int = 1) -> None:
    for _ in range(times):
        pacer.sent(now_s - 1)
        pacer.answered(now_s - 1, now_s, in_flight=1)


def fail(pacer: Pacer, failure: Failure, now_s: float, *, row: int = 0, roll: float = 0.0) -> Orders:
    pacer.sent(now_s - 0.1)
    is_judged = failure.kind is not FailureKind.REJECTED
    pacer.failed(row, failure, sent_at_s=now_s - 0.1, now_s=now_s, roll=roll, is_judged=is_judged)
    return pacer.orders(now_s)


def test_row_one_goes_alone_then_eight_and_each_reply_then_makes_room_for_two_more() -> None:
    pacer, allowed = Pacer(concurrency=64), []

    for moment in range(14):
        allowed.append(pacer.orders(moment).in_flight)
        answer(pacer, moment)

    assert allowed == [1, *[8] * 8, 10, 12, 14, 16, 18]


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
        pacer.told_limits(RateLimits(600, 90_000), 1.0)

    assert told.orders(1.0)[:2] == (600, 90_000)
    assert own.orders(1.0)[:2] == (100, 1_000)


def test_a_retry_after_is_a_pause_for_everybody_and_up_to_a_tenth_longer() -> None:
    assert fail(Pacer(), failed(FailureKind.RATE_LIMITED, retry_after_s=20), 100.0).not_before_s == 120.0
    assert fail(Pacer(), failed(FailureKind.RATE_LIMITED, retry_after_s=20), 100.0, roll=0.5).not_before_s == 121.0


def test_one_overload_is_one_cut_however_many_answers_tell_of_it() -> None:
    pacer = Pacer(concurrency=64)
    for moment in range(100):
        answer(pacer, moment / 10)
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
    pacer.answered(4.0, 5.0, in_flight=1)
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


def test_a_relay_that_counts_what_is_in_flight_narrows_the_window_and_not_the_rate() -> None:
    pacer = Pacer()
    answer(pacer, 1.0, times=9)
    before = pacer.orders(1.0)

    after = fail(pacer, failed(FailureKind.RATE_LIMITED, code="token_concurrency_limit_reached"), 2.0)

    assert after.in_flight < before.in_flight
    assert after.requests_per_minute is None


def test_what_the_server_tells_of_its_queue_decides_the_window() -> None:
    pacer = Pacer()
    answer(pacer, 1.0, times=9)

    pacer.told_queue(running=30, waiting=60, now_s=2.0)
    assert pacer.orders(2.0).in_flight == 35
    pacer.told_queue(running=35, waiting=0, now_s=4.0)
    assert pacer.orders(4.0).in_flight == 70


@pytest.mark.parametrize(
    ("text", "queue"),
    [
        (
            'vllm:num_requests_running{model_name="m",engine="0"} 12.0\nvllm:num_requests_waiting{engine="0"} 3\n',
            (12, 3),
        ),
        ("sglang:num_running_reqs 4\nsglang:num_queue_reqs 0 1700000000000", (4, 0)),
        ("llamacpp:requests_processing 1\nllamacpp:requests_deferred 7", (1, 7)),
        ('vllm:num_requests_running{e="0"} 1\nvllm:num_requests_running{e="1"} 2\nvllm:num_requests_waiting 0', (3, 0)),
        ("vllm:num_requests_running NaN\nvllm:num_requests_waiting 0", None),
        ("# HELP python_info\npython_info 1", None),
        ("<html>", None),
        ("vllm:num_requests_running\nvllm:num_requests_waiting x", None),
    ],
)
def test_the_queue_is_read_from_the_metrics_of_three_servers(text: str, queue: tuple[float, float] | None) -> None:
    assert read_queue(text) == queue


def test_reads_that_all_die_at_the_same_second_are_told_and_others_are_not() -> None:
    proxy, chance = Deaths(), Deaths()
    for number in range(8):
        proxy.saw(failed(FailureKind.DISCONNECTED), 60.0 + number / 20)
        chance.saw(failed(FailureKind.DISCONNECTED), 7.0 * number)
        chance.saw(failed(FailureKind.TIMED_OUT), 30.0)  # that is our own limits.timeout

    assert proxy.same_second == (8, 60)
    assert chance.same_second is None
