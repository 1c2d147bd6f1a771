"""The journal: what was appended is there again after a crash, damage costs one record, a torn tail none."""

from __future__ import annotations

import errno
import os
import random
import threading
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall.base.records import Attempt, Bill, Failure, FailureKind, HttpResponse
from batchcall.disk.disk import Disk, RealDisk
from batchcall.disk.disk_reserve import DiskReserve
from batchcall.output.journal import (
    Committer,
    Journal,
    Recovered,
    add_attempts,
    journals_in,
    read_journals,
    recover,
)
from batchcall.output.journal_records import (
    attempt_line,
    base_line,
    checked,
    ended_line,
    lost_line,
    read_line,
    reading_line,
    sent_line,
    unread_line,
)
from model_disk import ModelDisk


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


def open_journal(path: Path, disk: Disk | None = None) -> Journal:
    disk = disk or RealDisk()
    return Journal(disk, path, DiskReserve(disk, path.with_name("_tmp-ballast")))


def write(path: Path, *lines: bytes) -> None:
    journal = open_journal(path)
    for line in lines:
        journal.append(line)
    journal.close()


def read_again(recovered: Recovered) -> dict[int, list[Attempt]]:
    return {row: [one.read() for one in attempts] for row, attempts in recovered.attempts.items()}


def test_answers_and_failures_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    write(path, attempt_line(failed(7)), attempt_line(answered(7, 2)), attempt_line(answered(8)))

    recovered = recover(RealDisk(), [path], path)

    assert read_again(recovered) == {7: [failed(7), answered(7, 2)], 8: [answered(8)]}
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

    assert read_again(recover(RealDisk(), [path], path)) == {1: [attempt]}


def test_a_journal_that_is_read_holds_none_of_its_answers(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    write(path, *(attempt_line(answered(row, body=b"x" * 500_000)) for row in range(50)))

    for read in (lambda: read_journals(RealDisk(), [path]), lambda: recover(RealDisk(), [path], path)):
        tracemalloc.start()
        recovered = read()
        held, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert len(recovered.attempts) == 50
        assert held < 500_000
        assert most < 15_000_000 < 50 * 500_000


def test_a_journal_that_a_run_replaces_and_removes_meanwhile_is_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    write(path, attempt_line(answered(7)))
    recovered = read_journals(RealDisk(), [path])

    recover(RealDisk(), [path], path)
    write(path, attempt_line(answered(8)))
    path.unlink()

    assert read_again(recovered) == {7: [answered(7)]}


def test_a_record_that_is_damaged_after_it_was_found_is_not_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    write(path, attempt_line(answered(7)))
    recovered = recover(RealDisk(), [path], path)

    path.write_bytes(path.read_bytes().replace(b"200", b"201"))

    with pytest.raises(OSError, match="has changed"):
        read_again(recovered)


def test_a_row_that_was_given_up_is_known_as_ended(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    write(path, attempt_line(failed(3)), ended_line(3))

    assert recover(RealDisk(), [path], path).ended == {3}


def test_a_request_without_an_answer_is_unseen_until_it_was_counted_as_lost(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    write(path, sent_line(1, 1, "hash1", 0.0), attempt_line(answered(1)), sent_line(2, 1, "hash2", 0.0))

    first = recover(RealDisk(), [path], path)
    write(path, *(lost_line(row, number) for row, number in first.unseen))
    second = recover(RealDisk(), [path], path)

    assert first.unseen == {(2, 1)}
    assert second.unseen == set()
    assert second.sent == {1: 1, 2: 1}


def test_a_torn_tail_is_cut_at_every_place_it_can_tear(tmp_path: Path) -> None:
    whole = attempt_line(answered(1))
    torn = attempt_line(answered(2))
    for length in range(len(torn)):
        path = tmp_path / f"part-{length:06d}.journal"
        path.write_bytes(whole + torn[:length])

        recovered = recover(RealDisk(), [path], path)

        assert read_again(recovered) == {1: [answered(1)]}
        assert recovered.damaged == 0
        assert path.read_bytes() == whole


def test_every_flipped_bit_costs_one_record_and_is_put_aside(tmp_path: Path) -> None:
    lines = [attempt_line(answered(row)) for row in range(3)]
    middle = bytearray(lines[1])
    for place in range(0, len(middle) - 1, 7):
        path = tmp_path / f"part-{place:06d}.journal"
        damaged = bytes(middle[:place]) + bytes([middle[place] ^ 0x04]) + bytes(middle[place + 1 :])
        path.write_bytes(lines[0] + damaged + lines[2])

        recovered = recover(RealDisk(), [path], path)

        assert set(recovered.attempts) == {0, 2}
        assert recovered.damaged == 1 + damaged[:-1].count(b"\n")
        assert path.with_name(path.name + ".damaged").read_bytes() == damaged


def test_reading_a_live_journal_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    content = attempt_line(answered(1)) + attempt_line(answered(2))[:20]
    path.write_bytes(content)

    assert set(read_journals(RealDisk(), [path]).attempts) == {1}
    assert path.read_bytes() == content


def test_reading_a_live_journal_counts_what_is_damaged_and_reads_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    lines = [attempt_line(answered(row)) for row in range(4)]
    path.write_bytes(lines[0] + lines[1].replace(b"choices", b"voices!") + b"\n" + lines[2] + lines[3])

    recovered = read_journals(RealDisk(), [path, tmp_path / "gone.journal"])

    assert (set(recovered.attempts), recovered.damaged) == ({0, 2, 3}, 2)


@pytest.mark.parametrize(
    ("record", "is_sound"), [(b'{"a":1}', True), (b"[1]", False), (b"1", False), (b"{", False), (b"", False)]
)
def test_a_line_is_a_record_where_its_checksum_and_its_form_are_right(record: bytes, is_sound: bool) -> None:
    checksum = zlib.crc32(record)

    assert (checked(b"%08x %s" % (checksum, record)) is not None) is is_sound
    assert checked(b"%08x %s" % (checksum ^ 1, record)) is None
    assert checked(b"not-a-sum " + record) is None


class DiskOfSize(RealDisk):
    """Takes `left` bytes, and gets back what is removed."""

    left = 1_000_000

    def write(self, handle: int, content: bytes) -> int:
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = super().write(handle, content[: self.left])
        self.left -= taken
        return taken

    def remove(self, path: Path) -> None:
        self.left += path.stat().st_size if path.exists() else 0
        super().remove(path)


def test_on_a_full_disk_what_is_in_flight_takes_the_place_of_the_ballast_and_no_more_is_sent(tmp_path: Path) -> None:
    disk = DiskOfSize()
    journal = open_journal(tmp_path / "part-000000.journal", disk)
    journal.append(attempt_line(answered(1)))
    disk.left = 25

    journal.append(attempt_line(answered(2)))
    journal.append(attempt_line(answered(3)))

    with pytest.raises(OSError, match="No space left"):
        journal.make_room(1)
    journal.close()
    recovered = recover(RealDisk(), [tmp_path / "part-000000.journal"], tmp_path / "part-000000.journal")
    assert set(recovered.attempts) == {1, 2, 3}
    assert recovered.damaged == 0


def test_a_write_that_fails_midway_is_cut_back_to_the_last_whole_record(tmp_path: Path) -> None:
    disk = DiskOfSize()
    journal = open_journal(tmp_path / "part-000000.journal", disk)
    journal.append(attempt_line(answered(1)))
    (tmp_path / "_tmp-ballast").unlink()
    disk.left = 25

    with pytest.raises(OSError, match="No space left"):
        journal.append(attempt_line(answered(2)))
    disk.left = 1_000_000
    journal.append(attempt_line(answered(3)))
    journal.close()

    recovered = recover(RealDisk(), [tmp_path / "part-000000.journal"], tmp_path / "part-000000.journal")
    assert set(recovered.attempts) == {1, 3}
    assert recovered.damaged == 0


def test_when_a_disk_fails_to_write_another_file_takes_over_with_what_was_not_synced(tmp_path: Path) -> None:
    class Failing(RealDisk):
        bad: int | None = None

        def write(self, handle: int, content: bytes) -> int:
            if handle == self.bad:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().write(handle, content)

        def open_append(self, path: Path) -> int:
            handle = super().open_append(path)
            self.bad = handle if path.name == "part-000000.journal" and not path.stat().st_size else self.bad
            return handle

    disk = Failing()
    journal = open_journal(tmp_path / "part-000000.journal", disk)

    journal.append(attempt_line(answered(1)))
    journal.append(attempt_line(answered(2)))
    assert (tmp_path / "_tmp-ballast").exists()  # room is not what is missing

    assert journal.trouble is not None
    journal.close()
    assert journals_in(RealDisk(), tmp_path) == {
        0: [tmp_path / "part-000000.journal", tmp_path / "part-000000.1.journal"]
    }
    assert set(read_journals(RealDisk(), journals_in(RealDisk(), tmp_path)[0]).attempts) == {1, 2}


@pytest.mark.parametrize("moment", ["while the file is synced", "while its folder is synced"])
def test_a_write_that_fails_during_a_sync_leaves_no_record_that_only_seems_durable(tmp_path: Path, moment: str) -> None:
    """The journal moves on to another file meanwhile: in another thread, here at the worst moments."""

    class Busy(ModelDisk):
        def sync(self, handle: int) -> None:
            if "file" in moment:
                self.fail_one_write()
            super().sync(handle)

        def sync_folder(self, folder: Path) -> None:
            super().sync_folder(folder)
            if "folder" in moment:
                self.fail_one_write()

        def fail_one_write(self) -> None:
            if journal.trouble is None:
                self.before = self.refuse
                journal.append(attempt_line(answered(2)))

        def refuse(self, act: str, path: Path) -> None:
            self.before = lambda act, path: None
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk = Busy(tmp_path)
    journal = Journal(disk, tmp_path / "part-000000.journal", DiskReserve(disk, tmp_path / "_tmp-reserve~"))
    journal.append(attempt_line(answered(1)))

    journal.sync()
    journal.sync()

    assert journal.path.name == "part-000000.1.journal"
    assert journal.is_durable
    journal.close()
    disk.cut_power(random.Random(0), keeps=0.0)
    assert set(read_journals(disk, journals_in(disk, tmp_path)[0]).attempts) == {1, 2}


def test_room_for_every_answer_in_flight_is_there_before_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    journal = open_journal(path)

    journal.make_room(in_flight=64)

    assert path.stat().st_size == 0
    assert path.stat().st_blocks * 512 >= 64 * (1 << 14)
    journal.close()


class CountingDisk(RealDisk):
    def __init__(self) -> None:
        self.synced = threading.Event()
        self.syncs = 0

    def sync(self, handle: int) -> None:
        self.syncs += 1
        self.synced.set()
        super().sync(handle)


def test_what_was_appended_is_synced_without_being_asked(tmp_path: Path) -> None:
    disk, committer = CountingDisk(), Committer()
    journal = open_journal(tmp_path / "part-000000.journal", disk)
    committer.add(journal)

    journal.append(attempt_line(answered(1)))
    committer.appended(journal)

    assert disk.synced.wait(10)
    committer.close()
    assert journal.unsynced == 0
    journal.close()


def test_the_first_failed_sync_is_final_and_what_it_may_have_lost_is_in_another_file(tmp_path: Path) -> None:
    class Failing(RealDisk):
        def __init__(self) -> None:
            self.synced: list[int] = []

        def sync(self, handle: int) -> None:
            self.synced.append(handle)
            if len(self.synced) == 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().sync(handle)

    disk, committer = Failing(), Committer(has_thread=False)
    journal = open_journal(tmp_path / "part-000000.journal", disk)
    committer.add(journal)
    journal.append(attempt_line(answered(1)))

    committer.commit()
    with pytest.raises(OSError, match="Input/output error"):
        committer.appended(journal)
    journal.append(attempt_line(answered(2)))
    committer.close()

    first, second = disk.synced
    assert first != second  # never tried again: the kernel may say success although the pages are gone
    assert journal.is_durable
    journal.close()
    (tmp_path / "part-000000.journal").unlink()
    assert set(read_journals(RealDisk(), journals_in(RealDisk(), tmp_path)[0]).attempts) == {1, 2}


def test_what_is_appended_during_a_sync_counts_as_unsynced_afterwards(tmp_path: Path) -> None:
    class Busy(RealDisk):
        def sync(self, handle: int) -> None:
            super().sync(handle)
            if journal.unsynced == 2:
                journal.append(late)

    late = attempt_line(answered(3, body=b"x" * 1_000))
    journal = open_journal(tmp_path / "part-000000.journal", Busy())
    journal.append(attempt_line(answered(1)))
    journal.append(attempt_line(answered(2)))

    journal.sync()
    assert (journal.unsynced, journal.unsynced_bytes, journal.is_durable) == (1, len(late), False)
    journal.sync()
    assert (journal.unsynced, journal.unsynced_bytes, journal.is_durable) == (0, 0, True)
    journal.close()


@pytest.mark.parametrize(
    ("records", "size", "is_woken"),
    [(1, 10, False), (1_000, 10, False), (2, 1 << 22, False), (3, 1 << 22, True)],
)
def test_a_commit_is_due_early_for_8_mib_and_for_no_number_of_records(
    tmp_path: Path, records: int, size: int, is_woken: bool
) -> None:
    committer = Committer(has_thread=False)
    journal = open_journal(tmp_path / "part-000000.journal")
    committer.add(journal)

    for _ in range(records):
        journal.append(b"x" * size)
        committer.appended(journal)

    assert committer._wake.is_set() is is_woken
    journal.close()


def test_only_what_is_not_durable_is_synced(tmp_path: Path) -> None:
    disk, committer = CountingDisk(), Committer(has_thread=False)
    journal = open_journal(tmp_path / "part-000000.journal", disk)
    committer.add(journal)
    journal.append(attempt_line(answered(1)))

    committer.commit()
    committer.commit()
    committer.close()
    assert disk.syncs == 1

    journal.append(attempt_line(answered(2)))
    committer.drop(journal)
    committer.commit()
    assert disk.syncs == 1
    journal.close()


@pytest.mark.parametrize("error", [OSError(errno.EIO, "the disk is gone"), ValueError("a fault of ours")])
def test_a_journal_that_cannot_be_synced_keeps_no_other_from_it_and_is_reported_once(
    tmp_path: Path, error: Exception
) -> None:
    class Failing(RealDisk):
        def sync(self, handle: int) -> None:
            raise error

    committer, failures = Committer(has_thread=False), list[OSError]()
    committer.on_failure = failures.append
    good_disk = CountingDisk()
    for number, disk in enumerate((Failing(), Failing(), good_disk)):
        journal = open_journal(tmp_path / f"part-{number:06d}.journal", disk)
        committer.add(journal)
        journal.append(attempt_line(answered(number)))

    committer.commit()

    assert good_disk.syncs == 1
    assert len(failures) == 1
    assert committer.failure is failures[0]
    assert failures[0].errno == errno.EIO
    assert str(error) in str(failures[0]) or failures[0] is error
    with pytest.raises(OSError, match=r"gone|fault of ours"):
        committer.appended(journal)


@pytest.mark.parametrize("lost", ["folder", "journal", "nothing"])
def test_a_look_finds_what_is_no_longer_where_it_was(tmp_path: Path, lost: str) -> None:
    def guard() -> None:
        looks.append(1)
        if lost == "folder":
            raise FileNotFoundError(errno.ENOENT, "the folder was moved")

    looks: list[int] = []
    committer = Committer(has_thread=False, guard=guard)
    journal = open_journal(tmp_path / "part-000000.journal")
    committer.add(journal)
    if lost == "journal":
        journal.path.unlink()

    committer.look()
    committer.look()

    said = {"folder": "folder was moved", "journal": "was deleted or renamed while", "nothing": "None"}
    assert said[lost] in str(committer.failure)
    assert len(looks) == (2 if lost == "nothing" else 1)  # what is lost is looked for no more
    journal.close()


def test_where_blocks_cannot_be_reserved_the_disk_reserve_is_as_large(tmp_path: Path) -> None:
    class Plain(RealDisk):
        def reserve(self, handle: int, offset: int, length: int) -> bool:
            asked.append((offset, length))
            return False

    asked: list[tuple[int, int]] = []
    ballast = tmp_path / "_tmp-ballast"
    journal = open_journal(tmp_path / "part-000000.journal", Plain())

    journal.make_room(in_flight=63)
    assert ballast.stat().st_size == 64 << 14  # 16 KiB an answer, before any was seen
    assert asked == [(0, (64 << 14) + (1 << 18))]
    journal.make_room(in_flight=63 + 16)  # within the step that is reserved beyond it
    assert len(asked) == 1
    journal.append(b"x" * 100_000)
    journal.make_room(in_flight=63)
    assert ballast.stat().st_size == 64 * 100_000
    assert asked[1:] == [((64 << 14) + (1 << 18), 100_000 * 65 - (64 << 14))]
    journal.close()


def test_a_commit_comes_first_in_the_order_of_rescues(tmp_path: Path) -> None:
    for name in ("part-000001.10.journal", "part-000001.2.journal", "part-000001.journal", "part-000000.journal", "x"):
        (tmp_path / name).touch()

    found = journals_in(RealDisk(), tmp_path)

    assert {number: [path.name for path in paths] for number, paths in found.items()} == {
        0: ["part-000000.journal"],
        1: ["part-000001.journal", "part-000001.2.journal", "part-000001.10.journal"],
    }
    assert list(found) == [0, 1]


def learnt(path: Path, *lines: bytes) -> Recovered:
    path.write_bytes(b"".join(lines))
    return read_journals(RealDisk(), [path])


def test_a_record_that_a_second_file_has_again_counts_once(tmp_path: Path) -> None:
    sent, answer = sent_line(1, 1, "hash1", 0.0), attempt_line(answered(1))

    found = learnt(tmp_path / "part-000000.journal", sent, answer, sent, answer, attempt_line(answered(1, 2)))

    assert read_again(found) == {1: [answered(1), answered(1, 2)]}
    assert found.unseen == set()  # the second note of the request does not make it one without an answer


def test_each_record_changes_what_is_known_of_its_request(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.journal"
    beside, here = reading_line(1, 1, is_beside=True), reading_line(1, 1, is_beside=False)
    answer = attempt_line(answered(1))

    assert learnt(path, answer).last == (1, 1)
    assert learnt(path, answer, ended_line(2)).last is None
    assert learnt(path, answer, here).unsure(has_died=True) == {(1, 1)}
    assert learnt(path, answer, here).unsure(has_died=False) == set()
    assert learnt(path, answer, beside, ended_line(2)).unsure(has_died=False) == {(1, 1)}
    assert learnt(path, answer, beside, read_line(1, 1)).unsure(has_died=True) == set()
    given_up = learnt(path, answer, attempt_line(answered(1, 2)), beside, unread_line(1, 1, "it dies of it"))
    assert given_up.unsure(has_died=True) == set()
    kinds = [one.failure.kind if one.failure else None for one in read_again(given_up)[1]]
    assert kinds == [FailureKind.UNDIGESTED, None]
    assert learnt(path, sent_line(1, 3, "h", 0.0), sent_line(1, 2, "h", 0.0)).sent == {1: 3}


def test_the_bill_counts_lost_requests_those_sent_again_and_what_was_before(tmp_path: Path) -> None:
    found = learnt(
        tmp_path / "part-000000.journal",
        base_line(Bill(2, {"timed_out": 1})),
        sent_line(1, 1, "h", 0.0),
        lost_line(1, 1),
        lost_line(1, 1),
        sent_line(1, 2, "h", 0.0, after="timed_out"),
        sent_line(2, 2, "h", 0.0, after="disconnected"),
    )

    assert found.bill() == Bill(3, {"timed_out": 2, "disconnected": 1})
    assert found.unseen == {(1, 2), (2, 2)}
    assert found.lost == {(1, 1)}


def test_answers_from_elsewhere_fill_what_the_journal_does_not_have(tmp_path: Path) -> None:
    answers = learnt(tmp_path / "part-000001.journal", attempt_line(answered(1)), attempt_line(answered(2)))
    found = learnt(tmp_path / "part-000000.journal", sent_line(1, 1, "hash1", 0.0), attempt_line(failed(2)))

    add_attempts(found, [stored for attempts in answers.attempts.values() for stored in attempts])

    assert read_again(found) == {1: [answered(1)], 2: [failed(2)]}
    assert found.unseen == set()
