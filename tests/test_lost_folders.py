"""The output folder is deleted, renamed or replaced under a run: it stops at once, and nothing of another's is touched.

Real processes. The endpoint answers slowly, so that a run that goes on would be seen to buy on.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchcall import run_job, verify_output
from batchcall.disk.disk import RealDisk
from batchcall.sandbox.process import SandboxProcess, Settings
from forked import Forked, forked, wait_until
from killing import answered_rows, endpoint_process, ledger
from running import results, write_job

ROWS = 120
STOPS_WITHIN_S = 3.0  # one, and what a loaded machine makes of it


@pytest.fixture(scope="module")
def endpoint() -> Iterator[SandboxProcess]:
    with endpoint_process(Settings(latency_s=0.1)) as sandbox:
        yield sandbox


def job_for(folder: Path, endpoint: SandboxProcess, *, seed: int, part_rows: int = ROWS) -> Path:
    return write_job(folder, url=endpoint.url, rows=ROWS, part_rows=part_rows, request=f"seed = {seed}")


def in_the_middle(folder: Path) -> None:
    wait_until(lambda: answered_rows(folder / "out") >= 20)


def stopped(run: Forked) -> str:
    """What a run says that stops by itself, and soon."""
    began_s = time.monotonic()
    code = run.wait()
    assert (code, "Traceback" in run.stderr()) == (3, False), run.stderr()
    assert time.monotonic() - began_s < STOPS_WITHIN_S
    return run.stderr()


def delete(out: Path) -> None:
    while out.exists():  # the run may make a file meanwhile
        shutil.rmtree(out, ignore_errors=True)


def replace_by_another(out: Path) -> None:
    out.rename(out.with_name("moved"))
    out.mkdir()


def replace_by_a_link(out: Path) -> None:
    out.rename(out.with_name("moved"))
    out.with_name("other").mkdir()
    out.symlink_to("other")


@pytest.mark.parametrize(
    ("what", "said", "hint"),
    [
        (delete, "out was deleted while a run was writing to it", "choose another --output"),
        (lambda out: delete(out / "_batchcall"), "out/_batchcall was deleted while", "the answers that were in"),
        (lambda out: out.rename(out.with_name("moved")), "out was renamed or replaced while", "moved: move that back"),
        (replace_by_another, "out was renamed or replaced while", "moved: move that back"),
        (replace_by_a_link, "out was renamed or replaced while", "moved: move that back"),
    ],
    ids=["deleted", "own folder deleted", "renamed", "replaced", "replaced by a link"],
)
def test_a_run_stops_when_its_folder_is_lost(
    tmp_path: Path, endpoint: SandboxProcess, what: Callable[[Path], None], said: str, hint: str
) -> None:
    job, before = job_for(tmp_path, endpoint, seed=900), ledger(endpoint)["requests"]
    with forked("run", job, into=tmp_path) as run:
        in_the_middle(tmp_path)
        what(tmp_path / "out")
        told = stopped(run)

    assert said in told
    assert hint in told
    assert ledger(endpoint)["requests"] - before < ROWS * 0.7
    out = tmp_path / "out"
    assert not list(out.rglob("*.parquet")) if out.exists() else True


async def test_a_mount_that_goes_away_stops_the_run_with_what_to_do(tmp_path: Path, endpoint: SandboxProcess) -> None:
    class Mount(RealDisk):
        def stands_at(self, handle: int, path: Path) -> bool:
            if answered_rows(tmp_path / "out") >= 20:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return True

    summary = await run_job(job_for(tmp_path, endpoint, seed=905), disk=Mount())

    assert summary.exit_code == 3
    assert "out cannot be written: Stale file handle" in summary.reason
    assert summary.hint.startswith("mount it again, then run the same command again")
    assert summary.rows_here < ROWS


def test_a_renamed_folder_that_is_moved_back_has_every_answer_that_arrived(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out, moved = job_for(tmp_path, endpoint, seed=901), tmp_path / "out", tmp_path / "moved"
    before = ledger(endpoint)["requests"]
    with forked("run", job, into=tmp_path) as run:
        in_the_middle(tmp_path)
        out.rename(moved)
        stopped(run)
    assert answered_rows(moved) == ledger(endpoint)["requests"] - before

    moved.rename(out)
    with forked("run", job, into=tmp_path) as run:
        assert run.wait() == 0, run.stderr()

    assert ledger(endpoint)["requests"] - before == ROWS
    assert verify_output(out).faults == []


def test_a_second_run_in_the_old_place_is_not_touched_by_the_first(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job, out = job_for(tmp_path, endpoint, seed=902, part_rows=20), tmp_path / "out"
    with forked("run", job, into=tmp_path / "a") as first:
        in_the_middle(tmp_path)
        out.rename(tmp_path / "moved")
        with forked("run", job, into=tmp_path / "b") as second:
            stopped(first)
            assert second.wait() == 0, second.stderr()

    assert len(results(out)) == ROWS
    assert verify_output(out).faults == []


@pytest.mark.parametrize("what", [Path.unlink, lambda journal: journal.rename(journal.with_name("away"))])
def test_a_journal_that_is_taken_away_stops_the_run_and_its_rows_are_published(
    tmp_path: Path, endpoint: SandboxProcess, what: Callable[[Path], None]
) -> None:
    job, out, before = job_for(tmp_path, endpoint, seed=903), tmp_path / "out", ledger(endpoint)["requests"]
    with forked("run", job, into=tmp_path) as run:
        in_the_middle(tmp_path)
        what(out / "_batchcall" / "part-000000.journal")
        assert run.wait() == 3, run.stderr()
    assert "part-000000.journal was deleted or renamed" in run.stdout()
    bought = ledger(endpoint)["requests"] - before
    assert len(results(out)) == bought < ROWS

    with forked("run", job, into=tmp_path) as run:
        assert run.wait() == 0, run.stderr()
    assert ledger(endpoint)["requests"] - before == ROWS


BLIND = """
import sys
from batchcall.cli import main
from batchcall.output.journal import Committer

Committer.look = lambda self: None
main(sys.argv[1:])
"""


def test_without_the_look_a_run_buys_on_into_a_deleted_folder(tmp_path: Path, endpoint: SandboxProcess) -> None:
    """The control."""
    job, before = job_for(tmp_path, endpoint, seed=904), ledger(endpoint)["requests"]
    with subprocess.Popen([sys.executable, "-c", BLIND, "run", job], stderr=subprocess.DEVNULL) as run:
        in_the_middle(tmp_path)
        delete(tmp_path / "out")

        assert run.wait(60) == 3

    assert ledger(endpoint)["requests"] - before == ROWS
