"""Work beside the loop: what becomes of it when whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from batchcall.engines.beside import beside, beside_to_the_end


async def test_what_is_raised_beside_the_loop_is_raised_to_whoever_waits() -> None:
    with pytest.raises(ZeroDivisionError):
        await beside(lambda: 1 // 0)


async def test_a_cancelled_wait_leaves_the_thread_behind() -> None:
    release = threading.Event()
    waiting = asyncio.create_task(beside(release.wait))
    await asyncio.sleep(0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()


async def test_work_to_the_end_gives_its_value_first_and_is_cancelled_at_the_next_wait() -> None:
    release, got = threading.Event(), []

    async def work() -> None:
        got.append(await beside_to_the_end(lambda: release.wait() and "value"))
        await asyncio.sleep(0)
        got.append("too far")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    release.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert got == ["value"]
