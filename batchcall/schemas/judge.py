"""A value checked against a schema step by step. Each schema is applied to each part of the value once, however often
it is named: for values that would take the validator too long, and to report what is wrong with a value.

The validator judges the keywords that look at one value alone. Those that lead to other schemas or parts are here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import jsonschema_rs
import msgspec

from batchcall.base import Json
from batchcall.schemas.field_types import encode_json, plain_numbers, shortened
from batchcall.schemas.walk import REFERENCES, References, as_dict, has_unevaluated, pointer
from batchcall.schemas.work import UNITS_A_STEP, Effort, pattern_cost, size_of

MAX_FAULTS = 4  # of one schema on one value: three are reported, and that there are more
_UNITS_A_LOOK = 50  # at what is known already
_SHOWN_VALUE = 80  # characters of a value in a message
_SHOWN_MESSAGE = 240  # characters of a message
MASK = "\x00"  # stands for the value in the validator's messages, which would embed all of it


class Fault(NamedTuple):
    """What is wrong at one place of a value."""

    path: tuple[str | int, ...]
    message: str


class Verdict(NamedTuple):
    """The result of a schema on a value. `names` and `items` are the members that it has looked at."""

    faults: tuple[Fault, ...] = ()
    names: frozenset[str] = frozenset()
    items: frozenset[int] = frozenset()


# A judging is a generator: it yields the (schema, value) pairs whose verdicts it needs and is sent each verdict. So one
# loop runs all of them, values and schemas may nest as deep as they like, and every step can be counted.
_Judging: TypeAlias = Generator[tuple[Json, Json], Any, Verdict]
_Key: TypeAlias = tuple[int, int]
_Schema: TypeAlias = dict[str, Any]  # it has compiled, so its keywords have the right shapes
_VALID = Verdict()
_D4, _D6, _D7, _D2019, _D2020 = 4, 6, 7, 2019, 2020
_Compile: TypeAlias = Callable[[dict[str, Json]], jsonschema_rs.Validator]


class Rules(msgspec.Struct):
    """A document, ready to be walked. What is compiled for one value serves the next."""

    document: dict[str, Json]
    references: References
    compile: _Compile
    draft: int = _D2020
    tracks: bool = False  # whether it matters which members were looked at
    alone: dict[int, _Alone] = {}  # by identity of the schema
    patterns: dict[str, Callable[[str], bool]] = {}
    costs: dict[int, float] = {}  # by identity of what patternProperties holds

    def __post_init__(self) -> None:
        named = str(self.document.get("$schema", ""))
        self.draft = next((draft for name, draft in _DRAFTS.items() if name in named), _D2020)
        self.tracks = has_unevaluated(self.document)

    def alone_of(self, schema: dict[str, Json]) -> _Alone:
        if id(schema) not in self.alone:
            self.alone[id(schema)] = _Alone.of(schema, self)
        return self.alone[id(schema)]

    def units_a_name(self, patterns: Mapping[str, Json]) -> float:
        """Units for finding out which of the patterns a name matches."""
        if id(patterns) not in self.costs:
            self.costs[id(patterns)] = 20 + sum(75 + 20 * pattern_cost(pattern) for pattern in patterns)
        return self.costs[id(patterns)]

    def matches(self, pattern: str, name: str) -> bool:
        if pattern not in self.patterns:
            self.patterns[pattern] = self.compile({"pattern": pattern}).is_valid
        return self.patterns[pattern](name)


class _Alone(msgspec.Struct, frozen=True):
    """The keywords of a schema that look at a value and not into it."""

    validator: jsonschema_rs.Validator | None
    whole: jsonschema_rs.Validator | None  # `enum` and `const`, which compare all that is in a value
    is_unique: bool
    units_a_character: float
    units: float
    applicators: tuple[tuple[type, _Applicator], ...]  # each with the values it has to do with

    @classmethod
    def of(cls, schema: dict[str, Json], rules: Rules) -> _Alone:
        # The validator judges a schema that has only these keywords, on a value whose members are nulls: so it cannot
        # recurse, and its time is known. `additionalProperties: false` stays with the names that it allows.
        if rules.draft < _D2019 and "$ref" in schema:  # its other keywords are ignored
            return cls(None, None, False, 0, 1, ((object, _ref),))
        draft: dict[str, Json] = {"$schema": rules.document["$schema"]} if "$schema" in rules.document else {}
        words = {word: schema[word] for word in _ALONE if word in schema}
        if isinstance(needs := schema.get("dependencies"), dict):
            words["dependencies"] = {name: one for name, one in needs.items() if isinstance(one, list)}
        if schema.get("additionalProperties") is False:
            words["additionalProperties"] = False
            for word in ("properties", "patternProperties"):
                if isinstance(named := schema.get(word), dict):
                    words[word] = {name: {} for name in named}
        whole: dict[str, Json] = {word: schema[word] for word in ("enum", "const") if word in schema}
        pattern = schema.get("pattern")
        lookups = sum(len(as_dict(words.get(word))) for word in _OF_EACH_NAME)
        return cls(
            rules.compile(draft | words) if words else None,
            rules.compile(draft | whole) if whole else None,
            schema.get("uniqueItems") is True,
            (pattern_cost(pattern) if isinstance(pattern, str) else 0) + 0.5,
            UNITS_A_STEP + len(str(whole)) / 2 + 2 * lookups,
            tuple((of, apply) for words, of, apply, least, most in _APPLICATORS
                  if least <= rules.draft <= most and any(word in schema for word in words)),
        )  # fmt: skip


_OF_EACH_NAME = ("dependentRequired", "dependencies")  # each name in them is looked up in each value
_ALONE = (
    "type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "pattern", "format", "minItems", "maxItems", "minProperties", "maxProperties", "required", "dependentRequired",
    "contentEncoding", "contentMediaType",
)  # fmt: skip


class Judge(msgspec.Struct):
    """One value on its way through the rules."""

    rules: Rules
    effort: Effort
    explains: bool  # collects faults in words; otherwise the first fault ends it
    # By identity: equal parts of a value are judged apart, but comparing them would cost more than judging them.
    known: dict[_Key, Verdict] = {}
    opened: set[_Key] = set()
    sizes: dict[int, int] = {}

    def verdict(self, value: Json) -> Verdict:
        """The result of the whole document on a value. Raises TooMuchWork."""
        # A judging that waits for a verdict stays on this list. Recursion would need a frame of Python's stack for
        # every schema at every level of the value.
        running = [self._begin(self.rules.document, value)]
        answer: Verdict | None = None
        while running:
            key, judging = running[-1]
            try:
                wanted = judging.send(answer)
            except StopIteration as ended:
                running.pop()
                self.opened.discard(key)
                answer = self.known[key] = ended.value
                continue
            self.effort.spend(_UNITS_A_LOOK)
            schema, part = wanted
            key = (id(schema), id(part))
            if schema is False:
                answer = Verdict((Fault((), f"False schema does not allow {_shown(part)}"),))
            elif not isinstance(schema, dict) or key in self.opened:
                answer = _VALID  # a schema that leads back to itself for the same value adds nothing
            elif key in self.known:
                answer = self.known[key]
            else:
                answer = None
                running.append(self._begin(schema, part))
        assert answer is not None
        return answer

    def _begin(self, schema: dict[str, Json], value: Json) -> tuple[_Key, _Judging]:
        key = (id(schema), id(value))
        self.opened.add(key)
        return key, self._judged(schema, value)

    def _judged(self, schema: dict[str, Json], value: Json) -> _Judging:
        alone = self.rules.alone_of(schema)
        length = len(value) if isinstance(value, str | dict | list) else 0
        self.effort.spend(alone.units + length * (alone.units_a_character if isinstance(value, str) else 1))
        found = _Found(self, value)
        if alone.validator is not None:
            # The validator gets the value without what is in its members: no keyword that it judges looks there.
            part: Json = value
            if isinstance(value, dict):
                part = dict.fromkeys(value)
            elif isinstance(value, list):
                part = [None] * length
            found.faults += self._faults_of(alone.validator, part, value)
        if alone.whole is not None and not (found.faults and not self.explains):
            self.effort.spend(self._size(value) * 2)
            found.faults += self._faults_of(alone.whole, value, value)
        if alone.is_unique and isinstance(value, list):
            self.effort.spend(self._size(value) * 20)
            # As JSON text, 1 and 1.0 are one number, true and 1 are two values.
            if len({one if isinstance(one, str) else encode_json(plain_numbers(one)) for one in value}) < length:
                found.faults.append(Fault((), f"{_shown(value)} has non-unique elements"))
        for of, apply in alone.applicators:
            # After a fault it is not known what would have been looked at, so `unevaluated…` cannot be judged.
            if found.faults and (not self.explains or apply in _UNEVALUATED):
                break
            if isinstance(value, of):
                yield from apply(found, schema, value)
        if found.faults:
            return Verdict(tuple(found.faults[:MAX_FAULTS]))
        return Verdict((), frozenset(found.names), frozenset(found.items)) if self.rules.tracks else _VALID

    def _faults_of(self, validator: jsonschema_rs.Validator, part: Json, value: Json) -> list[Fault]:
        if validator.is_valid(part):
            return []
        if not self.explains:
            return [_SOMETHING]
        self.effort.spend(UNITS_A_STEP)
        return [
            Fault((), cut_message(error.message.replace(MASK, _shown(value)))) for error in validator.iter_errors(part)
        ]

    def _size(self, value: Json) -> int:
        """Parts and characters of a value, about: a character costs an eighth of a part. Names count as parts alone: a
        few long ones cost next to nothing."""
        if not isinstance(value, dict | list):
            return 1 + (len(value) // 8 if isinstance(value, str) else 0)
        if id(value) not in self.sizes:
            size = size_of(value, effort=self.effort)
            self.sizes[id(value)] = size.parts - 1 + size.characters // 8
        return self.sizes[id(value)]


_SOMETHING = Fault((), "")
_NONE: dict[str, Json] = {}
_NOTHING_FITS = Verdict((_SOMETHING,))


class _Found(msgspec.Struct):
    """What has been found out about one schema on one value."""

    judge: Judge
    value: Json
    faults: list[Fault] = []
    names: set[str] = set()
    items: set[int] = set()

    @property
    def has_enough(self) -> bool:
        return len(self.faults) >= (MAX_FAULTS if self.judge.explains else 1)

    def fault(self, message: str) -> None:
        self.faults.append(Fault((), cut_message(message)))

    def on_value(self, verdict: Verdict) -> None:
        """Take the verdict of a schema on the same value that must be satisfied."""
        self.faults += verdict.faults
        self.looked_at(verdict)

    def looked_at(self, verdict: Verdict) -> None:
        # A schema that fails has evaluated nothing: its annotations are dropped.
        if self.judge.rules.tracks and not verdict.faults:
            self.names |= verdict.names
            self.items |= verdict.items

    def on_member(self, verdict: Verdict, step: str | int) -> None:
        self.faults += [Fault((step, *fault.path), fault.message) for fault in verdict.faults]
        if self.judge.rules.tracks:
            self.names.add(step) if isinstance(step, str) else self.items.add(step)


def _ref(found: _Found, schema: _Schema, value: Json) -> _Applying:
    for word, least, most in _REFERENCES_OF:
        if word in schema and least <= found.judge.rules.draft <= most:
            verdict = yield found.judge.rules.references.target(schema, schema[word]), value
            found.on_value(verdict)


def _all_of(found: _Found, schema: _Schema, value: Json) -> _Applying:
    for one in schema["allOf"]:
        found.on_value((yield one, value))
        if found.has_enough:
            return


def _any_of(found: _Found, schema: _Schema, value: Json) -> _Applying:
    # The first valid branch decides, unless `unevaluated…` asks which members were looked at: then all branches count.
    branches: list[Verdict] = []
    for one in schema["anyOf"]:
        verdict = yield one, value
        branches.append(verdict)
        found.looked_at(verdict)
        if not verdict.faults and not found.judge.rules.tracks:
            return
    if all(branch.faults for branch in branches):
        found.faults.append(_of_union(branches))


def _one_of(found: _Found, schema: _Schema, value: Json) -> _Applying:
    branches: list[Verdict] = []
    valid: list[Verdict] = []
    for one in schema["oneOf"]:
        verdict = yield one, value
        (branches if verdict.faults else valid).append(verdict)
        if len(valid) > 1:
            found.fault(f"{_shown(value)} is valid under more than one of the schemas listed in the 'oneOf' keyword")
            return
    if valid:
        found.looked_at(valid[0])
    else:
        found.faults.append(_of_union(branches))


def _of_union(branches: list[Verdict]) -> Fault:
    """The fault of the alternative that got furthest, and of those the one with fewest faults: of several kinds of
    object, the kind that was meant. Where none got anywhere, the faults of all."""
    furthest = max(branches, key=lambda one: (len(one.faults[0].path), -len(one.faults)), default=_NOTHING_FITS)
    if furthest.faults[0].path:
        return furthest.faults[0]
    return Fault((), cut_message(" and ".join(dict.fromkeys(branch.faults[0].message for branch in branches))))


def _not(found: _Found, schema: _Schema, value: Json) -> _Applying:
    if not (yield schema["not"], value).faults:
        found.fault(f"{shortened(schema['not'], _SHOWN_VALUE)} is not allowed for {_shown(value)}")


def _if(found: _Found, schema: _Schema, value: Json) -> _Applying:
    # `if` never makes a value invalid, but what it has looked at counts. The validator passes over one that stands
    # alone, with whatever is wrong in it: a pattern that does not compile, a reference to what is not a schema.
    if "then" not in schema and "else" not in schema:
        return
    condition = yield schema["if"], value
    found.looked_at(condition)
    word = "else" if condition.faults else "then"
    if word in schema:
        found.on_value((yield schema[word], value))


def _dependent(found: _Found, schema: _Schema, value: dict[str, Json]) -> _Applying:
    for word in ("dependentSchemas", "dependencies"):
        is_known = word == "dependencies" or found.judge.rules.draft >= _D2019
        named = as_dict(schema.get(word)) if is_known else _NONE
        for name in _in_both(named, value):
            if not isinstance(named[name], list):
                found.on_value((yield named[name], value))


def _in_both(named: Mapping[str, Json], value: Mapping[str, Json]) -> Iterator[str]:
    """The names that both have, in the time of the shorter one: a schema of thousands may judge thousands of values."""
    fewer, others = (named, value) if len(named) < len(value) else (value, named)
    return (name for name in fewer if name in others)


def _members(found: _Found, schema: _Schema, value: dict[str, Json]) -> _Applying:
    """properties, patternProperties, additionalProperties."""
    rules = found.judge.rules
    named, patterns = schema.get("properties", _NONE), schema.get("patternProperties", _NONE)
    rest = schema.get("additionalProperties", True)
    for name in _in_both(named, value):
        found.on_member((yield named[name], value[name]), name)
        if found.has_enough:
            return
    if not patterns and "additionalProperties" not in schema:
        return
    found.judge.effort.spend(len(value) * rules.units_a_name(patterns))
    for name, member in value.items():
        meant = [one for pattern, one in patterns.items() if rules.matches(pattern, name)]
        if not meant and name not in named and "additionalProperties" in schema:
            if rest is False:
                continue  # the validator has reported it
            meant = [rest]
        for one in meant:
            found.on_member((yield one, member), name)
        if found.has_enough:
            return


def _property_names(found: _Found, schema: _Schema, value: dict[str, Json]) -> _Applying:
    for name in value:
        for fault in (yield schema["propertyNames"], name).faults:
            found.fault(fault.message)
        if found.has_enough:
            return


def _elements(found: _Found, schema: _Schema, value: list[Json]) -> _Applying:
    """prefixItems and items; up to draft 2019-09 items and additionalItems."""
    # Draft 2020-12 renamed both: what was a list of `items` is `prefixItems`, and `additionalItems` became `items`.
    word, rest = ("prefixItems", "items") if found.judge.rules.draft >= _D2020 else ("items", "additionalItems")
    if word == "items" and word not in schema:
        return
    first = schema.get(word, [])
    if not isinstance(first, list):
        first, rest = [], word
    for place, (one, element) in enumerate(zip(first, value, strict=False)):
        found.on_member((yield one, element), place)
    if rest not in schema:
        return
    for place in range(len(first), len(value)):
        found.on_member((yield schema[rest], value[place]), place)
        if found.has_enough:
            return


def _contains(found: _Found, schema: _Schema, value: list[Json]) -> _Applying:
    has_bounds = found.judge.rules.draft >= _D2019
    least = schema.get("minContains", 1) if has_bounds else 1
    most = schema.get("maxContains", len(value)) if has_bounds else len(value)
    hits = set()
    for place, element in enumerate(value):
        if not (yield schema["contains"], element).faults:
            hits.add(place)
    found.items |= hits  # in the drafts from 2020-12 on; the validator does it in 2019-09, too
    if not least <= len(hits) <= most:
        what = "None" if not hits else "Too few" if len(hits) < least else "Too many"
        found.fault(f"{what} of {_shown(value)} are valid under the given schema")


def _unevaluated_members(found: _Found, schema: _Schema, value: dict[str, Json]) -> _Applying:
    unexpected = []
    for name in [name for name in value if name not in found.names]:
        if (yield schema["unevaluatedProperties"], value[name]).faults:
            unexpected.append(f"'{name}'")
        found.names.add(name)
    if unexpected:
        were = "was" if len(unexpected) == 1 else "were"
        found.fault(f"Unevaluated properties are not allowed ({', '.join(unexpected[:20])} {were} unexpected)")


def _unevaluated_items(found: _Found, schema: _Schema, value: list[Json]) -> _Applying:
    unexpected = 0
    for place in [place for place in range(len(value)) if place not in found.items]:
        unexpected += bool((yield schema["unevaluatedItems"], value[place]).faults)
        found.items.add(place)
    if unexpected:
        found.fault(f"Unevaluated items are not allowed ({unexpected:,} item{'s' * (unexpected > 1)})")


_Applying: TypeAlias = Generator[tuple[Json, Json], Verdict, None]
_Applicator: TypeAlias = Callable[[_Found, _Schema, Any], _Applying]
_REFERENCES_OF = (("$ref", _D4, _D2020), ("$recursiveRef", _D2019, _D2019), ("$dynamicRef", _D2020, _D2020))
_UNEVALUATED = (_unevaluated_members, _unevaluated_items)
_DRAFTS = {"draft-04": _D4, "draft-06": _D6, "draft-07": _D7, "2019-09": _D2019}
# Keywords, what they do to which values, and the drafts that have them, in the order they are looked at:
# `unevaluated…` comes last, as it asks what all others have looked at.
_APPLICATORS: tuple[tuple[tuple[str, ...], type, _Applicator, int, int], ...] = (
    (("properties", "patternProperties", "additionalProperties"), dict, _members, _D4, _D2020),
    (("propertyNames",), dict, _property_names, _D6, _D2020),
    (("prefixItems", "items", "additionalItems"), list, _elements, _D4, _D2020),
    (("contains",), list, _contains, _D6, _D2020),
    (REFERENCES, object, _ref, _D4, _D2020),
    (("allOf",), object, _all_of, _D4, _D2020),
    (("anyOf",), object, _any_of, _D4, _D2020),
    (("oneOf",), object, _one_of, _D4, _D2020),
    (("not",), object, _not, _D4, _D2020),
    (("if",), object, _if, _D7, _D2020),
    (("dependentSchemas", "dependencies"), dict, _dependent, _D4, _D2020),
    (("unevaluatedProperties",), dict, _unevaluated_members, _D2019, _D2020),
    (("unevaluatedItems",), list, _unevaluated_items, _D2019, _D2020),
)


def _shown(value: Json) -> str:
    return shortened(_excerpt(value, [_SHOWN_VALUE]), _SHOWN_VALUE)


def _excerpt(value: Json, left: list[int]) -> Json:
    """The beginning of a value: as many parts as fill what is shown, and never all of a million."""
    left[0] -= 1
    if isinstance(value, str):
        return value[: _SHOWN_VALUE + 1]
    if isinstance(value, list):
        return [_excerpt(one, left) for one in value[: max(left[0], 0)] if left[0] > 0]
    if isinstance(value, dict):
        return {key[: _SHOWN_VALUE + 1]: _excerpt(one, left) for key, one in value.items() if left[0] > 0}
    return value


def cut_message(message: str) -> str:
    """The first line of a message, and not too much of it."""
    line = message.split("\n", 1)[0]
    return line if len(line) <= _SHOWN_MESSAGE else f"{line[: _SHOWN_MESSAGE - 1]}…"


def sentences(faults: Iterable[Fault], most: int) -> str:
    """At most so many faults for a person, each behind the JSON pointer of its place."""
    places = [(cut_message(pointer(fault.path)), fault.message) for fault in faults]
    listed = list(dict.fromkeys(f"{place}: {message}" if place else message for place, message in places))
    shown = "; ".join(listed[:most])
    return f"{shown}; …" if len(listed) > most else shown
