"""What tokens cost, and that nothing is guessed."""

from __future__ import annotations

import pytest

from batchcall.base.records import NO_USAGE, Usage
from batchcall.pacing.price import cost_of


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(1_000_000, 0), 2.0),
        (Usage(0, 1_000_000), 8.0),
        (Usage(1_000_000, 500_000), 6.0),
        (Usage(1_000_000, 0, cached_tokens=400_000), 1.4),
        (Usage(1_000_000, 0, cached_tokens=9_000_000), 0.5),  # no more can be cached than there is
        (Usage(1_000_000, 0, cached_tokens=0), 2.0),
        (Usage(1_000_000, 1_000_000, reasoning_tokens=900_000), 10.0),  # part of the completion already
        (Usage(0, 0), 0.0),
    ],
)
def test_each_sort_of_token_has_its_price_per_million(usage: Usage, cost: float) -> None:
    assert cost_of(usage, prompt=2.0, completion=8.0, cached=0.5) == pytest.approx(cost)


def test_cached_tokens_cost_as_much_as_others_where_no_price_is_named() -> None:
    assert cost_of(Usage(1_000_000, 0, cached_tokens=400_000), prompt=2.0, completion=8.0, cached=None) == 2.0


@pytest.mark.parametrize(
    "usage", [NO_USAGE, Usage(prompt_tokens=10), Usage(completion_tokens=10), Usage(total_tokens=20)]
)
def test_a_cost_is_never_guessed(usage: Usage) -> None:
    assert cost_of(usage, prompt=2.0, completion=8.0, cached=0.5) is None
