"""What a benchmark found: numbers beside those of the raw work, printed as a table."""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.machine import print_heading


class Figure(NamedTuple):
    """One number, and the same of the raw work where there is such work.

    Attributes:
        target: the ratio or number to reach, in words; "" where none was set.
    """

    name: str
    value: float
    unit: str
    raw: float | None = None
    target: str = ""


class Extent(NamedTuple):
    """How much a benchmark does: `quick` to see that it works, `full` for what takes many minutes."""

    quick: bool
    full: bool

    def choose(self, quick: int, usual: int) -> int:
        return quick if self.quick else usual


Benchmark = Callable[[Extent, Path], Iterable[Figure]]


def run(title: str, benchmark: Benchmark, extent: Extent) -> None:
    """Run a benchmark in a directory of its own (TMPDIR chooses the disk) and print its figures as they come."""
    with tempfile.TemporaryDirectory(prefix="sync-bench-") as name:
        print_heading(title, Path(name))
        print(f"  {'':<58} {'measured':>11} {'raw':>11} {'ratio':>6}  {'unit':<14} target")
        for figure in benchmark(extent, Path(name)):
            print(_line(figure), flush=True)


def command(title: str, benchmark: Benchmark) -> None:
    """The command line of one benchmark."""
    run(title, benchmark, parse_extent(title))


def parse_extent(title: str) -> Extent:
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it works")
    parser.add_argument("--full", action="store_true", help="also what takes many minutes: a million entities")
    arguments = parser.parse_args()
    return Extent(arguments.quick, arguments.full)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent are not above.

    >>> percentile([3.0, 1.0, 2.0], 50), percentile([3.0, 1.0, 2.0], 99)
    (2.0, 3.0)
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(values: Sequence[float]) -> float:
    return percentile(values, 50)


def _line(figure: Figure) -> str:
    raw = f"{figure.raw:>11,.{_digits(figure.raw)}f}" if figure.raw is not None else " " * 11
    ratio = f"{figure.value / figure.raw:>6.2f}" if figure.raw else " " * 6
    value = f"{figure.value:>11,.{_digits(figure.value)}f}"
    return f"  {figure.name:<58} {value} {raw} {ratio}  {figure.unit:<14} {figure.target}".rstrip()


def _digits(number: float) -> int:
    return 0 if abs(number) >= 100 else 2
