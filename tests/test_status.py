"""What status says of an output, by the parts and the journals that stand there."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchcall import ExitCode, RunOptions, load_job, run_job, verify_output
from batchcall.commands.status import OutputStatus, read_status
from batchcall.report.snapshot import Snapshot
from batchcall.sandbox.process import Settings, open_sandbox
from running import edit, write_job

PRICES = '[prices."test-model"]\nprompt = 1.0\ncompletion = 2.0'


async def test_a_row_whose_request_was_refused_is_left_and_not_done(tmp_path: Path) -> None:
    async with open_sandbox(Settings(api_key="right")) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        summary = await run_job(job)

    status = read_status(tmp_path / "out")

    assert (summary.exit_code, summary.totals["rows"]) == (ExitCode.ENDPOINT_REFUSES, 0)
    assert (status.totals["rows"], status.waiting) == (0, 0)
    assert "rows      0 of 25 done\n" in status.as_text()


async def test_status_of_a_run_under_way_counts_tokens_and_cost_of_rows_that_are_in_no_part_yet(
    tmp_path: Path,
) -> None:
    seen: list[OutputStatus] = []

    def look(_: Snapshot) -> None:
        seen.append(read_status(tmp_path / "out"))

    async with open_sandbox(Settings(latency_s=0.2)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=60, part_rows=1000, more=PRICES)
        summary = await run_job(job, show=look)

    before, under_way, done = seen[0], seen[-2], read_status(tmp_path / "out")
    assert "tokens    none yet" in before.as_text()
    assert "cost      none yet" in before.as_text()
    assert under_way.totals["rows"] == 0 < under_way.waiting <= 60
    assert under_way.journals.spent.total_tokens
    assert under_way.journals.spent.cost
    assert f"tokens    {under_way.journals.spent.total_tokens:,} (" in under_way.as_text()
    assert under_way.as_json()["journals"]["cost"] == under_way.journals.spent.cost
    assert (done.waiting, done.journals.spent.total_tokens) == (0, None)
    assert done.totals["total_tokens"] == summary.totals["total_tokens"]


async def test_rows_that_stand_in_a_short_part_and_in_its_journal_count_once(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, more=PRICES)
        summary = await run_job(job, RunOptions(limit=15))

    status = read_status(tmp_path / "out")

    assert list((tmp_path / "out" / "_batchcall").glob("*.journal"))
    assert (status.totals["rows"], status.waiting, status.journals.spent.total_tokens) == (15, 0, None)
    assert f"{summary.totals['total_tokens']:,} (" in status.as_text()


@pytest.mark.parametrize(
    ("options", "limits", "reason"),
    [
        (RunOptions(limit=12), "", "the row limit"),
        (RunOptions(), "max_tokens_total = 2_000", "max_tokens_total"),
        (RunOptions(), "max_failed = 3", "max_failed"),
    ],
    ids=["limit", "budget", "failures"],
)
async def test_what_a_run_that_stopped_early_knew_of_its_input_is_reported_afterwards(
    tmp_path: Path, options: RunOptions, limits: str, reason: str
) -> None:
    faults = {"no_call": 0.5} if "max_failed" in limits else {}
    async with open_sandbox(Settings(latency_s=0.1, faults=faults)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=3000, limits=limits)
        summary = await run_job(job, options, show=lambda _: None)
        again = await run_job(job, options, show=lambda _: None)

    status = read_status(tmp_path / "out")

    assert reason in summary.reason
    assert not summary.is_complete
    assert 0 < summary.totals["rows"] <= again.totals["rows"] == status.totals["rows"] < 3000
    assert (status.rows_expected, status.left) == (3000, 3000 - status.totals["rows"])
    assert f"{status.left:,} of 3,000 rows" in status.as_text()


async def test_rows_that_wait_to_be_asked_again_are_left_as_a_run_counts_them(tmp_path: Path) -> None:
    async with open_sandbox(Settings(faults={"invalid_schema_arguments": 0.7})) as endpoint:
        limits = "max_tokens_total = 4_000\nmax_failed = 60\n[validate]\nreask = 3"
        job = write_job(tmp_path, url=endpoint.url, rows=60, part_rows=60, limits=limits)
        summary = await run_job(job, show=lambda _: None)

    status = read_status(tmp_path / "out")

    assert summary.unfinished["rows"] > 0
    assert (status.waiting, status.left) == (0, 60 - summary.totals["rows"])


async def test_status_of_a_run_under_way_counts_failures_in_journals_and_knows_the_rows_of_the_input(
    tmp_path: Path,
) -> None:
    seen: list[OutputStatus] = []

    def look(_: Snapshot) -> None:
        seen.append(read_status(tmp_path / "out"))

    async with open_sandbox(Settings(latency_s=0.1, faults={"no_call": 0.5})) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=80, part_rows=1000, limits="max_failed = 80")
        summary = await run_job(job, show=look)

    under_way = seen[-2]
    failed = under_way.statuses["no_call"]
    assert 0 < under_way.waiting < 80
    assert under_way.rows_expected == 80
    kept = f"{under_way.waiting} of 80 done; {under_way.waiting} of them are kept, and in no Parquet file yet"
    assert kept in under_way.as_text()
    assert f"failed    {failed} ({failed} no_call)" in under_way.as_text()
    assert under_way.as_json()["journals"]["statuses"]["no_call"] == failed > 0
    assert read_status(tmp_path / "out").statuses == summary.totals["statuses"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "Who is this?",
            "Who is that?",
            ("job.toml differs from the job that these rows were made with: request.prompt", "rerun"),
        ),
        ('file = "tool.json"', 'name = "other"\nparameters = {}', ("tool.0.function.name", "--on-change")),
        (
            "concurrency = 8",
            "concurrency = 8\n[validate]\ncoerce = true",
            ("validate.coerce has changed", "revalidate"),
        ),
        ('url = "sandbox"', 'irl = "sandbox"', ("job.toml has errors now, and a run would refuse it", "endpoint")),
    ],
    ids=["prompt", "tool", "validate", "a fault"],
)
async def test_status_and_verify_say_how_the_job_file_has_changed_and_what_a_run_would_do(
    tmp_path: Path, old: str, new: str, told: tuple[str, ...]
) -> None:
    job, out = write_job(tmp_path, rows=3), tmp_path / "out"
    await run_job(job)
    before = [*read_status(out).notes, *verify_output(out).notes]
    edit(job, old, new)

    of_status, proof = read_status(out), verify_output(out)

    assert before == []
    assert of_status.notes == proof.notes
    (note,) = proof.notes
    assert all(one in note for one in told), note
    assert note in of_status.as_text()
    assert proof.is_proven


async def test_status_compares_with_the_job_that_is_given_and_with_none_where_the_file_is_gone(tmp_path: Path) -> None:
    job, out = write_job(tmp_path, rows=3), tmp_path / "out"
    await run_job(job)
    changed = load_job(job, overrides=("request.model=other",))
    job.unlink()

    (note,) = read_status(out, job=changed).notes

    assert 'model: "test-model" -> "other"' in note
    assert read_status(out).notes == []


async def test_a_rehearsal_is_compared_with_the_job_as_it_is_rehearsed(tmp_path: Path) -> None:
    job = write_job(tmp_path, url="http://127.0.0.1:9/v1", rows=3)
    await run_job(job, RunOptions(rehearse=True))
    same = read_status(tmp_path / "out-rehearsal").notes
    edit(job, "Who is this?", "Who is that?")

    (note,) = read_status(tmp_path / "out-rehearsal").notes

    assert same == []
    assert "prompt" in note
    assert "protocol" not in note
