"""A name is suggested for a typo of it, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchcall.base.did_you_mean import close_to
from batchcall.base.errors import InputError
from batchcall.input.open_input import open_input
from running import write_rows

KNOWN = ["opened", "text", "url", "total", "id", "file", "concurrency", "part_rows"]


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("txet", "text"), ("ulr", "url"), ("idd", "id"), ("fiel", "file"), ("open", "opened"), ("concurency", KNOWN[6])],
)
def test_a_typo_finds_what_was_meant(typo: str, meant: str) -> None:
    assert close_to(typo, KNOWN) == [meant]


@pytest.mark.parametrize("other", ["nope", "lang", "model", "x", ""])
def test_another_name_finds_nothing(other: str) -> None:
    assert close_to(other, KNOWN) == []


def test_a_column_that_is_like_no_other_is_reported_with_those_there_are_and_no_guess(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"ticket": 1, "opened": "2026-01-31"}])

    with pytest.raises(InputError, match="needs column 'nope'") as refused:
        open_input(str(tmp_path / "rows.jsonl")).require(["nope"], what="the request")

    assert refused.value.hint.startswith("it has ticket, opened")
