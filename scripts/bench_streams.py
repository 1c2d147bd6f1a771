"""What a delta of a stream costs, joined and one by one, in turns; and how long 16 MiB of them keep the event loop.

Figures are ratios of one run: microseconds of CPU for a delta, beside one orjson.loads of it. The second table reads
each stream beside the loop while a timer ticks; `on the loop` is the control. Exit code 1 where the loop was kept for
longer than a second beside it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import orjson

from batchcall.base.records import HttpResponse
from batchcall.base.redaction import Redactor
from batchcall.dialects import DIALECTS, sse
from batchcall.http.beside import beside

ROUNDS, DELTAS, LONG_BYTES = 3, 20_000, 16 << 20
DELTA: dict[str, dict[str, Any]] = {
    "openai-chat": {
        "id": "chatcmpl-8a7b6c5d4e3f", "object": "chat.completion.chunk", "created": 1714564800, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "delta": {"content": " tok"}, "logprobs": None, "finish_reason": None}],
    },
    "openai-responses": {
        "type": "response.output_text.delta", "sequence_number": 17, "item_id": "msg_1", "output_index": 0,
        "content_index": 0, "delta": " tok", "obfuscation": "aXbYcZ",
    },
    "anthropic": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " tok"}},
    "gemini": {
        "candidates": [{"content": {"parts": [{"text": " tok"}], "role": "model"}, "index": 0}],
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 9, "totalTokenCount": 13},
    },
}  # fmt: skip


def main() -> int:
    print("| | one by one, µs | joined, µs | times cheaper | × one orjson.loads |\n|---|---|---|---|---|")
    for protocol, delta in DELTA.items():
        event = json.dumps(delta)
        body = f"data: {event}\n\n".encode() * DELTAS
        figures = []
        for _ in range(ROUNDS):
            alone, joined = one_by_one(partial(decode, protocol, body)), cpu_of(partial(decode, protocol, body))
            figures.append((alone, joined, cpu_of(partial(parse_each, event))))
        alone, joined, parsed = (statistics.median(column) / DELTAS * 1e6 for column in zip(*figures, strict=True))
        print(f"| {protocol} | {alone:.2f} | {joined:.2f} | {alone / joined:.1f} | {joined / parsed:.2f} |")
    print(
        "\n| 16 MiB | beside the loop: longest wait, s | whole, s | on the loop: longest wait, s |\n|---|---|---|---|"
    )
    worst = 0.0
    redactor = Redactor(["sk-0123456789abcdef0123"])
    for protocol, delta in DELTA.items():
        for name, odd in (("plain", ""), ("each another key", "odd")):
            events = (json.dumps({**delta, f"{odd}{number}" if odd else "k": 1}) for number in range(LONG_BYTES))
            body = long_body(events)
            work = partial(read_whole, protocol, redactor, body)
            wait, whole = asyncio.run(longest_wait(partial(beside, work)))
            control, _ = asyncio.run(longest_wait(partial(on_the_loop, work)))
            worst = max(worst, wait)
            print(f"| {protocol}, {name} | {wait:.3f} | {whole:.2f} | {control:.2f} |")
    return int(worst > 1.0)


def decode(protocol: str, body: bytes) -> object:
    return DIALECTS[protocol].decode(HttpResponse(200, {}, body), now_s=0)


def parse_each(event: str) -> None:
    _ = [orjson.loads(event) for _ in range(DELTAS)]


def read_whole(protocol: str, redactor: Redactor, body: bytes) -> object:
    return decode(protocol, redactor.hide_secrets(body))


def cpu_of(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def one_by_one(work: Callable[[], object]) -> float:
    with mock.patch.object(sse, "join_deltas", lambda stream: iter(stream.split("\n\n"))):
        return cpu_of(work)


def long_body(events: Any) -> bytes:
    pieces, size = [], 0
    for event in events:
        pieces.append(f"data: {event}\n\n".encode())
        size += len(pieces[-1])
        if size >= LONG_BYTES:
            return b"".join(pieces)[:LONG_BYTES]
    return b"".join(pieces)


async def on_the_loop(work: Callable[[], object]) -> None:
    work()


async def longest_wait(run: Callable[[], Any]) -> tuple[float, float]:
    """The longest that a timer of 1 ms came late, in seconds of CPU: what others do on the machine does not count; and
    how long all took."""
    longest, is_over = 0.0, False

    async def tick() -> None:
        nonlocal longest
        while not is_over:
            before, before_cpu = time.monotonic(), time.process_time()
            await asyncio.sleep(0.001)
            took_s = min(time.monotonic() - before, time.process_time() - before_cpu)
            longest = max(longest, took_s - 0.001)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    began = time.monotonic()
    await run()
    whole = time.monotonic() - began
    await asyncio.sleep(0.01)
    is_over = True
    await ticking
    return longest, whole


if __name__ == "__main__":
    sys.exit(main())
