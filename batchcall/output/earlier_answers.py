"""What was bought before, found again by request when the input, the job or the columns changed.

A row whose request equals one that was answered takes that answer, wherever either stands; each answer is taken once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, groupby, starmap
from pathlib import Path

import msgspec
import orjson
import pyarrow as pa
from msgspec.structs import replace

from batchcall.base import Attempt, Outcome, Usage
from batchcall.disk import (
    ANSWERS_FOLDER,
    Disk,
    answers_in,
    answers_name,
    aside_name,
    aside_number,
    part_name,
    part_numbers,
    remove_tree,
    whole_file,
    write_fully,
)
from batchcall.output.columns import OUTCOME_COLUMNS, Layout
from batchcall.output.generations import new_generation, numbered_generations
from batchcall.output.journal import journal_name, journals_in, read_journals
from batchcall.output.journal_records import as_attempt, attempt_line, attempt_record
from batchcall.output.parts import AnswersFile, Totals, read_batches, readable, stored_answers, write_part
from batchcall.output.scratch import new_tables
from batchcall.output.stored import Stored, by_row, is_success, microseconds
from batchcall.output.waiting import Waiting

_KEY_COLUMNS = ["request_hash", "finished_at", "attempts"]
_GENERATION_ROWS = 10_000  # of a part of answers that nobody took


# An answer may be in several places at a time, as a crash can leave a move half done. Its key is the hash of the
# request and the moment when it came: the same key is the same answer, and is known once.
#
#     where it is                         as what it is known
#     a part that was set aside           the outcome of its row, and its raw answers where they are kept
#     raw answers or a journal that       its attempts; how the row ended is read from them
#     were set aside, without a part
#     a part or journal of the output     taken already


class Bought(msgspec.Struct, frozen=True):
    """An answer that was paid for: how its row ended, where that was written, and the raw answers that were kept."""

    outcome: Outcome | None
    attempts: tuple[Attempt, ...]


class EarlierAnswers:
    """Answers of earlier generations that no row has taken yet."""

    def __init__(self, disk: Disk, folder: Path, own: Path) -> None:
        """Read every earlier generation. What stands in the present parts and journals was taken already."""
        self._disk = disk
        self._own = own
        self._layout = Layout(pa.schema([]), None)
        self.last_taken = ("", 0)  # hash and moment of the answer that was taken last
        self._schemas: list[pa.Schema] = []  # of the parts read; the arguments differ in type from job to job
        with new_tables(
            "CREATE TABLE bought (hash TEXT, finished_us INTEGER, answered INTEGER, schema INTEGER, outcome BLOB,"
            " attempts BLOB, tokens INTEGER, cost REAL,"
            " PRIMARY KEY (hash, finished_us)) WITHOUT ROWID;"
            # Apart from the answers: SQLite keeps in memory what a transaction changes, until it ends.
            "CREATE TABLE untaken (hash TEXT, answered INTEGER, finished_us INTEGER,"
            " PRIMARY KEY (hash, answered DESC, finished_us)) WITHOUT ROWID;"
            "CREATE TABLE counted (hash TEXT, finished_us INTEGER, PRIMARY KEY (hash, finished_us)) WITHOUT ROWID"
        ) as self._table:
            for generation in numbered_generations(self._disk, self._own):
                self._learn(generation)
            self._table.execute("INSERT INTO untaken SELECT hash, answered, finished_us FROM bought")
            self._learnt = len(self)
            for key in self._present(folder):
                self._table.execute("DELETE FROM untaken WHERE hash = ? AND finished_us = ?", key)

    def __len__(self) -> int:
        return int(self._table.execute("SELECT count(*) FROM untaken").fetchone()[0])

    def take(self, request_hash: str) -> Bought | None:
        """The oldest answer to this request that no row has taken, None when there is none.

        Attempts that brought no completion come last: taken first, they would leave a paid answer where it is.
        """
        found = self._table.execute(
            "SELECT finished_us FROM untaken WHERE hash = ? ORDER BY answered DESC, finished_us LIMIT 1",
            (request_hash,),
        ).fetchone()
        if found is None:
            return None
        key = (request_hash, found[0])
        self._table.execute("DELETE FROM untaken WHERE hash = ? AND finished_us = ?", key)
        self.last_taken = key
        query = "SELECT schema, outcome, attempts FROM bought WHERE hash = ? AND finished_us = ?"
        return self._bought(*self._table.execute(query, key).fetchone())

    def give_back(self, key: tuple[str, int]) -> None:
        """Whoever took the answer with this key (`last_taken`) has not kept it."""
        self._table.execute(
            "INSERT OR IGNORE INTO untaken SELECT hash, answered, finished_us FROM bought"
            " WHERE hash = ? AND finished_us = ?",
            key,
        )

    def untaken(self) -> Iterator[tuple[Usage, float | None, tuple[Attempt, ...]]]:
        """What each answer that no row has taken used and cost (USD); or its attempts, where no outcome has that.

        Those that another answer or a present row counts are left out: a row that was tried again counts all attempts.
        """
        found = self._table.execute(
            "SELECT tokens, cost, CASE WHEN outcome IS NULL THEN attempts END"
            " FROM untaken JOIN bought USING (hash, finished_us)"
            " WHERE NOT EXISTS (SELECT 1 FROM counted"
            " WHERE counted.hash = bought.hash AND counted.finished_us = bought.finished_us)"
        )
        for tokens, cost, attempts in found:
            yield Usage(total_tokens=tokens), cost, _as_attempts(attempts) if attempts is not None else ()

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Answers taken inside the block are back when it ends: to count what there would be."""
        self._table.execute("BEGIN")
        try:
            yield
        finally:
            self._table.execute("ROLLBACK")

    def close(self) -> None:
        self._table.close()

    def compact(self) -> None:
        """Once every row is in: keep what no row took as one generation, remove the others. Raises OSError.

        A removal that a crash undoes does no harm: an answer that stands twice is known once.
        """
        generations = numbered_generations(self._disk, self._own)
        if not generations or (len(generations) == 1 and len(self) == self._learnt):
            return
        if len(self):
            self._write_generation(new_generation(self._disk, self._own))
        for generation in generations:
            remove_tree(self._disk, generation)

    def _write_generation(self, folder: Path) -> None:
        """Every answer as a row of its own, as several may have been at one row in turn. Those without an outcome go to
        journals, the others to parts with their raw answers."""
        for number, bought in groupby(enumerate(self._left("outcome IS NOT NULL")), key=_part_of):
            self._write_part(folder, number, bought)
        for number, bought in groupby(enumerate(self._left("outcome IS NULL")), key=_part_of):
            with whole_file(self._disk, folder / journal_name(number)) as handle:
                for row, one in bought:
                    for attempt in one.attempts:
                        write_fully(self._disk, handle, attempt_line(replace(attempt, row=row)))

    def _left(self, which: str) -> Iterator[Bought]:
        query = f"SELECT schema, outcome, attempts FROM untaken JOIN bought USING (hash, finished_us) WHERE {which}"
        return starmap(self._bought, self._table.execute(query))

    def _bought(self, schema: int | None, outcome: bytes | None, attempts: bytes) -> Bought:
        if schema is None or outcome is None:
            return Bought(None, _as_attempts(attempts))
        batch = pa.ipc.read_record_batch(pa.py_buffer(outcome), self._schemas[schema])
        return Bought(self._layout.read(batch)[0][1], _as_attempts(attempts))

    def _write_part(self, folder: Path, number: int, bought: Iterable[tuple[int, Bought]]) -> None:
        totals, answers = Totals(), AnswersFile(self._disk, folder / ANSWERS_FOLDER / answers_name(number))
        waiting = Waiting(self._disk, folder / journal_name(number), number * _GENERATION_ROWS)
        with contextlib.closing(waiting):
            for row, one in bought:
                answers.add(replace(attempt, row=row) for attempt in one.attempts)
                if one.outcome is not None:
                    totals.count(one.outcome)
                    waiting.add(None, replace(one.outcome, row=row), self._layout)
            answers.finish()
            write_part(self._disk, folder / aside_name(number), self._layout, waiting.batches(self._layout), totals)

    def _learn(self, generation: Path) -> None:
        answers = answers_in(self._disk, generation)
        for name in self._disk.names(generation):
            if (number := aside_number(name)) is not None:
                self._learn_part(generation / name, answers.pop(number, None))
        for path in answers.values():  # a crash took their parts
            self._learn_attempts(by_row(stored_answers(self._disk, path)))
        for paths in journals_in(self._disk, generation).values():
            self._learn_attempts(read_journals(self._disk, paths).attempts)

    def _learn_part(self, path: Path, answers: Path | None) -> None:
        raw = by_row(stored_answers(self._disk, answers)) if answers is not None else {}
        for batch in read_batches(self._disk, path, columns=list(OUTCOME_COLUMNS)):
            if batch.schema not in self._schemas:
                self._schemas.append(batch.schema)
            schema = self._schemas.index(batch.schema)
            with readable(path):
                outcomes = self._layout.read(batch)
            for place, (_, outcome) in enumerate(outcomes):
                if outcome.request_hash is not None and outcome.attempts:
                    # As Arrow, so that it is read back exactly as it stood. Rows of one schema share it.
                    written = batch.slice(place, 1).serialize().to_pybytes()
                    attempts = raw.get(outcome.row, [])
                    answered = is_success(outcome.http_status) or any(one.is_success for one in attempts)
                    finished_us = microseconds(outcome.finished_at_s)
                    of_row = (schema, written, outcome.usage.total_tokens, outcome.cost)
                    self._insert(outcome.request_hash, finished_us, answered, attempts, of_row)

    def _learn_attempts(self, rows: Mapping[int, list[Stored]]) -> None:
        """Rows whose outcome is in no part."""
        for attempts in rows.values():
            if any(one.http_status is not None for one in attempts):  # the last may be a connection that was lost
                last, answered = attempts[-1], any(one.is_success for one in attempts)
                self._insert(last.request_hash, last.finished_us, answered, attempts)

    def _insert(
        self,
        request_hash: str,
        finished_us: int,
        answered: bool,
        attempts: list[Stored],
        of_row: tuple[int | None, bytes | None, int | None, float | None] = (None, None, None, None),
    ) -> None:
        """A row may stand in a part and in a journal that was kept: `of_row` (schema, outcome, tokens, cost) is from
        the one, the attempts are the longer ones."""
        raw = orjson.dumps([attempt_record(one.read()) for one in attempts])
        self._table.execute(
            "INSERT INTO bought (hash, finished_us, answered, attempts, schema, outcome, tokens, cost)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " answered = max(answered, excluded.answered), schema = coalesce(schema, excluded.schema),"
            " outcome = coalesce(outcome, excluded.outcome), tokens = coalesce(excluded.tokens, tokens),"
            " cost = coalesce(excluded.cost, cost),"
            " attempts = CASE WHEN length(attempts) >= length(excluded.attempts) THEN attempts"
            " ELSE excluded.attempts END",
            (request_hash, finished_us, answered, raw, *of_row),
        )
        self._count(attempts[:-1])

    def _count(self, attempts: Iterable[Stored]) -> None:
        """These attempts are counted elsewhere."""
        keys = ((one.request_hash, one.finished_us) for one in attempts)
        self._table.executemany("INSERT OR IGNORE INTO counted VALUES (?, ?)", keys)

    def _present(self, folder: Path) -> Iterator[tuple[str | None, int]]:
        """The keys of the answers that the rows of the output have now."""
        import pyarrow.compute as pc

        standing = answers_in(self._disk, self._own)
        for number in part_numbers(self._disk, folder):
            is_retried = False
            for batch in read_batches(self._disk, folder / part_name(number), _KEY_COLUMNS):
                is_retried = is_retried or bool(pc.any(pc.greater(batch.column("attempts"), 1)).as_py())
                finished = batch.column("finished_at").cast(pa.int64()).to_pylist()
                yield from zip(batch.column("request_hash").to_pylist(), finished, strict=True)
            if is_retried and (answers := standing.get(number)) is not None:
                self._count(stored_answers(self._disk, answers))
        # Of rows that are in no part yet: a run that died between a part's answers and the part left these.
        journals = journals_in(self._disk, self._own)
        in_journals = (read_journals(self._disk, paths).attempts for paths in journals.values())
        beside_parts = (
            by_row(stored_answers(self._disk, path))
            for number, path in standing.items()
            if number in journals or not self._disk.exists(folder / part_name(number))
        )
        for attempts in (found for rows in chain(in_journals, beside_parts) for found in rows.values()):
            self._count(attempts)
            yield attempts[-1].request_hash, attempts[-1].finished_us


def _part_of(numbered: tuple[int, Bought]) -> int:
    return numbered[0] // _GENERATION_ROWS


def _as_attempts(written: bytes) -> tuple[Attempt, ...]:
    return tuple(as_attempt(record) for record in orjson.loads(written))
