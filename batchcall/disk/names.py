"""What the files of an output are called. Below `_batchcall` no name ends in `.parquet`: a reader that takes every such
file of a tree, as DuckDB does for `out/**/*.parquet`, would count raw answers and parts set aside as rows."""

from __future__ import annotations

import re
from pathlib import Path

from batchcall.disk.disk import Disk

REHEARSAL = "-rehearsal"  # behind the name of the output of a rehearsal
ANSWERS_FOLDER = "answers"  # in `_batchcall`, and in each generation of what was set aside
DAMAGED_FOLDER = "damaged"
EARLIER = "earlier"
_PART = re.compile(r"part-(\d{6,})\.parquet")
_ANSWERS = re.compile(r"part-(\d{6,})\.(?:answers|parquet)")
_ASIDE = re.compile(r"part-(\d{6,})\.(?:aside|parquet)")


def part_name(number: int) -> str:
    """A part where it is published. It is Parquet."""
    return f"part-{number:06d}.parquet"


def answers_name(number: int) -> str:
    """The raw answers of a part. They are Parquet as well."""
    return f"part-{number:06d}.answers"


def aside_name(number: int) -> str:
    """A part that was set aside or is damaged."""
    return f"part-{number:06d}.aside"


def part_number(name: str) -> int | None:
    """The number in a part's file name, None for any other name."""
    return _number(_PART, name)


def aside_number(name: str) -> int | None:
    """The number in the file name of a part that was set aside, by this or an older version."""
    return _number(_ASIDE, name)


def _number(form: re.Pattern[str], name: str) -> int | None:
    found = form.fullmatch(name)
    return int(found[1]) if found else None


def part_numbers(disk: Disk, folder: Path) -> list[int]:
    """The numbers of the parts that stand in a folder, in order."""
    return sorted(number for name in disk.names(folder) if (number := part_number(name)) is not None)


def answers_in(disk: Disk, folder: Path) -> dict[int, Path]:
    """The raw answers in an output's own folder or a generation, by part number, in order. Older versions gave them the
    names of parts; where both stand, the present name has the newer file."""
    found: dict[int, Path] = {}
    for name in sorted(disk.names(folder / ANSWERS_FOLDER), reverse=True):
        if (number := _number(_ANSWERS, name)) is not None:
            found[number] = folder / ANSWERS_FOLDER / name
    return dict(sorted(found.items()))


def rename_old_files(disk: Disk, folder: Path) -> None:
    """Give the files of an older version, in an output's own folder or a generation, their present names.

    Raises OSError. The caller holds the lock and syncs the folders.
    """
    for place, name_of in ((ANSWERS_FOLDER, answers_name), (DAMAGED_FOLDER, aside_name), ("", aside_name)):
        for number in part_numbers(disk, folder / place):
            source, target = folder / place / part_name(number), folder / place / name_of(number)
            if disk.exists(target):  # written since, with all that the old one holds
                disk.remove(source)
            else:
                disk.rename(source, target)
