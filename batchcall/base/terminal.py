"""What may reach a person's terminal. Standard library only."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` without the control, escape and bidi characters that could deceive a terminal; lines and tabs stay."""
    return "".join(mark for mark in text if mark in "\n\t" or (mark.isprintable() and mark not in _BIDI))


_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
