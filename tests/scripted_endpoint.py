"""An endpoint that answers as a test says, and the engine over it in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from batchcall.answers.arguments import Toolbox
from batchcall.answers.read import AnswerParser, Ended, Prepared
from batchcall.base.errors import ExitCode, OutputError
from batchcall.base.records import (
    Attempt,
    Failure,
    FailureKind,
    HttpRequest,
    HttpResponse,
    Request,
    Row,
    Shape,
    Tool,
)
from batchcall.dialects import DIALECTS, Dialect
from batchcall.engine.endpoint import Endpoint
from batchcall.engine.feed import Feed
from batchcall.engine.gate import Gate
from batchcall.engine.pool import Pool
from batchcall.engine.row_loop import LiveEngine
from batchcall.engine.steering import OwnSteering
from batchcall.pacing.budget import Budget
from batchcall.pacing.health import Health, Verdict
from batchcall.pacing.pacer import Pacer
from batchcall.pacing.retry import RetryPolicy
from virtual_time import run_virtual

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOOL = Tool("f", SCHEMA, {"type": "function", "function": {"name": "f", "parameters": SCHEMA}})
SHAPE = Shape("m", (TOOL,))
TOOLBOX = Toolbox.of([TOOL])

Answer = HttpResponse | Failure


def completion(arguments: str = '{"n": 1}', **usage: int) -> HttpResponse:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    body = {
        "id": "r",
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}
        ],
        "usage": usage or {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
    return HttpResponse(200, {}, json.dumps(body).encode())


def refusal(status: int, code: str, **headers: str) -> HttpResponse:
    body = {"error": {"message": f"it says {code}", "type": code, "code": code}}
    return HttpResponse(status, headers, json.dumps(body).encode())


TIMED_OUT = Failure(FailureKind.TIMED_OUT, "no answer within 60 s")
REFUSED = HttpResponse(503, {}, b'{"error": {"code": "overloaded", "message": "busy"}}')
UNCONNECTED = Failure(FailureKind.UNCONNECTED, "no connection")
BUSY = refusal(429, "rate_limit_exceeded", **{"retry-after": "7"})
BAD_KEY = refusal(401, "invalid_api_key")


@dataclass
class ScriptedTransport:
    """Answers as told: a list for all rows in turn, or a function of the body and how often it came."""

    script: list[Answer] | Callable[[str, int], Answer]
    latency_s: float = 1.0
    sent: list[tuple[float, dict[str, Any]]] = field(default_factory=list)  # when, what
    most_in_flight: int = 0
    times: Counter[str] = field(default_factory=Counter)  # sent, by text
    _in_flight: int = 0

    async def post(self, request: HttpRequest) -> HttpResponse | Failure:
        body = json.loads(request.body)
        self.sent.append((asyncio.get_running_loop().time(), body))
        text = body["messages"][0]["content"]
        self.times[text] += 1
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            await asyncio.sleep(self.latency_s)
        finally:
            self._in_flight -= 1
        if callable(self.script):
            return self.script(text, self.times[text])
        return self.script.pop(0)


@dataclass
class MemoryRecorder:
    """What a run made durable, in the order it did."""

    events: list[tuple[str, int]] = field(default_factory=list)
    is_full: bool = False

    def about_to_send(self, row: int, number: int, request_hash: str, now_s: float, after: str | None) -> None:
        if self.is_full:
            raise OutputError("no space")
        self.events.append(("send", row))

    def as_written(self, attempt: Attempt) -> bytes:
        return b""

    def answered(self, attempt: Attempt, written: bytes | None = None) -> None:
        self.events.append(("answered", attempt.row))

    def begins_to_read(self, attempt: Attempt, *, is_beside: bool) -> None:
        self.events.append(("begins to read", attempt.row))

    def has_read(self, attempt: Attempt) -> None:
        self.events.append(("has read" if attempt.failure is None else "could not read", attempt.row))

    def gave_up(self, row: int) -> None:
        self.events.append(("gave up", row))


def question(row: int) -> Prepared:
    request = Request(SHAPE, [{"role": "user", "content": f"row {row}"}])
    return Prepared(Row(row, {}, f"rows:{row}"), request, f"hash{row}", TOOLBOX)


@dataclass
class Outcome:
    ended: list[Ended]
    engine: LiveEngine
    transport: ScriptedTransport
    recorder: MemoryRecorder
    seconds: float

    @property
    def only(self) -> Ended:
        assert len(self.ended) == 1
        return self.ended[0]


def live(
    transport: ScriptedTransport,
    questions: Iterable[Prepared] = (),
    *,
    concurrency: int = 4,
    attempts: int = 6,
    reasks: int = 0,
    budget: Budget | None = None,
    recorder: MemoryRecorder | None = None,
    stop_after_s: float | None = None,
    max_outage_s: float | None = None,
    dialect: Dialect = DIALECTS["openai-chat"],
    patience_s: float = 0.0,
    prepare: Callable[[Prepared], Prepared] = lambda one: one,
) -> Outcome:
    """Run questions to their end in virtual time."""
    recorder = recorder or MemoryRecorder()
    asked = list(questions) or [question(0)]

    async def main() -> Outcome:
        loop = asyncio.get_running_loop()
        endpoint = Endpoint(
            name="http://relay.example/v1",
            transport=transport,  # type: ignore[arg-type]  # it posts
            dialect=dialect or DIALECTS["openai-chat"],
            gate=Gate(concurrency=1),
            pacer=Pacer(concurrency=concurrency, max_outage_s=max_outage_s),
            health=Health(host="relay.example"),
        )
        engine = LiveEngine(
            steering=OwnSteering(pool=Pool([endpoint]), budget=budget or Budget(), roll=lambda: 0.5),
            parser=AnswerParser(dialect, repair=True, coerce=False, pricing=lambda model, usage: None),
            retry=RetryPolicy(max_attempts=attempts),
            recorder=recorder,
            reasks=reasks,
            now_s=loop.time,
            roll=lambda: 0.5,
            reread=lambda attempt, request: pytest.fail("no run has died"),
        )
        if stop_after_s is not None:
            loop.call_later(stop_after_s, engine.stop, Verdict(ExitCode.TERMINATED, "asked to", ""))
        ended, began = [], loop.time()
        feed: Feed[Prepared] = Feed(iter([asked]), list)
        async with engine.outcomes(feed, prepare) as outcomes:
            async for one in outcomes:
                ended.append(one)
        return Outcome(sorted(ended, key=lambda one: one.row.index), engine, transport, recorder, loop.time() - began)

    return run_virtual(main(), patience_s=patience_s)
