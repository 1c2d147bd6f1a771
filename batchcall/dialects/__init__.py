"""The protocols that endpoints speak, one pure file each: a request becomes bytes, an answer becomes our words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from batchcall.base import Failure, HttpRequest, HttpResponse, Reply, Request, Shape
from batchcall.dialects.anthropic.dialect import Anthropic, default_cap
from batchcall.dialects.gemini.dialect import Gemini
from batchcall.dialects.jsontext import GZIP_MAGIC, ZLIB_MAGICS
from batchcall.dialects.limits import read_limits
from batchcall.dialects.openai.chat import OpenAIChat
from batchcall.dialects.openai.responses import OpenAIResponses
from batchcall.dialects.tolerant_decode import too_large

__all__ = ["DEFAULT_CAPS", "DIALECTS", "GZIP_MAGIC", "ZLIB_MAGICS", "Dialect", "read_limits", "too_large"]


class Dialect(Protocol):
    """One protocol. Pure: the same request is always the same bytes, the same answer always means the same."""

    @property
    def name(self) -> str:
        """As `endpoint.protocol` says it."""

    def headers(self, *, auth: str | None, key: str | None) -> dict[str, str]:
        """The headers that every request carries. `auth` None: the protocol's own way; no key: none is sent.

        Raises JobError where `auth` is none of the ways of the job file.
        """

    def encode(self, request: Request) -> HttpRequest:
        """The request as it is posted."""

    def decode(self, response: HttpResponse, *, now_s: float) -> Reply | Failure:
        """What an answer means. Never raises, whatever was received.

        `now_s` is when it was received, in seconds since the epoch: a Retry-After may be a date.
        """

    def reask(self, request: Request, reply: Reply, problem: str) -> Request:
        """The follow-up that shows the model its own answer and what was wrong with it."""

    def faults(self, shape: Shape) -> list[str]:
        """What of this shape the protocol cannot express or refuses, each with the path of the key and what to do.

        Empty: all of it can be said.
        """


DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect for dialect in (OpenAIChat(), OpenAIResponses(), Anthropic(), Gemini())
}

# The cap on an answer's length that a protocol sends where the request names none.
DEFAULT_CAPS: Mapping[str, Callable[[Shape], int]] = {"anthropic": default_cap}
