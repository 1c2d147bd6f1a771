"""One POST and what comes of it, against real servers on loopback, well-behaved and broken ones."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import zlib

import pytest
from aiohttp import web

from answering import serving
from batchcall.base.records import Failure, HttpResponse
from batchcall.base.version import VERSION
from batchcall.http import connections
from batchcall.http.transport import ALWAYS_EXPANDED, MAX_BODY, MAX_ERROR_BODY, MAX_EXPANSION
from raw_server import KEY, OK, REQUEST, answer_of, answer_with, raw_server, transport_to

pytestmark = [
    pytest.mark.sends_odd_bodies("a transport sends whatever it is given"),
    pytest.mark.usefixtures("client"),
]


async def test_the_request_goes_to_the_endpoints_path_with_its_headers_and_body() -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        seen.append((request.path_qs, dict(request.headers), await request.read()))
        return web.json_response({"ok": True})

    async with serving(handler) as url:
        answer = await answer_of(f"{url}/v1/", headers={"Authorization": f"Bearer {KEY}", "X-Team": "data"})

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

    async def handler(request: web.BaseRequest) -> web.Response:
        await all_here.wait()
        return web.Response()

    async with serving(handler) as url, transport_to(f"{url}/v1", concurrency=120) as transport:
        answers = await asyncio.gather(*(transport.post(REQUEST) for _ in range(120)))

    assert {answer.status for answer in answers if isinstance(answer, HttpResponse)} == {200}
    assert not [answer for answer in answers if isinstance(answer, Failure)]


async def test_cookies_are_not_kept() -> None:
    answer = answer_with(b"{}", Set_Cookie="session=1; Path=/")
    async with raw_server(answer, then="serve") as server:
        url = f"http://localhost:{server.port}/v1"  # aiohttp's own jar keeps none for a bare address
        async with transport_to(url) as transport:
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


async def test_a_header_that_is_not_text_can_be_stored() -> None:
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


async def test_a_long_wait_filled_with_spaces_is_not_a_bomb() -> None:
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
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * 1024 * 1024)
        return response

    async with serving(handler) as url:
        answer = await answer_of(f"{url}/v1")

    assert (len(answer.body), answer.is_cut) == (MAX_BODY, True)
