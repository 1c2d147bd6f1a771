"""How fast one endpoint, with one model and one key, is asked: all that is learnt of it, and what follows. Pure.

One pacer sees every request and answer of its endpoint, and decides what the gate may let through. No request has a
backoff of its own.
"""

from __future__ import annotations

from typing import NamedTuple

from batchcall.base import ExitCode, Failure, FailureKind, RateLimits, Scope
from batchcall.pacing.breaker import Breaker, is_of_endpoint
from batchcall.pacing.health import Verdict, used_up
from batchcall.pacing.open_limit import OpenLimit
from batchcall.pacing.rate import LastMinute, LearntRate
from batchcall.pacing.window import Window

MOST_AUTO = 512  # in flight, where the job says "auto"

_RAMP = 8  # in flight after the first reply, until as many more have come
_OPENING_STEP_S = 0.05  # after which twice as many go out, once so many are answered
_RAMP_STEP = 2  # more in flight for each further reply, where something was refused
_RAMP_STEP_S = 10.0  # without an answer, after which twice as many may be in flight: it is slow, and refuses nothing
_JITTER = 0.1  # of a pause: many processes with one account do not come back at the same moment
_MAX_OUTAGE_S = 1800.0  # that is waited for, where nobody says how long,
_MAX_OUTAGE_AT_START_S = 30.0  # and while nothing has ever worked: more likely a wrong URL
# Tokens that came in the last minute, as a share of what it may hold, steer those that are let in: so much is aimed at,
# and so much of what is missing or too much is made up for at a time.
_AIM, _MAKES_UP, _LEAST_UP, _MOST_UP = 0.98, 0.3, 0.7, 1.1
_CROWDED_ALONE = 5
_PAUSE_S = 1.0  # for an endpoint that is overloaded and does not say for how long


class Orders(NamedTuple):
    """What the gate may let through from now on."""

    requests_per_minute: float | None
    tokens_per_minute: float | None
    in_flight: int
    not_before_s: float
    again_at_s: float | None = None  # when they change by themselves; None: only with an answer


class Pacer:
    """`concurrency` None: found out. Rates None: taken from headers, else learnt. Times are on one monotonic clock."""

    def __init__(
        self,
        *,
        concurrency: int | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_outage_s: float | None = None,
        most_auto: int = MOST_AUTO,
    ) -> None:
        self.most_in_flight = most_auto if concurrency is None else concurrency
        self.window = Window(self.most_in_flight) if concurrency is None else None
        self.breaker = Breaker()
        self.open_limit = OpenLimit()
        self._rate = LearntRate(requests_per_minute / 60 if requests_per_minute else None)
        self._has_own_rate = bool(requests_per_minute)
        self._tokens_per_minute = tokens_per_minute or None
        self._has_own_tokens = bool(tokens_per_minute)
        self._minute = LastMinute()
        self._max_outage_s = max_outage_s
        self._replies = 0  # since the start, or since the endpoint came back
        self._first_reply_s = self._opened_at_s = 0.0
        self._quota: Failure | None = None  # used up, says an answer that asks for a short pause all the same
        self._quota_paused_until_s = 0.0
        self._quota_stays = False  # it was used up after that pause, too
        self._was_refused = False
        self.is_beyond_open = False  # the last failure is explained by how many were in flight: the row did nothing
        self._not_before_s = 0.0
        self._limits_read_at_s = float("-inf")
        self._open = 0  # in flight,
        self._open_before = 0  # and of those, sent before the last overload was seen
        self._crowded_alone = 0  # times that there was no descriptor for the only connection, in a row
        self._standing: Orders | None = None  # while no answer changes them

    # What it sees.

    def sent(self, now_s: float) -> None:
        """A request goes out."""
        self._rate.sent(now_s)
        self.open_limit.sent(now_s)
        self._open += 1

    def answered(self, sent_at_s: float, now_s: float, *, in_flight: int, work: float) -> None:
        """A completion came, worth `work` (its tokens), while so many were in flight, itself included."""
        self._ended(sent_at_s)
        self.open_limit.accepted(sent_at_s, now_s)
        self._at_work(sent_at_s, now_s)
        self._replied(now_s)
        self._crowded_alone = 0
        if self.window is not None and self._replies > 1:
            self.window.ended(sent_at_s, now_s, in_flight=in_flight, work=work)

    def failed(
        self, row: int, failure: Failure, *, sent_at_s: float, now_s: float, roll: float, is_judged: bool = True
    ) -> None:
        """A request failed. `roll` in [0, 1) spreads pauses out."""
        # Each failure teaches one thing only, since one that is taken for another does harm. In this order:
        # - It is explained by how many were in flight. The rate must not learn from it: it would fall until nothing is
        #   in flight beside another, and the job would stand still. All pause for a moment, until what was sent
        #   together is settled.
        # - A quota of a day or so is used up: no pace helps, so this is not the rate either.
        # - Any other 429: the rate.
        # - This process has no descriptor left: the endpoint has done nothing.
        # - The endpoint fails (5xx, no answer): the breaker counts. The rate is not cut, since this says nothing of it.
        # - The row itself is refused (too long, filtered): that is an answer, so the endpoint is at work.
        # What is left, a wrong key for instance, is for `Health`.
        self._standing = None
        self._ended(sent_at_s)
        self.is_beyond_open = self._is_beyond_open(failure, sent_at_s, now_s)
        self._was_refused = self._was_refused or failure.kind in _OF_LIMITS
        if self.is_beyond_open:
            self._rate.not_admitted(sent_at_s)
            if failure.kind is FailureKind.OVERLOADED and not self.open_limit.is_sure:
                self.breaker.failed(row, failure, sent_at_s, now_s)  # an outage begins in the same way
            if failure.kind is not FailureKind.TOO_MANY_OPEN:
                self._pause(failure.retry_after_s or _SETTLE_S, now_s, roll)
        elif failure.quota is not None and failure.kind is FailureKind.RATE_LIMITED:
            self._met_quota(failure, sent_at_s, now_s, roll)
        elif failure.kind is FailureKind.RATE_LIMITED:
            self._refused(failure, sent_at_s, now_s, roll)
        elif failure.kind is FailureKind.NO_DESCRIPTORS:
            # This process may not open one connection more: as many as are open are all there can be.
            self._crowded_alone += not self._open
            self.most_in_flight = max(1, min(self.most_in_flight, self._open))
            if self.window is not None:
                self.window.most = self.most_in_flight
                self.window.size = min(self.window.size, self.most_in_flight)
        elif is_of_endpoint(failure):
            self._broken(row, failure, sent_at_s, now_s, roll)
        elif failure.kind.rule.scope is Scope.ROW:
            self._at_work(sent_at_s, now_s)
            if is_judged:
                self._replied(now_s)

    def used(self, tokens: int, now_s: float) -> None:
        """A request took so many tokens."""
        if self._tokens_per_minute is not None:
            self._minute.add(tokens, now_s)

    def wants_limits(self, now_s: float) -> bool:
        """Headers are worth reading again."""
        return now_s - self._limits_read_at_s >= 1.0

    def saw_limits(self, limits: RateLimits, now_s: float) -> None:
        """The endpoint reports its limits. The job file takes precedence."""
        self._limits_read_at_s, self._standing = now_s, None
        if limits.requests_per_minute is not None and not self._has_own_rate:
            self._rate.ceiling_per_s = limits.requests_per_minute / 60
        if limits.open_at_once is not None:
            self.open_limit.named(limits.open_at_once)
        if limits.tokens_per_minute is not None and not self._has_own_tokens:
            self._tokens_per_minute = limits.tokens_per_minute

    def saw_queue(self, running: float, waiting: float, now_s: float) -> None:
        """The server's own /metrics report its queue."""
        if self.window is not None:
            self.window.saw_queue(running, waiting, now_s)

    # What it decides.

    def orders(self, now_s: float) -> Orders:
        """What the gate may let through, by all that is known at this moment."""
        if self._standing is not None:
            return self._standing
        # Reservations alone would not use the minute up, nor stay within it: they are estimates. So the rate of tokens
        # is steered by what really came in the last minute, and nothing goes while that minute is full.
        per_s, tokens_per_minute, room_at_s = self._rate.per_s(now_s), self._tokens_per_minute, 0.0
        if tokens_per_minute is not None and self._minute.is_known:
            room_at_s = self._minute.room_at_s(tokens_per_minute, now_s)
            share = self._minute.used_share(tokens_per_minute)
            tokens_per_minute *= min(_MOST_UP, max(_LEAST_UP, 1 + _MAKES_UP * (_AIM - share)))
        in_flight, again_at_s = self._in_flight(per_s is not None, now_s)
        orders = Orders(
            None if per_s is None else per_s * 60,
            tokens_per_minute,
            in_flight if self.open_limit.most is None else max(1, min(in_flight, self.open_limit.most)),
            max(self._not_before_s, room_at_s, self.breaker.next_probe_s if self.breaker.is_open else 0.0),
            again_at_s,
        )
        # Where nothing was learnt that bounds it, neither time nor an answer changes them: they stand until something
        # fails or a limit is named.
        is_unbound = orders[:3] == (None, None, self.most_in_flight) and again_at_s is None
        if is_unbound and self.window is None and not self.is_down:
            self._standing = orders
        return orders

    @property
    def is_down(self) -> bool:
        """Nothing gets through: what fails now is not the row's fault and does not count as one of its attempts."""
        return self.breaker.is_open or self._rate.is_refused or self._quota is not None

    @property
    def bound_by(self) -> str:
        """What bounds the requests in flight: "ramp", "open" for what the endpoint takes, or "concurrency"."""
        if self.is_ramping and self.most_in_flight > _RAMP:
            return "ramp"
        most = self.open_limit.most
        return "open" if most is not None and most < self.most_in_flight else "concurrency"

    @property
    def is_ramping(self) -> bool:
        """What may be in flight grows with time."""
        return self._replies <= _RAMP

    @property
    def needs_window(self) -> bool:
        """Nothing but the window bounds what is sent."""
        return self.window is not None and self._rate.per_s(0.0) is None

    def verdict(self, now_s: float) -> Verdict | None:
        """Why to stop: the endpoint has been down for too long, or a pause did not refill its quota. None: go on."""
        if self._quota is not None and self._quota_stays:
            return used_up(self._quota)
        breaker = self.breaker
        if self._crowded_alone >= _CROWDED_ALONE:
            return Verdict(
                ExitCode.STOPPED_EARLY,
                "this process has no file descriptor left for a single connection",
                "check what else it has open, raise its limit (ulimit -n) or lower limits.concurrency; then run the"
                " same command",
            )
        if not breaker.is_open or breaker.failing_since_s is None:
            return None
        if now_s - breaker.failing_since_s < self._patience_s() - 1e-6:
            return None
        what = breaker.last_failure.message if breaker.last_failure else "no answer"
        return Verdict(
            ExitCode.STOPPED_EARLY,
            f"the endpoint has been down for {_say(now_s - breaker.failing_since_s)} ({what})",
            "check that the endpoint is up and endpoint.url is right, then run the same command; no row was given up"
            " because of it. --max-outage sets how long to wait",
        )

    def _in_flight(self, is_rate_known: bool, now_s: float) -> tuple[int, float | None]:
        """How many may be in flight, and when that changes by itself.

        The first request goes alone: a wrong key costs one. Then `_RAMP`. Once as many are answered, all of them within
        a second, slowly enough for a refusal to be heard, unless a rate, the window or a refusal says otherwise. An
        endpoint that takes its time is not waited for.
        """
        if self.breaker.is_open or self._quota is not None:
            return 1, None
        if self._replies == 0:
            since_s = self.open_limit.oldest_sent_s
            return _ramped(1, _RAMP, now_s if since_s is None else since_s, now_s, step_s=_RAMP_STEP_S)
        if self._rate.is_refused:  # one at a time, beside those that are on their way, until one is accepted
            return min(self._open_before + 1, self.most_in_flight), None
        if self._replies <= _RAMP:
            if self.window is not None:
                return min(_RAMP, self.most_in_flight), None
            return _ramped(_RAMP, self.most_in_flight, self._first_reply_s, now_s, step_s=_RAMP_STEP_S)
        if self.window is not None:
            return (self.window.most if is_rate_known else self.window.size), None
        if self._was_refused and not is_rate_known:  # carefully: it has a limit that is not known yet
            return min(self.most_in_flight, _RAMP + _RAMP_STEP * (self._replies - _RAMP)), None
        if is_rate_known:
            return self.most_in_flight, None
        return _ramped(2 * _RAMP, self.most_in_flight, self._opened_at_s, now_s, step_s=_OPENING_STEP_S)

    def _ended(self, sent_at_s: float) -> None:
        self._open -= 1
        if self._open_before and sent_at_s < self._rate.cut_at_s:
            self._open_before -= 1

    def _at_work(self, sent_at_s: float, now_s: float) -> None:
        if self._quota is not None and sent_at_s >= self._quota_paused_until_s:
            self._quota = None
        if self.breaker.answered(sent_at_s):
            self._replies = 0  # carefully again
        self._rate.accepted(sent_at_s, now_s)

    def _replied(self, now_s: float) -> None:
        self._replies += 1
        if self._replies == 1:
            self._first_reply_s = now_s
        if self._replies == _RAMP + 1:
            self._opened_at_s = now_s

    def _is_beyond_open(self, failure: Failure, sent_at_s: float, now_s: float) -> bool:
        """Whether a refusal is explained by how many are in flight; then neither the row nor the rate is at fault."""
        if failure.kind not in _OF_LIMITS or failure.quota is not None:
            self.open_limit.ended(sent_at_s)
            return False
        is_named = failure.kind is FailureKind.TOO_MANY_OPEN
        is_busy = failure.kind is FailureKind.OVERLOADED
        may_suspect = is_busy or (self.open_limit.is_early and self._rate.per_s(now_s) is None)
        return self.open_limit.refused(sent_at_s, now_s, is_named=is_named, may_suspect=may_suspect)

    def _met_quota(self, failure: Failure, sent_at_s: float, now_s: float, roll: float) -> None:
        """A quota of a day is used up, and yet a short pause is asked for."""
        # Groq's is refilled bit by bit, Google's is not, and neither answer says which. So after the pause one request
        # tries; if it is refused too, the quota stays used up, and the run stops.
        self._rate.not_admitted(sent_at_s)
        self._quota_stays = self._quota is not None and sent_at_s >= self._quota_paused_until_s
        if self._quota is None or self._quota_stays:
            self._quota = failure
            self._quota_paused_until_s = now_s + (failure.retry_after_s or 0.0)
        self._pause(failure.retry_after_s or 0.0, now_s, roll)

    def _refused(self, failure: Failure, sent_at_s: float, now_s: float, roll: float) -> None:
        pause_s = self._rate.refused(sent_at_s, now_s, is_else=self._tokens_per_minute is not None)
        if pause_s is None:
            return
        if pause_s:
            self._open_before = self._open
        self._pause(failure.retry_after_s or pause_s, now_s, roll)

    def _broken(self, row: int, failure: Failure, sent_at_s: float, now_s: float, roll: float) -> None:
        """A 5xx or a lost connection: it concerns its own row only, until there are too many."""
        was_open = self.breaker.is_open
        self.breaker.failed(row, failure, sent_at_s, now_s)
        if was_open:  # for more than a moment: its 503s were an outage, not a limit on what is in flight
            self.open_limit.forget()
        if failure.kind.rule.slows:
            self._pause(failure.retry_after_s or _PAUSE_S, now_s, roll)
        if self.breaker.is_open and self.breaker.failing_since_s is not None:
            # The last probe goes just when patience ends, however long the next wait would be: the run should not stop
            # without having asked at the very end.
            last_s = self.breaker.failing_since_s + self._patience_s()
            if last_s > now_s:
                self.breaker.next_probe_s = min(self.breaker.next_probe_s, last_s)
                self._not_before_s = min(self._not_before_s, last_s)
        if self.window is not None and failure.kind is FailureKind.TIMED_OUT and not self.breaker.is_open:
            self.window.overloaded(sent_at_s, now_s)

    def _pause(self, wait_s: float, now_s: float, roll: float) -> None:
        self._not_before_s = max(self._not_before_s, now_s + wait_s * (1 + _JITTER * roll))

    def _patience_s(self) -> float:
        if self._max_outage_s is not None:
            return self._max_outage_s
        return _MAX_OUTAGE_S if self.breaker.has_worked else _MAX_OUTAGE_AT_START_S


# Failures that may be for what is in flight.
_OF_LIMITS = frozenset({FailureKind.TOO_MANY_OPEN, FailureKind.RATE_LIMITED, FailureKind.OVERLOADED})
_SETTLE_S = 0.25  # until all that were sent together are refused or let in


def _ramped(first: int, last: int, since_s: float, now_s: float, *, step_s: float) -> tuple[int, float | None]:
    """Twice as many for each step of time, up to the last; and when the next step comes."""
    steps = int(max(0.0, now_s - since_s) / step_s + 1e-6)
    allowed = first << min(steps, 20)
    return (last, None) if allowed >= last else (allowed, since_s + (steps + 1) * step_s)


def _say(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
