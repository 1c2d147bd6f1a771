"""The numbers in the tables of errors, waits, zones and caps, each at the last value that counts and the first that
does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from batchcall.base.records import FailureKind, HttpResponse
from batchcall.dialects import DIALECTS
from batchcall.dialects.anthropic.turns import _use
from batchcall.dialects.complaint import _as_code, _is_status
from batchcall.dialects.moments import seconds_until, zone_called
from batchcall.dialects.quotas import likely_renewal_s, span_of_headers, span_of_words

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)  # a Monday
NOON_S = NOON.timestamp()


@pytest.mark.parametrize(
    ("zone", "hours"),
    [
        *[(name, 0) for name in ("Z", "UTC", "GMT", "Coordinated Universal Time", "Greenwich Mean Time")],
        *[(name, -8) for name in ("PT", "Pacific", "Pacific Time", "Pacific Standard Time", "PST")],
        *[(name, -5) for name in ("ET", "Eastern Time", "EST")],
        *[(name, 8) for name in ("Beijing time", "China Standard Time", "SGT", "HKT")],
        *[("PDT", -7), ("MST", -7), ("EDT", -4), ("CET", 1), ("CEST", 2), ("JST", 9), ("KST", 9)],
        *[("UTC+2", 2), ("GMT -03:30", -3.5), ("+0530", 5.5), ("UTC+14:59", 14 + 59 / 60)],
        *[("UTC+15", None), ("IST", None), ("Nowhere/Town", None)],
    ],
)
def test_a_zone_is_so_many_hours_ahead(zone: str, hours: float | None) -> None:
    place = zone_called(zone)

    offset = place.utcoffset(NOON.replace(tzinfo=None)) if place is not None else None
    assert (offset.total_seconds() / 3600 if offset is not None else None) == hours


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("2026-11-30T12:00:05+00:00", 5.0),
        ("2026-11-30", -12 * 3600.0),
        ("20261130", None),
        ("Mon, 30 Nov 2026 12:00:05 GMT", 5.0),
        ("Monday, 30-Nov-26 12:00:05 GMT", 5.0),
        ("Mon Nov 30 12:00:05 2026", 5.0),
        ("Mon, 30 Nov 2026 12:00:05 XYZ", None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_moment_is_read_in_the_forms_of_dates(moment: str, seconds: float | None) -> None:
    assert seconds_until(moment, now_s=NOON_S) == seconds


@pytest.mark.parametrize(
    ("words", "span"),
    [
        ("You have reached the limit of 50 per hour", "hour"),
        ("limit of 50 per day exceeded", "day"),
        ("每周/每月次数已用完", "month"),
        ("每月/每周次数已用完", "month"),
        ("limit of 50 requests per 3599s", None),
        ("limit of 50 requests per 3600s", "hour"),
        ("limit of 50 requests per 86399s", "hour"),
        ("limit of 50 requests per 86400s", "day"),
        ("limit of 50 requests per 604799s", "day"),
        ("limit of 50 requests per 604800s", "week"),
        ("limit of 50 requests per 2419199s", "week"),
        ("limit of 50 requests per 2419200s", "month"),
        ("50 per day are in the plan", None),
        ("limit of 50 per minute and 500 per day exceeded", None),
        ("All is well. Your limit per day is used up.", "day"),
    ],
)
def test_a_sentence_about_a_limit_names_its_span(words: str, span: str | None) -> None:
    assert span_of_words(words) == span


@pytest.mark.parametrize(("left", "span"), [("0", "day"), (" 0 ", "day"), ("0.0", "day"), ("1", None), ("", None)])
def test_a_limit_in_a_header_is_used_up_at_zero(left: str, span: str | None) -> None:
    assert span_of_headers({"x-ratelimit-remaining-requests-day": left}) == span
    assert span_of_headers({"x-ratelimit-limit-requests-day": left}) is None


@pytest.mark.parametrize(
    ("span", "moment"),
    [
        ("hour", datetime(2026, 11, 30, 13, tzinfo=UTC)),
        ("day", datetime(2026, 12, 1, tzinfo=UTC)),
        ("week", datetime(2026, 12, 7, tzinfo=UTC)),
        ("month", datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_quota_is_most_likely_renewed_at_the_turn_of_its_span(span: str, moment: datetime) -> None:
    assert likely_renewal_s(span, now_s=NOON_S) == moment.timestamp()


@pytest.mark.parametrize(("wait_s", "kind"), [("900", FailureKind.RATE_LIMITED), ("901", FailureKind.LONG_WAIT)])
@pytest.mark.parametrize("protocol", DIALECTS)
def test_a_quarter_of_an_hour_is_waited_for_and_no_longer(protocol: str, wait_s: str, kind: FailureKind) -> None:
    body = json.dumps({"error": {"message": "slow down"}}).encode()

    failure: Any = DIALECTS[protocol].decode(HttpResponse(429, {"retry-after": wait_s}, body), now_s=NOON_S)

    assert failure.kind is kind
    assert (failure.quota is not None) is (kind is FailureKind.LONG_WAIT)


@pytest.mark.parametrize(
    ("code", "is_status"),
    [("399", False), ("400", True), ("599", True), ("600", False), ("40", False), ("4000", False)],
)
def test_a_code_is_a_status_between_400_and_599(code: str, is_status: bool) -> None:
    assert _is_status(code) is is_status


@pytest.mark.parametrize(
    ("written", "code"),
    [
        (5, "5"),
        (999_999_999, "999999999"),
        (-(10**9), ""),
        (10**9, ""),
        (True, ""),
        (1.5, ""),
        (" a ", "a"),
        (None, ""),
    ],
)
def test_a_code_is_a_short_text_or_number(written: Any, code: str) -> None:
    assert _as_code(written) == code


@pytest.mark.parametrize("function", ["f", None, 5, ["f"]])
def test_a_call_of_what_is_no_function_has_no_name(function: Any) -> None:
    assert _use(function, "c") == {"type": "tool_use", "id": "c", "name": None, "input": {}}
