"""The job file, typed and checked once, all faults together. Reads nothing but the job file and the files it names."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from batchcall.base import JobError, Json, close_to
from batchcall.disk import REHEARSAL
from batchcall.job.change import describe_change
from batchcall.job.endpoint import (
    check_endpoints,
    idle_keys,
    masked_headers,
    read_endpoints,
)
from batchcall.job.file_schema import for_editors
from batchcall.job.reading import Draft, job_file_at, located, parse_duration, read_draft, read_text
from batchcall.job.sections import (
    SCHEMA,
    EndpointSection,
    InputSection,
    Job,
    LimitsSection,
    OutputSection,
    Price,
    RequestSection,
    SandboxSection,
    ValidateSection,
)
from batchcall.job.tools import read_tools
from batchcall.job.warnings import misspelt, misspelt_keys, quoted_values, unused_prices
from batchcall.requests import template_faults


def as_job(job: Job | Path | str) -> Job:
    """A job as it is, or read from its file. Raises JobError."""
    return job if isinstance(job, Job) else load_job(job)


def load_job(path: Path | str, *, overrides: tuple[str, ...] = ()) -> Job:
    """Read and check a job file, or the only one in a folder.

    `overrides` are "key.path=value" as after `--set`, values in TOML.
    Raises JobError with one sentence per fault, all faults at once.
    """
    # All faults come at once, not one after each fix: each step adds its faults to the draft and uses a stand-in.
    # Checks whose sections have the wrong shape are left out: their faults would only follow from that.
    draft = read_draft(job_file_at(Path(os.path.abspath(path))), overrides)
    job = _built(draft)
    for check, sections in (
        (check_endpoints, {"endpoint"}),
        (_check_request, {"request"}),
        (_check_templates, {"request"}),
        (_check_tool_choice, {"request", "tool"}),
        (_check_money, {"request", "limits", "prices"}),
    ):
        if not draft.unsound & sections:
            check(draft, job)
    draft.stop_at_faults()
    return job


def _built(draft: Draft) -> Job:
    """The job as far as it is right; a section that is wrong has a stand-in, and its faults are in the draft."""
    request = draft.section("request", instead={})
    rows = draft.section("input", instead={"path": "."})
    # One name for all endpoints is the request's model, wherever it was written: moving it does not change the job. An
    # endpoint has a model of its own only where it asks for another one. Rows of a batch file bring models of their
    # own: there an endpoint asks for its model whatever the row names.
    is_batch = not request.keys() & {"prompt", "messages", "columns"}
    endpoints, model = read_endpoints(draft), request.get("model")
    called = [endpoint.model or model for endpoint in endpoints]
    if called and (len(set(called)) == 1 or (model is None and not (is_batch and None in called))):
        model = called[0]
    own = [None if one.model == model and not is_batch else one.model for one in endpoints]
    endpoints = [msgspec.structs.replace(one, model=name) for one, name in zip(endpoints, own, strict=True)]

    # Each of these may add faults, which are shown in this order.
    asked = _request(draft, {**request, "model": model})
    tools = read_tools(draft)
    limits = _limits(draft, draft.section("limits", instead={}))
    output = draft.section("output", instead={"path": "."})
    if "://" in output["path"]:
        draft.fault("output.path", "results are written to a folder on this machine; copy them to a store afterwards")
    sandbox = draft.section("sandbox", instead={})
    latency = _seconds(draft, "sandbox.latency", sandbox.get("latency", 0.0), may_be_zero=True)
    prices = {name: Price(**price) for name, price in draft.section("prices", instead={}).items()}

    return Job(
        file=draft.path,
        input=InputSection(path=located(draft, rows["path"]), id=rows.get("id")),
        endpoints=endpoints,
        request=asked,
        tools=tools,
        limits=limits,
        validate=ValidateSection(**draft.section("validate", instead={})),
        output=OutputSection(**{**output, "path": Path(located(draft, output["path"]))}),
        prices=prices,
        sandbox=SandboxSection(**{**sandbox, "latency": latency}),
        warnings=[
            *idle_keys(endpoints),
            *misspelt_keys(request, _OWN_KEYS),
            *quoted_values(asked.parameters),
            *(() if is_batch else unused_prices(prices, [endpoint.model or model for endpoint in endpoints])),
        ],
    )


def _request(draft: Draft, written: Mapping[str, Any]) -> RequestSection:
    own = {name: value for name, value in written.items() if name in _OWN_KEYS}
    for name in ("system", "prompt"):
        if name in own:
            own[name] = _template_text(draft, f"request.{name}", own[name])
    if "messages" in own:
        own["messages"] = [dict(message) for message in own["messages"]]
    for place, message in enumerate(own.get("messages", ())):
        # A content that is a list of parts stays as it is: its texts are templates, and none of them a file.
        if "content" in message:
            message["content"] = _template_text(draft, f"request.messages.{place}.content", message["content"])
    return RequestSection(**own, parameters={name: value for name, value in written.items() if name not in _OWN_KEYS})


_OWN_KEYS = frozenset(RequestSection.__struct_fields__) - {"parameters"}


def _template_text(draft: Draft, where: str, written: Any) -> Any:
    return (read_text(draft, where, written["file"]) or "") if isinstance(written, dict) else written


def _limits(draft: Draft, written: Mapping[str, Any]) -> LimitsSection:
    # The file has forms for people ("60s", "2%", "auto", 0 for no limit), the section has one number for each.
    limits = dict(written)
    if limits.get("concurrency") == "auto":
        del limits["concurrency"]
    for name in ("requests_per_minute", "tokens_per_minute"):
        limits[name] = limits.get(name) or None
    if "timeout" in limits:
        limits["timeout_s"] = _seconds(draft, "limits.timeout", limits.pop("timeout"))
    failed = limits.pop("max_failed", None)
    if isinstance(failed, str):
        limits["max_failed_share"] = float(failed.strip().rstrip("% ")) / 100
    elif failed is not None:
        limits["max_failed_rows"] = failed
    return LimitsSection(**limits)


def _seconds(draft: Draft, where: str, written: str | float, *, may_be_zero: bool = False) -> float:
    try:
        seconds = parse_duration(written, key=where, may_be_zero=may_be_zero)
    except JobError as error:
        draft.fault(where, f"{str(error).removeprefix(f'{where}: ')}; {error.hint}")
        return 0.0
    if seconds > _LONGEST_S:
        draft.fault(where, f"{written!r} is longer than one day")
    return seconds


_LONGEST_S = 86_400.0


def _check_request(draft: Draft, job: Job) -> None:
    request = job.request
    columns = request.columns or {}
    ways = [name for name in ("prompt", "messages") if getattr(request, name) is not None]
    if "messages" in columns:
        ways.append("columns.messages")
    if len(ways) > 1:
        draft.fault("request", f"give only one of {', '.join(ways)}")
    if not ways and request.columns is None:
        for name, meant in misspelt(request.parameters, ("prompt", "messages", "columns")):
            draft.fault(f"request.{name}", f"unknown key; did you mean {meant}?")
    if not ways and request.columns is not None:
        draft.fault("request.columns", "the messages are missing: give a prompt, or name their column as messages")
    if request.messages is not None and request.system is not None:
        draft.fault("request.system", "with messages, write the system message as one of them")
    if ways and request.model is None:
        draft.fault("request.model", "is missing (the model's name)")
    for name in ("tools", "functions"):
        if name in request.parameters:
            draft.fault(f"request.{name}", "give tools as [[tool]], or name their column as request.columns.tools")
    for place, message in enumerate(request.messages or ()):
        # Servers have roles of their own, but none that is so near to a known one; some begin theirs with a capital.
        role = message["role"].lower()
        if "{" not in role and role not in _ROLES and (near := close_to(role, _ROLES, at_least=0.8)):
            what = f"{message['role']!r} is not a known role; did you mean {near[0]}?"
            draft.fault(f"request.messages.{place}.role", what)


def _check_templates(draft: Draft, job: Job) -> None:
    request = job.request
    texts: list[tuple[str, Any]] = [("request.system", request.system), ("request.prompt", request.prompt)]
    for place, message in enumerate(request.messages or ()):
        texts.append((f"request.messages.{place}.content", message.get("content")))
    for key, text in texts:
        for fault in template_faults(text, key):
            draft.fault(fault.key, fault.what)


_ROLES = ("system", "developer", "user", "assistant", "tool", "function", "model")


def _check_tool_choice(draft: Draft, job: Job) -> None:
    choice = job.request.tool_choice
    columns = job.request.columns
    if not isinstance(choice, str) or choice in ("auto", "none") or "tools" in (columns or {}) or is_batch_file(job):
        return
    names = [tool.name for tool in job.tools]
    if choice not in ("required", *names):
        near = close_to(choice, [*_CHOICES, *names])
        meant = f"; did you mean {near[0]}?" if near else ""
        draft.fault("request.tool_choice", f"{choice!r} is neither auto, required, none nor a tool's name{meant}")
    elif not names:
        draft.fault(
            "request.tool_choice",
            "there is no tool to choose: give a [[tool]], or name a column as request.columns.tools",
        )


_CHOICES = ("auto", "required", "none")


def is_batch_file(job: Job) -> bool:
    """Whether rows are whole requests."""
    return job.request.prompt is None and job.request.messages is None and job.request.columns is None


def _check_money(draft: Draft, job: Job) -> None:
    if job.limits.max_cost is None:
        return
    for model in dict.fromkeys(endpoint.model or job.request.model for endpoint in job.endpoints):
        if not (model in job.prices if model is not None else job.prices):
            name = model if model is not None else "MODEL"
            what = f'the price of {name} must be known: give [prices."{name}"] with prompt and completion'
            draft.fault("limits.max_cost", what)


def pace_of(job: Job, endpoint: EndpointSection) -> LimitsSection:
    """The limits of one endpoint: its own, else those of [limits], which are for each."""
    # An endpoint's 0 means what None means in [limits]: no limit is known, it is learnt.
    written = {name: getattr(endpoint, name) for name in ("requests_per_minute", "tokens_per_minute", "concurrency")}
    own = {name: limit or None for name, limit in written.items() if limit is not None}
    return msgspec.structs.replace(job.limits, **own)


def resolve_tool_choice(job: Job) -> Json:
    """What is sent as tool_choice: as written; else the tool where there is one, `required` where there are several."""
    # Without a choice models answer in text now and then, and that row ends as no_call.
    choice: Json = job.request.tool_choice
    if choice is None and len(job.tools) != 1:
        return "required" if job.tools else None
    name = job.tools[0].name if choice is None else choice
    if isinstance(name, str) and name not in _CHOICES:
        return {"type": "function", "function": {"name": name}}
    return choice


def job_schema() -> dict[str, Any]:
    """JSON Schema of the job file, for editors (`batchcall schema`)."""
    schema: dict[str, Any] = for_editors(SCHEMA)
    return schema


def rehearsed(job: Job) -> Job:
    """The same job for the embedded endpoint, with a folder of its own for the results."""
    folder = job.output.path
    return msgspec.structs.replace(
        job,
        endpoints=[msgspec.structs.replace(one, url="sandbox", api_key=None) for one in job.endpoints],
        output=msgspec.structs.replace(job.output, path=folder.with_name(folder.name + REHEARSAL)),
    )


def stored_job(written: Mapping[str, Any]) -> Job:
    """A job as run.json keeps it. Raises JobError when this version cannot read it."""
    try:
        return msgspec.convert(written, Job, dec_hook=lambda _, value: Path(value))
    except msgspec.ValidationError as error:
        raise JobError(f"the job in run.json cannot be read by this version: {error}") from error


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


def changed_keys(
    old: Mapping[str, Any], old_job: Mapping[str, Any], new: Mapping[str, Any], new_job: Mapping[str, Any]
) -> list[str]:
    """What differs between two identities, by the keys of the job file; the jobs are as `masked` gives them."""
    is_same_pool = old["protocol"] == new["protocol"]
    return describe_change(
        _by_key(old, [] if is_same_pool else _tables(old_job)), _by_key(new, [] if is_same_pool else _tables(new_job))
    )


def _by_key(identity: Mapping[str, Any], endpoints: list[dict[str, Any]]) -> dict[str, Any]:
    request = {name: value for name, value in identity.items() if name not in ("protocol", "tools", "parameters")}
    return {
        "endpoint": endpoints[0] if len(endpoints) == 1 else endpoints,
        "request": {**request, **identity.get("parameters", {})},
        "tool": identity.get("tools", []),
    }


def _tables(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of each [[endpoint]] that shape its requests; a table with several keys counts once."""
    tables = [one for one, _ in itertools.groupby({**one, "api_key": None} for one in job["endpoints"])]
    # Another host does not change the job. What the embedded endpoint invents never counts as a model's answer.
    return [
        {
            "url": "sandbox" if one["url"] == "sandbox" else "a server",
            "protocol": one["protocol"],
            **({"model": one["model"] or job["request"]["model"]} if len(tables) > 1 else {}),
        }
        for one in tables
    ]


def speakers(job: Job) -> list[tuple[str, str | None]]:
    """The protocol and the model of each endpoint, in their order; no model: that of the row."""
    return [(_protocol(endpoint), endpoint.model or job.request.model) for endpoint in job.endpoints]


def spoken_by(job: Job) -> str:
    """The protocol, and whether the embedded endpoint speaks it: its inventions are never taken for a model's answers.
    Any other change of host does not change the request.

    For a pool whose endpoints differ in protocol or model: each of them once, sorted.
    """
    spoken = {(_protocol(endpoint), endpoint.model) for endpoint in job.endpoints}
    return ", ".join(sorted(" ".join(filter(None, (protocol, model))) for protocol, model in spoken))


def _protocol(endpoint: EndpointSection) -> str:
    return f"{endpoint.protocol} of the sandbox" if endpoint.url == "sandbox" else endpoint.protocol


def masked(job: Job) -> dict[str, Any]:
    """The job as run.json keeps it: without secrets, and readable as a Job again."""
    # A URI of a store may have a user and password in front of its host.
    written: dict[str, Any] = msgspec.to_builtins(job, enc_hook=str)
    written["input"]["path"] = re.sub(r"//[^/@\s]+@", "//***@", written["input"]["path"])
    for endpoint in written["endpoints"]:
        endpoint["headers"] = masked_headers(endpoint["headers"])
    return written
