"""README.md and docs/ are true: what they show is run as it stands there, and their tables are those of the code."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import tomllib
from inspect import Parameter, Signature, isfunction, signature
from pathlib import Path
from typing import Any

import click
import jsonschema_rs
import pyarrow
import pytest
import yaml

import batchcall as package
from batchcall.base.records import Status
from batchcall.cli import main
from batchcall.job.model import job_schema
from running import batchcall

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}
EVERYWHERE = {"README.md": README, **PAGES}
GOES_ELSEWHERE = re.compile(r" [|>&] | && |\s#|$")
OWN_KEY = {"OPENAI_API_KEY": "sk-not-used"}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(text: str, language: str = "bash") -> list[str]:
    lines = [line.split(" #")[0].strip() for block in blocks(text, language) for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def first_column(text: str) -> list[str]:
    """What stands as code in the first column of the tables, several names of one row each."""
    cells = re.findall(r"^\| (`[^|]*?) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def section(text: str, heading: str) -> str:
    """A page's part below a heading, down to the next one of its level."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return found[1]


def run_python(code: str, folder: Path) -> None:
    with contextlib.chdir(folder):
        exec(compile(code, "shown", "exec"), {"__name__": "shown"})


def said_by(command: str, folder: Path) -> str:
    done = batchcall(*shlex.split(command)[1:], cwd=folder, **OWN_KEY)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


# README


@pytest.fixture(scope="module")
def began(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The transcript of the README, repeated: where, and what was said."""
    folder = tmp_path_factory.mktemp("start")
    (transcript,) = blocks(README, "console")
    asked = [line.removeprefix("$ ") for line in transcript.splitlines() if line.startswith("$ ")]
    return folder, [line for command in asked for line in said_by(command, folder).splitlines()]


def test_the_transcript_is_what_the_commands_say(began: tuple[Path, list[str]]) -> None:
    shown = [line for line in blocks(README, "console")[0].splitlines() if not line.startswith("$ ")]
    of_a_machine = re.compile(r"^output +/|^this run ")

    assert len(shown) > 10
    assert [line for line in shown if not of_a_machine.match(line) and line not in began[1]] == []


def test_a_table_of_ones_own_becomes_typed_rows_as_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "reviews.csv").write_text("product,text\nKettle,It leaks.\nLamp,Warm light.\n")
    convert, model, look = blocks(README, "python")
    (job,) = blocks(README, "toml")
    run_python(convert, tmp_path)
    (tmp_path / "models.py").write_text(model)
    (tmp_path / "reviews.toml").write_text(job.replace("https://api.openai.com/v1", "sandbox"))

    for command in commands(README):
        if command.startswith("batchcall "):
            said_by(command, tmp_path)
    run_python(look, tmp_path)

    assert "'status': 'ok'" in capsys.readouterr().out
    table = package.read_table(tmp_path / "out" / "reviews")
    assert str(table.schema.field("arguments").type) == "struct<opinion: string, faults: list<element: string>>"


def test_the_two_commands_for_a_checkout_can_be_run() -> None:
    shown = [command for command in commands(README) if command.startswith("scripts/")]

    assert shown == ["scripts/demo", "scripts/test"]
    assert all(os.access(ROOT / name, os.X_OK) for name in shown)


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_stands_in_the_table(name: str) -> None:
    assert f"| `batchcall {name}" in README


@pytest.mark.parametrize(
    ("page", "path"),
    [(name, path) for name, text in EVERYWHERE.items() for path in re.findall(r"\]\(([^)#:]+)[^)]*\)", text)],
)
def test_every_link_leads_somewhere(page: str, path: str) -> None:
    assert ((ROOT if page == "README.md" else ROOT / "docs") / path).exists()


# Commands and job files, wherever they are shown


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if commands(text)])
def test_the_commands_of_a_page_run_on_the_job_of_the_readme(page: str, began: tuple[Path, list[str]]) -> None:
    for command in commands(PAGES[page]):
        said_by(command, began[0])


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if blocks(text, "python")])
def test_the_python_of_a_page_runs_on_the_job_of_the_readme(page: str, began: tuple[Path, list[str]]) -> None:
    for code in blocks(PAGES[page], "python"):
        run_python(code, began[0])


@pytest.mark.parametrize("page", EVERYWHERE)
def test_commands_of_schedulers_and_containers_have_flags_that_exist(page: str) -> None:
    shown = [
        shlex.split(GOES_ELSEWHERE.split(line)[0])
        for language in ("text", "cron", "ini")
        for block in blocks(EVERYWHERE[page], language)
        for line in re.findall(r"(?<![\w/.-])(?:/\S+/|\.venv/bin/)?batchcall ([a-z].*)", block)
    ]
    shown += [words for block in blocks(EVERYWHERE[page], "yaml") for words in arguments_in(yaml.safe_load(block))]

    for name, *words in shown:
        main.commands[name].make_context(name, words)


def arguments_in(document: Any) -> list[list[str]]:
    """What containers are to run in it, at any depth."""
    if isinstance(document, list):
        return [found for inner in document for found in arguments_in(inner)]
    if not isinstance(document, dict):
        return []
    own = [document[name] for name in ("args", "command") if name in document]
    return own + [found for inner in document.values() for found in arguments_in(inner)]


@pytest.mark.parametrize(
    ("page", "shown"), [(name, shown) for name, text in EVERYWHERE.items() for shown in blocks(text, "toml")]
)
def test_every_job_file_shown_is_valid(page: str, shown: str) -> None:
    written = tomllib.loads(shown)
    rest = {"input": {"path": "rows.jsonl"}, "endpoint": {"url": "sandbox"}, "output": {"path": "out"}}

    jsonschema_rs.validate(job_schema(), {**rest, **written})


def test_the_inline_tool_and_the_sandbox_shown_work(began: tuple[Path, list[str]]) -> None:
    (shown,) = (block for block in blocks(PAGES["job-file.md"], "toml") if "[sandbox]" in block)
    job = (
        '[input]\npath = "my-job/receipts.jsonl"\n[endpoint]\nurl = "sandbox"\n[output]\npath = "out/inline"\n'
        '[request]\nmodel = "m"\nprompt = "{{ text }}"\n'
    )
    (began[0] / "inline.toml").write_text(job + shown.replace("no_call = 0.01", "no_call = 0"), encoding="utf-8")

    assert "rows      2 of 10 done" in said_by("batchcall run inline.toml --limit 2", began[0])


# Tables


def keys_of(schema: dict[str, Any]) -> dict[str, set[str]]:
    """The keys of each section of the job file."""
    found = {}
    for name, of_section in schema["properties"].items():
        branches = [of_section, *of_section.get("anyOf", ()), of_section.get("items", {})]
        branches += [of_section.get("additionalProperties") or {}]
        found[name] = {key for branch in branches for key in branch.get("properties", ())}
    return found


@pytest.mark.parametrize(("name", "keys"), keys_of(job_schema()).items())
def test_the_table_of_a_section_has_its_keys(name: str, keys: set[str]) -> None:
    heading = "`[[tool]]`" if name == "tool" else f"`[{name}]`"

    assert set(first_column(section(PAGES["job-file.md"], heading))) == keys


def test_the_defaults_shown_are_those_of_a_job_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(
        '[input]\npath = "rows.jsonl"\n[endpoint]\nurl = "sandbox"\n[output]\npath = "out"\n'
    )
    job = package.load_job(tmp_path / "job.toml")
    found = {}
    for name in keys_of(job_schema()):
        values = job.endpoints[0] if name == "endpoint" else getattr(job, name, None)
        text = section(PAGES["job-file.md"], "`[[tool]]`" if name == "tool" else f"`[{name}]`")
        for key, shown in re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE):
            if hasattr(values, key) and shown != '"auto"':
                found[f"{name}.{key}"] = (tomllib.loads(f"value = {shown}")["value"], getattr(values, key))

    assert len(found) > 12
    assert {key: pair for key, pair in found.items() if pair[0] != pair[1]} == {}


def test_the_table_of_columns_is_that_of_an_output(began: tuple[Path, list[str]]) -> None:
    kept = ("receipt_id", "text")
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`]+)`|from the schema) \|", section(PAGES["output.md"], "Columns"), re.M)

    schema: pyarrow.Schema = package.read_table(began[0] / "my-job" / "out" / "receipts").schema

    actual = [(field.name, str(field.type)) for field in schema if field.name not in kept]
    assert rows == [(name, "" if name == "arguments" else kind) for name, kind in actual]


def test_the_table_of_the_summary_has_its_keys(began: tuple[Path, list[str]]) -> None:
    summary = json.loads(said_by("batchcall run my-job/job.toml --log-format json", began[0]))
    table = section(PAGES["commands.md"], "run").partition("The JSON summary")[2]

    assert sorted(first_column(table)) == sorted(summary)


def test_every_status_stands_in_its_table() -> None:
    assert first_column(section(PAGES["output.md"], "Statuses"))[1:] == list(Status)


def test_every_exit_code_stands_in_its_table_by_its_name() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", section(PAGES["exit-codes.md"], "run"), re.MULTILINE)

    assert rows == [(str(int(code)), code.name) for code in package.ExitCode]


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_flag_stands_with_its_command(name: str) -> None:
    shown = re.findall(r"`(--[a-z-]+)", section(PAGES["commands.md"], name))
    options = [one for one in main.commands[name].params if isinstance(one, click.Option)]

    assert set(shown) == {flag for option in options for flag in option.opts}


@pytest.mark.parametrize("name", [name for name in package.__all__ if isfunction(getattr(package, name))])
def test_every_public_call_stands_in_the_table_with_its_signature(name: str) -> None:
    taken = signature(getattr(package, name)).parameters.values()
    shown = [one.replace(annotation=Parameter.empty) for one in taken if one.name != "disk"]  # for tests

    assert f"`{name}{Signature(shown)}`" in PAGES["python.md"]


@pytest.mark.parametrize("name", package.__all__)
def test_every_public_name_stands_in_the_reference(name: str) -> None:
    assert re.search(rf"^(::: |`)batchcall\.{name}\b", PAGES["python.md"], re.MULTILINE)


@pytest.mark.parametrize("helper", sorted(path.name for path in (ROOT / "tests").glob("[!t_]*.py")))
def test_every_helper_of_the_tests_is_explained(helper: str) -> None:
    assert helper == "conftest.py" or f"`{helper}`" in (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
