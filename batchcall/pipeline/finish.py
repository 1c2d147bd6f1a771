"""The end of a run: what is in is published, what it came to is written down and told."""

from __future__ import annotations

import datetime
import time

from batchcall.base import BatchcallError, ExitCode, InputError, OutputError
from batchcall.engine import LiveEngine, Stopped
from batchcall.job import LimitsSection
from batchcall.output import Totals, as_output_error, bill_aside, write_runfile
from batchcall.pacing import as_utc
from batchcall.pipeline.context import Run
from batchcall.pipeline.request_maker import model_of
from batchcall.pipeline.resume import is_free
from batchcall.pipeline.unpublished import Unpublished, skimming, spent_aside, unpublished_answers
from batchcall.report import EndpointUse, Summary, advice_text


def finish(run: Run, engine: LiveEngine, stopped: Stopped | BatchcallError | None) -> Summary:
    """Publish what is in, write down what the run came to. Runs in a thread. Raises OutputError."""
    with as_output_error(run.output.folder):
        return _finish(run, engine, stopped)


def _finish(run: Run, engine: LiveEngine, stopped: Stopped | BatchcallError | None) -> Summary:
    output, runfile = run.output, run.resumption.runfile
    output.make_way()
    if run.rows_seen is not None:
        output.end_of_input(run.rows_seen)
        runfile.input.rows = run.rows_seen
    stopped = _publish(run) or stopped
    totals = output.done()
    totals.bill.add(bill_aside(runfile))
    runfile.totals = totals.as_json()
    rows = run.rows_seen if run.rows_seen is not None else output.rows  # seen now, or by an earlier run
    runfile.is_complete = rows is not None and totals.rows >= rows
    unpublished, skim = Unpublished(), skimming(engine.parser, model=model_of(run.job))
    if not runfile.is_complete:
        unpublished = unpublished_answers(run.disk, output.folder, skim)
    summary = _summary(run, engine, totals, stopped, unpublished, spent_aside(run.earlier_answers, skim))
    run.entry.ended_at = _ended_at(run)
    run.entry.reason, run.entry.exit_code = summary.reason, int(summary.exit_code)
    run.entry.resume_at = summary.resume_at
    run.entry.rows, run.entry.requests = run.rows_here, engine.traffic.requests
    run.entry.answered = engine.traffic.answered
    run.entry.rows_paid_once = engine.traffic.rows_paid_once
    run.entry.possibly_paid_twice = engine.traffic.possibly_paid_twice
    run.entry.indeterminate = output.indeterminate
    run.entry.given_up = engine.given_up
    run.entry.left_out, run.entry.left_out_of_arguments = summary.left_out, summary.left_out_of_arguments
    if runfile.is_complete and run.earlier_answers is not None:
        run.earlier_answers.compact()
    write_runfile(run.disk, output.own, runfile)
    output.mark_success(runfile.is_complete)
    return summary


def too_many_failed(run: Run) -> Stopped | None:
    """Why to stop now, where limits.max_failed can no longer be met: nothing that is still to come mends it."""
    if run.rows_seen is not None:  # every row is taken: there is nothing left to save
        return None
    limits, failed = run.job.limits, run.failed_here if run.options.retry_failed else run.totals.failed
    if limits.max_failed_rows is not None:
        most = float(limits.max_failed_rows)
    elif limits.max_failed_share is not None and run.rows_expected is not None:
        most = limits.max_failed_share * run.rows_expected
    else:
        return None
    if failed <= most:
        return None
    return Stopped(
        f"{failed:,} rows failed, more than limits.max_failed tolerates ({most:,.0f})",
        ExitCode.STOPPED_EARLY,
        "the column `error` says why; --retry-failed tries them again, a higher limits.max_failed goes on",
    )


def _ended_at(run: Run) -> str:
    """Now, but not before the rows of this run have ended: the clock may have been set back meanwhile."""
    ended_at_s = max(time.time(), run.entry.started_at_s + run.elapsed_s)
    return datetime.datetime.fromtimestamp(ended_at_s, datetime.UTC).isoformat(timespec="seconds")


def _publish(run: Run) -> OutputError | None:
    """Write every part that is open, with the rows it has. Returns what kept that from being done."""
    failed = None
    for part in run.output.unfinished():
        try:
            run.output.seal(part)
        except OutputError as error:
            failed = error
    return failed


def _summary(
    run: Run,
    engine: LiveEngine,
    totals: Totals,
    stopped: Stopped | BatchcallError | None,
    unpublished: Unpublished,
    aside: Totals,
) -> Summary:
    quota = stopped.quota if isinstance(stopped, Stopped) else None
    return Summary(
        output=str(run.output.folder),
        totals=totals.as_json(),
        unfinished=unpublished.as_json(),
        set_aside={"total_tokens": aside.total_tokens, "cost": aside.cost},
        is_complete=run.resumption.runfile.is_complete,
        rows_expected=run.rows_seen or run.output.rows or run.resumption.runfile.input.rows_expected,
        rows_here=run.rows_here,
        requests=engine.traffic.requests,
        rows_paid_once=engine.traffic.rows_paid_once,
        possibly_paid_twice=dict(engine.traffic.possibly_paid_twice),
        indeterminate=run.output.indeterminate,
        given_up=engine.given_up,
        damaged=run.output.damaged,
        seconds=run.elapsed_s,
        reason=_reason(run, stopped),
        hint=stopped.hint if stopped is not None else _hint(run, totals),
        advice=advice_text(
            run.bounds,
            given=frozenset(name for name in _PACE_KEYS if getattr(run.job.limits, name) is not None),
            proxy_cutoffs=engine.proxy_cutoffs.same_second,
        ),
        an_error=run.an_error,
        endpoints=tuple(
            EndpointUse(one.name, one.requests, one.answered, one.left.reason if one.left is not None else None)
            for one in engine.pool.endpoints
        ),
        exit_code=_exit_code(run, totals, stopped),
        is_free=is_free(run.job, run.resumption.runfile),
        resume_at=None if quota is None else as_utc(quota.renewed_at_s).isoformat(),
        resume_at_is_stated=quota is None or quota.is_stated,
        left_out=dict(run.output.left_out.most_common()),
        left_out_of_arguments=dict(run.output.members_left_out.most_common()),
    )


_PACE_KEYS = ("requests_per_minute", "tokens_per_minute", "concurrency")


def _reason(run: Run, stopped: Stopped | BatchcallError | None) -> str:
    if stopped is not None:
        return str(stopped)
    if run.resumption.runfile.is_complete:
        return "every row is in"
    return f"the limit of rows is reached (--limit {run.options.limit})"


def _hint(run: Run, totals: Totals) -> str:
    if totals.failed <= tolerated(run.job.limits, totals):
        is_whole = run.resumption.runfile.is_complete
        return "" if is_whole else "this was a part of the input: the same command without --limit does the rest"
    return "the column `error` says why rows failed; --retry-failed tries them again, limits.max_failed tolerates some"


def _exit_code(run: Run, totals: Totals, stopped: Stopped | BatchcallError | None) -> ExitCode:
    if isinstance(stopped, OutputError | InputError):
        return ExitCode.STOPPED_EARLY
    if stopped is not None:
        return stopped.exit_code
    return ExitCode.OK if totals.failed <= tolerated(run.job.limits, totals) else ExitCode.ROWS_FAILED


def tolerated(limits: LimitsSection, totals: Totals) -> float:
    """How many of these rows may fail in a job that has ended well."""
    if limits.max_failed_rows is not None:
        return limits.max_failed_rows
    return (limits.max_failed_share or 0.0) * totals.rows
