"""Many WebSocket clients that cost little: plain sockets, read together."""

import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from bench.peers import SECRET, Peer, Poll, masked
from tests.faults.processes import MANY
from tests.harness import ServerProcess, running_server, server_process

TEAM = "team"
BOUND_S = 120.0


@asynccontextmanager
async def serving_a_team(data_dir: Path, members: int, **environment: str) -> AsyncIterator[ServerProcess]:
    """A server process whose users 0, 1, … are editors of one space."""
    async with running_server(data_dir) as server:
        await server.share(TEAM, **{f"_{number}": "editor" for number in range(members)})
    with crowd_process(data_dir, **environment) as process:
        yield process


@contextmanager
def crowd_process(data_dir: Path, **environment: str) -> Iterator[ServerProcess]:
    """A server process that knows the tokens of these clients, with no limits in their way."""
    with server_process(data_dir, **{**MANY, "SYNC_AUTH_SECRET": SECRET, **environment}) as process:
        yield process


def notes(client_id: str, cursor: str, start: int, count: int) -> bytes:
    """The frame of one request that creates notes in the team's space."""
    operations = [
        {
            "operation_id": f"{client_id}-{number}", "operation_type": "create", "entity_type": "note",
            "space_id": TEAM, "data": {"title": f"Note number {number}", "content": "x" * 40},
        }
        for number in range(start, start + count)
    ]  # fmt: skip
    data = {"client_id": client_id, "operations": operations, "client_state": {"cursor": cursor}}
    return masked(json.dumps({"type": "sync", "message_id": f"m{start}", "data": data}).encode())


def await_mark(peers: Sequence[Peer], mark: bytes) -> list[float]:
    """Read all peers until each has got a frame with the mark; the moments at which they had it."""
    waiting = {id(peer) for peer in peers}
    moments = []
    poll = Poll(peers)
    until = time.monotonic() + BOUND_S
    try:
        while waiting:
            assert time.monotonic() < until, f"{len(waiting)} of {len(peers)} got no {mark.decode()}"
            for peer in poll.ready(1.0):
                payloads = peer.payloads()
                if id(peer) in waiting and any(mark in payload for payload in payloads):
                    waiting.discard(id(peer))
                    moments.append(time.monotonic())
    finally:
        poll.close()
    return moments
