"""Rows through a live endpoint: workers pull from a feed, each lives one row's whole life, and outcomes come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from batchcall.answers import WORTH_REASKING, AnswerParser, Ended, ParsedAttempt, Prepared, size_of, unread
from batchcall.base import (
    NO_USAGE,
    Attempt,
    BatchcallError,
    ExitCode,
    Failure,
    HttpResponse,
    Money,
    Quota,
    Request,
    Scope,
    Status,
    record,
)
from batchcall.engine.endpoint import Endpoint
from batchcall.engine.feed import Backlog, Feed, Results
from batchcall.engine.pool import Place, Pool
from batchcall.http import beside, is_long
from batchcall.pacing import Budget, ProxyCutoffs, RetryPolicy, Verdict, is_of_endpoint, may_doubt

Item = TypeVar("Item")


class Recorder(Protocol):
    """Where what is sent and received is made to last. Each raises OutputError when it cannot."""

    def about_to_send(self, row: int, number: int, request_hash: str, now_s: float, after: str | None) -> None: ...
    def as_written(self, attempt: Attempt) -> bytes: ...  # pure, for a thread: what `answered` writes
    def answered(self, attempt: Attempt, written: bytes | None = None) -> None: ...
    def begins_to_read(self, attempt: Attempt, *, is_beside: bool) -> None: ...
    def has_read(self, attempt: Attempt) -> None: ...
    def gave_up(self, row: int) -> None: ...


class Stopped(Exception):
    """The run ends before its input does: `exit_code` and `reason` say why; what is in flight is drained."""

    def __init__(self, reason: str, exit_code: ExitCode, hint: str = "", quota: Quota | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.exit_code = exit_code
        self.hint = hint
        self.quota = quota  # that is used up, where that is why


@dataclass(slots=True)
class Traffic:
    """What this run sent, whatever became of it."""

    requests: int = 0
    answered: int = 0  # requests that brought a completion, valid or not: these are paid
    rows_paid_once: int = 0  # that ended, and no request of theirs may have been billed in vain
    possibly_paid_twice: dict[str, int] = field(default_factory=dict)  # by reason
    in_doubt: int = 0  # of these, while the endpoint was up

    def sent(self, after: str | None) -> None:
        """A request was sent; `after` is how the one before it failed, where that may be billed."""
        self.requests += 1
        if after is not None:
            self.possibly_paid_twice[after] = self.possibly_paid_twice.get(after, 0) + 1


@record
class Retry:
    """The next thing to do for a row: send its request, after a wait."""

    wait_s: float = 0.0


@dataclass(slots=True, eq=False)
class Life:
    """A row on its way, and what was read of it so far."""

    prepared: Prepared
    reads: list[ParsedAttempt]
    sent: int  # requests over all runs, the lost ones included
    ambiguous: int  # failures that may be billed and count against the row
    tries: int = 0  # of this run; what fails while the endpoint is down is none
    probes: int = 0  # since it was last set aside
    began_s: float = -1.0  # when its first try was sent
    outages: int = 0  # that there had been when it was set aside
    is_final: bool = False  # not set aside any more
    is_unsent: bool = True  # it counts among those that wait to be sent for the first time
    failed_at: tuple[Endpoint, ...] = ()  # where others are asked first

    def request(self, endpoint: Endpoint) -> Request:
        """The row's own request, or, where an invalid answer came, the follow-up that quotes it with its faults."""
        request = self.prepared.request
        for read in self.reads:
            if read.reply is not None and read.result is not None:
                problem = read.result.error or read.result.status
                request = endpoint.dialect.reask(request, read.reply, problem)
        return request


@dataclass(slots=True, eq=False)
class Worker:
    """One of those that live rows, one after the other. A stop leaves it alone while it is busy."""

    task: asyncio.Task[None] | None = None
    is_busy: bool = False  # something is in flight, or an outcome is being handed over
    is_sending: bool = False  # a request of its row is in flight


@dataclass(slots=True)
class LiveEngine:
    """The endpoints of a job and the rules by which they are asked."""

    pool: Pool
    parser: AnswerParser
    retry: RetryPolicy
    budget: Budget
    recorder: Recorder
    reasks: int
    now_s: Callable[[], float]  # seconds since the epoch
    roll: Callable[[], float]  # a number in [0, 1)
    # As `AnswerParser.read`, in a process of its own; takes its time.
    reread: Callable[[Attempt, Request], ParsedAttempt]
    say: Callable[[str], None] = lambda note: None  # for what a person should know at once
    traffic: Traffic = field(default_factory=Traffic)
    grace_s: float | None = None  # that answers are awaited after a stop; None: until each is there or out of time
    stopped: Stopped | BatchcallError | None = None
    given_up: int = 0  # requests still in flight then: perhaps paid, and sent again by the next run
    _workers: list[Worker] = field(default_factory=list)
    waiting_retries: int = 0  # rows that wait to be tried again
    proxy_cutoffs: ProxyCutoffs = field(default_factory=ProxyCutoffs)
    _results: Results[Ended] | None = None
    _taking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _unsent: Backlog = field(default_factory=Backlog)
    _one_long: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))  # the answer read in a thread
    _aside: deque[Life] = field(default_factory=deque)  # rows that failed, the endpoint perhaps being down

    @contextlib.asynccontextmanager
    async def outcomes(
        self, feed: Feed[Item], prepare: Callable[[Item], Prepared | Ended]
    ) -> AsyncIterator[AsyncIterator[Ended]]:
        """Every row of the feed, as it ends; fewer when the run is stopped. Leaving the block ends the workers.

        `prepare` makes the question of a row when a worker takes it, or says at once how the row ended.
        """
        results: Results[Ended] = Results(most=4 * self.pool.most_in_flight, size_of=size_of)
        self._results = results
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self._run_workers(feed, prepare, results))
            try:
                yield results.take()
            finally:
                running.cancel()

    @property
    def bound_by(self) -> str:
        """What keeps more from going on: as `Gate.bound_by`, or "disk" while outcomes wait to be written."""
        return "disk" if self._results is not None and self._results.is_full else self.pool.bound_by

    def stop(self, why: Stopped | BatchcallError) -> None:
        """End the input early: nothing more is sent, what is in flight is awaited. The first reason counts."""
        if self.stopped is None:
            self.stopped = why
            if self.grace_s is not None:
                asyncio.get_running_loop().call_later(self.grace_s, self._give_up)
        for worker in self._workers:
            if worker.task is not None and not worker.is_busy:
                worker.task.cancel()

    def _give_up(self) -> None:
        """Await no more answers. The journal says what was sent, so the next run counts and sends it again."""
        for worker in self._workers:
            if worker.task is not None and worker.is_sending:
                self.given_up += worker.task.cancel()

    async def _run_workers(
        self, feed: Feed[Item], prepare: Callable[[Item], Prepared | Ended], results: Results[Ended]
    ) -> None:
        for endpoint in self.pool.endpoints:
            self.pool.obey(endpoint, asyncio.get_running_loop().time())
        if (limit := self.budget.exhausted) is not None:
            self.stop(Stopped(limit, ExitCode.STOPPED_EARLY, self.budget.hint))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.pool.most_in_flight):
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
        self, worker: Worker, feed: Feed[Item], prepare: Callable[[Item], Prepared | Ended], results: Results[Ended]
    ) -> None:
        while self.stopped is None and await self._has_lived_one(worker, feed, prepare, results):
            pass

    async def _has_lived_one(
        self, worker: Worker, feed: Feed[Item], prepare: Callable[[Item], Prepared | Ended], results: Results[Ended]
    ) -> bool:
        """One row from its taking to its end; whether there was one. What it held goes with it: of many workers most
        wait for their next row, and each row may be megabytes."""
        life = self._from_aside()
        if life is None:
            try:
                question = await self._next_question(feed, prepare)
                begun = await self._begun(question) if isinstance(question, Prepared) else None
            except BatchcallError as error:  # the input or the disk went bad midway: what is in flight is drained
                self.stop(error)
                return False
            if isinstance(question, Ended):
                await self._hand_over(worker, question, results)
                return True
            life = self._from_aside(is_end=True) if begun is None else begun
            if life is None:
                return False
        ended = await self._live(worker, life)
        self._no_longer_unsent(life)
        if ended is not None:
            await self._hand_over(worker, ended, results)
        return True

    async def _next_question(
        self, feed: Feed[Item], prepare: Callable[[Item], Prepared | Ended]
    ) -> Prepared | Ended | None:
        """The next row, once what others have taken and not sent yet leaves room for it; None when there is none."""
        async with self._taking:
            await self._unsent.room()
            item = await feed.next()
            question = None if item is None else prepare(item)
            if isinstance(question, Prepared):
                self._unsent.add(question.size)
            return question

    def _no_longer_unsent(self, life: Life) -> None:
        if life.is_unsent:
            life.is_unsent = False
            self._unsent.remove(life.prepared.size)

    async def _hand_over(self, worker: Worker, ended: Ended, results: Results[Ended]) -> None:
        worker.is_busy = True
        await results.put(ended)
        worker.is_busy = False

    async def _begun(self, prepared: Prepared) -> Life:
        reads = []
        for attempt in prepared.attempts:
            await asyncio.sleep(0)  # thousands may have their answers: signals are heard between any two
            reads.append(await self._read_again(attempt, prepared))
        return Life(prepared, reads, prepared.sent, sum(read.is_ambiguous for read in reads))

    async def _live(self, worker: Worker, life: Life) -> Ended | None:
        """One row's life: ask, read, judge, perhaps ask again. None: the row stays unmarked, as the run stops, or is
        set aside until it is known whether the endpoint is down."""
        while (step := self._next_step(life)) is not None:
            is_first = not life.tries
            place = self.pool.place(life.request, avoid=life.failed_at)
            read = await (
                self._send_once(worker, life, place) if is_first else self._send_again(worker, life, step, place)
            )
            if read is None:
                return None
            life.reads.append(read)
            if self._ends_the_run(place.endpoint, read) or self._is_set_aside(life):
                return None
        if self._may_be_an_outage(life):
            self._set_aside(life)
            return None
        return self._end(life)

    async def _send_again(self, worker: Worker, life: Life, step: Retry, place: Place) -> ParsedAttempt | None:
        self.waiting_retries += 1
        try:
            if step.wait_s:
                await asyncio.sleep(step.wait_s)
        finally:
            self.waiting_retries -= 1
        return await self._send_once(worker, life, place, waited_s=step.wait_s)

    def _next_step(self, life: Life) -> Retry | None:
        """What to do next for a row after these attempts; None when it has ended."""
        # By the last attempt:
        # - there is none, or it is of an earlier run and failed for the job's sake (a wrong key): send;
        # - it is of an earlier run, in which the row ended: it ends in the same way, and nothing is sent;
        # - it brought a reply: ask once more if that is invalid and `reasks` is not used up;
        # - it failed: the retry policy decides. A wait is not repeated for what failed in an earlier run.
        prepared, reads = life.prepared, life.reads
        is_from_before = len(reads) == len(prepared.attempts)
        if is_from_before and prepared.is_ended:
            return None
        if not reads or (is_from_before and reads[-1].ends_nothing):
            return Retry()
        last = reads[-1]
        if last.failure is None:
            return self._after_reply(reads, last)
        step = self._after_failure(life, last.failure)
        return replace(step, wait_s=0.0) if step and is_from_before else step

    def _after_failure(self, life: Life, failure: Failure) -> Retry | None:
        is_doubtful = bool(life.tries) and life.reads[-1].is_ambiguous  # in an outage such requests are few anyway
        if is_doubtful and not may_doubt(self.traffic.in_doubt, self.traffic.answered):
            return None
        wait_s = self.retry.decide(failure, attempt=life.tries, ambiguous=life.ambiguous, roll=self.roll())
        if wait_s is None:
            return None
        self.traffic.in_doubt += is_doubtful
        return Retry(0.0 if self._need_not_wait(life) else wait_s)

    def _need_not_wait(self, life: Life) -> bool:
        """Others can be asked meanwhile, each once; or the next to be asked is held until a moment of its own."""
        living = self.pool.living
        if life.tries < len(living) and not all(one in life.failed_at or one.is_held for one in living):
            return True
        return all(one.pacer.is_down for one in living)

    def _after_reply(self, reads: list[ParsedAttempt], last: ParsedAttempt) -> Retry | None:
        replies = sum(read.reply is not None for read in reads)
        if replies > self.reasks or last.result is None or last.result.status not in WORTH_REASKING:
            return None
        return Retry()

    async def _send_once(
        self, worker: Worker, life: Life, place: Place, *, waited_s: float = 0.0
    ) -> ParsedAttempt | None:
        """One attempt: its answer is on disk before it is read. None: it was not sent, the run stops."""
        prepared, clock = life.prepared, asyncio.get_running_loop().time
        async with place:
            self._no_longer_unsent(life)
            endpoint, turn = place.endpoint, place.turn
            worker.is_busy = True
            try:
                if not self._note_sending(prepared, life.sent + 1, _in_doubt(life.reads)):
                    turn.settle(0)
                    return None
                life.sent += 1
                if life.began_s < 0:
                    life.began_s = turn.through_at_s
                endpoint.requests += 1
                endpoint.pacer.sent(turn.through_at_s)
                if endpoint.pacer.is_ramping:
                    self.pool.obey(endpoint, turn.through_at_s)
                worker.is_sending = True
                attempt = await self._post(prepared, place, life.sent, place.wait_s + waited_s)
                worker.is_sending = False
                read = (
                    await self._read_beside(attempt, prepared)
                    if is_long(attempt)
                    else self.parser.read(attempt, prepared)
                )
            finally:
                worker.is_busy = worker.is_sending = False
            self._spend(prepared, read)
            if read.usage.total_tokens is not None:
                turn.settle(read.usage.total_tokens)
                endpoint.pacer.estimate.learn(len(place.http.body), read.usage)
            elif read.failure is not None and read.failure.kind.rule.money in (Money.REFUSED, Money.UNSENT):
                turn.settle(0)
            self._learn(life, endpoint, read, turn.through_at_s, clock())  # before anybody takes this place
        return read

    def _learn(self, life: Life, endpoint: Endpoint, read: ParsedAttempt, sent_at_s: float, now_s: float) -> None:
        """What one attempt says of the endpoint; and whether it counts as one of the row's tries."""
        failure = read.failure
        endpoint.learn(life.prepared.row.index, read, sent_at_s=sent_at_s, now_s=now_s, roll=self.roll())
        if failure is None:
            life.tries += 1
            life.failed_at = ()
        else:
            self._count_try(life, endpoint, failure, is_ambiguous=read.is_ambiguous)
            self.proxy_cutoffs.saw(failure, now_s - sent_at_s)
        endpoint.read_headers(read, now_s=now_s, epoch_s=self.now_s())
        self.pool.obey(endpoint, now_s)

    def _count_try(self, life: Life, endpoint: Endpoint, failure: Failure, *, is_ambiguous: bool) -> None:
        if endpoint not in life.failed_at:
            life.failed_at = (*life.failed_at, endpoint)
        others_may_serve_it = any(one not in life.failed_at for one in self.pool.living)
        if endpoint.takes_no_try(failure):
            life.probes += 1
        elif failure.kind.rule.scope is not Scope.JOB or not others_may_serve_it:
            life.tries += 1
            life.ambiguous += is_ambiguous

    async def _post(self, prepared: Prepared, place: Place, number: int, wait_s: float) -> Attempt:
        """Send, and put what comes back on disk, before anything looks at it."""
        sent_at_s, clock = self.now_s(), asyncio.get_running_loop().time  # the other one may be set meanwhile
        began_s, endpoint = clock(), place.endpoint
        answer = await endpoint.transport.post(place.http)
        attempt = Attempt(
            row=prepared.row.index,
            number=number,
            request_hash=prepared.request_hash,
            response=answer if isinstance(answer, HttpResponse) else None,
            failure=answer if isinstance(answer, Failure) else None,
            sent_at_s=sent_at_s,
            latency_s=clock() - began_s,
            wait_s=wait_s,
            endpoint=endpoint.name,
            protocol=endpoint.dialect.name if endpoint.names_protocol else None,
            model=endpoint.model,
        )
        written = await self._written(attempt) if is_long(attempt) else None
        self._note_answer(attempt, written)
        return attempt

    async def _written(self, attempt: Attempt) -> bytes:
        try:
            return await beside(lambda: self.recorder.as_written(attempt))
        except asyncio.CancelledError:  # stopped at once: what arrived is kept all the same
            self._note_answer(attempt)
            raise

    def _note_answer(self, attempt: Attempt, written: bytes | None = None) -> None:
        try:
            self.recorder.answered(attempt, written)
        except BatchcallError as error:
            self.stop(error)

    async def _read_again(self, attempt: Attempt, prepared: Prepared) -> ParsedAttempt:
        """An answer of an earlier run. One over which that may have died is read in a process of its own."""
        if attempt.number in prepared.unsure and attempt.failure is None:
            async with self._one_long:
                read = await beside(lambda: self.reread(attempt, prepared.request))
            self._note(self.recorder.has_read, read.attempt)
            return read
        if is_long(attempt):
            return await self._read_beside(attempt, prepared)
        self._note(lambda one: self.recorder.begins_to_read(one, is_beside=False), attempt)
        return self.parser.read(attempt, prepared)

    async def _read_beside(self, attempt: Attempt, prepared: Prepared) -> ParsedAttempt:
        """A long answer, read in a thread, one at a time: they share the interpreter. Cancelled, it is left behind; it
        is on disk."""
        async with self._one_long:
            self._note(lambda one: self.recorder.begins_to_read(one, is_beside=True), attempt)
            try:
                read = await beside(lambda: self.parser.read(attempt, prepared), limit_s=READING_LIMIT_S)
            except TimeoutError:
                read = unread(attempt, f"it takes more than {READING_LIMIT_S:g} s to read")
                read = replace(read, attempt=replace(attempt, failure=read.failure))
            self._note(self.recorder.has_read, read.attempt)
            return read

    def _note(self, put_down: Callable[[Attempt], None], attempt: Attempt) -> None:
        try:
            put_down(attempt)
        except BatchcallError as error:
            self.stop(error)

    def _note_sending(self, prepared: Prepared, number: int, after: str | None) -> bool:
        if self.stopped is not None:
            return False
        try:
            self.recorder.about_to_send(prepared.row.index, number, prepared.request_hash, self.now_s(), after)
        except BatchcallError as error:  # no room for the answer: what is in flight has its room already
            self.stop(error)
            return False
        self.traffic.sent(after)
        return True

    def _spend(self, prepared: Prepared, read: ParsedAttempt) -> None:
        usage = read.usage
        if usage != NO_USAGE or read.reply is not None:
            self.budget.spend(cost=self.parser.cost(prepared, read), tokens=usage.total_tokens)
        if (limit := self.budget.exhausted) is not None and self.stopped is None:
            self.stop(Stopped(limit, ExitCode.STOPPED_EARLY, self.budget.hint))

    def _ends_the_run(self, endpoint: Endpoint, read: ParsedAttempt) -> bool:
        """Let everybody learn from one attempt; True when it ends the run and so leaves its row unmarked."""
        self.traffic.answered += read.failure is None
        verdict = endpoint.judge(read, asyncio.get_running_loop().time())
        return verdict is not None and not self._go_on_without(endpoint, verdict)

    def _go_on_without(self, endpoint: Endpoint, verdict: Verdict) -> bool:
        """An endpoint serves this job no more; where it was the last one, the run ends."""
        was_there = endpoint.left is None
        if self.pool.leave(endpoint, verdict):
            if was_there:
                self.say(f"{endpoint.name} is not asked any more: {verdict.reason}. {len(self.pool.living)} left")
            return True
        last = self.pool.verdict
        self.stop(Stopped(last.reason, last.exit_code, last.hint, last.quota))
        return False

    # An outage must fail no row, and a row that breaks the server must not hide as an outage. So a row that failed
    # while nothing else was answered is set aside instead of ended. It goes on
    # - with all its tries again, if the endpoint was down and has come back;
    # - for the last time, if the endpoint answers other rows (then the row is at fault) or no other row is left.

    def _is_set_aside(self, life: Life) -> bool:
        """Whether another row takes its turn at asking endpoints that are down: this one has done so often enough."""
        if not (self.pool.is_down and life.probes >= _PROBES_OF_A_ROW and not life.is_final):
            return False
        self._set_aside(life)
        return True

    def _may_be_an_outage(self, life: Life) -> bool:
        """The row has used up its tries, and nothing was answered meanwhile: it may not be the row's fault."""
        failure = life.reads[-1].failure
        if failure is None or not is_of_endpoint(failure) or not life.tries or life.is_final:
            return False
        return self.pool.last_good_s <= life.began_s

    def _set_aside(self, life: Life) -> None:
        pool = self.pool
        life.outages = pool.outages - pool.is_down  # one that is under way is one it has not seen the end of
        life.probes = 0
        for endpoint in pool.living:
            if not endpoint.pacer.breaker.is_open:
                endpoint.pacer.breaker.gave_up()
        self._aside.append(life)

    def _from_aside(self, *, is_end: bool = False) -> Life | None:
        """A row that can go on: the endpoint came back, or answers others and so the row is at fault itself.

        `is_end`: there are no other rows left to learn from.
        """
        pool = self.pool
        if not self._aside or (pool.is_down and not is_end):
            return None
        life = self._aside[0]
        was_down = pool.outages > life.outages
        if not was_down and not is_end and pool.last_good_s <= life.began_s:
            return None
        self._aside.popleft()
        if was_down:
            life.tries, life.ambiguous, life.began_s = 0, 0, -1.0
        life.is_final = not was_down or is_end
        return life

    def _end(self, life: Life) -> Ended:
        prepared, reads = life.prepared, life.reads
        last = reads[-1]
        if last.failure is not None and last.failure.kind.rule.scope is not Scope.ROW and not prepared.is_ended:
            self._note_giving_up(prepared)
        outcome = self.parser.outcome(prepared, reads)
        is_paid = any(read.reply is not None for read in reads[len(prepared.attempts) :])
        if is_paid and not any(read.is_ambiguous for read in reads[len(prepared.attempts) :]):
            self.traffic.rows_paid_once += 1
        if len(reads) > len(prepared.attempts):
            self._sample(last.attempt.endpoint, outcome.status)
        return Ended(prepared.row, outcome, tuple(read.attempt for read in reads))

    def _sample(self, name: str, status: Status) -> None:
        """The first rows may show a fault that no single answer names: of the job, or of one endpoint of several."""
        verdict = self.pool.saw_row_end(status)
        if verdict is not None:
            self.stop(Stopped(verdict.reason, verdict.exit_code, verdict.hint))
        endpoint = next(one for one in self.pool.endpoints if one.name == name)
        verdict = endpoint.health.saw_row_end(status)
        if verdict is not None:
            self._go_on_without(endpoint, verdict)

    def _note_giving_up(self, prepared: Prepared) -> None:
        try:
            self.recorder.gave_up(prepared.row.index)
        except BatchcallError as error:
            self.stop(error)


_PROBES_OF_A_ROW = 3
READING_LIMIT_S = 60.0  # for one answer in a thread; then its row ends


def _in_doubt(reads: list[ParsedAttempt]) -> str | None:
    """How the last attempt failed, where it may be billed all the same."""
    last = reads[-1] if reads else None
    return last.failure.kind.label if last and last.failure is not None and last.is_ambiguous else None
