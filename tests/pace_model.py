"""An endpoint with a hidden limit, in virtual time, and ways to ask it: the engine itself, and what others do."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from unittest import mock

from batchcall.answers.arguments import Toolbox
from batchcall.answers.read import AnswerParser, ParsedAttempt, Prepared
from batchcall.base.errors import BatchcallError
from batchcall.base.records import Attempt, Failure, HttpRequest, HttpResponse, Request, Row, Shape, Status, Tool
from batchcall.dialects import DIALECTS
from batchcall.engine.endpoint import Endpoint
from batchcall.engine.feed import Feed
from batchcall.engine.gate import Gate
from batchcall.engine.pool import Pool
from batchcall.engine.row_loop import LiveEngine
from batchcall.engine.steering import OwnSteering
from batchcall.pacing.budget import Budget
from batchcall.pacing.health import Health
from batchcall.pacing.pacer import Pacer
from batchcall.pacing.retry import RetryPolicy
from virtual_time import run_virtual

ROWS, WORKERS = 5_000, 100
PER_MINUTE = 600
REFUSED_S = 0.05  # a refusal comes at once, an answer takes its time


class Limit(Protocol):
    """What a provider counts. `take` is how it counts what it lets in."""

    per_minute: float

    def wait_s(self, amount: float, now_s: float) -> float: ...
    def take(self, amount: float, now_s: float) -> None: ...


@dataclass
class RollingWindow:
    """So much in any sixty seconds."""

    per_minute: float
    _taken: deque[tuple[float, float]] = field(default_factory=deque)
    _sum: float = 0.0

    def wait_s(self, amount: float, now_s: float) -> float:
        while self._taken and self._taken[0][0] <= now_s - 60.0:
            self._sum -= self._taken.popleft()[1]
        if self._sum + min(amount, self.per_minute) <= self.per_minute + 1e-9:
            return 0.0
        freed = self.per_minute - self._sum
        for at_s, taken in self._taken:
            freed += taken
            if freed >= min(amount, self.per_minute):
                return at_s + 60.0 - now_s
        return 60.0

    def take(self, amount: float, now_s: float) -> None:
        self._taken.append((now_s, amount))
        self._sum += amount


@dataclass
class Refill:
    """A bucket that holds a minute's worth and refills all the time."""

    per_minute: float
    _left: float = float("inf")
    _at_s: float = 0.0

    def wait_s(self, amount: float, now_s: float) -> float:
        self._left = min(self.per_minute, self._left + (now_s - self._at_s) * self.per_minute / 60)
        self._at_s = now_s
        return max(0.0, (min(amount, self.per_minute) - self._left - 1e-9) * 60 / self.per_minute)

    def take(self, amount: float, now_s: float) -> None:
        self._left -= amount


@dataclass
class SecondQuanta:
    """A sixtieth of it in each second of the clock, nothing carried over."""

    per_minute: float
    _second: int = -1
    _left: float = 0.0

    def wait_s(self, amount: float, now_s: float) -> float:
        if int(now_s) != self._second:
            self._second, self._left = int(now_s), self.per_minute / 60
        return 0.0 if min(amount, self.per_minute / 60) <= self._left + 1e-9 else self._second + 1 - now_s

    def take(self, amount: float, now_s: float) -> None:
        self._left -= amount


LIMITS: dict[str, Callable[[float], Limit]] = {
    "rolling window": RollingWindow,
    "refill": Refill,
    "quanta of a second": SecondQuanta,
}

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOOL = Tool("f", SCHEMA, {"type": "function", "function": {"name": "f", "parameters": SCHEMA}})
SHAPE = Shape("m", (TOOL,))
TOOLBOX = Toolbox.of([TOOL])
PROMPT_TOKENS = 60
PLAIN_TOKENS = 40


@dataclass
class HiddenServer:
    """Answers after a while, a heavy-tailed one, and refuses what is beyond its limits."""

    requests: Limit | None = None
    tokens: Limit | None = None
    headers: dict[str, str] = field(default_factory=dict)
    says_when: bool = False  # a Retry-After
    outage: tuple[float, float] | None = None  # seconds from the start: 503
    change: tuple[float, float] | None = None  # from when on the limit is what
    by_chance: float = 0.0  # of all requests, refused whatever the rate
    most_open: int | None = None  # at the same time
    names_open: bool = False  # a refusal for that says so
    open_status: int = 429  # of such a refusal
    working: int = 0  # requests that were let in and are not answered
    answer_tokens: Callable[[random.Random], int] = lambda dice: PLAIN_TOKENS
    latency_s: Callable[[random.Random, int], float] = lambda dice, in_flight: dice.lognormvariate(0.0, 0.5)
    token_s: float = 0.0  # that each token of an answer adds
    statuses: Counter[int] = field(default_factory=Counter)
    sent_at_s: list[float] = field(default_factory=list)
    in_flight: int = 0
    tokens_used: int = 0
    began_s: float | None = None
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    async def post(self, request: HttpRequest) -> HttpResponse | Failure:
        status, wait_s, tokens = self._admit()
        is_open = status == 200 and self.most_open is not None and self.working >= self.most_open
        status = self.open_status if is_open else status
        self.in_flight += 1
        self.working += status == 200
        try:
            if status == 200:
                await asyncio.sleep(self.latency_s(self.dice, self.in_flight) + self.token_s * tokens)
                if self.tokens is not None:  # nobody knows an answer's length before it is there
                    now_s = asyncio.get_running_loop().time()
                    self.tokens.wait_s(0.0, now_s)
                    self.tokens.take(float(tokens), now_s)
            else:
                await asyncio.sleep(REFUSED_S)
        finally:
            self.in_flight -= 1
            self.working -= status == 200
        self.statuses[status] += 1
        if status != 200:
            waiting = {"retry-after": str(max(1, round(wait_s + 0.5)))} if self.says_when and status == 429 else {}
            code = "rate_limit_exceeded" if status == 429 else "overloaded"
            code = "max_parallel_requests" if is_open and self.names_open else code
            body = {"error": {"message": f"it says {code}", "type": code, "code": code}}
            return HttpResponse(status, {**self.headers, **waiting}, json.dumps(body).encode())
        return HttpResponse(200, self.headers, completion(tokens))

    def _admit(self) -> tuple[int, float, int]:
        now_s = asyncio.get_running_loop().time()
        self.began_s = now_s if self.began_s is None else self.began_s
        at_s = now_s - self.began_s
        self.sent_at_s.append(at_s)
        if self.outage is not None and self.outage[0] <= at_s < self.outage[1]:
            return 503, 0.0, 0
        if self.change is not None and at_s >= self.change[0] and self.requests is not None:
            self.requests.per_minute = self.change[1]
        if self.by_chance and self.dice.random() < self.by_chance:
            return 429, 0.0, 0
        tokens = self.answer_tokens(self.dice)
        wanted = [(self.requests, 1.0), (self.tokens, float(PROMPT_TOKENS))]
        wait_s = max((limit.wait_s(amount, now_s) for limit, amount in wanted if limit is not None), default=0.0)
        if wait_s > 0:
            return 429, wait_s, 0
        for limit, amount in wanted:
            if limit is not None:
                limit.take(amount, now_s)
        self.tokens_used += PROMPT_TOKENS + tokens
        return 200, 0.0, tokens


def completion(tokens: int) -> bytes:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"n": 1}'}}
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens}
    return json.dumps({"id": "r", "model": "m", "choices": [choice], "usage": usage}).encode()


class Forgetful:
    """Nothing is made durable here."""

    def about_to_send(self, row: int, number: int, request_hash: str, now_s: float, after: str | None) -> None: ...
    def begins_to_read(self, attempt: Attempt, *, is_beside: bool) -> None: ...
    def has_read(self, attempt: Attempt) -> None: ...
    def as_written(self, attempt: Attempt) -> bytes: ...
    def answered(self, attempt: Attempt, written: bytes | None = None) -> None: ...
    def gave_up(self, row: int) -> None: ...


@dataclass
class Course:
    """How it went."""

    server: HiddenServer
    seconds: float  # to the last answer
    statuses: Counter[str]
    stopped: BatchcallError | Exception | None = None
    windows: list[tuple[float, int]] = field(default_factory=list)  # when, how many in flight were allowed

    @property
    def refused_per_row(self) -> float:
        return self.server.statuses[429] / max(1, sum(self.statuses.values()))

    @property
    def sent_per_minute(self) -> float:
        """Requests that were let in, from the first to the last."""
        lasted_s = self.server.sent_at_s[-1] - self.server.sent_at_s[0]
        return (self.server.statuses[200] - 1) / lasted_s * 60


def question(row: int) -> Prepared:
    request = Request(SHAPE, [{"role": "user", "content": f"row {row}"}])
    return Prepared(Row(row, {}, f"rows:{row}"), request, f"hash{row}", TOOLBOX)


def paced(server: HiddenServer, pacer: Pacer, *, rows: int = ROWS, attempts: int = 6) -> Course:
    """All rows through the engine, in virtual time."""
    return paced_pool({"http://relay.example/v1": (server, pacer)}, rows=rows, attempts=attempts)[0]


def paced_pool(
    members: Mapping[str, tuple[HiddenServer, Pacer]],
    *,
    rows: int = ROWS,
    attempts: int = 6,
    watch: Callable[[LiveEngine], None] = lambda engine: None,
) -> tuple[Course, dict[str, Counter[str]]]:
    """All rows through a pool, in virtual time; and how they ended, by the endpoint that answered."""

    async def main() -> tuple[Course, dict[str, Counter[str]]]:
        loop = asyncio.get_running_loop()
        dice = random.Random(11)
        windows: list[tuple[float, int]] = []

        class Watched(Gate):
            def limit_in_flight(self, most: int) -> None:
                windows.append((loop.time() - began_s, most))
                super().limit_in_flight(most)

        began_s = loop.time()
        endpoints = [
            Endpoint(
                name=name,
                transport=server,  # type: ignore[arg-type]  # it posts
                dialect=DIALECTS["openai-chat"],
                gate=Watched(concurrency=1),
                pacer=pacer,
                health=Health(host="relay.example"),
            )
            for name, (server, pacer) in members.items()
        ]
        engine = LiveEngine(
            steering=OwnSteering(pool=Pool(endpoints), budget=Budget(), roll=dice.random),
            parser=AnswerParser(DIALECTS["openai-chat"], repair=True, coerce=False, pricing=lambda model, usage: None),
            retry=RetryPolicy(max_attempts=attempts),
            recorder=Forgetful(),
            reasks=0,
            now_s=loop.time,
            roll=dice.random,
            reread=lambda attempt, request: ParsedAttempt(attempt),
        )
        watch(engine)
        statuses: Counter[str] = Counter()
        by_endpoint: dict[str, Counter[str]] = {name: Counter() for name in members}
        batches = iter([[question(row) for row in range(rows)]])  # one: the clock runs on while a thread reads
        async with engine.outcomes(Feed(batches, list), lambda one: one) as outcomes:
            async for ended in outcomes:
                statuses[ended.outcome.status] += 1
                by_endpoint[ended.outcome.endpoint or ""][ended.outcome.status] += 1
        first_server = next(iter(members.values()))[0]
        course = Course(first_server, loop.time() - began_s, statuses, engine.stopped, windows)
        return course, by_endpoint

    with mock.patch.object(asyncio, "to_thread", _at_once):  # a thread takes real time, which is none here
        return run_virtual(main())


async def _at_once(call: Callable[..., Any], *args: Any) -> Any:
    return call(*args)


def crowd(
    server: HiddenServer, one: Callable[[HiddenServer], Coroutine[Any, Any, bool]], *, rows: int = ROWS
) -> Course:
    """All rows by `WORKERS` workers, each asking in its own way: the control."""

    async def main() -> Course:
        began_s = asyncio.get_running_loop().time()
        left, statuses = iter(range(rows)), Counter[str]()

        async def work() -> None:
            for _ in left:
                statuses[Status.OK if await one(server) else Status.OVERLOADED] += 1

        await asyncio.gather(*(work() for _ in range(WORKERS)))
        return Course(server, asyncio.get_running_loop().time() - began_s, statuses)

    return run_virtual(main())


_REQUEST = HttpRequest("/chat/completions", b"{}")


async def as_sdks_do(server: HiddenServer, *, most: int = 10_000) -> bool:
    """The retry loop of the usual clients: half a second doubled up to eight, less a quarter by chance; the server's
    own wait where it gives one. Here without their limit of two retries, or most rows would fail."""
    for tries in range(most):
        answer = await server.post(_REQUEST)
        if isinstance(answer, HttpResponse) and answer.status == 200:
            return True
        told = answer.headers.get("retry-after") if isinstance(answer, HttpResponse) else None
        wait_s = float(told) if told else min(8.0, 0.5 * 2.0 ** min(tries, 10)) * (1 - 0.25 * server.dice.random())
        await asyncio.sleep(wait_s)
    return False


async def with_a_fixed_window(server: HiddenServer) -> bool:
    """As many in flight as there are workers, a second between tries."""
    while True:
        answer = await server.post(_REQUEST)
        if isinstance(answer, HttpResponse) and answer.status == 200:
            return True
        await asyncio.sleep(1.0)
