"""Any answer and any stream: the openai-responses dialect fails on none."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking_responses import CALLED, CHAT, GOLDEN, decode
from batchcall.base.records import Failure, FailureKind, HttpResponse, Reply

WHOLE = [path.read_bytes() for path in sorted(GOLDEN.glob("*.json"))]
DOCUMENTS = [case["response"]["body"] for case in map(json.loads, WHOLE) if "body" in case["response"]]
STREAMS = [body for body in DOCUMENTS if isinstance(body, str) and "response." in body]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """The document with one value in it replaced, doubled or gone."""
    if not isinstance(document, dict | list) or not document or draw(st.integers(0, 4)) == 0:
        return draw(json_values)
    copy = document.copy()
    places = list(copy) if isinstance(copy, dict) else list(range(len(copy)))
    place = draw(st.sampled_from(places))
    way = draw(st.sampled_from(["within", "gone", "list", "twice"]))
    if way == "gone":
        del copy[place]
    elif way == "list":
        copy[place] = [copy[place]]
    elif way == "twice" and isinstance(copy, list):
        copy.insert(place, copy[place])
    else:
        copy[place] = draw(mutated(copy[place]))
    return copy


@given(data=st.data(), status=st.sampled_from([200, 400, 401, 429, 500, 503]))
def test_any_mutated_answer_is_an_answer(data: st.DataObject, status: int) -> None:
    whole = data.draw(st.sampled_from([body for body in DOCUMENTS if isinstance(body, dict)]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole = data.draw(mutated(whole))

    check_sane(decode(json.dumps(whole).encode(), status))
    check_sane(CHAT.decode(HttpResponse(status, {}, json.dumps(whole).encode()), now_s=0.0))


@given(data=st.data())
def test_any_mutated_stream_is_an_answer(data: st.DataObject) -> None:
    stream = data.draw(st.sampled_from(STREAMS))
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {") and line[-1] == "}"]
    events = data.draw(st.permutations(events)) if data.draw(st.booleans()) else data.draw(mutated(events))
    written = events if isinstance(events, list) else [events]

    check_sane(decode("".join(f"data: {json.dumps(event)}\n\n" for event in written).encode()))


@given(data=st.data())
def test_a_stream_cut_anywhere_is_not_an_answer(data: st.DataObject) -> None:
    case = json.loads((GOLDEN / "stream-output-left-out.json").read_bytes())
    stream: str = case["response"]["body"]
    end = data.draw(st.integers(0, stream.index('"type": "response.completed"')))

    answer = decode(stream[:end].encode())

    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.UNREADABLE


@given(arguments=st.text(max_size=40), text=st.text(max_size=40), data=st.data())
def test_a_stream_means_what_the_whole_answer_would(arguments: str, text: str, data: st.DataObject) -> None:
    call = {**CALLED, "arguments": arguments}
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    whole = {"id": "r", "model": "m", "status": "completed", "output": [call, message]}
    deltas = [
        *[delta("function_call_arguments", 0, piece) for piece in data.draw(pieces(arguments))],
        *[delta("output_text", 1, piece) | {"content_index": 0} for piece in data.draw(pieces(text))],
    ]
    added: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "output_index": 0, "item": {**call, "arguments": ""}},
        {"type": "response.output_item.added", "output_index": 1, "item": {**message, "content": []}},
    ]
    last = {"type": "response.completed", "response": {**whole, "output": data.draw(st.sampled_from([[], None]))}}

    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in [*added, *deltas, last])

    assert decode(stream.encode()) == decode(json.dumps(whole).encode())


def delta(kind: str, index: int, piece: str) -> dict[str, Any]:
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": piece}


def pieces(text: str) -> st.SearchStrategy[list[str]]:
    cuts = st.lists(st.integers(0, len(text)), max_size=3).map(lambda cuts: [0, *sorted(cuts), len(text)])
    return cuts.map(lambda cuts: [text[start:end] for start, end in pairwise(cuts)])


@pytest.mark.parametrize(
    "body",
    [b"data: {\n" * 20_000, b'data: {"type":"response.output_text.delta","delta":"a"}\n\n' * 5_000, b"[" * 500_000],
    ids=["open", "deltas", "brackets"],
)
def test_a_hostile_body_is_read_in_time(body: bytes) -> None:
    assert isinstance(decode(body), Failure)


def check_sane(answer: Reply | Failure) -> None:
    if isinstance(answer, Failure):
        assert 0 < len(answer.message) <= 300
        assert answer.message.isprintable()
        assert answer.retry_after_s is None or 0 <= answer.retry_after_s <= 900
        return
    texts = [answer.content, answer.refusal, answer.model, answer.response_id, answer.finish_reason]
    texts += [text for call in answer.calls for text in (call.name, call.arguments, call.id)]
    for text in filter(None, texts):
        text.encode()  # a lone surrogate would keep the part from being written
