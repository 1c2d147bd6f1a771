"""Holds the levels of the package: who may import whom, and where each third-party library has its one home."""

from __future__ import annotations

import ast
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

# A unit is a file or a folder directly in the package. Within a unit everybody may import everybody.
LEVELS = {
    "records": 0, "errors": 0, "secret": 0, "version": 0, "terminal": 0, "likeness": 0,
    "extraction": 1, "dialects": 1, "pacing": 1,
    "job": 1, "job_change": 1, "job_endpoint": 1, "job_reading": 1, "job_schema": 1, "job_doubts": 1, "job_tools": 1,
    "engines": 2, "files": 2,
    "report": 3, "sandbox": 3, "starter": 3,
    "running": 3, "asking": 3, "resume": 3, "questions": 3, "state": 3, "watching": 3, "closing": 3, "opening": 3,
    "held": 3, "rereading": 3, "descriptors": 3, "forecast": 3, "at_hand": 3, "doubts": 3, "check": 3, "status": 3,
    "verify": 3,
    "revalidate": 3,
    "cli": 4, "api": 4, "on_ray": 4, "__init__": 4, "__main__": 4,
}  # fmt: skip
# Where the parts meet: they alone may import others of their own level 3. And the job file is a few files.
SPINE = {
    "running", "asking", "resume", "questions", "state", "watching", "closing", "opening", "forecast", "doubts",
    "rereading", "check", "status", "verify", "revalidate",
    "job", "job_doubts", "job_endpoint", "job_reading", "job_tools",
}  # fmt: skip
LOWEST_THAT_MAY_WAIT = 2  # below it nothing reads a clock, throws dice, logs or touches a disk or a socket

WAITING = {
    "asyncio", "concurrent", "fcntl", "ftplib", "glob", "http.client", "http.server", "logging", "mmap",
    "multiprocessing", "poplib", "queue", "random", "sched", "secrets", "select", "selectors", "shelve",
    "shutil", "signal", "smtplib", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "syslog",
    "tempfile", "threading", "time", "urllib.request", "uuid", "webbrowser", "aiohttp", "aiolimiter",
    "click", "pyarrow", "ray", "tqdm", "uvloop",
}  # fmt: skip
LAZY_ON_PURPOSE = {"cli.py", "__init__.py"}  # so that `--help` and `import batchcall` load next to nothing

# Where a third-party library may be imported: patterns of paths within the package.
HOMES = {
    "aiohttp": ("engines/transport.py", "engines/connections.py", "sandbox/*"),
    "aiolimiter": ("engines/*",),
    "click": ("cli.py",),
    "jinja2": ("extraction/*",),
    "jsonschema_rs": ("extraction/*", "job_reading.py"),
    "msgspec": ("*",),
    "orjson": ("*",),
    "pyarrow": ("files/*",),
    "ray": ("on_ray.py",),
    "tqdm": ("report/*",),
    "uvloop": ("api.py", "sandbox/*"),
}


class Import(NamedTuple):
    line: int
    module: str  # absolute: "batchcall.files.parts", "aiohttp"
    is_in_function: bool


def test_every_import_points_down() -> None:
    violations = violations_in(PACKAGE)

    assert not violations, "\n".join(["", *violations])


def test_every_dependency_has_a_home() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["fast"]]
    names = {re.split(r"[^A-Za-z0-9_-]", line)[0].replace("-", "_") for line in needed}

    assert names <= HOMES.keys()


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("records.py", "import orjson", "records.py:1 imports orjson; level 0 is standard library only"),
        ("records.py", "import batchcall.errors as e\nimport random", "records.py:2 imports random; below"),
        ("pacing/window.py", "from time import monotonic", "pacing/window.py:1 imports time; below"),
        ("dialects/gemini.py", "from urllib.request import urlopen", "imports urllib.request; below"),
        ("dialects/gemini.py", "from urllib import request", "imports urllib.request; below"),
        ("dialects/gemini.py", "from batchcall.extraction import schema", "may not import extraction"),
        ("dialects/gemini.py", "from ..extraction import schema", "may not import extraction"),
        ("engines/live.py", "from batchcall.files.parts import read", "engines may not import files"),
        ("engines/live.py", "from batchcall import running", "engines may not import running"),
        ("engines/live.py", "import batchcall", "engines may not import __init__"),
        ("engines/live.py", "import pyarrow as pa", "engines/live.py:1 imports pyarrow; its home is files/*"),
        ("engines/live.py", "import requests", "engines/live.py:1 imports requests; it has no home"),
        ("report/lines.py", "from batchcall.sandbox import start", "report may not import sandbox"),
        ("report/lines.py", "from batchcall.running import run_job", "report may not import running"),
        ("stray.py", "import os", "stray.py:1 belongs to no level"),
        ("running.py", "def f():\n    import json", "running.py:2 imports json inside a function"),
        ("running.py", "if True:\n    from batchcall import cli", "running.py:2: running may not import cli"),
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
        ("errors.py", "from batchcall.records import Status"),
        ("job.py", "import msgspec\nfrom pathlib import Path\nfrom batchcall import errors, records"),
        (
            "dialects/gemini.py",
            "from http import HTTPStatus\nfrom urllib.parse import quote\nfrom . import openai_chat",
        ),
        ("files/parts.py", "import pyarrow.parquet\nfrom batchcall.files.disk import write_beside"),
        ("running.py", "from batchcall.report import lines\nfrom batchcall.engines.live import live_engine"),
        ("cli.py", "def run():\n    from batchcall.running import run_job"),
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
    unit = unit_of(path.removesuffix(".py").split("/"))
    if unit not in LEVELS:
        yield f"{path}:1 belongs to no level: add `{unit}` to LEVELS"
        return
    for found in imports_of(file, path):
        if found.is_in_function and path not in LAZY_ON_PURPOSE:
            yield f"{path}:{found.line} imports {found.module} inside a function"
        top, *rest = found.module.split(".")
        if top == "batchcall":
            yield from complaints_about_own(path, found, unit, unit_of(rest))
        else:
            yield from complaints_about_foreign(path, found, unit)


def complaints_about_own(path: str, found: Import, unit: str, other: str) -> Iterator[str]:
    here, there = LEVELS[unit], LEVELS.get(other, max(LEVELS.values()))
    beside = here == there and (here in (0, max(LEVELS.values())) or unit in SPINE)
    if not (other == unit or there < here or beside):
        yield f"{path}:{found.line}: {unit} may not import {other} (level {here} imports level {there})"


def complaints_about_foreign(path: str, found: Import, unit: str) -> Iterator[str]:
    top = found.module.partition(".")[0]
    is_standard = top in sys.stdlib_module_names
    if LEVELS[unit] == 0 and not is_standard:
        yield f"{path}:{found.line} imports {top}; level 0 is standard library only"
    elif LEVELS[unit] < LOWEST_THAT_MAY_WAIT and (waiting := waiting_part_of(found.module)):
        yield f"{path}:{found.line} imports {waiting}; below level {LOWEST_THAT_MAY_WAIT} nothing waits or reads"
    elif not is_standard and top not in HOMES:
        yield f"{path}:{found.line} imports {top}; it has no home: add it to HOMES"
    elif not is_standard and not any(fnmatch(path, home) for home in HOMES[top]):
        yield f"{path}:{found.line} imports {top}; its home is {', '.join(HOMES[top])}"


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


SPLIT_BY_NAME = {"batchcall", "http", "urllib"}  # `from batchcall import running` imports batchcall.running


def absolute(node: ast.ImportFrom, path: str) -> str:
    if not node.level:
        return node.module or ""
    folders = ["batchcall", *path.split("/")[:-1]]
    base = folders[: len(folders) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def unit_of(parts: list[str]) -> str:
    """`["files", "parts"]` is files; nothing, or a name that is no module, is the package itself."""
    return parts[0] if parts else "__init__"


@pytest.mark.parametrize("name", batchcall.__all__)
def test_no_public_name_is_that_of_a_module(name: str) -> None:
    """A module that is imported is put into its package by its name, over a function of that name."""
    homes = [PACKAGE / f"{name}.py", PACKAGE / name]

    assert not any(home.exists() for home in homes)
