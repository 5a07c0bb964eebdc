"""Raw operations of a request become typed ones, each alone: a malformed one never stops its neighbours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from pydantic import TypeAdapter, ValidationError

from sync_server.errors import CommandError
from sync_server.protocol.client_messages import Operation, Ref
from sync_server.protocol.validation import first_problem, validation_error
from sync_server.types import OperationType

REQUIRED_FIELDS: Mapping[OperationType, tuple[str, ...]] = {
    OperationType.CREATE: ("entity_type", "data"),
    OperationType.UPDATE: ("entity_type", "entity_id", "changes"),
    OperationType.DELETE: ("entity_type", "entity_id"),
    OperationType.READ: ("entity_type",),
    OperationType.RESOLVE: ("conflict_id", "strategy"),
}
"""What an operation of each type must carry besides its `operation_id` and `operation_type`."""

# "operation_id", which is always there, makes it a tuple also where one field is required
_REQUIRED = {kind: attrgetter("operation_id", *fields) for kind, fields in REQUIRED_FIELDS.items()}

MAX_ECHO_LENGTH = 128


@dataclass(frozen=True, slots=True)
class RefusedOperation:
    """An operation that could not be read, with what is needed to answer it.

    The identifying members are what the client sent, where that was a string of a sane length, else None.
    """

    operation_id: str | None
    operation_type: str | None
    entity_type: str | None
    error: CommandError


def parse_operation(raw: object) -> Operation | RefusedOperation:
    """One operation as the client sent it, or the refusal that names the field and the problem.

    >>> refused = parse_operation({"operation_id": "op_1", "operation_type": "delete", "entity_type": "note"})
    >>> refused.operation_id, refused.error.details
    ('op_1', {'field': 'entity_id', 'problem': 'is required to delete'})
    """
    try:
        operation = Operation.model_validate(raw)
    except ValidationError as error:
        return _refused(raw, validation_error(*first_problem(error)))
    return _checked(operation, raw)


def parse_operations(raw: Sequence[object]) -> list[Operation | RefusedOperation]:
    """All operations of a request in their order; fast when all of them are well formed."""
    try:
        operations = _OPERATIONS.validate_python(list(raw))
    except ValidationError:
        return [parse_operation(one) for one in raw]
    return [_checked(operation, one) for operation, one in zip(operations, raw, strict=True)]


_OPERATIONS = TypeAdapter(list[Operation])


def _checked(operation: Operation, raw: object) -> Operation | RefusedOperation:
    if None in _REQUIRED[operation.operation_type](operation):
        fields = REQUIRED_FIELDS[operation.operation_type]
        missing = next(field for field in fields if getattr(operation, field) is None)
        return _refused(raw, validation_error(missing, f"is required to {operation.operation_type}"))
    if isinstance(operation.entity_id, Ref) and operation.operation_type is OperationType.CREATE:
        return _refused(raw, validation_error("entity_id", "must be an id of its own, not a reference, to create"))
    return operation


def _refused(raw: object, error: CommandError) -> RefusedOperation:
    fields = raw if isinstance(raw, dict) else {}
    return RefusedOperation(
        operation_id=_echo(fields.get("operation_id")),
        operation_type=_echo(fields.get("operation_type")),
        entity_type=_echo(fields.get("entity_type")),
        error=error,
    )


def _echo(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= MAX_ECHO_LENGTH else None
