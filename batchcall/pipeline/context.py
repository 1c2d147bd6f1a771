"""What the steps of one run share, while it has the lock of its output."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from batchcall.input import Input
from batchcall.job import Job
from batchcall.output import Bought, EarlierAnswers, Output, RunEntry, Totals, write_runfile
from batchcall.pipeline.request_maker import RequestMaker
from batchcall.pipeline.resume import FAIL, Resumption
from batchcall.report import Bounds

try:
    import uvloop
except ImportError:
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
else:
    new_loop = uvloop.new_event_loop


AUTO = "auto"


class RunOptions(msgspec.Struct, frozen=True):
    """What a person may choose beside the job file. Each is a flag of `batchcall run`."""

    limit: int | None = None  # the first N rows of the input only
    retry_failed: bool = False
    on_change: str = FAIL  # fail | rerun | keep; `run_job` raises JobError for anything else
    rehearse: bool = False  # against the sandbox, into a folder of its own
    deadline_s: float | None = None
    grace_s: float | None = None  # for answers still awaited when the run stops early; None: the longest timeout
    workers: int | str = 1  # processes that do the rows; "auto": as many as the cores allow, when one is not enough
    max_outage_s: float | None = None  # an endpoint that is down is waited for; None: 30 min, 30 s if it never worked


class Progress(msgspec.Struct):
    """How far a run is. Only the event loop writes it: the thread that reads hands over its finds with each batch."""

    totals: Totals  # of the whole output, as far as rows are in
    rows_here: int = 0  # rows that ended in this run
    failed_here: int = 0  # of these
    an_error: str | None = None  # of the first row that failed in this run
    rows_expected: int | None = None  # of the input and within --limit, once they are counted; None: not known
    rows_seen: int | None = None  # rows of the input, once its end was reached
    input_changes: list[str] | None = None  # of its files until the last row was read; None: more is to be read
    bounds: Bounds = msgspec.field(default_factory=Bounds)  # what the run waited for, and for how long


# For the row with this number: the first answer to one of these requests, by their hashes, that no row has taken.
Take = Callable[[int, Sequence[str]], Bought | None]


class Run(msgspec.Struct, frozen=True):
    """One run: what its steps share."""

    job: Job
    options: RunOptions
    output: Output
    source: Input
    maker: RequestMaker
    resumption: Resumption
    entry: RunEntry
    earlier_answers: EarlierAnswers | None
    progress: Progress
    take: Take | None  # an answer that was set aside; None: there are none
    lock: Callable[[], None]  # raises where the folder is not the one that is held
    began_s: float = msgspec.field(default_factory=time.monotonic)
    _record_lock: threading.Lock = msgspec.field(default_factory=threading.Lock)

    @property
    def elapsed_s(self) -> float:
        """Since the run began, whatever is done to the clock of the machine."""
        return time.monotonic() - self.began_s

    def write_record(self, *, is_last: bool = False) -> None:
        """Write run.json as it is now; `is_last` as for `write_runfile`. From any thread. Raises OutputError."""
        with self._record_lock:
            write_runfile(self.output.disk, self.output.own, self.resumption.runfile, is_last=is_last)
