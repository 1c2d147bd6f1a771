"""The command `batchcall`, and `python -m batchcall`. From its first line on, Ctrl-C ends it with a sentence."""

from __future__ import annotations

import os
import signal
import sys
from itertools import pairwise


def main() -> None:
    # Before the imports, which take most of the time until a run begins: an exception in the middle of one would come
    # out as another error. A run has handlers of its own as soon as there is anything to drain.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # where it is ignored, it stays so
        signal.signal(signal.SIGINT, _leave)
    from batchcall.cli import main as command

    command(prog_name="batchcall")


def _leave(number: int, frame: object) -> None:
    """End at once, as kill -9 would: nothing is in flight, and every file is whole or absent."""
    line = "error: stopped by SIGINT"
    if "--log-format=json" in sys.argv or ("--log-format", "json") in pairwise(sys.argv):
        line = '{"event":"error","error":"stopped by SIGINT","faults":[],"hint":"","exit_code":130}'
    try:
        os.write(2, f"{line}\n".encode())
    finally:
        os._exit(130)


if __name__ == "__main__":
    main()
