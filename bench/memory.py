"""Memory of an idle, subscribed connection, beside an idle connection of a bare `websockets` server."""

import resource
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Extent, Figure, command
from bench.machine import resident_bytes
from bench.peers import open_bare, open_clients
from bench.servers import bare_server, sync_server

TITLE = "Memory"
USERS = 100
WARM_UP = 100
"""Connections that are opened and not counted: what the first ones load stays for all."""
SETTLE_S = 3


def measure(extent: Extent, directory: Path) -> Iterator[Figure]:
    count = extent.choose(500, 5_000)
    allow_files(2 * count + 1_000)
    names = [(str(n % USERS + 1), f"c{n}") for n in range(count + WARM_UP)]
    with sync_server(directory) as served:
        peers = open_clients(served.port, names[:WARM_UP])
        time.sleep(SETTLE_S)
        before = resident_bytes(served.pid)
        peers += open_clients(served.port, names[WARM_UP:])
        time.sleep(SETTLE_S)
        each = (resident_bytes(served.pid) - before) / count
        yield Figure("the server itself, before they connect", before / 2**20, "MiB")
    for peer in peers:
        peer.close()
    name = f"a connection of {count:,}, of {USERS} users"
    yield Figure(name, each / 1024, "KiB", _bare_bytes(count) / 1024, "aim <= 30 KiB")


def allow_files(count: int) -> None:
    """Let this process and its children have so many sockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard))


def _bare_bytes(count: int) -> float:
    with bare_server() as served:
        peers = open_bare(served.port, WARM_UP)
        time.sleep(SETTLE_S)
        before = resident_bytes(served.pid)
        peers += open_bare(served.port, count)
        time.sleep(SETTLE_S)
        taken = resident_bytes(served.pid) - before
    for peer in peers:
        peer.close()
    return taken / count


if __name__ == "__main__":
    command(TITLE, measure)
