"""Connections on which an answer can only be the answer to the request before it.

HTTP/1.1 numbers nothing: the first answer that comes on a connection counts as the answer to its last request. A server
that sends one answer too many shifts every later row by one, and nothing in the answers shows it. So a connection is
used again only if it was silent since the end of its last answer:

- What arrives while no request is out closes the connection.
- What stands behind the end of an answer, in the same segment too, is dropped and closes the connection.
- A connection rests for a moment before it is used again: what comes a little late comes then. Others or new ones are
  used meanwhile. It rests longer while a server is new to us: one that sends too much does it early, too, and what
  comes while the next request is out cannot be distinguished from its answer.
- When a connection is taken, the socket itself is asked whether something has arrived that nobody has read yet.
- A success that begins before the whole request has reached the other machine answers another request: it is a failure.
- A server that was seen to do any of this gets a new connection for each request from then on.

aiohttp knows none of this. Of its insides, `TCPConnector._factory`, `_get`, `_conns` and `_acquired` and
`ResponseHandler._parser` are used here. Only a connection that this code saw through to the end of an answer is used
again, so where another aiohttp does these things elsewhere, each request has a connection of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import math
import os
import select
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import BadHttpMessage

from batchcall.http.chunks import Chunks

if sys.platform == "linux":
    import fcntl
    import termios

MOST_RESTING = 256  # connections; where there are more, the one that has rested longest is used again

_KEEP_ALIVE_S = 4.0  # below the 5 s of uvicorn and Node: a POST on a connection the server just closed is ambiguous
_REST_S = 0.1
_FIRST_REST_S = 1.5  # while fewer answers than these have come, or not as long
_FIRST_ANSWERS, _FIRST_S = 64, 10.0
_LONGEST_HEAD = 1024 * 1024  # bytes, all that announces an answer included
_PROBE_REASON = "between answers"
_PROBE = f"HTTP/1.1 204 {_PROBE_REASON}\r\n\r\n".encode()
_SWITCHING = 101  # the only status below 200 that ends an exchange


class Unsent(aiohttp.ClientError):
    """Whatever went wrong before there was a connection to send on: name, pool, TCP, TLS, proxy."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Connector(aiohttp.TCPConnector):
    """Gives out connections that are new or were silent. Failures to connect are `Unsent`: some of them, like a proxy
    that hangs up, aiohttp raises as if the request had been sent."""

    def __init__(self, *, on_stray: Callable[[], None], most_resting: int = MOST_RESTING, **settings: Any) -> None:
        """`on_stray` is called once, when the server has first sent what it was not asked for."""
        super().__init__(keepalive_timeout=_KEEP_ALIVE_S, **settings)
        self._on_stray = on_stray
        self._most_resting = most_resting
        self._has_strayed = False
        self._answers = 0
        self._first_at_s = 0.0  # when the first answer came
        wire = functools.partial(Wire, self)
        self._factory: Callable[[], Wire] = wire  # type: ignore[assignment]  # aiohttp types its own protocol

    async def connect(self, *request: Any, **settings: Any) -> Connection:
        while True:
            try:
                connection = await super().connect(*request, **settings)
            except (aiohttp.ClientError, OSError, UnicodeError) as error:
                # Connections that rest hold descriptors too. Without them fewer are kept, but nothing fails.
                if is_lack_of_descriptors(error) and await self._give_back_idle():
                    continue
                raise Unsent(error) from error
            wire = connection.protocol
            if not isinstance(wire, Wire):  # another aiohttp, that makes its own
                wire.force_close()  # type: ignore[union-attr]  # closed when its request is over
                return connection
            if self._has_strayed:
                wire.force_close()
            if wire.is_new or wire.is_silent:
                wire.is_new = False
                return connection
            connection.close()

    async def _get(self, key: Any, traces: Any) -> Connection | None:
        return self.rested(key, self._loop.time())

    def rested(self, key: Any, now_s: float) -> Connection | None:
        """One that was used before; None where there is none, or while those that are there rest."""
        idle = self._conns.get(key)
        if not idle:
            return None
        is_new_to_us = self._answers < _FIRST_ANSWERS or now_s - self._first_at_s < _FIRST_S
        rest_s = _FIRST_REST_S if is_new_to_us else _REST_S
        may_rest = len(idle) <= self._most_resting
        while idle:
            wire: Any = idle[0][0]
            silent_s = wire.silent_s(now_s)
            if may_rest and silent_s < rest_s and wire.is_connected():
                return None
            idle.popleft()
            if silent_s <= _KEEP_ALIVE_S and not self._has_strayed and wire.is_silent:
                self._acquired.add(wire)
                return Connection(self, key, wire, self._loop)
            wire.close()
        return None

    async def _give_back_idle(self) -> bool:
        """Close what rests, and keep nothing idle from now on; whether there was any."""
        self._most_resting = 0
        idle = [wire for wires in self._conns.values() for wire, _ in wires]
        self._conns.clear()
        for wire in idle:
            wire.abort()
        await asyncio.sleep(0)  # descriptors are free a turn of the loop later
        return bool(idle)

    def saw_answer(self, now_s: float) -> None:
        self._answers += 1
        if self._answers == 1:
            self._first_at_s = now_s

    def saw_stray(self) -> None:
        if not self._has_strayed:
            self._has_strayed = True
            self._on_stray()


class Wire(ResponseHandler):
    """One connection: a request, its answer, and only then the next request."""

    def __init__(self, connector: Connector) -> None:
        super().__init__(loop=connector._loop)
        self._connector = connector
        self.is_new = True
        self._answer: _OneAnswer | None = None  # to the last request
        self._settings: dict[str, Any] = {}  # of its parser
        self._silent_since_s: float | None = None  # None: an answer is awaited, or there is no more to come

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        reader: Any = getattr(transport, "_ssl_protocol", transport)
        with contextlib.suppress(AttributeError):  # not every event loop has it
            reader.max_size = _READ
        self._socket = transport.get_extra_info("socket")
        self._has_arrived = _watch(self._socket)

    def silent_s(self, now_s: float) -> float:
        """For how long it has been silent since its last answer; infinite if it was not."""
        return math.inf if self._silent_since_s is None else now_s - self._silent_since_s

    @property
    def is_silent(self) -> bool:
        """The last request was answered in full, and nothing has arrived since, not even where nobody has read it."""
        return (
            self._silent_since_s is not None
            and self.is_connected()
            and not self.should_close
            and not self._has_arrived()
        )

    @property
    def should_close(self) -> bool:
        # Asked twice a request. There is nothing to look for once all that came was one answer, and silence since.
        if self._silent_since_s is not None and self._answer is not None and self._answer.is_exact:
            return False
        return super().should_close

    def force_close(self) -> None:
        self._silent_since_s = None
        super().force_close()

    def set_response_params(self, **settings: Any) -> None:
        """A request is about to be sent."""
        self._silent_since_s = None
        if self._answer is not None and self._answer.is_exact and settings == self._settings:
            self._answer.begin()
        else:
            self._settings = settings
            self._answer = _OneAnswer(self._new_parser, self._has_unsent)
        self._parser: Any = self._answer

    def take_exact_body(self) -> bytes | None:
        """The body of the answer, if all of it has come and nothing else with it. None: it is to be read."""
        if self._answer is None:
            return None
        body, self._answer.exact_body = self._answer.exact_body, None
        return body

    def _new_parser(self) -> Any:
        super().set_response_params(**self._settings)
        parser, self._parser = self._parser, self._answer
        return parser

    def resume_reading(self, *more: Any, **settings: Any) -> None:
        # aiohttp calls this at the end of each body and when it is read, and each time feeds b"" to the parser.
        if getattr(self, "_reading_paused", True):
            super().resume_reading(*more, **settings)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if data and (self._silent_since_s is not None or self._parser is None):
            self._hang_up(data)
            return
        super().data_received(data)
        if self._silent_since_s is not None or answer is None or answer.is_last:
            return
        if answer.is_exact or answer.is_whole:
            self._silent_since_s = self._loop.time()
            self._connector.saw_answer(self._silent_since_s)
            if not answer.is_exact and answer.is_followed():
                self._hang_up(b"")

    def _hang_up(self, stray: bytes) -> None:
        self._silent_since_s = None
        self.force_close()
        self.close()
        # A server that closes an idle connection may say why, with a 408 for instance; no row takes that as its answer.
        if not stray.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5", b"HTTP/1.0 4", b"HTTP/1.0 5")):
            self._connector.saw_stray()

    def _has_unsent(self) -> bool:
        """Whether the other machine has not confirmed all that was to be sent; where the system does not say, whether
        this one has not passed all of it on."""
        if self.transport is None:
            return False
        if self.transport.get_write_buffer_size():
            return True
        if sys.platform != "linux" or self._socket is None:
            return False
        try:
            return fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, _NO_BYTES) != _NO_BYTES
        except OSError:
            return False


# Bytes a read asks for. For asyncio's 256 KiB malloc maps memory anew each time, and gives it back at once.
_READ = 64 * 1024
_NO_BYTES = bytes(4)  # an int in C


class _OneAnswer:
    """The parser of one answer at a time. aiohttp's own reads whatever comes, as one answer after the other."""

    def __init__(self, new_parser: Callable[[], Any], has_unsent: Callable[[], bool]) -> None:
        self._new_parser = new_parser
        self._parser = new_parser()
        self._has_unsent = has_unsent
        self.begin()

    def begin(self) -> None:
        self._body: Any = None  # once its head is here
        self._chunks: Chunks | None = None  # where it is in chunks, and where they begin is known
        self._before = b""  # what came until then
        self._has_more = False  # there is something behind its end
        self.is_exact = False  # it is whole, and every byte that came is accounted for: nothing is behind it
        self.exact_body: bytes | None = None  # its body then, until somebody takes it
        self.is_last = False  # the server closes the connection after it

    def __getattr__(self, name: str) -> Any:  # what else aiohttp does with a parser: feed_eof, pause_reading
        return getattr(self._parser, name)

    @property
    def is_whole(self) -> bool:
        return self._body is not None and bool(self._body.is_eof())

    def is_followed(self) -> bool:
        """Whether anything follows the end of the answer, even a single byte."""
        # aiohttp's parser does not say how many bytes it has used. So it is given another answer: if that does not come
        # out as it went in, there was something before it. Nearly always every byte can be counted (`is_exact`: a
        # Content-Length, all in one segment); then nobody asks.
        if self._has_more:
            return True
        try:
            messages, _, _ = self._parser.feed_data(_PROBE)
            return [message.reason for message, _ in messages] != [_PROBE_REASON]
        except Exception:
            return True

    def feed_data(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        """The answer's head, once; its body goes where aiohttp reads it. What follows is left out."""
        if self._chunks is not None:
            data = self._chunks.joined(data)
        elif self._body is None and not self._before and 0 < (end := _before_chunks(data)) < len(data):
            messages, _, _ = self.feed_data(data[:end])
            more, is_upgraded, tail = self.feed_data(data[end:])
            return (*messages, *more), is_upgraded, tail
        # What cannot be parsed may be a whole answer with rubbish behind it in the same segment. The answer is good,
        # and perhaps paid; so it is looked for byte by byte before the exchange counts as failed.
        try:
            messages, is_upgraded, tail = self._parser.feed_data(data)
        except Exception:
            messages, is_upgraded, tail = self._whole_at_start(self._before + data), False, b""
            if not messages and not self.is_whole:
                raise
            self._has_more = True
        if self._body is not None:
            self._has_more = self._has_more or bool(messages)
            return (), is_upgraded, tail
        self._before = self._before + data if self._before else data
        if len(self._before) > _LONGEST_HEAD:
            raise BadHttpMessage("its head has no end")
        return self._first(messages), is_upgraded, tail

    def _first(self, messages: Sequence[Any]) -> Sequence[Any]:
        for at, (message, body) in enumerate(messages):
            if message.code >= 200 or message.code == _SWITCHING:
                # A refusal may come early: a server need not read a body that it will not accept.
                if message.code < 400 and self._has_unsent():
                    raise BadHttpMessage("it came before the whole request was sent, so it answers another one")
                self._has_more = self._has_more or at + 1 < len(messages)
                end = _end_of_head(self._before)
                is_counted = end > 0 and len(self._before) == end + body.total_bytes
                self.is_exact = is_counted and body.is_eof() and not self._has_more
                self.exact_body = self._before[end:] if self.is_exact else None
                self._chunks = Chunks() if message.chunked and end == len(self._before) else None
                self._body, self._before, self.is_last = body, b"", message.should_close
                return messages[: at + 1]
        return messages

    def _whole_at_start(self, data: bytes) -> Sequence[Any]:
        """A whole answer at the start of what cannot be read as a whole; nothing where there is none."""
        if self._body is not None:
            return ()
        self._parser = self._new_parser()
        messages: list[Any] = []
        for at in range(len(data)):
            try:
                found, _, _ = self._parser.feed_data(data[at : at + 1])
            except Exception:
                return ()
            messages += found
            if messages and messages[-1][0].code >= 200 and messages[-1][1].is_eof():
                return messages
        return ()


def _before_chunks(data: bytes) -> int:
    """Where the body of an answer begins whose head names chunks; 0 where it is not known, or does not."""
    named = data.find(b"hunked")
    return end if named >= 0 and named < (end := _end_of_head(data)) else 0


def _end_of_head(data: bytes) -> int:
    """Where the body of an answer begins; 0 where it is not known."""
    # The parser also takes a head whose lines end without a return. Its end is not looked for: what looks like one may
    # stand in the body.
    end = data.find(b"\r\n\r\n") + 4
    is_usual = 3 < end == data.find(b"\n\r\n") + 3 and data.find(b"\n\n", 0, end) < 0
    return end if is_usual else 0


def is_lack_of_descriptors(error: BaseException) -> bool:
    """Whether a connection failed because this process, or this machine, may open no more files."""
    # A resolver that cannot open its socket reports the name as unknown; so then it is tried whether a file opens.
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as lack:
            return lack.errno in _LACKS
        return False
    return getattr(error, "errno", None) in _LACKS


_LACKS = (errno.EMFILE, errno.ENFILE)


def _watch(taken: Any) -> Callable[[], object]:
    """What can be asked whether something has arrived on a socket that the event loop has not read yet, its end
    included."""
    if taken is None:
        return lambda: True
    if sys.platform == "win32":
        return lambda: select.select([taken.fileno()], [], [], 0)[0]
    waiting = select.poll()
    waiting.register(taken.fileno(), select.POLLIN)
    return lambda: waiting.poll(0)
