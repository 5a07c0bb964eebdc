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
from sync_server.protocol.client_messages import Operation, Ref
from sync_server.protocol.operations import RefusedOperation
from sync_server.protocol.validation import first_problem, validation_error
from sync_server.types import (
    EntityId,
    EntityType,
    Json,
    Millis,
    OperationId,
    OperationType,
    Strategy,
    StrategySource,
    parse_id,
    parse_time,
)

_TYPES = frozenset(operation_type.value for operation_type in OperationType)
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
    spec = registry.get(operation.entity_type) if operation.entity_type is not None else None
    reference = operation.entity_id.ref if isinstance(operation.entity_id, Ref) else None
    fields: Json = {}
    timestamp = defaults.now
    refusal = None
    try:
        _require_sense(operation, spec)
        fields = _fields(operation, spec)
        timestamp = _timestamp(operation, defaults)
    except CommandError as error:
        refusal = Refusal(error.code, error.message, error.details)
    strategy, source = _strategy(operation, defaults)
    return Order(
        operation.operation_id, operation.operation_type, spec.entity_type if spec is not None else None,
        _entity_id(operation), reference, operation.space_id, fields, operation.before_version,
        strategy, timestamp, operation.conflict_id, operation.resolved_data, _hash(raw), raw, refusal,
        strategy_source=source,
    )  # fmt: skip


def refused_order(refused: RefusedOperation, raw: object, registry: Registry, defaults: Defaults) -> Order | None:
    """The order for a malformed operation, whose verdict is stored; None where it cannot even be told by its id."""
    operation_id = refused.operation_id
    if not operation_id or not operation_id.isprintable():
        return None
    if refused.operation_type not in _TYPES or not isinstance(raw, dict):
        return None
    spec = registry.get(EntityType(refused.entity_type or ""))
    return Order(
        OperationId(operation_id), OperationType(refused.operation_type),
        spec.entity_type if spec is not None else None, None, None, None, {}, None, defaults.strategy, defaults.now,
        None, None, _hash(raw), raw, Refusal(refused.error.code, refused.error.message, refused.error.details),
        strategy_source=StrategySource.REQUEST if defaults.strategy is not None else StrategySource.TYPE,
    )  # fmt: skip


def _require_sense(operation: Operation, spec: EntitySpec | None) -> None:
    if spec is None and operation.operation_type is not OperationType.RESOLVE:
        raise validation_error("entity_type", "is no entity type of this server")
    if operation.entity_id is not None and operation.operation_type is OperationType.CREATE:
        _require_own_id(str(operation.entity_id))


def _fields(operation: Operation, spec: EntitySpec | None) -> Json:
    if spec is None:
        return {}
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


def _require_own_id(entity_id: str) -> None:
    if entity_id.isascii() and entity_id.isdigit():
        raise validation_error(
            "entity_id", "must not be a number when a client chooses it; use a UUID or a ULID, or leave it out"
        )


def _strategy(operation: Operation, defaults: Defaults) -> tuple[Strategy | None, StrategySource]:
    is_resolution = operation.operation_type is OperationType.RESOLVE
    named = operation.strategy if is_resolution else operation.resolution_strategy
    if named is not None:
        return named, StrategySource.OPERATION
    if is_resolution or defaults.strategy is None:
        return None, StrategySource.TYPE
    return defaults.strategy, StrategySource.REQUEST


def _timestamp(operation: Operation, defaults: Defaults) -> Millis:
    if operation.timestamp is None:
        return defaults.now
    try:
        return parse_time(operation.timestamp)
    except ValueError:
        raise validation_error("timestamp", "must be a moment such as 2024-01-10T10:00:00Z") from None


def _hash(raw: Json) -> bytes:
    meaning = list(map(raw.get, _MEANING))
    return hashlib.blake2b(orjson.dumps(meaning, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
