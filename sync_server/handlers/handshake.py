"""Contract 1: the client says who it is; with a token, it is READY in the same round trip."""

from sync_server.clock import now_ms
from sync_server.connection import Connection
from sync_server.errors import CommandError
from sync_server.handlers import auth
from sync_server.protocol.client_messages import DEFAULT_PAGE, MAX_OPERATIONS, Handshake
from sync_server.protocol.server_messages import HandshakeReply, Limits
from sync_server.protocol.versions import PROTOCOL_VERSION
from sync_server.services import Services
from sync_server.types import format_time

CAPABILITIES = ["batch_updates", "presence", "subscribe", "resolve", "atomic"]


async def greet(services: Services, connection: Connection, message: Handshake) -> None:
    connection.greeted(message)
    reply = _reply(services, connection, message)
    if message.token is None:
        connection.send(reply)
        return
    try:
        reply["auth"] = await auth.admit(services, connection, message.token)
    except CommandError as error:
        reply["auth"] = auth.refusal(error)
        connection.send(reply)
        auth.turn_away(connection, error)
        return
    connection.send(reply)


def _reply(services: Services, connection: Connection, message: Handshake) -> HandshakeReply:
    now = format_time(now_ms())
    settings = services.settings
    return {
        "type": "handshake",
        "message_id": message.message_id,
        "timestamp": now,
        "success": True,
        "server_id": services.server_id,
        "protocol_version": PROTOCOL_VERSION,
        "connection_id": connection.connection_id,
        "heartbeat_interval_ms": round(settings.heartbeat_interval_s * 1000),
        "limits": limits_of(services),
        "capabilities": CAPABILITIES,
        "server_time": now,
        "session_ttl_s": round(services.machine_limits.missed_heartbeats * settings.heartbeat_interval_s),
    }


def limits_of(services: Services) -> Limits:
    return {
        "max_message_bytes": services.settings.max_message_bytes,
        "max_operations": MAX_OPERATIONS,
        "max_page": MAX_OPERATIONS,
        "default_page": DEFAULT_PAGE,
        "frames_per_second": services.settings.frames_per_second,
    }
