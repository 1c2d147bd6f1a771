"""Whole runs against an endpoint that says no on a real socket: quotas, waits in the body, 424, empty answers, and a
gateway that takes two requests at the same time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from batchcall import ExitCode, run_job
from running import edit, results, write_job

ARGUMENTS = '{"name": "Ada", "age": 36}'
CALL = {"id": "c1", "type": "function", "function": {"name": "record_person", "arguments": ARGUMENTS}}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
NO_TOKENS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
SPENT = {
    "error": {
        "message": "Rate limit exceeded: free-models-per-day",
        "metadata": {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4070908800000"}},  # 2099
    }
}
Said = tuple[int, dict[str, str], Any]


def completion(*calls: Any, content: str | None = None, usage: Any = USAGE) -> Any:
    message = {"role": "assistant", "content": content, "tool_calls": list(calls)}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


GOOD: Said = (200, {}, completion(CALL))


@dataclass
class Says:
    """Answers as `say` decides from how many requests came before; counts them."""

    say: Callable[[int], Said]
    latency_s: float = 0.0
    at_s: list[float] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.at_s.append(asyncio.get_running_loop().time())
        status, headers, body = self.say(len(self.at_s) - 1)
        if status == 200:
            await asyncio.sleep(self.latency_s)
        return web.json_response(body, status=status, headers=headers)


@asynccontextmanager
async def served(endpoint: Says) -> AsyncIterator[Says]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", endpoint.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield endpoint
    finally:
        await runner.cleanup()


async def test_a_used_up_quota_stops_the_run_with_the_time_and_the_next_run_goes_on(tmp_path: Path) -> None:
    is_renewed = False
    async with served(Says(lambda number: GOOD if is_renewed or number < 2 else (429, {}, SPENT))) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=12)

        stopped = await run_job(job)
        sent = len(endpoint.at_s)
        is_renewed = True
        finished = await run_job(job)

    said, record = stopped.as_json(), json.loads((tmp_path / "out" / "_batchcall" / "run.json").read_text())
    assert stopped.exit_code == ExitCode.STOPPED_EARLY
    assert sent <= 2 + 8  # what was in flight, nothing twice
    assert (said["resume_at"], said["resume_at_is_stated"]) == ("2099-01-01T00:00:00+00:00", True)
    assert "until 2099-01-01 00:00 UTC" in stopped.reason
    assert "after 2099-01-01 00:00 UTC" in stopped.hint
    assert [run["resume_at"] for run in record["runs"]] == ["2099-01-01T00:00:00+00:00", None]
    assert said["rows"] == 2  # the others stay unmarked
    assert finished.exit_code == ExitCode.OK
    assert {row["status"] for row in results(tmp_path / "out")} == {"ok"}
    assert len(endpoint.at_s) == sent + 10


async def test_of_a_pool_the_endpoint_whose_quota_is_used_up_leaves_and_the_others_go_on(tmp_path: Path) -> None:
    async with served(Says(lambda number: (429, {}, SPENT))) as spent, served(Says(lambda number: GOOD)) as good:
        job = write_job(tmp_path, url=spent.url, rows=12)
        edit(job, "[endpoint]", "[[endpoint]]")
        edit(job, "[request]", f'[[endpoint]]\nurl = "{good.url}"\n\n[request]')

        summary = await run_job(job)

    assert summary.exit_code == ExitCode.OK
    assert summary.resume_at is None
    assert len(spent.at_s) == 1
    assert {row["endpoint"] for row in results(tmp_path / "out")} == {good.url}


async def test_of_a_pool_whose_quotas_are_all_used_up_the_first_time_counts(tmp_path: Path) -> None:
    sooner = (429, {"retry-after": "7200"}, {"error": "no"})
    async with served(Says(lambda number: (429, {}, SPENT))) as one, served(Says(lambda number: sooner)) as other:
        job = write_job(tmp_path, url=one.url, rows=4)
        edit(job, "[endpoint]", "[[endpoint]]")
        edit(job, "[request]", f'[[endpoint]]\nurl = "{other.url}"\n\n[request]')

        summary = await run_job(job)

    assert summary.exit_code == ExitCode.STOPPED_EARLY
    assert summary.resume_at is not None
    assert summary.resume_at < "2099"


@pytest.mark.parametrize(
    ("refusal", "least_gap_s"),
    [
        ((424, {}, {"message": "Try your request again.", "originalStatusCode": 500}), 0.0),
        ((200, {}, completion(content="", usage=NO_TOKENS)), 0.0),
        ((429, {}, {"error": {"message": "Please wait 2 seconds before retrying.", "retry_after": 2}}), 2.0),
    ],
    ids=["424", "empty", "a wait in the body"],
)
async def test_what_passes_is_tried_again_when_it_was_asked_to(
    tmp_path: Path, refusal: Said, least_gap_s: float
) -> None:
    async with served(Says(lambda number: refusal if number == 1 else GOOD)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=2)

        summary = await run_job(job)

    assert summary.exit_code == ExitCode.OK
    assert [row["attempts"] for row in results(tmp_path / "out")] == [1, 2]
    assert endpoint.at_s[2] - endpoint.at_s[1] >= least_gap_s


async def test_a_model_that_always_answers_nothing_ends_its_row_with_a_status_that_says_so(tmp_path: Path) -> None:
    nothing = (200, {}, completion(content="", usage=NO_TOKENS))
    async with served(Says(lambda number: nothing)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=1)

        summary = await run_job(job)

    (row,) = results(tmp_path / "out")
    assert summary.exit_code == ExitCode.ROWS_FAILED
    assert (row["status"], row["attempts"]) == ("bad_response", 3)
    assert "the answer is empty" in row["error"]


async def test_a_key_with_two_parallel_requests_is_asked_two_at_a_time(tmp_path: Path) -> None:
    """The relay asks to wait a minute each time, although a place is free as soon as an answer is there."""
    open_now = most_open = 0
    refused = "Rate limit exceeded for api_key: k. Limit type: max_parallel_requests. Current limit: 2, Remaining: 0."

    class Key(Says):
        async def answer(self, request: web.Request) -> web.Response:
            nonlocal open_now, most_open
            if open_now >= 2:
                self.say = lambda number: (429, {"retry-after": "60"}, {"error": {"message": refused, "code": "429"}})
                return await super().answer(request)
            self.say = lambda number: GOOD
            open_now += 1
            most_open = max(most_open, open_now)
            try:
                return await super().answer(request)
            finally:
                open_now -= 1

    async with served(Key(lambda number: GOOD, latency_s=0.05)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=30, limits="attempts = 2")

        summary = await run_job(job)

    assert summary.exit_code == ExitCode.OK
    assert most_open == 2
    assert len(endpoint.at_s) <= 30 + 12
    assert endpoint.at_s[-1] - endpoint.at_s[0] < 30
