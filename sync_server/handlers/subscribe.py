"""What a READY connection is pushed: by default every space of the user, narrowed or resumed here."""

from sync_server.clock import now_ms
from sync_server.connection import Connection
from sync_server.errors import CommandError, ErrorCode
from sync_server.handlers.auth import note_followed, starting_cursor, viewer_of
from sync_server.protocol.client_messages import Subscribe
from sync_server.services import Services
from sync_server.types import format_time


async def subscribe(services: Services, connection: Connection, message: Subscribe) -> None:
    subscriber = connection.subscriber
    assert subscriber is not None  # READY connections have one
    viewer = viewer_of(subscriber.viewer.user_id, connection.client_id, message)
    cursor = starting_cursor(services, message.cursor, message)
    places = await services.feed.memberships.of(viewer.user_id)
    for space_id in viewer.spaces or ():
        place = places.get(space_id)
        if place is None or place.role is None:
            raise CommandError(
                ErrorCode.NOT_FOUND, "There is no such space.", details={"field": "spaces", "space_id": space_id}
            )
    await services.hub.narrow(subscriber, viewer, cursor)
    connection.is_resumed = connection.is_resumed or cursor is not None
    note_followed(services, connection)
    connection.send(
        {
            "type": "subscribed",
            "message_id": message.message_id,
            "timestamp": format_time(now_ms()),
            "spaces": sorted(subscriber.spaces),
            "entity_types": list(viewer.entity_types) if viewer.entity_types is not None else None,
        }
    )
