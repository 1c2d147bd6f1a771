"""Schemas and answers by dice: how long an answer takes, and whether an independent validator gives its verdict."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import jsonschema_rs  # noqa: E402  # found by the line above
from bench_streams import longest_wait  # noqa: E402

from batchcall.answers.arguments import Toolbox  # noqa: E402
from batchcall.base.records import RawCall, Reply, Tool  # noqa: E402
from batchcall.http.beside import LONG_BODY, beside  # noqa: E402
from batchcall.schemas.field_types import json_text  # noqa: E402
from batchcall.schemas.walk import SchemaError  # noqa: E402
from schema_making import compared, deep, hostile, random_schema, random_value  # noqa: E402

LONGEST_S = 1.0
MOST_BYTES = 150 << 20

HELP = f"""\
work:     the schemas that were made to be dear, once each; then, for --minutes, recursive schemas with wrong leaves
          down to 150 deep. Each answer is read as in a run, with every repair, a long one beside the event loop.
          None may keep the loop for more than {LONGEST_S:g} s of CPU, and all together may take no more than
          {MOST_BYTES >> 20} MB of memory. --without-budget lets the validator explain: it must fail.
verdicts: random schemas of three drafts with values that fit or do not, judged by batchcall and by Python's jsonschema.
          No verdict may differ, but for the exceptions in tests/schema_making.py.
Exit code: 0 none, 1 some.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["work", "verdicts"])
    parser.add_argument("--minutes", type=float, default=5.0, help="how long random ones (5)")
    parser.add_argument("--seed", type=int, default=0, help="of everything (0)")
    parser.add_argument("--answers", type=int, default=1_000_000, help="verdicts to compare at most (1,000,000)")
    parser.add_argument("--without-budget", action="store_true", help="the control")
    asked = parser.parse_args()
    if asked.what == "verdicts":
        return _compare(asked.seed, asked.answers, time.monotonic() + asked.minutes * 60)
    return _work(asked.seed, asked.minutes * 60, read=_explained_without_budget if asked.without_budget else _read)


def _compare(seed: int, answers: int, until_s: float) -> int:
    done = valid = excepted = differing = slices = 0
    while done < answers and time.monotonic() < until_s:
        counted = compared(random.Random(f"{seed} {slices}"), schemas=200, values=20)
        for schema, value, verdict in counted.differing:
            print(f"slice {slices}: {verdict} of {value!r} by {schema!r}", flush=True)
        done, valid, excepted = done + counted.answers, valid + counted.valid, excepted + counted.excepted
        differing, slices = differing + len(counted.differing), slices + 1
    print(f"{done:,} verdicts of seed {seed} ({valid:,} valid): {differing:,} differ, {excepted:,} excepted")
    return 1 if differing else 0


def _work(seed: int, random_s: float, *, read: Any) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failed = 0
    for what, cases in (("made to be dear", _dear()), ("random", _random(seed, random_s))):
        done, longest, slowest = 0, 0.0, "none"
        for name, schema, value in cases:
            try:
                took_s = read({"type": "object", **schema}, value)
            except SchemaError:
                continue
            done += 1
            if took_s > longest:
                longest, slowest = took_s, name
            if took_s > LONGEST_S:
                failed += 1
                print(f"{name}: {took_s:.2f} s", flush=True)
        print(f"{done:,} answers {what}: the longest took {longest:.2f} s ({slowest})", flush=True)
        failed += done == 0
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    print(f"seed {seed}: {failed} failed; {grown >> 20} MB more memory")
    return 1 if failed or grown > MOST_BYTES else 0


def _dear() -> Iterator[tuple[str, dict[str, Any], Any]]:
    for name, (schema, values) in hostile().items():
        yield from ((f"{name} {number}", schema, value) for number, value in enumerate(values))


def _random(seed: int, seconds: float) -> Iterator[tuple[str, dict[str, Any], Any]]:
    until_s = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until_s:
        yield _case(seed, number)
        number += 1


def _case(seed: int, number: int) -> tuple[str, dict[str, Any], Any]:
    dice = random.Random(f"{seed} {number}")
    schema = random_schema(dice, recursive=True)
    if dice.random() < 0.3:
        return f"answer {number}", schema, random_value(dice, schema)
    return (
        f"answer {number}",
        schema,
        deep(dice, dice.choice([3, 10, 30, 60, 150]), dice.choice(["s", 1, None, {}, [1]])),
    )


def _read(schema: dict[str, Any], value: Any) -> float:
    """Seconds of CPU in which the event loop has to wait while a run reads an answer, the schema compiled before."""
    toolbox = Toolbox.of([Tool("record", schema, {})])
    reply = Reply((RawCall("record", json_text(value), id="c"),), finish_reason="tool_calls")

    def read() -> object:
        return toolbox.read(reply, repair=True, coerce=True, max_tokens=None).status

    if len(reply.calls[0].arguments) > LONG_BODY:
        return asyncio.run(longest_wait(partial(beside, read)))[0]
    begun_s = time.process_time()
    read()
    return time.process_time() - begun_s


def _explained_without_budget(schema: dict[str, Any], value: Any) -> float:
    """As `_read`, with the validator's own errors. It hears no signal meanwhile: the kernel ends it."""
    begun_s = time.process_time()
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        validator = jsonschema_rs.validator_for(schema, pattern_options=jsonschema_rs.RegexOptions(), offline=True)
        for _ in zip(range(3), validator.iter_errors(value), strict=False):
            pass
        os._exit(0)
    _, status, used = os.wait4(pid, 0)
    return used.ru_utime + used.ru_stime if status else time.process_time() - begun_s


if __name__ == "__main__":
    sys.exit(main())
