"""A real model with real failures, in the three protocols that llama-server speaks. `scripts/real-model` does 200 rows.

Skipped where the model is not installed: 200 MB that only this file needs.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from batchcall import run_job, verify_output
from real_model import KEY, ModelServer, model_server, some_packages, why_no_model
from running import results, write_rows

pytestmark = pytest.mark.skipif(why_no_model() is not None, reason=why_no_model() or "")

ROWS = int(os.environ.get("BATCHCALL_REAL_ROWS", "2"))
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "version": {"type": "string", "maxLength": 20},
        "kind": {"type": "string", "enum": ["library", "tool", "plugin", "other"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["name", "version", "kind", "stars"],
    "additionalProperties": False,
}
# What llama.cpp's grammars do not know, so that the model is free to get it wrong.
FREE: dict[str, Any] = {
    **SCHEMA,
    "properties": {
        **SCHEMA["properties"],
        "stars": {"type": "integer", "multipleOf": 5},
        "name": {"type": "string", "maxLength": 40, "not": {"pattern": "[A-Z]"}},
    },
}
JOB = """
[input]
path = "rows.jsonl"
[endpoint]
url = "{url}"
protocol = "{protocol}"
api_key = "env:REAL_MODEL_KEY"
[request]
model = "smollm2"
system = "You record what a package is."
prompt = "{{{{ text }}}}"
tool_choice = "required"
parallel_tool_calls = false
temperature = 0
max_tokens = 96
[[tool]]
name = "record_package"
description = "Record a package."
file = "tool.json"
[limits]
concurrency = 4
timeout = "5m"
[validate]
reask = {reask}
[output]
path = "out"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    with model_server(tmp_path_factory.mktemp("real") / "llama-server.log") as running:
        yield running


async def ran(
    folder: Path, server: ModelServer, protocol: str, schema: dict[str, Any], *, count: int = ROWS, reask: int = 0
) -> list[dict[str, Any]]:
    """The rows of a job, whose tokens are those that the server has counted."""
    function = {"name": "record_package", "description": "Record a package.", "parameters": schema}
    (folder / "tool.json").write_text(json.dumps({"type": "function", "function": function}))
    (folder / "job.toml").write_text(
        JOB.replace('name = "record_package"\ndescription = "Record a package."\n', "").format(
            url=server.url, protocol=protocol, reask=reask
        )
    )
    write_rows(folder / "rows.jsonl", some_packages(count))
    before = server.counted()

    summary = await run_job(folder / "job.toml")

    after = server.counted()
    rows = results(folder / "out")
    print(protocol, Counter(row["status"] for row in rows), f"{summary.seconds:.0f} s, {summary.requests} requests")
    assert len(rows) == count
    assert summary.requests == sum(row["attempts"] for row in rows)
    assert verify_output(folder / "out").faults == []
    told = [sum(row[name] for row in rows) for name in ("prompt_tokens", "completion_tokens")]
    assert told == [now - then for now, then in zip(after, before, strict=True)]
    return rows


@pytest.mark.parametrize("protocol", ["openai-chat", "openai-responses", "anthropic"])
async def test_a_real_models_calls_are_valid_and_its_tokens_counted(
    tmp_path: Path, server: ModelServer, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REAL_MODEL_KEY", KEY)

    rows = await ran(tmp_path, server, protocol, SCHEMA)

    statuses = Counter(row["status"] for row in rows)
    assert statuses.keys() <= {"ok", "truncated"}  # a small model may go on and on
    assert statuses["ok"] >= ROWS / 2
    for row in rows:
        if row["status"] == "ok":
            jsonschema_rs.validate(SCHEMA, row["arguments"])
            assert (row["tool"], row["attempts"], row["http_status"]) == ("record_package", 1, 200)


async def test_what_a_real_model_gets_wrong_is_asked_again(
    tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REAL_MODEL_KEY", KEY)

    rows = await ran(tmp_path, server, "openai-chat", FREE, count=2, reask=1)

    assert {row["status"] for row in rows} <= {"ok", "invalid_arguments", "truncated"}
    again = [row for row in rows if row["attempts"] == 2]
    assert again
    assert all(row["status"] != "invalid_arguments" or row["attempts"] == 2 for row in rows)
    assert all(
        "/stars" in row["error"] or "/name" in row["error"] for row in rows if row["status"] == "invalid_arguments"
    )
    for row in rows:
        if row["status"] == "ok":
            jsonschema_rs.validate(FREE, row["arguments"])
