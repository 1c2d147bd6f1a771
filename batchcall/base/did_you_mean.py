"""Which known name a misspelt one was meant to be. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_CLOSE = 0.65  # difflib's own 0.6 takes "nope" for "opened"; two letters of three that changed places have 0.67


def close_to(name: str, known: Iterable[str], *, most: int = 1, at_least: float = _CLOSE) -> list[str]:
    """The known names that `name` is likely a typo of, the closest first; empty where nothing is close."""
    return difflib.get_close_matches(name, list(known), n=most, cutoff=at_least)
