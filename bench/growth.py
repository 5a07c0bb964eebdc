"""What an operation costs when the database is small, large and very large."""

import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bench.figures import Extent, Figure, command
from bench.machine import CLIENT_CORE, SERVER_CORE, pinned
from bench.notes import CONTENT, sync_frame
from bench.operations import Clients, Load
from bench.peers import Peer, open_clients
from bench.raw_sqlite import commits, connect, fill, scattered
from bench.servers import sync_server

TITLE = "Growth"
LOAD = Load(4, 100, "")
EACH = 100
TARGET = "<= 1.5 x the smallest"
FAR = 100_000_000
"""Beyond every number that is taken."""
WARM_UP_SHARE = 4
"""One note in four is changed before the clock runs: a table filled at once has full pages, which that splits."""


def measure(extent: Extent, directory: Path) -> Iterator[Figure]:
    seconds = extent.choose(1, 5)
    sizes = [1_000, extent.choose(10_000, 100_000), *([1_000_000] if extent.full else [])]
    for size in sizes:
        home = directory / str(size)
        fill(home, size)
        shutil.copytree(home, directory / f"raw-{size}")
        raw = _raw_microseconds(directory / f"raw-{size}", size, seconds, among=None)
        raw_updating = _raw_microseconds(directory / f"raw-{size}", FAR, seconds, among=size)
        with sync_server(home) as served:
            updating = _update_microseconds(served.port, size, seconds)
            clients = Clients(served, LOAD)
            creating = 1e6 / clients.run(seconds).rate
            clients.close()
        yield Figure(f"{size:,} entities: a create", creating, "us", raw, TARGET)
        yield Figure(f"{size:,} entities: an update, spread over all", updating, "us", raw_updating, TARGET)
        shutil.rmtree(home)
        shutil.rmtree(directory / f"raw-{size}")


def _update_microseconds(port: int, size: int, seconds: float) -> float:
    """One client that changes notes all over the table, a hundred a frame, and waits for each ack."""
    peer = open_clients(port, [("1", "updater")])[0]
    warm_up = size // WARM_UP_SHARE // EACH
    steps = 0
    with pinned(CLIENT_CORE):
        while steps < warm_up:
            _update_some(peer, steps, size)
            steps += 1
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            _update_some(peer, steps, size)
            steps += 1
        taken = time.perf_counter() - began
    peer.close()
    return taken / (steps - warm_up) / EACH * 1e6


def _update_some(peer: Peer, step: int, size: int) -> None:
    peer.send(_updates(peer, step * EACH, size))
    reply = peer.next_payload(b'"sync_response"')
    if reply.count(b'"success":true') != EACH:
        raise ConnectionError(reply[:2_000].decode())


def _updates(peer: Peer, first: int, size: int) -> bytes:
    return sync_frame("updater", [_update(first + index, size) for index in range(EACH)], peer.cursor)


def _update(number: int, size: int) -> dict[str, object]:
    changes = {"title": f"Renamed {number}", "content": CONTENT}
    return {
        "operation_id": f"update_{number}", "operation_type": "update", "entity_type": "note",
        "entity_id": scattered(number, size),
        "changes": changes,
    }  # fmt: skip


def _raw_microseconds(directory: Path, after: int, seconds: float, *, among: int | None) -> float:
    connection = connect(directory)
    warm_up = among // WARM_UP_SHARE // EACH if among is not None else 0
    first = after + 1 + warm_up * EACH
    with pinned(SERVER_CORE):
        list(islice(commits(connection, batch=EACH, per_sync=EACH, first=after + 1, among=among), warm_up))
        made = list(commits(connection, batch=EACH, per_sync=EACH, seconds=seconds, first=first, among=among))
    connection.close()
    return sum(commit.wall_s for commit in made) / len(made) / EACH * 1e6


if __name__ == "__main__":
    command(TITLE, measure)
