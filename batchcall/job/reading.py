"""The job file as it is written: TOML, `--set`, its shape, the files it names. What the values mean is for `job`."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import date, time
from functools import reduce
from itertools import accumulate
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs

from batchcall.base import JobError, close_to
from batchcall.job.sections import SCHEMA


class Draft(NamedTuple):
    """A job file that is being read."""

    path: Path
    written: dict[str, Any]
    faults: list[str]
    unsound: set[str]  # top-level keys whose shape is wrong: their content is checked no further

    @property
    def folder(self) -> Path:
        return self.path.parent

    def fault(self, where: str, what: str) -> None:
        self.faults.append(f"{where}: {what}")

    def misshapen(self, where: str, what: str) -> None:
        self.unsound.add(where.partition(".")[0])
        self.fault(where, what)

    def section(self, name: str, *, instead: Any) -> Any:
        """What is written under a top-level key; `instead` where it is missing or has the wrong shape."""
        return instead if name in self.unsound else self.written.get(name, instead)

    def stop_at_faults(self) -> None:
        if self.faults:
            faults = tuple(dict.fromkeys(self.faults))
            count = "an error" if len(faults) == 1 else f"{len(faults)} errors"
            raise JobError(f"{self.path.name} has {count}", faults=faults)


def read_draft(path: Path, overrides: tuple[str, ...]) -> Draft:
    """A job file with its overrides, its shape checked. Raises JobError only when it cannot be read as TOML."""
    _refuse_bytes(str(path), os.fsencode(path).decode(errors="replace"))
    for override in overrides:
        _refuse_bytes(override, f"--set {override.partition('=')[0].strip()}")
    draft = Draft(path, _parsed(path), [], set())
    # Overrides come before all checks: a job file may be complete only with them.
    for number, override in enumerate(overrides, 1):
        _override(draft, override, number)
    for name, value in draft.written.items():
        draft.written[name] = _plain(draft, name, value)
    # Unknown keys first: what is misspelt is not missing as well, and a key with a fault is reported once.
    reported = {fault.partition(": ")[0] for fault in draft.faults}
    errors = list(_VALIDATOR.iter_errors(draft.written))
    for error in errors:
        if error.kind.name == _UNKNOWN:
            reported.update(_report_unknown(draft, error))
    for error in errors:
        where, what = _fault_of(draft.written, error)
        if error.kind.name != _UNKNOWN and where not in reported:
            draft.misshapen(where, what)
    return draft


def job_file_at(path: Path) -> Path:
    """The job file at `path`; of a folder, the only one in it. Raises JobError."""
    if not path.is_dir():
        return path
    found = job_files_in(path)
    if not found:
        raise JobError(f"{path} is a folder without a job file", hint="`batchcall init` writes one to start from")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise JobError(f"{path} is a folder with several job files: {names}", hint=f"name the one you mean: {found[0]}")
    return found[0]


def job_files_in(folder: Path) -> list[Path]:
    """Files that are or are to be job files: other TOML, such as pyproject.toml, has none of their sections."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".toml"))
    except OSError as error:
        raise JobError(f"{folder} cannot be read: {error.strerror}") from error
    found = []
    for name in names:
        try:
            is_job = not _parsed(folder / name).keys().isdisjoint(("input", "endpoint", "request"))
        except JobError:  # reported when it is read, where it is the only one
            is_job = name == "job.toml"
        if is_job:
            found.append(folder / name)
    return found


def _refuse_bytes(written: str, shown: str) -> None:
    """Refuse a name that is not UTF-8: neither run.json nor a column can hold it, and pyarrow cannot open it."""
    try:
        written.encode()
    except UnicodeEncodeError:
        raise JobError(f"{shown} is not UTF-8", hint="rename that file or folder") from None


def _parsed(path: Path) -> dict[str, Any]:
    # utf-8-sig: editors on Windows put a byte-order mark in front.
    text = ""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text)
    except FileNotFoundError:
        raise JobError(f"there is no job file {path}", hint="`batchcall init` writes one to start from") from None
    except UnicodeDecodeError as error:
        raise JobError(f"{path} is not UTF-8 (byte {error.start})", hint="TOML files are always UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(path, text, str(error)) from error
    except RecursionError:
        raise JobError(f"{path} is nested too deeply to be read") from None
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}") from error


def _not_toml(path: Path, text: str, message: str) -> JobError:
    """The message of tomllib, with the key of that line, and never its value: it may be a secret without quotes."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message)
    if found is None:
        return JobError(f"{path} is not TOML: {message}", hint=_ANY_LINE)
    what, line, column = found.groups()
    if path.suffix.lower() != ".toml":
        hint = "give a job file, such as job.toml; its input.path names the data. `batchcall init` writes one"
        return JobError(f"{path} is not a job file: line {line} is not TOML", hint=hint)
    written = re.match(r"[ \t]*([\w.\"' -]{1,60}?)[ \t]*=(?!=)", text.split("\n")[int(line) - 1])
    key = written[1] if written is not None else None
    shown = f" ({key} = …)" if key is not None else ""
    hint = _ANY_LINE if key is None else _TOML_HINTS.get(what, _ANY_LINE).format(key=key)
    return JobError(f"{path} is not TOML: line {line}, column {column}{shown}: {what}", hint=hint)


_ANY_LINE = "fix that line; strings need quotes"
_TOML_HINTS = {  # by the message of tomllib
    "Invalid value": 'write a string in quotes, {key} = "…"; a switch as true or false; a number like 0.5',
    "Cannot overwrite a value": "{key} is written twice; leave one of them out",
}


def _override(draft: Draft, override: str, number: int) -> None:
    """Apply one `--set`. Its value is never shown: it may be a key that strayed there."""
    key, mark, text = override.partition("=")
    steps = [quoted or bare for quoted, bare in re.findall(r'"([^"]+)"|([^."\s]+)', key)]  # prices."gpt-4.1".prompt: 3
    if not mark or not steps:
        draft.fault(f"--set (number {number})", "it must be key.path=value")
        return
    # A value as TOML has it, else the text itself: `--set request.model=gpt-4o` needs no quotes.
    value: Any = text
    with suppress(ValueError, RecursionError):  # not TOML, or a number of more than 4,300 digits
        read = tomllib.loads(f"value = {text}")
        value = read["value"] if len(read) == 1 else text
    place: Any = draft.written
    try:
        # A number is a place in a list: `--set tool.0.name=…`.
        for step in steps[:-1]:
            if isinstance(place, list):
                place = place[_place_in_list(step)]
            else:  # a table that is missing is made, a list is not
                place = place[step] if step in _LISTS else place.setdefault(step, {})
        place[_place_in_list(steps[-1]) if isinstance(place, list) else steps[-1]] = value
    except (LookupError, ValueError, TypeError, AttributeError):
        draft.fault(f"--set {key.strip()}", "the job file has no such key")


_LISTS = frozenset({"tool", "messages"})


def _place_in_list(step: str) -> int:
    if not step.isdecimal():  # -1 is no place in a job file
        raise ValueError(step)
    return int(step)


def _plain(draft: Draft, where: str, value: Any) -> Any:
    """The value without what TOML has and JSON does not: that is a fault, and null from here on."""
    if isinstance(value, dict):
        return {name: _plain(draft, f"{where}.{name}", inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(draft, f"{where}.{place}", inner) for place, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        draft.misshapen(where, f"{value} is not a JSON number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        draft.misshapen(where, "the number does not fit into 64 bits")
    elif isinstance(value, date | time):
        draft.misshapen(where, f"JSON has no dates; write it as a string: {value.isoformat()!r}")
    else:
        return value
    return None


_VALIDATOR = jsonschema_rs.validator_for(SCHEMA, offline=True)
_UNKNOWN = "additionalProperties"


def _report_unknown(draft: Draft, error: jsonschema_rs.ValidationError) -> Iterator[str]:
    """Add the unknown keys of one table to the faults; gives the known keys that they are near to."""
    foreign: Any = error.kind  # jsonschema_rs types each kind on its own
    known = list(_schemas_to(error)[-1]["properties"])
    for name in foreign.value:
        place = ".".join(map(str, [*error.instance_path, name]))
        near = close_to(name, known)
        meant = f"; did you mean {near[0]}?" if near else f"; the known keys are {', '.join(known)}"
        draft.misshapen(place, f"unknown key{meant}")
        yield from (place.removesuffix(name) + one for one in near)


def _schemas_to(error: jsonschema_rs.ValidationError) -> list[Any]:
    """From the schema of the whole file down to the one that a value does not fit."""
    whole: Any = SCHEMA
    return list(accumulate(error.schema_path[:-1], getitem, initial=whole))


def _fault_of(written: Any, error: jsonschema_rs.ValidationError) -> tuple[str, str]:
    """A fault of the shape as the key and a sentence."""
    foreign: Any = error.kind
    kind, limit = foreign.name, foreign.value  # what the schema asks for at that point
    schemas = _schemas_to(error)
    path = error.instance_path
    if kind == "required":
        path = [*path, limit]
        schemas.append(schemas[-1]["properties"][limit])
    where = ".".join(map(str, path))
    # Of the innermost schema that has one; a table of properties may have a property of that name.
    *_, description = (one["description"] for one in schemas if isinstance(one.get("description"), str))
    if kind == "required":
        return where, f"is missing ({description})"
    value = reduce(getitem, path, written)
    shown = "its value" if _MAY_BE_SECRET.fullmatch(where) else _shown(value)
    right = f"{_RIGHT[kind](limit)} ({description})" if kind in _RIGHT else f"it must be {description}"
    near = close_to(str(value), limit) if kind == "enum" else []
    meant = f"; did you mean {near[0]}?" if near else ""
    return where, f"{shown} is not valid: {right}{meant}"


# Where a value may be a key that strayed there, or contain a password.
_MAY_BE_SECRET = re.compile(r"endpoint(\.\d+)?(\.(api_key|auth|url|headers)\b.*)?")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + " …"


_LONGEST_SHOWN = 80  # characters


_KINDS = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}
_RIGHT: Mapping[str, Callable[[Any], str]] = {
    "type": lambda kinds: "it must be " + " or ".join(_KINDS[kind] for kind in kinds),
    "enum": lambda options: f"it must be one of {', '.join(options)}",
    "const": lambda value: f"it must be {_shown(value)}",
    "minimum": lambda limit: f"it must be at least {limit:,}",
    "maximum": lambda limit: f"it must be at most {limit:,}",
    "exclusiveMinimum": lambda limit: f"it must be more than {limit:,}",
    "minLength": lambda limit: "it must not be empty",
    "minItems": lambda limit: "it must not be empty",
    "uniqueItems": lambda limit: "it must not repeat a value",
}


def located(draft: Draft, path: str) -> str:
    """A path from the job file's folder, or from the home folder where it starts with ~; a URI as it is."""
    if "://" in path:
        return path
    return os.path.normpath(draft.folder / os.path.expanduser(path))


def read_text(draft: Draft, where: str, file: str) -> str | None:
    """The text of a file that the job names; None, and a fault, where it cannot be read."""
    try:
        return Path(located(draft, file)).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        draft.fault(where, f"{file} is not UTF-8")
    except OSError as error:
        draft.fault(where, f"{file} cannot be read: {error.strerror} (looked in {draft.folder})")
    return None


def read_json(draft: Draft, where: str, file: str) -> Any:
    """The value of a JSON file that the job names; None, and a section that is unsound, where it cannot be read."""
    text = read_text(draft, where, file)
    if text is None:
        draft.unsound.add(where.partition(".")[0])
        return None
    try:
        read = json.loads(text, parse_constant=_refuse_constant)
        if read is not None:
            return read
        what = "contains only null"
    except RecursionError:
        what = "is nested too deeply"
    except ValueError as error:
        what = f"is not JSON: {error}"
    draft.misshapen(where, f"{file} {what}")
    return None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def parse_duration(written: str | float, *, key: str, may_be_zero: bool = False) -> float:
    """Seconds of "90s", "1m30s", "500ms", "2h", or of a plain number. Raises JobError naming `key`."""
    if isinstance(written, (int, float)):
        return float(written)
    # Three ways to be wrong, each with its own hint: no time at all ("0s"), a number without a unit ("30"), and
    # anything that is not wholly made of numbers with units.
    pieces = re.findall(_PIECE, written)
    total = sum(float(number) * _UNITS_S[unit] for number, unit in pieces)
    is_without_unit = re.fullmatch(r"\s*\d+(\.\d+)?\s*", written) is not None
    if not (total or may_be_zero) and (pieces or (is_without_unit and not float(written))):
        raise JobError(f"{key}: {written!r} leaves no time", hint=_NO_TIME.get(key, "write 90s, 1m30s or 2h"))
    if not pieces or re.sub(rf"{_PIECE}|\s", "", written) or not 0 <= total < math.inf:
        unit = f"; add a unit, as in {written.strip()}s" if is_without_unit else ""
        raise JobError(f"{key}: {written!r} is not a duration", hint=f"write 90s, 1m30s, 500ms or 2h{unit}")
    return total


_NO_TIME = {
    "--deadline": "write how long the run may take (90s, 30m, 2h), or leave it out to run to the end",
    "--max-outage": "write 1s to stop at the first outage, or leave it out to wait up to 30m",
}

_PIECE = r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)"
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
