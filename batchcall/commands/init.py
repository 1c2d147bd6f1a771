"""What `batchcall init` writes: a small job that runs at once on the embedded endpoint."""

from __future__ import annotations

import itertools
import json
import os
import shlex
from pathlib import Path

from batchcall.base import JobError

_JOB = """# A job to start from.   batchcall check job.toml   then   batchcall run job.toml
# All keys: `batchcall schema`, or docs/job-file.md.

[input]
path = "receipts.jsonl"
id = "receipt_id"

[endpoint]
url = "sandbox"                        # the embedded endpoint: no key, no network, no cost
# url = "https://api.openai.com/v1"    # a real one instead
# api_key = "env:OPENAI_API_KEY"

[request]
model = "gpt-4o-mini"
system = "You read receipts. Use null for what a receipt does not say."
prompt = { file = "prompt.txt" }       # Jinja over the columns of the input
temperature = 0

[[tool]]
file = "record_receipt.json"

[limits]
requests_per_minute = 500              # the limit of your account
timeout = "60s"

# max_cost = 5.00                      # USD; the run stops there, and continues when you raise it. Needs prices:
# [prices."gpt-4o-mini"]               # USD per million tokens
# prompt = 0.15
# completion = 0.60

[validate]
reask = 1                              # ask once more with the validator's message

[output]
path = "out/receipts"
"""

_PROMPT = """Record this receipt.

{{ text }}
"""

_TOOL = {
    "type": "function",
    "function": {
        "name": "record_receipt",
        "description": "Record what a receipt says.",
        "parameters": {
            "type": "object",
            "properties": {
                "merchant": {"type": "string", "description": "Who sold"},
                "date": {"type": ["string", "null"], "description": "Day of sale, as 2026-01-31"},
                "total": {"type": "number", "minimum": 0},
                "currency": {"type": "string", "enum": ["EUR", "USD", "GBP"]},
                "items": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "price": {"type": "number"}},
                        "required": ["name", "price"],
                        "additionalProperties": False,
                    },
                },
            },
            "required": ["merchant", "date", "total", "currency", "items"],
            "additionalProperties": False,
        },
    },
}

_GOODS = ("Espresso", "Croissant", "Rye bread", "Marmalade", "Apples", "Postcard", "Ink", "Notebook", "Tea", "Honey")
_MERCHANTS = ("Cafe Lumen", "Corner Bakery", "Field & Garden", "Paper Moon", "Harbour Tea Room")


def write_starter(folder: Path) -> list[Path]:
    """Write a job, its tool, its prompt and ten rows into `folder`; returns the files, the job first.

    Raises JobError rather than overwrite anything.
    """
    files = {
        "job.toml": _JOB,
        "prompt.txt": _PROMPT,
        "record_receipt.json": json.dumps(_TOOL, indent=2) + "\n",
        "receipts.jsonl": "".join(json.dumps(_receipt(number)) + "\n" for number in range(10)),
    }
    there = [name for name in files if os.path.lexists(folder / name)]
    if there:
        like = folder if folder.name not in ("", "..") else Path("my-job")
        names = itertools.chain([like], (like.with_name(f"{like.name}-{number}") for number in itertools.count(2)))
        free = next(name for name in names if not os.path.lexists(name))
        hint = f"choose a new folder: batchcall init {shlex.quote(str(free))}"
        raise JobError(f"{folder / there[0]} already exists", hint=hint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with (folder / name).open("x", encoding="utf-8", newline="\n") as file:
                file.write(content)
    except OSError as error:
        raise JobError(f"{folder} cannot be written: {error.strerror}") from error
    return [folder / name for name in files]


def _receipt(number: int) -> dict[str, str]:
    merchant = _MERCHANTS[number % len(_MERCHANTS)]
    goods = [(_GOODS[(number + step) % len(_GOODS)], 1.2 + number * 0.4 + step) for step in range(1 + number % 3)]
    lines = [f"{name}  {price:.2f}" for name, price in goods]
    total = sum(price for _, price in goods)
    text = "\n".join([merchant, f"Date: 2026-03-{number + 1:02}", *lines, f"Total: {total:.2f} EUR"])
    return {"receipt_id": f"r{number:03}", "text": text}
