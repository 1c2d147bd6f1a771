"""How many files and connections a run has open at once, and how many this process may have."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from batchcall.base import JobError
from batchcall.http import MOST_RESTING
from batchcall.job import Job, pace_of
from batchcall.pacing import MOST_AUTO

if sys.platform != "win32":
    import resource

_SPARE = 128  # for the program itself: libraries, input, parts that are being written, the lock
_LEAST_AUTO = 8
_ROWS_ON_THEIR_WAY = 2  # for each in flight: itself, and one that has ended and waits for its part
_FILES_OF_A_PART = 3  # journal, raw answers, and the journal to read


class Room(NamedTuple):
    """What an endpoint may have open."""

    most_auto: int  # in flight, where the job says "auto"
    most_resting: int  # idle connections kept beside those


def room_for(job: Job) -> Room:
    """Make room for all that a run has open: the soft limit is raised as far as needed. Raises JobError where the hard
    one leaves too little for what `concurrency` asks for."""
    prepared = [pace_of(job, endpoint).concurrency for endpoint in job.endpoints]
    in_flight = sum(one or MOST_AUTO for one in prepared)
    files = _open_now() + _SPARE + _FILES_OF_A_PART * (_ROWS_ON_THEIR_WAY * in_flight // job.output.part_rows + 2)
    limit = _raised_to(files + in_flight + MOST_RESTING * len(prepared))
    if limit is None:
        return Room(MOST_AUTO, MOST_RESTING)
    # A number in the job is kept or refused. "auto" takes what the others leave, and idle connections what is left
    # then.
    left, fixed, autos = limit - files, sum(one or 0 for one in prepared), prepared.count(None)
    most_auto = min(MOST_AUTO, (left - fixed) // autos) if autos else MOST_AUTO
    if left < fixed or most_auto < _LEAST_AUTO:
        needed, each = files + fixed + _LEAST_AUTO * autos, left // len(prepared)
        raise JobError(
            f"{fixed + _LEAST_AUTO * autos:,} requests in flight need {needed:,} open files and connections, and this"
            f" process may have {limit:,}",
            hint="raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of Docker)"
            + (f", or set limits.concurrency to {each:,} at most" if each > 0 else ""),
        )
    return Room(most_auto, min(MOST_RESTING, max(0, left - fixed - autos * most_auto) // len(prepared)))


def _open_now() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder))
        except OSError:
            continue
    return 0


def _raised_to(needed: int) -> int | None:
    """The soft limit, raised to `needed` or as near as may be; None where there is none."""
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if wanted <= soft:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS knows a lower one for all processes
        return soft
    return wanted
