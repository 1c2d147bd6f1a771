"""A changed tool schema applied to stored answers: new statuses, new columns, no request."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from batchcall import ExitCode, OutputError, ResumeError, RunOptions, check_job, revalidate_job, run_job, verify_output
from batchcall.job.model import load_job
from batchcall.sandbox.process import Settings, open_sandbox
from running import TOOL, edit, results, some_rows, write_job, write_rows
from running import batchcall as command


def with_tool(folder: Path, **changed: object) -> None:
    tool = copy.deepcopy(TOOL)
    tool["function"]["parameters"]["properties"].update(changed)
    (folder / "tool.json").write_text(json.dumps(tool))


async def test_stored_answers_are_read_again_without_a_request(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        await run_job(job)
        with_tool(tmp_path, age={"type": "integer", "maximum": 9})

        result = revalidate_job(load_job(job))

        assert (await endpoint.ledger())["requests"] == 25
    rows = results(tmp_path / "out")
    too_old = [row for row in rows if row["status"] == "invalid_arguments"]
    assert result.rows == 25
    assert result.changed == len(too_old) > 0
    assert all(row["arguments"] is None and "/age" in row["error"] for row in too_old)
    assert all(row["total_tokens"] for row in rows)
    assert verify_output(tmp_path / "out").faults == []


async def test_a_schema_that_is_put_back_does_not_bring_back_what_another_one_read(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        await run_job(job)
        before = results(tmp_path / "out")
        with_tool(tmp_path, age={"type": "integer", "maximum": 9})
        revalidate_job(job)
        with_tool(tmp_path)

        with pytest.raises(ResumeError, match="25 rows of this job that `revalidate` has read with other tools since"):
            await run_job(job)
        assert len(check_job(job).refusals) == 1
        revalidate_job(job)
        again = await run_job(job)

        assert (await endpoint.ledger())["requests"] == 25
    assert (again.exit_code, again.requests) == (ExitCode.OK, 0)
    assert [row["arguments"] for row in results(tmp_path / "out")] == [row["arguments"] for row in before]
    assert verify_output(tmp_path / "out").is_proven


async def test_control_a_schema_whose_answers_were_bought_is_put_back_by_run_alone(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        await run_job(job)
        with_tool(tmp_path, age={"type": "integer", "maximum": 9})
        await run_job(job, RunOptions(on_change="rerun"))
        with_tool(tmp_path)

        back = await run_job(job)

        assert (await endpoint.ledger())["requests"] == 50
    assert (back.exit_code, back.requests) == (ExitCode.OK, 0)


async def test_a_lock_that_cannot_be_taken_is_reported(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        await run_job(job)
    (tmp_path / "out" / "_batchcall" / "lock").unlink()
    (tmp_path / "out" / "_batchcall" / "lock").symlink_to(job)

    with pytest.raises(OutputError, match="symbolic links"):
        revalidate_job(load_job(job))

    assert load_job(job).tools


async def test_the_typed_columns_follow_the_new_schema(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        await run_job(job)
        with_tool(tmp_path, age={"type": "number"}, motto={"type": "string"})

        revalidate_job(load_job(job))

        rows = results(tmp_path / "out")
        assert {row["status"] for row in rows} == {"ok"}
        assert all(isinstance(row["arguments"]["age"], float) and row["arguments"]["motto"] is None for row in rows)

        # The job goes on from there: nothing is refused, and only what is new is asked.
        assert (await run_job(job)).requests == 0
        write_rows(tmp_path / "rows.jsonl", some_rows(30))
        grown = await run_job(job)
        assert (grown.requests, grown.exit_code) == (5, ExitCode.OK)
        assert verify_output(tmp_path / "out").faults == []


async def test_reading_answers_again_a_second_time_changes_nothing(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        await run_job(job)
    tool = copy.deepcopy(TOOL)
    del tool["function"]["parameters"]["properties"]["age"]  # in every answer, and without a column from now on
    (tmp_path / "tool.json").write_text(json.dumps(tool))

    first, second = revalidate_job(load_job(job)), revalidate_job(load_job(job))

    assert (first.rows, first.changed) == (25, 25)
    assert (second.rows, second.changed) == (25, 0)


async def test_rows_with_their_own_tools_are_read_with_them(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        edit(job, 'prompt = "Who is this?\\n{{ text }}"', 'columns = { messages = "text", tools = "tools" }')
        edit(job, '[[tool]]\nfile = "tool.json"', "")
        write_rows(tmp_path / "rows.jsonl", [{**row, "tools": [TOOL]} for row in some_rows(12)])
        await run_job(job)
        before = results(tmp_path / "out")

        result = revalidate_job(load_job(job))

    assert (result.rows, result.changed) == (12, 0)
    assert results(tmp_path / "out") == before


async def test_more_than_the_tools_may_not_have_changed(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        await run_job(job)
        edit(job, "test-model", "other-model")

        with pytest.raises(ResumeError, match="other-model"):
            revalidate_job(load_job(job))


async def test_without_stored_answers_it_says_so_and_touches_nothing(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, output="response = false")
        await run_job(job)
        before = results(tmp_path / "out")

        with pytest.raises(OutputError, match="no raw answers"):
            revalidate_job(load_job(job))

    assert results(tmp_path / "out") == before
    assert (tmp_path / "out" / "_SUCCESS").exists()


@pytest.mark.parametrize(("limits", "code"), [("", 1), ("max_failed = 25", 0)])
async def test_rows_that_fail_by_the_new_schema_count_for_the_exit_code_as_in_a_run(
    tmp_path: Path, limits: str, code: int
) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, limits=limits)
        before = await run_job(job)
        with_tool(tmp_path, age={"type": "integer", "maximum": 9})

        anew = command("revalidate", job)
        summary = await run_job(job)

    assert (before.exit_code, anew.returncode, summary.exit_code) == (0, code, code), anew.stderr
    assert summary.totals["failed"] > 0


async def test_an_output_that_has_lost_a_part_is_not_called_whole_when_its_answers_are_read_again(
    tmp_path: Path,
) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job, out = write_job(tmp_path, url=endpoint.url), tmp_path / "out"
        await run_job(job)
        before = results(out)
        (out / "part-000001.parquet").unlink()

        revalidate_job(load_job(job))
        is_whole = (out / "_SUCCESS").exists()
        summary = await run_job(job)

    assert not is_whole
    assert (summary.requests, summary.is_complete, results(out)) == (0, True, before)


async def _notes(job: Path) -> list[str]:
    """What `check` and `run` report of a changed [validate]; both the same."""
    said: list[str] = []
    warned = check_job(job).warnings
    await run_job(job, say=said.append)
    reports = [[one for one in notes if one.startswith("validate.")] for notes in (warned, said)]
    assert reports[0] == reports[1]
    return reports[0]


async def test_a_changed_validation_is_reported_until_the_rows_that_are_done_are_read_with_it(tmp_path: Path) -> None:
    job = write_job(tmp_path, rows=3, more="[validate]\nrepair = true")
    first, unchanged = await _notes(job), await _notes(job)
    edit(job, "repair = true", 'repair = false\nformats = "strict"')

    changed, still = await _notes(job), await _notes(job)
    edit(job, "repair = false", "repair = true")
    partly_back = await _notes(job)
    revalidate_job(job)
    applied = await _notes(job)

    assert (first, unchanged, applied) == ([], [], [])
    assert changed == still
    assert changed[0].startswith("validate.repair and validate.formats have changed; `batchcall revalidate` applies")
    assert partly_back[0].startswith("validate.formats has changed; `batchcall revalidate` applies it")


async def test_rows_read_with_two_validations_are_reported_under_either(tmp_path: Path) -> None:
    job = write_job(tmp_path, rows=3, more="[validate]\nrepair = true")
    await _notes(job)
    write_rows(tmp_path / "rows.jsonl", some_rows(5))
    edit(job, "repair = true", "repair = false")

    changed = await _notes(job)
    edit(job, "repair = false", "repair = true")
    back = await _notes(job)

    assert len(changed) == len(back) == 1


async def test_a_record_that_does_not_say_how_rows_were_read_reports_nothing(tmp_path: Path) -> None:
    job = write_job(tmp_path, rows=3, more="[validate]\nrepair = true")
    await _notes(job)
    record = tmp_path / "out" / "_batchcall" / "run.json"
    older = {name: value for name, value in json.loads(record.read_bytes()).items() if name != "validations"}
    record.write_text(json.dumps({**older, "checksum": ""}))
    edit(job, "repair = true", "repair = false")

    assert await _notes(job) == []
