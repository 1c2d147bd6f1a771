"""Answers that are paid for and stand in no part, as their rows have not ended: bill and budgets know them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchcall.engines.reading import Reader
from batchcall.files.disk import Disk
from batchcall.files.journal import add_attempts, journals_in, read_journals
from batchcall.files.output import OWN_FOLDER, part_numbers
from batchcall.files.parts import part_name, read_batches, read_raw
from batchcall.records import NO_USAGE, Attempt, Usage


@dataclass(slots=True)
class Held:
    """What such answers come to."""

    rows: int = 0
    usage: Usage = NO_USAGE
    cost: float | None = None  # USD, None where no price is known

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "total_tokens": self.usage.total_tokens,
            "cost": self.cost,
        }


def held_answers(disk: Disk, folder: Path, reader: Reader, *, model: str) -> Held:
    """What stands in the journals of an output, and among the answers whose part is not there.

    `model` is asked where an attempt does not name another: for the price. Raises OSError, OutputError.
    """
    held = Held()
    for attempts in _unmerged(disk, folder):
        usages = [(attempt, usage) for attempt in attempts if (usage := reader.skim(attempt).usage) != NO_USAGE]
        held.rows += bool(usages)
        for attempt, usage in usages:
            held.usage = held.usage + usage
            if (cost := reader.pricing(attempt.model or model, usage)) is not None:
                held.cost = (held.cost or 0.0) + cost
    return held


def _unmerged(disk: Disk, folder: Path) -> Iterator[list[Attempt]]:
    """By row: the attempts that no part has counted."""
    own = folder / OWN_FOLDER
    parts, journals = set(part_numbers(disk, folder)), journals_in(disk, own)
    for number in sorted(journals.keys() | (set(part_numbers(disk, own / "answers")) - parts)):
        counted = attempts_in(disk, folder / part_name(number))
        found = read_journals(disk, journals.get(number, ()))
        if number not in parts and disk.exists(answers := own / "answers" / part_name(number)):
            add_attempts(found, read_raw(disk, answers))
        for row, attempts in found.attempts.items():
            yield [attempt for attempt in attempts if attempt.number > counted.get(row, 0)]


def attempts_in(disk: Disk, part: Path) -> dict[int, int]:
    """By row, how many of its attempts a part has counted; none where it does not stand. Raises OutputError."""
    if not disk.exists(part):
        return {}
    found: dict[int, int] = {}
    for batch in read_batches(disk, part, ["row", "attempts"]):
        found.update(zip(batch.column("row").to_pylist(), batch.column("attempts").to_pylist(), strict=True))
    return found
