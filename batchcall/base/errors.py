"""The few exceptions that end a run. Each says what happened and where, carries a hint what to do, and an exit code.

A row's failure is never an exception: it is a `records.Failure` and ends as one row of the output.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process says to cron when it ends; the numbers are promised in the README."""

    OK = 0
    ROWS_FAILED = 1
    BAD_COMMAND = 2
    STOPPED_EARLY = 3
    ENDPOINT_REFUSES = 4
    LOCKED = 5
    INTERRUPTED = 130
    TERMINATED = 143


class BatchcallError(Exception):
    """Ends a run or keeps it from starting. `str()` is what happened; `hint` is what to do next."""

    exit_code = ExitCode.BAD_COMMAND

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")  # for a traceback, as a notebook shows it


class JobError(BatchcallError):
    """The job file or the command is wrong. `faults` has one sentence per fault, each naming its key."""

    def __init__(self, what: str, *, faults: tuple[str, ...] = (), hint: str = "") -> None:
        for fault in faults:
            self.add_note(f"- {fault}")
        super().__init__(what, hint=hint)
        self.faults = faults


class InputError(BatchcallError):
    """The input as a whole cannot be read: missing, empty, not Parquet, wrong column, ids not unique."""


class ResumeError(BatchcallError):
    """The output holds results of another job, and nobody said what to do with them."""


class OutputError(BatchcallError):
    """The output cannot be read or written: read-only, full, or damaged. What arrived before is kept; resumable."""


class DamagedRecordError(OutputError):
    """An output's run.json is missing or cannot be read. The next run holds the parts against the job instead."""


class LockedError(BatchcallError):
    """Another run holds this output."""

    exit_code = ExitCode.LOCKED


class EndpointError(BatchcallError):
    """The endpoint will not serve this job: bad key, no quota, unknown model. Resumable once fixed."""

    exit_code = ExitCode.ENDPOINT_REFUSES
