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
