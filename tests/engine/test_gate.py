"""Who goes when: every test in virtual time, so hours of a budget pass in milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from through_gate import crowd, most_in_any, now, open_gate, pass_through, settle_down, through

from batchcall.engine.gate import Gate
from virtual_time import run_virtual

# Rates that differ in how a request is paid: in parts, in one, several at a time.
RATES = st.one_of(st.integers(1, 90), st.integers(91, 1_500), st.integers(1_500, 40_000))
BURSTS = st.lists(st.tuples(st.floats(0.0, 150.0), st.integers(1, 60)), min_size=1, max_size=8)


@given(rate=RATES, bursts=BURSTS)
@example(rate=1, bursts=[(0.0, 4), (150.0, 3)])
@example(rate=60, bursts=[(0.0, 1), (59.999, 60), (1.0, 60)])
@example(rate=59, bursts=[(0.0, 60), (61.5, 60), (0.5, 10)])
@example(rate=600, bursts=[(100.0, 60), (100.0, 60), (0.0, 60), (0.0, 60)])
@example(rate=12_000, bursts=[(3.0, 60)] * 8)
@settings(max_examples=150, deadline=None)
def test_no_minute_and_no_second_of_a_provider_sees_more_requests_than_allowed(
    rate: int, bursts: list[tuple[float, int]]
) -> None:
    passed_at: list[float] = []

    async def main() -> None:
        gate = open_gate(requests_per_minute=rate)
        async with asyncio.TaskGroup() as group:
            for pause_s, requests in bursts:
                await asyncio.sleep(pause_s)
                for _ in range(requests):
                    group.create_task(pass_through(gate, passed_at))

    run_virtual(main())

    assert len(passed_at) == sum(requests for _, requests in bursts)
    assert most_in_any(60.0, passed_at) <= rate
    assert most_in_any(1.0, passed_at) <= math.ceil(rate / 60)


@given(
    rate=RATES,
    cancelled=st.lists(st.tuples(st.integers(0, 39), st.floats(0.0, 200.0)), max_size=30),
    pauses=st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 40.0)), max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_neither_pauses_nor_cancelled_requests_let_more_through(
    rate: int, cancelled: list[tuple[int, float]], pauses: list[tuple[float, float]]
) -> None:
    passed_at: list[float] = []

    async def main() -> Gate:
        gate, loop = open_gate(requests_per_minute=rate), asyncio.get_running_loop()
        tasks = [asyncio.create_task(pass_through(gate, passed_at)) for _ in range(40)]
        for index, after_s in cancelled:
            loop.call_later(after_s, tasks[index].cancel)
        for after_s, length_s in pauses:
            loop.call_later(after_s, gate.hold_until, now() + after_s + length_s)
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(500)
        await asyncio.gather(*(pass_through(gate, passed_at) for _ in range(10)))
        return gate

    gate = run_virtual(main())

    assert most_in_any(60.0, passed_at) <= rate
    assert most_in_any(1.0, passed_at) <= math.ceil(rate / 60)
    assert (gate.in_flight, gate.bound_by) == (0, "")


@pytest.mark.parametrize(("rate", "minutes"), [(10, 60), (60, 30), (500, 10), (3_500, 4), (30_000, 1)])
def test_where_work_is_always_waiting_98_percent_of_the_rate_are_used(rate: int, minutes: int) -> None:
    passed_at: list[float] = []

    async def main() -> float:
        gate, start_s = open_gate(requests_per_minute=rate), now()

        async def worker() -> None:
            while now() < start_s + minutes * 60:
                await pass_through(gate, passed_at)

        await asyncio.gather(*(worker() for _ in range(8)))
        return start_s

    start_s = run_virtual(main())

    in_time = [moment for moment in passed_at if moment < start_s + minutes * 60]
    assert len(in_time) >= 0.98 * rate * minutes


@given(sizes=st.lists(st.integers(1, 3_000), min_size=300, max_size=400))
@settings(max_examples=15, deadline=None)
def test_tokens_are_spread_over_the_minute_and_98_percent_of_them_used(sizes: list[int]) -> None:
    per_minute, passed_at = 60_000, list[float]()

    async def main() -> None:
        gate = open_gate(tokens_per_minute=per_minute)
        for size in sizes:
            await pass_through(gate, passed_at, tokens=size)

    run_virtual(main())

    minutes = (passed_at[-1] - passed_at[0]) / 60
    assert most_in_any(60.0, passed_at, [float(size) for size in sizes]) <= per_minute + max(sizes)
    assert sum(sizes[1:]) >= 0.98 * per_minute * minutes


def test_both_budgets_are_entered_together_and_the_scarcer_one_binds() -> None:
    async def main() -> tuple[float, str]:
        gate, passed_at = open_gate(requests_per_minute=600, tokens_per_minute=6_000), list[float]()
        tasks = [asyncio.create_task(pass_through(gate, passed_at, tokens=100)) for _ in range(61)]
        await asyncio.sleep(20.0)
        bound_by = gate.bound_by
        await asyncio.gather(*tasks)
        return passed_at[-1] - passed_at[0], bound_by

    took_s, bound_by = run_virtual(main())

    assert took_s == pytest.approx(60, rel=0.02)  # 6,000 tokens, whereas 60 requests would take 6 s
    assert bound_by == "tokens"


def test_nothing_is_saved_up_while_nobody_asks() -> None:
    async def main() -> list[float]:
        gate, passed_at = open_gate(requests_per_minute=60), list[float]()
        await asyncio.sleep(3600)
        await asyncio.gather(*(pass_through(gate, passed_at) for _ in range(3)))
        return [moment - passed_at[0] for moment in passed_at]

    assert run_virtual(main()) == pytest.approx([0.0, 1.017, 2.034], abs=0.01)


def test_a_request_bigger_than_the_whole_minutes_tokens_waits_longer_and_goes() -> None:
    async def main() -> list[float]:
        gate, passed_at, start_s = open_gate(tokens_per_minute=600), list[float](), now()
        await asyncio.gather(*(pass_through(gate, passed_at, tokens=tokens) for tokens in (10, 1_800, 10)))
        return [moment - start_s for moment in passed_at]

    assert run_virtual(main()) == pytest.approx([0.0, 183.1, 184.1], abs=0.2)


def test_first_in_is_first_out_whatever_the_size() -> None:
    order: list[int] = []

    async def one(gate: Gate, number: int, tokens: float) -> None:
        async with through(gate, tokens):
            order.append(number)
            await asyncio.sleep(0.5)

    async def main() -> None:
        gate = open_gate(2, requests_per_minute=600, tokens_per_minute=6_000)
        sizes = [1, 5_000, 1, 1, 900, 1, 0, 2_000, 1]
        await asyncio.gather(*(one(gate, number, tokens) for number, tokens in enumerate(sizes)))

    run_virtual(main())

    assert order == sorted(order)
    assert len(order) == 9


async def wait_after_settling(reserved: float, used: float) -> float:
    """How long the request after one that reserved and used so much waits for its 100 tokens, at 10 a second."""
    gate, passed_at = open_gate(tokens_per_minute=600), list[float]()
    await pass_through(gate, passed_at, tokens=1)
    async with through(gate, reserved) as turn:
        turn.settle(used)
        assert turn.reserved == used
    start_s = now()
    await pass_through(gate, passed_at, tokens=100)
    return passed_at[-1] - start_s


@pytest.mark.parametrize(
    ("reserved", "used", "wait_s"),
    [(300, 300, 10.2), (300, 250, 5.1), (300, 0, 0.0), (300, 900, 71.2)],
    ids=["as expected", "less: given back", "nothing: all given back", "more: owed"],
)
def test_a_reservation_is_settled_by_what_was_really_used(reserved: float, used: float, wait_s: float) -> None:
    assert run_virtual(wait_after_settling(reserved, used)) == pytest.approx(wait_s, abs=0.2)


def test_a_turn_that_did_not_wait_says_so_and_one_that_did_says_how_long() -> None:
    async def main() -> tuple[float, float]:
        gate = open_gate(requests_per_minute=60)
        async with through(gate) as first:
            pass
        async with through(gate) as second:
            pass
        return first.wait_s, second.wait_s

    first_s, second_s = run_virtual(main())

    assert first_s == pytest.approx(0.0, abs=1e-6)
    assert second_s == pytest.approx(1.017, abs=0.01)


def test_a_pause_holds_everybody() -> None:
    async def main() -> tuple[list[float], str]:
        gate, passed_at, start_s = open_gate(), list[float](), now()
        gate.hold_until(now() + 20.0)
        tasks = [asyncio.create_task(pass_through(gate, passed_at)) for _ in range(3)]
        await asyncio.sleep(1)
        bound_by = gate.bound_by
        await asyncio.gather(*tasks)
        return [moment - start_s for moment in passed_at], bound_by

    passed_after_s, bound_by = run_virtual(main())

    assert passed_after_s == pytest.approx([20.0] * 3)
    assert bound_by == "pause"


def test_a_pause_is_pushed_forward_while_it_is_waited_for() -> None:
    async def main() -> float:
        gate, passed_at, start_s = open_gate(requests_per_minute=6_000), list[float](), now()
        gate.hold_until(now() + 10.0)
        waiting = asyncio.create_task(pass_through(gate, passed_at))
        await asyncio.sleep(5)
        gate.hold_until(now() + 30.0)
        await waiting
        return passed_at[0] - start_s

    assert run_virtual(main()) == pytest.approx(35.0, abs=0.01)


def test_a_pause_that_comes_while_a_budget_is_waited_for_is_kept() -> None:
    async def main() -> list[float]:
        gate, passed_at, start_s = open_gate(requests_per_minute=6), list[float](), now()
        tasks = [asyncio.create_task(pass_through(gate, passed_at)) for _ in range(2)]
        await asyncio.sleep(5)
        gate.hold_until(now() + 60)
        await asyncio.gather(*tasks)
        return [moment - start_s for moment in passed_at]

    first_s, second_s = run_virtual(main())

    assert first_s == pytest.approx(0.0, abs=1e-6)
    assert second_s >= 65.0


def test_the_window_opens_in_steps_and_each_step_lets_just_so_many_in() -> None:
    async def main() -> list[int]:
        gate, seen = open_gate(64), list[int]()
        gate.limit_in_flight(1)
        tasks, leave = await crowd(gate, 100)
        seen.append(gate.in_flight)
        for most in (8, 64, 3):
            gate.limit_in_flight(most)
            await settle_down()
            for _ in range(100):
                await asyncio.sleep(0)
            seen.append(gate.in_flight)
        leave.set()
        await asyncio.gather(*tasks)
        return [*seen, gate.in_flight]

    assert run_virtual(main()) == [1, 8, 64, 64, 0]


def test_a_narrowed_window_lets_nobody_in_until_enough_have_left() -> None:
    async def main() -> int:
        gate, most_seen = open_gate(10), 0
        _, leave = await crowd(gate, 10)
        gate.limit_in_flight(2)
        leave.set()

        async def late() -> None:
            nonlocal most_seen
            async with through(gate):
                most_seen = max(most_seen, gate.in_flight)
                await asyncio.sleep(1)

        await asyncio.gather(*(late() for _ in range(10)))
        return most_seen

    assert run_virtual(main()) == 2


def test_the_gate_says_what_it_is_bound_by_and_how_old_the_oldest_is() -> None:
    async def main() -> list[tuple[str, int, float]]:
        gate = open_gate(2)
        seen = [(gate.bound_by, gate.in_flight, gate.oldest_age_s)]
        tasks, leave = await crowd(gate, 1)
        await asyncio.sleep(7)
        seen.append((gate.bound_by, gate.in_flight, round(gate.oldest_age_s)))
        more, leave_too = await crowd(gate, 3)
        await asyncio.sleep(2)
        seen.append((gate.bound_by, gate.in_flight, round(gate.oldest_age_s)))
        leave.set()
        await settle_down()
        seen.append((gate.bound_by, gate.in_flight, round(gate.oldest_age_s)))
        leave_too.set()
        await asyncio.gather(*tasks, *more)
        seen.append((gate.bound_by, gate.in_flight, gate.oldest_age_s))
        return seen

    assert run_virtual(main()) == [
        ("", 0, 0.0),
        ("", 1, 7),
        ("concurrency", 2, 9),
        ("concurrency", 2, 2),
        ("", 0, 0.0),
    ]


WaitFor = Callable[[Gate], Awaitable[None]]


async def until_requests(gate: Gate) -> None:
    async with through(gate):
        pass


async def until_tokens(gate: Gate) -> None:
    async with through(gate, 1), through(gate, 1):
        pass


async def until_pause(gate: Gate) -> None:
    gate.hold_until(now() + 30)


async def until_full(gate: Gate) -> None:
    gate.limit_in_flight(1)
    asyncio.get_running_loop().create_task(_hold(gate))
    await settle_down()


async def _hold(gate: Gate) -> None:
    async with through(gate):
        await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("occupy", "bound_by"),
    [(until_requests, "requests"), (until_tokens, "tokens"), (until_pause, "pause"), (until_full, "concurrency")],
)
@pytest.mark.parametrize("cancelled", ["head", "second", "both"])
def test_whoever_is_cancelled_while_waiting_leaves_no_trace(occupy: WaitFor, bound_by: str, cancelled: str) -> None:
    async def main() -> tuple[str, list[float], Gate, float]:
        tokens_per_minute = 1_000 if bound_by == "tokens" else 1_000_000
        gate, passed_at = open_gate(8, requests_per_minute=20, tokens_per_minute=tokens_per_minute), list[float]()
        await occupy(gate)
        waiting = [asyncio.create_task(pass_through(gate, passed_at, tokens=400)) for _ in range(3)]
        await asyncio.sleep(1.5)
        seen = gate.bound_by
        for index in {"head": [0], "second": [1], "both": [0, 1]}[cancelled]:
            waiting[index].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(120)
        start_s = now()
        await pass_through(gate, passed_at, tokens=400)
        return seen, passed_at, gate, now() - start_s

    seen, passed_at, gate, last_waited_s = run_virtual(main())

    assert seen == bound_by
    assert len(passed_at) == (4 - (2 if cancelled == "both" else 1))
    assert (gate.in_flight, gate.bound_by) == (0, "")
    assert last_waited_s < 30  # no more than its own price


def test_what_was_paid_in_parts_before_a_cancellation_is_given_back() -> None:
    async def main() -> float:
        gate, passed_at = open_gate(tokens_per_minute=600), list[float]()
        await pass_through(gate, passed_at, tokens=1)
        doomed = asyncio.create_task(pass_through(gate, passed_at, tokens=600))
        await asyncio.sleep(50)
        doomed.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await doomed
        start_s = now()
        await pass_through(gate, passed_at, tokens=600)
        return now() - start_s

    assert run_virtual(main()) == pytest.approx(61 - 50, abs=1.1)


def test_what_was_paid_for_a_request_in_parts_before_a_cancellation_counts_for_the_next() -> None:
    async def main() -> float:
        gate, passed_at = open_gate(requests_per_minute=6), list[float]()
        await pass_through(gate, passed_at)
        doomed = asyncio.create_task(pass_through(gate, passed_at))
        await asyncio.sleep(5)
        doomed.cancel()
        await asyncio.gather(doomed, return_exceptions=True)
        start_s = now()
        await pass_through(gate, passed_at)
        return now() - start_s

    assert run_virtual(main()) == pytest.approx(10 - 5, abs=1.1)


def test_tokens_reserved_before_a_pause_are_given_back_when_it_is_not_sat_out() -> None:
    async def main() -> float:
        gate, passed_at, start_s = open_gate(tokens_per_minute=600), list[float](), now()
        await pass_through(gate, passed_at, tokens=1)
        gate.hold_until(now() + 100)
        doomed = asyncio.create_task(pass_through(gate, passed_at, tokens=600))
        await asyncio.sleep(99)
        assert gate.bound_by == "pause"
        doomed.cancel()
        await pass_through(gate, passed_at, tokens=600)
        return now() - start_s

    assert run_virtual(main()) == pytest.approx(100, abs=1)


def test_a_failure_inside_a_turn_frees_its_place() -> None:
    async def main() -> int:
        gate = open_gate(1)
        for _ in range(3):
            with contextlib.suppress(ZeroDivisionError):
                async with through(gate):
                    raise ZeroDivisionError
        return gate.in_flight

    assert run_virtual(main()) == 0


@pytest.mark.parametrize("absent", [None, 0, 0.0])
def test_without_limits_everybody_goes_at_once(absent: float | None) -> None:
    async def main() -> float:
        gate, passed_at, start_s = open_gate(requests_per_minute=absent, tokens_per_minute=absent), list[float](), now()
        await asyncio.gather(*(pass_through(gate, passed_at, tokens=10**9) for _ in range(500)))
        return passed_at[-1] - start_s

    assert run_virtual(main()) < 1e-3


def test_without_budgets_there_is_room_for_as_many_as_may_be_in_flight_and_for_none_behind_a_line() -> None:
    async def main() -> list[list[bool]]:
        gate, seen = open_gate(3), []
        tasks, leave = await crowd(gate, 1)
        seen.append([gate.has_room(coming) for coming in range(4)])
        gate.hold_until(now() + 5)
        more, _ = await crowd(gate, 1)
        seen.append([gate.has_room(0)])
        await asyncio.sleep(6)
        seen.append([gate.has_room(0), gate.has_room(1)])
        leave.set()
        for task in (*tasks, *more):
            task.cancel()
        return seen

    assert run_virtual(main()) == [[True, True, False, False], [False], [True, False]]


def test_with_budgets_there_is_room_for_one_where_nobody_is_on_the_way_or_in_line() -> None:
    async def main() -> list[list[bool]]:
        gate, seen = open_gate(2, requests_per_minute=60), []
        seen.append([gate.has_room(0), gate.has_room(1)])
        tasks, leave = await crowd(gate, 1)
        await asyncio.sleep(3)
        seen.append([gate.has_room(0), gate.has_room(1)])
        more, _ = await crowd(gate, 1)
        seen.append([gate.has_room(0)])  # it pays
        await asyncio.sleep(3)
        seen.append([gate.has_room(0)])  # both places are taken
        leave.set()
        for task in (*tasks, *more):
            task.cancel()
        return seen

    assert run_virtual(main()) == [[True, False], [True, False], [False], [False]]


def test_whoever_fills_the_gate_hears_when_there_may_be_room_again() -> None:
    async def main() -> int:
        gate, calls = open_gate(2), 0

        def count() -> None:
            nonlocal calls
            calls += 1

        gate.on_room = count
        gate.limit_in_flight(1)
        async with through(gate):
            pass
        return calls

    assert run_virtual(main()) == 2


@pytest.mark.parametrize(("before", "wait_s"), [(0, 0.0), (1, 1.0)])
def test_only_the_first_request_of_all_goes_without_paying(before: int, wait_s: float) -> None:
    async def main() -> float:
        gate = open_gate()
        for _ in range(before):
            async with through(gate):
                pass
        gate.limit_rates(60, None)
        async with through(gate) as turn:
            return turn.wait_s

    assert run_virtual(main()) == pytest.approx(wait_s, abs=0.05)


CHANGES = [(60, 600), (600, 60), (600, 150), (600, 149), (600, 1_200), (600, 1_201), (12_000, 30), (30, 12_000)]


@pytest.mark.parametrize(("first", "then"), CHANGES)
def test_a_new_rate_holds_from_the_moment_it_comes_and_is_used(first: int, then: int) -> None:
    async def main() -> list[float]:
        gate, passed_at = open_gate(requests_per_minute=first), list[float]()
        tasks = [asyncio.create_task(pass_through(gate, passed_at)) for _ in range(4 * max(first, then))]
        await asyncio.sleep(30)
        gate.limit_rates(then, None)
        changed_at_s = now()
        await asyncio.sleep(130)
        for task in tasks:
            task.cancel()
        return [moment for moment in passed_at if moment > changed_at_s]

    moments = run_virtual(main())

    assert most_in_any(60.0, moments) <= then
    assert most_in_any(1.0, moments) <= max(1, math.ceil(then / 60))
    assert len(moments) >= 0.97 * then * 130 / 60 - 1


@pytest.mark.parametrize(("then", "wait_s"), [(600, 9.9), (6_000, 9.9), (300, 19.8), (60, 99.0)])
def test_a_debt_of_tokens_never_shrinks_with_a_new_rate(then: int, wait_s: float) -> None:
    async def main() -> float:
        gate = open_gate(tokens_per_minute=600)
        async with through(gate, 1) as turn:
            pass
        async with through(gate, 1) as turn:
            turn.settle(100)
        gate.limit_rates(None, then)
        async with through(gate, 0.0) as turn:
            return turn.wait_s

    assert run_virtual(main()) == pytest.approx(wait_s / 0.983, rel=0.02)


@pytest.mark.parametrize("rate", [None, 6_000])
def test_a_pause_that_is_cut_short_ends_at_once_and_the_gate_says_how_long_it_lasts(rate: int | None) -> None:
    async def main() -> tuple[float, float, str, float, float]:
        gate, passed_at, start_s = open_gate(requests_per_minute=rate), list[float](), now()
        gate.hold_until(start_s + 100)
        tasks = [asyncio.create_task(pass_through(gate, passed_at)) for _ in range(3)]
        await asyncio.sleep(10)
        left_s, bound_by = gate.pause_left_s, gate.bound_by
        gate.hold_until(start_s + 20)
        await asyncio.gather(*tasks)
        return left_s, passed_at[0] - start_s, bound_by, passed_at[-1] - start_s, gate.pause_left_s

    left_s, first_s, bound_by, last_s, left_after_s = run_virtual(main())

    assert (round(left_s), bound_by, left_after_s) == (90, "pause", 0.0)
    assert first_s == pytest.approx(20.0, abs=0.02)
    assert last_s == pytest.approx(20.0, abs=0.05)


def test_at_least_one_may_always_be_in_flight() -> None:
    async def main() -> int:
        gate = open_gate(5)
        gate.limit_in_flight(0)
        return gate.most_in_flight

    assert run_virtual(main()) == 1


def test_a_turn_without_tokens_costs_none() -> None:
    async def main() -> float:
        gate = open_gate(tokens_per_minute=1)
        async with through(gate), through(gate) as turn:
            return turn.wait_s

    assert run_virtual(main()) < 2.0


def test_of_small_requests_no_more_than_a_second_of_tokens_goes_at_once_after_a_rest() -> None:
    async def main() -> list[float]:
        gate, passed_at = open_gate(tokens_per_minute=6_000), list[float]()
        await pass_through(gate, passed_at, tokens=1)
        await asyncio.sleep(600)
        passed_at.clear()
        await asyncio.gather(*(pass_through(gate, passed_at, tokens=1) for _ in range(1_000)))
        return passed_at

    assert most_in_any(1.0, run_virtual(main())) <= 205


def test_requests_without_tokens_neither_take_nor_save_any() -> None:
    async def main() -> float:
        gate = open_gate(tokens_per_minute=60)
        async with through(gate, 1):
            pass
        for _ in range(60):
            async with through(gate):
                pass
        async with through(gate, 30) as turn:
            return turn.wait_s

    assert run_virtual(main()) == pytest.approx(30 / 0.983, abs=1.1)


def test_a_rate_that_is_said_again_and_again_is_used_as_one_that_is_said_once() -> None:
    async def main() -> list[float]:
        gate, passed_at = open_gate(requests_per_minute=60, tokens_per_minute=60_000), list[float]()
        tasks = [asyncio.create_task(pass_through(gate, passed_at, tokens=10)) for _ in range(200)]
        for _ in range(400):
            await asyncio.sleep(0.3)
            gate.limit_rates(60, 60_000)
        for task in tasks:
            task.cancel()
        return passed_at

    moments = run_virtual(main())

    assert len(moments) >= 0.97 * 120
    assert most_in_any(60.0, moments) <= 60


def test_whoever_waits_for_a_pause_waits_for_a_rate_that_comes_meanwhile_too() -> None:
    async def main() -> tuple[list[str], list[float]]:
        gate, passed_at, start_s, bound = open_gate(), list[float](), now(), list[str]()
        async with through(gate):
            pass
        gate.hold_until(start_s + 10)
        tasks = [asyncio.create_task(pass_through(gate, passed_at)) for _ in range(3)]
        await asyncio.sleep(5)
        bound.append(gate.bound_by)
        gate.limit_rates(60, None)
        await settle_down()
        bound.append(gate.bound_by)
        gate.hold_until(start_s + 20)
        bound.append(gate.bound_by)
        await asyncio.sleep(10)  # the pause that was said first is over
        bound.append(gate.bound_by)
        await asyncio.gather(*tasks)
        return bound, [moment - start_s for moment in passed_at]

    bound, passed = run_virtual(main())

    assert bound == ["pause"] * 4
    assert passed[0] >= 20.0
    assert [later - earlier for earlier, later in pairwise(passed)] == pytest.approx([1.0] * 2, abs=0.05)


def test_after_a_rate_has_risen_and_a_rest_no_more_goes_at_once_than_the_rate_allows() -> None:
    async def main() -> list[float]:
        gate, passed_at = open_gate(requests_per_minute=60), list[float]()
        await pass_through(gate, passed_at)
        await pass_through(gate, passed_at)
        gate.limit_rates(6_000, None)
        await asyncio.sleep(60)
        passed_at.clear()
        await asyncio.gather(*(pass_through(gate, passed_at) for _ in range(500)))
        return passed_at

    assert most_in_any(1.0, run_virtual(main())) <= 100
