"""The proof of an output: every input row once, in order, readable, its request the one that was asked, totals true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from batchcall.base import BatchcallError, Bill, DamagedRecordError, InputError, JobError, Outcome, counted
from batchcall.commands.status import require_runfile
from batchcall.disk import Disk, RealDisk, answers_in, holder_of, part_name, part_numbers
from batchcall.input import Input, open_input
from batchcall.job import Job, stored_job
from batchcall.output import (
    OWN_FOLDER,
    SUCCESS,
    Layout,
    Match,
    RunFile,
    Totals,
    as_read_error,
    journal_name,
    journals_in,
    matches,
    open_part,
    read_journals,
    read_raw,
)
from batchcall.pipeline import job_notes, layout_fingerprint, make_request_maker, wanted_by_part
from batchcall.report import table

_NAMED_AT_MOST = 5  # rows named per fault


class Proof(msgspec.Struct):
    """What verifying found. Empty `faults` means: proven."""

    folder: str
    rows: int = 0
    parts: int = 0
    answers: int = 0  # raw answers read
    compared: int = 0  # rows whose request was made from the input again and found the same
    expected: int | None = None  # rows of the input; None: not known
    missing: int = 0  # rows of the input that are not in, or in a part that cannot be read
    readable: list[int] = []  # numbers of the parts that can be read to their end
    damaged: set[int] = set()  # of those that are to be moved away
    without_answers: set[int] = set()  # of those whose raw answers are gone or damaged
    faults: list[str] = []  # what is wrong and what to do
    unfinished: str = ""  # why the output is not whole yet, which is among the faults too; empty where it is
    unchecked: str = ""  # why the input could not be compared, which is among the faults too; empty where it was
    has_changed: bool = False  # the input's files, since the last run
    notes: list[str] = []  # what could not be looked at, and what is good to know

    @property
    def is_proven(self) -> bool:
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        return {
            "output": self.folder,
            "is_proven": self.is_proven,
            "rows": self.rows,
            "parts": self.parts,
            "answers": self.answers,
            "requests_compared": self.compared,
            "rows_missing": self.missing,
            "faults": self.faults,
            "notes": self.notes,
        }

    def as_text(self) -> str:
        looked_at = (
            f"{counted(self.rows, 'row')} in {counted(self.parts, 'part')}, {counted(self.answers, 'raw answer')}"
        )
        verdict = "proven"
        if not self.is_proven:
            harmless = {self.unfinished: "incomplete", self.unchecked: "NOT compared with the input"}
            is_sound = harmless.keys() >= set(self.faults)
            verdict = "NOT proven" if not is_sound else " and ".join(harmless[fault] for fault in self.faults)
            verdict += "; what is there is undamaged" if is_sound else ""
        lines = [("output", self.folder), ("verdict", verdict), ("read", looked_at)]
        lines.append(("requests", f"{self.compared:,} made again from the input, all the same"))
        lines += [("fault", fault) for fault in self.faults] + [("note", note) for note in self.notes]
        return table(lines)


def verify_output(folder: Path | str, *, job: Job | None = None, disk: Disk | None = None) -> Proof:
    """Read everything in an output and compare it with its input and its record. Changes nothing.

    Raises OutputError when the folder is not an output; every other fault is in the proof. The notes say how the job
    file differs from what the rows were made with: `job`, else the file that wrote the output.
    """
    folder, disk = Path(folder), disk or RealDisk()
    proof = Proof(str(folder))
    with as_read_error(folder):
        try:
            runfile = require_runfile(disk, folder)
        except DamagedRecordError as error:
            return _verify_without_record(disk, folder, proof, error)
        holder = holder_of(folder / OWN_FOLDER / "lock")
        if runfile.revalidating:  # its parts are of two kinds: there is nothing to compare them with
            proof.faults.append(
                "a revalidation was interrupted: nothing else was checked. Run `batchcall revalidate` again, at no cost"
                if holder is None
                else f"the stored answers are being read again: {_UNDER_WAY.format(holder)}"
            )
            return proof
        # Before the parts: a run that ends meanwhile would seem to have written `_SUCCESS` over missing rows.
        has_success = disk.exists(folder / SUCCESS)
        totals = _read_parts(disk, folder, runfile, proof)
        totals.bill.add(Bill.from_json(runfile.bill_aside))
        # While a run is under way, record and parts differ. And running the job again would not repair a damaged part.
        if holder is None and not proof.damaged:
            if _has_died(runfile):
                proof.notes.append("the last run died, so run.json has no totals of that run to compare")
            elif not _is_same(runfile.totals, totals.as_json()):
                proof.faults.append(
                    f"run.json says {_totals_text(runfile.totals)}, the parts say {_totals_text(totals.as_json())}."
                    " A part was changed or removed; run the job again"
                )
        _read_journals(disk, folder, proof)
        _compare_input(disk, folder, runfile, proof)
        _compare_end(runfile, proof, has_success=has_success, holder=holder)
        proof.notes += job_notes(folder, runfile, disk, job)
        if runfile.job["output"]["response"] and proof.without_answers:
            proof.notes.append(
                f"the raw answers of {len(proof.without_answers):,} parts are missing: `revalidate` does not work"
                " without them, and rows of a part that gets damaged would have to be paid for again"
            )
        return proof


def _verify_without_record(disk: Disk, folder: Path, proof: Proof, error: DamagedRecordError) -> Proof:
    """Read parts and journals alone, as nothing says what they should hold."""
    proof.faults.append(f"{error}. {error.hint}")
    for number in part_numbers(disk, folder):
        proof.parts += 1
        try:
            with open_part(disk, folder / part_name(number)) as part:
                proof.rows += sum(1 for _ in part.outcomes())
        except BatchcallError as fault:
            proof.faults.append(f"{fault}. {fault.hint}")
    _read_journals(disk, folder, proof)
    proof.notes.append("without run.json the rows could not be compared with the job and the input")
    return proof


def _read_parts(disk: Disk, folder: Path, runfile: RunFile, proof: Proof) -> Totals:
    """The totals over the rows of all readable parts. Parts are compared with their footers and with each other."""
    totals, answers = Totals(), answers_in(disk, folder / OWN_FOLDER)
    schemas: dict[str, list[int]] = {}  # the parts that have it, by what it says
    for number in part_numbers(disk, folder):
        proof.parts += 1
        # The answers first: what is advised for a damaged part depends on whether they can rebuild it.
        try:
            if (path := answers.get(number)) is not None:
                proof.answers += sum(1 for _ in read_raw(disk, path))
            else:
                proof.without_answers.add(number)
        except BatchcallError as error:
            proof.without_answers.add(number)
            proof.faults.append(f"{error}. {_ANSWERS_LOST}")
        try:
            with open_part(disk, folder / part_name(number)) as part:
                counted = _read_rows(runfile, number, part.outcomes(), proof)
        except BatchcallError as error:
            _add_damage(proof, [number], str(error))
            continue
        proof.readable.append(number)
        schemas.setdefault(str(part.schema), []).append(number)
        counted.bill = part.totals.bill  # it is in no row
        if not _is_same(part.totals.as_json(), counted.as_json()):
            _add_damage(proof, [number], f"{part_name(number)}: the totals in its footer are not those of its rows")
        totals.add(counted)

    # Most parts are right about the columns. Without a majority nobody knows which: then all are reported.
    *odd_groups, largest = sorted(schemas.values(), key=len) or [[]]
    if odd_groups and len(odd_groups[-1]) == len(largest):
        odd_groups.append(largest)
    if odd := sorted(number for numbers in odd_groups for number in numbers):
        _add_damage(proof, odd, f"parts disagree on their columns: {_names(odd)}")
    return totals


def _add_damage(proof: Proof, numbers: list[int], what: str, advice: str | None = None) -> None:
    """A fault of parts that must be moved away: a run that finds nothing left to do does not read them.

    `advice`: where the parts hold foreign answers, which cannot rebuild them.
    """
    proof.damaged.update(numbers)
    is_free = proof.without_answers.isdisjoint(numbers)
    proof.faults.append(f"{what}. {advice or (_REBUILT if is_free else _ASKED_AGAIN)}")


_REBUILT = "Move the file away and run the job again: its rows are rebuilt from the stored answers at no cost"
_ASKED_AGAIN = (
    "Move the file away and run the job again: its rows are asked again and paid for again, because their stored"
    " answers are missing or damaged too"
)
_ANSWERS_LOST = (
    "An undamaged part does not need this file: move it away. Nothing is paid for again; only `revalidate` will not"
    " work for that part"
)


def _read_rows(runfile: RunFile, number: int, outcomes: Iterator[Outcome], proof: Proof) -> Totals:
    part_rows = _part_rows(runfile)
    totals, last = Totals(), number * part_rows - 1
    misplaced = []
    for outcome in outcomes:
        totals.count(outcome)
        if not last < outcome.row < (number + 1) * part_rows:
            misplaced.append(outcome.row)
        last = max(last, outcome.row)
    proof.rows += totals.rows
    if misplaced:
        what = f"{part_name(number)}: rows are duplicated, out of order or belong to another part: {_some(misplaced)}"
        _add_damage(proof, [number], what)
    return totals


def _is_same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Equal totals, but for the last digits of money."""
    # Floats are summed in the order in which rows end, and here in that of the input.
    costs = (left.get("cost") or 0.0, right.get("cost") or 0.0)
    return {**left, "cost": None} == {**right, "cost": None} and abs(costs[0] - costs[1]) <= 1e-9 * max(1.0, *costs)


def _has_died(runfile: RunFile) -> bool:
    return not runfile.runs or runfile.runs[-1].ended_at is None


def _totals_text(totals: dict[str, Any]) -> str:
    return f"{totals.get('rows', 0):,} rows, {totals.get('ok', 0):,} ok, {totals.get('total_tokens') or 0:,} tokens"


def _read_journals(disk: Disk, folder: Path, proof: Proof) -> None:
    for number, paths in journals_in(disk, folder / OWN_FOLDER).items():
        damaged = read_journals(disk, paths).damaged
        if damaged:
            proof.faults.append(
                f"{journal_name(number)}: {counted(damaged, 'damaged record')}. Run the job again; their rows are asked"
                " again"
            )


def _compare_input(disk: Disk, folder: Path, runfile: RunFile, proof: Proof) -> None:
    """Compare the parts with the input: each input row has one output row, made of the same request.

    Where the input has changed since the last run, what differs is the input's doing and the parts are sound. Where it
    has not, what differs was done to the parts: these are damaged.
    """
    try:
        job = stored_job(runfile.job)
        source = open_input(job.input.path, id_column=job.input.id, output=folder)
        proof.has_changed = source.fingerprint != runfile.input.fingerprint
        walked = _walk(disk, folder, runfile, job, source, proof)
    except (JobError, InputError) as error:
        what_to_do = error.hint or "Put it where it was and run `batchcall verify` again"
        proof.unchecked = f"the input could not be compared, so its rows were not checked: {error}. {what_to_do}"
        proof.faults.append(proof.unchecked)
        # Without the input, only the record says how many rows there should be.
        proof.expected = runfile.input.rows
        proof.missing = max(0, (proof.expected or 0) - proof.rows)
        if proof.expected is None:
            proof.unfinished = "no run has read the input to its end yet. Run the job again"
        elif proof.missing and not proof.damaged:
            proof.unfinished = f"{proof.missing:,} rows of the input are missing. Run the job again"
        return
    proof.compared, proof.expected, proof.missing = walked.same, walked.rows, len(walked.missing)
    missing = [row for row in walked.missing if row // _part_rows(runfile) not in proof.damaged]
    if missing:
        proof.unfinished = f"{len(missing):,} rows of the input are missing: {_some(missing)}. Run the job again"
    if proof.has_changed:
        if walked.has_other_columns:
            proof.faults.append(f"the columns of the input have changed since the last run. {_FOLLOW}")
        for rows, what in (
            (walked.other, "have changed in the input since they were asked"),
            (walked.edited, "have changed in the input, in columns that are kept but not part of the request"),
            (walked.beyond, f"are beyond the {walked.rows:,} that the input has now"),
        ):
            if rows:
                proof.faults.append(f"{len(rows):,} rows {what}: {_some(rows)}. {_FOLLOW}")
        return
    for rows, what, advice in (
        (walked.other, "have the answer to another request than the one that the input makes", _TAKEN_OR_ASKED),
        (walked.beyond, f"are beyond the {walked.rows:,} of the input", None),
    ):
        if rows:
            numbers = sorted({row // _part_rows(runfile) for row in rows})
            _add_damage(proof, numbers, f"{_names(numbers)}: {len(rows):,} rows {what}: {_some(rows)}", advice)


_FOLLOW = "Run the job again to follow the input (`batchcall check` shows what it would send), or restore the input"
_TAKEN_OR_ASKED = (
    "Move the file away and run the job again: rows with a fitting stored answer take it, the others are asked again"
)


def _compare_end(runfile: RunFile, proof: Proof, *, has_success: bool, holder: str | None) -> None:
    """Whether every row is in, and a run has finished over that."""
    # By who holds the output, whether `_SUCCESS` is there, and whether rows are missing:
    # - a run is under way: the output is unfinished, and nothing is wrong with that;
    # - it is there although rows are missing, and the input has not grown since: somebody took a part away;
    # - it is not there and no row is missing: the last run died at its end, or somebody took it away.
    if holder is not None and (proof.unfinished or not has_success):
        of_all = "" if proof.expected is None else f" of {proof.expected:,}"
        proof.unfinished = f"{proof.rows:,}{of_all} rows are done, and {_UNDER_WAY.format(holder)}"
    elif has_success and proof.unfinished and not proof.has_changed:
        proof.faults.append(f"{SUCCESS} exists, although rows are missing. Run the job again")
    elif not has_success and not proof.unfinished and _has_died(runfile):
        proof.unfinished = "the last run died before it recorded its result. Run the job again"
    elif not has_success and not proof.faults and not proof.unfinished:
        proof.notes.append(f"{SUCCESS} is missing, although every row is done: run the job again to write it")
    if proof.unfinished:
        proof.faults.append(proof.unfinished)


_UNDER_WAY = "a run is under way ({}). Run `batchcall verify` again when it has ended"


def _part_rows(runfile: RunFile) -> int:
    return int(runfile.job["output"]["part_rows"])


def _names(numbers: list[int]) -> str:
    return ", ".join(part_name(number) for number in numbers)


class _Walked(msgspec.Struct):
    """Rows of the input and of the parts, compared with each other."""

    has_other_columns: bool  # the input, than those that are kept in the parts
    rows: int = 0  # of the input
    same: int = 0  # rows that are in as the input makes them
    missing: list[int] = []  # rows of the input that are in no part
    other: list[int] = []  # rows that are in, with the answer to another request
    edited: list[int] = []  # rows that are in, with other values of the kept columns
    beyond: list[int] = []  # rows in parts that the input does not have


def _walk(disk: Disk, folder: Path, runfile: RunFile, job: Job, source: Input, proof: Proof) -> _Walked:
    """Part by part. What is kept of a row is compared only where the input has changed."""
    # Rows are compared by the hash of their request, made again from the input by this job and by older ones whose rows
    # are kept. Kept columns can differ only if the input has changed: then the parts are compared with them, too.
    makers = [make_request_maker(job), *(make_request_maker(stored_job(old)) for old in runfile.kept_jobs)]
    names = source.columns if job.output.keep is None else job.output.keep
    layout = Layout(source.kept_schema(names), makers[0].arguments_type, is_all_kept=job.output.keep is None)
    walked = _Walked(proof.has_changed and layout_fingerprint(layout, _part_rows(runfile)) != runfile.layout)
    kept = layout.kept if proof.has_changed and not walked.has_other_columns else None
    sorted_by = {Match.OTHER: walked.other, Match.EDITED: walked.edited, Match.UNKNOWN: walked.beyond}
    unread = dict.fromkeys(proof.readable)
    for number, wanted in wanted_by_part(makers, source, _part_rows(runfile), kept):
        walked.rows += len(wanted)
        missing = set(wanted)
        if number in unread:
            del unread[number]
            found = dict(matches(disk, folder / part_name(number), wanted, kept))
            missing -= found.keys()
            for row, match in found.items():
                if match is Match.SAME:
                    walked.same += 1
                else:
                    sorted_by[match].append(row)
        walked.missing += sorted(missing)
    # Parts that the walk over the input never came to. A row in them that the input has is in the wrong part, which
    # `_read_rows` has reported.
    for number in unread:
        walked.beyond += (row for row, _ in matches(disk, folder / part_name(number), {}, None))
    walked.beyond = [row for row in walked.beyond if row >= walked.rows]
    return walked


def _some(rows: list[int]) -> str:
    named = ", ".join(f"{row:,}" for row in rows[:_NAMED_AT_MOST])
    return named + (f" and {len(rows) - _NAMED_AT_MOST:,} more" if len(rows) > _NAMED_AT_MOST else "")
