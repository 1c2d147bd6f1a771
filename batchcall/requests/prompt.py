"""Prompt templates: Jinja over the columns of a row, in a sandbox with the limits of `template_limits`.

A row's value is a value here, never template source. A null renders as nothing, bytes as the UTF-8 text they are, a
nested value as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, ValuesView
from datetime import date, time
from traceback import walk_tb
from typing import Any

import msgspec
from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError, nodes, pass_environment
from jinja2.environment import Environment
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.utils import missing

from batchcall.requests.template_limits import (
    BoundedSandbox,
    PayEverywhere,
    TooMuch,
    begin_work,
    check_length,
    joined,
    made,
    summed,
)
from batchcall.requests.template_names import ROW, Uses, names_in, plain_uses

_SHOWN = 300  # characters of a foreign message in an error
_WIDEST_INDENT = 16


class TemplateError(ValueError):
    """A template that cannot be used. `key` is its place in the job file, `what` says what is wrong with it."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"{key}: {what}")
        self.key = key
        self.what = what


class RowError(Exception):
    """A row that cannot become a request. `str()` is one sentence for a person."""


class Template(msgspec.Struct, frozen=True):
    """A template that is ready to render rows."""

    key: str  # its place in the job file, such as `request.prompt`
    uses: Uses  # what it takes from a row
    render: Callable[[Mapping[str, Any]], str]  # the text for a row. Raises RowError and nothing else


def compile_template(text: str, *, key: str) -> Template:
    """Make a template ready; `key` is named in every message. Raises TemplateError.

    Columns are names in it. `row` is all of them: `row["Receipt ID"]`, `row.items`, `row | tojson`.
    """
    begin_work({})  # Jinja runs filters over constants while it compiles
    try:
        tree = _SANDBOX.parse(text)
        refused = next(tree.find_all(tuple(_REFUSED)), None)
        if refused is not None:
            what = f"{{% {_REFUSED[type(refused)]} %}} cannot be used in a prompt"
            raise TemplateError(key, f"line {refused.lineno}: {what}")
        return _plain_template(tree, key) or _jinja_template(tree, key)
    except TemplateSyntaxError as error:
        raise TemplateError(key, f"line {error.lineno}: {_sentence(error.message or '')}") from error
    except (SyntaxError, RecursionError, MemoryError) as error:  # what Python makes of 100 nested loops
        raise TemplateError(key, "the template is nested too deeply") from error


# A template stands alone, and its text is not HTML.
_REFUSED: Mapping[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from",
    nodes.Extends: "extends",
    nodes.ScopedEvalContextModifier: "autoescape",
}


def _plain_template(tree: nodes.Template, key: str) -> Template | None:
    """A template that is text and columns alone, as most prompts are; None for any other. Renders exactly what Jinja
    would at a tenth of the cost."""
    parts = [piece for part in tree.body for piece in (part.nodes if isinstance(part, nodes.Output) else [part])]
    for piece in parts:
        if not isinstance(piece, nodes.TemplateData) and not (isinstance(piece, nodes.Name) and piece.name != ROW):
            return None
    texts = [piece.data if isinstance(piece, nodes.TemplateData) else "" for piece in parts]  # empty for each column
    places = tuple((place, piece.name) for place, piece in enumerate(parts) if isinstance(piece, nodes.Name))

    def render(values: Mapping[str, Any]) -> str:
        # The loop of every row of most jobs: no generator, no formatting, one join.
        pieces = texts.copy()
        try:
            for place, column in places:
                value = values[column]
                pieces[place] = value if type(value) is str else _as_text(value, bounded=False)
            text = "".join(pieces)
            check_length(len(text))
        except KeyError as error:
            raise RowError(f"{key}: {_missing_column(error.args[0])}") from error
        except Exception as error:  # a number of 5,000 digits, bytes that are not UTF-8
            raise RowError(f"{key}: {_reason(error)}") from error
        return text

    return Template(key, plain_uses((name for _, name in places), "".join(texts)), render)


def _jinja_template(tree: nodes.Template, key: str) -> Template:
    """Any other template."""
    # Names are read before the limits are put in: their filters are not the author's.
    uses = names_in(tree, _FUNCTIONS)
    functions = {name: _FUNCTIONS[name] for name in uses.functions}
    compiled = _SANDBOX.from_string(PayEverywhere().visit(tree))

    def render(values: Mapping[str, Any]) -> str:
        begin_work(values)
        try:
            names = dict(values)
            for column in uses.columns:  # filters would see b'…'
                if type(names.get(column)) is bytes:
                    names[column] = names[column].decode()
            # `row` gets its columns before the names that only the compiled template has.
            renamed = {name: names[column] for name, column in uses.renamed.items() if column in names}
            if uses.uses_row:
                names[ROW] = _WholeRow(names)
            names.update(renamed)
            names.update(functions)
            return joined("", compiled.root_render_func(compiled.new_context(names, shared=True)))
        except UndefinedError as error:
            reason = _reason(error)
            for name, column in uses.renamed.items():
                reason = reason.replace(repr(name), repr(column))
            raise RowError(f"{key}: {reason}") from error
        except Exception as error:  # whatever a template does with a row is that row's failure
            # The innermost frame of the template: its macros and blocks are frames too, and come behind their callers.
            own_file = compiled.root_render_func.__code__.co_filename
            steps = [step for frame, step in walk_tb(error.__traceback__) if frame.f_code.co_filename == own_file]
            where = f"line {compiled.get_corresponding_lineno(steps[-1])}: " if steps else ""
            raise RowError(f"{key}: {where}{_reason(error)}") from error

    return Template(key, uses, render)


class _WholeRow(dict[str, Any]):
    """`row`. Its columns come before the methods of a dict: `row.items` is the column where there is one."""


_NESTED = (dict, list, tuple)


def _as_text(value: Any, bounded: bool = True) -> str:
    """What a value is in a prompt. `bounded`: of a template, which may hold one list many times, as no row does."""
    if isinstance(value, str):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, _NESTED):
        if bounded:
            made(value)
        # NaN is written as it is, unlike in `tojson`: a model reads this, and one such number must not fail the row.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_as_jsonable)
    if isinstance(value, Undefined):
        return str(value)
    if callable(value):
        raise TypeError('this is a function; write value["name"] for a field of that name')
    if isinstance(value, Iterable):  # of `map` or `values()`: Python would show its address in memory
        return _as_text(list(value))
    if type(value).__module__.startswith("jinja2"):
        raise TypeError(f"this is one of Jinja's own objects ({type(value).__name__}), not a value of the row")
    return str(value)


def _missing_column(name: object) -> str:
    return f"column {name!r} is missing in this row"


def _reason(error: Exception) -> str:
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    message = f"{type(error).__name__} {error}" if isinstance(error, LookupError) else str(error)
    return _sentence(message) or type(error).__name__


_REASONS: Mapping[type[Exception], str] = {
    RecursionError: "the template recurses too deeply",
    MemoryError: "the template needs too much memory",
    UnicodeDecodeError: "a value is bytes that are not valid UTF-8",
}


def _sentence(message: str) -> str:
    return " ".join(message[:_SHOWN].split()).rstrip(".")


# In place of filters that Jinja makes for HTML.


def _tojson(value: Any, indent: int | str | None = None) -> str:
    """Plain JSON in the order of the value: nothing escaped for HTML, every letter as it is, integers exact."""
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, indent=indent, default=_as_jsonable)
    if indent is None:
        return encoder.encode(value)
    width = len(indent) if isinstance(indent, str) else indent
    if width > _WIDEST_INDENT:
        raise TooMuch(f"tojson would put {width:,} characters before lines, at most {_WIDEST_INDENT}")
    return joined("", encoder.iterencode(value))


def _as_jsonable(value: Any) -> Any:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Iterator | ValuesView | set | frozenset | range):
        return made(list(value))
    return _as_text(value)  # decimals, durations, UUIDs


@pass_environment
def _join(environment: Environment, value: Iterable[Any], d: Any = "", attribute: str | int | None = None) -> str:
    parts = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    return joined(_as_text(d), map(_as_text, parts))


@pass_environment
def _sum(environment: Environment, iterable: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
    return summed(map(make_attrgetter(environment, attribute), iterable), start)


# Left out: random choices, since a row must make the same request every time; what is for web pages; and Python's
# spelling of a value, whose lines are as long as the names around them.
_NO_FILTERS = {"random", "urlize", "xmlattr", "pprint"}
_FILTERS: Mapping[str, Callable[..., Any]] = {
    **{name: function for name, function in FILTERS.items() if name not in _NO_FILTERS},
    "tojson": _tojson,
    "string": lambda value: "None" if value is None else _as_text(value),
    "join": _join,
    "sum": _sum,
}
# These read their value as a prompt shows it: a null is empty, bytes are text, a nested value is JSON.
_OF_TEXT = ("center", "format", "indent", "replace", "wordwrap")


class _Missing(StrictUndefined):
    """Raises as soon as it is used. The message is about the row, not about Jinja."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        if self._undefined_obj is missing or isinstance(self._undefined_obj, _WholeRow):
            return _missing_column(self._undefined_name)
        if self._undefined_obj is None:
            return f"{self._undefined_name!r} cannot be read from null"
        return f"{self._undefined_name!r} is missing in a {type(self._undefined_obj).__name__} of this row"


class _Sandbox(BoundedSandbox):
    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, _WholeRow) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


_SANDBOX = _Sandbox(autoescape=False, undefined=_Missing, keep_trailing_newline=True, finalize=_as_text)
_SANDBOX.bound_filters(_FILTERS, dict.fromkeys(_OF_TEXT, _as_text))
_FUNCTIONS = {name: function for name, function in _SANDBOX.globals.items() if name != "lipsum"}  # random text
_SANDBOX.globals.clear()  # they are handed to the templates that call them: a column may have such a name
