"""Which columns a template uses, which of them it needs, and which names in it are Jinja's own."""

from __future__ import annotations

from typing import Any

import pytest

from request_making import refusal, render, template


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
        ("{{ (a ~ b) | default('en') }}", {"a", "b"}),
        ("{{ lang.code }}", {"lang"}),
        ("{% if 'lang' in other %}{{ row.lang }}{% endif %}", {"lang", "other"}),
        ("{% if 'lang' == row.other %}{{ row.lang }}{% endif %}", {"lang", "other"}),
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
