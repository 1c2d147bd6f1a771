"""Whether and when a request that failed is sent again. Pure: the dice are an argument, nothing sleeps here."""

from __future__ import annotations

import msgspec

from batchcall.base import Failure, FailureKind, Money, Scope

_UNTIL_FREE = 0.5  # of the first wait: some gateways count an answer as in flight for a moment longer
_SPREAD = 0.1  # of a wait that a server asked for: rows that were refused together do not come back together
MOST_AMBIGUOUS = 3  # failures of a row that may have been billed, i.e. at most two more tries after one


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often a row is tried, and how its waits grow."""

    max_attempts: int  # requests per row
    first_s: float = 1.0
    longest_s: float = 60.0
    max_ambiguous: int = MOST_AMBIGUOUS

    def decide(self, failure: Failure, *, attempt: int, ambiguous: int, roll: float) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        `attempt` and `ambiguous` count this row's attempts and its possibly billed failures, this one included. `roll`
        is a number in [0, 1) that spreads retries out. What is the whole job's fault and yet did not end it
        (`Health` says when it does) is tried again: one bad channel behind a relay answers 401 now and then.
        """
        rule = failure.kind.rule
        if rule.scope is Scope.ROW or attempt >= self.max_attempts:
            return None
        if rule.money is Money.AMBIGUOUS and ambiguous >= self.max_ambiguous:
            return None
        if failure.kind is FailureKind.TOO_MANY_OPEN:  # a place is free when another request ends, whatever it says
            return roll * _UNTIL_FREE * self.first_s
        if not failure.retry_after_s:  # a wait of nothing is no advice
            # All of the range is random, not only its end: rows that failed together spread out as far as they can.
            doublings = min(attempt - 1, 30)  # beyond that only `longest_s` counts, and floats have an end
            return roll * min(self.longest_s, self.first_s * 2.0**doublings)
        if rule.slows:  # everybody waits at the gate, this row with them
            return roll * _SPREAD * self.first_s
        return failure.retry_after_s * (1 + _SPREAD * roll)
