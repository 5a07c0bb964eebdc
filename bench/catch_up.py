"""Many clients come back at once, each behind by the same changes: from the server's memory, and after its restart."""

import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Extent, Figure, command
from bench.machine import CLIENT_CORE, SERVER_CORE, pinned
from bench.notes import create_frames
from bench.peers import TIMEOUT_S, Poll, handshake, open_bare, open_clients, token_for
from bench.pushes import Crowd
from bench.raw_sqlite import connect
from bench.servers import sync_server

TITLE = "Catch-up"
BEHIND = 100


def measure(extent: Extent, directory: Path) -> Iterator[Figure]:
    clients = extent.choose(100, 1_000)
    name = f"{clients:,} clients x {BEHIND} changes, "
    with sync_server(directory) as served:
        cursor = _write_behind(served.port)
        rate = clients * BEHIND / _seconds(served.port, clients, cursor)
        yield Figure(name + "from memory", rate, "rows/s")
    raw = clients * BEHIND / _seconds_raw(directory, clients)
    with sync_server(directory) as served:
        rate = clients * BEHIND / _seconds(served.port, clients, cursor)
        yield Figure(name + "from the database (raw: sqlite3)", rate, "rows/s", raw)


def _write_behind(port: int) -> str:
    """The cursor of a client that then misses the changes."""
    peer = open_clients(port, [("1", "writer")])[0]
    peer.send(create_frames("writer", peer.cursor, 1, each=BEHIND)[0])
    peer.wait_for("sync_response")
    peer.close()
    return peer.cursor


def _seconds(port: int, count: int, cursor: str) -> float:
    """From the first handshake until the last client has the last change; the sockets are open before."""
    peers = open_bare(port, count)
    crowd = Crowd(peers)
    poll = Poll(peers)
    token = token_for("1")
    greetings = [handshake(token, f"c{n}", batches=True, cursor=cursor) for n in range(count)]
    with pinned(CLIENT_CORE):
        began = time.perf_counter()
        for peer, greeting in zip(peers, greetings, strict=True):
            peer.send(greeting)
        while crowd.counted < count * BEHIND and time.perf_counter() - began < TIMEOUT_S:
            for peer in poll.ready(1):
                crowd.read(peer)
        taken = time.perf_counter() - began
    poll.close()
    for peer in peers:
        peer.close()
    if crowd.counted != count * BEHIND:
        raise ConnectionError(f"{count * BEHIND - crowd.counted} changes did not arrive")
    return taken


def _seconds_raw(directory: Path, count: int) -> float:
    """The same query for each client, one after the other."""
    connection = connect(directory)
    with pinned(SERVER_CORE):
        began = time.perf_counter()
        for _ in range(count):
            connection.execute(
                "SELECT seq, space_id, entity_type, entity_id, version, operation_type, data, modified_at, "
                "modified_by, client_id FROM changes WHERE space_id = 'u-1' AND seq > 0 AND seq <= ? "
                "ORDER BY seq LIMIT 500",
                (BEHIND,),
            ).fetchall()
        taken = time.perf_counter() - began
    connection.close()
    return taken


if __name__ == "__main__":
    command(TITLE, measure)
