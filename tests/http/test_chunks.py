"""A chunked body is the same whether or not its small chunks are put together, however it comes and is damaged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from unittest import mock

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcall.http import connections
from batchcall.http.chunks import Chunks

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
OTHER_HEADS = [
    HEAD.replace(b"chunked", b"Chunked"),
    HEAD.replace(b"\r\n", b"\n"),
    b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD,
    b"HTTP/1.1 200 OK\r\nX-Is: chunked\r\n\r\n",
]


class Fed:
    """What was read of an answer that came in these segments."""

    def __init__(self, loop: asyncio.AbstractEventLoop, segments: list[bytes]) -> None:
        wire = ResponseHandler(loop)

        def new_parser() -> Any:
            wire.set_response_params(read_until_eof=True, auto_decompress=False)
            return wire._parser

        answer = connections._OneAnswer(new_parser, lambda: False)
        messages: list[Any] = []
        self.error, self.is_whole, self.is_followed = "", False, False
        try:
            for segment in segments:
                messages += answer.feed_data(segment)[0]
            self.is_whole = answer.is_whole
            self.is_followed = answer.is_whole and answer.is_followed()
            if not answer.is_whole:
                answer.feed_eof()
        except Exception as error:
            self.error = type(error).__name__
        self.statuses = [message.code for message, _ in messages]
        body = messages[-1][1] if messages else None
        has_body = body is not None and body.total_bytes and body.exception() is None
        self.body = body.read_nowait() if has_body else b""


def as_it_came(self: Chunks, data: bytes) -> bytes:
    return data


def chunk_of(content: bytes, written: str = "%x") -> bytes:
    return b"%b\r\n%b\r\n" % ((written % len(content)).encode(), content)


def in_segments(whole: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % len(whole) for cut in cuts), len(whole)]
    return [whole[start:end] for start, end in pairwise(places)]


contents = st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from([b"data: {}\n\n", b"\r\n", b"0\r\n\r\n"]))
chunks = st.lists(contents.map(chunk_of), max_size=12)
odd = st.sampled_from(
    [b"", b"x", b"\r", b"\n", b"\r\n", b"0", b"+", b"_", b"0x", b" ", b";a=b", b"ffffffff", b"0000000001", END, HEAD]
)


@settings(max_examples=400, deadline=None)
@given(
    head=st.sampled_from([HEAD, HEAD, HEAD, *OTHER_HEADS]),
    pieces=chunks,
    end=st.sampled_from(
        [END, END, b"", b"0\r\nX-Late: 1\r\n\r\n", b"0\r\nab: 1\r\n\r\n", END + b"{}", END + HEAD + END]
    ),
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3), odd), max_size=2),
    cuts=st.lists(st.integers(0, 10_000), max_size=8),
)
def test_whatever_comes_the_answer_is_the_same(
    head: bytes, pieces: list[bytes], end: bytes, damage: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    body = b"".join(pieces) + end
    for place, gone, instead in damage:
        place %= len(body) + 1
        body = body[:place] + instead + body[place + gone :]
    segments = in_segments(head + body, cuts)
    loop = asyncio.new_event_loop()

    try:
        joined = Fed(loop, segments)
        with mock.patch.object(Chunks, "joined", as_it_came), mock.patch.object(connections, "_end_of_head", end_never):
            one_by_one = Fed(loop, segments)
    finally:
        loop.close()

    assert vars(joined) == vars(one_by_one)


def end_never(data: bytes, names: bytes = b"") -> int:
    return 0


@pytest.mark.parametrize("content", [b"data: {}\n\n", b"event: x\r\ndata: {}\r\n\r\n"])
@pytest.mark.parametrize("segment", [1 << 16, 1000])
def test_small_chunks_that_come_together_are_one_to_the_parser(content: bytes, segment: int) -> None:
    whole = HEAD + chunk_of(content) * 500 + END
    segments = [whole[start : start + segment] for start in range(0, len(whole), segment)]

    with mock.patch.object(Chunks, "joined", as_it_came):
        one_by_one = chunks_seen(segments)

    assert chunks_seen(segments) <= 2 * len(segments) + 1
    assert one_by_one >= 500


def chunks_seen(segments: list[bytes]) -> int:
    seen: list[None] = []
    begin: Callable[..., None] = aiohttp.StreamReader.begin_http_chunk_receiving

    def count(self: aiohttp.StreamReader) -> None:
        seen.append(None)
        begin(self)

    loop = asyncio.new_event_loop()
    with mock.patch.object(aiohttp.StreamReader, "begin_http_chunk_receiving", count):
        fed = Fed(loop, segments)
    loop.close()
    assert fed.body.count(b"data: {}") == 500
    return len(seen)
