"""The composition root: opens the store and wires every part into one Starlette application."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
from starlette.applications import Starlette

from rest.middleware import EXCEPTION_HANDLERS, middleware
from rest.routes import routes
from schema.registry import Registry, load_registry
from sync_server import metrics
from sync_server.auth import Authenticator
from sync_server.clients import Clients
from sync_server.clock import monotonic_s, new_epoch, new_id, now_ms
from sync_server.committer import Committer
from sync_server.config import Settings
from sync_server.connections import Connections
from sync_server.errors import ConfigurationError
from sync_server.feed import Feed
from sync_server.hub import Hub
from sync_server.limits import RateLimit
from sync_server.presence import Presence
from sync_server.protocol.machine import MachineLimits
from sync_server.services import Services
from sync_server.stores.opening import opened_store
from sync_server.stores.sql import Store
from sync_server.trimmer import Trimmer
from sync_server.users import Users

READERS = 2
FLUSH_INTERVAL_S = 2.0
RESTART_PAUSE_S = 1.0
"""Between the failure of a background task and its next beginning."""
_log = structlog.get_logger(__name__)


def create_app(settings: Settings, secret: str | None, *, store: Store | None = None) -> Starlette:
    """The application; its state lives from lifespan start-up to shutdown in `app.state.services`.

    Args:
        secret: key of HS256 tokens; None where only a key set checks tokens.
        store: the opened store, which outlives the application; without it, start-up opens one and shutdown closes it.
    """
    registry = entity_types(settings)
    authenticator = Authenticator(secret=secret, jwks=settings.auth_jwks, audience=settings.auth_audience)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with running_services(settings, registry, authenticator, store) as services:
            app.state.services = services
            _settle_memory()
            yield

    return Starlette(
        routes=routes(registry),
        middleware=middleware(settings),
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )


def entity_types(settings: Settings) -> Registry:
    """The entity types of this server.

    Raises:
        ConfigurationError: SYNC_ENTITY_TYPES names no module, or one that declares its types wrong.
    """
    try:
        return load_registry(settings.entity_types)
    except (ImportError, AttributeError, TypeError) as error:
        message = f"SYNC_ENTITY_TYPES: {error}"
        raise ConfigurationError(message) from None


@asynccontextmanager
async def running_services(
    settings: Settings,
    registry: Registry,
    authenticator: Authenticator,
    store: Store | None,
    *,
    committer_type: type[Committer] = Committer,
) -> AsyncIterator[Services]:
    """Every part of the server, running until the block ends; then what is queued is finished and written.

    Args:
        committer_type: how rounds are driven: by a thread, or by a simulation.

    Raises:
        ConfigurationError: see `opened_store`.
    """
    async with AsyncExitStack() as stack:
        if store is None:
            store = stack.enter_context(opened_store(settings.data_dir, settings.effective_database_url))
        with store.write() as writer:
            if not writer.has_log():
                writer.start_epoch(new_epoch())
            head = writer.head()
        readers = stack.enter_context(ThreadPoolExecutor(READERS, "reader"))
        feed = Feed(store, readers, head, recent_capacity=settings.feed_cache_changes, clock=now_ms)
        hub = Hub(feed, slow_consumer_s=settings.slow_consumer_s)
        committer = committer_type(store, registry, hub.publish, max_operations=settings.batch_operations)
        committer.start()
        stack.push_async_callback(committer.close)
        services = _services(settings, registry, authenticator, feed, hub, committer)
        stack.push_async_callback(services.clients.flush)
        await stack.enter_async_context(_background(services, settings))
        yield services


def _services(
    settings: Settings, registry: Registry, authenticator: Authenticator, feed: Feed, hub: Hub, committer: Committer
) -> Services:
    return Services(
        settings=settings,
        server_id=new_id("server"),
        registry=registry,
        authenticator=authenticator,
        committer=committer,
        feed=feed,
        hub=hub,
        presence=Presence(hub),
        users=Users(committer),
        clients=Clients(feed, committer),
        connections=Connections(),
        machine_limits=MachineLimits(
            auth_deadline_s=settings.auth_deadline_s,
            max_message_bytes=settings.max_message_bytes,
            heartbeat_interval_s=settings.heartbeat_interval_s,
            frames_per_second=settings.frames_per_second,
            frames_burst=settings.frames_burst,
        ),
        connect_limit=RateLimit(
            per_minute=settings.connects_per_minute,
            remedy="This address connects too often; keep one connection open.",
        ),
        request_limit=RateLimit(
            per_minute=settings.requests_per_minute,
            remedy="Too many requests; send fewer, or follow changes over the WebSocket.",
        ),
        operation_limit=RateLimit(
            per_minute=settings.operations_per_minute, remedy="Too many operations; send them later."
        ),
    )


@asynccontextmanager
async def _background(services: Services, settings: Settings) -> AsyncIterator[None]:
    """The tasks that run beside the connections, ended with the block."""
    trimmer = Trimmer(
        services.feed,
        services.committer,
        retention_days=settings.retention_days,
        verdict_retention_days=settings.effective_verdict_retention_days,
        interval_s=settings.trim_interval_s,
    )
    works: list[Callable[[], Awaitable[None]]] = [
        services.hub.run,
        services.connections.run_ticks,
        partial(_repeat, services.clients.flush, FLUSH_INTERVAL_S),
        trimmer.run,
    ]
    tasks = [asyncio.create_task(_kept_running(work)) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _kept_running(work: Callable[[], Awaitable[None]]) -> None:
    """Run what never ends; should it fail, say so and begin it again after a pause."""
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001  a server without its deadlines or its deliveries must not look healthy
            _log.exception("background_task_failed")
            await asyncio.sleep(RESTART_PAUSE_S)


async def _repeat(work: Callable[[], Awaitable[None]], interval_s: float) -> None:
    while True:
        await asyncio.sleep(interval_s)
        await work()


def _settle_memory() -> None:
    """What exists now lives as long as the process: keep the garbage collector from looking at it again.

    A full collection with 5,000 connections pauses the loop for some tenths of a second; connections break their own
    cycles when they close, so that one is rarely needed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    if _observe_collection not in gc.callbacks:
        gc.callbacks.append(_observe_collection)


_collection_began_s = 0.0


def _observe_collection(phase: str, _info: dict[str, int]) -> None:
    global _collection_began_s  # noqa: PLW0603  the collector calls back without a place for state
    if phase == "start":
        _collection_began_s = monotonic_s()
    else:
        metrics.GC_PAUSE_SECONDS.observe(monotonic_s() - _collection_began_s)
