"""What a run may spend: money and tokens, of all its attempts, those of earlier runs included."""

from __future__ import annotations

import msgspec

from batchcall.base import ExitCode
from batchcall.pacing.health import Verdict


class Budget(msgspec.Struct):
    """Counts what was spent. What is in flight at a limit is still paid, so the total may go slightly over."""

    max_cost: float | None = None  # USD
    max_tokens: int | None = None
    cost: float = 0.0
    tokens: int = 0
    counted: int = 0  # answers of this run that say what a limit counts
    uncounted: int = 0  # and those that do not

    def spend(self, *, cost: float | None, tokens: int | None) -> None:
        self.cost += cost or 0.0
        self.tokens += tokens or 0
        is_counted = (cost is not None or self.max_cost is None) and (tokens is not None or self.max_tokens is None)
        self.counted += is_counted
        self.uncounted += not is_counted

    @property
    def has_limits(self) -> bool:
        return self.max_cost is not None or self.max_tokens is not None

    @property
    def verdict(self) -> Verdict | None:
        """Which limit is reached; None while there is something left."""
        if not self.has_limits:
            return None
        # A relay may leave out the usage of a few answers. Once most report none, the limit means nothing, and to raise
        # it would not help.
        is_blind = self.uncounted >= _MOST_UNCOUNTED and self.uncounted > self.counted
        if self.max_cost is not None and self.cost >= self.max_cost:
            reason = f"limits.max_cost is spent ({self.cost:.4g} of {self.max_cost:g} USD)"
        elif self.max_tokens is not None and self.tokens >= self.max_tokens:
            reason = f"limits.max_tokens_total is spent ({self.tokens:,} of {self.max_tokens:,})"
        elif is_blind:
            name = "max_cost" if self.max_cost is not None else "max_tokens_total"
            count = f"{self.uncounted:,} answers did not report how many tokens they used"
            reason = f"limits.{name} cannot be enforced: {count}"
        else:
            return None
        hint = "raise it and run the same command to continue"
        if is_blind:
            hint = "make the endpoint report its usage, or remove the limit"
        return Verdict(ExitCode.STOPPED_EARLY, reason, hint)


_MOST_UNCOUNTED = 20
_FREE_DOUBTS = 100
_DOUBTS_PER_ANSWER = 0.1
# Why a row ended with attempts left, for a person.
NO_MORE_DOUBTS = (
    "it may be billed already, and all rows together have used up what they may send again of that (a tenth of the"
    " answers, and 100); --retry-failed asks the row again"
)


def may_doubt(sent_again: int, answered: int) -> bool:
    """Whether the job may send once more what may be billed already: a tenth of what was answered, and 100."""
    return sent_again < _FREE_DOUBTS + _DOUBTS_PER_ANSWER * answered
