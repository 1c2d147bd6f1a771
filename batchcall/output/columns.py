"""Outcomes as Arrow columns, and back, beside the kept columns. Decides every column's type before the first row.

No value ever keeps a part from being written: what a column cannot hold becomes null and the row's `error` says so.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa

from batchcall.base import NO_USAGE, Json, Outcome, Status, ToolCall, Usage
from batchcall.input import REFUSALS, KeptColumns, KeptRow, LeftOut, cleaned, fitted_array
from batchcall.schemas import (
    FieldType,
    ListOf,
    MemberFinder,
    Scalar,
    StructOf,
    converter,
    is_plain,
    member_finder,
    restorer,
)

_TEXT = pa.string()
_CALL_FIELDS = [pa.field(name, _TEXT) for name in ("id", "name", "arguments", "error")]
_CALLS = pa.list_(pa.field("element", pa.struct(_CALL_FIELDS)))
_REPAIRS = pa.list_(pa.field("element", _TEXT))
_JSON_MARK = {b"batchcall": b"json"}  # on a string field that holds JSON text, so that a part explains itself


# Columns that are one attribute of an outcome, or of its usage.
USAGE_COLUMNS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
_PLAIN: Mapping[str, pa.DataType] = {
    "row": pa.int64(),
    **dict.fromkeys(("status", "tool", "content"), _TEXT),
    **dict.fromkeys(("finish_reason", "model", "response_id", "system_fingerprint"), _TEXT),
    "attempts": pa.int32(),
    **dict.fromkeys(USAGE_COLUMNS, pa.int64()),
    **dict.fromkeys(("cost", "latency_s", "wait_s"), pa.float64()),
    "http_status": pa.int16(),
    **dict.fromkeys(("endpoint", "request_hash"), _TEXT),
}
_TYPES: Mapping[str, pa.DataType] = {
    **_PLAIN,
    "error": _TEXT,
    "calls": _CALLS,
    "repairs": _REPAIRS,
    "finished_at": pa.timestamp("us", tz="UTC"),
}

# In the order of the output; the kept columns of the input stand behind `row`.
OUTCOME_COLUMNS = (
    "row", "status", "error", "tool", "arguments", "calls", "content", "repairs",
    "finish_reason", "model", "response_id", "system_fingerprint", "attempts", *USAGE_COLUMNS,
    "cost", "latency_s", "wait_s", "http_status", "endpoint", "request_hash", "finished_at",
)  # fmt: skip


class Layout:
    """The columns of an output: fixed for all of its parts."""

    def __init__(self, kept: pa.Schema, arguments: FieldType | None, *, is_all_kept: bool = False) -> None:
        """`kept` are the columns carried over from the input, `arguments` the type of that column (None: JSON text).

        With `is_all_kept` a row says what else it had: the input has shown only some rows when its columns were fixed.
        """
        self.arguments = arguments or Scalar.JSON
        self.kept = KeptColumns(kept, OUTCOME_COLUMNS, is_all=is_all_kept)
        self._convert = converter(self.arguments)
        self._restore = restorer(self.arguments)
        self._is_plain = is_plain(self.arguments)
        self._find_members = member_finder(self.arguments)
        row, *others = (
            _typed_field(name, self.arguments) if name == "arguments" else pa.field(name, _TYPES[name])
            for name in OUTCOME_COLUMNS
        )
        self.schema = pa.schema([row, *self.kept.fields, *others])

    @property
    def arguments_text(self) -> str:
        """The type of the `arguments` column, for a person."""
        return "JSON text" if self.arguments is Scalar.JSON else str(arrow_type(self.arguments))

    def batch(
        self,
        ended: Sequence[tuple[KeptRow | None, Outcome]],
        tally: Counter[str] | None = None,
        members: Counter[str] | None = None,
    ) -> pa.RecordBatch:
        """Rows as Arrow, in the order given. Never fails for what is in them; the values of the input that have no
        place are counted in `tally`, by column, and those of the arguments in `members`, by their path."""
        kept = [of_row for of_row, _ in ended]
        columns = _columns([_values(outcome) for _, outcome in ended], len(OUTCOME_COLUMNS))
        values = dict(zip(OUTCOME_COLUMNS, columns, strict=True))
        left_out = {place: of_row.left_out for place, of_row in enumerate(kept) if of_row and of_row.left_out}
        if tally is not None:
            add_left_out(tally, Counter(one.column for found in left_out.values() for one in found))
        # By place: what is to be added to the row's `error`. First of its arguments, then of its input.
        notes: dict[int, list[str]] = {}
        arrays = dict(zip(self.kept.schema.names, self.kept.gathered(kept), strict=True))
        arrays["arguments"] = self._arguments_array(values["arguments"], notes)
        if self._find_members is not None:
            _find_columnless_members(self._find_members, values["arguments"], notes, members)
        for place, (_, outcome) in enumerate(ended):
            if outcome.left_out is not None:
                notes.setdefault(place, []).append(outcome.left_out)
        for place, of_input in left_out.items():
            notes.setdefault(place, []).append(_left_out_of_input(of_input))
        errors = list(values["error"])
        for place, found in notes.items():
            errors[place] = "; ".join(filter(None, [errors[place], *found]))
        arrays["error"] = _array(errors, "error")
        arrays["calls"] = _lists(_CALLS, values["calls"], _call_structs)
        arrays["repairs"] = _lists(_REPAIRS, values["repairs"], _texts)
        ended_us = values["finished_at"]
        arrays["finished_at"] = _array([round(us) if math.isfinite(us) else None for us in ended_us], "finished_at")
        for name in _PLAIN:
            arrays[name] = _array(values[name], name)
        return pa.RecordBatch.from_arrays([arrays[name] for name in self.schema.names], schema=self.schema)

    def _arguments_array(self, values: Sequence[Any], notes: dict[int, list[str]]) -> pa.Array:
        kind = arrow_type(self.arguments)
        # The schema has checked these values, so Arrow takes nearly all batches as they are. It refuses a whole batch
        # for one integer beyond 64 bits or one half of a surrogate pair: then they go value by value.
        if self._is_plain:
            try:
                return pa.array(values, type=kind)
            except REFUSALS:
                pass
        return fitted_array([self._converted(value, place, notes) for place, value in enumerate(values)], kind)

    def _converted(self, value: Any, place: int, notes: dict[int, list[str]]) -> Any:
        if value is None:
            return None
        found: list[str] = []
        try:
            converted = self._convert(value, found)
        except UnicodeEncodeError:
            found.clear()
            converted = self._convert(cleaned(value), found)
        if found:
            notes.setdefault(place, []).extend(found)
        return converted

    def held(self, arguments: Json) -> Json:
        """What a part has of these arguments: all that their column has a place for."""
        restored: Json = self._restore(self._converted(arguments, 0, {}))
        return restored

    def read(self, batch: pa.RecordBatch) -> list[tuple[KeptRow, Outcome]]:
        """Rows of a part. `batch` of them gives the same Arrow data again."""
        columns = {name: batch.column(place) for place, name in enumerate(batch.schema.names)}
        written = zip(self.kept.names, self.kept.schema.names, strict=True)
        kept = self.kept.of_arrays({name: columns[one] for name, one in written if one in columns}, batch.num_rows)
        # Moments as integers in the unit of their column: Python's own end in the year 9999.
        values = {
            name: (
                columns[name].cast(pa.int64()) if pa.types.is_timestamp(columns[name].type) else columns[name]
            ).to_pylist()
            for name in OUTCOME_COLUMNS
            if name in columns
        }
        if "arguments" in columns:  # they may have been written by another job, with another type than ours
            field = batch.schema.field("arguments")
            restore = restorer(Scalar.JSON if pa.types.is_string(field.type) else _written_type(field))
            values["arguments"] = [restore(value) for value in values["arguments"]]
        return [(row, _outcome(values, row.place)) for row in kept]


def arrow_type(kind: FieldType) -> pa.DataType:
    """The Arrow type of a column or field."""
    if isinstance(kind, ListOf):
        return pa.list_(_typed_field("element", kind.element))
    if isinstance(kind, StructOf):
        return pa.struct([_typed_field(name, inner) for name, inner in kind.fields])
    return _SCALARS[kind]


_SCALARS: Mapping[Scalar, pa.DataType] = {
    Scalar.STRING: _TEXT,
    Scalar.INT64: pa.int64(),
    Scalar.FLOAT64: pa.float64(),
    Scalar.BOOL: pa.bool_(),
    Scalar.JSON: _TEXT,
}


def _typed_field(name: str, kind: FieldType) -> pa.Field:
    return pa.field(name, arrow_type(kind), metadata=_JSON_MARK if kind is Scalar.JSON else None)


def _written_type(field: pa.Field) -> FieldType:
    if pa.types.is_struct(field.type) and field.type.num_fields:
        return StructOf(tuple((inner.name, _written_type(inner)) for inner in field.type))
    if pa.types.is_list(field.type):
        return ListOf(_written_type(field.type.value_field))
    is_json = (field.metadata or {}).get(b"batchcall") == b"json"
    return Scalar.JSON if is_json else Scalar.STRING  # how the others are read back makes no difference


def _values(outcome: Outcome) -> tuple[Any, ...]:
    """What its columns are made of, in the order of `OUTCOME_COLUMNS`."""
    usage = outcome.usage
    return (
        outcome.row,
        outcome.status,
        outcome.error,
        outcome.tool,
        outcome.arguments,
        outcome.calls,
        outcome.content,
        outcome.repairs,
        outcome.finish_reason,
        outcome.model,
        outcome.response_id,
        outcome.system_fingerprint,
        outcome.attempts,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        outcome.cost,
        outcome.latency_s,
        outcome.wait_s,
        outcome.http_status,
        outcome.endpoint,
        outcome.request_hash,
        outcome.finished_at_s * 1e6,  # NaN: read back, of a row without a moment
    )


def _columns(records: Sequence[tuple[Any, ...]], width: int) -> Iterable[Sequence[Any]]:
    """The values of records by place, so many for each."""
    return zip(*records, strict=True) if records else [()] * width


def _array(values: Sequence[Any], name: str) -> pa.Array:
    return fitted_array(values, _TYPES[name])


def _texts(values: Sequence[Any]) -> pa.Array:
    return fitted_array(values, _TEXT)


def _call_structs(calls: list[ToolCall]) -> pa.Array:
    columns = _columns([(call.id, call.name, call.arguments, call.error) for call in calls], len(_CALL_FIELDS))
    return pa.StructArray.from_arrays([_texts(column) for column in columns], fields=_CALL_FIELDS)


def _lists(kind: pa.DataType, of_rows: Sequence[tuple[Any, ...]], array: Callable[[list[Any]], pa.Array]) -> pa.Array:
    """A list column from all its elements at once: a dict per call would cost more than the rest of the row."""
    offsets = pa.array(accumulate(map(len, of_rows), initial=0), type=pa.int32())
    elements = array([element for of_row in of_rows for element in of_row])
    return pa.ListArray.from_arrays(offsets, elements, type=kind)


def _find_columnless_members(
    find: MemberFinder, arguments: Sequence[Any], notes: dict[int, list[str]], tally: Counter[str] | None
) -> None:
    """Note what the arguments of each row have and no column holds, and count it."""
    found: dict[str, None] = {}
    for place, value in enumerate(arguments):
        find(value, found)
        if found:
            names = list(found)
            found.clear()
            more = f" and {len(names) - _NAMED_OF_ROW} more" if len(names) > _NAMED_OF_ROW else ""
            note = f"{_OF_ARGUMENTS}{', '.join(names[:_NAMED_OF_ROW])}{more} of the arguments, see `calls`"
            notes.setdefault(place, []).append(note)
            if tally is not None:
                add_left_out(tally, dict.fromkeys(names, 1))


# The column `error` is one sentence of up to three pieces, in this order and with "; " between them:
#
#     "age" is not a number                                               Outcome.error, as the answer was read
#     left out: no column for /age of the arguments, see `calls`          added here; read back, it is part of the first
#     left out: n: 'x' does not fit int64; late: 1 has no column          Outcome.left_out
#
# Only the last is of the input, and the value it speaks of is in no part. So it is a field of its own: an answer that
# is read again gets a new `error` and keeps this piece; an answer taken for another row leaves it behind.
_LEFT_OUT = "left out: "
_OF_ARGUMENTS = f"{_LEFT_OUT}no column for "
_INPUT_PIECE = re.compile(rf"(?:^|; )(?={_LEFT_OUT})(?!{_OF_ARGUMENTS})")
_NAMED_OF_ROW = 5  # columns of a row that are named; the others are counted
_NAMED_OF_RUN = 100
OTHER_COLUMNS = "(other columns)"


def _left_out_of_input(found: Sequence[LeftOut]) -> str:
    named = "; ".join(f"{one.column}: {one.why}" for one in found[:_NAMED_OF_ROW])
    more = f"; and {len(found) - _NAMED_OF_ROW:,} more columns" if len(found) > _NAMED_OF_ROW else ""
    return f"{_LEFT_OUT}{named}{more}"


def add_left_out(tally: Counter[str], more: Mapping[str, int]) -> None:
    """Add up rows by column. Rows may bring names without end: beyond a hundred they are counted together."""
    for name, rows in more.items():
        tally[name if name in tally or len(tally) < _NAMED_OF_RUN else OTHER_COLUMNS] += rows


def _outcome(values: Mapping[str, list[Any]], place: int) -> Outcome:
    row = {name: of_column[place] for name, of_column in values.items()}
    counted = {name: row.pop(name, None) for name in USAGE_COLUMNS}
    finished_us = row.pop("finished_at", None)
    error, *left_out = _INPUT_PIECE.split(row.get("error") or "", maxsplit=1)
    return Outcome(
        **{
            **row,
            "status": Status(row["status"]),
            "error": (error or None) if left_out else row.get("error"),
            "left_out": left_out[0] if left_out else None,
            "calls": tuple(ToolCall(**call) for call in row.get("calls") or ()),
            "repairs": tuple(row.get("repairs") or ()),
            "attempts": row.get("attempts") or 0,
            "usage": NO_USAGE if all(count is None for count in counted.values()) else Usage(**counted),
            "finished_at_s": float("nan") if finished_us is None else finished_us / 1e6,
        }
    )
