"""The values that travel between the stages of a run: small, frozen, without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Any, NamedTuple, TypeAlias

import msgspec

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


class Status(StrEnum):
    """How a row ended; the `status` column."""

    OK = "ok"
    INVALID_ARGUMENTS = "invalid_arguments"
    BAD_JSON = "bad_json"
    UNKNOWN_TOOL = "unknown_tool"
    NO_CALL = "no_call"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    FILTERED = "filtered"
    BAD_RESPONSE = "bad_response"
    REQUEST_REJECTED = "request_rejected"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    OVERLOADED = "overloaded"
    BAD_ROW = "bad_row"


class Money(StrEnum):
    """What a request that got no usable answer may have cost."""

    UNSENT = "unsent"  # never left this machine: try again freely
    REFUSED = "refused"  # turned away before any work: not billed in practice
    AMBIGUOUS = "ambiguous"  # sent, no readable answer: may be billed, so few more tries, counted
    PAID = "paid"  # an answer came and is billed, good or not: never retried blindly


class Scope(StrEnum):
    """Whose fault a failure is, and so what ends."""

    RETRY = "retry"  # nobody's: the same request may work later
    ROW = "row"  # this row's: it ends, the next row goes on
    JOB = "job"  # the key's, the account's, the model's: every row would fail the same way


class FailureRule(NamedTuple):
    """One row of the table of failures."""

    status: Status  # how the row ends when it is this failure that ends it
    money: Money
    scope: Scope
    slows: bool  # the endpoint asks everybody to slow down, not just this row


class FailureKind(Enum):
    """The table of failures: retry, gate, health and summary read it and know no other."""

    # Money decides how often the same request may be sent again: freely, a few times and counted, never. Scope decides
    # what ends. Whether the others slow down is a question of its own: a server that is overloaded asks everybody, one
    # that fails has failed one request.
    # fmt: off
    UNCONNECTED    = "unconnected", FailureRule(Status.UNREACHABLE, Money.UNSENT, Scope.RETRY, False)
    NO_DESCRIPTORS = "no_descriptors", FailureRule(Status.UNREACHABLE, Money.UNSENT, Scope.RETRY, False)
    DISCONNECTED   = "disconnected", FailureRule(Status.UNREACHABLE, Money.AMBIGUOUS, Scope.RETRY, False)
    TIMED_OUT      = "timed_out", FailureRule(Status.TIMED_OUT, Money.AMBIGUOUS, Scope.RETRY, False)
    RATE_LIMITED   = "rate_limited", FailureRule(Status.OVERLOADED, Money.REFUSED, Scope.RETRY, True)
    OVERLOADED     = "overloaded", FailureRule(Status.OVERLOADED, Money.REFUSED, Scope.RETRY, True)
    SERVER_ERROR   = "server_error", FailureRule(Status.OVERLOADED, Money.AMBIGUOUS, Scope.RETRY, False)
    TOO_MANY_OPEN  = "too_many_open", FailureRule(Status.OVERLOADED, Money.REFUSED, Scope.RETRY, True)
    RELAY_ERROR    = "relay_error", FailureRule(Status.OVERLOADED, Money.REFUSED, Scope.RETRY, False)
    UNREADABLE     = "unreadable", FailureRule(Status.BAD_RESPONSE, Money.AMBIGUOUS, Scope.RETRY, False)
    TOO_LARGE      = "too_large", FailureRule(Status.BAD_RESPONSE, Money.PAID, Scope.ROW, False)
    UNDIGESTED     = "undigested", FailureRule(Status.BAD_RESPONSE, Money.PAID, Scope.ROW, False)
    REJECTED       = "rejected", FailureRule(Status.REQUEST_REJECTED, Money.REFUSED, Scope.ROW, False)
    FILTERED       = "filtered", FailureRule(Status.FILTERED, Money.REFUSED, Scope.ROW, False)
    BAD_KEY        = "bad_key", FailureRule(Status.REQUEST_REJECTED, Money.REFUSED, Scope.JOB, False)
    NO_QUOTA       = "no_quota", FailureRule(Status.REQUEST_REJECTED, Money.REFUSED, Scope.JOB, False)
    UNKNOWN_MODEL  = "unknown_model", FailureRule(Status.REQUEST_REJECTED, Money.REFUSED, Scope.JOB, False)
    REDIRECTED     = "redirected", FailureRule(Status.REQUEST_REJECTED, Money.REFUSED, Scope.JOB, False)
    RELAY_DENIED   = "relay_denied", FailureRule(Status.REQUEST_REJECTED, Money.REFUSED, Scope.JOB, False)
    UNTRUSTED      = "untrusted", FailureRule(Status.UNREACHABLE, Money.UNSENT, Scope.JOB, False)
    WRONG_SCHEME   = "wrong_scheme", FailureRule(Status.UNREACHABLE, Money.UNSENT, Scope.JOB, False)
    LONG_WAIT      = "long_wait", FailureRule(Status.OVERLOADED, Money.REFUSED, Scope.JOB, True)
    # fmt: on

    def __init__(self, label: str, rule: FailureRule) -> None:
        self.label = label
        self.rule = rule


class Row(msgspec.Struct, frozen=True):
    """One row of the input."""

    index: int  # position in the input, from 0
    values: Mapping[str, Any]  # the columns that make its request, by name; empty where `fault` says why
    where: str  # "receipts.jsonl:17", for messages to a person
    fault: str | None = None  # why the row cannot be read; it then ends as bad_row
    kept: Any = None  # what the output carries over of it: a `KeptRow`, which nobody but `files` looks into


class Tool(msgspec.Struct, frozen=True):
    """A function the model may call."""

    name: str
    parameters: Mapping[str, Json]  # JSON Schema of the arguments, as the user wrote it
    written: Mapping[str, Json]  # the whole OpenAI tool object as the user wrote it; this is what is sent


class Bill(msgspec.Struct):
    """Requests that may have been paid and brought nothing."""

    indeterminate: int = 0  # in flight when a run died
    possibly_paid_twice: dict[str, int] = {}  # sent again, by how the one before had failed

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Bill:
        """As another version may have written it: what it lacks is 0, and what it has more is left out."""
        return cls(written.get("indeterminate", 0), dict(written.get("possibly_paid_twice", {})))

    def add(self, other: Bill) -> None:
        self.indeterminate += other.indeterminate
        for reason, count in other.possibly_paid_twice.items():
            self.count(reason, count)

    def count(self, reason: str, times: int = 1) -> None:
        self.possibly_paid_twice[reason] = self.possibly_paid_twice.get(reason, 0) + times


class Shape(msgspec.Struct, frozen=True, eq=False):
    """What a request says besides its messages. One object serves every row of a job, so it is encoded and
    hashed once; compared by identity for that reason. Rows that bring their own tools have their own shape."""

    model: str
    tools: tuple[Tool, ...] = ()
    tool_choice: Json = None  # "auto", "required", "none", {"type": "function", ...}; None: not sent
    parameters: Mapping[str, Json] = {}  # every other key of the body, as written


class Request(msgspec.Struct, frozen=True):
    """What is asked, in no vendor's words (messages are in the chat-completions form, the common one)."""

    shape: Shape
    messages: list[Json]


class HttpRequest(msgspec.Struct, frozen=True):
    """One POST, without the endpoint's constant headers."""

    path: str  # appended to the endpoint's URL: "/chat/completions"; a query in it joins the URL's own
    body: bytes


class HttpResponse(msgspec.Struct, frozen=True):
    """What came back, whole and unread."""

    status: int
    headers: Mapping[str, str]  # names in lower case; only those in `KEPT_HEADERS` survive the journal
    body: bytes  # decoded from its content encoding, cut at the cap
    is_cut: bool = False  # the body was longer than the cap; the start is here


class Usage(msgspec.Struct, frozen=True, eq=False):
    """Tokens as the endpoint counted them; None where it said nothing. Totals include cached and reasoning."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    is_partial: bool = False  # a count was left out that cannot be true; equal to one without it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and self._counts() == other._counts()

    def __hash__(self) -> int:
        return hash(self._counts())

    def _counts(self) -> tuple[int | None, ...]:
        counts = self.prompt_tokens, self.completion_tokens, self.total_tokens
        return (*counts, self.cached_tokens, self.reasoning_tokens)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            _sum(self.prompt_tokens, other.prompt_tokens),
            _sum(self.completion_tokens, other.completion_tokens),
            _sum(self.total_tokens, other.total_tokens),
            _sum(self.cached_tokens, other.cached_tokens),
            _sum(self.reasoning_tokens, other.reasoning_tokens),
            self.is_partial or other.is_partial,
        )


def _sum(left: int | None, right: int | None) -> int | None:
    if left is None:
        return right
    return left if right is None else min(left + right, _MOST)


_MOST = 2**63 - 1  # what a column of the output holds: sums stay there, so that no part fails for them

NO_USAGE = Usage()


class RateLimits(msgspec.Struct, frozen=True):
    """What an endpoint says of its limits; None where it says nothing."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    open_at_once: int | None = None  # requests in flight


class Quota(msgspec.Struct, frozen=True):
    """A limit of an hour, a day, a week or a month that is used up: no pause refills it."""

    renewed_at_s: float  # seconds since the epoch, UTC
    is_stated: bool = True  # the endpoint says so; else when such a quota is usually renewed


class Failure(msgspec.Struct, frozen=True):
    """Why a request brought no answer to read."""

    kind: FailureKind
    message: str  # one sentence for a person; never a secret
    http_status: int | None = None
    code: str | None = None  # the endpoint's own code or type, where it gave one
    retry_after_s: float | None = None  # what the server asked for, finite and clamped to [0, 900]
    usage: Usage = NO_USAGE  # some endpoints bill a failure and say so
    limits: RateLimits | None = None  # some name the limit that was met
    quota: Quota | None = None  # that is used up, or seems to be


class RawCall(msgspec.Struct, frozen=True):
    """A function call as the endpoint sent it."""

    name: str
    arguments: str  # exactly as received; JSON text of it where it came as an object
    id: str | None = None
    is_object: bool = False  # the arguments came as a JSON object where the protocol has a string


class Reply(msgspec.Struct, frozen=True):
    """A completion in our words, not yet checked against any schema."""

    calls: tuple[RawCall, ...] = ()
    content: str | None = None
    refusal: str | None = None  # the model's own words, where it refused
    finish_reason: str | None = None  # as the endpoint said it
    model: str | None = None
    response_id: str | None = None
    system_fingerprint: str | None = None
    usage: Usage = NO_USAGE
    repairs: tuple[str, ...] = ()  # what had to be repaired to read the body at all


class Attempt(msgspec.Struct, frozen=True):
    """One request that was sent and what came of it: what the journal keeps of a row, and all that is needed to
    read the row's outcome again at any time."""

    row: int
    number: int  # from 1, over all runs
    request_hash: str
    response: HttpResponse | None  # None: `failure` says why
    failure: Failure | None  # failures of the transport only; what an answer means is read from it
    sent_at_s: float  # seconds since the epoch, UTC
    latency_s: float
    wait_s: float  # spent before this attempt, waiting for limits and retries
    endpoint: str  # the endpoint that was asked, as the `endpoint` column says it
    protocol: str | None = None  # it spoke, where those of a pool differ; None: the job's
    model: str | None = None  # it was asked for, where those of a pool differ; None: the request's


class ToolCall(msgspec.Struct, frozen=True):
    """A function call as the `calls` column shows it."""

    id: str | None
    name: str
    arguments: str  # exactly as received
    error: str | None  # why it is not valid, with a JSON pointer; None when it is


class Outcome(msgspec.Struct, frozen=True):
    """How one row ended. Exactly one is written for every row a run finishes. Field by field the output's columns."""

    row: int
    status: Status
    error: str | None = None  # one sentence for a person, about the answer; never a secret
    left_out: str | None = None  # the end of the column `error`: values of the input that had no place in an older part
    tool: str | None = None
    arguments: Json = None  # only when valid
    calls: tuple[ToolCall, ...] = ()
    content: str | None = None
    repairs: tuple[str, ...] = ()
    finish_reason: str | None = None
    model: str | None = None
    response_id: str | None = None
    system_fingerprint: str | None = None
    attempts: int = 0
    usage: Usage = NO_USAGE  # over all attempts: a billed failure counts
    cost: float | None = None  # USD; None when no price is known
    latency_s: float | None = None  # of the last attempt
    wait_s: float | None = None
    http_status: int | None = None
    endpoint: str | None = None
    request_hash: str | None = None
    finished_at_s: float = 0.0  # seconds since the epoch, UTC
