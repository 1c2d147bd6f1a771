"""The limits of templates, all in one place: how long a text they make may be, and how much work they may do for one
row. What the texts are is for `prompt`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import date, time
from functools import wraps
from itertools import chain
from typing import Any, AnyStr, NamedTuple

from jinja2 import nodes
from jinja2.environment import Environment
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.visitor import NodeTransformer

# There are two limits, on length and on work. Both are counted and not timed: the same row makes the same request, or
# fails with the same words, on every machine and in every later run. A clock would make that a matter of chance.
#
# Length is checked before something is made. Python cannot interrupt one call of its C code: `'x' * 10**10` has filled
# the memory, and `10 ** 10 ** 10` has run for years, before anybody could look at a clock. So each operator, method and
# filter that can make very much of little in one call is known by name here, with the length of what it would make.
# What all the others make is measured afterwards, before the next one makes more of it.
#
# A nested value can be far longer than the memory it takes: a list of 1,000 times a list of 1,000 times one list. So
# its parts are counted, as often as they stand in it, before it becomes a text or is compared.
MAX_CHARACTERS = 4 * 1024 * 1024
MAX_STEPS = 1_000_000  # a second or two
_STEPS_OF_A_CALL = 10
_CHARACTERS_OF_A_STEP = 1_000
_ITEMS_OF_A_STEP = 2
_COMPARISONS_OF_A_STEP = 10
# The types themselves and not the abstract ones, which take a microsecond to ask.
_TEXTS = (str, bytes)
_PAIRS: type = type({}.items())
_CONTAINERS: Any = (list, tuple, dict, set, frozenset, range, type({}.keys()), type({}.values()), _PAIRS)
_KINDS = {list, dict}  # nearly all of them
_DEEPEST = 10_000  # levels of a value. Python's hash of a tuple has no limit of its own: it ends the process


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
MARGIN = Limit("what is put before or between lines", 16, "characters")
# Some encodings take the square of the length, and some ways to write what an encoding lacks make 90 letters of one.
ENCODED = Limit("a text in an encoding that is not a usual one", 10_000, "characters")


def check_length(length: int, limit: Limit = TEXT) -> None:
    """Raise TooMuch for something of this length, in the unit of the limit."""
    if length > limit.most:
        raise TooMuch(f"{limit.what} would be longer than {limit.most:,} {limit.unit}")


def check_size(value: Any, already: int = 0, indent: int = 0) -> None:
    """Raise TooMuch for a value that would make too long a text together with the characters that are there already.
    `indent`: of each part of a nested value, for each level."""
    check_length(already + _size(value, indent=indent))


def _size(value: Any, per: int = 1, indent: int = 0, under_names: bool = False) -> int:
    """The characters that a value has as JSON, or a few less. `per`: as many characters of a text count as one.
    `under_names`: the members of an object are indented by their names too."""
    # A container is gone through once, however often it stands in there. No recursion: values may be nested deeper
    # than Python calls.
    known: dict[tuple[int, int], int] = {}
    levels = [iter((value,))]
    keys, sizes = [(0, 0)], [-1]
    while True:
        indented, size = keys[-1][1], sizes[-1]
        margin = indented // 2  # a name and its value are two parts on one line
        for part in levels[-1]:
            kind = type(part)
            if kind is str or isinstance(part, _TEXTS):
                size += 1 + len(part) // per + margin
            elif kind is int:
                size += 2 + part.bit_length() // (4 * per) + margin
            elif kind not in _KINDS and not isinstance(part, _CONTAINERS):
                size += 2 + margin
            elif (key := (id(part), indented)) in known:
                size += known[key]
            else:
                sizes[-1] = size
                below = indented + indent
                if isinstance(part, (dict, _PAIRS)):  # the pairs of a view are made as it is gone through
                    mapping: Any = getattr(part, "mapping", part)
                    if under_names:
                        below += max((len(name) for name in mapping if isinstance(name, str)), default=0)
                    part = chain(mapping, mapping.values())
                levels.append(iter(part))
                if len(levels) > _DEEPEST:
                    raise RecursionError
                keys.append((key[0], below))
                sizes.append(2 + margin)
                break
        else:
            levels.pop()
            sizes.pop()
            if not levels or (per == 1 and size > MAX_CHARACTERS):
                return size
            ended = keys.pop()
            known[ended[0], keys[-1][1]] = size
            sizes[-1] += size


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
    kept: list[Any] = []
    for value in chain([start], values):
        if not isinstance(value, type(start)):
            raise TypeError(f"a {type(value).__name__} cannot be added to a {type(start).__name__}")
        _work.get().spend(1 + _steps_of(value))
        kept += value
    return type(start)(kept)


class Work:
    """The steps that are left of one rendering."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Raise TooMuch where there are fewer."""
        self.left -= steps
        if self.left < 0:
            raise TooMuch(f"the template would take more than {MAX_STEPS:,} steps")


# Of the rendering in this thread. A variable of the context, because filters and operators are functions of the one
# sandbox that all threads share.
_work: ContextVar[Work] = ContextVar("work")


def begin_work() -> None:
    """A rendering begins in this thread."""
    _work.set(Work())


def _spend_on(*values: Any) -> None:
    """Pay for a call, or an operator, that goes through these values or makes them. Raises TooMuch."""
    _work.get().spend(_STEPS_OF_A_CALL + sum(map(_steps_of, values)))


def _steps_of(value: Any) -> int:
    if isinstance(value, _TEXTS):
        return len(value) // _CHARACTERS_OF_A_STEP
    return len(value) // _ITEMS_OF_A_STEP if isinstance(value, _CONTAINERS) else 0


def _compared(value: Any) -> Any:
    """The value. Pays for all its parts: whoever compares or hashes it goes through them. Raises TooMuch."""
    if type(value) is int:  # nearly all that is compared one by one
        return value
    if isinstance(value, _TEXTS):
        if len(value) >= _CHARACTERS_OF_A_STEP:
            _work.get().spend(_steps_of(value))
    elif isinstance(value, _CONTAINERS):
        # A comparison of two parts takes far less than a step, and a part has a size of two. Nearly all lists in which
        # something is sought are flat: they are measured without a loop in Python.
        kinds = set(map(type, value)) if isinstance(value, list | tuple) else None
        if kinds == {str}:
            size = 2 * len(value) + sum(map(len, value)) // _CHARACTERS_OF_A_STEP
        elif kinds == {int}:
            size = 2 * len(value)
        else:
            size = _size(value, per=_CHARACTERS_OF_A_STEP)
        _work.get().spend(size // (2 * _COMPARISONS_OF_A_STEP))
    return value


def _searched(value: Any) -> Any:
    """The value, in which something is sought. A mapping finds it by its hash."""
    return value if isinstance(value, dict | set | frozenset | range) else _compared(value)


def _made(made: Any, *of: Any) -> Any:
    """What a filter, method or operator has made of these. Raises TooMuch.

    A text may be as long as the one it was made of: the next filter may cut a long column to a part of it."""
    if isinstance(made, _TEXTS):
        if len(made) > MAX_CHARACTERS and not any(len(made) <= len(one) for one in of if isinstance(one, _TEXTS)):
            check_length(len(made))
    elif isinstance(made, int):
        check_length(made.bit_length(), NUMBER)
    if steps := _steps_of(made):
        _work.get().spend(steps)
    return made


# Filters, by names that no template can write.
_COUNTED = "counted turns"
_COMPARED = "compared"
_SEARCHED = "searched"
_CUT = "cut"


class CountTurns(NodeTransformer):
    """Each turn of a loop is a step, an empty one too. Comparisons and slices, which Jinja leaves to Python, are paid
    for by their length."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _through(_COUNTED, node.iter)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        # What is compared with a literal is looked at no further than the literal goes, except to find it in there.
        sides: list[Any] = [node, *node.ops]
        unknown = [side for side in sides if not _is_literal(side.expr)]
        if len(unknown) > 1 or any(one.op in ("in", "notin") for one in node.ops if one in unknown):
            for side in unknown:
                seeks = isinstance(side, nodes.Operand) and side.op in ("in", "notin")
                side.expr = _through(_SEARCHED if seeks else _COMPARED, side.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return _through(_CUT, node)
        if not isinstance(node.arg, nodes.Const):
            node.arg = _through(_COMPARED, node.arg)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.key, nodes.Const):
            node.key = _through(_COMPARED, node.key)
        return node


def _through(name: str, node: Any) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=node.environment)


def _is_literal(node: nodes.Node) -> bool:
    if isinstance(node, nodes.List | nodes.Tuple):
        return all(map(_is_literal, node.items))
    return isinstance(node, nodes.Const)


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

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})
    concat = staticmethod(lambda pieces: joined("", pieces))  # of macros and blocks

    def bound_filters(self, filters: Mapping[str, Callable[..., Any]], show: Mapping[str, Callable[..., Any]]) -> None:
        """Take these filters. `show`: by name, what the value of a filter goes through before it is measured."""
        bounded = {name: _bounded(function, name, show.get(name)) for name, function in filters.items()}
        self.filters = bounded | {_COUNTED: _counted_turns, _COMPARED: _compared, _SEARCHED: _searched, _CUT: _made}
        for name in _COMPARING_TESTS:
            self.tests[name] = _paid_test(self.tests[name])  # type: ignore[arg-type]  # Jinja types none

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        for side in (left, right):
            if isinstance(side, int):  # of a row: no operator makes a longer one
                check_length(side.bit_length(), NUMBER)
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
        _work.get().spend(_STEPS_OF_A_CALL)
        return _made(super().call_binop(context, operator, left, right), left, right)

    def call(self, context: Context, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        named = {name: value for name, value in kwargs.items() if name not in ("_loop_vars", "_block_vars")}  # Jinja's
        if isinstance(method, LoopContext):  # of a recursive loop: its items are turns, as those of any other
            args = tuple(map(_counted_turns, args))
        _spend_on(owner, args, *args)  # the arguments themselves too: there may be many with `*`
        # A number that a method of a text or number takes is a width or a count. No method needs a longer one.
        if isinstance(owner, str | bytes | int):
            for argument in (*args, *named.values()):
                if isinstance(argument, int):
                    check_length(argument)
        elif owner is not None:
            for value in (*args, *([owner] if name in ("index", "count") else [])):
                _compared(value)
        _pay_by_character(name, *args)
        _pay_to_search(name, owner, *args)
        if isinstance(owner, str | bytes) and name == "join":  # its pieces may come from a generator
            return joined(owner, *args, **named)
        if isinstance(owner, str | bytes | date | time) and name in _MAKES:
            limit, length_of = _MAKES[name]
            check_length(length_of(owner, *args, **named), limit)
        return _made(super().call(context, method, *args, **kwargs), owner, *args)

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

    def convert_field(self, value: Any, conversion: Any) -> Any:
        check_size(value, self.length)
        return super().convert_field(value, conversion)

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
    compares, makes_text = name in _COMPARING, name not in _COMPARING | _SHALLOW
    goes_through = name in _BY_CHARACTER or name in _SEARCHING
    # `pprint` makes the text of a part once for each level above it: so deep a value takes long.
    is_pretty = name == "pprint"

    @wraps(function)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        _spend_on(*args)
        if show is not None:
            args = (*args[:place], show(args[place]), *args[place + 1 :])
        given = args[place:]
        for number, value in enumerate((*given, *kwargs.values())):
            if compares:
                _compared(value)
            elif (makes_text or number) and isinstance(value, _CONTAINERS):
                check_length(_size(value, indent=30 * is_pretty, under_names=is_pretty))
        if length_of is not None:
            length = length_of(*given, **kwargs)
            if limit is MARGIN and length > MARGIN.most:
                raise TooMuch(f"{name} would put {length:,} characters before or between lines, at most {MARGIN.most}")
            check_length(length, limit)
        if goes_through:
            _pay_by_character(name, *given)
            _pay_to_search(name, *given)
        if name == "wordwrap":
            _work.get().spend(_steps_to_wrap(*given, **kwargs))
        made = _made(function(*args, **kwargs), *given)
        _work.get().spend(_STEPS_OF_A_CALL)
        return made

    return bounded


def _paid_test(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def paid(*args: Any) -> Any:
        return function(_compared(args[0]), *map(_searched if function.__name__ == "test_in" else _compared, args[1:]))

    return paid


# The names of Jinja's tests that compare, or look at a whole text.
_COMPARING_TESTS = (
    *("==", "eq", "equalto", "!=", "ne", "<", "lt", "lessthan", "<=", "le", ">", "gt", "greaterthan", ">=", "ge"),
    *("in", "lower", "upper"),
)
# Filters that compare the parts of their value, those that look no further than its items, and all others: they make
# a text of it. Arguments are names and numbers, of which Jinja may make a text or a message.
_COMPARING = frozenset({"dictsort", "groupby", "max", "min", "sort", "unique"})
_SHALLOW = frozenset(
    {
        "abs",
        "attr",
        "batch",
        "count",
        "d",
        "default",
        "first",
        "float",
        "int",
        "items",
        "join",
        "last",
        "length",
        "list",
    }
    | {"map", "reject", "rejectattr", "reverse", "round", "select", "selectattr", "slice", "string", "sum", "tojson"}
)
# Filters and methods that go through a text by its characters or words: how many of its characters they do in a step.
_BY_CHARACTER = dict.fromkeys(
    ("fromkeys", "indent", "isdisjoint", "striptags", "title", "urlencode", "wordcount"), 10
) | dict.fromkeys(
    (
        *("batch", "groupby", "join", "list", "map", "max", "min", "pprint", "reject", "rejectattr", "select"),
        *("selectattr", "slice", "sort", "unique", "wordwrap"),
    ),
    _ITEMS_OF_A_STEP,
)


def _pay_by_character(name: str, value: Any = None, *_others: Any) -> None:
    if name in _BY_CHARACTER and isinstance(value, str | bytes):
        _work.get().spend(len(value) // _BY_CHARACTER[name])


def _pay_to_search(name: str, text: Any = None, sought: Any = None, *_others: Any) -> None:
    """Python compares each place of the text with all that is sought, where it searches from the end or strips."""
    if name in _SEARCHING and isinstance(text, _TEXTS) and isinstance(sought, _TEXTS):
        _work.get().spend(len(text) * len(sought) // _CHARACTERS_OF_A_STEP)


_SEARCHING = frozenset({"lstrip", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "strip", "trim"})


_WORDS = re.compile(r"[\t\n\x0b\x0c\r ]+|[^\t\n\x0b\x0c\r ]+")  # as `textwrap` has them


def _steps_to_wrap(text: str, width: int = 79, *_others: Any, **_named: Any) -> int:
    """For the lines, and for the words that are too long for one: each line of such a word copies the rest of it."""
    copied = sum(length * length for length in map(len, _WORDS.findall(text)) if length > width) // max(width, 1)
    return 5 * len(text.splitlines()) + copied // 8_000


_SEQUENCES = (str, bytes, list, tuple)


def _printed(text: str | bytes, arguments: Any) -> int:
    """The most that `text % arguments` adds: as if the longest argument were put in every place."""
    # What fills the places: a tuple in order, a mapping by name, or one value.
    mapped = list(arguments.values()) if isinstance(arguments, Mapping) else [arguments]
    values = arguments if isinstance(arguments, tuple) else mapped
    longest = max((_size(value) for value in {id(value): value for value in values}.values()), default=0)
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


def _encoded(text: Any, encoding: str = "utf-8", errors: str = "strict") -> int:
    is_usual = re.fullmatch(r"(utf.?(8|16|32)|ascii|latin|iso.?8859|cp125|windows)[-_\w]*", encoding.lower())
    return 0 if is_usual and errors in ("strict", "ignore", "replace") else len(text)


# By the name of a filter, or of a method of text or time that takes the same arguments: how long what it makes would
# get.
_MAKES: Mapping[str, tuple[Limit, Callable[..., int]]] = {
    "batch": (LIST, lambda rows, linecount, fill_with=None: linecount),
    "center": (TEXT, lambda text, width=80, fill=" ": width),
    "decode": (ENCODED, _encoded),
    "encode": (ENCODED, _encoded),
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
    "strftime": (TEXT, lambda moment, format: sum(map(_width, re.findall(r"\d+", format)))),
    "tojson": (MARGIN, lambda value, indent=None: len(indent) if isinstance(indent, str) else indent or 0),
    "wordwrap": (
        MARGIN,
        lambda text, width=79, break_long_words=True, wrapstring=None, break_on_hyphens=True: len(wrapstring or ""),
    ),
}
