"""The table of protocols: what all share, and what each does its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from batchcall.base import Failure, HttpRequest, HttpResponse, Reply, Request, Shape
from batchcall.dialects.anthropic.request import VERSION, encode_messages, messages_faults, thinks
from batchcall.dialects.auth import auth_headers
from batchcall.dialects.gemini.request import encode_gemini, gemini_faults
from batchcall.dialects.openai.chat import encode_chat
from batchcall.dialects.openai.responses import encode_responses, responses_faults
from batchcall.dialects.openai.strict_schema import strict_tool_faults
from batchcall.dialects.reask import follow_up
from batchcall.dialects.tolerant_decode import decode


class Dialect(msgspec.Struct, frozen=True):
    """One protocol. Pure: the same request is always the same bytes, the same answer always means the same."""

    name: str  # as `endpoint.protocol` says it, and as `FORMS` knows its answers
    auth: str  # the protocol's own way to send a key
    encode: Callable[[Request], HttpRequest]  # the request as it is posted
    # What of a shape the protocol cannot express or refuses, each with the path of the key and what to do.
    faults: Callable[[Shape], list[str]]
    constant: Mapping[str, str] = {}  # headers of every request, beside type and key
    # Whether a call may only be quoted with the thoughts that led to it, which are in no `Reply`.
    wants_thoughts: Callable[[Shape], bool] = lambda shape: False

    def headers(self, *, auth: str | None, key: str | None) -> dict[str, str]:
        """The headers that every request carries. `auth` None: the protocol's own way; no key: none is sent.

        Raises JobError where `auth` is not a way that the job file knows.
        """
        constant = {"Content-Type": "application/json", "Accept": "application/json", **self.constant}
        return constant | auth_headers(auth or self.auth, key)

    def decode(self, response: HttpResponse, *, now_s: float) -> Reply | Failure:
        """What an answer means. Never raises, whatever was received.

        `now_s` is when it was received, in seconds since the epoch: a Retry-After may be a date.
        """
        return decode(response, self.name, now_s=now_s)

    def reask(self, request: Request, reply: Reply, problem: str) -> Request:
        """The follow-up that shows the model its own answer and what was wrong with it."""
        return follow_up(request, reply, problem, as_text=self.wants_thoughts(request.shape))


_ALL = (
    # Relays and local servers take more than OpenAI documents: only what says `strict` is checked.
    Dialect("openai-chat", "bearer", encode_chat, strict_tool_faults),
    Dialect("openai-responses", "bearer", encode_responses, responses_faults),
    Dialect(
        "anthropic",
        "x-api-key",
        encode_messages,
        messages_faults,
        {"anthropic-version": VERSION},
        wants_thoughts=thinks,
    ),
    Dialect("gemini", "x-goog-api-key", encode_gemini, gemini_faults),  # never `?key=`: URLs end up in logs
)
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in _ALL}
