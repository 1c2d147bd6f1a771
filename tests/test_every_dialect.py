"""One job in all four protocols, against the embedded endpoint: the same columns, whatever is said on the wire."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.dataset
import pytest

from batchcall import revalidate_job, run_job, verify_output
from batchcall.base.errors import BatchcallError, ExitCode
from batchcall.job.model import load_job
from batchcall.job.sections import PROTOCOLS
from batchcall.pipeline.run import RunOptions
from batchcall.report.snapshot import Summary
from batchcall.sandbox.faults import FAULTS
from batchcall.sandbox.process import Settings
from documents import BODIES_SENT, documented
from forked import forked, wait_until
from killing import answered_rows, endpoint_process, ledger
from running import TOOL, batchcall, edit, results, write_job, write_rows
from vendors import ledger_of, serving
from virtual_time import run_virtual

ROWS = 5
PATIENCE_S = 0.003
WAYS = [(protocol, is_stream) for protocol in PROTOCOLS for is_stream in (False, True)]
IDS = [protocol + ("-stream" if is_stream else "") for protocol, is_stream in WAYS]
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
every_way = pytest.mark.parametrize(("protocol", "is_stream"), WAYS, ids=IDS)


class Ran(NamedTuple):
    """What a job came to."""

    exit_code: int
    rows: list[dict[str, Any]]
    bill: dict[str, Any]  # of this run
    summary: Summary | None  # None where the run ended with an exception

    @property
    def statuses(self) -> set[str]:
        return {row["status"] for row in self.rows}


def a_job(folder: Path, protocol: str, url: str, *, is_stream: bool = False, rows: int = ROWS, **parts: Any) -> Path:
    asked = "stream = true" if is_stream else ""
    endpoint = f'protocol = "{protocol}"'
    return write_job(folder, url=url, rows=rows, endpoint=endpoint, request=asked, **parts)


async def ran(job: Path, url: str, options: RunOptions | None = None) -> Ran:
    before = await ledger_of(url.removesuffix("/v1"))
    try:
        summary, exit_code = await run_job(job, options), None
    except BatchcallError as error:
        summary, exit_code = None, int(error.exit_code)
    after = await ledger_of(url.removesuffix("/v1"))
    out = job.parent / "out"
    rows = results(out) if list(out.glob("*.parquet")) else []
    bill = {name: after[name] - before[name] for name in ("requests", "billed", "billed_tokens")}
    return Ran(int(summary.exit_code) if exit_code is None and summary else exit_code or 0, rows, bill, summary)


def in_virtual_time(
    folder: Path, way: tuple[str, bool], settings: Settings, options: RunOptions | None = None, **parts: Any
) -> Ran:
    """A job run against an endpoint of these settings; its waits cost nothing."""

    async def main() -> Ran:
        async with serving(settings) as url:
            return await ran(a_job(folder, way[0], url, is_stream=way[1], **parts), url, options)

    return run_virtual(main(), patience_s=PATIENCE_S)


# The same job

PERSON = copy.deepcopy(TOOL)
PERSON["function"]["parameters"] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
OWN_WORDS = {  # what each vendor has of its own
    "calls", "finish_reason", "response_id", "system_fingerprint", "request_hash", "finished_at", "latency_s", "wait_s",
    "prompt_tokens", "total_tokens",  # the embedded endpoint counts the bytes of the request
    "endpoint",
}  # fmt: skip


async def test_another_protocol_changes_nothing_but_its_own_words(tmp_path: Path) -> None:
    """A count that a vendor leaves out where it would be 0 is null."""
    schemas, tables = {}, {}
    async with serving(Settings()) as url:
        for way, name in zip(WAYS, IDS, strict=True):
            job = a_job(tmp_path / name, way[0], url, is_stream=way[1])
            (tmp_path / name / "tool.json").write_text(json.dumps(PERSON))
            write_rows(tmp_path / name / "rows.jsonl", [{"text": f"Name: Ada {n}\nAge: {n}"} for n in range(ROWS)])
            got = await ran(job, url)
            schemas[name] = pyarrow.dataset.dataset(tmp_path / name / "out", format="parquet").schema
            tables[name] = [{key: row[key] or 0 for key in row.keys() - OWN_WORDS} for row in got.rows]

            assert (got.exit_code, got.bill["billed"]) == (ExitCode.OK, ROWS)
            assert sum(row["total_tokens"] for row in got.rows) == got.bill["billed_tokens"]
            assert all(row["total_tokens"] == row["prompt_tokens"] + row["completion_tokens"] for row in got.rows)
            assert verify_output(tmp_path / name / "out").faults == []

    first = IDS[0]
    assert [row["arguments"]["age"] for row in tables[first]] == list(range(ROWS))
    for name in IDS:
        assert schemas[name].equals(schemas[first], check_metadata=False)
        assert tables[name] == tables[first]


# The same faults

FATAL = {  # the endpoint will not serve this job: nothing is in, nothing is lost
    "quota", "relay_quota", "bad_key", "echoes_bad_key", "unknown_model", "no_channel", "redirect",
}  # fmt: skip
PASSING = {  # cured by waiting: every row is answered in the end, unless it met the fault too often
    "rate_limited": set(), "rate_limited_bare": set(), "relay_saturated": set(), "overloaded": set(),
    "overloaded_529": set(), "loading_model": set(), "cloudflare_1015": set(), "channel_failed": {"overloaded"},
    "server_error": {"overloaded"}, "bad_gateway": {"overloaded"}, "gateway_timeout": {"overloaded"},
    "error_in_200": {"overloaded"}, "html_200": {"bad_response"}, "disconnect_before": {"unreachable"},
    "disconnect_mid_body": {"unreachable"}, "hang": {"timed_out"},
}  # fmt: skip
LASTING = {  # status of every row
    "echoes_key": "request_rejected", "context_length": "request_rejected",
    "invalid_request_500": "request_rejected", "content_filter": "filtered",
    "sensitive_words": "filtered", "truncated": "truncated", "refusal": "refused", "no_call": "no_call",
    "unknown_tool": "unknown_tool", "invalid_schema_arguments": "invalid_arguments", "nan": "bad_json",
    "deep_json": "bad_json", "arguments_empty": "bad_json", "arguments_null": "bad_json",
    "choices_null": "bad_response", "choices_empty": "bad_response", "choices_missing": "bad_response",
}  # fmt: skip
ELSEWHERE = {  # where a protocol cannot say the same, and why
    ("refusal", "gemini"): "filtered",  # it has no refusal in words: SAFETY
    ("refusal", "gemini-stream"): "filtered",
    ("arguments_empty", "anthropic"): "invalid_arguments",  # {}
    ("arguments_empty", "anthropic-stream"): "invalid_arguments",  # {}
    ("arguments_null", "anthropic-stream"): "invalid_arguments",  # {}
    # In the place of an object they are a text, which is JSON: of another type than the schema's.
    **dict.fromkeys(
        [(fault, name) for fault in ("nan", "deep_json") for name in ("anthropic", "gemini", "gemini-stream")],
        "invalid_arguments",
    ),
}  # fmt: skip
UNCOUNTED = {"usage_missing", "usage_zero", "usage_negative"}
AT_FIRST = {"unprocessable"}  # 422 ends the job at its first row; where a vendor has no 422, its nearest is the row's
MENDED = FAULTS.keys() - FATAL - PASSING.keys() - LASTING.keys() - AT_FIRST


def test_every_fault_has_its_meaning() -> None:
    assert len(FAULTS) >= 64
    assert FATAL | PASSING.keys() | LASTING.keys() | AT_FIRST <= FAULTS.keys()


def check_bill(got: Ran, *, is_counted: bool) -> None:
    """No bill beyond what the rows tell."""
    assert got.bill["billed"] <= sum(row["attempts"] for row in got.rows) == got.bill["requests"]
    if is_counted:
        assert got.bill["billed_tokens"] <= sum(row["total_tokens"] or 0 for row in got.rows)


@every_way
@pytest.mark.parametrize("fault", sorted(FATAL))
def test_an_endpoint_that_will_not_serve_costs_nothing_and_no_row(
    tmp_path: Path, fault: str, protocol: str, is_stream: bool
) -> None:
    got = in_virtual_time(tmp_path, (protocol, is_stream), Settings(faults={fault: 1.0}))

    has_a_day = (fault, protocol) == ("quota", "gemini")  # Google says that the day's quota is used up
    assert got.exit_code == (ExitCode.STOPPED_EARLY if has_a_day else ExitCode.ENDPOINT_REFUSES)
    assert (got.rows, got.bill["billed"]) == ([], 0)

    again = in_virtual_time(tmp_path, (protocol, is_stream), Settings())
    assert (again.exit_code, again.statuses, len(again.rows)) == (ExitCode.OK, {"ok"}, ROWS)


@every_way
@pytest.mark.parametrize("fault", sorted(PASSING))
def test_what_passes_is_waited_for(tmp_path: Path, fault: str, protocol: str, is_stream: bool) -> None:
    got = in_virtual_time(
        tmp_path,
        (protocol, is_stream),
        Settings(faults={fault: 0.4}),
        RunOptions(max_outage_s=600),  # dice may fall ill for the first few requests
        limits='timeout = "20s"\nattempts = 12',
    )

    assert len(got.rows) == ROWS
    assert got.statuses <= {"ok", *PASSING[fault]}
    assert "ok" in got.statuses
    check_bill(got, is_counted=fault != "disconnect_mid_body")  # nobody saw those counts
    assert verify_output(tmp_path / "out").faults == []


@every_way
@pytest.mark.parametrize("fault", sorted(LASTING))
def test_what_lasts_is_said_in_the_same_word(tmp_path: Path, fault: str, protocol: str, is_stream: bool) -> None:
    name = protocol + ("-stream" if is_stream else "")

    got = in_virtual_time(tmp_path, (protocol, is_stream), Settings(faults={fault: 1.0}))

    assert got.exit_code == ExitCode.ROWS_FAILED
    assert len(got.rows) == ROWS
    assert got.statuses == {ELSEWHERE.get((fault, name), LASTING[fault])}
    assert all(row["error"] and row["arguments"] is None for row in got.rows)
    check_bill(got, is_counted=True)
    assert verify_output(tmp_path / "out").faults == []


@every_way
@pytest.mark.parametrize("fault", sorted(MENDED))
def test_what_can_be_read_is_read(tmp_path: Path, fault: str, protocol: str, is_stream: bool) -> None:
    got = in_virtual_time(tmp_path, (protocol, is_stream), Settings(faults={fault: 1.0}))

    assert (got.exit_code, got.statuses, len(got.rows)) == (ExitCode.OK, {"ok"}, ROWS)
    assert [row["arguments"]["age"] for row in got.rows] == list(range(ROWS))
    is_counted = fault not in UNCOUNTED and (fault, protocol, is_stream) != ("unasked_stream", "openai-chat", False)
    check_bill(got, is_counted=is_counted)
    assert verify_output(tmp_path / "out").faults == []


@every_way
@pytest.mark.parametrize("fault", sorted(AT_FIRST))
def test_a_first_row_that_cannot_be_processed_ends_the_job(
    tmp_path: Path, fault: str, protocol: str, is_stream: bool
) -> None:
    got = in_virtual_time(tmp_path, (protocol, is_stream), Settings(faults={fault: 1.0}))

    assert got.bill["billed"] == 0
    if protocol.startswith("openai"):
        assert (got.exit_code, got.rows) == (ExitCode.ENDPOINT_REFUSES, [])
    else:
        assert (got.exit_code, got.statuses, len(got.rows)) == (ExitCode.ROWS_FAILED, {"request_rejected"}, ROWS)


# The same remedies


@every_way
@pytest.mark.parametrize("fault", ["invalid_schema_arguments", "unknown_tool"])
def test_asking_again_repairs_a_first_invalid_answer(
    tmp_path: Path, fault: str, protocol: str, is_stream: bool
) -> None:
    got = in_virtual_time(tmp_path, (protocol, is_stream), Settings(faults={fault: 1.0}), more="[validate]\nreask = 1")

    assert (got.exit_code, got.statuses, len(got.rows)) == (ExitCode.OK, {"ok"}, ROWS)
    assert {row["attempts"] for row in got.rows} == {2}
    assert got.bill["billed"] == 2 * ROWS
    assert sum(row["total_tokens"] for row in got.rows) == got.bill["billed_tokens"]


@every_way
@pytest.mark.parametrize("fault", ["no_call", "nan", "deep_json", "trailing_prose"])
def test_asking_again_about_what_was_no_call_costs_one_request(
    tmp_path: Path, fault: str, protocol: str, is_stream: bool
) -> None:
    """The embedded endpoint does not know that it is asked again where the answer held no call: the dice decide."""
    settings = Settings(faults={fault: 0.5})
    more = "[validate]\nrepair = false\nreask = 1"

    got = in_virtual_time(tmp_path, (protocol, is_stream), settings, rows=15, more=more)

    ends = Counter((row["attempts"], row["status"] == "ok") for row in got.rows)
    assert ends.keys() <= {(1, True), (2, True), (2, False)}
    assert ends[2, True] + ends[2, False]
    assert got.bill["billed"] == got.bill["requests"] == sum(row["attempts"] for row in got.rows)
    assert sum(row["total_tokens"] for row in got.rows) == got.bill["billed_tokens"]


@every_way
async def test_failed_rows_are_tried_again_and_an_answer_is_never_bought_twice(
    tmp_path: Path, protocol: str, is_stream: bool
) -> None:
    async with serving(Settings(faults={"no_call": 0.5}, seed=3)) as url:
        job = a_job(tmp_path, protocol, url, is_stream=is_stream, rows=20)
        first = await ran(job, url)
    async with serving(Settings()) as healthy:
        edit(job, url, healthy)
        same = await ran(job, healthy)
        again = await ran(job, healthy, RunOptions(retry_failed=True))

    failed = sum(row["status"] == "no_call" for row in first.rows)
    assert 0 < failed < 20
    assert same.bill["requests"] == 0
    assert (again.statuses, again.bill["requests"]) == ({"ok"}, failed)
    assert verify_output(tmp_path / "out").faults == []


@every_protocol
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, protocol: str) -> None:
    with endpoint_process(Settings(latency_s=0.03)) as endpoint:
        job = a_job(tmp_path, protocol, endpoint.url, rows=60)
        with forked("run", job, into=tmp_path / "said") as run:
            wait_until(lambda: answered_rows(tmp_path / "out") >= 12)
            assert run.kill()
        with forked("run", job, into=tmp_path / "said") as rest:
            assert rest.wait() == 0, rest.stderr()

        assert ledger(endpoint)["billed"] <= 60 + 8  # as many as were in flight
    assert Counter(row["status"] for row in results(tmp_path / "out")) == {"ok": 60}
    assert verify_output(tmp_path / "out").faults == []


@every_way
async def test_stored_answers_are_read_again_without_a_request(tmp_path: Path, protocol: str, is_stream: bool) -> None:
    async with serving(Settings()) as url:
        job = a_job(tmp_path, protocol, url, is_stream=is_stream)
        await ran(job, url)
        tool = copy.deepcopy(TOOL)
        tool["function"]["parameters"]["properties"]["age"] = {"type": "number", "maximum": 2}
        (tmp_path / "tool.json").write_text(json.dumps(tool))

        result = revalidate_job(load_job(job))

        assert (await ledger_of(url.removesuffix("/v1")))["requests"] == ROWS
    assert result.after == Counter(ok=3, invalid_arguments=ROWS - 3)
    assert [row["arguments"]["age"] for row in results(tmp_path / "out")[:3]] == [0.0, 1.0, 2.0]
    assert verify_output(tmp_path / "out").faults == []


VENDORS = {
    "openai-chat": "https://api.openai.com/v1",
    "openai-responses": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
    "azure": "https://acme.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
}


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_protocol_can_be_rehearsed(tmp_path: Path, vendor: str) -> None:
    protocol = vendor if vendor in PROTOCOLS else "openai-chat"
    endpoint = f'protocol = "{protocol}"\napi_key = "env:NO_SUCH_KEY"'
    job = write_job(
        tmp_path, url=VENDORS[vendor], rows=ROWS, endpoint=endpoint, more="[sandbox]\nfaults = { fenced = 0.5 }"
    )

    run = batchcall("run", job, "--rehearse")

    assert run.returncode == 0, run.stderr
    assert {row["status"] for row in results(tmp_path / "out-rehearsal")} == {"ok"}
    assert not (tmp_path / "out").exists()


@every_protocol
def test_the_embedded_endpoint_is_asked_in_the_jobs_protocol(tmp_path: Path, protocol: str) -> None:
    run = batchcall("run", a_job(tmp_path, protocol, "sandbox"))

    assert run.returncode == 0, run.stderr
    assert {row["status"] for row in results(tmp_path / "out")} == {"ok"}


@documented
def test_the_bodies_of_every_protocol_were_held_against_its_document() -> None:
    """Runs last: what the tests above have sent was looked at."""
    if not all(BODIES_SENT.values()):
        pytest.skip("looks at what the tests above have sent")

    assert all(len(bodies) >= ROWS for bodies in BODIES_SENT.values())
