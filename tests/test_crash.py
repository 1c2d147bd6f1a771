"""The true command, started as a person would and killed: nothing answered is lost, nothing is doubled.

The same many times over, by forks that start sooner, in test_kills.py; signals in test_signals.py.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from batchcall import verify_output
from batchcall.sandbox.process import SandboxProcess, Settings, open_sandbox
from forked import wait_until
from killing import ids_on_disk, journal_bytes
from running import batchcall, command, results, write_job

ROWS = 400
IN_FLIGHT = 8


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[SandboxProcess]:
    async with open_sandbox(Settings(latency_s=0.02)) as sandbox:
        yield sandbox


def start(job: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", job, "--log-format", "json"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_news(run: subprocess.Popen[str], out: Path, before: int) -> None:
    """Until the run has written to its journal, or is over."""
    wait_until(lambda: journal_bytes(out) != before or run.poll() is not None)


async def test_killed_again_and_again_it_loses_no_answer_and_doubles_no_row(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=ROWS, part_rows=150)
    out, dice, kills = tmp_path / "out", random.Random(7), 0
    for _ in range(5):
        before = journal_bytes(out)
        with start(job) as run:
            wait_for_news(run, out, before)
            time.sleep(dice.uniform(0.0, 0.15))
            run.kill()
            kills += run.wait() == -signal.SIGKILL
    on_disk = ids_on_disk(out)

    done = batchcall("run", job, "--log-format", "json")

    assert kills >= 3
    assert done.returncode == 0, done.stderr
    rows = results(out)
    assert [row["row"] for row in rows] == list(range(ROWS))
    assert {row["status"] for row in rows} == {"ok"}
    assert on_disk <= ids_on_disk(out)
    assert ROWS <= (await endpoint.ledger())["billed"] <= ROWS + kills * IN_FLIGHT
    assert verify_output(out).faults == []


async def test_ctrl_c_leaves_with_130_and_a_second_one_at_once(tmp_path: Path) -> None:
    async with open_sandbox(Settings(latency_s=30.0)) as slow:
        job = write_job(tmp_path, url=slow.url)
        with start(job) as run:
            wait_until(lambda: journal_bytes(tmp_path / "out") > 0)
            run.send_signal(signal.SIGINT)
            time.sleep(0.3)
            assert run.poll() is None  # it waits for what is in flight
            run.send_signal(signal.SIGINT)
            _, stderr = run.communicate(timeout=15)

    assert run.returncode == 130
    assert "Traceback" not in stderr
