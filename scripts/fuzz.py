"""The long form of tests/dialects/test_spoilt_answers.py: answers without end, within limits of time and memory."""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from mutating import check_in_every_dialect, goldens, spoilt  # noqa: E402  # found by the line above

HELP = """\
Golden answers of every dialect with one to four things wrong: values replaced, removed, wrapped, renamed,
transplanted; bytes cut, flipped, inserted; bodies doubled, joined, shuffled, compressed. Each is decoded by all four
dialects, its calls are read with and without repair, and asked about again. Every answer is a number: --seed S --only N
reads one again.

The reading is done in child processes. One that raises, takes longer than a second of CPU for an answer, or wants more
than 64 MB beyond what it had to begin with, is told with the number of its answer. Exit code: 0 none, 1 some.
"""
ANSWERS_A_CHILD = 2_000
LONGEST_S = 1.0
MOST_BYTES = 64 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--seed", type=int, default=0, help="of all answers (0)")
    parser.add_argument("--only", type=int, metavar="N", help="read this answer again, here, without limits")
    asked = parser.parse_args()
    if asked.only is not None:
        check_in_every_dialect(spoilt(_dice(asked.seed, asked.only)))
        return 0
    goldens()  # read once, for all children
    until_s = time.monotonic() + asked.minutes * 60
    read = failed = 0
    while time.monotonic() < until_s:
        done, why = _read_in_child(asked.seed, read)
        read += done
        if why is not None:
            failed += 1
            print(f"answer {read - 1} of seed {asked.seed}: {why}", flush=True)
    print(f"{read:,} answers of seed {asked.seed} read by every dialect, {failed} failed")
    return 1 if failed else 0


def _dice(seed: int, number: int) -> random.Random:
    return random.Random(f"{seed} {number}")


def _read_in_child(seed: int, first: int) -> tuple[int, str | None]:
    """How many answers from `first` on were read, the one that failed included, and why it did."""
    receiving, sending = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receiving)
        _read_and_leave(seed, first, sending)
    os.close(sending)
    with os.fdopen(receiving, "rb") as said:
        dots, _, why = said.read().decode("utf-8", "replace").partition("!")
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        return ANSWERS_A_CHILD, None
    return len(dots), why or f"the process ended with {os.waitstatus_to_exitcode(status)}"


def _read_and_leave(seed: int, first: int, sending: int) -> None:
    """A dot for every answer before it is read; behind the last, why it failed."""
    signal.signal(signal.SIGPROF, _too_long)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MOST_BYTES, hard))
    try:
        for number in range(first, first + ANSWERS_A_CHILD):
            response = spoilt(_dice(seed, number))
            os.write(sending, b".")
            signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
            check_in_every_dialect(response)
            signal.setitimer(signal.ITIMER_PROF, 0)
    except BaseException:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        os.write(sending, b"!" + traceback.format_exc(limit=-6).encode("utf-8", "replace"))
        os._exit(1)
    os._exit(0)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"longer than {LONGEST_S:g} s of CPU")


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
