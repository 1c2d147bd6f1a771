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
        before, after = _shown(old), _shown(new)
        if max(len(before), len(after)) > _SHOWN:
            # A prompt of pages differs in a word: both are cut to start shortly before it.
            shorter = min(len(before), len(after))
            same = next((place for place in range(shorter) if before[place] != after[place]), shorter)
            start = max(0, same - 20)
            before, after = _excerpt(before, start), _excerpt(after, start)
        yield where, before, after


def _shown(value: Any) -> str:
    return "(absent)" if value is _ABSENT else json.dumps(value, ensure_ascii=False, default=str)


def _excerpt(text: str, start: int) -> str:
    end = start + _SHOWN
    return ("…" if start else "") + text[start:end] + ("…" if len(text) > end else "")
