"""What a row's answer goes through: it is written down, then read. A long one in a thread, so that the loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, Protocol

from msgspec.structs import replace

from batchcall.answers import AnswerParser, ParsedAttempt, Prepared, unread
from batchcall.base import Attempt, BatchcallError, Request
from batchcall.http import beside, is_long

P = ParamSpec("P")
READING_LIMIT_S = 60.0  # for one answer in a thread; then its row ends


class Recorder(Protocol):
    """Where what is sent and received is made to last. Each raises OutputError when it cannot."""

    def about_to_send(self, row: int, number: int, request_hash: str, now_s: float, after: str | None) -> None: ...
    def as_written(self, attempt: Attempt) -> bytes: ...  # pure, for a thread: what `answered` writes
    def answered(self, attempt: Attempt, written: bytes | None = None) -> None: ...
    def begins_to_read(self, attempt: Attempt, *, is_beside: bool) -> None: ...
    def has_read(self, attempt: Attempt) -> None: ...
    def gave_up(self, row: int) -> None: ...


class Reading:
    """Puts answers down and reads them. If they cannot be put down (the disk is full, the folder is gone), the run
    stops: nothing more is sent, and what is in flight has its room on disk already."""

    def __init__(
        self,
        recorder: Recorder,
        parser: AnswerParser,
        *,
        reread: Callable[[Attempt, Request], ParsedAttempt],
        stop: Callable[[BatchcallError], None],
    ) -> None:
        """`reread` reads as the parser does, in a process of its own; it may take a minute."""
        self._recorder = recorder
        self._parser = parser
        self._reread = reread
        self._stop = stop
        self._one_long = asyncio.Semaphore(1)  # threads share the interpreter, so one answer at a time

    def note(self, put_down: Callable[P, None], *fields: P.args, **named: P.kwargs) -> bool:
        """Whether it is in the journal; if not, the run stops."""
        try:
            put_down(*fields, **named)
        except BatchcallError as error:
            self._stop(error)
            return False
        return True

    async def put_down_long(self, attempt: Attempt) -> None:
        """A long answer that has just come, on disk before anything looks at it."""
        try:
            written = await beside(lambda: self._recorder.as_written(attempt))
        except asyncio.CancelledError:  # stopped at once: what arrived is kept all the same
            self.note(self._recorder.answered, attempt)
            raise
        self.note(self._recorder.answered, attempt, written)

    async def read_long(self, attempt: Attempt, prepared: Prepared) -> ParsedAttempt:
        """What a long answer says. If cancelled, a thread is left behind; the answer is on disk."""
        async with self._one_long:
            self.note(self._recorder.begins_to_read, attempt, is_beside=True)
            try:
                read = await beside(lambda: self._parser.read(attempt, prepared), limit_s=READING_LIMIT_S)
            except TimeoutError:
                read = unread(attempt, f"it takes more than {READING_LIMIT_S:g} s to read")
                read = replace(read, attempt=replace(attempt, failure=read.failure))
            self.note(self._recorder.has_read, read.attempt)
            return read

    async def read_again(self, attempt: Attempt, prepared: Prepared) -> ParsedAttempt:
        """What an answer of an earlier run says. One whose reading may have killed that run is read by `reread`."""
        if attempt.number in prepared.unsure and attempt.failure is None:
            async with self._one_long:
                read = await beside(lambda: self._reread(attempt, prepared.request))
            self.note(self._recorder.has_read, read.attempt)
            return read
        if is_long(attempt):
            return await self.read_long(attempt, prepared)
        self.note(self._recorder.begins_to_read, attempt, is_beside=False)
        return self._parser.read(attempt, prepared)
