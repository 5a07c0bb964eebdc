"""What every HTTP request passes through: a request id, a line in the log, a count, and a reply whatever happens."""

import re

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from rest.errors import error_response, refuse
from sync_server import metrics
from sync_server.addresses import client_address
from sync_server.clock import monotonic_s, new_id
from sync_server.config import Settings
from sync_server.logs import log_context

EXCEPTION_HANDLERS: dict[type[Exception] | int, ExceptionHandler] = {HTTPException: refuse}
"""For what the router itself raises; everything else is answered by `Answering`."""

MAX_LOGGED_PATH = 200
REQUEST_ID = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds: told at level debug."""
_log = structlog.get_logger(__name__)


def middleware(settings: Settings) -> list[Middleware]:
    """The layers around the routes, outermost first. Pure ASGI; WebSockets pass through untouched."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=("GET", "POST", "PUT", "DELETE"),
        allow_headers=("Authorization", "Content-Type", "Last-Event-ID", REQUEST_ID),
        expose_headers=("Retry-After", REQUEST_ID),
    )
    return [
        Middleware(Logging, settings=settings),
        *([cors] if settings.allowed_origins else []),
        Middleware(Answering),
    ]


class Logging:
    """One line and one count for each request; its id in every line that is logged on its way, and in the reply."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._trusted_proxies = settings.trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        started_s = monotonic_s()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with log_context(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                self._tell(scope, status, monotonic_s() - started_s)

    def _tell(self, scope: Scope, status: int, duration_s: float) -> None:
        route = _template(scope)
        metrics.REQUESTS.labels(route, str(status)).inc()
        log = _log.debug if route in _PROBES else _log.info
        log(
            "request",
            method=scope["method"],
            route=route,
            path=scope["path"][:MAX_LOGGED_PATH],
            status=status,
            duration_ms=round(duration_s * 1_000, 1),
            address=client_address(scope, self._trusted_proxies),
        )


class Answering:
    """Makes an error of a route its reply. The one blind `except`: no request goes without an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def observed(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except ClientDisconnect:
            return  # there is nobody to answer
        except Exception as error:  # noqa: BLE001  see above
            response = error_response(error)
            if not has_begun:
                await response(scope, receive, send)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) is not None else new_id("req")


def _template(scope: Scope) -> str:
    """The route's path with names in place of values: few labels, nothing that anybody sent."""
    route = scope.get("route")
    return route.path.replace(":path}", "}") if isinstance(route, Route) else "unmatched"
