"""What the openai-chat dialect promises about requests, documented examples, follow-ups, and answers of any kind."""

from __future__ import annotations

import datetime
import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchcall.base.errors import JobError
from batchcall.base.records import (
    Failure,
    FailureKind,
    HttpResponse,
    RawCall,
    Reply,
    Request,
    Scope,
    Shape,
    Tool,
    Usage,
)
from batchcall.dialects import DIALECTS
from batchcall.dialects.failures import BY_CODE, BY_CODE_AND_STATUS, BY_VAGUE_CODE, CODES, WORDINGS
from batchcall.dialects.waits import WAIT_HEADERS
from batchcall.job.sections import PROTOCOLS
from mutating import HEADERS

EXAMPLES = Path(__file__).parent / "examples"
HANDED_OUT = Path(__file__).resolve().parents[3] / "shared" / "examples"
ENDPOINTS = ["tutujin", "vapi", "vapi-reference", "winfull", "yunwu"]
CHAT = DIALECTS["openai-chat"]


# Requests


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_documented_request_is_produced_to_the_byte(endpoint: str) -> None:
    documented = orjson.loads(example_text(endpoint, "request"))

    sent = CHAT.encode(request_of(documented))

    assert sent.path == "/chat/completions"
    assert sent.body == orjson.dumps(documented)


@pytest.mark.parametrize("kind", ["request", "response"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_our_copy_of_an_example_is_the_documented_one(endpoint: str, kind: str) -> None:
    original = HANDED_OUT / f"{endpoint}.{kind}.json"
    if not original.exists():
        pytest.skip("the documented examples lie beside the repository only where it is developed")

    assert example_text(endpoint, kind) == original.read_bytes()


def test_parameters_follow_in_the_order_they_were_written() -> None:
    parameters: dict[str, Any] = {
        "top_p": 0.5,
        "seen": 7,
        "stop": ["a"],
        "logit_bias": {"50256": -100},
        "stream": False,
    }

    body = CHAT.encode(Request(Shape("m", tool_choice="auto", parameters=parameters), [])).body

    assert list(orjson.loads(body)) == ["model", "messages", "tool_choice", *parameters]


def test_what_is_not_set_is_not_sent() -> None:
    body = CHAT.encode(Request(Shape("m"), [{"role": "user", "content": "hi"}])).body

    assert body == b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": True, "stream_options": {}}, {"stream": True}),
        ({"stream": True, "stream_options": {"include_usage": False}},) * 2,
        ({"stream": False}, {"stream": False}),
    ],
)
def test_a_stream_is_asked_for_its_usage_unless_the_job_says_otherwise(
    written: dict[str, Any], sent: dict[str, Any]
) -> None:
    body = CHAT.encode(Request(Shape("m", parameters=written), [])).body

    assert orjson.loads(body) == {"model": "m", "messages": [], **sent}


def test_a_tool_is_sent_exactly_as_written() -> None:
    written: dict[str, Any] = {
        "x-own": 1,
        "type": "function",
        "function": {"strict": True, "name": "f", "parameters": {}},
    }
    shape = Shape("m", (Tool("f", {}, written),))

    sent = orjson.loads(CHAT.encode(Request(shape, [])).body)

    assert sent["tools"] == [written]
    assert list(sent["tools"][0]) == list(written)


@pytest.mark.parametrize(
    ("odd", "arrives_as"),
    [
        (2**70, 2**70),
        ("\ud83d", "\ud83d"),
        ({1: "a"}, {"1": "a"}),
        (datetime.date(2024, 5, 1), "2024-05-01"),
        (datetime.time(12, 30), "12:30:00"),
        (b"x", "b'x'"),
    ],
    ids=str,
)
def test_values_that_fit_no_64_bits_or_no_utf_8_are_sent_all_the_same(odd: Any, arrives_as: Any) -> None:
    request = Request(Shape("m", parameters={"odd": odd}), [{"role": "user", "content": odd}])

    sent = json.loads(CHAT.encode(request).body)

    assert sent["odd"] == arrives_as
    assert sent["messages"][0]["content"] == arrives_as


def test_two_shapes_that_say_the_same_are_not_mixed_up() -> None:
    first, second = Shape("m", parameters={"seed": 1}), Shape("m", parameters={"seed": 2})

    bodies = [CHAT.encode(Request(shape, [])).body for shape in (first, second, first)]

    assert [orjson.loads(body)["seed"] for body in bodies] == [1, 2, 1]


# Headers


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (None, {"Authorization": "Bearer sk-1"}),
        ("bearer", {"Authorization": "Bearer sk-1"}),
        ("x-api-key", {"x-api-key": "sk-1", "anthropic-version": "2023-06-01"}),
        ("x-goog-api-key", {"x-goog-api-key": "sk-1"}),
        ("none", {}),
        ("header:api-key", {"api-key": "sk-1"}),
    ],
)
def test_a_key_travels_in_the_header_the_job_asks_for(auth: str | None, expected: dict[str, str]) -> None:
    headers = CHAT.headers(auth=auth, key="sk-1")

    assert headers == {"Content-Type": "application/json", "Accept": "application/json", **expected}


@pytest.mark.parametrize("auth", [None, "bearer", "x-api-key", "x-goog-api-key", "none", "header:api-key"])
@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_nothing_authenticates(auth: str | None, key: str | None) -> None:
    assert CHAT.headers(auth=auth, key=key) == {"Content-Type": "application/json", "Accept": "application/json"}


def test_a_key_with_braces_is_sent_as_it_is() -> None:
    assert CHAT.headers(auth=None, key="{key}{0}")["Authorization"] == "Bearer {key}{0}"


@pytest.mark.parametrize("auth", ["basic", "header:", "header: ", "Bearer "])
def test_an_unknown_way_to_authenticate_is_an_error_of_the_job(auth: str) -> None:
    with pytest.raises(JobError, match=r"endpoint\.auth"):
        CHAT.headers(auth=auth, key="k")


# The table


def test_every_protocol_of_the_job_file_is_spoken() -> None:
    assert set(DIALECTS) == set(PROTOCOLS)


def test_codes_are_listed_as_they_are_looked_up() -> None:
    codes = [*BY_CODE, *BY_VAGUE_CODE, *(code for code, _ in BY_CODE_AND_STATUS)]

    assert all(code == code.lower() for code in codes)
    assert BY_CODE.keys().isdisjoint(BY_VAGUE_CODE)


def test_no_code_is_listed_twice() -> None:
    listed = [code for lines in CODES.values() for line in lines for code in line.split()]

    assert len(listed) == len(set(listed)) == len(BY_CODE)


def test_no_words_ever_decide_what_a_429_is() -> None:
    assert not any(429 in wording.statuses for wording in WORDINGS)


def test_the_headers_that_matter_are_named_in_lower_case() -> None:
    assert {"retry-after", "retry-after-ms"} <= WAIT_HEADERS.keys()
    assert all(name == name.lower() for name in WAIT_HEADERS)


# Documented answers

WEATHER_USAGE = Usage(65, 16, 81, 0, 0)
WEATHER = Reply(
    calls=(RawCall("get_weather", '{"location":"Paris, France"}', "call_FezxjoWuDV1CL3dITVFOjUzK"),),
    finish_reason="tool_calls",
    model="gpt-4o-2024-08-06",
    response_id="chatcmpl-Ax2bU1RFE8P0Y9uqKcErQNLcx4dDe",
    system_fingerprint="fp_f3927aa00d",
    usage=WEATHER_USAGE,
)
LEGACY = Reply(
    calls=(RawCall("get_current_weather", '{ "location": "Boston", "unit": "celsius" }'),),
    finish_reason="function_call",
    response_id="chatcmpl-123",
    usage=Usage(45, 10, 55),
)
TEXT = Reply(
    content="\n\nHello there, how may I assist you today?",
    finish_reason="stop",
    response_id="chatcmpl-123",
    usage=Usage(9, 12, 21),
)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [("vapi", WEATHER), ("vapi-reference", WEATHER), ("tutujin", LEGACY), ("winfull", TEXT), ("yunwu", TEXT)],
)
def test_the_documented_answer_is_read(endpoint: str, expected: Reply) -> None:
    assert decode(example_text(endpoint, "response")) == expected


# Large and hostile bodies


def test_a_body_beyond_the_cap_is_too_large() -> None:
    answer = CHAT.decode(HttpResponse(200, {}, b'{"id":"x","choices":[{"mess', is_cut=True), now_s=0.0)

    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.TOO_LARGE


def test_an_error_page_beyond_the_cap_is_known_by_its_status() -> None:
    answer = CHAT.decode(HttpResponse(502, {}, b"<html><title>502 Bad Gateway</title>", is_cut=True), now_s=0.0)

    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.SERVER_ERROR


def test_a_bomb_behind_a_mislabelled_encoding_is_too_large() -> None:
    bomb = gzip.compress(b" " * (17 * 1024 * 1024))

    answer = decode(bomb)

    assert len(bomb) < 100_000
    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.TOO_LARGE


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * 500_000 + b"[" * 200,
        b"[" * 500_000,
        b'{"error":' * 50_000,
        b"data: " * 50_000,
        b"data: {\n" * 20_000,
        b"<title" + b" " * 500_000,
        b"<" * 500_000,
        b'{"error":{"message":"try again in ' + b"1s" * 200_000 + b'x"}}',
        b'{"error":{"message":"' + b"1 " * 200_000 + b'"}}',
    ],
    ids=["quotes", "brackets", "errors", "data", "open data", "title", "angles", "durations", "numbers"],
)
def test_a_hostile_body_takes_no_more_than_linear_time(body: bytes) -> None:
    assert isinstance(decode(body, status=500), Failure)


def test_the_same_answer_always_means_the_same() -> None:
    response = HttpResponse(429, {"retry-after": "Wed, 01 May 2024 12:01:30 GMT"}, b"")

    first, again = (CHAT.decode(response, now_s=1714564800.0) for _ in range(2))

    assert first == again


# Follow-ups

SHAPE = Shape("m")
ASKED = Request(SHAPE, [{"role": "user", "content": "Weather?"}])
PROBLEM = 'at /city: 5 is not of type "string"'


def test_a_follow_up_quotes_the_call_and_answers_it_with_the_problem() -> None:
    reply = Reply(calls=(RawCall("f", '{"city":5}', "call_a"),), content="Let me see.")

    said, told = follow_up(reply)[1:]

    assert said == {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [{"id": "call_a", "type": "function", "function": {"name": "f", "arguments": '{"city":5}'}}],
    }
    assert (told["role"], told["tool_call_id"]) == ("tool", "call_a")
    assert told["content"].startswith(PROBLEM)


def test_a_follow_up_keeps_the_shape_and_leaves_the_first_request_alone() -> None:
    again = CHAT.reask(ASKED, Reply(calls=(RawCall("f", "{}", "a"),)), PROBLEM)

    assert again.shape is SHAPE
    assert len(ASKED.messages) == 1


def test_every_quoted_call_has_an_id_of_its_own_and_an_answer() -> None:
    reply = Reply(calls=(RawCall("f", "{}", "same"), RawCall("f", "{}", "same"), RawCall("g", "", None)))

    said, *told = follow_up(reply)[1:]

    ids = [call["id"] for call in said["tool_calls"]]
    assert len(set(ids)) == 3
    assert [answer["tool_call_id"] for answer in told] == ids
    assert said["tool_calls"][2]["function"]["arguments"] == "{}"


def test_a_second_follow_up_makes_up_other_ids() -> None:
    reply = Reply(calls=(RawCall("f", "{}"),))

    twice: list[Any] = CHAT.reask(CHAT.reask(ASKED, reply, PROBLEM), reply, PROBLEM).messages

    ids = [message["tool_calls"][0]["id"] for message in twice if message["role"] == "assistant"]
    assert len(set(ids)) == 2


def test_the_same_follow_up_is_made_every_time() -> None:
    reply = Reply(calls=(RawCall("f", "{}"),))

    assert CHAT.reask(ASKED, reply, PROBLEM) == CHAT.reask(ASKED, reply, PROBLEM)


def test_an_answer_in_text_is_followed_up_as_text() -> None:
    said, told = follow_up(Reply(content="Sunny."), "no function was called")[1:]

    assert said == {"role": "assistant", "content": "Sunny."}
    assert told["role"] == "user"
    assert told["content"].startswith("no function was called")


def test_an_answer_with_nothing_in_it_is_not_quoted() -> None:
    messages = follow_up(Reply())

    assert [message["role"] for message in messages] == ["user", "user"]


@pytest.mark.parametrize(
    "call",
    [RawCall("f", '{"city":', "a"), RawCall("f", "[1]", "a"), RawCall("functions.f", "{}", "a"), RawCall("", "{}")],
    ids=["torn", "list", "dotted name", "no name"],
)
def test_a_call_that_servers_would_choke_on_is_quoted_as_text(call: RawCall) -> None:
    said, told = follow_up(Reply(calls=(call,)))[1:]

    assert said == {"role": "assistant", "content": f"{call.name}({call.arguments})"}
    assert told["role"] == "user"


# Any answer at all


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
# fmt: off
NAMES = [
    "id", "model", "choices", "usage", "error", "errors", "detail", "message", "type", "code", "status",
    "details", "retryDelay", "delta", "tool_calls", "function", "function_call", "name", "arguments",
    "content", "refusal", "finish_reason", "index", "total_tokens", "prompt_tokens_details", "base_resp",
    "promptFeedback", "blockReason", "violations", "custom", "innererror",
]
# fmt: on
likely_values = st.recursive(
    json_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)
statuses = st.sampled_from([200, 204, 302, 400, 401, 402, 403, 404, 413, 418, 429, 500, 503, 529, 524, 99, 700])
headers = st.dictionaries(st.sampled_from(HEADERS), st.text(max_size=12) | st.floats().map(str))


@given(body=st.binary(max_size=300), status=statuses, headers=headers, now_s=st.floats(0, 4e9))
@example(body=b"", status=429, headers={"retry-after": "1e400"}, now_s=0.0)
def test_any_bytes_are_an_answer(body: bytes, status: int, headers: dict[str, str], now_s: float) -> None:
    check_sane(CHAT.decode(HttpResponse(status, headers, body), now_s=now_s))


@given(document=json_values | likely_values, status=statuses, headers=headers)
def test_any_json_is_an_answer(document: Any, status: int, headers: dict[str, str]) -> None:
    body = json.dumps(document).encode()

    check_sane(CHAT.decode(HttpResponse(status, headers, body), now_s=0.0))


@given(message=likely_values, finish=likely_values, usage=likely_values)
def test_any_message_is_an_answer(message: Any, finish: Any, usage: Any) -> None:
    document = {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}

    check_sane(decode(json.dumps(document).encode()))


@given(deltas=st.lists(likely_values, max_size=5), prefix=st.sampled_from([b"data: ", b"data:", b"", b": "]))
def test_any_stream_is_an_answer(deltas: list[Any], prefix: bytes) -> None:
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]

    check_sane(decode(b"".join(prefix + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)))


@given(endpoint=st.sampled_from(ENDPOINTS), data=st.data())
def test_any_damaged_completion_is_an_answer(endpoint: str, data: st.DataObject) -> None:
    whole = example_text(endpoint, "response")
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    noise = data.draw(st.binary(max_size=6) | st.sampled_from([b"\xef\xbb\xbf", b"\x1f\x8b", b"\\ud800", b"[" * 200]))

    check_sane(decode(whole[:start] + noise + whole[end:]))


texts = st.text(max_size=30).filter(lambda text: text.strip() != "")
calls = st.lists(st.builds(RawCall, st.sampled_from(["f", "get_weather"]), texts, st.uuids().map(str)), max_size=3).map(
    tuple
)


@given(calls=calls, content=st.none() | texts, refusal=st.none() | texts, data=st.data())
def test_a_stream_means_what_the_whole_answer_would(
    calls: tuple[RawCall, ...], content: str | None, refusal: str | None, data: st.DataObject
) -> None:
    whole = completion_of(calls, content, refusal)
    deltas = data.draw(shuffled_pieces(calls, content, refusal))

    streamed = decode(as_stream(deltas, whole["usage"], end=data.draw(st.sampled_from(["\n\n", "\r\n\r\n", "\n"]))))

    assert streamed == decode(orjson.dumps(whole))


@given(calls=calls, content=texts, data=st.data())
def test_a_stream_cut_anywhere_before_its_finish_is_not_an_answer(
    calls: tuple[RawCall, ...], content: str, data: st.DataObject
) -> None:
    stream = as_stream(data.draw(shuffled_pieces(calls, content, None)), {})
    end = data.draw(st.integers(0, stream.index(b'"finish_reason":"stop"')))

    answer = decode(stream[:end])

    assert isinstance(answer, Failure)
    assert answer.kind is FailureKind.UNREADABLE


def completion_of(calls: tuple[RawCall, ...], content: str | None, refusal: str | None) -> dict[str, Any]:
    written = [{"id": call.id, "function": {"name": call.name, "arguments": call.arguments}} for call in calls]
    message = {"role": "assistant", "content": content, "refusal": refusal, "tool_calls": written or None}
    return {
        "id": "chatcmpl-1",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }


@st.composite
def shuffled_pieces(
    draw: st.DrawFn, calls: tuple[RawCall, ...], content: str | None, refusal: str | None
) -> list[dict[str, Any]]:
    """Deltas in which each text is cut anywhere and the parts are interleaved, each in its own order."""
    tracks: list[list[dict[str, Any]]] = [[{"content": piece} for piece in draw(pieces(content))]] if content else []
    tracks += [[{"refusal": piece} for piece in draw(pieces(refusal))]] if refusal else []
    for index, call in enumerate(calls):
        start: dict[str, Any] = {
            "index": index,
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        more: list[dict[str, Any]] = [
            {"index": index, "function": {"arguments": piece}} for piece in draw(pieces(call.arguments))
        ]
        tracks.append([{"tool_calls": [fragment]} for fragment in (start, *more)])
    starts, rests = [track[0] for track in tracks], [track[1:] for track in tracks]
    order = draw(st.permutations([number for number, rest in enumerate(rests) for _ in rest]))
    iterators = [iter(rest) for rest in rests]
    return [*starts, *(next(iterators[number]) for number in order)]


def pieces(text: str) -> st.SearchStrategy[list[str]]:
    cuts = st.lists(st.integers(0, len(text)), max_size=4).map(lambda cuts: [0, *sorted(cuts), len(text)])
    return cuts.map(lambda cuts: [text[start:end] for start, end in pairwise(cuts)])


def as_stream(deltas: list[dict[str, Any]], usage: dict[str, Any], end: str = "\n\n") -> bytes:
    def chunk(choices: list[Any], **more: Any) -> str:
        return f"data: {orjson.dumps({'id': 'chatcmpl-1', 'model': 'm', 'choices': choices, **more}).decode()}{end}"

    body = [chunk([{"index": 0, "delta": delta, "finish_reason": None}], usage=None) for delta in deltas]
    last = chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    return "".join([*body, last, chunk([], usage=usage), f"data: [DONE]{end}"]).encode()


def follow_up(reply: Reply, problem: str = PROBLEM) -> list[Any]:
    return CHAT.reask(ASKED, reply, problem).messages


def check_sane(answer: Reply | Failure) -> None:
    if isinstance(answer, Failure):
        assert 0 < len(answer.message) <= 300
        assert answer.message.isprintable()
        wait_s = answer.retry_after_s
        assert wait_s is None or 0 <= wait_s <= 900
        assert wait_s is None or answer.kind is FailureKind.LONG_WAIT or answer.kind.rule.scope is Scope.RETRY
    else:
        texts = [answer.content, answer.refusal, answer.model, answer.response_id, answer.finish_reason]
        texts += [text for call in answer.calls for text in (call.name, call.arguments, call.id)]
        for text in filter(None, texts):
            text.encode()  # a lone surrogate would keep the part from being written


def decode(body: bytes, *, status: int = 200) -> Reply | Failure:
    return CHAT.decode(HttpResponse(status, {}, body), now_s=0.0)


def example_text(endpoint: str, kind: str) -> bytes:
    return (EXAMPLES / f"{endpoint}.{kind}.json").read_bytes()


def request_of(body: dict[str, Any]) -> Request:
    tools = tuple(
        Tool(tool["function"]["name"], tool["function"]["parameters"], tool) for tool in body.get("tools", [])
    )
    known = {"model", "messages", "tools", "tool_choice"}
    parameters = {name: value for name, value in body.items() if name not in known}
    return Request(Shape(body["model"], tools, body.get("tool_choice"), parameters), body["messages"])


def fragment(arguments: str | None = None, **said: Any) -> dict[str, Any]:
    name = said.pop("name", None)
    function = {"name": name} if name else {}
    return {**said, "function": function if arguments is None else {**function, "arguments": arguments}}


OPENED = fragment("", index=0, id="call_7", name="book")
WHOLE = fragment('{"n": 1}', index=0, id="call_7", name="book")


@pytest.mark.parametrize(
    ("fragments", "expected"),
    [
        ([OPENED, fragment('{"n": 1}', index=1, id="call_7", name="book")], ['{"n": 1}']),
        ([OPENED, fragment('{"n"', index=1, id="call_7"), fragment(": 1}", index=2, id="call_7")], ['{"n": 1}']),
        ([OPENED, fragment('{"n"', index=1, id="call_7"), fragment(": 1}", index=1)], ['{"n": 1}']),
        ([OPENED, fragment('{"n"', id="call_7"), fragment(": 1}", id="call_7")], ['{"n": 1}']),
        ([OPENED, fragment('{"n"', index=1), fragment(": 1}", index=2)], ['{"n": 1}']),
        ([OPENED, fragment('{"n"', index=1), fragment(": 1}", index=2, name="book")], ['{"n": 1}']),
        ([WHOLE, fragment('{"n": 2}', index=1, name="book")], ['{"n": 1}', '{"n": 2}']),
        ([OPENED, fragment("", index=1, name="book")], ["", ""]),
        ([{**OPENED, "index": "0"}, fragment('{"n"', index=0), fragment(": 1}", index="0")], ['{"n": 1}']),
        ([fragment("{}", index=0, id="call_7", name="book"), {**WHOLE, "index": 1}], ['{"n": 1}']),
        ([WHOLE, WHOLE], ['{"n": 1}']),
        ([WHOLE, {**WHOLE, "index": 1}, {**WHOLE, "index": 2}], ['{"n": 1}']),
        ([fragment('{"n": 1}', id="call_7", name="book")] * 2, ['{"n": 1}']),
        ([WHOLE, fragment('{"n": 2}', index=0, id="call_8", name="book")], ['{"n": 1}', '{"n": 2}']),
        ([WHOLE, fragment('{"n": 2}', index=1, id="call_7", name="book")], ['{"n": 1}', '{"n": 2}']),
        ([OPENED, fragment("", index=1, id="call_7", name="bill")], ["", ""]),
        (
            [
                fragment('{"n"', index=0, id="x", name="book"),
                fragment('{"n"', index=1, id="x", name="book"),
                fragment(": 1}", index=0, id="x"),
                fragment(": 2}", index=1, id="x"),
            ],
            ['{"n": 1}', '{"n": 2}'],
        ),
        (
            [
                fragment('{"n"', index=0, id="x", name="book"),
                fragment('{"n"', index=0, id="y", name="book"),
                fragment(": 1}", index=0, id="x"),
                fragment(": 2}", index=0, id="y"),
            ],
            ['{"n": 1}', '{"n": 2}'],
        ),
    ],
)
def test_a_call_is_one_by_its_id_whatever_its_index(fragments: list[dict[str, Any]], expected: list[str]) -> None:
    deltas = [{"tool_calls": [one]} for one in fragments]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks = [*choices, {"index": 0, "delta": {}, "finish_reason": "tool_calls"}]
    body = "".join(f"data: {json.dumps({'choices': [choice]})}\n\n" for choice in chunks)

    read = DIALECTS["openai-chat"].decode(HttpResponse(200, {}, body.encode()), now_s=0)

    assert isinstance(read, Reply)
    assert [call.arguments for call in read.calls] == expected
