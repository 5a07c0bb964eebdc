"""Which handler takes which message. The machine has checked that the message is valid and in its place."""

from sync_server.connection import Connection
from sync_server.handlers import auth, conflict, handshake, presence, subscribe, sync
from sync_server.protocol.client_messages import (
    Auth,
    ClientMessage,
    Handshake,
    Presence,
    ResolveConflict,
    Subscribe,
    Sync,
)
from sync_server.services import Services


async def dispatch(services: Services, connection: Connection, message: ClientMessage) -> None:
    match message:
        case Sync():
            await sync.answer(services, connection, message)
        case Handshake():
            await handshake.greet(services, connection, message)
        case Auth():
            await auth.authenticate(services, connection, message)
        case ResolveConflict():
            await conflict.settle(services, connection, message)
        case Subscribe():
            await subscribe.subscribe(services, connection, message)
        case Presence():
            await presence.show(services, connection, message)
        case _:
            raise TypeError(type(message).__name__)  # the machine answers pings and takes pongs itself
