"""What can be asked of the database: set-based queries within one snapshot."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from sync_server.conflict.model import Claim, Revision
from sync_server.records import (
    Change,
    ClientRecord,
    Conflict,
    Decision,
    DecisionKey,
    Entity,
    EntityKey,
    Membership,
    Receipt,
    Space,
    Step,
    SyncKey,
    SyncRecord,
)
from sync_server.stores.log_reader import LogReader
from sync_server.stores.rows import (
    CLIENT_COLUMNS,
    CONFLICT_COLUMNS,
    DECISION_COLUMNS,
    RECEIPT_COLUMNS,
    SYNC_COLUMNS,
    change_from,
    client_from,
    columns_of,
    conflict_from,
    decision_from,
    entity_from,
    membership_from,
    receipt_from,
    revision_from,
    step_from,
    sync_from,
)
from sync_server.stores.statements import NO_END, Row
from sync_server.types import (
    ConflictId,
    EntityId,
    OperationId,
    Role,
    Seq,
    SpaceId,
    SyncId,
    UserId,
    Verdict,
)


class OperationFilter(NamedTuple):
    user_id: UserId
    client_id: str | None = None
    entity_type: str | None = None
    verdicts: tuple[Verdict, ...] = ()


class Reader(LogReader):
    """Queries of one transaction. Every method is one statement, or one for each chunk of keys."""

    # --- entities --------------------------------------------------------------------------------------------------

    def entities(self, keys: Iterable[EntityKey]) -> dict[EntityKey, Entity]:
        rows = self._joined(
            f"SELECT {columns_of(Entity, 'e')} FROM k CROSS JOIN entities e "  # noqa: S608
            "WHERE e.entity_type = k.a AND e.entity_id = k.b",
            keys,
        )
        return {entity.key: entity for entity in map(entity_from, rows)}

    def revisions(self, since: Mapping[EntityKey, int]) -> dict[EntityKey, list[Revision]]:
        """Of each entity the revisions from this version on that the log still has, oldest first."""
        rows = self._joined(
            ", chain(seq, since) AS (SELECT e.seq, k.c FROM k CROSS JOIN entities e "
            "WHERE e.entity_type = k.a AND e.entity_id = k.b UNION ALL SELECT c.previous_seq, chain.since "
            "FROM chain CROSS JOIN changes c WHERE c.seq = chain.seq AND c.version > chain.since) "
            "SELECT c.entity_type, c.entity_id, c.version, c.operation_type, c.data, c.previous, c.submitted, "
            "c.timestamp, c.modified_at, c.modified_by, c.client_id, c.rule, coalesce(c.after_version, c.version - 1) "
            "FROM chain CROSS JOIN changes c WHERE c.seq = chain.seq AND c.version >= chain.since "
            "ORDER BY c.entity_type, c.entity_id, c.version",
            ((*key, version) for key, version in since.items()),
        )
        found: dict[EntityKey, list[Revision]] = {}
        for row in rows:
            found.setdefault(EntityKey(*row[:2]), []).append(revision_from(row[2:]))
        return found

    def history(self, key: EntityKey, *, before_version: int | None, limit: int) -> list[Change]:
        """The entity's changes that the log still has, newest first. It walks down from the newest one."""
        before = before_version if before_version is not None else NO_END
        rows = self._rows(
            "WITH RECURSIVE chain(seq, previous_seq, version, found) AS ("  # noqa: S608
            "SELECT c.seq, c.previous_seq, c.version, c.version < ? FROM entities e CROSS JOIN changes c "
            "WHERE e.entity_type = ? AND e.entity_id = ? AND c.seq = e.seq "
            "UNION ALL SELECT c.seq, c.previous_seq, c.version, chain.found + (c.version < ?) "
            "FROM chain CROSS JOIN changes c WHERE c.seq = chain.previous_seq AND chain.found < ?) "
            f"SELECT {columns_of(Change, 'c')} FROM chain CROSS JOIN changes c "
            "WHERE chain.version < ? AND c.seq = chain.seq ORDER BY c.version DESC",
            (before, *key, before, limit, before),
        )
        return [change_from(row) for row in rows]

    def steps(self, seq: Seq, *, above: int, limit: int) -> list[Step]:
        """The change at a position and the entity's before it, down to a version above this, newest first."""
        rows = self._rows(
            "WITH RECURSIVE chain(seq, place) AS (SELECT ?, 1 UNION ALL SELECT c.previous_seq, chain.place + 1 "
            "FROM chain CROSS JOIN changes c "
            "WHERE c.seq = chain.seq AND coalesce(c.after_version, c.version - 1) > ? AND chain.place < ?) "
            "SELECT c.version, coalesce(c.after_version, c.version - 1), c.seq, c.operation_type, "
            "(SELECT json_group_array(p.key) FROM json_each(c.previous) p), "
            "c.rule, c.modified_at, c.modified_by, c.client_id, c.operation_id, "
            "(SELECT json_group_array(s.key) FROM json_each(c.submitted) s) FROM chain CROSS JOIN changes c "
            "WHERE c.seq = chain.seq AND c.version > ? ORDER BY c.version DESC",
            (seq, above, limit, above),
        )
        return [step_from(row) for row in rows]

    def changes_at(self, seqs: Iterable[int]) -> dict[Seq, Change]:
        rows = self._joined(
            f"SELECT {columns_of(Change, 'c')} FROM k CROSS JOIN changes c WHERE c.seq = k.a",  # noqa: S608
            ((seq,) for seq in seqs),
        )
        return {Seq(row[0]): change_from(row) for row in rows}

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

    def receipts(self, space_ids: Iterable[SpaceId]) -> dict[SpaceId, Receipt]:
        """What is stored of the spaces' live entities; spaces that are not there are left out."""
        rows = self._joined(
            f"SELECT {RECEIPT_COLUMNS} FROM k CROSS JOIN spaces s WHERE s.space_id = k.a",  # noqa: S608
            ((space_id,) for space_id in space_ids),
        )
        return {receipt.space_id: receipt for receipt in map(receipt_from, rows)}

    # --- verdicts and syncs ----------------------------------------------------------------------------------------

    def decisions(self, keys: Iterable[DecisionKey]) -> dict[DecisionKey, Decision]:
        columns = columns_of(Decision, "o")
        rows = self._joined(
            f"SELECT {columns} FROM k CROSS JOIN operations o "  # noqa: S608
            "WHERE o.user_id = k.a AND o.client_id = k.b AND o.operation_id = k.c",
            keys,
        )
        return {decision.key: decision for decision in map(decision_from, rows)}

    def decisions_named(self, user_id: UserId, operation_id: OperationId) -> list[Decision]:
        """The user's operations of this id, whichever client sent them."""
        columns = columns_of(Decision, "o")
        rows = self._rows(
            f"SELECT {columns} FROM clients c CROSS JOIN operations o WHERE c.user_id = ? "  # noqa: S608
            "AND o.user_id = c.user_id AND o.client_id = c.client_id AND o.operation_id = ?",
            (user_id, operation_id),
        )
        return [decision_from(row) for row in rows]

    def operations_named(
        self, operation_id: OperationId, *, user_id: str | None, client_id: str | None, limit: int
    ) -> list[Decision]:
        """The operations of this id, whoever sent them: without a user, a look through all verdicts."""
        where, parameters = "operation_id = ?", [str(operation_id)]
        for column, value in (("user_id", user_id), ("client_id", client_id)):
            if value is not None:
                where += f" AND {column} = ?"
                parameters.append(value)
        rows = self._rows(
            f"SELECT {DECISION_COLUMNS} FROM operations WHERE {where} ORDER BY user_id, client_id LIMIT ?",  # noqa: S608
            (*parameters, limit),
        )
        return [decision_from(row) for row in rows]

    def unsuccessful(self, user_id: UserId, sync_id: SyncId) -> list[Decision]:
        """The operations of a sync that were rejected or are parked, with their bodies."""
        rows = self._rows(
            f"SELECT {DECISION_COLUMNS} FROM operations WHERE user_id = ? AND sync_id = ? AND body IS NOT NULL "  # noqa: S608
            "ORDER BY created_at, place",
            (user_id, sync_id),
        )
        return [decision_from(row) for row in rows]

    def operations_page(self, wanted: OperationFilter, *, offset: int, limit: int) -> list[Decision]:
        where, parameters = _operation_filter(wanted)
        rows = self._rows(
            f"SELECT {DECISION_COLUMNS} FROM operations WHERE {where} "  # noqa: S608
            "ORDER BY created_at DESC, operation_id LIMIT ? OFFSET ?",
            (*parameters, limit, offset),
        )
        return [decision_from(row) for row in rows]

    def operation_counts(self, wanted: OperationFilter) -> dict[Verdict, int]:
        where, parameters = _operation_filter(wanted)
        rows = self._rows(f"SELECT verdict, count(*) FROM operations WHERE {where} GROUP BY verdict", parameters)  # noqa: S608
        return {Verdict(verdict): count for verdict, count in rows}

    def syncs(self, keys: Iterable[SyncKey]) -> dict[SyncKey, SyncRecord]:
        columns = columns_of(SyncRecord, "s")
        rows = self._joined(
            f"SELECT {columns} FROM k CROSS JOIN syncs s "  # noqa: S608
            "WHERE s.user_id = k.a AND s.sync_id = k.b",
            keys,
        )
        return {record.key: record for record in map(sync_from, rows)}

    def syncs_of(self, user_id: UserId, *, client_id: str | None, active: bool, limit: int) -> list[SyncRecord]:
        """The user's newest syncs; `active` ones still wait for their last batch."""
        client = " AND client_id = ?" if client_id is not None else ""
        parameters = (user_id, *((client_id,) if client_id is not None else ()), limit)
        rows = self._rows(
            f"SELECT {SYNC_COLUMNS} FROM syncs WHERE user_id = ? AND ended_at IS {'' if active else 'NOT '}NULL"  # noqa: S608
            f"{client} ORDER BY started_at DESC LIMIT ?",
            parameters,
        )
        return [sync_from(row) for row in rows]

    def settled_count(self, user_id: UserId, sync_id: SyncId) -> int:
        """How many conflicts of the sync's operations are no longer open."""
        row = self._row(
            "SELECT count(*) FROM conflicts WHERE sync_id = ? AND user_id = ? AND is_open = 0", (sync_id, user_id)
        )
        return int(row[0])

    def has_open_conflicts(self, key: SyncKey) -> bool:
        sql = "SELECT 1 FROM conflicts WHERE user_id = ? AND sync_id = ? AND is_open = 1"
        return self._row(sql, key) is not None

    def clients_named(self, client_id: str, *, limit: int) -> list[ClientRecord]:
        """The clients of this id, whosever they are."""
        rows = self._rows(
            f"SELECT {CLIENT_COLUMNS} FROM clients WHERE client_id = ? ORDER BY user_id LIMIT ?",  # noqa: S608
            (client_id, limit),
        )
        return [client_from(row) for row in rows]

    def client(self, user_id: UserId, client_id: str) -> ClientRecord | None:
        row = self._row(
            f"SELECT {CLIENT_COLUMNS} FROM clients WHERE user_id = ? AND client_id = ?",  # noqa: S608
            (user_id, client_id),
        )
        return client_from(row) if row is not None else None

    # --- conflicts -------------------------------------------------------------------------------------------------

    def conflicts(self, conflict_ids: Iterable[ConflictId]) -> dict[ConflictId, Conflict]:
        columns = columns_of(Conflict, "c")
        rows = self._joined(
            f"SELECT {columns} FROM k CROSS JOIN conflicts c WHERE c.conflict_id = k.a",  # noqa: S608
            ((conflict_id,) for conflict_id in conflict_ids),
        )
        return {conflict.conflict_id: conflict for conflict in map(conflict_from, rows)}

    def conflicts_of(self, first: Conflict) -> list[Conflict]:
        """Every conflict that one operation met, found by one of them, which comes first."""
        rows = self._rows(
            f"SELECT {CONFLICT_COLUMNS} FROM conflicts WHERE space_id = ? AND created_at = ? AND operation_id = ? "  # noqa: S608
            "AND user_id = ? AND client_id = ? ORDER BY conflict_id != ?, conflict_id",
            (first.space_id, first.created_at, first.operation_id, first.user_id, first.client_id, first.conflict_id),
        )
        return [conflict_from(row) for row in rows]

    def conflicts_page(
        self, space_ids: Sequence[SpaceId], *, is_open: bool | None, offset: int, limit: int
    ) -> tuple[list[Conflict], int]:
        """The spaces' newest conflicts, and how many there are."""
        state = "" if is_open is None else f" AND is_open = {int(is_open)}"
        where = f"space_id IN (SELECT value FROM json_each(?)){state}"  # noqa: S608
        spaces = orjson.dumps(space_ids).decode()
        total = self._row(f"SELECT count(*) FROM conflicts WHERE {where}", (spaces,))[0]  # noqa: S608
        rows = self._rows(
            f"SELECT {CONFLICT_COLUMNS} FROM conflicts WHERE {where} "  # noqa: S608
            "ORDER BY created_at DESC, conflict_id LIMIT ? OFFSET ?",
            (spaces, limit, offset),
        )
        return [conflict_from(row) for row in rows], total

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
        return [membership_from(row) for row in rows]

    def membership(self, space_id: SpaceId, user_id: UserId) -> Membership | None:
        """The user's place in the space, or what is left of a revoked one."""
        row = self._row(
            "SELECT space_id, user_id, role, seq FROM members WHERE space_id = ? AND user_id = ?", (space_id, user_id)
        )
        return membership_from(row) if row is not None else None

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
        return [membership_from(row) for row in rows]

    def spaces(self, space_ids: Iterable[SpaceId]) -> dict[SpaceId, Space]:
        rows = self._joined(
            "SELECT s.space_id, s.name, s.owner, s.created_at FROM k CROSS JOIN spaces s WHERE s.space_id = k.a",
            ((space_id,) for space_id in space_ids),
        )
        return {SpaceId(row[0]): Space(*row) for row in rows}


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
