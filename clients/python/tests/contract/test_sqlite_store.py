"""The store in a file keeps the contract, and what only a file can promise."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sync_client.errors import StoreError
from sync_client.stores.port import Store, Tables
from sync_client.stores.sqlite import SqliteStore

from clients.python.tests.builders import create, row

from .store_contract import FakeError, StoreContract


class TestSqliteStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = await SqliteStore.open(tmp_path / "deep" / "notes.db")
        yield store
        await store.close()

    async def test_it_is_there_again_after_a_restart(self, store: SqliteStore) -> None:
        await store.run(lambda tables: tables.enqueue([create("o1")]), durable=True)
        await store.close()
        assert store.path is not None
        again = await SqliteStore.open(store.path)
        assert (await again.run(lambda tables: tables.counts())).pending == 1
        await again.close()

    async def test_only_its_user_may_read_it(self, store: SqliteStore) -> None:
        assert store.path is not None
        assert store.path.stat().st_mode & 0o077 == 0

    async def test_jobs_that_wait_together_fail_alone(self, store: SqliteStore) -> None:
        def raising(tables: Tables) -> None:
            tables.enqueue([create("lost")])
            raise FakeError

        jobs = [store.run(lambda tables, n=n: tables.enqueue([create(f"o{n}")])) for n in range(50)]  # type: ignore[misc]
        outcomes = await asyncio.gather(*jobs, store.run(raising), return_exceptions=True)
        assert [one for one in outcomes if one is not None] == [outcomes[-1]]
        assert isinstance(outcomes[-1], FakeError)
        assert (await store.run(lambda tables: tables.counts())).pending == 50

    async def test_who_gives_up_waiting_does_not_undo_the_step(self, store: SqliteStore) -> None:
        task = asyncio.create_task(store.run(lambda tables: tables.enqueue([create("o1")])))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await store.run(lambda tables: tables.counts())).pending == 1

    async def test_another_process_on_the_file_is_noticed(self, store: SqliteStore) -> None:
        assert store.path is not None
        other = await SqliteStore.open(store.path)
        await other.run(lambda tables: tables.save_rows([row("a")]))
        assert await store.was_changed_elsewhere()
        assert not await store.was_changed_elsewhere()
        await store.run(lambda tables: tables.save_rows([row("b")]))
        assert not await store.was_changed_elsewhere()
        await other.close()

    async def test_a_file_of_a_newer_version_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "newer.db"
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(StoreError, match=r"newer sync-client.*upgrade"):
            await SqliteStore.open(path)

    async def test_what_is_no_database_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "letter.txt"
        path.write_text("Dear store, " * 100)
        with pytest.raises(StoreError, match=r"letter\.txt cannot be used.*not a database"):
            await SqliteStore.open(path)

    async def test_a_directory_without_permission_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="cannot be used"):
            await SqliteStore.open(tmp_path / "file" / "notes.db")
