"""What a job would do, without the network: its first request, the rows left, and what they may cost and take."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from batchcall.base import (
    BatchcallError,
    DamagedRecordError,
    ExitCode,
    HttpRequest,
    JobError,
    Request,
    Shape,
    Usage,
)
from batchcall.commands.status import read_status
from batchcall.dialects import DIALECTS, max_tokens_of
from batchcall.disk import Disk, RealDisk, refuse_held
from batchcall.input import Input
from batchcall.job import (
    Job,
    LimitsSection,
    as_job,
    auth_of,
    endpoint_names,
    exposed_keys,
    masked_headers,
    pace_of,
    request_identity,
    request_url,
    resolve_key,
    stored_job,
    takes_any_name,
)
from batchcall.output import OWN_FOLDER, RunFile, Totals, has_bought, look_at_parts, read_runfile, why_unwritable
from batchcall.pacing import TokenEstimate, cost_of
from batchcall.pipeline import (
    RequestMaker,
    doubts,
    forecast_of,
    is_correction,
    make_request_maker,
    prepare,
    refuse_foreign_folder,
    refuse_network,
    room_for,
    unfit_without_record,
    validation_note,
    why_refused,
)
from batchcall.report import duration_text, free_text, money_text, table
from batchcall.requests import RowError, Sent, sent_name, sent_to

_SAMPLE_ROWS = 200
_ASSUMED_IN_FLIGHT = 64  # where the job says "auto"
_ASSUMED_LATENCY_S = 2.0  # of an answer, where no run has measured it
_SHORT_RUN_S = 60
_SHOWN_NAMES = 5  # tools
_SHOWN_BODY = 4_000  # characters of the first request


class CheckReport(msgspec.Struct):
    """What `batchcall check` found. A job file with faults has no report: `check_job` raises JobError."""

    job: str
    rows: int
    done: int  # rows in the output already, answered for this very job
    first_request: dict[str, Any] | None  # method, url, headers (keys masked), body
    tokens: int  # estimated, of the rows left
    basis: str  # what the estimate rests on
    cost: float | None  # USD, None without a price
    is_free: bool  # only the embedded endpoint would be asked
    seconds: float
    bound_by: str  # what the time estimate rests on
    columns: str  # the typed columns of the arguments
    endpoints: list[str] = []  # of a pool, by name
    warnings: list[str] = []
    refusals: list[str] = []  # why `run` would not start, or would end no row well

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.ROWS_FAILED if self.refusals else ExitCode.OK

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
            "refusals": self.refusals,
            "exit_code": int(self.exit_code),
        }

    def as_text(self) -> str:
        about = "about " if self.cost is not None else ""
        lines = [
            ("job", f"{self.job} is valid"),
            ("rows", f"{self.rows:,} in the input, {self.done:,} done, {self.left:,} to do"),
            ("arguments", self.columns),
            *(("endpoint", endpoint) for endpoint in self.endpoints),
            ("tokens", f"about {self.tokens:,} ({self.basis})"),
            ("cost", free_text(self.cost) if self.is_free else about + money_text(self.cost)),
            ("time", self._time()),
            *(("warning", warning) for warning in self.warnings),
            *(("refused", refusal) for refusal in self.refusals),
        ]
        first = self.first_request
        if first is None:
            return table(lines) + "\n\nnone of the first rows makes a request"
        headers = "\n".join(f"{name}: {value}" for name, value in first["headers"].items())
        body = orjson.dumps(first["body"], option=orjson.OPT_INDENT_2).decode()
        cut = "" if len(body) <= _SHOWN_BODY else "\n… (cut)"
        return f"{table(lines)}\n\nfirst request:\nPOST {first['url']}\n{headers}\n\n{body[:_SHOWN_BODY]}{cut}"

    def _time(self) -> str:
        if not self.left:
            return "none, as nothing is left to do"
        # Of a short run, what it waits for at its start and end is most: start-up, the first answer alone, the slowest.
        if self.seconds < _SHORT_RUN_S:
            return "less than a minute"
        return f"about {duration_text(self.seconds)} (bound by {self.bound_by})"


def check_job(job: Job | Path | str) -> CheckReport:
    """Check all of a job that can be checked without a request. Raises JobError, InputError or ResumeError."""
    job = as_job(job)
    refuse_network(job)
    maker, source, layout = prepare(job)
    if job.input.id is not None:
        source.check_ids(job.input.id)  # this counts the rows as well, so they are not read for that again
    warnings = [*job.warnings, *exposed_keys(job.endpoints), *source.notes, *layout.kept.notes]
    warnings += [*maker.rewrites, *maker.findings.doubts]
    rows = source.count_rows()
    warnings += doubts(job, maker, source)
    sample, bad = _sample(job, maker, source, warnings)
    warnings += filter(None, [maker.row_tools_note()])
    if bad and sample:
        warnings.append(_bad_text(sample, bad))
    refusals = [*_refusals_of_machine(job), *([] if sample else [_bad_text(sample, bad)])]
    standing = _standing(job, maker, source, refusals)
    warnings += filter(None, [standing.note])
    # After a change of job or input, a row is done if its answer is there. A row that makes no request is neither done
    # nor to be bought. Without a change, the rows of the output are done; the input may have fewer by now.
    done = min(rows, standing.done)
    left = rows - done if standing.to_buy is None else standing.to_buy
    tokens, basis = _tokens_per_row(standing, sample)
    seconds, bound_by = _seconds(job, left, sum(tokens))
    cost = _cost(job, sample, left, tokens)
    warnings += _budget_warnings(job.limits, standing.spent, cost=cost, tokens=round(left * sum(tokens)))
    pool = []
    if len(job.endpoints) > 1:  # of a single endpoint the first request shows all
        for name, endpoint in zip(endpoint_names(job.endpoints), job.endpoints, strict=True):
            model = endpoint.model or job.request.model or "the model of the row"
            pool.append(f"{name} ({endpoint.protocol}, {model})")
    return CheckReport(
        job=str(job.file),
        rows=rows,
        done=done,
        first_request=_shown(job, *sample[0]) if sample else None,
        tokens=round(left * sum(tokens)),
        basis=basis,
        cost=cost,
        is_free=job.is_free,
        seconds=seconds,
        bound_by=bound_by,
        columns=layout.arguments_text,
        warnings=warnings,
        refusals=refusals,
        endpoints=pool,
    )


def _refusals_of_machine(job: Job) -> list[str]:
    """Why this process cannot run the job: keys that are not there, too few open files."""
    refusals = []
    for endpoint in job.endpoints:
        try:
            resolve_key(endpoint.api_key)
        except JobError as error:
            refusals.append(_sentence(error))
    try:
        room_for(job)
    except JobError as error:
        refusals.append(f"{error}: {error.hint}")
    return refusals


def _sentence(error: BatchcallError) -> str:
    return f"{str(error).rstrip('.')}; {error.hint}" if error.hint else str(error)


class _Standing(NamedTuple):
    """What an output means for the job."""

    totals: Mapping[str, Any]  # of the runs before, of this job or of an earlier version of it
    is_same_job: bool
    done: int  # rows in it that are answered for this very job and input
    to_buy: int | None  # rows that would be bought, where job or input have changed
    spent: Totals  # by the runs before: the budgets count it
    note: str | None = None  # that rows which are done were read with other settings


_NOTHING = _Standing({}, False, 0, None, Totals())


def _standing(job: Job, maker: RequestMaker, source: Input, refusals: list[str]) -> _Standing:
    """Look at the output as `run` would, changing nothing. Adds to `refusals` why it would not start."""
    folder, disk = job.output.path, RealDisk()
    why = why_unwritable(folder)
    if why is not None:
        refusals.append(f"{folder} cannot be written: {why}")
        return _NOTHING
    try:
        refuse_foreign_folder(folder)
        refuse_held(folder / OWN_FOLDER / "lock")
        _, damaged = look_at_parts(disk, folder)
        if damaged:  # `run` moves them away first, and what is left to do is not known before
            return _NOTHING
        try:
            runfile = read_runfile(disk, folder / OWN_FOLDER)
        except DamagedRecordError:  # it keeps no run from starting, so it counts as missing
            runfile = None
        if runfile is not None:
            return _standing_of(job, runfile, maker, source, disk, refusals)
        if not folder.is_dir() or not has_bought(disk, folder):
            return _NOTHING
        # Nothing says which job made the parts, so `run` uses them only if every row answers a request of this job.
        would = forecast_of([maker], source, disk, folder)
        if would.gone:
            refusals.append(_sentence(unfit_without_record(folder, f"{would.gone:,} rows in it")))
        return _Standing({}, False, would.free, would.to_buy, Totals())
    except BatchcallError as error:
        refusals.append(_sentence(error))
        return _NOTHING


def _standing_of(
    job: Job, runfile: RunFile, maker: RequestMaker, source: Input, disk: Disk, refusals: list[str]
) -> _Standing:
    # Rows are compared one by one only where job or input have changed: that reads the whole input and every hash.
    is_unchanged = runfile.identity == request_identity(job)
    is_same_job = is_unchanged or is_correction(runfile, job, disk)
    kept = [*runfile.kept_jobs, runfile.job] if is_same_job else []
    older = [make_request_maker(stored_job(one)) for one in kept]
    would = None
    if not is_unchanged or runfile.input.fingerprint != source.fingerprint:
        would = forecast_of([maker, *older], source, disk, job.output.path)
    refusal = why_refused(runfile, job, [maker, *older], source, disk, would)
    if refusal is not None:
        refusals.append(_sentence(refusal))
    note = validation_note(runfile, job, disk) if is_same_job else None
    status = read_status(job.output.path, job=job)
    spent = Totals.from_json(status.totals)
    spent.add(status.journals.spent)
    if would is not None:
        return _Standing(runfile.totals, is_same_job, would.free, would.to_buy, spent, note)
    return _Standing(runfile.totals, is_same_job, int(status.totals["rows"]) + status.waiting, None, spent, note)


Sampled = tuple[Request, HttpRequest]


def _sample(job: Job, maker: RequestMaker, source: Input, warnings: list[str]) -> tuple[list[Sampled], list[str]]:
    """The first rows as they would be sent, and why no request can be made from some of them."""
    endpoint = job.endpoints[0]
    dialect = DIALECTS[endpoint.protocol]
    sampled, bad = [], []
    # By shape, as in a run: it is encoded and hashed once for all rows that share it.
    shapes: dict[Shape, Sent] = {}
    for row in islice((row for batch in source.batches(maker.columns_of(source)) for row in batch.rows), _SAMPLE_ROWS):
        try:
            if row.fault is not None:
                raise RowError(row.fault)
            request = maker.make_request(row.values)
            maker.toolbox_of(request)
            shape = request.shape
            if shape not in shapes:
                shapes[shape] = sent_to(shape, model=endpoint.model, takes_any_name=takes_any_name(endpoint.url))
            prepared = shapes[shape].with_messages(request.messages)
            sampled.append((prepared, dialect.encode(prepared)))
        except RowError as error:
            bad.append(f"{row.where}: {error}")
    strict = [one.url for one in job.endpoints if not takes_any_name(one.url)]
    names = {tool.name: sent_name(tool) for shape in shapes for tool in shape.tools}
    renamed = [f"{own} as {sent}" for own, sent in names.items() if own != sent]
    if strict and renamed:
        more = f" and {len(renamed) - _SHOWN_NAMES} more" if len(renamed) > _SHOWN_NAMES else ""
        warnings.append(
            f"tools are sent to {strict[0]} under other names, because it allows only letters, digits, _ and -,"
            f" at most 64: {', '.join(renamed[:_SHOWN_NAMES])}{more}; their descriptions must say what they do"
        )
    return sampled, bad


def _bad_text(sample: list[Sampled], bad: list[str]) -> str:
    return f"{len(bad):,} of the first {len(bad) + len(sample):,} rows will end as bad_row; the first: {bad[0]}"


def _tokens_per_row(standing: _Standing, sample: list[Sampled]) -> tuple[tuple[float, float], str]:
    """Prompt and completion tokens of a row, and what the numbers rest on."""
    # The best basis that there is: rows of this very job; the sample, with answers as long as those of the job before,
    # as another prompt brings answers of much the same length; the sample alone.
    totals = standing.totals
    rows, prompt, completion = (totals.get(name) for name in ("rows", "prompt_tokens", "completion_tokens"))
    if rows and prompt and completion and standing.is_same_job:
        return (prompt / rows, completion / rows), f"measured over {rows:,} rows"
    if not sample:
        return (0.0, 0.0), "no row makes a request"
    estimate = TokenEstimate()
    prompts = [estimate.prompt_tokens(len(http.body)) for _, http in sample]
    mean = sum(prompts) / len(prompts)
    if rows and completion:
        basis = (
            f"prompts estimated from the first {len(sample):,} rows, answers from the {rows:,} rows of the previous job"
        )
        return (mean, completion / rows), basis
    completions = [estimate.completion_tokens(max_tokens_of(request.shape)) for request, _ in sample]
    basis = f"estimated from the size of the first {len(sample):,} rows; `batchcall run --limit 50` measures it"
    return (mean, sum(completions) / len(completions)), basis


def _cost(job: Job, sample: list[Sampled], left: int, tokens: tuple[float, float]) -> float | None:
    # One model stands for all: that of the sample's first row. Rows that name their own may have other prices.
    price = job.prices.get(sample[0][0].shape.model) if sample else None
    if price is None:
        return None
    usage = Usage(prompt_tokens=round(left * tokens[0]), completion_tokens=round(left * tokens[1]))
    return cost_of(usage, prompt=price.prompt, completion=price.completion, cached=price.cached)


def _budget_warnings(limits: LimitsSection, spent: Totals, *, cost: float | None, tokens: int) -> list[str]:
    """Budgets that would stop the run before its end, each with the forecast."""
    warnings = []
    if limits.max_cost is not None and cost and (spent.cost or 0.0) + cost > limits.max_cost:
        figures = f"{money_text(limits.max_cost)}, and the rows to do cost about {money_text(cost)}"
        before = f" after {money_text(spent.cost)} already spent" if spent.cost else ""
        warnings.append(f"limits.max_cost is {figures}{before}: {_STOPS_EARLY}")
    if limits.max_tokens_total is not None and tokens and (spent.total_tokens or 0) + tokens > limits.max_tokens_total:
        figures = f"{limits.max_tokens_total:,}, and the rows to do take about {tokens:,}"
        before = f" after {spent.total_tokens:,} already used" if spent.total_tokens else ""
        warnings.append(f"limits.max_tokens_total is {figures}{before}: {_STOPS_EARLY}")
    return warnings


_STOPS_EARLY = (
    "the run would stop early with exit code 3; raise it now, or raise it later and run the same command again"
)


def _seconds(job: Job, left: int, tokens: float) -> tuple[float, str]:
    """How long the rows take, and by which limit. The endpoints of a pool work side by side."""
    paces = []
    for endpoint in job.endpoints:
        limits = pace_of(job, endpoint)
        concurrency = limits.concurrency or _ASSUMED_IN_FLIGHT
        bounds = [(concurrency / _ASSUMED_LATENCY_S, f"{concurrency} in flight at {_ASSUMED_LATENCY_S:g} s an answer")]
        if limits.requests_per_minute:
            bounds.append((limits.requests_per_minute / 60, "requests_per_minute"))
        if limits.tokens_per_minute and tokens:
            bounds.append((limits.tokens_per_minute / tokens / 60, "tokens_per_minute"))
        paces.append(min(bounds))  # rows a second of this endpoint, and which of its limits that is
    seconds = left / sum(rows_per_s for rows_per_s, _ in paces)
    return max(seconds, _ASSUMED_LATENCY_S) if left else 0.0, max(paces)[1]


def _shown(job: Job, request: Request, http: HttpRequest) -> dict[str, Any]:
    endpoint = job.endpoints[0]
    dialect = DIALECTS[endpoint.protocol]
    key = "***" if endpoint.api_key else None
    headers = {**masked_headers(endpoint.headers), **dialect.headers(auth=auth_of(endpoint), key=key)}
    url = endpoint.url if endpoint.url != "sandbox" else "http://127.0.0.1:(the sandbox)/v1"
    return {"method": "POST", "url": request_url(url, http.path), "headers": headers, "body": orjson.loads(http.body)}
