"""Every protocol of the embedded endpoint: true to the vendor's document, strict as the vendor, wrong as it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcall.sandbox.faults import FAULTS
from batchcall.sandbox.process import Settings
from batchcall.sandbox.protocol import Address, BadRequest
from batchcall.sandbox.routes import find_route
from documents import documented, faults_by
from vendors import FUNCTION, TEXT, VENDORS, Body, Got, ask, ledger_of, rooted

every_vendor = pytest.mark.parametrize("name", VENDORS)

# Of each protocol: the document, the schema of an answer, of a stream's events, of an error.
ANSWERS: Mapping[str, tuple[str, str, str, str | None]] = {
    "chat": ("openai", "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", "ErrorResponse"),
    "azure": ("openai", "CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", None),
    "responses": ("openai", "Response", "ResponseStreamEvent", "ErrorResponse"),
    "anthropic": ("anthropic", "Message", "MessageStreamEvent", "ErrorResponse"),
    "gemini": ("gemini", "GenerateContentResponse", "GenerateContentResponse", None),
}


def check(name: str, place: int, value: Any) -> None:
    document, schema = ANSWERS[name][0], ANSWERS[name][place]
    assert schema is not None
    faults = faults_by(document, schema, value)
    assert not faults, "\n".join(faults[:5])


async def streamed(root: str, name: str, request: Body) -> Got:
    vendor = VENDORS[name]
    return await ask(root, vendor.stream_path or vendor.path, {**request, **(vendor.stream or {})})


def events(body: bytes) -> list[Any]:
    lines = [line.removeprefix(b"data:").strip() for line in body.splitlines() if line.startswith(b"data:")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


@documented
@every_vendor
async def test_an_answer_is_one_by_the_vendors_document(name: str) -> None:
    vendor = VENDORS[name]
    async with rooted(Settings()) as root:
        for request in (
            vendor.asked,
            vendor.plain,
            {**vendor.asked, **vendor.cap(16)},
            {**vendor.plain, **vendor.cap(16)},
        ):
            got = await ask(root, vendor.path, request)

            assert got.status == 200, got.body
            check(name, 1, got.json)


@documented
@every_vendor
async def test_the_events_of_a_stream_are_those_of_the_vendors_document(name: str) -> None:
    vendor = VENDORS[name]
    async with rooted(Settings()) as root:
        for request in (vendor.asked, vendor.plain):
            got = await streamed(root, name, request)

            assert got.headers["content-type"].startswith("text/event-stream")
            for event in events(got.body):
                if event.get("type") == "ping":  # told of in prose only
                    continue
                if "response" in event and event["response"]["usage"] is None:  # so in the document's examples only
                    del event["response"]["usage"]
                check(name, 2, event)


@every_vendor
async def test_the_tool_is_called_with_what_the_schema_allows_and_text_comes_without_tools(name: str) -> None:
    vendor = VENDORS[name]
    async with rooted(Settings()) as root:
        called = (await ask(root, vendor.path, vendor.asked)).json
        told = (await ask(root, vendor.path, vendor.plain)).json

    ((tool, arguments),) = vendor.calls(called)
    assert tool == "record_person"
    jsonschema_rs.validate(FUNCTION["parameters"], arguments)
    assert (arguments["name"], arguments["age"]) == ("Ada", 36)
    assert not vendor.calls(told)
    assert vendor.said(told)


CUT = {
    "chat": "length",
    "azure": "length",
    "responses": ("incomplete", {"reason": "max_output_tokens"}),
    "anthropic": "max_tokens",
    "gemini": "MAX_TOKENS",
}


@every_vendor
async def test_an_answer_longer_than_its_cap_is_cut_as_the_vendor_cuts(name: str) -> None:
    vendor = VENDORS[name]
    schema = {"type": "object", "properties": {"text": {"type": "string", "minLength": 400}}, "required": ["text"]}
    tools = json.loads(json.dumps(vendor.asked).replace(json.dumps(FUNCTION["parameters"]), json.dumps(schema)))
    async with rooted(Settings()) as root:
        call = (await ask(root, vendor.path, {**tools, **vendor.cap(16)})).json
        plain = {**vendor.plain, **vendor.cap(16)}
        text = (
            await ask(root, vendor.path, json.dumps(plain).replace("Ada", "Lovelace-of-Ockham " * 90).encode())
        ).json

    assert vendor.finish(call) == CUT[name]
    assert vendor.finish(text) == CUT[name]
    assert 0 < vendor.tokens(text)[1] <= 16
    assert len(vendor.said(text) or "") <= 64


@every_vendor
async def test_asked_again_with_a_tools_result_it_answers_well(name: str) -> None:
    vendor = VENDORS[name]
    async with rooted(Settings(faults={"invalid_schema_arguments": 1.0})) as root:
        first = (await ask(root, vendor.path, vendor.asked)).json
        again = await ask(root, vendor.path, vendor.again(first))

    assert again.status == 200, again.body
    ((_, wrong),) = vendor.calls(first)
    ((_, right),) = vendor.calls(again.json)
    assert not jsonschema_rs.is_valid(FUNCTION["parameters"], wrong)
    jsonschema_rs.validate(FUNCTION["parameters"], right)
    assert right["name"] == "Ada"  # from what the user said, not from the tool's result


@every_vendor
async def test_a_key_is_looked_for_where_the_vendor_looks(name: str) -> None:
    vendor = VENDORS[name]
    async with rooted(Settings(api_key="k1")) as root:
        good = await ask(root, vendor.path, vendor.asked, **vendor.key("k1"))
        bad = await ask(root, vendor.path, vendor.asked, **vendor.key("k2"))
        none = await ask(root, vendor.path, vendor.asked)
        strange = await ask(root, vendor.path, vendor.asked, **{"X-Own": "k1"})

    refused = 400 if name == "gemini" else 401
    assert [got.status for got in (good, bad, none, strange)] == [200, refused, refused, refused]


async def test_every_protocol_is_billed_alike() -> None:
    async with rooted(Settings()) as root:
        for number, vendor in enumerate(VENDORS.values(), 1):
            before = await ledger_of(root)
            answer = (await ask(root, vendor.path, vendor.asked)).json
            after = await ledger_of(root)

            assert (after["requests"], after["billed"]) == (number, number)
            assert after["billed_tokens"] - before["billed_tokens"] == sum(vendor.tokens(answer))


@every_vendor
async def test_reasoning_and_cached_tokens_are_part_of_the_bill(name: str) -> None:
    vendor = VENDORS[name]
    thinking: dict[str, Body] = {
        "chat": {"reasoning_effort": "low"},
        "azure": {"reasoning_effort": "low"},
        "responses": {"reasoning": {"effort": "low"}},
        "anthropic": {"thinking": {"type": "enabled", "budget_tokens": 1_024}, "max_tokens": 4_000},
        "gemini": {"generationConfig": {"thinkingConfig": {"thinkingBudget": 100}}},
    }
    asked = json.dumps({**vendor.plain, **thinking[name]}).replace("Ada", "Ada " * 3_000).encode()
    async with rooted(Settings()) as root:
        got = (await ask(root, vendor.path, asked)).json
        billed = (await ledger_of(root))["billed_tokens"]

    assert sum(vendor.tokens(got)) == billed
    told = json.dumps(got)
    assert {"anthropic": '"thinking"', "gemini": "thoughtsTokenCount"}.get(name, '"reasoning_tokens": ') in told
    assert "cache" in told


REFUSED: dict[str, list[Body]] = {  # changes to a good request that the vendor refuses; None takes a key away
    "chat": [
        {"messages": "hello"}, {"messages": None}, {"max_tokens": "10"}, {"tools": {}}, {"temperature": "hot"},
        {"tool_choice": {"type": "function", "function": {"name": "no"}}},
        {"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]}, {"stream": "yes"},
    ],
    "responses": [
        {"input": None}, {"input": 5}, {"model": None}, {"messages": []}, {"max_output_tokens": 3},
        {"tools": [{"type": "function", "function": FUNCTION}]}, {"max_tokens": 5},
        {"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]}, {"text": {"format": 5}},
    ],
    "anthropic": [
        {"max_tokens": None}, {"max_tokens": "5"}, {"max_tokens": 0}, {"temperature": 1.5}, {"messages": []},
        {"messages": [{"role": "system", "content": "x"}]}, {"messages": [{"role": "user", "content": ""}]},
        {"tools": [{"type": "function", "function": FUNCTION}]}, {"max_completion_tokens": 5},
        {"tools": [{"name": "math.add", "input_schema": {"type": "object"}}]}, {"tool_choice": "any"},
        {"tools": [{"name": "f", "input_schema": {"type": "object", "properties": {"a b": {"type": "string"}}}}]},
        {"tools": [], "tool_choice": {"type": "any"}}, {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]},
    ],
    "gemini": [
        {"contents": None}, {"contents": "x"}, {"messages": []}, {"contents": [{"role": "assistant", "parts": []}]},
        {"contents": [{"role": "user", "parts": []}]}, {"tools": [{"type": "function", "function": FUNCTION}]},
        {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "object", "$defs": {}}}]}]},
        {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": ["object", "null"]}}]}]},
        {"generationConfig": {"maxOutputTokens": "many"}}, {"toolConfig": {"functionCallingConfig": {"mode": "any"}}},
        {"contents": [{"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}]},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_what_the_vendor_refuses_gets_its_400(name: str) -> None:
    vendor = VENDORS[name]
    async with rooted(Settings()) as root:
        for change in REFUSED[name]:
            request = {key: value for key, value in {**vendor.asked, **change}.items() if value is not None}
            got = await ask(root, vendor.path, request)

            assert got.status == 400, change
            check_envelope(name, got)
        got = await ask(root, vendor.path, b"{")
        assert got.status == 400
        assert (await ledger_of(root))["billed"] == 0


async def test_anthropic_refuses_a_request_without_its_version_once_the_key_is_right() -> None:
    vendor = VENDORS["anthropic"]
    unnamed = {"anthropic-version": ""}
    async with rooted(Settings(api_key="k1")) as root:
        refused = await ask(root, vendor.path, vendor.asked, **vendor.key("k1"), **unnamed)
        unknown = await ask(root, vendor.path, vendor.asked, **vendor.key("k2"), **unnamed)
        taken = await ask(root, vendor.path, vendor.asked, **vendor.key("k1"))
        billed = (await ledger_of(root))["billed"]

    assert refused.status == 400
    assert refused.json == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "anthropic-version: header is required"},
    }
    assert (unknown.status, taken.status, billed) == (401, 200, 1)


async def test_anthropic_lets_a_call_be_forced_where_the_model_decides_how_much_it_thinks() -> None:
    vendor = VENDORS["anthropic"]
    async with rooted(Settings()) as root:
        got = await ask(root, vendor.path, {**vendor.asked, "thinking": {"type": "adaptive"}})

    assert got.status == 200, got.body
    assert [name for name, _ in vendor.calls(got.json)] == ["record_person"]


def check_envelope(name: str, got: Got) -> None:
    error = got.json["error"]
    assert error["message"]
    if name == "anthropic":
        assert (got.json["type"], error["type"]) == ("error", "invalid_request_error")
    elif name == "gemini":
        assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    else:
        assert error["type"] == "invalid_request_error"


@documented
@pytest.mark.parametrize("name", ["chat", "responses", "anthropic"])
@pytest.mark.parametrize(
    "fault", ["rate_limited", "quota", "bad_key", "unknown_model", "context_length", "server_error"]
)
async def test_an_error_is_one_by_the_vendors_document(name: str, fault: str) -> None:
    async with rooted(Settings(faults={fault: 1.0})) as root:
        got = await ask(root, VENDORS[name].path, VENDORS[name].asked)

    assert got.status >= 400
    check(name, 3, got.json)


STATUSES = {  # chat, azure, responses, anthropic, gemini
    "rate_limited": (429, 429, 429, 429, 429),
    "quota": (429, 429, 429, 400, 429),
    "bad_key": (401, 401, 401, 401, 400),
    "unknown_model": (404, 404, 400, 404, 404),
    "overloaded": (503, 503, 503, 529, 503),
    "overloaded_529": (529, 529, 529, 529, 503),
    "context_length": (400, 400, 400, 400, 400),
    "content_filter": (400, 400, 400, 400, 200),
    "unprocessable": (422, 422, 422, 400, 400),
    "server_error": (500, 500, 500, 500, 500),
    "relay_quota": (403, 403, 403, 403, 403),
    "redirect": (301, 301, 301, 301, 301),
    "error_in_200": (200, 200, 200, 200, 200),
}
INSTEAD = {name for name, fault in FAULTS.items() if fault.instead is not None}
BREAK_OFF = ("disconnect_before", "disconnect_mid_body")


@every_vendor
@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"hang"}))
async def test_every_fault_works_in_every_protocol_and_costs_the_same(name: str, fault: str) -> None:
    vendor = VENDORS[name]
    async with rooted(Settings(faults={fault: 1.0})) as root:
        try:
            got = await ask(root, vendor.path, vendor.asked)
        except aiohttp.ClientError:
            assert fault in BREAK_OFF
        else:
            assert got.status == STATUSES.get(fault, (got.status,) * 5)[list(VENDORS).index(name)]
            assert got.status != 500 or b"error" in got.body  # a fault of the sandbox itself would be a page
        told = await ledger_of(root)

    assert told["billed"] == (FAULTS[fault].instead is None)


@every_vendor
@pytest.mark.parametrize("fault", sorted(set(FAULTS) - set(BREAK_OFF) - INSTEAD))
async def test_a_stream_bears_every_fault_too(name: str, fault: str) -> None:
    async with rooted(Settings(faults={fault: 1.0})) as root:
        got = await streamed(root, name, VENDORS[name].asked)

    assert got.status == 200, got.body


@every_vendor
def test_what_is_nearest_to_a_fault_is_a_fault(name: str) -> None:
    route = find_route(VENDORS[name].path.partition("?")[0], {})

    assert route is not None
    assert set(route[0].nearest) <= set(FAULTS)
    assert set(route[0].nearest.values()) <= {*FAULTS, ""}


async def test_limits_are_reported_in_each_vendors_own_headers() -> None:
    got = {}
    for name, vendor in VENDORS.items():
        async with rooted(Settings(requests_per_minute=1)) as root:
            got[name] = [await ask(root, vendor.path, vendor.asked) for _ in range(2)]

    for name in ("chat", "responses", "azure"):
        assert got[name][0].headers["x-ratelimit-remaining-requests"] == "0"
        assert int(got[name][1].headers["retry-after"]) > 30
    told = got["anthropic"][0].headers
    assert told["anthropic-ratelimit-requests-remaining"] == "0"
    assert told["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert int(got["anthropic"][1].headers["retry-after"]) > 30
    assert not [header for one in got["gemini"] for header in one.headers if "ratelimit" in header or "retry" in header]
    details = {one["@type"].rpartition(".")[2]: one for one in got["gemini"][1].json["error"]["details"]}
    assert details["RetryInfo"]["retryDelay"].endswith("s")
    assert "PerMinute" in details["QuotaFailure"]["violations"][0]["quotaId"]


async def test_gemini_streams_an_array_where_no_events_are_asked_for() -> None:
    vendor = VENDORS["gemini"]
    path = vendor.stream_path.partition("?")[0]
    async with rooted(Settings()) as root:
        got = await ask(root, path, vendor.plain)
        refused = await ask(root, path, {})

    assert got.headers["content-type"] == "application/json"
    assert [chunk["candidates"][0].get("finishReason") for chunk in got.json][-1] == "STOP"
    assert "".join(vendor.said(chunk) or "" for chunk in got.json).startswith("This is what it says")
    assert got.json[-1]["usageMetadata"]["totalTokenCount"] > 0
    assert refused.json[0]["error"]["code"] == 400


async def test_gemini_schemas_are_read_as_google_means_them() -> None:
    vendor = VENDORS["gemini"]
    properties = {
        "age": {"type": "INTEGER", "minimum": 30, "nullable": True},
        "tags": {"type": "ARRAY", "items": {"type": "STRING"}, "minItems": "2"},
        "kind": {"type": "STRING", "format": "enum", "enum": ["a", "b"]},
    }
    schema = {"type": "OBJECT", "properties": properties, "required": list(properties)}
    tools = [{"function_declarations": [{"name": "f", "parameters": schema}]}]
    async with rooted(Settings()) as root:
        got = await ask(root, vendor.path, {**vendor.plain, "tools": tools})

    ((_, made),) = vendor.calls(got.json)
    assert made["age"] is None or made["age"] >= 30
    assert len(made["tags"]) >= 2
    assert made["kind"] in ("a", "b")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "role", "content", "parts", "name", "function", "text", "a"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(VENDORS)), data=st.data())
def test_no_request_is_so_odd_that_reading_it_fails(name: str, data: st.DataObject) -> None:
    vendor = VENDORS[name]
    key = data.draw(st.sampled_from([*vendor.asked, "response_format", "text", "thinking", "generationConfig"]))
    route = find_route(vendor.path.partition("?")[0], {"api-version": "1"})
    assert route is not None
    protocol, address = route

    try:
        asked = protocol.read({**vendor.asked, key: data.draw(ANYTHING)}, address)
    except (BadRequest, AttributeError, KeyError, TypeError):  # all of them are a 400
        return
    assert asked.text is not None


def test_the_text_is_found_in_every_form_of_a_turn() -> None:
    parts: dict[str, Any] = {
        "chat": {"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}]}]},
        "responses": {"input": [{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}]},
        "anthropic": {"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}]}]},
    }
    for name, change in parts.items():
        route = find_route(VENDORS[name].path, {})
        assert route is not None
        assert route[0].read({**VENDORS[name].asked, **change}, Address()).text == TEXT
