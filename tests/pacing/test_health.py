"""When an endpoint is given up, and how carefully it is approached."""

from __future__ import annotations

import pytest

from batchcall.base.errors import ExitCode
from batchcall.base.records import Failure, FailureKind, Status
from batchcall.pacing.health import Health, Verdict, as_utc

RELAY = "https://relay.example/v1"
FIRST_PARTY = [
    "api.openai.com",
    "https://api.openai.com/v1",
    "https://API.OpenAI.com:443/v1",
    "https://team-a.openai.azure.com/openai/deployments/x?api-version=1",
    "https://team-a.cognitiveservices.azure.com/openai/v1",
    "https://team-a.services.ai.azure.com/openai/v1",
    "https://api.anthropic.com",
    "https://generativelanguage.googleapis.com/v1beta",
]
NOT_FIRST_PARTY = [
    RELAY,
    "https://api.openai.com.relay.example/v1",
    "https://relay.example/api.openai.com",
    "https://evil-openai.azure.com",
    "http://127.0.0.1:8000/v1",
    "",
]


def failed(kind: FailureKind, *, http_status: int | None = 401) -> Failure:
    return Failure(kind, "HTTP 401: no", http_status=http_status)


def health_that_worked(host: str = RELAY) -> Health:
    health = Health(host=host)
    health.saw_reply()
    return health


def failures_until_the_end(health: Health, failure: Failure, *, at_most: int = 50) -> tuple[int, Verdict | None]:
    for count in range(1, at_most + 1):
        if verdict := health.saw(failure):
            return count, verdict
    return at_most, None


@pytest.mark.parametrize("host", [FIRST_PARTY[0], RELAY])
@pytest.mark.parametrize(
    "kind",
    [
        FailureKind.BAD_KEY,
        FailureKind.RELAY_DENIED,
        FailureKind.NO_QUOTA,
        FailureKind.UNKNOWN_MODEL,
        FailureKind.REDIRECTED,
    ],
    ids=lambda kind: kind.label,
)
def test_a_refusal_before_anything_worked_ends_the_job_at_once(kind: FailureKind, host: str) -> None:
    verdict = Health(host=host).saw(failed(kind))

    assert verdict is not None
    assert verdict.exit_code == ExitCode.ENDPOINT_REFUSES
    assert "HTTP 401: no" in verdict.reason
    assert verdict.hint


@pytest.mark.parametrize(
    ("kind", "host", "count"),
    [
        *((FailureKind.BAD_KEY, host, 3) for host in FIRST_PARTY),
        *((FailureKind.BAD_KEY, host, 10) for host in NOT_FIRST_PARTY),
        (FailureKind.RELAY_DENIED, RELAY, 10),
        (FailureKind.UNKNOWN_MODEL, RELAY, 10),
        (FailureKind.UNKNOWN_MODEL, FIRST_PARTY[0], 10),
        (FailureKind.NO_QUOTA, RELAY, 1),
        (FailureKind.REDIRECTED, RELAY, 1),
        *((kind, FIRST_PARTY[0], 1) for kind in (FailureKind.NO_QUOTA, FailureKind.REDIRECTED)),
        *(
            (kind, host, 10)
            for kind in (FailureKind.UNTRUSTED, FailureKind.WRONG_SCHEME)
            for host in (RELAY, FIRST_PARTY[0])
        ),
        (FailureKind.RELAY_DENIED, FIRST_PARTY[0], 10),
    ],
)
def test_after_something_worked_so_many_refusals_in_a_row_end_the_job(kind: FailureKind, host: str, count: int) -> None:
    ended_after, verdict = failures_until_the_end(health_that_worked(host), failed(kind))

    assert ended_after == count
    assert verdict is not None
    assert verdict.exit_code == ExitCode.ENDPOINT_REFUSES


def test_a_reply_in_between_forgives_refusals() -> None:
    health = health_that_worked(FIRST_PARTY[0])

    for _ in range(20):
        assert health.saw(failed(FailureKind.BAD_KEY)) is None
        assert health.saw(failed(FailureKind.BAD_KEY)) is None
        health.saw_reply()


@pytest.mark.parametrize("health", [Health(host=RELAY), health_that_worked()])
def test_a_wait_beyond_what_anybody_waits_stops_the_run_resumably(health: Health) -> None:
    verdict = health.saw(failed(FailureKind.LONG_WAIT, http_status=429))

    assert verdict is not None
    assert verdict.exit_code == ExitCode.STOPPED_EARLY


@pytest.mark.parametrize("http_status", [413, 422])
def test_the_very_first_judgement_413_or_422_ends_the_job(http_status: int) -> None:
    health = Health(host=RELAY)
    assert health.saw(failed(FailureKind.OVERLOADED, http_status=503)) is None  # judges nothing

    verdict = health.saw(failed(FailureKind.REJECTED, http_status=http_status))

    assert verdict is not None
    assert verdict.exit_code == ExitCode.ENDPOINT_REFUSES


@pytest.mark.parametrize("first", [FailureKind.REJECTED, FailureKind.FILTERED, None])
@pytest.mark.parametrize("http_status", [413, 422])
def test_later_413_and_422_are_the_rows_own_fault(http_status: int, first: FailureKind | None) -> None:
    health = Health(host=RELAY)
    if first is None:
        health.saw_reply()
    else:
        assert health.saw(failed(first, http_status=400)) is None

    assert health.saw(failed(FailureKind.REJECTED, http_status=http_status)) is None


@pytest.mark.parametrize(
    "kind",
    [
        FailureKind.UNCONNECTED,
        FailureKind.DISCONNECTED,
        FailureKind.TIMED_OUT,
        FailureKind.RATE_LIMITED,
        FailureKind.OVERLOADED,
        FailureKind.SERVER_ERROR,
        FailureKind.RELAY_ERROR,
        FailureKind.UNREADABLE,
    ],
    ids=lambda kind: kind.label,
)
def test_a_failure_that_may_pass_never_ends_the_run_by_itself(kind: FailureKind) -> None:
    _, verdict = failures_until_the_end(Health(host=RELAY), failed(kind, http_status=None), at_most=200)

    assert verdict is None


@pytest.mark.parametrize(
    ("alike", "rest", "is_stopped"),
    [
        ([Status.REQUEST_REJECTED] * 45, [Status.OK] * 5, True),
        ([Status.BAD_RESPONSE] * 50, [], True),
        ([Status.REQUEST_REJECTED] * 44, [Status.OK] * 6, False),
        ([Status.REQUEST_REJECTED] * 25, [Status.BAD_RESPONSE] * 25, False),
        ([Status.NO_CALL] * 50, [], True),  # every further one is paid for, and as useless
        ([Status.TRUNCATED] * 46, [Status.OK] * 4, True),
        ([Status.OVERLOADED] * 50, [], False),  # it passes
        ([Status.OK] * 50, [Status.REQUEST_REJECTED] * 100, False),  # only the first fifty are a sample
        ([Status.BAD_ROW] * 50, [Status.OK] * 50, False),  # never sent
    ],
)
def test_nine_of_ten_first_rows_failing_alike_stop_the_run(
    alike: list[Status], rest: list[Status], is_stopped: bool
) -> None:
    health = health_that_worked()

    verdicts = [verdict for status in alike + rest if (verdict := health.saw_row_end(status))]

    assert [verdict.exit_code for verdict in verdicts] == [ExitCode.STOPPED_EARLY] * is_stopped


def test_a_job_that_tolerates_every_failure_is_not_stopped_for_them() -> None:
    health = Health(host=RELAY, tolerates_all=True)

    assert [health.saw_row_end(Status.NO_CALL) for _ in range(60)] == [None] * 60


def test_the_stop_says_what_to_fix() -> None:
    health = health_that_worked()

    verdict = [health.saw_row_end(Status.TRUNCATED) for _ in range(50)][-1]

    assert verdict is not None
    assert "50 of the first 50 rows ended as truncated" in verdict.reason
    assert "max_tokens" in verdict.hint


@pytest.mark.parametrize(
    ("moment_s", "shown"),
    [(0.0, "1970-01-01 00:00"), (1.0, "1970-01-01 00:01"), (60.0, "1970-01-01 00:01"), (1e12, "2100-01-01 00:00")],
)
def test_a_moment_is_said_in_whole_minutes_and_none_is_beyond_this_century(moment_s: float, shown: str) -> None:
    assert f"{as_utc(moment_s):%Y-%m-%d %H:%M}" == shown
