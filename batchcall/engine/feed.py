"""What lanes take from and give to: rows from a source that is read in a thread, and outcomes for one consumer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Batch = TypeVar("Batch")
BACKLOG_BYTES = 16 * 1024 * 1024  # of what is made ready to be sent
RESULTS_BYTES = 32 * 1024 * 1024  # of what waits for the consumer


class Feed(Generic[Item]):
    """Items in the order of their source. Reads a batch only when the one before it is being taken."""

    def __init__(self, batches: Iterator[Batch], items_of: Callable[[Batch], list[Item]]) -> None:
        """`batches` is read in a thread; `items_of` is called on the loop, for each batch as soon as it is read."""
        self._batches = batches
        self._items_of: Callable[[Any], list[Item]] = items_of
        self.items: deque[Item] = deque()  # that are there already; whoever takes one pops it from the left
        self._held: list[Item] | None = None  # of the batch behind it, once it is read
        self._ahead: asyncio.Task[None] | None = None  # reads that
        self._is_over = False
        self._error: Exception | None = None  # the source's
        self._arrived = asyncio.Event()
        self._waiting = 0

    @property
    def is_waiting(self) -> bool:
        """Whether lanes wait for the disk."""
        return self._waiting > 0 and not self.items

    async def filled(self) -> bool:
        """Wait until there is an item. False: there are no more. Raises what the source raises."""
        # All who wait are woken together. One after the other, each in a turn of the loop of its own, would leave most
        # of the places in flight empty. Whoever is cancelled (a stop) leaves the batch to the others, or to `close`:
        # an iterator that is being read in a thread cannot be interrupted anyway.
        while not self.items and not self._is_over:
            if self._error is not None:
                raise self._error
            if self._ahead is None or self._held is not None:
                self.items.extend(self._held or ())
                self._held = None
                self._ahead = asyncio.create_task(self._read())
                continue
            self._waiting += 1
            try:
                await self._arrived.wait()
            finally:
                self._waiting -= 1
        return bool(self.items)

    async def _read(self) -> None:
        try:
            batch = await asyncio.to_thread(next, self._batches, None)
            if batch is None:
                self._is_over = True
            else:
                self._held = self._items_of(batch)
        except Exception as error:
            self._error = error
        self._arrived.set()
        self._arrived.clear()

    async def close(self) -> None:
        """Wait for a read that is under way. What it raises is dropped: nobody will take what it reads."""
        self._is_over = True
        if self._ahead is not None:
            await self._ahead


class Results(Generic[Item]):
    """From many lanes to one consumer, bounded. A third of the price of a Queue: one wake serves many items."""

    def __init__(
        self, *, most: int, size_of: Callable[[Item], int] = lambda _: 0, most_bytes: int = RESULTS_BYTES
    ) -> None:
        """`size_of` says about how many bytes an item holds."""
        self._most = most
        self._most_bytes = most_bytes
        self._size_of = size_of
        self._bytes = 0
        self._items: deque[tuple[Item, int]] = deque()  # with its bytes
        self.is_full = False  # whether lanes wait for the consumer
        self._is_closed = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def room(self) -> None:
        """Wait while the consumer is far behind."""
        while self.is_full:
            self._room.clear()
            await self._room.wait()

    def put(self, item: Item) -> None:
        """Hand an item over, after `room`."""
        size = self._size_of(item)
        self._items.append((item, size))
        self._weigh(size)
        self._arrived.set()

    def _weigh(self, size: int) -> None:
        self._bytes += size
        self.is_full = len(self._items) >= self._most or self._bytes >= self._most_bytes

    def close(self) -> None:
        """No more will come."""
        self._is_closed = True
        self._arrived.set()

    async def take(self) -> AsyncIterator[Item]:
        """Every item, until `close`."""
        while True:
            while self._items:
                item, size = self._items.popleft()
                self._weigh(-size)
                yield item
                del item  # it may be large, and the next one may take long to come
                # Lanes are woken all at once, when half is free: a wake for each item would cost more than the item.
                is_awaited = not self._room.is_set()
                if is_awaited and len(self._items) <= self._most // 2 and self._bytes <= self._most_bytes // 2:
                    self._room.set()
            if self._is_closed:
                return
            self._arrived.clear()
            await self._arrived.wait()


class Backlog:
    """Bytes that were taken from the source and are not sent yet. For one waiter at a time."""

    def __init__(self, most_bytes: int = BACKLOG_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self.has_room = True  # there is less than the most
        self._shrunk = asyncio.Event()

    async def room(self) -> None:
        """Wait until it has."""
        while not self.has_room:
            self._shrunk.clear()
            await self._shrunk.wait()

    def add(self, size: int) -> None:
        """So much was taken; less than 0: so much was sent."""
        self._bytes += size
        self.has_room = self._bytes < self._most_bytes
        if self.has_room:
            self._shrunk.set()
