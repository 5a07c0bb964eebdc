"""The WebSocket endpoint: who may connect, and what becomes of a connection until it is gone."""

from functools import partial
from typing import Any

import orjson
import structlog
from starlette.types import Receive, Scope, Send

from sync_server.addresses import client_address, is_allowed_origin, limit_key
from sync_server.clock import monotonic_s, new_id
from sync_server.connection import Connection
from sync_server.errors import CommandError, ErrorCode, Unavailable
from sync_server.handlers.auth import note_left
from sync_server.handlers.dispatch import dispatch
from sync_server.logs import log_context
from sync_server.protocol.codec import negotiate
from sync_server.protocol.machine import Machine
from sync_server.services import Services
from sync_server.sockets import TRANSPORT_EXTENSION, AsgiSocket, Socket, TransportSocket
from sync_server.types import ConnectionId

_log = structlog.get_logger(__name__)


class WebSocketEndpoint:
    """ASGI application of `/api/sync/ws`.

    Who may not connect is told by an HTTP status before the upgrade: 403 for a foreign Origin, 429 for too many
    connects from one address, 503 when the server is full or stopping (docs/protocol.md, section 1).
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        services: Services = scope["app"].state.services
        connection_id = ConnectionId(new_id("conn"))
        with log_context(connection_id=connection_id):
            address = client_address(scope, services.settings.trusted_proxies)
            refusal = _refusal(services, scope, address)
            if refusal is not None:
                await _refuse(scope, receive, send, *refusal)
                return
            await receive()  # websocket.connect
            await _serve(services, connection_id, address, scope, receive, send)


def _refusal(services: Services, scope: Scope, address: str) -> tuple[int, CommandError] | None:
    if not is_allowed_origin(scope, services.settings.allowed_origins):
        return 403, CommandError(ErrorCode.FORBIDDEN, "Pages of this origin may not connect.")
    if services.connections.is_draining or len(services.connections) >= services.settings.max_connections:
        return Unavailable.status, Unavailable()
    try:
        services.connect_limit.spend(limit_key(address))
    except CommandError as error:
        return error.code.status, error
    return None


async def _serve(
    services: Services, connection_id: ConnectionId, address: str, scope: Scope, receive: Receive, send: Send
) -> None:
    codec, subprotocol = negotiate(scope["subprotocols"])
    await send({"type": "websocket.accept", "subprotocol": subprotocol})
    machine = Machine(codec, services.machine_limits, now=monotonic_s())
    socket = _socket(scope, send, services.settings.send_buffer_bytes)
    handle = partial(dispatch, services)
    patience_s = services.settings.slow_consumer_s
    connection = Connection(connection_id, machine, codec, socket, receive, handle, patience_s=patience_s)
    services.connections.add(connection)
    _log.debug("connected", address=address)
    try:
        await connection.serve()
    finally:
        _forget(services, connection)
        socket.release()


def _forget(services: Services, connection: Connection) -> None:
    services.connections.remove(connection)
    if connection.subscriber is not None:
        note_left(services, connection, connection.subscriber)
        services.hub.remove(connection.subscriber)
    _log.debug("disconnected")


def _socket(scope: Scope, send: Send, buffer_bytes: int) -> Socket:
    protocol = scope.get("extensions", {}).get(TRANSPORT_EXTENSION)
    if protocol is None:
        return AsgiSocket(send, buffer_bytes=buffer_bytes)
    return TransportSocket(protocol, send, buffer_bytes=buffer_bytes)


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, error: CommandError) -> None:
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send(
            {"type": "websocket.close", "code": 1013 if error.code.is_retryable else 1008, "reason": error.message}
        )
        return
    headers: list[Any] = [(b"content-type", b"application/json")]
    if error.retry_after_ms is not None:
        headers.append((b"retry-after", str(-(-error.retry_after_ms // 1_000)).encode()))
    body = {"success": False, "error": error.message, "error_code": error.code, "details": error.details}
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": orjson.dumps(body)})
