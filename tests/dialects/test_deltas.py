"""A run of deltas that is joined before it is parsed means what its deltas mean one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from dialects.test_golden_answers import CASES, response_of
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcall.base.records import Failure, HttpResponse, Reply
from batchcall.dialects import DIALECTS, deltas, jsontext, sse
from batchcall.dialects.deltas import join_deltas

_PIECES = [" tok", "", "{", "}", "{}", '"', "\\", "\\\\", '{"a": "', "\n", "x" * 40, "é", "你", "\U0001f600", "\ud83d"]
_PIECES += ["\ude00", "data: {", "\u2028", "[" * 70, "1" * 25, "[DONE]", '","obfuscation":"', "\t"]
_DAMAGE = ["", '"', "\\", "\n", '","refusal":"', '", "x": "', "\n\n", "{}", "\x01", "\\ud83d", "é", "data: "]

Doc = dict[str, Any]


def chat_delta(piece: str, turn: int, made: Doc) -> Doc:
    fragment = {"index": made["index"], "id": made["id"], "function": {"name": made["name"], "arguments": piece}}
    deltas: list[Doc] = [
        {"content": piece},
        {"tool_calls": [fragment]},
        {"tool_calls": [{"index": made["index"], "function": {"arguments": piece}}]},
        {"role": "assistant", "content": "", "reasoning_content": piece},
        {"content": piece, "refusal": piece},
        {"function_call": {"arguments": piece}},
        {"content": [{"type": "text", "text": piece}]},
        {"tool_calls": [fragment, fragment]},
    ]
    choice = {"index": made["choice"], "delta": deltas[made["kind"] % len(deltas)], "finish_reason": None}
    return {"id": "x", "created": turn, "usage": {"prompt_tokens": turn}, "choices": [choice] * made["times"]}


def response_delta(piece: str, turn: int, made: Doc) -> Doc:
    names = ("output_text", "function_call_arguments", "refusal", "reasoning_text", "custom_tool_call_input")
    kind = f"response.{names[made['kind'] % len(names)]}.delta"
    place: Doc = {"output_index": made["choice"]} if made["times"] == 1 else {"item_id": made["id"]}
    return {"type": kind, "sequence_number": turn, **place, "delta": piece, "obfuscation": "ab" * (turn % 3)}


def anthropic_delta(piece: str, turn: int, made: Doc) -> Doc:
    kinds = {"text_delta": "text", "input_json_delta": "partial_json", "thinking_delta": "thinking"}
    kind, name = list(kinds.items())[made["kind"] % len(kinds)]
    return {"type": "content_block_delta", "index": made["index"], "delta": {"type": kind, name: piece}}


def gemini_delta(piece: str, turn: int, made: Doc) -> Doc:
    parts: list[list[Doc]] = [
        [{"text": piece}],
        [{"text": piece, "thought": True}],
        [{"text": piece}, {"text": piece}],
        [{"functionCall": {"name": "f", "args": {"a": piece}}}],
    ]
    content = {"role": "model", "parts": parts[made["kind"] % len(parts)]}
    counts = {"promptTokenCount": 3, "candidatesTokenCount": turn, "totalTokenCount": 3 + turn}
    return {"candidates": [{"content": content, "index": made["choice"]}], "usageMetadata": counts}


DELTAS = {
    "openai-chat": chat_delta,
    "openai-responses": response_delta,
    "anthropic": anthropic_delta,
    "gemini": gemini_delta,
}
BEGINNINGS: dict[str, list[Doc]] = {
    "anthropic": [
        {"type": "message_start", "message": {"type": "message", "id": "m", "usage": {"input_tokens": 3}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "f", "input": {}}},
    ],
    "openai-responses": [
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "function_call", "name": "f"}}
    ],
}
ENDS: dict[str, Doc] = {
    "openai-chat": {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    "openai-responses": {"type": "response.completed", "response": {"status": "completed", "output": []}},
    "anthropic": {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    "gemini": {"candidates": [{"content": {"parts": []}, "finishReason": "STOP", "index": 0}]},
}

_MADE = st.fixed_dictionaries(
    {
        "kind": st.integers(0, 7),
        "index": st.sampled_from([0, 1, None, "0"]),
        "choice": st.sampled_from([0, 0, 0, 1]),
        "id": st.sampled_from([None, "c", "d", ""]),
        "name": st.sampled_from([None, None, "", "f"]),
        "times": st.sampled_from([1, 1, 1, 2]),
    }
)
_RUNS = st.lists(st.tuples(_MADE, st.lists(st.sampled_from(_PIECES), min_size=1, max_size=12)), max_size=6)


@st.composite
def streams(draw: st.DrawFn, protocol: str) -> bytes:
    turn, documents = 1, list(BEGINNINGS.get(protocol, []))
    for made, pieces in draw(_RUNS):
        for piece in pieces:
            documents.append(DELTAS[protocol](piece, turn, made))
            turn += draw(st.integers(0, 1))
    documents.append(ENDS[protocol])
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    is_ascii, has_names = draw(st.booleans()), draw(st.booleans())
    between = draw(st.sampled_from(["\n\n", "\r\n\r\n", "\r\r", "\n\n\n", "\n \n", "\n: ping\n\n"]))
    written = [json.dumps(one, ensure_ascii=is_ascii, separators=separators) for one in documents]
    lines = [("event: " + str(one.get("type")) + "\n") * has_names + "data: " for one in documents]
    text = "".join(line + document + between for line, document in zip(lines, written, strict=True))
    return text.encode("utf-8", "surrogatepass")


@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("protocol", DIALECTS)
@given(data=st.data())
def test_any_stream_means_the_same_joined_and_one_by_one(protocol: str, data: st.DataObject) -> None:
    check_same(HttpResponse(200, {}, data.draw(streams(protocol))))


@pytest.mark.parametrize("protocol", DIALECTS)
def test_golden_answers_mean_the_same_joined_and_one_by_one(protocol: str) -> None:
    for response in [response_of(goldens(path)) for of, path in CASES if of == protocol]:
        check_same(response)
        check_same(HttpResponse(response.status, response.headers, b"\n\n".join(repeated(response.body))))


def goldens(path: Path) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["response"]
    return written


def repeated(body: bytes) -> Iterator[bytes]:
    """Each event six times, so that each is a run."""
    for event in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        yield from [event] * 6


def check_same(response: HttpResponse) -> None:
    joined = meanings(response)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sse, "join_deltas", lambda stream: iter(stream.split("\n\n")))
        one_by_one = meanings(response)

    assert joined == one_by_one


def meanings(response: HttpResponse) -> list[Reply | Failure]:
    return [dialect.decode(response, now_s=0) for dialect in DIALECTS.values()]


@settings(max_examples=200, deadline=None)
@given(
    protocol=st.sampled_from(sorted(DELTAS)),
    pieces=st.lists(st.sampled_from(_PIECES), min_size=1, max_size=400),
    damage=st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 3), st.sampled_from(_DAMAGE)), max_size=3),
)
def test_deltas_that_differ_in_their_text_alone_are_joined_as_those_that_differ_in_counts(
    protocol: str, pieces: list[str], damage: list[tuple[int, int, str]]
) -> None:
    made = {"kind": 0, "index": 0, "choice": 0, "id": None, "name": None, "times": 1}
    stream = "".join(f"event: x\ndata: {json.dumps(DELTAS[protocol](piece, 1, made))}\n\n" for piece in pieces)
    for place, gone, instead in damage:
        place %= len(stream) + 1
        stream = stream[:place] + instead + stream[place + gone :]

    joined = list(join_deltas(stream))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deltas, "_some_between", lambda *_: None)
        assert list(join_deltas(stream)) == joined


def test_deltas_that_differ_in_their_text_alone_are_compared_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = "".join(f"{delta(f' w{number}')}\n\n" for number in range(1_000))
    taken = []
    some_between = deltas._some_between

    def counting(*given: Any) -> Any:
        some = some_between(*given)
        taken.extend(some[0] if some else [])
        return some

    monkeypatch.setattr(deltas, "_some_between", counting)

    assert len(list(join_deltas(stream))) == 2
    assert len(taken) >= 990


@pytest.mark.parametrize(
    "pieces", [["{}"] * 3 + ['{"a"'] * 6, ["{}", "{", "}", '{"a"'], [""] * 5 + ["{}"] * 5 + ["x"] * 5]
)
@pytest.mark.parametrize("times", [1, 2])
def test_empty_objects_that_the_next_piece_replaces_are_joined_to_nothing(pieces: list[str], times: int) -> None:
    made = {"kind": 2, "index": 0, "choice": 0, "id": None, "name": None, "times": 1}
    documents = [chat_delta(piece, 1, made) for piece in pieces for _ in range(times)]
    body = "".join(f"data: {json.dumps(one)}\n\n" for one in [*documents, ENDS["openai-chat"]])

    check_same(HttpResponse(200, {}, body.encode()))


@pytest.mark.parametrize("protocol", DIALECTS)
def test_a_thousand_deltas_are_parsed_as_a_handful(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    decoder = jsontext._DECODER

    class Counting:
        def raw_decode(self, text: str, position: int) -> tuple[Any, int]:
            parsed.append(text)
            return decoder.raw_decode(text, position)

    monkeypatch.setattr(jsontext, "_DECODER", Counting())
    made = {"kind": 0, "index": 0, "choice": 0, "id": None, "name": None, "times": 1}
    deltas = [DELTAS[protocol](f" w{turn}", turn, made) for turn in range(1_000)]
    beginning = BEGINNINGS["anthropic"][:1] if protocol == "anthropic" else []
    documents = [*beginning, *deltas, ENDS[protocol]]
    body = "".join(f"data: {json.dumps(one)}\n\n" for one in documents).encode()

    read = DIALECTS[protocol].decode(HttpResponse(200, {}, body), now_s=0)

    assert isinstance(read, Reply)
    assert read.content == "".join(f" w{turn}" for turn in range(1_000))
    assert len(parsed) < 10


def test_what_is_not_a_run_stays_as_it_came_and_templates_are_tried_ever_less_often() -> None:
    events = [f"data: {json.dumps({'choices': [{'delta': {'content': 'x', f'k{n}': n}}]})}" for n in range(3_000)]

    assert list(join_deltas("\n\n".join(events))) == events
    assert [len(list(group)) for _, group in groupby(join_deltas("\n\n".join(["data: 1"] * 9)))] == [9]


def test_a_run_that_cannot_be_joined_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    run_of = deltas._run_of

    def counting(template: Any, stream: str, place: int) -> tuple[list[str], Any]:
        pieces, last = run_of(template, stream, place)
        looked.extend(pieces)
        return pieces, last

    monkeypatch.setattr(deltas, "_run_of", counting)
    made = {"kind": 2, "index": 0, "choice": 0, "id": None, "name": None, "times": 1}
    events = [f"data: {json.dumps(chat_delta(piece, 1, made))}" for piece in [*["x"] * 1_000, "{}"]]

    assert list(join_deltas("\n\n".join([*events, ""]))) == events
    assert len(looked) <= len(events)


def delta(piece: str, **more: Any) -> str:
    return "data: " + json.dumps({**more, "choices": [{"index": 0, "delta": {"content": piece}}]})


@pytest.mark.parametrize(
    ("one", "other", "is_one_text"),
    [
        ({}, {}, True),
        ({"id": "a"}, {"id": "a"}, True),
        ({"id": "a"}, {"id": "b"}, False),
        ({"n": 1}, {"n": 2}, False),
        ({"created": 1}, {"created": 22}, True),  # the last one counts
        ({"created": 1}, {"created": "22"}, False),
        ({"created": 1}, {"created": 1.5}, False),
        ({"usage": {"prompt_tokens": 1}}, {"usage": {"prompt_tokens": 2}}, True),
        ({"created": 1}, {"created": None}, False),
        ({"obfuscation": "ab"}, {"obfuscation": "c"}, True),
        ({"obfuscation": "ab"}, {"obfuscation": 1}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, {}, False),
    ],
)
def test_two_deltas_are_one_text_where_they_differ_in_it_in_counts_and_in_padding_alone(
    one: Doc, other: Doc, is_one_text: bool
) -> None:
    for piece in ("x", "yz"):
        template = deltas._template_of(delta("x", **one), following := delta(piece, **other))
        assert (template is not None and template.looks.fullmatch(following + "\n\n") is not None) is is_one_text


def test_a_template_matches_the_next_deltas_with_any_text_and_count() -> None:
    template = deltas._template_of(delta("x", created=1), delta("y", created=2))
    assert template is not None

    found = template.looks.fullmatch(delta('q"\\', created=33) + "\n\n")

    assert found is not None
    assert json.loads(f'"{found[1]}"') == 'q"\\'
    for other in (delta("z", created=-1), delta("z", created=1.5), delta("z", id="a"), "data: [DONE]"):
        assert template.looks.fullmatch(other + "\n\n") is None
