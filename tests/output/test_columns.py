"""Outcomes and raw answers as Arrow: nothing in a row keeps it from being written, and reading gives it back."""

from __future__ import annotations

import datetime
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcall.base.records import Attempt, Failure, FailureKind, HttpResponse, Outcome, Status, ToolCall, Usage
from batchcall.input.kept_columns import KeptRow
from batchcall.output.answer_columns import ANSWERS_SCHEMA, answers_batch, read_answers
from batchcall.output.columns import OTHER_COLUMNS, OUTCOME_COLUMNS, Layout, add_left_out, arrow_type
from batchcall.schemas.field_types import FieldType, ListOf, Scalar, StructOf, field_type

NOTHING_KEPT = pa.schema([])
RECEIPT = StructOf(
    (
        ("shop", Scalar.STRING),
        ("count", Scalar.INT64),
        ("total", Scalar.FLOAT64),
        ("paid", Scalar.BOOL),
        ("extra", Scalar.JSON),
        ("items", ListOf(StructOf((("name", Scalar.STRING), ("more", Scalar.JSON))))),
    )
)
PLAIN = StructOf((("shop", Scalar.STRING), ("count", Scalar.INT64), ("total", Scalar.FLOAT64)))


def ok(row: int = 0, arguments: Any = None, **others: Any) -> Outcome:
    return Outcome(row=row, status=Status.OK, arguments=arguments, **others)


def write_one(layout: Layout, outcome: Outcome, kept: Mapping[str, Any] | None = None) -> dict[str, Any]:
    written: dict[str, Any] = batch_of(layout, [(kept or {}, outcome)]).to_pylist()[0]
    return written


def batch_of(
    layout: Layout, rows: Sequence[tuple[Mapping[str, Any], Outcome]], tally: Counter[str] | None = None
) -> pa.RecordBatch:
    """Rows of JSONL, with how they ended."""
    kept = layout.kept.of_values([values for values, _ in rows])
    return layout.batch([(one, outcome) for one, (_, outcome) in zip(kept, rows, strict=True)], tally)


def values_of_kept(row: KeptRow) -> dict[str, Any]:
    kept: dict[str, Any] = row.batch.slice(row.place, 1).to_pylist()[0]
    return kept


def through_parquet(batch: pa.RecordBatch) -> pa.RecordBatch:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_batches([batch]), sink)
    return pq.read_table(sink).combine_chunks().to_batches()[0]


def test_columns_stand_in_the_promised_order_with_the_promised_types() -> None:
    layout = Layout(pa.schema([("id", pa.string()), ("when", pa.timestamp("ms"))]), PLAIN)

    calls = pa.struct([(name, pa.string()) for name in ("id", "name", "arguments", "error")])
    assert layout.schema == pa.schema(
        [
            ("row", pa.int64()),
            ("id", pa.string()),
            ("when", pa.timestamp("ms")),
            ("status", pa.string()),
            ("error", pa.string()),
            ("tool", pa.string()),
            ("arguments", pa.struct([("shop", pa.string()), ("count", pa.int64()), ("total", pa.float64())])),
            ("calls", pa.list_(calls)),
            ("content", pa.string()),
            ("repairs", pa.list_(pa.string())),
            ("finish_reason", pa.string()),
            ("model", pa.string()),
            ("response_id", pa.string()),
            ("system_fingerprint", pa.string()),
            ("attempts", pa.int32()),
            ("prompt_tokens", pa.int64()),
            ("completion_tokens", pa.int64()),
            ("total_tokens", pa.int64()),
            ("cached_tokens", pa.int64()),
            ("reasoning_tokens", pa.int64()),
            ("cost", pa.float64()),
            ("latency_s", pa.float64()),
            ("wait_s", pa.float64()),
            ("http_status", pa.int16()),
            ("endpoint", pa.string()),
            ("request_hash", pa.string()),
            ("finished_at", pa.timestamp("us", tz="UTC")),
        ]
    )
    assert [name for name in layout.schema.names if name in OUTCOME_COLUMNS] == list(OUTCOME_COLUMNS)


def test_an_outcome_is_written_field_by_field() -> None:
    outcome = ok(
        7,
        {"shop": "a", "count": 2},
        tool="record",
        calls=(ToolCall("c1", "record", "{}", None), ToolCall(None, "x", "", "wrong")),
        repairs=("code_fence",),
        attempts=2,
        usage=Usage(10, 5, 15, None, 0),
        cost=0.5,
        http_status=200,
        finished_at_s=1_700_000_000.123456,
    )

    written = write_one(Layout(NOTHING_KEPT, PLAIN), outcome)

    assert written["row"] == 7
    assert written["status"] == "ok"
    assert written["arguments"] == {"shop": "a", "count": 2, "total": None}
    assert written["calls"][1] == {"id": None, "name": "x", "arguments": "", "error": "wrong"}
    assert written["repairs"] == ["code_fence"]
    assert (written["prompt_tokens"], written["cached_tokens"], written["reasoning_tokens"]) == (10, None, 0)
    assert written["finished_at"] == datetime.datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=datetime.UTC)


def test_a_row_without_calls_has_empty_lists() -> None:
    written = write_one(Layout(NOTHING_KEPT, PLAIN), ok())

    assert (written["calls"], written["repairs"], written["arguments"]) == ([], [], None)


def test_an_empty_batch_has_the_schema() -> None:
    layout = Layout(pa.schema([("id", pa.string())]), RECEIPT)

    assert layout.batch([]).schema == layout.schema
    assert answers_batch([]).schema == ANSWERS_SCHEMA


def test_arguments_are_json_text_where_they_have_no_type() -> None:
    layout = Layout(NOTHING_KEPT, None)

    written = write_one(layout, ok(arguments={"b": 10**30, "a": "é"}))

    assert written["arguments"] == '{"a":"é","b":' + str(10**30) + "}"
    assert layout.arguments_text == "JSON text"


def test_a_value_beyond_its_type_is_null_and_reported_and_the_rest_stays() -> None:
    arguments = {"shop": "a", "count": 2**63, "total": 2**53 + 1}

    written = write_one(Layout(NOTHING_KEPT, PLAIN), ok(arguments=arguments, error="old news"))

    assert written["arguments"] == {"shop": "a", "count": None, "total": None}
    assert written["status"] == "ok"
    assert written["error"] == (
        "old news; /count: 9223372036854775808 does not fit int64; it is in `calls`; "
        "/total: 9007199254740993 does not fit float64; it is in `calls`"
    )


def test_one_value_that_does_not_fit_spoils_no_other_row() -> None:
    layout = Layout(pa.schema([("n", pa.int64())]), PLAIN)

    batch = batch_of(
        layout,
        [({"n": 1}, ok(0, {"count": 1.0})), ({"n": "x"}, ok(1, {"count": 10**20})), ({"n": 3}, ok(2, {"count": 3}))],
    )

    assert [row["count"] for row in batch.column("arguments").to_pylist()] == [1, None, 3]
    assert batch.column("n").to_pylist() == [1, None, 3]
    assert [error is None for error in batch.column("error").to_pylist()] == [True, False, True]


def test_a_list_where_the_schema_forgot_to_ask_for_an_object_is_null_and_reported() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"shop": {"properties": {"id": {"type": "integer"}}}}}
    arguments = field_type({**schema, "anyOf": [schema, {**schema, "title": "the same"}]})

    written = write_one(Layout(NOTHING_KEPT, arguments), ok(arguments={"shop": []}))

    assert written["arguments"] == {"shop": None}
    assert written["error"] == "/shop: [] does not fit object; it is in `calls`"


def test_halves_of_surrogate_pairs_become_the_replacement_character_everywhere() -> None:
    half = "a\ud83d"
    outcome = ok(
        arguments={"shop": half, "extra": {half: half}, "items": [{"name": half}]},
        error=half,
        content=half,
        calls=(ToolCall(half, half, half, half),),
        repairs=(half,),
    )

    written = write_one(Layout(pa.schema([("text", pa.string())]), RECEIPT), outcome, {"text": half})

    whole = "a\ufffd"
    assert written["arguments"]["shop"] == whole
    assert written["arguments"]["extra"] == f'{{"{whole}":"{whole}"}}'
    assert written["arguments"]["items"] == [{"name": whole, "more": None}]
    assert (written["text"], written["error"], written["content"]) == (whole, whole, whole)
    assert written["calls"] == [{"id": whole, "name": whole, "arguments": whole, "error": whole}]
    assert written["repairs"] == [whole]


def test_numbers_of_the_endpoint_beyond_their_columns_are_null() -> None:
    outcome = ok(usage=Usage(prompt_tokens=10**30, completion_tokens=5), http_status=70_000, finished_at_s=math.inf)

    written = write_one(Layout(NOTHING_KEPT, None), outcome)

    assert (written["prompt_tokens"], written["completion_tokens"]) == (None, 5)
    assert (written["http_status"], written["finished_at"]) == (None, None)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (pa.string(), {"b": 1, "a": [None]}, '{"b":1,"a":[null]}'),
        (pa.string(), [1, "x"], '[1,"x"]'),
        (pa.string(), 5, "5"),
        (pa.string(), True, "true"),
        (pa.int64(), 5.0, 5),
        (pa.float64(), 2**60, float(2**60)),
        (pa.bool_(), True, True),
    ],
)
def test_a_kept_value_is_written_in_the_form_of_its_column(kind: pa.DataType, value: Any, expected: Any) -> None:
    written = write_one(Layout(pa.schema([("kept", kind)]), None), ok(), {"kept": value})

    assert written["kept"] == expected
    assert written["error"] is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.int64(), 1.5),
        (pa.int64(), 2**63),
        (pa.int64(), True),
        (pa.float64(), "1.5"),
        (pa.float64(), True),
        (pa.float64(), 10**400),
        (pa.bool_(), 1),
        (pa.bool_(), "true"),
    ],
)
def test_a_kept_value_that_does_not_fit_is_null_and_reported_and_the_status_stays(
    kind: pa.DataType, value: Any
) -> None:
    written = write_one(Layout(pa.schema([("kept", kind)]), None), ok(), {"kept": value})

    assert written["kept"] is None
    assert written["status"] == "ok"
    assert written["error"].startswith("left out: kept: ")
    assert len(written["error"]) < 160


def test_a_value_without_a_column_is_reported_and_counted_where_all_columns_are_kept() -> None:
    kept = pa.schema([("n", pa.int64())])
    rows = [{"n": 1}, {"n": "x", "late": "seen"}, {"n": 2, "late": None}, {f"c{number}": 1 for number in range(7)}]
    ended = [(row, ok(number)) for number, row in enumerate(rows)]
    tally = Counter[str]()

    errors = batch_of(Layout(kept, None, is_all_kept=True), ended, tally).column("error").to_pylist()

    no_column = "has no column, as the first rows of the input lack it"
    assert errors[::2] == [None, None]
    assert errors[1] == f"left out: n: 'x' does not fit int64; late: 'seen' {no_column}"
    assert f"c4: 1 {no_column}; and 2 more columns" in errors[3]
    assert tally == {"n": 1, "late": 1, **{f"c{number}": 1 for number in range(7)}}
    assert write_one(Layout(kept, None), ok(), {"n": 1, "unwanted": "x"})["error"] is None


def test_names_without_end_are_counted_together() -> None:
    tally = Counter[str]()

    for number in range(1_000):
        add_left_out(tally, Counter([f"c{number}", "c0"]))

    assert len(tally) == 101
    assert (tally["c0"], tally["c99"], tally[OTHER_COLUMNS]) == (1_001, 1, 900)


@pytest.mark.parametrize(
    ("error", "said", "left_out"),
    [
        (None, None, None),
        ("the model refused; it says so", "the model refused; it says so", None),
        ("left out: n: 'x'; late: 1", None, "left out: n: 'x'; late: 1"),
        ("cut short; left out: n: 'x'; left out: y", "cut short", "left out: n: 'x'; left out: y"),
        (
            "left out: no column for /a of the arguments, see `calls`",
            "left out: no column for /a of the arguments, see `calls`",
            None,
        ),
        (
            "left out: no column for /a of the arguments; left out: n: 1",
            "left out: no column for /a of the arguments",
            "left out: n: 1",
        ),
    ],
)
def test_an_error_is_split_into_what_is_of_the_answer_and_what_is_of_the_input(
    error: str | None, said: str | None, left_out: str | None
) -> None:
    layout = Layout(NOTHING_KEPT, PLAIN)

    written = layout.batch([(None, ok(0, error=error))])

    ((_, read),) = layout.read(written)
    assert (read.error, read.left_out) == (said, left_out)
    assert layout.batch([(None, read)]) == written


SEE_CALLS = " of the arguments, see `calls`"


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        ({"shop": "a", "currency": "EUR"}, "/currency"),
        ({"$PARAMETER_NAME": {"shop": "a"}}, "/$PARAMETER_NAME"),
        ({"items": [{"name": "a"}, {"size": 1}, {"size": 2, "a/b~c": 0}]}, "/items/*/size, /items/*/a~1b~0c"),
        ({"": 1}, "/"),
        ({f"n{number}": 1 for number in range(7)}, "/n0, /n1, /n2, /n3, /n4 and 2 more"),
        ({"red\x1b[31m\u202e; left out: n": 1}, "/red\\u001b[31m\\u202e\\u003b left out: n"),
        ({"x" * 200: 1}, "/" + "x" * 78 + "…"),
        ({"size": "\ud800", "\udfff": 1}, "/size, /\\udfff"),
    ],
)
def test_members_that_no_column_holds_are_named_and_counted(arguments: Any, paths: str) -> None:
    layout, members = Layout(NOTHING_KEPT, RECEIPT), Counter[str]()

    batch = layout.batch(
        [(None, ok(0, arguments)), (None, ok(1, {"shop": "b"})), (None, ok(2, arguments))], None, members
    )

    told = f"left out: no column for {paths}{SEE_CALLS}"
    assert batch.to_pydict()["error"] == [told, None, told]
    assert set(members.values()) == {2}
    assert len(members) == max(1, len(arguments) if "n6" in arguments else paths.count(", ") + 1)
    assert [layout.batch(layout.read(batch), None, members).to_pydict()["error"], set(members.values())] == [
        [told, None, told],
        {2},  # a part that is written again counts nothing again
    ]


@pytest.mark.parametrize("arguments", [{"shop": "a", "currency": None}, {"extra": {"any": 1}}, None])
def test_members_that_are_null_or_in_json_text_are_not_left_out(arguments: Any) -> None:
    assert write_one(Layout(NOTHING_KEPT, RECEIPT), ok(0, arguments))["error"] is None
    assert write_one(Layout(NOTHING_KEPT, None), ok(0, {"anything": 1}))["error"] is None


def test_what_is_of_the_arguments_stands_before_what_is_of_the_input_however_often_it_is_written() -> None:
    layout = Layout(pa.schema([("n", pa.int64())]), PLAIN)
    found = batch_of(layout, [({"n": "x"}, ok(0, {"count": 2**70, "size": 1}, error="said"))])
    ((_, read),) = layout.read(found)
    again = ok(0, {"count": 2**70, "size": 1}, error="said", left_out=read.left_out)

    written = [batch.to_pydict()["error"][0] for batch in (found, layout.batch([(None, again)]))]

    assert written[0] == written[1]
    assert [part.split(":")[0] for part in written[0].split("; ")] == [
        *("said", "/count"),
        *("it is in `calls`", "left out", "left out"),
    ]


def test_names_without_end_cost_little_memory() -> None:
    members = Counter[str]()

    Layout(NOTHING_KEPT, PLAIN).batch([(None, ok(0, {f"n{number}": 1 for number in range(20_000)}))], None, members)

    assert len(members) == 100


def test_a_kept_value_nested_without_end_is_left_out() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]

    written = write_one(Layout(pa.schema([("kept", pa.string())]), None), ok(), {"kept": deep})

    assert written["kept"] is None
    assert "kept: " in written["error"]


def test_kept_columns_with_names_of_ours_are_renamed() -> None:
    kept = pa.schema([("status", pa.string()), ("input_status", pa.string()), ("row", pa.int64())])
    layout = Layout(kept, None)

    written = write_one(layout, ok(5), {"status": "a", "input_status": "b", "row": 9})

    assert layout.kept.names == ["status", "input_status", "row"]
    assert layout.kept.schema.names == ["input_status", "input_input_status", "input_row"]
    assert (written["row"], written["status"]) == (5, "ok")
    assert [written[name] for name in layout.kept.schema.names] == ["a", "b", 9]
    read, _ = layout.read(batch_of(layout, [({"status": "a", "row": 9}, ok(5))]))[0]
    assert list(values_of_kept(read).values()) == ["a", None, 9]


def test_a_part_of_other_columns_is_read_as_far_as_it_goes() -> None:
    old = Layout(pa.schema([("gone", pa.string()), ("same", pa.int64())]), RECEIPT)
    new = Layout(pa.schema([("same", pa.int64()), ("new", pa.string())]), None)
    arguments = {"shop": "a", "extra": {"b": 1}, "items": [{"name": "x", "more": [1, "2"]}]}

    kept, outcome = new.read(through_parquet(batch_of(old, [({"gone": "x", "same": 5}, ok(1, arguments))])))[0]

    assert values_of_kept(kept) == {"same": 5, "new": None}
    assert outcome.arguments == {"count": None, "total": None, "paid": None, **arguments}


def test_kept_columns_of_another_type_are_read_as_the_type_they_have_now() -> None:
    old = Layout(pa.schema([("n", pa.int64()), ("text", pa.string())]), None)
    new = Layout(pa.schema([("n", pa.string()), ("text", pa.int64())]), None)

    kept, _ = new.read(batch_of(old, [({"n": 7, "text": "x"}, ok())]))[0]

    assert values_of_kept(kept) == {"n": "7", "text": None}


def test_arrow_types_of_nested_fields() -> None:
    assert arrow_type(RECEIPT) == pa.struct(
        [
            ("shop", pa.string()),
            ("count", pa.int64()),
            ("total", pa.float64()),
            ("paid", pa.bool_()),
            ("extra", pa.string()),
            ("items", pa.list_(pa.struct([("name", pa.string()), ("more", pa.string())]))),
        ]
    )


any_text = st.text(st.characters(exclude_categories=()), max_size=8)
some_text = st.none() | any_text
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(any_text, inner, max_size=2),
    max_leaves=6,
)
field_types: st.SearchStrategy[FieldType] = st.recursive(
    st.sampled_from(Scalar),
    lambda inner: (
        inner.map(ListOf)
        | st.lists(st.tuples(st.text(max_size=3), inner), min_size=1, max_size=3, unique_by=lambda field: field[0]).map(
            lambda fields: StructOf(tuple(fields))
        )
    ),
    max_leaves=6,
)


def values_of(kind: FieldType) -> st.SearchStrategy[Any]:
    """Mostly what a field of the type gets, sometimes anything."""
    if isinstance(kind, ListOf):
        fitting: st.SearchStrategy[Any] = st.lists(values_of(kind.element), max_size=3)
    elif isinstance(kind, StructOf):
        fitting = st.fixed_dictionaries({}, optional={name: values_of(inner) for name, inner in kind.fields})
    else:
        fitting = SCALARS[kind]
    return fitting | st.none() | json_values


SCALARS: Mapping[Scalar, st.SearchStrategy[Any]] = {
    Scalar.STRING: any_text,
    Scalar.INT64: st.integers() | st.integers(-3, 3).map(float),
    Scalar.FLOAT64: st.floats() | st.integers(),
    Scalar.BOOL: st.booleans(),
    Scalar.JSON: json_values,
}
counts = st.none() | st.integers(-1, 2**70)
outcomes = st.builds(
    Outcome,
    row=st.integers(0, 2**63 - 1),
    status=st.sampled_from(Status),
    error=some_text,
    tool=some_text,
    calls=st.lists(st.builds(ToolCall, some_text, any_text, any_text, some_text), max_size=3).map(tuple),
    content=some_text,
    repairs=st.lists(any_text, max_size=2).map(tuple),
    finish_reason=some_text,
    attempts=st.integers(0, 100),
    usage=st.builds(Usage, counts, counts, counts, counts, counts),
    cost=st.none() | st.floats(0, 100),
    latency_s=st.none() | st.floats(0, 100),
    http_status=st.none() | st.integers(0, 10**6),
    finished_at_s=st.floats(),
)
KEPT = {
    "text": (pa.string(), json_values),
    "count": (pa.int64(), st.integers() | st.floats()),
    "share": (pa.float64(), st.floats() | st.integers() | any_text),
    "flag": (pa.bool_(), st.booleans() | json_values),
}


@st.composite
def written_parts(draw: st.DrawFn) -> tuple[Layout, list[tuple[dict[str, Any], Outcome]]]:
    kind = draw(st.none() | field_types.filter(lambda kind: not isinstance(kind, Scalar)))  # arguments are an object
    names = draw(st.lists(st.sampled_from(sorted(KEPT)), unique=True))
    layout = Layout(pa.schema([(name, KEPT[name][0]) for name in names]), kind)
    rows = []
    for outcome in draw(st.lists(outcomes, max_size=4)):
        kept = {name: draw(st.none() | KEPT[name][1]) for name in names}
        arguments = draw(json_values if kind is None else values_of(kind))
        rows.append((kept, Outcome(**{**{key: getattr(outcome, key) for key in FIELDS}, "arguments": arguments})))
    return layout, rows


FIELDS = set(Outcome.__struct_fields__) - {"arguments"}


@settings(deadline=None)
@given(written_parts())
def test_whatever_is_in_a_row_it_is_written_and_reading_it_gives_the_same_part_again(
    part: tuple[Layout, list[tuple[dict[str, Any], Outcome]]],
) -> None:
    layout, rows = part

    batch = batch_of(layout, rows)
    again = layout.batch(layout.read(batch))

    assert batch.schema == layout.schema
    assert batch.column("row").to_pylist() == [outcome.row for _, outcome in rows]
    assert batch.column("status").to_pylist() == [outcome.status for _, outcome in rows]
    assert same(again, batch)


def same(left: pa.RecordBatch, right: pa.RecordBatch) -> bool:
    """Equal Arrow data, NaN included, which `equals` takes for unequal to itself."""
    return bool(left.schema == right.schema) and all(
        one.equals(other)
        or one.to_string(window=100, container_window=100) == other.to_string(window=100, container_window=100)
        for one, other in zip(left.columns, right.columns, strict=True)
    )


@settings(deadline=None)
@given(written_parts())
def test_a_part_is_the_same_after_parquet(part: tuple[Layout, list[tuple[dict[str, Any], Outcome]]]) -> None:
    layout, rows = part
    batch = batch_of(layout, rows)
    if not rows:
        return

    stored = through_parquet(batch)

    assert same(layout.batch(layout.read(stored)), batch)


texts = st.text(max_size=20)
seconds = st.floats(0, 1e10)
responses = st.builds(
    HttpResponse,
    st.integers(100, 999),
    st.dictionaries(any_text, any_text, max_size=3),
    st.binary(max_size=50),
    is_cut=st.booleans(),
)
failures = st.builds(
    Failure,
    kind=st.sampled_from(FailureKind),
    message=texts,
    http_status=st.none() | st.integers(100, 999),
    code=st.none() | texts,
    retry_after_s=st.none() | st.floats(0, 900),
    usage=st.builds(Usage, st.none() | st.integers(0, 2**40), st.none() | st.integers(0, 2**40)),
)
attempts = st.builds(
    Attempt,
    row=st.integers(0, 2**63 - 1),
    number=st.integers(1, 100),
    request_hash=texts,
    response=st.none() | responses,
    failure=st.none() | failures,
    sent_at_s=seconds,
    latency_s=seconds,
    wait_s=seconds,
    endpoint=texts,
)


@given(st.lists(attempts, max_size=4))
def test_raw_answers_are_read_back_exactly(written: list[Attempt]) -> None:
    batch = answers_batch(written)

    assert batch.schema == ANSWERS_SCHEMA
    assert read_answers(batch) == written
    headers = [one.response and json.dumps(one.response.headers) for one in written]
    assert batch.column("headers").to_pylist() == headers
