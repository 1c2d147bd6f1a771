"""Signals, second runs, clocks that go back, streams that are closed: the run ends as it should and its rows are in."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchcall import verify_output
from batchcall.sandbox.process import SandboxProcess, Settings
from forked import forked, wait_until
from killing import (
    answered_rows,
    bills_reported,
    endpoint_process,
    ids_on_disk,
    journal_bytes,
    ledger,
    reported_in,
)
from running import batchcall, command, edit, results, write_job
from shims import SHIFTED_CLOCK, build_shim

ROWS = 300


@pytest.fixture(scope="module")
def endpoint() -> Iterator[SandboxProcess]:
    with endpoint_process(Settings(latency_s=0.02)) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)], ids=["TERM", "INT", "HUP"]
)
def test_a_signal_drains_and_nothing_in_flight_is_paid_for_in_vain(
    tmp_path: Path, endpoint: SandboxProcess, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    job = write_job(tmp_path, url=endpoint.url, rows=ROWS, part_rows=100, request=f"seed = {int(number)}")
    before = ledger(endpoint)["billed"]
    with forked("run", job, "--log-format", "json", into=tmp_path / "said") as run:
        wait_until(lambda: run.is_over or answered_rows(out) >= 20)
        os.kill(run.pid, number)
        assert run.wait() == code, run.stderr()

    summary = json.loads(run.stdout())
    assert number.name in summary["reason"]
    assert 0 < summary["rows"] < ROWS
    assert len(results(out)) == summary["rows"] == ledger(endpoint)["billed"] - before
    with forked("run", job, into=tmp_path / "said") as rest:
        assert rest.wait() == 0, rest.stderr()
    assert ledger(endpoint)["billed"] - before == ROWS
    assert bills_reported(out) == 0


def test_a_drain_ends_itself_after_its_grace_and_what_is_given_up_is_counted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with endpoint_process(Settings(latency_s=0.4)) as slow:
        job = write_job(tmp_path, url=slow.url, rows=40)
        with forked("run", job, "--grace", "50ms", "--log-format", "json", into=tmp_path / "said") as run:
            wait_until(lambda: run.is_over or (answered_rows(out) >= 2 and ledger(slow)["in_flight"] >= 4))
            os.kill(run.pid, signal.SIGTERM)
            assert run.wait(seconds=15) == 143, run.stderr()
        given_up = json.loads(run.stdout())["this_run"]["given_up"]
        wait_until(lambda: ledger(slow)["in_flight"] == 0)

        with forked("run", job, "--log-format", "json", into=tmp_path / "said") as rest:
            assert rest.wait() == 0, rest.stderr()

        assert given_up >= 1
        assert reported_in(out) == (given_up, 0)
        assert ledger(slow)["requests"] == 40 + given_up
        assert 40 <= ledger(slow)["billed"] <= 40 + given_up
    assert json.loads(rest.stdout())["this_run"]["indeterminate"] == given_up
    assert [row["row"] for row in results(out)] == list(range(40))
    assert verify_output(out).faults == []


def test_control_without_a_grace_what_is_in_flight_is_awaited(tmp_path: Path) -> None:
    with endpoint_process(Settings(latency_s=0.4)) as slow:
        job = write_job(tmp_path, url=slow.url, rows=40)
        with forked("run", job, "--log-format", "json", into=tmp_path / "said") as run:
            wait_until(lambda: run.is_over or ledger(slow)["in_flight"] >= 4)
            os.kill(run.pid, signal.SIGTERM)
            assert run.wait() == 143, run.stderr()

        summary = json.loads(run.stdout())
        assert summary["this_run"]["given_up"] == 0
        assert ledger(slow)["billed"] == ledger(slow)["requests"] == summary["rows"]


def test_the_deadlines_drain_has_a_grace_too_be_it_none_at_all(tmp_path: Path) -> None:
    with endpoint_process(Settings(faults={"hang": 1.0})) as hanging:
        job = write_job(tmp_path, url=hanging.url)
        words = ("run", job, "--deadline", "200ms", "--grace", "0s", "--log-format", "json")
        with forked(*words, into=tmp_path / "said") as run:
            assert run.wait(seconds=15) == 3, run.stderr()

    assert json.loads(run.stdout())["this_run"]["given_up"] == 1


def test_a_second_signal_stops_at_once_and_loses_nothing_that_arrived(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with endpoint_process(Settings(latency_s=0.1)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=60, part_rows=100)
        with forked("run", job, into=tmp_path / "said") as run:
            wait_until(lambda: run.is_over or answered_rows(out) >= 12)
            os.kill(run.pid, signal.SIGTERM)
            time.sleep(0.02)  # two signals of one kind that are pending together are one
            os.kill(run.pid, signal.SIGTERM)
            assert run.wait(seconds=15) == 143, run.stderr()
        assert "Traceback" not in run.stderr()
        arrived = ids_on_disk(out)

        with forked("run", job, into=tmp_path / "said") as rest:
            assert rest.wait() == 0, rest.stderr()

        wait_until(lambda: ledger(endpoint)["in_flight"] == 0)
        assert len(arrived) >= 12
        assert arrived <= ids_on_disk(out)
        assert ledger(endpoint)["billed"] <= 60 + bills_reported(out)
        assert bills_reported(out) <= 8
        assert verify_output(out).faults == []


# After the words of a moment, an event of Python's and a part of its first argument, those of the command line. The
# process sends itself Ctrl-C at this very moment.
AT_A_MOMENT = """
import os, runpy, signal, sys
event, part = sys.argv[1:3]
del sys.argv[1:3]
seen = []
def look(name, given):
    if not seen and name == event and part in str(given[0]):
        seen.append(name)
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(look)
{start}
"""
AS_A_COMMAND = 'runpy.run_module("batchcall", run_name="__main__", alter_sys=True)'
WITHOUT_A_HANDLER = "from batchcall.cli import main; main()"

# The module is opened as it stands or compiled.
IMPORTS_CLICK, IMPORTS_THE_RUN = ("import", "click"), ("open", "/run.")
IMPORTS_PYARROW, READS_THE_JOB = ("import", "pyarrow.lib"), ("open", "job.toml")
IMPORTS_A_TOOL, LOOKS_FOR_THE_INPUT = ("open", "shapes.py"), ("os.scandir", "the-input")


def stopped_at(
    moment: tuple[str, str], *words: str | Path, start: str = AS_A_COMMAND
) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", AT_A_MOMENT.format(start=start), *moment, *map(str, words)]
    return subprocess.run(program, capture_output=True, text=True, timeout=60)


def job_with_a_module(folder: Path) -> Path:
    job = write_job(folder, rows=3)
    (folder / "the-input").mkdir()
    (folder / "rows.jsonl").rename(folder / "the-input/rows.jsonl")
    (folder / "shapes.py").write_text("import pydantic\n\n\nclass Seen(pydantic.BaseModel):\n    n: int\n")
    edit(job, 'file = "tool.json"', 'python = "shapes:Seen"')
    edit(job, "rows.jsonl", "the-input")
    return job


@pytest.mark.parametrize(
    "moment",
    [IMPORTS_CLICK, IMPORTS_THE_RUN, IMPORTS_PYARROW, READS_THE_JOB, IMPORTS_A_TOOL, LOOKS_FOR_THE_INPUT],
    ids=lambda moment: moment[1],
)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_ctrl_c_before_anything_is_sent_is_one_line_and_130_and_leaves_no_trace(
    tmp_path: Path, moment: tuple[str, str], log_format: str
) -> None:
    stopped = stopped_at(moment, "run", job_with_a_module(tmp_path), "--log-format", log_format)

    (line,) = stopped.stderr.splitlines()
    what = json.loads(line)["error"] if log_format == "json" else line.removeprefix("error: ")
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert what in ("stopped by SIGINT", "stopped by SIGINT before anything was sent")
    assert log_format == "text" or json.loads(line)["exit_code"] == 130
    assert not (tmp_path / "out").exists()


def test_ctrl_c_while_a_run_opens_its_output_ends_it_in_order(tmp_path: Path) -> None:
    stopped = stopped_at(("open", "run.json"), "run", write_job(tmp_path, rows=3), "--log-format", "json")

    summary = json.loads(stopped.stdout)
    assert (stopped.returncode, stopped.stderr) == (130, "")
    assert (summary["reason"], summary["this_run"]["requests"]) == ("stopped by SIGINT", 0)
    assert json.loads((tmp_path / "out/_batchcall/run.json").read_bytes())["runs"][0]["exit_code"] == 130


@pytest.mark.parametrize("moment", [IMPORTS_CLICK, IMPORTS_PYARROW, READS_THE_JOB], ids=lambda moment: moment[1])
@pytest.mark.parametrize("name", ["check", "status", "verify", "revalidate"])
def test_ctrl_c_ends_every_command_with_one_line_and_130(tmp_path: Path, name: str, moment: tuple[str, str]) -> None:
    stopped = stopped_at(moment, name, job_with_a_module(tmp_path))

    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (130, "", "error: stopped by SIGINT\n")


def test_control_without_the_handler_ctrl_c_in_an_import_is_a_traceback(tmp_path: Path) -> None:
    stopped = stopped_at(IMPORTS_CLICK, "check", job_with_a_module(tmp_path), start=WITHOUT_A_HANDLER)

    assert stopped.returncode != 130
    assert "Traceback" in stopped.stderr


def test_ctrl_c_in_a_command_called_from_python_is_one_line_and_130(tmp_path: Path) -> None:
    stopped = stopped_at(READS_THE_JOB, "check", job_with_a_module(tmp_path), start=WITHOUT_A_HANDLER)

    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (130, "", "error: stopped by SIGINT\n")


HANDLERS = """
import os, signal, sys
import batchcall

def mine(number, frame): print("mine")

signal.signal(signal.SIGINT, mine)
batchcall.run(sys.argv[1])
os.kill(os.getpid(), signal.SIGINT)
"""


def test_after_a_run_signals_go_to_whoever_had_them_before(tmp_path: Path) -> None:
    job = write_job(tmp_path, rows=1)

    done = subprocess.run([sys.executable, "-c", HANDLERS, str(job)], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stdout) == (0, "mine\n")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT], ids=["HUP", "INT"])
def test_a_signal_that_the_caller_ignores_stays_ignored(
    tmp_path: Path, endpoint: SandboxProcess, number: signal.Signals
) -> None:
    """nohup does so for SIGHUP, a shell for the SIGINT of what it starts with `&`."""
    out = tmp_path / "out"
    job = write_job(tmp_path, url=endpoint.url, rows=100, part_rows=100, request=f"seed = {100 + int(number)}")
    with subprocess.Popen(
        command("run", job, "--quiet"), preexec_fn=lambda: signal.signal(number, signal.SIG_IGN)
    ) as run:
        wait_until(lambda: run.poll() is not None or answered_rows(out) >= 10)
        run.send_signal(number)
        assert run.wait(timeout=60) == 0

    assert len(results(out)) == 100


def test_a_terminal_that_goes_away_drains_the_run(tmp_path: Path, endpoint: SandboxProcess) -> None:
    """An ssh connection that breaks: SIGHUP, and from then on every word to the terminal is an error."""
    out = tmp_path / "out"
    job = write_job(tmp_path, url=endpoint.url, rows=ROWS, part_rows=100, request="seed = 50")
    before = ledger(endpoint)["billed"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, command("run", job))
    try:
        wait_until(lambda: answered_rows(out) >= 20)
    finally:
        os.close(terminal)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 143
    assert 0 < len(results(out)) < ROWS
    assert len(results(out)) == ledger(endpoint)["billed"] - before
    entry = json.loads((out / "_batchcall" / "run.json").read_bytes())["runs"][-1]
    assert "SIGHUP" in entry["reason"]


def test_a_second_run_leaves_with_5_and_touches_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with endpoint_process(Settings(latency_s=60.0)) as slow:
        job = write_job(tmp_path, url=slow.url)
        with forked("run", job, into=tmp_path / "first") as first:
            wait_until(lambda: journal_bytes(out) > 0)
            time.sleep(0.5)  # until it has nothing more to write but the answer
            before = listing(out)
            with forked("run", job, into=tmp_path / "second") as second:
                assert second.wait(seconds=5) == 5
            after = listing(out)
            told = second.stderr()

            assert not first.is_over
            assert after == before
            assert f"process {first.pid} " in told
            assert "since 20" in told
            assert ledger(slow)["requests"] == 1


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every path in a folder, itself too, with its size and the time of its last change."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


@pytest.mark.parametrize(
    ("streams", "code"),
    [("<&-", 0), (">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), ("2>/dev/full", 0), ("| true", 0)],
)
def test_a_stream_that_is_closed_or_not_listened_to_is_not_a_fault_of_the_run(
    tmp_path: Path, endpoint: SandboxProcess, streams: str, code: int
) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=10, request=f"seed = {200 + len(streams)}")

    left = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" {streams}', "bash", *command("run", job)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert left.returncode == code, left.stderr
    assert "Traceback" not in left.stderr
    assert len(results(tmp_path / "out")) == 10


def left_by(*words: str | Path, streams: str = ">/dev/full") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" {streams}', "bash", *command(*words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_result_that_stdout_does_not_take_is_on_stderr_and_leaves_with_3(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = write_job(tmp_path, url=endpoint.url, rows=10, request="seed = 300"), tmp_path / "out"

    for words, expected in (
        (("check", job), "10 in the input"),
        (("run", job), "10 rows"),
        (("status", out), "10 of 10 done"),
        (("verify", out), "proven"),
        (("revalidate", job), "10 read again"),
        (("schema",), "batchcall job"),
        (("init", tmp_path / "new"), "next: batchcall check"),
        (("sandbox", "--faults"), "rate_limited"),
    ):
        with forked(*words, into=tmp_path, stdout=Path("/dev/full")) as left:
            assert left.wait() == 3, (words, left.stderr())
            assert "error: stdout cannot be written: No space left on device" in left.stderr()
            assert expected in left.stderr(), words
            assert "Traceback" not in left.stderr()
    assert len(results(out)) == 10
    assert "stdout cannot be written" in left_by("run", "--help").stderr


def test_a_json_result_that_stdout_does_not_take_is_json_on_stderr_with_the_code_that_the_process_leaves_with(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    job, out = write_job(tmp_path, url=endpoint.url, rows=10, request="seed = 303"), tmp_path / "out"

    for words, key in (
        (("run", job, "--log-format", "json"), "is_complete"),
        (("check", job, "--json"), "first_request"),
        (("status", out, "--json"), "is_complete"),
        (("verify", out, "--json"), "is_proven"),
    ):
        with forked(*words, into=tmp_path, stdout=Path("/dev/full")) as left:
            code = left.wait()
            *_, error, result = map(json.loads, left.stderr().splitlines())
        assert (error["event"], error["exit_code"], code) == ("error", 3, 3)
        assert (result["event"], result.get("exit_code", 3)) == ("result", 3)
        assert key in result


def test_a_command_that_says_no_keeps_its_own_code_where_stdout_takes_nothing(
    tmp_path: Path, endpoint: SandboxProcess
) -> None:
    write_job(tmp_path, url=endpoint.url, rows=10, request="seed = 301")
    with forked("run", tmp_path / "job.toml", into=tmp_path) as run:
        run.wait()
    (tmp_path / "out/part-000000.parquet").unlink()

    assert left_by("verify", tmp_path / "out").returncode == 1


def test_what_is_said_where_stdout_was_closed_is_on_stderr(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=10, request="seed = 302")

    left = left_by("run", job, streams=">&-")

    assert (left.returncode, "10 rows" in left.stderr) == (0, True)


@pytest.mark.parametrize("words", [("schema",), ("sandbox", "--faults")])
def test_a_reader_that_has_seen_enough_is_not_a_fault(words: tuple[str, ...]) -> None:
    left = left_by(*words, streams="| head -1")

    assert (left.returncode, left.stderr) == (0, "")
    assert left.stdout.count("\n") == 1


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full", ">/dev/full 2>/dev/full"])
def test_an_error_that_cannot_be_said_keeps_its_exit_code(tmp_path: Path, streams: str) -> None:
    left = subprocess.run(
        ["sh", "-c", f'exec "$@" {streams}', "sh", *command("run", tmp_path / "no-such-job.toml")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert left.returncode == 2


class Clock:
    """The time that a process believes it is: shifted by what stands in a file, which may change under way."""

    def __init__(self, folder: Path) -> None:
        self._offset = folder / "offset"
        self.shift(0)
        self.env = {"LD_PRELOAD": build_shim(folder, SHIFTED_CLOCK), "CLOCK_OFFSET": str(self._offset)}

    def shift(self, seconds: int) -> None:
        whole = self._offset.with_name("offset.new")
        whole.write_text(f"{seconds:+d}")
        whole.rename(self._offset)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    folder = tmp_path / "clock"
    folder.mkdir()
    return Clock(folder)


def test_a_clock_that_is_set_back_during_a_run_loses_nothing(
    tmp_path: Path, endpoint: SandboxProcess, clock: Clock
) -> None:
    out = tmp_path / "out"
    job = write_job(tmp_path, url=endpoint.url, rows=ROWS, part_rows=100, request="seed = 60")
    before = ledger(endpoint)["billed"]
    words = command("run", job, "--log-format", "json")
    with subprocess.Popen(words, env={**os.environ, **clock.env}, stdout=subprocess.PIPE, text=True) as run:
        wait_until(lambda: run.poll() is not None or answered_rows(out) >= 20)
        clock.shift(-3 * 3600)
        stdout, _ = run.communicate(timeout=60)

    assert run.returncode == 0
    assert json.loads(stdout)["this_run"]["seconds"] >= 0
    rows = results(out)
    assert [row["row"] for row in rows] == list(range(ROWS))
    assert min(row["latency_s"] for row in rows) >= 0
    assert max(row["latency_s"] for row in rows) < 60
    assert min(row["wait_s"] for row in rows) >= 0
    assert ledger(endpoint)["billed"] - before == ROWS
    assert verify_output(out).faults == []


def test_a_clock_that_is_set_back_between_runs_loses_nothing_and_failed_rows_are_tried_again(
    tmp_path: Path, clock: Clock
) -> None:
    out = tmp_path / "out"
    with endpoint_process(Settings(faults={"no_call": 0.3}, seed=5)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=60, part_rows=25)
        assert batchcall("run", job, cwd=None, **clock.env).returncode == 1
        failed = [row["row"] for row in results(out) if row["status"] != "ok"]
        assert failed
        clock.shift(-3 * 3600)

        again = batchcall("run", job, "--retry-failed", "--log-format", "json", cwd=None, **clock.env)

        assert json.loads(again.stdout)["this_run"]["requests"] == len(failed)
        assert ledger(endpoint)["billed"] == 60 + len(failed)
        assert [row["row"] for row in results(out)] == list(range(60))
        assert verify_output(out).faults == []


def test_what_a_test_starts_hears_signals_that_arrive_ignored() -> None:
    """As under `nohup` and in a script's background, where the suite must pass too."""

    def ignore_both() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    test = f"{__file__}::test_a_signal_drains_and_nothing_in_flight_is_paid_for_in_vain"

    done = subprocess.run(
        [sys.executable, "-m", "pytest", test, "-p", "no:xdist", "-p", "no:cacheprovider"],
        preexec_fn=ignore_both,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout
