"""Moments in the words of endpoints: which are understood, and which are left alone rather than guessed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.dialects import moments
from batchcall.dialects.moments import seconds_until
from batchcall.dialects.waits import read_length_s, renewal_wait_s

WINTER = datetime(2026, 11, 30, 10, tzinfo=UTC).timestamp()
SUMMER = datetime(2026, 7, 1, 10, tzinfo=UTC).timestamp()

# What a sentence says behind "resets", on 2026-11-30 at 10:00 UTC, and when that is in UTC.
SAID = {
    "at 3pm (Europe/Berlin)": "11-30 14:00",
    "8pm (America/New_York)": "12-01 01:00",
    "3:30pm (Asia/Kolkata)": "12-01 10:00",
    "9am (Etc/GMT+5)": "11-30 14:00",
    "at 15:00 Europe/Berlin": "11-30 14:00",
    "at 5:00 PM PST": "12-01 01:00",
    "12 a.m. UTC": "12-01 00:00",
    "at 12:00 PM UTC": "11-30 12:00",
    "at noon GMT": "11-30 12:00",
    "daily at midnight Pacific time": "12-01 08:00",
    "at midnight Eastern Standard Time": "12-01 05:00",
    "at midnight (America/Los_Angeles)": "12-01 08:00",
    "at midnight UTC+2": "11-30 22:00",
    "at midnight UTC every day": "12-01 00:00",
    "at 00:00 Beijing time": "11-30 16:00",
    "tomorrow at 9am PT": "12-01 17:00",
    "Dec 3 at 8pm (Europe/Berlin)": "12-03 19:00",
    "on Dec 1 2026, 12:00 AM UTC": "12-01 00:00",
    "on Jan 2 at 00:00 UTC": "01-02 00:00",
    "at 2026-12-01 00:00 UTC": "12-01 00:00",
    "at 2026-12-01T00:00:00.5Z": "12-01 00:00",
    "at 2026-12-01 00:00:00": "12-01 00:00",
    "on 2026-12-01": "12-01 00:00",
    "at 2026-12-01T00:00:00+05:30": "11-30 18:30",
    "at 2026-12-01 00:00:00 +0800 CST": "11-30 16:00",
    "at 2026-12-01 00:00:00 PST": "12-01 08:00",
    "at 2026-12-01 00:00:00 America/New_York": "12-01 05:00",
    "at Tue, 01 Dec 2026 00:00:00 GMT": "12-01 00:00",
    "at Tue, 1 Dec 2026 00:00:00 +0100": "11-30 23:00",
    "Tue, 01 Dec 2026 00:00 EST": "12-01 05:00",
    "Tue Dec 01 2026 00:00:00 GMT+0100 (CET)": "11-30 23:00",
    "in 4h12m": "11-30 14:12",
    "at 1796083200": "12-01 00:00",
    "at 1796083200000": "12-01 00:00",
}
NOT_UNDERSTOOD = (
    *("at 3pm", "at midnight", "12am", "at 15:00", "at 15:00 local time", "at 3:14 PM (your time)"),
    *("at midnight IST", "at 2026-12-01 00:00:00 (CST)", "at 2026-12-01 00:00:00 server time", "8pm (Nowhere/Town)"),
    *("8pm (America)", "8pm (America/Argentina)", "8pm (../../etc)", "8pm (Europe/..)", "at 13pm UTC", "at 25:00 UTC"),
    *("on Dec 3", "on December 1, 2026", "today", "Monday at 9am PT", "at 3pm UTC on Friday", "at noon PT on Dec 3"),
    *("at 3pm Pacific time tomorrow", "at 3pm UTC tomorrow", "at 2026-02-30 00:00 UTC", "on Nov 2 at 00:00 UTC"),
    *("weekly at midnight UTC", "at midnight UTC every Monday", "at midnight UTC of the 1st", "at 3pm PT each week"),
    *("at midnight UTC+99", "Dec 3rd, 2026 3:14 PM", "at 2026-11-30 3:14 PM", "at 2026-12-01 00:00:00 (Paris time)"),
)


def utc(seconds: float | None, now_s: float = WINTER) -> str | None:
    return None if seconds is None else f"{datetime.fromtimestamp(now_s + seconds, UTC):%m-%d %H:%M}"


@pytest.mark.parametrize("words", SAID)
def test_a_reset_is_read_in_the_zone_that_it_names(words: str) -> None:
    assert utc(renewal_wait_s({}, [], f"Limit reached, resets {words}.", now_s=WINTER)) == SAID[words]
    field = re.sub("^(?:daily )?(?:at|on) | every day$", "", words)
    assert utc(read_length_s(field, now_s=WINTER)) == SAID[words]


@pytest.mark.parametrize("words", NOT_UNDERSTOOD)
def test_a_moment_that_cannot_be_understood_is_none(words: str) -> None:
    assert renewal_wait_s({}, [], f"Limit reached, resets {words}.", now_s=WINTER) is None
    assert not read_length_s(re.sub("^(?:at|on) ", "", words), now_s=WINTER)


def test_a_zone_is_the_one_of_that_day() -> None:
    assert utc(seconds_until("midnight Pacific time", now_s=SUMMER), SUMMER) == "07-02 07:00"
    assert utc(seconds_until("midnight PST", now_s=SUMMER), SUMMER) == "07-02 08:00"
    assert utc(seconds_until("2026-12-01 00:00 Europe/Berlin", now_s=SUMMER), SUMMER) == "11-30 23:00"


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("Sunday, 06-Dec-26 08:49:37 GMT", "12-06 08:49"),
        ("Sun Dec  6 08:49:37 2026", "12-06 08:49"),
        ("20261206T084937Z", "12-06 08:49"),
        ("Sunday, 06-Dec-26 08:49:37 Europe/Berlin", None),
        ("Tue, 01 Dec 2026 00:00:00 CST", None),
    ],
)
def test_the_older_forms_of_http_are_read(written: str, moment: str | None) -> None:
    assert utc(seconds_until(written, now_s=WINTER)) == moment


def test_without_a_database_of_zones_a_named_one_is_not_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(moments, "ZoneInfo", missing)

    assert seconds_until("3pm (Europe/Berlin)", now_s=WINTER) is None
    assert seconds_until("3pm UTC", now_s=WINTER) == 5 * 3600


@given(st.text(alphabet="0123456789-:/+. TZUCpamEuropeBliAcNwYkdyht,()", max_size=40))
def test_no_text_makes_the_reading_raise(text: str) -> None:
    for words in (text, f"resets at {text}"):
        assert isinstance(seconds_until(words, now_s=WINTER), float | None)
        assert isinstance(renewal_wait_s({}, [], words, now_s=WINTER), float | None)
