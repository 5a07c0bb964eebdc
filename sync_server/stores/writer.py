"""What can be written: bulk statements within the one write transaction."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any
from zlib import crc32

import orjson

from sync_server.conflict.model import Claim
from sync_server.records import (
    VERSION_STRIDE,
    ClientRecord,
    Conflict,
    Decision,
    DecisionKey,
    EntityKey,
    Membership,
    Receipt,
    Space,
    SyncRecord,
)
from sync_server.stores.reader import Reader
from sync_server.stores.rows import (
    CHANGE_COLUMNS,
    CLIENT_COLUMNS,
    CONFLICT_COLUMNS,
    DECISION_COLUMNS,
    ENTITY_COLUMNS,
    RECEIPT_COLUMNS,
    SYNC_COLUMNS,
    receipt_from,
    stored_checksum,
)
from sync_server.stores.statements import chunks, marks
from sync_server.types import EntityId, EntityType, Millis, Seq, SpaceId, UserId


def dump(value: Any) -> str:
    """The JSON text that is stored and spliced into frames: compact, UTF-8."""
    return orjson.dumps(value).decode()


ENTITY_UPDATE = " ON CONFLICT (entity_type, entity_id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in ("version", "data", "deleted", "updated_at", "modified_by", "seq")
)
"""What an entity never changes is left out: a row that is replaced moves its entry in the index of creation as well."""
_NOTHING = (None,) * 5
"""Of a verdict without a conflict, an error or a body, what stands in their columns."""
_PLAIN_DECISION_COLUMNS = ", ".join((*Decision._fields[:12], "retry_count", "created_at", "base_version"))


class Writer(Reader):
    """Queries and bulk writes of the one write transaction of this database."""

    # --- the log ---------------------------------------------------------------------------------------------------

    def take_numbers(self, count: int) -> Seq:
        """Reserve `count` positions and return the first. Call it last: the row's lock makes seq the commit order."""
        row = self._row("UPDATE log SET head_seq = head_seq + ? WHERE log_id = 1 RETURNING head_seq", (count,))
        return Seq(row[0] - count + 1)

    def start_epoch(self, epoch: str) -> None:
        """Begin a new incarnation of the log: every cursor handed out before is answered with a reset.

        Versions made from now on are far above those that were made before, also those that a backup has lost; of two
        epochs that begin from the same backup they differ, but for one time in a thousand.
        """
        strides = 2 + crc32(epoch.encode()) % 999
        self._cursor.execute(
            "INSERT INTO log (log_id, epoch, head_seq, floor_seq, version_floor) VALUES (1, ?, 0, 0, 0) "
            "ON CONFLICT (log_id) DO UPDATE SET epoch = excluded.epoch, "
            "version_floor = "
            "(max(version_floor, (SELECT coalesce(max(version), 0) FROM entities)) / ? + ?) * ?",
            (epoch, VERSION_STRIDE, strides, VERSION_STRIDE),
        )

    def has_log(self) -> bool:
        return self._row("SELECT 1 FROM log WHERE log_id = 1") is not None

    def save_changes(self, changes: Iterable[Sequence[Any]]) -> None:
        """Append rows to the log, their columns in the order of `Change`."""
        self._insert("changes", CHANGE_COLUMNS, changes)

    # --- entities --------------------------------------------------------------------------------------------------

    def save_entities(self, rows: Iterable[Sequence[Any]]) -> None:
        """Insert entities or update them, their columns in the order of `Entity`, `data` as JSON text."""
        self._insert("entities", ENTITY_COLUMNS, rows, suffix=ENTITY_UPDATE)

    def shift_receipts(self, shifts: Iterable[tuple[SpaceId, int, int, Seq]]) -> list[Receipt]:
        """Bring what is stored of spaces to what their entities are now; returns it.

        Args:
            shifts: of each space the fingerprints that came or went, XORed; by how many its live entities are more;
                and the position of its last change.
        """
        rows = self._joined(
            "UPDATE spaces SET checksum = ~(checksum & k.b) & (checksum | k.b), "  # noqa: S608  SQLite has no XOR
            "live_count = live_count + k.c, changed_seq = k.d FROM k WHERE spaces.space_id = k.a "
            f"RETURNING {RECEIPT_COLUMNS}",
            ((space_id, stored_checksum(toggled), more, seq) for space_id, toggled, more, seq in shifts),
        )
        return [receipt_from(row) for row in rows]

    def save_parents(self, children: Iterable[EntityKey], links: Iterable[tuple[str, str, str, str, str]]) -> None:
        """Replace what these children refer to by (parent_type, parent_id, entity_type, entity_id, field) rows."""
        self._delete("parents", ("entity_type", "entity_id"), children)
        self._insert("parents", "parent_type, parent_id, entity_type, entity_id, field", links)

    def save_claims(self, released: Iterable[Claim], taken: Iterable[tuple[Claim, EntityId]]) -> None:
        self._delete("unique_values", ("entity_type", "space_id", "key", "value"), released)
        rows = [(*claim, entity_id) for claim, entity_id in taken]
        self._insert("unique_values", "entity_type, space_id, key, value, entity_id", rows, verb="INSERT OR REPLACE")

    def reserve_ids(self, entity_type: EntityType, count: int) -> int:
        """Reserve a block of integer ids and return the first."""
        row = self._row(
            "INSERT INTO id_blocks (entity_type, next_id) VALUES (?, 1 + ?) "
            "ON CONFLICT (entity_type) DO UPDATE SET next_id = next_id + ? RETURNING next_id",
            (entity_type, count, count),
        )
        return int(row[0]) - count

    # --- verdicts, syncs, conflicts --------------------------------------------------------------------------------

    def save_decisions(self, decisions: Iterable[tuple[Decision, Seq | None]]) -> None:
        """Insert or replace verdicts, each with the position of its change in place of its own `seq`."""
        # the driver takes longer over each NULL than over a text, and most decisions have five of them
        plain, others = [], []
        for decision, seq in decisions:
            row = (
                *decision[:5], str(decision.operation_type), *decision[6:8], str(decision.verdict),
                str(decision.rule), decision.version, seq,
            )  # fmt: skip
            if decision[12:17] == _NOTHING and decision.strategy is None:
                plain.append((*row, decision.retry_count, decision.created_at, decision.base_version))
            else:
                code = decision.error_code.value if decision.error_code is not None else None
                details = dump(decision.details) if decision.details else None
                others.append((*row, decision.conflict_id, code, decision.error, details, *_context_row(decision)))
        self._insert("operations", _PLAIN_DECISION_COLUMNS, plain, verb="INSERT OR REPLACE")
        self._insert("operations", DECISION_COLUMNS, others, verb="INSERT OR REPLACE")

    def close_decisions(self, keys: Iterable[DecisionKey]) -> None:
        """These operations need not be tried again: their conflict is settled."""
        for key in keys:
            self._cursor.execute(
                "UPDATE operations SET body = NULL WHERE user_id = ? AND client_id = ? AND operation_id = ?", key
            )

    def save_syncs(self, records: Iterable[SyncRecord]) -> None:
        rows = [
            (*record[:3], record.status.value, *record[4:10], dump(list(record.entity_types)), record.error)
            for record in records
        ]
        self._insert("syncs", SYNC_COLUMNS, rows, verb="INSERT OR REPLACE")

    def delete_syncs(self, user_id: UserId, *, client_id: str | None, before: Millis) -> int:
        client = " AND client_id = ?" if client_id is not None else ""
        parameters = (user_id, before, *((client_id,) if client_id is not None else ()))
        self._cursor.execute(
            f"DELETE FROM syncs WHERE user_id = ? AND ended_at IS NOT NULL AND started_at < ?{client}",  # noqa: S608
            parameters,
        )
        return int(self._cursor.rowcount)

    def save_conflicts(self, conflicts: Iterable[Conflict]) -> None:
        rows = [_conflict_row(conflict) for conflict in conflicts]
        self._insert("conflicts", CONFLICT_COLUMNS, rows, verb="INSERT OR REPLACE")

    def save_clients(self, records: Iterable[ClientRecord]) -> None:
        rows = [_client_row(record) for record in records]
        self._insert("clients", CLIENT_COLUMNS, rows, verb="INSERT OR REPLACE")

    # --- users and spaces ------------------------------------------------------------------------------------------

    def save_user(self, user_id: UserId, created_at: Millis) -> None:
        self._insert("users", "user_id, created_at", [(user_id, created_at)])

    def save_space(self, space: Space) -> None:
        self._insert("spaces", "space_id, name, owner, created_at", [space])

    def save_membership(self, membership: Membership) -> None:
        role = membership.role.value if membership.role is not None else None
        row = (membership.space_id, membership.user_id, role, membership.seq)
        self._insert("members", "space_id, user_id, role, seq", [row], verb="INSERT OR REPLACE")

    # --- trimming --------------------------------------------------------------------------------------------------

    def trim_changes(self, *, until: Seq, limit: int) -> int:
        """Remove the oldest rows of the log up to `until`, at most `limit`, with the tombstones they tell of."""
        floor = Seq(min(until, self.head().floor_seq + limit))
        self._cursor.execute(
            "DELETE FROM entities WHERE deleted = 1 AND seq <= ? AND (entity_type, entity_id) IN "
            "(SELECT entity_type, entity_id FROM changes WHERE seq <= ? AND operation_type = 'delete')",
            (floor, floor),
        )
        self._cursor.execute("DELETE FROM changes WHERE seq <= ?", (floor,))
        removed = int(self._cursor.rowcount)
        self._cursor.execute("UPDATE log SET floor_seq = max(floor_seq, ?) WHERE log_id = 1", (floor,))
        return removed

    def trim_decisions(
        self, *, before: Millis, after_key: tuple[str, str, str], limit: int
    ) -> tuple[str, str, str] | None:
        """Remove old verdicts among the next `limit` ones; returns where to go on, None at the end.

        A parked operation stays while its conflict is open.
        """
        row = self._row(
            "SELECT user_id, client_id, operation_id FROM operations "
            "WHERE (user_id, client_id, operation_id) > (?, ?, ?) ORDER BY user_id, client_id, operation_id "
            "LIMIT 1 OFFSET ?",
            (*after_key, limit - 1),
        )
        bound = tuple(row) if row is not None else None
        upper = " AND (user_id, client_id, operation_id) <= (?, ?, ?)" if bound is not None else ""
        self._cursor.execute(
            f"DELETE FROM operations WHERE (user_id, client_id, operation_id) > (?, ?, ?){upper} "  # noqa: S608
            "AND created_at < ? AND (verdict != 'conflict' OR body IS NULL)",
            (*after_key, *(bound or ()), before),
        )
        return bound

    def trim_records(self, *, before: Millis, limit: int) -> int:
        """Remove conflicts settled and syncs begun before a moment, abandoned ones too, at most `limit` of each."""
        self._cursor.execute(
            "DELETE FROM conflicts WHERE conflict_id IN "
            "(SELECT conflict_id FROM conflicts WHERE is_open = 0 AND resolved_at < ? LIMIT ?)",
            (before, limit),
        )
        removed = int(self._cursor.rowcount)
        self._cursor.execute(
            "DELETE FROM syncs WHERE (user_id, sync_id) IN "
            "(SELECT user_id, sync_id FROM syncs WHERE started_at < ? LIMIT ?)",
            (before, limit),
        )
        return removed + int(self._cursor.rowcount)

    # --- statements ------------------------------------------------------------------------------------------------

    def _insert(
        self, table: str, columns: str, rows: Iterable[Sequence[Any]], *, verb: str = "INSERT", suffix: str = ""
    ) -> None:
        # One statement for many rows: the driver gives up the interpreter lock once, not once a row.
        for chunk in chunks(list(rows)):
            sql = _insert_sql(verb, table, columns, len(chunk[0]), len(chunk)) + suffix
            self._cursor.execute(sql, tuple(chain.from_iterable(chunk)))

    def _delete(self, table: str, columns: Sequence[str], keys: Iterable[Sequence[Any]]) -> None:
        names = ", ".join(columns)
        for chunk in chunks(list(keys)):
            values = marks(len(columns), len(chunk))
            sql = f"DELETE FROM {table} WHERE ({names}) IN (VALUES {values})"  # noqa: S608
            self._cursor.execute(sql, tuple(chain.from_iterable(chunk)))


@lru_cache(maxsize=512)
def _insert_sql(verb: str, table: str, columns: str, width: int, count: int) -> str:
    return f"{verb} INTO {table} ({columns}) VALUES {marks(width, count)}"


def _context_row(decision: Decision) -> tuple[Any, ...]:
    """Of a verdict that says more than most, the columns from `body` on."""
    strategy, source, sent = decision[21:]
    names = (name.value if name is not None else None for name in (strategy, source))
    return (*decision[16:21], *names, _dumped(sent))


def _client_row(record: ClientRecord) -> tuple[Any, ...]:
    asked, followed = record.asked, record.followed
    shown = (list(asked) if asked is not None else None, [[*followed.wanted], *followed[1:]] if followed else None)
    return (*record[:2], dump(record.device), *record[3:5], *map(_dumped, shown))


def _dumped(value: Any) -> str | None:
    return dump(value) if value is not None else None


def _conflict_row(conflict: Conflict) -> tuple[Any, ...]:
    columns = conflict._asdict()
    for name in ("base", "server_data", "client_data", "fields"):
        columns[name] = dump(columns[name])
    for name in ("conflict_type", "operation_type", "suggested_strategy", "strategy"):
        columns[name] = columns[name].value if columns[name] is not None else None
    columns["is_open"] = int(conflict.is_open)
    columns["resolved_data"] = dump(conflict.resolved_data) if conflict.resolved_data is not None else None
    return tuple(columns.values())
