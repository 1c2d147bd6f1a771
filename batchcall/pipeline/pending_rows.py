"""The rows that are left, and the request for each. What is done or was bought before is never asked again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from batchcall.answers import Ended, Prepared, bad_row
from batchcall.base import Attempt, Outcome, Row
from batchcall.input import Batch, Mark
from batchcall.output import Bought, Earlier, EarlierAnswers, OpenPart, as_output_error
from batchcall.pipeline.context import Run
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


def pending_rows(run: Run) -> Iterator[PendingBatch]:
    """The rows that are not done, in input order. Runs in a thread; parts that are done are skipped unread."""
    output, limit = run.output, run.options.limit
    # A part is done if it holds its whole range, has no journal, and none of its rows is to be tried again.
    is_retry = run.entry.retries_failed_before_s is not None
    with_journal = output.journals()
    done = {
        number
        for number, totals in output.published().items()
        if totals.rows >= output.rows_of(number) and number not in with_journal and not (is_retry and totals.failed)
    }
    columns = run.maker.columns_of(run.source)
    start: int | None = _next_undone(0, done) * output.part_rows
    last_seen = -1
    # Reading goes on to the next part that is done, then begins once more behind it.
    while start is not None and not (output.rows is not None and start >= output.rows):
        marks = marks_of(run.resumption.runfile)
        batches = run.source.batches(columns, keep=output.layout.kept, start_row=start, marks=marks)
        start = None
        for batch in batches:
            last_seen = batch.rows[-1].index
            pending, start = _of_batch(run, batch, done)
            yield pending
            if start is not None:
                break
            if limit is not None and last_seen + 1 >= limit:
                yield PendingBatch(input_changes=run.source.changes())
                return
    rows_seen = output.rows or (last_seen + 1 if last_seen >= 0 else run.source.count_rows())
    yield PendingBatch(rows_seen=rows_seen, input_changes=run.source.changes())


def _next_undone(number: int, done: set[int]) -> int:
    while number in done:
        number += 1
    return number


def _of_batch(run: Run, batch: Batch, done: set[int]) -> tuple[PendingBatch, int | None]:
    """The pending rows of a batch; and where to read on, when it reaches a part that is done."""
    pending, output, limit = PendingBatch(), run.output, run.options.limit
    part: OpenPart | None = None
    for row in batch.rows:
        number = row.index // output.part_rows
        if part is None or part.number != number:
            if number in done:
                return pending, _next_undone(number, done) * output.part_rows
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
    return pending, None


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
    has_any = earlier.attempts or run.earlier_answers is not None
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
    if own or earlier.outcome is not None or run.earlier_answers is None:
        return own
    bought = _take(run.earlier_answers, hashes)
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


def _take(earlier_answers: EarlierAnswers, hashes: list[str]) -> Bought | None:
    return next((bought for one in hashes if (bought := earlier_answers.take(one)) is not None), None)


def complete_plan(run: Run, plan: Plan) -> None:
    """Count what each row that is not in place would find, before anything is sent."""
    if run.earlier_answers is None:  # every part is in place
        plan.new = max(0, run.source.count_rows() - plan.kept)
        return
    done = {number: totals.rows for number, totals in run.output.published().items()}
    rows_before = plan.kept + plan.gone
    part_rows = run.output.part_rows
    with run.earlier_answers.rehearsal():  # each answer is taken once, and all are given back
        for batch in run.source.batches(run.maker.columns_of(run.source)):
            for row in batch.rows:
                if row.index % part_rows < done.get(row.index // part_rows, 0):
                    continue
                hashes = [maker.hash_of_row(row) for maker in run.resumption.makers]
                if _take(run.earlier_answers, [one for one in hashes if one is not None]) is not None:
                    plan.kept += 1
                elif row.index < rows_before:
                    plan.edited += 1
                else:
                    plan.new += 1
    plan.gone = max(0, rows_before - plan.kept)
