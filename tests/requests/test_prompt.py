"""Prompt templates: what they render, and what they refuse."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import StrictUndefined, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from batchcall.requests.prompt import RowError, Template, TemplateError
from request_making import refusal, render, template

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


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
        ("{{ xs | pprint }}", "No filter named 'pprint'"),
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
