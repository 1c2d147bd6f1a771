"""What a model answers to a request, in no protocol's words: a pure function of what was asked and a seed."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import orjson

from batchcall.sandbox.generate import Source, conforming
from batchcall.schemas import CompiledSchema, SchemaError, compile_schema

Body = dict[str, Any]

CREATED = 1_700_000_000  # always the same, as everything else here
_SCHEMAS_HELD = 4_096
_CACHED_FROM = 1_024  # tokens of a prompt; vendors cache no shorter ones


class Finish(Enum):
    """Why the model stopped."""

    STOP = "stop"
    CALLS = "calls"
    LENGTH = "length"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Function:
    """A tool on offer."""

    name: str
    parameters: Any  # its JSON Schema


@dataclass(slots=True)
class Asked:
    """A request, whatever protocol it came in."""

    model: str
    text: str  # what the user said last, where the facts are
    functions: Sequence[Function] = ()  # those that may be called; one of them is, where there is any
    is_legacy: bool = False  # chat-completions as of 2023: `functions` instead of `tools`
    is_json: bool = False  # without functions: JSON instead of prose
    schema: Any = None  # of that JSON
    count: int = 1
    max_tokens: int | None = None
    is_thinking: bool = False
    is_stream: bool = False
    tells_usage: bool = True  # in a stream
    has_result: bool = False  # the last turn is a tool's result
    body: Body = field(default_factory=dict)  # as it was sent, for answers that repeat it


@dataclass(slots=True)
class Call:
    """A function called. A fault may put anything into it."""

    id: str  # without the vendor's prefix
    name: str
    arguments: Any  # text, as the model wrote it


@dataclass(slots=True)
class Choice:
    """One answer."""

    calls: list[Call]
    content: str | None
    finish: Finish
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, as they are billed."""

    prompt: int
    cached: int  # part of the prompt
    completion: int
    reasoning: int  # part of the completion

    @property
    def total(self) -> int:
        return self.prompt + self.completion


@dataclass(slots=True)
class Completion:
    """The answer to a request, one choice or several."""

    asked: Asked
    id: str  # without the vendor's prefix
    model: str
    choices: list[Choice]
    usage: Usage
    thought: str | None
    is_legacy: bool


@dataclass(slots=True)
class Answerer:
    """Answers requests. The same body and seed give the same answer, but for the id, which is new each time."""

    seed: int = 0
    _schemas: OrderedDict[bytes, CompiledSchema | None] = field(default_factory=OrderedDict)

    def answer(self, asked: Asked, digest: bytes, number: int, *, sent_bytes: int) -> Completion:
        digest = hashlib.blake2b(digest, digest_size=16, salt=self.seed.to_bytes(8, "big", signed=True)).digest()
        cap = asked.max_tokens
        reasoning = 16 + digest[1] % 64 if asked.is_thinking else 0
        if cap:
            reasoning = min(reasoning, cap // 2)
        choices = [self._choice(asked, digest + bytes([place])) for place in range(asked.count)]
        if cap:
            for choice in choices:
                _cut(choice, cap - reasoning)
        return Completion(
            asked,
            id=f"{digest[:8].hex()}{number:x}",
            model=asked.model,
            choices=choices,
            usage=_usage(sent_bytes, choices, reasoning),
            thought="Let me look at what is asked for." if reasoning else None,
            is_legacy=asked.is_legacy,
        )

    def _choice(self, asked: Asked, digest: bytes) -> Choice:
        if not asked.functions:
            return Choice([], self._content(asked, digest), Finish.STOP)
        function = asked.functions[digest[0] % len(asked.functions)]
        schema = self._compiled(function.parameters)
        made = conforming(schema, digest, asked.text) if schema is not None else {}
        arguments = orjson.dumps(made, option=orjson.OPT_NON_STR_KEYS).decode()
        return Choice([Call(digest[:12].hex(), function.name, arguments)], None, Finish.CALLS)

    def _content(self, asked: Asked, digest: bytes) -> str:
        if asked.is_json:
            schema = self._compiled(asked.schema)
            return orjson.dumps(conforming(schema, digest, asked.text) if schema else {"answer": "yes"}).decode()
        source = Source(digest, asked.text)
        return "This is what it says: " + " ".join(source.words[: 5 + digest[0] % 20]) + "."

    def _compiled(self, parameters: Any) -> CompiledSchema | None:
        """The schema, compiled once; None for one that cannot be used, whose arguments are then `{}`."""
        if not isinstance(parameters, dict):
            return None
        key = hashlib.blake2b(orjson.dumps(parameters), digest_size=16).digest()
        if key not in self._schemas:
            try:
                self._schemas[key] = compile_schema(parameters)
            except SchemaError:
                self._schemas[key] = None
            if len(self._schemas) > _SCHEMAS_HELD:
                self._schemas.popitem(last=False)
        return self._schemas[key]


def _tokens(characters: int) -> int:
    """Plausible: about four characters a token."""
    return max(1, (characters + 3) // 4)


def _said(choice: Choice) -> int:
    """Characters of an answer, the names of its functions apart: those a vendor never cuts."""
    return len(choice.content or "") + sum(len(call.arguments) for call in choice.calls)


def _cut(choice: Choice, room: int) -> None:
    """As if the tokens had run out, where there are more than `room`."""
    if _tokens(_said(choice)) <= room:
        return
    choice.finish = Finish.LENGTH
    for call in choice.calls:
        call.arguments = call.arguments[: max(1, min(room * 4, len(call.arguments) - 1))]
    if choice.content:
        choice.content = choice.content[: room * 4]


def _usage(sent_bytes: int, choices: list[Choice], reasoning: int) -> Usage:
    prompt = 8 + sent_bytes // 4
    written = sum(_tokens(_said(choice) + sum(len(call.name) for call in choice.calls)) for choice in choices)
    return Usage(prompt, prompt // 2 if prompt > _CACHED_FROM else 0, written + reasoning, reasoning)


def pieces(text: str) -> list[str]:
    """The text as a stream brings it."""
    return [text[start : start + 12] for start in range(0, len(text), 12)]


def finished_part(arguments: str) -> Body:
    """What was complete of arguments that were cut off: vendors that send objects send this much."""
    for end in reversed([place for place, letter in enumerate(arguments) if letter == ","]):
        try:
            whole = orjson.loads(arguments[:end] + "}")
        except ValueError:
            continue
        return whole if isinstance(whole, dict) else {}
    return {}


def as_object(arguments: Any) -> Any:
    """Arguments for a vendor that sends objects: JSON in place of text, and the text itself where it is not JSON."""
    if not isinstance(arguments, str):
        return arguments
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError as error:
        return orjson.Fragment(arguments) if "recursion" in str(error).lower() else arguments
    return orjson.Fragment(arguments)
