"""JSON Schemas of tools: rewritten where they are not as the drafts want them, limited, and compiled once.

Every rewrite is reported. The type of the column is for `field_types`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Literal
from urllib.parse import quote, unquote

import jsonschema_rs
import msgspec

from batchcall.base import Json, Tool
from batchcall.schemas.field_types import FieldType, field_type, shortened
from batchcall.schemas.formats import LENIENT
from batchcall.schemas.judge import MASK, Judge, Rules, cut_message, sentences
from batchcall.schemas.patterns import leave_patterns_out, patterns_in
from batchcall.schemas.walk import (
    HOLDS_VALUES,
    LISTED_SCHEMAS,
    NAMED_SCHEMAS,
    ONE_SCHEMA,
    REFERENCES,
    References,
    SchemaError,
    dicts_in,
    escaped,
    has_inner_id,
    has_unevaluated,
    pointer,
)
from batchcall.schemas.work import Bound, Effort, TooMuchWork, bound_of, pattern_places, size_of

Formats = Literal["lenient", "strict", "off"]

MAX_BYTES = 1_000_000
MAX_DEPTH = 100
MAX_NODES = 20_000
MAX_PATTERNS = 300_000  # places in all patterns together: a microsecond each to compile
_PLACES_OF_PROPERTY = 1_000  # of a class of Unicode, such as all letters
MAX_ERRORS = 3  # reported of one value
_UNITS_A_PART_COUNTED = 3
_SHARE_EXPLAINED = 0.25  # of the work that an answer may cause
_SHOWN_VALUE = 80  # characters of a value in a message


class CompiledSchema(msgspec.Struct, frozen=True):
    """A schema that is ready to check values."""

    document: dict[str, Json]  # normalised
    rewrites: tuple[str, ...]  # "path: what" of each change against what was written
    left_out: tuple[str, ...]  # those of them that leave something out of the check
    bound: Bound
    rules: Rules
    has_unique: bool
    _judge: Callable[[Any], bool]

    def is_valid(self, value: Json, *, effort: Effort | None = None, length: int | None = None) -> bool:
        """Whether a value fits. `length` is that of the JSON text it was read from, where that is known.

        A call of the validator cannot be interrupted, so what it may cost is known before. Raises TooMuchWork.
        """
        effort = effort or Effort()
        units = None if length is None or self.has_unique else self.bound.of(length)
        if units is None or units > effort.units:
            size = size_of(value)
            effort.spend(min(size.parts * _UNITS_A_PART_COUNTED, effort.units))
            units = self.bound.a_part * size.parts + self.bound.a_character * (size.characters + size.names)
            if (self.has_unique and size.has_long_number) or not effort.can(units):
                return not Judge(self.rules, effort, explains=False).verdict(value).faults
        effort.spend(units)
        return self._judge(value)

    def explain(self, value: Json, *, effort: Effort | None = None) -> str:
        """What is wrong with a value: at most three sentences, each behind the JSON pointer of its place."""
        effort = effort or Effort()
        own = Effort(effort.units * _SHARE_EXPLAINED)
        effort.spend(own.units)
        try:
            faults = Judge(self.rules, own, explains=True).verdict(value).faults
        except TooMuchWork:
            return f"{_DO_NOT_FIT}; finding out where would take too long"
        effort.units += own.units
        return sentences(faults, MAX_ERRORS) or _DO_NOT_FIT


_DO_NOT_FIT = "the arguments do not fit their schema"


class CompiledTool(msgspec.Struct, frozen=True):
    """A tool that is ready to check the arguments of its calls."""

    name: str
    schema: CompiledSchema
    type: FieldType


def compile_tool(tool: Tool, *, formats: Formats = "lenient") -> CompiledTool:
    """Make a tool's schema ready. Raises SchemaError."""
    try:
        schema = compile_schema(tool.parameters, formats=formats)
        kinds = schema.document.get("type", "object")
        if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
            raise SchemaError("/type", f"arguments must be an object, not {shortened(kinds, _SHOWN_VALUE)}")
    except SchemaError as error:
        raise SchemaError(error.path, error.what, tool=tool.name) from error
    return CompiledTool(tool.name, schema, field_type(schema.document))


def compile_schema(schema: Mapping[str, Json], *, formats: Formats = "lenient") -> CompiledSchema:
    """Normalise and compile a schema of draft 4 to 2020-12, which `$schema` names. Raises SchemaError.

    Formats are checked in every draft: a tool with the format "date" expects dates, but only draft 7 would check them
    by itself. Unknown formats (OpenAPI's "int32", "password") accept everything.
    """
    if not isinstance(schema, Mapping):
        raise SchemaError("", "must be a JSON object")
    # The order matters. Limits first: everything after them may walk the whole document. Then the rewriting, since only
    # a well-formed document has references to follow. Then what bounds the time of a check, and the compiler last: it
    # explains least.
    plain = dict(schema)
    _check_limits(plain)
    rewrites: list[str] = []
    refs = [ref for node in dicts_in(plain) if isinstance(ref := node.get("$ref"), str)]
    meant = frozenset(unquote(ref[1:]) for ref in refs if ref.startswith("#/"))
    document = _normalised(plain, "", _Notes(rewrites, "$schema" in plain, has_unevaluated(plain), meant))
    assert isinstance(document, dict)
    references = References(document)
    # Within one resource they are plain references. Across several, their meaning depends on the way to them.
    if has_inner_id(document) and any(word in node for node in dicts_in(document) for word in REFERENCES[1:]):
        raise SchemaError("", f"{' and '.join(REFERENCES[1:])} are not supported together with a second $id")
    # The engine limits each pattern by itself; here is a limit for all of them together.
    places = (pattern_places(pattern, of_property=_PLACES_OF_PROPERTY) for pattern in patterns_in(document))
    if sum(places) > MAX_PATTERNS:
        counted = rf"a character as often as it is repeated, \p{{…}} as {_PLACES_OF_PROPERTY:,}"
        raise SchemaError("", f"its patterns are too large: more than {MAX_PATTERNS:,} characters, counting {counted}")
    left_out = leave_patterns_out(document, references)
    rules = Rules(document, references, lambda part: _compile(part, mask=MASK, formats=formats))
    return CompiledSchema(
        document,
        (*rewrites, *left_out),
        tuple(left_out),
        bound_of(document, references),
        rules,
        any("uniqueItems" in node for node in dicts_in(document)),
        _compile(document, formats=formats).is_valid,
    )


def pattern_matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a text matches a pattern of a schema that was compiled, in linear time."""
    return _compile({"pattern": pattern}).is_valid


def _compile(
    document: dict[str, Json], *, mask: str | None = None, formats: Formats = "strict"
) -> jsonschema_rs.Validator:
    try:
        return jsonschema_rs.validator_for(
            document,
            offline=True,  # it would fetch http:// and read file:// otherwise
            validate_formats=formats != "off",
            formats=_lenient_formats() if formats == "lenient" else None,
            pattern_options=jsonschema_rs.RegexOptions(),  # linear time, where the default can take forever
            mask=mask,
        )
    except jsonschema_rs.ValidationError as error:
        raise SchemaError(pointer(error.instance_path), cut_message(error.message)) from error
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise SchemaError("", cut_message(str(error))) from error


@cache
def _lenient_formats() -> dict[str, Callable[[str], bool]]:
    return {name: _either(_compile({"format": name}).is_valid, accepts) for name, accepts in LENIENT.items()}


def _either(strict: Callable[[str], bool], accepts: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: strict(text) or accepts(text)


def _check_limits(schema: dict[str, Json]) -> None:
    waiting: list[tuple[Any, str, int]] = [(schema, "", 1)]
    nodes = 0
    while waiting:
        node, path, depth = waiting.pop()
        nodes += 1
        if depth > MAX_DEPTH:
            raise SchemaError(path[:_SHOWN_VALUE], f"nested deeper than {MAX_DEPTH} levels")
        if nodes > MAX_NODES:
            raise SchemaError("", f"more than {MAX_NODES:,} parts")
        inner: Iterable[tuple[Any, Any]] = ()
        if isinstance(node, dict):
            if not all(isinstance(key, str) for key in node):
                raise SchemaError(path, "a key is not a string")
            inner = node.items()
        elif isinstance(node, list | tuple):
            inner = enumerate(node)
        elif node is not None and not isinstance(node, str | int | float):
            raise SchemaError(path, f"{type(node).__name__} is not JSON")
        waiting += [(one, f"{path}/{key}", depth + 1) for key, one in inner]
    try:
        size = len(msgspec.json.encode(schema))
    except UnicodeEncodeError:
        raise SchemaError("", "half a surrogate pair in a string") from None
    except ValueError:
        raise SchemaError("", f"an integer of more than {sys.get_int_max_str_digits():,} digits") from None
    if size > MAX_BYTES:
        raise SchemaError("", f"larger than {MAX_BYTES:,} bytes")


class _Notes(msgspec.Struct, frozen=True):
    """What the rewriting reports, and what it may assume."""

    rewrites: list[str]
    names_draft: bool  # the document names its draft: words of older drafts have the meaning they have there
    has_unevaluated: bool  # what an `if` has looked at matters
    meant: frozenset[str]  # paths that a reference leads to

    def add(self, path: str, what: str) -> None:
        self.rewrites.append(f"{path or '/'}: {what}")


_KEYWORDS = frozenset((*ONE_SCHEMA, *LISTED_SCHEMAS, *NAMED_SCHEMAS, *HOLDS_VALUES))


def _normalised(schema: Json, path: str, notes: _Notes) -> Json:
    """The schema as the drafts want it, with all it contains. Raises SchemaError for a reference elsewhere."""
    if not isinstance(schema, dict):
        return schema
    # The parent is rewritten before its parts: `required: true` moves up from a property, and the list of `items`
    # becomes `prefixItems`, before either is looked into.
    rewritten = dict(schema)
    for keyword in REFERENCES:
        ref = rewritten.get(keyword)
        if isinstance(ref, str) and not ref.startswith("#"):
            shown = shortened(ref, _SHOWN_VALUE)
            raise SchemaError(
                f"{path}/{keyword}", f"only references within the schema (#/…) are supported, not {shown}"
            )
    _modernise(rewritten, path, notes)
    # The validator passes over an `if` that stands alone, and over what is wrong in it. The judge does not, where it
    # has to know what the `if` has looked at. With a `then` the validator reads it too, and refuses it right away.
    if notes.has_unevaluated and "if" in rewritten and "else" not in rewritten:
        rewritten.setdefault("then", True)
    for keyword in ONE_SCHEMA:
        if isinstance(rewritten.get(keyword), dict):
            rewritten[keyword] = _normalised(rewritten[keyword], f"{path}/{keyword}", notes)
    for keyword in LISTED_SCHEMAS:
        if isinstance(listed := rewritten.get(keyword), list):
            rewritten[keyword] = [_normalised(one, f"{path}/{keyword}/{i}", notes) for i, one in enumerate(listed)]
    for keyword in NAMED_SCHEMAS:
        if isinstance(named := rewritten.get(keyword), dict):
            rewritten[keyword] = {
                key: _normalised(one, path + pointer((keyword, key)), notes) for key, one in named.items()
            }
    # Unknown keywords have schemas in them where a reference leads: OpenAPI's `components` is one.
    for keyword in [key for key in rewritten if key not in _KEYWORDS] if notes.meant else ():
        rewritten[keyword] = _normalised_within(rewritten[keyword], f"{path}/{escaped(keyword)}", notes)
    is_nullable = rewritten.get("nullable")  # of OpenAPI
    if isinstance(is_nullable, bool):
        del rewritten["nullable"]
        notes.add(f"{path}/nullable", "read as a union with null")
    if is_nullable is not True:
        return rewritten
    # Null joins the types where they alone decide. Beside `const` or a combination it would still be refused there.
    if "type" in rewritten and not any(word in rewritten for word in _COMBINING):
        named = rewritten["type"] if isinstance(rewritten["type"], list) else [rewritten["type"]]
        rewritten["type"] = named if "null" in named else [*named, "null"]
        listed = rewritten.get("enum")
        if isinstance(listed, list) and listed and None not in listed:
            rewritten["enum"] = [*listed, None]
        return rewritten
    narrowing = ("type", "enum", "properties", *_COMBINING)
    return {"anyOf": [rewritten, {"type": "null"}]} if any(word in rewritten for word in narrowing) else rewritten


_COMBINING = ("const", "$ref", "allOf", "anyOf", "oneOf", "not", "if")


def _normalised_within(part: Json, path: str, notes: _Notes) -> Json:
    """A part that is not a schema, with the schemas in it that a reference leads to: `#/components/schemas/Pet`."""
    if path in notes.meant:
        return _normalised(part, path, notes)
    if isinstance(part, dict):
        return {key: _normalised_within(one, f"{path}/{escaped(key)}", notes) for key, one in part.items()}
    if isinstance(part, list):
        return [_normalised_within(one, f"{path}/{index}", notes) for index, one in enumerate(part)]
    return part


def _modernise(schema: dict[str, Json], path: str, notes: _Notes) -> None:
    """Write the keywords of one schema as the drafts want them. The schemas in it come later, but `required: true`
    moves up from them."""
    # References as generators write them: `#/$defs/收据` (pydantic), `#/definitions/Partial<Order>` (TypeScript).
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref.startswith("#/"):
        schema["$ref"] = f"#{quote(_STRAY_PERCENT.sub('%25', ref[1:]), safe=_IN_FRAGMENTS)}"
    for keyword in [key for key, value in schema.items() if value is None and key not in HOLDS_VALUES]:
        del schema[keyword]
        notes.add(f"{path}/{keyword}", "null left out")
    written = schema.get("type")
    if isinstance(written, str | list):
        listed = [written] if isinstance(written, str) else written
        names = [_TYPE_NAMES.get(one.strip().lower(), one) if isinstance(one, str) else one for one in listed]
        if None in names:
            del schema["type"]
            notes.add(f"{path}/type", f"{shortened(written, _SHOWN_VALUE)} ignored: any type is allowed")
        elif names != listed and all(isinstance(one, str) for one in names):
            schema["type"] = names[0] if isinstance(written, str) else list(dict.fromkeys(names))
            read = shortened(schema["type"], _SHOWN_VALUE)
            notes.add(f"{path}/type", f"{shortened(written, _SHOWN_VALUE)} read as {read}")
    _move_required(schema, path, notes)
    if notes.names_draft:
        return
    # A list of `items`, as up to draft 2019-09. A schema that names no draft is read as 2020-12, where it is wrong.
    if isinstance(schema.get("items"), list):
        schema["prefixItems"] = schema.pop("items")
        notes.add(f"{path}/items", "a list read as prefixItems")
        if "additionalItems" in schema:
            schema["items"] = schema.pop("additionalItems")
            notes.add(f"{path}/additionalItems", "read as items")
    # `exclusiveMinimum: true`, as in draft 4 and OpenAPI 3.0.
    for flag, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(schema.get(flag), bool):
            if schema.pop(flag) and bound in schema:
                schema[flag] = schema.pop(bound)
            notes.add(f"{path}/{flag}", f"a boolean merged with {bound}")


_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_IN_FRAGMENTS = "/%~!$&'()*+,;=:@?"  # beside letters and digits (RFC 3986, section 3.5)

_TYPE_NAMES: Mapping[str, str | None] = {
    **dict.fromkeys(("string", "str", "char", "text"), "string"),
    **dict.fromkeys(("integer", "int", "long", "short", "byte", "bigint"), "integer"),
    **dict.fromkeys(("number", "float", "double", "decimal"), "number"),
    **dict.fromkeys(("boolean", "bool"), "boolean"),
    **dict.fromkeys(("array", "list", "tuple", "arraylist", "set"), "array"),
    **dict.fromkeys(("object", "dict", "hashmap", "map"), "object"),
    **dict.fromkeys(("null", "none"), "null"),
    **dict.fromkeys(("any", ""), None),
}


def _move_required(schema: dict[str, Json], path: str, notes: _Notes) -> None:
    """`required: true` inside a property, as in draft 3 and in hand-written tools."""
    if isinstance(schema.get("required"), bool):  # of no property: it has no meaning
        del schema["required"]
        notes.add(f"{path}/required", "ignored: it must be a list of names")
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return
    kept, needed = dict(properties), list[str]()
    for name, inner in properties.items():
        if isinstance(inner, dict) and isinstance(flag := inner.get("required"), bool):
            kept[name] = {key: value for key, value in inner.items() if key != "required"}
            needed += [name] if flag else []
            notes.add(path + pointer(("properties", name)), f"required: {str(flag).lower()} moved to the object's list")
    schema["properties"] = kept
    listed = schema.get("required", [])
    if needed and isinstance(listed, list):
        known = {name for name in listed if isinstance(name, str)}  # there may be thousands
        schema["required"] = listed + [name for name in needed if name not in known]
