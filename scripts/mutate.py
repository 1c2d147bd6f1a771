"""Mutation tests: does a near test fail when one place of the code is wrong?"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

HELP = """\
Changes one place of the code at a time (a mutant: `<` becomes `<=`, a constant grows, a statement goes) and runs the
near tests that reach it. A mutant that no test notices has survived: it needs a test, or it changes nothing.

The mutants are a random sample of all that are possible, as many from each room; the same seed gives the same sample.
All work is done in a copy of the tree. First the near tests run once, to learn which of them reach which line.
Exit code: 0 when at least 90 % of the mutants were noticed, 1 when fewer, 2 when the near tests fail without a mutant.
"""

# The files of each room and the tests near them. A file's tests are those of this list that reach the changed line.
ROOMS: dict[str, tuple[list[str], list[str]]] = {
    "schemas": (["batchcall/schemas"], ["tests/schemas"]),
    "requests": (["batchcall/requests"], ["tests/requests"]),
    "pacing": (
        ["batchcall/pacing"],
        ["tests/pacing", "tests/engine/test_gate.py", "tests/engine/test_gate_moments.py"],
    ),
    "answers": (
        ["batchcall/answers"],
        ["tests/answers", "tests/engine/test_hostile_answers.py", "tests/base/test_redaction.py"],
    ),
    "dialects": (["batchcall/dialects"], ["tests/dialects"]),
    "output": (
        [f"batchcall/output/{name}.py" for name in ("journal", "journal_records", "parts", "waiting")],
        ["tests/output", "tests/test_partitions.py", "tests/test_damage.py"],
    ),
    "disk": (["batchcall/disk/disk_reserve.py"], ["tests/disk", "tests/output/test_journal.py"]),
    "engine": (["batchcall/engine/gate.py"], ["tests/engine"]),
    "report": (["batchcall/report/text.py"], ["tests/report"]),
}

# Mutants that are proven to change nothing: by file and function, what stands before, after, and why.
# fmt: off
EQUIVALENT: dict[str, tuple[tuple[str, str, str], ...]] = {
    "answers/arguments.py _quoted": (
        ("_SHOWN_TEXT + 1]", "(_SHOWN_TEXT + 1) + 1]", "any longer text is shortened to the same"),
        ("_SHOWN_TEXT + 1]", "_SHOWN_TEXT + (1 + 1)]", "any longer text is shortened to the same"),
    ),
    "answers/repair.py _keep_last_snapshot": (
        ("pieces, place = [], 0", "pieces, place = [], (0 - 1)",
         "to look from before the start is to look from the start"),
    ),
    "answers/repair.py _read_repaired": (
        ('raise NotJson(f"encoded more than {_MAX_ENCODINGS} times")', "pass",
         "what is no object passes no schema either"),
    ),
    "answers/repair.py read_json": (
        ("if len(text) > MAX_DEPTH", "if len(text) >= MAX_DEPTH", "a text has no more brackets than characters"),
    ),
    "dialects/deltas.py _in_chat": (
        ('"choices", 0, "delta", name, 0,', '"choices", (0 - 1), "delta", name, 0,', "there is one choice"),
    ),
    "dialects/reask.py _quoted_calls": (
        ("return []", "return None", "its caller asks only whether there are any"),
    ),
    "engine/gate.py __init__": (
        ("_not_before_s = 0.0", "_not_before_s = (0.0 + 1)", "the loop's clock is past it"),
        ("_not_before_s = 0.0", "_not_before_s = (0.0 - 1)", "the loop's clock is past it"),
    ),
    "output/parts.py ": (
        ("_WRITE_BYTES = 1 << 18", "_WRITE_BYTES = (1 + 1) << 18", "a buffer of another size writes the same bytes"),
        ("_WRITE_BYTES = 1 << 18", "_WRITE_BYTES = 1 << (18 // 2)", "a buffer of another size writes the same bytes"),
        ("_WRITE_BYTES = 1 << 18", "_WRITE_BYTES = 1 << (18 * 2)", "a buffer of another size writes the same bytes"),
    ),
    "pacing/breaker.py __init__": (
        ("self.last_failure: Failure | None = None", "pass", "a breaker is open by a failure, which sets it"),
    ),
    "pacing/breaker.py failed": (
        ("or 0.0)", "or (0.0 - 1))", "the wait beside it is longer than either"),
    ),
    "pacing/breaker.py gave_up": (
        ("_IN_A_ROW - 1", "_IN_A_ROW + 1", "it is compared only after the next failure is added"),
        ("_IN_A_ROW - 1", "_IN_A_ROW - (1 - 1)", "it is compared only after the next failure is added"),
    ),
    "pacing/health.py ": (
        ("1, 1, ", "1, (1 - 1), ", "the first in a row is not fewer than either"),
        ("1, 1, ", "(1 - 1), 1, ", "the first in a row is not fewer than either"),
    ),
    "pacing/health.py saw_reply": (
        ("self._judged += 1", "self._judged += 1; self._judged += 1",
         "it is asked only whether a later one is the first"),
    ),
    "pacing/pacer.py __init__": (
        ("self.is_beyond_open = False ", "pass ", "it is asked for behind a failure, which sets it"),
        ("self._quota_paused_until_s = 0.0", "pass", "it is set with `_quota`, and looked at only where that is set"),
        ("_paused_until_s = 0.0", "_paused_until_s = (0.0 + 1)",
         "it is set with `_quota`, and looked at only where that is set"),
        ("_paused_until_s = 0.0", "_paused_until_s = (0.0 - 1)",
         "it is set with `_quota`, and looked at only where that is set"),
    ),
    "pacing/pacer.py _ramped": (
        ("max(0.0, ", "max((0.0 - 1), ", "no moment is before the one that it is counted from"),
    ),
    "pacing/pacer.py orders": (
        ("else 0.0)", "else (0.0 - 1))", "it is the largest of several that are never less than 0"),
    ),
    "pacing/proxy_cutoffs.py same_second": (
        ("(1)[0]", "(1)[(0 - 1)]", "the first of one is the last"),
        ("(1)[0]", "((1 + 1))[0]", "the first of one is that of two"),
    ),
    "pacing/random_refusals.py __init__": (
        ('self._since_s = float("-inf") ', "pass ", "it is looked at where a trial was, which an overload began"),
    ),
    "pacing/window.py __init__": (
        ("_found_at_s = 0.0", "_found_at_s = (0.0 - 1)", "it is set with `is_found`"),
        ("_found_at_s = 0.0", "_found_at_s = (0.0 + 1)", "it is set with `is_found`"),
    ),
    "requests/template_limits.py joined": (
        ("length > MAX_CHARACTERS", "length >= MAX_CHARACTERS", "what it asks then decides: beyond, and not at"),
    ),
    "schemas/judge.py _excerpt": (
        ("value[: _SHOWN_VALUE + 1]", "value[: (_SHOWN_VALUE + 1) + 1]", "any longer text is shortened to the same"),
        ("key[: _SHOWN_VALUE + 1]", "key[: _SHOWN_VALUE - 1]", "a brace and a quote come before"),
        ("_SHOWN_VALUE + 1]", "_SHOWN_VALUE + (1 + 1)]", "what is shown of it is shortened to the same"),
    ),
    "schemas/judge.py units_a_name": (
        ("if id(patterns) not in self.costs:", "if True:", "the same comes out when it is counted again"),
    ),
    "schemas/lint.py _needed": (
        ('enumerate(as_list(schema.get("allOf")))]',
         'enumerate(as_list(schema.get("allOf")))]; waiting += '
         '[(f"{path}/allOf/{i}", one, place.kinds) for i, one in enumerate(as_list(schema.get("allOf")))]',
         "a schema is looked at once"),
    ),
}
# fmt: on

ENOUGH = 0.9
AT_IMPORT = ""  # stands for the tests that run a line, where all need what it did once
NOTHING_RAN = 5  # an exit code of pytest
PATIENCE_S = 20.0  # with one test; three times as long as it took is added
MOST_MEMORY = 4 << 30  # bytes of a test run: a mutant may loop and grow
SILENT = {"debug", "info", "warning", "log", "warn"}  # calls that only write a message
OPPOSITE: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
}


@dataclass(frozen=True)
class Mutant:
    """One place of one file and what stands there instead."""

    path: str  # from the root
    function: str  # the innermost; empty outside of all
    start: int  # bytes
    end: int
    instead: str
    lines: frozenset[int]  # a test that runs none of them cannot notice,
    names: frozenset[str]  # nor runs a line with one of these: the constant it changes, outside of all functions

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.instead.encode() + source[self.end :]

    def line(self, source: bytes) -> int:
        return source.count(b"\n", 0, self.start) + 1

    def diff(self, source: bytes) -> list[str]:
        before, after = (text.decode().splitlines() for text in (source, self.applied(source)))
        return [line for line in list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:] if line[0] in "+-"]

    def is_equivalent(self, source: bytes) -> bool:
        if not (known := EQUIVALENT.get(f"{self.path.removeprefix('batchcall/')} {self.function}")):
            return False
        diff = self.diff(source)
        removed, added = ([line[1:].strip() for line in diff if line[0] == sign] for sign in "-+")
        return any([one.replace(before, after) for one in removed] == added for before, after, _ in known)


@dataclass
class Finder(ast.NodeVisitor):
    """All mutants of a file. Annotations, decorators, docstrings, messages and what is raised are no targets."""

    path: str
    source: bytes
    found: list[Mutant] = field(default_factory=list)
    _lines: frozenset[int] = frozenset()
    _names: frozenset[str] = frozenset()
    _function: str = ""

    def __post_init__(self) -> None:
        self._starts = [0]
        for line in self.source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def span(self, node: Any) -> tuple[int, int]:
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.source[start:end].decode()

    def add(self, node: ast.AST, *instead: str) -> None:
        for one in instead:
            self._add(*self.span(node), one)

    def _add(self, start: int, end: int, instead: str) -> None:
        self.found.append(Mutant(self.path, self._function, start, end, instead, self._lines, self._names))

    def add_between(self, left: ast.AST, right: ast.AST, operator: ast.AST) -> None:
        """The operator between two operands becomes its opposite."""
        if type(operator) in OPPOSITE:
            start, end = self.span(left)[1], self.span(right)[0]
            before, after = OPPOSITE[type(operator)]
            place = start + self.source[start:end].decode().index(before)
            self._add(place, place + len(before), after)

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            self._enter(node)
        super().visit(node)

    def _enter(self, node: ast.stmt) -> None:
        body = getattr(node, "body", None) or getattr(node, "cases", None)
        end = self._first_line(body[0]) - 1 if body else node.end_lineno
        self._lines = frozenset(range(node.lineno, max(end or 0, node.lineno) + 1))
        if not self._function:
            targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
            self._names = frozenset(
                one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)
            )

    @staticmethod
    def _first_line(node: Any) -> int:
        return int(getattr(node, "lineno", 0) or node.pattern.lineno)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outside = self._function, self._names
        self._function, self._names = node.name, frozenset()
        self._lines = frozenset(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                self.visit(default)
        self._visit_all(node.body)
        self._function, self._names = outside

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if not any("Protocol" in ast.unparse(base) for base in node.bases):
            self._visit_all(node.body)

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assigned(node, [node.target])
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if ast.unparse(node.targets[0]) not in ("__slots__", "__all__"):
            self._assigned(node, node.targets)
            self.visit(node.value)

    def _assigned(self, node: ast.stmt, targets: list[ast.expr]) -> None:
        if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets):
            self.add(node, "pass")

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.add(node, "pass")
        if not isinstance(node.op, ast.BitOr | ast.BitAnd):  # done twice, these come to the same
            self.add(node, f"{self.text(node)}; {self.text(node)}")
        self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(call, ast.Call):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            if name in SILENT:
                return
            self.add(node, "pass")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        if node.exc is not None:
            self.add(node, "pass")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            known = node.value.value if isinstance(node.value, ast.Constant) else ...
            if known is not None:  # and to most who ask, None is False
                self.add(node, f"return {not known}" if isinstance(known, bool) else "return None")
            self.visit(node.value)

    def visit_Continue(self, node: ast.Continue | ast.Break) -> None:
        self.add(node, "pass")

    visit_Break = visit_Continue

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        self.add(node.test, "True", "False")
        self.generic_visit(node)

    visit_IfExp = visit_If

    def visit_While(self, node: ast.While) -> None:
        self.add(node.test, "False")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.add(test, "True")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for (left, right), operator in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
            self.add_between(left, right, operator)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in pairwise(node.values):
            self.add_between(left, right, node.op)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not any(
            isinstance(side, (ast.JoinedStr, ast.List, ast.Tuple)) or _is_text(side) for side in (node.left, node.right)
        ):
            self.add_between(node.left, node.right, node.op)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.add(node, f"bool({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
            self.add(node.func, "max" if node.func.id == "min" else "min")
        if isinstance(node.func, ast.Name) and node.func.id in ("cast", "TypeVar"):
            return
        self.generic_visit(node)

    def visit_Slice(self, node: ast.Slice) -> None:
        for bound in (node.lower, node.upper):
            if bound is not None and not isinstance(bound, ast.Constant):  # a constant is changed as one
                self.add(bound, f"({self.text(bound)}) + 1")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, int | float) and not isinstance(node.value, bool):
            text = self.text(node)
            by = ("+ 1", "- 1") if abs(node.value) <= 4 else ("* 2", "// 2")  # so that it makes a difference
            self.add(node, *(f"({text} {change})" for change in by))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))


@dataclass
class Reach:
    """Which tests run which line, and how long each of them takes: learnt from one run of the near tests."""

    seconds: dict[str, float]
    by_line: dict[str, dict[int, set[str]]]  # by path
    _mentions: dict[str, set[str]] = field(default_factory=dict)

    def tests(self, mutant: Mutant, root: Path) -> list[str]:
        """Those that reach the mutant, the quickest first."""
        lines = self.by_line.get(mutant.path, {})
        reached = {test for line in mutant.lines for test in lines.get(line, ())}
        for name in mutant.names:
            reached |= self._of_name(name, root)
        if reached <= {AT_IMPORT} and (reached or not mutant.function):
            reached = {test for tests in lines.values() for test in tests}
        return sorted(reached - {AT_IMPORT}, key=lambda test: (self.seconds[test], test))

    def longest_s(self, tests: list[str]) -> dict[str, float]:
        """How long each may take."""
        return {test: PATIENCE_S + 3 * self.seconds[test] for test in tests}

    def _of_name(self, name: str, root: Path) -> set[str]:
        """The tests of all lines that mention a constant."""
        if name not in self._mentions:
            found = self._mentions[name] = set()
            for path, lines in self.by_line.items():
                for number, text in enumerate((root / path).read_text().splitlines(), start=1):
                    if re.search(rf"\b{name}\b", text):
                        found |= lines.get(number, set())
        return self._mentions[name]


def all_mutants(root: Path, places: Iterable[str]) -> list[Mutant]:
    """Of the files and folders in `places`, in the order of the code."""
    found: list[Mutant] = []
    for place in places:
        for file in sorted((root / place).rglob("*.py")) if (root / place).is_dir() else [root / place]:
            finder = Finder(str(file.relative_to(root)), file.read_bytes())
            finder.visit(ast.parse(finder.source))
            found += [one for one in finder.found if not one.is_equivalent(finder.source)]
    return found


def sample(root: Path, rooms: Iterable[str], *, count: int, seed: int) -> list[tuple[str, Mutant]]:
    """As many mutants of each room; where a room has no more, the others give theirs."""
    decks = []
    for room in rooms:
        deck = all_mutants(root, ROOMS[room][0])
        random.Random(f"{seed} {room}").shuffle(deck)
        decks.append([(room, mutant) for mutant in deck])
    return [one for deal in zip_longest(*decks) for one in deal if one is not None][:count]


def main(arguments: list[str] | None = None, *, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--room", action="append", choices=sorted(ROOMS), help="only this room; can be repeated (all)")
    parser.add_argument("--count", type=int, default=100, help="how many mutants (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument("--minutes", type=float, default=60.0, help="start no mutant after this time (60)")
    parser.add_argument(
        "--at", metavar="FILE:LINE", action="append", help="all mutants of this line instead of a sample"
    )
    asked = parser.parse_args(arguments)
    until_s = time.monotonic() + asked.minutes * 60
    rooms = asked.room or list(ROOMS)
    if asked.at:
        every = [(room, mutant) for room in rooms for mutant in all_mutants(root, ROOMS[room][0])]
        chosen = [
            (room, one) for room, one in every if f"{one.path}:{one.line((root / one.path).read_bytes())}" in asked.at
        ]
        rooms = sorted({room for room, _ in chosen})
    else:
        chosen = sample(root, rooms, count=asked.count, seed=asked.seed)
    with tempfile.TemporaryDirectory(prefix="batchcall-mutate-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "site"))
        reach = {}
        for room in rooms:
            if (learnt := learn(copy, ROOMS[room][1])) is None:
                return 2
            reach[room] = learnt
        if not are_sound(copy, chosen, reach):
            return 2
        return judge(copy, chosen, reach, until_s)


def are_sound(copy: Path, chosen: list[tuple[str, Mutant]], reach: dict[str, Reach]) -> bool:
    """Whether tests pass in this choice and order when nothing was changed: else every mutant would seem noticed."""
    first = dict(reversed(chosen))
    for room, mutant in first.items():
        tests = reach[room].tests(mutant, copy)
        if tests and exit_code(copy, reach[room].longest_s(tests), shows=True) != 0:
            print(f"{room}: the tests of {mutant.path} fail without a mutant")
            return False
    return True


def judge(copy: Path, chosen: list[tuple[str, Mutant]], reach: dict[str, Reach], until_s: float) -> int:
    """Try each mutant and report it; the exit code."""
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    for room, mutant in chosen:
        if time.monotonic() > until_s:
            break
        source = (copy / mutant.path).read_bytes()
        end = attempt(copy, mutant, reach[room])
        ends[room][end] += 1
        print(f"{end:9} {mutant.path}:{mutant.line(source)}", flush=True)
        if end != "killed":
            print("\n".join(f"    {line}" for line in mutant.diff(source)), flush=True)
    total = sum(ends.values(), Counter[str]())
    for room, counts in [*ends.items(), ("all", total)]:
        survived, timed_out = counts["survived"] + counts["no test"], counts["timed out"]
        print(f"{room:9} {counts.total():4} mutants, {counts.total() - survived:4} noticed", end="")
        print(
            f" ({timed_out} by their time), {survived} survived, {counts['no test']} of these reached by no near test"
        )
    noticed = total["killed"] + total["timed out"]
    return 0 if noticed >= ENOUGH * total.total() else 1


def attempt(copy: Path, mutant: Mutant, reach: Reach) -> str:
    """How the mutant ended. The copy is afterwards as it was."""
    tests = reach.tests(mutant, copy)
    if not tests:
        return "no test"
    file = copy / mutant.path
    source = file.read_bytes()
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):  # its time and size may be the same
        compiled.unlink()
    file.write_bytes(mutant.applied(source))
    try:
        code = exit_code(copy, reach.longest_s(tests))
    finally:
        file.write_bytes(source)
    return "timed out" if code is None else "killed" if code else "survived"


def learn(copy: Path, places: list[str]) -> Reach | None:
    """Run all near tests of a room once. None, and their output is printed, when they fail."""
    if exit_code(copy, {}, places=places, shows=True) != 0:
        return None
    learnt = json.loads((copy / "reach.json").read_text())
    by_line = {
        path: {int(line): set(tests) for line, tests in lines.items()} for path, lines in learnt["by_line"].items()
    }
    return Reach(learnt["seconds"], by_line)


def exit_code(
    copy: Path, longest_s: dict[str, float], *, places: Iterable[str] = (), shows: bool = False
) -> int | None:
    """The exit code of a run of these tests in the copy; None when one of them took too long. `shows`: what a failure
    said. With `places`, all tests there are run, and `reach.json` says which lines they run."""
    (copy / "tests.json").write_text(json.dumps({"longest_s": longest_s, "places": list(places)}))
    # Names of tests may hold the order of a set.
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONHASHSEED": "0", "COVERAGE_CORE": "ctrace"}
    if not places:
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "--run-tests"],
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY)),
    )
    try:
        said, _ = process.communicate(timeout=1800 if places else 60 + sum(longest_s.values()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    if shows and process.returncode:
        print(said.decode("utf-8", "replace"))
    if process.returncode == NOTHING_RAN:
        raise RuntimeError(f"none of these tests was found again: {list(longest_s)}")
    return None if process.returncode == -signal.SIGALRM else process.returncode


def run_tests() -> int:
    """The other side of `exit_code`: in a process of its own, in the copy."""
    import coverage  # noqa: PLC0415  # only here, as pytest
    import pytest  # noqa: PLC0415

    asked = json.loads(Path("tests.json").read_text())
    longest_s: dict[str, float] = asked["longest_s"]
    rank = {test: place for place, test in enumerate(longest_s)}
    measured = coverage.Coverage(source=["batchcall"], data_file=None) if asked["places"] else None
    seconds: dict[str, float] = {}

    class Plugin:
        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(self, items: list[Any]) -> None:
            if rank:
                items[:] = sorted((one for one in items if one.nodeid in rank), key=lambda one: rank[one.nodeid])

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
            if measured is not None:
                measured.switch_context(item.nodeid)
            signal.setitimer(signal.ITIMER_REAL, longest_s.get(item.nodeid, 0))  # ends the process: a mutant may loop
            began_s = time.monotonic()
            result = yield
            seconds[item.nodeid] = time.monotonic() - began_s
            return result

    places = asked["places"] or sorted({test.partition("::")[0] for test in longest_s})
    command = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0", *places]
    if measured is None:
        return int(pytest.main(command, plugins=[Plugin()]))
    measured.start()
    code = int(pytest.main(command, plugins=[Plugin()]))
    measured.stop()
    here, data = os.path.realpath("."), measured.get_data()
    by_line = {os.path.relpath(file, here): data.contexts_by_lineno(file) for file in data.measured_files()}
    Path("reach.json").write_text(json.dumps({"seconds": seconds, "by_line": by_line}))
    return code


if __name__ == "__main__":
    sys.exit(run_tests() if sys.argv[1:] == ["--run-tests"] else main())
