"""The window grows while more in flight brings more, and settles at the smallest that brings nearly the most."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import pytest

from batchcall.pacing.window import Window


class Course:
    """A full window, round for round: all are sent together and answered together, `per_s(size)` of them a second."""

    def __init__(self, per_s: Callable[[int], float], most: int = 512) -> None:
        self.window = Window(most)
        self.now_s = 100.0
        self._per_s = per_s

    def round(self, in_flight: int | None = None, work: float = 1.0) -> None:
        size = in_flight or self.window.size
        sent_at_s = self.now_s
        self.now_s += size / self._per_s(size)
        for _ in range(size):
            self.window.ended(sent_at_s, self.now_s, in_flight=size, work=work)

    def sizes(self, rounds: int) -> list[tuple[int, int]]:
        """Each size, and how many rounds it was kept."""
        kept = []
        for _ in range(rounds):
            kept.append(self.window.size)
            self.round()
        return [(size, len(list(rounds))) for size, rounds in groupby(kept)]

    def found(self) -> int:
        for _ in range(1_000):
            if self.window.is_found:
                return self.window.size
            self.round()
        raise AssertionError(f"never found, now {self.window.size}")


def free(size: int) -> float:
    """A server that works on everything at once: an answer takes a second."""
    return float(size)


def works_on(most: int) -> Callable[[int], float]:
    """A server that works on so many at once and lets the others wait."""
    return lambda size: float(min(size, most))


def test_the_window_doubles_while_that_brings_more_and_stays_at_the_most_that_may_be() -> None:
    doubling = [(8, 2), (16, 1), (32, 1), (64, 1)]  # 16 answers at least tell of a size

    assert Course(free, most=100).sizes(8) == [*doubling, (100, 1), (80, 1), (100, 1)]
    assert Course(free, most=100).found() == 100
    assert Course(free, most=3).window.size == 3


def test_where_doubling_brings_too_little_it_looks_in_between_for_the_knee() -> None:
    """Measured carefully from here: two and a half answers a place, the first of which met an emptier server."""
    course = Course(works_on(40))

    assert course.sizes(18)[:6] == [(8, 2), (16, 1), (32, 1), (64, 1), (48, 4), (39, 4)]
    assert course.found() == 39


@pytest.mark.parametrize(("most", "found"), [(1, 1), (4, 4), (10, 10), (20, 20), (100, 120), (200, 241)])
def test_what_a_server_works_on_is_found_or_a_quarter_more(most: int, found: int) -> None:
    assert Course(works_on(most)).found() == found


# The steps between two sizes are about a quarter.
FOUND = {9: 10, 11: 12, 13: 15, 14: 16, 15: 16, 17: 20, 18: 20, 19: 20, 21: 24, 22: 24, 23: 24, 25: 30, 26: 30, 27: 30}


def test_of_a_small_server_what_it_works_on_is_found_exactly_up_to_eight() -> None:
    assert [Course(works_on(most)).found() for most in range(1, 28)] == [FOUND.get(most, most) for most in range(1, 28)]
    assert [Course(free, most=most).found() for most in range(1, 20)] == list(range(1, 20))


def test_the_way_to_the_knee_of_a_small_server() -> None:
    assert Course(works_on(12)).sizes(12) == [(8, 2), (16, 1), (12, 4), (10, 4), (15, 1)]
    assert Course(works_on(3)).sizes(40) == [
        (8, 2), (16, 1), (12, 4), (10, 4), (8, 4), (7, 4), (6, 4), (5, 5), (4, 5), (3, 7)]  # fmt: skip
    assert Course(works_on(40)).sizes(30) == [(8, 2), (16, 1), (32, 1), (64, 1), (48, 4), (39, 4), (31, 4), (39, 13)]


def test_a_little_more_work_a_second_is_not_worth_a_larger_window() -> None:
    def per_s(size: int) -> float:
        return float(size) if size <= 16 else 16.0 + size / 100

    assert Course(per_s).found() == 16


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_a_server_that_worked_on_few_and_now_works_on_many_is_used(most: int) -> None:
    course = Course(works_on(most))
    course.found()

    course._per_s = free
    course.sizes(300)

    assert course.found() > 400


def test_servers_change_so_the_window_looks_around_again_after_a_minute() -> None:
    course = Course(free, most=64)
    course.found()

    kept = next(rounds for rounds in range(1, 1_000) if course.round() or not course.window.is_found)

    assert kept == 60
    assert course.found() == 64


def test_a_round_that_did_not_use_the_window_says_nothing_about_it() -> None:
    course = Course(free)

    for _ in range(30):
        course.round(in_flight=6)  # of 8

    assert (course.window.size, course.window.is_found) == (8, False)
    for _ in range(3):
        course.round(in_flight=7)
    assert course.window.size == 16


def test_a_round_lasts_a_quarter_of_a_second_at_least() -> None:
    window = Window(512)

    for _ in range(100):
        window.ended(0.1, 0.24, in_flight=8, work=1.0)
    assert window.size == 8
    window.ended(0.1, 0.25, in_flight=8, work=1.0)
    assert window.size == 16


def test_answers_count_by_their_work_and_time_and_not_by_their_number() -> None:
    """Long answers take long: their number falls, and what they bring a second does not."""
    course = Course(free)
    course.sizes(2)
    course._per_s = lambda size: size / 10

    course.round(work=10.0)

    assert course.window.size == 32


def test_one_overload_is_one_cut_by_thirty_percent_and_the_search_goes_on_from_there() -> None:
    course = Course(free, most=100)
    course.found()

    for _ in range(5):
        course.window.overloaded(course.now_s - 1, course.now_s)
    assert (course.window.size, course.window.is_found) == (70, True)

    course.window.overloaded(course.now_s, course.now_s + 1)
    assert course.window.size == 49
    for second in range(2, 30):
        course.window.overloaded(course.now_s + second, course.now_s + second)
    assert course.window.size == 1


@pytest.mark.parametrize(
    ("running", "waiting", "size"),
    [
        (30, 60, 35),  # more waits than may: what it works on, and a few more
        (30, 7, 16),  # as many as are always about to be begun
        (30, 7.5, 35),
        (6, 0, 8),
        (7, 0, 16),  # all that is sent is worked on: twice as many
        (4, 1.8, 8),
        (5, 2, 16),
        (0, 0, 8),
        (500, 300, 100),
    ],
)
def test_what_waits_at_the_server_decides_the_window(running: float, waiting: float, size: int) -> None:
    window = Window(100)

    window.saw_queue(running, waiting, 5.0)

    assert window.size == size


@pytest.mark.parametrize(("brought", "best"), [({8: 100.0, 16: 103.0}, 8), ({8: 100.0, 16: 103.1}, 16), ({4: 9.0}, 4)])
def test_a_size_is_as_good_as_one_that_brings_three_percent_more(brought: dict[int, float], best: int) -> None:
    window = Window(64)
    window._brought = brought

    assert window._best() == best


@pytest.mark.parametrize(
    ("brought", "size"),
    [
        ({16: 0.5, 20: 1.0, 30: 0.5}, 24),  # in the middle, by their ratio
        ({16: 0.5, 20: 1.0, 40: 0.5}, 25),  # a quarter up
        ({10: 0.5, 20: 1.0}, 16),
        ({19: 0.5, 20: 1.0, 25: 0.5}, 20),  # both are near
        ({2: 1.0, 3: 0.5}, 1),
        ({1: 1.0, 2: 0.5}, 1),
        ({1: 1.0}, 2),
    ],
)
def test_between_the_best_and_a_far_neighbour_the_middle_is_measured(brought: dict[int, float], size: int) -> None:
    window = Window(64)
    window._brought = brought

    window._look_beside(1.0)

    assert window.size == size
