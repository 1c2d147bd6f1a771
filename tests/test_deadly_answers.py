"""An answer over which a run dies is tried once more in another process, then its row ends. For real, in processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from batchcall import verify_output
from forked import wait_until
from running import command, results, write_job

# Python runs this at the start of every process that finds it: reading the answer that holds DEADLY is fatal there.
DEADLY = """
import os, signal, time
from batchcall.pipeline import reread
from batchcall.dialects.dialect import Dialect
reread.ReadingChild.__init__.__kwdefaults__["limit_s"] = 3.0
plain = Dialect.decode
def decode(self, response, *, now_s):
    if b"DEADLY" in response.body:
        with open({victims!r}, "a") as victims:
            victims.write(f"{{os.getpid()}}\\n")
        {act}
    return plain(self, response, now_s=now_s)
Dialect.decode = decode
"""
WITHOUT_THE_MECHANISM = """
from batchcall.output.journal import Recovered
Recovered.unsure = lambda self, has_died: set()
"""
ACTS = {
    "hang": "while True: pass",
    "wait": "time.sleep(600)",  # the same for those who wait for it, and it leaves the processor to others
    "crash": "os.kill(os.getpid(), signal.SIGSEGV)",
    "memory": "if os.getppid() != {parent}: bytearray(1 << 31)\n        os.kill(os.getpid(), signal.SIGKILL)",
}


class Relay(ThreadingHTTPServer):
    """Answers every row; the answer to row 3 is deadly, and as long as asked."""

    padding = 0
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Relay

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][0]["content"]
        self.server.asked.append(text)
        call = {"id": "c", "function": {"name": "record_person", "arguments": '{"name": "Ada", "age": 36}'}}
        message = {
            "content": "DEADLY" + "." * self.server.padding if "number 3," in text else None,
            "tool_calls": [call],
        }
        answer = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Case:
    """A job with one deadly answer, and the processes that died of it."""

    def __init__(self, folder: Path, relay: Relay, act: str, *, rows: int = 12, part_rows: int = 20) -> None:
        self.folder, self.out, self.victims = folder, folder / "out", folder / "victims"
        url = f"http://127.0.0.1:{relay.server_address[1]}/v1"
        self.job = write_job(folder, url=url, rows=rows, part_rows=part_rows)
        self.act = ACTS[act].format(parent=os.getpid())

    def start(self, *words: str, more: str = "") -> subprocess.Popen[bytes]:
        site = self.folder / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(DEADLY.format(victims=str(self.victims), act=self.act) + more)
        environment = {**os.environ, "PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}
        words = words or ("run", str(self.job), "--quiet")
        return subprocess.Popen(command(*words), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def dead(self) -> list[int]:
        return [int(pid) for pid in self.victims.read_text().split()] if self.victims.exists() else []

    def die(self, *, more: str = "") -> None:
        """One run that dies over the answer, of itself or by kill -9."""
        with self.start(more=more) as run:
            wait_until(lambda: run.pid in self.dead())
            run.kill()

    def ends(self, *words: str, more: str = "") -> int:
        with self.start(*words, more=more) as run:
            said = run.communicate(timeout=100)[1].decode()
            assert "Traceback" not in said
            assert run.pid not in self.dead(), said
            return run.returncode


@pytest.mark.parametrize(("act", "padding"), [("hang", 0), ("crash", 0), ("memory", 300_000)])
def test_the_same_command_ends_the_row_of_an_answer_a_run_died_over(
    tmp_path: Path, relay: Relay, act: str, padding: int
) -> None:
    relay.padding = padding
    case = Case(tmp_path, relay, act)
    case.die()

    assert case.ends() == 1

    rows = results(case.out)
    assert {row["row"]: row["status"] for row in rows if row["status"] != "ok"} == {3: "bad_response"}
    assert len(rows) == 12
    assert "batchcall cannot read this answer" in rows[3]["error"]
    assert len(case.dead()) == 2  # the run, and the process in which it was tried once more
    assert len(set(relay.asked)) == 12
    assert sum("number 3," in text for text in relay.asked) == 1  # it is not bought again
    assert verify_output(case.out).is_proven
    assert case.ends("status", str(case.out)) == 0
    assert case.ends("revalidate", str(case.job)) == 1  # nor is it ever read again
    assert len(case.dead()) == 2


def test_a_run_that_dies_before_it_could_try_once_more_leaves_it_to_the_next(tmp_path: Path, relay: Relay) -> None:
    case = Case(tmp_path, relay, "wait")
    case.die()
    with case.start() as run:
        wait_until(lambda: len(case.dead()) == 2)  # the child is at it
        run.kill()

    assert case.ends() == 1

    assert len(case.dead()) == 3


def test_a_signal_is_heard_while_an_answer_is_tried_once_more(tmp_path: Path, relay: Relay) -> None:
    case = Case(tmp_path, relay, "wait")
    case.die()

    with case.start() as run:
        wait_until(lambda: len(case.dead()) == 2)
        run.send_signal(signal.SIGTERM)

        assert run.wait(60) == 143


def test_whichever_worker_goes_on_reads_the_answer_that_another_died_over_in_another_process(
    tmp_path: Path, relay: Relay
) -> None:
    case = Case(tmp_path, relay, "crash", rows=2500, part_rows=100)
    assert case.ends("run", str(case.job), "--quiet", "--limit", "1") == 0  # a run that has not died
    # Whoever replaces the worker begins late, so that the part goes to the other one, which lives.
    late = f"if os.path.exists({str(case.victims)!r}): time.sleep(3)\n"

    assert case.ends("run", str(case.job), "--quiet", "--workers", "2", more=late) == 1

    rows = results(case.out)
    assert {row["row"]: row["status"] for row in rows if row["status"] != "ok"} == {3: "bad_response"}
    assert len(case.dead()) == 2  # a worker, and the process in which it was tried once more
    assert len(rows) == len(set(relay.asked)) == 2500
    assert sum("number 3," in text for text in relay.asked) == 1
    assert verify_output(case.out).is_proven


def test_without_the_mechanism_the_same_command_dies_again(tmp_path: Path, relay: Relay) -> None:
    case = Case(tmp_path, relay, "wait")

    case.die(more=WITHOUT_THE_MECHANISM)
    case.die(more=WITHOUT_THE_MECHANISM)

    assert len(set(case.dead())) == 2


def test_a_revalidation_that_died_is_done_in_another_process(tmp_path: Path, relay: Relay) -> None:
    case = Case(tmp_path, relay, "wait")
    assert subprocess.run(command("run", case.job, "--quiet"), check=False, stdout=subprocess.DEVNULL).returncode == 0
    with case.start("revalidate", str(case.job)) as run:
        wait_until(lambda: case.dead() == [run.pid])
        run.kill()

    assert case.ends("revalidate", str(case.job)) == 1
    assert case.ends("revalidate", str(case.job)) == 1  # and never again in the command's own process

    assert {row["row"] for row in results(case.out) if row["status"] == "bad_response"} == {3}
