"""Reading an output from Python: the parts are plain Parquet, these are conveniences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from batchcall.base import OutputError
from batchcall.disk import OWN_FOLDER, RealDisk, part_name, part_numbers
from batchcall.output.parts import read_batches


def read(folder: Path | str, *, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of an output in input order, in batches of bounded memory.

    Raises OutputError when the folder is not an output, or a part cannot be read.
    """
    folder = Path(folder)
    disk = RealDisk()
    if not disk.exists(folder / OWN_FOLDER):
        raise OutputError(f"{folder} is not an output of batchcall", hint="give the folder that output.path names")
    for number in part_numbers(disk, folder):
        yield from read_batches(disk, folder / part_name(number), columns)


def read_table(folder: Path | str, *, columns: list[str] | None = None) -> pa.Table:
    """All rows of an output as one table. Raises OutputError, also when no part is there yet."""
    batches = list(read(folder, columns=columns))
    if not batches:
        raise OutputError(f"{folder} holds no finished rows yet", hint="`batchcall status` shows how far its run is")
    return pa.Table.from_batches(batches)


def read_failed(folder: Path | str) -> Iterator[pa.RecordBatch]:
    """The rows that did not end `ok`, in input order."""
    import pyarrow.compute as pc

    for batch in read(folder):
        failed = batch.filter(pc.not_equal(batch.column("status"), "ok"))
        if failed.num_rows:
            yield failed
