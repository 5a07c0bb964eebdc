"""What changed, for clients that cannot keep a WebSocket: pages that wait, and server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from rest.endpoint import Call, Endpoint, NoBody
from rest.requests import ChangesQuery, EventsQuery
from sync_server.cursor import Cursor, parse_cursor
from sync_server.errors import CommandError, ErrorCode
from sync_server.handlers import feeds
from sync_server.protocol.codec import JSON
from sync_server.protocol.server_messages import ServerUpdate
from sync_server.services import Services

HEARTBEAT_S = 15
END_S = 2.0
"""How long a stream may take to end by itself when the server stops; then it is cut."""


async def _changes(call: Call[ChangesQuery, NoBody]) -> feeds.Changes:
    query = call.query
    cursor = _start(call.services, query.cursor)
    viewer = await feeds.viewer_for(call.services, call.user_id, query.client_id, query.space_ids, query.entity_types)
    gone = asyncio.ensure_future(_hung_up(call.request))
    try:
        with _place(call) if query.wait else nullcontext():
            return await feeds.changes(call.services, viewer, cursor, limit=query.limit, wait_s=query.wait, gone=gone)
    finally:
        gone.cancel()


async def _hung_up(request: Request) -> None:
    """Return once the client of a request without a body is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Stream(EventSourceResponse):
    """A stream that has its place among the open connections from its first byte to its end."""

    def __init__(self, events: AsyncIterator[ServerSentEvent], *, place: AbstractContextManager[None], slow_s: float):
        super().__init__(events, ping=HEARTBEAT_S, sep="\n", send_timeout=slow_s, shutdown_grace_period=END_S)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await super().__call__(scope, receive, send)


async def _events(call: Call[EventsQuery, NoBody]) -> EventSourceResponse:
    query = call.query
    cursor = _start(call.services, call.request.headers.get("last-event-id") or query.cursor)
    viewer = await feeds.viewer_for(call.services, call.user_id, query.client_id, query.space_ids, query.entity_types)
    events = feeds.events(call.services, viewer, cursor, until=call.principal.expires_at)
    return _Stream(_encoded(events), place=_place(call), slow_s=call.services.settings.slow_consumer_s)


async def _encoded(events: AsyncIterator[feeds.Event]) -> AsyncIterator[ServerSentEvent]:
    try:
        async for event in events:
            yield ServerSentEvent(JSON.encode(event.data).decode(), event=event.name, id=event.cursor)
    except CommandError:
        return  # the database does not answer: the client comes back with the last id it has


def _place(call: Call[Any, NoBody]) -> AbstractContextManager[None]:
    settings = call.services.settings
    return call.services.connections.reading(
        call.user_id, most=settings.max_connections, most_of_user=settings.max_connections_per_user
    )


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
