"""Work beside the loop: what becomes of it when whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable

import pytest

from batchcall.answers.repair import read_json
from batchcall.http.beside import beside, beside_to_the_end


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


NESTED = "[" + "[]," * 100_000 + "[]]"


def looks_while(work: Callable[[], object]) -> int:
    """How often the collector went through memory meanwhile."""
    looks = []
    gc.callbacks.append(count := lambda phase, _: looks.append(phase))
    try:
        work()
    finally:
        gc.callbacks.remove(count)
    return len(looks)


async def test_the_collector_does_not_go_through_an_answer_while_it_is_decoded() -> None:
    """It would do so in the one call that decodes, many times over, and every other thread would wait."""
    assert looks_while(lambda: read_json(NESTED)) > 0  # the control

    assert await beside(lambda: looks_while(lambda: read_json(NESTED))) == 0
    assert gc.isenabled()


async def test_the_collector_rests_until_the_last_work_is_done_whatever_that_raises() -> None:
    release = threading.Event()
    first = asyncio.create_task(beside(lambda: release.wait() and gc.isenabled()))
    await asyncio.sleep(0)

    with pytest.raises(ZeroDivisionError):
        await beside(lambda: 1 // 0)
    assert not gc.isenabled()
    release.set()

    assert await first is False
    assert gc.isenabled()
