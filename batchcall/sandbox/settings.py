"""The settings of the embedded endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from batchcall.base import JobError, close_to
from batchcall.sandbox.faults import FAULTS


@dataclass(frozen=True, slots=True)
class Settings:
    """Raises JobError for a fault it does not know."""

    latency_s: float = 0.0  # median; the tail is heavy
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    faults: dict[str, float] = field(default_factory=dict)  # share of requests by name
    api_key: str | None = None  # any other is refused
    seed: int = 0
    port: int = 0  # 0: any free one

    def __post_init__(self) -> None:
        for name, share in self.faults.items():
            if name not in FAULTS:
                near = close_to(name, FAULTS)
                meant = (f"did you mean {near[0]}? " if near else "") + "`batchcall sandbox --faults` lists them"
                raise JobError(f"sandbox.faults: {name} is not a fault of the sandbox", hint=meant)
            if not 0 <= share <= 1:
                raise JobError(f"sandbox.faults.{name}: a share must be between 0 and 1", hint="0.05 is one in twenty")


def parse_faults(written: Iterable[str]) -> dict[str, float]:
    """`NAME=SHARE` as on the command line; the share may be left out for all. Raises JobError."""
    faults = {}
    for one in written:
        name, _, share = one.partition("=")
        try:
            faults[name] = float(share or 1)
        except ValueError:
            raise JobError(f"--fault {one}: the share is not a number", hint="as in --fault no_call=0.05") from None
    return faults


def describe_faults() -> str:
    width = max(map(len, FAULTS))
    return "\n".join(f"{name:<{width}}  {fault.summary}" for name, fault in FAULTS.items())
