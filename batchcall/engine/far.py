"""The steering as a worker has it: it asks the process of its run, which answers through `Served`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

import msgspec

from batchcall.base import BatchcallError, Failure, HttpRequest, Request, Status
from batchcall.engine.channel import Channel, Handlers
from batchcall.engine.endpoint import FarEndpoint, Route, State
from batchcall.engine.steering import Came, Lesson
from batchcall.pacing import Verdict


class States(msgspec.Struct, frozen=True):
    """What all endpoints are like."""

    endpoints: tuple[State, ...] = ()
    is_down: bool = False
    last_good_s: float = float("-inf")
    outages: int = 0
    may_doubt: bool = True


class FarSurroundings:
    """See `Surroundings`: as they were when the other end last told."""

    def __init__(self, endpoints: Sequence[FarEndpoint], channel: Channel) -> None:
        self.states = States()
        self._endpoints = endpoints
        self._channel = channel

    @property
    def living(self) -> list[FarEndpoint]:
        return [endpoint for endpoint in self._endpoints if not endpoint.state.has_left]

    @property
    def is_down(self) -> bool:
        return self.states.is_down

    @property
    def last_good_s(self) -> float:
        return self.states.last_good_s

    @property
    def outages(self) -> int:
        return self.states.outages

    def gave_up(self) -> None:
        self._channel.post("gave_up")

    def now_are(self, states: States) -> None:
        self.states = states
        for endpoint, state in zip(self._endpoints, states.endpoints, strict=True):
            endpoint.state = state


class FarSteering:
    """See `Steering`."""

    bound_by = ""  # the other end knows

    def __init__(
        self, endpoints: Sequence[FarEndpoint], channel: Channel, *, most_in_flight: int, counts_cost: bool
    ) -> None:
        self.stop: Callable[[Verdict | BatchcallError], None] = lambda why: None
        self.around = FarSurroundings(endpoints, channel)
        self.most_in_flight = most_in_flight
        self.counts_cost = counts_cost
        self.channel = channel
        self._endpoints = endpoints
        self._waiting: dict[int, asyncio.Future[tuple[float, float] | None]] = {}
        self._chosen: dict[int, asyncio.Future[int]] = {}
        self._last = 0  # number of a request

    @staticmethod
    def handlers(steering: Callable[[], FarSteering | None]) -> Handlers:
        """What the other end says to whom `steering` returns, once there is one."""

        def tell(what: Callable[..., None]) -> Callable[..., None]:
            return lambda *values: None if (there := steering()) is None else what(there, *values)

        return {
            "chosen": tell(FarSteering._was_chosen),
            "granted": tell(FarSteering._was_granted),
            "states": tell(lambda there, states: there.around.now_are(states)),
        }

    @property
    def may_doubt(self) -> bool:
        return self.around.states.may_doubt

    def begin(self) -> None:
        pass

    async def admit(self, make_request: Callable[[Route], Request], *, avoid: Collection[Route] = ()) -> FarPlace:
        began_s = asyncio.get_running_loop().time()
        while True:
            self._last = number = self._last + 1
            try:
                endpoint = await self._choose(number, avoid)
                request = make_request(endpoint)
                http = endpoint.encode(request)
                waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
                self.channel.post("enter", number, endpoint.index, endpoint.expected_tokens(http, request), began_s)
                granted = await waiting
            except BaseException:
                self.channel.post("withdraw", number)  # whether it waits there, or was let through meanwhile
                raise
            finally:
                self._waiting.pop(number, None)
            if granted is not None:  # else it was sent away from there
                return FarPlace(self, number, endpoint, http, *granted)

    async def _choose(self, number: int, avoid: Collection[Route]) -> FarEndpoint:
        if len(self._endpoints) == 1:
            return self._endpoints[0]
        chosen = self._chosen[number] = asyncio.get_running_loop().create_future()
        self.channel.post("choose", number, [one.index for one in self._endpoints if one in avoid])
        try:
            index = await chosen
        finally:
            self._chosen.pop(number, None)
        endpoint: FarEndpoint = self._endpoints[index]
        return endpoint

    def stopping(self, why: Verdict | BatchcallError) -> None:
        self.channel.post("stopping", why)

    def doubts(self) -> None:
        self.channel.post("doubts")

    def row_ended(self, name: str, status: Status, *, is_paid_once: bool) -> None:
        self.channel.post("row_ended", name, status, is_paid_once)

    # What was withdrawn meanwhile is waited for no more.

    def _was_chosen(self, number: int, index: int) -> None:
        if (chosen := self._chosen.get(number)) is not None and not chosen.done():
            chosen.set_result(index)

    def _was_granted(self, number: int, *place: float) -> None:
        if (waiting := self._waiting.get(number)) is not None and not waiting.done():
            waiting.set_result((place[0], place[1]) if place else None)


class FarPlace(msgspec.Struct, eq=False):
    """See `Place`."""

    steering: FarSteering
    number: int
    endpoint: FarEndpoint
    http: HttpRequest
    wait_s: float
    through_at_s: float
    is_over: bool = False  # the other end knows

    def unused(self) -> None:
        self.steering.channel.post("withdraw", self.number)
        self.is_over = True

    def sent(self, after: str | None) -> None:
        self.steering.channel.post("sent", self.number, after)

    def answered(self, came: Came) -> None:
        self.steering.channel.post("answered", self.number, came)
        self.is_over = True

    async def failed(self, came: Came, failure: Failure) -> Lesson:
        self.is_over = True
        lesson: Lesson
        lesson, states = await self.steering.channel.call("failed", self.number, came, failure)
        self.steering.around.now_are(states)
        return lesson

    def leave(self) -> None:
        if not self.is_over:
            self.steering.channel.post("leave", self.number)
