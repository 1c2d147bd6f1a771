"""An output that an older version has written, kept as files: one part, the journal of another, and a run that died.

`older/` was made with version 0.1.0, before `Outcome.left_out`: the process was killed while row 5 was in flight.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from answering import endpoint
from batchcall import load_job, revalidate_job, run_job, verify_output
from running import edit, results, write_job

OLDER = Path(__file__).with_name("older")
OF_ARGUMENTS = "left out: no column for /age of the arguments, see `calls`"
OF_INPUT = "left out: n: 'text' does not fit int64; late: 'seen' has no column, as the first rows of the input lack it"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The job file of a copy. The columns come from the first two rows, as they did then."""
    monkeypatch.setattr("batchcall.input.jsonl.SAMPLE_ROWS", 2)
    shutil.copytree(OLDER, tmp_path, dirs_exist_ok=True)
    return tmp_path / "job.toml"


async def test_an_output_of_an_older_version_goes_on_and_nothing_that_it_has_is_bought_again(job: Path) -> None:
    out = job.parent / "out"
    part = (out / "part-000000.parquet").read_bytes()

    async with endpoint(lambda prompt: '{"name": "Ada", "age": 36}') as url:
        edit(job, "http://127.0.0.1:1/v1", url)
        summary = await run_job(job)

    assert (summary.requests, summary.indeterminate) == (2, 1)  # the row that was in flight, and the last
    assert (out / "part-000000.parquet").read_bytes() == part
    rows = results(out)
    assert [(row["status"], row["error"]) for row in rows] == [
        ("ok", OF_ARGUMENTS),
        ("invalid_arguments", '"name" is a required property'),
        *[("ok", f"{OF_ARGUMENTS}; {OF_INPUT}")] * 5,
    ]
    assert verify_output(out).faults == []


async def test_answers_of_an_older_part_that_no_longer_fits_are_taken_and_say_each_thing_once(job: Path) -> None:
    rows = (job.parent / "rows.jsonl").read_text().splitlines()
    (job.parent / "rows.jsonl").write_text("\n".join([rows[1], rows[0], *rows[2:]]) + "\n")

    async with endpoint(lambda prompt: '{"name": "Ada", "age": 36}') as url:
        edit(job, "http://127.0.0.1:1/v1", url)
        summary = await run_job(job)

    assert summary.requests == 2
    assert [row["error"] for row in results(job.parent / "out")] == [
        '"name" is a required property',
        OF_ARGUMENTS,
        *[f"{OF_ARGUMENTS}; {OF_INPUT}"] * 5,
    ]


def test_a_part_of_an_older_version_read_again_says_the_same_of_values_without_a_column(job: Path) -> None:
    before = results(job.parent / "out")

    revalidate_job(load_job(job))

    assert results(job.parent / "out") == before


async def test_an_answer_whose_words_read_like_our_note_says_the_same_however_often_it_is_read_again(
    tmp_path: Path,
) -> None:
    async with endpoint(lambda prompt: '{"name": "Ada", "age": "old; left out: young"}') as url:
        job = write_job(tmp_path, url=url, rows=1)
        await run_job(job)
    before = results(tmp_path / "out")

    for _ in range(2):
        revalidate_job(load_job(job))

    assert "left out: young" in before[0]["error"]
    assert results(tmp_path / "out") == before
