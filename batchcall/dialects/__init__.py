"""The protocols that endpoints speak, one pure file each: a request becomes bytes, an answer becomes our words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from batchcall.dialects.failures import HEADERS_READ
from batchcall.dialects.limits import read_limits
from batchcall.dialects.openai_chat import OpenAIChat
from batchcall.errors import JobError
from batchcall.records import Failure, HttpRequest, HttpResponse, Reply, Request

__all__ = ["DIALECTS", "HEADERS_READ", "PLANNED", "Dialect", "find_dialect", "read_limits"]


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


DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (OpenAIChat(),)}

PLANNED = ("openai-responses", "anthropic", "gemini")  # promised names that this version does not speak


def find_dialect(protocol: str) -> Dialect:
    """The dialect of that name. Raises JobError, which tells a name that is not built yet from one that is wrong."""
    if protocol in DIALECTS:
        return DIALECTS[protocol]
    known = ", ".join(DIALECTS)
    if protocol in PLANNED:
        raise JobError(
            f'endpoint.protocol: "{protocol}" is not supported by this version',
            hint=f"supported: {known}; many endpoints speak that as well, under a URL that ends in /v1",
        )
    raise JobError(f'endpoint.protocol: "{protocol}" is no protocol', hint=f"supported: {known}")
