"""Several endpoints and keys for one job, in virtual time: each gets what it can take, and none of them costs a row.

`tests/test_pool_for_real.py` has the same over real connections.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from batchcall.base.errors import ExitCode
from batchcall.base.records import Failure, HttpRequest, HttpResponse, Status
from batchcall.engine.row_loop import LiveEngine
from batchcall.pacing.health import Verdict
from batchcall.pacing.pacer import Pacer
from pace_model import LIMITS, HiddenServer, RollingWindow, crowd, paced_pool

ROWS = 5_000


def given(per_minute: float, *, concurrency: int = 100) -> Pacer:
    return Pacer(concurrency=concurrency, requests_per_minute=per_minute)


def dying(at_s: float) -> HiddenServer:
    return HiddenServer(RollingWindow(600), outage=(at_s, float("inf")))


def living_share(seconds: float, rows: int, *rates: tuple[float, float]) -> float:
    """What was done of what could have been: `rates` are requests a minute, and until when."""
    return rows / sum(per_minute / 60 * min(seconds, until_s) for per_minute, until_s in rates)


def test_a_pool_of_one_dying_one_throttled_and_one_good_fails_no_row_and_uses_95_percent_of_the_living() -> None:
    servers = {
        "dying": (dying(120.0), given(600)),
        "throttled": (HiddenServer(RollingWindow(120)), Pacer(concurrency=100)),  # nothing tells its limit
        "good": (HiddenServer(RollingWindow(600)), given(600)),
    }

    course, by_endpoint = paced_pool(servers)

    assert course.statuses == {Status.OK: ROWS}
    assert living_share(course.seconds, ROWS, (600, 120.0), (120, 1e9), (600, 1e9)) >= 0.95
    assert min(by_endpoint[name][Status.OK] for name in servers) > 100
    assert servers["dying"][0].statuses[503] <= 150


def test_control_asking_in_turn_whoever_can_take_it_or_not_takes_far_longer() -> None:
    servers = [dying(120.0), HiddenServer(RollingWindow(120)), HiddenServer(RollingWindow(600))]
    turn = iter(range(10**9))

    async def in_turn(_: HiddenServer) -> bool:
        server = servers[next(turn) % 3]
        answer = await server.post(HttpRequest("/chat/completions", b"{}"))
        return isinstance(answer, HttpResponse) and answer.status == 200

    course = crowd(servers[2], in_turn, rows=2_000)

    assert course.statuses[Status.OVERLOADED] > 500


def test_each_endpoint_gets_as_much_as_it_can_take_and_none_more() -> None:
    for limit in LIMITS.values():
        servers = {str(rate): (HiddenServer(limit(rate)), given(rate)) for rate in (600, 300, 60)}

        course, by_endpoint = paced_pool(servers, rows=3_000)

        assert course.statuses == {Status.OK: 3_000}
        assert living_share(course.seconds, 3_000, (960, 1e9)) >= 0.95
        assert sum(server.statuses[429] for server, _ in servers.values()) == 0
        for rate in (600, 300, 60):
            assert 0.9 <= by_endpoint[str(rate)][Status.OK] / (3_000 * rate / 960) <= 1.1


def test_endpoints_without_limits_share_by_what_they_have_in_flight() -> None:
    servers = {
        "fast": (HiddenServer(latency_s=lambda dice, in_flight: 0.5), Pacer(concurrency=20)),
        "slow": (HiddenServer(latency_s=lambda dice, in_flight: 5.0), Pacer(concurrency=20)),
    }

    course, by_endpoint = paced_pool(servers, rows=2_000)

    assert course.statuses == {Status.OK: 2_000}
    assert living_share(course.seconds, 2_000, (44 * 60, 1e9)) >= 0.9
    assert by_endpoint["fast"][Status.OK] > 8 * by_endpoint["slow"][Status.OK]


class Refusing(HiddenServer):
    """A good server that says from a moment on that the key is no good."""

    refuses_from_s = 0.0

    async def post(self, request: HttpRequest) -> HttpResponse:
        answer = await super().post(request)
        assert isinstance(answer, HttpResponse)
        if self.sent_at_s[-1] >= self.refuses_from_s:
            self.statuses[401] += 1
            return HttpResponse(401, {}, b'{"error": {"code": "invalid_api_key", "message": "no such key"}}')
        return answer


def test_an_endpoint_that_refuses_the_key_leaves_the_pool_after_one_request() -> None:
    refusing, said = Refusing(), list[str]()

    def listen(engine: LiveEngine) -> None:
        engine.steering.say = said.append

    course, by_endpoint = paced_pool(
        {"wrong key": (refusing, given(600)), "good": (HiddenServer(), given(600))}, rows=200, watch=listen
    )

    assert course.statuses == {Status.OK: 200}
    assert by_endpoint["good"][Status.OK] == 200
    assert refusing.statuses[401] == 1
    assert course.stopped is None
    assert len(said) == 1
    assert "wrong key is no longer used: the endpoint does not accept the key" in said[0]


def test_a_key_that_is_withdrawn_midway_costs_no_row() -> None:
    withdrawn = Refusing()
    withdrawn.refuses_from_s = 60.0

    course, _ = paced_pool({"withdrawn": (withdrawn, given(600)), "good": (HiddenServer(), given(600))}, rows=2_000)

    assert course.statuses == {Status.OK: 2_000}
    assert 3 <= withdrawn.statuses[401] <= 40


def test_the_run_ends_when_no_endpoint_is_left_and_says_why_of_each() -> None:
    course, _ = paced_pool({"first": (Refusing(), given(600)), "second": (Refusing(), given(600))}, rows=50)

    assert course.statuses == {}
    assert isinstance(course.stopped, Verdict)
    assert course.stopped.exit_code is ExitCode.ENDPOINT_REFUSES
    assert "first: the endpoint does not accept the key" in course.stopped.reason
    assert "second: the endpoint does not accept the key" in course.stopped.reason


def test_an_outage_of_all_is_sat_out_and_fails_no_row() -> None:
    servers = {
        name: (HiddenServer(RollingWindow(600), outage=(50.0, 350.0)), given(600)) for name in ("first", "second")
    }

    course, _ = paced_pool(servers, rows=3_000)

    assert course.statuses == {Status.OK: 3_000}
    assert sum(server.statuses[503] for server, _ in servers.values()) <= 150
    assert course.seconds <= 1.05 * (300 + 3_000 / 1_200 * 60) + 30


def test_an_endpoint_that_comes_back_is_asked_again() -> None:
    servers = {
        "comes back": (HiddenServer(RollingWindow(600), outage=(30.0, 90.0)), given(600)),
        "good": (HiddenServer(RollingWindow(600)), given(600)),
    }

    course, _ = paced_pool(servers, rows=3_000)

    assert course.statuses == {Status.OK: 3_000}
    assert sum(at_s > 120 for at_s in servers["comes back"][0].sent_at_s) > 200


def test_the_last_row_does_not_wait_for_an_endpoint_that_is_down() -> None:
    servers = {
        "dead": (HiddenServer(outage=(0.0, float("inf"))), given(6_000)),
        "good": (HiddenServer(latency_s=lambda dice, in_flight: 1.0), given(6_000)),
    }

    course, _ = paced_pool(servers, rows=20)

    assert course.statuses == {Status.OK: 20}
    assert course.seconds <= 5.0


def test_a_row_that_an_endpoint_failed_is_asked_of_another_at_once() -> None:
    class Failing(HiddenServer):
        async def post(self, request: HttpRequest) -> HttpResponse:
            await asyncio.sleep(0.1)
            self.statuses[500] += 1
            return HttpResponse(500, {}, b"{}")

    failing, good = Failing(), HiddenServer(latency_s=lambda dice, in_flight: 1.0)

    course, _ = paced_pool({"failing": (failing, given(6_000)), "good": (good, given(6_000))}, rows=1)

    assert course.statuses == {Status.OK: 1}
    assert course.seconds <= 1.2
    assert Counter(failing.statuses) == {500: 1}


@pytest.mark.parametrize(
    "refusal",
    [
        HttpResponse(401, {}, b'{"error": {"code": "invalid_api_key", "message": "no such key"}}'),
        HttpResponse(429, {"retry-after": "5"}, b'{"error": {"code": "rate_limit_exceeded", "message": "slower"}}'),
    ],
)
def test_refusals_that_come_in_one_after_the_other_send_the_row_at_the_gate_away_once(refusal: HttpResponse) -> None:
    class AllAtOnce(HiddenServer):
        async def post(self, request: HttpRequest) -> HttpResponse | Failure:
            now_s = asyncio.get_running_loop().time()
            if not 1_010 < now_s < 1_012:
                return await super().post(request)
            self.statuses[refusal.status] += 1
            await asyncio.sleep(1_015 - now_s + 1e-9 * self.statuses[refusal.status])
            return refusal

    refusing = AllAtOnce()

    course, _ = paced_pool({"refusing": (refusing, given(600)), "good": (HiddenServer(), given(600))}, rows=400)

    assert course.statuses == {Status.OK: 400}
    assert refusing.statuses[refusal.status] >= 15


UNKNOWN_MODEL = HttpResponse(404, {}, b'{"error": {"code": "model_not_found", "message": "no such model"}}')


def test_a_row_that_every_endpoint_refuses_ends_after_its_attempts_and_costs_the_pool_nobody() -> None:
    class Choosy(HiddenServer):
        async def post(self, request: HttpRequest) -> HttpResponse | Failure:
            if b'"row 7"' not in request.body:
                return await super().post(request)
            self.statuses[404] += 1
            return UNKNOWN_MODEL

    servers = {name: (Choosy(), given(600)) for name in ("first", "second")}
    said = list[str]()

    def listen(engine: LiveEngine) -> None:
        engine.steering.say = said.append

    course, _ = paced_pool(servers, rows=300, watch=listen)

    assert course.statuses == {Status.OK: 299, Status.REQUEST_REJECTED: 1}
    assert (
        sum(server.statuses[404] for server, _ in servers.values()) <= 7
    )  # the first refusal is no try: another may serve
    assert said == []


def test_what_is_in_flight_when_an_endpoint_leaves_costs_no_row_its_only_attempt() -> None:
    withdrawn = Refusing()
    withdrawn.refuses_from_s = 30.0
    servers = {"withdrawn": (withdrawn, Pacer(concurrency=30)), "good": (HiddenServer(), given(600))}

    course, _ = paced_pool(servers, rows=2_000, attempts=1)

    assert course.statuses == {Status.OK: 2_000}
    assert withdrawn.statuses[401] > 10


def test_a_pool_finds_out_how_many_in_flight_each_endpoint_likes_also_where_answers_come_together() -> None:
    def slower_beyond_20(dice: random.Random, in_flight: int) -> float:
        return 0.5 * max(1.0, in_flight / 20)

    servers = {name: (HiddenServer(latency_s=slower_beyond_20), Pacer()) for name in ("first", "second")}

    course, _ = paced_pool(servers, rows=3_000)

    assert course.statuses == {Status.OK: 3_000}
    assert living_share(course.seconds, 3_000, (2 * 40 * 60, 1e9)) >= 0.7


def test_an_endpoint_that_refuses_for_its_rate_does_not_use_up_a_rows_attempts_while_another_answers() -> None:
    class Refuses(HiddenServer):
        async def post(self, request: HttpRequest) -> HttpResponse | Failure:
            if asyncio.get_running_loop().time() < 1_010:
                return await super().post(request)
            self.statuses[429] += 1
            await asyncio.sleep(1.0)
            return HttpResponse(
                429, {"retry-after": "1"}, b'{"error": {"code": "rate_limit_exceeded", "message": "slower"}}'
            )

    servers = {
        "refuses": (Refuses(), Pacer(concurrency=5, requests_per_minute=600, tokens_per_minute=60_000)),
        "slow": (HiddenServer(latency_s=lambda dice, in_flight: 2.0), Pacer(concurrency=1)),
    }

    course, _ = paced_pool(servers, rows=200)

    assert course.statuses == {Status.OK: 200}
