"""How many tokens a request will take, learnt from what the endpoint reports. No tokenizer: those need the network."""

from __future__ import annotations

from collections import deque

from batchcall.base import Usage

# Before anything is known. English prose and JSON take about 0.3 tokens a byte of the body (a quarter is 18 to 30 %
# low), a chat's frame about 10; a function call's arguments are seldom longer than 200.
START_TOKENS = 10.0
START_TOKENS_PER_BYTE = 0.3
START_COMPLETION_TOKENS = 200.0

_PRIOR_BYTES = 2_000.0  # the start values weigh as much as two requests, of 0 and of this many bytes
_REMEMBERED = 256  # answers whose lengths are remembered
_REFRESH_EVERY = 32  # answers; sorting for each one would cost 10 µs
_HIGH = 0.95  # quantile of an answer's length that is reserved


class TokenEstimate:
    """A running fit `a + b · bytes` of prompt tokens, and the 95th percentile of completion tokens seen."""

    # What an answer takes is known only when it is there, so a request enters the gate with a reservation. It is high
    # on purpose: too much is given back, while too little lets more through than the minute holds.

    def __init__(self) -> None:
        far = START_TOKENS + START_TOKENS_PER_BYTE * _PRIOR_BYTES
        self._requests = 2.0
        self._sum_bytes = _PRIOR_BYTES
        self._sum_bytes_squared = _PRIOR_BYTES**2
        self._sum_tokens = START_TOKENS + far
        self._sum_products = _PRIOR_BYTES * far
        self._completions: deque[int] = deque(maxlen=_REMEMBERED)
        self._unsorted = 0
        self._high_completion = START_COMPLETION_TOKENS

    def tokens(self, body_bytes: int, max_tokens: int | None = None) -> float:
        """Tokens to reserve for a request: its prompt and a long answer, never beyond `max_tokens`."""
        return self.prompt_tokens(body_bytes) + self.completion_tokens(max_tokens)

    def prompt_tokens(self, body_bytes: int) -> float:
        """Expected prompt tokens of a body of this length, tools and all."""
        spread = self._requests * self._sum_bytes_squared - self._sum_bytes**2
        slope = (self._requests * self._sum_products - self._sum_bytes * self._sum_tokens) / spread
        constant = (self._sum_tokens - slope * self._sum_bytes) / self._requests
        return max(1.0, constant + slope * body_bytes)

    def completion_tokens(self, max_tokens: int | None = None) -> float:
        """A length that 95 % of the answers stay within, never beyond `max_tokens`."""
        return self._high_completion if max_tokens is None else min(self._high_completion, float(max_tokens))

    def learn(self, body_bytes: int, usage: Usage) -> None:
        """Learn what a request really took. A count that the endpoint did not send, or sent as 0, teaches nothing."""
        if usage.prompt_tokens:
            self._requests += 1
            self._sum_bytes += body_bytes
            self._sum_bytes_squared += body_bytes * body_bytes
            self._sum_tokens += usage.prompt_tokens
            self._sum_products += body_bytes * usage.prompt_tokens
        if usage.completion_tokens:
            self._completions.append(usage.completion_tokens)
            self._unsorted += 1
            if self._unsorted >= _REFRESH_EVERY or len(self._completions) < _REFRESH_EVERY:
                ordered = sorted(self._completions)
                self._high_completion = float(ordered[int(_HIGH * (len(ordered) - 1) + 0.5)])
                self._unsorted = 0
