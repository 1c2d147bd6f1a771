"""scripts/bench: its endpoint answers what the job asks for and outlives nobody, and a changed ratio is reported."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs
import pytest

from batchcall.base.records import HttpResponse
from batchcall.dialects import DIALECTS

SCRIPTS = Path(__file__).parent.parent / "scripts"
PARENT = """
import sys
from pathlib import Path
from bench_target import open_endpoint, whole_answer
with open_endpoint(Path(sys.argv[1]), whole_answer()) as endpoint:
    print(endpoint.url, flush=True)
    sys.stdin.read()
"""

needs_a_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("bench")


@pytest.fixture
def target(bench: Any, tmp_path: Path) -> Any:
    """The module, and the program that it has built."""
    module = importlib.import_module("bench_target")
    return module, module.built_target(tmp_path)


@needs_a_compiler
@pytest.mark.parametrize("deltas", [0, 300])
def test_the_endpoint_answers_a_completion_whose_arguments_are_valid(target: Any, deltas: int) -> None:
    module, program = target
    answer = module.streamed_answer(deltas) if deltas else module.whole_answer()

    with module.open_endpoint(program, answer, latency_ms=1) as opened:
        asked = urllib.request.Request(f"{opened.url}/chat/completions", data=b"{}" * 20_000)
        with urllib.request.urlopen(asked) as got:
            response = HttpResponse(got.status, {"content-type": got.headers["Content-Type"]}, got.read())
        seen = opened.close()

    (call,) = DIALECTS["openai-chat"].decode(response, now_s=0).calls
    assert jsonschema_rs.is_valid(module.TOOL["parameters"], json.loads(call.arguments))
    assert response.body.count(b'"arguments"') == max(deltas, 1)
    assert (seen.requests, seen.answered, seen.most_in_flight) == (1, 1, 1)
    assert seen.nanoseconds >= 1_000_000


@needs_a_compiler
def test_the_endpoint_ends_when_its_parent_is_killed(target: Any) -> None:
    _, program = target
    command = [sys.executable, "-c", PARENT, str(program)]
    with subprocess.Popen(command, cwd=SCRIPTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = urlsplit(parent.stdout.readline()).port
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            parent.kill()

            with contextlib.suppress(ConnectionResetError):  # it had not taken the connection yet
                assert connection.recv(1) == b""


@needs_a_compiler
def test_both_sides_send_every_row_once(bench: Any, target: Any, tmp_path: Path) -> None:
    _, program = target
    bench.write_job(tmp_path)

    for side in (bench.whole_job, bench.bare_loop):
        bench.run(side, bench.Load(rows=20), program, tmp_path)  # raises for one too few or too many


@needs_a_compiler
@pytest.mark.parametrize("expected", [19, 21])
def test_control_a_side_that_sends_one_too_many_or_too_few_has_no_figure(
    bench: Any, target: Any, tmp_path: Path, expected: int
) -> None:
    _, program = target
    bench.write_job(tmp_path)

    def side(place: Any) -> Any:
        return bench.bare_loop(place)._replace(requests=expected)

    with pytest.raises(bench.BenchError, match=f"20 requests, 20 answers where {expected} were expected"):
        bench.run(side, bench.Load(rows=20), program, tmp_path)


@pytest.mark.parametrize(
    ("load", "seen", "why"),
    [
        ({"per_second": 500}, {"asked_s": 2.3}, "435 a second were sent instead of 500"),
        ({"per_second": 500}, {"asked_s": 2.2}, None),
        ({"concurrency": 100, "is_full": True}, {"most_in_flight": 89}, "89 were in flight instead of 100"),
        ({"concurrency": 100, "is_full": True}, {"most_in_flight": 90}, None),
    ],
)
def test_a_side_that_is_not_as_its_line_says_has_no_figure(
    bench: Any, monkeypatch: pytest.MonkeyPatch, load: dict[str, Any], seen: dict[str, Any], why: str | None
) -> None:
    used = bench.Used(1.0, 1.0, 1.0, **seen)
    monkeypatch.setattr(bench, "run", lambda *_: used)
    line = bench.Line("a line", bench.Load(1_000, **load), bench.PEAK)

    if why is None:
        assert bench.figure(line, bench.whole_job, None, None) == 1.0
    else:
        with pytest.raises(bench.BenchError, match=why):
            bench.figure(line, bench.whole_job, None, None)


@pytest.mark.parametrize(
    ("measured", "found"),
    [
        (1.14, {}),
        (0.86, {}),
        (1.16, {"cpu": "is 1.16, the docs say 1: +16%"}),
        (0.8, {"cpu": "is 0.8, the docs say 1: -20%"}),
    ],
)
def test_a_ratio_that_has_changed_by_more_than_15_percent_is_reported(bench: Any, measured: float, found: Any) -> None:
    assert bench.changes({"cpu": measured}, {"cpu": 1.0, "help": 3.0}) == found


def test_a_line_that_the_docs_lack_is_reported(bench: Any) -> None:
    assert list(bench.changes({"cpu": 1.0}, {})) == ["cpu"]


def test_check_says_that_it_passed_or_fails_on_a_changed_ratio_and_writes_nothing(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "speed.md"
    row = bench.as_row("cpu", bench.LINES["cpu"], [(130.0, 100.0)])
    page.write_text(bench.with_rows(bench.PAGE.read_text(), "own", {"cpu": row}, rounds=1))
    written = page.read_bytes()
    monkeypatch.setattr(bench, "PAGE", page)

    codes = []
    for ours in (130.0, 160.0):
        monkeypatch.setattr(bench, "measure", lambda *_, ours=ours: {"cpu": [(ours, 100.0)]})
        codes.append(bench.main(["--check"]))

    said = capsys.readouterr()
    assert codes == [0, 1]
    assert said.out.count("passed: every ratio is within 15% of what speed.md says") == 1
    assert "cpu: is 1.6, the docs say 1.3: +23%" in said.err
    assert page.read_bytes() == written


def test_a_row_that_is_measured_alone_leaves_the_others_in_the_table(bench: Any) -> None:
    page = "above\n<!-- own -->\n<!-- end of own -->\nbelow\n"
    both = {name: bench.as_row(name, bench.LINES[name], [(3.0, 2.0)]) for name in ("help", "cpu")}
    page = bench.with_rows(page, "own", both, rounds=5)

    page = bench.with_rows(page, "own", {"help": bench.as_row("help", bench.LINES["help"], [(4.0, 2.0)])}, rounds=5)

    assert bench.ratios_in(page) == {"cpu": 1.5, "help": 2.0}
    assert page.startswith("above\n")
    assert page.endswith("below\n")


def test_the_docs_have_no_line_that_is_not_measured(bench: Any) -> None:
    assert bench.ratios_in(bench.PAGE.read_text()).keys() <= bench.LINES.keys() | bench.RIVALS.keys()
