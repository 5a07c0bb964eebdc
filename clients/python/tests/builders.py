"""Values for tests, with what does not matter filled in."""

from typing import Any

import msgspec
from sync_client.frames import Result, Results, Update
from sync_client.values import Conflict, Key, Operation, OperationType, Problem, Row, Side

AT = "2026-01-02T03:04:05Z"


def key(entity_id: str = "a", entity_type: str = "note") -> Key:
    return Key(entity_type, entity_id)


def row(
    entity_id: str = "a", version: int = 1, *, space_id: str | None = "u-1", stale: bool = False, **data: Any
) -> Row:
    text = msgspec.json.encode({"id": entity_id, **data}).decode()
    return Row(key(entity_id), space_id, version, text, AT, "1", stale)


def tombstone(entity_id: str = "a", version: int = 2) -> Row:
    return row(entity_id, version)._replace(data=None)


def told(entity_id: str = "a", version: int = 1, **data: Any) -> Update:
    return Update(row(entity_id, version, **data), begins=version == 1)


def operation(operation_id: str, kind: OperationType, entity_id: str = "a", **members: Any) -> Operation:
    return Operation(
        operation_id=operation_id,
        operation_type=kind,
        entity_type=members.pop("entity_type", "note"),
        entity_id=entity_id,
        timestamp=AT,
        **members,
    )


def create(operation_id: str, entity_id: str = "a", *, group: str | None = None, **fields: Any) -> Operation:
    return operation(operation_id, OperationType.CREATE, entity_id, fields=fields, group=group)


def update(operation_id: str, entity_id: str = "a", *, before_version: int = 1, **fields: Any) -> Operation:
    return operation(operation_id, OperationType.UPDATE, entity_id, fields=fields, before_version=before_version)


def delete(operation_id: str, entity_id: str = "a", *, before_version: int = 1) -> Operation:
    return operation(operation_id, OperationType.DELETE, entity_id, before_version=before_version)


def applied(done: Operation, version: int, data: dict[str, Any] | None, *, has_data: bool = True) -> Result:
    text = msgspec.json.encode({"id": done.entity_id, **data}).decode() if data is not None else None
    return Result(
        done.operation_id, done.operation_type, True, "applied", done.key, version, has_data, text, None, None
    )


def refused(done: Operation, code: str = "VALIDATION_ERROR") -> Result:
    problem = Problem(error="The field title is too long.", error_code=code, details={"field": "title"})
    return Result(done.operation_id, done.operation_type, False, "rejected", done.key, None, False, None, None, problem)


def parked(done: Operation, conflict_id: str = "c1", *, version: int = 2, **data: Any) -> Result:
    text = msgspec.json.encode({"id": done.entity_id, **data}).decode()
    return Result(
        done.operation_id, done.operation_type, False, "conflict", done.key, version, True, text, conflict_id, None
    )


def reply(*results: Result, **members: Any) -> Results:
    given: dict[str, Any] = {
        "message_id": "m", "updates": [], "conflicts": [], "resets": [], "synced_at": AT, "has_more": False, **members,
    }  # fmt: skip
    return Results(results=list(results), **given)


def conflict(conflict_id: str = "c1", entity_id: str = "a", **members: Any) -> Conflict:
    given: dict[str, Any] = {
        "conflict_type": "content", "operation_id": "o1", "fields": ["title"], "base": {"title": "base"},
        "mine": Side(version=1, data={"title": "mine"}), "theirs": Side(version=2, data={"title": "theirs"}),
        "whole": {"title": "theirs"}, "rule": "manual", "since": AT, **members,
    }  # fmt: skip
    return Conflict(conflict_id=conflict_id, entity_type="note", entity_id=entity_id, **given)
