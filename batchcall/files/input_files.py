"""Finds the files of an input: one file, a directory, a glob or a URI. Knows names and sizes, reads no file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from batchcall.errors import InputError
from batchcall.likeness import close_to

PARQUET = "parquet"
JSONL = "jsonl"


class Format(NamedTuple):
    kind: str
    compression: str | None = None


FORMATS = {
    ".parquet": Format(PARQUET),
    ".jsonl": Format(JSONL),
    ".ndjson": Format(JSONL),
    ".jsonl.gz": Format(JSONL, "gzip"),
    ".ndjson.gz": Format(JSONL, "gzip"),
    ".jsonl.zst": Format(JSONL, "zstd"),
    ".ndjson.zst": Format(JSONL, "zstd"),
}
_READABLE = ".parquet, .jsonl (.ndjson), .jsonl.gz and .jsonl.zst"
_SAMPLE_NAMES = 5  # in a hint

# What to do with files that people bring instead.
_OTHER_FORMATS = {
    ".json": "when it holds one JSON object per line, rename it to .jsonl; when it is one array: "
    "`jq -c '.[]' FILE.json > FILE.jsonl`",
    ".csv": "for example `duckdb -c \"copy 'FILE.csv' to 'FILE.parquet'\"` makes a Parquet file of it",
    ".tsv": "for example `duckdb -c \"copy 'FILE.tsv' to 'FILE.parquet'\"` makes a Parquet file of it",
    ".txt": "when it holds one JSON object per line, rename it to .jsonl",
    ".gz": "when it holds one JSON object per line, rename it to .jsonl.gz",
    ".zst": "when it holds one JSON object per line, rename it to .jsonl.zst",
}


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of an input."""

    name: str  # relative to the input's root: what a person is told
    path: str  # as its file system wants it
    size: int  # bytes
    mtime_ns: int  # since the epoch; 0 where the store does not say
    format: Format


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files of an input in the order they are read, all of one kind."""

    shown: str  # the input as the user named it, without credentials
    filesystem: Any
    files: tuple[InputFile, ...]

    @property
    def kind(self) -> str:
        return self.files[0].format.kind

    @property
    def is_remote(self) -> bool:
        """Whether a read costs a round trip, so that few large ones are better than many small ones."""
        return not isinstance(self.filesystem, fs.LocalFileSystem)


def find_files(path: str) -> FileSet:
    """The files that `path` names, sorted by name. Raises InputError when there are none, or they are a mixture."""
    shown = _without_credentials(path)
    try:
        place = _located(path)
        found = _files_at(place, shown)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{shown} cannot be opened: {reason(error)}",
            hint="the input is a file, a directory, a glob, or a URI that begins with s3://, gs://, abfs:// or file://",
        ) from error
    except UnicodeError as error:
        raise InputError(f"{shown}: the name of a file there is no UTF-8", hint="rename it, or name others") from error
    files = tuple(sorted(found, key=lambda file: file.name))
    _refuse_mixture(files, shown)
    return FileSet(shown, place.filesystem, files)


def reason(error: BaseException) -> str:
    """What a foreign exception says, in a line, without credentials."""
    number = getattr(error, "errno", None)
    text = os.strerror(number) if number else str(error).strip().partition("\n")[0]
    return _without_credentials(text)[:200] or type(error).__name__


def _without_credentials(text: str) -> str:
    """Up to the last @: the keys of S3 have slashes, and who forgets to write them as %2F meets an error that quotes
    the whole URI. And without the values of parameters that are called like secrets."""
    text = re.sub(r"//[^\s@]*:\S*@", "//***@", text)
    return _SECRET_PARAMETER.sub(r"\1***", text)


_SECRET_PARAMETER = re.compile(r"([?&][^=&\s]*(?:key|secret|token|password|sig)[^=&\s]*=)[^&\s']+", re.IGNORECASE)


class _Place(NamedTuple):
    filesystem: Any
    base: str  # a file or a directory
    pattern: tuple[str, ...]  # components below the base; empty when the path is no glob


def _located(path: str) -> _Place:
    if "://" in path:
        return _located_uri(path)
    local = fs.LocalFileSystem()
    whole = Path(os.path.abspath(path))
    if whole.exists():  # a name may well have brackets in it
        return _Place(local, whole.as_posix(), ())
    base, pattern = _split_glob(whole.as_posix(), r"[*?\[]")
    return _Place(local, base or "/", pattern)


def _located_uri(uri: str) -> _Place:
    address, mark, query = uri.partition("?")  # options of the store; so `?` is no wildcard here
    base, pattern = _split_glob(address, r"[*\[]")
    filesystem, root = fs.FileSystem.from_uri(base.replace(" ", "%20") + mark + query)
    return _Place(filesystem, root, tuple(map(unquote, pattern)))


def _split_glob(path: str, wildcards: str) -> tuple[str, tuple[str, ...]]:
    components = path.split("/")
    for position, component in enumerate(components):
        if re.search(wildcards, component):
            return "/".join(components[:position]), tuple(components[position:])
    return path, ()


def _files_at(place: _Place, shown: str) -> Iterable[InputFile]:
    if place.pattern:
        return _matching_files(place, shown)
    found = place.filesystem.get_file_info(place.base)
    if found.type == fs.FileType.Directory:
        return _files_in(place, shown)
    if found.type == fs.FileType.File:
        return [_single_file(found, shown)]
    if found.type == fs.FileType.NotFound:
        raise InputError(f"{shown} does not exist", hint=_near_names(place))
    raise InputError(
        f"{shown} is neither a file nor a directory", hint="an input is read more than once: save it first"
    )


def _single_file(found: Any, shown: str) -> InputFile:
    files = _readable([found], os.path.dirname(found.path))
    if not files:
        suffix = os.path.splitext(found.base_name)[1].lower()
        raise InputError(
            f"{shown} is not in a format that is read: {_READABLE}", hint=_OTHER_FORMATS.get(suffix, "convert it first")
        )
    return files[0]


def _files_in(place: _Place, shown: str) -> list[InputFile]:
    entries = _entries(place, place.base)
    readable = _readable(_visible(entries), place.base)
    if not readable:
        names = sorted(entry.base_name for entry in entries)
        hint = f"it holds {', '.join(names[:_SAMPLE_NAMES])}" if names else "the directory is empty"
        if any(entry.type == fs.FileType.Directory for entry in _visible(entries)):
            hint += f"; for files in folders below write {shown.rstrip('/')}/**"
        raise InputError(f"{shown} holds no input file: {_READABLE} are read", hint=hint)
    return readable


def _matching_files(place: _Place, shown: str) -> list[InputFile]:
    matches = {found.path: found for found in _expanded(place, place.base, place.pattern)}.values()
    files = [found for found in matches if found.is_file]
    if not files:  # directories only: what is in them is meant
        files = [entry for found in matches for entry in _visible(_entries(place, found.path)) if entry.is_file]
    readable = _readable(files, place.base)
    if not readable:
        names = ", ".join(sorted(found.base_name for found in files)[:_SAMPLE_NAMES])
        raise InputError(
            f"{shown} matches no input file: {_READABLE} are read",
            hint=f"it matches {names}"
            if names
            else "quote the path as it is written in the job file: `**` spans folders",
        )
    return readable


def _expanded(place: _Place, folder: str, pattern: tuple[str, ...]) -> Iterator[Any]:
    """Files and directories below `folder` that match. One listing per folder, so a store is not searched whole."""
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        yield from _expanded(place, folder, rest or ("*",))
    for entry in _entries(place, folder):
        is_folder = entry.type == fs.FileType.Directory
        if head == "**":
            if is_folder and not _is_hidden(entry.base_name):
                yield from _expanded(place, entry.path, pattern)
        elif fnmatchcase(entry.base_name, head) and (_is_hidden(head) or not _is_hidden(entry.base_name)):
            if not rest:
                yield entry
            elif is_folder:
                yield from _expanded(place, entry.path, rest)


def _entries(place: _Place, folder: str) -> list[Any]:
    return list(place.filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True)))


def _visible(entries: list[Any]) -> list[Any]:
    return [entry for entry in entries if not _is_hidden(entry.base_name)]


def _is_hidden(name: str) -> bool:
    """As the readers of pyarrow, Spark and Hive have it: our own `_batchcall` is no input."""
    return name.startswith(("_", "."))


def _readable(found: Iterable[Any], root: str) -> list[InputFile]:
    """Those of a listing that are in a format that is read, named relative to `root`."""
    prefix = root.rstrip("/") + "/"
    return [
        InputFile(entry.path.removeprefix(prefix), entry.path, entry.size, entry.mtime_ns or 0, form)
        for entry in found
        if entry.is_file and (form := _format_of(entry.base_name)) is not None
    ]


def _format_of(name: str) -> Format | None:
    lower = name.lower()
    return next((form for suffix, form in FORMATS.items() if lower.endswith(suffix)), None)


def _near_names(place: _Place) -> str:
    parent, name = os.path.split(place.base)
    if place.filesystem.get_file_info(parent or "/").type != fs.FileType.Directory:
        return f"the folder {parent} does not exist either"
    near = close_to(name, [entry.base_name for entry in _entries(place, parent)], most=3)
    return f"did you mean {' or '.join(near)}?" if near else f"there is nothing like it in {parent}"


def _refuse_mixture(files: tuple[InputFile, ...], shown: str) -> None:
    first = files[0]
    for file in files:
        if file.format.kind != first.format.kind:
            raise InputError(
                f"{shown} mixes formats: {first.name} and {file.name}", hint="name one of them, e.g. by *.parquet"
            )
    _refuse_second_copies(files, shown)


def _refuse_second_copies(files: tuple[InputFile, ...], shown: str) -> None:
    """`gzip --keep` leaves the same rows twice; to pay twice for them is never meant."""
    seen: dict[str, str] = {}
    for file in files:
        stem = re.sub(r"\.(gz|zst)$", "", file.name, flags=re.IGNORECASE)
        if stem in seen:
            raise InputError(
                f"{shown} holds {seen[stem]} and {file.name}, which look like the same rows twice",
                hint="remove one of them",
            )
        seen[stem] = file.name
