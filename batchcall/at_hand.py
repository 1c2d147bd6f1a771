"""Every command takes the job file or the output folder, whichever is at hand: from one to the other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from batchcall.errors import BatchcallError, JobError
from batchcall.files.disk import RealDisk
from batchcall.files.output import OWN_FOLDER
from batchcall.files.runfile import read_runfile
from batchcall.job import load_job


class AtHand(NamedTuple):
    """A job file, and what an output says of the job that it belongs to."""

    job: Path
    input: str | None = None  # None: as the job file says
    output: Path | None = None


def job_at(path: Path) -> AtHand:
    """The job file at `path`; of an output folder, the one that wrote it. Raises JobError."""
    if not os.path.isdir(path / OWN_FOLDER):
        return AtHand(path)
    try:
        runfile = read_runfile(RealDisk(), path / OWN_FOLDER)
    except BatchcallError as error:
        raise JobError(f"{path} is an output whose run.json cannot be read", hint="give the job file") from error
    if runfile is None:
        raise JobError(f"{path} is an output without a run.json", hint="give the job file")
    job = Path(runfile.job["file"])
    if not job.is_file():
        raise JobError(f"{path} was written by {job}, which is no longer there", hint="give the job file, and --output")
    if _is_rehearsal(runfile.job, path):
        raise JobError(f"{path} is a rehearsal", hint=f"batchcall run {job} --rehearse")
    read_from = runfile.job["input"]["path"]
    return AtHand(job, None if "***@" in read_from else read_from, path.absolute())


def _is_rehearsal(recorded: dict[str, object], path: Path) -> bool:
    output = recorded["output"]
    folder = str(output["path"]) if isinstance(output, dict) else ""
    endpoints = recorded["endpoints"]
    is_sandbox = isinstance(endpoints, list) and all(one["url"] == "sandbox" for one in endpoints)
    return is_sandbox and path.name.endswith("-rehearsal") and folder.endswith("-rehearsal")


def output_at(path: Path, *, overrides: tuple[str, ...] = ()) -> Path:
    """The output folder at `path`; of a job file, the one that it writes. Raises JobError."""
    if path.suffix == ".toml" and os.path.isfile(path):
        return load_job(path, overrides=overrides).output.path
    if overrides:
        raise JobError(f"{path} is not a job file, so --output and --set have no meaning", hint="give the job file")
    return path
