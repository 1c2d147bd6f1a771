"""The embedded endpoint as a process of its own, which ends when the one that started it does, even by kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from batchcall.base import BatchcallError
from batchcall.sandbox.server import run_server, stop_on_signals
from batchcall.sandbox.settings import Settings, describe_faults, parse_faults

__all__ = ["SandboxProcess", "Settings", "describe_faults", "open_sandbox", "parse_faults", "serve"]

_STARTS_WITHIN_S = 20.0
_HOME = str(Path(__file__).parents[2])  # where this very package is, installed or not; looked into last
_SERVE = (
    "import sys; sys.path.append(sys.argv.pop(1));"
    "import runpy; runpy.run_module('batchcall.sandbox', run_name='__main__', alter_sys=True)"
)


@dataclass(frozen=True, slots=True)
class SandboxProcess:
    """An endpoint that runs."""

    url: str  # "http://127.0.0.1:PORT/v1"
    pid: int

    async def ledger(self) -> dict[str, Any]:
        """What it was asked and what it billed: requests, billed, billed_tokens, in_flight, statuses."""
        url = self.url.removesuffix("/v1") + "/sandbox/ledger"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            ledger: dict[str, Any] = orjson.loads(await response.read())
            return ledger


@contextlib.asynccontextmanager
async def open_sandbox(settings: Settings) -> AsyncIterator[SandboxProcess]:
    """Start an endpoint and end it with the block. Raises BatchcallError when it does not come up."""
    process = await _launched(settings)
    try:
        yield await _started(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()  # at its end, the endpoint leaves
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _launched(settings: Settings) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # whatever lies in the folder that the run was started in is no module of ours
            "-c",
            _SERVE,
            _HOME,
            orjson.dumps(asdict(settings)).decode(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_harmless(os.environ),
            start_new_session=True,  # a Ctrl-C is for the run, which drains; the endpoint must still answer then
        )
    except OSError as error:
        raise BatchcallError(
            f"the embedded endpoint cannot be started with {sys.executable or 'no Python'}: {error.strerror or error}",
            hint="check that this Python can be run, and that this machine allows another process",
        ) from error


def _harmless(environment: Mapping[str, str]) -> dict[str, str]:
    """What a Python needs to start and to find its libraries; no keys."""
    return {name: value for name, value in environment.items() if _HARMLESS.fullmatch(name.upper())}


_HARMLESS = re.compile(
    r"PATH|HOME|LANG|LC_\w+|TZ|TMPDIR|TMP|TEMP|(PYTHON|LD_|DYLD_)\w+|SYSTEM(ROOT|DRIVE)|WINDIR|USERPROFILE|LOCALAPPDATA"
)


async def _started(process: asyncio.subprocess.Process) -> SandboxProcess:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_STARTS_WITHIN_S):
            ready = orjson.loads(await process.stdout.readline())
    except (TimeoutError, ValueError):
        raise BatchcallError(
            "the embedded endpoint did not start", hint="run `batchcall sandbox --port 0` to see why"
        ) from None
    return SandboxProcess(ready["url"], ready["pid"])


def serve(settings: Settings) -> None:
    """Serve in this process until SIGINT or SIGTERM, telling the URL on stdout."""
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    try:
        await run_server(settings, ready=_tell, stop=stop)
    except OSError as error:
        raise BatchcallError(
            f"port {settings.port} cannot be used: {error.strerror}", hint="--port 0 takes any free one"
        ) from error


def _tell(url: str) -> None:
    sys.stdout.write(f"batchcall sandbox on {url}  (Ctrl-C ends it; what it billed: /sandbox/ledger)\n")
    sys.stdout.flush()
