"""Every durable act on the file system, in one place: a model file system can stand in for it in tests.

What survives, and what it takes (POSIX promises no more, and file systems make use of that):

- Bytes survive the death of this process once `write` has returned, and a power cut once `sync` has. A sync that failed
  may have dropped the pages: a second one of the same file says success and proves nothing.
- A name (a file that was made, renamed or removed) survives a power cut once its folder was synced, whatever was done
  to the file. Until then any subset of the names of a folder may be back.
- A rename replaces its target whole or not at all, but it may reach the disk before the bytes of the file. So a file is
  synced before it gets its name.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from batchcall.disk.lock import NO_FOLLOW, stands_at

Opened = TypeVar("Opened")

OWN_FOLDER = "_batchcall"  # prompts and raw answers are in it: nobody else may read it
_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700
_FILE, _FOLDER = 0o666, 0o777  # less what the umask takes away
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE, linux/falloc.h: blocks are taken, the file's length stays


class Disk(Protocol):
    """What the files of an output ask of a file system. Errors are OSErrors, as the system gives them."""

    guard: Callable[[], None]  # called before anything is made, renamed or removed; raises where that must not be

    def make_folder(self, folder: Path) -> None: ...
    def names(self, folder: Path) -> list[str]: ...
    def exists(self, path: Path) -> bool: ...
    def is_folder(self, path: Path) -> bool: ...
    def is_link(self, path: Path) -> bool: ...
    def read(self, path: Path) -> bytes: ...
    def open_read(self, path: Path) -> pa.NativeFile: ...
    def open_append(self, path: Path) -> int: ...
    def create(self, path: Path) -> int: ...
    def write(self, handle: int, content: bytes, /) -> int: ...
    def size(self, handle: int) -> int: ...
    def stands_at(self, handle: int, path: Path) -> bool: ...
    def reserve(self, handle: int, offset: int, length: int) -> bool: ...
    def truncate(self, handle: int, length: int) -> None: ...
    def sync(self, handle: int) -> None: ...
    def close(self, handle: int) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def remove(self, path: Path) -> None: ...
    def remove_folder(self, folder: Path) -> None: ...
    def sync_folder(self, folder: Path) -> None: ...


class RealDisk:
    """The machine's own file system. Outside of `_batchcall` files have `parts_mode`, or what the umask gives."""

    guard: Callable[[], None] = staticmethod(lambda: None)
    _parts_mode: int | None = None

    def __init__(self, *, parts_mode: int | None = None) -> None:
        self._parts_mode = parts_mode

    def make_folder(self, folder: Path) -> None:
        self.guard()
        folder.mkdir(mode=_PRIVATE_FOLDER if _is_own(folder) else _FOLDER, exist_ok=True)

    def names(self, folder: Path) -> list[str]:
        try:
            return sorted(_opened(lambda: os.listdir(folder)))
        except FileNotFoundError:
            return []

    def exists(self, path: Path) -> bool:
        return path.exists()

    def is_folder(self, path: Path) -> bool:
        return path.is_dir()

    def is_link(self, path: Path) -> bool:
        return path.is_symlink()

    def read(self, path: Path) -> bytes:
        return _opened(path.read_bytes)

    def open_read(self, path: Path) -> pa.NativeFile:
        return _opened(lambda: pa.OSFile(os.fspath(path)))

    def open_append(self, path: Path) -> int:
        self.guard()
        return _opened(lambda: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_FOLLOW, _PRIVATE_FILE))

    def create(self, path: Path) -> int:
        self.guard()
        is_own = _is_own(path)
        mode = _PRIVATE_FILE if is_own else _FILE
        handle = _opened(lambda: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_FOLLOW, mode))
        if not is_own and self._parts_mode is not None:
            os.fchmod(handle, self._parts_mode)
        return handle

    write = staticmethod(os.write)

    def size(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def stands_at(self, handle: int, path: Path) -> bool:
        """Whether an open file is the one that `path` leads to."""
        return stands_at(handle, path)

    def reserve(self, handle: int, offset: int, length: int) -> bool:
        """Take blocks for [offset, offset + length) without changing the file's length.

        False where the system cannot do so. Raises OSError(ENOSPC) when there is no room.
        """
        if _FALLOCATE is None:
            return False
        while _FALLOCATE(handle, _KEEP_SIZE, offset, length) != 0:
            code = ctypes.get_errno()
            if code in (errno.EOPNOTSUPP, errno.ENOSYS):
                return False
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))
        return True

    def truncate(self, handle: int, length: int) -> None:
        os.ftruncate(handle, length)

    def sync(self, handle: int) -> None:
        _FDATASYNC(handle)

    def close(self, handle: int) -> None:
        os.close(handle)
        _keep_spare()

    def rename(self, source: Path, target: Path) -> None:
        self.guard()
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        self.guard()
        path.unlink(missing_ok=True)

    def remove_folder(self, folder: Path) -> None:
        self.guard()
        folder.rmdir()

    def sync_folder(self, folder: Path) -> None:
        """Make the names in `folder` survive a power cut: what was created, renamed and removed there."""
        if sys.platform == "win32":  # folders cannot be opened there; NTFS journals names itself
            return
        try:
            handle = _opened(lambda: os.open(folder, os.O_RDONLY))
        except PermissionError:  # a folder above the output that this user may not read
            return
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that keep names their own way
                raise
        finally:
            self.close(handle)


_SPARE = 4  # descriptors: the loop, the thread that syncs and those that write parts may each need one
_spare: list[int] = []


def _opened(open_one: Callable[[], Opened]) -> Opened:
    """What `open_one` opens, with a spare descriptor given away where there is no other.

    Connections may take every descriptor that this process may have, and an answer that has arrived must not be lost
    because there is none left.
    """
    # Filled up here and whenever a file is closed; one is given away at a time, until that is enough.
    _keep_spare()
    while True:
        try:
            return open_one()
        except OSError as error:
            if error.errno != errno.EMFILE or not _spare:
                raise
            os.close(_spare.pop())


def _keep_spare() -> None:
    with contextlib.suppress(OSError):
        while len(_spare) < _SPARE:
            _spare.append(os.open(os.devnull, os.O_RDONLY))


def _is_own(path: Path) -> bool:
    return OWN_FOLDER in path.parts


@contextlib.contextmanager
def guarded(disk: Disk, guard: Callable[[], None]) -> Iterator[None]:
    """Nothing is made, renamed or removed on the disk where `guard` raises, for as long as the block runs."""
    before, disk.guard = disk.guard, guard
    try:
        yield
    finally:
        disk.guard = before


def ensure_folder(disk: Disk, folder: Path) -> None:
    """Make a folder, and those above it, where they are missing; its name is durable afterwards. Raises OSError.

    A folder that stands may have been made by a run that died before it could sync, so the name is synced each time.
    """
    if not disk.exists(folder):
        ensure_folder(disk, folder.parent)
        disk.make_folder(folder)
    disk.sync_folder(folder.parent)


def remove_tree(disk: Disk, folder: Path) -> None:
    """Remove a folder of folders and files; of a link, only itself. Raises OSError."""
    if disk.is_link(folder) or not disk.is_folder(folder):
        disk.remove(folder)
        return
    for name in disk.names(folder):
        remove_tree(disk, folder / name)
    disk.remove_folder(folder)


def write_fully(disk: Disk, handle: int, content: bytes) -> None:
    """Write all of `content`; a write may take only a part of it (a full disk, a signal). Raises OSError."""
    # No progress counts as a full disk. Tried again for ever, it would keep the run from ending.
    while (written := disk.write(handle, content)) < len(content):
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        content = content[written:]


class Sink(io.RawIOBase):
    """An open file as buffers and pyarrow want one."""

    def __init__(self, disk: Disk, handle: int) -> None:
        super().__init__()
        self._disk = disk
        self._handle = handle
        self._position = 0

    def write(self, content: Any) -> int:
        block = bytes(content)
        write_fully(self._disk, self._handle, block)
        self._position += len(block)
        return len(block)

    def tell(self) -> int:
        return self._position

    def writable(self) -> bool:
        return True


def write_whole(disk: Disk, path: Path, content: bytes, *, is_last: bool = True) -> None:
    """Replace `path` by `content`, whole or not at all: temporary file beside it, sync, rename, sync of the folder.

    `is_last` False: that folder is synced anyway before anything rests on the new content.
    """
    with whole_file(disk, path, is_last=is_last) as handle:
        write_fully(disk, handle, content)


@contextlib.contextmanager
def whole_file(disk: Disk, path: Path, *, is_last: bool = True) -> Iterator[int]:
    """A new file to write; it stands at `path` once the block ends well, and leaves nothing behind when not."""
    # The sync stands before the rename: a rename may reach the disk before the bytes, and after a power cut the name
    # would be that of an empty file.
    temporary = temporary_of(path)
    handle = disk.create(temporary)
    try:
        try:
            yield handle
            disk.sync(handle)
        finally:
            disk.close(handle)
        disk.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            disk.remove(temporary)
        raise
    if is_last:
        disk.sync_folder(path.parent)


def temporary_of(path: Path) -> Path:
    """The name a file has until it is finished. Readers of Parquet folders pass over it: some go by the "_" at its
    beginning, others by its end."""
    return path.with_name(f"_tmp-{path.name}~")


def is_temporary(name: str) -> bool:
    return name.startswith("_tmp-")


_FALLOCATE: Any = None  # where the system has none, the disk reserve takes its place
if sys.platform.startswith("linux"):
    # The C library's own rather than `os.posix_fallocate`: that one makes the file longer, and a journal would end in
    # zeros.
    _FALLOCATE = getattr(ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True), "fallocate", None)
    if _FALLOCATE is not None:
        _FALLOCATE.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

# Without the file's times, which nobody reads here; its length is synced.
_FDATASYNC = getattr(os, "fdatasync", os.fsync)
