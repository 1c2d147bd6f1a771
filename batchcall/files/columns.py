"""Outcomes and raw answers as Arrow columns, and back. Decides every column's type before the first row.

No value ever keeps a part from being written: what a column cannot hold becomes null and the row's `error` says so.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import pyarrow as pa

from batchcall.extraction.field_types import (
    FieldType,
    ListOf,
    MemberFinder,
    Scalar,
    StructOf,
    converter,
    is_plain,
    json_text_as_it_is,
    member_finder,
    restorer,
    without_surrogates,
)
from batchcall.records import (
    NO_USAGE,
    Attempt,
    Failure,
    FailureKind,
    HttpResponse,
    Json,
    Outcome,
    Status,
    ToolCall,
    Usage,
)

Kept = Mapping[str, Any]

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

# What pyarrow raises for a value that it cannot hold.
_REFUSALS = (pa.ArrowException, ValueError, TypeError, OverflowError)


class Layout:
    """The columns of an output: fixed for all of its parts."""

    def __init__(self, kept: pa.Schema, arguments: FieldType | None, *, is_all_kept: bool = False) -> None:
        """`kept` are the columns carried over from the input, `arguments` the type of that column (None: JSON text).

        With `is_all_kept` a row says what else it had: the input has shown only some rows when its columns were fixed.
        """
        self.arguments = arguments or Scalar.JSON
        self._is_all_kept = is_all_kept
        self._kept = _kept_columns(kept)
        self._convert = converter(self.arguments)
        self._restore = restorer(self.arguments)
        self._is_plain = is_plain(self.arguments)
        self._find_members = member_finder(self.arguments)
        self.kept_names = [column.name for column in self._kept]  # in the input
        self.kept_columns = [pa.field(column.written, column.type) for column in self._kept]  # in the output
        row, *others = (self._field(name) for name in OUTCOME_COLUMNS)
        self.schema = pa.schema([row, *self.kept_columns, *others])

    @property
    def arguments_text(self) -> str:
        """The type of the `arguments` column, for a person."""
        return "JSON text" if self.arguments is Scalar.JSON else str(arrow_type(self.arguments))

    def _field(self, name: str) -> pa.Field:
        return _typed_field(name, self.arguments) if name == "arguments" else pa.field(name, _TYPES[name])

    def batch(
        self,
        ended: Sequence[tuple[Kept, Outcome]],
        tally: Counter[str] | None = None,
        members: Counter[str] | None = None,
    ) -> pa.RecordBatch:
        """Rows as Arrow, in the order given. Never fails for what is in them; the values of the input that have no
        place are counted in `tally`, by column, and those of the arguments in `members`, by their path."""
        outcomes = [outcome for _, outcome in ended]
        notes: dict[int, list[str]] = {}
        left_out: dict[int, list[_LeftOut]] = {}
        arrays = {column.written: column.array([kept.get(column.name) for kept, _ in ended], left_out)
                  for column in self._kept}  # fmt: skip
        if self._is_all_kept:
            self._find_columnless([kept for kept, _ in ended], left_out)
        if tally is not None:
            add_left_out(tally, Counter(one.column for found in left_out.values() for one in found))
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

    def _find_columnless(self, rows: list[Kept], left_out: dict[int, list[_LeftOut]]) -> None:
        known = frozenset(self.kept_names)
        for place, row in enumerate(rows):
            if not row.keys() <= known:
                late = {name: value for name, value in row.items() if name not in known and value is not None}
                left_out.setdefault(place, []).extend(
                    _LeftOut(name, f"{_shown(value)} has no column, as the first rows of the input lack it")
                    for name, value in late.items()
                )

    def _arguments_array(self, values: list[Any], notes: dict[int, list[str]]) -> pa.Array:
        kind = arrow_type(self.arguments)
        if self._is_plain:  # the schema has checked them, so Arrow takes nearly all batches as they are
            try:
                return pa.array(values, type=kind)
            except _REFUSALS:
                pass
        return _fitted_array([self._converted(value, place, notes) for place, value in enumerate(values)], kind)

    def _converted(self, value: Any, place: int, notes: dict[int, list[str]]) -> Any:
        if value is None:
            return None
        found: list[str] = []
        try:
            converted = self._convert(value, found)
        except UnicodeEncodeError:
            found.clear()
            converted = self._convert(_cleaned(value), found)
        if found:
            notes.setdefault(place, []).extend(found)
        return converted

    def held(self, arguments: Json) -> Json:
        """What a part has of these arguments: all that their column has a place for."""
        restored: Json = self._restore(self._converted(arguments, 0, {}))
        return restored

    def read(self, batch: pa.RecordBatch) -> list[tuple[dict[str, Any], Outcome]]:
        """Rows of a part. `batch` of them gives the same Arrow data again.

        Moments and durations of kept columns are integers in the unit of their column: Python's own types are
        coarser and end in the year 9999.
        """
        columns = {name: batch.column(place) for place, name in enumerate(batch.schema.names)}
        kept = {
            one.name: _values(_cast(columns[one.written], one.type)) for one in self._kept if one.written in columns
        }
        values = {name: _values(columns[name]) for name in OUTCOME_COLUMNS if name in columns}
        if "arguments" in columns:
            restore = restorer(_arguments_type(batch.schema.field("arguments")))
            values["arguments"] = [restore(value) for value in values["arguments"]]
        return [
            ({name: of_column[place] for name, of_column in kept.items()}, _outcome(values, place))
            for place in range(batch.num_rows)
        ]


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
    return _fitted_array(values, _TYPES[name])


def _texts(values: list[Any]) -> pa.Array:
    return _fitted_array(values, _TEXT)


def _fitted_array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """An array of what fits; the rest is null."""
    try:
        return pa.array(values, type=kind)
    except _REFUSALS:
        return pa.array([_fitted(value, kind) for value in values], type=kind)


def _fitted(value: Any, kind: pa.DataType) -> Any:
    """A value that Arrow takes, without halves of surrogate pairs; None when there is none."""
    cleaned = _cleaned(value)
    try:
        pa.array([cleaned], type=kind)
    except _REFUSALS:
        return None
    return cleaned


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list | tuple):
        return [_cleaned(one) for one in value]
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(one) for key, one in value.items()}
    return value


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


class _LeftOut(NamedTuple):
    """A value of the input that no column holds."""

    column: str
    why: str


_LEFT_OUT = "left out: "  # what follows it in an `error` is of the input, not of the answer,
_OF_ARGUMENTS = f"{_LEFT_OUT}no column for "  # but for this
_TOLD_AT_MOST = 5  # columns of a row
_NAMED_AT_MOST = 100  # columns of a run
OTHER_COLUMNS = "(other columns)"


def _with_left_out(errors: list[str | None], left_out: dict[int, list[_LeftOut]]) -> list[str | None]:
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


class _KeptColumn(NamedTuple):
    """A column of the input that is carried over."""

    name: str  # in the input
    written: str  # in the output
    type: pa.DataType
    exact: frozenset[type] | None  # types that Arrow takes as they are; None: `fits` has to look at each value
    fits: Callable[[Any], bool]

    def array(self, values: list[Any], left_out: dict[int, list[_LeftOut]]) -> pa.Array:
        if self._is_sound(values):
            try:
                return pa.array(values, type=self.type)
            except _REFUSALS:
                pass
        return pa.array([self._stored(value, place, left_out) for place, value in enumerate(values)], type=self.type)

    def _is_sound(self, values: list[Any]) -> bool:
        """Arrow cuts 1.5 to 1, splits "ab" into a list and drops unknown keys without a word: it must not see them."""
        return all(map(self.fits, values)) if self.exact is None else self.exact.issuperset(map(type, values))

    def _stored(self, value: Any, place: int, left_out: dict[int, list[_LeftOut]]) -> Any:
        if value is None:
            return None
        try:
            adapted = _adapted(value, self.type)
            if self.fits(adapted):
                pa.array([adapted], type=self.type)
                return adapted
        except (*_REFUSALS, RecursionError):
            pass
        left_out.setdefault(place, []).append(_LeftOut(self.name, f"{_shown(value)} does not fit {self.type}"))
        return None


def _kept_columns(kept: pa.Schema) -> list[_KeptColumn]:
    taken = set(OUTCOME_COLUMNS)
    columns = []
    for field in kept:
        written = field.name
        while written in taken:
            written = f"input_{written}"
        taken.add(written)
        kind = _storable(field.type)
        columns.append(_KeptColumn(field.name, written, kind, _exact_types(kind), _fits(kind)))
    return columns


def _storable(kind: pa.DataType) -> pa.DataType:
    """The type that holds the same values and that every reader of Parquet knows. Everything in it may be null."""
    if isinstance(kind, pa.BaseExtensionType):
        # A UUID or JSON as a type of its own breaks other readers; as text both are plain to see.
        return _TEXT if kind.extension_name in ("arrow.uuid", "arrow.json") else _storable(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _storable(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(inner.name, _storable(inner.type)) for inner in kind])
    if pa.types.is_map(kind):
        return pa.map_(_storable(kind.key_type), _storable(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_element(kind), kind.list_size)
    if pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind):
        return pa.large_list(_element(kind))
    if pa.types.is_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(_element(kind))
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", tz=kind.tz)
    return _STORED_AS.get(kind, kind)


_STORED_AS: Mapping[pa.DataType, pa.DataType] = {
    pa.string_view(): _TEXT,
    pa.binary_view(): pa.binary(),
    pa.time32("s"): pa.time32("ms"),  # Parquet has no seconds, and no days in milliseconds
    pa.date64(): pa.date32(),
}


def _element(kind: pa.DataType) -> pa.Field:
    return pa.field("element", _storable(kind.value_type))


def _exact_types(kind: pa.DataType) -> frozenset[type] | None:
    for is_kind, types in _EXACT:
        if is_kind(kind):
            return types
    return None


_NONE = type(None)
_EXACT: tuple[tuple[Callable[[pa.DataType], bool], frozenset[type]], ...] = (
    (pa.types.is_string, frozenset((str, _NONE))),
    (pa.types.is_large_string, frozenset((str, _NONE))),
    (pa.types.is_integer, frozenset((int, _NONE))),
    (pa.types.is_floating, frozenset((float, int, _NONE))),
    (pa.types.is_boolean, frozenset((bool, _NONE))),
    (pa.types.is_null, frozenset((_NONE,))),
)


def _fits(kind: pa.DataType) -> Callable[[Any], bool]:
    """Whether Arrow either holds a value without loss or refuses it aloud."""
    exact = _exact_types(kind)
    if exact is not None:
        return lambda value: type(value) in exact
    if pa.types.is_struct(kind):
        return _struct_fits({inner.name: _fits(inner.type) for inner in kind})
    if pa.types.is_map(kind):
        return _map_fits(_fits(kind.key_type), _fits(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _list_fits(_fits(kind.value_type))
    return lambda value: True


def _struct_fits(fields: Mapping[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        if value is None:
            return True
        return type(value) is dict and all(key in fields and fields[key](one) for key, one in value.items())

    return fits


def _map_fits(key: Callable[[Any], bool], member: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        if value is None:
            return True
        pairs: Iterable[tuple[Any, Any]] = value.items() if type(value) is dict else value
        return type(value) in (dict, list) and all(key(name) and member(one) for name, one in pairs)

    return fits


def _list_fits(element: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or (type(value) in (list, tuple) and all(map(element, value)))


def _adapted(value: Any, kind: pa.DataType) -> Any:
    """A value of the input in the form its column wants, where that loses nothing."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return without_surrogates(value) if isinstance(value, str) else _as_text(value)
    if pa.types.is_integer(kind) and isinstance(value, float) and value.is_integer():
        return int(value)
    if pa.types.is_floating(kind) and type(value) is int and int(float(value)) == value:
        return float(value)
    return _cleaned(value)


def _as_text(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)
    try:
        return json_text_as_it_is(value)
    except UnicodeEncodeError:
        return json_text_as_it_is(_cleaned(value))


def _shown(value: Any) -> str:
    text = reprlib.repr(value)  # of a value without end, too
    return text if len(text) <= 60 else f"{text[:59]}…"


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column of an earlier part in the type that it has now; null where the one cannot be made of the other."""
    if array.type == kind:
        return array
    try:
        return array.cast(kind)
    except pa.ArrowException:
        return pa.nulls(len(array), kind)


def _values(array: pa.Array) -> list[Any]:
    """The values of an array as `batch` takes them, exactly."""
    readable = _readable(array.type)
    values: list[Any] = (array if readable == array.type else array.cast(readable)).to_pylist()
    return values


def _readable(kind: pa.DataType) -> pa.DataType:
    """The type with integers for moments, times and durations."""
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_struct(kind):
        return pa.struct([inner.with_type(_readable(inner.type)) for inner in kind])
    if pa.types.is_map(kind):
        return pa.map_(_readable(kind.key_type), _readable(kind.item_type))
    for is_kind, listed in _LISTS:
        if is_kind(kind):
            return listed(kind.value_field.with_type(_readable(kind.value_type)), kind)
    return kind


_LISTS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Field, pa.DataType], pa.DataType]], ...] = (
    (pa.types.is_list, lambda element, kind: pa.list_(element)),
    (pa.types.is_large_list, lambda element, kind: pa.large_list(element)),
    (pa.types.is_fixed_size_list, lambda element, kind: pa.list_(element, kind.list_size)),
)


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


ANSWERS_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("number", pa.int32()),
        ("request_hash", _TEXT),
        ("http_status", pa.int32()),  # null: there was no response
        ("headers", _TEXT),  # JSON object
        ("body", pa.large_binary()),  # the bytes received; 500 of them can pass the 2 GB of a plain binary array
        ("is_cut", pa.bool_()),
        ("failure", _TEXT),  # kind; null: there was a response
        ("failure_message", _TEXT),
        ("failure_code", _TEXT),
        ("failure_http_status", pa.int32()),
        ("failure_retry_after_s", pa.float64()),
        ("failure_usage", _TEXT),  # JSON object; null: nothing was billed, as far as was said
        ("sent_at_s", pa.float64()),  # seconds since the epoch, UTC
        ("latency_s", pa.float64()),
        ("wait_s", pa.float64()),
        ("endpoint", _TEXT),
        ("protocol", _TEXT),  # null: the job's; so for the files of versions that had no pools
        ("model", _TEXT),
    ]
)


def answers_batch(attempts: Sequence[Attempt]) -> pa.RecordBatch:
    """Raw answers as Arrow, in the order given; `read_answers` gives the same attempts back."""
    rows = [_answer_row(attempt) for attempt in attempts]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in ANSWERS_SCHEMA]
    arrays = [_fitted_array(column, field.type) for column, field in zip(columns, ANSWERS_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=ANSWERS_SCHEMA)


def _answer_row(attempt: Attempt) -> tuple[Any, ...]:
    """In the order of ANSWERS_SCHEMA."""
    return (
        attempt.row,
        attempt.number,
        attempt.request_hash,
        *_response_columns(attempt.response),
        *_failure_columns(attempt.failure),
        attempt.sent_at_s,
        attempt.latency_s,
        attempt.wait_s,
        attempt.endpoint,
        attempt.protocol,
        attempt.model,
    )


def _response_columns(response: HttpResponse | None) -> tuple[Any, ...]:
    if response is None:
        return (None,) * 4
    # The standard library's writer escapes halves of surrogate pairs, which headers with odd bytes are decoded to.
    return response.status, json.dumps(dict(response.headers)), response.body, response.is_cut


def _failure_columns(failure: Failure | None) -> tuple[Any, ...]:
    if failure is None:
        return (None,) * 6
    usage = None if failure.usage == NO_USAGE else json.dumps({name: getattr(failure.usage, name) for name in _USAGE})
    return failure.kind.label, failure.message, failure.code, failure.http_status, failure.retry_after_s, usage


def read_answers(batch: pa.RecordBatch) -> list[Attempt]:
    """The attempts of a batch of an answers file, in its order."""
    return [_attempt(row) for row in batch.to_pylist()]


def _attempt(row: Mapping[str, Any]) -> Attempt:
    return Attempt(
        row=row["row"],
        number=row["number"],
        request_hash=row["request_hash"],
        response=_response(row),
        failure=_failure(row),
        sent_at_s=row["sent_at_s"],
        latency_s=row["latency_s"],
        wait_s=row["wait_s"],
        endpoint=row["endpoint"],
        protocol=row.get("protocol"),
        model=row.get("model"),
    )


def _response(row: Mapping[str, Any]) -> HttpResponse | None:
    if row["http_status"] is None:
        return None
    return HttpResponse(row["http_status"], json.loads(row["headers"]), row["body"], is_cut=row["is_cut"])


def _failure(row: Mapping[str, Any]) -> Failure | None:
    if row["failure"] is None:
        return None
    return Failure(
        kind=_KINDS[row["failure"]],
        message=row["failure_message"],
        http_status=row["failure_http_status"],
        code=row["failure_code"],
        retry_after_s=row["failure_retry_after_s"],
        usage=NO_USAGE if row["failure_usage"] is None else Usage(**json.loads(row["failure_usage"])),
    )


_KINDS = {kind.label: kind for kind in FailureKind}
