"""Durable acts: a file is whole or absent, and room is taken before it is needed."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchcall.disk.disk import (
    RealDisk,
    is_temporary,
    remove_tree,
    temporary_of,
    whole_file,
    write_fully,
    write_whole,
)


class DiskThatTakesAFewBytes(RealDisk):
    def write(self, handle: int, content: bytes) -> int:
        return super().write(handle, content[:3])


class FullDisk(RealDisk):
    def write(self, handle: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def no_descriptor_left(tmp_path: Path) -> Iterator[None]:
    """As when connections hold all of those that this process may have."""
    write_whole(RealDisk(), tmp_path / "first", b"of this process")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    held = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for handle in held:
        os.close(handle)


def test_a_file_is_written_where_connections_hold_every_descriptor(tmp_path: Path, no_descriptor_left: None) -> None:
    for content in (b"once", b"and again"):
        write_whole(RealDisk(), tmp_path / "file", content)

        assert RealDisk().read(tmp_path / "file") == content


def test_without_the_spare_descriptors_it_is_not(
    tmp_path: Path, no_descriptor_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchcall.disk.disk._spare", [])

    with pytest.raises(OSError, match="Too many open files"):
        write_whole(RealDisk(), tmp_path / "file", b"once")


def test_short_writes_are_continued(tmp_path: Path) -> None:
    write_whole(DiskThatTakesAFewBytes(), tmp_path / "file", b"twelve bytes")

    assert (tmp_path / "file").read_bytes() == b"twelve bytes"


def test_a_write_that_takes_nothing_is_a_full_disk(tmp_path: Path) -> None:
    class Stuck(RealDisk):
        def write(self, handle: int, content: bytes) -> int:
            return 0

    disk = Stuck()
    handle = disk.create(tmp_path / "file")
    with pytest.raises(OSError, match="No space left"):
        write_fully(disk, handle, b"x")
    disk.close(handle)


def test_a_file_that_could_not_be_written_leaves_the_old_one_and_no_remains(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(RealDisk(), path, b"old")

    with pytest.raises(OSError, match="No space left"):
        write_whole(FullDisk(), path, b"new")

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_nothing_stands_under_the_final_name_before_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"

    with whole_file(RealDisk(), path) as handle:
        write_fully(RealDisk(), handle, b"half")
        seen = os.listdir(tmp_path)

    assert seen == [temporary_of(path).name]
    assert is_temporary(seen[0])
    assert path.read_bytes() == b"half"


def test_readers_of_parquet_folders_pass_over_temporary_files(tmp_path: Path) -> None:
    name = temporary_of(tmp_path / "part-000000.parquet").name

    assert name.startswith("_")
    assert not name.endswith(".parquet")  # some go by the ending alone


def test_reserving_takes_room_and_leaves_the_length(tmp_path: Path) -> None:
    disk = RealDisk()
    handle = disk.open_append(tmp_path / "journal")
    disk.write(handle, b"line\n")

    disk.reserve(handle, 5, 1 << 20)

    assert disk.size(handle) == 5
    assert os.fstat(handle).st_blocks * 512 >= 1 << 20
    disk.close(handle)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode_of(path: Path) -> str:
    return f"{path.stat().st_mode & 0o777:03o}"


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("given", "expected"), [(None, "640"), (0o604, "604"), (0o660, "660")])
def test_our_own_files_are_private_and_others_have_the_mode_that_is_wanted(
    tmp_path: Path, given: int | None, expected: str
) -> None:
    disk, out = RealDisk(parts_mode=given), tmp_path / "out"
    own = out / "_batchcall"
    for folder in (out, own, own / "answers"):
        disk.make_folder(folder)
    for path in (out / "part", own / "run.json", own / "answers" / "part"):
        with whole_file(disk, path):
            pass
    disk.close(disk.open_append(own / "journal"))

    assert [mode_of(folder) for folder in (out, own, own / "answers")] == ["750", "700", "700"]
    assert mode_of(out / "part") == expected
    assert [mode_of(own / name) for name in ("run.json", "journal", "answers/part")] == ["600"] * 3


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "victim")

    with pytest.raises(OSError, match="symbolic links"):
        RealDisk().create(tmp_path / "link")

    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_tree_is_removed_without_what_its_links_lead_to(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours / "answers"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"precious")
    (ours / "link").symlink_to(theirs)
    (tmp_path / "linked").symlink_to(theirs)

    remove_tree(RealDisk(), ours)
    remove_tree(RealDisk(), tmp_path / "linked")

    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
    assert (theirs / "file").read_bytes() == b"precious"
