"""Requests that go through a gate, and what a provider sees of them, in virtual time."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from collections.abc import AsyncIterator
from itertools import accumulate

from batchcall.engine.gate import Admission, Gate


def now() -> float:
    return asyncio.get_running_loop().time()


def open_gate(
    concurrency: int = 1_000,
    *,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
) -> Gate:
    gate = Gate(concurrency=concurrency)
    gate.limit_rates(requests_per_minute, tokens_per_minute)
    return gate


@contextlib.asynccontextmanager
async def through(gate: Gate, tokens: float = 0.0) -> AsyncIterator[Admission]:
    admission = await gate.admit(tokens)
    assert admission is not None
    try:
        yield admission
    finally:
        admission.leave()


async def settle_down() -> None:
    """Let everything happen that needs no time."""
    for _ in range(20):
        await asyncio.sleep(0)


async def pass_through(gate: Gate, passed_at: list[float], *, tokens: float = 0.0) -> None:
    async with through(gate, tokens):
        passed_at.append(now())


def most_in_any(window_s: float, moments: list[float], weights: list[float] | None = None) -> float:
    """What a provider that counts a sliding window, both ends included, sees at worst."""
    sums = [0.0, *accumulate(weights or [1.0] * len(moments))]
    return max(
        sums[bisect.bisect_right(moments, moment + window_s)] - sums[first] for first, moment in enumerate(moments)
    )


async def crowd(gate: Gate, size: int) -> tuple[list[asyncio.Task[None]], asyncio.Event]:
    """So many requests that stay in flight until the event is set."""
    leave = asyncio.Event()

    async def one() -> None:
        async with through(gate):
            await leave.wait()

    tasks = [asyncio.create_task(one()) for _ in range(size)]
    await settle_down()
    return tasks, leave
