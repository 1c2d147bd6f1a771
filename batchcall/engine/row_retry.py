"""From what is known of one row to its next step. Pure: it sends nothing, waits for nothing and reads no clock."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

import msgspec

from batchcall.answers import WORTH_REASKING, ParsedAttempt, Prepared
from batchcall.base import Request, Scope
from batchcall.engine.endpoint import AnyEndpoint, Route
from batchcall.pacing import RetryPolicy, is_of_endpoint

_PROBES_OF_A_ROW = 3


class Send(NamedTuple):
    """Send the row's next request after a wait."""

    wait_s: float
    is_doubtful: bool = False  # what is sent again may be billed already


class Stay(Enum):
    """The row sends nothing more for now."""

    ENDED = "ended"
    SET_ASIDE = "set aside"  # to learn whether it failed because of an outage


class Around(Protocol):
    """What the endpoints are like at this moment. `Pool` is one."""

    @property
    def living(self) -> Sequence[AnyEndpoint]: ...
    @property
    def is_down(self) -> bool: ...
    @property
    def last_good_s(self) -> float: ...


class Rules(msgspec.Struct, frozen=True):
    """How often a row may be asked, as the job says it."""

    retry: RetryPolicy
    reasks: int  # how often an invalid answer is asked about again


class RowRetry(msgspec.Struct, eq=False):
    """A row on its way: what was read of it so far, and what that leads to."""

    prepared: Prepared
    reads: list[ParsedAttempt]
    sent: int  # requests over all runs, the lost ones included
    ambiguous: int  # failures that may be billed and count against the row
    tries: int = 0  # of this run; a failure while the endpoint is down does not count
    probes: int = 0  # requests that only found the endpoint down, since the row was last set aside
    began_s: float = -1.0  # when its first try was sent
    outages: int = 0  # how many outages had ended when it was set aside
    is_final: bool = False  # it is not set aside again
    unsent_bytes: int = 0  # that it counts with among those that wait to be sent for the first time
    failed_at: tuple[Route, ...] = ()  # since its last reply; others are asked first

    def request(self, endpoint: Route) -> Request:
        """The row's own request, or, where an invalid answer came, the follow-up that quotes it with its faults."""
        request = self.prepared.request
        for read in self.reads:
            if read.reply is not None and read.result is not None:
                problem = read.result.error or read.result.status
                request = endpoint.dialect.reask(request, read.reply, problem)
        return request

    @property
    def lost_as(self) -> str | None:
        """How the last request failed, where that may be billed: another one may be paid twice."""
        last = self.reads[-1] if self.reads else None
        return last.failure.kind.label if last is not None and last.failure is not None and last.is_ambiguous else None

    @property
    def is_given_up(self) -> bool:
        """That it has ended is seen in no attempt of it: another try might bring an answer."""
        failure = self.reads[-1].failure
        return failure is not None and failure.kind.rule.scope is not Scope.ROW

    def goes_out(self, at_s: float) -> None:
        """Its next request goes out."""
        self.sent += 1
        if self.began_s < 0:
            self.began_s = at_s

    def came(self, read: ParsedAttempt, endpoint: Route, around: Around, *, takes_no_try: bool = False) -> None:
        """The request that was sent last came to this. `takes_no_try`: the row did not cause it."""
        self.reads.append(read)
        failure = read.failure
        if failure is None:
            self.tries += 1
            self.failed_at = ()
            return
        if endpoint not in self.failed_at:
            self.failed_at = (*self.failed_at, endpoint)
        # Two failures do not count as a try of the row: one that only showed that the endpoint is down, and a wrong key
        # of one endpoint while others may serve it.
        if takes_no_try:
            self.probes += 1
        elif failure.kind.rule.scope is not Scope.JOB or all(one in self.failed_at for one in around.living):
            self.tries += 1
            self.ambiguous += read.is_ambiguous

    def next_step(self, rules: Rules, around: Around, *, may_doubt: bool = True, roll: float = 0.0) -> Send | Stay:
        """What the row does next; the other two matter only where its last request failed.

        `may_doubt`: the job may still send again what may be billed already. `roll` is a number in [0, 1).
        """
        # It has probed endpoints that are down often enough. Another row takes its turn: if this one breaks the server,
        # its probes would keep the breaker open for all.
        if self.probes >= _PROBES_OF_A_ROW and not self.is_final and around.is_down:
            return Stay.SET_ASIDE
        step = self._resend(rules, around, may_doubt, roll)
        if step is not None:
            return step
        # An outage must fail no row: while nothing else was answered, it may be one.
        failure = self.reads[-1].failure
        may_be_outage = failure is not None and bool(self.tries) and is_of_endpoint(failure)
        if may_be_outage and not self.is_final and around.last_good_s <= self.began_s:
            return Stay.SET_ASIDE
        return Stay.ENDED

    def _resend(self, rules: Rules, around: Around, may_doubt: bool, roll: float) -> Send | None:
        # By the last attempt:
        # - there is none, or it is of an earlier run and failed because of the job (a wrong key): send;
        # - it is of an earlier run, in which the row ended: it ends in the same way, and nothing is sent;
        # - it brought a reply: ask once more if that is invalid and `reasks` is not used up;
        # - it failed: the retry policy decides. A wait is not repeated for what failed in an earlier run.
        prepared, reads = self.prepared, self.reads
        is_from_before = len(reads) == len(prepared.attempts)
        if is_from_before and prepared.is_ended:
            return None
        if not reads or (is_from_before and reads[-1].ends_nothing):
            return _AT_ONCE
        last = reads[-1]
        if last.failure is None:
            if last.result is None or last.result.status not in WORTH_REASKING:
                return None
            replies = sum(read.reply is not None for read in reads)
            return _AT_ONCE if replies <= rules.reasks else None

        # What may be billed already is sent again for a share of the job's rows only: an endpoint that loses every
        # other answer would otherwise be paid twice for each. In an outage such requests are few anyway.
        is_doubtful = bool(self.tries) and last.is_ambiguous
        if is_doubtful and not may_doubt:
            return None
        wait_s = rules.retry.decide(last.failure, attempt=self.tries, ambiguous=self.ambiguous, roll=roll)
        if wait_s is None:
            return None
        # The wait is for the endpoint that failed. So there is none while others can be asked, each once; nor while
        # all are down, or after a failure that took no try: then the gate holds the row for as long as it takes.
        living = around.living
        has_others = self.tries < len(living) and not all(one in self.failed_at or one.is_held for one in living)
        need_not_wait = is_from_before or not self.tries or has_others or all(one.is_down for one in living)
        return Send(0.0 if need_not_wait else wait_s, is_doubtful)


_AT_ONCE = Send(0.0)
