"""The input as its users see it: the same rows from every format, from any row on, and clear words when it is wrong."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchcall.base.errors import InputError
from batchcall.base.records import Row
from batchcall.input.open_input import Batch, Input, Mark, open_input

Values = dict[str, Any]

ROWS: list[Values] = [
    {"id": f"r{number}", "text": "täxt " * (number % 7), "n": number, "tags": [{"k": str(number)}]}
    for number in range(1_300)
]


def write_jsonl(folder: Path, rows: Sequence[Values]) -> Path:
    return _written(folder / "rows.jsonl", as_lines(rows))


def write_gzip(folder: Path, rows: Sequence[Values]) -> Path:
    half = len(rows) // 2
    members = (gzip.compress(as_lines(rows[:half])), gzip.compress(as_lines(rows[half:])))
    return _written(folder / "rows.jsonl.gz", b"".join(members))


def write_zstd(folder: Path, rows: Sequence[Values]) -> Path:
    half = len(rows) // 2
    codec = pa.Codec("zstd")
    frames = (codec.compress(as_lines(part), asbytes=True) for part in (rows[:half], rows[half:]))
    return _written(folder / "rows.ndjson.zst", b"".join(frames))


def write_parquet(folder: Path, rows: Sequence[Values]) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=700)
    return path


def write_folder(folder: Path, rows: Sequence[Values]) -> Path:
    third = len(rows) // 3 + 1
    inside = folder / "parts"
    inside.mkdir()
    for number in range(3):
        part = rows[number * third : (number + 1) * third]
        _written(inside / f"part-{number}.jsonl", b"\n" * number + as_lines(part))
    _written(inside / "part-1a.jsonl", b"")
    return inside


def write_parquet_folder(folder: Path, rows: Sequence[Values]) -> Path:
    third = len(rows) // 3 + 1
    inside = folder / "tables"
    inside.mkdir()
    table = pa.Table.from_pylist(list(rows))
    for number in range(3):
        pq.write_table(table.slice(number * third, third), inside / f"part-{number}.parquet", row_group_size=100)
    pq.write_table(table.slice(0, 0), inside / "part-1a.parquet")
    return inside


WRITERS = [write_jsonl, write_gzip, write_zstd, write_parquet, write_folder, write_parquet_folder]
Writer = Callable[[Path, Sequence[Values]], Path]


def as_lines(rows: Sequence[Values]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(source: Input, columns: Sequence[str] | None = None, start_row: int = 0) -> list[Row]:
    batches = source.batches(columns or source.columns, start_row=start_row)
    return [row for batch in batches for row in batch.rows]


@pytest.fixture(scope="module", params=WRITERS, ids=lambda writer: writer.__name__)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Input:
    writer: Writer = request.param
    return open_input(str(writer(tmp_path_factory.mktemp("input"), ROWS)))


@pytest.fixture(scope="module")
def whole(source: Input) -> list[Batch]:
    return list(source.batches(source.columns))


def test_every_format_gives_the_same_rows(source: Input) -> None:
    rows = read(source)

    assert [row.values for row in rows] == ROWS
    assert [row.index for row in rows] == list(range(len(ROWS)))
    assert source.count_rows() == len(ROWS)
    assert source.columns == ("id", "text", "n", "tags")


def test_only_the_columns_asked_for_are_in_the_rows(source: Input) -> None:
    assert [row.values for row in read(source, ["n", "no such column"])] == [{"n": row["n"]} for row in ROWS]


def test_rows_come_even_when_no_column_is_needed(source: Input) -> None:
    rows = [row for batch in source.batches([]) for row in batch.rows]

    assert [row.values for row in rows] == [{}] * len(ROWS)
    assert [row.where for row in rows] == [row.where for row in read(source)]


def test_batches_are_never_empty_nor_long(source: Input, whole: list[Batch]) -> None:
    assert {0 < len(batch.rows) <= 512 for batch in whole} == {True}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(start_row=st.integers(0, len(ROWS) + 5), data=st.data())
def test_seeking_by_marks_equals_reading_from_the_start(
    source: Input, whole: list[Batch], start_row: int, data: st.DataObject
) -> None:
    marks = data.draw(st.lists(st.sampled_from([batch.mark for batch in whole])))

    found = [row for batch in source.batches(source.columns, start_row=start_row, marks=marks) for row in batch.rows]

    assert found == [row for batch in whole for row in batch.rows if row.index >= start_row]


def test_marks_survive_a_record_that_keeps_lists_with_or_without_the_line(source: Input, whole: list[Batch]) -> None:
    last = whole[-1]
    kept = [Mark(*list(last.mark)), Mark(*list(last.mark)[:3])]

    found = [next(source.batches(source.columns, start_row=last.rows[0].index, marks=[mark])) for mark in kept]

    assert [batch.rows for batch in found] == [last.rows, last.rows]


def test_what_lies_before_a_mark_is_not_read_again(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, ROWS)
    source = open_input(str(path))
    marks = [batch.mark for batch in source.batches(["id"])]
    content = bytearray(path.read_bytes())
    content[: marks[2].offset] = b"\xff" * marks[2].offset
    path.write_bytes(content)

    found = [row for batch in source.batches(["id"], start_row=1_100, marks=marks) for row in batch.rows]

    assert [row.values["id"] for row in found] == [row["id"] for row in ROWS[1_100:]]


def test_a_batch_is_bounded_by_its_text_too(tmp_path: Path) -> None:
    rows = [{"text": "x" * 1_000_000, "n": number} for number in range(12)]

    lengths = [
        [len(batch.rows) for batch in open_input(str(writer(tmp_path, rows))).batches(["text"])]
        for writer in (write_jsonl, write_parquet)
    ]

    assert all(max(of_format) <= 5 and sum(of_format) == 12 for of_format in lengths)


def test_a_row_says_where_it_stands(tmp_path: Path) -> None:
    lines = open_input(str(write_folder(tmp_path, ROWS)))
    tables = open_input(str(write_parquet_folder(tmp_path, ROWS)))

    assert read(lines, start_row=434)[0].where == "part-1.jsonl:2"  # its first line is blank
    assert read(tables, start_row=436)[0].where == "part-1.parquet row 2"


def test_the_fingerprint_changes_with_name_size_and_time(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, ROWS)
    first = open_input(str(path)).fingerprint
    again = open_input(str(path)).fingerprint
    os.utime(path, ns=(1, 1))
    touched = open_input(str(path)).fingerprint
    path.write_bytes(path.read_bytes() + b"{}\n")
    os.utime(path, ns=(1, 1))
    grown = open_input(str(path)).fingerprint
    renamed = open_input(str(path.rename(tmp_path / "other.jsonl"))).fingerprint

    assert again == first
    assert len({first, touched, grown, renamed}) == 4


def test_a_missing_column_is_named_with_what_there_is(source: Input) -> None:
    with pytest.raises(InputError, match=r"the request needs column 'txt', which .* does not have") as error:
        source.require(["id", "txt"], what="the request")

    assert "did you mean text?" in error.value.hint
    assert "it has id, text, n, tags" in error.value.hint


def test_kept_columns_have_the_types_of_the_input(source: Input) -> None:
    schema = source.kept_schema(["n", "text"])

    assert schema == pa.schema([("n", pa.int64()), ("text", pa.string())])


def test_a_line_of_a_batch_file_is_a_row(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, [{"custom_id": "a", "method": "POST", "url": "/v1/x", "body": {"model": "m"}}])

    source = open_input(str(path))

    assert read(source, ["body"])[0].values == {"body": {"model": "m"}}
