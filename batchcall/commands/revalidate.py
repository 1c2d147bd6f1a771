"""A changed tool schema applied to the stored answers: new statuses and typed columns, zero requests."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from batchcall.answers import AnswerParser, Prepared
from batchcall.base import Attempt, Bill, ExitCode, Json, Outcome, OutputError, Request, ResumeError, Row, Status
from batchcall.commands.status import require_runfile
from batchcall.disk import (
    ANSWERS_FOLDER,
    Disk,
    RealDisk,
    answers_in,
    answers_name,
    guarded,
    hold_lock,
    part_name,
    part_numbers,
)
from batchcall.input import Mark, open_input
from batchcall.job import Job, as_job, changed_keys, masked, request_identity
from batchcall.output import (
    OWN_FOLDER,
    SUCCESS,
    Layout,
    RunFile,
    Totals,
    Waiting,
    add_left_out,
    as_output_error,
    by_row,
    journal_name,
    kept_schema_of,
    read_rows,
    read_totals,
    stored_answers,
    write_part,
    write_runfile,
)
from batchcall.pipeline import (
    REVALIDATED,
    ReadingChild,
    RequestMaker,
    answer_parser_of,
    layout_fingerprint,
    make_request_maker,
    marks_of,
    read_with,
    tolerated,
)
from batchcall.report import members_left_out_text, table
from batchcall.requests import RowError


class Revalidation(msgspec.Struct):
    """What reading the stored answers again came to."""

    folder: str
    rows: int = 0
    changed: int = 0  # rows whose status or arguments differ from before
    before: Counter[str] = msgspec.field(default_factory=Counter)  # rows by status
    after: Counter[str] = msgspec.field(default_factory=Counter)
    left_out_of_arguments: Counter[str] = msgspec.field(default_factory=Counter)  # rows, by the member without a column
    exit_code: ExitCode = ExitCode.OK  # as of a run: whether more rows are failed now than limits.max_failed tolerates

    def as_text(self) -> str:
        lines = [
            ("output", self.folder),
            ("rows", f"{self.rows:,} read again, {self.changed:,} changed, nothing was sent"),
        ]
        for status in sorted(self.before.keys() | self.after.keys()):
            lines.append((status, f"{self.before[status]:,} before, {self.after[status]:,} now"))
        if self.left_out_of_arguments:
            lines.append(("left out", members_left_out_text(self.left_out_of_arguments)))
        return table(lines)

    def count(self, old: Outcome, new: Outcome, layout: Layout) -> None:
        """`old` was read from a part, and `new` is compared as it will be read from one, by `layout`."""
        self.rows += 1
        self.changed += old.status != new.status or _without_nulls(old.arguments) != _without_nulls(
            layout.held(new.arguments)
        )
        self.before[old.status] += 1
        self.after[new.status] += 1


def _without_nulls(arguments: Json) -> Json:
    """Without what is null: a typed column says null for a field that is not there."""
    if isinstance(arguments, dict):
        return {name: _without_nulls(value) for name, value in arguments.items() if value is not None}
    return [_without_nulls(value) for value in arguments] if isinstance(arguments, list) else arguments


def revalidate_job(job: Job | Path | str, *, disk: Disk | None = None) -> Revalidation:
    """Read every stored answer again with the job's tools and validation. Sends nothing; may be run again at any time.

    Raises ResumeError when more than the tools has changed, OutputError when no raw answers were kept.
    """
    job = as_job(job)
    disk = disk or RealDisk(parts_mode=job.output.parts_mode)
    folder = job.output.path
    runfile = require_runfile(disk, folder)
    _refuse_other_changes(runfile, job)
    answers = answers_in(disk, folder / OWN_FOLDER)
    for number in part_numbers(disk, folder):  # all of them, before anything is touched
        if number not in answers:
            raise OutputError(
                f"{folder / OWN_FOLDER / ANSWERS_FOLDER / answers_name(number)} is missing:"
                " no raw answers were kept, so there is nothing to read again",
                hint="`output.response = true` keeps them; without them only `batchcall run --on-change rerun` helps",
            )
    maker, parser = make_request_maker(job), answer_parser_of(job)
    result = Revalidation(str(folder))
    with as_output_error(folder), hold_lock(folder / OWN_FOLDER / "lock") as still_held, guarded(disk, still_held):
        # From here on parts are of two kinds, until all are rewritten. So run.json says so first: `run` and `verify`
        # refuse the output until a revalidation has finished. If it is set already, an earlier one has died.
        has_died, runfile.revalidating = runfile.revalidating, True
        write_runfile(disk, folder / OWN_FOLDER, runfile)
        disk.remove(folder / SUCCESS)
        totals = Totals()
        layout = None
        for number in part_numbers(disk, folder):
            layout = Layout(kept_schema_of(disk, folder / part_name(number)), maker.arguments_type)
            with contextlib.closing(ReadingChild(masked(job))) as child:
                work = _Work(disk, job, maker, parser, layout, marks_of(runfile), child, has_died)
                totals.add(_revalidate_part(work, number, result))
        _record(disk, runfile, job, layout, totals)
    if totals.failed > tolerated(job.limits, totals):
        result.exit_code = ExitCode.ROWS_FAILED
    return result


def _refuse_other_changes(runfile: RunFile, job: Job) -> None:
    identities = (runfile.identity, request_identity(job))
    old, new = ({name: one[name] for name in one if name not in REVALIDATED} for one in identities)
    if old != new:
        raise ResumeError(
            "revalidate reads stored answers with changed tools, but more has changed:\n  "
            + "\n  ".join(changed_keys(old, runfile.job, new, masked(job))),
            hint="restore these, or send the rows again with `batchcall run --on-change rerun`",
        )


class _Work(NamedTuple):
    """What every part is read with."""

    disk: Disk
    job: Job
    maker: RequestMaker
    parser: AnswerParser
    layout: Layout
    marks: list[Mark]
    child: ReadingChild  # reads what a revalidation may die over
    has_died: bool  # whether the revalidation before this one did: it may have been over any of the answers


def _revalidate_part(work: _Work, number: int, result: Revalidation) -> Totals:
    folder = work.job.output.path
    path = folder / part_name(number)
    answers = by_row(stored_answers(work.disk, answers_in(work.disk, folder / OWN_FOLDER)[number]))
    totals = Totals(bill=read_totals(work.disk, path).bill)
    waiting = Waiting(work.disk, folder / OWN_FOLDER / journal_name(number), number * work.job.output.part_rows)
    with contextlib.closing(waiting):
        # What was asked: the same for all rows where the tools are the job's, else made from the input again. That is
        # opened only when its first row is taken, and makes None of a row that it cannot make a request of any more.
        shape, requests = work.maker.builder.shape, _requests_of_rows(work, number)
        for kept, outcome in read_rows(work.disk, path, work.layout):
            request = Request(shape, []) if shape is not None else None
            if shape is None:
                request = next((request for row, request in requests if row == outcome.row), None)
            new = outcome
            if request is not None and outcome.row in answers:
                attempts = [one.read() for one in answers[outcome.row]]
                new = _read_again(work, request, outcome, attempts)
                # A message may quote an answer that reads like our note on the input: that is in its `error` already.
                if not (new.error or "").endswith(outcome.left_out or ""):
                    new = replace(new, left_out=outcome.left_out)
            result.count(outcome, new, work.layout)
            totals.count(new)
            waiting.add(kept, new, work.layout)
        write_part(work.disk, path, work.layout, waiting.batches(work.layout), totals)
    add_left_out(result.left_out_of_arguments, waiting.members_left_out)
    return totals


def _requests_of_rows(work: _Work, number: int) -> Iterator[tuple[int, Request | None]]:
    """Of every row of the input in the range of a part, in order; None where it makes none."""
    source = open_input(work.job.input.path, id_column=work.job.input.id, output=work.job.output.path)
    start = number * work.job.output.part_rows
    for batch in source.batches(work.maker.columns_of(source), start_row=start, marks=work.marks):
        for row in batch.rows:
            if row.index >= start + work.job.output.part_rows:
                return
            request = None
            with contextlib.suppress(RowError):
                request = work.maker.make_request(row.values)
            yield row.index, request


def _read_again(work: _Work, request: Request, old: Outcome, attempts: list[Attempt]) -> Outcome:
    prepared = Prepared(
        row=Row(old.row, {}, f"row {old.row}"),
        request=request,
        request_hash=old.request_hash or "",
        toolbox=work.maker.toolbox_of(request),
        attempts=tuple(attempts),
    )
    # Some answers end the process that reads them. Any of them may have, where a revalidation has died; else only those
    # that no run could read, which end as bad_response. All others are read here: a child costs too much for each.
    if work.has_died or old.status is Status.BAD_RESPONSE:
        return work.parser.outcome(
            prepared, [work.child.read(attempt, Request(request.shape, [])) for attempt in attempts]
        )
    return work.parser.outcome(prepared, [work.parser.read(attempt, prepared) for attempt in attempts])


def _record(disk: Disk, runfile: RunFile, job: Job, layout: Layout | None, totals: Totals) -> None:
    identity = request_identity(job)
    if identity != runfile.identity:
        runfile.kept_jobs.append(runfile.job)
    runfile.job, runfile.identity, runfile.validations = masked(job), identity, [read_with(job)]
    totals.bill.add(Bill.from_json(runfile.bill_aside))  # of what was set aside, which is in no part
    runfile.totals = totals.as_json()
    if layout is not None:
        runfile.layout = layout_fingerprint(layout, job.output.part_rows)
    runfile.revalidating = False
    runfile.is_complete = runfile.is_complete and totals.rows == runfile.input.rows  # a part may be gone since
    write_runfile(disk, job.output.path / OWN_FOLDER, runfile)
    # Last: a reader that finds `_SUCCESS` must find the record of what it stands over.
    if runfile.is_complete:
        disk.close(disk.create(job.output.path / SUCCESS))
        disk.sync_folder(job.output.path)
