"""The place where requests wait: for room in flight, for the two budgets of a minute, for a pause a server asked for.

First in, first out: a large request never starves behind small ones.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

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
        self.on_room: Callable[[], None] | None = None  # called when one more may have room
        self._tokens = _Budget(most_at_once=None)
        self._requests = _Budget(most_at_once=1)
        self._not_before_s = 0.0  # on the loop's clock
        self._line: deque[Waiter] = deque()  # in order
        self._through: dict[Admission, None] = {}  # oldest first
        self._alarm: asyncio.TimerHandle | None = None  # at the end of a pause, for the line
        self._collector: asyncio.Task[None] | None = None  # takes what the first in line costs from a budget
        self._collects_for: Waiter | None = None
        self._collects_tokens = False  # else requests
        self._has_let_any = False

    # Everything is decided at once and without waiting, in `_let_through`: the first in line goes if nothing holds it
    # back, and then the next. It is called whenever something may have changed: somebody comes or leaves, more may
    # be in flight, a pause ends, a budget has been collected. Whoever ends a request so lets as many through as there
    # is room for: one after the other, each in a turn of the loop of its own, would leave most of the room empty.
    # What holds the first back decides who calls it next:
    # - "concurrency": `Admission.leave` or `limit_in_flight`.
    # - "tokens", "requests": the collector, as soon as it has what the first one costs; there is at most one.
    # - "pause": the alarm.

    async def admit(self, tokens: float = 0.0, *, since_s: float | None = None) -> Admission | None:
        """Wait for a place for one request that is expected to take `tokens`. None: `send_away` was called meanwhile.

        `since_s` is when it began to wait, where that was elsewhere.
        """
        place = self.enter(tokens, since_s=since_s)
        if isinstance(place, Admission):
            return place
        try:
            return await place.called
        except asyncio.CancelledError:
            self.withdraw(place)
            raise

    def enter(self, tokens: float = 0.0, *, since_s: float | None = None) -> Admission | Waiter:
        """As `admit`, without waiting: a place, or one who will be called, unless `withdraw` comes first."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        entered_s = now_s if since_s is None else since_s
        if (not self._line or self._first is None) and not self._bar(tokens, now_s):
            return self._let_in(tokens, entered_s, now_s)
        waiter = Waiter(tokens, entered_s, loop.create_future())
        self._line.append(waiter)
        if len(self._line) == 1:  # else there is one before it, which is already being waited for
            self._let_through()
        return waiter

    def withdraw(self, waiter: Waiter) -> None:
        """It waits no longer; a place that it was given in the same moment is free."""
        if waiter.called.cancelled() or waiter.called.cancel():
            self._give_back(waiter)
        elif (admission := waiter.called.result()) is not None:
            admission.leave()
        self._let_through()

    def send_away(self) -> None:
        """Nobody waits here any longer: whoever did gets None."""
        while self._line:
            waiter = self._line.popleft()
            if not waiter.called.done():
                waiter.called.set_result(None)
                self._give_back(waiter)
        self._let_through()

    def limit_in_flight(self, most: int) -> None:
        """Let at most `most` (at least 1) be in flight from now on; those that are through stay through."""
        self.most_in_flight = max(1, most)
        self._let_through()
        if self.on_room is not None:
            self.on_room()

    def limit_rates(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        """Keep within these rates from now on; None or 0 leaves that rate as it was."""
        if requests_per_minute:
            self._requests.set_rate(requests_per_minute, is_first_free=not self._has_let_any)
        if tokens_per_minute:
            self._tokens.set_rate(tokens_per_minute, is_first_free=not self._has_let_any)

    def hold_until(self, moment_s: float) -> None:
        """Let nobody through before this moment on the loop's clock; an earlier one shortens the pause."""
        if moment_s != self._not_before_s:
            self._not_before_s = moment_s
            self._let_through()

    def has_room(self, coming: int) -> bool:
        """Whether one more than the `coming` that are on their way here goes through at once or is the next to go."""
        # A budget is collected for one request after the other, so with a budget only one may be on its way.
        has_budgets = self._requests.is_limited or self._tokens.is_limited
        ahead = coming and has_budgets
        return self._first is None and not ahead and len(self._through) + coming < self.most_in_flight

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
        if (first := self._first) is not None:
            return self._bar(first.tokens, asyncio.get_running_loop().time(), has_tokens=first.has_tokens)
        return "concurrency" if len(self._through) >= self.most_in_flight else ""

    @property
    def _first(self) -> Waiter | None:
        """Who is first in line. Those who were cancelled meanwhile are passed over only here."""
        while self._line and self._line[0].called.done():
            self._line.popleft()
        return self._line[0] if self._line else None

    def _bar(self, tokens: float, now_s: float, *, has_tokens: bool = False) -> str:
        """What keeps the first in line from going now; empty for nothing. `has_tokens`: it has paid for its tokens."""
        # A request is paid last, so that it goes in the moment in which it is paid: one that was paid before a pause
        # and the one after it would go together. Its tokens are paid for as soon as they are collected: answers that
        # come until it goes may bring a debt or another rate, for which it would have to begin anew.
        if len(self._through) >= self.most_in_flight:
            return "concurrency"
        if not has_tokens and not self._tokens.has(tokens):
            return "tokens"
        if now_s < self._not_before_s:
            return "pause"
        return "" if self._requests.has(1) else "requests"

    def _let_in(self, tokens: float, entered_s: float, now_s: float, *, has_tokens: bool = False) -> Admission:
        if not has_tokens:
            self._tokens.spend(tokens)
        self._requests.spend(1)
        admission = Admission(self, tokens, now_s - entered_s, now_s)
        self._through[admission] = None
        self._has_let_any = True
        return admission

    def _let_through(self) -> None:
        bar, loop = "", asyncio.get_running_loop()
        while not bar and (first := self._first) is not None:
            now_s = loop.time()
            bar = self._bar(first.tokens, now_s, has_tokens=first.has_tokens)
            if not bar:
                admission = self._let_in(first.tokens, first.entered_s, now_s, has_tokens=first.has_tokens)
                first.called.set_result(admission)
                self._line.popleft()
            elif bar in ("pause", "requests") and not first.has_tokens:
                self._tokens.spend(first.tokens)
                first.has_tokens = True
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if bar == "pause":
            self._alarm = loop.call_at(self._not_before_s, self._let_through)
        # The collector of requests goes on through a pause, as long as its request is the first, and what it took for
        # one that then cannot go is forfeited: left in the bucket, it would let two go together after the pause. That
        # of tokens has no more to do once they are paid for, perhaps by what an answer has given back.
        is_needless = self._collects_for is not first or (self._collects_tokens and bar != "tokens")
        if self._collector is not None and is_needless:
            self._collector.cancel()  # what it has taken stays in hand
            self._collector = None
        if bar != "requests" and self._collector is None:
            self._requests.forfeit()
        if bar in ("tokens", "requests") and first is not None and self._collector is None:
            collecting = self._requests.collect(1) if bar == "requests" else self._tokens.collect(first.tokens)
            self._collector, self._collects_for = loop.create_task(collecting), first
            self._collects_tokens = bar == "tokens"
            self._collector.add_done_callback(self._collected)

    def _collected(self, collector: asyncio.Task[None]) -> None:
        if collector is self._collector:
            collector.result()
            self._collector = None
            self._let_through()

    def _give_back(self, waiter: Waiter) -> None:
        """It goes nowhere: what it has paid for its tokens is in hand again."""
        if waiter.has_tokens:
            self._tokens.give_back(waiter.tokens)


class Admission(msgspec.Struct, eq=False):
    """A request that was let through: it fills a place until `leave`."""

    gate: Gate
    reserved: float  # tokens
    wait_s: float  # how long it waited
    through_at_s: float  # on the loop's clock

    def leave(self) -> None:
        """It is back: the place is free."""
        gate = self.gate
        del gate._through[self]
        if gate._line:
            gate._let_through()
        if gate.on_room is not None:
            gate.on_room()

    def settle(self, tokens_used: float) -> None:
        """Replace what was reserved by what was really used: too much is given back, too little is owed."""
        self.gate._tokens.give_back(self.reserved - tokens_used)
        self.reserved = tokens_used


class Waiter(msgspec.Struct, eq=False):
    """One in line."""

    tokens: float
    entered_s: float
    called: asyncio.Future[Admission | None]
    has_tokens: bool = False  # that they are paid for


class _Budget:
    """So many requests or tokens a minute; without a rate it is always full.

    What was taken and not spent stays in hand, so whoever is cancelled midway has lost nothing; what was spent
    beyond it is a debt that the next pays.
    """

    # AsyncLimiter alone would not do: a full bucket is a burst; a large payment starves behind small ones, and one
    # beyond its capacity raises; nothing can be given back; a new `max_rate` changes the burst rather than the rate. So
    # its bucket holds seconds, one at most, and is drained at first. The price of a request is taken in seconds, a
    # high one in parts, and a new rate is only a new price. At least a lease is taken at a time, which may pay for
    # several: they go together.

    def __init__(self, *, most_at_once: float | None) -> None:
        """`most_at_once` is the largest single payment to expect; None: they differ."""
        self._most_at_once = most_at_once
        self._in_hand_s = 0.0
        self._price_s = 0.0  # 0: no rate is known
        self._is_first_free = False

    @property
    def is_limited(self) -> bool:
        return self._price_s > 0

    def set_rate(self, per_minute: float, *, is_first_free: bool) -> None:
        """Change the price; where the rate is a very different one, take another bucket as well, an empty one.

        `is_first_free`: if this is the first rate, the first payment takes nothing.
        """
        price_s = 60.0 / (_USED * per_minute)
        if price_s == self._price_s:
            return
        if not self.is_limited:
            self._is_first_free = is_first_free
            self._take_bucket(price_s)
            return
        # What is in hand (less than 0: a debt) counts as so many requests or as so many seconds, whichever is less.
        self._in_hand_s = min(self._in_hand_s * price_s / self._price_s, self._in_hand_s)
        if self._most_at_once is None or 0.5 <= price_s / self._bucket_price_s <= 4.0:
            self._price_s = price_s
        else:  # the old one holds the price of several, or one would be paid in many parts
            self._take_bucket(price_s)

    def _take_bucket(self, price_s: float) -> None:
        from aiolimiter import AsyncLimiter

        self._price_s = self._bucket_price_s = price_s
        at_once_s = _MOST_AT_ONCE_S if self._most_at_once is None else max(_LEASE_S, self._most_at_once * price_s)
        self._part_s = min(_MOST_AT_ONCE_S, at_once_s)
        self._capacity_s = self._part_s + _LATE_S
        self._limiter = AsyncLimiter(self._capacity_s, self._capacity_s)  # gains a second a second
        self._is_untouched = True

    def has(self, amount: float) -> bool:
        """Whether so much is in hand."""
        return self._in_hand_s >= amount * self._price_s

    def spend(self, amount: float) -> None:
        self._in_hand_s -= amount * self._price_s

    def give_back(self, amount: float) -> None:
        self._in_hand_s += amount * self._price_s

    def forfeit(self) -> None:
        """One request was paid for and cannot go in this moment: later it would go together with the next."""
        if self._in_hand_s > _LEASE_S and self.has(1):
            self.spend(1)

    async def collect(self, amount: float) -> None:
        """Wait until so much is in hand."""
        if self._is_untouched:  # what is there at first leaves as if spent: no burst
            await self._empty_it()
            if self._is_first_free:
                self._is_first_free = False
                self._in_hand_s += amount * self._price_s
        while not self.has(amount):  # another rate may come meanwhile
            if self._is_untouched:
                await self._empty_it()
            part_s = min(max(amount * self._price_s - self._in_hand_s, _LEASE_S), self._part_s)
            price_s = self._price_s
            await self._limiter.acquire(part_s)
            # Where the rate has risen meanwhile, it counts as so many requests: as seconds it would be a burst.
            self._in_hand_s += part_s * min(1.0, self._price_s / price_s)

    async def _empty_it(self) -> None:
        self._is_untouched = False
        await self._limiter.acquire(self._capacity_s)
