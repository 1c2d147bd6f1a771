"""The engine that a job describes: its endpoints opened, the embedded one started where it asks for that."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from batchcall.answers import AnswerParser
from batchcall.base import Redactor, Request, Secret
from batchcall.dialects import DIALECTS
from batchcall.engine import Endpoint, Gate, LiveEngine, OwnSteering, Pool, Steering
from batchcall.http import open_transport
from batchcall.job import EndpointSection, Job, auth_of, endpoint_names, masked, pace_of, resolve_key, takes_any_name
from batchcall.output import Totals
from batchcall.pacing import Budget, Health, Pacer, RetryPolicy
from batchcall.pipeline.context import Run
from batchcall.pipeline.descriptors import room_for
from batchcall.pipeline.request_maker import answer_parser_of, model_of
from batchcall.pipeline.reread import ReadingChild
from batchcall.pipeline.unpublished import Unpublished, skimming, spent_aside, unpublished_answers

if TYPE_CHECKING:
    from batchcall.sandbox import Settings

Keys = list[Secret | None]  # of each endpoint of the job, in order
Say = Callable[[str], None]


def keys_of(job: Job) -> Keys:
    """The keys of all endpoints. Raises JobError for one that is not there or that others may read."""
    return [resolve_key(endpoint.api_key) for endpoint in job.endpoints]


@contextlib.asynccontextmanager
async def sandbox_of(job: Job) -> AsyncIterator[str]:
    """The URL of the embedded endpoint until the block ends; empty where the job does not ask it."""
    if all(endpoint.url != "sandbox" for endpoint in job.endpoints):
        yield ""
        return
    from batchcall.sandbox import open_sandbox  # noqa: PLC0415

    async with open_sandbox(sandbox_settings(job)) as sandbox:
        yield sandbox.url


def sandbox_settings(job: Job) -> Settings:
    """What the embedded endpoint is to do. Raises JobError for a fault that it does not know."""
    # Not above: it imports a web server, which is more than a tenth of what a run of one row costs.
    from batchcall.sandbox import Settings  # noqa: PLC0415

    return Settings(
        latency_s=job.sandbox.latency,
        requests_per_minute=job.sandbox.requests_per_minute,
        tokens_per_minute=job.sandbox.tokens_per_minute,
        faults=job.sandbox.faults,
        seed=job.sandbox.seed,
    )


@contextlib.asynccontextmanager
async def open_steering(run: Run, keys: Keys, sandbox: str, say: Say) -> AsyncIterator[OwnSteering]:
    """The endpoints as the job describes them, until the block ends. `say` is called when one of several gives up."""
    job, limits = run.job, run.job.limits
    room = room_for(job)
    async with contextlib.AsyncExitStack() as stack:
        pacers = []
        for pace in (pace_of(job, endpoint) for endpoint in job.endpoints):
            pacer = Pacer(
                concurrency=pace.concurrency,
                requests_per_minute=pace.requests_per_minute,
                tokens_per_minute=pace.tokens_per_minute,
                max_outage_s=run.options.max_outage_s,
                most_auto=room.most_auto,
            )
            pacers.append(pacer)
        most = [pacer.most_in_flight for pacer in pacers]
        routes = await stack.enter_async_context(open_routes(job, keys, sandbox, most_in_flight=most, say=say))
        endpoints = [
            Endpoint(
                gate=Gate(concurrency=1),  # until the pacer's first orders
                pacer=pacer,
                health=Health(host=url_of(endpoint, sandbox), tolerates_all=limits.tolerates_all),
                **route,
            )
            for endpoint, pacer, route in zip(job.endpoints, pacers, routes, strict=True)
        ]
        # A budget counts all that was ever bought for this output: what its parts hold, what is in no part yet, and
        # what was set aside. Without a budget nobody needs these sums, and reading for them takes a while.
        has_budget = limits.max_cost is not None or limits.max_tokens_total is not None
        skim = skimming(parser_of(job, keys), model=model_of(job))
        unpublished, aside = Unpublished(), Totals()
        if has_budget:
            aside = await asyncio.to_thread(spent_aside, run.earlier_answers, skim)
            folder, has_died = run.output.folder, run.output.has_died
            unpublished = await asyncio.to_thread(unpublished_answers, run.output.disk, folder, skim, has_died=has_died)
        sample = Health(host="", tolerates_all=limits.tolerates_all) if len(endpoints) > 1 else None
        budget = Budget(
            max_cost=limits.max_cost,
            max_tokens=limits.max_tokens_total,
            cost=sum(one.cost or 0.0 for one in (run.progress.totals, unpublished.spent, aside)),
            tokens=sum(one.total_tokens or 0 for one in (run.progress.totals, unpublished.spent, aside)),
        )
        yield OwnSteering(pool=Pool(endpoints, sample=sample), budget=budget, roll=random.random, say=say)


@contextlib.contextmanager
def open_engine(run: Run, keys: Keys, steering: Steering) -> Iterator[LiveEngine]:
    """What runs rows in this process, until the block ends."""
    job = run.job
    with contextlib.closing(ReadingChild(masked(job))) as child:
        yield LiveEngine(
            steering=steering,
            parser=parser_of(job, keys),
            retry=RetryPolicy(max_attempts=job.limits.attempts),
            recorder=run.output,
            reasks=job.validate.reask,
            now_s=time.time,
            roll=random.random,
            reread=lambda attempt, request: child.read(attempt, Request(request.shape, [])),
            grace_s=run.options.grace_s,
        )


@contextlib.asynccontextmanager
async def open_routes(
    job: Job, keys: Keys, sandbox: str, *, most_in_flight: Sequence[int], say: Say
) -> AsyncIterator[list[dict[str, Any]]]:
    """The fields of a `Route` to each endpoint, until the block ends."""
    secrets = _secrets(keys)
    most_resting = room_for(job).most_resting
    async with contextlib.AsyncExitStack() as stack:
        routes = []
        ways = zip(job.endpoints, endpoint_names(job.endpoints), keys, most_in_flight, strict=True)
        for endpoint, name, key, concurrency in ways:
            dialect, secret = DIALECTS[endpoint.protocol], key.reveal() if key is not None else None
            transport = open_transport(
                url_of(endpoint, sandbox),
                headers={**endpoint.headers, **dialect.headers(auth=auth_of(endpoint), key=secret)},
                timeout_s=job.limits.timeout_s,
                concurrency=concurrency,
                ca_file=endpoint.ca_file,
                trust_env=endpoint.trust_env,
                allow_http_key=endpoint.allow_http_key,
                secrets=(secret,) if secret else (),
                others_secrets=secrets,  # of all: a relay that has two may show one in an answer to the other
                most_resting=most_resting,
                say=say,
            )
            routes.append(
                {
                    "name": name,
                    "transport": await stack.enter_async_context(transport),
                    "dialect": dialect,
                    "model": endpoint.model,
                    "takes_any_name": takes_any_name(endpoint.url),
                    "names_protocol": len({one.protocol for one in job.endpoints}) > 1,
                }
            )
        yield routes


def url_of(endpoint: EndpointSection, sandbox: str) -> str:
    return sandbox if endpoint.url == "sandbox" else endpoint.url


def parser_of(job: Job, keys: Keys) -> AnswerParser:
    """How answers are read, with the keys of all endpoints taken out."""
    return replace(answer_parser_of(job), redactor=Redactor(_secrets(keys)))


def _secrets(keys: Keys) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key.reveal() for key in keys if key is not None))
