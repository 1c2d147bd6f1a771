#!/usr/bin/env python3
"""Brings every package record that apt knows on this machine into data/packages.jsonl.gz. Standard library only."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).resolve().parent / "data" / "packages.jsonl.gz"
SOURCE = ["apt-cache", "dumpavail"]
TIMEOUT_S = 120
FEWEST_RECORDS = 1000  # fewer means that apt has no lists, only what is installed
LEFT_OUT = ("Status:", "Conffiles:", "Filename:", "Size:", "MD5sum:", "SHA256:", "Description-md5:")


def main(target: Path = TARGET) -> None:
    if target.exists():
        print(f"{target} already exists; remove it to get it again")
        return
    rows = list(rows_of(dump()))
    if len(rows) < FEWEST_RECORDS:
        sys.exit(f"apt-cache knows only {len(rows)} packages: run `apt-get update` first")
    write(target, rows)
    print(f"{len(rows)} package records in {target}")


def dump() -> str:
    try:
        done = subprocess.run(SOURCE, capture_output=True, timeout=TIMEOUT_S, check=True)
    except FileNotFoundError:
        sys.exit("apt-cache is not on this machine (it is Debian's and Ubuntu's); packages.jsonl needs nothing")
    except subprocess.SubprocessError as error:
        sys.exit(f"`{' '.join(SOURCE)}` failed: {error}")
    return done.stdout.decode("utf-8", errors="replace")


def rows_of(dumped: str) -> Iterator[dict[str, str]]:
    """One row per package, the first record where there are several; `text` is the record without checksums."""
    seen: set[str] = set()
    for record in dumped.split("\n\n"):
        name = record.partition("\n")[0].removeprefix("Package: ").strip()
        if name and name not in seen:
            seen.add(name)
            yield {"package": name, "text": without_checksums(record)}


def without_checksums(record: str) -> str:
    """A field is a line and the lines after it that start with a blank."""
    kept: list[str] = []
    is_kept = True
    for line in record.strip("\n").split("\n"):
        if not line.startswith((" ", "\t")):
            is_kept = not line.startswith(LEFT_OUT)
        if is_kept:
            kept.append(line)
    return "\n".join(kept)


def write(target: Path, rows: list[dict[str, str]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}")
    with gzip.open(beside, "wt", encoding="utf-8", compresslevel=6) as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    beside.replace(target)


if __name__ == "__main__":
    main()
