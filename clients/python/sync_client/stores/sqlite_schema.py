"""The tables of the SQLite store and how older files are brought to them. `user_version` counts the migrations."""

import sqlite3

from sync_client.errors import StoreError

MINIMUM_SQLITE = (3, 35)

_FIRST = """
CREATE TABLE facts (name TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rows (
    entity_type TEXT NOT NULL, entity_id TEXT NOT NULL, space_id TEXT, version INTEGER NOT NULL, data TEXT,
    modified_at TEXT, modified_by TEXT, stale INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (entity_type, entity_id)
);
CREATE INDEX rows_stale ON rows (stale) WHERE stale;
CREATE TABLE drafts (
    entity_type TEXT NOT NULL, entity_id TEXT NOT NULL, space_id TEXT, data TEXT,
    PRIMARY KEY (entity_type, entity_id)
) WITHOUT ROWID;
CREATE TABLE queue (
    position INTEGER PRIMARY KEY AUTOINCREMENT, operation_id TEXT NOT NULL UNIQUE, entity_type TEXT NOT NULL,
    entity_id TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX queue_entity ON queue (entity_type, entity_id, position);
CREATE TABLE quarantine (position INTEGER PRIMARY KEY, operation_id TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TABLE conflicts (position INTEGER PRIMARY KEY, conflict_id TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TABLE aliases (
    entity_type TEXT NOT NULL, made TEXT NOT NULL, named TEXT NOT NULL, PRIMARY KEY (entity_type, made)
) WITHOUT ROWID;
CREATE TABLE journal (position INTEGER PRIMARY KEY AUTOINCREMENT, line_end INTEGER NOT NULL, touches BLOB NOT NULL);
"""

MIGRATIONS = (_FIRST,)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the newest schema, whole or not at all, whoever else opens it meanwhile.

    Raises:
        StoreError: the file is from a newer version of this package.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise StoreError(
                f"the store was made by a newer sync-client (its schema is {version}, this version knows "
                f"{len(MIGRATIONS)}): upgrade sync-client, or name another store"
            )
        for migration in MIGRATIONS[version:]:
            for statement in migration.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
