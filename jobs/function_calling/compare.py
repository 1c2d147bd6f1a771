#!/usr/bin/env python3
"""Counts the calls that the leaderboard's answers accept, by category.   python compare.py [OUTPUT_DIRECTORY]"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.dataset

HERE = Path(__file__).resolve().parent
ABSENT = ""  # among the accepted values: the argument may be left out


def main(output: Path) -> None:
    columns = ["category", "answers", "calls"]
    rows = pyarrow.dataset.dataset(output).to_table(columns=columns).to_pylist()
    asked = Counter(row["category"] for row in rows)
    named = Counter(row["category"] for row in rows if has_right_names(row))
    accepted = Counter(row["category"] for row in rows if is_accepted(row))
    print(f"{'':24}{'asked':>8}{'right functions':>17}{'accepted':>10}")
    for category, count in asked.items():
        print(f"{category:24}{count:8}{named[category]:17}{accepted[category]:10}")
    print(f"{'all':24}{asked.total():8}{named.total():17}{accepted.total():10}")


def has_right_names(row: dict[str, Any]) -> bool:
    return sorted(call["name"] for call in row["calls"] or []) == sorted(
        name for answer in json.loads(row["answers"]) for name in answer
    )


def is_accepted(row: dict[str, Any]) -> bool:
    """Each answer is met by one call, in any order, and no call is left over."""
    left = list(row["calls"] or [])
    for answer in json.loads(row["answers"]):
        met = next((call for call in left if meets(call, answer)), None)
        if met is None:
            return False
        left.remove(met)
    return not left


def meets(call: dict[str, Any], answer: dict[str, Any]) -> bool:
    accepted = answer.get(call["name"])
    if accepted is None:
        return False
    try:
        found = json.loads(call["arguments"])
    except ValueError:
        return False
    return isinstance(found, dict) and all_accepted(found, accepted)


def all_accepted(found: dict[str, Any], accepted: dict[str, list[Any]]) -> bool:
    return found.keys() <= accepted.keys() and all(
        one_accepted(found[name], values) if name in found else ABSENT in values for name, values in accepted.items()
    )


def one_accepted(value: Any, accepted: list[Any]) -> bool:
    return any(is_equal(value, candidate) for candidate in accepted)


def is_equal(value: Any, candidate: Any) -> bool:
    """As the leaderboard compares: text without case, blanks and `,./-_*^`; the values of an object are lists again."""
    if isinstance(value, str) and isinstance(candidate, str):
        return plain(value) == plain(candidate)
    if isinstance(value, list) and isinstance(candidate, list):
        return len(value) == len(candidate) and all(map(is_equal, value, candidate))
    if isinstance(value, dict) and isinstance(candidate, dict):
        return all_accepted(value, candidate)
    return isinstance(value, bool) == isinstance(candidate, bool) and bool(value == candidate)


def plain(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "out" / "function_calling")
