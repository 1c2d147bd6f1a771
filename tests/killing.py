"""Campaigns of kills: a job that is killed again and again, and the oracle that knows whether an answer was lost.

The oracle trusts nothing that batchcall says of itself but what a person would read: the rows, the stored answers, and
what the runs reported in run.json. What was bought is told by the endpoint, which lives in another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet

from batchcall import verify_output
from batchcall.sandbox.process import SandboxProcess, Settings, open_sandbox
from forked import Forked, forked, wait_until
from running import results, some_rows, write_job, write_rows

_ID = re.compile(rb"chatcmpl-[0-9a-f]+")
_ID_DIGITS = len("chatcmpl-") + 16  # so much of a response's id is made of the request's body


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run, and how it is killed."""

    rows: int = 300
    part_rows: int = 100
    concurrency: int = 8
    latency_s: float = 0.01
    faults: dict[str, float] = field(default_factory=dict)
    reask: int = 0
    seed: int = 0
    workers: int = 1


@dataclass(slots=True)
class Figures:
    """What a campaign came to."""

    runs: int = 0
    kills: int = 0
    moments: Counter[str] = field(default_factory=Counter)  # kills by when
    rows: int = 0
    billed: int = 0
    held: int = 0  # different billed answers that the output holds at its end
    not_held: int = 0  # bills whose answer is nowhere: they were in flight at a kill
    unreported: int = 0  # of these, more than the runs reported
    indeterminate: int = 0  # as the runs reported
    possibly_paid_twice: int = 0  # as the runs reported
    lost: int = 0  # answers that were on disk after a kill and are nowhere at the end
    doubled: int = 0  # rows that stand more than once, or are missing
    bought_again: int = 0  # rows bought again although their answer is there
    violations: list[str] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, name, mine + theirs)

    def as_text(self) -> str:
        moments = ", ".join(f"{count} {moment}" for moment, count in sorted(self.moments.items()))
        return (
            f"{self.kills} kills in {self.runs} runs ({moments}): {self.rows:,} rows, {self.billed:,} bills,"
            f" {self.held:,} answers held, {self.not_held} lost in flight"
            f" (reported: {self.indeterminate} indeterminate, {self.possibly_paid_twice} possibly paid twice);"
            f" {self.lost} answers lost, {self.doubled} rows doubled, {self.bought_again} bought again,"
            f" {self.unreported} bills unreported"
        )


class Campaign:
    """One output, one endpoint; killed as often as asked, then run to its end and held against the bills."""

    def __init__(self, folder: Path, endpoint: SandboxProcess, plan: Plan, dice: random.Random) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.endpoint = endpoint
        self.plan = plan
        self.figures = Figures()
        self.on_disk: set[bytes] = set()  # answers seen on disk after some kill
        self._dice = dice
        self._rows = plan.rows
        self._is_retry = False
        self._flights = 0  # as many as may have been in flight at kills
        self.job = write_job(
            folder,
            url=endpoint.url,
            rows=plan.rows,
            part_rows=plan.part_rows,
            limits="attempts = 8",
            more=f"[validate]\nreask = {plan.reask}\n",
        )
        text = self.job.read_text().replace("concurrency = 8", f"concurrency = {plan.concurrency}")
        self.job.write_text(text)

    def kill(self, moment: str) -> None:
        """One run that is killed at a moment of this kind; when it is over before that, there is more to do next."""
        with self._run() as run:
            _MOMENTS[moment](self, run)
            is_killed = run.kill()
        if is_killed:
            self.figures.kills += 1
            self.figures.moments[f"{moment} (retry)" if self._is_retry else moment] += 1
            self.on_disk |= ids_on_disk(self.out)
        else:
            self._expect_end(run)
            self._give_more_to_do()

    def finish(self) -> Figures:
        """Run what is left to its end, and judge."""
        with self._run() as run:
            code = run.wait(seconds=120)
        self._expect(code in (0, 1), f"the last run left with {code}: {run.stderr()[-500:]}")
        self._expect("Traceback" not in run.stderr(), f"a traceback: {run.stderr()[-1500:]}")
        wait_until(lambda: ledger(self.endpoint)["in_flight"] == 0)
        self._judge()
        return self.figures

    @contextlib.contextmanager
    def _run(self) -> Iterator[Forked]:
        self.figures.runs += 1
        more = ["--retry-failed"] if self._is_retry else []
        more += ["--workers", str(self.plan.workers)]
        with forked("run", self.job, "--quiet", *more, into=self.folder / "said") as run:
            yield run

    def _expect_end(self, run: Forked) -> None:
        code = run.wait()
        self._expect(code in (0, 1), f"a run left with {code}: {run.stderr()[-1500:]}")

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.figures.violations.append(otherwise)

    def _give_more_to_do(self) -> None:
        """Failed rows again if there are, else more rows: the campaign goes on."""
        failed = any(row["status"] != "ok" for row in results(self.out))
        self._is_retry = failed and not self._is_retry
        if not self._is_retry:
            self._rows += self.plan.part_rows // 2 + 7
            write_rows(self.folder / "rows.jsonl", some_rows(self._rows))

    def _judge(self) -> None:
        figures, told = self.figures, ledger(self.endpoint)
        held = ids_on_disk(self.out)
        figures.indeterminate, figures.possibly_paid_twice = reported_in(self.out)
        figures.rows, figures.billed, figures.held = self._rows, told["billed"], len(held)
        figures.not_held = told["billed"] - len(held)
        figures.unreported = max(0, figures.not_held - figures.indeterminate - figures.possibly_paid_twice)
        rows = results(self.out)
        indexes = [row["row"] for row in rows]
        figures.doubled = len(set(range(self._rows)) ^ set(indexes)) + len(indexes) - len(set(indexes))
        figures.lost = len(self.on_disk - held)
        self._expect(indexes == list(range(self._rows)), "the rows of the output are not those of the input, in order")
        self._expect(not figures.lost, f"{figures.lost} answers that were on disk after a kill are lost")
        most = figures.kills * self.plan.concurrency
        self._expect(figures.not_held <= most, f"{figures.not_held} bills are in vain, in flight were at most {most}")
        self._judge_rows(rows)
        self.figures.violations += [f"verify: {fault}" for fault in verify_output(self.out).faults]

    def _judge_rows(self, rows: list[dict[str, Any]]) -> None:
        """Row by row: as many bills as answers, but for what was in flight at a kill, and one answer a row."""
        bills = bills_by_answer(self.endpoint, seed=self.plan.seed)
        held = Counter(one[:_ID_DIGITS] for one in ids_on_disk(self.out))
        in_vain = sum(max(0, bills[prefix] - held[prefix]) for prefix in bills)
        self._expect(
            in_vain == self.figures.not_held,
            f"{in_vain} bills in vain row by row, {self.figures.not_held} altogether",
        )
        if not self.plan.faults:  # where nothing goes wrong, one answer a row is all there may be
            self.figures.bought_again = sum(count - 1 for count in held.values())
            self._expect(not self.figures.bought_again, f"{self.figures.bought_again} rows were answered twice")
        named = [
            (row["attempts"], bills[row["response_id"].encode()[:_ID_DIGITS]]) for row in rows if row["response_id"]
        ]
        few = sum(attempts < billed for attempts, billed in named)
        self._expect(not few, f"{few} rows say fewer attempts than were billed")


def workers_in(pid: int) -> list[int]:
    """The processes of the workers of a run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"batchcall.pipeline.worker" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
    return found


def _while_starting(campaign: Campaign, run: Forked) -> None:
    time.sleep(campaign._dice.uniform(0.0, 0.12))


def _in_the_middle(campaign: Campaign, run: Forked) -> None:
    before = journal_bytes(campaign.out)
    wait_until(lambda: run.is_over or journal_bytes(campaign.out) != before)
    time.sleep(campaign._dice.uniform(0.0, 0.2))


def _while_sealing(campaign: Campaign, run: Forked) -> None:
    """A part, or its temporary file, has just appeared, or a journal has just gone."""
    before = names(campaign.out)
    wait_until(lambda: run.is_over or _is_sealing(before, names(campaign.out)))
    time.sleep(campaign._dice.choice([0.0, 0.001, 0.002, 0.004, 0.008]))


def _at_the_end(campaign: Campaign, run: Forked) -> None:
    """The last part is in, what follows is run.json and _SUCCESS."""
    last = f"part-{(campaign._rows - 1) // campaign.plan.part_rows:06d}.parquet"
    stamp = _stamp(campaign.out / last)
    wait_until(lambda: run.is_over or _stamp(campaign.out / last) != stamp)
    time.sleep(campaign._dice.uniform(0.0, 0.01))


def _a_worker_dies(campaign: Campaign, run: Forked) -> None:
    """A worker first; the run a moment later, while another worker takes up what that one had."""
    _in_the_middle(campaign, run)
    for pid in workers_in(run.pid)[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            campaign.figures.kills += 1
            campaign.figures.moments["a worker"] += 1
    _in_the_middle(campaign, run)


_MOMENTS: dict[str, Callable[[Campaign, Forked], None]] = {
    "while starting": _while_starting,
    "in the middle": _in_the_middle,
    "while sealing": _while_sealing,
    "at the end": _at_the_end,
    "after a worker died": _a_worker_dies,
}
MOMENTS = ("in the middle", "while starting", "while sealing", "in the middle", "at the end", "while sealing")


@contextlib.contextmanager
def endpoint_process(settings: Settings) -> Iterator[SandboxProcess]:
    """`open_sandbox` for tests that wait for processes, not for a loop."""
    opened = open_sandbox(settings)
    with asyncio.Runner() as runner:
        endpoint = runner.run(opened.__aenter__())
        try:
            yield endpoint
        finally:
            runner.run(opened.__aexit__(None, None, None))


def run_campaign(folder: Path, plan: Plan, *, kills: int, until_s: float = float("inf")) -> Figures:
    """Kill a job this often, at moments of every kind, and judge its end. `until_s`: no more kills after that."""
    dice = random.Random(plan.seed)
    with endpoint_process(Settings(latency_s=plan.latency_s, faults=plan.faults, seed=plan.seed)) as endpoint:
        campaign = Campaign(folder, endpoint, plan, dice)
        turn, moments = 0, MOMENTS if plan.workers == 1 else (*MOMENTS, "after a worker died")
        while campaign.figures.kills < kills and turn < 3 * kills and time.monotonic() < until_s:
            campaign.kill(moments[turn % len(moments)])
            turn += 1
        return campaign.finish()


def _is_sealing(before: set[str], now: set[str]) -> bool:
    return any(name.startswith(("part-", "_tmp-part-")) for name in now ^ before)


def _stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def names(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()} if out.is_dir() else set()


def journals(out: Path) -> list[Path]:
    return [path for path in (out / "_batchcall").rglob("*journal*") if path.is_file()]


def journal_bytes(out: Path) -> int:
    total = 0
    for path in journals(out):
        with contextlib.suppress(FileNotFoundError):  # its part was sealed meanwhile
            total += path.stat().st_size
    return total


def answered_rows(out: Path) -> int:
    """Answers in the journals."""
    found = 0
    for path in journals(out):
        with contextlib.suppress(FileNotFoundError):
            found += path.read_bytes().count(b'"status":200')
    return found


def ids_on_disk(out: Path) -> set[bytes]:
    """The id of every completion that the output holds: in journals (whole lines), raw answers and parts."""
    found: set[bytes] = set()
    for path in journals(out):
        with contextlib.suppress(FileNotFoundError):
            content = path.read_bytes()
            found.update(_ID.findall(content[: content.rfind(b"\n") + 1]))
    for path in (out / "_batchcall").rglob("part-*.answers"):
        for body in pyarrow.parquet.read_table(path, columns=["body"]).column("body").to_pylist():
            found.update(_ID.findall(body or b""))
    for path in out.glob("part-*.parquet"):
        ids = pyarrow.parquet.read_table(path, columns=["response_id"]).column("response_id").to_pylist()
        found.update(one.encode() for one in ids if one)
    return found


def reported_in(out: Path) -> tuple[int, int]:
    """What is reported of all runs of an output: requests that were in flight at a crash, and those sent again that may
    have been paid."""
    totals = json.loads((out / "_batchcall" / "run.json").read_bytes())["totals"]
    return totals["indeterminate"], sum(totals["possibly_paid_twice"].values())


def bills_reported(out: Path) -> int:
    """Bills beyond one a row that the runs of an output own up to."""
    return sum(reported_in(out))


def ledger(endpoint: SandboxProcess) -> dict[str, Any]:
    """What the endpoint was asked and what it billed, for those who cannot await it."""
    return _told(endpoint, "ledger")


def bills_by_answer(endpoint: SandboxProcess, *, seed: int) -> Counter[bytes]:
    """How often each request was billed, by the beginning that the ids of its answers have."""
    salt = seed.to_bytes(8, "big", signed=True)
    bills: Counter[bytes] = Counter()
    for digest, count in _told(endpoint, "bodies").items():
        made = hashlib.blake2b(bytes.fromhex(digest), digest_size=16, salt=salt).digest()
        bills[b"chatcmpl-" + made[:8].hex().encode()] = count
    return bills


def _told(endpoint: SandboxProcess, what: str) -> dict[str, Any]:
    url = endpoint.url.removesuffix("/v1") + "/sandbox/" + what
    with urllib.request.urlopen(url, timeout=30) as answer:
        told: dict[str, Any] = json.loads(answer.read())
    return told
