"""How many requests to keep in flight, found from the answers: as many as still bring more tokens a second. Pure."""

from __future__ import annotations

import math

_FIRST = 8
_DOUBLES = 1.75  # doubling goes on while each brings so much more
_CLOSE = 1.26  # neighbours this near need nothing measured in between
_TIE = 1.03  # what a larger window must bring more than a smaller one
_LEAST_ENDS, _LEAST_ROUND_S = 16, 0.25
_ENDS_PER_PLACE = 2.5  # to distinguish close ones; one is enough while doubling
_FULL = 0.85  # of the window in use, else a round says nothing about it
_LOOK_AGAIN_S = 60.0
_CUT = 0.7


class Window:
    """Requests in flight. Doubles while that brings much more a second, then looks around the best until it is found.

    What a window brings is its size × work done / time taken, over requests sent since it has that size: an answer's
    time follows its length, their ratio does not. Work is counted in tokens of the answer.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = min(_FIRST, most)
        self.is_found = False
        self._brought: dict[int, float] = {}  # work a second, by size
        self._is_doubling = True
        self._found_at_s = 0.0
        self._cut_at_s = float("-inf")
        self._is_cold = False
        self._since_s = self._work = self._time_s = 0.0
        self._ends = self._in_flight = 0

    def ended(self, sent_at_s: float, now_s: float, *, in_flight: int, work: float) -> None:
        """A request was answered; `in_flight` were so, itself included."""
        if in_flight > self.size + 1 and not self._ends:  # a larger window is still running empty
            self._since_s = now_s
        if sent_at_s < self._since_s:
            return
        if self._is_cold:  # what was sent while the window filled met an emptier server
            self._is_cold, self._since_s = False, now_s
            return
        self._ends += 1
        self._work += work
        self._time_s += now_s - sent_at_s
        self._in_flight += in_flight
        enough = max(_LEAST_ENDS, self.size if self._is_doubling else int(_ENDS_PER_PLACE * self.size))
        if self._ends >= enough and now_s - self._since_s >= _LEAST_ROUND_S:
            self._end_round(now_s)

    def overloaded(self, sent_at_s: float, now_s: float) -> None:
        """The endpoint says that too many are in flight, or lets one run out of time."""
        if sent_at_s < self._cut_at_s:  # one overload fails many
            return
        self._cut_at_s = self._found_at_s = now_s
        self.is_found, self._is_doubling = True, False
        self._set(max(1, int(self.size * _CUT)), now_s)

    def saw_queue(self, running: float, waiting: float, now_s: float) -> None:
        """The server reports how many it works on and how many wait. A few more than it works on are right."""
        if waiting > 0.2 * running + 1:
            wanted = int(running * 1.1) + 2
        elif running + waiting >= _FULL * self.size:
            wanted = 2 * self.size
        else:
            return
        self.is_found, self._is_doubling, self._found_at_s = True, False, now_s
        self._set(wanted, now_s)

    def _begin(self, now_s: float) -> None:
        self._since_s = now_s
        self._ends = self._in_flight = 0
        self._work = self._time_s = 0.0

    def _set(self, size: int, now_s: float) -> None:
        self.size = max(1, min(self.most, size))
        self._begin(now_s)
        self._is_cold = not self._is_doubling

    # How the size is found. It doubles while each doubling brings 1.75 times as much. The first that brings less has
    # passed the knee, so the search goes on between the last two sizes, by measuring the middle between the best size
    # and a neighbour that is far from it, above and below. The smallest size within 3 % of the best is taken: a larger
    # one brings nothing and makes each answer wait. A minute later the neighbours are measured again.

    def _end_round(self, now_s: float) -> None:
        used = self._in_flight / self._ends
        per_s = used * self._work / max(self._time_s, 1e-9)
        self._begin(now_s)
        if used < _FULL * self.size:  # something else bounds what is in flight: the round shows nothing
            return
        before = self._brought.get(self.size // 2)
        if self._is_doubling and before is not None and per_s < _DOUBLES * before:
            self._is_doubling = False
            del self._brought[self.size // 2]  # measured in passing, and so too well
            self._set((self.size + self.size // 2) // 2, now_s)  # near the knee: carefully from here
            return
        self._brought[self.size] = per_s
        if self._is_doubling and self.size < self.most:
            self._set(2 * self.size, now_s)
        elif not self.is_found:
            self._look_beside(now_s)
        elif now_s - self._found_at_s >= _LOOK_AGAIN_S:  # servers change
            self._brought = {self.size: per_s}
            self.is_found = False
            self._look_beside(now_s)

    def _look_beside(self, now_s: float) -> None:
        """Measure between the best and its neighbours, while they are far."""
        best = self._best()
        above = [size for size in self._brought if size > best]
        below = [size for size in self._brought if size < best]
        # Of small sizes even the next one is far: there is nothing between the two to measure.
        if best > 1 and (not below or (best - 1 > max(below) and best / max(below) > _CLOSE)):
            nearer = max(math.ceil(best / _CLOSE), round((best * max(below, default=1)) ** 0.5))
            return self._set(min(best - 1, nearer), now_s)
        if best < self.most and (not above or (best + 1 < min(above) and min(above) / best > _CLOSE)):
            farther = round((best * min(above)) ** 0.5) if above else self.most
            return self._set(min(max(best + 1, int(best * _CLOSE)), farther), now_s)
        self.is_found, self._found_at_s = True, now_s
        return self._set(best, now_s)

    def _best(self) -> int:
        """The smallest of those that bring nearly the most."""
        most = max(self._brought.values())
        return min(size for size, per_s in self._brought.items() if per_s * _TIE >= most)
