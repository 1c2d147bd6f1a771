"""One run per output folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from batchcall.base.errors import ExitCode, LockedError
from batchcall.disk.lock import FolderLostError, hold_lock, holder_of


def test_a_second_run_is_refused_and_learns_who_holds_the_output(tmp_path: Path) -> None:
    path = tmp_path / "_batchcall" / "lock"
    path.parent.mkdir()

    holder = r"another run holds .*process \d+ on .*, since"
    with hold_lock(path), pytest.raises(LockedError, match=holder) as refused, hold_lock(path):
        pytest.fail("both hold it")

    assert refused.value.exit_code == ExitCode.LOCKED


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    with hold_lock(tmp_path / "lock"):
        assert holder_of(tmp_path / "lock") is not None

    assert holder_of(tmp_path / "lock") is None
    with hold_lock(tmp_path / "lock"):
        pass


def test_what_a_link_in_place_of_the_lock_leads_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")

    with pytest.raises(OSError, match="symbolic links"), hold_lock(tmp_path / "lock"):
        pytest.fail("it was followed")

    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from batchcall.disk.lock import hold_lock\n"
        "with hold_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert f"process {other.pid} " in (holder_of(tmp_path / "lock") or "")
        other.kill()
        other.wait()

    with hold_lock(tmp_path / "lock"):
        pass


def test_a_lock_knows_whether_its_file_still_stands_at_its_path(tmp_path: Path) -> None:
    path, moved = tmp_path / "out" / "_batchcall" / "lock", tmp_path / "moved"
    path.parent.mkdir(parents=True)
    with hold_lock(path) as still_held:
        still_held()
        (tmp_path / "out").rename(moved)
        with pytest.raises(FolderLostError) as renamed:
            still_held()
        (tmp_path / "out").symlink_to(moved)  # the same folder by another way
        still_held()
        (moved / "_batchcall" / "lock").unlink()
        with pytest.raises(FolderLostError) as deleted:
            still_held()

    assert (renamed.value.is_deleted, deleted.value.is_deleted) == (False, True)
    assert f"every answer that arrived is in {moved}: move that back" in renamed.value.hint
