"""The network between devices and a server: delays, cuts at any byte, silence, slowness, repeated frames.

A WebSocket is two pipes of bytes. What the server writes are its real frames; what of them has come whole when a
connection is cut is heard, and the rest is not.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from random import Random
from typing import Any, NamedTuple

import httpx2 as httpx
from sync_client.events import Lost
from sync_client.links.port import LinkLostError, refusal
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from sync_server.sockets import TRANSPORT_EXTENSION
from sync_server.testing.loop import Node

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Scope]], Callable[[Scope], Awaitable[None]]], Awaitable[None]]

ABNORMAL = 1006
TAKE_S = 0.05
"""How often a slow reader takes something."""
CLOSE_S = 2.0
"""How long the server waits for the answer to its close frame."""
HEADERS_S = 10.0
MAX_FRAME = 64 * 1024 * 1024
MOST_OF_A_DELAY_S = 0.08


class Server(NamedTuple):
    """Where connections go while a server runs."""

    app: App
    node: Node


class Line:
    """The way between one device and the server, good or bad.

    Attributes:
        server: who answers at the other end; None while nobody does.
        is_up: connections can be made.
        is_silent: what is sent is lost, and nobody is told.
        bytes_per_s: how fast the device takes what the server sends; None without a limit.
        was_cut_silently: some connection ended and the device was not told.
        repeats: how likely it is that a message of the device comes twice.
    """

    def __init__(self, address: str, chance: Random) -> None:
        self.address = address
        self.chance = chance
        self.server: Server | None = None
        self.is_up = True
        self.is_silent = False
        self.bytes_per_s: float | None = None
        self.was_cut_silently = False
        self.repeats = 0.0
        self.ends: dict[Wire | Exchange, None] = {}

    def delay_s(self) -> float:
        return 0.0005 + self.chance.random() ** 4 * MOST_OF_A_DELAY_S

    def cut(self, *, tell_device: bool = True, tell_server: bool = True) -> None:
        """End every connection in the middle of whatever it carries."""
        self.was_cut_silently |= not tell_device
        for end in list(self.ends):
            end.cut(tell_device=tell_device, tell_server=tell_server)
        self.ends.clear()

    async def reach(self) -> Server:
        """
        Raises:
            ConnectionRefusedError: nobody listens.
            TimeoutError: nothing answers.
        """
        await asyncio.sleep(self.delay_s())
        if self.is_silent:
            await asyncio.sleep(HEADERS_S)
            raise TimeoutError
        if not self.is_up or self.server is None:
            raise ConnectionRefusedError
        return self.server


class _Pipe:
    """Bytes on their way in one direction, in order."""

    def __init__(self, line: Line, node: Node, arrive: Callable[[bytes], None], moved: Callable[[], None]) -> None:
        self._line = line
        self._node = node
        self._arrive = arrive
        self._moved = moved
        self._waiting: deque[bytes] = deque()
        self._is_moving = False
        self.is_slow = False
        self.is_cut = False
        self.size = 0

    def write(self, data: bytes) -> None:
        if self.is_cut:
            return
        self._waiting.append(data)
        self.size += len(data)
        self._move()

    def cut(self, *, tell: bool) -> None:
        """Some of what is under way may still come."""
        if not self.is_cut:
            self.is_cut = True
            rest = b"".join(self._waiting)
            if tell and rest and not self._line.is_silent:
                self._arrive(rest[: self._line.chance.randrange(len(rest) + 1)])

    def _move(self) -> None:
        if self._is_moving or not self._waiting:
            return
        self._is_moving = True
        rate = self._line.bytes_per_s if self.is_slow else None
        self._node.soon(self._line.delay_s() if rate is None else TAKE_S, self._take, rate)

    def _take(self, rate: float | None) -> None:
        self._is_moving = False
        if self.is_cut or self._line.is_silent:
            return
        data = b"".join(self._waiting)
        self._waiting.clear()
        if rate is not None:
            some = max(1, int(rate * TAKE_S))
            if some < len(data):
                self._waiting.append(data[some:])
                data = data[:some]
        self.size -= len(data)
        self._arrive(data)
        self._moved()
        self._move()


class Wire:
    """One WebSocket: what the server's transport is to the server, and a connection to the device."""

    def __init__(self, line: Line, server: Server, device: Node, subprotocol: str | None) -> None:
        self._line = line
        self._device = device
        self._server = server
        self._up = _Pipe(line, server.node, self._to_server, _nothing)
        self._down = _Pipe(line, device, self._to_device, self._drained)
        self._down.is_slow = True
        self._parse_up, self._parse_down = _parser(), _parser()
        self._events: asyncio.Queue[Scope] = asyncio.Queue()
        self._events.put_nowait({"type": "websocket.connect"})
        self._is_over = False
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._limits = (65_536, 16_384)
        self.writable = asyncio.Event()
        self.writable.set()
        self.transport = self
        self.opened: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._scope: Scope = {
            "type": "websocket", "scheme": "ws", "path": "/api/sync/ws", "raw_path": b"/api/sync/ws", "root_path": "",
            "query_string": b"", "headers": [(b"host", b"sync.test")], "client": (line.address, 1),
            "server": ("sync.test", 80), "subprotocols": [subprotocol] if subprotocol is not None else [], "state": {},
            "extensions": {TRANSPORT_EXTENSION: self, "websocket.http.response": {}},
        }  # fmt: skip
        line.ends[self] = None
        server.node.soon(line.delay_s(), self._begin)

    # --- the device's end ------------------------------------------------------------------------------------------

    def send(self, data: bytes, *, is_text: bool, may_repeat: bool) -> None:
        if self._is_over:
            return
        frame = Frame(Opcode.TEXT if is_text else Opcode.BINARY, data).serialize(mask=False)
        self._up.write(frame)
        if may_repeat and self._line.chance.random() < self._line.repeats:
            self._up.write(frame)

    async def receive(self) -> bytes:
        """
        Raises:
            LinkLostError
        """
        frame = await self._frames.get()
        if frame is None:
            raise LinkLostError(Lost("the connection was cut", is_odd=True))
        if frame.opcode is Opcode.CLOSE:
            closed = Close.parse(bytes(frame.data))
            self._hang_up(closed.code)
            raise LinkLostError(Lost(closed.reason or "closed", code=int(closed.code)))
        return bytes(frame.data)

    def close(self) -> None:
        """The device leaves in good order, if that can still be told."""
        if not self._line.is_silent:
            self._hang_up(1000)

    def cut(self, *, tell_device: bool, tell_server: bool) -> None:
        self._line.ends.pop(self, None)
        self._up.cut(tell=tell_server)
        self._down.cut(tell=tell_device)
        if tell_device:
            self._frames.put_nowait(None)
            if not self.opened.done():
                self.opened.set_exception(LinkLostError(Lost("cut while it was opened", is_odd=True)))
                self.opened.exception()
        if tell_server:
            self._disconnect(ABNORMAL)

    # --- the server's end: what it asks of uvicorn's protocol and transport -------------------------------------------

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self._limits = (high, low)

    def get_write_buffer_size(self) -> int:
        return self._down.size

    def is_closing(self) -> bool:
        return self._is_over

    def write(self, data: bytes) -> None:
        self._down.write(data)
        if self._down.size > self._limits[0]:
            self.writable.clear()

    def abort(self) -> None:
        self._line.ends.pop(self, None)
        self._up.cut(tell=False)
        self._down.cut(tell=True)
        if not self._line.is_silent:
            self._device.soon(self._line.delay_s(), self._frames.put_nowait, None)
        self._disconnect(ABNORMAL)

    # --- between ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._server.node.start(self._serve())

    async def _serve(self) -> None:
        await self._server.app(self._scope, self._events.get, self._on_send)
        if not self._is_over:
            self.abort()

    async def _on_send(self, event: Scope) -> None:
        match event["type"]:
            case "websocket.accept":
                self._answer(event["subprotocol"])
            case "websocket.http.response.start":
                headers = {name.decode(): value.decode() for name, value in event["headers"]}
                self._answer(LinkLostError(refusal(event["status"], headers.get("retry-after"), "to a WebSocket")))
            case "websocket.http.response.body":
                self._is_over = True
            case "websocket.close":
                await self.writable.wait()
                reason = Close(event["code"], event.get("reason") or "").serialize()
                self._down.write(Frame(Opcode.CLOSE, reason).serialize(mask=False))
                self._server.node.soon(CLOSE_S, self._disconnect, ABNORMAL)

    def _answer(self, answer: str | LinkLostError | None) -> None:
        if self._line.is_silent or not self._line.is_up:
            return

        def tell() -> None:
            if self.opened.done() or self._line.is_silent:
                return
            if isinstance(answer, LinkLostError):
                self.opened.set_exception(answer)
            else:
                self.opened.set_result(answer)

        self._device.soon(self._line.delay_s(), tell)

    def _to_device(self, data: bytes) -> None:
        for frame in _parsed(self._parse_down, data):
            self._frames.put_nowait(frame)

    def _to_server(self, data: bytes) -> None:
        for frame in _parsed(self._parse_up, data):
            key = "text" if frame.opcode is Opcode.TEXT else "bytes"
            value = bytes(frame.data).decode() if key == "text" else bytes(frame.data)
            self._events.put_nowait({"type": "websocket.receive", key: value})

    def _drained(self) -> None:
        if self._down.size <= self._limits[1]:
            self.writable.set()

    def _hang_up(self, code: int) -> None:
        self._line.ends.pop(self, None)
        self._server.node.soon(self._line.delay_s(), self._disconnect, code)

    def _disconnect(self, code: int) -> None:
        if not self._is_over:
            self._is_over = True
            self.writable.set()
            self._events.put_nowait({"type": "websocket.disconnect", "code": code})


def _parser() -> Protocol:
    return Protocol(CLIENT, state=OPEN, max_size=MAX_FRAME)  # CLIENT: of frames that are not masked


def _parsed(parser: Protocol, data: bytes) -> list[Frame]:
    parser.receive_data(data)
    return [event for event in parser.events_received() if isinstance(event, Frame)]


def _nothing() -> None:
    pass


class Exchange(httpx.AsyncByteStream):
    """One HTTP request and its answer, which may go on for long."""

    def __init__(self, line: Line, server: Server, device: Node, request: httpx.Request, body: bytes) -> None:
        self._line = line
        self._server = server
        self._device = device
        self._request = request
        self._to_app: asyncio.Queue[Scope] = asyncio.Queue()
        self._to_app.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self._chunks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._arrives_at = 0.0
        self.started: asyncio.Future[tuple[int, list[tuple[bytes, bytes]]]] = asyncio.get_running_loop().create_future()
        line.ends[self] = None
        server.node.soon(line.delay_s(), self._begin)

    def cut(self, *, tell_device: bool, tell_server: bool) -> None:
        self._line.ends.pop(self, None)
        if tell_server:
            self._to_app.put_nowait({"type": "http.disconnect"})
        if tell_device:
            self._end(httpx.ReadError("the connection was cut", request=self._request))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunk()) is not None:
            yield chunk

    async def _chunk(self) -> bytes | None:
        try:
            async with asyncio.timeout(self._request.extensions["timeout"]["read"]):
                chunk = await self._chunks.get()
        except TimeoutError:
            raise httpx.ReadTimeout("nothing comes", request=self._request) from None
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    async def aclose(self) -> None:
        if self in self._line.ends:
            del self._line.ends[self]
            self._server.node.soon(self._line.delay_s(), self._to_app.put_nowait, {"type": "http.disconnect"})

    def _begin(self) -> None:
        self._server.node.start(self._serve())

    async def _serve(self) -> None:
        url = self._request.url
        scope: Scope = {
            "type": "http", "http_version": "1.1", "method": self._request.method, "scheme": "http",
            "path": url.path, "raw_path": url.raw_path, "root_path": "", "query_string": url.query,
            "headers": [(name.lower(), value) for name, value in self._request.headers.raw],
            "client": (self._line.address, 1), "server": ("sync.test", 80), "state": {}, "extensions": {},
        }  # fmt: skip
        await self._server.app(scope, self._to_app.get, self._on_send)

    async def _on_send(self, event: Scope) -> None:
        loop = asyncio.get_running_loop()
        self._arrives_at = max(self._arrives_at + 1e-6, loop.time() + self._line.delay_s())  # one after the other
        self._device.soon(self._arrives_at - loop.time(), self._arrive, event)

    def _arrive(self, event: Scope) -> None:
        if self not in self._line.ends or self._line.is_silent:
            return
        if event["type"] == "http.response.start":
            if not self.started.done():
                self.started.set_result((event["status"], list(event["headers"])))
            return
        if event.get("body"):
            self._chunks.put_nowait(event["body"])
        if not event.get("more_body", False):
            self._line.ends.pop(self, None)
            self._chunks.put_nowait(None)

    def _end(self, error: Exception) -> None:
        if not self.started.done():
            self.started.set_exception(error)
            self.started.exception()
        self._chunks.put_nowait(error)


class Transport(httpx.AsyncBaseTransport):
    """HTTP over a line."""

    def __init__(self, line: Line, device: Node) -> None:
        self._line = line
        self._device = device

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            server = await self._line.reach()
        except OSError:
            raise httpx.ConnectError("nobody listens", request=request) from None
        exchange = Exchange(self._line, server, self._device, request, await request.aread())
        read_s = request.extensions["timeout"]["read"]
        try:
            async with asyncio.timeout(read_s):
                status, headers = await exchange.started
        except TimeoutError:
            raise httpx.ReadTimeout("no answer", request=request) from None
        return httpx.Response(status, headers=headers, stream=exchange, request=request)
