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
    """A signal ended the run at once: a second one, or one that came before anything was sent.

    What arrived is kept; what was in flight may be paid; it is sent again.
    """

    def __init__(self, what: str, code: ExitCode, *, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.exit_code = code


def run(
    job: Job | Path | str, options: RunOptions | None = None, *, show: Show | None = None, say: Say | None = None
) -> Summary:
    """Run a job and wait for its end; see `run_job`. The first signal drains, a second stops at once, and so does one
    that comes before anything is sent.

    Signals are SIGINT, SIGTERM and SIGHUP; one that the caller ignores (nohup, a shell's `&`) stays ignored.

    Raises BatchcallError when the run could not start, as inside a running event loop; InterruptedRun after a signal
    that stopped it at once.
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
    # The first signal stops the feed, and the run ends by itself. The second cancels this task, and so does the first
    # while there is nothing to drain. A cancellation that no signal caused is the caller's own, and passes through.
    running = asyncio.current_task()
    assert running is not None
    with _signals(running) as (stop, ended_by):
        try:
            return await run_job(job, options, show=show, say=say, stop=stop)
        except asyncio.CancelledError:
            if not ended_by:
                raise
            number, code = ended_by[0]
            if stop.is_preparing:
                raise InterruptedRun(f"stopped by {number.name} before anything was sent", code) from None
            again = "run the same command again to continue"
            raise InterruptedRun("stopped at once by a second signal", code, hint=again) from None


@contextlib.contextmanager
def _signals(running: asyncio.Task[Summary]) -> Iterator[tuple[StopSwitch, list[tuple[signal.Signals, ExitCode]]]]:
    """Only the main thread may listen to signals; a caller in another thread handles them itself."""
    stop, ended_by = StopSwitch(), list[tuple[signal.Signals, ExitCode]]()
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield stop, ended_by
        return

    def on_signal(number: signal.Signals, code: ExitCode) -> None:
        if not stop.is_pulled and not stop.is_preparing:
            stop.pull(f"stopped by {number.name}", code)
        elif not ended_by:
            ended_by.append((number, code))
            running.cancel()

    loop = asyncio.get_running_loop()
    # One that is ignored when the run starts stays so: a shell's `&` and nohup mean it.
    heard = {n: code for n, code in STOPPING_SIGNALS.items() if signal.getsignal(n) is not signal.SIG_IGN}
    before = {number: signal.getsignal(number) for number in heard}
    for number, code in heard.items():
        loop.add_signal_handler(number, on_signal, number, code)
    try:
        yield stop, ended_by
    finally:
        for number in heard:
            loop.remove_signal_handler(number)
            if before[number] is not None:  # None: not set by Python
                signal.signal(number, before[number])
