"""Whether an endpoint still serves this job: what one failed row may not decide, many may. Pure, without a clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple
from urllib.parse import urlsplit

from batchcall.errors import ExitCode
from batchcall.records import Failure, FailureKind, Scope, Status

# Hosts that speak for themselves. Any other may be a relay, which passes on the 401 of one bad channel of many.
FIRST_PARTY_HOSTS = (
    "api.openai.com",
    "*.openai.azure.com",
    "api.anthropic.com",
    "generativelanguage.googleapis.com",
)

_RAMP = 8  # in flight after the first reply, until as many more have come
_LOST_ROWS = 20  # in a row given up for the endpoint's sake, no reply in between: it is down
_LOST_ROWS_AT_START = 3  # the same while nothing ever worked: more likely a wrong URL
_SAMPLE = 50  # rows, and
_SAMPLE_SHARE = 0.9  # of them failing alike, by which a fault of the job shows that no single answer names


@dataclass(frozen=True, slots=True)
class Verdict:
    """The run ends: nothing more is sent, what is in flight is awaited, rows that have not ended stay unmarked."""

    exit_code: ExitCode  # ENDPOINT_REFUSES: somebody must mend something; STOPPED_EARLY: later may do
    reason: str
    hint: str


class _Refusal(NamedTuple):
    """A failure that is the whole job's: how many in a row end a job that has worked before, and what is said.

    One is enough for a job that never worked.
    """

    tolerated: int
    tolerated_of_relay: int
    exit_code: ExitCode
    saying: str
    hint: str


# fmt: off
_REFUSALS: Mapping[FailureKind, _Refusal] = {
    FailureKind.BAD_KEY: _Refusal(
        3, 10, ExitCode.ENDPOINT_REFUSES, "the endpoint does not accept the key",
        "check endpoint.api_key, endpoint.auth and what the key may do; then run the same command"),
    FailureKind.RELAY_DENIED: _Refusal(
        10, 10, ExitCode.ENDPOINT_REFUSES, "the relay, or a channel behind it, does not accept the key",
        "check endpoint.api_key and the relay's channels; then run the same command"),
    FailureKind.NO_QUOTA: _Refusal(
        1, 1, ExitCode.ENDPOINT_REFUSES, "the account has no quota left",
        "top the account up, then run the same command"),
    FailureKind.UNKNOWN_MODEL: _Refusal(
        10, 10, ExitCode.ENDPOINT_REFUSES, "the endpoint does not know the model or the URL",
        "check request.model and endpoint.url; then run the same command"),
    FailureKind.REDIRECTED: _Refusal(
        1, 1, ExitCode.ENDPOINT_REFUSES, "the endpoint answers with a redirect, which is never followed",
        "set endpoint.url to the final address"),
    FailureKind.LONG_WAIT: _Refusal(
        1, 1, ExitCode.STOPPED_EARLY, "the endpoint asks for a pause longer than 15 minutes",
        "run the same command when it is over"),
}
# fmt: on

_TOO_MUCH_FOR_ANY_ROW = frozenset({413, 422})  # as the very first judgement: the job's own fault, not that row's
_LOST = frozenset({Status.UNREACHABLE, Status.TIMED_OUT, Status.OVERLOADED})
_ALIKE = frozenset({Status.REQUEST_REJECTED, Status.BAD_RESPONSE})


class Health:
    """What is known of one endpoint. Told of every finished attempt and every finished row, in the order they end."""

    def __init__(self, *, host: str) -> None:
        """`host` is the endpoint's host name or its URL."""
        self._is_first_party = _is_first_party(host)
        self._replies = 0
        self._judged = 0  # requests that were read and judged: replies, and failures that are the row's own
        self._refused_in_a_row = 0
        self._lost_in_a_row = 0
        self._finished: Counter[Status] = Counter()

    @property
    def is_canary_over(self) -> bool:
        """Something has worked: key, model and URL are right."""
        return self._replies > 0

    def allowed_in_flight(self, concurrency: int) -> int:
        """Row 1 goes alone, then 8 together, then all: a wrong key, model or URL costs one request."""
        if not self._replies:
            return 1
        return min(_RAMP, concurrency) if self._replies <= _RAMP else concurrency

    def saw_reply(self) -> None:
        """A request was answered with a completion, whatever its arguments are worth."""
        self._judged += 1
        self._replies += 1
        self._refused_in_a_row = self._lost_in_a_row = 0

    def saw(self, failure: Failure) -> Verdict | None:
        """A request failed. None: the run goes on, and `RetryPolicy` says what becomes of the row."""
        if failure.kind in _REFUSALS:
            return self._refused(failure, _REFUSALS[failure.kind])
        if failure.kind is FailureKind.REJECTED:
            return self._rejected(failure)
        if failure.kind.rule.scope is Scope.ROW:  # filtered, too large: the model's side has read this very prompt
            self.saw_reply()
        return None

    def saw_row_end(self, status: Status) -> Verdict | None:
        """A row ended. None: the run goes on. Rows that were never sent tell nothing and are not counted."""
        if status is Status.BAD_ROW:
            return None
        self._lost_in_a_row = self._lost_in_a_row + 1 if status in _LOST else 0
        if self._lost_in_a_row >= (_LOST_ROWS if self._replies else _LOST_ROWS_AT_START):
            return _given_up(self._lost_in_a_row, status)
        return self._sampled(status)

    def _refused(self, failure: Failure, refusal: _Refusal) -> Verdict | None:
        self._refused_in_a_row += 1
        tolerated = refusal.tolerated if self._is_first_party else refusal.tolerated_of_relay
        if self._replies and self._refused_in_a_row < tolerated:
            return None
        return Verdict(refusal.exit_code, f"{refusal.saying} ({failure.message})", refusal.hint)

    def _rejected(self, failure: Failure) -> Verdict | None:
        self._judged += 1
        if self._judged > 1 or failure.http_status not in _TOO_MUCH_FOR_ANY_ROW:
            return None
        return Verdict(
            ExitCode.ENDPOINT_REFUSES,
            f"the endpoint rejects the very first request ({failure.message})",
            "check the tools and the parameters under [request]; `batchcall check` shows the request",
        )

    def _sampled(self, status: Status) -> Verdict | None:
        seen = self._finished.total()
        if seen >= _SAMPLE:
            return None
        self._finished[status] += 1
        if seen + 1 < _SAMPLE:
            return None
        return next((_failing_alike(s, n) for s, n in self._finished.items() if _is_fault_of_all(s, n)), None)


def _is_first_party(host: str) -> bool:
    name = (urlsplit(host).hostname if "//" in host else host) or ""
    return any(fnmatchcase(name.lower(), pattern) for pattern in FIRST_PARTY_HOSTS)


def _is_fault_of_all(status: Status, rows: int) -> bool:
    return status in _ALIKE and rows >= _SAMPLE_SHARE * _SAMPLE


def _given_up(rows: int, status: Status) -> Verdict:
    return Verdict(
        ExitCode.STOPPED_EARLY,
        f"{rows} rows in a row were given up, the last as {status}, and nothing was answered in between",
        "see whether the endpoint is up and endpoint.url right; the same command goes on, `--retry-failed` mends these",
    )


def _failing_alike(status: Status, rows: int) -> Verdict:
    return Verdict(
        ExitCode.STOPPED_EARLY,
        f"{rows} of the first {_SAMPLE} rows ended as {status}",
        "look at their `error` column; the same command goes on, `--retry-failed` tries these again",
    )
