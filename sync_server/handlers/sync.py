"""Contract 3 and REST 1: operations in, verdicts out, and what others changed meanwhile."""

from collections.abc import Sequence

from sync_server.clock import new_id, now_ms
from sync_server.connection import Connection
from sync_server.cursor import Cursor, format_cursor, parse_cursor
from sync_server.decisions import request_status
from sync_server.feed import Page, SpaceReset, Viewer
from sync_server.handlers.perform import CONFLICT_CHARACTERS, Room, perform
from sync_server.orders import Decided
from sync_server.protocol.client_messages import Sync, SyncRequest
from sync_server.protocol.server_messages import NewClientState, OperationResult, SyncResponseData
from sync_server.protocol.validation import validation_error
from sync_server.protocol.versions import PROTOCOL_VERSION, SERVER_VERSION, is_supported
from sync_server.records import Conflict
from sync_server.services import Services
from sync_server.subscribers import Subscriber
from sync_server.types import (
    ClientId,
    ConflictId,
    Millis,
    SpaceId,
    SyncId,
    SyncStatus,
    UserId,
    format_time,
    parse_time,
)
from sync_server.views import conflict_size, conflict_view, receipt_view, update_item


async def answer(services: Services, connection: Connection, message: Sync) -> None:
    subscriber = connection.subscriber
    assert subscriber is not None  # READY connections have one
    request = message.data
    if request.client_id != connection.client_id:
        raise validation_error("data.client_id", "must be the client_id of the handshake")
    data = await synchronise(services, subscriber.viewer.user_id, request, subscriber=subscriber)
    connection.send(
        {
            "type": "sync_response",
            "message_id": message.message_id,
            "timestamp": data["server_time"],
            "request_id": request.request_id,
            "data": data,
        }
    )


async def synchronise(
    services: Services, user_id: UserId, request: SyncRequest, *, subscriber: Subscriber | None
) -> SyncResponseData:
    """Do a request's operations and tell what others changed since its cursor.

    Args:
        subscriber: the connection that asked, whose pushes then count as told; None over REST.

    Raises:
        CommandError: the request as a whole is malformed, refused or too much; none of its operations was done.
    """
    if not is_supported(request.protocol_version):
        raise validation_error("protocol_version", f"is not supported; this server speaks {PROTOCOL_VERSION}")
    client_id = ClientId(request.client_id)
    sync_id = SyncId(request.sync_id if request.sync_id is not None else new_id("sync"))
    results, decided = await perform(services, user_id, client_id, sync_id, request)
    viewer = _viewer(user_id, client_id, request, subscriber)
    page = _without_own(await _updates(services, viewer, request, subscriber), decided)
    now = now_ms()
    cursor = format_cursor(page.cursor)
    await services.clients.synced(user_id, client_id, cursor=cursor, at=now, asked=viewer.wanted)
    if page.cursor.scan is not None and request.client_state.cursor is None:
        await services.clients.flush()  # without this cursor, nobody could tell the rest of the snapshot after a crash
    met = _met(decided)
    room = Room(CONFLICT_CHARACTERS)
    shown = [conflict for conflict in met if room.takes(conflict_size(conflict))]
    state: NewClientState = {
        "client_id": client_id,
        "last_sync_time": format_time(now),
        "server_version": SERVER_VERSION,
        "pending_operations": max(0, request.client_state.pending_operations - len(request.operations)),
        "last_sync_id": sync_id if request.operations else request.client_state.last_sync_id,
        "cursor": cursor,
        "has_more": page.has_more,
    }
    changed: set[SpaceId] = {result.change[1] for result in decided if result.change is not None}
    if changed:
        receipts = services.feed.newest_receipts(user_id, changed)
        state["receipts"] = [receipt_view(receipt) for receipt in receipts]
    data: SyncResponseData = {
        "request_id": request.request_id,
        "server_time": format_time(now),
        "protocol_version": PROTOCOL_VERSION,
        "status": _status(results, decided),
        "operation_results": results,
        "server_updates": [update_item(update) for update in page.updates],
        "conflicts": [conflict_view(conflict) for conflict in shown],
        "new_client_state": state,
    }
    if len(shown) < len(met):
        data["conflicts_omitted"] = len(met) - len(shown)
    if page.resets:
        data["resets"] = [{"space_id": reset.space_id, "reason": reset.reason} for reset in page.resets]
    return data


def _status(results: Sequence[OperationResult], decided: Sequence[Decided]) -> SyncStatus:
    if results and not any(result["success"] for result in results):
        return SyncStatus.CONFLICT if request_status(decided) is SyncStatus.CONFLICT else SyncStatus.FAILED
    status = request_status(decided)
    return status if status is SyncStatus.CONFLICT else SyncStatus.SUCCESS


def _met(decided: Sequence[Decided]) -> list[Conflict]:
    met: dict[ConflictId, Conflict] = {}
    for result in decided:
        for conflict in result.conflicts:
            met[conflict.conflict_id] = conflict
    return list(met.values())


# --- what others changed -------------------------------------------------------------------------------------------


async def _updates(services: Services, viewer: Viewer, request: SyncRequest, subscriber: Subscriber | None) -> Page:
    """The next page for the client. Over a connection, what was pushed on it is not told again."""
    cursor, resets = await _start(services, viewer.user_id, viewer.client_id, request)
    if subscriber is None or cursor.scan is not None or viewer != subscriber.viewer:
        page = await services.feed.page(viewer, cursor, limit=request.batch_size)
        if subscriber is not None and viewer == subscriber.viewer:
            services.hub.told(subscriber, page.cursor)
    else:
        page = await _uncovered(services, subscriber, cursor, request.batch_size)
    resets += page.resets
    if subscriber is not None and resets:
        # the client drops what was pushed before this reply, too: the log has to tell it again
        subscriber.start = services.feed.head.head_seq
    return page._replace(resets=resets)


def _without_own(page: Page, decided: Sequence[Decided]) -> Page:
    """A snapshot does not say who wrote its rows; what this very request wrote is in its results already."""
    if not page.is_snapshot:
        return page
    written = {result.seq for result in decided}
    return page._replace(updates=[update for update in page.updates if update.seq not in written])


async def _uncovered(services: Services, subscriber: Subscriber, cursor: Cursor, limit: int) -> Page:
    """The page up to where the connection's pushes begin; from there on they are in the socket before this reply."""
    page = Page([], cursor, has_more=False)
    head = services.feed.head
    if cursor.seq < subscriber.start or cursor.seq > head.head_seq or cursor.epoch != head.epoch:
        page = await services.feed.page(subscriber.viewer, cursor, limit=limit, until=subscriber.start)
        if page.has_more or page.cursor.scan is not None:
            return page
    position = services.hub.position_of(subscriber)
    if page.cursor.seq < position:
        subscriber.start = min(subscriber.start, cursor.seq)
        page = page._replace(cursor=page.cursor._replace(seq=position))
    rest = services.hub.rest(subscriber, page.cursor, limit=limit - len(page.updates))
    return page if rest is None else rest._replace(updates=page.updates + rest.updates, resets=page.resets)


async def _start(
    services: Services, user_id: UserId, client_id: ClientId, request: SyncRequest
) -> tuple[Cursor, tuple[SpaceReset, ...]]:
    state = request.client_state
    if not request.incremental and (state.cursor is None or request.batch_index == 0):
        return services.feed.beginning, (SpaceReset(None, "snapshot"),)
    if state.cursor is not None:
        return parse_cursor(state.cursor), ()
    if state.last_sync_time is None:
        return services.feed.beginning, ()
    moment = _moment(state.last_sync_time)
    known = await services.clients.record(user_id, client_id)
    if known is not None and known.last_sync_time == moment and known.cursor is not None:
        return parse_cursor(known.cursor), ()
    return await services.feed.cursor_before(moment), ()


def _viewer(user_id: UserId, client_id: ClientId, request: SyncRequest, subscriber: Subscriber | None) -> Viewer:
    if subscriber is not None and request.space_ids is None and request.entity_types is None:
        return subscriber.viewer
    spaces = frozenset(map(SpaceId, request.space_ids)) if request.space_ids is not None else None
    types = tuple(sorted(set(request.entity_types))) if request.entity_types is not None else None
    return Viewer(user_id, client_id, spaces, types)


def _moment(text: str) -> Millis:
    try:
        return parse_time(text)
    except ValueError:
        raise validation_error("client_state.last_sync_time", "must be a moment such as 2024-01-10T10:00:00Z") from None
