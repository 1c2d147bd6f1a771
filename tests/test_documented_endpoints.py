"""The five reference endpoints: their documented request is produced from a row and a job, their answer understood."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from answering import serving
from batchcall import run_job
from running import results, write_rows

EXAMPLES = Path(__file__).parent / "dialects" / "examples"
ENDS = {"vapi": "ok", "vapi-reference": "ok", "tutujin": "ok", "winfull": "no_call", "yunwu": "no_call"}


@contextlib.asynccontextmanager
async def endpoint(answer: bytes, asked: list[tuple[dict[str, str], bytes]]) -> AsyncIterator[str]:
    """Answers every request with one documented answer, and keeps what it was asked."""

    async def handle(request: web.BaseRequest) -> web.Response:
        asked.append((dict(request.headers), await request.read()))
        return web.Response(body=answer, content_type="application/json")

    async with serving(handle) as url:
        yield f"{url}/v1"


def write_job(folder: Path, url: str, request: str, *, endpoint: str = "") -> None:
    parts = ['[input]\npath = "rows.jsonl"', f'[endpoint]\nurl = "{url}"', endpoint, request, '[output]\npath = "out"']
    (folder / "job.toml").write_text("\n".join(parts))


def example(name: str, kind: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((EXAMPLES / f"{name}.{kind}.json").read_bytes())
    return read


def as_columns(name: str, folder: Path) -> str:
    """The parts of the request from columns of the row."""
    request = example(name, "request")
    row = {key: request[key] for key in ("messages", "tools", "tool_choice") if key in request}
    write_rows(folder / "rows.jsonl", [row])
    columns = ", ".join(f'{key} = "{key}"' for key in row)
    return f'[request]\nmodel = "{request["model"]}"\ncolumns = {{ {columns} }}'


def as_batch_file(name: str, folder: Path) -> str:
    """The request as a row of a batch file."""
    row = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": example(name, "request")}
    write_rows(folder / "rows.jsonl", [row])
    return ""


def as_messages(name: str, folder: Path) -> str:
    """Messages and tool in the job file, a column in the template."""
    request = example(name, "request")
    last = request["messages"][-1]["content"]
    write_rows(folder / "rows.jsonl", [{"question": last}])
    messages = [*request["messages"][:-1], {"role": "user", "content": "{{ question }}"}]
    (folder / "tool.json").write_text(json.dumps(request["tools"][0]))
    written = "\n".join(
        f"[[request.messages]]\nrole = {json.dumps(m['role'])}\ncontent = {json.dumps(m['content'])}" for m in messages
    )
    return f'[request]\nmodel = "{request["model"]}"\n{written}\n[[tool]]\nfile = "tool.json"'


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("way", [as_columns, as_batch_file])
async def test_the_documented_request_is_sent_and_its_answer_understood(tmp_path: Path, name: str, way: Any) -> None:
    asked: list[tuple[dict[str, str], bytes]] = []
    async with endpoint((EXAMPLES / f"{name}.response.json").read_bytes(), asked) as url:
        write_job(tmp_path, url, way(name, tmp_path))
        await run_job(tmp_path / "job.toml")

    ((headers, body),) = asked
    assert body == json.dumps(example(name, "request"), separators=(",", ":"), ensure_ascii=False).encode()
    assert headers["Accept"] == "application/json"
    assert headers["Content-Type"] == "application/json"
    (row,) = results(tmp_path / "out")
    assert row["status"] == ENDS[name]
    check_outcome(name, row)


@pytest.mark.parametrize("name", ENDS)
async def test_the_same_from_a_template_and_a_tool_of_the_job(tmp_path: Path, name: str) -> None:
    asked: list[tuple[dict[str, str], bytes]] = []
    async with endpoint((EXAMPLES / f"{name}.response.json").read_bytes(), asked) as url:
        write_job(tmp_path, url, as_messages(name, tmp_path))
        await run_job(tmp_path / "job.toml")

    sent, documented = json.loads(asked[0][1]), example(name, "request")
    chosen = sent.pop("tool_choice")  # the tool, where the job says nothing
    documented.pop("tool_choice", None)
    assert sent == documented
    assert chosen["function"]["name"] == documented["tools"][0]["function"]["name"]
    assert results(tmp_path / "out")[0]["status"] == ENDS[name]


def check_outcome(name: str, row: dict[str, Any]) -> None:
    """What the row says is what the endpoint said."""
    answer = example(name, "response")
    message = answer["choices"][0]["message"]
    assert row["finish_reason"] == answer["choices"][0]["finish_reason"]
    assert row["total_tokens"] == answer["usage"]["total_tokens"]
    assert row["model"] == answer.get("model")
    assert row["system_fingerprint"] == answer.get("system_fingerprint")
    call = (message.get("tool_calls") or [{"function": message.get("function_call")}])[0]["function"]
    if call is None:
        assert row["content"] == message["content"]
        assert row["calls"] == []
    else:
        assert row["tool"] == call["name"]
        assert row["calls"][0]["arguments"] == call["arguments"]
        assert json.loads(row["arguments"]) == json.loads(call["arguments"])


@pytest.mark.parametrize(
    ("auth", "sent"),
    [
        ("", {"Authorization": "Bearer sk-test-key-1"}),
        ('auth = "x-api-key"', {"x-api-key": "sk-test-key-1", "anthropic-version": "2023-06-01"}),
        ('auth = "x-goog-api-key"', {"x-goog-api-key": "sk-test-key-1"}),
        ('auth = "header:X-Own"', {"X-Own": "sk-test-key-1"}),
        ('auth = "none"', {}),
    ],
)
async def test_a_key_goes_where_the_endpoint_looks_for_it(
    tmp_path: Path, auth: str, sent: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-test-key-1")
    asked: list[tuple[dict[str, str], bytes]] = []
    async with endpoint((EXAMPLES / "vapi.response.json").read_bytes(), asked) as url:
        request = as_batch_file("vapi", tmp_path)
        write_job(tmp_path, url, request, endpoint=f'api_key = "env:TEST_KEY"\n{auth}')
        await run_job(tmp_path / "job.toml")

    got = {name.lower(): value for name, value in asked[0][0].items()}
    assert {name: got.get(name.lower()) for name in sent} == sent
    assert sum("sk-test-key-1" in value for value in got.values()) == (1 if sent else 0)
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"sk-test-key-1" not in written
