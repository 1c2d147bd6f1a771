"""run.json: what is written is read again, whatever the run does meanwhile."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

import batchcall.output.runfile
from batchcall.base.errors import DamagedRecordError
from batchcall.disk.disk import RealDisk
from batchcall.output.runfile import InputEntry, RunFile, read_runfile, write_runfile


def test_a_record_that_changes_while_it_is_written_is_whole_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runfile = RunFile(batchcall="1", job={}, identity={}, input=InputEntry(path="rows", fingerprint="f"), layout="l")
    checksum_of = batchcall.output.runfile._checksum

    def checksum_and_go_on(written: dict[str, Any]) -> str:
        checksum = checksum_of(written)
        runfile.input.marks.append([10, 0, 999, 11])  # as another thread does that begins a part
        return checksum

    monkeypatch.setattr(batchcall.output.runfile, "_checksum", checksum_and_go_on)
    write_runfile(RealDisk(), tmp_path, runfile)
    monkeypatch.undo()

    assert read_runfile(RealDisk(), tmp_path) is not None


def test_a_record_of_a_version_that_knew_fewer_keys_is_read_and_a_changed_one_is_not(tmp_path: Path) -> None:
    older: dict[str, Any] = {
        "version": 1,
        "batchcall": "0",
        "job": {"temperature": 0.1},
        "identity": {},
        "input": {"path": "rows", "fingerprint": "f"},
        "layout": "l",
        "runs": [{"started_at": "2026-01-01T00:00:00+00:00", "started_at_s": 1767225600.25}],
        "checksum": "",
    }
    path, checksum = tmp_path / "run.json", f"{zlib.crc32(msgspec.json.encode(older)):08x}"
    path.write_bytes(msgspec.json.format(msgspec.json.encode({**older, "checksum": checksum}), indent=1))

    read = read_runfile(RealDisk(), tmp_path)
    path.write_bytes(path.read_bytes().replace(b"0.1", b"0.2"))

    assert read is not None
    assert (read.runs[0].left_out, read.input.rows_counted) == ({}, None)
    with pytest.raises(DamagedRecordError, match="its checksum does not match"):
        read_runfile(RealDisk(), tmp_path)
