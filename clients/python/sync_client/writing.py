"""What an application does becomes operations: made over the present state, inside the transaction that stores them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from sync_client import replica, views
from sync_client.errors import EntityNotFoundError, NoLongerThereError
from sync_client.stores.port import Tables
from sync_client.values import Entity, Json, Key, Operation, OperationType


class Stamp(NamedTuple):
    """What every new operation gets."""

    new_id: Callable[[], str]
    now: str


class Intent(NamedTuple):
    """A create, update or delete before it is an operation.

    Attributes:
        version: of the entity that the application had before its eyes; None is the one in the store.
    """

    kind: OperationType
    key: Key
    fields: Json | None = None
    space_id: str | None = None
    on_conflict: str | None = None
    version: int | None = None


def operation_of(tables: Tables, intent: Intent, stamp: Stamp) -> Operation:
    """The operation on what is there now.

    Raises:
        EntityNotFoundError: there is no such entity to update or delete.
    """
    key, version, home = intent.key, 0, None
    if intent.kind is not OperationType.CREATE:
        found = views.entity(tables, key)
        if found is None:
            raise EntityNotFoundError(*key)
        key, home = found.key, found.space_id
        is_older = intent.version is not None and intent.version < found.version
        version = (
            intent.version if is_older and intent.version is not None and not views.is_plain(tables) else found.version
        )
    return Operation(
        operation_id=stamp.new_id(), operation_type=intent.kind, entity_type=key.entity_type, entity_id=key.entity_id,
        timestamp=stamp.now, fields=intent.fields, before_version=version, space_id=intent.space_id,
        on_conflict=intent.on_conflict, home=home,
    )  # fmt: skip


def resolution_of(tables: Tables, conflict_id: str, strategy: str, resolved: Json | None, stamp: Stamp) -> Operation:
    """The operation that settles an open conflict, and shows its outcome meanwhile.

    Raises:
        NoLongerThereError: it is settled.
    """
    found = next((one for one in views.open_conflicts(tables) if one.conflict_id == conflict_id), None)
    if found is None:
        raise NoLongerThereError(f"the conflict {conflict_id} is settled already")
    shown = resolved
    if strategy == "client_wins" and found.mine.data is not None:
        below = found.whole if found.theirs.data is None else {}
        shown = {name: value for name, value in {**below, **found.mine.data}.items() if name != "id"}
    return Operation(
        operation_id=stamp.new_id(), operation_type=OperationType.RESOLVE, entity_type=found.entity_type,
        entity_id=found.entity_id, timestamp=stamp.now, fields=resolved, home=found.space_id,
        conflict_id=conflict_id, strategy=strategy,
        shown=shown, shows_nothing=strategy == "client_wins" and found.mine.data is None,
    )  # fmt: skip


def retried(tables: Tables, operation_id: str, changes: Json, stamp: Stamp) -> list[Operation]:
    """Quarantined operations once more, under new ids: the server keeps the verdict of the old ones.

    Raises:
        NoLongerThereError: it was retried or dropped meanwhile.
    """
    operations = replica.released(tables, operation_id)
    if not operations:
        raise NoLongerThereError(f"the operation {operation_id} is not in the quarantine any more")
    group = stamp.new_id() if operations[0].group is not None else None
    return [
        msgspec.structs.replace(
            one, operation_id=stamp.new_id(), group=group,
            fields={**(one.fields or {}), **changes} if one.operation_id == operation_id and changes else one.fields,
        )
        for one in operations
    ]  # fmt: skip


def grouped(operations: Sequence[Operation]) -> list[Operation]:
    """Operations of a transaction, bound together."""
    if len(operations) == 1:
        return list(operations)
    return [msgspec.structs.replace(one, group=operations[0].operation_id) for one in operations]


def preview(
    tables: Tables, earlier: Sequence[Operation], intent: Intent, stamp: Stamp
) -> tuple[Operation, Entity | None]:
    """An operation of a transaction that is not yet stored, and the entity after it. For a run that is discarded."""
    replica.append(tables, earlier)
    operation = operation_of(tables, intent, stamp)
    replica.append(tables, [operation])
    return operation, views.entity(tables, operation.key)


def perform(tables: Tables, intent: Intent, stamp: Stamp) -> Entity | None:
    """Store an operation and return the entity after it."""
    operation = operation_of(tables, intent, stamp)
    replica.append(tables, [operation])
    return views.entity(tables, operation.key)
