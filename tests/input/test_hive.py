"""Folders that are partition keys: their values are columns, of Parquet and JSONL alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from batchcall.base.errors import InputError
from batchcall.input.open_input import Input, open_input


def put(path: Path, *texts: str, **more: Any) -> None:
    """A file of rows with a column `text`, in the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"text": text, **more} for text in texts]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(source: Input, *columns: str) -> list[dict[str, Any]]:
    batches = source.batches(columns or source.columns)
    return [dict(row.values) for batch in batches for row in batch.rows]


def values_of(source: Input, column: str) -> list[Any]:
    return [row[column] for row in rows_of(source, column)]


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
@pytest.mark.parametrize("path", ["in", "in/**", "in/*/*", "in/city=*", "in/*"])
def test_a_key_is_a_column_however_the_folders_are_named(tmp_path: Path, path: str, ending: str) -> None:
    put(tmp_path / f"in/city=Oslo/a{ending}", "one", "two")
    put(tmp_path / f"in/city=Bern/a{ending}", "three")

    source = open_input(f"{tmp_path}/{path}")

    assert source.columns == ("text", "city")
    assert rows_of(source) == [
        {"text": "three", "city": "Bern"},
        {"text": "one", "city": "Oslo"},
        {"text": "two", "city": "Oslo"},
    ]
    assert [row["city"] for row in rows_of(open_input(f"file://{tmp_path}/{path}"))] == ["Bern", "Oslo", "Oslo"]
    assert source.notes == ()


@pytest.mark.parametrize("path", ["in/city=Oslo", "in/city=Oslo/a.parquet", "in/city=Oslo/*.parquet"])
def test_one_partition_alone_has_its_key_too(tmp_path: Path, path: str) -> None:
    put(tmp_path / "in/city=Oslo/a.parquet", "one")

    assert rows_of(open_input(f"{tmp_path}/{path}")) == [{"text": "one", "city": "Oslo"}]


def test_a_key_that_other_folders_stand_below_is_one_only_below_the_root(tmp_path: Path) -> None:
    put(tmp_path / "exp=3/in/year=2026/raw/a.parquet", "one")

    assert open_input(f"{tmp_path}/exp=3/in").columns == ("text", "year")


@pytest.mark.parametrize(
    ("folders", "kind", "values"),
    [
        (["y=2025", "y=2026"], "int64", [2025, 2026]),
        (["h=07", "h=8"], "int64", [7, 8]),
        (["n=-5", "n=3"], "int64", [-5, 3]),
        (["n=1", "n=a"], "string", ["1", "a"]),
        (["n=+5", "n=6"], "string", ["+5", "6"]),
        (["d=2026-01-02", "d=2026-01-03"], "string", ["2026-01-02", "2026-01-03"]),
        (["f=0.5"], "string", ["0.5"]),
        (["b=true"], "string", ["true"]),
        (["n=3", "n=__HIVE_DEFAULT_PARTITION__"], "int64", [3, None]),
        (["n=__HIVE_DEFAULT_PARTITION__"], "string", [None]),
        (["n=", "n=3"], "string", ["", "3"]),
        (["t=a%20b", "t=a%2Fb"], "string", ["a b", "a/b"]),
        (["t=a=b"], "string", ["a=b"]),
        (["n=99999999999999999999"], "string", ["99999999999999999999"]),
        (["Land=DE"], "string", ["DE"]),
    ],
)
def test_types_are_whole_numbers_or_text_as_pyarrow_has_them(
    tmp_path: Path, folders: list[str], kind: str, values: list[Any]
) -> None:
    for folder in folders:
        put(tmp_path / folder / "a.parquet", "x")
    key = folders[0].partition("=")[0]

    source = open_input(str(tmp_path))

    assert (str(source.schema.field(key).type), values_of(source, key)) == (kind, values)
    if set(values) != {None}:  # which pyarrow refuses
        theirs = pyarrow.dataset.dataset(tmp_path, partitioning="hive").to_table()
        assert sorted(theirs.column(key).to_pylist(), key=str) == sorted(values, key=str)


def test_several_keys_stand_in_the_order_of_the_folders(tmp_path: Path) -> None:
    put(tmp_path / "in/year=2026/month=01/a.jsonl", "x")
    put(tmp_path / "in/year=2026/month=02/deep/b.jsonl", "y")

    source = open_input(f"{tmp_path}/in")

    assert source.columns == ("text", "year", "month")
    assert rows_of(source) == [
        {"text": "x", "year": 2026, "month": 1},
        {"text": "y", "year": 2026, "month": 2},
    ]


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_a_column_of_the_files_wins_over_a_folder_of_its_name_and_that_is_noted(tmp_path: Path, ending: str) -> None:
    put(tmp_path / f"in/city=oslo/a{ending}", "x", city="Oslo, Norway")

    source = open_input(f"{tmp_path}/in")

    assert rows_of(source) == [{"text": "x", "city": "Oslo, Norway"}]
    assert source.notes == (
        "the files have their own column 'city', so the values in the folder names city=… are not used",
    )


def test_a_late_line_of_jsonl_that_has_the_column_keeps_its_value(tmp_path: Path) -> None:
    put(tmp_path / "in/city=Oslo/a.jsonl", *("x" for _ in range(10_000)))
    with open(tmp_path / "in/city=Oslo/a.jsonl", "a") as file:
        file.write('{"text": "y", "city": "Bern"}\n')

    assert set(values_of(open_input(f"{tmp_path}/in"), "city")[:-1]) == {"Oslo"}
    assert values_of(open_input(f"{tmp_path}/in"), "city")[-1] == "Bern"


def test_files_without_the_key_have_null_and_that_is_noted(tmp_path: Path) -> None:
    put(tmp_path / "in/a.parquet", "x")
    put(tmp_path / "in/day=1/b.parquet", "y")
    put(tmp_path / "in/day=1/hour=2/c.parquet", "z")

    source = open_input(f"{tmp_path}/in")

    assert [(row["day"], row["hour"]) for row in rows_of(source)] == [(None, None), (1, None), (1, 2)]
    assert source.notes == (
        "column 'day' is null in the rows of 1 of 3 files, which are not in a folder day=…: a.parquet",
        "column 'hour' is null in the rows of 2 of 3 files, which are not in a folder hour=…:"
        " a.parquet, day=1/b.parquet",
    )


def test_a_key_reads_no_column_of_the_files(tmp_path: Path) -> None:
    put(tmp_path / "in/city=Oslo/a.parquet", "x", "y")

    assert rows_of(open_input(f"{tmp_path}/in"), "city") == [{"city": "Oslo"}, {"city": "Oslo"}]


def test_reading_from_the_middle_has_the_keys_of_the_right_file(tmp_path: Path) -> None:
    for day in (1, 2, 3):
        put(tmp_path / f"in/day={day}/a.jsonl", "x", "y")
    source = open_input(f"{tmp_path}/in")
    marks = [batch.mark for batch in source.batches(("day",))]

    for start in range(6):
        for given in ((), marks):
            found = [row for batch in source.batches(("day",), start_row=start, marks=given) for row in batch.rows]
            assert [(row.index, row.values["day"]) for row in found] == [(n, n // 2 + 1) for n in range(start, 6)]


def test_a_key_can_name_rows(tmp_path: Path) -> None:
    put(tmp_path / "in/doc=a/x.jsonl", "1")
    put(tmp_path / "in/doc=b/x.jsonl", "2", "3")

    with pytest.raises(InputError, match=r'doc "b" is in doc=b/x\.jsonl:1 and again in doc=b/x\.jsonl:2'):
        open_input(f"{tmp_path}/in", id_column="doc").check_ids("doc")


def test_keys_name_rows_as_the_output_writes_them(tmp_path: Path) -> None:
    put(tmp_path / "in/doc=01/x.jsonl", "1")
    put(tmp_path / "in/doc=1/x.jsonl", "2")

    with pytest.raises(InputError, match=r"doc 1 is in doc=01/x\.jsonl:1 and again in doc=1/x\.jsonl:1"):
        open_input(f"{tmp_path}/in").check_ids("doc")
    put(tmp_path / "in/doc=b/x.jsonl", "3")  # now they are text
    assert open_input(f"{tmp_path}/in").check_ids("doc") == 3


def test_the_same_file_in_another_partition_is_another_input(tmp_path: Path) -> None:
    put(tmp_path / "day=1/a.jsonl", "x")
    before = open_input(f"{tmp_path}/day=1").fingerprint
    (tmp_path / "day=1").rename(tmp_path / "day=2")

    assert open_input(f"{tmp_path}/day=2").fingerprint != before


def test_folders_that_are_not_keys_are_named_and_not_read(tmp_path: Path) -> None:
    put(tmp_path / "in/monday/a.jsonl", "x")

    with pytest.raises(InputError) as refused:
        open_input(f"{tmp_path}/in")

    assert refused.value.hint.endswith(f"for files in folders below write {tmp_path}/in/**")


def test_hidden_folders_stay_hidden_but_for_a_key_that_begins_with_an_underscore(tmp_path: Path) -> None:
    put(tmp_path / "in/_day=1/a.jsonl", "x")
    put(tmp_path / "in/_day=1/_temporary/b.jsonl", "y")
    put(tmp_path / "in/.day=1/c.jsonl", "z")

    assert rows_of(open_input(f"{tmp_path}/in")) == [{"text": "x", "_day": 1}]
