"""What a protocol is to the embedded endpoint: how its requests are read, its answers and its errors written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import orjson

from batchcall.sandbox.completion import Asked, Body, Completion
from batchcall.sandbox.limits import Standing

JSON = {"Content-Type": "application/json"}
EVENTS = "text/event-stream"


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


class Kind(Enum):
    """The reasons for which every vendor refuses, each in its own words."""

    RATE_LIMITED = auto()
    QUOTA = auto()
    BAD_KEY = auto()
    UNKNOWN_MODEL = auto()
    OVERLOADED = auto()
    CONTEXT_LENGTH = auto()
    FILTERED = auto()
    REJECTED = auto()
    SERVER_ERROR = auto()


@dataclass(frozen=True, slots=True)
class Trouble:
    """A refusal before the vendor has put it into words."""

    kind: Kind
    message: str = ""  # empty: the vendor's own
    param: str | None = None
    code: str | None = None
    wait_s: float | None = None  # for the client


class BadRequest(Exception):
    """The request is not one; said with status 400 in the vendor's envelope."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Address:
    """What the URL says beside the path."""

    model: str | None = None
    is_stream: bool = False
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Protocol:
    """One vendor's protocol. Everything in it is pure."""

    name: str
    keys: tuple[str, ...]  # headers that may carry the key; `Authorization` carries it behind Bearer
    read: Callable[[Any, Address], Asked]  # raises BadRequest where the vendor answers 400
    render: Callable[[Completion], Body]
    stream: Callable[[Body, Completion], bytes]  # of what `render` gave, and a fault perhaps bent
    refuse: Callable[[Trouble], Answer]
    relayed: Callable[[str, str, Any], Body]  # message, type and code in the envelope that new-api gives them
    limit_headers: Callable[[Sequence[Standing], float], dict[str, str]]  # the time is in seconds since the epoch
    answers: str  # the key of the document that holds the answers
    usage: str  # and the usage
    needed: tuple[str, ...] = ()  # headers beside the key without which the vendor answers 400
    nearest: Mapping[str, str] = field(default_factory=dict)  # faults without a meaning here: the nearest, "" for none
    stream_type: str = EVENTS


def as_event(document: Body, *, named: bool = False) -> bytes:
    """A server-sent event; `named` by the type that the document says."""
    name = b"event: %b\n" % document["type"].encode() if named else b""
    return name + b"data: %b\n\n" % orjson.dumps(document)


# Checks of a body's own fields. The nested ones are each protocol's business.

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


@dataclass(frozen=True, slots=True)
class Field:
    """What a field of a body may be."""

    expected: str  # "string or array"
    types: tuple[type, ...]
    is_required: bool


def fields(**written: str) -> dict[str, Field]:
    """`messages="array!"`: an array, required. `system="string|array"`: either. `x="any"`: anything."""
    return {name: _field(words) for name, words in written.items()}


def _field(words: str) -> Field:
    kinds = words.rstrip("!").split("|")
    types = tuple(type_ for kind in kinds for type_ in _TYPES.get(kind, (object,)))
    return Field(" or ".join(kinds), types, words.endswith("!"))


def missing_field(body: Body, known: Mapping[str, Field]) -> str | None:
    return next((name for name, field_ in known.items() if field_.is_required and body.get(name) is None), None)


def mistyped_field(body: Body, known: Mapping[str, Field]) -> str | None:
    """The first field whose value is of another type; null is as good as absent."""
    for name, value in body.items():
        if (field_ := known.get(name)) is None or value is None:
            continue
        if not isinstance(value, field_.types) or (isinstance(value, bool) and bool not in field_.types):
            return name
    return None


def unknown_field(body: Body, known: Mapping[str, Field]) -> str | None:
    return next((name for name in body if name not in known), None)


def kind_of(value: Any) -> str:
    """A value's JSON type, as error messages say it."""
    for kind in ("boolean", "integer", "number", "string", "array", "object"):
        if isinstance(value, _TYPES[kind]):
            return kind
    return "null"
