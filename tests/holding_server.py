"""A server that counts the requests that are open and holds them until as many are there as it waits for.

`python holding_server.py COUNT FREE`: prints its port. The first FREE requests are answered at once, so that a run
comes into its stride; when stdin ends, it prints the most requests that were open at once.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys

HELD_S = 30.0  # at most
CALL = {"name": "record_person", "arguments": '{"name":"Ada","age":36}'}
REPLY = {
    "id": "chatcmpl-1",
    "model": "test-model",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": CALL}]},
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
}
BODY = json.dumps(REPLY).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Counter:
    def __init__(self, count: int, free: int) -> None:
        self.count, self.free = count, free
        self.most = 0
        self.held: set[Talk] = set()

    def came(self, talk: Talk) -> None:
        if self.free > 0:
            self.free -= 1
            talk.answer()
            return
        self.held.add(talk)
        self.most = max(self.most, len(self.held))
        if self.most >= self.count:
            self.let_go()
        elif len(self.held) == 1:
            asyncio.get_running_loop().call_later(HELD_S, self.let_go)

    def let_go(self) -> None:
        self.count = 0  # from now on each is answered at once
        while self.held:
            self.held.pop().answer()


class Talk(asyncio.Protocol):
    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.came += data
        head, found, body = self.came.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if found and len(body) >= (int(length[1]) if length else 0):
            self.came = b""
            self.counter.came(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.counter.held.discard(self)

    def answer(self) -> None:
        self.transport.write(ANSWER)


async def main(count: int, free: int) -> None:
    loop, counter = asyncio.get_running_loop(), Counter(count, free)
    server = await loop.create_server(lambda: Talk(counter), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(counter.most, flush=True)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
