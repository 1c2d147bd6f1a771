"""The engine that a job describes: its endpoints opened, the embedded one started where it asks for that."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable

from msgspec.structs import replace

from batchcall.base import Redactor, Request, Secret
from batchcall.dialects import DIALECTS
from batchcall.engine import Endpoint, Gate, LiveEngine, Pool, Steering
from batchcall.http import open_transport
from batchcall.job import EndpointSection, Job, auth_of, endpoint_names, masked, pace_of, resolve_key, takes_any_name
from batchcall.output import Totals
from batchcall.pacing import Budget, Health, Pacer, RetryPolicy
from batchcall.pipeline.context import Run
from batchcall.pipeline.descriptors import Room, room_for
from batchcall.pipeline.request_maker import answer_parser_of, model_of
from batchcall.pipeline.reread import ReadingChild
from batchcall.pipeline.unpublished import Unpublished, skimming, spent_aside, unpublished_answers

Keys = list[Secret | None]  # of each endpoint of the job, in order


def keys_of(job: Job) -> Keys:
    """The keys of all endpoints. Raises JobError for one that is not there or that others may read."""
    return [resolve_key(endpoint.api_key) for endpoint in job.endpoints]


@contextlib.asynccontextmanager
async def open_engine(run: Run, keys: Keys, say: Callable[[str], None]) -> AsyncIterator[LiveEngine]:
    """The endpoints as the job describes them, until the block ends. `say` is called when one of several gives up."""
    job, limits = run.job, run.job.limits
    room = room_for(job)
    async with contextlib.AsyncExitStack() as stack:
        sandbox = ""
        if any(endpoint.url == "sandbox" for endpoint in job.endpoints):
            # Not above: it imports a web server, which is more than a tenth of what a run of one row costs.
            from batchcall.sandbox import Settings, open_sandbox  # noqa: PLC0415

            settings = Settings(
                latency_s=job.sandbox.latency,
                requests_per_minute=job.sandbox.requests_per_minute,
                tokens_per_minute=job.sandbox.tokens_per_minute,
                faults=job.sandbox.faults,
                seed=job.sandbox.seed,
            )
            sandbox = (await stack.enter_async_context(open_sandbox(settings))).url
        # Every transport hides the keys of all endpoints, whichever of them an answer shows.
        secrets = tuple(dict.fromkeys(key.reveal() for key in keys if key is not None))
        endpoints = [
            await stack.enter_async_context(_open_endpoint(run, endpoint, name, key, sandbox, secrets, say, room))
            for endpoint, name, key in zip(job.endpoints, endpoint_names(job.endpoints), keys, strict=True)
        ]
        parser = replace(answer_parser_of(job), redactor=Redactor(secrets))
        # A budget counts all that was ever bought for this output: what its parts hold, what is in no part yet, and
        # what was set aside. Without a budget nobody needs these sums, and reading for them takes a while.
        has_budget = limits.max_cost is not None or limits.max_tokens_total is not None
        skim = skimming(parser, model=model_of(job))
        unpublished, aside = Unpublished(), Totals()
        if has_budget:
            aside = await asyncio.to_thread(spent_aside, run.earlier_answers, skim)
            folder, has_died = run.output.folder, run.output.has_died
            unpublished = await asyncio.to_thread(unpublished_answers, run.output.disk, folder, skim, has_died=has_died)
        child = stack.enter_context(contextlib.closing(ReadingChild(masked(job))))
        sample = Health(host="", tolerates_all=limits.tolerates_all) if len(endpoints) > 1 else None
        budget = Budget(
            max_cost=limits.max_cost,
            max_tokens=limits.max_tokens_total,
            cost=sum(one.cost or 0.0 for one in (run.progress.totals, unpublished.spent, aside)),
            tokens=sum(one.total_tokens or 0 for one in (run.progress.totals, unpublished.spent, aside)),
        )
        yield LiveEngine(
            steering=Steering(pool=Pool(endpoints, sample=sample), budget=budget, roll=random.random, say=say),
            parser=parser,
            retry=RetryPolicy(max_attempts=limits.attempts),
            recorder=run.output,
            reasks=job.validate.reask,
            now_s=time.time,
            roll=random.random,
            reread=lambda attempt, request: child.read(attempt, Request(request.shape, [])),
            grace_s=run.options.grace_s,
        )


@contextlib.asynccontextmanager
async def _open_endpoint(
    run: Run,
    endpoint: EndpointSection,
    name: str,
    key: Secret | None,
    sandbox: str,
    secrets: tuple[str, ...],
    say: Callable[[str], None],
    room: Room,
) -> AsyncIterator[Endpoint]:
    """`secrets` are the keys of all: a relay that has two of them may show one in an answer to the other."""
    job, dialect = run.job, DIALECTS[endpoint.protocol]
    url = sandbox if endpoint.url == "sandbox" else endpoint.url
    secret = key.reveal() if key is not None else None
    pace = pace_of(job, endpoint)
    pacer = Pacer(
        concurrency=pace.concurrency,
        requests_per_minute=pace.requests_per_minute,
        tokens_per_minute=pace.tokens_per_minute,
        max_outage_s=run.options.max_outage_s,
        most_auto=room.most_auto,
    )
    async with open_transport(
        url,
        headers={**endpoint.headers, **dialect.headers(auth=auth_of(endpoint), key=secret)},
        timeout_s=job.limits.timeout_s,
        concurrency=pacer.most_in_flight,
        ca_file=endpoint.ca_file,
        trust_env=endpoint.trust_env,
        allow_http_key=endpoint.allow_http_key,
        secrets=(secret,) if secret else (),
        others_secrets=secrets,
        most_resting=room.most_resting,
        say=say,
    ) as transport:
        yield Endpoint(
            name=name,
            transport=transport,
            dialect=dialect,
            gate=Gate(concurrency=1),  # until the pacer's first orders
            pacer=pacer,
            health=Health(host=url, tolerates_all=job.limits.tolerates_all),
            model=endpoint.model,
            takes_any_name=takes_any_name(endpoint.url),
            names_protocol=len({one.protocol for one in job.endpoints}) > 1,
        )
