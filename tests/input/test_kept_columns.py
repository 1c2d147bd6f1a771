"""Kept columns come out as they went in, whatever their types; see `kept_columns.py`."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchcall.base.records import Outcome, Status
from batchcall.disk.disk import RealDisk
from batchcall.input.kept_columns import KeptColumns, KeptRow
from batchcall.input.open_input import open_input
from batchcall.output.columns import Layout
from batchcall.output.parts import Totals, Wanted, fits, read_rows, write_part

FAR_DAYS = [2**31 - 1, -(2**31) + 1, None, 0]  # DuckDB's infinity, its opposite
FAR = [2**63 - 1, -(2**63), None, 1_700_000_000_123_456_789]


def numbers(kind: pa.DataType, values: list[int | None]) -> pa.Array:
    storage = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array(values, storage).cast(kind)


class Celsius(pa.ExtensionType):  # type: ignore[misc]
    """A type that no reader but this test knows."""

    def __init__(self) -> None:
        super().__init__(pa.float32(), "test.celsius")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"as of 1954"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Celsius:
        return cls()


def extension(kind: pa.DataType, storage: list[Any]) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, pa.array(storage, kind.storage_type))


COLUMNS: dict[str, pa.Array] = {
    "ns": numbers(pa.timestamp("ns"), FAR),
    "ns in a zone": numbers(pa.timestamp("ns", "Europe/Zurich"), FAR),
    "us for ever": numbers(pa.timestamp("us"), FAR),
    "ms with an offset": numbers(pa.timestamp("ms", "+05:30"), FAR),
    "days for ever": numbers(pa.date32(), FAR_DAYS),
    "time ns": numbers(pa.time64("ns"), [1, 86_399_999_999_999, None, 1_234_567_891]),
    "duration ns": numbers(pa.duration("ns"), FAR),
    "duration s": numbers(pa.duration("s"), [2**40, None, 0, -1]),
    "lists of ns": pa.array([[1, None], None, [], [2]], pa.list_(pa.int64())).cast(pa.list_(pa.timestamp("ns"))),
    "decimal": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-99.99"), None], pa.decimal128(4, 2)),
    "wide decimal": pa.array([decimal.Decimal(10**70), None, None, decimal.Decimal(-1)], pa.decimal256(76, 0)),
    "category": pa.array(["a", "b", None, "a"], pa.dictionary(pa.int8(), pa.string())),
    "grades": pa.DictionaryArray.from_arrays(pa.array([1, 0, None, 1], pa.int8()), ["low", "high"], ordered=True),
    "categories": pa.array([["a", None], None, [], ["b"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    "inner category": pa.array(
        [{"x": "a"}, None, {"x": None}, {"x": "b"}], pa.struct([("x", pa.dictionary(pa.int32(), pa.string()))])
    ),
    "string view": pa.array(["a", None, "", "longer than twelve bytes"], pa.string_view()),
    "binary view": pa.array([b"a", None, b"", b"\xff longer than twelve"], pa.binary_view()),
    "list view": pa.array([[1], None, [], [2, None]], pa.list_view(pa.int64())),
    "large": pa.array(["a", None, "", "b"], pa.large_string()),
    "large bytes": pa.array([b"\xff", None, b"", b"b"], pa.large_binary()),
    "large list": pa.array([[1], None, [], [2, None]], pa.large_list(pa.int64())),
    "pairs with nulls": pa.array([[1, 2], None, [None, 3], [4, None]], pa.list_(pa.int64(), 2)),
    "map": pa.array([[("a", 1), ("b", None)], None, [], [("c", 2)]], pa.map_(pa.string(), pa.int64())),
    "uuid": extension(pa.uuid(), [bytes(16), None, b"\xff" * 16, None]),
    "json": extension(pa.json_(), ['{"b": 1, "a": 2}', None, "[]", "1"]),
    "bool8": extension(pa.bool8(), [1, None, 0, 5]),
    "tensor": extension(pa.fixed_shape_tensor(pa.int32(), [2]), [[1, 2], [3, 4], [5, 6], [7, 8]]),
    "turned tensor": extension(
        pa.fixed_shape_tensor(pa.int32(), [2, 1], permutation=[1, 0]), [[1, 2], [3, 4], [5, 6], [7, 8]]
    ),
    "uuids": pa.ListArray.from_arrays(
        pa.array([0, 1, 1, 2, 2], pa.int32()), extension(pa.uuid(), [bytes(16), b"\xff" * 16])
    ),
    "uuid inside": pa.StructArray.from_arrays(
        [extension(pa.uuid(), [bytes(16), None, b"\xff" * 16, None])], names=["id"]
    ),
    "half": pa.array(numpy.array([1.5, float("inf"), -0.0, float("nan")], numpy.float16)),
    "nan": pa.array([float("nan"), None, float("-inf"), 5e-324]),
    "unsigned": pa.array([2**64 - 1, None, 0, 1], pa.uint64()),
    "three bytes": pa.array([b"abc", None, b"\0\0\0", b"xyz"], pa.binary(3)),
    "nothing": pa.nulls(4),
    "deep": pa.array(
        [{"a": [{"b": 1}]}, None, {"a": None}, {"a": [None, {"b": 2}]}],
        pa.struct([("a", pa.list_(pa.struct([pa.field("b", pa.int8(), metadata={"unit": "m"})])))]),
    ),
    "not UTF-8": pa.Array.from_buffers(
        pa.string(), 4, [None, pa.array([0, 1, 2, 3, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xffb")]
    ),
}


def kept_rows(path: Path, layout: Layout) -> list[tuple[KeptRow, Outcome]]:
    """The rows of an input with only their text turned into Python, in the order in which they end."""
    rows = [row for batch in open_input(str(path)).batches(["text"], keep=layout.kept) for row in batch.rows]
    assert all(row.fault is None and row.values.keys() == {"text"} for row in rows)
    return [(row.kept, Outcome(row.index, Status.OK)) for row in rows]


def layout_of(path: Path) -> Layout:
    source = open_input(str(path))
    return Layout(source.kept_schema(source.columns), None, is_all_kept=True)


def write_input(path: Path, columns: dict[str, pa.Array], **options: Any) -> pa.Table:
    rows = len(next(iter(columns.values())))
    try:
        pq.write_table(pa.table({"text": pa.array(["x"] * rows), **columns}), path, **options)
        return pq.read_table(path)
    except pa.ArrowException as error:
        pytest.skip(f"pyarrow {pa.__version__} has no such column in Parquet itself: {error}")


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("row_group_size", [4, 1])
def test_a_column_comes_out_as_it_went_in(tmp_path: Path, name: str, row_group_size: int) -> None:
    path, part = tmp_path / "in.parquet", tmp_path / "part-000000.parquet"
    before = write_input(path, {name: COLUMNS[name]}, row_group_size=row_group_size)
    layout = layout_of(path)

    rows = kept_rows(path, layout)
    write_part(RealDisk(), part, layout, [layout.batch(rows)], Totals())

    after = pq.read_table(part)
    assert after.schema.field(name).equals(before.schema.field(name), check_metadata=True)
    assert is_same(after.column(name), before.column(name))
    assert after.column("error").null_count == 4  # nothing was left out
    again = list(read_rows(RealDisk(), part, layout))  # as a resume takes it up
    assert is_same(pa.chunked_array([layout.batch(again).column(name)]), before.column(name))
    wanted = {outcome.row: Wanted({None}, kept) for kept, outcome in rows}
    assert fits(RealDisk(), part, wanted, layout) or "nan" in str(before.column(name))


def is_same(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    """Equal types and values; NaN is equal to itself here, and bytes are compared as bytes."""
    left, right = one.combine_chunks(), other.combine_chunks()
    if left.type != right.type:
        return False
    if pa.types.is_string(left.type):
        left, right = left.cast(pa.binary()), right.cast(pa.binary())
    return bool(left.equals(right)) or (pa.types.is_floating(left.type) and str(left) == str(right))


def test_the_kind_of_a_column_stays_with_its_metadata_and_where_it_may_not_be_null(tmp_path: Path) -> None:
    path, part = tmp_path / "in.parquet", tmp_path / "part-000000.parquet"
    inner = pa.field("b", pa.int8(), nullable=False, metadata={"unit": "m"})
    schema = pa.schema(
        [
            pa.field("text", pa.string(), nullable=False),
            pa.field("price", pa.int64(), nullable=False, metadata={"comment": "in cents"}),
            pa.field("nested", pa.struct([inner])),
        ]
    )
    pq.write_table(pa.table({"text": ["x"], "price": [5], "nested": [{"b": 1}]}, schema), path)
    layout = layout_of(path)

    write_part(RealDisk(), part, layout, [layout.batch(kept_rows(path, layout))], Totals())

    after = pq.read_schema(part)
    assert [after.field(name).equals(schema.field(name), check_metadata=True) for name in schema.names] == [True] * 3


def test_a_type_that_nobody_knows_keeps_its_name_for_those_who_do(tmp_path: Path) -> None:
    path, part = tmp_path / "in.parquet", tmp_path / "part-000000.parquet"
    pa.register_extension_type(Celsius())
    try:
        write_input(path, {"heat": extension(Celsius(), [36.6, None])})
    finally:
        pa.unregister_extension_type("test.celsius")
    layout = layout_of(path)  # by a process that has never heard of it
    write_part(RealDisk(), part, layout, [layout.batch(kept_rows(path, layout))], Totals())

    pa.register_extension_type(Celsius())
    try:
        heat = pq.read_table(part).column("heat")
    finally:
        pa.unregister_extension_type("test.celsius")

    assert heat.type == Celsius()
    assert heat.combine_chunks().storage.to_pylist() == [pytest.approx(36.6), None]


def test_categories_of_many_batches_are_one_column(tmp_path: Path) -> None:
    path, part = tmp_path / "in.parquet", tmp_path / "part-000000.parquet"
    values = [f"c{number % 700}" for number in range(2_000)]
    before = write_input(path, {"kind": pa.array(values).dictionary_encode()}, row_group_size=300)
    layout = layout_of(path)

    write_part(RealDisk(), part, layout, [layout.batch(kept_rows(path, layout))], Totals())

    assert pq.read_table(part).column("kind").type == before.column("kind").type
    assert pq.read_table(part).column("kind").to_pylist() == values


def test_files_that_write_one_column_in_other_ways_make_one_column(tmp_path: Path) -> None:
    folder, part = tmp_path / "in", tmp_path / "part-000000.parquet"
    folder.mkdir()
    for number, kind in enumerate(
        [pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.large_string(), pa.string_view()]
    ):
        write_input(folder / f"{number}.parquet", {"kind": pa.array([f"v{number}", None], kind)})
    layout = layout_of(folder)

    write_part(RealDisk(), part, layout, [layout.batch(kept_rows(folder, layout))], Totals())

    kind = pq.read_table(part).column("kind")
    assert kind.to_pylist() == ["v0", None, "v1", None, "v2", None, "v3", None]
    assert kind.type == pa.dictionary(pa.int8(), pa.string())


def test_a_column_may_be_null_in_one_file_where_it_may_not_in_another(tmp_path: Path) -> None:
    folder, part = tmp_path / "in", tmp_path / "part-000000.parquet"
    folder.mkdir()
    for number, (nullable, value) in enumerate([(False, 1), (True, None)]):
        schema = pa.schema([("text", pa.string()), pa.field("n", pa.int64(), nullable=nullable)])
        pq.write_table(pa.table({"text": ["x"], "n": [value]}, schema), folder / f"{number}.parquet")
    layout = layout_of(folder)

    write_part(RealDisk(), part, layout, [layout.batch(kept_rows(folder, layout))], Totals())

    assert pq.read_table(part).column("n").to_pylist() == [1, None]


def test_a_column_that_only_a_later_file_has_is_reported_in_the_rows_that_fill_it(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_input(folder / "0.parquet", {"n": pa.array([1])})
    write_input(folder / "1.parquet", {"n": pa.array([2, 3]), "late": numbers(pa.date32(), [2**31 - 1, None])})
    layout = layout_of(folder)
    source = open_input(str(folder))
    named = Layout(source.kept_schema(["n"]), None)

    all_kept, some_kept = ([kept for kept, _ in kept_rows(folder, one)] for one in (layout, named))

    why = "has no column, as the first file of the input lacks it"
    assert [kept.left_out for kept in all_kept] == [(), (("late", why),), ()]
    assert [kept.left_out for kept in some_kept] == [(), (), ()]  # the job names the columns that it wants


UNSTORABLE: dict[str, Callable[[], pa.Array]] = {
    "runs": lambda: pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]),
    "intervals": lambda: pa.array([(1, 2, 3), None, (4, 5, 6)], pa.month_day_nano_interval()),
    "empty structs": lambda: pa.array([{}, None, {}], pa.struct([])),
    "unions": lambda: pa.UnionArray.from_sparse(
        pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), pa.array(["a", "b", "c"])]
    ),
    "hundreds": lambda: pa.array([decimal.Decimal(1200), None, decimal.Decimal(100)], pa.decimal128(10, -2)),
    "runs in a list": lambda: pa.ListArray.from_arrays(
        pa.array([0, 1, 1, 3], pa.int32()), pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"])
    ),
}


@pytest.mark.parametrize("name", UNSTORABLE)
def test_a_type_that_parquet_cannot_hold_is_kept_as_another_and_that_is_said(tmp_path: Path, name: str) -> None:
    array = UNSTORABLE[name]()
    kept = KeptColumns(pa.schema([pa.field(name, array.type)]))
    layout, part = Layout(pa.schema([pa.field(name, array.type)]), None), tmp_path / "part-000000.parquet"

    rows = [(row, Outcome(row.place, Status.OK)) for row in kept.of_arrays({name: array}, 3)]
    write_part(RealDisk(), part, layout, [layout.batch(rows)], Totals())

    (note,) = kept.notes
    assert note.startswith(f"column {name!r} is {array.type}, which Parquet cannot store: it is kept as ")
    written = pq.read_table(part).column(name)
    assert written.type == kept.fields[0].type
    assert [value is None for value in written.to_pylist()] == [not value.is_valid for value in array]


def test_rows_are_gathered_from_wherever_they_lie() -> None:
    kept = KeptColumns(pa.schema([("n", pa.int64())]))
    first, second = (kept.of_arrays({"n": pa.array(range(start, start + 5))}, 5) for start in (0, 50))

    (column,) = kept.gathered([first[1], first[2], first[4], None, second[0], second[1], first[3]])

    assert column.to_pylist() == [1, 2, 4, None, 50, 51, 3]
    assert kept.gathered([])[0].to_pylist() == []


def test_rows_that_lie_behind_one_another_are_not_copied() -> None:
    kept = KeptColumns(pa.schema([("when", pa.timestamp("ns")), ("day", pa.date32())]))
    moments = numbers(pa.timestamp("ns"), [1, 2, 3, 4])
    rows = kept.of_arrays({"when": moments, "day": numbers(pa.date32(), FAR_DAYS)}, 4)
    before = pa.total_allocated_bytes()

    when, day = kept.gathered(rows[1:3])

    assert pa.total_allocated_bytes() == before
    assert when.buffers()[1].address == moments.buffers()[1].address
    assert day.cast(pa.int32()).to_pylist() == FAR_DAYS[1:3]


def test_a_moment_in_a_prompt_costs_its_row_only_where_python_cannot_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    write_input(path, {"until": numbers(pa.date32(), [19_000, 2**31 - 1, -800_000])})
    source = open_input(str(path))
    layout = layout_of(path)

    rows = [row for batch in source.batches(["text", "until"], keep=layout.kept) for row in batch.rows]

    assert rows[0].values == {"text": "x", "until": datetime.date(2022, 1, 8)}
    assert [row.fault for row in rows[1:]] == [
        "column 'until' cannot be read: the request needs it, and its time or duration is outside the years 1 to 9999"
    ] * 2
    kept = layout.batch([(row.kept, Outcome(row.index, Status.OK)) for row in rows])
    assert kept.column("until").cast(pa.int32()).to_pylist() == [19_000, 2**31 - 1, -800_000]
    assert kept.column("text").to_pylist() == ["x"] * 3
