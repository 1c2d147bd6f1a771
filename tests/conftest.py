"""Every body that a test of this process sends is right by its vendor's document; what tests start hears signals."""

from __future__ import annotations

import gc
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

import forked
from batchcall.base.records import HttpRequest
from batchcall.http.transport import Transport
from batchcall.sandbox import process as sandbox_process
from batchcall.sandbox.process import SandboxProcess, Settings, open_sandbox
from documents import BODIES_SENT, faults_of

_PATHS = {
    "/chat/completions": "openai-chat",
    "/responses": "openai-responses",
    "/messages": "anthropic",
}

# On a busy machine an example may take its time.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


sandbox_process._launched = forked.launched  # type: ignore[assignment]  # in milliseconds, not in half a second


def pytest_configure(config: pytest.Config) -> None:
    """Under `nohup` and in a script's background SIGHUP and SIGINT arrive ignored, and a process that a test starts
    would ignore them too. What has a handler here has its default action there: one that does nothing serves both."""
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The second, short part of `scripts/test` need not import all test files to find its few."""
    is_needless = config.option.markexpr == "alone" and collection_path.name.startswith("test_")
    return True if is_needless and "pytest.mark.alone" not in collection_path.read_text(encoding="utf-8") else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Thousands of collected tests live to the end: the garbage collector need not look at them each time."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Compressed bytes hold the time, and a name that changes is no name."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[SandboxProcess]:
    """An endpoint that keeps a ledger of what it was asked and what it billed."""
    async with open_sandbox(Settings()) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def bodies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keeps what is sent, and holds it against the documents when the test is over.

    `@pytest.mark.sends_odd_bodies(reason)`: not those of this test.
    """
    sent: set[tuple[str, bytes]] = set()
    post = Transport.post

    async def noted(self: Transport, http: HttpRequest) -> Any:
        path = http.path.partition("?")[0]
        if path in _PATHS or path.startswith("/models/"):
            sent.add((_PATHS.get(path, "gemini"), http.body))
        return await post(self, http)

    monkeypatch.setattr(Transport, "post", noted)
    yield
    if request.node.get_closest_marker("sends_odd_bodies") is not None:
        return
    for protocol, body in sent:
        if body not in BODIES_SENT[protocol]:
            assert faults_of(protocol, json.loads(body)) == []
            BODIES_SENT[protocol].add(body)
