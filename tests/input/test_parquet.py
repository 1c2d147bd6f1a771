"""Parquet: every type there is, files that disagree or are damaged, and memory that does not grow with the file."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchcall.base.errors import InputError
from batchcall.base.records import Row
from batchcall.input.open_input import Input, open_input
from batchcall.requests.prompt import compile_template

NS = 1_700_000_000_123_456_789
MOMENT = dt.datetime(2023, 11, 14, 22, 13, 20, 123456)
UUID = uuid.UUID(int=7)

TYPES: dict[str, tuple[pa.Array, Any]] = {
    # column: what is written, the value that is read for a prompt
    "moment": (pa.array([NS], pa.timestamp("ns")), MOMENT),
    "moment_utc": (pa.array([NS], pa.timestamp("ns", "UTC")), MOMENT.replace(tzinfo=dt.UTC)),
    "moments": (pa.array([[NS]], pa.list_(pa.timestamp("ns"))), [MOMENT]),
    "time": (pa.array([1_234_567_891], pa.time64("ns")), dt.time(0, 0, 1, 234567)),
    "duration": (pa.array([1_234_567_891], pa.duration("ns")), dt.timedelta(microseconds=1_234_567)),
    "date": (pa.array([dt.date(2024, 2, 29)]), dt.date(2024, 2, 29)),
    "decimal": (pa.array([Decimal("1.50")]), Decimal("1.50")),
    "binary": (pa.array([b"\xff"]), b"\xff"),
    "unsigned": (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
    "half": (pa.array([1.5], pa.float16()), 1.5),
    "null": (pa.nulls(1), None),
    "map": (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), [("a", 1)]),
    "struct": (pa.array([{"k": [{"l": None}]}]), {"k": [{"l": None}]}),
    "pair": (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), [1, 2]),
    "uuid": (pa.array([UUID.bytes], pa.uuid()), UUID),
    "view": (pa.array(["x"], pa.string_view()), "x"),
    "category": (pa.array(["x"]).dictionary_encode(), "x"),
    "categories": (
        pa.array([["x"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        ["x"],
    ),
    "inner.category": (
        pa.StructArray.from_arrays([pa.array(["x"]).dictionary_encode()], ["inner"]),
        {"inner": "x"},
    ),
    "inner": (pa.array(["a column whose name begins another's"]), "a column whose name begins another's"),
}


def write(path: Path, columns: Any, **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(source: Input, *columns: str) -> list[Row]:
    return [row for batch in source.batches(columns or source.columns) for row in batch.rows]


@pytest.mark.parametrize("column", TYPES)
def test_every_type_is_read(tmp_path: Path, column: str) -> None:
    path = write(tmp_path / "types.parquet", {name: written for name, (written, _) in TYPES.items()})
    source = open_input(str(path))
    written, value = TYPES[column]

    rows = read(source, column)

    assert [row.values for row in rows] == [{column: value}]
    assert source.schema.field(column).type == written.type


DIGITS: dict[str, tuple[pa.DataType, int, str]] = {
    # column: its type, what it counts, its text in a prompt
    "moment": (pa.timestamp("ns"), NS, "2023-11-14 22:13:20.123456789"),
    "zoned": (pa.timestamp("ns", "Europe/Berlin"), NS, "2023-11-14 23:13:20.123456789+01:00"),
    "before": (pa.timestamp("ns"), -1, "1969-12-31 23:59:59.999999999"),
    "on_the_second": (pa.timestamp("ns"), 10**9 + 70, "1970-01-01 00:00:01.000000070"),
    "time": (pa.time64("ns"), 1_234_567_891, "00:00:01.234567891"),
    "duration": (pa.duration("ns"), 10**9 + 1, "0:00:01.000000001"),
    "whole": (pa.timestamp("ns"), NS - 789, "2023-11-14 22:13:20.123456"),
    "second": (pa.timestamp("ns"), 10**9, "1970-01-01 00:00:01"),
}


@pytest.mark.parametrize("column", DIGITS)
@pytest.mark.parametrize("is_nested", [False, True])
def test_rows_that_differ_only_in_nanoseconds_make_different_prompts(
    tmp_path: Path, column: str, is_nested: bool
) -> None:
    kind, count, text = DIGITS[column]
    flat = pa.array([count, count + 1, None], pa.int64()).cast(kind)
    items = pa.StructArray.from_arrays([flat], ["at"]) if is_nested else flat
    template = compile_template("{{ x.at }}" if is_nested else "{{ x }}", key="request.prompt")

    rows = read(open_input(str(write(tmp_path / "ns.parquet", {"x": items}))))

    prompts = [template.render(row.values) for row in rows]
    assert prompts[0] == text
    assert len(set(prompts)) == 3


def test_a_value_that_python_cannot_hold_costs_its_row(tmp_path: Path) -> None:
    far = pa.array([0, 2**62, 1], pa.timestamp("us"))
    offsets, content = pa.array([0, 1, 2, 3], pa.int32()), pa.py_buffer(b"ab\xff")
    text = pa.Array.from_buffers(pa.string(), 3, [None, offsets.buffers()[1], content])
    source = open_input(str(write(tmp_path / "far.parquet", {"far": far, "text": text})))

    faults = [row.fault for row in read(source)]
    untouched = [row.values for row in read(source, "text")][:2]

    assert faults[0] is None
    assert faults[1] is not None
    assert "column 'far' cannot be read: the request needs it, and its time or duration" in faults[1]
    assert faults[2] is not None
    assert "column 'text' cannot be read: 'utf-8' codec" in faults[2]
    assert untouched == [{"text": "a"}, {"text": "b"}]


def test_empty_row_groups_and_files_are_passed_over(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2]})
    with pq.ParquetWriter(tmp_path / "1.parquet", table.schema) as writer:
        for piece in (table.slice(0, 0), table.slice(0, 1), table.slice(0, 0), table.slice(1, 1)):
            writer.write_table(piece)
    write(tmp_path / "0.parquet", table.slice(0, 0))

    rows = read(open_input(str(tmp_path)))

    assert [(row.index, row.values["a"], row.where) for row in rows] == [
        (0, 1, "1.parquet row 0"),
        (1, 2, "1.parquet row 1"),
    ]


def test_no_rows_at_all_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "none.parquet", {"a": pa.array([], pa.int64())})

    with pytest.raises(InputError, match=r"none\.parquet has no rows"):
        open_input(str(path))


@pytest.mark.parametrize("content", [b"", b"PAR1", b'{"a": 1}\n' * 10, b"\0" * 1000], ids=repr)
def test_what_is_not_parquet_is_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.parquet").write_bytes(content)

    with pytest.raises(InputError, match=r"rows\.parquet cannot be read as Parquet: .*Parquet") as error:
        open_input(str(tmp_path / "rows.parquet"))

    assert error.value.hint


def test_a_file_that_was_cut_is_reported_by_name_before_anything_is_sent(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", {"a": [1]})
    whole = write(tmp_path / "2.parquet", {"a": [2]}).read_bytes()
    (tmp_path / "2.parquet").write_bytes(whole[:-20])
    source = open_input(str(tmp_path))

    with pytest.raises(InputError, match=r"2\.parquet cannot be read as Parquet"):
        source.require(["a"], what="the request")
    with pytest.raises(InputError, match=r"2\.parquet cannot be read as Parquet"):
        read(source)


@pytest.mark.parametrize("is_header", [True, False], ids=["page header", "page that has a checksum"])
def test_an_unreadable_row_group_ends_the_run_with_its_place(tmp_path: Path, is_header: bool) -> None:
    texts = [f"text {number} " * 20 for number in range(3_000)]
    path = write(
        tmp_path / "rows.parquet", {"a": texts}, row_group_size=1_000, use_dictionary=False, write_page_checksum=True
    )
    column = pq.read_metadata(path).row_group(1).column(0)
    damage(path, column.data_page_offset + (0 if is_header else column.total_compressed_size // 2))
    rows: list[Row] = []

    with pytest.raises(InputError, match=r"rows\.parquet cannot be read from row [\d,]+ of its row group 1 on: \w+"):
        rows.extend(row for batch in open_input(str(path)).batches(["a"]) for row in batch.rows)

    assert [row.values["a"] for row in rows] == texts[: len(rows)]
    assert len(rows) >= 1_000


def damage(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place : place + 20] = bytes(byte ^ 0xFF for byte in content[place : place + 20])
    path.write_bytes(content)


def test_files_must_agree_on_the_columns_that_are_needed(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", {"a": [1], "b": ["x"], "c": [1]})
    write(tmp_path / "2.parquet", {"a": [1], "b": [2]})
    source = open_input(str(tmp_path))

    source.require(["a"], what="the request")
    with pytest.raises(InputError, match=r"column 'b' is int64 in 2\.parquet and string in 1\.parquet"):
        source.require(["a", "b"], what="the request")
    with pytest.raises(InputError, match=r"2\.parquet has no column 'c', which 1\.parquet has"):
        read(source, "c")

    assert [row.values for row in read(source, "a")] == [{"a": 1}, {"a": 1}]


def test_a_column_that_is_empty_in_one_file_has_its_type_from_another(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", {"a": pa.nulls(1), "b": ["x"]})
    write(tmp_path / "2.parquet", {"a": [7], "b": pa.array(["y"], pa.large_string())})
    write(tmp_path / "3.parquet", {"a": pa.nulls(1), "b": pa.array(["z"]).dictionary_encode()})
    source = open_input(str(tmp_path))

    source.require(["a", "b"], what="the request")

    assert source.schema == pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert [row.values["a"] for row in read(source)] == [None, 7, None]
    assert [row.values["b"] for row in read(source)] == ["x", "y", "z"]


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "twins.parquet")

    with pytest.raises(InputError, match="has more than one column 'a'"):
        open_input(str(tmp_path / "twins.parquet"))


MEASURE = """
import resource, sys
from batchcall.input.open_input import open_input

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

list(open_input(sys.argv[1]).batches(["text"]))
before = peak_mb()
rows = sum(len(batch.rows) for batch in open_input(sys.argv[2]).batches(["text"]))
print(rows, peak_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    texts = pa.array([f"{number:08d}" * 250 for number in range(32_000)])
    table = {"text": texts, "unneeded": texts}
    large = write(tmp_path / "large.parquet", table, row_group_size=32_000, compression="none", use_dictionary=False)
    small = write(tmp_path / "small.parquet", {"text": ["x"]})

    ended = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(large)], capture_output=True, text=True, check=True
    )
    rows, grown_mb = ended.stdout.split()

    assert large.stat().st_size > 120_000_000
    assert int(rows) == 32_000
    assert float(grown_mb) < 45
