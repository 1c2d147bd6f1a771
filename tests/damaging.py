"""Parquet files spoilt by chance, as disks, cables and half-done copies spoil them, and what is to read them.

    python tests/damaging.py inputs FOLDER COUNT SEED
    python tests/damaging.py outputs FOLDER COUNT SEED

In FOLDER is a finished job that `tests/running.py` wrote, whose endpoint is up. Ends with a traceback, or dies, where
anything but a refusal by name comes of a damaged file; else the last line says how many refusals there were.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import batchcall
from batchcall.base.errors import BatchcallError
from batchcall.input.open_input import open_input
from running import edit

RUNS_EVERY = 25  # of what is spoilt; a run takes longest


def spoilt(dice: random.Random, whole: bytes) -> bytes:
    """A Parquet file with one to eight things wrong, most of them in its footer, where one bit decides about much."""
    content = bytearray(whole)
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for _ in range(dice.choice((1, 1, 1, 2, 4, 8))):
        place = dice.randrange(footer if dice.random() < 0.7 else 0, len(whole))
        chance = dice.random()
        if chance < 0.6:
            content[place % len(content)] ^= 1 << dice.randrange(8)
        elif chance < 0.9:
            content[place % len(content)] = dice.randrange(256)
        elif chance < 0.95:
            content[place : place + 16] = bytes(len(content[place : place + 16]))
        else:
            del content[place : place + dice.randrange(1, 40)]
    return bytes(content)


def refusals(calls: list[Callable[[], object]], path: Path, content: bytes) -> int:
    """How many of the calls refuse what `path` holds. Raises whatever is not a refusal that names it."""
    count = 0
    for call in calls:
        path.write_bytes(content)
        try:
            call()
        except BatchcallError as error:
            if path.name not in str(error) + error.hint:
                raise
            count += 1
    return count


def whole_inputs(path: Path) -> list[bytes]:
    """Files of all kinds of columns, as several writers write them."""
    rows = 60
    table = pa.table(
        {
            "text": [f"some text {number} " * 3 for number in range(rows)],
            "kind": pa.array(["a", "b", "c"] * (rows // 3)).dictionary_encode(),
            "flag": [number % 2 == 0 for number in range(rows)],
            "nested": [{"x": number, "y": [number, number + 1]} for number in range(rows)],
            "share": [number / 3 for number in range(rows)],
            "at": pa.array([datetime.datetime(2026, 1, 1)] * rows, pa.timestamp("ns")),
            "price": pa.array([None] * rows, pa.decimal128(10, 2)),
            "blob": [b"x" * number for number in range(rows)],
            "map": pa.array([[("a", 1)]] * rows, pa.map_(pa.string(), pa.int64())),
        }
    )
    writers: list[dict[str, Any]] = [
        {},
        {"write_page_index": True, "compression": "zstd", "write_page_checksum": True},
        {"compression": "none", "data_page_version": "2.0", "use_dictionary": False},
        {"store_schema": False, "version": "1.0", "compression": "gzip"},
    ]
    wholes = []
    for options in writers:
        pq.write_table(table, path, row_group_size=25, **options)
        wholes.append(path.read_bytes())
    return wholes


def damage_inputs(folder: Path, count: int, dice: random.Random) -> int:
    job, path, out = folder / "job.toml", folder / "rows.parquet", folder / "out"
    edit(job, "rows.jsonl", path.name)
    wholes, refused = whole_inputs(path), 0

    def read_all() -> None:
        source = open_input(str(path))
        source.check_ids(source.columns[0])
        for batch in source.batches(source.columns):
            assert batch.rows

    def run() -> None:
        summary = asyncio.run(batchcall.run_job(job))
        assert summary.is_complete or path.name in summary.reason, summary

    for number in range(count):
        print(number, end=" ", flush=True)
        calls: list[Callable[[], object]] = [read_all, lambda: batchcall.check_job(job)]
        if number % RUNS_EVERY == 0:
            shutil.rmtree(out, ignore_errors=True)
            calls.append(run)
        refused += refusals(calls, path, spoilt(dice, dice.choice(wholes)))
    return refused


def damage_outputs(folder: Path, count: int, dice: random.Random) -> int:
    job, out, whole = folder / "job.toml", folder / "out", folder / "whole"
    shutil.copytree(out, whole)
    files = [*out.glob("part-*"), *(out / "_batchcall" / "answers").iterdir()]
    refused = 0
    looks: list[Callable[[], object]] = [
        lambda: batchcall.read_status(out),
        lambda: list(batchcall.read(out)),
        lambda: batchcall.verify_output(out),
    ]
    changes = [lambda: batchcall.revalidate_job(job), lambda: asyncio.run(batchcall.run_job(job))]
    for number in range(count):
        path = dice.choice(files)
        print(number, path.name, end=" ", flush=True)
        content = spoilt(dice, (whole / path.relative_to(out)).read_bytes())
        refused += refusals([*looks, changes[number % 2]], path, content)
        shutil.rmtree(out)
        shutil.copytree(whole, out)
    return refused


if __name__ == "__main__":
    damage = {"inputs": damage_inputs, "outputs": damage_outputs}[sys.argv[1]]
    print("\nrefused", damage(Path(sys.argv[2]), int(sys.argv[3]), random.Random(int(sys.argv[4]))))
