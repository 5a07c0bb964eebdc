"""Takes the data directory and the database for this process alone, and brings the schema up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from sync_server.stores.engine import open_engine, open_reading_engine
from sync_server.stores.lock import data_dir_lock, database_lock
from sync_server.stores.migrations import migrate, require_current
from sync_server.stores.sql import Store


@contextmanager
def locked_engine(data_dir: Path, database_url: str) -> Iterator[Engine]:
    """The database, locked against every other process until the block ends.

    Raises:
        ConfigurationError: another server uses the directory or the database, or one of them cannot be used.
    """
    with data_dir_lock(data_dir):
        engine = open_engine(database_url)
        try:
            with database_lock(Path(str(engine.url.database))):
                yield engine
        finally:
            engine.dispose()


@contextmanager
def reading_store(database_url: str) -> Iterator[Store]:
    """The store to read from, beside a server or without one: no lock is taken, nothing is written.

    Raises:
        ConfigurationError: there is no such database, it is at another schema than the code's, or cannot be read.
    """
    engine = open_reading_engine(database_url)
    require_current(engine)
    store = Store(engine)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def opened_store(data_dir: Path, database_url: str) -> Iterator[Store]:
    """The store at the current schema, locked against every other process until the block ends.

    Raises:
        ConfigurationError: see `locked_engine`; or the database is newer than the code.
    """
    with locked_engine(data_dir, database_url) as engine:
        migrate(engine)
        store = Store(engine)
        try:
            yield store
        finally:
            store.close()
