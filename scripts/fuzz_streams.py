"""Streams to 16 MiB in odd pieces: how long each keeps the event loop, and when a signal is heard meanwhile."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import socketserver
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from bench_streams import DELTA, longest_wait

from batchcall.base.records import HttpRequest, HttpResponse
from batchcall.dialects import DIALECTS
from batchcall.http.beside import beside
from batchcall.http.transport import MAX_BODY, open_transport

HELP = """\
Streams of every protocol, up to 16 MiB: another key or not in each event, comments, other line ends, letters beyond
ASCII; sent in pieces of one byte to one megabyte. Each is received and decoded as in a run. None may keep the event
loop for more than a second of CPU, and what arrives must be what was sent. Stream N again: --seed S --only N.

Before that, real runs get SIGTERM while 16 MiB are decoded, and have to begin to drain within a second; as a control,
runs that decode on the event loop, one of which must take twice as long. Exit code: 0 none, 1 some.
"""
LONGEST_S = 1.0
SIGNALS_S = (0.05, 0.15, 0.3)  # after the last byte was sent
HEARD = """
import time
from batchcall.pipeline.run import StopSwitch
pull = StopSwitch.pull
def noted(self, *why):
    print(time.monotonic(), flush=True)
    pull(self, *why)
StopSwitch.pull = noted
from batchcall.cli import main
main()
"""
# By its name in sys.modules: the room's door has a function that is called as the module.
ON_THE_LOOP = "import sys, batchcall.http; sys.modules['batchcall.http.beside'].LONG_BODY = 1 << 40" + HEARD
JOB = """
[input]
path = "rows.jsonl"
[endpoint]
url = "{url}"
[request]
model = "m"
prompt = "{{{{ text }}}}"
[[tool]]
name = "record"
parameters = {{ type = "object" }}
[output]
path = "out"
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["streams"])
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (5)")
    parser.add_argument("--seed", type=int, default=0, help="of everything (0)")
    parser.add_argument("--only", type=int, metavar="N", help="this stream, and no signals")
    asked = parser.parse_args()
    with endpoint(asked.seed) as (url, sent):
        if asked.only is not None:
            return int(not asyncio.run(_is_good(url, asked.seed, asked.only))[0])
        return int(not _hears_signals(url, sent)) | asyncio.run(_read_streams(url, asked.seed, asked.minutes * 60))


def _hears_signals(url: str, sent: Connection) -> bool:
    heard = [_seconds_to_hear(url, sent, HEARD, after_s) for after_s in SIGNALS_S]
    control = [_seconds_to_hear(url, sent, ON_THE_LOOP, after_s) for after_s in SIGNALS_S]
    print(f"SIGTERM while 16 MiB are decoded: heard after {_shown(heard)}; on the loop {_shown(control)}", flush=True)
    return max(heard) < min(LONGEST_S, max(control) / 2)


def _seconds_to_hear(url: str, sent: Connection, program: str, after_s: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "rows.jsonl").write_text('{"text": "long"}\n')
        Path(folder, "job.toml").write_text(JOB.format(url=f"{url}/v1"))
        command = [sys.executable, "-c", program, "run", f"{folder}/job.toml", "--quiet"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
            assert run.stdout is not None
            sent.recv()  # all of it is out
            time.sleep(after_s)
            began_s = time.monotonic()
            run.send_signal(signal.SIGTERM)
            return float(run.stdout.read().split()[0]) - began_s


def _shown(seconds: list[float]) -> str:
    return ", ".join(f"{one:.2f}" for one in seconds) + " s"


async def _read_streams(url: str, seed: int, seconds: float) -> int:
    until_s = time.monotonic() + seconds
    longest, failed, number = 0.0, 0, 0
    while time.monotonic() < until_s or number == 0:
        is_good, wait_s = await _is_good(url, seed, number)
        longest, failed, number = max(longest, wait_s), failed + (not is_good), number + 1
    print(f"{number:,} streams of seed {seed}: {failed} failed, the loop waited {longest:.2f} s at most")
    return int(failed > 0)


async def _is_good(url: str, seed: int, number: int) -> tuple[bool, float]:
    protocol, body, _ = stream(seed, number)
    arrived = b""

    async def read() -> None:
        nonlocal arrived
        async with open_transport(url, headers={}, timeout_s=300, concurrency=1) as transport:
            answer = await transport.post(HttpRequest("/v1/chat/completions", str(number).encode()))
        if isinstance(answer, HttpResponse):
            arrived = answer.body
            await beside(partial(DIALECTS[protocol].decode, answer, now_s=0))

    wait_s, _ = await longest_wait(read)
    is_whole = arrived == body[:MAX_BODY]
    if wait_s > LONGEST_S or not is_whole:
        print(f"stream {number}, {protocol}, {len(body):,} bytes: {wait_s:.2f} s, whole: {is_whole}", flush=True)
    return is_whole and wait_s <= LONGEST_S, wait_s


def stream(seed: int, number: int) -> tuple[str, bytes, list[int]]:
    """The protocol, the body, and the sizes of the pieces in which it goes out, over and over."""
    dice = random.Random(f"{seed} {number}")
    protocol = dice.choice(list(DELTA))
    end = dice.choice(["\n\n", "\r\n\r\n", "\n: ping\n\n", "\n\nevent: x\n"])
    odd, is_ascii = dice.random() < 0.3, dice.random() < 0.5
    smallest = dice.choice([1, 7, 1_000, 65_536, 1 << 20])
    most = min(dice.choice([300_000, 4 << 20, 16 << 20]), (1 << 20) * smallest)
    events, size = list[bytes](), 0
    while size < most:
        delta = {**DELTA[protocol], (f"odd{len(events)}" if odd else "k"): dice.choice(["", "é", "\U0001f600", {}, []])}
        events.append(f"data: {json.dumps(delta, ensure_ascii=is_ascii)}{end}".encode())
        size += len(events[-1])
    return protocol, b"".join(events)[:most], [dice.randint(smallest, 3 * smallest) for _ in range(100)]


def long_answer() -> bytes:
    """16 MiB of short events, none like another, which are the slowest to decode. The model stopped in order, so that
    it is not asked for again."""
    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    events, size = list[bytes](), len(end)
    while size < (16 << 20) - 100:
        events.append(
            b'data: {"choices":[{"index":0,"delta":{"content":"a"}}],"a key of its own %d":1}\n\n' % len(events)
        )
        size += len(events[-1])
    return b"".join(events) + end


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        if self.rfile.readline().startswith(b"GET"):  # a look at the server's metrics
            self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        length = 0
        while (line := self.rfile.readline()).strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        asked = self.rfile.read(length)
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        if asked.isdigit():
            _, body, sizes = stream(self.server.seed, int(asked))
        else:
            body, sizes = long_answer(), [65_536]
        with suppress(ConnectionError):
            for piece in _pieces(body, sizes):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            if not asked.isdigit():
                self.server.sent.send(True)


class _Server(socketserver.ThreadingTCPServer):
    seed: int
    sent: Connection  # says when a long answer is out


def _pieces(body: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = number = 0
    while at < len(body):
        size = sizes[number % len(sizes)]
        yield body[at : at + size]
        at, number = at + size, number + 1


@contextmanager
def endpoint(seed: int) -> Iterator[tuple[str, Connection]]:
    """In a process of its own. The connection says when a long answer is out."""
    ours, theirs = get_context("fork").Pipe()
    serving = get_context("fork").Process(target=_serve, args=(seed, theirs), daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}", ours
    finally:
        serving.terminate()
        serving.join()


def _serve(seed: int, sent: Connection) -> None:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.seed, server.sent = seed, sent
        sent.send(server.server_address[1])
        server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
