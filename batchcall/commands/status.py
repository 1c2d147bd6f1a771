"""Where an output stands, read from the outside: of a finished run, of one that is under way, of one that died."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from batchcall.answers import ParsedAttempt, Prepared
from batchcall.base import (
    Attempt,
    DamagedRecordError,
    Failure,
    FailureKind,
    JobError,
    OutputError,
    Request,
    Row,
    Status,
)
from batchcall.disk import Disk, RealDisk, holder_of, part_name, part_numbers
from batchcall.job import Job, stored_job
from batchcall.output import (
    OWN_FOLDER,
    Recovered,
    RunFile,
    Totals,
    as_read_error,
    journals_in,
    no_output,
    read_journals,
    read_runfile,
    read_totals,
)
from batchcall.pipeline import (
    Unpublished,
    answer_parser_of,
    is_free,
    job_notes,
    make_request_maker,
    model_of,
    skimming,
    unpublished_answers,
)
from batchcall.report import failures_text, free_text, money_text, table, tokens_text


class OutputStatus(msgspec.Struct, frozen=True):
    """What stands in an output folder."""

    folder: str
    totals: dict[str, Any]  # of the rows in published parts
    journals: Unpublished  # what is in no part yet
    rows_expected: int | None  # rows of the input, once a run has counted them or seen its end
    is_complete: bool
    holder: str | None  # who runs it now
    runs: int
    last_run: dict[str, Any] | None
    faults: list[str]  # parts or a record that cannot be read
    is_free: bool  # only the embedded endpoint was asked
    notes: list[str]  # how the job file differs from what the rows were made with

    @property
    def waiting(self) -> int:
        """Rows that have ended in journals and are in no part yet."""
        return self.journals.ended

    @property
    def left(self) -> int | None:
        if self.rows_expected is None:
            return None
        return max(0, self.rows_expected - int(self.totals["rows"]) - self.waiting)

    @property
    def statuses(self) -> Counter[str]:
        """Rows by status, in parts and in journals."""
        return Counter(self.totals["statuses"]) + self.journals.statuses

    def as_json(self) -> dict[str, Any]:
        return {
            "output": self.folder,
            "is_complete": self.is_complete,
            "is_running": self.holder is not None,
            **self.totals,
            "rows_in_journals": self.waiting,
            "journals": {
                **self.journals.as_json(),
                "rows": self.waiting,
                "statuses": dict(sorted(self.journals.statuses.items())),
            },
            "rows_expected": self.rows_expected,
            "rows_left": self.left,
            "runs": self.runs,
            "last_run": self.last_run,
            "faults": self.faults,
            "notes": self.notes,
        }

    def as_text(self) -> str:
        spent = Totals.from_json(self.totals)
        spent.add(self.journals.spent)
        failed = self.statuses.total() - self.statuses[Status.OK]
        is_any = spent.rows or spent.attempts
        return table(
            [
                ("output", self.folder),
                ("rows", _rows(self)),
                ("failed", failures_text({"statuses": self.statuses, "failed": failed})),
                ("tokens", tokens_text(spent.as_json()) if is_any else "none yet"),
                ("cost", (free_text if self.is_free else money_text)(spent.cost) if is_any else "none yet"),
                ("left", _left(self)),
                ("last run", _last_run(self)),
                *(("fault", fault) for fault in self.faults),
                *(("note", note) for note in self.notes),
            ]
        )


def read_status(folder: Path | str, *, job: Job | None = None, disk: Disk | None = None) -> OutputStatus:
    """Read an output's state; changes nothing and waits for nobody. Raises OutputError when it is not an output.

    The job file is compared with what the rows were made with: `job`, else the file that wrote the output.
    """
    folder, disk = Path(folder), disk or RealDisk()
    with as_read_error(folder):
        own = folder / OWN_FOLDER
        # Before the parts: a live run may turn one into the other meanwhile, and nothing must be overlooked.
        journals = {number: read_journals(disk, paths) for number, paths in journals_in(disk, own).items()}
        # What is damaged is a fault in the report, not an error: a person asks for the state of what is left.
        totals, faults = Totals(), []
        for number in part_numbers(disk, folder):
            try:
                totals.add(read_totals(disk, folder / part_name(number)))
            except OutputError as error:
                faults.append(f"{error}. {error.hint}")
        try:
            runfile = require_runfile(disk, folder)
        except DamagedRecordError as error:
            faults.append(f"{error}. {error.hint}")
            runfile = None
        try:
            written_by = stored_job(runfile.job) if runfile is not None else None
        except JobError:  # of another version
            written_by = None
        last = runfile.runs[-1] if runfile and runfile.runs else None
        holder = holder_of(own / "lock")
        has_died = holder is None and (last is None or last.ended_at is None)
        return OutputStatus(
            folder=str(folder),
            totals=totals.as_json(),
            journals=_unpublished(disk, folder, written_by, journals, has_died=has_died),
            rows_expected=runfile.input.rows_expected if runfile else None,
            is_complete=runfile is not None and runfile.is_complete and not faults,
            holder=holder,
            runs=len(runfile.runs) if runfile else 0,
            faults=faults,
            is_free=runfile is not None and written_by is not None and is_free(written_by, runfile),
            notes=job_notes(folder, runfile, disk, job) if runfile else [],
            last_run={name: getattr(last, name) for name in _OF_LAST_RUN} if last is not None else None,
        )


_OF_LAST_RUN = (
    "started_at", "ended_at", "reason", "exit_code", "requests",
    "rows_paid_once", "possibly_paid_twice", "indeterminate", "given_up",
)  # fmt: skip


def require_runfile(disk: Disk, folder: Path) -> RunFile:
    """The run.json of an output. Raises OutputError when the folder is not one, DamagedRecordError when it is lost."""
    runfile = read_runfile(disk, folder / OWN_FOLDER) if disk.is_folder(folder) else None
    if runfile is None and part_numbers(disk, folder) and disk.is_folder(folder / OWN_FOLDER):
        raise DamagedRecordError(
            f"{folder / OWN_FOLDER / 'run.json'} is missing",
            hint="run the same job again: the parts are compared with it, and a new record is written",
        )
    if runfile is None:
        raise no_output(disk, folder)
    return runfile


def _unpublished(
    disk: Disk, folder: Path, job: Job | None, journals: Mapping[int, Recovered], *, has_died: bool
) -> Unpublished:
    """What the journals hold, read as the job reads it; without one, only whether there is an answer."""
    try:
        maker = make_request_maker(job) if job is not None else None
    except JobError:  # of another version, which took a template or a tool that this one refuses
        maker = None
    if job is None or maker is None:
        return unpublished_answers(disk, folder, _look, journals.items(), has_died=has_died)
    # The input is not read, as this command is to answer at once. One row without values stands in for all: where the
    # tools are the job's, what an answer comes to depends on nothing else of its row.
    prepared = None  # rows bring tools of their own, which only the input has
    if maker.builder.shape is not None:
        request = Request(maker.builder.shape, [])
        prepared = Prepared(Row(0, {}, ""), request, "", maker.toolbox_of(request))
    skim = skimming(answer_parser_of(job), model=model_of(job), prepared=prepared)
    return unpublished_answers(disk, folder, skim, journals.items(), reasks=job.validate.reask, has_died=has_died)


def _look(attempt: Attempt) -> tuple[ParsedAttempt, float | None]:
    is_success = attempt.response is not None and attempt.response.status < HTTPStatus.BAD_REQUEST
    return ParsedAttempt(attempt, failure=None if is_success else _UNKNOWN), None


_UNKNOWN = Failure(FailureKind.DISCONNECTED, "")


def _rows(status: OutputStatus) -> str:
    of_all = f" of {status.rows_expected:,}" if status.rows_expected is not None else ""
    done = f"{status.totals['rows'] + status.waiting:,}{of_all} done"
    return f"{done}; {status.waiting:,} of them are kept, and in no Parquet file yet" if status.waiting else done


def _left(status: OutputStatus) -> str:
    if status.is_complete:
        return "nothing: every row is done"
    if status.left is None:
        return "not known yet: no run has counted the rows of the input"
    return f"{status.left:,} of {status.rows_expected:,} rows; run the same command again to continue"


def _last_run(status: OutputStatus) -> str:
    if status.holder is not None:
        return f"under way: {status.holder}"
    last = status.last_run
    if last is None:
        return "none"
    if last["ended_at"] is None:
        return f"started {last['started_at']} and died; run the same command again to continue"
    return f"ended {last['ended_at']} with exit code {last['exit_code']}: {last['reason']}"
