"""scripts/mutate: a change that no near test notices is reported, one that a test notices is counted."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
CODE = """\
LEAST = 10


def is_large(number: int) -> bool:
    return number > LEAST


def unreached() -> int:
    return 1
"""
TEST = """\
import batchcall.toy


def test_eleven_is_large():
    assert batchcall.toy.is_large(11)
    assert not batchcall.toy.is_large(9)
"""


TWO = "tests/test_toy.py::test_two"


@pytest.fixture
def mutate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script, for a project of one file and one test."""
    for path, text in (("batchcall/__init__.py", ""), ("batchcall/toy.py", CODE), ("tests/test_toy.py", TEST)):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = importlib.import_module("mutate")
    monkeypatch.setattr(script, "ROOMS", {"toy": (["batchcall/toy.py"], ["tests"])})
    return script


def test_what_no_near_test_notices_is_reported_and_the_rest_is_counted(
    mutate: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = mutate.main([f"--at=batchcall/toy.py:{line}" for line in (5, 9)], root=tmp_path)

    said = capfd.readouterr().out
    assert code == 1
    assert "survived  batchcall/toy.py:5\n    -    return number > LEAST\n    +    return number >= LEAST" in said
    assert said.count("no test   batchcall/toy.py:9") == 3
    assert said.count("killed    batchcall/toy.py:5") == 1
    assert (
        "all          5 mutants,    1 noticed (0 by their time), 4 survived, 3 of these reached by no near test" in said
    )
    assert (tmp_path / "batchcall/toy.py").read_text() == CODE


def test_a_constant_is_tried_with_the_tests_of_those_who_use_it_the_quickest_first(mutate: Any, tmp_path: Path) -> None:
    reach = mutate.Reach({"a": 2.0, "b": 1.0, "c": 0.0}, {"batchcall/toy.py": {5: {"a", "b"}, 9: {"c"}}})

    constant = mutate.all_mutants(tmp_path, ["batchcall"])[0]

    assert constant.applied(CODE.encode()).startswith(b"LEAST = (10 * 2)\n")
    assert reach.tests(constant, tmp_path) == ["b", "a"]


def test_what_runs_once_at_import_is_tried_with_all_tests_of_its_file(mutate: Any, tmp_path: Path) -> None:
    in_function = mutate.all_mutants(tmp_path, ["batchcall"])[-1]
    lines = {5: {"a", ""}, 6: {"b"}}

    def tests(lines: dict[int, set[str]]) -> Any:
        return mutate.Reach({"a": 2.0, "b": 1.0}, {"batchcall/toy.py": lines}).tests(in_function, tmp_path)

    assert in_function.function == "unreached"
    assert tests({**lines, 9: {""}}) == ["b", "a"]
    assert tests({**lines, 9: {"a", ""}}) == ["a"]
    assert tests(lines) == []


def test_a_mutant_that_never_ends_is_noticed_in_the_test_that_it_holds_up(
    mutate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "batchcall/toy.py").write_text(
        "def count(most):\n    n = 0\n    while n < most:\n        n += 1\n    return n\n"
    )
    (tmp_path / "tests/test_toy.py").write_text(
        "import batchcall.toy\n\n\ndef test_two():\n    assert batchcall.toy.count(2) == 2\n"
    )
    endless = next(one for one in mutate.all_mutants(tmp_path, ["batchcall"]) if one.instead == "pass")
    monkeypatch.setattr(mutate, "PATIENCE_S", 0.1)

    assert mutate.attempt(tmp_path, endless, mutate.Reach({TWO: 0.0}, {endless.path: {4: {TWO}}})) == "timed out"


def test_tests_that_fail_without_a_change_judge_nothing(mutate: Any, tmp_path: Path) -> None:
    (tmp_path / "tests/test_toy.py").write_text(TEST + "    assert False\n")

    assert mutate.main(["--at=batchcall/toy.py:5"], root=tmp_path) == 2


@pytest.mark.parametrize(("survivors", "code"), [(1, 0), (2, 1)])
def test_nine_of_ten_are_enough(
    mutate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivors: int, code: int
) -> None:
    ends = iter(["survived"] * survivors + ["killed"] * 10)
    monkeypatch.setattr(mutate, "attempt", lambda *_: next(ends))
    chosen = [("toy", mutant) for mutant in mutate.all_mutants(tmp_path, ["batchcall"])] * 2

    assert mutate.judge(tmp_path, chosen[:10], {"toy": mutate.Reach({}, {})}, math.inf) == code


def test_a_change_that_is_proven_to_change_nothing_is_not_a_mutant(
    mutate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(mutate.all_mutants(tmp_path, ["batchcall"]))
    same = {"toy.py is_large": (("return number > LEAST", "return number >= LEAST", "nobody asks for ten"),)}
    monkeypatch.setattr(mutate, "EQUIVALENT", same)

    assert len(mutate.all_mutants(tmp_path, ["batchcall"])) == before - 1


def test_whatever_is_listed_as_changing_nothing_is_still_in_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = importlib.import_module("mutate")

    for place, changes in script.EQUIVALENT.items():
        file = [f"batchcall/{place.partition(' ')[0]}"]
        for change in changes:
            with monkeypatch.context() as only:
                only.setattr(script, "EQUIVALENT", {})
                every = len(script.all_mutants(script.ROOT, file))
                only.setattr(script, "EQUIVALENT", {place: (change,)})
                assert len(script.all_mutants(script.ROOT, file)) < every, (place, change)
