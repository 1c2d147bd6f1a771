"""Quotas that no pause refills: of an hour, a day, a week, a month. Found by code, by header, or by the sentence.

Words lie: taking "quota" for such a limit has turned passing refusals into fatal stops elsewhere. So a sentence counts
only where it names a span of time itself beside a limit:

- "Rate limit reached on tokens per day (TPD): Limit 100000" counts, as a day.
- "You exceeded your current quota" names no span: it is a rate, or a code says more.
- "Limit 3 per minute and 200 per day" names a minute too: which of them was met is unknown, so the pause is tried.
- "Upgrade to get 1,000 requests per day" advertises, and what is behind such a word does not count.
- "monthly spending limit" is about money, which the tables of failures know.
- "每周/每月使用上限" names two spans: the longest counts, since a shorter wait would be refused again.

Where the endpoint asks for a short pause as well, the pause is tried first.

The wordings are those of OpenAI and Groq ("on tokens per day (TPD): Limit 100000", help.openai.com on rate limits,
console.groq.com/docs/rate-limits), OpenRouter ("free-models-per-day", openrouter.ai/docs/api-reference/limits), GitHub
Models ("Rate limit of 50 per 86400s exceeded for UserByModelByDay", docs.github.com/github-models), Cloudflare ("you
have used up your daily free allocation of 10,000 neurons", developers.cloudflare.com/workers-ai/platform/errors),
Cohere ("limited to 1000 API calls / month", docs.cohere.com/docs/rate-limits), Hugging Face ("exceeded your monthly
included credits", huggingface.co/docs/inference-providers/pricing), Cerebras ("Tokens per day limit exceeded",
inference-docs.cerebras.ai/support/rate-limits), Moonshot ("reached organization TPD rate limit", platform.moonshot.cn),
Zhipu ("已达到每周/每月使用上限", docs.bigmodel.cn/cn/api/api-code), ModelScope ("exceeded today's quota").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from batchcall.base import late_regex
from batchcall.dialects.moments import PACIFIC

HOUR, DAY, WEEK, MONTH = "hour", "day", "week", "month"

# fmt: off
SPAN_BY_CODE: Mapping[str, str] = {  # in lower case
    "entitlement_daily_limit_exceeded": DAY,    # new-api
    "usage_limit_reached":              DAY,    # OpenAI's Codex; it says when it is over
    "1304":                             DAY,    # Zhipu, with the next two, which say when they are over
    "1308":                             HOUR,
    "1310":                             WEEK,
    "3036":                             DAY,    # Cloudflare Workers AI, with the next
    "4006":                             DAY,
}
# Names of codes, of quotas (Google's quotaId) and of headers, and what a field of an error says. A name says which
# limit was met, so it needs no word for a limit beside it.
_IN_NAME = (
    (HOUR,  late_regex(r"per ?hour|hourly|byhour|\b(?:rph|hour|1h|60m|3600s?)\b")),
    (DAY,   late_regex(r"per ?day|daily|byday|\b(?:rpd|tpd|day|1d|24h|86400s?)\b")),
    (WEEK,  late_regex(r"per ?week|weekly|byweek|\b(?:week|7d|1w)\b")),
    (MONTH, late_regex(r"per ?month|monthly|bymonth|\b(?:month|30d)\b")),
)
_OF_MONEY = late_regex(r"spend|billing|payment|purchas|overdue|arrear", re.I)

# A minute or a second, in the languages that endpoints answer in.
_SHORT = late_regex(
    r"per[ _-]?(?:\d+ )?(?:min(?:ute)?|sec(?:ond)?)s?(?![a-z])|/ ?(?:s|sec|second|min|minute)\b"
    r"|\b(?:a|one|each|every) (?:minute|second)\b"
    r"|\b(?:RPM|TPM|RPS|TPS|QPS|QPM|IPM)\b|每分[钟鐘]|每秒|分钟内|分钟级"
    r"|\b(?:pro|par|por|в) (?:minut[eo]?|sekunde|seconde|segundo|минуту|секунду)\b"
    r"|(?<!\d)1 ?[分秒]|毎[分秒]|분당|초당", re.I)
_LONG = (
    (HOUR,  late_regex(r"per[ _-]?(?:\d+ )?hours?(?![a-z])|/ ?(?:h|hr|hour)\b|\bhourly\b|\b(?:an|\d+)[ -]hours?\b"
                       r"|\bRPH\b|ByHour|每小[时時]|\d+ ?小时|\bpro Stunde\b|\bstündlich|\b(?:par heure|por hora)\b"
                       r"|1 ?時間|시간당|в час\b"
                       # The clock of an unknown place: "You've hit your limit · resets 8pm (America/New_York)"
                       r"|\b(?:resets?|try again)(?: at)? (?:[A-Z][a-z]{2} \d\d?(?:st|nd|rd|th)?,? "
                       r"(?:\d{4},? )?(?:at )?)?\d\d?(?::\d\d)? ?[ap]m\b",
                       re.I)),
    (DAY,   late_regex(r"per[ _-]?(?:\d+ )?days?(?![a-z])|/ ?day\b|\bdaily\b|\b(?:a|one|each|every) day\b"
                       r"|\b(?:RPD|TPD|IPD)\b|ByDay|\b24[ -]?h(?:ours?)?\b|\btoday's\b|\btomorrow\b"
                       r"|\b(?:for|requests|tokens|calls|times) today\b"
                       r"|每[日天]|今[日天]|[当當][日天]|[单單]日|明[天日]|日(?:限额|配额|额度|调用量|上限)"
                       r"|(?<![\d月])1 ?日|毎日|本日|일일|하루|내일|дневн|суточн|в (?:день|сутки)\b|завтра"
                       r"|\btäglich|\bTages(?!form)|\bpro Tag\b|\bmorgen\b|\bquotidien|\bpar jour\b|\bdemain\b"
                       r"|\bdi[aá]ri[ao]s?\b|\bpor d[ií]a\b|\b(?:mañana|amanhã)\b", re.I)),
    (WEEK,  late_regex(r"per[ _-]?(?:\d+ )?weeks?(?![a-z])|/ ?week\b|\bweekly\b|\b(?:a|this|each) week\b"
                       r"|每[周週]|本周|週間|毎週|주간|недел|\bwöchentlich|\bpro Woche\b|\bWochen|\bpar semaine\b"
                       r"|\bpor semana\b|\bsemanal", re.I)),
    (MONTH, late_regex(r"per[ _-]?(?:\d+ )?(?:calendar )?months?(?![a-z])|/ ?month\b|\bmonthly\b"
                       r"|\b(?:a|this|each) month\b|每月|本月|月度|下个?月"
                       r"|[当當]月|月間|毎月|今月|월간|매월|месяч|в месяц\b"
                       r"|\bmonatlich|\bpro Monat\b|\bMonats|\bpar mois\b|\bmensu|\bmensa[li]|\bpor m[eê]s\b", re.I)),
)
_OF_SECONDS = late_regex(r"\bper (\d{1,8}) ?s(?:ec(?:onds)?)?\b", re.I)  # GitHub Models: 86400
# Without one of these, a sentence with a span is about something else: prices, a trial, the user's own text.
_OF_LIMIT = late_regex(
    r"limit|quota|exceed|reach|exhaust|used up|used all|run out|allowance|allocation|credits|\bcap\b|too many|try again"
    r"|\btimes an? "
    r"|上限|限额|限額|配额|配額|额度|額度|限制|制限|用尽|用完|超出|超过|超過|耗尽|已满|次数|kontingent|límite|лимит|квот"
    r"|한도|할당량", re.I)
_ADVERTISES = late_regex(
    r"\b(?:upgrade|unlock|subscribe|sign up|add \S+ credits|increase|to get)\b|升级|充值|开通"
    r"|アップグレード|업그레이드", re.I)
SENTENCE_END = late_regex(r"(?<=[.!?;])\s+|[。！？；\n]+")
# fmt: on

_SPAN_S: Mapping[str, float] = {HOUR: 3600.0, DAY: 86400.0, WEEK: 7 * 86400.0, MONTH: 28 * 86400.0}


def span_of_names(names: Iterable[str]) -> str | None:
    """The span of the quota that codes or ids name; None where they name none, or also one of a minute."""
    for name in names:
        lowered = name.lower()
        if span := SPAN_BY_CODE.get(lowered):
            return span
        if (span := _span_called(lowered)) and not _OF_MONEY.search(lowered):
            return span
    return None


def span_of_headers(headers: Mapping[str, str]) -> str | None:
    """The span of a limit that headers call used up: "x-ratelimit-remaining-requests-day: 0" (Cerebras, SambaNova)."""
    for name, left in headers.items():
        is_used_up = "ratelimit" in name and "remaining" in name and left.strip() in ("0", "0.0")
        if is_used_up and (span := _span_called(name)):
            return span
    return span_of_names([headers.get("x-ratelimit-type", "")])


def span_of_fields(fields: Iterable[tuple[str, object]]) -> str | None:
    """The span that an error names in a field of its own: {"period": "day"}, {"limit_type": "daily"}."""
    named = (value for name, value in fields if name in _SPAN_FIELDS and isinstance(value, str))
    return next(filter(None, map(_span_called, named)), None)


_SPAN_FIELDS = frozenset({"period", "limittype", "quotatype", "quotaperiod", "limitperiod", "window", "ratelimittype"})


def _span_called(name: str) -> str | None:
    words = name.lower().replace("_", " ").replace("-", " ")
    return next((span for span, pattern in _IN_NAME if pattern.search(words)), None)


def span_of_words(text: str) -> str | None:
    """The span of the quota that the first sentence about a limit names; None where it names none, or a minute too."""
    for written in SENTENCE_END.split(text):
        sentence = _ADVERTISES.split(written)[0]
        spans = [span for span, pattern in _LONG if pattern.search(sentence)]
        if seconds := _OF_SECONDS.search(sentence):
            spans = [span for span, length_s in _SPAN_S.items() if length_s <= float(seconds[1])][-1:]
        is_short = _SHORT.search(sentence) is not None or (seconds is not None and not spans)
        if not (spans or is_short) or not _OF_LIMIT.search(sentence):
            continue
        if is_short or _OF_MONEY.search(sentence):
            return None
        return spans[-1]  # "每周/每月": the longest
    return None


def likely_renewal_s(span: str, *, now_s: float, is_google: bool = False) -> float:
    """When a quota is most likely renewed if nobody says so, in seconds since the epoch: at the turn of the
    day, week or month in UTC, in California's for Google (ai.google.dev/gemini-api/docs/rate-limits); hours are
    counted from now."""
    if span == HOUR:
        return now_s + 3600.0
    now = datetime.fromtimestamp(now_s, PACIFIC if is_google else UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if span == MONTH:
        return (today.replace(day=1) + timedelta(days=32)).replace(day=1).timestamp()
    return (today + timedelta(days=1 if span == DAY else 7 - today.weekday())).timestamp()
