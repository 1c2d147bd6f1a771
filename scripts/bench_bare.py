"""The loop that a person would write by hand: posts the bodies of a file with aiohttp and throws the answers away.

bench_bare.py URL BODIES ROWS CONCURRENCY PER_SECOND    # PER_SECOND 0: as fast as it goes
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from itertools import islice

import aiohttp

try:
    import uvloop
except ImportError:
    LOOP: Callable[[], asyncio.AbstractEventLoop] | None = None
else:
    LOOP = uvloop.new_event_loop

Bodies = Iterator[tuple[int, bytes]]


def main(url: str, path: str, rows: int, concurrency: int, per_second: float) -> None:
    with open(path, "rb") as lines, asyncio.Runner(loop_factory=LOOP) as runner:
        runner.run(post_all(url, enumerate(islice(lines, rows)), concurrency, per_second))


async def post_all(url: str, bodies: Bodies, concurrency: int, per_second: float) -> None:
    connector = aiohttp.TCPConnector(limit=concurrency)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        await asyncio.gather(*(post_some(session, url, bodies, per_second) for _ in range(concurrency)))


async def post_some(session: aiohttp.ClientSession, url: str, bodies: Bodies, per_second: float) -> None:
    now = asyncio.get_running_loop().time
    began_s = now()
    for number, body in bodies:
        if per_second:
            await asyncio.sleep(began_s + number / per_second - now())
        async with session.post(url, data=body) as answer:
            answer.raise_for_status()
            await answer.read()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
