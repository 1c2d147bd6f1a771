"""How long an output of millions of finished rows takes to open: from the start of the command to its first request.

The first part is made by a real run, the others are copies of it with their own row numbers, so that the footers, the
record and the input are what a run that was killed leaves. The last rows are to do. Ten million rows take a gigabyte
of disk and half a minute to make.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchcall.sandbox.process import Settings, open_sandbox

PART_ROWS = 10_000
LEFT = 10  # rows that are to do

TOOL = """
{"name": "record_person", "parameters": {"type": "object", "properties": {"name": {"type": "string"}}}}
"""

JOB = """
[input]
path = "rows.jsonl"
[endpoint]
url = "{url}"
[request]
model = "bench"
prompt = "Who is this? {{{{ text }}}}"
[[tool]]
file = "tool.json"
[output]
path = "out"
"""


async def measure(rows: int, folder: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        await asyncio.to_thread(measure_against, endpoint.url, rows, folder)


def measure_against(url: str, rows: int, folder: Path) -> None:
    (folder / "job.toml").write_text(JOB.format(url=url))
    (folder / "tool.json").write_text(TOOL)
    marks = write_input(folder / "rows.jsonl", rows + LEFT)
    subprocess.run(command(folder, "--limit", str(PART_ROWS)), check=True, stdout=subprocess.DEVNULL)
    write_parts(folder / "out", rows // PART_ROWS)
    write_record(folder / "out" / "_batchcall" / "run.json", marks)
    seconds, megabytes = first_request(folder, url)
    print(f"{rows:,} rows done: the first request after {seconds:.2f} s, with {megabytes:.0f} MB at most until then")


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "batchcall", "run", str(folder / "job.toml"), "--quiet", *more]


def write_input(path: Path, rows: int) -> list[list[int]]:
    """The rows, and the marks that a run would have noted: where each part begins."""
    marks, offset = [], 0
    with path.open("wb") as file:
        for start in range(0, rows, PART_ROWS):
            marks.append([start, 0, offset, start + 1])
            lines = "".join(f'{{"text": "Ada number {row}"}}\n' for row in range(start, min(start + PART_ROWS, rows)))
            offset += file.write(lines.encode())
    return marks


def write_parts(out: Path, parts: int) -> None:
    first = pq.read_table(out / "part-000000.parquet")
    for number in range(1, parts):
        rows = pc.add(first.column("row"), number * PART_ROWS)
        table = first.set_column(0, "row", rows).replace_schema_metadata(first.schema.metadata)
        pq.write_table(table, out / f"part-{number:06d}.parquet", compression="zstd")


def write_record(path: Path, marks: list[list[int]]) -> None:
    """As a run leaves it that was killed when these parts were done."""
    record = json.loads(path.read_bytes())
    record["input"]["marks"] = marks[:-1]
    record["runs"][-1]["ended_at"], record["checksum"] = None, ""
    path.write_text(json.dumps(record))


def first_request(folder: Path, url: str) -> tuple[float, float]:
    before = requests_to(url)
    started = time.monotonic()
    with subprocess.Popen(command(folder), stdout=subprocess.DEVNULL) as run:
        while requests_to(url) == before and run.poll() is None:
            time.sleep(0.005)
        seconds = time.monotonic() - started
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{run.pid}/status").read_text())
        if run.wait() != 0 or peak is None:
            sys.exit("the run failed")
    return seconds, int(peak[1]) / 1024


def requests_to(url: str) -> int:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/sandbox/ledger") as answer:
        return int(json.load(answer)["requests"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/bench open", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows done; a multiple of 10,000")
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(measure(parser.parse_args().rows, Path(made)))
