"""The operations of a request: decided as one batch, each answered in its place."""

from collections.abc import Sequence

from sync_server.clock import now_ms
from sync_server.cursor import format_cursor, parse_cursor
from sync_server.errors import CommandError, ErrorCode
from sync_server.feed import Viewer
from sync_server.handlers.operations import Defaults, order_of, refused_order
from sync_server.orders import Batch, Decided, Order
from sync_server.protocol.client_messages import Operation, SyncRequest
from sync_server.protocol.operations import RefusedOperation, parse_operations
from sync_server.protocol.server_messages import OperationResult
from sync_server.services import Services
from sync_server.types import ClientId, OperationType, SpaceId, SyncId, UserId, Verdict
from sync_server.users import home_of
from sync_server.views import operation_result, update_item

REPLY_CHARACTERS = 4_000_000
"""Data of entities in the results of one request; what is past it is left out, and can be read."""
CONFLICT_CHARACTERS = 2_000_000
"""Data of conflicts in one reply; those past it are pushed and listed all the same."""
PAGE_READS = 4
"""Pages of a type that one request may read."""


class Room:
    """What a reply may still hold, whatever a small request asks for (promise P11)."""

    def __init__(self, size: int) -> None:
        self._left = size

    def takes(self, size: int) -> bool:
        """Whether there is room for this; the first thing always fits."""
        fits = self._left > 0
        self._left -= size
        return fits


async def perform(
    services: Services, user_id: UserId, client_id: ClientId, sync_id: SyncId, request: SyncRequest
) -> tuple[list[OperationResult], list[Decided]]:
    """The result of each operation in its order, and the verdicts behind those that were decided.

    Raises:
        CommandError: too many operations, or an atomic request that is malformed; none of it was done.
    """
    services.operation_limit.spend(user_id, max(1, len(request.operations)))
    parsed = parse_operations(request.operations)
    if request.atomic:
        _require_whole(parsed)
    defaults = Defaults(request.default_resolution_strategy, now_ms())
    orders: dict[int, Order] = {}
    for index, (operation, raw) in enumerate(zip(parsed, request.operations, strict=True)):
        if isinstance(operation, RefusedOperation):
            order = refused_order(operation, raw, services.registry, defaults)
            if order is not None:
                orders[index] = order
        elif not _is_page_read(operation):
            orders[index] = order_of(operation, raw, services.registry, defaults)
    decided = await _decide(services, user_id, client_id, sync_id, request, list(orders.values()))
    by_index = dict(zip(orders, decided, strict=True))
    room = Room(REPLY_CHARACTERS)
    pages = Room(PAGE_READS)
    results: list[OperationResult] = []
    for index, operation in enumerate(parsed):
        if index in by_index:
            results.append(_result(operation, by_index[index], room))
        elif isinstance(operation, RefusedOperation):
            results.append(_refused(operation))
        elif pages.takes(1):
            results.append(await _page_read(services, user_id, operation))
        else:
            results.append(_refused(_of(operation, _full("pages"))))
    return results, decided


def _result(operation: Operation | RefusedOperation, decided: Decided, room: Room) -> OperationResult:
    """The reply to one operation; where the reply as a whole is full, without the entity's data."""
    result = operation_result(decided)
    result["entity_type"] = _type_named(operation, decided)
    if decided.data is not None and not room.takes(len(decided.data)):
        if decided.decision.operation_type is OperationType.READ and isinstance(operation, Operation):
            return _refused(_of(operation, _full("entities")))
        del result["data"]
    return result


def _full(what: str) -> CommandError:
    message = f"This reply holds no more {what}; read the rest in another request."
    return CommandError(ErrorCode.RATE_LIMIT_EXCEEDED, message, retry_after_ms=0)


def _of(operation: Operation, error: CommandError) -> RefusedOperation:
    return RefusedOperation(operation.operation_id, operation.operation_type, operation.entity_type, error)


async def _decide(
    services: Services, user_id: UserId, client_id: ClientId, sync_id: SyncId, request: SyncRequest,
    orders: Sequence[Order],
) -> list[Decided]:  # fmt: skip
    if not orders and request.is_last_batch and request.sync_id is None:
        return []
    batch = Batch(
        user_id,
        client_id,
        sync_id,
        tuple(orders),
        home_of(user_id),
        atomic=request.atomic,
        is_last=request.is_last_batch,
        entity_types=tuple(dict.fromkeys(order.entity_type for order in orders if order.entity_type is not None)),
    )
    return await services.committer.submit(batch)


def _require_whole(parsed: Sequence[Operation | RefusedOperation]) -> None:
    """An atomic request with a malformed operation is refused whole: all or nothing."""
    for index, operation in enumerate(parsed):
        if isinstance(operation, RefusedOperation):
            field = f"operations.{index}.{operation.error.details.get('field', '')}"
            details = {**operation.error.details, "field": field, "operation_id": operation.operation_id}
            raise CommandError(operation.error.code, operation.error.message, details=details)


def _is_page_read(operation: Operation) -> bool:
    return operation.entity_id is None and operation.operation_type is OperationType.READ


async def _page_read(services: Services, user_id: UserId, operation: Operation) -> OperationResult:
    """A page of a type: a snapshot of it, or after a cursor its changes."""
    spaces = frozenset({SpaceId(operation.space_id)}) if operation.space_id is not None else None
    viewer = Viewer(user_id, ClientId(""), spaces, (operation.entity_type or "",))
    try:
        cursor = parse_cursor(operation.cursor) if operation.cursor is not None else services.feed.beginning
        page = await services.feed.page(viewer, cursor, limit=operation.limit)
    except CommandError as error:
        return _refused(_of(operation, error))
    return {
        "operation_id": operation.operation_id,
        "operation_type": operation.operation_type.value,
        "entity_type": operation.entity_type,
        "success": True,
        "verdict": Verdict.APPLIED,
        "rule": "no_change",
        "data": None,
        "entities": [update_item(update) for update in page.updates],
        "cursor": format_cursor(page.cursor),
        "has_more": page.has_more,
    }


def _refused(operation: RefusedOperation) -> OperationResult:
    error = operation.error
    return {
        "operation_id": operation.operation_id,
        "operation_type": operation.operation_type,
        "entity_type": operation.entity_type,
        "success": False,
        "verdict": Verdict.REJECTED,
        "rule": "invalid",
        "error": error.message,
        "error_code": error.code,
        "details": error.details,
    }


def _type_named(operation: Operation | RefusedOperation, decided: Decided) -> str | None:
    return operation.entity_type if operation.entity_type is not None else decided.decision.entity_type
