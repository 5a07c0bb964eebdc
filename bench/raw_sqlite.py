"""The server's writes without the server: the same rows into the same tables, by sqlite3 alone in one thread."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from bench.notes import note
from sync_server.stores.engine import SQLITE_PRAGMAS, open_engine
from sync_server.stores.migrations import migrate
from sync_server.stores.rows import CHANGE_COLUMNS, DECISION_COLUMNS, ENTITY_COLUMNS, SYNC_COLUMNS
from sync_server.stores.writer import ENTITY_UPDATE

_EPOCH = "00000000"
_START_MS = 1_760_000_000_000
_ID_BLOCK = 1_000


class Commit(NamedTuple):
    """What one commit took: on the clock, and of the processor."""

    wall_s: float
    cpu_s: float


class Rows(NamedTuple):
    """What one commit writes."""

    entities: list[tuple[Any, ...]]
    changes: list[tuple[Any, ...]]
    operations: list[tuple[Any, ...]]
    syncs: list[tuple[Any, ...]]


def rows_of(first: int, count: int, *, per_sync: int, among: int | None = None, users: int = 1) -> Rows:
    """The rows of `count` operations, numbered from `first`; one sync for each `per_sync` of them.

    Args:
        users: how many users take turns with their syncs, each in a space of their own.
        among: change notes spread over so many that are there; None creates one for each operation.
    """
    rows = Rows([], [], [], [])
    for number in range(first, first + count):
        user = _user(number, per_sync, users)
        _add_operation(
            rows, user, _sync_id(number, per_sync), number, number if among is None else scattered(number, among)
        )
    rows.syncs.extend(
        _sync(number, per_sync, _user(number, per_sync, users)) for number in range(first, first + count, per_sync)
    )
    return rows


def scattered(number: int, among: int) -> int:
    """One of the first `among` notes, far from that of the number before."""
    return number * 7_919 % among + 1


def open_database(data_dir: Path) -> sqlite3.Connection:
    """A database as the server makes it, with user 1 and their space; its connection has the server's pragmas."""
    data_dir.mkdir(parents=True, exist_ok=True)
    engine = open_engine(f"sqlite:///{data_dir / 'sync.db'}")
    migrate(engine)
    engine.dispose()
    connection = connect(data_dir)
    connection.execute("INSERT INTO log (log_id, epoch, head_seq, floor_seq) VALUES (1, ?, 0, 0)", (_EPOCH,))
    connection.execute("INSERT INTO users VALUES ('1', ?)", (_START_MS,))
    connection.execute("INSERT INTO spaces VALUES ('u-1', '', '1', ?, 0, 0, 0)", (_START_MS,))
    connection.execute("INSERT INTO members VALUES ('u-1', '1', 'owner', 0)")
    connection.execute("INSERT INTO id_blocks VALUES ('note', 1)")
    return connection


def connect(data_dir: Path) -> sqlite3.Connection:
    """The database of a server, with the server's pragmas."""
    connection = sqlite3.connect(data_dir / "sync.db", isolation_level=None)
    for pragma in SQLITE_PRAGMAS:
        connection.execute(pragma)
    return connection


def write(connection: sqlite3.Connection, rows: Rows) -> None:
    """One durable commit."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(_insert(ENTITY_COLUMNS, "entities") + ENTITY_UPDATE, rows.entities)
    connection.executemany(_insert(CHANGE_COLUMNS, "changes"), rows.changes)
    connection.executemany(_insert(DECISION_COLUMNS, "operations"), rows.operations)
    connection.executemany(_insert(SYNC_COLUMNS, "syncs"), rows.syncs)
    connection.execute("UPDATE log SET head_seq = head_seq + ?", (len(rows.changes),))
    connection.execute("COMMIT")


def fill(data_dir: Path, count: int) -> None:
    """Make a database in which user 1 has `count` notes."""
    connection = open_database(data_dir)
    connection.execute("PRAGMA synchronous=OFF")
    for first in range(1, count + 1, 10_000):
        write(connection, rows_of(first, min(10_000, count + 1 - first), per_sync=100))
    connection.execute("UPDATE id_blocks SET next_id = ?", (count + _ID_BLOCK,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def commits(
    connection: sqlite3.Connection,
    *,
    batch: int,
    per_sync: int,
    seconds: float = inf,
    first: int = 1,
    among: int | None = None,
    users: int = 1,
) -> Iterator[Commit]:
    """Commits of `batch` operations each, for so many seconds; making the rows is not counted."""
    spent = 0.0
    while spent < seconds:
        rows = rows_of(first, batch, per_sync=per_sync, among=among, users=users)
        first += batch
        began, cpu_began = time.perf_counter(), time.thread_time()
        write(connection, rows)
        taken = Commit(time.perf_counter() - began, time.thread_time() - cpu_began)
        spent += taken.wall_s
        yield taken


def _user(number: int, per_sync: int, users: int) -> str:
    return str(number // per_sync % users + 1)


def _add_operation(rows: Rows, user: str, sync_id: str, number: int, entity: int) -> None:
    entity_id, operation_id, moment = str(entity), f"op_{number}", _START_MS + number
    version = 1 if entity == number else number
    data = note(number)
    text = json.dumps(data, separators=(",", ":"))
    previous = json.dumps({name: [] for name in data}, separators=(",", ":"))
    body_hash = hashlib.blake2b(text.encode(), digest_size=16).digest()
    rows.entities.append(("note", entity_id, f"u-{user}", version, text, 0, moment, moment, user, number, number))
    seen = (number, f"u-{user}", "note", entity_id, version, "create", text, previous, None, "created")
    earlier = 0 if entity == number else entity
    rows.changes.append((*seen, moment, moment, user, "client", operation_id, version - 1, earlier))
    meant = (user, "client", operation_id, body_hash, sync_id, "create", "note", entity_id)
    verdict = ("applied", "created", version, number, None, None, None, None, None, 0, moment, 0)
    rows.operations.append((*meant, *verdict, version - 1, None, None, None))


def _sync(number: int, per_sync: int, user: str) -> tuple[Any, ...]:
    counts = (per_sync, per_sync, 0, 0)
    return (_sync_id(number, per_sync), user, "client", "success", _START_MS, _START_MS, *counts, '["note"]', None)


def _sync_id(number: int, per_sync: int) -> str:
    return f"sync_{number // per_sync * per_sync:024x}"


def _insert(columns: str, table: str) -> str:
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(columns.split(',')))})"
