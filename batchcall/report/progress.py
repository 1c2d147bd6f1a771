"""What a person sees while a run goes on: a bar on a terminal, a quiet line now and then without one. To stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol, TextIO

import orjson
from msgspec.structs import asdict

from batchcall.base import printable
from batchcall.report.snapshot import Snapshot
from batchcall.report.text import extras, snapshot_text

LINE_EVERY_S = 30.0


class Progress(Protocol):
    """Shows where the run stands, twice a second, and notes in between."""

    def show(self, now: Snapshot) -> None: ...
    def say(self, note: str) -> None: ...


@contextlib.contextmanager
def open_progress(*, quiet: bool, log_format: str, stream: TextIO | None = None) -> Iterator[Progress]:
    """The progress that fits: none when quiet, JSON lines when asked, a bar on a terminal, else plain lines."""
    stream = stream or sys.stderr
    if quiet:
        yield Silence()
    elif log_format == "json":
        yield Lines(stream, as_json=True)
    elif not stream.isatty():
        yield Lines(stream, as_json=False)
    else:
        with Bar(stream) as bar:
            yield bar


class Silence:
    def show(self, now: Snapshot) -> None:
        """Nothing."""

    def say(self, note: str) -> None:
        """Nothing."""


class Lines:
    """A line every 30 s at most, for cron's mail and for logs."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._stream = stream
        self._as_json = as_json
        self._said_at_s = time.monotonic()

    def show(self, now: Snapshot) -> None:
        if time.monotonic() - self._said_at_s < LINE_EVERY_S:
            return
        self._said_at_s = time.monotonic()
        self._write({"event": "progress", **asdict(now)}, snapshot_text(now))

    def say(self, note: str) -> None:
        self._write({"event": "note", "note": note}, note)

    def _write(self, event: dict[str, Any], text: str) -> None:
        line = orjson.dumps(event).decode() if self._as_json else f"batchcall: {printable(text)}"
        with _gone_terminal():
            print(line, file=self._stream, flush=True)


class Bar:
    """tqdm: rows, rate, and what else is worth knowing."""

    def __init__(self, stream: TextIO) -> None:
        from tqdm import tqdm  # noqa: PLC0415  # not above: without a terminal nobody needs it

        tqdm.monitor_interval = 0  # no thread of its own
        self._bar = tqdm(total=None, unit=" rows", file=stream, dynamic_ncols=True, smoothing=0.05, mininterval=0.2)
        self._is_first = True

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        with _gone_terminal():
            self._bar.close()

    def show(self, now: Snapshot) -> None:
        # Rows of earlier runs are in the count, but say nothing about the rate of this one.
        if self._is_first:
            self._bar.initial = now.rows - now.rows_here
            self._is_first = False
        if now.rows_expected is not None:
            self._bar.total = now.rows_expected
        with _gone_terminal():
            self._bar.set_postfix_str(", ".join(extras(now)), refresh=False)
            self._bar.update(now.rows - self._bar.n)
            self._bar.refresh()

    def say(self, note: str) -> None:
        with _gone_terminal():
            self._bar.write(printable(note), file=sys.stderr)


def _gone_terminal() -> contextlib.suppress:
    """Writing fails when the terminal has gone (a broken ssh connection). That must not end the run."""
    return contextlib.suppress(OSError, ValueError)
