"""The command line: quick to help, clear about every sort of bad input, never a traceback."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchcall.disk.lock import hold_lock
from running import batchcall, edit, some_rows, write_job, write_rows


def test_every_command_has_help() -> None:
    for name in ("run", "check", "status", "verify", "revalidate", "sandbox", "init", "schema"):
        shown = batchcall(name, "--help")
        assert shown.returncode == 0
        assert shown.stdout.startswith(f"Usage: batchcall {name}")


def remove_input(folder: Path) -> None:
    (folder / "rows.jsonl").unlink()


def empty_input(folder: Path) -> None:
    (folder / "rows.jsonl").write_bytes(b"")


def wrong_column(folder: Path) -> None:
    edit(folder / "job.toml", "{{ text }}", "{{ txet }}")


def duplicate_ids(folder: Path) -> None:
    edit(folder / "job.toml", "[input]", '[input]\nid = "id"')
    write_rows(folder / "rows.jsonl", [*some_rows(5), *some_rows(1)])


def unreadable_parquet(folder: Path) -> None:
    (folder / "rows.parquet").write_bytes(b"PAR1 but not really PAR1")
    edit(folder / "job.toml", "rows.jsonl", "rows.parquet")


def broken_tool_schema(folder: Path) -> None:
    tool = json.loads((folder / "tool.json").read_text())
    tool["function"]["parameters"]["properties"]["age"]["type"] = "whole number"
    (folder / "tool.json").write_text(json.dumps(tool))


def impossible_tool_schema(folder: Path) -> None:
    tool = json.loads((folder / "tool.json").read_text())
    tool["function"]["parameters"] |= {"required": ["name", "aeg"], "additionalProperties": False}
    (folder / "tool.json").write_text(json.dumps(tool))


def misspelt_tool(folder: Path) -> None:
    edit(folder / "tool.json", "parameters", "paramters")


def empty_tool_file(folder: Path) -> None:
    (folder / "tool.json").write_text("[]")


def broken_tool_file(folder: Path) -> None:
    (folder / "tool.json").write_text("{")


def broken_template(folder: Path) -> None:
    edit(folder / "job.toml", "{{ text }}", "{{ text ")


def broken_toml(folder: Path) -> None:
    edit(folder / "job.toml", "[limits]", "[limits")


def unknown_key(folder: Path) -> None:
    edit(folder / "job.toml", "concurrency", "concurency")


def literal_key(folder: Path) -> None:
    edit(folder / "job.toml", "[request]", 'api_key = "sk-abcdefghijklmnop1234"\n[request]')


def unset_key(folder: Path) -> None:
    edit(folder / "job.toml", "[request]", 'api_key = "env:NO_SUCH_KEY_IS_SET"\n[request]')


def output_is_a_file(folder: Path) -> None:
    (folder / "out").write_text("in the way")


def output_is_foreign(folder: Path) -> None:
    (folder / "out").mkdir()
    pq.write_table(pa.table({"a": [1]}), folder / "out" / "theirs.parquet")


def unsupported_format(folder: Path) -> None:
    (folder / "rows.csv").write_text("id,text\n1,a\n")
    edit(folder / "job.toml", "rows.jsonl", "rows.csv")


def missing_job(folder: Path) -> None:
    (folder / "job.toml").unlink()


def no_such_keep(folder: Path) -> None:
    edit(folder / "job.toml", "part_rows", 'keep = ["idd"]\npart_rows')


BAD = {
    remove_input: "rows.jsonl",
    empty_input: "has no rows",
    wrong_column: "txet",
    duplicate_ids: "r0",
    unreadable_parquet: "rows.parquet",
    broken_tool_schema: "whole number",
    impossible_tool_schema: "aeg",
    misspelt_tool: "did you mean parameters?",
    empty_tool_file: "there is no tool in it",
    broken_tool_file: "tool.json",
    broken_template: "prompt",
    broken_toml: "line",
    unknown_key: "concurrency",
    literal_key: "env:",
    unset_key: "NO_SUCH_KEY_IS_SET",
    output_is_a_file: "out",
    output_is_foreign: "theirs.parquet",
    unsupported_format: "rows.csv",
    missing_job: "job.toml",
    no_such_keep: "idd",
}


@pytest.mark.parametrize(("spoil", "named"), BAD.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_bad_input_gets_a_clear_error_and_exit_code_2(tmp_path: Path, spoil: object, named: str) -> None:
    job = write_job(tmp_path)
    assert callable(spoil)
    spoil(tmp_path)

    refused = batchcall("run", job)

    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.startswith("error: ")
    assert named in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "sk-abcdefghijklmnop1234" not in refused.stderr
    assert not list(tmp_path.glob("out/part-*.parquet"))


def test_the_job_that_the_bad_ones_are_made_from_is_good(tmp_path: Path) -> None:
    done = batchcall("run", write_job(tmp_path), "--log-format", "json")

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["rows"], summary["ok"], summary["rows_left"]) == (25, 25, 0)
    assert len(done.stdout.splitlines()) == 1


def test_an_output_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(tmp_path / "locked", os.W_OK):
        target = Path("/proc/out")  # root may write anywhere, but not there
    else:
        target = tmp_path / "locked" / "out"

    refused = batchcall("run", job, "--output", target)

    assert refused.returncode == 2, refused.stderr
    assert str(target) in refused.stderr
    assert "Traceback" not in refused.stderr


# With --log-format json

TYPO = 'sytem = "a"'
REFUSED = {
    "fault": ("run", "job.toml", "--set", "limits.attempts=0", "--set", "input.pth=x"),
    "input": ("run", "job.toml", "--input", "none\udc80.jsonl"),
    "deadline": ("run", "job.toml", "--deadline", "soon"),
    "usage": ("run", "job.toml", "--limit", "0\x1b[2K"),
    "no-text": ("run", "job.toml", "\udc80"),
    "no-such-option": ("run", "job.toml", "--limits", "3"),
    "no-job": ("run",),
}


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("asked", [("--log-format", "json"), ("--log-format=json",)], ids=["two-words", "one-word"])
def test_an_error_is_a_line_of_json_where_json_is_asked_for(
    tmp_path: Path, words: tuple[str, ...], asked: tuple[str, ...]
) -> None:
    write_job(tmp_path)

    refused = batchcall(*words, *asked, cwd=tmp_path)

    assert (refused.returncode, refused.stdout) == (2, "")
    (line,) = refused.stderr.splitlines()
    told = json.loads(line)
    assert (told["event"], told["exit_code"]) == ("error", 2)
    assert told["error"]
    assert len(told["faults"]) == (2 if words is REFUSED["fault"] else 0)
    assert "\x1b" not in told["error"]


def test_warnings_are_lines_of_json_where_json_is_asked_for(tmp_path: Path) -> None:
    job = write_job(tmp_path, rows=2, request=TYPO)

    done = batchcall("run", job, "--log-format", "json")
    quiet = batchcall("run", job, "--log-format", "json", "--quiet")

    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["note"]
    assert "did you mean system?" in done.stderr
    assert quiet.stderr == ""


def test_the_summary_of_a_run_is_one_line_of_json_where_that_is_asked_for_and_stderr_stays_text(tmp_path: Path) -> None:
    job = write_job(tmp_path, rows=2, request=TYPO)

    done = batchcall("run", job, "--json")
    refused = batchcall("run", tmp_path / "no-such.toml", "--json")

    summary = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert (done.returncode, summary["exit_code"], summary["rows"], summary["is_complete"]) == (0, 0, 2, True)
    assert summary.keys() == json.loads(batchcall("run", job, "--log-format", "json").stdout).keys()
    assert "did you mean system?" in done.stderr
    assert not done.stderr.startswith("{")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: ")


def test_what_a_tools_module_prints_is_on_stderr_and_stdout_holds_the_result_alone(tmp_path: Path) -> None:
    job, out = write_job(tmp_path, rows=2), tmp_path / "out"
    edit(job, 'file = "tool.json"', 'python = "chatty:Person"')
    (tmp_path / "chatty.py").write_text(CHATTY)

    for words in (
        ("check", job, "--json"),
        ("run", job, "--log-format", "json"),
        ("status", out, "--json"),
        ("verify", out, "--json"),
    ):
        done = batchcall(*words)
        assert done.returncode == 0, done.stderr
        assert isinstance(json.loads(done.stdout), dict)
        assert done.stdout.count("\n") == 1
        assert "imported\n" in done.stderr
        assert "asked for the schema\n" in done.stderr


CHATTY = """
from pydantic import BaseModel

print("imported")


class Person(BaseModel):
    name: str

    @classmethod
    def model_json_schema(cls):
        print("asked for the schema")
        return super().model_json_schema()
"""


# What the output is written to


@pytest.mark.parametrize(
    ("place", "named"), [("rows.jsonl", "rows.jsonl"), ("rows.jsonl/a/b", "rows.jsonl"), ("nowhere", "nowhere")]
)
def test_what_stands_in_the_way_of_the_output_is_named_by_check_and_run(tmp_path: Path, place: str, named: str) -> None:
    job = write_job(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    before = sorted(tmp_path.iterdir())

    checked = batchcall("check", job, "--output", tmp_path / place, "--json")
    refused = batchcall("run", job, "--output", tmp_path / place)

    told = f"{tmp_path / place} cannot be written: {tmp_path / named} is not a folder"
    assert (checked.returncode, json.loads(checked.stdout)["refusals"]) == (1, [told])
    assert refused.returncode == 2
    assert refused.stderr == f"error: {told}\n  hint: choose another folder with output.path or --output\n"
    assert sorted(tmp_path.iterdir()) == before


def test_check_makes_nothing_of_an_output_that_can_be_written(tmp_path: Path) -> None:
    checked = batchcall("check", write_job(tmp_path), "--output", tmp_path / "a" / "b", "--json")

    assert (checked.returncode, json.loads(checked.stdout)["refusals"]) == (0, [])
    assert not (tmp_path / "a").exists()


def test_all_faults_of_a_job_file_are_reported_at_once(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    edit(job, "concurrency = 8", 'concurrency = 0\ntimout = "5s"')
    edit(job, "[output]", "[output]\nresponse = 3")

    refused = batchcall("check", job)

    assert refused.returncode == 2
    assert [word for word in ("limits.concurrency", "timout", "output.response") if word not in refused.stderr] == []
    assert "timeout" in refused.stderr


def test_check_shows_the_first_request_with_the_key_masked_and_sends_nothing(tmp_path: Path) -> None:
    job = write_job(
        tmp_path,
        url="https://api.example.invalid/v1",
        endpoint='api_key = "env:TEST_KEY"\nheaders = { X-Team = "data", X-Proxy-Token = "canary-2" }',
    )

    shown = batchcall("check", job, "--json", TEST_KEY="sk-secret-canary-1")

    assert shown.returncode == 0, shown.stderr
    report = json.loads(shown.stdout)
    assert report["rows_left"] == 25
    assert report["first_request"]["url"] == "https://api.example.invalid/v1/chat/completions"
    headers = report["first_request"]["headers"]
    assert (headers["Authorization"], headers["X-Team"], headers["X-Proxy-Token"]) == ("Bearer ***", "data", "***")
    assert report["first_request"]["body"]["messages"][0]["content"].startswith("Who is this?")
    assert report["estimated_tokens"] > 25 * 10
    assert "canary" not in shown.stdout + shown.stderr
    assert not (tmp_path / "out").exists()


def test_typos_in_a_tool_are_reported_by_check_and_once_by_run(tmp_path: Path) -> None:
    job = write_job(tmp_path, rows=3)
    edit(tmp_path / "tool.json", '"minimum"', '"minimun"')
    typo = "record_person: /properties/age/minimun: not a keyword of JSON Schema; did you mean minimum?"

    checked = batchcall("check", job, "--json")
    ran = batchcall("run", job)

    assert json.loads(checked.stdout)["warnings"] == [typo]
    assert ran.returncode == 0
    assert ran.stderr.count(typo) == 1


def test_status_and_verify_distinguish_a_half_done_output_from_a_done_one(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    assert batchcall("run", job, "--limit", "12").returncode == 0
    half = json.loads(batchcall("status", tmp_path / "out", "--json").stdout)
    assert (half["rows"], half["is_complete"], half["is_running"]) == (12, False, False)
    assert batchcall("verify", tmp_path / "out").returncode == 1

    assert batchcall("run", job).returncode == 0

    done = json.loads(batchcall("status", tmp_path / "out", "--json").stdout)
    assert (done["rows"], done["ok"], done["rows_left"], done["is_complete"]) == (25, 25, 0, True)
    proof = batchcall("verify", tmp_path / "out", "--json")
    assert proof.returncode == 0
    assert json.loads(proof.stdout)["requests_compared"] == 25


def test_each_command_that_looks_at_an_output_exits_as_the_readme_says(tmp_path: Path) -> None:
    job, out = write_job(tmp_path), tmp_path / "out"
    assert batchcall("run", job, "--limit", "12").returncode == 0
    half = [batchcall("status", out).returncode, batchcall("verify", out).returncode]
    with hold_lock(out / "_batchcall" / "lock"):
        held = [batchcall(*words).returncode for words in (("status", out), ("verify", out), ("revalidate", job))]
    (out / "part-000000.parquet").write_bytes(b"")
    damaged = [batchcall("status", out).returncode, batchcall("verify", out).returncode]
    (tmp_path / "empty").mkdir()
    none = [batchcall(name, tmp_path / "empty").returncode for name in ("status", "verify")]

    assert (half, held, damaged, none) == ([0, 1], [0, 1, 5], [0, 1], [2, 2])


def test_verify_finds_a_row_that_is_missing_and_a_part_that_was_changed(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    assert batchcall("run", job).returncode == 0
    part = tmp_path / "out" / "part-000001.parquet"
    table = pq.read_table(part)
    pq.write_table(table.slice(1).replace_schema_metadata(table.schema.metadata), part)

    proof = json.loads(batchcall("verify", tmp_path / "out", "--json").stdout)

    assert not proof["is_proven"]
    assert (proof["rows"], proof["rows_missing"]) == (24, 1)
    assert any("part-000001.parquet" in fault and "footer" in fault for fault in proof["faults"])


def test_verify_finds_a_damaged_part(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    assert batchcall("run", job).returncode == 0
    part = tmp_path / "out" / "part-000000.parquet"
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 0xFF
    part.write_bytes(content[: len(content) // 2])

    proof = batchcall("verify", tmp_path / "out")

    assert proof.returncode == 1
    assert "part-000000.parquet" in proof.stdout
    assert "Traceback" not in proof.stderr


def test_commands_on_a_folder_that_is_not_an_output_say_so(tmp_path: Path) -> None:
    for name in ("status", "verify"):
        refused = batchcall(name, tmp_path)
        assert refused.returncode == 2
        assert "not an output of batchcall" in refused.stderr


@pytest.mark.parametrize("name", ["status", "verify"])
@pytest.mark.parametrize("place", ["rows.jsonl", "/dev/null", "x" * 300])
def test_commands_on_what_is_not_a_folder_say_so(tmp_path: Path, name: str, place: str) -> None:
    write_job(tmp_path)

    refused = batchcall(name, tmp_path / place)

    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {tmp_path / place} cannot be read: ")
    assert "output.path" in refused.stderr


def test_init_writes_a_job_that_checks_and_runs(tmp_path: Path) -> None:
    assert batchcall("init", tmp_path / "job").returncode == 0
    job = tmp_path / "job" / "job.toml"
    assert batchcall("check", job).returncode == 0

    done = batchcall("run", job, "--log-format", "json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] == 10


def test_schema_prints_a_json_schema() -> None:
    shown = batchcall("schema")

    assert shown.returncode == 0
    assert json.loads(shown.stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is text always")
def test_a_name_that_is_not_utf8_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    named = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    job, strange = write_job(tmp_path / "good"), write_job(named)
    rows = tmp_path / "rows"
    rows.mkdir()
    for name in ("a.jsonl", os.fsdecode(b"b\xff.jsonl")):
        write_rows(rows / name, some_rows(2))

    for words in (
        ("check", strange),
        ("run", strange),
        ("run", job, "--output", named / "out"),
        ("check", job, "--input", named / "rows.jsonl"),
        ("check", job, "--input", rows),
        ("check", job, "--input", f"{rows}/*.jsonl"),
    ):
        refused = batchcall(*words)
        assert refused.returncode == 2, refused.stderr
        assert refused.stderr.startswith("error: ")
        assert "not UTF-8" in refused.stderr


def test_paths_on_the_command_line_start_where_the_person_stands(tmp_path: Path) -> None:
    job = write_job(tmp_path / "job")
    (tmp_path / "here").mkdir()
    write_rows(tmp_path / "here" / "other.jsonl", some_rows(3))

    done = batchcall("run", job, "--input", "other.jsonl", "--output", "result", cwd=tmp_path / "here")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "result" / "_SUCCESS").exists()


def test_set_changes_a_key_for_one_command(tmp_path: Path) -> None:
    job = write_job(tmp_path)

    done = batchcall("run", job, "--set", "output.part_rows=5", "--set", "request.temperature=0.5")

    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 5


def test_nothing_is_written_to_a_terminal_that_could_deceive_it(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    edit(job, 'model = "test-model"', 'model = "m\\u001b[31m"\nmodl = "x"')
    edit(job, "concurrency = 8", 'concurrency = 8\n"bad\\u001b[2J" = 1')

    refused = batchcall("check", job)

    assert refused.returncode == 2
    assert "\x1b" not in refused.stdout + refused.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_what_stdout_cannot_encode_costs_nothing_else_that_is_said(tmp_path: Path, encoding: str) -> None:
    job = write_job(tmp_path, rows=2, request='system = "票据 ✓"')

    checked = batchcall("check", job, PYTHONIOENCODING=encoding)
    done = batchcall("run", job, "--output", tmp_path / "輸出 😀", "--log-format", "json", PYTHONIOENCODING=encoding)

    assert "is valid" in checked.stdout
    assert json.loads(done.stdout)["ok"] == 2


def test_a_name_that_a_star_took_up_does_not_deceive_the_terminal_in_a_usage_error(tmp_path: Path) -> None:
    refused = batchcall("status", tmp_path, "\x1b]0;title\x07\u202e", "\x1b[2K")

    assert refused.returncode == 2
    assert "unexpected extra arguments (]0;title [2K)" in refused.stderr
    assert not {"\x1b", "\x07", "\u202e"} & set(refused.stderr)


def test_a_run_without_a_terminal_says_little(tmp_path: Path) -> None:
    done = batchcall("run", write_job(tmp_path))

    assert done.stderr == ""
    assert done.stdout.startswith("output ")
