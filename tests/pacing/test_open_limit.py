"""How many fit at the same time: what a refusal shows, what it does not, and when one more is tried."""

from __future__ import annotations

import pytest

from batchcall.pacing.open_limit import OpenLimit


class Endpoint:
    """An endpoint that takes `fits` at the same time. A round sends so many, a millisecond apart."""

    def __init__(self, fits: int, *, is_named: bool = False) -> None:
        self.limit = OpenLimit()
        self.fits, self.is_named = fits, is_named
        self.now_s = 10.0

    def round(self, count: int | None = None, *, may_suspect: bool = True) -> list[bool]:
        """Whether each refusal was explained by how many were in flight."""
        self.now_s += 10.0
        sent = [self.now_s + number / 1000 for number in range(self.limit.most or 1 if count is None else count)]
        for sent_at_s in sent:
            self.limit.sent(sent_at_s)
        explained = [
            self.limit.refused(one, self.now_s + 1, is_named=self.is_named, may_suspect=may_suspect)
            for one in sent[self.fits :]
        ]
        for one in sent[: self.fits]:
            self.limit.accepted(one, self.now_s + 2)
        return explained


@pytest.mark.parametrize("is_named", [True, False])
def test_all_refusals_of_one_crowd_are_one_limit_which_is_what_fits(is_named: bool) -> None:
    endpoint = Endpoint(3, is_named=is_named)

    assert endpoint.round(8) == [True] * 5

    assert (endpoint.limit.most, endpoint.limit.is_named, endpoint.limit.is_sure) == (3, is_named, is_named)


def test_a_refusal_that_names_nothing_is_suspected_only_where_that_is_likely_and_twice_in_a_run() -> None:
    endpoint = Endpoint(3)

    assert endpoint.round(5, may_suspect=False) == [False, False]
    assert endpoint.limit.most is None
    for _ in range(2):
        assert endpoint.round(5) == [True, True]
        endpoint.limit.forget()
    assert endpoint.round(5) == [False, False]
    assert endpoint.limit.most is None


def test_it_is_early_for_256_requests() -> None:
    limit = OpenLimit()

    for number in range(256):
        limit.sent(float(number))
    assert limit.is_early
    limit.sent(256.0)
    assert not limit.is_early


def test_a_suspicion_counts_as_known_after_eight_answers_with_all_places_taken() -> None:
    endpoint = Endpoint(4)
    endpoint.round(5)  # one of the four that fit was the last, beside three
    sure = []

    for _ in range(8):
        sure.append(endpoint.limit.is_sure)
        endpoint.round(4)

    assert sure == [False] * 7 + [True]


def test_more_are_tried_after_sixteen_full_answers_and_kept_once_two_have_fitted() -> None:
    endpoint = Endpoint(4)
    endpoint.round(5)
    endpoint.fits = 100

    mosts = []
    for _ in range(24):
        mosts.append(endpoint.limit.most)
        endpoint.round()

    # one answer a round is beside all others; after a success the next try comes after a quarter of them
    assert mosts == [4] * 15 + [5] * 4 + [6] * 3 + [7] * 2


def test_of_many_an_eighth_more_is_tried() -> None:
    endpoint = Endpoint(80)
    endpoint.round(90)
    endpoint.fits = 1_000

    for _ in range(16):
        endpoint.round()

    assert endpoint.limit.most == 90


def test_one_more_that_does_not_fit_is_taken_back_and_tried_half_as_often_down_to_each_512() -> None:
    endpoint, gaps = Endpoint(4), []
    endpoint.round(5)

    for _ in range(7):
        gaps.append(0)
        while endpoint.limit.most == 4:
            endpoint.round()
            gaps[-1] += 1
        assert endpoint.round() == [True]
        assert endpoint.limit.most == 4

    assert gaps == [15, 31, 63, 127, 255, 511, 511]  # and the answer that was the first to fill all places


@pytest.mark.parametrize(("fits", "is_taken_back"), [(4, True), (3, True), (2, False)])
def test_refused_beside_one_fewer_than_fit_it_is_the_one_more_that_was_tried(fits: int, is_taken_back: bool) -> None:
    endpoint = Endpoint(4)
    endpoint.round(6)
    while endpoint.limit.most == 4:
        endpoint.round(4)
    assert endpoint.limit.most == 5

    endpoint.fits = fits

    assert endpoint.round(fits + 1) == [is_taken_back]
    assert endpoint.limit.most == (fits if is_taken_back else 5)


def test_a_number_that_is_named_is_never_exceeded_and_holds_until_another_is_named() -> None:
    endpoint = Endpoint(19, is_named=True)
    endpoint.limit.named(20)
    assert (endpoint.limit.most, endpoint.limit.is_named, endpoint.limit.is_sure) == (20, True, True)

    endpoint.round(20)
    for _ in range(10):
        assert endpoint.round(21) == [True, True]
    assert endpoint.limit.most == 19
    endpoint.limit.named(20)  # nothing new
    assert endpoint.limit.most == 19
    endpoint.fits = 100
    for _ in range(60):
        endpoint.round()
    assert endpoint.limit.most == 20
    endpoint.limit.named(7)
    assert endpoint.limit.most == 7
    endpoint.limit.forget()
    assert endpoint.limit.most == 7


def test_refused_beside_as_many_as_fit_nothing_more_is_learnt() -> None:
    endpoint = Endpoint(4)
    endpoint.round(6)

    for _ in range(5):
        assert endpoint.round(6) == [True, True]
        assert endpoint.limit.most == 4


def test_refused_three_times_beside_fewer_a_suspicion_was_wrong() -> None:
    endpoint = Endpoint(4)
    endpoint.round(6)
    for _ in range(10):
        endpoint.round(4)
    assert endpoint.limit.is_sure
    endpoint.fits = 2

    mosts = []
    for _ in range(3):
        assert endpoint.round(3) == [False]
        mosts.append(endpoint.limit.most)

    assert mosts == [4, 4, None]
    assert not endpoint.limit.is_sure


def test_a_named_limit_is_lowered_at_the_fourth_refusal_in_a_row_beside_fewer() -> None:
    """A place is free a moment after its answer has come."""
    endpoint = Endpoint(4, is_named=True)
    endpoint.round(6)
    endpoint.fits = 2

    mosts = []
    for _ in range(4):
        assert endpoint.round(3) == [True]
        mosts.append(endpoint.limit.most)

    assert mosts == [4, 4, 4, 2]


def test_an_answer_with_all_places_taken_ends_such_a_row_of_refusals() -> None:
    endpoint = Endpoint(4, is_named=True)
    endpoint.round(6)

    for _ in range(5):
        endpoint.fits = 2
        endpoint.round(3)
        endpoint.round(3)
        endpoint.fits = 4
        endpoint.round(4)

    assert endpoint.limit.most == 4


def test_refused_alone_nothing_of_ours_is_in_the_way_but_the_place_of_an_answer_that_just_came() -> None:
    limit = OpenLimit()
    limit.sent(1.0)
    limit.accepted(1.0, 2.0)

    def refused(sent_at_s: float, *, is_named: bool) -> bool:
        limit.sent(sent_at_s)
        return limit.refused(sent_at_s, sent_at_s + 0.1, is_named=is_named, may_suspect=True)

    assert refused(2.9, is_named=True)
    assert not refused(3.0, is_named=True)
    assert not refused(2.5, is_named=False)
    assert limit.most is None


def test_three_refusals_alone_end_a_suspicion_and_the_next_one_too() -> None:
    endpoint, mosts = Endpoint(4), []

    for _ in range(2):
        endpoint.fits = 4
        endpoint.round(6)
        endpoint.fits = 0
        for _ in range(3):
            assert endpoint.round(1) == [False]
            mosts.append(endpoint.limit.most)

    assert mosts == [4, 4, None, 4, 4, None]


def test_who_names_this_limit_always_does() -> None:
    endpoint = Endpoint(4, is_named=True)
    endpoint.round(6)
    endpoint.is_named, endpoint.fits = False, 2

    assert endpoint.round(3) == [False]
    assert endpoint.limit.most == 4


def test_what_ended_for_another_reason_is_no_longer_in_flight() -> None:
    limit = OpenLimit()
    assert limit.oldest_sent_s is None

    for sent_at_s in (1.0, 2.0, 3.0):
        limit.sent(sent_at_s)
    limit.ended(1.0)
    assert limit.oldest_sent_s == 2.0
    limit.ended(2.0)
    limit.ended(9.0)  # unknown: nothing happens
    limit.sent(4.0)

    assert limit.refused(4.0, 5.0, is_named=True, may_suspect=False)
    assert limit.most == 1
    assert not limit.refused(4.0, 5.0, is_named=True, may_suspect=True)
