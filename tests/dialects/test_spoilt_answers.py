"""Golden answers of every dialect, spoilt by chance: whatever they become, none is an exception. See `scripts/fuzz`."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchcall.dialects import DIALECTS
from mutating import check_in_every_dialect, goldens, spoilt


def test_there_are_golden_answers_to_spoil() -> None:
    assert len(DIALECTS) == 4
    assert len(goldens()) >= 400


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1))
def test_no_answer_however_spoilt_is_an_exception(seed: int) -> None:
    check_in_every_dialect(spoilt(random.Random(seed)))
