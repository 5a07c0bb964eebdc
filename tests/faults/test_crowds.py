"""Thousands at once: who say nothing, who are cut off together, who break off (rows 1, 16 and 22)."""

import asyncio
import random
import socket
import struct
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path

from bench.peers import Peer, handshake, masked, open_clients
from bench.peers import token_for as crowd_token
from tests.faults.crowds import await_mark, notes, serving_a_team
from tests.faults.peers import RawPeer
from tests.faults.processes import (
    ALTERED,
    MANY,
    cpu_s,
    descriptors,
    metric,
    resident_bytes,
    round_trips_ms,
    sizes,
    spread,
    until_async,
)  # fmt: skip
from tests.harness import ServerProcess, open_client, server_process, token_for

MIB = 1 << 20
UPGRADE = (
    b"GET /api/sync/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


POOLED = 24
"""Files of database connections that readers may open for the first time: three for each."""


class TestACrowdThatSaysNothing:
    @sizes(60, 5_000)
    async def test_is_closed_at_the_deadlines_and_hinders_nobody(
        self, tmp_path: Path, count: int, tell: Callable[[str], None]
    ) -> None:
        """A third connects, a third sends a byte now and then, a third upgrades; then silence. CI waits less."""
        deadline_s = 10.0 if count > 1_000 else 2.0
        program = (ALTERED, f"set sync_server.server.HEADER_DEADLINE_S={deadline_s}")
        settings = {**MANY, "SYNC_AUTH_DEADLINE_S": str(deadline_s)}
        with server_process(tmp_path, program=program, **settings) as process:
            before = descriptors(process.pid)
            began = time.monotonic()
            silent = [await asyncio.create_task(_silent(process, number)) for number in range(count)]
            async with open_client(process.ws_url, "newcomer") as newcomer:
                await newcomer.greet(token=token_for("1"))
                took_ms = await round_trips_ms(newcomer, 200)
                await asyncio.gather(*(_closed(peer, slow=number % 3 == 1) for number, peer in enumerate(silent)))
                gone_s = time.monotonic() - began
                await until_async(lambda: _has(process, before + 10), within_s=8)
        for peer in silent:
            peer.writer.close()
        tell(
            f"{count} silent peers gone after {gone_s:.1f} s (deadline {deadline_s:.0f} s); newcomer {spread(took_ms)}"
        )


async def _silent(process: ServerProcess, number: int) -> RawPeer:
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    peer = RawPeer(reader, writer)
    if number % 3 == 2:
        assert await peer.upgrade() == 101
    return peer


async def _closed(peer: RawPeer, *, slow: bool) -> None:
    """Return once the server has ended the connection; slow ones send a byte a second meanwhile."""
    ended = asyncio.create_task(_ended(peer))
    for byte in cycle(b"GET /api/sync/ws HTTP/1.1\r\nX-Slow: y"):
        if (await asyncio.wait({ended}, timeout=1.0 if slow else 30.0))[0]:
            break
        peer.writer.write(bytes([byte]))
    await ended


async def _ended(peer: RawPeer) -> None:
    try:
        while await peer.reader.read(65_536):
            pass
    except ConnectionError:
        return


class TestACrowdThatIsCutOff:
    @sizes(100, 5_000)
    async def test_by_a_kill_is_live_again_in_seconds(
        self, tmp_path: Path, count: int, tell: Callable[[str], None]
    ) -> None:
        async with serving_a_team(tmp_path, 10) as process:
            crowd, cursors = _open(process, count)
            process.kill()
            _close(crowd)
            process.start()
            tell(await _returned(process, cursors, "after kill -9"))

    @sizes(100, 5_000)
    async def test_by_a_drain_is_told_when_to_come_back_and_is_live_again(
        self, tmp_path: Path, count: int, tell: Callable[[str], None]
    ) -> None:
        async with serving_a_team(tmp_path, 10) as process:
            crowd, cursors = _open(process, count)
            stopping = asyncio.create_task(asyncio.to_thread(process.terminate))
            await asyncio.to_thread(await_mark, crowd, b'"goodbye"')
            _close(crowd)
            assert await stopping == 0
            process.start()
            tell(await _returned(process, cursors, "after a drain"))

    @sizes(100, 5_000)
    async def test_by_its_own_network_is_forgotten_and_live_again(
        self, tmp_path: Path, count: int, tell: Callable[[str], None]
    ) -> None:
        async with serving_a_team(tmp_path, 10) as process:
            crowd, cursors = _open(process, count)
            for peer in crowd:
                _reset(peer.socket)
            took_s = await until_async(lambda: _is_empty(process), within_s=30)
            tell(f"{count} resets at once: forgotten after {took_s:.1f} s")
            tell(await _returned(process, cursors, "after resets"))


def _open(process: ServerProcess, count: int) -> tuple[list[Peer], dict[tuple[str, str], str]]:
    names = [(str(number % 10), f"client_{number}") for number in range(count)]
    crowd = open_clients(process.port, names, batches=True)
    return crowd, {name: peer.cursor for name, peer in zip(names, crowd, strict=True)}


def _close(crowd: Sequence[Peer]) -> None:
    for peer in crowd:
        peer.close()


async def _returned(process: ServerProcess, cursors: dict[tuple[str, str], str], when: str) -> str:
    """A change is made, all come back at once, each is told it once; says how long that took and what it cost."""
    (writer,) = open_clients(process.port, [("0", "writer")])
    writer.send(notes("writer", writer.cursor, 1, 1))
    writer.wait_for("sync_response")
    rounds, cpu = await metric(process, "sync_round_seconds_count"), cpu_s(process.pid)
    started = time.monotonic()
    peers = await asyncio.to_thread(_reopen, process, cursors)
    moments = await asyncio.to_thread(await_mark, peers, b'"caught_up"')
    took_s = max(moments) - started
    cpu = cpu_s(process.pid) - cpu
    writer.send(notes("writer", writer.cursor, 2, 1))
    await asyncio.to_thread(await_mark, peers, b"Note number 2")
    assert await metric(process, "sync_connections") == len(peers) + 1
    rounds = await metric(process, "sync_round_seconds_count") - rounds
    _close([*peers, writer])
    assert rounds < 20 + len(cursors) / 2
    assert "Traceback" not in "".join(process.output)
    return (
        f"{len(peers)} {when}: all live in {took_s:.1f} s, {cpu:.1f} s of the server's processor, {rounds:.0f} commits"
    )


def _reopen(process: ServerProcess, cursors: dict[tuple[str, str], str]) -> list[Peer]:
    """In waves, as a backlog holds no thousands; nobody waits for the answers of others."""
    tokens = {user: crowd_token(user) for user, _ in cursors}
    names, peers = iter(cursors.items()), []
    while wave := list(islice(names, 500)):
        fresh = [Peer(process.port) for _ in wave]
        for peer, ((user, client_id), cursor) in zip(fresh, wave, strict=True):
            peer.finish_upgrade()
            peer.send(handshake(tokens[user], client_id, batches=True, cursor=cursor))
        peers += fresh
    return peers


class TestConnectionsThatBreakOff:
    @sizes(2_000, 1_000_000)
    async def test_leave_memory_and_descriptors_as_they_were(
        self, tmp_path: Path, count: int, tell: Callable[[str], None]
    ) -> None:
        rng = random.Random(22)
        frames = _frames()
        with server_process(tmp_path, SYNC_LOG_LEVEL="warning", **MANY) as process:
            await asyncio.to_thread(_break_off, process, rng, frames, max(count // 20, 500))
            await until_async(lambda: _is_empty(process), within_s=30)
            memory, open_files = resident_bytes(process.pid), descriptors(process.pid)
            started = time.monotonic()
            await asyncio.to_thread(_break_off, process, rng, frames, count)
            took_s = time.monotonic() - started
            await until_async(lambda: _is_empty(process), within_s=30)
            await until_async(lambda: _has(process, open_files + POOLED), within_s=30)
            grown = resident_bytes(process.pid) - memory
            assert await metric(process, "sync_lagging_subscriptions") == 0
            assert "Traceback" not in "".join(process.output)
        tell(
            f"{count:,} breaks in {took_s:.0f} s: memory +{grown / MIB:.1f} MiB on {memory / MIB:.0f}, descriptors back"
        )
        assert grown < 16 * MIB


def _frames() -> list[bytes]:
    sync = b'{"type":"sync","data":{"client_id":"c","operations":[]}}'
    return [handshake(token_for("1"), "c", batches=True), masked(sync), masked(b'{"type":"subscribe"}')]


def _break_off(process: ServerProcess, rng: random.Random, frames: list[bytes], count: int) -> None:
    """Connections that go some way, to any byte of it, and are then reset; each tenth has become READY."""
    messages = b"".join(frames)
    for number in range(count):
        peer = socket.create_connection(("127.0.0.1", process.port), timeout=30)
        if number % 2 == 0:
            peer.sendall(UPGRADE[: rng.randrange(len(UPGRADE) + 1)])
        else:
            peer.sendall(UPGRADE)
            _read_until(peer, b"\r\n\r\n")
            peer.sendall(messages[: rng.randrange(len(messages) + 1)] if number % 10 != 1 else messages)
        if number % 10 == 1:
            _read_until(peer, b'"cursor"')
        _reset(peer)


def _read_until(peer: socket.socket, mark: bytes) -> None:
    received = b""
    while mark not in received:
        data = peer.recv(65_536)
        assert data, received
        received += data


def _reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


async def _is_empty(process: ServerProcess) -> bool:
    return await metric(process, "sync_connections") == 0


async def _has(process: ServerProcess, count: int) -> bool:
    return descriptors(process.pid) <= count
