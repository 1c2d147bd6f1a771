"""How close to a hidden limit, and how often refused: the pacer beside the SDKs' retry loop and a fixed window.

In virtual time, so that an hour of traffic takes a second; 100 workers, 600 requests a minute. Each cell: 429s a row,
and the time to the last answer against the ideal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from batchcall.pacing.pacer import Pacer
from pace_model import (
    LIMITS,
    PER_MINUTE,
    ROWS,
    WORKERS,
    Course,
    HiddenServer,
    Limit,
    as_sdks_do,
    crowd,
    paced,
    with_a_fixed_window,
)

TOLD = {"x-ratelimit-limit-requests": str(PER_MINUTE)}
IDEAL_S = ROWS / PER_MINUTE * 60
Asks = Callable[[HiddenServer], Course]


def learnt(server: HiddenServer) -> Course:
    return paced(server, Pacer(concurrency=WORKERS))


def given(server: HiddenServer) -> Course:
    return paced(server, Pacer(concurrency=WORKERS, requests_per_minute=PER_MINUTE))


def main() -> None:
    print(f"{ROWS:,} rows, {WORKERS} workers, {PER_MINUTE} requests a minute; 429s a row (time against the ideal)\n")
    print("| | SDKs' retry loop | fixed window | batchcall |")
    print("|---|---|---|---|")
    for name, limit in LIMITS.items():
        row(f"{name}, limits given", partial(serving, limit), given, IDEAL_S)
        row(f"{name}, in headers", partial(serving, limit, headers=TOLD), learnt, IDEAL_S)
        row(f"{name}, neither", partial(serving, limit), learnt, IDEAL_S)
        row(
            f"{name}, drops to a fifth",
            partial(serving, limit, change=(250.0, PER_MINUTE / 5)),
            learnt,
            250 + 5 * (IDEAL_S - 250),
        )
    row("ten minutes of 503: calls", out_for_ten_minutes, given, 600 + IDEAL_S, counted=503)


def serving(limit: Callable[[float], Limit], **more: Any) -> HiddenServer:
    return HiddenServer(limit(PER_MINUTE), **more)


def out_for_ten_minutes() -> HiddenServer:
    return HiddenServer(LIMITS["rolling window"](PER_MINUTE), outage=(100.0, 700.0))


def row(name: str, server: Callable[[], HiddenServer], ours: Asks, ideal_s: float, *, counted: int = 429) -> None:
    ways: list[Asks] = [
        lambda one: crowd(one, as_sdks_do),
        lambda one: crowd(one, with_a_fixed_window),
        ours,
    ]
    print(f"| {name} | " + " | ".join(cell(way(server()), ideal_s, counted) for way in ways) + " |", flush=True)


def cell(course: Course, ideal_s: float, counted: int) -> str:
    times = course.server.statuses[counted]
    said = f"{times / ROWS:.3f}" if counted == 429 else f"{times:,}"
    return f"{said} ({course.seconds / ideal_s:.2f}×)"


if __name__ == "__main__":
    main()
