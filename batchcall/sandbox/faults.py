"""What endpoints do instead of answering well, each by its name. Drawn from what real endpoints and relays send.

In no protocol's words where a fault has words; where it has no meaning in a protocol, `Protocol.nearest` says what is
done instead.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import orjson

from batchcall.sandbox.completion import CREATED, Body, Call, Choice, Completion, Finish
from batchcall.sandbox.protocol import Answer, Kind, Protocol, Trouble

HTML = {"Content-Type": "text/html"}


Instead = Callable[[Protocol, str], Answer]  # given the key that came with the request


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to go wrong. At least one of the functions is there."""

    summary: str  # for `batchcall sandbox --faults`
    instead: Instead | None = None  # no answer is made, nothing is billed
    spoil: Callable[[Completion], None] | None = None  # the model does wrong; once it has a tool's result it does not
    bend: Callable[[Body, Protocol], None] | None = None  # the document is changed before it is written
    wrap: Callable[[Answer], Answer] | None = None  # what is sent is changed
    is_stream: bool = False  # the answer is streamed, asked for or not
    is_sticky: bool = False  # the same request meets it every time


def _refusal(kind: Kind, message: str = "", *, wait_s: float | None = None) -> Instead:
    return lambda protocol, key: protocol.refuse(Trouble(kind, message, wait_s=wait_s))


def _relayed(status: int, message: str, kind: str = "new_api_error", code: Any = None) -> Instead:
    """What a relay, a local server or a gateway says, in the envelope that it gives to clients of this protocol."""
    return lambda protocol, key: Answer(status, orjson.dumps(protocol.relayed(message, kind, code)))


def _exactly(answer: Answer) -> Instead:
    """The same in every protocol: what speaks here knows of none."""
    return lambda protocol, key: answer


def _page(status: int, title: str) -> Instead:
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return _exactly(Answer(status, page.encode(), HTML))


def _error_in_200(protocol: Protocol, key: str) -> Answer:
    return replace(protocol.refuse(Trouble(Kind.SERVER_ERROR, "The server is busy")), status=200)


def _echoing(kind: Kind) -> Instead:
    def echo(protocol: Protocol, key: str) -> Answer:
        """The key in every form that echoes were seen in, in the body and in headers."""
        in_json = orjson.dumps(key).decode()
        forms = (
            key,
            quote(key, safe=""),
            base64.b64encode(key.encode()).decode(),
            in_json,
            orjson.dumps(in_json).decode(),
        )
        answer = protocol.refuse(Trouble(kind, "You sent " + " or ".join(forms)))
        echoes = {"x-request-key": key, "set-cookie": f"key={forms[1]}", "www-authenticate": f"Basic {forms[2]}"}
        return replace(answer, headers={**answer.headers, **echoes})

    return echo


def _each_choice(change: Callable[[Choice], None]) -> Callable[[Completion], None]:
    def spoil(completion: Completion) -> None:
        for choice in completion.choices:
            change(choice)

    return spoil


def _each_call(change: Callable[[Call], None]) -> Callable[[Completion], None]:
    def spoil(completion: Completion) -> None:
        for choice in completion.choices:
            for call in choice.calls:
                change(call)

    return spoil


def _set_arguments(make: Callable[[str], Any]) -> Callable[[Completion], None]:
    def change(choice: Choice) -> None:
        if choice.finish is Finish.LENGTH:  # cut off: it is wrong already, and no JSON to be changed
            return
        for call in choice.calls:
            call.arguments = make(call.arguments)

    return _each_choice(change)


def _nested_encoded(arguments: str) -> str:
    value = orjson.loads(arguments)
    for name, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, (dict, list)):
            value[name] = orjson.dumps(inner).decode()
    return orjson.dumps(value).decode()


def _violating(arguments: str) -> str:
    """Well-formed, and of no schema's liking: every value is what it should not be."""
    value = orjson.loads(arguments)
    named = value if isinstance(value, dict) else {}
    wrong: Body = {name: {"not": "asked for"} if not isinstance(inner, dict) else 7 for name, inner in named.items()}
    return orjson.dumps(wrong or {"unexpected": None}).decode()


def _in_capitals(call: Call) -> None:
    call.name = "functions." + call.name.upper()


def _unknown(call: Call) -> None:
    call.name = "no_such_tool"


def _no_call(choice: Choice) -> None:
    choice.calls, choice.content, choice.finish = [], "I would rather talk about this.", Finish.STOP


def _refused(choice: Choice) -> None:
    choice.calls, choice.content, choice.finish = [], None, Finish.REFUSAL
    choice.refusal = "I'm sorry, I can't help with that."


def _truncated(choice: Choice) -> None:
    choice.finish = Finish.LENGTH
    for call in choice.calls:
        call.arguments = call.arguments[: len(call.arguments) // 2]


def _several(choice: Choice) -> None:
    choice.calls += [replace(call, id=call.id + "b") for call in choice.calls[:1]]


def _finish_stop(choice: Choice) -> None:
    choice.finish = Finish.STOP


def _legacy(completion: Completion) -> None:
    completion.is_legacy = True


def _other_model(completion: Completion) -> None:
    completion.model = "another-model"


def _with_answers(value: Any) -> Callable[[Body, Protocol], None]:
    def bend(document: Body, protocol: Protocol) -> None:
        document[protocol.answers] = value

    return bend


def _without_answers(document: Body, protocol: Protocol) -> None:
    del document[protocol.answers]


def _without_usage(document: Body, protocol: Protocol) -> None:
    del document[protocol.usage]


def _with_usage(change: Callable[[int], Any]) -> Callable[[Body, Protocol], None]:
    def bend(document: Body, protocol: Protocol) -> None:
        document[protocol.usage] = {
            name: change(value) if isinstance(value, int) else value for name, value in document[protocol.usage].items()
        }

    return bend


def _rewritten(change: Callable[[bytes], bytes]) -> Callable[[Answer], Answer]:
    return lambda answer: replace(answer, body=change(answer.body))


def _with_big_integer(body: bytes) -> bytes:
    """In place of the time, where the protocol has one, else as a field that relays might add."""
    time, big = str(CREATED).encode(), b"123456789012345678901234567890"
    return body.replace(time, big) if time in body else body.replace(b"{", b'{"created":%b,' % big, 1)


_MARK = "half-a-surrogate"


def _marked(completion: Completion) -> None:
    completion.id += _MARK  # the one text that every protocol has


def _untidy(body: bytes) -> bytes:
    """As relays stream: with a comment first and without the space behind the colon."""
    return b": PING\n\n" + body.replace(b"data: ", b"data:")


_SATURATED = "当前分组上游负载已饱和，请稍后再试"

FAULTS: Mapping[str, Fault] = {
    # refused: nothing is billed
    "rate_limited": Fault("429 with the time to wait", _refusal(Kind.RATE_LIMITED, wait_s=1.0)),
    "rate_limited_bare": Fault("429, empty, without headers", _exactly(Answer(429, b"", {}))),
    "relay_saturated": Fault("a relay's 429 in Chinese", _relayed(429, _SATURATED)),
    "quota": Fault("no quota or credit left, always", _refusal(Kind.QUOTA), is_sticky=True),
    "relay_quota": Fault("403 of a relay without money, always", _relayed(403, "用户额度不足, 剩余额度: 0", code="insufficient_user_quota"), is_sticky=True),
    "bad_key": Fault("a key that is refused", _refusal(Kind.BAD_KEY)),
    "unknown_model": Fault("a model that does not exist, always", _refusal(Kind.UNKNOWN_MODEL), is_sticky=True),
    "no_channel": Fault("503 of a relay without a channel", _relayed(503, "当前分组 default 下对于模型 m 无可用渠道")),
    "overloaded": Fault("overloaded: 503, Anthropic's 529", _refusal(Kind.OVERLOADED, wait_s=1.0)),
    "overloaded_529": Fault("529 overloaded", _relayed(529, "Overloaded", "overloaded_error")),
    "loading_model": Fault("503 Loading model of llama.cpp", _relayed(503, "Loading model", "unavailable_error", 503)),
    "channel_failed": Fault("500 do_request_failed of a relay", _relayed(500, "do request failed", code="do_request_failed")),
    "cloudflare_1015": Fault("429 page of Cloudflare", _exactly(Answer(429, b"error code: 1015", {"Content-Type": "text/plain"}))),
    "redirect": Fault("301 to another URL", _exactly(Answer(301, b"", {"Location": "http://127.0.0.1:9/elsewhere"}))),
    "context_length": Fault("400, the prompt is too long, always", _refusal(Kind.CONTEXT_LENGTH), is_sticky=True),
    "content_filter": Fault("400, filtered, always; Gemini's blockReason", _refusal(Kind.FILTERED), is_sticky=True),
    "sensitive_words": Fault("500 sensitive_words_detected of a relay, always", _relayed(500, "user sensitive words detected", code="sensitive_words_detected"), is_sticky=True),
    "invalid_request_500": Fault("500 invalid_request of a relay, always", _relayed(500, "field messages is required", code="invalid_request"), is_sticky=True),
    "unprocessable": Fault("422, always", _relayed(422, "Input should be a valid string", "invalid_request_error"), is_sticky=True),
    "echoes_key": Fault("400 that quotes the request's key, always", _echoing(Kind.REJECTED), is_sticky=True),
    "echoes_bad_key": Fault("a key that is refused and quoted, always", _echoing(Kind.BAD_KEY), is_sticky=True),
    # ambiguous: may be billed elsewhere, is not here
    "server_error": Fault("500", _refusal(Kind.SERVER_ERROR)),
    "bad_gateway": Fault("502 page of nginx", _page(502, "502 Bad Gateway")),
    "gateway_timeout": Fault("504 page of nginx", _page(504, "504 Gateway Time-out")),
    "html_200": Fault("a page with status 200", _page(200, "Welcome")),
    "error_in_200": Fault("an error with status 200", _error_in_200),
    "disconnect_before": Fault("the connection is closed without an answer", _exactly(Answer(200, b"{}", cut_at=-1))),
    "hang": Fault("no answer for ten minutes", _exactly(Answer(200, b"{}", hang_s=600.0))),
    # paid, and not as it should be
    "disconnect_mid_body": Fault("the answer breaks off; billed", wrap=lambda answer: replace(answer, cut_at=len(answer.body) // 2)),
    "choices_null": Fault("choices null, or what the protocol calls them", bend=_with_answers(None)),
    "choices_empty": Fault("choices empty", bend=_with_answers([])),
    "choices_missing": Fault("no choices", bend=_without_answers),
    "unasked_stream": Fault("an event stream nobody asked for", wrap=_rewritten(_untidy), is_stream=True),
    "two_documents": Fault("two JSON documents", wrap=_rewritten(lambda body: body + b"\n" + body)),
    "leading_whitespace": Fault("spaces and newlines first", wrap=_rewritten(lambda body: b" \n" * 2_000 + body)),
    "bom": Fault("a byte order mark first", wrap=_rewritten(lambda body: b"\xef\xbb\xbf" + body)),
    "gzip_mislabelled": Fault("gzip that is not declared as gzip", wrap=_rewritten(gzip.compress)),
    "wrong_content_type": Fault("JSON declared as text/plain", wrap=lambda answer: replace(answer, headers={"Content-Type": "text/plain"})),
    "usage_missing": Fault("no usage", bend=_without_usage),
    "usage_zero": Fault("usage of zeros", bend=_with_usage(lambda value: 0)),
    "usage_string": Fault("usage as strings", bend=_with_usage(str)),
    "usage_negative": Fault("negative usage", bend=_with_usage(lambda value: -value)),
    "other_model": Fault("another model than asked", spoil=_other_model),
    "arguments_object": Fault("arguments as an object", spoil=_set_arguments(orjson.loads)),
    "arguments_empty": Fault("arguments empty", spoil=_set_arguments(lambda arguments: "")),
    "arguments_null": Fault("arguments null", spoil=_set_arguments(lambda arguments: None)),
    "double_encoded": Fault("arguments encoded twice", spoil=_set_arguments(lambda arguments: orjson.dumps(arguments).decode())),
    "nested_encoded": Fault("inner objects and arrays encoded as strings", spoil=_set_arguments(_nested_encoded)),
    "fenced": Fault("arguments in a code fence", spoil=_set_arguments(lambda arguments: f"```json\n{arguments}\n```")),
    "trailing_comma": Fault("a trailing comma", spoil=_set_arguments(lambda arguments: arguments[:-1] + ",}")),
    "trailing_prose": Fault("text after the arguments", spoil=_set_arguments(lambda arguments: arguments + "\n\nHope this helps!")),
    "nan": Fault("NaN in the arguments", spoil=_set_arguments(lambda arguments: '{"value": NaN}')),
    "deep_json": Fault("arguments nested a thousand levels deep", spoil=_set_arguments(lambda arguments: "[" * 1_500 + "]" * 1_500)),
    "invalid_schema_arguments": Fault("well-formed arguments that violate the schema", spoil=_set_arguments(_violating)),
    "lone_surrogate": Fault("half of a surrogate pair in the text", spoil=_marked, wrap=_rewritten(lambda body: body.replace(_MARK.encode(), b"\\ud83d"))),
    "big_integer": Fault("an integer of thirty digits", wrap=_rewritten(_with_big_integer)),
    "truncated": Fault("cut off, and reported as cut off", spoil=_each_choice(_truncated)),
    "wrong_case_name": Fault("the tool's name in capitals", spoil=_each_call(_in_capitals)),
    "unknown_tool": Fault("a tool that does not exist", spoil=_each_call(_unknown)),
    "no_call": Fault("text instead of a call", spoil=_each_choice(_no_call)),
    "refusal": Fault("a refusal", spoil=_each_choice(_refused)),
    "several_calls": Fault("two calls", spoil=_each_choice(_several)),
    "legacy_function_call": Fault("a legacy function_call", spoil=_legacy),
    "finish_stop": Fault("a call with finish_reason stop", spoil=_each_choice(_finish_stop)),
}  # fmt: skip


def chosen(
    shares: Mapping[str, float], digest: bytes, times: int, seed: int, nearest: Mapping[str, str]
) -> Fault | None:
    """The fault this request meets, by its digest and how often it came; None for most."""
    for name, share in shares.items():
        turn = 0 if FAULTS[name].is_sticky else times
        roll = hashlib.blake2b(digest + f"{name} {turn} {seed}".encode(), digest_size=6).digest()
        if int.from_bytes(roll, "big") / 2**48 < share:
            return FAULTS.get(nearest.get(name, name))
    return None
