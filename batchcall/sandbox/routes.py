"""Which protocol is spoken under which URL."""

from __future__ import annotations

import re
from collections.abc import Mapping

from batchcall.sandbox.protocol import Address, Protocol
from batchcall.sandbox.speak_anthropic import ANTHROPIC
from batchcall.sandbox.speak_chat import AZURE, CHAT
from batchcall.sandbox.speak_gemini import GEMINI, GEMINI_ARRAY
from batchcall.sandbox.speak_responses import RESPONSES

# Behind a version or without one, as the endpoint of a job is written.
_PATHS: Mapping[str, Protocol] = {
    f"{start}{path}": protocol
    for path, protocol in (("/chat/completions", CHAT), ("/responses", RESPONSES), ("/messages", ANTHROPIC))
    for start in ("", "/v1", "/openai/v1")
}
_PATTERNS: tuple[tuple[re.Pattern[str], Protocol], ...] = (
    (re.compile(r"/openai/deployments/(?P<model>[^/]+)/chat/completions"), AZURE),
    (re.compile(r"(?:/v1|/v1beta)?/models/(?P<model>.+):generateContent"), GEMINI),
    (re.compile(r"(?:/v1|/v1beta)?/models/(?P<model>.+):(?P<stream>streamGenerateContent)"), GEMINI_ARRAY),
)
_NOWHERE = Address()


def find_route(path: str, query: Mapping[str, str]) -> tuple[Protocol, Address] | None:
    """The protocol of a path, and what the URL says to it; None where nothing is spoken."""
    if (protocol := _PATHS.get(path)) is not None:
        return protocol, _NOWHERE
    for pattern, protocol in _PATTERNS:
        if found := pattern.fullmatch(path):
            parts = found.groupdict()
            is_events = protocol is GEMINI_ARRAY and query.get("alt") == "sse"
            address = Address(parts["model"], is_stream="stream" in parts, query=query)
            return (GEMINI if is_events else protocol), address
    return None
