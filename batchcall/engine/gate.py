"""The place where requests wait: for room in flight, for the two budgets of a minute, for a pause a server asked for.

First in, first out: a large request never starves behind small ones.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType

from aiolimiter import AsyncLimiter

# Budgets are paid in seconds of themselves: at 600 requests a minute one costs about a tenth of a second. Three
# numbers keep any minute and any second that a provider may count within its limit (a lease in the bucket, one in
# hand: `_USED * (1 + _LATE_S + 2 * _LEASE_S) < 1`), and 98 % of it in use.
_USED = 0.983  # share of the allowed rate that is asked for
_LATE_S = 0.007  # by which a timer may fire late, the lost time being made up for
_LEASE_S = 0.005  # least that is taken at a time: AsyncLimiter costs 100 µs for each taking that waits
_MOST_AT_ONCE_S = 1.0  # requests that cost more are paid for in parts


class Gate:
    """Lets requests through: `concurrency` at a time, and as many a minute as `limit_rates` says.

    Belongs to one event loop. The first request goes at once; nothing is saved up while nobody asks.
    """

    def __init__(self, *, concurrency: int) -> None:
        self.most_in_flight = concurrency
        self._requests: _Budget | None = None
        self._tokens: _Budget | None = None
        self._has_budgets = False
        self._not_before_s = 0.0  # on the loop's clock
        self._in_line = 0  # heads included; for the line where there are budgets
        self._line = asyncio.Lock()  # wakes one waiter at a time, in order
        self._room: asyncio.Future[None] | None = None  # the head's, while there is no place
        self._unbudgeted: deque[tuple[Turn, asyncio.Future[bool]]] = deque()  # the line where there are no budgets
        self._alarm: asyncio.TimerHandle | None = None  # at the end of a pause, for that line
        self._through: dict[Turn, None] = {}  # oldest first
        self._waits_for = ""
        self._has_let_any = False
        self._pause_over: asyncio.Future[None] | None = None  # the head's, while it waits for a pause to end
        self.on_room: Callable[[], None] | None = None  # called when one more may have room

    def turn(self, tokens: float = 0.0) -> Turn:
        """A place for one request expected to take `tokens`: `async with gate.turn(tokens) as turn`."""
        return Turn(self, tokens)

    def limit_in_flight(self, most: int) -> None:
        """Let at most `most` (at least 1) be in flight from now on; those that are through stay through."""
        self.most_in_flight = max(1, most)
        if self._has_budgets:
            self._wake_head()
        else:
            self._let_many_through()
        if self.on_room is not None:
            self.on_room()

    def has_room(self, coming: int) -> bool:
        """Whether one more than the `coming` that are on their way here goes through at once or is the next to go."""
        if self._has_budgets:
            return not coming and not self._in_line and len(self._through) < self.most_in_flight
        return not self._unbudgeted and len(self._through) + coming < self.most_in_flight

    def limit_rates(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        """Keep within these rates from now on; None or 0 leaves that rate as it was."""
        if requests_per_minute:
            if self._requests is None:
                self._requests = _Budget(requests_per_minute, most_at_once=1, is_first_free=not self._has_let_any)
            self._requests.set_rate(requests_per_minute)
        if tokens_per_minute:
            if self._tokens is None:
                self._tokens = _Budget(tokens_per_minute, most_at_once=None, is_first_free=not self._has_let_any)
            self._tokens.set_rate(tokens_per_minute)
        if not self._has_budgets and (self._requests is not None or self._tokens is not None):
            self._has_budgets = True
            # Whoever waits for a place alone waits for the budgets too, in the same order.
            for _, called in self._unbudgeted:
                if not called.done():
                    called.set_result(False)
            self._unbudgeted.clear()
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    def hold_until(self, moment_s: float) -> None:
        """Let nobody through before this moment on the loop's clock; an earlier one shortens the pause."""
        if moment_s == self._not_before_s:
            return
        self._not_before_s = moment_s
        if self._pause_over is not None:
            _ring(self._pause_over)
        if self._alarm is not None:
            self._let_many_through()

    @property
    def pause_left_s(self) -> float:
        """How long nobody is let through; 0 while somebody may be."""
        return max(0.0, self._not_before_s - asyncio.get_running_loop().time())

    @property
    def in_flight(self) -> int:
        """Requests that are through and not yet back."""
        return len(self._through)

    @property
    def oldest_age_s(self) -> float:
        """How long the oldest request in flight has been so; 0 where there is none."""
        oldest = next(iter(self._through), None)
        return 0.0 if oldest is None else asyncio.get_running_loop().time() - oldest.through_at_s

    @property
    def bound_by(self) -> str:
        """What keeps more from going on: "requests", "tokens", "concurrency", "pause", or "" for nothing here."""
        if self._waits_for:
            return self._waits_for
        return "concurrency" if len(self._through) >= self.most_in_flight else ""

    # There are two lines.
    # - Without budgets a place is all there is to wait for. Whoever ends a request lets as many through as there is
    #   room for, in one go (`_let_many_through`): one after the other, each waiting for the event loop to come round,
    #   would leave most of the room empty.
    # - With budgets only the head waits for anything, so that a large request never starves behind small ones, and a
    #   budget knows one payer only. It pays at its own speed, so nothing is gained by letting many go at once.
    # Once a budget has come up (from the job, a header or a 429) it stays, and the first line joins the second.

    async def _let_through(self, turn: Turn) -> None:
        loop = asyncio.get_running_loop()
        entered_s = now_s = loop.time()
        is_barred = bool(self._unbudgeted) or len(self._through) >= self.most_in_flight or self._not_before_s > now_s
        if not self._has_budgets and is_barred and await self._wait_unbudgeted(turn):
            turn.wait_s = turn.through_at_s - entered_s
            return
        if self._has_budgets:
            self._in_line += 1
            try:
                async with self._line:
                    await self._wait_as_head(turn.reserved)
            finally:
                self._in_line -= 1
            now_s = loop.time()
            turn.wait_s = now_s - entered_s
        # No await since the line was left: else its next head would count this place as free.
        turn.through_at_s = now_s
        self._through[turn] = None
        self._has_let_any = True

    async def _wait_unbudgeted(self, turn: Turn) -> bool:
        """In line for a place alone; False when budgets have come up meanwhile."""
        called: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._unbudgeted.append((turn, called))
        self._let_many_through()
        try:
            return await called
        except asyncio.CancelledError:
            if turn in self._through:  # let through and cancelled in the same moment
                self._leave(turn)
            self._let_many_through()
            raise

    def _let_many_through(self) -> None:
        loop = asyncio.get_running_loop()
        self._waits_for = ""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._unbudgeted:
            turn, called = self._unbudgeted[0]
            if not called.done():  # else it was cancelled
                if len(self._through) >= self.most_in_flight:
                    self._waits_for = "concurrency"
                    return
                if self.pause_left_s:
                    self._waits_for = "pause"
                    self._alarm = loop.call_at(self._not_before_s, self._let_many_through)
                    return
                turn.through_at_s = loop.time()
                self._through[turn] = None
                self._has_let_any = True
                called.set_result(True)
            self._unbudgeted.popleft()

    async def _wait_as_head(self, tokens: float) -> None:
        """Returns when the caller may go, without giving others a chance to run in between."""
        # The request is paid last, so that it goes in the moment in which it is paid. A pause that begins meanwhile
        # voids that payment: after the pause this request and the next would go together. Its tokens stay paid; they
        # are given back only when it is cancelled.
        try:
            while len(self._through) >= self.most_in_flight:
                self._waits_for = "concurrency"
                self._room = asyncio.get_running_loop().create_future()
                await self._room
            if self._tokens is not None:
                self._waits_for = "tokens"
                await self._tokens.pay(tokens)
            try:
                await self._wait_for_pause()
                while self._requests is not None:
                    self._waits_for = "requests"
                    await self._requests.pay(1)
                    if not self.pause_left_s:
                        break
                    await self._wait_for_pause()
            except BaseException:
                self._give_back(tokens)
                raise
        finally:
            self._room = None
            self._waits_for = ""

    async def _wait_for_pause(self) -> None:
        while left_s := self.pause_left_s:  # others may push it meanwhile
            self._waits_for = "pause"
            loop = asyncio.get_running_loop()
            over: asyncio.Future[None] = loop.create_future()
            self._pause_over, alarm = over, loop.call_later(left_s, _ring, over)
            try:
                await over
            finally:
                alarm.cancel()
                self._pause_over = None

    def _leave(self, turn: Turn) -> None:
        del self._through[turn]
        if self._has_budgets:
            self._wake_head()
        elif self._unbudgeted:
            self._let_many_through()
        if self.on_room is not None:
            self.on_room()

    def _wake_head(self) -> None:
        if self._room is not None and not self._room.done() and len(self._through) < self.most_in_flight:
            self._room.set_result(None)

    def _give_back(self, tokens: float) -> None:
        """Return tokens that were reserved and not used; fewer than 0 if more were used than reserved."""
        if self._tokens is not None:
            self._tokens.give_back(tokens)


class Turn:
    """One request's way through the gate. `wait_s` is how long it waited there."""

    __slots__ = ("_gate", "reserved", "through_at_s", "wait_s")

    def __init__(self, gate: Gate, tokens: float) -> None:
        self._gate = gate
        self.reserved = tokens  # tokens
        self.wait_s = 0.0
        self.through_at_s = 0.0  # on the loop's clock

    async def __aenter__(self) -> Turn:
        await self._gate._let_through(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate._leave(self)

    def settle(self, tokens_used: float) -> None:
        """Replace what was reserved by what was really used: too much is given back, too little is owed."""
        self._gate._give_back(self.reserved - tokens_used)
        self.reserved = tokens_used


def _ring(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


class _Budget:
    """So many requests or tokens a minute. One payer at a time: the head of the line.

    What was taken and not spent stays in hand, so whoever is cancelled midway has lost nothing; what was spent
    beyond it is a debt that the next pays.
    """

    # AsyncLimiter alone would not do: a full bucket is a burst; a large payment starves behind small ones, and one
    # beyond its capacity raises; nothing can be given back; a new `max_rate` changes the burst rather than the rate. So
    # its bucket holds seconds, one at most, and is drained at first. A payer takes the price of a request in seconds, a
    # high one in parts, and a new rate is only a new price.

    def __init__(self, per_minute: float, *, most_at_once: float | None, is_first_free: bool) -> None:
        """`most_at_once` is the largest single payment to expect; None: they differ."""
        self._most_at_once = most_at_once
        self._in_hand_s = 0.0
        self._price_s = 0.0
        self._is_first_free = is_first_free
        self._set(per_minute)

    def set_rate(self, per_minute: float) -> None:
        """Change the price; where the rate is a very different one, take another bucket as well, an empty one."""
        price_s = 60.0 / (_USED * per_minute)
        if price_s == self._price_s:
            return
        # What is in hand (less than 0: a debt) counts as so many requests or as so many seconds, whichever is less.
        self._in_hand_s = min(self._in_hand_s * price_s / self._price_s, self._in_hand_s)
        if self._most_at_once is None or 0.5 <= price_s / self._bucket_price_s <= 4.0:
            self._price_s = price_s
        else:  # the old one holds the price of several, or one would be paid in many parts
            self._set(per_minute)

    def _set(self, per_minute: float) -> None:
        self._price_s = self._bucket_price_s = 60.0 / (_USED * per_minute)
        at_once_s = _MOST_AT_ONCE_S if self._most_at_once is None else max(_LEASE_S, self._most_at_once * self._price_s)
        self._part_s = min(_MOST_AT_ONCE_S, at_once_s)
        self._capacity_s = self._part_s + _LATE_S
        self._limiter = AsyncLimiter(self._capacity_s, self._capacity_s)  # gains a second a second
        self._is_untouched = True

    async def pay(self, amount: float) -> None:
        """Wait until the payer may go: a request that is paid goes at once."""
        if self._is_untouched:  # what is there at first leaves as if spent: no burst
            await self._empty_it()
            if self._is_first_free:
                self._is_first_free = False
                return
        while self._in_hand_s < amount * self._price_s:  # another rate may come meanwhile
            if self._is_untouched:
                await self._empty_it()
            part_s = min(max(amount * self._price_s - self._in_hand_s, _LEASE_S), self._part_s)
            price_s = self._price_s
            await self._limiter.acquire(part_s)
            # Where the rate has risen meanwhile, it counts as so many requests: as seconds it would be a burst.
            self._in_hand_s += part_s * min(1.0, self._price_s / price_s)
        self._in_hand_s -= amount * self._price_s

    async def _empty_it(self) -> None:
        self._is_untouched = False
        await self._limiter.acquire(self._capacity_s)

    def give_back(self, amount: float) -> None:
        self._in_hand_s += amount * self._price_s
