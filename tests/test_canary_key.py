"""A key that endpoints echo in every form is nowhere afterwards: in no file, on no stream, in no log."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from batchcall import RunOptions, revalidate_job, run_job
from batchcall.job.sections import PROTOCOLS
from batchcall.sandbox.process import Settings
from killing import endpoint_process
from running import batchcall, edit, results, write_job

CANARY = 'canary-K3y+of/the"job\\Zz9=end'  # with all that base64, URLs and JSON write in ways of their own
IN_JSON = json.dumps(CANARY)[1:-1]
FORMS = {
    "plain": CANARY,
    "url": quote(CANARY, safe=""),
    "url, lower case": quote(CANARY, safe="").lower(),
    "json": IN_JSON,
    "json in json": json.dumps(IN_JSON)[1:-1],
    "json of JavaScript": IN_JSON.replace("/", "\\/"),
    "base64": base64.b64encode(CANARY.encode()).decode().rstrip("="),
    "base64 for URLs": base64.urlsafe_b64encode(CANARY.encode()).decode().rstrip("="),
    "the middle of it": 'K3y+of/the"',
    "the middle of it in a URL": "K3y%2Bof%2Fthe",
}


HOLD_COLUMNS = (".parquet", ".answers")  # parts, and the raw answers behind them


def found_in(said: bytes) -> list[str]:
    return [name for name, form in FORMS.items() if form.encode() in said]


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file as it is, and what is in the columns of those that are compressed."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()
            if path.suffix in HOLD_COLUMNS:
                yield path, as_bytes(pyarrow.parquet.read_table(path).to_pylist())


def as_bytes(value: object) -> bytes:
    """All texts and bytes in it, one after the other, as they are."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict):
        return b"\n".join(as_bytes(inner) for entry in value.items() for inner in entry)
    if isinstance(value, list):
        return b"\n".join(map(as_bytes, value))
    return b""


def test_the_search_finds_what_it_should(tmp_path: Path) -> None:
    for form in FORMS.values():
        assert found_in(b"x" + form.encode() + b"x")
    assert found_in(base64.b64encode(CANARY.encode()))
    assert found_in(as_bytes([{"a": [CANARY.encode()]}]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_key_that_is_echoed_is_in_no_file_and_on_no_stream(tmp_path: Path, protocol: str) -> None:
    faults = {"echoes_key": 0.4, "server_error": 0.1, "invalid_schema_arguments": 0.2}
    said: list[bytes] = []

    def say(*words: str | Path) -> int:
        run = batchcall(*words, CANARY_KEY=CANARY)
        said.extend((run.stdout.encode(), run.stderr.encode()))
        return run.returncode

    with endpoint_process(Settings(api_key=CANARY, faults=faults)) as endpoint:
        job = write_job(
            tmp_path,
            url=endpoint.url,
            rows=25,
            endpoint=f'protocol = "{protocol}"\napi_key = "env:CANARY_KEY"',
            more="[validate]\nreask = 1",
        )
        codes = [say("check", job), say("run", job, "--limit", "15"), say("run", job, "--log-format", "json")]
        codes += [say("run", job, "--retry-failed", "--log-format", "json")]
    with endpoint_process(Settings(faults={"echoes_bad_key": 1.0})) as refusing:
        edit(job, endpoint.url, refusing.url)
        refused = [say("run", job, "--retry-failed"), say("run", job, "--retry-failed", "--log-format", "json")]
    out = tmp_path / "out"
    codes += [say("status", out), say("status", out, "--json"), say("verify", out), say("revalidate", job)]

    assert codes[:4] == [0, 1, 1, 1]
    assert refused == [4, 4]
    assert {row["status"] for row in results(out)} >= {"ok", "request_rejected"}
    assert any("***" in (row["error"] or "") for row in results(out))  # it was there to be taken out
    hits = {f"stream {number}": found_in(text) for number, text in enumerate(said)}
    for path, content in contents(tmp_path):
        hits[str(path)] = hits.get(str(path), []) + found_in(content)
    assert {place: forms for place, forms in hits.items() if forms} == {}
    assert sum(path.suffix in HOLD_COLUMNS for path in out.rglob("*")) >= 4  # parts and answers were looked into


async def test_a_key_in_two_deltas_of_a_stream_is_in_no_text_of_the_output_whoever_reads_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "canary-0123456789-abcdef"
    monkeypatch.setenv("CANARY_KEY", key)

    async def tell_it_in_pieces(request: web.Request) -> web.Response:
        await request.read()
        told = request.headers["Authorization"].removeprefix("Bearer ")
        pieces = ['{"name": "', told[:7], told[7:15], told[15:], '", "age": 3, "', told[:20], told[20:], '": 1}']
        calls = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
        calls[0] |= {"id": "c", "function": {"name": "record_person", "arguments": pieces[0]}}
        deltas: list[dict[str, Any]] = [{"content": told[:3]}, {"content": told[3:]}]
        deltas += [{"tool_calls": [call]} for call in calls]
        chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
        body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
        return web.Response(body=body, content_type="text/event-stream")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", tell_it_in_pieces)
    async with TestServer(app, host="127.0.0.1") as server:
        url = str(server.make_url("/v1"))
        job = write_job(tmp_path, url=url, rows=4, endpoint='api_key = "env:CANARY_KEY"', request="stream = true")
        await run_job(job, RunOptions(limit=2))
        await run_job(job)
    before = results(tmp_path / "out")
    monkeypatch.delenv("CANARY_KEY")
    revalidate_job(job)

    after = results(tmp_path / "out")
    for rows in (before, after):
        assert [row["status"] for row in rows] == ["ok"] * 4
        assert {row["content"] for row in rows} == {"***"}
        assert {row["arguments"]["name"] for row in rows} == {"***"}
        assert {row["error"] for row in rows} == {"left out: no column for /*** of the arguments, see `calls`"}
    assert key.encode() not in b"".join(content for _, content in contents(tmp_path))
