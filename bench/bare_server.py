"""A bare `websockets` server that sends to everybody what anybody sends: broadcasting with nothing around it."""

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def relay(port: int) -> None:
    connections: set[ServerConnection] = set()

    async def take(connection: ServerConnection) -> None:
        connections.add(connection)
        try:
            async for message in connection:
                broadcast(connections, message)
        finally:
            connections.discard(connection)

    async with serve(take, "127.0.0.1", port, compression=None, ping_interval=None, max_size=1 << 20, backlog=2_048):
        print(f"ws://127.0.0.1:{port}", flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(relay(int(sys.argv[1])))
