"""Two minutes with endpoints of several kinds, as `courses.txt` has them: whatever is changed in how the pacer learns
shows there. Running this file writes it again, to be read before it is kept."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace

from batchcall.base.records import Failure, FailureKind, Quota, RateLimits
from batchcall.pacing.pacer import Pacer

TICK_S = 1 / 32
SECONDS = 120
COURSES = Path(__file__).with_name("courses.txt")


class Endpoint:
    """Answers after a time that grows with what is in flight beyond what it works on, unless `refuses` says no."""

    def __init__(self, refuses: Callable[[Endpoint], Failure | None], *, works_on: int = 1_000) -> None:
        self._refuses, self._works_on = refuses, works_on
        self.now_s, self.open, self.refused_in = 100.0, 0, 0
        self.admitted: deque[float] = deque()  # when, in the last minute
        self.dice = random.Random(7)

    def in_last(self, seconds: float) -> int:
        return sum(moment > self.now_s - seconds for moment in self.admitted)

    def meets(self) -> tuple[float, Failure | None]:
        """After how long a request that comes now ends, and how it fails."""
        failure = self._refuses(self)
        self.open += 1
        if failure is not None:
            return 0.1, failure
        self.admitted.append(self.now_s)
        while self.admitted[0] < self.now_s - 60:
            self.admitted.popleft()
        return (0.5 + self.dice.random()) * max(1.0, self.open / self._works_on), None


def failed(kind: FailureKind, retry_after_s: float | None = None) -> Failure:
    return Failure(kind, "no", http_status=429, retry_after_s=retry_after_s)


def course(endpoint: Endpoint, pacer: Pacer, tokens: int = 0) -> Iterator[str]:
    """What the pacer orders every five seconds, asked by one who has always more to send."""
    running: list[tuple[float, int, float, Failure | None]] = []
    numbers, credit, sent, refused = count(), 1.0, 0, 0
    for tick in range(int(SECONDS / TICK_S)):
        endpoint.now_s = now_s = 100.0 + tick * TICK_S
        while running and running[0][0] <= now_s:
            _, row, sent_at_s, failure = heapq.heappop(running)
            endpoint.open -= 1
            if failure is None:
                pacer.answered(sent_at_s, now_s, in_flight=len(running) + 1, work=float(tokens or 1))
                pacer.used(tokens, now_s)
            else:
                refused += 1
                pacer.failed(row, failure, sent_at_s=sent_at_s, now_s=now_s, roll=(row % 10) / 10)
        orders = pacer.orders(now_s)
        per_s = min(
            (one for one in (orders.requests_per_minute, orders.tokens_per_minute and orders.tokens_per_minute / tokens)
             if one is not None), default=60_000.0) / 60  # fmt: skip
        credit = min(max(1.0, per_s * TICK_S), credit + per_s * TICK_S)
        while now_s >= orders.not_before_s and len(running) < orders.in_flight and credit >= 1:
            credit -= 1
            sent += 1
            pacer.sent(now_s)
            lasts_s, failure = endpoint.meets()
            heapq.heappush(running, (now_s + lasts_s, next(numbers), now_s, failure))
        if tick % 160 == 159:
            rate = "-" if orders.requests_per_minute is None else f"{orders.requests_per_minute:.1f}"
            held_s = max(0.0, orders.not_before_s - now_s)
            words = f"{pacer.bound_by}{' down' if pacer.is_down else ''}{' ends' if pacer.verdict(now_s) else ''}"
            tokens_per_minute = f" tokens {orders.tokens_per_minute:.0f}" if orders.tokens_per_minute else ""
            yield (
                f"{now_s - 100 + TICK_S:3.0f} s: in flight {len(running)}/{orders.in_flight}, {rate} a minute"
                f"{tokens_per_minute},"
                f" held {held_s:.2f} s, sent {sent}, refused {refused}, {words}"
            )


def no_limit(_: Endpoint) -> Failure | None:
    return None


def ten_a_second(endpoint: Endpoint) -> Failure | None:
    most = 10 if endpoint.now_s < 160 else 30
    return failed(FailureKind.RATE_LIMITED) if endpoint.in_last(1.0) >= most else None


def sixty_a_minute(endpoint: Endpoint) -> Failure | None:
    return failed(FailureKind.RATE_LIMITED, 2.0) if endpoint.in_last(60.0) >= 60 else None


def six_open(endpoint: Endpoint) -> Failure | None:
    return failed(FailureKind.RATE_LIMITED) if endpoint.open >= (6 if endpoint.now_s < 150 else 9) else None


def six_open_it_says(endpoint: Endpoint) -> Failure | None:
    return failed(FailureKind.TOO_MANY_OPEN) if endpoint.open >= (6 if endpoint.now_s < 150 else 4) else None


def busy_beyond_twelve(endpoint: Endpoint) -> Failure | None:
    return failed(FailureKind.OVERLOADED, 1.0) if endpoint.open >= 12 else None


def down_for_a_while(endpoint: Endpoint) -> Failure | None:
    return failed(FailureKind.SERVER_ERROR) if 130 <= endpoint.now_s < 170 else None


def down_for_good(endpoint: Endpoint) -> Failure | None:
    return failed(FailureKind.UNCONNECTED) if endpoint.now_s >= 110 else None


def one_in_ten(endpoint: Endpoint) -> Failure | None:
    return failed(FailureKind.RATE_LIMITED) if endpoint.dice.random() < 0.1 else None


def day_is_used_up(endpoint: Endpoint) -> Failure | None:
    if endpoint.now_s < 120:
        return None
    return replace(failed(FailureKind.RATE_LIMITED, 5.0), quota=Quota(9_000.0, is_stated=True))


def out_of_time(endpoint: Endpoint) -> Failure | None:
    return failed(FailureKind.TIMED_OUT) if endpoint.open > 20 and 130 <= endpoint.now_s < 140 else None


def few_descriptors(endpoint: Endpoint) -> Failure | None:
    return failed(FailureKind.NO_DESCRIPTORS) if endpoint.open >= 5 else None


def told(pacer: Pacer, limits: RateLimits) -> Pacer:
    pacer.saw_limits(limits, 100.0)
    return pacer


KINDS: dict[str, Callable[[], Iterator[str]]] = {
    "no limit, auto, works on 40": lambda: course(Endpoint(no_limit, works_on=40), Pacer(most_auto=64)),
    "no limit, 64": lambda: course(Endpoint(no_limit), Pacer(concurrency=64)),
    "10 a second, then 30": lambda: course(Endpoint(ten_a_second), Pacer(concurrency=64)),
    "10 a second, then 30, auto": lambda: course(Endpoint(ten_a_second), Pacer(most_auto=64)),
    "10 a second, of which the job knows 8": lambda: course(
        Endpoint(ten_a_second), Pacer(concurrency=64, requests_per_minute=480)
    ),
    "60 a minute, wait 2 s": lambda: course(Endpoint(sixty_a_minute), Pacer(concurrency=16)),
    "6 open, then 9": lambda: course(Endpoint(six_open), Pacer(concurrency=32)),
    "6 open by name, then 4": lambda: course(Endpoint(six_open_it_says), Pacer(concurrency=32)),
    "busy beyond 12": lambda: course(Endpoint(busy_beyond_twelve), Pacer(most_auto=32)),
    "down from 30 s to 70 s": lambda: course(Endpoint(down_for_a_while), Pacer(concurrency=16)),
    "down from 10 s on, patience 60 s": lambda: course(
        Endpoint(down_for_good), Pacer(concurrency=16, max_outage_s=60.0)
    ),
    "1 in 10 by chance": lambda: course(Endpoint(one_in_ten), Pacer(concurrency=24)),
    "day used up": lambda: course(Endpoint(day_is_used_up), Pacer(concurrency=8)),
    "out of time": lambda: course(Endpoint(out_of_time), Pacer(most_auto=40)),
    "few descriptors": lambda: course(Endpoint(few_descriptors), Pacer(concurrency=16)),
    "tokens by the minute": lambda: course(
        Endpoint(no_limit), told(Pacer(concurrency=16), RateLimits(tokens_per_minute=60_000)), tokens=300
    ),
    "a number of places that is named": lambda: course(
        Endpoint(six_open_it_says), told(Pacer(concurrency=16), RateLimits(open_at_once=6))
    ),
}


def read_courses() -> dict[str, list[str]]:
    pieces = COURSES.read_text().strip().split("\n\n")
    return {name: lines for name, *lines in (piece.splitlines() for piece in pieces)}


@pytest.mark.parametrize("name", KINDS)
def test_the_pace_goes_as_it_is_written(name: str) -> None:
    assert list(KINDS[name]()) == read_courses()[name]


if __name__ == "__main__":
    COURSES.write_text("\n\n".join("\n".join([name, *make()]) for name, make in KINDS.items()) + "\n")
