"""run.json: what is written is read again, whatever the run does meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

import batchcall.files.runfile
from batchcall.files.disk import RealDisk
from batchcall.files.runfile import InputEntry, RunFile, read_runfile, write_runfile


def test_a_record_that_changes_while_it_is_written_is_whole_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runfile = RunFile(batchcall="1", job={}, identity={}, input=InputEntry(path="rows", fingerprint="f"), layout="l")
    checksum_of = batchcall.files.runfile._checksum

    def checksum_and_go_on(written: RunFile) -> str:
        checksum = checksum_of(written)
        runfile.input.marks.append([10, 0, 999, 11])  # as another thread does that begins a part
        return checksum

    monkeypatch.setattr(batchcall.files.runfile, "_checksum", checksum_and_go_on)
    write_runfile(RealDisk(), tmp_path, runfile)
    monkeypatch.undo()

    assert read_runfile(RealDisk(), tmp_path) is not None
