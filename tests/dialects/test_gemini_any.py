"""Any answer, any stream and any request: the gemini dialect fails on none."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking_gemini import GEMINI, GOLDEN, decode
from batchcall.base.records import Failure, FailureKind, HttpResponse, Reply, Request, Shape

# fmt: off
NAMES = [
    "candidates", "content", "parts", "role", "text", "functionCall", "name", "args", "id", "thought", "index",
    "finishReason", "finishMessage", "usageMetadata", "promptTokenCount", "totalTokenCount", "modelVersion",
    "responseId", "promptFeedback", "blockReason", "error", "code", "status", "message", "details", "retryDelay",
    "violations", "quotaId", "reason", "choices", "delta",
]
# fmt: on
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["STOP", "38s"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)
statuses = st.sampled_from([200, 204, 307, 400, 401, 403, 404, 429, 499, 500, 503, 504])


@given(document=json_values, status=statuses, is_event=st.booleans())
def test_any_json_is_an_answer(document: Any, status: int, is_event: bool) -> None:
    body = json.dumps(document).encode()

    check_sane(GEMINI.decode(HttpResponse(status, {}, b"data: " + body if is_event else body), now_s=0.0))


@given(part=json_values, reason=json_values, usage=json_values)
def test_any_part_is_an_answer(part: Any, reason: Any, usage: Any) -> None:
    candidate = {"content": {"parts": [part, {"functionCall": part}]}, "finishReason": reason}

    check_sane(decode({"candidates": [candidate], "usageMetadata": usage}))


@given(path=st.sampled_from(GOLDEN), data=st.data())
def test_any_mutated_answer_is_an_answer(path: Path, data: st.DataObject) -> None:
    written = json.loads(path.read_text(encoding="utf-8"))["response"]
    document = written.get("body", "")
    if isinstance(document, dict | list):
        place = data.draw(st.sampled_from(places(document)))
        document = json.dumps(replaced(document, place, data.draw(json_values)))
    whole = base64.b64decode(written["body_base64"]) if "body_base64" in written else document.encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 20)))
    noise = data.draw(st.binary(max_size=6) | st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\\ud800", b"[" * 200]))

    check_sane(GEMINI.decode(HttpResponse(written["status"], {}, whole[:start] + noise + whole[end:]), now_s=0.0))


@given(texts=st.lists(st.text(max_size=5), min_size=1, max_size=6), form=st.sampled_from(["events", "list"]))
def test_a_stream_means_what_the_whole_answer_would_and_cut_off_is_none(texts: list[str], form: str) -> None:
    said = [{"content": {"parts": [{"text": text}]}, "index": 0} for text in texts]
    chunks = [{"responseId": "r", "candidates": [one]} for one in said]
    ended = [*chunks, {"candidates": [{"finishReason": "STOP", "index": 0}]}]

    whole, cut = (GEMINI.decode(HttpResponse(200, {}, as_stream(some, form)), now_s=0.0) for some in (ended, chunks))

    assert isinstance(whole, Reply)
    assert whole.content == "".join(texts)
    assert isinstance(cut, Failure)
    assert cut.kind is FailureKind.UNREADABLE


@given(
    messages=st.lists(json_values, max_size=4), parameters=st.dictionaries(st.text(max_size=5), json_values, max_size=3)
)
def test_any_messages_and_parameters_make_a_request(messages: Any, parameters: Any) -> None:
    GEMINI.encode(Request(Shape("gemini-3-pro", parameters=parameters), messages))
    GEMINI.faults(Shape("gemini-3-pro", parameters=parameters))


@pytest.mark.parametrize(
    "body",
    [
        b'{"candidates":[' + b'{"content":{"parts":[{"text":"a"}]}},' * 100_000 + b"]}",
        b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\n\n' * 50_000,
        b"[" + b"[{}]," * 100_000 + b"{}]",
        b"1" * 1_000_000,
    ],
    ids=["candidates", "chunks", "lists", "digits"],
)
def test_a_hostile_body_takes_no_more_than_linear_time(body: bytes) -> None:
    assert isinstance(GEMINI.decode(HttpResponse(200, {}, body), now_s=0.0), Failure)


def as_stream(chunks: list[Any], form: str) -> bytes:
    if form == "list":
        return json.dumps(chunks).encode()
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)


def places(document: Any) -> list[tuple[Any, ...]]:
    """The path of every value in a document."""
    entries = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [(), *((key, *rest) for key, inner in entries for rest in places(inner))]


def replaced(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    key, *rest = place
    entries: Any = dict(document) if isinstance(document, dict) else list(document)
    entries[key] = replaced(document[key], tuple(rest), value)
    return entries


def check_sane(answer: Reply | Failure) -> None:
    if isinstance(answer, Failure):
        assert 0 < len(answer.message) <= 300
        assert answer.message.isprintable()
        assert answer.retry_after_s is None or 0 <= answer.retry_after_s <= 900
        return
    texts = [answer.content, answer.model, answer.response_id, answer.finish_reason]
    texts += [text for call in answer.calls for text in (call.name, call.arguments, call.id)]
    for text in filter(None, texts):
        text.encode()  # a lone surrogate would keep the part from being written
