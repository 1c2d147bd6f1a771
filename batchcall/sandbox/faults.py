"""What endpoints do instead of answering well, each by its name. Drawn from what real endpoints and relays send."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

Body = dict[str, Any]

JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes over the wire, and what it cost."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    tokens: int = 0  # billed
    is_billed: bool = False
    cut_at: int | None = None  # the connection is closed after this many bytes of the body
    hang_s: float = 0.0  # before the first byte


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to go wrong. Exactly one of the functions is there."""

    told: str  # for `batchcall sandbox --faults`
    instead: Callable[[], Answer] | None = None  # no answer is made, nothing is billed
    spoil: Callable[[Body], None] | None = None  # the completion is changed before it is written
    wrap: Callable[[Answer, Body], Answer] | None = None  # what is sent is changed
    is_sticky: bool = False  # the same request meets it every time


def envelope(message: str, kind: str, code: Any = None, param: str | None = None) -> bytes:
    """OpenAI's error envelope."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _refusal(status: int, message: str, kind: str, code: Any = None, **headers: str) -> Callable[[], Answer]:
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: Answer(status, envelope(message, kind, code), {**JSON, **extra})


def _page(status: int, title: str) -> Callable[[], Answer]:
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return lambda: Answer(status, page.encode(), HTML)


def _calls(completion: Body) -> list[Body]:
    found = []
    for choice in completion["choices"]:
        message = choice["message"]
        found += [call["function"] for call in message.get("tool_calls") or ()]
        found += [message["function_call"]] if message.get("function_call") else []
    return found


def _each_call(change: Callable[[Body], None]) -> Callable[[Body], None]:
    def spoil(completion: Body) -> None:
        for call in _calls(completion):
            change(call)

    return spoil


def _each_message(change: Callable[[Body, Body], None]) -> Callable[[Body], None]:
    def spoil(completion: Body) -> None:
        for choice in completion["choices"]:
            change(choice, choice["message"])

    return spoil


def _set_arguments(make: Callable[[str], Any]) -> Callable[[Body], None]:
    def change(call: Body) -> None:
        call["arguments"] = make(call["arguments"])

    return _each_call(change)


def _nested_encoded(arguments: str) -> str:
    value = orjson.loads(arguments)
    for name, inner in value.items():
        if isinstance(inner, (dict, list)):
            value[name] = orjson.dumps(inner).decode()
    return orjson.dumps(value).decode()


def _violating(arguments: str) -> str:
    """Well-formed, and of no schema's liking: every value is what it should not be."""
    value = orjson.loads(arguments)
    wrong: Body = {name: {"not": "asked for"} if not isinstance(inner, dict) else 7 for name, inner in value.items()}
    return orjson.dumps(wrong or {"unexpected": None}).decode()


def _no_call(choice: Body, message: Body) -> None:
    message.pop("tool_calls", None)
    message.pop("function_call", None)
    message["content"] = "I would rather talk about this."
    choice["finish_reason"] = "stop"


def _refused(choice: Body, message: Body) -> None:
    _no_call(choice, message)
    message["content"], message["refusal"] = None, "I'm sorry, I can't help with that."


def _truncated(choice: Body, message: Body) -> None:
    choice["finish_reason"] = "length"
    for call in _calls({"choices": [choice]}):
        call["arguments"] = call["arguments"][: len(call["arguments"]) // 2]


def _legacy(choice: Body, message: Body) -> None:
    if message.get("tool_calls"):
        message["function_call"] = message.pop("tool_calls")[0]["function"]
        choice["finish_reason"] = "function_call"


def _several(choice: Body, message: Body) -> None:
    if message.get("tool_calls"):
        first = message["tool_calls"][0]
        message["tool_calls"].append({**first, "id": first["id"] + "b", "function": dict(first["function"])})


def _with_choices(value: Any) -> Callable[[Body], None]:
    def spoil(completion: Body) -> None:
        completion["choices"] = value

    return spoil


def _without(name: str) -> Callable[[Body], None]:
    return lambda completion: completion.pop(name, None)


def _with_usage(change: Callable[[int], Any]) -> Callable[[Body], None]:
    def spoil(completion: Body) -> None:
        usage = completion["usage"]
        completion["usage"] = {
            name: change(value) if isinstance(value, int) else value for name, value in usage.items()
        }

    return spoil


def _rewritten(change: Callable[[bytes], bytes]) -> Callable[[Answer, Body], Answer]:
    return lambda answer, completion: replace(answer, body=change(answer.body))


def _with_big_integer(answer: Answer, completion: Body) -> Answer:
    return replace(
        answer, body=answer.body.replace(b'"created":1700000000', b'"created":123456789012345678901234567890')
    )


def _streamed(answer: Answer, completion: Body) -> Answer:
    return replace(answer, body=as_stream_bytes(completion), headers={"Content-Type": "text/event-stream"})


def as_stream_bytes(completion: Body) -> bytes:
    """A stream nobody asked for, in one piece, with a comment and without the space after the colon."""
    choices = [
        {"index": one["index"], "delta": _indexed(one["message"]), "finish_reason": one["finish_reason"]}
        for one in completion["choices"]
    ]
    event = {**completion, "object": "chat.completion.chunk", "choices": choices}
    return b": PING\n\ndata:" + orjson.dumps(event) + b"\n\ndata: [DONE]\n\n"


def _indexed(message: Body) -> Body:
    calls = [{"index": place, **call} for place, call in enumerate(message.get("tool_calls") or ())]
    return {**message, "tool_calls": calls} if calls else message


_SATURATED = "当前分组上游负载已饱和，请稍后再试"

FAULTS: Mapping[str, Fault] = {
    # refused: nothing is billed
    "rate_limited": Fault("429 with Retry-After", _refusal(429, "Rate limit reached", "requests", "rate_limit_exceeded", retry_after="1")),
    "rate_limited_bare": Fault("429, empty, without headers", lambda: Answer(429, b"", {})),
    "relay_saturated": Fault("a relay's 429 in Chinese", _refusal(429, _SATURATED, "new_api_error", None)),
    "quota": Fault("429 insufficient_quota, always", _refusal(429, "You exceeded your current quota", "insufficient_quota", "insufficient_quota"), is_sticky=True),
    "relay_quota": Fault("403 of a relay without money, always", _refusal(403, "用户额度不足, 剩余额度: 0", "new_api_error", "insufficient_user_quota"), is_sticky=True),
    "bad_key": Fault("401 invalid_api_key", _refusal(401, "Incorrect API key provided", "invalid_request_error", "invalid_api_key")),
    "unknown_model": Fault("404 model_not_found, always", _refusal(404, "The model does not exist", "invalid_request_error", "model_not_found"), is_sticky=True),
    "no_channel": Fault("503 of a relay without a channel", _refusal(503, "当前分组 default 下对于模型 m 无可用渠道", "new_api_error")),
    "overloaded": Fault("503 overloaded", _refusal(503, "The engine is currently overloaded", "server_error", retry_after="1")),
    "overloaded_529": Fault("529 overloaded", _refusal(529, "Overloaded", "overloaded_error")),
    "loading_model": Fault("503 Loading model", _refusal(503, "Loading model", "unavailable_error", 503)),
    "channel_failed": Fault("500 do_request_failed of a relay", _refusal(500, "do request failed", "new_api_error", "do_request_failed")),
    "cloudflare_1015": Fault("429 page of Cloudflare", lambda: Answer(429, b"error code: 1015", {"Content-Type": "text/plain"})),
    "redirect": Fault("301 to elsewhere", lambda: Answer(301, b"", {"Location": "http://127.0.0.1:9/elsewhere"})),
    "context_length": Fault("400 context_length_exceeded, always", _refusal(400, "This model's maximum context length is 8192 tokens", "invalid_request_error", "context_length_exceeded"), is_sticky=True),
    "content_filter": Fault("400 content_filter, always", _refusal(400, "The response was filtered", "invalid_request_error", "content_filter"), is_sticky=True),
    "sensitive_words": Fault("500 sensitive_words_detected, always", _refusal(500, "user sensitive words detected", "new_api_error", "sensitive_words_detected"), is_sticky=True),
    "invalid_request_500": Fault("500 invalid_request of a relay, always", _refusal(500, "field messages is required", "new_api_error", "invalid_request"), is_sticky=True),
    "unprocessable": Fault("422, always", _refusal(422, "Input should be a valid string", "invalid_request_error"), is_sticky=True),
    # ambiguous: may be billed elsewhere, is not here
    "server_error": Fault("500", _refusal(500, "The server had an error", "server_error")),
    "bad_gateway": Fault("502 page of nginx", _page(502, "502 Bad Gateway")),
    "gateway_timeout": Fault("504 page of nginx", _page(504, "504 Gateway Time-out")),
    "html_200": Fault("a page with status 200", _page(200, "Welcome")),
    "error_in_200": Fault("an error with status 200", lambda: Answer(200, envelope("The server is busy", "server_error"))),
    "disconnect_before": Fault("the connection is closed without an answer", lambda: Answer(200, b"{}", cut_at=-1)),
    "hang": Fault("no answer for ten minutes", lambda: Answer(200, b"{}", hang_s=600.0)),
    # paid, and not as it should be
    "disconnect_mid_body": Fault("the answer breaks off; billed", wrap=lambda answer, _: replace(answer, cut_at=len(answer.body) // 2)),
    "choices_null": Fault("choices null", spoil=_with_choices(None)),
    "choices_empty": Fault("choices empty", spoil=_with_choices([])),
    "choices_missing": Fault("no choices", spoil=_without("choices")),
    "unasked_stream": Fault("an event stream nobody asked for", wrap=_streamed),
    "two_documents": Fault("two JSON documents", wrap=_rewritten(lambda body: body + b"\n" + body)),
    "leading_whitespace": Fault("spaces and newlines first", wrap=_rewritten(lambda body: b" \n" * 2_000 + body)),
    "bom": Fault("a byte order mark first", wrap=_rewritten(lambda body: b"\xef\xbb\xbf" + body)),
    "gzip_mislabelled": Fault("gzip that is not called so", wrap=_rewritten(gzip.compress)),
    "wrong_content_type": Fault("JSON called text/plain", wrap=lambda answer, _: replace(answer, headers={"Content-Type": "text/plain"})),
    "usage_missing": Fault("no usage", spoil=_without("usage")),
    "usage_zero": Fault("usage of zeros", spoil=_with_usage(lambda value: 0)),
    "usage_string": Fault("usage as strings", spoil=_with_usage(str)),
    "usage_negative": Fault("negative usage", spoil=_with_usage(lambda value: -value)),
    "other_model": Fault("another model than asked", spoil=lambda completion: completion.update(model="another-model")),
    "arguments_object": Fault("arguments as an object", spoil=_set_arguments(orjson.loads)),
    "arguments_empty": Fault("arguments empty", spoil=_set_arguments(lambda arguments: "")),
    "arguments_null": Fault("arguments null", spoil=_set_arguments(lambda arguments: None)),
    "double_encoded": Fault("arguments encoded twice", spoil=_set_arguments(lambda arguments: orjson.dumps(arguments).decode())),
    "nested_encoded": Fault("objects and arrays inside encoded as strings", spoil=_set_arguments(_nested_encoded)),
    "fenced": Fault("arguments in a code fence", spoil=_set_arguments(lambda arguments: f"```json\n{arguments}\n```")),
    "trailing_comma": Fault("a trailing comma", spoil=_set_arguments(lambda arguments: arguments[:-1] + ",}")),
    "trailing_prose": Fault("prose behind the arguments", spoil=_set_arguments(lambda arguments: arguments + "\n\nHope this helps!")),
    "nan": Fault("NaN in the arguments", spoil=_set_arguments(lambda arguments: '{"value": NaN}')),
    "deep_json": Fault("arguments nested a thousand deep", spoil=_set_arguments(lambda arguments: "[" * 1_500 + "]" * 1_500)),
    "invalid_schema_arguments": Fault("well-formed arguments that violate the schema", spoil=_set_arguments(_violating)),
    "lone_surrogate": Fault("half of a surrogate pair in the text", wrap=_rewritten(lambda body: body.replace(b'"system_fingerprint":"fp_sandbox"', b'"system_fingerprint":"\\ud83d"'))),
    "big_integer": Fault("an integer of thirty digits", wrap=_with_big_integer),
    "truncated": Fault("cut off, finish_reason length", spoil=_each_message(_truncated)),
    "wrong_case_name": Fault("the tool's name in capitals", spoil=_each_call(lambda call: call.update(name="functions." + call["name"].upper()))),
    "unknown_tool": Fault("a tool that is none", spoil=_each_call(lambda call: call.update(name="no_such_tool"))),
    "no_call": Fault("text instead of a call", spoil=_each_message(_no_call)),
    "refusal": Fault("a refusal", spoil=_each_message(_refused)),
    "several_calls": Fault("two calls", spoil=_each_message(_several)),
    "legacy_function_call": Fault("a legacy function_call", spoil=_each_message(_legacy)),
    "finish_stop": Fault("a call with finish_reason stop", spoil=_each_message(lambda choice, _: choice.update(finish_reason="stop"))),
}  # fmt: skip


def chosen(shares: Mapping[str, float], digest: bytes, times: int, seed: int) -> Fault | None:
    """The fault this request meets, by its digest and how often it came; None for most."""
    for name, share in shares.items():
        fault = FAULTS[name]
        turn = 0 if fault.is_sticky else times
        roll = hashlib.blake2b(digest + f"{name} {turn} {seed}".encode(), digest_size=6).digest()
        if int.from_bytes(roll, "big") / 2**48 < share:
            return fault
    return None
