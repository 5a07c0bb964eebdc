"""Every route of the server, in one table."""

from starlette.routing import BaseRoute, WebSocketRoute

from schema.registry import Registry
from sync_server.handlers.websocket import WebSocketEndpoint


def routes(registry: Registry) -> list[BaseRoute]:
    return [WebSocketRoute("/api/sync/ws", WebSocketEndpoint())]
