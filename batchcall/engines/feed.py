"""Rows from a synchronous source, read in a thread one batch ahead, taken one at a time by many workers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Feed(Generic[Item]):
    """Items in the order of their source. Reads a batch only when the one before it is being taken."""

    def __init__(self, batches: Iterator[list[Item]]) -> None:
        self._batches = batches
        self._taken: deque[Item] = deque()
        self._ahead: asyncio.Task[list[Item] | None] | None = None
        self._is_over = False
        self._reading = asyncio.Lock()

    @property
    def is_waiting(self) -> bool:
        """Whether workers wait for the disk."""
        return not self._taken and self._reading.locked()

    async def next(self) -> Item | None:
        """The next item, None when there are no more. Raises what the source raises. May be cancelled."""
        while not self._taken and not self._is_over:
            async with self._reading:
                if not self._taken and not self._is_over:
                    await self._refill()
        return self._taken.popleft() if self._taken else None

    async def _refill(self) -> None:
        if self._ahead is None:
            self._ahead = self._read_ahead()
        batch = await asyncio.shield(self._ahead)
        if batch is None:
            self._is_over = True
            return
        self._ahead = self._read_ahead()
        self._taken.extend(batch)

    def _read_ahead(self) -> asyncio.Task[list[Item] | None]:
        return asyncio.create_task(asyncio.to_thread(next, self._batches, None))

    async def close(self) -> None:
        """Wait for a read under way. What it raises was or will never be asked for."""
        self._is_over = True
        if self._ahead is not None:
            with contextlib.suppress(Exception):
                await self._ahead
