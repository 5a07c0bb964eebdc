"""Peers that do not keep the rules: raw sockets and frames, and servers with little patience."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from websockets.frames import Frame, Opcode

from tests.harness import RunningServer, ServerProcess

BOUND_S = 8.0
"""How long anything here may take that must happen."""


class RawPeer:
    """A TCP connection to the server, and the WebSocket frames that come over it once it is upgraded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def upgrade(self, **headers: str) -> int:
        """Ask for the WebSocket; the HTTP status of the answer."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = {
            "Host": "127.0.0.1", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key, **headers,
        }  # fmt: skip
        request = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.writer.write(f"GET /api/sync/ws HTTP/1.1\r\n{request}\r\n".encode())
        async with asyncio.timeout(BOUND_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1])

    def send(self, payload: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True, mask: bool = True) -> None:
        self.writer.write(Frame(opcode, payload, fin=fin).serialize(mask=mask))

    async def close_code(self) -> int | None:
        """The code of the server's close frame; None if the connection just ended."""
        async with asyncio.timeout(BOUND_S):
            while True:
                frame = await self._frame()
                if frame is None:
                    return None
                if frame.opcode is Opcode.CLOSE:
                    return int.from_bytes(frame.data[:2])

    async def ended(self) -> None:
        """Return once the server has ended the connection."""
        async with asyncio.timeout(BOUND_S):
            with suppress(ConnectionError):
                while await self.reader.read(65_536):
                    pass

    async def _frame(self) -> Frame | None:
        try:
            head = await self.reader.readexactly(2)
            length = head[1] & 0x7F
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2))
            elif length == 127:
                length = int.from_bytes(await self.reader.readexactly(8))
            return Frame(Opcode(head[0] & 0x0F), await self.reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None


@asynccontextmanager
async def raw_peer(server: RunningServer | ServerProcess) -> AsyncIterator[RawPeer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield RawPeer(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what must become true."""
    async with asyncio.timeout(BOUND_S):
        while not holds():  # noqa: ASYNC110  what is waited for is a state, and has no event
            await asyncio.sleep(0.01)
