"""Nothing that counts as done is lost, and nothing is bought twice, whatever a crash or a disk leaves: on a model disk.

`crash_exploration.py` says what is explored; `scripts/crash-test --states N` explores more of it. Every sync that the
program makes is needed: with any one of them left out, states are found that break a promise.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import batchcall
from batchcall.base.records import Attempt, HttpResponse
from batchcall.disk.disk import ensure_folder, write_whole
from batchcall.output.generations import set_aside
from batchcall.output.journal import journals_in, read_journals, recover
from batchcall.output.journal_records import attempt_line
from crash_exploration import (
    explore,
    explore_failures,
    explore_full_disks,
    is_missed,
    losses,
    syncs_of_life,
)
from model_disk import ModelDisk

STATES = 1_600  # as if every step were cut off; `scripts/crash-test` does that, and in more ways
STEPS = 20  # one of so many is cut off here
ACTS = 8  # one of so many fails here
SHARES = 2  # of the moments that are looked at: two processes may take one each


@pytest.mark.parametrize("share", range(SHARES))
def test_after_a_kill_or_a_power_cut_at_any_step_the_same_command_loses_nothing_and_buys_nothing_twice(
    share: int, tmp_path: Path
) -> None:
    found = explore(tmp_path, states=STATES, seed=3, share=(share * STEPS, SHARES * STEPS))

    assert found.faults == []
    assert found.states >= STATES / STEPS / SHARES


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")  # nothing is left open
@pytest.mark.parametrize("share", range(SHARES))
def test_when_any_act_on_the_disk_fails_the_run_says_so_and_the_same_command_goes_on(
    share: int, tmp_path: Path
) -> None:
    found = explore_failures(tmp_path, is_whole=False, share=(share * ACTS, SHARES * ACTS))

    assert found.faults == []
    assert found.states >= 500 / ACTS / SHARES


def test_on_a_disk_of_any_size_what_was_paid_for_finds_room(tmp_path: Path) -> None:
    found = explore_full_disks(tmp_path, step=20_000)

    assert found.faults == []
    assert found.states >= 30


# All syncs that the commands of a life make, by who asks for them.
SYNCS = (
    "sync: _sync_now",
    "sync: whole_file < _table_writer < finish < _publish",
    "sync: whole_file < _table_writer < finish < _write_part",
    "sync: whole_file < _table_writer < write_part < _publish",
    "sync: whole_file < _table_writer < write_part < _revalidate_part",
    "sync: whole_file < _table_writer < write_part < _write_part",
    "sync: whole_file < recover < open_part < _of_batch",
    "sync: whole_file < write_whole < recover < open_part",
    "sync: whole_file < write_whole < write_runfile < _record",
    "sync: whole_file < write_whole < write_runfile < _set_aside",
    "sync: whole_file < write_whole < write_runfile < revalidate_job",
    "sync: whole_file < write_whole < write_runfile < write_record",
    "sync_folder: _record",
    "sync_folder: _sync_now",
    "sync_folder: clear_remains < _open_run",
    "sync_folder: ensure_folder < make_folders < _open_run",
    "sync_folder: ensure_folder < new_generation < compact < finish",
    "sync_folder: ensure_folder < new_generation < set_aside < _set_aside",
    "sync_folder: mark_success < _begin",
    "sync_folder: mark_success < finish",
    "sync_folder: mark_success < set_aside < _set_aside",
    "sync_folder: set_aside < _set_aside",
    "sync_folder: whole_file < _table_writer < finish < _publish",
    "sync_folder: whole_file < _table_writer < finish < _write_part",
    "sync_folder: whole_file < _table_writer < write_part < _publish",
    "sync_folder: whole_file < _table_writer < write_part < _revalidate_part",
    "sync_folder: whole_file < _table_writer < write_part < _write_part",
    "sync_folder: whole_file < recover < open_part < _of_batch",
    "sync_folder: whole_file < write_whole < recover < open_part",
    "sync_folder: whole_file < write_whole < write_runfile < _record",
    "sync_folder: whole_file < write_whole < write_runfile < revalidate_job",
    "sync_folder: whole_file < write_whole < write_runfile < write_record",
)

# The same line of `write_part` is needed where a part is published, not in these two places. A revalidation syncs that
# folder once more before run.json says that it is done; a compacted part that is lost is read from its raw answers.
SPARED = {
    "sync_folder: whole_file < _table_writer < write_part < _revalidate_part",
    "sync_folder: whole_file < _table_writer < write_part < _write_part",
}

# These two are needed after a kill alone, and a life that needs them takes minutes to find.
JOINING, ASIDE = "sync_folder: whole_file < recover < open_part < _of_batch", "sync: set_aside"


@pytest.mark.parametrize("sync", [sync for sync in SYNCS if sync != JOINING and sync not in SPARED])
def test_with_any_one_sync_taken_out_a_promise_is_broken(sync: str, tmp_path: Path) -> None:
    assert not is_missed(tmp_path, sync)


def test_all_syncs_of_the_program_are_among_those_that_are_taken_out(tmp_path: Path) -> None:
    assert syncs_of_life(tmp_path) == set(SYNCS)
    assert {label.split(": ")[1].split(" < ")[0] for label in (*SYNCS, ASIDE)} == set(functions_that_sync())
    assert {JOINING, *SPARED} < set(SYNCS)


@pytest.mark.parametrize("is_synced", [True, False])
def test_a_journal_of_a_killed_run_that_is_set_aside_survives_a_power_cut_but_without_the_sync(
    is_synced: bool, tmp_path: Path
) -> None:
    disk, own = ModelDisk(tmp_path), tmp_path / "_batchcall"
    ensure_folder(disk, own / "answers")
    handle = disk.create(own / "part-000000.journal")
    disk.sync_folder(own)
    disk.write(handle, attempt_line(answered(0)))  # and the run is killed
    disk.left_out = frozenset() if is_synced else frozenset({ASIDE})

    set_aside(disk, tmp_path, own, [0])

    lost = 0
    for loss in losses(disk):
        left = disk.copy()
        left.cut_power(loss, keeps=0.5)
        lost += (
            0 not in journals_in(left, own / "earlier" / "0001")
            or not read_journals(left, journals_in(left, own / "earlier" / "0001")[0]).attempts
        )
    assert (lost == 0) is is_synced


@pytest.mark.parametrize("is_synced", [True, False])
def test_two_journals_of_a_part_become_one_and_no_power_cut_loses_an_answer_but_without_the_sync(
    is_synced: bool, tmp_path: Path
) -> None:
    first, second = tmp_path / "part-000000.journal", tmp_path / "part-000000.1.journal"
    disk = ModelDisk(tmp_path)
    for row, path in enumerate((first, second)):
        write_whole(disk, path, attempt_line(answered(row)))
    disk.left_out = frozenset() if is_synced else frozenset({"sync_folder: whole_file < recover"})
    moments: list[ModelDisk] = []
    disk.before = lambda act, path: moments.append(disk.copy())

    recover(disk, [first, second], first)

    lost = 0
    for moment in [*moments, disk]:
        for loss in losses(moment):
            left = moment.copy()
            left.cut_power(loss, keeps=0.5)
            lost += read_journals(left, journals_in(left, tmp_path)[0]).attempts.keys() != {0, 1}
    assert (lost == 0) is is_synced


def answered(row: int) -> Attempt:
    response = HttpResponse(200, {}, b"{}")
    return Attempt(row, 1, f"hash{row}", response, None, sent_at_s=1.0, latency_s=1.0, wait_s=0.0, endpoint="e")


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
