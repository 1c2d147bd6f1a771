"""`ok` means that the row's data is there: in its columns, or named in its `error` and counted by the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from answering import endpoint
from batchcall import RunOptions, run_job
from batchcall.answers.arguments import Toolbox
from batchcall.answers.read import AnswerParser, Prepared
from batchcall.base.records import Attempt, HttpResponse, Outcome, Request, Row, Shape, Status, Tool
from batchcall.commands.revalidate import revalidate_job
from batchcall.dialects import DIALECTS
from batchcall.disk.disk import RealDisk
from batchcall.output.runfile import read_runfile
from batchcall.report.text import summary_text
from running import results, some_rows, write_job, write_rows

LOOSE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "record_person",
        "parameters": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "homes": {"type": "array", "items": {"type": "object", "properties": {"city": {"type": "string"}}}},
            },
        },
    },
}


WITH_MORE = json.dumps({"name": "Ada", "age": 36, "homes": [{"city": "London"}, {"city": "Paris", "since": 1840}]})
TOLD = "left out: no column for /age, /homes/*/since of the arguments, see `calls`"


async def test_members_without_a_column_are_named_and_counted_once_through_resume_growth_and_revalidate(
    tmp_path: Path,
) -> None:
    async with endpoint(lambda prompt: WITH_MORE) as url:
        job = write_job(tmp_path, url=url, rows=6, part_rows=4, tool=LOOSE)
        notes: list[str] = []

        first = await run_job(job, RunOptions(limit=2), say=notes.append)
        second = await run_job(job)
        write_rows(tmp_path / "rows.jsonl", some_rows(7))
        third = await run_job(job)
        nothing = await run_job(job)
    revalidated = [revalidate_job(job).left_out_of_arguments for _ in range(2)]

    counted = [summary.left_out_of_arguments for summary in (first, second, third, nothing)]
    assert counted == [*({"/age": rows, "/homes/*/since": rows} for rows in (2, 4, 1)), {}]
    assert first.as_json()["this_run"]["left_out_of_arguments"] == counted[0]
    assert first.as_json()["this_run"]["left_out"] == {}
    assert "of the arguments, /age in 2 rows" in summary_text(first)
    assert "of the arguments, /age in 2 rows" in notes[-1]
    runfile = read_runfile(RealDisk(), tmp_path / "out" / "_batchcall")
    assert runfile is not None
    assert [run.left_out_of_arguments for run in runfile.runs] == counted
    assert revalidated == [{"/age": 7, "/homes/*/since": 7}] * 2
    rows = results(tmp_path / "out")
    assert [(row["status"], row["error"]) for row in rows] == [("ok", TOLD)] * 7
    assert rows[0]["arguments"] == {"name": "Ada", "homes": [{"city": "London"}, {"city": "Paris"}]}


async def test_a_member_that_gets_a_column_is_no_longer_left_out(tmp_path: Path) -> None:
    async with endpoint(lambda prompt: WITH_MORE) as url:
        job = write_job(tmp_path, url=url, rows=2, tool=LOOSE)
        await run_job(job)
    wider = json.loads(json.dumps(LOOSE))
    wider["function"]["parameters"]["properties"]["age"] = {"type": "integer"}
    (tmp_path / "tool.json").write_text(json.dumps(wider))

    revalidate_job(job)

    rows = results(tmp_path / "out")
    assert [row["arguments"]["age"] for row in rows] == [36, 36]
    assert {row["error"] for row in rows} == {"left out: no column for /homes/*/since of the arguments, see `calls`"}


@pytest.mark.parametrize("wrapper", ["$PARAMETER_NAME", "arguments", "record_person"])
async def test_a_record_within_a_wrapper_that_the_schema_lets_pass_is_named(tmp_path: Path, wrapper: str) -> None:
    async with endpoint(lambda prompt: json.dumps({wrapper: {"name": "Ada"}})) as url:
        summary = await run_job(write_job(tmp_path, url=url, rows=1, tool=LOOSE))

    (row,) = results(tmp_path / "out")
    assert (row["status"], row["error"]) == ("ok", f"left out: no column for /{wrapper} of the arguments, see `calls`")
    assert row["repairs"] == []
    assert summary.left_out_of_arguments == {f"/{wrapper}": 1}


async def test_an_empty_record_at_the_jobs_own_limit_is_truncated_and_below_it_ok(tmp_path: Path) -> None:
    async with endpoint(lambda prompt: "{}") as url:
        for most, status in ((16, "truncated"), (17, "ok")):
            job = write_job(tmp_path / status, url=url, rows=1, tool=LOOSE, request=f"max_tokens = {most}")
            await run_job(job)

            assert [row["status"] for row in results(tmp_path / status / "out")] == [status]


async def test_an_empty_record_at_the_limit_of_a_row_of_a_batch_file_is_truncated(tmp_path: Path) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Who?"}], "tools": [LOOSE]}
    rows = [{"custom_id": str(most), "body": {**body, "max_completion_tokens": most}} for most in (16, 17)]
    write_rows(tmp_path / "rows.jsonl", rows)
    async with endpoint(lambda prompt: "{}") as url:
        job = f'[input]\npath = "rows.jsonl"\n[endpoint]\nurl = "{url}"\n[output]\npath = "out"'
        (tmp_path / "job.toml").write_text(job)
        await run_job(tmp_path / "job.toml")

    assert [row["status"] for row in results(tmp_path / "out")] == ["truncated", "ok"]


def events(*documents: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(document) + b"\n\n" for document in documents)


CHAT_CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "record_person", "arguments": "{}"}}
ITEM = {"type": "function_call", "id": "i", "call_id": "c", "name": "record_person", "arguments": "{}"}
RESPONSE = {"id": "r", "object": "response", "status": "completed", "output": [{**ITEM, "status": "completed"}]}
BLOCK = {"type": "tool_use", "id": "c", "name": "record_person", "input": {}}
CANDIDATE = {"content": {"role": "model", "parts": [{"functionCall": {"name": "record_person", "args": {}}}]}}
CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 16, "total_tokens": 25}
USAGE = {"input_tokens": 9, "output_tokens": 16}

EMPTY_CALLS: dict[str, tuple[str, bytes]] = {
    "chat": (
        "openai-chat",
        orjson.dumps(
            {
                "choices": [{"message": {"tool_calls": [CHAT_CALL]}, "finish_reason": "tool_calls"}],
                "usage": CHAT_USAGE,
            }
        ),
    ),
    "chat, streamed": (
        "openai-chat",
        events(
            {"choices": [{"index": 0, "delta": {"tool_calls": [CHAT_CALL]}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": CHAT_USAGE},
        ),
    ),
    "responses": ("openai-responses", orjson.dumps({**RESPONSE, "usage": {**USAGE, "total_tokens": 25}})),
    "responses, streamed": (
        "openai-responses",
        events({"type": "response.completed", "response": {**RESPONSE, "usage": {**USAGE, "total_tokens": 25}}}),
    ),
    "anthropic": (
        "anthropic",
        orjson.dumps(
            {"type": "message", "role": "assistant", "content": [BLOCK], "stop_reason": "tool_use", "usage": USAGE}
        ),
    ),
    "anthropic, streamed": (
        "anthropic",
        events(
            {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage": USAGE}},
            {"type": "content_block_start", "index": 0, "content_block": BLOCK},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 16}},
            {"type": "message_stop"},
        ),
    ),
    "gemini": (
        "gemini",
        orjson.dumps(
            {
                "candidates": [{**CANDIDATE, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 6, "thoughtsTokenCount": 10},
            }
        ),
    ),
    "gemini, streamed": (
        "gemini",
        events(
            {"candidates": [CANDIDATE]},
            {
                "candidates": [{"finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 6, "thoughtsTokenCount": 10},
            },
        ),
    ),
}


def outcome_of(protocol: str, body: bytes, parameters: dict[str, Any]) -> Outcome:
    tool = Tool("record_person", LOOSE["function"]["parameters"], LOOSE)
    reader = AnswerParser(DIALECTS[protocol], repair=True, coerce=False, pricing=lambda model, usage: None)
    asked = Prepared(Row(0, {}, ""), Request(Shape("m", (tool,), None, parameters), []), "h", Toolbox.of([tool]))
    attempt = Attempt(0, 1, "h", HttpResponse(200, {}, body), None, 1.0, 0.5, 0.0, "e")
    return reader.outcome(asked, [reader.read(attempt, asked)])


@pytest.mark.parametrize("name", EMPTY_CALLS)
def test_an_empty_call_at_a_used_up_limit_is_truncated_in_every_protocol(name: str) -> None:
    protocol, body = EMPTY_CALLS[name]

    assert outcome_of(protocol, body, {"max_tokens": 16}).status is Status.TRUNCATED
    assert outcome_of(protocol, body, {"max_tokens": 17}).status is Status.OK


@pytest.mark.parametrize(("used", "status"), [(4096, Status.TRUNCATED), (4095, Status.OK)])
def test_the_limit_that_a_protocol_adds_counts_as_well(used: int, status: Status) -> None:
    body = EMPTY_CALLS["anthropic"][1].replace(b'"output_tokens":16', b'"output_tokens":%d' % used)

    assert outcome_of("anthropic", body, {}).status is status


COPIES = '{"name": "Ada"}{"name": "Ada"}'


@pytest.mark.parametrize(
    ("protocol", "body"),
    [
        (
            "openai-chat",
            events(
                {
                    "choices": [
                        {"index": 0, "delta": {"tool_calls": [{**CHAT_CALL, "function": {"name": "record_person"}}]}}
                    ]
                },
                *[
                    {
                        "choices": [
                            {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}}
                        ]
                    }
                    for piece in (COPIES[:9], COPIES[9:15], COPIES[15:])
                ],
                {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
            ),
        ),
        (
            "anthropic",
            events(
                {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage": USAGE}},
                {"type": "content_block_start", "index": 0, "content_block": BLOCK},
                *[
                    {
                        "type": "content_block_delta",
                        "index": 0,
                        "delta": {"type": "input_json_delta", "partial_json": piece},
                    }
                    for piece in (COPIES[:15], COPIES[15:])
                ],
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 16}},
                {"type": "message_stop"},
            ),
        ),
        ("openai-responses", orjson.dumps({**RESPONSE, "output": [{**ITEM, "arguments": COPIES}]})),
    ],
    ids=["chat", "anthropic", "responses"],
)
def test_equal_copies_of_the_arguments_are_one_however_they_come(protocol: str, body: bytes) -> None:
    outcome = outcome_of(protocol, body, {})

    assert (outcome.status, outcome.arguments) == (Status.OK, {"name": "Ada"})
    assert outcome.repairs == ("repeated_arguments",)
    assert [call.arguments for call in outcome.calls] == [COPIES]


TWICE = {"type": "function_call", "name": "record_person", "call_id": "c7"}
FILLED = '{"name": "Ada"}'
NEXT_BLOCK = {"type": "content_block_start", "content_block": {**BLOCK, "id": "c7"}}


@pytest.mark.parametrize("announced", ["", "{}", FILLED], ids=["nothing yet", "an empty object", "all of it"])
@pytest.mark.parametrize("protocol", ["anthropic", "openai-responses"])
def test_a_call_that_is_at_two_indexes_under_one_id_is_one(protocol: str, announced: str) -> None:
    bodies = {
        "anthropic": events(
            {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage": USAGE}},
            *[
                event
                for index, text in enumerate([announced, FILLED])
                for event in (
                    {**NEXT_BLOCK, "index": index},
                    {
                        "type": "content_block_delta",
                        "index": index,
                        "delta": {"type": "input_json_delta", "partial_json": text},
                    },
                )
            ],
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 16}},
            {"type": "message_stop"},
        ),
        "openai-responses": events(
            *[
                {
                    "type": "response.output_item.done",
                    "output_index": index,
                    "item": {**TWICE, "id": f"f{index}", "arguments": text},
                }
                for index, text in enumerate([announced, FILLED])
            ],
            {"type": "response.completed", "response": {**RESPONSE, "output": []}},
        ),
    }
    outcome = outcome_of(protocol, bodies[protocol], {})

    assert (outcome.status, outcome.arguments) == (Status.OK, {"name": "Ada"})
    assert outcome.repairs == ("repeated_call",)
    assert len(outcome.calls) == 1


def test_two_empty_calls_under_ids_of_their_own_stay_two() -> None:
    items = [{**TWICE, "call_id": id_, "arguments": text} for id_, text in (("a", "{}"), ("b", FILLED))]

    assert len(outcome_of("openai-responses", orjson.dumps({**RESPONSE, "output": items}), {}).calls) == 2
