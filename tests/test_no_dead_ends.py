"""What a person who follows the README runs into: a slip is named before it costs anything, and nothing is refused
that could just go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchcall import InputError, JobError, check_job
from running import edit, write_job, write_rows


def first_prompt(job: Path) -> str:
    request = check_job(job).first_request
    assert request is not None
    return str(request["body"]["messages"][-1]["content"])


@pytest.mark.parametrize("name", ["self", "loop", "range", "dict", "namespace", "super", "caller"])
def test_a_column_named_as_something_of_jinjas_is_what_the_request_shows(tmp_path: Path, name: str) -> None:
    job = write_job(tmp_path)
    write_rows(tmp_path / "rows.jsonl", [{name: "https://issues.example/7"}])
    edit(job, "{{ text }}", f"{{% if {name} is defined %}}{{{{ {name} }}}}{{% endif %}}")

    assert first_prompt(job).endswith("https://issues.example/7")


@pytest.mark.parametrize(
    ("template", "row", "advice"),
    [
        ("{{ row }}", {"row": 7}, 'row["row"]'),
        ("{% for x in xs %}{{ loop }}{% endfor %}", {"xs": [1], "loop": "a"}, "row.loop"),
        ("{{ true }}", {"true": "yes"}, 'row["true"]'),
    ],
)
def test_a_column_that_jinja_hides_is_refused_with_the_way_to_write_it(
    tmp_path: Path, template: str, row: dict[str, Any], advice: str
) -> None:
    job = write_job(tmp_path)
    write_rows(tmp_path / "rows.jsonl", [row])
    edit(job, "{{ text }}", template)

    with pytest.raises(JobError) as refused:
        check_job(job)

    assert advice in refused.value.faults[0]


@pytest.mark.parametrize("prose", ["If lang is defined in the text, say so.", "lang | default is English."])
def test_what_the_prompt_says_in_words_does_not_make_a_column_optional(tmp_path: Path, prose: str) -> None:
    job = write_job(tmp_path)
    edit(job, "{{ text }}", f"{prose} {{{{ lang }}}}")

    with pytest.raises(InputError, match="column 'lang'"):
        check_job(job)


def test_a_column_that_the_whole_row_is_used_beside_must_be_there(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    edit(job, "{{ text }}", "{{ row | tojson }} {{ lang }}")

    with pytest.raises(InputError, match="column 'lang'"):
        check_job(job)
