"""What a template cannot be made to do: it makes no long text, and works no longer than its steps."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

import pytest
from jinja2 import Environment

import batchcall.requests.template_limits
from batchcall.requests.prompt import RowError
from batchcall.requests.template_limits import (
    _ESTIMATES,
    MAX_CHARACTERS,
    MAX_STEPS,
    _digits,
    _printed,
    _work,
    begin_work,
    size_of,
)
from request_making import refusal, render, template


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
        ("{{ (big ~ big ~ big ~ big ~ big)[0] }}", "the text would be longer than 4,194,304 characters"),
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

EQUAL_LISTS = "{% set a = [[1] * 1000] * 500 %}{% set b = [[1] * 1000] * 500 %}{% set both = [a, b] %}"

LONG_TUPLE = "{% set t = (1,) * 100000 %}"

THRICE = "{% for i in range(3) %}{% set y = MORE %}{% endfor %}"

OFTEN = THRICE.replace("3", "50")

GROWING = "{% set n = namespace(x='aé') %}{% for i in range(60) %}{% set n.x = MORE %}{% endfor %}"

PAIRS = GROWING.replace("MORE", "(n.x, n.x)")


@pytest.mark.parametrize(
    "text",
    [
        NESTED_LISTS + "{{ c }}",
        NESTED_LISTS + "{{ 'x' ~ c }}",
        NESTED_LISTS + "{{ c | tojson }}",
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
        "{% set t = ('x' * 1000000,) %}{{ [range(1000) | map(attribute='a', default=t)] | tojson }}",
        "{{ deep | tojson(indent=16) | length }}",
        "{% set n = 2 ** 60000 %}{{ ('%(n)x' * 20000 % {'n': n}) | length }}",
        "{% set n = 2 ** 60000 %}{{ ('%x' * 20000 % ((n,) * 20000)) | length }}",
        "{% set l = [1] * 100000 %}{{ '%s' * 100 % ((l,) * 100) }}",
        "{% set l = [1] * 100000 %}{{ ([l] * 100000) | sum(start=[]) | length }}",
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
        "{% set l = [1] * 1000 %}{{ ([l] * 1000) | map('list') | sum(start=[]) | length }}",
        "{% for x in [1] recursive %}{{ loop(range(99999) | batch(1)) ~ loop(range(99999) | select) }}{% endfor %}" * 9,
        EQUAL_LISTS + THRICE.replace("MORE", "a == b"),
        EQUAL_LISTS + THRICE.replace("MORE", "a in both"),
        EQUAL_LISTS + THRICE.replace("MORE", "a is eq(b)"),
        EQUAL_LISTS + THRICE.replace("MORE", "both | sort"),
        EQUAL_LISTS + THRICE.replace("MORE", "both.index(b)"),
        "{{ long.rfind('b' + long) }}",
        "{{ long.strip('b' * 1000000 + 'x') }}",
        "{{ long | trim('b' * 1000000 + 'x') }}",
        "{% for i in range(100) %}{% set y = {}.fromkeys(long) %}{% endfor %}",
        LONG_TUPLE + OFTEN.replace("MORE", "{t: 1}"),
        LONG_TUPLE + OFTEN.replace("MORE", "{1: 1}[t]"),
        LONG_TUPLE + OFTEN.replace("MORE", "{1: 1}.get(t)"),
        LONG_TUPLE + "{% set ts = [t] %}" + OFTEN.replace("MORE", "ts | unique | list | length"),
    ],
)
def test_work_on_each_part_of_a_value_is_counted_by_its_parts(text: str) -> None:
    row = {"xs": list(range(2_000)), "long": "x" * 1_000_000}

    assert "the template would take more than 1,000,000 steps" in refusal(text, **row)


@pytest.mark.parametrize("text", ["{{ {n.x: 1} }}", "{{ [n.x] | unique | list }}", "{{ n.x }}", "{{ n.x | upper }}"])
def test_a_value_of_many_levels_ends_its_row_and_not_the_process(text: str) -> None:
    deep = "{% set n = namespace(x=1) %}{% for i in range(20000) %}{% set n.x = (n.x,) %}{% endfor %}"

    assert refusal(deep + text) == "request.prompt: line 1: the template would take more than 1,000,000 steps"


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
    assert "the template would take more than 1,000,000 steps" in refusal(text, long="é" * 1_000_000)
    assert render(text, long="e" * 50)


def test_ten_thousand_characters_may_be_put_into_an_unusual_encoding() -> None:
    text = "{{ long.encode('punycode') | length }}"

    assert render(text, long="e" * 10_000) == "10001"
    assert "the template would take more than 1,000,000 steps" in refusal(text, long="e" * 16_000)


def test_an_indent_is_at_most_16_wide() -> None:
    assert refusal("{{ [1] | tojson(indent=17) }}") == (
        "request.prompt: line 1: tojson would put 17 characters before lines, at most 16"
    )
    assert render("{{ [1] | tojson(indent=16) }}") == "[\n" + 16 * " " + "1\n]"


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
        ("{{ none | string }} {{ {1: none} | string }} {{ 'a b' | wordwrap(1, true, 'x' * 16) }}",
         "None {\"1\":null} a" + "x" * 16 + "b"),
        ("{{ tree | tojson(1) }} {{ users | selectattr('n', 'gt', 1) | list }}",
         '[\n {\n  "n": 1,\n  "of": [\n   {\n    "n": 2\n   }\n  ]\n }\n] [{"n":2}]'),
    ],
)  # fmt: skip
def test_what_is_counted_by_its_parts_still_works(text: str, rendered: str) -> None:
    row = {"users": [{"n": 1}, {"n": 2}], "day": date(2024, 5, 1), "tree": [{"n": 1, "of": [{"n": 2}]}]}
    if "tree rec" in text:
        row["tree"] = [{"n": 1, "of": [{"n": 2, "of": []}]}]

    assert render(text, **row) == rendered


# A call is 10 steps; so is an operator. 250 characters or 4 parts that are gone
# through are a step more, each time.
LONG, WORDS, LINES = "x" * 10_000, "ab cd " * 1_000, "ab\n" * 1_000

ROW = {"long": LONG, "words": WORDS, "lines": LINES, "xs": list(range(100)), "ss": ["ab" * 500] * 10, "n": 5}


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("{{ n }}", 0),
        ("{{ long }}", 0),
        ("{{ n }}{{ n }}", 0),
        ("{{ n + 1 }}", 10),
        ("{{ long + long }}", 170),
        ("{{ long * 2 }}", 170),
        ("{{ xs + xs }}", 116),
        ("{{ xs * 2 }}", 116),
        ("{{ '%s' % long }}", 90),
        ("{{ n ** 2 }}", 10),
        ("{% for x in xs %}{% endfor %}", 100),
        ("{% for x in [] %}{% endfor %}", 0),
        ("{% for x in xs %}{{ x }}{% endfor %}", 100),
        ("{% for x in nested recursive %}{{ loop(x) if x is iterable }}{% endfor %}", 27),
        ("{{ n == n }}", 0),
        ("{{ long == long }}", 80),
        ("{{ long == 'x' }}", 0),
        ("{{ xs == xs }}", 52),
        ("{{ ss == ss }}", 84),
        ("{{ nested == nested }}", 2),
        ("{{ long < long }}", 80),
        ("{{ 'x' in long }}", 40),
        ("{{ 1 in xs }}", 3),
        ("{{ 'a' in d }}", 0),
        ("{{ n in [1, 2] }}", 0),
        ("{{ n in xs }}", 3),
        ("{{ long in ss }}", 80),
        ("{{ xs in nested }}", 26),
        ("{{ long is eq(long) }}", 80),
        ("{{ 1 is in(xs) }}", 3),
        ("{{ 'a' is in(d) }}", 0),
        ("{{ long is lower }}", 40),
        ("{{ long[1:] | length }}", 49),
        ("{{ xs[1:] }}", 53),
        ("{{ xs[n] }}", 0),
        ("{{ d['a'] }}", 0),
        ("{{ d[long] is defined }}", 40),
        ("{{ {long: 1} | length }}", 50),
        ("{{ {'a': 1} }}", 0),
        ("{{ {1: 1}[n] is defined }}", 0),
        ("{{ long | upper | length }}", 100),
        ("{{ long | length }}", 10),
        ("{{ long | list | length }}", 7_600),
        ("{{ long | title | length }}", 600),
        ("{{ long | wordcount }}", 550),
        ("{{ long | urlencode | length }}", 600),
        ("{{ long | striptags | length }}", 600),
        ("{{ long | indent | length }}", 600),
        ("{{ words | wordwrap(20) | length }}", 3_073),
        ("{{ words | wordwrap | length }}", 3_072),
        ("{{ long | wordwrap(100) | length }}", 5_231),
        ("{{ lines | wordwrap(20) | length }}", 6_544),
        ("{{ long | trim('xy') }}", 131),
        ("{{ long | trim }}", 130),
        ("{{ long.strip('xy') }}", 131),
        ("{{ long.rfind('ab') }}", 131),
        ("{{ long.find('ab') }}", 51),
        ("{{ long.upper() | length }}", 100),
        ("{{ long.title() | length }}", 600),
        ("{{ long.replace('x', 'y') | length }}", 102),
        ("{{ raw.upper() | length }}", 100),
        ("{{ xs | sort | length }}", 122),
        ("{{ ss | sort | length }}", 109),
        ("{{ xs | max }}", 86),
        ("{{ ss | unique | list | length }}", 82),
        ("{{ xs | sum }}", 86),
        ("{{ nested | sum(start=[]) }}", 18),
        ("{{ xs | join | length }}", 96),
        ("{{ ss | join | length }}", 147),
        ("{{ ''.join(ss) | length }}", 148),
        ("{{ xs | map('string') | list | length }}", 1_210),
        ("{{ xs | select('eq', 3) | list }}", 74),
        ("{{ xs | tojson | length }}", 47),
        ("{{ d | dictsort }}", 14),
        ("{{ xs | reverse | list | length }}", 56),
        ("{{ nested | tojson }}", 11),
        ("{{ xs.index(3) }}", 37),
        ("{{ xs.count(3) }}", 37),
        ("{{ d.get('a') }}", 11),
        ("{{ d.get(long) }}", 51),
        ("{{ d.keys() | list }}", 21),
        ("{{ range(100) | list | length }}", 107),
        ("{{ xs | batch(2) | list | length }}", 169),
        ("{{ [long] | map('upper') | join | length }}", 245),
        ("{{ long | format }}", 130),
        ("{{ long | e | length }}", 100),
        ("{{ long | replace('x','y') | length }}", 102),
        ("{{ long | truncate(5) }}", 51),
        ("{{ long | string | length }}", 100),
        ("{{ long | first }}", 10),
        ("{% macro f(x) %}{{ x }}{% endmacro %}{{ f(n) }}", 11),
        ("{% macro f(x) %}{{ x }}{% endmacro %}{{ f(long) }}", 131),
        ("{% set y %}{{ long }}{% endset %}{{ n }}", 40),
        ("{{ long ~ long }}", 160),
        ("{{ {}.fromkeys(long) | length }}", 5_061),
        ("{{ '{}'.format(long) }}", 131),
        ("{{ '{:>9999}'.format(1) }}", 89),
        ("{{ long is eq('x') }}", 40),
        ("{{ named is eq(named) }}", 104),
        ("{{ 'k' is in(named) }}", 0),
        ("{{ 'x' is eq(long) }}", 40),
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

    begin_work({})

    assert len(made) <= _ESTIMATES[name](*arguments) <= 3 * len(made) + 8


def test_what_needs_no_tests_of_jinja_to_be_foreseen_is_foreseen_exactly() -> None:
    foreseen = _ESTIMATES

    assert [foreseen["replace"]("aXbX", "X", "yyy", count) for count in (None, -1, 0, 1, 2, 5)] == [8, 8, 4, 6, 8, 8]
    assert [foreseen["center"]("a"), foreseen["center"]("a", 5)] == [80, 5]
    assert [foreseen["round"](1), foreseen["round"](1, 2), foreseen["round"](1, -2)] == [0, 200, 200]
    assert [foreseen["wordwrap"]("abc", 5, True, end) for end in (None, "--")] == [3, 9]
    assert [foreseen["batch"]([1], 7), foreseen["slice"]([1], 8)] == [7, 8]
    assert [foreseen["indent"]("a\nb", 3), foreseen["indent"]("a\nb", "..")] == [3 + 3 * 3, 3 + 3 * 2]
    assert [foreseen["indent"]("a"), foreseen["expandtabs"]("\t"), foreseen["expandtabs"]("\t", 2)] == [1 + 2 * 4, 9, 3]


@pytest.mark.parametrize(
    ("name", "arguments", "steps"),
    [
        ("encode", ("utf-8",), 0),
        ("encode", ("LATIN-1", "replace"), 0),
        ("encode", ("punycode",), 64_000),
        ("encode", ("ascii", "namereplace"), 64_000),
        ("decode", ("punycode",), 64_000),
        ("wordwrap", (), 30),
        ("wordwrap", (5,), 405),
        ("wordwrap", (0,), 2_005),
    ],
)
def test_what_takes_the_square_of_a_length_is_paid_for(name: str, arguments: tuple[Any, ...], steps: int) -> None:
    begin_work({})

    _ESTIMATES[name]("x" * 4_000, *arguments)

    assert MAX_STEPS - _work.get().left == steps


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
        ({"a": 1}.keys(), 5),
        (range(3), 7),
    ],
)
def test_a_value_has_about_as_many_characters_as_its_json(value: Any, size: int) -> None:
    begin_work({})

    assert size_of(value).characters == size
    assert size_of([value] * 3).characters == 1 + 3 * (size + 1)
    if isinstance(value, str | int | list | dict):
        assert size <= len(json.dumps(value, separators=(",", ":")))


@pytest.mark.parametrize(
    ("written", "width"),
    [("0", 0), ("12", 12), ("9" * 9, 999_999_999), ("1" * 10, 4_194_305), ("9" * 5_000, 4_194_305), (">12.3f", 15)],
)
def test_a_width_of_too_many_digits_is_one_that_is_too_much(written: str, width: int) -> None:
    assert _digits(written) == width


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


def test_work_that_has_a_bound_is_done_for_every_row() -> None:
    ready = template("{% for x in xs %}{% endfor %}{{ xs | length }}")

    assert [ready.render({"xs": [0] * 600_000}) for _ in range(2)] == ["600000"] * 2


def test_without_the_bound_such_work_would_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setattr(batchcall.requests.template_limits, "MAX_STEPS", 100_000_000)

    assert template(NESTED.replace("99999", "1100")).render({}) == ""


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(9000) %}{{ 'x' in range(100000) }}{% endfor %}",
        "{% for i in range(20000) %}{% set x = 2**60000 * 2**60000 %}{% endfor %}",
        "{% for i in range(20000) %}{% set x = 3**40000 // 3**20000 %}{% endfor %}",
    ],
)
def test_much_work_in_one_operator_is_paid_for(text: str) -> None:
    assert "steps" in refusal(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf_8", "latin1", "cp1252", "iso-8859-1", "utf-16-le", "ASCII"])
def test_a_long_column_may_be_put_into_any_usual_encoding(encoding: str) -> None:
    shown = render("{{ text.encode(encoding).decode(encoding) == text }}", text="a" * 100_000, encoding=encoding)

    assert shown == "True"


@pytest.mark.parametrize("width", [20, 80])
def test_a_megabyte_of_prose_may_be_wrapped(width: int) -> None:
    prose = "Nothing that was paid for is lost, and nothing is paid for twice. " * 15_000

    shown = render("{{ (text | wordwrap(width)).split() == text.split() }}", text=prose, width=width)

    assert shown == "True"


def test_a_loop_that_makes_and_drops_long_lists_holds_a_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batchcall.requests.template_limits, "_MOST_HELD", 30_000)

    made = render("{% for i in range(50) %}{% set x = [text ~ i] %}{{ x[0][:1] }}{% endfor %}", text="a" * 9_000)

    assert made == "a" * 50
    assert _work.get().held <= 30_000
    assert len(_work.get().known) <= 4


def test_each_of_two_thousand_items_may_be_sought_in_their_list() -> None:
    text = "{% for a in many %}{% if a not in many %}x{% endif %}{% endfor %}"

    assert render(text, many=list(range(2_000))) == ""
