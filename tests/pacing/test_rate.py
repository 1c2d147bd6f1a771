"""The rate that is learnt from refusals: how deep a cut is, how long it holds, and how it comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from batchcall.pacing.rate import LastMinute, LearntRate


def asked(rate: LearntRate, per_s: float, *, since_s: float, until_s: float) -> None:
    """Requests at this rate, all of which are accepted at once."""
    for number in range(round((until_s - since_s) * per_s)):
        rate.sent(since_s + number / per_s)
        rate.accepted(since_s + number / per_s, since_s + number / per_s)


def refused(rate: LearntRate, at_s: float, *, is_else: bool = False) -> float | None:
    rate.sent(at_s)
    return rate.refused(at_s, at_s, is_else=is_else)


def rates(rate: LearntRate, since_s: float, *after_s: float) -> list[float]:
    return [round(rate.per_s(since_s + one) or -1.0, 3) for one in after_s]


def learnt(per_s: float = 10.0) -> LearntRate:
    """One that was refused at 10 s, after ten seconds of requests."""
    rate = LearntRate()
    asked(rate, per_s, since_s=0.0, until_s=10.0)
    refused(rate, 10.0)
    return rate


def test_nothing_bounds_the_rate_until_a_refusal_shows_what_was_admitted() -> None:
    rate = LearntRate()
    asked(rate, 10.0, since_s=0.0, until_s=10.0)
    assert rate.per_s(10.0) is None

    assert refused(rate, 10.0) == 0.25

    # 95 % at once, all of it for a moment, 5 % more after a second above it, ever faster from there
    assert rates(rate, 10.0, 0, 1, 2, 3, 4, 5) == [9.5, 9.938, 10.0, 10.5, 14.0, 23.5]


def test_what_the_job_allows_is_never_exceeded() -> None:
    rate = LearntRate(ceiling_per_s=5.0)
    assert rate.per_s(0.0) == 5.0

    asked(rate, 4.0, since_s=0.0, until_s=10.0)
    refused(rate, 10.0)

    assert rates(rate, 10.0, 0, 2, 4, 20) == [3.8, 4.0, 5.0, 5.0]


def test_only_the_last_three_seconds_count_and_no_less_than_one() -> None:
    rate, short = LearntRate(), LearntRate()
    asked(rate, 2.0, since_s=0.0, until_s=20.0)
    asked(rate, 10.0, since_s=20.0, until_s=23.0)
    asked(short, 8.0, since_s=0.0, until_s=0.5)

    refused(rate, 23.0)
    refused(short, 0.5)

    assert rates(rate, 23.0, 2) == [10.0]
    assert rates(short, 0.5, 2) == [4.0]  # four in half a second may be all that a second takes


def test_a_second_cut_that_agrees_holds_twice_as_long_up_to_forty_seconds() -> None:
    rate, now_s, holds = learnt(), 10.0, []

    for _ in range(6):
        asked(rate, 10.0, since_s=now_s + 0.25, until_s=now_s + 50)
        now_s += 50
        refused(rate, now_s)
        known = (rate.per_s(now_s) or 0.0) / 0.95
        holds.append(next(s for s in range(100) if (rate.per_s(now_s + s) or 0.0) > known - 1e-9))

    assert holds == [4, 8, 16, 32, 40, 40]


def test_a_cut_that_disagrees_begins_with_a_short_hold_again() -> None:
    rate = learnt()

    asked(rate, 8.0, since_s=10.5, until_s=20.0)
    refused(rate, 20.0)

    assert rates(rate, 20.0, 2, 3) == [8.0, 8.4]


def test_a_longer_hold_is_followed_by_a_slower_probe() -> None:
    rate = learnt()
    asked(rate, 10.0, since_s=10.25, until_s=20.0)
    refused(rate, 20.0)

    assert rates(rate, 20.0, 4, 6, 8) == [10.0, 10.5, 14.0]


def test_one_overload_is_one_cut_however_many_answers_show_it() -> None:
    rate = learnt()
    before = rates(rate, 10.0, 0, 2)

    assert [rate.refused(sent_at_s, 10.1) for sent_at_s in (9.0, 9.9)] == [0.0, 0.0]

    assert rates(rate, 10.0, 0, 2) == before


def test_refused_again_and_again_it_pauses_longer_and_cuts_no_deeper() -> None:
    rate = learnt()
    assert not rate.is_refused

    pauses = [refused(rate, 11.0 + second) for second in range(6)]

    assert pauses == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert rate.is_refused
    assert rates(rate, 16.0, 2) == [10.0]


def test_an_answer_ends_a_row_of_refusals_unless_it_was_sent_before_the_last() -> None:
    rate = learnt()
    refused(rate, 11.0)

    rate.accepted(10.9, 12.0)
    assert rate.is_refused
    rate.accepted(11.0, 12.0)
    assert not rate.is_refused
    assert refused(rate, 13.0) == 0.25


def test_a_first_second_and_a_half_counts_as_long_as_it_was() -> None:
    rate = LearntRate()
    asked(rate, 10.0, since_s=100.0, until_s=101.5)

    refused(rate, 101.5)

    assert rates(rate, 101.5, 2) == [10.0]


@pytest.mark.parametrize(("last_s", "is_minute"), [(16.0, True), (15.9, False)])
def test_a_long_refusal_lasts_five_seconds_from_its_first(last_s: float, is_minute: bool) -> None:
    rate = learnt()  # a refusal at 10.0 already
    rate.accepted(10.0, 10.1)
    for at_s in (11.0, 12.0, 13.0, 14.0):
        refused(rate, at_s)

    rate.accepted(14.0, last_s)

    assert rate._counts_minutes is is_minute


def test_soon_after_a_cut_the_next_is_thirty_percent() -> None:
    rate = learnt()
    rate.sent(10.3)
    rate.accepted(10.3, 10.4)

    refused(rate, 10.9)

    assert rates(rate, 10.9, 2) == [7.0]


def test_a_second_after_a_cut_what_was_admitted_since_counts() -> None:
    rate = learnt()
    for number in range(5):
        rate.sent(10.25 + number / 10)
        rate.accepted(10.25 + number / 10, 10.9)

    refused(rate, 11.0)

    assert rates(rate, 11.0, 2) == [5.0]


def test_no_cut_is_deeper_than_to_a_fifth() -> None:
    rate = learnt()

    rate.sent(10.5)
    rate.accepted(10.5, 15.0)
    refused(rate, 20.0)

    assert rates(rate, 20.0, 2) == [2.0]


def test_who_refuses_for_five_seconds_counts_a_minute_and_its_rate_is_what_the_minute_held() -> None:
    rate = learnt()

    for second in range(11, 17):
        refused(rate, float(second))
    rate.sent(17.0)
    rate.accepted(17.0, 17.5)

    assert rates(rate, 17.5, 0, 60, 70) == [1.9, 2.0, 2.1]  # 100 in a minute, but no deeper than to a fifth


@pytest.mark.parametrize("until_s", [12, 14])
def test_who_refuses_for_a_moment_counts_no_minute(until_s: int) -> None:
    rate = learnt()

    for second in range(11, until_s):
        refused(rate, float(second))
    rate.sent(float(until_s))
    rate.accepted(float(until_s), float(until_s))

    assert rates(rate, until_s, 2) == [10.0]


def test_a_refusal_that_another_budget_explains_cuts_only_when_seven_more_follow() -> None:
    rate = LearntRate()
    asked(rate, 10.0, since_s=0.0, until_s=10.0)

    for number in range(7):
        refused(rate, 10.0 + number, is_else=True)
        assert (rate.per_s(10.0 + number), rate.is_refused) == (None, False)
    for _ in range(5):
        rate.sent(16.5)
    refused(rate, 17.0, is_else=True)

    assert rates(rate, 17.0, 2) == [5.0]
    assert rate.is_refused


def test_a_rate_is_never_less_than_one_request_a_minute() -> None:
    rate = LearntRate()
    asked(rate, 1.0, since_s=0.0, until_s=1.0)
    for now_s in (100.0, 200.0, 300.0, 400.0):
        refused(rate, now_s)
        rate.accepted(now_s, now_s + 1)

    assert rate.per_s(400.0) is None  # nothing was admitted: nothing is learnt

    rate = learnt()
    for now_s in range(100, 1_000, 100):
        refused(rate, now_s)
        rate.accepted(now_s, now_s + 1)
    assert rate.per_s(900.0) == 1 / 60


def test_what_was_refused_does_not_count_as_admitted() -> None:
    rate = LearntRate()
    asked(rate, 10.0, since_s=0.0, until_s=10.0)
    for number in range(15):
        rate.not_admitted(7.0 + number / 10)

    refused(rate, 10.0)

    assert rates(rate, 10.0, 2) == [5.0]


def test_no_more_is_taken_back_than_was_sent() -> None:
    rate = LearntRate()
    asked(rate, 10.0, since_s=0.0, until_s=10.0)
    for at_s in (8.3, 8.3, 8.3, 8.3, 8.3, 50.0):  # where two or three were sent, and none
        rate.not_admitted(at_s)

    refused(rate, 10.0)

    assert min(rate._bins.values()) == 0
    assert rates(rate, 10.0, 2) == [9.333]


def test_counts_older_than_a_minute_are_dropped_now_and_then() -> None:
    rate, kept = LearntRate(), []

    for second in range(600):
        asked(rate, 4.0, since_s=float(second), until_s=second + 1.0)
        kept.append(len(rate._bins))

    assert max(kept) <= 482
    assert min(kept[60:]) >= 240
    assert max(rate._bins) == 2_399  # none of the last minute


def course(takes: Callable[[int], int], *, seconds: int) -> list[float | None]:
    """The rate at each second, asked for by one who uses all of it, of an endpoint that takes so many in a second."""
    rate, taken, free_at_s, credit, seen = LearntRate(), Counter[int](), 0.0, 0.0, []
    for tick in range(seconds * 64):
        now_s = tick / 64
        per_s = rate.per_s(now_s)
        if tick % 64 == 0:
            seen.append(None if per_s is None else round(per_s, 2))
        credit = min(1.0, credit + (per_s or 32.0) / 64)
        if now_s < free_at_s or credit < 1:
            continue
        credit -= 1
        rate.sent(now_s)
        taken[int(now_s)] += 1
        if taken[int(now_s)] > takes(int(now_s)):
            free_at_s = now_s + (rate.refused(now_s, now_s) or 0.0)
        else:
            rate.accepted(now_s, now_s + 1 / 64)
    return seen


def test_a_rate_settles_near_the_limit_and_is_held_there_longer_and_longer() -> None:
    assert course(lambda _: 8, seconds=60) == [
        None, 7.83, 7.95, 8.0, 8.36, 11.05, 8.91, 9.15, 8.43, 8.68, 8.8, 8.85, 8.85, 8.92, 9.35, 8.25, 8.39,
        8.5, 8.57, 8.62, 8.65, 8.66, 8.67, 8.67, 8.68, 8.73, 8.87, 9.14, 8.24, 8.32, 8.38, 8.44, 8.49, 8.53,
        8.56, 8.59, 8.61, 8.63, 8.65, 8.65, 8.66, 8.66, 8.67, 8.67, 8.67, 8.67, 8.67, 8.69, 8.73, 8.78, 8.86,
        8.97, 9.12, 8.24, 8.28, 8.31, 8.35, 8.38, 8.41, 8.44]  # fmt: skip


def test_a_limit_that_falls_to_a_fifth_is_found_within_seconds() -> None:
    assert course(lambda second: 20 if second < 10 else 4, seconds=40) == [
        None, 19.16, 19.65, 19.99, 20.21, 24.05, 18.77, 19.3, 19.57, 19.66, 19.67, 15.66, 10.93, 7.6, 19.33,
        5.32, 3.66, 3.82, 3.84, 4.05, 5.45, 4.45, 4.57, 4.66, 4.33, 4.46, 4.52, 3.8, 3.87, 3.92, 3.95, 3.98,
        3.99, 4.0, 4.0, 4.0, 4.0, 4.03, 4.09, 4.21]  # fmt: skip


def test_the_last_minute_counts_what_came_and_says_when_there_is_room_again() -> None:
    minute = LastMinute()
    assert (minute.is_known, minute.room_at_s(100.0, 0.0)) == (False, 0.0)

    for now_s, tokens in ((0.1, 30.0), (0.2, 10.0), (5.0, 40.0), (30.3, 20.0)):
        minute.add(tokens, now_s)

    assert (minute.is_known, minute.used_share(200.0)) == (True, 0.5)
    # a budget of 200 has room; of 100 once the first 40 are a minute old, of 50 once the next are, too
    assert [minute.room_at_s(per_minute, 40.0) for per_minute in (200.0, 101.0, 100.0, 50.0)] == [
        0.0,
        0.0,
        60.25,
        65.25,
    ]
    assert minute.room_at_s(200.0, 60.2) == 0.0
    assert minute.used_share(200.0) == 0.5
    assert minute.room_at_s(60.0, 60.3) == 65.25  # the first two are forgotten
    assert minute.used_share(200.0) == 0.3
    minute.add(1.0, 500.0)
    assert minute.used_share(200.0) == 0.005
