"""How far a request got that brought no answer: that decides whether it may be billed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest
from aiohttp import web

from answering import serving
from batchcall.base.records import Failure, FailureKind, HttpResponse
from raw_server import KEY, REQUEST, failure_of, raw_server, transport_to
from virtual_time import run_virtual

pytestmark = [
    pytest.mark.sends_odd_bodies("a transport sends whatever it is given"),
    pytest.mark.usefixtures("client"),
]


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
    assert "expects https" in failure.message


async def test_http_to_a_server_that_speaks_only_tls_is_a_wrong_scheme() -> None:
    async with raw_server(b"\x15\x03\x03\x00\x02\x02\x46", then="blurt") as server:
        failure = await failure_of(server.url)

    assert failure.kind is FailureKind.WRONG_SCHEME


async def test_a_server_that_hangs_up_on_plain_http_may_want_https() -> None:
    async with raw_server(b"") as server:
        failure = await failure_of(server.url)

    assert failure.kind is FailureKind.DISCONNECTED
    assert failure.message.endswith("does it expect https?")


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
    monkeypatch.setenv(variable, "http://user:hunter2@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", no_proxy)
    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)

    failure = await failure_of(f"{scheme}://api.example.invalid/v1")

    assert (f"{variable} is set but not used" in failure.message) is is_named
    assert ("endpoint.trust_env" in failure.message) is is_named
    assert "hunter2" not in failure.message


def no_such_name(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def test_a_lack_of_descriptors_is_not_a_fault_of_the_endpoint() -> None:
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
        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await response.write(b" ")
                    await asyncio.sleep(1)
            return response

        async with serving(handler) as url:
            return await failure_of(f"{url}/v1", timeout_s=30.0)

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
