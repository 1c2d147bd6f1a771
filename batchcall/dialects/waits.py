"""How long an endpoint asks to wait, from its headers, its error details or its own sentence. Seconds throughout."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

LONGEST_WAIT_S = 900.0  # beyond it nobody waits: the run stops and says until when

# Header and the seconds in its unit. LiteLLM renames what it passes on.
WAIT_HEADERS: Mapping[str, float] = {
    "retry-after-ms": 0.001,
    "retry-after": 1.0,
    "llm_provider-retry-after": 1.0,
}
# When a limit of Anthropic's is full again, and what is left of it.
RESET_HEADERS: Mapping[str, str] = {
    f"anthropic-ratelimit-{limit}-reset": f"anthropic-ratelimit-{limit}-remaining"
    for limit in ("requests", "tokens", "input-tokens", "output-tokens")
}


def asked_wait_s(headers: Mapping[str, str], details: list[Any], text: str, *, now_s: float) -> float | None:
    """The wait that was asked for, not below 0 and finite, but not yet clamped; None where none was."""
    for wait_s in _asked_waits(headers, details, text, now_s=now_s):
        if wait_s is not None and math.isfinite(wait_s):
            return max(0.0, wait_s)
    return None


def read_duration(text: str) -> float | None:
    """The seconds in "6m0s", "1m26.4s", "373ms", "20 seconds"; None where it is no duration."""
    if not _DURATION.fullmatch(text.strip()):
        return None
    return sum(float(amount) * _UNIT_S[_unit(unit)] for amount, unit in _AMOUNT.findall(text))


def say_wait(wait_s: float, *, now_s: float) -> str:
    """A wait for a person: "3 h 5 min, until 2024-05-01 12:00 UTC"."""
    minutes = math.ceil(min(wait_s, _LONGEST_SAYABLE_S) / 60)
    until = datetime.fromtimestamp(now_s + minutes * 60, UTC)
    hours, rest = divmod(minutes, 60)
    length = f"{hours} h {rest} min" if hours else f"{rest} min"
    return f"{length}, until {until:%Y-%m-%d %H:%M} UTC"


_UNIT_S: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AMOUNT = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)(?![a-z])", re.I
)
_DURATION = re.compile(rf"(?:{_AMOUNT.pattern}[ ,]*)+", re.I)
# "Please try again in 6m0s" (OpenAI, Groq), "Please retry after 20 seconds" (Azure), "Please retry in 38.5s" (Gemini)
_TRY_AGAIN = re.compile(rf"\b(?:try again|retry) (?:in|after) ({_DURATION.pattern})", re.I)
_LONGEST_SAYABLE_S = 10 * 365 * 86400.0


def _asked_waits(headers: Mapping[str, str], details: list[Any], text: str, *, now_s: float) -> Iterator[float | None]:
    for name, unit_s in WAIT_HEADERS.items():
        if name in headers:
            yield _header_wait_s(headers[name], unit_s, now_s=now_s)
    for detail in details:  # google.rpc.RetryInfo
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            yield read_duration(detail["retryDelay"])
    if said := _TRY_AGAIN.search(text):
        yield read_duration(said[1].rstrip(", "))
    yield max(_exhausted_waits(headers, now_s=now_s), default=None)


def _exhausted_waits(headers: Mapping[str, str], *, now_s: float) -> Iterator[float]:
    """The waits until each limit is full again of which nothing is left: every answer names all of them."""
    for reset, remaining in RESET_HEADERS.items():
        if headers.get(remaining, "").strip() != "0":
            continue
        try:
            moment = datetime.fromisoformat(headers.get(reset, "").strip())
        except ValueError:
            continue
        yield _as_utc(moment).timestamp() - now_s


def _header_wait_s(value: str, unit_s: float, *, now_s: float) -> float | None:
    try:
        return float(value) * unit_s
    except ValueError:
        until_s = _seconds_until(value, now_s=now_s)
        return read_duration(value) if until_s is None else until_s


def _seconds_until(date: str, *, now_s: float) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _as_utc(moment).timestamp() - now_s


def _as_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _unit(written: str) -> str:
    lowered = written.lower()
    return "ms" if lowered == "ms" or lowered.startswith("milli") else lowered[0]
