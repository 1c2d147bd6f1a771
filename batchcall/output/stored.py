"""Attempts that stand in a file, without their answers: a part may hold gigabytes of them, and few are looked at at a
time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from batchcall.base import Attempt


class Stored(msgspec.Struct, frozen=True):
    """What is known of an attempt without its answer, and where the whole is."""

    row: int
    number: int
    request_hash: str
    finished_us: int
    http_status: int | None  # None: there was no response
    endpoint: str
    read: Callable[[], Attempt]  # from its file, each time; raises OSError, OutputError

    @property
    def is_success(self) -> bool:
        return is_success(self.http_status)


def is_success(http_status: int | None) -> bool:
    return http_status is not None and 200 <= http_status < 300


def microseconds(moment_s: float) -> int:
    """As Arrow's timestamp[us] holds it, so that a journal and a part agree on a moment."""
    return round(moment_s * 1e6)


def by_row(attempts: Iterable[Stored]) -> dict[int, list[Stored]]:
    rows: dict[int, list[Stored]] = {}
    for attempt in attempts:
        rows.setdefault(attempt.row, []).append(attempt)
    return rows
