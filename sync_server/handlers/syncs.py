"""The user's syncs: how they stand; cancelling and forgetting them."""

from collections.abc import Iterable, Sequence

from typing_extensions import TypedDict

from sync_server.committer import QueuedBatch
from sync_server.errors import CommandError, ErrorCode
from sync_server.handlers.auth import current_state
from sync_server.orders import Committed
from sync_server.protocol.server_messages import CurrentState, OutId
from sync_server.records import SyncKey, SyncRecord
from sync_server.services import Services
from sync_server.stores.reader import Reader
from sync_server.stores.writer import Writer
from sync_server.types import ClientId, Millis, SyncId, SyncStatus, UserId, format_id, format_time

HISTORY = 20
"""Ended syncs in a status."""
ACTIVE = 100
"""Unfinished syncs in a status."""
DAY_MS = 86_400_000


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


class Cancelled(TypedDict):
    """`cancelled_operations` had not been begun; those before them keep their verdicts."""

    sync_id: str
    cancelled_operations: int


class Cleared(TypedDict):
    cleared_count: int


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
            raise no_such_sync()
        if record.ended_at is not None and not dropped:
            message = "This sync has ended already; there is nothing to cancel."
            raise CommandError(ErrorCode.CONFLICT, message, details={"status": record.status})
        writer.save_syncs([record._replace(status=SyncStatus.CANCELLED, ended_at=now, error=reason)])
        return None, Committed()

    await services.committer.perform(mark)
    return {"sync_id": sync_id, "cancelled_operations": dropped}


async def clear_history(services: Services, user_id: UserId, *, client_id: str | None, retain_days: int) -> Cleared:
    """Forget the user's ended syncs from before so many days; verdicts and conflicts stay."""

    def clear(writer: Writer, now: Millis) -> tuple[int, Committed]:
        before = Millis(now - retain_days * DAY_MS)
        return writer.delete_syncs(user_id, client_id=client_id, before=before), Committed()

    return {"cleared_count": await services.committer.perform(clear)}


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


def no_such_sync() -> CommandError:
    return CommandError(ErrorCode.NOT_FOUND, "There is no such sync.", details={"field": "sync_id"})
