"""Presence: a state that a space's other connections see while this one is open, and that is never stored."""

from sync_server.clock import now_ms
from sync_server.connection import Connection
from sync_server.errors import CommandError, ErrorCode
from sync_server.protocol.client_messages import Presence
from sync_server.protocol.codec import JSON
from sync_server.protocol.validation import validation_error
from sync_server.services import Services
from sync_server.types import SpaceId

MAX_STATE_BYTES = 4_096


async def show(services: Services, connection: Connection, message: Presence) -> None:
    subscriber = connection.subscriber
    assert subscriber is not None  # READY connections have one
    services.operation_limit.spend(subscriber.viewer.user_id)  # each is told to everybody in the space
    space_id = SpaceId(message.space_id)
    if space_id not in subscriber.spaces:
        raise CommandError(ErrorCode.NOT_FOUND, "This connection follows no such space.", details={"field": "space_id"})
    if message.state is None:
        services.presence.leave(subscriber, space_id, now=now_ms())
        return
    if len(JSON.encode(message.state)) > MAX_STATE_BYTES:
        raise validation_error("state", f"must have at most {MAX_STATE_BYTES} bytes as JSON")
    services.presence.set(subscriber, space_id, message.state, now=now_ms())
