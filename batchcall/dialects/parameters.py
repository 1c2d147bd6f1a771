"""How the parameters of chat completions are said in another protocol.

Each protocol has one table, from a parameter's name to its row. Five things may happen to a parameter:

- rename: `to` is the name that the protocol has for it;
- nest: `to` is a path of names joined by dots, "generationConfig.topP";
- translate: `say` makes what is sent of the value, by such paths;
- drop: a value in `neutral` asks for what happens anyway, and what a row of DROPPED asks for is sent by other code;
- fault: the protocol cannot say it, so `check` and `run` refuse the job. A row of the input may still bring such a
  parameter. Then it goes as it is written: the endpoint refuses that row and says why.

What is in no table is the protocol's own, or that of whoever is behind the URL, and goes as it is written. The
protocol's own words win, wherever they stand; a translation only fills in what they leave open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from batchcall.base import Json, Shape


class Parameter(NamedTuple):
    """One row of a table. With all fields left out, the parameter goes as it is written."""

    to: str = ""
    # Values by their path; None where the value cannot be said. It then goes as it is written.
    say: Callable[[Json, Shape], Mapping[str, Json] | None] | None = None
    neutral: tuple[Json, ...] = (None,)
    # Why it cannot be said and what to do; a function where that depends on the value.
    fault: str | Callable[[Json, Shape], str | None] = ""


DROPPED = Parameter(say=lambda value, shape: {})

Table = Mapping[str, Parameter]
Others = Callable[[str], Parameter]  # the row of a parameter that is in no table, by its name


def refused(why: str, *names: str) -> Table:
    """The rows of parameters that a protocol has no words for."""
    return {name: Parameter(neutral=(None, *_NEUTRAL.get(name, ())), fault=why) for name in names}


# With these values a parameter asks for what happens anyway, in every protocol.
_NEUTRAL: Mapping[str, tuple[Json, ...]] = {
    **dict.fromkeys(("n", "best_of"), (1,)),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "top_logprobs"), (0,)),
    **dict.fromkeys(("background", "logprobs", "store"), (False,)),
    **dict.fromkeys(("prompt_cache_key", "safety_identifier", "user"), ("",)),
    **dict.fromkeys(("logit_bias", "metadata"), ({},)),
    "modalities": ([], ["text"]),
    "parallel_tool_calls": (True,),
    "stop": ([], ""),
    "verbosity": ("medium",),
}


def unless(is_usable: Callable[[Any, Shape], object], why: str) -> Callable[[Json, Shape], str | None]:
    """A fault of the values that are not usable."""
    return lambda value, shape: None if is_usable(value, shape) else why


def _as_written(name: str) -> Parameter:
    return Parameter()


def put_parameters(body: dict[str, Any], shape: Shape, table: Table, others: Others = _as_written) -> None:
    """Put a shape's parameters into a body. Where two of them say the same, the first row of the table wins."""
    for name, value in shape.parameters.items():
        row = table.get(name) or others(name)
        if not (row.to or row.say) and value not in row.neutral:
            body[name] = value
    # Only then the translations, in the order of the table, since a translation never overwrites what is written.
    for name in [name for name in table if name in shape.parameters]:
        row, value = table[name], shape.parameters[name]
        if not (row.to or row.say) or value in row.neutral:
            continue
        said = row.say(value, shape) if row.say else {row.to: value}
        for path, part in ({name: value} if said is None else said).items():
            put(body, path, part)


def put(body: dict[str, Any], path: str, value: Json) -> None:
    """Put a value at a path, unless something is there already. A list joins the list that is there."""
    *around, last = path.split(".")
    for name in around:
        inner = {} if body.get(name) is None else body[name]
        if not isinstance(inner, dict):
            return
        body[name] = dict(inner)  # a copy: what is written belongs to the shape
        body = body[name]
    before = body.get(last)
    if before is None:
        body[last] = value
    elif isinstance(before, list) and isinstance(value, list):
        body[last] = [*before, *[each for each in value if each not in before]]


def parameter_faults(shape: Shape, table: Table, others: Others = _as_written) -> Iterator[str]:
    """What of a shape's parameters the protocol cannot say, each with its key and what to do."""
    for name, value in shape.parameters.items():
        row = table.get(name) or others(name)
        if value not in row.neutral:
            why = row.fault if isinstance(row.fault, str) else row.fault(value, shape)
            if why:
                yield f"request.{name}: {why}"


# By the vendors, then as local servers call it (vLLM and llama.cpp's n_predict, Ollama's num_predict, TGI).
_CAPS = (
    *("max_output_tokens", "max_completion_tokens", "max_tokens", "maxOutputTokens", "maxTokens"),
    *("num_predict", "n_predict", "max_new_tokens"),
)
_CAP_HOLDERS = ("generationConfig", "generation_config")  # Gemini's own words win there
_CAP_HOLDERS_BELOW = ("options", "parameters", "inferenceConfig")  # Ollama, TGI, Bedrock


@lru_cache(maxsize=16)  # asked twice for each row, and nearly all rows share a shape
def max_tokens_of(shape: Shape) -> int | None:
    """The cap on an answer's length in tokens that the request asks for; None where it asks for none."""
    written = shape.parameters
    for holder in (*map(written.get, _CAP_HOLDERS), written, *map(written.get, _CAP_HOLDERS_BELOW)):
        if isinstance(holder, Mapping):
            for name in _CAPS:
                if (cap := _as_cap(holder.get(name))) is not None:
                    return cap
    return None


def _as_cap(written: Json) -> int | None:
    """A number of tokens, which many servers also take as a text; None for -1 and 0, by which some mean "no cap"."""
    if isinstance(written, str) and written.isascii() and written.isdigit() and len(written) < 10:
        written = int(written)
    if isinstance(written, bool) or not isinstance(written, int | float) or not 1 <= written < 2**63:
        return None
    return int(written)
