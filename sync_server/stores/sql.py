"""The store: one write transaction at a time, many read snapshots beside it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.exc import DBAPIError

from sync_server.errors import SyncServerError
from sync_server.stores.reader import Reader
from sync_server.stores.writer import Writer


class StoreError(SyncServerError):
    """The database could not do it (locked, full, gone); nothing of the transaction happened, trying again may help."""


class StoreBusyError(StoreError):
    """The transaction could not even begin: whatever it was for is not to blame."""


class Store:
    """Transactions of a database that is already migrated. Calls block: use them on a thread of their own.

    The writer keeps one connection: another one each time would begin with no page and no statement in its cache.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writing = threading.Lock()
        self._write_connection: PoolProxiedConnection | None = None
        self._driver_error: type[Exception] = engine.dialect.dbapi.Error  # type: ignore[union-attr]

    @contextmanager
    def write(self) -> Iterator[Writer]:
        """The write transaction: committed durably when the block ends, rolled back when it raises.

        Raises:
            StoreError: for whatever the driver raised, in the block or at the commit; StoreBusyError before the block.
        """
        with self._writing:
            if self._write_connection is None:
                self._write_connection = self._connect()
            with self._transaction(self._write_connection, "BEGIN IMMEDIATE") as cursor:
                yield Writer(cursor)

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """A snapshot: everything read in the block is of one moment.

        Raises:
            StoreError: for whatever the driver raised.
        """
        connection = self._connect()
        try:
            with self._transaction(connection, "BEGIN") as cursor:
                yield Reader(cursor)
        finally:
            connection.close()

    def close(self) -> None:
        with self._writing:
            if self._write_connection is not None:
                self._write_connection.close()
                self._write_connection = None
        self._engine.dispose()

    def _connect(self) -> PoolProxiedConnection:
        try:
            return self._engine.raw_connection()
        except (DBAPIError, self._driver_error) as exc:
            raise StoreBusyError(str(exc)) from exc

    @contextmanager
    def _transaction(self, connection: PoolProxiedConnection, begin: str) -> Iterator[Any]:
        cursor = connection.cursor()
        try:
            self._begin(cursor, begin)
            yield cursor
            cursor.execute("COMMIT")
        except self._driver_error as exc:
            self._roll_back(cursor)
            raise StoreError(str(exc)) from exc
        except BaseException:
            self._roll_back(cursor)
            raise
        finally:
            cursor.close()

    def _begin(self, cursor: Any, begin: str) -> None:
        try:
            cursor.execute(begin)
        except self._driver_error as exc:
            raise StoreBusyError(str(exc)) from exc

    def _roll_back(self, cursor: Any) -> None:
        if cursor.connection.in_transaction:
            cursor.execute("ROLLBACK")
