"""A server that tells of its queue on /metrics is asked no more than it works on; one that does not is left alone."""

from __future__ import annotations

import asyncio

from aiohttp import web

from answering import serving
from batchcall.engine.metrics import watched_queue
from batchcall.http.transport import open_transport
from batchcall.pacing.pacer import Pacer
from virtual_time import run_virtual


class ToldQueue:
    """Tells of the same queue each time, or of none."""

    def __init__(self, text: str | None) -> None:
        self.text = text
        self.looks = 0

    async def look(self, path: str) -> str | None:
        self.looks += 1
        return self.text


def watched(server: ToldQueue, seconds: float) -> Pacer:
    pacer = Pacer()

    async def main() -> None:
        async with watched_queue(server, pacer):
            await asyncio.sleep(seconds)

    run_virtual(main())
    return pacer


def test_the_queue_of_the_server_decides_the_window() -> None:
    pacer = watched(ToldQueue("vllm:num_requests_running 40\nvllm:num_requests_waiting 200"), 5.0)

    assert pacer.window is not None
    assert pacer.window.size == 46


def test_a_server_without_metrics_is_looked_at_three_times_and_no_more() -> None:
    server = ToldQueue(None)

    pacer = watched(server, 600.0)

    assert server.looks == 3
    assert pacer.window is not None
    assert pacer.window.size == 8


async def test_metrics_are_read_from_the_host_of_the_endpoint_and_nothing_there_is_not_a_fault() -> None:
    async def metrics(request: web.BaseRequest) -> web.Response:
        is_there = request.path == "/metrics"
        return web.Response(status=200 if is_there else 404, text="llamacpp:requests_processing 1")

    async with (
        serving(metrics) as host,
        open_transport(f"{host}/v1", headers={}, timeout_s=5, concurrency=1) as transport,
    ):
        told = [await transport.look("/metrics"), await transport.look("/elsewhere")]
    async with open_transport(f"{host}/v1", headers={}, timeout_s=5, concurrency=1) as transport:
        told.append(await transport.look("/metrics"))

    assert told == ["llamacpp:requests_processing 1", None, None]
