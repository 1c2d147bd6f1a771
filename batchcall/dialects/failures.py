"""What an answer that is not a completion means: the same tables for every protocol.

Vendors and relays use the same status for different things (429 for a rate and for an empty account, 403 for a key and
for a moderated prompt, 500 for anything), while a code has one meaning wherever it appears. So the code comes first.
The codes are those of the vendors' documents (platform.openai.com/docs/guides/error-codes,
ai.google.dev/gemini-api/docs/troubleshooting, Anthropic's page on errors), and of the sources of the relays.
What is decided here matters: a lasting failure taken for a passing one is tried again for nothing, and a passing one
taken for lasting ends the run. Where signs differ, the more certain one wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from batchcall.base import NO_USAGE, Failure, FailureKind, Json, Money, Quota, Scope, late_regex
from batchcall.dialects.complaint import Complaint, find_complaint, markup_title, one_line
from batchcall.dialects.jsontext import objects_in
from batchcall.dialects.limits import open_at_once, quota_limits, says_too_many_open
from batchcall.dialects.quotas import likely_renewal_s, span_of_fields, span_of_headers, span_of_names, span_of_words
from batchcall.dialects.usage import read_usage_beside
from batchcall.dialects.waits import LONGEST_WAIT_S, asked_wait_s, fields_of, renewal_wait_s, say_wait

MAX_MESSAGE = 300  # characters
MAX_SEARCHED = 5_000  # characters of a message or page in which a wording is looked for

# fmt: off
# Codes that mean one thing whatever the status: error.code, error.type, error.status and reasons, in lower case. One
# that may mean several things is in BY_VAGUE_CODE, or stands beside its status in BY_CODE_AND_STATUS. A line holds what
# several vendors write, or what the one named behind it does.
CODES: Mapping[FailureKind, tuple[str, ...]] = {
    FailureKind.RATE_LIMITED: (
        "rate_limit_exceeded rate_limit_error rate_limited slow_down too_many_requests",
        "resource_exhausted",  # Gemini
        "rate_limit_reached_error",  # Moonshot
        "ratelimitreached",  # Azure
        "ratelimiterror",  # LiteLLM
        "throttling throttling.ratequota throttling.allocationquota",  # DashScope
        "limit_requests limit_burst_rate",  # DashScope
        "1303",  # Zhipu
        "throttlingexception",  # Bedrock
    ),
    FailureKind.TOO_MANY_OPEN: (
        "concurrency_limit_reached concurrency_limit_exceeded",
        "token_concurrency_limit_reached",  # new-api
        "max_parallel_requests",  # LiteLLM
        "1302",  # Zhipu
    ),
    FailureKind.OVERLOADED: (
        "overloaded server_overloaded service_unavailable",
        "overloaded_error",  # Anthropic
        "unavailable",  # Gemini
        "engine_overloaded_error",  # Moonshot
        "serveroverloaded",  # Volcano Ark
        "capacity_exceeded",  # Groq, with 498
        "unavailable_error",  # llama.cpp: "Loading model"
        "token_concurrency_unavailable",  # new-api
        "modelnotreadyexception serviceunavailableexception",  # Bedrock
        "1305 1312",  # Zhipu
    ),
    FailureKind.SERVER_ERROR: (
        "modelerrorexception",  # Bedrock
        "channel:response_time_exceeded",  # new-api
    ),
    FailureKind.TIMED_OUT: ("modeltimeoutexception",),  # Bedrock
    FailureKind.NO_QUOTA: (
        "insufficient_quota insufficient_balance insufficient_credits payment_required credit_balance_exhausted",
        "billing_not_active billing_hard_limit_reached organization_usage_limit_exceeded",
        "spend_limit_exceeded spend_limit_reached organization_spend_limit_exceeded project_spend_limit_exceeded",
        "free_model_blocked_no_quota",
        "entitlement_required entitlement_inactive entitlement_total_limit_exceeded",
        "billing_error enforced_spend_limit_reached",  # Anthropic
        "insufficient_user_quota pre_consume_token_quota_failed",  # one-api, new-api
        "exceeded_current_quota_error",  # Moonshot
        "budget_exceeded",  # LiteLLM
        "arrearage allocationquota.freetieronly",  # DashScope
        "setlimitexceeded accountoverdueerror",  # Volcano Ark
        "not_enough_balance",  # Novita
        "1113",  # Zhipu
    ),
    FailureKind.BAD_KEY: (
        "invalid_api_key incorrect_api_key missing_api_key authentication_error unauthenticated",
        "permission_denied permission_error account_deactivated access_terminated",
        "invalid_organization mismatched_organization unsupported_country_region_territory",
        "api_key_invalid",  # Gemini, as a reason
        "invalid_authentication_error",  # Moonshot
        "invalidapikey",  # DashScope
        "expired_key",  # LiteLLM, with 400
        "organization_restricted",  # Groq, with 400
    ),
    FailureKind.UNKNOWN_MODEL: (
        "model_not_found model_not_available modelnotfound not_found_error",
        "model_decommissioned",  # Groq, with 400
        "invalid_model",  # Mistral, with 400
        "model_price_error",  # new-api: it has no price
        "deploymentnotfound",  # Azure
        "operationnotsupported",  # Azure: of another protocol
        "notfounderror",  # vLLM
    ),
    FailureKind.FILTERED: (
        "content_filter content_policy_violation moderation_blocked",
        "contentpolicyviolationerror",  # LiteLLM
        "responsibleaipolicyviolation",  # Azure
        "bio_policy image_content_policy_violation",  # Responses
        "sensitive_words_detected prompt_blocked violation_fee.grok.csam",  # new-api
        "data_inspection_failed datainspectionfailed",  # DashScope
        "1301",  # Zhipu
        "sensitivecontentdetected",  # Volcano Ark
        "sensitivecontentdetected.severeviolation sensitivecontentdetected.violence",  # Volcano Ark
        "inputtextsensitivecontentdetected inputimagesensitivecontentdetected",  # Volcano Ark
        "outputtextsensitivecontentdetected",  # Volcano Ark
    ),
    FailureKind.REJECTED: (
        "context_length_exceeded string_above_max_length request_too_large",
        "invalid_function_parameters invalid_value invalid_type missing_required_parameter",
        "unknown_parameter unsupported_parameter unsupported_value",
        "exceed_context_size_error",  # llama.cpp, with 400 or 500
        "contextwindowexceedederror",  # LiteLLM
        "invalid_request convert_request_failed bad_request_body count_token_failed",  # new-api: 500 by default
        "invalid_prompt invalid_image invalid_image_format invalid_base64_image",  # Responses
        "invalid_image_url invalid_image_mode image_parse_error image_file_not_found",  # Responses
        "image_too_large image_too_small image_file_too_large empty_image_file",  # Responses
        "unsupported_image_media_type failed_to_download_image",  # Responses
        "invalidparameter",  # DashScope
        "badrequesterror",  # vLLM
    ),
    FailureKind.UNREADABLE: ("tool_use_failed json_validate_failed output_parse_failed",),  # Groq, with 400
    FailureKind.RELAY_ERROR: (  # new-api
        "do_request_failed gen_relay_info_failed get_user_quota_failed query_data_error update_data_error",
        "channel:no_available_key channel:invalid_key channel:model_mapped_error channel:aws_client_error",
        "channel:param_override_invalid channel:header_override_invalid",
    ),
}
BY_CODE: Mapping[str, FailureKind] = {
    code: kind for kind, lines in CODES.items() for line in lines for code in line.split()
}

# Codes that mean another thing with one status than with all others, or a vendor's short numbers, which others may use.
BY_CODE_AND_STATUS: Mapping[tuple[str, int], FailureKind] = {
    ("rate_limit_exceeded", 413): FailureKind.REJECTED,     # Groq: this one request is beyond the whole minute
    ("overloaded", 429):          FailureKind.TOO_MANY_OPEN,  # TGI: as many in flight as it was started for
    ("get_channel_failed", 200):  FailureKind.RELAY_ERROR,  # with 503 it is as lasting as its text says
    ("get_channel_failed", 500):  FailureKind.RELAY_ERROR,
    ("1002", 200):                FailureKind.RATE_LIMITED,  # MiniMax, with those that follow: its errors come with 200
    ("1004", 200):                FailureKind.BAD_KEY,
    ("1008", 200):                FailureKind.NO_QUOTA,
    ("1026", 200):                FailureKind.FILTERED,      # the prompt, and the answer
    ("1027", 200):                FailureKind.FILTERED,
    ("2013", 200):                FailureKind.REJECTED,
    ("2049", 200):                FailureKind.BAD_KEY,
}

# Statuses that mean one thing whatever their text says: with 429 above all, where a sentence about a "quota" is most
# often about a rate. Matched as an empty account, such sentences have ended jobs elsewhere that only had to wait.
BY_STATUS: Mapping[int, FailureKind] = {
    402: FailureKind.NO_QUOTA,
    408: FailureKind.TIMED_OUT,
    409: FailureKind.RELAY_ERROR,  # a lock that timed out, say OpenAI's clients, which try again
    413: FailureKind.REJECTED,
    420: FailureKind.RATE_LIMITED,
    421: FailureKind.RELAY_ERROR,  # the wrong server of several behind one name
    422: FailureKind.REJECTED,
    423: FailureKind.RELAY_ERROR,
    425: FailureKind.RELAY_ERROR,
    429: FailureKind.RATE_LIMITED,
    529: FailureKind.OVERLOADED,
}

# Types so general that they only decide where the status says nothing: 200, and the 500 that relays default to.
BY_VAGUE_CODE: Mapping[str, FailureKind] = {
    **dict.fromkeys(("invalid_request_error", "invalid_argument", "bad_request"), FailureKind.REJECTED),
    "not_found": FailureKind.UNKNOWN_MODEL,
    **dict.fromkeys(("server_error", "internal_server_error", "internal_error", "internal"), FailureKind.SERVER_ERROR),
    **dict.fromkeys(("api_error", "timeout_error", "upstream_error"), FailureKind.SERVER_ERROR),
    **dict.fromkeys(("vector_store_timeout", "deadline_exceeded"), FailureKind.SERVER_ERROR),
}

# What a status most likely means where neither a code nor a sentence decides: 400, 401, 403 and 404 are used for all
# sorts of things, so they come behind both.
BY_UNDECIDED_STATUS: Mapping[int, FailureKind] = {
    400: FailureKind.REJECTED,
    401: FailureKind.BAD_KEY,
    403: FailureKind.BAD_KEY,
    404: FailureKind.UNKNOWN_MODEL,
    405: FailureKind.UNKNOWN_MODEL,  # as 404: the URL is not that of an endpoint
    407: FailureKind.BAD_KEY,        # a proxy's
    410: FailureKind.UNKNOWN_MODEL,
    424: FailureKind.SERVER_ERROR,   # the model behind the endpoint failed: Hugging Face's server, Bedrock
    499: FailureKind.SERVER_ERROR,   # nginx: its client, the relay, hung up
    503: FailureKind.OVERLOADED,
}

# The rest. A 2xx that is not a completion was worked on and may be billed; a 5xx too.
BY_RANGE: Mapping[int, FailureKind] = {
    2: FailureKind.UNREADABLE,
    3: FailureKind.REDIRECTED,
    4: FailureKind.REJECTED,
    5: FailureKind.SERVER_ERROR,
}


class Wording(NamedTuple):
    """A sentence that decides what neither code nor status does. It counts with these statuses only: words lie."""

    kind: FailureKind
    statuses: frozenset[int]
    pattern: re.Pattern[str]


CLOUDFLARE_LIMIT = late_regex(r"\berror(?: code:?)? 1015\b|cf-error-code\">1015<", re.I)

# Google and Anthropic have one code for a rate that was met and for money that is spent ("This request would exceed
# your account's monthly spend limit" comes as rate_limit_error), and Google one for a key that may do nothing and for a
# file of this row's that is not there (they last two days). So these sentences come before the code.
# Only as a statement: some say "slow down, or you will exceed your spend limit", and one of an hour is waited for.
_CAP = r"spend(?:ing)? (?:cap|limit)"
OVERRULING = (
    Wording(FailureKind.NO_QUOTA, frozenset({429}),
            late_regex("prepayment credits are depleted"
                       rf"|exceeded (?:its|your) (?:daily|weekly|monthly) {_CAP}"
                       r"|(?:would exceed|(?:has|have|['’]ve) (?:already )?(?:exceeded|reached|hit))"
                       rf" (?:its|the|your)(?: \w+['’]s)?(?: (?!hour|minute)\w+)? {_CAP}"
                       rf"|{_CAP} (?:has been |was |is )?(?:exceeded|reached)\b", re.I)),
    Wording(FailureKind.NO_QUOTA, frozenset({403, 429}),  # Volcano Ark. Of a balance relays say so in passing, too
            late_regex("exhausted its free (?:trial )?quota", re.I)),
    Wording(FailureKind.NO_QUOTA, frozenset({403, 429}),  # xAI
            late_regex("used all available credits or reached its monthly spending limit|run out of credits", re.I)),
    Wording(FailureKind.REJECTED, frozenset({403}),
            late_regex("not have permission to access the file .{1,200} or it may not exist", re.I)),
)

# Sentences of endpoints that give no code, or one that says nothing. Never with 429: "quota" in the text of a rate
# limit would end the run. Patterns are phrases rather than words, since messages quote what users write.
WORDINGS = (
    Wording(FailureKind.RATE_LIMITED, frozenset({200, 403, 500, 503}), CLOUDFLARE_LIMIT),
    Wording(FailureKind.RATE_LIMITED, frozenset({200, 400, 403, 500, 503}), late_regex("负载已饱和|请求过于频繁")),
    Wording(FailureKind.RATE_LIMITED, frozenset({403}), late_regex("out of call volume quota", re.I)),  # Azure
    Wording(FailureKind.BAD_KEY, frozenset({200, 400}),  # Gemini, with FAILED_PRECONDITION
            late_regex("location is not supported for the API use|free tier is not available in your country", re.I)),
    Wording(FailureKind.NO_QUOTA, frozenset({401, 403}), late_regex("余额不足|额度|已欠费")),
    Wording(FailureKind.NO_QUOTA, frozenset({403}),  # OpenRouter, SiliconFlow
            late_regex(r"key limit exceeded \(total limit|balance is insufficient|not enough balance", re.I)),
    Wording(FailureKind.NO_QUOTA, frozenset({412}), late_regex("account .{1,100} is suspended", re.I)),  # Fireworks
    Wording(FailureKind.NO_QUOTA, frozenset({200, 400, 403}),
            late_regex("余额不足|额度不足|额度已用尽|已欠费|credit balance is too low|insufficient balance"
                       "|reached your specified (?:workspace )?API usage limits", re.I)),
    Wording(FailureKind.BAD_KEY, frozenset({200, 400}),  # the second is xAI's
            late_regex("organization has been disabled|incorrect api key provided", re.I)),
    Wording(FailureKind.UNKNOWN_MODEL, frozenset({200, 500, 503}),
            late_regex("无可用渠道|no available channels?\\b", re.I)),
    Wording(FailureKind.UNKNOWN_MODEL, frozenset({200, 400}),  # DeepSeek, SiliconFlow, LiteLLM, OpenRouter, OpenAI
            late_regex("模型不存在|model (?:does )?not exist|invalid model name passed in model"
                       "|is not a valid model ID|^invalid model ID"
                       "|model identifier is invalid|with on-demand throughput is", re.I)),  # Bedrock
    Wording(FailureKind.FILTERED, frozenset({200, 400, 500}),
            late_regex("敏感词|sensitive words detected|内容安全|content (?:management|filtering) policy", re.I)),
    Wording(FailureKind.FILTERED, frozenset({403}), late_regex("content violates usage guidelines", re.I)),  # xAI
    Wording(FailureKind.REJECTED, frozenset({200, 424, 500}),
            late_regex(r"maximum context length is \d|exceeds the available context size", re.I)),
    Wording(FailureKind.REJECTED, frozenset({500}), late_regex(r"^field \w+ is required")),  # new-api, as the first
)

# What the row says where the endpoint gives no message.
SAYINGS: Mapping[FailureKind, str] = {
    FailureKind.RATE_LIMITED:  "too many requests",
    FailureKind.TOO_MANY_OPEN: "too many requests at the same time",
    FailureKind.OVERLOADED:    "the endpoint is overloaded",
    FailureKind.BAD_KEY:       "the endpoint does not accept the key",
    FailureKind.RELAY_DENIED:  "the relay or the channel behind it does not accept the key",
    FailureKind.NO_QUOTA:      "the account has no quota left",
    FailureKind.UNKNOWN_MODEL: "nothing answers at this URL, or the model is unknown",
    FailureKind.REDIRECTED:    "the endpoint answers with a redirect, which is never followed: set the final URL",
    FailureKind.REJECTED:      "the endpoint rejects the request",
    FailureKind.UNREADABLE:    "the answer is empty",
}

# Types that only relay software writes: behind such a 401 may be one bad channel of many.
RELAY_TYPES = frozenset({
    "new_api_error", "one_api_error", "one_hub_error", "rix_api_error", "shell_api_error", "upstream_error",
    "bad_response_status_code",
})
# fmt: on

EMPTY_429_WAIT_S = 5.0  # the limiter of new-api and one-api sends no body and no header
CLOUDFLARE_WAIT_S = 60.0


class Answer(NamedTuple):
    """An answer that is not a completion, as far as it could be read."""

    status: int
    headers: Mapping[str, str]
    documents: list[Json]
    text: str  # the body
    saying: str = ""  # the message where the body itself has none


def read_failure(answer: Answer, *, now_s: float) -> Failure:
    """What went wrong. `now_s` is when the answer came, in seconds since the epoch."""
    complaint = find_complaint(answer.documents)
    if complaint is None:  # not JSON: the title of a page, else the start of the text
        is_plain = not (answer.documents or answer.saying)
        text = markup_title(answer.text) or answer.text.strip()[:MAX_MESSAGE] if is_plain else ""
        complaint = Complaint(message=text)
    kind = _kind_of(answer, complaint, now_s=now_s)
    # The last document that counts, since a stream counts as it goes on; Gemini has its chunks in one list.
    chunks = objects_in([one for each in answer.documents for one in (each if isinstance(each, list) else [each])])
    usages = (read_usage_beside(chunk) for chunk in reversed(chunks))
    usage = next((usage for usage in usages if usage != NO_USAGE), NO_USAGE)

    # A refusal costs nothing and is tried again freely, but not one that counted tokens.
    if usage.total_tokens and kind.rule.money is Money.REFUSED and kind.rule.scope is Scope.RETRY:
        kind = FailureKind.SERVER_ERROR  # whoever counts tokens may bill them
    words = complaint.message[:MAX_SEARCHED]
    wait_s = _wait_s(answer, words, now_s=now_s) if kind.rule.scope is Scope.RETRY else None
    quota = _quota(answer, complaint, kind, wait_s, now_s=now_s)
    if quota is not None and (wait_s is None or wait_s > LONGEST_WAIT_S):
        kind = FailureKind.LONG_WAIT

    code = f" {complaint.code}" if complaint.code and complaint.code != str(answer.status) else ""
    reason = complaint.message or answer.saying or SAYINGS.get(kind, "the endpoint does not say why")
    if kind is FailureKind.UNREADABLE and complaint.message and not answer.documents:
        reason = f"not a completion: {reason}"
    message = f"HTTP {answer.status}{code}: {reason}"
    if quota is not None and quota.is_stated and kind is FailureKind.LONG_WAIT:
        message = f"the endpoint asks to wait {say_wait(quota.renewed_at_s - now_s, now_s=now_s)}; {message}"
    limits = quota_limits(complaint.details) if kind is FailureKind.RATE_LIMITED else None
    if kind is FailureKind.TOO_MANY_OPEN:
        limits = open_at_once(words)
    return Failure(
        kind=kind,
        message=one_line(message, MAX_MESSAGE),
        http_status=answer.status,
        code=complaint.code,
        retry_after_s=None if wait_s is None else min(wait_s, LONGEST_WAIT_S),
        usage=usage,
        limits=limits,
        quota=quota,
    )


# A quota that no short pause refills ends the run, so it takes a sign of its own:
#
# - A wait beyond 15 minutes is one, whatever it is for: nobody waits that long.
# - Else the failure must be one that a used-up quota may be: a rate, an overload, an empty account, or a status that
#   relays give to everything where nothing else decided.
# - The time of its renewal counts where it is beyond 15 minutes, and either a span is named or the failure is one of
#   quotas. A nearer one is a pause like any other.
# - A named span without any time: the usual turn of that span, and the row says that this is a guess.
#
# Headers are not read for a failure that lasts: they speak of rates, which the answer is not about.
def _quota(
    answer: Answer, complaint: Complaint, kind: FailureKind, wait_s: float | None, *, now_s: float
) -> Quota | None:
    """The quota that is used up, where it is one that no short pause refills."""
    if wait_s is not None and wait_s > LONGEST_WAIT_S:
        return Quota(now_s + wait_s)
    if kind not in _OF_QUOTAS and not _is_undecided(answer, complaint, kind):
        return None
    words = complaint.message[:MAX_SEARCHED]
    headers = answer.headers if kind.rule.scope is Scope.RETRY else {}
    renewal_s = renewal_wait_s(headers, answer.documents, words, now_s=now_s)
    span = span_of_names((*complaint.codes, *complaint.quota_ids)) or span_of_headers(headers)
    span = span or span_of_fields(fields_of(answer.documents)) or span_of_words(words)
    if renewal_s is not None and renewal_s > LONGEST_WAIT_S:  # also of a purse that is filled again by itself
        return Quota(now_s + renewal_s) if span or kind in _OF_QUOTAS else None
    if span is None or renewal_s is not None:
        return None
    return Quota(likely_renewal_s(span, now_s=now_s, is_google=bool(complaint.quota_ids)), is_stated=False)


# Failures that a used-up quota may be.
_OF_QUOTAS = frozenset({FailureKind.RATE_LIMITED, FailureKind.OVERLOADED, FailureKind.NO_QUOTA})


def _is_undecided(answer: Answer, complaint: Complaint, kind: FailureKind) -> bool:
    """Whether only the status says what it is, one of those that relays give to quotas as well. Not so for a request
    that is called invalid: its message says what is wrong with it, and that may be about days and limits."""
    status = complaint.status or answer.status
    codes = [code.lower() for code in complaint.codes]
    is_by_code = _by_code(codes, status) is not None
    is_invalid = any(BY_VAGUE_CODE.get(code) is FailureKind.REJECTED for code in codes)
    return (
        not (is_by_code or is_invalid)
        and kind is not FailureKind.FILTERED
        and _as_listed(status) in (200, 400, 403, 500)
    )


# The first of these that decides anything says what an answer means:
#
# 1. Gemini's block of a prompt. It comes as a success without candidates, in `promptFeedback`.
# 2. OVERRULING: the few sentences without which a code would mean two things.
# 3. A code that means one thing, alone or with the status.
# 4. A status that means one thing. 402 does not where a wait is asked for beside it: that is a rate, not a debt.
# 5. A sentence (WORDINGS), a vague code where the status says nothing, the usual meaning of the status, its range. The
#    server's own word, x-should-retry (of OpenAI and Anthropic, whose clients obey it), overrules these, and never 1 to
#    4, which are certain.
#
# Two things come on top. A refusal for a rate may be one for the number of requests in flight: what helps then is fewer
# at a time, not a pause. And a relay's refusal of a key may be that of one bad channel of many: such rows are tried
# again, where the same status of a vendor ends the job.
def _kind_of(answer: Answer, complaint: Complaint, *, now_s: float) -> FailureKind:
    if complaint.is_blocked_prompt:
        return FailureKind.FILTERED
    status = complaint.status or answer.status
    for wording in OVERRULING:
        if _fits(wording, complaint.message, status):
            return wording.kind

    codes = [code.lower() for code in complaint.codes]
    kind = _by_code(codes, status)
    if status == 402 and kind in (None, FailureKind.RATE_LIMITED):
        # Google sends the code of a rate with it. Some relays mean a rate by it, and say how long to wait.
        asked_s = asked_wait_s(answer.headers, answer.documents, complaint.message[:MAX_SEARCHED], now_s=now_s)
        kind = FailureKind.NO_QUOTA if asked_s is None else FailureKind.RATE_LIMITED
    kind = kind or BY_STATUS.get(status)
    if kind in _MAY_BE_OF_WHAT_IS_OPEN and status in (420, 429, 503):
        names = (*codes, *(answer.headers.get(name, "").lower() for name in _LIMIT_NAMES))
        if any(map(_OPEN_IN_NAME.search, names)) or says_too_many_open(complaint.message[:MAX_SEARCHED]):
            return FailureKind.TOO_MANY_OPEN

    if kind is None:
        words = complaint.message if answer.documents else answer.text
        vague = codes if status == 500 or 200 <= status < 300 else []
        kind = (
            next((wording.kind for wording in WORDINGS if _fits(wording, words, status)), None)
            or next((BY_VAGUE_CODE[code] for code in vague if code in BY_VAGUE_CODE), None)
            or BY_UNDECIDED_STATUS.get(status)
            or BY_RANGE.get(status // 100, FailureKind.UNREADABLE)
        )
        word = answer.headers.get("x-should-retry", "").strip().lower()
        if word == "true" and kind.rule.scope is not Scope.RETRY:
            kind = FailureKind.RELAY_ERROR
        elif word == "false" and kind.rule.scope is Scope.RETRY:
            kind = FailureKind.REJECTED
    if kind is FailureKind.BAD_KEY and not RELAY_TYPES.isdisjoint(codes):
        return FailureKind.RELAY_DENIED
    return kind


_MAY_BE_OF_WHAT_IS_OPEN = frozenset({FailureKind.RATE_LIMITED, FailureKind.OVERLOADED, None})
_LIMIT_NAMES = ("rate_limit_type", "x-ratelimit-type")  # LiteLLM, GitHub Models
_OPEN_IN_NAME = late_regex("max_?parallel|concurren(?!cy_unavailable)")


def _by_code(codes: list[str], status: int) -> FailureKind | None:
    for code in codes:
        if kind := BY_CODE_AND_STATUS.get((code, status)) or BY_CODE.get(code):
            return kind
    return None


def _fits(wording: Wording, words: str, status: int) -> bool:
    return _as_listed(status) in wording.statuses and wording.pattern.search(words[:MAX_SEARCHED]) is not None


def _as_listed(status: int) -> int:
    return 200 if 200 <= status < 300 else status


def _wait_s(answer: Answer, words: str, *, now_s: float) -> float | None:
    asked = asked_wait_s(answer.headers, answer.documents, words, now_s=now_s)
    if asked is not None:
        return asked
    if CLOUDFLARE_LIMIT.search(answer.text[:MAX_SEARCHED]):
        return CLOUDFLARE_WAIT_S
    renewal_s = renewal_wait_s(answer.headers, answer.documents, words, now_s=now_s)
    if renewal_s is None and answer.status == 429 and not answer.text.strip():
        return EMPTY_429_WAIT_S
    return renewal_s
