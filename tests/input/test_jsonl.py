"""JSONL: a bad line costs itself, a damaged file ends the run, and every value is exact."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from batchcall.base.errors import InputError
from batchcall.base.records import Row
from batchcall.input import jsonl
from batchcall.input.files import FileSet, find_files
from batchcall.input.jsonl import MAX_LINE_BYTES, JsonlTable, parse_line
from batchcall.input.open_input import Input, open_input
from batchcall.input.values import Mark

GOOD = b'{"a": 1}'


def write(folder: Path, content: bytes, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def rows_of(content: bytes, folder: Path, *columns: str) -> list[Row]:
    source = open_input(str(write(folder, content)))
    return [row for batch in source.batches(columns or ("a",)) for row in batch.rows]


def nested(depth: int) -> bytes:
    return b'{"a": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"not json", "the line is not JSON: Expecting value, at column 1"),
        (b'{"a": 1,}', "at column "),
        (b'{"a": 1} {"a": 2}', "the line is not JSON: Extra data, at column 10"),
        (b'{"a": NaN}', "the line is not JSON: it contains NaN"),
        (b'{"a": -Infinity}', "the line is not JSON: it contains -Infinity"),
        (b'{"a": 1e999}', "the line has a number that is too large: 1e999"),
        (b'{"a": ' + b"7" * 5_000 + b"}", "the line has an integer of more than 4,300 digits"),
        (b'{"a": "\xff"}', "the line is not UTF-8, from byte 8 on"),
        (b'{"a": "\xed\xa0\xbd"}', "the line is not UTF-8, from byte 8 on"),
        (b"[1]", "the line is an array, not an object"),
        (b'"text"', "the line is a string, not an object"),
        (b"17", "the line is a number, not an object"),
        (b"12345678901234567890123", "the line is a number, not an object"),
        (b"1.5", "the line is a number, not an object"),
        (b"true", "the line is true or false, not an object"),
        (b"null", "the line is null, not an object"),
        (nested(129), "the line is nested deeper than 128 levels"),
        (nested(1_030), "the line is nested deeper than 128 levels"),
        (nested(200_000), "the line is nested deeper than 128 levels"),
        (b'{"a": "' + b"x" * MAX_LINE_BYTES + b'"}', "the line is longer than 16 MiB"),
        (b'{"a": "' + b"x" * 2 * MAX_LINE_BYTES + b'"}', "the line is longer than 16 MiB"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_a_bad_line_costs_itself_and_no_other(tmp_path: Path, line: bytes, fault: str) -> None:
    rows = rows_of(b"\n".join([GOOD, line, b'{"a": 3}', b""]), tmp_path)

    assert [row.values for row in rows] == [{"a": 1}, {}, {"a": 3}]
    assert [row.fault for row in rows][::2] == [None, None]
    assert rows[1].fault is not None
    assert fault in rows[1].fault
    assert [row.where for row in rows] == ["rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:3"]


def test_half_a_line_at_the_end_is_reported_as_such(tmp_path: Path) -> None:
    rows = rows_of(GOOD + b'\n{"a": "cu', tmp_path)

    assert rows[0].fault is None
    assert rows[1].fault == (
        "the file ends in the middle of this line: the line is not JSON: Unterminated string starting at, at column 7"
    )


def test_the_last_line_needs_no_newline(tmp_path: Path) -> None:
    assert [row.values for row in rows_of(GOOD + b"\n" + GOOD, tmp_path)] == [{"a": 1}] * 2


def test_blank_lines_windows_lines_and_byte_order_marks_are_not_rows(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \t\n\n{"a": 2}\r\n   \n'

    rows = rows_of(content, tmp_path)

    assert [(row.values, row.where) for row in rows] == [({"a": 1}, "rows.jsonl:1"), ({"a": 2}, "rows.jsonl:5")]
    assert open_input(str(tmp_path / "rows.jsonl")).count_rows() == 2


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b"  "])
def test_an_input_without_rows_is_an_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="has no rows"):
        open_input(str(write(tmp_path, content)))


@pytest.mark.parametrize(
    "number",
    [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**40, 1234567890123456789],
)
def test_integers_are_exact_whatever_their_size(number: int) -> None:
    assert parse_line(b'{"a": [%d]}' % number) == {"a": [number]}


def test_halves_of_surrogate_pairs_become_replacement_characters() -> None:
    line = rb'{"a\ud83d": ["x\ude00", 12345678901234567890123, "\ud83d\ude00", "\\ud83d"]}'

    assert parse_line(line) == {"a\ufffd": ["x\ufffd", 12345678901234567890123, "😀", "\\ud83d"]}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5))
def test_what_json_writes_is_read_back(values: dict[str, Any]) -> None:
    line = b"{%s}" % b",".join(b"%s:%s" % (as_json(name), as_json(value)) for name, value in values.items())

    assert parse_line(line) == values


def as_json(value: Any) -> bytes:
    """As orjson writes it, for integers of any size."""
    return orjson.dumps(value, default=str) if not isinstance(value, int | list | dict) else as_json_of_many(value)


def as_json_of_many(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"{%s}" % b",".join(b"%s:%s" % (as_json(name), as_json(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return b"[%s]" % b",".join(map(as_json, value))
    return str(value).lower().encode()


def test_a_key_that_a_row_lacks_is_missing_and_null_is_none(tmp_path: Path) -> None:
    rows = rows_of(b'{"a": null, "b": 1}\n{"b": 2}\n', tmp_path, "a")

    assert [row.values for row in rows] == [{"a": None}, {}]


def test_a_key_that_comes_first_behind_the_sample_is_read_when_asked_for(tmp_path: Path) -> None:
    source = open_input(str(write(tmp_path, GOOD * 1 + b"\n" + (GOOD + b"\n") * 10_000 + b'{"late": 7}\n')))

    last = [batch.rows[-1] for batch in source.batches(["late"])][-1]

    assert source.columns == ("a",)
    assert last.values == {"late": 7}


def test_a_key_that_comes_first_behind_the_sample_is_in_its_row_when_all_columns_are_asked_for(tmp_path: Path) -> None:
    content = (GOOD + b"\n") * 10_000 + b'{"late": 7, "a": 2}\n'
    source = open_input(str(write(tmp_path, content)))

    last = [batch.rows[-1] for batch in source.batches(source.columns)][-1]

    assert source.columns == ("a",)
    assert last.values == {"a": 2, "late": 7}
    assert list(last.values) == ["a", "late"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["true", "null"], pa.bool_()),
        (["1", "-9223372036854775808"], pa.int64()),
        (["1", "1.5", "null"], pa.float64()),
        (['"x"', "null"], pa.string()),
        (["null"], pa.string()),
        (["9223372036854775808"], pa.string()),
        (["9007199254740993", "0.5"], pa.string()),
        (["1", '"x"'], pa.string()),
        (["true", "1"], pa.string()),
        (["[1]"], pa.string()),
        (['{"x": 1}'], pa.string()),
    ],
)
def test_the_type_of_a_column_holds_all_that_the_sample_has(
    tmp_path: Path, values: list[str], expected: pa.DataType
) -> None:
    content = "".join(f'{{"first": 0, "a": {value}}}\n' for value in values).encode()

    schema = open_input(str(write(tmp_path, content))).schema

    assert schema == pa.schema([("first", pa.int64()), ("a", expected)])


def test_columns_are_those_of_all_rows_of_the_sample_in_the_order_first_seen(tmp_path: Path) -> None:
    write(tmp_path, b'{"b": 1}\nbroken\n{"a": 1, "b": 1}\n', "1.jsonl")
    write(tmp_path, b'{"c": 1}\n', "2.jsonl")

    assert open_input(str(tmp_path)).columns == ("b", "a", "c")


def test_an_input_of_broken_lines_says_so_when_a_column_is_needed(tmp_path: Path) -> None:
    source = open_input(str(write(tmp_path, b'{\n  "a": 1\n}\n')))

    with pytest.raises(InputError) as error:
        source.require(["a"], what="the request")

    assert "no line of the sample is a JSON object; rows.jsonl:1: the line is not JSON" in error.value.hint


def damaged_copies() -> dict[str, bytes]:
    lines = b"".join(b'{"a": "%d"}\n' % number for number in range(200_000))
    zipped, frame = gzip.compress(lines), pa.Codec("zstd").compress(lines, asbytes=True)
    flipped = bytearray(zipped)
    flipped[len(flipped) // 2] ^= 0xFF
    return {
        "cut.jsonl.gz": zipped[: len(zipped) // 2],
        "checksum_cut.jsonl.gz": zipped[:-4],
        "flipped.jsonl.gz": bytes(flipped),
        "garbage_behind.jsonl.gz": zipped + b"garbage",
        "plain.jsonl.gz": lines,
        "cut.jsonl.zst": frame[: len(frame) // 2],
        "plain.jsonl.zst": lines,
    }


@pytest.mark.parametrize(("name", "content"), damaged_copies().items(), ids=damaged_copies().keys())
def test_a_file_that_goes_bad_midway_ends_the_run_with_its_name_and_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = write(tmp_path, content, name)

    with pytest.raises(InputError, match=rf"{name} cannot be read from line [\d,]+ on: \w+"):
        list(open_input(str(path)).batches(["a"]))
    with pytest.raises(InputError, match=rf"{name} cannot be read from line [\d,]+ on: \w+"):
        open_input(str(path)).count_rows()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(GOOD), "name it .jsonl.gz"),
        (pa.Codec("zstd").compress(GOOD, asbytes=True), "name it .jsonl.zst"),
        ('{"a": 1}'.encode("utf-16"), "is UTF-16"),
        (b"PAR1....", "name it .parquet"),
    ],
)
def test_a_file_that_is_something_else_inside_is_reported(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(InputError, match=f"rows.jsonl is not JSONL: it .*{what}"):
        open_input(str(write(tmp_path, content)))


def test_counting_and_reading_agree_on_what_a_row_is(tmp_path: Path) -> None:
    long = b'{"a": "' + b"x" * (MAX_LINE_BYTES + 300_000) + b'"}'
    content = b"\n".join([b"", GOOD, b" ", long, b"\r", b"x", long, long, GOOD, b"", b"{"])
    source = open_input(str(write(tmp_path, content)))

    rows = [row for batch in source.batches(["a"]) for row in batch.rows]

    assert source.count_rows() == len(rows) == 7
    assert [row.where for row in rows] == [f"rows.jsonl:{line}" for line in (2, 4, 6, 7, 8, 9, 11)]


def test_offsets_behind_lines_that_are_too_long_are_right(tmp_path: Path) -> None:
    long = b"x" * (MAX_LINE_BYTES + 300_000)
    lines = [line for n in range(1_200) for line in (b'{"a": %d}' % n, long if n in (3, 700) else b"")]
    source = open_input(str(write(tmp_path, b"\n".join(lines))))
    batches = list(source.batches(["a"]))

    again = [next(source.batches(["a"], start_row=one.rows[0].index, marks=[one.mark])) for one in batches]

    assert [one.mark.offset > 0 for one in batches[1:]] == [True] * (len(batches) - 1)
    assert len(batches) > 2
    assert [one.rows[0] for one in again] == [one.rows[0] for one in batches]


def test_files_of_a_store_are_read_alike(tmp_path: Path) -> None:
    lines = b"".join(b'{"a": "%s"}\n' % (b"%d" % number * 100) for number in range(20_000))
    local = find_files(str(write(tmp_path, lines)))
    store = FileSet("store", fs.SubTreeFileSystem("/", fs.LocalFileSystem()), local.files)

    rows = [
        [row for batch in JsonlTable(files).batches(["a"], Mark(0, 0, 0), 0) for row in batch.rows]
        for files in (local, store)
    ]

    assert (local.is_remote, store.is_remote) == (False, True)
    assert rows[0] == rows[1]
    assert len(rows[0]) == 20_000


def test_no_line_of_a_small_input_is_parsed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    monkeypatch.setattr(jsonl, "parse_line", lambda line: parsed.append(line) or parse_line(line))
    lines = [b'{"a": %d}' % number for number in range(2_000)]

    source = open_input(str(write(tmp_path, b"\n".join(lines))), id_column="a")
    source.check_ids("a")
    read = [[row.values for batch in source.batches(["a"]) for row in batch.rows] for _ in range(2)]

    assert parsed == lines
    assert read[0] == read[1] == [{"a": number} for number in range(2_000)]


def test_lines_that_are_not_those_of_the_sample_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "_HELD_BYTES", 10 * len(GOOD))
    source = open_input(str(write(tmp_path, (GOOD + b"\n") * 20)))
    held, whole = next(source.batches(["a"])).rows, (GOOD + b"\n") * 9
    write(tmp_path, whole + b'{"a": 2}\n')

    changed = next(source.batches(["a"])).rows

    assert [row.values["a"] for row in held] == [1] * 20
    assert [row.values["a"] for row in changed] == [1] * 9 + [2]


def test_what_is_held_of_the_sample_is_bounded_and_goes_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "_HELD_BYTES", 600 * len(GOOD))
    files = find_files(str(write(tmp_path, (GOOD + b"\n") * 2_000)))

    table = JsonlTable(files)
    held = len(table._known)
    rows = sum(len(batch.rows) for batch in table.batches(["a"], Mark(0, 0, 0, 1), 0))

    assert held == 600
    assert rows == 2_000
    assert not table._known


def test_a_file_that_is_gone_since_is_an_input_error(tmp_path: Path) -> None:
    source: Input = open_input(str(write(tmp_path, GOOD)))
    (tmp_path / "rows.jsonl").unlink()

    with pytest.raises(InputError, match=r"rows\.jsonl cannot be read from line 1 on: No such file"):
        list(source.batches(["a"]))
    with pytest.raises(InputError, match="No such file"):
        list(source.batches(["a"], marks=[Mark(0, 0, 9)]))


def test_a_whole_line_at_the_end_of_a_file_is_not_called_unfinished(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n[{"a": 2}]')

    rows = [row for batch in open_input(str(tmp_path / "rows.jsonl")).batches(("a",)) for row in batch.rows]

    assert rows[1].fault == "the line is an array, not an object"
