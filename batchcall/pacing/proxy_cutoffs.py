"""Requests that all end after the same time: something between here and the model cuts them off. Pure."""

from __future__ import annotations

from collections import Counter

from batchcall.base import Failure, FailureKind

_ENOUGH = 5
_SHORTEST_S = 4.0  # what ends sooner has many reasons
_OF_PROXY = frozenset({502, 504, 524})


class ProxyCutoffs:
    """Counts after how many seconds requests were cut off by somebody else than us."""

    def __init__(self) -> None:
        self._after_s: Counter[int] = Counter()
        self._all = 0

    def saw(self, failure: Failure, after_s: float) -> None:
        is_cut = failure.kind is FailureKind.DISCONNECTED or failure.http_status in _OF_PROXY
        if is_cut and after_s >= _SHORTEST_S:
            self._after_s[round(after_s)] += 1
            self._all += 1

    @property
    def same_second(self) -> tuple[int, int] | None:
        """How many were cut off after the same time, and after how many seconds; None where there is no such time."""
        if not self._after_s:
            return None
        second, _ = self._after_s.most_common(1)[0]
        cut_off = sum(self._after_s[near] for near in (second - 1, second, second + 1))
        return (cut_off, second) if cut_off >= _ENOUGH and cut_off >= 0.8 * self._all else None
