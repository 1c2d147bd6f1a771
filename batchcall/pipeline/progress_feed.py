"""Where a run stands while it goes on, told twice a second to whoever wants to show it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from batchcall.base import InputError, OutputError
from batchcall.engine import Feed, LiveEngine
from batchcall.output import write_runfile
from batchcall.pipeline.context import Run
from batchcall.pipeline.pending_rows import PendingRow
from batchcall.report import Snapshot

Show = Callable[[Snapshot], None]

_SHOW_EVERY_S = 0.5
_SPEED_OVER_S = 60.0


@contextlib.asynccontextmanager
async def shown(run: Run, engine: LiveEngine, feed: Feed[PendingRow], show: Show | None) -> AsyncIterator[None]:
    """Watch what binds while the block runs, and call `show` now and then, and once at its end."""
    started = time.monotonic()
    rows_at_start = run.totals.rows
    speed = _Speed()

    async def keep_showing() -> None:
        if show is not None or run.job.limits.max_failed_share is not None:
            run.rows_expected = await asyncio.to_thread(_expected_rows, run)
            _record_expected(run)
        while True:
            elapsed_s = time.monotonic() - started
            speed.saw(elapsed_s, run.rows_here)
            if engine.stopped is None:
                run.bounds.add(_waits_for(engine, feed), _SHOW_EVERY_S)
            if show is not None:
                show(_snapshot(run, engine, feed, rows_at_start, elapsed_s, speed))
            await asyncio.sleep(_SHOW_EVERY_S)

    showing = asyncio.create_task(keep_showing())
    try:
        yield
    finally:
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await showing
        if show is not None:
            show(_snapshot(run, engine, feed, rows_at_start, time.monotonic() - started, speed))


class _Speed:
    """Rows a second of late: what is left is told from that, not from the start, nor from the slow rows at the end."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=int(_SPEED_OVER_S / _SHOW_EVERY_S))

    def saw(self, at_s: float, rows: int) -> None:
        self._seen.append((at_s, rows))

    def left_s(self, rows_left: int) -> float | None:
        """Seconds for so many rows; None where nothing is known yet."""
        (from_s, before), (to_s, now) = (self._seen[0], self._seen[-1]) if self._seen else ((0.0, 0), (0.0, 0))
        if now <= before or to_s - from_s < 2:
            return None
        return rows_left * (to_s - from_s) / (now - before)


def _expected_rows(run: Run) -> int | None:
    """Rows of the input that this run is to bring in; None when they cannot be counted."""
    entry = run.resumption.runfile.input
    try:
        rows = entry.rows_expected or run.source.count_rows()
    except InputError:  # the run itself will meet it and say so
        return None
    if entry.rows is None:
        entry.rows_counted = rows
    return rows if run.options.limit is None else min(rows, run.options.limit)


def _record_expected(run: Run) -> None:
    """For `status`, from the start. Not in a thread: none of ours may write once the run has ended."""
    with run.record_lock, contextlib.suppress(OutputError):  # the run itself will meet it and say so
        write_runfile(run.disk, run.output.own, run.resumption.runfile, is_last=False)


def _snapshot(
    run: Run, engine: LiveEngine, feed: Feed[PendingRow], rows_at_start: int, elapsed_s: float, speed: _Speed
) -> Snapshot:
    pool = engine.pool
    untaken = None if run.rows_expected is None else run.rows_expected - run.totals.rows - pool.in_flight
    return Snapshot(
        rows=run.totals.rows,
        rows_expected=run.rows_expected,
        rows_here=run.totals.rows - rows_at_start,
        failed=run.totals.failed,
        tokens=run.totals.total_tokens or 0,
        cost=run.totals.cost,
        requests=engine.traffic.requests,
        in_flight=pool.in_flight,
        waits_for=_waits_for(engine, feed),
        pause_s=pool.pause_left_s,
        retries_waiting=engine.waiting_retries,
        down=pool.down,
        eta_s=None if untaken is None else speed.left_s(max(0, untaken)),
        oldest_age_s=pool.oldest_age_s,
        elapsed_s=elapsed_s,
        is_stopping=engine.stopped is not None,
    )


def _waits_for(engine: LiveEngine, feed: Feed[PendingRow]) -> str:
    return "input" if feed.is_waiting else engine.bound_by
