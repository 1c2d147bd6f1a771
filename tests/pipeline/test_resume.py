"""What becomes of the rows that are done: every cell of the table in `resume` is tried with real runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from answering import endpoint
from batchcall.base.errors import JobError, ResumeError
from batchcall.disk.disk import RealDisk
from batchcall.job.model import load_job
from batchcall.output.runfile import RunFile, read_runfile
from batchcall.pipeline.context import RunOptions
from batchcall.pipeline.resume import ACTIONS, Action, JobIs, compare_jobs
from batchcall.pipeline.run import run_job
from running import edit, results, write_job

OTHER_ENDPOINT = '\n[[endpoint]]\nurl = "http://127.0.0.1:9/v1"\nmodel = "typo"\n'


async def some_output(folder: Path, url: str, job_is: JobIs) -> Path:
    """An output of two rows, and the job file that compares with it in this way."""
    job = write_job(folder, url=url, rows=2)
    if job_is is JobIs.UNBOUGHT:
        edit(job, "{{ text }}", "{{ text.missing }}")
    if job_is is JobIs.CORRECTED:
        edit(job, "[endpoint]", "[[endpoint]]")
        edit(job, "\n[request]", OTHER_ENDPOINT + "\n[request]")
    await run_job(job)
    if job_is is JobIs.SAME_WITH_OLDER:
        edit(job, "test-model", "next-model")
        await run_job(job, RunOptions(on_change="keep"))
    if job_is is JobIs.UNBOUGHT:
        edit(job, "{{ text.missing }}", "{{ text }}")
    if job_is is JobIs.CORRECTED:
        edit(job, "typo", "right")
    if job_is is JobIs.OTHER:
        edit(job, "test-model", "next-model")
    return job


def record(job: Path) -> RunFile:
    found = read_runfile(RealDisk(), job.parent / "out" / "_batchcall")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("job_is", "on_change"), [(job_is, on_change) for job_is, row in ACTIONS.items() for on_change in row]
)
async def test_the_table_says_what_becomes_of_the_rows_that_are_done(
    tmp_path: Path, job_is: JobIs, on_change: str
) -> None:
    async with endpoint(lambda _: '{"name": "Ada", "age": 36}') as url:
        await _hold_the_table(await some_output(tmp_path, url, job_is), job_is, on_change)


async def _hold_the_table(job: Path, job_is: JobIs, on_change: str) -> None:
    out = job.parent / "out"
    before, old = results(out), record(job)
    assert compare_jobs(old, load_job(job), RealDisk()) is job_is
    action = ACTIONS[job_is][on_change]

    if action is Action.REFUSE:
        with pytest.raises(ResumeError):
            await run_job(job, RunOptions(on_change=on_change))
        assert (results(out), record(job)) == (before, old)
        return
    summary = await run_job(job, RunOptions(on_change=on_change))

    after, kept_jobs = results(out), record(job).kept_jobs
    if action is Action.REDO:
        assert (summary.totals["rows"], kept_jobs) == (2, [])
        assert summary.requests >= 2  # the endpoint with a typo is asked, too
        assert [row["request_hash"] for row in after] != [row["request_hash"] for row in before]
    else:
        assert (summary.requests, after) == (0, before)
        assert kept_jobs == [*old.kept_jobs, *([old.job] if action is Action.KEEP else [])]


def test_the_table_has_an_action_for_every_job_and_every_on_change() -> None:
    assert ACTIONS.keys() == set(JobIs)
    assert all(row.keys() == {"fail", "keep", "rerun"} for row in ACTIONS.values())


async def test_another_word_for_on_change_is_refused_before_anything_is_sent_or_set_aside(tmp_path: Path) -> None:
    async with endpoint(lambda _: '{"name": "Ada", "age": 36}') as url:
        job = await some_output(tmp_path, url, JobIs.OTHER)
        before = results(tmp_path / "out")

        with pytest.raises(JobError, match="on_change is 'renew'") as refused:
            await run_job(job, RunOptions(on_change="renew"))

    assert "fail, rerun, keep" in refused.value.hint
    assert results(tmp_path / "out") == before
