"""Durable operations a second through the WebSocket, beside sqlite3 writing and syncing the same rows.

Every client waits for its ack before it sends again, so that an operation counts only once it is durable. Each client
is a user of its own: nobody is pushed anything. Server and raw work take turns, and the medians are compared. Where
other work shares the machine, the processor time of an operation says more than operations a second.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.figures import Extent, Figure, command, median, percentile
from bench.machine import CLIENT_CORE, SERVER_CORE, cpu_s, pinned
from bench.notes import create_frames
from bench.peers import Peer, Poll, open_clients
from bench.raw_sqlite import Commit, commits, open_database
from bench.servers import Served, sync_server

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


class Run(NamedTuple):
    """What was done in a while, and what it took of the processor."""

    operations: int
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.operations / self.wall_s

    @property
    def cpu_us(self) -> float:
        return self.cpu_s / self.operations * 1e6


def measure(extent: Extent, directory: Path) -> Iterator[Figure]:
    seconds = extent.choose(1, 4)
    for index, load in enumerate(LOADS):
        with sync_server(directory / f"server-{index}") as served:
            clients = Clients(served, load)
            runs, raw_runs = [], []
            for turn in range(extent.choose(1, ROUNDS)):
                runs.append(clients.run(seconds))
                raw_runs.append(_raw_run(directory / f"raw-{index}-{turn}", load, seconds))
            rate = median([run.rate for run in runs])
            yield Figure(load.name, rate, "operations/s", median([run.rate for run in raw_runs]), load.target)
            cpu, raw_cpu = (median([run.cpu_us for run in found]) for found in (runs, raw_runs))
            yield Figure("  processor of an operation", cpu, "us", raw_cpu)
            latencies = clients.ack_ms(rate / 2, seconds)
            raw = [1000 * commit.wall_s for commit in _raw_commits(directory / f"half-{index}", load, seconds)]
            for percent in (50, 99):
                name = f"  ack p{percent} at half of that (raw: one commit)"
                yield Figure(name, percentile(latencies, percent), "ms", percentile(raw, percent))
            clients.close()
    yield _alone(directory, seconds)


def _alone(directory: Path, seconds: int) -> Figure:
    load = Load(1, 1, "")
    with sync_server(directory / "server-alone") as served:
        clients = Clients(served, load)
        run = clients.run(seconds)
        clients.close()
    return Figure(load.name, run.rate, "operations/s", _raw_run(directory / "raw-alone", load, seconds).rate)


class Clients:
    """Connections of as many users, with frames made before the clock runs."""

    def __init__(self, served: Served, load: Load) -> None:
        self._served = served
        self._load = load
        self._peers = open_clients(served.port, [(str(n), f"c{n}") for n in range(1, load.connections + 1)])
        self._poll = Poll(self._peers)
        self._sent = dict.fromkeys(self._peers, 0)

    def run(self, seconds: float) -> Run:
        """Write for a while, each connection always waiting for the ack of one frame."""
        most = round(MOST_OPERATIONS_PER_S * seconds / self._load.connections / self._load.each)
        frames = {peer: self._frames(peer, most) for peer in self._peers}
        with pinned(CLIENT_CORE):
            began, cpu_began = time.perf_counter(), cpu_s(self._served.pid)
            acknowledged = 0
            waiting = len(self._peers)
            for peer in self._peers:
                peer.send(next(frames[peer]))
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
            return Run(acknowledged, time.perf_counter() - began, cpu_s(self._served.pid) - cpu_began)

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


def _raw_run(directory: Path, load: Load, seconds: float) -> Run:
    made = _raw_commits(directory, load, seconds)
    wall_s, cpu_s = (sum(column) for column in zip(*made, strict=True))
    return Run(load.raw_batch * len(made), wall_s, cpu_s)


def _raw_commits(directory: Path, load: Load, seconds: float) -> list[Commit]:
    connection = open_database(directory)
    with pinned(SERVER_CORE):
        made = list(
            commits(connection, batch=load.raw_batch, per_sync=load.each, seconds=seconds, users=load.connections)
        )
    connection.close()
    return made


def _applied(payload: bytes, expected: int) -> int:
    applied = payload.count(_APPLIED)
    if applied != expected:
        raise ConnectionError(payload[:2_000].decode())
    return applied


if __name__ == "__main__":
    command(TITLE, measure)
