"""A server on loopback that sends exactly these bytes, right or wrong, and the transport that asks it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from batchcall.base.records import Failure, HttpRequest, HttpResponse
from batchcall.http.transport import Transport, open_transport

KEY = "sk-proj-0123456789abcdefghij"
REQUEST = HttpRequest("/chat/completions", b'{"model":"m"}')
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def transport_to(url: str, **settings: Any) -> contextlib.AbstractAsyncContextManager[Transport]:
    return open_transport(url, **{"headers": {}, "timeout_s": 10.0, "concurrency": 8, **settings})


async def post_to(url: str, request: HttpRequest = REQUEST, **settings: Any) -> HttpResponse | Failure:
    async with transport_to(url, **settings) as transport:
        return await transport.post(request)


async def answer_of(url: str, **settings: Any) -> HttpResponse:
    answer = await post_to(url, **settings)
    assert isinstance(answer, HttpResponse), answer
    return answer


async def failure_of(url: str, **settings: Any) -> Failure:
    answer = await post_to(url, **settings)
    assert isinstance(answer, Failure), answer
    return answer


@dataclass
class RawServer:
    """A server that answers every request with the same bytes, right or wrong."""

    port: int = 0
    heads: list[str] = field(default_factory=list)  # of the requests it got
    connections: int = 0
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def note_request(self, head: str) -> None:
        self.heads.append(head)
        async with self._came:
            self._came.notify_all()

    async def wait_for_requests(self, count: int) -> None:
        async with self._came:
            await self._came.wait_for(lambda: len(self.heads) >= count)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@contextlib.asynccontextmanager
async def raw_server(
    *segments: bytes, then: str = "close", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Answers with these segments, each sent on its own; with OK where none is given.

    `then`: what it does after its answer: "close", "reset", "hold" the connection, or "serve" the next request.
    "blurt" answers whatever it is sent.
    """
    server, end, talks = RawServer(), asyncio.Event(), set[asyncio.Task[None]]()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await (reader.read(10) if then == "blurt" else _read_request(reader, server)):
                for segment in segments or (OK,):
                    writer.write(segment)
                    await writer.drain()
                    await asyncio.sleep(0)
                if then != "serve":
                    break
            if then == "hold":
                await end.wait()
            if then == "reset":
                writer.transport.abort()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    def start_talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(talk(reader, writer)))

    listening = await asyncio.start_server(start_talk, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        end.set()
        listening.close()
        await listening.wait_closed()
        await asyncio.gather(*talks)


async def _read_request(reader: asyncio.StreamReader, server: RawServer) -> bool:
    head = await reader.readuntil(b"\r\n\r\n")
    await server.note_request(head.decode())
    fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
    await reader.readexactly(int(fields.get("content-length", 0)))
    return True


def answer_with(body: bytes, *, status: int = 200, **headers: str) -> bytes:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Content-Length": str(len(body)), **names}.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + body
