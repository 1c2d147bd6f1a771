"""`run.json`: what was run, what it came to, one entry per run. Written whole each time."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import msgspec

from batchcall.base import DamagedRecordError, OutputError
from batchcall.disk import Disk, write_whole

NAME = "run.json"


class RunEntry(msgspec.Struct, kw_only=True):
    """One run of the command."""

    started_at: str  # ISO 8601, UTC
    started_at_s: float
    ended_at: str | None = None  # None: it is running, or it died
    reason: str | None = None  # why it ended
    exit_code: int | None = None
    resume_at: str | None = None  # ISO 8601, UTC: when a used-up quota is renewed and the job can go on
    retries_failed_before_s: float | None = None  # --retry-failed: failures older than this are tried again
    rows: int = 0  # that ended in this run
    requests: int = 0  # sent by this run
    answered: int = 0  # requests that brought a completion, valid or not: these are paid
    rows_paid_once: int = 0  # rows that ended, and no request of theirs may have been billed in vain
    possibly_paid_twice: dict[str, int] = {}  # requests sent again although the one before may be billed, by reason
    indeterminate: int = 0  # requests in flight when the run before died, or given up by it
    given_up: int = 0  # requests in flight at the end of --grace; the next run counts them as indeterminate
    left_out: dict[str, int] = {}  # rows by column of the input whose value has no place in the output
    left_out_of_arguments: dict[str, int] = {}  # rows by member of the arguments that has no column


class InputEntry(msgspec.Struct, kw_only=True):
    path: str
    fingerprint: str
    rows: int | None = None  # None until its end was seen
    rows_counted: int | None = None  # in advance, for people
    unique_id: str | None = None  # the column whose values were found unique
    marks: list[list[int]] = []  # [row, file, offset, line]: where to seek to, so that what is done is skipped unread

    @property
    def rows_expected(self) -> int | None:
        """Its rows, as far as anything is known of them."""
        return self.rows if self.rows is not None else self.rows_counted


class RunFile(msgspec.Struct, kw_only=True):
    """What `run.json` holds."""

    version: int = 1
    batchcall: str
    job: dict[str, Any]  # the job file as understood, without secrets
    identity: dict[str, Any]  # what shapes the requests
    input: InputEntry
    layout: str  # fingerprint of columns and part size
    totals: dict[str, Any] = {}
    is_complete: bool = False
    revalidating: bool = False  # parts are being rewritten; run `revalidate` again when it was interrupted
    bill_aside: dict[str, Any] = {}  # a `Bill`, if not empty: of rows in parts that were set aside since
    kept_jobs: list[dict[str, Any]] = []  # older jobs whose answers stay as they are (--on-change keep, revalidate)
    validations: list[dict[str, Any]] = []  # what the rows in parts were read with; empty: by an older version
    runs: list[RunEntry] = []
    checksum: str = ""  # of all of the above; empty: written by a version that had none


def read_runfile(disk: Disk, own: Path) -> RunFile | None:
    """The run.json of an output, None where there is none. Raises DamagedRecordError when it cannot be read."""
    path = own / NAME
    try:
        content = disk.read(path)
        runfile = msgspec.json.decode(content, type=RunFile)
        # A bit that flips in a prompt leaves good JSON. The checksum is of all keys in the file, known here or not.
        if runfile.checksum not in ("", _checksum({**msgspec.json.decode(content), "checksum": ""})):
            raise msgspec.ValidationError("its checksum does not match")
        return runfile
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedRecordError(
            f"{path} cannot be read: {error}",
            hint="run the same job again: the parts are compared with it, and a new record is written",
        ) from error


def write_runfile(disk: Disk, own: Path, runfile: RunFile, *, is_last: bool = True) -> None:
    """Replace run.json, whole. `is_last` as for `write_whole`. Raises OutputError."""
    taken = msgspec.json.decode(msgspec.json.encode(runfile))  # a copy: other threads of a live run change it
    signed = {**taken, "checksum": _checksum({**taken, "checksum": ""})}
    try:
        content = msgspec.json.format(msgspec.json.encode(signed), indent=1)
        write_whole(disk, own / NAME, content, is_last=is_last)
    except OSError as error:
        raise OutputError(f"{own / NAME} cannot be written: {error.strerror or error}") from error


def _checksum(unsigned: dict[str, Any]) -> str:
    return f"{zlib.crc32(msgspec.json.encode(unsigned)):08x}"
