"""Answers that are paid for and are in no part yet: for the bill, the budgets and `status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from batchcall.answers import WORTH_REASKING, AnswerParser, ParsedAttempt, Prepared
from batchcall.base import NO_USAGE, Attempt, OutputError, Scope, Status
from batchcall.disk import Disk, answers_in, part_name, part_numbers
from batchcall.output import (
    OWN_FOLDER,
    USAGE_COLUMNS,
    EarlierAnswers,
    Recovered,
    Totals,
    add_attempts,
    journals_in,
    read_batches,
    read_journals,
    stored_answers,
)

Journals = Iterable[tuple[int, Recovered]]  # what they say, by the number of their part
Skim = Callable[[Attempt], tuple[ParsedAttempt, float | None]]  # an attempt, read, and what it cost in USD


class Unpublished(msgspec.Struct):
    """The sums of such answers."""

    rows: int = 0  # that have an answer with its usage
    # Of rows that are in no part and would not be asked again.
    statuses: Counter[str] = msgspec.field(default_factory=Counter)
    spent: Totals = msgspec.field(default_factory=Totals)  # attempts, tokens and cost only

    @property
    def ended(self) -> int:
        return self.statuses.total()

    def as_json(self) -> dict[str, Any]:
        return {"rows": self.rows, **{name: getattr(self.spent, name) for name in (*USAGE_COLUMNS, "cost")}}


def skimming(parser: AnswerParser, *, model: str, prepared: Prepared | None = None) -> Skim:
    """How answers are read for their usage. `model` is priced where an attempt names no other. With `prepared`, each is
    validated against its tools as well."""

    def skim(attempt: Attempt) -> tuple[ParsedAttempt, float | None]:
        read = parser.skim(attempt) if prepared is None else parser.read(attempt, prepared)
        return read, parser.pricing(attempt.model or model, read.usage)

    return skim


def unpublished_answers(
    disk: Disk,
    folder: Path,
    skim: Skim,
    journals: Journals | None = None,
    *,
    reasks: int = 0,
    has_died: bool = False,
) -> Unpublished:
    """What no part has counted, in the journals given; else in those on disk, and among the stored answers of parts
    that are not there. `reasks` is how often a row with an invalid answer is asked again.

    An answer over which a run may have died is left alone: the next run reads it in a process of its own. `has_died`:
    the last run did. Raises OSError, OutputError.
    """
    # A part and a journal beside it may hold the same attempt: the part counts those up to a number, the rest is here.
    # A row counts as ended only if its last attempt is among the rest, and no further request would be made for it.
    unpublished = Unpublished()
    for number, found in _all_unpublished(disk, folder) if journals is None else journals:
        counted, unsure = _counted(disk, folder / part_name(number)), found.unsure(has_died=has_died)
        for row, attempts in found.attempts.items():
            known = [one for one in attempts if one.number > counted.get(row, 0) and (row, one.number) not in unsure]
            reads = []
            for read, cost in (skim(one.read()) for one in known):
                reads.append(read)
                unpublished.spent.spend(read.usage, cost)
            unpublished.spent.attempts += len(reads)
            unpublished.rows += any(read.usage != NO_USAGE for read in reads)
            is_known = row not in counted and bool(known) and known[-1] is attempts[-1]
            if is_known and (row in found.ended or _has_ended(reads, reasks)):
                unpublished.statuses[_status_of(reads)] += 1
    return unpublished


def spent_aside(earlier_answers: EarlierAnswers | None, skim: Skim) -> Totals:
    """Tokens and cost of answers that were set aside and that no row has taken: they were bought for this output."""
    spent = Totals()
    for usage, cost, attempts in earlier_answers.untaken() if earlier_answers is not None else ():
        spent.spend(usage, cost)
        for read, cost_of_one in map(skim, attempts):
            spent.spend(read.usage, cost_of_one)
    return spent


def _all_unpublished(disk: Disk, folder: Path) -> Iterator[tuple[int, Recovered]]:
    """The journals on disk, and with them the stored answers of parts that are not there."""
    own = folder / OWN_FOLDER
    parts, journals, answers = set(part_numbers(disk, folder)), journals_in(disk, own), answers_in(disk, own)
    for number in sorted(journals.keys() | (answers.keys() - parts)):
        found = read_journals(disk, journals.get(number, ()))
        if number not in parts and number in answers:
            add_attempts(found, stored_answers(disk, answers[number]))
        yield number, found


def _has_ended(reads: Sequence[ParsedAttempt], reasks: int) -> bool:
    # As the engine decides (`LiveEngine`), but for its retries: whether they are used up is in the journal, which has
    # a line for a row that was given up.
    last = reads[-1]
    if last.failure is not None:
        return last.failure.kind.rule.scope is Scope.ROW
    is_last = sum(read.reply is not None for read in reads) > reasks
    return is_last or last.result is None or last.result.status not in WORTH_REASKING


def _status_of(reads: Sequence[ParsedAttempt]) -> str:
    """How a row ended, as far as that is known without its tools: by its last answer, as in a part."""
    deciding = next((read for read in reversed(reads) if read.reply is not None), reads[-1])
    if deciding.failure is not None:
        return deciding.failure.kind.rule.status
    return Status.OK if deciding.result is None else deciding.result.status


def _counted(disk: Disk, part: Path) -> dict[int, int]:
    """By row, how many of its attempts a part has counted; none if it is not there or cannot be read."""
    counted: dict[int, int] = {}
    try:
        for batch in read_batches(disk, part, ["row", "attempts"]) if disk.exists(part) else ():
            counted.update(zip(batch.column("row").to_pylist(), batch.column("attempts").to_pylist(), strict=True))
    except OutputError:
        pass
    return counted
