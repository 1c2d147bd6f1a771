"""Parts: what rows come to is added up field by field, and files have few, bounded row groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from batchcall.base.records import Bill, Outcome, Status, Usage
from batchcall.disk.disk import RealDisk
from batchcall.output import parts
from batchcall.output.columns import Layout
from batchcall.output.parts import Totals, open_part, read_batches, read_totals, write_part

LAYOUT = Layout(pa.schema([]), None)
PAID = Outcome(7, Status.OK, attempts=2, usage=Usage(10, 20, 31, 4, 5), cost=0.5)
FREE = Outcome(8, Status.NO_CALL, attempts=1)
NAMES = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens", "cost")


def spent(totals: Totals) -> tuple[Any, ...]:
    return tuple(getattr(totals, name) for name in NAMES)


def batch(rows: int, *, content: str = "") -> pa.RecordBatch:
    return LAYOUT.batch([(None, replace(FREE, row=row, content=content)) for row in range(rows)])


def written(path: Path, *batches: pa.RecordBatch) -> list[int]:
    """How many rows each row group of a part has."""
    write_part(RealDisk(), path, LAYOUT, batches, Totals())
    with pq.ParquetFile(path) as file:
        return [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]


def test_what_a_row_used_is_added_and_taken_away_again_field_by_field() -> None:
    totals = Totals()
    totals.count(FREE)
    assert spent(totals) == (None,) * 6

    totals.count(PAID)
    totals.count(PAID)
    assert (totals.rows, totals.failed, totals.attempts) == (3, 1, 5)
    assert spent(totals) == (20, 40, 62, 8, 10, 1.0)

    totals.count(PAID, times=-1)
    assert (totals.rows, totals.attempts, totals.statuses) == (2, 3, {"ok": 1, "no_call": 1})
    assert spent(totals) == (10, 20, 31, 4, 5, 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_one_number_that_is_known_leaves_the_others_unknown(name: str) -> None:
    totals = Totals()

    if name == "cost":
        totals.spend(Usage(), 3.0)
    else:
        totals.spend(Usage(**{name: 3}), None)

    assert spent(totals) == tuple(3 if one == name else None for one in NAMES)


def test_totals_of_parts_add_up_and_what_none_knows_stays_unknown() -> None:
    one, other, empty = Totals(), Totals(), Totals()
    one.count(PAID)
    other.count(PAID)
    other.count(FREE)
    other.bill = Bill(2, {"timed_out": 3})

    one.add(other)
    one.add(empty)
    empty.add(Totals())

    assert (one.rows, one.attempts, one.statuses) == (3, 5, {"ok": 2, "no_call": 1})
    assert (spent(one), one.bill) == ((20, 40, 62, 8, 10, 1.0), Bill(2, {"timed_out": 3}))
    assert spent(empty) == (None,) * 6


def test_totals_come_back_from_a_footer_as_they_were(tmp_path: Path) -> None:
    totals = Totals(bill=Bill(1, {"timed_out": 2}))
    totals.count(PAID)
    totals.count(FREE)
    path = tmp_path / "part-000000.parquet"

    write_part(RealDisk(), path, LAYOUT, [batch(2)], totals)

    assert read_totals(RealDisk(), path) == totals
    with open_part(RealDisk(), path) as part:
        assert part.totals == totals
        assert [one.row for one in part.outcomes()] == [0, 1]


def test_absurd_counts_are_written_as_numbers_that_fit() -> None:
    said = replace(Totals(), prompt_tokens=2**70, completion_tokens=-5, total_tokens=2**63 - 1).as_json()

    assert (said["prompt_tokens"], said["completion_tokens"], said["total_tokens"]) == (2**63 - 1, 0, 2**63 - 1)
    assert (said["cached_tokens"], said["ok"], said["failed"], said["statuses"]) == (None, 0, 0, {})


def test_a_row_group_has_at_most_ten_thousand_rows(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.parquet"

    assert written(path, *[batch(250)] * 41) == [10_000, 250]
    assert written(path, *[batch(250)] * 40) == [10_000]
    assert written(path) == []


def test_a_row_group_of_large_rows_has_about_sixteen_mebibytes(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.parquet"

    assert written(path, *[batch(1, content="x" * (1 << 20))] * 40) == [16, 16, 8]


def test_large_rows_are_read_in_small_batches_and_small_ones_by_five_hundred(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.parquet"
    written(path, *[batch(250)] * 8)
    assert [one.num_rows for one in read_batches(RealDisk(), path)] == [500] * 4

    unlike = [f"{row:07}" * (1 << 17) for row in range(40)]
    groups = written(path, *[batch(1, content=content) for content in unlike])
    assert max(one.num_rows for one in read_batches(RealDisk(), path)) <= 11
    of_each = [sum(one.num_rows for one in read_batches(RealDisk(), path, group=group)) for group in range(len(groups))]
    assert of_each == groups == [19, 19, 2]


def test_arrays_of_different_types_are_never_the_same() -> None:
    numbers, texts = pa.array([1, 2]), pa.array(["1", "2"])

    assert parts._is_same(numbers, pa.array([1, 2]))
    assert not parts._is_same(numbers, pa.array([1, 3]))
    assert not parts._is_same(numbers, texts)
    assert parts._is_same(texts.dictionary_encode(), pa.array(["2", "1"]).dictionary_encode().take(pa.array([1, 0])))
