"""How many requests an endpoint takes at the same time, where it refuses what is beyond. Pure.

Gateways limit what is in flight (a LiteLLM key's max_parallel_requests, nginx limit_conn, Anthropic's concurrent
connections). Taken for a rate, such a limit slows a job down to a standstill: the rate falls until nothing is refused,
and every step up is refused again, since two answers that overlap are enough.

Each request knows how many others were in flight when it was sent; those that were refused themselves are not counted.
A limit on what is in flight refuses every request beside N others and none beside fewer. So:

- A refusal that names this limit decides.
- One that does not is suspected to be one, if it comes early in the run (an account with so low a rate is rarer), or
  with 503 at any time. Refused again beside fewer than N, it was not: the suspicion is dropped, the rate is learnt.
- As many as fit are asked for. Now and then one more, less and less often while that is refused: limits change.
- Refused alone, nothing of ours is in the way: that is for the breaker to judge.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

_EARLY = 256  # requests
_SUSPICIONS = 2  # in a run
_DOUBTS = 2  # refusals beside fewer, after which a suspicion is dropped
_FULL_BEFORE_MORE, _MOST_BEFORE_MORE = 16, 512  # answers with all places taken, before one more is tried
_PROVEN = 2  # answers beside so many, after which one more fits
_SURE = 8  # answers with all places taken and no refusal beside fewer, after which a suspicion counts as known
_LAG_S = 1.0  # a place is free a moment after its answer has come,
_LATE = 4  # so that only so many refusals in a row say that there is none


class OpenLimit:
    """`most`: requests in flight that fit; None while no limit is known."""

    def __init__(self) -> None:
        self.most: int | None = None
        self.is_named = False  # the endpoint says that this is what it limits
        self.is_sure = False  # or it is known from what it refuses and what it does not
        self._ceiling: int | None = None  # the number that it names
        self._sent_at_s: list[float] = []  # of those in flight, oldest first,
        self._beside: list[int] = []  # and beside how many others each was sent
        self._sent = 0
        self._suspicions = _SUSPICIONS
        self._doubts = 0
        self._late = 0
        self._cut_at_s = float("-inf")
        self._freed_at_s = float("-inf")  # when the last answer came
        self._full = 0  # answers with all places taken, since the last refusal
        self._needed = _FULL_BEFORE_MORE
        self._tried: int | None = None  # one more than is known to fit
        self._proven = 0

    @property
    def oldest_sent_s(self) -> float | None:
        """When the oldest request in flight was sent."""
        return self._sent_at_s[0] if self._sent_at_s else None

    def named(self, most: int) -> None:
        """The endpoint names the number."""
        if most != self._ceiling:
            self._ceiling = self.most = most
            self.is_named = self.is_sure = True
            self._tried = None

    def sent(self, now_s: float) -> None:
        self._sent += 1
        self._beside.append(len(self._beside))
        self._sent_at_s.append(now_s)

    def ended(self, sent_at_s: float) -> None:
        """A request ended in a way that says nothing of what is in flight."""
        self._take(bisect_left(self._sent_at_s, sent_at_s), sent_at_s)

    def accepted(self, sent_at_s: float, now_s: float) -> None:
        """A request was not refused."""
        self._freed_at_s = now_s
        beside = self._take(bisect_left(self._sent_at_s, sent_at_s), sent_at_s)
        if self.most is None or beside is None or beside < self.most - 1:
            return
        self._full += 1
        self._late = 0
        self.is_sure = self.is_sure or self._full >= _SURE
        if self._tried is not None:
            self._proven += beside >= self._tried - 1
            if self._proven >= _PROVEN:
                self._tried, self._needed = None, max(1, self._needed // 4)
        elif self._full >= self._needed and (self._ceiling is None or self.most < self._ceiling):
            self.most += max(1, self.most // 8)
            if self._ceiling is not None:
                self.most = min(self.most, self._ceiling)
            self._tried, self._proven, self._full = self.most, 0, 0

    def refused(self, sent_at_s: float, now_s: float, *, is_named: bool, may_suspect: bool) -> bool:
        """A request was refused. Whether that is explained by how many are in flight."""
        place = bisect_right(self._sent_at_s, sent_at_s) - 1
        beside = self._take(place, sent_at_s)
        if beside is None:
            return False
        self._beside[place:] = [count - 1 for count in self._beside[place:]]
        if self.is_named and not is_named:  # an endpoint that names this limit always does
            return False
        is_news = sent_at_s >= self._cut_at_s
        # Alone, only the place of an answer that has just come can be in the way, while the gateway still counts it.
        if beside == 0:
            if is_news and not self.is_named:
                self._doubt()
            return is_named and sent_at_s - self._freed_at_s < _LAG_S
        self.is_named = self.is_named or is_named
        self.is_sure = self.is_sure or is_named
        # The first time: named, it is one; not named, it may be suspected a few times in a run.
        if self.most is None:
            if not is_named:
                if not may_suspect or not self._suspicions:
                    return False
                self._suspicions -= 1
            return self._cut(beside, now_s)
        if not is_news:  # the same overload: the last of them shows what fits
            self.most = min(self.most, beside)
            return True
        if beside >= self.most:  # as many as fit were in flight already: no more is learnt
            self._cut_at_s = now_s
            return True
        # Beside fewer than fit: the one more that was tried does not fit; a place is free a little late; or it was
        # never a limit on what is in flight.
        if self._tried is not None and beside >= self._tried - 1 - max(1, self.most // 8):
            self._needed = min(_MOST_BEFORE_MORE, 2 * self._needed)  # one more did not fit
            return self._cut(beside, now_s)
        if self.is_named:
            self._late += 1
            return self._late < _LATE or self._cut(beside, now_s)
        self._doubt()
        return False

    def forget(self) -> None:
        """What was taken for a limit was not one: the endpoint was down, or counts something else."""
        if not self.is_named:
            self.most, self.is_sure = None, False

    @property
    def is_early(self) -> bool:
        """Whether so few requests were sent that a refusal is hardly one for their rate."""
        return self._sent <= _EARLY

    def _cut(self, fits: int, now_s: float) -> bool:
        self.most, self._cut_at_s, self._tried = fits, now_s, None
        self._full = self._late = self._doubts = 0
        return True

    def _doubt(self) -> None:
        self._doubts += 1
        if self._doubts > _DOUBTS:
            self._doubts = 0
            self.forget()

    def _take(self, place: int, sent_at_s: float) -> int | None:
        """Remove a request from those in flight and return beside how many others it was sent; None if it is unknown.

        Of several that were sent in the same moment, one that was refused counts as the last of them, and one that was
        not as the first.
        """
        if not (0 <= place < len(self._sent_at_s) and self._sent_at_s[place] == sent_at_s):
            return None
        del self._sent_at_s[place]
        return self._beside.pop(place)
