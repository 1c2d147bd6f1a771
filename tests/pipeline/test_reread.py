"""The process that reads an answer once more is ended in time, wherever it stops."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from multiprocessing.connection import Pipe

import pytest

from batchcall.pipeline.reread import ReadingChild


@pytest.mark.parametrize("sent", [b"", struct.pack("!i", 1_000) + b"half"], ids=["before it answers", "in the middle"])
def test_a_child_that_stops_is_ended_in_time(sent: bytes) -> None:
    ours, its_end = Pipe()
    child = ReadingChild({})
    with its_end:
        child._process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=its_end.fileno())
        os.write(its_end.fileno(), sent)
    child._pipe = ours

    with pytest.raises(TimeoutError):
        child._received(ours, 0.2)

    assert child._process.wait() < 0
    child.close()


def test_a_child_that_dies_is_not_one_that_is_late() -> None:
    ours, its_end = Pipe()
    child = ReadingChild({})
    with its_end:
        child._process = subprocess.Popen([sys.executable, "-c", ""], stdin=its_end.fileno())
    child._pipe = ours

    with pytest.raises(EOFError):
        child._received(ours, 60.0)

    child.close()
