"""A second run over an output buys what is new: after no change, after edited and grown input, after a changed job."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from batchcall import ExitCode, ResumeError, RunOptions, check_job, run_job, verify_output
from batchcall.disk.disk import RealDisk
from batchcall.sandbox.process import SandboxProcess, Settings, open_sandbox
from running import edit, requests_to, results, some_rows, write_job, write_rows


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


async def test_a_changed_job_is_done_again_when_asked_and_going_back_costs_nothing(
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


async def test_what_the_sandbox_invents_is_never_taken_for_an_answer_of_a_real_endpoint(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, rows=5)
    assert (await run_job(job)).totals["ok"] == 5
    edit(job, 'url = "sandbox"', f'url = "{endpoint.url}"')

    again = await run_job(job)  # nothing is refused, as nothing was bought

    assert (again.requests, again.totals["ok"]) == (5, 5)
    assert {row["endpoint"] for row in results(tmp_path / "out")} == {endpoint.url}


async def test_rows_that_were_kept_from_another_job_are_done_again_when_asked(
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
