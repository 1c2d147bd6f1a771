"""The JSON Schema of the job file, for checking and for editors: made from the Structs of `sections`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

_TYPES: dict[Any, str] = {
    **dict.fromkeys((str, Path, Literal), "string"),
    **{float: "number", int: "integer", bool: "boolean", list: "array", dict: "object"},
}


def schema_of(kind: Any, description: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON Schema of what is written for a Python type; `more` is the part of it that the type does not say."""
    if type(None) in get_args(kind):  # an optional key is left out: TOML has no null
        kind = get_args(kind)[0]
    schema = {"type": _TYPES.get(get_origin(kind) or kind), "description": description, **(more or {})}
    if "if" in schema:  # each branch has a type of its own
        del schema["type"]
    elif get_origin(kind) is Literal:
        schema["enum"] = list(get_args(kind))
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        schema.update(table_of(kind), type="object")
    return schema


def table_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """What JSON Schema says of a table besides its type. Other keys are allowed unless the Struct forbids them."""
    keys = {}
    required = []
    for field in msgspec.structs.fields(struct):
        if get_origin(field.type) is Annotated:
            kind, description, *more = get_args(field.type)
            schema = schema_of(kind, description, *more)
            name = schema.pop("name", field.name)
            keys[name] = schema
            required += [name] if field.required else []
    is_closed = struct.__struct_config__.forbid_unknown_fields
    return {
        "properties": keys,
        **({"additionalProperties": False} if is_closed else {}),
        **({"required": required} if required else {}),
    }


def either(kind: str, then: dict[str, Any], otherwise: dict[str, Any]) -> dict[str, Any]:
    """One thing for values of a JSON type, another for the rest. Not `anyOf`: its errors list what would be right in
    every branch, but not which one was meant."""
    return {"if": {"type": kind}, "then": then, "else": otherwise}


def for_editors(schema: Any) -> Any:
    """The same schema with `anyOf` for our if, then and else: editors complete keys from it, and not from those."""
    if isinstance(schema, list):
        return [for_editors(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if "if" not in schema:
        return {name: for_editors(inner) for name, inner in schema.items()}
    branches = [{**schema["if"], **schema["then"]}, schema["else"]]
    return {"description": schema["description"], "anyOf": for_editors(branches)}
