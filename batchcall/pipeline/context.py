"""What the steps of one run share, from the moment its output is held to the moment it is let go."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from batchcall.disk import Disk
from batchcall.input import Input
from batchcall.job import Job
from batchcall.output import EarlierAnswers, Output, RunEntry, Totals
from batchcall.pipeline.request_maker import RequestMaker
from batchcall.pipeline.resume import FAIL, Resumption
from batchcall.report import Bounds


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a person may say beside the job file. Each is a flag of `batchcall run`."""

    limit: int | None = None  # the first N rows of the input only
    retry_failed: bool = False
    on_change: str = FAIL  # fail | rerun | keep
    rehearse: bool = False  # against the sandbox, into a folder of its own
    deadline_s: float | None = None
    grace_s: float | None = None  # for answers still awaited when the run stops early; None: the longest timeout
    max_outage_s: float | None = None  # an endpoint that is down is waited for; None: 30 min, 30 s if it never worked


@dataclass(slots=True)
class Run:
    """One run."""

    job: Job
    options: RunOptions
    output: Output
    source: Input
    maker: RequestMaker
    resumption: Resumption
    entry: RunEntry
    earlier_answers: EarlierAnswers | None
    disk: Disk
    totals: Totals = field(default_factory=Totals)  # of the whole output, as far as rows are in
    rows_here: int = 0  # rows that ended in this run
    failed_here: int = 0  # of these
    an_error: str | None = None  # of the first row that failed in this run
    rows_expected: int | None = None  # for the progress line
    bounds: Bounds = field(default_factory=Bounds)  # what it waited for, and for how long
    rows_seen: int | None = None  # rows of the input, once its end was reached
    record_lock: threading.Lock = field(default_factory=threading.Lock)  # for whoever writes run.json under way
    _began_s: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Since the run began; a clock that is set meanwhile does not show."""
        return time.monotonic() - self._began_s
