"""Finds the files of an input: one file, a directory, a glob or a URI. Knows names and sizes, reads no file."""

from __future__ import annotations

import datetime
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
import pyarrow as pa
from pyarrow import fs

from batchcall.base import InputError, close_to
from batchcall.disk import REHEARSAL, part_number
from batchcall.input.hive import Keys, is_key_folder, keys_of

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
    ".json": "if it has one JSON object per line, rename it to .jsonl; if it is one array: "
    "`jq -c '.[]' FILE.json > FILE.jsonl`",
    ".csv": "convert it to Parquet, for example with `duckdb -c \"copy 'FILE.csv' to 'FILE.parquet'\"`",
    ".tsv": "convert it to Parquet, for example with `duckdb -c \"copy 'FILE.tsv' to 'FILE.parquet'\"`",
    ".txt": "if it has one JSON object per line, rename it to .jsonl",
    ".gz": "if it has one JSON object per line, rename it to .jsonl.gz",
    ".zst": "if it has one JSON object per line, rename it to .jsonl.zst",
}


class InputFile(msgspec.Struct, frozen=True):
    """One file of an input."""

    name: str  # relative to the input's root, for messages
    path: str  # as its file system wants it
    size: int  # bytes
    mtime_ns: int  # since the epoch; 0 where the store does not say
    format: Format
    keys: Keys = ()  # what the folders that hold it say


class FileSet(msgspec.Struct, frozen=True):
    """The files of an input in the order they are read, all of one kind."""

    shown: str  # the input as the user named it, without credentials
    filesystem: Any
    files: tuple[InputFile, ...]
    notes: tuple[str, ...] = ()  # for a person: what is not read although its name is that of an input file

    @property
    def kind(self) -> str:
        return self.files[0].format.kind

    @property
    def is_remote(self) -> bool:
        """Whether a read costs a round trip, so that few large ones are better than many small ones."""
        return not isinstance(self.filesystem, fs.LocalFileSystem)

    def changes(self) -> list[str]:
        """What has become of these files since they were found, a sentence for each that is not what it was.

        By size and time of change, as a listing has them. Nothing where the store does not answer.
        """
        try:
            found = self.filesystem.get_file_info([file.path for file in self.files])
        except (OSError, pa.ArrowException):
            return []
        return [
            f"{file.name} is gone"
            if not now.is_file
            else f"{file.name} was {_state(file.size, file.mtime_ns)} and is {_state(now.size, now.mtime_ns or 0)}"
            for file, now in zip(self.files, found, strict=True)
            if (now.is_file, now.size, now.mtime_ns or 0) != (True, file.size, file.mtime_ns)
        ]


def find_files(path: str, *, output: Path | None = None) -> FileSet:
    """The files that `path` names, sorted by name. Raises InputError when there are none, or they are a mixture.

    The parts in the job's own `output`, and in that of its rehearsal, are left out.
    """
    shown = _without_credentials(path)
    try:
        place = _located(path)
        found = _files_at(place, shown)
        # An output may lie below the input: without this, each run would buy the rows of the last.
        if output is not None and output.name and place.is_local:
            live = output.with_name(output.name.removesuffix(REHEARSAL))
            own = {os.path.realpath(folder) for folder in (output, live, live.with_name(live.name + REHEARSAL))}
            found = [
                file
                for file in found
                if part_number(os.path.basename(file.path)) is None
                or os.path.dirname(os.path.realpath(file.path)) not in own
            ]
    except (OSError, pa.ArrowException) as error:
        hint = "the input is a file, a directory, a glob, or a URI that begins with s3://, gs://, abfs:// or file://"
        if isinstance(error, OSError) and (needs := _STORES.get(path.partition("://")[0])) is not None:
            hint = f"check that the store is up and that these credentials may read it. {needs}"
        raise InputError(f"{shown} cannot be opened: {reason(error)}", hint=hint) from error
    except UnicodeError as error:
        raise InputError(
            f"{shown}: the name of a file there is not UTF-8", hint="rename it, or choose other files"
        ) from error
    files, notes = _once_each(place, sorted(found, key=lambda file: file.name))
    if not files:
        raise InputError(
            f"{shown} contains only files that this job wrote", hint="set input.path to the files with the rows"
        )
    _refuse_mixture(files, shown)
    return FileSet(shown, place.filesystem, files, (*notes, *_lost_links(place, files)))


# Where each store's credentials and address are taken from.
_STORES = {
    "s3": "They come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or the machine's role; the address"
    " comes from AWS_ENDPOINT_URL (or ?endpoint_override=HOST:PORT&scheme=http in the URI), the region from AWS_REGION",
    "gs": "They come from GOOGLE_APPLICATION_CREDENTIALS or the machine's account; gs://anonymous@BUCKET needs none",
    "abfs": "They come from AZURE_CLIENT_ID and AZURE_TENANT_ID, `az login` or the machine's identity",
}


# Two paths may lead to one file, through links to it or to a folder above it. It is read under its own name; only where
# that is not among those found, under the first of the others.
def _once_each(place: _Place, found: list[InputFile]) -> tuple[tuple[InputFile, ...], tuple[str, ...]]:
    """The files without those that only a link makes another one of: their rows would be paid for twice."""
    by_place: dict[str, list[InputFile]] = {}
    for file in found:
        by_place.setdefault(_real_path(place, file.path), []).append(file)
    if len(by_place) == len(found):
        return tuple(found), ()
    kept = {real: min(files, key=lambda file: file.path != real) for real, files in by_place.items()}
    dropped = [(file.name, one.name) for real, one in kept.items() for file in by_place[real] if file is not one]
    notes = [f"{name} is a link to {real}, which is read once" for name, real in dropped[:_SAMPLE_NAMES]]
    if len(dropped) > _SAMPLE_NAMES:
        notes.append(f"so are {len(dropped) - _SAMPLE_NAMES:,} more")
    return tuple(sorted(kept.values(), key=lambda file: file.name)), tuple(notes)


def _lost_links(place: _Place, files: Iterable[InputFile]) -> Iterator[str]:
    """Links beside the files that lead to nothing: no listing shows them, and rows would be missing unnoticed."""
    if not place.is_local or os.path.isfile(place.base):
        return
    wildcard = place.pattern[-1].replace("**", "*") if place.pattern else "*"
    for folder in sorted({os.path.dirname(file.path) for file in files}):
        for entry in os.scandir(folder):
            is_meant = _is_named(entry.name, wildcard) and _format_of(entry.name) is not None
            if is_meant and entry.is_symlink() and not os.path.exists(entry.path):
                yield f"{entry.name} is a link to {os.readlink(entry.path)}, which does not exist: not read"


def _state(size: int, mtime_ns: int) -> str:
    if not mtime_ns:
        return f"{size:,} bytes"
    changed_at = datetime.datetime.fromtimestamp(mtime_ns // 10**9, datetime.UTC)
    return f"{size:,} bytes, changed at {changed_at:%H:%M:%S.}{mtime_ns // 10**6 % 1000:03} UTC"


def reason(error: BaseException) -> str:
    """What a foreign exception says, in a line, without credentials."""
    number = getattr(error, "errno", None)
    text = os.strerror(number) if number else str(error).strip().partition("\n")[0]
    return _without_credentials(text)[:200] or type(error).__name__


def _without_credentials(text: str) -> str:
    """The text without user and password in a URI, and without the values of parameters that are named like secrets."""
    # Up to the last @: the keys of S3 have slashes. Where these are not written as %2F, an error quotes the whole URI.
    text = re.sub(r"//[^\s@]*:\S*@", "//***@", text)
    return _SECRET_PARAMETER.sub(r"\1***", text)


_SECRET_PARAMETER = re.compile(r"([?&][^=&\s]*(?:key|secret|token|password|sig)[^=&\s]*=)[^&\s']+", re.IGNORECASE)


class _Place(NamedTuple):
    filesystem: Any
    base: str  # a file or a directory
    pattern: tuple[str, ...]  # components below the base; empty when the path is not a glob

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)


def _located(path: str) -> _Place:
    if "://" in path:
        address, mark, query = path.partition("?")  # options of the store, so `?` is not a wildcard here
        base, pattern = _split_glob(address, r"[*\[]")
        filesystem, root = fs.FileSystem.from_uri(base.replace(" ", "%20") + mark + query)
        return _Place(filesystem, root, tuple(map(unquote, pattern)))
    whole = Path(os.path.abspath(path))
    if whole.exists():  # a name may well have brackets in it
        return _Place(fs.LocalFileSystem(), whole.as_posix(), ())
    base, pattern = _split_glob(whole.as_posix(), r"[*?\[]", stands=os.path.lexists)
    return _Place(fs.LocalFileSystem(), base or "/", pattern)


def _split_glob(
    path: str, wildcards: str, *, stands: Callable[[str], bool] = lambda _: False
) -> tuple[str, tuple[str, ...]]:
    """The part without wildcards, and the rest by component. A component that exists (`stands`) is not a wildcard."""
    components = path.split("/")
    for position, component in enumerate(components):
        if re.search(wildcards, component) and not stands("/".join(components[: position + 1])):
            return "/".join(components[:position]), tuple(components[position:])
    return path, ()


def _files_at(place: _Place, shown: str) -> list[InputFile]:
    if place.pattern:
        return _matching_files(place, shown)
    found = place.filesystem.get_file_info(place.base)
    if found.type == fs.FileType.NotFound:
        raise InputError(f"{shown} does not exist", hint=_near_names(place))
    if found.type == fs.FileType.File:
        if files := _readable([found], os.path.dirname(found.path)):
            return files
        what_to_do = _OTHER_FORMATS.get(os.path.splitext(found.base_name)[1].lower(), "convert it to one of these")
        raise InputError(f"{shown} is not in a supported format: {_READABLE}", hint=what_to_do)
    if found.type != fs.FileType.Directory:  # a pipe, a device
        raise InputError(
            f"{shown} is neither a file nor a directory",
            hint="an input is read more than once: save it to a file first",
        )
    if files := _readable(_held(place, place.base), place.base):
        return files
    entries = _entries(place, place.base)
    names = sorted(entry.base_name for entry in entries)
    hint = f"it contains {', '.join(names[:_SAMPLE_NAMES])}" if names else "the directory is empty"
    if any(map(_is_folder, _visible(entries))):
        hint += f"; for files in folders below write {shown.rstrip('/')}/**"
    raise InputError(f"{shown} contains no input file: {_READABLE} are supported", hint=hint)


def _held(place: _Place, folder: str) -> list[Any]:
    """What a folder holds, and all below its folders that are partition keys."""
    # Other folders below it are not looked into: what they hold may be another table. `/**` names them as well.
    entries = _visible(_entries(place, folder))
    partitions = [one.path for one in entries if _is_folder(one) and is_key_folder(one.base_name)]
    return [*entries, *(found for path in partitions for found in _walked(place, path, ("**",)))]


def _matching_files(place: _Place, shown: str) -> list[InputFile]:
    matches = list({found.path: found for found in _walked(place, place.base, place.pattern)}.values())
    files = [found for found in matches if found.is_file]
    if not files:  # directories only: what is in them is meant
        files = [entry for found in matches for entry in _held(place, found.path) if entry.is_file]
    readable = _readable(files, place.base)
    if not readable:
        names = ", ".join(sorted(found.base_name for found in files)[:_SAMPLE_NAMES])
        hint = "on a command line, write the path in quotes; `**` matches folders at any depth"
        raise InputError(
            f"{shown} matches no input file: {_READABLE} are supported", hint=f"it matches {names}" if names else hint
        )
    return readable


def _walked(place: _Place, folder: str, pattern: tuple[str, ...]) -> Iterator[Any]:
    """Files and directories below `folder` that match. One listing per folder, so a store is not searched whole.

    A folder is looked into once, however many links lead to it: a link to a folder above would never end. What links
    lead to comes last, so that a file has the name that it has without them.
    """
    # A pattern with `**` may come to a folder with several rests of it, each of which may match more. So what counts as
    # seen is the folder with the rest.
    waiting, linked = deque([(folder, pattern)]), deque[tuple[str, tuple[str, ...]]]()
    seen = set[tuple[str, tuple[str, ...]]]()
    while waiting or linked:
        path, wanted = (waiting or linked).popleft()
        if (known := (_real_path(place, path), wanted)) in seen:
            continue
        seen.add(known)
        for entry, rest in _step(_entries(place, path), wanted):
            if not rest:
                yield entry
            else:
                is_link = place.is_local and os.path.islink(entry.path)
                (linked if is_link else waiting).append((entry.path, rest))


def _step(entries: list[Any], pattern: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """The entries of a folder that match the first component, each with the components that are left."""
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        yield from _step(entries, rest or ("*",))
    for entry in entries:
        if head == "**":
            if _is_folder(entry) and not _is_hidden(entry.base_name):
                yield entry, pattern
        elif _is_named(entry.base_name, head) and (not rest or _is_folder(entry)):
            yield entry, rest


def _is_named(name: str, wildcard: str) -> bool:
    return fnmatchcase(name, wildcard) and (_is_hidden(wildcard) or not _is_hidden(name))


def _real_path(place: _Place, path: str) -> str:
    return os.path.realpath(path) if place.is_local else path


def _entries(place: _Place, folder: str) -> list[Any]:
    return list(place.filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True)))


def _is_folder(entry: Any) -> bool:
    return bool(entry.type == fs.FileType.Directory)


def _visible(entries: list[Any]) -> list[Any]:
    return [entry for entry in entries if not _is_hidden(entry.base_name)]


def _is_hidden(name: str) -> bool:
    """As in Spark: our own `_batchcall` is not read, a partition by a column `_day` is."""
    return name.startswith(".") or (name.startswith("_") and not is_key_folder(name))


def _readable(found: Iterable[Any], root: str) -> list[InputFile]:
    """Those of a listing that are in a format that is read, named relative to `root`."""
    files = []
    for entry in found:
        if entry.is_file and (form := _format_of(entry.base_name)) is not None:
            name = entry.path.removeprefix(root.rstrip("/") + "/")
            keys = keys_of(root, name.split("/")[:-1])
            files.append(InputFile(name, entry.path, entry.size, entry.mtime_ns or 0, form, keys))
    return files


def _format_of(name: str) -> Format | None:
    lower = name.lower()
    return next((form for suffix, form in FORMATS.items() if lower.endswith(suffix)), None)


def _near_names(place: _Place) -> str:
    parent, name = os.path.split(place.base)
    if place.filesystem.get_file_info(parent or "/").type != fs.FileType.Directory:
        return f"the folder {parent} does not exist either"
    near = close_to(name, [entry.base_name for entry in _entries(place, parent)], most=3)
    return f"did you mean {' or '.join(near)}?" if near else f"{parent} contains no similar name"


def _refuse_mixture(files: tuple[InputFile, ...], shown: str) -> None:
    first = files[0]
    for file in files:
        if file.format.kind != first.format.kind:
            raise InputError(
                f"{shown} mixes formats: {first.name} and {file.name}",
                hint="choose one of them, for example with *.parquet",
            )
    # `gzip --keep` leaves the same rows twice; nobody wants to pay twice for them.
    seen: dict[str, str] = {}
    for file in files:
        stem = re.sub(r"\.(gz|zst)$", "", file.name, flags=re.IGNORECASE)
        if stem in seen:
            raise InputError(
                f"{shown} contains {seen[stem]} and {file.name}, which look like the same rows twice",
                hint="remove one of them",
            )
        seen[stem] = file.name
