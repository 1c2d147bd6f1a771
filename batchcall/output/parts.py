"""Finished parts: a Parquet file per fixed range of input rows, and the raw answers beside it. Whole or absent."""

from __future__ import annotations

import contextlib
import io
from bisect import bisect
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from batchcall.base import Attempt, Bill, Outcome, OutputError, Status, Usage
from batchcall.disk import Disk, Sink, whole_file
from batchcall.input import UNREADABLE, KeptColumns, KeptRow, bytes_of
from batchcall.output.answer_columns import ANSWERS_SCHEMA, answers_batch, read_answers
from batchcall.output.columns import OUTCOME_COLUMNS, USAGE_COLUMNS, Layout
from batchcall.output.stored import Stored, microseconds

BATCH_ROWS = 250  # turned into Arrow together: few enough that they are still in the processor's cache
_READ_ROWS = 500
_READ_BYTES = 8 * 1024 * 1024  # a batch that is read has about this
_WRITE_BYTES = 1 << 18
_COMPRESSION = "zstd"
_GROUP_ROWS = 10_000  # of a Parquet row group
_GROUP_BYTES = 16 * 1024 * 1024  # of a row group; it is in memory until it is written, and again where it is read
_HELD_BYTES = 4 * 1024 * 1024  # of raw answers that are not Arrow yet
_ANSWERS_GROUP_ROWS = 1_000
_LOADED_BYTES = 64 * 1024 * 1024  # of row groups of raw answers that are looked at row by row, in about their order
_FOOTER_KEY = b"batchcall"


class Totals(msgspec.Struct):
    """What rows came to: of a part (in its footer), of a run, of an output. Tokens are None until a row has some."""

    rows: int = 0
    statuses: Counter[str] = msgspec.field(default_factory=Counter)
    attempts: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None  # USD; None when no row has a price
    bill: Bill = msgspec.field(default_factory=Bill)  # what may have been paid beside that, and brought nothing

    def count(self, outcome: Outcome, times: int = 1) -> None:
        """Add a row. With `times` = -1, remove it: it is done again, and will count what it cost so far as well."""
        self.rows += times
        self.statuses[outcome.status] += times
        self.attempts += outcome.attempts * times
        self.spend(outcome.usage, outcome.cost, times)

    def spend(self, usage: Usage | Totals, cost: float | None, times: int = 1) -> None:
        """Take in what answers used and cost."""
        if usage.prompt_tokens is not None:
            self.prompt_tokens = (self.prompt_tokens or 0) + usage.prompt_tokens * times
        if usage.completion_tokens is not None:
            self.completion_tokens = (self.completion_tokens or 0) + usage.completion_tokens * times
        if usage.total_tokens is not None:
            self.total_tokens = (self.total_tokens or 0) + usage.total_tokens * times
        if usage.cached_tokens is not None:
            self.cached_tokens = (self.cached_tokens or 0) + usage.cached_tokens * times
        if usage.reasoning_tokens is not None:
            self.reasoning_tokens = (self.reasoning_tokens or 0) + usage.reasoning_tokens * times
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost * times

    def add(self, other: Totals) -> None:
        self.rows += other.rows
        self.statuses.update(other.statuses)
        self.attempts += other.attempts
        self.bill.add(other.bill)
        self.spend(other, other.cost)

    @property
    def failed(self) -> int:
        return self.rows - self.statuses[Status.OK]

    def as_json(self) -> dict[str, Any]:
        """As the footer of a part and run.json have it."""
        # 64 bits are what JSON readers hold; an absurd count of an endpoint must not keep the file from being written.
        counts = {name: getattr(self, name) for name in USAGE_COLUMNS}
        return {
            "rows": self.rows,
            "ok": self.statuses[Status.OK],
            "failed": self.failed,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items()) if count},
            "attempts": self.attempts,
            **{name: None if count is None else max(0, min(count, 2**63 - 1)) for name, count in counts.items()},
            "cost": self.cost,
            "possibly_paid_twice": dict(sorted(self.bill.possibly_paid_twice.items())),
            "indeterminate": self.bill.indeterminate,
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Totals:
        return cls(
            rows=written["rows"],
            statuses=Counter(written["statuses"]),
            attempts=written["attempts"],
            **{name: written[name] for name in USAGE_COLUMNS},
            cost=written["cost"],
            bill=Bill(written.get("indeterminate", 0), dict(written.get("possibly_paid_twice", {}))),
        )


def write_part(disk: Disk, path: Path, layout: Layout, batches: Iterable[pa.RecordBatch], totals: Totals) -> None:
    """Write a part whole: its rows in order, its totals in the footer. Raises OSError."""
    # With the totals in the footer, what is done and what it cost is known without reading a row: ten million rows
    # resume by a look at a folder and its footers.
    schema = layout.schema.with_metadata({_FOOTER_KEY: orjson.dumps(totals.as_json())})
    with _table_writer(disk, path, schema) as writer:
        groups = _Groups(writer, schema, _GROUP_ROWS)
        for batch in batches:
            groups.add(batch)
        groups.write()


class AnswersFile:
    """The raw answers of a part, written as rows end, so that memory stays small. Stands once it is finished.

    Raises OSErrors of the disk; then it is abandoned.
    """

    def __init__(self, disk: Disk, path: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._held: list[Attempt] = []
        self._held_bytes = 0
        # The file stays open for as long as this object is used. Where it cannot be opened, the block closes what was;
        # where it can, the stack is taken out of the block, which then closes nothing.
        with self._stack:
            writer = self._stack.enter_context(_table_writer(disk, path, ANSWERS_SCHEMA))
            self._groups = _Groups(writer, ANSWERS_SCHEMA, _ANSWERS_GROUP_ROWS)
            self._stack = self._stack.pop_all()

    def add(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            self._held.append(attempt)
            self._held_bytes += _body_bytes(attempt)
        if len(self._held) >= BATCH_ROWS or self._held_bytes > _HELD_BYTES:
            self._write_held()

    def _write_held(self) -> None:
        self._groups.add(answers_batch(self._held))
        self._held, self._held_bytes = [], 0

    def finish(self) -> None:
        """Put the file under its name, durably."""
        with self._stack:  # its end is that of the file: footer, sync, rename, sync of the folder
            if self._held:
                self._write_held()
            self._groups.write()

    def abandon(self) -> None:
        """Leave nothing behind."""
        # `whole_file` gives a file its name unless its block raises.
        with contextlib.suppress(_Abandoned, OSError), self._stack:
            raise _Abandoned


class _Abandoned(Exception):
    """Ends a file that is not to stand."""


class _Groups:
    """Batches on their way into a file, by row groups that are bounded in rows and in bytes."""

    def __init__(self, writer: Any, schema: pa.Schema, most_rows: int) -> None:
        self._writer = writer
        self._schema = schema
        self._most_rows = most_rows
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        if self._rows + batch.num_rows > self._most_rows:
            self.write()
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += bytes_of(batch)
        if self._bytes > _GROUP_BYTES:
            self.write()

    def write(self) -> None:
        if self._batches:
            table = pa.Table.from_batches(self._batches, self._schema.remove_metadata())
            self._writer.write_table(table.replace_schema_metadata(self._schema.metadata), row_group_size=self._rows)
        self._batches, self._rows, self._bytes = [], 0, 0


@contextlib.contextmanager
def _table_writer(disk: Disk, path: Path, schema: pa.Schema) -> Iterator[Any]:
    """A Parquet file to write; it stands at `path` once the block ends well."""
    # Closed from the inside out: the footer is written, the buffer emptied, the file synced and renamed. An exception
    # goes the same way, and ends in the removal of the file. Checksums make an error of a flipped bit that would else
    # be a wrong value.
    repeating = [name for name in schema.names if name not in _EACH_ITS_OWN]
    # Nobody looks for the first and the last of all answers by the alphabet, and each is copied to find them.
    compared = [name for name in schema.names if name != "body"] if schema is ANSWERS_SCHEMA else True
    with (
        whole_file(disk, path) as handle,
        io.BufferedWriter(Sink(disk, handle), _WRITE_BYTES) as buffer,  # pyarrow writes by the page
        pa.PythonFile(buffer, mode="w") as sink,
        pq.ParquetWriter(
            sink,
            schema,
            compression=_COMPRESSION,
            use_dictionary=repeating,
            write_statistics=compared,
            write_page_checksum=True,
        ) as writer,
    ):
        yield writer


# Columns whose values do not repeat: to look for repetitions in them costs time and finds none.
_EACH_ITS_OWN = frozenset({"row", "body", "request_hash", "response_id", "sent_at", "latency_s", "finished_at"})


def read_totals(disk: Disk, path: Path) -> Totals:
    """The totals in a part's footer; its rows are not read. Raises OutputError when it is not one of our parts."""
    with readable(path, as_what="as a part"), _opened(disk, path) as file:
        return Totals.from_json(orjson.loads(file.metadata.metadata[_FOOTER_KEY]))


def kept_schema_of(disk: Disk, path: Path) -> pa.Schema:
    """The kept columns of a part, as they stand in it. Raises OutputError when it cannot be read."""
    with readable(path), _opened(disk, path) as file:
        return pa.schema([column for column in file.schema_arrow if column.name not in OUTCOME_COLUMNS])


def read_rows(disk: Disk, path: Path, layout: Layout) -> Iterator[tuple[KeptRow, Outcome]]:
    """The rows of a part: kept columns and outcome. Raises OutputError when it cannot be read."""
    for batch in read_batches(disk, path):
        with readable(path):
            yield from layout.read(batch)


@contextlib.contextmanager
def open_part(disk: Disk, path: Path) -> Iterator[PartReader]:
    """A part as it stands, whatever its columns. Raises OutputError when it cannot be read, the reader too."""
    with readable(path), _opened(disk, path) as file:
        yield PartReader(path, file)


class PartReader:
    """One part, opened: what it says of itself, and its rows."""

    def __init__(self, path: Path, file: Any) -> None:
        self._path = path
        self._file = file
        self.schema: pa.Schema = file.schema_arrow.remove_metadata()
        if missing := set(OUTCOME_COLUMNS) - set(self.schema.names):
            raise KeyError(f"no column {', '.join(sorted(missing))}")
        self.totals = Totals.from_json(orjson.loads(file.metadata.metadata[_FOOTER_KEY]))

    def outcomes(self) -> Iterator[Outcome]:
        """Its rows without the kept columns; these are read as well, as damage shows only in what is read."""
        layout = Layout(pa.schema([]), None)
        with readable(self._path):
            for batch in _batches_of(self._file):
                yield from (outcome for _, outcome in layout.read(batch))


def read_batches(
    disk: Disk, path: Path, columns: list[str] | None = None, *, group: int | None = None
) -> Iterator[pa.RecordBatch]:
    """A part or an answers file, or one row group of it, in batches, in bounded memory. Raises OutputError when it
    cannot be read.

    The content of its pages is checked by their checksums. A batch has all of the `columns`; our own texts are UTF-8.
    """
    with readable(path), _opened(disk, path) as file:
        if missing := set(columns or ()) - set(file.schema_arrow.names):
            raise KeyError(f"no column {', '.join(sorted(missing))}")
        names = frozenset(file.schema_arrow.names)
        ours = names & set(OUTCOME_COLUMNS) if "status" in names else names  # what is kept is as it was in the input
        for batch in _batches_of(file, columns, group):
            batch.select([name for name in batch.schema.names if name in ours]).validate(full=True)
            yield batch


def _batches_of(file: Any, columns: list[str] | None = None, only: int | None = None) -> Iterator[pa.RecordBatch]:
    """By row group, as each says how large its rows are."""
    for number in range(file.metadata.num_row_groups) if only is None else (only,):
        group = file.metadata.row_group(number)
        rows = max(1, min(_READ_ROWS, group.num_rows * _READ_BYTES // max(1, group.total_byte_size)))
        yield from file.iter_batches(rows, row_groups=[number], columns=columns, use_threads=False)


@contextlib.contextmanager
def _opened(disk: Disk, path: Path) -> Iterator[Any]:
    with (
        disk.open_read(path) as source,
        pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 16, page_checksum_verification=True) as file,
    ):
        yield file


def read_raw(disk: Disk, path: Path) -> Iterator[Attempt]:
    """The attempts of an answers file, in the order written. Raises OutputError when it cannot be read."""
    for batch in read_batches(disk, path):
        with readable(path):
            yield from read_answers(batch)


def stored_answers(disk: Disk, path: Path) -> Iterator[Stored]:
    """The attempts of an answers file, in the order written; their answers stay in it. Raises OutputError."""
    with readable(path), _opened(disk, path) as file:
        groups = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    loaded = _LoadedAnswers(disk, path, groups)
    place = 0
    for batch in read_batches(disk, path, _STORED_COLUMNS):
        columns = (batch.column(name).to_pylist() for name in _STORED_COLUMNS)
        for sent_at_s, latency_s, row, number, request_hash, http_status, endpoint in zip(*columns, strict=True):
            read = partial(loaded.attempt, place)
            yield Stored(row, number, request_hash, microseconds(sent_at_s + latency_s), http_status, endpoint, read)
            place += 1


_STORED_COLUMNS = ["sent_at_s", "latency_s", "row", "number", "request_hash", "http_status", "endpoint"]


class _LoadedAnswers:
    """The attempts of an answers file by their place in it, from the row groups that were looked at last."""

    def __init__(self, disk: Disk, path: Path, groups: list[int]) -> None:
        """`groups`: how many rows each row group has."""
        self._disk = disk
        self._path = path
        self._starts = [0, *accumulate(groups)]
        self._loaded = OrderedDict[int, list[Attempt]]()

    # Answers stand in the order in which they came, and are looked at in that of the rows, which is nearly the same. So
    # some row groups are held at a time: the one that was used longest ago goes first, and the last always stays.
    def attempt(self, place: int) -> Attempt:
        group = bisect(self._starts, place) - 1
        if group not in self._loaded:
            batches = read_batches(self._disk, self._path, group=group)
            with readable(self._path):
                self._loaded[group] = [one for batch in batches for one in read_answers(batch)]
            while len(self._loaded) > 1 and self._bytes() > _LOADED_BYTES:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(group)
        return self._loaded[group][place - self._starts[group]]

    def _bytes(self) -> int:
        return sum(map(_body_bytes, chain.from_iterable(self._loaded.values())))


def _body_bytes(attempt: Attempt) -> int:
    return len(attempt.response.body) if attempt.response is not None else 0


@contextlib.contextmanager
def readable(path: Path, *, as_what: str = "") -> Iterator[None]:
    """What a damaged part or answers file raises, as OutputError."""
    try:
        yield
    except UNREADABLE as error:
        why = " ".join(str(error).split())[:200]  # in one line
        raise OutputError(
            f"{path} cannot be read{' ' if as_what else ''}{as_what}: {type(error).__name__}: {why}",
            hint="move the file away and run the job again: its rows are rebuilt from the stored answers at no cost,"
            " and asked again only where those are missing too",
        ) from error


class Wanted(msgspec.Struct, frozen=True):
    """What a row of the input makes: the requests whose answers fit it, and what is kept of it."""

    hashes: set[str | None]
    kept: KeptRow | None


class Match(Enum):
    """What the input makes of a row that is in a part."""

    SAME = "same"
    EDITED = "edited"  # the same request, and other values of what is kept
    OTHER = "other"  # another request
    UNKNOWN = "unknown"  # no row at all


def fits(disk: Disk, path: Path, wanted: Mapping[int, Wanted], layout: Layout) -> bool:
    """Whether every row of a part is wanted: the answer to one of its requests, and what is kept of it."""
    return all(match is Match.SAME for _, match in matches(disk, path, wanted, layout.kept))


def matches(
    disk: Disk, path: Path, wanted: Mapping[int, Wanted], kept: KeptColumns | None
) -> Iterator[tuple[int, Match]]:
    """Each row of a part, compared with what is wanted of it; its kept columns too where `kept` is given."""
    names = kept.schema.names if kept is not None else []
    for batch in read_batches(disk, path, columns=["row", "request_hash", *names]):
        rows = batch.column("row").to_pylist()
        edited = frozenset[int]()  # places of rows whose kept columns are not those of the input
        if kept is not None:
            # Nearly always all is as it was, so columns are compared whole first, and row by row only where they
            # differ.
            now = kept.gathered([wanted[row].kept if row in wanted else None for row in rows])
            was = [batch.column(name) for name in names]
            changed = [pair for pair in zip(was, now, strict=True) if not _is_same(*pair)]
            edited = frozenset(
                place
                for place in range(batch.num_rows)
                if any(not _is_same(old.slice(place, 1), new.slice(place, 1)) for old, new in changed)
            )
        for place, (row, request_hash) in enumerate(zip(rows, batch.column("request_hash").to_pylist(), strict=True)):
            if row not in wanted:
                yield row, Match.UNKNOWN
            elif request_hash not in wanted[row].hashes:
                yield row, Match.OTHER
            else:
                yield row, Match.EDITED if place in edited else Match.SAME


def _is_same(one: pa.Array, other: pa.Array) -> bool:
    """Whether two arrays hold the same values. Put together first: then dictionaries are the same, too."""
    if one.type != other.type:
        return False
    both = pa.concat_arrays([one, other])
    return bool(both.slice(0, len(one)).equals(both.slice(len(one))))
