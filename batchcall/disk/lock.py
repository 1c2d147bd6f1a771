"""One run per output folder. The kernel frees the lock when its holder ends, so no stale lock ever needs a person."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from batchcall.base import LockedError

try:
    import fcntl
except ImportError:  # Windows: no lock there yet, and two runs of one output are not refused
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class FolderLostError(OSError):
    """The output folder of a run was deleted, renamed or replaced while the run used it. `str()` says which."""

    def __init__(self, what: str, *, hint: str, is_deleted: bool) -> None:
        super().__init__(errno.ESTALE, what)
        self.hint = hint
        self.is_deleted = is_deleted  # then what arrives now cannot be kept; in a renamed folder it still can


class HeldLock(msgspec.Struct, frozen=True):
    """A lock file that this process holds open, by itself or by the one that has started it."""

    handle: int
    path: Path

    def __call__(self) -> None:
        """Raises FolderLostError once the file at `path` is not the one that is held, another OSError where that cannot
        be seen any more."""
        _refuse_lost(self.handle, self.path)


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[HeldLock]:
    """Hold the lock file at `path` for the block. Raises LockedError at once when another run holds it.

    Raises OSError where the file cannot be made, or is a link: it would be written over whatever that leads to.
    """
    # The file stays when the run ends: to remove it would let a run that has opened it and one that makes a new one
    # hold a lock each. Who holds it is written for people only; the lock is what counts.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o600)
    try:
        _lock(handle, path)
        os.ftruncate(handle, 0)
        since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}, since {since}".encode(), 0)
        yield HeldLock(handle, path)
    finally:
        os.close(handle)


def stands_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one that `path` leads to. Raises OSError where that cannot be seen."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _refuse_lost(handle: int, path: Path) -> None:
    # The lock file is open, so it lives on whatever becomes of its folder. Three cases:
    # it is at its path: all is well; it has no name left: the folder was deleted, and what is written is lost;
    # it has a name elsewhere: the folder was moved, and all that was written is there.
    if stands_at(handle, path):
        return
    own, folder = path.parent, path.parent.parent
    if os.fstat(handle).st_nlink == 0:
        what = own if folder.is_dir() else folder
        raise FolderLostError(
            f"{what} was deleted while a run was writing to it",
            hint=f"the answers that were in {what} are lost with it; choose another --output, or move what is left of"
            f" {folder} away and run the same command again",
            is_deleted=True,
        )
    try:
        moved = str(Path(os.readlink(f"/proc/self/fd/{handle}")).parents[1])
    except (OSError, IndexError):  # no Linux
        moved = "the renamed folder"
    raise FolderLostError(
        f"{folder} was renamed or replaced while a run was writing to it",
        hint=f"every answer that arrived is in {moved}: move that back to {folder}, then run the same command again",
        is_deleted=False,
    )


def refuse_held(path: Path) -> None:
    """Raise LockedError when another run holds the lock file at this moment. Takes nothing."""
    if (holder := holder_of(path)) is not None:
        raise _held(path, holder)


def is_left_behind(path: Path) -> bool:
    """Whether the run that a held lock file names has died on this machine: its workers hold it until they have ended,
    which they do by themselves."""
    process, _, rest = (holder_of(path) or "").removeprefix("process ").partition(" on ")
    if not process.isdigit() or not rest.startswith(f"{socket.gethostname()},"):
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def holder_of(path: Path) -> str | None:
    """Who holds the lock file right now; None when nobody does. Takes nothing."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        _lock(handle, path)
    except LockedError:
        return _named_in(handle)
    finally:
        os.close(handle)
    return None


def _lock(handle: int, path: Path) -> None:
    if not HAS_LOCKS:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise _held(path, _named_in(handle)) from error


def _held(path: Path, holder: str) -> LockedError:
    return LockedError(
        f"another run holds {path.parent.parent}: {holder}",
        hint="wait for it, or stop it with SIGTERM (it waits for answers in flight and loses nothing),"
        " or choose another --output",
    )


def _named_in(handle: int) -> str:
    return os.pread(handle, 200, 0).decode(errors="replace") or "an unknown process"
