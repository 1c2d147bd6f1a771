"""What happens at a gate in one moment, or after a rest: first payments, pauses, new rates, cancellations."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from through_gate import crowd, most_in_any, now, open_gate, pass_through, settle_down, through

from virtual_time import run_virtual


@pytest.mark.parametrize("rate", [None, 60])
def test_a_turn_that_goes_at_once_has_waited_for_no_time(rate: int | None) -> None:
    async def main() -> float:
        async with through(open_gate(requests_per_minute=rate)) as turn:
            return turn.wait_s

    assert run_virtual(main()) == pytest.approx(0.0, abs=1e-6)


def test_a_pause_holds_nobody_in_the_moment_in_which_it_ends() -> None:
    async def main() -> float:
        gate = open_gate()
        gate.hold_until(now())
        async with through(gate) as turn:
            return turn.wait_s

    assert run_virtual(main()) == 0.0


@pytest.mark.parametrize("rate", [None, 6_000])
def test_a_pause_may_be_pushed_twice_in_one_moment(rate: int | None) -> None:
    async def main() -> float:
        gate, passed_at, start_s = open_gate(requests_per_minute=rate), list[float](), now()
        gate.hold_until(start_s + 10)
        waiting = asyncio.create_task(pass_through(gate, passed_at))
        await asyncio.sleep(5)
        gate.hold_until(start_s + 20)
        gate.hold_until(start_s + 30)
        await waiting
        return passed_at[0] - start_s

    assert run_virtual(main()) == pytest.approx(30.0, abs=0.01)


def test_the_second_request_after_a_rest_goes_at_once() -> None:
    async def main() -> float:
        gate = open_gate(requests_per_minute=60)
        async with through(gate):
            pass
        await asyncio.sleep(10)
        async with through(gate) as turn:
            return turn.wait_s

    assert run_virtual(main()) == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(("first", "then"), [(6_000, 60), (60, 6_000)])
def test_a_new_rate_lets_no_other_request_go_without_paying(first: int, then: int) -> None:
    async def main() -> float:
        gate = open_gate(requests_per_minute=first)
        async with through(gate):
            pass
        gate.limit_rates(then, None)
        async with through(gate) as turn:
            return turn.wait_s

    assert run_virtual(main()) == pytest.approx(60 / then, rel=0.05)


def test_whoever_pays_at_a_slow_rate_goes_soon_after_it_has_risen() -> None:
    async def main() -> float:
        gate, passed_at = open_gate(requests_per_minute=1), list[float]()
        await pass_through(gate, passed_at)
        waiting = asyncio.create_task(pass_through(gate, passed_at))
        await asyncio.sleep(5)
        gate.limit_rates(600, None)
        risen_at_s = now()
        await waiting
        return passed_at[-1] - risen_at_s

    assert run_virtual(main()) < 2.0


def test_after_a_rest_no_burst_of_requests_goes_at_once() -> None:
    async def main() -> list[float]:
        gate, passed_at = open_gate(requests_per_minute=6_000), list[float]()
        await pass_through(gate, passed_at)
        await asyncio.sleep(60)
        await asyncio.gather(*(pass_through(gate, passed_at) for _ in range(100)))
        return passed_at[1:]

    assert most_in_any(0.1, run_virtual(main())) <= 12


def test_whoever_waits_without_budgets_and_is_cancelled_leaves_the_line() -> None:
    async def main() -> list[tuple[str, bool]]:
        gate, seen = open_gate(2), []
        gate.hold_until(now() + 100)
        tasks, _ = await crowd(gate, 2)
        seen.append((gate.bound_by, gate.has_room(0)))
        for task in tasks:
            task.cancel()
        await settle_down()
        seen.append((gate.bound_by, gate.has_room(0)))
        return seen

    assert run_virtual(main()) == [("pause", False), ("", True)]


def test_a_request_cancelled_in_the_moment_it_is_let_through_gives_its_place_to_the_next() -> None:
    async def main() -> tuple[int, bool, int]:
        gate, passed_at = open_gate(1), list[float]()
        _, leave = await crowd(gate, 1)
        doomed, last = (asyncio.create_task(pass_through(gate, passed_at)) for _ in range(2))
        await settle_down()
        gate.on_room = doomed.cancel  # called after the place was given away
        leave.set()
        await asyncio.wait([doomed, last])
        return len(passed_at), doomed.cancelled(), gate.in_flight

    assert run_virtual(main()) == (1, True, 0)


@pytest.mark.parametrize(
    ("rate", "tokens_per_minute", "used", "moves"),
    [(120, 1e6, 1_100, 0.0), (120, 1e6, 1_000, 1e-3), (120, 150_000, 1_100, 1e-3), (600, 1e6, 1_100, 1e-3)],
)
def test_with_both_budgets_98_percent_of_the_requests_go_while_answers_owe_and_the_rate_of_tokens_moves(
    rate: int, tokens_per_minute: float, used: float, moves: float
) -> None:
    passed_at: list[float] = []

    async def main() -> float:
        gate, start_s = open_gate(50, requests_per_minute=rate, tokens_per_minute=tokens_per_minute), now()

        async def worker() -> None:
            while True:
                async with through(gate, 1_000) as admission:
                    passed_at.append(now())
                    await asyncio.sleep(3)
                    admission.settle(used)

        workers = [asyncio.create_task(worker()) for _ in range(60)]
        for turn in range(1_500):  # 5 minutes
            await asyncio.sleep(0.2)
            gate.limit_rates(rate, tokens_per_minute * (1 + (moves if turn % 2 else -moves)))
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        return start_s

    run_virtual(main())

    assert len(passed_at) >= 0.98 * min(rate * 5, tokens_per_minute * 5 / used)


def test_tokens_that_an_answer_gives_back_while_more_are_collected_hold_nobody_up() -> None:
    async def main() -> list[float]:
        gate, passed_at = open_gate(requests_per_minute=60, tokens_per_minute=3_000), list[float]()

        async def one() -> None:
            async with through(gate, 400) as admission:
                passed_at.append(now())
                await asyncio.sleep(0.05)
                admission.settle(2)

        await asyncio.gather(*(one() for _ in range(12)))
        return passed_at

    moments = run_virtual(main())

    assert max(later - earlier for earlier, later in pairwise(moments)) <= 1.1
