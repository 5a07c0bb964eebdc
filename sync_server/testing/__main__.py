"""`python -m sync_server.testing`: simulate for as long as asked, or one seed again."""

import os
import sys
import time
from collections.abc import Iterator
from itertools import count
from random import SystemRandom

import click

from sync_server.testing.runs import own_setting
from sync_server.testing.search import Load, own_outcomes, report, shortest

REPORT_S = 5.0


@click.command(context_settings={"show_default": True})
@click.option("--seconds", type=click.FloatRange(min=0), default=30.0, help="How long to look for a broken promise.")
@click.option("--seed", type=int, help="Run this seed alone, as it was found.")
@click.option("--first", type=int, help="Begin with this seed and count up, in place of seeds at random.")
@click.option("--size", type=click.IntRange(1, 1_000), default=12, help="About how many things people do in a run.")
@click.option("--users", type=click.IntRange(1, 9), default=2, help="How many people there are.")
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, help="How many processes simulate.")
def main(seconds: float, seed: int | None, first: int | None, size: int, users: int, jobs: int) -> None:
    """Simulate servers, devices and what goes wrong between them, and check every promise on what the devices saw.

    Nothing is real but the code, and a run replays exactly from its seed. Ends with status 1 at the first broken
    promise, after telling the shortest course of events that was found to break it.
    """
    began = told = time.monotonic()
    runs = events = 0
    load = Load(size=size, users=users)
    seeds = _seeds(first, until=began + seconds) if seed is None else iter([seed])
    for outcome in own_outcomes(seeds, load, jobs=1 if seed is not None else jobs):
        runs, events = runs + 1, events + outcome.events
        if outcome.problems:
            click.echo(report(outcome.seed, shortest(outcome.seed, load, own_setting())))
            click.echo(f"\nagain: python -m sync_server.testing --seed {outcome.seed} --size {size} --users {users}")
            sys.exit(1)
        if sys.stderr.isatty() and time.monotonic() - told > REPORT_S:
            told = time.monotonic()
            click.echo(f"{runs} runs in {told - began:.0f} s, no promise broken", err=True)
    elapsed = time.monotonic() - began
    a_minute = runs / elapsed * 60
    click.echo(f"{runs} runs, {events} events in {elapsed:.0f} s ({a_minute:.0f} runs a minute): no promise broken")


def _seeds(first: int | None, *, until: float) -> Iterator[int]:
    chance = SystemRandom()
    for number in count(first or 0):
        if time.monotonic() >= until:
            return
        yield number if first is not None else chance.getrandbits(32)


if __name__ == "__main__":
    main()
