"""Partition keys: folders called `lang=de`, as Spark, DuckDB, polars and pandas write them, make a column `lang`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from batchcall.base import Row
from batchcall.input.kept_columns import KeptColumns
from batchcall.input.values import Batch, Mark, Table

Keys = tuple[tuple[str, str | None], ...]  # of a file, from the outermost folder in; None: the writer had no value

_FOLDER = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # what all writers put for a null
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,19}")
_NAMED_AT_MOST = 3  # files in a note


def is_key_folder(name: str) -> bool:
    return _FOLDER.fullmatch(name) is not None


def keys_of(root: str, folders: Sequence[str]) -> Keys:
    """What the folders say that hold a file: those below the input's root, and the last ones of the root itself."""
    # A path may name a folder in the middle of a partitioned table: `table/lang=de/` is all of one language.
    above: list[str] = []
    for folder in reversed(root.rstrip("/").split("/")):
        if not is_key_folder(folder):
            break
        above.insert(0, folder)
    found = filter(None, map(_FOLDER.fullmatch, [*above, *folders]))
    return tuple(
        {
            unquote(key): None if value == _NO_VALUE else unquote(value)
            for key, value in (match.groups() for match in found)
        }.items()
    )


class HiveTable:
    """A table and, behind its columns, those that the folders of its files give."""

    def __init__(self, table: Table, files: list[tuple[str, Keys]]) -> None:
        """`files` are those of the table in their order: the name and the keys of each."""
        self._table = table
        # A column of the files wins over a key of the same name: its values are in the rows themselves.
        names = dict.fromkeys(key for _, keys in files for key, _ in keys)
        own = [key for key in names if key not in table.schema.names]
        texts = {key: [dict(keys).get(key) for _, keys in files] for key in own}
        kinds = {key: _type(texts[key]) for key in own}
        values = {
            key: [int(text) if text is not None and kinds[key] == pa.int64() else text for text in texts[key]]
            for key in own
        }
        self._values = [{key: values[key][number] for key in own} for number in range(len(files))]  # by file
        self.schema = pa.schema([*table.schema, *((key, kinds[key]) for key in own)])
        self.notes = (*table.notes, *_notes(files, list(names), own))

    def batches(
        self, columns: Collection[str], start: Mark, start_row: int, keep: KeptColumns | None = None
    ) -> Iterator[Batch]:
        for batch in self._table.batches(columns, start, start_row, keep):
            keys = self._values[batch.mark.file]
            values = {key: value for key, value in keys.items() if key in columns}
            kept = [row.kept for row in batch.rows]
            if keep is not None and not keys.keys().isdisjoint(keep.names):
                kept = keep.filled(kept, keys)
            # The keys come behind the columns. A line of JSONL may have the column although no line of the sample has:
            # then its value stays.
            rows = [
                Row(row.index, {**row.values, **values, **row.values}, row.where, row.fault, of_row)
                for row, of_row in zip(batch.rows, kept, strict=True)
            ]
            yield Batch(rows, batch.mark)

    def values_of(self, column: str) -> Iterator[list[Any]] | None:
        is_key = column in self._values[0]
        return None if is_key else self._table.values_of(column)

    def count_rows(self) -> int:
        return self._table.count_rows()

    def check(self, columns: Collection[str]) -> None:
        self._table.check(columns)

    def why_no_columns(self) -> str:
        return self._table.why_no_columns()


def _type(texts: list[str | None]) -> pa.DataType:
    """Whole numbers where all values are, else text: what pyarrow makes of them. Dates stay text."""
    present = [text for text in texts if text is not None]
    is_whole = all(_WHOLE_NUMBER.fullmatch(text) and -(2**63) <= int(text) < 2**63 for text in present)
    return pa.int64() if present and is_whole else pa.string()


def _notes(files: list[tuple[str, Keys]], names: list[str], own: list[str]) -> Iterator[str]:
    for key in names:
        if key not in own:
            yield f"the files have their own column {key!r}, so the values in the folder names {key}=… are not used"
        elif without := [name for name, keys in files if key not in dict(keys)]:
            shown = ", ".join(without[:_NAMED_AT_MOST]) + (", …" if len(without) > _NAMED_AT_MOST else "")
            which = f"{len(without):,} of {len(files):,} files, which are not in a folder {key}=…"
            yield f"column {key!r} is null in the rows of {which}: {shown}"
