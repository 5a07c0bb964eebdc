"""Rows of the tables as records: their columns, in the order of the record's fields, and how each is read."""

from functools import lru_cache
from typing import Any

import orjson

from sync_server.conflict.model import Revision, Rule
from sync_server.errors import ErrorCode
from sync_server.records import (
    Change,
    ClientRecord,
    Conflict,
    Decision,
    Entity,
    Filter,
    Followed,
    Membership,
    Receipt,
    Step,
    SyncRecord,
    Update,
)
from sync_server.stores.statements import Row
from sync_server.types import (
    ConflictType,
    OperationType,
    Role,
    Strategy,
    StrategySource,
    SyncStatus,
    Verdict,
)


@lru_cache
def columns_of(record: type[Any], table: str = "") -> str:
    """The names of a record's columns, in its order; with `table`, as that table's."""
    return ", ".join(f"{table}.{name}" if table else name for name in record._fields)


ENTITY_COLUMNS = columns_of(Entity)
CHANGE_COLUMNS = columns_of(Change)
CONFLICT_COLUMNS = columns_of(Conflict)
DECISION_COLUMNS = columns_of(Decision)
SYNC_COLUMNS = columns_of(SyncRecord)
RECEIPT_COLUMNS = "space_id, changed_seq, checksum, live_count"
CLIENT_COLUMNS = columns_of(ClientRecord)
_DELETE = OperationType.DELETE.value
_SIGN = 2**63
"""Databases have 64 bits with a sign, checksums 64 without one."""


def update_from(row: Row) -> Update:
    return Update._make((*row[:6], None if row[5] == _DELETE else row[6], *row[7:], None))


def state_from(row: Row, *, is_new: bool) -> Update:
    if row[5]:
        return Update._make((*row[:5], _DELETE, None, row[7], row[8], "", None))
    kind = OperationType.CREATE if is_new else OperationType.UPDATE
    return Update._make((*row[:5], kind.value, row[6], row[7], row[8], "", None))


def entity_from(row: Row) -> Entity:
    return Entity._make((*row[:4], orjson.loads(row[4]), bool(row[5]), *row[6:]))


def change_from(row: Row) -> Change:
    change = Change(*row)
    return change._replace(operation_type=OperationType(change.operation_type))


def step_from(row: Row) -> Step:
    version, after, seq, operation_type, fields, *rest, submitted = row
    step = Step(version, after, seq, OperationType(operation_type), tuple(orjson.loads(fields)), *rest)
    return step._replace(submitted=tuple(orjson.loads(submitted)))


def revision_from(row: Row) -> Revision:
    version, operation_type, data, previous, submitted, timestamp, modified_at, user_id, client_id, rule, after = row
    return Revision(
        version,
        OperationType(operation_type),
        orjson.loads(data),
        orjson.loads(previous),
        orjson.loads(submitted) if submitted is not None else {},
        timestamp,
        modified_at,
        user_id,
        client_id,
        Rule(rule),
        after,
    )


def decision_from(row: Row) -> Decision:
    decision = Decision(*row)
    return decision._replace(
        operation_type=OperationType(decision.operation_type),
        verdict=Verdict(decision.verdict),
        error_code=ErrorCode(decision.error_code) if decision.error_code is not None else None,
        details=orjson.loads(row[15]) if row[15] is not None else None,
        strategy=Strategy(decision.strategy) if decision.strategy is not None else None,
        strategy_source=StrategySource(decision.strategy_source) if decision.strategy_source is not None else None,
        sent=tuple(orjson.loads(row[-1])) if row[-1] is not None else None,
    )


def sync_from(row: Row) -> SyncRecord:
    record = SyncRecord(*row)
    return record._replace(status=SyncStatus(record.status), entity_types=tuple(orjson.loads(row[10])))


def conflict_from(row: Row) -> Conflict:
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


def client_from(row: Row) -> ClientRecord:
    user_id, client_id, device, cursor, last_sync_time, asked, followed = row
    return ClientRecord(
        user_id,
        client_id,
        orjson.loads(device),
        cursor,
        last_sync_time,
        _filter_from(orjson.loads(asked)) if asked is not None else None,
        _followed_from(orjson.loads(followed)) if followed is not None else None,
    )


def _followed_from(parsed: list[Any]) -> Followed:
    return Followed(_filter_from(parsed[0]), *parsed[1:])


def _filter_from(parsed: list[Any]) -> Filter:
    return Filter(*(tuple(names) if names is not None else None for names in parsed))


def membership_from(row: Row) -> Membership:
    return Membership(row[0], row[1], Role(row[2]) if row[2] is not None else None, row[3])


def receipt_from(row: Row) -> Receipt:
    space_id, changed_seq, stored, count = row
    return Receipt(space_id, changed_seq, stored % (2 * _SIGN), count)


def stored_checksum(checksum: int) -> int:
    """The checksum as a number that a database holds.

    >>> stored_checksum(1), stored_checksum(2**64 - 1)
    (1, -1)
    """
    return (checksum ^ _SIGN) - _SIGN
