"""What a job file may contain and probably does not mean. Each is a warning, never a fault."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from batchcall.base import close_to

# Keys of [request] go into the body as written, so nothing checks them but the server. Only what is surely a mistake is
# reported: a warning that is often wrong is not read.

# The numbers and switches of all protocols and of the usual servers, without case and underscores, at any depth.
_NUMBERS = frozenset(
    {
        *("bestof", "budgettokens", "candidatecount", "frequencypenalty", "lengthpenalty", "maxcompletiontokens"),
        *("maxnewtokens", "maxoutputtokens", "maxtokens", "maxtoolcalls", "minp", "mintokens", "n", "numctx"),
        *("numpredict", "presencepenalty", "repetitionpenalty", "seed", "temperature", "thinkingbudget", "topk"),
        *("toplogprobs", "topp"),
    }
)
_SWITCHES = frozenset(
    {
        *("background", "enablethinking", "ignoreeos", "includethoughts", "includeusage", "logprobs"),
        *("paralleltoolcalls", "responselogprobs", "skipspecialtokens", "store", "stream"),
    }
)

# Documented keys of a body in any of the protocols. A job may use others too: the list is for finding typos.
_BODY_KEYS = frozenset(
    {
        *("audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs"),
        *("max_completion_tokens", "max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n"),
        *("parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options"),
        *("prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier", "seed"),
        *("service_tier", "stop", "store", "stream", "stream_options", "temperature", "tool_choice", "tools"),
        *("top_logprobs", "top_p", "user", "verbosity", "web_search_options"),
        # openai-responses
        *("background", "context_management", "conversation", "include", "input", "instructions"),
        *("max_output_tokens", "max_tool_calls", "previous_response_id", "reasoning", "text", "truncation"),
        # anthropic
        *("cache_control", "container", "mcp_servers", "output_config", "stop_sequences", "thinking", "top_k"),
        # gemini
        *("cachedContent", "cached_content", "contents", "generationConfig", "generation_config", "labels"),
        *("safetySettings", "safety_settings", "serviceTier", "systemInstruction", "system_instruction"),
        *("toolConfig", "tool_config"),
    }
)
# Of relays and local servers, those that are near to one of the above.
_KEYS_OF_SERVERS = frozenset(
    {"max_new_tokens", "min_tokens", "models", "reasoning_format", "search_options", "speed", "top_a"}
)


def misspelt_keys(request: Mapping[str, Any], own: Iterable[str]) -> list[str]:
    """Keys that go into the body as written, and yet look like one of ours or of a protocol."""
    near = misspelt(request, sorted({*own, *_BODY_KEYS}))
    return [f"request.{name} goes into the body as written; did you mean {meant}?" for name, meant in near]


def misspelt(request: Mapping[str, Any], meant: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Keys of a request that are near to one of those that may be meant, and to which; known keys are not."""
    known = {*meant, *_BODY_KEYS, *_KEYS_OF_SERVERS}
    for name in request:
        if name not in known and (near := close_to(name, meant, at_least=0.8)):
            yield name, near[0]


def quoted_values(parameters: Any, where: str = "request") -> Iterator[str]:
    """Numbers and switches that stand in quotes: servers refuse them, or take them for something else."""
    for name, value in parameters.items() if isinstance(parameters, Mapping) else ():
        place, plain = f"{where}.{name}", name.replace("_", "").lower()
        if isinstance(value, Mapping):
            yield from quoted_values(value, place)
        elif isinstance(value, str):
            is_number = plain in _NUMBERS and re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", value)
            is_switch = plain in _SWITCHES and value.strip().lower() in ("true", "false")
            if is_number or is_switch:
                yield f'{place} is a string, "{value}"; without quotes: {name} = {value.strip().lower()}'


def unused_prices(prices: Iterable[str], models: Iterable[str | None]) -> Iterator[str]:
    """Prices of models that are not asked, where all that are asked are known."""
    asked = [model for model in dict.fromkeys(models) if model is not None]
    for name in prices:
        if asked and name not in asked:
            missing = [model for model in asked if model not in prices]
            meant = f'; did you mean [prices."{missing[0]}"]?' if missing else ""
            yield f'prices."{name}" is the price of a model that this job does not ask for ({", ".join(asked)}){meant}'
