"""Kept columns through whole jobs: as in the input after a stop, a retry and a changed input, whatever they hold."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from batchcall import RunOptions, read_table, run_job, verify_output
from batchcall.sandbox.process import Settings, open_sandbox
from running import edit, write_job

ROWS = 23


def table(rows: int, *, shift: int = 0) -> pa.Table:
    """Rows whose last columns no prompt uses and Python cannot hold."""
    numbers = list(range(shift, shift + rows))
    return pa.table(
        {
            "text": [f"Ada number {number}" for number in numbers],
            "seen": pa.array([1_700_000_000_123_456_789 + number for number in numbers]).cast(
                pa.timestamp("ns", "UTC")
            ),
            "valid_to": pa.array([2**31 - 1 if number % 2 else number for number in numbers], pa.int32()).cast(
                pa.date32()
            ),
            "born": pa.array([-(2**62) if number % 3 else None for number in numbers]).cast(pa.timestamp("us")),
            "kind": pa.array([f"k{number % 3}" for number in numbers]).dictionary_encode(),
        }
    )


def write_parquet_job(folder: Path, url: str, rows: pa.Table) -> Path:
    job = write_job(folder, url=url, rows=0)
    edit(job, "rows.jsonl", "rows.parquet")
    pq.write_table(rows, folder / "rows.parquet", row_group_size=7)
    return job


def assert_kept(out: Path, rows: pa.Table) -> None:
    written = pyarrow.dataset.dataset(out).to_table()
    assert set(written.column("status").to_pylist()) == {"ok"}
    assert written.column("error").null_count == written.num_rows
    for name in rows.schema.names:
        assert written.column(name).type == rows.column(name).type
        assert written.column(name).unify_dictionaries().combine_chunks() == rows.column(name).combine_chunks()
    assert verify_output(out).is_proven


async def test_what_no_prompt_uses_is_kept_as_it_is_and_spoils_no_row(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_parquet_job(tmp_path, endpoint.url, table(ROWS))

        summary = await run_job(job)

    assert (summary.requests, summary.exit_code, summary.left_out) == (ROWS, 0, {})
    assert_kept(tmp_path / "out", table(ROWS))


async def test_kept_columns_survive_a_stop_a_new_input_and_other_part_sizes(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_parquet_job(tmp_path, endpoint.url, table(ROWS))
        await run_job(job, RunOptions(limit=15))  # one part whole, one begun

        await run_job(job)
        assert_kept(tmp_path / "out", table(ROWS))

        pq.write_table(table(ROWS, shift=1), tmp_path / "rows.parquet")  # every row is at another place
        moved = await run_job(job)
        assert_kept(tmp_path / "out", table(ROWS, shift=1))

        edit(job, "part_rows = 10", "part_rows = 7")
        resized = await run_job(job)
        assert_kept(tmp_path / "out", table(ROWS, shift=1))

    assert (moved.requests, resized.requests) == (1, 0)


async def test_rows_that_are_tried_again_keep_their_columns(tmp_path: Path) -> None:
    async with open_sandbox(Settings(faults={"no_call": 0.5}, seed=3)) as endpoint:
        job = write_parquet_job(tmp_path, endpoint.url, table(ROWS))
        first = await run_job(job)
    async with open_sandbox(Settings()) as endpoint:
        edit(job, job.read_text().split('url = "')[1].split('"')[0], endpoint.url)

        again = await run_job(job, RunOptions(retry_failed=True))

    assert 0 < first.totals["failed"] == again.requests < ROWS
    assert_kept(tmp_path / "out", table(ROWS))


async def test_an_unchanged_part_stays_where_it_is_although_python_cannot_hold_what_it_keeps(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_parquet_job(tmp_path, endpoint.url, table(ROWS))
        await run_job(job)
        before = (tmp_path / "out" / "part-000000.parquet").stat().st_ino
        pq.write_table(table(ROWS + 5), tmp_path / "rows.parquet")

        grown = await run_job(job)

    assert grown.requests == 5
    assert (tmp_path / "out" / "part-000000.parquet").stat().st_ino == before
    assert_kept(tmp_path / "out", table(ROWS + 5))


async def test_a_column_of_a_later_file_is_counted_as_left_out(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_parquet_job(tmp_path, endpoint.url, table(3))
        edit(job, "rows.parquet", "rows")
        (tmp_path / "rows").mkdir()
        pq.write_table(table(3), tmp_path / "rows" / "0.parquet")
        later = table(3).append_column("late", pa.array([None, 1, 2]))
        pq.write_table(later, tmp_path / "rows" / "1.parquet")

        summary = await run_job(job)

    assert (summary.exit_code, summary.left_out) == (0, {"late": 2})
    errors = read_table(tmp_path / "out").column("error").to_pylist()
    assert errors[:4] == [None] * 4
    assert errors[4] == "left out: late: has no column, as the first file of the input lacks it"
