#!/usr/bin/env python3
"""Compares what was extracted with what the records themselves say.   python compare.py [OUTPUT_DIRECTORY]"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.dataset

HERE = Path(__file__).resolve().parent
FIELDS = (
    "package", "version", "architecture", "section", "priority", "maintainer.name", "maintainer.email", "homepage",
    "installed_size", "depends", "summary",
)  # fmt: skip


def main(output: Path) -> None:
    rows = pyarrow.dataset.dataset(output).to_table(columns=["status", "text", "arguments"]).to_pylist()
    answered = [row for row in rows if row["arguments"] is not None]
    equal = count_equal(answered)
    print(f"{len(rows)} rows, {len(answered)} answered")
    for field in FIELDS:
        print(f"{field:18}{equal[field]:8} equal{equal[field] / max(1, len(answered)):8.1%}")


def count_equal(rows: list[dict[str, Any]]) -> Counter[str]:
    equal: Counter[str] = Counter()
    for row in rows:
        truth = truth_of(row["text"])
        found = flatten(row["arguments"])
        equal.update(field for field in FIELDS if found[field] == truth[field])
    return equal


def truth_of(text: str) -> dict[str, Any]:
    """What a record says, in the words of the tool."""
    header = dict(re.findall(r"^([A-Za-z0-9-]+): *(.*)$", text, re.MULTILINE))
    name, _, address = header["Maintainer"].rpartition(" <")
    return {
        "package": header["Package"],
        "version": header["Version"],
        "architecture": header["Architecture"],
        "section": header.get("Section"),
        "priority": header.get("Priority"),
        "maintainer.name": name.strip('"'),
        "maintainer.email": address.rstrip(">"),
        "homepage": header.get("Homepage"),
        "installed_size": int(header.get("Installed-Size", 0)),
        "depends": depends_of(header.get("Depends", "")),
        "summary": header.get("Description"),
    }


def depends_of(line: str) -> list[str]:
    """Names alone: `libc6 (>= 2.34), debconf | debconf-2.0` is libc6, debconf."""
    return [re.split(r"[ (|:]", part.strip())[0] for part in line.split(",") if part.strip()]


def flatten(arguments: Mapping[str, Any]) -> dict[str, Any]:
    maintainer = arguments["maintainer"] or {}
    return {
        **arguments,
        "maintainer.name": maintainer.get("name"),
        "maintainer.email": maintainer.get("email"),
        "depends": [needed["package"] for needed in arguments["depends"] or []],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "out" / "packages")
