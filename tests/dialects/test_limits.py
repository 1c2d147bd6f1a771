"""Limits a minute, from the headers of three families and from Gemini's error details."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.dialects.limits import quota_limits, read_limits

NOW_S = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        ({"x-ratelimit-limit-requests": "500", "x-ratelimit-limit-tokens": "30000"}, (500, 30_000)),
        ({"x-ratelimit-limit-requests": "500", "x-ratelimit-reset-requests": "120ms"}, (500, None)),
        ({"x-ratelimit-limit-requests": "14400", "x-ratelimit-reset-requests": "2m59.56s"}, (None, None)),  # a day's
        ({"x-ratelimit-limit-requests": "60", "x-ratelimit-reset-requests": "1800000030"}, (60, None)),
        ({"x-ratelimit-limit-requests": "60", "x-ratelimit-reset-requests": "1800000030000"}, (60, None)),
        ({"x-ratelimit-limit-requests": "-1", "x-ratelimit-limit-tokens": "0"}, (None, None)),  # Azure
        ({"x-ratelimit-limit-tokens-minute": "60,000", "x-ratelimit-limit-requests-day": "900"}, (None, 60_000)),
        ({"x-ratelimit-limit-req-minute": "30"}, (30, None)),  # Mistral
        (
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:30Z",
                "anthropic-ratelimit-tokens-limit": "40000",
            },
            (50, 40_000),
        ),
        (
            {"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-reset": "2027-01-16T08:00:30Z"},
            (None, None),
        ),
        ({"llm_provider-x-ratelimit-limit-requests": "90"}, (90, None)),  # through LiteLLM
        ({"x-ratelimit-limit-requests": "many", "x-ratelimit-limit-tokens": "1e400"}, (None, None)),
        ({"x-ratelimit-limit-requests": "10000000000", "x-ratelimit-limit-tokens": "10000000001"}, (1e10, None)),
        ({"x-ratelimit-limit-requests": "1", "x-ratelimit-limit-tokens": "0.9"}, (1, None)),
        ({}, (None, None)),
    ],
)
def test_limits_are_read_from_headers(headers: Mapping[str, str], limits: tuple[float | None, float | None]) -> None:
    found = read_limits(headers, now_s=NOW_S)

    assert (found.requests_per_minute, found.tokens_per_minute) == limits


def test_a_reset_is_read_only_where_its_limit_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("batchcall.dialects.limits.read_length_s", lambda text, now_s: asked.append(text))

    read_limits({"x-ratelimit-limit-tokens": "9", "x-ratelimit-reset-tokens": "1s", "retry-after": "2"}, now_s=NOW_S)

    assert asked == ["1s"]


@given(value=st.text(max_size=20), reset=st.text(max_size=20))
def test_no_header_raises(value: str, reset: str) -> None:
    read_limits({"x-ratelimit-limit-requests": value, "x-ratelimit-reset-requests": reset}, now_s=NOW_S)


def test_the_quota_that_gemini_names_is_read() -> None:
    violation = {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "quotaValue": "15"}
    daily = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel", "quotaValue": "1500"}

    found = quota_limits([{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [daily, violation]}])

    assert found is not None
    assert (found.requests_per_minute, found.tokens_per_minute) == (15, None)
    assert quota_limits([{"violations": [daily]}, "x", {"violations": 3}]) is None
