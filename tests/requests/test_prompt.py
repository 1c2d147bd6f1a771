"""Prompt templates: what they render, which columns they need, and what they can not be made to do."""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, StrictUndefined, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

import batchcall.requests.template_limits
from batchcall.requests.prompt import RowError, Template, TemplateError, compile_template
from batchcall.requests.template_limits import _MAKES, MAX_CHARACTERS, MAX_STEPS, _printed, _size, _width, _work

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def template(text: str) -> Template:
    return compile_template(text, key="request.prompt")


def render(text: str, /, **values: Any) -> str:
    return template(text).render(values)


def refusal(text: str, /, **values: Any) -> str:
    with pytest.raises(RowError) as refused:
        render(text, **values)
    return str(refused.value)


def test_a_column_stands_where_its_name_stands() -> None:
    assert render("Receipt:\n{{ text }}\n", text="2 apples") == "Receipt:\n2 apples\n"


def test_a_value_is_never_template_source() -> None:
    value = "{{ secret }}{% for x in y %}{# #}"

    assert render("{{ text }}", text=value, secret="s") == value
    assert render("{{ text | trim }}", text=value, secret="s") == value


@pytest.mark.parametrize("text", ["{{ value }}", "{{ value }}{% if true %}{% endif %}", "{{ [value] | join }}"])
@pytest.mark.parametrize(
    ("value", "rendered"),
    [
        (None, ""),
        (True, "True"),
        (2**80, "1208925819614629174706176"),
        (1.5, "1.5"),
        ("<b>&é</b>", "<b>&é</b>"),
        ("é".encode(), "é"),
        (Decimal("1.10"), "1.10"),
        (date(2024, 5, 1), "2024-05-01"),
        (["a", None], '["a",null]'),
        ({"src": "Zoë's", "n": {"b": [1, 2.5], "a": True}}, '{"src":"Zoë\'s","n":{"b":[1,2.5],"a":true}}'),
        ([("key", date(2024, 5, 1)), ("more", Decimal("1.10"))], '[["key","2024-05-01"],["more","1.10"]]'),
        ([float("nan")], "[NaN]"),
        ({}, "{}"),
        ("\ud83d", "\ud83d"),
    ],
)
def test_values_render_alike_in_every_kind_of_template(text: str, value: Any, rendered: str) -> None:
    assert render(text, value=value) == rendered


def test_a_nested_value_is_json_wherever_it_becomes_text_and_a_value_wherever_it_is_looked_into() -> None:
    meta = {"src": "mail", "tags": ["a", "b"]}

    def rendered(text: str) -> str:
        return render(text, meta=meta)

    assert rendered("{{ 'Meta: ' ~ meta }}") == 'Meta: {"src":"mail","tags":["a","b"]}'
    assert rendered("{{ meta | replace('a', 'o') }}") == '{"src":"moil","togs":["o","b"]}'
    assert rendered("{{ [meta, none] | join }}") == rendered("{{ meta }}") == rendered("{{ meta | string }}")
    assert rendered("{{ row }}") == '{"meta":{"src":"mail","tags":["a","b"]}}'
    assert rendered("{{ meta.tags | map('upper') | list }}") == '["A","B"]'
    assert rendered("{{ meta.src }} {{ meta['tags'][1] }} {{ meta.tags | length }}") == "mail b 2"
    assert rendered("{% for tag in meta.tags %}#{{ tag }} {% endfor %}") == "#a #b "
    assert rendered("{% for key, value in meta.items() %}{{ key }}={{ value }} {% endfor %}") == (
        'src=mail tags=["a","b"] '
    )
    assert rendered("{{ meta.tags | join(', ') }}; {{ meta | tojson }}") == (
        'a, b; {"src": "mail", "tags": ["a", "b"]}'
    )


def test_a_null_joined_to_text_is_nothing_too() -> None:
    assert render("{{ 'Name: ' ~ name }}", name=None) == "Name: "


ODD_TEXT = st.text(alphabet="{}%#-+ \n\rabxéd'\"|.0<&", max_size=30)


@given(st.lists(ODD_TEXT | st.sampled_from(["{{ a }}", "{{b}}", "{{- a -}}", "{# a #}", "{% raw %}", "{% endraw %}"])))
def test_any_text_renders_as_in_plain_jinja(pieces: list[str]) -> None:
    values = {"a": "<é>", "b": None, "x": 1, "d": ["&"]}
    text = "".join(pieces)

    assert outcome_here(text, values) == outcome_in_jinja(text, values)


def outcome_here(text: str, values: dict[str, Any]) -> str | type:
    try:
        return template(text).render(values)
    except (TemplateError, RowError) as error:
        return type(error)


def outcome_in_jinja(text: str, values: dict[str, Any]) -> str | type:
    plain = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, finalize=lambda value: "" if value is None else value
    )
    try:
        compiled = plain.from_string(text)
    except TemplateSyntaxError:
        return TemplateError
    try:
        return compiled.render(values)
    except Exception:
        return RowError


@given(st.dictionaries(st.text(min_size=1, max_size=3), JSON))
def test_whatever_is_in_a_row_it_renders_or_is_refused(values: dict[str, Any]) -> None:
    for text in TEMPLATES_OF_ALL_KINDS:
        rendered = text_or_refusal(text, {"x": 1, **values})

        assert isinstance(rendered, str) or str(rendered).startswith("request.prompt: ")


def text_or_refusal(text: Template, values: dict[str, Any]) -> str | RowError:
    try:
        return text.render(values)
    except RowError as error:
        return error


TEMPLATES_OF_ALL_KINDS = [
    template(text)
    for text in (
        "{{ x }}", "{{ x }}{{ a }}", "{{ row | tojson }}", "{{ row }}", "{{ x + 1 }}", "{{ x * x }}", "{{ x ** x }}",
        "{{ x % a }}", "{{ x.items() }}", "{{ x[0] }}", "{{ x | join(x) }}", "{{ 7 / x }}", "{{ x | indent(x) }}",
        "{{ x.y.z }}", "{{ x() }}", "{{ x | sort }}", "{{ x | round(2) | int }}", "{% for y in x %}{{ y }}{% endfor %}",
        "{{ x.format(x) }}", "{{ range(x) | list }}", "{{ x | replace(x, row) }}", "{{ x | default(a) }}",
    )
]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["{{ nope }}", "{{ nope | upper }}", '{{ row["nope"] }}', "{{ row.nope }}", "{{ nope.x }}", "{{ nope() }}"]
)
def test_a_missing_column_is_named(text: str) -> None:
    assert refusal(text, text="a") == "request.prompt: column 'nope' is missing in this row"


@pytest.mark.parametrize(
    ("user", "what"),
    [
        ({"name": "a"}, "is missing in a dict of this row"),
        (["a"], "is missing in a list of this row"),
        (None, "cannot be read from null"),
    ],
)
def test_a_missing_member_is_named_with_what_lacks_it(user: Any, what: str) -> None:
    assert refusal("{{ user.lang }}", user=user) == f"request.prompt: 'lang' {what}"


def test_a_missing_column_may_have_a_default() -> None:
    assert render("{{ nope | default('none') }}, {{ 1 if nope is defined else 0 }}") == "none, 0"


@pytest.mark.parametrize(
    ("text", "columns", "needs_all"),
    [
        ("no columns", set(), False),
        ("{{ a }} {{ _id }}", {"a", "_id"}, False),
        ("{% for x in xs %}{{ x }}{{ loop.index }}{% endfor %}", {"xs"}, False),
        ("{% set y = b %}{{ y }}{% if a %}{{ c | upper }}{% endif %}", {"a", "b", "c"}, False),
        ("{{ a ~ b }}", {"a", "b"}, False),
        ('{{ row["Receipt ID"] }}{{ row.text }}{{ row.get("x") }}', {"Receipt ID", "text", "x"}, False),
        ("{{ row | tojson }}", set(), True),
        ("{{ row[a] }}", {"a"}, True),
        ("{% for k, v in row.items() %}{{ k }}{% endfor %}", set(), True),
        ("{{ row.items }}", {"items"}, False),
        ("{{ range }}", {"range"}, False),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", set(), False),
        ("{% for row in rows %}{{ row.x }}{% endfor %}", {"rows"}, False),
        ("{% macro f(x) %}{{ x }}{{ y }}{% endmacro %}{{ f(1) }}", {"y"}, False),
    ],
)
def test_the_columns_that_a_template_needs_are_known(text: str, columns: set[str], needs_all: bool) -> None:
    compiled = template(text)

    assert compiled.uses.columns == columns
    assert compiled.uses.needs_all is needs_all


def test_a_column_may_have_the_name_of_a_method_or_function() -> None:
    values = {"items": [1], "range": 5, "keys": "k", "self": "me", "row": "r"}

    assert template("{{ row.items }}{{ row.keys }}{{ range }}").render(values) == "[1]k5"
    assert template('{{ row["self"] }}{{ row["row"] }}').render(values) == "mer"
    assert template("{{ range(2) | list }}").render(values) == "[0,1]"


_OWN_NAMES = ["self", "super", "loop", "range", "dict", "namespace", "cycler", "joiner", "lipsum", "caller", "varargs"]


@pytest.mark.parametrize(
    "name", [*_OWN_NAMES, "kwargs", "environment", "context", "column_self", "blocks", "_", "class"]
)
@pytest.mark.parametrize(
    "text",
    [
        "see {{ NAME }}",
        "see {{ NAME | trim }}",
        "{% if NAME is defined %}see {{ NAME }}{% endif %}",
        "{% for one in xs %}see {{ NAME_IN_LOOP }}{% endfor %}",
        "{% block title %}see {{ NAME }}{% endblock %}",
        "{% set column_ = NAME %}see {{ column_ }}",
        "{% macro show(x) %}see {{ x }}{% endmacro %}{{ show(NAME) }}",
        "see {{ row.NAME }}",
    ],
)
def test_a_column_with_a_name_of_jinjas_own_shows_its_value_everywhere(name: str, text: str) -> None:
    in_loop = "row.loop" if name == "loop" else name
    compiled = template(text.replace("NAME_IN_LOOP", in_loop).replace("NAME", name))

    assert name in compiled.uses.columns
    assert compiled.render({name: "https://issues.example/7", "xs": [1]}) == "see https://issues.example/7"


def test_a_function_and_a_column_of_one_name_stand_in_one_template() -> None:
    text = "{{ range }}: {% for i in range(2) %}{{ i }}{% endfor %}"

    assert render(text, range="5 km") == "5 km: 01"


def test_a_column_of_jinjas_own_name_and_columns_that_look_like_its_stand_in_name_stay_apart() -> None:
    text = "{{ self }} {{ column_self }} {{ column_self_ }} {{ self }}"

    assert render(text, self="a", column_self="b", column_self_="c") == "a b c a"


def test_a_column_with_a_name_of_jinjas_own_that_a_row_lacks_is_named_as_the_column() -> None:
    assert refusal("{{ self | upper }}", text="a") == "request.prompt: column 'self' is missing in this row"


def test_a_block_may_be_shown_once_more() -> None:
    assert render("{% block title %}{{ text }}{% endblock %} {{ self.title() }}", text="a") == "a a"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{% for x in xs %}{{ loop }}{% endfor %}", "loop"),
        ("{% for x in xs %}{% if loop %}{{ x }}{% endif %}{% endfor %}", "loop"),
        ("{% macro f(x) %}{{ kwargs }}{% endmacro %}{{ f(1) }}", "kwargs"),
        ("{% macro f(x) %}{{ caller | upper }}{% endmacro %}{{ f(1) }}", "caller"),
        ("Row: {{ row }}", "row"),
        ("Row: {{ row | upper }}", "row"),
        ("{{ true }}", "true"),
        ("{{ None }}", "None"),
    ],
)
def test_where_jinja_hides_a_column_of_that_name_the_template_says_how_to_write_it(text: str, name: str) -> None:
    assert f"row.{name}" in (said := template(text).uses.shadowed[name]) or f'row["{name}"]' in said


@pytest.mark.parametrize(
    "text",
    [
        "{% for x in xs %}{{ loop.index }}{{ loop.cycle('a', 'b') }}{% endfor %}",
        "{% macro f(x) %}{{ caller() }}{% endmacro %}{% call f(1) %}a{% endcall %}",
        "{{ row | tojson }}{% for name, value in row.items() %}{{ name }}{% endfor %}",
        "{% for row in rows %}{{ row }}{% endfor %}",
        "{% if x %}{{ loop }}{{ kwargs }}{% endif %}",
        "{% for x in loop %}{{ x }}{% else %}{{ loop }}{% endfor %}",
        "{{ x | default(true) }}{% if x is true %}a{% endif %}{{ 1 }}",
    ],
)
def test_what_is_meant_as_jinja_has_it_hides_no_column(text: str) -> None:
    assert template(text).uses.shadowed == {}


@pytest.mark.parametrize(
    ("text", "required"),
    [
        ("If lang is defined in the text, say so. {{ lang }}", {"lang"}),
        ("{# lang | default #}lang | default('x') {{ lang }}", {"lang"}),
        ("{% raw %}{{ lang | d('en') }}{% endraw %}{{ lang }}", {"lang"}),
        ("{{ lang | default('en') }}", set()),
        ("{{ lang | d }}", set()),
        ("{{ lang | upper | default('en') }}", {"lang"}),
        ("{{ lang.code | default('en') }}", {"lang"}),
        ("{{ lang | default(other) }}", {"other"}),
        ("{{ lang | default(other | default('en')) }}", set()),
        ("{{ lang | default('en') }}{{ lang }}", {"lang"}),
        ("{{ lang.code }}", {"lang"}),
        ("{{ (a ~ b) | default('en') }}", {"a", "b"}),
        ("{{ a if b is defined else c }}", {"a", "c"}),
        ("{{ a if a is defined }}", set()),
        ("{{ lang.code.short }}{{ lang.code is defined }}", {"lang"}),
        ("{% set a = b %}{{ a }}", {"b"}),
        ("{% if lang is defined %}{{ lang }}{% endif %}", set()),
        ("{% if lang is defined %}{% if b is defined and b %}{{ lang }}{{ b }}{% endif %}{% endif %}", set()),
        ("{% if lang is defined %}a{% else %}{{ lang }}{% endif %}", {"lang"}),
        ("{% if lang is not defined %}a{% else %}{{ lang }}{% endif %}", set()),
        ("{% if lang is undefined %}a{% elif a is defined %}{{ lang }}{{ a }}{% else %}{{ a }}{% endif %}", {"a"}),
        ("{% if lang is defined or b is defined %}{{ lang }}{% endif %}", {"lang"}),
        ("{% if not (lang is undefined or b is undefined) %}{{ lang }}{{ b }}{% endif %}", set()),
        ("{{ lang if lang is defined else 'en' }}", set()),
        ("{{ lang is defined and lang == 'en' }}", set()),
        ("{{ lang is undefined or lang == 'en' }}", set()),
        ("{% if lang | default %}{{ lang }}{% endif %}", set()),
        ("{% if lang | default('en') %}{{ lang }}{% endif %}", {"lang"}),
        ("{% if lang %}{{ lang }}{% endif %}", {"lang"}),
        ("{% set lang = lang | default('en') %}{{ lang }}", set()),
        ("{% if lang is not defined %}{% set lang = 'en' %}{% endif %}{{ lang }}", set()),
        ("{% if a %}{% set lang = 'en' %}{% endif %}{{ lang }}", {"a", "lang"}),
        ("{% for x in xs if lang is defined %}{{ lang }}{% endfor %}", {"xs"}),
        ("{% for x in xs | default([]) %}{{ x }}{{ lang }}{% endfor %}", {"lang"}),
        ("{% if row.lang is defined %}{{ row.lang }}{{ lang }}{% endif %}", set()),
        ('{% if "lang" in row %}{{ row["lang"] }}{% endif %}', set()),
        ('{{ row.get("lang") }}{{ row.get("b", c) }}', {"c"}),
        ('{{ row["lang"] | default("en") }}{{ row.b }}', {"b"}),
        ("{{ self | default('x') }}{{ range }}", {"range"}),
        ("{{ row | tojson }}{{ lang }}", {"lang"}),
        ("{% macro f(x) %}{{ x }}{{ y }}{% endmacro %}{{ f(z) }}", {"y", "z"}),
        ("{% with a = b %}{{ a }}{% endwith %}", {"b"}),
        ("{% with a = b %}{% endwith %}{{ a }}", {"a", "b"}),
        ("{{ f }}{% macro f(x=y) %}{{ x }}{{ caller }}{{ varargs }}{{ kwargs }}{% endmacro %}", {"f", "y"}),
        ("{% macro f() %}a{% endmacro %}{{ f }}", set()),
        ("{% set lang %}a{% endset %}{{ lang }}", set()),
        ("{% set lang = 'a' %}{{ lang }}", set()),
        ("{% for x in xs %}{{ x }}{{ loop.index }}{% else %}{{ x }}{% endfor %}", {"x", "xs"}),
        ("{% for x in xs if x and y %}{% endfor %}", {"xs", "y"}),
        ("{% filter upper %}{{ lang }}{% endfilter %}", {"lang"}),
        ("{% filter default(y) %}{{ lang }}{% endfilter %}", {"lang", "y"}),
        ("{% block b %}{{ lang }}{% endblock %}", {"lang"}),
    ],
)
def test_a_column_is_required_unless_every_use_of_it_is_guarded(text: str, required: set[str]) -> None:
    assert template(text).uses.required == required


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("{{ o.text }}", {("o", "text")}),
        ('{{ row.o["a"].b | trim }}', {("o", "a", "b")}),
        ("{% if o.text %}{{ o.text }}{% endif %}", {("o", "text")}),
        ("{{ o.text | default('x') }}{{ o.a is none }}{{ o.get('x') }}{{ o.items() | list }}{{ o[0].text }}", set()),
        ("{{ o.get(p.q) }}{{ o.a.upper() }}", {("p", "q"), ("o", "a")}),
        (
            "{% if o is defined %}{{ o.text }}{% endif %}{% for o in os %}{{ o.text }}{{ loop.index }}{% endfor %}",
            set(),
        ),
    ],
)
def test_members_of_a_column_that_a_template_cannot_do_without_are_known(text: str, members: set[Any]) -> None:
    assert template(text).uses.members == members


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{ xs | map('upper') }}", '["A","B"]'),
        ("{{ address.values() }}", '["Ulm"]'),
        ("{{ xs | select('equalto', 'a') ~ '!' }}", '["a"]!'),
        ("{{ range(2) }}", "[0,1]"),
    ],
)
def test_what_a_filter_gives_bit_by_bit_is_shown_as_a_list_and_not_as_python_names_it(text: str, shown: str) -> None:
    assert render(text, xs=["a", "b"], address={"city": "Ulm"}) == shown


@pytest.mark.parametrize("text", ["{{ namespace(a=1) }}", "{{ cycler('a') }}", "{{ joiner() }}"])
def test_an_object_of_jinjas_own_is_never_sent(text: str) -> None:
    assert "a function" in (said := refusal(text)) or "Jinja's own" in said


def test_a_method_is_not_rendered_by_mistake() -> None:
    assert 'value["name"]' in refusal("{{ address.items }}", address={"city": "Ulm"})


def test_tojson_is_plain_json() -> None:
    value = {"b": "<é>'&", "a": [2**80, None, True, 1.5, date(2024, 5, 1), Decimal("1.10"), b"x"]}

    text = render("{{ value | tojson }}", value=value)

    assert text == ("""{"b": "<é>'&", "a": [1208925819614629174706176, null, true, 1.5, "2024-05-01", "1.10", "x"]}""")
    assert render("{{ row | tojson }}", at=datetime(2024, 5, 1, 12)) == '{"at": "2024-05-01T12:00:00"}'
    assert json.loads(render("{{ value | tojson(indent=2) }}", value=[1])) == [1]
    assert "JSON" in refusal("{{ value | tojson }}", value=float("nan"))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("one\n{{ text", "request.prompt: line 2: "),
        ("{% for x in xs %}", "request.prompt: line 1: "),
        ("a\nb {{ text | nofilter }}", "request.prompt: line 2: No filter named 'nofilter'"),
        ("{{ xs | random }}", "No filter named 'random'"),
        ("{% include 'x' %}", "line 1: {% include %} cannot be used in a prompt"),
        ("\n{% extends 'x' %}", "line 2: {% extends %} cannot be used in a prompt"),
        ("{% import 'x' as y %}", "{% import %} cannot be used in a prompt"),
        ("{% from 'x' import y %}", "{% from %} cannot be used in a prompt"),
        ("{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}", "nested too deep"),
        ("{% for x in xs %}" * 40 + "{% endfor %}" * 40, "nested too deep"),
    ],
)
def test_a_broken_template_is_told_with_its_key_and_line(text: str, what: str) -> None:
    with pytest.raises(TemplateError) as refused:
        template(text)

    assert what in str(refused.value)
    assert refused.value.key == "request.prompt"


@pytest.mark.parametrize(
    "text",
    [
        "{{ text.__class__ }}",
        "{{ text['__class__'] }}",
        "{{ text | attr('__class__') }}",
        "{{ '{0.__class__}'.format(text) }}",
        "{{ f.__globals__ }}{% macro f() %}{% endmacro %}",
        "{{ xs.append(1) }}",
        "{{ row.update(a=1) }}",
        "{{ lipsum.__globals__ }}",
    ],
)
def test_a_template_cannot_reach_beyond_its_row(text: str) -> None:
    assert refusal(text, text="a", xs=[1]).startswith("request.prompt: ")


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'x' * 10**10 }}",
        "{{ 10**10 * 'x' }}",
        "{{ [big] * 100000 }}",
        "{{ [1] * 10**10 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ '%010000000000d' % 1 }}",
        "{{ '%*d' % (10**9, 1) }}",
        "{{ '%.10000000000f' | format(1) }}",
        "{{ '%(a)s%(a)s%(a)s%(a)s%(a)s' % {'a': big} }}",
        "{{ '{:>10000000000}'.format(1) }}",
        "{{ '{:>{w}}'.format(1, w=10**9) }}",
        "{{ '{0}{0}{0}{0}{0}'.format(big) }}",
        "{{ '{a:>10000000000}'.format_map({'a': 1}) }}",
        "{{ 'x'.center(10**10) }}",
        "{{ 'x'.ljust(10**10) }}",
        "{{ 'x' | attr('rjust')(10**10) }}",
        "{{ ['x'] | map('center', 10**10) | list }}",
        "{{ 'x' | center(10**10) }}",
        "{{ 'x\ny' | indent(10**10) }}",
        "{{ '\t'.expandtabs(10**10) }}",
        "{{ tabs.expandtabs(100000) }}",
        "{{ big.replace('x', big) }}",
        "{{ big | replace('', big) }}",
        "{{ big.join([big] * 9) }}",
        "{{ ([big] * 9) | join }}",
        "{{ 'x'.translate({120: big}) }}",
        "{{ (1).to_bytes(10**10, 'big') }}",
        "{{ [1] | batch(10**10, 0) | list }}",
        "{{ [1] | slice(10**10) | list }}",
        "{{ 1 | round(10**10, 'ceil') }}",
        "{{ xs | tojson(indent=10**8) }}",
        "{{ big | wordwrap(1, true, big) }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(100000) %}{{ big }}{% endfor %}",
        "{% set x %}{% for i in range(100000) %}{{ big }}{% endfor %}{% endset %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% set n = namespace(x=big) %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x=big) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x=10) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
    ],
)
def test_a_template_cannot_eat_the_machine(text: str) -> None:
    said = refusal(text, big="x" * 1_000_000, xs=[1], tabs="\t" * 100)

    # By a limit of ours, before the memory is full.
    assert re.search(
        "would be longer than|would take more than|recurses too deep|would put .* characters|Range too big|translate",
        said,
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{{ ('x' * 4194305) | length }}", "the text would be longer than 4,194,304 characters"),
        ("{{ ('x' * 10**15) | length }}", "the text would be longer than 4,194,304 characters"),
        ("{{ (10**15 * 'x') | length }}", "the text would be longer than 4,194,304 characters"),
        ("{{ ([1] * 100001) | length }}", "a list would be longer than 100,000 items"),
        ("{{ ([1] * 10**15) | length }}", "a list would be longer than 100,000 items"),
        ("{{ ((1,) * 10**15) | length }}", "a list would be longer than 100,000 items"),
        ("{{ ([big] * 5) | length }}", "the text would be longer than 4,194,304 characters"),
        ("{{ ('%4194305d' % 1) | length }}", "the text would be longer than 4,194,304 characters"),
        ("{{ 2 ** 131072 > 1 }}", "a number would be longer than 131,072 bits"),
        ("{{ (items + items) | length }}", "the text would be longer than 4,194,304 characters"),
        (
            "{{ '{:>2000000}{:>2000000}{:>999999}'.format(1, 2, 3) }}",
            "the text would be longer than 4,194,304 characters",
        ),
    ],
)
def test_what_is_too_long_is_refused_before_it_is_made(text: str, what: str) -> None:
    row = {"big": "x" * 1_000_000, "items": [0] * 2_100_000}

    assert refusal(text, **row) == f"request.prompt: line 1: {what}"


def test_what_is_just_short_enough_is_made() -> None:
    assert render("{{ ('x' * 4194304) | length }} {{ ([1] * 100000) | length }}") == "4194304 100000"


@pytest.mark.parametrize("text", ["{{ text }}", "{{ text | lower }}", "{{ text }}{{ row.text }}"])
def test_a_prompt_has_a_longest_length(text: str) -> None:
    longer = "x" * (MAX_CHARACTERS + 1)

    assert refusal(text, text=longer) == "request.prompt: the text would be longer than 4,194,304 characters"
    assert len(render("{{ text }}", text=longer[1:])) == MAX_CHARACTERS


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{ 'ab' * 3 + 'c' }} {{ 2 ** 10 }} {{ '%05.1f|%s' % (1.25, 'x') }} {{ 7 % 4 }}", "abababc 1024 001.2|x 3"),
        ("{{ '{:,.2f} {n}'.format(1234.5, n=1) }}", "1,234.50 1"),
        ("{{ 'a-b'.replace('-', '+') }} {{ ','.join(['a', 'b']) }} {{ 'a'.center(3) }}.", "a+b a,b  a ."),
        ("{{ [1, none, 'x'] | join(', ') }} {{ users | join('/', attribute='n') }}", "1, , x a/b"),
        ("{{ 'a\nb' | indent(2) }} {{ 'aaa' | replace('a', 'b', 2) }} {{ 'a' | center(3) }}.", "a\n  b bba  a ."),
        ("{{ [1,2,3] | batch(2, 0) | list }} {{ [1,2,3] | slice(2) | list }}", "[[1,2],[3,0]] [[1,2],[3]]"),
        ("{{ 2.5 * 2 }} {{ 2 * 2.5 }} {{ [1] * 2 }} {{ 2 * (1,) }} {{ 2 * 'ab' }}", "5.0 5.0 [1,1] [1,1] abab"),
        (
            "{{ '1-1' | replace(1, 22) }} {{ users | join('/', 'n') }} {{ users | map(attribute='n') | join }}",
            "22-22 a/b ab",
        ),
        ("{{ 2.567 | round(1) }} {{ 'a b c' | wordwrap(3) }} {{ '%s' | format('x') }}", "2.6 a b\nc x"),
    ],
)
def test_what_is_bounded_still_works(text: str, rendered: str) -> None:
    assert render(text, users=[{"n": "a"}, {"n": "b"}]) == rendered


def test_an_error_names_the_line_of_the_template() -> None:
    assert refusal("one\ntwo\n{{ text + 1 }}", text="a").startswith("request.prompt: line 3: ")
    assert refusal("{{ 1 / zero }}", zero=0) == "request.prompt: line 1: division by zero"


def test_bytes_that_are_no_text_are_refused() -> None:
    for text in ("{{ value }}", "{{ value | trim }}", "{{ row | tojson }}"):
        assert refusal(text, value=b"\xff").endswith("a value is bytes that are not valid UTF-8")
    assert render("{{ value | upper }}", value=b"abc") == "ABC"


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    for text in ("{{ value }}", "{{ value | string }}"):
        assert "digits" in refusal(text, value=10**5000)


NESTED = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
DOUBLING = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"


@pytest.mark.parametrize(
    "text",
    [
        NESTED,
        "{% for a in xs %}{% for b in xs %}{% for c in xs %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) if i is odd %}{% for x in xs %}{% endfor %}{% endfor %}",
        "{% for i in range(10000) %}{% set a = long | upper %}{% endfor %}",
        "{% for i in range(10000) %}{% set a = long.upper() %}{% endfor %}",
        "{% for i in range(10000) %}{% set a = long ~ i %}{% endfor %}",
        "{% for i in range(10000) %}{% set a = long + 'x' %}{% endfor %}",
        "{% for i in range(10000) %}{% set a = range(10000) | list %}{% endfor %}",
        "{% for i in range(10000) %}{% set a = xs | sort | join %}{% endfor %}",
        DOUBLING,
        "{% for x in xs recursive %}{{ loop(xs) }}{% endfor %}",
    ],
)
def test_work_without_bound_ends_its_row(text: str) -> None:
    row = {"xs": list(range(2_000)), "long": "x" * 1_000_000}

    with pytest.raises(RowError, match=r"the template would take more than 1,000,000 steps|recurses too deep"):
        template(text).render(row)


NESTED_LISTS = "{% set a = [1] * 1000 %}{% set b = [a] * 1000 %}{% set c = [b] * 1000 %}"
EQUAL_LISTS = "{% set a = [1] * 1000 %}{% set b = [1] * 1000 %}{% set a = [a] * 100000 %}{% set b = [b] * 100000 %}"
GROWING = "{% set n = namespace(x='aé') %}{% for i in range(60) %}{% set n.x = MORE %}{% endfor %}"
PAIRS = GROWING.replace("MORE", "(n.x, n.x)")


@pytest.mark.parametrize(
    "text",
    [
        NESTED_LISTS + "{{ c }}",
        NESTED_LISTS + "{{ 'x' ~ c }}",
        NESTED_LISTS + "{{ c | tojson }}",
        NESTED_LISTS + "{{ c | pprint }}",
        NESTED_LISTS + "{{ c | upper }}",
        NESTED_LISTS + "{{ [c] | map('string') | join }}",
        NESTED_LISTS + "{{ 'x' | replace('x', c) }}",
        NESTED_LISTS + "{{ '{!r}'.format(c) }}",
        NESTED_LISTS + "{{ '{}'.format(c) }}",
        NESTED_LISTS + "{{ '%s' % c }}",
        NESTED_LISTS + "{{ '%s' | format(c) }}",
        "{{ [range(100000)] * 100000 }}",
        "{{ [{1: range(100000)}.values()] * 100000 }}",
        "{{ [{1: range(100000)}.items()] * 100000 }}",
        PAIRS + "{{ n.x }}",
        NESTED_LISTS + "{{ [1] | map(attribute=c) | list }}",
        GROWING.replace("MORE", "[{'a' * 2 ** (i // 3): n.x}, {'b': n.x}]") + "{{ n.x | pprint }}",
        "{{ deep | tojson(indent=16) | length }}",
        "{{ deep | pprint | length }}",
        "{{ {long: xs * 50} | pprint | length }}",
        "{% set n = 2 ** 60000 %}{{ ('%x' * 20000 % ((n,) * 20000)) | length }}",
        "{% set l = [1] * 100000 %}{{ '%s' * 100 % ((l,) * 100) }}",
        "{{ ('é' * 4000000) | urlencode | length }}",
        "{{ ('&' * 4000000) | e | length }}",
        GROWING.replace("MORE", "n.x.encode().hex()"),
        GROWING.replace("MORE", "n.x.encode('utf-32').decode('latin-1')"),
        GROWING.replace("MORE", "n.x | tojson | tojson"),
        "{{ day.strftime('%999Y' * 100000) | length }}",
    ],
)
def test_a_value_or_text_of_little_memory_is_not_made_a_long_text(text: str) -> None:
    deep = list(range(20_000))
    for _ in range(300):
        deep = [deep]
    row = {"deep": deep, "long": "x" * 1_000_000, "xs": list(range(2_000)), "day": date(2024, 5, 1)}

    assert "the text would be longer than 4,194,304 characters" in refusal(text, **row)


@pytest.mark.parametrize(
    "text",
    [
        "{{ long | wordwrap(20) | length }}",
        "{{ ('x' * 2000000) | wordwrap(20) | length }}",
        "{{ (' ' * 1900000) | wordwrap(20) | length }}",
        "{{ ('\n' * 1000000) | wordwrap(20) | length }}",
        "{{ (long + long + long) | select('eq', 'y') | list }}",
        "{{ (long + long + long) | list | length }}",
        "{{ (long + long + long) | join | length }}",
        "{{ ''.join(long + long + long) | length }}",
        "{% for i in range(100) %}{% set y = long | striptags %}{% endfor %}",
        "{% for i in range(1000) %}{% set y = ''.join(long) %}{% endfor %}",
        "{% for i in range(100000) %}{% set y %}{{ long }}{% endset %}{% endfor %}",
        "{% for i in range(100000) %}{% set y = long[1:] %}{% endfor %}",
        "{% for i in range(100000) %}{% if 'zz' in long %}{% endif %}{% endfor %}",
        "{% macro f() %}{{ varargs | length }}{% endmacro %}{% for i in range(100000) %}{{ f(*xs) }}{% endfor %}",
        "{% set l = [1] * 100000 %}{{ ([l] * 100000) | sum(start=[]) | length }}",
        "{% for x in [1] recursive %}{{ loop(range(99999) | batch(1)) ~ loop(range(99999) | select) }}{% endfor %}" * 9,
        EQUAL_LISTS + "{{ a == b }}",
        EQUAL_LISTS + "{{ a in [b] }}",
        EQUAL_LISTS + "{{ a is eq(b) }}",
        EQUAL_LISTS + "{{ [a, b] | sort }}",
        EQUAL_LISTS + "{{ [a].index(b) }}",
        "{{ long.rfind('b' + long) }}",
        "{{ long.strip('b' * 1000000 + 'x') }}",
        "{{ long | trim('b' * 1000000 + 'x') }}",
        "{% for i in range(100) %}{% set y = {}.fromkeys(long) %}{% endfor %}",
        PAIRS + "{{ {n.x: 1} }}",
        PAIRS + "{{ {1: 1}[n.x] }}",
        PAIRS + "{{ {1: 1}.get(n.x) }}",
        PAIRS + "{{ [n.x] | unique | list }}",
    ],
)
def test_work_on_each_part_of_a_value_is_counted_by_its_parts(text: str) -> None:
    row = {"xs": list(range(2_000)), "long": "x" * 1_000_000}

    assert "the template would take more than 1,000,000 steps" in refusal(text, **row)


@pytest.mark.parametrize("text", ["{{ {n.x: 1} }}", "{{ [n.x] | unique | list }}", "{{ n.x }}", "{{ n.x | upper }}"])
def test_a_value_of_many_levels_ends_its_row_and_not_the_process(text: str) -> None:
    deep = "{% set n = namespace(x=1) %}{% for i in range(20000) %}{% set n.x = (n.x,) %}{% endfor %}"

    assert refusal(deep + text) == "request.prompt: line 1: the template recurses too deeply"


@pytest.mark.parametrize(
    "text",
    [
        "{{ digits | int(base=16) > 1 }}",
        "{{ [digits] | map('int', base=16) | list }}",
        "{{ (number // 3) > 1 }}",
        "{{ number % 3 }}",
        "{{ (number - 1) > 1 }}",
        "{{ (1).from_bytes(digits.encode(), 'big') > 1 }}",
    ],
)
def test_a_number_has_a_longest_length_however_it_was_made(text: str) -> None:
    row = {"digits": "f" * 1_000_000, "number": 1 << 1_000_000}

    assert refusal(text, **row) == "request.prompt: line 1: a number would be longer than 131,072 bits"


@pytest.mark.parametrize(
    "text",
    [
        "{{ long.encode('punycode') | length }}",
        "{{ long.encode('idna') | length }}",
        "{{ long.encode('ascii', 'namereplace') | length }}",
        "{{ long.encode().decode('punycode') | length }}",
    ],
)
def test_an_encoding_that_may_take_long_takes_short_texts_only(text: str) -> None:
    assert "is not a usual one would be longer than 10,000 characters" in refusal(text, long="é" * 1_000_000)
    assert render(text, long="e" * 50)


def test_ten_thousand_characters_may_be_put_into_an_unusual_encoding() -> None:
    text = "{{ long.encode('punycode') | length }}"

    assert render(text, long="e" * 10_000) == "10001"
    assert "longer than 10,000 characters" in refusal(text, long="e" * 10_001)


def test_what_stands_in_every_line_is_refused_with_the_filter_and_its_number() -> None:
    for text in ("{{ [1] | tojson(indent=17) }}", "{{ 'a' | wordwrap(2, true, 'x' * 17) }}"):
        name = "tojson" if "tojson" in text else "wordwrap"
        assert refusal(text) == (
            f"request.prompt: line 1: {name} would put 17 characters before or between lines, at most 16"
        )


def test_a_margin_of_sixteen_may_stand_in_every_line() -> None:
    assert render("{{ [1] | tojson(indent=16) }}") == "[\n" + " " * 16 + "1\n]"
    assert render("{{ 'a b' | wordwrap(1, true, 'x' * 16) }}") == "a" + "x" * 16 + "b"


def test_json_on_one_line_is_measured_without_a_margin() -> None:
    deep: Any = [0] * 700_000
    for _ in range(12):
        deep = [deep]

    assert render("{{ deep | tojson | length }}", deep=deep) == str(700_000 + 2 * 699_999 + 26)


@pytest.mark.parametrize(("turns", "is_too_much"), [(100, False), (101, True)])
def test_a_template_may_take_as_many_steps_as_the_limit_says(
    turns: int, is_too_much: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batchcall.requests.template_limits, "MAX_STEPS", 100)
    text = "{% for x in xs %}{% endfor %}"

    if is_too_much:
        assert "the template would take more than 100 steps" in refusal(text, xs=[0] * turns)
    else:
        assert render(text, xs=[0] * turns) == ""


def test_membership_in_long_lists_and_objects_may_be_asked_for_many_items() -> None:
    text = "{% for x in xs if x in xs and x not in ids %}{% endfor %}{{ xs | select('in', xs) | list | length }}"

    assert render(text, xs=list(range(1_000)), ids={str(i): [i] for i in range(1_000)}) == "1000"


def test_a_column_longer_than_a_prompt_may_be_cut_to_a_part_of_it() -> None:
    longer = "x" * (MAX_CHARACTERS + 1)

    assert (
        render("{{ (text | trim)[:2] }} {{ text.upper()[:2] }} {{ text | truncate(5) }}", text=longer) == "xx XX xx..."
    )


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{ [[1], [2, 3]] | sum(start=[]) }} {{ [[1]] | map('list') | sum(start=[0]) }}", "[1,2,3] [0,1]"),
        ("{{ [1, 2.5] | sum }} {{ users | sum('n') }} {{ users | sum(attribute='n', start=1) }}", "3.5 3 4"),
        ("{{ 7 // 2 }} {{ 7 / 2 }} {{ 7 - 2 }} {{ 'é'.encode('utf-8') | length }} {{ 255 | string | int(base=16) }}",
         "3 3.5 5 2 597"),
        ("{{ day.strftime('%d %B') }} {{ 'abc'[1:] }} {{ users[0]['n'] }} {{ {'a' ~ 1: 2} }}", '01 May bc 1 {"a1":2}'),
        ("{{ 1 < 2 < 3 }} {{ users == users }} {{ 1 in [1] }} {{ nope is defined }} {{ 'n' in users[0] }}",
         "True True True False True"),
        ("{% for x in tree recursive %}{{ x.n }}{{ loop(x.of) if x.of }}{{ loop.last }}{% endfor %}", "12TrueTrue"),
        ("{% for x in users %}{% set y = ','.join(['a', 'b']).replace('a', 'c') %}{{ y }} {% endfor %}", "c,b c,b "),
        ("{{ {1: 2} | pprint }} {{ none | string }} {{ {1: none} | string }}", "{1: 2} None {\"1\":null}"),
        ("{{ tree | pprint }} {{ users | selectattr('n', 'gt', 1) | list }}",
         "[{'n': 1, 'of': [{'n': 2}]}] [{\"n\":2}]"),
    ],
)  # fmt: skip
def test_what_is_counted_by_its_parts_still_works(text: str, rendered: str) -> None:
    row = {"users": [{"n": 1}, {"n": 2}], "day": date(2024, 5, 1), "tree": [{"n": 1, "of": [{"n": 2}]}]}
    if "tree rec" in text:
        row["tree"] = [{"n": 1, "of": [{"n": 2, "of": []}]}]

    assert render(text, **row) == rendered


# A call is 10 steps; so is an operator. 1,000 characters or 2 items that are gone through are a step more, each time.
LONG, WORDS, LINES = "x" * 10_000, "ab cd " * 1_000, "ab\n" * 1_000
ROW = {"long": LONG, "words": WORDS, "lines": LINES, "xs": list(range(100)), "ss": ["ab" * 500] * 10, "n": 5}


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("{{ n }}", 0),
        ("{{ long }}", 0),
        ("{{ n }}{{ n }}", 0),
        ("{{ n + 1 }}", 10),
        ("{{ long + long }}", 50),
        ("{{ long * 2 }}", 50),
        ("{{ xs + xs }}", 110),
        ("{{ xs * 2 }}", 110),
        ("{{ '%s' % long }}", 30),
        ("{{ n ** 2 }}", 10),
        ("{% for x in xs %}{% endfor %}", 100),
        ("{% for x in [] %}{% endfor %}", 0),
        ("{% for x in xs %}{{ x }}{% endfor %}", 100),
        ("{% for x in nested recursive %}{{ loop(x) if x is iterable }}{% endfor %}", 25),
        ("{{ n == n }}", 0),
        ("{{ long == long }}", 20),
        ("{{ long == 'x' }}", 0),
        ("{{ xs == xs }}", 20),
        ("{{ ss == ss }}", 2),
        ("{{ nested == nested }}", 0),
        ("{{ long < long }}", 20),
        ("{{ 'x' in long }}", 10),
        ("{{ 1 in xs }}", 10),
        ("{{ 'a' in d }}", 0),
        ("{{ n in [1, 2] }}", 0),
        ("{{ n in xs }}", 10),
        ("{{ long in ss }}", 11),
        ("{{ xs in nested }}", 10),
        ("{{ long is eq(long) }}", 20),
        ("{{ 1 is in(xs) }}", 10),
        ("{{ 'a' is in(d) }}", 0),
        ("{{ long is lower }}", 10),
        ("{{ long[1:] | length }}", 38),
        ("{{ xs[1:] }}", 49),
        ("{{ xs[n] }}", 0),
        ("{{ d['a'] }}", 0),
        ("{{ d[long] is defined }}", 10),
        ("{{ {long: 1} | length }}", 30),
        ("{{ {'a': 1} }}", 0),
        ("{{ {1: 1}[n] is defined }}", 0),
        ("{{ long | upper | length }}", 70),
        ("{{ long | length }}", 30),
        ("{{ long | list | length }}", 15_050),
        ("{{ long | title | length }}", 1_070),
        ("{{ long | wordcount }}", 1_030),
        ("{{ long | urlencode | length }}", 1_070),
        ("{{ long | striptags | length }}", 1_070),
        ("{{ long | indent | length }}", 1_070),
        ("{{ words | wordwrap(20) | length }}", 3_061),
        ("{{ words | wordwrap | length }}", 3_061),
        ("{{ long | wordwrap(100) | length }}", 5_200),
        ("{{ lines | wordwrap(20) | length }}", 6_547),
        ("{{ long | trim('xy') }}", 50),
        ("{{ long | trim }}", 50),
        ("{{ long.strip('xy') }}", 40),
        ("{{ long.rfind('ab') }}", 40),
        ("{{ long.find('ab') }}", 20),
        ("{{ long.upper() | length }}", 60),
        ("{{ long.title() | length }}", 60),
        ("{{ long.replace('x', 'y') | length }}", 61),
        ("{{ raw.upper() | length }}", 60),
        ("{{ xs | sort | length }}", 200),
        ("{{ ss | sort | length }}", 56),
        ("{{ xs | max }}", 80),
        ("{{ ss | unique | list | length }}", 66),
        ("{{ xs | sum }}", 70),
        ("{{ nested | sum(start=[]) }}", 26),
        ("{{ xs | join | length }}", 90),
        ("{{ ss | join | length }}", 75),
        ("{{ ''.join(ss) | length }}", 55),
        ("{{ xs | map('string') | list | length }}", 2_210),
        ("{{ xs | select('eq', 3) | list }}", 90),
        ("{{ xs | tojson | length }}", 90),
        ("{{ d | dictsort }}", 22),
        ("{{ xs | reverse | list | length }}", 210),
        ("{{ nested | pprint }}", 21),
        ("{{ xs.index(3) }}", 70),
        ("{{ xs.count(3) }}", 70),
        ("{{ d.get('a') }}", 11),
        ("{{ d.get(long) }}", 31),
        ("{{ d.keys() | list }}", 34),
        ("{{ range(100) | list | length }}", 250),
        ("{{ xs | batch(2) | list | length }}", 160),
        ("{{ [long] | map('upper') | join | length }}", 130),
        ("{{ long | format }}", 50),
        ("{{ long | e | length }}", 70),
        ("{{ long | replace('x','y') | length }}", 70),
        ("{{ long | truncate(5) }}", 30),
        ("{{ long | string | length }}", 70),
        ("{{ long | first }}", 30),
        ("{% macro f(x) %}{{ x }}{% endmacro %}{{ f(n) }}", 10),
        ("{% macro f(x) %}{{ x }}{% endmacro %}{{ f(long) }}", 50),
        ("{% set y %}{{ long }}{% endset %}{{ n }}", 10),
        ("{{ long ~ long }}", 81),
        ("{{ {}.fromkeys(long) | length }}", 1_050),
        ("{{ '{}'.format(long) }}", 40),
        ("{{ '{:>9999}'.format(1) }}", 28),
        ("{{ long is eq('x') }}", 10),
        ("{{ named is eq(named) }}", 30),
        ("{{ 'k' is in(named) }}", 0),
        ("{{ 'x' is eq(long) }}", 10),
    ],
)  # fmt: skip
def test_the_steps_of_a_template_are_the_same_in_every_run(text: str, steps: int) -> None:
    render(
        text, **ROW, d={"a": 1, "b": 2}, nested=[[1, 2], [3]], raw=LONG.encode(), named={f"k{i}": i for i in range(100)}
    )

    assert MAX_STEPS - _work.get().left == steps


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *[
            ("replace", ("aXbX", "X", new, *count))
            for new in ("", "y", "yyy")
            for count in ((), (0,), (1,), (5,), (-1,))
        ],
        ("replace", (b"aXbX", b"X", b"yyy")),
        ("center", ("ab", 7)),
        ("indent", ("ab\ncd\n", 3, True, True)),
        ("indent", ("ab\ncd", "....", True, True)),
        ("expandtabs", ("\t\t", 4)),
        ("expandtabs", (b"\t\t", 4)),
        ("strftime", (date(2024, 5, 1), "%5Y")),
        ("format", ("%5d|%-7s|%.3f", 12, "ab", 1.5)),
        ("format", ("%*d", 9, 1)),
        ("format", (b"%5d|%s", 1, b"abc")),
    ],
)
def test_the_length_that_is_foreseen_is_reached_and_exceeded_by_little(name: str, arguments: tuple[Any, ...]) -> None:
    value, *others = arguments
    if name == "format":
        made = value % tuple(others)
    elif name == "indent":
        made = Environment().filters["indent"](*arguments)
    else:
        made = getattr(value, name)(*others)

    _, length_of = _MAKES[name]

    assert len(made) <= length_of(*arguments) <= 3 * len(made) + 8


def test_what_needs_no_tests_of_jinja_to_be_foreseen_is_foreseen_exactly() -> None:
    foreseen = {name: length_of for name, (_, length_of) in _MAKES.items()}

    assert [foreseen["replace"]("aXbX", "X", "yyy", count) for count in (None, -1, 0, 1, 2, 5)] == [8, 8, 4, 6, 8, 8]
    assert [foreseen["center"]("a"), foreseen["center"]("a", 5)] == [80, 5]
    assert [foreseen["round"](1), foreseen["round"](1, 2), foreseen["round"](1, -2)] == [0, 8, 8]
    assert [foreseen["tojson"]([], indent) for indent in (None, 3, "ab")] == [0, 3, 2]
    assert [foreseen["wordwrap"]("a", 5, True, end) for end in (None, "--")] == [0, 2]
    assert [foreseen["batch"]([1], 7), foreseen["slice"]([1], 8)] == [7, 8]
    assert [foreseen["indent"]("a\nb", 3), foreseen["indent"]("a\nb", "..")] == [3 + 3 * 3, 3 + 3 * 2]
    assert [foreseen["indent"]("a"), foreseen["expandtabs"]("\t"), foreseen["expandtabs"]("\t", 2)] == [1 + 2 * 4, 9, 3]
    assert [foreseen["encode"]("abc", one) for one in ("utf-8", "cp1252", "punycode")] == [0, 0, 3]
    assert [foreseen["encode"]("abc", "ascii", one) for one in ("replace", "namereplace")] == [0, 3]


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("abc", 3),
        (b"abc", 3),
        (5, 1),
        (2**40, 11),
        (None, 1),
        ([], 1),
        ([1, "ab"], 6),
        ({"a": "bc"}, 6),
        ([["ab"], ["ab"]], 11),
        ({"a": 1}.items(), 5),
        ({"a": 1}.keys(), 3),
        (range(3), 7),
    ],
)
def test_a_value_has_about_as_many_characters_as_its_json(value: Any, size: int) -> None:
    shared = [value] * 3

    assert _size(value) == size
    assert _size(shared) == 1 + 3 * (size + 1)
    if isinstance(value, str | int | list | dict):
        assert size <= len(json.dumps(value, separators=(",", ":")))


@pytest.mark.parametrize(
    ("digits", "width"), [("0", 0), ("12", 12), ("9" * 9, 999_999_999), ("1" * 10, 4_194_305), ("9" * 5_000, 4_194_305)]
)
def test_a_width_of_too_many_digits_is_one_that_is_too_much(digits: str, width: int) -> None:
    assert _width(digits) == width


@pytest.mark.parametrize(
    ("text", "arguments", "length"),
    [
        ("%s", "abc", 3),
        ("%s %s", ("abc", "d"), 6),  # as if the longest stood in each place
        ("%(a)s%(b)5d", {"a": "abcd", "b": 1}, 4 + 4 + 5),
        ("%5.2f", 1.0, 1 + 5 + 2),
        ("%*d", (9, 1), 2 + 9),
        ("%%", (), 0),
        (b"%s", b"abc", 3),
        ("none", ("abc",), 0),
    ],
)
def test_what_a_format_adds_is_foreseen_by_its_places(text: Any, arguments: Any, length: int) -> None:
    assert _printed(text, arguments) == length


def test_each_level_of_an_indented_value_is_counted() -> None:
    nested = [[1, 2], {"a": [3]}]

    assert [_size(nested, indent=indent) - _size(nested) for indent in (0, 2, 4)] == [0, 13, 26]
    assert _size({"abcd": [1]}, indent=2, under_names=True) - _size({"abcd": [1]}, indent=2) == 6


def test_work_that_has_a_bound_is_done_for_every_row() -> None:
    ready = template("{% for x in xs %}{% endfor %}{{ xs | length }}")

    assert [ready.render({"xs": [0] * 600_000}) for _ in range(2)] == ["600000"] * 2


def test_without_the_bound_such_work_would_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setattr(batchcall.requests.template_limits, "MAX_STEPS", 100_000_000)

    assert template(NESTED.replace("99999", "1100")).render({}) == ""
