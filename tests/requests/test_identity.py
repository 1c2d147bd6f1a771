"""The names that are sent, the shapes that rows share, and the identity of what is sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from batchcall.base.records import Request, Shape
from batchcall.requests import requests
from batchcall.requests.requests import RequestHash, sent_to
from batchcall.requests.row_parts import names_as_sent, sent_name
from request_making import (
    COLUMNS,
    QUESTION,
    as_sent,
    build,
    builder,
    from_body,
    from_columns,
    function,
    job_tool,
    request_hash,
)

ROOT = Path(__file__).resolve().parents[2]
PROMPT = {"role": "user", "content": "{{ text }}"}

# Names.


def test_names_that_openai_does_not_allow_are_sent_as_others_and_found_again() -> None:
    names = ["math.factorial", "math_factorial", "math/factorial", "größe", "x" * 70, "x" * 80, "ok-1_A"]
    sent = ["math_factorial_2", "math_factorial", "math_factorial_3", "gr__e", "x" * 64, "x" * 62 + "_2", "ok-1_A"]

    tools = from_columns({"tools": [function(name) for name in names]}).shape.tools

    assert [tool.name for tool in tools] == names
    assert [sent_name(tool) for tool in tools] == sent
    assert names_as_sent(tools) == dict(zip(sent, names, strict=True))


@pytest.mark.parametrize("written", ["math.sin", {"type": "function", "function": {"name": "math.sin"}}])
def test_a_choice_and_earlier_calls_go_by_the_name_that_is_sent(written: Any) -> None:
    said: list[Any] = [
        *QUESTION,
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "math.sin", "arguments": "{}"}}]},
        {"role": "assistant", "function_call": {"name": "math.sin", "arguments": "{}"}},
        {"role": "tool", "tool_call_id": "1", "name": "math.sin", "content": "math.sin"},
    ]
    tools = [function("math.sin")]

    request = from_columns({"messages": said, "tools": tools, "choice": written})

    assert request.messages == json.loads(json.dumps(said).replace('"name": "math.sin"', '"name": "math_sin"'))
    assert request.shape.tool_choice == {"type": "function", "function": {"name": "math_sin"}}
    assert said[1]["tool_calls"] == [{"id": "1", "function": {"name": "math.sin", "arguments": "{}"}}]


def test_tools_of_the_job_and_of_a_body_are_renamed_alike() -> None:
    tool = job_tool("math.sin")

    by_job = build({"text": "Hi"}, prompt="{{ text }}", tools=(tool,), tool_choice="math.sin")
    by_its_body = from_body(
        {
            "messages": QUESTION,
            "tools": [tool.written],
            "tool_choice": {"type": "function", "function": {"name": "math.sin"}},
        }
    )

    assert as_sent(by_job) == as_sent(by_its_body)
    assert sent_name(by_job.shape.tools[0]) == "math_sin"


def test_an_endpoint_that_takes_any_name_is_asked_with_the_tools_own() -> None:
    said: list[Any] = [
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "天气", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "name": "天气", "content": "____"},
    ]
    tools = [function("天气"), function("时间"), function("plain"), function("x" * 90)]
    request = from_columns({"messages": said, "tools": tools, "choice": "天气"})

    own = sent_to(request.shape, model=None, takes_any_name=True).with_messages(request.messages)
    strict = sent_to(request.shape, model="theirs", takes_any_name=False).with_messages(request.messages)

    assert [tool.written["function"]["name"] for tool in own.shape.tools] == ["天气", "时间", "plain", "x" * 90]
    assert own.messages == said
    assert own.shape.tool_choice == {"type": "function", "function": {"name": "天气"}}
    assert own.shape.model == request.shape.model
    assert strict.messages == request.messages
    assert strict.shape.model == "theirs"
    assert [tool.written["function"]["name"] for tool in strict.shape.tools] == ["__", "___2", "plain", "x" * 64]


def test_the_identity_tells_names_apart_that_are_sent_alike_unless_it_never_did() -> None:
    def identity(name: str) -> str:
        return request_hash("openai-chat", from_columns({"messages": QUESTION, "tools": [function(name)]}))

    assert len({identity(name) for name in ("天气", "时间", "__")}) == 3
    assert identity("math.sin") == identity("math_sin")  # as it always was, so that outputs keep their answers


# Shapes and identity.


@pytest.mark.parametrize("as_column", [json.dumps, lambda tools: [dict(tool) for tool in tools]])
def test_rows_with_equal_tools_share_a_shape(as_column: Any) -> None:
    ready = builder(columns=COLUMNS)
    rows = [{"messages": QUESTION, "tools": as_column([function(name)])} for name in "aabab"]

    shapes = [ready.build(row).shape for row in rows]

    assert ready.shape is None
    assert [shape is shapes[0] for shape in shapes] == [True, True, False, True, False]
    assert shapes[2] is shapes[4]


def test_many_different_tools_in_a_row_are_no_matter_either() -> None:
    ready = builder(columns=COLUMNS)
    tools = [function(f"f{number}", description="x" * 1000) for number in range(500)]

    requests = [ready.build({"messages": QUESTION, "tools": [*tools, function(f"g{number}")]}) for number in range(50)]

    assert [request.shape.tools[-1].name for request in requests] == [f"g{number}" for number in range(50)]


def test_bodies_that_differ_in_their_messages_alone_share_a_shape() -> None:
    ready = builder()
    bodies = [{"model": "m", "messages": [{"role": "user", "content": text}], "seed": 1} for text in "ab"]

    first, second = (ready.build({"body": body}) for body in bodies)

    assert first.shape is second.shape


def test_more_tool_lists_than_are_held_make_no_difference() -> None:
    ready = builder(columns=COLUMNS)

    for number in range(2000):
        request = ready.build({"messages": QUESTION, "tools": [function(f"f{number}")]})
        assert request.shape.tools[0].name == f"f{number}"


def test_tools_that_differ_in_their_types_alone_do_not_share_a_shape() -> None:
    ready = builder(columns=COLUMNS)
    values = [1, True, 1.0, "1", 2**70, 2**70 + 1, "\ud83d", "\ud83e"]

    shapes = [ready.build({"messages": QUESTION, "tools": [function(x=value)]}).shape for value in values]
    written: list[Any] = [tool.written["function"] for shape in shapes for tool in shape.tools]

    assert [function["x"] for function in written] == values
    assert len({request_hash("p", Request(shape, [])) for shape in shapes}) == len(values)


PARAMETERS: dict[str, Any] = {"temperature": 0.1, "n": 1, "on": date(2024, 5, 1)}  # a date from a TOML file
SHAPE = Shape("gpt-4o", (job_tool(),), "required", PARAMETERS)
GOLDEN = [
    ("openai-chat", Request(Shape("m"), [{"role": "user", "content": "Hi"}]), "f59b20a74664f214e67ec319db31ae58"),
    (
        "openai-chat",
        Request(Shape("m"), [{"role": "user", "content": 'é\n"\ud83d\u2028🙂'}]),
        "4d9ced669ecad56f974dde694164a73a",
    ),
    (
        "anthropic",
        Request(SHAPE, [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]),
        "9f0a9ae5bf0351954dabebf05917d6c6",
    ),
]


ASCII = "".join(map(chr, range(128)))
TEXTS = [ASCII, ASCII[:-1], *ASCII, *("-" * 40 + char + "-" * 40 for char in ASCII), "é" + ASCII[:-1]]


@pytest.mark.parametrize(
    ("protocol", "request_", "_"),
    [*GOLDEN, *(("p", Request(Shape("m"), [{"role": text, "content": text}]), "") for text in TEXTS)],
)
def test_the_identity_is_a_digest_of_canonical_json(protocol: str, request_: Request, _: str) -> None:
    shape = request_.shape
    said = {
        "protocol": protocol,
        "model": shape.model,
        "tools": [tool.written for tool in shape.tools],
        "tool_choice": shape.tool_choice,
        "parameters": shape.parameters,
    }

    lines = [json.dumps(part, sort_keys=True, separators=(",", ":"), default=str) for part in (said, request_.messages)]

    assert request_hash(protocol, request_) == blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


@pytest.mark.parametrize(("protocol", "request_", "expected"), GOLDEN)
def test_the_identity_of_a_request_never_changes(protocol: str, request_: Request, expected: str) -> None:
    assert request_hash(protocol, request_) == expected


def test_the_identity_is_the_same_in_every_process() -> None:
    program = (
        "from batchcall.requests.requests import RequestHash; from batchcall.base.records import Request, Shape;"
        "print(RequestHash('openai-chat').of(Request(Shape('m'), [{'role': 'user', 'content': 'Hi'}])))"
    )

    hashes = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, cwd=ROOT
        ).stdout.decode()
        for seed in ("1", "2")
    }

    assert hashes == {GOLDEN[0][2] + "\n"}


def test_whatever_is_sent_counts() -> None:
    values: list[Any] = [0, 0.0, -0.0, False, None, "", "0", [], {}, [0], 2**70]
    shapes = [
        Shape("m"),
        Shape("n"),
        Shape("m", (job_tool("f"),)),
        Shape("m", (job_tool("g"),)),
        Shape("m", (job_tool("f"), job_tool("g"))),
        Shape("m", (job_tool("g"), job_tool("f"))),
        Shape("m", tool_choice="auto"),
        *(Shape("m", parameters={"x": value}) for value in values),
    ]
    messages: list[Any] = [
        [],
        [{"role": "user", "content": "a"}],
        [{"role": "user", "content": "A"}],
        [{"role": "system", "content": "a"}],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": ["a"]}],
        [{"role": "user", "content": "a", "name": "b"}],
        [{"role": "user", "content": "a"}, {"role": "user", "content": "a"}],
        [{"role": "user", "content": 'a"},{"content":"a'}],
    ]
    requests = [*(Request(shape, []) for shape in shapes), *(Request(shapes[0], some) for some in messages[1:])]

    hashes = [request_hash(protocol, request) for protocol in ("openai-chat", "gemini") for request in requests]

    assert len(set(hashes)) == len(hashes)
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in hashes)


def test_the_order_of_keys_does_not_count() -> None:
    one = Request(
        Shape("m", parameters={"a": 1, "b": {"c": 1, "d": 2}}), [{"role": "user", "content": "x", "name": "y"}]
    )
    other = Request(
        Shape("m", parameters={"b": {"d": 2, "c": 1}, "a": 1}), [{"name": "y", "content": "x", "role": "user"}]
    )

    assert request_hash("p", one) == request_hash("p", other)
    assert request_hash("p", Request(one.shape, [{"content": "x", "role": "y"}])) == request_hash(
        "p", Request(one.shape, [{"role": "y", "content": "x"}])
    )


def test_the_identity_does_not_depend_on_the_requests_before() -> None:
    shapes, equal = (Shape("m"), Shape("m"), Shape("n")), ({"n": 1}, {"n": 1}, {"n": True}, {"n": 1.0})
    asked = [
        Request(shape, list(messages))
        for count in (0, 1, 2, 3)
        for messages in product(equal, repeat=count)
        for shape in shapes
    ]
    hashing = RequestHash("p")

    for request in [*asked, *reversed(asked), *asked[::7]]:
        assert hashing.of(request) == request_hash("p", request)


def test_what_all_rows_begin_with_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Any] = []
    real = requests._canonical_message
    monkeypatch.setattr(requests, "_canonical_message", lambda message: hashed.append(message) or real(message))
    job = builder(system="Be brief.", messages=[{"role": "user", "content": "Hi"}, PROMPT])
    hashing = RequestHash("p")

    for text in ("a", "b", "c"):
        hashing.of(job.build({"text": text}))

    assert [message["content"] for message in hashed] == ["Be brief.", "Hi", "a", "b", "c"]
