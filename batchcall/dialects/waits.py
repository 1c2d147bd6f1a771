"""How long an endpoint asks to wait: in headers, in fields of its error, in its sentence. Seconds throughout.

There are two kinds of words. A wait is asked for: Retry-After, RetryInfo, "try again in 20s". A renewal is the
moment when a limit is whole again: it counts only where no wait is asked for, since answers name several of them.

- Waits in several places: the longest counts. Of two headers the more exact one, in milliseconds, does.
- A sentence on a renewal is about the limit that was met; fields and headers list all limits. So of fields the nearest
  counts, and of headers only those whose limit is used up: of these the longest, as all of them must be whole again.
- A wait of 0 is a wait: the endpoint says that it may be tried at once. A renewal in the past says nothing.
- A number beyond 1e9 is an epoch, in seconds or milliseconds: nobody waits 30 years.
- What is not a number, a duration or a moment is as good as absent, and so are NaN and infinity.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from batchcall.base import Json, late_regex
from batchcall.dialects.moments import BEIJING, CLOCK, DATED, moment_in, seconds_until, since_epoch_s

LONGEST_WAIT_S = 900.0  # beyond it nobody waits: the run stops and reports until when

# Header and the seconds in its unit; the first that can be read counts. LiteLLM renames what it passes on.
WAIT_HEADERS: Mapping[str, float] = {
    "retry-after-ms": 0.001,
    "retry-after": 1.0,
    "llm_provider-retry-after": 1.0,
}


def asked_wait_s(headers: Mapping[str, str], documents: list[Json], text: str, *, now_s: float) -> float | None:
    """The wait that was asked for, not below 0 and finite, but not yet clamped; None where none was.

    Where header, field and sentence differ, the longest counts: a gateway puts its own short Retry-After on an answer
    that says the vendor's real one, and whoever comes too early is refused again, which some vendors count.
    """
    in_headers = (
        read_length_s(headers[name], unit_s, now_s=now_s) for name, unit_s in WAIT_HEADERS.items() if name in headers
    )
    waits = [next((wait_s for wait_s in in_headers if wait_s is not None), None)]
    for name, value in fields_of(documents):
        if (found := _WAIT_FIELD.fullmatch(name)) and name != "retry":  # how often, rather than when
            waits.append(read_length_s(value, 0.001 if found["ms"] else 1.0, now_s=now_s))
    patterns = (_TRY_AGAIN, _TRY_AGAIN_CHINESE, _TRY_AGAIN_AFTER)
    if said := next(filter(None, (pattern.search(text) for pattern in patterns)), None):
        waits.append(_read_said(said))
    elif said := _BARE_RETRY.search(text):
        waits.append(float(said[1]))
    return max((wait_s for wait_s in waits if wait_s is not None), default=None)


def renewal_wait_s(headers: Mapping[str, str], documents: list[Json], text: str, *, now_s: float) -> float | None:
    """The wait until the limit that was met is whole again, above 0; None where nothing says so.

    The sentence is about the limit that was met; a body may list several, and the nearest counts: waiting too
    briefly costs a request, while a wait that is too long ends the run. Headers say which limits are used up.
    """
    renewal_s: float | None = None
    if said := _RENEWS_IN.search(text):
        renewal_s = _read_said(said)
    elif said := _RENEWS_AT.search(text) or _RENEWS_AT_CHINESE.search(text):
        until_s = moment_in(said, now_s=now_s, zone=BEIJING if _CHINESE.search(text) else UTC)
        renewal_s = until_s if until_s is not None and until_s > 0 else None
    if renewal_s is None:
        fields = fields_of(documents)
        is_left = any(name.endswith("ratelimitremaining") and str(value).strip() != "0" for name, value in fields)
        renewals = [
            _renewal_s(value, 0.001 if found["ms"] else 1.0, now_s=now_s)
            for name, value in fields
            if (found := _RENEWAL_FIELD.fullmatch(name)) and not (is_left and name.endswith("ratelimitreset"))
        ]
        renewal_s = min(filter(None, renewals), default=None)
    return renewal_s or max(filter(None, _exhausted_waits(headers, now_s=now_s)), default=None)


def read_duration(text: str) -> float | None:
    """The seconds in "6m0s", "1m26.4s", "373ms", "20 seconds", "5 分钟", "12:14:05"; None where it is not one."""
    text = text.strip().removeprefix("in ")
    if clock := _CLOCK.fullmatch(text):
        days, hours, minutes, seconds = (int(amount or 0) for amount in clock.groups())
        return days * 86400.0 + hours * 3600.0 + minutes * 60.0 + seconds
    if not _DURATION.fullmatch(text):
        return None
    return sum(
        float(amount) * next(unit_s for unit_s, *names in _UNITS if re.fullmatch("|".join(names), unit, re.I))
        for amount, unit in _AMOUNT.findall(text)
    )


def say_wait(wait_s: float, *, now_s: float) -> str:
    """A wait for a person: "3 h 5 min, until 2024-05-01 12:00 UTC"."""
    minutes = math.ceil(min(wait_s, _LONGEST_SAYABLE_S) / 60)
    hours, rest = divmod(minutes, 60)
    length = f"{hours:,} h {rest} min" if hours else f"{rest} min"
    return f"{length}, until {datetime.fromtimestamp(now_s + minutes * 60, UTC):%Y-%m-%d %H:%M} UTC"


_LONGEST_SAYABLE_S = 100 * 365 * 86400.0

# Durations

# Seconds, and how they are called in Latin letters, where another letter makes another word, and in others.
_UNITS = (
    (0.001, "ms|milliseconds?", "毫秒|ミリ秒"),
    (1.0, "s|secs?|seconds?|sekunden?|secondes?|segundos?", "秒钟?|초"),
    (60.0, "m|mins?|minutes?|minuten|minutos?", "分[钟鐘間]?|분"),
    (3600.0, "h|hrs?|hours?|stunden?|heures?|horas?", "小[时時]|時間|시간"),
    (86400.0, "d|days?|tage?n?|jours?|d[ií]as?", "天|日間"),
)
_LATIN = "|".join(latin for _, latin, _ in _UNITS)
_OTHERS = "|".join(other for _, _, other in _UNITS)
_AMOUNT = late_regex(rf"(\d{{1,9}}(?:\.\d{{1,9}})?) ?((?:{_LATIN})(?![a-zà-ÿ])|{_OTHERS})", re.I)
_DURATION = late_regex(rf"(?:{_AMOUNT.pattern}(?:[ ,]|and )*)+", re.I)
_CLOCK = late_regex(r"(?:(\d{1,3})\.)?(\d{1,3}):([0-5]\d):([0-5]\d)(?:\.\d{1,9})?")  # Azure API Management: "12:14:05"


# Headers


# Headers that name one limit, the one that was met: OpenRouter and many relays, the IETF's draft, LiteLLM.
_SINGLE_RESETS: Mapping[str, str] = {
    "x-ratelimit-reset": "x-ratelimit-remaining",
    "x-rate-limit-reset": "x-rate-limit-remaining",
    "ratelimit-reset": "ratelimit-remaining",
}


def _exhausted_waits(headers: Mapping[str, str], *, now_s: float) -> Iterator[float | None]:
    """The wait until each used-up limit is whole again; every answer names all limits."""
    for name, reset in headers.items():
        if name in _SINGLE_RESETS:
            if headers.get(_SINGLE_RESETS[name], "0").strip() in ("0", "0.0"):
                yield _renewal_s(reset, now_s=now_s)
        elif "-remaining" in name and headers[name].strip() == "0":
            yield _renewal_s(headers.get(name.replace("-remaining", "-reset"), ""), now_s=now_s)
        elif name.endswith("-status") and reset.strip() == "rejected":  # Anthropic's subscriptions
            yield _renewal_s(headers.get(name.removesuffix("status") + "reset", ""), now_s=now_s)
        elif name == "ratelimit" and _NOTHING_LEFT.search(reset) and (said := _RESET_IN_LIST.search(reset)):
            yield _renewal_s(said[1], now_s=now_s)


# The IETF's draft in one header: `"daily";r=0;t=21600`, before that `limit=100, remaining=0, reset=21600`.
_NOTHING_LEFT = late_regex(r"\b(?:r|remaining)=0\b")
_RESET_IN_LIST = late_regex(r"\b(?:t|reset)=(\d{1,12})\b")


# Fields of an error, wherever they stand in it, by their form, since every gateway has its own. Names without case, "-"
# and "_". Waits: "retry_after", "wait_time_seconds", "retryDelay" (google.rpc.RetryInfo), "estimated_time".
_WAIT_FIELD = late_regex(
    r"(?:(?:retry|wait|cooldown|backoff)(?:after|in|delay|time|for|period|remaining)*"
    r"|estimatedtime)(?:(?P<ms>ms|millis|milliseconds)|s|secs?|seconds)?"
)
# Renewals: "resets_at", "quotaResetTimeStamp", "X-RateLimit-Reset", "nextFlushTime" (Zhipu), "blocked_until"
_RENEWAL_FIELD = late_regex(
    r"[a-z]{0,30}(?:reset|renew|refresh|replenish|flush)(?:s|al|ed|es)?(?:at|in|on|time|date|after|delay|stamp|timestamp|epoch)*"
    r"(?:(?P<ms>ms|millis|milliseconds)|s|secs?|seconds)?"
    r"|(?:next)?(?:retry|available|blocked|limited|banned|locked|suspended)(?:retry)?(?:at|until|from)"
)
_MAX_DEPTH, _MAX_FIELDS = 6, 200  # of an error that are looked at


def fields_of(documents: list[Json]) -> list[tuple[str, Any]]:
    """The named values of an error, whatever they stand in; another's error that is put in as text is read too."""
    found: list[tuple[str, Any]] = []
    _collect(documents, found, 0)
    return found


def _collect(value: Any, found: list[tuple[str, Any]], depth: int) -> None:
    if depth > _MAX_DEPTH or len(found) >= _MAX_FIELDS:
        return
    if isinstance(value, str) and value.lstrip().startswith("{") and len(value) < 20_000:
        try:
            value = orjson.loads(value)
        except ValueError:
            return
    if isinstance(value, list):
        for each in value[:20]:
            _collect(each, found, depth + 1)
    elif isinstance(value, dict):
        for name, each in list(value.items())[:_MAX_FIELDS]:
            if isinstance(each, (int, float, str)):
                found.append((name.lower().replace("-", "").replace("_", ""), each))
            _collect(each, found, depth + 1)


def read_length_s(value: Any, unit_s: float = 1.0, *, now_s: float) -> float | None:
    """The seconds that a value says, not below 0: a number, a duration, or a moment, from which it is counted."""
    try:
        number = None if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        number = None
    if number is not None:
        if not math.isfinite(number):
            return None
        return max(0.0, since_epoch_s(number) - now_s if number > 1e9 and unit_s == 1.0 else number * unit_s)
    if not isinstance(value, str):
        return None
    wait_s = read_duration(value)
    if wait_s is None:
        wait_s = seconds_until(value, now_s=now_s)
    return None if wait_s is None else max(0.0, wait_s)


def _renewal_s(value: Any, unit_s: float = 1.0, *, now_s: float) -> float | None:
    return read_length_s(value, unit_s, now_s=now_s) or None  # one that is over says nothing


# Sentences

# "Please try again in 6m0s" (OpenAI, Groq), "Please retry after 20 seconds" (Azure), "Please retry in 38.5s" (Gemini),
# "Please wait 6 seconds before retrying" (GitHub Models), "please try again after 1 seconds" (Moonshot)
_TRY_AGAIN = late_regex(
    r"\b(?:(?:try again|retry) (?:in|after)(?: about| approximately)?|wait(?: for)?(?: about| at least| another)?"
    # "versuchen Sie es in 20 Sekunden erneut", "réessayez dans 20 secondes", "inténtelo de nuevo en 20 segundos"
    r"|versuche\w*(?: \w+){0,3} in|warten? Sie|r[ée]essaye[zr] dans|(?:int[eé]nt\w*|tente)(?: \w+){0,2} e[nm])"
    rf" ({_DURATION.pattern})",
    re.I,
)
_BARE_RETRY = late_regex(r"\bretry[- ]after:? (\d{1,7}(?:\.\d{1,3})?)(?=[.,;)\s]*$|[.,;)] )", re.I)
# "请在 6 秒后重试", "请等待30秒后再试"
_TRY_AGAIN_CHINESE = late_regex(rf"(?:请|等待|稍等|于|在)\s*({_DURATION.pattern})\s*(?:之?后|再|重试)", re.I)
# "6秒後に再試行してください", "20초 후 다시 시도하세요", "30 秒后重试"
_TRY_AGAIN_AFTER = late_regex(rf"({_DURATION.pattern})\s*(?:之?后|後に?|후에?|뒤에?)\s*(?:再|重|もう|다시)")
_IS_WHOLE = r"resets?|renews?|renewed|refresh(?:es|ed)?|replenish(?:es|ed)?|available|regain access"
_RENEWS = rf"(?:{_IS_WHOLE}|retry|try again)"
# "Your quota will reset after 2h7m23s" (Google), "Resets in 146h54m51s"
_RENEWS_IN = late_regex(
    rf"\b(?:{_IS_WHOLE})\b(?: again)? (?:in|after)(?: about)? ({_CLOCK.pattern}|{_DURATION.pattern})", re.I
)
# "Limit resets at: 2025-09-19 12:00:00 UTC" (LiteLLM), "You will regain access on 2024-06-01 at 00:00 UTC" (Anthropic)
_RENEWS_AT = late_regex(
    rf"(?:\b{_RENEWS}\b(?:(?!midnight|noon)[^.\n\d]){{0,40}}?|limit reached\|){DATED}"
    # "Your limit resets at midnight UTC", "You've hit your limit · resets 8pm (America/New_York)"
    rf"|\b{_RENEWS}\b(?: again| daily| every day| each day| by| at|:){{0,3}} {CLOCK}",
    re.I,
)
# "您的限额将在 2026-06-24 01:20:15 重置" (Zhipu)
_RENEWS_AT_CHINESE = late_regex(rf"{DATED}\s*(?:后|自动)?(?:重置|恢复|刷新|更新|重试)", re.I)
_CHINESE = late_regex("[\u4e00-\u9fff]")


def _read_said(found: re.Match[str]) -> float | None:
    """The duration that a sentence names, without the comma or the "and" that it goes on with."""
    return read_duration(re.sub(r"(?:[ ,]|and )+$", "", found[1]))
