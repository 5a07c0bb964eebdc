"""`python -m sync_server.testing`: simulate for as long as asked, or one seed again."""

import sys
import time
from collections.abc import Iterator
from itertools import count
from random import SystemRandom

import click

from sync_server.testing.runs import Run, own_setting
from sync_server.testing.search import Load, failures

REPORT_S = 5.0


@click.command(context_settings={"show_default": True})
@click.option("--seconds", type=click.FloatRange(min=0), default=30.0, help="How long to look for a broken promise.")
@click.option("--seed", type=int, help="Run this seed alone, as it was found.")
@click.option("--first", type=int, help="Begin with this seed and count up, in place of seeds at random.")
@click.option("--size", type=click.IntRange(1, 1_000), default=12, help="About how many things people do in a run.")
@click.option("--users", type=click.IntRange(1, 9), default=2, help="How many people there are.")
def main(seconds: float, seed: int | None, first: int | None, size: int, users: int) -> None:
    """Simulate servers, devices and what goes wrong between them, and check every promise on what the devices saw.

    Nothing is real but the code, and a run replays exactly from its seed. Ends with status 1 at the first broken
    promise, after telling the shortest course of events that was found to break it.
    """
    began = time.monotonic()
    runs, events, told = 0, 0, began
    is_terminal = sys.stderr.isatty()

    def ran(run: Run) -> None:
        nonlocal runs, events, told
        runs, events = runs + 1, events + len(run.history.events)
        if is_terminal and time.monotonic() - told > REPORT_S:
            told = time.monotonic()
            click.echo(f"{runs} runs in {told - began:.0f} s, no promise broken", err=True)

    def seeds() -> Iterator[int]:
        numbers = count(first) if first is not None else iter(lambda: SystemRandom().getrandbits(32), None)
        for number in [seed] if seed is not None else numbers:
            if runs and time.monotonic() - began >= seconds:
                return
            yield number

    for failure in failures(seeds(), Load(size=size, users=users), own_setting(), ran=ran):
        click.echo(str(failure))
        click.echo(f"\nagain: python -m sync_server.testing --seed {failure.seed} --size {size} --users {users}")
        sys.exit(1)
    elapsed = time.monotonic() - began
    click.echo(
        f"{runs} runs, {events} events in {elapsed:.0f} s ({runs / elapsed * 60:.0f} runs a minute): no promise broken"
    )


if __name__ == "__main__":
    main()
