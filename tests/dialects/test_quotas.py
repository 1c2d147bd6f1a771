# ruff: noqa: E501  the sentences of vendors are as long as they are
"""Quotas that no pause refills, waits that stand in the body only, limits on what is in flight: in vendors' own words.

Beside each kind stand the answers that look like it and must pass: one that is taken for a quota ends the job.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.base.records import Failure, FailureKind, HttpResponse, Reply
from batchcall.dialects import DIALECTS
from batchcall.dialects.quotas import likely_renewal_s
from batchcall.pacing.health import as_utc

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)  # a Monday
NOW_S = NOW.timestamp()
MIDNIGHT = "2026-12-01 00:00"
CALIFORNIA = "2026-12-01 08:00"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"


def google(quota_id: str, delay: str | None = None) -> dict[str, Any]:
    details: list[Any] = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]}
    ]
    if delay is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    error = {
        "code": 429,
        "status": "RESOURCE_EXHAUSTED",
        "message": "You exceeded your current quota.",
        "details": details,
    }
    return {"error": error}


def openrouter(limit: str, **headers: str) -> dict[str, Any]:
    said = f"Rate limit exceeded: {limit}. Add 10 credits to unlock 1000 free model requests per day"
    return {"error": {"message": said, "code": 429, "metadata": {"headers": headers}}}


def of_groq(span: str, again: str) -> dict[str, Any]:
    said = (
        f"Rate limit reached for model `m` in organization `o` on {span}: Limit 100000, Used 97050, Requested 3619."
        f" Please try again in {again}. Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings"
    )
    return {"error": {"message": said, "type": "tokens", "code": "rate_limit_exceeded"}}


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


# fmt: off
# Who says it: status, headers, body, and until when, "~" where it is only likely.
USED_UP: dict[str, tuple[int, dict[str, str], Any, str]] = {
    "openrouter, ms in headers inside": (
        429, {}, openrouter("free-models-per-day", **{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1796083200000"}),
        "2026-12-01 00:00"),
    "openrouter without a time": (429, {}, openrouter("free-models-per-day-high-balance"), f"~{MIDNIGHT}"),
    "openrouter, limit_rpd": (
        429, {}, said("Rate limit exceeded: limit_rpd/m. Daily limit reached for m via Google AI Studio.", code=429),
        f"~{MIDNIGHT}"),
    "gemini": (429, {}, google(PER_DAY), f"~{CALIFORNIA}"),
    "gemini, hours of delay": (429, {}, google(PER_DAY, "21600s"), "2026-11-30 18:00"),
    "google's own client": (
        429, {}, said("You have exhausted your capacity on this model. Your quota will reset after 2h7m23s.", code=429),
        "2026-11-30 14:08"),
    "google's error info": (
        429, {}, said("Resource exhausted", code=429, status="RESOURCE_EXHAUSTED", details=[
            {"reason": "QUOTA_EXHAUSTED", "metadata": {"quotaResetTimeStamp": "2026-11-30T21:00:00Z"}}]),
        "2026-11-30 21:00"),
    "groq, hours": (429, {}, of_groq("tokens per day (TPD)", "1h7m54.3s"), "2026-11-30 13:08"),
    "openai, requests": (
        429, {}, said("Rate limit reached for m on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try"
                      " again in 8h24m. Visit https://platform.openai.com", type="requests", code="rate_limit_exceeded"),
        "2026-11-30 20:24"),
    "groq, only headers": (
        429, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "7h30m0s",
              "x-ratelimit-remaining-tokens": "5000", "x-ratelimit-reset-tokens": "9h"}, said("Too many requests"),
        "2026-11-30 19:30"),
    "cerebras": (
        429, {}, {"message": "Tokens per day limit exceeded - too many tokens processed.",
                  "type": "too_many_tokens_error", "param": "quota", "code": "token_quota_exceeded"}, f"~{MIDNIGHT}"),
    "cerebras, headers of the day": (
        429, {"x-ratelimit-remaining-requests-day": "0", "x-ratelimit-reset-requests-day": "33011.382867"},
        {"message": "too many requests"}, "2026-11-30 21:11"),
    "sambanova, an epoch of the day": (
        429, {"x-ratelimit-remaining-requests-day": "0", "x-ratelimit-reset-requests-day": "1796083200"},
        {"error": "Rate limit exceeded"}, MIDNIGHT),
    "mistral, headers of the month": (
        429, {"x-ratelimit-remaining-tokens-month": "0"}, {"message": "Requests rate limit exceeded"}, f"~{MIDNIGHT}"),
    "github models": (
        429, {}, said("Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 64721 seconds before"
                      " retrying.", code="RateLimitReached"), "2026-12-01 05:59"),
    "github models, only its header": (
        429, {"x-ratelimit-type": "UserByModelByDay"}, said("Too many requests"), f"~{MIDNIGHT}"),
    "azure": (
        429, {}, said("Requests have exceeded call rate limit. Please retry after 43200 seconds.", code="429"),
        "2026-12-01 00:00"),
    "bedrock": (
        429, {}, {"message": "Too many tokens per day, please wait before trying again."}, f"~{MIDNIGHT}"),
    "cloudflare workers ai": (
        429, {}, {"errors": [{"code": 4006, "message": "AiError: AiError: you have used up your daily free allocation of"
                              " 10,000 neurons, please upgrade to Cloudflare's Workers Paid plan"}]}, f"~{MIDNIGHT}"),
    "cloudflare workers ai, as 400": (
        400, {}, {"errors": [{"message": "you have used up your daily free allocation of 10,000 neurons"}]},
        f"~{MIDNIGHT}"),
    "cohere": (
        429, {}, {"message": "You are using a Trial key, which is limited to 1000 API calls / month. You can continue to"
                  " use the Trial key for free or upgrade to a Production key with higher rate limits"}, f"~{MIDNIGHT}"),
    "hugging face": (
        402, {}, {"error": "You have exceeded your monthly included credits for Inference Providers. Subscribe to PRO to"
                  " get 20x more monthly included credits."}, f"~{MIDNIGHT}"),
    "anthropic": (
        400, {}, said("You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00"
                      " UTC.", type="invalid_request_error"), MIDNIGHT),
    "codex": (
        429, {}, said("The usage limit has been reached", type="usage_limit_reached", resets_at=1796076000,
                      resets_in_seconds=36000), "2026-11-30 22:00"),
    "zhipu, 5 hours": (
        429, {}, said("已达到 5 小时的使用上限。您的限额将在 2026-11-30 22:30:15 重置。", code="1308"), "2026-11-30 14:31"),
    "zhipu, week and month": (
        429, {}, said("您已达到每周/每月使用上限，您的限额将在 2026-12-05 01:20:15 重置。", code="1310"), "2026-12-04 17:21"),
    "zhipu, day": (429, {}, said("该API已达今日调用次数限额", code="1304"), f"~{MIDNIGHT}"),
    "a day, in Chinese": (429, {}, said("已达到每日上限，请明天再试"), f"~{MIDNIGHT}"),
    "moonshot": (
        429, {}, said("Your account o request reached organization TPD rate limit, current: 1508351, limit: 1500000",
                      type="rate_limit_reached_error"), f"~{MIDNIGHT}"),
    "siliconflow": (429, {}, {"code": 50603, "message": "Request was rejected due to rate limiting. Details: TPD limit"
                              " reached.", "data": None}, f"~{MIDNIGHT}"),
    "modelscope": (
        429, {}, {"errors": {"message": "You have exceeded today's quota for model m, please try again tomorrow"}},
        f"~{MIDNIGHT}"),
    "new-api": (403, {}, said("今日额度已用完", type="new_api_error", code="entitlement_daily_limit_exceeded"), f"~{MIDNIGHT}"),
    "a relay, as 403": (403, {}, said("Daily request limit exceeded for this key", type="forbidden"), f"~{MIDNIGHT}"),
    "a relay, as 500": (500, {}, said("Token limit (500,000 per day) exceeded. Used: 508,311 tokens."), f"~{MIDNIGHT}"),
    "a relay, as 200": (200, {}, {"error": "daily limit exceeded"}, f"~{MIDNIGHT}"),
    "litellm, a budget with its time": (
        400, {}, said("Budget has been exceeded! Current cost: 2.0, Max budget: 1.0", type="budget_exceeded",
                      budget_reset_at="2026-12-02T00:00:00Z"), "2026-12-02 00:00"),
    "a date": (429, {}, said("Daily limit. Your quota will reset at 2026-12-01T09:30:00Z"), "2026-12-01 09:30"),
    "midnight": (429, {}, said("Daily message limit of 40 reached. Your limit resets at midnight UTC."), MIDNIGHT),
    "midnight in California": (429, {}, said("Daily limit reached, resets at midnight Pacific time"), CALIFORNIA),
    "an HTTP date in the header": (429, {"retry-after": "Tue, 01 Dec 2026 06:00:00 GMT"}, said("no"), "2026-12-01 06:00"),
    "an epoch in the header": (429, {"x-ratelimit-reset": "1796083200"}, said("Too many requests"), MIDNIGHT),
    "ms in the header": (
        429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1796083200000"}, said("Too many requests"), MIDNIGHT),
    "an hour": (429, {}, said("Rate limit: 100 requests per hour exceeded"), "~2026-11-30 13:00"),
    "a week": (429, {}, said("You have reached your weekly limit"), "~2026-12-07 00:00"),
    "any reset of its own name": (429, {}, said("Too many", nextResetDate="2026-12-01T00:00:00Z"), MIDNIGHT),
    "a bare reset": (429, {}, said("Quota exceeded", reset=1796083200), MIDNIGHT),
    "blocked until": (429, {}, said("Daily limit hit", blocked_until="2026-12-01T02:00:00Z"), "2026-12-01 02:00"),
    "a period in a field": (429, {}, said("Quota exceeded", period="day", limit=100), f"~{MIDNIGHT}"),
    "a window in a field": (429, {}, said("Rate limit exceeded", window="24h"), f"~{MIDNIGHT}"),
    "anthropic's subscription": (
        429, {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": "1796054400"},
        said("This request would exceed your account's rate limit.", type="rate_limit_error"), "2026-11-30 16:00"),
    "claude, a clock somewhere": (
        429, {}, said("You've hit your limit · resets 8pm (America/New_York)"), "2026-12-01 01:00"),
    "claude, a clock nowhere": (429, {}, said("You've hit your limit · resets 8pm"), "~2026-11-30 13:00"),
    "claude, an epoch": (429, {}, said("Claude AI usage limit reached|1796054400"), "2026-11-30 16:00"),
    "the draft's header": (429, {"ratelimit": '"daily";r=0;t=21600'}, said("slow down"), "2026-11-30 18:00"),
    "the draft's older header": (429, {"ratelimit": "limit=9, remaining=0, reset=21600"}, said("no"), "2026-11-30 18:00"),
    "the day first in the header": (429, {"x-ratelimit-daily-remaining": "0"}, said("no"), f"~{MIDNIGHT}"),
    "azure's gateway": (
        403, {}, {"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 12:14:05."},
        "2026-12-01 00:15"),
    "slowapi": (429, {}, {"error": "Rate limit exceeded: 100 per 1 day"}, f"~{MIDNIGHT}"),
    "vertex": (
        429, {}, said("Quota exceeded for aiplatform.googleapis.com/requests_per_day_per_project with base model: m."),
        f"~{MIDNIGHT}"),
    "in traditional Chinese": (429, {}, said("已達到每日請求上限，請明天再試"), f"~{MIDNIGHT}"),
    "in Japanese": (429, {}, said("本日の利用上限に達しました。"), f"~{MIDNIGHT}"),
    "in Korean": (429, {}, said("일일 요청 한도를 초과했습니다."), f"~{MIDNIGHT}"),
    "in German": (429, {}, said("Tageskontingent ausgeschöpft. Bitte versuchen Sie es morgen erneut."), f"~{MIDNIGHT}"),
    "in French": (429, {}, said("Quota quotidien dépassé. Réessayez demain."), f"~{MIDNIGHT}"),
    "in Spanish": (429, {}, said("Se ha superado el límite mensual de solicitudes."), f"~{MIDNIGHT}"),
    "in Russian": (429, {}, said("Превышен дневной лимит запросов."), f"~{MIDNIGHT}"),
    "in Chinese, a month": (429, {}, said("您的月度调用额度已用完，请下月再来"), f"~{MIDNIGHT}"),
    "bedrock, requests": (
        429, {}, {"message": "Too many requests today, please wait before trying again."}, f"~{MIDNIGHT}"),
    "aihubmix": (
        429, {}, said("Sorry, you can only use this model for free 10 times a day.", type="Aihubmix_api_error"),
        f"~{MIDNIGHT}"),
    "a date of an unknown place": (
        429, {}, said("You've hit your usage limit. Try again at Dec 1st, 2026 8:05 PM."), "~2026-11-30 13:00"),
    "another's error as text": (
        429, {}, said(json.dumps(said("You exceeded today's quota", reset_at="2026-12-01T00:00:00+08:00"))),
        "2026-11-30 16:00"),
}

# What passes: a pause of seconds where one is told (None: nothing is told), and the job goes on.
PASSING: dict[str, tuple[int, dict[str, str], Any, float | None]] = {
    "openrouter, a minute": (429, {}, openrouter("free-models-per-min"), None),
    "openrouter, a minute with its time": (
        429, {}, openrouter("free-models-per-min", **{"X-RateLimit-Reset": "1796040030000"}), 30),
    "openrouter, upstream": (
        429, {}, said("Provider returned error", code=429, metadata={"raw": "m is temporarily rate-limited upstream."
                      " Please retry shortly, or add your own key to accumulate your rate limits"}), None),
    "gemini, a minute": (429, {}, google(PER_MINUTE), None),
    "groq, a minute": (429, {}, of_groq("tokens per minute (TPM)", "11.455s"), 11.455),
    "groq, a day, but soon": (429, {}, of_groq("tokens per day (TPD)", "7m54.3s"), 474.3),
    "openai, a day, but soon": (
        429, {}, said("Rate limit reached for m on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try"
                      " again in 7m12s.", code="rate_limit_exceeded"), 432),
    "openai's old words": (429, {}, said("Rate limit reached on requests per min. Limit: 60 / min. Please try again in"
                                         " 1s."), 1),
    "cohere, a minute": (
        429, {}, {"message": "You are using a Trial key, which is limited to 20 API calls / minute"}, None),
    "cerebras, a minute": (
        429, {}, {"message": "Tokens per minute limit exceeded", "code": "token_quota_exceeded"}, None),
    "quota in prose": (429, {}, said("Quota exceeded for quota metric 'Generate requests' and limit 'per minute'"), None),
    "both spans": (429, {}, said("You may send 20 requests per minute and 1000 requests per day"), None),
    "an advertisement": (429, {}, said("Too many requests, upgrade to get 10,000 requests per day"), None),
    "another day's news": (429, {}, said("Too many requests. Read today's news at https://status.example"), None),
    "a header of what is left": (
        429, {"x-ratelimit-remaining": "5", "x-ratelimit-reset": "1796083200"}, said("Too many requests"), None),
    "the day's limit is not the one": (
        429, {"x-ratelimit-remaining-requests-day": "800", "x-ratelimit-reset-requests-day": "33000",
              "x-ratelimit-remaining-tokens-minute": "0", "x-ratelimit-reset-tokens-minute": "12.5"},
        {"message": "too many tokens"}, 12.5),
    "azure": (429, {"retry-after": "7"}, said("Please retry after 7 seconds.", code="429"), 7),
    "litellm": (
        429, {"retry-after": "60"}, said("Rate limit exceeded for api_key: k. Limit type: requests. Current limit: 10,"
                                         " Remaining: 0. Limit resets at: 2026-11-30 12:00:40 UTC"), 60),
    "moonshot": (429, {}, said("request reached organization max RPM: 3, please try again after 1 seconds",
                               type="rate_limit_reached_error"), 1),
    "a saturated relay": (429, {}, said("当前分组上游负载已饱和，请稍后再试"), None),
    "slowapi, a minute": (429, {}, {"error": "Rate limit exceeded: 5 per 1 minute"}, None),
    "a minute in a field": (429, {}, said("Rate limit exceeded", window="1m", reset_in="20s"), 20),
    "azure's gateway": (429, {}, {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 20 seconds."}, 20),
    "vertex, a minute": (
        429, {}, said("Quota exceeded for generate_content_requests_per_minute_per_project. Docs tell of daily limits."),
        None),
    "a minute, in Japanese": (429, {}, said("1分あたりのリクエスト上限に達しました。20秒後に再試行してください"), 20),
    "a minute, in German": (429, {}, said("Limit von 60 Anfragen pro Minute erreicht."), None),
    "a minute, in Chinese, with a plan": (429, {}, said("每分钟请求次数超过限制，升级套餐可提升每日额度"), None),
    "the draft's header, of another limit": (429, {"ratelimit": '"daily";r=800;t=21600'}, said("slow down"), None),
    "a subscription that has let it in": (
        429, {"anthropic-ratelimit-unified-status": "allowed", "anthropic-ratelimit-unified-reset": "1796054400"},
        said("no", type="rate_limit_error"), None),
    "several renewals": (
        429, {}, said("Too many requests", windows=[{"name": "day", "reset_at": "2026-12-01T00:00:00Z"},
                                                    {"name": "minute", "reset_at": "2026-11-30T12:00:20Z"}]), 20),
}

# Waits that stand in the body only, or in both places: seconds.
WAITS: dict[str, tuple[dict[str, str], Any, float | None]] = {
    "a number":             ({}, said("no", retry_after=6), 6),
    "a string":             ({}, said("no", retry_after="6"), 6),
    "a duration":           ({}, said("no", retryAfter="1m26.4s"), 86.4),
    "ms":                   ({}, said("no", retry_after_ms=1500), 1.5),
    "beside the error":     ({}, {"error": "slow down", "retry_after": 9}, 9),
    "problem details":      ({}, {"title": "Error 1015: You are being rate limited", "status": 429, "retry_after": 30}, 30),
    "in the metadata":      ({}, said("no", metadata={"headers": {"Retry-After": "12"}}), 12),
    "in the details":       ({}, said("no", details=[{"retryDelay": "45.8s"}]), 45.8),
    "RetryInfo in ms":      ({}, google(PER_MINUTE, "373ms"), 0.373),
    "details as an object": ({}, said("no", details={"retry_after_seconds": 4}), 4),
    "another's, as text":   ({}, said(json.dumps(said("no", retry_after=8))), 8),
    "a moment":             ({}, said("no", retry_after="2026-11-30T12:00:25Z"), 25),
    "an epoch":             ({}, said("no", retry_after=NOW_S + 45), 45),
    "loading a model":      ({}, {"error": "Model m is currently loading", "estimated_time": 20.5}, 20.5),
    "please wait":          ({}, said("Please wait 6 seconds before retrying."), 6),
    "try again":            ({}, said("Please try again in 1m26.4s."), 86.4),
    "try again in ms":      ({}, said("Please try again in 373ms. Visit https://x.example"), 0.373),
    "20s":                  ({}, said("Limit 3 / min. Please try again in 20s. Contact us"), 20),
    "retry after":          ({}, said("Throttled, retry after 15."), 15),
    "in Chinese":           ({}, said("请求过于频繁，请在 6 秒后重试"), 6),
    "in Chinese, minutes":  ({}, said("请求过于频繁，请等待2分钟后再试"), 120),
    "the header is longer": ({"retry-after": "20"}, said("Please try again in 3s."), 20),
    "the body is longer":   ({"retry-after": "1"}, said("Please try again in 1m."), 60),
    "any wait of its own name": ({}, said("no", wait_time_seconds=7), 7),
    "a cooldown":           ({}, said("no", cooldown_ms=7000), 7),
    "approximately":        ({}, said("You can try again in approximately 6 seconds."), 6),
    "in German":            ({}, said("Bitte versuchen Sie es in 6 Sekunden erneut"), 6),
    "in French":            ({}, said("Réessayez dans 2 minutes"), 120),
    "in Japanese":          ({}, said("6秒後に再試行してください"), 6),
    "in Korean":            ({}, said("20초 후 다시 시도하세요"), 20),
    "how often":            ({}, said("no", retry=3), None),
    "negative":             ({}, said("no", retry_after=-5), 0),
    "not a number":         ({}, said("no", retry_after="NaN"), None),
    "infinite":             ({}, said("no", retry_after="1e999"), None),
    "yes":                  ({}, said("no", retry_after=True), None),
    "soon":                 ({}, said("no", retry_after="soon"), None),
    "none":                 ({}, said("Please wait a moment and retry"), None),
}

# Limits on what is in flight: status, headers, body, and the number where one is named.
TOO_MANY_OPEN: dict[str, tuple[int, dict[str, str], Any, int | None]] = {
    "litellm": (
        429, {"retry-after": "60"}, said("Rate limit exceeded for api_key: k. Limit type: max_parallel_requests. Current"
                                         " limit: 2, Remaining: 0. Limit resets at: 2026-11-30 12:01:00 UTC"), 2),
    "litellm, in its header": (429, {"rate_limit_type": "max_parallel_requests"}, said("Rate limit exceeded"), None),
    "litellm, older": (429, {}, {"detail": "Max parallel request limit reached"}, None),
    "anthropic": (
        429, {}, said("Number of concurrent connections has exceeded your rate limit. Please try again later",
                      type="rate_limit_error"), None),
    "new-api": (429, {}, said("busy", code="token_concurrency_limit_reached"), None),
    "zhipu": (429, {}, said("您当前使用该API的并发数过高，请降低并发，或联系客服增加限额。", code="1302"), None),
    "moonshot": (429, {}, said("Your account o request reached max organization concurrency: 3, please try again after 1"
                               " seconds", type="rate_limit_reached_error"), 3),
    "github models": (429, {}, said("Rate limit of 5 per 0s exceeded for UserConcurrentRequests. Please wait 0 seconds"
                                    " before retrying.", code="RateLimitReached"), 5),
    "ollama": (429, {}, {"error": "too many concurrent requests"}, None),
    "a relay": (429, {}, said("Too many concurrent requests. Limit: 1 concurrent requests"), 1),
    "tgi": (429, {}, {"error": "Model is overloaded", "error_type": "overloaded"}, None),
    "in flight": (429, {}, said("Too many requests in flight"), None),
    "in progress": (429, {}, said("You already have 5 requests in progress. Wait for one of them to finish."), None),
    "at the same time": (429, {}, said("Only 3 requests at the same time are allowed for this key"), None),
    "pending": (429, {}, said("Too many pending requests for this deployment"), None),
    "no slot": (503, {}, said("no slot available"), None),
    "in Japanese": (429, {}, said("同時リクエスト数の上限に達しました"), None),
    "a full queue": (503, {}, {"error": "queue is full"}, None),
}
NOT_OF_WHAT_IS_OPEN: dict[str, Any] = {
    "litellm, older": said("Crossed TPM / RPM / Max Parallel Request Limit. current rpm: 1, rpm limit: 5"),
    "litellm, requests": said("Limit type: requests. Current limit: 2, Remaining: 0"),
    "plain": said("Too many requests"),
}
# fmt: on


@pytest.mark.parametrize("name", USED_UP)
def test_a_quota_that_no_pause_refills_stops_the_run_and_tells_until_when(name: str) -> None:
    status, headers, body, until = USED_UP[name]

    failure = failed(status, headers, body)

    assert failure.kind is FailureKind.LONG_WAIT, failure
    assert failure.quota is not None
    assert failure.quota.is_stated is not until.startswith("~")
    assert minute(failure.quota.renewed_at_s) == until.removeprefix("~")


@pytest.mark.parametrize("name", PASSING)
def test_a_limit_of_a_minute_is_a_pause_whatever_it_mentions(name: str) -> None:
    status, headers, body, wait_s = PASSING[name]

    failure = failed(status, headers, body)

    assert failure.kind is FailureKind.RATE_LIMITED, failure
    assert failure.retry_after_s == (None if wait_s is None else pytest.approx(wait_s))


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_that_stands_in_the_body_only_is_kept(name: str) -> None:
    headers, body, wait_s = WAITS[name]

    assert failed(429, headers, body).retry_after_s == (None if wait_s is None else pytest.approx(wait_s))


@pytest.mark.parametrize("name", TOO_MANY_OPEN)
def test_a_limit_on_what_is_in_flight_is_not_taken_for_a_rate(name: str) -> None:
    status, headers, body, most = TOO_MANY_OPEN[name]

    failure = failed(status, headers, body)

    assert failure.kind is FailureKind.TOO_MANY_OPEN, failure
    assert (failure.limits.open_at_once if failure.limits else None) == most


@pytest.mark.parametrize("name", NOT_OF_WHAT_IS_OPEN)
def test_a_rate_is_not_taken_for_a_limit_on_what_is_in_flight(name: str) -> None:
    assert failed(429, {}, NOT_OF_WHAT_IS_OPEN[name]).kind is FailureKind.RATE_LIMITED


def test_a_quota_of_the_day_with_a_short_wait_is_a_pause_that_remembers_the_quota() -> None:
    failure = failed(429, {}, google(PER_DAY, "38s"))

    assert (failure.kind, failure.retry_after_s) == (FailureKind.RATE_LIMITED, 38)
    assert failure.quota is not None
    assert minute(failure.quota.renewed_at_s) == CALIFORNIA


def test_words_of_a_wait_do_not_hide_the_quota_of_a_day() -> None:
    answer = google(PER_DAY, "46s")
    answer["error"]["message"] += " Please retry in 46.3s."

    failure = failed(429, {}, answer)

    assert failure.retry_after_s == pytest.approx(46.3)
    assert failure.quota is not None


@pytest.mark.parametrize("status", [400, 422])
def test_a_request_that_is_called_invalid_ends_its_row_whatever_its_text_is_about(status: int) -> None:
    body = said("'I hit my daily limit of requests' is not one of the allowed values", type="invalid_request_error")

    failure = failed(status, {}, body)

    assert (failure.kind, failure.quota) == (FailureKind.REJECTED, None)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, said("You exceeded your current quota, please check your plan", code="insufficient_quota"), "no_quota"),
        (429, {"code": "x", "error": "Your team t has either used all available credits or reached its monthly spending"
               " limit. To continue making API requests, please purchase more credits"}, "no_quota"),
        (429, said("account overdue", code="1113"), "no_quota"),
        (400, said("Budget has been exceeded! Max budget: 1.0", type="budget_exceeded"), "no_quota"),
        (402, {"error": "Cloud credits expired"}, "no_quota"),
        (429, said("Your project has exceeded its daily spend limit of $5"), "no_quota"),
        (429, said("This request would exceed your account's monthly spend limit. Please try again later.",
                   type="rate_limit_error"), "no_quota"),
        (429, said("Your organization’s limit of the month", type="rate_limit_error",
                   details={"error_code": "enforced_spend_limit_reached"}), "no_quota"),
        (429, said("You have hit your spending cap", type="rate_limit_error"), "no_quota"),
        (429, said("The workspace's spend limit has been reached", type="rate_limit_error"), "no_quota"),
        (429, said("Ask your admin", code="SPEND_LIMIT_EXCEEDED"), "no_quota"),
        (402, said("Your prepayment credits are depleted.", code=402, status="RESOURCE_EXHAUSTED"), "no_quota"),
        (402, said("Payment required", code="rate_limit_exceeded"), "no_quota"),
        (429, said("Rate limit reached for requests. To go faster, raise your monthly spend limit"), "rate_limited"),
        (429, said("Too many requests", type="rate_limit_error", details={"error_code": "x"}), "rate_limited"),
        (429, said("Slow down, or you will exceed your spend limit", code="rate_limit_exceeded"), "rate_limited"),
        (429, said("Too fast. If you hit your spend limit, raise it"), "rate_limited"),
        (429, said("You have reached the hourly spend limit; try again in 10 minutes"), "rate_limited"),
        (402, said("please retry in 5s", status="RESOURCE_EXHAUSTED"), "rate_limited"),
        (403, said('The prompt was blocked: "We have hit the spending limit"', code="content_filter"), "filtered"),
        (400, said("no", code=400, details={"error_code": 503}), "rejected"),
        (401, said("no", code=401, details={"error_code": "500"}), "bad_key"),
        (429, said("Your account [21] has exhausted its free trial quota for the m model", code="QuotaExceeded"), "no_quota"),
        (429, said("Your account [21] has reached the set inference limit", code="SetLimitExceeded"), "no_quota"),
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}, "no_quota"),
        (403, {"reason": "NOT_ENOUGH_BALANCE", "code": 403, "message": "not enough balance"}, "no_quota"),
        (403, said("The free tier of the model has been exhausted.", code="AllocationQuota.FreeTierOnly"), "no_quota"),
        (403, said("Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys"), "no_quota"),
        (412, said("Account a is suspended, possibly due to reaching the monthly spending limit or failure to pay past"
                   " invoices", type="invalid_request_error", code="precondition_failed"), "no_quota"),
    ],
)  # fmt: skip
def test_an_empty_purse_still_needs_somebody(status: int, body: Any, kind: str) -> None:
    assert failed(status, {}, body).kind.label == kind


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (424, {"message": "Try your request again.", "originalStatusCode": 500}, "server_error"),
        (424, {"error": "Request failed during generation: Server error: CUDA", "error_type": "generation"}, "server_error"),
        (424, {"error": "inputs: maximum context length is 4096 tokens", "error_type": "validation"}, "rejected"),
        (429, {"__type": "ModelNotReadyException", "type": "ModelNotReadyException", "message": "warm up"}, "overloaded"),
        (503, {"error": "Model m is currently loading", "estimated_time": 20.0}, "overloaded"),
        (409, {"error": "model is loading"}, "relay_error"),
        (498, said("Flex tier capacity exceeded", code="capacity_exceeded"), "overloaded"),
        (400, {"message": "The provided model identifier is invalid."}, "unknown_model"),
        (400, {"message": "Invocation of model ID m with on-demand throughput isn’t supported."}, "unknown_model"),
        (408, {"error": "timed out"}, "timed_out"),
        (421, {"error": "misdirected"}, "relay_error"),
        (425, {"error": "too early"}, "relay_error"),
        (499, {"error": "closed"}, "server_error"),
        (529, {"error": "overloaded"}, "overloaded"),
        *((status, {"error": "gateway"}, "server_error") for status in (520, 525, 527, 530, 598, 599)),
    ],
)  # fmt: skip
def test_what_failed_behind_the_endpoint_is_tried_again(status: int, body: Any, kind: str) -> None:
    assert failed(status, {}, body).kind.label == kind


def chat(content: str | None, finish: str | None, usage: Any, **more: Any) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {"id": "x", "model": "m", "choices": [choice], "usage": usage, **more}


NO_TOKENS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
CHUNK = {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
LAST_CHUNK = {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": NO_TOKENS}
RESPONSE = {
    "object": "response",
    "status": "completed",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": ""}]}],
    "usage": {"input_tokens": 9, "output_tokens": 0, "total_tokens": 9},
}
MESSAGE = {"type": "message", "role": "assistant", "content": [], "stop_reason": "end_turn"}
CANDIDATE = {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP"}
EMPTY: dict[str, tuple[str, Any]] = {
    "empty text": ("openai-chat", chat("", "stop", NO_TOKENS)),
    "no text": ("openai-chat", chat(None, "stop", NO_TOKENS)),
    "blanks": ("openai-chat", chat(" \n", "stop", NO_TOKENS)),
    "a call that is not there": ("openai-chat", chat(None, "tool_calls", NO_TOKENS)),
    "the prompt counted": ("openai-chat", chat("", "stop", {**NO_TOKENS, "prompt_tokens": 9, "total_tokens": 9})),
    "nothing counted, no id": ("openai-chat", chat("", "stop", None, id="")),
    "streamed": ("openai-chat", [CHUNK, LAST_CHUNK]),
    "responses": ("openai-responses", RESPONSE),
    "responses streamed": ("openai-responses", [{"type": "response.completed", "response": RESPONSE}]),
    "anthropic": ("anthropic", {**MESSAGE, "id": "m", "usage": {"input_tokens": 9, "output_tokens": 0}}),
    "anthropic streamed": (
        "anthropic",
        [
            {"type": "message_start", "message": {**MESSAGE, "stop_reason": None, "usage": {"input_tokens": 9}}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 0}},
            {"type": "message_stop"},
        ],
    ),
    "gemini": (
        "gemini",
        {"candidates": [CANDIDATE], "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}, "responseId": "r"},
    ),
    "gemini streamed": ("gemini", [{"candidates": [CANDIDATE], "usageMetadata": {"candidatesTokenCount": 0}}]),
}
FULL: dict[str, tuple[str, Any]] = {
    "a token": ("openai-chat", chat("", "stop", {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10})),
    "nothing counted": ("openai-chat", chat("", "stop", None)),
    "filtered": ("openai-chat", chat("", "content_filter", NO_TOKENS)),
    "cut": ("openai-chat", chat("", "length", NO_TOKENS)),
    "text": ("openai-chat", chat("Hello", "stop", NO_TOKENS)),
    "gemini's filter": ("gemini", {"candidates": [{"finishReason": "SAFETY"}], "usageMetadata": {"promptTokenCount": 9}}),
    "anthropic": ("anthropic", {**MESSAGE, "id": "m", "usage": {"input_tokens": 9, "output_tokens": 3}}),
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_answer_of_no_tokens_is_not_an_answer(name: str) -> None:
    protocol, body = EMPTY[name]

    failure = DIALECTS[protocol].decode(sent(200, {}, body), now_s=NOW_S)

    assert isinstance(failure, Failure), failure
    assert failure.kind is FailureKind.UNREADABLE
    assert "empty" in failure.message


@pytest.mark.parametrize("name", FULL)
def test_an_answer_that_took_tokens_or_says_why_it_is_empty_is_an_answer(name: str) -> None:
    protocol, body = FULL[name]

    assert isinstance(DIALECTS[protocol].decode(sent(200, {}, body), now_s=NOW_S), Reply)


names = st.sampled_from(["retry_after", "reset_at", "retryDelay", "x-ratelimit-reset", "message", "code", "details"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(body=values, message=st.text(alphabet="in at resets try again 0123456789-:TZ每日上限秒后", max_size=40))
def test_whatever_an_error_holds_it_is_read_and_its_wait_is_clamped(body: Any, message: str) -> None:
    failure = failed(429, {}, {"error": {"message": message, "metadata": body}})

    assert failure.retry_after_s is None or 0 <= failure.retry_after_s <= 900
    assert failure.kind is not FailureKind.UNDIGESTED


def failed(status: int, headers: dict[str, str], body: Any) -> Failure:
    failure = DIALECTS["openai-chat"].decode(sent(status, headers, body), now_s=NOW_S)
    assert isinstance(failure, Failure)
    return failure


def sent(status: int, headers: dict[str, str], body: Any) -> HttpResponse:
    if isinstance(body, list):
        events = "".join(f"event: {one.get('type', 'x')}\ndata: {json.dumps(one)}\n\n" for one in body)
        return HttpResponse(status, headers, events.encode())
    return HttpResponse(status, headers, json.dumps(body).encode())


def minute(moment_s: float) -> str:
    return f"{as_utc(moment_s):%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("span", "now", "is_google", "renewed"),
    [
        ("day", "2026-07-01 06:59", True, "2026-07-01 07:00"),
        ("day", "2026-12-01 06:59", True, "2026-12-01 08:00"),
        ("week", "2026-07-06 05:00", True, "2026-07-06 07:00"),  # Monday in UTC, still Sunday in California
        ("week", "2026-07-06 05:00", False, "2026-07-13 00:00"),
        ("month", "2027-01-01 05:00", True, "2027-01-01 08:00"),
        ("month", "2027-01-31 05:00", False, "2027-02-01 00:00"),
    ],
)
def test_a_quota_is_likely_renewed_at_the_turn_where_its_vendor_counts(
    span: str, now: str, is_google: bool, renewed: str
) -> None:
    now_s = datetime.fromisoformat(f"{now}+00:00").timestamp()

    assert minute(likely_renewal_s(span, now_s=now_s, is_google=is_google)) == renewed
