"""The store in a file keeps the contract, and what only a file can promise."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sync_client.errors import StoreError
from sync_client.stores import sqlite_schema
from sync_client.stores.port import Store, Tables
from sync_client.stores.sqlite import SqliteStore

from clients.python.tests.builders import create, row

from .store_contract import FakeError, StoreContract

FULL, NORMAL = 2, 1
"""https://sqlite.org/pragma.html#pragma_synchronous"""
BOUND_S = 5.0


class Busy:
    """A job that keeps the store busy until it is let go, so that others wait together."""

    def __init__(self) -> None:
        self._is_over = threading.Event()

    def __call__(self, tables: Tables) -> None:
        assert self._is_over.wait(BOUND_S)

    def end(self) -> None:
        self._is_over.set()


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

    async def test_a_job_that_breaks_a_rule_of_a_table_fails_alone(self, store: SqliteStore) -> None:
        busy = Busy()
        jobs = [
            asyncio.ensure_future(store.run(one))
            for one in (busy, _enqueue("o1"), _enqueue("o2", "o1"), _enqueue("o3"))
        ]
        await asyncio.sleep(0)
        busy.end()
        *_, broken, last = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(broken, sqlite3.IntegrityError)
        assert last is None
        assert await store.run(_queued) == ["o1", "o3"]

    async def test_a_job_that_the_file_cannot_do_fails_alone(self, store: SqliteStore) -> None:
        busy = Busy()
        jobs = [asyncio.ensure_future(store.run(one)) for one in (busy, _enqueue("o1"), _nonsense, _enqueue("o2"))]
        await asyncio.sleep(0)
        busy.end()
        *_, broken, last = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(broken, StoreError)
        assert last is None
        assert await store.run(_queued) == ["o1", "o2"]

    async def test_a_durable_job_is_on_the_disk_when_it_is_answered(self, store: SqliteStore) -> None:
        found = [await store.run(_synchronous, durable=durable) for durable in (True, False, True)]
        assert found == [FULL, NORMAL, FULL]

    async def test_jobs_that_wait_together_are_on_the_disk_if_one_is_durable(self, store: SqliteStore) -> None:
        busy = Busy()
        first = asyncio.ensure_future(store.run(busy))
        waiting = [asyncio.ensure_future(store.run(_synchronous, durable=durable)) for durable in (False, True, False)]
        await asyncio.sleep(0)
        busy.end()
        await first
        assert await asyncio.gather(*waiting) == [FULL, FULL, FULL]

    async def test_the_commit_itself_is_full(self, store: SqliteStore) -> None:
        statements: list[str] = []
        await store.run(lambda tables: _connection(tables).set_trace_callback(statements.append))
        await store.run(_enqueue("o1"), durable=True)
        begin = statements.index("BEGIN IMMEDIATE")
        assert statements[begin - 1] == "PRAGMA synchronous = FULL"
        assert statements[-1] == "COMMIT"

    async def test_closing_finishes_what_waits(self, store: SqliteStore) -> None:
        busy = Busy()
        jobs = [asyncio.ensure_future(store.run(one)) for one in (busy, *(_enqueue(f"o{n}") for n in range(600)))]
        await asyncio.sleep(0)
        closing_store = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        busy.end()
        async with asyncio.timeout(BOUND_S):
            assert await asyncio.gather(*jobs) == [None] * 601
            await closing_store
        assert store.path is not None
        again = await SqliteStore.open(store.path)
        assert (await again.run(lambda tables: tables.counts())).pending == 600
        await again.close()

    async def test_a_full_disk_fails_the_jobs_and_the_store_goes_on_when_there_is_room(
        self, store: SqliteStore
    ) -> None:
        await store.run(_enqueue("before"))
        pages = await store.run(lambda tables: _pragma(tables, "page_count"))
        await store.run(lambda tables: _pragma(tables, f"max_page_count = {pages}"))
        busy = Busy()
        some = (busy, _enqueue("small"), _fill, _enqueue("behind"))
        jobs = [asyncio.ensure_future(store.run(one, durable=True)) for one in some]
        await asyncio.sleep(0)
        busy.end()
        _, *outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(one) for one in outcomes] == [StoreError] * 3
        assert "disk is full; free the disk" in str(outcomes[0])
        assert await store.run(_queued) == ["before"]
        await store.run(lambda tables: _pragma(tables, "max_page_count = 100000"))
        await store.run(_fill)
        await store.run(_enqueue("after"))
        assert await store.run(_queued) == ["before", "large", "after"]

    async def test_an_error_of_the_file_undoes_all_jobs_and_the_store_goes_on(self, store: SqliteStore) -> None:
        busy = Busy()
        jobs = [asyncio.ensure_future(store.run(one)) for one in (busy, _enqueue("o1"), _unreadable)]
        await asyncio.sleep(0)
        busy.end()
        _, *outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(one) for one in outcomes] == [StoreError] * 2
        await store.run(_enqueue("after"))
        assert await store.run(_queued) == ["after"]

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

    async def test_a_migration_that_fails_leaves_the_file_as_it_was(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await store.run(_enqueue("o1"))
        await store.close()
        assert store.path is not None
        with monkeypatch.context() as newer:
            failing = "CREATE TABLE extra (x); DROP TABLE journal; CREATE TABLE queue (x)"
            newer.setattr(sqlite_schema, "MIGRATIONS", (*sqlite_schema.MIGRATIONS, failing))
            with pytest.raises(StoreError, match=r"cannot be used: table queue already exists"):
                await SqliteStore.open(store.path)
        with closing(sqlite3.connect(store.path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            assert connection.execute("PRAGMA user_version").fetchone() == (len(sqlite_schema.MIGRATIONS),)
        assert "extra" not in tables
        assert "journal" in tables
        again = await SqliteStore.open(store.path)
        assert await again.run(_queued) == ["o1"]
        await again.close()

    async def test_a_newer_version_brings_the_file_to_its_schema(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await store.run(_enqueue("o1"))
        await store.close()
        assert store.path is not None
        added = "CREATE TABLE extra (x); INSERT INTO extra SELECT count(*) FROM queue"
        monkeypatch.setattr(sqlite_schema, "MIGRATIONS", (*sqlite_schema.MIGRATIONS, added))
        for _ in range(2):  # done once
            again = await SqliteStore.open(store.path)
            assert await again.run(lambda tables: _all(tables, "SELECT x FROM extra")) == [(1,)]
            await again.close()

    async def test_what_is_no_database_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "letter.txt"
        path.write_text("Dear store, " * 100)
        with pytest.raises(StoreError, match=r"letter\.txt cannot be used.*not a database"):
            await SqliteStore.open(path)

    async def test_a_directory_without_permission_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="cannot be used"):
            await SqliteStore.open(tmp_path / "file" / "notes.db")


def _enqueue(*operation_ids: str) -> Any:
    return lambda tables: tables.enqueue([create(one) for one in operation_ids])


def _queued(tables: Tables) -> list[str]:
    return [one.operation_id for one in tables.queue(after=0, limit=None)]


def _fill(tables: Tables) -> None:
    tables.enqueue([create("large", content="x" * 1_000_000)])


def _nonsense(tables: Tables) -> None:
    _all(tables, "SELECT nonsense")


def _unreadable(tables: Tables) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    raise error


def _connection(tables: Tables) -> sqlite3.Connection:
    found: sqlite3.Connection = tables._connection  # type: ignore[attr-defined]  of SQLite
    return found


def _all(tables: Tables, sql: str) -> list[Any]:
    return _connection(tables).execute(sql).fetchall()


def _pragma(tables: Tables, pragma: str) -> Any:
    return _all(tables, f"PRAGMA {pragma}")[0][0]


def _synchronous(tables: Tables) -> Any:
    return _pragma(tables, "synchronous")
