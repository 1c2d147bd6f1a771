"""Nothing that counts as done is lost, and nothing is bought twice, whatever a crash or a disk leaves: on a model disk.

`crash_model.py` says what is explored; `scripts/crash-test` explores more of it. The syncs that the program makes are
each needed: with any one of them left out, states are found that break a promise.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from crash_model import LIFE, Exploration, explore, explore_failures, explore_full_disks

STATES = 10_000
PROCESSES = 2


def in_processes(explore_share: Callable[..., Exploration], folder: Path, **how: Any) -> Exploration:
    """Every process takes its share of the moments."""
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        shares = [
            pool.submit(explore_share, folder / str(number), LIFE, share=(number, PROCESSES), **how)
            for number in range(PROCESSES)
        ]
        found = [share.result() for share in shares]
    return Exploration(
        sum(each.states for each in found),
        set().union(*(each.syncs for each in found)),
        [fault for each in found for fault in each.faults],
    )


def test_after_a_kill_or_a_power_cut_at_any_step_the_same_command_loses_nothing_and_buys_nothing_twice(
    tmp_path: Path,
) -> None:
    found = in_processes(explore, tmp_path, states=STATES, seed=3)

    assert found.faults == []
    assert found.states >= STATES


def test_when_any_act_on_the_disk_fails_the_run_says_so_and_the_same_command_goes_on(tmp_path: Path) -> None:
    found = in_processes(explore_failures, tmp_path)

    assert found.faults == []
    assert found.states >= 1000


def test_on_a_disk_of_any_size_what_was_paid_for_finds_room(tmp_path: Path) -> None:
    found = explore_full_disks(tmp_path, step=20_000)

    assert found.faults == []
    assert found.states >= 50


# Every sync of the program, by the functions that lead to it.
SYNCS: tuple[str, ...] = ()


def test_no_sync_is_missing_from_the_list_below(tmp_path: Path) -> None:
    assert explore(tmp_path, LIFE, states=1, seed=1).syncs == set(SYNCS)


@pytest.mark.parametrize("sync", SYNCS)
def test_with_any_one_sync_taken_out_a_promise_is_broken(tmp_path: Path, sync: str) -> None:
    found = explore(tmp_path, LIFE, states=STATES, seed=3, left_out=frozenset({sync}), stops_at_first=True)

    assert found.faults != []
