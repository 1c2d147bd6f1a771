"""Processes really killed, endpoints that bill in another process: nothing answered is lost, nothing is doubled."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from batchcall import verify_output
from batchcall.sandbox.process import SandboxProcess, Settings, open_sandbox
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


def wait_until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Until something that another process does has happened; polling, as that process cannot tell us."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.01)


def journal_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "_batchcall").glob("*.journal"))


def answered_rows(folder: Path) -> int:
    return sum(path.read_bytes().count(b'"status":200') for path in (folder / "_batchcall").glob("*.journal"))


async def test_killed_again_and_again_it_loses_no_answer_and_doubles_no_row(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=ROWS, part_rows=150)
    dice = random.Random(7)
    kills = 0
    for _ in range(12):
        with start(job) as run:
            wait_until(lambda: journal_bytes(tmp_path / "out") > 0 or run.poll() is not None)
            time.sleep(dice.uniform(0.0, 0.25))
            run.send_signal(signal.SIGKILL)
            kills += run.wait() == -signal.SIGKILL

    done = batchcall("run", job, "--log-format", "json")

    assert kills >= 6
    assert done.returncode == 0, done.stderr
    rows = results(tmp_path / "out")
    assert [row["row"] for row in rows] == list(range(ROWS))
    assert {row["status"] for row in rows} == {"ok"}
    billed = (await endpoint.ledger())["billed"]
    assert ROWS <= billed <= ROWS + kills * IN_FLIGHT
    entries = json.loads((tmp_path / "out" / "_batchcall" / "run.json").read_bytes())["runs"]
    assert billed <= ROWS + sum(entry["indeterminate"] for entry in entries)  # every possible double is reported
    assert verify_output(tmp_path / "out").faults == []


async def test_without_the_journal_the_same_kill_would_lose_answers(tmp_path: Path, endpoint: SandboxProcess) -> None:
    """The control: what the test above looks at does fail when what it protects is taken away."""
    job = write_job(tmp_path, url=endpoint.url, rows=60, part_rows=100)
    with start(job) as run:
        wait_until(lambda: answered_rows(tmp_path / "out") >= 20)
        run.kill()
    for journal in (tmp_path / "out" / "_batchcall").glob("*.journal"):
        journal.unlink()

    assert batchcall("run", job).returncode == 0

    assert (await endpoint.ledger())["billed"] >= 60 + 20


async def test_sigterm_drains_publishes_and_leaves_with_143(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=ROWS, part_rows=150)
    with start(job) as run:
        wait_until(lambda: answered_rows(tmp_path / "out") >= 20)
        run.send_signal(signal.SIGTERM)
        stdout, stderr = run.communicate(timeout=60)

    assert run.returncode == 143, stderr
    summary = json.loads(stdout)
    assert summary["exit_code"] == 143
    assert "SIGTERM" in summary["reason"]
    rows = results(tmp_path / "out")
    assert len(rows) == summary["rows"] == (await endpoint.ledger())["billed"]  # nothing in flight was in vain
    assert 0 < len(rows) < ROWS
    assert batchcall("run", job).returncode == 0
    assert (await endpoint.ledger())["billed"] == ROWS


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


async def test_two_runs_at_once_the_second_leaves_with_5(tmp_path: Path) -> None:
    async with open_sandbox(Settings(latency_s=0.5)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        with start(job) as first:
            wait_until(lambda: journal_bytes(tmp_path / "out") > 0)
            second = batchcall("run", job)
            first.wait(timeout=60)

    assert second.returncode == 5
    assert f"process {first.pid} " in second.stderr
    assert first.returncode == 0


async def test_a_full_disk_stops_the_run_and_with_room_again_nothing_is_bought_twice(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode()[:100]}")
    try:
        job = write_job(tmp_path, url=endpoint.url, rows=3000, part_rows=10_000)
        full = batchcall("run", job, "--output", small / "out", "--log-format", "json")

        assert full.returncode == 3, full.stderr
        assert "No space left" in full.stdout + full.stderr
        assert "Traceback" not in full.stderr
        billed = (await endpoint.ledger())["billed"]
        assert 0 < billed < 3000
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)

        done = batchcall("run", job, "--output", small / "out")

        assert done.returncode == 0, done.stderr
        assert (await endpoint.ledger())["billed"] == 3000
        assert verify_output(small / "out").faults == []
    finally:
        subprocess.run(["umount", "-l", small], check=True)


async def test_a_file_size_limit_is_a_full_disk_too(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=ROWS, part_rows=10_000)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    limited = subprocess.run(
        command("run", job), preexec_fn=limit, capture_output=True, text=True, timeout=60, check=False
    )

    assert limited.returncode == 3, limited.stderr
    assert "Traceback" not in limited.stderr
    done = batchcall("run", job)
    assert done.returncode == 0, done.stderr
    assert [row["row"] for row in results(tmp_path / "out")] == list(range(ROWS))


async def test_a_closed_stdout_is_no_fault_of_the_run(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url)
    words: list[Any] = [sys.executable, "-c", "import os, sys; os.close(1); os.execv(sys.argv[1], sys.argv[1:])"]

    closed = subprocess.run([*words, *command("run", job)], capture_output=True, text=True, timeout=60, check=False)

    assert closed.returncode == 0, closed.stderr
    assert "Traceback" not in closed.stderr
    assert len(results(tmp_path / "out")) == 25
