"""The embedded endpoint: HTTP on this machine only. Parses, limits, bills, answers, and goes wrong on demand.

What it says it says in the protocol of the URL; `routes` knows which.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from aiohttp import web

from batchcall.sandbox.completion import Answerer, Asked, Completion
from batchcall.sandbox.faults import Fault, chosen
from batchcall.sandbox.limits import Bucket, Limits
from batchcall.sandbox.protocol import JSON, Address, Answer, BadRequest, Kind, Protocol, Trouble
from batchcall.sandbox.routes import find_route
from batchcall.sandbox.settings import Settings
from batchcall.sandbox.speak_chat import envelope

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
        path = request.path
        if request.method == "POST" and (route := find_route(path, request.query)) is not None:
            return await self._complete(request, *route)
        return _PAGES.get((request.method, path.removeprefix("/v1")), _not_found)(self)

    async def _complete(self, request: web.BaseRequest, protocol: Protocol, address: Address) -> web.StreamResponse:
        body = await request.read()
        ledger = self.ledger
        ledger.requests += 1
        ledger.in_flight += 1
        ledger.most_in_flight = max(ledger.most_in_flight, ledger.in_flight)
        try:
            answer = self._answer(request, body, protocol, address)
            await self._take_time(body, answer)
            if answer.is_billed:
                ledger.billed += 1
                ledger.billed_tokens += answer.tokens
                ledger.bought[_digest(body).hex()] += 1
            ledger.statuses[answer.status] += 1
            return await _sent(request, answer)
        finally:
            ledger.in_flight -= 1

    def _answer(self, request: web.BaseRequest, body: bytes, protocol: Protocol, address: Address) -> Answer:
        if not self._is_known(request, protocol):
            return protocol.refuse(Trouble(Kind.BAD_KEY))
        if missing := next((name for name in protocol.needed if not request.headers.get(name)), None):
            return protocol.refuse(Trouble(Kind.REJECTED, f"{missing}: header is required"))
        digest = _digest(body)
        self.ledger.seen[digest.hex()] += 1
        if self._has_limits:
            wait_s = self._limits.admit(len(body) / 4 + 50, asyncio.get_running_loop().time())
            if wait_s:
                return self._with_limits(protocol.refuse(Trouble(Kind.RATE_LIMITED, wait_s=wait_s)), protocol)
        settings = self._settings
        fault = None
        if settings.faults:
            times = self.ledger.seen[digest.hex()]
            fault = chosen(settings.faults, digest, times, settings.seed, protocol.nearest)
            if fault is not None and fault.instead is not None:
                keys = (_key_in(request, place) for place in protocol.keys)
                return fault.instead(protocol, next(filter(None, keys), ""))
        return self._completion(body, digest, fault, protocol, address)

    def _completion(
        self, body: bytes, digest: bytes, fault: Fault | None, protocol: Protocol, address: Address
    ) -> Answer:
        try:
            asked = _asked(orjson.loads(body), protocol, address)
        except BadRequest as error:
            return protocol.refuse(Trouble(Kind.REJECTED, str(error), error.param, error.code))
        except ValueError:
            return protocol.refuse(Trouble(Kind.REJECTED, "We could not parse the JSON body of your request."))
        completion = self._answerer.answer(asked, digest, self.ledger.requests, sent_bytes=len(body))
        answer = _written(completion, fault, protocol)
        if self._has_limits:
            answer = self._with_limits(answer, protocol)
        return fault.wrap(answer) if fault is not None and fault.wrap is not None else answer

    def _is_known(self, request: web.BaseRequest, protocol: Protocol) -> bool:
        key = self._settings.api_key
        return key is None or any(_key_in(request, place) == key for place in protocol.keys)

    def _with_limits(self, answer: Answer, protocol: Protocol) -> Answer:
        headers = protocol.limit_headers(self._limits.standings(), time.time())
        return replace(answer, headers={**answer.headers, **headers})

    async def _take_time(self, body: bytes, answer: Answer) -> None:
        """The same time for the same request: a lognormal, whose tail is heavy."""
        if answer.hang_s:
            await asyncio.sleep(answer.hang_s)
        elif self._settings.latency_s and answer.status == 200:
            dice = random.Random(_digest(body) + bytes([self._settings.seed % 256]))
            await asyncio.sleep(self._settings.latency_s * dice.lognormvariate(0.0, _TAIL))

    def show_ledger(self) -> web.Response:
        return web.Response(body=orjson.dumps(self.ledger.as_json()), content_type="application/json")

    def show_bodies(self) -> web.Response:
        """Bills by digest of the body: who holds a row's answer can see how often that row was bought."""
        return web.Response(body=orjson.dumps(self.ledger.bought), content_type="application/json")

    def show_models(self) -> web.Response:
        models = {"object": "list", "data": [{"id": "sandbox", "object": "model", "owned_by": "batchcall"}]}
        return web.Response(body=orjson.dumps(models), content_type="application/json")

    def show_health(self) -> web.Response:
        return web.Response(text="ok")


_PAGES: dict[tuple[str, str], Callable[[Sandbox], web.Response]] = {
    ("GET", "/sandbox/ledger"): Sandbox.show_ledger,
    ("GET", "/sandbox/bodies"): Sandbox.show_bodies,
    ("GET", "/models"): Sandbox.show_models,
    ("GET", "/health"): Sandbox.show_health,
}


def _not_found(sandbox: Sandbox) -> web.Response:
    body = orjson.dumps(envelope("Unknown request URL", "invalid_request_error", "unknown_url"))
    return web.Response(status=404, body=body, content_type="application/json")


def _asked(document: Any, protocol: Protocol, address: Address) -> Asked:
    """Raises BadRequest. A wrong type deep inside has no words of the vendor here, but no 500 either."""
    try:
        return protocol.read(document, address)
    except (AttributeError, KeyError, TypeError) as error:
        raise BadRequest(f"The request is invalid: {error}") from error


def _written(completion: Completion, fault: Fault | None, protocol: Protocol) -> Answer:
    """The completion in the protocol's form, spoilt and bent as the fault does, and billed as it would have been."""
    asked = completion.asked
    if fault is not None and fault.spoil is not None and not asked.has_result:
        fault.spoil(completion)
    document = protocol.render(completion)
    if fault is not None and fault.bend is not None:
        fault.bend(document, protocol)
    is_stream = asked.is_stream or (fault is not None and fault.is_stream)
    if is_stream and document.get(protocol.answers):  # what has no answers has nothing to stream
        content, headers = protocol.stream(document, completion), {"Content-Type": protocol.stream_type}
    else:
        content, headers = orjson.dumps(document), JSON
    return Answer(200, content, headers, tokens=completion.usage.total, is_billed=True)


def _key_in(request: web.BaseRequest, place: str) -> str | None:
    """The key that a header carries, or the query for a name with a question mark."""
    if place.startswith("?"):
        return request.query.get(place[1:])
    given = request.headers.get(place)
    return given.removeprefix("Bearer ") if given and place == "Authorization" else given


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
    """Serve until `stop` is set. `ready` is called with the base URL. Raises OSError when the port is taken."""
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
