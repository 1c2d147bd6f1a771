"""The command line and the embedded endpoint in forks of a process that has batchcall loaded: they start in
milliseconds, not in half a second, and what is killed is a real process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from batchcall.sandbox import process as sandbox_process
from batchcall.sandbox.settings import Settings

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["batchcall.cli", "batchcall.api", "batchcall.report.progress", "batchcall.sandbox.server", "uvloop"]
)


@dataclass(frozen=True, slots=True)
class Forked:
    """A run of the command in a process of its own; its stdout and stderr go to files."""

    process: ForkServerProcess
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def is_over(self) -> bool:
        return self.process.exitcode is not None

    def kill(self) -> bool:
        """kill -9. False: it was over before."""
        self.process.kill()
        return self.wait() == -signal.SIGKILL

    def wait(self, *, seconds: float = 60.0) -> int:
        """Its exit code; negative: the signal that ended it."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "the run has not ended"
        return self.process.exitcode

    def stdout(self) -> str:
        return self.out.read_text()

    def stderr(self) -> str:
        return self.err.read_text()


@contextlib.contextmanager
def forked(*words: str | Path, into: Path, stdout: Path | None = None) -> Iterator[Forked]:
    """Start `batchcall WORDS`; killed when the block ends before it does. What it says goes to files in `into`."""
    into.mkdir(parents=True, exist_ok=True)
    out, err = stdout or into / "stdout", into / "stderr"
    for said in (out, err):  # it may be killed before it says anything
        said.write_text("")
    process = _FORKS.Process(target=_command, args=([str(word) for word in words], str(out), str(err)))
    process.start()
    run = Forked(process, out, err)
    try:
        yield run
    finally:
        process.kill()
        process.join()


def run_to_end(
    words: Sequence[str], *, cwd: Path | None, env: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run `batchcall WORDS` to its end, as `subprocess.run` does; `env` is its whole environment."""
    with tempfile.TemporaryDirectory() as into:
        out, err = Path(into) / "stdout", Path(into) / "stderr"
        process = _FORKS.Process(target=_command, args=(list(words), str(out), str(err), dict(env), cwd))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(words), seconds, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(list(words), process.exitcode, out.read_text(), err.read_text())


def _command(
    words: list[str], out: str, err: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> None:
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    from batchcall.cli import main  # noqa: PLC0415  # in the fork, where it is loaded already

    main(words, prog_name="batchcall")


really_launched = sandbox_process._launched


class ForkedEndpoint:
    """The embedded endpoint in a fork. It looks like the `asyncio.subprocess.Process` that `open_sandbox` starts."""

    def __init__(self, settings: Settings) -> None:
        its_stdin, self.stdin = _FORKS.Pipe(duplex=False)
        self.stdout, its_stdout = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(target=_serve, args=(json.dumps(asdict(settings)), its_stdin, its_stdout))
        self._process.start()
        self.stdout = Lines(self.stdout)
        for end in (its_stdin, its_stdout):
            end.close()

    def terminate(self) -> None:
        self._process.terminate()

    async def wait(self) -> None:
        await asyncio.to_thread(self._process.join)
        self.stdout.close()


@dataclass
class Lines:
    pipe: Connection

    async def readline(self) -> bytes:
        return await asyncio.to_thread(self._line)

    def _line(self) -> bytes:
        with os.fdopen(os.dup(self.pipe.fileno()), "rb") as lines:
            return lines.readline()

    def close(self) -> None:
        self.pipe.close()


async def launched(settings: Settings) -> ForkedEndpoint:
    """Instead of `batchcall.sandbox.process._launched`."""
    return ForkedEndpoint(settings)


def _serve(settings: str, its_stdin: Connection, its_stdout: Connection) -> None:
    os.setsid()
    os.dup2(its_stdin.fileno(), 0)
    os.dup2(its_stdout.fileno(), 1)
    its_stdin.close()
    its_stdout.close()
    sys.stdin, sys.stdout, sys.argv = os.fdopen(0), os.fdopen(1, "w"), ["batchcall.sandbox", settings]
    runpy.run_module("batchcall.sandbox", run_name="__main__", alter_sys=True)


def wait_until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Until something that another process does has happened; polling, as that process cannot tell us."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.001)
