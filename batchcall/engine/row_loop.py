"""Rows through a live endpoint: lanes pull from a feed, each lives one row's whole life, and outcomes come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from batchcall.answers import AnswerParser, Ended, ParsedAttempt, Prepared, size_of
from batchcall.base import Attempt, BatchcallError, Failure, HttpResponse, Request
from batchcall.dialects import read_limits
from batchcall.engine.feed import Backlog, Feed, Results
from batchcall.engine.reading import Reading, Recorder
from batchcall.engine.row_retry import RowRetry, Rules, Send, Stay
from batchcall.engine.steering import Came, Place, Steering
from batchcall.engine.waiting_room import WaitingRoom
from batchcall.http import is_long
from batchcall.pacing import RetryPolicy, Verdict

Item = TypeVar("Item")
Take = Callable[[], Awaitable[Prepared | Ended | None]]  # the next row, prepared; None: there are no more


class Lane:
    """A task that takes one row after the other. A stop leaves it alone while it is busy."""

    def __init__(self) -> None:  # not a Struct: to set an attribute of one takes three times as long
        self.task: asyncio.Task[None] | None = None
        self.is_busy = False  # something is in flight, or an outcome is being handed over
        self.is_sending = False  # a request of its row is in flight


class LiveEngine:
    """The endpoints of a job and the rules by which they are asked. For one event loop."""

    def __init__(
        self,
        *,
        steering: Steering,
        parser: AnswerParser,
        retry: RetryPolicy,
        recorder: Recorder,
        reasks: int,
        now_s: Callable[[], float],
        roll: Callable[[], float],
        reread: Callable[[Attempt, Request], ParsedAttempt],
        grace_s: float | None = None,
    ) -> None:
        """`now_s` is in seconds since the epoch, `roll` a number in [0, 1).

        `reread` reads as the parser does, in a process of its own; it may take a minute, so it is called in a thread.
        `grace_s` is how long answers are awaited after a stop; None: until each is there or out of time.
        """
        self.steering = steering
        self.parser = parser
        self.stopped: Verdict | BatchcallError | None = None
        self.given_up = 0  # requests still in flight then: perhaps paid, and sent again by the next run
        self.waiting_retries = 0  # rows that wait to be tried again
        self._rules = Rules(retry, reasks)
        self._recorder = recorder
        self._reading = Reading(recorder, parser, reread=reread, stop=self.stop)
        self._now_s = now_s
        self._clock = now_s  # that of the loop, as soon as there is one
        self._roll = roll
        self._grace_s = grace_s
        self._lanes: list[Lane] = []
        self._results: Results[Ended] = Results(most=1, size_of=size_of)
        self._unsent = Backlog()
        self._one_waits = asyncio.Lock()  # for room there: the next one only when the first has taken its row
        self._aside = WaitingRoom(steering.around)
        steering.stop = self.stop

    @contextlib.asynccontextmanager
    async def outcomes(
        self, feed: Feed[Item], prepare: Callable[[Item], Prepared | Ended]
    ) -> AsyncIterator[AsyncIterator[Ended]]:
        """Every row of the feed, as it ends; fewer when the run is stopped. Leaving the block ends the lanes.

        `prepare` makes the request of a row when a lane takes it, or returns at once how the row ended.
        """

        async def take() -> Prepared | Ended | None:
            # Only once what others have taken and not sent yet leaves room for it: at a slow endpoint thousands of
            # lanes would otherwise each hold a request that waits for its turn. And not while outcomes wait to be
            # written: a row that an earlier run has paid for ends at once, and its answer may be large.
            while self._results.is_full or not self._unsent.has_room or not feed.items:
                if self._results.is_full:
                    await self._results.room()
                elif not self._unsent.has_room:
                    async with self._one_waits:
                        await self._unsent.room()
                elif not await feed.filled():
                    return None
            return prepare(feed.items.popleft())

        self._clock = asyncio.get_running_loop().time
        self._results = Results(most=4 * self.steering.most_in_flight, size_of=size_of)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self._run_lanes(take, feed.close))
            try:
                yield self._results.take()
            finally:
                running.cancel()

    @property
    def bound_by(self) -> str:
        """What keeps more from going on: as `Gate.bound_by`, or "disk" while outcomes wait to be written."""
        return "disk" if self._results.is_full else self.steering.bound_by

    def stop(self, why: Verdict | BatchcallError) -> None:
        """End the input early: nothing more is sent, what is in flight is awaited. The first reason counts."""
        # Busy lanes are left alone: what they await may be paid for. One that waits for a row, at the gate or for its
        # retry holds nothing that the next run could not do again.
        if self.stopped is None:
            self.stopped = why
            self.steering.stopping(why)
            if self._grace_s is not None:
                asyncio.get_running_loop().call_later(self._grace_s, self._give_up)
        for lane in self._lanes:
            if lane.task is not None and not lane.is_busy:
                lane.task.cancel()

    def _give_up(self) -> None:
        """Await no more answers. The journal says what was sent, so the next run counts and sends it again."""
        for lane in self._lanes:
            if lane.task is not None and lane.is_sending:
                self.given_up += lane.task.cancel()

    async def _run_lanes(self, take: Take, close: Callable[[], Awaitable[None]]) -> None:
        self.steering.begin()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.steering.most_in_flight):
                    lane = Lane()
                    lane.task = group.create_task(self._fill(lane, take))
                    self._lanes.append(lane)
                if self.stopped is not None:  # before the first lane ran
                    self.stop(self.stopped)
        finally:
            self._lanes.clear()
            await close()
        self._results.close()

    async def _fill(self, lane: Lane, take: Take) -> None:
        while self.stopped is None and await self._has_lived_one(lane, take):
            pass

    async def _has_lived_one(self, lane: Lane, take: Take) -> bool:
        """Take one row and follow it to its end. Returns whether there was one.

        A function of its own so that its variables go with it: most of many lanes wait for their next row, and each
        row may be megabytes.
        """
        row = self._aside.next() or await self._take_row(take)
        if row is None:
            row = self._aside.next(is_end=True) if self.stopped is None else None
        if row is None:
            return False
        ended = row if isinstance(row, Ended) else await self._live(lane, row)
        if isinstance(row, RowRetry) and row.unsent_bytes:
            self._no_longer_unsent(row)  # one that ended without a request of this run
        if ended is not None:
            lane.is_busy = True
            if self._results.is_full:
                await self._results.room()
            self._results.put(ended)
            lane.is_busy = False
        return True

    async def _take_row(self, take: Take) -> RowRetry | Ended | None:
        """The next row of the feed, with what was read of it so far; None when there are no more."""
        try:
            prepared = await take()
            if not isinstance(prepared, Prepared):
                return prepared
            size = prepared.size
            self._unsent.add(size)
            reads = []
            for attempt in prepared.attempts:
                await asyncio.sleep(0)  # thousands of rows may have theirs: signals are noticed between any two
                reads.append(await self._reading.read_again(attempt, prepared))
        except BatchcallError as error:  # the input or the disk went bad midway: what is in flight is awaited
            self.stop(error)
            return None
        ambiguous = sum([read.is_ambiguous for read in reads])
        return RowRetry(prepared, reads, prepared.sent, ambiguous, unsent_bytes=size)

    def _no_longer_unsent(self, row: RowRetry) -> None:
        self._unsent.add(-row.unsent_bytes)
        row.unsent_bytes = 0

    # A row's life: decide, send, read, learn, decide again. It leaves the loop below in one of four ways.
    # - Ended: a valid reply, an invalid one that is not asked about again, or a failure that is final. One outcome.
    # - Set aside: its failures may be an outage; see `WaitingRoom`.
    # - The run stops before the row's next request is sent: no outcome. The next run goes on with the answers that the
    #   row has in the journal.
    # - The row's answer shows that the run must end (a wrong key, a spent quota): no outcome either. What is wrong is
    #   not the row, so it must not be marked as failed.

    async def _live(self, lane: Lane, row: RowRetry) -> Ended | None:
        """One row's life. None: it has no outcome yet, since the run stops or it was set aside."""
        while isinstance(step := self._next_step(row), Send):
            if step.is_doubtful:
                self.steering.doubts()
            if row.tries and step.wait_s:
                self.waiting_retries += 1
                try:
                    await asyncio.sleep(step.wait_s)
                finally:
                    self.waiting_retries -= 1
            place = await self.steering.admit(row.request, avoid=row.failed_at)
            try:
                goes_on = await self._send_once(lane, row, place, waited_s=step.wait_s)
            finally:
                place.leave()
            if not goes_on:
                return None
        if step is Stay.SET_ASIDE:
            self._aside.add(row)
            return None
        return self._end(row)

    def _next_step(self, row: RowRetry) -> Send | Stay:
        if not row.reads or row.reads[-1].failure is None:
            return row.next_step(self._rules, self.steering.around)
        doubts = self.steering.may_doubt
        return row.next_step(self._rules, self.steering.around, may_doubt=doubts, roll=self._roll())

    async def _send_once(self, lane: Lane, row: RowRetry, place: Place, *, waited_s: float) -> bool:
        """One attempt: its answer is on disk before it is read. False: it was not sent, or the run ends with it."""
        prepared, endpoint, clock = row.prepared, place.endpoint, self._clock
        if row.unsent_bytes:
            self._no_longer_unsent(row)
        lane.is_busy = True
        try:
            # In this order, with no await between: the run may have stopped while the row waited at the gate, and
            # a request counts as sent only once the journal says so and has room for its answer.
            number, after, sent_at_s = row.sent + 1, row.lost_as, self._now_s()
            announce = self._recorder.about_to_send
            if self.stopped is not None or not self._reading.note(
                announce, prepared.row.index, number, prepared.request_hash, sent_at_s, after
            ):
                place.unused()
                return False
            place.sent(after)
            row.goes_out(place.through_at_s)
            lane.is_sending = True
            began_s = clock()  # not by `now_s`, which may be set meanwhile
            answer = await endpoint.transport.post(place.http)
            attempt = Attempt(
                row=prepared.row.index,
                number=number,
                request_hash=prepared.request_hash,
                response=answer if isinstance(answer, HttpResponse) else None,
                failure=answer if isinstance(answer, Failure) else None,
                sent_at_s=sent_at_s,
                latency_s=clock() - began_s,
                wait_s=place.wait_s + waited_s,
                endpoint=endpoint.name,
                protocol=endpoint.dialect.name if endpoint.names_protocol else None,
                model=endpoint.model,
            )
            if is_long(attempt):
                await self._reading.put_down_long(attempt)
                lane.is_sending = False
                read = await self._reading.read_long(attempt, prepared)
            else:
                self._reading.note(self._recorder.answered, attempt)
                read = self.parser.read(attempt, prepared)
        finally:
            lane.is_busy = lane.is_sending = False

        return await self._learn(row, place, read)

    async def _learn(self, row: RowRetry, place: Place, read: ParsedAttempt) -> bool:
        """Pass on what one attempt says of its row and of its endpoint. Returns whether the run goes on."""
        steering, endpoint, failure, usage = self.steering, place.endpoint, read.failure, read.usage
        cost = self.parser.cost(row.prepared, read) if steering.counts_cost else None
        response = read.attempt.response
        is_worth_reading = response is not None and endpoint.wants_limits(self._clock())
        limits = read_limits(response.headers, now_s=self._now_s()) if response and is_worth_reading else None
        came = Came(row.prepared.row.index, failure, read.reply is not None, usage, cost, limits)
        if usage.total_tokens is not None:
            endpoint.estimate.learn(len(place.http.body), usage)
        if failure is None:
            place.answered(came)
            row.came(read, endpoint, steering.around)
            return True
        lesson = await place.failed(came, failure)
        row.came(read, endpoint, steering.around, takes_no_try=lesson.takes_no_try)
        return lesson.goes_on

    def _end(self, row: RowRetry) -> Ended:
        prepared, reads = row.prepared, row.reads
        # A reply, or a failure of the row itself, ends the row whoever reads it again. That the tries are used up is
        # seen in no attempt: after a crash the next run would try on, so the journal gets a line that says it.
        if row.is_given_up and not prepared.is_ended:
            self._reading.note(self._recorder.gave_up, prepared.row.index)
        outcome = self.parser.outcome(prepared, reads)
        of_this_run = reads[len(prepared.attempts) :]
        replies = [read for read in of_this_run if read.reply is not None]
        is_sure = len(replies) == len(of_this_run) or not any(read.is_ambiguous for read in of_this_run)
        if of_this_run:
            name = reads[-1].attempt.endpoint
            self.steering.row_ended(name, outcome.status, is_paid_once=bool(replies) and is_sure)
        return Ended(prepared.row, outcome, tuple([read.attempt for read in reads]))
