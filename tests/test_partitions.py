"""A table in hive partitions through a whole job: keys are asked with, kept, verified; a new day costs its own rows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchcall import ExitCode, InputError, run_job, verify_output
from batchcall.commands.check import check_job
from batchcall.sandbox.process import SandboxProcess
from running import edit, results, write_job


def write_day(folder: Path, day: str, ending: str, *, rows: int = 4) -> None:
    (folder / f"day={day}").mkdir(parents=True)
    texts = [{"text": f"Ada {index} of {day}"} for index in range(rows)]
    path = folder / f"day={day}" / f"a{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(texts), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in texts))


def job_over_days(folder: Path, url: str, path: str) -> Path:
    job = write_job(folder, url=url, part_rows=3)
    edit(job, 'path = "rows.jsonl"', f'path = "{path}"')
    edit(job, "{{ text }}", "On {{ day }}: {{ text }}")
    return job


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
@pytest.mark.parametrize("path", ["in", "in/**"])
async def test_keys_are_asked_with_kept_and_verified_and_a_new_day_costs_its_own_rows(
    tmp_path: Path, endpoint: SandboxProcess, ending: str, path: str
) -> None:
    write_day(tmp_path / "in", "2026-11-03", ending)
    write_day(tmp_path / "in", "2026-11-05", ending)
    job = job_over_days(tmp_path, endpoint.url, path)
    first = (await asyncio.to_thread(check_job, job)).first_request
    assert first is not None
    assert "On 2026-11-03: Ada 0" in str(first["body"])

    await run_job(job)
    assert [row["day"] for row in results(tmp_path / "out")] == ["2026-11-03"] * 4 + ["2026-11-05"] * 4

    for day in ("2026-11-07", "2026-11-04"):  # behind all days, and between two
        write_day(tmp_path / "in", day, ending)
        summary = await run_job(job)
        assert (summary.exit_code, summary.requests) == (ExitCode.OK, 4)

    proof = verify_output(tmp_path / "out")
    assert (proof.faults, proof.compared) == ([], 16)
    days = [row["day"] for row in results(tmp_path / "out")]
    assert days == sorted(days)
    assert (await run_job(job)).requests == 0


async def test_a_file_outside_all_partitions_is_noted_by_run_and_check(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    write_day(tmp_path / "in", "1", ".jsonl")
    (tmp_path / "in/late.jsonl").write_text('{"text": "Grace"}\n')
    job = job_over_days(tmp_path, endpoint.url, "in")
    notes: list[str] = []

    await run_job(job, say=notes.append)
    warnings = (await asyncio.to_thread(check_job, job)).warnings

    note = "column 'day' is null in the rows of 1 of 2 files, which are not in a folder day=…: late.jsonl"
    assert note in notes
    assert note in warnings
    assert [row["day"] for row in results(tmp_path / "out")] == [1, 1, 1, 1, None]


async def test_a_key_that_no_folder_has_is_refused_with_those_that_there_are(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    write_day(tmp_path / "in", "1", ".jsonl")
    job = job_over_days(tmp_path, endpoint.url, "in")
    edit(job, "{{ day }}", "{{ dya }}")

    with pytest.raises(InputError) as refused:
        await run_job(job)

    assert "did you mean day?" in refused.value.hint
