"""Whole runs on a model disk, cut off at any step: what is needed to tell whether a promise held.

The spine is the real one, from the job file to the last line; only the disk and the wire are models. An endpoint of a
few lines answers; a ledger beside it knows what was asked, and which answers were on disk, or durable, at each step.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import functools
import itertools
import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

import batchcall.commands.revalidate
import batchcall.pipeline.open_engine
import batchcall.pipeline.run
from batchcall.answers.read import ParsedAttempt, Prepared
from batchcall.base.errors import BatchcallError, ExitCode, OutputError
from batchcall.base.records import Attempt, HttpRequest, HttpResponse, Request, Row
from batchcall.commands.revalidate import revalidate_job
from batchcall.commands.verify import verify_output
from batchcall.disk.names import answers_in, part_number
from batchcall.job.model import Job, load_job, stored_job
from batchcall.output.earlier_answers import EarlierAnswers
from batchcall.output.generations import has_earlier
from batchcall.output.journal import Committer, journals_in, read_journals
from batchcall.output.output import OpenPart, Output
from batchcall.output.parts import read_batches, read_raw, read_totals
from batchcall.output.runfile import RunFile, read_runfile
from batchcall.pipeline.context import RunOptions
from batchcall.pipeline.request_maker import answer_parser_of, make_request_maker
from batchcall.pipeline.run import StopSwitch, run_job
from batchcall.report.snapshot import Summary
from model_disk import ModelDisk
from running import edit, write_job, write_rows
from virtual_time import run_virtual

COMMIT_EVERY = 3  # answers
IN_VAIN = " in vain"


@dataclass
class Ledger:
    """Answers that were paid, and what of them the run had made its own. Counted by request hash; those that were no
    completion (a 503) are counted apart."""

    paid: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)  # in a journal or part
    durable: Counter[str] = field(default_factory=Counter)  # and there after a power cut

    def forget(self, hashes: set[str]) -> None:
        """These may be asked again: that is what the next command is for."""
        for one in hashes:
            self.written[one] = self.durable[one] = 0

    def came(self, attempt: Attempt) -> None:
        """An answer is written; for ledgers that know more."""

    def all_came(self, before: Ledger) -> None:
        """What was paid since `before` is written, or should be."""
        self.written = before.written + (self.paid - before.paid)


@dataclass
class Endpoint:
    """Answers by what is asked: a row that says "fail" gets no call, one that says "busy" a 503 first."""

    ledger: Ledger
    committer: Committer
    stop: StopSwitch
    stops_after: int | None = None  # answers
    answered: int = 0
    asked: set[str] = field(default_factory=set)

    async def post(self, request: HttpRequest) -> HttpResponse:
        text = json.loads(request.body)["messages"][-1]["content"]
        await asyncio.sleep(1.0 + len(text) % 3)
        self.answered += 1
        if self.answered % COMMIT_EVERY == 0:
            before = Counter(self.ledger.written)
            self.committer.commit()
            if self.committer.failure is None:
                self.ledger.durable |= before
        if self.answered == self.stops_after:
            self.stop.pull("that is enough", ExitCode.TERMINATED)
        is_first = text not in self.asked
        self.asked.add(text)
        return answer_to(text, is_busy=is_first and "busy" in text)


def answer_to(text: str, *, is_busy: bool, response_id: str = "r") -> HttpResponse:
    if is_busy:
        return HttpResponse(503, {}, b'{"error":{"message":"overloaded","type":"overloaded_error"}}')
    call = {"id": "c", "type": "function", "function": {"name": "record_person", "arguments": arguments_for(text)}}
    message: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [call]}
    if "fail" in text:
        message = {"role": "assistant", "content": "I would rather not."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    body = {"id": response_id, "model": "m", "choices": [choice], "usage": usage}
    return HttpResponse(200, {}, json.dumps(body).encode())


def arguments_for(text: str) -> str:
    return json.dumps({"name": text.rpartition("\n")[2], "age": len(text)})


@dataclass
class World:
    """A job with its input (real files, read only) and an output on a model disk."""

    job: Job
    disk: ModelDisk
    ledger: Ledger = field(default_factory=Ledger)
    parts_before: dict[str, bytes] = field(default_factory=dict)  # the command
    identity_before: dict[str, Any] | None = None  # of the job in run.json
    spoilt: bytes = b""  # a damaged line that must be kept for a person to look at
    open_endpoint: Callable[[Ledger, Committer, StopSwitch, int | None], Endpoint] = Endpoint

    @property
    def out(self) -> Path:
        return self.job.output.path

    def copy(self) -> World:
        return replace(self, disk=self.disk.copy(), ledger=copy.deepcopy(self.ledger))

    def spoil(self, name: str, line: int) -> None:
        """Damage on the medium, in the middle of a line of a journal."""
        path = self.out / "_batchcall" / name
        lines = self.disk.read(path).splitlines(keepends=True)
        self.disk.flip_bit(path, sum(map(len, lines[:line])) + 20)
        self.spoilt = self.disk.read(path).splitlines()[line]

    def run(self, options: RunOptions, *, stops_after: int | None = None) -> Summary:
        """`batchcall run`, to its end. Raises what it raises."""
        committer, stop = Committer(has_thread=False), StopSwitch()
        endpoint = self.open_endpoint(self.ledger, committer, stop, stops_after)
        with _models(self.ledger, endpoint, committer):
            summary = run_virtual(run_job(self.job, options, disk=self.disk, stop=stop))
        self.ledger.durable |= self.ledger.written
        return summary

    def part_names(self) -> list[str]:
        return [name for name in self.disk.names(self.out) if part_number(name) is not None]

    def rows(self) -> list[dict[str, Any]]:
        columns = ["row", "id", "text", "status", "content", "arguments", "request_hash", "attempts"]
        batches = [batch for name in self.part_names() for batch in read_batches(self.disk, self.out / name, columns)]
        return [row for batch in batches for row in batch.to_pylist()]


def new_world(job: Path) -> World:
    """Nothing has run yet. The lock is a real file, so its folder is there for real."""
    loaded = load_job(job)
    (loaded.output.path / "_batchcall").mkdir(parents=True)
    return World(loaded, ModelDisk(job.parent))


@contextlib.contextmanager
def _models(ledger: Ledger, endpoint: Endpoint, committer: Committer) -> Iterator[None]:
    """Threads run where they are started, the wire is a model, and the ledger watches what goes to disk."""

    @contextlib.asynccontextmanager
    async def open_model(*_: Any, **__: Any) -> AsyncIterator[Endpoint]:
        yield endpoint

    async def at_once(call: Callable[..., Any], *args: Any) -> Any:
        return call(*args)

    with (
        mock.patch.object(batchcall.pipeline.open_engine, "open_transport", open_model),
        mock.patch("batchcall.output.output.Committer", return_value=committer),
        mock.patch.object(asyncio, "to_thread", at_once),
        mock.patch("batchcall.engine.row_loop.beside", at_once),
        mock.patch.object(
            batchcall.pipeline.open_engine, "ReadingChild", ReadHere
        ),  # test_deadly_answers.py starts real ones
        # What follows is there for the sake of time: the same bytes read alike, and nobody else takes the lock.
        mock.patch("batchcall.output.parts._COMPRESSION", "none"),
        mock.patch("batchcall.output.parts._opened", _opened_once),
        mock.patch.object(batchcall.pipeline.run, "prepare", _prepare_once),
        mock.patch.object(batchcall.pipeline.run, "hold_lock", return_value=contextlib.nullcontext(lambda: None)),
        mock.patch.object(Output, "answered", _watched_answer(ledger)),
        mock.patch.object(Output, "seal", _watched_seal(ledger)),
    ):
        yield


class ReadHere:
    """Reads what a run may have died over in this process: a crash of the model has nothing to do with the answer."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        job_of_run = stored_job(job)
        self._maker, self._parser = make_request_maker(job_of_run), answer_parser_of(job_of_run)

    def read(self, attempt: Attempt, request: Request) -> ParsedAttempt:
        toolbox = self._maker.toolbox_of(request)
        return self._parser.read(attempt, Prepared(Row(attempt.row, {}, ""), request, attempt.request_hash, toolbox))

    def close(self) -> None:
        pass


@dataclass
class ReadOnce:
    """A Parquet file that gives the same batches again without reading them again."""

    file: Any
    schema_arrow: Any
    metadata: Any
    read: dict[tuple[str, ...], list[Any]] = field(default_factory=dict)

    def iter_batches(
        self, rows: int, row_groups: list[int], columns: list[str] | None = None, *, use_threads: bool
    ) -> Iterator[Any]:
        key = tuple(map(str, (*row_groups, *(columns or ()))))
        if key not in self.read:
            read = self.file.iter_batches(rows, row_groups=row_groups, columns=columns, use_threads=use_threads)
            self.read[key] = list(read)
        return iter(self.read[key])


@functools.lru_cache(maxsize=2000)
def _read_once(content: bytes) -> ReadOnce:
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    return ReadOnce(file, file.schema_arrow, file.metadata)


@contextlib.contextmanager
def _opened_once(disk: ModelDisk, path: Path) -> Iterator[ReadOnce]:
    yield _read_once(disk.read(path))


_prepare = batchcall.pipeline.run.prepare
_prepared: list[tuple[Job, Any]] = []


def _prepare_once(job: Job) -> Any:
    """A job is loaded anew whenever it or its input is edited."""
    if not _prepared or _prepared[-1][0] is not job:
        _prepared[:] = [(job, _prepare(job))]
    return _prepared[-1][1]


_answered, _seal = Output.answered, Output.seal


def _watched_answer(ledger: Ledger) -> Callable[..., None]:
    def answered(output: Output, attempt: Attempt, written: bytes | None = None) -> None:
        is_final = attempt.response is not None and attempt.response.status == 200
        key = attempt.request_hash if is_final else attempt.request_hash + IN_VAIN
        ledger.paid[key] += 1
        _answered(output, attempt, written)
        ledger.written[key] += 1
        ledger.came(attempt)

    return answered


def _watched_seal(ledger: Ledger) -> Callable[..., None]:
    def seal(output: Output, part: OpenPart) -> None:
        rows = Counter(outcome.request_hash for ended in part.waiting._ended.values() for _, outcome in ended)
        _seal(output, part)
        ledger.durable |= Counter({one: rows[one] for one in rows if one is not None}) & ledger.written

    return seal


@dataclass(frozen=True)
class Command:
    """A command and what was edited before it was given. `is_free` rows may be asked again: that is what it is for."""

    name: str
    options: RunOptions | None  # None: `batchcall revalidate`
    stops_after: int | None = None  # answers; as by SIGTERM
    failing_sync: str | None = None  # the file whose first sync fails; the run stops for it
    spoilt_line: tuple[str, int] | None = None  # before the command: a bit of this journal flips, in this line
    edit: Callable[[Path], None] = lambda folder: None
    is_free: Callable[[str], bool] = lambda text: False

    def begin(self, world: World) -> None:
        """Edit the files, and forget what may be bought anew."""
        folder = world.job.file.parent
        self.edit(folder)
        world.job = load_job(world.job.file)
        world.parts_before = {name: world.disk.read(world.out / name) for name in world.part_names()}
        runfile = read_runfile(world.disk, world.out / "_batchcall")
        world.identity_before = runfile.identity if runfile is not None else None
        world.ledger.forget({row["request_hash"] for row in world.rows() if self.is_free(row["text"])})
        world.disk.failing_sync = self.failing_sync
        if self.spoilt_line is not None:
            world.spoil(*self.spoilt_line)

    def begin_again(self, world: World) -> None:
        """Given once more after it had done its work, `--retry-failed` is a new command."""
        if self.options is not None and self.options.retry_failed and _has_ended(world):
            world.ledger.forget({row["request_hash"] for row in world.rows() if self.is_free(row["text"])})

    def run(self, world: World) -> Summary | None:
        if self.options is not None:
            return world.run(self.options, stops_after=self.stops_after)
        with mock.patch.object(batchcall.commands.revalidate, "ReadingChild", ReadHere):
            revalidate_job(world.job, disk=world.disk)
        return None

    @property
    def is_whole(self) -> bool:
        return not (self.stops_after or self.failing_sync) and (self.options is None or self.options.limit is None)


def write_first_job(folder: Path) -> Path:
    job = write_job(folder, url="http://127.0.0.1:9/v1", part_rows=4)
    edit(job, "concurrency = 8", "concurrency = 3")
    write_texts(folder, ["a", "bb busy", "c fail", "dd", "e", "ff", "g"])
    return job


def write_texts(folder: Path, texts: Sequence[str]) -> None:
    write_rows(folder / "rows.jsonl", [{"id": f"r{place}", "text": text} for place, text in enumerate(texts)])


def _change_tool(folder: Path) -> None:
    edit(folder / "tool.json", '"maximum": 130', '"maximum": 131')


def _change_prompt_and_grow(folder: Path) -> None:
    edit(folder / "job.toml", "Who is this?", "Who is it?")
    write_texts(folder, ["bb busy", "a", "c fail", "DD", "e", "g", "hh", "i fail", "a", "new busy"])


# What the life of an output may hold, in turn. Each finds what the ones before it have left.
LIFE = (
    Command("stopped in the middle", RunOptions(), stops_after=2),
    Command("the first rows", RunOptions(limit=5), spoilt_line=("part-000000.journal", 0)),
    Command("a disk that cannot sync", RunOptions(limit=6), failing_sync="part-000001.journal"),
    Command("the rest", RunOptions()),
    Command("failed rows again", RunOptions(retry_failed=True), is_free=lambda text: "fail" in text),
    Command(
        "edited, moved and grown input",
        RunOptions(),
        edit=lambda folder: write_texts(folder, ["bb busy", "a", "c fail", "DD", "e", "g", "hh", "i fail", "a"]),
        is_free=lambda text: text == "a",  # a second "a" is bought for itself
    ),
    Command("a changed tool on stored answers", None, edit=_change_tool),
    Command("another prompt for what is new", RunOptions(on_change="keep"), edit=_change_prompt_and_grow),
    Command("everything anew", RunOptions(on_change="rerun"), is_free=lambda text: True),
    Command(
        "the old input again",
        RunOptions(),
        edit=lambda folder: write_texts(folder, ["a", "bb busy", "c fail", "dd", "e", "ff", "g"]),
    ),
)


@dataclass(frozen=True)
class Moment:
    """Just before one act of a run on its disk."""

    command: Command
    act: str  # "end": when all was done
    path: Path
    world: World
    is_told_complete: bool = False  # what the command said at its end


def moments_of(world: World, command: Command, *, only: int | None = None) -> list[Moment]:
    """Run the command in `world`, and return what the world was like before each act (or before one of them, counted
    from 0), and when all was done."""
    moments: list[Moment] = []
    acts = itertools.count()

    def before(act: str, path: Path) -> None:
        if next(acts) == only or only is None:
            moments.append(Moment(command, act, path, world.copy()))

    world.disk.before = before
    summary = command.run(world)
    world.disk.before = lambda act, path: None
    return [*moments, Moment(command, "end", world.out, world.copy(), summary is None or summary.is_complete)]


def after_power_cut(moment: Moment, dice: random.Random, keeps: float) -> World:
    world = moment.world.copy()
    world.disk.cut_power(dice, keeps=keeps)
    world.ledger.written &= world.ledger.durable  # what else was written may be gone
    return world


def faults_of_crash(moment: Moment, world: World) -> list[str]:
    """What must hold of the folder as the crash left it, before anything is run: for those who read it meanwhile."""
    has_success = world.disk.exists(world.out / "_SUCCESS")
    try:
        rows = sum(read_totals(world.disk, world.out / name).rows for name in world.part_names())
        runfile = read_runfile(world.disk, world.out / "_batchcall")
    except OutputError as error:
        return [str(error)]
    faults = []
    if moment.command.options is None and runfile is not None and not runfile.revalidating:
        is_old = runfile.identity == world.identity_before
        if is_old and any(world.disk.read(world.out / name) != world.parts_before[name] for name in world.part_names()):
            faults.append("parts were read anew and run.json does not say so")
    if has_success and (runfile is None or rows != runfile.input.rows):
        faults.append(f"_SUCCESS stands over {rows} rows")
    if world.spoilt and not any(world.spoilt in content for content in world.disk.tree().values()):
        faults.append("the damaged line is gone")
    if moment.act == "end":  # what the command has told must last
        if has_success != moment.is_told_complete:
            faults.append(f"_SUCCESS {'stands' if has_success else 'is gone'} after the end")
        if runfile is None or runfile.is_complete != moment.is_told_complete or not _has_told_its_end(runfile):
            faults.append("run.json has not what the command told")
    return faults


def _has_told_its_end(runfile: RunFile) -> bool:
    return not runfile.revalidating and bool(runfile.runs) and runfile.runs[-1].ended_at is not None


def faults_after(world: World, command: Command, *, has_proof: bool = True, looks_at_store: bool = True) -> list[str]:
    """Give the same command again; what is wrong then with the output, the bill or the record."""
    command.begin_again(world)
    known, paid = Counter(world.ledger.written), Counter(world.ledger.paid)
    try:
        summary = command.run(world)
        if command.stops_after or command.failing_sync:  # and to its end, to see what has become of every row
            command = replace(command, stops_after=None, failing_sync=None)
            summary = command.run(world)
    except (BatchcallError, OSError) as error:
        return [f"the command broke off: {error!r}"]
    rows = world.rows()
    wanted = Counter(row["request_hash"] for row in rows)
    bought = world.ledger.paid - paid
    faults = []
    for row in rows:
        one = row["request_hash"]
        in_vain = known[one + IN_VAIN] + bought[one + IN_VAIN]
        if wanted[one] == 1 and row["attempts"] < in_vain + 1:
            faults.append(f"{one} was asked {in_vain} times in vain, its row says {row['attempts']} attempts in all")
    faults += [
        f"{one} was bought {bought[one]} times although {known[one]} of {wanted[one]} answers were there"
        for one in bought
        if bought[one] > max(0, wanted[one] - known[one]) and not one.endswith(IN_VAIN)
    ]
    if command.is_whole and summary is not None and not summary.is_complete:
        faults.append("not every row is in")
    faults += _faults_of_rows(world, command, rows)
    faults += _faults_of_store(world, rows, known) if looks_at_store else []
    if command.is_whole and has_proof:
        faults += verify_output(world.out, disk=world.disk).faults
    own = world.disk.names(world.out / "_batchcall")
    return faults + [f"{name} is left" for name in own if name.startswith("_tmp-")]


def _faults_of_store(world: World, rows: list[dict[str, Any]], known: Counter[str]) -> list[str]:
    """What was answered is kept: raw, beside the rows it came to; and for later, where no row wants it any more."""
    own, stored = world.out / "_batchcall", set[int]()
    answers = answers_in(world.disk, own)
    for name in world.part_names():
        if (number := part_number(name)) in answers:
            stored |= {attempt.row for attempt in read_raw(world.disk, answers[number])}
    for paths in journals_in(world.disk, own).values():
        stored |= read_journals(world.disk, paths).attempts.keys()
    faults = [f"row {row['row']} has no raw answer" for row in rows if row["attempts"] and row["row"] not in stored]
    wanted = {row["request_hash"] for row in rows}
    left = [one for one in known if known[one] and one not in wanted and not one.endswith(IN_VAIN)]
    if left and has_earlier(world.disk, own):
        with contextlib.closing(EarlierAnswers(world.disk, world.out, own)) as earlier_answers:
            taken = {one: earlier_answers.take(one) for one in left}
            return faults + [f"the answer to {one} is gone" for one, it in taken.items() if not it or not it.attempts]
    return faults + [f"the answer to {one} is gone" for one in left]


def _has_ended(world: World) -> bool:
    runfile = read_runfile(world.disk, world.out / "_batchcall")
    return runfile is not None and bool(runfile.runs) and runfile.runs[-1].exit_code in (0, 1)


def _faults_of_rows(world: World, command: Command, rows: list[dict[str, Any]]) -> list[str]:
    limit = command.options.limit if command.options is not None else None
    expected = [json.loads(line) for line in Path(world.job.input.path).read_text().splitlines()][:limit]
    if [row["row"] for row in rows] != list(range(len(expected))):
        return [f"rows {[row['row'] for row in rows]} instead of {len(expected)}"]
    return [
        f"row {row['row']} says {row}"
        for row, asked in zip(rows, expected, strict=True)
        if (row["id"], row["text"]) != (asked["id"], asked["text"]) or not _is_right(row, asked["text"])
    ]


def _is_right(row: dict[str, Any], text: str) -> bool:
    if "fail" in text:
        return row["status"] == "no_call" and row["content"] == "I would rather not."
    return row["status"] == "ok" and row["arguments"]["name"] == text


@dataclass
class Exploration:
    """What was looked at, and what was wrong."""

    is_quick: bool = False  # what is stored beside the rows is looked at in some states only
    states: int = 0
    syncs: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def look(self, moment: Moment, how: str, world: World) -> None:
        self.states += 1
        faults = faults_of_crash(moment, world)
        is_proven = self.states % PROVE_EVERY == 0
        faults += faults_after(
            world, moment.command, has_proof=is_proven, looks_at_store=is_proven or not self.is_quick
        )
        for fault in faults[:2]:
            self.faults.append(f"{moment.command.name}, before {moment.act} of {moment.path.name}, {how}: {fault}")


def explore(
    folder: Path,
    *,
    states: int,
    seed: int,
    share: tuple[int, int] = (0, 1),
) -> Exploration:
    """Give the commands of a life one after the other; cut each off at every step in many ways, and give it again.

    About `states` different states are looked at, of which share (n, of) takes every of-th moment.
    """
    found = Exploration(is_quick=True)
    dice = random.Random(seed)
    world = new_world(write_first_job(folder))
    seen: set[int] = set()
    per_moment = -(-states // STATES_PER_TURN)
    for command in LIFE:
        command.begin(world)
        moments = moments_of(world, command)
        found.syncs |= world.disk.syncs
        for moment in moments[share[0] :: share[1]]:
            _explore_moment(moment, found, dice, seen, per_moment)
        world = world.copy()
    return found


# A fault shows at this command; to look at those before it first takes ten times as long.
SHOWS_AT = {"sync_folder: whole_file < _table_writer < write_part < _publish": "failed rows again"}


def is_missed(folder: Path, sync: str) -> bool:
    """Whether nothing is found wrong although this sync does nothing."""
    found = Exploration()
    last = len(LIFE) - 1  # the command that finds the most that it may lose
    for kills_from in (last, 0) if "clear_remains" in sync else (None, last, 0):  # what remains is what a kill leaves
        if not found.faults:
            look_without(Path(tempfile.mkdtemp(dir=folder)), sync, found, kills_from=kills_from)
    return not found.faults


def syncs_of_life(folder: Path) -> set[str]:
    """The syncs that the commands of a life make when nothing goes wrong, by who asks for them."""
    world = new_world(write_first_job(folder))
    for command in LIFE:
        command.begin(world)
        command.run(world)
    return world.disk.syncs


KILLED_EVERY = 5  # steps
STEPS_IN_DOUBT = 8  # after a sync that is left out: later ones may do its work


def look_without(folder: Path, sync: str, found: Exploration, *, kills_from: int | None) -> None:
    """Leave a sync out and look at the states that tell most about it, until one breaks a promise: all that was not
    synced is lost, or one thing of it, or all but one. At the steps that follow it, and at the end of the command;
    `kills_from`: of the runs that follow a kill at any step, from this command on."""
    world = new_world(write_first_job(folder))
    world.disk.left_out = frozenset({sync})
    seen: set[int] = set()
    has_begun = sync not in SHOWS_AT
    for number, command in enumerate(LIFE):
        command.begin(world)
        has_begun |= command.name == SHOWS_AT.get(sync)
        starts = [Moment(command, "begin", world.out, world.copy())] if kills_from is None and has_begun else []
        if kills_from is not None and number >= kills_from:
            starts = moments_of(world.copy(), command)[::KILLED_EVERY]
            for moment in starts:
                command.begin_again(moment.world)
        for moment in starts:
            for hit in moments_after(moment.world, command, sync):
                for loss in losses(hit.world.disk):
                    _look_once(hit, f"after a power cut that {loss}", loss, found, seen)
                    if found.faults:
                        return
        command.run(world)
        world = world.copy()


def moments_after(world: World, command: Command, sync: str) -> list[Moment]:
    """The steps of a run that follow this sync."""
    moments: list[Moment] = []
    left = 0
    world.disk.syncs.clear()

    def before(act: str, path: Path) -> None:
        nonlocal left
        left = STEPS_IN_DOUBT if sync in world.disk.syncs else left - 1
        world.disk.syncs.discard(sync)
        if left > 0:
            moments.append(Moment(command, act, path, world.copy()))

    world.disk.before = before
    summary = command.run(world)
    world.disk.before = lambda act, path: None
    if not moments and sync not in world.disk.syncs:
        return []
    return [*moments, Moment(command, "end", world.out, world.copy(), summary is None or summary.is_complete)]


@dataclass
class Loss(random.Random):
    """Dice that fall as told: of what was not synced, in order, one thing is lost, or one alone survives."""

    one: int
    is_lost: bool
    asked: int = -1

    def random(self) -> float:
        self.asked += 1
        return float((self.asked == self.one) is self.is_lost)

    def randrange(self, *_: Any) -> int:
        return 0

    def __str__(self) -> str:
        if self.one < 0:
            return "loses everything"
        return f"{'loses' if self.is_lost else 'keeps'} only thing {self.one}"


def losses(disk: ModelDisk) -> Iterator[Loss]:
    """Every loss of one thing and of all but one, and the loss of everything."""
    yield Loss(-1, is_lost=False)
    count = disk.count_unsynced()
    for one in range(count):
        yield Loss(one, is_lost=True)
    for one in range(count):
        yield Loss(one, is_lost=False)


def _look_once(hit: Moment, how: str, loss: Loss, found: Exploration, seen: set[int]) -> None:
    world = after_power_cut(hit, loss, 0.5)
    state = hash((hit.command.name, *sorted(world.disk.tree().items()), *sorted(world.ledger.written.items())))
    if state not in seen:
        seen.add(state)
        found.look(hit, how, world)


MOMENTS_GUESSED = 70  # of a command
STATES_PER_TURN = 400  # different ones, at least, that a turn over all moments finds
PROVE_EVERY = 7  # states: `verify` takes as long as the rest


def _explore_moment(moment: Moment, found: Exploration, dice: random.Random, seen: set[int], count: int) -> None:
    """A kill, and `count` power cuts of which every fourth hits the run that follows a first crash."""
    found.look(moment, "killed", moment.world.copy())
    for turn in range(count):
        keeps = (0.0, 0.5, 0.9, 0.1)[turn % 4]
        hit, how = moment, f"power cut that keeps {keeps}"
        if turn % 4 == 3:
            try:
                hit = _moment_after(moment, dice, keeps, is_killed=turn % 8 == 3)
            except BatchcallError as error:
                found.faults.append(f"{moment.command.name}, before {moment.act} of {moment.path.name}, {how}: {error}")
                return
            how += f", in the run after a crash before {moment.act} of {moment.path.name}"
        world = after_power_cut(hit, dice, keeps)
        state = hash((hit.command.name, *sorted(world.disk.tree().items()), *sorted(world.ledger.written.items())))
        if state not in seen:
            seen.add(state)
            found.look(hit, how, world)


def _moment_after(moment: Moment, dice: random.Random, keeps: float, *, is_killed: bool) -> Moment:
    """After a kill or a power cut at this moment the command is given again: any moment of that run."""
    world = moment.world.copy() if is_killed else after_power_cut(moment, dice, keeps)
    moment.command.begin_again(world)
    return moments_of(world, moment.command, only=dice.randrange(MOMENTS_GUESSED))[0]


def explore_failures(folder: Path, *, is_whole: bool = True, share: tuple[int, int] = (0, 1)) -> Exploration:
    """Give the commands one after the other; let every act on the disk fail once, by EIO and by ENOSPC (by one of them
    in turn unless `is_whole`). Then, the disk being well again, give the command again."""
    found = Exploration()
    world = new_world(write_first_job(folder))
    for command in LIFE:
        command.begin(world)
        before = world.copy()
        acts = len(moments_of(world, command)) - 1
        for number in range(share[0], acts, share[1]):
            codes = (errno.EIO, errno.ENOSPC)
            for code in codes if is_whole else (codes[number // share[1] % 2],):
                _fail_once(before.copy(), command, number, code, found)
        world = world.copy()
    return found


def _fail_once(world: World, command: Command, number: int, code: int, found: Exploration) -> None:
    count = -1
    failed: list[str] = []
    ledger = copy.deepcopy(world.ledger)

    def before(act: str, path: Path) -> None:
        nonlocal count
        count += 1
        if count == number:
            failed.append(f"{act} of {path.name}")
            raise OSError(code, os.strerror(code))

    found.states += 1
    world.disk.before = before
    with contextlib.suppress(BatchcallError):  # any other exception fails the test
        command.run(world)
    world.disk.before = lambda act, path: None
    world.ledger.all_came(ledger)
    for fault in faults_after(world, command)[:2]:
        found.faults.append(f"{command.name}, {failed} fails with {errno.errorcode[code]}: {fault}")


def explore_full_disks(folder: Path, *, step: int) -> Exploration:
    """The first command on disks of every size up to what it needs; then, with room, once more."""
    found = Exploration()
    job = write_first_job(folder)
    edit(job, "part_rows = 4", "part_rows = 40")
    write_texts(folder, [f"row {number}" for number in range(50)])
    command = Command("all rows", RunOptions())
    world = new_world(job)
    is_enough = False
    while not is_enough:
        found.states += 1
        trial = world.copy()
        trial.disk.capacity = found.states * step
        try:
            summary = command.run(trial)
            is_enough = summary is not None and summary.is_complete
        except BatchcallError:
            pass
        if not is_enough and sum(trial.ledger.paid.values()) > sum(trial.ledger.written.values()):
            found.faults.append(f"{trial.disk.capacity} bytes: answers came and found no room")
        trial.disk.capacity = None
        trial.ledger.all_came(world.ledger)
        for fault in faults_after(trial, command)[:2]:
            found.faults.append(f"{found.states * step} bytes: {fault}")
    return found
