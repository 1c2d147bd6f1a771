"""The promises of a plain run, end to end: real files, a real endpoint in a process of its own, on loopback."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from batchcall import ExitCode, LockedError, RunOptions, revalidate_job, run_job, verify_output
from batchcall.commands.status import read_status
from batchcall.disk.lock import hold_lock
from batchcall.job.model import load_job
from batchcall.report.text import money_text, summary_text
from batchcall.sandbox.process import SandboxProcess, Settings, open_sandbox
from running import TOOL, edit, requests_to, results, some_rows, write_job, write_rows


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
    assert f"none; {cost} at the job's prices if a model had answered" in summary_text(rehearsed)
    assert f"none; {cost} at the job's prices" in read_status(tmp_path / "out-rehearsal").as_text()
    assert "answered  3 rows once" in summary_text(rehearsed)
    assert "paid      3 rows once" in summary_text(real)
    assert (rehearsed.as_json()["is_free"], real.as_json()["is_free"]) == (True, False)
    assert f"cost      {cost}\n" in read_status(tmp_path / "out").as_text()


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
    assert ended[1]["error"] == "rows.jsonl:2: column 'id' identifies the row, but is missing or null"
    assert summary.requests == 2
    assert verify_output(tmp_path / "out").faults == []


async def test_values_that_no_column_holds_are_reported_and_as_parquet_all_is_kept_and_nothing_bought_again(
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
async def test_rows_whose_own_tool_is_not_a_schema_are_bad_rows_and_not_damage(
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


async def test_a_tools_name_that_openai_does_not_allow_goes_as_it_is_to_others(tmp_path: Path) -> None:
    dotted = {**TOOL, "function": {**TOOL["function"], "name": "people.record"}}
    job = write_job(tmp_path, tool=dotted, rows=3)

    assert (await run_job(job)).exit_code == ExitCode.OK

    assert {row["tool"] for row in results(tmp_path / "out")} == {"people.record"}
    assert {row["calls"][0]["name"] for row in results(tmp_path / "out")} == {"people.record"}


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
