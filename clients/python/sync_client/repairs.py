"""Finds the rows in which the store differs from the server and mends them: a few requests, a step for each answer."""

import asyncio
import logging
from collections import Counter
from enum import Enum, auto
from functools import partial

from sync_client import replica, views
from sync_client.events import Lost
from sync_client.fingerprints import xored
from sync_client.links.api import Api
from sync_client.links.port import LinkLostError
from sync_client.stores.port import Store

_log = logging.getLogger("sync_client")

CHECK_AGAIN_S = 1.0
CHECKS = 3
"""How often the same difference is seen before everything is taken anew from a server that names no rows."""
MOST_CHECKS = 20
REPAIRS = 3
"""How often a space is mended before everything is taken anew."""
_AGREES = 0


class Outcome(Enum):
    AGREES = auto()
    MENDED = auto()
    """It differed; what it should have is here now."""
    HOPELESS = auto()
    """It differs, and cannot be mended row by row."""


class Repairs:
    """Looks at one space at a time; changes may be under way, so a difference counts only once it is seen again."""

    def __init__(self, store: Store, api: Api) -> None:
        self._store = store
        self._api = api
        self._turn = asyncio.Lock()

    async def mend(self, space_id: str, *, most_looks: int = MOST_CHECKS) -> Outcome:
        """Make the store have what the server has of a space.

        Args:
            most_looks: how often to look where the difference is another one each time.

        Raises:
            LinkLostError: the server cannot be asked, or changes come too fast to tell.
            StoreError
        """
        async with self._turn:
            for repair in range(REPAIRS + 1):
                buckets = await self._differing(space_id, most_looks)
                if buckets is None and repair:  # lost meanwhile: what came after the feed took its rows away must go
                    return Outcome.HOPELESS
                if buckets is None:
                    return await self._by_checksums(space_id)
                if not buckets:
                    return Outcome.MENDED if repair else Outcome.AGREES
                if repair == REPAIRS or not await self._repaired(space_id, buckets):
                    break
            return Outcome.HOPELESS

    async def _differing(self, space_id: str, most_looks: int) -> list[int] | None:
        """The buckets that differ, seen twice in a row; None from a server that cannot say."""
        before = _AGREES
        for _ in range(most_looks):
            ours = await self._store.run(partial(views.bucket_checksums, space_id=space_id))
            told = await self._api.differing_buckets(space_id, ours)
            if told is None or not told.buckets:
                return told.buckets if told is not None else None
            difference = told.checksum ^ xored(ours)
            if difference == before:
                return told.buckets
            before = difference
            await asyncio.sleep(CHECK_AGAIN_S)
        raise LinkLostError(Lost("changes come too fast to compare checksums; try again later"))

    async def _repaired(self, space_id: str, buckets: list[int]) -> bool:
        """Whether these buckets could be mended."""
        named = await self._store.run(partial(views.named_rows, space_id=space_id, buckets=buckets))
        portions = views.portions(named)
        if portions is None:
            return False
        for portion in portions:
            if not await self._portion_repaired(space_id, portion):
                return False
        return True

    async def _portion_repaired(self, space_id: str, portion: views.Named) -> bool:
        while True:
            told = await self._api.differing_rows(space_id, portion)
            if told is None:
                return False
            _log.warning(
                "the local store differed from the server: %d rows are mended, %d taken out",
                len(told.updates), len(told.gone),
            )  # fmt: skip
            await self._store.run(partial(replica.repair, space_id=space_id, known=portion.versions, told=told))
            if not told.has_more:
                return True
            before, buckets = portion, list(portion.live)
            portion = await self._store.run(partial(views.named_rows, space_id=space_id, buckets=buckets))
            if portion == before:
                return False

    async def _by_checksums(self, space_id: str) -> Outcome:
        """What a row adds to a checksum is XORed: rows that are missing make the same difference time after time."""
        seen: Counter[int] = Counter()
        for _ in range(MOST_CHECKS):
            theirs = await self._api.checksum(space_id)
            ours = await self._store.run(partial(views.checksum, space_id=space_id))
            difference = theirs ^ ours
            seen[difference] += 1
            if difference == _AGREES:
                return Outcome.AGREES
            if seen[difference] == CHECKS:
                return Outcome.HOPELESS
            await asyncio.sleep(CHECK_AGAIN_S)
        raise LinkLostError(Lost("changes come too fast to compare checksums; try again later"))
