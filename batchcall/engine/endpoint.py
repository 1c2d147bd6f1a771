"""One endpoint with one key: the way to it, what is learnt about it, and how fast it may be asked."""

from __future__ import annotations

import asyncio

import msgspec

from batchcall.base import Failure, FailureKind, HttpRequest, Request, Scope, Shape, Usage
from batchcall.dialects import Dialect, max_tokens_of
from batchcall.engine.gate import Gate
from batchcall.http import Transport
from batchcall.pacing import Health, Orders, Pacer, TokenEstimate, Verdict
from batchcall.requests import Sent, sent_to

_SHAPES_HELD = 1024
_LIMITS_EVERY_S = 1.0  # a worker reads headers so often
_NEVER_A_ROWS = frozenset({FailureKind.NO_DESCRIPTORS, FailureKind.UNTRUSTED, FailureKind.WRONG_SCHEME})


class Route(msgspec.Struct, eq=False, kw_only=True):
    """The way to an endpoint: what a request becomes for it, and how it is sent there."""

    name: str  # as the column `endpoint` says it
    transport: Transport
    dialect: Dialect
    model: str | None = None  # what it is asked for instead of the request's own model
    takes_any_name: bool = True  # of a tool, so that all go out by their own
    names_protocol: bool = False  # whether its attempts record its protocol: those of a pool may differ in it
    estimate: TokenEstimate = msgspec.field(default_factory=TokenEstimate)
    _sent: dict[Shape, Sent] = {}  # what becomes of each shape here

    def encode(self, request: Request) -> HttpRequest:
        """The request as this endpoint is asked it."""
        sent = self._sent.get(request.shape)
        if sent is None:
            if len(self._sent) >= _SHAPES_HELD:
                self._sent.clear()
            sent = self._sent[request.shape] = sent_to(
                request.shape, model=self.model, takes_any_name=self.takes_any_name
            )
        return self.dialect.encode(sent.of(request))

    def expected_tokens(self, http: HttpRequest, request: Request) -> float:
        """How many tokens this request is expected to take."""
        return self.estimate.tokens(len(http.body), max_tokens_of(request.shape))


class Endpoint(Route, eq=False, kw_only=True):
    """A member of a pool, or all there is."""

    gate: Gate
    pacer: Pacer
    health: Health
    left: Verdict | None = None  # why it is not asked any more
    requests: int = 0  # sent by this run
    answered: int = 0  # of these, with a completion
    coming: int = 0  # rows of a pool that are on their way through the gate
    _orders: Orders | None = None

    @property
    def is_held(self) -> bool:
        """Nobody is let through for now, or ever again."""
        return self.left is not None or self.gate.pause_left_s > 0

    @property
    def is_ready(self) -> bool:
        """A row that comes now is let through at once, or is the next to be."""
        return not self.is_held and self.gate.has_room(self.coming)

    @property
    def load(self) -> float:
        """Share of what may be in flight that is."""
        return (self.gate.in_flight + self.coming) / self.gate.most_in_flight

    @property
    def is_down(self) -> bool:
        """What fails here now is not the row's fault."""
        return self.pacer.is_down

    def wants_limits(self, now_s: float) -> bool:
        """Whether the headers of an answer are worth reading: now and then is enough."""
        return self.pacer.wants_limits(now_s)

    def learn(
        self, row: int, failure: Failure | None, usage: Usage, *, sent_at_s: float, now_s: float, roll: float
    ) -> None:
        """Let the pacer learn from one attempt; `failure` None: it brought a completion."""
        # A rejected request shows the endpoint at work, but not that the job is right: all rows may be rejected for one
        # wrong parameter. So it does not count for the ramp (`is_judged`).
        if failure is None:
            in_flight = self.gate.in_flight + self.coming  # whoever is on the way already fills a place
            self.pacer.answered(sent_at_s, now_s, in_flight=in_flight, work=float(usage.completion_tokens or 1))
        else:
            is_judged = failure.kind is not FailureKind.REJECTED
            self.pacer.failed(row, failure, sent_at_s=sent_at_s, now_s=now_s, roll=roll, is_judged=is_judged)
            if failure.limits is not None:
                self.pacer.saw_limits(failure.limits, now_s)
        if usage.total_tokens:
            self.pacer.used(usage.total_tokens, now_s)

    def takes_no_try(self, failure: Failure) -> bool:
        """A failure that a row did not cause."""
        # Nothing could be sent; or the endpoint is down and the row only found out whether it still is; or the endpoint
        # takes fewer requests at the same time than were sent.
        is_beyond_open = self.pacer.is_beyond_open and self.pacer.open_limit.is_sure
        is_of_all = (self.pacer.is_down or is_beyond_open) and failure.kind.rule.scope is Scope.RETRY
        return is_of_all or failure.kind in _NEVER_A_ROWS

    @property
    def bound_by(self) -> str:
        """What keeps more from going on here: as `Gate.bound_by`, or why no more may be in flight, where that is it."""
        bound = self.gate.bound_by
        return self.pacer.bound_by if bound == "concurrency" else bound

    @property
    def again_at_s(self) -> float | None:
        """When its pacer says something else by itself."""
        return self._orders.again_at_s if self._orders is not None else None

    def obey(self, now_s: float) -> bool:
        """Let the gate do what the pacer says; whether that is news."""
        # Called for every answer, while the orders seldom change. The pause is set before the places: a larger number
        # of them lets many through at once.
        orders = self.pacer.orders(now_s)
        if orders == self._orders:
            return False
        last, self._orders = self._orders, orders
        self.gate.limit_rates(orders.requests_per_minute, orders.tokens_per_minute)
        self.gate.hold_until(orders.not_before_s)
        if last is None or last.in_flight != orders.in_flight:
            self.gate.limit_in_flight(orders.in_flight)
        return True


class State(msgspec.Struct, frozen=True):
    """What an endpoint is like, as the other end knows it."""

    held_until_s: float = 0.0  # on the loop's clock, which is the same in all processes of a machine
    is_down: bool = False
    has_left: bool = False


class FarEndpoint(Route, eq=False, kw_only=True):
    """An endpoint whose pace is kept elsewhere."""

    index: int
    state: State = State()
    _limits_read_at_s: float = float("-inf")

    @property
    def is_held(self) -> bool:
        return self.state.has_left or asyncio.get_running_loop().time() < self.state.held_until_s

    @property
    def is_down(self) -> bool:
        return self.state.is_down

    def wants_limits(self, now_s: float) -> bool:
        if now_s - self._limits_read_at_s < _LIMITS_EVERY_S:
            return False
        self._limits_read_at_s = now_s
        return True


AnyEndpoint = Endpoint | FarEndpoint
