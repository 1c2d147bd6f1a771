"""Every command takes the job file, its folder or the output folder. This finds one from the other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from batchcall.base import BatchcallError, JobError
from batchcall.disk import REHEARSAL, RealDisk
from batchcall.job import Job, job_files_in, load_job, rehearsed
from batchcall.output import OWN_FOLDER, RunFile, read_runfile


class AtHand(NamedTuple):
    """A job file, and the paths that the record of an output adds to it."""

    job: Path
    input: str | None = None  # None: as the job file says
    output: Path | None = None


def job_at(path: Path) -> AtHand:
    """The job file at `path`, or its folder; of an output folder, the job file that wrote it. Raises JobError."""
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
    return AtHand(job, _input_of(runfile), path.absolute())


def _input_of(runfile: RunFile) -> str | None:
    """Where the rows came from; None where that holds a secret, which only the job file has."""
    path: str = runfile.job["input"]["path"]
    return None if "***@" in path else path


def job_of(runfile: RunFile, folder: Path) -> Job | None:
    """The job file that an output was written from, as it is now; None where it is gone. Raises JobError."""
    file = Path(runfile.job["file"])
    if not file.is_file():
        return None
    job = load_job(file, overrides=tuple(places(_input_of(runfile), str(folder.absolute()))))
    return rehearsed(job) if _is_rehearsal(runfile.job, folder) else job


def places(input_path: str | None, output: str | None) -> list[str]:
    """Paths from where the person stands, as overrides of a job file."""
    named = {"input.path": input_path, "output.path": output}
    given = {key: path if "://" in path else str(Path.cwd() / path) for key, path in named.items() if path is not None}
    # TOML writes a string as JSON does.
    return [f"{key}={json.dumps(path, ensure_ascii=False)}" for key, path in given.items()]


def _is_rehearsal(recorded: dict[str, Any], path: Path) -> bool:
    is_sandbox = all(one["url"] == "sandbox" for one in recorded["endpoints"])
    return is_sandbox and path.name.endswith(REHEARSAL) and recorded["output"]["path"].endswith(REHEARSAL)


def output_at(path: Path, *, overrides: tuple[str, ...] = ()) -> tuple[Path, Job | None]:
    """The output folder at `path`; of a job file or its folder, what it writes, and the job. Raises JobError."""
    is_job_file = path.suffix == ".toml" and os.path.isfile(path)
    if is_job_file or (os.path.isdir(path) and not os.path.isdir(path / OWN_FOLDER) and job_files_in(path)):
        job = load_job(path, overrides=overrides)
        return job.output.path, job
    if overrides:
        raise JobError(f"{path} is not a job file, so --output and --set have no meaning", hint="give the job file")
    return path, None
