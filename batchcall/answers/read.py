"""From what was received to how the row ended: a pure function of the request and the raw answers.

A live run, a resume and `revalidate` share it, so the same bytes always mean the same outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import orjson
from msgspec.structs import replace

from batchcall.answers.arguments import Toolbox, ToolResult
from batchcall.base import (
    NO_USAGE,
    Attempt,
    Failure,
    FailureKind,
    Money,
    Outcome,
    Redactor,
    Reply,
    Request,
    Row,
    Scope,
    Status,
    Usage,
)
from batchcall.dialects import DEFAULT_CAPS, Dialect, max_tokens_of, too_large
from batchcall.pacing import MOST_AMBIGUOUS, NO_MORE_DOUBTS

Pricing = Callable[[str, Usage], float | None]  # model and tokens → USD, None where no price is known


class Prepared(msgspec.Struct, frozen=True):
    """A row with what is to be asked, and what earlier runs already know of it."""

    row: Row
    request: Request
    request_hash: str
    toolbox: Toolbox
    attempts: tuple[Attempt, ...] = ()  # of earlier runs, in order
    unsure: frozenset[int] = frozenset()  # numbers of those over which a run may have died
    sent: int = 0  # requests sent so far, the lost ones included
    is_ended: bool = False  # given up by an earlier run: nothing more is sent
    before: Outcome | None = None  # how the row failed in an earlier run, where it is tried again

    @property
    def size(self) -> int:
        """About how many bytes its messages hold, and the answers it has already."""
        messages = self.request.messages
        try:
            size = len(orjson.dumps(messages))  # to write them takes less time than to walk through them
        except TypeError:  # a long integer, half a surrogate pair, a deep nest
            size = len(repr(messages))
        return size + _size_of(self.attempts) if self.attempts else size


class Ended(msgspec.Struct, frozen=True):
    """A row, how it ended, and every attempt that led there."""

    row: Row
    outcome: Outcome
    attempts: tuple[Attempt, ...] = ()


def size_of(ended: Ended) -> int:
    """About how many bytes it holds: the answers received, and what was read of them."""
    return _size_of(ended.attempts)


def _size_of(attempts: Sequence[Attempt]) -> int:
    """With what is read of them."""
    return 2 * sum([len(one.response.body) for one in attempts if one.response is not None])


class ParsedAttempt(msgspec.Struct, frozen=True):
    """One attempt, read: either a failure, or a reply with what its call came to."""

    attempt: Attempt
    failure: Failure | None = None
    reply: Reply | None = None
    result: ToolResult | None = None

    @property
    def usage(self) -> Usage:
        if self.reply is not None:
            return self.reply.usage
        return self.failure.usage if self.failure is not None else NO_USAGE

    @property
    def is_ambiguous(self) -> bool:
        return self.failure is not None and self.failure.kind.rule.money is Money.AMBIGUOUS

    @property
    def ends_nothing(self) -> bool:
        """A failure of the job, not of the row: the row is as if it had not been tried."""
        return self.failure is not None and self.failure.kind.rule.scope is Scope.JOB


WORTH_REASKING = frozenset({Status.INVALID_ARGUMENTS, Status.BAD_JSON, Status.UNKNOWN_TOOL, Status.NO_CALL})


class AnswerParser(msgspec.Struct, frozen=True):
    """How answers are read in this job."""

    dialect: Dialect  # of answers that do not name their protocol
    repair: bool
    coerce: bool
    pricing: Pricing
    dialects: Mapping[str, Dialect] = {}  # by name, where endpoints differ in it
    attempts: int = 1  # the most for a row
    redactor: Redactor | None = None  # of the keys, where they are known: a stream may hold one in pieces

    def read(self, attempt: Attempt, prepared: Prepared) -> ParsedAttempt:
        """What one attempt brought. Never raises, whatever was received."""
        dialect = self._dialect_of(attempt)
        attempt, answer = self._answer_of(attempt, dialect)
        if isinstance(answer, Failure):
            return ParsedAttempt(attempt, failure=answer)
        shape = prepared.request.shape
        cap = max_tokens_of(shape)
        if cap is None and (added := DEFAULT_CAPS.get(dialect.name)):
            cap = added(shape)  # the one that the protocol sends where the request names none
        try:
            result = prepared.toolbox.read(answer, repair=self.repair, coerce=self.coerce, max_tokens=cap)
        except Exception as error:
            return ParsedAttempt(attempt, failure=_unreadable(attempt, f" ({type(error).__name__})"))
        return ParsedAttempt(attempt, reply=answer, result=result)

    def skim(self, attempt: Attempt) -> ParsedAttempt:
        """What one attempt brought, not checked against any tool: `result` is None. Never raises."""
        attempt, answer = self._answer_of(attempt, self._dialect_of(attempt))
        if isinstance(answer, Failure):
            return ParsedAttempt(attempt, failure=answer)
        return ParsedAttempt(attempt, reply=answer)

    # Some answers are failures whatever their body says. In this order:
    #
    # - none came, or an earlier process died while it read it;
    # - it was cut at the cap on its size: what is missing may be half of a call;
    # - the dialect finds a failure in it, or fails itself;
    # - it shows a key that cannot be taken out;
    # - its status is not one of HTTP, so it was hardly the model that answered.
    def _answer_of(self, attempt: Attempt, dialect: Dialect) -> tuple[Attempt, Reply | Failure]:
        """What an attempt brought, and the attempt as it is kept."""
        response = attempt.response
        if response is None or attempt.failure is not None:
            return attempt, attempt.failure or _NOTHING_KNOWN
        if response.is_cut and response.status in range(200, 300):
            return attempt, too_large(response)
        try:
            answer = dialect.decode(response, now_s=attempt.sent_at_s + attempt.latency_s)
        except Exception as error:
            return attempt, _unreadable(attempt, f" ({type(error).__name__})")

        if self.redactor is not None and isinstance(answer, Reply):
            # Only a stream, or content in parts, is put together from pieces that each hold no key. One plain document
            # was redacted as it came, so most answers are not searched again.
            body = response.body
            if not body.startswith(b"{") or body.count(b'"text"') > 1 or body.find(b"\n{") >= 0:
                attempt, answer = self._without_secrets(self.redactor, attempt, answer, dialect)

        if not _FIRST_STATUS <= response.status <= _LAST_STATUS and isinstance(answer, Reply):
            message = (
                f"HTTP {response.status} is not a valid HTTP status; "
                "the completion that came with it is not trusted, but kept"
            )
            answer = Failure(FailureKind.UNREADABLE, message, response.status, usage=answer.usage)
        return attempt, answer

    def _dialect_of(self, attempt: Attempt) -> Dialect:
        return self.dialect if attempt.protocol is None else self.dialects.get(attempt.protocol, self.dialect)

    def _without_secrets(
        self, redactor: Redactor, attempt: Attempt, reply: Reply, dialect: Dialect
    ) -> tuple[Attempt, Reply | Failure]:
        """The answer, and the attempt as it is kept, without a key that only shows once a stream is put together."""
        response = attempt.response
        if response is None or not redactor.is_in(_texts_of(reply)):
            return attempt, reply
        response = replace(response, body=redactor.hide_in_pieces(response.body))
        attempt = replace(attempt, response=response)
        answer = dialect.decode(response, now_s=attempt.sent_at_s + attempt.latency_s)
        if isinstance(answer, Reply) and redactor.is_in(_texts_of(answer)):
            message = "the answer contains the key in a form that cannot be removed; it is not shown"
            answer = Failure(FailureKind.UNDIGESTED, message, response.status, usage=answer.usage)
        return attempt, answer

    def outcome(self, prepared: Prepared, reads: Sequence[ParsedAttempt]) -> Outcome:
        """How the row ended after these attempts; the last answer counts, and every attempt's tokens."""
        deciding, before = reads[-1], prepared.before
        attempt, response = deciding.attempt, deciding.attempt.response
        if deciding.reply is None:
            deciding = next((read for read in reversed(reads) if read.reply is not None), deciding)
        usage = reads[0].usage
        for read in reads[1:]:
            usage = usage + read.usage
        costs = [cost for read in reads if (cost := self.cost(prepared, read)) is not None]
        if before is not None:
            usage = before.usage + usage
            costs += [before.cost] if before.cost is not None else []
        result = deciding.result
        if result is None:
            failure = deciding.failure or _NOTHING_KNOWN
            error = failure.message + self._why_no_more(reads)
            result = ToolResult(failure.kind.rule.status, error, None, None, (), ())
        reply = deciding.reply or _NO_REPLY
        is_partial = usage.is_partial or (before is not None and _PARTIAL in before.repairs)
        left_out = None
        return Outcome(  # in the order of its fields: for more than 15 names CPython makes a dictionary first
            prepared.row.index,
            result.status,
            result.error,
            left_out,
            result.tool,
            result.arguments,
            result.calls,
            reply.content if reply.refusal is None else reply.refusal,
            reply.repairs + result.repairs + ((_PARTIAL,) if is_partial else ()),
            reply.finish_reason,
            reply.model,
            reply.response_id,
            reply.system_fingerprint,
            attempt.number,
            usage,
            sum(costs) if costs else None,
            attempt.latency_s,
            attempt.wait_s,
            response.status if response else None,
            deciding.attempt.endpoint,
            attempt.request_hash,
            attempt.sent_at_s + attempt.latency_s,
        )

    def _why_no_more(self, reads: Sequence[ParsedAttempt]) -> str:
        """Where a row ended with attempts left: what all rows share was used up."""
        in_doubt = sum([read.is_ambiguous for read in reads])
        if not reads[-1].is_ambiguous or len(reads) >= self.attempts or in_doubt >= MOST_AMBIGUOUS:
            return ""
        return f"; not sent again although limits.attempts is {self.attempts}: {NO_MORE_DOUBTS}"

    def cost(self, prepared: Prepared, read: ParsedAttempt) -> float | None:
        """USD for the tokens of one attempt, None where no price is known."""
        return self.pricing(read.attempt.model or prepared.request.shape.model, read.usage)


_NOTHING_KNOWN = Failure(FailureKind.DISCONNECTED, "the request was sent, but nothing is known about its answer")


def unread(attempt: Attempt, why: str) -> ParsedAttempt:
    """An answer that cannot be read: its row ends, and the raw answer is kept."""
    return ParsedAttempt(attempt, failure=_unreadable(attempt, f": {why}"))


# A fault of ours must not end a run or buy the row again: a later version may read the answer, so it is kept.
def _unreadable(attempt: Attempt, why: str) -> Failure:
    status = attempt.response.status if attempt.response else None
    message = f"batchcall cannot read this answer{why}; it is kept, please report it"
    return Failure(FailureKind.UNDIGESTED, message, status)


def _texts_of(reply: Reply) -> list[str | None]:
    """All that the endpoint has said, as it reaches the output."""
    calls = [text for call in reply.calls for text in (call.id, call.name, call.arguments)]
    names = (reply.finish_reason, reply.model, reply.response_id, reply.system_fingerprint)
    return [reply.content, reply.refusal, *names, *calls]


_FIRST_STATUS, _LAST_STATUS = 100, 599  # that HTTP knows (RFC 9110, section 15)


def bad_row(row: Row, why: str, *, now_s: float, before: Outcome | None = None) -> Outcome:
    """The outcome of a row from which no request can be built. Nothing was sent for it now."""
    return Outcome(
        row=row.index,
        status=Status.BAD_ROW,
        error=f"{row.where}: {why}",
        attempts=before.attempts if before else 0,
        usage=before.usage if before else NO_USAGE,
        cost=before.cost if before else None,
        finished_at_s=now_s,
    )


_NO_REPLY = Reply()
_PARTIAL = "impossible_count"  # noted where the sum of tokens leaves one out
