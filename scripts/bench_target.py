"""The endpoint of scripts/bench: a small program in C that gives everybody the same answer, whole or streamed.

The embedded endpoint reads what it is asked and keeps a ledger, which costs more than the clients that are measured.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

SOURCE = Path(__file__).with_suffix(".c")
MOST_S = 900  # after which it ends in any case

TOOL = {
    "name": "record_receipt",
    "description": "Record what a receipt says.",
    "parameters": {
        "type": "object",
        "properties": {
            "merchant": {"type": "string"},
            "total": {"type": "number", "minimum": 0},
            "currency": {"enum": ["EUR", "USD", "GBP"]},
            "paid": {"type": "boolean"},
            "items": {"type": "integer", "minimum": 1, "maximum": 40},
            "note": {"type": ["string", "null"]},
        },
        "required": ["merchant", "total", "currency", "paid", "items", "note"],
    },
}
ARGUMENTS = {"merchant": "Café Zoë", "total": 5.0, "currency": "EUR", "paid": True, "items": 2, "note": ""}
USAGE = {"prompt_tokens": 412, "completion_tokens": 38, "total_tokens": 450}
LETTERS_A_DELTA = 4


class Seen(NamedTuple):
    """What an endpoint has seen."""

    requests: int
    answered: int
    most_in_flight: int
    nanoseconds: int  # from the first request to the last answer


class Endpoint(NamedTuple):
    process: subprocess.Popen[bytes]
    url: str
    says: IO[bytes]

    def close(self) -> Seen:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return Seen(*map(int, self.says.readline().split()))


def built_target(folder: Path) -> Path:
    """The program, compiled. Raises SystemExit where that cannot be done."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if compiler is None:
        raise SystemExit("scripts/bench needs a C compiler (Debian, Ubuntu: apt-get install gcc libc6-dev)")
    target = folder / "bench_target"
    made = subprocess.run([compiler, "-O2", "-o", target, SOURCE], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise SystemExit(f"{SOURCE.name} does not compile; it needs Linux and the C library's headers:\n{made.stderr}")
    return target


@contextmanager
def open_endpoint(target: Path, answer: bytes, latency_ms: int = 0) -> Iterator[Endpoint]:
    """A new endpoint, until the block ends or this process does."""
    path = target.with_name("answer")
    path.write_bytes(answer)
    words = [str(target), str(path), str(latency_ms), str(MOST_S)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Endpoint(process, f"http://127.0.0.1:{port}/v1", process.stdout)


def whole_answer() -> bytes:
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", **called(json.dumps(ARGUMENTS))}]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    body = completion("chat.completion", choices=[choice], usage=USAGE)
    return http_head("application/json", f"Content-Length: {len(body)}") + body


def streamed_answer(deltas: int) -> bytes:
    """The call in so many pieces, each a chunk of its own; they come as fast as they are read."""
    missing = deltas * LETTERS_A_DELTA - len(json.dumps(ARGUMENTS))
    text = json.dumps({**ARGUMENTS, "note": "x" * max(0, missing)})
    pieces = [text[start : start + LETTERS_A_DELTA] for start in range(0, len(text), LETTERS_A_DELTA)]
    calls: list[dict[str, Any]] = [{"function": {"arguments": piece}} for piece in pieces]
    calls[0] = {"id": "call_1", **called(pieces[0])}
    changes = [*({"tool_calls": [{"index": 0, **call}]} for call in calls), {}]
    reasons = [None] * len(calls) + ["tool_calls"]
    events = [
        *(
            completion("chat.completion.chunk", choices=[{"index": 0, "delta": change, "finish_reason": reason}])
            for change, reason in zip(changes, reasons, strict=True)
        ),
        completion("chat.completion.chunk", choices=[], usage=USAGE),
        b"[DONE]",
    ]
    chunks = b"".join(b"%x\r\ndata: %b\n\n\r\n" % (len(event) + 8, event) for event in events)
    return http_head("text/event-stream", "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n"


def called(arguments: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": TOOL["name"], "arguments": arguments}}


def completion(kind: str, **rest: object) -> bytes:
    head = {"id": "chatcmpl-8a7b6c5d4e3f", "object": kind, "created": 1714564800, "model": "bench"}
    return json.dumps({**head, **rest}).encode()


def http_head(content_type: str, length: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nX-Request-Id: req_1\r\n{length}\r\n\r\n".encode()
