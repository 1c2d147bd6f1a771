"""The limits of templates, all in one place: how long a text they make may be, and how much work they may do for one
row. What the texts are is for `prompt`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import wraps
from itertools import chain
from types import GeneratorType
from typing import Any, AnyStr, NamedTuple

from jinja2 import nodes
from jinja2.environment import Environment
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.visitor import NodeTransformer

# There are two limits, on length and on work. Both are counted and not timed: the same row makes the same request, or
# fails with the same words, on every machine and in every later run. A clock would make that a matter of chance.
#
# Every operator, call, filter, comparison and literal goes through here. It pays for what it goes through, and what it
# has made is measured before anything else makes more of it: a list of 1,000 times a list of 1,000 times one list takes
# little memory, and is as long as the text that it would become. No value changes, so each is measured once.
#
# What makes very much of little in one call is estimated before (`call_binop`, `_ESTIMATES`), because Python cannot
# interrupt its C code: `'x' * 10**10` has filled the memory before anybody could measure it.
MAX_CHARACTERS = 4 * 1024 * 1024
MAX_STEPS = 1_000_000  # a second or two
_STEPS_OF_A_CALL = 10
_CHARACTERS_OF_A_STEP = 250
_PARTS_OF_A_STEP = 4
_SOUGHT_OF_A_STEP = 40  # parts of a list in which something is sought
_BITS_SQUARED_OF_A_STEP = 2_000_000  # of two numbers that are multiplied or divided
_MOST_HELD = 4 * MAX_CHARACTERS  # characters of the values whose size is known
# The types themselves and not the abstract ones, which take a microsecond to ask.
_TEXTS = (str, bytes)
_VIEWS: Any = (type({}.keys()), type({}.values()), type({}.items()))
_STORED: Any = (list, tuple, dict, set, frozenset)
_CONTAINERS = (*_STORED, range, *_VIEWS)
_SIZED = (*_TEXTS, *_CONTAINERS)
_SMALL = {float, bool, type(None)}


class TooMuch(ValueError):
    """Something would grow beyond its limit."""


class Limit(NamedTuple):
    """The length limit, in the unit of what is made."""

    what: str
    most: int
    unit: str


TEXT = Limit("the text", MAX_CHARACTERS, "characters")  # a rendered template, and any value on the way to it
LIST = Limit("a list", 100_000, "items")  # as many as Jinja's sandbox allows a range
NUMBER = Limit("a number", 1 << 17, "bits")  # to multiply two of them takes milliseconds


def check_length(length: int, limit: Limit = TEXT) -> None:
    """Raise TooMuch for something of this length, in the unit of the limit."""
    if length > limit.most:
        raise TooMuch(f"{limit.what} would be longer than {limit.most:,} {limit.unit}")


class Size(NamedTuple):
    """How large a value is. What stands in it several times counts as often."""

    characters: int  # as JSON, or a few less
    parts: int


class _Work:
    """What is left of one rendering, and what it knows of its values."""

    __slots__ = ("held", "known", "left", "row")

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.row = row
        self.left = MAX_STEPS
        self.known: dict[int, tuple[Any, Size]] = {}  # by identity, which lasts as long as the value is held here
        self.held = 0  # characters of these

    def spend(self, steps: int) -> None:
        """Raise TooMuch where there are fewer."""
        self.left -= steps
        if self.left < 0:
            raise TooMuch(f"the template would take more than {MAX_STEPS:,} steps")


# Of the rendering in this thread. A variable of the context, because filters and operators are functions of the one
# sandbox that all threads share.
_work: ContextVar[_Work] = ContextVar("work")


def begin_work(row: Mapping[str, Any]) -> None:
    """A rendering begins in this thread, of a template for this row."""
    _work.set(_Work(row))


def size_of(value: Any) -> Size:
    """Of a value. Each part of it is measured once: no value changes, and it is held here."""
    if isinstance(value, _TEXTS):
        return Size(len(value), 1)
    if isinstance(value, int):
        return Size(value.bit_length() // 4 + 1, 1)
    if isinstance(value, range):
        return Size(2 * len(value) + 1, len(value))
    if not isinstance(value, _CONTAINERS):
        return Size(1, 1)
    work = _work.get()
    known = work.known
    if (found := known.get(id(value))) is not None:
        return found[1]
    characters, count = 1, 1
    for part in _parts_of(value):
        kind = type(part)
        if kind is str:
            characters += len(part) + 1
            count += 1
        elif kind is int:
            characters += part.bit_length() // 4 + 2
            count += 1
        elif kind in _SMALL:
            characters += 2
            count += 1
        else:
            size = size_of(part)
            characters += size.characters + 1
            count += size.parts
    size = Size(characters, count)
    work.held += characters
    if work.held > _MOST_HELD:  # a loop may make and drop one long list after the other
        known.clear()
        work.held = characters
    known[id(value)] = value, size
    return size


def _parts_of(container: Any) -> Iterable[Any]:
    if isinstance(container, dict):
        return chain(container, container.values())
    return _parts_of(dict(container.mapping)) if isinstance(container, _VIEWS) else container


def made(value: Any) -> Any:
    """A value that a template has made. Raises TooMuch for one that is longer than a prompt may be and than its row:
    a long column may be cut to a part of it."""
    if isinstance(value, int):
        check_length(value.bit_length(), NUMBER)
    elif isinstance(value, GeneratorType):
        return _counted(value)
    elif isinstance(value, (*_TEXTS, *_STORED)):
        size, work = size_of(value), _work.get()
        if size.characters > MAX_CHARACTERS and size.characters > size_of(work.row).characters:
            check_length(size.characters)
        work.spend(_steps_of(value))
    return value


def _steps_of(value: Any) -> int:
    """What it takes to go through all that is in a value."""
    if isinstance(value, _TEXTS):
        return len(value) // _CHARACTERS_OF_A_STEP
    if not isinstance(value, _CONTAINERS):
        return 0
    size = size_of(value)
    return size.characters // _CHARACTERS_OF_A_STEP + size.parts // _PARTS_OF_A_STEP


def _counted(values: Iterable[Any]) -> Iterator[Any]:
    work = _work.get()
    for value in values:
        work.spend(1)
        yield made(value) if isinstance(value, list) else value


def _turns(values: Any) -> Any:
    """What a loop goes through. Each turn is a step, an empty one too; generators count their own."""
    if isinstance(values, _SIZED):
        _work.get().spend(len(values))
    return values


def _compared(value: Any) -> Any:
    """What is compared or hashed, which goes through all its parts."""
    if isinstance(value, _SIZED):
        _work.get().spend(_steps_of(value))
    return value


def _searched(value: Any) -> Any:
    """What something is sought in. A mapping finds it by its hash; a list compares, and most parts differ at once."""
    if isinstance(value, list | tuple):
        size = size_of(value)
        _work.get().spend(size.characters // _CHARACTERS_OF_A_STEP + size.parts // _SOUGHT_OF_A_STEP)
        return value
    return value if isinstance(value, dict | set | frozenset) else _compared(value)


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
    _work.get().spend(length // _CHARACTERS_OF_A_STEP)
    return separator.join(kept)


def summed(values: Iterable[Any], start: Any) -> Any:
    """`sum`, which takes the square of the length to put lists together. Raises TooMuch."""
    if not isinstance(start, list | tuple):
        return sum(values, start)
    kept = list(start)
    for value in values:
        if not isinstance(value, type(start)):
            raise TypeError(f"a {type(value).__name__} cannot be added to a {type(start).__name__}")
        kept += _turns(value)
    return type(start)(kept)


class PayEverywhere(NodeTransformer):
    """Puts the limits where Jinja leaves the work to Python: loops, comparisons, slices, literals, `~`."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _through(_turns, node.iter)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        # What is compared with a literal is looked at no further than the literal goes, except to find it in there.
        sides: list[Any] = [node, *node.ops]
        unknown = [side for side in sides if not _is_literal(side.expr)]
        self.generic_visit(node)
        if len(unknown) > 1 or any(_seeks(side) for side in unknown):
            for side in unknown:
                side.expr = _through(_searched if _seeks(side) else _compared, side.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _through(made, node) if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List | nodes.Tuple | nodes.Dict) -> nodes.Node:
        is_value = getattr(node, "ctx", "load") == "load" and not _is_literal(node)  # not the names of `set a, b`
        self.generic_visit(node)
        return _through(made, node) if is_value else node

    visit_Tuple = visit_Dict = visit_List

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """`a ~ b` is written as `[a, b] | join`, which has a bound and renders a null as nothing."""
        self.generic_visit(node)
        pieces = nodes.List(node.nodes, lineno=node.lineno, environment=node.environment)
        return _through(joined, pieces)


def _through(function: Callable[..., Any], node: Any) -> nodes.Filter:
    name = _own_name(function)
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=node.environment)


def _own_name(function: Callable[..., Any]) -> str:
    """Of a filter that no template can name."""
    return f"({function.__name__})"


def _is_literal(node: nodes.Node) -> bool:
    if isinstance(node, nodes.List | nodes.Tuple):
        return all(map(_is_literal, node.items))
    return isinstance(node, nodes.Const)


def _seeks(side: nodes.Node) -> bool:
    return isinstance(side, nodes.Operand) and side.op in ("in", "notin")


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """What a template may do: nothing with private attributes, files, other templates, or gigabytes.

    Jinja's sandbox keeps a template away from Python, and lets it fill the memory.
    """

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})
    concat = staticmethod(lambda pieces: joined("", pieces))  # of macros and blocks

    def bound_filters(self, filters: Mapping[str, Callable[..., Any]], show: Mapping[str, Callable[..., Any]]) -> None:
        """Take these filters. `show`: by name, what the value of a filter goes through before it is measured."""
        bounded = {name: _bounded(function, name, show.get(name)) for name, function in filters.items()}
        # What `~` joins is paid for by its length, as text.
        own = {_own_name(function): function for function in (_turns, _compared, _searched, made)}
        self.filters = bounded | own | {_own_name(joined): filters["join"]}
        for name, test in self.tests.items():
            if test.__module__ == "_operator" or name in ("in", "lower", "upper"):
                self.tests[name] = _paid(test)  # type: ignore[arg-type]  # Jinja types none

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        for side in (left, right):
            if isinstance(side, int):  # of a row: no operator makes a longer one
                check_length(side.bit_length(), NUMBER)
        sequence, times = (left, right) if isinstance(right, int) else (right, left)
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            check_length(left.bit_length() * right, NUMBER)
        elif operator == "%" and isinstance(left, _TEXTS):
            check_length(_printed(left, right))
        elif operator == "*" and isinstance(times, int) and isinstance(sequence, _SIZED):
            if isinstance(sequence, list | tuple):
                check_length(len(sequence) * times, LIST)
            check_length(size_of(sequence).characters * times)
        steps = _STEPS_OF_A_CALL
        if isinstance(left, int) and isinstance(right, int):
            steps += left.bit_length() * right.bit_length() // _BITS_SQUARED_OF_A_STEP
        _work.get().spend(steps)
        return made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        named = {name: value for name, value in kwargs.items() if name not in ("_loop_vars", "_block_vars")}  # Jinja's
        if isinstance(method, LoopContext):  # of a recursive loop
            args = tuple(map(_turns, args))
        if isinstance(method, Macro | LoopContext):  # they do not look into their arguments
            _work.get().spend(_STEPS_OF_A_CALL + len(args))
        else:
            _pay(name, owner, *args, *named.values())
        if isinstance(owner, str | bytes | int):
            for argument in (*args, *named.values()):  # a width or a count. No method needs a longer one
                if isinstance(argument, int):
                    check_length(argument)
        if isinstance(owner, str | bytes) and name == "join":  # its pieces may come from a generator
            return made(joined(owner, *args, **named))
        if name == "strftime" or (isinstance(owner, str | bytes) and name in _ESTIMATES):
            check_length(_ESTIMATES[name](owner, *args, **named))
        return made(super().call(context, method, *args, **kwargs))

    def getitem(self, obj: Any, argument: Any) -> Any:
        return super().getitem(obj, _compared(argument))

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
        check_length(self.length + size_of(value).characters + _digits(format_spec))
        field = str(super().format_field(value, format_spec))
        self.length += len(field)
        return field


def _bounded(function: Callable[..., Any], name: str, show: Callable[..., Any] | None) -> Callable[..., Any]:
    """The filter with its limits. It keeps the attributes by which Jinja calls it."""
    # Jinja gives some filters its environment before the value.
    place = 0 if getattr(function, "jinja_pass_arg", None) is None else 1
    estimate = _ESTIMATES.get(name)

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        _pay(name, *args[place:], *kwargs.values())
        if show is not None:
            args = (*args[:place], show(args[place]), *args[place + 1 :])
        if estimate is not None:
            check_length(estimate(*args[place:], **kwargs))
        return made(function(*args, **kwargs))

    return bounded


def _paid(test: Callable[..., Any]) -> Callable[..., Any]:
    seek = _searched if test.__name__ == "test_in" else _compared

    @wraps(test)
    def paid(value: Any, *others: Any) -> Any:
        return test(_compared(value), *map(seek, others))

    return paid


def _pay(name: str, value: Any = None, *others: Any) -> None:
    """Pay for a filter or method of this name. Raises TooMuch."""
    steps = _STEPS_OF_A_CALL + len(others) + sum(map(_steps_of, others))  # many with `*`
    if name not in _SHALLOW:
        steps += _steps_of(value)
    if name in _ITEMS_OF_A_STEP or name in _SEARCHING:
        lengths = [len(one) for one in (value, *others) if isinstance(one, _SIZED)]
        if name in _ITEMS_OF_A_STEP:
            steps += sum(lengths) // _ITEMS_OF_A_STEP[name]
        elif len(lengths) > 1:
            steps += lengths[0] * lengths[1] // _CHARACTERS_OF_A_STEP
    _work.get().spend(steps)


_LAZY = ("batch", "list", "map", "reject", "rejectattr", "select", "selectattr", "slice")
# Filters and methods that do not look into what is in their value.
_SHALLOW = {*_LAZY, "attr", "d", "default", "first", "get", "items", "keys", "last", "length", "reverse", "values"}
# Those that take it apart, or a text into its characters or words.
_ITEMS_OF_A_STEP = {
    **dict.fromkeys((*_LAZY, "dictsort", "fromkeys", "groupby", "isdisjoint", "join", "max", "min"), 2),
    **dict.fromkeys(("sort", "sum", "unique", "wordwrap"), 2),
    **dict.fromkeys(("indent", "striptags", "title", "urlencode", "wordcount"), 20),
}
# Those that compare each place of a text with all that is sought: they strip, or search from the end.
_SEARCHING = {"lstrip", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "strip", "trim"}


def _printed(text: str | bytes, arguments: Any) -> int:
    """The most that `text % arguments` adds: as if the longest argument were put in every place."""
    # What fills the places: a tuple in order, a mapping by name, or one value.
    mapped = list(arguments.values()) if isinstance(arguments, Mapping) else [arguments]
    values = arguments if isinstance(arguments, tuple) else mapped
    longest = max((size_of(value).characters for value in values), default=0)
    widest = max((value for value in values if isinstance(value, int)), default=0)
    places = _PLACES.findall(text if isinstance(text, str) else text.decode("latin-1"))
    return sum(longest + _digits(place) + place.count("*") * widest for place in places)


_PLACES = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(?:\*|\d+)?(?:\.(?:\*|\d+))?")


def _digits(written: str) -> int:
    """The numbers in it, added up; too much for one that has too many digits to read."""
    return sum(int(digits) if len(digits) < 10 else MAX_CHARACTERS + 1 for digits in re.findall(r"\d+", written))


def _replaced(text: Any, old: Any, new: Any, count: int | None = None) -> int:
    if isinstance(text, str):  # the filter takes anything
        old, new = str(old), str(new)
    found: int = text.count(old)
    times = found if count is None or count < 0 else min(found, count)
    return len(text) + times * (len(new) - len(old))


def _squared(length: int, per: int = _CHARACTERS_OF_A_STEP) -> int:
    """Pay for what takes the square of a length."""
    _work.get().spend(length * length // per)
    return length


def _encoded(text: Any, encoding: str = "utf-8", errors: str = "strict") -> int:
    # Some encodings take the square of the length, and some ways to write what one lacks make 90 letters of a letter.
    is_usual = _USUAL_ENCODINGS.fullmatch(encoding.lower()) and errors in ("strict", "ignore", "replace")
    return len(text) if is_usual else _squared(len(text))


_USUAL_ENCODINGS = re.compile(r"(utf.?(8|16|32)|ascii|latin|iso.?8859|cp125|windows)[-_\w]*")


_WORDS = re.compile(r"[\t\n\x0b\x0c\r ]+|[^\t\n\x0b\x0c\r ]+")  # as `textwrap` has them


def _wrapped(
    text: str,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str | None = None,
    break_on_hyphens: bool = True,
) -> int:
    # Each line of a word that is too long for one copies the rest of the word.
    copied = sum(length * length for length in map(len, _WORDS.findall(text)) if length > width) // max(width, 1)
    _work.get().spend(5 * len(text.splitlines()) + copied // 8_000)
    return len(text) * (1 + len(wrapstring or ""))


# By the name of a filter, or of a method of text or time that takes the same arguments: how long what it makes would
# get.
_ESTIMATES: Mapping[str, Callable[..., int]] = {
    "batch": lambda values, linecount, fill_with=None: linecount,
    "center": lambda text, width=80, fill=" ": width,
    "decode": _encoded,
    "encode": _encoded,
    "expandtabs": lambda text, tabsize=8: len(text) + text.count(b"\t" if isinstance(text, bytes) else "\t") * tabsize,
    "format": lambda text, *args, **kwargs: _printed(text, kwargs or args),
    "indent": lambda text, width=4, first=False, blank=False: (
        len(text) + (len(text.splitlines()) + 1) * (width if isinstance(width, int) else len(width))
    ),
    "replace": _replaced,
    "round": lambda value, precision=0, method="common": abs(precision) * 100,  # ten to that power
    "slice": lambda values, slices, fill_with=None: slices,
    "strftime": lambda moment, format: _digits(format),
    "wordwrap": _wrapped,
}
