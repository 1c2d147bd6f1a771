"""The lean client and aiohttp's session: whatever a server sends, both make the same of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import os
import re
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from batchcall.base import Failure, FailureKind, HttpRequest, HttpResponse
from batchcall.http import connections, lean, open_transport, transport
from raw_server import KEY, REQUEST, answer_of, failure_of, raw_server, transport_to
from virtual_time import run_virtual

pytestmark = pytest.mark.sends_odd_bodies("a transport sends whatever it is given")

BODY = b'{"choices": [{"message": {"content": "hi"}}]}'


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode("latin-1")


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


SIZED = f"Content-Length: {len(BODY)}"
CHUNKED = "Transfer-Encoding: chunked"
WHOLE = head(SIZED) + BODY

# What a server sends after a request, in segments of its own; then it closes or resets the connection, holds it open
# or serves the next request.
ANSWERS: dict[str, tuple[list[bytes], str]] = {
    "whole": ([WHOLE], "serve"),
    "whole, then closed": ([WHOLE], "close"),
    "whole, then held": ([WHOLE], "hold"),
    "whole, closing by header": ([head(SIZED, "Connection: close") + BODY], "close"),
    "a letter at a time": ([bytes([byte]) for byte in WHOLE], "serve"),
    "head and body apart": ([head(SIZED), BODY], "serve"),
    "HTTP/1.0": ([WHOLE.replace(b"1.1", b"1.0", 1)], "close"),
    "HTTP/1.0 kept alive": ([head(SIZED, "Connection: keep-alive").replace(b"1.1", b"1.0", 1) + BODY], "serve"),
    "without a length": ([head() + BODY], "close"),
    "without a length, reset": ([head() + BODY], "reset"),
    "without a length, slowly": ([head(), BODY[:7], BODY[7:]], "close"),
    "an empty body": ([head("Content-Length: 0")], "serve"),
    "204": ([head(status="204 No Content")], "serve"),
    "304": ([head("ETag: x", status="304 Not Modified")], "serve"),
    "chunked": ([head(CHUNKED) + chunked(BODY)], "serve"),
    "chunked in pieces": ([head(CHUNKED), chunked(BODY[:5], end=b""), chunked(BODY[5:])], "serve"),
    "chunked with trailers": ([head(CHUNKED) + chunked(BODY, end=b"0\r\nX-Late: 1\r\n\r\n")], "serve"),
    "chunked with extensions": ([head(CHUNKED) + b"2;name=value\r\n{}\r\n0\r\n\r\n"], "serve"),
    "chunked and cut": ([head(CHUNKED) + chunked(BODY, end=b"")], "close"),
    "chunked and cut in a size": ([head(CHUNKED) + b"1"], "close"),
    "chunked by the letter": ([head(CHUNKED) + chunked(*(BODY[at : at + 1] for at in range(len(BODY))))], "serve"),
    "chunked by the letter, and cut": ([head(CHUNKED) + chunked(*(b"{" for _ in BODY), end=b"2\r\n}")], "close"),
    "chunked by the letter, then odd": ([head(CHUNKED) + chunked(*(b"{" for _ in BODY), end=b"-2\r\n}")], "close"),
    "chunked, its size no number": ([head(CHUNKED) + b"zz\r\n{}\r\n0\r\n\r\n"], "close"),
    "chunked and with a length": ([head(CHUNKED, SIZED) + chunked(BODY)], "close"),
    "gzip": ([head("Content-Encoding: gzip", CHUNKED) + chunked(gzip.compress(BODY, mtime=0))], "serve"),
    "gzip, cut": ([head("Content-Encoding: gzip") + gzip.compress(BODY, mtime=0)[:-9]], "close"),
    "shorter than it says": ([head("Content-Length: 90") + BODY], "close"),
    "shorter than it says, reset": ([head("Content-Length: 90") + BODY], "reset"),
    "longer than it says": ([WHOLE + b" and more"], "close"),
    "two answers at once": ([WHOLE + WHOLE], "serve"),
    "a length that is no number": ([head("Content-Length: many") + BODY], "close"),
    "a negative length": ([head("Content-Length: -1") + BODY], "close"),
    "two lengths": ([head(SIZED, "Content-Length: 3") + BODY], "close"),
    "100 before it": ([head(status="100 Continue") + WHOLE], "serve"),
    "102 and 103 before it": (
        [head(status="102 Processing"), head("Link: </a>", status="103 Early Hints"), WHOLE],
        "serve",
    ),
    "101": ([head("Upgrade: h2c", "Connection: upgrade", status="101 Switching Protocols")], "close"),
    "a redirect": (
        [head("Location: http://127.0.0.1:9/", "Content-Length: 0", status="307 Temporary Redirect")],
        "serve",
    ),
    "400": ([head(SIZED, status="400 Bad Request") + BODY], "serve"),
    "401 with a key": ([head("WWW-Authenticate: Bearer", SIZED, status="401 Unauthorized") + BODY], "serve"),
    "429": (
        [head("Retry-After: 7", "X-RateLimit-Remaining-Requests: 0", SIZED, status="429 Too Many") + BODY],
        "serve",
    ),
    "503 without a length": ([head(status="503 Service Unavailable") + b"busy"], "close"),
    "999": ([head(SIZED, status="999 Odd") + BODY], "serve"),
    "a status without words": ([WHOLE.replace(b"200 OK", b"200", 1)], "serve"),
    "a status of two digits": ([WHOLE.replace(b"200 OK", b"20 OK", 1)], "close"),
    "headers of one name": ([head("X-Request-Id: a", "X-Request-Id: b", SIZED) + BODY], "serve"),
    "a header of letters beyond ASCII": ([head("X-Request-Id: \xe9\xff", SIZED) + BODY], "serve"),
    "a header without a value": ([head("X-Request-Id:", SIZED) + BODY], "serve"),
    "a header without a colon": ([head("nonsense", SIZED) + BODY], "close"),
    "a header with a space in its name": ([head("X Request: 1", SIZED) + BODY], "close"),
    "a folded header": ([head("X-Request-Id: a\r\n b", SIZED) + BODY], "close"),
    "a header of 30,000 letters": ([head(f"X-Request-Id: {'p' * 30_000}", SIZED) + BODY], "serve"),
    "a header of 70,000 letters": ([head(f"X-Request-Id: {'p' * 70_000}", SIZED) + BODY], "close"),
    "200 headers": ([head(*(f"X-{number}: 1" for number in range(200)), SIZED) + BODY], "close"),
    "lines that end in LF alone": ([WHOLE.replace(b"\r\n", b"\n")], "close"),
    "cookies": ([head("Set-Cookie: a=b", SIZED) + BODY], "serve"),
    "nothing": ([b""], "close"),
    "nothing, reset": ([b""], "reset"),
    "half a head": ([b"HTTP/1.1 200 OK\r\nContent-"], "close"),
    "half a head, held": ([b"HTTP/1.1 200 OK\r\nContent-"], "hold"),
    "half a body, held": ([head("Content-Length: 90"), BODY], "hold"),
    "no HTTP": ([b"220 mail.example ESMTP\r\n"], "close"),
    "TLS": ([b"\x15\x03\x01\x00\x02\x02\x46"], "close"),
    "HTTP/2": ([b"\0\0\x12\4\0\0\0\0\0"], "close"),
    "another protocol's name": ([b"ICY 200 OK\r\n\r\n"], "close"),
    "a long body": ([head("Content-Length: 900000"), b"x" * 900_000], "serve"),
    "an error's long body": ([head("Content-Length: 900000", status="500 Oh"), b"x" * 900_000], "serve"),
}


async def both(url: str, monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """What the lean client makes of two requests in turn, and what the session does."""
    of_both = []
    for works in (True, False):

        async def says(_: object, works: bool = works) -> bool:
            return works

        monkeypatch.setattr(transport, "lean_works", says)
        async with open_transport(url, headers={"X-Own": "ü"}, timeout_s=60.0, concurrency=1) as client:
            assert isinstance(client._client, lean.LeanClient) is works
            of_both.append([told(await client.post(REQUEST)) for _ in range(2)])
    return of_both


def told(answer: HttpResponse | Failure) -> Any:
    """The port differs from server to server, and so does what the system says of a lost connection."""
    if isinstance(answer, Failure):
        return answer.kind, answer.http_status, re.sub(r":\d+", "", answer.message)
    return answer


@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_a_server_sends_both_clients_make_the_same_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[list[Any]]:
        segments, then = ANSWERS[name]
        async with raw_server(*segments, then=then) as server:
            return await both(server.url, monkeypatch)

    by_lean, by_session = run_virtual(main())

    assert by_lean == by_session


def without(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.delattr(ResponseHandler, name)


OTHER_AIOHTTPS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no set_response_params": without("set_response_params"),
    "no _payload": lambda patch: patch.setattr(ResponseHandler, "_payload", property(), raising=False),
    "another connect": lambda patch: patch.setattr(aiohttp.BaseConnector, "connect", lambda self, request: None),
    "no way to end a wait": lambda patch: patch.setattr(ResponseHandler, "set_exception", lambda *_: None),
    "no protocol": lambda patch: patch.delattr(Connection, "protocol"),
    "another request": lambda patch: patch.setattr(aiohttp, "ClientRequest", lambda url: None),
    "a head that is read by somebody else": lambda patch: patch.setattr(
        ResponseHandler, "read", lambda self: asyncio.sleep(0, (None, None))
    ),
}


async def test_the_lean_client_works_with_this_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(lean, "_works", [])

    assert await lean.lean_works(said.append)

    assert said == []


@pytest.mark.parametrize("name", OTHER_AIOHTTPS)
def test_with_an_aiohttp_that_lacks_what_it_uses_the_session_posts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(lean, "_works", [])

    async def main() -> HttpResponse | Failure:
        with monkeypatch.context() as patch:
            OTHER_AIOHTTPS[name](patch)
            assert not await lean.lean_works(said.append)
        async with raw_server(WHOLE, then="serve") as server, transport_to(server.url) as client:
            return await client.post(REQUEST)

    answer = run_virtual(main())

    assert isinstance(answer, HttpResponse)
    assert answer.body == BODY
    assert ["its session" in note for note in said] == [True]


async def test_without_a_descriptor_to_try_it_with_nothing_is_said_of_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    said: list[str] = []
    monkeypatch.setattr(lean, "_works", [])
    monkeypatch.setattr(lean.socket, "socketpair", none_left)

    assert await lean.lean_works(said.append)
    assert (said, lean._works) == ([], [])


@pytest.mark.parametrize("url", ["http://a\\b/v1", f"http://{'ä' * 70}.example/v1", "http://\u00ad/v1"])
async def test_a_host_that_cannot_be_is_a_failure_and_nothing_was_sent(url: str, client: str) -> None:
    answer = await failure_of(url)

    assert client == "session" or answer.kind is FailureKind.UNCONNECTED


@pytest.mark.usefixtures("client")
async def test_a_host_of_the_jobs_own_is_sent_once() -> None:
    async with raw_server() as server:
        await answer_of(server.url, headers={"host": "gateway.example"})

    lines = server.heads[0].lower().split("\r\n")
    assert [line for line in lines if line.startswith("host:")] == ["host: gateway.example"]
    assert sum(line.startswith("content-length:") for line in lines) == 1


async def test_behind_an_early_refusal_no_row_waits_for_the_rest_of_its_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server answers 413 without reading on. What is left of that request must not stand before the next one."""
    monkeypatch.setattr(connections, "_FIRST_REST_S", 0.0)
    served, is_over = 0, asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        number, served = served, served + 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if number == 0:
                writer.write(head(SIZED, status="413 Too Large") + BODY)
                await is_over.wait()
            writer.write(WHOLE)
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    large = HttpRequest("/elsewhere", b" " * (16 * 1024 * 1024))
    async with listening, transport_to(url, concurrency=1) as transport:
        first, second = await transport.post(large), await transport.post(REQUEST)
        is_over.set()

    assert isinstance(first, HttpResponse)
    assert isinstance(second, HttpResponse)
    assert (first.status, second.status) == (413, 200)


async def test_a_transport_shows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # with one, it keeps the headers itself

    async with transport_to("http://gateway.example/v1", headers={"x-api-key": KEY}, trust_env=True) as transport:
        assert KEY in str(transport._options)
        assert KEY not in repr(transport)
