"""What an endpoint's headers and error details say of its limits. Three families; only those of a minute count."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from batchcall.dialects.waits import read_duration
from batchcall.records import RateLimits

# Limit, and when it is whole again: that tells a day's limit from a minute's. The first that is there counts.
# fmt: off
_REQUESTS = (
    ("x-ratelimit-limit-requests",         "x-ratelimit-reset-requests"),        # OpenAI, Azure, Groq (a day's), vLLM's
    ("x-ratelimit-limit-requests-minute",  "x-ratelimit-reset-requests-minute"), # Cerebras
    ("x-ratelimit-limit-req-minute",       ""),                                  # Mistral
    ("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-reset"),
)
_TOKENS = (
    ("x-ratelimit-limit-tokens",           "x-ratelimit-reset-tokens"),
    ("x-ratelimit-limit-tokens-minute",    "x-ratelimit-reset-tokens-minute"),
    ("anthropic-ratelimit-tokens-limit",   "anthropic-ratelimit-tokens-reset"),
)
# fmt: on
_RELAYED = ("", "llm_provider-")  # LiteLLM renames what it passes on
_MINUTE_S = 62.0  # whatever takes longer to be whole again is no minute's limit
_EPOCH_S = 1e9  # a number beyond it is a moment, not a length
_SENSIBLE = 1e10


def read_limits(headers: Mapping[str, str], *, now_s: float) -> RateLimits:
    """The limits a minute that headers (names in lower case) tell; `now_s` is seconds since the epoch."""
    return RateLimits(_first(headers, _REQUESTS, now_s), _first(headers, _TOKENS, now_s))


def quota_limits(details: list[Any]) -> RateLimits | None:
    """The quota that Gemini says was met: google.rpc.QuotaFailure."""
    requests = tokens = None
    for detail in details:
        violations = detail.get("violations") if isinstance(detail, dict) else None
        for violation in violations if isinstance(violations, list) else ():
            if not isinstance(violation, dict):
                continue
            name, value = str(violation.get("quotaId")), _number(str(violation.get("quotaValue")))
            if "PerMinute" not in name or value is None:
                continue
            if "Token" in name:
                tokens = value
            else:
                requests = value
    return None if requests is None and tokens is None else RateLimits(requests, tokens)


def _first(headers: Mapping[str, str], family: tuple[tuple[str, str], ...], now_s: float) -> float | None:
    for limit_name, reset_name in family:
        for prefix in _RELAYED:
            limit = _number(headers.get(prefix + limit_name, ""))
            if limit is not None and _is_of_a_minute(headers.get(prefix + reset_name, ""), now_s):
                return limit
    return None


def _number(text: str) -> float | None:
    """A limit; None for what is none: empty, -1 (Azure), 0, infinite."""
    plain = text.strip().replace(",", "")
    if not re.fullmatch(r"\d{1,12}(\.\d{1,6})?", plain):
        return None
    value = float(plain)
    return value if 1 <= value <= _SENSIBLE else None


def _is_of_a_minute(reset: str, now_s: float) -> bool:
    left_s = _reset_s(reset.strip(), now_s)
    return left_s is None or left_s <= _MINUTE_S


def _reset_s(text: str, now_s: float) -> float | None:
    """Seconds until a limit is whole again: "6m0s", "20ms", plain seconds, an epoch, RFC 3339."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        return _until(text, now_s) if text[:4].isdigit() and "-" in text else read_duration(text)
    if not math.isfinite(value):
        return None
    if value > 1000 * _EPOCH_S:
        value /= 1000
    return value - now_s if value > _EPOCH_S else value


def _until(text: str, now_s: float) -> float | None:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s
