"""What can be asked of the log and of the entities in its order: the pages of the feed."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from sync_server.records import EntityKey, Head, Update
from sync_server.stores.rows import state_from, update_from
from sync_server.stores.statements import Row, Statements
from sync_server.types import EntityId, Millis, OperationType, Seq, SpaceId

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


class SpaceScan(NamedTuple):
    """One space of a feed query: rows with a seq above `after`."""

    space_id: SpaceId
    after: Seq


class EntityScan(NamedTuple):
    """The entities of a space that were created, or else last changed, after a position and up to `until`."""

    space_id: SpaceId
    after: Seq
    until: Seq
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


class LogReader(Statements):
    """Queries of the log. Every method is one statement, or one per space."""

    def head(self) -> Head:
        return Head(*self._row("SELECT epoch, head_seq, floor_seq, version_floor FROM log WHERE log_id = 1"))

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
        return [update_from(row) for row in rows]

    def snapshot(
        self, scans: Iterable[SpaceScan], *, until: Seq, entity_types: Sequence[str] | None, limit: int
    ) -> list[Placed]:
        """The live entities created after each space's position and not changed after `until`, by their creation."""
        where, parameters = _type_filter(entity_types, "e.")
        sql = (
            f"SELECT e.created_seq, {_STATE_COLUMNS} {_BY_CREATION} AND e.seq <= ? AND e.deleted = 0{where} "
            "ORDER BY e.created_seq LIMIT ?"
        )
        found = (self._rows(sql, (scan.space_id, scan.after, until, *parameters, limit)) for scan in scans)
        rows = sorted(chain.from_iterable(found))[:limit]
        return [Placed(row[0], state_from(row[1:], is_new=True)) for row in rows]

    def newest(
        self, scans: Iterable[SpaceScan], *, until: Seq, entity_types: Sequence[str] | None, limit: int
    ) -> list[Update]:
        """The newest state of each entity last changed after its space's position, up to `until`, in seq order.

        Reads every row of the log in between, also of those that changed again: bound what `until` lets it read.
        """
        where, parameters = _type_filter(entity_types, "c.")
        sql = f"SELECT {_STATE_COLUMNS} {_BY_CHANGE} AND c.seq <= ?{where} ORDER BY c.seq LIMIT ?"
        found = [
            (row, row[9] > scan.after)
            for scan in scans
            for row in self._rows(sql, (scan.space_id, scan.after, until, *parameters, limit))
        ]
        found.sort()
        return [state_from(row, is_new=is_new) for row, is_new in found[:limit]]

    def states(self, keys: Iterable[EntityKey]) -> list[Update]:
        """The live ones of these entities as a snapshot tells them, in no order."""
        rows = self._joined(
            f"SELECT {_STATE_COLUMNS} FROM k CROSS JOIN entities e "  # noqa: S608
            "WHERE e.entity_type = k.a AND e.entity_id = k.b AND e.deleted = 0",
            keys,
        )
        return [state_from(row, is_new=True) for row in rows]

    def entity_rows(
        self, scans: Iterable[EntityScan], entity_type: str, *, live_only: bool, limit: int
    ) -> list[EntityRow]:
        """The type's entities of these scans, in the order of their positions; one may be in several."""
        live = " AND e.deleted = 0" if live_only else ""
        found: list[Row] = []
        for scan in scans:
            table, column, source = ("e", "created_seq", _BY_CREATION) if scan.by_creation else ("c", "seq", _BY_CHANGE)
            position = f"{table}.{column}"
            sql = (
                f"SELECT {position}, e.space_id, e.entity_id, e.version, e.data, e.deleted, e.created_at, "
                f"e.updated_at {source} AND {position} <= ? AND {table}.entity_type = ?{live} "
                f"ORDER BY {position} LIMIT ?"
            )
            found += self._rows(sql, (scan.space_id, scan.after, scan.until, entity_type, limit))
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


def _type_filter(entity_types: Sequence[str] | None, table: str = "") -> tuple[str, tuple[str, ...]]:
    if entity_types is None:
        return "", ()
    return f" AND {table}entity_type IN ({', '.join('?' * len(entity_types))})", tuple(entity_types)
