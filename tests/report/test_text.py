"""The texts of a run: a summary has a line for what there is to say and none for what there is not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from batchcall.base.errors import ExitCode
from batchcall.report.snapshot import EndpointUse, Snapshot, Summary
from batchcall.report.text import (
    cost_text,
    duration_text,
    extras,
    failures_text,
    free_text,
    left_out_text,
    members_left_out_text,
    money_text,
    snapshot_text,
    summary_text,
    tokens_text,
)

TOTALS = {
    "rows": 1_000,
    "failed": 0,
    "statuses": {"ok": 1_000},
    "prompt_tokens": 3_000,
    "completion_tokens": 2_000,
    "total_tokens": 5_000,
    "cost": 1.5,
    "possibly_paid_twice": {},
    "indeterminate": 0,
}
NOTHING_LEFT: dict[str, Any] = {
    "rows": 0, "prompt_tokens": None, "completion_tokens": None, "total_tokens": None, "cost": None
}  # fmt: skip
DONE = Summary(
    output="out",
    totals=TOTALS,
    unfinished=NOTHING_LEFT,
    is_complete=True,
    rows_expected=1_000,
    rows_here=600,
    requests=610,
    rows_paid_once=600,
    possibly_paid_twice={},
    indeterminate=0,
    given_up=0,
    damaged=0,
    seconds=60.0,
    reason="every row is done",
    hint="",
    advice="",
    an_error=None,
    exit_code=ExitCode.OK,
)
SEEN = Snapshot(
    rows=10,
    rows_expected=None,
    rows_here=10,
    failed=0,
    tokens=7,
    cost=None,
    requests=10,
    in_flight=1,
    waits_for="",
    pause_s=0.0,
    retries_waiting=0,
    down="",
    eta_s=None,
    oldest_age_s=0.0,
    elapsed_s=4.0,
    is_stopping=False,
)


def said(summary: Summary) -> set[str]:
    """The lines that a run without incidents does not have, or has otherwise."""
    changed, plain = ({" ".join(line.split()) for line in summary_text(one).split("\n")} for one in (summary, DONE))
    return changed - plain


def test_a_run_without_incidents_has_a_short_summary() -> None:
    assert summary_text(DONE) == (
        "output    out\n"
        "rows      1,000 done\n"
        "failed    none\n"
        "tokens    5,000 (3,000 prompt, 2,000 completion)\n"
        "cost      1.50 USD\n"
        "this run  600 rows with 610 requests in 1m00s (10 rows/s)\n"
        "paid      600 rows once\n"
        "ended     every row is done"
    )


@pytest.mark.parametrize(
    ("change", "said_instead"),
    [
        ({"is_complete": False, "rows_expected": None}, ["rows 1,000 done; the rows of the input were not counted"]),
        ({"is_complete": False, "rows_expected": 1_001}, ["rows 1,000 of 1,001 done, 1 left"]),
        ({"is_complete": False, "rows_expected": 900}, ["rows 1,000 of 900 done, 0 left"]),
        ({"an_error": "nobody failed in all"}, []),
        ({"rows_here": 0, "seconds": 0.0}, ["this run 0 rows with 610 requests in 0.0 s (0 rows/s)"]),
        ({"seconds": 0.0}, ["this run 600 rows with 610 requests in 0.0 s (0 rows/s)"]),
        ({"requests": 0}, ["this run 600 rows with 0 requests in 1m00s (10 rows/s)"]),
        ({"requests": 0, "rows_here": 0}, ["this run nothing was left to do"]),
        (
            {"requests": 0, "rows_here": 0, "is_complete": False, "rows_expected": 1_000},
            ["rows 1,000 of 1,000 done, 0 left", "this run nothing was sent"],
        ),
        ({"set_aside": {"total_tokens": 0, "cost": None}}, []),
        (
            {"set_aside": {"total_tokens": 1_200, "cost": None}},
            ["set aside 1,200 tokens for answers that no row uses now; these count towards max_cost"
             " and max_tokens_total"],
        ),
        (
            {"set_aside": {"total_tokens": None, "cost": 2.0}},
            ["set aside 0 tokens and 2.00 USD for answers that no row uses now; these count towards max_cost"
             " and max_tokens_total"],
        ),
        ({"given_up": 2}, ["paid 600 rows once; 2 requests in flight given up, perhaps paid; the next run sends them"
                           " again"]),
        ({"damaged": 3}, ["damaged 3 journal records could not be read; the rows are asked again"]),
        ({"advice": "raise it"}, ["pace raise it"]),
        ({"hint": "the same command goes on"}, ["next the same command goes on"]),
        ({"endpoints": (EndpointUse("a", 5, 5, None),)}, []),
        (
            {"endpoints": (EndpointUse("a", 1_000, 900, None), EndpointUse("b", 5, 0, "a wrong key"))},
            [
                "endpoint a: 900 of 1,000 requests answered",
                "endpoint b: 0 of 5 requests answered; left: a wrong key",
            ],
        ),
        (
            {"totals": {**TOTALS, "possibly_paid_twice": {"timed_out": 1_000, "disconnected": 2}}},
            ["in all runs 1,002 requests possibly twice: 2 after disconnected, 1,000 after timed_out"],
        ),
        (
            {"totals": {**TOTALS, "indeterminate": 1}},
            ["in all runs 1 request in flight when a run ended, outcome unknown"],
        ),
        (
            {"indeterminate": 1, "requests": 0},
            [
                "this run 600 rows with 0 requests in 1m00s (10 rows/s)",
                "paid 600 rows once; 1 request in flight when a run ended, outcome unknown",
            ],
        ),
        ({"is_free": True, "given_up": 2}, [
            "cost none; 1.50 USD at the job's prices if a model had answered",
            "answered 600 rows once; 2 requests in flight given up; the next run sends them again"]),
        (
            {"unfinished": {**NOTHING_LEFT, "rows": 2}},
            ["unfinished 2 rows with answers that need more; tokens so far not reported; these are kept, and count"
             " towards max_cost and max_tokens_total"],
        ),
    ],
)  # fmt: skip
def test_each_incident_has_its_line(change: dict[str, Any], said_instead: list[str]) -> None:
    assert said(replace(DONE, **change)) == set(said_instead)


def test_where_nothing_was_sent_nothing_was_paid() -> None:
    assert "\npaid" not in summary_text(replace(DONE, requests=0))
    assert "left out" not in summary_text(DONE)


def test_what_has_no_place_is_named_and_counted_five_names_at_most() -> None:
    five = {f"c{number}": number + 1_000 for number in range(5)}
    named = "c0 in 1,000 rows, c1 in 1,001 rows, c2 in 1,002 rows, c3 in 1,003 rows, c4 in 1,004 rows"

    assert f"values of {named};" in left_out_text(five)
    assert f"values of {named} and 2 more columns;" in left_out_text({**five, "d": 1, "e": 1})
    assert f"of the arguments, {named} and 1 more:" in members_left_out_text({**five, "d": 1})
    summary = summary_text(replace(DONE, left_out={"a": 1}, left_out_of_arguments={"b": 2}))
    assert "left out  values of a in 1 row;" in summary
    assert "left out  of the arguments, b in 2 rows:" in summary


def test_failures_are_named_with_the_commonest_first() -> None:
    statuses = {"ok": 5, "no_call": 1, "timed_out": 1_000, "refused": 0}

    text = failures_text({"failed": 1_001, "statuses": statuses})

    assert text == "1,001 (1,000 timed_out, 1 no_call)"
    long = replace(DONE, totals={**TOTALS, "failed": 1, "statuses": {"no_call": 1}}, an_error="é" * 300)
    assert summary_text(long).count("é") == 200


@pytest.mark.parametrize(
    ("prompt", "completion", "text"), [(None, 2, "9"), (7, None, "9"), (7, 2, "9 (7 prompt, 2 completion)")]
)
def test_tokens_are_split_where_both_parts_are_known(prompt: int | None, completion: int | None, text: str) -> None:
    assert tokens_text({"total_tokens": 9, "prompt_tokens": prompt, "completion_tokens": completion}) == text


def test_a_cost_that_nobody_knows_is_never_a_number() -> None:
    assert money_text(None) == "no price known"
    assert (money_text(1.0), money_text(0.99999)) == ("1.00 USD", "1.0000 USD")
    assert cost_text({"cost": None, "total_tokens": None}, is_free=False) == "not known"
    assert cost_text({"cost": None, "total_tokens": 5}, is_free=False) == "no price known"
    assert cost_text({"cost": 0.0, "total_tokens": None}, is_free=False) == "0.0000 USD"
    assert (free_text(None), free_text(0.0)) == ("none", "none")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59.9, "59.9 s"), (60, "1m00s"), (3_599, "59m59s"), (3_600, "1h00m"), (7_199, "1h59m"), (90_000, "25h00m")],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_line_of_a_run_without_incidents_is_short() -> None:
    assert snapshot_text(SEEN) == "10 rows, 2.5 rows/s, 7 tokens"
    assert snapshot_text(replace(SEEN, elapsed_s=0.0)) == "10 rows, 0.0 rows/s, 7 tokens"


@pytest.mark.parametrize(
    ("change", "extra"),
    [
        ({"cost": 0.0}, ["0.0000 USD"]),
        ({"failed": 1}, ["1 failed"]),
        ({"retries_waiting": 1}, ["1 to retry"]),
        ({"eta_s": 1.0}, ["1.0 s left"]),
        ({"eta_s": 0.9}, []),
        ({"eta_s": 9.0, "is_stopping": True}, ["stopping, 1 in flight"]),
        ({"oldest_age_s": 10.0}, ["oldest request 10.0 s"]),
        ({"oldest_age_s": 9.9}, []),
        ({"down": "x" * 100, "pause_s": 2.0}, [f"the endpoint is down ({'x' * 80}), next try in 2 s"]),
        ({"down": "x", "is_stopping": True}, ["stopping, 1 in flight"]),
    ],
)
def test_what_is_worth_saying_is_said_beside_rows_and_rate(change: dict[str, Any], extra: list[str]) -> None:
    assert extras(replace(SEEN, **change)) == ["7 tokens", *extra]
