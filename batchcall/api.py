"""The blocking way to run a job, in an event loop of its own, with signals that drain it. The command line calls it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from batchcall.base import BatchcallError, ExitCode
from batchcall.job import Job
from batchcall.pipeline import RunOptions, Say, Show, StopSwitch, new_loop, run_job
from batchcall.report import Summary

STOPPING_SIGNALS = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}
if os.name != "nt":  # a terminal or an ssh connection that goes away
    STOPPING_SIGNALS[signal.SIGHUP] = ExitCode.TERMINATED


class InterruptedRun(BatchcallError):
    """A second signal ended the run at once. What arrived is kept; what was in flight may be paid; it is sent again."""

    def __init__(self, code: ExitCode) -> None:
        super().__init__("stopped at once by a second signal", hint="run the same command again to continue")
        self.exit_code = code


def run(
    job: Job | Path | str, options: RunOptions | None = None, *, show: Show | None = None, say: Say | None = None
) -> Summary:
    """Run a job and wait for its end; see `run_job`. The first signal drains, a second stops at once.

    Signals are SIGINT, SIGTERM and SIGHUP; one that the caller ignores (nohup, a shell's `&`) stays ignored.

    Raises BatchcallError when the run could not start, as inside a running event loop; InterruptedRun after a second
    signal.
    """
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise BatchcallError(
            "batchcall.run cannot wait for a run inside a running event loop, such as that of a notebook",
            hint="write `summary = await batchcall.run_job(...)` instead, with the same arguments",
        )
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_run_with_signals(job, options, show, say))


async def _run_with_signals(
    job: Job | Path | str, options: RunOptions | None, show: Show | None, say: Say | None
) -> Summary:
    # The first signal stops the feed, and the run ends by itself. The second cancels this task. A cancellation that no
    # second signal caused is the caller's own, and passes through.
    running = asyncio.current_task()
    assert running is not None
    with _signals(running) as (stop, second):
        try:
            return await run_job(job, options, show=show, say=say, stop=stop)
        except asyncio.CancelledError:
            if not second:
                raise
            raise InterruptedRun(second[0]) from None


@contextlib.contextmanager
def _signals(running: asyncio.Task[Summary]) -> Iterator[tuple[StopSwitch, list[ExitCode]]]:
    """Only the main thread may listen to signals; a caller in another thread handles them itself."""
    stop, second = StopSwitch(), list[ExitCode]()
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield stop, second
        return

    def on_signal(number: signal.Signals, code: ExitCode) -> None:
        if not stop.is_pulled:
            stop.pull(f"stopped by {number.name}", code)
        elif not second:
            second.append(code)
            running.cancel()

    loop = asyncio.get_running_loop()
    # One that is ignored when the run starts stays so: a shell's `&` and nohup mean it.
    heard = {n: code for n, code in STOPPING_SIGNALS.items() if signal.getsignal(n) is not signal.SIG_IGN}
    for number, code in heard.items():
        loop.add_signal_handler(number, on_signal, number, code)
    try:
        yield stop, second
    finally:
        for number in heard:
            loop.remove_signal_handler(number)
