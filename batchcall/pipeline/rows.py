"""Rows in this process: from the feed through the engine into the output, which is published part by part."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from functools import partial

from batchcall.answers import Ended
from batchcall.base import OutputError, Status
from batchcall.disk import FolderLostError
from batchcall.engine import Feed, LiveEngine
from batchcall.output import OpenPart, output_error
from batchcall.pipeline.context import Run
from batchcall.pipeline.pending_rows import PendingRow, prepare_row


async def do_rows(
    run: Run,
    engine: LiveEngine,
    feed: Feed[PendingRow],
    *,
    on_row: Callable[[Ended], None],
    seal: Callable[[OpenPart], None],
) -> None:
    """Every row of the feed, to its end. `seal` publishes a part; it runs in a thread, and raises OutputError."""
    # A thread reads the input one batch ahead. Lanes of the engine take rows from the feed, and each outcome comes
    # back to this loop, which alone counts and adds to parts. A thread writes whole parts, one at a time.
    progress = run.progress
    async with contextlib.AsyncExitStack() as stack:
        outcomes = await stack.enter_async_context(engine.outcomes(feed, partial(prepare_row, run)))
        sealer = _Sealer(seal, engine)
        stack.push_async_callback(sealer.wait)
        async for ended in outcomes:
            progress.totals.count(ended.outcome)
            progress.rows_here += 1
            progress.an_error = progress.an_error or ended.outcome.error
            progress.failed_here += ended.outcome.status is not Status.OK
            on_row(ended)
            complete = run.output.add(ended.row.kept, ended.outcome, ended.attempts)
            if complete is not None:
                await sealer.seal(complete)


@contextlib.contextmanager
def folder_watched(run: Run, engine: LiveEngine) -> Iterator[None]:
    """Stop the run as soon as the disk fails under it or its folder is lost.

    Raises OutputError at once where the folder was deleted: what is still in flight could not be kept.
    """
    loop, driving, deleted = asyncio.get_running_loop(), asyncio.current_task(), list[OutputError]()
    assert driving is not None

    def stop(error: OSError) -> None:
        why = output_error(run.output.folder, error)
        engine.stop(why)
        if isinstance(error, FolderLostError) and error.is_deleted:
            deleted.append(why)
            driving.cancel()

    # The threads that write meet the failure; only the loop may stop the engine.
    def stop_soon(error: OSError) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(stop, error)

    run.output.on_failure(stop_soon)
    try:
        yield
    except asyncio.CancelledError:
        if deleted and driving.uncancel() == 0:
            raise deleted[0] from None
        raise
    finally:
        run.output.on_failure(lambda error: None)


class _Sealer:
    """Publishes parts in a thread, one at a time, while rows go on."""

    def __init__(self, seal: Callable[[OpenPart], None], engine: LiveEngine) -> None:
        self._seal = seal
        self._engine = engine
        self._sealing: asyncio.Task[None] | None = None

    async def seal(self, part: OpenPart) -> None:
        """Begin as soon as the part before it is written."""
        await self.wait()
        self._sealing = asyncio.create_task(asyncio.to_thread(self._seal, part))

    async def wait(self) -> None:
        """Until it is written. A part that cannot be written stops the run; its rows are safe in the journal."""
        if self._sealing is not None:
            try:
                await asyncio.shield(self._sealing)
            except OutputError as error:
                self._engine.stop(error)
