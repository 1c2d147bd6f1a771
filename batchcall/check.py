"""What a job would do, without the network: its first request, the rows left, and what they may cost and take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from batchcall.asking import Asker
from batchcall.dialects import DIALECTS
from batchcall.engines.reading import max_tokens_of
from batchcall.errors import BatchcallError, JobError
from batchcall.extraction.prompt import RowError
from batchcall.extraction.requests import Sent, sent_name, sent_to
from batchcall.files.disk import RealDisk
from batchcall.files.input import Input
from batchcall.files.output import OWN_FOLDER, why_unwritable
from batchcall.files.runfile import RunFile, read_runfile
from batchcall.job import (
    Job,
    LimitsSection,
    as_job,
    describe_change,
    pace_of,
    request_identity,
    resolve_key,
)
from batchcall.job_endpoint import auth_of, endpoint_names, exposed_keys, masked_headers, request_url, takes_any_name
from batchcall.pacing.estimate import TokenEstimate
from batchcall.pacing.price import cost_of
from batchcall.records import HttpRequest, Request, Row, Shape, Usage
from batchcall.report.text import duration_text, money_text, table
from batchcall.running import prepare, refuse_network
from batchcall.status import read_status

_SAMPLE_ROWS = 200
_ASSUMED_IN_FLIGHT = 64  # where the job says "auto"
_ASSUMED_LATENCY_S = 2.0  # of an answer, where no run has measured it
_SHOWN_NAMES = 5  # tools
_SHOWN_BODY = 4_000  # characters of the first request


@dataclass(slots=True)
class CheckReport:
    """What `batchcall check` found out. A job that has faults never gets here: they are a JobError."""

    job: str
    rows: int
    done: int  # rows in the output already, answered for this very job
    first_request: dict[str, Any] | None  # method, url, headers (keys masked), body
    tokens: int  # estimated, of the rows left
    basis: str  # what the estimate rests on
    cost: float | None  # USD, None without a price
    seconds: float
    bound_by: str  # what the time estimate rests on
    columns: str  # the typed columns of the arguments
    endpoints: list[str] = field(default_factory=list)  # of a pool, by name
    warnings: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        return max(0, self.rows - self.done)

    def as_json(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "rows": self.rows,
            "rows_done": self.done,
            "rows_left": self.left,
            "first_request": self.first_request,
            "estimated_tokens": self.tokens,
            "estimated_cost": self.cost,
            "estimated_seconds": round(self.seconds, 1),
            "estimate_rests_on": self.basis,
            "bound_by": self.bound_by,
            "arguments": self.columns,
            "endpoints": self.endpoints,
            "warnings": self.warnings,
        }

    def as_text(self) -> str:
        lines = [
            ("job", f"{self.job} is well formed"),
            ("rows", f"{self.rows:,} in the input, {self.done:,} done, {self.left:,} to do"),
            ("arguments", self.columns),
            *(("endpoint", endpoint) for endpoint in self.endpoints),
            ("tokens", f"about {self.tokens:,} ({self.basis})"),
            ("cost", f"about {money_text(self.cost)}" if self.cost is not None else money_text(None)),
            ("time", f"about {duration_text(self.seconds)} ({self.bound_by})"),
            *(("warning", warning) for warning in self.warnings),
        ]
        return table(lines) + "\n\n" + self._first_request_text()

    def _first_request_text(self) -> str:
        first = self.first_request
        if first is None:
            return "no row of the sample makes a request"
        headers = "\n".join(f"{name}: {value}" for name, value in first["headers"].items())
        body = orjson.dumps(first["body"], option=orjson.OPT_INDENT_2).decode()
        cut = "" if len(body) <= _SHOWN_BODY else "\n… (cut)"
        return f"first request:\nPOST {first['url']}\n{headers}\n\n{body[:_SHOWN_BODY]}{cut}"


def check_job(job: Job | Path | str) -> CheckReport:
    """Check a job as far as that goes without a request. Raises JobError, InputError or ResumeError."""
    job = as_job(job)
    refuse_network(job)
    asker, source, layout = prepare(job)
    if job.input.id is not None:
        source.check_ids(job.input.id)
    warnings = [*job.warnings, *_key_warning(job), *_output_warning(job), *asker.rewrites, *asker.findings.slips]
    warnings += source.notes
    rows = source.count_rows()
    runfile = _own_record(job)
    sample = _sample(job, asker, source, warnings)
    tokens, basis = _tokens_per_row(runfile, sample)
    done = min(rows, _done(job, runfile))
    left = rows - done
    seconds, bound_by = _seconds(job, left, sum(tokens))
    return CheckReport(
        job=str(job.file),
        rows=rows,
        done=done,
        first_request=_shown(job, *sample[0]) if sample else None,
        tokens=round(left * sum(tokens)),
        basis=basis,
        cost=_cost(job, sample, left, tokens),
        seconds=seconds,
        bound_by=bound_by,
        columns=layout.arguments_text,
        warnings=warnings,
        endpoints=_named(job),
    )


def _named(job: Job) -> list[str]:
    """The members of a pool; nothing where there is one endpoint, whose first request is shown anyway."""
    names = endpoint_names(job.endpoints) if len(job.endpoints) > 1 else []
    told = zip(names, job.endpoints, strict=False)
    return [
        f"{name} ({one.protocol}, {one.model or job.request.model or 'the model of the row'})" for name, one in told
    ]


def _key_warning(job: Job) -> list[str]:
    """A missing key keeps `run` from starting; a check on another machine may well go without."""
    told = exposed_keys(job.endpoints)
    for endpoint in job.endpoints:
        try:
            resolve_key(endpoint.api_key)
        except JobError as error:
            told.append(str(error))
    return told


def _output_warning(job: Job) -> list[str]:
    """What `run` would say of an output that cannot be written, or is another job's."""
    why = why_unwritable(job.output.path)
    return [f"{job.output.path} cannot be written: {why}"] if why is not None else _change_warning(job)


def _change_warning(job: Job) -> list[str]:
    try:
        runfile = read_runfile(RealDisk(), job.output.path / OWN_FOLDER)
    except BatchcallError as error:
        return [str(error)]
    if runfile is None or runfile.identity == request_identity(job):
        return []
    rows = read_status(job.output.path).totals["rows"]
    changes = "; ".join(describe_change(runfile.identity, request_identity(job)))
    return (
        [f"the output holds {rows:,} rows of another job ({changes}): run refuses without --on-change"] if rows else []
    )


def _own_record(job: Job) -> RunFile | None:
    """The record of earlier runs of this very job, None where there is none or it was another job's."""
    try:
        runfile = read_runfile(RealDisk(), job.output.path / OWN_FOLDER)
    except BatchcallError:
        return None
    return runfile if runfile is not None and runfile.identity == request_identity(job) else None


def _done(job: Job, runfile: RunFile | None) -> int:
    if runfile is None:
        return 0
    status = read_status(job.output.path)
    return int(status.totals["rows"]) + status.waiting


Sampled = tuple[Request, HttpRequest]


def _sample(job: Job, asker: Asker, source: Input, warnings: list[str]) -> list[Sampled]:
    """The first rows as they would be sent. Rows from which nothing can be made are named in `warnings`."""
    columns: Any = source.columns if asker.columns is None else asker.columns
    endpoint = job.endpoints[0]
    dialect = DIALECTS[endpoint.protocol]
    sampled, bad = [], []
    shapes: dict[Shape, Sent] = {}
    for row in _first_rows(source, columns):
        try:
            request = asker.ask(_values(row))
            asker.toolbox_of(request)
            shape = request.shape
            if shape not in shapes:
                shapes[shape] = sent_to(shape, model=endpoint.model, takes_any_name=takes_any_name(endpoint.url))
            asked = shapes[shape].ask(request.messages)
            sampled.append((asked, dialect.encode(asked)))
        except RowError as error:
            bad.append(f"{row.where}: {error}")
    warnings += _name_warnings(job, {tool.name: sent_name(tool) for shape in shapes for tool in shape.tools})
    if bad:
        warnings.append(
            f"{len(bad)} of the first {len(bad) + len(sampled)} rows will end as bad_row; the first: {bad[0]}"
        )
    return sampled


def _name_warnings(job: Job, names: Mapping[str, str]) -> list[str]:
    """What strict endpoints call the tools, `names` by the tools' own, where that is something else."""
    strict = [endpoint.url for endpoint in job.endpoints if not takes_any_name(endpoint.url)]
    renamed = [f"{own} as {sent}" for own, sent in names.items() if own != sent]
    if not strict or not renamed:
        return []
    more = f" and {len(renamed) - _SHOWN_NAMES} more" if len(renamed) > _SHOWN_NAMES else ""
    return [
        f"tools are sent to {strict[0]} by other names, as it allows only letters, digits, _ and - in 64 characters:"
        f" {', '.join(renamed[:_SHOWN_NAMES])}{more}; their descriptions must tell the model what they do"
    ]


def _first_rows(source: Input, columns: Any) -> list[Row]:
    rows: list[Row] = []
    for batch in source.batches(columns):
        rows += batch.rows
        if len(rows) >= _SAMPLE_ROWS:
            break
    return rows[:_SAMPLE_ROWS]


def _values(row: Row) -> Any:
    if row.fault is not None:
        raise RowError(row.fault)
    return row.values


def _tokens_per_row(runfile: RunFile | None, sample: list[Sampled]) -> tuple[tuple[float, float], str]:
    """Prompt and completion tokens of a row, and where that is from."""
    totals = runfile.totals if runfile is not None else {}
    if totals.get("rows") and totals.get("prompt_tokens") and totals.get("completion_tokens"):
        rows = totals["rows"]
        return (totals["prompt_tokens"] / rows, totals["completion_tokens"] / rows), f"measured over {rows:,} rows"
    if not sample:
        return (0.0, 0.0), "no row makes a request"
    estimate = TokenEstimate()
    prompts = [estimate.prompt_tokens(len(http.body)) for _, http in sample]
    completions = [estimate.completion_tokens(max_tokens_of(request.shape)) for request, _ in sample]
    basis = f"a guess by the size of the first {len(sample):,} rows; `batchcall run --limit 50` measures it"
    return (sum(prompts) / len(prompts), sum(completions) / len(completions)), basis


def _cost(job: Job, sample: list[Sampled], left: int, tokens: tuple[float, float]) -> float | None:
    price = job.prices.get(sample[0][0].shape.model) if sample else None
    if price is None:
        return None
    usage = Usage(prompt_tokens=round(left * tokens[0]), completion_tokens=round(left * tokens[1]))
    return cost_of(usage, prompt=price.prompt, completion=price.completion, cached=price.cached)


def _seconds(job: Job, left: int, tokens: float) -> tuple[float, str]:
    """The longest of what each limit allows."""
    paces = [_pace(pace_of(job, endpoint), tokens) for endpoint in job.endpoints]
    rows_per_s = sum(rate for rate, _ in paces)
    return left / rows_per_s, max(paces)[1]


def _pace(limits: LimitsSection, tokens: float) -> tuple[float, str]:
    """Rows a second of one endpoint, and which of its limits that is."""
    concurrency = limits.concurrency or _ASSUMED_IN_FLIGHT
    bounds = [(concurrency / _ASSUMED_LATENCY_S, f"{concurrency} in flight at {_ASSUMED_LATENCY_S:g} s an answer")]
    if limits.requests_per_minute:
        bounds.append((limits.requests_per_minute / 60, "requests_per_minute"))
    if limits.tokens_per_minute and tokens:
        bounds.append((limits.tokens_per_minute / tokens / 60, "tokens_per_minute"))
    return min(bounds)


def _shown(job: Job, request: Request, http: HttpRequest) -> dict[str, Any]:
    endpoint = job.endpoints[0]
    dialect = DIALECTS[endpoint.protocol]
    key = "***" if endpoint.api_key else None
    headers = {**masked_headers(endpoint.headers), **dialect.headers(auth=auth_of(endpoint), key=key)}
    url = endpoint.url if endpoint.url != "sandbox" else "http://127.0.0.1:(the sandbox)/v1"
    return {"method": "POST", "url": request_url(url, http.path), "headers": headers, "body": orjson.loads(http.body)}
