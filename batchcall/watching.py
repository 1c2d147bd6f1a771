"""Where a run stands while it goes on, told twice a second to whoever wants to show it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from batchcall.engines.feed import Feed
from batchcall.engines.live import LiveEngine
from batchcall.errors import InputError
from batchcall.questions import Question
from batchcall.report.snapshot import Snapshot
from batchcall.state import Run

Show = Callable[[Snapshot], None]

_SHOW_EVERY_S = 0.5


@contextlib.asynccontextmanager
async def shown(run: Run, engine: LiveEngine, feed: Feed[Question], show: Show | None) -> AsyncIterator[None]:
    """Call `show` now and then while the block runs, and once at its end."""
    if show is None:
        yield
        return
    started = time.monotonic()
    rows_at_start = run.totals.rows

    async def keep_showing() -> None:
        run.rows_expected = await asyncio.to_thread(_expected_rows, run)
        while True:
            show(_snapshot(run, engine, feed, rows_at_start, time.monotonic() - started))
            await asyncio.sleep(_SHOW_EVERY_S)

    showing = asyncio.create_task(keep_showing())
    try:
        yield
    finally:
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await showing
        show(_snapshot(run, engine, feed, rows_at_start, time.monotonic() - started))


def _expected_rows(run: Run) -> int | None:
    """Rows of the input that this run is to bring in; None when they cannot be counted."""
    try:
        rows = run.output.rows or run.source.count_rows()
    except InputError:  # the run itself will meet it and say so
        return None
    return rows if run.options.limit is None else min(rows, run.options.limit)


def _snapshot(run: Run, engine: LiveEngine, feed: Feed[Question], rows_at_start: int, elapsed_s: float) -> Snapshot:
    return Snapshot(
        rows=run.totals.rows,
        rows_expected=run.rows_expected,
        rows_here=run.totals.rows - rows_at_start,
        failed=run.totals.failed,
        tokens=run.totals.total_tokens or 0,
        cost=run.totals.cost,
        requests=engine.traffic.requests,
        in_flight=engine.gate.in_flight,
        waits_for=_waits_for(engine, feed),
        oldest_age_s=engine.gate.oldest_age_s,
        elapsed_s=elapsed_s,
        is_stopping=engine.stopped is not None,
    )


def _waits_for(engine: LiveEngine, feed: Feed[Question]) -> str:
    return "input" if feed.is_waiting else engine.gate.bound_by
