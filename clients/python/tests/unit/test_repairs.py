"""When a difference is believed, against a server of a few lines."""

from typing import Any

import pytest
from sync_client import repairs, replica
from sync_client.events import Lost
from sync_client.fingerprints import bucket_of, fingerprint, xored
from sync_client.frames import DifferingBuckets, DifferingRows
from sync_client.links.port import LinkLostError
from sync_client.repairs import Outcome, Repairs
from sync_client.stores.memory import MemoryStore
from sync_client.values import Key
from sync_client.views import Named

from clients.python.tests.builders import told


class Server:
    """Has these versions of notes of `u-1`.

    Attributes:
        grows: a note more is made before each look, and pushed later than that.
    """

    def __init__(self, *, grows: bool = False, **notes: int) -> None:
        self.notes = {Key("note", name): version for name, version in notes.items()}
        self.grows = grows
        self.looks = self.pages = 0

    async def differing_buckets(self, space_id: str, checksums: list[int]) -> DifferingBuckets | None:
        self.looks += 1
        if self.grows:
            self.notes[Key("note", f"new-{self.looks}")] = 1
        ours = [0] * len(checksums)
        for key, version in self.notes.items():
            ours[bucket_of(key)] ^= fingerprint(key, version)
        differing = [number for number, one in enumerate(ours) if one != checksums[number]]
        return DifferingBuckets(differing, xored(ours))

    async def differing_rows(self, space_id: str, named: Named) -> DifferingRows | None:
        self.pages += 1
        theirs = {key: version for rows in named.live.values() for key, version in rows.items()}
        ours = {key: version for key, version in self.notes.items() if bucket_of(key) in named.live}
        updates = [told(key.entity_id, version) for key, version in ours.items() if theirs.get(key) != version]
        return DifferingRows(updates, [key for key in theirs if key not in ours], has_more=False)

    async def checksum(self, space_id: str) -> int:
        return xored(fingerprint(key, version) for key, version in self.notes.items())


class LostServer(Server):
    """Takes the space away from the reader while its answer of rows is on its way, and tells no more of it."""

    async def differing_buckets(self, space_id: str, checksums: list[int]) -> DifferingBuckets | None:
        return await super().differing_buckets(space_id, checksums) if not self.pages else None

    async def checksum(self, space_id: str) -> int:
        raise LinkLostError(Lost("the server answered 404 over HTTP"))


class OldServer(Server):
    """Names no rows."""

    async def differing_buckets(self, space_id: str, checksums: list[int]) -> DifferingBuckets | None:
        return None


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairs, "CHECK_AGAIN_S", 0.0)


async def store_with(**notes: int) -> MemoryStore:
    store = MemoryStore()
    await store.run(lambda tables: replica.take(tables, [told(name, version) for name, version in notes.items()], None))
    return store


async def versions(store: MemoryStore) -> dict[str, int]:
    return await store.run(lambda tables: {key.entity_id: version for _, key, version in tables.versions(["u-1"])})


def repairs_of(store: MemoryStore, server: Server) -> Repairs:
    api: Any = server
    return Repairs(store, api)


class TestADifference:
    async def test_that_is_none_costs_one_request(self) -> None:
        server = Server(a=1, b=2)
        assert await repairs_of(await store_with(a=1, b=2), server).mend("u-1") is Outcome.AGREES
        assert (server.looks, server.pages) == (1, 0)

    async def test_that_lasts_is_mended_and_looked_at_again(self) -> None:
        server, store = Server(a=1, b=2, c=3), await store_with(a=1, b=9, phantom=1)
        assert await repairs_of(store, server).mend("u-1") is Outcome.MENDED
        assert (server.looks, server.pages) == (3, 1)
        assert await versions(store) == {"a": 1, "b": 2, "c": 3}

    @pytest.mark.parametrize("most_looks", [2, 20])
    async def test_that_is_another_one_each_time_is_not_believed(self, most_looks: int) -> None:
        """Somebody writes, and the pushes are on their way."""
        server = Server(a=1, grows=True)
        with pytest.raises(LinkLostError, match="too fast"):
            await repairs_of(await store_with(a=1), server).mend("u-1", most_looks=most_looks)
        assert (server.looks, server.pages) == (most_looks, 0)

    async def test_that_an_old_server_has_cannot_be_mended(self) -> None:
        assert await repairs_of(await store_with(a=1), OldServer(a=1)).mend("u-1") is Outcome.AGREES
        assert await repairs_of(await store_with(a=1), OldServer(a=2)).mend("u-1") is Outcome.HOPELESS

    async def test_of_a_space_that_is_lost_meanwhile_leaves_nothing(self) -> None:
        """The feed took the rows away before the answer that has them came: to start over drops them."""
        assert await repairs_of(await store_with(a=1), LostServer(a=1, b=2)).mend("u-1") is Outcome.HOPELESS
