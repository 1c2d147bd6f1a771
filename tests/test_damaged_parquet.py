"""Damaged Parquet, of input and output: whatever bits flip, it is refused by name. Nothing aborts, no traceback.

What could end a process runs in one of its own.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchcall import InputError, check_job, run_job
from batchcall.sandbox.process import Settings, open_sandbox
from running import edit, write_job


def in_a_process(*arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *map(str, arguments)]
    return subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(("what", "count"), [("inputs", 250), ("outputs", 30)])
async def test_what_is_damaged_anywhere_is_read_or_refused_by_name(tmp_path: Path, what: str, count: int) -> None:
    """A thousand times more: see `damaging.py`."""
    async with open_sandbox(Settings()) as endpoint:
        await run_job(write_job(tmp_path, rows=12, part_rows=6, url=endpoint.url))
        before = (await endpoint.ledger())["requests"]

        ended = await asyncio.to_thread(in_a_process, "damaging.py", what, tmp_path, count, 1)

        assert ended.returncode == 0, ended.stdout[-40:] + ended.stderr[-2_000:]
        assert int(ended.stdout.rpartition("refused ")[2]) > count / 2
        if what == "outputs":
            assert (await endpoint.ledger())["requests"] == before  # all is made again from what was paid for


# A column that was optional is said to be repeated: what its statistics say of levels does not fit any more.
FLIP_FOOTER = """
import sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from batchcall.base.errors import InputError
from batchcall.input.open_input import open_input

path = Path(sys.argv[1])
pq.write_table(pa.table({"a": ["x", "y"], "n": [[1, 2], [3]]}), path)
whole = path.read_bytes()
start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
for place in range(start, start + 40):
    for bit in (1, 2, 4):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            READ
        except (InputError, OSError, ValueError, pa.ArrowException):
            pass
"""
OURS = "list(open_input(str(path)).batches(['a', 'n']))"
AS_IT_WAS = "[pq.ParquetFile(path).metadata.row_group(0).column(n).total_uncompressed_size for n in (0, 1)]"


def test_statistics_that_end_the_process_inside_pyarrow_are_not_read(tmp_path: Path) -> None:
    ours = in_a_process("-c", FLIP_FOOTER.replace("READ", OURS), tmp_path / "rows.parquet")
    control = in_a_process("-c", FLIP_FOOTER.replace("READ", AS_IT_WAS), tmp_path / "rows.parquet")

    assert ours.returncode == 0, ours.stderr[-2_000:]
    if control.returncode == 0:
        pytest.skip("this version of pyarrow survives them")
    assert control.returncode == -signal.SIGABRT


async def test_rows_that_cannot_be_read_from_the_first_on_keep_a_run_from_starting(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job, path = write_job(tmp_path, url=endpoint.url), tmp_path / "rows.parquet"
        edit(job, "rows.jsonl", path.name)
        pq.write_table(pa.table({"text": ["x"] * 50, "kept": list(range(50))}), path, write_page_checksum=True)
        place = pq.read_metadata(path).row_group(0).column(1).data_page_offset  # of a column that no prompt needs
        content = bytearray(path.read_bytes())
        content[place : place + 20] = bytes(20)
        path.write_bytes(content)

        for refused in (run_job(job), asyncio.to_thread(check_job, job)):
            with pytest.raises(InputError, match=r"rows\.parquet cannot be read from row 0") as error:
                await refused
            assert error.value.exit_code == 2
        assert (await endpoint.ledger())["requests"] == 0
        assert not (tmp_path / "out").exists()
