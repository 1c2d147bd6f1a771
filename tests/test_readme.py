"""The README is true: its commands are run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from inspect import Parameter, Signature, isfunction, signature
from pathlib import Path

import jsonschema_rs
import pytest

import batchcall
from batchcall.cli import main
from batchcall.job import job_schema
from batchcall.records import Status

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


def test_the_first_two_commands_set_up_and_test_everything() -> None:
    assert commands()[:2] == ["scripts/demo", "scripts/test"]
    assert all(os.access(ROOT / name, os.X_OK) for name in commands()[:2])


def test_the_start_works_as_written(tmp_path: Path) -> None:
    ours = [line for line in commands() if line.startswith("batchcall ")]
    assert len(ours) >= 4

    for line in ours:
        words = [sys.executable, "-m", *shlex.split(line)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_the_python_example_runs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "batchcall", "init", "."], cwd=tmp_path, check=True, capture_output=True)

    (example,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [name for name in batchcall.__all__ if isfunction(getattr(batchcall, name))])
def test_every_public_call_stands_in_the_table_with_its_signature(name: str) -> None:
    taken = signature(getattr(batchcall, name)).parameters.values()
    shown = [one.replace(annotation=Parameter.empty) for one in taken if one.name != "disk"]  # for tests

    assert f"`{name}{Signature(shown)}`" in README


def test_the_job_file_shown_is_valid() -> None:
    shown = max(blocks("toml"), key=len)

    jsonschema_rs.validate(job_schema(), tomllib.loads(shown))


def test_the_inline_tool_and_the_sandbox_shown_work(tmp_path: Path) -> None:
    (shown,) = (block for block in blocks("toml") if "[sandbox]" in block)
    job = (
        '[input]\npath = "rows.jsonl"\n[endpoint]\nurl = "sandbox"\n[output]\npath = "out"\n'
        '[request]\nmodel = "m"\nprompt = "{{ text }}"\n'
    )
    (tmp_path / "job.toml").write_text(job + shown.replace("no_call = 0.01", "no_call = 0"), encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"text": "2 apples"}\n' * 5, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "batchcall", "run", "job.toml", "--log-format", "json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] == 5


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_stands_in_the_table(name: str) -> None:
    assert f"| `batchcall {name}" in README


def test_every_status_stands_in_the_table() -> None:
    assert [status for status in Status if f"`{status}`" not in README] == []


def test_every_flag_of_run_stands_in_the_table() -> None:
    flags = {
        option for parameter in main.commands["run"].params for option in parameter.opts if option.startswith("--")
    }

    assert [flag for flag in sorted(flags) if f"`{flag}" not in README] == []


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#:]+)\)", README))
def test_every_link_leads_somewhere(path: str) -> None:
    assert (ROOT / path).exists()
