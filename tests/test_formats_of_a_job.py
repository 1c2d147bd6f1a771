"""`validate.formats` in a job, and patterns that are left out: how answers are read, never what is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from answering import endpoint
from batchcall import check_job, run_job
from batchcall.commands.revalidate import revalidate_job
from batchcall.job.model import load_job
from running import edit, results, write_job, write_rows


def tool(**properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": "record_person", "parameters": parameters}}


BORN = tool(born={"type": "string", "format": "date-time"})
AHEAD = "^(?!x)[a-z]+$"


def statuses(folder: Path) -> set[str]:
    return {row["status"] for row in results(folder / "out")}


async def test_formats_are_lenient_unless_the_job_says_otherwise_and_a_change_costs_no_request(tmp_path: Path) -> None:
    async with endpoint(lambda prompt: '{"born": "1815-12-10 07:30:00"}') as url:
        job = write_job(tmp_path, url=url, rows=3, tool=BORN)
        bought = await run_job(job)
        assert (bought.requests, statuses(tmp_path)) == (3, {"ok"})

        edit(job, "[output]", '[validate]\nformats = "strict"\n[output]')
        again = await run_job(job)  # a finished job, read another way: nothing is asked, nothing is refused
        assert (again.requests, statuses(tmp_path)) == (0, {"ok"})
    revalidate_job(load_job(job))
    assert statuses(tmp_path) == {"invalid_arguments"}

    edit(job, '"strict"', '"off"')
    revalidate_job(load_job(job))
    assert statuses(tmp_path) == {"ok"}


async def test_strict_formats_hold_in_the_run_and_in_tools_of_rows(tmp_path: Path) -> None:
    async with endpoint(lambda prompt: '{"born": "1815-12-10 07:30:00"}') as url:
        job = write_job(tmp_path, url=url, tool=BORN)
        edit(job, "[output]", '[validate]\nformats = "strict"\n[output]')
        edit(job, '[[tool]]\nfile = "tool.json"\n', "")
        edit(job, "prompt = ", 'columns = { tools = "tools", tool_choice = "choice" }\nprompt = ')
        rows = [{"id": "a", "text": "x", "tools": [BORN], "choice": "required"}]
        write_rows(tmp_path / "rows.jsonl", rows)

        await run_job(job)

    assert statuses(tmp_path) == {"invalid_arguments"}


async def test_a_pattern_with_look_around_is_reported_once_by_check_and_run(tmp_path: Path) -> None:
    notes: list[str] = []
    async with endpoint(lambda prompt: '{"name": "x1"}') as url:
        job = write_job(tmp_path, url=url, rows=5, tool=tool(name={"type": "string", "pattern": AHEAD}))

        warned = [one for one in check_job(job).warnings if "pattern" in one]
        summary = await run_job(job, say=notes.append)

    assert (summary.exit_code, statuses(tmp_path)) == (0, {"ok"})
    assert len(warned) == len([one for one in notes if "pattern" in one]) == 1
    assert "/properties/name/pattern: not checked" in warned[0]


async def test_patterns_in_the_tools_of_rows_are_reported_once_for_all_rows(tmp_path: Path) -> None:
    notes: list[str] = []
    async with endpoint(lambda prompt: '{"name": "x1"}') as url:
        job = write_job(tmp_path, url=url)
        edit(job, '[[tool]]\nfile = "tool.json"\n', "")
        edit(job, "prompt = ", 'columns = { tools = "tools", tool_choice = "choice" }\nprompt = ')
        tools = [tool(name={"type": "string", "pattern": AHEAD, "maxLength": 9 + row % 3}) for row in range(8)]
        write_rows(
            tmp_path / "rows.jsonl",
            [
                {"id": f"r{i}", "text": "x", "tools": json.dumps([one]), "choice": "required"}
                for i, one in enumerate(tools)
            ],
        )

        await run_job(job, say=notes.append)
        warned = [one for one in check_job(job).warnings if "look-around" in one]

    assert statuses(tmp_path) == {"ok"}
    told = [one for one in notes if "look-around" in one]
    assert told == warned == ["3 tools of the rows: patterns with look-around or back-references are not checked"]
