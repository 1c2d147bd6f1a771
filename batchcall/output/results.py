"""Reading an output from Python: the parts are plain Parquet, these are conveniences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from batchcall.base import OutputError, close_to
from batchcall.disk import OWN_FOLDER, Disk, RealDisk, part_name, part_numbers
from batchcall.output.parts import open_part, read_batches


def read(folder: Path | str, *, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of an output in input order, in batches of bounded memory.

    Raises OutputError when the folder is not an output, has no rows yet or not these columns, or a part cannot be read.
    """
    folder = Path(folder)
    disk = RealDisk()
    if not disk.exists(folder / OWN_FOLDER):
        raise no_output(disk, folder)
    numbers = part_numbers(disk, folder)
    if not numbers:
        raise OutputError(f"{folder} has no finished rows yet", hint="`batchcall status` shows the progress of its run")
    if columns is not None:
        with open_part(disk, folder / part_name(numbers[0])) as part:
            _require(columns, part.schema.names, folder)
    for number in numbers:
        yield from read_batches(disk, folder / part_name(number), columns)


def read_table(folder: Path | str, *, columns: list[str] | None = None) -> pa.Table:
    """All rows of an output as one table. Raises OutputError as `read` does."""
    return pa.Table.from_batches(list(read(folder, columns=columns)))


def _require(columns: Sequence[str], has: Sequence[str], folder: Path) -> None:
    if isinstance(columns, str):
        raise OutputError(f"columns is the text {columns!r}", hint=f"give a list: columns=[{columns!r}]")
    missing = [name for name in columns if name not in has]
    if missing:
        near = dict.fromkeys(meant for name in missing for meant in close_to(name, has))
        meant = f"did you mean {' and '.join(near)}? " if near else ""
        what = f"{'column' if len(missing) == 1 else 'columns'} {', '.join(map(repr, missing))}"
        raise OutputError(f"{folder} has no {what}", hint=f"{meant}it has {', '.join(has)}")


def read_failed(folder: Path | str) -> Iterator[pa.RecordBatch]:
    """The rows that did not end `ok`, in input order."""
    import pyarrow.compute as pc

    for batch in read(folder):
        failed = batch.filter(pc.not_equal(batch.column("status"), "ok"))
        if failed.num_rows:
            yield failed


def no_output(disk: Disk, folder: Path) -> OutputError:
    """Why there is no output to look at."""
    hint = "give the folder that output.path of the job file names"
    if disk.exists(folder):
        return OutputError(f"{folder} is not an output of batchcall", hint=hint)
    start = "" if folder.is_absolute() else f"; a relative path starts at {Path.cwd()}"
    what = f"{folder} does not exist: no run has written it yet"
    return OutputError(what, hint=f"run the job first, or {hint}{start}")
