"""`pyarrow.compute`, imported when something of it is first used: it makes 250 functions, and most runs need none."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(import_module("pyarrow.compute"), name)
