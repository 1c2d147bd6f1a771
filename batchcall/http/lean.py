"""One POST over aiohttp's connections and parser, without its session.

`ClientSession` builds a request, a response, a writer, two timers and their tasks for each POST: half of what a row
costs. Here the head of a request is made once, and what is left is to write and to read. Names, TLS, limits, keep-alive
and HTTP itself stay aiohttp's.

Of its insides, `TCPConnector.connect`, `Connection.protocol`, `ResponseHandler.set_response_params`, `read` and
`_payload` are used. `lean_works` tries them once a process; where another aiohttp has none of them, a session does it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL


class Answer(NamedTuple):
    """What came back: status, headers, and the body as it was sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool  # there was more than was wanted


class Most(NamedTuple):
    """Bytes that are read of a body: of a success (1xx and 2xx), of anything else."""

    success: int
    error: int

    def of(self, status: int) -> int:
        return self.success if status < 300 else self.error


class Client(Protocol):
    """Sends a body to a URL once, and reads the answer. Raises Unsent, aiohttp.ClientError, OSError."""

    async def post(self, url: str, body: bytes, most: Most) -> Answer: ...


class SessionClient:
    """As aiohttp does it: through a proxy, and where `LeanClient` does not work."""

    def __init__(self, session: aiohttp.ClientSession, options: Mapping[str, Any]) -> None:
        self._session = session
        self._options = options

    async def post(self, url: str, body: bytes, most: Most) -> Answer:
        async with self._session.post(url, data=body, allow_redirects=False, **self._options) as response:
            raw, is_cut = await read(response.content, most.of(response.status))
            if is_cut:
                response.close()  # the rest is not read, so the connection cannot be used again
            return Answer(response.status, response.headers, raw, is_cut)


class LeanClient:
    """Posts straight over the connections of a connector. Knows no proxy, cookie or redirect."""

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        *,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        longest_line: int,
    ) -> None:
        """`timeout.total` is for one attempt, `timeout.connect`, which must be less, for its connection."""
        self._connector = connector
        self._headers = headers
        self._timeout = timeout
        self._parser_settings = {
            "read_until_eof": True,
            "auto_decompress": False,
            "max_line_size": longest_line,
            "max_field_size": longest_line,
        }
        self._targets: dict[str, _Target] = {}  # a job has one or two

    async def post(self, url: str, body: bytes, most: Most) -> Answer:
        target = self._targets.get(url)
        if target is None:
            target = self._targets[url] = self._target(URL(url))
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        connection = await self._connector.connect(target.request, [], self._timeout)
        timer, is_done = None, False
        try:
            wire = connection.protocol
            if wire is None or wire.transport is None:
                raise aiohttp.ServerDisconnectedError
            timer = loop.call_at(began_s + (self._timeout.total or 0.0), _expire, wire)
            answer = await self._exchange(wire, wire.transport, target.head, body, most)
            is_done = not answer.is_cut  # else the rest is not read, so the connection cannot be used again
        except HttpProcessingError as error:
            info = target.request.request_info
            raise aiohttp.ClientResponseError(info, (), status=error.code, message=error.message) from error
        finally:
            if timer is not None:
                timer.cancel()
            if is_done:
                connection.release()
            else:
                connection.close()
        return answer

    async def _exchange(
        self, wire: ResponseHandler, transport: asyncio.Transport, head: bytes, body: bytes, most: Most
    ) -> Answer:
        wire.set_response_params(**self._parser_settings)  # type: ignore[arg-type]
        start = b"%b%d\r\n\r\n" % (head, len(body))
        if len(body) <= _JOINED:
            transport.write(start + body)
        else:
            transport.write(start)
            transport.write(body)
        message, content = await wire.read()
        while 100 <= message.code < 200 and message.code != 101:  # "100 Continue" and the like come before the answer
            message, content = await wire.read()
        raw, is_cut = await read(content, most.of(message.code))
        return Answer(message.code, message.headers, raw, is_cut)

    def _target(self, url: URL) -> _Target:
        request = aiohttp.ClientRequest("POST", url, headers=dict(self._headers), loop=asyncio.get_running_loop())
        lines = [f"POST {url.raw_path_qs} HTTP/1.1", f"Host: {request.headers['Host']}"]
        lines += [f"{name}: {value}" for name, value in self._headers.items()]
        return _Target(request, "\r\n".join((*lines, "Content-Length: ")).encode())


_JOINED = 64 * 1024  # bytes; a longer body is not copied to stand behind its head in one write


class _Target(NamedTuple):
    request: aiohttp.ClientRequest  # never sent: it says where to connect
    head: bytes  # up to the value of Content-Length


def _expire(wire: ResponseHandler) -> None:
    """The answer has not come in time: whoever waits for it gets a TimeoutError."""
    error = TimeoutError()
    content = wire._payload
    wire.set_exception(error)
    if content is not None:
        content.set_exception(error)


async def read(content: aiohttp.StreamReader, most: int) -> tuple[bytes, bool]:
    """At most `most` bytes of the body as sent, and whether there was more."""
    body = await content.readany()
    if content.at_eof() and len(body) <= most:  # as nearly every answer: all of it is here by now
        return body, False
    pieces = [body]
    size = len(body)
    while size <= most and (piece := await content.readany()):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)[:most], size > most


async def lean_works(say: Callable[[str], None]) -> bool:
    """Whether this aiohttp has what `LeanClient` uses: one exchange over a pair of sockets, tried once a process."""
    if not _works:
        _works.append(await _tried())
        if not _works[0]:
            say(f"aiohttp {aiohttp.__version__} is too new for batchcall's fast client; its session is used instead")
    return _works[0]


_works: list[bool] = []


async def _tried() -> bool:
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)

        async def answered() -> bytes:
            asked = await loop.sock_recv(there, 4096)
            await loop.sock_sendall(there, _EXAMPLE)
            return asked

        try:
            async with asyncio.timeout(_TRIED_S), _Pair(here) as connector, asyncio.TaskGroup() as group:
                timeout = aiohttp.ClientTimeout(total=_TRIED_S, connect=_TRIED_S / 2)
                client = LeanClient(connector, headers={"C": "d"}, timeout=timeout, longest_line=8190)
                asked = group.create_task(answered())
                status, headers, body, is_cut = await client.post("http://localhost/e", b"{}", Most(2, 2))
        except Exception:
            return False
        wanted = b"POST /e HTTP/1.1\r\nHost: localhost\r\nC: d\r\nContent-Length: 2\r\n\r\n{}"
        return asked.result() == wanted and (status, headers.get("a"), body, is_cut) == (200, "b", b"[]", False)


_TRIED_S = 5.0
_EXAMPLE = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\n[]"


class _Pair(aiohttp.BaseConnector):
    """Has one connection, to the other end of a socket."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__()
        self._end = end

    async def _create_connection(self, *_: Any) -> ResponseHandler:
        connected: tuple[Any, ResponseHandler] = await self._loop.create_connection(self._factory, sock=self._end)
        return connected[1]
