"""How long the texts that a template makes may be, and how much it may do: checked before an operator or a method of
text runs, and at every turn of a loop.

There is no timeout. Steps are counted instead: the same row ends in the same way on every machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

MAX_CHARACTERS = 4 * 1024 * 1024  # of a rendered template, and of any text on the way to it
MAX_ITEMS = 100_000  # of a list that a template makes; as many as the sandbox allows a range
MAX_BITS = 1 << 17  # of an integer that a template computes
MAX_STEPS = 1_000_000  # of a rendering, a second or two: turns of loops, calls, texts and lists by their length
_STEPS_OF_A_CALL = 10
_CHARACTERS_OF_A_STEP = 1_000
_ITEMS_OF_A_STEP = 2


class TooMuch(ValueError):
    """Something would grow beyond its limit."""


# The steps of the rendering that runs in this thread. A variable of the context, because filters and operators are
# functions of the one sandbox that all threads share.
class Work:
    """The steps that are left of a rendering."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Raise TooMuch where there are fewer."""
        self.left -= steps
        if self.left < 0:
            raise TooMuch(f"the template would take more than {MAX_STEPS:,} steps")


_work: ContextVar[Work] = ContextVar("work")


def begin_work() -> None:
    """A rendering begins in this thread."""
    _work.set(Work())


def counted_turns(items: Iterable[Any]) -> Iterator[Any]:
    """What a loop goes through, each a step. Raises TooMuch."""
    work = _work.get()
    for item in items:
        work.spend(1)
        yield item


def spend_on(*values: Any) -> None:
    """A call, or an operator, that goes through these values or makes them. Raises TooMuch."""
    _work.get().spend(_STEPS_OF_A_CALL + sum(map(_steps, values)))


def _steps(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value) // _CHARACTERS_OF_A_STEP
    return len(value) // _ITEMS_OF_A_STEP if isinstance(value, _LISTS) else 0


_LISTS = (list, tuple, dict, set, frozenset, range)


def check_length(length: int) -> None:
    """Raise TooMuch for a text of so many characters."""
    if length > MAX_CHARACTERS:
        raise TooMuch(f"the text would be longer than {MAX_CHARACTERS:,} characters")


def check_items(count: int) -> None:
    """Raise TooMuch for a list of so many items."""
    if count > MAX_ITEMS:
        raise TooMuch(f"a list would have more than {MAX_ITEMS:,} items")


def joined(separator: str, pieces: Iterable[str]) -> str:
    """The pieces as one text. Raises TooMuch as soon as it would be too long, however many are still to come."""
    kept: list[str] = []
    length = 0
    for piece in pieces:
        length += len(piece) + len(separator)
        if length > MAX_CHARACTERS:
            check_length(length)
        kept.append(piece)
    return separator.join(kept)


def check_call(method: Any, arguments: Iterable[Any]) -> None:
    """Raise TooMuch when a method of a text or number is given a width that is one of gigabytes."""
    if isinstance(getattr(method, "__self__", None), str | bytes | int):
        for argument in arguments:
            if isinstance(argument, int):
                check_length(argument)


def check_format(text: Any, arguments: Any) -> None:
    """Raise TooMuch for `text % arguments`, reckoned as if the longest argument were put in every place."""
    if not isinstance(text, str | bytes):
        return
    # What fills the places: a tuple in order, a mapping by name, or one value.
    mapped = list(arguments.values()) if isinstance(arguments, Mapping) else [arguments]
    values = arguments if isinstance(arguments, tuple) else mapped
    longest = max((len(value) for value in values if isinstance(value, str | bytes)), default=0)
    widest = max((value for value in values if isinstance(value, int)), default=0)
    length = 0
    for place in _PRINTF.finditer(text if isinstance(text, str) else text.decode("latin-1")):
        length += longest + sum(widest if width == "*" else number(width) for width in place.groups("0"))
        check_length(length)


def number(digits: str) -> int:
    """The number, or one that is too much where there are too many digits to read."""
    return int(digits) if len(digits) < 10 else MAX_CHARACTERS + 1


_PRINTF = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(\*|\d+)?(?:\.(\*|\d+))?")


def _check_sum(left: Any, right: Any) -> None:
    if isinstance(left, str | bytes | list | tuple) and isinstance(right, str | bytes | list | tuple):
        check_length(len(left) + len(right))


def _check_product(left: Any, right: Any) -> None:
    # A product is as long as both factors together, a repetition as the sequence times the number, from either side. A
    # list of texts is measured by its texts too: the next filter joins them.
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    for sequence, times in ((left, right), (right, left)):
        if isinstance(times, int) and isinstance(sequence, str | bytes):
            check_length(len(sequence) * times)
        elif isinstance(times, int) and isinstance(sequence, list | tuple):
            check_items(len(sequence) * times)
            check_length(sum(len(one) for one in sequence if isinstance(one, str | bytes)) * times)


def _check_power(base: Any, exponent: Any) -> None:
    if isinstance(base, int) and isinstance(exponent, int):
        _check_bits(base.bit_length() * exponent)


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise TooMuch(f"a number would have more than {MAX_BITS:,} bits")


OPERATORS: Mapping[str, Callable[[Any, Any], None]] = {
    "+": _check_sum,
    "*": _check_product,
    "**": _check_power,
    "%": check_format,
}


def replaced(text: Any, old: Any, new: Any, count: int = -1) -> Any:
    """As `text.replace`. Raises TooMuch."""
    found = text.count(old)
    times = found if count < 0 else min(found, count)
    check_length(len(text) + times * (len(new) - len(old)))
    return text.replace(old, new, count)


def _join(separator: Any, pieces: Iterable[Any]) -> Any:
    listed = list(pieces)
    check_length(sum(len(piece) + len(separator) for piece in listed))
    return separator.join(listed)


def _expandtabs(text: Any, tabsize: int = 8) -> Any:
    check_length(len(text) + text.count(b"\t" if isinstance(text, bytes) else "\t") * tabsize)
    return text.expandtabs(tabsize)


# Methods of text that make much of little without being given a number; called in place of the real ones.
METHODS: Mapping[str, Callable[..., Any]] = {"join": _join, "replace": replaced, "expandtabs": _expandtabs}
