"""Outcomes as Arrow columns, and back, beside the kept columns. Decides every column's type before the first row.

No value ever keeps a part from being written: what a column cannot hold becomes null and the row's `error` says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Any, NamedTuple

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


class _Plain(NamedTuple):
    """A column that is one attribute of an outcome."""

    name: str
    type: pa.DataType
    get: Callable[[Outcome], Any]


_PLAIN = (
    _Plain("row", pa.int64(), attrgetter("row")),
    _Plain("status", _TEXT, attrgetter("status")),
    _Plain("tool", _TEXT, attrgetter("tool")),
    _Plain("content", _TEXT, attrgetter("content")),
    _Plain("finish_reason", _TEXT, attrgetter("finish_reason")),
    _Plain("model", _TEXT, attrgetter("model")),
    _Plain("response_id", _TEXT, attrgetter("response_id")),
    _Plain("system_fingerprint", _TEXT, attrgetter("system_fingerprint")),
    _Plain("attempts", pa.int32(), attrgetter("attempts")),
    _Plain("prompt_tokens", pa.int64(), attrgetter("usage.prompt_tokens")),
    _Plain("completion_tokens", pa.int64(), attrgetter("usage.completion_tokens")),
    _Plain("total_tokens", pa.int64(), attrgetter("usage.total_tokens")),
    _Plain("cached_tokens", pa.int64(), attrgetter("usage.cached_tokens")),
    _Plain("reasoning_tokens", pa.int64(), attrgetter("usage.reasoning_tokens")),
    _Plain("cost", pa.float64(), attrgetter("cost")),
    _Plain("latency_s", pa.float64(), attrgetter("latency_s")),
    _Plain("wait_s", pa.float64(), attrgetter("wait_s")),
    _Plain("http_status", pa.int16(), attrgetter("http_status")),
    _Plain("endpoint", _TEXT, attrgetter("endpoint")),
    _Plain("request_hash", _TEXT, attrgetter("request_hash")),
)
_TYPES: Mapping[str, pa.DataType] = {
    **{column.name: column.type for column in _PLAIN},
    "error": _TEXT,
    "calls": _CALLS,
    "repairs": _REPAIRS,
    "finished_at": pa.timestamp("us", tz="UTC"),
}
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")

# In the order of the output; the kept columns of the input stand behind `row`.
OUTCOME_COLUMNS = (
    "row", "status", "error", "tool", "arguments", "calls", "content", "repairs",
    "finish_reason", "model", "response_id", "system_fingerprint", "attempts", *_USAGE,
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
        row, *others = (self._field(name) for name in OUTCOME_COLUMNS)
        self.schema = pa.schema([row, *self.kept.fields, *others])

    @property
    def arguments_text(self) -> str:
        """The type of the `arguments` column, for a person."""
        return "JSON text" if self.arguments is Scalar.JSON else str(arrow_type(self.arguments))

    def _field(self, name: str) -> pa.Field:
        return _typed_field(name, self.arguments) if name == "arguments" else pa.field(name, _TYPES[name])

    def batch(
        self,
        ended: Sequence[tuple[KeptRow | None, Outcome]],
        tally: Counter[str] | None = None,
        members: Counter[str] | None = None,
    ) -> pa.RecordBatch:
        """Rows as Arrow, in the order given. Never fails for what is in them; the values of the input that have no
        place are counted in `tally`, by column, and those of the arguments in `members`, by their path."""
        outcomes = [outcome for _, outcome in ended]
        kept = [of_row for of_row, _ in ended]
        notes: dict[int, list[str]] = {}
        left_out = {place: of_row.left_out for place, of_row in enumerate(kept) if of_row and of_row.left_out}
        if tally is not None:
            add_left_out(tally, Counter(one.column for found in left_out.values() for one in found))
        arrays = dict(zip(self.kept.schema.names, self.kept.gathered(kept), strict=True))
        arguments = [outcome.arguments for outcome in outcomes]
        arrays["arguments"] = self._arguments_array(arguments, notes)
        if self._find_members is not None:
            _find_columnless_members(self._find_members, arguments, notes, members)
        arrays["calls"] = _calls_array(outcomes)
        arrays["repairs"] = _lists(_REPAIRS, [outcome.repairs for outcome in outcomes], _texts)
        arrays["finished_at"] = _array([_microseconds(outcome.finished_at_s) for outcome in outcomes], "finished_at")
        errors = _with_notes([outcome.error for outcome in outcomes], notes)
        arrays["error"] = _array(_with_left_out(errors, left_out), "error")
        for name, _, get in _PLAIN:
            arrays[name] = _array(list(map(get, outcomes)), name)
        return pa.RecordBatch.from_arrays([arrays[name] for name in self.schema.names], schema=self.schema)

    def _arguments_array(self, values: list[Any], notes: dict[int, list[str]]) -> pa.Array:
        kind = arrow_type(self.arguments)
        if self._is_plain:  # the schema has checked them, so Arrow takes nearly all batches as they are
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
        values = {name: _values(columns[name]) for name in OUTCOME_COLUMNS if name in columns}
        if "arguments" in columns:
            restore = restorer(_arguments_type(batch.schema.field("arguments")))
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


def _arguments_type(field: pa.Field) -> FieldType:
    """The type that a part's `arguments` were written with: it may be of another job than ours."""
    return Scalar.JSON if pa.types.is_string(field.type) else _written_type(field)


def _written_type(field: pa.Field) -> FieldType:
    if pa.types.is_struct(field.type) and field.type.num_fields:
        return StructOf(tuple((inner.name, _written_type(inner)) for inner in field.type))
    if pa.types.is_list(field.type):
        return ListOf(_written_type(field.type.value_field))
    is_json = (field.metadata or {}).get(b"batchcall") == b"json"
    return Scalar.JSON if is_json else Scalar.STRING  # how the others are read back makes no difference


def _array(values: list[Any], name: str) -> pa.Array:
    return fitted_array(values, _TYPES[name])


def _texts(values: list[Any]) -> pa.Array:
    return fitted_array(values, _TEXT)


def _calls_array(outcomes: list[Outcome]) -> pa.Array:
    return _lists(_CALLS, [outcome.calls for outcome in outcomes], _call_structs)


def _call_structs(calls: list[ToolCall]) -> pa.Array:
    columns: list[list[Any]] = [
        [call.id for call in calls],
        [call.name for call in calls],
        [call.arguments for call in calls],
        [call.error for call in calls],
    ]
    return pa.StructArray.from_arrays([_texts(column) for column in columns], fields=_CALL_FIELDS)


def _lists(kind: pa.DataType, of_rows: list[tuple[Any, ...]], array: Callable[[list[Any]], pa.Array]) -> pa.Array:
    """A list column from all its elements at once: a dict per call would cost more than the rest of the row."""
    offsets = pa.array(accumulate(map(len, of_rows), initial=0), type=pa.int32())
    elements = array([element for of_row in of_rows for element in of_row])
    return pa.ListArray.from_arrays(offsets, elements, type=kind)


def _microseconds(moment_s: float) -> int | None:
    try:
        return round(moment_s * 1e6)
    except (ValueError, OverflowError):  # NaN is how a row without a moment is read back
        return None


def _find_columnless_members(
    find: MemberFinder, arguments: list[Any], notes: dict[int, list[str]], tally: Counter[str] | None
) -> None:
    """Note what the arguments of each row have and no column holds, and count it."""
    for place, value in enumerate(arguments):
        found: dict[str, None] = {}
        find(value, found)
        if found:
            names = list(found)
            more = f" and {len(names) - _TOLD_AT_MOST} more" if len(names) > _TOLD_AT_MOST else ""
            told = f"{_OF_ARGUMENTS}{', '.join(names[:_TOLD_AT_MOST])}{more} of the arguments, see `calls`"
            notes.setdefault(place, []).append(told)
            if tally is not None:
                add_left_out(tally, dict.fromkeys(names, 1))


def _with_notes(errors: list[str | None], notes: dict[int, list[str]]) -> list[str | None]:
    for place, found in notes.items():
        said, left_out = split_error(errors[place])
        errors[place] = "; ".join(filter(None, [said, *found, left_out]))
    return errors


_LEFT_OUT = "left out: "  # what follows it in an `error` is of the input, not of the answer,
_OF_ARGUMENTS = f"{_LEFT_OUT}no column for "  # but for this
_TOLD_AT_MOST = 5  # columns of a row
_NAMED_AT_MOST = 100  # columns of a run
OTHER_COLUMNS = "(other columns)"


def _with_left_out(errors: list[str | None], left_out: Mapping[int, Sequence[LeftOut]]) -> list[str | None]:
    for place, found in left_out.items():
        told = "; ".join(f"{one.column}: {one.why}" for one in found[:_TOLD_AT_MOST])
        more = f"; and {len(found) - _TOLD_AT_MOST:,} more columns" if len(found) > _TOLD_AT_MOST else ""
        if found:
            errors[place] = "; ".join(filter(None, [errors[place], f"{_LEFT_OUT}{told}{more}"]))
    return errors


def split_error(error: str | None) -> tuple[str | None, str | None]:
    """What an `error` says of the answer, and what it says of values of the input that have no place beside it."""
    said = re.split(rf"(?:^|; )(?={_LEFT_OUT})(?!{_OF_ARGUMENTS})", error or "", maxsplit=1)
    return said[0] or None, said[1] if len(said) > 1 else None


def add_left_out(tally: Counter[str], more: Mapping[str, int]) -> None:
    """Add up rows by column. Rows may bring names without end: beyond a hundred they are counted together."""
    for name, rows in more.items():
        tally[name if name in tally or len(tally) < _NAMED_AT_MOST else OTHER_COLUMNS] += rows


def _values(array: pa.Array) -> list[Any]:
    """Moments as integers in the unit of their column: Python's own end in the year 9999."""
    exact: list[Any] = (array.cast(pa.int64()) if pa.types.is_timestamp(array.type) else array).to_pylist()
    return exact


def _outcome(values: Mapping[str, list[Any]], place: int) -> Outcome:
    row = {name: of_column[place] for name, of_column in values.items()}
    counted = {name: row.pop(name, None) for name in _USAGE}
    finished_us = row.pop("finished_at", None)
    return Outcome(
        **{
            **row,
            "status": Status(row["status"]),
            "calls": tuple(ToolCall(**call) for call in row.get("calls") or ()),
            "repairs": tuple(row.get("repairs") or ()),
            "attempts": row.get("attempts") or 0,
            "usage": NO_USAGE if all(count is None for count in counted.values()) else Usage(**counted),
            "finished_at_s": float("nan") if finished_us is None else finished_us / 1e6,
        }
    )
