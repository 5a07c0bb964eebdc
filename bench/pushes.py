"""Changes pushed to many subscribers of one space, beside a bare `websockets` server that relays the same bytes.

Subscribers are clients of one user. One thread reads all of their sockets and counts the changes in the bytes; some of
the subscribers, spread over all, are read frame by frame for their latencies. Server and client share one clock.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from bench.figures import Extent, Figure, command, percentile
from bench.machine import CLIENT_CORE, cpu_s, pinned
from bench.notes import create_frames
from bench.peers import RECEIVE_BYTES, TIMEOUT_S, Peer, Poll, masked, open_bare, open_clients
from bench.servers import Served, bare_server, sync_server

TITLE = "Pushes"
MARK = b'"modified_at"'
"""Once in each pushed change, and in nothing else that a subscriber gets."""
WATCHED = 40
"""Subscribers that are read frame by frame."""
MOST_FRAMES_PER_S = 300
"""For how many frames of a writer that goes as fast as it can."""
DRAIN_S = 10
"""How long what is on its way may still take when the writer has stopped."""
_CHANGE = re.compile(rb'"seq":(\d+).*?"title":"Note number (\d+)"')


class Pace(NamedTuple):
    """So many changes a second, one a frame, to so many subscribers."""

    changes_per_s: int
    subscribers: int
    target: str


PACES = (Pace(20, 200, "p50 <= 2 ms"), Pace(100, 1_000, ""))


class Load(NamedTuple):
    """A writer with so many changes in each frame, and so in each commit, for subscribers of one kind."""

    each: int
    batches: bool
    target: str

    @property
    def name(self) -> str:
        kind = "batch_updates" if self.batches else "frames of one change"
        return f"{kind}, {self.each} a commit"


LOADS = (
    Load(1, batches=False, target=">= 100 k"),
    Load(20, batches=False, target=">= 100 k"),
    Load(100, batches=True, target=">= 500 k, aim 1 M"),
)


def measure(extent: Extent, directory: Path) -> Iterator[Figure]:
    seconds = extent.choose(2, 10)
    for pace in PACES:
        yield from _paced(pace, seconds, directory / f"paced-{pace.subscribers}")
    subscribers, seconds = extent.choose(200, 1_000), extent.choose(2, 6)
    for index, load in enumerate(LOADS):
        yield _fastest(load, subscribers, seconds, directory / f"fastest-{index}")


# --- at a given rate -----------------------------------------------------------------------------------------------


def _paced(pace: Pace, seconds: int, directory: Path) -> Iterator[Figure]:
    name = f"{pace.changes_per_s} changes/s to {pace.subscribers} subscribers: "
    log = directory.with_suffix(".log")
    with sync_server(directory, log=log) as served:
        writer, subscribers = _audience(served, pace.subscribers, batches=False)
        frames = create_frames("writer", writer.cursor, pace.changes_per_s * seconds, each=1)
        crowd = Crowd(subscribers, watched=WATCHED)
        sent_at, busy = crowd.follow(served, writer, frames, seconds)
    with bare_server() as bare:
        relayer, *others = open_bare(bare.port, pace.subscribers + 1)
        raw = Crowd(others, watched=WATCHED)
        relayed = [_numbered(crowd.first_payload, number) for number in range(len(frames))]
        raw_sent_at, raw_busy = raw.follow(bare, relayer, relayed, seconds)
    yield Figure(name + "delivered", crowd.counted, "changes", len(frames) * pace.subscribers, "all")
    since_commit = crowd.since_commit_ms(_commit_moments(log))
    through, raw_through = crowd.since_sent_ms(sent_at), raw.since_sent_ms(raw_sent_at)
    for percent in (50, 99):
        target = pace.target if percent == 50 else ""
        yield Figure(f"  commit to socket p{percent}", percentile(since_commit, percent), "ms", None, target)
        label = f"  write to socket p{percent} (raw: no database)"
        yield Figure(label, percentile(through, percent), "ms", percentile(raw_through, percent))
    yield Figure("  processor of the server", 100 * busy / seconds, "% of a core", 100 * raw_busy / seconds)


class Crowd:
    """Subscribers of one space, read together.

    Attributes:
        counted: changes that arrived, of all subscribers.
    """

    def __init__(self, subscribers: Sequence[Peer], *, watched: int = 0) -> None:
        self.counted = 0
        self.subscribers = subscribers
        step = max(1, len(subscribers) // watched) if watched else len(subscribers) + 1
        self._watched = set(subscribers[step - 1 :: step])
        self._tails = dict.fromkeys(subscribers, b"")
        self._arrived: list[tuple[bytes, float]] = []

    @property
    def first_payload(self) -> bytes:
        """What a watched subscriber got first."""
        return self._arrived[0][0]

    def read(self, peer: Peer) -> None:
        """Count what one subscriber has got."""
        if peer in self._watched:
            now = time.time()
            for payload in peer.payloads():
                self.counted += payload.count(MARK)
                self._arrived.append((payload, now))
            return
        data = self._tails[peer] + peer.socket.recv(RECEIVE_BYTES)
        self.counted += data.count(MARK)
        self._tails[peer] = data[1 - len(MARK) :]

    def follow(
        self, served: Served, writer: Peer, frames: Sequence[bytes], seconds: int
    ) -> tuple[dict[int, float], float]:
        """Let the writer send the frames at an even pace and read until everybody has everything.

        Returns:
            When each frame was sent, and the processor time that the server took, in s.
        """
        expected = len(frames) * len(self.subscribers)
        sent_at: dict[int, float] = {}
        poll = Poll([writer, *self.subscribers])
        with pinned(CLIENT_CORE):
            before = cpu_s(served.pid)
            began = time.time()
            while self.counted < expected and time.time() - began < seconds + TIMEOUT_S:
                due = began + len(sent_at) * seconds / len(frames) - time.time()
                if len(sent_at) < len(frames) and due < 0.0005:
                    sent_at[len(sent_at)] = time.time()
                    writer.send(frames[len(sent_at) - 1])
                    continue
                for peer in poll.ready(min(0.5, max(0.0, due)) if len(sent_at) < len(frames) else 0.5):
                    if peer is writer:
                        peer.payloads()
                    else:
                        self.read(peer)
            busy = cpu_s(served.pid) - before
        poll.close()
        return sent_at, busy

    def since_commit_ms(self, committed_at: dict[int, float]) -> list[float]:
        """Arrival minus the moment at which the server had the change on its disk."""
        return [(now - committed_at[seq]) * 1000 for seq, _, now in self._seen()]

    def since_sent_ms(self, sent_at: dict[int, float]) -> list[float]:
        """Arrival minus the moment at which the writer sent the change."""
        return [(now - sent_at[number]) * 1000 for _, number, now in self._seen()]

    def _seen(self) -> Iterator[tuple[int, int, float]]:
        """Of each change that a watched subscriber got: its seq, its note's number, when it arrived."""
        for payload, now in self._arrived:
            found = _CHANGE.search(payload)
            assert found is not None  # what subscribers get are changes of notes
            yield int(found[1]), int(found[2]), now


def _commit_moments(log: Path) -> dict[int, float]:
    """When the server was done with each commit, by its newest change, as its log tells it."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"round_committed"' in line]
    return {line["head_seq"]: datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines}


def _numbered(payload: bytes, number: int) -> bytes:
    return masked(re.sub(rb"Note number \d+", b"Note number %d" % number, payload))


def _audience(served: Served, count: int, *, batches: bool) -> tuple[Peer, list[Peer]]:
    """A writer and so many other clients of one user."""
    writer = open_clients(served.port, [("1", "writer")])[0]
    return writer, open_clients(served.port, [("1", f"c{n}") for n in range(count)], batches=batches)


# --- as fast as it goes --------------------------------------------------------------------------------------------


def _fastest(load: Load, count: int, seconds: int, directory: Path) -> Figure:
    """The rate at which a writer must wait for its subscribers: what is on its way is bounded, so the rate holds."""
    with sync_server(directory) as served:
        writer, subscribers = _audience(served, count, batches=load.batches)
        frames = create_frames("writer", writer.cursor, seconds * MOST_FRAMES_PER_S, each=load.each)
        rate, payload = _closed_rate(writer, subscribers, frames, load.each, seconds)
    relayed = masked(payload) * (1 if load.batches else load.each)
    with bare_server() as bare:
        relayer, *others = open_bare(bare.port, count + 1)
        raw, _ = _closed_rate(relayer, others, [relayed] * len(frames), load.each, seconds)
    return Figure(f"fastest to {count:,}: {load.name}", rate, "deliveries/s", raw, load.target)


def _closed_rate(
    writer: Peer, subscribers: Sequence[Peer], frames: Sequence[bytes], each: int, seconds: int
) -> tuple[float, bytes]:
    """Deliveries a second when at most three frames of the writer are on their way; and the first pushed payload."""
    crowd = Crowd(subscribers, watched=1)
    poll = Poll([writer, *subscribers])
    with pinned(CLIENT_CORE):
        began = time.perf_counter()
        sent = 0
        until = began + seconds
        while time.perf_counter() < until + DRAIN_S:
            done = crowd.counted // (each * len(subscribers))
            while sent < len(frames) and sent - done < 3 and time.perf_counter() < until:
                writer.send(frames[sent])
                sent += 1
            if crowd.counted >= sent * each * len(subscribers):
                break
            for peer in poll.ready(0.05):
                if peer is writer:
                    peer.payloads()
                else:
                    crowd.read(peer)
        rate = crowd.counted / (time.perf_counter() - began)
    poll.close()
    if crowd.counted != sent * each * len(subscribers):
        raise ConnectionError(f"{sent * each * len(subscribers) - crowd.counted} changes did not arrive")
    return rate, crowd.first_payload


if __name__ == "__main__":
    command(TITLE, measure)
