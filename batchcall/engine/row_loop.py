"""Rows through a live endpoint: workers pull from a feed, each lives one row's whole life, and outcomes come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import ParamSpec, Protocol, TypeVar

from batchcall.answers import WORTH_REASKING, AnswerParser, Ended, ParsedAttempt, Prepared, size_of, unread
from batchcall.base import (
    NO_USAGE,
    Attempt,
    BatchcallError,
    Failure,
    HttpResponse,
    Money,
    Request,
    Scope,
    Status,
)
from batchcall.engine.endpoint import Endpoint
from batchcall.engine.feed import Backlog, Feed, Results
from batchcall.engine.pool import Place, Pool
from batchcall.http import beside, is_long
from batchcall.pacing import Budget, ProxyCutoffs, RetryPolicy, Verdict, is_of_endpoint, may_doubt

Item = TypeVar("Item")
P = ParamSpec("P")
Take = Callable[[], Awaitable[Prepared | Ended | None]]  # the next row, prepared; None: there are no more


class Recorder(Protocol):
    """Where what is sent and received is made to last. Each raises OutputError when it cannot."""

    def about_to_send(self, row: int, number: int, request_hash: str, now_s: float, after: str | None) -> None: ...
    def as_written(self, attempt: Attempt) -> bytes: ...  # pure, for a thread: what `answered` writes
    def answered(self, attempt: Attempt, written: bytes | None = None) -> None: ...
    def begins_to_read(self, attempt: Attempt, *, is_beside: bool) -> None: ...
    def has_read(self, attempt: Attempt) -> None: ...
    def gave_up(self, row: int) -> None: ...


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


@dataclass(slots=True, eq=False)
class Life:
    """A row on its way, and what was read of it so far."""

    prepared: Prepared
    reads: list[ParsedAttempt]
    sent: int  # requests over all runs, the lost ones included
    ambiguous: int  # failures that may be billed and count against the row
    tries: int = 0  # of this run; a failure while the endpoint is down does not count
    probes: int = 0  # requests that only found the endpoint down, since the row was last set aside
    began_s: float = -1.0  # when its first try was sent
    outages: int = 0  # how many outages had ended when it was set aside
    is_final: bool = False  # it is not set aside again
    is_unsent: bool = True  # it counts among those that wait to be sent for the first time
    failed_at: tuple[Endpoint, ...] = ()  # since its last reply; others are asked first

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
    """A task that takes one row after the other. A stop leaves it alone while it is busy."""

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
    # As `AnswerParser.read`, in a process of its own; may take a minute, so it is called in a thread.
    reread: Callable[[Attempt, Request], ParsedAttempt]
    say: Callable[[str], None] = lambda note: None  # for what a person should know at once
    traffic: Traffic = field(default_factory=Traffic)
    grace_s: float | None = None  # that answers are awaited after a stop; None: until each is there or out of time
    stopped: Verdict | BatchcallError | None = None
    given_up: int = 0  # requests still in flight then: perhaps paid, and sent again by the next run
    waiting_retries: int = 0  # rows that wait to be tried again
    proxy_cutoffs: ProxyCutoffs = field(default_factory=ProxyCutoffs)
    _workers: list[Worker] = field(default_factory=list)
    _results: Results[Ended] = field(default_factory=lambda: Results(most=1))
    _taking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _unsent: Backlog = field(default_factory=Backlog)
    _one_long: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))  # the answer read in a thread
    _aside: deque[Life] = field(default_factory=deque)  # rows that failed, the endpoint perhaps being down

    @contextlib.asynccontextmanager
    async def outcomes(
        self, feed: Feed[Item], prepare: Callable[[Item], Prepared | Ended]
    ) -> AsyncIterator[AsyncIterator[Ended]]:
        """Every row of the feed, as it ends; fewer when the run is stopped. Leaving the block ends the workers.

        `prepare` makes the request of a row when a worker takes it, or returns at once how the row ended.
        """

        async def take() -> Prepared | Ended | None:
            item = await feed.next()
            return None if item is None else prepare(item)

        self._results = Results(most=4 * self.pool.most_in_flight, size_of=size_of)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self._run_workers(take, feed.close))
            try:
                yield self._results.take()
            finally:
                running.cancel()

    @property
    def bound_by(self) -> str:
        """What keeps more from going on: as `Gate.bound_by`, or "disk" while outcomes wait to be written."""
        return "disk" if self._results.is_full else self.pool.bound_by

    def stop(self, why: Verdict | BatchcallError) -> None:
        """End the input early: nothing more is sent, what is in flight is awaited. The first reason counts."""
        # Busy workers are left alone: what they await may be paid for. One that waits for a row, at the gate or for its
        # retry holds nothing that the next run could not do again.
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

    async def _run_workers(self, take: Take, close: Callable[[], Awaitable[None]]) -> None:
        for endpoint in self.pool.endpoints:
            self.pool.obey(endpoint, asyncio.get_running_loop().time())
        if (spent := self.budget.verdict) is not None:
            self.stop(spent)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.pool.most_in_flight):
                    worker = Worker()
                    worker.task = group.create_task(self._work(worker, take))
                    self._workers.append(worker)
                if self.stopped is not None:  # before the first worker ran
                    self.stop(self.stopped)
        finally:
            self._workers.clear()
            await close()
        self._results.close()

    async def _work(self, worker: Worker, take: Take) -> None:
        while self.stopped is None and await self._has_lived_one(worker, take):
            pass

    async def _has_lived_one(self, worker: Worker, take: Take) -> bool:
        """Take one row and follow it to its end. Returns whether there was one.

        A function of its own so that its variables go with it: most of many workers wait for their next row, and each
        row may be megabytes.
        """
        life = self._from_aside()
        if life is None:
            try:
                # One at a time, and only once what others have taken and not sent yet leaves room for it: at a slow
                # endpoint thousands of workers would otherwise each hold a request that waits for its turn.
                async with self._taking:
                    await self._unsent.room()
                    prepared = await take()
                    if isinstance(prepared, Prepared):
                        self._unsent.add(prepared.size)
                begun = await self._begun(prepared) if isinstance(prepared, Prepared) else None
            except BatchcallError as error:  # the input or the disk went bad midway: what is in flight is awaited
                self.stop(error)
                return False
            if isinstance(prepared, Ended):
                await self._hand_over(worker, prepared)
                return True
            life = self._from_aside(is_end=True) if begun is None else begun
            if life is None:
                return False
        ended = await self._live(worker, life)
        self._no_longer_unsent(life)  # a row that ended without a request of this run
        if ended is not None:
            await self._hand_over(worker, ended)
        return True

    def _no_longer_unsent(self, life: Life) -> None:
        if life.is_unsent:
            life.is_unsent = False
            self._unsent.remove(life.prepared.size)

    async def _hand_over(self, worker: Worker, ended: Ended) -> None:
        worker.is_busy = True
        await self._results.put(ended)
        worker.is_busy = False

    async def _begun(self, prepared: Prepared) -> Life:
        reads = []
        for attempt in prepared.attempts:
            await asyncio.sleep(0)  # thousands of rows may have theirs: signals are noticed between any two
            reads.append(await self._read_again(attempt, prepared))
        return Life(prepared, reads, prepared.sent, sum(read.is_ambiguous for read in reads))

    # A row's life: send, read, judge, perhaps send again. It leaves the loop below in one of four ways.
    # - Ended: a valid reply, an invalid one that is not asked about again, or a failure that is final. One outcome.
    # - The run stops before the row's next request is sent: no outcome. The next run goes on with the answers that the
    #   row has in the journal.
    # - The row's answer shows that the run must end (a wrong key, a spent quota): no outcome either. What is wrong is
    #   not the row, so it must not be marked as failed.
    # - Set aside: its failures may be an outage; see `_set_aside`.

    async def _live(self, worker: Worker, life: Life) -> Ended | None:
        """One row's life. None: it has no outcome yet, since the run stops or it was set aside."""
        while (wait_s := self._wait_before_next(life)) is not None:
            place = self.pool.place(life.request, avoid=life.failed_at)
            if life.tries:
                self.waiting_retries += 1
                try:
                    if wait_s:
                        await asyncio.sleep(wait_s)
                finally:
                    self.waiting_retries -= 1
            read = await self._send_once(worker, life, place, waited_s=wait_s)
            if read is None:
                return None
            life.reads.append(read)
            self.traffic.answered += read.failure is None
            verdict = place.endpoint.judge(read, asyncio.get_running_loop().time())
            if verdict is not None and not self._go_on_without(place.endpoint, verdict):
                return None
            # It has probed endpoints that are down often enough. Another row takes its turn: if this one breaks the
            # server, its probes would keep the breaker open for all.
            if self.pool.is_down and life.probes >= _PROBES_OF_A_ROW and not life.is_final:
                self._set_aside(life)
                return None
        failure = life.reads[-1].failure
        may_be_outage = failure is not None and is_of_endpoint(failure) and bool(life.tries)
        if (
            may_be_outage and not life.is_final and self.pool.last_good_s <= life.began_s
        ):  # nothing was answered meanwhile
            self._set_aside(life)
            return None
        return self._end(life)

    def _wait_before_next(self, life: Life) -> float | None:
        """The seconds to wait before this row's next request; None when it has ended."""
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
            return 0.0
        last = reads[-1]
        if last.failure is None:
            replies = sum(read.reply is not None for read in reads)
            is_invalid = last.result is not None and last.result.status in WORTH_REASKING
            return 0.0 if is_invalid and replies <= self.reasks else None

        # What may be billed already is sent again for a share of the job's rows only: an endpoint that loses every
        # other answer would otherwise be paid twice for each. In an outage such requests are few anyway.
        is_doubtful = bool(life.tries) and last.is_ambiguous
        if is_doubtful and not may_doubt(self.traffic.in_doubt, self.traffic.answered):
            return None
        wait_s = self.retry.decide(last.failure, attempt=life.tries, ambiguous=life.ambiguous, roll=self.roll())
        if wait_s is None:
            return None
        self.traffic.in_doubt += is_doubtful

        # The wait is for the endpoint that failed. So there is none while others can be asked, each once; nor while
        # all are down, or after a failure that took no try: then the gate holds the row for as long as it takes.
        living = self.pool.living
        has_others = life.tries < len(living) and not all(one in life.failed_at or one.is_held for one in living)
        need_not_wait = is_from_before or not life.tries or has_others or all(one.pacer.is_down for one in living)
        return 0.0 if need_not_wait else wait_s

    async def _send_once(self, worker: Worker, life: Life, place: Place, *, waited_s: float) -> ParsedAttempt | None:
        """One attempt: its answer is on disk before it is read. None: it was not sent, the run stops."""
        prepared, clock = life.prepared, asyncio.get_running_loop().time
        async with place:
            self._no_longer_unsent(life)
            endpoint, turn = place.endpoint, place.turn
            worker.is_busy = True
            try:
                # In this order, with no await between: the run may have stopped while the row waited at the gate, and
                # a request counts as sent only once the journal says so and has room for its answer.
                number, last = life.sent + 1, life.reads[-1] if life.reads else None
                after = last.failure.kind.label if last and last.failure and last.is_ambiguous else None
                if self.stopped is not None or not self._note(
                    self.recorder.about_to_send, prepared.row.index, number, prepared.request_hash, self.now_s(), after
                ):
                    turn.settle(0)
                    return None
                self.traffic.sent(after)
                life.sent = number
                if life.began_s < 0:
                    life.began_s = turn.through_at_s
                endpoint.requests += 1
                endpoint.pacer.sent(turn.through_at_s)
                if endpoint.pacer.is_ramping:
                    self.pool.obey(endpoint, turn.through_at_s)
                worker.is_sending = True
                attempt = await self._post(prepared, place, number, place.wait_s + waited_s)
                worker.is_sending = False
                read = (
                    await self._read_beside(attempt, prepared)
                    if is_long(attempt)
                    else self.parser.read(attempt, prepared)
                )
            finally:
                worker.is_busy = worker.is_sending = False

            usage = read.usage
            if usage != NO_USAGE or read.reply is not None:
                self.budget.spend(cost=self.parser.cost(prepared, read), tokens=usage.total_tokens)
            if (spent := self.budget.verdict) is not None and self.stopped is None:
                self.stop(spent)

            # What was reserved at the gate becomes what was used. An answer without a count keeps its reservation:
            # the provider may have counted it, and the estimate is the best guess.
            if usage.total_tokens is not None:
                turn.settle(usage.total_tokens)
                endpoint.pacer.estimate.learn(len(place.http.body), usage)
            elif read.failure is not None and read.failure.kind.rule.money in (Money.REFUSED, Money.UNSENT):
                turn.settle(0)

            # Inside the block: the pacer must have seen this answer before the next row gets the place. Otherwise a
            # 429 would let one more request go at the old pace.
            self._learn(life, endpoint, read, turn.through_at_s, clock())
        return read

    def _learn(self, life: Life, endpoint: Endpoint, read: ParsedAttempt, sent_at_s: float, now_s: float) -> None:
        """Pass on what one attempt says of the endpoint, and count it as one of the row's tries if it is one."""
        failure = read.failure
        endpoint.learn(life.prepared.row.index, read, sent_at_s=sent_at_s, now_s=now_s, roll=self.roll())
        if failure is None:
            life.tries += 1
            life.failed_at = ()
        else:
            if endpoint not in life.failed_at:
                life.failed_at = (*life.failed_at, endpoint)
            # Two failures do not count as a try of the row: one that only showed that the endpoint is down, and a wrong
            # key of one endpoint while others may serve it.
            others_may_serve_it = any(one not in life.failed_at for one in self.pool.living)
            if endpoint.takes_no_try(failure):
                life.probes += 1
            elif failure.kind.rule.scope is not Scope.JOB or not others_may_serve_it:
                life.tries += 1
                life.ambiguous += read.is_ambiguous
            self.proxy_cutoffs.saw(failure, now_s - sent_at_s)
        endpoint.read_headers(read, now_s=now_s, epoch_s=self.now_s())
        self.pool.obey(endpoint, now_s)

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
        written = None
        if is_long(attempt):
            try:
                written = await beside(lambda: self.recorder.as_written(attempt))
            except asyncio.CancelledError:  # stopped at once: what arrived is kept all the same
                self._note(self.recorder.answered, attempt)
                raise
        self._note(self.recorder.answered, attempt, written)
        return attempt

    async def _read_again(self, attempt: Attempt, prepared: Prepared) -> ParsedAttempt:
        """An answer of an earlier run. One whose reading may have killed that run is read in a process of its own."""
        if attempt.number in prepared.unsure and attempt.failure is None:
            async with self._one_long:
                read = await beside(lambda: self.reread(attempt, prepared.request))
            self._note(self.recorder.has_read, read.attempt)
            return read
        if is_long(attempt):
            return await self._read_beside(attempt, prepared)
        self._note(self.recorder.begins_to_read, attempt, is_beside=False)
        return self.parser.read(attempt, prepared)

    async def _read_beside(self, attempt: Attempt, prepared: Prepared) -> ParsedAttempt:
        """A long answer, read in a thread, one at a time: they share the interpreter. If cancelled, the thread is left
        behind; the answer is on disk."""
        async with self._one_long:
            self._note(self.recorder.begins_to_read, attempt, is_beside=True)
            try:
                read = await beside(lambda: self.parser.read(attempt, prepared), limit_s=READING_LIMIT_S)
            except TimeoutError:
                read = unread(attempt, f"it takes more than {READING_LIMIT_S:g} s to read")
                read = replace(read, attempt=replace(attempt, failure=read.failure))
            self._note(self.recorder.has_read, read.attempt)
            return read

    def _note(self, put_down: Callable[P, None], *fields: P.args, **named: P.kwargs) -> bool:
        """Whether it is in the journal. If not (the disk is full, the folder is gone), the run stops: nothing more is
        sent, and what is in flight has its room on disk already."""
        try:
            put_down(*fields, **named)
        except BatchcallError as error:
            self.stop(error)
            return False
        return True

    def _go_on_without(self, endpoint: Endpoint, verdict: Verdict) -> bool:
        """An endpoint serves this job no more; where it was the last one, the run ends."""
        was_there = endpoint.left is None
        if self.pool.leave(endpoint, verdict):
            if was_there:
                self.say(f"{endpoint.name} is no longer used: {verdict.reason}. {len(self.pool.living)} left")
            return True
        self.stop(self.pool.verdict)
        return False

    # An outage must fail no row, and a row that breaks the server must not hide as an outage. So a row that failed
    # while nothing else was answered is set aside instead of ended. It goes on
    # - with all its tries again, if the endpoint was down and has come back;
    # - for the last time, if the endpoint answers other rows (then the row is at fault) or no other row is left.

    def _set_aside(self, life: Life) -> None:
        pool = self.pool
        life.outages = pool.outages - pool.is_down  # the end of one that is under way is still to come
        life.probes = 0
        for endpoint in pool.living:
            if not endpoint.pacer.breaker.is_open:
                endpoint.pacer.breaker.gave_up()
        self._aside.append(life)

    def _from_aside(self, *, is_end: bool = False) -> Life | None:
        """A row that can go on: the endpoint came back, or answers others and so the row is at fault itself.

        `is_end`: there are no other rows left to learn from.
        """
        # Only the oldest is looked at: it has waited longest, and the others were set aside for the same reason.
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
        # A reply, or a failure of the row itself, ends the row whoever reads it again. That the tries are used up is
        # seen in no attempt: after a crash the next run would try on, so the journal gets a line that says it.
        if last.failure is not None and last.failure.kind.rule.scope is not Scope.ROW and not prepared.is_ended:
            self._note(self.recorder.gave_up, prepared.row.index)
        outcome = self.parser.outcome(prepared, reads)
        is_paid = any(read.reply is not None for read in reads[len(prepared.attempts) :])
        if is_paid and not any(read.is_ambiguous for read in reads[len(prepared.attempts) :]):
            self.traffic.rows_paid_once += 1
        if len(reads) > len(prepared.attempts):
            self._sample(last.attempt.endpoint, outcome.status)
        return Ended(prepared.row, outcome, tuple(read.attempt for read in reads))

    def _sample(self, name: str, status: Status) -> None:
        """The first rows may show a fault that no single answer names: of the job, or of one endpoint of several."""
        sample = self.pool.sample
        if sample is not None and (verdict := sample.saw_row_end(status)) is not None:
            self.stop(verdict)
        endpoint = next(one for one in self.pool.endpoints if one.name == name)
        if (verdict := endpoint.health.saw_row_end(status)) is not None:
            self._go_on_without(endpoint, verdict)


_PROBES_OF_A_ROW = 3
READING_LIMIT_S = 60.0  # for one answer in a thread; then its row ends
