"""Opens the database: the SQLAlchemy engine with the pragmas that make a SQLite commit durable."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from sync_server.errors import ConfigurationError

SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=5000",
    "PRAGMA cache_size=-65536",
    "PRAGMA mmap_size=268435456",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA wal_autocheckpoint=8000",
    "PRAGMA journal_size_limit=67108864",
)
"""An acknowledgement means fsync (promise P1): WAL with synchronous=FULL syncs the log at each commit."""


READ_TIMEOUT_S = 5.0
"""How long a reader beside the server waits for a lock, as at a checkpoint."""
CACHED_STATEMENTS = 512
"""Prepared statements kept by a connection; bulk statements have one for each power of two of their rows."""


def open_engine(database_url: str) -> Engine:
    """An engine for `sqlite:///path`.

    Raises:
        ConfigurationError: the URL is malformed, names another database or no file, or its directory cannot be made.
    """
    path = _database_path(database_url)
    directory = path.parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"SYNC_DATABASE_URL: {directory} cannot be made: {error.strerror}"
        raise ConfigurationError(message) from None
    options = {"check_same_thread": False, "cached_statements": CACHED_STATEMENTS}
    # last in, first out: the connection that was used last has the most in its cache
    engine = create_engine(database_url, connect_args=options, pool_size=8, max_overflow=0, pool_use_lifo=True)
    event.listen(engine, "connect", _prepare)
    return engine


def _database_path(database_url: str) -> Path:
    try:
        url = make_url(database_url)
    except ArgumentError:
        message = "SYNC_DATABASE_URL is no database URL; write it as sqlite:////absolute/path/sync.db"
        raise ConfigurationError(message) from None
    if url.drivername != "sqlite":
        message = f"SYNC_DATABASE_URL: {url.drivername!r} is not supported; use sqlite:////absolute/path/sync.db"
        raise ConfigurationError(message)
    if not url.database or url.database == ":memory:":
        message = "SYNC_DATABASE_URL names no file; write it as sqlite:////absolute/path/sync.db"
        raise ConfigurationError(message)
    return Path(url.database)


def open_reading_engine(database_url: str) -> Engine:
    """An engine that can only read, beside a server or without one.

    Raises:
        ConfigurationError: see `open_engine`; or there is no such file.
    """
    path = _database_path(database_url)
    if not path.is_file():
        message = f"there is no database {path}; name its directory with --data-dir or SYNC_DATA_DIR"
        raise ConfigurationError(message)
    uri = f"{path.resolve().as_uri()}?mode=ro"
    return create_engine("sqlite://", creator=lambda: _reading_connection(uri), poolclass=NullPool)


def _reading_connection(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=READ_TIMEOUT_S)


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by us: IMMEDIATE to write, deferred to read
    for pragma in SQLITE_PRAGMAS:
        connection.execute(pragma)
