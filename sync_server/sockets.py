"""One WebSocket to write to, never waiting: frames built once, whoever receives them.

A peer that reads slowly fills the transport's buffer up to a mark; past it the socket is `congested`, and whoever
pushes stops until it has `drained`. So the memory of a connection is bounded whatever its peer does (promise P11).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Protocol

from websockets.frames import Frame, Opcode

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TRANSPORT_EXTENSION = "sync_server.transport"
"""Key in the ASGI scope's extensions under which our server hands over the connection's protocol object."""


class Frames:
    """Encoded messages for any number of sockets of one codec; their bytes on the wire are made once."""

    __slots__ = ("_wire", "is_text", "payloads")

    def __init__(self, payloads: Sequence[bytes], *, is_text: bool) -> None:
        self.payloads = payloads
        self.is_text = is_text
        self._wire: bytes | None = None

    @property
    def wire(self) -> bytes:
        """RFC 6455 frames, unmasked as a server sends them."""
        if self._wire is None:
            opcode = Opcode.TEXT if self.is_text else Opcode.BINARY
            self._wire = b"".join(Frame(opcode, payload).serialize(mask=False) for payload in self.payloads)
        return self._wire


class Socket(Protocol):
    """Where frames go. `write` never waits and keeps order; nothing is written after `close`."""

    @property
    def congested(self) -> bool:
        """Whether more is buffered than should be: hold back what can wait."""
        ...

    def write(self, frames: Frames) -> None: ...

    @property
    def buffered_bytes(self) -> int:
        """How much of what was written the peer has not taken yet."""
        ...

    async def drained(self) -> None:
        """Return once the socket is no longer congested, or is gone."""
        ...

    def close(self, code: int, reason: str, *, timeout_s: float) -> Awaitable[None]:
        """Take nothing more from now on; once awaited, write what is buffered and close, or cut after `timeout_s`."""
        ...

    def release(self) -> None:
        """Nobody writes any more: let go of whatever the socket holds."""
        ...


async def room(socket: Socket, *, patience_s: float) -> None:
    """Return once the socket is not congested, however slowly its peer takes what waits for it.

    Raises:
        TimeoutError: the peer took nothing at all for `patience_s`.
    """
    while socket.congested:
        before = socket.buffered_bytes
        try:
            async with asyncio.timeout(patience_s):
                await socket.drained()
        except TimeoutError:
            if socket.buffered_bytes >= before:
                raise


class TransportSocket:
    """Writes frames straight to the transport of our own server: one system call, shared bytes, no task."""

    __slots__ = ("_closed", "_protocol", "_send")

    def __init__(self, protocol: Any, send: Send, *, buffer_bytes: int) -> None:
        self._protocol = protocol
        self._send = send
        self._closed = False
        protocol.transport.set_write_buffer_limits(high=buffer_bytes, low=buffer_bytes // 4)

    @property
    def congested(self) -> bool:
        return not self._protocol.writable.is_set()

    @property
    def buffered_bytes(self) -> int:
        return int(self._protocol.transport.get_write_buffer_size())

    def write(self, frames: Frames) -> None:
        transport = self._protocol.transport
        if not self._closed and not transport.is_closing():
            transport.write(frames.wire)

    async def drained(self) -> None:
        await self._protocol.writable.wait()

    def close(self, code: int, reason: str, *, timeout_s: float) -> Awaitable[None]:
        self._closed = True  # no data may follow a close frame (RFC 6455, 5.5.1)
        return self._close(code, reason, timeout_s)

    async def _close(self, code: int, reason: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except (TimeoutError, OSError, RuntimeError):
            self._protocol.transport.abort()

    def release(self) -> None:
        pass  # the server closes its transport itself


class AsgiSocket:
    """Writes frames through ASGI, for other servers and for tests in process: a queue and the task that empties it."""

    __slots__ = ("_buffer_bytes", "_closed", "_event", "_queue", "_queued_bytes", "_send", "_task")

    def __init__(self, send: Send, *, buffer_bytes: int) -> None:
        self._send = send
        self._buffer_bytes = buffer_bytes
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._queued_bytes = 0
        self._event = asyncio.Event()
        self._closed = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def congested(self) -> bool:
        return self._queued_bytes > self._buffer_bytes and not self._closed

    @property
    def buffered_bytes(self) -> int:
        return self._queued_bytes

    def write(self, frames: Frames) -> None:
        if self._closed:
            return
        for payload in frames.payloads:
            self._queue.append((payload, frames.is_text))
            self._queued_bytes += len(payload)
        self._event.set()

    async def drained(self) -> None:
        while self.congested:
            self._event.clear()
            await self._event.wait()

    def close(self, code: int, reason: str, *, timeout_s: float) -> Awaitable[None]:
        self._closed = True
        self._event.set()
        return self._close(code, reason, timeout_s)

    async def _close(self, code: int, reason: str, timeout_s: float) -> None:
        done, _ = await asyncio.wait({self._task}, timeout=timeout_s)
        if done:
            try:
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
            except (OSError, RuntimeError):
                return  # the peer went first
        else:
            self._task.cancel()

    def release(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            while self._queue:
                payload, is_text = self._queue.popleft()
                key, value = ("text", payload.decode()) if is_text else ("bytes", payload)
                try:
                    await self._send({"type": "websocket.send", key: value})
                except (OSError, RuntimeError):
                    self._closed = True
                self._queued_bytes -= len(payload)
                self._event.set()
            if self._closed:
                return
            self._event.clear()
            await self._event.wait()
