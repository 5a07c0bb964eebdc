"""The store in an SQLite file: its connection lives in a thread of its own, and several processes may share the file.

Write-ahead log; a job that asks for it is on the disk when it is answered (`synchronous = FULL`), others survive the
process but, where the machine loses power, may be undone as a whole. Jobs that wait together are committed together.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from itertools import groupby
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from sync_client.errors import StoreError
from sync_client.stores.port import Tables
from sync_client.stores.sqlite_schema import MINIMUM_SQLITE, migrate
from sync_client.stores.sqlite_tables import SqliteTables

T = TypeVar("T")

PATIENCE_S = 30.0
"""How long a transaction waits for another process that writes."""
JOBS_AT_ONCE = 256
"""Waiting jobs that one commit may carry."""


_BROKEN = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY,
    }
)  # fmt: skip
"""Errors of the file and not of the statement."""


class _Job(NamedTuple):
    call: Callable[[Tables], Any]
    answer: asyncio.Future[Any]
    durable: bool
    discard: bool


_Outcome = tuple[_Job, Any, BaseException | None]


class SqliteStore:
    """Open it with `SqliteStore.open`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, name=f"store {path.name}", daemon=True)
        self._is_closed = False
        self._seen_version: int | None = None

    @classmethod
    async def open(cls, path: Path) -> "SqliteStore":
        """Open the file; it is made, and brought to this version's schema.

        Raises:
            StoreError: it cannot be used, or a newer version of this package made it.
        """
        store = cls(path)
        store._thread.start()
        try:
            await asyncio.shield(asyncio.wrap_future(store._opened))
            await store.was_changed_elsewhere()
        except asyncio.CancelledError:
            store._jobs.put(None)  # the thread ends by itself
            raise
        return store

    @property
    def path(self) -> Path | None:
        return self._path

    async def run(self, job: Callable[[Tables], T], *, durable: bool = False, discard: bool = False) -> T:
        # a job that was begun is finished: whoever is cancelled while they wait must not undo the others' commit
        return await self._queued(job, durable=durable, discard=discard)

    async def was_changed_elsewhere(self) -> bool:
        version = await self.run(_data_version)
        changed = self._seen_version is not None and version != self._seen_version
        self._seen_version = version
        return changed

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _queued(self, job: Callable[[Tables], T], *, durable: bool, discard: bool) -> asyncio.Future[T]:
        if self._is_closed:
            raise StoreError("the store is closed")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(job, answer, durable, discard))
        return answer

    # --- the thread ------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            connection = connected(self._path)
        except StoreError as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        tables = SqliteTables(connection)
        while (job := self._jobs.get()) is not None:
            jobs = [job, *self._waiting()]
            self._perform(connection, tables, jobs)
        connection.close()

    def _waiting(self) -> list[_Job]:
        jobs: list[_Job] = []
        try:
            while len(jobs) < JOBS_AT_ONCE:
                job = self._jobs.get_nowait()
                if job is None:
                    self._jobs.put(None)
                    break
                jobs.append(job)
        except Empty:
            pass
        return jobs

    def _perform(self, connection: sqlite3.Connection, tables: SqliteTables, jobs: list[_Job]) -> None:
        """Do the jobs in one transaction, each in a savepoint of its own, and answer once it is committed."""
        outcomes: list[_Outcome]
        try:
            durability = "FULL" if any(job.durable for job in jobs) else "NORMAL"
            connection.execute(f"PRAGMA synchronous = {durability}")
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [(job, *_attempt(connection, tables, job)) for job in jobs]
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = _explained(self._path, error)
            outcomes = [(job, None, failure) for job in jobs]
        for loop, some in groupby(outcomes, key=lambda outcome: outcome[0].answer.get_loop()):
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(_answer, list(some))


def _answer(outcomes: list[_Outcome]) -> None:
    """In the loop of those who asked: waking it once for each of them would cost more than the jobs."""
    for job, answer, problem in outcomes:
        if job.answer.done():
            continue  # cancelled
        if problem is not None:
            job.answer.set_exception(problem)
        else:
            job.answer.set_result(answer)


def _attempt(connection: sqlite3.Connection, tables: SqliteTables, job: _Job) -> tuple[Any, BaseException | None]:
    connection.execute("SAVEPOINT job")
    answer: Any = None
    problem: BaseException | None = None
    try:
        answer = job.call(tables)
    except sqlite3.OperationalError as error:
        if not connection.in_transaction or error.sqlite_errorcode & 0xFF in _BROKEN:
            raise  # the disk is full, say: none of the jobs can be committed
        problem = StoreError(f"the store cannot do this: {error}")
    except StopIteration as error:  # a future cannot carry it
        problem = RuntimeError(f"a step ended by {error!r}")
    except BaseException as error:  # noqa: BLE001  whatever it is, it belongs to who asked
        problem = error
    if job.discard or problem is not None:
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")
    return answer, problem


def _data_version(tables: Tables) -> int:
    assert isinstance(tables, SqliteTables)
    return tables.data_version()


def connected(path: Path) -> sqlite3.Connection:
    """The file at this version's schema.

    Raises:
        StoreError: see `SqliteStore.open`.
    """
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        needed = ".".join(map(str, MINIMUM_SQLITE))
        raise StoreError(f"SQLite {needed} or newer is needed and this Python has {sqlite3.sqlite_version}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        connection = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None, cached_statements=512)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA cache_size = -16384")
            migrate(connection)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise _explained(path, error) from None
    return connection


def _explained(path: Path, error: Exception) -> StoreError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return StoreError(f"the store {path} cannot be used: {reason}; free the disk, mend its permissions or name another")
