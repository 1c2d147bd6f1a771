"""What a job file must not say: every fault with its key and what would be right, no secret repeated, no traceback."""

from __future__ import annotations

import copy
import functools
import json
import math
import operator
import pickle
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema_rs
import msgspec
import pytest

from batchcall.base.errors import JobError
from batchcall.base.secret import Secret
from batchcall.job.endpoint import resolve_key
from batchcall.job.file_schema import schema_of
from batchcall.job.model import job_schema, load_job, masked

SMALL = """
[input]
path = "rows.jsonl"
[endpoint]
url = "sandbox"
[request]
model = "m"
prompt = "{{ text }}"
[limits]
attempts = 6
[output]
path = "out"
"""
URL = 'url = "sandbox"'
MODEL = 'model = "m"'
PROMPT = 'prompt = "{{ text }}"'
LIMITS = "attempts = 6"
OUTPUT = "[output]"
TOOL = {"type": "function", "function": {"name": "record", "parameters": {"type": "object"}}}


def write(folder: Path, text: str = SMALL) -> Path:
    (folder / "receipt.json").write_text(json.dumps(TOOL))
    (folder / "job.toml").write_text(text, encoding="utf-8")
    return folder / "job.toml"


def changed(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new, 1)


def with_tool(lines: str) -> str:
    return changed(OUTPUT, f"[[tool]]\n{lines}\n[output]")


def faults_of(path: Path, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(JobError) as refused:
        load_job(path, overrides=overrides)
    return refused.value.faults


def test_every_template_that_is_wrong_is_named_together_with_all_else(tmp_path: Path) -> None:
    text = changed(PROMPT, 'messages = [{ role = "user", content = "{{ a" }, { role = "user", content = "{% for %}" }]')

    faults = faults_of(write(tmp_path, text.replace(LIMITS, "attempts = 0")))

    assert [fault.partition(": ")[0] for fault in faults] == [
        "limits.attempts",
        "request.messages.0.content",
        "request.messages.1.content",
    ]


def test_templates_within_the_parts_of_a_message_are_looked_at_too(tmp_path: Path) -> None:
    content = '[{ type = "text", text = "{{ a" }, { type = "text", text = "{{ b }}" }]'
    text = changed(PROMPT, f'messages = [{{ role = "user", content = {content} }}]')

    (fault,) = faults_of(write(tmp_path, text))

    assert fault.startswith("request.messages.0.content.0.text: line 1: ")


def test_a_fault_of_one_section_hides_none_of_another(tmp_path: Path) -> None:
    text = changed(PROMPT, 'prompt = "a"\nsystem = 5').replace(
        OUTPUT, '[[tool]]\nfile = "none.json"\n[output]\nparts = 1'
    )
    text = text.replace(URL, 'url = "http://example.com"\napi_key = "env:K"').replace(LIMITS, 'timeout = "0s"')
    text += '[sandbox]\nlatency = "2 weeks"\n'

    faults = faults_of(write(tmp_path, text))

    assert sorted(fault.partition(":")[0] for fault in faults) == [
        "endpoint.url",
        "limits.timeout",
        "output.parts",
        "request.system",
        "sandbox.latency",
        "tool.0.file",
    ]


def test_a_fault_is_reported_once_and_not_with_all_that_follows_from_it(tmp_path: Path) -> None:
    text = with_tool('file = "none.json"').replace(MODEL, 'model = "m"\ntool_choice = "record"')

    faults = faults_of(write(tmp_path, text.replace("[endpoint]", "[endpiont]")))

    assert faults[0] == "endpiont: unknown key; did you mean endpoint?"
    assert faults[1].startswith("tool.0.file: none.json cannot be read")
    assert len(faults) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "input: is missing"),
        (changed(LIMITS, "attempts = 0"), "limits.attempts: 0 is not valid: it must be at least 1"),
        (changed(LIMITS, "attempts = true"), "limits.attempts: true is not valid: it must be a whole number"),
        (changed(LIMITS, 'concurrency = "many"'), 'limits.concurrency: "many" is not valid: it must be "auto"'),
        (changed(LIMITS, 'max_failed = "150%"'), 'a share like "2%"'),
        (changed(LIMITS, 'timeout = "2d"'), "limits.timeout: '2d' is longer than one day"),
        (changed(LIMITS, "max_cost = 1.0"), 'limits.max_cost: the price of m must be known: give [prices."m"]'),
        (changed(OUTPUT, "[prices.m]\nprompt = 1\n[output]"), "prices.m.completion: is missing"),
        (changed(OUTPUT, "[validate]\nreask = 9\n[output]"), "validate.reask: 9 is not valid: it must be at most 5"),
        (changed(URL, 'url = "sandbox"\nprotocol = "antropic"'), "did you mean anthropic?"),
        (changed(URL, 'url = "sandbox"\nca_file = "no.pem"'), "no.pem"),
        (changed(URL, 'url = "sandbox"\napi_key = "file:"'), "endpoint.api_key"),
        (changed(URL, 'url = "sandbox"\nheaders = { "X Y" = "z" }'), "endpoint.headers.'X Y'"),
        (changed(URL, 'url = "sandbox"\nheaders = { X = "a\\nb" }'), "endpoint.headers.'X'"),
        (changed(URL, 'url = "https://[::1/v1"'), "endpoint.url"),
        (changed(URL, 'url = "https://h:99999/v1"'), "endpoint.url"),
        (changed(URL, 'url = "https://h/v1/chat/completions"'), "leave out /chat/completions"),
        (changed(PROMPT, 'prompt = { fiel = "none.txt" }'), "request.prompt.fiel: unknown key; did you mean file?"),
        (changed(PROMPT, 'prompt = { file = "a\\u0000" }'), "request.prompt.file"),
        (changed(PROMPT, 'columns = { tools = "t" }'), "request.columns: the messages are missing:"),
        (
            changed(PROMPT, 'columns = { mesages = "t" }'),
            "request.columns.mesages: unknown key; did you mean messages?",
        ),
        (changed(PROMPT, 'messages = [{ content = "b" }]'), "request.messages.0.role: is missing"),
        (changed(PROMPT, 'messages = [{ role = "user", content = { file = "no.txt" } }]'), "no.txt"),
        (
            changed(PROMPT, 'messages = [{ role = "user" }, { role = "asistant" }]'),
            "request.messages.1.role: 'asistant' is not a known role; did you mean assistant?",
        ),
        (changed(PROMPT, 'messages = [{ role = "usr" }]'), "did you mean user?"),
        (changed(PROMPT, 'system = "a"\nmessages = [{ role = "user" }]'), "request.system"),
        (changed(MODEL, 'model = "m"\ntool_choice = "required"'), "request.tool_choice: there is no tool to choose"),
        (changed(MODEL, 'model = "m"\ntemperature = nan'), "request.temperature: nan is not a JSON number"),
        (
            changed(MODEL, 'model = "m"\nseed = 99999999999999999999'),
            "request.seed: the number does not fit into 64 bits",
        ),
        (changed(MODEL, 'model = "m"\nmetadata = { day = 2026-01-31 }'), "request.metadata.day: JSON has no dates"),
        (changed('path = "out"', 'path = "out"\nkeep = ["a", "a"]'), "it must not repeat a value"),
        (changed('path = "out"', 'path = "s3://bucket/out"'), "a folder on this machine"),
        (changed('path = "out"', 'path = ""'), "it must not be empty"),
        (changed(OUTPUT, '[tool]\nfile = "receipt.json"\n[output]'), "tool: "),
        (with_tool('file = "receipt.json"\nstrict = true'), "tool.0: with file, leave out strict"),
        (with_tool('name = "f"\nparameters = { file = "none.json" }'), "none.json"),
    ],
)
def test_a_fault_says_where_it_is_and_what_would_be_right(tmp_path: Path, text: str, told: str) -> None:
    faults = faults_of(write(tmp_path, text))

    assert told in faults[0]
    assert len(faults) == 1 or text == ""


@pytest.mark.parametrize(
    "role", ["developer", "tool", "model", "User", "ipython", "human", "context", "tool_response", "{{assistant}}"]
)
def test_a_role_of_a_server_s_own_is_allowed(tmp_path: Path, role: str) -> None:
    job = load_job(write(tmp_path, changed(PROMPT, f'messages = [{{ role = "{role}", content = "a" }}]')))

    assert [message["role"] for message in job.request.messages or ()] == [role]


@pytest.mark.parametrize(
    ("old", "new", "told", "hint"),
    [
        (MODEL, "model = gpt-4o", "line 7, column 9 (model = …): Invalid value", 'in quotes, model = "…"'),
        (MODEL, "model = 'm'\r\ntop_p = .5", "line 8, column 9 (top_p = …): Invalid value", "a number like 0.5"),
        (MODEL, 'model = "m"\nmodel = "n"', "line 8, column 12 (model = …): Cannot", "model is written twice"),
        (MODEL, "model = 4o", "line 7, column 10 (model = …): Expected newline", "strings need quotes"),
        (MODEL, "model", "line 7, column 6: Expected '='", "strings need quotes"),
        (OUTPUT, "[output", "line 11, column 8: Expected ']'", "strings need quotes"),
        ('path = "out"\n', 'path = "out', "(at end of document)", "strings need quotes"),
    ],
)
def test_what_is_not_toml_is_reported_with_its_line_and_key(
    tmp_path: Path, old: str, new: str, told: str, hint: str
) -> None:
    with pytest.raises(JobError) as refused:
        load_job(write(tmp_path, changed(old, new)))

    assert told in str(refused.value)
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    "line", ["api_key = canary", "api_key = [\ncanary==]", "headers = { Authorization = Bearer canary }", "canary"]
)
def test_a_key_that_stands_there_without_quotes_is_not_repeated(tmp_path: Path, line: str) -> None:
    with pytest.raises(JobError, match="is not TOML") as refused:
        load_job(write(tmp_path, changed(URL, f"{URL}\n{line}")))

    assert "canary" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    "written",
    [
        *("{", "[" * 100_000, '{"name": "f", "parameters": {"minimum": NaN}}', '{"name": "f", "parameters": []}'),
        *("{}", "5", "null", "[]", "[[]]"),
    ],
    ids=["broken", "endless", "not-a-number", "no-schema", "nameless", "scalar", "null", "empty", "list-of-lists"],
)
def test_a_file_that_holds_no_tool_is_a_fault(tmp_path: Path, written: str) -> None:
    (tmp_path / "odd.json").write_text(written)

    faults = faults_of(write(tmp_path, with_tool('file = "odd.json"')))

    assert len(faults) == 1
    assert faults[0].startswith("tool.0")


@pytest.mark.parametrize(
    ("tool", "told"),
    [
        ({"name": "f", "paramters": {}}, "tool.0.paramters: unknown key of a tool; did you mean parameters?"),
        ({"name": "f", "params": {}}, "tool.0.params: unknown key of a tool; did you mean parameters?"),
        ({"name": "f", "inputSchema": {}}, "tool.0.inputSchema: unknown key of a tool; did you mean input_schema?"),
        (
            {"type": "function", "fuction": {"name": "f"}},
            "tool.0.fuction: unknown key of a tool; did you mean function?",
        ),
        (
            {"type": "function", "function": {"name": "f", "Parameters": {}}},
            "tool.0.function.Parameters: unknown key of a tool; did you mean parameters?",
        ),
    ],
)
def test_a_misspelt_key_of_a_tool_is_a_fault(tmp_path: Path, tool: dict[str, Any], told: str) -> None:
    (tmp_path / "odd.json").write_text(json.dumps(tool))

    assert faults_of(write(tmp_path, with_tool('file = "odd.json"'))) == (told,)


def test_keys_that_vendors_have_for_tools_pass_on(tmp_path: Path) -> None:
    own = ("annotations", "cache_control", "defer_loading", "allowed_callers", "input_examples")
    own += ("title", "outputSchema", "output_schema", "response", "responseJsonSchema", "behavior", "max_uses", "x-a")
    tool = {"name": "f", "description": "d", "parameters": {}, "strict": True, **dict.fromkeys(own, 1)}
    (tmp_path / "tools.json").write_text(json.dumps([tool, {"type": "function", "function": {**tool, "name": "g"}}]))

    job = load_job(write(tmp_path, with_tool('file = "tools.json"')))

    assert [spec.written["function"].keys() for spec in job.tools] == [tool.keys()] * 2


NO_SCHEMA = "class Model:\n    @staticmethod\n    def model_json_schema(): return [1]\n"


@pytest.mark.parametrize("source", ["raise SystemExit(3)", "def (", "Model = 5", "class Model: pass", "", NO_SCHEMA])
def test_a_python_tool_that_is_not_a_model_is_a_fault_without_traceback(tmp_path: Path, source: str) -> None:
    (tmp_path / "ill.py").write_text(source)

    faults = faults_of(write(tmp_path, with_tool('python = "ill:Model"')))

    assert len(faults) == 1
    assert faults[0].startswith("tool.0.python: ill:Model cannot be imported as a pydantic model")


def test_toml_that_nests_without_end_is_reported(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="too deep"):
        load_job(write(tmp_path, f"a = {'[' * 100_000}"))


def test_a_folder_stands_for_the_only_job_file_in_it(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is a folder without a job file"):
        load_job(tmp_path)
    job = write(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "not a job"\n')
    (tmp_path / "broken.toml").write_text("= =")
    (tmp_path / "folder.toml").mkdir()

    assert load_job(tmp_path).file == job
    job.rename(tmp_path / "receipts.toml")
    assert load_job(tmp_path).file == tmp_path / "receipts.toml"
    write(tmp_path)
    with pytest.raises(JobError, match=r"several job files: job\.toml, receipts\.toml") as refused:
        load_job(tmp_path)
    assert str(job) in refused.value.hint


def test_of_a_folder_with_a_broken_job_file_its_fault_is_said(tmp_path: Path) -> None:
    write(tmp_path, "= =")

    with pytest.raises(JobError, match=r"job\.toml is not TOML"):
        load_job(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        'api_key = "sk-canary-123456"',
        'api_key = "env:sk-canary-123456"',
        'api_key = { env = "sk-canary-123456" }',
        'api_key = "file:canary\\u0000"',
        'auth = "sk-canary-123456"',
        'apikey = "sk-canary-123456"',
        'headers = { X-Extra = "sk-canary-123456" }',
        'headers = { X-Extra = "Bearer canary" }',
        'headers = { api-key = "canary" }',
        'headers = { X-Extra = ["canary"] }',
        'headers = "canary"',
    ],
)
def test_a_secret_in_the_endpoint_is_a_fault_that_does_not_repeat_it(tmp_path: Path, line: str) -> None:
    faults = faults_of(write(tmp_path, changed(URL, f"{URL}\n{line}")))

    assert len(faults) == 1
    assert "canary" not in faults[0]


@pytest.mark.parametrize(
    "url",
    [
        "https://me:canary@host/v1",
        "ftp://me:canary@host",
        "https://host/v1?key=canary",
        "https://host/v1?api-version=1;key=canary",
        "https://host/v1?subscription-key=canary",
        "https://host/v1?code=canary",
        "https://host/v1?X-Amz-Credential=canary",
        "https://host/v1?%6bey=canary",
        "canary",
        "http://[::1].canary/v1",
        "http://[::1]canary:80/v1",
    ],
)
def test_a_url_is_never_repeated_as_it_may_hold_a_password(tmp_path: Path, url: str) -> None:
    faults = faults_of(write(tmp_path, changed(URL, f'url = "{url}"')))

    assert len(faults) == 1
    assert faults[0].startswith("endpoint.url: ")
    assert "canary" not in faults[0]


def test_the_query_that_azure_has_in_its_urls_is_allowed(tmp_path: Path) -> None:
    url = "https://host/openai/deployments/d?api-version=2024-10-21"

    assert load_job(write(tmp_path, changed("sandbox", url))).endpoints[0].url == url


def test_a_value_given_by_set_is_not_repeated(tmp_path: Path) -> None:
    faults = faults_of(write(tmp_path), "endpoint.url.key=sk-canary", "sk-canary")

    assert len(faults) == 2
    assert not any("canary" in fault for fault in faults)


@pytest.mark.parametrize("value", ["9" * 5_000, "[" * 5_000, "2026-13-45", "'", "gpt-4o"])
def test_what_set_gives_is_a_text_where_it_is_not_toml(tmp_path: Path, value: str) -> None:
    assert load_job(write(tmp_path), overrides=(f"request.model={value}",)).request.model == value


@pytest.mark.parametrize("override", ["tool.0.file=receipt.json", "tool.-1.file=x", "request.messages.0.role=user"])
def test_set_makes_no_lists_and_counts_from_their_start(tmp_path: Path, override: str) -> None:
    assert any("no such key" in fault for fault in faults_of(write(tmp_path), override))


def test_a_set_value_is_one_value_and_no_further_toml(tmp_path: Path) -> None:
    job = load_job(write(tmp_path), overrides=("request.system=1\n[sandbox]\nseed = 7",))

    assert (job.request.system, job.sandbox.seed) == ("1\n[sandbox]\nseed = 7", 0)


@pytest.mark.parametrize("key", ["Bearer canary", "canary\nother", "canaryä", "\x07canary"])
def test_what_no_key_looks_like_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("ODD_KEY", key)

    with pytest.raises(JobError, match="characters that a key cannot have") as refused:
        resolve_key("env:ODD_KEY")

    assert "canary" not in f"{refused.value} {refused.value.hint}"


def test_a_secret_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret("canary"))


def test_headers_that_are_named_like_secrets_are_not_recorded(tmp_path: Path) -> None:
    headers = 'headers = { X-Team = "data", X-Access-Token = "canary" }'

    job = load_job(write(tmp_path, changed(URL, f"{URL}\n{headers}")))

    assert job.endpoints[0].headers["X-Access-Token"] == "canary"
    assert masked(job)["endpoints"][0]["headers"] == {"X-Team": "data", "X-Access-Token": "***"}


def test_a_key_that_is_never_sent_is_warned_of(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, changed(URL, f'{URL}\napi_key = "env:K"\nauth = "none"')))

    assert job.warnings == ['endpoint.api_key is never sent, because endpoint.auth is "none"']


@pytest.mark.parametrize(
    "text",
    [
        "",
        changed(LIMITS, 'concurrency = "many"'),
        changed(LIMITS, "attempts = 0"),
        changed(LIMITS, 'timeout = "soon"'),
        changed(OUTPUT, '[tool]\nfile = "receipt.json"\n[output]'),
        changed(OUTPUT, "[outputs]"),
        changed(PROMPT, 'prompt = { fiel = "a" }'),
        changed("[endpoint]", "[[endpoint]]").replace("url", "ulr"),
    ],
)
def test_editors_and_the_program_refuse_the_same(tmp_path: Path, text: str) -> None:
    assert not jsonschema_rs.is_valid(job_schema(), tomllib.loads(text))
    assert faults_of(write(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        SMALL,
        changed(LIMITS, 'concurrency = "auto"\ntimeout = 9.5\nmax_failed = 3'),
        changed(LIMITS, 'concurrency = 8\ntimeout = "1m 30s"\nmax_failed = "100%"'),
        changed("[endpoint]", "[[endpoint]]"),
        changed(PROMPT, 'messages = [{ role = "user", content = [{ type = "text", text = "{{ text }}" }] }]'),
        changed(PROMPT, 'prompt = { file = "receipt.json" }\nseen = 7'),
        changed(OUTPUT, '[sandbox]\nlatency = "200ms"\n[output]'),
    ],
)
def test_editors_and_the_program_accept_the_same(tmp_path: Path, text: str) -> None:
    jsonschema_rs.validate(job_schema(), tomllib.loads(text))
    assert load_job(write(tmp_path, text)).file == tmp_path / "job.toml"


def test_editors_find_every_key_described_and_only_what_they_understand() -> None:
    sections = job_schema()["properties"]

    undescribed = [
        f"{section}.{key}"
        for section, schema in sections.items()
        for key, value in schema.get("properties", {}).items()
        if not value.get("description")
    ]

    assert undescribed == []
    assert '"if"' not in json.dumps(job_schema())


def test_a_field_with_a_description_is_a_key_and_a_field_without_one_is_not() -> None:
    class Section(msgspec.Struct, forbid_unknown_fields=True):
        pace_s: Annotated[float, "how long to wait", {"name": "pace", "minimum": 0}]
        mood: Annotated[Literal["calm", "eager"] | None, "how to wait"] = None
        found: int = 0

    assert schema_of(Section, "a section") == {
        "type": "object",
        "description": "a section",
        "properties": {
            "pace": {"type": "number", "description": "how long to wait", "minimum": 0},
            "mood": {"type": "string", "description": "how to wait", "enum": ["calm", "eager"]},
        },
        "required": ["pace"],
        "additionalProperties": False,
    }


EVERYTHING = {
    "input": {"path": "rows.jsonl", "id": "id"},
    "endpoint": [
        {"url": "http://127.0.0.1:1/v1", "api_key": ["env:A", "env:B"], "model": "x", "concurrency": "auto"},
        {"url": "http://127.0.0.1:2/v1", "protocol": "gemini", "auth": "none", "headers": {"a": "b"}},
    ],
    "request": {"model": "m", "prompt": "{{ text }}", "tool_choice": "record", "temperature": 0.1},
    "tool": [{"file": "receipt.json"}],
    "validate": {"reask": 2, "coerce": True},
    "limits": {"attempts": 6, "max_cost": 1.0, "timeout": "3s", "requests_per_minute": 60},
    "output": {"path": "out"},
    "prices": {"m": {"prompt": 1, "completion": 2}, "x": {"prompt": 1, "completion": 2}},
    "sandbox": {"latency": "1s"},
}
ODD = [
    0,
    -1,
    1.5,
    "",
    "x",
    "env:",
    "\0",
    "http://[",
    "é",
    [],
    [[]],
    [{}],
    ["a", "a"],
    {},
    {"a": 1},
    True,
    10**30,
    math.inf,
]


def places_in(written: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = written.items() if isinstance(written, dict) else enumerate(written) if isinstance(written, list) else ()
    for step, value in steps:
        yield (*at, step)
        yield from places_in(value, (*at, step))


def spoilt(seed: int) -> dict[str, Any]:
    """A job file with one to three of its values removed, misspelt or replaced by odd ones."""
    dice, job = random.Random(seed), copy.deepcopy(EVERYTHING)
    for _ in range(dice.randint(1, 3)):
        *way, last = dice.choice(list(places_in(job)))
        around: Any = functools.reduce(operator.getitem, way, job)
        value = around.pop(last)
        if dice.random() < 0.3 and isinstance(around, dict):
            around[last + "q"] = value
        elif dice.random() < 0.6 and isinstance(around, dict):
            around[last] = copy.deepcopy(dice.choice(ODD))
    return job


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {as_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str | bool) else repr(value)


def test_a_job_file_however_spoilt_gives_a_job_or_faults_and_nothing_else(tmp_path: Path) -> None:
    refused = 0
    for seed in range(1_500):
        text = "\n".join(f"{json.dumps(name)} = {as_toml(value)}" for name, value in spoilt(seed).items())
        try:
            load_job(write(tmp_path, text))
        except JobError as error:
            refused += bool(error.faults)

    assert 1_000 < refused < 1_500


def test_data_that_is_given_as_a_job_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "Ada"}\n')

    with pytest.raises(JobError, match=r"rows\.jsonl is not a job file: line 1 is not TOML") as refused:
        load_job(tmp_path / "rows.jsonl")

    assert "give a job file, such as job.toml" in refused.value.hint
