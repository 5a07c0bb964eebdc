"""Every route of the server: those of the table, the server's own, and the WebSocket."""

from starlette.routing import BaseRoute, Route, WebSocketRoute

from rest.endpoint import PREFIX, application
from rest.pages import Pages
from rest.probes import health, measurements, readiness
from rest.table import ENDPOINTS
from schema.registry import Registry
from sync_server.handlers.feeds import Walks
from sync_server.handlers.websocket import WebSocketEndpoint


def routes(registry: Registry) -> list[BaseRoute]:
    walks = Walks()
    pages = Pages(registry)
    return [
        WebSocketRoute(f"{PREFIX}/ws", WebSocketEndpoint()),
        *(Route(PREFIX + one.path, application(one, walks), methods=[one.method]) for one in ENDPOINTS),
        Route("/", pages.entrance),
        Route("/docs", pages.docs),
        Route("/openapi.json", pages.openapi),
        Route("/asyncapi.json", pages.asyncapi),
        Route("/healthz", health),
        Route("/readyz", readiness),
        Route("/metrics", measurements),
    ]
