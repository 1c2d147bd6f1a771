"""A column that names rows: no value may stand in it twice, which takes about a dozen bytes a row to know; and
which rows it does not name."""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from batchcall.base import InputError, Row
from batchcall.input.arrow_values import REFUSALS
from batchcall.input.kept_columns import as_in_column
from batchcall.input.values import Batch

# Sorted one after the other, so that sorting takes little room. A prime: even numbers spread over all of them.
_BUCKETS = 31


def check_ids(
    column: str,
    kind: pa.DataType,
    read: Callable[[], Iterable[Batch]],
    values: Iterable[Sequence[Any]] | None = None,
) -> int:
    """Count the rows. Raises InputError for the first id that comes again. `kind` is the type of the column.

    Ids are one where the output shows one text: 1 and "1" in a column of text, 1 and 1.0 in one of numbers.

    `read` gives the input from its start, once or twice. Rows without a name are passed over: they end as bad rows.
    `values` are those of all rows, where they can be had faster; those of rows that cannot be read may be among them.
    """
    text_of = _writer(kind)
    # Hashes instead of values: eight bytes a row, whatever the values are.
    buckets = [array("q") for _ in range(_BUCKETS)]
    rows = 0
    if values is None:
        values = ([row.values.get(column) for row in batch.rows] for batch in read())
    for some in values:
        rows += len(some)
        texts = [
            one if type(one) is str else text_of(one)
            for one in some
            if type(one) is str or _why_nameless(one, column) is None
        ]
        for hashed in map(hash, texts):
            buckets[hashed % _BUCKETS].append(hashed)
    suspects = {hashed for bucket in buckets for hashed in _repeated(bucket)}
    if not suspects:
        return rows
    # Equal hashes are a suspicion, equal texts are a fact. So the input is read once more, and only the ids under
    # suspicion are held: these are few.
    seen: dict[str, Row] = {}
    for row in (row for batch in read() for row in batch.rows):
        if not _is_named(row, column) or hash(text := text_of(row.values[column])) not in suspects:
            continue
        if text in seen:
            one, again = (_shown(each.values[column]) for each in (seen[text], row))
            as_what = "" if one == again else f" as {again}"
            what = f"{column} {one} is in {seen[text].where} and again in {row.where}{as_what}"
            raise InputError(what, hint=_HINT if one == again else f"the output shows both as {text}; {_HINT}")
        seen[text] = row
    return rows


def _writer(kind: pa.DataType) -> Callable[[Any], str]:
    """What the output shows of an id in a column of this type; of one that has no place there, how it is written."""
    as_it_is = int if pa.types.is_integer(kind) else float if pa.types.is_floating(kind) else None

    def text_of(value: Any) -> str:
        if type(value) is str:
            return value
        if type(value) is not as_it_is:
            with contextlib.suppress(*REFUSALS):
                value = as_in_column(value, kind)
        # Text has everything in it by which values differ: all digits of a second, the offset of an hour that comes
        # twice. Python compares neither, and takes True for 1.
        return _written(value)

    return text_of


def _written(value: Any) -> str:
    return str(value) if type(value) is not bool else str(value).lower()


def _shown(value: Any) -> str:
    """The id as the input has it."""
    text = json.dumps(value, ensure_ascii=False) if type(value) is str else _written(value)
    return text if len(text) <= _SHOWN_LETTERS else f"{text[: _SHOWN_LETTERS - 1]}…"


_SHOWN_LETTERS = 80


def _is_named(row: Row, column: str) -> bool:
    return row.fault is None and _why_nameless(row.values.get(column), column) is None


def named(batch: Batch, column: str) -> Batch:
    """The batch, in which each row without a name has that for its fault."""
    rows = list(batch.rows)
    for place, row in enumerate(rows):
        if type(value := row.values.get(column)) is str or row.fault is not None:  # as nearly all are
            continue
        if (why := _why_nameless(value, column)) is not None:
            rows[place] = replace(row, fault=why)
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
    import pyarrow.compute as pc

    numbers = pa.Array.from_buffers(pa.int64(), len(hashes), [None, pa.py_buffer(hashes)])
    ordered = numbers.take(pc.array_sort_indices(numbers))
    same = pc.equal(ordered.slice(1), ordered.slice(0, len(ordered) - 1))
    repeated: list[int] = ordered.slice(1).filter(same).to_pylist()
    return repeated
