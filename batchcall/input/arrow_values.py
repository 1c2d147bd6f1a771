"""Python's values as Arrow arrays that never refuse: what an array cannot hold is null in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from batchcall.schemas import without_surrogates

# What pyarrow raises for a value that it cannot hold.
REFUSALS = (pa.ArrowException, ValueError, TypeError, OverflowError)


def fitted_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """An array of what fits; the rest is null."""
    try:
        return pa.array(values, type=kind)
    except REFUSALS:
        return pa.array([_fitted(value, kind) for value in values], type=kind)


def _fitted(value: Any, kind: pa.DataType) -> Any:
    """A value that Arrow takes, without halves of surrogate pairs; None when there is none."""
    clean = cleaned(value)
    try:
        pa.array([clean], type=kind)
    except REFUSALS:
        return None
    return clean


def cleaned(value: Any) -> Any:
    """The value without halves of surrogate pairs, which no file can hold."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list | tuple):
        return [cleaned(one) for one in value]
    if isinstance(value, dict):
        return {cleaned(key): cleaned(one) for key, one in value.items()}
    return value


def bytes_of(batch: pa.RecordBatch) -> int:
    """What a batch holds. Up to pyarrow 23 views know only the size of whole buffers, which batches share."""
    try:
        return int(batch.nbytes)
    except pa.ArrowTypeError:
        return int(batch.get_total_buffer_size())
