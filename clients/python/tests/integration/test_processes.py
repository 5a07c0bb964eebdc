"""Several clients on one store, as several processes are: one syncs, all see and write."""

import asyncio
from pathlib import Path

import pytest
from sync_client import LinkState, supervisor

from clients.python.tests.apps import BOUND_S, client_of, status_that, titles, until
from tests.harness import RunningServer, create


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LEASE_S", 0.1)


class TestTwoOnOneStore:
    async def test_one_syncs_and_the_other_sees_and_writes(self, server: RunningServer, tmp_path: Path) -> None:
        store = tmp_path / "a.db"
        async with client_of(server.http_url, store=store) as first:
            await first.settled(timeout_s=BOUND_S)
            async with client_of(server.http_url, store=store) as second, server.client("1", "other") as other:
                status = await status_that(second, lambda status: status.state is LinkState.LIVE)
                assert (status.is_syncing_here, first.status.is_syncing_here) == (False, True)
                await first.create("note", title="there before")
                changes = second.changes("note", existing=True)
                async with asyncio.timeout(BOUND_S):
                    while (await anext(changes)).entity.is_pending:  # type: ignore[union-attr]
                        pass
                    await other.do(create("op_1", title="from elsewhere"))
                    change = await anext(changes)
                assert change.entity is not None
                assert change.entity["title"] == "from elsewhere"
                await second.create("note", title="by the second")
                await until(first, lambda: first.query("note", title="by the second"))
                await second.settled(timeout_s=BOUND_S)
                assert (await second.query("note", title="by the second"))[0].version == 1
                await changes.aclose()

    async def test_the_second_takes_over_when_the_first_ends(self, server: RunningServer, tmp_path: Path) -> None:
        store = tmp_path / "a.db"
        first = client_of(server.http_url, store=store)
        await first.__aenter__()
        await first.settled(timeout_s=BOUND_S)
        async with client_of(server.http_url, store=store) as second:
            await second.create("note", title="x")
            await first.__aexit__(None, None, None)
            await status_that(second, lambda status: status.is_syncing_here)
            await second.settled(timeout_s=BOUND_S)
            assert await titles(second) == ["x"]

    async def test_one_that_never_connects_sees_that_nobody_syncs(self, server: RunningServer, tmp_path: Path) -> None:
        store = tmp_path / "a.db"
        async with client_of(server.http_url, store=store) as first:
            live = await first.settled(timeout_s=BOUND_S)
        async with client_of(server.http_url, store=store, connect=False) as reader:
            assert reader.status.state is LinkState.OFFLINE
            assert reader.status.last_synced_at is not None
            assert live.last_synced_at is not None
            assert abs((reader.status.last_synced_at - live.last_synced_at).total_seconds()) < 60
