"""One job by another program, as its own documentation shows it, with the same prompts, tool and number in flight.

Run by `scripts/bench rivals` in an environment of its own: bench_rivals.py RIVAL URL ROWS.jsonl TOOL.json CONCURRENCY
What a rival keeps, it keeps in the folder `rival`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module  # each is in that environment only, or is not
from pathlib import Path
from typing import Any

SYSTEM = "You read receipts."
Row = dict[str, Any]


def flexllm(url: str, rows: list[Row], tool: Row, concurrency: int) -> int:
    client = import_module("flexllm").LLMClient(
        base_url=url, model="bench", api_key="none", concurrency_limit=concurrency, max_qps=1_000_000
    )
    answers = asyncio.run(
        client.chat_batch([*map(messages, rows)], tools=[tool], output_jsonl="rival/answers.jsonl", show_progress=False)
    )
    return int(answers.success_count)


def lm_deluge(url: str, rows: list[Row], tool: Row, concurrency: int) -> int:
    program = import_module("lm_deluge")
    os.environ["NO_KEY"] = "none"
    import_module("lm_deluge.models").register_model("bench", "bench", url, "NO_KEY")
    client = program.LLMClient(
        "bench",
        max_requests_per_minute=100_000_000,
        max_tokens_per_minute=100_000_000_000,
        max_concurrent_requests=concurrency,
    )
    prompts = [program.Conversation().system(SYSTEM).user(prompt(row)) for row in rows]
    answers = client.process_prompts_sync(prompts, tools=[tool], show_progress=False)
    return sum(not answer.is_error for answer in answers)


def saturate(url: str, rows: list[Row], tool: Row, concurrency: int) -> int:
    program = import_module("saturate")

    def ask(row: Row) -> Row:
        return {"model": "bench", "messages": messages(row), "tools": [tool]}

    def parse(row: Row, answer: Row) -> Row:
        call = answer["choices"][0]["message"]["tool_calls"][0]["function"]
        return {"arguments": call["arguments"], **answer["usage"]}

    stats = program.pump(
        rows, ask, parse, endpoint=url, output="rival", window=program.Fixed(concurrency), signal_source="none"
    )
    return int(stats.rows_processed)


def prompt(row: Row) -> str:
    return f"Receipt:\n{row['text']}"


def messages(row: Row) -> list[Row]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt(row)}]


RIVALS: dict[str, tuple[str, Callable[[str, list[Row], Row, int], int]]] = {  # package on PyPI, what it keeps, how
    "flexllm": ("answers as JSONL", flexllm),
    "lm-deluge": ("nothing", lm_deluge),
    "saturate": ("Parquet, a part of 10 rows at a time", saturate),
}


def read(path: str) -> Iterator[Row]:
    with Path(path).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


if __name__ == "__main__":
    name, url, path, tool, concurrency = sys.argv[1:]
    rows = list(read(path))
    done = RIVALS[name][1](url, rows, json.loads(Path(tool).read_text()), int(concurrency))
    if done != len(rows):
        sys.exit(f"{done} of {len(rows)} rows were answered")
