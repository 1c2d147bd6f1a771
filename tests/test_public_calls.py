"""What a program may hand to the public calls: paths as text or as Path, a job by its file or as it was loaded."""

from __future__ import annotations

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


def test_a_job_file_is_loaded_by_its_name_as_text(job: Path) -> None:
    assert batchcall.load_job(str(job)) == batchcall.load_job(job)
