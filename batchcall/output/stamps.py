"""Which requests an output holds an answer to, by request hash: what stands in it now and what was set aside earlier.

Only counts; the answers themselves are `earlier_answers`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from batchcall.base import Status
from batchcall.disk import OWN_FOLDER, Disk, answers_in, aside_number, part_number
from batchcall.output.columns import USAGE_COLUMNS
from batchcall.output.generations import numbered_generations
from batchcall.output.journal import journals_in, read_journals
from batchcall.output.parts import read_batches, stored_answers
from batchcall.output.scratch import new_tables
from batchcall.output.stored import Stored, by_row, is_success


class Stamp(NamedTuple):
    """One row's answer: the same hash and moment mean the same answer, wherever it stands."""

    request_hash: str
    finished_us: int
    is_paid: bool  # a completion came, or tokens were counted; a page with status 200 is not a completion
    endpoint: str | None = None  # that was asked last, as the column says it


def stamps_here(disk: Disk, folder: Path) -> Iterator[Stamp]:
    """Of what stands in an output: parts, journals, and stored answers of parts that are not there.

    Raises OutputError for a part that cannot be read.
    """
    return _stamps(disk, folder, folder / OWN_FOLDER, part_number)


def has_bought(disk: Disk, folder: Path) -> bool:
    """Whether an output holds an answer that was paid for. Raises OutputError."""
    return any(stamp.is_paid for stamp in stamps_here(disk, folder))


def bought_from(disk: Disk, folder: Path) -> set[str | None]:
    """The endpoints whose answers an output holds and were paid for. Raises OutputError."""
    return {stamp.endpoint for stamp in stamps_here(disk, folder) if stamp.is_paid}


def _stamps(disk: Disk, parts: Path, own: Path, number_of: Callable[[str], int | None]) -> Iterator[Stamp]:
    # A part says all that is asked for here. Its raw answers are read only where it is not there.
    answers = answers_in(disk, own)
    for name in disk.names(parts):
        if (number := number_of(name)) is not None:
            answers.pop(number, None)
            for batch in read_batches(disk, parts / name, [*_STAMPED, *USAGE_COLUMNS]):
                yield from _of_batch(batch)
    for paths in journals_in(disk, own).values():
        yield from _of_rows(read_journals(disk, paths).attempts)
    for path in answers.values():  # of parts that are not there
        yield from _of_rows(by_row(stored_answers(disk, path)))


_STAMPED = ("request_hash", "finished_at", "http_status", "status", "endpoint")


def _of_batch(batch: pa.RecordBatch) -> Iterator[Stamp]:
    import pyarrow.compute as pc

    hashes, finished_at, *others = (batch.column(name) for name in _STAMPED)
    has_tokens = reduce(pc.or_, (pc.is_valid(batch.column(name)) for name in USAGE_COLUMNS))
    columns = (hashes, finished_at.cast(pa.int64()), has_tokens, *others)
    for request_hash, moment, is_counted, http_status, status, endpoint in zip(
        *(column.to_pylist() for column in columns), strict=True
    ):
        if request_hash is not None:
            is_completion = is_success(http_status) and status != Status.BAD_RESPONSE
            yield Stamp(request_hash, moment, is_completion or is_counted, endpoint)


def _of_rows(rows: dict[int, list[Stored]]) -> Iterator[Stamp]:
    for attempts in rows.values():
        last = attempts[-1]
        is_paid = any(one.is_success for one in attempts)
        if is_paid or last.http_status is not None:
            yield Stamp(last.request_hash, last.finished_us, is_paid, last.endpoint)


class AnswerCount:
    """How many answers there are to each request."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        with new_tables(
            "CREATE TABLE answer (hash TEXT, finished_us INTEGER, is_paid INTEGER, is_here INTEGER,"
            " PRIMARY KEY (hash, finished_us)) WITHOUT ROWID"
        ) as self._table:
            self._add(stamps_here(disk, folder), is_here=True)
            self.bought = self.left_here()
            # What stands here goes first, so an answer that a crash left in both places counts as here.
            for generation in numbered_generations(disk, folder / OWN_FOLDER):
                self._add(_stamps(disk, generation, generation, aside_number), is_here=False)
        self._table.execute("BEGIN")  # each answer that is taken changes it

    def take(self, request_hash: str) -> bool:
        """Whether there is an answer to this request that was not taken yet, in the output first; takes it."""
        found = self._table.execute(
            "SELECT finished_us FROM answer WHERE hash = ? ORDER BY is_here DESC LIMIT 1", (request_hash,)
        ).fetchone()
        if found is not None:
            self._table.execute("DELETE FROM answer WHERE hash = ? AND finished_us = ?", (request_hash, found[0]))
        return found is not None

    def left_here(self) -> int:
        """Paid answers in the output that were not taken."""
        return int(self._table.execute("SELECT count(*) FROM answer WHERE is_here AND is_paid").fetchone()[0])

    def close(self) -> None:
        self._table.close()

    def _add(self, stamps: Iterator[Stamp], *, is_here: bool) -> None:
        self._table.executemany(
            "INSERT OR IGNORE INTO answer VALUES (?, ?, ?, ?)", ((*stamp[:3], is_here) for stamp in stamps)
        )
