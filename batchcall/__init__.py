"""batchcall: a table of rows through a language model and back as validated, typed data.

    import batchcall

    summary = batchcall.run("job.toml")
    for batch in batchcall.read("out/receipts"):
        ...

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchcall.api import InterruptedRun, run
    from batchcall.check import CheckReport, check_job
    from batchcall.errors import (
        BatchcallError,
        EndpointError,
        ExitCode,
        InputError,
        JobError,
        LockedError,
        OutputError,
        ResumeError,
    )
    from batchcall.files.results import read, read_failed, read_table
    from batchcall.job import Job, load_job
    from batchcall.report.snapshot import Snapshot, Summary
    from batchcall.revalidate import Revalidation, revalidate_job
    from batchcall.running import StopSwitch, run_job
    from batchcall.state import RunOptions
    from batchcall.status import OutputStatus, read_status
    from batchcall.verify import Proof, verify_output

_HOMES = {
    "batchcall.api": ("InterruptedRun", "run"),
    "batchcall.check": ("CheckReport", "check_job"),
    "batchcall.errors": (
        "BatchcallError",
        "EndpointError",
        "ExitCode",
        "InputError",
        "JobError",
        "LockedError",
        "OutputError",
        "ResumeError",
    ),
    "batchcall.files.results": ("read", "read_failed", "read_table"),
    "batchcall.job": ("Job", "load_job"),
    "batchcall.report.snapshot": ("Snapshot", "Summary"),
    "batchcall.revalidate": ("Revalidation", "revalidate_job"),
    "batchcall.running": ("StopSwitch", "run_job"),
    "batchcall.state": ("RunOptions",),
    "batchcall.status": ("OutputStatus", "read_status"),
    "batchcall.verify": ("Proof", "verify_output"),
    "batchcall.version": ("VERSION",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

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
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
