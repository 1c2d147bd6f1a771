"""Which columns a template uses, which of them are optional, and which names in it are Jinja's own.

All of it is read from the syntax tree: the words of a prompt do not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
from jinja2 import meta, nodes

ROW = "row"


class Uses(msgspec.Struct, frozen=True):
    """What a template takes from a row."""

    columns: frozenset[str]  # that it names
    required: frozenset[str]  # those of them that must be in a row: no default, no `is defined`
    members: frozenset[tuple[str, ...]]  # the members that those must have: `o.text` is ("o", "text")
    needs_all: bool  # it uses the row as a whole
    uses_row: bool  # it has the name `row`
    renamed: Mapping[str, str]  # name in the compiled template → column, where Jinja has a meaning of its own for it
    functions: frozenset[str]  # global functions that it calls
    shadowed: Mapping[str, str]  # column → why the template does not show it, although it seems to name it
    text: str  # outside its tags


def plain_uses(columns: Iterable[str], text: str) -> Uses:
    """Of a template that is text and columns alone."""
    found = frozenset(columns)
    return Uses(found, found, frozenset(), False, False, {}, frozenset(), {}, text)


def names_in(tree: nodes.Template, functions: Collection[str]) -> Uses:
    """What a template takes from a row. Renames in the tree what Jinja would take for its own. `functions` are global:
    they are meant only where they are called."""
    # Shadowed names first: the renaming below hides what the author wrote.
    shadowed = dict(_shadowed(tree))
    renamed = _rename_own(tree, functions)
    undeclared = meta.find_undeclared_variables(tree)
    called = undeclared & set(functions)
    names = {renamed.get(name, name) for name in undeclared - called - {ROW}}
    of_row, needs_all = set[str | None](), False
    if ROW in undeclared:
        # Columns that are named by way of `row`: row["x"], row.x, row.get("x"), "x" in row. Any other use needs all.
        found: list[nodes.Getattr | nodes.Getitem] = [*tree.find_all(nodes.Getattr), *tree.find_all(nodes.Getitem)]
        accesses = [access for access in found if _name_of(access.node) == ROW]
        tests = [test for test in tree.find_all(nodes.Compare) if _tested_in_row(test) is not None]
        calls = {id(call.node): call for call in tree.find_all(nodes.Call)}
        of_row = {_column_named(access, calls.get(id(access))) for access in accesses} | set(map(_tested_in_row, tests))
        uses = sum(name.name == ROW for name in tree.find_all(nodes.Name))
        needs_all = None in of_row or uses > len(accesses) + len(tests)
    columns = names | {name for name in of_row if name is not None}
    needs = _Needs(renamed)
    needs.of_body(tree.body, frozenset())
    return Uses(
        columns=frozenset(columns),
        required=frozenset(needs.found & columns),
        members=frozenset(path for path in needs.members if path[0] in columns),
        needs_all=needs_all,
        uses_row=ROW in undeclared,
        renamed=renamed,
        functions=frozenset(called),
        shadowed=shadowed,
        text="".join(data.data for data in tree.find_all(nodes.TemplateData)),
    )


# Names that Jinja takes for its own.


def _rename_own(tree: nodes.Template, functions: Collection[str]) -> dict[str, str]:
    """Give the names that are columns, and that Jinja would take for its own, a name that nothing else has.

    `self` and `super` mean the template's blocks to Jinja; a function is meant only where it is called.
    """
    every = list(tree.find_all(nodes.Name))
    taken = {name.name for name in every}
    calls = list(tree.find_all(nodes.Call))
    own = {id(call.node) for call in calls if _name_of(call.node) in functions}
    # `self.title()` shows a block of the template once more.
    blocks = {block.name for block in tree.find_all(nodes.Block)}
    methods = [call.node for call in calls if isinstance(call.node, nodes.Getattr) and call.node.attr in blocks]
    own |= {id(method.node) for method in methods if _name_of(method.node) == "self"}
    renamed = {}
    for name in every:
        if (name.name in _OF_BLOCKS or name.name in functions) and id(name) not in own:
            safe = f"column_{name.name}"
            while safe in taken:
                safe += "_"
            renamed[safe] = name.name
            name.name = safe
    return renamed


_OF_BLOCKS = ("self", "super")


def _name_of(node: nodes.Node) -> str | None:
    return node.name if isinstance(node, nodes.Name) else None


def _shadowed(tree: nodes.Template) -> Iterator[tuple[str, str]]:
    """Columns that a template seems to name where the name is Jinja's, and how to write them instead."""
    hides_row = any(name.name == ROW and name.ctx != "load" for name in tree.find_all(nodes.Name))
    for place in _places(tree, _Place(tree, tree)):
        name, parent = _name_of(place.node), place.parent
        if name == "loop" and place.in_loop and not isinstance(parent, nodes.Call | nodes.Getattr):
            yield name, f"line {place.node.lineno}: inside a for loop, `loop` is Jinja's own; write row.loop"
        elif name in _OF_MACROS and place.in_macro and not isinstance(parent, nodes.Call):
            yield name, f"line {place.node.lineno}: inside a macro, `{name}` is Jinja's own; write row.{name}"
        elif (
            name == ROW
            and not hides_row
            and (
                isinstance(parent, nodes.Output) or (isinstance(parent, nodes.Filter) and parent.name in _OF_ONE_VALUE)
            )
        ):
            way = 'write row["row"] for the column, row | tojson for all columns'
            yield name, f"line {place.node.lineno}: `row` is the whole row; {way}"
        elif isinstance(place.node, nodes.Const) and isinstance(parent, nodes.Output):
            for spelt in _CONSTANTS.get(repr(place.node.value), ()):
                yield spelt, f'line {place.node.lineno}: `{spelt}` is a constant of Jinja; write row["{spelt}"]'


_OF_MACROS = ("caller", "varargs", "kwargs")
_CONSTANTS = {"True": ("true", "True"), "False": ("false", "False"), "None": ("none", "None")}
# Filters that make no sense on a whole row.
_OF_ONE_VALUE = ("trim", "upper", "lower", "title", "string", "default", "d")


class _Place(NamedTuple):
    node: nodes.Node
    parent: nodes.Node
    in_loop: bool = False
    in_macro: bool = False


def _places(node: nodes.Node, at: _Place) -> Iterator[_Place]:
    """Every node with the one around it, and whether it is in the body of a loop or of a macro."""
    for field, value in node.iter_fields():
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, nodes.Node):
                inner = at._replace(
                    node=child,
                    parent=node,
                    in_loop=at.in_loop or (isinstance(node, nodes.For) and field == "body"),
                    in_macro=at.in_macro or (isinstance(node, nodes.Macro | nodes.CallBlock) and field == "body"),
                )
                yield inner
                yield from _places(child, inner)


# Columns of the row as a whole: `row["x"]`, `row.x`, `row.get("x")`.


def _column_named(access: nodes.Getattr | nodes.Getitem, call: nodes.Call | None) -> str | None:
    if isinstance(access, nodes.Getitem):
        return _constant(access.arg)
    if call is None:
        return access.attr
    return _constant(call.args[0]) if access.attr == "get" and call.args else None


def _constant(node: nodes.Node) -> str | None:
    return node.value if isinstance(node, nodes.Const) and isinstance(node.value, str) else None


def _tested_in_row(test: nodes.Compare) -> str | None:
    """The column of `"x" in row`."""
    if len(test.ops) != 1 or test.ops[0].op not in ("in", "notin") or _name_of(test.ops[0].expr) != ROW:
        return None
    return _constant(test.expr)


# What a template needs. `known` are the columns that are there for sure at a point of the template:
# tested with `is defined` on the way there, or set by the template itself. A test counts for a name and for `row.name`;
# what the template sets hides the name alone.


class _Member(NamedTuple):
    column: nodes.Node
    path: tuple[str, ...]


_Known = frozenset[tuple[bool, str]]  # (by way of `row`, column)


class _Needs:
    """Walks a template as it runs. `found` are the columns whose use nothing guards, `members` their parts so used."""

    def __init__(self, renamed: Mapping[str, str]) -> None:
        self.found: set[str] = set()
        self.members: set[tuple[str, ...]] = set()
        self._renamed = renamed

    def of_body(self, body: Iterable[nodes.Node], known: _Known) -> _Known:
        """Statements in order; returns what is known after them."""
        for node in body:
            match node:
                case nodes.If():
                    # After it, a column is known when every way through it makes sure of that column.
                    ends, otherwise = [], known
                    for branch in (node, *node.elif_):
                        self._of(branch.test, otherwise)
                        ends.append(self.of_body(branch.body, otherwise | self._facts(branch.test, True)))
                        otherwise |= self._facts(branch.test, False)
                    known = frozenset.intersection(*ends, self.of_body(node.else_, otherwise))
                case nodes.For():
                    # What a body makes sure of is not known after the loop: the loop may run no turn at all.
                    self._of(node.iter, known)
                    inner = known | _set_by(node.target) | {(False, "loop")}
                    if node.test is not None:
                        self._of(node.test, inner)
                        inner |= self._facts(node.test, True)
                    self.of_body(node.body, inner)
                    self.of_body(node.else_, known)
                case nodes.Assign():
                    self._of(node.node, known)
                    known |= _set_by(node.target)
                case nodes.AssignBlock():
                    self.of_body(node.body, known)
                    known |= _set_by(node.target)
                case nodes.With():
                    self._of_each(node.values, known)
                    self.of_body(node.body, known.union(*map(_set_by, node.targets)))
                case nodes.Macro() | nodes.CallBlock():
                    self._of_each(node.defaults, known)
                    if isinstance(node, nodes.CallBlock):
                        self._of(node.call, known)
                    own = {(False, name) for name in _OF_MACROS}
                    self.of_body(node.body, known.union(*map(_set_by, node.args), own))
                    if isinstance(node, nodes.Macro):
                        known |= {(False, node.name)}
                case nodes.Block() | nodes.FilterBlock() | nodes.Scope():
                    if isinstance(node, nodes.FilterBlock):
                        self._of(node.filter, known)
                    self.of_body(node.body, known)
                case _:
                    self._of(node, known)
        return known

    def _of(self, node: nodes.Node, known: _Known) -> None:
        """An expression."""
        match node:
            case nodes.And() | nodes.Or():
                self._of(node.left, known)
                self._of(node.right, known | self._facts(node.left, isinstance(node, nodes.And)))
            case nodes.CondExpr():
                self._of(node.test, known)
                self._of(node.expr1, known | self._facts(node.test, True))
                if node.expr2 is not None:
                    self._of(node.expr2, known | self._facts(node.test, False))
            case nodes.Test(name="defined" | "undefined") if self._column(node.node) is not None:
                pass
            case nodes.Filter(name="default" | "d") if self._column(node.node) is not None:
                self._of_each([*node.args, *node.kwargs], known)
            case nodes.Call() if self._asked_of_row(node) is not None:
                self._of_each(node.args[1:], known)
            case nodes.Compare() if _tested_in_row(node) is not None:
                pass
            case _ if (column := self._column(node)) is not None:
                if column not in known:
                    self.found.add(column[1])
            case nodes.Test() | nodes.Filter(name="default" | "d") if (access := self._member(node.node)) is not None:
                self._of_each([access.column, *node.args], known)
            case nodes.Call(node=nodes.Getattr() as method):
                self._of_each([method.node, *node.iter_child_nodes(exclude=("node",))], known)
            case _ if (access := self._member(node)) is not None:
                if self._column(access.column) not in known:
                    self.members.add(access.path)
                self._of(access.column, known)
            case _:
                self._of_each(node.iter_child_nodes(), known)

    def _of_each(self, expressions: Iterable[nodes.Node], known: _Known) -> None:
        for one in expressions:
            self._of(one, known)

    def _column(self, node: nodes.Node | None) -> tuple[bool, str] | None:
        """The column that a name or an access to `row` stands for."""
        if isinstance(node, nodes.Name):
            return (False, self._renamed.get(node.name, node.name)) if node.ctx == "load" and node.name != ROW else None
        if isinstance(node, nodes.Getattr | nodes.Getitem) and _name_of(node.node) == ROW:
            column = _column_named(node, None)
            return (True, column) if column is not None else None
        return None

    def _member(self, node: nodes.Node | None) -> _Member | None:
        """What `o.text` and `row.o["text"]` stand for; None for anything else, a column itself included."""
        steps: list[str] = []
        while isinstance(node, nodes.Getattr | nodes.Getitem):
            step = node.attr if isinstance(node, nodes.Getattr) else _constant(node.arg)
            if step is None:
                return None
            steps.append(step)
            node = node.node
            if (column := self._column(node)) is not None:
                return _Member(node, (column[1], *reversed(steps)))
        return None

    def _asked_of_row(self, node: nodes.Node) -> str | None:
        """The column of `row.get("x")`."""
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and _name_of(node.node.node) == ROW:
            return _column_named(node.node, node) if node.args else None
        return None

    def _facts(self, test: nodes.Node, truth: bool) -> _Known:
        """What is known where a test came out as `truth`."""
        match test:
            case nodes.Not():
                return self._facts(test.node, not truth)
            case nodes.And() | nodes.Or():
                left, right = self._facts(test.left, truth), self._facts(test.right, truth)
                return left | right if isinstance(test, nodes.And) is truth else left & right
            case nodes.Test(name="defined" | "undefined"):
                return self._both(self._column(test.node)) if truth is (test.name == "defined") else frozenset()
            case nodes.Filter(name="default" | "d") if truth:
                # A default that counts as false, or none, did not come out as true: the column did.
                is_false = not test.args or (isinstance(test.args[0], nodes.Const) and not test.args[0].value)
                return self._both(self._column(test.node)) if is_false else frozenset()
            case nodes.Compare() if (column := _tested_in_row(test)) is not None:
                return self._both((True, column)) if truth is (test.ops[0].op == "in") else frozenset()
            case nodes.Call() if truth and len(test.args) == 1 and (column := self._asked_of_row(test)) is not None:
                return self._both((True, column))
            case _:
                return frozenset()

    def _both(self, column: tuple[bool, str] | None) -> _Known:
        return frozenset() if column is None else frozenset({(False, column[1]), (True, column[1])})


def _set_by(target: nodes.Node) -> _Known:
    names = [target] if isinstance(target, nodes.Name) else list(target.find_all(nodes.Name))
    return frozenset((False, name.name) for name in names)
