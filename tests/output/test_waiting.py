"""Rows that wait for their part take bounded memory, counted in bytes, and come back in order; see `waiting.py`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from batchcall.base.records import Attempt, HttpResponse, Outcome, Status, ToolCall
from batchcall.disk.disk import RealDisk, is_temporary
from batchcall.input.kept_columns import KeptRow
from batchcall.output import parts, spill, waiting
from batchcall.output.columns import Layout
from batchcall.output.parts import AnswersFile, Totals, read_batches, read_raw, stored_answers, write_part
from batchcall.output.waiting import Waiting

LAYOUT = Layout(pa.schema([("kind", pa.dictionary(pa.int8(), pa.string()))]), None)
MB = 1024 * 1024


def outcome(row: int, size: int) -> Outcome:
    text = f'{{"row":{row},"text":"{"x" * size}"}}'
    call = ToolCall("c", "record", text, None)
    return Outcome(row, Status.OK, arguments={"row": row, "text": "x" * size}, calls=(call,))


def kept(row: int) -> KeptRow:
    return LAYOUT.kept.of_arrays({"kind": pa.array([f"k{row % 7}"]).dictionary_encode()}, 1)[0]


def rows_of(batches: list[pa.RecordBatch]) -> list[int]:
    return [row for batch in batches for row in batch.column("row").to_pylist()]


def test_large_rows_take_bounded_memory_however_many_wait(tmp_path: Path) -> None:
    held = Waiting(RealDisk(), tmp_path / "part-000000.journal", 0)
    before, most = pa.total_allocated_bytes(), 0

    for row in range(120):
        held.add(kept(row), outcome(row, MB // 2), LAYOUT)
        most = max(most, held.held_bytes, pa.total_allocated_bytes() - before)

    assert most < spill.HELD_BYTES + 4 * waiting.WAITING_BYTES < 120 * MB // 2
    assert [path.name for path in tmp_path.iterdir() if is_temporary(path.name)] == ["_tmp-part-000000.spill~"]
    written = list(held.batches(LAYOUT))
    assert rows_of(written) == list(range(120))
    assert [kind for batch in written for kind in batch.column("kind").to_pylist()] == [
        f"k{row % 7}" for row in range(120)
    ]
    held.close()
    assert list(tmp_path.iterdir()) == []


def test_without_a_spill_the_same_rows_would_be_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "HELD_BYTES", 1 << 40)
    held = Waiting(RealDisk(), tmp_path / "part-000000.journal", 0)

    for row in range(60):
        held.add(kept(row), outcome(row, MB // 2), LAYOUT)

    assert held.held_bytes > 50 * MB
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [10, 20_000])
def test_rows_that_end_in_any_order_come_back_in_that_of_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(spill, "HELD_BYTES", 200_000)
    monkeypatch.setattr(waiting, "WAITING_BYTES", 400_000)
    held = Waiting(RealDisk(), tmp_path / "part-000003.journal", 3_000)
    rows = [row for row in range(3_000, 3_600) if row % 11]
    random.Random(size).shuffle(rows)

    for row in rows:
        held.add(kept(row), outcome(row, size), LAYOUT)
    path = tmp_path / "part-000003.parquet"
    write_part(RealDisk(), path, LAYOUT, held.batches(LAYOUT), Totals())

    written = list(read_batches(RealDisk(), path))
    assert rows_of(written) == sorted(rows)
    kinds = [kind for batch in written for kind in batch.column("kind").to_pylist()]
    assert kinds == [f"k{row % 7}" for row in sorted(rows)]
    held.close()


def test_small_rows_are_never_written_beside(tmp_path: Path) -> None:
    held = Waiting(RealDisk(), tmp_path / "part-000000.journal", 0)

    for row in range(1_000):
        held.add(None, outcome(row, 100), LAYOUT)

    assert len(list(held.batches(LAYOUT))) == 4  # a chunk each
    assert list(tmp_path.iterdir()) == []


def test_raw_answers_wait_in_bounded_memory_and_are_read_in_small_batches(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.answers"
    bodies = [random.Random(row).randbytes(MB) for row in range(40)]
    before, most = pa.total_allocated_bytes(), 0
    file = AnswersFile(RealDisk(), path)

    for row, body in enumerate(bodies):
        file.add([Attempt(row, 1, "hash", HttpResponse(200, {}, body), None, 1.0, 1.0, 0.0, "endpoint")])
        most = max(most, pa.total_allocated_bytes() - before)
    file.finish()

    assert most < 32 * MB
    assert max(batch.nbytes for batch in read_batches(RealDisk(), path)) < 12 * MB
    read = [attempt.response.body for attempt in read_raw(RealDisk(), path) if attempt.response is not None]
    assert read == bodies


def test_raw_answers_are_read_one_by_one_in_about_their_order_a_row_group_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_ANSWERS_GROUP_ROWS", 5)
    monkeypatch.setattr(parts, "_HELD_BYTES", 2_000)
    monkeypatch.setattr(parts, "_LOADED_BYTES", 25_000)
    path, loads = tmp_path / "part-000000.answers", list[int | None]()
    rows = [row ^ 3 for row in range(40)]  # by fours, each turned round
    file = AnswersFile(RealDisk(), path)
    for row in rows:
        body = random.Random(row).randbytes(1_000)
        file.add([Attempt(row, 1, f"hash{row}", HttpResponse(200, {}, body), None, 1.0, 1.0, 0.0, "endpoint")])
    file.finish()
    stored = {one.row: one for one in stored_answers(RealDisk(), path)}

    def loading(*given: Any, group: int | None = None) -> Any:
        loads.append(group)
        return read_batches(*given, group=group)

    monkeypatch.setattr(parts, "read_batches", loading)
    read = [stored[row].read() for row in range(40)]

    assert sorted(read, key=lambda one: rows.index(one.row)) == list(read_raw(RealDisk(), path))
    assert [one.request_hash for one in stored.values()] == [f"hash{row}" for row in rows]
    assert len(loads) == len(set(loads)) > 8  # each row group once, and `read_raw`


def test_a_row_counts_as_a_thousand_bytes_and_its_texts() -> None:
    empty = outcome(1, 0)
    plain = replace(empty, content=None, error=None, calls=())

    assert waiting.size_of(plain) == 1_000
    assert waiting.size_of(replace(plain, content="abc", error="de")) == 1_005
    assert waiting.size_of(replace(plain, calls=(ToolCall(None, "f", "1234", None),) * 2)) == 1_016


def test_rows_of_several_pieces_are_loaded_once_each_while_they_end_nearly_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "WAITING_BYTES", 20_000)
    held, loads = Waiting(RealDisk(), tmp_path / "part-000000.journal", 0), list[int]()
    for row in range(240):
        held.add(kept(row ^ 1), outcome(row ^ 1, 10), LAYOUT)
    load = held._spill.batch
    monkeypatch.setattr(held._spill, "batch", lambda number: loads.append(number) or load(number))

    assert rows_of(list(held.batches(LAYOUT))) == list(range(240))

    assert len(loads) == len(set(loads)) > 8
    held.close()


def test_of_pieces_that_overlap_few_are_in_memory_and_stretches_are_as_long_as_they_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "WAITING_BYTES", 10_000)
    monkeypatch.setattr(waiting, "_LOADED", 2)
    held, loads = Waiting(RealDisk(), tmp_path / "part-000000.journal", 0), list[int]()
    rows = [place * 3 + first for first in range(3) for place in range(8)]  # every third, three times
    for row in [*rows, *range(24, 40)]:
        held.add(kept(row), outcome(row, 10), LAYOUT)
    load = held._spill.batch
    monkeypatch.setattr(held._spill, "batch", lambda number: loads.append(number) or load(number))

    batches = list(held.batches(LAYOUT))

    assert rows_of(batches) == list(range(40))
    assert max(batch.num_rows for batch in batches) >= 4
    assert len(loads) > len(set(loads))  # what was forgotten is read again
    held.close()


def answer(row: int, size: int) -> Attempt:
    return Attempt(row, 1, "hash", HttpResponse(200, {}, b"x" * size), None, 1.0, 1.0, 0.0, "endpoint")


def test_raw_answers_are_held_up_to_four_mebibytes_or_250_of_them(tmp_path: Path) -> None:
    file = AnswersFile(RealDisk(), tmp_path / "part-000000.answers")

    held = []
    for sizes in ([4 * MB], [1], [0] * 249, [0]):
        file.add([answer(row, size) for row, size in enumerate(sizes)])
        held.append(len(file._held))

    file.finish()
    assert held == [1, 0, 249, 0]


def test_a_row_group_of_raw_answers_has_at_most_a_thousand(tmp_path: Path) -> None:
    path = tmp_path / "part-000000.answers"
    file = AnswersFile(RealDisk(), path)
    for row in range(1_500):
        file.add([answer(row, 1)])
    file.finish()

    with pq.ParquetFile(path) as written:
        groups = [written.metadata.row_group(number).num_rows for number in range(written.metadata.num_row_groups)]
    assert groups == [1_000, 500]
