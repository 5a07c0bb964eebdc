"""Which items of one sequence are still there in another. The work is bounded whatever the sequences hold."""

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

Items = Sequence[Hashable]

NO_PARTNER = -1
MAX_ITEMS = 8_000
"""Longer regions, both sides together and their common ends aside, count as replaced whole."""
MAX_CELLS = 8_000_000
"""Bound of the product of lengths, summed over the regions that have no items of their own to hold on to."""
MAX_DEPTH = 4
"""How often a region is split at items that only inside it occur once."""


class _Region(NamedTuple):
    base_from: int
    base_to: int
    other_from: int
    other_to: int
    depth: int

    @property
    def items(self) -> int:
        return self.base_to - self.base_from + self.other_to - self.other_from

    @property
    def cells(self) -> int:
        return (self.base_to - self.base_from) * (self.other_to - self.other_from)


def align(base: Items, other: Items) -> list[int]:
    """For each item of `base` the index of its partner in `other`, or NO_PARTNER; partners keep their order.

    Common ends first, then items that are unique on both sides (Cohen's patience diff), then the longest common
    subsequence of what is left. A region that would cost too much is left without partners, which is coarse but
    never wrong.
    """
    partners = [NO_PARTNER] * len(base)
    waiting = [_Region(0, len(base), 0, len(other), 0)]
    cells_left = MAX_CELLS
    while waiting:
        region = _trim(base, other, waiting.pop(), partners)
        if not region.cells or region.items > MAX_ITEMS:
            continue
        anchors = _anchors(base, other, region) if region.depth < MAX_DEPTH else []
        if anchors:
            waiting.extend(_between(anchors, region))
        elif region.cells <= cells_left:
            cells_left -= region.cells
            _pair_longest(base, other, region, partners)
    return partners


def _trim(base: Items, other: Items, region: _Region, partners: list[int]) -> _Region:
    """The region without its common ends, which are paired."""
    base_from, base_to, other_from, other_to, depth = region
    while base_from < base_to and other_from < other_to and base[base_from] == other[other_from]:
        partners[base_from] = other_from
        base_from += 1
        other_from += 1
    while base_from < base_to and other_from < other_to and base[base_to - 1] == other[other_to - 1]:
        base_to -= 1
        other_to -= 1
        partners[base_to] = other_to
    return _Region(base_from, base_to, other_from, other_to, depth)


def _anchors(base: Items, other: Items, region: _Region) -> list[tuple[int, int]]:
    singles = _singles(other, region.other_from, region.other_to)
    pairs = [
        (index, singles[item])
        for item, index in _singles(base, region.base_from, region.base_to).items()
        if item in singles
    ]
    return _longest_rise(pairs)


def _singles(items: Items, start: int, end: int) -> dict[Hashable, int]:
    seen: dict[Hashable, int] = {}
    for index in range(start, end):
        item = items[index]
        seen[item] = NO_PARTNER if item in seen else index
    return {item: index for item, index in seen.items() if index != NO_PARTNER}


def _longest_rise(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most pairs whose second members rise; the first ones rise already."""
    ends: list[int] = []
    holders: list[int] = []
    before = [NO_PARTNER] * len(pairs)
    for index, (_, value) in enumerate(pairs):
        place = bisect_left(ends, value)
        before[index] = holders[place - 1] if place else NO_PARTNER
        ends[place : place + 1] = [value]
        holders[place : place + 1] = [index]
    return list(_walk_back(pairs, before, holders[-1] if holders else NO_PARTNER))[::-1]


def _walk_back(pairs: list[tuple[int, int]], before: list[int], index: int) -> Iterator[tuple[int, int]]:
    while index != NO_PARTNER:
        yield pairs[index]
        index = before[index]


def _between(anchors: list[tuple[int, int]], region: _Region) -> Iterator[_Region]:
    """The regions that the anchors cut out, each with the anchor at its end, which trimming will pair."""
    base_from, other_from = region.base_from, region.other_from
    for base_at, other_at in anchors:
        yield _Region(base_from, base_at + 1, other_from, other_at + 1, region.depth + 1)
        base_from, other_from = base_at + 1, other_at + 1
    yield _Region(base_from, region.base_to, other_from, region.other_to, region.depth + 1)


def _pair_longest(base: Items, other: Items, region: _Region, partners: list[int]) -> None:
    """Pair a longest common subsequence.

    One column of the length table is one integer (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004): a
    bit is clear where the length rises, so a column costs four operations on whole numbers.
    """
    columns = _columns(base, other, region)
    row, column = region.base_to - region.base_from, len(columns)
    while row and column:
        if columns[column - 1] >> (row - 1) & 1:
            row -= 1
            continue
        column -= 1
        if column and not columns[column - 1] >> (row - 1) & 1:
            continue
        row -= 1
        partners[region.base_from + row] = region.other_from + column


def _columns(base: Items, other: Items, region: _Region) -> list[int]:
    places: dict[Hashable, int] = {}
    for row, index in enumerate(range(region.base_from, region.base_to)):
        places[base[index]] = places.get(base[index], 0) | 1 << row
    full = (1 << (region.base_to - region.base_from)) - 1
    column, columns = full, []
    for index in range(region.other_from, region.other_to):
        kept = column & places.get(other[index], 0)
        column = ((column + kept) | (column - kept)) & full
        columns.append(column)
    return columns
