"""The embedded endpoint: HTTP on this machine only. Parses, limits, bills, answers, and goes wrong as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from batchcall.sandbox.completion import Answerer, BadRequest, as_stream
from batchcall.sandbox.faults import JSON, Answer, Fault, chosen, envelope
from batchcall.sandbox.limits import Bucket, Limits
from batchcall.sandbox.settings import Settings

HOST = "127.0.0.1"
_TAIL = 0.5  # sigma of the lognormal latency: one in a hundred takes three times the median
_LARGEST = 64 << 20  # bytes of a request


@dataclass(slots=True)
class Ledger:
    """What was asked and what was billed, kept where the client's death does not reach."""

    requests: int = 0
    billed: int = 0
    billed_tokens: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)  # requests by digest of their body
    bought: Counter[str] = field(default_factory=Counter)  # bills by digest of the body

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "billed": self.billed,
            "billed_tokens": self.billed_tokens,
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "bodies": len(self.seen),
            "billed_more_than_once": sum(count - 1 for count in self.bought.values() if count > 1),
        }


class Sandbox:
    """One endpoint's state."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._answerer = Answerer(settings.seed)
        self._limits = Limits(_bucket(settings.requests_per_minute), _bucket(settings.tokens_per_minute))
        self._has_limits = bool(settings.requests_per_minute or settings.tokens_per_minute)
        self.ledger = Ledger()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        route = (request.method, request.path.removeprefix("/v1"))
        if route == ("POST", "/chat/completions"):
            return await self._complete(request)
        return _ROUTES.get(route, _not_found)(self)

    async def _complete(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        ledger = self.ledger
        ledger.requests += 1
        ledger.in_flight += 1
        ledger.most_in_flight = max(ledger.most_in_flight, ledger.in_flight)
        try:
            answer = self._answer(request, body)
            await self._take_time(body, answer)
            if answer.is_billed:
                ledger.billed += 1
                ledger.billed_tokens += answer.tokens
                ledger.bought[_digest(body).hex()] += 1
            ledger.statuses[answer.status] += 1
            return await _sent(request, answer)
        finally:
            ledger.in_flight -= 1

    def _answer(self, request: web.BaseRequest, body: bytes) -> Answer:
        if not self._is_known(request):
            return Answer(401, envelope("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"))
        digest = _digest(body)
        self.ledger.seen[digest.hex()] += 1
        if self._has_limits:
            wait_s = self._limits.admit(len(body) / 4 + 50, asyncio.get_running_loop().time())
            if wait_s:
                return self._limited(wait_s)
        settings = self._settings
        fault = None
        if settings.faults:
            fault = chosen(settings.faults, digest, self.ledger.seen[digest.hex()], settings.seed)
            if fault is not None and fault.instead is not None:
                return fault.instead()
        return self._completion(body, digest, fault)

    def _completion(self, body: bytes, digest: bytes, fault: Fault | None) -> Answer:
        try:
            asked = orjson.loads(body)
        except ValueError:
            return Answer(400, envelope("We could not parse the JSON body of your request.", "invalid_request_error"))
        try:
            completion = self._answerer.answer(asked, digest, self.ledger.requests)
        except BadRequest as error:
            return Answer(400, envelope(str(error), "invalid_request_error", None, error.param))
        tokens = completion["usage"]["total_tokens"]
        if fault is not None and fault.spoil is not None:
            fault.spoil(completion)
        headers = {**JSON, **self._limits.headers()} if self._has_limits else JSON
        if asked.get("stream") and completion.get("choices"):
            options = asked.get("stream_options")
            with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
            content = as_stream(completion, with_usage=with_usage)
            headers = {**headers, "Content-Type": "text/event-stream"}
        else:
            content = orjson.dumps(completion)
        answer = Answer(200, content, headers, tokens=tokens, is_billed=True)
        return fault.wrap(answer, completion) if fault is not None and fault.wrap is not None else answer

    def _is_known(self, request: web.BaseRequest) -> bool:
        key = self._settings.api_key
        if key is None:
            return True
        given = [request.headers.get(name) for name in ("x-api-key", "x-goog-api-key", "api-key")]
        return key in given or request.headers.get("Authorization") == f"Bearer {key}"

    def _limited(self, wait_s: float) -> Answer:
        body = envelope("Rate limit reached for requests", "requests", "rate_limit_exceeded")
        waiting = {"Retry-After": str(math.ceil(wait_s)), "retry-after-ms": str(math.ceil(wait_s * 1000))}
        return Answer(429, body, {**JSON, **self._limits.headers(), **waiting})

    async def _take_time(self, body: bytes, answer: Answer) -> None:
        """The same time for the same request: a lognormal, whose tail is heavy."""
        if answer.hang_s:
            await asyncio.sleep(answer.hang_s)
        elif self._settings.latency_s and answer.status == 200:
            dice = random.Random(_digest(body) + bytes([self._settings.seed % 256]))
            await asyncio.sleep(self._settings.latency_s * dice.lognormvariate(0.0, _TAIL))

    def told_ledger(self) -> web.Response:
        return web.Response(body=orjson.dumps(self.ledger.as_json()), content_type="application/json")

    def told_bodies(self) -> web.Response:
        """Bills by digest of the body: who holds a row's answer can tell how often that row was bought."""
        return web.Response(body=orjson.dumps(self.ledger.bought), content_type="application/json")

    def told_models(self) -> web.Response:
        models = {"object": "list", "data": [{"id": "sandbox", "object": "model", "owned_by": "batchcall"}]}
        return web.Response(body=orjson.dumps(models), content_type="application/json")

    def told_health(self) -> web.Response:
        return web.Response(text="ok")


_ROUTES: dict[tuple[str, str], Callable[[Sandbox], web.Response]] = {
    ("GET", "/sandbox/ledger"): Sandbox.told_ledger,
    ("GET", "/sandbox/bodies"): Sandbox.told_bodies,
    ("GET", "/models"): Sandbox.told_models,
    ("GET", "/health"): Sandbox.told_health,
}


def _not_found(sandbox: Sandbox) -> web.Response:
    body = envelope("Unknown request URL", "invalid_request_error", "unknown_url")
    return web.Response(status=404, body=body, content_type="application/json")


def _bucket(per_minute: int | None) -> Bucket | None:
    return Bucket(per_minute) if per_minute else None


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()


async def _sent(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    if answer.cut_at is None:
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    if answer.cut_at > 0:
        response.content_length = len(answer.body)
        with contextlib.suppress(ConnectionError):  # the client was quicker
            await response.prepare(request)
            await response.write(answer.body[: answer.cut_at])
    if request.transport is not None:
        request.transport.close() if answer.cut_at > 0 else request.transport.abort()
    return response


async def run_server(settings: Settings, *, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set. `ready` is told the base URL. Raises OSError when the port is taken."""
    sandbox = Sandbox(settings)
    server = web.Server(sandbox.handle, request_factory=_request, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, HOST, settings.port, backlog=1024)
    try:
        await site.start()
        ready(f"http://{HOST}:{runner.addresses[0][1]}/v1")
        await stop.wait()
    finally:
        await runner.cleanup()


def _request(*parts: Any) -> web.BaseRequest:
    """A request that may be larger than the megabyte which aiohttp allows."""
    message, payload, protocol, writer, task = parts
    return web.BaseRequest(
        message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=_LARGEST
    )


def stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
