"""The [[tool]]s of a job file: from a JSON file, inline, or from a pydantic model, each as the object that is sent."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from batchcall.base import close_to
from batchcall.job.reading import Draft, read_json
from batchcall.job.sections import ToolSpec

Written = Mapping[str, Any]


def read_tools(draft: Draft) -> list[ToolSpec]:
    """All tools that are right. What is wrong with the others is a fault of the draft."""
    tools: list[ToolSpec] = []
    for place, written in enumerate(draft.section("tool", instead=[])):
        where = f"tool.{place}"
        way = next((way for way in _WAYS if way in written), None)
        if way is None:
            draft.misshapen(where, "give file, python, or name with parameters")
            continue
        read, beside = _WAYS[way]
        surplus = [name for name in written if name != way and name not in beside]
        if surplus:
            draft.misshapen(where, f"with {way}, leave out {' and '.join(surplus)}")
            continue
        for tool in read(draft, where, written):
            tools += _checked(draft, where, tool, origin=str(written.get("file", where)))
    names = [tool.name for tool in tools]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        draft.misshapen("tool", f"two tools are called {name}")
    return tools


def _from_file(draft: Draft, where: str, written: Written) -> list[Any]:
    read = read_json(draft, f"{where}.file", written["file"])
    if read is None:  # a fault that the draft has already
        return []
    if read == []:
        draft.misshapen(f"{where}.file", f"{written['file']} contains an empty list: there is no tool in it")
    return read if isinstance(read, list) else [read]


def _from_model(draft: Draft, where: str, written: Written) -> list[Any]:
    """A pydantic model's schema; the module is looked for beside the job file first."""
    module, _, name = written["python"].partition(":")
    try:
        # What it prints must not stand between the lines of a result.
        with _importing_from(draft.folder), contextlib.redirect_stdout(sys.stderr):
            schema = getattr(importlib.import_module(module), name).model_json_schema()
        if not isinstance(schema, dict):
            raise TypeError(f"its schema is a {type(schema).__name__}, not an object")
    except (Exception, SystemExit) as error:  # whatever a foreign module raises is a fault of the job file
        what = f"{written['python']} cannot be imported as a pydantic model: {type(error).__name__}: {error}"
        draft.misshapen(f"{where}.python", what)
        return []
    description = written.get("description") or schema.get("description")
    return [
        {
            "name": written.get("name", name),
            **({"description": description} if description else {}),
            "parameters": {key: value for key, value in schema.items() if key not in ("title", "description")},
            **({"strict": written["strict"]} if "strict" in written else {}),
        }
    ]


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Modules of this folder come first, and are forgotten again: another job's folder has others of the same name."""
    # Two jobs of one process may each have a models.py: the second must not get the first one's.
    before = set(sys.modules)
    path = list(sys.path)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(f"{folder}{os.sep}"):
                del sys.modules[name]


def _inline(draft: Draft, where: str, written: Written) -> list[Any]:
    parameters = written.get("parameters")
    if not isinstance(parameters, dict) or not isinstance(parameters.get("file"), str) or len(parameters) != 1:
        return [dict(written)]
    read = read_json(draft, f"{where}.parameters.file", parameters["file"])
    return [] if read is None else [{**written, "parameters": read}]


# Each way to give a tool: how it is read, and which keys may stand beside it. The first that is there counts.
_WAYS: Mapping[str, tuple[Callable[[Draft, str, Written], list[Any]], frozenset[str]]] = {
    "file": (_from_file, frozenset()),
    "python": (_from_model, frozenset({"name", "description", "strict"})),
    "name": (_inline, frozenset({"description", "parameters", "strict"})),
}


def _checked(draft: Draft, where: str, tool: Any, *, origin: str) -> Iterator[ToolSpec]:
    # Tools pass through as written, so an unknown key is allowed. One that is nearly ours is a typo: with `paramaters`
    # the tool would have no schema, and every answer would be valid.
    misspelt = list(_misspelt(tool))
    for key, meant in misspelt:
        draft.misshapen(f"{where}.{key}", f"unknown key of a tool; did you mean {meant}?")
    if misspelt:  # what else is wrong may follow from it
        return
    whole = _as_whole(tool)
    function = whole["function"]
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        draft.misshapen(
            where, 'a tool is {"type": "function", "function": {"name", "parameters"}}; the name is missing'
        )
        return
    if not isinstance(function.get("parameters", {}), dict):
        draft.misshapen(f"{where}.parameters", "must be a JSON Schema, an object")
        return
    # Any letters will do: where the endpoint allows only some, the name is mapped on the way out and back.
    name = function["name"]
    if name.strip() and name.isprintable() and len(name) <= _LONGEST_NAME:
        yield ToolSpec(written=whole, origin=origin)
    else:
        rule = f"it must be printable, not blank, and have at most {_LONGEST_NAME} characters"
        draft.misshapen(where, f"{name[:_LONGEST_NAME]!r} cannot be a tool's name: {rule}")


def _misspelt(tool: Any) -> Iterator[tuple[str, str]]:
    """Keys of a tool object that look like one of ours, and which. Others pass on: vendors have keys of their own."""
    if not isinstance(tool, dict):
        return
    for key in tool:
        near = close_to(key.replace("_", "").lower(), _KEYS, at_least=_NEAR)
        if near and key not in _KEYS.values() and key not in _OTHERS_KEYS:
            yield key, _KEYS[near[0]]
    for key, meant in _misspelt(tool.get("function")):
        yield f"function.{key}", meant


_NEAR = 0.75  # "params" is near to "parameters"
_KEYS: Mapping[str, str] = {
    key.replace("_", ""): key
    for key in ("type", "function", "name", "description", "parameters", "strict", "input_schema")
}
_OTHERS_KEYS = frozenset({"output_schema", "outputSchema"})  # of MCP, and near to input_schema

_LONGEST_NAME = 128


def _as_whole(tool: Any) -> dict[str, Any]:
    """The tool object of what is one, of the function alone, of the flat form of OpenAI's Responses, or of
    Anthropic's form."""
    if isinstance(tool, dict) and "input_schema" in tool:
        named = {key: value for key, value in tool.items() if key not in ("type", "input_schema")}
        return {"type": "function", "function": {**named, "parameters": tool["input_schema"]}}
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return {"type": "function", "function": tool}
    if "function" in tool:
        return tool
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
