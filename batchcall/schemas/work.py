"""How much work a schema can cause for a value, known before the validator is called: a call cannot be interrupted.

A few definitions that name each other come to billions of checks of one small value. Work is counted in units of about
20 ns of the validator's time. The bounds are estimates, mostly far too high; `scripts/fuzz work` looks for an answer
whose time they put too low.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import reduce
from typing import NamedTuple

import msgspec

from batchcall.base import Json
from batchcall.schemas.walk import REST, Part, References, SchemaError, as_dict

UNITS = 15_000_000  # for all that is done with one answer: 0.3 s on a quiet machine
UNITS_A_STEP = 500  # of the walk in Python, which takes 10 µs for what the validator does in 20 ns
UNITS_A_PART_MET = 5  # in a walk that pays as it goes
_MANY = 10**15  # beyond this it does not matter how many
MAX_CHECKS = 1_000_000  # schemas applied to one value once every reference is followed
MAX_CHAIN = 100  # schemas that lead on from one to the next for one value; whoever follows them recurses


class TooMuchWork(Exception):
    """Checking a value would take longer than one answer may take."""


class Effort(msgspec.Struct):
    """The work that one answer may still cause, in validating, explaining and repairing together."""

    units: float = UNITS

    def spend(self, units: float) -> None:
        """Raises TooMuchWork where that is more than is left; nothing is taken then."""
        if units > self.units:
            raise TooMuchWork
        self.units -= units

    def can(self, units: float) -> bool:
        return units <= self.units


class Bound(NamedTuple):
    """The most work of one schema: units for each part of a value, and for each character of its texts."""

    a_part: float
    a_character: float

    def of(self, size: int) -> float:
        """Units for a value of `size` parts and characters together, such as the length of its JSON text."""
        return (self.a_part + self.a_character) * size


class Size(NamedTuple):
    """How much there is in a value."""

    parts: int
    characters: int  # of its texts
    names: int  # characters of the names in it
    has_long_number: bool  # an integer beyond 64 bits, which the validator compares slowly


def size_of(value: Json, *, effort: Effort | None = None) -> Size:
    """With an effort, each part is paid for as it is met, so a value that is too large is not walked to its end."""
    parts, characters, names, has_long_number = 1, 0, 0, False
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            names += sum(map(len, node))
            inner: Collection[Json] = node.values()
        else:
            inner = node if isinstance(node, list) else [node]
        if effort is not None:
            effort.spend(len(inner) * UNITS_A_PART_MET)
        parts += len(inner)
        for one in inner:
            if isinstance(one, str):
                characters += len(one)
            elif isinstance(one, dict | list):
                waiting.append(one)
            elif isinstance(one, int) and not -(2**63) <= one < 2**63:
                has_long_number = True
    return Size(parts, characters, names, has_long_number)


class _Load(NamedTuple):
    """What a schema puts on a value, and on the parts of it."""

    here: Bound
    below: Mapping[str, Bound]  # on each member of this name; under `REST` on any member at all
    most: Bound  # on whichever part gets most
    levels: int  # of the value that it reaches down to
    chain: int  # schemas that lead on from one to the next for the same value
    checks: int  # schemas that are applied to that value in all


_NOTHING = Bound(0, 0)
_SOMETHING = _Load(Bound(1, 0), {}, Bound(1, 0), 0, 0, 1)  # true, false
_OPEN = _SOMETHING._replace()  # of a schema whose parts are being summed


def bound_of(document: dict[str, Json], references: References) -> Bound:
    """The most work that a document causes for a value. Raises SchemaError where it unfolds to too many checks: a few
    definitions that name each other twice come to billions.

    The validator remembers what a reference gave that leads back to where it came from. Everything else it applies as
    often as it is named, so the schema without those references is a tree, and its branches multiply.
    """
    # Depth first without recursion: a schema is put back with its parts and is summed when all of them are done. One
    # that is met while it is still open closes a loop. It counts as `true` there, and all that it costs is added once
    # for each level of the value that it reaches, since the validator remembers its verdict.
    loads: dict[int, _Load] = {}
    returns: dict[int, None] = {}  # the schemas that references lead back to
    waiting: list[tuple[dict[str, Json], tuple[Part, ...] | None]] = [(document, None)]
    while waiting:
        schema, parts = waiting.pop()
        if parts is None:
            if id(schema) not in loads:
                loads[id(schema)] = _OPEN
                parts = references.parts_of(schema)
                waiting.append((schema, parts))
                waiting += [(part.schema, None) for part in parts if isinstance(part.schema, dict)]
            continue
        kept = []
        for part in parts:
            load = loads[id(part.schema)] if isinstance(part.schema, dict) else _SOMETHING
            if load is _OPEN:
                returns[id(part.schema)] = None
            kept.append((part.member, load))
        loads[id(schema)] = load = _loaded(schema, kept)
        if load.checks > MAX_CHECKS:
            raise SchemaError("", f"expands to more than {MAX_CHECKS:,} checks of one value")
        if load.chain >= MAX_CHAIN:
            raise SchemaError("", f"a chain of more than {MAX_CHAIN} references")
    total = loads[id(document)].most
    for node in returns:
        total = _sum(total, loads[node].most, loads[node].levels + 1)
    return total


def _loaded(schema: dict[str, Json], parts: list[tuple[str | None, _Load]]) -> _Load:
    same = [load for member, load in parts if member is None]  # they judge the same value
    chain = max((load.chain + 1 for load in same), default=0)
    # Which members are evaluated is found out behind the verdict, once more at every level.
    times = 2 + chain if "unevaluatedProperties" in schema or "unevaluatedItems" in schema else 1
    here, below, levels = _own(schema), dict[str, Bound](), 0
    for member, load in parts:
        if member is None:
            here = _sum(here, load.here, times)
        for name, bound in load.below.items() if member is None else [(member, load.most)]:
            below[name] = _sum(below.get(name, _NOTHING), bound, times)
        levels = max(levels, load.levels + (member is not None))
    rest = below.get(REST, _NOTHING)
    within = [bound if name == REST else _sum(bound, rest, 1) for name, bound in below.items()]
    return _Load(here, below, reduce(_larger, within, here), levels, chain, 1 + sum(load.checks for load in same))


def _own(schema: dict[str, Json]) -> Bound:
    # Comparing with an object or a list costs about four times as much as with a scalar.
    parts: float = 1
    for value in (schema.get("enum"), schema.get("const")):
        if isinstance(value, dict | list):
            parts += sum(4 for one in value if isinstance(one, dict | list)) + (isinstance(value, dict) * 4)
    for names in as_dict(schema.get("dependentRequired")).values():
        parts += len(names) if isinstance(names, list) else 0
    characters = 0.0
    if isinstance(pattern := schema.get("pattern"), str):
        characters += pattern_cost(pattern)
    for pattern in as_dict(schema.get("patternProperties")):
        parts += 1
        characters += pattern_cost(pattern)
    if isinstance(schema.get("format"), str):
        characters += 0.5
    return Bound(parts, characters)


def _sum(a: Bound, b: Bound, times: int) -> Bound:
    return Bound(min(a.a_part + b.a_part * times, _MANY), min(a.a_character + b.a_character * times, _MANY))


def _larger(a: Bound, b: Bound) -> Bound:
    return Bound(max(a.a_part, b.a_part), max(a.a_character, b.a_character))


# What a pattern costs

_FEW_PLACES = 12  # so few that all combinations of them fit the engine's tables
_QUICK = 0.3  # units a character in the engine's tables
_SLOW = 150  # at least, where it has to follow many places at once; 5 for each place
_CLASS_OR_CHARACTER = re.compile(r"\\[pP]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d+)(,?)(\d*)\}|.", re.DOTALL)


_PROPERTY = re.compile(r"\\[pP]")


def pattern_cost(pattern: str) -> float:
    """Units for each character of a text that a pattern is matched against, in linear time."""
    places = pattern_places(pattern)
    if places <= _FEW_PLACES or _ends_early(pattern):
        return _QUICK
    return max(_SLOW, 5 * places)


def pattern_places(pattern: str, *, of_property: int = 1) -> int:
    """The characters and classes of a pattern, each as often as it is repeated by number. `of_property`: for how many
    a class of Unicode counts, such as all letters."""
    # `last` is what a repetition by number repeats: a class, a character, or the group that has just been closed. The
    # engine unrolls it: (a{100}){100} has ten thousand places.
    total, last, groups = 0, 0, list[int]()
    for token in _CLASS_OR_CHARACTER.finditer(pattern):
        text = token[0]
        if text == "(":
            groups.append(total)
        elif text == ")":
            last = total - (groups.pop() if groups else 0)
        elif token[1] is not None:
            times = int((token[3] or token[1])[:7])
            total = min(total + last * max(times - 1, 0), _MANY)
            last *= times
        elif text not in "*+?|^$":
            last = of_property if _PROPERTY.search(text) else 1
            total += last
    return total


def _ends_early(pattern: str) -> bool:
    """Whether it begins at the start of the text and repeats nothing without limit: then it never looks far."""
    if not pattern.startswith("^"):
        return False
    depth = 0
    for token in _CLASS_OR_CHARACTER.finditer(pattern):
        text = token[0]
        depth += (text == "(") - (text == ")")
        if text in ("*", "+") or (token[2] and not token[3]) or (text == "|" and depth == 0):
            return False
    return True
