"""What a run may spend: a limit counts what it is a limit of, and says when it cannot be kept."""

from __future__ import annotations

import pytest

from batchcall.base.errors import ExitCode
from batchcall.pacing.budget import Budget, may_doubt
from batchcall.pacing.health import Verdict

RAISE = "raise it and run the same command to continue"
REPORT = "make the endpoint report its usage, or remove the limit"


def stopped(reason: str, hint: str) -> Verdict:
    return Verdict(ExitCode.STOPPED_EARLY, reason, hint)


def test_money_and_tokens_are_added_up_and_a_limit_is_reached_at_its_value() -> None:
    budget = Budget(max_cost=1.0, max_tokens=100)

    budget.spend(cost=0.25, tokens=40)
    budget.spend(cost=0.5, tokens=59)
    assert (budget.cost, budget.tokens, budget.verdict) == (0.75, 99, None)

    budget.spend(cost=0.0, tokens=1)
    assert budget.verdict == stopped("limits.max_tokens_total is spent (100 of 100)", RAISE)
    budget.spend(cost=0.25, tokens=0)
    assert budget.verdict == stopped("limits.max_cost is spent (1 of 1 USD)", RAISE)


@pytest.mark.parametrize(
    ("limits", "spent", "counted"),
    [
        ({}, {"cost": None, "tokens": None}, 1),  # nothing is limited, so nothing is missing
        ({"max_cost": 9.0}, {"cost": None, "tokens": 5}, 0),
        ({"max_cost": 9.0}, {"cost": 0.0, "tokens": None}, 1),
        ({"max_tokens": 9}, {"cost": 1.0, "tokens": None}, 0),
        ({"max_tokens": 9}, {"cost": None, "tokens": 0}, 1),
        ({"max_cost": 9.0, "max_tokens": 9}, {"cost": 1.0, "tokens": None}, 0),
        ({"max_cost": 9.0, "max_tokens": 9}, {"cost": 1.0, "tokens": 1}, 1),
    ],
)
def test_an_answer_counts_when_it_says_what_a_limit_asks(
    limits: dict[str, float], spent: dict[str, float | None], counted: int
) -> None:
    budget = Budget(**limits)  # type: ignore[arg-type]

    budget.spend(**spent)  # type: ignore[arg-type]

    assert (budget.counted, budget.uncounted) == (counted, 1 - counted)


def test_a_limit_means_nothing_when_twenty_answers_and_most_of_all_report_no_usage() -> None:
    budget = Budget(max_tokens=1_000)

    for _ in range(19):
        budget.spend(cost=None, tokens=None)
    assert budget.verdict is None
    budget.spend(cost=None, tokens=None)
    assert budget.verdict == stopped(
        "limits.max_tokens_total cannot be enforced: 20 answers did not report how many tokens they used", REPORT
    )
    for _ in range(20):
        budget.spend(cost=None, tokens=1)
    assert budget.verdict is None  # half of them do

    blind = Budget(max_cost=1.0, uncounted=30)
    assert "limits.max_cost cannot be enforced" in str(blind.verdict)
    assert Budget(uncounted=30).verdict is None


@pytest.mark.parametrize(("answered", "most"), [(0, 100), (10, 101), (1_000, 200)])
def test_a_hundred_and_a_tenth_of_what_was_answered_may_be_billed_twice(answered: int, most: int) -> None:
    assert may_doubt(most - 1, answered)
    assert not may_doubt(most, answered)
