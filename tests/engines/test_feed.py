"""The feed: every item once, in order, one batch ahead, whoever takes them and whoever is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from batchcall.engines.feed import Feed


def batches(count: int, size: int) -> Iterator[list[int]]:
    for number in range(count):
        yield list(range(number * size, (number + 1) * size))


async def taken_by(feed: Feed[int], workers: int) -> list[int]:
    taken: list[int] = []

    async def work() -> None:
        while (item := await feed.next()) is not None:
            taken.append(item)
            await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(workers)))
    return taken


async def test_many_workers_take_every_item_once_in_order() -> None:
    feed = Feed(batches(7, 5))

    taken = await taken_by(feed, workers=4)

    assert taken == list(range(35))
    await feed.close()


async def test_empty_batches_end_nothing() -> None:
    feed = Feed(iter([[], [1], [], [], [2], []]))

    assert await taken_by(feed, workers=2) == [1, 2]
    await feed.close()


async def test_no_more_than_one_batch_is_read_ahead() -> None:
    read: list[int] = []

    def counting() -> Iterator[list[int]]:
        for number in range(100):
            read.append(number)
            yield [number]

    feed = Feed(counting())
    assert await feed.next() == 0
    await feed.close()

    assert len(read) <= 3


async def test_a_worker_that_is_cancelled_while_it_waits_costs_nobody_an_item() -> None:
    may_read = threading.Event()

    def slow() -> Iterator[list[int]]:
        may_read.wait(10)
        yield [1, 2]

    feed = Feed(slow())
    waiting = asyncio.create_task(feed.next())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    may_read.set()

    assert await taken_by(feed, workers=1) == [1, 2]
    await feed.close()


async def test_what_the_source_raises_reaches_who_asks() -> None:
    def broken() -> Iterator[list[int]]:
        yield [1]
        raise OSError("the disk is gone")

    feed = Feed(broken())

    assert await feed.next() == 1
    with pytest.raises(OSError, match="the disk is gone"):
        await feed.next()
    await feed.close()
