"""The long form of tests/test_kills.py and tests/test_disk_faults.py, with figures."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from batchcall.sandbox.process import Settings  # noqa: E402  # found by the line above
from crash_exploration import explore, explore_failures  # noqa: E402
from faulting import calls_of_a_run, faults_of, violations_under, why_no_strace  # noqa: E402
from killing import Figures, Plan, endpoint_process, run_campaign  # noqa: E402

KILLS_A_CAMPAIGN = 15
HELP = """\
Kills real runs with kill -9 at random moments (while they start, in the middle, while a part is sealed, at the end,
while failed rows are tried again, after the input has grown), against an embedded endpoint that bills in a process of
its own; of runs by several workers, one of these first. Job and endpoint change from campaign to campaign: workers,
part size, concurrency, latency, 429, 500, connections that break, invalid answers that are asked again. At the end of
each campaign the run is let go to its end, and:

  - every answer that was on disk after some kill is still there        (answers lost: 0)
  - every input row is there exactly once, in order                     (rows doubled: 0)
  - no row is bought again whose answer was there                       (bought again: 0)
  - bills without an answer are at most what was in flight at the kills (lost in flight)
  - and at most what the runs reported in run.json                      (bills unreported: 0)
  - `batchcall verify` finds no fault

With --faults it also makes system calls of a run fail, one after the other, by strace: ENOSPC, EIO, EACCES, EROFS of
write, fdatasync, fsync, rename, unlink, openat, ftruncate, fallocate and mkdir, on every path of the output. Each run
must leave with 0 or 3 (2 for a forbidden folder before anything was sent) and say what is wrong and where, without a
traceback; the next run must complete the job, every row once, no bill without an answer or a report.

With --states whole runs are cut off at every step on a model of a disk that keeps any prefix of the bytes and any
subset of the names that were not synced (tests/crash_exploration.py): about N different states, 50 a second. Then each
of their acts on the disk fails once by EIO and once by ENOSPC.
With --lives it draws whole lives of an output by hypothesis, on a model disk: runs that end, stop, are killed, lose
power and fail, between edits, changed jobs, revalidations and bits that flip. See tests/run_machine.py.

Exit code: 0 nothing was violated, 1 something was; each violation is printed. A seed gives the same campaigns, not the
same moments to the microsecond. Takes about a second per kill and 1.5 per fault; starts nothing after --seconds.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="how many runs to kill (300)")
    parser.add_argument("--seed", type=int, default=0, help="of the campaigns (0)")
    parser.add_argument("--faults", type=int, default=0, metavar="N", help="system calls to fail, spread over all (0)")
    parser.add_argument("--states", type=int, default=0, metavar="N", help="crashes on a model disk (0)")
    parser.add_argument("--lives", type=int, default=0, metavar="N", help="lives of an output on a model disk (0)")
    parser.add_argument("--seconds", type=float, default=1200.0, help="start nothing more after so long (1200)")
    asked = parser.parse_args()
    until_s = time.monotonic() + asked.seconds
    folder = Path(tempfile.mkdtemp(prefix="batchcall-crash-"))
    try:
        violations = killed(folder, asked.kills, asked.seed, until_s)
        if asked.faults:
            violations += faulted(folder, asked.faults, until_s)
        if asked.states:
            violations += explored(folder, asked.states, asked.seed)
        if asked.lives:
            violations += lived(asked.lives)
    finally:
        shutil.rmtree(folder)
    print(f"{violations} violations" if violations else "nothing was violated")
    return 1 if violations else 0


def killed(folder: Path, kills: int, seed: int, until_s: float) -> int:
    dice = random.Random(seed)
    total, violations, began_s = Figures(), 0, time.monotonic()
    while total.kills < kills and time.monotonic() < until_s:
        plan = a_plan(dice)
        place = folder / f"campaign-{total.runs}"
        print(f"{total.kills}/{kills} kills; {plan}", flush=True)
        campaign = run_campaign(place, plan, kills=min(KILLS_A_CAMPAIGN, kills - total.kills), until_s=until_s)
        shutil.rmtree(place)
        found = list(campaign.violations)
        if campaign.unreported:
            found.append(f"{campaign.unreported} bills in vain that no run reported")
        for violation in found:
            print(f"  VIOLATED: {violation}", flush=True)
        violations += len(found)
        total.add(campaign)
    print(f"{total.as_text()} in {time.monotonic() - began_s:.0f} s", flush=True)
    return violations


def lived(count: int) -> int:
    """The long form of tests/test_state_machine.py: not the lives that the suite has seen."""
    test = ["-m", "pytest", "tests/test_state_machine.py", "-k", "any_life"]
    return subprocess.run(
        [sys.executable, *test], cwd=ROOT, env={**os.environ, "BATCHCALL_LIVES": str(count)}, check=False
    ).returncode


def a_plan(dice: random.Random) -> Plan:
    faults, reask = dice.choice(
        [
            ({}, 0),
            ({}, 0),
            ({"no_call": 0.2}, 0),
            ({"invalid_schema_arguments": 0.3, "bad_gateway": 0.01}, 1),
            ({"server_error": 0.02, "disconnect_mid_body": 0.02, "no_call": 0.1}, 0),
            ({"rate_limited_bare": 0.005, "disconnect_before": 0.01, "truncated": 0.1}, 1),
        ]
    )
    concurrency = dice.choice([1, 8, 32, 64])
    return Plan(
        rows=dice.choice([150, 300, 600]),
        part_rows=dice.choice([23, 60, 150, 1_000]),
        concurrency=concurrency,
        latency_s=dice.choice([0.0, 0.005, 0.02, 0.05]) if concurrency > 1 else 0.002,  # some seconds to the end
        faults=dict(faults),
        reask=reask,
        seed=dice.randrange(1_000_000),
        workers=dice.choice([1, 1, 2, 3]),
    )


def faulted(folder: Path, count: int, until_s: float) -> int:
    if (why := why_no_strace()) is not None:
        print(f"no calls were made to fail: {why}")
        return 1
    violations, tried = 0, 0
    with endpoint_process(Settings()) as endpoint:
        faults = list(faults_of(calls_of_a_run(folder / "healthy", endpoint)))
        chosen = faults[:: max(1, len(faults) // count)][:count]
        for fault in chosen:
            if time.monotonic() > until_s:
                break
            found = violations_under(fault, folder / "faulted", endpoint)
            shutil.rmtree(folder / "faulted")
            tried += 1
            for violation in found:
                print(f"  VIOLATED under {fault}: {violation}", flush=True)
            violations += bool(found)
    print(f"{tried} of {len(faults)} faults tried, {violations} not borne as promised", flush=True)
    return violations


def explored(folder: Path, states: int, seed: int) -> int:
    found = explore(folder / "model", states=states, seed=seed)
    print("\n".join(found.faults))
    print(f"{found.states:,} states of a model disk, {len(found.faults)} faults")
    failed = explore_failures(folder / "failures")
    print("\n".join(failed.faults))
    print(f"{failed.states:,} acts on a model disk that fail, {len(failed.faults)} faults")
    return len(found.faults) + len(failed.faults)


if __name__ == "__main__":
    sys.exit(main())
