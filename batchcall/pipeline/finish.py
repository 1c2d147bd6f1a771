"""The end of a run: rows that have ended are published, and the result is recorded and returned."""

from __future__ import annotations

import datetime
import time

from batchcall.base import BatchcallError, Bill, ExitCode, InputError, OutputError
from batchcall.engine import OwnSteering
from batchcall.job import LimitsSection
from batchcall.output import Totals
from batchcall.pacing import Verdict, as_utc
from batchcall.pipeline.context import Run
from batchcall.pipeline.request_maker import answer_parser_of, model_of
from batchcall.pipeline.resume import is_free
from batchcall.pipeline.unpublished import Unpublished, skimming, spent_aside, unpublished_answers
from batchcall.report import EndpointUse, Summary, advice_text


def finish(run: Run, steering: OwnSteering, stopped: Verdict | BatchcallError | None, given_up: int) -> Summary:
    """Publish the rows that have ended, record the result. Runs in a thread. Raises OutputError, OSError.

    `given_up`: requests that were still in flight at the end of --grace.
    """
    output, runfile, progress = run.output, run.resumption.runfile, run.progress
    output.make_way()
    # The last part is shorter than others: it is whole only once the end of the input is known.
    if progress.rows_seen is not None:
        output.end_of_input(progress.rows_seen)
        runfile.input.rows = progress.rows_seen
    input_note, is_mixed = _input_change(run)
    if is_mixed:
        runfile.input.fingerprint = ""  # of no content: the next run compares every row with the input
        if stopped is None:
            stopped = Verdict(ExitCode.STOPPED_EARLY, "the input changed while it was read", hint=_COMPARED)
    for part in output.unfinished():
        try:
            output.seal(part)
        except OutputError as error:  # the others may have room; its rows are safe in the journal
            stopped = error
    # What the parts say counts, not what this run has counted: rows may have failed to be written.
    totals = output.done()
    totals.bill.add(Bill.from_json(runfile.bill_aside))
    runfile.totals = totals.as_json()
    rows = progress.rows_seen if progress.rows_seen is not None else output.rows  # now, or by an earlier run
    runfile.is_complete = rows is not None and totals.rows >= rows and not is_mixed
    unpublished, skim = Unpublished(), skimming(answer_parser_of(run.job), model=model_of(run.job))
    if not runfile.is_complete:
        unpublished = unpublished_answers(run.output.disk, output.folder, skim)
    summary = _summary(
        run, steering, given_up, totals, stopped, unpublished, spent_aside(run.earlier_answers, skim), input_note
    )
    # Not before the rows of this run have ended: the clock may have been set back meanwhile.
    ended_at_s = max(time.time(), run.entry.started_at_s + run.elapsed_s)
    run.entry.ended_at = datetime.datetime.fromtimestamp(ended_at_s, datetime.UTC).isoformat(timespec="seconds")
    run.entry.reason, run.entry.exit_code = summary.reason, int(summary.exit_code)
    run.entry.resume_at = summary.resume_at
    run.entry.rows, run.entry.requests = progress.rows_here, steering.traffic.requests
    run.entry.answered = steering.traffic.answered
    run.entry.rows_paid_once = steering.traffic.rows_paid_once
    run.entry.possibly_paid_twice = steering.traffic.possibly_paid_twice
    run.entry.indeterminate = output.indeterminate
    run.entry.given_up = given_up
    run.entry.left_out, run.entry.left_out_of_arguments = summary.left_out, summary.left_out_of_arguments
    if runfile.is_complete and run.earlier_answers is not None:
        run.earlier_answers.compact()
    # The mark comes last: where it is, everything else is on disk.
    run.write_record(is_last=True)
    output.mark_success(runfile.is_complete)
    return summary


def _input_change(run: Run) -> tuple[str, bool]:
    """What has changed in the files of the input since the run began, and whether rows were read before and after."""
    while_read = run.progress.input_changes
    is_mixed = while_read != []
    changes = while_read or run.source.changes()
    if not changes:
        return "", False
    more = f"; and {len(changes) - _NAMED_AT_MOST:,} more" if len(changes) > _NAMED_AT_MOST else ""
    named = "; ".join(changes[:_NAMED_AT_MOST]) + more
    if is_mixed:
        return f"changed while it was read ({named}): rows may be of the old content or of the new", True
    what = "changed after its last row was read: the output has the rows as they were"
    return f"{what} ({named}). The same command takes up the change", False


_NAMED_AT_MOST = 3  # files
_COMPARED = "run the same command again: it compares every row with the input and sends only rows without an answer"


def too_many_failed(run: Run) -> Verdict | None:
    """Why to stop now, where limits.max_failed can no longer be met, whatever is still to come."""
    if run.progress.rows_seen is not None:  # every row is taken: there is nothing left to save
        return None
    limits, progress = run.job.limits, run.progress
    failed = progress.failed_here if run.options.retry_failed else progress.totals.failed
    if limits.max_failed_rows is not None:
        most = float(limits.max_failed_rows)
    elif limits.max_failed_share is not None and run.progress.rows_expected is not None:
        most = limits.max_failed_share * run.progress.rows_expected
    else:
        return None
    if failed <= most:
        return None
    return Verdict(
        ExitCode.STOPPED_EARLY,
        f"{failed:,} rows failed, more than limits.max_failed tolerates ({most:,.0f})",
        "the column `error` says why; --retry-failed tries them again, a higher limits.max_failed lets it continue",
    )


def _summary(
    run: Run,
    steering: OwnSteering,
    given_up: int,
    totals: Totals,
    stopped: Verdict | BatchcallError | None,
    unpublished: Unpublished,
    aside: Totals,
    input_note: str,
) -> Summary:
    quota = stopped.quota if isinstance(stopped, Verdict) else None
    progress = run.progress
    reason, hint, exit_code = _ending(run, totals, stopped)
    return Summary(
        output=str(run.output.folder),
        totals=totals.as_json(),
        unfinished=unpublished.as_json(),
        set_aside={"total_tokens": aside.total_tokens, "cost": aside.cost},
        is_complete=run.resumption.runfile.is_complete,
        rows_expected=progress.rows_seen or run.output.rows or run.resumption.runfile.input.rows_expected,
        rows_here=progress.rows_here,
        requests=steering.traffic.requests,
        rows_paid_once=steering.traffic.rows_paid_once,
        possibly_paid_twice=dict(steering.traffic.possibly_paid_twice),
        indeterminate=run.output.indeterminate,
        given_up=given_up,
        damaged=run.output.damaged,
        seconds=run.elapsed_s,
        reason=reason,
        hint=hint,
        advice=advice_text(
            progress.bounds,
            given=frozenset(name for name in _PACE_KEYS if getattr(run.job.limits, name) is not None),
            proxy_cutoffs=steering.proxy_cutoffs.same_second,
        ),
        an_error=progress.an_error,
        endpoints=tuple(
            EndpointUse(one.name, one.requests, one.answered, one.left.reason if one.left is not None else None)
            for one in steering.pool.endpoints
        ),
        exit_code=exit_code,
        is_free=is_free(run.job, run.resumption.runfile),
        resume_at=None if quota is None else as_utc(quota.renewed_at_s).isoformat(),
        resume_at_is_stated=quota is None or quota.is_stated,
        input_note=input_note,
        left_out=dict(run.output.left_out.most_common()),
        left_out_of_arguments=dict(run.output.members_left_out.most_common()),
    )


_PACE_KEYS = ("requests_per_minute", "tokens_per_minute", "concurrency")


def _ending(run: Run, totals: Totals, stopped: Verdict | BatchcallError | None) -> tuple[str, str, ExitCode]:
    """Why the run has ended, what to do next, and the exit code."""
    if stopped is not None:
        # Once a run is under way, a disk or an input that fails does not make the command wrong: it can go on later.
        can_go_on = isinstance(stopped, OutputError | InputError)
        reason = stopped.reason if isinstance(stopped, Verdict) else str(stopped)
        return reason, stopped.hint, ExitCode.STOPPED_EARLY if can_go_on else stopped.exit_code
    is_whole = run.resumption.runfile.is_complete
    reason = "every row is done" if is_whole else f"the row limit is reached (--limit {run.options.limit})"
    if totals.failed <= tolerated(run.job.limits, totals):
        hint = "" if is_whole else "this was only a part of the input: the same command without --limit does the rest"
        return reason, hint, ExitCode.OK
    hint = "the column `error` says why rows failed; --retry-failed tries them again, limits.max_failed tolerates some"
    return reason, hint, ExitCode.ROWS_FAILED


def tolerated(limits: LimitsSection, totals: Totals) -> float:
    """How many of these rows may fail in a job that has ended well."""
    if limits.max_failed_rows is not None:
        return limits.max_failed_rows
    return (limits.max_failed_share or 0.0) * totals.rows
