"""Looks for a seed that breaks a promise, and tells the shortest course of events that does."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from sync_server.testing.acts import CHOICES as ACTS
from sync_server.testing.faults import CHOICES as FAULTS
from sync_server.testing.plan import Choice, Plan, drawn, shortened
from sync_server.testing.runs import Run, Setting, play
from sync_server.testing.transcript import transcript

SIZE = 12
USERS = 2
TRIES = 150
"""Shorter plans that are tried for a failure."""


class Load(NamedTuple):
    """How plans are drawn.

    Attributes:
        size: about how many things people do in a run.
    """

    acts: Sequence[Choice] = ACTS
    faults: Sequence[Choice] = FAULTS
    size: int = SIZE
    users: int = USERS
    plain: int | None = None

    def plan(self, seed: int) -> Plan:
        return drawn(seed, self.acts, self.faults, size=self.size, users=self.users, plain=self.plain)


class Failure(NamedTuple):
    seed: int
    run: Run

    def __str__(self) -> str:
        lines = [f"seed {self.seed} breaks a promise; {len(self.run.plan.steps)} steps are enough for it:", ""]
        lines += [f"  {problem}" for problem in self.run.problems]
        return "\n".join([*lines, "", *transcript(self.run)])


def failures(seeds: Iterator[int], load: Load, setting: Setting, *, ran: Callable[[Run], None]) -> Iterator[Failure]:
    """The seeds that fail, each cut down to a short plan; `ran` is told of every run."""
    for seed in seeds:
        run = play(load.plan(seed), setting)
        ran(run)
        if run.problems:
            yield Failure(seed, _shortest(run, setting))


def _shortest(run: Run, setting: Setting) -> Run:
    """The same failure in a shorter run, if there is one."""
    kinds = {_kind(problem) for problem in run.problems}
    best = run

    def fails(plan: Plan) -> bool:
        nonlocal best
        again = play(plan, setting)
        if kinds.isdisjoint(_kind(problem) for problem in again.problems):
            return False
        best = again
        return True

    shortened(run.plan, fails, tries=TRIES)
    return best


def _kind(problem: str) -> str:
    return problem.partition(":")[0]
