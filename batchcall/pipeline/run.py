"""THE SPINE: job → output → feed → engine → outcomes → summary. Start reading here, with `run_job`."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from batchcall.answers import Ended
from batchcall.base import BatchcallError, ExitCode, JobError, OutputError, fewer_collections
from batchcall.dialects import DIALECTS
from batchcall.disk import Disk, RealDisk, guarded, hold_lock, is_left_behind, network_file_system, refuse_held
from batchcall.engine import Feed, OwnSteering
from batchcall.http import beside, beside_to_the_end
from batchcall.input import Input, open_input
from batchcall.job import Job, as_job, exposed_keys, is_batch_file, rehearsed
from batchcall.output import (
    LOCK,
    OWN_FOLDER,
    EarlierAnswers,
    Layout,
    OpenPart,
    Output,
    RunEntry,
    as_output_error,
    clear_remains,
    has_earlier,
    make_folders,
    read_runfile,
)
from batchcall.pacing import Verdict
from batchcall.pipeline.context import AUTO, Progress, Run, RunOptions
from batchcall.pipeline.crew import Crew
from batchcall.pipeline.descriptors import room_for
from batchcall.pipeline.finish import finish, too_many_failed
from batchcall.pipeline.open_engine import Keys, Say, keys_of, open_engine, open_steering, sandbox_of, sandbox_settings
from batchcall.pipeline.pending_rows import (
    complete_plan,
    pending_rows,
    take_batch,
    taking_from,
    undone_parts,
    workers_of,
)
from batchcall.pipeline.progress_feed import Show, under_way
from batchcall.pipeline.request_maker import RequestMaker, make_request_maker
from batchcall.pipeline.resume import ON_CHANGE, refuse_foreign_folder, resume
from batchcall.pipeline.rows import do_rows, folder_watched
from batchcall.pipeline.warnings import doubts
from batchcall.report import Summary, left_out_text, members_left_out_text


class StopSwitch(msgspec.Struct):
    """Ends a run from outside: once drains it, twice stops it at once. Both lose nothing that arrived."""

    _pull: Callable[[Verdict], None] | None = None
    _early: Verdict | None = None
    is_pulled: bool = False
    is_preparing: bool = True  # nothing is sent or written yet: the run may as well be cancelled

    def pull(self, reason: str, exit_code: ExitCode) -> None:
        self.is_pulled = True
        verdict = Verdict(exit_code, reason, hint="run the same command again to continue")
        if self._pull is None:
            self._early = verdict
        else:
            self._pull(verdict)

    def connect(self, pull: Callable[[Verdict], None]) -> None:
        self._pull = pull
        if self._early is not None:
            pull(self._early)


async def run_job(
    job: Job | Path | str,
    options: RunOptions | None = None,
    *,
    show: Show | None = None,
    say: Say | None = None,
    stop: StopSwitch | None = None,
    disk: Disk | None = None,
) -> Summary:
    """Run a job to its end, or as far as it goes. `Summary.exit_code` says which.

    Goes on where an earlier run stopped. `show` is called twice a second with where the run stands, `say` with notes
    for a person. Raises BatchcallError when the run could not start, or was ended by the endpoint or the disk;
    what arrived is kept in every case.
    """
    options, say, stop = options or RunOptions(), say or (lambda note: None), stop or StopSwitch()
    if options.on_change not in ON_CHANGE:
        raise JobError(f"on_change is {options.on_change!r}", hint=f"use one of {', '.join(ON_CHANGE)}")
    if options.workers != AUTO and (type(options.workers) is not int or options.workers < 1):
        raise JobError(f"workers is {options.workers!r}", hint='use a number from 1, or "auto"')
    job = rehearsed(as_job(job)) if options.rehearse else as_job(job)
    keys = keys_of(job)
    room_for(job)  # before anything is written
    disk = disk or RealDisk(parts_mode=job.output.parts_mode)
    can_have_sent = False
    try:
        with as_output_error(job.output.path):
            async with _open_run(job, options, say, stop, disk) as run:
                can_have_sent = True
                async with sandbox_of(job) as sandbox, open_steering(run, keys, sandbox, say) as steering:
                    stopped, given_up = await _drive(run, steering, keys, sandbox, show, say, stop)
                summary = await asyncio.to_thread(finish, run, steering, stopped, given_up)
    except OutputError as error:
        # A disk that fails once something was sent: the run stops and can go on later. Before that, a folder that may
        # not or cannot be written is the command's fault.
        if can_have_sent:
            error.exit_code = ExitCode.STOPPED_EARLY
        raise
    if note := run.maker.row_tools_note():
        say(note)
    if summary.left_out:
        say(f"left out: {left_out_text(summary.left_out)}")
    if summary.left_out_of_arguments:
        say(f"left out: {members_left_out_text(summary.left_out_of_arguments)}")
    return summary


_LEFT_BEHIND_LOOKS, _LOOK_AGAIN_S = 100, 0.1


@contextlib.asynccontextmanager
async def _open_run(job: Job, options: RunOptions, say: Say, stop: StopSwitch, disk: Disk) -> AsyncIterator[Run]:
    """Finds everything that can be wrong before a request is sent. The output is locked until the block ends."""
    folder = job.output.path
    # In this order: everything that only reads comes before the first change to the folder, so a job that cannot run
    # leaves no trace. What a crash left is cleared only under the lock: until then it may be another run's at work.
    lock = folder / LOCK
    for _ in range(_LEFT_BEHIND_LOOKS):
        if not is_left_behind(lock):
            break
        await asyncio.sleep(_LOOK_AGAIN_S)
    refuse_held(lock)  # at once: preparing may take minutes, and whoever cancels it does not wait for the thread
    maker, source, layout = await beside(partial(_prepare_with_ids, job, disk))
    doubted = await beside(partial(doubts, job, maker, source))
    seen = (*maker.left_out, *maker.findings.doubts, *source.notes, *layout.kept.notes)
    for note in (*exposed_keys(job.endpoints), *doubted, *seen):
        say(note)
    refuse_foreign_folder(folder)
    stop.is_preparing = False
    make_folders(disk, folder)
    with hold_lock(lock) as held, guarded(disk, held):
        clear_remains(disk, folder)  # what a crash left half-written
        part_rows, keep_answers = job.output.part_rows, job.output.response
        with contextlib.ExitStack() as opened:
            output = Output(folder, layout, disk=disk, part_rows=part_rows, keep_answers=keep_answers)
            opened.callback(output.close)
            # To its end: its thread writes, which it may do only under the lock.
            yield await beside_to_the_end(partial(_begin, job, options, maker, source, output, held, say, opened))


def _prepare_with_ids(job: Job, disk: Disk) -> tuple[RequestMaker, Input, Layout]:
    """As `prepare`, and the ids are checked, unless an earlier run found them unique in this very input."""
    refuse_network(job)
    maker, source, layout = prepare(job)
    if job.input.id is not None:
        try:
            runfile = read_runfile(disk, job.output.path / OWN_FOLDER)
        except OutputError:
            runfile = None
        found = runfile and (runfile.input.fingerprint, runfile.input.unique_id)
        if found != (source.fingerprint, job.input.id):
            source.check_ids(job.input.id)
    return maker, source, layout


def refuse_network(job: Job) -> None:
    """Raise OutputError where the journal would be on a network file system and the job does not say that it may."""
    found = network_file_system(job.output.path)
    if found is not None and not job.output.allow_network:
        raise OutputError(
            f"{job.output.path} is on a network file system ({found[1]} at {found[0]}), where neither locks nor syncs"
            " can be relied on: a crash there may lose answers that were paid for",
            hint="set output.path to a local disk and copy the parts when they are done;"
            " or --set output.allow_network=true",
        )


def prepare(job: Job) -> tuple[RequestMaker, Input, Layout]:
    """The templates, tools, input and columns of a job, checked except for the ids. Sends and writes nothing.

    Raises JobError or InputError.
    """
    if job.sandbox.faults:
        sandbox_settings(job)
    maker = make_request_maker(job)
    faults, doubts = maker.findings
    if faults:  # every call would be paid for and be wrong; what looks like a typo in the schema may be the cause
        raise JobError("no arguments can satisfy the schema of a tool", faults=(*doubts, *faults))
    for protocol in dict.fromkeys(endpoint.protocol for endpoint in job.endpoints):
        # What the protocol cannot express would be lost without notice, or refused for every row.
        unspeakable = DIALECTS[protocol].faults(maker.job_shape)
        if unspeakable:
            what = f"{job.file.name} asks for what {protocol} cannot express or refuses"
            raise JobError(what, faults=tuple(unspeakable))
    source = open_input(job.input.path, id_column=job.input.id, output=job.output.path)
    kept = source.columns if job.output.keep is None else tuple(job.output.keep)
    source.require(maker.builder.required, what=_WHO_NEEDS[is_batch_file(job)])
    # A template that seems to show a column, and would show something of Jinja's own in every row.
    hidden = {
        f"{template.key}: {why}"
        for template in maker.builder.templates
        for column, why in template.uses.shadowed.items()
        if column in source.columns
    }
    if hidden:
        raise JobError(
            f"{job.file.name} uses names of columns that mean something else in Jinja", faults=tuple(sorted(hidden))
        )
    source.require(kept, what="output.keep")
    if job.input.id is not None:
        source.require((job.input.id,), what="input.id")
    layout = Layout(source.kept_schema(kept), maker.arguments_type, is_all_kept=job.output.keep is None)
    next(iter(source.batches(maker.columns_of(source), keep=layout.kept)), None)  # rows that cannot be read show
    return maker, source, layout


_WHO_NEEDS = {
    False: "the request",
    True: "[request] has neither prompt, messages nor columns, so rows are those of a batch file: the request",
}


def _begin(
    job: Job,
    options: RunOptions,
    maker: RequestMaker,
    source: Input,
    output: Output,
    held: Callable[[], None],
    say: Say,
    opened: contextlib.ExitStack,
) -> Run:
    """Begin the run: compare the output with the job and the input, and record the start in run.json. The earlier
    answers are closed with what else is `opened`.

    Raises ResumeError where the person must decide first, OutputError, OSError.
    """
    now = datetime.datetime.now(datetime.UTC)
    resumption = resume(job, maker, source, output, on_change=options.on_change)
    may_ask = not resumption.is_finished and has_earlier(output.disk, output.own)
    earlier_answers = EarlierAnswers(output.disk, output.folder, output.own) if may_ask else None
    if earlier_answers is not None:
        opened.callback(earlier_answers.close)
    runs = resumption.runfile.runs
    output.has_died = not runs or runs[-1].ended_at is None
    entry = RunEntry(started_at=now.isoformat(timespec="seconds"), started_at_s=now.timestamp())
    if options.retry_failed:
        entry.retries_failed_before_s = _retries_before_s(runs, now.timestamp())
    take = taking_from(earlier_answers) if earlier_answers is not None else None
    progress = Progress(totals=output.done())
    run = Run(job, options, output, source, maker, resumption, entry, earlier_answers, progress, take, held)
    if resumption.plan is not None:
        complete_plan(run, resumption.plan)
    for note in resumption.notes:
        say(note)
    if resumption.plan is not None and resumption.plan.is_worth_saying:
        say(f"the input or the columns have changed: {resumption.plan}")
    if not resumption.is_finished or options.retry_failed:
        output.mark_success(False)
        resumption.runfile.is_complete = False
    runs.append(entry)
    run.write_record()  # the first journal's sync makes it durable
    return run


def _retries_before_s(runs: Sequence[RunEntry], now_s: float) -> float:
    """The moment before which failures are tried again.

    A pass of --retry-failed that was interrupted goes on with its own moment. A new pass begins after every row so far
    has ended, also where the clock was set back since.
    """
    last_s = runs[-1].retries_failed_before_s if runs else None
    if last_s is not None and runs[-1].exit_code not in (ExitCode.OK, ExitCode.ROWS_FAILED):
        return last_s
    before_s = now_s
    for run in runs:
        ended_at_s = datetime.datetime.fromisoformat(run.ended_at).timestamp() + 1 if run.ended_at else 0.0
        before_s = max(before_s, run.started_at_s, ended_at_s, run.retries_failed_before_s or 0.0)
    return before_s


async def _drive(
    run: Run,
    steering: OwnSteering,
    keys: Keys,
    sandbox: str,
    show: Show | None,
    say: Say,
    stop: StopSwitch,
) -> tuple[Verdict | BatchcallError | None, int]:
    """Every row that is left. Returns why it ended early, if it did, and how many requests were given up then."""
    workers = await asyncio.to_thread(workers_of, run)
    if workers > 1:
        crew = Crew(run, steering, keys, sandbox, most=workers, say=say)
        stop.connect(crew.stop)
        await crew.drive(show)
        return crew.stopped, crew.given_up
    with open_engine(run, keys, steering) as engine:
        stop.connect(engine.stop)
        feed = Feed(pending_rows(run, undone_parts(run)), partial(take_batch, run))

        def on_row(ended: Ended) -> None:
            if (too_many := too_many_failed(run)) is not None:
                engine.stop(too_many)

        def seal(part: OpenPart) -> None:
            run.output.seal(part)
            run.write_record()  # it has new places to seek to; an older one does no harm

        with fewer_collections(), folder_watched(run, engine):
            async with under_way(run, steering, engine, lambda: "input" if feed.is_waiting else engine.bound_by, show):
                await do_rows(run, engine, feed, on_row=on_row, seal=seal)
        return engine.stopped, engine.given_up
