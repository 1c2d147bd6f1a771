"""The rows that are left, and what is to be asked for each: what is done or was bought before is never asked again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from batchcall.answers import Ended, Prepared, bad_row
from batchcall.base import Attempt, Row
from batchcall.input import Batch
from batchcall.output import Bought, Earlier, EarlierAnswers, OpenPart, as_output_error
from batchcall.pipeline.context import Run
from batchcall.pipeline.resume import Plan, marks_of, needed_columns
from batchcall.requests import RowError

PendingRow = tuple[Row, OpenPart]


def pending_rows(run: Run) -> Iterator[list[PendingRow]]:
    """The rows that are not done, in input order. Runs in a thread; parts that are done are skipped unread."""
    done = _done_parts(run)
    columns = needed_columns(run.source, run.maker)
    start: int | None = _next_undone(0, done) * run.output.part_rows
    last_seen = -1
    while start is not None and not (run.output.rows is not None and start >= run.output.rows):
        keep = run.output.layout.kept
        batches = run.source.batches(columns, keep=keep, start_row=start, marks=marks_of(run.resumption.runfile))
        start = None
        for batch in batches:
            last_seen = batch.rows[-1].index
            pending_rows, start = _of_batch(run, batch, done)
            yield pending_rows
            if start is not None:
                break
            if run.options.limit is not None and last_seen + 1 >= run.options.limit:
                return
    run.rows_seen = run.output.rows or (last_seen + 1 if last_seen >= 0 else run.source.count_rows())


def _done_parts(run: Run) -> set[int]:
    """Parts that hold their whole range, and of which nothing is to be tried again."""
    is_retry = run.entry.retries_failed_before_s is not None
    with_journal = run.output.journals()
    return {
        number
        for number, totals in run.output.published().items()
        if totals.rows >= run.output.rows_of(number) and number not in with_journal and not (is_retry and totals.failed)
    }


def _next_undone(number: int, done: set[int]) -> int:
    while number in done:
        number += 1
    return number


def _of_batch(run: Run, batch: Batch, done: set[int]) -> tuple[list[PendingRow], int | None]:
    """The pending rows of a batch; and where to read on, when it reaches a part that is done."""
    pending_rows: list[PendingRow] = []
    for row in batch.rows:
        number = row.index // run.output.part_rows
        if number in done:
            return pending_rows, _next_undone(number, done) * run.output.part_rows
        if run.options.limit is not None and row.index >= run.options.limit:
            break
        part = run.output.part(number) or _open_part(run, number, batch)
        if row.index not in part.done_before:
            pending_rows.append((row, part))
    return pending_rows, None


def _open_part(run: Run, number: int, batch: Batch) -> OpenPart:
    part = run.output.open_part(number, retry_before_s=run.entry.retries_failed_before_s)
    for _, outcome in part.retried.values():
        run.totals.count(outcome, times=-1)
    run.resumption.runfile.input.marks.append(list(batch.mark))
    return part


def prepare_row(run: Run, row: Row, part: OpenPart) -> Prepared | Ended:
    """What is to be asked for a row, with what is known of it already; or how it ended without asking."""
    earlier = run.output.earlier(part, row.index)
    try:
        if row.fault is not None:
            raise RowError(row.fault)
        request = run.maker.make_request(row.values)
        toolbox = run.maker.toolbox_of(request)
    except RowError as error:
        return Ended(_without_values(row), bad_row(row, str(error), now_s=time.time(), before=earlier.outcome))
    request_hash = run.maker.hash_of(request)
    known = _known(run, row, request_hash, earlier)
    if isinstance(known, Ended):
        return known
    return Prepared(
        row=_without_values(row),
        request=request,
        request_hash=request_hash,
        toolbox=toolbox,
        attempts=known,
        unsure=earlier.unsure,
        sent=max(earlier.number, known[-1].number if known else 0),
        is_ended=earlier.is_ended,
        before=earlier.outcome,
    )


def _without_values(row: Row) -> Row:
    """The row once its request is made: nobody needs its values any more, and they may be large."""
    return Row(row.index, {}, row.where, row.fault, row.kept)


def _known(run: Run, row: Row, request_hash: str, earlier: Earlier) -> tuple[Attempt, ...] | Ended:
    """Answers to this very request: of the row itself, else bought for another row and free to take."""
    if run.earlier_answers is None and not earlier.attempts:
        return ()
    hashes = _identities(run, row, request_hash)
    with as_output_error(run.output.folder):
        own = tuple(one.read() for one in earlier.attempts if one.request_hash in hashes)
    if own or earlier.outcome is not None or run.earlier_answers is None:
        return own
    bought = _take(run.earlier_answers, hashes)
    if bought is None:
        return ()
    attempts = tuple(replace(attempt, row=row.index) for attempt in bought.attempts)
    if bought.outcome is not None:
        # What was left out of the row that it was bought for is no matter of this row, which has its own.
        outcome = replace(bought.outcome, row=row.index, left_out=None)
        return Ended(_without_values(row), outcome, attempts)
    for attempt in attempts:  # the row may need more: what it has stands with it from now on
        run.output.carry(attempt)
    return attempts


def _identities(run: Run, row: Row, request_hash: str) -> list[str]:
    """The row's request as this job makes it, and as older jobs made it whose answers are kept as they are."""
    older = (maker.hash_of_row(row) for maker in run.resumption.makers[1:])
    return [request_hash, *(one for one in older if one is not None)]


def _take(earlier_answers: EarlierAnswers, hashes: list[str]) -> Bought | None:
    return next((bought for one in hashes if (bought := earlier_answers.take(one)) is not None), None)


def complete_plan(run: Run, plan: Plan) -> None:
    """Count what each row that is not in place would find, before anything is sent."""
    if run.earlier_answers is None:  # every part is in place
        plan.new = max(0, run.source.count_rows() - plan.kept)
        return
    _look_up_earlier_answers(run, plan, run.earlier_answers)


def _look_up_earlier_answers(run: Run, plan: Plan, earlier_answers: EarlierAnswers) -> None:
    done = {number: totals.rows for number, totals in run.output.published().items()}
    rows_before = plan.kept + plan.gone
    part_rows = run.output.part_rows
    with earlier_answers.rehearsal():
        for batch in run.source.batches(needed_columns(run.source, run.maker)):
            for row in batch.rows:
                if row.index % part_rows < done.get(row.index // part_rows, 0):
                    continue
                first, *older = (maker.hash_of_row(row) for maker in run.resumption.makers)
                if _take(earlier_answers, [one for one in (first, *older) if one is not None]) is not None:
                    plan.kept += 1
                elif row.index < rows_before:
                    plan.edited += 1
                else:
                    plan.new += 1
    plan.gone = max(0, rows_before - plan.kept)
