"""System calls that fail on purpose, by strace: which ones a run makes in its output, and what it does then."""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from batchcall import verify_output
from batchcall.sandbox.process import SandboxProcess
from forked import forked
from killing import bills_reported, ledger
from running import command, results, write_job

CALLS = "write,pwrite64,fdatasync,fsync,rename,renameat,renameat2,unlink,unlinkat,openat,ftruncate,fallocate,mkdir"
ROWS, PART_ROWS = 60, 25

Calls = Counter[tuple[str, str]]  # (system call, path below the output) → how often


@dataclass(frozen=True, slots=True)
class Fault:
    """A system call on a path of the output that fails, from its `first` time on; or only then."""

    call: str
    path: str
    error: str
    first: int
    is_lasting: bool

    def __str__(self) -> str:
        return f"{self.error} of {self.call} on {self.path}, time {self.first}{'+' if self.is_lasting else ''}"


@functools.cache
def why_no_strace() -> str | None:
    """Why no call can be made to fail here, None when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        ["strace", "-qq", "-e", "inject=fsync:error=EIO", "true"], capture_output=True, text=True, check=False
    )
    return None if tried.returncode == 0 else f"strace may not trace here: {tried.stderr[:100]}"


def calls_of_a_run(folder: Path, endpoint: SandboxProcess) -> Calls:
    """What a run in good health asks of the file system in its output."""
    job, log = _job(folder, endpoint), folder / "strace.log"
    traced = [
        "strace",
        "-f",
        "-y",
        "-qq",
        "--seccomp-bpf",
        "-s",
        "0",
        "-o",
        str(log),
        "-e",
        f"trace={CALLS}",
        *command("run", job),
    ]
    subprocess.run(traced, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=True)
    named = re.compile(rf"^\d+ +(\w+)\(.*?[<\"]{re.escape(str(folder / 'out'))}/?([^>\"]*)[>\"]")
    found = (named.match(line) for line in log.read_text(errors="replace").splitlines())
    return Counter((one[1], one[2]) for one in found if one is not None)


def faults_of(calls: Calls) -> Iterator[Fault]:
    """For each call on each path: the first, one in the middle and the last, with each error that it can have."""
    for (call, path), count in sorted(calls.items()):
        for first in sorted({1, (count + 1) // 2, count}):
            for error in _ERRORS.get(call, ("EIO",)):
                yield Fault(call, path, error, first, is_lasting=True)
        if call in ("fsync", "fdatasync", "write"):  # and well again afterwards, as the kernel does after a failed sync
            yield Fault(call, path, "EIO", (count + 1) // 2, is_lasting=False)


_ERRORS = {
    "write": ("ENOSPC", "EIO"),
    "openat": ("ENOSPC", "EACCES"),
    "fallocate": ("ENOSPC",),
    "rename": ("ENOSPC", "EIO"),
    "mkdir": ("ENOSPC", "EROFS"),
}


def violations_under(fault: Fault, folder: Path, endpoint: SandboxProcess) -> list[str]:
    """Run a job under the fault, then without, and say what was not as promised."""
    job, before = _job(folder, endpoint), ledger(endpoint)["billed"]
    when = f"{fault.first}{'+' if fault.is_lasting else ''}"
    inject = f"inject={fault.call}:error={fault.error}:when={when}"
    traced = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", os.devnull, "-P", str(folder / "out" / fault.path)]
    run = subprocess.run(
        [*traced, "-e", f"trace={fault.call}", "-e", inject, *command("run", job)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = list(_said_badly(run, fault, folder, is_sent=ledger(endpoint)["billed"] > before))
    return found + violations_of_the_next_run(job, endpoint, before, rows=ROWS, rerun=lambda: _plain_run(job, folder))


def _said_badly(run: subprocess.CompletedProcess[str], fault: Fault, folder: Path, *, is_sent: bool) -> Iterator[str]:
    told = run.stdout + run.stderr
    is_wrong_place = fault.error in ("EACCES", "EROFS") and not is_sent  # then it is the command that is wrong
    if run.returncode not in ((0, 2, 3) if is_wrong_place else (0, 3)):
        yield f"left with {run.returncode}: {told[-300:]}"
    if "Traceback" in told or "Exception" in told:
        yield f"a traceback: {told[-1500:]}"
    if run.returncode != 0 and (
        str(folder / "out") not in told or os.strerror(getattr(errno, fault.error)) not in told
    ):
        yield f"does not say what is wrong and where: {told[-500:]}"


def _plain_run(job: Path, folder: Path) -> tuple[int, str]:
    with forked("run", job, into=folder / "said") as run:
        return run.wait(seconds=120), run.stderr()


def violations_of_the_next_run(
    job: Path, endpoint: SandboxProcess, billed_before: int, *, rows: int, rerun: Callable[[], tuple[int, str]]
) -> list[str]:
    """The same command completes, every row is there once, and no bill is without an answer or a report."""
    code, stderr = rerun()
    out = job.parent / "out"
    if code != 0:
        return [f"the next run left with {code}: {stderr[-1500:]}"]
    found = [f"verify: {fault}" for fault in verify_output(out).faults]
    indexes = [row["row"] for row in results(out)]
    if indexes != list(range(rows)):
        found.append(f"{len(indexes)} rows, not those of the input in order")
    billed, reported = ledger(endpoint)["billed"] - billed_before, bills_reported(out)
    if billed > rows + reported:
        found.append(f"{billed} bills for {rows} rows, reported were {reported}")
    return found


def _job(folder: Path, endpoint: SandboxProcess) -> Path:
    return write_job(folder, url=endpoint.url, rows=ROWS, part_rows=PART_ROWS)
