"""What of a tool's schema Anthropic refuses: it reads JSON Schema as draft 2020-12, and nothing older."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from batchcall.base import Json
from batchcall.schemas import walk

Schema = Mapping[str, Json]


def draft_faults(schema: Schema, where: str) -> Iterator[str]:
    """Words of older drafts and of other languages, each with its path. The type at the top is not looked at: what is
    sent says "object" there, whatever is written."""
    for place in walk({name: value for name, value in schema.items() if name != "type"}):
        schema, path = place.schema, ".".join((where, *place.path))
        if isinstance(schema.get("items"), list):
            yield f"{path}.items: Anthropic accepts draft 2020-12, where a list of schemas is prefixItems; rename it"
        for name in ("exclusiveMinimum", "exclusiveMaximum"):
            if isinstance(schema.get(name), bool):
                yield f"{path}.{name}: Anthropic accepts draft 2020-12, where it is the bound itself; write the number"
        if isinstance(schema.get("required"), bool):
            yield f"{path}.required: Anthropic accepts draft 2020-12; name the property in the object's list instead"
        kinds = schema.get("type")
        listed = kinds if isinstance(kinds, list) else [] if kinds is None else [kinds]
        if unknown := [one for one in listed if one not in _TYPES]:
            yield f"{path}.type: {unknown[0]!r:.40} is not a type of JSON Schema; use one of {', '.join(_TYPES)}"


_TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")
