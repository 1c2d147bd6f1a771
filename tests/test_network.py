"""What a whole run does about connections: as many as asked for, none to whom cannot be trusted."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import make_certificate
from holding_server import ANSWER

from batchcall import run
from batchcall.base.errors import ExitCode, JobError
from batchcall.base.records import Failure, FailureKind
from batchcall.http.connections import MOST_RESTING
from batchcall.job.model import load_job
from batchcall.pacing.health import Health
from batchcall.pacing.pacer import MOST_AUTO, Pacer
from batchcall.pipeline.descriptors import Room, room_for
from batchcall.sandbox.process import Settings
from forked import really_launched
from killing import endpoint_process
from running import command, edit, results, write_job

IN_FLIGHT = 2_000
BEFORE = 1_050  # answers until a run dares to have so many in flight


def limited(soft: int, hard: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def run_limited(*words: str | Path, soft: int, hard: int) -> subprocess.CompletedProcess[str]:
    """The command in a process that may have so many files open."""
    return subprocess.run(
        command(*words),
        preexec_fn=lambda: limited(soft, hard),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_two_thousand_in_flight_are_in_flight_with_a_soft_limit_of_1024(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * IN_FLIGHT:
        pytest.skip("the server may not have so many connections here")
    words = [sys.executable, str(Path(__file__).with_name("holding_server.py")), str(IN_FLIGHT), str(BEFORE)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as target:
        assert target.stdout is not None
        url = f"http://127.0.0.1:{int(target.stdout.readline())}/v1"
        job = write_job(tmp_path, url=url, rows=BEFORE + IN_FLIGHT, part_rows=10_000)
        edit(job, "concurrency = 8", f"concurrency = {IN_FLIGHT}")

        left = run_limited("run", job, "--log-format", "json", soft=1_024, hard=hard)
        most, _ = target.communicate(timeout=30)

    assert left.returncode == 0, left.stderr
    assert int(most) == IN_FLIGHT
    assert json.loads(left.stdout)["rows"] == BEFORE + IN_FLIGHT


@pytest.mark.parametrize("word", ["run", "check"])
def test_more_than_this_process_may_have_open_is_refused_before_anything_is_sent(tmp_path: Path, word: str) -> None:
    job = write_job(tmp_path, url="http://127.0.0.1:9/v1")
    edit(job, "concurrency = 8", "concurrency = 900")

    left = run_limited(word, job, soft=256, hard=512)

    said = left.stdout + left.stderr
    assert left.returncode == (2 if word == "run" else 1), said
    assert "900 requests in flight need" in said
    assert "may have 512" in said
    assert "ulimit -Hn" in said
    assert not (tmp_path / "out").exists()


def test_with_few_descriptors_auto_takes_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = write_job(tmp_path, part_rows=10_000)
    edit(job, "concurrency = 8", 'concurrency = "auto"')
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 300))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr("batchcall.pipeline.descriptors._open_now", lambda: 20)

    room = room_for(load_job(job))

    assert 100 < room.most_auto < 300 - 20 - 128
    assert room.most_resting == 0


@pytest.mark.parametrize(("limit", "is_enough_for_one"), [(512, True), (64, False)])
def test_a_lower_concurrency_is_advised_only_where_it_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, is_enough_for_one: bool
) -> None:
    job = write_job(tmp_path, part_rows=10_000)
    edit(job, "concurrency = 8", "concurrency = 900")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr("batchcall.pipeline.descriptors._open_now", lambda: 20)

    with pytest.raises(JobError) as refused:
        room_for(load_job(job))

    assert ("limits.concurrency" in refused.value.hint) is is_enough_for_one
    assert "ulimit -Hn" in refused.value.hint


def test_the_limit_is_raised_only_as_far_as_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 500_000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    job = write_job(tmp_path, part_rows=10_000)

    room_for(load_job(job))
    assert raised == []
    edit(job, "concurrency = 8", "concurrency = 2000")
    room_for(load_job(job))

    assert len(raised) == 1
    assert 2_256 < raised[0][0] < 2_600


def test_ten_thousand_and_one_in_flight_are_refused(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    edit(job, "concurrency = 8", "concurrency = 10001")

    with pytest.raises(JobError) as refused:
        load_job(job)

    assert any("concurrency" in fault for fault in refused.value.faults)


def test_a_lack_of_descriptors_takes_no_attempt_and_lowers_what_is_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when something else in this process has them: the run could not know before."""
    monkeypatch.setattr("batchcall.pipeline.run.room_for", lambda job: None)
    monkeypatch.setattr("batchcall.pipeline.open_engine.room_for", lambda job: Room(MOST_AUTO, MOST_RESTING))
    said: list[str] = []
    with endpoint_process(Settings(latency_s=0.03)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=300, part_rows=10_000, limits="attempts = 1")
        edit(job, "concurrency = 8", "concurrency = 100")
        with at_most_open(30):
            summary = run(job, say=said.append)

    assert summary.exit_code is ExitCode.OK, (summary.reason, said)
    assert {row["status"] for row in results(tmp_path / "out")} == {"ok"}
    assert summary.requests > 300  # some never left this machine
    assert summary.possibly_paid_twice == {}
    assert any("may open no more files" in note for note in said)


@contextmanager
def at_most_open(more: int) -> Iterator[None]:
    """So many descriptors more than are open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = set(map(int, os.listdir("/proc/self/fd")))
    free = [number for number in range(len(taken) + more) if number not in taken][:more]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1] + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


LACKING = Failure(FailureKind.NO_DESCRIPTORS, "no connection")


def test_without_a_descriptor_for_a_single_connection_the_run_stops_with_3() -> None:
    pacer = Pacer(concurrency=64)
    for at in range(5):
        assert pacer.verdict(float(at)) is None
        pacer.sent(float(at))
        pacer.failed(at, LACKING, sent_at_s=float(at), now_s=float(at), roll=0.5)

    verdict = pacer.verdict(5.0)

    assert verdict is not None
    assert verdict.exit_code is ExitCode.STOPPED_EARLY
    assert "ulimit -n" in verdict.hint
    assert pacer.orders(5.0).in_flight == 1


@pytest.mark.parametrize("concurrency", [64, None])
def test_a_lack_of_descriptors_lowers_what_is_in_flight_and_is_not_an_outage(concurrency: int | None) -> None:
    pacer = Pacer(concurrency=concurrency)
    for _ in range(40):
        pacer.sent(0.0)
    for _ in range(20):
        pacer.answered(0.0, 1.0, in_flight=20, work=1.0)
    for row in range(12):
        pacer.failed(row, LACKING, sent_at_s=0.0, now_s=1.0, roll=0.5)

    assert pacer.most_in_flight == 8  # those that have a connection
    assert pacer.orders(1.0).in_flight <= 8
    assert not pacer.is_down
    assert pacer.verdict(1.0) is None


@pytest.mark.parametrize("kind", [FailureKind.UNTRUSTED, FailureKind.WRONG_SCHEME])
def test_a_certificate_that_goes_bad_midway_ends_the_run_when_nothing_else_is_seen(kind: FailureKind) -> None:
    """One of several machines behind a name may have it: rows try again, and none of them fails for it."""
    health, failure = Health(host="relay.example"), Failure(kind, "expired")
    health.saw_reply()
    for _ in range(9):
        assert health.saw(failure) is None

    verdict = health.saw(failure)

    assert verdict is not None
    assert verdict.exit_code is ExitCode.ENDPOINT_REFUSES


class Served:
    """A server in a thread, of answers over TLS or of anything else."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.requests = 0


@contextmanager
def served(answer: bytes, *, tls: ssl.SSLContext | None = None, until: bytes = b"\r\n\r\n") -> Iterator[Served]:
    found, ready, over = Served(), threading.Event(), threading.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.connections += 1
        try:
            while await reader.readuntil(until):
                found.requests += 1
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
        found.port = server.sockets[0].getsockname()[1]
        ready.set()
        await asyncio.get_running_loop().run_in_executor(None, over.wait)
        server.close()

    serving = threading.Thread(target=asyncio.run, args=(main(),))
    serving.start()
    ready.wait(10)
    try:
        yield found
    finally:
        over.set()
        serving.join(10)


@pytest.mark.parametrize("name", ["IP:127.0.0.1", "DNS:other.example"], ids=["self-signed", "another name"])
def test_an_untrusted_certificate_ends_the_run_at_once_with_4(tmp_path: Path, name: str) -> None:
    certificate = make_certificate(tmp_path / "tls", name)
    own_authority = f'ca_file = "{certificate.file}"' if name.startswith("DNS") else ""
    with served(ANSWER, tls=certificate.context()) as server:
        job = write_job(tmp_path, url=f"https://127.0.0.1:{server.port}/v1", endpoint=own_authority)

        summary = run(job)

    assert summary.exit_code is ExitCode.ENDPOINT_REFUSES
    assert "certificate" in summary.reason
    assert "endpoint.ca_file" in summary.hint
    assert (summary.totals["rows"], server.requests) == (0, 0)
    assert summary.requests == 1


def test_control_the_same_run_with_the_authority_named_is_done(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls", "IP:127.0.0.1")
    with served(ANSWER, tls=certificate.context()) as server:
        url = f"https://127.0.0.1:{server.port}/v1"
        job = write_job(tmp_path, url=url, endpoint=f'ca_file = "{certificate.file}"')

        assert run(job).exit_code is ExitCode.OK

    assert len(results(tmp_path / "out")) == 25


def test_https_to_a_server_of_plain_http_ends_the_run_at_once_with_4(tmp_path: Path) -> None:
    with served(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", until=b"\x03") as server:
        summary = run(write_job(tmp_path, url=f"https://127.0.0.1:{server.port}/v1"))

    assert summary.exit_code is ExitCode.ENDPOINT_REFUSES
    assert "scheme" in summary.reason
    assert "endpoint.url" in summary.hint
    assert summary.requests == 1


def test_http_to_a_server_that_wants_https_ends_the_run_at_once_with_4(tmp_path: Path) -> None:
    body = b"Client sent an HTTP request to an HTTPS server.\n"
    refusal = b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with served(refusal) as server:
        summary = run(write_job(tmp_path, url=f"http://127.0.0.1:{server.port}/v1"))

    assert summary.exit_code is ExitCode.ENDPOINT_REFUSES
    assert summary.totals["rows"] == 0
    assert summary.requests == 1


def test_a_key_over_plain_http_is_refused_and_the_way_to_allow_it_is_named(tmp_path: Path) -> None:
    job = write_job(tmp_path, url="http://gateway.llm.svc:4000/v1", endpoint='api_key = "env:SOME_KEY"')
    with pytest.raises(JobError) as refused:
        load_job(job)
    assert any("endpoint.allow_http_key = true" in fault for fault in refused.value.faults)

    edit(job, 'api_key = "env:SOME_KEY"', 'api_key = "env:SOME_KEY"\nallow_http_key = true')

    assert load_job(job).endpoints[0].allow_http_key


def test_the_embedded_endpoint_does_not_inherit_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/environ").exists():
        pytest.skip("only Linux tells the environment of another process")
    monkeypatch.setattr("batchcall.sandbox.process._launched", really_launched)
    for name in ("OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL"):
        monkeypatch.setenv(name, "sk-not-to-be-inherited")

    with endpoint_process(Settings()) as sandbox:
        inherited = Path(f"/proc/{sandbox.pid}/environ").read_text()

    assert "PATH=" in inherited
    assert "not-to-be-inherited" not in inherited
    assert "not-to-be-inherited" in os.environ["OPENAI_API_KEY"]
