"""What a person who follows the README runs into: a typo is named before it costs anything, and nothing is refused
that could just go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from batchcall import (
    ExitCode,
    InputError,
    JobError,
    OutputError,
    ResumeError,
    RunOptions,
    check_job,
    run_job,
    verify_output,
)
from batchcall.disk.lock import hold_lock
from batchcall.report.text import money_text
from batchcall.sandbox.process import Settings, open_sandbox
from running import batchcall, edit, results, some_rows, write_job, write_rows


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


def with_key(monkeypatch: pytest.MonkeyPatch, key: str) -> str:
    monkeypatch.setenv("EASE_KEY", key)
    return 'api_key = "env:EASE_KEY"'


async def test_after_a_key_that_was_refused_a_changed_job_just_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_sandbox(Settings(api_key="right")) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, endpoint=with_key(monkeypatch, "wrong"))
        assert (await run_job(job)).exit_code == ExitCode.ENDPOINT_REFUSES
        monkeypatch.setenv("EASE_KEY", "right")
        edit(job, "test-model", "other-model")
        edit(job, "Who is this?", "Who?")
        check = check_job(job)
        summary = await run_job(job)

    assert check.refusals == []
    assert (summary.totals["ok"], summary.requests) == (25, 25)


@pytest.mark.parametrize("fault", ["context_length", "unprocessable", "server_error", "html_200"])
async def test_rows_that_brought_no_answer_do_not_refuse_a_changed_job(tmp_path: Path, fault: str) -> None:
    """400 for every row: what a person changes next is the job. 5xx: nothing came, nothing was paid."""
    more = "attempts = 1\nmax_failed = 25"
    async with open_sandbox(Settings(faults={fault: 1.0})) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=4, limits=more)
        spoilt = await run_job(job, RunOptions(max_outage_s=0.5))
    async with open_sandbox(Settings()) as endpoint:
        edit(job, job.read_text().split('url = "')[1].split('"')[0], endpoint.url)
        edit(job, "Who is this?", "Who?")
        summary = await run_job(job)

    assert spoilt.totals["ok"] == 0
    assert (summary.totals["ok"], summary.requests) == (4, 4)


async def test_rows_that_made_no_request_do_not_refuse_a_changed_job(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=4)
        edit(job, "{{ text }}", "{{ text.missing }}")
        assert (await run_job(job)).totals["statuses"] == {"bad_row": 4}
        edit(job, "{{ text.missing }}", "{{ text }}")

        assert (await run_job(job)).totals["ok"] == 4


async def test_one_answer_that_was_bought_is_enough_to_refuse_a_changed_job(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        await run_job(job, RunOptions(limit=1))
        edit(job, "Who is this?", "Who?")

        with pytest.raises(ResumeError, match="1 rows of another job") as refused:
            await run_job(job)
        (why,) = check_job(job).refusals

    assert "of 25 rows 25 would be sent, 0 already have an answer" in refused.value.hint
    assert why == f"{refused.value}; {refused.value.hint}"


async def test_a_refusal_says_what_the_new_job_would_really_buy(tmp_path: Path) -> None:
    """Back and forth: what lies aside is free, what has been added since is not."""
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        await run_job(job)
        edit(job, "Who is this?", "Who?")
        await run_job(job, RunOptions(on_change="rerun"))
        edit(job, "Who?", "Who is this?")
        write_rows(tmp_path / "rows.jsonl", some_rows(28))

        with pytest.raises(ResumeError) as refused:
            await run_job(job)
        back = await run_job(job, RunOptions(on_change="rerun"))

    assert "of 28 rows 3 would be sent, 25 already have an answer" in refused.value.hint
    assert "the 25 that are done took 25 requests" in refused.value.hint
    assert back.requests == 3


async def test_a_template_that_is_only_written_in_another_way_buys_nothing_and_needs_no_word(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        await run_job(job)
        edit(job, "{{ text }}", "{{ row.text }}{# the same #}")

        report = check_job(job)
        again = await run_job(job)
        write_rows(tmp_path / "fewer.jsonl", some_rows(20))
        edit(job, "{# the same #}", "")
        edit(job, "rows.jsonl", "fewer.jsonl")
        with pytest.raises(ResumeError, match="25 rows of another job"):  # rows would go: another input, too
            await run_job(job)

    assert (report.refusals, report.left) == ([], 0)
    assert (again.requests, again.totals["rows"]) == (0, 25)


async def test_another_input_whose_rows_would_replace_published_ones_is_refused(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=20)
        await run_job(job)
        before = results(tmp_path / "out")
        write_rows(tmp_path / "next.jsonl", [*some_rows(6), *some_rows(74, start=100)])
        edit(job, "rows.jsonl", "next.jsonl")

        with pytest.raises(
            ResumeError, match=r"14 of them would be removed[\s\S]*rows.jsonl -> .*next.jsonl"
        ) as refused:
            await run_job(job)
        (why,) = check_job(job).refusals
        assert results(tmp_path / "out") == before
        assert "of 80 rows 74 would be sent, 6 already have an answer" in refused.value.hint
        assert refused.value.exit_code == ExitCode.BAD_COMMAND
        assert "next.jsonl" in why
        allowed = await run_job(job, RunOptions(on_change="rerun"))
        edit(job, "next.jsonl", "rows.jsonl")
        back = await run_job(job, RunOptions(on_change="keep"))

    assert (allowed.requests, allowed.totals["rows"]) == (74, 80)
    assert (back.requests, back.totals["rows"]) == (0, 20)
    assert verify_output(tmp_path / "out").faults == []


@pytest.mark.parametrize("change", ["moved", "moved and grown", "edited", "sorted", "cut"])
async def test_an_input_that_is_the_same_or_stays_where_it_is_goes_on(tmp_path: Path, change: str) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=20)
        await run_job(job)
        rows = some_rows(20)
        target = "moved.jsonl" if "moved" in change else "rows.jsonl"
        edit(job, "rows.jsonl", target)
        write_rows(
            tmp_path / target,
            {
                "moved": rows,
                "moved and grown": [*some_rows(3, start=50), *rows],
                "edited": [*rows[:10], *some_rows(10, start=70)],
                "sorted": rows[::-1],
                "cut": rows[:5],
            }[change],
        )
        check = check_job(job)
        summary = await run_job(job)

    bought = {"moved and grown": 3, "edited": 10}.get(change, 0)
    assert (check.refusals, check.left, summary.requests) == ([], bought, bought)


async def test_another_input_over_rows_that_were_not_bought_just_runs(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=3)
        write_rows(tmp_path / "rows.jsonl", [{"txt": "a"}, {"txt": "b", "text": None}])
        edit(job, "{{ text }}", "{{ text.none }}")
        await run_job(job)
        write_rows(tmp_path / "next.jsonl", [{"text": {"none": "a"}}])
        edit(job, "rows.jsonl", "next.jsonl")

        assert (await run_job(job)).totals["ok"] == 1


def test_check_exits_1_where_run_would_refuse_and_says_why(tmp_path: Path) -> None:
    job = write_job(tmp_path, endpoint='api_key = "env:NO_SUCH_KEY_IS_SET"')
    report = check_job(job)

    assert report.exit_code == ExitCode.ROWS_FAILED
    assert "NO_SUCH_KEY_IS_SET is not set" in report.refusals[0]
    assert "refused " in report.as_text()
    assert report.as_json()["exit_code"] == 1


def test_check_exits_1_over_files_that_batchcall_has_not_written(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "theirs.parquet").write_bytes(b"PAR1")

    assert "theirs.parquet" in check_job(job).refusals[0]


def test_check_exits_1_while_another_run_holds_the_output(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    own = tmp_path / "out" / "_batchcall"
    own.mkdir(parents=True)
    with hold_lock(own / "lock"):
        held = check_job(job)

    assert "another run holds" in held.refusals[0]
    assert check_job(job).refusals == []


async def test_check_says_what_run_says_of_a_damaged_part_with_and_without_its_raw_answers(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=3)
        await run_job(job)
        part = tmp_path / "out" / "part-000000.parquet"
        part.write_bytes(part.read_bytes()[:-20])

        can_be_rebuilt = check_job(job)
        (tmp_path / "out" / "_batchcall" / "answers" / "part-000000.answers").unlink()
        (refusal,) = check_job(job).refusals
        with pytest.raises(OutputError) as refused:
            await run_job(job)

    assert can_be_rebuilt.refusals == []
    assert refusal == f"{str(refused.value).rstrip('.')}; {refused.value.hint}"


@pytest.mark.parametrize("text", ["as it was", "another"])
async def test_check_refuses_as_run_does_when_run_json_is_lost_and_the_rows_are_of_another_input(
    tmp_path: Path, text: str
) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url)
        write_rows(tmp_path / "rows.jsonl", [{"text": "as it was"}])
        await run_job(job)
        (tmp_path / "out" / "_batchcall" / "run.json").unlink()
        write_rows(tmp_path / "rows.jsonl", [{"text": text}])
        report = check_job(job)

        if text == "as it was":
            assert (report.refusals, report.done) == ([], 1)
            assert (await run_job(job)).totals["ok"] == 1
        else:
            assert "1 rows in it do not fit" in report.refusals[0]
            with pytest.raises(ResumeError, match="do not fit"):
                await run_job(job)


@pytest.mark.parametrize(("good", "exit_code"), [(0, 1), (1, 0)])
def test_check_exits_1_where_all_rows_are_bad(tmp_path: Path, good: int, exit_code: int) -> None:
    job = write_job(tmp_path)
    write_rows(tmp_path / "rows.jsonl", [{"text": {"a": "b"}}] * good + [{"text": {"c": 1}}] * 5)
    edit(job, "{{ text }}", "{{ text.a }}")
    report = check_job(job)

    assert report.exit_code == exit_code
    assert "rows will end as bad_row" in [*report.refusals, *report.warnings][0]


async def test_the_measured_length_of_answers_survives_a_changed_prompt(tmp_path: Path) -> None:
    async with open_sandbox(Settings()) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, more='[prices."test-model"]\nprompt = 1.0\ncompletion = 2.0')
        guessed = check_job(job)
        totals = (await run_job(job)).totals
        edit(job, "Who is this?", "Who is that?")
        changed = check_job(job)

    per_row = totals["completion_tokens"] / 25
    assert "answers from the 25 rows of the previous job" in changed.basis
    assert guessed.tokens > changed.tokens
    assert changed.cost is not None
    assert changed.tokens - 25 * per_row == pytest.approx(changed.cost * 1e6 - 2 * 25 * per_row, abs=2)
    assert changed.left == 25


async def test_check_warns_of_a_budget_that_is_smaller_than_the_forecast_with_both_figures(tmp_path: Path) -> None:
    prices = '[prices."test-model"]\nprompt = 100.0\ncompletion = 100.0'
    job = write_job(tmp_path, limits="max_cost = 0.05\nmax_tokens_total = 700", more=prices)
    before = check_job(job)
    await run_job(job, RunOptions(limit=2))

    after = check_job(job)

    cost, tokens = before.warnings
    assert "limits.max_cost is 0.0500 USD, and the rows to do cost about" in cost
    assert money_text(before.cost) in cost
    assert f"limits.max_tokens_total is 700, and the rows to do take about {before.tokens:,}" in tokens
    assert "already spent" in after.warnings[0]
    assert "already used" in after.warnings[1]
    edit(job, "max_cost = 0.05\nmax_tokens_total = 700", "max_cost = 500\nmax_tokens_total = 7_000_000")
    assert check_job(job).warnings == []


def test_every_command_takes_the_job_file_or_the_output_folder(tmp_path: Path) -> None:
    job = write_job(tmp_path, rows=3)
    write_rows(tmp_path / "other.jsonl", some_rows(4))
    out = tmp_path / "elsewhere"
    assert batchcall("run", job, "--input", tmp_path / "other.jsonl", "--output", out).returncode == 0

    checked = batchcall("check", out, "--json")
    again = batchcall("run", out)
    anew = batchcall("revalidate", out)
    by_job = [batchcall(name, job, "--output", out, "--json") for name in ("status", "verify")]
    by_folder = [batchcall(name, out, "--json") for name in ("status", "verify")]

    assert [json.loads(checked.stdout)[name] for name in ("rows", "rows_done", "refusals")] == [4, 4, []]
    assert (again.returncode, "nothing was left to do" in again.stdout) == (0, True), again.stderr
    assert (anew.returncode, "4 read again" in anew.stdout) == (0, True), anew.stderr
    by_its_folder = [batchcall(name, tmp_path, "--output", out, "--json") for name in ("status", "verify")]
    assert [one.stdout for one in by_its_folder] == [one.stdout for one in by_folder]
    assert [one.stdout for one in by_job] == [one.stdout for one in by_folder]
    assert [one.returncode for one in by_job] == [0, 0]
    assert not (tmp_path / "out").exists()


def test_an_output_whose_job_file_is_gone_says_so_and_a_folder_that_is_not_an_output_names_the_file(
    tmp_path: Path,
) -> None:
    job = write_job(tmp_path, rows=3)
    assert batchcall("run", job).returncode == 0
    (tmp_path / "no-job").mkdir()
    assert "is a folder without a job file" in batchcall("run", tmp_path / "no-job").stderr
    assert "is not an output of batchcall" in batchcall("status", tmp_path / "no-job").stderr
    job.rename(tmp_path / "moved.toml")

    refused = batchcall("check", tmp_path / "out")

    assert refused.returncode == 2
    assert f"was written by {job}, which is no longer there" in refused.stderr
    assert batchcall("run", tmp_path / "moved.toml").returncode == 0
    assert batchcall("status", tmp_path / "out", "--output", tmp_path).returncode == 2


def test_a_rehearsal_is_not_taken_for_the_output_of_the_job(tmp_path: Path) -> None:
    job = write_job(tmp_path, url="http://127.0.0.1:9/v1", rows=3)
    assert batchcall("run", job, "--rehearse").returncode == 0

    refused = batchcall("run", tmp_path / "out-rehearsal")

    assert (refused.returncode, "is a rehearsal" in refused.stderr) == (2, True)


def warnings_of(job: Path) -> str:
    return "\n".join(check_job(job).warnings)


def test_the_job_that_the_doubtful_ones_are_made_from_raises_no_doubt(tmp_path: Path) -> None:
    assert warnings_of(write_job(tmp_path)) == ""


def test_a_template_without_a_column_is_warned_of(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    edit(job, "{{ text }}", "Ada Lovelace")

    assert "every row makes the same request" in warnings_of(job)


@pytest.mark.parametrize(
    "mark", ["{text}", "{ text }", "${text}", "{text!r}", "{text:>10}", "{first name}", "%(text)s", "{id} {{ text }}"]
)
@pytest.mark.parametrize("place", ["prompt", "system", "messages"])
def test_a_column_in_the_marks_of_another_language_is_warned_of(tmp_path: Path, mark: str, place: str) -> None:
    job = write_job(tmp_path, request=f'system = "Of {mark}."' if place == "system" else "")
    write_rows(tmp_path / "rows.jsonl", [{"text": "a", "first name": "b", "id": "c"}])
    if place == "prompt":
        edit(job, "{{ text }}", f"{mark} {{{{ text }}}}")
    elif place == "messages":
        edit(job, 'prompt = "Who is this?\\n{{ text }}"', f'messages = [{{ role = "user", content = "Of {mark}" }}]')

    assert "is sent as written; a column is written {{ " in warnings_of(job)


@pytest.mark.parametrize(
    "text",
    ['{\\"text\\": 1}', "{text: string}", "{nope}", "{% raw %}{{ text }}{% endraw %}", "\\\\textbf{x}", "{}", "<text>"],
)
def test_braces_that_name_no_column_are_not_a_typo(tmp_path: Path, text: str) -> None:
    job = write_job(tmp_path)
    edit(job, "Who is this?", f"Who is this? {text}")

    assert warnings_of(job) == ""


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ('max_tokens = "200"', "max_tokens = 200"),
        ('temperature = "0.5"', "temperature = 0.5"),
        ('seed = " 7"', "seed = 7"),
        ('stream = "true"', "stream = true"),
        ('stream_options = { include_usage = "False" }', "include_usage = false"),
        ('chat_template_kwargs = { enable_thinking = "false" }', "enable_thinking = false"),
    ],
)
def test_a_number_or_a_switch_in_quotes_is_warned_of(tmp_path: Path, written: str, advice: str) -> None:
    assert f"without quotes: {advice}" in warnings_of(write_job(tmp_path, request=written))


@pytest.mark.parametrize("written", ['user = "1815"', 'stop = "1"', 'reasoning_effort = "low"', "max_tokens = 200"])
def test_what_may_be_a_text_or_is_right_is_not_a_typo(tmp_path: Path, written: str) -> None:
    assert warnings_of(write_job(tmp_path, request=written)) == ""


def test_a_job_without_a_tool_is_warned_of_unless_it_says_that_text_is_wanted(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    edit(job, '[[tool]]\nfile = "tool.json"', "")
    assert "there is no [[tool]]" in warnings_of(job)

    edit(job, 'model = "test-model"', 'model = "test-model"\ntool_choice = "none"')
    assert warnings_of(job) == ""
    edit(job, 'tool_choice = "none"', 'response_format = { type = "json_object" }')
    assert warnings_of(job) == ""


def test_prices_of_a_model_that_is_not_asked_are_warned_of(tmp_path: Path) -> None:
    price = '[prices."{}"]\nprompt = 1.0\ncompletion = 2.0\n'
    job = write_job(tmp_path, more=price.format("test-model-2"))
    assert 'did you mean [prices."test-model"]?' in warnings_of(job)

    edit(job, price.format("test-model-2"), price.format("test-model"))
    assert warnings_of(job) == ""


@pytest.mark.parametrize(("typo", "meant"), [("promt", "prompt"), ("message", "messages"), ("colums", "columns")])
def test_a_misspelt_prompt_is_named_and_not_taken_for_a_batch_file(tmp_path: Path, typo: str, meant: str) -> None:
    job = write_job(tmp_path)
    edit(job, "prompt =", f"{typo} =")

    with pytest.raises(JobError) as refused:
        check_job(job)

    assert refused.value.faults == (f"request.{typo}: unknown key; did you mean {meant}?",)


def test_a_job_without_any_prompt_says_why_it_looks_for_a_column_body(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    edit(job, 'prompt = "Who is this?\\n{{ text }}"', "")

    with pytest.raises(InputError, match=r"neither prompt, messages nor columns.*'body'"):
        check_job(job)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_rows_whose_column_is_null_or_empty_are_counted(tmp_path: Path, suffix: str) -> None:
    job = write_job(tmp_path)
    rows = [{"id": str(n), "text": None if n % 9 == 0 else "" if n % 10 == 0 else "a"} for n in range(300)]
    write_rows(tmp_path / "rows.jsonl", rows)
    if suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
        edit(job, "rows.jsonl", "rows.parquet")

    warnings = warnings_of(job)

    assert "column text is null in 34 of 300 rows" in warnings
    assert "column text is empty in 26 of 300 rows" in warnings
    assert "column id" not in warnings


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_members_of_a_column_that_are_null_or_empty_are_counted(tmp_path: Path, suffix: str) -> None:
    job = write_job(tmp_path)
    edit(job, "{{ text }}", "{{ text.a }}{{ row['text']['b']['c'] | trim }}{{ text.d | default('x') }}")
    texts = [{"a": None, "b": {"c": " "}, "d": None}, None, {"a": "x", "b": {"c": None}, "d": None}]
    write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    if suffix == "parquet":
        table = pyarrow.Table.from_pylist([{"text": text} for text in texts])
        pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
        edit(job, "rows.jsonl", "rows.parquet")

    warnings = [warning for warning in check_job(job).warnings if warning.startswith("column ")]

    assert [warning.partition(" of 3 rows")[0] for warning in warnings] == [
        "column text is null in 1",
        "column text.a is null in 1",
        "column text.b.c is null in 1",
        "column text.b.c is empty in 1",
    ]


def test_nulls_are_counted_in_the_first_rows_of_a_long_input_only(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    write_rows(tmp_path / "rows.jsonl", [{"text": None if n in (5, 10_500) else "a"} for n in range(11_000)])

    assert "column text is null in 1 of the first 10,000 rows" in warnings_of(job)


def test_a_column_that_a_template_has_a_default_for_may_be_null(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    edit(job, "{{ text }}", "{{ text }} {{ nick | default('nobody') }}")
    write_rows(tmp_path / "rows.jsonl", [{"text": "a", "nick": None}])

    assert warnings_of(job) == ""


async def test_a_run_says_each_doubt_once(tmp_path: Path) -> None:
    job = write_job(tmp_path, rows=3)
    edit(job, "{{ text }}", "{text}")
    said: list[str] = []

    await run_job(job, say=said.append)

    assert sum("is sent as written" in note for note in said) == 1
    assert sum("every row makes the same request" in note for note in said) == 1


def test_a_misspelt_fault_of_the_embedded_endpoint_is_found_by_check_and_leaves_no_trace(tmp_path: Path) -> None:
    job = write_job(tmp_path, rows=3, more="[sandbox]\nfaults = { no_cal = 0.5 }")

    for name in ("check", "run"):
        refused = batchcall(name, job)
        assert refused.returncode == 2
        assert "no_cal is not a fault of the sandbox" in refused.stderr
        assert "did you mean no_call?" in refused.stderr
    assert not (tmp_path / "out").exists()
