"""The one file that grows: a log of whole lines, one per event of a row. `crc32hex SP json LF`.

A newline cannot occur inside a record, so damage costs one record and a torn tail is seen. Readable with cut and jq.
"""

from __future__ import annotations

import base64
import contextlib
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from batchcall.files.disk import Disk, write_fully
from batchcall.records import Attempt, Failure, FailureKind, HttpResponse

COMMIT_AFTER_S = 0.2  # the longest that a record waits
COMMIT_AFTER_RECORDS = 64
_REST_S = 0.05  # between two commits, however many records come: each costs the run a switch of threads
_ROOM_STEP = 1 << 20  # bytes reserved at a time
_LEAST_ROOM = 1 << 14  # bytes expected of an answer before any was seen


@dataclass(slots=True)
class Recovered:
    """What a journal says about the rows of its part."""

    attempts: dict[int, list[Attempt]] = field(default_factory=dict)  # by row, in order
    ended: set[int] = field(default_factory=set)  # rows that were given up
    sent: dict[int, int] = field(default_factory=dict)  # row → number of the last request that was sent
    unseen: set[tuple[int, int]] = field(default_factory=set)  # (row, number) sent, and nobody saw how it ended
    damaged: int = 0  # records that cannot be read; put aside in a file beside the journal


class Journal:
    """The journal of one part, open for appending. Written from one thread; `sync` may come from another."""

    def __init__(self, disk: Disk, path: Path) -> None:
        """Open or create. The caller has cut a torn tail off (`recover`)."""
        self.path = path
        self._disk = disk
        self._handle = disk.open_append(path)
        self._length = disk.size(self._handle)
        self._reserved_to = self._length
        self._largest = _LEAST_ROOM
        self.unsynced = 0

    def make_room(self, in_flight: int) -> None:
        """Reserve blocks for the answers of `in_flight` requests, before they are sent. Raises OSError when full."""
        needed_to = self._length + (in_flight + 1) * self._largest
        if needed_to > self._reserved_to:
            self._disk.reserve(self._handle, self._reserved_to, needed_to + _ROOM_STEP - self._reserved_to)
            self._reserved_to = needed_to + _ROOM_STEP

    def append(self, line: bytes) -> None:
        """Append one record with a plain write: it survives the death of this process at once.

        A write that fails midway is cut back to the last whole record. Raises OSError.
        """
        try:
            write_fully(self._disk, self._handle, line)
        except OSError:
            with contextlib.suppress(OSError):
                self._disk.truncate(self._handle, self._length)
            raise
        self._length += len(line)
        self._largest = max(self._largest, len(line))
        self.unsynced += 1

    def sync(self) -> None:
        """Make all that was appended survive a power cut. Raises OSError; then this file is never synced again."""
        self.unsynced = 0
        self._disk.sync(self._handle)

    def close(self) -> None:
        self._disk.close(self._handle)


class Committer:
    """Syncs journals in a thread: at most 0.2 s or 64 records after the first unsynced one."""

    def __init__(self) -> None:
        self._journals: set[Journal] = set()
        self._wake = threading.Event()
        self._guard = threading.Lock()
        self._is_closed = False
        self.failure: OSError | None = None  # the first failed sync; final
        self._thread = threading.Thread(target=self._commit_forever, name="journal", daemon=True)
        self._thread.start()

    def add(self, journal: Journal) -> None:
        with self._guard:
            self._journals.add(journal)

    def drop(self, journal: Journal) -> None:
        """Forget a journal; no sync of it is under way when this returns."""
        with self._guard:
            self._journals.discard(journal)

    def appended(self, journal: Journal) -> None:
        """Tell of a record. Raises the OSError of an earlier sync that failed: nothing later can be trusted."""
        if self.failure is not None:
            raise self.failure
        if journal.unsynced == COMMIT_AFTER_RECORDS:
            self._wake.set()

    def close(self) -> None:
        """Sync what is left and end the thread. Raises the OSError of a sync that failed."""
        self._is_closed = True
        self._wake.set()
        self._thread.join()
        self._commit()
        if self.failure is not None:
            raise self.failure

    def _commit_forever(self) -> None:
        while not self._is_closed:
            self._wake.wait(COMMIT_AFTER_S - _REST_S)
            self._wake.clear()
            self._commit()
            time.sleep(_REST_S)

    def _commit(self) -> None:
        with self._guard:
            if self.failure is not None:
                return
            try:
                for journal in self._journals:
                    if journal.unsynced:
                        journal.sync()
            except OSError as error:
                # After one failed fsync the kernel may have dropped the pages and say success the next time.
                self.failure = error


def sent_line(row: int, number: int, request_hash: str, sent_at_s: float) -> bytes:
    """A request is about to be sent. Without an answer behind it, it is indeterminate."""
    return _line({"row": row, "n": number, "sent": sent_at_s, "hash": request_hash})


def attempt_line(attempt: Attempt) -> bytes:
    return _line(attempt_record(attempt))


def lost_line(row: int, number: int) -> bytes:
    """A run died with this request in flight; it has been counted as possibly paid."""
    return _line({"row": row, "n": number, "lost": True})


def ended_line(row: int) -> bytes:
    """The row was given up: no more attempts will be made unless somebody asks for them."""
    return _line({"row": row, "ended": True})


def _line(record: Mapping[str, Any]) -> bytes:
    content = orjson.dumps(record)
    return b"%08x %b\n" % (zlib.crc32(content), content)


def attempt_record(attempt: Attempt) -> dict[str, Any]:
    record: dict[str, Any] = {
        "row": attempt.row,
        "n": attempt.number,
        "at": attempt.sent_at_s,
        "latency": attempt.latency_s,
        "wait": attempt.wait_s,
        "endpoint": attempt.endpoint,
        "hash": attempt.request_hash,
    }
    if attempt.response is not None:
        record |= _from_response(attempt.response)
    if attempt.failure is not None:
        record["failure"] = attempt.failure.kind.label
        record["message"] = attempt.failure.message
    return record


def _from_response(response: HttpResponse) -> dict[str, Any]:
    record: dict[str, Any] = {"status": response.status, "headers": dict(response.headers)}
    try:
        record["body"] = response.body.decode()
    except UnicodeDecodeError:
        record["body64"] = base64.b64encode(response.body).decode()
    if response.is_cut:
        record["cut"] = True
    return record


def as_attempt(record: Mapping[str, Any]) -> Attempt:
    failure = None
    if "failure" in record:
        failure = Failure(kind=_KINDS[record["failure"]], message=record["message"])
    return Attempt(
        row=record["row"],
        number=record["n"],
        request_hash=record["hash"],
        response=_as_response(record) if "status" in record else None,
        failure=failure,
        sent_at_s=record["at"],
        latency_s=record["latency"],
        wait_s=record["wait"],
        endpoint=record["endpoint"],
    )


def _as_response(record: Mapping[str, Any]) -> HttpResponse:
    body = base64.b64decode(record["body64"]) if "body64" in record else record["body"].encode()
    return HttpResponse(record["status"], record["headers"], body, is_cut=record.get("cut", False))


_KINDS = {kind.label: kind for kind in FailureKind}


def read_journal(disk: Disk, path: Path) -> Recovered:
    """Read a journal as it stands, whole lines only. Changes nothing, so a live run's journal can be read."""
    content = disk.read(path)
    recovered = Recovered()
    for line in content[: content.rfind(b"\n") + 1].split(b"\n")[:-1]:
        if (record := _checked(line)) is None:
            recovered.damaged += 1
        else:
            _learn(recovered, record)
    return recovered


def recover(disk: Disk, path: Path) -> Recovered:
    """Read a journal after a crash: cut its torn tail, put damaged lines aside in `<name>.damaged`. Raises OSError."""
    _cut_torn_tail(disk, path)
    recovered = read_journal(disk, path)
    if recovered.damaged:
        _put_damaged_aside(disk, path)
    return recovered


def _cut_torn_tail(disk: Disk, path: Path) -> None:
    content = disk.read(path)
    whole = content.rfind(b"\n") + 1
    if whole == len(content):
        return
    handle = disk.open_append(path)
    try:
        disk.truncate(handle, whole)
        disk.sync(handle)
    finally:
        disk.close(handle)


def _put_damaged_aside(disk: Disk, path: Path) -> None:
    damaged = [line for line in disk.read(path).split(b"\n")[:-1] if _checked(line) is None]
    handle = disk.create(path.with_name(path.name + ".damaged"))
    try:
        write_fully(disk, handle, b"\n".join(damaged) + b"\n")
    finally:
        disk.close(handle)


def _checked(line: bytes) -> dict[str, Any] | None:
    """The record of a line, or None when its checksum or its form is wrong."""
    try:
        if int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        record = orjson.loads(line[9:])
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _learn(recovered: Recovered, record: dict[str, Any]) -> None:
    row = record["row"]
    if "ended" in record:
        recovered.ended.add(row)
        return
    number = record["n"]
    if "sent" in record:
        recovered.sent[row] = max(number, recovered.sent.get(row, 0))
        recovered.unseen.add((row, number))
        return
    recovered.unseen.discard((row, number))
    if "lost" not in record:
        recovered.attempts.setdefault(row, []).append(as_attempt(record))
