"""Answers that are paid for and stand in no part yet, counted as a part would count them."""

from __future__ import annotations

from pathlib import Path

from batchcall.answers.arguments import ToolResult
from batchcall.answers.read import ParsedAttempt
from batchcall.base.records import Attempt, Failure, FailureKind, HttpResponse, Reply, Status, Usage
from batchcall.disk.disk import RealDisk
from batchcall.output.journal import Recovered
from batchcall.output.stored import Stored
from batchcall.pipeline.unpublished import unpublished_answers

LOST = Failure(FailureKind.DISCONNECTED, "lost")


def test_a_row_whose_last_connection_was_lost_ended_as_its_last_answer_says(tmp_path: Path) -> None:
    answered = Attempt(0, 1, "h", HttpResponse(200, {}, b"{}"), None, 1.0, 1.0, 0.0, "e")
    lost = Attempt(0, 2, "h", None, LOST, 3.0, 1.0, 0.0, "e")

    def skim(attempt: Attempt) -> tuple[ParsedAttempt, float | None]:
        if attempt.failure is not None:
            return ParsedAttempt(attempt, failure=attempt.failure), None
        reading = ToolResult(Status.INVALID_ARGUMENTS, "wrong", "f", None, (), ())
        return ParsedAttempt(attempt, reply=Reply(usage=Usage(9, 1, 10)), result=reading), 0.5

    found = Recovered(attempts={0: [stored(answered), stored(lost)], 1: [stored(lost)]}, ended={0, 1})
    unpublished = unpublished_answers(RealDisk(), tmp_path, skim, [(0, found)])

    assert unpublished.statuses == {Status.INVALID_ARGUMENTS: 1, Status.UNREACHABLE: 1}
    assert (unpublished.spent.total_tokens, unpublished.spent.cost, unpublished.spent.attempts) == (10, 0.5, 3)


def stored(attempt: Attempt) -> Stored:
    http_status = attempt.response.status if attempt.response is not None else None
    return Stored(attempt.row, attempt.number, attempt.request_hash, 0, http_status, "e", lambda: attempt)
