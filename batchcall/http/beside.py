"""Work that would keep the event loop for long, done in a thread beside it: the loop, its timers and signals go on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from batchcall.base import Attempt

T = TypeVar("T")

LONG_BODY = 256 * 1024  # bytes; a shorter one takes less time than starting a thread


def is_long(attempt: Attempt) -> bool:
    return attempt.response is not None and len(attempt.response.body) > LONG_BODY


async def beside(work: Callable[[], T], *, limit_s: float | None = None) -> T:
    """The value of `work`. Raises whatever it raises; TimeoutError after `limit_s`.

    A thread of its own, which dies with the process: whoever is cancelled, or has waited long enough, leaves it behind.
    """
    return await asyncio.wait_for(_begun(work), limit_s)


async def beside_to_the_end(work: Callable[[], T]) -> T:
    """As `beside`, but a cancellation waits until the work is done and its value returned: the next wait raises it."""
    done = _begun(work)
    is_cancelled = False
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError:
            is_cancelled = True
    task = asyncio.current_task()
    if is_cancelled and task is not None:
        task.uncancel()
        task.cancel()
    return done.result()


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Stop the garbage collector while the block runs, in all threads."""
    # Answers have no cycles. Decoding 12 MB of nested lists takes 0.5 s; with the collector, which looks at them over
    # and over meanwhile, it takes 4 s: one call, in which no other thread runs.
    global _pauses
    with _pausing:
        _pauses += 1
        gc.disable()
    try:
        yield
    finally:
        with _pausing:
            _pauses -= 1
            if _pauses == 0:
                gc.enable()


_pausing = threading.Lock()
_pauses = 0  # that last: the collector is one for all threads


def _begun(work: Callable[[], T]) -> asyncio.Future[T]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(put: Callable[[Any], None], what: Any) -> None:
        if not done.done():  # else it was cancelled
            put(what)

    def run() -> None:
        end: tuple[Callable[[Any], None], Any]
        try:
            with collector_paused():
                end = done.set_result, work()
        except BaseException as error:
            end = done.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, *end)

    # Not a thread of the loop's pool: that is joined when the process ends, so an answer that takes minutes to read
    # would hold it back.
    threading.Thread(target=run, name="beside", daemon=True).start()
    return done
