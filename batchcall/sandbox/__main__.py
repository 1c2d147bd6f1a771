"""`python -m batchcall.sandbox SETTINGS`: tells its URL on stdout, and serves until stdin ends or a signal comes."""

from __future__ import annotations

import asyncio
import gc
import os
import sys

import orjson

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
    watching = asyncio.create_task(_until_stdin_ends(stop))
    await run_server(settings, ready=_tell, stop=stop)
    watching.cancel()


async def _until_stdin_ends(stop: asyncio.Event) -> None:
    """The other end of the pipe is closed by the kernel when the process that holds it dies."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    await reader.read()
    stop.set()


def _tell(url: str) -> None:
    sys.stdout.buffer.write(orjson.dumps({"url": url, "pid": os.getpid()}) + b"\n")
    sys.stdout.buffer.flush()


gc.set_threshold(50_000, 20, 100)  # an answer makes no cycles
with asyncio.Runner(loop_factory=LOOP) as runner:
    runner.run(main(Settings(**orjson.loads(sys.argv[1]))))
