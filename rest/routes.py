"""Every route of the server: those of the table, the server's own, and the WebSocket."""

from starlette.requests import Request
from starlette.responses import Response
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
        *(_route(path, walks) for path in dict.fromkeys(one.path for one in ENDPOINTS)),
        Route("/", pages.entrance),
        Route("/docs", pages.docs),
        Route("/openapi.json", pages.openapi),
        Route("/asyncapi.json", pages.asyncapi),
        Route("/healthz", health),
        Route("/readyz", readiness),
        Route("/metrics", measurements),
    ]


def _route(path: str, walks: Walks) -> Route:
    """All methods of a path are one route, so that a refusal of another method names them all (RFC 9110, 10.2.1)."""
    by_method = {one.method: application(one, walks) for one in ENDPOINTS if one.path == path}

    async def answer(request: Request) -> Response:
        return await by_method["GET" if request.method == "HEAD" else request.method](request)

    return Route(PREFIX + path, answer, methods=list(by_method))
