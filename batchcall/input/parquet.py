"""Rows from Parquet: a few hundred at a time, only the columns that are needed, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from batchcall.base import InputError, Row
from batchcall.input.arrow_values import bytes_of
from batchcall.input.files import FileSet, InputFile, reason
from batchcall.input.kept_columns import KeptColumns, KeptRow
from batchcall.input.nanoseconds import as_value, is_nanoseconds
from batchcall.input.unreadable import UNREADABLE
from batchcall.input.values import BATCH_BYTES, BATCH_ROWS, Batch, Mark

_BUFFER_BYTES = 64 * 1024  # per column that is read
_REMOTE_BUFFER_BYTES = 4 * 1024 * 1024  # one request to the store each


class _Footer(NamedTuple):
    rows: int
    schema: pa.Schema


class ParquetTable:
    """Parquet files as a table. Its columns are those of the first file."""

    notes: tuple[str, ...] = ()

    def __init__(self, files: FileSet) -> None:
        """Reads footers, until one counts rows. Raises InputError when one cannot be read, or none counts any."""
        self._files = files
        self._footers: dict[int, _Footer] = {}
        if not any(self._footer(number).rows for number in self._numbers()):
            raise InputError(f"{files.shown} has no rows")
        first = self._footer(0).schema
        self.schema = pa.schema([self._known(field) for field in first.remove_metadata()])

    def batches(
        self, columns: Collection[str], start: Mark, start_row: int, keep: KeptColumns | None = None
    ) -> Iterator[Batch]:
        keep = keep or _KEEP_NOTHING
        asked = [name for name in self.schema.names if name in columns]
        kept = [name for name in self.schema.names if name in keep.names]
        row = start.row
        for number in range(start.file, len(self._files.files)):
            first_group = start.offset if number == start.file else 0
            # A file whose rows are all done is not opened: its footer was read when columns were compared.
            if not first_group and row + self._footer(number).rows <= start_row:
                row += self._footer(number).rows
                continue
            self._check_file(number, {*asked, *kept})
            # Columns that only this file has are read as well, so that their values can be reported as left out.
            found = self._footer(number).schema.names if keep.is_all else ()
            late = [name for name in found if name not in self.schema.names and name not in keep.names]
            wanted = _Wanted(asked, [*kept, *late], keep)
            row = yield from self._batches_of(number, Mark(row, number, first_group), wanted, start_row)

    def values_of(self, column: str) -> Iterator[list[Any]]:
        rows = 0
        for number, file in enumerate(self._files.files):
            rows += self._footer(number).rows
            if not rows:  # as `batches`, which does not look into empty files before the first row
                continue
            self._check_file(number, [column])
            with self._opened(file) as (opened, _):
                for group in range(opened.metadata.num_row_groups):
                    for piece in _pieces(opened, group, [column], file):
                        yield _readable_values(piece.column(0))

    def count_rows(self) -> int:
        return sum(self._footer(number).rows for number in self._numbers())

    def check(self, columns: Collection[str]) -> None:
        for number in self._numbers():
            self._check_file(number, columns)

    def why_no_columns(self) -> str:
        return ""

    def _numbers(self) -> range:
        return range(len(self._files.files))

    def _footer(self, number: int) -> _Footer:
        if number not in self._footers:
            with self._opened(self._files.files[number]) as (_, footer):
                self._footers[number] = footer
        return self._footers[number]

    @contextmanager
    def _opened(self, file: InputFile) -> Iterator[tuple[Any, _Footer]]:
        """The file, open. Only opening it is guarded: what happens later knows better where it was."""
        buffer_bytes = _REMOTE_BUFFER_BYTES if self._files.is_remote else _BUFFER_BYTES
        try:
            handle = self._files.filesystem.open_input_file(file.path)
        except UNREADABLE as error:
            raise InputError(f"{file.name} cannot be opened: {reason(error)}") from error
        with handle:
            try:
                # Without `pre_buffer` memory does not grow with the file: 300 MB are read in 44.
                opened = pq.ParquetFile(
                    handle, pre_buffer=False, buffer_size=buffer_bytes, page_checksum_verification=True
                )
                footer = _footer_of(opened)
            except UNREADABLE as error:
                raise InputError(
                    f"{file.name} cannot be read as Parquet: {reason(error)}",
                    hint="a Parquet file ends with its footer: was this file written and copied completely?",
                ) from error
            names = footer.schema.names
            if twins := [name for name in names if names.count(name) > 1]:
                raise InputError(f"{file.name} has more than one column {twins[0]!r}", hint="rename them")
            yield opened, footer

    def _known(self, field: pa.Field) -> pa.Field:
        """A column that is empty in the first file has its type in another, and one may have nulls in another."""
        if field.nullable and not pa.types.is_null(field.type):
            return field
        found = [
            schema.field(field.name)
            for schema in (self._footer(number).schema for number in self._numbers())
            if _type_of(schema, field.name) is not None
        ]
        types = [one.type for one in found if not pa.types.is_null(one.type)]
        return field.with_type(types[0] if types else field.type).with_nullable(any(one.nullable for one in found))

    def _check_file(self, number: int, columns: Collection[str]) -> None:
        schema, name = self._footer(number).schema, self._files.files[number].name
        for column in columns:
            expected, found = _type_of(self.schema, column), _type_of(schema, column)
            if expected is None:
                continue
            if found is None:
                raise InputError(
                    f"{name} has no column {column!r}, which {self._files.files[0].name} has",
                    hint="choose files with the same columns, or leave the column out of output.keep",
                )
            # Text is text, however it is stored, and a column without a value fits anywhere.
            one, other = _mapped(expected, _decoded_type), _mapped(found, _decoded_type)
            if not (one == other or other == pa.null() or {one, other} <= _TEXTS):
                raise InputError(
                    f"column {column!r} is {found} in {name} and {expected} in {self._files.files[0].name}",
                    hint="rewrite the files with one type, or leave the column out of output.keep",
                )

    def _batches_of(self, number: int, start: Mark, wanted: _Wanted, start_row: int) -> Generator[Batch, None, int]:
        """Rows of one file, from a row group on. Returns the position of the row behind its last."""
        file = self._files.files[number]
        row = start.row
        with self._opened(file) as (opened, _):
            row_in_file = sum(_rows_of(opened, group) for group in range(start.offset))
            to_input = row - row_in_file  # added to a row's position in the file
            for group in range(start.offset, opened.metadata.num_row_groups):
                mark = Mark(row, number, group)
                if row + _rows_of(opened, group) <= start_row:
                    row += _rows_of(opened, group)
                    continue
                for piece in _pieces(opened, group, wanted.read, file):
                    skipped = min(max(0, start_row - row), piece.num_rows)
                    first = row + skipped
                    row += piece.num_rows
                    if skipped < piece.num_rows:
                        yield Batch(_as_rows(piece.slice(skipped), wanted, first, f"{file.name} row", to_input), mark)
        return row


def _footer_of(opened: Any) -> _Footer:
    """Raises ValueError, and what pyarrow does, where it is damaged.

    Nothing is asked about its columns: a damaged statistic would end the process, inside pyarrow.
    """
    metadata, schema = opened.metadata, opened.schema_arrow
    str(schema)  # every name in it is text
    rows = [_rows_of(opened, group) for group in range(metadata.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
        raise ValueError(f"its footer counts {metadata.num_rows:,} rows, its row groups {sum(rows):,}")
    return _Footer(metadata.num_rows, schema)


_KEEP_NOTHING = KeptColumns(pa.schema([]))


class _Wanted(NamedTuple):
    """What is read of a file."""

    asked: list[str]  # columns whose values make requests
    carried: list[str]  # what is kept, and what only later files have: that is reported
    keep: KeptColumns

    @property
    def read(self) -> list[str]:
        return list(dict.fromkeys((*self.asked, *self.carried)))

    def kept_of(self, piece: pa.RecordBatch) -> Sequence[KeptRow | None]:
        if self.keep is _KEEP_NOTHING:
            return [None] * piece.num_rows
        return self.keep.of_arrays({name: piece.column(name) for name in self.carried}, piece.num_rows)


def _rows_of(opened: Any, group: int) -> int:
    return int(opened.metadata.row_group(group).num_rows)


def _pieces(opened: Any, group: int, wanted: list[str], file: InputFile) -> Iterator[pa.RecordBatch]:
    """A row group in pieces small enough to become Python objects."""
    done, expected = 0, _rows_of(opened, group)
    try:
        # As many rows as fit, on the average, into a batch. Estimated with all columns, wanted or not: to ask for the
        # size of one makes pyarrow read its statistics. Rows may differ in size, so a batch that is too large is cut.
        all_rows = max(1, opened.metadata.num_rows)
        size = int(max(opened.metadata.row_group(group).total_byte_size, file.size * expected // all_rows, 1))
        at_once = max(1, min(BATCH_ROWS, expected * BATCH_BYTES // size))
        for batch in opened.iter_batches(at_once, row_groups=[group], columns=wanted, use_threads=False):
            rows = max(1, batch.num_rows * BATCH_BYTES // max(bytes_of(batch), BATCH_BYTES))
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)
            done += batch.num_rows
        if done != expected:
            raise ValueError(f"it ends there, although its footer counts {expected:,} rows")
    except UNREADABLE as error:
        raise InputError(
            f"{file.name} cannot be read from row {done:,} of its row group {group} on: {reason(error)}",
            hint="restore the file, then run the same command again",
        ) from error


def _as_rows(piece: pa.RecordBatch, wanted: _Wanted, first: int, where: str, to_input: int) -> list[Row]:
    kept = wanted.kept_of(piece)
    # All values of a column at once is the fast way. It fails for the whole piece where one value has no Python object.
    try:
        columns = [_values(piece.column(name)) for name in wanted.asked]
    except UNREADABLE:
        return _as_rows_one_by_one(piece, wanted.asked, kept, first, where, to_input)
    rows = zip(*columns, strict=True) if columns else repeat((), len(kept))
    return [
        Row(index, dict(zip(wanted.asked, values, strict=True)), f"{where} {index - to_input}", None, of_row)
        for index, (values, of_row) in enumerate(zip(rows, kept, strict=True), first)
    ]


def _as_rows_one_by_one(
    piece: pa.RecordBatch, asked: list[str], kept: Sequence[KeptRow | None], first: int, where: str, to_input: int
) -> list[Row]:
    """For a piece with a value that Python cannot hold: text that is not UTF-8, the year 30000."""
    rows = []
    for place, of_row in enumerate(kept):
        values: dict[str, Any] = {}
        fault = None
        for name in asked:
            column = piece.column(name)
            try:
                values[name] = _values(column.slice(place, 1))[0]
            except UNREADABLE as error:
                why = _BEYOND_PYTHON if pa.types.is_temporal(column.type) else reason(error)
                values, fault = {}, f"column {name!r} cannot be read: {why}"
                break
        rows.append(Row(first + place, values, f"{where} {first + place - to_input}", fault, of_row))
    return rows


_BEYOND_PYTHON = "the request needs it, and its time or duration is outside the years 1 to 9999"


def _values(column: pa.Array) -> list[Any]:
    """The column as Python can take it without pandas; nanoseconds beyond whole microseconds by a type of ours."""
    # pyarrow makes pandas objects of nanoseconds, or refuses. Cast to microseconds they become Python's own. Where that
    # would cut digits they come as plain numbers, and `as_value` makes objects with all nine digits of them.
    readable = _mapped(column.type, _read_type)
    try:
        values: list[Any] = (column if readable == column.type else column.cast(readable)).to_pylist()
        return values
    except pa.ArrowInvalid:
        counted_type = _mapped(column.type, lambda kind: pa.int64() if is_nanoseconds(kind) else _read_type(kind))
        counted = column.cast(counted_type, safe=False)
        return [as_value(value, column.type) for value in counted.to_pylist()]


def _readable_values(column: pa.Array) -> list[Any]:
    """The column, with None for what Python cannot take."""
    try:
        return _values(column)
    except UNREADABLE:
        if len(column) == 1:
            return [None]
        return [value for place in range(len(column)) for value in _readable_values(column.slice(place, 1))]


def _read_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    return _decoded_type(kind)


def _decoded_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _mapped(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """The type with `change` applied to all that it is made of."""
    if pa.types.is_struct(kind):
        return pa.struct([inner.with_type(_mapped(inner.type, change)) for inner in kind])
    if pa.types.is_list(kind):
        return pa.list_(_mapped_element(kind, change))
    if pa.types.is_large_list(kind):
        return pa.large_list(_mapped_element(kind, change))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_mapped_element(kind, change), kind.list_size)
    if pa.types.is_map(kind):
        return pa.map_(_mapped(kind.key_type, change), _mapped(kind.item_type, change))
    return change(kind)


def _mapped_element(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.Field:
    return kind.value_field.with_type(_mapped(kind.value_type, change))


def _type_of(schema: pa.Schema, name: str) -> pa.DataType | None:
    index = schema.get_field_index(name)
    return None if index < 0 else schema.field(index).type


_TEXTS = {pa.string(), pa.large_string(), pa.string_view()}
