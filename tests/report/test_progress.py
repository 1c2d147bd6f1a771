"""What a person sees: a bar on a terminal, a line now and then without one, nothing when quiet."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from msgspec.structs import replace

from batchcall.base.errors import ExitCode
from batchcall.report import progress
from batchcall.report.progress import Bar, Lines, Silence, open_progress
from batchcall.report.snapshot import Snapshot, Summary
from batchcall.report.text import duration_text, snapshot_text, summary_text

NOW = Snapshot(
    rows=1_250,
    rows_expected=10_000,
    rows_here=250,
    failed=3,
    tokens=98_765,
    cost=1.5,
    requests=260,
    in_flight=8,
    waits_for="requests",
    pause_s=0.0,
    retries_waiting=2,
    down="",
    eta_s=350.0,
    oldest_age_s=12.0,
    elapsed_s=10.0,
    is_stopping=False,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_says_rows_rate_tokens_money_failures_and_what_it_waits_for() -> None:
    assert snapshot_text(NOW) == (
        "1,250 of 10,000 rows, 25.0 rows/s, 98,765 tokens, 1.50 USD, 3 failed, bound by requests,"
        " 2 to retry, 5m50s left, oldest request 12.0 s"
    )


def test_a_stopping_run_says_what_it_still_waits_for() -> None:
    assert "stopping, 8 in flight" in snapshot_text(replace(NOW, is_stopping=True))


def test_a_pause_and_an_outage_say_how_long_they_take() -> None:
    assert "pause of 12 s" in snapshot_text(replace(NOW, waits_for="pause", pause_s=12.3))
    down = snapshot_text(replace(NOW, waits_for="pause", pause_s=12.3, down="no connection to x"))
    assert "the endpoint is down (no connection to x), next try in 12 s" in down


def test_without_a_terminal_a_line_comes_every_30_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    lines = Lines(stream, as_json=False)

    for _ in range(200):  # 100 s, twice a second
        clock[0] += 0.5
        lines.show(NOW)

    assert len(stream.getvalue().splitlines()) == 3


def test_json_lines_are_json() -> None:
    stream = io.StringIO()
    lines = Lines(stream, as_json=True)

    lines.say("a note")

    assert json.loads(stream.getvalue()) == {"event": "note", "note": "a note"}


@pytest.mark.parametrize(
    ("stream", "quiet", "log_format", "kind"),
    [
        (Terminal(), False, "text", Bar),
        (io.StringIO(), False, "text", Lines),
        (Terminal(), False, "json", Lines),
        (Terminal(), True, "text", Silence),
    ],
)
def test_the_progress_fits_where_it_is_shown(stream: Any, quiet: bool, log_format: str, kind: type) -> None:
    with open_progress(quiet=quiet, log_format=log_format, stream=stream) as shown:
        shown.show(NOW)

        assert type(shown) is kind


def test_the_bar_shows_rows_of_the_whole_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a rate of millions of rows a second leaves no room for the rest
    stream = Terminal()
    with Bar(stream) as bar:
        bar.show(NOW)
        bar.show(replace(NOW, rows=2_000, rows_here=1_000))

    assert "2000/10000" in stream.getvalue()
    assert "bound by requests" in stream.getvalue()


def test_control_characters_never_reach_the_terminal() -> None:
    stream = io.StringIO()

    Lines(stream, as_json=False).say("evil \x1b[2J\u202e text\x07")

    assert stream.getvalue() == "batchcall: evil [2J text\n"


def test_a_stream_that_is_gone_does_not_end_the_run() -> None:
    stream = io.StringIO()
    lines = Lines(stream, as_json=False)
    stream.close()

    lines.say("nobody reads this")

    assert stream.closed


@pytest.mark.parametrize(("seconds", "text"), [(1.234, "1.2 s"), (245, "4m05s"), (7_385, "2h03m")])
def test_durations_are_shown_as_people_say_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_summary_names_every_possible_double_payment() -> None:
    totals = {
        "rows": 90,
        "ok": 80,
        "failed": 10,
        "statuses": {"ok": 80, "timed_out": 3, "no_call": 7},
        "attempts": 99,
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "cached_tokens": 0,
        "reasoning_tokens": None,
        "cost": None,
        "possibly_paid_twice": {"timed_out": 3},
        "indeterminate": 4,
    }
    text = summary_text(
        Summary(
            output="out",
            totals=totals,
            unfinished={
                "rows": 3,
                "prompt_tokens": None,
                "completion_tokens": None,
                "total_tokens": 1_234,
                "cost": 0.5,
            },
            is_complete=False,
            rows_expected=100,
            rows_here=90,
            requests=99,
            rows_paid_once=88,
            possibly_paid_twice={"timed_out": 2},
            indeterminate=4,
            given_up=5,
            damaged=0,
            seconds=9.0,
            reason="the deadline of 9 s has passed",
            hint="the same command goes on",
            advice="bound by requests_per_minute for 93% of the run",
            an_error="no answer within 60 s",
            exit_code=ExitCode.STOPPED_EARLY,
        )
    )

    assert "90 of 100 done, 10 left" in text
    assert "10 (7 no_call, 3 timed_out)" in text
    assert "88 rows once; 2 requests possibly twice: 2 after timed_out; 4 requests in flight when a run ended" in text
    assert "5 requests in flight given up, perhaps paid" in text
    assert "3 requests possibly twice: 3 after timed_out; 4 requests in flight" in text
    assert "no price known" in text
    assert "3 rows with answers that need more; tokens so far 1,234, 0.5000 USD" in text
    assert "bound by requests_per_minute for 93%" in text
    assert "no answer within 60 s" in text
