"""Whether the server lives, takes requests, and how it does. Open to everybody who can reach the port."""

import asyncio

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from rest.endpoint import JsonResponse
from sync_server import metrics
from sync_server.errors import CommandError
from sync_server.protocol.versions import SERVER_VERSION
from sync_server.services import Services

DATABASE_DEADLINE_S = 2.0


async def health(_: Request) -> Response:
    return JsonResponse({"status": "ok", "version": SERVER_VERSION}, headers=_FRESH)


async def readiness(request: Request) -> Response:
    """200 while the database answers and the server does not stop, else 503; the body says which it is."""
    services: Services = request.app.state.services
    database = await _database_answers(services)
    is_draining = services.connections.is_draining
    is_ready = database and not is_draining
    checks = {"database": "ok" if database else "unreachable", "draining": is_draining}
    body = {"status": "ready" if is_ready else "not_ready", "checks": checks}
    return JsonResponse(body, 200 if is_ready else 503, headers=_FRESH)


async def measurements(_: Request) -> Response:
    return Response(generate_latest(metrics.REGISTRY), headers=_FRESH, media_type=CONTENT_TYPE_LATEST)


_FRESH = {"cache-control": "no-store"}


async def _database_answers(services: Services) -> bool:
    try:
        async with asyncio.timeout(DATABASE_DEADLINE_S):
            await services.feed.read(lambda reader: reader.head())
    except (CommandError, TimeoutError):
        return False
    return True
