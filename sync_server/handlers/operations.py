"""Operations of a request become orders for the committer: fields checked, bodies hashed, each one alone."""

import hashlib
from typing import NamedTuple

import orjson
from pydantic import ValidationError

from schema.entity import EntitySpec
from schema.registry import Registry
from sync_server.conflict.model import Refusal
from sync_server.errors import CommandError
from sync_server.orders import Order
from sync_server.protocol.messages import Operation, Ref
from sync_server.protocol.validation import first_problem, validation_error
from sync_server.types import (
    ConflictId,
    EntityId,
    EntityType,
    Json,
    Millis,
    OperationId,
    OperationType,
    SpaceId,
    Strategy,
    parse_id,
    parse_time,
)

_MEANING = (
    "operation_type", "entity_type", "entity_id", "data", "changes", "before_version", "space_id",
    "resolution_strategy", "conflict_id", "strategy", "resolved_data",
)  # fmt: skip
"""What the body hash covers: what the operation means, not when it was sent."""


class Defaults(NamedTuple):
    """What an operation takes from its request."""

    strategy: Strategy | None
    now: Millis


def order_of(operation: Operation, raw: Json, registry: Registry, defaults: Defaults) -> Order:
    """The order for one well-formed operation; one that cannot be done carries its refusal, its verdict to be."""
    spec = registry.get(EntityType(operation.entity_type)) if operation.entity_type is not None else None
    reference = operation.entity_id.ref if isinstance(operation.entity_id, Ref) else None
    order = Order(
        operation_id=OperationId(operation.operation_id),
        operation_type=operation.operation_type,
        entity_type=spec.entity_type if spec is not None else None,
        entity_id=_entity_id(operation),
        entity_ref=OperationId(reference) if reference is not None else None,
        space_id=SpaceId(operation.space_id) if operation.space_id is not None else None,
        fields={},
        before_version=operation.before_version,
        strategy=_strategy(operation, defaults),
        timestamp=defaults.now,
        conflict_id=ConflictId(operation.conflict_id) if operation.conflict_id is not None else None,
        resolved_data=operation.resolved_data,
        body_hash=_hash(raw),
        raw=raw,
    )
    try:
        return _checked(order, operation, spec, defaults)
    except CommandError as error:
        return order._replace(refusal=Refusal(error.code, error.message, error.details))


def _checked(order: Order, operation: Operation, spec: EntitySpec | None, defaults: Defaults) -> Order:
    if operation.operation_type is not OperationType.RESOLVE and spec is None:
        raise validation_error("entity_type", "is no entity type of this server")
    if operation.operation_type is OperationType.CREATE and order.entity_id is not None:
        _require_own_id(order.entity_id)
    fields = _fields(operation, spec) if spec is not None else {}
    return order._replace(fields=fields, timestamp=_timestamp(operation, defaults))


def _fields(operation: Operation, spec: EntitySpec) -> Json:
    try:
        match operation.operation_type:
            case OperationType.CREATE:
                return spec.validate_new(operation.data if operation.data is not None else {})
            case OperationType.UPDATE:
                return spec.validate_changes(operation.changes if operation.changes is not None else {})
            case _:
                return {}
    except ValidationError as error:
        field, problem = first_problem(error)
        member = "data" if operation.operation_type is OperationType.CREATE else "changes"
        raise validation_error(f"{member}.{field}", problem) from None


def _entity_id(operation: Operation) -> EntityId | None:
    if operation.entity_id is None or isinstance(operation.entity_id, Ref):
        return None
    return EntityId(parse_id(operation.entity_id))


def _require_own_id(entity_id: EntityId) -> None:
    if entity_id.isascii() and entity_id.isdigit():
        raise validation_error(
            "entity_id", "must not be a number when a client chooses it; use a UUID or a ULID, or leave it out"
        )


def _strategy(operation: Operation, defaults: Defaults) -> Strategy | None:
    if operation.operation_type is OperationType.RESOLVE:
        return operation.strategy
    return operation.resolution_strategy if operation.resolution_strategy is not None else defaults.strategy


def _timestamp(operation: Operation, defaults: Defaults) -> Millis:
    if operation.timestamp is None:
        return defaults.now
    try:
        return parse_time(operation.timestamp)
    except ValueError:
        raise validation_error("timestamp", "must be a moment such as 2024-01-10T10:00:00Z") from None


def _hash(raw: Json) -> bytes:
    meaning = {name: raw[name] for name in _MEANING if raw.get(name) is not None}
    return hashlib.blake2b(orjson.dumps(meaning, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
