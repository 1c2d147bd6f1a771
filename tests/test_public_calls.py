"""What a program may hand to the public calls: paths as text or as Path, a job by its file or as it was loaded."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import batchcall
from running import write_job


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that has run."""
    path = write_job(tmp_path_factory.mktemp("job"), rows=3)
    batchcall.run(path)
    return path


@pytest.mark.parametrize(
    "call", [batchcall.run, batchcall.check_job, batchcall.revalidate_job], ids=lambda call: call.__name__
)
@pytest.mark.parametrize("given", [str, Path, batchcall.load_job], ids=["text", "path", "loaded"])
def test_a_job_is_its_file_or_what_was_loaded(job: Path, call: Callable[..., Any], given: Callable[..., Any]) -> None:
    assert call(given(job))


@pytest.mark.parametrize(
    "call", [batchcall.read_status, batchcall.verify_output, batchcall.read_table], ids=lambda call: call.__name__
)
@pytest.mark.parametrize("given", [str, Path], ids=["text", "path"])
def test_a_folder_is_text_or_a_path(job: Path, call: Callable[..., Any], given: Callable[..., Any]) -> None:
    told = call(given(job.parent / "out"))

    assert type(told) is type(call(job.parent / "out"))
    assert not isinstance(told, batchcall.Proof) or told.is_proven


@pytest.mark.filterwarnings("error")
async def test_in_a_running_event_loop_run_names_the_call_to_await(job: Path) -> None:
    with pytest.raises(batchcall.BatchcallError, match="inside a running event loop") as error:
        batchcall.run(job)

    gc.collect()  # a coroutine that nobody awaits would warn now
    assert "await batchcall.run_job(...)" in error.value.hint
    assert (await batchcall.run_job(job)).exit_code == 0


def test_a_traceback_shows_every_fault_and_the_hint(tmp_path: Path) -> None:
    wrong = write_job(tmp_path / "wrong", limits='timeout = "soon"\nattempts = 0')
    without_rows = write_job(tmp_path / "without")
    (tmp_path / "without" / "rows.jsonl").unlink()

    with pytest.raises(batchcall.JobError) as faults:
        batchcall.load_job(wrong)
    with pytest.raises(batchcall.InputError) as missing:
        batchcall.check_job(without_rows)

    shown = "".join(traceback.format_exception(faults.value))
    assert len(faults.value.faults) == 2
    assert all(f"\n- {fault}" in shown for fault in faults.value.faults)
    assert f"\nhint: {missing.value.hint}" in "".join(traceback.format_exception(missing.value))


def test_a_job_file_is_loaded_by_its_name_as_text(job: Path) -> None:
    assert batchcall.load_job(str(job)) == batchcall.load_job(job)
