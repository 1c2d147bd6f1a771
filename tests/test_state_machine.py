"""Whatever becomes of an output in its life, its promises hold: lives drawn by hypothesis, see `run_machine.py`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from run_machine import RunMachine

LIVES = int(os.environ.get("BATCHCALL_LIVES", "0"))  # the long form: other lives each time
STEPS = 25

SUITE = settings(
    max_examples=LIVES or 60,
    stateful_step_count=STEPS,
    derandomize=not LIVES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)


def test_every_promise_holds_through_any_life_of_an_output() -> None:
    run_state_machine_as_test(RunMachine, settings=SUITE)
