"""What verify says of an output that is not damaged: proven, or not whole yet, and what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchcall import ExitCode, RunOptions, run_job, verify_output
from batchcall.disk.disk import RealDisk
from batchcall.disk.lock import hold_lock
from batchcall.output.runfile import read_runfile, write_runfile
from batchcall.sandbox.process import SandboxProcess
from running import batchcall as command
from running import some_rows, write_job, write_rows

INCOMPLETE = "incomplete; what is there is undamaged"
UNCOMPARED = "NOT compared with the input"
Rows = list[dict[str, Any]]


def verdict(out: Path) -> str:
    return verify_output(out).as_text().splitlines()[1].removeprefix("verdict").strip()


async def test_an_output_is_not_proven_while_a_run_is_under_way(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job, out = write_job(tmp_path, url=endpoint.url), tmp_path / "out"
    await run_job(job, RunOptions(limit=20))

    with hold_lock(out / "_batchcall" / "lock"):
        proof, told = verify_output(out), command("verify", out)

    (fault,) = proof.faults
    assert "20 of 25 rows are done, and a run is under way" in fault
    assert (verdict(out), proof.missing) == (INCOMPLETE, 5)
    assert told.returncode == 1
    assert INCOMPLETE in told.stdout


async def test_an_output_whose_run_has_not_come_to_its_end_is_not_proven(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = write_job(tmp_path, url=endpoint.url), tmp_path / "out"
    await run_job(job)
    (out / "_SUCCESS").unlink()
    with hold_lock(out / "_batchcall" / "lock"):
        is_under_way = verify_output(out)
    record = read_runfile(RealDisk(), out / "_batchcall")
    assert record is not None
    record.runs[-1].ended_at = None
    write_runfile(RealDisk(), out / "_batchcall", record)
    has_died = verify_output(out)
    await run_job(job)

    assert not is_under_way.is_proven
    assert "the last run died" in has_died.faults[0]
    assert verify_output(out).is_proven


async def test_a_run_that_only_looks_at_a_whole_output_leaves_it_proven(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    out = tmp_path / "out"
    await run_job(write_job(tmp_path, url=endpoint.url))

    with hold_lock(out / "_batchcall" / "lock"):
        proof = verify_output(out)

    assert proof.is_proven


async def test_without_its_input_an_output_is_not_said_to_be_proven(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job, out, rows = write_job(tmp_path, url=endpoint.url), tmp_path / "out", tmp_path / "rows.jsonl"
    whole = rows.read_text()
    await run_job(job, RunOptions(limit=12))
    rows.unlink()
    half = verdict(out)
    rows.write_text(whole)
    await run_job(job)
    rows.unlink()

    proof, told = verify_output(out), command("verify", out)

    (fault,) = proof.faults
    assert f"{rows} does not exist" in fault
    assert "its rows were not checked" in fault
    assert (half, verdict(out)) == (f"{UNCOMPARED} and {INCOMPLETE}", f"{UNCOMPARED}; what is there is undamaged")
    assert (told.returncode, proof.compared) == (1, 0)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (
            lambda rows: [*rows[:3], {**rows[3], "text": "Bob"}, *rows[4:]],
            "1 rows have changed in the input since they were asked: 3.",
        ),
        (
            lambda rows: [*rows[:3], {**rows[3], "id": "other"}, *rows[4:]],
            "in columns that are kept but not part of the request: 3.",
        ),
        (lambda rows: rows[:3], "22 rows are beyond the 3 that the input has now: 3, 4"),
        (lambda rows: [{**row, "more": 1} for row in rows], "the columns of the input have changed"),
        (lambda rows: [*rows, {"id": "new", "text": "new"}], "1 rows of the input are missing: 25"),
    ],
    ids=["another text", "another id", "fewer rows", "another column", "more rows"],
)
async def test_rows_that_the_input_no_longer_makes_are_named_and_a_run_follows_them(
    tmp_path: Path, endpoint: SandboxProcess, edit: Callable[[Rows], Rows], told: str
) -> None:
    job, out = write_job(tmp_path, url=endpoint.url), tmp_path / "out"
    await run_job(job)
    write_rows(tmp_path / "rows.jsonl", edit(some_rows(25)))

    (fault,) = verify_output(out).faults
    code = command("verify", out).returncode
    await run_job(job)

    assert told in fault
    assert "Run the job again" in fault
    assert (code, verdict(out)) == (1, "proven")


async def test_an_input_that_was_written_again_with_the_same_rows_leaves_an_output_proven(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out, rows = write_job(tmp_path, url=endpoint.url), tmp_path / "out", tmp_path / "rows.jsonl"
    await run_job(job)
    os.utime(rows, (1, 1))

    proof = verify_output(out)

    assert proof.is_proven
    assert (proof.compared, proof.notes) == (25, [])


async def test_what_is_gone_beside_the_rows_is_noted_and_the_rows_stay_proven(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = write_job(tmp_path, url=endpoint.url), tmp_path / "out"
    await run_job(job)
    (out / "_SUCCESS").unlink()
    shutil.rmtree(out / "_batchcall" / "answers")

    proof = verify_output(out)
    summary = await run_job(job)
    after = verify_output(out)

    assert proof.is_proven
    assert any("_SUCCESS is missing, although every row is done" in note for note in proof.notes)
    assert any("raw answers of 3 parts" in note and "revalidate" in note for note in proof.notes)
    assert (summary.exit_code, summary.requests, len(after.notes)) == (ExitCode.OK, 0, 1)
    assert (out / "_SUCCESS").exists()


async def test_of_an_interrupted_revalidation_verify_says_to_run_it_again_and_nothing_else(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = write_job(tmp_path, url=endpoint.url), tmp_path / "out"
    await run_job(job)
    record = read_runfile(RealDisk(), out / "_batchcall")
    assert record is not None
    record.revalidating = True
    write_runfile(RealDisk(), out / "_batchcall", record)

    (fault,) = verify_output(out).faults
    anew = command("revalidate", job)

    assert "Run `batchcall revalidate` again" in fault
    assert anew.returncode == 0, anew.stderr
    assert verify_output(out).is_proven
