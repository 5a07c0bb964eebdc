"""Virtual time, and processes that are killed between two steps. Sleeps in here are virtual and take no time."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from random import Random
from typing import Any

import pytest

from sync_server.testing.loop import LONGEST_THREAD_S, MOST_LOOKS, Node, SimulatedLoop, StuckError


def run(work: Coroutine[Any, Any, Any], *, seed: int = 1) -> SimulatedLoop:
    """The loop after the work, ended."""
    loop = SimulatedLoop(Random(seed))
    try:
        loop.run_until_complete(work)
        loop.end()
    finally:
        loop.close()
    return loop


class TestTime:
    def test_passes_without_waiting(self) -> None:
        async def work() -> None:
            await asyncio.sleep(1_000_000)

        assert run(work()).now_s == 1_000_000

    def test_is_what_timers_are_in_order_of(self) -> None:
        told: list[str] = []

        async def say(delay_s: float, text: str) -> None:
            await asyncio.sleep(delay_s)
            told.append(text)

        async def work() -> None:
            await asyncio.gather(say(3, "c"), say(1, "a"), say(2, "b"))

        run(work())
        assert told == ["a", "b", "c"]

    def test_leaves_the_timers_of_one_moment_in_the_order_in_which_they_were_set(self) -> None:
        told: list[int] = []

        async def work() -> None:
            loop = asyncio.get_running_loop()
            timers = [loop.call_at(5, told.append, number) for number in range(200)]
            for timer in timers[::2]:
                timer.cancel()
            await asyncio.sleep(10)

        run(work())
        assert told == list(range(1, 200, 2))

    def test_passes_a_little_in_a_thread(self) -> None:
        async def work() -> str:
            return await asyncio.to_thread(str, 7)

        async def checked() -> None:
            assert await work() == "7"

        assert 0 < run(checked()).now_s <= LONGEST_THREAD_S

    def test_ends_where_nothing_will_happen_any_more(self) -> None:
        with pytest.raises(StuckError, match="everything waits"):
            run(asyncio.Event().wait())

    @pytest.mark.parametrize("has_timer", [True, False])
    def test_does_not_stand_still_for_ever(self, *, has_timer: bool) -> None:
        async def circle() -> None:
            loop = asyncio.get_running_loop()

            def again() -> None:
                if has_timer:
                    loop.call_later(0, again)
                else:
                    loop.call_soon(again)

            again()
            await asyncio.Event().wait()

        with pytest.raises(StuckError, match="circles"):
            run(circle())

    def test_is_not_broken_off_while_its_steps_end(self) -> None:
        """However long they take together, up to a bound: a machine may be busy."""

        async def steps(count: int) -> None:
            for _ in range(count):
                signal.raise_signal(signal.SIGALRM)
                await asyncio.sleep(1)

        loop = SimulatedLoop(Random(1))
        with loop.patience(10_000):
            loop.run_until_complete(steps(MOST_LOOKS))
        with pytest.raises(StuckError, match="does not end"), loop.patience(10_000):
            loop.run_until_complete(steps(MOST_LOOKS + 1))
        assert loop.is_stuck
        loop.close()

    def test_is_broken_off_in_a_step_that_does_not_end(self) -> None:
        async def endless() -> None:
            while True:
                time.monotonic()

        loop = SimulatedLoop(Random(1))
        with pytest.raises(StuckError, match="does not end"), loop.patience(0.05):
            loop.run_until_complete(endless())
        loop.close()


async def count(told: list[int]) -> None:
    for number in range(10):
        told.append(number)
        await asyncio.sleep(0)


class TestANode:
    @pytest.mark.parametrize("steps", range(10))
    def test_dies_at_any_step(self, steps: int) -> None:
        told: list[int] = []

        async def work() -> None:
            node = Node("one", killed=lambda: None)
            node.dies_in = steps
            assert await node.result(count(told)) is None
            assert node.is_dead
            assert told == list(range(steps))

        run(work())

    def test_that_is_dead_does_nothing_more(self) -> None:
        told: list[str] = []

        async def tidy() -> None:
            try:
                await asyncio.sleep(10)
                told.append("woke")
            finally:
                told.append("tidied up")

        async def work() -> None:
            node = Node("one", killed=lambda: told.append("killed"))
            task = node.start(tidy())
            node.soon(5, told.append, "called")
            await asyncio.sleep(1)
            node.kill()
            node.kill()
            task.cancel()
            await asyncio.sleep(100)
            assert told == ["killed"]

        run(work())

    def test_leaves_others_alone(self) -> None:
        told: list[int] = []

        async def work() -> None:
            one, other = Node("one", killed=lambda: None), Node("other", killed=lambda: None)
            one.dies_in = 3
            await asyncio.gather(one.result(count([])), other.result(count(told)))

        run(work())
        assert told == list(range(10))

    def test_tells_what_nobody_caught(self) -> None:
        def fail() -> None:
            raise ValueError("oops")

        async def work() -> None:
            Node("one", killed=lambda: None).soon(1, fail)
            await asyncio.sleep(2)

        assert any("oops" in problem for problem in run(work()).problems)
