"""Refusals that come by chance, whatever the rate: the upstream of a relay is full for a moment. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right

_LOW = 0.6  # of a rate that has worked: refusals below it are odd
_ODD_REFUSALS = 3  # before that rate is tried again
_DOUBT = 3  # times as many, where whole minutes seem to be counted: there a low rate may well be refused
_TRIAL = 40  # requests
_EVIDENCE = 4.6  # logarithm of 100 : 1
_LEAST_SHARE, _MOST_SHARE = 0.05, 0.98
_SCEPTICAL = 20  # requests that were not refused, added to those that were seen: few say little
_RECENT = 40  # requests that are looked at, once a share is known
_FORGETS = 1 / 200  # of the share, with each request
_NO_SHARE = 0.002
_REMEMBERED = 2_000  # requests


class RandomRefusals:
    """Separates random refusals from those for the rate, by trying.

    Whoever takes every refusal for a limit on the rate, and is refused 1 of 20 at random, slows down to a
    standstill. Refused again and again far below a rate that has worked, that rate is tried once more, for `_TRIAL`
    requests: where no more of them are refused than at the low rate, it is not the rate. From then on only more
    refusals than that share are an overload.
    """

    def __init__(self) -> None:
        self.share: float | None = None  # of all requests, refused by chance; None: refusals are for the rate
        self._most_share = 0.0  # as the trial has shown it: an overload must not pass for chance
        self._sent = _Moments()
        self._refused = _Moments()  # when those were sent that were refused
        self._since_s = float("-inf")  # the last overload
        self._worked_per_s = 0.0
        self._odd = 0  # overloads far below it
        self._odd_since_s = 0.0
        self._needed = _ODD_REFUSALS
        self._trial: _Trial | None = None

    @property
    def is_trying(self) -> bool:
        return self._trial is not None

    def sent(self, now_s: float) -> None:
        self._sent.add(now_s)

    def accepted(self, now_s: float) -> None:
        """A request that was sent since the last overload was not refused."""
        if self._trial is not None:
            self._trial.accepted += 1
            refused = self._refused.between(self._since_s, now_s)
            if self._trial.accepted + refused >= _TRIAL:  # the rate works: what was refused, was so by chance
                self.share = self._most_share = refused / (self._trial.accepted + refused)
                self._trial, self._odd = None, 0
        elif self.share is not None:
            self.share *= 1 - _FORGETS
            if self.share < _NO_SHARE:
                self.share = None

    def excuses(self, sent_at_s: float) -> bool:
        """A request that was sent since the last overload was refused. Returns whether that is no overload.

        A refusal comes sooner than an answer, so that those come first that say least: what was sent before this
        request, and is neither answered nor refused, counts as not refused.
        """
        self._refused.add(sent_at_s)
        if self._trial is not None:
            sent = self._sent.between(self._since_s, sent_at_s)
            return self._trial.evidence(self._refused.between(self._since_s, sent_at_s), sent) < _EVIDENCE
        if self.share is None:
            return False
        self.share = min(self._most_share, self.share + (1 - self.share) * _FORGETS)
        since_s = max(self._since_s, self._sent.before(sent_at_s, _RECENT))
        refused, sent = self._refused.between(since_s, sent_at_s), self._sent.between(since_s, sent_at_s)
        # An overload is what would hardly be chance: three standard deviations above what to expect, and one more.
        expected = sent * self.share
        return refused <= 1 + expected + 3 * math.sqrt(expected * (1 - self.share))

    def overload(self, known_per_s: float, now_s: float, *, counts_minutes: bool) -> float | None:
        """It was an overload, by which the rate is known to be this one. Returns a rate to try instead, if any.

        `counts_minutes`: whole minutes seem to be what is counted.
        """
        # What speaks for chance: overload after overload at rates far below one that has worked. Then that rate is
        # tried again, provided that the two explanations predict different shares of refusals; otherwise a trial would
        # show nothing. Where whole minutes are counted, a low rate may really be refused, so more overloads are needed.
        self._since_s = now_s
        if known_per_s >= _LOW * self._worked_per_s:
            self._worked_per_s, self._odd = max(self._worked_per_s, known_per_s), 0
            return None
        if not self._odd:
            self._odd_since_s = now_s
        self._odd += 1
        sent = self._sent.between(self._odd_since_s, now_s)
        by_chance = max(_LEAST_SHARE, (self._odd - 1) / (sent + _SCEPTICAL))
        by_rate = min(_MOST_SHARE, 1 - known_per_s / self._worked_per_s)
        if self._odd < self._needed * (_DOUBT if counts_minutes else 1) or by_rate < 2 * by_chance:
            return None
        self._trial = _Trial(by_chance, by_rate)
        return self._worked_per_s

    def failed(self, known_per_s: float, now_s: float) -> None:
        """The trial was refused too often: it is the rate, and the one before it was right."""
        self._trial, self._odd, self._since_s = None, 0, now_s
        self._worked_per_s = known_per_s
        self._needed *= 2


class _Trial:
    """The shares of refusals that chance and the rate predict, weighed by Wald's sequential test."""

    def __init__(self, by_chance: float, by_rate: float) -> None:
        self.accepted = 0
        self._refused, self._not_refused = math.log(by_rate / by_chance), math.log((1 - by_rate) / (1 - by_chance))

    def evidence(self, refused: int, sent: int) -> float:
        """Logarithm of the odds that these refusals are for the rate."""
        return refused * self._refused + max(0, sent - refused) * self._not_refused


class _Moments:
    """When something happened, in seconds, the last few thousand times."""

    def __init__(self) -> None:
        self._at_s: list[float] = []

    def add(self, at_s: float) -> None:
        if len(self._at_s) >= 2 * _REMEMBERED:
            del self._at_s[:_REMEMBERED]
        if self._at_s and at_s < self._at_s[-1]:
            self._at_s.insert(bisect_right(self._at_s, at_s), at_s)
        else:
            self._at_s.append(at_s)

    def between(self, after_s: float, last_s: float) -> int:
        """How often it happened after the first moment, up to the second."""
        return bisect_right(self._at_s, last_s) - bisect_right(self._at_s, after_s)

    def before(self, at_s: float, count: int) -> float:
        """The moment `count` times before this one."""
        place = bisect_right(self._at_s, at_s) - count
        return self._at_s[place] if place > 0 else float("-inf")
