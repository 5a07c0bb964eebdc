"""A process of clients that become READY and then do nothing: `idle_client.py HOST PORT TOKEN COUNT`.

Waits for a line on its input before it connects, writes a line when all are READY, ends with its input.
"""

import asyncio
import sys
from contextlib import AsyncExitStack

from tests.harness import open_client


async def main(host: str, port: str, token: str, count: str) -> None:
    sys.stdin.readline()
    async with AsyncExitStack() as stack:
        for number in range(int(count)):
            url = f"ws://{host}:{port}/api/sync/ws"
            client = await stack.enter_async_context(open_client(url, f"idle_{number}"))
            await client.greet(token=token)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
