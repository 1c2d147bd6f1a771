"""Prompt templates: Jinja over the columns of a row, in a sandbox that bounds what a template can grow to.

A row's value is a value here, never template source. A null renders as nothing, bytes as the UTF-8 text they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from jinja2 import (
    StrictUndefined,
    TemplateSyntaxError,
    Undefined,
    UndefinedError,
    meta,
    nodes,
    pass_environment,
)
from jinja2 import Template as Compiled
from jinja2.environment import Environment
from jinja2.filters import FILTERS, do_batch, do_indent, do_round, do_slice, make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer

MAX_CHARACTERS = 4 * 1024 * 1024  # of a rendered template, and of any text on the way to it
_MAX_ITEMS = 100_000  # of a list that a template makes; what the sandbox allows a range
_MAX_BITS = 1 << 17  # of an integer that a template computes
_MAX_INDENT = 16
_MAX_DECIMALS = 300  # a float has no more
_SHOWN = 300  # characters of a foreign message in an error


class TemplateError(ValueError):
    """A template that cannot be used. `key` is where the job says it, `what` is wrong with it."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"{key}: {what}")
        self.key = key
        self.what = what


class RowError(Exception):
    """A row from which no request can be made. `str()` is one sentence for a person."""


class Template(Protocol):
    """A template that is ready to render rows."""

    @property
    def columns(self) -> frozenset[str]:
        """Columns it names. A row may lack those that it has a default for."""

    @property
    def needs_all(self) -> bool:
        """It uses the row as a whole, so it needs every column."""

    def render(self, values: Mapping[str, Any]) -> str:
        """The text for a row. Raises RowError and nothing else, whatever is in the row."""


def compile_template(text: str, *, key: str) -> Template:
    """Make a template ready; `key` is named in every message. Raises TemplateError.

    Columns are names in it. `row` is all of them: `row["Receipt ID"]`, `row.items`, `row | tojson`.
    """
    try:
        tree = _SANDBOX.parse(text)
        _refuse_other_templates(tree, key)
        pieces = _plain_pieces(tree)
        return _plain_template(pieces, key) if pieces is not None else _jinja_template(tree, key)
    except TemplateSyntaxError as error:
        raise TemplateError(key, f"line {error.lineno}: {_sentence(error.message or '')}") from error
    except (SyntaxError, RecursionError, MemoryError) as error:  # what Python makes of 100 nested loops
        raise TemplateError(key, "the template is nested too deep") from error


_LOADING: Mapping[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from … import",
    nodes.Extends: "extends",
    nodes.ScopedEvalContextModifier: "autoescape",
}


def _refuse_other_templates(tree: nodes.Template, key: str) -> None:
    """A template stands alone, and its text is no HTML."""
    found = next(tree.find_all(tuple(_LOADING)), None)
    if found is not None:
        raise TemplateError(key, f"line {found.lineno}: {{% {_LOADING[type(found)]} %}} is not possible in a prompt")


# A template of text and columns alone, which most are, costs a tenth of what it would in Jinja.


@dataclass(frozen=True, slots=True)
class _Plain:
    """Text with columns in it. Renders exactly what Jinja would."""

    key: str
    columns: frozenset[str]
    pieces: list[str]  # with room for the columns
    places: tuple[tuple[int, str], ...]  # of the columns in `pieces`
    needs_all: bool = False

    def render(self, values: Mapping[str, Any]) -> str:
        pieces = self.pieces.copy()
        try:
            for place, column in self.places:
                value = values[column]
                pieces[place] = value if type(value) is str else _as_text(value)
        except KeyError as error:
            raise RowError(f"{self.key}: {_missing_column(error.args[0])}") from error
        except Exception as error:
            raise RowError(f"{self.key}: {_reason(error)}") from error
        text = "".join(pieces)
        if len(text) > MAX_CHARACTERS:
            raise RowError(f"{self.key}: {_TooLong()}")
        return text


def _plain_pieces(tree: nodes.Template) -> list[nodes.TemplateData | nodes.Name] | None:
    """The parts of a template that is text and columns alone; None for any other."""
    pieces: list[nodes.TemplateData | nodes.Name] = []
    for output in tree.body:
        if not isinstance(output, nodes.Output):
            return None
        for piece in output.nodes:
            is_column = isinstance(piece, nodes.Name) and piece.name not in ("row", "self")
            if not (is_column or isinstance(piece, nodes.TemplateData)):
                return None
            assert isinstance(piece, nodes.TemplateData | nodes.Name)
            pieces.append(piece)
    return pieces


def _plain_template(pieces: Sequence[nodes.TemplateData | nodes.Name], key: str) -> _Plain:
    places = tuple((place, piece.name) for place, piece in enumerate(pieces) if isinstance(piece, nodes.Name))
    texts = [piece.data if isinstance(piece, nodes.TemplateData) else "" for piece in pieces]
    return _Plain(key, frozenset(name for _, name in places), texts, places)


@dataclass(frozen=True, slots=True)
class _Jinja:
    """Any other template."""

    key: str
    columns: frozenset[str]
    needs_all: bool
    uses_row: bool
    functions: Mapping[str, Any]  # the global functions it calls
    compiled: Compiled

    def render(self, values: Mapping[str, Any]) -> str:
        try:
            names = {**values, **self.functions}
            if self.uses_row:
                names["row"] = _WholeRow(values)
            return _joined("", self.compiled.root_render_func(self.compiled.new_context(names, shared=True)))
        except UndefinedError as error:
            raise RowError(f"{self.key}: {_reason(error)}") from error
        except Exception as error:  # whatever a template does with a row is that row's failure
            raise RowError(f"{self.key}: {self._line(error)}{_reason(error)}") from error

    def _line(self, error: Exception) -> str:
        step, line = error.__traceback__, 0
        while step is not None:
            if step.tb_frame.f_code.co_filename == self.compiled.root_render_func.__code__.co_filename:
                line = self.compiled.get_corresponding_lineno(step.tb_lineno)
            step = step.tb_next
        return f"line {line}: " if line else ""


def _jinja_template(tree: nodes.Template, key: str) -> _Jinja:
    tree = _BoundedConcat().visit(tree)
    undeclared = meta.find_undeclared_variables(tree)
    functions = {name: _FUNCTIONS[name] for name in _called(tree) & undeclared & _FUNCTIONS.keys()}
    columns = undeclared - functions.keys() - {"row"}
    uses_row, needs_all = "row" in undeclared, False
    if uses_row:
        named, needs_all = _columns_of_row(tree)
        columns |= named
    return _Jinja(key, frozenset(columns), needs_all, uses_row, functions, _SANDBOX.from_string(tree))


def _called(tree: nodes.Template) -> set[str]:
    """Names that are only ever called: an input may well have a column `range`."""
    called = [call.node for call in tree.find_all(nodes.Call) if isinstance(call.node, nodes.Name)]
    other = {id(name) for name in tree.find_all(nodes.Name)} - {id(name) for name in called}
    return {name.name for name in called} - {name.name for name in tree.find_all(nodes.Name) if id(name) in other}


def _columns_of_row(tree: nodes.Template) -> tuple[set[str], bool]:
    """Columns named as `row["x"]`, `row.x` or `row.get("x")`, and whether `row` is used in any other way."""
    accesses = [
        access
        for access in tree.find_all((nodes.Getattr, nodes.Getitem))
        if isinstance(access.node, nodes.Name) and access.node.name == "row"
    ]
    calls = {id(call.node): call for call in tree.find_all(nodes.Call)}
    named = [_column_named(access, calls.get(id(access))) for access in accesses]
    uses = sum(name.name == "row" for name in tree.find_all(nodes.Name))
    return {name for name in named if name is not None}, None in named or uses > len(accesses)


def _column_named(access: nodes.Expr, call: nodes.Call | None) -> str | None:
    if isinstance(access, nodes.Getattr) and call is None:
        return access.attr
    if isinstance(access, nodes.Getitem):
        name: nodes.Node | None = access.arg
    else:
        assert isinstance(access, nodes.Getattr)
        name = call.args[0] if access.attr == "get" and call is not None and call.args else None
    return name.value if isinstance(name, nodes.Const) and isinstance(name.value, str) else None


class _WholeRow(dict[str, Any]):
    """`row`, whose columns come before the methods of a dict: `row.items` is the column where there is one."""


def _as_text(value: Any) -> str:
    """What a value is in a prompt."""
    if isinstance(value, str):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode()
    if callable(value) and not isinstance(value, Undefined):
        raise TypeError('a function would be rendered; a field of that name is reached as value["name"]')
    return str(value)


def _missing_column(name: object) -> str:
    return f"column {name!r} is missing in this row"


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "the template recurses too deep"
    if isinstance(error, MemoryError):
        return "the template needs too much memory"
    if isinstance(error, UnicodeDecodeError):
        return "a value is bytes that are no UTF-8 text"
    if isinstance(error, LookupError):
        return _sentence(f"{type(error).__name__} {error}")
    return _sentence(str(error)) or type(error).__name__


def _sentence(message: str) -> str:
    return " ".join(message[:_SHOWN].split()).rstrip(".")


class _TooLong(ValueError):
    def __init__(self) -> None:
        super().__init__(f"the text would be longer than {MAX_CHARACTERS:,} characters")


def _joined(separator: str, pieces: Iterable[str]) -> str:
    kept: list[str] = []
    left = MAX_CHARACTERS
    for piece in pieces:
        left -= len(piece) + len(separator)
        if left < 0:
            raise _TooLong
        kept.append(piece)
    return separator.join(kept)


# What an operator may grow a value to, checked before it does.


def _check_sum(left: Any, right: Any) -> None:
    if isinstance(left, str | bytes | list | tuple) and isinstance(right, str | bytes | list | tuple):
        _check_length(len(left) + len(right))


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    for sequence, times in ((left, right), (right, left)):
        if isinstance(times, int) and isinstance(sequence, str | bytes):
            _check_length(len(sequence) * times)
        elif isinstance(times, int) and isinstance(sequence, list | tuple):
            _check_items(len(sequence) * times)


def _check_power(base: Any, exponent: Any) -> None:
    if isinstance(base, int) and isinstance(exponent, int):
        _check_bits(base.bit_length() * exponent)


_PRINTF = re.compile(r"%(?:\((?P<name>[^)]*)\))?[#0\- +]*(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d+))?")


def _check_printf(text: Any, arguments: Any) -> None:
    """Widths are added up as if every place were as wide as the longest argument."""
    if not isinstance(text, str | bytes):
        return
    values = _listed(arguments)
    longest = max((len(value) for value in values if isinstance(value, str | bytes)), default=0)
    widest = max((value for value in values if isinstance(value, int)), default=0)
    total = 0
    for place in _PRINTF.finditer(text if isinstance(text, str) else text.decode("latin-1")):
        for width in place.group("width", "precision"):
            total += widest if width == "*" else _number(width or "0")
        total += longest
        _check_length(total)


def _listed(arguments: Any) -> Sequence[Any]:
    if isinstance(arguments, tuple):
        return arguments
    return list(arguments.values()) if isinstance(arguments, Mapping) else [arguments]


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 10 else MAX_CHARACTERS + 1


def _check_length(length: int) -> None:
    if length > MAX_CHARACTERS:
        raise _TooLong


def _check_items(count: int) -> None:
    if count > _MAX_ITEMS:
        raise ValueError(f"a list would have more than {_MAX_ITEMS:,} items")


def _check_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        raise ValueError(f"a number would have more than {_MAX_BITS:,} bits")


_OPERATORS: Mapping[str, Callable[[Any, Any], None]] = {
    "+": _check_sum,
    "*": _check_product,
    "**": _check_power,
    "%": _check_printf,
}


# Methods of text that can make much of little.


def _join_method(separator: Any, pieces: Iterable[Any]) -> Any:
    listed = list(pieces)
    _check_length(sum(len(piece) + len(separator) for piece in listed))
    return separator.join(listed)


def _replace_method(text: Any, old: Any, new: Any, count: int = -1) -> Any:
    found = text.count(old)
    times = found if count < 0 else min(found, count)
    _check_length(len(text) + times * (len(new) - len(old)))
    return text.replace(old, new, count)


def _expandtabs_method(text: Any, tabsize: int = 8) -> Any:
    _check_length(len(text) + len(text) * max(0, tabsize))
    return text.expandtabs(tabsize)


_METHODS: Mapping[str, Callable[..., Any]] = {
    "join": _join_method,
    "replace": _replace_method,
    "expandtabs": _expandtabs_method,
}


# Filters, where Jinja's own are made for HTML or grow without bound.


def _tojson(value: Any, indent: int | None = None) -> str:
    """Plain JSON in the order of the value: nothing escaped for HTML, every letter as it is, integers exact."""
    if indent is not None and not 0 <= indent <= _MAX_INDENT:
        raise ValueError(f"tojson indents by at most {_MAX_INDENT}")
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, default=_as_jsonable)


def _as_jsonable(value: Any) -> Any:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID | timedelta | Undefined):
        return str(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterator | set | frozenset | range) or type(value).__name__ == "dict_values":
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


@pass_environment
def _join(environment: Environment, value: Iterable[Any], d: Any = "", attribute: str | int | None = None) -> str:
    parts = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    return _joined(_as_text(d), map(_as_text, parts))


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    return str(_replace_method(_as_text(text), str(old), str(new), -1 if count is None else count))


def _center(text: Any, width: int = 80) -> str:
    _check_length(width)
    return _as_text(text).center(width)


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    plain = _as_text(text)
    _check_length(len(plain) + (len(plain.splitlines()) + 1) * (width if isinstance(width, int) else len(width)))
    return do_indent(plain, width, first, blank)


def _format(text: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise TypeError("format takes arguments by place or by name, not both")
    template = _as_text(text)
    _check_printf(template, kwargs or args)
    return template % (kwargs or args)


def _batch(value: Iterable[Any], linecount: int, fill_with: Any = None) -> Iterator[list[Any]]:
    _check_items(linecount)
    return do_batch(value, linecount, fill_with)


def _slice(value: Iterable[Any], slices: int, fill_with: Any = None) -> Iterator[list[Any]]:
    _check_items(slices)
    return do_slice_now(value, slices, fill_with)


def _round(value: Any, precision: int = 0, method: Any = "common") -> float:
    if abs(precision) > _MAX_DECIMALS:
        raise ValueError(f"round takes at most {_MAX_DECIMALS} decimals")
    return do_round(value, precision, method)


# Left out: what is drawn by lot (a row's request must come out the same every time) and what is for HTML pages.
_NO_FILTERS = {"random", "urlize", "xmlattr", "forceescape", "wordwrap"}
_FILTERS: Mapping[str, Callable[..., Any]] = {
    **{name: function for name, function in FILTERS.items() if name not in _NO_FILTERS},
    "tojson": _tojson,
    "join": _join,
    "replace": _replace,
    "center": _center,
    "indent": _indent,
    "format": _format,
    "batch": _batch,
    "slice": _slice,
    "round": _round,
}
