"""Patterns beyond the linear engine are left out of the check: what the whole schema accepts is never refused."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from batchcall.schemas.field_types import field_type
from batchcall.schemas.schema import compile_schema
from batchcall.schemas.walk import SchemaError

AHEAD = r"^(?!tmp)[a-z]+$"  # none that begins with "tmp"
BACK = r"^(\w)\1$"


@pytest.mark.parametrize(
    "pattern",
    [
        *(AHEAD, BACK, r"^(?<q>['\"]).*\k<q>$", r"(?<=a)b", r"(?<!a)b", r"^(?=.*\d)(?=.*[a-z]).{8,}$", r"(?>a+)b"),
        *(r"^\k<n>(?<n>a)$", r"^\p{InGreek}$", r"^\x4$", r"^\u004$", r"^\c$", r"^\e$", r"^\8$", r"^[\Z]$"),
        *(
            r"^\d{,3}$",
            r"^a{,}$",
            r"a\Z",
            r"\a",
            r"^[^]*[a]$",
            r"^(?s:.)$",
            r"^.(?#s)$",
            r"\Q.\E",
        ),  # each engine its own
    ],
)
def test_a_pattern_that_the_linear_engine_does_not_know_is_left_out_and_reported(pattern: str) -> None:
    schema = compile_schema({"properties": {"a/b": {"type": "string", "maxLength": 3, "pattern": pattern}}})

    assert schema.is_valid({"a/b": "?"})
    assert not schema.is_valid({"a/b": "long"})
    assert not schema.is_valid({"a/b": 5})
    assert schema.left_out == schema.rewrites
    assert [one.partition(": ")[0] for one in schema.left_out] == ["/properties/a~1b/pattern"]


# A pattern, a text that it matches by ECMA 262, and one that it does not.
READ = [
    *((r"^\/a\-\/$", "/a-/", "a"), (r"^\_\<\>\@\'$", "_<>@'", "_@'"), (r"^[\<a]$", "<", ">"), (r"\<b\>", "a<b>", "b")),
    *((r"^[\w-.]+$", "a-.", "+"), (r"^[\w-\.]+@([\w-]+\.)+[\w-]{2,4}$", "a-b@c-d.org", "a+b@c.org")),
    *((r"^[a-\d]$", "-", "b"), (r"^[\d-\w]$", "-", "+"), (r"^[+\d-]$", "-", "a"), (r"^[a-z-\d]$", "-", "+")),
    *((r"^[\s-_]$", "-", "a"), (r"^[-\d]$", "-", "a"), (r"^[^\d-x]$", "a", "-"), (r"^[[]{2}$", "[[", "[")),
    *((r"^[a[b]+$", "a[", "c"), (r"^[a[^b]+$", "[^", "c"), (r"^[a&&b]+$", "a&b", "c"), (r"^[a~~b]$", "~", "c")),
    *((r"^[^]$", "\n", ""), (r"^[^]*$", "a\n", None), (r"^a|[]$", "a", "b"), (r"^([^]|b)$", "\n", "")),
    *((r"^[^]a]$", "b", "]"), (r"^[]a]$", "]", "b")),  # as Python and the shells have it
    *((r"^{a}$", "{a}", "a"), (r"^a{1$", "a{1", "a"), (r"^a{x}{2}$", "a{x}}", "a{x}"), (r"^a{2,}$", "aaa", "a")),
    *((r"^[{]{2}$", "{{", "{"), (r"^\p{Lu}{2}$", "AB", "Ab"), (r"^\u{1F600}{2}$", "\U0001f600" * 2, "\U0001f600")),
    *((r"^\uD83D\uDE00$", "\U0001f600", "x"), (r"^[\uD83D\uDE00-\uD83D\uDE02]$", "\U0001f601", "x")),
    *((r"^\0$", "\0", "0"), (r"^[\b]$", "\b", "b"), (r"^\cJ\x41\u0042$", "\nAB", "cJAB")),
    *((r"^(?<y>\d+)-|(?<y>a)$", "1-", "b"), (r"^(?<n>a)$", "a", "n"), (r"^\p{L}+$", "é", "1")),
    *(
        (r"^a$", "a", "a\n"),
        (r"^.$", "a", "\n"),
        (r"^\d$", "1", "\u0661"),
        (r"^\w$", "a", "é"),
        (r"^\s$", "\ufeff", "a"),
    ),
    *(
        (r"(?s)^a.b$", "a\nb", "ab"),
        (r"(?is)^a.b$", "A\nB", "ab"),
        (r"(?s)^[.]\.$", "..", "a."),
        (r"\(?s.$", "s\ns.", "x"),
    ),
]
OF_PYTHON_TOO = re.compile(r"\(\?<|\\[pc]|\\u[{D]|\[\^?\]|-\\|\\[dws.]-|\\[dws]\$|\^a\$")


@pytest.mark.parametrize(("pattern", "matched", "other"), READ)
def test_a_pattern_is_read_as_ecma_262_has_it(pattern: str, matched: str, other: str | None) -> None:
    names = {"patternProperties": {pattern: {"const": 1}}}
    schema = compile_schema({"properties": {"value": {"pattern": pattern}, "names": names}})

    assert schema.left_out == ()
    assert schema.is_valid({"value": matched})
    assert not schema.is_valid({"names": {matched: 2}})
    if other is not None:
        assert not schema.is_valid({"value": other})
        assert schema.is_valid({"names": {other: 2}})
    if not OF_PYTHON_TOO.search(pattern):
        assert re.search(pattern, matched)
        assert other is None or not re.search(pattern, other)


@given(st.text(alphabet="[](){}^$*+?.|\\-,0123abdswuxpDE<>:!=", max_size=12))
def test_a_pattern_that_python_and_the_engine_know_is_not_refused(pattern: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        try:
            re.compile(pattern)
        except (re.error, OverflowError):
            return

    compile_schema({"properties": {"a": {"pattern": pattern}}})


@pytest.mark.parametrize("pattern", ["[", "(", "*", r"(?<n", "[z-a]", "a{2,1}", "\\"])
def test_what_is_no_pattern_at_all_is_refused_still(pattern: str) -> None:
    with pytest.raises(SchemaError) as refused:
        compile_schema({"properties": {"a": {"pattern": pattern}}})

    assert refused.value.path == "/properties/a/pattern"


def test_a_pattern_is_left_out_once_however_often_it_is_referred_to() -> None:
    word = {"type": "string", "pattern": AHEAD}
    schema = compile_schema(
        {"properties": {"a": {"$ref": "#/$defs/w"}, "b": {"$ref": "#/$defs/w"}}, "$defs": {"w": word, "unused": word}}
    )

    assert [one.partition(": ")[0] for one in schema.left_out] == ["/$defs/w/pattern"]
    assert schema.is_valid({"a": "tmp", "b": "tmp"})
    assert word["pattern"] == AHEAD


@pytest.mark.parametrize("rest", ["additionalProperties", "unevaluatedProperties"])
def test_names_that_a_pattern_left_out_may_have_meant_are_not_forbidden(rest: str) -> None:
    schema = compile_schema(
        {"properties": {"n": {"type": "integer"}}, "patternProperties": {AHEAD: {"type": "string"}}, rest: False}
    )

    assert schema.is_valid({"free": "text", "n": 1})
    assert not schema.is_valid({"n": "one"})
    assert len(schema.left_out) == 1


@pytest.mark.parametrize(
    "draft",
    [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-06/schema#",
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    ],
)
def test_a_pattern_for_names_is_left_out_in_every_draft(draft: str) -> None:
    named = {"(?=a)b": {"type": "string"}, "^c": {"type": "string"}}
    schema = compile_schema({"$schema": draft, "patternProperties": named, "additionalProperties": False})

    assert len(schema.left_out) == 1
    for value, is_valid in (({"d": 1, "": 2}, True), ({"c": "x"}, True), ({"c": 1}, False)):
        assert schema.is_valid(value) is is_valid
        assert (schema.explain(value) == "the arguments do not fit their schema") is is_valid


def test_names_known_by_a_pattern_left_out_within_count_as_looked_at() -> None:
    schema = compile_schema({"allOf": [{"patternProperties": {AHEAD: {}}}], "unevaluatedProperties": False})

    assert schema.is_valid({"free": 1})


def test_names_that_a_property_names_pattern_forbids_are_allowed() -> None:
    schema = compile_schema({"propertyNames": {"pattern": AHEAD, "maxLength": 5}})

    assert schema.is_valid({"tmp": 1})
    assert not schema.is_valid({"longer": 1})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"not": {"pattern": AHEAD}}, "tmp1"),
        ({"not": {"$ref": "#/$defs/w"}, "$defs": {"w": {"pattern": AHEAD}}}, "tmp1"),
        ({"not": {"not": {"not": {"pattern": AHEAD}}}}, "tmp1"),
        ({"oneOf": [{"pattern": AHEAD}, {"pattern": "^tmp"}]}, "tmp1"),
        ({"if": {"pattern": AHEAD}, "then": {"minLength": 9}}, "tmp1"),
        ({"contains": {"pattern": AHEAD}, "maxContains": 1}, ["ab", "tmp", "tmp"]),
        ({"allOf": [{"minLength": 1}], "oneOf": [{"pattern": AHEAD}, {"pattern": "^tmp"}]}, "tmp1"),
    ],
)
def test_where_less_would_be_accepted_without_the_pattern_more_is_left_out(schema: Any, value: Any) -> None:
    whole = {"properties": {"x": schema}} if "$defs" not in schema else schema
    held = {"x": value} if whole is not schema else value

    assert Draft202012Validator(whole).is_valid(held)  # the control: the schema does accept it
    assert compile_schema(whole).is_valid(held)


def test_the_column_of_a_union_has_the_type_that_it_had() -> None:
    plain = {"properties": {"x": {"oneOf": [{"type": "string", "minLength": 2}, {"type": "null"}]}}}
    beyond = {"properties": {"x": {"oneOf": [{"type": "string", "pattern": AHEAD}, {"type": "null"}]}}}

    assert field_type(compile_schema(beyond).document) == field_type(compile_schema(plain).document)


leaves = st.sampled_from(
    [
        {"pattern": AHEAD},
        {"pattern": BACK},
        {"pattern": "^a"},
        {"type": "string"},
        {"type": "integer"},
        {"maxLength": 2},
    ]
)
UNIONS = ["allOf", "anyOf", "oneOf"]
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(UNIONS), st.lists(inner, min_size=1, max_size=3), min_size=1, max_size=2),
        st.builds(lambda one: {"not": one}, inner),
        st.builds(lambda a, b, c: {"if": a, "then": b, "else": c}, inner, inner, inner),
        st.builds(lambda one, n: {"contains": one, "maxContains": n}, inner, st.integers(1, 2)),
        st.builds(lambda one, rest: {"patternProperties": {AHEAD: one}, "additionalProperties": rest}, inner, inner),
        st.builds(lambda one: {"properties": {"ab": one}, "unevaluatedProperties": False}, inner),
        st.builds(lambda one: {"propertyNames": one}, inner),
        st.builds(lambda a, b: {"allOf": [a], "unevaluatedProperties": b}, inner, inner),
    ),
    max_leaves=6,
)  # fmt: skip
words = st.sampled_from(["ab", "aa", "tmp", "tmpa", "a", "", "?"])
values = st.recursive(
    words | st.integers(0, 2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=4,
)


@given(schemas, values)
def test_nothing_is_refused_that_the_whole_schema_accepts(schema: Any, value: Any) -> None:
    whole = {"properties": {"x": schema}}

    if Draft202012Validator(whole).is_valid({"x": value}):
        assert compile_schema(whole).is_valid({"x": value})


def test_all_patterns_together_have_a_limit() -> None:
    many = {f"p{i}": {"pattern": f"^(x{{900}}){{2}}{i}$"} for i in range(300)}

    with pytest.raises(SchemaError, match="patterns"):
        compile_schema({"properties": many})

    assert re.compile(AHEAD).match("tmp") is None
