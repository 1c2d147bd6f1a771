"""A loop whose clock jumps: sleeping costs nothing, so a test may cover hours and never waits on the wall clock."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_TICK_S = 1e-9  # every round of the loop takes a moment, else a timer due "in 1e-17 s" would be due for ever
_STUCK_S = 2.0  # real seconds to wait for a thread or a socket when no timer is set


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where the real loop would wait for its next timer, this one moves its clock there."""

    def __init__(self, patience_s: float = 0.0) -> None:
        """`patience_s`: real seconds that sockets and threads are given before the clock jumps."""
        self.now_s = 1_000.0
        super().__init__(_JumpingSelector(self, patience_s))

    def time(self) -> float:
        return self.now_s

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Threads end in real time: from Python 3.12 the runner gives them 300 s, which this clock would jump over."""
        await super().shutdown_default_executor()


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop, patience_s: float) -> None:
        super().__init__()
        self._loop = loop
        self._patience_s = patience_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(
            _STUCK_S if timeout is None else min(max(timeout, 0), self._patience_s)
        )
        if timeout is None and not ready:
            raise RuntimeError("stuck: nothing is running and no timer is set")
        if not ready:
            self._loop.now_s += max(timeout or 0.0, _TICK_S)
        return ready


def run_virtual(main: Coroutine[Any, Any, T], *, patience_s: float = 0.0) -> T:
    """Run `main` to its end in virtual time; `asyncio.get_running_loop().time()` tells how late it is.

    `patience_s` is for a `main` that has sockets or threads: real seconds that they are given before the clock jumps.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(patience_s)) as runner:
        return runner.run(main)
