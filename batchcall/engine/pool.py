"""The endpoints of a job: which of them a row is sent to, and the state of all of them together.

Rows wait in one line, first in first out, for whichever endpoint can take the next one; at each gate at most one of
them waits for budgets. So each endpoint gets as much as it can take, and no row waits for a slow one while another is
free.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence

from batchcall.base import ExitCode, HttpRequest, Request
from batchcall.engine.endpoint import Endpoint, Route
from batchcall.engine.gate import Admission
from batchcall.pacing import Health, Verdict

_Waiter = tuple["asyncio.Future[Endpoint]", Collection[Route]]


class Pool:
    """One endpoint or several. Belongs to one event loop."""

    def __init__(self, endpoints: Sequence[Endpoint], *, sample: Health | None = None) -> None:
        """`sample` judges the first rows of all endpoints together, where there are several: a fault that nearly all of
        them show is the job's own."""
        self.endpoints = tuple(endpoints)
        self.only = self.endpoints[0] if len(self.endpoints) == 1 else None
        self.sample = sample
        self.outages = 0  # times that all of them were down
        self._was_down = False
        self._line: deque[_Waiter] = deque()
        self._ramps: dict[Endpoint, asyncio.TimerHandle] = {}  # when more may be in flight without an answer
        self._alarm: asyncio.TimerHandle | None = None  # at the end of the first pause, while somebody waits
        if self.only is None:
            for endpoint in self.endpoints:
                endpoint.gate.on_room = self._serve

    @property
    def living(self) -> list[Endpoint]:
        """Those that have not left."""
        return [endpoint for endpoint in self.endpoints if endpoint.left is None]

    @property
    def most_in_flight(self) -> int:
        """How many rows can be on their way at once."""
        return sum(endpoint.pacer.most_in_flight for endpoint in self.endpoints)

    @property
    def is_down(self) -> bool:
        """No endpoint that is left gets anything answered."""
        return all(endpoint.pacer.breaker.is_open for endpoint in self.endpoints if endpoint.left is None)

    @property
    def down(self) -> str:
        """Why they count as down; empty while one of them does not."""
        living = self.living
        if not living or not self.is_down:
            return ""
        failure = living[0].pacer.breaker.last_failure
        return failure.message if failure is not None else ""

    @property
    def last_good_s(self) -> float:
        """Of all requests that were answered, the moment when the last one was sent."""
        return max(endpoint.pacer.breaker.last_good_s for endpoint in self.endpoints)

    @property
    def in_flight(self) -> int:
        return sum(endpoint.gate.in_flight for endpoint in self.endpoints)

    @property
    def oldest_age_s(self) -> float:
        return max(endpoint.gate.oldest_age_s for endpoint in self.endpoints)

    @property
    def pause_left_s(self) -> float:
        """How long nobody is let through by any of them; 0 while somebody may be."""
        return min((endpoint.gate.pause_left_s for endpoint in self.living), default=0.0)

    @property
    def bound_by(self) -> str:
        """What keeps more from going on: "outage" where all are down, else as `Gate.bound_by`; of several, what keeps
        most of them."""
        if self.down:
            return "outage"
        if self.only is not None:
            return self.only.bound_by
        bounds = Counter("pause" if one.gate.pause_left_s else one.bound_by for one in self.living)
        return "" if bounds[""] or not bounds else bounds.most_common(1)[0][0]

    @property
    def verdict(self) -> Verdict:
        """Why nobody is asked any more, when all have left."""
        if self.only is not None and self.only.left is not None:
            return self.only.left
        # One that is left out for a spent quota comes back; so the run ends as one that may be resumed, and with the
        # earliest moment at which one of them serves again.
        reasons = {endpoint.name: endpoint.left for endpoint in self.endpoints if endpoint.left is not None}
        quotas = [why.quota for why in reasons.values() if why.quota is not None]
        first = min(quotas, key=lambda quota: quota.renewed_at_s, default=None)
        named = "; ".join(f"{name}: {why.reason}" for name, why in reasons.items())
        hints = "; ".join(dict.fromkeys(why.hint for why in reasons.values()))
        is_final = all(why.exit_code is ExitCode.ENDPOINT_REFUSES for why in reasons.values())
        exit_code = ExitCode.ENDPOINT_REFUSES if is_final else ExitCode.STOPPED_EARLY
        return Verdict(exit_code, f"no endpoint is left ({named})", hints, first)

    async def admit(
        self, make_request: Callable[[Endpoint], Request], *, avoid: Collection[Route] = ()
    ) -> tuple[Endpoint, HttpRequest, Admission]:
        """Wait until one request may go: to which endpoint, as what, and its place there, which the caller must leave.

        `make_request` makes the request once it is known who is asked: one of `avoid` only if there is no other.
        """
        began_s = asyncio.get_running_loop().time()
        while True:
            endpoint = self.only or await self.choose(avoid)
            try:
                request = make_request(endpoint)
                http = endpoint.encode(request)
                admission = await endpoint.gate.admit(endpoint.expected_tokens(http, request), since_s=began_s)
            finally:
                if self.only is None:
                    self.arrived(endpoint)
            if admission is not None:  # else it was sent away from there
                return endpoint, http, admission

    def obey(self, endpoint: Endpoint, now_s: float) -> None:
        """Let its gate do what its pacer says; if nobody is let through there now, those who wait go elsewhere."""
        is_news = endpoint.obey(now_s)
        if self._ramps and (ramp := self._ramps.pop(endpoint, None)) is not None:
            ramp.cancel()
        if (again_at_s := endpoint.again_at_s) is not None:
            self._ramps[endpoint] = asyncio.get_running_loop().call_at(again_at_s, self.obey, endpoint, again_at_s)
        if not is_news:
            return
        is_down = self.is_down
        self.outages += is_down and not self._was_down
        self._was_down = is_down
        if self.only is None:
            if endpoint.is_held:
                endpoint.gate.send_away()
            self._serve()

    def gave_up(self) -> None:
        """See `Surroundings`."""
        for endpoint in self.living:
            if not endpoint.pacer.breaker.is_open:
                endpoint.pacer.breaker.gave_up()

    def leave(self, endpoint: Endpoint, why: Verdict) -> bool:
        """Send this one nothing more. Returns whether another one is left."""
        endpoint.left = endpoint.left or why
        if self.only is None:
            endpoint.gate.send_away()
            self._serve()
        return bool(self.living)

    async def choose(self, avoid: Collection[Route]) -> Endpoint:
        """Wait for an endpoint that can take a request; its `coming` counts the caller until `arrived`."""
        if not self._line and (endpoint := self._best(avoid)) is not None:
            endpoint.coming += 1
            return endpoint
        while True:
            chosen: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
            self._line.append((chosen, avoid))
            self._serve()
            try:
                endpoint = await chosen
            except asyncio.CancelledError:
                if not chosen.cancelled():  # chosen and cancelled in the same moment
                    self.arrived(chosen.result())
                raise
            if not endpoint.is_held:
                return endpoint
            self.arrived(endpoint)  # it pauses, is down or has left since it was chosen

    def arrived(self, endpoint: Endpoint) -> None:
        """The caller is no longer on its way to this endpoint: it is through its gate, or goes elsewhere."""
        endpoint.coming -= 1
        self._serve()

    def _best(self, avoid: Collection[Route]) -> Endpoint | None:
        """The one with most room of those that are ready; None while none is."""
        # A row goes back to an endpoint that it should avoid only when no other can be had for a while.
        if avoid and all(one in avoid or one.is_held for one in self.endpoints):
            avoid = ()
        ready = [one for one in self.endpoints if one not in avoid and one.is_ready]
        return min(ready, key=lambda one: one.load, default=None)

    def _serve(self) -> None:
        """Give those in line what is free, in order."""
        # A row that avoids all endpoints that are free lets those behind it pass, but keeps its place in line. Whoever
        # is chosen counts as `coming` at once: it runs only later, and the next in line must not take its place.
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not self._line or not any(one.is_ready for one in self.endpoints):
            self._wake_after_pause()
            return
        waiting = deque[_Waiter]()
        while self._line:
            chosen, avoid = self._line.popleft()
            if chosen.done():  # cancelled
                continue
            endpoint = self._best(avoid)
            if endpoint is None:
                waiting.append((chosen, avoid))
                if not any(one.is_ready for one in self.endpoints):
                    break
                continue
            endpoint.coming += 1
            chosen.set_result(endpoint)
        self._line.extendleft(reversed(waiting))
        self._wake_after_pause()

    def _wake_after_pause(self) -> None:
        pauses = [left_s for one in self.living if (left_s := one.gate.pause_left_s)]
        if self._line and pauses:
            self._alarm = asyncio.get_running_loop().call_later(min(pauses) + 1e-3, self._serve)
