"""Our uvicorn: a listening socket of our own, deadlines for slow handshakes, direct writes, a graceful stop."""

import asyncio
import logging
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from math import inf
from types import FrameType
from typing import Any

import structlog
import uvicorn
from packaging.version import Version
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from sync_server import metrics
from sync_server.app import create_app
from sync_server.clock import monotonic_s
from sync_server.config import Settings
from sync_server.errors import CloseCode, ConfigurationError
from sync_server.sockets import TRANSPORT_EXTENSION
from sync_server.stores.opening import opened_store

HEADER_DEADLINE_S = 10.0
"""How long a peer may take for the headers of a request; neither uvicorn nor httptools bounds it."""
MAX_HEADER_BYTES = 65_536
"""How much may come before the headers of a request are complete."""
RESERVED_DESCRIPTORS = 64
"""File descriptors that are kept free of connections, for the database and for what answers those that are there."""
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_HEADERS_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
RECEIVE_BUFFER_BYTES = 65_536
"""SO_RCVBUF: a small one keeps a peer that floods tiny frames from starving the others."""
USER_TIMEOUT_MS = 25_000
"""TCP_USER_TIMEOUT: what a peer has not acknowledged for so long ends its connection."""
BACKLOG = 2_048
CLOSE_TIMEOUT_S = 2.0
"""How long a peer may take to answer a close; until then it may go on sending."""
HIDDEN_FRAMES = 2_000
"""Control frames and fragments that a connection may send in each window of time; a faster one is closed with 4101."""
HIDDEN_FRAMES_WINDOW_S = 10.0
_UNSAFE_UVICORNS = (Version("0.50.0"), Version("0.52.0"))
_log = structlog.get_logger(__name__)


def _tell_peers_faults_briefly(record: logging.LogRecord) -> bool:
    """A frame that is no UTF-8 is its sender's fault: uvicorn logs it with a traceback as if it were ours."""
    if record.msg == "Invalid UTF-8 sequence received from client.":
        record.exc_info, record.levelno, record.levelname = None, logging.INFO, "INFO"
    return True


logging.getLogger("uvicorn.error").addFilter(_tell_peers_faults_briefly)


class SyncWebSocketProtocol(WebSocketsSansIOProtocol):
    """Hands itself to the application, so that encoded frames can be written to many transports as they are.

    The application counts messages. Control frames and the fragments of a message that never ends are counted here.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.close_timeout = CLOSE_TIMEOUT_S
        self._hidden_frames = 0
        self._counted_since_s = monotonic_s()

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][TRANSPORT_EXTENSION] = self

    def handle_ping(self) -> None:
        if not self._takes_hidden_frame():
            return
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # a pong to who reads nothing would only pile up (promise P11)

    def handle_pong(self, event: Any) -> None:
        if self._takes_hidden_frame():
            super().handle_pong(event)

    def handle_cont(self, event: Any) -> None:
        if self._takes_hidden_frame():
            super().handle_cont(event)

    def _takes_hidden_frame(self) -> bool:
        """Count a frame that the application does not see; past the bound the connection ends."""
        if self.close_sent:
            return False
        self._hidden_frames += 1
        if self._hidden_frames <= HIDDEN_FRAMES:
            return True
        now = monotonic_s()
        if now - self._counted_since_s >= HIDDEN_FRAMES_WINDOW_S:
            self._hidden_frames, self._counted_since_s = 1, now
            return True
        metrics.CLOSES.labels(str(int(CloseCode.RATE_LIMITED))).inc()
        _log.info("connection_closing", code=int(CloseCode.RATE_LIMITED), reason="too many frames")
        self.conn.fail(CloseCode.RATE_LIMITED, "too many frames")
        self.handle_parser_exception()
        return False


class SyncHttpProtocol(HttpToolsProtocol):
    """Closes who does not finish the headers of a request in time, or sends too many of them.

    A connection for which there is no file descriptor left is answered with 503, whatever it wants.
    """

    _deadline: asyncio.TimerHandle | None = None
    _awaits_headers = True
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _most_connections():
            transport.write(_UNAVAILABLE)
            transport.close()
            return
        self._start_deadline()

    def data_received(self, data: bytes) -> None:
        if self._awaits_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if not self._awaits_headers or not self._header_bytes or self.transport.is_closing():
            return
        self._start_deadline()  # also for empty lines, which begin no request and end uvicorn's keep-alive timer
        if self._header_bytes > MAX_HEADER_BYTES:
            self.transport.write(_HEADERS_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_deadline()

    def on_headers_complete(self) -> None:
        self._stop_deadline()
        self._awaits_headers, self._header_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._awaits_headers = True
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_deadline()
        super().connection_lost(exc)

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_DEADLINE_S, self.transport.close)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class SyncServer(uvicorn.Server):
    """Drains before it stops: clients are told to leave while their operations are still answered."""

    def __init__(self, config: uvicorn.Config, *, drain_s: float) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  uvicorn's signature
        """The first signal drains, a second one stops at once."""
        if self._loop is None or self._drain is not None:
            self.should_exit = self.force_exit = True
            return
        self._loop.call_soon_threadsafe(self._start_drain)

    def _start_drain(self) -> None:
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        services = self.config.loaded_app.state.services
        _log.info("draining", connections=len(services.connections), budget_s=self._drain_s)
        await services.connections.drain(budget_s=self._drain_s)
        self.should_exit = True


def serve(settings: Settings, secret: str | None, *, on_listening: Callable[[int], None] | None = None) -> int:
    """Run the server until a signal stops it; returns the exit status.

    Args:
        on_listening: called with the port once connections are accepted.

    Raises:
        ConfigurationError: it cannot start as it is set up.
        OSError: it cannot listen there.
    """
    _refuse_unsafe_uvicorn()
    _raise_descriptor_limit(settings.max_connections)
    with (
        listening_socket(settings.host, settings.port) as listener,
        opened_store(settings.data_dir, settings.effective_database_url) as store,
    ):
        # opened here, not by the application: what is wrong with it is then one line, not a traceback of uvicorn's
        config = _config(settings, create_app(settings, secret, store=store))
        server = _AnnouncingServer(config, drain_s=settings.drain_s, on_listening=on_listening)
        server.run(sockets=[listener])
    return 0 if server.started else 3


def _config(settings: Settings, app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=SyncHttpProtocol,
        ws=SyncWebSocketProtocol,
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        ws_max_size=max(settings.max_message_bytes, 65_536) + 1,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,
        backlog=BACKLOG,
        proxy_headers=False,
    )


class _AnnouncingServer(SyncServer):
    def __init__(self, config: uvicorn.Config, *, drain_s: float, on_listening: Callable[[int], None] | None) -> None:
        super().__init__(config, drain_s=drain_s)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_listening is not None and sockets:
            self._on_listening(sockets[0].getsockname()[1])


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket whose connections die when their peer does.

    Raises:
        OSError: the address is taken, or not this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _raise_descriptor_limit(max_connections: int) -> None:
    """Take as many file descriptors as the system allows: the usual 1,024 are fewer than the connections we offer."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems name a limit that they do not give
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if (most := _most_connections()) < max_connections:
        _log.warning("few_descriptors", connections=most, max_connections=max_connections)


def _most_connections() -> float:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return inf if soft == resource.RLIM_INFINITY else soft - RESERVED_DESCRIPTORS


def _refuse_unsafe_uvicorn() -> None:
    first, last = _UNSAFE_UVICORNS
    if first <= Version(uvicorn.__version__) <= last:
        message = f"uvicorn {uvicorn.__version__} has no back-pressure on WebSockets; install 0.54 or newer"
        raise ConfigurationError(message)
