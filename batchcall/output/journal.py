"""The one file that grows: a part's log of whole lines, synced in groups, recovered after a crash.

A file whose sync or write fails is never trusted again: what it may not hold goes to a second file beside it,
`part-000002.1.journal`, and so do the answers that are still in flight. All files of a part are read as one.
"""

from __future__ import annotations

import contextlib
import errno
import io
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from batchcall.base import Attempt, Bill, Failure, FailureKind
from batchcall.disk import Disk, DiskReserve, Sink, whole_file, write_fully, write_whole
from batchcall.output.journal_records import as_attempt, checked
from batchcall.output.stored import Stored, microseconds

# By time and not by a number of records: a sync for every record makes 460 of them durable a second (2.4 KB each), and
# each costs the run a switch of threads. A power cut may take the answers of the last 0.2 s.
COMMIT_AFTER_S = 0.2  # the longest that a record waits
_COMMIT_AFTER_BYTES = 8 * 1024 * 1024  # what is not synced is held in memory, too
_REST_S = 0.05  # between two commits, however many bytes come
_ROOM_STEP = 1 << 18  # bytes reserved at a time
_LEAST_ROOM = 1 << 14  # bytes expected of an answer before any was seen
_READ_BYTES = 1 << 20
_NAME = re.compile(r"part-(\d{6,})(?:\.(\d+))?\.journal")


def journal_name(number: int, rescue: int = 0) -> str:
    """The file name of a part's journal, or of the file that took over when a disk failed (`rescue` from 1)."""
    return f"part-{number:06d}.{rescue}.journal" if rescue else f"part-{number:06d}.journal"


def journals_in(disk: Disk, folder: Path) -> dict[int, list[Path]]:
    """The journals in a folder by part number; those of one part in the order they were written."""
    found: dict[int, list[Path]] = {}
    for number, _, name in sorted(filter(None, map(_numbered, disk.names(folder)))):
        found.setdefault(number, []).append(folder / name)
    return found


def _numbered(name: str) -> tuple[int, int, str] | None:
    """The part and the `rescue` that a journal's file name speaks of, with the name; None for any other name."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), int(found[2] or 0), name) if found else None


class Recovered(msgspec.Struct):
    """What the journals of a part say about its rows. `_learn` has the meaning of each record."""

    attempts: dict[int, list[Stored]] = {}  # by row, in order
    ended: set[int] = set()  # rows that were given up
    sent: dict[int, int] = {}  # row → number of the last request that was sent
    unseen: set[tuple[int, int]] = set()  # (row, number) sent, and no record of how it ended
    lost: set[tuple[int, int]] = set()  # (row, number) that were in flight when a run died
    resent: dict[tuple[int, int], str] = {}  # by how the request before had failed
    base: Bill = msgspec.field(default_factory=Bill)  # of the time before this journal
    reading: set[tuple[int, int]] = set()  # (row, number) whose reading has begun and not ended
    last: tuple[int, int] | None = None  # (row, number) of the answer that was to be read when the journal ended
    damaged: int = 0  # records that cannot be read; put aside in a file beside the journal

    def unsure(self, *, has_died: bool) -> set[tuple[int, int]]:
        """(row, number) of the answers over which a run may have died."""
        return self.reading | ({self.last} if has_died and self.last is not None else set())

    def bill(self) -> Bill:
        """Requests that may have been paid and brought nothing. Each counts once, however many runs died with it."""
        bill = Bill(len(self.lost))
        bill.add(self.base)
        for reason in self.resent.values():
            bill.count(reason)
        return bill


class Journal:
    """The journal of one part, open for appending. Written from one thread; `sync` may come from another.

    What happens when the disk fails, and which of these makes `trouble`, so that nothing more is sent (all do):

    a write fails, disk full       cut back to whole records; the reserve is given away; the same file takes the record
    a write fails for another      cut back; a new file takes all that was not synced, then the record
    reason, or cannot be cut back
    a sync fails                   never tried again: the kernel may have dropped the pages, and would say success next
                                   time; a new file takes all that was not synced
    no new file can be made        OSError; the record is in memory alone
    """

    def __init__(self, disk: Disk, path: Path, disk_reserve: DiskReserve) -> None:
        """Open or create; what stands there is sound (`recover`). Raises OSError."""
        self.path = path
        self.trouble: OSError | None = None  # what was appended is kept, but the disk has failed: send no more
        self._disk = disk
        self._disk_reserve = disk_reserve
        self._handle = disk.open_append(path)
        self._left: list[int] = []  # of files that have failed
        self._length = disk.size(self._handle)
        self._reserved_to = self._length
        self._largest = _LEAST_ROOM
        self._unsynced: list[bytes] = []  # at most what comes in 0.2 s
        self.unsynced_bytes = 0  # of these
        self._is_named = False  # whether the file's name survives a power cut
        self._is_torn = False  # half a record is at its end, and cannot be cut off
        self._guard = threading.Lock()  # held while the file is written or changed for another, not while it is synced

    @property
    def unsynced(self) -> int:
        """Records that a power cut could take."""
        return len(self._unsynced)

    @property
    def is_durable(self) -> bool:
        return self._is_named and not self._unsynced

    def make_room(self, in_flight: int) -> None:
        """Reserve blocks for the answers of `in_flight` requests, before they are sent. Raises OSError when full."""
        if self.trouble is not None:
            raise self.trouble
        # Each of them may be as long as the longest record so far, and so may the one that is to be sent. Blocks are
        # taken in large steps, to save calls. Where a file system cannot do that, the disk reserve is made as large
        # instead.
        needed_to = self._length + (in_flight + 1) * self._largest
        if needed_to > self._reserved_to:
            to = needed_to + _ROOM_STEP
            if not self._disk.reserve(self._handle, self._reserved_to, to - self._reserved_to):
                self._disk_reserve.hold((in_flight + 1) * self._largest)
            self._reserved_to = to

    def append(self, line: bytes) -> None:
        """Append one record with a plain write: it survives the death of this process at once.

        Where the disk fails, `trouble` says so afterwards. Raises OSError when nothing could take the record.
        """
        size = len(line)
        with self._guard:
            try:
                self._write(line)
            except OSError as error:
                # The record was paid for, so it is written somewhere before this returns; `trouble` stops what follows.
                self.trouble = self.trouble or error
                if error.errno == errno.ENOSPC:
                    self._disk_reserve.release()
                if error.errno != errno.ENOSPC or self._is_torn:
                    self._move_on()
                self._write(line)
            self._unsynced.append(line)
            self.unsynced_bytes += size
            self._length += size
        if size > self._largest:
            self._largest = size

    def sync(self) -> None:
        """Make all that was appended survive a power cut.

        Raises the OSError of a sync that fails; what was not synced yet is in another file then.
        """
        # The guard is not held during the sync, so that the loop can go on appending. What is appended meanwhile may be
        # in that sync or not, so only what came before counts as synced.
        with self._guard:
            count, handle, is_named = len(self._unsynced), self._handle, self._is_named
        try:
            self._sync_now(handle, is_named)
        except OSError as error:
            with self._guard:
                self.trouble = self.trouble or error
                if handle == self._handle:  # else an append has moved on already, with all that was not synced
                    self._move_on()
                self._close_left()
            raise
        with self._guard:
            self._close_left()
            self._is_named = self._is_named or handle == self._handle
            self.unsynced_bytes -= sum(map(len, self._unsynced[:count]))
            del self._unsynced[:count]

    def settle(self) -> None:
        """Make all that was appended survive a power cut, in this file or in the one that takes over.

        Raises OSError when neither can.
        """
        try:
            self.sync()
        except OSError:
            self.sync()

    def refuse_lost(self) -> None:
        """Raise OSError where the file is not at its path any more: what is in it would be lost."""
        if not self._disk.stands_at(self._handle, self.path):
            raise FileNotFoundError(errno.ENOENT, f"{self.path} was deleted or renamed while a run was writing to it")

    def close(self) -> None:
        self._close_left()
        self._disk.close(self._handle)

    def _close_left(self) -> None:
        """Close the files that have failed, while no sync of them is under way."""
        while self._left:
            with contextlib.suppress(OSError):  # of a disk that has failed already; what it did not take is elsewhere
                self._disk.close(self._left.pop())

    def _write(self, line: bytes) -> None:
        # A write may have taken half of the record. It is cut off before anything else is written: behind half a line
        # the next one would be damaged too.
        try:
            write_fully(self._disk, self._handle, line)
        except OSError:
            self._is_torn = True
            self._disk.truncate(self._handle, self._length)
            self._is_torn = False
            raise

    def _move_on(self) -> None:
        """Go on in a new file, which begins with what the old one may not hold. Raises OSError when that fails too."""
        # A number that no file has yet: files of earlier failures may stand, and are read before this one.
        own, others = _numbered(self.path.name), map(_numbered, self._disk.names(self.path.parent))
        assert own is not None
        last = max((other for other in others if other and other[0] == own[0]), default=own)
        path = self.path.with_name(journal_name(own[0], rescue=last[1] + 1))
        handle = self._disk.open_append(path)
        try:
            write_fully(self._disk, handle, b"".join(self._unsynced))
        except OSError:
            self._disk.close(handle)
            raise
        # The old file stays: all that it did sync is in it alone. Both are read as one. It stays open until the
        # next sync is over: one may be under way, and its number must not become that of another file.
        self._left.append(self._handle)
        self.path, self._handle = path, handle  # the next commit syncs it
        self._length = self._reserved_to = self._disk.size(handle)
        self._is_named = self._is_torn = False

    def _sync_now(self, handle: int, is_named: bool) -> None:
        self._disk.sync(handle)
        if not is_named:
            self._disk.sync_folder(self.path.parent)


class Committer:
    """Syncs journals in a thread, at most 0.2 s after a record came. Looks as often whether they and their folder are
    still where they were."""

    on_failure: Callable[[OSError], None] = staticmethod(lambda error: None)  # called once, from the thread

    def __init__(self, *, has_thread: bool = True, guard: Callable[[], None] = lambda: None) -> None:
        """Without a thread nothing is synced but by `commit`. `guard` raises OSError where the folder is lost."""
        self._guard_folder = guard
        self._journals: dict[Journal, None] = {}  # in order
        self._wake = threading.Event()
        self._guard = threading.Lock()
        self._is_closed = False
        self.failure: OSError | None = None  # the first failed sync
        self._thread = threading.Thread(target=self._commit_forever, name="journal", daemon=True)
        if has_thread:
            self._thread.start()

    def add(self, journal: Journal) -> None:
        with self._guard:
            self._journals[journal] = None

    def drop(self, journal: Journal) -> None:
        """Forget a journal; no sync of it is under way when this returns."""
        with self._guard:
            self._journals.pop(journal, None)

    def appended(self, journal: Journal) -> None:
        """Note that a record was appended. Raises the OSError of a failed disk: the record is kept, send no more."""
        if (failure := self.failure or journal.trouble) is not None:
            raise failure
        if journal.unsynced_bytes > _COMMIT_AFTER_BYTES:
            self._wake.set()

    def commit(self) -> None:
        """Sync every journal that has something to sync. `failure` has what was found."""
        # One that fails does not keep the others from being synced.
        with self._guard:
            for journal in self._journals:
                if not journal.is_durable:
                    try:
                        journal.sync()
                    except OSError as error:
                        self._fail(error)
                    except Exception as error:  # never end this thread in silence: nothing would be synced any more
                        self._fail(OSError(errno.EIO, f"the journal cannot be synced: {error!r}"))

    def look(self) -> None:
        """See whether the folder and the journals are where they were. `failure` has what was found."""
        # An open file takes records even when its folder was deleted. They would be gone with the process.
        if self.failure is not None:
            return
        try:
            self._guard_folder()
            with self._guard:
                for journal in self._journals:
                    journal.refuse_lost()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if self.failure is None:
            self.failure = error
            self.on_failure(error)

    def close(self) -> None:
        """Sync what is left and end the thread. Raises OSError where something could not be made durable.

        A sync that failed before, and whose records are in another file, was reported by `appended`.
        """
        self._is_closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        for journal in self._journals:
            if not journal.is_durable:
                journal.settle()

    def _commit_forever(self) -> None:
        while not self._is_closed:
            self._wake.wait(COMMIT_AFTER_S - _REST_S)
            self._wake.clear()
            self.look()
            self.commit()
            time.sleep(_REST_S)


class _Source:
    """A journal whose records are read again one by one. It stays open, as a live run may replace or remove it."""

    def __init__(self) -> None:
        self.file: Any = None  # set before the first record is read again

    # The checksum is tested again: these bytes were read once before, perhaps hours ago.
    def attempt(self, offset: int, length: int) -> Attempt:
        self.file.seek(offset)
        record = checked(self.file.read(length))
        if record is None:
            raise OSError(errno.EIO, "a record of the journal has changed since the journal was opened")
        return as_attempt(record)


def read_journals(disk: Disk, paths: Iterable[Path]) -> Recovered:
    """Read the journals of a part as they are, whole lines only. Changes nothing, so those of a live run can be read.

    Raises OSError.
    """
    recovered = Recovered()
    for path in paths:
        source = _Source()
        with contextlib.suppress(FileNotFoundError):  # a live run has sealed its part meanwhile
            source.file = disk.open_read(path)
            offset = 0
            for line in _whole_lines(source.file):
                if (record := checked(line)) is None:
                    recovered.damaged += 1
                else:
                    _learn(recovered, record, partial(source.attempt, offset, len(line)))
                offset += len(line) + 1
    return recovered


def recover(disk: Disk, paths: Sequence[Path], target: Path) -> Recovered:
    """Read the journals of a part after a crash, and put what is sound into a new file at `target`. Raises OSError."""
    # What a crash may leave, and what becomes of it:
    #
    # a torn tail                   left out: a record that was cut short was never acknowledged
    # a damaged line in the middle  it goes to `<name>.damaged`, for a person to look at; its request is sent again
    # more than one file            read in the order written, as one; the same record twice counts once
    # a file that failed to sync    its bytes are copied to a new file, which is synced. The old one is never synced
    #                               again: that would say success, and the bytes might be in memory alone
    # a crash in this function      old files are removed last: the next start finds them, and does the same again
    recovered, source = Recovered(), _Source()
    if not paths:
        return recovered
    damaged = []
    with whole_file(disk, target) as handle, io.BufferedWriter(Sink(disk, handle), _READ_BYTES) as sound:
        for path in paths:
            with disk.open_read(path) as file:
                for line in _whole_lines(file):
                    if (record := checked(line)) is None:
                        damaged.append(line)
                    else:
                        _learn(recovered, record, partial(source.attempt, sound.tell(), len(line)))
                        sound.write(line + b"\n")
        if damaged:
            aside = target.with_name(target.name + ".damaged")
            before = disk.read(aside) if disk.exists(aside) else b""
            write_whole(disk, aside, before + b"".join(line + b"\n" for line in damaged))
    source.file = disk.open_read(target)
    for path in paths:
        if path != target:
            disk.remove(path)
    recovered.damaged = len(damaged)
    return recovered


def _whole_lines(file: Any) -> Iterator[bytes]:
    torn = b""
    while chunk := file.read(_READ_BYTES):
        *lines, torn = (torn + chunk).split(b"\n")
        yield from lines


def _learn(recovered: Recovered, record: dict[str, Any], read: Callable[[], Attempt]) -> None:
    """Add what one record says. `read` gives the attempt of a record that is one."""
    # An answer is read as soon as its record is written, in the loop, so a run that died over one leaves that record
    # the last of its journal, or a `reading` record. An answer read in a process of its own ("beside") is not the
    # last for long: it is under suspicion from its `reading` record until a `read` or `unread` follows.
    recovered.last = None
    match record:
        case {"row": row, "n": number, "at": sent_at_s}:  # an attempt: an answer, or a failure of the transport
            recovered.unseen.discard((row, number))
            recovered.last = row, number
            if not _has_attempt(recovered, row, number):  # a second file may have it again
                finished_us = microseconds(sent_at_s + record["latency"])
                http_status, endpoint = record.get("status"), record["endpoint"]
                stored = Stored(row, number, record["hash"], finished_us, http_status, endpoint, read)
                recovered.attempts.setdefault(row, []).append(stored)
        case {"row": row, "n": number, "sent": _}:  # without an attempt behind it, it may have been paid in vain
            recovered.sent[row] = max(number, recovered.sent.get(row, 0))
            if "after" in record:
                recovered.resent[row, number] = record["after"]
            if not _has_attempt(recovered, row, number):
                recovered.unseen.add((row, number))
        case {"row": row, "n": number, "lost": _}:  # a later run found it so, and counted it
            recovered.unseen.discard((row, number))
            recovered.lost.add((row, number))
        case {"row": row, "n": number, "reading": "beside"}:
            recovered.reading.add((row, number))
        case {"row": row, "n": number, "reading": _}:
            recovered.last = row, number
        case {"row": row, "n": number, "read": _}:
            recovered.reading.discard((row, number))
        case {"row": row, "n": number, "unread": why}:  # a process died of it: it is a failure from now on
            recovered.reading.discard((row, number))
            failure = Failure(FailureKind.UNDIGESTED, why)
            attempts = recovered.attempts.get(row, [])
            attempts[:] = [_failed(one, failure) if one.number == number else one for one in attempts]
        case {"row": row, "ended": _}:
            recovered.ended.add(row)
        case {"base": bill}:
            recovered.base = Bill.from_json(bill)


def _failed(stored: Stored, failure: Failure) -> Stored:
    return replace(stored, read=lambda: replace(stored.read(), failure=failure))


def add_attempts(recovered: Recovered, attempts: Iterable[Stored]) -> None:
    """Add what is known from elsewhere: the stored answers of a part that is gone."""
    for attempt in attempts:
        if not _has_attempt(recovered, attempt.row, attempt.number):
            recovered.attempts.setdefault(attempt.row, []).append(attempt)
            recovered.unseen.discard((attempt.row, attempt.number))


def _has_attempt(recovered: Recovered, row: int, number: int) -> bool:
    return any(attempt.number == number for attempt in recovered.attempts.get(row, ()))
