"""Whole lives of an output, drawn by hypothesis: runs that end, stop, are killed and fail, between edits and damage.

The oracle shares no code with what it judges. Every answer carries a serial number of its own, the till knows what was
asked for it, and `standing` finds the serials again in the bytes on disk: so it is known of each row whose answer it
holds, and of each request whether an answer to it was there when it was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import random
import re
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from batchcall.base.errors import BatchcallError, ExitCode, OutputError, ResumeError
from batchcall.base.records import Attempt, Failure, FailureKind, HttpRequest, HttpResponse
from batchcall.commands.revalidate import revalidate_job
from batchcall.commands.status import read_status
from batchcall.commands.verify import verify_output
from batchcall.job.model import load_job
from batchcall.output.stamps import has_bought
from batchcall.pipeline.context import RunOptions
from batchcall.report.snapshot import Summary
from crash_model import COMMIT_EVERY, Endpoint, Ledger, World, answer_to, new_world, write_texts
from model_disk import ModelDisk
from running import TOOL, write_job

TEXTS = ("a", "bb busy", "c fail", "dd", "e", "ff drop", "g", "hh fail", "iii")
PROMPTS = ("Who is this?", "Who is it?")
TOKENS = 12  # of every answer


class Wording(NamedTuple):
    """What the job gives to a request; the row gives the text."""

    prompt: str
    tool: int

    @classmethod
    def of(cls, prompt: str, tool: Mapping[str, Any]) -> Wording:
        return cls(prompt.partition("\n")[0], zlib.crc32(json.dumps(tool["function"], sort_keys=True).encode()))


class Sold(NamedTuple):
    """What an answer was asked with."""

    wording: Wording
    text: str


@dataclass
class Till(Ledger):
    """Every answer that was billed, by its serial number."""

    sold: dict[int, Sold] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)  # billed, and the connection broke before they came
    here: set[int] = field(default_factory=set)  # on disk by this run
    synced: set[int] = field(default_factory=set)  # and there after a power cut, says the program
    excused: set[int] = field(default_factory=set)  # lost to something that nobody can promise anything about

    def sell(self, body: Mapping[str, Any]) -> int:
        prompt, _, text = body["messages"][-1]["content"].partition("\n")
        serial = len(self.sold) + 1
        self.sold[serial] = Sold(Wording.of(prompt, body["tools"][0]), text)
        return serial

    def came(self, attempt: Attempt) -> None:
        if attempt.response is not None and attempt.response.status == 200:
            self.here.add(_serial(json.loads(attempt.response.body)["id"]))


@dataclass
class Counterpart(Endpoint):
    """Sells answers: what is sent is billed, whether or not it arrives. "busy" is turned away first, "drop" cut off."""

    async def post(self, request: HttpRequest) -> HttpResponse | Failure:  # type: ignore[override]
        assert isinstance(self.ledger, Till)
        body = json.loads(request.body)
        content = body["messages"][-1]["content"]
        is_first = content not in self.asked
        self.asked.add(content)
        serial = 0 if is_first and "busy" in content else self.ledger.sell(body)
        await asyncio.sleep(1.0 + len(content) % 3)
        self._commit_now_and_then(self.ledger)
        if is_first and "drop" in content:
            self.ledger.dropped.add(serial)
            return Failure(FailureKind.DISCONNECTED, "the connection broke")
        return answer_to(content, is_busy=serial == 0, response_id=f"r{serial}")

    def _commit_now_and_then(self, till: Till) -> None:
        self.answered += 1
        if self.answered % COMMIT_EVERY == 0:
            before = set(till.here)
            self.committer.commit()
            if self.committer.failure is None:
                till.synced |= before
        if self.answered == self.stops_after:
            self.stop.pull("that is enough", ExitCode.TERMINATED)


def _serial(response_id: str) -> int:
    return int(response_id.removeprefix("r"))


# What stands on a disk


class Standing:
    """The answers in an output folder, wherever they are, each known by its serial."""

    def __init__(self, disk: ModelDisk, out: Path, till: Till) -> None:
        places: dict[tuple[Path, int, str], set[int]] = {}
        for path, content in disk.tree().items():
            for row, serial in _serials_in(path.name, content):
                places.setdefault((_generation(path, out), row, till.sold[serial].text), set()).add(serial)
        self.bought = _joined(places.values())  # the answers of one row, tried again, are one purchase
        self.serials = set().union(*self.bought)

    def of_text(self, wordings: set[Wording], till: Till) -> Counter[str]:
        """How many rows of each text could be made of what is here, by requests worded so."""
        last = (till.sold[max(serials)] for serials in self.bought)
        return Counter(sold.text for sold in last if sold.wording in wordings)


def _generation(path: Path, out: Path) -> Path:
    parts = path.relative_to(out).parts
    return Path(*parts[:3]) if parts[:2] == ("_batchcall", "earlier") else Path()


def _serials_in(name: str, content: bytes) -> Iterable[tuple[int, int]]:
    if re.fullmatch(r"part-\d+\.(parquet|answers|aside)", name):
        return _known_parquet(content)
    return _of_journal(content) if re.fullmatch(r"part-\d+(\.\d+)?\.journal", name) else ()


_READ: dict[bytes, list[tuple[int, int]]] = {}


def _known_parquet(content: bytes) -> list[tuple[int, int]]:
    if content not in _READ:
        if len(_READ) > 2_000:
            _READ.clear()
        _READ[content] = list(_of_parquet(content))
    return _READ[content]


def _of_parquet(content: bytes) -> Iterator[tuple[int, int]]:
    """Rows and serials, of a part or of raw answers; none when the file is damaged."""
    try:
        rows = read_parquet(content)
        for row in rows:
            if "body" not in row and row["response_id"] is not None:
                yield row["row"], _serial(row["response_id"])
            elif "body" in row and row["http_status"] == 200:
                yield row["row"], _serial(json.loads(row["body"])["id"])
    except (OSError, pa.ArrowException, ValueError, KeyError):
        return


def read_parquet(content: bytes) -> list[dict[str, Any]]:
    with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
        rows: list[dict[str, Any]] = file.read(use_threads=False).to_pylist()
        return rows


def _of_journal(content: bytes) -> Iterator[tuple[int, int]]:
    for line in content.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            if int(line[:8], 16) == zlib.crc32(line[9:]):
                record = json.loads(line[9:])
                if record.get("status") == 200:
                    yield record["row"], _serial(json.loads(record["body"])["id"])


def _joined(sets: Iterable[set[int]]) -> list[set[int]]:
    joined: list[set[int]] = []
    for one in sets:
        apart = [other for other in joined if not other & one]
        joined = [*apart, one.union(*(other for other in joined if other & one))]
    return joined


# What is drawn

Act = st.integers(0, 110)
Place = st.integers(0, 10_000)
OnChange = st.sampled_from(("keep", "rerun"))
Some = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4)


@dataclass
class Trouble:
    """What meets a run at its n-th act on the disk."""

    world: World
    at: int = -1
    code: int = 0  # 0: the process ends there
    acts: int = 0
    left: World | None = None  # as it was when the process ended
    sets_aside: bool = False  # parts that no longer fit

    def before(self, act: str, path: Path) -> None:
        self.acts += 1
        self.sets_aside |= self.left is None and act == "rename" and "earlier" in path.parts
        if self.acts - 1 == self.at:
            if self.code:
                raise OSError(self.code, os.strerror(self.code))
            self.left = self.world.copy()


class RunMachine(RuleBasedStateMachine):
    """See the module. After each rule the folder is what a reader may trust; after each run its promises are held."""

    first_part_rows = 4

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="batchcall-machine-"))
        self.texts = list(TEXTS[:7])
        self.prompt, self.tool = PROMPTS[0], json.loads(json.dumps(TOOL))
        self.limits, self.host, self.keep, self.part_rows = "", "http://127.0.0.1:9/v1", "", self.first_part_rows
        self._write_job()
        self.world = new_world(self.folder / "job.toml")
        self.world.ledger, self.world.open_endpoint = Till(), Counterpart
        self.is_damaged, self.spoilt = False, set[bytes]()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    # Runs

    @rule(on_change=OnChange)
    def run_to_the_end(self, on_change: str) -> None:
        self.run(RunOptions(on_change=on_change))

    @rule(on_change=OnChange, limit=st.integers(1, 9))
    def run_the_first_rows(self, on_change: str, limit: int) -> None:
        self.run(RunOptions(on_change=on_change, limit=limit))

    @rule(on_change=OnChange, after=st.integers(1, 8))
    def stop_in_the_middle(self, on_change: str, after: int) -> None:
        self.run(RunOptions(on_change=on_change), stops_after=after)

    @rule(on_change=OnChange, retry_failed=st.booleans(), act=Act)
    def kill(self, on_change: str, retry_failed: bool, act: int) -> None:
        self.run(RunOptions(on_change=on_change, retry_failed=retry_failed), Trouble(self.world, act))

    @rule(on_change=OnChange, act=Act, keeps=st.sampled_from((0.0, 0.1, 0.5, 0.9)), seed=Place)
    def cut_the_power(self, on_change: str, act: int, keeps: float, seed: int) -> None:
        self.run(RunOptions(on_change=on_change), Trouble(self.world, act))
        self._cut_power(keeps, seed)

    @rule(on_change=OnChange, room=st.integers(0, 60))
    def fill_the_disk(self, on_change: str, room: int) -> None:
        used = sum(map(len, self.world.disk.tree().values()))
        self.world.disk.capacity = used + room * 10_000
        self.run(RunOptions(on_change=on_change), is_hindered=True)
        self.world.disk.capacity = None

    @rule(on_change=OnChange, act=Act, code=st.sampled_from((errno.EIO, errno.ENOSPC)))
    def fail_an_act(self, on_change: str, act: int, code: int) -> None:
        self.run(RunOptions(on_change=on_change), Trouble(self.world, act, code), is_hindered=True)

    @rule(on_change=OnChange)
    def try_failed_rows_again(self, on_change: str) -> None:
        self.run(RunOptions(on_change=on_change, retry_failed=True))

    @rule(on_change=OnChange)
    def run_twice(self, on_change: str) -> None:
        self.run(RunOptions(on_change=on_change))
        before = self._parts()
        sold = len(self.till.sold)
        self.run(RunOptions())
        assert len(self.till.sold) == sold, "the second run of a complete output has sent something"
        assert self._parts() == before, "the second run of a complete output has changed a part"

    @rule(act=Act, is_killed=st.booleans())
    def revalidate(self, act: int, is_killed: bool) -> None:
        trouble = Trouble(self.world, act if is_killed else -1)
        with self._counted({self.wording}, Counter(), trouble), contextlib.suppress(ResumeError, OutputError):
            self._with(trouble, lambda: revalidate_job(self.world.job, disk=self.world.disk))

    # Edits

    @rule(place=Place, texts=Some)
    def edit_rows(self, place: int, texts: list[str]) -> None:
        place %= len(self.texts)
        self.texts[place : place + len(texts)] = texts
        self._write_job()

    @rule(texts=Some)
    def grow(self, texts: list[str]) -> None:
        self.texts = [*self.texts, *texts][:14]
        self._write_job()

    @rule(rows=st.integers(1, 5))
    def shrink(self, rows: int) -> None:
        self.texts = self.texts[: max(1, len(self.texts) - rows)]
        self._write_job()

    @rule(dice=st.randoms(use_true_random=False))
    def shuffle(self, dice: random.Random) -> None:
        dice.shuffle(self.texts)
        self._write_job()

    @rule(place=Place, times=st.integers(1, 3))
    def double_a_row(self, place: int, times: int) -> None:
        self.texts = [*[self.texts[place % len(self.texts)]] * times, *self.texts][:14]
        self._write_job()

    @rule(prompt=st.sampled_from(PROMPTS))
    def edit_the_prompt(self, prompt: str) -> None:
        self.prompt = prompt
        self._write_job()

    @rule(maximum=st.sampled_from((130, 131)), is_wide=st.booleans())
    def edit_the_tool(self, maximum: int, is_wide: bool) -> None:
        properties = json.loads(json.dumps(TOOL["function"]["parameters"]["properties"]))
        properties["age"]["maximum"] = maximum
        if is_wide:
            properties["nickname"] = {"type": "string"}
        self.tool["function"]["parameters"]["properties"] = properties
        self._write_job()

    @rule(
        limits=st.sampled_from(("", 'timeout = "30s"', "attempts = 5", "requests_per_minute = 6000")),
        host=st.sampled_from(("http://127.0.0.1:9/v1", "http://127.0.0.2:9/v1")),
        keep=st.sampled_from(("", 'keep = ["text"]', 'keep = ["id", "text"]')),
        part_rows=st.sampled_from((3, 4)),
    )
    def edit_what_shapes_no_request(self, limits: str, host: str, keep: str, part_rows: int) -> None:
        self.limits, self.host, self.keep, self.part_rows = limits, host, keep, part_rows
        self._write_job()

    @rule()
    def be_refused(self) -> None:
        """A run of a changed job, of which nobody has said what is to become."""
        recorded, before = self._recorded(), self._tree()
        if recorded is None or recorded[0] == self.wording or not self._holds_something() or self.is_damaged:
            return
        if not has_bought(self.world.disk, self.world.out):  # then there is nothing to protect
            return
        done = sum(len(rows) for rows in self._rows_by_part().values())
        with pytest.raises(ResumeError) as refused:
            self.world.run(RunOptions())
        assert self._tree() == before, "a run that was refused has touched something"
        assert refused.value.exit_code == ExitCode.BAD_COMMAND
        if "revalidation" not in str(refused.value):
            told = str(refused.value)
            assert ("prompt" in told) == (recorded[0].prompt != self.prompt), f"refused without saying why: {told}"
            assert ("tools" in told) == (recorded[0].tool != self.wording.tool), f"refused without saying why: {told}"
            assert not done or f"{done:,} that are done" in refused.value.hint

    # Damage

    @rule(file=Place, bit=st.integers(0, 1_000_000), is_mended=st.booleans())
    def flip_a_bit(self, file: int, bit: int, is_mended: bool) -> None:
        paths = sorted(path for path, content in self.world.disk.tree().items() if content)
        if not paths:
            return
        before, path = self._content(), paths[file % len(paths)]
        self.world.disk.flip_bit(path, bit)
        self.is_damaged = True
        self.spoilt.add(self.world.disk.read(path))
        self._excuse_what_is_lost()
        faults = self._verify()
        if not faults:
            assert self._content() == before, f"a bit of {path} is wrong, and verify does not say so"
        for fault in faults:
            assert re.search(r"[Rr]un (the|this|it|again|`)|[Mm]ove the|restore|give the folder", fault), fault
        self._follow(faults)
        if is_mended:
            self.run(RunOptions(on_change="keep"))

    def _verify(self) -> list[str]:
        try:
            return verify_output(self.world.out, disk=self.world.disk).faults
        except BatchcallError as error:
            return [f"{error}. {error.hint}"]

    def _follow(self, advice: Sequence[str]) -> bool:
        """Move away what is to be moved away; whether there was any."""
        is_moved = False
        for fault in advice:
            if re.search(r"[Mm]ove the (file|part) away", fault):
                named = re.findall(r"(/\S+\.(?:parquet|answers|aside)|part-\d+\.parquet)", fault)
                assert named, fault
                for path in (self.world.out / name for name in named):
                    if self.world.disk.exists(path):
                        self.world.disk.remove(path)
                        is_moved = True
        self._excuse_what_is_lost()
        return is_moved

    # At any time

    @rule()
    def look(self) -> None:
        before = self.world.disk.tree()
        with contextlib.suppress(BatchcallError):
            verify_output(self.world.out, disk=self.world.disk).as_text()
        with contextlib.suppress(BatchcallError):
            read_status(self.world.out, disk=self.world.disk).as_text()
        assert self.world.disk.tree() == before, "looking has changed something"

    @invariant()
    def success_stands_over_complete_outputs_only(self) -> None:
        if self.is_damaged or not self.world.disk.exists(self.world.out / "_SUCCESS"):
            return
        record = self._record()
        rows = sum(map(len, self._rows_by_part().values()))
        assert record is not None, "_SUCCESS stands without a record"
        assert rows == record["input"]["rows"], f"_SUCCESS stands over {rows} of {record['input']['rows']} rows"

    # One run, held against its promises

    def run(
        self,
        options: RunOptions,
        trouble: Trouble | None = None,
        *,
        stops_after: int | None = None,
        is_hindered: bool = False,
    ) -> None:
        trouble = trouble or Trouble(self.world)
        for _ in range(8):
            wordings, again = self._wordings(options), self._failed() if options.retry_failed else Counter()
            try:
                with self._counted(wordings, again, trouble, limit=options.limit):
                    summary = self._with(trouble, lambda o=options: self.world.run(o, stops_after=stops_after))
            except BatchcallError as error:
                if is_hindered and isinstance(error, OutputError) and "cannot be written" in str(error):
                    return
                options = self._advised(options, error)
                trouble = Trouble(self.world)
                continue
            if summary is not None:
                self._check(summary, options)
            return
        raise AssertionError("advice was followed, and no end was seen")

    def _with(self, trouble: Trouble, act: Callable[[], Any]) -> Any:
        """Do it while the trouble is on; None when that ended the process."""
        self.till.here.clear()
        self.world.disk.before = trouble.before
        try:
            result = act()
        except BatchcallError:
            if trouble.left is None:
                raise
        finally:
            self.world.disk.before = lambda act, path: None
        if trouble.left is not None:
            self.world = trouble.left
            return None
        return result

    @contextlib.contextmanager
    def _counted(
        self, wordings: set[Wording], again: Counter[str], trouble: Trouble, limit: int | None = None
    ) -> Iterator[None]:
        """Nothing is bought of which an answer stood there, unclaimed."""
        standing = Standing(self.world.disk, self.world.out, self.till)
        in_vain = self._lost()
        had, sold = standing.of_text(wordings, self.till), len(self.till.sold)
        wanted, within = Counter(self.texts), Counter(self.texts[:limit])  # rows beyond the limit keep what they have
        try:
            yield
        finally:
            new = {serial for serial in self.till.sold if serial > sold} - self.till.dropped
            bought = Counter(self.till.sold[serial].text for serial in new)
            for text, count in bought.items():
                missing = min(within[text], max(0, wanted[text] - had[text]))
                # A row that was turned away asks for itself again, whatever an older job has bought meanwhile.
                is_torn = any(word in text for word in ("busy", "drop")) and len(wordings) > 1
                assert count <= missing + again[text] + is_torn * within[text], (
                    f"{text!r} was bought {count} times although {had[text]} of {wanted[text]} answers were there"
                )
            if trouble.sets_aside:  # totals are those of the parts that stand: the others take their bill along
                self.till.excused |= in_vain
            now = Standing(self.world.disk, self.world.out, self.till)
            lost = standing.serials - now.serials
            assert not lost or self.is_damaged, f"the answers {lost} are gone"

    def _advised(self, options: RunOptions, error: BatchcallError) -> RunOptions:
        """What the error says is to be done, is done; returns how to run now."""
        advice = f"{error}. {error.hint}"
        if isinstance(error, ResumeError) and "revalidat" in str(error):
            return self._advised_to_revalidate(options)
        if "columns differ" in str(error) and options.on_change == "keep":
            return RunOptions(limit=options.limit, retry_failed=options.retry_failed, on_change="rerun")
        assert self.is_damaged, f"without any damage: {advice}"
        if self._follow([advice]):
            return options
        assert "--on-change rerun" in error.hint, f"no advice: {advice}"
        assert options.on_change != "rerun", f"no advice that helps: {advice}"
        return RunOptions(limit=options.limit, on_change="rerun")

    def _advised_to_revalidate(self, options: RunOptions) -> RunOptions:
        try:
            revalidate_job(self.world.job, disk=self.world.disk)
        except BatchcallError as error:
            advice = f"{error}. {error.hint}"
            if self._follow([advice]):
                return options
            if "--on-change rerun" not in error.hint:
                raise AssertionError(f"no advice: {advice}") from error
            return RunOptions(limit=options.limit, on_change="rerun")
        return options

    def _check(self, summary: Summary, options: RunOptions) -> None:
        if summary.exit_code not in (ExitCode.OK, ExitCode.ROWS_FAILED):
            return  # stopped, or on a disk that fails
        record = self._record()
        assert record is not None
        assert record["is_complete"] == summary.is_complete
        stands = self.world.disk.exists(self.world.out / "_SUCCESS")
        assert stands == summary.is_complete, f"_SUCCESS stands: {stands}"
        if options.limit is None:
            assert summary.is_complete, summary.reason
        if summary.is_complete:
            self._check_complete(record)

    def _check_complete(self, record: dict[str, Any]) -> None:
        rows = [row for rows in self._rows_by_part().values() for row in rows]
        assert [row["row"] for row in rows] == list(range(len(self.texts))), "rows are not one to one with the input"
        for row, (place, text) in zip(rows, enumerate(self.texts), strict=True):
            self._check_row(row, place, text)
        serials = [row["response_id"] for row in rows if row["response_id"] is not None]
        assert len(set(serials)) == len(serials), f"one answer was given to two rows: {serials}"
        self._check_totals(record["totals"], rows)
        faults = verify_output(self.world.out, disk=self.world.disk).faults
        if self.is_damaged and self._follow(faults):  # not all damage was known before
            self.run(RunOptions(on_change="keep"))
            return
        assert faults == []
        self._check_bills(record["totals"])
        self.till.synced |= set(map(_serial, serials))
        self.is_damaged = not self.spoilt.isdisjoint(self.world.disk.tree().values())  # one set aside is read later

    def _check_row(self, row: dict[str, Any], place: int, text: str) -> None:
        assert row["text"] == text, row
        assert "id" not in row or row["id"] == f"r{place}", row
        if row["status"] == "unreachable" and "drop" in text:  # run after run: few such requests are sent again
            return
        sold = self.till.sold[_serial(row["response_id"])]
        assert sold.text == text, f"row {place} ({text!r}) holds the answer to {sold.text!r}"
        assert sold.wording in self._wordings(RunOptions()), f"row {place} holds the answer to {sold.wording}"
        if "fail" in text:
            assert (row["status"], row["content"]) == ("no_call", "I would rather not."), row
        else:
            assert (row["status"], row["arguments"]["name"]) == ("ok", text), row

    def _check_totals(self, totals: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        found = {
            "rows": len(rows),
            "ok": sum(row["status"] == "ok" for row in rows),
            "failed": sum(row["status"] != "ok" for row in rows),
            "attempts": sum(row["attempts"] for row in rows),
            "total_tokens": sum(row["total_tokens"] or 0 for row in rows),
        }
        assert {name: totals[name] or 0 for name in found} == found, "run.json says other totals than the rows"
        assert all((row["total_tokens"] or 0) % TOKENS == 0 for row in rows)

    def _check_bills(self, totals: dict[str, Any]) -> None:
        """What was paid and is not there, was told."""
        told = totals["indeterminate"] + sum(totals["possibly_paid_twice"].values())
        lost = self._lost()
        assert len(lost) <= told, f"the answers {sorted(lost)} were paid in vain, {told} are told"

    def _lost(self) -> set[int]:
        standing = Standing(self.world.disk, self.world.out, self.till)
        return set(self.till.sold) - standing.serials - self.till.excused

    def _excuse_what_is_lost(self) -> None:
        self.till.excused |= self._lost()

    def _cut_power(self, keeps: float, seed: int) -> None:
        disk = self.world.disk
        before = Standing(disk, self.world.out, self.till).serials
        disk.cut_power(random.Random(seed), keeps=keeps)
        gone = before - Standing(disk, self.world.out, self.till).serials
        assert not gone & self.till.synced, f"the power cut took the answers {gone & self.till.synced}"
        self.till.excused |= self._lost() - self.till.synced

    # What there is

    @property
    def till(self) -> Till:
        assert isinstance(self.world.ledger, Till)
        return self.world.ledger

    @property
    def wording(self) -> Wording:
        return Wording.of(self.prompt, self.tool)

    def _wordings(self, options: RunOptions) -> set[Wording]:
        """The requests whose answers a run may leave or take, by its record and what is said of a change."""
        recorded = self._recorded()
        if recorded is None or options.on_change == "rerun":
            return {self.wording}
        return {self.wording, *recorded}

    def _recorded(self) -> list[Wording] | None:
        record = self._record()
        if record is None:
            return None
        jobs = [record["job"], *record["kept_jobs"]]
        return [Wording.of(job["request"]["prompt"], job["tools"][0]["written"]) for job in jobs]

    def _record(self) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads(self.world.disk.read(self.world.out / "_batchcall" / "run.json"))
        except (OSError, ValueError):
            return None
        return record

    def _failed(self) -> Counter[str]:
        return Counter(text for text in self.texts if "fail" in text or "drop" in text)

    def _holds_something(self) -> bool:
        names = [*self.world.disk.names(self.world.out), *self.world.disk.names(self.world.out / "_batchcall")]
        return any(re.fullmatch(r"part-\d+.*\.(parquet|journal)", name) for name in names)

    def _tree(self) -> dict[Path, bytes]:
        return {path: content for path, content in self.world.disk.tree().items() if "_tmp-" not in path.name}

    def _parts(self) -> dict[Path, bytes]:
        return {path: content for path, content in self._tree().items() if path.parent == self.world.out}

    def _rows_by_part(self) -> dict[str, list[dict[str, Any]]]:
        parts = sorted((path.name, content) for path, content in self._parts().items())
        return {name: read_parquet(content) for name, content in parts if name.endswith(".parquet")}

    def _content(self) -> object:
        """What a reader of Parquet finds, who knows of no checksums."""
        try:
            parts = sorted((path.name, content) for path, content in self._parts().items())
            return [
                pq.read_table(pa.BufferReader(content), use_threads=False).to_pylist()
                for name, content in parts
                if name.endswith(".parquet")
            ]
        except Exception as error:
            return repr(error)

    def _write_job(self) -> None:
        job = write_job(
            self.folder,
            url=self.host,
            part_rows=self.part_rows,
            limits=self.limits,
            output=self.keep,
            tool=self.tool,
        )
        text = job.read_text().replace("concurrency = 8", "concurrency = 3").replace(PROMPTS[0], self.prompt)
        job.write_text(text)
        write_texts(self.folder, self.texts)
        if hasattr(self, "world"):
            self.world.job = load_job(job)
