"""An endpoint that answers as a test says."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson
from aiohttp import web


@contextlib.asynccontextmanager
async def serving(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server on a free port of this machine; its URL without a path."""
    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def endpoint(arguments_of: Callable[[str], str]) -> AsyncIterator[str]:
    """Answers each prompt with one call, whose arguments `arguments_of` gives."""

    async def handle(request: web.BaseRequest) -> web.Response:
        asked = orjson.loads(await request.read())
        arguments = arguments_of(asked["messages"][-1]["content"])
        call = {"id": "c", "type": "function", "function": {"name": "record_person", "arguments": arguments}}
        choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}
        usage = {"prompt_tokens": 9, "completion_tokens": 16, "total_tokens": 25}
        return web.json_response({"id": "r", "model": "m", "choices": [choice], "usage": usage})

    async with serving(handle) as url:
        yield f"{url}/v1"
