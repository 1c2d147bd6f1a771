"""What type a column gets from a JSON Schema, in no library's words, and how a checked value becomes one of that type.

Fixed before the first row from the schema alone, so the parts of an output never disagree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

import msgspec

from batchcall.base import Json
from batchcall.schemas.walk import as_dict, as_list, escaped, has_inner_id, resolve, types_in

# The rule: a column has the narrowest type that takes every value the schema accepts. Where there is none, JSON text:
# a column that loses values is worse than one that has to be parsed.
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
MAX_DEPTH = 30  # of nested structs and lists; deeper is JSON, readers of Parquet do not like more
MAX_LEVELS = 120  # of schemas within schemas on the way to a type, references counted: each is some frames of Python
MAX_VISITS = 5_000  # schemas looked at for one tool; a few shared definitions can unfold without end
_SHOWN = 60  # characters of a value in a note


class Scalar(Enum):
    STRING = "string"
    INT64 = "int64"
    FLOAT64 = "float64"
    BOOL = "bool"
    JSON = "json"  # JSON text in a string column: free objects, mixed unions, recursion


@dataclass(frozen=True, slots=True)
class ListOf:
    element: FieldType


@dataclass(frozen=True, slots=True)
class StructOf:
    fields: tuple[tuple[str, FieldType], ...]  # never empty: Parquet has no empty struct
    is_sure: bool = field(default=True, compare=False)  # False: the schema names no type, and takes lists too


FieldType: TypeAlias = Scalar | ListOf | StructOf
Converter: TypeAlias = Callable[[Any, list[str]], Any]


def field_type(schema: dict[str, Json]) -> FieldType:
    """The type that every value this schema accepts can be written as; JSON text where there is none narrower.

    `schema` is a whole document, normalised. Properties it does not declare have no place in the type.
    """
    return _Reading(schema).read(schema, 0)


def is_plain(kind: FieldType) -> bool:
    """Whether arguments of this type go into Arrow as they are: no part of it is JSON text, nor anything but an object
    where Arrow would make an object of it, as it does of an empty list."""
    if isinstance(kind, Scalar):
        return kind is not Scalar.JSON
    inner = [kind.element] if isinstance(kind, ListOf) else [one for _, one in kind.fields]
    return all(is_plain(one) and (not isinstance(one, StructOf) or one.is_sure) for one in inner)


class _Reading:
    """One schema document on its way to a type. Methods return None where a schema does not narrow the type."""

    def __init__(self, document: dict[str, Json]) -> None:
        self.document = document
        self.visits_left = MAX_VISITS
        self.levels_open = 0
        # A recursive schema has no finite type. A shared definition that is not recursive unfolds at each of its
        # places.
        self.open_refs = ["#"]
        self.has_ids = has_inner_id(document)
        # Up to draft 7 whatever stands beside a $ref is ignored.
        self.is_ref_alone = any(draft in str(document.get("$schema", "")) for draft in ("draft-04", "-06", "-07"))

    def read(self, schema: Json, depth: int) -> FieldType:
        return self.known(schema, depth) or Scalar.JSON

    def known(self, schema: Json, depth: int) -> FieldType | None:
        self.visits_left -= 1
        if schema is False or depth > MAX_DEPTH or self.levels_open > MAX_LEVELS or self.visits_left < 0:
            return Scalar.JSON
        if not isinstance(schema, dict):
            return None
        self.levels_open += 1
        if self.is_ref_alone and "$ref" in schema:
            found = self._referenced(schema["$ref"], depth)
        else:
            found = _all_of(self._parts(schema, depth))
        self.levels_open -= 1
        return found

    def _parts(self, schema: dict[str, Json], depth: int) -> Iterable[FieldType | None]:
        """Everything that a value of this schema is at the same time."""
        yield self._own(schema, depth)
        if "$ref" in schema:
            yield self._referenced(schema["$ref"], depth)
        if "$dynamicRef" in schema or "$recursiveRef" in schema:
            yield Scalar.JSON
        for part in as_list(schema.get("allOf")):
            yield self.known(part, depth)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                yield _any_of([self.known(one, depth) for one in as_list(schema[keyword]) if not _is_null(one)])

    def _own(self, schema: dict[str, Json], depth: int) -> FieldType | None:
        kinds = types_in(schema)
        if not kinds and ("enum" in schema or "const" in schema):
            values = [value for value in _listed_values(schema) if value is not None]
            of = {type(value) for value in values}
            if of in ({str}, {bool}):
                return Scalar.STRING if of == {str} else Scalar.BOOL
            if of == {int} and all(INT64_MIN <= value <= INT64_MAX for value in values if isinstance(value, int)):
                return Scalar.INT64
            return Scalar.FLOAT64 if of in ({float}, {int, float}) else Scalar.JSON
        if not kinds:  # forgotten types are common, and properties are enough
            return self._struct(schema, depth) if "properties" in schema else None
        kinds -= {"null"}
        if kinds == {"array"}:
            return self._list(schema, depth)
        if kinds == {"object"}:
            return self._struct(schema, depth)
        if kinds == {"integer"}:
            beyond = (
                _bound(schema, "minimum") < INT64_MIN
                or _bound(schema, "exclusiveMinimum") < INT64_MIN - 1
                or _bound(schema, "maximum") > INT64_MAX
                or _bound(schema, "exclusiveMaximum") > INT64_MAX + 1
                or any(isinstance(one, int) and not INT64_MIN <= one <= INT64_MAX for one in _listed_values(schema))
            )
            return Scalar.JSON if beyond else Scalar.INT64
        return _OF_TYPES.get(kinds, Scalar.JSON)

    def _list(self, schema: dict[str, Json], depth: int) -> FieldType | None:
        if "prefixItems" in schema:  # a tuple: a list where all its places have one type
            places = as_list(schema["prefixItems"])
            longest = schema.get("maxItems")
            if not (isinstance(longest, int) and longest <= len(places)) and schema.get("items") is not False:
                places = [*places, schema.get("items", True)]
            kinds = {self.read(place, depth + 1) for place in places}
            return ListOf(kinds.pop()) if len(kinds) == 1 else Scalar.JSON
        items = schema.get("items", True)
        if not isinstance(items, dict) or not items:
            return None  # a list of anything reads better as one JSON text than as a list of them
        return ListOf(self.read(items, depth + 1))

    def _struct(self, schema: dict[str, Json], depth: int) -> FieldType | None:
        properties = as_dict(schema.get("properties"))
        if not properties:
            return None
        fields = tuple((name, self.read(inner, depth + 1)) for name, inner in properties.items())
        return StructOf(fields, is_sure="type" in schema)

    def _referenced(self, ref: Json, depth: int) -> FieldType | None:
        # A definition is unfolded once; where it comes back on itself, the value is JSON text.
        if not isinstance(ref, str) or ref in self.open_refs or self.has_ids:
            return Scalar.JSON
        target = resolve(self.document, ref)
        if target is None:
            return Scalar.JSON
        self.open_refs.append(ref)
        found = self.known(target, depth)
        self.open_refs.pop()
        return found


# Of a string with a format, too: dates, times and UUIDs as Arrow types break other readers.
_OF_TYPES: Mapping[frozenset[str], Scalar] = {
    frozenset({"string"}): Scalar.STRING,
    frozenset({"boolean"}): Scalar.BOOL,
    frozenset({"number"}): Scalar.FLOAT64,
    frozenset({"integer", "number"}): Scalar.FLOAT64,  # every integer is a number: another way to write "number"
}


def _is_null(schema: Json) -> bool:
    if not isinstance(schema, dict):
        return False
    return types_in(schema) == {"null"} or schema.get("enum") == [None] or schema.get("const", 0) is None


def _bound(schema: Mapping[str, Json], keyword: str) -> float:
    found = schema.get(keyword)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else 0


def _listed_values(schema: Mapping[str, Json]) -> list[Json]:
    return as_list(schema.get("enum")) if "enum" in schema else [schema["const"]] if "const" in schema else []


def _any_of(kinds: list[FieldType | None]) -> FieldType | None:
    # Alternatives share a column only where all have one type. Of objects with equal fields, one that may be no object
    # makes the whole union unsure.
    distinct = set(kinds)
    if len(distinct) == 1:
        return next((kind for kind in kinds if isinstance(kind, StructOf) and not kind.is_sure), distinct.pop())
    if not distinct:
        return None
    return Scalar.FLOAT64 if distinct == {Scalar.INT64, Scalar.FLOAT64} else Scalar.JSON


def _all_of(kinds: Iterable[FieldType | None]) -> FieldType | None:
    # Several types for one value: objects are merged, since each part names some of the properties; of numbers the
    # narrower wins; all else contradicts, and JSON text takes whatever comes.
    distinct = {kind: None for kind in kinds if kind is not None}  # a set that keeps the order
    if len(distinct) <= 1:
        return next(iter(distinct), None)
    if all(isinstance(kind, StructOf) for kind in distinct):
        structs = [kind for kind in distinct if isinstance(kind, StructOf)]
        fields: dict[str, list[FieldType]] = {}
        for struct in structs:
            for name, kind in struct.fields:
                fields.setdefault(name, []).append(kind)
        merged = tuple((name, _all_of(kinds) or Scalar.JSON) for name, kinds in fields.items())
        return StructOf(merged, is_sure=any(struct.is_sure for struct in structs))
    return Scalar.INT64 if set(distinct) == {Scalar.INT64, Scalar.FLOAT64} else Scalar.JSON


encode_json = msgspec.json.Encoder(order="sorted").encode  # integers of any length exact, unlike orjson


def json_text(value: Json) -> str:
    """JSON text in its one form: keys sorted, no spaces. Reading it and writing it again gives the same text."""
    return encode_json(value).decode()


def plain_numbers(value: Json, *, below: float = float("inf")) -> Json:
    """The value with whole numbers as integers, 1 for 1.0; floats from `below` on stay as they are."""
    if isinstance(value, float) and value.is_integer() and abs(value) < below:
        return int(value)
    if isinstance(value, list):
        return [plain_numbers(one, below=below) for one in value]
    if isinstance(value, dict):
        return {name: plain_numbers(one, below=below) for name, one in value.items()}
    return value


def converter(kind: FieldType, path: str = "") -> Converter:
    """A function of (value, notes) that gives the value as a column of this type stores it, without loss.

    A value that does not fit becomes None, and a sentence about it, with its `path`, is appended to the notes.
    """
    # Made once for each column and run for each row: what depends on the type alone is decided here.
    if isinstance(kind, ListOf):
        element = converter(kind.element, f"{path}/*")

        def convert_list(value: Any, notes: list[str]) -> Any:
            if type(value) is list:
                return [element(one, notes) for one in value]
            return None if value is None else _left_out(value, path, "list", notes)

        return convert_list

    if isinstance(kind, StructOf):
        fields = [(name, converter(inner, f"{path}/{name}")) for name, inner in kind.fields]

        def convert_struct(value: Any, notes: list[str]) -> Any:
            if type(value) is dict:
                return {name: inner(value.get(name), notes) for name, inner in fields}
            return None if value is None else _left_out(value, path, "object", notes)

        return convert_struct

    fit, what = _SCALARS[kind], kind.value

    def convert_scalar(value: Any, notes: list[str]) -> Any:
        if value is None:
            return None
        fitted = fit(value)
        return _left_out(value, path, what, notes) if fitted is None else fitted

    return convert_scalar


def _left_out(value: Any, path: str, what: str, notes: list[str]) -> None:
    notes.append(f"{path or '/'}: {shortened(value, _SHOWN)} does not fit {what}; it is in `calls`")


MAX_UNKNOWN = 100  # names of one value that are noted
_SHOWN_PATH = 80  # characters
MemberFinder: TypeAlias = Callable[[Any, dict[str, None]], None]


def member_finder(kind: FieldType, path: str = "") -> MemberFinder | None:
    """A function of (value, found) that notes in `found` where a value has members that this type has no place for:
    "/currency", "/items/*/size". None where all that a value has finds a place. Members that are null do not count.
    `path`: of the value itself."""
    if isinstance(kind, ListOf):
        element = member_finder(kind.element, f"{path}/*")
        if element is None:
            return None

        def find_in_list(value: Any, found: dict[str, None]) -> None:
            if type(value) is list:
                for one in value:
                    element(one, found)

        return find_in_list

    if isinstance(kind, StructOf):
        known = frozenset(name for name, _ in kind.fields)
        finders = [(name, member_finder(inner, _joined(path, name))) for name, inner in kind.fields]
        below = [(name, finder) for name, finder in finders if finder is not None]

        def find_in_struct(value: Any, found: dict[str, None]) -> None:
            if type(value) is not dict:
                return
            if not value.keys() <= known:
                for name, member in value.items():
                    if name not in known and member is not None and len(found) < MAX_UNKNOWN:
                        found[_joined(path, name)] = None
            for name, finder in below:
                finder(value.get(name), found)

        return find_in_struct

    return None


def _joined(path: str, name: str) -> str:
    """The path of a member as a JSON pointer, safe in a terminal and in an `error`, where a semicolon separates."""
    step = escaped(name[:_SHOWN_PATH])
    if not step.isprintable() or ";" in step:
        step = "".join(mark if mark.isprintable() and mark != ";" else f"\\u{ord(mark):04x}" for mark in step)
    joined = f"{path}/{step}"
    return joined if len(joined) <= _SHOWN_PATH else f"{joined[: _SHOWN_PATH - 1]}…"


def shortened(value: Json, longest: int) -> str:
    """A value as JSON text for a person, cut to `longest` characters."""
    text = msgspec.json.encode(without_surrogates(value) if isinstance(value, str) else value).decode()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def without_surrogates(text: str) -> str:
    """Put U+FFFD for every half of a surrogate pair: Python's strings can have one, UTF-8 and so every file cannot."""
    return _SURROGATE.sub("\ufffd", text)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _as_int64(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and INT64_MIN <= value <= INT64_MAX else None


def _as_float64(value: Any) -> float | None:
    if type(value) is float:
        return value
    if type(value) is not int:
        return None
    try:
        near = float(value)
    except OverflowError:
        return None
    return near if int(near) == value else None


_SCALARS: Mapping[Scalar, Callable[[Any], Any]] = {
    Scalar.STRING: lambda value: value if type(value) is str else None,
    Scalar.BOOL: lambda value: value if type(value) is bool else None,
    Scalar.INT64: _as_int64,
    Scalar.FLOAT64: _as_float64,
    Scalar.JSON: json_text,
}


def restorer(kind: FieldType) -> Callable[[Any], Any]:
    """The way back: a value that a column of this type stores, as JSON. `converter` of it gives the stored value."""
    if isinstance(kind, ListOf):
        element = restorer(kind.element)
        return lambda value: None if value is None else [element(one) for one in value]
    if isinstance(kind, StructOf):
        fields = [(name, restorer(inner)) for name, inner in kind.fields]
        return lambda value: None if value is None else {name: inner(value[name]) for name, inner in fields}
    if kind is Scalar.JSON:
        return lambda text: None if text is None else msgspec.json.decode(text)
    return lambda value: value
