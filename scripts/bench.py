"""CPU per row of the whole job (durable, validated, typed) against a bare aiohttp loop that posts the same bodies.

Both are processes of their own, run in turn against one load target in a third, so that a drifting machine meets both
alike. Start-up is taken out: the CPU of a long run less that of a short one, over the rows between them. Figures are
ratios of one run; the microseconds belong to the machine they were taken on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import orjson

from batchcall.dialects import DIALECTS
from batchcall.job.model import load_job
from batchcall.pipeline.request_maker import make_request_maker
from batchcall.sandbox.process import Settings, open_sandbox

SHORT_ROWS = 1_000

TOOL = {
    "name": "record_receipt",
    "description": "Record what a receipt says.",
    "parameters": {
        "type": "object",
        "properties": {
            "merchant": {"type": "string"},
            "total": {"type": "number", "minimum": 0},
            "currency": {"enum": ["EUR", "USD", "GBP"]},
            "paid": {"type": "boolean"},
            "items": {"type": "integer", "minimum": 1, "maximum": 40},
            "note": {"type": ["string", "null"]},
        },
        "required": ["merchant", "total", "currency", "paid", "items", "note"],
    },
}

JOB = """
[input]
path = "rows.jsonl"
[endpoint]
url = "{url}"
[request]
model = "bench"
system = "You read receipts."
prompt = "Receipt:\\n{{{{ text }}}}"
[[tool]]
file = "tool.json"
[limits]
concurrency = {concurrency}
[output]
path = "out"
"""

BARE = """
import asyncio, sys
import aiohttp
try:
    import uvloop
    loop_factory = uvloop.new_event_loop
except ImportError:
    loop_factory = None

async def work(session, url, bodies):
    for body in bodies:
        async with session.post(url, data=body) as answer:
            await answer.read()

async def main(url, path, rows, concurrency):
    lines = open(path, "rb")
    bodies = (line for _, line in zip(range(rows), lines))
    connector = aiohttp.TCPConnector(limit=concurrency)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        await asyncio.gather(*(work(session, url, bodies) for _ in range(concurrency)))

with asyncio.Runner(loop_factory=loop_factory) as runner:
    runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the long run (default: 20000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often both are run in turn (default: 3)")
    parser.add_argument("--concurrency", type=int, default=64, help="requests in flight (default: 64)")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="batchcall-bench-") as folder:
        asyncio.run(compare(Path(folder), wanted.rows, wanted.rounds, wanted.concurrency))


async def compare(folder: Path, rows: int, rounds: int, concurrency: int) -> None:
    async with open_sandbox(Settings()) as target:
        write_job(folder, target.url, rows, concurrency)
        write_bodies(folder)
        whole, bare = [], []
        for number in range(rounds):
            bare.append(await cpu_per_row(lambda count: bare_loop(folder, target.url, count, concurrency), rows))
            whole.append(await cpu_per_row(lambda count: whole_job(folder, count), rows))
            print(f"round {number + 1}: bare {bare[-1]:.0f} µs, whole {whole[-1]:.0f} µs a row", file=sys.stderr)
    print_table(bare, whole, rows, concurrency)


def write_job(folder: Path, url: str, rows: int, concurrency: int) -> None:
    words = "coffee croissant marmalade 3.20 1.80 EUR card payment thank you till 7 table 12 " * 12
    (folder / "tool.json").write_text(json.dumps({"type": "function", "function": TOOL}))
    (folder / "job.toml").write_text(JOB.format(url=url, concurrency=concurrency))
    with (folder / "rows.jsonl").open("wb") as lines:
        for index in range(rows):
            lines.write(orjson.dumps({"id": index, "text": f"receipt {index} {words}"}) + b"\n")


def write_bodies(folder: Path) -> None:
    """The very bodies that the job sends."""
    maker = make_request_maker(load_job(folder / "job.toml"))
    dialect = DIALECTS["openai-chat"]
    with (folder / "rows.jsonl").open("rb") as lines, (folder / "bodies.jsonl").open("wb") as bodies:
        for line in lines:
            bodies.write(dialect.encode(maker.make_request(orjson.loads(line))).body + b"\n")


async def cpu_per_row(run: Callable[[int], list[str]], rows: int) -> float:
    """Microseconds of CPU, user and system, that each further row costs. `run`: the command for so many rows."""
    short = await asyncio.to_thread(cpu_of, run(SHORT_ROWS))
    long = await asyncio.to_thread(cpu_of, run(rows))
    return (long - short) / (rows - SHORT_ROWS) * 1e6


def bare_loop(folder: Path, url: str, rows: int, concurrency: int) -> list[str]:
    url += "/chat/completions"
    return [sys.executable, "-c", BARE, url, str(folder / "bodies.jsonl"), str(rows), str(concurrency)]


def whole_job(folder: Path, rows: int) -> list[str]:
    shutil.rmtree(folder / "out", ignore_errors=True)
    return [sys.executable, "-m", "batchcall", "run", str(folder / "job.toml"), "--limit", str(rows), "--quiet"]


def cpu_of(command: list[str]) -> float:
    """Seconds of CPU of a process, by the operating system's own account of it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command[:6]} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def print_table(bare: list[float], whole: list[float], rows: int, concurrency: int) -> None:
    ratios = [ours / theirs for ours, theirs in zip(whole, bare, strict=True)]
    print(f"{rows:,} rows, {concurrency} in flight, {len(ratios)} rounds in turn; CPU a row without start-up\n")
    print("| | µs a row (median) | against the bare loop |")
    print("|---|---|---|")
    print(f"| bare aiohttp POST and read | {statistics.median(bare):.0f} | 1 |")
    print(
        f"| **batchcall, the whole job** | **{statistics.median(whole):.0f}** | **{statistics.median(ratios):.2f} ×**"
        f" ({min(ratios):.2f} to {max(ratios):.2f}) |"
    )


if __name__ == "__main__":
    main()
