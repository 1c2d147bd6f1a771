"""The state of a run while it goes on, twice a second, for a progress bar."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from batchcall.base import ExitCode, InputError, OutputError
from batchcall.engine import OwnSteering, watched_queue
from batchcall.pacing import Verdict
from batchcall.pipeline.context import Run
from batchcall.report import Snapshot

Show = Callable[[Snapshot], None]

_SHOW_EVERY_S = 0.5
_SPEED_OVER_S = 60.0


class Course(Protocol):
    """Rows on their way: of the engine in this process, or of workers."""

    @property
    def stopped(self) -> object: ...  # why no more are begun; None: they are
    @property
    def waiting_retries(self) -> int: ...  # rows that wait to be tried again

    def stop(self, why: Verdict) -> None:
        """Begin no more."""


@contextlib.asynccontextmanager
async def under_way(
    run: Run, steering: OwnSteering, course: Course, waits_for: Callable[[], str], show: Show | None
) -> AsyncIterator[None]:
    """What goes on beside the rows of a run: its deadline, a look at the server's queue, the progress shown."""
    async with contextlib.AsyncExitStack() as stack:
        if (seconds := run.options.deadline_s) is not None:
            reason = f"the deadline of {seconds:g} s has passed"
            why = Verdict(ExitCode.STOPPED_EARLY, reason, "run the same command again to continue")
            timer = asyncio.get_running_loop().call_later(seconds, course.stop, why)
            stack.callback(timer.cancel)
        for endpoint in steering.pool.endpoints:
            await stack.enter_async_context(watched_queue(endpoint.transport, endpoint.pacer))
        await stack.enter_async_context(_show_progress(run, steering, course, waits_for, show))
        yield


@contextlib.asynccontextmanager
async def _show_progress(
    run: Run, steering: OwnSteering, course: Course, waits_for: Callable[[], str], show: Show | None
) -> AsyncIterator[None]:
    """Watch what binds while the block runs (`waits_for`, see `Snapshot`), and call `show` now and then, and once at
    its end."""
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
            if course.stopped is None:
                run.progress.bounds.add(waits_for(), _SHOW_EVERY_S)
            if show is not None:
                show(_snapshot(run, steering, course, waits_for(), rows_at_start, elapsed_s, speed))
            await asyncio.sleep(_SHOW_EVERY_S)

    showing = asyncio.create_task(keep_showing())
    try:
        yield
    finally:
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await showing
        if show is not None:
            show(_snapshot(run, steering, course, waits_for(), rows_at_start, time.monotonic() - started, speed))


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
    run: Run,
    steering: OwnSteering,
    course: Course,
    waits_for: str,
    rows_at_start: int,
    elapsed_s: float,
    speed: _Speed,
) -> Snapshot:
    pool, progress, totals = steering.pool, run.progress, run.progress.totals
    untaken = None if progress.rows_expected is None else progress.rows_expected - totals.rows - pool.in_flight
    return Snapshot(
        rows=totals.rows,
        rows_expected=progress.rows_expected,
        rows_here=totals.rows - rows_at_start,
        failed=totals.failed,
        tokens=totals.total_tokens or 0,
        cost=totals.cost,
        requests=steering.traffic.requests,
        in_flight=pool.in_flight,
        waits_for=waits_for,
        pause_s=pool.pause_left_s,
        retries_waiting=course.waiting_retries,
        down=pool.down,
        eta_s=None if untaken is None else speed.left_s(max(0, untaken)),
        oldest_age_s=pool.oldest_age_s,
        elapsed_s=elapsed_s,
        is_stopping=course.stopped is not None,
    )
