"""Tests of the transport run over both clients: the lean one, and aiohttp's session, which stands in for it."""

from __future__ import annotations

import socket

import pytest

from batchcall.http import transport


@pytest.fixture(params=["lean", "session"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which client the transports of a test post with, where there is no proxy."""

    async def lean_works(say: object) -> bool:
        return bool(request.param == "lean")

    monkeypatch.setattr(transport, "lean_works", lean_works)
    return str(request.param)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
