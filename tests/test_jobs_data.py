"""The jobs that are shipped: their files, the scripts that bring their data, and the scripts that compare."""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import tarfile
import tomllib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZipFile

import jsonschema_rs
import pyarrow
import pyarrow.parquet
import pytest

JOBS = Path(__file__).resolve().parents[1] / "jobs"
NAMES = ("batch_file", "emails", "function_calling", "packages")
WITH_TOOL = ("emails", "packages")
LARGEST_SHIPPED = 300_000  # bytes

KEYS = {
    "input": {"path", "id"},
    "endpoint": {"url", "protocol", "api_key", "auth", "headers"},
    "tool": {"file", "name", "description", "parameters", "strict", "python"},
    "limits": {
        "requests_per_minute", "tokens_per_minute", "concurrency", "timeout", "attempts", "max_cost",
        "max_tokens_total", "max_failed",
    },
    "validate": {"repair", "coerce", "reask"},
    "output": {"path", "keep", "response", "part_rows"},
}  # fmt: skip
FREE_TABLES = {"request", "prices", "sandbox"}  # [request] passes other keys on; the others are keyed by the user

RECORD = """\
Package: dash
Version: 0.5.12-2
Filename: pool/main/d/dash/dash_0.5.12-2_amd64.deb
Maintainer: Andrej Shadura <andrewsh@debian.org>
Architecture: amd64
Depends: debianutils (>= 5.6-0.1), debconf (>= 0.5) | debconf-2.0
Conffiles:
 /etc/dash 0123
Description: POSIX-compliant shell
 It executes scripts fast.
Installed-Size: 191
Section: shells
Priority: required
SHA256: 53745ae7"""

EMAIL = """\
From: Ada Lovelace <ada@example.org>
To: Charles <charles@example.org>, menabrea@example.org
Subject: Note G,
 at last
Date: Thu, 22 Aug 2002 18:26:25 +0700
Message-Id: <1@example.org>
In-Reply-To: <0@example.org>

It weaves algebraic patterns."""


def test_every_job_folder_is_known_to_these_tests() -> None:
    assert {folder.name for folder in JOBS.iterdir() if folder.is_dir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_readme_says_in_three_lines_what_comes_in_what_comes_out_and_who_runs_it(name: str) -> None:
    lines = (JOBS / name / "README.md").read_text(encoding="utf-8").splitlines()

    assert [line.split()[0] for line in lines] == ["**In:**", "**Out:**", "**Who:**"]


@pytest.mark.parametrize("name", NAMES)
def test_a_job_file_has_no_key_that_the_job_file_does_not_know(name: str) -> None:
    job = job_of(name)

    unknown = [
        f"{table}.{key}"
        for table, section in job.items()
        if table not in FREE_TABLES
        for entry in (section if isinstance(section, list) else [section])
        for key in entry
        if key not in KEYS.get(table, set())
    ]

    assert unknown == []


@pytest.mark.parametrize("name", NAMES)
def test_a_job_runs_on_the_sandbox_and_shows_a_real_endpoint_beside_it(name: str) -> None:
    text = (JOBS / name / "job.toml").read_text(encoding="utf-8")

    assert job_of(name)["endpoint"] == {"url": "sandbox"}
    assert '# url = "https://' in text
    assert '# api_key = "env:' in text


@pytest.mark.parametrize("name", NAMES)
def test_a_job_writes_into_a_folder_of_its_own_that_git_ignores(name: str) -> None:
    assert job_of(name)["output"]["path"] == f"out/{name}"


@pytest.mark.parametrize("name", WITH_TOOL)
def test_a_tool_is_a_strict_tool_object_with_nested_listed_and_nullable_fields(name: str) -> None:
    tool = tool_of(name)
    schema = tool["function"]["parameters"]

    jsonschema_rs.meta.validate(schema)
    objects = [part for part in parts_of(schema) if part.get("type") == "object"]
    types = [part.get("type") for part in parts_of(schema)]

    assert tool["type"] == "function"
    assert tool["function"]["strict"] is True
    assert len(objects) > 1
    assert all(part["additionalProperties"] is False for part in objects)
    assert all(set(part["required"]) == set(part["properties"]) for part in objects)
    assert "array" in types
    assert ["string", "null"] in types
    assert any("enum" in part for part in parts_of(schema))


def test_the_shipped_package_records_are_small_unique_and_complete() -> None:
    file = JOBS / "packages" / "packages.jsonl"
    rows = rows_in(file)
    compare = script("packages", "compare")

    truths = [compare.truth_of(row["text"]) for row in rows]

    assert file.stat().st_size < LARGEST_SHIPPED
    assert len({row["package"] for row in rows}) == len(rows) == 208
    assert [truth["package"] for truth in truths] == [row["package"] for row in rows]
    assert all("@" in truth["maintainer.email"] for truth in truths)
    assert all(row["licence"] for row in rows)
    assert not any(re.search(r"^(Status|Conffiles):", row["text"], re.MULTILINE) for row in rows)


@pytest.mark.parametrize(("name", "column"), [("packages", "text"), ("emails", "text")])
def test_a_prompt_uses_the_column_that_the_data_has(name: str, column: str) -> None:
    assert re.findall(r"{{ *(\w+) *}}", job_of(name)["request"]["prompt"]) == [column]


def test_the_batch_file_asks_in_every_way_that_a_body_can() -> None:
    file = JOBS / "batch_file" / "requests.jsonl"
    rows = rows_in(file)
    bodies = [row["body"] for row in rows]

    choices = {json.dumps(body.get("tool_choice")).split(":")[0] for body in bodies}

    assert file.stat().st_size < LARGEST_SHIPPED
    assert len({row["custom_id"] for row in rows}) == len(rows) == 60
    assert all(row.keys() == {"custom_id", "method", "url", "body"} for row in rows)
    assert {(row["method"], row["url"]) for row in rows} == {("POST", "/v1/chat/completions")}
    assert choices == {'"auto"', '"required"', '{"type"', "null"}
    assert {len(body.get("tools", [])) for body in bodies} == {0, 1, 2, 4}
    assert any(body.get("response_format", {}).get("type") == "json_schema" for body in bodies)
    assert any(message["role"] == "tool" for body in bodies for message in body["messages"])
    for tool in (tool for body in bodies for tool in body.get("tools", [])):
        jsonschema_rs.meta.validate(tool["function"]["parameters"])


def test_package_records_come_without_checksums_and_each_name_once() -> None:
    get_data = script("packages", "get_data")

    rows = list(get_data.rows_of(f"{RECORD}\n\n{RECORD}\n\nPackage: zsh\nVersion: 5.9\n\n"))

    assert [row["package"] for row in rows] == ["dash", "zsh"]
    assert "POSIX-compliant shell\n It executes" in rows[0]["text"]
    assert not re.search("Filename|SHA256|Conffiles|/etc/dash", rows[0]["text"])


def test_emails_come_with_their_label_cut_and_decoded_whatever_their_bytes(tmp_path: Path) -> None:
    get_data = script("emails", "get_data")
    archive = tmp_path / "corpus.tgz"
    with tarfile.open(archive, "w:gz") as members:
        add(members, "package/data/spam-1/00001.ab.txt", b"Subject: d\xe9j\xe0 vu")
        add(members, "package/data/easy-ham-1/00002.cd.txt", "Subject: naïve".encode() + b"x" * 9000)
        add(members, "package/data/spam-1/00001.ab.json", b"{}")
        add(members, "package/README.md", b"no e-mail")

    rows = {row["id"]: row for row in get_data.rows_of(archive)}

    assert rows.keys() == {"spam-1/00001.ab", "easy-ham-1/00002.cd"}
    assert rows["spam-1/00001.ab"]["text"] == "Subject: déjà vu"
    assert rows["spam-1/00001.ab"]["group"] == "spam-1"
    assert rows["easy-ham-1/00002.cd"]["text"].startswith("Subject: naïve")
    assert len(rows["easy-ham-1/00002.cd"]["text"]) == 8000


def test_leaderboard_questions_keep_odd_types_and_dotted_names(tmp_path: Path) -> None:
    get_data = script("function_calling", "get_data")
    function = {"name": "math.sum", "description": "", "parameters": {"type": "dict", "properties": {}}}
    question = {"id": "q1", "question": [[{"role": "user", "content": "1+1?"}]], "function": [function]}
    answer = {"id": "q1", "ground_truth": [{"math.sum": {"terms": [[1, 1]]}}]}
    with ZipFile(tmp_path / "bfcl.whl", "w") as wheel:
        wheel.writestr("bfcl_eval/data/BFCL_v4_multiple.json", json.dumps(question) + "\n")
        wheel.writestr("bfcl_eval/data/possible_answer/BFCL_v4_multiple.json", json.dumps(answer))

        rows = list(get_data.rows_of(wheel, "multiple"))

    assert rows == [
        {
            "id": "q1",
            "category": "multiple",
            "messages": [{"role": "user", "content": "1+1?"}],
            "tools": [{"type": "function", "function": function}],
            "answers": json.dumps(answer["ground_truth"]),
        }
    ]


@pytest.mark.parametrize("name", ["emails", "packages"])
def test_a_missing_source_is_said_in_a_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SystemExit, match="is not on this machine"):
        script(name, "get_data").main(tmp_path / "rows")

    assert not (tmp_path / "rows").exists()


def test_apt_without_lists_is_made_to_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt_cache = tmp_path / "apt-cache"
    apt_cache.write_text("#!/bin/sh\necho Package: dash\n", encoding="utf-8")
    apt_cache.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    with pytest.raises(SystemExit, match="apt-get update"):
        script("packages", "get_data").main(tmp_path / "rows")


@pytest.mark.parametrize("name", ["emails", "function_calling", "packages"])
def test_data_that_is_there_is_not_brought_again(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    target = tmp_path / "rows"
    target.write_text("there", encoding="utf-8")

    script(name, "get_data").main(target)

    assert target.read_text(encoding="utf-8") == "there"


def test_all_packages_of_this_machine_can_be_brought(tmp_path: Path) -> None:
    target = bring("packages", tmp_path / "data" / "packages.jsonl.gz")

    with gzip.open(target, "rt", encoding="utf-8") as lines:
        first = json.loads(next(lines))

    assert first.keys() == {"package", "text"}
    assert [file.name for file in target.parent.iterdir()] == [target.name]


def test_the_leaderboard_has_2501_questions_with_tools_of_their_own(tmp_path: Path) -> None:
    rows = rows_in(bring("function_calling", tmp_path / "questions.jsonl"))

    functions = [tool["function"] for row in rows for tool in row["tools"]]
    types = {str(part["type"]) for part in parts_of(functions) if isinstance(part.get("type"), str)}

    assert len({row["id"] for row in rows}) == len(rows) == 2501
    assert all(row["messages"] and row["tools"] for row in rows)
    assert {"dict", "float", "tuple", "any", "HashMap"} <= types
    assert any("." in function["name"] for function in functions)


def test_the_corpus_has_6046_emails_whose_headers_can_be_read(tmp_path: Path) -> None:
    rows = pyarrow.parquet.read_table(bring("emails", tmp_path / "emails.parquet")).to_pylist()
    compare = script("emails", "compare")

    senders = [compare.truth_of(row["text"], row["group"])["from.email"] for row in rows]

    assert len({row["id"] for row in rows}) == len(rows) == 6046
    assert sum("@" in sender for sender in senders) > 6000


def test_comparing_packages_counts_the_fields_that_equal_the_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {
        "package": "dash",
        "version": "0.5.12-2",
        "architecture": "amd64",
        "section": "shells",
        "priority": "required",
        "maintainer": {"name": "Andrej Shadura", "email": "andrewsh@debian.org"},
        "homepage": None,
        "installed_size": 191,
        "depends": [{"package": "debianutils"}, {"package": "debconf"}],
        "summary": "POSIX-compliant shell",
    }
    wrong = arguments | {"version": "1", "maintainer": {"name": "Nobody", "email": "andrewsh@debian.org"}}
    write_output(tmp_path, [output_row(RECORD, arguments), output_row(RECORD, wrong), output_row(RECORD, None)])

    script("packages", "compare").main(tmp_path)

    counts = counts_in(capsys.readouterr().out)
    assert counts.pop("version") == counts.pop("maintainer.name") == 1
    assert set(counts.values()) == {2}
    assert len(counts) == 9


def test_comparing_emails_counts_the_fields_that_equal_the_headers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {
        "from": {"name": "Ada Lovelace", "email": "ada@example.org"},
        "to": [{"email": "charles@example.org"}, {"email": "menabrea@example.org"}],
        "subject": "Note G, at last",
        "date": "Thu, 22 Aug 2002 18:26:25 +0700",
        "message_id": "<1@example.org>",
        "is_reply": True,
        "kind": "personal",
    }
    wrong = arguments | {"kind": "fraud", "from": {"name": None, "email": "ada@example.org"}}
    write_output(tmp_path, [output_row(EMAIL, found) | {"group": "easy-ham-1"} for found in (arguments, wrong, None)])

    script("emails", "compare").main(tmp_path)

    counts = counts_in(capsys.readouterr().out)
    assert counts.pop("solicited") == counts.pop("from.name") == 1
    assert set(counts.values()) == {2}
    assert len(counts) == 6


@pytest.mark.parametrize(
    ("calls", "is_accepted"),
    [
        ([("area.circle", {"radius": 5.0}), ("area.square", {"side": "Three-3"})], True),
        ([("area.square", {"side": "three 3", "unit": "cm"}), ("area.circle", {"radius": 5})], True),
        ([("area.circle", {"radius": 5}), ("area.square", {"side": "three 3", "unit": "mile"})], False),
        ([("area.circle", {"radius": True}), ("area.square", {"side": "three 3"})], False),
        ([("area.circle", {}), ("area.square", {"side": "three 3"})], False),
        ([("area.circle", {"radius": 5})], False),
        ([], False),
    ],
)
def test_the_leaderboards_answers_accept_calls_in_any_order(
    calls: list[tuple[str, dict[str, Any]]], is_accepted: bool
) -> None:
    answers = [{"area.circle": {"radius": [5.0, 1]}}, {"area.square": {"side": ["three3"], "unit": ["", "cm"]}}]
    row = {
        "answers": json.dumps(answers),
        "calls": [{"name": name, "arguments": json.dumps(found)} for name, found in calls],
    }

    assert script("function_calling", "compare").is_accepted(row) is is_accepted


def job_of(name: str) -> dict[str, Any]:
    return tomllib.loads((JOBS / name / "job.toml").read_text(encoding="utf-8"))


def tool_of(name: str) -> dict[str, Any]:
    (tool,) = job_of(name)["tool"]
    found: dict[str, Any] = json.loads((JOBS / name / tool["file"]).read_text(encoding="utf-8"))
    return found


def rows_in(file: Path) -> list[dict[str, Any]]:
    with file.open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


def parts_of(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from parts_of(inner)


def script(job: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{job}_{name}", JOBS / job / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bring(job: str, target: Path) -> Path:
    """Run the real script; skip where its source cannot be reached, fail where what it brought is not as expected."""
    try:
        script(job, "get_data").main(target)
    except SystemExit as stopped:
        if "instead of" in str(stopped):
            raise
        pytest.skip(str(stopped))
    return target


def add(members: tarfile.TarFile, name: str, contents: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(contents)
    members.addfile(info, BytesIO(contents))


def output_row(text: str, arguments: dict[str, Any] | None) -> dict[str, Any]:
    return {"status": "no_call" if arguments is None else "ok", "text": text, "arguments": arguments}


def write_output(folder: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "part-000000.parquet")


def counts_in(printed: str) -> dict[str, int]:
    return {field: int(count) for field, count in re.findall(r"^(\S+) +(\d+) equal", printed, re.MULTILINE)}
