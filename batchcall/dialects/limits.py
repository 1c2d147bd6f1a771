"""The limits in an endpoint's headers and errors: those of a minute, and those on requests in flight."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from batchcall.base import RateLimits, late_regex
from batchcall.dialects.jsontext import objects_in
from batchcall.dialects.quotas import SENTENCE_END
from batchcall.dialects.waits import read_length_s

# The headers of a limit; the one with "reset" for "limit" in its name says when it is whole again. Groq gives the
# requests of a day under the same name as OpenAI those of a minute: only the reset distinguishes them. The first one
# that is there counts.
_REQUESTS = (
    "x-ratelimit-limit-requests",  # OpenAI, Azure, Groq (a day's), vLLM's
    "x-ratelimit-limit-requests-minute",  # Cerebras
    "x-ratelimit-limit-req-minute",  # Mistral
    "anthropic-ratelimit-requests-limit",
    "x-ratelimit-api_key-limit-requests",  # LiteLLM, of its own keys
)
_TOKENS = (
    "x-ratelimit-limit-tokens",
    "x-ratelimit-limit-tokens-minute",
    "x-ratelimitbysize-limit-minute",  # Mistral
    "anthropic-ratelimit-tokens-limit",
    "x-ratelimit-api_key-limit-tokens",
)
_RELAYED = ("", "llm_provider-")  # LiteLLM renames what it passes on
_MINUTE_S = 62.0  # what takes longer to be whole again is not the limit of a minute
_SENSIBLE = 1e10


def read_limits(headers: Mapping[str, str], *, now_s: float) -> RateLimits:
    """The limits of a minute that headers (names in lower case) give; `now_s` is seconds since the epoch."""
    # LiteLLM's `max_parallel_requests` of a key, a user, a team: the least of them.
    open_limits = filter(None, (_number(value) for name, value in headers.items() if name.endswith(_OPEN_HEADER)))
    least_open = int(min(open_limits, default=0)) or None
    return RateLimits(_first(headers, _REQUESTS, now_s), _first(headers, _TOKENS, now_s), least_open)


def says_too_many_open(text: str) -> bool:
    """Whether a sentence says that too many requests are in flight. One that names a minute as well does not."""
    return any(_OPEN.search(one) and not _OF_RATES.search(one) for one in SENTENCE_END.split(text))


def open_at_once(text: str) -> RateLimits | None:
    """The limit on requests in flight that a sentence names."""
    said = next(filter(None, (pattern.search(text) for pattern in _OPEN_LIMITS)), None)
    return RateLimits(open_at_once=int(said[1])) if said and int(said[1]) else None


# Google's 429 names each quota that was met with its value. Only those of a minute are a pace; `quotas` reads the
# others.
def quota_limits(details: list[Any]) -> RateLimits | None:
    """The limits of a minute in the details of Google's error (google.rpc.QuotaFailure); None where there are none."""
    requests = tokens = None
    for detail in objects_in(details):
        for violation in objects_in(detail.get("violations")):
            name, value = str(violation.get("quotaId")), _number(str(violation.get("quotaValue")))
            if "PerMinute" not in name or value is None:
                continue
            if "Token" in name:
                tokens = value
            else:
                requests = value
    return None if requests is None and tokens is None else RateLimits(requests, tokens)


# fmt: off
_OPEN_HEADER = "-limit-max_parallel_requests"
_OPEN = late_regex(  # Anthropic, Moonshot, Zhipu, GitHub Models, LiteLLM, DeepInfra, TGI, vLLM's and other gateways
    r"concurren|max_parallel|\bparallel(?:ism| requests?\b)|\bsimultaneous|\bqueue (?:is )?full\b|^model is overloaded"
    r"|too many (?:open |active )?connections|\bin[ -]flight\b|\brequests (?:already )?in progress\b"
    r"|\bat the same time\b|\b(?:active|open|outstanding|pending|running|ongoing) requests\b"
    r"|\bno (?:free |idle )?slots?\b"
    r"|并发|並發|同时(?:请求|连接)|同時(?:リクエスト|接続|実行)|동시|\bgleichzeitig|\bparallele?n? Anfragen", re.I)
_OF_RATES = late_regex(r"\b[RT]P[MD]\b|per[ _-]?(?:min|day|hour)|/ ?(?:min|day)|每分钟|每日|负载已饱和", re.I)
_OPEN_LIMITS = (
    late_regex(r"max_parallel_requests\W{1,4}current limit: ?(\d{1,5})\b", re.I),           # LiteLLM
    late_regex(r"concurrency(?: limit)?(?: of| is)?:? ?(\d{1,5})\b(?! ?(?:ms|s)\b)", re.I),  # Moonshot
    late_regex(r"limit(?: of|:)? ?(\d{1,5}) (?:concurrent|parallel)", re.I),
    late_regex(r"(?:concurrent|parallel) (?:requests|connections)(?: limit)?(?: of| is|:) ?(\d{1,5})\b", re.I),
    late_regex(r"rate limit of (\d{1,5}) per 0s", re.I),                                     # GitHub Models
    late_regex(r"并发数?(?:限制|上限)?(?:为|是|：|:) ?(\d{1,5})"),
)
# fmt: on


def _first(headers: Mapping[str, str], family: tuple[str, ...], now_s: float) -> float | None:
    for name in family:
        for prefix in _RELAYED:
            limit = _number(headers.get(prefix + name, ""))
            if limit is None:
                continue  # as nearly always: a reset is slow to read
            reset_name = prefix + name.replace("-limit", "-reset")
            left_s = read_length_s(headers.get(reset_name, "").strip(), now_s=now_s)
            if left_s is None or left_s <= _MINUTE_S:
                return limit
    return None


def _number(text: str) -> float | None:
    """A limit; None for what is not one: empty, -1 (Azure), 0, infinite."""
    plain = text.strip().replace(",", "")
    if not re.fullmatch(r"\d{1,12}(\.\d{1,6})?", plain):
        return None
    value = float(plain)
    return value if 1 <= value <= _SENSIBLE else None
