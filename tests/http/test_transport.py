"""One POST and what comes of it, against real servers on loopback, well-behaved and broken ones."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import os
import resource
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import certificates
import pytest
from aiohttp import web
from certificates import Certificate

from batchcall.base.errors import JobError
from batchcall.base.records import Failure, FailureKind, HttpRequest, HttpResponse
from batchcall.base.version import VERSION
from batchcall.dialects.jsontext import unpack
from batchcall.http import connections
from batchcall.http.transport import (
    ALWAYS_EXPANDED,
    MAX_BODY,
    MAX_ERROR_BODY,
    MAX_EXPANSION,
    Transport,
    open_transport,
)
from virtual_time import run_virtual

pytestmark = [
    pytest.mark.sends_odd_bodies("a transport sends whatever it is given"),
    pytest.mark.usefixtures("client"),
]

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
    answer: bytes = OK, *, then: str = "close", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """`then`: what it does after its answer: "close", "reset", "hold" the connection, or "serve" the next request.
    "blurt" answers whatever it is sent.
    """
    server, end, talks = RawServer(), asyncio.Event(), set[asyncio.Task[None]]()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await (reader.read(10) if then == "blurt" else _read_request(reader, server)):
                writer.write(answer)
                await writer.drain()
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


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def web_server(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def answer_with(body: bytes, *, status: int = 200, **headers: str) -> bytes:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"Content-Length": str(len(body)), **names}.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + body


# What is sent


async def test_the_request_goes_to_the_endpoints_path_with_its_headers_and_body() -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.path_qs, dict(request.headers), await request.read()))
        return web.json_response({"ok": True})

    async with web_server(handler) as url:
        answer = await answer_of(url + "/", headers={"Authorization": f"Bearer {KEY}", "X-Team": "data"})

    assert (answer.status, answer.body, answer.is_cut) == (200, b'{"ok": true}', False)
    path, headers, body = seen[0]
    assert (path, body) == ("/v1/chat/completions", REQUEST.body)
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["X-Team"] == "data"
    assert headers["User-Agent"] == f"batchcall/{VERSION}"
    assert headers["Content-Type"] == "application/json"
    assert "Cookie" not in headers


async def test_a_query_in_the_endpoints_url_stays_behind_the_path() -> None:
    async with raw_server() as server:
        await answer_of(f"{server.url}/deployments/a%2Fb?api-version=2024-06-01")

    assert server.heads[0].startswith("POST /v1/deployments/a%2Fb/chat/completions?api-version=2024-06-01 HTTP/1.1")


async def test_the_jobs_own_headers_win_whatever_their_case() -> None:
    async with raw_server() as server:
        await answer_of(server.url, headers={"user-agent": "mine", "ACCEPT-ENCODING": "identity"})

    head = server.heads[0].lower()
    assert "user-agent: mine\r\n" in head
    assert "accept-encoding: identity\r\n" in head
    assert head.count("user-agent") == head.count("accept-encoding") == 1


async def test_connections_are_kept_and_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for rest in ("_REST_S", "_FIRST_REST_S"):
        monkeypatch.setattr(connections, rest, 0.0)
    async with raw_server(then="serve") as server, transport_to(server.url) as transport:
        for _ in range(5):
            assert isinstance(await transport.post(REQUEST), HttpResponse)

        assert (len(server.heads), server.connections) == (5, 1)


async def test_more_than_aiohttps_hundred_can_be_in_flight() -> None:
    all_here = asyncio.Barrier(120)

    async def handler(request: web.Request) -> web.Response:
        await all_here.wait()
        return web.Response()

    async with web_server(handler) as url, transport_to(url, concurrency=120) as transport:
        answers = await asyncio.gather(*(transport.post(REQUEST) for _ in range(120)))

    assert {answer.status for answer in answers if isinstance(answer, HttpResponse)} == {200}
    assert not [answer for answer in answers if isinstance(answer, Failure)]


async def test_cookies_are_not_kept() -> None:
    answer = answer_with(b"{}", Set_Cookie="session=1; Path=/")
    async with raw_server(answer, then="serve") as server, transport_to(server.url) as transport:
        await transport.post(REQUEST)
        await transport.post(REQUEST)

    assert "cookie" not in server.heads[1].lower()


async def test_a_cancelled_request_leaves_no_place_in_the_pool_taken() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"
    async with raw_server(half, then="hold") as silent, transport_to(silent.url, concurrency=1) as transport:
        for number in range(1, 4):
            posting = asyncio.create_task(transport.post(REQUEST))
            await asyncio.wait_for(silent.wait_for_requests(number), 10)
            posting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await posting

    assert silent.connections == 3


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed_and_the_key_is_not_sent_on(status: int) -> None:
    keys = {"Authorization": f"Bearer {KEY}", "x-api-key": KEY, "api-key": KEY, "x-goog-api-key": KEY}

    async with raw_server() as other:
        redirect = answer_with(b"moved", status=status, Location=other.url)
        async with raw_server(redirect) as server:
            answer = await answer_of(server.url, headers=keys, secrets=(KEY,))

    assert answer.status == status
    assert other.connections == 0
    assert len(server.heads) == 1


# What comes back


async def test_only_the_headers_that_say_something_are_kept_in_lower_case_and_cut() -> None:
    answer = answer_with(
        b"{}",
        Content_Type="application/json",
        Retry_After="7",
        X_Request_Id="req_1",
        X_RateLimit_Reset_Tokens="1m26.4s",
        Anthropic_RateLimit_Requests_Reset="2026-01-01T00:00:00Z",
        X_RateLimit_Odd="y" * 5_000,
        Set_Cookie="a=b",
        X_Secret_Thing="z",
    )
    async with raw_server(answer) as server:
        kept = (await answer_of(server.url)).headers

    assert kept == {
        "content-type": "application/json",
        "retry-after": "7",
        "x-request-id": "req_1",
        "x-ratelimit-reset-tokens": "1m26.4s",
        "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:00Z",
        "x-ratelimit-odd": "y" * 300,
    }


async def test_a_header_that_is_no_text_does_not_hinder() -> None:
    answer = OK.replace(b"Content-Type: application/json", b"X-Request-Id: \xff\xfe")
    async with raw_server(answer) as server:
        kept = (await answer_of(server.url)).headers

    kept["x-request-id"].encode()  # could be written to a file


async def test_headers_beyond_aiohttps_own_limits_are_read() -> None:
    async with raw_server(answer_with(b"{}", X_Policy="p" * 30_000)) as server:
        assert (await answer_of(server.url)).status == 200


SMALL = b'{"choices": []}' * 40
GZIPPED = gzip.compress(SMALL)
RAW_DEFLATED = zlib.compress(SMALL)[2:-4]


@pytest.mark.parametrize(
    ("sent", "encoding", "body"),
    [
        (SMALL, None, SMALL),
        (SMALL, "identity", SMALL),
        (GZIPPED, "gzip", SMALL),
        (GZIPPED, "X-GZIP", SMALL),
        (GZIPPED, None, SMALL),  # mislabelled, both ways
        (SMALL, "gzip", SMALL),
        (GZIPPED[:-4], "gzip", SMALL),
        (gzip.compress(SMALL[:100]) + gzip.compress(SMALL[100:]), "gzip", SMALL),
        (GZIPPED + b"\0" * 512, "gzip", SMALL),
        (zlib.compress(SMALL), "deflate", SMALL),
        (RAW_DEFLATED, "deflate", SMALL),
        (SMALL, "deflate", SMALL),
        (SMALL, "br", SMALL),
        (b"", "gzip", b""),
        (GZIPPED[:2] + b"broken beyond repair", "gzip", GZIPPED[:2] + b"broken beyond repair"),
    ],
)
async def test_a_body_is_decoded_by_what_it_is_and_kept_where_it_cannot_be(
    sent: bytes, encoding: str | None, body: bytes
) -> None:
    answer = answer_with(sent, Content_Encoding=encoding) if encoding else answer_with(sent)
    async with raw_server(answer) as server:
        received = await answer_of(server.url)

    assert (received.body, received.is_cut) == (body, False)


async def test_of_a_compressed_body_that_stops_short_what_there_is_is_kept() -> None:
    text = " ".join(str(number * 7919) for number in range(4_000)).encode()
    half = gzip.compress(text)[:8_000]
    async with raw_server(answer_with(half, Content_Encoding="gzip")) as server:
        answer = await answer_of(server.url)

    assert 0 < len(answer.body) < len(text)
    assert text.startswith(answer.body)


async def test_a_gzip_bomb_is_cut_at_its_expansion_ratio() -> None:
    bomb = gzip.compress(b"\0" * (64 * 1024 * 1024))
    async with raw_server(answer_with(bomb, Content_Encoding="gzip")) as server:
        answer = await answer_of(server.url)

    assert answer.is_cut
    assert len(answer.body) == MAX_EXPANSION * len(bomb) < MAX_BODY


async def test_a_long_wait_filled_with_spaces_is_no_bomb() -> None:
    body = b" " * (ALWAYS_EXPANDED - 2) + b"{}"
    async with raw_server(answer_with(gzip.compress(body), Content_Encoding="gzip")) as server:
        answer = await answer_of(server.url)

    assert (answer.body, answer.is_cut) == (body, False)


@pytest.mark.parametrize(("status", "most"), [(200, MAX_BODY), (500, MAX_ERROR_BODY)])
async def test_of_a_body_beyond_the_cap_the_start_is_kept(status: int, most: int) -> None:
    async with raw_server(answer_with(b"x" * (most + 70_000), status=status)) as server:
        answer = await answer_of(server.url)

    assert (answer.status, len(answer.body), answer.is_cut) == (status, most, True)


async def test_a_body_without_end_is_cut_and_its_connection_closed() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * 1024 * 1024)
        return response

    async with web_server(handler) as url:
        answer = await answer_of(url)

    assert (len(answer.body), answer.is_cut) == (MAX_BODY, True)


# Keys

ECHOES = [
    KEY,
    base64.b64encode(KEY.encode()).decode(),
    base64.b64encode(f"Bearer {KEY}".encode()).decode(),
]


@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("is_compressed", [False, True])
async def test_a_key_that_is_echoed_is_hidden_in_body_and_headers(status: int, echo: str, is_compressed: bool) -> None:
    body = f'{{"error": {{"message": "Incorrect API key {echo}."}}}}'.encode()
    sent = gzip.compress(body) if is_compressed else body
    encoding = "gzip" if is_compressed else "identity"
    answer_bytes = answer_with(sent, status=status, X_Request_Id=f"for {echo}", Content_Encoding=encoding)
    async with raw_server(answer_bytes) as server:
        answer = await answer_of(server.url, headers={"x-api-key": KEY}, secrets=(KEY,))

    assert KEY[3:-3].encode() not in answer.body
    assert echo[4:-4].encode() not in answer.body
    assert b'{"error": {"message": "Incorrect API key ' in answer.body
    assert echo[4:-4] not in answer.headers["x-request-id"]


_SAID = f'{{"error": {{"message": "Incorrect API key {KEY}."}}}}'
PACKED = {
    "zlib": zlib.compress(_SAID.encode()),
    "gzip in gzip": gzip.compress(gzip.compress(_SAID.encode())),
    "zlib in gzip": gzip.compress(zlib.compress(_SAID.encode())),
    "gzip, four times": gzip.compress(gzip.compress(gzip.compress(gzip.compress(_SAID.encode())))),
    "utf-16": _SAID.encode("utf-16"),
    "utf-16, the other way": b" \xfe\xff" + _SAID.encode("utf-16-be"),
    "utf-16 without a mark": _SAID.encode("utf-16-le"),
    "utf-16 without a mark, the other way": _SAID.encode("utf-16-be"),
    "utf-32": _SAID.encode("utf-32"),
    "utf-32 without a mark": _SAID.encode("utf-32-be"),
    "utf-16 in gzip": gzip.compress(_SAID.encode("utf-16")),
}


@pytest.mark.parametrize("status", [200, 401])
@pytest.mark.parametrize("encoding", ["", "gzip, gzip", "br"])
@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED.keys())
async def test_a_key_is_hidden_in_whatever_a_reader_would_unpack(packed: bytes, encoding: str, status: int) -> None:
    headers = {"Content_Encoding": encoding} if encoding else {}
    async with raw_server(answer_with(packed, status=status, **headers)) as server:
        answer = await answer_of(server.url, secrets=(KEY,))

    assert unpack(answer.body)[0] == _SAID.replace(KEY, "***")


async def test_what_is_packed_without_end_is_given_up() -> None:
    packed = _SAID.encode()
    for _ in range(6):
        packed = gzip.compress(packed)
    async with raw_server(answer_with(packed)) as server:
        answer = await answer_of(server.url, secrets=(KEY,))

    assert (answer.body, answer.is_cut) == (b"", True)


async def test_a_key_is_hidden_in_the_name_of_a_header() -> None:
    async with raw_server(answer_with(b"{}", **{f"X-RateLimit-{KEY.upper()}": "1"})) as server:
        answer = await answer_of(server.url, secrets=(KEY.upper(),))

    assert answer.headers == {"x-ratelimit-***": "1"}


async def test_another_channels_key_is_hidden_in_an_error_and_an_answer_is_left_as_it_is() -> None:
    body = b'{"found": "sk-others0123456789abcdef"}'
    async with raw_server(answer_with(body, status=401)) as refusing, raw_server(answer_with(body)) as answering:
        refused, answered = await answer_of(refusing.url), await answer_of(answering.url)

    assert refused.body == b'{"found": "***"}'
    assert answered.body == body


# Failures, by how far the request got


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def test_a_refused_connection_is_unsent(closed_port: int) -> None:
    failure = await failure_of(f"http://127.0.0.1:{closed_port}/v1")

    assert failure.kind is FailureKind.UNCONNECTED
    assert f"127.0.0.1:{closed_port}" in failure.message


async def test_an_unknown_name_is_unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)

    failure = await failure_of("https://api.example.invalid/v1")

    assert failure.kind is FailureKind.UNCONNECTED
    assert "api.example.invalid" in failure.message
    assert "not known" in failure.message


async def test_a_name_that_no_host_can_have_is_unsent() -> None:
    failure = await failure_of(f"https://{'a' * 70}.invalid/v1")

    assert failure.kind is FailureKind.UNCONNECTED


async def test_https_to_a_server_that_speaks_plain_http_is_a_wrong_scheme() -> None:
    async with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n", then="blurt") as server:
        failure = await failure_of(f"https://127.0.0.1:{server.port}/v1")

    assert failure.kind is FailureKind.WRONG_SCHEME
    assert "https" in failure.message


@pytest.mark.parametrize(
    "words",
    [
        b"<h1>400 Bad Request</h1><center>The plain HTTP request was sent to HTTPS port</center>",
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
        b"Bad Request\r\nThis combination of host and port requires TLS.\r\n",
    ],
    ids=["nginx", "go", "apache", "tomcat"],
)
async def test_http_to_a_server_that_wants_https_is_a_wrong_scheme(words: bytes) -> None:
    head = b"HTTP/1.0 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(words)
    async with raw_server(head + words) as server:
        failure = await failure_of(server.url)

    assert failure.kind is FailureKind.WRONG_SCHEME
    assert "wants https" in failure.message


async def test_http_to_a_server_that_speaks_only_tls_is_a_wrong_scheme() -> None:
    async with raw_server(b"\x15\x03\x03\x00\x02\x02\x46", then="blurt") as server:
        failure = await failure_of(server.url)

    assert failure.kind is FailureKind.WRONG_SCHEME


async def test_a_server_that_hangs_up_on_plain_http_may_want_https() -> None:
    async with raw_server(b"") as server:
        failure = await failure_of(server.url)

    assert failure.kind is FailureKind.DISCONNECTED
    assert failure.message.endswith("does it want https?")


@pytest.mark.parametrize(
    ("variable", "scheme", "no_proxy", "is_named"),
    [
        ("HTTPS_PROXY", "https", "", True),
        ("https_proxy", "https", "", True),
        ("ALL_PROXY", "https", "", True),
        ("http_proxy", "http", "other.example", True),
        ("http_proxy", "https", "", False),
        ("HTTPS_PROXY", "https", "example.invalid", False),
        ("HTTPS_PROXY", "https", "*", False),
    ],
)
async def test_a_proxy_that_is_set_and_not_used_is_named(
    variable: str, scheme: str, no_proxy: str, is_named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(variable, "http://user:hunter2@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", no_proxy)
    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)

    failure = await failure_of(f"{scheme}://api.example.invalid/v1")

    assert (f"{variable} is set and not used" in failure.message) is is_named
    assert ("endpoint.trust_env" in failure.message) is is_named
    assert "hunter2" not in failure.message


def no_such_name(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def test_a_lack_of_descriptors_is_no_fault_of_the_endpoint() -> None:
    said: list[str] = []
    async with raw_server(then="serve") as server, transport_to(server.url, say=said.append) as transport:
        first = await transport.post(REQUEST)
        with no_descriptors():
            lacking = await transport.post(REQUEST)
        last = await transport.post(REQUEST)

    assert isinstance(first, HttpResponse)
    assert isinstance(lacking, HttpResponse) or lacking.kind is FailureKind.NO_DESCRIPTORS
    assert isinstance(last, HttpResponse)
    assert len(said) == isinstance(lacking, Failure)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_without_a_descriptor_nothing_is_connected(host: str) -> None:
    said: list[str] = []
    async with raw_server() as server, transport_to(f"http://{host}:{server.port}/v1", say=said.append) as transport:
        with no_descriptors():
            failure = await transport.post(REQUEST)

    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.NO_DESCRIPTORS
    assert "ulimit -n" in said[0]


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """This process has as many files open as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(lowest)


def test_a_connection_that_does_not_come_about_in_time_is_unsent() -> None:
    async def main() -> Failure:
        async with raw_server(then="hold") as server:  # says nothing to a TLS greeting
            return await failure_of(f"https://127.0.0.1:{server.port}/v1", timeout_s=60.0)

    assert run_virtual(main()).kind is FailureKind.UNCONNECTED


def test_waiting_for_a_place_in_the_pool_is_unsent() -> None:
    async def main() -> list[HttpResponse | Failure]:
        settings = {"concurrency": 1, "timeout_s": 60.0}
        async with raw_server(b"", then="hold") as server, transport_to(server.url, **settings) as transport:
            return list(await asyncio.gather(transport.post(REQUEST), transport.post(REQUEST)))

    first, second = run_virtual(main())

    assert isinstance(first, Failure)
    assert first.kind is FailureKind.TIMED_OUT
    assert isinstance(second, Failure)
    assert second.kind is FailureKind.UNCONNECTED


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"],
    ids=["nothing", "half a head", "half a body"],
)
def test_an_answer_that_is_not_whole_in_time_may_be_billed(answer: bytes) -> None:
    async def main() -> Failure:
        async with raw_server(answer, then="hold") as server:
            return await failure_of(server.url, timeout_s=60.0)

    failure = run_virtual(main())

    assert failure.kind is FailureKind.TIMED_OUT
    assert "60 s" in failure.message


def test_an_attempts_time_ends_even_while_spaces_keep_coming() -> None:
    async def main() -> Failure:
        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await response.write(b" ")
                    await asyncio.sleep(1)
            return response

        async with web_server(handler) as url:
            return await failure_of(url, timeout_s=30.0)

    assert run_virtual(main()).kind is FailureKind.TIMED_OUT


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        (b"", "close"),
        (b"", "reset"),
        (b"HTTP/1.1 200 OK\r\nContent-", "close"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "close"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "reset"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", "close"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "close"),
    ],
    ids=[
        "nothing",
        "reset",
        "half a head",
        "half a body",
        "half a body, reset",
        "half a chunk",
        "no last chunk",
    ],
)
async def test_an_answer_that_breaks_off_may_be_billed(answer: bytes, then: str) -> None:
    async with raw_server(answer, then=then) as server:
        failure = await failure_of(server.url)

    assert failure.kind is FailureKind.DISCONNECTED
    assert len(server.heads) == 1  # a POST is sent once


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nX-Policy: " + b"p" * 100_000 + b"\r\n\r\n",
    ],
    ids=["another protocol", "a status that is none", "chunks that are none", "a header beyond any limit"],
)
async def test_an_answer_that_is_not_http_is_unreadable_and_has_no_status(answer: bytes) -> None:
    async with raw_server(answer) as server:
        failure = await failure_of(server.url)

    assert failure.kind is FailureKind.UNREADABLE
    assert failure.http_status is None


async def test_a_message_is_one_short_line_without_the_key() -> None:
    async with raw_server(b"HTTP/1.1 " + KEY.encode() + b" " + b"x" * 2_000 + b"\r\n\r\n") as server:
        failure = await failure_of(server.url, headers={"x-api-key": KEY}, secrets=(KEY,))

    assert KEY[3:] not in failure.message
    assert "\n" not in failure.message
    assert len(failure.message) <= 300


# TLS


@pytest.fixture(scope="module")
def make_certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Certificate]:
    return lambda name: certificates.make_certificate(tmp_path_factory.mktemp("tls"), name)


@pytest.fixture(scope="module")
def certificate(make_certificate: Callable[[str], Certificate]) -> Certificate:
    return make_certificate("IP:127.0.0.1")


async def test_a_self_signed_certificate_is_refused_and_nothing_is_sent(certificate: Certificate) -> None:
    async with raw_server(tls=certificate.context()) as server:
        failure = await failure_of(f"https://127.0.0.1:{server.port}/v1", headers={"x-api-key": KEY}, secrets=(KEY,))

    assert failure.kind is FailureKind.UNTRUSTED
    assert "certificate" in failure.message
    assert "endpoint.ca_file" in failure.message
    assert server.heads == []


async def test_a_certificate_of_ones_own_authority_is_accepted(certificate: Certificate) -> None:
    async with raw_server(tls=certificate.context()) as server:
        answer = await answer_of(f"https://127.0.0.1:{server.port}/v1", ca_file=str(certificate.file))

    assert answer.body == b"{}"


async def test_a_certificate_for_another_name_is_refused(make_certificate: Callable[[str], Certificate]) -> None:
    other = make_certificate("DNS:other.example")
    async with raw_server(tls=other.context()) as server:
        failure = await failure_of(f"https://127.0.0.1:{server.port}/v1", ca_file=str(other.file))

    assert failure.kind is FailureKind.UNTRUSTED
    assert server.heads == []


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_cannot_be_used_is_a_fault_of_the_job(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)

    with pytest.raises(JobError, match=r"ca\.pem"):
        await post_to("https://127.0.0.1:1/v1", ca_file=str(file))


# What a job file may not say


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://api.example.com/v1", "unencrypted"),
        ("http://10.0.0.7:8000/v1", "unencrypted"),
        ("http://localhost.example.com/v1", "unencrypted"),
        ("https://me:hunter2@api.example.com/v1", "user or password"),
        ("ftp://api.example.com", "not an http or https"),
        ("api.example.com/v1", "not an http or https"),
        ("", "not an http or https"),
        ("https://[::1/v1", "not an http or https"),
        ("https://api.example.com:80x/v1", "not an http or https"),
    ],
)
async def test_an_endpoint_that_cannot_be_used_safely_is_a_fault_of_the_job(url: str, complaint: str) -> None:
    with pytest.raises(JobError, match=complaint) as raised:
        await post_to(url, secrets=(KEY,))

    assert "hunter2" not in str(raised.value) + raised.value.hint


async def test_plain_http_takes_a_key_to_another_host_where_the_job_allows_it() -> None:
    async with transport_to("http://gateway.example/v1", secrets=(KEY,), allow_http_key=True):
        pass


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "http://localhost:1/v1", "http://[::1]:1/v1"])
async def test_plain_http_takes_a_key_to_this_machine(url: str) -> None:
    assert (await failure_of(url, secrets=(KEY,))).kind is FailureKind.UNCONNECTED


@pytest.mark.parametrize("header", [{"X-Team": "a\r\nX-Evil: 1"}, {"X\n": "a"}, {"": "a"}, {"X-Team": "\0"}])
async def test_a_header_that_would_break_the_request_is_a_fault_of_the_job(header: dict[str, str]) -> None:
    with pytest.raises(JobError, match="header"):
        await post_to("https://127.0.0.1:1/v1", headers=header)


# Proxies and other things of the environment


@pytest.fixture
def names_lead_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name is one of this machine, as far as the resolver knows."""
    real = socket.getaddrinfo

    def here(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("names_lead_here")
async def test_a_proxy_is_taken_from_the_environment_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server() as server, raw_server() as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:hunter2-hunter2@127.0.0.1:{proxy.port}")
        url = f"http://api.example.invalid:{server.port}/v1"
        await answer_of(url)
        assert (len(server.heads), len(proxy.heads)) == (1, 0)

        await answer_of(url, trust_env=True)

    assert (len(server.heads), len(proxy.heads)) == (1, 1)
    assert proxy.heads[0].startswith(f"POST {url}/chat/completions HTTP/1.1")
    assert "Content-Type: application/json\r\n" in proxy.heads[0]
    assert f"Basic {base64.b64encode(b'me:hunter2-hunter2').decode()}" in proxy.heads[0]


async def test_no_proxy_stands_on_the_way_to_this_machine(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    async with raw_server() as server:
        assert (await answer_of(server.url, trust_env=True)).status == 200


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 407 bad me:hunter2-hunter2 bWU6aHVudGVyMi1odW50ZXIy\r\nContent-Length: 0\r\n\r\n", b""],
    ids=["refuses", "hangs up"],
)
async def test_a_proxy_that_does_not_connect_leaves_the_request_unsent_and_its_password_is_hidden(
    monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    async with raw_server(answer) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:hunter2-hunter2@127.0.0.1:{proxy.port}")
        failure = await failure_of("https://api.example.invalid/v1", trust_env=True)

    assert failure.kind is FailureKind.UNCONNECTED
    assert "hunter2" not in failure.message
    assert "bWU6aHVudGVyMi1" not in failure.message
    assert "proxy" in failure.message


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "api-key", "x-goog-api-key"])
async def test_a_proxy_is_not_told_the_key(monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    async with raw_server(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        await failure_of("https://api.example.invalid/v1", trust_env=True, headers={header: KEY}, secrets=(KEY,))

    assert proxy.heads[0].startswith("CONNECT api.example.invalid:443 ")
    assert KEY not in proxy.heads[0]


async def test_a_proxy_that_is_not_there_leaves_the_request_unsent(
    monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{closed_port}")

    failure = await failure_of("https://api.example.invalid/v1", trust_env=True)

    assert failure.kind is FailureKind.UNCONNECTED
    assert "proxy" in failure.message


async def test_a_proxy_of_another_kind_is_a_fault_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://me:hunter2@127.0.0.1:1080")

    with pytest.raises(JobError, match="neither http nor https") as raised:
        await post_to("https://api.example.invalid/v1", trust_env=True)

    assert "hunter2" not in str(raised.value) + raised.value.hint


async def test_a_netrc_does_not_clash_with_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    async with raw_server() as server:
        await answer_of(server.url, trust_env=True, headers={"Authorization": f"Bearer {KEY}"})

    assert f"Authorization: Bearer {KEY}\r\n" in server.heads[0]
    assert "Basic" not in server.heads[0]
