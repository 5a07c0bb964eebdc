"""The queue of operations: those that wait for a verdict, and those that have one."""

from collections.abc import Mapping
from typing import Any, NamedTuple, NotRequired

import orjson
from typing_extensions import TypedDict

from sync_server.clock import now_ms
from sync_server.committer import QueuedBatch
from sync_server.decisions import status_of
from sync_server.errors import ErrorCode
from sync_server.handlers.conflicts import Pagination, pagination
from sync_server.orders import Order
from sync_server.protocol.server_messages import OutId
from sync_server.records import Decision
from sync_server.services import Services
from sync_server.stores.reader import OperationFilter, Reader
from sync_server.types import Json, Millis, UserId, Verdict, format_id, format_time

OPERATIONS_PER_SECOND = 2_000
"""What the committer surely does; for the estimate of when a queued operation is done."""
_FAILED = (Verdict.REJECTED, Verdict.CONFLICT)


class QueueItem(TypedDict):
    operation_id: str
    sync_id: str
    client_id: str
    user_id: OutId
    operation_type: str
    entity_type: str | None
    entity_id: OutId | None
    data: Json | None
    status: str
    retry_count: int
    created_at: str
    estimated_processing_time: str | None
    error: str | None
    error_code: NotRequired[ErrorCode]
    conflict_id: NotRequired[str]


class QueueStats(TypedDict):
    pending: int
    processing: int
    completed: int
    failed: int


class Queue(TypedDict):
    operations: list[QueueItem]
    total: int
    pagination: Pagination
    stats: QueueStats


class QueueQuery(NamedTuple):
    queue_type: str
    client_id: str | None
    entity_type: str | None
    page: int
    limit: int


async def queue(services: Services, user_id: UserId, query: QueueQuery) -> Queue:
    """Operations by what became of them: those without a verdict from the queue, then, newest first, the decided."""
    waiting = _waiting(services, user_id, query)
    by_status = {name: [item for item in waiting if item["status"] == name] for name in ("pending", "processing")}
    everything = OperationFilter(user_id, query.client_id, query.entity_type)
    failed = everything._replace(verdicts=_FAILED)
    wanted = {"failed": failed, "all": everything}.get(query.queue_type)
    shown = waiting if query.queue_type == "all" else by_status.get(query.queue_type, [])
    offset = (query.page - 1) * query.limit

    def read(reader: Reader) -> tuple[int, int, list[Decision]]:
        decided, unsuccessful = reader.operation_counts(everything), reader.operation_counts(failed)
        rows: list[Decision] = []
        room = query.limit - len(shown[offset : offset + query.limit])
        if wanted is not None and room > 0:
            rows = reader.operations_page(wanted, offset=max(0, offset - len(shown)), limit=room)
        return sum(decided.values()), sum(unsuccessful.values()), rows

    all_count, failed_count, rows = await services.feed.read(read)
    stored = {"failed": failed_count, "all": all_count}.get(query.queue_type, 0)
    total = len(shown) + stored
    return {
        "operations": [*shown[offset : offset + query.limit], *map(_decided_item, rows)],
        "total": total,
        "pagination": pagination(page=query.page, limit=query.limit, total=total),
        "stats": {
            "pending": len(by_status["pending"]),
            "processing": len(by_status["processing"]),
            "completed": all_count - failed_count,
            "failed": failed_count,
        },
    }


def _waiting(services: Services, user_id: UserId, query: QueueQuery) -> list[QueueItem]:
    items = []
    now = now_ms()
    ahead = 0
    for queued in services.committer.queued(user_id):
        ahead += len(queued.batch.orders)
        done_at = format_time(Millis(now + 1_000 * ahead // OPERATIONS_PER_SECOND + 1))
        if query.client_id in {None, queued.batch.client_id}:
            items += [
                queued_item(queued, order, done_at)
                for order in queued.batch.orders
                if query.entity_type in {None, order.entity_type}
            ]
    return items


def queued_item(queued: QueuedBatch, order: Order, done_at: str) -> QueueItem:
    return {
        "operation_id": order.operation_id,
        "sync_id": queued.batch.sync_id,
        "client_id": queued.batch.client_id,
        "user_id": format_id(queued.batch.user_id),
        "operation_type": order.operation_type.value,
        "entity_type": order.entity_type,
        "entity_id": format_id(order.entity_id) if order.entity_id is not None else None,
        "data": _fields(order.raw),
        "status": "processing" if queued.is_processing else "pending",
        "retry_count": order.retry_of.retry_count + 1 if order.retry_of is not None else 0,
        "created_at": format_time(queued.queued_at),
        "estimated_processing_time": done_at,
        "error": None,
    }


def _decided_item(decision: Decision) -> QueueItem:
    item: QueueItem = {
        "operation_id": decision.operation_id,
        "sync_id": decision.sync_id,
        "client_id": decision.client_id,
        "user_id": format_id(decision.user_id),
        "operation_type": decision.operation_type.value,
        "entity_type": decision.entity_type,
        "entity_id": format_id(decision.entity_id) if decision.entity_id is not None else None,
        "data": _fields(orjson.loads(decision.body)) if decision.body is not None else None,
        "status": status_of(decision),
        "retry_count": decision.retry_count,
        "created_at": format_time(decision.created_at),
        "estimated_processing_time": None,
        "error": decision.error,
    }
    if decision.error_code is not None:
        item["error_code"] = decision.error_code
    if decision.conflict_id is not None:
        item["conflict_id"] = decision.conflict_id
    return item


def _fields(raw: Mapping[str, Any]) -> Json | None:
    """What the operation would have written, as the client sent it."""
    return next((raw[name] for name in ("data", "changes", "resolved_data") if isinstance(raw.get(name), dict)), None)
