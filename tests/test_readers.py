"""What comes out opens in what data teams have: pyarrow, pandas, DuckDB, and our own readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pandas
import pyarrow.dataset
import pytest
import pytest_asyncio

import batchcall
from batchcall.sandbox.process import Settings, open_sandbox
from running import some_rows, write_job, write_rows


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(folder, url=endpoint.url)
        write_rows(folder / "rows.jsonl", [*some_rows(24), {"id": "no text"}])
        await batchcall.run_job(job)
    return folder / "out"


def test_pyarrow_reads_the_folder_as_one_dataset(output: Path) -> None:
    table = pyarrow.dataset.dataset(output).to_table()

    assert table.num_rows == 25
    assert str(table.schema.field("arguments").type.field("age").type) == "int64"
    assert table.column("row").to_pylist() == list(range(25))


def test_pandas_reads_the_folder(output: Path) -> None:
    frame: Any = pandas.read_parquet(output)

    assert list(frame["status"]) == ["ok"] * 24 + ["bad_row"]
    assert frame["total_tokens"].iloc[0] > 0


def test_duckdb_reads_the_parts_and_their_fields(output: Path) -> None:
    rows = duckdb.sql(
        f"select count(*), sum(total_tokens), max(arguments.age) from '{output}/*.parquet' where status = 'ok'"
    ).fetchall()

    assert rows[0][0] == 24
    assert rows[0][1] > 0
    assert 0 <= rows[0][2] <= 130


@pytest.mark.parametrize("pattern", ["*.parquet", "**/*.parquet"])
def test_duckdb_counts_every_row_once_however_deep_it_looks(output: Path, pattern: str) -> None:
    (rows,) = duckdb.sql(f"select count(*) from '{output}/{pattern}'").fetchall()

    assert rows == (25,)


def test_our_own_readers_give_the_same(output: Path) -> None:
    assert batchcall.read_table(output).num_rows == 25
    assert sum(batch.num_rows for batch in batchcall.read(output, columns=["row"])) == 25
    assert [batch.column("status").to_pylist() for batch in batchcall.read_failed(output)] == [["bad_row"]]
    with pytest.raises(batchcall.OutputError, match="not an output"):
        list(batchcall.read(output.parent))


READERS: list[Any] = [batchcall.read_table, lambda folder: list(batchcall.read(folder)), batchcall.read_status]


@pytest.mark.parametrize("reader", READERS, ids=["table", "batches", "status"])
def test_before_there_is_an_output_a_reader_says_so_and_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Any
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(
        batchcall.OutputError, match=r"(?m)^out/people does not exist: no run has written it yet$"
    ) as refused:
        reader("out/people")

    assert refused.value.hint.endswith(f"a relative path starts at {tmp_path}")
    with pytest.raises(batchcall.OutputError, match=rf"(?m)^{tmp_path} is not an output of batchcall$"):
        reader(tmp_path)


@pytest.mark.parametrize("reader", [batchcall.read, batchcall.read_failed])
def test_an_output_without_a_finished_part_is_not_an_empty_table(tmp_path: Path, reader: Any) -> None:
    (tmp_path / "_batchcall").mkdir()

    with pytest.raises(batchcall.OutputError, match="has no finished rows yet"):
        list(reader(tmp_path))


def test_a_column_that_is_not_there_is_the_callers_mistake_and_not_a_damaged_part(output: Path) -> None:
    with pytest.raises(batchcall.OutputError, match=r"(?m)/out has no columns 'statuss', 'x'$") as refused:
        batchcall.read_table(output, columns=["row", "statuss", "x"])
    with pytest.raises(batchcall.OutputError, match="columns is the text 'row'"):
        batchcall.read_table(output, columns="row")  # type: ignore[arg-type]

    assert refused.value.hint.startswith("did you mean status? it has row, id, text, status, ")
