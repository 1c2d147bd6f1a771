"""One sentence at the end: what bound the run, and the key to change."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from batchcall.base.records import HttpRequest, HttpResponse
from batchcall.pipeline.context import RunOptions
from batchcall.report.advice import Bounds, advice_text
from crash_model import Endpoint, new_world, write_first_job


def bounds(**seconds: float) -> Bounds:
    found = Bounds()
    for name, length in seconds.items():
        found.add("" if name == "nothing" else name, length)
    return found


@pytest.mark.parametrize(
    ("seconds", "given", "said"),
    [
        (
            {"requests": 93.0, "nothing": 7.0},
            {"requests_per_minute"},
            "bound by requests_per_minute for 93% of the run",
        ),
        ({"requests": 93.0, "nothing": 7.0}, set(), "set limits.requests_per_minute to start at this rate"),
        ({"tokens": 60.0, "requests": 40.0}, {"tokens_per_minute"}, "raise limits.tokens_per_minute"),
        ({"concurrency": 100.0}, {"concurrency"}, "raise limits.concurrency"),
        ({"open": 100.0}, set(), "the requests that the endpoint accepts at the same time for 100% of the run; set"),
        ({"ramp": 99.0}, {"concurrency"}, "bound by the slow start for 100% of the run"),
        ({"disk": 100.0}, set(), "output.path"),
        ({"input": 100.0}, set(), "input.path"),
        ({"outage": 100.0}, set(), "bound by an endpoint that is down for 100% of the run"),
    ],
)
def test_the_advice_names_what_bound_and_the_key(seconds: dict[str, float], given: set[str], said: str) -> None:
    assert said in advice_text(bounds(**seconds), given=frozenset(given), proxy_cutoffs=None)


def test_a_run_bound_by_nothing_and_a_short_one_get_no_advice() -> None:
    assert advice_text(bounds(nothing=90.0, requests=10.0), given=frozenset(), proxy_cutoffs=None) == ""
    assert advice_text(bounds(requests=2.0), given=frozenset(), proxy_cutoffs=None) == ""


def test_requests_that_die_at_the_same_second_are_laid_to_a_gateway() -> None:
    said = advice_text(bounds(), given=frozenset(), proxy_cutoffs=(8, 60))

    assert "8 requests cut off after 60 s each: a proxy or gateway" in said


class Down(Endpoint):
    """Answers nobody."""

    async def post(self, request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(1.0)
        return HttpResponse(503, {}, b'{"error":{"message":"overloaded","type":"overloaded_error"}}')


def test_an_endpoint_that_is_down_is_not_reported_as_pauses_that_it_asked_for(tmp_path: Path) -> None:
    world = replace(new_world(write_first_job(tmp_path)), open_endpoint=Down)

    summary = world.run(RunOptions(max_outage_s=120))

    assert "bound by an endpoint that is down" in summary.advice
