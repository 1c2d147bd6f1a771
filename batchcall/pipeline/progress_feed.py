"""The state of a run while it goes on, twice a second, for a progress bar."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from batchcall.base import InputError, OutputError
from batchcall.engine import Feed, LiveEngine
from batchcall.pipeline.context import Run
from batchcall.pipeline.pending_rows import PendingRow
from batchcall.report import Snapshot

Show = Callable[[Snapshot], None]

_SHOW_EVERY_S = 0.5
_SPEED_OVER_S = 60.0


@contextlib.asynccontextmanager
async def show_progress(run: Run, engine: LiveEngine, feed: Feed[PendingRow], show: Show | None) -> AsyncIterator[None]:
    """Watch what binds while the block runs, and call `show` now and then, and once at its end."""
    started = time.monotonic()
    rows_at_start = run.progress.totals.rows
    speed = _Speed()

    # Counting the rows may read the whole input, so it is done only where it is needed: for the bar and max_failed.
    async def keep_showing() -> None:
        if show is not None or run.job.limits.max_failed_share is not None:
            await _count_expected(run)
        while True:
            elapsed_s = time.monotonic() - started
            speed.saw(elapsed_s, run.progress.rows_here)
            if engine.stopped is None:
                run.progress.bounds.add(_waits_for(engine, feed), _SHOW_EVERY_S)
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
    """Rows a second in the last minute. The time left is estimated from that: the start of a run is slow."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=int(_SPEED_OVER_S / _SHOW_EVERY_S))

    def saw(self, at_s: float, rows: int) -> None:
        self._seen.append((at_s, rows))

    def left_s(self, rows_left: int) -> float | None:
        """Seconds for so many rows; None: not known yet."""
        (from_s, before), (to_s, now) = (self._seen[0], self._seen[-1]) if self._seen else ((0.0, 0), (0.0, 0))
        if now <= before or to_s - from_s < 2:
            return None
        return rows_left * (to_s - from_s) / (now - before)


async def _count_expected(run: Run) -> None:
    """Count the rows that this run is to bring in, and record them at once: `status` shows them from the start."""
    entry, limit = run.resumption.runfile.input, run.options.limit
    rows = entry.rows_expected
    if not rows:
        try:
            rows = await asyncio.to_thread(run.source.count_rows)
        except InputError:  # the run itself will meet it and report it
            rows = None
    if rows is not None:
        if entry.rows is None:
            entry.rows_counted = rows
        run.progress.rows_expected = rows if limit is None else min(rows, limit)
    # Not in a thread: no thread of ours may write once the run has ended.
    with contextlib.suppress(OutputError):  # the run itself will meet it and report it
        run.write_record()


def _snapshot(
    run: Run, engine: LiveEngine, feed: Feed[PendingRow], rows_at_start: int, elapsed_s: float, speed: _Speed
) -> Snapshot:
    pool, progress, totals = engine.steering.pool, run.progress, run.progress.totals
    untaken = None if progress.rows_expected is None else progress.rows_expected - totals.rows - pool.in_flight
    return Snapshot(
        rows=totals.rows,
        rows_expected=progress.rows_expected,
        rows_here=totals.rows - rows_at_start,
        failed=totals.failed,
        tokens=totals.total_tokens or 0,
        cost=totals.cost,
        requests=engine.steering.traffic.requests,
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
