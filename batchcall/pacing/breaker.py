"""Whether an endpoint is down, and when one row may try whether it still is. Pure: every moment is an argument."""

from __future__ import annotations

from batchcall.base import Failure, FailureKind, Scope

_IN_A_ROW = 10  # failures that are not a row's fault, of more than one row, nothing answered in between
_UNCONNECTED = 3  # the same, of failures to connect, which are never a row's fault
_FIRST_WAIT_S, _LONGEST_WAIT_S = 2.0, 30.0
_RETRIES_AT_FIRST = 100.0  # failures that may be tried again,
_RETRIES_PER_ANSWER = 0.1  # and how many more each answer allows
_AFTER_EMPTY = 20.0


def is_of_endpoint(failure: Failure) -> bool:
    """Not the row's fault, or not surely: unreachable, out of time, overloaded, 5xx. A rate limit is another matter,
    and an endpoint that sends what cannot be read is up."""
    return failure.kind.rule.scope is Scope.RETRY and failure.kind not in _NO_OUTAGE


_NO_OUTAGE = frozenset({FailureKind.RATE_LIMITED, FailureKind.UNREADABLE, FailureKind.NO_DESCRIPTORS})


class Breaker:
    """Closed while an endpoint answers. Open: one row at a time asks, less and less often, until one is answered."""

    def __init__(self) -> None:
        self.has_worked = False  # something was answered, ever
        self._in_a_row = 0
        self._rows: set[int] = set()  # that failed in a row; two are enough to know
        self._retries_left = _RETRIES_AT_FIRST
        self._opened_at_s: float | None = None
        self._wait_s = _FIRST_WAIT_S
        self.failing_since_s: float | None = None  # the first of the failures in a row
        self.next_probe_s = 0.0
        self.last_failure: Failure | None = None
        self.last_good_s = float("-inf")  # when the latest request was sent that was answered

    @property
    def is_open(self) -> bool:
        return self._opened_at_s is not None

    def answered(self, sent_at_s: float) -> bool:
        """Something came back that shows the endpoint at work, even if it refuses this row. Whether that closes it."""
        was_open = self._opened_at_s is not None
        if self._opened_at_s is not None and sent_at_s < self._opened_at_s and self.has_worked:
            return False  # an answer from before it went down
        self.has_worked = True
        if sent_at_s > self.last_good_s:
            self.last_good_s = sent_at_s
        if self._in_a_row:
            self._in_a_row = 0
            self._rows.clear()
        self._opened_at_s = self.failing_since_s = None
        if self._retries_left < _RETRIES_AT_FIRST:
            self._retries_left = min(_RETRIES_AT_FIRST, self._retries_left + _RETRIES_PER_ANSWER)
        return was_open

    def failed(self, row: int, failure: Failure, sent_at_s: float, now_s: float) -> None:
        """A request failed in a way that `is_of_endpoint`."""
        self.last_failure = failure
        if self._opened_at_s is not None:
            if sent_at_s >= self._opened_at_s:  # a probe; earlier requests show nothing new
                self._wait_s = min(_LONGEST_WAIT_S, 2 * self._wait_s)
                self.next_probe_s = now_s + max(self._wait_s, failure.retry_after_s or 0.0)
            return
        if self.failing_since_s is None:
            self.failing_since_s = now_s
        self._in_a_row += 1
        self._rows.add(row)
        self._retries_left -= 1

        # An endpoint that never worked is down at its first failure. One that has worked is down after three failures
        # in a row, if they are to connect, or after ten of any kind that are not all one row's: that row may be what
        # breaks it. Failures that are never that many in a row open it too, once they exceed a tenth of the answers
        # and a hundred: nothing else bounds how often all rows together are tried again.
        is_unconnected = failure.kind is FailureKind.UNCONNECTED and self._in_a_row >= _UNCONNECTED
        is_failing = self._in_a_row >= _IN_A_ROW and len(self._rows) > 1
        is_down = not self.has_worked or is_unconnected or is_failing
        if is_down or self._retries_left <= 0:
            if not is_down:
                self._retries_left = _AFTER_EMPTY
            self._opened_at_s = now_s
            self._wait_s = _FIRST_WAIT_S
            self.next_probe_s = now_s + max(self._wait_s, failure.retry_after_s or 0.0)

    def gave_up(self) -> None:
        """A row used up its attempts, and nothing was answered meanwhile: one more row that fails is enough."""
        self._in_a_row = max(self._in_a_row, _IN_A_ROW - 1)
