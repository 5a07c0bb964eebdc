"""The open connections of this process: counted, ticked, replaced, and sent away when the server stops."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from sync_server import metrics
from sync_server.clock import monotonic_s
from sync_server.connection import Connection
from sync_server.errors import CloseCode, CommandError, ErrorCode, Unavailable
from sync_server.types import ClientId, ConnectionId, UserId

_log = structlog.get_logger(__name__)

TICK_S = 1.0
"""How often deadlines are looked at: they are seconds, not milliseconds."""


class Connections:
    """Every open WebSocket, from accept to close, and every HTTP request that stays open to be told of changes.

    Attributes:
        draining: set once the server stops; nobody is let in any more, and who waits for changes ends.
    """

    def __init__(self) -> None:
        self._open: dict[ConnectionId, Connection] = {}
        self._ready: dict[tuple[UserId, ClientId], Connection] = {}
        self._of_user: dict[UserId, int] = {}
        self._reading: dict[UserId, int] = {}
        self._readers = 0
        self.draining = asyncio.Event()
        self._all_gone = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open) + self._readers

    @property
    def is_draining(self) -> bool:
        return self.draining.is_set()

    @contextmanager
    def reading(self, user_id: UserId, *, most: int, most_of_user: int) -> Iterator[None]:
        """Count a stream or a waiting poll of the user while the block runs, beside their WebSockets.

        Raises:
            CommandError: RATE_LIMIT_EXCEEDED, the user has as many as they may; `Unavailable`.
        """
        if self.is_draining or len(self) >= most:
            raise Unavailable
        if self.count_of(user_id) >= most_of_user:
            message = f"This user has {most_of_user} connections, streams and polls open; end one of them first."
            raise CommandError(ErrorCode.RATE_LIMIT_EXCEEDED, message, retry_after_ms=Unavailable.RETRY_AFTER_MS)
        self._reading[user_id] = self._reading.get(user_id, 0) + 1
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            self._reading[user_id] -= 1
            if not self._reading[user_id]:
                del self._reading[user_id]

    def add(self, connection: Connection) -> None:
        self._open[connection.connection_id] = connection
        metrics.CONNECTIONS.set(len(self._open))

    def register(self, connection: Connection, user_id: UserId) -> Connection | None:
        """The connection is this user's client now; returns the older one that it takes the place of."""
        key = (user_id, connection.client_id)
        older = self._ready.get(key)
        self._ready[key] = connection
        if older is None:
            self._of_user[user_id] = self._of_user.get(user_id, 0) + 1
        return older

    def count_of(self, user_id: UserId) -> int:
        """How many clients of the user are connected, and how many of their requests stay open."""
        return self._of_user.get(user_id, 0) + self._reading.get(user_id, 0)

    def is_registered(self, user_id: UserId, client_id: ClientId) -> bool:
        return (user_id, client_id) in self._ready

    def remove(self, connection: Connection) -> None:
        self._open.pop(connection.connection_id, None)
        if self.is_draining and not self._open:
            self._all_gone.set()
        metrics.CONNECTIONS.set(len(self._open))
        if connection.principal is None:
            return
        user_id = connection.principal.user_id
        if self._ready.get((user_id, connection.client_id)) is connection:
            del self._ready[user_id, connection.client_id]
            self._of_user[user_id] -= 1
            if not self._of_user[user_id]:
                del self._of_user[user_id]

    async def run_ticks(self) -> None:
        """Let every connection do what its deadlines ask for, for ever."""
        due = monotonic_s() + TICK_S
        while True:
            await asyncio.sleep(max(0.0, due - monotonic_s()))
            now = monotonic_s()
            lag_s = max(0.0, now - due)
            metrics.LOOP_LAG_SECONDS.set(lag_s)
            due = now + TICK_S
            if lag_s > TICK_S:
                # what peers sent meanwhile is not read yet: their silence is ours
                metrics.LOOP_BLOCKED_SECONDS.inc(lag_s)
                _log.warning("event_loop_blocked", seconds=round(lag_s, 1))
                continue
            for connection in tuple(self._open.values()):
                _tick(connection, now)

    async def drain(self, *, budget_s: float) -> None:
        """Send everybody away, spread over part of the budget, and return when they are gone or it is spent."""
        self.draining.set()
        if not self._open:
            return
        until = monotonic_s() + budget_s
        leaving = tuple(self._open.values())
        pause_s = budget_s / 4 / max(1, len(leaving))
        for index, connection in enumerate(leaving):
            connection.drain(retry_after_ms=_retry_after_ms(index))
            if pause_s > 0.001:  # noqa: PLR2004  shorter than the loop can sleep
                await asyncio.sleep(min(pause_s, 0.01))
        try:
            async with asyncio.timeout(until - monotonic_s()):
                await self._all_gone.wait()
        except TimeoutError:
            pass  # who is still here is cut off


def _tick(connection: Connection, now: float) -> None:
    try:
        connection.tick(now)
    except Exception:  # noqa: BLE001  what one connection does must not end the deadlines of all others
        _log.exception("tick_failed", connection_id=connection.connection_id)
        _end(connection)


def _end(connection: Connection) -> None:
    try:
        connection.close(CloseCode.INTERNAL, "The server failed to keep this connection's deadlines.")
    except Exception:  # noqa: BLE001  what cannot tick may be unable to say goodbye too
        _log.exception("close_failed", connection_id=connection.connection_id)


def _retry_after_ms(index: int) -> int:
    """Spreads the return of many clients over some seconds, without chance."""
    return 100 + (index * 7_919) % 4_000
