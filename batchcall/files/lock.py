"""One run per output folder. The kernel frees the lock when its holder ends, so no stale lock ever needs a person."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from batchcall.errors import LockedError

try:
    import fcntl
except ImportError:  # Windows: no lock there yet, and nobody is told otherwise
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock file at `path` for the block. Raises LockedError at once when another run holds it.

    Raises OSError where it cannot be made, or is a link: it would be written over whatever that leads to.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o600)
    try:
        _lock(handle, path)
        os.ftruncate(handle, 0)
        os.pwrite(handle, _holder().encode(), 0)
        yield
    finally:
        os.close(handle)


def refuse_held(path: Path) -> None:
    """Raise LockedError when another run holds the lock file at this moment. Takes nothing."""
    if path.exists():
        with contextlib.suppress(OSError), open(path, "r+b") as file:
            _lock(file.fileno(), path)


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
        raise LockedError(
            f"another run holds {path.parent.parent}: {_named_in(handle)}",
            hint="wait for it, or stop it with SIGTERM (it drains and loses nothing), or choose another --output",
        ) from error


def _named_in(handle: int) -> str:
    return os.pread(handle, 200, 0).decode(errors="replace") or "a process that has not said its name"


def _holder() -> str:
    since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"process {os.getpid()} on {socket.gethostname()}, since {since}"
