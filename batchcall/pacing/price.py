"""What tokens cost. A price comes from the job file alone and is never guessed."""

from __future__ import annotations

import math

from batchcall.base import Usage

_PER = 1_000_000  # prices are per million tokens


def cost_of(usage: Usage, *, prompt: float, completion: float, cached: float | None = None) -> float | None:
    """Return USD for these tokens at these prices per million, or None where it is not known or beyond all floats.

    Cached tokens are part of the prompt's and cost `cached`, or as much as others where that is None.
    """
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    from_cache = min(usage.cached_tokens or 0, usage.prompt_tokens)
    at_full_price = usage.prompt_tokens - from_cache
    cached_price = prompt if cached is None else cached
    cost = (at_full_price * prompt + from_cache * cached_price + usage.completion_tokens * completion) / _PER
    return cost if math.isfinite(cost) else None
