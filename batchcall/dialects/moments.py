"""Moments as endpoints write them: RFC 3339 and 2822, an epoch, "3pm (Europe/Berlin)", "midnight Pacific time".

A form for machines without a zone is UTC. A clock for people needs a zone: where none is named, or one that nobody here
knows or that has two meanings (CST, IST), there is no moment rather than a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

from batchcall.base import late_regex

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?:{'|'.join(_MONTHS)})[a-z]*\.?"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\b,?"
_ISO = r"\d{4}-\d\d-\d\d"
_RFC_2822 = rf"(?:{_DAY} )?\d\d? {_MONTH} \d{{4}}"
_DATE = rf"{_ISO}|{_RFC_2822}|(?:{_DAY} )?{_MONTH} \d\d?(?:st|nd|rd|th)?(?:,? \d{{4}})?|today|tomorrow"
_TIME = r"\d\d?:\d\d(?::\d\d(?:\.\d{1,9})?)?(?: ?[ap]\.?m\b\.?)?|\d\d? ?[ap]\.?m\b\.?|midnight\b|noon\b"
_ZONE = (
    r"(?-i:Z\b|(?:UTC|GMT)? ?[+-]\d\d?(?::?\d\d)?\b|[A-Z][A-Za-z]+(?:/[A-Za-z0-9_+-]+)+|[A-Z]{2,5}\b)"
    r"|(?:[a-z]+ ){1,3}time\b|(?:Pacific|Eastern|Beijing)\b"
)
# For longer patterns, whose match `moment_in` reads.
DATED = (
    rf"(?:\b(?P<epoch>\d{{10}}(?:\d{{3}})?(?:\.\d{{1,9}})?)\b|\b(?P<date>{_DATE})"
    rf"(?:(?:T|,? at |, | )(?P<time>{_TIME}))?(?: ?\(?(?P<zone>{_ZONE}))?)"
)
# The next time that a clock shows it, unless a day is named: it may be another one.
_OTHER_DAY = rf"(?:on|of|next|today|tomorrow|(?:every|each) (?!day))\b|{_DAY}|{_MONTH} \d"
CLOCK = rf"(?P<clock>{_TIME})(?: ?\(?(?P<clock_zone>{_ZONE}))?+(?!\)?,? (?:{_OTHER_DAY}))"
# JavaScript and Go give an offset a name: "GMT+0100 (CET)", "+0800 CST".
_ALONE = late_regex(rf"{DATED}(?(zone)\)?(?: \([^()]*\)| [A-Z]{{3,5}})?)|{CLOCK}\)?", re.I)


def seconds_until(moment: str, *, now_s: float) -> float | None:
    """Seconds until a moment. Negative in the past; None where it is not a moment."""
    text = moment.strip()
    if found := _ALONE.fullmatch(text):
        return moment_in(found, now_s=now_s)
    parsed: datetime | None = None
    with suppress(ValueError):
        parsed = datetime.fromisoformat(text) if len(text) >= _SHORTEST_DATE else None
    if parsed is None:
        with suppress(ValueError, TypeError, IndexError, OverflowError):
            parsed = parsedate_to_datetime(text)  # also the older forms of HTTP dates
        # One that ends in a zone which is not known has no zone once parsed: UTC would be a guess.
        if parsed is None or (parsed.tzinfo is None and not text[-1].isdigit()):
            return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() - now_s


def moment_in(found: re.Match[str], *, now_s: float, zone: tzinfo = UTC) -> float | None:
    """Seconds until the moment that a pattern of `DATED` or `CLOCK` found. `zone` is that of forms for machines."""
    said = found.groupdict()
    if epoch := said.get("epoch"):
        return since_epoch_s(float(epoch)) - now_s
    date, time = said.get("date"), said.get("time") or said.get("clock")
    named = said.get("zone") or said.get("clock_zone")
    is_of_machine = _OF_MACHINE.fullmatch(f"{date} {time or ''}") is not None
    place = zone_called(named) if named else zone if is_of_machine else None
    if place is None or not (time or is_of_machine):
        return None
    try:
        return _next(date, time or "midnight", datetime.fromtimestamp(now_s, place)).timestamp() - now_s
    except (ValueError, OverflowError):
        return None


def since_epoch_s(value: float) -> float:
    """Of an epoch in s or ms."""
    return value / 1000 if value > 1e12 else value


def zone_called(name: str) -> tzinfo | None:
    """The zone of a name; None where it is not known here, or has several meanings."""
    if offset := _OFFSET.fullmatch(name):
        ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        return timezone(-ahead if offset[1] == "-" else ahead) if ahead < timedelta(hours=15) else None
    if "/" in name:
        return _in_database(name)
    return _ZONES.get(" ".join(word for word in name.lower().split() if word not in ("standard", "time")))


def _in_database(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, no name at all, or a folder of names; some systems have none
        return None


PACIFIC: tzinfo = _in_database("America/Los_Angeles") or timezone(timedelta(hours=-8))
BEIJING = timezone(timedelta(hours=8))
_ZONES: Mapping[str, tzinfo | None] = {
    **dict.fromkeys(("z", "utc", "gmt", "coordinated universal", "greenwich mean"), UTC),
    **dict.fromkeys(("pt", "pacific"), PACIFIC),
    **dict.fromkeys(("et", "eastern"), _in_database("America/New_York")),
    **dict.fromkeys(("beijing", "china", "sgt", "hkt"), BEIJING),
    **{name: timezone(timedelta(hours=hours)) for name, hours in (
        ("pst", -8), ("pdt", -7), ("mst", -7), ("est", -5), ("edt", -4), ("cet", 1), ("cest", 2), ("jst", 9), ("kst", 9)
    )},
}  # fmt: skip
_OFFSET = late_regex(r"(?:UTC|GMT)? ?([+-])(\d\d?):?(\d\d)?")
_OF_MACHINE = late_regex(rf"(?:{_ISO} (?:\d\d?:[\d:.]+)?|{_RFC_2822} \d\d?:[\d:.]+)", re.I)
_CLOCK_PARTS = late_regex(r"(\d\d?)(?::(\d\d))?(?::(\d\d(?:\.\d+)?))?(?: ?([ap])\.?m\.?)?", re.I)
_SOON = timedelta(days=62)
_SHORTEST_DATE = 10  # characters: Python also reads "20240501" as a date, which is a number here


def _next(date: str | None, time: str, now: datetime) -> datetime:
    """The moment by the clock of the place where it is `now`. Raises ValueError, OverflowError."""
    parts = _CLOCK_PARTS.fullmatch({"midnight": "0:00", "noon": "12:00"}.get(time.lower(), time.lower()))
    if parts is None or (parts[4] and not 1 <= int(parts[1]) <= 12):
        raise ValueError(time)
    hour = int(parts[1]) % 12 + 12 * (parts[4] == "p") if parts[4] else int(parts[1])
    clock = now.replace(hour=hour, minute=int(parts[2] or 0), second=0, microsecond=0)
    clock += timedelta(seconds=float(parts[3] or 0))  # with its fraction
    if date is None:
        return clock if clock > now else clock + timedelta(days=1)
    if date.lower() in ("today", "tomorrow"):
        return clock + timedelta(days=date.lower() == "tomorrow")
    numbers = [int(number) for number in re.findall(r"\d+", date)]
    year: int | None
    if len(numbers) == 3:
        year, month, day = numbers[0], numbers[1], numbers[2]
    else:
        words = re.findall("[a-z]+", date.lower())
        month = next(_MONTHS.index(word[:3]) + 1 for word in words if word[:3] in _MONTHS)
        year, day = next((number for number in numbers if number > 31), None), numbers[0]
    moment = clock.replace(year=year or now.year, month=month, day=day)
    # Without a year it is the next such day, where that is soon: in December, "Jan 3" is not eleven months ago.
    is_next_year = year is None and moment < now and moment.replace(year=now.year + 1) - now < _SOON
    return moment.replace(year=now.year + 1) if is_next_year else moment
