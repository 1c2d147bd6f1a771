"""The values that travel between the rooms."""

from __future__ import annotations

from batchcall.base.records import Bill


def test_a_bill_of_another_version_is_read_by_the_keys_that_are_known() -> None:
    paid_twice = {"timed_out": 2}

    bill = Bill.from_json({"possibly_paid_twice": paid_twice, "of_a_later_version": 1})
    bill.count("timed_out")

    assert bill == Bill(0, {"timed_out": 3})
    assert paid_twice == {"timed_out": 2}
