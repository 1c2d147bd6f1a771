"""Measures what rows cost beside a bare aiohttp loop, and writes docs/speed.md or holds its figures against new ones.

scripts/bench                    # every line, into docs/speed.md; 20 minutes, on a machine that does nothing else
scripts/bench --only cpu         # one line; --only cpu --only paced: two
scripts/bench --check            # exit code 1 where a ratio has changed by more than 15 %; writes nothing
scripts/bench rivals             # other programs with the same job, in an environment of their own (.venv-rivals)
scripts/bench --scale 0.05 --rounds 1    # a short try, which writes nothing

`scripts/bench open`, `memory`, `pace` and `streams` measure other things; each says what in its file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from bench_rivals import RIVALS
from bench_target import MOST_S, TOOL, built_target, open_endpoint, streamed_answer, whole_answer

SCRIPTS = Path(__file__).resolve().parent
PAGE = SCRIPTS.parent / "docs" / "speed.md"
MOST_CHANGE = 0.15
LEAST_HELD = 0.9  # of a pace, or of a number in flight; with less a figure would not be what its line says
OPEN_FILES = 12_000  # of one process, for the most in flight

JOB = """
[input]
path = "rows.jsonl"
[endpoint]
url = "http://127.0.0.1:1/v1"
[request]
model = "bench"
system = "You read receipts."
prompt = "Receipt:\\n{{ text }}"
[[tool]]
file = "tool.json"
[output]
path = "out"
"""
# The very bodies that the job sends. In a process of its own: a child begins with the peak memory of its parent.
BODIES = """
import sys, orjson
from batchcall.dialects import DIALECTS
from batchcall.job.model import load_job
from batchcall.pipeline.request_maker import make_request_maker
maker = make_request_maker(load_job("job.toml", overrides=tuple(sys.argv[1:])))
for line in sys.stdin.buffer:
    request = maker.make_request(orjson.loads(line))
    sys.stdout.buffer.write(DIALECTS["openai-chat"].encode(request).body + b"\\n")
"""


class BenchError(Exception):
    """Why a line has no figure."""


@dataclass(frozen=True)
class Load:
    """What both sides of a line are given."""

    rows: int
    few: int = 0  # rows of a short run, whose cost is taken off; 0: nothing is taken off
    concurrency: int = 64
    latency_ms: int = 0
    per_second: int = 0  # 0: as fast as it goes
    deltas: int = 0  # of a streamed answer; 0: not streamed
    is_full: bool = False  # so many in flight must be seen
    has_uvloop: bool = False
    is_on_one_core: bool = False


class Used(NamedTuple):
    """What one process took, start-up included, and what the endpoint saw of it."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    asked_s: float = 0  # from its first request to its last answer
    most_in_flight: int = 0
    endpoint_cpu_s: float = 0

    def less(self, few: Used) -> Used:
        return self._replace(cpu_s=self.cpu_s - few.cpu_s, wall_s=self.wall_s - few.wall_s)


class Figure(NamedTuple):
    unit: str
    of: Callable[[Used, Load], float]  # of what the rows beyond `few` took


class Command(NamedTuple):
    words: list[str]
    requests: int  # that the endpoint must have seen, no more and no less


class Place(NamedTuple):
    """Where one process of a line works: the endpoint is there, `rows.jsonl` has so many rows."""

    folder: Path
    url: str
    load: Load


Side = Callable[[Place], Command]


def whole_job(place: Place) -> Command:
    load = place.load
    keys = [
        f'endpoint.url="{place.url}"',
        f"limits.concurrency={load.concurrency}",
        f"limits.requests_per_minute={load.per_second * 60}",
        *keys_of_request(load),
    ]
    shutil.rmtree(place.folder / "out", ignore_errors=True)
    settings = [f"--set={key}" for key in keys]
    return Command([program("batchcall"), "run", "job.toml", "--quiet", *settings], load.rows)


def two_workers(place: Place) -> Command:
    alone = whole_job(place)
    return Command([*alone.words, "--workers=2"], alone.requests)


def bare_loop(place: Place) -> Command:
    load = place.load
    words = [f"{place.url}/chat/completions", str(bodies(place)), str(load.rows), str(load.concurrency)]
    return Command([sys.executable, str(SCRIPTS / "bench_bare.py"), *words, str(load.per_second)], load.rows)


def only_help(place: Place) -> Command:
    return Command([program("batchcall"), "--help"], 0)


def only_import(name: str) -> Side:
    return lambda place: Command([sys.executable, "-c", f"import {name}"], 0)


def rival(name: str, python: str) -> Side:
    def run(place: Place) -> Command:
        shutil.rmtree(place.folder / "rival", ignore_errors=True)
        (place.folder / "rival").mkdir()
        words = [name, place.url, "rows.jsonl", "tool.json", str(place.load.concurrency)]
        return Command([python, str(SCRIPTS / "bench_rivals.py"), *words], place.load.rows)

    return run


CPU = Figure("µs", lambda used, load: used.cpu_s / (load.rows - load.few) * 1e6)
RATE = Figure("rows/s", lambda used, load: (load.rows - load.few) / used.wall_s)
RATE_OF_CPU = Figure("rows/s", lambda used, load: (load.rows - load.few) / used.cpu_s)
SHARE = Figure("", lambda used, load: ideal_s(load) / used.asked_s)
# What the endpoint takes of two cores is no worker's to use.
RATE_OF_TWO = Figure("rows/s", lambda used, load: load.rows / (used.asked_s - used.endpoint_cpu_s / 2))
PEAK = Figure("MB", lambda used, load: used.peak_mb)
START = Figure("ms", lambda used, load: used.cpu_s * 1e3)


class Line(NamedTuple):
    what: str
    load: Load
    figure: Figure
    ours: Side = whole_job
    beside: Side = bare_loop


AT_ONCE = Load(20_000, 1_000)
LINES: dict[str, Line] = {
    "cpu": Line("CPU a row, everything on, asyncio", AT_ONCE, CPU),
    "cpu-uvloop": Line("CPU a row, everything on, both with uvloop", replace(AT_ONCE, has_uvloop=True), CPU),
    "one-core": Line("rows a second on one core", replace(AT_ONCE, is_on_one_core=True), RATE),
    "paced": Line("CPU a row, both held to 500 a second", Load(5_500, 500, per_second=500), CPU),
    "share-256": Line(
        "256 in flight, 500 ms an answer, 20,000 rows: share of the ideal",
        Load(20_000, concurrency=256, latency_ms=500), SHARE,
    ),
    "share-2000": Line(
        "2,000 in flight, 500 ms an answer, 40,000 rows: share of the ideal",
        Load(40_000, concurrency=2_000, latency_ms=500), SHARE,
    ),
    "many": Line(
        "9,000 in flight, 5 s an answer, 27,000 rows, no error: peak memory",
        Load(27_000, concurrency=9_000, latency_ms=5_000, is_full=True), PEAK,
    ),
    "workers": Line(
        "two workers, beside one process: rows a second of what the endpoint leaves of two cores",
        Load(40_000), RATE_OF_TWO, ours=two_workers, beside=whole_job,
    ),
    "one-row": Line("one row, beside `import aiohttp`: CPU", Load(1), START, beside=only_import("aiohttp")),
    "help": Line("`--help`, beside `import click`: CPU", Load(1), START, only_help, only_import("click")),
    "stream": Line(
        "`stream = true`, answers of 4,000 deltas: rows for a second of CPU", Load(220, 20, deltas=4_000), RATE_OF_CPU
    ),
}  # fmt: skip
OF_RIVALS = Load(4_000, 400)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="lines:\n" + "\n".join(f"  {name:12} {line.what}" for name, line in LINES.items()),
    )
    parser.add_argument("table", nargs="?", choices=["own", "rivals"], default="own", help="which table (own)")
    parser.add_argument("--only", action="append", metavar="NAME", help="this line; repeatable (all)")
    parser.add_argument("--rounds", type=int, default=5, help="how often both sides are run in turn (5)")
    parser.add_argument("--check", action="store_true", help="compare with docs/speed.md instead of writing it")
    parser.add_argument("--scale", type=float, default=1.0, metavar="SHARE", help="of the rows, for a short try (1)")
    parser.add_argument("--rivals-venv", type=Path, default=SCRIPTS.parent / ".venv-rivals", help="where rivals live")
    wanted = parser.parse_args(arguments)
    lines, faults = (LINES, {}) if wanted.table == "own" else lines_of_rivals(wanted.rivals_venv, wanted.only)
    if unknown := set(wanted.only or ()) - lines.keys() - faults.keys():
        parser.error(f"no line is called {', '.join(sorted(unknown))}; there are {', '.join(lines)}")
    chosen = {name: scaled(line, wanted.scale) for name, line in lines.items() if name in (wanted.only or lines)}
    with tempfile.TemporaryDirectory(prefix="batchcall-bench-") as folder:
        rounds = measure(chosen, wanted.rounds, Path(folder), faults)
    rows = {name: as_row(name, chosen[name], pairs) for name, pairs in rounds.items()}
    if wanted.table == "rivals":
        rows |= {name: f"| `{name}` | {fault.replace('|', '/')[:120]} | | | | |" for name, fault in faults.items()}
    print("\n".join(rows.values()))
    page = PAGE.read_text(encoding="utf-8")
    if wanted.check:
        faults.update(changes(ratios_in("\n".join(rows.values())), ratios_in(page)))
        if not faults:
            print(f"passed: every ratio is within {MOST_CHANGE:.0%} of what {PAGE.name} says")
    elif wanted.scale == 1:
        PAGE.write_text(with_rows(page, wanted.table, rows, wanted.rounds), encoding="utf-8")
    print("".join(f"\n{name}: {fault}" for name, fault in faults.items()), file=sys.stderr)
    return 1 if faults else 0


def scaled(line: Line, share: float) -> Line:
    rows, few = (math.ceil(rows * share) for rows in (line.load.rows, line.load.few))
    return line._replace(load=replace(line.load, rows=rows, few=few))


# Measuring


def measure(
    lines: Mapping[str, Line], rounds: int, folder: Path, faults: dict[str, str]
) -> dict[str, list[tuple[float, float]]]:
    """What both sides took, for each round. Each round has all lines: a machine that grows slower meets all alike."""
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most_files), most_files))
    target = built_target(folder)
    write_job(folder)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in lines}
    for number in range(rounds):
        for name, line in lines.items():
            if name in faults:
                continue
            sides = [line.ours, line.beside]
            try:
                if number == 0:  # what is compiled and cached at first use is not measured
                    for side in sides:
                        run(side, replace(line.load, rows=max(line.load.few, 1), latency_ms=0), target, folder)
                if number % 2:  # neither always comes first
                    beside, ours = (figure(line, side, target, folder) for side in reversed(sides))
                else:
                    ours, beside = (figure(line, side, target, folder) for side in sides)
            except BenchError as error:
                faults[name] = str(error)
                continue
            found[name].append((ours, beside))
            print(f"round {number + 1}: {name} {ours:.4g} {line.figure.unit} beside {beside:.4g}", file=sys.stderr)
    return {name: pairs for name, pairs in found.items() if name not in faults}


def figure(line: Line, side: Side, target: Path, folder: Path) -> float:
    load = line.load
    used = run(side, load, target, folder)
    if load.per_second and load.rows / used.asked_s < LEAST_HELD * load.per_second:
        raise BenchError(f"{load.rows / used.asked_s:.0f} a second were sent instead of {load.per_second}")
    if load.is_full and used.most_in_flight < LEAST_HELD * min(load.rows, load.concurrency):
        raise BenchError(f"{used.most_in_flight:,} were in flight instead of {load.concurrency:,}")
    if load.few:
        used = used.less(run(side, replace(load, rows=load.few), target, folder))
    return line.figure.of(used, load)


def run(side: Side, load: Load, target: Path, folder: Path) -> Used:
    """One process against an endpoint of its own."""
    write_rows(folder / "rows.jsonl", load.rows)
    answer = streamed_answer(load.deltas) if load.deltas else whole_answer()
    with open_endpoint(target, answer, load.latency_ms) as endpoint:
        command = side(Place(folder, endpoint.url, load))
        if load.is_on_one_core:
            os.sched_setaffinity(endpoint.process.pid, {min(os.sched_getaffinity(0))})
        used = used_by(command.words, folder, load)
        ticks = Path(f"/proc/{endpoint.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        endpoint_cpu_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        seen = endpoint.close()
    if not seen.requests == seen.answered == command.requests:
        raise BenchError(f"{seen.requests} requests, {seen.answered} answers where {command.requests} were expected")
    return used._replace(
        asked_s=seen.nanoseconds / 1e9, most_in_flight=seen.most_in_flight, endpoint_cpu_s=endpoint_cpu_s
    )


def used_by(words: list[str], folder: Path, load: Load) -> Used:
    """The operating system's own account of a process, its threads and its children."""
    environment = {**os.environ, "PYTHONPATH": str(uvloop_path(folder, load.has_uvloop)), "NO_PROXY": "127.0.0.1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's second run finds everything compiled
    began_s = time.monotonic()
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            preexec_fn=lambda: signal.alarm(MOST_S),  # outlives the exec, and its signal ends the process
        )
        if load.is_on_one_core:
            os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        _, status, used = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - began_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        last = (folder / "said").read_text(errors="replace").strip().rpartition("\n")[2]
        raise BenchError(f"{Path(words[0]).name} ended with {process.returncode}: {last[:300]}")
    return Used(used.ru_utime + used.ru_stime, wall_s, used.ru_maxrss / 1024)


def ideal_s(load: Load) -> float:
    return math.ceil(load.rows / load.concurrency) * load.latency_ms / 1e3


# The job


def write_job(folder: Path) -> None:
    (folder / "job.toml").write_text(JOB)
    (folder / "tool.json").write_text(json.dumps({"type": "function", "function": TOOL}))
    (folder / "no-uvloop").mkdir()
    (folder / "no-uvloop" / "uvloop.py").write_text("raise ImportError('asyncio is measured')\n")


def write_rows(path: Path, rows: int) -> None:
    words = "coffee croissant marmalade 3.20 1.80 EUR card payment thank you till 7 table 12 " * 12
    with path.open("w") as lines:
        for index in range(rows):
            lines.write(json.dumps({"id": index, "text": f"receipt {index} {words}"}) + "\n")


def bodies(place: Place) -> Path:
    """The file of bodies for the rows of a load, made when it is first asked for."""
    path = place.folder / f"bodies-{place.load.rows}-{place.load.deltas > 0}.jsonl"
    if not path.exists():
        with (place.folder / "rows.jsonl").open("rb") as rows, path.open("wb") as made:
            words = [sys.executable, "-c", BODIES, *keys_of_request(place.load)]
            subprocess.run(words, cwd=place.folder, stdin=rows, stdout=made, check=True)
    return path


def keys_of_request(load: Load) -> list[str]:
    return ["request.stream=true"] if load.deltas else []


def program(name: str) -> str:
    return str(Path(sysconfig.get_path("scripts")) / name)


def uvloop_path(folder: Path, has_uvloop: bool) -> Path:
    """Where a process looks first for modules: it finds uvloop there, or is told that there is none."""
    if not has_uvloop:
        return folder / "no-uvloop"
    found = Path(sys.prefix) / "bench-uvloop"
    if not found.exists() and find_spec("uvloop") is None:
        install(sys.executable, "uvloop", "--target", str(found))
    return found


def install(python: str, *words: str) -> None:
    made = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *words], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        raise BenchError(f"cannot be installed: {(made.stderr.strip() or made.stdout.strip()).rpartition(chr(10))[2]}")


def lines_of_rivals(venv: Path, only: list[str] | None) -> tuple[dict[str, Line], dict[str, str]]:
    """A line for each rival that can be installed, and why the others cannot."""
    python, lines, faults = str(venv / "bin" / "python"), dict[str, Line](), dict[str, str]()
    if not venv.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    for name, (keeps, _) in RIVALS.items():
        if only and name not in only:
            continue
        asks = f"import importlib.metadata as found; print(found.version({name!r}))"
        try:
            install(python, name)
            version = subprocess.run([python, "-c", asks], capture_output=True, text=True, check=True).stdout.strip()
            lines[name] = Line(f"{version}; keeps {keeps}", OF_RIVALS, CPU, rival(name, python), whole_job)
        except BenchError as error:
            faults[name] = str(error)
    return lines, faults


# The table


def as_row(name: str, line: Line, pairs: list[tuple[float, float]]) -> str:
    """A row of the table; the ratios are those of each round."""
    ours, beside = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = [one / other for one, other in pairs]
    unit = f" {line.figure.unit}".rstrip()
    spread = f"{min(ratios):.3g} to {max(ratios):.3g}"
    return (
        f"| `{name}` | {line.what} | {as_figure(ours)}{unit} | {as_figure(beside)}{unit} |"
        f" **{statistics.median(ratios):.3g}** | {spread} |"
    )


def as_figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratios_in(page: str) -> dict[str, float]:
    return {
        name: float(ratio) for name, ratio in re.findall(r"^\| `([\w-]+)` \|.* \*\*([\d.]+)\*\* \|", page, re.MULTILINE)
    }


def changes(measured: Mapping[str, float], written: Mapping[str, float]) -> dict[str, str]:
    """What is measured now and stands otherwise in the docs, by more than 15 % either way."""
    found = {}
    for name, ratio in measured.items():
        if name not in written:
            found[name] = f"is {ratio:.3g}; the docs have no such line"
        elif abs(change := ratio / written[name] - 1) > MOST_CHANGE:
            found[name] = f"is {ratio:.3g}, the docs say {written[name]:.3g}: {change:+.0%}"
    return found


def with_rows(page: str, table: str, rows: dict[str, str], rounds: int) -> str:
    """The page with these rows in its table; rows that were not measured now stay."""
    start, end = f"<!-- {table} -->\n", f"<!-- end of {table} -->\n"
    before, _, rest = page.partition(start)
    old, is_marked, after = rest.partition(end)
    if not is_marked:
        raise SystemExit(f"{PAGE.name} lacks the marks {start.strip()} and {end.strip()}")
    kept = {name: row for row, name in re.findall(r"^(\| `([\w-]+)` \|.*)$", old, re.MULTILINE)} | rows
    order = [name for name in (*LINES, *RIVALS) if name in kept]
    sides = ("line", "batchcall", "beside it") if table == "own" else ("rival", "its CPU a row", "batchcall's")
    head = f"| {sides[0]} | | {sides[1]} | {sides[2]} | ratio | in {rounds} rounds |\n|---|---|---|---|---|---|\n"
    machine = f"\nCPython {platform.python_version()}, {os.cpu_count()} cores.\n"
    return before + start + head + "".join(f"{kept[name]}\n" for name in order) + machine + end + after


if __name__ == "__main__":
    sys.exit(main())
