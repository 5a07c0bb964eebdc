"""`Tables` as statements on one SQLite connection."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec

from sync_client.stores.port import JOURNAL_TOUCHES, Counts, JournalPage, Query, Scalar, Tables
from sync_client.values import Conflict, Draft, Key, Operation, Quarantined, Row, Touch

_ROW = "entity_type, entity_id, space_id, version, data, modified_at, modified_by, stale"
_encode = msgspec.json.Encoder().encode
_operation = msgspec.json.Decoder(Operation)
_quarantined = msgspec.json.Decoder(Quarantined)
_conflict = msgspec.json.Decoder(Conflict)
_touches = msgspec.json.Decoder(list[Touch])


class SqliteTables(Tables):
    """Each method is one statement for each entity type that its keys have."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def data_version(self) -> int:
        """Changes when another connection commits."""
        return int(self._all("PRAGMA data_version")[0][0])

    def value(self, name: str) -> str | None:
        found = self._all("SELECT text FROM facts WHERE name = ?", (name,))
        return found[0][0] if found else None

    def save_value(self, name: str, text: str | None) -> None:
        if text is None:
            self._connection.execute("DELETE FROM facts WHERE name = ?", (name,))
        else:
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, text))

    # --- rows ------------------------------------------------------------------------------------------------------

    def rows(self, keys: Collection[Key]) -> dict[Key, Row]:
        found = self._of_keys(f"SELECT {_ROW} FROM rows", keys)  # noqa: S608  names of columns
        return {row.key: row for row in map(_row, found)}

    def save_rows(self, rows: Iterable[Row]) -> None:
        self._connection.executemany(
            "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (entity_type, entity_id) DO UPDATE SET "
            "space_id = excluded.space_id, version = excluded.version, data = excluded.data, "
            "modified_at = excluded.modified_at, modified_by = excluded.modified_by, stale = excluded.stale",
            [(*row.key, *row[1:]) for row in rows],
        )

    def delete_rows(self, keys: Collection[Key]) -> None:
        self._delete("rows", keys)

    def mark_stale(self, space_id: str | None) -> None:
        self._connection.execute("UPDATE rows SET stale = 1 WHERE ?1 IS NULL OR space_id = ?1", (space_id,))

    def stale_keys(self, *, limit: int) -> list[Key]:
        found = self._all("SELECT entity_type, entity_id FROM rows WHERE stale LIMIT ?", (limit,))
        return [Key(*one) for one in found]

    def versions(self, space_ids: Collection[str], *, deleted: bool = False) -> Iterable[tuple[str, Key, int]]:
        found = self._connection.execute(
            "SELECT space_id, entity_type, entity_id, version FROM rows "  # noqa: S608  made of constants
            f"WHERE space_id IN (SELECT value FROM json_each(?)) AND data IS {'' if deleted else 'NOT '}NULL",
            (_encode(list(space_ids)).decode(),),
        )
        return ((space_id, Key(*key), version) for space_id, *key, version in found)

    # --- drafts and what is shown ----------------------------------------------------------------------------------

    def drafts(self, keys: Collection[Key]) -> dict[Key, Draft]:
        found = self._of_keys("SELECT entity_type, entity_id, space_id, data FROM drafts", keys)
        return {(key := Key(*one[:2])): Draft(key, *one[2:]) for one in found}

    def save_drafts(self, drafts: Iterable[Draft]) -> None:
        values = [(*draft.key, *draft[1:]) for draft in drafts]
        self._connection.executemany("INSERT OR REPLACE INTO drafts VALUES (?, ?, ?, ?)", values)

    def delete_drafts(self, keys: Collection[Key]) -> None:
        self._delete("drafts", keys)

    def select(self, query: Query) -> list[Key]:
        conditions, parameters = ["TRUE"], list[Scalar]()
        for name, value in query.where:
            condition, some = _condition(name, value)
            conditions.append(condition)
            parameters += some
        order = "length(entity_id), entity_id"
        if query.order_by is not None:
            path = _path(query.order_by)
            order = f"{_RANK} {_direction(query)}, json_extract(data, ?) {_direction(query)}, {order}"
            parameters += [path, path]
        found = self._all(
            "SELECT entity_id FROM ("  # noqa: S608  made of constants
            "SELECT entity_id, data FROM rows WHERE entity_type = ?1 AND data IS NOT NULL AND NOT EXISTS ("
            "SELECT 1 FROM drafts WHERE drafts.entity_type = ?1 AND drafts.entity_id = rows.entity_id) "
            "UNION ALL SELECT entity_id, data FROM drafts WHERE entity_type = ?1 AND data IS NOT NULL"
            f") WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT ?",
            (query.entity_type, *parameters, query.limit if query.limit is not None else -1),
        )
        return [Key(query.entity_type, entity_id) for (entity_id,) in found]

    # --- the queue -------------------------------------------------------------------------------------------------

    def enqueue(self, operations: Iterable[Operation]) -> None:
        self._connection.executemany(
            "INSERT INTO queue (operation_id, entity_type, entity_id, body) VALUES (?, ?, ?, ?)",
            [(operation.operation_id, *operation.key, _encode(operation)) for operation in operations],
        )

    def operations(self, operation_ids: Collection[str]) -> dict[str, Operation]:
        found = self._all(
            "SELECT position, body FROM queue WHERE operation_id IN (SELECT value FROM json_each(?))",
            (_encode(list(operation_ids)).decode(),),
        )
        return {operation.operation_id: operation for operation in map(_queued, found)}

    def pending(self, keys: Collection[Key]) -> dict[Key, list[Operation]]:
        found: dict[Key, list[Operation]] = {}
        for _, _, position, body in self._of_keys(
            "SELECT entity_type, entity_id, position, body FROM queue", keys, order="entity_id, position"
        ):
            operation = _queued((position, body))
            found.setdefault(operation.key, []).append(operation)
        return found

    def queue(self, *, after: int, limit: int | None) -> list[Operation]:
        found = self._all(
            "SELECT position, body FROM queue WHERE position > ? ORDER BY position LIMIT ?",
            (after, limit if limit is not None else -1),
        )
        return [_queued(one) for one in found]

    def replace_operations(self, operations: Iterable[Operation]) -> None:
        self._connection.executemany(
            "UPDATE queue SET entity_type = ?, entity_id = ?, body = ? WHERE operation_id = ?",
            [(*operation.key, _encode(operation), operation.operation_id) for operation in operations],
        )

    def dequeue(self, operation_ids: Collection[str]) -> None:
        self._connection.executemany("DELETE FROM queue WHERE operation_id = ?", [(one,) for one in operation_ids])

    # --- what waits for a person -----------------------------------------------------------------------------------

    def quarantined(self) -> list[Quarantined]:
        return [_quarantined.decode(body) for (body,) in self._all("SELECT body FROM quarantine ORDER BY position")]

    def quarantine(self, refused: Iterable[Quarantined]) -> None:
        self._connection.executemany(
            "INSERT INTO quarantine (operation_id, body) VALUES (?, ?) "
            "ON CONFLICT (operation_id) DO UPDATE SET body = excluded.body",
            [(one.operation_id, _encode(one)) for one in refused],
        )

    def release(self, operation_ids: Collection[str]) -> None:
        self._connection.executemany("DELETE FROM quarantine WHERE operation_id = ?", [(one,) for one in operation_ids])

    def conflicts(self) -> list[Conflict]:
        return [_conflict.decode(body) for (body,) in self._all("SELECT body FROM conflicts ORDER BY position")]

    def save_conflicts(self, conflicts: Iterable[Conflict]) -> None:
        self._connection.executemany(
            "INSERT INTO conflicts (conflict_id, body) VALUES (?, ?) "
            "ON CONFLICT (conflict_id) DO UPDATE SET body = excluded.body",
            [(conflict.conflict_id, _encode(conflict)) for conflict in conflicts],
        )

    def delete_conflicts(self, conflict_ids: Collection[str]) -> None:
        self._connection.executemany("DELETE FROM conflicts WHERE conflict_id = ?", [(one,) for one in conflict_ids])

    def aliases(self, keys: Collection[Key]) -> dict[Key, Key]:
        found: dict[Key, Key] = {}
        for entity_type, ids in _by_type(keys):
            sql = "SELECT made, named FROM aliases WHERE entity_type = ? AND made IN (SELECT value FROM json_each(?))"
            for made, named in self._all(sql, (entity_type, ids)):
                found[Key(entity_type, made)] = Key(entity_type, named)
        return found

    def save_alias(self, made: Key, named: Key) -> None:
        self._connection.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)", (*made, named.entity_id))

    # --- the journal -----------------------------------------------------------------------------------------------

    def write_journal(self, touches: Sequence[Touch]) -> None:
        found = self._all("SELECT line_end FROM journal ORDER BY position DESC LIMIT 1")
        end = (found[0][0] if found else 0) + len(touches)
        self._connection.execute("INSERT INTO journal (line_end, touches) VALUES (?, ?)", (end, _encode(touches)))
        kept_from = end - JOURNAL_TOUCHES
        while (oldest := self._all("SELECT position, line_end FROM journal ORDER BY position LIMIT 1")[0])[
            1
        ] <= kept_from:
            self._connection.execute("DELETE FROM journal WHERE position = ?", (oldest[0],))

    def journal(self, *, after: int, limit: int) -> JournalPage:
        found = self._all(
            "SELECT position, touches FROM journal WHERE position > ? ORDER BY position LIMIT ?", (after, limit)
        )
        touches = [touch for _, body in found for touch in _touches.decode(body)]
        has_gap = bool(found) and found[0][0] > after + 1
        return JournalPage(touches, found[-1][0] if found else after, has_gap)

    def journal_end(self) -> int:
        return int(self._all("SELECT coalesce(max(position), 0) FROM journal")[0][0])

    def counts(self) -> Counts:
        (counts,) = self._all(
            "SELECT (SELECT count(*) FROM queue), (SELECT count(*) FROM conflicts), (SELECT count(*) FROM quarantine)"
        )
        return Counts(*counts)

    # --- statements ------------------------------------------------------------------------------------------------

    def _all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        return self._connection.execute(sql, parameters).fetchall()

    def _of_keys(self, sql: str, keys: Collection[Key], *, order: str = "entity_id") -> Iterator[Any]:
        if len(keys) == 1:  # most calls of an application: half the cost of a list of one
            yield from self._all(f"{sql} WHERE entity_type = ? AND entity_id = ? ORDER BY {order}", next(iter(keys)))
            return
        for entity_type, ids in _by_type(keys):
            where = "WHERE entity_type = ? AND entity_id IN (SELECT value FROM json_each(?))"
            yield from self._all(f"{sql} {where} ORDER BY {order}", (entity_type, ids))

    def _delete(self, table: str, keys: Collection[Key]) -> None:
        self._connection.executemany(
            f"DELETE FROM {table} WHERE entity_type = ? AND entity_id = ?",  # noqa: S608  names of tables
            list(keys),
        )


_RANK = (
    "CASE json_type(data, ?) WHEN 'null' THEN 0 WHEN 'true' THEN 1 WHEN 'false' THEN 1 WHEN 'integer' THEN 1 "
    "WHEN 'real' THEN 1 WHEN 'text' THEN 2 WHEN 'array' THEN 3 WHEN 'object' THEN 3 ELSE 0 END"
)


def _direction(query: Query) -> str:
    return "DESC" if query.descending else "ASC"


def _path(name: str) -> str:
    return f'$."{name}"'


def _condition(name: str, value: Scalar) -> tuple[str, list[Scalar]]:
    path = _path(name)
    if value is None:
        return "json_extract(data, ?) IS NULL", [path]
    if isinstance(value, bool):
        return "json_type(data, ?) = ?", [path, "true" if value else "false"]
    kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
    return f"json_type(data, ?) IN {kinds} AND json_extract(data, ?) = ?", [path, path, value]


def _by_type(keys: Collection[Key]) -> Iterator[tuple[str, str]]:
    for entity_type, group in groupby(sorted(keys), key=lambda key: key.entity_type):
        yield entity_type, _encode([key.entity_id for key in group]).decode()


def _row(found: Sequence[Any]) -> Row:
    entity_type, entity_id, space_id, version, data, modified_at, modified_by, stale = found
    key = Key(entity_type, entity_id)
    return Row(key, space_id, version, data, modified_at, modified_by, bool(stale))


def _queued(found: tuple[int, bytes]) -> Operation:
    position, body = found
    return msgspec.structs.replace(_operation.decode(body), position=position)
