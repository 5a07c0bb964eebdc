"""Looks for a seed that breaks a promise, and tells the shortest course of events that does."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

from sync_server.testing.acts import CHOICES as ACTS
from sync_server.testing.faults import CHOICES as FAULTS
from sync_server.testing.plan import Choice, Plan, drawn, shortened
from sync_server.testing.runs import Run, Setting, own_setting, play
from sync_server.testing.transcript import transcript

SIZE = 12
USERS = 2
TRIES = 150
"""Shorter plans that are tried for a failure."""


class Load(NamedTuple):
    """How plans are drawn.

    Attributes:
        size: about how many things people do in a run.
        plain: how many clients of the T3 document there are; None leaves that to chance.
    """

    acts: Sequence[Choice] = ACTS
    faults: Sequence[Choice] = FAULTS
    size: int = SIZE
    users: int = USERS
    plain: int | None = None

    def plan(self, seed: int) -> Plan:
        return drawn(seed, self.acts, self.faults, size=self.size, users=self.users, plain=self.plain)


class Outcome(NamedTuple):
    """What became of a seed: how much happened, and what is wrong with it."""

    seed: int
    events: int
    problems: list[str]


def outcome(seed: int, load: Load, setting: Setting) -> Outcome:
    run = play(load.plan(seed), setting)
    return Outcome(seed, len(run.history.events), run.problems)


def own_outcomes(seeds: Iterable[int], load: Load, *, jobs: int) -> Iterator[Outcome]:
    """The outcomes of the project's own setting, by so many processes, as they come."""
    if jobs == 1:
        setting = own_setting()
        yield from (outcome(seed, load, setting) for seed in seeds)
        return
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(partial(_own_outcome, load=load), seeds)


def shortest(seed: int, load: Load, setting: Setting) -> Run:
    """The same failure in a shorter run, if there is one."""
    best = play(load.plan(seed), setting)
    kinds = {_kind(problem) for problem in best.problems}

    def fails(plan: Plan) -> bool:
        nonlocal best
        again = play(plan, setting)
        if kinds.isdisjoint(_kind(problem) for problem in again.problems):
            return False
        best = again
        return True

    shortened(best.plan, fails, tries=TRIES)
    return best


def report(seed: int, run: Run) -> str:
    """What people are told of a failure."""
    lines = [f"seed {seed} breaks a promise; {len(run.plan.steps)} steps are enough for it:", ""]
    return "\n".join([*lines, *(f"  {problem}" for problem in run.problems), "", *transcript(run)])


def _own_outcome(seed: int, *, load: Load) -> Outcome:
    return outcome(seed, load, own_setting())


def _kind(problem: str) -> str:
    return problem.partition(":")[0]
