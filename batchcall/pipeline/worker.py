"""A worker: a process that does some parts of a run, steered by the process that has started it (`crew.py`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError

from batchcall.answers import Ended
from batchcall.base import BatchcallError, InputError, OutputError, Secret, Status, fewer_collections
from batchcall.disk import HeldLock, RealDisk, guarded
from batchcall.engine import Channel, FarEndpoint, FarSteering, Feed, Handlers, LiveEngine
from batchcall.input import Mark
from batchcall.output import LOCK, Bought, OpenPart, Output, RunEntry, Totals, as_output_error
from batchcall.pacing import Verdict
from batchcall.pipeline.context import Progress, Run, Take, new_loop
from batchcall.pipeline.crew import Counts, OfPart, Order, Parting
from batchcall.pipeline.open_engine import open_engine, open_routes
from batchcall.pipeline.pending_rows import PendingBatch, PendingRow, pending_rows, take_batch
from batchcall.pipeline.resume import Resumption, old_maker
from batchcall.pipeline.rows import do_rows, folder_watched
from batchcall.pipeline.run import prepare

_COUNT_EVERY_S = 0.1
_ENDS_WITHIN_S = 8.0  # once its run has ended or died; the next one waits a little longer


def main(end: int, shelf: int, lock: int) -> None:
    """The process: `end` and `shelf` are its ends of two pairs of sockets, for messages and for answers that were set
    aside; `lock` is the lock of the output, which it holds as well."""
    with asyncio.Runner(loop_factory=new_loop) as runner, contextlib.suppress(asyncio.CancelledError):
        runner.run(_Link().serve(socket.socket(fileno=end), socket.socket(fileno=shelf), lock))


class _Link:
    """The worker's side of the channel, until there is an engine that can be stopped."""

    def __init__(self) -> None:
        self.steering: FarSteering | None = None
        self.engine: LiveEngine | None = None
        self._stopped: Verdict | BatchcallError | None = None

    async def serve(self, end: socket.socket, shelf: socket.socket, lock: int) -> None:
        """Take the order and do it. Cancelled where the run has died, or wants an end at once."""
        this = asyncio.current_task()
        assert this is not None
        ordered: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        handlers: Handlers = {
            "begin": ordered.set_result,
            "stop": self._stop,
            **FarSteering.handlers(lambda: self.steering),
        }

        def end_soon() -> None:
            this.cancel()
            # Whatever keeps it (a thread in a long read): it has the lock of the output, which another run waits for.
            last = threading.Timer(_ENDS_WITHIN_S, os._exit, (1,))
            last.daemon = True
            last.start()

        channel = await Channel.over(end, handlers, end_soon)
        order = await ordered
        try:
            with as_output_error(order.job.output.path):
                channel.post("done", await _do(order, shelf, lock, channel, self))
        except BatchcallError as error:
            channel.post("stopping", error)
            channel.post("done", Parting())
        await asyncio.Event().wait()  # until the other end has read that and closes

    def begin(self, engine: LiveEngine, steering: FarSteering) -> None:
        self.engine, self.steering = engine, steering
        if self._stopped is not None:
            engine.stop(self._stopped)

    def _stop(self, why: Verdict | BatchcallError) -> None:
        self._stopped = why
        if self.engine is not None:
            self.engine.stop(why)


async def _do(order: Order, shelf: socket.socket, lock: int, channel: Channel, link: _Link) -> Parting:
    """The rows of every part that the run gives. Raises BatchcallError, OSError."""
    job = order.job
    maker, source, layout = await asyncio.to_thread(prepare, job)
    if source.fingerprint != order.fingerprint:
        raise InputError("the input has changed since the run began", hint="run the same command again")
    held = HeldLock(lock, job.output.path / LOCK)
    disk = RealDisk(parts_mode=job.output.parts_mode)
    output = Output(
        job.output.path,
        layout,
        disk=disk,
        part_rows=job.output.part_rows,
        keep_answers=job.output.response,
        reserve=f"reserve-{order.worker}",
    )
    with guarded(disk, held), contextlib.closing(output):
        output.rows, output.has_died = order.rows, order.has_died
        resumption = Resumption(order.runfile, [maker, *map(old_maker, order.runfile.kept_jobs)])
        entry = RunEntry(started_at="", started_at_s=0.0, retries_failed_before_s=order.retries_failed_before_s)
        progress = Progress(Totals())
        take = _taking_from(shelf) if order.has_earlier else None
        run = Run(job, order.options, output, source, maker, resumption, entry, None, progress, take, held)
        given_up = await _Rows(run, channel).do(order, link)
        if (failure := await asyncio.to_thread(_publish_the_rest, output)) is not None:
            channel.post("stopping", failure)
        if note := maker.row_tools_note():
            channel.post("say", note)
        return Parting(
            given_up,
            output.left_out,
            output.members_left_out,
            progress.input_changes,
        )


def _taking_from(shelf: socket.socket) -> Take:
    """Answers that were set aside, as the run gives them out. Each waits for the run: it has them at hand."""
    replies = shelf.makefile("rb")

    def take(row: int, hashes: Sequence[str]) -> Bought | None:
        shelf.sendall(f"{row} {' '.join(hashes)}\n".encode())
        try:
            bought: Bought | None = pickle.load(replies)
        except (EOFError, OSError):  # the run has died, and this process is about to
            raise asyncio.CancelledError from None
        return bought

    return take


def _publish_the_rest(output: Output) -> OutputError | None:
    """Parts that are not complete, with the rows they have. Returns why one could not be written, if one could not."""
    failure = None
    output.make_way()
    for part in output.unfinished():
        try:
            output.seal(part)
        except OutputError as error:  # the others may have room; its rows are safe in the journal
            failure = error
    return failure


class _Rows:
    """Does the rows of the parts that the run hands out, and reports on them."""

    def __init__(self, run: Run, channel: Channel) -> None:
        self._run = run
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._of_parts: dict[int, OfPart] = {}
        self._changed: set[int] = set()
        self._has_failed = asyncio.Event()  # a row, since the run was last told
        self._leases = _Leases(self._lease)
        self._told = (0, 0)  # of what journals told: requests in flight at a death, damaged records

    async def do(self, order: Order, link: _Link) -> int:
        """Returns how many requests were given up."""
        run, keys = self._run, [None if key is None else Secret(key) for key in order.keys]
        most, say = order.most_in_flight, lambda note: self._channel.post("say", note)
        async with open_routes(run.job, keys, order.sandbox, most_in_flight=most, say=say) as routes:
            endpoints = [FarEndpoint(index=index, **route) for index, route in enumerate(routes)]
            far = FarSteering(endpoints, self._channel, most_in_flight=sum(most), counts_cost=order.counts_cost)
            with open_engine(run, keys, far) as engine:
                link.begin(engine, far)
                feed = Feed(self._batches(), self._take)
                counting = asyncio.create_task(self._keep_counting(engine, feed))
                try:
                    with fewer_collections(), folder_watched(run, engine):
                        await do_rows(run, engine, feed, on_row=self._on_row, seal=self._seal)
                finally:
                    counting.cancel()
                self._count(engine, feed)
        return engine.given_up

    def _batches(self) -> Iterator[PendingBatch]:
        """The rows of the parts that the run gives, until it has none left. In the thread that reads the input."""
        while self._leases.begin():
            yield from pending_rows(self._run, self._leases)

    def _lease(self) -> int | None:
        async def ask() -> tuple[int, Mark | None, bool] | None:
            lease: tuple[int, Mark | None, bool] | None = await self._channel.call("lease")
            return lease

        try:
            lease = asyncio.run_coroutine_threadsafe(ask(), self._loop).result()
        except CancelledError:  # the run has died, and this process ends
            return None
        if lease is None:
            return None
        number, mark, has_died = lease
        if has_died:
            self._run.output.died_over.add(number)
        if mark is not None:
            self._run.resumption.runfile.input.marks.append(list(mark))
        return number

    def _take(self, batch: PendingBatch) -> list[PendingRow]:
        if batch.marks:  # at once: this process may die
            output, told = self._run.output, self._told
            self._told = output.indeterminate, output.damaged
            told_now = (now - before for now, before in zip(self._told, told, strict=True))
            self._channel.post("opened", [list(mark) for mark in batch.marks], *told_now)
        if batch.rows_seen is not None or self._leases.is_over:
            self._channel.post("has_read_all")
        return take_batch(self._run, batch)

    def _on_row(self, ended: Ended) -> None:
        number = ended.row.index // self._run.output.part_rows
        of_part = self._of_parts.setdefault(number, OfPart())
        of_part.rows_here += 1
        self._changed.add(number)
        if ended.outcome.status is not Status.OK:
            of_part.failed_here += 1
            self._has_failed.set()

    def _seal(self, part: OpenPart) -> None:
        self._run.output.seal(part)
        of_part = self._of_parts.pop(part.number, OfPart())
        of_part.totals = part.totals
        self._loop.call_soon_threadsafe(self._channel.post, "sealed", part.number, of_part)

    async def _keep_counting(self, engine: LiveEngine, feed: Feed[PendingRow]) -> None:
        while True:  # a failure is reported at once: it may be the one that stops the run
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_COUNT_EVERY_S):
                    await self._has_failed.wait()
            self._has_failed.clear()
            self._count(engine, feed)

    def _count(self, engine: LiveEngine, feed: Feed[PendingRow]) -> None:
        parts, changed, output = dict[int, OfPart](), self._changed, self._run.output
        self._changed = set()
        for number in changed:
            part, of_part = output.part(number), self._of_parts.get(number)
            if part is not None and of_part is not None:
                of_part.totals = part.totals
                parts[number] = of_part
        an_error, cpu_s = self._run.progress.an_error, time.process_time()
        counts = Counts(parts, an_error, engine.waiting_retries, feed.is_waiting, cpu_s)
        self._channel.post("counts", counts)


class _Leases:
    """Parts that are read in one go: as long as each that is given lies behind the one before. A part of a worker that
    has died lies before it."""

    def __init__(self, ask: Callable[[], int | None]) -> None:
        self._ask = ask
        self._next: int | None = None
        self._last = -1
        self._has_all = False

    def begin(self) -> bool:
        """Begin anew, wherever the next part lies. Returns whether there is one."""
        self._last = -1
        if self._next is None and not self._has_all:
            self._next = self._asked()
        return self._next is not None

    @property
    def is_over(self) -> bool:
        """Whether there are no more, and all that were given have been read."""
        return self._has_all and self._next is None

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self._next is None and not self._has_all:
            self._next = self._asked()
        number = self._next
        if number is None or number < self._last:
            raise StopIteration
        self._last, self._next = number, None
        return number

    def _asked(self) -> int | None:
        number = self._ask()
        self._has_all = number is None
        return number
