"""Runs of the crash model, cut off at any step: what is needed to see whether a promise held."""

from __future__ import annotations

import contextlib
import copy
import errno
import itertools
import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from batchcall.base.errors import BatchcallError, OutputError
from batchcall.commands.verify import verify_output
from batchcall.disk.names import answers_in, part_number
from batchcall.output.earlier_answers import EarlierAnswers
from batchcall.output.generations import has_earlier
from batchcall.output.journal import journals_in, read_journals
from batchcall.output.parts import read_raw, read_totals
from batchcall.output.runfile import RunFile, read_runfile
from batchcall.pipeline.context import RunOptions
from crash_model import IN_VAIN, LIFE, Command, World, new_world, write_first_job, write_texts
from model_disk import ModelDisk
from running import edit


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
            faults.append("parts were read again and run.json does not say so")
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
        faults.append("not every row is done")
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
SHOWS_AT = {"sync_folder: whole_file < _table_writer < write_part < _publish": "another prompt for what is new"}


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
