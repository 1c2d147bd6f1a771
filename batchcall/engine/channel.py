"""Messages between the process of a run and one of its workers, over a pair of sockets that nobody else can reach."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

Handlers = Mapping[str, Callable[..., None]]  # by the name of a message; called with its values

_LENGTH_BYTES = 4


class Channel(asyncio.Protocol):
    """One end of it. Messages arrive in order; those that are posted in one turn of the loop go as one."""

    def __init__(self, handlers: Handlers, lost: Callable[[], object]) -> None:
        """`lost` is called once, when the other end has closed or died."""
        self._handlers = {**handlers, "reply": self._replied}
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._outgoing: list[tuple[Any, ...]] = []
        self._incoming = bytearray()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._called = 0
        self._is_lost = False

    @classmethod
    async def over(cls, end: socket.socket, handlers: Handlers, lost: Callable[[], object]) -> Channel:
        """A channel over this end of a pair, which it closes with itself."""
        _, channel = await asyncio.get_running_loop().create_connection(lambda: cls(handlers, lost), sock=end)
        return channel

    def post(self, name: str, *values: object) -> None:
        """Send a message. One to an end that is gone is dropped: `lost` tells."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append((name, *values))

    def call(self, name: str, *values: object) -> asyncio.Future[Any]:
        """Post a message with a number in front of its values; the value of `reply` to it. Cancelled when the other end
        is gone."""
        if self._is_lost:
            gone: asyncio.Future[Any] = self._loop.create_future()
            gone.cancel()
            return gone
        self._called += 1
        answer = self._calls[self._called] = self._loop.create_future()
        self.post(name, self._called, *values)
        return answer

    def reply(self, number: int, value: object) -> None:
        """Answer the call with this number."""
        self.post("reply", number, value)

    def close(self) -> None:
        """Send what was posted, then close."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        incoming = self._incoming
        incoming += data
        start = 0
        while (begin := start + _LENGTH_BYTES) <= len(incoming):
            end = begin + int.from_bytes(incoming[start:begin], "big")
            if end > len(incoming):
                break
            for name, *values in pickle.loads(memoryview(incoming)[begin:end]):
                self._handlers[name](*values)
            start = end
        del incoming[:start]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport, self._is_lost = None, True
        for answer in self._calls.values():
            answer.cancel()
        self._lost()

    def _flush(self) -> None:
        messages, self._outgoing = self._outgoing, []
        if messages and self._transport is not None:
            frame = pickle.dumps(messages, pickle.HIGHEST_PROTOCOL)
            self._transport.write(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame)

    def _replied(self, number: int, value: object) -> None:
        answer = self._calls.pop(number)
        if not answer.done():
            answer.set_result(value)
