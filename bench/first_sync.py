"""A fresh client takes everything: a snapshot pushed after the handshake, and the same paged by sync requests."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Extent, Figure, command, median
from bench.machine import CLIENT_CORE, SERVER_CORE, pinned
from bench.notes import sync_frame
from bench.peers import TIMEOUT_S, Peer, handshake, open_bare, open_clients, token_for
from bench.pushes import MARK
from bench.raw_sqlite import connect, fill
from bench.servers import sync_server

TITLE = "First sync"
PAGE = 1_000
TARGET = ">= 60 k"
ROUNDS = 3


def measure(extent: Extent, directory: Path) -> Iterator[Figure]:
    count = extent.choose(10_000, 100_000)
    fill(directory, count)
    turns = range(extent.choose(1, ROUNDS))
    with sync_server(directory) as served:
        pushed, paged, raw = [], [], []
        for turn in turns:
            pushed.append(count / _seconds_pushed(served.port, count, f"pushed-{turn}"))
            paged.append(count / _seconds_paged(served.port, count, f"paged-{turn}"))
            raw.append(count / _seconds_raw(directory, count))
    yield Figure(f"{count:,} notes pushed (raw: sqlite3 reads them)", median(pushed), "rows/s", median(raw), TARGET)
    yield Figure(f"{count:,} notes by pages of {PAGE:,}", median(paged), "rows/s", median(raw), TARGET)


def _seconds_pushed(port: int, count: int, client_id: str) -> float:
    peer = open_bare(port, 1)[0]
    greeting = handshake(token_for("1"), client_id, batches=True, subscriptions={"incremental": False})
    with pinned(CLIENT_CORE):
        began = time.perf_counter()
        peer.send(greeting)
        _take_marks(peer, count)
        taken = time.perf_counter() - began
    peer.close()
    return taken


def _take_marks(peer: Peer, count: int) -> None:
    until = time.perf_counter() + TIMEOUT_S
    seen = 0
    while seen < count and time.perf_counter() < until:
        seen += sum(payload.count(MARK) for payload in peer.payloads())
    if seen != count:
        raise ConnectionError(f"{seen} rows came instead of {count}")


def _seconds_paged(port: int, count: int, client_id: str) -> float:
    peer = open_clients(port, [("1", client_id)])[0]
    cursor: str | None = None
    seen = 0
    with pinned(CLIENT_CORE):
        began = time.perf_counter()
        for _ in range(count // PAGE + 2):
            peer.send(sync_frame(client_id, [], cursor, batch_size=PAGE))
            page = peer.next_payload(b'"sync_response"')
            seen += page.count(MARK)
            state = json.loads(page[page.rindex(b'"new_client_state":') + len(b'"new_client_state":') : -2])
            cursor = state["cursor"]
            if not state["has_more"]:
                break
        taken = time.perf_counter() - began
    peer.close()
    if seen != count:
        raise ConnectionError(f"{seen} rows came instead of {count}")
    return taken


def _seconds_raw(directory: Path, count: int) -> float:
    """Reading the same columns of the same rows in the same order, by the same pages."""
    connection = connect(directory)
    after = 0
    with pinned(SERVER_CORE):
        began = time.perf_counter()
        while after < count:
            rows = connection.execute(
                "SELECT seq, space_id, entity_type, entity_id, version, deleted, data, updated_at, modified_by, "
                "created_seq FROM entities WHERE space_id = 'u-1' AND created_seq > ? AND deleted = 0 "
                "ORDER BY created_seq LIMIT ?",
                (after, PAGE),
            ).fetchall()
            after = rows[-1][-1]
        taken = time.perf_counter() - began
    connection.close()
    return taken


if __name__ == "__main__":
    command(TITLE, measure)
