"""Refusals by chance are told from those for the rate by a trial; whole jobs of both are in tests/test_pace.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.pacing.random_refusals import RandomRefusals, _Moments


class Told:
    """What a `RandomRefusals` is told, a request every tenth of a second."""

    def __init__(self) -> None:
        self.random_refusals = RandomRefusals()
        self.now_s = 100.0

    def send(self, *fates: bool) -> list[bool]:
        """Requests that are refused or not, in this order. Returns of each that was refused whether that is excused."""
        excused = []
        for is_refused in fates:
            self.now_s += 0.1
            self.random_refusals.sent(self.now_s)
            if is_refused:
                excused.append(self.random_refusals.excuses(self.now_s))
            else:
                self.random_refusals.accepted(self.now_s)
        return excused

    def overload(self, known_per_s: float) -> float | None:
        return self.random_refusals.overload(known_per_s, self.now_s, counts_minutes=False)

    def until_trial(self) -> None:
        assert self.overload(10.0) is None
        for known_per_s in (5.0, 3.0):
            self.send(*[False] * 9, True)
            assert self.overload(known_per_s) is None
        self.send(*[False] * 9, True)
        assert self.overload(2.0) == 10.0  # what has worked, again
        assert self.random_refusals.is_trying


def test_at_first_no_refusal_is_excused() -> None:
    assert Told().send(False, True, False, True) == [False, False]


def test_refused_at_the_old_rate_as_rarely_as_at_the_low_one_it_is_chance() -> None:
    told = Told()
    told.until_trial()

    assert told.send(*([False] * 9 + [True]) * 4) == [True] * 4

    told.send(False)
    assert not told.random_refusals.is_trying
    assert told.random_refusals.share is not None
    assert 0.05 < told.random_refusals.share < 0.15
    assert told.send(False, True) == [True]


def test_refused_at_the_old_rate_by_far_more_often_it_is_the_rate() -> None:
    told = Told()
    told.until_trial()

    excused = told.send(False, True, True, True, True, True, True)

    assert excused[:2] == [True, True]  # as may happen
    assert not excused[-1]
    told.random_refusals.failed(2.0, told.now_s)
    assert not told.random_refusals.is_trying
    for _ in range(5):  # the next trial takes twice as many
        assert told.overload(1.0) is None
    assert told.overload(0.5) == 2.0


def test_what_a_trial_has_shown_is_weighed_by_what_chance_and_the_rate_predict() -> None:
    told = Told()
    told.until_trial()
    trial = told.random_refusals._trial
    assert trial is not None

    assert [round(trial.evidence(*seen), 3) for seen in ((0, 0), (1, 1), (2, 5), (3, 1))] == [0, 2.773, 0.871, 8.318]
    assert told.send(*[True] * 3) == [True, False, False]


def test_a_share_is_what_the_trial_has_shown_and_fades_with_each_answer() -> None:
    told = Told()
    told.until_trial()
    told.send(*([False] * 9 + [True]) * 4, False)

    shares = []
    for answers in (0, 1, 10, 50):
        told.send(*[False] * answers)
        shares.append(told.random_refusals.share)

    assert shares == pytest.approx([4 / 41, 4 / 41 * 0.995, 4 / 41 * 0.995**11, 4 / 41 * 0.995**61])
    assert told.send(True) == [True]
    assert told.random_refusals.share == pytest.approx(4 / 41 * 0.995**61 * 0.995 + 1 / 200)
    assert told.send(*[True] * 11) == [True] * 9 + [False] * 2
    assert told.random_refusals.share == pytest.approx(4 / 41)  # never more than that


@given(
    st.lists(st.floats(0, 100), max_size=60), st.floats(0, 100), st.floats(0, 100), st.integers(1, 70), st.booleans()
)
def test_moments_are_counted_in_whatever_order_they_are_heard_of(
    moments: list[float], first_s: float, last_s: float, count: int, repeats: bool
) -> None:
    kept = _Moments()
    for moment in moments:
        kept.add(moment)
    if repeats:
        last_s = moments[-1] if moments else last_s

    first_s, last_s = sorted((first_s, last_s))
    until = sorted(moment for moment in moments if moment <= last_s)

    assert kept.between(first_s, last_s) == sum(first_s < moment <= last_s for moment in moments)
    assert kept.before(last_s, count) == (until[-count] if len(until) > count else float("-inf"))


def test_of_moments_the_last_two_thousand_are_kept() -> None:
    kept = _Moments()
    for number in range(4_000):
        kept.add(float(number))
    assert kept.between(-1.0, 1e9) == 4_000

    kept.add(4_000.0)

    assert kept.between(-1.0, 1e9) == 2_001
    assert kept.before(4_000.0, 10) == 3_991.0


def test_more_refusals_than_by_chance_are_an_overload() -> None:
    told = Told()
    told.until_trial()
    told.send(*([False] * 9 + [True]) * 4, False)

    excused = told.send(*[True] * 20)

    assert excused[0]
    assert not excused[-1]


def test_a_share_that_is_seen_no_more_is_forgotten() -> None:
    told = Told()
    told.until_trial()
    told.send(*([False] * 9 + [True]) * 4, False)
    assert told.random_refusals.share is not None

    told.send(*[False] * 1_000)

    assert told.random_refusals.share is None
    assert told.send(True) == [False]


def test_answers_that_take_their_time_do_not_count_as_if_there_were_none() -> None:
    """Refusals come at once: of forty requests that are on their way, those three tell nothing."""
    told = Told()
    told.until_trial()
    for _ in range(40):
        told.now_s += 0.01
        told.random_refusals.sent(told.now_s)

    assert [told.random_refusals.excuses(told.now_s - back_s) for back_s in (0.25, 0.15, 0.05)] == [True] * 3


def test_where_chance_explains_as_much_as_the_rate_a_trial_shows_nothing() -> None:
    told = Told()
    told.overload(10.0)

    tried = []
    for _ in range(12):
        told.send(True)  # every request is refused: a share by chance of more than half of what the rate explains
        tried.append(told.random_refusals.overload(5.9, told.now_s, counts_minutes=True))

    assert tried == [None] * 12


def test_a_rate_that_explains_twice_as_much_as_chance_is_tried() -> None:
    told = Told()
    told.overload(10.0)

    tried = []
    for _ in range(9):
        told.send(True)
        tried.append(told.random_refusals.overload(3.0, told.now_s, counts_minutes=True))

    assert tried == [None] * 8 + [10.0]  # 0.7 and 8 of 29


@pytest.mark.parametrize(("between", "excused"), [(0, [True, True, True, False]), (20, [True, True, False])])
def test_what_was_sent_since_the_first_odd_overload_says_how_often_chance_refuses(
    between: int, excused: list[bool]
) -> None:
    """The rarer refusals by chance would be, the fewer show that it is the rate."""
    told = Told()
    told.overload(10.0)
    told.send(*[False] * 3_000)
    for known_per_s in (8.0, 5.9, 5.9):  # the first is not odd
        told.send(True)
        assert told.overload(known_per_s) is None
        told.send(*[False] * between)
    told.send(True)
    assert told.overload(5.9) == 10.0

    assert told.send(*[True] * len(excused)) == excused


def test_a_refusal_that_is_heard_of_late_counts_when_it_was_sent() -> None:
    told = Told()
    told.until_trial()
    told.send(*[False] * 20)
    refusals = told.random_refusals

    for back_s in (0.05, 0.15, 0.25, 0.35):
        assert refusals.excuses(told.now_s - back_s)
    assert refusals._refused._at_s == sorted(refusals._refused._at_s)


def test_where_whole_minutes_are_counted_three_times_as_many_are_needed() -> None:
    told = Told()
    told.overload(10.0)

    tried = []
    for _ in range(9):
        told.send(*[False] * 9, True)
        tried.append(told.random_refusals.overload(1.0, told.now_s, counts_minutes=True))

    assert tried == [None] * 8 + [10.0]


def test_a_rate_that_worked_restarts_the_count_of_odd_ones() -> None:
    told = Told()
    tried = []

    for known_per_s in (10.0, 5.0, 5.0, 6.0, 5.0, 5.0, 5.0):
        told.send(*[False] * 9, True)
        tried.append(told.overload(known_per_s))

    assert tried == [None] * 6 + [10.0]


def test_a_trial_ends_after_forty_requests() -> None:
    told = Told()
    told.until_trial()

    told.send(*[False] * 39)
    assert told.random_refusals.is_trying
    told.send(False)

    assert not told.random_refusals.is_trying
    assert told.random_refusals.share == 0.0
