"""What stops a run before its last row: a budget, a deadline, more failures than the job bears."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchcall import ExitCode, RunOptions, run_job, verify_output
from batchcall.report.text import summary_text
from batchcall.sandbox.process import SandboxProcess, Settings, open_sandbox
from running import edit, requests_to, some_rows, write_job, write_rows


async def test_a_run_stops_as_soon_as_max_failed_can_no_longer_be_met(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url, limits="max_failed = 3")
    write_rows(tmp_path / "rows.jsonl", [*({"id": "no text"} for _ in range(4)), *some_rows(600)])

    stopped = await run_job(job)
    again = await run_job(job)
    edit(job, "max_failed = 3", "max_failed = 4")
    whole = await run_job(job)

    assert (stopped.exit_code, again.exit_code) == (ExitCode.STOPPED_EARLY, ExitCode.STOPPED_EARLY)
    assert "limits.max_failed" in stopped.reason
    assert stopped.requests < 200
    assert (whole.exit_code, whole.totals["rows"]) == (ExitCode.OK, 604)


async def test_a_spent_budget_stops_the_run_and_a_raised_one_goes_on(tmp_path: Path, endpoint: SandboxProcess) -> None:
    prices = '[prices."test-model"]\nprompt = 1000.0\ncompletion = 1000.0'
    job = write_job(tmp_path, url=endpoint.url, rows=60, limits="max_cost = 1.0\nconcurrency = 2", more=prices)
    edit(job, "concurrency = 8\n", "")

    stopped = await run_job(job)

    assert stopped.exit_code == ExitCode.STOPPED_EARLY
    assert "max_cost" in stopped.reason
    assert 0 < stopped.totals["rows"] < 60
    assert 1.0 <= stopped.totals["cost"] < 1.5
    edit(job, "max_cost = 1.0", "max_cost = 100.0")
    done = await run_job(job)
    assert (done.exit_code, done.totals["rows"]) == (ExitCode.OK, 60)
    assert await requests_to(endpoint) == 60
    assert verify_output(tmp_path / "out").faults == []


@pytest.mark.parametrize("has_parts", [True, False])
async def test_a_budget_counts_each_answer_that_was_set_aside_once(
    tmp_path: Path, endpoint: SandboxProcess, has_parts: bool
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=20, limits="max_tokens_total = 1_000_000")
    first = await run_job(job)
    bought = first.totals["total_tokens"]
    for part in [] if has_parts else (tmp_path / "out").glob("*.parquet"):
        part.unlink()  # as a run leaves it that died: only the raw answers say what was used

    edit(job, "Who is this?", "Who may this be?")
    edit(job, "max_tokens_total = 1_000_000", f"max_tokens_total = {bought + bought // 2}")
    edit(job, "concurrency = 8", "concurrency = 1")
    stopped = await run_job(job, RunOptions(on_change="rerun"))
    again = await run_job(job)
    edit(job, "Who may this be?", "Who is this?")
    edit(job, f"max_tokens_total = {bought + bought // 2}", f"max_tokens_total = {bought * 2}")
    back = await run_job(job, RunOptions(on_change="rerun"))

    ledger = await endpoint.ledger()
    assert (first.set_aside["total_tokens"], "set aside" in summary_text(first)) == (None, False)
    assert stopped.exit_code == again.exit_code == ExitCode.STOPPED_EARLY
    assert "max_tokens_total" in stopped.reason
    assert stopped.set_aside["total_tokens"] == again.set_aside["total_tokens"] == bought
    assert f"{bought:,} tokens for answers that no row uses now" in summary_text(stopped)
    assert 0 < stopped.totals["rows"] < 20
    assert (again.requests, back.requests) == (0, 0)
    assert (back.exit_code, back.totals["total_tokens"]) == (ExitCode.OK, bought)
    assert bought + stopped.totals["total_tokens"] == ledger["billed_tokens"] < bought * 1.6
    assert bought + back.set_aside["total_tokens"] == ledger["billed_tokens"]


async def test_answers_taken_back_into_rows_are_not_counted_twice_in_a_budget(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=20, limits="max_tokens_total = 1_000_000")
    bought = (await run_job(job)).totals["total_tokens"]
    write_rows(tmp_path / "rows.jsonl", [*some_rows(4, start=90), *some_rows(20)])
    edit(job, "max_tokens_total = 1_000_000", f"max_tokens_total = {bought + bought // 2}")

    moved = await run_job(job)

    assert (moved.exit_code, moved.requests, moved.set_aside["total_tokens"]) == (ExitCode.OK, 4, None)


async def test_a_spent_budget_stays_spent_and_the_bill_counts_answers_to_rows_that_have_not_ended(
    tmp_path: Path,
) -> None:
    async with open_sandbox(Settings(faults={"invalid_schema_arguments": 0.7})) as endpoint:
        limits = "max_tokens_total = 4_000\nmax_failed = 60\n[validate]\nreask = 3"
        job = write_job(tmp_path, url=endpoint.url, rows=60, part_rows=25, limits=limits)

        stopped = await run_job(job)
        first = await endpoint.ledger()
        again = [await run_job(job) for _ in range(3)]
        last = await endpoint.ledger()

    totals, unfinished = stopped.totals, stopped.unfinished
    assert "max_tokens_total" in stopped.reason
    assert unfinished["rows"] > 0
    assert totals["total_tokens"] + unfinished["total_tokens"] == first["billed_tokens"] >= 4_000
    assert last["requests"] == first["requests"]
    assert {(one.requests, one.exit_code) for one in again} == {(0, ExitCode.STOPPED_EARLY)}
    assert again[-1].unfinished == unfinished


async def test_answers_that_do_not_tell_their_usage_stop_a_run_whose_budget_they_leave_blind(tmp_path: Path) -> None:
    async with open_sandbox(Settings(faults={"usage_missing": 1.0})) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=100, limits="max_tokens_total = 1_000_000")

        stopped = await run_job(job)
        edit(job, "max_tokens_total = 1_000_000", "")
        whole = await run_job(job)

    assert stopped.exit_code == ExitCode.STOPPED_EARLY
    assert "max_tokens_total cannot be enforced" in stopped.reason
    assert 20 <= stopped.requests < 40
    assert (whole.exit_code, whole.totals["rows"]) == (ExitCode.OK, 100)


async def test_a_stream_tells_its_usage_though_the_job_does_not_ask_for_it(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, request="stream = true")

        summary = await run_job(job)
        ledger = await endpoint.ledger()

    assert summary.totals["total_tokens"] == ledger["billed_tokens"] > 0


async def test_a_deadline_stops_the_run_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async with open_sandbox(Settings(latency_s=0.2)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=100)

        stopped = await run_job(job, RunOptions(deadline_s=1.0))
        billed = (await endpoint.ledger())["billed"]
        whole = await run_job(job)
        billed_in_all = (await endpoint.ledger())["billed"]

    assert stopped.exit_code == ExitCode.STOPPED_EARLY
    assert 0 < stopped.totals["rows"] < 100
    assert billed == stopped.totals["rows"]  # nothing in flight was in vain
    assert (whole.exit_code, whole.totals["rows"], billed_in_all) == (ExitCode.OK, 100, 100)
