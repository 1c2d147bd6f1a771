"""A column that names rows: no value may stand in it twice, which takes about a dozen bytes a row to know; and
which rows it does not name."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchcall.base import InputError, Row
from batchcall.input.values import Batch

# Sorted one after the other, so that sorting takes little room. A prime: even numbers spread over all of them.
_BUCKETS = 31


def check_ids(column: str, read: Callable[[], Iterable[Batch]]) -> int:
    """Count the rows. Raises InputError for the first value that comes again.

    `read` gives the input from its start, once or twice. Rows without a name are passed over: they end as bad rows.
    """
    # Hashes instead of values: eight bytes a row, whatever the values are.
    buckets = [array("q") for _ in range(_BUCKETS)]
    rows = 0
    for row in _rows(read()):
        rows += 1
        if _is_named(row, column):
            hashed = hash(row.values[column])
            buckets[hashed % _BUCKETS].append(hashed)
    suspects = {hashed for bucket in buckets for hashed in _repeated(bucket)}
    if not suspects:
        return rows
    # Equal hashes are a suspicion, equal values are a fact. So the input is read once more, and only the values under
    # suspicion are held: these are few.
    seen: dict[Any, str] = {}
    for row in _rows(read()):
        if not _is_named(row, column) or hash(value := row.values[column]) not in suspects:
            continue
        if value in seen:
            shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:79] + "…"
            raise InputError(f"{column} {shown} is in {seen[value]} and again in {row.where}", hint=_HINT)
        seen[value] = row.where
    return rows


def _rows(batches: Iterable[Batch]) -> Iterator[Row]:
    for batch in batches:
        yield from batch.rows


def _is_named(row: Row, column: str) -> bool:
    return row.fault is None and _why_nameless(row.values.get(column), column) is None


def named(batch: Batch, column: str) -> Batch:
    """The batch, in which each row without a name has that for its fault."""
    rows = []
    for row in batch.rows:
        fault = row.fault if row.fault is not None else _why_nameless(row.values.get(column), column)
        rows.append(row if fault is row.fault else replace(row, fault=fault))
    return Batch(rows, batch.mark)


def _why_nameless(value: Any, column: str) -> str | None:
    """Why this value of `column` cannot name a row, None when it can."""
    if value is None or value != value:  # NaN is how pandas writes what is missing
        return f"column {column!r} identifies the row, but is missing or null"
    if isinstance(value, list | dict):
        return f"column {column!r} identifies the row, but is neither text nor a number"
    return None


_HINT = (
    "correct the input, choose another column as input.id, or leave input.id out: then a row is known by its position"
)


def _repeated(hashes: array[int]) -> list[int]:
    """The values that stand in it more than once."""
    if len(hashes) < 2:
        return []
    numbers = pa.Array.from_buffers(pa.int64(), len(hashes), [None, pa.py_buffer(hashes)])
    ordered = numbers.take(pc.array_sort_indices(numbers))
    same = pc.equal(ordered.slice(1), ordered.slice(0, len(ordered) - 1))
    repeated: list[int] = ordered.slice(1).filter(same).to_pylist()
    return repeated
