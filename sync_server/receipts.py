"""The newest receipt of each space in memory, so that one can be told in a step that must not wait."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

from sync_server.records import Receipt
from sync_server.types import Seq, SpaceId

MAX_SPACES = 50_000
"""Spaces whose receipts are kept; the one that changed or was read the longest ago goes first."""
MAX_TOLD = 1_000
"""Receipts that are told at once; spaces past them go without."""


class StoredReceipts(NamedTuple):
    """What one snapshot of the database said, whose log ended at `head_seq`."""

    head_seq: Seq
    receipts: Mapping[SpaceId, Receipt]


class Receipts:
    """What is known of spaces as of the newest published change; fed with every change, in order.

    A read may be of a moment before or after that. None from before `_whole_since` is taken in: from there on every
    change is known, so that the newer of two receipts of a space is the right one.

    Args:
        head_seq: where the log stands; everything after it will be taken in.
        load: reads what is stored.
    """

    def __init__(
        self,
        head_seq: Seq,
        load: Callable[[list[SpaceId]], Awaitable[StoredReceipts]],
        *,
        capacity: int = MAX_SPACES,
    ) -> None:
        self._load = load
        self._capacity = capacity
        self._whole_since = head_seq
        self._known: dict[SpaceId, Receipt] = {}
        self._forgets = 0

    def begin(self, seq: Seq) -> None:
        """Forget everything: changes up to this position were missed."""
        self._known.clear()
        self._whole_since = seq

    def take(self, receipts: Iterable[Receipt]) -> None:
        """Take in what was published."""
        self._keep(receipts)

    def known(self, space_id: SpaceId) -> Receipt | None:
        return self._known.get(space_id)

    def forget(self, space_id: SpaceId) -> None:
        """Nor is anything taken in of reads that are under way: they may say the same."""
        self._known.pop(space_id, None)
        self._forgets += 1

    async def load(self, space_ids: Iterable[SpaceId]) -> None:
        """Read what is not known of these spaces, as many as may be told at once.

        Raises:
            CommandError: SYNC_ERROR; the database could not answer.
        """
        missing = [space_id for space_id in _told(space_ids) if space_id not in self._known]
        if not missing:
            return
        before = self._forgets
        stored = await self._load(missing)
        if stored.head_seq >= self._whole_since and self._forgets == before:
            self._keep(stored.receipts.values())

    def at(self, seq: Seq, space_ids: Iterable[SpaceId], *, head_seq: Seq) -> list[Receipt]:
        """Those of the spaces' receipts that are known and hold at a position.

        Args:
            head_seq: the newest published change: past it nobody here knows what changed.
        """
        if seq > head_seq:
            return []
        found = (self._known.get(space_id) for space_id in _told(space_ids))
        return [receipt for receipt in found if receipt is not None and receipt.seq <= seq]

    def _keep(self, receipts: Iterable[Receipt]) -> None:
        for receipt in receipts:
            known = self._known.pop(receipt.space_id, receipt)
            self._known[receipt.space_id] = max(known, receipt, key=_seq)
        # not between two of them: what goes could come back as an older one of the same read
        while len(self._known) > self._capacity:
            oldest = self._known.pop(next(iter(self._known)))
            self._whole_since = max(self._whole_since, oldest.seq)


def _told(space_ids: Iterable[SpaceId]) -> list[SpaceId]:
    return sorted(space_ids)[:MAX_TOLD]


def _seq(receipt: Receipt) -> Seq:
    return receipt.seq
