"""What is set aside is there for good; see `generations.py`."""

from __future__ import annotations

import random
from pathlib import Path

from batchcall.disk.disk import ensure_folder, write_fully
from batchcall.output.generations import set_aside
from model_disk import ModelDisk


def test_a_journal_that_a_killed_run_has_not_synced_survives_a_power_cut_once_it_is_set_aside(tmp_path: Path) -> None:
    disk, out = ModelDisk(tmp_path), tmp_path / "out"
    ensure_folder(disk, out / "_batchcall")
    write_fully(disk, disk.open_append(out / "_batchcall" / "part-000000.journal"), b"an answer\n")

    set_aside(disk, out, out / "_batchcall", [0])
    disk.cut_power(random.Random(0), keeps=0.0)

    assert disk.read(out / "_batchcall" / "earlier" / "0001" / "part-000000.journal") == b"an answer\n"
