"""How many requests a second an endpoint takes, learnt from those it refuses. Pure: every moment is an argument."""

from __future__ import annotations

from collections import deque

from batchcall.pacing.random_refusals import RandomRefusals

_BIN_S = 0.25  # width of the counts that are kept
_REMEMBERED_S = 60.0  # as long as the longest window by which providers count
_OF_MINUTE = 0.995  # of the tokens of a minute: the prompts of what is in flight come on top
_RECENT_S = 3.0
_EPOCH_S = 1.0  # shorter ones say nothing
_LONG_REFUSAL_S, _LONG_REFUSALS = 5.0, 4  # whoever refuses longer than this counts a whole minute
_CUT = 0.95  # of what was admitted: an estimate that is good needs no deeper one
_FIRST_HOLD_S, _LONGEST_HOLD_S = 2.0, 40.0
_AGREE = 0.15  # two estimates nearer than this confirm each other
# After so long above what is known, the rate is 5 % higher; after twice as long, 40 %: quick while an estimate is new.
_LEAST_PROBE_S, _MOST_PROBE_S = 1.0, 10.0
_LEAST_PER_S = 1 / 60
_DEEPEST_CUT = 0.2  # at once
_NOT_ELSE = 7  # refusals in a row that another budget does not explain
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 4.0


class LastMinute:
    """Tokens that were used in the last sixty seconds."""

    # The gate reserves tokens for answers to come. A provider that counts a minute counts answers that came, and long
    # ones come together now and then.

    def __init__(self) -> None:
        self._used: deque[tuple[int, float]] = deque()  # bins, oldest first
        self._sum = 0.0

    @property
    def is_known(self) -> bool:
        """The endpoint says what it counts."""
        return bool(self._used)

    def add(self, tokens: float, now_s: float) -> None:
        at = int(now_s / _BIN_S)
        self._forget(at)
        self._sum += tokens
        if self._used and self._used[-1][0] == at:
            tokens += self._used.pop()[1]
        self._used.append((at, tokens))

    def used_share(self, per_minute: float) -> float:
        return self._sum / per_minute

    def room_at_s(self, per_minute: float, now_s: float) -> float:
        """The moment when less than `per_minute` was used in the minute before it."""
        self._forget(int(now_s / _BIN_S))
        over = self._sum - _OF_MINUTE * per_minute
        if over < 0:
            return 0.0
        for at, tokens in self._used:
            over -= tokens
            if over < 0:
                return (at + 1) * _BIN_S + _REMEMBERED_S
        return now_s

    def _forget(self, at: int) -> None:
        while self._used and self._used[0][0] < at - _REMEMBERED_S / _BIN_S:
            self._sum -= self._used.popleft()[1]


class LearntRate:
    """Requests a second. None until something was refused: up to then only the window bounds what is sent.

    A cut starts from what was really admitted, not from what was allowed, and one overload is one cut, however many
    answers show it. Between cuts the rate comes back to what is known, stays there for a while, then rises to probe for
    more, never beyond `ceiling_per_s`.
    """

    def __init__(self, ceiling_per_s: float | None = None) -> None:
        self.ceiling_per_s = ceiling_per_s
        self._bins: dict[int, int] = {}  # requests sent and not refused, by when they were sent
        self._first_sent_s: float | None = None
        self._known: float | None = None  # a second
        self.cut_at_s = float("-inf")  # when the last overload was seen; what was sent before shows nothing new
        self._hold_s = _FIRST_HOLD_S
        self._random_refusals = RandomRefusals()
        self._before_trial = (0.0, 0.0, False)  # known, hold, counts minutes
        self._refusals = 0  # overloads in a row, nothing accepted in between
        self._tolerated = 1  # of them, before one at a time is let in
        self._overloaded_since_s = 0.0
        self._counts_minutes = False  # it refused for long: its count is that of a minute, not of a moment
        self._minute_at_refusal = 0  # admitted in the minute before the last refusal

    @property
    def is_refused(self) -> bool:
        """Nothing that was sent since the last overload was accepted so far, nor was anything before it."""
        return self._refusals > self._tolerated

    def per_s(self, now_s: float) -> float | None:
        """The rate at this moment; None: no limit is known."""
        if self._known is None:
            return self.ceiling_per_s
        # Cubic up to what is known, flat around it, and cubic beyond it once it has held for long enough: the rate
        # comes back soon after a cut, spends its time near the limit, and soon finds that a limit was raised.
        since_s, hold_s = now_s - self.cut_at_s, self._hold_s
        if since_s < hold_s:
            rate = self._known * (1 - (1 - _CUT) * ((hold_s - since_s) / hold_s) ** 3)
        else:
            probe_s = min(_MOST_PROBE_S, max(_LEAST_PROBE_S, hold_s / 2))
            rate = self._known * (1 + 0.05 * ((since_s - hold_s) / probe_s) ** 3)
        return max(_LEAST_PER_S, rate if self.ceiling_per_s is None else min(rate, self.ceiling_per_s))

    def sent(self, now_s: float) -> None:
        if self._first_sent_s is None:
            self._first_sent_s = now_s
        self._random_refusals.sent(now_s)
        at = int(now_s / _BIN_S)
        if at in self._bins:
            self._bins[at] += 1
        else:
            self._forget(now_s)
            self._bins[at] = 1

    def accepted(self, sent_at_s: float, now_s: float) -> None:
        """A request was not refused."""
        if sent_at_s < self.cut_at_s:
            return
        self._random_refusals.accepted(now_s)
        if self._refusals:
            if self.is_refused:
                # Whoever refuses for long counts a whole minute, and takes more only when the minute has room: what
                # the minute held at the last refusal is the limit, or little more.
                lasted_s = now_s - self._overloaded_since_s
                if self._known is not None and self._refusals >= _LONG_REFUSALS and lasted_s >= _LONG_REFUSAL_S:
                    self._counts_minutes = True
                    self._learn(self._minute_at_refusal / _REMEMBERED_S)
                self.cut_at_s = now_s
            self._refusals = 0

    def refused(self, sent_at_s: float, now_s: float, *, is_else: bool = False) -> float | None:
        """A request was refused for its rate. Returns the seconds for which nobody should send; 0 for an overload
        that is known already; None for a random refusal, which concerns nobody else. `is_else`: another budget
        binds, and most likely that is what was overdrawn."""
        # In this order: what was sent before the last cut shows no new overload; a random refusal shows none at all; a
        # refusal during a trial decides the trial; the first of several in a row is an overload, and cuts. The others
        # only prolong the pause: nothing was admitted in between, from which a rate could be learnt.
        self.not_admitted(sent_at_s)
        if sent_at_s < self.cut_at_s:
            return 0.0
        if self._random_refusals.excuses(sent_at_s):
            return None
        self._minute_at_refusal = self._sent_since(now_s - _REMEMBERED_S)
        self._tolerated = _NOT_ELSE if is_else else 1
        if self._random_refusals.is_trying:
            self._known, self._hold_s, self._counts_minutes = self._before_trial
            self._random_refusals.failed(self._known, now_s)
        elif self._refusals == (_NOT_ELSE if is_else else 0):
            self._learn(self._admitted_per_s(now_s))
            if (known := self._known) is not None:
                tried = self._random_refusals.overload(known, now_s, counts_minutes=self._counts_minutes)
                if tried is not None:
                    self._before_trial = known, self._hold_s, self._counts_minutes
                    self._known, self._hold_s, self._counts_minutes = tried, _FIRST_HOLD_S, False
        if self._refusals == 0:
            self._overloaded_since_s = now_s
        self._refusals += 1
        self.cut_at_s = now_s
        return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (self._refusals - 1))

    def _learn(self, per_s: float) -> None:
        before = self._known
        if before is None and not per_s:  # nothing was ever let in: nothing to learn from
            return
        per_s = max(per_s, _LEAST_PER_S, 0.0 if before is None else _DEEPEST_CUT * before)
        agrees = before is not None and abs(per_s - before) <= _AGREE * before
        self._hold_s = min(_LONGEST_HOLD_S, 2 * self._hold_s) if agrees else _FIRST_HOLD_S
        if self._counts_minutes:  # a minute that is used up early is refused to its end
            self._hold_s = max(self._hold_s, _REMEMBERED_S)
        self._known = per_s

    def _admitted_per_s(self, now_s: float) -> float:
        """What got through lately: in the last seconds, or since the last overload where that is less."""
        # Not what was allowed: after a limit has dropped to a tenth, it would take many cuts of what is allowed to get
        # there. Too short a time shows nothing; then the cut is a plain 30 %.
        if self._counts_minutes:
            return self._minute_at_refusal / _REMEMBERED_S
        since_s = max(self.cut_at_s, now_s - _RECENT_S, self._first_sent_s or 0.0)
        lasted_s = now_s - since_s
        if lasted_s < _EPOCH_S and self._known is not None:
            return self._known * 0.7
        return self._sent_since(since_s) / max(lasted_s, _EPOCH_S)

    def _sent_since(self, moment_s: float) -> int:
        first = int(moment_s / _BIN_S)
        return sum(count for at, count in self._bins.items() if at >= first)

    def not_admitted(self, sent_at_s: float) -> None:
        """A request was refused, for its rate or for another reason."""
        at = int(sent_at_s / _BIN_S)
        if self._bins.get(at, 0) > 0:
            self._bins[at] -= 1

    def _forget(self, now_s: float) -> None:
        if len(self._bins) > 2 * _REMEMBERED_S / _BIN_S:
            oldest = int((now_s - _REMEMBERED_S) / _BIN_S)
            self._bins = {at: count for at, count in self._bins.items() if at >= oldest}
