"""The feed: every item once, in order, one batch ahead, whoever takes them and whoever is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from batchcall.engine.feed import Backlog, Feed, Results


def batches(count: int, size: int) -> Iterator[list[int]]:
    for number in range(count):
        yield list(range(number * size, (number + 1) * size))


async def taken_by(feed: Feed[int], workers: int) -> list[int]:
    taken: list[int] = []

    async def work() -> None:
        while await feed.filled():
            taken.append(feed.items.popleft())
            await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(workers)))
    return taken


async def test_many_workers_take_every_item_once_in_order() -> None:
    feed = Feed(batches(7, 5), list)

    taken = await taken_by(feed, workers=4)

    assert taken == list(range(35))
    await feed.close()


async def test_all_who_wait_are_woken_by_the_same_batch() -> None:
    feed, taken = Feed(batches(1, 8), list), list[int]()

    async def take_one() -> None:
        assert await feed.filled()
        taken.append(feed.items.popleft())

    workers = [asyncio.create_task(take_one()) for _ in range(8)]
    await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)

    assert taken == list(range(8))  # one turn of the loop for each would leave most of the places in flight empty
    await asyncio.gather(*workers)
    await feed.close()


async def test_empty_batches_end_nothing() -> None:
    feed = Feed(iter([[], [1], [], [], [2], []]), list)

    assert await taken_by(feed, workers=2) == [1, 2]
    await feed.close()


async def test_no_more_than_one_batch_is_read_ahead() -> None:
    read: list[int] = []

    def counting() -> Iterator[list[int]]:
        for number in range(100):
            read.append(number)
            yield [number]

    feed = Feed(counting(), list)
    assert await feed.filled()
    assert feed.items.popleft() == 0
    await feed.close()

    assert len(read) <= 3


async def test_a_worker_that_is_cancelled_while_it_waits_costs_nobody_an_item() -> None:
    may_read = threading.Event()

    def slow() -> Iterator[list[int]]:
        may_read.wait(10)
        yield [1, 2]

    feed = Feed(slow(), list)
    waiting = asyncio.create_task(feed.filled())
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

    feed = Feed(broken(), list)

    assert await feed.filled()
    assert feed.items.popleft() == 1
    with pytest.raises(OSError, match="the disk is gone"):
        await feed.filled()
    await feed.close()


async def test_results_that_are_large_wait_although_they_are_few() -> None:
    results: Results[bytes] = Results(most=100, size_of=len, most_bytes=10)
    results.put(b"12345")
    results.put(b"1234567")
    waiting = asyncio.ensure_future(results.room())
    await asyncio.sleep(0)

    assert (results.is_full, waiting.done()) == (True, False)

    taken = results.take()
    assert [await anext(taken), await anext(taken)] == [b"12345", b"1234567"]
    third = asyncio.ensure_future(anext(taken))
    await waiting
    results.put(b"1")
    assert await third == b"1"


async def test_what_is_large_is_taken_only_when_what_was_taken_before_is_sent() -> None:
    backlog = Backlog(most_bytes=10)
    await backlog.room()
    backlog.add(25)
    waiting = asyncio.ensure_future(backlog.room())
    await asyncio.sleep(0)
    assert not waiting.done()

    backlog.add(-14)
    await asyncio.sleep(0)
    assert not waiting.done()  # still as much as the most

    backlog.add(-2)
    await waiting
