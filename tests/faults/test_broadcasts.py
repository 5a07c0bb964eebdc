"""Much to deliver: one writer to thousands, and tens of thousands of spaces with one follower each (row 20)."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.peers import Peer, Poll, masked, open_clients
from sync_server.orders import Committed
from sync_server.records import Space
from sync_server.types import Role, SpaceId, UserId
from sync_server.users import save_member
from tests.faults.crowds import crowd_process, notes, serving_a_team
from tests.faults.processes import cpu_s, metric, prepare, spread
from tests.harness import RunningServer, ServerProcess

_MARK = b'"title":"Note number'
_NOTE = re.compile(rb'"title":"Note number (\d+)"')
RECEIVE_BYTES = 1 << 18
EACH = 20
"""Changes in one request of the writer."""
SPACES_OF_EACH = 10
MOST_UNANSWERED = 50


class Audience:
    """Peers that are read while a writer sends its frames at a pace.

    Attributes:
        counted: how many changes all of them have been told.
        took_ms: from when a change was due to its arrival, for the first and the last of the peers.
    """

    def __init__(self, writer: Peer, peers: Sequence[Peer]) -> None:
        self.counted = 0
        self.took_ms: list[float] = []
        self._writer = writer
        self._poll = Poll([*peers, writer])
        # the others are only counted in the bytes: this side must not be the limit
        self._tails = {id(peer): b"" for peer in peers[20:-20]}
        self._answered = 0
        self._due: dict[int, float] = {}

    def follow(self, frames: Sequence[bytes], *, each: int, per_s: float, expected: int) -> None:
        """Send the frames, `per_s` changes a second, and read until all that is expected has come.

        A change counts from the moment at which it was due, also where the writer has to wait for its answers.
        """
        began = time.monotonic()
        until = began + len(frames) * each / per_s + 60
        sent = 0
        while self.counted < expected and time.monotonic() < until:
            while sent < min(len(frames), self._answered + MOST_UNANSWERED):
                due = began + sent * each / per_s
                if time.monotonic() < due:
                    break
                self._writer.send(frames[sent])
                self._due |= dict.fromkeys(range(sent * each, (sent + 1) * each), due)
                sent += 1
            for peer in self._poll.ready(0.005):
                self._take(peer)
        self._poll.close()

    def _take(self, peer: Peer) -> None:
        if peer is self._writer:
            self._answered += len(peer.payloads())
        elif id(peer) in self._tails:
            data = self._tails[id(peer)] + peer.socket.recv(RECEIVE_BYTES)
            self.counted += data.count(_MARK)
            self._tails[id(peer)] = data[1 - len(_MARK) :]
        else:
            now = time.monotonic()
            numbers = _NOTE.findall(b"".join(peer.payloads()))
            self.counted += len(numbers)
            self.took_ms += [(now - self._due[int(number)]) * 1_000 for number in numbers]


class TestOneWriter:
    @pytest.mark.parametrize(
        ("count", "per_s", "seconds"), [(50, 200, 2), pytest.param(2_000, 1_000, 30, marks=pytest.mark.soak)]
    )
    async def test_reaches_all_while_the_loop_stays_quick(
        self, tmp_path: Path, count: int, per_s: int, seconds: int, tell: Callable[[str], None]
    ) -> None:
        settings = {"SYNC_LOG_LEVEL": "warning", "SYNC_HEARTBEAT_INTERVAL_S": "3600"}
        async with serving_a_team(tmp_path, 10, **settings) as process:
            names = [(str(number % 10), f"client_{number}") for number in range(count)]
            peers = open_clients(process.port, names, batches=True)
            (writer,) = open_clients(process.port, [("0", "writer")])
            frames = [notes("writer", writer.cursor, start, EACH) for start in range(0, per_s * seconds, EACH)]
            expected = count * per_s * seconds
            audience = Audience(writer, peers)
            follow = partial(audience.follow, frames, each=EACH, per_s=per_s, expected=expected)
            lags_ms, used = await _watching(process, asyncio.create_task(asyncio.to_thread(follow)))
            _close([*peers, writer])
        tell(f"{per_s} changes/s to {count} for {seconds} s: {audience.counted:,} of {expected:,} delivered")
        tell(f"write to socket {spread(audience.took_ms)}; loop's lag {spread(lags_ms)}; processor {used:.0%}")
        assert audience.counted == expected
        if count > 1_000:
            assert sorted(lags_ms)[len(lags_ms) // 2] < 50


class TestManySpaces:
    @pytest.mark.parametrize(
        ("users", "per_s", "changes"), [(20, 200, 200), pytest.param(5_000, 500, 50_000, marks=pytest.mark.soak)]
    )
    async def test_with_one_follower_each_are_served_alike(
        self, tmp_path: Path, users: int, per_s: int, changes: int, tell: Callable[[str], None]
    ) -> None:
        await prepare(tmp_path, partial(_make_spaces, users=users))
        settings = {"SYNC_LOG_LEVEL": "warning", "SYNC_HEARTBEAT_INTERVAL_S": "3600"}
        with crowd_process(tmp_path, **settings) as process:
            peers = open_clients(process.port, [(f"user{number}", "phone") for number in range(users)])
            (writer,) = open_clients(process.port, [("writer", "writer")])
            spaces = [f"s{number}" for number in range(users * SPACES_OF_EACH)]
            frames = [_note(writer.cursor, number, spaces[number * 7 % len(spaces)]) for number in range(changes)]
            audience = Audience(writer, peers)
            follow = partial(audience.follow, frames, each=1, per_s=per_s, expected=changes)
            lags_ms, used = await _watching(process, asyncio.create_task(asyncio.to_thread(follow)))
            _close([*peers, writer])
        tell(f"{len(spaces):,} spaces of one follower, {per_s} changes/s: {audience.counted:,} of {changes:,} told")
        tell(f"write to socket {spread(audience.took_ms)}; loop's lag {spread(lags_ms)}; processor {used:.0%}")
        assert audience.counted == changes


async def _watching(process: ServerProcess, work: asyncio.Task[None]) -> tuple[list[float], float]:
    """The loop's lag at each tick while the work goes on, in ms, and the share of a core that the server used."""
    lags_ms, cpu, began = [], cpu_s(process.pid), time.monotonic()
    while not (await asyncio.wait({work}, timeout=0.5))[0]:
        lags_ms.append(await metric(process, "sync_loop_lag_seconds") * 1_000)
    await work
    return lags_ms, (cpu_s(process.pid) - cpu) / (time.monotonic() - began)


async def _make_spaces(server: RunningServer, *, users: int) -> None:
    for start in range(0, users, 50):
        await server.services.committer.perform(partial(_spaces_of, range(start, min(users, start + 50))))


def _spaces_of(users: range, writer: Any, now: Any) -> tuple[None, Committed]:
    """A space for each of a user's places; the writer is an editor of all of them."""
    updates = []
    for user in users:
        for place in range(user * SPACES_OF_EACH, (user + 1) * SPACES_OF_EACH):
            space_id, owner = SpaceId(f"s{place}"), UserId(f"user{user}")
            writer.save_space(Space(space_id, space_id, owner, now))
            for member, role in ((owner, Role.OWNER), (UserId("writer"), Role.EDITOR)):
                updates.append(save_member(writer, space_id, member, role, by=owner, now=now))
    return None, Committed(tuple(updates))


def _note(cursor: str, number: int, space_id: str) -> bytes:
    operation = {
        "operation_id": f"op-{number}", "operation_type": "create", "entity_type": "note", "space_id": space_id,
        "data": {"title": f"Note number {number}"},
    }  # fmt: skip
    data = {"client_id": "writer", "operations": [operation], "client_state": {"cursor": cursor}}
    return masked(json.dumps({"type": "sync", "message_id": f"m{number}", "data": data}).encode())


def _close(peers: Sequence[Peer]) -> None:
    for peer in peers:
        peer.close()
