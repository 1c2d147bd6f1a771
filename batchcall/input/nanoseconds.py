"""Moments and durations with nine digits after the second, which Python's types cut to six: as Arrow prints them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

ZERO = "000000"  # the digits that Python leaves out where all are zero


# Subclasses of Python's types: a template can do with a value what it does with any other. Only the text differs.


class Moment(dt.datetime):
    """A moment whose text has all its digits. Arithmetic with it is in microseconds, as Python's is."""

    rest_ns = 0

    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
        if timespec != "auto":
            return super().isoformat(sep, timespec)
        return _with_rest(super().isoformat(sep, "microseconds"), self.rest_ns)


class TimeOfDay(dt.time):
    """A time of day whose text has all its digits."""

    rest_ns = 0

    def isoformat(self, timespec: str = "auto") -> str:
        if timespec != "auto":
            return super().isoformat(timespec)
        return _with_rest(super().isoformat("microseconds"), self.rest_ns)


class Duration(dt.timedelta):
    """A duration whose text has all its digits."""

    rest_ns = 0

    def __str__(self) -> str:
        text = super().__str__()
        return _with_rest(text if "." in text else f"{text}.{ZERO}", self.rest_ns)


def _with_rest(text: str, rest_ns: int) -> str:
    end = text.index(".") + 1 + len(ZERO)
    return f"{text[:end]}{rest_ns:03}{text[end:]}" if rest_ns else text


def is_nanoseconds(kind: pa.DataType) -> bool:
    """Whether a type counts nanoseconds."""
    is_counted = pa.types.is_timestamp(kind) or pa.types.is_time64(kind) or pa.types.is_duration(kind)
    return bool(is_counted and kind.unit == "ns")


def as_value(counted: Any, kind: pa.DataType) -> Any:
    """A value whose nanoseconds are plain integers, with what `kind` makes of these."""
    if counted is None:
        return None
    if is_nanoseconds(kind):
        micros, rest_ns = divmod(counted, 1000)
        value = pa.scalar(micros, pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else _CUT[kind]).as_py()
        if not rest_ns:
            return value
        exact = _EXACT[type(value)](value)
        exact.rest_ns = rest_ns
        return exact
    if pa.types.is_struct(kind):
        return {inner.name: as_value(counted[inner.name], inner.type) for inner in kind}
    if pa.types.is_map(kind):
        return [(as_value(key, kind.key_type), as_value(value, kind.item_type)) for key, value in counted]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [as_value(one, kind.value_type) for one in counted]
    return counted


_CUT = {pa.time64("ns"): pa.time64("us"), pa.duration("ns"): pa.duration("us")}

_EXACT: Mapping[type, Callable[[Any], Any]] = {
    dt.datetime: lambda one: Moment.combine(one.date(), one.timetz()),
    dt.time: lambda one: TimeOfDay(one.hour, one.minute, one.second, one.microsecond),
    dt.timedelta: lambda one: Duration(one.days, one.seconds, one.microseconds),
}
