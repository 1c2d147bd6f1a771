"""5,000 rows with every fault at fixed seeds, in virtual time: they end as they did with the engine before this one.

`as_before.json` was written by the engine before the gate had one queue. Only times are left out of it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from scripted_endpoint import BAD_KEY, TIMED_OUT, Answer, ScriptedTransport, completion, live, question, refusal

from batchcall.answers.read import Prepared
from batchcall.base.records import Failure, FailureKind, HttpResponse

ROWS = 5_000
BEFORE = Path(__file__).with_name("as_before.json")

# What a request may bring, and how often of a thousand times.
FAULTS: dict[str, tuple[int, Answer]] = {
    "not the schema's type": (20, completion('{"n": "many"}')),
    "repaired": (20, completion('{"n": 7,}')),
    "not JSON": (20, completion('{"n": ')),
    "no call": (10, HttpResponse(200, {}, b'{"choices": [{"index": 0, "message": {"content": "no"}}]}')),
    "not an answer": (10, HttpResponse(200, {}, b"<html>busy</html>")),
    "cut": (5, replace(completion(), is_cut=True)),
    "rate": (10, refusal(429, "rate_limit_exceeded", **{"retry-after": "2"})),
    "overloaded": (10, refusal(503, "overloaded")),
    "broken": (10, refusal(500, "server_error")),
    "rejected": (10, refusal(400, "invalid_request_error")),
    "too long": (5, refusal(400, "context_length_exceeded")),
    "wrong key by chance": (3, BAD_KEY),
    "timed out": (5, TIMED_OUT),
    "disconnected": (5, Failure(FailureKind.DISCONNECTED, "the connection was lost")),
    "unconnected": (5, Failure(FailureKind.UNCONNECTED, "no connection")),
}


class Faulty(ScriptedTransport):
    """Which answer a request brings depends on its row and on how often it came, and on nothing else."""

    def __init__(self, seed: int) -> None:
        super().__init__(lambda text, times: _answer(seed, text, times))
        self.seed = seed

    async def post(self, request: Any) -> HttpResponse | Failure:
        text = json.loads(request.body)["messages"][0]["content"]
        dice = random.Random(f"{self.seed} {text} {self.times[text]}")
        self.latency_s = dice.lognormvariate(0.0, 0.4)  # no two end in the same moment
        return await super().post(request)


def _answer(seed: int, text: str, times: int) -> Answer:
    dice = random.Random(f"{seed} {text} {times}")
    place = dice.randrange(1_000)
    for often, answer in FAULTS.values():
        place -= often
        if place < 0:
            return answer
    return completion(json.dumps({"n": dice.randrange(1_000)}))


def outcomes_of(seed: int, *, reasks: int, concurrency: int) -> dict[str, Any]:
    rows: list[Prepared] = [question(row) for row in range(ROWS)]
    run = live(Faulty(seed), rows, reasks=reasks, concurrency=concurrency)
    ends = [
        (
            one.row.index,
            one.outcome.status,
            one.outcome.arguments,
            one.outcome.attempts,
            one.outcome.usage.total_tokens,
            [(attempt.number, attempt.failure and attempt.failure.kind) for attempt in one.attempts],
        )
        for one in run.ended
    ]
    traffic = run.engine.steering.traffic
    return {
        "statuses": dict(sorted(Counter(str(end[1]) for end in ends).items())),
        "requests": traffic.requests,
        "answered": traffic.answered,
        "rows_paid_once": traffic.rows_paid_once,
        "possibly_paid_twice": dict(sorted(traffic.possibly_paid_twice.items())),
        "sha256 of the ends": hashlib.sha256(json.dumps(ends, default=str).encode()).hexdigest(),
    }


CASES = {"one in flight": (1, 0, 1), "64 in flight": (2, 0, 64), "64 in flight, asked again": (3, 2, 64)}


@pytest.mark.parametrize("case", CASES)
def test_rows_end_as_with_the_engine_before(case: str) -> None:
    seed, reasks, concurrency = CASES[case]

    ends = outcomes_of(seed, reasks=reasks, concurrency=concurrency)

    assert ends == json.loads(BEFORE.read_text())[case]


def test_control_another_seed_ends_in_another_way() -> None:
    ends = outcomes_of(9, reasks=0, concurrency=64)

    assert ends["sha256 of the ends"] != json.loads(BEFORE.read_text())["64 in flight"]["sha256 of the ends"]
