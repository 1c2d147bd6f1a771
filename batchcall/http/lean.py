"""One POST over aiohttp's connections and parser, without its session.

`ClientSession` builds a request, a response, a writer with its task, and two timers for each POST: half of what a row
costs. Here the head of a request is made once, and what is left is to write and to read. Names, TLS, limits, keep-alive
and HTTP itself stay aiohttp's.

Of its insides, `TCPConnector.connect`, `Connection.protocol`, `ResponseHandler.set_response_params`, `read` and
`_payload` are used. `lean_works` tries them once a process; if an aiohttp lacks one of them, a session is used instead.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import aiohttp
import msgspec
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from msgspec.structs import replace
from yarl import URL

from batchcall.http.connections import Connector, Unsent, Wire


class Answer(msgspec.Struct, frozen=True):
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
        connector: Connector,
        *,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        longest_line: int,
    ) -> None:
        """`timeout.total` is for one attempt, `timeout.connect`, which must be less, for its connection."""
        assert timeout.total is not None
        self._connector = connector
        self._headers = headers
        self._timeout = timeout
        self._total_s = timeout.total
        self._parser_settings: dict[str, Any] = {
            "read_until_eof": True,
            "auto_decompress": False,
            "max_line_size": longest_line,
            "max_field_size": longest_line,
        }
        self._deadlines = _Deadlines()
        self._targets: dict[str, _Target] = {}  # one for each path; there, some protocols name the model

    async def post(self, url: str, body: bytes, most: Most) -> Answer:
        now_s = asyncio.get_running_loop().time()
        target = self._targets.get(url) or self._new_target(url)
        connection = self._connector.rested(target.key, now_s)
        if connection is None:
            connection = await self._connected(target, now_s + self._total_s)
        wire, is_reusable = None, False
        try:
            wire = connection.protocol
            if wire is None or wire.transport is None:
                raise aiohttp.ServerDisconnectedError
            self._deadlines.add(wire, now_s + self._total_s)
            answer = await self._exchange(wire, wire.transport, target.head, body, most)
            # Not while the end of an answer is unread; nor, after a refusal that came early, while the end of the
            # request is unsent: the next request would queue behind it. No success comes early (connections.py).
            is_reusable = not answer.is_cut and (answer.status < 400 or not _has_unsent(wire))
        except HttpProcessingError as error:
            info = target.request.request_info
            raise aiohttp.ClientResponseError(info, (), status=error.code, message=error.message) from error
        finally:
            if wire is not None:
                self._deadlines.drop(wire)
            if is_reusable:
                connection.release()
            else:
                if wire is not None and _has_unsent(wire):
                    wire.abort()  # else socket and body stay until the server takes the rest
                connection.close()
        return answer

    async def _connected(self, target: _Target, ends_at_s: float) -> Connection:
        connection = await self._connector.connect(target.request, [], self._timeout)
        if asyncio.get_running_loop().time() >= ends_at_s:
            connection.close()
            raise Unsent(TimeoutError())
        return connection

    async def _exchange(
        self, wire: ResponseHandler, transport: asyncio.Transport, head: bytes, body: bytes, most: Most
    ) -> Answer:
        wire.set_response_params(**self._parser_settings)
        if len(body) <= _JOINED:
            transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        else:
            transport.write(b"%b%d\r\n\r\n" % (head, len(body)))
            transport.write(body)
        message, content = await wire.read()
        while 100 <= message.code < 200 and message.code != 101:  # "100 Continue" and the like come before the answer
            message, content = await wire.read()
        whole = wire.take_exact_body() if isinstance(wire, Wire) else None
        if whole is not None and len(whole) <= most.of(message.code):
            return Answer(message.code, message.headers, whole, False)
        raw, is_cut = await read(content, most.of(message.code))
        return Answer(message.code, message.headers, raw, is_cut)

    def _new_target(self, written: str) -> _Target:
        try:
            url = URL(written)
            request = aiohttp.ClientRequest("POST", url, headers=dict(self._headers), loop=asyncio.get_running_loop())
        except ValueError as error:  # a host name that no host can have; UnicodeError is one, aiohttp.InvalidURL too
            raise Unsent(error) from error
        lines = [f"POST {url.raw_path_qs} HTTP/1.1"]
        for name, value in request.headers.items():  # with a Host, unless the job has its own
            if name.lower() not in _OF_THE_BODY:
                lines.append(f"{name}: {value}")
        if len(self._targets) >= _MOST_TARGETS:
            self._targets.clear()
        head = "\r\n".join((*lines, "Content-Length: ")).encode()
        target = self._targets[written] = _Target(request, request.connection_key, head)
        return target


_JOINED = 64 * 1024  # bytes; longer bodies are written separately, to save a copy
_MOST_TARGETS = 64
_OF_THE_BODY = ("content-length", "transfer-encoding")  # the headers that say where a body ends


class _Target(NamedTuple):
    request: aiohttp.ClientRequest  # never sent: it says where to connect
    key: Any  # of the connections that lead there
    head: bytes  # up to the value of Content-Length


class _Deadlines:
    """When the time of each exchange is over. One timer for all: nearly every exchange ends in time, and one of its own
    would be set and cancelled for nothing."""

    def __init__(self) -> None:
        self._ends_at_s: dict[ResponseHandler, float] = {}
        self._timer: asyncio.TimerHandle | None = None  # for the earliest end, or for an earlier one that was dropped

    def add(self, wire: ResponseHandler, ends_at_s: float) -> None:
        self._ends_at_s[wire] = ends_at_s
        if self._timer is None or ends_at_s < self._timer.when():
            self._wake_at(ends_at_s)

    def drop(self, wire: ResponseHandler) -> None:
        self._ends_at_s.pop(wire, None)
        if not self._ends_at_s:
            self._wake_at(None)

    def _wake_at(self, at_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if at_s is None else asyncio.get_running_loop().call_at(at_s, self._expire_due)

    def _expire_due(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for wire in [wire for wire, ends_at_s in self._ends_at_s.items() if ends_at_s <= now_s]:
            del self._ends_at_s[wire]
            _expire(wire)
        self._wake_at(min(self._ends_at_s.values(), default=None))


def _expire(wire: ResponseHandler) -> None:
    """The answer has not come in time: whoever waits for it gets a TimeoutError."""
    error = TimeoutError()
    content = wire._payload
    wire.set_exception(error)
    if content is not None:
        content.set_exception(error)


def _has_unsent(wire: ResponseHandler) -> bool:
    return wire.transport is not None and wire.transport.get_write_buffer_size() > 0


async def read(content: aiohttp.StreamReader, most: int) -> tuple[bytes, bool]:
    """At most `most` bytes of the body as sent, and whether there was more."""
    if content.is_eof():  # as nearly always: all of it is here by now
        body = content.read_nowait()
        return body[:most], len(body) > most
    pieces: list[bytes] = []
    size = 0
    while size <= most and (piece := await content.readany()):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)[:most], size > most


async def lean_works(say: Callable[[str], None]) -> bool:
    """Whether this aiohttp has what `LeanClient` uses: some exchanges over pairs of sockets, tried once a process."""
    if not _works:
        try:
            works = await _tried(_WHOLE) == Answer(200, {"A": "b", "Content-Length": "2"}, b"[]", False)
            for unfinished in (b"", _WHOLE[:-1]):  # no answer, and no end of one
                works = works and await _tried(unfinished, is_in_time=False) is None
        except Exception as error:
            # Without a free descriptor nothing was tried. That says nothing of aiohttp, and the requests will show it.
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                return True
            works = False
        _works.append(works)
        if not works:
            say(
                f"batchcall's fast client does not work with aiohttp {aiohttp.__version__}; its session is used instead"
            )
    return _works[0]


async def _tried(reply: bytes, *, is_in_time: bool = True) -> Answer | None:
    """The answer to a request that is replied to like this; None: its time was over before it was whole."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()

    async def posted(client: LeanClient) -> Answer | None:
        try:
            answer = await client.post("http://localhost/e", b"{}", Most(2, 2))
        except TimeoutError:
            return None
        return replace(answer, headers=dict(answer.headers))

    async def replied(connector: _Pair) -> bytes:
        asked = await loop.sock_recv(there, 4096)
        await loop.sock_sendall(there, reply)
        if not is_in_time:  # by no clock, which a busy machine would overtake
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            _expire(connector.wire)
        return asked

    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        connector = _Pair(here)
        async with asyncio.timeout(_PATIENCE_S), connector, asyncio.TaskGroup() as group:
            timeout = aiohttp.ClientTimeout(total=_PATIENCE_S, connect=_PATIENCE_S / 2)
            client = LeanClient(connector, headers={"C": "d"}, timeout=timeout, longest_line=8190)
            answer, asked = group.create_task(posted(client)), group.create_task(replied(connector))
        lines = asked.result().split(b"\r\n")
        is_right = lines[:2] == [b"POST /e HTTP/1.1", b"Host: localhost"] and b"C: d" in lines
        if not is_right or lines[-3:] != [b"Content-Length: 2", b"", b"{}"]:
            raise ValueError(lines)
        return answer.result()


_works: list[bool] = []
_PATIENCE_S = 5.0
_WHOLE = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\n[]"


class _Pair(Connector):
    """Has one connection, to the other end of a socket."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__(on_stray=lambda: None)
        self._end = end

    async def _create_connection(self, *_: Any) -> ResponseHandler:
        connected: tuple[Any, ResponseHandler] = await self._loop.create_connection(self._factory, sock=self._end)
        self.wire = connected[1]
        return self.wire
