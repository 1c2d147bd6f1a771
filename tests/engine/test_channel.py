"""Messages between two processes of a run; here both ends are in one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from batchcall.engine.channel import Channel


@contextlib.asynccontextmanager
async def two_ends() -> AsyncIterator[tuple[Channel, Channel, list[Any], asyncio.Event]]:
    """One end, the other, what that received, and whether it has lost the first."""
    ours, its = socket.socketpair()
    received: list[Any] = []
    lost = asyncio.Event()
    there: list[Channel] = []
    handlers = {
        "note": lambda *values: received.append(values),
        "twice": lambda number, value: there[0].reply(number, 2 * value),
        "never": lambda number: None,
    }
    here = await Channel.over(ours, {}, lambda: None)
    there.append(await Channel.over(its, handlers, lost.set))
    yield here, there[0], received, lost
    here.close()
    there[0].close()
    await asyncio.sleep(0)


async def test_messages_arrive_in_order_however_large() -> None:
    async with two_ends() as (here, _, received, lost):
        for number in range(1000):
            here.post("note", number, "x" * (number % 7) * 50_000)
        here.close()
        await lost.wait()

        assert [(number, len(text)) for number, text in received] == [(n, n % 7 * 50_000) for n in range(1000)]


async def test_a_call_brings_the_reply_to_it() -> None:
    async with two_ends() as (here, *_):
        assert await asyncio.gather(*(here.call("twice", number) for number in range(50))) == list(range(0, 100, 2))


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
async def test_a_call_to_an_end_that_is_gone_is_cancelled_and_waits_for_nobody(is_late: bool) -> None:
    async with two_ends() as (here, there, *_):
        before = None if is_late else here.call("never")
        await asyncio.sleep(0)
        there.close()
        await asyncio.sleep(0.05 if is_late else 0)
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(10):
                await (before or here.call("never"))
