"""The job file: complete as promised, all faults told at once, never a key in a message."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema_rs
import pytest

from batchcall.base.errors import JobError
from batchcall.job.change import describe_change
from batchcall.job.endpoint import EndpointSection, exposed_keys, resolve_key
from batchcall.job.model import job_schema, load_job, masked, request_identity, resolve_tool_choice, stored_job
from batchcall.job.reading import parse_duration
from running import write_job

# As the README has it.
WHOLE = """
[input]
path = "receipts.parquet"
id = "receipt_id"

[endpoint]
url = "https://api.openai.com/v1"
protocol = "openai-chat"
api_key = "env:OPENAI_API_KEY"
auth = "bearer"
headers = { X-Team = "data" }

[request]
model = "gpt-4o-mini"
system = "You read receipts."
prompt = "Receipt:\\n{{ text }}"
tool_choice = "required"
temperature = 0

[[tool]]
file = "receipt.json"

[limits]
requests_per_minute = 500
tokens_per_minute = 200_000
concurrency = 64
timeout = "60s"
attempts = 6
max_cost = 5.00
max_tokens_total = 10_000_000
max_failed = "2%"

[prices."gpt-4o-mini"]
prompt = 0.15
completion = 0.60
cached = 0.075

[validate]
repair = true
coerce = false
reask = 1

[output]
path = "out/receipts"
keep = ["receipt_id", "text"]
response = true
part_rows = 10_000
"""
SMALL = """
[input]
path = "rows.jsonl"
[endpoint]
url = "sandbox"
[request]
model = "m"
prompt = "{{ text }}"
[output]
path = "out"
"""
FUNCTION = {"name": "record", "description": "d", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
FLAT_TOOL = {"type": "function", "name": "flat", "parameters": {}}  # as in OpenAI's Responses
ANTHROPIC_TOOL = {"name": "anthropic", "description": "d", "input_schema": {"type": "object"}}


def write(folder: Path, text: str = SMALL) -> Path:
    (folder / "receipt.json").write_text(json.dumps(TOOL))
    (folder / "job.toml").write_text(text, encoding="utf-8")
    return folder / "job.toml"


def faults_of(path: Path, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(JobError) as refused:
        load_job(path, overrides=overrides)
    return refused.value.faults


def test_the_whole_job_file_loads_with_every_key_in_its_place(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, WHOLE))

    assert job.input.path == str(tmp_path / "receipts.parquet")
    assert job.output.path == tmp_path / "out" / "receipts"
    assert job.request.parameters == {"temperature": 0}
    assert job.tools[0].written == TOOL
    assert (job.limits.timeout_s, job.limits.max_failed_share, job.limits.max_failed_rows) == (60.0, 0.02, None)
    assert job.prices["gpt-4o-mini"].cached == 0.075
    assert job.warnings == []


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    job = load_job(write(tmp_path))

    assert (job.endpoints[0].protocol, job.limits.concurrency, job.limits.attempts) == ("openai-chat", None, 6)
    assert (job.validate.repair, job.validate.reask, job.output.part_rows, job.output.response) == (
        True,
        0,
        10_000,
        True,
    )
    assert (job.limits.requests_per_minute, job.limits.max_failed_rows) == (None, None)


def test_all_faults_are_reported_at_once_each_with_its_key(tmp_path: Path) -> None:
    text = WHOLE.replace("concurrency = 64", "concurrency = 0\ntimout = '5s'").replace('"2%"', '"two"')
    text = text.replace("part_rows = 10_000", 'part_rows = "many"\nkep = []').replace("[prices", "[price")

    faults = faults_of(write(tmp_path, text))

    named = ["limits.concurrency", "limits.timout", "limits.max_failed", "output.part_rows", "output.kep", "price"]
    assert [name for name in named if not any(fault.startswith(name) for fault in faults)] == []
    assert any("did you mean timeout?" in fault for fault in faults)
    assert any("did you mean prices?" in fault for fault in faults)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('model = "m"', "", "request.model"),
        ('prompt = "{{ text }}"', 'prompt = "a"\nmessages = [{ role = "user", content = "b" }]', "request:"),
        ('prompt = "{{ text }}"', 'prompt = { file = "none.txt" }', "none.txt"),
        ('prompt = "{{ text }}"', 'prompt = "a"\ntools = []', "request.tools"),
        ('prompt = "{{ text }}"', 'prompt = "a"\ntool_choice = "recrd"', "request.tool_choice"),
        ('url = "sandbox"', 'url = "ftp://x"', "endpoint.url"),
        ('url = "sandbox"', 'url = "http://example.com/v1"\napi_key = "env:K"', "endpoint.url"),
        ('url = "sandbox"', 'url = "sandbox"\nprotocol = "antropic"', "endpoint.protocol"),
        ('url = "sandbox"', 'url = "https://api.anthropic.com/v1/messages"', "leave out /messages: batchcall adds it"),
        ('url = "sandbox"', 'url = "sandbox"\nauth = "basic"', "endpoint.auth"),
        ('url = "sandbox"', 'url = "sandbox"\nheaders = { Authorization = "x" }', "endpoint.headers.Authorization"),
        ("[output]", "[limits]\nmax_cost = 1.0\n[output]", "limits.max_cost"),
        ("[output]", '[limits]\ntimeout = "soon"\n[output]', "limits.timeout"),
        ("[output]", "[limits]\nattempts = 0\n[output]", "limits.attempts"),
        ("[output]", '[[tool]]\nfile = "none.json"\n[output]', "none.json"),
        ("[output]", '[[tool]]\nname = "no\\tgood"\nparameters = {}\n[output]', "cannot be a tool's name"),
        ("[output]", '[[tool]]\ndescription = "neither"\n[output]', "tool.0"),
        ("[output]", '[[tool]]\nfile = "receipt.json"\n[[tool]]\nfile = "receipt.json"\n[output]', "two tools"),
        ("[output]", '[[tool]]\npython = "no_such_module:Model"\n[output]', "no_such_module"),
        (
            '[endpoint]\nurl = "sandbox"',
            '[[endpoint]]\nurl = "https://a.example/v1"\n[[endpoint]]\nurl = "https://a.example/v1"',
            "is listed twice",
        ),
    ],
)
def test_a_fault_names_its_key(tmp_path: Path, old: str, new: str, named: str) -> None:
    assert old in SMALL

    faults = faults_of(write(tmp_path, SMALL.replace(old, new, 1)))

    assert any(named in fault for fault in faults), faults


def test_a_key_in_the_job_file_is_an_error_that_does_not_repeat_it(tmp_path: Path) -> None:
    text = SMALL.replace('url = "sandbox"', 'url = "sandbox"\napi_key = "sk-canary-123456"\nauth = "sk-canary-123456"')

    faults = faults_of(write(tmp_path, text))

    assert any("endpoint.a" in fault for fault in faults)
    assert not any("sk-canary" in fault for fault in faults)


@pytest.mark.parametrize("text", ["[input\n", 'a = "\\x"\n', "a = 1\na = 2\n"])
def test_what_is_not_toml_is_reported_with_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(JobError, match="line"):
        load_job(write(tmp_path, text))


def test_a_job_that_is_missing_or_not_text_is_reported(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no job file"):
        load_job(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'a = "\xe9"')
    with pytest.raises(JobError, match="UTF-8"):
        load_job(tmp_path / "latin.toml")
    with pytest.raises(JobError):
        load_job(tmp_path)


def test_any_other_key_of_request_goes_into_the_body_as_written(tmp_path: Path) -> None:
    job = load_job(
        write(
            tmp_path, SMALL.replace('model = "m"', 'model = "m"\nseen = 7\nlogit_bias = { 50256 = -100 }\npromt = "x"')
        )
    )

    assert job.request.parameters == {"seen": 7, "logit_bias": {"50256": -100}, "promt": "x"}
    assert job.warnings == ["request.promt goes into the body as written; did you mean prompt?"]


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("temprature", "temperature"),
        ("maxTokens", "max_tokens"),
        ("reasoning_efort", "reasoning_effort"),
        ("stop_sequence", "stop_sequences"),
        ("generatonConfig", "generationConfig"),
    ],
)
def test_a_key_of_request_that_is_near_to_one_of_a_protocol_is_sent_with_a_warning(
    tmp_path: Path, typo: str, meant: str
) -> None:
    job = load_job(write(tmp_path, SMALL.replace('model = "m"', f'model = "m"\n{typo} = 0')))

    assert job.request.parameters == {typo: 0}
    assert job.warnings == [f"request.{typo} goes into the body as written; did you mean {meant}?"]


def test_no_key_of_a_vendor_a_relay_or_a_local_server_is_warned_of(tmp_path: Path) -> None:
    servers = {
        *("min_p", "min_tokens", "min_new_tokens", "max_new_tokens", "typical_p", "repetition_penalty", "ignore_eos"),
        *("chat_template_kwargs", "guided_json", "structured_outputs", "regex", "n_probs", "repeat_penalty"),
        *("reasoning_format", "include_reasoning", "enable_thinking", "thinking_budget", "think", "options", "format"),
        *("models", "route", "provider", "plugins", "transforms", "top_a", "usage", "search_options", "speed"),
        *("safe_prompt", "random_seed", "prompt_mode", "search_parameters", "top_k", "cached_content", "container"),
    }
    lines = "\n".join(f"{name} = 1" for name in servers)

    job = load_job(write(tmp_path, SMALL.replace('model = "m"', f'model = "m"\n{lines}')))

    assert job.request.parameters.keys() == servers
    assert job.warnings == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("limits.concurrency=8", 8),
        ("limits.concurrency = 9", 9),
    ],
)
def test_set_changes_one_key(tmp_path: Path, override: str, expected: int) -> None:
    assert load_job(write(tmp_path), overrides=(override,)).limits.concurrency == expected


def test_set_takes_toml_or_bare_text_quoted_keys_and_places(tmp_path: Path) -> None:
    overrides = ('prices."a.b".prompt=1', 'prices."a.b".completion=2', "request.model=a.b", "tool.0.file=receipt.json")
    job = load_job(write(tmp_path, WHOLE.replace("max_cost = 5.00", "")), overrides=overrides)

    assert job.request.model == "a.b"
    assert job.prices["a.b"].completion == 2


@pytest.mark.parametrize("override", ["nonsense", "input.path.deeper=1", "tool.7.file=x", "=1"])
def test_a_bad_set_is_a_fault(tmp_path: Path, override: str) -> None:
    assert any("--set" in fault for fault in faults_of(write(tmp_path, WHOLE), override))


def test_tools_come_from_a_file_inline_or_a_pydantic_model(tmp_path: Path) -> None:
    (tmp_path / "bare.json").write_text(json.dumps({**FUNCTION, "name": "bare", "strict": True}))
    (tmp_path / "two.json").write_text(
        json.dumps([TOOL | {"function": FUNCTION | {"name": "one"}}, FLAT_TOOL, ANTHROPIC_TOOL])
    )
    (tmp_path / "object.json").write_text('{"type": "object"}')
    (tmp_path / "people.py").write_text(
        "from pydantic import BaseModel\nclass Person(BaseModel):\n    'Somebody.'\n    age: int\n"
    )
    tools = """
[[tool]]
file = "receipt.json"
[[tool]]
file = "bare.json"
[[tool]]
name = "inline"
parameters = { type = "object" }
strict = false
[[tool]]
name = "apart"
parameters = { file = "object.json" }
[[tool]]
file = "two.json"
[[tool]]
python = "people:Person"
[output]"""
    job = load_job(write(tmp_path, SMALL.replace("[output]", tools)))

    functions = [tool.written["function"] for tool in job.tools]
    assert [function["name"] for function in functions] == [
        "record",
        "bare",
        "inline",
        "apart",
        "one",
        "flat",
        "anthropic",
        "Person",
    ]
    assert functions[1]["strict"] is True
    assert functions[2] == {"name": "inline", "parameters": {"type": "object"}, "strict": False}
    assert functions[3]["parameters"] == {"type": "object"}
    assert functions[5] == {"name": "flat", "parameters": {}}
    assert functions[6] == {"name": "anthropic", "description": "d", "parameters": {"type": "object"}}
    assert functions[7]["description"] == "Somebody."
    assert functions[7]["parameters"]["properties"]["age"]["type"] == "integer"
    assert resolve_tool_choice(job) == "required"


def test_each_folder_has_its_own_python_tools(tmp_path: Path) -> None:
    fields = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        model = f"from pydantic import BaseModel\nclass Model(BaseModel):\n    {name}: int\n"
        (folder / "same_name.py").write_text(model)
        job = load_job(write(folder, SMALL.replace("[output]", '[[tool]]\npython = "same_name:Model"\n[output]')))
        fields.append(list(job.tools[0].written["function"]["parameters"]["properties"]))

    assert fields == [["first"], ["second"]]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, {"type": "function", "function": {"name": "record"}}),
        ('"auto"', "auto"),
        ('"none"', "none"),
        ('"record"', {"type": "function", "function": {"name": "record"}}),
        ('{ type = "function", function = { name = "record" } }', {"type": "function", "function": {"name": "record"}}),
    ],
)
def test_the_tool_choice_is_the_tool_unless_the_job_says_otherwise(
    tmp_path: Path, choice: str | None, expected: Any
) -> None:
    text = SMALL.replace("[output]", '[[tool]]\nfile = "receipt.json"\n[output]')
    if choice is not None:
        text = text.replace('model = "m"', f'model = "m"\ntool_choice = {choice}')

    assert resolve_tool_choice(load_job(write(tmp_path, text))) == expected


def test_without_tools_no_tool_choice_is_sent(tmp_path: Path) -> None:
    assert resolve_tool_choice(load_job(write(tmp_path))) is None


@pytest.mark.parametrize(("written", "seconds"), [("90s", 90), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), (7, 7)])
def test_durations_are_read(written: str, seconds: float) -> None:
    assert parse_duration(written, key="k") == seconds


@pytest.mark.parametrize("written", ["", "soon", "5 parsecs", "5", "-3s"])
def test_what_is_not_a_duration_is_refused(written: str) -> None:
    with pytest.raises(JobError, match="not a duration"):
        parse_duration(written, key="k")


@pytest.mark.parametrize(
    ("key", "to_do"), [("--deadline", "leave it out to run to the end"), ("--max-outage", "1s"), ("k", "write 90s")]
)
@pytest.mark.parametrize("written", ["0s", "0", "0m0s", "0.0"])
def test_no_time_at_all_is_refused_with_what_to_write_instead(written: str, key: str, to_do: str) -> None:
    with pytest.raises(JobError, match=f"{key}: '{written}' leaves no time") as refused:
        parse_duration(written, key=key)

    assert to_do in refused.value.hint


def test_a_duration_without_a_unit_is_refused_with_its_unit() -> None:
    with pytest.raises(JobError) as refused:
        parse_duration("30", key="k")

    assert "as in 30s" in refused.value.hint


def test_a_timeout_of_no_time_is_a_fault_with_what_to_write_and_a_latency_of_none_is_none(tmp_path: Path) -> None:
    (fault,) = faults_of(write(tmp_path), 'limits.timeout="0s"', 'sandbox.latency="0s"')

    assert fault == "limits.timeout: '0s' leaves no time; write 90s, 1m30s or 2h"


def test_keys_come_from_the_environment_or_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", " sk-1\n")
    (tmp_path / "key").write_text("sk-2\n")
    (tmp_path / "key").chmod(0o600)

    from_environment, from_file = resolve_key("env:SOME_KEY"), resolve_key(f"file:{tmp_path / 'key'}")

    assert from_environment is not None
    assert from_file is not None
    assert (from_environment.reveal(), from_file.reveal()) == ("sk-1", "sk-2")
    assert (repr(from_file), f"{from_file}") == ("***", "***")
    assert resolve_key(None) is None


def test_a_key_that_is_not_set_or_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-2")
    (tmp_path / "key").chmod(0o644)

    with pytest.raises(JobError, match="the environment variable NO_SUCH_KEY_IS_SET is not set") as unset:
        resolve_key("env:NO_SUCH_KEY_IS_SET")
    assert "export NO_SUCH_KEY_IS_SET=…" in unset.value.hint
    assert 'api_key = "file:PATH"' in unset.value.hint
    with pytest.raises(JobError, match="other users can read"):
        resolve_key(f"file:{tmp_path / 'key'}")
    with pytest.raises(JobError, match="cannot be read") as missing:
        resolve_key(f"file:{tmp_path / 'none'}")
    assert 'api_key = "env:NAME"' in missing.value.hint
    (tmp_path / "empty").touch(0o600)
    with pytest.raises(JobError, match="is empty"):
        resolve_key(f"file:{tmp_path / 'empty'}")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
        ("http://127.0.0.1:8000/v1", None),
        ("sandbox", None),
    ],
)
def test_a_vendor_without_a_key_is_warned_of_with_the_variable_and_the_file(
    tmp_path: Path, url: str, name: str | None
) -> None:
    (tmp_path / "job").mkdir()
    job = write_job(tmp_path / "job", url=url)

    warnings = load_job(job).warnings

    assert len(warnings) == (name is not None)
    assert all(f'"env:{name}"' in one and '"file:PATH"' in one for one in warnings)
    if name is not None:
        assert load_job(job, overrides=(f"endpoint.api_key=env:{name}",)).warnings == []


# Who may do what: a mode that the caller could change is refused where everybody may read or others may write.
OWN_AND_OPEN = [0o644, 0o604, 0o666, 0o620, 0o660, 0o444]
CLOSED = [0o400, 0o600, 0o440, 0o640, 0o700, 0o750]


@pytest.mark.parametrize("mode", OWN_AND_OPEN)
def test_a_key_of_ones_own_that_others_may_read_or_change_is_refused_with_the_command_that_helps(
    tmp_path: Path, mode: int
) -> None:
    key = key_file(tmp_path, mode)

    with pytest.raises(JobError, match=r"other users can (read|change)") as refused:
        resolve_key(f"file:{key}")

    assert refused.value.hint == f"chmod 600 {key}"


@pytest.mark.parametrize("mode", CLOSED)
def test_a_key_that_only_its_owner_and_its_group_may_read_is_taken_without_a_word(tmp_path: Path, mode: int) -> None:
    key = key_file(tmp_path, mode)

    assert revealed(key) == "sk-2"
    assert exposed_keys([endpoint_with(key)]) == []


@pytest.mark.parametrize("how", ["another owner", "read-only mount"])
@pytest.mark.parametrize("mode", [*OWN_AND_OPEN, *CLOSED])
def test_a_key_whose_mode_the_caller_cannot_change_is_taken_with_a_warning_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, how: str
) -> None:
    key = key_file(tmp_path, mode)
    if how == "another owner":
        monkeypatch.setattr(os, "geteuid", lambda: key.stat().st_uid + 1)
    else:  # where root owns the file and cannot change it either
        monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))

    assert revealed(key) == "sk-2"
    warnings = exposed_keys([endpoint_with(key), endpoint_with(key)])
    assert len(warnings) == (mode in OWN_AND_OPEN)
    assert all(str(key) in warning and "sk-2" not in warning for warning in warnings)


def test_a_key_behind_the_links_that_kubernetes_makes_is_read_and_its_own_mode_counts(tmp_path: Path) -> None:
    (tmp_path / "..2026_11_29").mkdir()
    key_file(tmp_path / "..2026_11_29", 0o440)
    (tmp_path / "..data").symlink_to("..2026_11_29")
    (tmp_path / "api-key").symlink_to("..data/key")

    assert revealed(tmp_path / "api-key") == "sk-2"
    (tmp_path / "..data" / "key").chmod(0o644)
    with pytest.raises(JobError, match="other users can read"):
        resolve_key(f"file:{tmp_path / 'api-key'}")


@pytest.mark.parametrize("written", ["sk-2", "sk-2\n", "sk-2\r\n", "\ufeffsk-2\n", "\n sk-2 \n\n"])
def test_a_key_file_may_end_as_any_editor_ends_it(tmp_path: Path, written: str) -> None:
    key = key_file(tmp_path, 0o600)
    key.write_text(written, encoding="utf-8", newline="")

    assert revealed(key) == "sk-2"


def key_file(folder: Path, mode: int) -> Path:
    key = folder / "key"
    key.write_text("sk-2\n")
    key.chmod(mode)
    return key


def revealed(key: Path) -> str:
    secret = resolve_key(f"file:{key}")
    assert secret is not None
    return secret.reveal()


def endpoint_with(key: Path) -> EndpointSection:
    return EndpointSection(url="https://models.example/v1", api_key=f"file:{key}")


def test_the_schema_is_a_schema_and_takes_the_whole_job_file() -> None:
    jsonschema_rs.meta.validate(job_schema())
    jsonschema_rs.validate(job_schema(), tomllib.loads(WHOLE))


def test_a_change_is_reported_key_by_key_and_long_texts_in_part(tmp_path: Path) -> None:
    old = request_identity(load_job(write(tmp_path, WHOLE)))
    text = (
        WHOLE.replace("gpt-4o-mini", "gpt-4.1").replace("temperature = 0", "top_p = 1").replace("Receipt:", "x" * 500)
    )
    new = request_identity(load_job(write(tmp_path, text)))

    changes = describe_change(old, new)

    assert 'model: "gpt-4o-mini" -> "gpt-4.1"' in changes
    assert "parameters.temperature: 0 -> (absent)" in changes
    assert "parameters.top_p: (absent) -> 1" in changes
    assert all(len(change) < 300 for change in changes)


def test_limits_keys_and_places_are_no_part_of_what_is_asked(tmp_path: Path) -> None:
    before = request_identity(load_job(write(tmp_path, WHOLE)))
    text = WHOLE.replace("concurrency = 64", "concurrency = 2").replace("OPENAI_API_KEY", "OTHER").replace("60s", "9s")

    assert request_identity(load_job(write(tmp_path, text.replace("api.openai.com", "relay.example")))) == before


def test_a_job_comes_back_from_the_record_as_it_was(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, WHOLE))

    again = stored_job(json.loads(json.dumps(masked(job))))

    assert request_identity(again) == request_identity(job)
    assert again.input == job.input


def test_the_record_of_a_job_has_values_that_its_file_must_not_have(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, SMALL.replace("[endpoint]", '[endpoint]\nconcurrency = "auto"')))

    again = stored_job(json.loads(json.dumps(masked(job))))

    assert [endpoint.concurrency for endpoint in again.endpoints] == [0]


def test_no_password_of_a_uri_is_recorded(tmp_path: Path) -> None:
    text = SMALL.replace("rows.jsonl", "s3://me:canary@bucket/rows.jsonl")

    assert "canary" not in json.dumps(masked(load_job(write(tmp_path, text))))


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = SMALL.replace("rows.jsonl", "~/rows.jsonl").replace('"sandbox"', '"sandbox"\napi_key = "file:~/key"')

    job = load_job(write(tmp_path, text))

    assert job.input.path == str(tmp_path / "home" / "rows.jsonl")
    assert job.endpoints[0].api_key == f"file:{tmp_path / 'home' / 'key'}"


def test_a_batch_file_needs_neither_model_nor_request(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, SMALL.replace('[request]\nmodel = "m"\nprompt = "{{ text }}"\n', "")))

    assert (job.request.model, job.request.prompt, job.request.columns) == (None, None, None)


@pytest.mark.parametrize(
    "name", sorted(path.name for path in (Path(__file__).parents[1] / "jobs").iterdir() if path.is_dir())
)
def test_every_job_of_the_project_loads(name: str) -> None:
    job = load_job(Path(__file__).parents[1] / "jobs" / name / "job.toml")

    assert job.endpoints[0].url == "sandbox"
    assert os.path.isabs(job.input.path)
