"""What `check` says of a job before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchcall import check_job, run_job
from batchcall.sandbox.process import SandboxProcess
from running import some_rows, write_job, write_rows


def time_of(text: str) -> str:
    (line,) = (line for line in text.splitlines() if line.startswith("time "))
    return line.removeprefix("time").strip()


@pytest.mark.parametrize(
    ("rows", "said", "seconds"),
    [
        (1, "less than a minute", 2.0),
        (500, "less than a minute", 15.6),
        (3_000, "about 1m33s (bound by 64 in flight at 2 s an answer)", 93.8),
    ],
)
def test_the_forecast_of_time_is_one_that_a_run_can_meet(tmp_path: Path, rows: int, said: str, seconds: float) -> None:
    job = write_job(tmp_path, rows=rows)
    job.write_text(job.read_text().replace("concurrency = 8", ""))

    report = check_job(job)

    assert time_of(report.as_text()) == said
    assert report.as_json()["estimated_seconds"] == seconds


async def test_of_a_job_that_is_done_the_forecast_is_that_it_takes_no_time(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=3)
    await run_job(job)

    report = check_job(job)

    assert time_of(report.as_text()) == "none, as nothing is left to do"
    assert report.as_json()["estimated_seconds"] == 0


async def test_rows_of_which_no_request_can_be_made_are_not_called_done(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=3)
    await run_job(job)
    write_rows(tmp_path / "rows.jsonl", [*some_rows(4), {"id": "without a text"}])

    report = check_job(job).as_json()

    assert (report["rows"], report["rows_done"], report["rows_left"]) == (5, 3, 2)
