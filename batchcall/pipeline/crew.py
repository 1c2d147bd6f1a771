"""A run by several processes: workers do parts of it, all steered, counted and recorded from here.

    this process                                           each worker (`worker.py`)
    lock, run.json, progress, signals, deadline            input, journals and parts of the rows it was given
    endpoints' pace, budgets, outages (`OwnSteering`)  ◀──▶  its requests (`FarSteering`)
    which part is done next                            ──▶  one part after the other

A worker that dies is replaced. Its parts are given out again, and resumed from their journals as those of a run that
died. A worker whose run has died ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import sys
from collections import Counter, deque
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from batchcall.base import BatchcallError, ExitCode, fewer_collections
from batchcall.disk import HeldLock
from batchcall.engine import Channel, OwnSteering, Served
from batchcall.job import Job
from batchcall.output import RunFile, Totals
from batchcall.pacing import Verdict
from batchcall.pipeline.context import Run, RunOptions
from batchcall.pipeline.finish import too_many_failed
from batchcall.pipeline.open_engine import Keys, Say
from batchcall.pipeline.pending_rows import parts_left
from batchcall.pipeline.progress_feed import Show, under_way
from batchcall.pipeline.resume import marks_of

_TELL_EVERY_S = 0.1
_QUESTION_BYTES = 1 << 16
_ENDS_WITHIN_S = 10.0  # after it was told to end at once, or has said that it is done
_DEATHS_IN_A_ROW = 5  # of workers, with no row ended in between
_BUSY = 0.9  # of a core: a worker that uses so much of one is bound by it
_BUSY_FOR_S = 3.0
_HOME = str(Path(__file__).parents[2])  # where this very package is, installed or not; looked into last
_WORK = (
    "import signal, sys\n"
    "for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):\n"  # they are for the run, which drains its workers
    "    signal.signal(getattr(signal, name), signal.SIG_IGN)\n"
    "sys.path.append(sys.argv[1])\n"
    "from batchcall.pipeline.worker import main\n"
    "main(*map(int, sys.argv[2:]))\n"
)


class Order(msgspec.Struct, frozen=True):
    """What a worker needs to know of its run."""

    job: Job
    keys: list[str | None]
    sandbox: str  # URL of the embedded endpoint; empty: there is none
    options: RunOptions
    runfile: RunFile
    retries_failed_before_s: float | None
    fingerprint: str  # of the input
    rows: int  # of the input
    has_died: bool  # whether the run before did, over what is in the journals
    has_earlier: bool  # answers that were set aside
    worker: int
    most_in_flight: list[int]  # of each endpoint
    counts_cost: bool


class OfPart(msgspec.Struct):
    """What a worker has done of a part."""

    totals: Totals = msgspec.field(default_factory=Totals)
    rows_here: int = 0  # that ended in this run
    failed_here: int = 0


class Counts(msgspec.Struct):
    """Where a worker stands."""

    parts: dict[int, OfPart] = {}  # those that have changed since it last told
    an_error: str | None = None
    waiting_retries: int = 0
    is_waiting: bool = False  # for the input
    cpu_s: float = 0.0


class Parting(msgspec.Struct, frozen=True):
    """What a worker says at its end."""

    given_up: int = 0
    left_out: Counter[str] = msgspec.field(default_factory=Counter)
    members_left_out: Counter[str] = msgspec.field(default_factory=Counter)
    input_changes: list[str] | None = None


class _Worker:
    """One process, as the crew knows it."""

    def __init__(self, steering: OwnSteering) -> None:
        self.served = Served(steering)
        self.process: asyncio.subprocess.Process | None = None
        self.channel: Channel | None = None
        self.is_gone = asyncio.Event()
        self.shelf: socket.socket | None = None  # where it asks for answers that were set aside
        self.giving: asyncio.Task[None] | None = None  # an answer to it
        self.taken: dict[int, tuple[str, int]] = {}  # of these, by row, until its part is published
        self.parts: set[int] = set()
        self.has_read_all = False  # of the rows that it was given
        self.counts = Counts()
        self.parting: Parting | None = None
        self.sampled = (0.0, 0.0)  # when its CPU time was looked at, and that time
        self.is_busy = False  # its core bounds it


class Crew:
    """The workers of a run. For one event loop."""

    def __init__(self, run: Run, steering: OwnSteering, keys: Keys, sandbox: str, *, most: int, say: Say) -> None:
        self.stopped: Verdict | BatchcallError | None = None
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._steering = steering
        self._most = most
        self._say = say
        self._said: set[str] = set()
        self._rows = run.source.count_rows()
        self._undone = deque(parts_left(run, self._rows))  # parts that nobody has begun, or whose worker has died
        self._died_over: set[int] = set()  # parts of workers that have died, perhaps over an answer in their journals
        self._workers: dict[int, _Worker] = {}  # those that live
        self._slots: asyncio.TaskGroup | None = None
        self._begun = 0  # slots
        self._deaths = 0  # since a row ended
        self._standing = run.output.published()
        self._settled = Totals()  # of the parts that nobody works on
        for totals in self._standing.values():
            self._settled.add(totals)
        self._under_way: dict[int, OfPart] = {}
        self._rows_settled = self._failed_settled = 0  # of those, ended in this run
        self._partings: list[Parting] = []
        self._writing: asyncio.Task[None] | None = None
        self._writes_again = False
        self._order = Order(
            job=run.job,
            keys=[None if key is None else key.reveal() for key in keys],
            sandbox=sandbox,
            options=run.options,
            runfile=run.resumption.runfile,
            retries_failed_before_s=run.entry.retries_failed_before_s,
            fingerprint=run.source.fingerprint,
            rows=self._rows,
            has_died=run.output.has_died,
            has_earlier=run.earlier_answers is not None,
            worker=0,
            most_in_flight=[one.pacer.most_in_flight for one in steering.pool.endpoints],
            counts_cost=steering.counts_cost,
        )

    async def drive(self, show: Show | None) -> None:
        """Every row that is left; fewer when the run is stopped."""
        self._steering.stop = self.stop
        with fewer_collections():
            async with under_way(self._run, self._steering, self, self._waits_for, show):
                self._steering.begin()
                telling = asyncio.create_task(self._keep_telling())
                try:
                    async with asyncio.TaskGroup() as self._slots:
                        for _ in range(1 if self._run.options.workers == "auto" else self._most):
                            self._begin_slot()
                finally:
                    telling.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await telling
        self._take_leave()

    def stop(self, why: Verdict | BatchcallError) -> None:
        """End the input early: nothing more is sent, what is in flight is awaited. The first reason counts."""
        if self.stopped is None:
            self.stopped = why
            for worker in self._workers.values():
                if worker.channel is not None:
                    worker.channel.post("stop", why)

    @property
    def waiting_retries(self) -> int:
        return sum(worker.counts.waiting_retries for worker in self._workers.values())

    @property
    def given_up(self) -> int:
        return sum(parting.given_up for parting in self._partings)

    def _waits_for(self) -> str:
        waiting = [worker.counts.is_waiting for worker in self._workers.values()]
        return "input" if waiting and all(waiting) else self._steering.bound_by

    # One slot for each worker: whoever dies is followed by another one in its slot.

    def _begin_slot(self) -> None:
        assert self._slots is not None
        self._slots.create_task(self._fill_slot(self._begun))
        self._begun += 1

    async def _fill_slot(self, slot: int) -> None:
        while self.stopped is None:
            worker = self._workers[slot] = _Worker(self._steering)
            try:
                await self._begin(worker, slot)
                await worker.is_gone.wait()
            except OSError as error:
                reason = f"a worker cannot be started with {sys.executable or 'no Python'}: {error.strerror or error}"
                hint = "use fewer --workers, or make room for more processes; then run the same command again"
                self.stop(Verdict(ExitCode.STOPPED_EARLY, reason, hint))
            finally:
                await self._end(worker, slot)
            if worker.parting is not None:
                return

    async def _begin(self, worker: _Worker, slot: int) -> None:
        assert isinstance(self._run.lock, HeldLock)
        (ours, its), (worker.shelf, its_shelf) = socket.socketpair(), socket.socketpair()
        with contextlib.ExitStack() as stack, its, its_shelf:
            worker.shelf.setblocking(False)
            stack.enter_context(ours)  # unless the process starts
            handles = its.fileno(), its_shelf.fileno(), self._run.lock.handle
            words = [sys.executable, "-P", "-c", _WORK, _HOME, *map(str, handles)]
            worker.process = await asyncio.create_subprocess_exec(
                *words,
                pass_fds=handles,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for the run, which drains its workers
            )
            stack.pop_all()
        handlers = {**worker.served.handlers(), **self._handlers(worker)}
        worker.channel = worker.served.channel = await Channel.over(ours, handlers, worker.is_gone.set)
        self._loop.add_reader(worker.shelf, self._give_bought, worker)
        worker.channel.post("begin", replace(self._order, worker=slot))
        worker.served.tell()
        if self.stopped is not None:
            worker.channel.post("stop", self.stopped)

    async def _end(self, worker: _Worker, slot: int) -> None:
        """Whatever became of it: it is no more, and what it held is free."""
        if worker.channel is not None:
            worker.channel.close()  # which ends it, if nothing else has
        if (process := worker.process) is not None:
            try:
                async with asyncio.timeout(_ENDS_WITHIN_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if worker.giving is not None:
            worker.giving.cancel()
        if worker.shelf is not None:
            self._loop.remove_reader(worker.shelf)
            worker.shelf.close()
        worker.served.end()
        del self._workers[slot]
        if worker.parting is not None:
            self._partings.append(worker.parting)
            return
        if (earlier := self._run.earlier_answers) is not None:
            for key in worker.taken.values():
                earlier.give_back(key)
        self._undone.extendleft(sorted(worker.parts, reverse=True))
        self._died_over |= worker.parts
        if worker.parts:
            self._run.progress.rows_seen = None  # not all are taken any more
        self._deaths += 1
        if self.stopped is None:
            code = process.returncode if process is not None else None
            self._say(f"worker {slot + 1} ended unexpectedly (exit code {code}); another one goes on with its rows")
            if self._deaths >= _DEATHS_IN_A_ROW:
                self.stop(
                    Verdict(
                        ExitCode.STOPPED_EARLY,
                        f"{self._deaths} workers ended unexpectedly, one after the other (exit code {code})",
                        "look for what ends them (the system's log, its memory), then run the same command again;"
                        " --workers 1 does the rows in one process",
                    )
                )

    def _handlers(self, worker: _Worker) -> dict[str, Any]:
        return {
            "lease": lambda call: self._lease(worker, call),
            "opened": self._opened,
            "has_read_all": lambda: self._has_read_all(worker),
            "counts": lambda counts: self._count(worker, counts),
            "sealed": lambda number, of_part: self._sealed(worker, number, of_part),
            "say": self._say_once,
            "stopping": self.stop,
            "done": lambda parting: self._done(worker, parting),
        }

    def _lease(self, worker: _Worker, call: int) -> None:
        """Give it the next part, where to begin reading, and whether a worker has died over it; None: there is none."""
        assert worker.channel is not None
        if self.stopped is not None or not self._undone:
            worker.channel.reply(call, None)
            return
        number = self._undone.popleft()
        worker.parts.add(number)
        worker.has_read_all = False
        self._run.output.forget(number)  # from now on, whatever becomes of the worker
        if (was := self._standing.pop(number, None)) is not None:
            _take_away(self._settled, was)
            self._under_way[number] = OfPart(was)
        start_row = number * self._run.output.part_rows
        before = [mark for mark in marks_of(self._run.resumption.runfile) if mark.row <= start_row]
        worker.channel.reply(call, (number, max(before, default=None), number in self._died_over))

    def _opened(self, marks: list[list[int]], indeterminate: int, damaged: int) -> None:
        """Parts were: where they begin in the input, and what their journals told."""
        self._run.resumption.runfile.input.marks += marks
        self._run.output.indeterminate += indeterminate
        self._run.output.damaged += damaged

    def _has_read_all(self, worker: _Worker) -> None:
        worker.has_read_all = True
        limit, others = self._run.options.limit, self._workers.values()
        is_whole = not self._undone and (limit is None or limit >= self._rows)
        if is_whole and all(other.has_read_all for other in others if other.parts):
            self._run.progress.rows_seen = self._rows

    def _count(self, worker: _Worker, counts: Counts) -> None:
        progress, now_s = self._run.progress, asyncio.get_running_loop().time()
        if counts.parts:
            self._deaths = 0
        at_s, cpu_s = worker.sampled
        if now_s - at_s >= _BUSY_FOR_S:
            worker.is_busy = at_s > 0 and counts.cpu_s - cpu_s >= _BUSY * (now_s - at_s)
            worker.sampled = (now_s, counts.cpu_s)
        worker.counts = counts
        self._under_way.update(counts.parts)
        progress.an_error = progress.an_error or counts.an_error
        self._sum_up()

    def _sum_up(self) -> None:
        totals, progress = Totals(), self._run.progress
        totals.add(self._settled)
        progress.rows_here, progress.failed_here = self._rows_settled, self._failed_settled
        for of_part in self._under_way.values():
            totals.add(of_part.totals)
            progress.rows_here += of_part.rows_here
            progress.failed_here += of_part.failed_here
        progress.totals = totals
        if (too_many := too_many_failed(self._run)) is not None:
            self.stop(too_many)

    def _give_bought(self, worker: _Worker) -> None:
        """Answer one question: a row, and the hashes of the requests that it would make."""
        # It waits for the answer, and asks nothing else meanwhile: so what comes is one question.
        assert worker.shelf is not None
        try:
            question = worker.shelf.recv(_QUESTION_BYTES)
        except OSError:
            question = b""
        if not question:  # it has died, as its channel tells too
            self._loop.remove_reader(worker.shelf)
            return
        row, *hashes = question.decode().split()
        earlier, bought = self._run.earlier_answers, None
        if earlier is not None and self._run.take is not None:
            bought = self._run.take(int(row), hashes)
            if bought is not None:
                worker.taken[int(row)] = earlier.last_taken
        worker.giving = self._loop.create_task(_send(worker.shelf, pickle.dumps(bought)))

    def _sealed(self, worker: _Worker, number: int, of_part: OfPart) -> None:
        worker.parts.discard(number)
        part_rows = self._run.output.part_rows
        worker.taken = {row: key for row, key in worker.taken.items() if row // part_rows != number}
        self._under_way.pop(number, None)
        self._settled.add(of_part.totals)
        self._rows_settled += of_part.rows_here
        self._failed_settled += of_part.failed_here
        self._sum_up()
        self._write_record()

    def _write_record(self) -> None:
        """In a thread: it has new places to seek to; an older one does no harm."""

        async def write() -> None:
            while self._writes_again:
                self._writes_again = False
                try:
                    await asyncio.to_thread(self._run.write_record)
                except BatchcallError as error:
                    self.stop(error)

        self._writes_again = True
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(write())

    def _say_once(self, note: str) -> None:
        if note not in self._said:
            self._said.add(note)
            self._say(note)

    def _done(self, worker: _Worker, parting: Parting) -> None:
        worker.parting = parting
        worker.is_gone.set()

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            for worker in self._workers.values():
                worker.served.tell()
            if self._run.options.workers == "auto":
                self._grow()

    def _grow(self) -> None:
        """One worker more, where each that is there is bound by its core."""
        workers = self._workers.values()
        if self.stopped is None and self._undone and self._begun < self._most and all(one.is_busy for one in workers):
            for one in workers:
                one.is_busy = False
            self._begin_slot()

    def _take_leave(self) -> None:
        output, progress, limit = self._run.output, self._run.progress, self._run.options.limit
        if self.stopped is None and (limit is None or limit >= self._rows):
            progress.rows_seen = self._rows
        for parting in self._partings:
            output.left_out += parting.left_out
            output.members_left_out += parting.members_left_out
        changes = [parting.input_changes for parting in self._partings]
        if None not in changes:
            progress.input_changes = sorted({change for some in changes for change in some or ()})


async def _send(shelf: socket.socket, what: bytes) -> None:
    with contextlib.suppress(OSError):  # it has died
        await asyncio.get_running_loop().sock_sendall(shelf, what)


def _take_away(totals: Totals, of_part: Totals) -> None:
    totals.rows -= of_part.rows
    totals.statuses.subtract(of_part.statuses)
    totals.attempts -= of_part.attempts
    totals.spend(of_part, of_part.cost, times=-1)
