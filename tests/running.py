"""Jobs to run in tests: a folder with a job file, a tool and rows, and ways to look at what came out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.dataset

from batchcall.sandbox.process import SandboxProcess
from forked import run_to_end

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "record_person",
        "description": "Record a person.",
        "parameters": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "age": {"type": "integer", "minimum": 0, "maximum": 130},
                "languages": {"type": "array", "items": {"type": "string"}},
                "address": {
                    "type": ["object", "null"],
                    "properties": {"city": {"type": "string"}, "zip": {"type": ["string", "null"]}},
                    "required": ["city"],
                },
            },
            "required": ["name", "age"],
        },
    },
}

JOB = """
[input]
path = "rows.jsonl"

[endpoint]
url = "{url}"
{endpoint}

[request]
model = "test-model"
prompt = "Who is this?\\n{{{{ text }}}}"
{request}

[[tool]]
file = "tool.json"

[limits]
concurrency = 8
{limits}

[output]
path = "out"
part_rows = {part_rows}
{output}

{more}
"""


def some_rows(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"id": f"r{index}", "text": f"Ada number {index}, aged {index % 90}"} for index in range(start, start + count)
    ]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_job(
    folder: Path,
    *,
    url: str = "sandbox",
    rows: int = 25,
    part_rows: int = 10,
    endpoint: str = "",
    request: str = "",
    limits: str = "",
    output: str = "",
    more: str = "",
    tool: Mapping[str, Any] = TOOL,
) -> Path:
    """A complete job in `folder`; each argument is put into its section. Returns the job file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tool.json").write_text(json.dumps(tool), encoding="utf-8")
    write_rows(folder / "rows.jsonl", some_rows(rows))
    job = folder / "job.toml"
    job.write_text(
        JOB.format(
            url=url, endpoint=endpoint, request=request, limits=limits, output=output, part_rows=part_rows, more=more
        ),
        encoding="utf-8",
    )
    return job


def edit(job: Path, old: str, new: str) -> None:
    """Change the job file; the old text must be there."""
    text = job.read_text(encoding="utf-8")
    assert old in text
    job.write_text(text.replace(old, new), encoding="utf-8")


def results(folder: Path) -> list[dict[str, Any]]:
    """The rows of an output as any reader of Parquet sees them."""
    rows: list[dict[str, Any]] = pyarrow.dataset.dataset(folder, format="parquet").to_table().to_pylist()
    return rows


async def requests_to(endpoint: SandboxProcess) -> int:
    return int((await endpoint.ledger())["requests"])


def command(*words: str | Path, env: Mapping[str, str] | None = None) -> list[str]:
    """The command line of batchcall in this very Python."""
    return [sys.executable, "-m", "batchcall", *map(str, words)]


def batchcall(*words: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; at most two minutes. What only a new interpreter sees gets one."""
    whole_env = {**os.environ, **env}
    if not any(name.startswith(("PYTHON", "LC_", "LANG")) for name in env):
        return run_to_end([str(word) for word in words], cwd=cwd, env=whole_env, seconds=120)
    return subprocess.run(
        command(*words),
        cwd=cwd,
        env=whole_env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
