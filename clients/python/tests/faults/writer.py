"""A process that writes and syncs until it is killed: `python writer.py URL TOKEN STORE COUNT PREFIX`.

It prints the number of each note once it is written, so that whoever kills it knows what was answered.
"""

import asyncio
import sys

from sync_client import SyncClient


async def main(url: str, token: str, store: str, count: int, prefix: str) -> None:
    async with SyncClient(url, token=token, store=store) as notes:
        await asyncio.gather(*(_write(notes, worker, count, prefix) for worker in range(20)))
        await notes.settled()
        print("settled", flush=True)


async def _write(notes: SyncClient, worker: int, count: int, prefix: str) -> None:
    for number in range(worker, count, 20):
        await notes.create("note", title=f"{prefix}{number}")
        print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]))
