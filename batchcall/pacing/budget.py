"""What a run may spend: money and tokens, of all its attempts, those of earlier runs included."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Budget:
    """Counts what was spent. What is in flight when a limit is reached is still paid: that is all that goes beyond."""

    max_cost: float | None = None  # USD
    max_tokens: int | None = None
    cost: float = 0.0
    tokens: int = 0

    def spend(self, *, cost: float | None, tokens: int | None) -> None:
        self.cost += cost or 0.0
        self.tokens += tokens or 0

    @property
    def exhausted(self) -> str | None:
        """The limit that is reached, in a person's words; None while there is something left."""
        if self.max_cost is not None and self.cost >= self.max_cost:
            return f"limits.max_cost is spent ({self.cost:.2f} of {self.max_cost:g} USD)"
        if self.max_tokens is not None and self.tokens >= self.max_tokens:
            return f"limits.max_tokens_total is spent ({self.tokens:,} of {self.max_tokens:,})"
        return None


_FREE_DOUBTS = 100
_DOUBTS_PER_ANSWER = 0.1


def may_doubt(sent_again: int, answered: int) -> bool:
    """Whether the job may send once more what may be billed already: a tenth of what was answered, and 100."""
    return sent_again < _FREE_DOUBTS + _DOUBTS_PER_ANSWER * answered
