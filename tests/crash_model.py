"""Whole runs on a model disk: the job, the endpoint, the ledger and the commands.

The spine is the real one, from the job file to the last line; only the disk and the wire are models. An endpoint of a
few lines answers; a ledger beside it knows what was asked, and which answers were on disk, or durable, at each step.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import json
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
from batchcall.base.errors import ExitCode
from batchcall.base.records import Attempt, HttpRequest, HttpResponse, Request, Row
from batchcall.commands.revalidate import revalidate_job
from batchcall.disk.names import part_number
from batchcall.job.model import Job, load_job, stored_job
from batchcall.output.journal import Committer
from batchcall.output.output import OpenPart, Output
from batchcall.output.parts import read_batches
from batchcall.output.runfile import read_runfile
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
        mock.patch("batchcall.engine.reading.beside", at_once),
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
    """A job is loaded again whenever it or its input is edited."""
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
        rows = Counter(
            outcome.request_hash for chunk in part.waiting._chunks.values() for _, outcome in chunk.ended.values()
        )
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
        """Edit the files, and forget what may be bought again."""
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


def _has_ended(world: World) -> bool:
    runfile = read_runfile(world.disk, world.out / "_batchcall")
    return runfile is not None and bool(runfile.runs) and runfile.runs[-1].exit_code in (0, 1)


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
    Command("everything again", RunOptions(on_change="rerun"), is_free=lambda text: True),
    Command(
        "the old input again",
        RunOptions(),
        edit=lambda folder: write_texts(folder, ["a", "bb busy", "c fail", "dd", "e", "ff", "g"]),
    ),
)
