"""Values that conform to a JSON Schema, drawn from a digest and, where a field can be filled from it, from the text."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping
from re import _constants as sre  # type: ignore[attr-defined]  # the parser of the standard library, untyped
from re import _parser as sre_parser  # type: ignore[attr-defined]  # as above
from typing import Any

from batchcall.schemas import CompiledSchema

Schema = Any  # a JSON Schema: an object or a boolean

_DEEPEST = 6  # below it a recursive schema is given its smallest values
_TRIES = 24  # schemas with `not` or overlapping `oneOf` are met by trying


_LOOKED_AT = 600  # characters that words and numbers are taken from
_WORD = re.compile(r"[^\W_][\w'-]*")
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,9}(?:\.\d{1,6})?(?![\w.])")


class Source:
    """Where values come from: dice that are the same for the same request, and the request's own text."""

    def __init__(self, digest: bytes, text: str) -> None:
        self.dice = random.Random(digest)
        self._text = text
        self._words: list[str] | None = None
        self._numbers: list[str] | None = None

    @property
    def words(self) -> list[str]:
        if self._words is None:
            self._words = _WORD.findall(self._text[:_LOOKED_AT]) or ["word"]
        return self._words

    def labelled(self, name: str) -> str | None:
        """What stands behind `Name:` at the start of a line of the text, None where nothing does."""
        label = r"[\s_-]*".join(map(re.escape, re.split(r"[_\s-]+", name)))
        found = re.search(rf"(?im)^[ \t>*-]*{label}[ \t]*:[ \t]*(\S.*?)[ \t]*$", self._text)
        return found[1] if found else None

    def number(self, name: str) -> float | None:
        """A number behind the label, else any number of the text."""
        label = self.labelled(name)
        found = re.findall(
            r"(?<![\w.])-?\d{1,9}(?:\.\d{1,6})?(?![\w.])", label if label is not None else self._text[:4_000]
        )
        return float(self.dice.choice(found[:20])) if found else None

    def first(self, pattern: str) -> str | None:
        found = re.search(pattern, self._text)
        return found[0] if found else None


def conforming(schema: CompiledSchema, digest: bytes, text: str) -> Any:
    """A value that the schema allows; deterministic. Where none is found by trying, the last one tried."""
    root = schema.document
    for tries in range(_TRIES):
        source = Source(digest + bytes([tries]), text)
        value = _Maker(root, source, is_plain=tries >= _TRIES // 2).value(root, "", 0)
        if schema.is_valid(value):
            return value
    return value


class _Maker:
    """Makes values of one schema. A plain one leaves out what is optional and takes nothing from the text."""

    def __init__(self, root: Schema, source: Source, *, is_plain: bool) -> None:
        self._root = root
        self._source = source
        self._dice = source.dice
        self._is_plain = is_plain

    def value(self, schema: Schema, name: str, depth: int) -> Any:
        if not isinstance(schema, dict):
            return self._word()
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._dice.choice(schema["enum"]) if schema["enum"] else None
        return _MAKERS[self._kind(schema, depth)](self, schema, name, depth)

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """With references followed, everything of allOf, and one choice of anyOf and oneOf, in one object."""
        for _ in range(32):
            if isinstance(schema.get("$ref"), str):
                target = self._target(schema["$ref"])
                schema = _merged({key: value for key, value in schema.items() if key != "$ref"}, target)
            elif schema.get("allOf"):
                parts = schema["allOf"]
                schema = {key: value for key, value in schema.items() if key != "allOf"}
                for part in parts:
                    schema = _merged(schema, part)
            elif choice := next((key for key in ("anyOf", "oneOf") if schema.get(key)), None):
                chosen = self._choice(schema[choice])
                schema = _merged({key: value for key, value in schema.items() if key != choice}, chosen)
            else:
                return schema
        return schema

    def _choice(self, options: list[Schema]) -> Schema:
        """Rather something than null, as a model asked for data would."""
        full = [option for option in options if not (isinstance(option, dict) and option.get("type") == "null")]
        return self._dice.choice(full if full and self._dice.random() < 0.85 else options)

    def _target(self, reference: str) -> Schema:
        if reference == "#":
            return self._root
        place: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(place, list):
                place = place[int(step)] if step.isdigit() and int(step) < len(place) else {}
            else:
                place = place.get(step, {}) if isinstance(place, dict) else {}
        return place

    def _kind(self, schema: Mapping[str, Any], depth: int) -> str:
        kinds = schema.get("type")
        if isinstance(kinds, str):
            return kinds if kinds in _MAKERS else "string"
        if isinstance(kinds, list) and kinds:
            full = [kind for kind in kinds if kind != "null" and kind in _MAKERS]
            if not full or ("null" in kinds and (depth > _DEEPEST or self._dice.random() < 0.15)):
                return "null"
            return str(self._dice.choice(full))
        return next((kind for kind, keys in _KEYS_OF_KIND.items() if keys & schema.keys()), "string")

    def _word(self) -> str:
        return str(self._dice.choice(self._source.words))

    def _object(self, schema: dict[str, Any], name: str, depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = [key for key in schema.get("required") or () if isinstance(key, str)]
        made: dict[str, Any] = {}
        for key, inner in properties.items():
            if key in required or (not self._is_plain and depth <= _DEEPEST and self._dice.random() < 0.8):
                made[key] = self.value(inner, key, depth + 1)
        rest = schema.get("additionalProperties", {})
        for key in required:
            if key not in made:
                made[key] = self.value(self._pattern_schema(schema, key, rest), key, depth + 1)
        self._add_dependents(schema, made, depth)
        while len(made) < schema.get("minProperties", 0):
            key = f"{self._word()}_{len(made)}"
            made[key] = self.value(rest if isinstance(rest, dict) else {}, key, depth + 1)
        return made

    def _pattern_schema(self, schema: Mapping[str, Any], key: str, rest: Schema) -> Schema:
        for pattern, inner in (schema.get("patternProperties") or {}).items():
            if re.search(pattern, key):
                return inner
        return rest if isinstance(rest, dict) else {}

    def _add_dependents(self, schema: Mapping[str, Any], made: dict[str, Any], depth: int) -> None:
        properties = schema.get("properties") or {}
        for key, others in (schema.get("dependentRequired") or {}).items():
            for other in others if key in made else ():
                if other not in made:
                    made[other] = self.value(properties.get(other, {}), other, depth + 1)

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        first = schema.get("prefixItems") or []
        least = max(schema.get("minItems", 0), 1 if "contains" in schema else 0)
        most = schema.get("maxItems", max(least, len(first), 3))
        length = (
            least if self._is_plain or depth > _DEEPEST else self._dice.randint(min(least, most), min(most, least + 3))
        )
        made: list[Any] = []
        for place in range(max(length, min(len(first), most))):
            inner = first[place] if place < len(first) else schema.get("items", {})
            if place == len(first) and "contains" in schema:
                inner = _merged(inner if isinstance(inner, dict) else {}, schema["contains"])
            made.append(self._item(inner, name, depth, made if schema.get("uniqueItems") else []))
        return made

    def _item(self, schema: Schema, name: str, depth: int, others: list[Any]) -> Any:
        for _ in range(20):
            made = self.value(schema, name.removesuffix("s"), depth + 1)
            if made not in others:
                break
        return made

    def _string(self, schema: dict[str, Any], name: str, depth: int) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", 10_000)
        if "pattern" in schema:
            return _matching(schema["pattern"], self._dice, least, most)
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]](self._source)
        text = None if self._is_plain else self._source.labelled(name)
        if text is None:
            text = " ".join(self._word() for _ in range(self._dice.randint(1, 3)))
        while len(text) < least:
            text += " " + self._word()
        return text[:most]

    def _number(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        return self._bounded(schema, name, is_whole=False)

    def _integer(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        return self._bounded(schema, name, is_whole=True)

    def _bounded(self, schema: Mapping[str, Any], name: str, *, is_whole: bool) -> Any:
        least, greatest = _bounds(schema, is_whole=is_whole)
        low, high = _usual_range(least, greatest)
        step = schema.get("multipleOf")
        if step:
            first = math.ceil(low / step)
            return self._dice.randint(first, max(first, math.floor(min(high, low + 50 * step) / step))) * step
        found = None if self._is_plain else self._source.number(name)
        if found is not None and least <= found <= greatest and (not is_whole or found.is_integer()):
            return int(found) if found.is_integer() else found
        near = min(high, low + 100)
        if is_whole:
            return self._dice.randint(math.ceil(low), math.floor(near))
        return round(self._dice.uniform(low, near), 2) if near - low > 1 else (low + near) / 2

    def _boolean(self, schema: dict[str, Any], name: str, depth: int) -> bool:
        return self._dice.random() < 0.5

    def _null(self, schema: dict[str, Any], name: str, depth: int) -> None:
        return None


_MAKERS: Mapping[str, Callable[[_Maker, dict[str, Any], str, int], Any]] = {
    "object": _Maker._object,
    "array": _Maker._array,
    "string": _Maker._string,
    "number": _Maker._number,
    "integer": _Maker._integer,
    "boolean": _Maker._boolean,
    "null": _Maker._null,
}
_KEYS_OF_KIND: Mapping[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties", "minProperties", "patternProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems", "contains", "uniqueItems"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
}

_FORMATS: Mapping[str, Callable[[Source], str]] = {
    "date": lambda source: source.first(r"\b\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])\b") or _a_date(source),
    "date-time": lambda source: f"{_a_date(source)}T{source.dice.randrange(24):02}:{source.dice.randrange(60):02}:00Z",
    "time": lambda source: f"{source.dice.randrange(24):02}:{source.dice.randrange(60):02}:00Z",
    "duration": lambda source: f"PT{source.dice.randint(1, 59)}M",
    "email": lambda source: source.first(r"[A-Za-z0-9._-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+") or "ada@example.com",
    "idn-email": lambda source: "ada@example.com",
    "hostname": lambda source: "host.example.com",
    "idn-hostname": lambda source: "host.example.com",
    "ipv4": lambda source: f"192.0.2.{source.dice.randrange(256)}",
    "ipv6": lambda source: f"2001:db8::{source.dice.randrange(1, 65536):x}",
    "uri": lambda source: source.first(r"https?://[A-Za-z0-9./_-]+[A-Za-z0-9/]") or "https://example.com/",
    "uri-reference": lambda source: "https://example.com/",
    "iri": lambda source: "https://example.com/",
    "iri-reference": lambda source: "https://example.com/",
    "uri-template": lambda source: "https://example.com/{id}",
    "uuid": lambda source: _a_uuid(source),
    "json-pointer": lambda source: "/a",
    "relative-json-pointer": lambda source: "0/a",
    "regex": lambda source: "a+",
}


def _a_date(source: Source) -> str:
    return f"{source.dice.randint(1990, 2030)}-{source.dice.randint(1, 12):02}-{source.dice.randint(1, 28):02}"


def _a_uuid(source: Source) -> str:
    digits = f"{source.dice.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def _merged(left: dict[str, Any], right: Schema) -> dict[str, Any]:
    """Both at once: properties and required of both, the narrower of two bounds."""
    if not isinstance(right, dict):
        return left
    both = {**right, **left}
    for key in left.keys() & right.keys():
        if key in ("properties", "patternProperties") and isinstance(left[key], dict) and isinstance(right[key], dict):
            both[key] = {**right[key], **left[key]}
            for name in left[key].keys() & right[key].keys():
                if isinstance(left[key][name], dict):
                    both[key][name] = _merged(left[key][name], right[key][name])
        elif key == "required":
            both[key] = list(dict.fromkeys((*left[key], *right[key])))
        elif key in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"):
            both[key] = max(left[key], right[key])
        elif key in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"):
            both[key] = min(left[key], right[key])
        elif key == "enum":
            both[key] = [value for value in left[key] if value in right[key]] or left[key]
    return both


def _bounds(schema: Mapping[str, Any], *, is_whole: bool) -> tuple[float, float]:
    """The least and the greatest that the schema allows; infinite where it says nothing."""
    nudge = 1 if is_whole else 1e-6
    lows = [schema["minimum"]] if "minimum" in schema else []
    highs = [schema["maximum"]] if "maximum" in schema else []
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"]
        lows.append(math.floor(low) + 1 if is_whole else low + max(nudge, abs(low) * 1e-9))
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"]
        highs.append(math.ceil(high) - 1 if is_whole else high - max(nudge, abs(high) * 1e-9))
    return max(lows, default=-math.inf), min(highs, default=math.inf)


def _usual_range(low: float, high: float) -> tuple[float, float]:
    """Where a value is drawn from that the text does not have: finite, and within what is allowed."""
    if low == -math.inf:
        low = high - 100 if high < 0 else 0
    return low, max(low, min(high, max(low, 0) + 1_000))


def _matching(pattern: str, dice: random.Random, least: int, most: int) -> str:
    """A text that a common regular expression matches; anything when the expression is beyond this."""
    try:
        parsed = sre_parser.parse(pattern)
    except (re.error, OverflowError, RecursionError):
        return "x" * max(least, 1)
    made = ""
    for extra in range(12):
        made = _drawn(parsed, dice, extra)
        if least <= len(made) <= most:
            return made
    return made


def _drawn(parsed: Any, dice: random.Random, extra: int) -> str:
    return "".join(_piece(operation, argument, dice, extra) for operation, argument in parsed)


def _piece(operation: Any, argument: Any, dice: random.Random, extra: int) -> str:
    if operation is sre.LITERAL:
        return chr(argument)
    if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, getattr(sre, "POSSESSIVE_REPEAT", None)):
        low, high, inner = argument
        count = min(int(high) if high is not sre.MAXREPEAT else low + extra, low + extra)
        return "".join(_drawn(inner, dice, extra) for _ in range(max(low, count)))
    if operation is sre.SUBPATTERN:
        return _drawn(argument[-1], dice, extra)
    if operation is sre.BRANCH:
        return _drawn(dice.choice(argument[1]), dice, extra)
    if operation is sre.IN:
        return _of_set(argument, dice)
    if operation is sre.ANY:
        return "x"
    if operation is sre.NOT_LITERAL:
        return "x" if argument != ord("x") else "y"
    return ""


_COMMON = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-.,/@:#"
_CATEGORIES = {
    sre.CATEGORY_DIGIT: "0123456789",
    sre.CATEGORY_WORD: "abcdefghijklmnopqrstuvwxyz0123456789_",
    sre.CATEGORY_SPACE: " ",
    sre.CATEGORY_NOT_DIGIT: "abcxyz",
    sre.CATEGORY_NOT_WORD: " -.",
    sre.CATEGORY_NOT_SPACE: "abcxyz019",
}


def _of_set(members: list[Any], dice: random.Random) -> str:
    is_negated = members[0][0] is sre.NEGATE
    allowed: set[str] = set()
    for operation, argument in members:
        if operation is sre.LITERAL:
            allowed.add(chr(argument))
        elif operation is sre.RANGE:
            allowed.update(map(chr, range(argument[0], min(argument[1], argument[0] + 200) + 1)))
        elif operation is sre.CATEGORY:
            allowed.update(_CATEGORIES.get(argument, "x"))
    letters = sorted(set(_COMMON) - allowed if is_negated else allowed)
    return dice.choice(letters) if letters else ""
