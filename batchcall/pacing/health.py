"""Whether an endpoint still serves this job: what one failed row may not decide, many may. Pure, without a clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from batchcall.base import ExitCode, Failure, FailureKind, Quota, Scope, Status

# Hosts that speak for themselves. Any other may be a relay, which passes on the 401 of one bad channel of many.
FIRST_PARTY_HOSTS = (
    "api.openai.com",
    "*.openai.azure.com",
    "*.cognitiveservices.azure.com",
    "*.services.ai.azure.com",
    "api.anthropic.com",
    "generativelanguage.googleapis.com",
)

_SAMPLE = 50  # rows, and
_SAMPLE_SHARE = 0.9  # of them failing alike, by which a fault of the job shows that no single answer names


class Verdict(msgspec.Struct, frozen=True):
    """The run ends: nothing more is sent, what is in flight is awaited, rows that have not ended stay unmarked."""

    exit_code: ExitCode  # ENDPOINT_REFUSES: somebody must fix something; STOPPED_EARLY: later may do
    reason: str
    hint: str
    quota: Quota | None = None  # that is used up, where that is the reason


class _Refusal(NamedTuple):
    """A failure that is the whole job's: how many in a row end a job that has worked before, and the message.

    One is enough for a job that never worked.
    """

    tolerated: int
    tolerated_of_relay: int
    saying: str
    hint: str


# fmt: off
_REFUSALS: Mapping[FailureKind, _Refusal] = {
    FailureKind.BAD_KEY: _Refusal(
        3, 10, "the endpoint does not accept the key",
        "check endpoint.api_key, endpoint.auth and what the key may do; then run the same command"),
    FailureKind.RELAY_DENIED: _Refusal(
        10, 10, "the relay, or a channel behind it, does not accept the key",
        "check endpoint.api_key and the relay's channels; then run the same command"),
    FailureKind.NO_QUOTA: _Refusal(
        1, 1, "the account has no quota left",
        "add credit to the account, then run the same command"),
    FailureKind.UNKNOWN_MODEL: _Refusal(
        10, 10, "the endpoint does not know the model or the URL",
        "check request.model and endpoint.url; then run the same command"),
    FailureKind.REDIRECTED: _Refusal(
        1, 1, "the endpoint answers with a redirect, which is never followed",
        "set endpoint.url to the final address"),
    FailureKind.UNTRUSTED: _Refusal(
        10, 10, "the endpoint's certificate is not trusted",
        "set endpoint.ca_file to a PEM file with the authority that signed its certificate, or correct endpoint.url;"
        " then run the same command"),
    FailureKind.WRONG_SCHEME: _Refusal(
        10, 10, "endpoint.url names the wrong scheme",
        "change http to https in endpoint.url, or https to http; then run the same command"),
}
# fmt: on

_TOO_MUCH_FOR_ANY_ROW = frozenset({413, 422})  # as the very first judgement: the job's own fault, not that row's
# What one row may do by itself and nearly all of the first fifty only for the job's sake. Not what the endpoint does
# when it is down or busy: that passes.
_ALIKE = frozenset(
    {
        Status.REQUEST_REJECTED,
        Status.BAD_RESPONSE,
        Status.TRUNCATED,
        Status.NO_CALL,
        Status.INVALID_ARGUMENTS,
        Status.BAD_JSON,
        Status.UNKNOWN_TOOL,
        Status.REFUSED,
        Status.FILTERED,
    }
)
_WHAT_TO_DO: Mapping[Status, str] = {
    Status.TRUNCATED: "raise max_tokens under [request]",
    Status.NO_CALL: 'set request.tool_choice = "required", or change the prompt',
    Status.UNKNOWN_TOOL: "look at the tools' names and descriptions",
    Status.INVALID_ARGUMENTS: "look at the tool's schema and description; validate.coerce and validate.reask may help",
    Status.BAD_JSON: "look at request.max_tokens and the model; validate.reask may help",
}


class Health:
    """What is known about one endpoint. It sees every attempt and every row, in the order they end."""

    def __init__(self, *, host: str, tolerates_all: bool = False) -> None:
        """`host` is the endpoint's host name or its URL. `tolerates_all`: failing rows end nothing."""
        self._tolerates_all = tolerates_all
        self._is_first_party = _is_first_party(host)
        self._has_worked = False
        self._judged = 0  # requests that were read and judged: replies, and failures that are the row's own
        self._refused_in_a_row = 0
        self._finished: Counter[Status] = Counter()
        self._sampled = 0  # of these

    def saw_reply(self) -> None:
        """A request was answered with a completion, whatever its arguments are worth."""
        self._judged += 1
        self._has_worked = True
        self._refused_in_a_row = 0

    def saw(self, failure: Failure) -> Verdict | None:
        """A request failed. None: the run goes on, and `RetryPolicy` decides about the row."""
        if failure.kind is FailureKind.LONG_WAIT:
            return used_up(failure)
        if failure.kind in _REFUSALS:
            return self._refused(failure, _REFUSALS[failure.kind])
        if failure.kind is FailureKind.REJECTED:
            self._judged += 1
            if self._judged > 1 or failure.http_status not in _TOO_MUCH_FOR_ANY_ROW:
                return None
            return Verdict(
                ExitCode.ENDPOINT_REFUSES,
                f"the endpoint rejects the very first request ({failure.message})",
                "check the tools and the parameters under [request]; `batchcall check` shows the request",
            )
        if failure.kind.rule.scope is Scope.ROW:  # filtered, too large: the model's side has read this very prompt
            self.saw_reply()
        return None

    def saw_row_end(self, status: Status) -> Verdict | None:
        """A row ended. None: the run goes on. Rows that were never sent show nothing and are not counted."""
        if self._sampled >= _SAMPLE or status is Status.BAD_ROW or self._tolerates_all:
            return None
        self._finished[status] += 1
        self._sampled += 1
        if self._sampled < _SAMPLE:
            return None
        (alike, rows), *_ = self._finished.most_common(1)
        if alike not in _ALIKE or rows < _SAMPLE_SHARE * _SAMPLE:
            return None
        return Verdict(
            ExitCode.STOPPED_EARLY,
            f"{rows} of the first {_SAMPLE} rows ended as {alike}",
            f"{_WHAT_TO_DO.get(alike, 'look at their `error` column')}; `--retry-failed` tries these again,"
            ' limits.max_failed = "100%" lets the run go on anyway',
        )

    def _refused(self, failure: Failure, refusal: _Refusal) -> Verdict | None:
        # A job that never worked ends at its first refusal. One that has worked is given a few in a row, and more
        # behind a relay: one of its many channels may have a bad key.
        self._refused_in_a_row += 1
        tolerated = refusal.tolerated if self._is_first_party else refusal.tolerated_of_relay
        if self._has_worked and self._refused_in_a_row < tolerated:
            return None
        return Verdict(ExitCode.ENDPOINT_REFUSES, f"{refusal.saying} ({failure.message})", refusal.hint)


def used_up(failure: Failure) -> Verdict:
    """The verdict where a quota is used up that no pause refills."""
    # Trying again would only be refused, and some providers count refused requests too.
    quota = failure.quota
    if quota is None:
        return Verdict(ExitCode.STOPPED_EARLY, f"a quota is used up ({failure.message})", "run the same command later")
    moment = f"{as_utc(quota.renewed_at_s):%Y-%m-%d %H:%M} UTC"
    if quota.is_stated:
        return Verdict(ExitCode.STOPPED_EARLY, failure.message, f"run the same command after {moment}", quota)
    reason = f"a quota is used up, probably until {moment} ({failure.message})"
    hint = f"the endpoint does not say when it is renewed: run the same command after {moment}"
    return Verdict(ExitCode.STOPPED_EARLY, reason, hint, quota)


def as_utc(moment_s: float) -> datetime:
    """A moment, in seconds since the epoch, rounded up to a full minute; the end of this century for any later one."""
    return datetime.fromtimestamp(60 * math.ceil(min(moment_s, _CENTURY_S) / 60), UTC)


_CENTURY_S = 4_102_444_800.0


def _is_first_party(host: str) -> bool:
    name = (urlsplit(host).hostname if "//" in host else host) or ""
    return any(fnmatchcase(name.lower(), pattern) for pattern in FIRST_PARTY_HOSTS)
