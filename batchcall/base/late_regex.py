"""Patterns that are compiled when they are first used: most runs never meet the errors that they read."""

from __future__ import annotations

import re
from typing import Any, cast


def late_regex(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """As `re.compile`, at the first use. A pattern that is wrong raises there."""
    return cast("re.Pattern[str]", _LateRegex(pattern, flags))


class _LateRegex:
    def __init__(self, pattern: str, flags: int) -> None:
        self.pattern = pattern
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        # Python asks here only for what is not there yet: each method is looked up once.
        method = getattr(re.compile(self.pattern, self._flags), name)
        setattr(self, name, method)
        return method
