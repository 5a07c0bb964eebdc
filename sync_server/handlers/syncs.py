"""What became of syncs and their operations: status, queue, verdicts; and cancelling, retrying, forgetting them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NotRequired

import orjson
from typing_extensions import TypedDict

from sync_server.clock import now_ms
from sync_server.committer import QueuedBatch
from sync_server.errors import CommandError, ErrorCode
from sync_server.handlers.auth import current_state
from sync_server.handlers.conflicts import Pagination, pagination
from sync_server.handlers.operations import Defaults, order_of
from sync_server.orders import Batch, Committed, Decided, Order
from sync_server.protocol.messages import MAX_OPERATIONS, CurrentState, Operation, OperationResult, OutId
from sync_server.protocol.operations import parse_operation
from sync_server.protocol.validation import validation_error
from sync_server.records import Decision, DecisionKey, SyncKey, SyncRecord
from sync_server.services import Services
from sync_server.stores.reader import OperationFilter, Reader
from sync_server.stores.writer import Writer
from sync_server.types import (
    ClientId,
    Json,
    Millis,
    OperationId,
    OperationType,
    SyncId,
    SyncStatus,
    UserId,
    Verdict,
    format_id,
    format_time,
)
from sync_server.users import home_of
from sync_server.views import operation_result

HISTORY = 20
"""Ended syncs in a status."""
ACTIVE = 100
"""Unfinished syncs in a status."""
OPERATIONS_PER_SECOND = 2_000
"""What the committer surely does; for the estimate of when a queued operation is done."""
DAY_MS = 86_400_000
_FAILED = (Verdict.REJECTED, Verdict.CONFLICT)


class SyncView(TypedDict):
    sync_id: str
    client_id: str
    user_id: OutId
    status: SyncStatus
    start_time: str
    end_time: str | None
    total_operations: int
    completed_operations: int
    successful_operations: int
    failed_operations: int
    conflicts_count: int
    resolved_conflicts: int
    progress: int
    entity_types: list[str]
    error: str | None


class StatusState(CurrentState):
    cursor: str | None


class Status(TypedDict):
    active_syncs: list[SyncView]
    client_state: StatusState | None
    sync_history: list[SyncView]


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


class OperationView(TypedDict):
    """`verdict`, and what depends on it, is null while the operation waits for one."""

    operation_id: str
    client_id: str
    sync_id: str
    operation_type: str
    entity_type: str | None
    entity_id: OutId | None
    status: str
    verdict: Verdict | None
    rule: str | None
    version: int | None
    seq: int | None
    conflict_id: str | None
    error: str | None
    error_code: ErrorCode | None
    details: Json
    retry_count: int
    created_at: str


class Retried(TypedDict):
    sync_id: str
    retried_count: int
    operation_results: list[OperationResult]


class Cancelled(TypedDict):
    """`cancelled_operations` had not been begun; those before them keep their verdicts."""

    sync_id: str
    cancelled_operations: int


class Cleared(TypedDict):
    cleared_count: int


# --- status --------------------------------------------------------------------------------------------------------


async def status(services: Services, user_id: UserId, *, client_id: str | None, sync_id: str | None) -> Status:
    """The user's unfinished and latest finished syncs, of one client or one sync where named."""
    queued = _by_sync(services, user_id, client_id, sync_id)

    def query(reader: Reader) -> tuple[list[SyncRecord], dict[str, int]]:
        records = _records(reader, user_id, client_id, sync_id)
        return records, {record.sync_id: reader.settled_count(user_id, record.sync_id) for record in records}

    records, settled = await services.feed.read(query)
    known = {record.sync_id for record in records}
    waiting = [_unwritten(user_id, key, batches) for key, batches in queued.items() if key not in known]
    active = [record for record in records if record.ended_at is None or record.sync_id in queued]
    views = {
        record.sync_id: _sync_view(record, settled.get(record.sync_id, 0), queued.get(record.sync_id, ()))
        for record in (*records, *waiting)
    }
    if client_id is None and sync_id is not None:
        client_id = next((record.client_id for record in records), None)
    return {
        "active_syncs": [views[record.sync_id] for record in (*waiting, *active)],
        "client_state": await _client_state(services, user_id, client_id),
        "sync_history": [views[record.sync_id] for record in records if record not in active],
    }


def _by_sync(
    services: Services, user_id: UserId, client_id: str | None, sync_id: str | None
) -> dict[str, list[QueuedBatch]]:
    found: dict[str, list[QueuedBatch]] = {}
    for queued in services.committer.queued(user_id):
        batch = queued.batch
        if client_id in {None, batch.client_id} and sync_id in {None, batch.sync_id}:
            found.setdefault(batch.sync_id, []).append(queued)
    return found


def _records(reader: Reader, user_id: UserId, client_id: str | None, sync_id: str | None) -> list[SyncRecord]:
    if sync_id is not None:
        records = reader.syncs((SyncKey(user_id, SyncId(sync_id)),)).values()
        return [record for record in records if client_id in {None, record.client_id}]
    return [
        *reader.syncs_of(user_id, client_id=client_id, active=True, limit=ACTIVE),
        *reader.syncs_of(user_id, client_id=client_id, active=False, limit=HISTORY),
    ]


def _unwritten(user_id: UserId, sync_id: str, batches: Sequence[QueuedBatch]) -> SyncRecord:
    """The record of a sync whose first batch still waits."""
    first = batches[0]
    state = SyncStatus.SYNCING if first.is_processing else SyncStatus.PENDING
    types = tuple(dict.fromkeys(name for queued in batches for name in queued.batch.entity_types))
    return SyncRecord(
        SyncId(sync_id), user_id, first.batch.client_id, state, first.queued_at, None, 0, 0, 0, 0, types, None
    )


def _sync_view(record: SyncRecord, settled: int, queued: Iterable[QueuedBatch]) -> SyncView:
    waiting = sum(len(one.batch.orders) for one in queued)
    total = record.total_operations + waiting
    ended = record.ended_at is not None and not waiting
    progress = 100 if ended else record.total_operations * 100 // total if total else 0
    return {
        "sync_id": record.sync_id,
        "client_id": record.client_id,
        "user_id": format_id(record.user_id),
        "status": record.status,
        "start_time": format_time(record.started_at),
        "end_time": format_time(record.ended_at) if record.ended_at is not None else None,
        "total_operations": total,
        "completed_operations": record.total_operations,
        "successful_operations": record.successful_operations,
        "failed_operations": record.failed_operations,
        "conflicts_count": record.conflicts_count,
        "resolved_conflicts": settled,
        "progress": progress,
        "entity_types": list(record.entity_types),
        "error": record.error,
    }


async def _client_state(services: Services, user_id: UserId, client_id: str | None) -> StatusState | None:
    if client_id is None:
        return None
    known = await services.clients.record(user_id, ClientId(client_id))
    state = await current_state(services, user_id, ClientId(client_id))
    return {**state, "cursor": known.cursor if known is not None else None}


# --- queue ---------------------------------------------------------------------------------------------------------


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
                _queued_item(queued, order, done_at)
                for order in queued.batch.orders
                if query.entity_type in {None, order.entity_type}
            ]
    return items


def _queued_item(queued: QueuedBatch, order: Order, done_at: str) -> QueueItem:
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
        "status": _status(decision),
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


def _status(decision: Decision) -> str:
    """A parked operation whose conflict is settled is done: it has no body any more."""
    if decision.verdict.is_success or decision.body is None:
        return "completed"
    return "conflict" if decision.verdict is Verdict.CONFLICT else "failed"


# --- verdicts ------------------------------------------------------------------------------------------------------


async def operation(
    services: Services, user_id: UserId, operation_id: OperationId, client_id: ClientId | None
) -> OperationView:
    """What became of an operation and why.

    Raises:
        CommandError: NOT_FOUND, or VALIDATION_ERROR where several of the user's clients used this id and none is named.
    """
    waiting = _queued_view(services, user_id, operation_id, client_id)
    known = [client_id] if client_id is not None else [*services.clients.ids_of(user_id), ClientId("")]

    def query(reader: Reader) -> dict[DecisionKey, Decision]:
        found = reader.decisions(DecisionKey(user_id, one, operation_id) for one in dict.fromkeys(known))
        if client_id is None:
            found.update((decision.key, decision) for decision in reader.decisions_named(user_id, operation_id))
        return found

    found = await services.feed.read(query)
    if len(found) > 1:
        error = validation_error("client_id", "is required: several of your clients used this operation_id")
        error.details["client_ids"] = sorted(key.client_id for key in found)
        raise error
    if found:
        return _operation_view(next(iter(found.values())))
    if waiting is None:
        raise CommandError(ErrorCode.NOT_FOUND, "There is no such operation.")
    return waiting


def _queued_view(
    services: Services, user_id: UserId, operation_id: OperationId, client_id: ClientId | None
) -> OperationView | None:
    for queued in services.committer.queued(user_id):
        if client_id not in {None, queued.batch.client_id}:
            continue
        for order in queued.batch.orders:
            if order.operation_id == operation_id:
                item = _queued_item(queued, order, "")
                return {
                    "operation_id": operation_id,
                    "client_id": item["client_id"],
                    "sync_id": item["sync_id"],
                    "operation_type": item["operation_type"],
                    "entity_type": item["entity_type"],
                    "entity_id": item["entity_id"],
                    "status": item["status"],
                    "verdict": None,
                    "rule": None,
                    "version": None,
                    "seq": None,
                    "conflict_id": None,
                    "error": None,
                    "error_code": None,
                    "details": {},
                    "retry_count": item["retry_count"],
                    "created_at": item["created_at"],
                }
    return None


def _operation_view(decision: Decision) -> OperationView:
    return {
        "operation_id": decision.operation_id,
        "client_id": decision.client_id,
        "sync_id": decision.sync_id,
        "operation_type": decision.operation_type.value,
        "entity_type": decision.entity_type,
        "entity_id": format_id(decision.entity_id) if decision.entity_id is not None else None,
        "status": _status(decision),
        "verdict": decision.verdict,
        "rule": decision.rule,
        "version": decision.version,
        "seq": decision.seq,
        "conflict_id": decision.conflict_id,
        "error": decision.error,
        "error_code": decision.error_code,
        "details": decision.details if decision.details is not None else {},
        "retry_count": decision.retry_count,
        "created_at": format_time(decision.created_at),
    }


# --- cancel, retry, forget -----------------------------------------------------------------------------------------


async def cancel(services: Services, user_id: UserId, sync_id: SyncId, reason: str) -> Cancelled:
    """End an unfinished sync: what is queued of it is dropped, later batches are refused, what is done stays done.

    Raises:
        CommandError: NOT_FOUND, or CONFLICT where it has ended already.
    """
    queued = _by_sync(services, user_id, None, sync_id).get(sync_id)
    dropped = services.committer.cancel(user_id, sync_id)
    key = SyncKey(user_id, sync_id)

    def mark(writer: Writer, now: Millis) -> tuple[None, Committed]:
        record = writer.syncs((key,)).get(key)
        if record is None and dropped and queued:
            record = _unwritten(user_id, sync_id, queued)
        if record is None:
            raise _no_such_sync()
        if record.ended_at is not None and not dropped:
            message = "This sync has ended already; there is nothing to cancel."
            raise CommandError(ErrorCode.CONFLICT, message, details={"status": record.status})
        writer.save_syncs([record._replace(status=SyncStatus.CANCELLED, ended_at=now, error=reason)])
        return None, Committed()

    await services.committer.perform(mark)
    return {"sync_id": sync_id, "cancelled_operations": dropped}


async def retry(services: Services, user_id: UserId, sync_id: SyncId, operation_ids: Sequence[str] | None) -> Retried:
    """Do the rejected operations of a sync again, as they were sent: all of them, or those named, in that order.

    Operations that are parked in a conflict are not retried: resolve the conflict.

    Raises:
        CommandError: NOT_FOUND, or CONFLICT for a cancelled sync.
    """

    def query(reader: Reader) -> tuple[SyncRecord | None, list[Decision]]:
        key = SyncKey(user_id, sync_id)
        return reader.syncs((key,)).get(key), reader.unsuccessful(user_id, sync_id)

    record, unsuccessful = await services.feed.read(query)
    if record is None:
        raise _no_such_sync()
    rejected = {one.operation_id: one for one in unsuccessful if one.verdict is Verdict.REJECTED}
    wanted = dict.fromkeys(operation_ids) if operation_ids is not None else rejected
    chosen = [rejected[OperationId(key)] for key in wanted if key in rejected]
    services.operation_limit.spend(user_id, len(chosen))
    decided: list[Decided] = []
    for start in range(0, len(chosen), MAX_OPERATIONS):
        orders = await _orders(services, record, chosen[start : start + MAX_OPERATIONS])
        batch = Batch(user_id, record.client_id, sync_id, orders, home_of(user_id), is_last=record.ended_at is not None)
        decided += await services.committer.submit(batch)
    return {
        "sync_id": sync_id,
        "retried_count": len(decided),
        "operation_results": [operation_result(one) for one in decided],
    }


async def clear_history(services: Services, user_id: UserId, *, client_id: str | None, retain_days: int) -> Cleared:
    """Forget the user's ended syncs from before so many days; verdicts and conflicts stay."""

    def clear(writer: Writer, now: Millis) -> tuple[int, Committed]:
        before = Millis(now - retain_days * DAY_MS)
        return writer.delete_syncs(user_id, client_id=client_id, before=before), Committed()

    return {"cleared_count": await services.committer.perform(clear)}


async def _orders(services: Services, record: SyncRecord, decisions: Sequence[Decision]) -> tuple[Order, ...]:
    """The orders of stored bodies; references to entities that were created meanwhile are settled."""
    now = now_ms()
    orders = []
    for decision in decisions:
        raw: Json = orjson.loads(decision.body or "{}")
        parsed = parse_operation(raw)
        if isinstance(parsed, Operation):  # it was well formed when it was stored
            order = order_of(parsed, raw, services.registry, Defaults(None, now))
            orders.append(order._replace(body_hash=decision.body_hash, retry_of=decision))
    retried = {order.operation_id for order in orders}
    refs = {ref for order in orders for ref in _refs(order)} - retried
    keys = [DecisionKey(record.user_id, record.client_id, ref) for ref in refs]
    found = await services.feed.read(lambda reader: reader.decisions(keys))
    created = {
        key.operation_id: done
        for key, done in found.items()
        if done.operation_type is OperationType.CREATE and done.verdict.is_success
    }
    return tuple(_with_created(order, created) for order in orders)


def _refs(order: Order) -> Iterable[OperationId]:
    if order.entity_ref is not None:
        yield order.entity_ref
    yield from (OperationId(value["ref"]) for value in order.fields.values() if _is_ref(value))


def _with_created(order: Order, created: Mapping[OperationId, Decision]) -> Order:
    made = created.get(order.entity_ref) if order.entity_ref is not None else None
    if made is not None:
        order = order._replace(entity_id=made.entity_id, entity_ref=None)
    fields = {
        name: format_id(done.entity_id)
        for name, value in order.fields.items()
        if _is_ref(value) and (done := created.get(value["ref"])) is not None and done.entity_id is not None
    }
    return order._replace(fields={**order.fields, **fields}) if fields else order


def _is_ref(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"ref"}


def _no_such_sync() -> CommandError:
    return CommandError(ErrorCode.NOT_FOUND, "There is no such sync.", details={"field": "sync_id"})
