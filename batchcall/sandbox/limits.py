"""The account's limits: two buckets that refill all the time. Each protocol reports them in headers of its own."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Bucket:
    """So much a minute. Starts full."""

    per_minute: int
    left: float = field(init=False)
    _at_s: float | None = None

    def __post_init__(self) -> None:
        self.left = float(self.per_minute)

    def refill(self, now_s: float) -> None:
        if self._at_s is not None:
            self.left = min(float(self.per_minute), self.left + (now_s - self._at_s) * self.per_minute / 60)
        self._at_s = now_s

    def wait_s(self, amount: float) -> float:
        """Seconds until so much is there; what is beyond the whole bucket needs only the whole bucket."""
        return max(0.0, (min(amount, self.per_minute) - self.left) * 60 / self.per_minute)


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a limit is left."""

    name: str  # "requests" or "tokens"
    per_minute: int
    left: int
    full_in_s: float


@dataclass(slots=True)
class Limits:
    """Requests and tokens, entered together."""

    requests: Bucket | None
    tokens: Bucket | None

    def admit(self, tokens: float, now_s: float) -> float:
        """Take a request in and return 0, or take nothing and return the seconds to wait."""
        wanted = [(bucket, amount) for bucket, amount in ((self.requests, 1), (self.tokens, tokens)) if bucket]
        for bucket, _ in wanted:
            bucket.refill(now_s)
        wait_s = max((bucket.wait_s(amount) for bucket, amount in wanted), default=0.0)
        if not wait_s:
            for bucket, amount in wanted:
                bucket.left -= min(amount, bucket.per_minute)
        return wait_s

    def standings(self) -> list[Standing]:
        """How full each bucket is, for the headers that report it."""
        return [
            Standing(
                name,
                per_minute=bucket.per_minute,
                left=max(0, int(bucket.left)),
                full_in_s=(bucket.per_minute - bucket.left) * 60 / bucket.per_minute,
            )
            for name, bucket in (("requests", self.requests), ("tokens", self.tokens))
            if bucket is not None
        ]


def duration(seconds: float) -> str:
    """20ms, 6.4s, 1m2.5s."""
    if seconds < 1:
        return f"{int(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
