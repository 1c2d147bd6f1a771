"""Token counts as endpoints write them, in the one form we use."""

from __future__ import annotations

from typing import Any

from batchcall.base import NO_USAGE, Json, Usage

MAX_COUNT = 2**40  # beyond what any model can use; sums over all attempts and rows of a part stay within 64 bits


# One form for four vendors: prompt_tokens and completion_tokens (chat completions), input_tokens and output_tokens (the
# Responses API and Anthropic), with details below or, at DeepSeek and Moonshot, beside them. A relay that translates
# may mix them, so each count is looked for under all its names, whatever the protocol.
def read_usage(written: Json) -> Usage:
    """The counts in a `usage` object. What is not a non-negative integer, or is absurdly large, counts as not given.

    Where an endpoint gives both parts and no total, the total is their sum.
    """
    if not isinstance(written, dict):
        return NO_USAGE
    prompt = _first(written, "prompt_tokens")
    if prompt is None and _first(written, "input_tokens") is not None:
        # Anthropic's leave out what was written to the cache and what was read from it.
        prompt = _sum_of(written, "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    completion = _first(written, "completion_tokens", "output_tokens")
    total = _count(written.get("total_tokens"))
    cached = _in_details(written, ("prompt_tokens_details", "input_tokens_details"), "cached_tokens")
    if cached is None:  # DeepSeek, Moonshot, Anthropic
        cached = _first(written, "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
    details = ("completion_tokens_details", "output_tokens_details")
    reasoning = _in_details(written, details, "reasoning_tokens", "thinking_tokens")
    return _usage(written, prompt, completion, total, cached, reasoning)


def read_usage_metadata(written: Json) -> Usage:
    """The counts in Gemini's `usageMetadata`.

    Google counts thoughts and what tools have read apart from the candidates and the prompt: both are added here.
    """
    if not isinstance(written, dict):
        return NO_USAGE
    reasoning = _first(written, "thoughtsTokenCount")
    prompt = _sum_of(written, "promptTokenCount", "toolUsePromptTokenCount")
    completion = _sum_of(written, "candidatesTokenCount", "thoughtsTokenCount")
    total = _first(written, "totalTokenCount")
    return _usage(written, prompt, completion, total, _first(written, "cachedContentTokenCount"), reasoning)


def read_usage_beside(document: dict[str, Json]) -> Usage:
    """The counts that a document carries in the words of any protocol, or what is in it.

    Anthropic's streams begin with a message that has counted the prompt; those of the Responses API end with a
    response, failed or not.
    """
    if _COUNTED_IN.isdisjoint(document):
        return NO_USAGE
    inside = (document.get("message"), document.get("response"))
    for around in (document, *(each for each in inside if isinstance(each, dict))):
        for read, name in ((read_usage, "usage"), (read_usage_metadata, "usageMetadata")):
            if (usage := read(around.get(name))) != NO_USAGE:
                return usage
    return NO_USAGE


def _usage(
    written: dict[str, Json],
    prompt: int | None,
    completion: int | None,
    total: int | None,
    cached: int | None,
    reasoning: int | None,
) -> Usage:
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    # Whether a count is given, here or in details, that is none or that no model can have used. Looked for only where
    # something is missing: most answers give all.
    is_partial = False
    if None in (prompt, completion, total, cached, reasoning):
        details = (each for each in written.values() if isinstance(each, dict))
        given = ((name, value) for around in (written, *details) for name, value in around.items())
        is_partial = any(name in _COUNTS and value is not None and _count(value) is None for name, value in given)
    return Usage(prompt, completion, total, cached, reasoning, is_partial)


_COUNTED_IN = frozenset({"usage", "usageMetadata", "message", "response"})
_COUNTS = frozenset(
    (
        *("prompt_tokens", "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"),
        *("completion_tokens", "output_tokens", "total_tokens", "reasoning_tokens", "thinking_tokens"),
        *("cached_tokens", "prompt_cache_hit_tokens", "promptTokenCount", "toolUsePromptTokenCount"),
        *("candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount", "cachedContentTokenCount"),
    )
)


def _sum_of(written: dict[str, Json], *names: str) -> int | None:
    """The sum of the counts that are given; None where there is none, or one of them cannot be read."""
    given = [written[name] for name in names if written.get(name) is not None]
    counts = [count for value in given if (count := _count(value)) is not None]
    return sum(counts) if counts and len(counts) == len(given) else None


def _in_details(written: dict[str, Json], places: tuple[str, ...], *names: str) -> int | None:
    for place in places:
        details = written.get(place)
        if isinstance(details, dict) and (count := _first(details, *names)) is not None:
            return count
    return None


def _first(written: dict[str, Json], *names: str) -> int | None:
    for name in names:
        if (count := _count(written.get(name))) is not None:
            return count
    return None


def _count(value: Any) -> int | None:
    if type(value) is int:
        count = value
    elif (isinstance(value, float) and value.is_integer()) or (
        isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19
    ):
        count = int(value)
    else:
        return None
    return count if 0 <= count <= MAX_COUNT else None
