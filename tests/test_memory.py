"""What a run holds is bounded in bytes and in what is in flight, not in rows: counted, not measured by the clock."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchcall import RunOptions, read_status, revalidate_job, run_job, verify_output
from batchcall.answers.read import AnswerParser, Prepared
from batchcall.base.records import HttpResponse, Row
from batchcall.disk.disk import RealDisk
from batchcall.engine.feed import Backlog, Results
from batchcall.output import parts, spill, waiting
from batchcall.output.journal_records import attempt_line
from batchcall.output.output import Output
from batchcall.output.waiting import Waiting
from batchcall.sandbox.process import Settings, open_sandbox
from running import edit, results, some_rows, write_job, write_rows

ROWS = 120


@pytest.fixture(autouse=True)
def nothing_else() -> None:
    """What was there before is not looked at: the tests go through all objects again and again."""
    gc.collect()
    gc.freeze()


async def test_a_row_that_has_ended_is_held_by_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most: dict[type, int] = {Prepared: 0, Row: 0}
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
    monkeypatch.setattr("batchcall.input.jsonl.BATCH_ROWS", 8)
    monkeypatch.setattr(Backlog.__init__, "__defaults__", (200,))  # bytes: some five of these rows
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=400, part_rows=100)
        edit(job, "concurrency = 8", 'concurrency = "auto"')  # more workers than rows

        summary = await run_job(job)

    assert summary.totals["ok"] == 400
    assert most[Row] < 40  # with their values: what was read and is not made ready yet
    assert most[Prepared] < 200  # what is in flight


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


async def as_killed(job: Path) -> None:
    """The output as a run leaves it that was killed with all answers in its journal."""
    own = job.parent / "out" / "_batchcall"
    answers = own / "answers" / "part-000000.answers"
    lines = b"".join(map(attempt_line, parts.read_raw(RealDisk(), answers)))
    (own / "part-000000.journal").write_bytes(lines)
    answers.unlink()
    (job.parent / "out" / "part-000000.parquet").unlink()


async def go_on_from_the_journal(job: Path) -> None:
    await as_killed(job)
    await run_again(job)


async def say_the_status_of_the_journal(job: Path) -> None:
    await as_killed(job)
    assert read_status(job.parent / "out").waiting == 200


async def go_on_from_the_raw_answers(job: Path) -> None:
    (job.parent / "out" / "part-000000.parquet").unlink()
    await run_again(job)


async def read_again(job: Path) -> None:
    assert revalidate_job(job).rows == 200


async def take_what_other_rows_have_bought(job: Path) -> None:
    write_rows(job.parent / "rows.jsonl", some_rows(180, start=20))
    await run_again(job)


async def put_together_what_no_row_has_taken(job: Path) -> None:
    write_rows(job.parent / "rows.jsonl", some_rows(1))
    await run_again(job)


async def run_again(job: Path) -> None:
    assert (await run_job(job, RunOptions(on_change="rerun"))).requests == 0


@pytest.mark.parametrize(
    "act",
    [
        go_on_from_the_journal,
        say_the_status_of_the_journal,
        go_on_from_the_raw_answers,
        read_again,
        take_what_other_rows_have_bought,
        put_together_what_no_row_has_taken,
    ],
)
async def test_answers_that_stand_on_the_disk_are_held_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], Any]
) -> None:
    monkeypatch.setattr(parts, "_ANSWERS_GROUP_ROWS", 20)
    monkeypatch.setattr(parts, "_LOADED_BYTES", 10_000)
    monkeypatch.setattr(parts, "_HELD_BYTES", 10_000)  # about twenty of these answers
    monkeypatch.setattr(Backlog.__init__, "__defaults__", (2_000,))
    monkeypatch.setitem(Results.__init__.__kwdefaults__, "most_bytes", 2_000)
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=200, part_rows=500)
        await run_job(job)
        edit(job, "concurrency = 8", "concurrency = 150")  # more workers than may hold an answer
        calls, most = itertools.count(), 0

        def counting(method: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*given: Any) -> Any:
                nonlocal most
                if next(calls) % 20 == 10:
                    gc.collect()
                    most = max(most, sum(type(one) is HttpResponse for one in gc.get_objects()))
                return method(*given)

            return counted

        for name in ("read", "skim"):
            monkeypatch.setattr(AnswerParser, name, counting(getattr(AnswerParser, name)))
        monkeypatch.setattr(Waiting, "add", counting(Waiting.add))

        await act(job)

    assert next(calls) > 150
    assert 0 < most < 60
