"""Two edits of one sequence laid over each other: what both left alone, what one changed, where they overlap."""

from collections.abc import Iterator
from typing import NamedTuple

from sync_server.conflict.alignment import NO_PARTNER, Items, align


class Hunk(NamedTuple):
    """The same stretch in all three sequences, as slices. Between two hunks nobody changed anything."""

    base: slice
    server: slice
    client: slice


def hunks(base: Items, server: Items, client: Items) -> Iterator[Hunk]:
    """Every stretch in order, changed or not: put together, the slices of a side are that side.

    Khanna, Kunal and Pierce, "A formal investigation of diff3" (2007). Two changes that touch are one hunk.
    """
    to_server, to_client = align(base, server), align(base, client)
    start = Cut(0, 0, 0)
    for cut, end in _shared(to_server, to_client):
        if cut != start:
            yield start.until(cut)
        yield cut.until(end)
        start = end
    last = Cut(len(base), len(server), len(client))
    if last != start:
        yield start.until(last)


class Cut(NamedTuple):
    """A place between two items in each of the three sequences."""

    base: int
    server: int
    client: int

    def until(self, end: "Cut") -> Hunk:
        return Hunk(slice(self.base, end.base), slice(self.server, end.server), slice(self.client, end.client))


def _shared(to_server: list[int], to_client: list[int]) -> Iterator[tuple[Cut, Cut]]:
    """The longest runs of items that are on all three sides."""
    start = end = Cut(0, 0, 0)
    for index, (server, client) in enumerate(zip(to_server, to_client, strict=True)):
        if NO_PARTNER in {server, client}:
            continue
        here = Cut(index, server, client)
        if here != end:
            if end != start:
                yield start, end
            start = here
        end = Cut(index + 1, server + 1, client + 1)
    if end != start:
        yield start, end
