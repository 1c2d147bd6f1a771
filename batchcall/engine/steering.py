"""What all rows of a run share: the endpoints with their pace, what attempts teach of them, and what may be spent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

import msgspec

from batchcall.base import NO_USAGE, BatchcallError, Failure, HttpRequest, Money, RateLimits, Request, Status, Usage
from batchcall.engine.endpoint import AnyEndpoint, Endpoint, Route
from batchcall.engine.gate import Admission
from batchcall.engine.pool import Pool
from batchcall.engine.waiting_room import Surroundings
from batchcall.pacing import Budget, ProxyCutoffs, Verdict, may_doubt


class Traffic(msgspec.Struct):
    """What this run sent, whatever became of it."""

    requests: int = 0
    answered: int = 0  # requests that brought a completion, valid or not: these are paid
    rows_paid_once: int = 0  # that ended, and no request of theirs may have been billed in vain
    possibly_paid_twice: dict[str, int] = {}  # by reason
    in_doubt: int = 0  # of these, while the endpoint was up

    def sent(self, after: str | None) -> None:
        """A request was sent; `after` is how the one before it failed, where that may be billed."""
        self.requests += 1
        if after is not None:
            self.possibly_paid_twice[after] = self.possibly_paid_twice.get(after, 0) + 1


class Came(msgspec.Struct, frozen=True):
    """What one attempt says of its endpoint, and what it cost."""

    row: int
    failure: Failure | None
    is_reply: bool
    usage: Usage
    cost: float | None  # USD; None also where nobody counts it
    limits: RateLimits | None  # as its headers have them; None: they were not read


class Lesson(NamedTuple):
    """What a failed attempt means for its row."""

    takes_no_try: bool  # the row did not cause the failure
    goes_on: bool  # else the run ends with it


class Place(Protocol):
    """What a request has that may be sent now: it counts as in flight until `leave`."""

    @property
    def endpoint(self) -> AnyEndpoint: ...
    @property
    def http(self) -> HttpRequest: ...  # what is to be sent there
    @property
    def wait_s(self) -> float: ...  # how long it waited for the place
    @property
    def through_at_s(self) -> float: ...  # on the loop's clock

    # Either `unused`, or `sent` and then one of the next two.

    def unused(self) -> None:
        """Nothing was sent: what was reserved is free."""

    def sent(self, after: str | None) -> None:
        """The request goes out; `after` as for `Traffic.sent`."""

    def answered(self, came: Came) -> None:
        """It brought a completion."""

    async def failed(self, came: Came, failure: Failure) -> Lesson:
        """It brought none."""

    def leave(self) -> None:
        """It is over, or was given up."""


class Steering(Protocol):
    """Decides what is sent where, and when to stop. Belongs to one event loop."""

    stop: Callable[[Verdict | BatchcallError], None]  # set by who runs the rows

    @property
    def around(self) -> Surroundings: ...
    @property
    def most_in_flight(self) -> int: ...  # how many rows can be on their way at once
    @property
    def bound_by(self) -> str: ...  # as `Pool.bound_by`
    @property
    def counts_cost(self) -> bool: ...  # whether anybody asks what an attempt cost
    @property
    def may_doubt(self) -> bool: ...  # whether the job may still send again what may be billed already

    def begin(self) -> None:
        """The rows begin. Stops them at once where an earlier run has spent all."""

    async def admit(self, make_request: Callable[[Route], Request], *, avoid: Collection[Route] = ()) -> Place:
        """Wait until one request may go. `make_request` and `avoid` as for `Pool.admit`."""

    def stopping(self, why: Verdict | BatchcallError) -> None:
        """The rows stop, for this reason."""

    def doubts(self) -> None:
        """A request will be sent again although the one before may be billed, with its endpoint up."""

    def row_ended(self, name: str, status: Status, *, is_paid_once: bool) -> None:
        """A row ended with an answer of the endpoint of this name."""


class OwnSteering:
    """Steers from the process that runs the rows. See `Steering`."""

    def __init__(
        self,
        *,
        pool: Pool,
        budget: Budget,
        roll: Callable[[], float],
        say: Callable[[str], None] = lambda note: None,
    ) -> None:
        """`roll` is a number in [0, 1); `say` is for what a person should know now."""
        self.pool = self.around = pool
        self.budget = budget
        self.traffic = Traffic()
        self.proxy_cutoffs = ProxyCutoffs()
        self.stop: Callable[[Verdict | BatchcallError], None] = lambda why: None
        self.say = say
        self._roll = roll

    @property
    def most_in_flight(self) -> int:
        return self.pool.most_in_flight

    @property
    def bound_by(self) -> str:
        return self.pool.bound_by

    @property
    def counts_cost(self) -> bool:
        return self.budget.has_limits

    @property
    def may_doubt(self) -> bool:
        return may_doubt(self.traffic.in_doubt, self.traffic.answered)

    def begin(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for endpoint in self.pool.endpoints:
            self.pool.obey(endpoint, now_s)
        if (spent := self.budget.verdict) is not None:
            self.stop(spent)

    async def admit(self, make_request: Callable[[Route], Request], *, avoid: Collection[Route] = ()) -> OwnPlace:
        return OwnPlace(self, *await self.pool.admit(make_request, avoid=avoid))

    def stopping(self, why: Verdict | BatchcallError) -> None:
        pass

    def doubts(self) -> None:
        self.traffic.in_doubt += 1

    def row_ended(self, name: str, status: Status, *, is_paid_once: bool) -> None:
        self.traffic.rows_paid_once += is_paid_once
        # The first rows may show a fault that no single answer names: of the job, or of one endpoint of several.
        sample = self.pool.sample
        if sample is not None and (verdict := sample.saw_row_end(status)) is not None:
            self.stop(verdict)
        endpoint = self.pool.only or next(one for one in self.pool.endpoints if one.name == name)
        if (verdict := endpoint.health.saw_row_end(status)) is not None:
            self._go_on_without(endpoint, verdict)

    def sent(self, endpoint: Endpoint, admission: Admission, after: str | None) -> None:
        """See `Place`, as for the next two."""
        self.traffic.sent(after)
        endpoint.requests += 1
        endpoint.pacer.sent(admission.through_at_s)
        if endpoint.pacer.is_ramping:
            self.pool.obey(endpoint, admission.through_at_s)

    # Both while the place of the request is still taken: the pacer must have seen its end before the next row gets it.
    # Otherwise a 429 would let one more request go at the old pace.

    def answered(self, endpoint: Endpoint, admission: Admission, came: Came) -> None:
        now_s = asyncio.get_running_loop().time()
        self._spend(admission, came)
        endpoint.learn(came.row, None, came.usage, sent_at_s=admission.through_at_s, now_s=now_s, roll=0.0)
        self._obey(endpoint, came, now_s)
        self.traffic.answered += 1
        endpoint.answered += 1
        endpoint.health.saw_reply()

    def failed(self, endpoint: Endpoint, admission: Admission, came: Came, failure: Failure) -> Lesson:
        loop, sent_at_s = asyncio.get_running_loop(), admission.through_at_s
        now_s = loop.time()
        self._spend(admission, came)
        endpoint.learn(came.row, failure, came.usage, sent_at_s=sent_at_s, now_s=now_s, roll=self._roll())
        takes_no_try = endpoint.takes_no_try(failure)
        self.proxy_cutoffs.saw(failure, now_s - sent_at_s)
        self._obey(endpoint, came, now_s)
        verdict = endpoint.health.saw(failure) or endpoint.pacer.verdict(loop.time())
        return Lesson(takes_no_try, verdict is None or self._go_on_without(endpoint, verdict))

    def _spend(self, admission: Admission, came: Came) -> None:
        """Count what an attempt cost, and make what was reserved at the gate what was used."""
        usage, failure = came.usage, came.failure
        if self.budget.has_limits and (came.is_reply or usage != NO_USAGE):
            self.budget.spend(cost=came.cost, tokens=usage.total_tokens)
            if (spent := self.budget.verdict) is not None:
                self.stop(spent)
        # An answer without a count keeps its reservation: the provider may have counted it, and the estimate is the
        # best guess.
        if usage.total_tokens is not None:
            admission.settle(usage.total_tokens)
        elif failure is not None and failure.kind.rule.money in (Money.REFUSED, Money.UNSENT):
            admission.settle(0)

    def _obey(self, endpoint: Endpoint, came: Came, now_s: float) -> None:
        if came.limits is not None:
            endpoint.pacer.saw_limits(came.limits, now_s)
        self.pool.obey(endpoint, now_s)

    def _go_on_without(self, endpoint: Endpoint, verdict: Verdict) -> bool:
        """An endpoint serves this job no more; where it was the last one, the run ends."""
        was_there = endpoint.left is None
        if self.pool.leave(endpoint, verdict):
            if was_there:
                self.say(f"{endpoint.name} is no longer used: {verdict.reason}. {len(self.pool.living)} left")
            return True
        self.stop(self.pool.verdict)
        return False


class OwnPlace(msgspec.Struct, eq=False):
    """See `Place`."""

    steering: OwnSteering
    endpoint: Endpoint
    http: HttpRequest
    admission: Admission

    @property
    def wait_s(self) -> float:
        return self.admission.wait_s

    @property
    def through_at_s(self) -> float:
        return self.admission.through_at_s

    def unused(self) -> None:
        self.admission.settle(0)

    def sent(self, after: str | None) -> None:
        self.steering.sent(self.endpoint, self.admission, after)

    def answered(self, came: Came) -> None:
        self.steering.answered(self.endpoint, self.admission, came)

    async def failed(self, came: Came, failure: Failure) -> Lesson:
        return self.steering.failed(self.endpoint, self.admission, came, failure)

    def leave(self) -> None:
        self.admission.leave()
