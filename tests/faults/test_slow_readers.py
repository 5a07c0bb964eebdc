"""Peers that read nothing, or little, while others write (rows 3 and 4)."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.peers import Peer, open_clients, take_payloads
from bench.peers import token_for as crowd_token
from tests.faults.crowds import TEAM, serving_a_team
from tests.faults.processes import metric, pause, resident_bytes, spread
from tests.harness import Client, Message, Replica, ServerProcess, create, open_client, update

MIB = 1 << 20
BIG = "y" * 100_000


def in_team(operation: Message) -> Message:
    return {**operation, "space_id": TEAM}


class TestReadersThatStall:
    @pytest.mark.parametrize(
        ("count", "patience_s", "told"), [(5, 1, 5), pytest.param(200, 20, 0, marks=pytest.mark.soak)]
    )
    async def test_cost_bounded_memory_and_are_closed_while_others_are_served(
        self, tmp_path: Path, count: int, patience_s: int, told: int, tell: Callable[[str], None]
    ) -> None:
        """With the default patience of 20 s, TCP_USER_TIMEOUT may be first."""
        async with (
            serving_a_team(
                tmp_path, 2, SYNC_SLOW_CONSUMER_S=str(patience_s), SYNC_HEARTBEAT_INTERVAL_S="3600"
            ) as process,
            open_client(process.ws_url, "writer") as writer,
            open_client(process.ws_url, "healthy") as healthy,
        ):
            await writer.greet(token=crowd_token("0"))
            await healthy.greet(token=crowd_token("1"))
            before_ms = [await _push_ms(writer, healthy, f"before_{number}") for number in range(50)]
            memory = resident_bytes(process.pid)
            stalled = open_clients(process.port, [("0", f"stalled_{number}") for number in range(count)])
            for peer in stalled:
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            peak, beside_ms = memory, []
            while await metric(process, "sync_connections") > 2:
                await _push_ms(writer, healthy, f"big_{len(beside_ms)}", content=BIG)
                beside_ms.append(await _push_ms(writer, healthy, f"small_{len(beside_ms)}"))
                peak = max(peak, resident_bytes(process.pid))
            closed = await metric(process, 'sync_closes_total{code="4100"')
            started = time.monotonic()
            assert await asyncio.to_thread(process.terminate) == 0
            stop_s = time.monotonic() - started
            for peer in stalled:
                peer.close()
        each_kib = (peak - memory) / count / 1_024
        tell(f"{count} stalled: {each_kib:.0f} KiB each at most, {closed:.0f} closed with 4100; stop in {stop_s:.1f} s")
        tell(f"push to a healthy reader before: {spread(before_ms)}; beside {count} stalled: {spread(beside_ms)}")
        assert closed >= told
        assert peak - memory < 48 * MIB + count * MIB


async def _push_ms(writer: Client, reader: Client, name: str, **data: str) -> float:
    """From the write to the push of it to another."""
    started = time.monotonic()
    seq = (await writer.do(in_team(create(name, title="x", **data))))["seq"]
    while not reader.replica.told or reader.replica.told[-1][0] < seq:
        message = await reader.next("server_update", "ping")
        if message["type"] == "ping":
            await reader.send(type="pong")
    return (time.monotonic() - started) * 1_000


SECONDS = 4


class TestAReaderThatIsSlow:
    async def test_and_then_fast_has_the_newest_state_without_a_gap_or_a_duplicate(
        self, tmp_path: Path, tell: Callable[[str], None]
    ) -> None:
        """It reads 1 KB a second, less than is written."""
        async with serving_a_team(tmp_path, 2) as process:
            (slow,) = open_clients(process.port, [("1", "slow")])
            replica, ended = Replica(), threading.Event()
            reading = asyncio.create_task(asyncio.to_thread(_read_slowly, slow, replica, ended))
            async with open_client(process.ws_url, "writer") as writer:
                await writer.greet(token=crowd_token("0"))
                written = await _write_for(process, writer, SECONDS, while_reading=reading)
                ended.set()
                await writer.send(type="ping")
            await reading
            async with open_client(process.ws_url, "fresh") as fresh:
                await fresh.greet(token=crowd_token("1"), subscriptions={"incremental": False})
                await fresh.next("caught_up")
            slow.close()
        seqs = [seq for seq, *_ in replica.told]
        tell(f"{SECONDS} s at 1 KB/s, then fast: {len(seqs)} of {written} changes told, with the newest of each note")
        assert replica.live == fresh.replica.live
        assert sorted(set(seqs)) == seqs
        assert len(seqs) < written


async def _write_for(process: ServerProcess, writer: Client, seconds: int, *, while_reading: asyncio.Task[None]) -> int:
    """Notes and updates of them for so long, and until the slow reader lags; returns how many changes that were."""
    until, written = time.monotonic() + seconds, 0
    while not while_reading.done() and (
        time.monotonic() < until or not await metric(process, "sync_lagging_subscriptions")
    ):
        name = f"n{written}"
        await writer.do(in_team(create(name, entity_id=name, title="x", content=BIG[:10_000])))
        for number in range(5):
            await writer.do(in_team(update(f"{name}_{number}", name, None, title=str(number))))
        written += 6
        await pause(0.02)
    await writer.do(in_team(create("last", title="last")))
    return written + 1


def _read_slowly(peer: Peer, replica: Replica, ended: threading.Event) -> None:
    """1 KB a second until told to hurry, then all of it up to the last note."""
    buffer = bytearray()
    while not any(data["title"] == "last" for _, data in replica.live.values()):
        is_slow = not ended.wait(0 if ended.is_set() else 1.0)
        data = peer.socket.recv(1_024 if is_slow else 1 << 20)
        assert data, "closed"
        buffer += data
        for payload in take_payloads(buffer):
            replica.take(json.loads(payload))
