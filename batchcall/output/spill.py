"""Batches of rows that wait for their part to be complete: in memory while they are small, else in a temporary file.

Nothing here has to survive a crash, as the journal has it all; the next run removes what is left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from batchcall.disk import Disk, temporary_of, write_fully
from batchcall.input import bytes_of

HELD_BYTES = 16 * 1024 * 1024  # of the batches of one part in memory


class _Place(NamedTuple):
    """Where a batch lies in the file."""

    offset: int
    length: int


class Spill:
    """Batches by a number that `add` gives. Raises OSErrors of the disk; then what it holds is lost to this run."""

    def __init__(self, disk: Disk, path: Path) -> None:
        """Makes no file until there is more than may be in memory. `path` is that of the part's journal."""
        self._disk = disk
        self._path = temporary_of(path.with_suffix(".spill"))
        self._handle: int | None = None
        self._length = 0
        self._batches: list[pa.RecordBatch | _Place] = []
        self._held_from = 0  # batches before this one are in the file
        self.held_bytes = 0

    def add(self, batch: pa.RecordBatch) -> int:
        """Take a batch in and return its number."""
        self._batches.append(batch)
        self.held_bytes += bytes_of(batch)
        if self.held_bytes > HELD_BYTES:
            self._write_held()
        return len(self._batches) - 1

    def _write_held(self) -> None:
        if self._handle is None:
            self._handle = self._disk.create(self._path)
        for number in range(self._held_from, len(self._batches)):
            batch: Any = self._batches[number]
            sink = pa.BufferOutputStream()
            # As a stream, which has the dictionaries of categories in it. Not compressed, as the event loop waits.
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            content = sink.getvalue().to_pybytes()
            write_fully(self._disk, self._handle, content)
            self._batches[number] = _Place(self._length, len(content))
            self._length += len(content)
        self._held_from, self.held_bytes = len(self._batches), 0

    def batch(self, number: int) -> pa.RecordBatch:
        """The batch that got this number; one from the file is read again each time."""
        found = self._batches[number]
        if not isinstance(found, _Place):
            return found
        with self._disk.open_read(self._path) as file:
            file.seek(found.offset)
            return pa.ipc.open_stream(file.read_buffer(found.length)).read_next_batch()

    def close(self) -> None:
        """Free the memory and remove the file; the next run would remove it as well."""
        self._batches.clear()
        if self._handle is not None:
            self._disk.close(self._handle)
            self._handle = None
            self._disk.remove(self._path)
