"""`--workers`: a run by several processes is one run: one output, one bill, one pace, one end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batchcall import ExitCode, InputError, JobError, RunOptions, verify_output
from batchcall import run as batchcall_run
from batchcall.pipeline.pending_rows import workers_of
from batchcall.sandbox.process import SandboxProcess, Settings
from forked import Forked, forked, launched, wait_until
from killing import (
    Plan,
    answered_rows,
    bills_reported,
    endpoint_process,
    ids_on_disk,
    journals,
    ledger,
    reported_in,
    run_campaign,
    workers_in,
)
from running import batchcall, edit, results, some_rows, write_job, write_rows

TWO = ("--workers", "2")
TIMES = {"endpoint", "started_at", "finished_at", "latency_s", "wait_s", "sent_at"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[SandboxProcess]:
    with endpoint_process(Settings(latency_s=0.02)) as sandbox:
        yield sandbox


def summary_of(run: Forked) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(run.stdout())
    return summary


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without times, ports, and the number that the endpoint gives each of its answers."""
    made_of_body = len("chatcmpl-") + 16
    return [
        {name: value for name, value in row.items() if name not in TIMES}
        | {"response_id": row["response_id"][:made_of_body]}
        for row in rows
    ]


def test_the_output_of_workers_is_that_of_one_process_but_for_times(tmp_path: Path) -> None:
    for name, more in {"one": (), "two": TWO}.items():
        with endpoint_process(Settings(faults={"no_call": 0.1, "invalid_schema_arguments": 0.1})) as endpoint:
            job = write_job(tmp_path / name, url=endpoint.url, rows=95, part_rows=10)
            assert batchcall("run", job, *more).returncode == 1

    one, two = (comparable(results(tmp_path / name / "out")) for name in ("one", "two"))
    for was, now in zip(one, two, strict=True):
        assert now == was, {name for name in was if now[name] != was[name]}
    assert verify_output(tmp_path / "two" / "out").faults == []
    runs = [json.loads((tmp_path / name / "out" / "_batchcall" / "run.json").read_bytes()) for name in ("one", "two")]
    assert runs[1]["totals"] == runs[0]["totals"]
    assert runs[1]["is_complete"]
    assert runs[1]["input"]["rows"] == 95
    counted = ("rows", "requests", "answered", "rows_paid_once", "indeterminate", "given_up")
    assert [runs[1]["runs"][0][name] for name in counted] == [runs[0]["runs"][0][name] for name in counted]


def test_each_worker_does_a_share_of_the_rows(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=300, part_rows=20)
    with forked("run", job, *TWO, "--log-format", "json", into=tmp_path / "said") as run:
        wait_until(lambda: run.is_over or len({path.name for path in journals(tmp_path / "out")}) >= 2)
        assert len(workers_in(run.pid)) == 2
        assert run.wait() == 0, run.stderr()

    assert summary_of(run)["this_run"]["rows"] == 300
    assert workers_in(run.pid) == []


def test_a_job_of_one_part_needs_no_worker(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=60, part_rows=1000)
    with forked("run", job, "--workers", "8", into=tmp_path / "said") as run:
        wait_until(lambda: run.is_over or answered_rows(tmp_path / "out") > 0)
        assert workers_in(run.pid) == []
        assert run.wait() == 0, run.stderr()


def test_no_more_is_in_flight_than_the_job_allows_to_all_workers_together(tmp_path: Path) -> None:
    with endpoint_process(Settings(latency_s=0.01)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=120, part_rows=10)
        job.write_text(job.read_text().replace("concurrency = 8", "concurrency = 3"))
        assert batchcall("run", job, "--workers", "3").returncode == 0

        assert ledger(endpoint)["most_in_flight"] == 3


def test_the_rate_is_that_of_all_workers_together(tmp_path: Path) -> None:
    # The endpoint itself counts, in another process: more than so many in a minute would be refused.
    with endpoint_process(Settings(requests_per_minute=1200)) as endpoint:
        limits = "requests_per_minute = 1200"
        job = write_job(tmp_path, url=endpoint.url, rows=100, part_rows=10, limits=limits)
        assert batchcall("run", job, "--workers", "2").returncode == 0

        assert ledger(endpoint)["statuses"] == {"200": 100}


def test_what_is_spent_is_counted_together_and_stops_all(tmp_path: Path, endpoint: SandboxProcess) -> None:
    before = ledger(endpoint)["billed_tokens"]
    job = write_job(
        tmp_path, url=endpoint.url, rows=400, part_rows=20, request="seed = 91", limits="max_tokens_total = 3000"
    )
    with forked("run", job, *TWO, "--log-format", "json", into=tmp_path / "said") as run:
        assert run.wait() == 3, run.stderr()

    spent = ledger(endpoint)["billed_tokens"] - before
    assert "limits.max_tokens_total is spent" in summary_of(run)["reason"]
    most_of_a_row = max(row["total_tokens"] for row in results(tmp_path / "out"))
    assert 3000 <= spent <= 3000 + 8 * most_of_a_row
    assert summary_of(run)["total_tokens"] + (summary_of(run)["unfinished"]["total_tokens"] or 0) == spent


def test_failures_are_counted_together_and_stop_all(tmp_path: Path) -> None:
    with endpoint_process(Settings(latency_s=0.005, faults={"no_call": 1.0})) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=2000, part_rows=100, limits="max_failed = 20")
        with forked("run", job, *TWO, "--log-format", "json", into=tmp_path / "said") as run:
            assert run.wait() in (3, 4), run.stderr()

        assert ledger(endpoint)["requests"] <= 20 + 3 * 8


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"])
def test_a_signal_drains_all_workers_and_nothing_in_flight_is_paid_for_in_vain(
    tmp_path: Path, endpoint: SandboxProcess, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    job = write_job(tmp_path, url=endpoint.url, rows=300, part_rows=30, request=f"seed = {1000 + int(number)}")
    before = ledger(endpoint)["billed"]
    with forked("run", job, *TWO, "--log-format", "json", into=tmp_path / "said") as run:
        wait_until(lambda: run.is_over or answered_rows(out) >= 20)
        os.kill(run.pid, number)
        assert run.wait() == code, run.stderr()

    summary = summary_of(run)
    assert number.name in summary["reason"]
    assert 0 < summary["rows"] < 300
    assert len(results(out)) == summary["rows"] == ledger(endpoint)["billed"] - before
    with forked("run", job, *TWO, into=tmp_path / "said") as rest:
        assert rest.wait() == 0, rest.stderr()
    assert ledger(endpoint)["billed"] - before == 300
    assert bills_reported(out) == 0


def test_a_second_signal_stops_all_workers_at_once_and_loses_nothing_that_arrived(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with endpoint_process(Settings(latency_s=0.1)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=60, part_rows=15)
        with forked("run", job, *TWO, into=tmp_path / "said") as run:
            wait_until(lambda: run.is_over or answered_rows(out) >= 12)
            workers = workers_in(run.pid)
            os.kill(run.pid, signal.SIGTERM)
            time.sleep(0.02)  # two signals of one kind that are pending together are one
            os.kill(run.pid, signal.SIGTERM)
            assert run.wait(seconds=15) == 143, run.stderr()
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        before = ids_on_disk(out)
        assert len(before) >= 12
        assert batchcall("run", job).returncode == 0
        assert before <= ids_on_disk(out)
        assert ledger(endpoint)["billed"] - 60 <= bills_reported(out)


def test_a_worker_that_dies_is_replaced_and_its_parts_are_resumed(tmp_path: Path, endpoint: SandboxProcess) -> None:
    out = tmp_path / "out"
    job = write_job(tmp_path, url=endpoint.url, rows=600, part_rows=50, request="seed = 77")
    before = ledger(endpoint)["billed"]
    killed = 0
    with forked("run", job, *TWO, "--log-format", "json", into=tmp_path / "said") as run:
        for _ in range(3):
            bought = ledger(endpoint)["billed"] + 20
            wait_until(lambda bought=bought: run.is_over or ledger(endpoint)["billed"] > bought)  # type: ignore[misc]
            for pid in workers_in(run.pid)[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                killed += 1
        assert run.wait() == 0, run.stderr()

    # One that was killed when it had said that it was done is not missed.
    assert 1 <= run.stderr().count("ended unexpectedly") <= killed
    assert [row["row"] for row in results(out)] == list(range(600))
    assert verify_output(out).faults == []
    in_vain = ledger(endpoint)["billed"] - before - 600
    assert 0 <= in_vain <= bills_reported(out) <= killed * 8
    assert reported_in(out)[0] == summary_of(run)["this_run"]["indeterminate"]


def test_workers_that_die_one_after_the_other_end_the_run(tmp_path: Path) -> None:
    with endpoint_process(Settings(faults={"hang": 1.0})) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=60, part_rows=10)
        with forked("run", job, *TWO, into=tmp_path / "said") as run:

            def kill_all() -> bool:
                for pid in workers_in(run.pid):
                    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                        os.kill(pid, signal.SIGKILL)
                return run.is_over

            wait_until(kill_all)
            assert run.wait() == 3, run.stderr()

    assert "workers ended unexpectedly, one after the other" in run.stdout() + run.stderr()


def test_workers_whose_run_was_killed_end_and_free_its_output(tmp_path: Path, endpoint: SandboxProcess) -> None:
    out = tmp_path / "out"
    job = write_job(tmp_path, url=endpoint.url, rows=300, part_rows=30, request="seed = 55")
    with forked("run", job, *TWO, into=tmp_path / "said") as run:
        wait_until(lambda: run.is_over or answered_rows(out) >= 20)
        workers = workers_in(run.pid)
        assert run.kill()
    with forked("run", job, *TWO, into=tmp_path / "said") as rest:  # at once
        assert rest.wait() == 0, rest.stderr()

    assert len(workers) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert [row["row"] for row in results(out)] == list(range(300))
    assert verify_output(out).faults == []


@pytest.mark.parametrize("kills", [8])
def test_a_run_with_workers_that_is_killed_again_and_again_loses_no_answer(tmp_path: Path, kills: int) -> None:
    figures = run_campaign(tmp_path, Plan(rows=300, part_rows=37, latency_s=0.02, seed=11, workers=2), kills=kills)

    assert figures.violations == [], figures.as_text()
    assert figures.unreported == 0
    assert figures.kills >= kills - 3


def test_rows_that_failed_are_tried_again_by_workers(tmp_path: Path) -> None:
    with endpoint_process(Settings(faults={"no_call": 0.3})) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=90, part_rows=15)
        assert batchcall("run", job, *TWO).returncode == 1
        failed = [row["row"] for row in results(tmp_path / "out") if row["status"] != "ok"]
        before = ledger(endpoint)["requests"]
        with forked("run", job, *TWO, "--retry-failed", into=tmp_path / "said") as run:
            wait_until(lambda: run.is_over or len(workers_in(run.pid)) == 2)
            assert not run.is_over
            run.wait()

        assert ledger(endpoint)["requests"] - before == len(failed) > 0
    assert [row["row"] for row in results(tmp_path / "out")] == list(range(90))
    assert verify_output(tmp_path / "out").faults == []


def test_a_limit_and_a_grown_input_are_those_of_one_process(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=100, part_rows=10, request="seed = 31")
    before = ledger(endpoint)["requests"]
    assert batchcall("run", job, *TWO, "--limit", "33").returncode == 0
    assert [row["row"] for row in results(tmp_path / "out")] == list(range(33))
    write_rows(tmp_path / "rows.jsonl", some_rows(130))
    assert batchcall("run", job, "--workers", "3").returncode == 0

    assert [row["row"] for row in results(tmp_path / "out")] == list(range(130))
    assert ledger(endpoint)["requests"] - before == 130


def test_answers_that_were_set_aside_are_taken_once_by_whichever_worker_asks(tmp_path: Path) -> None:
    with endpoint_process(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=80, part_rows=10)
        assert batchcall("run", job, *TWO).returncode == 0
        # Every row moves, and one half of them stands twice now.
        rows = some_rows(80)
        again = [{**row, "id": row["id"] + "b"} for row in rows[:40]]
        write_rows(tmp_path / "rows.jsonl", [*rows[40:], *rows[:40], *again])
        assert batchcall("run", job, *TWO).returncode == 0

        assert ledger(endpoint)["requests"] == 120
    texts = [row["text"] for row in rows]
    assert [row["text"] for row in results(tmp_path / "out")] == [*texts[40:], *texts[:40], *texts[:40]]
    assert verify_output(tmp_path / "out").faults == []


def test_what_a_worker_took_before_it_died_is_taken_again(tmp_path: Path) -> None:
    with endpoint_process(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=4000, part_rows=500)
        job.write_text(job.read_text().replace("concurrency = 8", "concurrency = 64"))
        assert batchcall("run", job).returncode == 0
        rows = some_rows(4000)
        write_rows(tmp_path / "rows.jsonl", rows[::-1])
        with forked("run", job, *TWO, into=tmp_path / "said") as run:
            wait_until(lambda: run.is_over or len(results(tmp_path / "out")) >= 500)
            for pid in workers_in(run.pid)[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert run.wait() == 0, run.stderr()

        assert ledger(endpoint)["requests"] == 4000
    assert [row["text"] for row in results(tmp_path / "out")] == [row["text"] for row in rows[::-1]]


def test_a_pool_of_endpoints_is_shared_by_workers(tmp_path: Path) -> None:
    with endpoint_process(Settings(latency_s=0.01)) as good, endpoint_process(Settings(api_key="other")) as bad:
        job = write_job(tmp_path, url=good.url, rows=200, part_rows=20)
        first = f'[[endpoint]]\nurl = "{good.url}"'
        job.write_text(
            job.read_text().replace(f'[endpoint]\nurl = "{good.url}"', f'{first}\n[[endpoint]]\nurl = "{bad.url}"')
        )
        with forked("run", job, *TWO, "--log-format", "json", into=tmp_path / "said") as run:
            assert run.wait() == 0, run.stderr()

        used = {one["endpoint"]: one for one in summary_of(run)["this_run"]["endpoints"]}
        assert used[good.url]["answered"] == 200
        assert used[bad.url]["left"] is not None
        assert ledger(bad)["requests"] <= 20
    assert run.stderr().count("is no longer used") == 1


def test_an_outage_fails_no_row_of_any_worker(tmp_path: Path) -> None:
    with endpoint_process(Settings(latency_s=0.01)) as endpoint:
        port = int(re.findall(r":(\d+)/", endpoint.url)[0])
        job = write_job(tmp_path, url=endpoint.url, rows=400, part_rows=20)
        said = forked("run", job, *TWO, "--log-format", "json", into=tmp_path / "said")
        run = said.__enter__()
        wait_until(lambda: run.is_over or ledger(endpoint)["billed"] > 60)
    try:
        time.sleep(0.5)  # refused connections meanwhile
        with endpoint_process(Settings(latency_s=0.01, port=port)):
            assert run.wait(seconds=60) == 0, run.stderr()
    finally:
        said.__exit__(None, None, None)

    assert summary_of(run)["ok"] == 400


def test_a_number_of_workers_that_is_none_is_refused(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    for given in ("0", "-1", "two", "1.5", "257", "٢"):
        refused = batchcall("run", job, "--workers", given)
        assert refused.returncode == 2
        assert "neither auto nor a number" in refused.stderr


def test_workers_that_cannot_be_started_stop_the_run_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(tmp_path, rows=40, part_rows=10)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setattr("batchcall.sandbox.process._launched", launched)
    summary = batchcall_run(job, RunOptions(workers=2))

    assert summary.exit_code is ExitCode.STOPPED_EARLY
    assert "a worker cannot be started with /nowhere/python" in summary.reason


@pytest.mark.parametrize("workers", [0, -1, "two", 1.5, True])
def test_a_number_of_workers_that_is_none_is_refused_from_python_too(tmp_path: Path, workers: Any) -> None:
    with pytest.raises(JobError, match="workers is"):
        batchcall_run(write_job(tmp_path), RunOptions(workers=workers))


def test_an_input_that_cannot_be_counted_is_left_to_one_process_which_meets_the_fault_where_it_is() -> None:
    def break_off() -> int:
        raise InputError("its compressed data ends too early")

    run = SimpleNamespace(
        options=RunOptions(workers=4),
        resumption=SimpleNamespace(is_finished=False),
        source=SimpleNamespace(count_rows=break_off),
        entry=SimpleNamespace(retries_failed_before_s=None),
    )

    assert workers_of(run) == 1  # type: ignore[arg-type]  # what it looks at is there


def test_auto_begins_with_one_worker_and_does_the_job(tmp_path: Path, endpoint: SandboxProcess) -> None:
    job = write_job(tmp_path, url=endpoint.url, rows=100, part_rows=10, request="seed = 3")
    assert batchcall("run", job, "--workers", "auto").returncode == 0
    assert [row["row"] for row in results(tmp_path / "out")] == list(range(100))


def test_what_workers_are_told_does_not_show_a_key(tmp_path: Path) -> None:
    with endpoint_process(Settings(latency_s=0.05, api_key="sk-workers-secret")) as endpoint:
        key = tmp_path / "key"
        key.write_text("sk-workers-secret")
        key.chmod(0o600)
        job = write_job(tmp_path, url=endpoint.url, rows=60, part_rows=10, endpoint=f'api_key = "file:{key}"')
        with forked("run", job, *TWO, into=tmp_path / "said") as run:
            wait_until(lambda: run.is_over or len(workers_in(run.pid)) == 2)
            shown = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers_in(run.pid)]
            assert run.wait() == 0, run.stderr()

    assert len(shown) == 2
    assert not any(re.search(rb"sk-workers", words) for words in shown)


def test_the_totals_are_those_of_the_parts_when_a_part_that_stood_is_published_short(tmp_path: Path) -> None:
    with (
        endpoint_process(Settings(faults={"no_call": 0.3})) as faulty,
        endpoint_process(Settings(latency_s=0.01)) as sound,
    ):
        job = write_job(tmp_path, url=faulty.url, rows=40, part_rows=20)
        assert batchcall("run", job).returncode == 1
        edit(job, faulty.url, sound.url)
        assert batchcall("run", job, *TWO, "--retry-failed", "--limit", "30").returncode == 1

    totals = json.loads((tmp_path / "out" / "_batchcall" / "run.json").read_bytes())["totals"]
    rows = results(tmp_path / "out")
    assert totals["ok"] == sum(row["status"] == "ok" for row in rows)
    assert {row["status"] for row in rows[:30]} == {"ok"}
    assert {row["status"] for row in rows[30:]} > {"ok"}


def test_failures_stop_no_worker_once_every_row_is_taken(tmp_path: Path) -> None:
    with endpoint_process(Settings(latency_s=0.05, faults={"content_filter": 0.3})) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=60, part_rows=20, limits="max_failed = 5")
        with forked("run", job, *TWO, "--log-format", "json", into=tmp_path / "said") as run:
            assert run.wait() == 1, run.stderr()

    assert summary_of(run)["is_complete"]
    assert summary_of(run)["failed"] > 5
