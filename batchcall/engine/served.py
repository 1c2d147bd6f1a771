"""The steering of a run, lent to a worker in another process. `FarSteering` is the other end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from batchcall.base import Failure, Status
from batchcall.engine.channel import Channel, Handlers
from batchcall.engine.endpoint import Endpoint, State
from batchcall.engine.far import States
from batchcall.engine.gate import Admission, Waiter
from batchcall.engine.steering import Came, OwnSteering


class Stand(msgspec.Struct, eq=False):
    """Where a request of the worker stands: on its way to an endpoint, in line at its gate, or in flight."""

    endpoint: Endpoint | None = None
    choosing: asyncio.Task[None] | None = None
    waiter: Waiter | None = None
    admission: Admission | None = None


class Served:
    """What one worker asks and tells. What it asked for is free again when it has ended (`end`)."""

    def __init__(self, steering: OwnSteering) -> None:
        self._steering = steering
        self._pool = steering.pool
        self._stands: dict[int, Stand] = {}
        self._told: States | None = None
        self.channel: Channel | None = None

    def handlers(self) -> Handlers:
        """For the channel to the worker."""
        return {
            "choose": self._choose,
            "enter": self._enter,
            "withdraw": self._withdraw,
            "sent": self._sent,
            "answered": self._answered,
            "failed": self._failed,
            "leave": self._leave,
            "doubts": self._steering.doubts,
            "gave_up": self._pool.gave_up,
            "row_ended": self._row_ended,
        }

    def tell(self) -> None:
        """Tell the worker what the endpoints are like, if it does not know."""
        states = self._states()
        if states != self._told:
            self._told = states
            self._post("states", states)

    def end(self) -> None:
        """The worker has ended, or died: nothing of it waits or is in flight any more."""
        self.channel = None
        for number in list(self._stands):
            self._withdraw(number, is_unsent=False)

    def _post(self, name: str, *values: object) -> None:
        if self.channel is not None:
            self.channel.post(name, *values)

    def _states(self) -> States:
        pool = self._pool
        now_s = asyncio.get_running_loop().time()
        return States(
            tuple(
                State(now_s + left_s if (left_s := one.gate.pause_left_s) else 0.0, one.is_down, one.left is not None)
                for one in pool.endpoints
            ),
            pool.is_down,
            pool.last_good_s,
            pool.outages,
            self._steering.may_doubt,
        )

    def _choose(self, number: int, avoid: Sequence[int]) -> None:
        async def choose() -> None:
            stand.endpoint = await self._pool.choose([self._pool.endpoints[index] for index in avoid])
            self._post("chosen", number, self._pool.endpoints.index(stand.endpoint))

        stand = self._stands[number] = Stand()
        stand.choosing = asyncio.create_task(choose())

    def _enter(self, number: int, index: int, tokens: float, since_s: float) -> None:
        endpoint = self._pool.endpoints[index]
        stand = self._stands.setdefault(number, Stand(endpoint))
        place = endpoint.gate.enter(tokens, since_s=since_s)
        if isinstance(place, Admission):
            self._let_in(number, stand, place)
        else:
            stand.waiter = place
            place.called.add_done_callback(lambda called: self._called(number, stand, called))

    def _called(self, number: int, stand: Stand, called: asyncio.Future[Admission | None]) -> None:
        if stand.waiter is None:  # withdrawn meanwhile
            return
        stand.waiter = None
        if (admission := called.result()) is not None:
            self._let_in(number, stand, admission)
        else:  # the endpoint was left by all
            del self._stands[number]
            self._arrived(stand)
            self._post("granted", number)

    def _let_in(self, number: int, stand: Stand, admission: Admission) -> None:
        stand.admission = admission
        self._arrived(stand)
        self._post("granted", number, admission.wait_s, admission.through_at_s)

    def _arrived(self, stand: Stand) -> None:
        if stand.choosing is not None and stand.endpoint is not None:
            self._pool.arrived(stand.endpoint)
            stand.choosing = None

    def _withdraw(self, number: int, *, is_unsent: bool = True) -> None:
        stand = self._stands.pop(number, None)
        if stand is None:  # sent away in the same moment
            return
        if stand.choosing is not None and stand.endpoint is None:
            stand.choosing.cancel()
        if (waiter := stand.waiter) is not None:
            stand.waiter = None
            assert stand.endpoint is not None
            stand.endpoint.gate.withdraw(waiter)
        if (admission := stand.admission) is not None:
            if is_unsent:
                admission.settle(0)
            admission.leave()
        self._arrived(stand)

    def _sent(self, number: int, after: str | None) -> None:
        endpoint, admission = self._in_flight(number)
        self._steering.sent(endpoint, admission, after)

    def _answered(self, number: int, came: Came) -> None:
        endpoint, admission = self._in_flight(number)
        self._steering.answered(endpoint, admission, came)
        self._leave(number)

    def _failed(self, call: int, number: int, came: Came, failure: Failure) -> None:
        endpoint, admission = self._in_flight(number)
        lesson = self._steering.failed(endpoint, admission, came, failure)
        self._leave(number)
        if self.channel is not None:
            self.channel.reply(call, (lesson, self._states()))

    def _leave(self, number: int) -> None:
        _, admission = self._in_flight(number)
        del self._stands[number]
        admission.leave()

    def _row_ended(self, name: str, status: Status, is_paid_once: bool) -> None:
        self._steering.row_ended(name, status, is_paid_once=is_paid_once)

    def _in_flight(self, number: int) -> tuple[Endpoint, Admission]:
        stand = self._stands[number]
        assert stand.endpoint is not None
        assert stand.admission is not None
        return stand.endpoint, stand.admission
