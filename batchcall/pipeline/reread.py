"""Stored answers over which a run may have died, read once more: in a child process with bounds of time and memory.

Whatever the reading does to that process (hang, die, fill the memory), the run that asks goes on.
"""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from batchcall.answers import ParsedAttempt, Prepared, unread
from batchcall.base import Attempt, FailureKind, OutputError, Request, Row
from batchcall.job import stored_job
from batchcall.pipeline.request_maker import answer_parser_of, make_request_maker

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

try:
    import resource
except ImportError:  # Windows: the time is bounded all the same
    resource = None  # type: ignore[assignment]  # a module there, nothing here

READING_LIMIT_S = 20.0  # for one answer; the slowest known takes one or two
_MEMORY_BYTES = 1 << 30  # beyond what the process has before it reads
_START_LIMIT_S = 120.0


class ReadingChild:
    """A process that reads answers of a job, one after the other; a new one where it does not survive. Close it."""

    def __init__(self, job: Mapping[str, Any], *, limit_s: float = READING_LIMIT_S) -> None:
        """`job`: as run.json keeps it."""
        self._job = job
        self._limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection[Any, Any] | None = None

    def read(self, attempt: Attempt, request: Request) -> ParsedAttempt:
        """As `AnswerParser.read`. Where the process does not survive it, the attempt carries the failure, so that
        nobody reads the answer again. Raises OutputError where no process can be started."""
        pipe = self._started()
        try:
            pipe.send((attempt, request))
            answer = self._received(pipe, self._limit_s)
        except TimeoutError:
            return self._given_up(attempt, f"it takes more than {self._limit_s:g} s to read")
        except (EOFError, OSError):
            return self._given_up(attempt, "reading it ends the process, or needs too much memory")
        assert isinstance(answer, ParsedAttempt)
        if answer.failure is None or answer.failure.kind is not FailureKind.UNDIGESTED:
            return answer
        return replace(answer, attempt=replace(attempt, failure=answer.failure))  # it may be for want of memory

    def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._pipe = None

    def _given_up(self, attempt: Attempt, why: str) -> ParsedAttempt:
        self.close()
        read = unread(attempt, why)
        return replace(read, attempt=replace(attempt, failure=read.failure))

    def _started(self) -> Connection[Any, Any]:
        if self._pipe is not None:
            return self._pipe

        from multiprocessing.connection import Pipe

        try:
            self._pipe, its_end = Pipe()
            with its_end:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "batchcall.pipeline.reread"],
                    stdin=its_end.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # a terminal's Ctrl-C is for the run, which ends this process
                )
            self._pipe.send(self._job)
            self._received(self._pipe, _START_LIMIT_S)
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            self.close()
            raise OutputError(
                "a run died while it read an answer, and no separate process can be started to read it",
                hint="run the same command again when this machine has room for one more process",
            ) from error
        return self._pipe

    def _received(self, pipe: Connection[Any, Any], limit_s: float) -> Any:
        """What the child sends. Raises TimeoutError, and EOFError or OSError where the child has died."""
        assert self._process is not None
        # The time is that of the whole message: a child may stop in the middle of one. Killed, it ends the wait.
        ends_at_s = time.monotonic() + limit_s
        end_it = threading.Timer(limit_s, self._process.kill)
        end_it.daemon = True
        end_it.start()
        try:
            return pipe.recv()
        except (EOFError, OSError):
            if time.monotonic() >= ends_at_s:
                raise TimeoutError from None
            raise
        finally:
            end_it.cancel()


def main() -> None:
    """The child: a job comes in, then answers; what was read from each goes out."""
    from multiprocessing.connection import Connection

    pipe: Connection[Any, Any] = Connection(sys.stdin.fileno())
    job = stored_job(pipe.recv())
    maker, parser = make_request_maker(job), answer_parser_of(job)
    gc.disable()  # see `collector_paused`
    with contextlib.suppress(OSError, ValueError):  # no /proc: a Mac
        if resource is not None:
            with open("/proc/self/statm", encoding="ascii") as statm:
                memory = int(statm.read().split()[0]) * resource.getpagesize()
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (memory + _MEMORY_BYTES, hard))
    pipe.send("ready")
    while True:
        try:
            attempt, request = pipe.recv()
        except EOFError:  # the run has ended
            return
        # The run ends this process when it takes too long. If the run itself is gone, this limit does.
        if resource is not None:
            used = resource.getrusage(resource.RUSAGE_SELF)
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            limit_s = int(used.ru_utime + used.ru_stime + 2 * READING_LIMIT_S)
            resource.setrlimit(resource.RLIMIT_CPU, (limit_s, hard))
        toolbox = maker.toolbox_of(request)
        prepared = Prepared(Row(attempt.row, {}, f"row {attempt.row}"), request, attempt.request_hash, toolbox)
        pipe.send(parser.read(attempt, prepared))


if __name__ == "__main__":
    main()
