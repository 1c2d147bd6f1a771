"""Whatever becomes of an output in its life, its promises hold: lives drawn by hypothesis, see `run_machine.py`.

Each promise has a control: with the mechanism behind it taken out, there is a life that breaks it.
`scripts/crash-test --lives N` lives other lives, and more of them.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from batchcall.output.journal import Recovered
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


def test_every_promise_holds_through_any_life_of_an_output() -> None:
    run_state_machine_as_test(RunMachine, settings=SUITE)


class JournalsOnly(RunMachine):
    """Rows stay in journals for longer, and nothing but kills and cuts of the power meets them."""

    first_part_rows = 40
    flip_a_bit = fill_the_disk = fail_an_act = revalidate = edit_what_shapes_no_request = None  # type: ignore[assignment]


def _nothing(*_: Any, **__: Any) -> None:
    """What a mechanism does that was taken out."""


Life = Callable[[RunMachine, int], None]


def _killed(machine: RunMachine, number: int) -> None:
    machine.kill("keep", retry_failed=False, act=10 + 2 * number)
    machine.run_to_the_end("keep")


def _without_power(machine: RunMachine, number: int) -> None:
    machine.cut_the_power("keep", act=20 + 2 * number, keeps=0.0, seed=number)
    machine.run_to_the_end("keep")


def _edited(machine: RunMachine, number: int) -> None:
    machine.run_to_the_end("keep")
    machine.edit_rows(number, ["quite another"])
    machine.run_to_the_end("keep")


def _shuffled(machine: RunMachine, number: int) -> None:
    machine.run_to_the_end("keep")
    machine.shuffle(random.Random(number))
    machine.run_to_the_end("keep")


def _damaged(machine: RunMachine, number: int) -> None:
    machine.run_to_the_end("keep")
    machine.flip_a_bit(number, bit=1_000 + number, is_mended=False)


# What is taken out, by what the machine says then, in a life that needs it.
CONTROLS: dict[str, tuple[str, Callable[..., Any], Life]] = {
    "was bought": (
        "batchcall.output.earlier_answers.EarlierAnswers.take",
        lambda library, request_hash: None,
        _shuffled,
    ),
    "answers were there|in vain": ("batchcall.output.output.recover", lambda disk, paths, target: Recovered(), _killed),
    "'row': 0, 'id': 'r0', 'text': 'a'": ("batchcall.pipeline.resume._fits", lambda *_, **__: True, _edited),
    "_SUCCESS": ("batchcall.output.output.Output.mark_success", _nothing, _edited),
    "paid in vain": ("batchcall.output.output.Output._count_lost", _nothing, _killed),
    "power cut took": ("batchcall.output.journal.Journal._sync_now", _nothing, _without_power),
    "does not say so": ("run_machine.RunMachine._verify", lambda machine: [], _damaged),
}
TRIES = 50


@pytest.mark.parametrize(("says", "taken_out", "instead", "life"), [(says, *how) for says, how in CONTROLS.items()])
def test_with_a_mechanism_taken_out_a_life_breaks_a_promise(
    says: str, taken_out: str, instead: Callable[..., Any], life: Life
) -> None:
    with mock.patch(taken_out, instead):
        number, found = next(
            ((number, said) for number in range(TRIES) if (said := _what_is_found(life, number))), (-1, "nothing")
        )

    assert re.search(says, found), found
    assert _what_is_found(life, number) == ""


def _what_is_found(life: Life, number: int) -> str:
    machine = JournalsOnly() if life is _without_power else RunMachine()
    try:
        life(machine, number)
        machine.success_stands_over_complete_outputs_only()
    except AssertionError as error:
        return str(error) or "something"
    finally:
        machine.teardown()
    return ""
