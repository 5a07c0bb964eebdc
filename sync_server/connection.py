"""The I/O shell of one WebSocket around the pure machine: frames in, commands carried out, one at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from sync_server import metrics
from sync_server.auth import Principal
from sync_server.clock import monotonic_s, now_ms
from sync_server.errors import CloseCode, CommandError, ErrorCode
from sync_server.protocol.client_messages import CLIENT_MESSAGES, ClientMessage, Handshake
from sync_server.protocol.codec import Codec
from sync_server.protocol.machine import Close, Command, Deliver, Machine, Send
from sync_server.protocol.replies import error_frame
from sync_server.protocol.states import State
from sync_server.sockets import Frames, Socket, room
from sync_server.subscribers import Subscriber
from sync_server.types import ClientId, ConnectionId, Json, format_time

_log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S = 2.0
"""How long a close may wait for a peer that does not read, before the connection is cut."""

_FRAMES = {model: metrics.FRAMES.labels(name) for name, model in CLIENT_MESSAGES.items()}

Handler = Callable[["Connection", ClientMessage], Awaitable[None]]


class Connection:
    """One WebSocket from accept to close.

    Attributes:
        greeting: the handshake, once it was accepted.
        principal: whom the token names, once it was.
        subscriber: how the hub knows this connection, once it is READY.
        is_resumed: whether the client named a cursor from which it is fed, so that it had told what it has.
    """

    __slots__ = (
        "_closing", "_handle", "_is_busy", "_leave_after_ms", "_machine", "_patience_s", "_receive", "codec",
        "connection_id", "greeting", "is_resumed", "principal", "socket", "subscriber",
    )  # fmt: skip

    def __init__(
        self,
        connection_id: ConnectionId,
        machine: Machine,
        codec: Codec,
        socket: Socket,
        receive: Callable[[], Awaitable[Any]],
        handle: Handler,
        *,
        patience_s: float,
    ) -> None:
        self.connection_id = connection_id
        self.codec = codec
        self.socket = socket
        self._patience_s = patience_s
        self.greeting: Handshake | None = None
        self.principal: Principal | None = None
        self.subscriber: Subscriber | None = None
        self.is_resumed = False
        self._machine = machine
        self._receive = receive
        self._handle = handle
        self._closing: asyncio.Future[None] | None = None
        self._is_busy = False
        self._leave_after_ms: int | None = None

    @property
    def client_id(self) -> ClientId:
        return ClientId(self.greeting.client_id if self.greeting is not None else "")

    @property
    def is_ready(self) -> bool:
        return self._machine.state is State.READY

    async def serve(self) -> None:
        """Take frames until the connection is gone, then wait for its close to end."""
        try:
            while True:
                await self._make_room()
                event = await self._receive()
                if event["type"] == "websocket.disconnect":
                    break
                frame = event.get("text")
                await self._carry_out(
                    self._machine.receive(frame if frame is not None else event["bytes"], now=monotonic_s())
                )
        finally:
            self._machine.closed()
            if self._closing is not None:
                await self._closing

    def tick(self, now: float) -> None:
        """Do what the passing of time asks for; a connection whose message is being handled is not silent."""
        if self._is_busy or now < self._machine.deadline:
            return
        self._say(self._machine.tick(now))

    def greeted(self, greeting: Handshake) -> None:
        self.greeting = greeting
        self._machine.greeted()

    def authenticated(self, principal: Principal) -> None:
        """The token was good: from now on, and until it ends, the connection is the principal's."""
        self.principal = principal
        now = monotonic_s()
        expires_at = now + (principal.expires_at - now_ms()) / 1000
        self._machine.authenticated(expires_at=expires_at, expires_at_text=format_time(principal.expires_at), now=now)

    def send(self, message: Mapping[str, object]) -> None:
        """Write one message for this connection alone; the one place that stamps a missing `timestamp`."""
        if "timestamp" not in message:
            message = {**message, "timestamp": format_time(now_ms())}
        self.socket.write(Frames((self.codec.encode(message),), is_text=self.codec.opcode_is_text))

    def close(self, code: CloseCode, reason: str, *, retry_after_ms: int = 0) -> None:
        """Say goodbye and close; harmless when it is closing already."""
        self._say(self._machine.close(code, reason, retry_after_ms=retry_after_ms))

    def drain(self, *, retry_after_ms: int) -> None:
        """Send the client elsewhere, after the answer to what it has asked already."""
        if self._is_busy:
            self._leave_after_ms = retry_after_ms
        else:
            self._say(self._machine.drain(retry_after_ms=retry_after_ms))

    def _say(self, commands: list[Command]) -> None:
        """Carry out what the machine says of itself; only a frame makes it deliver something."""
        for command in commands:
            match command:
                case Send(message):
                    self.send(message)
                case Close(code, reason):
                    self._start_close(code, reason)
                case Deliver():
                    pass

    async def _make_room(self) -> None:
        """Take no further frame before the answers to earlier ones are read: they would pile up (promise P11)."""
        try:
            await room(self.socket, patience_s=self._patience_s)
        except TimeoutError:
            self.close(CloseCode.SLOW_CONSUMER, "This connection takes nothing of what waits for it.")

    async def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Deliver(message):
                    await self._deliver(message)
                case Send(reply):
                    self.send(reply)
                case Close(code, reason):
                    self._start_close(code, reason)

    async def _deliver(self, message: ClientMessage) -> None:
        _FRAMES[type(message)].inc()
        self._is_busy = True
        try:
            await self._handle(self, message)
        except CommandError as error:
            self.send(error_frame(error, message_id=message.message_id))
        except Exception:  # noqa: BLE001  the one place where a bug becomes an answer without its text
            _log.exception("message_failed")
            failure = CommandError(
                ErrorCode.SYNC_ERROR, "The server failed to handle this message; send it again later."
            )
            self.send(error_frame(failure, message_id=message.message_id))
        finally:
            self._is_busy = False
        if self._leave_after_ms is not None:
            self.drain(retry_after_ms=self._leave_after_ms)

    def _start_close(self, code: CloseCode, reason: str) -> None:
        metrics.CLOSES.labels(str(int(code))).inc()
        _log.info("connection_closing", code=int(code), reason=reason)
        work = self.socket.close(int(code), reason, timeout_s=CLOSE_TIMEOUT_S)
        self._closing = asyncio.ensure_future(work)


def failed(error: CommandError) -> Json:
    """The members by which a reply of its own type says that it failed."""
    reply: Json = {"success": False, "error": error.message, "error_code": error.code}
    if error.details:
        reply["details"] = error.details
    return reply
