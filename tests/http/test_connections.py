"""Each request gets the answer to itself, whatever else a server sends. A real server in a thread of its own."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from certificates import make_certificate

from batchcall.base.records import Failure, FailureKind, HttpRequest, HttpResponse
from batchcall.http import connections, transport
from batchcall.http.transport import Transport, open_transport

pytestmark = [pytest.mark.sends_odd_bodies("a transport sends whatever it is given"), pytest.mark.usefixtures("client")]

Behaviour = Callable[[socket.socket, int], None]  # answers the request of a row
ROWS = 12


def answer_to(row: int, *, head: str = "") -> bytes:
    body = b'{"row":%d}' % row
    return f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked_answer_to(row: int) -> bytes:
    body = b'{"row":%d}' % row
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


class Server:
    """`heads` counts requests by connection."""

    def __init__(self, port: int, scheme: str) -> None:
        self.url = f"{scheme}://127.0.0.1:{port}/v1"
        self.requests: list[int] = []  # of each connection


@contextlib.contextmanager
def serving(behave: Behaviour, *, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            at = len(server.requests)
            server.requests.append(0)
            with contextlib.suppress(OSError), self._secured() as taken:
                taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (row := read_row(taken)) is not None:
                    server.requests[at] += 1
                    behave(taken, row)

        def _secured(self) -> socket.socket:
            taken: socket.socket = self.request
            return taken if tls is None else tls.wrap_socket(taken, server_side=True)

    class Listening(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            pass

    with Listening(("127.0.0.1", 0), Handler) as listening:
        server = Server(listening.server_address[1], "http" if tls is None else "https")
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        listening.shutdown()


def read_row(taken: socket.socket) -> int | None:
    """The number in the next request's body; None at the end."""
    came = b""
    while b"\r\n\r\n" not in came:
        if not (piece := taken.recv(65536)):
            return None
        came += piece
    head, _, body = came.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    while length is not None and len(body) < int(length[1]):
        body += taken.recv(65536)
    return int(body.split(b":")[1].rstrip(b"} "))


def request_of(row: int, *, more: int = 0) -> HttpRequest:
    return HttpRequest("/chat/completions", b'{"row":%d%s}' % (row, b" " * more))


def transport_to(server: Server, **settings: Any) -> contextlib.AbstractAsyncContextManager[Transport]:
    return open_transport(server.url, **{"headers": {}, "timeout_s": 10.0, "concurrency": 1, **settings})


async def rows_answered(server: Server, **settings: Any) -> list[Any]:
    """For each of a few rows, asked one after the other, the row that its answer is about; or how it failed."""
    rows: list[Any] = []
    async with transport_to(server, **settings) as to:
        for row in range(ROWS):
            answer = await to.post(request_of(row))
            if isinstance(answer, HttpResponse) and answer.status == 200:
                rows.append(int(re.findall(rb"\d+", answer.body)[0]))
            else:
                rows.append(answer)
    return rows


def followed_by(
    extra: Callable[[int], bytes], *, after_s: float = 0.0, of: Callable[[int], bytes] = answer_to
) -> Behaviour:
    """Every answer with something behind it: in the same segment, or so much later."""

    def behave(taken: socket.socket, row: int) -> None:
        if not after_s:
            taken.sendall(of(row) + extra(row))
            return
        time.sleep(0.003)  # so that what comes late comes while the run goes on
        taken.sendall(of(row))
        time.sleep(after_s)
        taken.sendall(extra(row))

    return behave


def in_two(first: Callable[[int], bytes], *, split: int) -> Behaviour:
    """An answer in two segments, and in the second one the beginning of something else."""

    def behave(taken: socket.socket, row: int) -> None:
        taken.sendall(first(row)[:split])
        time.sleep(0.005)
        taken.sendall(first(row)[split:])

    return behave


HALF_AN_ANSWER = answer_to(7)[:-4]
HALF_A_HEAD = b"HTTP/1.1 200 OK\r\nContent-Len"


def headed_by_bare_newlines(row: int) -> bytes:
    """What ends a head stands in its body only, and just as much follows as that is too far."""
    body = b'{"row":%d}\r\n\r\n' % row
    return b"HTTP/1.1 200 OK\nContent-Length: %d\n\n%b%b" % (len(body), body, HALF_A_HEAD[: len(body)])


SURPLUS = {
    "a second answer 20 ms later": followed_by(answer_to, after_s=0.02),
    "a second answer 3 ms later": followed_by(answer_to, after_s=0.003),
    "a second answer in the same segment": followed_by(answer_to),
    "two more in the same segment": followed_by(lambda row: 2 * answer_to(row)),
    "a second answer behind a chunked one": followed_by(chunked_answer_to, of=chunked_answer_to),
    "a second answer in the last segment of several": in_two(lambda row: 2 * answer_to(row), split=44),
    "half an answer": followed_by(lambda row: HALF_AN_ANSWER),
    "half an answer later": followed_by(lambda row: HALF_AN_ANSWER, after_s=0.01),
    "half a head": followed_by(lambda row: HALF_A_HEAD),
    "half a head behind a chunked answer": followed_by(lambda row: HALF_A_HEAD, of=chunked_answer_to),
    "a letter": followed_by(lambda row: b"H"),
    "a letter in the last segment of several": in_two(lambda row: answer_to(row) + b"H", split=44),
    "garbage": followed_by(lambda row: b"}]}\r\nwhat is this?"),
    "garbage later": followed_by(lambda row: bytes(range(256)), after_s=0.01),
    "garbage in the last segment of several": in_two(lambda row: answer_to(row) + b"}]}", split=44),
    "garbage behind a chunked answer": followed_by(lambda row: b"}]}", of=chunked_answer_to),
    "half a head behind one of bare newlines": followed_by(lambda row: b"", of=headed_by_bare_newlines),
    "news of something to come": followed_by(lambda row: b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n"),
}


@pytest.mark.parametrize("surplus", SURPLUS)
async def test_whatever_follows_an_answer_each_row_has_its_own(surplus: str) -> None:
    said: list[str] = []
    with serving(SURPLUS[surplus]) as server:
        rows = await rows_answered(server, say=said.append)

        assert rows == list(range(ROWS))
        assert server.requests == [1] * ROWS
    assert len(said) == 1
    assert "connection of its own" in said[0]


@pytest.mark.parametrize("surplus", ["a second answer 20 ms later", "a second answer in the last segment of several"])
async def test_control_with_aiohttps_own_connections_rows_are_shifted(
    surplus: str, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "Connector", AiohttpsOwn)
    with serving(SURPLUS[surplus]) as server:
        rows = await rows_answered(server)

    shifted = [row for at, row in enumerate(rows) if isinstance(row, int) and row != at]
    if client == "session" or "later" in surplus:  # the lean client gives a connection back later, and closes this one
        assert shifted, rows


class AiohttpsOwn(aiohttp.TCPConnector):
    def __init__(self, *, on_stray: Any, most_resting: int, **settings: Any) -> None:
        super().__init__(**settings)

    def rested(self, key: Any, now_s: float) -> None:
        """Leaves it to aiohttp whether a connection is used again."""


async def test_whatever_follows_an_answer_over_tls_each_row_has_its_own(tmp_path: Any) -> None:
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    for surplus in ("a second answer 20 ms later", "half a head", "a second answer in the last segment of several"):
        with serving(SURPLUS[surplus], tls=certificate.context()) as server:
            assert await rows_answered(server, ca_file=str(certificate.file)) == list(range(ROWS))


async def test_an_answer_that_arrived_and_was_not_read_yet_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while this process is busy, and is there when the connection is taken."""
    rest(monkeypatch, 0.0)
    with serving(followed_by(answer_to, after_s=0.01)) as server:
        async with transport_to(server) as to:
            first = await to.post(request_of(0))
            time.sleep(0.03)  # the loop reads nothing meanwhile: that is the point
            second = await to.post(request_of(1))

    assert isinstance(first, HttpResponse)
    assert isinstance(second, HttpResponse)
    assert (first.body, second.body) == (b'{"row":0}', b'{"row":1}')
    assert server.requests == [1, 1]


async def test_a_connection_that_was_closed_meanwhile_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its request may be billed, and nobody can tell."""
    rest(monkeypatch, 0.0)

    def behave(taken: socket.socket, row: int) -> None:
        taken.sendall(answer_to(row))
        taken.shutdown(socket.SHUT_RDWR)

    with serving(behave) as server:
        async with transport_to(server) as to:
            await to.post(request_of(0))
            time.sleep(0.03)
            assert isinstance(await to.post(request_of(1)), HttpResponse)


async def test_a_connection_reads_less_at_once_than_asyncio_asks_for(tmp_path: Any) -> None:
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    for tls in (None, certificate.context()):
        with serving(followed_by(lambda row: b""), tls=tls) as server:
            async with transport_to(server, ca_file=str(certificate.file)) as to:
                await to.post(request_of(0))
                assert to._session.connector is not None
                ((wire, _),) = next(iter(to._session.connector._conns.values()))
                reader: Any = getattr(wire.transport, "_ssl_protocol", wire.transport)

                assert reader.max_size < type(reader).max_size  # else asyncio calls it otherwise now


@pytest.mark.parametrize("more", [150_000, 900_000])
async def test_a_success_that_begins_before_the_request_is_there_answers_another(more: int) -> None:
    with impatient_server(answer_to(7)) as server:
        async with transport_to(server) as to:
            failure = await to.post(request_of(0, more=more))

    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.UNREADABLE  # sent in part: may be billed
    assert "before the whole request was sent" in failure.message


async def test_a_refusal_that_begins_before_the_request_is_there_is_its_own() -> None:
    too_large = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with impatient_server(too_large) as server:
        async with transport_to(server) as to:
            answer = await to.post(request_of(0, more=900_000))

    assert isinstance(answer, HttpResponse)
    assert answer.status == 413


@contextlib.contextmanager
def impatient_server(answer: bytes) -> Iterator[Server]:
    """Answers what it has not read, and can take little of."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        over = threading.Event()

        def talk() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.recv(100)
                taken.sendall(answer)
                over.wait(10)

        talking = threading.Thread(target=talk)
        talking.start()
        yield Server(listening.getsockname()[1], "http")
        over.set()
        talking.join()


PARTING_WORDS = {
    "408": b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "503": b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n",
    "400 of HTTP/1.0": b"HTTP/1.0 400 Bad request\r\n\r\n",
}


@pytest.mark.parametrize("word", PARTING_WORDS)
async def test_a_parting_word_is_not_a_rows_answer_and_not_worth_a_note(word: str) -> None:
    said: list[str] = []

    def behave(taken: socket.socket, row: int) -> None:
        taken.sendall(answer_to(row))
        if row == 0:
            time.sleep(0.05)  # a segment of its own, on a busy machine too
            taken.sendall(PARTING_WORDS[word])

    with serving(behave) as server:
        assert await rows_answered(server, say=said.append) == list(range(ROWS))
    assert said == []


SOUND = {
    "plain": followed_by(lambda row: b""),
    "chunked": followed_by(lambda row: b"", of=chunked_answer_to),
    "announced": followed_by(lambda row: b"", of=lambda row: b"HTTP/1.1 100 Continue\r\n\r\n" + answer_to(row)),
    "announced, in two": in_two(
        lambda row: b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" + answer_to(row), split=40
    ),
    "in two": in_two(answer_to, split=50),
    "a line's end behind it": followed_by(lambda row: b"\r\n"),
    "HTTP/1.0 that stays": followed_by(
        lambda row: b"", of=lambda row: answer_to(row, head="Connection: keep-alive\r\n").replace(b"/1.1", b"/1.0")
    ),
}


@pytest.mark.parametrize("sound", SOUND)
async def test_connections_of_a_sound_server_are_used_again(sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rest(monkeypatch, 0.0)
    said: list[str] = []
    with serving(SOUND[sound]) as server:
        assert await rows_answered(server, say=said.append) == list(range(ROWS))

        assert server.requests == [ROWS]
    assert said == []


@pytest.mark.parametrize(
    "answer",
    [
        lambda row: answer_to(row).replace(b"/1.1", b"/1.0"),
        lambda row: b'HTTP/1.0 200 OK\r\n\r\n{"row":%d}' % row,
        lambda row: answer_to(row, head="Connection: close\r\n"),
        lambda row: answer_to(row, head="Connection: close\r\n") + answer_to(row),
    ],
    ids=["HTTP/1.0", "until the end", "close", "close and one more"],
)
async def test_what_says_that_it_closes_is_read_and_closed(answer: Callable[[int], bytes]) -> None:
    def behave(taken: socket.socket, row: int) -> None:
        taken.sendall(answer(row))
        taken.shutdown(socket.SHUT_RDWR)

    with serving(behave) as server:
        assert await rows_answered(server) == list(range(ROWS))
        assert server.requests == [1] * ROWS


def rest(patch: pytest.MonkeyPatch, rest_s: float) -> None:
    patch.setattr(connections, "_REST_S", rest_s)
    patch.setattr(connections, "_FIRST_REST_S", rest_s)


async def test_connections_of_a_server_that_is_new_to_us_rest_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while the next request is out cannot be told from its answer, so nobody is asked so soon at first."""
    rest(monkeypatch, 0.0)
    for name, value in (("_FIRST_REST_S", 60.0), ("_FIRST_ANSWERS", 2), ("_FIRST_S", 0.0)):
        monkeypatch.setattr(connections, name, value)
    with serving(SOUND["plain"]) as server:
        async with transport_to(server) as to:
            await to.post(request_of(0))
            await to.post(request_of(1))
            assert server.requests == [1, 1]
            await to.post(request_of(2))

        assert len(server.requests) == 2


async def test_a_connection_rests_before_it_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(SOUND["plain"]) as server:
        async with transport_to(server) as to:
            await to.post(request_of(0))
            await to.post(request_of(1))
            assert server.requests == [1, 1]
            rest(monkeypatch, 0.0)  # time has passed
            await to.post(request_of(2))
            assert server.requests == [2, 1]


async def test_a_connection_that_has_not_rested_does_not_take_the_place_of_one_that_is_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rest(monkeypatch, 60.0)
    with serving(SOUND["plain"]) as server:
        async with transport_to(server) as to:
            await to.post(request_of(0))
            await to.post(request_of(1))
            assert to._session.connector is not None
            (idle,) = to._session.connector._conns.values()
            oldest, released_s = idle.popleft()
            oldest._silent_since_s -= 90.0  # type: ignore[attr-defined, operator]
            idle.appendleft((oldest, released_s - 90.0))
            await to.post(request_of(2))

            assert server.requests == [1, 1, 1]


async def test_no_more_rest_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    rest(monkeypatch, 60.0)
    with serving(SOUND["plain"]) as server:
        async with transport_to(server, most_resting=2) as to:
            for row in range(10):
                await to.post(request_of(row))

        assert len(server.requests) == 3


RENAMED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the factory": lambda patch: patch.setattr(
        aiohttp.TCPConnector, "_factory", property(lambda self: lambda: ResponseHandler(self._loop), lambda *_: None),
        raising=False,
    ),
    "data_received": lambda patch: patch.delattr(connections.Wire, "data_received"),
    "set_response_params": lambda patch: patch.delattr(connections.Wire, "set_response_params"),
}  # fmt: skip


@pytest.mark.parametrize("name", RENAMED)
async def test_where_aiohttp_calls_it_otherwise_no_connection_is_used_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest(monkeypatch, 0.0)
    RENAMED[name](monkeypatch)
    with serving(SOUND["plain"]) as server:
        assert await rows_answered(server) == list(range(ROWS))

        assert server.requests == [1] * ROWS
