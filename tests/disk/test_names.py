"""What the files of an output are called; see `names.py`."""

from __future__ import annotations

import shutil
from pathlib import Path

from batchcall import RunOptions, read_status, read_table, revalidate_job, run_job, verify_output
from batchcall.disk.disk import RealDisk
from batchcall.disk.names import answers_in
from batchcall.sandbox.process import SandboxProcess, Settings, open_sandbox
from running import edit, some_rows, write_job, write_rows

OLD_NAMES = {".answers": ".parquet", ".aside": ".parquet"}


def make_old(out: Path) -> list[str]:
    """Give the files below `_batchcall` the names that older versions gave them. Returns those names."""
    old = []
    for path in sorted((out / "_batchcall").rglob("part-*")):
        if path.suffix in OLD_NAMES:
            old.append(path.rename(path.with_suffix(OLD_NAMES[path.suffix])).relative_to(out).as_posix())
    return old


def parquet_below(out: Path) -> list[Path]:
    return list((out / "_batchcall").rglob("*.parquet"))


async def test_nothing_that_is_not_a_part_ends_in_parquet_whatever_has_happened_to_the_output(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=25)
        await run_job(job)
        write_rows(tmp_path / "rows.jsonl", [{"id": "new", "text": "new"}, *some_rows(24)])
        await run_job(job)
        (tmp_path / "out" / "part-000001.parquet").write_bytes(b"PAR1 not any more")
        await run_job(job)

    names = {path.name for path in (tmp_path / "out").rglob("part-*")}
    assert {"part-000001.aside", "part-000001.answers", "part-000001.parquet"} <= names
    assert parquet_below(tmp_path / "out") == []


async def test_the_files_of_an_older_version_are_read_where_nothing_may_be_changed(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=25)
        await run_job(job)
    out = tmp_path / "out"
    old = make_old(out)

    proof, status = verify_output(out), read_status(out)
    edit(tmp_path / "tool.json", '"maximum": 130', '"maximum": 131')
    anew = revalidate_job(job)

    assert len(old) == 3
    assert (proof.is_proven, proof.answers, status.is_complete) == (True, 25, True)
    assert (anew.rows, anew.changed) == (25, 0)


async def test_a_run_finds_the_answers_of_an_older_version_and_gives_them_their_present_names(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with open_sandbox(Settings()) as endpoint:
        job = await aside_and_damaged(tmp_path, endpoint)
        old = make_old(out)
        before = read_table(out)
        write_rows(tmp_path / "rows.jsonl", some_rows(25))  # as it was at first: what is missing is in `earlier`
        (out / "part-000002.parquet").unlink()

        summary = await run_job(job)

    assert {path.split("/")[1] for path in old} == {"answers", "damaged", "earlier"}
    assert (summary.requests, summary.is_complete, before.num_rows) == (0, True, 25)
    assert parquet_below(out) == []
    assert verify_output(out).is_proven


async def aside_and_damaged(folder: Path, endpoint: SandboxProcess) -> Path:
    """An output with parts set aside and a damaged one."""
    job = write_job(folder, url=endpoint.url, rows=25)
    await run_job(job)
    write_rows(folder / "rows.jsonl", [{"id": "new", "text": "new"}, *some_rows(24)])
    await run_job(job)
    (folder / "out" / "part-000001.parquet").write_bytes(b"PAR1 not any more")
    await run_job(job)
    return job


async def test_a_run_that_died_between_the_new_answers_and_the_old_ones_leaves_the_new_ones(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=10)
        await run_job(job, RunOptions(limit=5))
        out = tmp_path / "out"
        make_old(out)
        answers = out / "_batchcall" / "answers"
        shutil.copy(answers / "part-000000.parquet", tmp_path / "old")
        await run_job(job)
        shutil.copy(tmp_path / "old", answers / "part-000000.parquet")

        found = answers_in(RealDisk(), out / "_batchcall")
        await run_job(job)

    assert [path.name for path in found.values()] == ["part-000000.answers"]
    assert [path.name for path in answers.iterdir()] == ["part-000000.answers"]
    assert verify_output(out).answers == 10
