"""Whatever becomes of an output in its life, its promises hold: lives drawn by hypothesis, see `run_machine.py`.

Each promise has a control: with the mechanism behind it taken out, the machine finds a life that breaks it.
`scripts/crash-test --lives N` lives other lives, and more of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import run_state_machine_as_test

from batchcall.files.journal import Recovered
from run_machine import RunMachine

LIVES = int(os.environ.get("BATCHCALL_LIVES", "0"))  # the long form: not the same lives each time
STEPS = 25

SUITE = settings(
    max_examples=LIVES or 30,
    stateful_step_count=STEPS,
    derandomize=not LIVES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink) if LIVES else (Phase.generate,),  # shrinking takes minutes
)
CONTROL = settings(SUITE, max_examples=60, phases=(Phase.generate,), derandomize=True)


def test_every_promise_holds_through_any_life_of_an_output() -> None:
    run_state_machine_as_test(RunMachine, settings=SUITE)


class JournalsOnly(RunMachine):
    """Rows stay in journals for longer, and nothing but kills and cuts of the power meets them."""

    first_part_rows = 40
    flip_a_bit = fill_the_disk = fail_an_act = revalidate = edit_what_shapes_no_request = None  # type: ignore[assignment]


def _nothing(*_: Any, **__: Any) -> None:
    """What a mechanism does that was taken out."""


# What is taken out, by what the machine says then.
CONTROLS: dict[str, tuple[str, Callable[..., Any]]] = {
    "was bought": ("batchcall.files.library.Library.take", lambda library, request_hash: None),
    "answers were there": ("batchcall.files.output.recover", lambda disk, paths, target: Recovered()),
    "holds the answer|one to one|were there": ("batchcall.resume._fits", lambda *_, **__: True),
    "_SUCCESS": ("batchcall.files.output.Output.mark_success", _nothing),
    "paid in vain": ("batchcall.files.output.Output._count_lost", _nothing),
    "power cut took": ("batchcall.files.journal.Journal._sync_now", _nothing),
    "does not say so": ("run_machine.RunMachine._verify", lambda machine: []),
}


@pytest.mark.parametrize(("says", "taken_out", "instead"), [(says, *how) for says, how in CONTROLS.items()])
def test_with_a_mechanism_taken_out_a_life_is_found_that_breaks_a_promise(
    says: str, taken_out: str, instead: Callable[..., Any]
) -> None:
    with mock.patch(taken_out, instead):
        found = _what_is_found(JournalsOnly if "power" in says else RunMachine)

    assert re.search(says, found), found


def _what_is_found(machine: type[RunMachine]) -> str:
    try:
        run_state_machine_as_test(machine, settings=CONTROL)
    except (AssertionError, pytest.fail.Exception) as error:
        return str(error)
    except FlakyFailure as error:  # file sizes follow the clock, so that the same cut of the power may take less
        return " ".join(map(str, error.exceptions))
    return "nothing"
