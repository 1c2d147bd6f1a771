"""What a run holds is bounded in bytes and in what is in flight, not in rows: counted, not measured by the clock."""

from __future__ import annotations

import gc
import itertools
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchcall import run_job, verify_output
from batchcall.engines.feed import Backlog
from batchcall.engines.reading import Asked
from batchcall.files import spill, waiting
from batchcall.files.output import Output
from batchcall.records import Row
from batchcall.sandbox.process import Settings, open_sandbox
from running import edit, results, write_job

ROWS = 120


async def test_a_row_that_has_ended_is_held_by_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most: dict[type, int] = {Asked: 0, Row: 0}
    add, calls = Output.add, itertools.count()

    def counting(self: Output, *ended: Any) -> Any:
        if next(calls) % 25 == 0:
            gc.collect()  # what hangs in circles is held by nobody
            count(gc.get_objects())
        return add(self, *ended)

    def count(held: list[Any]) -> None:
        for kind in most:
            most[kind] = max(most[kind], sum(type(one) is kind and _is_full(one) for one in held))

    monkeypatch.setattr(Output, "add", counting)
    monkeypatch.setattr("batchcall.files.input_jsonl.BATCH_ROWS", 8)
    monkeypatch.setattr(Backlog.__init__, "__defaults__", (200,))  # bytes: some five of these rows
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=400, part_rows=100)
        edit(job, "concurrency = 8", 'concurrency = "auto"')  # more workers than rows

        summary = await run_job(job)

    assert summary.totals["ok"] == 400
    assert most[Row] < 40  # with their values: what was read and is not made ready yet
    assert most[Asked] < 200  # what is in flight


def _is_full(one: Any) -> bool:
    return not isinstance(one, Row) or bool(one.values)


async def test_a_part_that_grows_large_is_the_same_as_one_that_was_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_sandbox(Settings()) as endpoint:
        held = write_job(tmp_path / "held", url=endpoint.url, rows=ROWS, part_rows=500)
        await run_job(held)
        monkeypatch.setattr(spill, "HELD_BYTES", 20_000)
        monkeypatch.setattr(waiting, "WAITING_BYTES", 10_000)
        spilled = write_job(tmp_path / "spilled", url=endpoint.url, rows=ROWS, part_rows=500)
        await run_job(spilled)

    of_both = [
        [
            (row["row"], row["id"], row["arguments"], row["calls"], row["request_hash"])
            for row in results(folder / "out")
        ]
        for folder in (tmp_path / "held", tmp_path / "spilled")
    ]
    assert of_both[0] == of_both[1]
    assert verify_output(tmp_path / "spilled" / "out").is_proven
    assert not list((tmp_path / "spilled" / "out" / "_batchcall").glob("_tmp-*"))
    assert pq.ParquetFile(tmp_path / "spilled" / "out" / "part-000000.parquet").metadata.num_rows == ROWS
