"""What can be asked of the database: set-based queries over one DBAPI cursor, within one snapshot.

The statements are written for the driver itself: on the commit path SQLAlchemy's execution layer costs more than the
query (docs/decisions/0004-storage.md). The tables are declared in `schema.tables`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import orjson

from schema.entity import EntitySpec
from sync_server.conflict.model import Claim, Revision
from sync_server.errors import ErrorCode
from sync_server.records import (
    Change,
    ClientRecord,
    Conflict,
    Decision,
    DecisionKey,
    Entity,
    EntityKey,
    Head,
    Membership,
    Space,
    SyncKey,
    SyncRecord,
    Update,
)
from sync_server.types import (
    ConflictId,
    ConflictType,
    EntityId,
    EntityType,
    Millis,
    OperationId,
    OperationType,
    Role,
    Seq,
    SpaceId,
    Strategy,
    SyncId,
    SyncStatus,
    UserId,
    Verdict,
)

Row = tuple[Any, ...]
_Record = TypeVar("_Record", bound=NamedTuple)

ENTITY_COLUMNS = ", ".join(Entity._fields)
CHANGE_COLUMNS = ", ".join(Change._fields)
CONFLICT_COLUMNS = ", ".join(Conflict._fields)
DECISION_COLUMNS = ", ".join(Decision._fields)
SYNC_COLUMNS = ", ".join(SyncRecord._fields)

_UPDATE_COLUMNS = (
    "seq, space_id, entity_type, entity_id, version, operation_type, data, modified_at, modified_by, client_id"
)
_STATE_COLUMNS = (
    "e.seq, e.space_id, e.entity_type, e.entity_id, e.version, e.deleted, e.data, e.updated_at, e.modified_by, "
    "e.created_seq"
)
_BY_CREATION = "FROM entities e WHERE e.space_id = ? AND e.created_seq > ?"
_BY_CHANGE = (
    "FROM changes c CROSS JOIN entities e WHERE c.space_id = ? AND c.seq > ? "
    "AND e.entity_type = c.entity_type AND e.entity_id = c.entity_id AND e.seq = c.seq"
)
"""The entities of a space after a position: in the order of their creation, or of their last change."""
_DELETE = OperationType.DELETE.value
_NO_END = 2**62
"""Above every position and every version."""
MAX_VARIABLES = 30_000
"""Placeholders in one statement; SQLite takes 32,766."""


class SpaceScan(NamedTuple):
    """One space of a feed query: rows with a seq above `after`."""

    space_id: SpaceId
    after: Seq


class EntityScan(NamedTuple):
    """The entities of a space that were created, or else last changed, after a position and up to `until`."""

    space_id: SpaceId
    after: Seq
    until: Seq | None
    by_creation: bool


class Placed(NamedTuple):
    """A row and its position in its scan, from which a scan goes on."""

    position: Seq
    update: Update


class EntityRow(NamedTuple):
    """An entity with its data as it is stored, and its position in its scan."""

    position: Seq
    space_id: SpaceId
    entity_id: EntityId
    version: int
    data: str
    deleted: bool
    created_at: Millis
    updated_at: Millis


class OperationFilter(NamedTuple):
    user_id: UserId
    client_id: str | None = None
    entity_type: str | None = None
    verdicts: tuple[Verdict, ...] = ()


class Reader:
    """Queries of one transaction. Every method is one statement, or one per space."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    # --- the log ---------------------------------------------------------------------------------------------------

    def head(self) -> Head:
        epoch, head_seq, floor_seq = self._row("SELECT epoch, head_seq, floor_seq FROM log WHERE log_id = 1")
        return Head(epoch, Seq(head_seq), Seq(floor_seq))

    def updates(
        self, scans: Iterable[SpaceScan], *, until: Seq, entity_types: Sequence[str] | None, limit: int
    ) -> list[Update]:
        """The oldest `limit` changes of these spaces up to `until`, in seq order."""
        where, parameters = _type_filter(entity_types)
        sql = (
            f"SELECT {_UPDATE_COLUMNS} FROM changes WHERE space_id = ? AND seq > ? AND seq <= ? "  # noqa: S608
            f"AND entity_type != 'member'{where} ORDER BY seq LIMIT ?"
        )
        found = (self._rows(sql, (scan.space_id, scan.after, until, *parameters, limit)) for scan in scans)
        rows = sorted(chain.from_iterable(found))[:limit]
        return [_update(row) for row in rows]

    def snapshot(
        self, scans: Iterable[SpaceScan], *, until: Seq, entity_types: Sequence[str] | None, limit: int
    ) -> list[Placed]:
        """The live entities created after each space's position, up to `until`, in the order of their creation."""
        where, parameters = _type_filter(entity_types, "e.")
        sql = (
            f"SELECT e.created_seq, {_STATE_COLUMNS} {_BY_CREATION} AND e.created_seq <= ? AND e.deleted = 0{where} "
            "ORDER BY e.created_seq LIMIT ?"
        )
        found = (self._rows(sql, (scan.space_id, scan.after, until, *parameters, limit)) for scan in scans)
        rows = sorted(chain.from_iterable(found))[:limit]
        return [Placed(row[0], _state(row[1:], is_new=True)) for row in rows]

    def newest(
        self, scans: Iterable[SpaceScan], *, until: Seq, entity_types: Sequence[str] | None, limit: int
    ) -> list[Update]:
        """The newest state of each entity last changed after its space's position, up to `until`, in seq order.

        Reads every row of the log in between, also of those that changed again: bound what `until` lets it read.
        """
        where, parameters = _type_filter(entity_types, "e.")
        sql = f"SELECT {_STATE_COLUMNS} {_BY_CHANGE} AND c.seq <= ?{where} ORDER BY c.seq LIMIT ?"
        found = [
            (row, row[9] > scan.after)
            for scan in scans
            for row in self._rows(sql, (scan.space_id, scan.after, until, *parameters, limit))
        ]
        found.sort()
        return [_state(row, is_new=is_new) for row, is_new in found[:limit]]

    def entity_rows(
        self, scans: Iterable[EntityScan], entity_type: str, *, live_only: bool, limit: int
    ) -> list[EntityRow]:
        """The type's entities of these scans, in the order of their positions; one may be in several."""
        live = " AND e.deleted = 0" if live_only else ""
        found: list[Row] = []
        for scan in scans:
            position, source = ("e.created_seq", _BY_CREATION) if scan.by_creation else ("c.seq", _BY_CHANGE)
            sql = (
                f"SELECT {position}, e.space_id, e.entity_id, e.version, e.data, e.deleted, e.created_at, "
                f"e.updated_at {source} AND {position} <= ? AND e.entity_type = ?{live} ORDER BY {position} LIMIT ?"
            )
            until = scan.until if scan.until is not None else _NO_END
            found += self._rows(sql, (scan.space_id, scan.after, until, entity_type, limit))
        return [EntityRow._make(row) for row in sorted(found)[:limit]]

    def revoked(self, space_id: SpaceId, *, after: Seq, revoked_at: Seq, limit: int) -> list[Placed]:
        """Deletes of the entities that somebody who lost the space at `revoked_at` may have seen, by their creation.

        Those that were deleted before are among them: a reader who is behind was never told, as no row of a lost space
        is told any more. They tell when and by whom the space was taken, and nothing of what became of the entities
        since: version 0, the position of the revocation.
        """
        rows = self._rows(
            "SELECT e.created_seq, e.space_id, e.entity_type, e.entity_id, coalesce(c.modified_at, 0), "
            "coalesce(c.modified_by, '') FROM entities e LEFT JOIN changes c "
            "ON c.seq = ? AND c.space_id = e.space_id AND c.entity_type = 'member' WHERE e.space_id = ? "
            "AND e.created_seq > ? AND e.created_seq <= ? ORDER BY e.created_seq LIMIT ?",
            (revoked_at, space_id, after, revoked_at, limit),
        )
        return [
            Placed(row[0], Update._make((revoked_at, *row[1:4], 0, _DELETE, None, *row[4:], "", "revoked")))
            for row in rows
        ]

    def seq_before(self, moment: Millis) -> Seq:
        """The newest position whose changes were all committed before `moment`, by binary search over the log."""
        head = self.head()
        low, high = head.floor_seq, head.head_seq
        while low < high:
            middle = (low + high + 1) // 2
            row = self._row("SELECT modified_at FROM changes WHERE seq = ?", (middle,))
            if row is not None and row[0] < moment:
                low = Seq(middle)
            else:
                high = Seq(middle - 1)
        return low

    # --- entities --------------------------------------------------------------------------------------------------

    def entities(self, keys: Iterable[EntityKey]) -> dict[EntityKey, Entity]:
        rows = self._joined(
            "SELECT e.entity_type, e.entity_id, e.space_id, e.version, e.data, e.deleted, e.created_at, e.updated_at, "
            "e.modified_by, e.created_seq, e.seq FROM k CROSS JOIN entities e "
            "WHERE e.entity_type = k.a AND e.entity_id = k.b",
            keys,
        )
        return {entity.key: entity for entity in map(_entity, rows)}

    def revisions(self, since: Mapping[EntityKey, int]) -> dict[EntityKey, list[Revision]]:
        """Of each entity the revisions from this version on that the log still has, oldest first."""
        rows = self._joined(
            ", chain(seq, since) AS (SELECT e.seq, k.c FROM k CROSS JOIN entities e "
            "WHERE e.entity_type = k.a AND e.entity_id = k.b UNION ALL SELECT c.previous_seq, chain.since "
            "FROM chain CROSS JOIN changes c WHERE c.seq = chain.seq AND c.version > chain.since) "
            "SELECT c.entity_type, c.entity_id, c.version, c.operation_type, c.data, c.previous, c.submitted, "
            "c.timestamp, c.modified_at, c.modified_by, c.client_id FROM chain CROSS JOIN changes c "
            "WHERE c.seq = chain.seq AND c.version >= chain.since ORDER BY c.entity_type, c.entity_id, c.version",
            ((*key, version) for key, version in since.items()),
        )
        found: dict[EntityKey, list[Revision]] = {}
        for row in rows:
            found.setdefault(EntityKey(*row[:2]), []).append(_revision(row[2:]))
        return found

    def history(self, key: EntityKey, *, before_version: int | None, limit: int) -> list[Change]:
        """The entity's changes that the log still has, newest first. It walks down from the newest one."""
        before = before_version if before_version is not None else _NO_END
        rows = self._rows(
            "WITH RECURSIVE chain(seq, previous_seq, version, lowest) AS ("  # noqa: S608
            "SELECT c.seq, c.previous_seq, c.version, min(?, c.version + 1) - ? FROM entities e CROSS JOIN changes c "
            "WHERE e.entity_type = ? AND e.entity_id = ? AND c.seq = e.seq "
            "UNION ALL SELECT c.seq, c.previous_seq, c.version, chain.lowest FROM chain CROSS JOIN changes c "
            "WHERE c.seq = chain.previous_seq AND c.version >= chain.lowest) "
            f"SELECT {_joined_columns(Change)} FROM chain CROSS JOIN changes c "
            "WHERE chain.version < ? AND c.seq = chain.seq ORDER BY c.version DESC",
            (before, limit, *key, before),
        )
        return [_change(row) for row in rows]

    def changes_at(self, seqs: Iterable[int]) -> dict[Seq, Change]:
        rows = self._joined(
            f"SELECT {_joined_columns(Change)} FROM k CROSS JOIN changes c WHERE c.seq = k.a",  # noqa: S608
            ((seq,) for seq in seqs),
        )
        return {Seq(row[0]): _change(row) for row in rows}

    def children(self, keys: Iterable[EntityKey]) -> dict[EntityKey, list[EntityKey]]:
        rows = self._joined(
            "SELECT p.parent_type, p.parent_id, p.entity_type, p.entity_id FROM k CROSS JOIN parents p "
            "WHERE p.parent_type = k.a AND p.parent_id = k.b ORDER BY p.entity_type, p.entity_id",
            keys,
        )
        found: dict[EntityKey, list[EntityKey]] = {}
        for row in rows:
            found.setdefault(EntityKey(*row[:2]), []).append(EntityKey(*row[2:]))
        return found

    def ancestors(self, keys: Iterable[EntityKey], *, depth: int) -> list[EntityKey]:
        """These and the entities above them, through references within their own type: `depth` levels, or some more."""
        rows = self._joined(
            # level by level, as SQLite's queue is first in, first out
            ", up(entity_type, entity_id) AS (SELECT a, b FROM k UNION SELECT p.parent_type, p.parent_id FROM up "  # noqa: S608
            "CROSS JOIN parents p WHERE p.entity_type = up.entity_type AND p.entity_id = up.entity_id "
            f"AND p.parent_type = up.entity_type LIMIT {depth:d} * (SELECT count(*) FROM k)) "
            "SELECT entity_type, entity_id FROM up",
            keys,
        )
        return [EntityKey(*row) for row in rows]

    def claims(self, claims: Iterable[Claim]) -> dict[Claim, EntityId]:
        rows = self._joined(
            "SELECT u.entity_type, u.space_id, u.key, u.value, u.entity_id FROM k CROSS JOIN unique_values u "
            "WHERE u.entity_type = k.a AND u.space_id = k.b AND u.key = k.c AND u.value = k.d",
            claims,
        )
        return {Claim(*row[:4]): row[4] for row in rows}

    def live_versions(self, space_id: SpaceId) -> list[Row]:
        """(entity_type, entity_id, version) of every live entity of the space."""
        return self._rows(
            "SELECT entity_type, entity_id, version FROM entities WHERE space_id = ? AND deleted = 0", (space_id,)
        )

    # --- verdicts and syncs ----------------------------------------------------------------------------------------

    def decisions(self, keys: Iterable[DecisionKey]) -> dict[DecisionKey, Decision]:
        columns = ", ".join(f"o.{name}" for name in Decision._fields)
        rows = self._joined(
            f"SELECT {columns} FROM k CROSS JOIN operations o "  # noqa: S608
            "WHERE o.user_id = k.a AND o.client_id = k.b AND o.operation_id = k.c",
            keys,
        )
        return {decision.key: decision for decision in map(_decision, rows)}

    def decisions_named(self, user_id: UserId, operation_id: OperationId) -> list[Decision]:
        """The user's operations of this id, whichever client sent them."""
        columns = ", ".join(f"o.{name}" for name in Decision._fields)
        rows = self._rows(
            f"SELECT {columns} FROM clients c CROSS JOIN operations o WHERE c.user_id = ? "  # noqa: S608
            "AND o.user_id = c.user_id AND o.client_id = c.client_id AND o.operation_id = ?",
            (user_id, operation_id),
        )
        return [_decision(row) for row in rows]

    def unsuccessful(self, user_id: UserId, sync_id: SyncId) -> list[Decision]:
        """The operations of a sync that were rejected or are parked, with their bodies."""
        rows = self._rows(
            f"SELECT {DECISION_COLUMNS} FROM operations WHERE user_id = ? AND sync_id = ? AND body IS NOT NULL "  # noqa: S608
            "ORDER BY created_at",
            (user_id, sync_id),
        )
        return [_decision(row) for row in rows]

    def operations_page(self, wanted: OperationFilter, *, offset: int, limit: int) -> list[Decision]:
        where, parameters = _operation_filter(wanted)
        rows = self._rows(
            f"SELECT {DECISION_COLUMNS} FROM operations WHERE {where} "  # noqa: S608
            "ORDER BY created_at DESC, operation_id LIMIT ? OFFSET ?",
            (*parameters, limit, offset),
        )
        return [_decision(row) for row in rows]

    def operation_counts(self, wanted: OperationFilter) -> dict[Verdict, int]:
        where, parameters = _operation_filter(wanted)
        rows = self._rows(f"SELECT verdict, count(*) FROM operations WHERE {where} GROUP BY verdict", parameters)  # noqa: S608
        return {Verdict(verdict): count for verdict, count in rows}

    def syncs(self, keys: Iterable[SyncKey]) -> dict[SyncKey, SyncRecord]:
        columns = ", ".join(f"s.{name}" for name in SyncRecord._fields)
        rows = self._joined(
            f"SELECT {columns} FROM k CROSS JOIN syncs s "  # noqa: S608
            "WHERE s.user_id = k.a AND s.sync_id = k.b",
            keys,
        )
        return {record.key: record for record in map(_sync, rows)}

    def syncs_of(self, user_id: UserId, *, client_id: str | None, active: bool, limit: int) -> list[SyncRecord]:
        """The user's newest syncs; `active` ones still wait for their last batch."""
        client = " AND client_id = ?" if client_id is not None else ""
        parameters = (user_id, *((client_id,) if client_id is not None else ()), limit)
        rows = self._rows(
            f"SELECT {SYNC_COLUMNS} FROM syncs WHERE user_id = ? AND ended_at IS {'' if active else 'NOT '}NULL"  # noqa: S608
            f"{client} ORDER BY started_at DESC LIMIT ?",
            parameters,
        )
        return [_sync(row) for row in rows]

    def settled_count(self, user_id: UserId, sync_id: SyncId) -> int:
        """How many conflicts of the sync's operations are no longer open."""
        row = self._row(
            "SELECT count(*) FROM conflicts WHERE sync_id = ? AND user_id = ? AND is_open = 0", (sync_id, user_id)
        )
        return int(row[0])

    def has_open_conflicts(self, key: SyncKey) -> bool:
        sql = "SELECT 1 FROM conflicts WHERE user_id = ? AND sync_id = ? AND is_open = 1"
        return self._row(sql, key) is not None

    def client(self, user_id: UserId, client_id: str) -> ClientRecord | None:
        row = self._row(
            "SELECT user_id, client_id, device, cursor, last_sync_time FROM clients "
            "WHERE user_id = ? AND client_id = ?",
            (user_id, client_id),
        )
        return ClientRecord(row[0], row[1], orjson.loads(row[2]), row[3], row[4]) if row is not None else None

    # --- conflicts -------------------------------------------------------------------------------------------------

    def conflicts(self, conflict_ids: Iterable[ConflictId]) -> dict[ConflictId, Conflict]:
        columns = ", ".join(f"c.{name}" for name in Conflict._fields)
        rows = self._joined(
            f"SELECT {columns} FROM k CROSS JOIN conflicts c WHERE c.conflict_id = k.a",  # noqa: S608
            ((conflict_id,) for conflict_id in conflict_ids),
        )
        return {conflict.conflict_id: conflict for conflict in map(_conflict, rows)}

    def conflicts_page(
        self, space_ids: Sequence[SpaceId], *, is_open: bool | None, offset: int, limit: int
    ) -> tuple[list[Conflict], int]:
        """The spaces' newest conflicts, and how many there are."""
        marks = ", ".join("?" * len(space_ids))
        state = "" if is_open is None else f" AND is_open = {int(is_open)}"
        where = f"space_id IN ({marks}){state}"
        total = self._row(f"SELECT count(*) FROM conflicts WHERE {where}", tuple(space_ids))[0]  # noqa: S608
        rows = self._rows(
            f"SELECT {CONFLICT_COLUMNS} FROM conflicts WHERE {where} "  # noqa: S608
            "ORDER BY created_at DESC, conflict_id LIMIT ? OFFSET ?",
            (*space_ids, limit, offset),
        )
        return [_conflict(row) for row in rows], total

    # --- users and spaces ------------------------------------------------------------------------------------------

    def has_user(self, user_id: UserId) -> bool:
        return self._row("SELECT 1 FROM users WHERE user_id = ?", (user_id,)) is not None

    def roles(self, pairs: Iterable[tuple[SpaceId, UserId]]) -> dict[tuple[SpaceId, UserId], Role]:
        rows = self._joined(
            "SELECT m.space_id, m.user_id, m.role FROM k CROSS JOIN members m "
            "WHERE m.space_id = k.a AND m.user_id = k.b AND m.role IS NOT NULL",
            pairs,
        )
        return {(row[0], row[1]): Role(row[2]) for row in rows}

    def memberships(self, user_id: UserId) -> list[Membership]:
        """The user's places, the revoked ones too."""
        rows = self._rows("SELECT space_id, user_id, role, seq FROM members WHERE user_id = ?", (user_id,))
        return [_membership(row) for row in rows]

    def membership(self, space_id: SpaceId, user_id: UserId) -> Membership | None:
        """The user's place in the space, or what is left of a revoked one."""
        row = self._row(
            "SELECT space_id, user_id, role, seq FROM members WHERE space_id = ? AND user_id = ?", (space_id, user_id)
        )
        return _membership(row) if row is not None else None

    def member_count(self, space_id: SpaceId) -> int:
        row = self._row("SELECT count(*) FROM members WHERE space_id = ? AND role IS NOT NULL", (space_id,))
        return int(row[0])

    def has_other_owner(self, space_id: SpaceId, user_id: UserId) -> bool:
        """Whether somebody but this user owns the space."""
        sql = "SELECT 1 FROM members WHERE space_id = ? AND user_id != ? AND role = 'owner'"
        return self._row(sql, (space_id, user_id)) is not None

    def founded_count(self, user_id: UserId) -> int:
        """How many spaces the user made, their personal one too; those they have left count."""
        row = self._row(
            "SELECT count(*) FROM members m CROSS JOIN spaces s "
            "WHERE m.user_id = ? AND s.space_id = m.space_id AND s.owner = m.user_id",
            (user_id,),
        )
        return int(row[0])

    def members(self, space_id: SpaceId) -> list[Membership]:
        rows = self._rows(
            "SELECT space_id, user_id, role, seq FROM members WHERE space_id = ? AND role IS NOT NULL ORDER BY user_id",
            (space_id,),
        )
        return [_membership(row) for row in rows]

    def spaces(self, space_ids: Iterable[SpaceId]) -> dict[SpaceId, Space]:
        rows = self._joined(
            "SELECT s.space_id, s.name, s.owner, s.created_at FROM k CROSS JOIN spaces s WHERE s.space_id = k.a",
            ((space_id,) for space_id in space_ids),
        )
        return {SpaceId(row[0]): Space(*row) for row in rows}

    # --- statements ------------------------------------------------------------------------------------------------

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._cursor.execute(sql, parameters).fetchall()  # type: ignore[no-any-return]

    def _row(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        return self._cursor.execute(sql, parameters).fetchone()

    def _joined(self, select: str, keys: Iterable[Sequence[Any]]) -> list[Row]:
        """The rows of a select over `k(a, b, …)`, the keys as a table; nothing is asked where there are none."""
        wanted = list(keys)
        found: list[Row] = []
        for chunk in chunks(wanted):
            sql = _joined_sql(select, len(chunk[0]), len(chunk))
            found += self._rows(sql, tuple(chain.from_iterable(chunk)))
        return found


def chunks(rows: list[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    """The rows for one statement at a time: a power of two of them, so that there are few statements to prepare."""
    start = 0
    while start < len(rows):
        most = MAX_VARIABLES // len(rows[0])
        size = 1 << min(len(rows) - start, most).bit_length() - 1
        yield rows[start : start + size]
        start += size


@lru_cache(maxsize=512)
def marks(width: int, count: int) -> str:
    """The placeholders of `count` rows."""
    mark = f"({', '.join('?' * width)})"
    return ", ".join([mark] * count)


@lru_cache(maxsize=512)
def _joined_sql(select: str, width: int, count: int) -> str:
    comma = "" if select.startswith(",") else " "
    return f"WITH RECURSIVE k({', '.join('abcd'[:width])}) AS (VALUES {marks(width, count)}){comma}{select}"


def references_of(entity: Entity, spec: EntitySpec) -> list[tuple[str, EntityKey]]:
    """(field, parent) for each reference that the entity holds."""
    found = []
    for name, reference in spec.references.items():
        value = entity.data.get(name)
        if value is not None:
            found.append((name, EntityKey(EntityType(reference.entity_type), EntityId(str(value)))))
    return found


def _joined_columns(record: type[Change]) -> str:
    return ", ".join(f"c.{name}" for name in record._fields)


def _type_filter(entity_types: Sequence[str] | None, table: str = "") -> tuple[str, tuple[str, ...]]:
    if entity_types is None:
        return "", ()
    return f" AND {table}entity_type IN ({', '.join('?' * len(entity_types))})", tuple(entity_types)


def _operation_filter(wanted: OperationFilter) -> tuple[str, tuple[Any, ...]]:
    where = "user_id = ?"
    parameters: list[str] = [wanted.user_id]
    if wanted.client_id is not None:
        where += " AND client_id = ?"
        parameters.append(wanted.client_id)
    if wanted.entity_type is not None:
        where += " AND entity_type = ?"
        parameters.append(wanted.entity_type)
    if wanted.verdicts:
        where += f" AND verdict IN ({', '.join('?' * len(wanted.verdicts))})"
        parameters += [verdict.value for verdict in wanted.verdicts]
        if set(wanted.verdicts) <= {Verdict.REJECTED, Verdict.CONFLICT}:
            where += " AND body IS NOT NULL"
    return where, tuple(parameters)


def _update(row: Row) -> Update:
    return Update._make((*row[:6], None if row[5] == _DELETE else row[6], *row[7:], None))


def _state(row: Row, *, is_new: bool) -> Update:
    if row[5]:
        return Update._make((*row[:5], _DELETE, None, row[7], row[8], "", None))
    kind = OperationType.CREATE if is_new else OperationType.UPDATE
    return Update._make((*row[:5], kind.value, row[6], row[7], row[8], "", None))


def _entity(row: Row) -> Entity:
    return Entity._make((*row[:4], orjson.loads(row[4]), bool(row[5]), *row[6:]))


def _change(row: Row) -> Change:
    change = Change(*row)
    return change._replace(operation_type=OperationType(change.operation_type))


def _revision(row: Row) -> Revision:
    version, operation_type, data, previous, submitted, *rest = row
    parsed = orjson.loads(submitted) if submitted is not None else {}
    return Revision(version, OperationType(operation_type), orjson.loads(data), orjson.loads(previous), parsed, *rest)


def _decision(row: Row) -> Decision:
    decision = Decision(*row)
    return decision._replace(
        operation_type=OperationType(decision.operation_type),
        verdict=Verdict(decision.verdict),
        error_code=ErrorCode(decision.error_code) if decision.error_code is not None else None,
        details=orjson.loads(row[15]) if row[15] is not None else None,
    )


def _sync(row: Row) -> SyncRecord:
    record = SyncRecord(*row)
    return record._replace(status=SyncStatus(record.status), entity_types=tuple(orjson.loads(row[10])))


def _conflict(row: Row) -> Conflict:
    conflict = Conflict(*row)
    return conflict._replace(
        conflict_type=ConflictType(conflict.conflict_type),
        operation_type=OperationType(conflict.operation_type),
        fields=tuple(orjson.loads(conflict.fields)),  # type: ignore[arg-type]
        suggested_strategy=Strategy(conflict.suggested_strategy),
        base=orjson.loads(conflict.base),  # type: ignore[arg-type]
        server_data=orjson.loads(conflict.server_data),  # type: ignore[arg-type]
        client_data=orjson.loads(conflict.client_data),  # type: ignore[arg-type]
        is_open=bool(conflict.is_open),
        strategy=Strategy(conflict.strategy) if conflict.strategy is not None else None,
        resolved_data=orjson.loads(row[-3]) if row[-3] is not None else None,
    )


def _membership(row: Row) -> Membership:
    return Membership(row[0], row[1], Role(row[2]) if row[2] is not None else None, row[3])
