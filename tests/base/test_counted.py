"""See `counted.py`."""

from batchcall.base import counted


def test_one_thing_is_named_in_the_singular_and_many_with_their_thousands() -> None:
    assert [counted(number, "row") for number in (0, 1, 2_000)] == ["0 rows", "1 row", "2,000 rows"]
