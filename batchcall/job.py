"""The job file, typed and checked once, all faults together. Reads nothing but the job file and the files it names."""

from __future__ import annotations

import difflib
import importlib
import ipaddress
import json
import os
import re
import stat
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import jsonschema_rs
import msgspec

from batchcall.errors import JobError
from batchcall.job_schema import SCHEMA
from batchcall.records import Json
from batchcall.secret import Secret

SUPPORTED_PROTOCOLS = ("openai-chat",)


class InputSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str  # file, directory, glob or URI; relative paths are resolved against the job file's folder on load
    id: str | None = None  # column that names a row


class EndpointSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str  # "sandbox" starts the embedded endpoint
    protocol: str = "openai-chat"
    api_key: str | None = None  # "env:NAME" or "file:PATH", never the key itself
    auth: str | None = None  # bearer | x-api-key | x-goog-api-key | none | header:NAME; None: by protocol
    headers: dict[str, str] = {}
    ca_file: str | None = None  # own certificate authority, PEM
    trust_env: bool = False  # take a proxy from the environment


class RequestSection(msgspec.Struct, frozen=True, kw_only=True):
    """`parameters` is every other key of [request], passed through to the body as written."""

    model: str | None = None
    system: str | None = None  # template text; `{ file = … }` is resolved on load
    prompt: str | None = None  # template text
    messages: list[dict[str, Any]] | None = None  # role/content templates
    columns: dict[str, str] | None = None  # messages, tools, tool_choice: names of columns
    tool_choice: Any = None  # None: the tool if there is one; "required" where there are several
    parameters: dict[str, Any] = {}


class LimitsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None  # None: "auto"
    timeout_s: float = 60.0  # `timeout = "60s"` in the file; one attempt
    attempts: int = 6
    max_cost: float | None = None  # USD
    max_tokens_total: int | None = None
    max_failed_rows: int | None = None  # `max_failed = 20` in the file
    max_failed_share: float | None = None  # `max_failed = "2%"` in the file: 0.02


class ValidateSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    repair: bool = True
    coerce: bool = False
    reask: int = 0


class OutputSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: Path
    keep: list[str] | None = None  # None: all columns of the input
    response: bool = True
    part_rows: int = 10_000


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens. `[prices."gpt-4o-mini"]` in the file."""

    prompt: float
    completion: float
    cached: float | None = None  # None: as prompt


class SandboxSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the embedded endpoint does to a job whose url is "sandbox"."""

    latency: float = 0.0  # seconds, median; the tail is heavy
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    faults: dict[str, float] = {}  # share of requests per fault name, 0 to 1
    seed: int = 0


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A tool, resolved: its whole OpenAI tool object as it will be sent."""

    written: dict[str, Any]  # {"type": "function", "function": {"name", "description", "parameters", "strict"}}
    origin: str  # "receipt.json" or "[[tool]] 1", for messages


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job file, complete and consistent: every path absolute, every file read, every duration in seconds."""

    file: Path
    input: InputSection
    endpoints: list[EndpointSection]
    request: RequestSection
    tools: list[ToolSpec] = []
    limits: LimitsSection = LimitsSection()
    validate: ValidateSection = ValidateSection()
    output: OutputSection
    prices: dict[str, Price] = {}
    sandbox: SandboxSection = SandboxSection()
    warnings: list[str] = []  # what is allowed and yet looks like a slip


def load_job(path: Path, *, overrides: tuple[str, ...] = ()) -> Job:
    """Read and check a job file. `overrides` are "key.path=value" as after `--set`, values in TOML.

    Raises JobError with one sentence per fault, all faults at once.
    """
    path = Path(os.path.abspath(path))
    written = _parsed(path)
    draft = _Draft(path, written, [])
    for override in overrides:
        _override(draft, override)
    _check_shape(draft)
    draft.stop_at_faults()  # what has the wrong type cannot be looked at further
    job = _built(draft)
    _check_sense(draft, job)
    draft.stop_at_faults()
    return job


class _Draft(NamedTuple):
    """A job file that is being read."""

    path: Path
    written: dict[str, Any]
    faults: list[str]

    @property
    def folder(self) -> Path:
        return self.path.parent

    def fault(self, where: str, what: str) -> None:
        self.faults.append(f"{where}: {what}")

    def stop_at_faults(self) -> None:
        if self.faults:
            count = "a fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
            raise JobError(f"{self.path.name} has {count}", faults=tuple(dict.fromkeys(self.faults)))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise JobError(f"there is no job file {path}", hint="`batchcall init` writes one to start from") from None
    except UnicodeDecodeError as error:
        raise JobError(f"{path} is not UTF-8 (byte {error.start})", hint="TOML is UTF-8 always") from error
    except tomllib.TOMLDecodeError as error:
        raise JobError(f"{path} is not TOML: {error}", hint="mend that line; texts stand in quotes") from error
    except OSError as error:
        hint = f"did you mean {path / 'job.toml'}?" if path.is_dir() else ""
        raise JobError(f"{path} cannot be read: {error.strerror}", hint=hint) from error


def _override(draft: _Draft, override: str) -> None:
    key, mark, text = override.partition("=")
    steps = _key_steps(key)
    if not mark or not steps:
        draft.fault(f"--set {override}", "it must be key.path=value")
        return
    place: Any = draft.written
    try:
        for step in steps[:-1]:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        place[int(steps[-1]) if isinstance(place, list) else steps[-1]] = _toml_value(text)
    except (IndexError, ValueError, TypeError, AttributeError):
        draft.fault(f"--set {override}", f"the job file has no place {key}")


def _key_steps(key: str) -> list[str]:
    """`prices."gpt-4.1".prompt` has three steps."""
    return [quoted or bare for quoted, bare in re.findall(r'"([^"]+)"|([^."\s]+)', key)]


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _check_shape(draft: _Draft) -> None:
    """Unknown keys with a suggestion, then everything the schema says."""
    for where, name, known in _unknown_keys(draft.written, SCHEMA, ""):
        near = difflib.get_close_matches(name, known, n=1)
        draft.fault(where, f"unknown key{f'; did you mean {near[0]}?' if near else ', known are ' + ', '.join(known)}")
    for error in _VALIDATOR.iter_errors(draft.written):
        if "was unexpected" not in error.message and "were unexpected" not in error.message:
            _tell(draft, error)


_VALIDATOR = jsonschema_rs.validator_for(SCHEMA, offline=True)


def _tell(draft: _Draft, error: jsonschema_rs.ValidationError) -> None:
    where = ".".join(map(str, error.instance_path)) or draft.path.name
    message = error.message if len(error.message) < 200 else error.message[:200] + " …"
    if where.endswith(("api_key", "auth")) or ".headers" in where:
        message = "its value cannot be right"  # it may be a key that strayed there
    meant = _described(error.instance_path)
    draft.fault(where, message + (f" ({meant})" if meant else ""))


def _described(path: list[str | int]) -> str:
    place: Any = SCHEMA
    for step in path:
        place = place.get("else", place) if "properties" not in place else place
        known = place.get("properties", {})
        place = place.get("items", {}) if isinstance(step, int) else known.get(step, place.get("additionalProperties"))
        if not isinstance(place, dict):
            return ""
    return str(place.get("description", ""))


def _unknown_keys(value: Any, schema: Any, where: str) -> Iterator[tuple[str, str, list[str]]]:
    if not isinstance(schema, dict):
        return
    if "else" in schema:
        schema = schema["then"] if isinstance(value, list) else schema["else"]
    if isinstance(value, list):
        for place, one in enumerate(value):
            yield from _unknown_keys(one, schema.get("items"), f"{where}.{place}")
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        for name, inner in value.items():
            path = f"{where}.{name}".lstrip(".")
            if name in known:
                yield from _unknown_keys(inner, known[name], path)
            elif schema.get("additionalProperties") is False:
                yield path, name, list(known)
            else:
                yield from _unknown_keys(inner, schema.get("additionalProperties"), path)


def _built(draft: _Draft) -> Job:
    written = draft.written
    endpoints = written["endpoint"] if isinstance(written["endpoint"], list) else [written["endpoint"]]
    output = written["output"]
    return Job(
        file=draft.path,
        input=InputSection(path=_located(draft, written["input"]["path"]), id=written["input"].get("id")),
        endpoints=[_endpoint(draft, endpoint) for endpoint in endpoints],
        request=_request(draft, written.get("request", {})),
        tools=list(_tools(draft, written.get("tool", []))),
        limits=_limits(written.get("limits", {})),
        validate=ValidateSection(**written.get("validate", {})),
        output=OutputSection(**{**output, "path": Path(os.path.normpath(draft.folder / output["path"]))}),
        prices={model: Price(**price) for model, price in written.get("prices", {}).items()},
        sandbox=SandboxSection(**written.get("sandbox", {})),
        warnings=_slips(written.get("request", {})),
    )


def _located(draft: _Draft, path: str) -> str:
    return path if "://" in path else os.path.normpath(draft.folder / path)


def _endpoint(draft: _Draft, written: Mapping[str, Any]) -> EndpointSection:
    ca_file = written.get("ca_file")
    more = {} if ca_file is None else {"ca_file": str(draft.folder / ca_file)}
    key = written.get("api_key")
    if isinstance(key, str) and key.startswith("file:"):
        more["api_key"] = "file:" + str(draft.folder / key.removeprefix("file:"))
    return EndpointSection(**{**written, **more, "url": written["url"].rstrip("/")})


def _request(draft: _Draft, written: Mapping[str, Any]) -> RequestSection:
    own = set(RequestSection.__struct_fields__) - {"parameters"}
    messages = written.get("messages")
    return RequestSection(
        model=written.get("model"),
        system=_template_text(draft, "request.system", written.get("system")),
        prompt=_template_text(draft, "request.prompt", written.get("prompt")),
        messages=None if messages is None else [_message(draft, place, one) for place, one in enumerate(messages)],
        columns=written.get("columns"),
        tool_choice=written.get("tool_choice"),
        parameters={name: value for name, value in written.items() if name not in own},
    )


def _message(draft: _Draft, place: int, written: Mapping[str, Any]) -> dict[str, Any]:
    content = written.get("content")
    if isinstance(content, dict) and set(content) == {"file"}:
        return {**written, "content": _template_text(draft, f"request.messages.{place}.content", content)}
    return dict(written)


def _template_text(draft: _Draft, where: str, written: Any) -> str | None:
    return _read_text(draft, where, written["file"]) if isinstance(written, dict) else written


def _read_text(draft: _Draft, where: str, file: str) -> str:
    try:
        return (draft.folder / file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        draft.fault(where, f"{file} is not UTF-8")
    except OSError as error:
        draft.fault(where, f"{file} cannot be read: {error.strerror} (looked in {draft.folder})")
    return ""


def _limits(written: Mapping[str, Any]) -> LimitsSection:
    limits = dict(written)
    if limits.get("concurrency") == "auto":
        del limits["concurrency"]
    for name in ("requests_per_minute", "tokens_per_minute"):
        limits[name] = limits.get(name) or None
    if "timeout" in limits:
        limits["timeout_s"] = parse_duration(limits.pop("timeout"), key="limits.timeout")
    failed = limits.pop("max_failed", None)
    if isinstance(failed, str):
        limits["max_failed_share"] = float(failed.strip().rstrip("% ")) / 100
    elif failed is not None:
        limits["max_failed_rows"] = failed
    return LimitsSection(**limits)


def parse_duration(written: str | float, *, key: str) -> float:
    """Seconds of "90s", "1m30s", "500ms", "2h", or of a plain number. Raises JobError naming `key`."""
    if isinstance(written, (int, float)):
        return float(written)
    pieces = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", written)
    total = sum(float(number) * _UNITS_S[unit] for number, unit in pieces)
    if not pieces or re.sub(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)|\s", "", written) or total <= 0:
        raise JobError(f"{key}: {written!r} is no duration", hint="write 90s, 1m30s, 500ms or 2h")
    return total


_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def _tools(draft: _Draft, written: list[dict[str, Any]]) -> Iterator[ToolSpec]:
    for place, one in enumerate(written):
        where = f"tool.{place}"
        ways = [way for way in ("file", "python", "name") if way in one]
        if len(ways) != 1 and ways[:2] != ["python", "name"]:
            draft.fault(where, "give one of file, python, or name with parameters")
            continue
        function = _TOOL_WAYS[ways[0]](draft, where, one)
        if function is not None:
            yield from _tool_spec(draft, where, function, one)


def _tool_spec(draft: _Draft, where: str, tool: Any, written: Mapping[str, Any]) -> Iterator[ToolSpec]:
    """A whole OpenAI tool object, or the function alone."""
    if isinstance(tool, dict) and tool.get("type") == "function" and isinstance(tool.get("function"), dict):
        whole, function = tool, tool["function"]
    else:
        whole, function = {"type": "function", "function": tool}, tool
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        draft.fault(where, 'a tool is {"type": "function", "function": {"name", "parameters"}}; the name is missing')
    elif not isinstance(function.get("parameters", {}), dict):
        draft.fault(f"{where}.parameters", "they must be a JSON Schema, an object")
    else:
        yield ToolSpec(written=whole, origin=str(written.get("file", where)))


def _tool_of_file(draft: _Draft, where: str, written: Mapping[str, Any]) -> Any:
    before = len(draft.faults)
    text = _read_text(draft, f"{where}.file", written["file"])
    if len(draft.faults) > before:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        draft.fault(f"{where}.file", f"{written['file']} is not JSON: {error}")
        return None


def _tool_inline(draft: _Draft, where: str, written: Mapping[str, Any]) -> Any:
    return dict(written)


def _tool_of_python(draft: _Draft, where: str, written: Mapping[str, Any]) -> Any:
    """A pydantic model's schema; the module is looked for beside the job file first."""
    module, _, name = written["python"].partition(":")
    sys.path.insert(0, str(draft.folder))
    try:
        model = getattr(importlib.import_module(module), name)
        schema = model.model_json_schema()
    except Exception as error:  # whatever a foreign module raises is a fault of the job file
        draft.fault(
            f"{where}.python", f"{written['python']} is no pydantic model here: {type(error).__name__}: {error}"
        )
        return None
    finally:
        sys.path.remove(str(draft.folder))
    told = written.get("description") or schema.get("description")
    function: dict[str, Any] = {"name": written.get("name", name)}
    if told:
        function["description"] = told
    function["parameters"] = {key: value for key, value in schema.items() if key not in ("title", "description")}
    if "strict" in written:
        function["strict"] = written["strict"]
    return function


_TOOL_WAYS: Mapping[str, Callable[[_Draft, str, Mapping[str, Any]], Any]] = {
    "file": _tool_of_file,
    "python": _tool_of_python,
    "name": _tool_inline,
}


def _slips(request: Mapping[str, Any]) -> list[str]:
    """Keys that go into the body as written, and yet look like one of ours."""
    own = [name for name in RequestSection.__struct_fields__ if name != "parameters"]
    return [
        f"request.{name} goes into the body as written; did you mean {near[0]}?"
        for name in request
        if name not in own
        and name not in _BODY_KEYS
        and (near := difflib.get_close_matches(name, own, n=1, cutoff=0.8))
    ]


# Documented keys of a chat-completions body that are near to one of ours.
_BODY_KEYS = frozenset({"tools", "store", "stop", "stream", "modalities", "metadata"})


def _check_sense(draft: _Draft, job: Job) -> None:
    """What each value alone cannot tell."""
    for check in (_check_endpoints, _check_request, _check_tools, _check_money):
        check(draft, job)


def _check_endpoints(draft: _Draft, job: Job) -> None:
    if len(job.endpoints) > 1:
        draft.fault("endpoint", "this version asks one endpoint; give one [endpoint]")
    for endpoint in job.endpoints:
        if endpoint.protocol not in SUPPORTED_PROTOCOLS:
            supported = ", ".join(SUPPORTED_PROTOCOLS)
            draft.fault(
                "endpoint.protocol", f"{endpoint.protocol} is not supported by this version; it has {supported}"
            )
        if endpoint.api_key is not None and not re.match(r"(env:[A-Za-z_]\w*|file:.+)$", endpoint.api_key):
            draft.fault("endpoint.api_key", 'never the key itself: "env:NAME" or "file:PATH" says where it is')
        for name, value in endpoint.headers.items():
            _check_header(draft, name, value)
        if endpoint.api_key is not None and _is_plain_http_elsewhere(endpoint.url):
            draft.fault("endpoint.url", "a key goes over https only, except to this machine")


_KEY_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization", "cookie"})


def _check_header(draft: _Draft, name: str, value: str) -> None:
    if name.lower() in _KEY_HEADERS:
        draft.fault(
            f"endpoint.headers.{name}", "keys do not stand in a job file: use endpoint.api_key and endpoint.auth"
        )
    if not name.isprintable() or not value.isprintable():
        draft.fault(f"endpoint.headers.{name!r}", "a header is one printable line")


def _is_plain_http_elsewhere(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme != "http":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname != "localhost"


def _check_request(draft: _Draft, job: Job) -> None:
    request = job.request
    ways = [name for name in ("prompt", "messages") if getattr(request, name) is not None]
    if request.columns is not None and "messages" in request.columns:
        ways.append("columns.messages")
    if len(ways) > 1:
        draft.fault("request", f"give one of {', '.join(ways)}, not all")
    if request.messages is not None and request.system is not None:
        draft.fault("request.system", "with messages, the system message is one of them")
    if ways and request.model is None:
        draft.fault("request.model", "the model's name is missing")
    for name, instead in (("tools", "[[tool]]"), ("functions", "[[tool]]")):
        if name in request.parameters:
            draft.fault(f"request.{name}", f"tools stand in {instead}, or come from the row with columns")


def _check_tools(draft: _Draft, job: Job) -> None:
    names = [tool.written["function"]["name"] for tool in job.tools]
    for name in {name for name in names if names.count(name) > 1}:
        draft.fault("tool", f"two tools are called {name}")
    for name in names:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            draft.fault("tool", f"{name!r} is no name for a tool: letters, digits, _ and -, at most 64")
    choice = job.request.tool_choice
    if isinstance(choice, str) and choice not in (*_CHOICES, *names) and not (job.request.columns or {}).get("tools"):
        near = difflib.get_close_matches(choice, [*_CHOICES, *names], n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        draft.fault("request.tool_choice", f"{choice!r} is neither auto, required, none nor a tool's name{meant}")


_CHOICES = ("auto", "required", "none")


def _check_money(draft: _Draft, job: Job) -> None:
    model = job.request.model
    if job.limits.max_cost is not None and model is not None and model not in job.prices:
        draft.fault(
            "limits.max_cost", f'it needs to know what {model} costs: give [prices."{model}"] prompt and completion'
        )


def resolve_tool_choice(job: Job) -> Json:
    """What is sent as tool_choice: as written; else the tool where there is one, `required` where there are several."""
    choice: Json = job.request.tool_choice
    names = [tool.written["function"]["name"] for tool in job.tools]
    if choice is None and len(names) != 1:
        return "required" if names else None
    name = names[0] if choice is None else choice
    if isinstance(name, str) and name not in _CHOICES:
        return {"type": "function", "function": {"name": name}}
    return choice


def resolve_key(reference: str | None) -> Secret | None:
    """The key that "env:NAME" or "file:PATH" refers to. Raises JobError when it is not there, or others may read it."""
    if reference is None:
        return None
    source, _, place = reference.partition(":")
    key = (os.environ.get(place, "") if source == "env" else _key_in_file(place)).strip()
    if not key:
        raise JobError(
            f"endpoint.api_key: {reference} is not set", hint=f"set it: export {place}=…" if source == "env" else ""
        )
    if not key.isascii() or not key.isprintable():
        raise JobError(f"endpoint.api_key: {reference} holds characters that no key has", hint="look for a stray line")
    return Secret(key)


def _key_in_file(path: str) -> str:
    try:
        if os.name != "nt" and stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            raise JobError(f"endpoint.api_key: others may read {path}", hint=f"chmod 600 {path}")
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise JobError(f"endpoint.api_key: {path} cannot be read: {error.strerror}") from error


def job_schema() -> dict[str, Any]:
    """JSON Schema of the job file, for editors (`batchcall schema`)."""
    return SCHEMA


def request_identity(job: Job) -> dict[str, Any]:
    """What shapes the requests of a job: when it differs, so does every request."""
    request = job.request
    return {
        "protocol": spoken_by(job),
        "model": request.model,
        "system": request.system,
        "prompt": request.prompt,
        "messages": request.messages,
        "columns": request.columns,
        "tool_choice": resolve_tool_choice(job),
        "parameters": msgspec.to_builtins(request.parameters),
        "tools": [tool.written for tool in job.tools],
    }


def spoken_by(job: Job) -> str:
    """The protocol, and whether it is the embedded endpoint that speaks: what that one invents is never taken for a
    model's answer. Any other change of host is none of the request's."""
    endpoint = job.endpoints[0]
    return f"{endpoint.protocol} of the sandbox" if endpoint.url == "sandbox" else endpoint.protocol


def describe_change(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line per key that differs."""
    return [f"{where}: {before} -> {after}" for where, before, after in _differences(old, new, "")]


_ABSENT = object()


def _differences(old: Any, new: Any, where: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(old.get(name, _ABSENT), new.get(name, _ABSENT), f"{where}.{name}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(before, after, f"{where}.{place}")
    elif old != new:
        yield where, *_around_change(_shown(old), _shown(new))


def _shown(value: Any) -> str:
    return "(absent)" if value is _ABSENT else json.dumps(value, ensure_ascii=False, default=str)


def _around_change(old: str, new: str) -> tuple[str, str]:
    """Of long texts, the part where they begin to differ."""
    if max(len(old), len(new)) <= _SHOWN_CHANGE:
        return old, new
    same = next((place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - 20)
    return _excerpt(old, start), _excerpt(new, start)


def _excerpt(text: str, start: int) -> str:
    end = start + _SHOWN_CHANGE
    return ("…" if start else "") + text[start:end] + ("…" if len(text) > end else "")


_SHOWN_CHANGE = 100  # characters


def masked(job: Job) -> dict[str, Any]:
    """The job as run.json keeps it: without secrets, and readable as a Job again."""
    written: dict[str, Any] = msgspec.to_builtins(job, enc_hook=str)
    written["input"]["path"] = re.sub(r"//[^/@\s]+@", "//***@", written["input"]["path"])
    return written
