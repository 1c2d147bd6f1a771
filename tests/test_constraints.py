"""scripts/constraints.txt is what those who deploy install: it belongs to this very pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKED = (ROOT / "scripts" / "constraints.txt").read_text()


@pytest.mark.parametrize("wanted", PROJECT["dependencies"])
def test_the_locked_version_of_each_dependency_is_one_that_is_allowed(wanted: str) -> None:
    requirement = Requirement(wanted)

    locked = re.search(rf"^{requirement.name}==(\S+)", LOCKED, re.M)

    assert locked is not None
    assert locked[1] in requirement.specifier


def test_every_locked_package_has_the_hashes_of_its_files() -> None:
    packages = re.split(r"^(?=[a-z])", LOCKED, flags=re.M)[1:]

    assert len(packages) > len(PROJECT["dependencies"])
    assert [package for package in packages if "--hash=sha256:" not in package] == []
