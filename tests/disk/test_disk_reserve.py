"""The reserve: room that is kept is really taken, no more than asked, and given back once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from batchcall.disk.disk import RealDisk
from batchcall.disk.disk_reserve import LEAST_BYTES, DiskReserve


class SmallDisk(RealDisk):
    """A file system with room for so many bytes, which takes what fits and then has none."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.opened: list[int] = []

    def open_append(self, path: Path) -> int:
        self.opened.append(super().open_append(path))
        return self.opened[-1]

    def write(self, handle: int, content: bytes) -> int:
        fits = min(len(content), self.room - self.size(handle))
        if not fits:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(handle, content[:fits])

    def close(self, handle: int) -> None:
        super().close(handle)
        self.opened.remove(handle)


def test_a_reserve_holds_128_kib_from_the_start_and_then_just_what_is_asked(tmp_path: Path) -> None:
    path, sizes = tmp_path / "_tmp-ballast", []
    reserve = DiskReserve(RealDisk(), path)

    for asked in (0, 200_000, 300_001, 300_001, 250_000):
        reserve.hold(asked)
        sizes.append(path.stat().st_size)

    assert sizes == [1 << 17, 200_000, 300_001, 300_001, 300_001]
    assert LEAST_BYTES == 1 << 17


def test_a_disk_without_room_for_more_keeps_what_was_reserved_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "_tmp-ballast"
    disk = SmallDisk(room=200_000)
    reserve = DiskReserve(disk, path)

    with pytest.raises(OSError, match="No space left"):
        reserve.hold(300_000)
    assert (path.stat().st_size, disk.opened) == (LEAST_BYTES, [])

    disk.room = 400_000
    reserve.hold(300_000)
    assert (path.stat().st_size, disk.opened) == (300_000, [])


def test_no_request_may_be_sent_where_there_is_no_room_at_all(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        DiskReserve(SmallDisk(room=LEAST_BYTES - 1), tmp_path / "_tmp-ballast")


def test_what_was_released_is_never_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "_tmp-ballast"
    reserve = DiskReserve(RealDisk(), path)

    reserve.release()
    reserve.hold(10 * LEAST_BYTES)

    assert not path.exists()


def test_what_need_not_grow_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row asks for each answer: a system call for each would be paid by every row."""
    disk = SmallDisk(room=LEAST_BYTES)
    reserve = DiskReserve(disk, tmp_path / "_tmp-ballast")
    monkeypatch.setattr(disk, "open_append", lambda path: pytest.fail("opened"))

    reserve.hold(LEAST_BYTES)
