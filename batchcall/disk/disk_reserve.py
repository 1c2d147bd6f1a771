"""Disk space kept for the moment when the disk is full: the answers that are in flight then still find room."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from batchcall.disk.disk import Disk, write_fully

LEAST_BYTES = 1 << 17  # for run.json and some answers that are longer than any before


class DiskReserve:
    """A file of random bytes that is removed when its room is needed. Used from one thread."""

    def __init__(self, disk: Disk, path: Path) -> None:
        """Take the room. Raises OSError when there is none: then no request may be sent either."""
        self._disk = disk
        self._path = path
        self._size = 0
        self._is_released = False
        self.hold(LEAST_BYTES)

    def hold(self, size: int) -> None:
        """Reserve at least `size` bytes in all. Raises OSError when the disk is full."""
        if self._is_released or size <= self._size:
            return
        handle = self._disk.open_append(self._path)
        try:
            # Random bytes: a file system that compresses would give zeros no room.
            write_fully(self._disk, handle, os.urandom(size - self._size))
        except OSError:  # what was written of it would be missing elsewhere
            with contextlib.suppress(OSError):
                self._disk.truncate(handle, self._size)
            raise
        finally:
            self._disk.close(handle)
        self._size = size

    def release(self) -> None:
        """Give the room to others, for good. Raises OSError."""
        self._is_released = True
        self._disk.remove(self._path)
