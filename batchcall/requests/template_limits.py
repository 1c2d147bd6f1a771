"""The limits of templates, all in one place: how long a text they make may be, and how much work they may do for one
row. What the texts are is for `prompt`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any, AnyStr, NamedTuple

from jinja2 import nodes
from jinja2.environment import Environment
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.visitor import NodeTransformer

# There are two limits, on length and on work. Both are counted and not timed: the same row makes the same request, or
# fails with the same words, on every machine and in every later run. A clock would make that a matter of chance.
#
# Length is checked before something is made. Python cannot interrupt one call of its C code: `'x' * 10**10` has filled
# the memory, and `10 ** 10 ** 10` has run for years, before anybody could look at a clock. So each operator, method and
# filter that can make much of little is known by name here, with the length of what it would make.
MAX_CHARACTERS = 4 * 1024 * 1024
MAX_STEPS = 1_000_000  # a second or two
_STEPS_OF_A_CALL = 10
_CHARACTERS_OF_A_STEP = 1_000
_ITEMS_OF_A_STEP = 2


class TooMuch(ValueError):
    """Something would grow beyond its limit."""


class Limit(NamedTuple):
    """The length limit, in the unit of what is made."""

    what: str
    most: int
    unit: str


TEXT = Limit("the text", MAX_CHARACTERS, "characters")  # a rendered template, and any text on the way to it
LIST = Limit("a list", 100_000, "items")  # as many as Jinja's sandbox allows a range
NUMBER = Limit("a number", 1 << 17, "bits")  # to multiply two of them takes milliseconds
# Put into each line of a text whose lines are known only when they are made.
MARGIN = Limit("the text before or between lines", 16, "characters")


def check_length(length: int, limit: Limit = TEXT) -> None:
    """Raise TooMuch for something of this length, in the unit of the limit."""
    if length > limit.most:
        raise TooMuch(f"{limit.what} would be longer than {limit.most:,} {limit.unit}")


def joined(separator: AnyStr, pieces: Iterable[AnyStr]) -> AnyStr:
    """The pieces as one text, of str or bytes. Raises TooMuch at the piece that makes it too long, however many are
    still to come."""
    kept: list[AnyStr] = []
    length = 0
    for piece in pieces:
        length += len(piece) + len(separator)
        if length > MAX_CHARACTERS:
            check_length(length)
        kept.append(piece)
    return separator.join(kept)


# The steps that are left of the rendering in this thread. A variable of the context, because filters and
# operators are functions of the one sandbox that all threads share.
class Work:
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


def _spend_on(*values: Any) -> None:
    """A call, or an operator, that goes through these values or makes them. Raises TooMuch."""
    steps = _STEPS_OF_A_CALL
    for value in values:
        if isinstance(value, str | bytes):
            steps += len(value) // _CHARACTERS_OF_A_STEP
        elif isinstance(value, list | tuple | dict | set | frozenset | range):
            steps += len(value) // _ITEMS_OF_A_STEP
    _work.get().spend(steps)


_COUNTED = "counted turns"  # a filter, by a name that no template can write


class CountTurns(NodeTransformer):
    """Each turn of a loop is a step, an empty one too."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, _COUNTED, [], [], None, None, lineno=node.lineno)
        node.iter.environment = node.environment
        return node


def _counted_turns(items: Iterable[Any]) -> Iterator[Any]:
    work = _work.get()
    for item in items:
        work.spend(1)
        yield item


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """What a template may do: nothing with private attributes, files, other templates, or gigabytes.

    Jinja's sandbox keeps a template away from Python, and lets it fill the memory. Every way to make a long value of a
    short one goes through here: operators, methods, filters, formats, and the joining of pieces.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    concat = staticmethod(lambda pieces: joined("", pieces))  # of macros and blocks

    def bound_filters(self, filters: Mapping[str, Callable[..., Any]], show: Mapping[str, Callable[..., Any]]) -> None:
        """Take these filters. `show`: by name, what the value of a filter goes through before it is measured."""
        bounded = {name: _bounded(function, name, show.get(name)) for name, function in filters.items()}
        self.filters = bounded | {_COUNTED: _counted_turns}

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str | bytes):
            check_length(_printed(left, right))
        elif operator == "+" and isinstance(left, _SEQUENCES) and isinstance(right, _SEQUENCES):
            check_length(len(left) + len(right))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            check_length(left.bit_length() * right, NUMBER)
        elif operator == "*" and isinstance(left, int) and isinstance(right, int):
            check_length(left.bit_length() + right.bit_length(), NUMBER)
        elif operator == "*":
            sequence, times = (left, right) if isinstance(right, int) else (right, left)
            if isinstance(times, int) and isinstance(sequence, str | bytes):
                check_length(len(sequence) * times)
            elif isinstance(times, int) and isinstance(sequence, list | tuple):
                check_length(len(sequence) * times, LIST)
                # Its texts count too: the next filter joins them.
                check_length(sum(len(one) for one in sequence if isinstance(one, str | bytes)) * times)
        made = super().call_binop(context, operator, left, right)
        _spend_on(made)
        return made

    def call(self, context: Context, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        _spend_on(owner, *args)
        # A number that a method of a text or number takes is a width or a count. No method needs a longer one.
        if isinstance(owner, str | bytes | int):
            for argument in (*args, *kwargs.values()):
                if isinstance(argument, int):
                    check_length(argument)
        if isinstance(owner, str | bytes) and name == "join":  # its pieces may come from a generator
            return joined(owner, *args, **kwargs)
        if isinstance(owner, str | bytes) and name in _MAKES:
            limit, length_of = _MAKES[name]
            check_length(length_of(owner, *args, **kwargs), limit)
        return super().call(context, method, *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr != "translate" and super().is_safe_attribute(obj, attr, value)  # one letter to a megabyte

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        text, vformat = str(value.__self__), _BoundedFormatter(self).vformat
        if value.__name__ == "format_map":
            return lambda mapping: vformat(text, (), mapping)
        return lambda *args, **kwargs: vformat(text, args, kwargs)


class _BoundedFormatter(SandboxedFormatter):
    """`"{:>10}".format(…)`, as wide as the bounds allow in total."""

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self.length = 0

    def format_field(self, value: Any, format_spec: str) -> str:
        check_length(self.length + sum(map(_width, re.findall(r"\d+", format_spec))))
        field = str(super().format_field(value, format_spec))
        self.length += len(field)
        return field


def _bounded(function: Callable[..., Any], name: str, show: Callable[..., Any] | None) -> Callable[..., Any]:
    """The filter, measured before it runs, and counted. It keeps the attributes by which Jinja calls it."""
    # Jinja gives some filters its environment before the value.
    place = 0 if getattr(function, "jinja_pass_arg", None) is None else 1
    limit, length_of = _MAKES.get(name, (TEXT, None))

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        _spend_on(*args)
        if show is not None:
            args = (*args[:place], show(args[place]), *args[place + 1 :])
        if length_of is not None:
            check_length(length_of(*args[place:], **kwargs), limit)
        made = function(*args, **kwargs)
        _spend_on(made)
        return made

    return bounded


_SEQUENCES = (str, bytes, list, tuple)


def _printed(text: str | bytes, arguments: Any) -> int:
    """The most that `text % arguments` adds: as if the longest argument were put in every place."""
    # What fills the places: a tuple in order, a mapping by name, or one value.
    mapped = list(arguments.values()) if isinstance(arguments, Mapping) else [arguments]
    values = arguments if isinstance(arguments, tuple) else mapped
    longest = max((len(value) for value in values if isinstance(value, str | bytes)), default=0)
    widest = max((value for value in values if isinstance(value, int)), default=0)
    return sum(
        longest + sum(widest if width == "*" else _width(width) for width in place.groups("0"))
        for place in _PRINTF.finditer(text if isinstance(text, str) else text.decode("latin-1"))
    )


_PRINTF = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(\*|\d+)?(?:\.(\*|\d+))?")


def _width(digits: str) -> int:
    """The number, or one that is too much where there are too many digits to read."""
    return int(digits) if len(digits) < 10 else MAX_CHARACTERS + 1


def _replaced(text: Any, old: Any, new: Any, count: int | None = None) -> int:
    if isinstance(text, str):  # the filter takes anything
        old, new = str(old), str(new)
    found: int = text.count(old)
    times = found if count is None or count < 0 else min(found, count)
    return len(text) + times * (len(new) - len(old))


# By the name of a filter, or of a method of text that takes the same arguments: how long what it makes would get.
_MAKES: Mapping[str, tuple[Limit, Callable[..., int]]] = {
    "batch": (LIST, lambda rows, linecount, fill_with=None: linecount),
    "center": (TEXT, lambda text, width=80, fill=" ": width),
    "expandtabs": (
        TEXT,
        lambda text, tabsize=8: len(text) + text.count(b"\t" if isinstance(text, bytes) else "\t") * tabsize,
    ),
    "format": (TEXT, lambda text, *args, **kwargs: _printed(text, kwargs or args)),
    "indent": (
        TEXT,
        lambda text, width=4, first=False, blank=False: (
            len(text) + (len(text.splitlines()) + 1) * (width if isinstance(width, int) else len(width))
        ),
    ),
    "replace": (TEXT, _replaced),
    "round": (NUMBER, lambda value, precision=0, method="common": abs(precision) * 4),  # ten to that power
    "slice": (LIST, lambda value, slices, fill_with=None: slices),
    "tojson": (MARGIN, lambda value, indent=None: indent or 0),
    "wordwrap": (
        MARGIN,
        lambda text, width=79, break_long_words=True, wrapstring=None, break_on_hyphens=True: len(wrapstring or ""),
    ),
}
