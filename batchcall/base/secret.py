"""A key that does not print itself. Standard library only."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """A secret text. Its repr is `***`; only `reveal` gives it away, and it is never pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
