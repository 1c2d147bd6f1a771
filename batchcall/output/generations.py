"""Parts that no longer fit, set aside in `_batchcall/earlier/NNNN`: moved, never just deleted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from batchcall.disk import ANSWERS_FOLDER, EARLIER, Disk, answers_name, aside_name, ensure_folder, part_name
from batchcall.output.journal import journals_in


def set_aside(disk: Disk, folder: Path, own: Path, numbers: Iterable[int]) -> None:
    """Move parts with their answers and journals to a new generation under `earlier`. Raises OSError.

    A journal goes first: while its part stands, a crash leaves nothing that the next run does not move as well.
    """
    target = new_generation(disk, own)
    journals = journals_in(disk, own)
    for number in numbers:
        moves = [(journal, target / journal.name) for journal in journals.get(number, ())]
        answers = Path(ANSWERS_FOLDER) / answers_name(number)
        moves.append((own / answers, target / answers))
        moves.append((folder / part_name(number), target / aside_name(number)))
        # A run that was killed has not synced its last answers, and this file is never written again.
        for journal in journals.get(number, ()):
            handle = disk.open_append(journal)
            try:
                disk.sync(handle)
            finally:
                disk.close(handle)
        for source, goal in moves:
            if disk.exists(source):
                disk.rename(source, goal)
    disk.sync_folder(target / ANSWERS_FOLDER)
    disk.sync_folder(target)


def new_generation(disk: Disk, own: Path) -> Path:
    last = max((int(folder.name) for folder in numbered_generations(disk, own)), default=0)
    folder = own / EARLIER / f"{last + 1:04d}"
    ensure_folder(disk, folder / ANSWERS_FOLDER)
    return folder


def has_earlier(disk: Disk, own: Path) -> bool:
    """Whether anything was ever set aside."""
    return bool(numbered_generations(disk, own))


def numbered_generations(disk: Disk, own: Path) -> list[Path]:
    """The folder of each generation, oldest first."""
    earlier = own / EARLIER
    return [earlier / name for name in disk.names(earlier) if name.isdigit()]


def generations(disk: Disk, own: Path) -> list[Path]:
    """The folders of all generations with those of their answers; what holds them comes first."""
    numbered = numbered_generations(disk, own)
    found = [own / EARLIER, *numbered, *(each / ANSWERS_FOLDER for each in numbered)]
    return [each for each in found if disk.exists(each)]
