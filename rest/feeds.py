"""What changed, for clients that cannot keep a WebSocket: pages that wait, and server-sent events."""

from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent

from rest.endpoint import Call, Endpoint, NoBody
from rest.requests import ChangesQuery, EventsQuery
from sync_server.cursor import Cursor, parse_cursor
from sync_server.errors import CommandError, ErrorCode
from sync_server.handlers import feeds
from sync_server.protocol.codec import JSON
from sync_server.protocol.messages import ServerUpdate
from sync_server.services import Services

HEARTBEAT_S = 15
END_S = 2.0
"""How long a stream may take to end by itself when the server stops; then it is cut."""


async def _changes(call: Call[ChangesQuery, NoBody]) -> feeds.Changes:
    query = call.query
    cursor = _start(call.services, query.cursor)
    viewer = await feeds.viewer_for(call.services, call.user_id, query.client_id, query.space_ids, query.entity_types)
    return await feeds.changes(call.services, viewer, cursor, limit=query.limit, wait_s=query.wait)


async def _events(call: Call[EventsQuery, NoBody]) -> EventSourceResponse:
    query = call.query
    cursor = _start(call.services, call.request.headers.get("last-event-id") or query.cursor)
    viewer = await feeds.viewer_for(call.services, call.user_id, query.client_id, query.space_ids, query.entity_types)
    events = feeds.events(call.services, viewer, cursor, until=call.principal.expires_at)
    return EventSourceResponse(
        _encoded(events),
        ping=HEARTBEAT_S,
        sep="\n",
        send_timeout=call.services.settings.slow_consumer_s,
        shutdown_grace_period=END_S,
    )


async def _encoded(events: AsyncIterator[feeds.Event]) -> AsyncIterator[ServerSentEvent]:
    try:
        async for event in events:
            yield ServerSentEvent(JSON.encode(event.data).decode(), event=event.name, id=event.cursor)
    except CommandError:
        return  # the database does not answer: the client comes back with the last id it has


def _start(services: Services, text: str | None) -> Cursor:
    return parse_cursor(text) if text is not None else services.feed.beginning


ENDPOINTS = (
    Endpoint(
        method="GET", path="/changes", tag="Feed", summary="The changes after a cursor, or the wait for them",
        description="With `wait` it answers as soon as there is something, else after that time with none.",
        handle=_changes, query=ChangesQuery, body=NoBody, reply=feeds.Changes, errors=(ErrorCode.NOT_FOUND,),
    ),
    Endpoint(
        method="GET", path="/events", tag="Feed", summary="The changes after a cursor as server-sent events",
        description=(
            "Events `server_update`, `reset` and, once all that was missed is told, `caught_up`; the id of each is the "
            "cursor to resume with. Comments keep the connection alive. The stream ends with its token."
        ),
        handle=_events, query=EventsQuery, body=NoBody, reply=ServerUpdate, errors=(ErrorCode.NOT_FOUND,),
        media_type="text/event-stream",
    ),
)  # fmt: skip
