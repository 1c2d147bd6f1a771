"""kill -9 at any moment, thirty times and more, against an endpoint that bills in another process."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchcall.sandbox.process import Settings
from forked import forked, wait_until
from killing import Figures, Plan, answered_rows, endpoint_process, journals, ledger, run_campaign
from running import write_job

CAMPAIGNS = {
    "plain": (Plan(seed=1), 6),
    "small parts": (Plan(rows=400, part_rows=37, concurrency=32, latency_s=0.005, seed=2), 6),
    "one large part": (Plan(rows=250, part_rows=1_000, concurrency=64, latency_s=0.05, seed=3), 6),
    "failed rows are tried again": (Plan(rows=200, part_rows=60, faults={"no_call": 0.2}, seed=4), 6),
    "invalid answers are asked again, connections break": (
        Plan(
            rows=150,
            part_rows=60,
            concurrency=32,
            faults={"invalid_schema_arguments": 0.3, "disconnect_mid_body": 0.02, "server_error": 0.02},
            reask=1,
            seed=5,
        ),
        6,
    ),
}


@pytest.fixture(scope="module")
def figures() -> dict[str, Figures]:
    """What the campaigns came to, for the test that looks at all of them."""
    return {}


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_killed_again_and_again_it_loses_no_answer_and_doubles_no_row(
    tmp_path: Path, figures: dict[str, Figures], name: str
) -> None:
    plan, kills = CAMPAIGNS[name]

    figures[name] = run_campaign(tmp_path, plan, kills=kills)

    assert figures[name].violations == [], figures[name].as_text()
    assert figures[name].kills >= kills - 2


def test_every_bill_in_vain_is_reported_however_often_the_runs_were_killed(figures: dict[str, Figures]) -> None:
    if len(figures) < len(CAMPAIGNS):
        pytest.skip("looks at what the campaigns above came to")

    assert {name: campaign.unreported for name, campaign in figures.items()} == dict.fromkeys(CAMPAIGNS, 0)


def test_without_its_journal_a_killed_run_buys_its_answers_again(tmp_path: Path) -> None:
    """The control: what the campaigns look at does fail when what it protects is taken away."""
    with endpoint_process(Settings(latency_s=0.01)) as endpoint:
        job = write_job(tmp_path, url=endpoint.url, rows=60, part_rows=100)
        with forked("run", job, into=tmp_path / "said") as run:
            wait_until(lambda: answered_rows(tmp_path / "out") >= 20)
            assert run.kill()
        for journal in journals(tmp_path / "out"):
            journal.unlink()

        with forked("run", job, into=tmp_path / "said") as rest:
            assert rest.wait() == 0, rest.stderr()

        assert ledger(endpoint)["billed"] >= 60 + 20
