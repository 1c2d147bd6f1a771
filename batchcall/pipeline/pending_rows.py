"""The rows that are left, and the request for each. What is done or was bought before is never asked again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import count, takewhile

import msgspec
from msgspec.structs import replace

from batchcall.answers import Ended, Prepared, bad_row
from batchcall.base import Attempt, InputError, JobError, Outcome, Row
from batchcall.input import Batch, Mark
from batchcall.job import pace_of
from batchcall.output import Earlier, EarlierAnswers, OpenPart, as_output_error
from batchcall.pipeline.context import AUTO, Run, Take
from batchcall.pipeline.resume import Plan, marks_of
from batchcall.requests import RowError

PendingRow = tuple[Row, OpenPart]


class PendingBatch(msgspec.Struct):
    """What one step of reading brought. The event loop takes it, and notes what concerns the whole run."""

    rows: list[PendingRow] = []
    marks: list[Mark] = []  # where the parts begin that were opened
    retried: list[Outcome] = []  # of rows in these parts that are done again
    rows_seen: int | None = None  # rows of the input, where its end was reached
    input_changes: list[str] | None = None  # of its files since the run began, where nothing more is read


def undone_parts(run: Run) -> Iterator[int]:
    """The parts that are not done, in order. Without an end: how long the input is may not be known."""
    # A part is done if it holds its whole range, has no journal, and none of its rows is to be tried again.
    output, is_retry = run.output, run.entry.retries_failed_before_s is not None
    with_journal = output.journals()
    done = {
        number
        for number, totals in output.published().items()
        if totals.rows >= output.rows_of(number) and number not in with_journal and not (is_retry and totals.failed)
    }
    return (number for number in count() if number not in done)


def parts_left(run: Run, rows: int) -> Iterator[int]:
    """The parts that are not done of an input of so many rows, as far as --limit goes."""
    limit = run.options.limit
    end = rows if limit is None else min(rows, limit)
    return takewhile(lambda number: number * run.output.part_rows < end, undone_parts(run))


def workers_of(run: Run) -> int:
    """How many workers the run may have at most; 1: it does its rows itself. Reads the input to its end where there may
    be more. Raises JobError."""
    wanted = run.options.workers
    if wanted == 1 or (run.resumption.is_finished and not run.options.retry_failed):
        return 1
    if wanted == AUTO:
        paces = [pace_of(run.job, one).requests_per_minute for one in run.job.endpoints]
        is_slow = all(paces) and sum(filter(None, paces)) <= _ENOUGH_PER_MINUTE
        wanted = 1 if is_slow or os.name == "nt" else cores()
    elif os.name == "nt":
        raise JobError("--workers needs Linux or macOS", hint="leave it out: one process does all rows")
    if wanted == 1:
        return 1
    try:
        rows = run.source.count_rows()
    except InputError:  # the rows before the fault are done, then it is met again
        return 1
    return max(1, min(int(wanted), sum(1 for _ in parts_left(run, rows))))


def cores() -> int:
    """Of the machine, that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_ENOUGH_PER_MINUTE = 30_000  # requests that one process sends in any case


def pending_rows(run: Run, undone: Iterator[int]) -> Iterator[PendingBatch]:
    """The rows of these parts that are not done, in input order. Runs in a thread; other parts are skipped unread."""
    source, output, limit = run.source, run.output, run.options.limit
    columns = run.maker.columns_of(source)
    number, last_seen = next(undone, None), -1
    while number is not None and not (output.rows is not None and number * output.part_rows >= output.rows):
        marks, start_row = marks_of(run.resumption.runfile), number * output.part_rows
        for batch in source.batches(columns, keep=output.layout.kept, start_row=start_row, marks=marks):
            last_seen = batch.rows[-1].index
            pending, number = _of_batch(run, batch, number, undone)
            yield pending
            if number is None or (limit is not None and last_seen + 1 >= limit):
                yield PendingBatch(input_changes=source.changes())
                return
            gap = number * output.part_rows - last_seen - 1
            if gap > (0 if source.can_seek else _PASSED_OVER * output.part_rows):
                break  # and begin once more at that part
        else:
            break
    rows_seen = output.rows or (last_seen + 1 if last_seen >= 0 else source.count_rows())
    yield PendingBatch(rows_seen=rows_seen, input_changes=source.changes())


_PASSED_OVER = 16  # parts, at most, that are read for nothing where reading must begin at the start of a file


def _of_batch(run: Run, batch: Batch, number: int, undone: Iterator[int]) -> tuple[PendingBatch, int | None]:
    """The rows of a batch that are pending, `number` being the part to read; and the part to read next, None where
    there is none."""
    pending, output, limit = PendingBatch(), run.output, run.options.limit
    part: OpenPart | None = None
    for row in batch.rows:
        of_row = row.index // output.part_rows
        while number < of_row:
            following = next(undone, None)
            if following is None:
                return pending, None
            number = following
        if number > of_row:
            continue
        if part is None or part.number != number:
            part = output.part(number)
        if limit is not None and row.index >= limit:
            break
        # Opened here, in the thread that reads: it reads the part before it, which may be long.
        if part is None:
            part = output.open_part(number, retry_before_s=run.entry.retries_failed_before_s)
            pending.retried += (outcome for _, outcome in part.retried.values())
            pending.marks.append(batch.mark)
        if row.index not in part.done_before:
            pending.rows.append((row, part))
    return pending, number


def take_batch(run: Run, batch: PendingBatch) -> list[PendingRow]:
    """Note on the event loop what reading a batch has shown; return its rows."""
    for outcome in batch.retried:
        run.progress.totals.count(outcome, times=-1)
    run.resumption.runfile.input.marks += map(list, batch.marks)
    run.progress.input_changes = batch.input_changes
    if batch.rows_seen is not None:
        run.progress.rows_seen = batch.rows_seen
    return batch.rows


def prepare_row(run: Run, pending: PendingRow) -> Prepared | Ended:
    """The request of a row, with the answers that it has already; or how it ended without a request."""
    # What is known of a row, in this order: what its own part or journal holds; then an answer to the same request that
    # was set aside, whichever row it was bought for. Only what is left is sent.
    row, part = pending
    maker, earlier = run.maker, run.output.earlier(part, row.index)
    try:
        if row.fault is not None:
            raise RowError(row.fault)
        request = maker.make_request(row.values)
        toolbox = maker.toolbox_of(request)
    except RowError as error:
        return Ended(_without_values(row), bad_row(row, str(error), now_s=time.time(), before=earlier.outcome))
    request_hash = maker.hash_of(request)
    has_any = earlier.attempts or run.take is not None
    known = _known(run, row, request_hash, earlier) if has_any else ()
    if isinstance(known, Ended):
        return known
    return Prepared(
        row=_without_values(row),
        request=request,
        request_hash=request_hash,
        toolbox=toolbox,
        attempts=known,
        unsure=earlier.unsure,
        sent=max(earlier.number, known[-1].number) if known else earlier.number,
        is_ended=earlier.is_ended,
        before=earlier.outcome,
    )


def _without_values(row: Row) -> Row:
    """The row once its request is made: nobody needs its values any more, and they may be large."""
    return Row(row.index, {}, row.where, row.fault, row.kept)


def _known(run: Run, row: Row, request_hash: str, earlier: Earlier) -> tuple[Attempt, ...] | Ended:
    """Answers to this very request: of the row itself, else bought for another row and free to take."""
    # As this job makes the request, and as older jobs made it whose answers are kept as they are.
    older = (maker.hash_of_row(row) for maker in run.resumption.makers[1:])
    hashes = [request_hash, *(one for one in older if one is not None)]
    with as_output_error(run.output.folder):
        own = tuple(one.read() for one in earlier.attempts if one.request_hash in hashes)
    # A row that is tried again (`earlier.outcome` is how it failed) wants a new answer, not one that was set aside.
    if own or earlier.outcome is not None or run.take is None:
        return own
    bought = run.take(row.index, hashes)
    if bought is None:
        return ()
    attempts = tuple(replace(attempt, row=row.index) for attempt in bought.attempts)
    if bought.outcome is not None:
        # What was left out of the input row that it was bought for does not concern this row, which has its own.
        outcome = replace(bought.outcome, row=row.index, left_out=None)
        return Ended(_without_values(row), outcome, attempts)
    for attempt in attempts:  # the row may need more answers: those that it has are stored with it from now on
        run.output.carry(attempt)
    return attempts


def taking_from(earlier_answers: EarlierAnswers) -> Take:
    """How a row takes one of these answers."""
    return lambda row, hashes: next((found for one in hashes if (found := earlier_answers.take(one)) is not None), None)


def complete_plan(run: Run, plan: Plan) -> None:
    """Count what each row that is not in place would find, before anything is sent."""
    if run.earlier_answers is None:  # every part is in place
        plan.new = max(0, run.source.count_rows() - plan.kept)
        return
    done = {number: totals.rows for number, totals in run.output.published().items()}
    rows_before = plan.kept + plan.gone
    part_rows = run.output.part_rows
    take = taking_from(run.earlier_answers)
    with run.earlier_answers.rehearsal():  # each answer is taken once, and all are given back
        for batch in run.source.batches(run.maker.columns_of(run.source)):
            for row in batch.rows:
                if row.index % part_rows < done.get(row.index // part_rows, 0):
                    continue
                hashes = [maker.hash_of_row(row) for maker in run.resumption.makers]
                if take(row.index, [one for one in hashes if one is not None]) is not None:
                    plan.kept += 1
                elif row.index < rows_before:
                    plan.edited += 1
                else:
                    plan.new += 1
    plan.gone = max(0, rows_before - plan.kept)
