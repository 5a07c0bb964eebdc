"""The pytest plugin: the fixture `simulate`, and options to choose how much is simulated and which seed."""

from collections.abc import Callable
from random import SystemRandom
from typing import Any

import pytest

RUNS = 50


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulations of sync-server")
    group.addoption("--simulations", type=int, default=None, help="How many runs each simulation has.")
    group.addoption("--simulation-seed", type=int, default=None, help="Run this seed alone, as it was found.")


@pytest.fixture
def simulate(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Simulates when it is called with `types`, `acts` and `check` (see `sync_server.testing.kit.first_failure`).

    The test fails with a short transcript if a run breaks the check or a promise of the server. `runs` says how many
    runs there are, each with a new seed.
    """
    from sync_server.testing.kit import first_failure  # noqa: PLC0415  who does not simulate need not load the server

    config = request.config

    def run(*, runs: int = RUNS, **what: Any) -> None:
        seed, count = config.getoption("simulation_seed"), config.getoption("simulations") or runs
        chance = SystemRandom()
        seeds = [seed] if seed is not None else (chance.getrandbits(32) for _ in range(count))
        failure = first_failure(seeds, **what)
        if failure is not None:
            again = f"{request.node.nodeid} --simulation-seed {failure.seed}"
            pytest.fail(f"{failure.text}\n\nagain: pytest {again}", pytrace=False)

    return run
