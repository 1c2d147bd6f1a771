"""Stored answers over which a run may have died, read once more: in a child process with bounds of time and memory.

Whatever the reading does to that process (hang, die, fill the memory), the run that asks goes on.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO

from batchcall.answers import ParsedAttempt, Prepared, unread
from batchcall.base import Attempt, FailureKind, OutputError, Request, Row
from batchcall.job import stored_job
from batchcall.pipeline.request_maker import answer_parser_of, make_request_maker

try:
    import resource
except ImportError:  # Windows: the time is bounded all the same
    resource = None  # type: ignore[assignment]  # a module there, nothing here

READING_LIMIT_S = 20.0  # for one answer; the slowest known takes one or two
_MEMORY_BYTES = 1 << 30  # beyond what the process has before it reads
_START_LIMIT_S = 120.0
_FRAME = struct.Struct("<Q")


class ReadingChild:
    """A process that reads answers of a job, one after the other; a new one where it does not survive. Close it."""

    def __init__(self, job: Mapping[str, Any], *, limit_s: float = READING_LIMIT_S) -> None:
        """`job`: as run.json keeps it."""
        self._job = job
        self._limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, attempt: Attempt, request: Request) -> ParsedAttempt:
        """As `AnswerParser.read`. Where the process does not survive it, the attempt carries the failure, so that
        nobody reads the answer again. Raises OutputError where no process can be started."""
        process = self._started()
        with contextlib.suppress(BrokenPipeError):
            _send(process.stdin, (attempt, request))
        try:
            answer = self._receive(process, self._limit_s)
        except TimeoutError:
            return self._given_up(attempt, f"it takes more than {self._limit_s:g} s to read")
        except EOFError:
            return self._given_up(attempt, "reading it ends the process, or needs too much memory")
        assert isinstance(answer, ParsedAttempt)
        if answer.failure is None or answer.failure.kind is not FailureKind.UNDIGESTED:
            return answer
        return replace(answer, attempt=replace(attempt, failure=answer.failure))  # it may be for want of memory

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _given_up(self, attempt: Attempt, why: str) -> ParsedAttempt:
        self.close()
        read = unread(attempt, why)
        return replace(read, attempt=replace(attempt, failure=read.failure))

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "batchcall.pipeline.reread"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for the run, which ends this process
            )
            _send(self._process.stdin, self._job)
            self._receive(self._process, _START_LIMIT_S)
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            self.close()
            raise OutputError(
                "a run died while it read an answer, and no separate process can be started to read it",
                hint="run the same command again when this machine has room for one more process",
            ) from error
        return self._process

    def _receive(self, process: subprocess.Popen[bytes], limit_s: float) -> Any:
        assert process.stdout is not None
        until_s, handle = time.monotonic() + limit_s, process.stdout.fileno()
        (length,) = _FRAME.unpack(_bytes_from(handle, _FRAME.size, until_s))
        return pickle.loads(_bytes_from(handle, length, until_s))


def _bytes_from(handle: int, count: int, until_s: float) -> bytes:
    pieces = b""
    while len(pieces) < count:
        if not select.select([handle], [], [], max(0.0, until_s - time.monotonic()))[0]:
            raise TimeoutError
        piece = os.read(handle, min(count - len(pieces), 1 << 20))
        if not piece:
            raise EOFError
        pieces += piece
    return pieces


def _send(to: BinaryIO | Any, value: object) -> None:
    frame = pickle.dumps(value)
    to.write(_FRAME.pack(len(frame)) + frame)
    to.flush()


def main() -> None:
    """The child: a job comes in, then answers; what was read from each goes out."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    job = stored_job(_received(source))
    maker, parser = make_request_maker(job), answer_parser_of(job)
    gc.disable()  # see `collector_paused`
    with contextlib.suppress(OSError, ValueError):  # no /proc: a Mac
        if resource is not None:
            with open("/proc/self/statm", encoding="ascii") as statm:
                memory = int(statm.read().split()[0]) * resource.getpagesize()
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (memory + _MEMORY_BYTES, hard))
    _send(target, "ready")
    while True:
        attempt, request = _received(source)
        # The run ends this process when it takes too long. If the run itself is gone, this limit does.
        if resource is not None:
            used = resource.getrusage(resource.RUSAGE_SELF)
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            limit_s = int(used.ru_utime + used.ru_stime + 2 * READING_LIMIT_S)
            resource.setrlimit(resource.RLIMIT_CPU, (limit_s, hard))
        toolbox = maker.toolbox_of(request)
        prepared = Prepared(Row(attempt.row, {}, f"row {attempt.row}"), request, attempt.request_hash, toolbox)
        _send(target, parser.read(attempt, prepared))


def _received(source: BinaryIO) -> Any:
    head = source.read(_FRAME.size)
    if len(head) < _FRAME.size:
        sys.exit(0)
    return pickle.loads(source.read(_FRAME.unpack(head)[0]))


if __name__ == "__main__":
    main()
