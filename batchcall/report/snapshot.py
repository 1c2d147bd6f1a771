"""Where a run stands, and what it came to: values for people and for other programs."""

from __future__ import annotations

from typing import Any

import msgspec

from batchcall.base import ExitCode


class Snapshot(msgspec.Struct, frozen=True):
    """Where a run stands at this moment."""

    rows: int  # in the output, of earlier runs too
    rows_expected: int | None  # None while they are being counted
    rows_here: int  # that ended in this run
    failed: int
    tokens: int
    cost: float | None  # USD; None when no price is known
    requests: int  # sent by this run
    in_flight: int
    waits_for: str  # "" for nothing, requests, tokens, concurrency, open, ramp, pause, outage, input, disk
    pause_s: float  # that is left of a pause
    retries_waiting: int  # rows that wait to be tried again
    down: str  # why the endpoint counts as down; empty while it does not
    eta_s: float | None  # until the last row is taken, without the tail of slow ones; None: not known yet
    oldest_age_s: float  # of the requests in flight
    elapsed_s: float
    is_stopping: bool


class EndpointUse(msgspec.Struct, frozen=True):
    """What one endpoint did in a run."""

    name: str  # as the column `endpoint` says it
    requests: int
    answered: int  # of these, with a completion
    left: str | None  # why it was asked no more; None: it was there to the end

    def as_json(self) -> dict[str, Any]:
        return {"endpoint": self.name, "requests": self.requests, "answered": self.answered, "left": self.left}


class Summary(msgspec.Struct, frozen=True):
    """What a run came to; the last thing a run says."""

    output: str
    totals: dict[str, Any]  # of the whole output: rows, statuses, tokens, cost
    unfinished: dict[str, Any]  # rows, tokens, cost: of answers that are kept, and whose rows have not ended
    is_complete: bool  # every row of the input is in
    rows_expected: int | None  # of the input, whatever the limit
    rows_here: int  # that ended in this run
    requests: int  # sent by this run
    rows_paid_once: int  # that ended in this run, and no request of theirs may have been billed in vain
    possibly_paid_twice: dict[str, int]  # requests sent again although the one before may be billed, by reason
    indeterminate: int  # requests that were in flight when an earlier run died, and are sent again
    given_up: int  # requests in flight at the end of --grace: the next run counts them as indeterminate
    damaged: int  # journal records that could not be read
    seconds: float
    reason: str
    hint: str
    advice: str  # what bound it, and the key to change; empty: nothing worth saying
    an_error: str | None  # why one of the rows that failed in this run did
    exit_code: ExitCode
    is_free: bool = False  # only the embedded endpoint was ever asked: nothing was paid
    resume_at: str | None = None  # ISO 8601, UTC: when a used-up quota is renewed and the job can go on
    resume_at_is_stated: bool = True  # by the endpoint; else it is when such a quota is usually renewed
    set_aside: dict[str, Any] = {}  # tokens and cost of answers that no row uses any more
    endpoints: tuple[EndpointUse, ...] = ()
    input_note: str = ""  # what changed in the input while the run was under way, and what that means for the rows
    left_out: dict[str, int] = {}  # rows of this run, by column that had no place for a value
    left_out_of_arguments: dict[str, int] = {}  # rows of this run, by member without a column

    def as_json(self) -> dict[str, Any]:
        return {
            "output": self.output,
            "exit_code": int(self.exit_code),
            "reason": self.reason,
            "hint": self.hint,
            "resume_at": self.resume_at,
            "resume_at_is_stated": self.resume_at is not None and self.resume_at_is_stated,
            "advice": self.advice,
            "is_complete": self.is_complete,
            "is_free": self.is_free,
            **self.totals,
            "unfinished": self.unfinished,
            "set_aside": self.set_aside,
            "rows_left": None if self.rows_expected is None else max(0, self.rows_expected - self.totals["rows"]),
            "this_run": {
                "rows": self.rows_here,
                "requests": self.requests,
                "rows_paid_once": self.rows_paid_once,
                "possibly_paid_twice": self.possibly_paid_twice,
                "indeterminate": self.indeterminate,
                "given_up": self.given_up,
                "damaged_records": self.damaged,
                "seconds": round(self.seconds, 3),
                "an_error": self.an_error,
                "input_note": self.input_note,
                "left_out": self.left_out,
                "left_out_of_arguments": self.left_out_of_arguments,
                "endpoints": [one.as_json() for one in self.endpoints],
            },
        }
