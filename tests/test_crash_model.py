"""Nothing that counts as done is lost, and nothing is bought twice, whatever a crash or a disk leaves: on a model disk.

`crash_model.py` says what is explored; `scripts/crash-test --states N` explores more of it. Every sync that the program
makes is needed: with any one of them left out, states are found that break a promise.
"""

from __future__ import annotations

import ast
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import batchcall
from crash_model import Exploration, explore, explore_failures, explore_full_disks, is_missed

STATES = 10_000
PROCESSES = 2


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as processes:
        yield processes


def in_shares(
    pool: ProcessPoolExecutor, explore_share: Callable[..., Exploration], folder: Path, **how: Any
) -> Exploration:
    """Every process takes its share of the moments."""
    shares = [
        pool.submit(explore_share, folder / str(number), share=(number, PROCESSES), **how)
        for number in range(PROCESSES)
    ]
    found = [share.result() for share in shares]
    return Exploration(
        sum(each.states for each in found),
        set().union(*(each.syncs for each in found)),
        [fault for each in found for fault in each.faults],
    )


def test_after_a_kill_or_a_power_cut_at_any_step_the_same_command_loses_nothing_and_buys_nothing_twice(
    tmp_path: Path, pool: ProcessPoolExecutor
) -> None:
    found = in_shares(pool, explore, tmp_path, states=STATES, seed=3)

    assert found.faults == []
    assert found.states >= STATES


def test_when_any_act_on_the_disk_fails_the_run_says_so_and_the_same_command_goes_on(
    tmp_path: Path, pool: ProcessPoolExecutor
) -> None:
    found = in_shares(pool, explore_failures, tmp_path)

    assert found.faults == []
    assert found.states >= 1000


def test_on_a_disk_of_any_size_what_was_paid_for_finds_room(tmp_path: Path) -> None:
    found = explore_full_disks(tmp_path, step=20_000)

    assert found.faults == []
    assert found.states >= 30


def test_with_any_one_sync_taken_out_a_promise_is_broken(tmp_path: Path, pool: ProcessPoolExecutor) -> None:
    syncs = sorted(explore(tmp_path, states=1, seed=3).syncs)

    missed = pool.map(partial(is_missed, tmp_path, states=STATES), syncs)

    assert [sync for sync, is_needless in zip(syncs, missed, strict=True) if is_needless] == []
    assert {label.split(": ")[1].split(" < ")[0] for label in syncs} == set(functions_that_sync())


def functions_that_sync() -> Iterator[str]:
    """Every function of the program that asks a disk for a sync."""
    for path in Path(batchcall.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(_is_sync(call) for call in ast.walk(node)):
                yield node.name


def _is_sync(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr in ("sync", "sync_folder") and "disk" in ast.unparse(node.func.value)
