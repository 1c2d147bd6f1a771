"""The power goes: a real ext4 on a loop device is shut down under a run, nothing flushed, and mounted again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchcall import verify_output
from batchcall.sandbox.process import SandboxProcess, Settings
from forked import forked, wait_until
from killing import answered_rows, endpoint_process, ids_on_disk, ledger
from running import command, results, write_job

SHUTDOWN = 0x8004587D  # FS_IOC_GOINGDOWN = EXT4_IOC_SHUTDOWN: no more input and output from now on
WITHOUT_FLUSHING = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: not even the file system's own journal
# An answer may wait 200 ms for its sync; the rest is for the sync itself on a busy machine.
DURABLE_AFTER_S = 0.4
ROWS, PART_ROWS = 600, 150


class PoweredDisk:
    """An ext4 of its own that can lose its power."""

    def __init__(self, folder: Path) -> None:
        self.image, self.mounted = folder / "disk.img", folder / "mnt"

    def make(self) -> None:
        self.mounted.mkdir()
        with self.image.open("wb") as image:
            image.truncate(64 << 20)
        _do_or_skip(["mkfs.ext4", "-q", "-F", self.image])
        self.mount()

    def mount(self) -> None:
        _do_or_skip(["mount", "-t", "ext4", "-o", "loop", self.image, self.mounted])

    def cut(self) -> None:
        """From here on nothing reaches the disk; what was not synced is lost."""
        handle = os.open(self.mounted, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", WITHOUT_FLUSHING))
        except OSError as error:
            pytest.skip(f"this file system cannot be shut down: {error}")
        finally:
            os.close(handle)

    def power_on(self) -> None:
        self.unmount()
        self.mount()  # replays the file system's journal

    def unmount(self) -> None:
        subprocess.run(["umount", self.mounted], check=True, capture_output=True)


def _do_or_skip(words: list[str | Path]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{words[0]} does not work here: {done.stderr.strip()[:200]}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PoweredDisk]:
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    disk = PoweredDisk(tmp_path)
    disk.make()
    try:
        yield disk
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            disk.unmount()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[SandboxProcess]:
    with endpoint_process(Settings(latency_s=0.03)) as sandbox:
        yield sandbox


@pytest.mark.parametrize("seed", [1, 2])
def test_after_a_power_cut_only_the_last_moment_is_asked_again(
    tmp_path: Path, disk: PoweredDisk, endpoint: SandboxProcess, seed: int
) -> None:
    dice = random.Random(seed)
    out = disk.mounted / "out"
    job = write_job(tmp_path, url=endpoint.url, rows=ROWS, part_rows=PART_ROWS, request=f"seed = {seed}")
    before = ledger(endpoint)["billed"]
    durable: set[bytes] = set()
    in_vain = 0  # as many answers as may be bought again
    for _ in range(2):
        with forked("run", job, "--output", out, into=tmp_path / "said") as run:
            wait_until(lambda: run.is_over or answered_rows(out) > 0)
            time.sleep(dice.uniform(0.05, 0.3))
            done = ids_on_disk(out)
            time.sleep(DURABLE_AFTER_S)
            disk.cut()
            assert run.wait() in (0, 3), run.stderr()
            told = run.stderr() + run.stdout()
        assert "Traceback" not in told
        wait_until(lambda: ledger(endpoint)["in_flight"] == 0)
        in_vain = ledger(endpoint)["billed"] - before - len(done)
        disk.power_on()
        durable |= done
        assert durable <= ids_on_disk(out)

    with forked("run", job, "--output", out, into=tmp_path / "said") as run:
        assert run.wait() == 0, run.stderr()

    assert [row["row"] for row in results(out)] == list(range(ROWS))
    assert durable <= ids_on_disk(out)
    assert ledger(endpoint)["billed"] - before <= ROWS + in_vain
    assert verify_output(out).faults == []


def test_with_syncs_taken_out_the_same_power_cut_loses_answers(
    tmp_path: Path, disk: PoweredDisk, endpoint: SandboxProcess
) -> None:
    """The control: what the test above looks at does fail when what it protects is taken away."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    out = disk.mounted / "out"
    job = write_job(tmp_path, url=endpoint.url, rows=ROWS, part_rows=PART_ROWS, request="seed = 9")
    idle = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", os.devnull, "-e", "inject=fsync,fdatasync:retval=0"]
    with subprocess.Popen(
        [*idle, *command("run", job, "--output", out)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as run:
        wait_until(lambda: run.poll() is not None or answered_rows(out) > 30)
        assert run.poll() is None, "strace may not trace here"
        done = ids_on_disk(out)
        time.sleep(DURABLE_AFTER_S)
        disk.cut()
        run.communicate(timeout=60)
    disk.power_on()

    assert len(done) > 30
    assert done - ids_on_disk(out)
