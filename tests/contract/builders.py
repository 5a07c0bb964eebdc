"""Rows of every kind to put into a store, and short ways to put them there."""

from typing import Any

from sync_server.errors import ErrorCode
from sync_server.records import (
    Change,
    Conflict,
    Decision,
    Entity,
    EntityKey,
    SyncKey,
    SyncRecord,
)
from sync_server.stores.sql import Store
from sync_server.stores.writer import Writer, dump
from sync_server.types import ConflictType, OperationType, Strategy, SyncStatus, Verdict

HOME = "u-1"
NOTE = "note"


def entity(entity_id: str, *, space_id: str = HOME, version: int = 1, seq: int = 1, **changes: Any) -> Entity:
    columns: dict[str, Any] = {
        "entity_type": NOTE, "entity_id": entity_id, "space_id": space_id, "version": version,
        "data": {"title": entity_id}, "deleted": False, "created_at": 10, "updated_at": 20, "modified_by": "1",
        "created_seq": seq, "seq": seq,
    }  # fmt: skip
    return Entity(**{**columns, **changes})


def change(seq: int, entity_id: str, *, version: int = 1, **changes: Any) -> Change:
    columns: dict[str, Any] = {
        "seq": seq, "space_id": HOME, "entity_type": NOTE, "entity_id": entity_id, "version": version,
        "operation_type": OperationType.CREATE if version == 1 else OperationType.UPDATE,
        "data": dump({"title": f"{entity_id} v{version}"}), "previous": dump({"title": ["before"]}),
        "submitted": None, "rule": "created", "timestamp": 5, "modified_at": seq * 100, "modified_by": "1",
        "client_id": "desktop", "operation_id": f"op_{seq}", "after_version": None, "previous_seq": 0,
    }  # fmt: skip
    return Change(**{**columns, **changes})


def decision(operation_id: str, **changes: Any) -> Decision:
    columns: dict[str, Any] = {
        "user_id": "1", "client_id": "desktop", "operation_id": operation_id, "body_hash": b"hash", "sync_id": "sync",
        "operation_type": OperationType.CREATE, "entity_type": NOTE, "entity_id": "a", "verdict": Verdict.APPLIED,
        "rule": "created", "version": 1, "seq": 1, "conflict_id": None, "error_code": None, "error": None,
        "details": None, "body": None, "retry_count": 0, "created_at": 1_000,
    }  # fmt: skip
    return Decision(**{**columns, **changes})


def rejected(operation_id: str, **changes: Any) -> Decision:
    return decision(
        operation_id, verdict=Verdict.REJECTED, error_code=ErrorCode.VALIDATION_ERROR, error="No.",
        details={"field": "title"}, body='{"title":1}', version=None, seq=None, **changes,
    )  # fmt: skip


def conflict(conflict_id: str, **changes: Any) -> Conflict:
    columns: dict[str, Any] = {
        "conflict_id": conflict_id, "conflict_type": ConflictType.CONTENT, "space_id": HOME, "entity_type": NOTE,
        "entity_id": "a", "operation_id": "op", "operation_type": OperationType.UPDATE, "user_id": "1",
        "client_id": "desktop", "sync_id": "sync", "fields": ("title",), "rule": "manual",
        "suggested_strategy": Strategy.MERGE, "base": {"title": "base"}, "server_version": 2,
        "server_data": {"title": "server"}, "server_modified_at": 3, "server_modified_by": "2", "client_version": 1,
        "client_data": {"title": "client"}, "client_modified_at": 4, "created_at": 5, "is_open": True,
        "strategy": None, "resolved_data": None, "resolved_at": None, "resolved_by": None,
    }  # fmt: skip
    return Conflict(**{**columns, **changes})


def sync_record(sync_id: str, **changes: Any) -> SyncRecord:
    columns: dict[str, Any] = {
        "sync_id": sync_id, "user_id": "1", "client_id": "desktop", "status": SyncStatus.SUCCESS, "started_at": 100,
        "ended_at": 200, "total_operations": 3, "successful_operations": 2, "failed_operations": 1,
        "conflicts_count": 0, "entity_types": ("note", "folder"), "error": None,
    }  # fmt: skip
    return SyncRecord(**{**columns, **changes})


def sync_keys(*sync_ids: str) -> list[SyncKey]:
    return [SyncKey("1", sync_id) for sync_id in sync_ids]


def append(writer: Writer, *changes: Change) -> list[int]:
    """Put changes at the end of the log, with the numbers it gives them; returns those."""
    if not changes:
        return []
    first = writer.take_numbers(len(changes))
    numbered = [change._replace(seq=first + index) for index, change in enumerate(changes)]
    writer.save_changes(numbered)
    return [change.seq for change in numbered]


def save(writer: Writer, *entities: Entity) -> None:
    writer.save_entities(entity._replace(data=dump(entity.data)) for entity in entities)  # type: ignore[arg-type]


def save_decisions(writer: Writer, *decisions: Decision) -> None:
    writer.save_decisions((decision, decision.seq) for decision in decisions)


def commit(writer: Writer, *changes: Change) -> None:
    """Append changes, each after the one before of its entity, and make the entities what the last ones say."""
    last: dict[EntityKey, int] = {}
    for written in changes:
        (last[written.key],) = append(writer, written._replace(previous_seq=last.get(written.key, 0)))
    save(writer, *(entity(key.entity_id, seq=seq, created_seq=1) for key, seq in last.items()))


def break_off(store: Store, *changes: Change) -> None:
    """Write something, then raise."""
    with store.write() as writer:
        save(writer, entity("a"))
        append(writer, *changes)
        raise ZeroDivisionError
