"""Requests that all end after the same time are noticed, with that time; others are not."""

from __future__ import annotations

import pytest

from batchcall.base.records import Failure, FailureKind
from batchcall.pacing.proxy_cutoffs import ProxyCutoffs

CUT = Failure(FailureKind.DISCONNECTED, "closed")


def after(*seconds: float, failure: Failure = CUT) -> tuple[int, int] | None:
    cutoffs = ProxyCutoffs()
    for second in seconds:
        cutoffs.saw(failure, second)
    return cutoffs.same_second


@pytest.mark.parametrize(
    ("seconds", "same"),
    [
        ((), None),
        ([60.0] * 4, None),
        ([60.0] * 5, (5, 60)),
        ([60.0] * 3 + [59.0, 61.4], (5, 60)),  # a second more or less
        ([60.0] * 4 + [58.0], None),
        ([60.0] * 4 + [62.0], None),
        ([60.0] * 8 + [10.0, 20.0], (8, 60)),  # four of five
        ([60.0] * 7 + [10.0, 20.0], None),
        ([60.0 + number / 20 for number in range(8)], (8, 60)),
        ([7.0 * number for number in range(8)], None),
        ([4.0] * 5, (5, 4)),
        ([3.9] * 5, None),  # so soon it has many reasons
    ],
)
def test_five_that_are_four_of_five_of_all_end_after_one_time(
    seconds: list[float], same: tuple[int, int] | None
) -> None:
    assert after(*seconds) == same


@pytest.mark.parametrize(
    ("kind", "status", "is_cut"),
    [
        (FailureKind.DISCONNECTED, None, True),
        (FailureKind.SERVER_ERROR, 502, True),
        (FailureKind.OVERLOADED, 504, True),
        (FailureKind.SERVER_ERROR, 524, True),
        (FailureKind.SERVER_ERROR, 500, False),
        (FailureKind.TIMED_OUT, None, False),  # ours
    ],
)
def test_what_a_proxy_cuts_off_is_a_lost_connection_or_its_own_status(
    kind: FailureKind, status: int | None, is_cut: bool
) -> None:
    assert (after(*[60.0] * 5, failure=Failure(kind, "no", http_status=status)) is not None) is is_cut
