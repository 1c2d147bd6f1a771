"""How deep a value nests. Standard library only."""

from __future__ import annotations

from typing import Any


def is_deeper(value: Any, most: int) -> bool:
    """Whether objects and lists stand within each other more than `most` times."""
    # Level by level: a value may be deeper than Python's stack.
    level, depth = [value] if type(value) in (dict, list) else [], 0
    while level and depth <= most:
        depth += 1
        members = (outer.values() if type(outer) is dict else outer for outer in level)
        level = [inner for of_outer in members for inner in of_outer if type(inner) in (dict, list)]
    return depth > most
