"""Whether a column names rows: present in each, no value twice. About a dozen bytes a row."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchcall.errors import InputError
from batchcall.files.input_values import Batch
from batchcall.records import Row

# Sorted one after the other, so that sorting takes little room. A prime: even numbers spread over all of them.
_BUCKETS = 31


def check_ids(column: str, read: Callable[[], Iterable[Batch]]) -> int:
    """Count the rows. Raises InputError for the first value that comes again, and for a row without one.

    `read` gives the input from its start, once or twice. Rows that cannot be read have no id and are passed over.
    """
    buckets = [array("q") for _ in range(_BUCKETS)]
    rows = 0
    for row in _rows(read()):
        rows += 1
        if row.fault is None:
            hashed = _hash_of_id(row, column)
            buckets[hashed % _BUCKETS].append(hashed)
    suspects = {hashed for bucket in buckets for hashed in _repeated(bucket)}
    if suspects:
        _refuse_same_values(column, suspects, read())
    return rows


def _rows(batches: Iterable[Batch]) -> Iterator[Row]:
    for batch in batches:
        yield from batch.rows


def _hash_of_id(row: Row, column: str) -> int:
    value = row.values.get(column)
    if value is None or value != value:  # NaN is how pandas writes what is missing
        raise InputError(f"{row.where} has no {column!r}, which is to name the row", hint=_HINT)
    try:
        return hash(value)
    except TypeError:
        raise InputError(f"{row.where}: {column!r} is neither text nor a number", hint=_HINT) from None


_HINT = "repair the input, name another column as input.id, or leave input.id out: rows then go by their position"


def _repeated(hashes: array[int]) -> list[int]:
    """The values that stand in it more than once."""
    if len(hashes) < 2:
        return []
    numbers = pa.Array.from_buffers(pa.int64(), len(hashes), [None, pa.py_buffer(hashes)])
    ordered = numbers.take(pc.array_sort_indices(numbers))
    same = pc.equal(ordered.slice(1), ordered.slice(0, len(ordered) - 1))
    repeated: list[int] = ordered.slice(1).filter(same).to_pylist()
    return repeated


def _refuse_same_values(column: str, suspects: set[int], batches: Iterable[Batch]) -> None:
    """Equal hashes are a suspicion; equal values are a fact."""
    seen: dict[Any, str] = {}
    for row in _rows(batches):
        if row.fault is not None or hash(value := row.values[column]) not in suspects:
            continue
        if value in seen:
            shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:79] + "…"
            raise InputError(f"{column} {shown} is in {seen[value]} and again in {row.where}", hint=_HINT)
        seen[value] = row.where
