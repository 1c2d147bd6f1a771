"""Rows that failed while nothing else was answered: they wait to learn whether that was an outage."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from batchcall.engine.row_retry import Around, RowRetry


class Surroundings(Around, Protocol):
    """And what has become of outages. `Pool` is one."""

    @property
    def outages(self) -> int: ...  # times that all endpoints were down

    def gave_up(self) -> None:
        """A row has failed as often as it may while nothing else was answered."""


class WaitingRoom:
    """An outage must fail no row, and a row that breaks the server must not hide as an outage."""

    # So a row that failed while nothing else was answered is set aside instead of ended. It goes on
    # - with all its tries again, if the endpoint was down and has come back;
    # - for the last time, if the endpoint answers other rows (then the row is at fault) or no other row is left.

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._rows: deque[RowRetry] = deque()

    def add(self, row: RowRetry) -> None:
        around = self._around
        row.outages = around.outages - around.is_down  # the end of one that is under way is still to come
        row.probes = 0
        around.gave_up()
        self._rows.append(row)

    def next(self, *, is_end: bool = False) -> RowRetry | None:
        """A row that can go on: the endpoint came back, or answers others and so the row is at fault itself.

        `is_end`: there are no other rows left to learn from.
        """
        # Only the oldest is looked at: it has waited longest, and the others were set aside for the same reason.
        around = self._around
        if not self._rows or (around.is_down and not is_end):
            return None
        row = self._rows[0]
        was_down = around.outages > row.outages
        if not was_down and not is_end and around.last_good_s <= row.began_s:
            return None
        self._rows.popleft()
        if was_down:
            row.tries, row.ambiguous, row.began_s = 0, 0, -1.0
        row.is_final = not was_down or is_end
        return row
