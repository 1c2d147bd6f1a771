"""What a run was bound by, and the one key to change for a faster one."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from batchcall.base import counted

_WORTH_SAYING = 0.2  # of the run
_SHORTEST_S = 5.0  # of a run about which anything is said


class Bounds(msgspec.Struct):
    """Seconds of a run by what kept more from going on; "" for nothing in particular."""

    seconds: defaultdict[str, float] = msgspec.field(default_factory=lambda: defaultdict(float))

    def add(self, bound_by: str, seconds: float) -> None:
        self.seconds[bound_by] += seconds

    def share(self) -> tuple[str, float]:
        """What bound for longest, and for which share of the run."""
        whole = sum(self.seconds.values())
        known = {name: seconds for name, seconds in self.seconds.items() if name}
        if not known or whole < _SHORTEST_S:
            return "", 0.0
        name = max(known, key=lambda one: known[one])
        return name, known[name] / whole


def advice_text(bounds: Bounds, *, given: frozenset[str], proxy_cutoffs: tuple[int, int] | None) -> str:
    """One sentence, two where requests were cut off; empty where there is nothing to advise.

    `given` names the keys under [limits] that the job sets. `proxy_cutoffs`: how many requests were cut off, and after
    how many seconds.
    """
    advice = []
    if proxy_cutoffs is not None:
        cut_off, seconds = proxy_cutoffs
        advice.append(
            f"{counted(cut_off, 'request')} cut off after {seconds} s each: a proxy or gateway on the way ends them"
            " then; raise its timeout, or ask for shorter answers (max_tokens)."
        )
    name, share = bounds.share()
    if share >= _WORTH_SAYING:
        key = f"{name}_per_minute" if name in ("requests", "tokens") else name
        # A limit that the job sets is the job's to raise. One that was learnt is the endpoint's.
        what_to_do = _ADVICE[name] if key in given or name not in _ADVICE_WHERE_LEARNT else _ADVICE_WHERE_LEARNT[name]
        limit = key if key in given else _NAMED.get(name, name)
        advice.append(f"bound by {limit} for {share:.0%} of the run; {what_to_do}")
    return " ".join(advice)


_NAMED = {
    "requests": "the account's requests per minute",
    "tokens": "the account's tokens per minute",
    "concurrency": "requests in flight (concurrency)",
    "open": "the requests that the endpoint accepts at the same time",
    "ramp": "the slow start",
    "pause": "pauses that the endpoint asked for",
    "outage": "an endpoint that is down",
    "input": "reading the input",
    "disk": "writing the output",
}
_ADVICE = {
    "requests": "raise limits.requests_per_minute if the account allows more",
    "tokens": "raise limits.tokens_per_minute if the account allows more, or lower max_tokens and shorten the prompt",
    "concurrency": 'raise limits.concurrency, or set it to "auto"',
    "open": "set limits.concurrency to stay within it from the start; only the provider can raise it",
    "ramp": "more requests go out at the same time once 8 answers have arrived, or every 10 s while they take longer",
    "pause": "lower limits.requests_per_minute a little, or ask the provider for a higher limit",
    "outage": "find out why it was down; --max-outage sets how long to wait for it",
    "input": "read from a local, uncompressed or Parquet file (input.path)",
    "disk": "write to a faster disk (output.path)",
}
_ADVICE_WHERE_LEARNT = {
    "requests": "set limits.requests_per_minute to start at this rate; only the provider can raise it",
    "tokens": "only the provider can raise it; a shorter prompt or a smaller max_tokens uses less of it",
    "concurrency": "more requests in flight bring no more answers; limits.concurrency sets another number",
    "pause": "set limits.requests_per_minute to what the account allows",
}
