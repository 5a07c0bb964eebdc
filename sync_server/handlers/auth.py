"""Contract 2: a token opens the connection, and a later one keeps it open."""

import asyncio

from sync_server.auth import Principal, TokenUntimely
from sync_server.clock import now_ms
from sync_server.connection import Connection
from sync_server.cursor import Cursor, format_cursor, parse_cursor
from sync_server.errors import CloseCode, CommandError, ErrorCode
from sync_server.feed import Viewer
from sync_server.protocol.client_messages import Auth, ClientInfo, Subscription
from sync_server.protocol.replies import error_frame
from sync_server.protocol.server_messages import AuthResult, CurrentState
from sync_server.protocol.versions import SERVER_VERSION
from sync_server.records import Followed
from sync_server.services import Services
from sync_server.subscribers import Subscriber
from sync_server.types import ClientId, SpaceId, UserId, format_id, format_time


class ConnectionLimitError(CommandError):
    """The user has as many connections as one may have."""

    def __init__(self, most: int) -> None:
        message = f"This user has {most} connections already, the most that are allowed; close one of them."
        super().__init__(ErrorCode.RATE_LIMIT_EXCEEDED, message)


async def authenticate(services: Services, connection: Connection, message: Auth) -> None:
    try:
        result = await (refresh if connection.is_ready else admit)(services, connection, message.token)
    except CommandError as error:
        connection.send({"type": "auth", "message_id": message.message_id, **refusal(error)})
        turn_away(connection, error)
        return
    connection.send({"type": "auth", "message_id": message.message_id, **result})


async def check_token(services: Services, token: str) -> Principal:
    """Whom the token names.

    Raises:
        CommandError: UNAUTHORIZED.
    """
    if services.authenticator.needs_io:
        return await asyncio.to_thread(services.authenticator.authenticate, token, now=now_ms())
    return services.authenticator.authenticate(token, now=now_ms())


async def admit(services: Services, connection: Connection, token: str) -> AuthResult:
    """Make the connection READY: it takes the place of an older one of the same client and is fed from here on.

    Raises:
        CommandError: the token is not good, the user has too many connections, or the cursor is none of ours.
    """
    principal = await check_token(services, token)
    greeting = connection.greeting
    assert greeting is not None  # the machine lets no token through before a handshake
    wanted = greeting.subscriptions if greeting.subscriptions is not None else Subscription()
    cursor = starting_cursor(services, greeting.cursor if greeting.cursor is not None else wanted.cursor, wanted)
    await services.users.ensure(principal.user_id)
    _take_place(services, connection, principal)
    await _introduce(services, principal.user_id, connection.client_id, greeting.client_info)
    subscriber = Subscriber(
        connection.connection_id,
        viewer_of(principal.user_id, connection.client_id, wanted),
        connection.codec,
        connection.socket,
        connection.close,
        takes_batches="batch_updates" in greeting.capabilities,
    )
    connection.subscriber = subscriber
    connection.is_resumed = cursor is not None
    await services.hub.add(subscriber, cursor)
    note_followed(services, connection)
    position = Cursor(services.feed.head.epoch, services.hub.position_of(subscriber))
    return await _result(services, connection, principal, cursor if cursor is not None else position)


async def refresh(services: Services, connection: Connection, token: str) -> AuthResult:
    """Keep a READY connection open with a newer token of the same user."""
    principal = await check_token(services, token)
    if connection.principal is None or principal.user_id != connection.principal.user_id:
        raise CommandError(ErrorCode.UNAUTHORIZED, "A token refresh must name the user that the connection began with.")
    connection.authenticated(principal)
    assert connection.subscriber is not None  # READY connections have one
    position = Cursor(services.feed.head.epoch, services.hub.position_of(connection.subscriber))
    return await _result(services, connection, principal, position)


def starting_cursor(services: Services, text: str | None, wanted: Subscription) -> Cursor | None:
    """Where a subscription starts: after a cursor, with a snapshot, or (None) from now on."""
    if not wanted.incremental:
        return services.feed.beginning
    return parse_cursor(text) if text is not None else None


def viewer_of(user_id: UserId, client_id: ClientId, wanted: Subscription) -> Viewer:
    spaces = frozenset(map(SpaceId, wanted.spaces)) if wanted.spaces is not None else None
    types = tuple(sorted(set(wanted.entity_types))) if wanted.entity_types is not None else None
    return Viewer(user_id, client_id, spaces, types)


def note_followed(services: Services, connection: Connection) -> None:
    """Remember what a READY connection follows."""
    subscriber = connection.subscriber
    assert subscriber is not None  # READY connections have one
    viewer = subscriber.viewer
    services.clients.follows(viewer.user_id, viewer.client_id, Followed(viewer.wanted, connection.is_resumed))


def note_left(services: Services, connection: Connection, subscriber: Subscriber) -> None:
    """Remember how far a connection that is gone was written to, unless a newer one of its client took its place."""
    viewer = subscriber.viewer
    if services.connections.is_registered(viewer.user_id, viewer.client_id):
        return
    followed = Followed(
        viewer.wanted,
        connection.is_resumed,
        services.feed.head.epoch,
        subscriber.start,
        services.hub.position_of(subscriber),
        now_ms(),
    )
    services.clients.follows(viewer.user_id, viewer.client_id, followed)


def refusal(error: CommandError) -> AuthResult:
    return {"success": False, "error": error.message, "error_code": error.code}


def turn_away(connection: Connection, error: CommandError) -> None:
    """Close a connection whose token or start was not good, with the code that tells the client what to do."""
    if isinstance(error, TokenUntimely):
        code = CloseCode.TOKEN_EXPIRED
    elif isinstance(error, ConnectionLimitError):
        code = CloseCode.CONNECTION_LIMIT
    elif error.code is ErrorCode.UNAUTHORIZED:
        code = CloseCode.UNAUTHORIZED
    elif error.code.is_retryable:
        code = CloseCode.OVERLOADED
    else:
        code = CloseCode.BAD_FRAME
    connection.close(code, error.message)


def _take_place(services: Services, connection: Connection, principal: Principal) -> None:
    most = services.settings.max_connections_per_user
    is_known = services.connections.is_registered(principal.user_id, connection.client_id)
    if not is_known and services.connections.count_of(principal.user_id) >= most:
        raise ConnectionLimitError(most)
    connection.authenticated(principal)
    older = services.connections.register(connection, principal.user_id)
    if older is not None:
        message = "A newer connection of the same client took the place of this one."
        older.send(error_frame(CommandError(ErrorCode.CONNECTION_REPLACED, message)))
        older.close(CloseCode.REPLACED, message)


async def _introduce(services: Services, user_id: UserId, client_id: ClientId, info: ClientInfo) -> None:
    await services.clients.introduced(user_id, client_id, info.model_dump(exclude_none=True))


async def _result(services: Services, connection: Connection, principal: Principal, cursor: Cursor) -> AuthResult:
    return {
        "success": True,
        "user_id": format_id(principal.user_id),
        "current_state": await current_state(services, principal.user_id, connection.client_id),
        "cursor": format_cursor(cursor),
        "expires_at": format_time(principal.expires_at),
    }


async def current_state(services: Services, user_id: UserId, client_id: ClientId) -> CurrentState:
    """What the server knows of a client: its last sync and its operations that have no verdict yet."""
    known = await services.clients.record(user_id, client_id)
    synced_at = known.last_sync_time if known is not None else None
    queued = (q.batch for q in services.committer.queued(user_id))
    return {
        "client_id": client_id,
        "last_sync_time": format_time(synced_at) if synced_at is not None else None,
        "server_version": SERVER_VERSION,
        "pending_operations": sum(len(batch.orders) for batch in queued if batch.client_id == client_id),
    }
