"""Any answer, any stream and any request: the anthropic dialect fails on none."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from asking_claude import CLAUDE, USER, decode, message, use
from batchcall.base.records import Failure, FailureKind, HttpResponse, Reply, Request, Shape, Tool, Usage
from mutating import HEADERS

GOLDEN = sorted((Path(__file__).parent / "anthropic").glob("*.json"))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
# fmt: off
NAMES = [
    "id", "type", "role", "model", "content", "stop_reason", "stop_details", "explanation", "usage", "input_tokens",
    "cache_read_input_tokens", "output_tokens", "error", "message", "text", "name", "input", "partial_json", "index",
    "delta", "content_block", "choices", "tool_calls", "tool_call_id", "function", "function_call", "arguments",
    "image_url", "url", "file", "file_data", "file_id", "source", "refusal", "cache_control",
]
WORDS = [
    "message", "assistant", "user", "system", "tool", "function", "text", "tool_use", "message_start",
    "content_block_start", "content_block_delta", "message_delta", "text_delta", "input_json_delta", "error",
    "image_url", "file", "data:image/png;base64,AA", "data:,", "data:text/plain;base64,A", "tool_result",
]
# fmt: on
likely_values = st.recursive(
    json_values | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=25,
)
statuses = st.sampled_from([200, 204, 302, 400, 401, 402, 403, 404, 413, 429, 500, 503, 529, 99, 700])
moments = st.sampled_from(["0", "", "2024-05-01T12:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00"])
headers = st.dictionaries(st.sampled_from(HEADERS), moments | st.text(max_size=12))
bodies = st.binary(max_size=300) | likely_values.map(lambda value: json.dumps(value).encode())


@given(body=bodies, status=statuses, headers=headers)
def test_any_bytes_are_an_answer(body: bytes, status: int, headers: dict[str, str]) -> None:
    check_sane(CLAUDE.decode(HttpResponse(status, headers, body), now_s=0.0))


@given(content=likely_values, stop=likely_values, usage=likely_values)
def test_any_message_is_an_answer(content: Any, stop: Any, usage: Any) -> None:
    check_sane(
        decode(json.dumps({"type": "message", "content": content, "stop_reason": stop, "usage": usage}).encode())
    )


@given(events=st.lists(likely_values, max_size=6), prefix=st.sampled_from([b"data: ", b"data:", b"", b": "]))
def test_any_stream_is_an_answer(events: list[Any], prefix: bytes) -> None:
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}

    check_sane(decode(b"".join(prefix + json.dumps(event).encode() + b"\n\n" for event in [*events, end])))


@given(path=st.sampled_from(GOLDEN), data=st.data())
def test_any_damaged_answer_is_an_answer(path: Path, data: st.DataObject) -> None:
    written = json.loads(path.read_text(encoding="utf-8"))["response"].get("body", "")
    whole = written.encode() if isinstance(written, str) else json.dumps(written).encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    noise = data.draw(st.binary(max_size=6) | st.sampled_from([b"\xef\xbb\xbf", b"\x1f\x8b", b"\\ud800", b"[" * 200]))

    check_sane(decode(whole[:start] + noise + whole[end:]))


@given(
    messages=st.lists(st.dictionaries(st.sampled_from(NAMES), likely_values, max_size=5) | likely_values, max_size=4)
)
def test_any_messages_make_a_request(messages: list[Any]) -> None:
    body = json.loads(CLAUDE.encode(Request(Shape("m"), messages)).body)

    assert isinstance(body["messages"], list)


@given(
    parameters=st.dictionaries(
        st.sampled_from(["stop", "user", "metadata", "thinking", "max_tokens", "temperature", "reasoning_effort",
                         "response_format", "functions", "function_call", "n", "service_tier", "system", "logit_bias"]),
        likely_values,
    ),
    choice=likely_values,
    written=st.dictionaries(st.sampled_from([*NAMES, "parameters", "input_schema", "strict"]), likely_values),
)  # fmt: skip
def test_any_shape_makes_a_request_and_a_list_of_faults(parameters: Any, choice: Any, written: Any) -> None:
    shape = Shape("m", (Tool("f", {}, written),), choice, parameters)

    assert json.loads(CLAUDE.encode(Request(shape, [USER])).body)["model"] == "m"
    assert all(fault.startswith(("request.", "tool.")) for fault in CLAUDE.faults(shape))


texts = st.text(max_size=30).filter(lambda text: text.strip() != "")
inputs = st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.text(max_size=8), min_size=1, max_size=3)
blocks = st.lists(
    texts.map(lambda text: {"type": "text", "text": text})
    | st.builds(lambda input_, name: use(input_, name), inputs, st.sampled_from(["f", "g"])),
    min_size=1,
    max_size=4,
)


@given(content=blocks, data=st.data(), space=st.sampled_from(["", " "]), end=st.sampled_from(["\n\n", "\r\n\r\n"]))
def test_a_stream_means_what_the_whole_answer_would(
    content: list[Any], data: st.DataObject, space: str, end: str
) -> None:
    whole = message(content, "end_turn")

    streamed = decode(as_stream(whole, lambda text: data.draw(pieces(text)), space, end))

    assert streamed == decode(orjson.dumps(whole))


@given(content=blocks, data=st.data())
def test_a_stream_cut_anywhere_before_its_end_is_not_an_answer(content: list[Any], data: st.DataObject) -> None:
    stream = as_stream(message(content, "end_turn"), lambda text: [text], " ", "\n\n")

    answer = decode(stream[: data.draw(st.integers(0, stream.index(b'"message_delta"')))])

    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.UNREADABLE


def as_stream(whole: dict[str, Any], cut: Callable[[str], list[str]], space: str, end: str) -> bytes:
    """The events of a message, its texts in pieces."""
    usage = {"input_tokens": whole["usage"]["input_tokens"], "output_tokens": 1}
    events = [{"type": "message_start", "message": {**whole, "content": [], "stop_reason": None, "usage": usage}}]
    for index, block in enumerate(whole["content"]):
        events += block_events(index, block, cut)
    last = {"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"]}, "usage": {"output_tokens": 4}}
    events += [last, {"type": "message_stop"}]
    lines = [f"event: {event['type']}\ndata:{space}{orjson.dumps(event).decode()}{end}" for event in events]
    return "".join(lines).encode()


def block_events(index: int, block: dict[str, Any], cut: Callable[[str], list[str]]) -> list[dict[str, Any]]:
    if block["type"] == "text":
        begun = {**block, "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in cut(block["text"])]
    else:
        begun = {**block, "input": {}}
        text = orjson.dumps(block["input"]).decode()
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in cut(text)]
    return [
        {"type": "content_block_start", "index": index, "content_block": begun},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def pieces(text: str) -> st.SearchStrategy[list[str]]:
    cuts = st.lists(st.integers(0, len(text)), max_size=4).map(lambda cuts: [0, *sorted(cuts), len(text)])
    return cuts.map(lambda cuts: [text[start:end] for start, end in pairwise(cuts)])


def check_sane(answer: Reply | Failure) -> None:
    if isinstance(answer, Failure):
        assert 0 < len(answer.message) <= 300
        assert answer.message.isprintable()
        assert answer.retry_after_s is None or 0 <= answer.retry_after_s <= 900
        return
    assert isinstance(answer.usage, Usage)
    said = [answer.content, answer.refusal, answer.model, answer.response_id, answer.finish_reason]
    said += [text for call in answer.calls for text in (call.name, call.arguments, call.id)]
    for text in filter(None, said):
        text.encode()  # a lone surrogate would keep the part from being written
    assert not any(call.is_object for call in answer.calls if not answer.repairs)
