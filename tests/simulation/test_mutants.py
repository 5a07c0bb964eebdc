"""The history checker is worth something: each planted bug is found, and by the promise that it breaks."""

import pytest

from sync_server.testing.plan import drawn
from sync_server.testing.runs import own_setting, play
from tests.simulation.mutants import MUTANTS, Mutant

SEEDS = 60
SETTING = own_setting()


def test_at_least_twelve_are_planted() -> None:
    assert len({mutant.name for mutant in MUTANTS}) >= 12


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_is_found(mutant: Mutant) -> None:
    for seed in range(SEEDS):
        plan = drawn(seed, mutant.acts, mutant.faults, size=mutant.size, users=2, plain=mutant.plain)
        with mutant.plant():
            found = play(plan._replace(recent=mutant.recent), SETTING).problems
        if any(problem.startswith(f"{mutant.breaks}:") for problem in found):
            return
    pytest.fail(f"{mutant.name} went through {SEEDS} runs unseen")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_is_not_found_where_it_is_not_planted(mutant: Mutant) -> None:
    """The same plans without the bug keep every promise: what was found is the bug."""
    for seed in range(3):
        plan = drawn(seed, mutant.acts, mutant.faults, size=mutant.size, users=2, plain=mutant.plain)
        assert play(plan._replace(recent=mutant.recent), SETTING).problems == []
