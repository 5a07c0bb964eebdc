"""Durable operations a second through the WebSocket, beside sqlite3 writing and syncing the same rows.

Every client waits for its ack before it sends again, so that an operation counts only once it is durable. Each client
is a user of its own: nobody is pushed anything. Server and raw work take turns, and the medians are compared.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.figures import Extent, Figure, command, median, percentile
from bench.machine import CLIENT_CORE, SERVER_CORE, pinned
from bench.notes import create_frames
from bench.peers import Peer, Poll, open_clients
from bench.raw_sqlite import commit_seconds, open_database
from bench.servers import sync_server

TITLE = "Durable operations"
_ACK = b'"sync_response"'
_APPLIED = b'"verdict":"applied"'
ROUNDS = 3
MOST_OPERATIONS_PER_S = 40_000
"""For how many operations frames are made beforehand."""


class Load(NamedTuple):
    """So many connections that each send frames of so many operations."""

    connections: int
    each: int
    target: str

    @property
    def raw_batch(self) -> int:
        """What is in flight at once when frames hold one operation, and else one frame, is one raw commit."""
        return self.each if self.each > 1 else self.connections

    @property
    def name(self) -> str:
        return f"{self.each} a frame, {self.connections} connections"


LOADS = (
    Load(4, 100, ">= 0.40, aim 0.6"),
    Load(16, 1, ">= 0.20, aim 0.35"),
    Load(64, 1, ">= 0.20, aim 0.35"),
)


def measure(extent: Extent, directory: Path) -> Iterator[Figure]:
    seconds = extent.choose(1, 4)
    for index, load in enumerate(LOADS):
        with sync_server(directory / f"server-{index}") as served:
            clients = Clients(served.port, load)
            found = [
                (clients.rate(seconds), raw_rate(directory / f"raw-{index}-{turn}", load, seconds))
                for turn in range(extent.choose(1, ROUNDS))
            ]
            rate, raw = (median(column) for column in zip(*found, strict=True))
            yield Figure(load.name, rate, "operations/s", raw, load.target)
            latencies = clients.ack_ms(rate / 2, seconds)
            commits = raw_commit_ms(directory / f"half-{index}", load, seconds)
            for percent in (50, 99):
                name = f"  ack p{percent} at half of that (raw: one commit)"
                yield Figure(name, percentile(latencies, percent), "ms", percentile(commits, percent))
            clients.close()
    single = Load(1, 1, "")
    raw = raw_rate(directory / "raw-single", single, seconds)
    yield Figure("1 a frame, 1 connection", _single_rate(directory, single, seconds), "operations/s", raw)


class Clients:
    """Connections of as many users, with frames made before the clock runs."""

    def __init__(self, port: int, load: Load) -> None:
        self._load = load
        self._peers = open_clients(port, [(str(n), f"c{n}") for n in range(1, load.connections + 1)])
        self._poll = Poll(self._peers)
        self._sent = dict.fromkeys(self._peers, 0)

    def rate(self, seconds: float) -> float:
        """Operations a second, acknowledged, when each connection always waits for one frame."""
        most = round(MOST_OPERATIONS_PER_S * seconds / self._load.connections / self._load.each)
        frames = {peer: self._frames(peer, most) for peer in self._peers}
        with pinned(CLIENT_CORE):
            began = time.perf_counter()
            acknowledged = 0
            waiting = 0
            for peer in self._peers:
                peer.send(next(frames[peer]))
                waiting += 1
            while waiting:
                for peer in self._poll.ready(10):
                    for payload in peer.payloads():
                        if _ACK not in payload[:100]:
                            continue
                        acknowledged += _applied(payload, self._load.each)
                        waiting -= 1
                        frame = next(frames[peer], None) if time.perf_counter() - began < seconds else None
                        if frame is not None:
                            peer.send(frame)
                            waiting += 1
            return acknowledged / (time.perf_counter() - began)

    def ack_ms(self, rate: float, seconds: float) -> list[float]:
        """From the moment when each operation was due to its ack, at a rate that waits for nobody."""
        count = int(rate * seconds / self._load.each)
        order = [self._peers[number % len(self._peers)] for number in range(count)]
        frames = {peer: self._frames(peer, -(-count // len(self._peers))) for peer in self._peers}
        due: dict[Peer, list[float]] = {peer: [] for peer in self._peers}
        taken: list[float] = []
        sent = 0
        with pinned(CLIENT_CORE):
            began = time.perf_counter()
            while len(taken) < count:
                moment = began + sent * seconds / count
                wait_s = max(0.0, moment - time.perf_counter()) if sent < count else 10.0
                if wait_s < 0.0002 and sent < count:
                    due[order[sent]].append(moment)
                    order[sent].send(next(frames[order[sent]]))
                    sent += 1
                    wait_s = 0.0
                for peer in self._poll.ready(wait_s):
                    acks = sum(_ACK in payload[:100] for payload in peer.payloads())
                    now = time.perf_counter()
                    taken += [(now - due[peer].pop(0)) * 1000 for _ in range(acks)]
        return taken

    def close(self) -> None:
        self._poll.close()
        for peer in self._peers:
            peer.close()

    def _frames(self, peer: Peer, count: int) -> Iterator[bytes]:
        client_id = f"c{self._peers.index(peer) + 1}"
        first = self._sent[peer]
        self._sent[peer] += count * self._load.each
        return iter(create_frames(client_id, peer.cursor, count, each=self._load.each, first=first))


def raw_rate(directory: Path, load: Load, seconds: float) -> float:
    taken = _raw_commits(directory, load, seconds)
    return load.raw_batch * len(taken) / sum(taken)


def raw_commit_ms(directory: Path, load: Load, seconds: float) -> list[float]:
    return [second * 1000 for second in _raw_commits(directory, load, seconds)]


def _raw_commits(directory: Path, load: Load, seconds: float) -> list[float]:
    connection = open_database(directory)
    with pinned(SERVER_CORE):
        taken = commit_seconds(connection, batch=load.raw_batch, per_sync=load.each, seconds=seconds)
    connection.close()
    return taken


def _single_rate(directory: Path, load: Load, seconds: float) -> float:
    with sync_server(directory / "server-single") as served:
        clients = Clients(served.port, load)
        rate = clients.rate(seconds)
        clients.close()
    return rate


def _applied(payload: bytes, expected: int) -> int:
    applied = payload.count(_APPLIED)
    if applied != expected:
        raise ConnectionError(payload[:2_000].decode())
    return applied


if __name__ == "__main__":
    command(TITLE, measure)
