"""Token counts as endpoints write them, in the one form we use."""

from __future__ import annotations

from typing import Any

from batchcall.base import NO_USAGE, Json, Usage

MAX_COUNT = 2**40  # beyond what any model can use; sums over all attempts and rows of a part stay within 64 bits


# One form for four vendors: prompt_tokens and completion_tokens (chat completions), input_tokens and output_tokens (the
# Responses API and Anthropic), with details below or, at DeepSeek and Moonshot, beside them, and Gemini's TokenCounts.
# A relay that translates may mix them, so each count is looked for under all its names, whatever the protocol.
def read_usage(written: Json) -> Usage:
    """The counts in a `usage` or `usageMetadata`. What is not a non-negative integer, or is absurdly large, counts as
    not given.

    Where an endpoint gives both parts and no total, the total is their sum.
    """
    if not isinstance(written, dict):
        return NO_USAGE
    prompt = _count(written.get("prompt_tokens"))
    completion = _count(written.get("completion_tokens"))
    total = _count(written.get("total_tokens"))
    if len(written) == 3 and prompt is not None and completion is not None and total is not None:
        return Usage(prompt, completion, total)  # nothing else is given
    if prompt is None and _count(written.get("input_tokens")) is not None:
        # Anthropic's leave out what was written to the cache and what was read from it.
        prompt = _sum_of(written, "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    if completion is None:
        completion = _count(written.get("output_tokens"))
    # Google counts what tools have read apart from the prompt, and thoughts apart from the candidates.
    if prompt is None:
        prompt = _sum_of(written, "promptTokenCount", "toolUsePromptTokenCount")
    if completion is None:
        completion = _sum_of(written, "candidatesTokenCount", "thoughtsTokenCount")
    if total is None:
        total = _count(written.get("totalTokenCount"))
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    cached = _in_details(written, _PROMPT_DETAILS, ("cached_tokens",))
    if cached is None:
        cached = _first(written, _CACHED_BESIDE)
    reasoning = _in_details(written, _COMPLETION_DETAILS, _REASONING)
    if reasoning is None:
        reasoning = _count(written.get("thoughtsTokenCount"))
    # Looked for only where something is missing: most answers give all.
    is_partial = None in (prompt, completion, total, cached, reasoning) and _has_odd_count(written)
    return Usage(prompt, completion, total, cached, reasoning, is_partial)


def read_usage_beside(document: dict[str, Json]) -> Usage:
    """The counts that a document carries in the words of any protocol, or what is in it.

    Anthropic's streams begin with a message that has counted the prompt; those of the Responses API end with a
    response, failed or not.
    """
    for around in (document, document.get("message"), document.get("response")):
        for name in ("usage", "usageMetadata"):
            if isinstance(around, dict) and (usage := read_usage(around.get(name))) != NO_USAGE:
                return usage
    return NO_USAGE


_PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_COMPLETION_DETAILS = ("completion_tokens_details", "output_tokens_details")
_REASONING = ("reasoning_tokens", "thinking_tokens")
# DeepSeek; Moonshot; Anthropic; Gemini
_CACHED_BESIDE = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens", "cachedContentTokenCount")
_COUNTS = frozenset(
    (
        *("prompt_tokens", "input_tokens", "cache_creation_input_tokens", "completion_tokens", "output_tokens"),
        *("total_tokens", "reasoning_tokens", "thinking_tokens", *_CACHED_BESIDE),
        *("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"),
        "totalTokenCount",
    )
)


def _has_odd_count(written: dict[str, Json]) -> bool:
    """Whether a count is given, here or in details, that is none or that no model can have used."""
    for name, value in written.items():
        if isinstance(value, dict):
            for inner, detail in value.items():
                if inner in _COUNTS and detail is not None and _count(detail) is None:
                    return True
        if name in _COUNTS and value is not None and _count(value) is None:
            return True
    return False


def _sum_of(written: dict[str, Json], *names: str) -> int | None:
    """The sum of the counts that are given; None where there is none, or one of them cannot be read."""
    total: int | None = None
    for name in names:
        if (value := written.get(name)) is not None:
            if (count := _count(value)) is None:
                return None
            total = count if total is None else total + count
    return total


def _in_details(written: dict[str, Json], places: tuple[str, ...], names: tuple[str, ...]) -> int | None:
    for place in places:
        details = written.get(place)
        if isinstance(details, dict) and (count := _first(details, names)) is not None:
            return count
    return None


def _first(written: dict[str, Json], names: tuple[str, ...]) -> int | None:
    for name in names:
        if name in written and (count := _count(written[name])) is not None:
            return count
    return None


def _count(value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is int:
        count = value
    elif (isinstance(value, float) and value.is_integer()) or (
        isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19
    ):
        count = int(value)
    else:
        return None
    return count if 0 <= count <= MAX_COUNT else None
