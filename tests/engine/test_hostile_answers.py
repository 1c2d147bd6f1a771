"""Whatever an endpoint answers, its row ends, and the part that holds it is written and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcall.answers.arguments import Toolbox
from batchcall.answers.read import AnswerParser, Prepared
from batchcall.base.records import Attempt, HttpResponse, Outcome, Request, Row, Shape, Status, Tool, Usage
from batchcall.dialects import DIALECTS
from batchcall.disk.disk import RealDisk
from batchcall.output.columns import Layout
from batchcall.output.parts import Totals, read_rows, read_totals, write_part
from batchcall.pacing.price import cost_of

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "t": {"type": "string"}, "x": {}, "l": {"type": "array", "items": {}}},
}
TOOL = Tool("f", PARAMETERS, {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}})
TOOLBOX = Toolbox.of([TOOL])
LAYOUT = Layout(pa.schema([]), TOOLBOX.arguments_type)

BEYOND = [2**63 - 1, 2**63, 2**64, -(2**70), 10**30, 1e300, -1.0, 1.5, True, "12", "-3", "9" * 19, None, [], {}]
HALVES = ["\ud800", "a\udfffb", "\x00", "", "a" * 5_000, "名", 7, 1e300, None, {}, ["x"]]
counts = st.sampled_from(BEYOND) | st.integers() | st.floats()
texts = st.sampled_from(HALVES) | st.text()


def completion(**fields: Any) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"n": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    said: dict[str, Any] = {"id": "r", "model": "m", "choices": [{"message": message, "finish_reason": "stop"}]}
    return {**said, **fields}


def outcome_of(body: Any, *, status: int = 200, price: float = 1.0, row: int = 0) -> Outcome:
    return outcome_of_bytes(json.dumps(body).encode(), status=status, price=price, row=row)


def outcome_of_bytes(body: bytes, *, status: int = 200, price: float = 1.0, row: int = 0, requests: int = 1) -> Outcome:
    return outcome_of_responses([HttpResponse(status, {}, body)] * requests, price=price, row=row)


def outcome_of_responses(
    responses: list[HttpResponse],
    *,
    price: float = 1.0,
    row: int = 0,
    protocol: str = "openai-chat",
    before: Outcome | None = None,
) -> Outcome:
    reader = AnswerParser(
        dialect=DIALECTS[protocol],
        repair=True,
        coerce=False,
        pricing=lambda model, usage: cost_of(usage, prompt=price, completion=price),
    )
    asked = Prepared(Row(row, {}, "row"), Request(Shape("m", (TOOL,)), []), "h", TOOLBOX, before=before)
    attempts = [
        Attempt(row, number, "h", response, None, 1.0, 0.5, 0.0, "e")
        for number, response in enumerate(responses, start=1)
    ]
    return reader.outcome(asked, [reader.read(attempt, asked) for attempt in attempts])


def written_and_read(folder: Path, outcomes: list[Outcome]) -> tuple[list[Outcome], Totals]:
    totals = Totals()
    for outcome in outcomes:
        totals.count(outcome)
    path = folder / "part-000000.parquet"
    write_part(RealDisk(), path, LAYOUT, [LAYOUT.batch([({}, outcome) for outcome in outcomes])], totals)
    return [outcome for _, outcome in read_rows(RealDisk(), path, LAYOUT)], read_totals(RealDisk(), path)


@settings(deadline=None, max_examples=30)
@given(
    usage=st.dictionaries(
        st.sampled_from(
            ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "input_tokens"]
        ),
        counts | st.dictionaries(st.just("cached_tokens"), counts),
    ),
    said=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("id", "model", "system_fingerprint", "created", "object"), texts)
    ),
    name=texts,
    identity=texts,
    reason=texts,
    content=texts,
    arguments=texts | st.sampled_from([{"n": 10**40}, {"t": "\udc00"}, {"\ud800": 1}, {"x": {"\ud800": "\ud800"}}]),
    status=st.sampled_from([0, 99, 200, 299, 500, 599, 999, 1000, 70_000]),
    price=st.sampled_from([0.0, 1e308]),
)
def test_no_value_that_an_endpoint_sends_keeps_a_part_from_being_written_and_read(
    tmp_path_factory: pytest.TempPathFactory,
    usage: dict[str, Any],
    said: dict[str, Any],
    name: Any,
    identity: Any,
    reason: Any,
    content: Any,
    arguments: Any,
    status: int,
    price: float,
) -> None:
    written = arguments if isinstance(arguments, str | dict) else json.dumps(arguments)
    call = {"id": identity, "type": "function", "function": {"name": name, "arguments": written}}
    choice = {"message": {"content": content, "tool_calls": [call]}, "finish_reason": reason}
    body = completion(**said, usage=usage, choices=[choice])
    outcomes = [outcome_of(body, status=status, price=price, row=row) for row in range(3)]

    read, totals = written_and_read(tmp_path_factory.mktemp("part"), outcomes)

    assert [one.status for one in read] == [one.status for one in outcomes]
    assert [one.usage for one in read] == [one.usage for one in outcomes]
    assert totals.rows == 3


@pytest.mark.parametrize("count", [2**63 - 1, 2**62, 2**40 + 1, -1, 1.5, 1e300, True, "many", float("nan"), 10**30])
def test_a_count_that_no_model_can_use_counts_as_not_given(count: Any) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": 3, "total_tokens": 2**40}

    assert outcome_of(completion(usage=usage)).usage == Usage(None, 3, 2**40)


IMPOSSIBLE = {
    "openai-chat": {"usage": {"prompt_tokens": 9, "completion_tokens": 2**41}},
    "openai-responses": {"usage": {"input_tokens": 9, "output_tokens_details": {"reasoning_tokens": -1}}},
    "anthropic": {"usage": {"input_tokens": 9, "output_tokens": 3, "cache_read_input_tokens": "many"}},
    "gemini": {"usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 1e300}},
}
ENDED = {
    "openai-chat": {"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]},
    "openai-responses": {"status": "completed", "output": [{"type": "message", "content": "ok"}]},
    "anthropic": {"stop_reason": "end_turn", "content": "ok"},
    "gemini": {"candidates": [{"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP"}]},
}


@pytest.mark.parametrize("protocol", DIALECTS)
@pytest.mark.parametrize("is_answer", [True, False])
def test_a_count_that_is_left_out_is_noted_on_the_row_whichever_attempt_gave_it(protocol: str, is_answer: bool) -> None:
    def repairs(usage: Any) -> tuple[str, ...]:
        first = {**(ENDED[protocol] if is_answer else {"error": {"message": "busy"}}), **usage}
        bodies = [(200 if is_answer else 503, first), (200, ENDED[protocol])]
        responses = [HttpResponse(status, {}, json.dumps(body).encode()) for status, body in bodies]
        return outcome_of_responses(responses, protocol=protocol).repairs

    (words,) = IMPOSSIBLE[protocol]

    assert repairs(IMPOSSIBLE[protocol]) == ("impossible_count",)
    assert repairs({words: {"input_tokens": 9, "promptTokenCount": 9, "other_tokens": -1}}) == ()


def test_a_count_that_was_left_out_stays_noted_when_its_row_is_tried_again() -> None:
    answer = HttpResponse(200, {}, json.dumps(ENDED["openai-chat"]).encode())
    before = Outcome(0, Status.TRUNCATED, repairs=("trailing_comma", "impossible_count"))

    assert outcome_of_responses([answer], before=before).repairs == ("impossible_count",)


def test_the_largest_counts_of_many_requests_add_up_without_an_overflow(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 2**40, "completion_tokens": 2**40, "total_tokens": 2**40}
    body = json.dumps(completion(usage=usage)).encode()
    once = outcome_of_bytes(body, requests=100)
    held = Outcome(row=1, status=Status.OK, usage=Usage(2**63 - 1, 2**63 - 1, 2**63 - 1))  # as versions before wrote it

    read, totals = written_and_read(tmp_path, [once, held])

    assert read[0].usage.prompt_tokens == 100 * 2**40
    assert totals.prompt_tokens == totals.total_tokens == 2**63 - 1
    assert (held.usage + once.usage).total_tokens == 2**63 - 1


@pytest.mark.parametrize(
    ("status", "ended"),
    [(200, Status.OK), (500, Status.OK), *((status, Status.BAD_RESPONSE) for status in (0, 99, 600, 999))],
)
def test_a_completion_with_a_status_that_http_does_not_know_is_not_a_success(status: int, ended: Status) -> None:
    outcome = outcome_of(completion(usage={"prompt_tokens": 1, "completion_tokens": 1}), status=status)

    assert (outcome.status, outcome.http_status) == (ended, status)
    assert outcome.usage.total_tokens == 2  # it may well be billed
    assert (str(status) in (outcome.error or "")) == (ended is not Status.OK)
