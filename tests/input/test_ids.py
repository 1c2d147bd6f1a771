"""A column that names rows: no two have the same value, or the run does not begin. A row without one is a bad row."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.base.errors import InputError
from batchcall.base.records import Row
from batchcall.input.ids import check_ids
from batchcall.input.jsonl import SAMPLE_ROWS
from batchcall.input.kept_columns import KeptColumns
from batchcall.input.open_input import open_input
from batchcall.input.values import Batch, Mark


def write(folder: Path, *lines: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    written = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    path.write_bytes(b"\n".join(written))
    return path


def batches_of(ids: list[Any]) -> list[Batch]:
    rows = [Row(index, {"id": value}, f"row {index}") for index, value in enumerate(ids)]
    return [Batch(rows[start : start + 7], Mark(start, 0, 0)) for start in range(0, len(rows), 7)]


def counted(ids: list[Any]) -> int:
    return check_ids("id", pa.string(), lambda: batches_of(ids))


@given(st.lists(st.text() | st.integers(), unique_by=str))
def test_unique_ids_are_counted(ids: list[Any]) -> None:
    assert counted(ids) == len(ids)


@given(st.lists(st.text() | st.integers(), unique_by=str, min_size=1), st.data())
def test_a_value_that_comes_again_is_always_found(ids: list[Any], data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(ids))
    place = data.draw(st.integers(0, len(ids)))
    doubled = [*ids[:place], again, *ids[place:]]
    first, second = (index for index, value in enumerate(doubled) if value == again)

    with pytest.raises(InputError, match=rf"(?m)is in row {first} and again in row {second}$"):
        counted(doubled)


def test_equal_hashes_of_different_values_are_not_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchcall.input.ids.hash", lambda text: 7, raising=False)

    assert counted(["a", "b", 1]) == 3
    with pytest.raises(InputError, match=r'(?m)^id "b" is in row 1 and again in row 3$'):
        counted(["a", "b", 1, "b"])


@given(
    st.lists(
        st.sampled_from([True, False, "true", "1", "1.0", 1, 1.0, -1, -1.0, 2**53 + 1, 2**64, 1e20, "é"]), min_size=1
    )
)
def test_ids_are_unique_exactly_where_the_output_shows_no_text_twice(
    tmp_path_factory: pytest.TempPathFactory, ids: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    source = open_input(str(write(folder, *({"id": one} for one in ids))))
    keep = KeptColumns(source.kept_schema(["id"]))
    rows = [row.kept for batch in source.batches((), keep=keep) for row in batch.rows]
    (shown,) = keep.gathered(rows)
    pq.write_table(pa.table({"id": shown}), folder / "rows.parquet")
    is_unique = len(set(shown.to_pylist())) == len(rows)

    for one in (source, open_input(str(folder / "rows.parquet"))):
        with contextlib.nullcontext() if is_unique else pytest.raises(InputError, match="and again in"):
            assert one.check_ids("id") == len(rows)


@pytest.mark.parametrize(
    ("ids", "what"),
    [
        ([1, "1"], 'id 1 is in rows.jsonl:1 and again in rows.jsonl:2 as "1"'),
        (["x", "true", True], 'id "true" is in rows.jsonl:2 and again in rows.jsonl:3 as true'),
        ([1, 1.0], "id 1 is in rows.jsonl:1 and again in rows.jsonl:2 as 1.0"),
        ([True, True], "id true is in rows.jsonl:1 and again in rows.jsonl:2"),
        (["a\nb", "a\nb"], r'id "a\nb" is in rows.jsonl:1 and again in rows.jsonl:2'),
        ([True, 1], None),
        ([1, 1.0, "x"], None),  # in a column of text
    ],
)
def test_ids_that_come_again_are_shown_as_the_input_has_them(tmp_path: Path, ids: list[Any], what: str | None) -> None:
    source = open_input(str(write(tmp_path, *({"id": one} for one in ids))))

    with contextlib.nullcontext() if what is None else pytest.raises(InputError) as error:
        source.check_ids("id")

    assert what is None or str(error.value) == what


def test_an_id_with_no_place_in_its_column_is_compared_as_it_is_written(tmp_path: Path) -> None:
    sample = [{"id": number} for number in range(SAMPLE_ROWS)]

    assert open_input(str(write(tmp_path, *sample, {"id": True}, {"id": 10**40}))).check_ids("id") == SAMPLE_ROWS + 2
    with pytest.raises(InputError, match=r'(?m)^id 7 is in rows\.jsonl:8 and again in rows\.jsonl:10001 as "7"$'):
        open_input(str(write(tmp_path, *sample, {"id": "7"}))).check_ids("id")


def test_both_passes_of_an_hour_that_comes_twice_are_two_ids(tmp_path: Path) -> None:
    hours = [dt.datetime(2026, 10, 25, hour, tzinfo=dt.UTC) for hour in (0, 1)]  # both are 2:00 in Berlin
    in_berlin = pa.array(hours, pa.timestamp("us", "Europe/Berlin"))
    pq.write_table(pa.table({"id": in_berlin}), tmp_path / "rows.parquet")

    assert open_input(str(tmp_path / "rows.parquet")).check_ids("id") == 2


@pytest.mark.parametrize("kind", [pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.time64("ns"), pa.duration("ns")])
def test_ids_that_differ_in_nanoseconds_are_two(tmp_path: Path, kind: pa.DataType) -> None:
    def counted_in_parquet(*nanoseconds: int) -> int:
        pq.write_table(pa.table({"id": pa.array(nanoseconds, kind)}), tmp_path / "rows.parquet")
        return open_input(str(tmp_path / "rows.parquet")).check_ids("id")

    assert counted_in_parquet(1_001, 1_002, 1_000) == 3
    with pytest.raises(InputError, match=r"is in rows\.parquet row 0 and again in rows\.parquet row 2"):
        counted_in_parquet(1_001, 1_002, 1_001)


def test_the_first_value_that_comes_again_is_reported_with_both_places(tmp_path: Path) -> None:
    write(tmp_path, {"id": "a"}, {"id": "b"}, b"", {"id": "c"}, name="1.jsonl")
    write(tmp_path, {"id": "d"}, {"id": "b"}, {"id": "a"}, name="2.jsonl")

    with pytest.raises(InputError) as error:
        open_input(str(tmp_path)).check_ids("id")

    assert str(error.value) == 'id "b" is in 1.jsonl:2 and again in 2.jsonl:2'
    assert "leave input.id out" in error.value.hint


@pytest.mark.parametrize(
    ("column", "one", "again"),
    [
        ("id", b'{"id": "\xc3\xa9"}', rb'{"i\u0064": "\u00e9"}'),
        ("id", b'{"id": "a"}', b'\xef\xbb\xbf{"x": [1], "id": "a"}'),
        ("id", rb'{"id": "\ud83d"}', rb'{"id": "\ufffd"}'),
        ("id", b'{"id": 12345678901234567890123}', b'{"id": 12345678901234567890123, "x": "\\ud83d"}'),
        ("id", b'{"id": "a"}', b'{"id": "b", "id": "a"}'),
        ('the "id"', rb'{"the \"id\"": "a"}', rb'{"the \"id\"": "a"}'),
        ("id\ufffd", '{"id\ufffd": "a"}'.encode(), rb'{"id\ud83d": "a"}'),
    ],
)
def test_an_id_is_found_again_however_it_is_written(tmp_path: Path, column: str, one: bytes, again: bytes) -> None:
    for between in ({"id": "other"}, b"broken"):
        source = open_input(str(write(tmp_path, one, between, b"", again)), id_column=column)

        with pytest.raises(InputError, match=r"(?m)is in rows\.jsonl:1 and again in rows\.jsonl:4$"):
            source.check_ids(column)


@pytest.mark.parametrize(
    ("one", "again"),
    [
        (b'{"id": "a"}', b'{"id": "a", "x": "\xff"}'),
        (b'{"id": "a"}', b'{"id": "a", "x": 1e999}'),
        (b'{"id": 12345678901234567890123}', b'{"id": 12345678901234567890124}'),
        (b'{"id": 99999999999999999999999}', b'{"id": 1e23}'),
        (b'{"id": "a"}', b'{"id": "a", "x": %s}' % (b"[" * 200 + b"]" * 200)),
    ],
)
def test_rows_that_cannot_be_read_and_values_that_only_look_alike_do_not_count(
    tmp_path: Path, one: bytes, again: bytes
) -> None:
    assert open_input(str(write(tmp_path, one, again)), id_column="id").check_ids("id") == 2


def test_rows_that_cannot_be_read_are_counted_and_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path, {"id": "a"}, b"broken", b"broken", {"id": "b"})
    source = open_input(str(path))

    assert source.check_ids("id") == 4
    assert source.count_rows() == 4


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"id": None, "other": 1}, "is missing or null"),
        ({"other": 1}, "is missing or null"),
        ({"id": ["a"], "other": 1}, "is neither text nor a number"),
        ({"id": {"a": 1}, "other": 1}, "is neither text nor a number"),
    ],
)
def test_a_row_without_an_id_costs_itself_and_no_other(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    source = open_input(str(write(tmp_path, {"id": "a", "other": 0}, row, row, {"id": "b"})), id_column="id")

    assert source.check_ids("id") == 4
    for columns in (("other",), source.columns):
        rows = [row for batch in source.batches(columns) for row in batch.rows]
        assert [row.fault for row in rows] == [None, *[f"column 'id' identifies the row, but {why}"] * 2, None]
        assert rows[1].values["other"] == 1


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_ids_of_parquet_are_checked_alike(tmp_path: Path, missing: float | None) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": pa.array([1.0, 2.0, missing, missing])}), path)
    source = open_input(str(path), id_column="id")

    assert source.check_ids("id") == 4
    assert [row.fault is None for batch in source.batches(()) for row in batch.rows] == [True, True, False, False]


def test_ids_of_parquet_are_found_again_beside_those_that_cannot_be_read(tmp_path: Path) -> None:
    far = pa.array([1, 2, 10**15, 3], pa.timestamp("s"))  # the third is beyond the years of Python
    pq.write_table(pa.table({"id": far, "x": [1] * 4}), tmp_path / "1.parquet", row_group_size=3)
    pq.write_table(pa.table({"id": far.slice(2), "x": [1] * 2}), tmp_path / "2.parquet")
    source = open_input(str(tmp_path), id_column="id")

    with pytest.raises(InputError, match=r"(?m)is in 1\.parquet row 3 and again in 2\.parquet row 1$"):
        source.check_ids("id")


def test_files_of_parquet_that_disagree_on_the_id_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"id": [1]}), tmp_path / "2.parquet")

    with pytest.raises(InputError, match=r"column 'id' is int64 in 2\.parquet and string in 1\.parquet"):
        open_input(str(tmp_path), id_column="id").check_ids("id")
