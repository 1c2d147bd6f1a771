"""The journal: what was appended is there again after a crash, damage costs one record, a torn tail none."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.files.disk import RealDisk
from batchcall.files.journal import (
    COMMIT_AFTER_RECORDS,
    Committer,
    Journal,
    attempt_line,
    ended_line,
    lost_line,
    read_journal,
    recover,
    sent_line,
)
from batchcall.records import Attempt, Failure, FailureKind, HttpResponse


def answered(row: int, number: int = 1, body: bytes = b'{"choices":[]}') -> Attempt:
    return Attempt(
        row=row,
        number=number,
        request_hash=f"hash{row}",
        response=HttpResponse(200, {"content-type": "application/json"}, body),
        failure=None,
        sent_at_s=1_700_000_000.25,
        latency_s=0.5,
        wait_s=0.0,
        endpoint="http://127.0.0.1/v1",
    )


def failed(row: int, number: int = 1) -> Attempt:
    return Attempt(
        row=row,
        number=number,
        request_hash=f"hash{row}",
        response=None,
        failure=Failure(FailureKind.TIMED_OUT, "no answer within 60 s"),
        sent_at_s=1_700_000_000.25,
        latency_s=60.0,
        wait_s=1.5,
        endpoint="http://127.0.0.1/v1",
    )


def write(path: Path, *lines: bytes) -> None:
    journal = Journal(RealDisk(), path)
    for line in lines:
        journal.append(line)
    journal.close()


def test_answers_and_failures_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    write(path, attempt_line(failed(7)), attempt_line(answered(7, 2)), attempt_line(answered(8)))

    recovered = recover(RealDisk(), path)

    assert recovered.attempts == {7: [failed(7), answered(7, 2)], 8: [answered(8)]}
    assert recovered.damaged == 0


@given(body=st.binary(max_size=300), is_cut=st.booleans())
def test_the_bytes_received_are_kept_exactly(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, is_cut: bool
) -> None:
    path = tmp_path_factory.mktemp("journal") / "part-000000.journal"
    attempt = answered(1)
    attempt = Attempt(
        1, 1, "hash1", HttpResponse(200, {}, body, is_cut=is_cut), None, attempt.sent_at_s, 0.1, 0.0, attempt.endpoint
    )
    write(path, attempt_line(attempt))

    assert recover(RealDisk(), path).attempts == {1: [attempt]}


def test_a_row_that_was_given_up_is_known_as_ended(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    write(path, attempt_line(failed(3)), ended_line(3))

    assert recover(RealDisk(), path).ended == {3}


def test_a_request_without_an_answer_is_unseen_until_it_was_counted_as_lost(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    write(path, sent_line(1, 1, "hash1", 0.0), attempt_line(answered(1)), sent_line(2, 1, "hash2", 0.0))

    first = recover(RealDisk(), path)
    write(path, *(lost_line(row, number) for row, number in first.unseen))
    second = recover(RealDisk(), path)

    assert first.unseen == {(2, 1)}
    assert second.unseen == set()
    assert second.sent == {1: 1, 2: 1}


def test_a_torn_tail_is_cut_at_every_place_it_can_tear(tmp_path: Path) -> None:
    whole = attempt_line(answered(1))
    torn = attempt_line(answered(2))
    for length in range(len(torn)):
        path = tmp_path / f"part-{length:06d}.journal"
        path.write_bytes(whole + torn[:length])

        recovered = recover(RealDisk(), path)

        assert recovered.attempts == {1: [answered(1)]}
        assert recovered.damaged == 0
        assert path.read_bytes() == whole


def test_every_flipped_bit_costs_one_record_and_is_put_aside(tmp_path: Path) -> None:
    lines = [attempt_line(answered(row)) for row in range(3)]
    middle = bytearray(lines[1])
    for place in range(0, len(middle) - 1, 7):
        path = tmp_path / f"part-{place:06d}.journal"
        damaged = bytes(middle[:place]) + bytes([middle[place] ^ 0x04]) + bytes(middle[place + 1 :])
        path.write_bytes(lines[0] + damaged + lines[2])

        recovered = recover(RealDisk(), path)

        assert set(recovered.attempts) == {0, 2}
        assert recovered.damaged == 1 + damaged[:-1].count(b"\n")
        assert path.with_name(path.name + ".damaged").read_bytes() == damaged


def test_reading_a_live_journal_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    content = attempt_line(answered(1)) + attempt_line(answered(2))[:20]
    path.write_bytes(content)

    assert set(read_journal(RealDisk(), path).attempts) == {1}
    assert path.read_bytes() == content


def test_a_write_that_fails_midway_is_cut_back_to_the_last_whole_record(tmp_path: Path) -> None:
    class FullAfter(RealDisk):
        left = 1_000_000

        def write(self, handle: int, content: bytes) -> int:
            if self.left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken = super().write(handle, content[: self.left])
            self.left -= taken
            return taken

    disk = FullAfter()
    journal = Journal(disk, tmp_path / "part-000000.journal")
    journal.append(attempt_line(answered(1)))
    disk.left = 25

    with pytest.raises(OSError, match="No space left"):
        journal.append(attempt_line(answered(2)))
    disk.left = 1_000_000
    journal.append(attempt_line(answered(3)))
    journal.close()

    recovered = recover(RealDisk(), tmp_path / "part-000000.journal")
    assert set(recovered.attempts) == {1, 3}
    assert recovered.damaged == 0


def test_room_for_every_answer_in_flight_is_there_before_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    journal = Journal(RealDisk(), path)

    journal.make_room(in_flight=64)

    assert path.stat().st_size == 0
    assert path.stat().st_blocks * 512 >= 64 * (1 << 14)
    journal.close()


class CountingDisk(RealDisk):
    def __init__(self, failure: OSError | None = None) -> None:
        self.failure = failure
        self.synced = threading.Event()
        self.syncs = 0

    def sync(self, handle: int) -> None:
        self.syncs += 1
        self.synced.set()
        if self.failure is not None:
            raise self.failure
        super().sync(handle)


def test_what_was_appended_is_synced_without_being_asked(tmp_path: Path) -> None:
    disk, committer = CountingDisk(), Committer()
    journal = Journal(disk, tmp_path / "part-000000.journal")
    committer.add(journal)

    for row in range(COMMIT_AFTER_RECORDS):
        journal.append(attempt_line(answered(row)))
        committer.appended(journal)

    assert disk.synced.wait(10)
    committer.close()
    assert journal.unsynced == 0
    journal.close()


def test_the_first_failed_sync_is_final(tmp_path: Path) -> None:
    disk = CountingDisk(OSError(errno.EIO, os.strerror(errno.EIO)))
    committer = Committer()
    journal = Journal(disk, tmp_path / "part-000000.journal")
    committer.add(journal)
    journal.append(attempt_line(answered(1)))
    assert disk.synced.wait(10)

    journal.append(attempt_line(answered(2)))
    with pytest.raises(OSError, match="Input/output error"):
        committer.close()
    with pytest.raises(OSError, match="Input/output error"):
        committer.appended(journal)

    assert disk.syncs == 1  # never tried again: the kernel may say success although the pages are gone
    journal.close()
