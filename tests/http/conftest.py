"""Tests of the transport run over both clients: the lean one, and aiohttp's session, which stands in for it."""

from __future__ import annotations

import pytest

from batchcall.http import transport


@pytest.fixture(params=["lean", "session"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which client the transports of a test post with, where there is no proxy."""

    async def lean_works(say: object) -> bool:
        return bool(request.param == "lean")

    monkeypatch.setattr(transport, "lean_works", lean_works)
    return str(request.param)
