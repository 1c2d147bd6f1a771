"""`python -m batchcall.sandbox SETTINGS`: prints its URL on stdout, and serves until a signal comes or, where stdin is
the pipe of the one who started it, until that ends."""

from __future__ import annotations

import asyncio
import os
import stat
import sys

import orjson

from batchcall.base import fewer_collections
from batchcall.sandbox.server import run_server, stop_on_signals
from batchcall.sandbox.settings import Settings

try:
    import uvloop
except ImportError:
    LOOP = None
else:
    LOOP = uvloop.new_event_loop


async def main(settings: Settings) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    watching = asyncio.create_task(_until_stdin_ends(stop)) if _is_held_by_a_pipe() else None
    await run_server(settings, ready=_tell, stop=stop)
    if watching is not None:
        watching.cancel()


def _is_held_by_a_pipe() -> bool:
    """Whether stdin is a pipe or a socket. Of /dev/null, as under cron and nohup, there is nothing to wait for, and
    uvloop aborts the process when it is asked to."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:  # closed
        return False
    return sys.stdin is not None and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


async def _until_stdin_ends(stop: asyncio.Event) -> None:
    """The other end of the pipe is closed by the kernel when the process that holds it dies."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    await reader.read()
    stop.set()


def _tell(url: str) -> None:
    sys.stdout.buffer.write(orjson.dumps({"url": url, "pid": os.getpid()}) + b"\n")
    sys.stdout.buffer.flush()


with fewer_collections(), asyncio.Runner(loop_factory=LOOP) as runner:
    runner.run(main(Settings(**orjson.loads(sys.argv[1]))))
