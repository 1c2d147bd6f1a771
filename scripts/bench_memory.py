"""How much memory a run takes at its peak: the resident size of a real process, against an endpoint in another one.

scripts/bench memory            # the four jobs that the README speaks of, and what comes after a run that was killed
scripts/bench memory answers    # one of them
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from batchcall.sandbox.process import Settings, open_sandbox

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT / "jobs" / "packages" / "data" / "packages.jsonl.gz"
LATENCY_S = 0.1
BATCHCALL = [sys.executable, "-m", "batchcall"]

JOB = """
[input]
path = "rows.jsonl"
[endpoint]
url = "{url}"
[request]
model = "bench"
prompt = "{{{{ text }}}}"
[[tool]]
name = "record"
[tool.parameters]
type = "object"
required = ["text"]
properties = {{ text = {{ type = "string" }} }}
[output]
path = "out"
keep = ["id"]
"""

# Answers a size in kB that the model names. A process of its own, so that none of it counts.
ENDPOINT = """
import asyncio, json, sys
from aiohttp import web

async def answer(request):
    body = await request.json()
    await asyncio.sleep(0.1)
    arguments = json.dumps({"text": "word " * (int(sys.argv[1]) * 1000 // 5)})
    call = {"id": "c", "type": "function", "function": {"name": "record", "arguments": arguments}}
    return web.json_response({"id": "r", "object": "chat.completion", "created": 1, "model": "bench",
        "choices": [{"index": 0, "finish_reason": "tool_calls",
                     "message": {"role": "assistant", "content": None, "tool_calls": [call]}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}})

async def main():
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Case(NamedTuple):
    what: str
    rows: int
    prompt_bytes: int
    answer_kb: int
    most_mb: int


CASES = {
    "answers": Case("200 answers of 1 MB", 200, 20, 1_000, 350),
    "prompts": Case("200 prompts of 2 MB, not kept", 200, 2_000_000, 1, 350),
    "many": Case("10,000 answers of 20 kB", 10_000, 20, 20, 400),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*CASES, "packages", "killed"]
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(every)}; default: all")
    print(f"{'':44}{'peak':>8}{'at most':>9}{'rows':>9}{'s':>7}", flush=True)
    is_good = True
    for name in parser.parse_args().cases or every:
        if name == "packages":
            is_good &= asyncio.run(measure_packages())
        else:
            is_good &= measure_after_a_kill() if name == "killed" else measure(CASES[name])
    sys.exit(0 if is_good else 1)


def measure(case: Case) -> bool:
    with job_of(case) as job:
        return report(case.what, case.most_mb, case.rows, *peak_of("run", str(job), "--quiet"))


def measure_after_a_kill() -> bool:
    """What is done with the answers that a run has left in the journal of a part when it was killed."""
    case = Case("300 answers of 1 MB", 340, 20, 1_000, 350)
    with job_of(case) as job:
        journal = job.parent / "out" / "_batchcall" / "part-000000.journal"
        with subprocess.Popen([*BATCHCALL, "run", str(job), "--quiet"], stdout=subprocess.DEVNULL) as run:
            while not journal.exists() or journal.stat().st_size < 300_000_000:
                time.sleep(0.05)
                assert run.poll() is None
            run.kill()
        is_good = True
        for what, command in {
            f"status, {case.what} in a journal": ("status", str(job.parent / "out")),
            f"run, {case.what} in a journal": ("run", str(job), "--quiet"),
            f"revalidate, {case.rows} answers of 1 MB": ("revalidate", str(job)),
        }.items():
            is_good &= report(what, case.most_mb, case.rows, *peak_of(*command))
        return is_good


@contextlib.contextmanager
def job_of(case: Case) -> Iterator[Path]:
    """The job file of a case, and its endpoint until the block ends."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with (folder / "rows.jsonl").open("w") as file:
            for row in range(case.rows):
                file.write(json.dumps({"id": row, "text": f"{row} " + "x" * case.prompt_bytes}) + "\n")
        command = [sys.executable, "-c", ENDPOINT, str(case.answer_kb)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as endpoint:
            try:
                assert endpoint.stdout is not None
                port = int(endpoint.stdout.readline())
                (folder / "job.toml").write_text(JOB.format(url=f"http://127.0.0.1:{port}/v1"))
                yield folder / "job.toml"
            finally:
                endpoint.terminate()


async def measure_packages() -> bool:
    if not PACKAGES.exists():
        print(f"packages: {PACKAGES} is missing; jobs/packages/get_data.py gets it")
        return True
    with gzip.open(PACKAGES) as file:
        rows = sum(1 for _ in file)
    with tempfile.TemporaryDirectory() as scratch:
        async with open_sandbox(Settings(latency_s=LATENCY_S)) as endpoint:
            more = [
                "--quiet",
                "--input",
                str(PACKAGES),
                "--output",
                f"{scratch}/out",
                "--set",
                f'endpoint.url="{endpoint.url}"',
            ]
            job = ROOT / "jobs" / "packages" / "job.toml"
            peak_mb, seconds = await asyncio.to_thread(peak_of, "run", str(job), *more)
    return report("jobs/packages, all records", 200, rows, peak_mb, seconds)


def peak_of(*command: str) -> tuple[float, float]:
    """Run a command of batchcall. Returns its peak in MB and how many seconds it took."""
    began_s = time.monotonic()
    pid = os.posix_spawn(
        sys.executable,
        [*BATCHCALL, *command],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"batchcall {command[0]} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 1024, time.monotonic() - began_s


def report(what: str, most_mb: int, rows: int, peak_mb: float, seconds: float) -> bool:
    print(f"{what:44}{peak_mb:>5,.0f} MB{most_mb:>6} MB{rows:>9,}{seconds:>7.0f}", flush=True)
    return peak_mb < most_mb


if __name__ == "__main__":
    main()
