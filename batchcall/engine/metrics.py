"""Looks now and then at the queue that an inference server reports, where it does. Never fatal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from batchcall.pacing import Pacer, read_queue

LOOK_EVERY_S = 2.0
_GIVE_UP_AFTER = 3  # looks in a row without a queue


class Looker(Protocol):
    async def look(self, path: str) -> str | None:
        """The text at this path of the endpoint's host, None where there is none. Raises only CancelledError."""


@contextlib.asynccontextmanager
async def watched_queue(transport: Looker, pacer: Pacer) -> AsyncIterator[None]:
    """Give the pacer the server's queue while the block runs, if it is to find the window itself."""
    if pacer.window is None:
        yield
        return
    watching = asyncio.create_task(_watch(transport, pacer))
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _watch(transport: Looker, pacer: Pacer) -> None:
    misses = 0
    while misses < _GIVE_UP_AFTER:
        await asyncio.sleep(LOOK_EVERY_S)
        if not pacer.needs_window:
            continue
        text = await transport.look("/metrics")
        queue = read_queue(text) if text is not None else None
        if queue is None:
            misses += 1
            continue
        misses = 0
        pacer.saw_queue(*queue, asyncio.get_running_loop().time())
