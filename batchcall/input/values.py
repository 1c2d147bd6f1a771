"""The values that the modules of the input share: where in it a batch begins, and what a batch is."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, Protocol

import msgspec
import pyarrow as pa

from batchcall.base import Row
from batchcall.input.kept_columns import KeptColumns

BATCH_ROWS = 512
BATCH_BYTES = 4 * 1024 * 1024  # of text; a batch may pass it by one row


class Mark(NamedTuple):
    """A place to begin reading at. `list(mark)` is what a record keeps, `Mark(*kept)` brings it back."""

    row: int  # position in the input of the first row behind this place
    file: int  # which of the input's files
    offset: int  # plain JSONL: byte; Parquet: row group; compressed: 0, they are read from their start
    line: int = 0  # of a JSONL file, from 1; 0 where it was not noted: then the lines before are counted


BEGINNING = Mark(row=0, file=0, offset=0, line=1)


class Batch(msgspec.Struct, frozen=True):
    """Consecutive rows, at least one; never of two files."""

    rows: list[Row]
    mark: Mark  # at or before the first of the rows


class Table(Protocol):
    """The files of an input, read by the rules of their format."""

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of how the files are read."""

    def batches(
        self, columns: Collection[str], start: Mark, start_row: int, keep: KeptColumns | None = None
    ) -> Iterator[Batch]:
        """Rows from `start_row` on, read from `start`, which is not behind it. Raises InputError.

        A row has the values of `columns`, and all that is kept of it. Where `columns` are all of the schema, it also
        brings the values that it has beside them.
        """

    def values_of(self, column: str) -> Iterator[list[Any]] | None:
        """A column's values, some lists of them; a row without the column gives None. Raises InputError.

        A row that cannot be read may have a value here. Returns None where `batches` is as fast.
        """

    def count_rows(self) -> int:
        """Raises InputError when a file cannot be read to its end."""

    def check(self, columns: Collection[str]) -> None:
        """Raise InputError when a file disagrees with the first one on one of these columns of the schema."""

    def why_no_columns(self) -> str:
        """A sentence for a person who misses a column, empty when there is nothing special to say."""
