"""Rows of a part that have ended and wait for the others: as records while few, then as Arrow, then in a file.

They come in the order in which they end, and are given back in that of the input.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from batchcall.base import Outcome
from batchcall.disk import Disk
from batchcall.input import KeptRow
from batchcall.output.columns import Layout
from batchcall.output.spill import Spill

CHUNK_ROWS = 250  # turned into Arrow together: few enough that they are still in the processor's cache
WAITING_BYTES = 4 * 1024 * 1024  # of all rows of a part that are not Arrow yet
_LOADED = 8  # batches in memory while rows of several are put in order

Ended = tuple[KeptRow | None, Outcome]


class _Piece(NamedTuple):
    """Rows of a chunk that became Arrow together."""

    number: int  # in the spill
    rows: list[int]  # ascending


class _Chunk:
    """Rows of a fixed range that are not Arrow yet."""

    def __init__(self) -> None:
        self.ended: dict[int, Ended] = {}  # by row
        self.bytes = 0


class Waiting:
    """The rows of one part."""

    def __init__(self, disk: Disk, path: Path, start: int) -> None:
        """`path` is that of the part's journal, `start` its first row."""
        self.left_out = Counter[str]()  # rows by column of the input without a place
        self.members_left_out = Counter[str]()  # rows by member of the arguments without a column
        self._spill = Spill(disk, path)
        self._start = start
        self._chunks: dict[int, _Chunk] = {}
        self._chunks_bytes = 0
        self._pieces: dict[int, list[_Piece]] = {}  # by chunk

    @property
    def held_bytes(self) -> int:
        """About how much memory the rows take."""
        return self._chunks_bytes + self._spill.held_bytes

    # A chunk is a fixed range of rows, not the next rows that end: then most chunks come out whole and in order, and
    # the part is their batches one after the other. Where rows take too much memory, a chunk becomes Arrow before it is
    # whole, and its pieces are put in order when the part is written.
    def add(self, kept: KeptRow | None, outcome: Outcome, layout: Layout) -> None:
        """Take a row in. Raises OSError when it finds no room on the disk."""
        number, size = (outcome.row - self._start) // CHUNK_ROWS, size_of(outcome)
        chunk = self._chunks.get(number)
        if chunk is None:
            chunk = self._chunks[number] = _Chunk()
        chunk.ended[outcome.row] = kept, outcome
        chunk.bytes += size
        self._chunks_bytes += size
        if len(chunk.ended) == CHUNK_ROWS:
            self._close(number, layout)
        if self._chunks_bytes > WAITING_BYTES:
            self._close_all(layout)

    def _close_all(self, layout: Layout) -> None:
        for number in list(self._chunks):
            self._close(number, layout)

    def _close(self, number: int, layout: Layout) -> None:
        chunk = self._chunks.pop(number)
        self._chunks_bytes -= chunk.bytes
        rows = sorted(chunk.ended)
        batch = layout.batch([chunk.ended[row] for row in rows], self.left_out, self.members_left_out)
        self._pieces.setdefault(number, []).append(_Piece(self._spill.add(batch), rows))

    def batches(self, layout: Layout) -> Iterator[pa.RecordBatch]:
        """All rows in input order. No more can be added."""
        self._close_all(layout)
        for chunk in sorted(self._pieces):
            pieces = self._pieces[chunk]
            if len(pieces) == 1:
                yield self._spill.batch(pieces[0].number)
            else:
                yield from self._in_order(pieces)

    def _in_order(self, pieces: list[_Piece]) -> Iterator[pa.RecordBatch]:
        """Stretches of the pieces, so that all rows are in order. Rows end nearly in order, so few are loaded at a
        time."""
        loaded = OrderedDict[int, pa.RecordBatch]()
        places = sorted((row, piece.number, place) for piece in pieces for place, row in enumerate(piece.rows))
        cuts = [index for index, (one, other) in enumerate(pairwise(places), start=1) if one[1] != other[1]]
        for first, end in pairwise([0, *cuts, len(places)]):
            _, number, place = places[first]
            if number not in loaded:
                loaded[number] = self._spill.batch(number)
                if len(loaded) > _LOADED:
                    loaded.popitem(last=False)
            loaded.move_to_end(number)
            yield loaded[number].slice(place, end - first)

    def close(self) -> None:
        self._spill.close()


def size_of(outcome: Outcome) -> int:
    """About how many bytes an outcome holds: what is long in it. The arguments are once more in its calls."""
    size = len(outcome.content or "") + len(outcome.error or "")
    for call in outcome.calls:
        size += 2 * len(call.arguments)
    return size + _LEAST_BYTES


_LEAST_BYTES = 1_000
