"""What inference servers report of their queue on /metrics, in the text format of Prometheus. Pure."""

from __future__ import annotations

import contextlib
import math

# Gauges of vLLM, SGLang, llama.cpp: what is worked on, and what waits for it.
_RUNNING = frozenset({"vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing"})
_WAITING = frozenset({"vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred"})


def read_queue(text: str) -> tuple[float, float] | None:
    """Requests that run and that wait, over all models and ranks; None where the text does not have both."""
    running, waiting = _sum_of(text, _RUNNING), _sum_of(text, _WAITING)
    return None if running is None or waiting is None else (running, waiting)


def _sum_of(text: str, names: frozenset[str]) -> float | None:
    values = []
    for line in text.splitlines():
        if line.partition("{")[0].partition(" ")[0] in names:
            rest = line[line.rfind("}") + 1 :] if "{" in line else line.partition(" ")[2]
            with contextlib.suppress(ValueError, IndexError):
                value = float(rest.split()[0])  # a timestamp may follow it
                if math.isfinite(value) and value >= 0:
                    values.append(value)
    return sum(values) if values else None
