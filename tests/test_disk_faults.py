"""Disks that are full, fail, take half of a write or may not be written: a run stops cleanly and pays nothing twice."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import random
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchcall import verify_output
from batchcall.sandbox.process import SandboxProcess, Settings
from faulting import Calls, Fault, calls_of_a_run, violations_of_the_next_run, violations_under, why_no_strace
from forked import forked, wait_until
from killing import answered_rows, endpoint_process, ids_on_disk, ledger
from running import batchcall, command, results, some_rows, write_job, write_rows
from shims import SHORT_WRITES, build_shim


@pytest.fixture(scope="module")
def endpoint() -> Iterator[SandboxProcess]:
    with endpoint_process(Settings()) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def slow_endpoint() -> Iterator[SandboxProcess]:
    """So slow that journals are there long enough to be synced."""
    with endpoint_process(Settings(latency_s=0.05)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory, slow_endpoint: SandboxProcess) -> Calls:
    if (why := why_no_strace()) is not None:
        pytest.skip(why)
    return calls_of_a_run(tmp_path_factory.mktemp("healthy"), slow_endpoint)


@pytest.mark.parametrize(
    ("call", "path", "error", "share", "is_lasting"),
    [
        ("write", "*part-000000*journal*", "ENOSPC", 0.5, True),
        ("write", "*part-000001*journal*", "EIO", 0.5, False),
        ("fdatasync", "*journal*", "EIO", 0.0, False),  # of whichever part took long enough
        ("fallocate", "*part-000001*journal*", "ENOSPC", 0.0, True),
        ("openat", "*part-000001*journal*", "ENOSPC", 0.0, True),
        ("unlink", "*part-000000*journal*", "EIO", 0.0, True),
        ("write", "*tmp-part-000001.parquet*", "ENOSPC", 0.5, True),
        ("rename", "*tmp-part-000001.parquet*", "ENOSPC", 0.0, True),
        ("fsync", "", "EIO", 0.5, True),
        ("write", "*answers/*part-000001.answers*", "ENOSPC", 0.5, True),
        ("rename", "*answers/*part-000000.answers~", "EIO", 0.0, True),
        ("rename", "*run.json~", "EIO", 0.5, True),
        ("fdatasync", "*run.json~", "EIO", 1.0, True),
        ("openat", "*lock", "ENOSPC", 0.0, True),
        ("mkdir", "", "EROFS", 0.0, True),
    ],
)
def test_a_call_that_fails_stops_the_run_cleanly_and_the_next_one_completes_it(
    tmp_path: Path,
    slow_endpoint: SandboxProcess,
    calls: Calls,
    call: str,
    path: str,
    error: str,
    share: float,
    is_lasting: bool,
) -> None:
    fault = fault_like(calls, call, path, error, share, is_lasting=is_lasting)

    found = violations_under(fault, tmp_path, slow_endpoint)

    assert found == [], str(fault)


def fault_like(calls: Calls, call: str, pattern: str, error: str, share: float, *, is_lasting: bool) -> Fault:
    """A fault of a call that runs do make, on a path like this, after this share of the calls on it."""
    fitting = [
        (path, count)
        for (made, path), count in sorted(calls.items())
        if made == call and fnmatch.fnmatch(path, pattern) and ("answers/" in pattern or "answers/" not in path)
    ]
    assert fitting, f"no run calls {call} on {pattern}"
    path, count = fitting[0]
    return Fault(call, path, error, max(1, round(share * count)), is_lasting)


class SmallDisk:
    """A tmpfs of a few megabytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True)

    def fill(self) -> None:
        """Until not one byte more fits."""
        with (self.folder / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(1 << 16))
        with (self.folder / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b" ")

    def empty(self) -> None:
        (self.folder / "filler").unlink()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr[:100]}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("kilobytes", [200, 2600])
def test_a_disk_that_fills_up_stops_the_run_and_with_room_nothing_is_bought_twice(
    tmp_path: Path, small: SmallDisk, endpoint: SandboxProcess, kilobytes: int
) -> None:
    small.remount(f"size={kilobytes}k")
    rows = kilobytes + 400
    job = write_job(tmp_path, url=endpoint.url, rows=rows, part_rows=10_000, request=f"seed = {kilobytes}")
    before = ledger(endpoint)["billed"]
    out = small.folder / "out"
    with forked("run", job, "--output", out, into=tmp_path / "said") as full:
        code, told = full.wait(), full.stdout() + full.stderr()

    assert code == 3, told
    assert "No space left" in told
    assert str(out) in told
    assert "Traceback" not in told
    small.remount("size=64m")
    with forked("run", job, "--output", out, into=tmp_path / "said") as done:
        assert done.wait() == 0, done.stderr()
    assert ledger(endpoint)["billed"] - before == rows
    assert verify_output(out).faults == []


def test_a_disk_that_is_full_from_the_start_costs_nothing(
    tmp_path: Path, small: SmallDisk, endpoint: SandboxProcess
) -> None:
    small.fill()
    job = write_job(tmp_path, url=endpoint.url, part_rows=100)
    before = ledger(endpoint)["requests"]
    with forked("run", job, "--output", small.folder / "out", into=tmp_path / "said") as full:
        code, told = full.wait(), full.stdout() + full.stderr()

    assert code == 3, told
    assert "No space left" in told
    assert str(small.folder / "out") in told
    assert "Traceback" not in told
    assert ledger(endpoint)["requests"] == before
    small.empty()
    with forked("run", job, "--output", small.folder / "out", into=tmp_path / "said") as done:
        assert done.wait() == 0, done.stderr()
    assert ledger(endpoint)["billed"] - before == 25


def test_a_disk_that_is_full_when_the_parts_are_written_keeps_every_answer(tmp_path: Path, small: SmallDisk) -> None:
    out = small.folder / "out"
    with endpoint_process(Settings(latency_s=0.4)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=9, part_rows=10)
        long = [{**row, "noise": random.Random(row["id"]).randbytes(30_000).hex()} for row in some_rows(9)]
        write_rows(tmp_path / "rows.jsonl", long)  # a part of these finds no room where the ballast was
        with forked("run", job, "--output", out, into=tmp_path / "said") as full:
            wait_until(lambda: full.is_over or ledger(endpoint)["requests"] > 1)
            small.fill()  # what is in flight has its room, and nothing else has
            code, told = full.wait(), full.stdout() + full.stderr()
        kept = ids_on_disk(out)

        assert code == 3, told
        assert "No space left" in told
        assert "Traceback" not in told
        assert len(kept) == ledger(endpoint)["billed"]
        small.empty()
        with forked("run", job, "--output", out, into=tmp_path / "said") as done:
            assert done.wait() == 0, done.stderr()
        assert ledger(endpoint)["billed"] == 9
        assert kept <= ids_on_disk(out)
        assert verify_output(out).faults == []


def test_writes_that_take_only_a_part_or_are_interrupted_tear_no_record(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    shim = build_shim(tmp_path, SHORT_WRITES)
    job = write_job(tmp_path, url=endpoint.url, rows=200, part_rows=70, request="seed = 41")
    before = ledger(endpoint)["billed"]
    with subprocess.Popen(command("run", job, "--quiet"), env={**os.environ, "LD_PRELOAD": shim}) as run:
        wait_until(lambda: run.poll() is not None or answered_rows(tmp_path / "out") > 40)
        run.kill()
    seen = ids_on_disk(tmp_path / "out")

    done = batchcall("run", job, "--quiet", LD_PRELOAD=shim)

    assert done.returncode == 0, done.stderr
    assert len(seen) > 40
    assert seen <= ids_on_disk(tmp_path / "out")
    assert [row["row"] for row in results(tmp_path / "out")] == list(range(200))
    assert ledger(endpoint)["billed"] - before <= 200 + 8
    assert verify_output(tmp_path / "out").faults == []


def test_a_folder_that_may_not_be_written_is_named_before_anything_is_sent(
    tmp_path: Path, endpoint: SandboxProcess, request: pytest.FixtureRequest
) -> None:
    before = ledger(endpoint)["requests"]
    job = write_job(tmp_path, url=endpoint.url)
    if os.geteuid() == 0:  # no permission stops root, a mount does
        disk: SmallDisk = request.getfixturevalue("small")
        folder = disk.folder
        disk.remount("ro")
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)

    checked = batchcall("check", job, "--output", folder / "out")
    refused = batchcall("run", job, "--output", folder / "out")

    assert f"{folder / 'out'} cannot be written: no permission to write in {folder}" in checked.stdout
    assert refused.returncode == 2, refused.stderr
    assert f"{folder / 'out'} cannot be" in refused.stderr
    assert "or choose another folder" in refused.stderr
    assert "is kept" not in refused.stderr
    assert "Traceback" not in refused.stderr
    assert ledger(endpoint)["requests"] == before


@pytest.mark.parametrize("most_bytes", [0, 60_000])
def test_a_limit_of_file_sizes_is_a_full_disk_too(tmp_path: Path, endpoint: SandboxProcess, most_bytes: int) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=100, part_rows=10_000, request=f"seed = {most_bytes}")
    before = ledger(endpoint)["billed"]

    limited = subprocess.run(
        command("run", job),
        preexec_fn=_limiting(most_bytes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert limited.returncode == 3, limited.stderr
    assert "File too large" in limited.stderr + limited.stdout
    assert "Traceback" not in limited.stderr
    assert violations_of_the_next_run(job, endpoint, before, rows=100, rerun=lambda: _again(job)) == []


def _limiting(most_bytes: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


def _again(job: Path) -> tuple[int, str]:
    with forked("run", job, into=job.parent / "said") as run:
        return run.wait(), run.stderr()
