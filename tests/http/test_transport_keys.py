"""Keys are taken out of whatever comes back, and are sent to nobody else."""

from __future__ import annotations

import base64
import gzip
import zlib

import pytest

from batchcall.dialects.jsontext import unpack
from raw_server import KEY, answer_of, answer_with, raw_server

pytestmark = [
    pytest.mark.sends_odd_bodies("a transport sends whatever it is given"),
    pytest.mark.usefixtures("client"),
]

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
