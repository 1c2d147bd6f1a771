from __future__ import annotations

import re

import pytest

from batchcall.base import late_regex


def test_a_late_regex_finds_what_a_compiled_one_does() -> None:
    late, compiled = late_regex(r"(?P<number>\d+) ?(s|ms)", re.I), re.compile(r"(?P<number>\d+) ?(s|ms)", re.I)

    found = late.search("in 20 MS")

    assert found is not None
    assert found.groupdict() == {"number": "20"}
    assert late.findall("1s 2ms") == compiled.findall("1s 2ms")
    assert late.pattern == compiled.pattern
    assert late.flags == compiled.flags


def test_a_late_regex_is_compiled_when_it_is_first_used() -> None:
    wrong = late_regex("(")

    with pytest.raises(re.error):
        wrong.search("")
