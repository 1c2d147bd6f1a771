"""A file system in memory that can lose what a real one may lose: it stands in for `files.disk.RealDisk`.

A power cut keeps, of every file, what was synced and any prefix of what was written since; and of the names in
folders, what was synced and any subset of what was made, renamed and removed since. Renaming is one act that is
durable when the target's folder is synced. A killed process loses nothing, but what was not synced stays unsynced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

import pyarrow as pa


class Crash(BaseException):
    """The machine went down in the middle. Nothing that runs afterwards reaches the disk."""


@dataclass(eq=False, slots=True)
class File:
    durable: bytes = b""
    content: bytes = b""
    pending: list[bytes | int] = field(default_factory=list)  # since the last sync: bytes appended, or a length cut to
    reserved_to: int = 0
    is_forsaken: bool = False  # a sync has failed: later ones say success, and what was dirty then is not written

    def survivor(self, dice: random.Random, keeps: float) -> bytes:
        """What a power cut leaves: a prefix of what was done since the last sync."""
        left = self.durable
        if self.is_forsaken:
            return left
        for act in self.pending:
            if dice.random() >= keeps:
                return left + act[: dice.randrange(len(act) + 1)] if isinstance(act, bytes) else left
            left = left + act if isinstance(act, bytes) else left[:act]
        return left


@dataclass(eq=False, slots=True)
class Folder:
    names: dict[str, Node] = field(default_factory=dict)
    durable: dict[str, Node] = field(default_factory=dict)


Node = File | Folder


@dataclass(slots=True)
class Renaming:
    """One unsynced act on names: `node` appears as `name` in `folder`, and no longer as `old` in `source`."""

    folder: Folder | None
    name: str
    node: Node | None
    source: Folder | None = None
    old: str = ""

    def happen(self) -> None:
        if self.source is not None:
            self.source.durable.pop(self.old, None)
        if self.folder is not None and self.node is not None:
            self.folder.durable[self.name] = self.node

    @property
    def home(self) -> Folder | None:
        return self.folder if self.folder is not None else self.source


@dataclass(eq=False, slots=True)
class Handle:
    file: File
    path: Path


class ModelDisk:
    """See the module. `before` is called ahead of each act that changes something, with name and path; it may raise."""

    def __init__(self, home: Path, *, capacity: int | None = None) -> None:
        """`home` exists from the start; everything lies beneath it. `capacity` in bytes; None: no end of room."""
        self.home = home
        self.capacity = capacity
        self.guard: Callable[[], None] = lambda: None
        self.before: Callable[[str, Path], None] = lambda act, path: None
        self.failing_sync: str | None = None  # the next sync of the file of this name fails, and its pages are dropped
        self.left_out: frozenset[str] = frozenset()  # syncs that do nothing, by who asks for them
        self.syncs: set[str] = set()  # who asked for syncs
        self._root = Folder()
        self._prefix = str(home)
        self._pending: list[Renaming] = []
        self._handles: dict[int, Handle] = {}
        self._last_handle = 1000

    # What may be asked of a disk

    def make_folder(self, folder: Path) -> None:
        self.before("make_folder", folder)
        parent = self._folder(folder.parent)
        if folder.name not in parent.names:
            self._name(parent, folder.name, Folder())

    def names(self, folder: Path) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(self._folder(folder).names)
        return []

    def exists(self, path: Path) -> bool:
        return self._find(path) is not None

    def is_folder(self, path: Path) -> bool:
        return isinstance(self._find(path), Folder)

    def is_link(self, path: Path) -> bool:
        return False

    def read(self, path: Path) -> bytes:
        return self._file(path).content

    def open_read(self, path: Path) -> pa.NativeFile:
        return pa.BufferReader(self._file(path).content)

    def open_append(self, path: Path) -> int:
        found = self._find(path)
        if found is None:
            self.before("open_append", path)
            found = File()
            self._name(self._folder(path.parent), path.name, found)
        assert isinstance(found, File)
        return self._open(found, path)

    def create(self, path: Path) -> int:
        self.before("create", path)
        found = self._find(path)
        if found is None:
            found = File()
            self._name(self._folder(path.parent), path.name, found)
        assert isinstance(found, File)
        if found.content:
            found.content = b""
            found.pending.append(0)
        return self._open(found, path)

    def write(self, handle: int, content: bytes) -> int:
        file, path = self._at(handle)
        self.before("write", path)
        taken = content[: self._room(file, len(content))]
        if content and not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.content += taken
        file.pending.append(taken)
        return len(taken)

    def size(self, handle: int) -> int:
        return len(self._at(handle)[0].content)

    def stands_at(self, handle: int, path: Path) -> bool:
        return self._at(handle)[0] is self._find(path)

    def reserve(self, handle: int, offset: int, length: int) -> bool:
        file, path = self._at(handle)
        self.before("reserve", path)
        if self.capacity is None:
            return True
        grown = max(0, offset + length - max(file.reserved_to, len(file.content)))
        if grown > self.capacity - self._used():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.reserved_to = max(file.reserved_to, offset + length)
        return True

    def truncate(self, handle: int, length: int) -> None:
        file, path = self._at(handle)
        self.before("truncate", path)
        file.content = file.content[:length]
        file.reserved_to = 0
        file.pending.append(length)

    def sync(self, handle: int) -> None:
        file, path = self._at(handle)
        self.before("sync", path)
        if path.name == self.failing_sync:
            self.failing_sync, file.is_forsaken = None, True
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self._is_left_out() or file.is_forsaken:
            return
        file.durable, file.pending = file.content, []

    def close(self, handle: int) -> None:
        del self._handles[handle]

    def rename(self, source: Path, target: Path) -> None:
        self.before("rename", target)
        node = self._find(source)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        old, new = self._folder(source.parent), self._folder(target.parent)
        del old.names[source.name]
        new.names[target.name] = node
        self._pending.append(Renaming(new, target.name, node, old, source.name))

    def remove(self, path: Path) -> None:
        self.before("remove", path)
        folder = self._folder(path.parent)
        if folder.names.pop(path.name, None) is not None:
            self._pending.append(Renaming(None, "", None, folder, path.name))

    def remove_folder(self, folder: Path) -> None:
        assert not self.names(folder)
        self.remove(folder)

    def sync_folder(self, folder: Path) -> None:
        self.before("sync_folder", folder)
        if self._is_left_out() or folder in self.home.parents:
            return
        synced = self._folder(folder)
        for act in [act for act in self._pending if act.home is synced]:
            act.happen()
            self._pending.remove(act)

    # What may happen to a disk

    def copy(self) -> ModelDisk:
        """The disk as it is now, on its own from here on; its handles are closed."""
        twins: dict[int, Node] = {}

        def twin(node: Node) -> Node:
            if id(node) not in twins:
                if isinstance(node, File):
                    twins[id(node)] = replace(node, pending=list(node.pending))
                else:
                    made = twins[id(node)] = Folder()
                    made.names = {name: twin(inner) for name, inner in node.names.items()}
                    made.durable = {name: twin(inner) for name, inner in node.durable.items()}
            return twins[id(node)]

        other = ModelDisk(self.home, capacity=self.capacity)
        other.left_out, other.failing_sync = self.left_out, self.failing_sync
        other._root = _as_folder(twin(self._root))
        other._pending = [
            Renaming(
                _as_folder(twin(act.folder)) if act.folder else None,
                act.name,
                twin(act.node) if act.node else None,
                _as_folder(twin(act.source)) if act.source else None,
                act.old,
            )
            for act in self._pending
        ]
        return other

    def count_unsynced(self) -> int:
        """Acts that a power cut may or may not lose."""
        files = [node for folder in _folders(self._root) for node in folder.names.values() if isinstance(node, File)]
        return len(self._pending) + sum(len(file.pending) for file in files)

    def cut_power(self, dice: random.Random, *, keeps: float) -> None:
        """Lose what a power cut may lose; each unsynced act survives with a chance of `keeps`."""
        for act in self._pending:
            if dice.random() < keeps:
                act.happen()
        self._pending.clear()
        self._handles.clear()
        for folder in list(_folders(self._root)):
            folder.names = dict(folder.durable)
        for folder in _folders(self._root):
            for file in [node for node in folder.names.values() if isinstance(node, File)]:
                file.durable = file.content = file.survivor(dice, keeps)
                file.pending, file.reserved_to, file.is_forsaken = [], 0, False

    def flip_bit(self, path: Path, place: int) -> None:
        """Damage on the medium."""
        file = self._file(path)
        content = bytearray(file.content)
        content[place % len(content)] ^= 1 << (place % 8)
        file.durable = file.content = bytes(content)
        file.pending = []

    def tree(self) -> dict[Path, bytes]:
        """Every file, by path."""
        return dict(self._files(self._root, self.home))

    # How it is done

    def _files(self, folder: Folder, path: Path) -> Iterator[tuple[Path, bytes]]:
        for name, node in folder.names.items():
            if isinstance(node, File):
                yield path / name, node.content
            else:
                yield from self._files(node, path / name)

    def _used(self) -> int:
        files = [node for folder in _folders(self._root) for node in folder.names.values() if isinstance(node, File)]
        return sum(max(len(file.content), file.reserved_to) for file in files)

    def _room(self, file: File, wanted: int) -> int:
        if self.capacity is None:
            return wanted
        own = max(0, file.reserved_to - len(file.content))
        return min(wanted, own + max(0, self.capacity - self._used()))

    def _is_left_out(self) -> bool:
        label = _who_asks()
        self.syncs.add(label)
        return label in self.left_out

    def _name(self, folder: Folder, name: str, node: Node) -> None:
        folder.names[name] = node
        self._pending.append(Renaming(folder, name, node))

    def _open(self, file: File, path: Path) -> int:
        self._last_handle += 1
        self._handles[self._last_handle] = Handle(file, path)
        return self._last_handle

    def _at(self, handle: int) -> tuple[File, Path]:
        found = self._handles[handle]
        return found.file, found.path

    def _find(self, path: Path) -> Node | None:
        node: Node | None = self._root
        for name in str(path)[len(self._prefix) :].split("/"):
            if name:
                node = node.names.get(name) if isinstance(node, Folder) else None
        return node

    def _folder(self, path: Path) -> Folder:
        found = self._find(path)
        if not isinstance(found, Folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return found

    def _file(self, path: Path) -> File:
        found = self._find(path)
        if not isinstance(found, File):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return found


def _as_folder(node: Node) -> Folder:
    assert isinstance(node, Folder)
    return node


def _folders(root: Folder) -> Iterator[Folder]:
    yield root
    for node in {id(node): node for node in (*root.names.values(), *root.durable.values())}.values():
        if isinstance(node, Folder):
            yield from _folders(node)


def _who_asks() -> str:
    """The sync that is being asked for, by the functions of batchcall that lead to it: `whole_file < write_part`."""
    names: list[str] = []
    frame: FrameType | None = sys._getframe(3)
    what = sys._getframe(2).f_code.co_name
    while frame is not None and len(names) < 4:
        module = frame.f_globals.get("__name__", "")
        name = frame.f_code.co_name
        if module.startswith("batchcall.") and (not names or names[-1] != name):
            names.append(name)
            is_asked_for = module.startswith(("batchcall.disk", "batchcall.output"))
            if not is_asked_for or name == "_sync_now":  # that is one sync, whoever wants it
                break
        frame = frame.f_back
    return f"{what}: {' < '.join(names)}"
