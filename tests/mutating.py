"""Golden answers spoilt by chance, and what every dialect must come to whatever they are spoilt into."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from batchcall.answers.arguments import Toolbox
from batchcall.base.records import Failure, HttpResponse, Reply, Request, Shape, Tool
from batchcall.dialects import DIALECTS
from running import TOOL

LARGEST = 256 * 1024  # bytes of an answer; that longer ones are cut is tested elsewhere
HEADERS = (  # of each kind that is looked at where an answer is a failure
    *("retry-after", "retry-after-ms", "llm_provider-retry-after", "x-should-retry", "x-ratelimit-type"),
    *("anthropic-ratelimit-requests-reset", "anthropic-ratelimit-requests-remaining"),
    *("anthropic-ratelimit-input-tokens-reset", "anthropic-ratelimit-input-tokens-remaining"),
    *("x-ratelimit-reset", "x-ratelimit-remaining", "ratelimit", "anthropic-ratelimit-unified-5h-status"),
)
STATUSES = (200, 200, 200, 200, 201, 204, 400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 529)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
    },
    "$defs": {"tag": {"type": "object", "properties": {"tag": {"$ref": "#/$defs/tag"}}}},
}
NAMES = ("get_weather", "record_person", "f")  # as the goldens call them
TOOLS = tuple(
    Tool(name, schema, {"type": "function", "function": {"name": name, "parameters": schema}})
    for name, schema in zip(NAMES, (SCHEMA, TOOL["function"]["parameters"], {"type": "object"}), strict=True)
)
TOOLBOX = Toolbox.of(TOOLS)
REQUEST = Request(Shape("m", TOOLS), [{"role": "user", "content": "Hi"}])


@cache
def goldens() -> tuple[bytes, ...]:
    """The bodies of all golden answers that have one, of every dialect."""
    folders = [Path(__file__).parent / "dialects" / name.replace("-", "_") for name in DIALECTS]
    bodies = [body for folder in folders for path in sorted(folder.glob("*.json")) if (body := _body_of(path))]
    return tuple(body for body in bodies if len(body) <= LARGEST)


def _body_of(path: Path) -> bytes | None:
    body = json.loads(path.read_bytes())["response"].get("body")
    if body is None:
        return None
    return body.encode("utf-8", "surrogatepass") if isinstance(body, str) else json.dumps(body).encode()


def spoilt(dice: random.Random) -> HttpResponse:
    """An answer that no endpoint has given: a golden one with one to four things wrong."""
    body = dice.choice(goldens())
    for _ in range(dice.randint(1, 4)):
        body = dice.choice(_WAYS)(dice, body)[:LARGEST]
    headers = {"retry-after": dice.choice(("1", "-1", "NaN", "soon", "1e400"))} if dice.random() < 0.1 else {}
    return HttpResponse(dice.choice(STATUSES), headers, body, is_cut=dice.random() < 0.02)


def check_in_every_dialect(response: HttpResponse) -> None:
    """Whatever came, it is an answer or a failure; its calls are read, and can be asked about again."""
    for dialect in DIALECTS.values():
        answer = dialect.decode(response, now_s=1_700_000_000.0)
        if isinstance(answer, Failure):
            assert answer.message
            continue
        assert isinstance(answer, Reply)
        for repair in (True, False):
            reading = TOOLBOX.read(answer, repair=repair, coerce=repair, max_tokens=16)
            json.dumps(reading.arguments, allow_nan=False).encode()  # what is said to be valid can be written
        again = dialect.encode(dialect.reask(REQUEST, answer, "It is wrong."))
        json.loads(again.body)


# Ways to spoil a document: any place in it


def _in_document(change: Callable[[random.Random, Any, Any], None]) -> Callable[[random.Random, bytes], bytes]:
    """The change at a place of the document, or of one event of a stream; bytes that are neither stay."""

    def spoil(dice: random.Random, body: bytes) -> bytes:
        lines = body.split(b"\n")
        events = [number for number, line in enumerate(lines) if line.startswith(b"data:")]
        number = dice.choice(events) if events else None
        text = body if number is None else lines[number][5:]
        try:
            root = [json.loads(text)]
        except (ValueError, RecursionError):
            return body
        holder, place = dice.choice(_places(root))
        change(dice, holder, place)
        made = json.dumps(root[0] if root else None).encode("utf-8", "surrogatepass")
        if number is None:
            return made
        lines[number] = b"data: " + made
        return b"\n".join(lines)

    return spoil


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    """Every container with every key or index in it."""
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [root]
    while waiting and len(places) < 2_000:
        holder = waiting.pop()
        for place in list(holder) if isinstance(holder, dict) else range(len(holder)):
            places.append((holder, place))
            if isinstance(holder[place], dict | list):
                waiting.append(holder[place])
    return places


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _same(value: Any) -> Any:
    return value


_NASTY: tuple[Callable[[], Any], ...] = (
    *(
        partial(_same, value)
        for value in (
            None,
            True,
            False,
            0,
            -1,
            1e308,
            2**63,
            2**70,
            float("nan"),
            float("inf"),
            "",
            " ",
            "null",
            "{}",
            "[]",
            "\ud83d",
            "\u2028\x00\x1b[31m",
            "ok",
            "length",
            "tool_use",
            "STOP",
            "completed",
            "message",
            "function_call",
            '{"city":"P"}',
            "```json\n{}\n```",
            '"{\\"a\\": 1}"',
            "{" * 50,
            "429",
            [],
            {},
            [None],
            [[]],
            [{}],
            {"type": "message"},
            {"error": {}},
            {"error": "no"},
            {"choices": []},
            {"message": {"content": 1}},
            {"parts": [{"text": None}]},
            {"role": "assistant"},
        )
    ),
    lambda: "x" * 5_000,
    lambda: 10**500,
    lambda: _deep(60),
    lambda: _deep(200),
    lambda: [{}] * 2_000,
    lambda: {str(number): number for number in range(500)},
    lambda: json.dumps(_deep(100)),
    lambda: '{"tag":' * 90 + "{}" + "}" * 90,
)


def _replace(dice: random.Random, holder: Any, place: Any) -> None:
    holder[place] = dice.choice(_NASTY)()


def _remove(dice: random.Random, holder: Any, place: Any) -> None:
    del holder[place]


def _wrap(dice: random.Random, holder: Any, place: Any) -> None:
    holder[place] = dice.choice(
        [[holder[place]], {"type": holder[place]}, json.dumps(holder[place]), [holder[place]] * 3]
    )


def _rename(dice: random.Random, holder: Any, place: Any) -> None:
    if isinstance(holder, dict):
        holder[dice.choice(_KEYS)] = holder.pop(place)


_KEYS = (
    "choices",
    "message",
    "delta",
    "tool_calls",
    "function",
    "function_call",
    "arguments",
    "content",
    "type",
    "input",
    "text",
    "candidates",
    "parts",
    "functionCall",
    "args",
    "finishReason",
    "finish_reason",
    "stop_reason",
    "output",
    "status",
    "error",
    "usage",
    "usageMetadata",
    "response",
    "index",
    "id",
    "name",
    "code",
    "details",
    "retryDelay",
)


def _transplant(dice: random.Random, holder: Any, place: Any) -> None:
    """A piece of another golden answer."""
    try:
        other = [json.loads(dice.choice(goldens()))]
    except (ValueError, RecursionError):
        return
    from_, where = dice.choice(_places(other))
    holder[place] = from_[where]


# Ways to spoil bytes


def _cut(dice: random.Random, body: bytes) -> bytes:
    return body[: dice.randint(0, len(body))]


def _flip(dice: random.Random, body: bytes) -> bytes:
    made = bytearray(body)
    for _ in range(dice.randint(1, 8)):
        if made:
            made[dice.randrange(len(made))] = dice.randrange(256)
    return bytes(made)


def _insert(dice: random.Random, body: bytes) -> bytes:
    at = dice.randint(0, len(body))
    piece = dice.choice(
        (
            b"\0",
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            b"\n\n",
            b"data: ",
            b": PING\n\n",
            b"[DONE]",
            b"\\ud83d",
            b"{",
            b"]" * 300,
            b"9" * 300,
        )
    )
    return body[:at] + piece + body[at:]


def _repeat(dice: random.Random, body: bytes) -> bytes:
    return body * dice.choice((2, 3, 50))


def _join(dice: random.Random, body: bytes) -> bytes:
    return body + dice.choice((b"", b"\n", b"\n\n")) + dice.choice(goldens())


def _as_stream(dice: random.Random, body: bytes) -> bytes:
    return b"".join(b"data: " + line + b"\n\n" for line in body.splitlines())


def _compress(dice: random.Random, body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)[: dice.choice((None, None, 20))]


def _shuffle(dice: random.Random, body: bytes) -> bytes:
    events = body.split(b"\n\n")
    dice.shuffle(events)
    return b"\n\n".join(events)


_WAYS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_in_document(change) for change in (_replace, _replace, _replace, _remove, _wrap, _rename, _transplant)),
    _cut,
    _flip,
    _insert,
    _repeat,
    _join,
    _as_stream,
    _compress,
    _shuffle,
)
