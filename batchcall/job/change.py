"""What differs between two jobs, in words: one line per key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_ABSENT = object()
_SHOWN = 100  # characters of a value


def describe_change(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line per key that differs; of long texts the part where they begin to differ."""
    return [f"{where}: {before} -> {after}" for where, before, after in _differences(old, new, "")]


def _differences(old: Any, new: Any, where: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(old.get(name, _ABSENT), new.get(name, _ABSENT), f"{where}.{name}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(before, after, f"{where}.{place}")
    elif old != new:
        yield where, *_around_change(_shown(old), _shown(new))


def _shown(value: Any) -> str:
    return "(absent)" if value is _ABSENT else json.dumps(value, ensure_ascii=False, default=str)


def _around_change(old: str, new: str) -> tuple[str, str]:
    # A prompt of pages differs in a word: both are cut to start shortly before it.
    if max(len(old), len(new)) <= _SHOWN:
        return old, new
    same = next((place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - 20)
    return _excerpt(old, start), _excerpt(new, start)


def _excerpt(text: str, start: int) -> str:
    end = start + _SHOWN
    return ("…" if start else "") + text[start:end] + ("…" if len(text) > end else "")
