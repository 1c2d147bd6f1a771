"""Numbers as people read them: the summary of a run, durations, money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from batchcall.base import counted
from batchcall.report.snapshot import EndpointUse, Snapshot, Summary


def summary_text(summary: Summary) -> str:
    """A short table: what is there, what this run did, what is left, what to do next."""
    totals = summary.totals
    is_asked = summary.requests or summary.indeterminate
    damaged = f"{counted(summary.damaged, 'journal record')} could not be read; the rows are asked again"
    lines = [
        ("output", summary.output),
        ("rows", _rows(summary)),
        ("failed", failures_text(totals)),
        ("for example", totals["failed"] and (summary.an_error or "")[:200]),
        ("tokens", tokens_text(totals)),
        ("cost", cost_text(totals, is_free=summary.is_free)),
        ("this run", _this_run(summary)),
        ("unfinished", summary.unfinished["rows"] and _unfinished(summary.unfinished)),
        ("set aside", any(summary.set_aside.values()) and _set_aside(summary.set_aside)),
        ("answered" if summary.is_free else "paid", is_asked and _bill(summary)),
        ("in all runs", _doubts(totals["possibly_paid_twice"], totals["indeterminate"])),
        ("damaged", summary.damaged and damaged),
        ("left out", summary.left_out and left_out_text(summary.left_out)),
        ("left out", summary.left_out_of_arguments and members_left_out_text(summary.left_out_of_arguments)),
        *(("endpoint", _endpoint(one)) for one in summary.endpoints if len(summary.endpoints) > 1),
        ("input", summary.input_note),
        ("pace", summary.advice),
        ("ended", summary.reason),
        ("next", summary.hint),
    ]
    return table([(name, text) for name, text in lines if text])


def table(lines: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def _rows(summary: Summary) -> str:
    done = summary.totals["rows"]
    if summary.is_complete:
        return f"{done:,} done"
    if summary.rows_expected is None:
        return f"{done:,} done; the rows of the input were not counted"
    return f"{done:,} of {summary.rows_expected:,} done, {max(0, summary.rows_expected - done):,} left"


def failures_text(totals: dict[str, Any]) -> str:
    """How many rows failed, by status."""
    if not totals["failed"]:
        return "none"
    reasons = {status: count for status, count in totals["statuses"].items() if status != "ok" and count}
    named = ", ".join(f"{count:,} {status}" for status, count in sorted(reasons.items(), key=lambda one: -one[1]))
    return f"{totals['failed']:,} ({named})"


def tokens_text(totals: Mapping[str, Any]) -> str:
    if totals["total_tokens"] is None:
        return "not reported"
    text = f"{totals['total_tokens']:,}"
    if totals["prompt_tokens"] is not None and totals["completion_tokens"] is not None:
        text += f" ({totals['prompt_tokens']:,} prompt, {totals['completion_tokens']:,} completion)"
    return text


def money_text(cost: float | None) -> str:
    if cost is None:
        return "no price known"
    return f"{cost:,.2f} USD" if cost >= 1 else f"{cost:.4f} USD"


def cost_text(totals: Mapping[str, Any], *, is_free: bool) -> str:
    """The cost of what was counted. Without tokens there is none, whatever the price."""
    if is_free:
        return free_text(totals["cost"])
    if totals["cost"] is None and totals["total_tokens"] is None:
        return "not known"
    return money_text(totals["cost"])


def free_text(cost: float | None) -> str:
    """What the embedded endpoint costs. `cost`: what a model would, at the prices of the job."""
    return "none" + (f"; {money_text(cost)} at the job's prices if a model had answered" if cost else "")


def _unfinished(unfinished: Mapping[str, Any]) -> str:
    cost = f", {money_text(unfinished['cost'])}" if unfinished["cost"] is not None else ""
    return (
        f"{counted(unfinished['rows'], 'row')} with answers that need more; tokens so far {tokens_text(unfinished)}"
        f"{cost}; these are kept, and count towards max_cost and max_tokens_total"
    )


def _set_aside(spent: Mapping[str, Any]) -> str:
    cost = f" and {money_text(spent['cost'])}" if spent["cost"] is not None else ""
    return (
        f"{spent['total_tokens'] or 0:,} tokens{cost} for answers that no row uses now; these count towards max_cost"
        " and max_tokens_total"
    )


def _endpoint(use: EndpointUse) -> str:
    left = f"; left: {use.left}" if use.left is not None else ""
    return f"{use.name}: {use.answered:,} of {use.requests:,} requests answered{left}"


def _this_run(summary: Summary) -> str:
    if not summary.rows_here and not summary.requests:
        return "nothing was left to do" if summary.is_complete else "nothing was sent"
    pace = summary.rows_here / summary.seconds if summary.seconds > 0 else 0.0
    return (
        f"{counted(summary.rows_here, 'row')} with {counted(summary.requests, 'request')} in"
        f" {duration_text(summary.seconds)} ({pace:,.0f} rows/s)"
    )


def _bill(summary: Summary) -> str:
    once = f"{counted(summary.rows_paid_once, 'row')} once"
    given_up = ""
    if summary.given_up:
        doubt = "" if summary.is_free else ", perhaps paid"
        given_up = f"{counted(summary.given_up, 'request')} in flight given up{doubt}; the next run sends them again"
    return "; ".join(filter(None, [once, _doubts(summary.possibly_paid_twice, summary.indeterminate), given_up]))


def left_out_text(left_out: Mapping[str, int]) -> str:
    """Which columns of the input had no place for values, in how many rows, and what to do."""
    return (
        f"values of {_named(left_out, more_of=' columns')}; `error` shows them. Columns and types come from the"
        " first 10,000 rows of JSONL: convert the input to Parquet and run again (rows whose request stays the same"
        " keep their answers), or list the columns you want in output.keep"
    )


def members_left_out_text(left_out: Mapping[str, int]) -> str:
    """Which members of the arguments have no column, in how many rows, and what to do."""
    return (
        f"of the arguments, {_named(left_out)}: they are not in the tool's schema, only in `calls`. Add those you want"
        " to the schema and run `batchcall revalidate`: nothing is sent again"
    )


def _named(rows: Mapping[str, int], *, more_of: str = "") -> str:
    named = ", ".join(f"{name} in {counted(count, 'row')}" for name, count in list(rows.items())[:_NAMED_AT_MOST])
    return named + (f" and {len(rows) - _NAMED_AT_MOST:,} more{more_of}" if len(rows) > _NAMED_AT_MOST else "")


_NAMED_AT_MOST = 5  # columns or members


def _doubts(possibly_paid_twice: Mapping[str, int], indeterminate: int) -> str:
    """Requests that may be paid and brought nothing, with their reasons; empty when there are none."""
    texts = []
    if doubtful := sum(possibly_paid_twice.values()):
        reasons = ", ".join(f"{count:,} after {reason}" for reason, count in sorted(possibly_paid_twice.items()))
        texts.append(f"{counted(doubtful, 'request')} possibly twice: {reasons}")
    if indeterminate:
        texts.append(f"{counted(indeterminate, 'request')} in flight when a run ended, outcome unknown")
    return "; ".join(texts)


def duration_text(seconds: float) -> str:
    """12.3 s, 4m05s, 2h03m."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"


def snapshot_text(now: Snapshot) -> str:
    """One line for a log: where the run stands."""
    expected = f" of {now.rows_expected:,}" if now.rows_expected is not None else ""
    rate = now.rows_here / now.elapsed_s if now.elapsed_s > 0 else 0.0
    return ", ".join([f"{now.rows:,}{expected} rows", f"{rate:,.1f} rows/s", *extras(now)])


def extras(now: Snapshot) -> list[str]:
    """What else is worth saying beside rows and rate."""
    parts = [f"{now.tokens:,} tokens"]
    if now.cost is not None:
        parts.append(money_text(now.cost))
    if now.failed:
        parts.append(f"{now.failed:,} failed")
    if now.is_stopping:
        parts.append(f"stopping, {now.in_flight:,} in flight")
    elif now.down:
        parts.append(f"the endpoint is down ({now.down[:80]}), next try in {now.pause_s:.0f} s")
    elif now.waits_for == "pause":
        parts.append(f"pause of {now.pause_s:.0f} s")
    elif now.waits_for:
        parts.append(f"bound by {now.waits_for}")
    if now.retries_waiting:
        parts.append(f"{now.retries_waiting:,} to retry")
    if now.eta_s is not None and now.eta_s >= 1 and not now.is_stopping:
        parts.append(f"{duration_text(now.eta_s)} left")
    if now.oldest_age_s >= 10:
        parts.append(f"oldest request {duration_text(now.oldest_age_s)}")
    return parts
