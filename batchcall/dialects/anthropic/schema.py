"""What of a tool's schema Anthropic refuses: it reads JSON Schema as draft 2020-12, and nothing older."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from batchcall.base import Json

Schema = Mapping[str, Json]


def draft_faults(schema: Schema, where: str) -> Iterator[str]:
    """Words of older drafts and of other languages, each with its path. The type at the top is not looked at: what is
    sent says "object" there, whatever is written."""
    yield from _faults({name: value for name, value in schema.items() if name != "type"}, where)


def _faults(node: Json, where: str) -> Iterator[str]:
    if not isinstance(node, dict):
        return
    if isinstance(node.get("items"), list):
        yield f"{where}.items: Anthropic takes draft 2020-12, where a list of schemas is prefixItems; rename it"
    for name in ("exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(node.get(name), bool):
            yield f"{where}.{name}: Anthropic takes draft 2020-12, where it is the bound itself; write the number"
    if isinstance(node.get("required"), bool):
        yield f"{where}.required: Anthropic takes draft 2020-12; name the property in the object's list instead"
    if unknown := [one for one in _listed(node.get("type")) if one not in _TYPES]:
        yield f"{where}.type: {unknown[0]!r:.40} is none of JSON Schema's; use one of {', '.join(_TYPES)}"
    for place, inner in _inner(node, where):
        yield from _faults(inner, place)


def _inner(node: dict[str, Json], where: str) -> Iterator[tuple[str, Json]]:
    for name in _HOLD_SCHEMAS:
        value = node.get(name)
        if name in _BY_NAME:
            named = value.items() if isinstance(value, dict) else ()
            yield from ((f"{where}.{name}.{own}", inner) for own, inner in named)
        elif isinstance(value, list):
            yield from ((f"{where}.{name}.{place}", inner) for place, inner in enumerate(value))
        else:
            yield f"{where}.{name}", value


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [] if value is None else [value]


_TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")
_BY_NAME = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_HOLD_SCHEMAS = (
    *_BY_NAME,
    *("items", "prefixItems", "additionalProperties", "contains", "propertyNames"),
    *("anyOf", "oneOf", "allOf", "not", "if", "then", "else"),
)
