"""The real server and the real client under everything that goes wrong, with seeds that are new each time."""

from random import SystemRandom

import pytest

from sync_server.testing.plan import Plan
from sync_server.testing.runs import own_setting, play
from sync_server.testing.search import Load, report, shortest

SETTING = own_setting()
LOADS = {
    "small": (Load(size=6), 60),
    "usual": (Load(), 40),
    "long": (Load(size=60, users=3), 4),
}


class TestEveryPromise:
    @pytest.mark.parametrize("name", LOADS)
    def test_holds_in_runs_that_nobody_has_seen_before(self, name: str) -> None:
        load, runs = LOADS[name]
        chance = SystemRandom()
        for seed in (chance.getrandbits(32) for _ in range(runs)):
            if play(load.plan(seed), SETTING).problems:
                pytest.fail(report(seed, shortest(seed, load, SETTING)), pytrace=False)

    @pytest.mark.parametrize("seed", [19, 75, 96, 152, 168, 187, 216, 219, 7675, 972338733, 1338681308])
    def test_holds_in_runs_that_once_failed(self, seed: int) -> None:
        assert play(Load().plan(seed), SETTING).problems == []


class TestAPlan:
    def test_is_the_same_for_a_seed(self) -> None:
        assert Load().plan(7) == Load().plan(7)

    def test_differs_from_seed_to_seed(self) -> None:
        plans: list[Plan] = [Load().plan(seed) for seed in range(20)]
        assert len({plan.steps for plan in plans}) == 20
