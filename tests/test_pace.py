"""As fast as the account allows, and no 429s: 5,000 rows and 100 workers against hidden limits, in virtual time.

Each promise has a control beside it: the same server asked without the mechanism breaks it.
"""

from __future__ import annotations

import asyncio
import math
import random

import pytest

from batchcall.base.records import Status
from batchcall.pacing.open_limit import OpenLimit
from batchcall.pacing.pacer import Pacer
from batchcall.pacing.random_refusals import RandomRefusals
from pace_model import (
    LIMITS,
    PER_MINUTE,
    PROMPT_TOKENS,
    ROWS,
    WORKERS,
    HiddenServer,
    Refill,
    RollingWindow,
    SecondQuanta,
    as_sdks_do,
    crowd,
    paced,
    with_a_fixed_window,
)

EVERY_LIMIT = pytest.mark.parametrize("limit", LIMITS)
TOLD = {
    "openai": {"x-ratelimit-limit-requests": "600", "x-ratelimit-reset-requests": "100ms"},
    "anthropic": {
        "anthropic-ratelimit-requests-limit": "600",
        "anthropic-ratelimit-requests-reset": "1970-01-01T00:16:40Z",
    },
    "relayed": {"llm_provider-x-ratelimit-limit-requests": "600"},
}


@EVERY_LIMIT
def test_with_limits_given_98_percent_of_the_rate_are_used_and_nothing_is_refused(limit: str) -> None:
    course = paced(HiddenServer(LIMITS[limit](PER_MINUTE)), Pacer(concurrency=WORKERS, requests_per_minute=PER_MINUTE))

    assert course.statuses == {Status.OK: ROWS}
    assert course.server.statuses[429] == 0
    assert course.sent_per_minute >= 0.98 * PER_MINUTE


@pytest.mark.parametrize(
    ("limit", "family"),
    [("rolling window", "openai"), ("refill", "anthropic"), ("quanta of a second", "relayed")],
)
def test_with_limits_in_headers_96_percent_of_the_rate_are_used_and_nothing_is_refused(limit: str, family: str) -> None:
    course = paced(HiddenServer(LIMITS[limit](PER_MINUTE), headers=TOLD[family]), Pacer(concurrency=WORKERS))

    assert course.statuses == {Status.OK: ROWS}
    assert course.server.statuses[429] == 0
    assert course.sent_per_minute >= 0.96 * PER_MINUTE


@EVERY_LIMIT
def test_without_any_word_95_percent_of_the_rate_are_used_and_2_of_100_requests_refused_at_most(limit: str) -> None:
    course = paced(HiddenServer(LIMITS[limit](PER_MINUTE)), Pacer(concurrency=WORKERS))

    assert course.statuses == {Status.OK: ROWS}
    assert course.refused_per_row <= 0.02
    assert course.sent_per_minute >= 0.95 * PER_MINUTE
    assert course.server.statuses[429] > 0  # the control of the two tests above: only words keep it at none


@EVERY_LIMIT
def test_a_limit_that_drops_to_a_fifth_midway_refuses_5_of_100_requests_at_most(limit: str) -> None:
    server = HiddenServer(LIMITS[limit](PER_MINUTE), change=(250.0, PER_MINUTE / 5))

    course = paced(server, Pacer(concurrency=WORKERS))

    assert course.statuses == {Status.OK: ROWS}
    assert course.refused_per_row <= 0.05
    ideal_s = 250 + (ROWS - 250 * PER_MINUTE / 60) / (PER_MINUTE / 5 / 60)
    assert course.seconds <= 1.1 * ideal_s


def mean_latency_s() -> float:
    return math.exp(0.5**2 / 2)  # of the lognormal distribution that HiddenServer draws from


@pytest.mark.parametrize(("share", "says_when"), [(0.005, False), (0.02, True), (0.1, False), (0.2, True)])
def test_refusals_by_chance_do_not_bring_the_job_to_a_standstill(share: float, says_when: bool) -> None:
    course = paced(HiddenServer(by_chance=share, says_when=says_when), Pacer(concurrency=WORKERS), attempts=9)

    assert course.statuses == {Status.OK: ROWS}
    assert course.refused_per_row <= 1.3 * share
    assert course.seconds <= 5 * ROWS * mean_latency_s() / WORKERS


def test_control_whoever_takes_refusals_by_chance_for_the_rate_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomRefusals, "excuses", lambda self, sent_at_s: False)
    monkeypatch.setattr(RandomRefusals, "overload", lambda self, known_per_s, now_s, counts_minutes: None)

    course = paced(HiddenServer(by_chance=0.1), Pacer(concurrency=WORKERS), rows=1_000, attempts=9)

    assert course.sent_per_minute < 0.02 * 60 * WORKERS


@EVERY_LIMIT
def test_refusals_by_chance_do_not_hide_a_limit(limit: str) -> None:
    course = paced(HiddenServer(LIMITS[limit](PER_MINUTE), by_chance=0.05), Pacer(concurrency=WORKERS), attempts=9)

    assert course.statuses == {Status.OK: ROWS}
    assert course.refused_per_row <= 0.05 + 0.15
    assert course.sent_per_minute >= 0.85 * PER_MINUTE


@pytest.mark.parametrize("way", [as_sdks_do, with_a_fixed_window])
@EVERY_LIMIT
def test_control_the_retry_loop_of_clients_is_refused_more_than_once_a_row(limit: str, way) -> None:  # type: ignore[no-untyped-def]
    course = crowd(HiddenServer(LIMITS[limit](PER_MINUTE)), way, rows=1_500)

    assert course.refused_per_row > 0.5


def test_ten_minutes_of_503_cost_150_calls_at_most_no_row_and_5_percent_of_the_time() -> None:
    server = HiddenServer(RollingWindow(PER_MINUTE), outage=(100.0, 700.0))

    course = paced(server, Pacer(concurrency=WORKERS, requests_per_minute=PER_MINUTE))

    assert course.statuses == {Status.OK: ROWS}
    assert server.statuses[503] <= 150
    assert course.seconds <= 1.05 * (600 + ROWS / PER_MINUTE * 60)


def test_control_without_a_breaker_ten_minutes_of_503_cost_thousands_of_calls() -> None:
    course = crowd(HiddenServer(RollingWindow(PER_MINUTE), outage=(0.0, 600.0)), as_sdks_do, rows=500)

    assert course.server.statuses[503] > 5_000


def heavy_tailed(dice: random.Random) -> int:
    """The median answer has 200 tokens, one in a hundred more than 2,000."""
    return min(8_000, int(200 * dice.lognormvariate(0.0, 1.0)))


def half_a_second(dice: random.Random, in_flight: int) -> float:
    return 0.5


TOKENS_PER_MINUTE = 120_000


@pytest.mark.parametrize("limit", ["rolling window", "refill"])
@pytest.mark.parametrize("told", ["given", "in headers"])
def test_a_job_bound_by_tokens_uses_95_percent_of_them_and_1_of_100_requests_is_refused_at_most(
    limit: str, told: str
) -> None:
    headers = {"x-ratelimit-limit-tokens": str(TOKENS_PER_MINUTE)} if told == "in headers" else {}
    server = HiddenServer(
        tokens=LIMITS[limit](TOKENS_PER_MINUTE),
        headers=headers,
        answer_tokens=heavy_tailed,
        latency_s=half_a_second,
        token_s=0.005,
    )
    given = None if headers else TOKENS_PER_MINUTE

    course = paced(server, Pacer(concurrency=WORKERS, tokens_per_minute=given))

    assert course.statuses == {Status.OK: ROWS}
    assert course.refused_per_row <= 0.01
    assert server.tokens_used / (server.sent_at_s[-1] / 60) >= 0.95 * TOKENS_PER_MINUTE


def test_control_without_settling_reservations_half_of_the_tokens_lie_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchcall.engine.gate.Admission.settle", lambda admission, tokens: None)
    server = HiddenServer(
        tokens=Refill(TOKENS_PER_MINUTE), answer_tokens=heavy_tailed, latency_s=half_a_second, token_s=0.005
    )

    paced(server, Pacer(concurrency=WORKERS, tokens_per_minute=TOKENS_PER_MINUTE), rows=1_500)

    assert server.tokens_used / (server.sent_at_s[-1] / 60) < 0.6 * TOKENS_PER_MINUTE


def test_a_request_above_the_minutes_budget_completes() -> None:
    sizes = iter([40, 90_000, 40, 40])
    server = HiddenServer(tokens=Refill(10_000), answer_tokens=lambda dice: next(sizes))

    course = paced(server, Pacer(concurrency=WORKERS, tokens_per_minute=10_000), rows=4)

    assert course.statuses == {Status.OK: 4}
    assert server.sent_at_s[-1] >= 8 * 60  # what it took beyond the budget is owed by those after it


def thrashing(peak: int):  # type: ignore[no-untyped-def]
    """A server that works on so many at once, and on fewer a second when there are more."""

    def latency_s(dice: random.Random, in_flight: int) -> float:
        return dice.lognormvariate(0.0, 0.3) * (1.0 if in_flight <= peak else (in_flight / peak) ** 1.5)

    return latency_s


def rows_per_s_after(course, moment_s: float) -> float:  # type: ignore[no-untyped-def]
    sent_at_s = course.server.sent_at_s
    return float(sum(at_s >= moment_s for at_s in sent_at_s) / (sent_at_s[-1] - moment_s))


@pytest.mark.parametrize("peak", [30, 48, 100])
def test_concurrency_auto_finds_the_window_within_30_s_and_10_percent_of_the_best_fixed_one(peak: int) -> None:
    pacer = Pacer()

    auto = paced(HiddenServer(latency_s=thrashing(peak)), pacer, rows=60 * peak)

    fixed = {
        window: paced(HiddenServer(latency_s=thrashing(peak)), Pacer(concurrency=window), rows=40 * peak)
        for window in (int(0.8 * peak), peak, int(1.25 * peak))
    }
    best = max(rows_per_s_after(course, 15) for course in fixed.values())
    assert rows_per_s_after(auto, 30) >= 0.9 * best
    assert 0.8 * peak <= [size for at_s, size in auto.windows if at_s <= 30][-1] <= 1.3 * peak
    assert pacer.window is not None
    assert pacer.window.is_found


@pytest.mark.parametrize("window", [8, 512])
def test_control_a_window_that_is_not_found_misses_the_best_by_far(window: int) -> None:
    course = paced(HiddenServer(latency_s=thrashing(48)), Pacer(concurrency=window), rows=2_500)

    assert rows_per_s_after(course, 30) < 0.7 * 48


REFUSES = pytest.mark.parametrize(
    ("names_open", "open_status"), [(True, 429), (False, 429), (False, 503)], ids=["says so", "429", "503"]
)


def gateway(most: int, names_open: bool, open_status: int, latency_s: float, **more) -> HiddenServer:  # type: ignore[no-untyped-def]
    """It takes so many requests at the same time."""

    def about(dice: random.Random, in_flight: int) -> float:
        return latency_s * dice.lognormvariate(0.0, 0.3)

    return HiddenServer(most_open=most, names_open=names_open, open_status=open_status, latency_s=about, **more)


@REFUSES
@pytest.mark.parametrize("concurrency", [None, 20], ids=["auto", "20"])
def test_a_gateway_that_takes_two_at_a_time_gets_two_at_a_time(
    concurrency: int | None, names_open: bool, open_status: int
) -> None:
    fixed = paced(gateway(2, names_open, open_status, 0.37), Pacer(concurrency=2), rows=60)

    course = paced(gateway(2, names_open, open_status, 0.37), Pacer(concurrency=concurrency), rows=60, attempts=3)

    assert course.statuses == {Status.OK: 60}
    assert course.seconds <= 1.5 * fixed.seconds
    assert course.server.statuses[open_status] <= 20


@REFUSES
@pytest.mark.parametrize("most", [1, 7, 30])
def test_concurrency_auto_gets_as_much_from_a_gateway_as_the_best_fixed_one(
    most: int, names_open: bool, open_status: int
) -> None:
    fixed = paced(gateway(most, names_open, open_status, 1.0), Pacer(concurrency=most), rows=60 * most)

    course = paced(gateway(most, names_open, open_status, 1.0), Pacer(), rows=60 * most)

    assert course.statuses == {Status.OK: 60 * most}
    assert course.seconds <= 1.2 * fixed.seconds


@pytest.mark.parametrize("latency_s", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("names_open", [True, False])
def test_of_a_rate_and_a_limit_on_what_is_in_flight_90_percent_of_the_narrower_are_used(
    latency_s: float, names_open: bool
) -> None:
    server = gateway(4, names_open, 429, latency_s, requests=RollingWindow(120))

    course = paced(server, Pacer(), rows=800)

    mean_s = latency_s * math.exp(0.3**2 / 2)
    assert course.statuses == {Status.OK: 800}
    assert course.seconds <= max(800 / 2, 800 * mean_s / 4) / 0.9


def test_control_whoever_takes_a_limit_on_what_is_in_flight_for_a_rate_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenLimit, "refused", lambda self, sent_at_s, now_s, is_named, may_suspect: False)

    fixed = paced(gateway(2, False, 429, 0.37), Pacer(concurrency=2), rows=60)

    course = paced(gateway(2, False, 429, 0.37), Pacer(), rows=60, attempts=99)

    assert course.seconds > 1.5 * fixed.seconds


def test_a_slow_endpoint_is_not_waited_for() -> None:
    """20 at a time as asked: the start takes less than two answers' time, however long those take."""
    course = paced(HiddenServer(latency_s=lambda dice, in_flight: 40.0), Pacer(concurrency=20), rows=100)

    assert course.seconds <= 40 * (100 / 20 + 2)


def test_a_retry_after_is_waited_by_everybody() -> None:
    course = paced(HiddenServer(RollingWindow(PER_MINUTE), says_when=True), Pacer(concurrency=WORKERS))

    assert course.statuses == {Status.OK: ROWS}
    assert course.refused_per_row <= 0.02
    assert course.sent_per_minute >= 0.95 * PER_MINUTE


def test_the_models_of_the_limits_count_as_they_say() -> None:
    async def let_in(limit, seconds: int) -> int:  # type: ignore[no-untyped-def]
        taken = 0
        for tick in range(seconds * 100):
            if not limit.wait_s(1.0, tick / 100):
                limit.take(1.0, tick / 100)
                taken += 1
        return taken

    async def main() -> list[int]:
        return [await let_in(limit(600.0), 120) for limit in (RollingWindow, Refill, SecondQuanta)]

    assert asyncio.run(main()) == [1_200, pytest.approx(1_800, abs=2), 1_200]
    assert PROMPT_TOKENS > 0
