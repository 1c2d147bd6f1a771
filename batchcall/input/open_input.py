"""The input of a job: rows from files, lazily, in batches that fit into memory whatever the files hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from batchcall.base import InputError, close_to
from batchcall.input.files import JSONL, PARQUET, FileSet, find_files
from batchcall.input.hive import HiveTable
from batchcall.input.ids import check_ids, named
from batchcall.input.jsonl import JsonlTable
from batchcall.input.kept_columns import KeptColumns
from batchcall.input.parquet import ParquetTable
from batchcall.input.values import BEGINNING, Batch, Mark, Table

_TABLES: Mapping[str, Callable[[FileSet], Table]] = {PARQUET: ParquetTable, JSONL: JsonlTable}
_SHOWN_COLUMNS = 20  # in a message


def open_input(path: str, *, id_column: str | None = None, output: Path | None = None) -> Input:
    """Find the files of an input and learn its columns: from a footer, or from a sample of the first rows.

    `path` is a file, a directory, a glob or a URI; the parts in the job's own `output` are left out. Raises
    InputError when there is nothing to read there, it cannot be read, or it is empty.
    """
    files = find_files(path, output=output)
    table = _TABLES[files.kind](files)
    if any(file.keys for file in files.files):
        table = HiveTable(table, [(file.name, file.keys) for file in files.files])
    return Input(files, table, id_column=id_column)


class Input:
    """Rows of one or more files, numbered from 0 through all of them. Keeps no file open between calls."""

    def __init__(self, files: FileSet, table: Table, *, id_column: str | None) -> None:
        self._shown = files.shown
        self.changes = files.changes
        self._table = table
        self._rows: int | None = None  # once they were counted
        self.files = files.files
        # Of names, partition keys, sizes and times of change: a changed file is noticed without reading it.
        known = json.dumps([[file.name, file.size, file.mtime_ns, *file.keys] for file in files.files])
        self.fingerprint = hashlib.blake2b(known.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        self.schema: pa.Schema = table.schema
        self.notes = (*files.notes, *table.notes)
        self.columns: tuple[str, ...] = tuple(table.schema.names)
        self._named_by = id_column

    def batches(
        self,
        columns: Collection[str],
        *,
        keep: KeptColumns | None = None,
        start_row: int = 0,
        marks: Sequence[Mark] = (),
    ) -> Iterator[Batch]:
        """Rows from `start_row` on with the values of `columns` and what is to be kept; nothing else is read.

        Raises InputError. Asked for all columns, a row of JSONL brings the values of those too that no row of the
        sample has.

        `marks` are those of batches read before, in any order: what lies before the best of them is not read again.
        A row has no value for a column that it lacks, and None for one that is null. One that the id column does not
        name has a fault, whichever columns are read.
        """
        # A mark may be of a run that saw more files than there are now.
        usable = [mark for mark in marks if mark.row <= start_row and mark.file < len(self.files)]
        start = max(usable, default=BEGINNING)
        if self._named_by is None:
            return self._table.batches(frozenset(columns), start, start_row, keep)
        # The id column is read whichever columns are asked for: a row without a name is a bad row to every reader.
        batches = self._table.batches(frozenset((*columns, self._named_by)), start, start_row, keep)
        return (named(batch, self._named_by) for batch in batches)

    @property
    def can_seek(self) -> bool:
        """Whether reading can begin in the middle of a file. A compressed one is read from its start."""
        return all(file.format.compression is None for file in self.files)

    def count_rows(self) -> int:
        """All rows, unreadable ones too. Reads footers, or the lines without parsing them. Raises InputError."""
        if self._rows is None:
            self._rows = self._table.count_rows()
        return self._rows

    def check_ids(self, column: str) -> int:
        """Count the rows, and raise InputError when the output shows the same in `column` for two of them."""
        kind = self.schema.field(column).type
        self._rows = check_ids(column, kind, lambda: self.batches((column,)), self._table.values_of(column))
        return self._rows

    def kept_schema(self, columns: Collection[str]) -> pa.Schema:
        """These columns with their types, in the order given. Raises InputError when one is missing."""
        self.require(columns, what="output.keep")
        return pa.schema([self.schema.field(name) for name in columns])

    def require(self, columns: Collection[str], *, what: str) -> None:
        """Raise InputError when the input has no such column, or its files disagree on one. `what` needs them."""
        missing = [name for name in columns if name not in self.columns]
        if missing:
            near = [name for wrong in missing for name in close_to(wrong, self.columns)]
            has = ", ".join(self.columns[:_SHOWN_COLUMNS]) + (", …" if len(self.columns) > _SHOWN_COLUMNS else "")
            sentences = [
                f"did you mean {' and '.join(near)}?" if near else "",
                f"it has {has}" if has else "it has no columns",
                self._table.why_no_columns(),
            ]
            names = ("column " if len(missing) == 1 else "columns ") + ", ".join(map(repr, missing))
            hint = "; ".join(filter(None, sentences))
            raise InputError(f"{what} needs {names}, which {self._shown} does not have", hint=hint)
        self._table.check(columns)
