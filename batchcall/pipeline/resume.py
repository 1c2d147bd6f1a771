"""What a run finds in its output, and what it does with it. Nothing is reused without notice, nothing is bought again.

Three things may differ from the run before: the job (what is asked), the input (which rows), and the layout (which
columns, how many rows a part has). `resume` settles them in this order:

- Another job makes other requests, so no row that is done fits any longer. The table `ACTIONS` decides.
- Another input or layout concerns single parts. A part stays if each of its rows makes the same request as before and
  keeps the same columns. The others are set aside: rows find their answers there by request hash, wherever they moved.
- Nothing differs: all parts stay, and the record of the input says where reading can begin.

Whether the person must be asked first is `why_refused`, which comes before all this and changes nothing.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict

from batchcall.base import VERSION, Bill, JobError, OutputError, ResumeError
from batchcall.disk import Disk, part_name, part_numbers
from batchcall.input import Input, KeptColumns, Mark
from batchcall.job import Job, changed_keys, endpoint_names, masked, request_identity, speakers, stored_job
from batchcall.output import (
    OWN_FOLDER,
    InputEntry,
    Layout,
    Output,
    RunFile,
    Totals,
    Wanted,
    bought_from,
    fits,
    has_bought,
    journals_in,
    read_journals,
    read_runfile,
    read_totals,
    write_runfile,
)
from batchcall.pipeline.forecast import Forecast, forecast_of
from batchcall.pipeline.job_or_folder import job_of
from batchcall.pipeline.request_maker import RequestMaker, make_request_maker
from batchcall.report import money_text

RERUN = "rerun"
KEEP = "keep"
FAIL = "fail"
ON_CHANGE = (FAIL, RERUN, KEEP)


class Plan(msgspec.Struct):
    """What the rows of a changed input mean for what is there."""

    kept: int = 0  # rows whose request was answered already, wherever they stood
    edited: int = 0  # rows in a place that had another request
    new: int = 0  # rows beyond what was there
    gone: int = 0  # answers whose request no row makes any more

    @property
    def is_worth_saying(self) -> bool:
        return bool(self.edited or self.new or self.gone)

    def __str__(self) -> str:
        return f"{self.kept:,} kept, {self.edited:,} edited, {self.new:,} new, {self.gone:,} gone"


class Resumption(msgspec.Struct):
    """What the run goes on with."""

    runfile: RunFile
    makers: list[RequestMaker]  # the job's own first, then those of older jobs whose answers are kept as they are
    notes: list[str] = []  # for the person: what was found
    plan: Plan | None = None
    is_finished: bool = False  # every row was in, and neither job nor input nor columns have changed


class JobIs(enum.Enum):
    """The job of this run, compared with the one that the rows of an output were made with."""

    SAME = enum.auto()
    SAME_WITH_OLDER = enum.auto()  # and rows of older jobs were kept beside its own
    UNBOUGHT = enum.auto()  # another, but nothing that is there was paid for
    CORRECTED = enum.auto()  # another only in endpoints that brought no answer
    OTHER = enum.auto()


class Action(enum.Enum):
    """What becomes of the rows that are done."""

    STAY = enum.auto()
    KEEP = enum.auto()  # they stay, and so does the job that they were made with: later runs compare them with it
    REDO = enum.auto()  # they are set aside, where a row finds its answer if its request is the same again
    REFUSE = enum.auto()  # unless every answer is there already (a job that was changed back): then REDO


# By the job and by `on_change`.
ACTIONS: Mapping[JobIs, Mapping[str, Action]] = {
    JobIs.SAME: {FAIL: Action.STAY, KEEP: Action.STAY, RERUN: Action.STAY},
    JobIs.SAME_WITH_OLDER: {FAIL: Action.STAY, KEEP: Action.STAY, RERUN: Action.REDO},
    JobIs.UNBOUGHT: {FAIL: Action.REDO, KEEP: Action.REDO, RERUN: Action.REDO},  # there is nothing to protect
    JobIs.CORRECTED: {FAIL: Action.KEEP, KEEP: Action.KEEP, RERUN: Action.REDO},
    JobIs.OTHER: {FAIL: Action.REFUSE, KEEP: Action.KEEP, RERUN: Action.REDO},
}


def resume(job: Job, maker: RequestMaker, source: Input, output: Output, *, on_change: str) -> Resumption:
    """Compare the output with the job and the input, and set aside what no longer fits.

    Raises ResumeError where the person must decide and `on_change` is "fail"; then nothing was touched.
    """
    layout = layout_fingerprint(output.layout, output.part_rows)
    runfile = RunFile(
        batchcall=VERSION,
        job=masked(job),
        identity=request_identity(job),
        input=InputEntry(path=_shown_path(job), fingerprint=source.fingerprint, unique_id=job.input.id),
        layout=layout,
        validations=[read_with(job)],
    )
    notes = output.put_damaged_aside()
    try:
        old = read_runfile(output.disk, output.own)
    except OutputError as error:
        notes.append(str(error))
        old = None
    if old is None:
        return _without_record(Resumption(runfile, [maker], notes), source, output, on_change=on_change)
    if old.revalidating:
        raise _interrupted(output.folder)

    # Copies: `_set_aside` may write the old record once more before the new one is written, and after a crash in
    # between it must still name the jobs whose rows are there.
    runfile.runs, runfile.kept_jobs = list(old.runs), list(old.kept_jobs)
    runfile.bill_aside, runfile.totals = old.bill_aside, old.totals
    resumption = Resumption(runfile, [maker, *map(old_maker, old.kept_jobs)], notes)
    if on_change == FAIL and (refusal := why_refused(old, job, resumption.makers, source, output.disk)) is not None:
        raise refusal

    # The job first: it concerns every row. Then the input and the columns, which concern single parts; after REDO there
    # is none left, and only the plan is to be counted.
    action = ACTIONS[compare_jobs(old, job, output.disk)][on_change]
    if action is Action.KEEP:
        _keep_done(resumption, old, output)
    elif action is not Action.STAY:
        if is_read_otherwise(old, job):
            notes.append(
                "rows come back as they were last read, with other tools: `batchcall revalidate` reads them again"
            )
        _redo(resumption, old, output)
    if old.input.fingerprint != source.fingerprint or old.layout != layout:
        _settle_input(resumption, old, source, output, is_same_layout=old.layout == layout)
    elif action in (Action.STAY, Action.KEEP):
        output.rows = runfile.input.rows = old.input.rows
        runfile.input.rows_counted, runfile.input.marks = old.input.rows_counted, old.input.marks
        runfile.is_complete = old.is_complete and action is Action.STAY and output.is_whole
        resumption.is_finished = runfile.is_complete

    # Rows that are done stay as they were read; the record says with which settings.
    if part_numbers(output.disk, output.folder):
        resumption.notes += filter(None, [validation_note(old, job, output.disk)])
        now, runfile.validations = read_with(job), list(old.validations)
        if runfile.validations and now not in runfile.validations and not resumption.is_finished:
            runfile.validations.append(now)  # from now on there are rows of both
    return resumption


def compare_jobs(old: RunFile, job: Job, disk: Disk) -> JobIs:
    """How a job compares with the one that an output's rows were made with. Raises OutputError."""
    if old.identity == request_identity(job):
        return JobIs.SAME_WITH_OLDER if old.kept_jobs else JobIs.SAME
    # What the embedded endpoint invented costs nothing, and is not protected from a job that asks a model.
    was, now = (all(one["url"] == "sandbox" for one in jobs["endpoints"]) for jobs in (old.job, masked(job)))
    if (was and not now) or not has_bought(disk, job.output.path):
        return JobIs.UNBOUGHT
    return JobIs.CORRECTED if is_correction(old, job, disk) else JobIs.OTHER


def fingerprint(value: Any) -> str:
    """A hash of anything JSON can hold. It must be the same after any update of a library."""
    # The standard library does not change how it writes a number; orjson has, for some floats.
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def layout_fingerprint(layout: Layout, part_rows: int) -> str:
    columns = [[one.name, str(one.type), *([] if one.nullable else ["not null"])] for one in layout.schema]
    return fingerprint([part_rows, columns])


def refuse_foreign_folder(folder: Path) -> None:
    """Raise OutputError when `folder` holds Parquet files that no run of ours has written."""
    if (folder / OWN_FOLDER).exists() or not folder.is_dir():
        return
    foreign = [name for name in sorted(entry.name for entry in folder.iterdir()) if name.endswith(".parquet")]
    if foreign:
        raise OutputError(
            f"{folder} contains files that batchcall did not write ({foreign[0]})",
            hint="choose an empty or new folder for output.path",
        )


def read_with(job: Job) -> dict[str, Any]:
    """The settings that decide how a stored answer is read, as run.json keeps them."""
    return {name: getattr(job.validate, name) for name in ("repair", "coerce", "formats")}


def validation_note(runfile: RunFile, job: Job, disk: Disk) -> str | None:
    """A note that rows which are done were read with other settings than the job has now; None where none were."""
    if not part_numbers(disk, job.output.path):
        return None
    now = read_with(job)
    changed = [name for name in now if any(one.get(name, now[name]) != now[name] for one in runfile.validations)]
    if not changed:
        return None
    keys = " and ".join(f"validate.{name}" for name in changed)
    have, them = ("has", "it") if len(changed) == 1 else ("have", "them")
    return f"{keys} {have} changed; `batchcall revalidate` applies {them} to the rows that are done, at no cost"


def job_notes(folder: Path, runfile: RunFile, disk: Disk, job: Job | None) -> list[str]:
    """How the job file differs from the one that an output's rows were made with, and what a run would do about it.

    `job` is the job file where the person gave it; None: the one that the record names, if it is still there.
    """
    try:
        now = job or job_of(runfile, folder)
    except JobError as error:
        faults = "; ".join(error.faults) or str(error)
        return [f"{runfile.job['file']} has errors now, and a run would refuse it: {faults}"]
    if now is None:
        return []
    notes = [*filter(None, [validation_note(runfile, now, disk)])]
    if runfile.identity != (identity := request_identity(now)):
        changes = "; ".join(changed_keys(runfile.identity, runfile.job, identity, masked(now)))
        what = f"{now.file} differs from the job that these rows were made with: {changes}"
        return [f"{what}. {_NEXT_RUN}", *notes]
    return notes


_NEXT_RUN = (
    "If the next run would have to send rows again because of this, it refuses unless --on-change says what to do:"
    " rerun sends them again, keep leaves what is done and uses the new job for the rest; `batchcall check` shows how"
    " many"
)


def _shown_path(job: Job) -> str:
    path: str = masked(job)["input"]["path"]
    return path


def _interrupted(folder: Path) -> ResumeError:
    what = f"a revalidation of {folder} was interrupted"
    return ResumeError(what, hint="run `batchcall revalidate` again, it costs nothing")


def why_refused(
    old: RunFile, job: Job, makers: Sequence[RequestMaker], source: Input, disk: Disk, would: Forecast | None = None
) -> ResumeError | None:
    """Why a run with this job needs `--on-change`, with what it would buy; None where it may just start. `would` saves
    counting that again.
    """
    # What is protected is what was paid for, and only that. So it may just start
    # - where nothing was bought;
    # - with the same job, or one that differs only in endpoints that brought nothing, over the same input, edited or
    #   grown: that is what a resume is for; or over another input, if that asks for every answer that is there;
    # - with a job that was changed back, over the same input: every row finds its answer among those set aside.
    # A revalidation that was interrupted comes first: until it ends, parts and record do not belong together.
    folder = job.output.path
    if old.revalidating:
        return _interrupted(folder)
    job_is = compare_jobs(old, job, disk)
    if job_is is JobIs.UNBOUGHT:
        return None
    if job_is is JobIs.CORRECTED:
        return _why_other_input(old, job, [*makers, old_maker(old.job)], source, disk, would)
    if job_is is not JobIs.OTHER:
        return _why_other_input(old, job, makers, source, disk, would)
    would = would or forecast_of(makers[:1], source, disk, folder)
    changes = changed_keys(old.identity, old.job, request_identity(job), masked(job))
    if would.free == would.rows and _is_same_input(old, job, source):
        if not is_read_otherwise(old, job):
            return None  # a job that was changed back: its answers are all there
        what = f"{folder} holds {would.free:,} rows of this job that `revalidate` has read with other tools since"
        return ResumeError(
            "\n  ".join([f"{what}:", *changes]),
            hint="`batchcall revalidate` reads them with the tools of this job, at no cost; then run again",
        )
    return ResumeError(
        f"{folder} holds {would.bought:,} rows of another job:\n  " + "\n  ".join(changes),
        hint=f"with --on-change rerun, {would}; {_took(disk, folder)}"
        "--on-change keep leaves what is done and uses the new job for the rest;"
        " a changed tool schema alone: `batchcall revalidate` costs nothing; or choose another --output",
    )


def _why_other_input(
    old: RunFile, job: Job, makers: Sequence[RequestMaker], source: Input, disk: Disk, would: Forecast | None
) -> ResumeError | None:
    folder = job.output.path
    if _is_same_input(old, job, source):
        return None
    would = would or forecast_of(makers, source, disk, folder)
    if not would.gone:
        return None
    return ResumeError(
        f"{folder} holds {would.bought:,} rows of another input, and {would.gone:,} of them would be removed:\n"
        f"  input.path: {old.input.path} -> {_shown_path(job)}",
        hint=f"choose another --output for this input; with --on-change rerun, {would}: the removed ones are kept in"
        f" {OWN_FOLDER}/earlier",
    )


def is_read_otherwise(old: RunFile, job: Job) -> bool:
    """Whether rows that a job has made were read with other tools since, by `revalidate`: what they came to is not what
    this job makes of their answers."""
    now = request_identity(job)
    tools = {name: now[name] for name in REVALIDATED}
    is_alike = {**old.identity, **tools} == now
    return is_alike and any(request_identity(stored_job(one)) == now for one in old.kept_jobs)


REVALIDATED = ("tools", "tool_choice")  # what `revalidate` may change of a job's identity


def is_free(job: Job, runfile: RunFile) -> bool:
    """Whether nothing in an output was paid for: neither by this job nor by one whose answers are kept."""
    kept = [endpoint["url"] for one in runfile.kept_jobs for endpoint in one["endpoints"]]
    return job.is_free and all(url == "sandbox" for url in kept)


def _is_same_input(old: RunFile, job: Job, source: Input) -> bool:
    """Edited and grown or not."""
    return old.input.path == _shown_path(job) or old.input.fingerprint == source.fingerprint


def is_correction(old: RunFile, job: Job, disk: Disk) -> bool:
    """Whether a job differs from the one before only in endpoints of a pool that brought no answer: a typo in one of
    them. All that was bought came from the others, which the job still has."""
    # The pool's protocols and models are part of every request's identity. Without this, such a typo would make the
    # whole output another job's.
    may_differ = ("protocol", "model")
    was, now = ({name: one[name] for name in one.keys() - may_differ} for one in (old.identity, request_identity(job)))
    try:
        before = stored_job(old.job)
    except JobError:  # of another version
        return False
    gone = set(speakers(before)) - set(speakers(job))
    if was != now or not gone:
        return False
    spoke = dict(zip(endpoint_names(before.endpoints), speakers(before), strict=True))
    return all(name in spoke and spoke[name] not in gone for name in bought_from(disk, job.output.path))


def _took(disk: Disk, folder: Path) -> str:
    """What the rows that are done have cost."""
    done = Totals()
    for number in part_numbers(disk, folder):
        done.add(read_totals(disk, folder / part_name(number)))
    tokens = f", {done.total_tokens:,} tokens" if done.total_tokens is not None else ""
    cost = f", {money_text(done.cost)}" if done.cost is not None else ""
    return f"the {done.rows:,} that are done took {done.attempts:,} requests{tokens}{cost}; " if done.rows else ""


def _without_record(resumption: Resumption, source: Input, output: Output, *, on_change: str) -> Resumption:
    """A new output, or one whose run.json is missing or damaged: its parts stay if they answer this very job.

    Raises ResumeError where they do not, except with `on_change` "rerun".
    """
    numbers = _all_numbers(output)
    if not numbers:
        return resumption
    unfit = sorted(set(numbers) - set(_fitting_parts(resumption.makers, source, output)))
    if unfit and on_change != RERUN and has_bought(output.disk, output.folder):
        raise unfit_without_record(output.folder, f"{len(unfit):,} of {len(numbers):,} parts")
    output.set_aside(unfit)
    resumption.notes.append(
        f"run.json was missing or damaged: {len(numbers) - len(unfit):,} parts were compared with the job and the"
        " input, match them, and are kept; the results of earlier runs are no longer known"
    )
    return resumption


def unfit_without_record(folder: Path, what: str) -> ResumeError:
    """The refusal where no record names the job that bought `what`, and this one has not."""
    return ResumeError(
        f"{folder}: run.json is missing or damaged, and {what} do not fit the requests that this job and input make",
        hint="restore run.json, or the job and the input; --on-change rerun keeps those parts aside and asks again;"
        " or choose another --output",
    )


def old_maker(job: Mapping[str, Any]) -> RequestMaker:
    """How a job of an earlier run made requests; `job` as run.json keeps it."""
    return make_request_maker(stored_job(job))


def _keep_done(resumption: Resumption, old: RunFile, output: Output) -> None:
    """Rows that another job made stay. Raises ResumeError where the new job's columns cannot hold them."""
    if old.layout != resumption.runfile.layout:
        raise ResumeError(
            f"the new job's columns differ from those of the parts in {output.folder}, which are to be kept",
            hint="`batchcall revalidate` converts them to the new columns without a request; or use --on-change rerun",
        )
    resumption.runfile.kept_jobs.append(old.job)
    resumption.makers.append(old_maker(old.job))
    resumption.notes.append(f"the job has changed; {output.done().rows:,} rows that are done stay as they are")


def _redo(resumption: Resumption, old: RunFile, output: Output) -> None:
    """Rows that another job made are set aside, all of them."""
    rows = output.done().rows
    resumption.runfile.kept_jobs.clear()
    del resumption.makers[1:]
    _set_aside(resumption, old, output, _all_numbers(output))
    if rows:
        resumption.notes.append(
            f"the job has changed; {rows:,} rows are done again, without a request where the answer is already there"
        )


def _all_numbers(output: Output) -> list[int]:
    """The parts that have any file: a journal, or only the raw answers of a part that was damaged or lost."""
    return sorted(output.published().keys() | output.journals() | output.answers())


def _set_aside(resumption: Resumption, old: RunFile, output: Output, numbers: list[int]) -> None:
    """Move parts to `earlier`. What may have been paid twice for their rows stays in the bill.

    The bill is written first: a crash in between counts it twice, which is better than not at all.
    """
    bill = output.bill_of(numbers)
    bill.add(Bill.from_json(old.bill_aside))
    old.bill_aside = resumption.runfile.bill_aside = asdict(bill)
    if numbers:
        write_runfile(
            output.disk, output.own, old, is_last=False
        )  # `set_aside` syncs that folder before it moves anything
    output.set_aside(numbers)


def _settle_input(resumption: Resumption, old: RunFile, source: Input, output: Output, *, is_same_layout: bool) -> None:
    """The input or the columns differ: find the parts that stay as they are, set the others aside."""
    published = output.published()
    rows_before = sum(totals.rows for totals in published.values())
    unfit = set(_all_numbers(output))
    if is_same_layout:
        unfit -= set(_fitting_parts(resumption.makers, source, output))
    if unfit:
        _set_aside(resumption, old, output, sorted(unfit))
    resumption.plan = Plan(kept=sum(totals.rows for number, totals in published.items() if number not in unfit))
    resumption.plan.gone = rows_before - resumption.plan.kept  # until `complete_plan` has looked for their answers


def _fitting_parts(makers: list[RequestMaker], source: Input, output: Output) -> Iterator[int]:
    """Parts whose every row makes the same request as before and keeps the same columns."""
    numbers = set(_all_numbers(output))
    for number, wanted in wanted_by_part(makers, source, output.part_rows, output.layout.kept):
        if number in numbers and _fits(wanted, output, number):
            yield number


def wanted_by_part(
    makers: Sequence[RequestMaker], source: Input, part_rows: int, kept: KeptColumns | None
) -> Iterator[tuple[int, dict[int, Wanted]]]:
    """What the rows of each part's range make, by row. Values are dropped at once: a prompt may be large."""
    wanted: dict[int, Wanted] = {}
    number = 0
    columns = set[str]().union(*(maker.columns_of(source) for maker in makers))
    for batch in source.batches(columns, keep=kept):
        for row in batch.rows:
            if row.index // part_rows != number:
                yield number, wanted
                number, wanted = row.index // part_rows, {}
            wanted[row.index] = Wanted({maker.hash_of_row(row) for maker in makers}, row.kept)
    if wanted:
        yield number, wanted


def _fits(wanted: Mapping[int, Wanted], output: Output, number: int) -> bool:
    # Its journals as well: they win over the part, so an attempt at another request would become the row's answer. Of a
    # part that is gone, the raw answers are all there is; they stay in place if its rows still ask for them.
    if not output.has_its_columns(number):
        return False
    path = output.folder / part_name(number)
    recovered = read_journals(output.disk, journals_in(output.disk, output.own).get(number, ()))
    for index, attempts in recovered.attempts.items():
        if index not in wanted or attempts[-1].request_hash not in wanted[index].hashes:
            return False
    if not output.disk.exists(path):
        stored = output.stored_answers(number)
        return all(one.row in wanted and one.request_hash in wanted[one.row].hashes for one in stored)
    return fits(output.disk, path, wanted, output.layout)


def marks_of(runfile: RunFile) -> list[Mark]:
    return [Mark(*mark) for mark in runfile.input.marks]
