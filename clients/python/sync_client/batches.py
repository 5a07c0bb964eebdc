"""Which pending operations go up next.

B1 Operations of an entity go up in the order in which they were made.
B2 One that is held back holds back what names its entity, and nothing else.
B3 A transaction goes up alone and whole.
B4 A request keeps the server's limits.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import msgspec

from sync_client.frames import Limits
from sync_client.values import Json, Operation, OperationType, Problem, format_id

ENVELOPE_BYTES = 4_096
"""Room that a request leaves for what surrounds its operations."""


READ_BYTES = 1_024
"""What asking for an entity takes."""


class Batch(NamedTuple):
    """What one request asks for.

    Attributes:
        operations: these, in order; empty where nothing can go up.
        unsendable: these can never go up, for this reason.
    """

    operations: list[Operation]
    is_atomic: bool = False
    unsendable: tuple[list[Operation], Problem] | None = None


class Picker:
    """Looks through the queue page by page for the next batch.

    Args:
        held: ids of operations that are to wait.
        limit: at most so many operations.
        is_plain: the server makes ids itself and knows no client's own queue: an operation that names what another one
            of the batch makes or changes waits for its result, and a transaction goes up one by one.
    """

    def __init__(self, held: Collection[str], limits: Limits, *, limit: int, is_plain: bool) -> None:
        self.held = held
        self._room = limits.max_message_bytes - ENVELOPE_BYTES
        self._most = min(limit, limits.max_operations)
        self._limits = limits
        self._is_plain = is_plain
        self._blocked: set[str] = set()

    def batch(self, queue: Sequence[Operation]) -> Batch:
        """The next batch from a page of the queue; ask again with the next page where it is empty."""
        picked: list[Operation] = []
        touched: set[str] = set()
        size = 0
        index = 0
        while index < len(queue):
            group = [queue[index]] if self._is_plain else _group_at(queue, index)
            is_whole = group[0].group is not None and not self._is_plain
            index += len(group)
            names = set().union(*map(names_of, group))
            if any(one.operation_id in self.held for one in group) or not names.isdisjoint(self._blocked):
                self._blocked.update(one.entity_id for one in group)
                continue
            if picked and (is_whole or (self._is_plain and not names.isdisjoint(touched))):
                break
            weight = sum(map(weight_of, group))
            if weight > self._room or len(group) > self._limits.max_operations:
                return Batch(picked) if picked else Batch([], unsendable=(group, self._problem(group, weight)))
            if size + weight > self._room or len(picked) + 1 > self._most:
                break
            picked += group
            size += weight
            touched.update(one.entity_id for one in group)
            if is_whole:
                return Batch(picked, is_atomic=True)
        return Batch(picked)

    def _problem(self, group: Sequence[Operation], weight: int) -> Problem:
        what = "operation" if len(group) == 1 else f"transaction of {len(group)} operations"
        return Problem(
            error=f"The {what} is larger than the server takes; make it smaller.",
            error_code="VALIDATION_ERROR",
            details={
                "bytes": weight, "max_bytes": self._room, "operations": len(group),
                "max_operations": self._limits.max_operations,
            },
        )  # fmt: skip


def _group_at(queue: Sequence[Operation], index: int) -> list[Operation]:
    first = queue[index]
    if first.group is None:
        return [first]
    return list(takewhile(lambda one: one.group == first.group, queue[index:]))


def names_of(operation: Operation) -> set[str]:
    """Every text and whole number of an operation that may name an entity: its own id and what its fields refer to."""
    return {operation.entity_id, *_texts(operation.fields)}


def _texts(value: Any) -> Iterable[str]:
    match value:
        case str():
            yield value
        case bool() | None | float():
            return
        case int():
            yield str(value)
        case Mapping():
            for one in value.values():
                yield from _texts(one)
        case _:
            for one in value:
                yield from _texts(one)


def weight_of(operation: Operation) -> int:
    """Bytes that the operation takes in a request, in either codec at most so many."""
    if operation.acknowledged is not None:  # it is read, not sent again
        return READ_BYTES
    return len(msgspec.json.encode(wire_form(operation, client_id=""))) + 160


def wire_form(operation: Operation, *, client_id: str) -> Json:
    """The operation as the protocol has it (section 4)."""
    form: Json = {
        "operation_id": operation.operation_id, "operation_type": operation.operation_type.value,
        "entity_type": operation.entity_type, "entity_id": format_id(operation.entity_id),
        "client_id": client_id, "timestamp": operation.timestamp,
    }  # fmt: skip
    match operation.operation_type:
        case OperationType.CREATE:
            form["data"] = operation.fields
        case OperationType.UPDATE:
            form |= {"changes": operation.fields, "before_version": operation.before_version}
        case OperationType.DELETE:
            form["before_version"] = operation.before_version
        case OperationType.RESOLVE:
            form |= {"conflict_id": operation.conflict_id, "strategy": operation.strategy}
            if operation.fields is not None:
                form["resolved_data"] = operation.fields
        case OperationType.READ:
            pass
    if operation.on_conflict is not None:
        form["resolution_strategy"] = operation.on_conflict
    if operation.space_id is not None:
        form["space_id"] = operation.space_id
    return form
