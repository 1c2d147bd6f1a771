"""The protocols that endpoints speak: a request becomes bytes, an answer becomes our words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from batchcall.base import Shape
from batchcall.dialects.anthropic.request import default_cap
from batchcall.dialects.dialect import DIALECTS, Dialect
from batchcall.dialects.jsontext import GZIP_MAGIC, ZLIB_MAGICS
from batchcall.dialects.limits import read_limits
from batchcall.dialects.parameters import max_tokens_of
from batchcall.dialects.tolerant_decode import too_large

__all__ = [
    "DEFAULT_CAPS",
    "DIALECTS",
    "GZIP_MAGIC",
    "ZLIB_MAGICS",
    "Dialect",
    "max_tokens_of",
    "read_limits",
    "too_large",
]

# The cap on an answer's length that a protocol sends where the request names none.
DEFAULT_CAPS: Mapping[str, Callable[[Shape], int]] = {"anthropic": default_cap}
