"""The promises of a run, end to end: real files, a real endpoint in a process of its own, on loopback."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import pytest_asyncio

from batchcall import ExitCode, LockedError, ResumeError, RunOptions, check_job, revalidate_job, run_job, verify_output
from batchcall.commands.status import read_status
from batchcall.disk.disk import RealDisk
from batchcall.disk.lock import hold_lock
from batchcall.job.model import load_job
from batchcall.report.text import money_text, summary_text
from batchcall.sandbox.process import SandboxProcess, Settings, open_sandbox
from running import TOOL, edit, results, some_rows, write_job, write_rows


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[SandboxProcess]:
    """An endpoint that keeps a ledger of what it was asked and what it billed."""
    async with open_sandbox(Settings()) as sandbox:
        yield sandbox


async def requests_to(endpoint: SandboxProcess) -> int:
    return int((await endpoint.ledger())["requests"])


async def test_every_input_row_ends_as_exactly_one_typed_row_in_input_order(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=25)

    summary = await run_job(job)

    rows = results(tmp_path / "out")
    assert [row["row"] for row in rows] == list(range(25))
    assert [row["id"] for row in rows] == [f"r{index}" for index in range(25)]
    assert {row["status"] for row in rows} == {"ok"}
    assert all(isinstance(row["arguments"]["age"], int) for row in rows)
    assert all(row["total_tokens"] == row["prompt_tokens"] + row["completion_tokens"] for row in rows)
    assert all(row["attempts"] == 1 and len(row["request_hash"]) == 32 for row in rows)
    assert (summary.exit_code, summary.is_complete, summary.requests) == (ExitCode.OK, True, 25)
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert verify_output(tmp_path / "out").faults == []


async def test_the_same_command_again_sends_nothing(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    await run_job(job)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")}

    summary = await run_job(job)

    assert (summary.exit_code, summary.requests, summary.totals["rows"]) == (ExitCode.OK, 0, 25)
    assert await requests_to(endpoint) == 25
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.parquet")} == before


async def test_an_output_within_its_input_sends_nothing_again(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=3)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(some_rows(3)), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").unlink()
    edit(job, "rows.jsonl", "**/*.parquet")
    await run_job(job)

    again = await run_job(job)

    assert (again.totals["rows"], again.requests) == (3, 0)
    assert verify_output(tmp_path / "out").is_proven


async def test_grown_input_costs_only_the_new_rows(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=25)
    await run_job(job)
    write_rows(tmp_path / "rows.jsonl", some_rows(37))
    notes: list[str] = []

    summary = await run_job(job, say=notes.append)

    assert any("25 kept, 0 edited, 12 new, 0 gone" in note for note in notes)
    assert (summary.requests, summary.totals["rows"]) == (12, 37)
    assert [row["row"] for row in results(tmp_path / "out")] == list(range(37))
    assert verify_output(tmp_path / "out").faults == []


async def test_edited_moved_and_removed_rows_cost_only_what_is_really_new(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=25)
    await run_job(job)
    before = {row["id"]: row for row in results(tmp_path / "out")}
    rows = some_rows(25)
    rows[3]["text"] = "somebody else"
    rows = [*rows[10:], *rows[:9]]  # moved, and r9 is gone
    write_rows(tmp_path / "rows.jsonl", rows)
    notes: list[str] = []

    summary = await run_job(job, say=notes.append)

    after = results(tmp_path / "out")
    assert summary.requests == 1
    assert any("23 kept, 1 edited, 0 new, 2 gone" in note for note in notes)
    assert [row["id"] for row in after] == [row["id"] for row in rows]
    assert [row["row"] for row in after] == list(range(24))
    for row in after:
        if row["id"] != "r3":
            assert row["response_id"] == before[row["id"]]["response_id"]
            assert row["arguments"] == before[row["id"]]["arguments"]
    assert verify_output(tmp_path / "out").faults == []


async def test_equal_rows_each_keep_their_own_answer(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    rows = [{"id": index, "text": "the same"} for index in range(12)]
    write_rows(tmp_path / "rows.jsonl", rows)
    await run_job(job)
    write_rows(tmp_path / "rows.jsonl", [{"id": 99, "text": "another"}, *rows, {"id": 12, "text": "the same"}])

    summary = await run_job(job)

    assert summary.requests == 2
    assert len({row["response_id"] for row in results(tmp_path / "out")}) == 14


async def test_other_columns_or_part_sizes_cost_nothing(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    await run_job(job)
    edit(job, "part_rows = 10", 'part_rows = 7\nkeep = ["id"]')

    summary = await run_job(job)

    rows = results(tmp_path / "out")
    assert (summary.requests, summary.exit_code) == (0, ExitCode.OK)
    assert [row["row"] for row in rows] == list(range(25))
    assert "text" not in rows[0]
    assert verify_output(tmp_path / "out").faults == []


async def test_a_changed_job_is_refused_and_says_what_changed_and_how_many_rows_it_would_cost(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    await run_job(job)
    edit(job, "test-model", "other-model")

    with pytest.raises(ResumeError, match=r"25 rows[\s\S]*test-model[\s\S]*other-model") as refused:
        await run_job(job)

    assert refused.value.exit_code == ExitCode.BAD_COMMAND
    assert await requests_to(endpoint) == 25


async def test_a_changed_job_is_done_again_when_told_so_and_going_back_costs_nothing(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    await run_job(job)
    edit(job, "test-model", "other-model")

    again = await run_job(job, RunOptions(on_change="rerun"))
    assert (again.requests, again.exit_code) == (25, ExitCode.OK)
    assert {row["model"] for row in results(tmp_path / "out")} == {"other-model"}

    edit(job, "other-model", "test-model")
    refusals = check_job(job).refusals
    back = await run_job(job)

    assert refusals == []
    assert (back.requests, back.exit_code) == (0, ExitCode.OK)
    assert {row["model"] for row in results(tmp_path / "out")} == {"test-model"}
    assert verify_output(tmp_path / "out").faults == []


async def test_a_limit_is_said_to_leave_a_part_of_the_input(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    uncounted = await run_job(job, RunOptions(limit=3))
    await run_job(job, RunOptions(limit=4), show=lambda _: None)

    limited = await run_job(job, RunOptions(limit=4))
    whole = await run_job(job)

    assert "4 of 25 done, 21 left" in summary_text(limited)
    assert limited.as_json()["rows_left"] == 21
    assert "(--limit 4)" in limited.reason
    assert "without --limit" in limited.hint
    assert "3 done; the rows of the input were not counted" in summary_text(uncounted)
    assert "25 done\n" in summary_text(whole)
    assert "--limit" not in summary_text(whole)


async def test_a_rehearsal_does_not_speak_of_money_as_spent(tmp_path: Path, endpoint: SandboxProcess) -> None:
    prices = '[prices."test-model"]\nprompt = 100.0\ncompletion = 100.0'
    job = write_job(tmp_path, url=endpoint.url, rows=3, more=prices)
    notes: list[str] = []

    rehearsed = await run_job(job, RunOptions(rehearse=True), say=notes.append)
    real = await run_job(job)

    for text in (summary_text(rehearsed), read_status(tmp_path / "out-rehearsal").as_text(), *notes):
        assert "paid" not in text
    cost = money_text(rehearsed.totals["cost"])
    assert f"none; {cost} at the job's prices, had a model answered" in summary_text(rehearsed)
    assert f"none; {cost} at the job's prices" in read_status(tmp_path / "out-rehearsal").as_text()
    assert "answered  3 rows once" in summary_text(rehearsed)
    assert "paid      3 rows once" in summary_text(real)
    assert (rehearsed.as_json()["is_free"], real.as_json()["is_free"]) == (True, False)
    assert f"cost      {cost}\n" in read_status(tmp_path / "out").as_text()


async def test_a_changed_job_that_makes_no_requests_is_refused_although_it_would_buy_nothing(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    await run_job(job)
    edit(job, "{{ text }}", "{{ text.missing }}")

    with pytest.raises(ResumeError, match=r"request\.prompt"):
        await run_job(job)

    assert {row["status"] for row in results(tmp_path / "out")} == {"ok"}


async def test_a_changed_job_can_keep_what_is_done(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    await run_job(job, RunOptions(limit=12))
    edit(job, "test-model", "other-model")

    summary = await run_job(job, RunOptions(on_change="keep"))

    assert summary.requests == 13
    assert [row["model"] for row in results(tmp_path / "out")] == ["test-model"] * 12 + ["other-model"] * 13
    assert verify_output(tmp_path / "out").faults == []
    write_rows(tmp_path / "rows.jsonl", some_rows(30))
    assert (await run_job(job)).requests == 5  # both kinds are still known when the input grows


async def test_changed_limits_keys_and_timeouts_are_no_change_of_the_job(
    tmp_path: Path, endpoint: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    await run_job(job)
    monkeypatch.setenv("SOME_KEY", "sk-test-1")
    edit(job, "concurrency = 8", 'concurrency = 3\ntimeout = "9s"\nattempts = 2')
    edit(job, "[request]", 'api_key = "env:SOME_KEY"\n\n[request]')

    assert (await run_job(job)).requests == 0


async def test_a_limit_does_the_first_rows_and_the_next_run_the_rest(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url)

    first = await run_job(job, RunOptions(limit=13))

    assert (first.requests, first.is_complete, first.exit_code) == (13, False, ExitCode.OK)
    assert [row["row"] for row in results(tmp_path / "out")] == list(range(13))
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    second = await run_job(job)
    assert (second.requests, second.is_complete) == (12, True)
    assert [row["row"] for row in results(tmp_path / "out")] == list(range(25))


async def test_a_wrong_key_costs_one_request_and_marks_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_sandbox(Settings(api_key="sk-right")) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, endpoint='api_key = "env:TEST_KEY"')
        monkeypatch.setenv("TEST_KEY", "sk-wrong")

        refused = await run_job(job)

        assert refused.exit_code == ExitCode.ENDPOINT_REFUSES
        assert "key" in refused.reason.lower()
        assert refused.totals["rows"] == 0
        assert await requests_to(endpoint) == 1

        monkeypatch.setenv("TEST_KEY", "sk-right")
        good = await run_job(job)

        assert (good.exit_code, good.is_complete, good.totals["ok"]) == (ExitCode.OK, True, 25)
        assert verify_output(tmp_path / "out").faults == []


async def test_failed_rows_are_tried_again_only_when_asked_and_their_tokens_add_up(tmp_path: Path) -> None:
    async with open_sandbox(Settings(faults={"no_call": 1.0})) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        first = await run_job(job)
        assert (first.exit_code, first.totals["failed"]) == (ExitCode.ROWS_FAILED, 25)
        assert (await run_job(job)).requests == 0
    tokens = {row["row"]: row["total_tokens"] for row in results(tmp_path / "out")}
    async with open_sandbox(Settings()) as endpoint:
        edit(job, _url_in(job), endpoint.url)

        second = await run_job(job, RunOptions(retry_failed=True))

    rows = results(tmp_path / "out")
    assert (second.requests, second.exit_code) == (25, ExitCode.OK)
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["attempts"] for row in rows} == {2}
    assert all(row["total_tokens"] > tokens[row["row"]] for row in rows)
    assert second.totals["attempts"] == 50
    assert verify_output(tmp_path / "out").faults == []


def _url_in(job: Path) -> str:
    return next(line.split('"')[1] for line in job.read_text().splitlines() if line.startswith("url = "))


async def test_a_second_run_of_the_same_output_leaves_at_once_touching_nothing(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    await run_job(job, RunOptions(limit=5))
    record = (tmp_path / "out" / "_batchcall" / "run.json").read_bytes()

    with hold_lock(tmp_path / "out" / "_batchcall" / "lock"), pytest.raises(LockedError, match="another run holds"):
        await run_job(job)

    assert (tmp_path / "out" / "_batchcall" / "run.json").read_bytes() == record
    assert await requests_to(endpoint) == 5


async def test_rows_that_cannot_be_read_or_rendered_become_bad_rows_with_file_and_line(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    lines = [json.dumps(row) for row in some_rows(3)]
    lines[1:1] = ["{half a line", '{"id": "without text"}', "[1, 2]"]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + '\n{"id": "cut", "te', encoding="utf-8")

    summary = await run_job(job)

    rows = results(tmp_path / "out")
    assert [row["status"] for row in rows] == ["ok", "bad_row", "bad_row", "bad_row", "ok", "ok", "bad_row"]
    assert [row["error"].split(": ")[0] for row in rows if row["error"]] == [
        f"rows.jsonl:{line}" for line in (2, 3, 4, 7)
    ]
    assert (summary.requests, summary.exit_code) == (3, ExitCode.ROWS_FAILED)
    assert verify_output(tmp_path / "out").faults == []


async def test_a_row_without_its_id_is_a_bad_row_and_the_others_go_on(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    edit(job, 'path = "rows.jsonl"', 'path = "rows.jsonl"\nid = "id"')
    rows = some_rows(4)
    del rows[1]["id"]
    rows[2]["id"] = None
    write_rows(tmp_path / "rows.jsonl", rows)

    summary = await run_job(job)

    ended = results(tmp_path / "out")
    assert [row["status"] for row in ended] == ["ok", "bad_row", "bad_row", "ok"]
    assert [row["id"] for row in ended] == ["r0", None, None, "r3"]
    assert [row["text"] for row in ended] == [row["text"] for row in rows]
    assert ended[1]["error"] == "rows.jsonl:2: column 'id' names the row, and is missing or null in it"
    assert summary.requests == 2
    assert verify_output(tmp_path / "out").faults == []


async def test_values_that_no_column_holds_are_told_and_as_parquet_all_is_kept_and_nothing_bought_again(
    tmp_path: Path, endpoint: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchcall.input.jsonl.SAMPLE_ROWS", 20)
    job = write_job(tmp_path, url=endpoint.url)
    rows = [{**row, "n": place} for place, row in enumerate(some_rows(25))]
    rows[22:] = [{**row, "n": "text", "late": "seen"} for row in rows[22:]]
    write_rows(tmp_path / "rows.jsonl", rows)
    notes: list[str] = []

    summary = await run_job(job, say=notes.append)
    revalidate_job(load_job(job))
    told = results(tmp_path / "out")
    texts = [{**row, "n": str(row["n"]), "late": row.get("late")} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(texts), tmp_path / "rows.parquet")
    edit(job, "rows.jsonl", "rows.parquet")
    again = await run_job(job)

    assert summary.exit_code is ExitCode.OK
    assert summary.left_out == summary.as_json()["this_run"]["left_out"] == {"n": 3, "late": 3}
    assert "n in 3 rows, late in 3 rows" in summary_text(summary)
    assert "n in 3 rows, late in 3 rows" in notes[-1]
    assert [row["error"] is None for row in told] == [True] * 22 + [False] * 3
    assert all(part in told[24]["error"] for part in ("left out: n: 'text' does not fit int64", "late: 'seen'"))
    whole = results(tmp_path / "out")
    assert [(row["n"], row["late"], row["error"]) for row in whole[22:]] == [("text", "seen", None)] * 3
    assert (again.requests, again.left_out) == (0, {})


@pytest.mark.parametrize("parameters", [{"type": "nonsense"}, {"$ref": "http://localhost/elsewhere"}])
async def test_rows_whose_own_tool_is_no_schema_are_bad_rows_and_no_damage(
    tmp_path: Path, endpoint: SandboxProcess, parameters: dict[str, Any]
) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    edit(job, 'prompt = "Who is this?\\n{{ text }}"', 'columns = { messages = "text", tools = "tools" }')
    edit(job, '[[tool]]\nfile = "tool.json"', "")
    broken = {"type": "function", "function": {"name": "broken", "parameters": parameters}}
    tools = [TOOL, broken, TOOL, TOOL]
    rows = [{**row, "tools": [tool]} for row, tool in zip(some_rows(4), tools, strict=True)]
    write_rows(tmp_path / "rows.jsonl", rows[:3])

    await run_job(job)
    faults = verify_output(tmp_path / "out").faults
    write_rows(tmp_path / "rows.jsonl", rows)
    grown = await run_job(job)

    assert faults == verify_output(tmp_path / "out").faults == []
    assert [row["status"] for row in results(tmp_path / "out")] == ["ok", "bad_row", "ok", "ok"]
    assert grown.requests == 1


@pytest.mark.parametrize(
    ("limit", "code"), [("max_failed = 4", ExitCode.OK), ('max_failed = "1%"', ExitCode.ROWS_FAILED)]
)
async def test_tolerated_failures_decide_the_exit_code(
    tmp_path: Path, endpoint: SandboxProcess, limit: str, code: ExitCode
) -> None:
    job = write_job(tmp_path, url=endpoint.url, limits=limit)
    write_rows(tmp_path / "rows.jsonl", [*some_rows(20), *({"id": "no text"} for _ in range(4))])

    assert (await run_job(job)).exit_code == code


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
    assert "max_tokens_total cannot be kept" in stopped.reason
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
        job = write_job(tmp_path, url=endpoint.url, rows=200)

        stopped = await run_job(job, RunOptions(deadline_s=1.0))

        assert stopped.exit_code == ExitCode.STOPPED_EARLY
        assert 0 < stopped.totals["rows"] < 200
        assert (await endpoint.ledger())["billed"] == stopped.totals["rows"]  # nothing in flight was in vain


async def test_a_rehearsal_goes_to_the_sandbox_and_into_a_folder_of_its_own(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url)

    summary = await run_job(job, RunOptions(rehearse=True, limit=5))

    assert summary.totals["ok"] == 5
    assert summary.output == str(tmp_path / "out-rehearsal")
    assert not (tmp_path / "out").exists()
    assert await requests_to(endpoint) == 0


async def test_an_invalid_answer_is_asked_again_with_the_validators_words(tmp_path: Path) -> None:
    async with open_sandbox(Settings(faults={"invalid_schema_arguments": 0.5})) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=40, more="[validate]\nreask = 3")

        summary = await run_job(job)

        rows = results(tmp_path / "out")
        asked_twice = [row for row in rows if row["attempts"] > 1]
        assert asked_twice
        assert summary.requests == sum(row["attempts"] for row in rows)
        ledger = await endpoint.ledger()
        assert summary.totals["total_tokens"] == ledger["billed_tokens"]  # every billed attempt is counted
        assert summary.totals["ok"] > 30


async def test_raw_answers_are_kept_unless_switched_off(tmp_path: Path, endpoint: SandboxProcess) -> None:
    kept = write_job(tmp_path / "kept", url=endpoint.url)
    not_kept = write_job(tmp_path / "not", url=endpoint.url, output="response = false")

    await run_job(kept)
    await run_job(not_kept)

    answers = sorted((tmp_path / "kept" / "out" / "_batchcall" / "answers").iterdir())
    assert [path.name for path in answers] == [f"part-00000{number}.answers" for number in range(3)]
    assert list((tmp_path / "not" / "out" / "_batchcall" / "answers").iterdir()) == []


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
async def test_a_column_that_a_template_has_a_default_for_may_be_missing(
    tmp_path: Path, endpoint: SandboxProcess, suffix: str
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=3)
    edit(job, "{{ text }}", "{{ text }} {{ nick | default('nobody') }}")
    if suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(some_rows(3)), tmp_path / "rows.parquet")
        edit(job, "rows.jsonl", "rows.parquet")

    assert (await run_job(job)).totals["ok"] == 3


async def test_batch_file_rows_may_leave_out_method_and_url(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = tmp_path / "job.toml"
    job.write_text(f'[input]\npath = "rows.jsonl"\n[endpoint]\nurl = "{endpoint.url}"\n[output]\npath = "out"\n')
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    write_rows(tmp_path / "rows.jsonl", [{"custom_id": str(number), "body": body} for number in range(3)])

    await run_job(job)

    rows = results(tmp_path / "out")
    assert [(row["custom_id"], row["status"]) for row in rows] == [("0", "ok"), ("1", "ok"), ("2", "ok")]
    assert all(row["content"] for row in rows)


async def test_what_the_sandbox_invents_is_never_taken_for_an_answer_of_a_real_endpoint(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, rows=5)
    assert (await run_job(job)).totals["ok"] == 5
    edit(job, 'url = "sandbox"', f'url = "{endpoint.url}"')

    again = await run_job(job)  # nothing is refused, as nothing was bought

    assert (again.requests, again.totals["ok"]) == (5, 5)
    assert {row["endpoint"] for row in results(tmp_path / "out")} == {endpoint.url}


async def test_rows_that_were_kept_from_another_job_are_done_again_when_told_so(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    await run_job(job, RunOptions(limit=12))
    edit(job, "test-model", "other-model")
    await run_job(job, RunOptions(on_change="keep"))

    again = await run_job(job, RunOptions(on_change="rerun"))

    assert again.requests == 12  # those that the present job has answered already are found again
    assert {row["model"] for row in results(tmp_path / "out")} == {"other-model"}


async def test_a_limit_on_a_complete_output_leaves_it_complete(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    await run_job(job)

    summary = await run_job(job, RunOptions(limit=3, retry_failed=True))

    assert (summary.is_complete, summary.rows_expected) == (True, 25)
    assert (tmp_path / "out" / "_SUCCESS").exists()


async def test_opening_an_output_of_many_parts_reads_the_footer_of_each_once(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    """What keeps an output of ten million rows quick to open; `scripts/bench open` times it."""

    class Counting(RealDisk):
        def __init__(self) -> None:
            self.opened: list[str] = []

        def open_read(self, path: Path) -> pyarrow.NativeFile:
            self.opened.append(path.name)
            return super().open_read(path)

    job = write_job(tmp_path, url=endpoint.url, rows=205)
    await run_job(job, RunOptions(limit=200))
    disk = Counting()

    summary = await run_job(job, disk=disk)

    assert (summary.exit_code, summary.requests, summary.totals["rows"]) == (ExitCode.OK, 5, 205)
    assert Counter(name for name in disk.opened if name.endswith(".parquet")) == {
        f"part-{number:06d}.parquet": 1 for number in range(20)
    }


async def test_a_tools_name_that_openai_does_not_allow_goes_as_it_is_to_others(tmp_path: Path) -> None:
    dotted = {**TOOL, "function": {**TOOL["function"], "name": "people.record"}}
    job = write_job(tmp_path, tool=dotted, rows=3)

    assert (await run_job(job)).exit_code == ExitCode.OK

    assert {row["tool"] for row in results(tmp_path / "out")} == {"people.record"}
    assert {row["calls"][0]["name"] for row in results(tmp_path / "out")} == {"people.record"}


async def test_the_answers_of_a_part_that_is_gone_are_found_by_rows_that_have_moved(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=25, part_rows=10)
    await run_job(job)
    (tmp_path / "out" / "part-000001.parquet").unlink()
    write_rows(tmp_path / "rows.jsonl", [*some_rows(25)[1:], *some_rows(1)])

    summary = await run_job(job)

    assert (summary.is_complete, summary.requests) == (True, 0)


async def test_answers_stored_by_a_run_that_died_before_it_wrote_the_longer_part_are_not_bought_again(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=10, part_rows=10)
    await run_job(job)
    answers = tmp_path / "out" / "_batchcall" / "answers" / "part-000000.answers"
    stored = answers.read_bytes()
    shutil.rmtree(tmp_path / "out")
    await run_job(job, RunOptions(limit=5))
    answers.write_bytes(stored)

    summary = await run_job(job)

    assert (summary.is_complete, summary.requests) == (True, 0)
    assert verify_output(tmp_path / "out").faults == []


@pytest.mark.parametrize(("output", "expected"), [("", "600"), ('mode = "0644"', "644")])
async def test_parts_have_the_mode_of_the_umask_or_of_the_job_and_all_else_is_private(
    tmp_path: Path, endpoint: SandboxProcess, output: str, expected: str
) -> None:
    job, out = write_job(tmp_path, url=endpoint.url, rows=25, output=output), tmp_path / "out"
    before = os.umask(0o077)
    try:
        await run_job(job)
        revalidate_job(job)
    finally:
        os.umask(before)

    modes = {path.relative_to(out): f"{path.stat().st_mode & 0o777:03o}" for path in out.rglob("*") if path.is_file()}
    assert [modes[Path(f"part-00000{number}.parquet")] for number in range(3)] == [expected] * 3
    assert {mode for path, mode in modes.items() if path.parts[0] == "_batchcall"} == {"600"}
    assert (out / "_batchcall").stat().st_mode & 0o777 == 0o700
