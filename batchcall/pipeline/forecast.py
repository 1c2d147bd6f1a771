"""What a run would buy, were it to start now: counted from the input and from every answer that an output holds."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from batchcall.disk import Disk
from batchcall.input import Input
from batchcall.output import AnswerCount
from batchcall.pipeline.request_maker import RequestMaker


class Forecast(msgspec.Struct, frozen=True):
    """Rows of the input by what they would cost; and answers of the output that no row of the input asks for."""

    rows: int
    to_buy: int  # no answer to their request is held, neither in the output nor among those set aside
    bad: int  # no request can be made of them
    bought: int  # answers in the output that were paid for
    gone: int  # of these, those whose request no row makes

    @property
    def free(self) -> int:
        return self.rows - self.to_buy - self.bad

    def __str__(self) -> str:
        bad = f", {self.bad:,} make no request" if self.bad else ""
        return f"of {self.rows:,} rows {self.to_buy:,} would be sent, {self.free:,} already have an answer{bad}"


def forecast_of(makers: Sequence[RequestMaker], source: Input, disk: Disk, folder: Path) -> Forecast:
    """Read the whole input and every answer's hash; change nothing. Raises InputError, OutputError.

    `makers` are those whose requests count as the row's own: the job's, and older ones that are kept.
    """
    rows = to_buy = bad = 0
    columns = set[str]().union(*(maker.columns_of(source) for maker in makers))
    with contextlib.closing(AnswerCount(disk, folder)) as answers:
        for batch in source.batches(columns):
            for row in batch.rows:
                rows += 1
                # Each answer serves one row, as in the run: equal rows each need their own.
                hashes = [maker.hash_of_row(row) for maker in makers]
                if hashes[0] is None:
                    bad += 1
                elif not any(answers.take(one) for one in hashes if one is not None):
                    to_buy += 1
        return Forecast(rows, to_buy, bad, answers.bought, answers.left_here())
