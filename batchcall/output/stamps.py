"""Which requests an output holds an answer to, by request hash: what stands in it now and what was set aside earlier.

Only counts; the answers themselves are `earlier_answers`'s.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from batchcall.base import Status
from batchcall.disk import OWN_FOLDER, Disk, answers_in, aside_number, part_number
from batchcall.output.columns import USAGE_COLUMNS
from batchcall.output.generations import numbered_generations
from batchcall.output.journal import journals_in, read_journals
from batchcall.output.parts import read_batches, stored_answers
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
            for batch in read_batches(disk, parts / name, [*_COLUMNS]):
                yield from _of_batch(batch)
    for paths in journals_in(disk, own).values():
        yield from _of_rows(read_journals(disk, paths).attempts)
    for path in answers.values():  # of parts that are not there
        yield from _of_rows(by_row(stored_answers(disk, path)))


_COLUMNS = ("request_hash", "finished_at", "http_status", "status", "endpoint", *USAGE_COLUMNS)


def _of_batch(batch: pa.RecordBatch) -> Iterator[Stamp]:
    hashes = batch.column("request_hash").to_pylist()
    moments = batch.column("finished_at").cast(pa.int64()).to_pylist()
    http_statuses, statuses = batch.column("http_status").to_pylist(), batch.column("status").to_pylist()
    used = [False] * batch.num_rows
    for name in USAGE_COLUMNS:
        counted = pc.is_valid(batch.column(name)).to_pylist()
        used = [one or other for one, other in zip(used, counted, strict=True)]
    came = [
        is_success(http) and status != Status.BAD_RESPONSE for http, status in zip(http_statuses, statuses, strict=True)
    ]
    endpoints = batch.column("endpoint").to_pylist()
    for request_hash, moment, is_completion, has_tokens, endpoint in zip(
        hashes, moments, came, used, endpoints, strict=True
    ):
        if request_hash is not None:
            yield Stamp(request_hash, moment, is_completion or has_tokens, endpoint)


def _of_rows(rows: dict[int, list[Stored]]) -> Iterator[Stamp]:
    for attempts in rows.values():
        last = attempts[-1]
        is_paid = any(one.is_success for one in attempts)
        if is_paid or last.http_status is not None:
            yield Stamp(last.request_hash, last.finished_us, is_paid, last.endpoint)


class AnswerCount:
    """How many answers there are to each request, in a temporary SQLite file: bounded memory for any output."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        with contextlib.ExitStack() as unless_filled:
            unless_filled.callback(self.close)
            self._table.executescript(
                "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF;"
                "CREATE TABLE answer (hash TEXT, finished_us INTEGER, is_paid INTEGER, is_here INTEGER,"
                " PRIMARY KEY (hash, finished_us)) WITHOUT ROWID; BEGIN"
            )
            self._add(stamps_here(disk, folder), is_here=True)
            self.bought = self.left_here()
            # What stands here goes first, so an answer that a crash left in both places counts as here.
            for generation in numbered_generations(disk, folder / OWN_FOLDER):
                self._add(_stamps(disk, generation, generation, aside_number), is_here=False)
            unless_filled.pop_all()

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
