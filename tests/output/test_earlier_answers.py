"""What was bought before is found again by request; see `earlier_answers.py`."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from batchcall.base.records import Attempt, Failure, FailureKind, HttpResponse
from batchcall.disk.disk import Disk, RealDisk
from batchcall.output.earlier_answers import EarlierAnswers
from batchcall.output.journal_records import attempt_line
from batchcall.output.parts import AnswersFile
from batchcall.output.stamps import AnswerCount


def attempt(status: int, *, at_s: float) -> Attempt:
    return Attempt(0, 1, "hash", HttpResponse(status, {}, b"{}"), None, at_s, 1.0, 0.0, "endpoint")


def write_answer(path: Path) -> None:
    path.parent.mkdir(parents=True)
    file = AnswersFile(RealDisk(), path)
    file.add([attempt(200, at_s=1.0)])
    file.finish()


def test_a_paid_answer_is_taken_before_an_older_attempt_that_was_turned_away(tmp_path: Path) -> None:
    own = tmp_path / "_batchcall"
    for number, one in enumerate((attempt(503, at_s=1.0), attempt(200, at_s=2.0)), start=1):
        generation = own / "earlier" / f"{number:04d}"
        generation.mkdir(parents=True)
        (generation / "part-000000.journal").write_bytes(attempt_line(one))
    earlier_answers = EarlierAnswers(RealDisk(), tmp_path, own)

    taken = [earlier_answers.take("hash"), earlier_answers.take("hash")]

    earlier_answers.close()
    answers = [one.attempts[0].response for one in taken if one]
    assert [answer.status for answer in answers if answer] == [200, 503]


def test_raw_answers_whose_part_a_crash_has_taken_are_found(tmp_path: Path) -> None:
    own = tmp_path / "_batchcall"
    write_answer(own / "earlier" / "0001" / "answers" / "part-000003.answers")
    earlier_answers = EarlierAnswers(RealDisk(), tmp_path, own)

    taken = earlier_answers.take("hash")

    earlier_answers.close()
    assert taken is not None
    assert taken.attempts[0].response == HttpResponse(200, {}, b"{}")


def test_an_answer_that_a_row_has_taken_already_is_not_given_to_another_although_its_part_was_not_written(
    tmp_path: Path,
) -> None:
    own = tmp_path / "_batchcall"
    write_answer(own / "earlier" / "0001" / "answers" / "part-000003.answers")
    write_answer(own / "answers" / "part-000000.answers")
    earlier_answers = EarlierAnswers(RealDisk(), tmp_path, own)

    taken = earlier_answers.take("hash")

    earlier_answers.close()
    assert taken is None


def test_an_answer_that_its_row_has_carried_on_and_asked_again_is_not_counted_as_set_aside(tmp_path: Path) -> None:
    own, first, second = tmp_path / "_batchcall", attempt(200, at_s=1.0), attempt(200, at_s=3.0)
    for number, lines in enumerate(([first], [second]), start=1):
        generation = own / "earlier" / f"{number:04d}"
        generation.mkdir(parents=True)
        (generation / "part-000000.journal").write_bytes(b"".join(map(attempt_line, lines)))
    control = EarlierAnswers(RealDisk(), tmp_path, own)
    later = attempt(200, at_s=5.0)
    (own / "part-000000.journal").write_bytes(attempt_line(first) + attempt_line(replace(later, number=2)))
    earlier_answers = EarlierAnswers(RealDisk(), tmp_path, own)

    before, after = (
        [one.sent_at_s for *_, tried in each.untaken() for one in tried] for each in (control, earlier_answers)
    )

    control.close()
    earlier_answers.close()
    assert (before, after) == ([1.0, 3.0], [3.0])


def test_an_answer_behind_which_a_connection_was_lost_is_found_and_counted(tmp_path: Path) -> None:
    lost = replace(attempt(200, at_s=3.0), number=2, response=None, failure=Failure(FailureKind.DISCONNECTED, "lost"))
    generation = tmp_path / "_batchcall" / "earlier" / "0001"
    generation.mkdir(parents=True)
    never = [replace(lost, row=1, request_hash="never", sent_at_s=9.0)]
    lines = [attempt(200, at_s=1.0), lost, *never]
    (generation / "part-000000.journal").write_bytes(b"".join(map(attempt_line, lines)))
    earlier_answers = EarlierAnswers(RealDisk(), tmp_path, tmp_path / "_batchcall")

    untaken = [[one.sent_at_s for one in tried] for *_, tried in earlier_answers.untaken()]
    taken = earlier_answers.take("hash")

    never_taken = earlier_answers.take("never")
    earlier_answers.close()
    assert untaken == [[1.0, 3.0]]
    assert taken is not None
    assert [one.sent_at_s for one in taken.attempts] == [1.0, 3.0]
    assert never_taken is None


class Unreadable(RealDisk):
    def names(self, folder: Path) -> list[str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(
    "open_table", [lambda disk, path: EarlierAnswers(disk, path, path / "_batchcall"), AnswerCount]
)
def test_what_cannot_be_read_leaves_no_table_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_table: Callable[[Disk, Path], Any]
) -> None:
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *how, **more: opened.append(connect(*how, **more)) or opened[-1])

    with pytest.raises(OSError, match="Input/output error"):
        open_table(Unreadable(), tmp_path)

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")
