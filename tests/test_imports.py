"""Holds the rooms of the package: who may import whom, through which door, and where each library has its one home."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

import batchcall

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "batchcall"

# A room is a folder of the package. It imports rooms below its own, through their doors (`__all__` of `__init__`), and
# nothing else. Within a room everybody may import everybody.
LEVELS = {
    "base": 1,
    "disk": 2, "schemas": 2, "pacing": 2,
    "input": 3, "requests": 3, "report": 3,
    "job": 4, "output": 4, "dialects": 4, "sandbox": 4,
    "http": 5, "answers": 5,
    "engine": 6,
    "pipeline": 7,
    "commands": 8,
    "": 9,  # the files in the root
}  # fmt: skip
FRONT_DOOR = {"__init__", "__main__", "api", "cli"}
PURE = {"pacing", "requests", "schemas", "answers", "dialects"}  # no clock, dice, loop, log or I/O
NEVER_MEET = [("output", "engine")]  # only the pipeline knows both

WAITING = {
    "asyncio", "concurrent", "fcntl", "ftplib", "glob", "http.client", "http.server", "logging", "mmap",
    "multiprocessing", "poplib", "queue", "random", "sched", "secrets", "select", "selectors", "shelve",
    "shutil", "signal", "smtplib", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "syslog",
    "tempfile", "threading", "time", "urllib.request", "uuid", "webbrowser", "aiohttp", "aiolimiter",
    "click", "pyarrow", "ray", "tqdm", "uvloop",
}  # fmt: skip
LAZY_ON_PURPOSE = {
    "__main__.py",  # Ctrl-C is heard before anything else is loaded
    "cli.py", "__init__.py",  # so that `--help` and `import batchcall` load next to nothing
    "pipeline/open_engine.py",  # the embedded endpoint
    "report/progress.py",  # the bar of a terminal
}  # fmt: skip

# A short run needs none of these, and each costs it as much as a dozen of our own modules: a function may import them.
DEAR_AND_SELDOM = {"aiolimiter", "multiprocessing.connection", "pyarrow.compute", "sqlite3"}

# Where a third-party library may be imported: patterns of paths within the package.
HOMES = {
    "aiohttp": ("http/*", "sandbox/*"),
    "aiolimiter": ("engine/*",),
    "click": ("cli.py",),
    "jinja2": ("requests/*",),
    "jsonschema_rs": ("schemas/*", "job/reading.py"),
    "msgspec": ("*",),
    "orjson": ("*",),
    "pyarrow": ("disk/*", "input/*", "output/*"),
    "ray": ("on_ray.py",),
    "tqdm": ("report/*",),
    "uvloop": ("pipeline/context.py", "sandbox/*"),
    "yarl": ("http/*",),
}


class Import(NamedTuple):
    line: int
    module: str  # absolute: "batchcall.output.parts", "aiohttp"
    is_in_function: bool


def test_every_import_points_down_and_through_a_door() -> None:
    violations = violations_in(PACKAGE)

    assert not violations, "\n".join(["", *violations])


@pytest.mark.parametrize("room", sorted(LEVELS.keys() - {""}))
def test_a_door_has_what_others_import_and_nothing_else(room: str) -> None:
    used = {name for file in PACKAGE.rglob("*.py") if room_of(path_of(file)) != room for name in taken_from(room, file)}

    assert set(importlib.import_module(f"batchcall.{room}").__all__) == used


def test_nothing_but_the_front_door_lies_in_the_root() -> None:
    assert {file.stem for file in PACKAGE.glob("*.py")} == FRONT_DOOR


def test_every_dependency_has_a_home() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["fast"]]
    names = {re.split(r"[^A-Za-z0-9_-]", line)[0].replace("-", "_") for line in needed}

    assert names <= HOMES.keys()


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("pacing/window.py", "from time import monotonic", "pacing/window.py:1 imports time; pacing is pure"),
        ("answers/read.py", "import random", "answers/read.py:1 imports random; answers is pure"),
        (
            "dialects/gemini/dialect.py",
            "from urllib.request import urlopen",
            "imports urllib.request; dialects is pure",
        ),
        ("dialects/gemini/dialect.py", "from urllib import request", "imports urllib.request; dialects is pure"),
        ("schemas/walk.py", "from batchcall.dialects import DIALECTS", "schemas may not import dialects"),
        ("schemas/walk.py", "from ..dialects import DIALECTS", "schemas may not import dialects"),
        ("engine/row_loop.py", "from batchcall.output import OpenPart", "engine may not import output"),
        ("engine/row_loop.py", "from batchcall import pipeline", "engine may not import pipeline"),
        ("engine/row_loop.py", "import batchcall", "engine may not import the front door"),
        ("engine/row_loop.py", "import pyarrow as pa", "engine/row_loop.py:1 imports pyarrow; its home is disk/*"),
        ("engine/row_loop.py", "import requests", "engine/row_loop.py:1 imports requests; it has no home"),
        ("report/lines.py", "from batchcall.job import Job", "report may not import job"),
        ("output/parts.py", "from batchcall.disk.disk import RealDisk", "past the door of disk"),
        ("pipeline/run.py", "from batchcall.output.parts import _opened", "past the door of output"),
        ("stray/file.py", "import os", "stray/file.py:1 is in no room"),
        ("pipeline/run.py", "def f():\n    import json", "pipeline/run.py:2 imports json inside a function"),
        ("pipeline/run.py", "if True:\n    from batchcall import cli", "pipeline may not import the front door"),
    ],
)
def test_a_violation_is_named_by_file_and_line(tmp_path: Path, path: str, source: str, complaint: str) -> None:
    module = tmp_path / path
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(source, encoding="utf-8")

    found = violations_in(tmp_path)

    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("base/errors.py", "from batchcall.base.records import Status"),
        ("job/model.py", "import msgspec\nfrom pathlib import Path\nfrom batchcall.base import JobError"),
        (
            "dialects/gemini/dialect.py",
            "from http import HTTPStatus\nfrom urllib.parse import quote\nfrom . import contents",
        ),
        ("output/parts.py", "import pyarrow.parquet\nfrom batchcall.disk import write_whole"),
        ("cli.py", "def run():\n    from batchcall.pipeline import run_job"),
    ],
)
def test_what_is_allowed_is_not_complained_about(tmp_path: Path, path: str, source: str) -> None:
    module = tmp_path / path
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(source, encoding="utf-8")

    assert violations_in(tmp_path) == []


def violations_in(package: Path) -> list[str]:
    return [complaint for file in sorted(package.rglob("*.py")) for complaint in violations_of(file, package)]


def violations_of(file: Path, package: Path) -> Iterator[str]:
    path = file.relative_to(package).as_posix()
    room = room_of(path)
    if room not in LEVELS:
        yield f"{path}:1 is in no room: add `{room}` to LEVELS"
        return
    for found in imports_of(file, path):
        if found.is_in_function and path not in LAZY_ON_PURPOSE and found.module not in DEAR_AND_SELDOM:
            yield f"{path}:{found.line} imports {found.module} inside a function"
        top, *rest = found.module.split(".")
        if top == "batchcall":
            yield from complaints_about_own(path, found, room, rest)
        else:
            yield from complaints_about_foreign(path, found, room)


def complaints_about_own(path: str, found: Import, room: str, rest: list[str]) -> Iterator[str]:
    other = rest[0] if rest and rest[0] in LEVELS else ""
    here, there = LEVELS[room], LEVELS[other]
    if other == room:
        return
    if there >= here or (room, other) in NEVER_MEET or (other, room) in NEVER_MEET:
        yield f"{path}:{found.line}: {room} may not import {other or 'the front door'} (level {here}, level {there})"
    elif len(rest) > 1:
        yield f"{path}:{found.line}: {found.module} is past the door of {other}: import from batchcall.{other}"


def complaints_about_foreign(path: str, found: Import, room: str) -> Iterator[str]:
    top = found.module.partition(".")[0]
    is_standard = top in sys.stdlib_module_names
    if room in PURE and (waiting := waiting_part_of(found.module)):
        yield f"{path}:{found.line} imports {waiting}; {room} is pure"
    elif not is_standard and top not in HOMES:
        yield f"{path}:{found.line} imports {top}; it has no home: add it to HOMES"
    elif not is_standard and not any(fnmatch(path, home) for home in HOMES[top]):
        yield f"{path}:{found.line} imports {top}; its home is {', '.join(HOMES[top])}"


def taken_from(room: str, file: Path) -> Iterator[str]:
    for node in nodes_of(file):
        if isinstance(node, ast.ImportFrom) and node.module == f"batchcall.{room}":
            yield from (name.name for name in node.names)


@functools.cache
def nodes_of(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def path_of(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def room_of(path: str) -> str:
    """The folder of the package; "" for a file in its root."""
    return path.partition("/")[0] if "/" in path else ""


def waiting_part_of(module: str) -> str | None:
    parts = module.split(".")
    prefixes = (".".join(parts[: end + 1]) for end in range(len(parts)))
    return next((prefix for prefix in prefixes if prefix in WAITING), None)


def imports_of(file: Path, path: str) -> Iterator[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=path)
    in_functions = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module in modules_of(node, path):
                yield Import(node.lineno, module, id(node) in in_functions)


def modules_of(node: ast.Import | ast.ImportFrom, path: str) -> list[str]:
    """Absolute names of what a statement imports."""
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    base = absolute(node, path)
    if base in SPLIT_BY_NAME:
        return [f"{base}.{name.name}" for name in node.names]
    return [base]


SPLIT_BY_NAME = {"batchcall", "http", "urllib"}  # `from batchcall import cli` imports batchcall.cli


def absolute(node: ast.ImportFrom, path: str) -> str:
    if not node.level:
        return node.module or ""
    folders = ["batchcall", *path.split("/")[:-1]]
    base = folders[: len(folders) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


@pytest.mark.parametrize("name", batchcall.__all__)
def test_no_public_name_is_that_of_a_module(name: str) -> None:
    """A module that is imported is put into its package by its name, over a function of that name."""
    homes = [PACKAGE / f"{name}.py", PACKAGE / name]

    assert not any(home.exists() for home in homes)


def test_the_map_names_every_file() -> None:
    rooms = (PACKAGE / "README.md").read_text(encoding="utf-8").split("```")[3]
    files = {file.stem for file in PACKAGE.glob("*/*.py") if not file.stem.startswith(("__", "speak_"))}

    assert files - set(re.findall(r"\w+", rooms)) == set()
