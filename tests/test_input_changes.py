"""An input that somebody edits while a run reads it: the run notices and says what that means; the next one follows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest
from msgspec.structs import replace

from batchcall import ExitCode, RunOptions, Summary, run_job, verify_output
from batchcall.input.files import find_files
from batchcall.pipeline import run as spine
from batchcall.sandbox.process import SandboxProcess
from running import results, some_rows, write_job, write_rows

Edit = Callable[[], object]


@pytest.fixture
def while_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Edit], None]:
    """Makes an edit when the run has begun, and is about to read its rows."""
    pending_rows = spine.pending_rows

    def arrange(edit: Edit) -> None:
        def edited(*given: Any) -> Iterator[Any]:
            edit()
            yield from pending_rows(*given)

        monkeypatch.setattr(spine, "pending_rows", edited)

    return arrange


@pytest.fixture
def after_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Edit], None]:
    """Makes an edit once every row is answered."""
    finish = spine.finish

    def arrange(edit: Edit) -> None:
        def finish_after_edit(*given: Any) -> Summary:
            edit()
            return finish(*given)

        monkeypatch.setattr(spine, "finish", finish_after_edit)

    return arrange


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "out/_batchcall/run.json").read_bytes())
    return record


def edited_rows() -> list[dict[str, Any]]:
    return [{**row, "text": f"{row['text']}, edited"} if row["id"] == "r3" else row for row in some_rows(25)]


async def test_an_input_edited_while_it_is_read_is_not_passed_off_as_done(
    tmp_path: Path, endpoint: SandboxProcess, while_read: Callable[[Edit], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=25)
    while_read(lambda: write_rows(tmp_path / "rows.jsonl", edited_rows()))

    summary = await run_job(job)

    assert (summary.exit_code, summary.is_complete) == (ExitCode.STOPPED_EARLY, False)
    assert summary.reason == "the input changed while it was read"
    assert "rows.jsonl was " in summary.input_note
    assert "rows may be of the old content or of the new" in summary.input_note
    assert summary.as_json()["this_run"]["input_note"] == summary.input_note
    assert not (tmp_path / "out/_SUCCESS").exists()
    assert record_of(tmp_path)["input"]["fingerprint"] == ""

    monkeypatch.undo()
    again = await run_job(job)

    assert (again.exit_code, again.requests, again.input_note) == (ExitCode.OK, 0, "")
    assert results(tmp_path / "out")[3]["text"] == edited_rows()[3]["text"]
    assert verify_output(tmp_path / "out").is_proven


async def test_control_an_input_that_nobody_edits_changes_nothing(
    tmp_path: Path, endpoint: SandboxProcess, while_read: Callable[[Edit], None]
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=25)
    while_read(lambda: (tmp_path / "rows.jsonl").read_bytes())

    summary = await run_job(job)

    assert (summary.exit_code, summary.is_complete, summary.input_note) == (ExitCode.OK, True, "")
    assert record_of(tmp_path)["input"]["fingerprint"] != ""


async def test_an_edit_that_is_taken_back_is_noticed_too(
    tmp_path: Path, endpoint: SandboxProcess, while_read: Callable[[Edit], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by `cp -p` of a copy: size and time are those that the run began with, and some rows may not be."""
    job, rows = write_job(tmp_path, url=endpoint.url, rows=25), tmp_path / "rows.jsonl"
    content, state = rows.read_bytes(), rows.stat()
    while_read(lambda: write_rows(rows, edited_rows()))
    await run_job(job)
    monkeypatch.undo()
    rows.write_bytes(content)
    os.utime(rows, ns=(state.st_atime_ns, state.st_mtime_ns))

    summary = await run_job(job)

    assert (summary.exit_code, summary.is_complete, summary.requests) == (ExitCode.OK, True, 1)
    assert verify_output(tmp_path / "out").is_proven
    assert [row["text"] for row in results(tmp_path / "out")] == [row["text"] for row in some_rows(25)]


async def test_an_edit_after_the_last_row_was_read_leaves_the_output_whole_and_is_named(
    tmp_path: Path, endpoint: SandboxProcess, after_read: Callable[[Edit], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=25)
    after_read(lambda: write_rows(tmp_path / "rows.jsonl", edited_rows()))

    summary = await run_job(job)

    assert (summary.exit_code, summary.is_complete) == (ExitCode.OK, True)
    assert "changed after its last row was read: the output has the rows as they were" in summary.input_note
    assert [row["text"] for row in results(tmp_path / "out")] == [row["text"] for row in some_rows(25)]
    monkeypatch.undo()
    assert (await run_job(job)).requests == 1


async def test_rows_within_a_limit_that_were_all_read_before_an_edit_are_as_they_were(
    tmp_path: Path, endpoint: SandboxProcess, after_read: Callable[[Edit], None]
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=25)
    after_read((tmp_path / "rows.jsonl").unlink)

    summary = await run_job(job, RunOptions(limit=4))

    assert summary.exit_code == ExitCode.OK
    assert "rows.jsonl is gone" in summary.input_note


def test_a_file_that_was_not_there_before_is_no_change_of_what_is_read(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        write_rows(tmp_path / f"{name}.jsonl", some_rows(1))
    files = find_files(str(tmp_path))

    write_rows(tmp_path / "e.jsonl", some_rows(1))
    assert files.changes() == []

    (tmp_path / "c.jsonl").unlink()
    write_rows(tmp_path / "d.jsonl", some_rows(2))
    gone, grown = files.changes()
    assert gone == "c.jsonl is gone"
    assert grown.startswith("d.jsonl was 45 bytes, changed at ")
    assert " UTC and is 90 bytes, changed at " in grown


def test_a_store_that_does_not_answer_is_no_change(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", some_rows(1))
    files = find_files(str(tmp_path))

    class Gone(pyarrow.fs.LocalFileSystem):
        def get_file_info(self, paths: list[str]) -> Any:
            raise OSError("no route to host")

    assert replace(files, filesystem=Gone()).changes() == []
