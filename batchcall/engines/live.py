"""Rows through a live endpoint: workers pull from a feed, each lives one row's whole life, and outcomes come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from batchcall.engines.feed import Feed, Results
from batchcall.engines.gate import Gate
from batchcall.engines.reading import Asked, Ended, Read, Reader
from batchcall.engines.transport import Transport
from batchcall.errors import BatchcallError, ExitCode
from batchcall.pacing.budget import Budget
from batchcall.pacing.estimate import TokenEstimate
from batchcall.pacing.health import Health
from batchcall.pacing.retry import RetryPolicy
from batchcall.records import (
    NO_USAGE,
    Attempt,
    Failure,
    HttpRequest,
    HttpResponse,
    Request,
    Scope,
    Status,
    record,
)

Item = TypeVar("Item")


class Recorder(Protocol):
    """Where what is sent and received is made to last. Each raises OutputError when it cannot."""

    def about_to_send(self, row: int, number: int, request_hash: str, now_s: float, after: str | None) -> None: ...
    def answered(self, attempt: Attempt) -> None: ...
    def gave_up(self, row: int) -> None: ...


class Stopped(Exception):
    """The run ends before its input does: `exit_code` and `reason` say why; what is in flight is drained."""

    def __init__(self, reason: str, exit_code: ExitCode, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.exit_code = exit_code
        self.hint = hint


@dataclass(slots=True)
class Traffic:
    """What this run sent, whatever became of it."""

    requests: int = 0
    answered: int = 0  # requests that brought a completion, valid or not: these are paid
    rows_paid_once: int = 0  # that ended, and no request of theirs may have been billed in vain
    possibly_paid_twice: dict[str, int] = field(default_factory=dict)  # by reason

    def sent(self, after: str | None) -> None:
        """A request was sent; `after` is how the one before it failed, where that may be billed."""
        self.requests += 1
        if after is not None:
            self.possibly_paid_twice[after] = self.possibly_paid_twice.get(after, 0) + 1


@record
class Ask:
    """The next thing to do for a row: send this, after a wait."""

    request: Request
    wait_s: float = 0.0


@dataclass(slots=True, eq=False)
class Worker:
    """One of those that live rows, one after the other. A stop leaves it alone while it is busy."""

    task: asyncio.Task[None] | None = None
    is_busy: bool = False  # something is in flight, or an outcome is being handed over


@dataclass(slots=True)
class LiveEngine:
    """One endpoint and the rules by which it is asked."""

    transport: Transport
    reader: Reader
    gate: Gate
    retry: RetryPolicy
    health: Health
    estimate: TokenEstimate
    budget: Budget
    recorder: Recorder
    endpoint: str  # for the column
    concurrency: int
    reasks: int
    now_s: Callable[[], float]  # seconds since the epoch
    roll: Callable[[], float]  # a number in [0, 1)
    traffic: Traffic = field(default_factory=Traffic)
    stopped: Stopped | BatchcallError | None = None
    _workers: list[Worker] = field(default_factory=list)
    _allowed: int = 0  # in flight: one, then a few, then all

    @contextlib.asynccontextmanager
    async def outcomes(
        self, feed: Feed[Item], prepare: Callable[[Item], Asked | Ended]
    ) -> AsyncIterator[AsyncIterator[Ended]]:
        """Every row of the feed, as it ends; fewer when the run is stopped. Leaving the block ends the workers.

        `prepare` makes the question of a row when a worker takes it, or says at once how the row ended.
        """
        results: Results[Ended] = Results(most=4 * self.concurrency)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self._run_workers(feed, prepare, results))
            try:
                yield results.take()
            finally:
                running.cancel()

    def stop(self, why: Stopped | BatchcallError) -> None:
        """End the input early: nothing more is sent, what is in flight is awaited. The first reason counts."""
        if self.stopped is None:
            self.stopped = why
        for worker in self._workers:
            if worker.task is not None and not worker.is_busy:
                worker.task.cancel()

    async def _run_workers(
        self, feed: Feed[Item], prepare: Callable[[Item], Asked | Ended], results: Results[Ended]
    ) -> None:
        self._widen()
        if (limit := self.budget.exhausted) is not None:
            self.stop(Stopped(limit, ExitCode.STOPPED_EARLY, _RAISE_IT))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.concurrency):
                    worker = Worker()
                    worker.task = group.create_task(self._work(worker, feed, prepare, results))
                    self._workers.append(worker)
                if self.stopped is not None:  # before the first worker ran
                    self.stop(self.stopped)
        finally:
            self._workers.clear()
            await feed.close()
        results.close()

    async def _work(
        self, worker: Worker, feed: Feed[Item], prepare: Callable[[Item], Asked | Ended], results: Results[Ended]
    ) -> None:
        while self.stopped is None:
            try:
                item = await feed.next()
                if item is None:
                    return
                question = prepare(item)
            except BatchcallError as error:  # the input or the disk went bad midway: what is in flight is drained
                self.stop(error)
                return
            ended = question if isinstance(question, Ended) else await self._live(worker, question)
            if ended is not None:
                worker.is_busy = True
                await results.put(ended)
                worker.is_busy = False

    async def _live(self, worker: Worker, asked: Asked) -> Ended | None:
        """One row's life: ask, read, judge, perhaps ask again. None: the run stops and the row stays unmarked."""
        reads = [self.reader.read(attempt, asked) for attempt in asked.attempts]
        for earlier in reads:
            self._spend(asked, earlier)
        sent = asked.sent
        while (step := self._next_step(asked, reads)) is not None:
            if step.wait_s:
                await asyncio.sleep(step.wait_s)
            sent += 1
            read = await self._ask(worker, asked, step, sent, after=_in_doubt(reads))
            if read is None:
                return None
            reads.append(read)
            if self._ends_the_run(read):
                return None
        return self._end(asked, reads)

    def _next_step(self, asked: Asked, reads: list[Read]) -> Ask | None:
        """What to do next for a row after these attempts; None when it has ended."""
        is_from_before = len(reads) == len(asked.attempts)
        if is_from_before and asked.is_ended:
            return None
        if not reads or (is_from_before and reads[-1].ends_nothing):
            return Ask(asked.request)
        last = reads[-1]
        if last.failure is None:
            return self._after_reply(asked, reads, last)
        step = self._after_failure(asked, reads, last.failure)
        return replace(step, wait_s=0.0) if step and is_from_before else step

    def _after_failure(self, asked: Asked, reads: list[Read], failure: Failure) -> Ask | None:
        tries = len(reads) - len(asked.attempts)  # an outage of yesterday takes none of today's
        ambiguous = sum(read.is_ambiguous for read in reads)
        wait_s = self.retry.decide(failure, attempt=tries, ambiguous=ambiguous, roll=self.roll())
        return None if wait_s is None else Ask(self._request_after(asked, reads), wait_s)

    def _after_reply(self, asked: Asked, reads: list[Read], last: Read) -> Ask | None:
        replies = sum(read.reply is not None for read in reads)
        if replies > self.reasks or last.reading is None or last.reading.status not in WORTH_REASKING:
            return None
        return Ask(self._request_after(asked, reads))

    def _request_after(self, asked: Asked, reads: list[Read]) -> Request:
        """The row's own request, or, where an invalid answer came, the follow-up that quotes it with its faults."""
        request = asked.request
        for read in reads:
            if read.reply is not None and read.reading is not None:
                problem = read.reading.error or read.reading.status
                request = self.reader.dialect.reask(request, read.reply, problem)
        return request

    async def _ask(self, worker: Worker, asked: Asked, step: Ask, number: int, *, after: str | None) -> Read | None:
        """One attempt: its answer is on disk before it is read. None: it was not sent, the run stops.

        `after` is how the one before it failed, where that may be billed.
        """
        http = self.reader.dialect.encode(step.request)
        async with self.gate.turn(self.estimate.tokens(len(http.body))) as turn:
            worker.is_busy = True
            try:
                if not self._note_sending(asked, number, after):
                    turn.settle(0)
                    return None
                attempt = await self._post(asked, http, number, turn.wait_s + step.wait_s)
            finally:
                worker.is_busy = False
            read = self.reader.read(attempt, asked)
            self._spend(asked, read)
            if read.usage.total_tokens is not None:
                turn.settle(read.usage.total_tokens)
                self.estimate.learn(len(http.body), read.usage)
            if read.failure is not None and read.failure.kind.rule.slows:
                self.gate.pause(self.retry.pause_s(read.failure))  # before anybody takes this place
        return read

    async def _post(self, asked: Asked, http: HttpRequest, number: int, wait_s: float) -> Attempt:
        """Send, and put what comes back on disk, before anything looks at it."""
        sent_at_s, clock = self.now_s(), asyncio.get_running_loop().time  # the other one may be set meanwhile
        began_s = clock()
        answer = await self.transport.post(http)
        attempt = Attempt(
            row=asked.row.index,
            number=number,
            request_hash=asked.request_hash,
            response=answer if isinstance(answer, HttpResponse) else None,
            failure=answer if isinstance(answer, Failure) else None,
            sent_at_s=sent_at_s,
            latency_s=clock() - began_s,
            wait_s=wait_s,
            endpoint=self.endpoint,
        )
        try:
            self.recorder.answered(attempt)
        except BatchcallError as error:
            self.stop(error)
        return attempt

    def _note_sending(self, asked: Asked, number: int, after: str | None) -> bool:
        if self.stopped is not None:
            return False
        try:
            self.recorder.about_to_send(asked.row.index, number, asked.request_hash, self.now_s(), after)
        except BatchcallError as error:  # no room for the answer: what is in flight has its room already
            self.stop(error)
            return False
        self.traffic.sent(after)
        return True

    def _spend(self, asked: Asked, read: Read) -> None:
        usage = read.usage
        if usage is not NO_USAGE:
            self.budget.spend(cost=self.reader.cost(asked, usage), tokens=usage.total_tokens)
        if (limit := self.budget.exhausted) is not None and self.stopped is None:
            self.stop(Stopped(limit, ExitCode.STOPPED_EARLY, _RAISE_IT))

    def _ends_the_run(self, read: Read) -> bool:
        """Let everybody learn from one attempt; True when it ends the run and so leaves its row unmarked."""
        if read.failure is None:
            self.traffic.answered += 1
            self.health.saw_reply()
            self._widen()
            return False
        verdict = self.health.saw(read.failure)
        if verdict is not None:
            self.stop(Stopped(verdict.reason, verdict.exit_code, verdict.hint))
        return verdict is not None

    def _end(self, asked: Asked, reads: list[Read]) -> Ended:
        last = reads[-1]
        if last.failure is not None and last.failure.kind.rule.scope is not Scope.ROW and not asked.is_ended:
            self._note_giving_up(asked)
        outcome = self.reader.outcome(asked, reads)
        self._count_paid(reads[len(asked.attempts) :])
        verdict = self.health.saw_row_end(outcome.status) if len(reads) > len(asked.attempts) else None
        if verdict is not None:
            self.stop(Stopped(verdict.reason, verdict.exit_code, verdict.hint))
        return Ended(asked.row, outcome, tuple(read.attempt for read in reads))

    def _count_paid(self, reads: list[Read]) -> None:
        is_paid = any(read.reply is not None for read in reads)
        if is_paid and not any(read.is_ambiguous for read in reads):
            self.traffic.rows_paid_once += 1

    def _note_giving_up(self, asked: Asked) -> None:
        try:
            self.recorder.gave_up(asked.row.index)
        except BatchcallError as error:
            self.stop(error)

    def _widen(self) -> None:
        allowed = self.health.allowed_in_flight(self.concurrency)
        if allowed != self._allowed:
            self._allowed = allowed
            self.gate.limit_in_flight(allowed)


def _in_doubt(reads: list[Read]) -> str | None:
    """How the last attempt failed, where it may be billed all the same."""
    last = reads[-1] if reads else None
    return last.failure.kind.label if last and last.failure is not None and last.is_ambiguous else None


_RAISE_IT = "raise it and run the same command to go on"
WORTH_REASKING = frozenset({Status.INVALID_ARGUMENTS, Status.BAD_JSON, Status.UNKNOWN_TOOL, Status.NO_CALL})
