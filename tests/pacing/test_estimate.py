"""How many tokens to reserve, before and after an endpoint has said what requests take."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.base.records import NO_USAGE, Usage
from batchcall.pacing.estimate import START_COMPLETION_TOKENS, TokenEstimate


def test_before_anything_is_known_prose_is_estimated_within_a_third() -> None:
    estimate = TokenEstimate()

    assert estimate.prompt_tokens(4_000) == pytest.approx(1_200, rel=0.05)
    assert estimate.completion_tokens() == START_COMPLETION_TOKENS


def test_the_fit_finds_the_constant_and_the_slope_of_what_is_reported() -> None:
    estimate, dice = TokenEstimate(), random.Random(1)

    for _ in range(2_000):
        size = dice.randrange(500, 9_000)
        estimate.learn(size, Usage(prompt_tokens=round((150 + 0.22 * size) * dice.uniform(0.8, 1.2))))

    for size in (500, 3_000, 9_000):
        assert estimate.prompt_tokens(size) == pytest.approx(150 + 0.22 * size, rel=0.03)


def test_requests_all_of_one_size_are_fitted_too() -> None:
    estimate = TokenEstimate()

    for _ in range(300):
        estimate.learn(1_000, Usage(prompt_tokens=700))

    assert estimate.prompt_tokens(1_000) == pytest.approx(700, rel=0.02)


def test_nineteen_of_twenty_answers_stay_within_what_is_reserved_for_them() -> None:
    estimate, dice = TokenEstimate(), random.Random(2)
    lengths = [round(dice.lognormvariate(4, 0.7)) for _ in range(4_000)]

    for length in lengths:
        estimate.learn(1_000, Usage(completion_tokens=length))

    share_within = sum(length <= estimate.completion_tokens() for length in lengths) / len(lengths)
    assert 0.91 < share_within < 0.98


def test_longer_answers_are_noticed_after_shorter_ones() -> None:
    estimate = TokenEstimate()
    for tokens in [50] * 1_000 + [400] * 300:
        estimate.learn(1_000, Usage(completion_tokens=tokens))

    assert estimate.completion_tokens() == 400


def test_no_more_is_reserved_for_an_answer_than_it_may_have() -> None:
    estimate = TokenEstimate()

    assert estimate.completion_tokens(max_tokens=64) == 64
    assert estimate.tokens(1_000, 64) == estimate.prompt_tokens(1_000) + 64


@pytest.mark.parametrize("usage", [NO_USAGE, Usage(0, 0, 0)])
def test_usage_that_says_nothing_teaches_nothing(usage: Usage) -> None:
    estimate = TokenEstimate()

    estimate.learn(1_000, usage)

    assert estimate.tokens(1_000) == TokenEstimate().tokens(1_000)


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 10**7), st.integers(1, 10**6)), max_size=60))
def test_whatever_is_reported_an_estimate_is_a_positive_number(reports: list[tuple[int, int, int]]) -> None:
    estimate = TokenEstimate()

    for size, prompt, completion in reports:
        estimate.learn(size, Usage(prompt, completion))

    for size in (0, 1_000, 10**7):
        assert 2.0 <= estimate.tokens(size) < 1e18


@pytest.mark.parametrize(("count", "high"), [(1, 1), (2, 2), (10, 10), (21, 20), (31, 30)])
def test_the_answer_at_the_95th_percentile_is_the_nearest_one(count: int, high: int) -> None:
    estimate = TokenEstimate()

    for tokens in range(1, count + 1):
        estimate.learn(1_000, Usage(completion_tokens=tokens))

    assert estimate.completion_tokens() == high


def test_of_many_answers_the_last_256_count_and_they_are_sorted_every_32() -> None:
    estimate = TokenEstimate()
    for _ in range(256):
        estimate.learn(1_000, Usage(completion_tokens=100))

    seen = []
    for _ in range(256):
        estimate.learn(1_000, Usage(completion_tokens=900))
        seen.append(estimate.completion_tokens())

    assert seen.index(900) == 30  # the first 31 were sorted one by one
