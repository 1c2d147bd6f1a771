"""The output folder: which parts are done, the journals of those that are not, and how one becomes the other.

A part's content is always previous part ⊕ journal, the journal winning. That covers resume, retries and grown input.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from batchcall.base import Attempt, Bill, ExitCode, Outcome, OutputError, Status
from batchcall.disk import (
    ANSWERS_FOLDER,
    DAMAGED_FOLDER,
    OWN_FOLDER,
    Disk,
    DiskReserve,
    FolderLostError,
    answers_in,
    answers_name,
    aside_name,
    ensure_folder,
    is_temporary,
    part_name,
    part_numbers,
    rename_old_files,
    temporary_of,
)
from batchcall.input import KeptRow
from batchcall.output.columns import Layout, add_left_out
from batchcall.output.generations import generations, numbered_generations, set_aside
from batchcall.output.journal import (
    Committer,
    Journal,
    Recovered,
    add_attempts,
    journal_name,
    journals_in,
    read_journals,
    recover,
)
from batchcall.output.journal_records import (
    attempt_line,
    base_line,
    ended_line,
    lost_line,
    read_line,
    reading_line,
    sent_line,
    unread_line,
)
from batchcall.output.parts import (
    AnswersFile,
    Totals,
    open_part,
    read_raw,
    read_rows,
    read_totals,
    stored_answers,
    write_part,
)
from batchcall.output.stored import Stored
from batchcall.output.waiting import Waiting

SUCCESS = "_SUCCESS"
LOCK = f"{OWN_FOLDER}/lock"
DAMAGED = f"{OWN_FOLDER}/{DAMAGED_FOLDER}"


class Earlier(msgspec.Struct, frozen=True):
    """What an earlier run left of one row that is not done yet."""

    attempts: tuple[Stored, ...] = ()
    number: int = 0  # requests sent so far
    unsure: frozenset[int] = frozenset()  # numbers of the attempts over which a run may have died
    is_ended: bool = False  # given up: the attempts are all there will be
    outcome: Outcome | None = None  # of a row that failed and is tried again


NOTHING_KNOWN = Earlier()


class OpenPart(msgspec.Struct):
    """A part some of whose rows are not in yet."""

    number: int
    start: int
    rows: int  # how many it will have; fewer than its range when the input ends in it
    journal: Journal
    waiting: Waiting
    recovered: Recovered
    answers: AnswersFile | None  # None: they are not kept
    totals: Totals = msgspec.field(default_factory=Totals)
    failure: OSError | None = None  # rows or answers could not be written; the journal has them
    done_before: set[int] = set()  # rows that stood in the published part and stay as they are
    retried: dict[int, tuple[KeptRow | None, Outcome]] = {}  # failed rows until they end

    # A disk that refuses rows or raw answers here costs nothing that was paid for, as the journal has it. So this is
    # not raised in the middle of a row: `seal` raises it, and the next run makes the part from its journal.
    def keep_answers(self, attempts: Iterable[Attempt]) -> None:
        if self.answers is not None and self.failure is None:
            try:
                self.answers.add(attempts)
            except OSError as error:
                self.failure = error

    def add(self, kept: KeptRow | None, outcome: Outcome, layout: Layout) -> None:
        self.totals.count(outcome)
        self.retried.pop(outcome.row, None)
        try:
            if self.failure is None:
                self.waiting.add(kept, outcome, layout)
        except OSError as error:
            self.failure = error

    @property
    def is_complete(self) -> bool:
        return self.totals.rows >= self.rows


def look_at_parts(disk: Disk, folder: Path) -> tuple[dict[int, Totals], dict[int, OutputError]]:
    """The totals of each part that can be read, and what is wrong with those that are to be rebuilt from their raw
    answers. Raises OutputError where these are gone or damaged, too. Changes nothing."""
    totals: dict[int, Totals] = {}
    damaged: dict[int, OutputError] = {}
    for number in part_numbers(disk, folder):
        try:
            totals[number] = read_totals(disk, folder / part_name(number))
        except OutputError as error:
            answers = _answers_path(folder / OWN_FOLDER, number)
            if not disk.exists(answers):
                raise
            for _ in read_raw(disk, answers):  # all of it must be readable
                pass
            damaged[number] = error
    return totals, damaged


def _answers_path(own: Path, number: int) -> Path:
    return own / ANSWERS_FOLDER / answers_name(number)


class Output:
    """An output folder held by this run. The caller holds the lock.

    `open_part` and `seal` may run in a thread; the others belong to the event loop.
    """

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        *,
        disk: Disk,
        part_rows: int,
        keep_answers: bool,
        committer: Committer | None = None,
        reserve: str = "reserve",
    ) -> None:
        """`reserve` is the name of its reserve of disk space. Raises OutputError when the disk has no room to begin."""
        self.folder = folder
        self.own = folder / OWN_FOLDER
        self.layout = layout
        self.part_rows = part_rows
        self.rows: int | None = None  # of the input, once its end is known
        self.has_died = False  # whether the run before this one died
        self.died_over: set[int] = set()  # parts in whose journals another process of this run was when it died
        self.indeterminate = 0  # requests in flight when an earlier run died; sent again
        self.damaged = 0  # journal records that could not be read
        self.left_out = Counter[str]()  # rows of this run, by column of the input that had no place for their value
        self.members_left_out = Counter[str]()  # rows of this run, by member of the arguments that has no column
        self.in_flight = 0
        self.disk = disk
        self._keep_answers = keep_answers
        self._parts: dict[int, OpenPart] = {}
        self._totals: dict[int, Totals] = {}  # of the parts that stand, as far as they were read
        with as_output_error(folder):
            self._disk_reserve = DiskReserve(disk, temporary_of(self.own / reserve))
        self._committer = committer or Committer(guard=disk.guard)

    def on_failure(self, call: Callable[[OSError], None]) -> None:
        """`call` is called, in another thread, when the disk fails, or the folder or a journal is not where it was."""
        self._committer.on_failure = call

    def published(self) -> dict[int, Totals]:
        """Totals of each part that stands in the folder, by part number. Raises OutputError for an unreadable one."""
        # A folder is listed each time, a footer read once: a part that stands is changed by this run alone.
        for number in part_numbers(self.disk, self.folder):
            if number not in self._totals:
                self._totals[number] = read_totals(self.disk, self.folder / part_name(number))
        return dict(sorted(self._totals.items()))

    def forget(self, number: int) -> None:
        """Another process writes this part."""
        self._totals.pop(number, None)

    def done(self) -> Totals:
        """What the rows in all parts came to. Raises OutputError."""
        totals = Totals()
        for of_part in self.published().values():
            totals.add(of_part)
        return totals

    @property
    def is_whole(self) -> bool:
        """Whether every row of the input, as far as that is known, stands in a part and nothing is under way."""
        return not self.journals() and self.done().rows == self.rows

    def journals(self) -> set[int]:
        """Numbers of the parts that have a journal: something of them is not in the part yet."""
        return set(journals_in(self.disk, self.own))

    def answers(self) -> set[int]:
        """Numbers of the parts whose raw answers stand, whether or not the part does."""
        return set(answers_in(self.disk, self.own))

    def stored_answers(self, number: int) -> Iterator[Stored]:
        """The raw answers of a part, none where they are not there. Raises OutputError."""
        path = _answers_path(self.own, number)
        return stored_answers(self.disk, path) if self.disk.exists(path) else iter(())

    def has_its_columns(self, number: int) -> bool:
        """Whether a part, if it stands, has the columns that this run writes. Raises OutputError."""
        path = self.folder / part_name(number)
        if not self.disk.exists(path):
            return True
        with open_part(self.disk, path) as part:
            return bool(part.schema.equals(self.layout.schema.remove_metadata()))

    def put_damaged_aside(self) -> list[str]:
        """Move damaged parts out of the way, to be rebuilt. Returns what to report. Raises OutputError for a part that
        would have to be bought again."""
        self._totals, damaged = look_at_parts(self.disk, self.folder)
        for number in damaged:
            self.mark_success(False)
            with as_output_error(self.folder):
                source, target = self.folder / part_name(number), self.own / DAMAGED_FOLDER
                self.disk.make_folder(target)
                self.disk.rename(source, target / aside_name(number))  # undone by a power cut, it is done again
        return [f"{error}. It was moved to {DAMAGED}; its rows are rebuilt at no cost" for error in damaged.values()]

    def bill_of(self, numbers: Iterable[int]) -> Bill:
        """Requests of these parts that may have been paid in vain; those in flight when a run died, too."""
        bill = Bill()
        journals = journals_in(self.disk, self.own)
        for number in numbers:
            if number in journals:
                found = read_journals(self.disk, journals[number])
                bill.add(found.bill())
                bill.indeterminate += len(found.unseen)
            elif number in self.published():
                bill.add(self._totals[number].bill)
        return bill

    def set_aside(self, numbers: Iterable[int]) -> None:
        """Move parts that no longer fit, with their answers and journals, to where `EarlierAnswers` finds them.

        Raises OutputError.
        """
        numbers = list(numbers)
        if not numbers:
            return
        self.mark_success(False)  # first: a reader that finds `_SUCCESS` takes the parts for all that there is
        with as_output_error(self.folder):
            set_aside(self.disk, self.folder, self.own, numbers)
        for number in numbers:
            self._totals.pop(number, None)

    def end_of_input(self, rows: int) -> None:
        """The input has `rows` rows: its last part may be complete by that knowledge."""
        self.rows = rows
        for part in self._parts.values():
            part.rows = self.rows_of(part.number)

    def rows_of(self, number: int) -> int:
        """How many rows a part will have, as far as is known."""
        start = number * self.part_rows
        return self.part_rows if self.rows is None else min(self.part_rows, self.rows - start)

    def open_part(self, number: int, *, retry_before_s: float | None = None) -> OpenPart:
        """Open a part for the rows that it lacks, with what its files have of it.

        Failed rows that ended before `retry_before_s` (seconds since the epoch) are to be done again.
        """
        start = number * self.part_rows
        # The files of it that are there show how far the last run came:
        #
        # none               nothing of it is known
        # journal            the run was stopped or died in the middle: what has ended is read from the journal
        # part               it was published, and is opened again as the input has grown or failed rows are retried.
        #                    Its bill moves to the new journal, as the part will be written again
        # part and journal   it was published with the rows it had, or a run died before it removed the journal: the
        #                    rows of the part are done, except those that the journal has newer attempts of
        # answers, no part   the part was damaged or lost, or a run died between the answers and the part: its
        #                    attempts are in the answers, and the rows are read from them at no cost
        #
        # In this order: the journal is made sound before a record is appended to it. The bill of the part that stands
        # moves to the journal before any answer does, since from then on the journal is what counts. Only when all that
        # the files have is known can it be said which requests were lost.
        with as_output_error(self.folder):
            journals, path = journals_in(self.disk, self.own).get(number, ()), self.own / journal_name(number)
            recovered = recover(self.disk, journals, path)
            if not journals and number in self.published():
                recovered.base = self._totals[number].bill
            journal = Journal(self.disk, path, self._disk_reserve)
            answers = AnswersFile(self.disk, _answers_path(self.own, number)) if self._keep_answers else None
            waiting = Waiting(self.disk, path, start)
            part = OpenPart(number, start, self.rows_of(number), journal, waiting, recovered, answers)
            part.totals.bill = recovered.bill()
            if not journals and recovered.base != Bill():
                journal.append(base_line(recovered.base))
            if self.disk.exists(self.folder / part_name(number)):
                self._add_published(part, retry_before_s)
            else:
                add_attempts(part.recovered, self.stored_answers(number))
            self._count_lost(part)
            # Answers over which a run may have died stay known as such, until one is read in a process of its own.
            recovered.reading = recovered.unsure(has_died=self.has_died or number in self.died_over)
            for row, attempt_number in sorted(recovered.reading):
                journal.append(reading_line(row, attempt_number, is_beside=True))
        self._committer.add(part.journal)
        self._parts[number] = part
        return part

    def _add_published(self, part: OpenPart, retry_before_s: float | None) -> None:
        for kept, outcome in read_rows(self.disk, self.folder / part_name(part.number), self.layout):
            # A row of the part is done, unless it failed and is tried again, or the journal has attempts that came
            # after the part was written. Such a row stays in `retried` until it ends: a part that is published before
            # that has its old outcome.
            is_to_retry = outcome.status is not Status.OK and outcome.finished_at_s < (retry_before_s or -math.inf)
            attempts = part.recovered.attempts.get(outcome.row, ())
            if is_to_retry or any(attempt.number > outcome.attempts for attempt in attempts):
                part.retried[outcome.row] = (kept, outcome)
            else:
                part.add(kept, outcome, self.layout)
                part.done_before.add(outcome.row)
        # The part is written again whole, and so are its raw answers: those of its rows are copied.
        known = part.done_before | part.retried.keys()
        stored = list(self.stored_answers(part.number))
        part.keep_answers(one.read() for one in stored if one.row in known)
        # A run that died before it wrote the part again has left answers to more rows than the part has.
        add_attempts(part.recovered, (one for one in stored if one.row not in known))

    def _count_lost(self, part: OpenPart) -> None:
        """Requests in flight when a run died may be paid and are sent again: counted once, here."""
        for row, number in sorted(part.recovered.unseen):
            self.indeterminate += 1
            part.totals.bill.indeterminate += 1
            part.journal.append(lost_line(row, number))
        self.damaged += part.recovered.damaged

    def earlier(self, part: OpenPart, row: int) -> Earlier:
        """What is known of a row that is not in the part yet."""
        found = part.recovered
        if row not in found.sent and row not in found.attempts and row not in part.retried:
            return NOTHING_KNOWN
        # A row that is tried again goes on behind what it has in its part: those attempts are merged into its outcome,
        # and only later ones are in the journal.
        before = part.retried[row][1] if row in part.retried else None
        merged = before.attempts if before else 0  # these are counted in `before` already
        attempts = tuple(attempt for attempt in found.attempts.get(row, ()) if attempt.number > merged)
        return Earlier(
            attempts=attempts,
            number=max(merged, found.sent.get(row, 0), *(attempt.number for attempt in attempts)),
            unsure=frozenset(one.number for one in attempts if (row, one.number) in found.reading),
            is_ended=row in found.ended and bool(attempts),
            outcome=before,
        )

    def about_to_send(self, row: int, number: int, request_hash: str, now_s: float, after: str | None) -> None:
        """Reserve room for the answer and note the request. Raises OutputError: then it must not be sent."""
        # Room first, and the note before the request. Without the note, a later run would not know that this one may
        # have been paid: it would send it again and not count it.
        part = self._parts[row // self.part_rows]
        try:
            part.journal.make_room(self.in_flight + 1)
            part.journal.append(sent_line(row, number, request_hash, now_s, after))
        except OSError as error:
            raise output_error(self.folder, error) from error
        if after is not None:
            part.totals.bill.count(after)
        self.in_flight += 1

    def as_written(self, attempt: Attempt) -> bytes:
        """What `answered` writes; pure, for a thread."""
        return attempt_line(attempt)

    def answered(self, attempt: Attempt, written: bytes | None = None) -> None:
        """Put what came back on disk, before anything looks at it. Raises OutputError. `written`: see `as_written`."""
        self.in_flight -= 1
        self._append(attempt.row, written or attempt_line(attempt))

    def carry(self, attempt: Attempt) -> None:
        """Put an answer that was bought for an equal request on disk as this row's own. Raises OutputError."""
        self._append(attempt.row, attempt_line(attempt))

    def begins_to_read(self, attempt: Attempt, *, is_beside: bool) -> None:
        """Note that an answer is read that is not the last record of its journal: a run may die over it. Raises
        OutputError."""
        self._append(attempt.row, reading_line(attempt.row, attempt.number, is_beside=is_beside))

    def has_read(self, attempt: Attempt) -> None:
        """Note the end of a reading that `begins_to_read` announced. An answer that cannot be read has its failure.
        Raises OutputError."""
        row, number = attempt.row, attempt.number
        if attempt.response is None or attempt.failure is None:
            self._append(row, read_line(row, number))
        else:
            self._append(row, unread_line(row, number, attempt.failure.message))

    def gave_up(self, row: int) -> None:
        """Note that no more attempts will be made for the row. Raises OutputError."""
        self._append(row, ended_line(row))

    def _append(self, row: int, line: bytes) -> None:
        journal = self._parts[row // self.part_rows].journal
        try:
            journal.append(line)
            self._committer.appended(journal)
        except OSError as error:
            raise output_error(self.folder, error) from error

    def add(self, kept: KeptRow | None, outcome: Outcome, attempts: Iterable[Attempt]) -> OpenPart | None:
        """Take in how a row ended, and its attempts. Returns its part when that is complete now and is to be sealed."""
        part = self._parts[outcome.row // self.part_rows]
        part.add(kept, outcome, self.layout)
        part.keep_answers(attempts)
        return part if part.is_complete else None

    def seal(self, part: OpenPart) -> None:
        """Publish a part with the rows it has. The journal of an incomplete one stays.

        Raises OutputError. That is final for this run: the part stays open, and all of it is in its journal.
        """
        with as_output_error(self.folder):
            try:
                self._publish(part)
            except OSError as error:
                part.failure = error
                raise

    def _publish(self, part: OpenPart) -> None:
        # The order is what makes a crash harmless. Answers before the part: a part without them could not be rebuilt.
        # The part before the journal goes: until it is durable under its name, the journal alone has its rows.
        if part.failure is not None:
            raise part.failure
        is_done = part.is_complete  # before the failed rows that were to be tried again are put back
        for kept, outcome in list(part.retried.values()):
            part.add(kept, outcome, self.layout)
        if part.answers is not None:
            part.answers.finish()
            part.answers = None
        path = self.folder / part_name(part.number)
        write_part(self.disk, path, self.layout, part.waiting.batches(self.layout), part.totals)
        self._totals[part.number] = part.totals
        add_left_out(self.left_out, part.waiting.left_out)
        add_left_out(self.members_left_out, part.waiting.members_left_out)
        self._committer.drop(part.journal)  # so that its thread does not sync a file that is closed
        if not is_done:  # it stays: rows that have answers and did not end are in it alone
            part.journal.settle()
        self._parts.pop(part.number, None)
        part.journal.close()
        part.waiting.close()
        if is_done:  # a removal that a power cut undoes does no harm: the part has it all
            for journal in journals_in(self.disk, self.own).get(part.number, ()):
                self.disk.remove(journal)

    def part(self, number: int) -> OpenPart | None:
        """A part that was opened and is not sealed yet."""
        return self._parts.get(number)

    def unfinished(self) -> list[OpenPart]:
        return list(self._parts.values())

    def mark_success(self, is_complete: bool) -> None:
        """Put `_SUCCESS` where every row is in, take it away where not. Raises OutputError."""
        path = self.folder / SUCCESS
        with as_output_error(self.folder):
            if is_complete == self.disk.exists(path):
                return
            if is_complete:
                self.disk.close(self.disk.create(path))
            else:
                self.disk.remove(path)
            self.disk.sync_folder(self.folder)

    def make_way(self) -> None:
        """Give the disk reserve away: nothing more is sent, what is left to write finds room. Raises OutputError."""
        with as_output_error(self.folder):
            self._disk_reserve.release()

    def close(self) -> None:
        """Make everything durable and let go. Raises OutputError when a sync failed."""
        # What is half-written of a part goes: the journals have it, and are made durable before they are closed.
        with as_output_error(self.folder):
            try:
                self._committer.close()
            finally:
                for part in self._parts.values():
                    part.journal.close()
                    part.waiting.close()
                    if part.answers is not None:
                        part.answers.abandon()
                self._parts.clear()
                self._disk_reserve.release()


def make_folders(disk: Disk, folder: Path) -> None:
    """Make the folders of an output where they are missing. Raises OutputError."""
    with as_output_error(folder):
        for each in _folders(folder):
            ensure_folder(disk, each)


def _folders(folder: Path) -> tuple[Path, Path, Path]:
    return folder, folder / OWN_FOLDER, folder / OWN_FOLDER / ANSWERS_FOLDER


def why_unwritable(folder: Path) -> str | None:
    """Why an output cannot be written, as far as the folders show it; None where they seem good. Makes nothing."""
    if (blocking := _blocking(folder)) is not None:
        return f"{blocking} is not a folder"
    standing = (next(each for each in (wanted, *wanted.parents) if os.path.exists(each)) for wanted in _folders(folder))
    return next(
        (f"no permission to write in {each}" for each in standing if not os.access(each, os.W_OK | os.X_OK)), None
    )


def _blocking(folder: Path) -> Path | None:
    """What stands where a folder of an output, or one above it, must be."""
    places = (*reversed(folder.parents), *_folders(folder))
    return next((place for place in places if os.path.lexists(place) and not os.path.isdir(place)), None)


def clear_remains(disk: Disk, folder: Path) -> None:
    """Remove what a crash left half-written, and make what it left whole survive the next one too: a run that was
    killed may have moved files and not synced the folders. Files of older versions get the names of today.

    The caller holds the lock. Raises OutputError.
    """
    own = folder / OWN_FOLDER
    with as_output_error(folder):
        for each in (own, *numbered_generations(disk, own)):
            rename_old_files(disk, each)
        for each in (folder, own, own / ANSWERS_FOLDER, *generations(disk, own)):
            for name in filter(is_temporary, disk.names(each)):
                disk.remove(each / name)
            disk.sync_folder(each)


@contextlib.contextmanager
def as_output_error(folder: Path) -> Iterator[None]:
    """What the disk under an output refuses, as OutputError."""
    try:
        yield
    except OSError as error:
        raise output_error(folder, error) from error


@contextlib.contextmanager
def as_read_error(folder: Path) -> Iterator[None]:
    """What is not a folder, or may not be read, as OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be read: {error.strerror or error}",
            hint="give the folder that output.path of the job file names",
        ) from error


def output_error(folder: Path, error: OSError) -> OutputError:
    """What the disk under an output refuses, in words."""
    if isinstance(error, FolderLostError):
        lost = OutputError(error.strerror or str(error), hint=error.hint)
        lost.exit_code = ExitCode.STOPPED_EARLY
        return lost
    blocking = _blocking(folder) if error.errno in _BLOCKED else None
    why = f"{blocking} is not a folder" if blocking is not None else error.strerror or str(error)
    fix, other = _FIXES.get(error.errno or 0), "choose another folder with output.path or --output"
    if fix is None:
        hint = other
    elif os.path.isdir(folder / OWN_FOLDER):  # else there is nothing yet that could be kept
        hint = f"{fix}, then run the same command again: answers that arrived are kept"
    else:
        hint = f"{fix}, then run the same command again; or {other}"
    refusal = OutputError(f"{folder} cannot be written: {why}", hint=hint)
    if error.errno in _FIXES_OF_DISK:
        refusal.exit_code = ExitCode.STOPPED_EARLY
    return refusal


_BLOCKED = frozenset({errno.ENOTDIR, errno.EEXIST})
# What the disk is to blame for, not the command: with room, or on a sound disk, the same command goes on.
_FIXES_OF_DISK = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room, or ask for a higher quota",
    errno.EFBIG: "lift the limit on the size of files (ulimit -f)",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "allow more open files on this machine",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount it again",
    errno.ENOTCONN: "mount it again",
    errno.ENODEV: "check the disk",
    errno.ENXIO: "check the disk",
}
_FIXES = {
    **_FIXES_OF_DISK,
    errno.EROFS: "mount it writable",
    errno.EACCES: "correct the permissions",
    errno.EPERM: "correct the permissions",
}
