"""Send every row of a table to a language model and get validated, typed data back.

    import batchcall

    summary = batchcall.run("job.toml")
    for batch in batchcall.read("out/receipts"):
        ...

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # `typing` costs more than all else here, and Ctrl-C is heard only behind it
if TYPE_CHECKING:
    from typing import Any

    from batchcall.api import InterruptedRun, run
    from batchcall.base import (
        BatchcallError,
        EndpointError,
        ExitCode,
        InputError,
        JobError,
        LockedError,
        OutputError,
        ResumeError,
    )
    from batchcall.commands import (
        CheckReport,
        OutputStatus,
        Proof,
        Revalidation,
        check_job,
        read_status,
        revalidate_job,
        verify_output,
    )
    from batchcall.job import Job, load_job
    from batchcall.output import read, read_failed, read_table
    from batchcall.pipeline import RunOptions, StopSwitch, run_job
    from batchcall.report import Snapshot, Summary

# By module rather than by room: the door of a room imports all of the room.
_HOMES = {
    "api": "InterruptedRun run",
    "base.errors": "BatchcallError EndpointError ExitCode InputError JobError LockedError OutputError ResumeError",
    "base.version": "VERSION",
    "commands.check": "CheckReport check_job",
    "commands.revalidate": "Revalidation revalidate_job",
    "commands.status": "OutputStatus read_status",
    "commands.verify": "Proof verify_output",
    "job.model": "Job load_job",
    "output.results": "read read_failed read_table",
    "pipeline.context": "RunOptions",
    "pipeline.run": "StopSwitch run_job",
    "report.snapshot": "Snapshot Summary",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "VERSION",
    "BatchcallError",
    "CheckReport",
    "EndpointError",
    "ExitCode",
    "InputError",
    "InterruptedRun",
    "Job",
    "JobError",
    "LockedError",
    "OutputError",
    "OutputStatus",
    "Proof",
    "ResumeError",
    "Revalidation",
    "RunOptions",
    "Snapshot",
    "StopSwitch",
    "Summary",
    "check_job",
    "load_job",
    "read",
    "read_failed",
    "read_status",
    "read_table",
    "revalidate_job",
    "run",
    "run_job",
    "verify_output",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'batchcall' has no attribute {name!r}")
    return getattr(import_module(f"batchcall.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
