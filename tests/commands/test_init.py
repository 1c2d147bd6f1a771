"""What `batchcall init` writes: a job that loads, and runs at once on the embedded endpoint."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import jsonschema_rs
import pytest

from batchcall.base.errors import JobError
from batchcall.commands.init import write_starter
from batchcall.job.model import load_job
from batchcall.pipeline.run import run_job


def test_the_starter_is_a_job_with_a_tool_a_prompt_and_ten_rows(tmp_path: Path) -> None:
    written = write_starter(tmp_path / "new" / "job")

    job = load_job(written[0])
    rows = [json.loads(line) for line in Path(job.input.path).read_text(encoding="utf-8").splitlines()]
    assert [path.name for path in written] == ["job.toml", "prompt.txt", "record_receipt.json", "receipts.jsonl"]
    assert len({row[job.input.id] for row in rows}) == len(rows) == 10
    assert job.request.prompt == written[1].read_text(encoding="utf-8")
    assert job.warnings == []
    jsonschema_rs.meta.validate(job.tools[0].written["function"]["parameters"])


async def test_the_starter_runs_to_its_end_on_the_embedded_endpoint(tmp_path: Path) -> None:
    job = write_starter(tmp_path)[0]

    summary = await run_job(job)

    assert summary.exit_code == 0
    assert (tmp_path / "out" / "receipts" / "_SUCCESS").exists()


@pytest.mark.parametrize("name", ["job.toml", "prompt.txt", "record_receipt.json", "receipts.jsonl"])
def test_the_starter_overwrites_nothing_and_writes_nothing_beside(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")

    with pytest.raises(JobError, match="already exists"):
        write_starter(tmp_path)

    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("given", [".", "my-job", "jobs/my job", ".."])
def test_the_folder_that_the_hint_names_is_one_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    (tmp_path / "here" / "my-job-2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    write_starter(Path(given))

    for _ in range(3):
        with pytest.raises(JobError, match="already exists") as refused:
            write_starter(Path(given))
        *_, named = shlex.split(refused.value.hint)
        assert not Path(named).exists()
        assert write_starter(Path(named))


def test_the_starter_follows_no_link_out_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "prompt.txt").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(JobError, match="already exists"):
        write_starter(folder)

    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(JobError, match="cannot be written"):
        write_starter(tmp_path / "file" / "job")
