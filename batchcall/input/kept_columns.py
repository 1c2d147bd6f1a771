"""The columns of the input that an output carries over. They are Arrow from end to end: no value becomes a Python
object on its way, so each comes out as it went in, and none can spoil its row.

Only JSONL has to be made Arrow first, with the types of its sample; what does not fit these is left out, and reported.
"""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchcall.input.arrow_values import REFUSALS, cleaned, fitted_array
from batchcall.schemas import without_surrogates

# Columns and types are fixed before the first row is asked about, from a sample of JSONL or the first Parquet file. So
# a value further on may have no place in the output:
#
# - its column is not among those that were seen: reported only where all columns are to be kept;
# - another file has another type for the column, and this value cannot be converted;
# - a line of JSONL has another type than the sample: 1.5 in a column of whole numbers.
#
# Such a row is asked about like any other. The cell is null, and the row's `error` says so.


class LeftOut(NamedTuple):
    """A value of the input that no column holds."""

    column: str
    why: str


class KeptRow(msgspec.Struct, frozen=True):
    """What is kept of a row of the input: where it lies, and what of the row has no place."""

    batch: pa.RecordBatch  # with the schema of its KeptColumns
    place: int
    left_out: tuple[LeftOut, ...] = ()


Values = Mapping[str, Any]


class KeptColumns:
    """Which columns are kept, by which names and types. Fixed for all parts of an output."""

    def __init__(self, of_input: pa.Schema, taken: Iterable[str] = (), *, is_all: bool = False) -> None:
        """`of_input` are these columns there. A name that is `taken` in the output gets `input_` before it.

        With `is_all` a row also says what else it had: only some rows were seen when the columns were fixed.
        """
        self.names: list[str] = of_input.names  # in the input
        self.is_all = is_all
        self.fields = [
            field.with_name(name)
            for field, name in zip(_storable(of_input), _written(of_input.names, taken), strict=True)
        ]  # in the output
        self.schema = pa.schema(self.fields)
        self._known = frozenset(self.names)
        self._fits = [_fits(field.type) for field in self.fields]
        self.notes = [
            f"column {field.name!r} is {field.type}, which Parquet cannot store: it is kept as {written.type}"
            for field, written in zip(of_input, self.fields, strict=True)
            if field.type != written.type
        ]

    def of_arrays(self, columns: Mapping[str, pa.Array], rows: int) -> list[KeptRow]:
        """Rows of Arrow columns, by their names in the input. One that is not given is null, one that is not kept is
        named as left out."""
        left_out: dict[int, list[LeftOut]] = {}
        for name in columns.keys() - self._known if self.is_all else ():
            for place in _true_places(columns[name].is_valid()):
                left_out.setdefault(place, []).append(LeftOut(name, _NOT_IN_FIRST_FILE))
        arrays = [
            _cast(columns[name], name, field.type, left_out) if name in columns else pa.nulls(rows, field.type)
            for name, field in zip(self.names, self.fields, strict=True)
        ]
        return self._rows_of(pa.RecordBatch.from_arrays(arrays, schema=self.schema), rows, left_out)

    def of_values(self, rows: Sequence[Values]) -> list[KeptRow]:
        """Rows of JSONL. A value that does not fit its column is null there, and named as left out."""
        left_out: dict[int, list[LeftOut]] = {}
        arrays = [
            _array([row.get(name) for row in rows], name, field.type, fits, left_out)
            for name, field, fits in zip(self.names, self.fields, self._fits, strict=True)
        ]
        has_more = self.is_all and not set[str]().union(*rows) <= self._known
        for place, row in enumerate(rows) if has_more else ():
            if not row.keys() <= self._known:
                left_out.setdefault(place, []).extend(
                    LeftOut(name, f"{_shown(value)} has no column, as the first rows of the input lack it")
                    for name, value in row.items()
                    if name not in self._known and value is not None
                )
        return self._rows_of(pa.RecordBatch.from_arrays(arrays, schema=self.schema), len(rows), left_out)

    def _rows_of(self, batch: pa.RecordBatch, rows: int, left_out: Mapping[int, Sequence[LeftOut]]) -> list[KeptRow]:
        """All rows of a batch; where it has no column, it does not know how many there are."""
        if not left_out:
            return [KeptRow(batch, place) for place in range(rows)]
        return [KeptRow(batch, place, tuple(left_out.get(place, ()))) for place in range(rows)]

    def filled(self, rows: Sequence[KeptRow], values: Values) -> list[KeptRow]:
        """These rows, which are all of one batch, with a value in the place of each null; by names of the input."""
        import pyarrow.compute as pc

        columns = list(rows[0].batch.columns)
        for number, name in enumerate(self.names):
            if values.get(name) is not None:
                columns[number] = pc.fill_null(columns[number], pa.scalar(values[name], self.fields[number].type))
        batch = pa.RecordBatch.from_arrays(columns, schema=self.schema)
        return [KeptRow(batch, row.place, row.left_out) for row in rows]

    def gathered(self, rows: Sequence[KeptRow | None]) -> list[pa.Array]:
        """These rows as one array for each column. A row that nothing is known of is all null."""
        if not rows or not self.fields:
            return [pa.array([], field.type) for field in self.fields]
        (nothing,) = self.of_arrays({}, 1)
        known = [nothing if row is None else row for row in rows]
        # Rows that lie behind one another are cut out together. There are few cuts, as rows are in the order of the
        # input, and a slice copies nothing.
        cuts = [0]
        for number, (one, following) in enumerate(pairwise(known), start=1):
            if following.batch is not one.batch or following.place != one.place + 1:
                cuts.append(number)
        pieces = [
            known[first].batch.slice(known[first].place, end - first) for first, end in pairwise([*cuts, len(known)])
        ]
        if len(pieces) == 1:
            return list(pieces[0].columns)
        return [pa.concat_arrays([piece.column(number) for piece in pieces]) for number in range(len(self.fields))]


_NOT_IN_FIRST_FILE = "has no column, as the first file of the input lacks it"


def _written(names: Iterable[str], taken: Iterable[str]) -> list[str]:
    used, written = set(taken), []
    for name in names:
        while name in used:
            name = f"input_{name}"
        used.add(name)
        written.append(name)
    return written


def _storable(schema: pa.Schema) -> list[pa.Field]:
    """The columns as they come back from Parquet: nearly always as they are.

    Tried with an empty table: only pyarrow knows what its version can store, and as what.
    """
    try:
        return list(_after_parquet(schema))
    except (pa.ArrowException, OSError):
        return [_storable_field(field) for field in schema]


def _storable_field(field: pa.Field) -> pa.Field:
    # Most types are stored as they are, encodings and views as what they stand for, all others as text.
    for kind in (field.type, _plain(field.type), pa.string()):
        try:
            return _after_parquet(pa.schema([field.with_type(kind)])).field(0)
        except (pa.ArrowException, OSError):
            continue
    raise AssertionError("text can be stored")


def _after_parquet(schema: pa.Schema) -> pa.Schema:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_batches([], schema), sink)
    return pq.read_schema(pa.BufferReader(sink.getvalue())).remove_metadata()


def _plain(kind: pa.DataType) -> pa.DataType:
    """A type that holds the same values without being encoded, viewed or named in a way that Parquet does not know."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _plain(kind.value_type)
    if kind in _PLAIN_VIEWS:
        return _PLAIN_VIEWS[kind]
    if pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([inner.with_type(_plain(inner.type)) for inner in kind if inner.type != pa.struct([])])
    return kind


_PLAIN_VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


def _cast(array: pa.Array, name: str, kind: pa.DataType, left_out: dict[int, list[LeftOut]]) -> pa.Array:
    """A column in the type that it has in the output. What cannot be made of it is null, and named as left out."""
    if array.type == kind:
        return array
    # The ways in turn, the cheapest first: as it is; without its encoding; as text, into a column of text; value by
    # value, where null takes the place of what does not fit.
    for way in _WAYS:
        try:
            cast = way(array, kind)
            break
        except REFUSALS:
            continue
    if cast.null_count > array.null_count:
        import pyarrow.compute as pc

        for place in _true_places(pc.and_(array.is_valid(), cast.is_null())):
            left_out.setdefault(place, []).append(LeftOut(name, f"{array.type} cannot be converted to {kind}"))
    return cast


def _true_places(mask: pa.BooleanArray) -> list[int]:
    return [place for place, is_true in enumerate(mask.to_pylist()) if is_true]


def _through_text(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_string(kind):
        raise TypeError(f"{kind} is not text")
    return pa.array([str(value) if value.is_valid else None for value in array], kind)


def _as_python(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except REFUSALS:
        return None


_WAYS: tuple[Callable[[pa.Array, pa.DataType], pa.Array], ...] = (
    lambda array, kind: array.cast(kind),
    lambda array, kind: array.cast(_plain(array.type)).cast(kind),
    _through_text,
    lambda array, kind: fitted_array([_as_python(value) for value in array], kind),
)


# Of JSONL: its columns have one of four types.


def _array(
    values: list[Any], name: str, kind: pa.DataType, fits: Callable[[Any], bool], left_out: dict[int, list[LeftOut]]
) -> pa.Array:
    # The types are looked at first, as Arrow cuts 1.5 to 1 in a column of integers and reports nothing. It refuses the
    # whole column for one value that does not fit; then they go one by one.
    if all(map(fits, map(type, values))):
        try:
            return pa.array(values, type=kind)
        except REFUSALS:
            pass
    stored: list[Any] = []
    for place, value in enumerate(values):
        if value is None:
            stored.append(None)
            continue
        found = None
        with contextlib.suppress(*REFUSALS, RecursionError):
            adapted = as_in_column(value, kind)
            if fits(type(adapted)):
                pa.array([adapted], type=kind)
                found = adapted
        if found is None:
            left_out.setdefault(place, []).append(LeftOut(name, f"{_shown(value)} does not fit {kind}"))
        stored.append(found)
    return pa.array(stored, type=kind)


def _fits(kind: pa.DataType) -> Callable[[Any], bool]:
    """Whether a column of this type takes values of a Python type without loss."""
    return (_EXACT.get(kind, frozenset()) | {type(None)}).__contains__


_EXACT: Mapping[pa.DataType, frozenset[type]] = {
    pa.string(): frozenset({str}),
    pa.int64(): frozenset({int}),
    pa.float64(): frozenset({float, int}),
    pa.bool_(): frozenset({bool}),
}


def as_in_column(value: Any, kind: pa.DataType) -> Any:
    """The value in the form that its column wants, where that loses nothing; else as it is."""
    if pa.types.is_string(kind):
        if isinstance(value, str):
            return without_surrogates(value)
        try:
            return msgspec.json.encode(value).decode()
        except UnicodeEncodeError:
            return msgspec.json.encode(cleaned(value)).decode()
    if pa.types.is_integer(kind) and isinstance(value, float) and value.is_integer():
        return int(value)
    if pa.types.is_floating(kind) and type(value) is int and int(float(value)) == value:
        return float(value)
    return value


def _shown(value: Any) -> str:
    text = reprlib.repr(value)  # of a value without end, too
    return text if len(text) <= 60 else f"{text[:59]}…"
