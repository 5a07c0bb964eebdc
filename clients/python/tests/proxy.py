"""A way to the server that tests can cut, move and forbid things on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Forwards TCP connections.

    Attributes:
        target: the port to forward to; None refuses everybody.
        forbids_websockets: answers them with 403, as some proxies of companies do.
        forbids_streams: cuts `GET /events` at once.
        replies: what a server says passes; else it is swallowed, and the connection with it.
        websockets: how many were asked for.
    """

    def __init__(self, target: int | None) -> None:
        self.target = target
        self.forbids_websockets = False
        self.forbids_streams = False
        self.replies = True
        self.websockets = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Cut every connection, as a network that goes away does."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._serve(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        is_websocket = b"upgrade: websocket" in head.lower()
        self.websockets += is_websocket
        if self.target is None or (self.forbids_streams and b"/events" in head.split(b"\r\n")[0]):
            return
        if is_websocket and self.forbids_websockets:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.add(onward_writer)
        try:
            onward_writer.write(head)
            up = asyncio.create_task(self._requests(reader, onward_writer))
            await self._answers(onward_reader, writer)
            up.cancel()
        finally:
            self._writers.discard(onward_writer)
            onward_writer.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.forbids_streams and b"/events" in data:
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not self.replies:
                return
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def running_proxy(target: int | None) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()
